//! What the command line answers without serving anybody: `mothership explain` and
//! `check-config --connect`; of MongoDB, see [`mongo`].
//!
//! They read the configuration as the router does, and a catalog from a file or from
//! the shards; nothing is changed anywhere.

#[cfg(feature = "mongo")]
pub mod mongo;

use crate::commit::schema::{self, Missing};
use crate::config::{self, Config, ConfigError};
use crate::control::Control;
use crate::core::STAND_IN_ITERATIONS;
use crate::directory::Directories;
use crate::log::Chain;
use crate::model::{self, DatabaseModel, ModelError, ShardReport};
use crate::rules::facts::Facts;
use crate::rules::survey::{Scope, Survey, about};
use crate::rules::{RequestFacts, RuleSet};
use crate::topology::{Topology, TopologyError, shard_id};
use crate::verifiers;
use mothership_catalog::Fingerprint;
use mothership_catalog::text::{self, TextError};
use mothership_plan::report::{report, undeclared};
use mothership_plan::{Params, PlanContext, TextContext};
use mothership_pool::health::Prober;
use mothership_proto::auth::{SecretKind, StandIn};
use mothership_sql::split::split;
use std::fmt::Write;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Where the catalog comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file in the form of `catalog::text`.
    File(PathBuf),
    /// The shards of a database, by the clients' name.
    Database(String),
    /// Nowhere: enough without declared tables.
    None,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The configuration cannot be put in force.
    #[error("configuration")]
    Topology(#[from] TopologyError),
    /// A file cannot be read.
    #[error("read {path:?}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The catalog file is wrong.
    #[error("{path:?}")]
    Catalog {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: TextError,
    },
    /// The declared tables do not fit the catalog of a file.
    #[error("catalog file {path:?}")]
    Unfit {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: ModelError,
    },
    /// The catalog cannot be had.
    #[error("database \"{database}\"")]
    DatabaseModel {
        /// Which.
        database: String,
        /// Why.
        #[source]
        cause: Arc<ModelError>,
    },
    /// Declared tables mean nothing without a catalog.
    #[error("tables are declared: give --catalog FILE or --database NAME")]
    NoCatalog,
    /// The runtime cannot be made.
    #[error("start a runtime")]
    Runtime(#[source] io::Error),
    /// Something is wrong with the servers; it was printed.
    #[error("{0} of the problems above must be fixed before the router can serve as configured")]
    Faults(usize),
}

/// Who would send a statement, for the rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asker {
    /// The user.
    pub user: String,
    /// The application name.
    pub application: String,
    /// Where the client is; None: on the unix socket.
    pub address: Option<IpAddr>,
    /// When, in seconds since 1970; None: now.
    pub at: Option<i64>,
}

/// Says where each statement of `sql` would go, as EXPLAIN (ROUTE) does. `$user` means nothing here, and neither is
/// a session's time zone known: UTC and UTF8 are taken. With an `asker` it is said which rule would decide.
///
/// # Errors
/// When configuration or catalog cannot be had. A refused statement is no error.
pub fn explain(
    config: &Path,
    source: &Source,
    search_path: Option<Vec<String>>,
    asker: Option<&Asker>,
    sql: &str,
) -> Result<String, OfflineError> {
    let config = Config::load(config)?;
    let home = config
        .shards
        .iter()
        .position(|shard| shard.home)
        .unwrap_or(0);
    let declared = config.declares_tables();
    let rules = RuleSet::new(&config, None);
    let database = match source {
        Source::Database(database) => database,
        Source::File(_) | Source::None => "",
    };
    let mine = asker.map_or_else(Vec::new, |asker| {
        rules.of_origin(&config::Origin {
            user: &asker.user,
            database,
            application: &asker.application,
            address: asker.address,
        })
    });
    let looks = rules.looks_at_statements(&mine) && *source != Source::None;
    let pins = rules.pins(&mine) && *source != Source::None;
    let model = match source {
        _ if !declared && !looks && !pins => None,
        Source::None => return Err(OfflineError::NoCatalog),
        Source::File(path) => Some(from_file(config.clone(), home, path)?),
        Source::Database(database) => {
            let (topology, _watch) = topology(config.clone())?;
            let control = Control::default();
            let look = model::look(&control, &topology, database);
            let model = runtime()?.block_on(look);
            Some(model.map_err(|cause| OfflineError::DatabaseModel {
                database: database.clone(),
                cause,
            })?)
        }
    };
    let mut context = PlanContext::default();
    let is_path_known = search_path.is_some();
    if let Some(path) = search_path {
        context.search_path = path;
    }
    let scope = Scope {
        search_path: context.search_path.clone(),
        is_path_known,
        is_hidden: false,
        is_redefined: false,
    };
    let survey = model.as_ref().filter(|_| looks);
    let survey = survey.map(|model| (model, Survey::new(&rules, model.catalog())));
    let parts: Vec<&str> = split(sql.as_bytes(), true)
        .filter(|part| !part.empty)
        .map(|part| &sql[part.span.start..part.span.end])
        .collect();
    let mut out = String::new();
    let now = asker
        .and_then(|asker| asker.at)
        .unwrap_or_else(crate::rules::now);
    for part in &parts {
        if parts.len() > 1 {
            let _ = writeln!(out, "> {}", part.trim());
        }
        let facts = match rules.has_shapes() {
            true => Facts::with_shape(part.as_bytes(), true),
            false => Facts::of(part.as_bytes(), true),
        };
        let request = match &survey {
            None => RequestFacts::by_origin(&facts, &rules),
            Some((model, survey)) => survey.request(&rules, model.catalog(), &facts, &scope),
        };
        let outcome = rules.outcome(&mine, &request, now);
        let about = about(model.as_ref().map(DatabaseModel::catalog), &facts, &scope);
        let shards = config.shards.iter().map(|shard| shard.name.as_str());
        let pin = outcome.pin(&rules, about, shards);
        let lines = match model.as_ref().filter(|_| declared) {
            None => {
                let name = config.shards[home].name.as_str();
                undeclared((shard_id(home), name), pin.as_ref())
            }
            Some(model) => {
                let (plan, map) = (model.plan(part, &context), model.map());
                let text = &TextContext::UTC;
                report(part, &plan, &Params::NONE, map, text, pin.as_ref())
            }
        };
        let shape = facts.shape.as_ref().filter(|_| asker.is_some());
        let shape = shape.map(|shape| format!("Shape: {shape}"));
        for line in lines.into_iter().chain(outcome.told(&rules)).chain(shape) {
            let _ = writeln!(out, "{line}");
        }
    }
    Ok(out)
}

fn from_file(config: Config, home: usize, path: &Path) -> Result<DatabaseModel, OfflineError> {
    let text = std::fs::read_to_string(path).map_err(|cause| OfflineError::Read {
        path: path.to_owned(),
        cause,
    })?;
    let catalog = text::parse(&text).map_err(|cause| OfflineError::Catalog {
        path: path.to_owned(),
        cause,
    })?;
    // Every shard is as the file says.
    let shards = config.postgres_shards();
    let seen = (0..).take(shards).map(|cluster| {
        Ok(ShardReport {
            catalog: catalog.clone(),
            cluster,
            fingerprint: Fingerprint::default(),
        })
    });
    let directories = Directories::unread(&config);
    let model = DatabaseModel::new(
        &Arc::new(config),
        shard_id(home),
        seen.collect(),
        directories,
        0,
    );
    let model = model.and_then(|model| match model.misfits() {
        [] => Ok(model),
        misfits => Err(misfits
            .iter()
            .map(|misfit| misfit.mistake.clone())
            .collect()),
    });
    model.map_err(|mistakes| OfflineError::Unfit {
        path: path.to_owned(),
        cause: ModelError::Map(mistakes),
    })
}

/// The servers, and what watches them, for as long as it is held.
fn topology(config: Config) -> Result<(Topology, Option<Prober>), OfflineError> {
    // Nobody logs in here.
    let stand_in = StandIn::new(rand::random(), STAND_IN_ITERATIONS, SecretKind::Scram);
    Ok(Topology::new(config, &stand_in, None)?)
}

fn runtime() -> Result<tokio::runtime::Runtime, OfflineError> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().map_err(OfflineError::Runtime)
}

/// Asks the servers what the configuration relies on: whether they can be reached, differ, enforce what they
/// declare, let transactions over several shards be finished, and have documents as declared. `say` is given each line
/// as it is known.
///
/// # Errors
/// When the configuration is wrong, or something must be mended; what, was said.
pub fn connect(config: &Path, say: &mut dyn FnMut(&str)) -> Result<(), OfflineError> {
    let config = Config::load(config)?;
    say(&config.summary().to_string());
    let (topology, _watch) = topology(config)?;
    let faults = runtime()?.block_on(async {
        let control = Control::default();
        let mut faults = 0;
        for database in databases(&topology.config) {
            faults += check_database(&control, &topology, &database, say).await;
            #[cfg(feature = "mongo")]
            {
                faults += mongo::check(&topology.config, &database, say).await;
            }
        }
        if faults == 0 && topology.config.auth.passthrough {
            for difference in verifiers::compared(&control, &topology).await {
                say(&format!("warning: {difference}"));
            }
        }
        faults
    });
    match faults {
        0 => Ok(()),
        faults => Err(OfflineError::Faults(faults)),
    }
}

/// The declared databases; `control.database` if there are none.
fn databases(config: &Config) -> Vec<String> {
    let declared = config.databases.iter();
    let declared: Vec<String> = declared.map(|d| d.name.as_str().to_owned()).collect();
    if declared.is_empty() {
        return vec![config.control.database.as_str().to_owned()];
    }
    declared
}

/// Says what is to be said of one database; returns how much of it is a fault.
async fn check_database(
    control: &Control,
    topology: &Topology,
    database: &str,
    say: &mut dyn FnMut(&str),
) -> usize {
    say(&format!("database {database}"));
    let mut faults = 0;
    let two_phase = topology.postgres > 1 && topology.config.transactions.two_phase;
    let asked = match topology.config.has_postgres() {
        true => topology.postgres,
        false => 0,
    };
    for (id, shard) in topology.shards.by_id().take(asked) {
        let on = topology.database_on(database, id);
        match control.lend(topology, id, &on).await {
            Err(error) => {
                say(&format!("  error: shard {}: {}", shard.name, Chain(&error)));
                faults += 1;
            }
            Ok(client) if two_phase => {
                let limit = topology.config.control.timeout;
                let check = schema::check(&client, &topology.config.transactions.schema);
                let check = client.ask(check);
                let missing = match tokio::time::timeout(limit, check).await {
                    Ok(Ok(missing)) => missing,
                    Ok(Err(error)) => {
                        say(&format!("  error: shard {}: {}", shard.name, Chain(&error)));
                        faults += 1;
                        continue;
                    }
                    Err(_) => {
                        say(&format!("  error: shard {}: no answer in time", shard.name));
                        faults += 1;
                        continue;
                    }
                };
                for what in missing {
                    // The router installs it when the database is first used.
                    let harmless = what == Missing::Installed;
                    let word = if harmless { "note" } else { "error" };
                    say(&format!("  {word}: shard {}: {what}", shard.name));
                    faults += usize::from(!harmless);
                }
                if shard.servers.len() > 1 && !waits_for_standbys(&client, limit).await {
                    say(&format!(
                        "  warning: shard {}: commits do not wait for a standby (synchronous_standby_names is empty): a failover of this \
                         shard may lose its part of a transaction that the other shards keep",
                        shard.name
                    ));
                }
            }
            Ok(_) => {}
        }
    }
    // Its catalogs would only repeat what was said.
    if faults > 0 || !topology.declared {
        return faults;
    }
    match model::look(control, topology, database).await {
        Err(error) => {
            say(&format!("  error: {}", Chain(&error)));
            faults += 1;
        }
        Ok(model) => {
            for misfit in model.misfits() {
                say(&format!("  error: {}", misfit.mistake));
                faults += 1;
            }
            for finding in model.warnings() {
                say(&format!("  warning: {finding}"));
            }
            for pending in model.pending().iter().filter(|one| one.is_exact()) {
                say(&format!("  note: table {pending} does not exist yet"));
            }
        }
    }
    faults
}

/// Whether a primary waits for a standby before it says that something is committed. If it does not answer, it may.
async fn waits_for_standbys(client: &tokio_postgres::Client, limit: Duration) -> bool {
    let names = "SELECT pg_catalog.current_setting('synchronous_standby_names')";
    let answer = tokio::time::timeout(limit, client.query_one(names, &[])).await;
    let Ok(Ok(row)) = answer else {
        return true;
    };
    !row.get::<_, String>(0).is_empty()
}
