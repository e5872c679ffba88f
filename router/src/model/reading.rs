//! Reads a model: asks all shards at once for their catalogs, and the home shard for lookup tables.
//!
//! A shard that cannot be asked is away in it. `away` says what may be done without it.

use super::load::{LoadError, load};
use super::own_schema::{OwnSchema, SchemaSeen};
use super::owned::{self, ShardRecord};
use super::{DatabaseModel, ModelError, ShardReport, documents};
use crate::commit::gid::Gid;
use crate::commit::schema;
use crate::config::Config;
use crate::control::{Control, Lent};
use crate::directory::{self, Directories};
use crate::topology::Topology;
use futures_util::future::join_all;
use mothership_catalog::queries::END;
use mothership_catalog::{Catalog, Fingerprint, unread};
use mothership_shardmap::ShardId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Attempts to read a catalog while clients lock what is just being read.
const ATTEMPTS: usize = 5;

/// Which shards are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// All.
    All,
    /// Not those that are known to be away: somebody waits, and others ask them.
    Known,
}

/// How a model is read.
pub struct How<'a> {
    /// Changes of definitions that had gone through this router before.
    pub epoch: u64,
    /// What becomes of the router's own schema.
    pub own_schema: OwnSchema,
    /// The home shard gets the tables that stand for documents.
    pub declares: bool,
    /// Which are asked.
    pub ask: Ask,
    /// What is known now.
    pub before: Option<&'a DatabaseModel>,
    /// Whether this process has known of a shard at any time. What was left behind there before the process began is
    /// recovery's to finish, which needs that shard.
    pub was_seen: &'a dyn Fn(ShardId) -> bool,
    /// Shards that can be asked for their catalogs and may not be believed, and why.
    pub unusable: &'a BTreeMap<ShardId, Arc<ModelError>>,
}

impl How<'_> {
    /// Why a shard is not asked at all.
    fn passes_over(&self, shard: ShardId) -> Option<Arc<ModelError>> {
        if let Some(why) = self.unusable.get(&shard) {
            return Some(Arc::clone(why));
        }
        let why = self.before?.why_away(shard)?;
        // That one can be asked.
        let undecided = matches!(**why, ModelError::Undecided { .. });
        (self.ask == Ask::Known && !undecided).then(|| Arc::clone(why))
    }
}

/// Reads what is known of a database from all of its shards, and changes nothing.
///
/// # Errors
/// When a shard cannot be asked, or the declarations do not fit what it says.
pub async fn look(
    control: &Control,
    topology: &Topology,
    database: &str,
) -> Result<DatabaseModel, Arc<ModelError>> {
    let how = How {
        epoch: 0,
        own_schema: OwnSchema::Unused,
        declares: false,
        ask: Ask::All,
        before: None,
        was_seen: &|_| true,
        unusable: &BTreeMap::new(),
    };
    let model = read(control, topology, database, &how).await?;
    let away = model.away().next().map(|(_, why)| Arc::clone(why));
    away.map_or(Ok(model), Err)
}

/// Reads what is known of a database from those of its shards that can be asked.
///
/// # Errors
/// When nothing can be planned by what they say.
pub async fn read(
    control: &Control,
    topology: &Topology,
    database: &str,
    how: &How<'_>,
) -> Result<DatabaseModel, Arc<ModelError>> {
    let ask = async |shard: ShardId| match how.passes_over(shard) {
        Some(why) => Err(why),
        None => {
            let asked = || {
                let changes = (how.own_schema == OwnSchema::Look, how.declares);
                let asked = see(control, topology, shard, database, changes);
                in_time(topology, shard, asked)
            };
            let seen = match asked().await {
                // It lay idle and was ended just then: another one may be had.
                Err(error) if error.lost_its_connection() => asked().await,
                seen => seen,
            };
            seen.map_err(Arc::new)
        }
    };
    let looked = SchemaSeen::begin(topology);
    let mut seen = join_all(topology.postgres_shards().map(ask)).await;
    let mut failures = seen.iter().filter_map(|seen| seen.as_ref().err());
    if let Some(wrong) = failures.find(|error| !error.is_absence()) {
        return Err(Arc::clone(wrong));
    }
    doubt_undecided(control, topology, database, how, &mut seen).await;
    let (home, config) = (topology.home, &topology.config);
    let nobody = seen.iter().all(Result::is_err);
    let at_home = match &seen[home.index()] {
        Ok(seen) => Ok(&seen.catalog),
        Err(why) => Err(Arc::clone(why)),
    };
    match (at_home, how.before) {
        (Ok(catalog), before) => {
            let read = directories(control, topology, database, catalog);
            let directories = in_time(topology, home, read).await?;
            if let (Ok(seen), Some(before)) = (&mut seen[home.index()], before) {
                unread::carry_over(&mut seen.catalog, before.catalog());
            }
            compare_with_home(&mut seen, home);
            let (config, epoch) = (Arc::clone(config), how.epoch);
            // Beside the loop of the core: a large catalog takes a while.
            let built = tokio::task::spawn_blocking(move || {
                let model = DatabaseModel::new(&config, home, seen, directories, epoch);
                model.inspect(DatabaseModel::look_ahead)
            });
            let built = built.await;
            let model = built.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
            let mut model = model.map_err(ModelError::Map)?;
            let recorded = |before: &DatabaseModel| {
                how.own_schema == OwnSchema::Seen && before.stores_by_slots()
            };
            if model.stores_by_slots() && !before.is_some_and(recorded) {
                let records = how.own_schema != OwnSchema::Unused;
                check_owned(control, topology, database, &model, records).await?;
            }
            model.schema_seen = match how.own_schema {
                OwnSchema::Unused => None,
                OwnSchema::Look => Some(looked),
                OwnSchema::Seen => before.and_then(|before| before.schema_seen.clone()),
            };
            if let Some(before) = before {
                model.remember(before);
            }
            Ok(model)
        }
        (Err(why), None) => Err(why),
        (Err(why), Some(_)) if nobody => Err(why),
        (Err(why), Some(before)) => {
            let model = before.without_home(config, home, &seen, how.epoch);
            model.map_err(|because| {
                Arc::new(ModelError::WithoutHome {
                    shard: topology.shards[home].name.clone(),
                    because,
                    cause: why,
                })
            })
        }
    }
}

/// What could not be read of other shards is as at home, as far as that is known.
fn compare_with_home(seen: &mut [Result<ShardReport, Arc<ModelError>>], home: ShardId) {
    let (before, rest) = seen.split_at_mut(home.index());
    let Some((Ok(at_home), behind)) = rest.split_first_mut() else {
        return;
    };
    for other in before.iter_mut().chain(behind).flatten() {
        unread::carry_from_home(&mut other.catalog, &at_home.catalog);
    }
}

/// Reads the catalog of one shard.
///
/// # Errors
/// When it cannot be asked.
pub async fn catalog_of(
    control: &Control,
    topology: &Topology,
    shard: ShardId,
    database: &str,
) -> Result<Catalog, ModelError> {
    let one = see(control, topology, shard, database, (false, false));
    Ok(in_time(topology, shard, one).await?.catalog)
}

/// A part of a transaction that was decided by a shard which this process has never known may have been committed, and
/// acknowledged, before the process began. The shard that holds it cannot be believed before that one is back.
async fn doubt_undecided(
    control: &Control,
    topology: &Topology,
    database: &str,
    how: &How<'_>,
    seen: &mut [Result<ShardReport, Arc<ModelError>>],
) {
    let name = |shard: ShardId| topology.shards[shard].name.as_str();
    let unknown: BTreeSet<&str> = topology
        .shards
        .ids()
        .zip(&*seen)
        .filter(|(shard, seen)| seen.is_err() && !(how.was_seen)(*shard))
        .map(|(shard, _)| name(shard))
        .collect();
    if unknown.is_empty() {
        return;
    }
    let all = topology.shards.ids().zip(seen);
    for (shard, seen) in all.filter(|(_, seen)| seen.is_ok()) {
        let asked = deciders(control, topology, shard, database);
        let why = match in_time(topology, shard, asked).await {
            Ok(deciders) => match deciders.iter().find(|one| unknown.contains(one.as_str())) {
                None => continue,
                Some(decider) => ModelError::Undecided {
                    shard: name(shard).to_owned(),
                    decider: decider.clone(),
                },
            },
            Err(why) => why,
        };
        *seen = Err(Arc::new(why));
    }
}

/// The shards that decide what is prepared on a shard.
async fn deciders(
    control: &Control,
    topology: &Topology,
    shard: ShardId,
    database: &str,
) -> Result<Vec<String>, ModelError> {
    const PREPARED: &str = "SELECT gid FROM pg_catalog.pg_prepared_xacts \
        WHERE pg_catalog.starts_with(gid, 'ms1:') \
        AND database OPERATOR(pg_catalog.=) pg_catalog.current_database()";
    let client = lend(control, topology, shard, database).await?;
    let rows = client.ask(client.query(PREPARED, &[])).await;
    let rows = rows.map_err(|cause| ModelError::Load {
        shard: topology.shards[shard].name.clone(),
        cause: LoadError::Server {
            what: "prepared transactions",
            cause,
        },
    })?;
    let gids = rows.iter().filter_map(|row| Gid::parse(row.get(0)));
    Ok(gids.map(|gid| gid.decider.as_str().to_owned()).collect())
}

async fn in_time<T>(
    topology: &Topology,
    shard: ShardId,
    asked: impl Future<Output = Result<T, ModelError>>,
) -> Result<T, ModelError> {
    let limit = topology.config.catalog.timeout;
    let answer = tokio::time::timeout(limit, asked).await;
    answer.map_err(|_| ModelError::TimedOut {
        shard: topology.shards[shard].name.clone(),
        limit,
    })?
}

async fn lend(
    control: &Control,
    topology: &Topology,
    shard: ShardId,
    database: &str,
) -> Result<Lent, ModelError> {
    let database = topology.database_on(database, shard);
    let lent = control.lend(topology, shard, &database).await;
    lent.map_err(|cause| ModelError::Control {
        shard: topology.shards[shard].name.clone(),
        cause: Box::new(cause),
    })
}

async fn install(
    control: &Control,
    topology: &Topology,
    shard: ShardId,
    database: &str,
) -> Result<(), ModelError> {
    let client = lend(control, topology, shard, database).await?;
    let wait = topology.config.control.timeout;
    let installing = schema::install(&client, &topology.config.transactions.schema, wait);
    let installed = client.ask(installing).await;
    installed.map_err(|cause| ModelError::Schema {
        shard: topology.shards[shard].name.clone(),
        cause,
    })?;
    Ok(())
}

/// The shards are those that they were when rows were stored there. With `records`, what is not recorded yet is.
async fn check_owned(
    control: &Control,
    topology: &Topology,
    database: &str,
    model: &DatabaseModel,
    records: bool,
) -> Result<(), ModelError> {
    let config = &topology.config;
    let check = async |shard: ShardId| {
        let client = lend(control, topology, shard, database).await?;
        let configured = ShardRecord::configured(topology.config_of(shard));
        let (schema, wait) = (&config.transactions.schema, config.control.timeout);
        let checked = owned::check(&client, schema, &configured, records, wait);
        client
            .ask(checked)
            .await
            .map_err(|cause| ModelError::Owned {
                shard: configured.name.clone(),
                database: topology.database_on(database, shard).to_string(),
                cause,
            })
    };
    let known = topology
        .postgres_shards()
        .filter(|shard| model.why_away(*shard).is_none());
    let checked = known.map(|shard| in_time(topology, shard, check(shard)));
    join_all(checked).await.into_iter().collect()
}

/// The lookup tables, which lie on the home shard.
async fn directories(
    control: &Control,
    topology: &Topology,
    database: &str,
    catalog: &Catalog,
) -> Result<Directories, ModelError> {
    let unread = Directories::unread(&topology.config);
    if unread.is_empty() {
        return Ok(unread);
    }
    let client = lend(control, topology, topology.home, database).await?;
    let loading = directory::load(&topology.config, catalog, &client);
    let loaded = client.ask(loading).await;
    loaded.map_err(ModelError::Directory)
}

/// What the router says of the home shard that it stands for itself.
fn declared_alone(config: &Config) -> ShardReport {
    let tables = config.collections();
    let declaration = format!("{tables:?}");
    ShardReport {
        catalog: documents::catalog(&tables),
        cluster: 1,
        fingerprint: Fingerprint::of(&[vec![vec![Some(declaration)]]]),
    }
}

/// What one shard says about itself.
async fn see(
    control: &Control,
    topology: &Topology,
    shard: ShardId,
    database: &str,
    (installs, declares): (bool, bool),
) -> Result<ShardReport, ModelError> {
    let name = || topology.shards[shard].name.clone();
    if !topology.config.has_postgres() {
        return Ok(declared_alone(&topology.config));
    }
    if installs {
        install(control, topology, shard, database).await?;
    }
    let tables = topology.config.collections();
    if declares && shard == topology.home && !tables.is_empty() {
        let client = lend(control, topology, shard, database).await?;
        let wait = topology.config.control.timeout;
        let declaring = documents::declare(&client, &tables, wait);
        let declared = client.ask(declaring).await;
        declared.map_err(|cause| ModelError::Documents {
            shard: name(),
            cause,
        })?;
    }
    let client = lend(control, topology, shard, database).await?;
    // Asked first: whoever is promoted afterwards may have replayed more by then.
    const CLUSTER: &str = "SELECT system_identifier, pg_catalog.pg_is_in_recovery() FROM pg_catalog.pg_control_system()";
    let (cluster, in_recovery): (i64, bool) = client
        .ask(client.query_one(CLUSTER, &[]))
        .await
        .and_then(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .map_err(|cause| ModelError::Cluster {
            shard: name(),
            cause,
        })?;
    if in_recovery {
        return Err(ModelError::InRecovery { shard: name() });
    }
    let most = topology.config.catalog.size.bytes();
    let mut attempt = 1;
    let loaded = loop {
        match client.ask(load(&client, most)).await {
            Err(error) if error.is_of_a_lock() && attempt < ATTEMPTS => {
                attempt += 1;
                let ended = client.ask(client.batch_execute(END)).await;
                ended.map_err(|cause| ModelError::Cluster {
                    shard: name(),
                    cause,
                })?;
            }
            loaded => break loaded,
        }
    };
    let (catalog, fingerprint) = loaded.map_err(|cause| ModelError::Load {
        shard: name(),
        cause,
    })?;
    let most = topology.config.catalog.relations.get();
    let relations = catalog.relations.len();
    if relations > most as usize {
        return Err(ModelError::TooMany {
            shard: name(),
            relations,
            most,
        });
    }
    Ok(ShardReport {
        catalog,
        cluster,
        fingerprint,
    })
}
