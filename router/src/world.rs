//! What is known of one database at one moment: the shards' catalog, the shard map,
//! and a planner that has looked at both.
//!
//! A [`World`] is immutable. A change of definitions makes a new one; statements
//! that are under way keep theirs. Without any declaration there is no world and
//! nothing to plan: every statement belongs to the home shard.

use crate::catalog::load::LoadError;
use crate::catalog::{Catalog, Drift, Name, Relation, RelationKind};
use crate::commit::schema::{self, SchemaError};
use crate::config::{Config, DefaultTable, KnownTable, MapMistake};
use crate::control::{Control, ControlError};
use crate::core::Topology;
use crate::plan::{Plan, PlanContext, Planner};
use mothership_shardmap::{Declared, KeyType, Placement, ShardMap};
use self_cell::self_cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a planner looks at.
pub struct Known {
    /// The home shard's catalog.
    pub catalog: Catalog,
    /// Which shard owns what.
    pub map: ShardMap,
}

self_cell! {
    struct Snapshot {
        owner: Known,
        #[covariant]
        dependent: Planner,
    }
}

/// One database as planning sees it.
pub struct World {
    /// Goes up with each world of the process; part of what a cached plan is keyed by.
    pub version: u64,
    /// Changes of definitions that had gone through this router when it was read.
    pub epoch: u64,
    /// When it was read.
    pub read: Instant,
    /// What differs between the shards.
    pub drift: Vec<Drift>,
    /// For each shard the names of its user types by their OIDs, which differ.
    types: Vec<HashMap<u32, Name>>,
    /// For each shard the PostgreSQL cluster that holds it (`system_identifier`).
    pub clusters: Vec<i64>,
    snapshot: Snapshot,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

impl World {
    /// A world of the shards' catalogs, in the order of the shards; the home shard's
    /// is what statements are planned by.
    ///
    /// # Errors
    /// When the declarations do not fit the catalog.
    pub fn new(
        config: &Config,
        home: usize,
        mut catalogs: Vec<Catalog>,
        clusters: Vec<i64>,
        epoch: u64,
    ) -> Result<Self, Vec<MapMistake>> {
        let version = NEXT.fetch_add(1, Ordering::Relaxed);
        let types = catalogs.iter().map(|catalog| {
            let named = catalog
                .types
                .iter()
                .map(|(name, info)| (info.oid, name.clone()));
            named.collect()
        });
        let types = types.collect();
        let known: Vec<KnownTable> = known_tables(&catalogs[home]);
        let built = config.shard_map(version, &known, &|_| None)?;
        let everywhere = |relation: &Relation| {
            let declared = built
                .map
                .declared(&relation.name.schema, &relation.name.name);
            !matches!(
                declared,
                Declared::Home | Declared::Placement(Placement::Home)
            )
        };
        let drift = crate::catalog::drift(&catalogs, everywhere);
        let catalog = catalogs.swap_remove(home);
        let known = Known {
            catalog,
            map: built.map,
        };
        Ok(Self {
            version,
            epoch,
            read: Instant::now(),
            drift,
            types,
            clusters,
            snapshot: Snapshot::new(known, |known| Planner::new(&known.catalog, &known.map)),
        })
    }

    /// The shard map.
    pub fn map(&self) -> &ShardMap {
        &self.snapshot.borrow_owner().map
    }

    /// The home shard's catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.snapshot.borrow_owner().catalog
    }

    /// True if OID `a` on one shard and `b` on another are the same type of users.
    pub fn same_type(&self, shard_a: usize, a: u32, shard_b: usize, b: u32) -> bool {
        let name = |shard: usize, oid: u32| self.types.get(shard).and_then(|types| types.get(&oid));
        name(shard_a, a).is_some_and(|known| name(shard_b, b) == Some(known))
    }

    /// Plans one statement.
    pub fn plan(&self, sql: &str, context: &PlanContext) -> Plan {
        self.snapshot.borrow_dependent().plan(sql, context)
    }
}

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
    /// The decision table of two-phase commit cannot be installed.
    #[error("decision table of shard {shard}")]
    Schema {
        /// Which.
        shard: String,
        /// Why.
        #[source]
        cause: SchemaError,
    },
    /// It took too long.
    #[error("reading the catalog of shard {shard} took longer than {limit:?}")]
    TimedOut {
        /// Which.
        shard: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The declarations do not fit the catalog.
    #[error("declared tables do not fit the catalog: {}", list(.0))]
    Map(Vec<MapMistake>),
}

fn list(mistakes: &[MapMistake]) -> String {
    let each: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    each.join("; ")
}

/// Reads what is known of a database from all of its shards.
///
/// # Errors
/// When a shard cannot be asked, or the declarations do not fit what it says.
pub async fn load(
    control: &Control,
    topology: &Topology,
    database: &str,
    epoch: u64,
) -> Result<World, WorldError> {
    let limit = topology.config.catalog.timeout;
    let mut catalogs = Vec::new();
    let mut clusters = Vec::new();
    for (index, shard) in topology.shards.iter().enumerate() {
        let name = || shard.name.clone();
        let one = tokio::time::timeout(limit, load_one(control, topology, index, database));
        let (catalog, cluster) = one.await.map_err(|_| WorldError::TimedOut {
            shard: name(),
            limit,
        })??;
        catalogs.push(catalog);
        clusters.push(cluster);
    }
    World::new(&topology.config, topology.home, catalogs, clusters, epoch).map_err(WorldError::Map)
}

async fn load_one(
    control: &Control,
    topology: &Topology,
    index: usize,
    database: &str,
) -> Result<(Catalog, i64), WorldError> {
    let shard = || topology.shards[index].name.clone();
    let database = topology.database_on(database, index);
    let client = control
        .lend(topology, index, &database)
        .await
        .map_err(|cause| WorldError::Control {
            shard: shard(),
            cause: Box::new(cause),
        })?;
    if topology.shards.len() > 1 && topology.config.transactions.two_phase {
        let wait = topology.config.control.timeout;
        let installed = schema::install(&client, &topology.config.transactions.schema, wait).await;
        installed.map_err(|cause| WorldError::Schema {
            shard: shard(),
            cause,
        })?;
    }
    let catalog = crate::catalog::load::load(&client)
        .await
        .map_err(|cause| WorldError::Load {
            shard: shard(),
            cause,
        })?;
    const CLUSTER: &str = "SELECT system_identifier FROM pg_catalog.pg_control_system()";
    let cluster = client
        .query_one(CLUSTER, &[])
        .await
        .and_then(|row| row.try_get(0));
    let cluster = cluster.map_err(|cause| WorldError::Cluster {
        shard: shard(),
        cause,
    })?;
    Ok((catalog, cluster))
}

/// True if the configuration declares any table, so that statements must be planned.
pub fn is_declared(config: &Config) -> bool {
    !config.tables.declared.is_empty() || config.tables.default == DefaultTable::Auto
}

fn known_tables(catalog: &Catalog) -> Vec<KnownTable> {
    catalog
        .relations
        .values()
        .filter(|relation| relation.kind == RelationKind::Table)
        .map(|relation| KnownTable {
            schema: relation.name.schema.clone(),
            name: relation.name.name.clone(),
            columns: relation
                .columns
                .iter()
                .map(|column| {
                    let oid = catalog.base_type(column.type_oid);
                    (column.name.clone(), KeyType::from_oid(oid))
                })
                .collect(),
        })
        .collect()
}
