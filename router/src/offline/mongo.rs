//! What the command line asks of MongoDB: `check-config --connect` where tables are documents, `mongo infer` and
//! `mongo ensure-indexes`.
//!
//! The first two change nothing. The last makes indexes, and removes none.

use super::{OfflineError, databases, runtime};
use crate::config::{Config, ConfigError, Engine, Place, Shard};
use crate::mongo::hello;
use crate::mongo::look::{Found, LookError, Seen};
use crate::topology::member;
use mothership_documents::drift::{self, Finding, Traits, Weight};
use mothership_documents::index::{Index, Kept, fields, keeper};
use mothership_documents::infer::{Subject, infer as propose};
use mothership_documents::{Collection, Unique};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How many documents are looked at where nobody says.
pub const SAMPLE: NonZeroU32 = NonZeroU32::new(1000).expect("it is not zero");
/// How long MongoDB may take to give them: without chance's help by an index it reads the whole collection.
const SAMPLING: Duration = Duration::from_secs(60);

/// For which collection a declaration is proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The shard that has it.
    pub shard: String,
    /// Its name.
    pub collection: String,
    /// The clients' name of its database; the only one without it.
    pub database: Option<String>,
    /// How many documents are looked at.
    pub sample: NonZeroU32,
}

/// Why MongoDB is not asked, or has no answer.
#[derive(Debug, thiserror::Error)]
pub enum MongoError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No runtime.
    #[error(transparent)]
    Offline(#[from] OfflineError),
    /// There is no such shard of MongoDB.
    #[error("the configuration has no shard \"{0}\" with engine = \"mongodb\"")]
    NoShard(String),
    /// It must be said which database is meant.
    #[error("several databases are declared ({0}): give --database NAME")]
    Which(String),
    /// There is no such collection.
    #[error("shard {shard} has no collection {collection:?} in database {database:?}")]
    NoCollection {
        /// Where.
        shard: String,
        /// The database's name there.
        database: String,
        /// Which.
        collection: String,
    },
    /// There is nothing to look at.
    #[error("collection {0:?} is empty: there is nothing to infer from")]
    Empty(String),
    /// MongoDB does not say.
    #[error("shard {shard}")]
    Look {
        /// Which.
        shard: String,
        /// Why.
        #[source]
        cause: LookError,
    },
    /// Some indexes are not made; which, was said.
    #[error("{0} of the above indexes could not be made")]
    NotMade(usize),
}

/// Proposes the declaration of a table, in TOML.
///
/// # Errors
/// [`MongoError`].
pub fn infer(config: &Path, wanted: &Wanted) -> Result<String, MongoError> {
    let config = Config::load(config)?;
    let mut shards = shards(&config);
    let shard = shards.find(|shard| shard.name.as_str() == wanted.shard);
    let shard = shard.ok_or_else(|| MongoError::NoShard(wanted.shard.clone()))?;
    let database = match (&wanted.database, databases(&config).as_slice()) {
        (Some(name), _) => name.clone(),
        (None, [only]) => only.clone(),
        (None, several) => return Err(MongoError::Which(several.join(", "))),
    };
    let database = config.database_on(&database, &shard.name);
    let looked = runtime()?.block_on(async {
        let seen = ask(&config, shard).await;
        let name = &wanted.collection;
        let limit = config.control.timeout;
        let Some(found) = seen.collection(&database, name, limit).await? else {
            return Ok(None);
        };
        let sample = seen
            .sample(&database, name, wanted.sample, SAMPLING)
            .await?;
        Ok(Some((found, sample)))
    });
    let looked = looked.map_err(|cause| MongoError::Look {
        shard: wanted.shard.clone(),
        cause,
    })?;
    let (found, sample) = looked.ok_or_else(|| MongoError::NoCollection {
        shard: wanted.shard.clone(),
        database,
        collection: wanted.collection.clone(),
    })?;
    if sample.is_empty() {
        return Err(MongoError::Empty(wanted.collection.clone()));
    }
    Ok(propose(&Subject {
        shard: &wanted.shard,
        collection: &wanted.collection,
        traits: &found.traits,
        indexes: &found.indexes,
        sample: &sample,
    }))
}

/// Makes the indexes that declared unique keys need and that are not there; with `is_dry` it only says which. `say` is
/// given each line as it is known.
///
/// # Errors
/// [`MongoError`]; with the last of them, all other indexes are made.
pub fn ensure_indexes(
    config: &Path,
    is_dry: bool,
    say: &mut dyn FnMut(&str),
) -> Result<(), MongoError> {
    let config = Config::load(config)?;
    let failed = runtime()?.block_on(async {
        let mut failed = 0;
        for database in databases(&config) {
            say(&format!("database {database}"));
            for shard in shards(&config) {
                let on = config.database_on(&database, &shard.name);
                let seen = ask(&config, shard).await;
                for table in tables(&config, shard) {
                    let place = (shard, on.as_str(), &**table);
                    failed += ensure(&config, &seen, place, is_dry, say).await;
                }
            }
        }
        failed
    });
    match failed {
        0 => Ok(()),
        failed => Err(MongoError::NotMade(failed)),
    }
}

/// The same of one table on one shard; returns how many are not made.
async fn ensure(
    config: &Config,
    seen: &Seen,
    (shard, database, table): (&Shard, &str, &Collection),
    is_dry: bool,
    say: &mut dyn FnMut(&str),
) -> usize {
    let about = format!(
        "shard {}: table {}.{}",
        shard.name, table.schema, table.table
    );
    let limit = config.control.timeout;
    let found = match seen.collection(database, &table.collection, limit).await {
        Ok(found) => found.unwrap_or_else(none_yet),
        Err(error) => {
            say(&format!("  error: {about}: {error}"));
            return table.unique.len();
        }
    };
    let mut failed = 0;
    for unique in &table.unique {
        let index = format!(
            "index {:?} ({})",
            unique.index,
            fields(table, unique).join(", ")
        );
        let done = match keeper(table, unique, &found.indexes) {
            Kept::By(_) => continue,
            Kept::Not(index, flaw) => Err(format!("{:?} is there: {}", index.name, flaw.told())),
            Kept::Taken(index) => Err(format!(
                "{:?} is there and is another one, on {}: drop it, or give the key another `index`",
                index.name,
                index.fields.join(", ")
            )),
            Kept::Missing if is_dry => Ok("would be made"),
            Kept::Missing => make(seen, database, table, unique).await,
        };
        match done {
            Ok(done) => say(&format!("  {about}: {index} {done}")),
            Err(why) => {
                say(&format!("  error: {about}: {index} is not made: {why}"));
                failed += 1;
            }
        }
    }
    failed
}

async fn make(
    seen: &Seen,
    database: &str,
    table: &Collection,
    unique: &Unique,
) -> Result<&'static str, String> {
    match seen.make(database, table, unique).await {
        Ok(()) => Ok("is made"),
        Err(error @ LookError::Duplicate(_)) => {
            Err(format!("{error}; change or remove all but one of them"))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Says what is to be said of the documents of one database; returns how much of it is a fault.
pub(super) async fn check(config: &Config, database: &str, say: &mut dyn FnMut(&str)) -> usize {
    let mut faults = 0;
    for shard in shards(config) {
        let seen = ask(config, shard).await;
        let mut tell = |about: &str, findings: Vec<Finding>| {
            for finding in findings {
                let word = finding.weight.word();
                say(&format!(
                    "  {word}: shard {}: {about}{}",
                    shard.name, finding.what
                ));
                faults += usize::from(finding.weight == Weight::Error);
            }
        };
        tell("", hello::findings(seen.asked()));
        if hello::choose(seen.asked()).readable().is_none() {
            continue; // It was said.
        }
        let on = config.database_on(database, &shard.name);
        for table in tables(config, shard) {
            let about = format!("table {}.{}: ", table.schema, table.table);
            let looked = of_table(config, &seen, &on, table).await;
            tell(
                &about,
                looked.unwrap_or_else(|e| vec![Finding::new(Weight::Error, e.to_string())]),
            );
        }
    }
    faults
}

async fn of_table(
    config: &Config,
    seen: &Seen,
    database: &str,
    table: &Collection,
) -> Result<Vec<Finding>, LookError> {
    let (name, limit) = (&table.collection, config.control.timeout);
    let Some(found) = seen.collection(database, name, limit).await? else {
        let what = format!("collection {name:?} does not exist yet");
        let mut findings = vec![Finding::new(Weight::Note, what)];
        findings.extend(drift::of_indexes(table, &none_yet().indexes));
        return Ok(findings);
    };
    let mut findings = drift::of_traits(table, &found.traits);
    if found.traits.special.is_none() {
        findings.extend(drift::of_indexes(table, &found.indexes));
    }
    let sample = seen.sample(database, name, SAMPLE, SAMPLING).await?;
    findings.extend(drift::of_documents(table, &sample));
    Ok(findings)
}

/// What a collection has as soon as it is there.
fn none_yet() -> Found {
    Found {
        traits: Traits::default(),
        indexes: vec![Index::of_id()],
    }
}

fn shards(config: &Config) -> impl Iterator<Item = &Shard> {
    let shards = config.shards.iter();
    shards.filter(|shard| shard.engine == Engine::Mongodb)
}

/// The tables that have documents on a shard.
fn tables<'c>(config: &'c Config, shard: &Shard) -> Vec<&'c Arc<Collection>> {
    let declared = config.tables.declared.iter();
    let tables = declared.filter_map(|table| match &table.place {
        Place::Documents {
            collection, shards, ..
        } if shards.contains(&shard.name) => Some(collection),
        _ => None,
    });
    tables.collect()
}

async fn ask(config: &Config, shard: &Shard) -> Seen {
    let servers = shard.servers.iter();
    let members = servers.filter_map(|server| {
        Some((
            server.address.value.to_string(),
            Arc::new(member(config, shard, server)?),
        ))
    });
    // The driver looks for a server as long as a connection may take.
    let limit = config.control.timeout.max(config.pool.connect_timeout) + Duration::from_secs(1);
    Seen::ask(members.collect(), limit).await
}
