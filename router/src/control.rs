//! The router's own questions to servers, on connections that no client's setting
//! or statement ever reaches.
//!
//! `deadpool-postgres` lends `tokio_postgres` clients, per core, server and
//! database. SQL here is fully qualified, operators included (CVE-2025-12819).

use crate::commit::doubt::Site;
use crate::commit::errand::{Servers, Unreachable};
use crate::config::{Config, Secret as ConfigSecret};
use crate::core::{Shared, Topology};
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod};
use mothership_pool::endpoint::{Address, EndpointId};
use mothership_proto::auth::{LookedUp, Secret};
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tokio_postgres::NoTls;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No connection.
    #[error("no control connection to {address}")]
    Pool {
        /// Where.
        address: Address,
        /// Why.
        #[source]
        cause: deadpool_postgres::PoolError,
    },
    /// The pool cannot be made.
    #[error("no control pool for {address}")]
    Build {
        /// Where.
        address: Address,
        /// Why.
        #[source]
        cause: deadpool_postgres::BuildError,
    },
    /// The server said no.
    #[error("question to {address}")]
    Query {
        /// Where.
        address: Address,
        /// Why.
        #[source]
        cause: tokio_postgres::Error,
    },
    /// It took too long.
    #[error("question to {address} took longer than {limit:?}")]
    TimedOut {
        /// Where.
        address: Address,
        /// How long was waited.
        limit: Duration,
    },
}

type PoolKey = (EndpointId, String, String);

/// The control connections of one core.
#[derive(Default)]
pub struct Control {
    pools: RefCell<HashMap<PoolKey, Pool>>,
    verifiers: RefCell<HashMap<String, (Instant, LookedUp)>>,
}

impl Control {
    /// What the servers know of a user's password (`auth.query`).
    pub async fn verifier(
        &self,
        topology: &Topology,
        user: &str,
    ) -> Result<LookedUp, ControlError> {
        let auth = &topology.config.auth;
        if let Some((at, known)) = self.verifiers.borrow().get(user)
            && at.elapsed() < auth.cache
        {
            return Ok(known.clone());
        }
        let control = &topology.config.control;
        let server = topology.primary(topology.home);
        let asker = auth.query_user.as_ref().unwrap_or(&control.user);
        let password = match &auth.query_user {
            Some(_) => auth.query_password.as_ref(),
            None => control.password.as_ref(),
        };
        let database = auth.query_database.as_ref().unwrap_or(&control.database);
        let pool = self.pool(
            topology,
            &server.endpoint,
            asker.as_str(),
            password,
            database.as_str(),
        )?;
        let address = || server.endpoint.address.clone();
        let question = async {
            let client = pool.get().await.map_err(|cause| ControlError::Pool {
                address: address(),
                cause,
            })?;
            let rows = client.query(&auth.query, &[&user]).await;
            rows.map_err(|cause| ControlError::Query {
                address: address(),
                cause,
            })
        };
        let rows = tokio::time::timeout(control.timeout, question)
            .await
            .map_err(|_| ControlError::TimedOut {
                address: address(),
                limit: control.timeout,
            })??;
        let looked_up = match rows.first() {
            None => LookedUp::Unknown,
            // A column of another type is no verifier.
            Some(row) => match row.try_get::<_, Option<String>>(1) {
                Ok(Some(text)) => {
                    Secret::parse(&text).map_or(LookedUp::NoPassword, LookedUp::Known)
                }
                _ => LookedUp::NoPassword,
            },
        };
        let mut verifiers = self.verifiers.borrow_mut();
        if verifiers.len() >= auth.cache_entries.get() as usize {
            verifiers.clear();
        }
        verifiers.insert(user.to_owned(), (Instant::now(), looked_up.clone()));
        Ok(looked_up)
    }

    /// A connection of the control role to the primary of a shard.
    pub async fn lend(
        &self,
        topology: &Topology,
        shard: usize,
        database: &str,
    ) -> Result<Object, ControlError> {
        let control = &topology.config.control;
        let server = topology.primary(shard);
        let own = &topology.config.shards[shard];
        let user = own.control_user.as_ref().unwrap_or(&control.user);
        let password = own.control_password.as_ref().or(control.password.as_ref());
        let pool = self.pool(
            topology,
            &server.endpoint,
            user.as_str(),
            password,
            database,
        )?;
        let address = || server.endpoint.address.clone();
        match tokio::time::timeout(control.timeout, pool.get()).await {
            Ok(Ok(client)) => Ok(client),
            Ok(Err(cause)) => Err(ControlError::Pool {
                address: address(),
                cause,
            }),
            Err(_) => Err(ControlError::TimedOut {
                address: address(),
                limit: control.timeout,
            }),
        }
    }

    /// Forgets answers and connections: the configuration changed.
    pub fn forget(&self) {
        self.verifiers.borrow_mut().clear();
        self.pools.borrow_mut().clear();
    }

    fn pool(
        &self,
        topology: &Topology,
        endpoint: &mothership_pool::endpoint::Endpoint,
        user: &str,
        password: Option<&ConfigSecret>,
        database: &str,
    ) -> Result<Pool, ControlError> {
        let key = (endpoint.id, user.to_owned(), database.to_owned());
        if let Some(pool) = self.pools.borrow().get(&key) {
            return Ok(pool.clone());
        }
        let mut config = tokio_postgres::Config::new();
        config
            .user(user)
            .dbname(database)
            .application_name("mothership");
        if let Some(password) = password {
            config.password(password.reveal());
        }
        match &endpoint.address {
            Address::Tcp(host, port) => config.host(host).port(*port),
            Address::Unix(path) => unix(&mut config, path),
        };
        config.connect_timeout(topology.config.pool.connect_timeout);
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = Manager::from_config(config, NoTls, recycling);
        let pool = Pool::builder(manager)
            .max_size(topology.config.control.connections.get() as usize)
            .build()
            .map_err(|cause| ControlError::Build {
                address: endpoint.address.clone(),
                cause,
            })?;
        self.pools.borrow_mut().insert(key, pool.clone());
        Ok(pool)
    }
}

/// How the control role asks a server of a shard that concerns the server as a whole.
pub fn asking(config: &Config, shard: usize, address: &Address) -> tokio_postgres::Config {
    let control = &config.control;
    let own = &config.shards[shard];
    let user = own.control_user.as_ref().unwrap_or(&control.user);
    let password = own.control_password.as_ref().or(control.password.as_ref());
    let mut asking = tokio_postgres::Config::new();
    asking.user(user.as_str()).dbname(control.database.as_str());
    if let Some(password) = password {
        asking.password(password.reveal());
    }
    match address {
        Address::Tcp(host, port) => asking.host(host).port(*port),
        Address::Unix(path) => unix(&mut asking, path),
    };
    asking.connect_timeout(config.pool.connect_timeout);
    asking
}

/// libpq names a unix socket by its folder and port.
fn unix<'a>(
    config: &'a mut tokio_postgres::Config,
    path: &std::path::Path,
) -> &'a mut tokio_postgres::Config {
    let port = path
        .extension()
        .and_then(|e| e.to_str())
        .and_then(|e| e.parse().ok());
    if let Some(folder) = path.parent() {
        config.host_path(folder);
    }
    config.port(port.unwrap_or(5432))
}

/// Lends control connections to the primaries of sites, for the ends of commits.
pub struct Primaries<'a> {
    control: &'a Control,
    shared: &'a Shared,
}

impl<'a> Primaries<'a> {
    /// By these connections, as the configuration in force says.
    pub fn new(control: &'a Control, shared: &'a Shared) -> Self {
        Self { control, shared }
    }
}

/// A control connection on loan.
pub struct Lent(Object);

impl std::ops::Deref for Lent {
    type Target = tokio_postgres::Client;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Servers for Primaries<'_> {
    type Lent = Lent;

    async fn lend(&self, site: &Site) -> Result<Self::Lent, Unreachable> {
        let topology = self.shared.topology();
        let shard = topology
            .shards
            .iter()
            .position(|shard| shard.name == site.shard);
        let shard =
            shard.ok_or_else(|| Unreachable(format!("no shard is called {}", site.shard)))?;
        let lent = self.control.lend(&topology, shard, &site.database).await;
        lent.map(Lent)
            .map_err(|error| Unreachable(crate::log::Chain(&error).to_string()))
    }

    fn discard(&self, lent: Self::Lent) {
        // Taken out of its pool it is closed.
        drop(Object::take(lent.0));
    }
}
