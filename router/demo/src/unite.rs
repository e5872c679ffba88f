//! Makes a replica set of members that run, by MongoDB's driver, and asks it what the router is not to be asked.
//!
//! A set keeps the addresses of its members on disk. After a restart all have other ports, so none finds itself there,
//! and none can be elected. One of them is then given the new addresses by force and tells the others. Nothing is lost
//! by that: whoever is elected has what a majority has on disk.

use super::error::DemoError;
use super::events::COLLECTION;
use super::fleet::CLIENT;
use super::replica_set::{NAME, Past};
use super::stop::Stop;
use mongodb::Client;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::{Error, Result};
use mongodb::options::{ClientOptions, ServerAddress};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep, timeout};

/// The field by which a customer's events are found.
const INDEXED: &str = "customer_id";
/// How long the members may take to agree, on a busy machine with a slow disk.
const LIMIT: Duration = Duration::from_secs(60);
/// How long one may take to say what it is; one that takes longer is asked again.
const HELLO: Duration = Duration::from_secs(5);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(50);

/// Returns when the members at these addresses are a set with a primary that all others follow.
pub(super) fn unite(
    addresses: &[String],
    past: Past,
    stop: &Stop,
) -> std::result::Result<(), DemoError> {
    let united = runtime()?.block_on(async {
        let members: Result<Vec<Client>> = addresses.iter().map(|one| alone(one)).collect();
        let members = members?;
        let admin = members[0].database("admin");
        let command = match past {
            Past::None => doc! {"replSetInitiate": new(addresses)},
            Past::Set => {
                let mut told = admin.run_command(doc! {"replSetGetConfig": 1}).await?;
                let config = std::mem::take(told.get_document_mut("config")?);
                doc! {"replSetReconfig": moved(config, addresses)?, "force": true}
            }
        };
        admin.run_command(command).await?;
        let deadline = Instant::now() + LIMIT;
        while !is_whole(&members).await {
            if stop.is_asked() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::custom(format!("no primary within {LIMIT:?}")));
            }
            sleep(PAUSE).await;
        }
        if past == Past::None {
            let index = doc! {"key": {INDEXED: 1}, "name": INDEXED};
            let command = doc! {"createIndexes": COLLECTION, "indexes": [index],
            "writeConcern": {"w": "majority"}};
            let set = together(addresses)?;
            set.database(CLIENT).run_command(command).await?;
        }
        Ok(())
    });
    stop.check()?;
    united.map_err(|cause| failed("make a replica set of three mongods", cause))
}

/// How many events the primary has.
pub(super) fn count(addresses: &[String]) -> std::result::Result<u64, DemoError> {
    let counted = runtime()?.block_on(async {
        let set = together(addresses)?;
        let events = set.database(CLIENT).collection::<Document>(COLLECTION);
        events.count_documents(doc! {}).await
    });
    counted.map_err(|cause| failed("count the events", cause))
}

fn runtime() -> std::result::Result<Runtime, DemoError> {
    let built = Builder::new_current_thread().enable_all().build();
    built.map_err(|cause| DemoError::System {
        doing: "start a runtime",
        cause,
    })
}

fn failed(doing: &'static str, cause: Error) -> DemoError {
    DemoError::Documents {
        doing,
        cause: Box::new(cause),
    }
}

/// Connections to one member, whatever it is just now.
fn alone(address: &str) -> Result<Client> {
    let mut options = options(std::slice::from_ref(&address.to_owned()))?;
    options.direct_connection = Some(true);
    Client::with_options(options)
}

/// Connections to the set; what is written goes to its primary.
fn together(addresses: &[String]) -> Result<Client> {
    let mut options = options(addresses)?;
    options.repl_set_name = Some(NAME.to_owned());
    Client::with_options(options)
}

fn options(addresses: &[String]) -> Result<ClientOptions> {
    let hosts: Result<Vec<_>> = addresses.iter().map(ServerAddress::parse).collect();
    let mut options = ClientOptions::default();
    options.hosts = hosts?;
    options.server_selection_timeout = Some(HELLO);
    Ok(options)
}

/// Elections are quick: nobody here is far away.
fn new(addresses: &[String]) -> Document {
    let members = addresses.iter().zip(0..);
    let members = members.map(|(host, number): (_, i32)| doc! {"_id": number, "host": host});
    doc! {
        "_id": NAME,
        "members": members.collect::<Vec<Document>>(),
        "settings": {"electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 200, "heartbeatTimeoutSecs": 2},
    }
}

/// The same set at new addresses.
fn moved(mut config: Document, addresses: &[String]) -> Result<Document> {
    for (member, address) in config.get_array_mut("members")?.iter_mut().zip(addresses) {
        if let Bson::Document(member) = member {
            member.insert("host", address);
        }
    }
    let version = match config.get("version") {
        Some(Bson::Int32(version)) => i64::from(*version),
        Some(Bson::Int64(version)) => *version,
        _ => 0,
    };
    config.insert("version", version + 1);
    Ok(config)
}

async fn is_whole(members: &[Client]) -> bool {
    let (mut primaries, mut others) = (0, 0);
    for member in members {
        let admin = member.database("admin");
        let hello = timeout(HELLO, admin.run_command(doc! {"hello": 1})).await;
        let Ok(Ok(hello)) = hello else {
            return false;
        };
        let is = |name| hello.get_bool(name).unwrap_or(false);
        primaries += usize::from(is("isWritablePrimary"));
        others += usize::from(is("secondary"));
    }
    primaries == 1 && others + 1 == members.len()
}
