//! Reads a world: asks each shard for its catalog, and the home shard for lookup tables.

use super::World;
use crate::catalog::Catalog;
use crate::catalog::load::LoadError;
use crate::commit::schema::{self, SchemaError};
use crate::config::MapMistake;
use crate::control::{Control, ControlError};
use crate::core::Topology;
use crate::directory::{self, Directories, DirectoryError};
use std::time::Duration;

/// Why a database cannot be known.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// A shard cannot be asked.
    #[error("catalog of shard {shard}")]
    Control {
        /// Which.
        shard: String,
        /// Why.
        #[source]
        cause: Box<ControlError>,
    },
    /// A shard's catalog cannot be read.
    #[error("catalog of shard {shard}")]
    Load {
        /// Which.
        shard: String,
        /// Why.
        #[source]
        cause: LoadError,
    },
    /// A shard's cluster cannot be identified.
    #[error("cluster of shard {shard}")]
    Cluster {
        /// Which.
        shard: String,
        /// Why.
        #[source]
        cause: tokio_postgres::Error,
    },
    /// The server takes no writes.
    #[error(
        "the server of shard {shard} is in recovery, so its catalog may lack what clients were told of"
    )]
    InRecovery {
        /// Which.
        shard: String,
    },
    /// The decision table of two-phase commit cannot be installed.
    #[error("decision table of shard {shard}")]
    Schema {
        /// Which.
        shard: String,
        /// Why.
        #[source]
        cause: SchemaError,
    },
    /// It has more than may be known.
    #[error("shard {shard} has {relations} relations, and catalog.relations is {most}")]
    TooMany {
        /// Which.
        shard: String,
        /// How many it has.
        relations: usize,
        /// How many it may have.
        most: u32,
    },
    /// It took too long.
    #[error("reading the catalog of shard {shard} took longer than {limit:?}")]
    TimedOut {
        /// Which.
        shard: String,
        /// How long was waited.
        limit: Duration,
    },
    /// A lookup table cannot be read.
    #[error("directory of keys")]
    Directory(#[source] DirectoryError),
    /// The declarations do not fit the catalog.
    #[error("declared tables do not fit the catalog: {}", list(.0))]
    Map(Vec<MapMistake>),
}

pub(super) fn list(mistakes: &[MapMistake]) -> String {
    let each: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    each.join("; ")
}

/// Reads what is known of a database from all of its shards, and sees to it that they have their decision tables.
///
/// # Errors
/// When a shard cannot be asked, or the declarations do not fit what it says.
pub async fn load(
    control: &Control,
    topology: &Topology,
    database: &str,
    epoch: u64,
) -> Result<World, WorldError> {
    let transactions = &topology.config.transactions;
    if topology.shards.len() > 1 && transactions.two_phase {
        for index in 0..topology.shards.len() {
            let install = install(control, topology, index, database);
            in_time(topology, index, install).await?;
        }
    }
    look(control, topology, database, epoch).await
}

/// Reads what is known of a database from all of its shards, and changes nothing.
///
/// # Errors
/// When a shard cannot be asked, or the declarations do not fit what it says.
pub async fn look(
    control: &Control,
    topology: &Topology,
    database: &str,
    epoch: u64,
) -> Result<World, WorldError> {
    let mut catalogs = Vec::new();
    let mut clusters = Vec::new();
    for index in 0..topology.shards.len() {
        let one = load_one(control, topology, index, database);
        let (catalog, cluster) = in_time(topology, index, one).await?;
        catalogs.push(catalog);
        clusters.push(cluster);
    }
    let home = topology.home;
    let read = directories(control, topology, database, &catalogs[home]);
    let directories = in_time(topology, home, read).await?;
    let config = &topology.config;
    World::new(config, home, catalogs, clusters, directories, epoch).map_err(WorldError::Map)
}

/// Reads the catalog of one shard.
///
/// # Errors
/// When it cannot be asked.
pub async fn catalog_of(
    control: &Control,
    topology: &Topology,
    index: usize,
    database: &str,
) -> Result<Catalog, WorldError> {
    let one = load_one(control, topology, index, database);
    let (catalog, _) = in_time(topology, index, one).await?;
    Ok(catalog)
}

async fn in_time<T>(
    topology: &Topology,
    index: usize,
    asked: impl Future<Output = Result<T, WorldError>>,
) -> Result<T, WorldError> {
    let limit = topology.config.catalog.timeout;
    let answer = tokio::time::timeout(limit, asked).await;
    answer.map_err(|_| WorldError::TimedOut {
        shard: topology.shards[index].name.clone(),
        limit,
    })?
}

async fn lend(
    control: &Control,
    topology: &Topology,
    index: usize,
    database: &str,
) -> Result<deadpool_postgres::Object, WorldError> {
    let database = topology.database_on(database, index);
    let lent = control.lend(topology, index, &database).await;
    lent.map_err(|cause| WorldError::Control {
        shard: topology.shards[index].name.clone(),
        cause: Box::new(cause),
    })
}

async fn install(
    control: &Control,
    topology: &Topology,
    index: usize,
    database: &str,
) -> Result<(), WorldError> {
    let client = lend(control, topology, index, database).await?;
    let wait = topology.config.control.timeout;
    let installed = schema::install(&client, &topology.config.transactions.schema, wait).await;
    installed.map_err(|cause| WorldError::Schema {
        shard: topology.shards[index].name.clone(),
        cause,
    })?;
    Ok(())
}

/// The lookup tables, which lie on the home shard.
async fn directories(
    control: &Control,
    topology: &Topology,
    database: &str,
    catalog: &Catalog,
) -> Result<Directories, WorldError> {
    let unread = Directories::unread(&topology.config);
    if unread.is_empty() {
        return Ok(unread);
    }
    let client = lend(control, topology, topology.home, database).await?;
    let loaded = directory::load(&topology.config, catalog, &client).await;
    loaded.map_err(WorldError::Directory)
}

async fn load_one(
    control: &Control,
    topology: &Topology,
    index: usize,
    database: &str,
) -> Result<(Catalog, i64), WorldError> {
    let shard = || topology.shards[index].name.clone();
    let client = lend(control, topology, index, database).await?;
    // Asked first: whoever is promoted afterwards may have replayed more by then.
    const CLUSTER: &str = "SELECT system_identifier, pg_catalog.pg_is_in_recovery() FROM pg_catalog.pg_control_system()";
    let (cluster, in_recovery): (i64, bool) = client
        .query_one(CLUSTER, &[])
        .await
        .and_then(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .map_err(|cause| WorldError::Cluster {
            shard: shard(),
            cause,
        })?;
    if in_recovery {
        return Err(WorldError::InRecovery { shard: shard() });
    }
    let catalog = crate::catalog::load::load(&client)
        .await
        .map_err(|cause| WorldError::Load {
            shard: shard(),
            cause,
        })?;
    let most = topology.config.catalog.relations.get();
    let relations = catalog.relations.len();
    if relations > most as usize {
        return Err(WorldError::TooMany {
            shard: shard(),
            relations,
            most,
        });
    }
    Ok((catalog, cluster))
}
