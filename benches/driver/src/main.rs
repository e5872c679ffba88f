//! What a program does that reads and writes documents by MongoDB's own driver, for `make bench` to compare the router with.
//!
//! It takes orders by lines ([`mothership_driver::order`]) and decodes every field of every document into a struct.
//! What it promises is what the router promises: several documents are inserted in a transaction, which the majority has
//! on disk. Like the router on two cores it has one thread.
//!
//! Where it is told an address of PostgreSQL's protocol it reads the same documents through that, by a driver of
//! PostgreSQL: so that what both ways take is told by clients of one kind.

mod postgres;

use mongodb::bson::{Document, doc};
use mongodb::options::{Acknowledgment, WriteConcern};
use mongodb::{Client, ClientSession, Collection, Database};
use mothership_driver::event::{EVENTS, Event, Group, INSERTED, NEW};
use mothership_driver::order::{Ask, Done, Load, Order};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::error::Error;
use std::hint::black_box;
use std::io::BufRead;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// What an order may take longer than it was asked to.
const GRACE: Duration = Duration::from_secs(60);
/// Documents that are made at once.
const BATCH: u32 = 2_000;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [uri, database] = &arguments[..] else {
        eprintln!("usage: mothership-driver URI DATABASE");
        return ExitCode::from(2);
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let served = match runtime {
        Ok(runtime) => runtime.block_on(serve(uri, database)),
        Err(error) => Err(error.into()),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mothership-driver: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Carries out orders until there are no more.
async fn serve(uri: &str, database: &str) -> Outcome<()> {
    let mut program = match uri.starts_with("postgres") {
        true => Program::Postgres(Box::new(postgres::Clients::new(uri, database)?)),
        false => {
            let client = Client::with_uri_str(uri).await?;
            Program::Mongo(Mongo {
                database: client.database(database),
                client,
            })
        }
    };
    // Read by a thread, so that the driver's own tasks go on meanwhile.
    let (lines, mut orders) = mpsc::channel(1);
    std::thread::spawn(move || {
        let read = std::io::stdin().lock().lines().map_while(Result::ok);
        for line in read {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    while let Some(line) = orders.recv().await {
        let done = match line.parse() {
            Ok(order) => program.carry_out(order).await,
            Err(error) => Err(String::into(error)),
        };
        match done {
            Ok(done) => println!("{done}"),
            // A line, whatever it says.
            Err(error) => println!("failed: {}", error.to_string().replace('\n', " ")),
        }
    }
    Ok(())
}

/// By which driver it works.
enum Program {
    Mongo(Mongo),
    Postgres(Box<postgres::Clients>),
}

#[derive(Clone)]
struct Mongo {
    client: Client,
    database: Database,
}

impl Program {
    async fn carry_out(&mut self, order: Order) -> Outcome<Done> {
        match (order, self) {
            (Order::Fill(documents), Program::Mongo(mongo)) => mongo.fill(documents).await,
            (Order::Fill(_), Program::Postgres(_)) => Err("it only reads".into()),
            (Order::Load(load), program) => {
                let limit = load.duration + GRACE;
                let ended = match program {
                    Program::Mongo(mongo) => tokio::time::timeout(limit, mongo.load(load)).await,
                    Program::Postgres(clients) => {
                        tokio::time::timeout(limit, clients.load(load)).await
                    }
                };
                ended?
            }
        }
    }
}

impl Mongo {
    /// Makes the documents that are read, and an empty collection for those that are inserted.
    async fn fill(&self, documents: u32) -> Outcome<Done> {
        self.database.create_collection(NEW).await?;
        let events: Collection<Event> = self.database.collection(EVENTS);
        let mut made = 0;
        while made < documents {
            let to = documents.min(made + BATCH);
            let batch: Vec<Event> = (made + 1..=to).map(Event::new).collect();
            events.insert_many(&batch).await?;
            made = to;
        }
        Ok(Done::default())
    }

    /// All clients at once.
    async fn load(&self, load: Load) -> Outcome<Done> {
        let mut clients = JoinSet::new();
        for number in 0..load.clients {
            let program = self.clone();
            let random = random(load, number);
            clients.spawn(async move {
                match load.ask {
                    Ask::Insert => program.insert(load).await,
                    _ => program.read(load, random).await,
                }
            });
        }
        let mut all = Done::default();
        while let Some(done) = clients.join_next().await {
            let done = done??;
            all.units += done.units;
            all.elapsed.extend(done.elapsed);
        }
        Ok(all)
    }

    /// One client that reads, one statement after the other.
    async fn read(&self, load: Load, mut random: StdRng) -> Outcome<Done> {
        let events: Collection<Event> = self.database.collection(EVENTS);
        let count = load.ask.range(load.documents);
        let begun = Instant::now();
        let mut done = Done::default();
        while begun.elapsed() < load.duration {
            let from = random.random_range(1..=load.documents - count + 1);
            let statement = Instant::now();
            let read = match load.ask {
                Ask::Find => find(&events, from).await?,
                Ask::Scan => scan(&events, from, from + count).await?,
                Ask::Group => group(&events, from, from + count).await?,
                Ask::Insert => return Err("it reads nothing".into()),
            };
            done.elapsed.push(microseconds(statement));
            if read != u64::from(count) {
                return Err(format!("{read} documents of {count}").into());
            }
            done.units += match load.ask {
                Ask::Scan => read,
                _ => 1,
            };
        }
        Ok(done)
    }

    /// One client that inserts into an empty collection, many documents at a time.
    async fn insert(&self, load: Load) -> Outcome<Done> {
        let of: Collection<Event> = self.database.collection(NEW);
        let mut session = self.client.start_session().await?;
        // Made before, as are the values of who speaks SQL: only keys are new.
        let mut events: Vec<Event> = (1..=INSERTED).map(Event::new).collect();
        let begun = Instant::now();
        let mut done = Done::default();
        while begun.elapsed() < load.duration {
            let statement = Instant::now();
            store(&of, &events, &mut session).await?;
            done.elapsed.push(microseconds(statement));
            done.units += u64::from(INSERTED);
            for event in &mut events {
                event.id += i64::from(INSERTED);
            }
        }
        Ok(done)
    }
}

async fn find(events: &Collection<Event>, id: u32) -> Outcome<u64> {
    let id = i64::from(id);
    let found = events.find_one(doc! { "_id": id }).await?;
    Ok(u64::from(
        found.is_some_and(|event| black_box(event).id == id),
    ))
}

async fn scan(events: &Collection<Event>, from: u32, to: u32) -> Outcome<u64> {
    let mut cursor = events.find(between(from, to)).await?;
    let mut read = 0;
    while cursor.advance().await? {
        black_box(cursor.deserialize_current()?);
        read += 1;
    }
    Ok(read)
}

async fn group(events: &Collection<Event>, from: u32, to: u32) -> Outcome<u64> {
    let by_kind = doc! {
        "_id": "$kind",
        "count": { "$sum": 1 },
        "total": { "$sum": "$n" },
        "last": { "$max": "$happened_at" },
    };
    let pipeline = [
        doc! { "$match": between(from, to) },
        doc! { "$group": by_kind },
    ];
    let mut cursor = events.aggregate(pipeline).with_type::<Group>().await?;
    let mut read = 0;
    while cursor.advance().await? {
        let group = black_box(cursor.deserialize_current()?);
        read += u64::try_from(group.count)?;
    }
    Ok(read)
}

/// All of them or none, on most members' disks.
async fn store(
    of: &Collection<Event>,
    events: &[Event],
    session: &mut ClientSession,
) -> Outcome<()> {
    let durably = WriteConcern::builder()
        .w(Acknowledgment::Majority)
        .journal(true)
        .build();
    session.start_transaction().write_concern(durably).await?;
    of.insert_many(events).session(&mut *session).await?;
    Ok(session.commit_transaction().await?)
}

fn between(from: u32, to: u32) -> Document {
    doc! { "_id": { "$gte": i64::from(from), "$lt": i64::from(to) } }
}

/// What decides what one of the clients reads.
fn random(load: Load, client: u32) -> StdRng {
    StdRng::seed_from_u64(u64::from(load.seed) << 32 | u64::from(client))
}

fn microseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
