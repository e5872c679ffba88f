//! The router's own questions to servers, on connections that no client's setting
//! or statement ever reaches.
//!
//! `deadpool-postgres` lends `tokio_postgres` clients, per core, server and
//! database. SQL here is fully qualified, operators included (CVE-2025-12819). What a
//! stranger could have made of each question is listed in docs/security.md.

use crate::config::Secret as ConfigSecret;
use crate::topology::{SETTINGS, Server, Topology, towards};
use deadpool_postgres::{Connect, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod};
use mothership_pool::endpoint::{Address, EndpointId, Interpreter};
use mothership_pool::health::{ControlTls, WhyNot};
use mothership_proto::auth::{LookedUp, Secret};
use mothership_shardmap::ShardId;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;
use tokio_postgres::tls::NoTlsStream;

mod lent;

pub use lent::Lent;

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
    /// There is nobody to ask.
    #[error("shard \"{shard}\" has no primary that could be asked: {why}")]
    NoPrimary {
        /// Which one.
        shard: String,
        /// Why.
        why: WhyNot,
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

impl ControlError {
    /// Whether the server that would have to answer is not there, or does not answer.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Pool { cause, .. } => match cause {
                PoolError::Backend(error) => is_gone(error),
                PoolError::Timeout(_) => true,
                _ => false,
            },
            Self::TimedOut { .. } => true,
            Self::NoPrimary { why, .. } => why.is_lost(),
            Self::Build { .. } | Self::Query { .. } => false,
        }
    }
}

/// Between two attempts to reach a primary that takes no connections.
const PAUSE: Duration = Duration::from_millis(50);

type PoolKey = (EndpointId, String, String);

/// The control connections of one core.
#[derive(Default)]
pub struct Control {
    pools: RefCell<HashMap<PoolKey, Pool>>,
    /// How often each server's name had come to mean another one when it was asked last.
    moves: RefCell<HashMap<EndpointId, u64>>,
    verifiers: RefCell<HashMap<String, (Instant, LookedUp)>>,
    /// So many changes of roles were known when they were asked.
    changes: Cell<u64>,
    /// Held by whoever asks for the verifier of a user.
    asking: RefCell<HashMap<String, Rc<tokio::sync::Mutex<()>>>>,
}

impl Control {
    /// What the servers know of a user's password (`auth.query`), and when they were asked.
    /// Logins of one user ask once: who comes while it is asked for waits for that
    /// answer, and takes it if the question was younger than `auth.cache` or than he is.
    /// `changes` counts the changes of roles that went through this router: what was asked before the last is forgotten.
    pub async fn verifier(
        &self,
        topology: &Topology,
        user: &str,
        changes: u64,
    ) -> Result<(Instant, LookedUp), ControlError> {
        if self.changes.replace(changes) != changes {
            self.verifiers.borrow_mut().clear();
        }
        let auth = &topology.config.auth;
        let come = Instant::now();
        let known = || {
            let verifiers = self.verifiers.borrow();
            let known = verifiers.get(user);
            known
                .filter(|(at, _)| at.elapsed() < auth.cache || *at > come)
                .cloned()
        };
        if let Some(known) = known() {
            return Ok(known);
        }
        let control = &topology.config.control;
        let turn = self.turn(user);
        // Who is before may wait for a primary.
        let limit = topology.config.failover.window + control.timeout;
        let turn = tokio::time::timeout(limit, turn.lock()).await;
        let _turn = turn.map_err(|_| ControlError::TimedOut {
            address: topology
                .likely_primary(topology.home)
                .endpoint
                .address
                .clone(),
            limit,
        })?;
        if let Some(known) = known() {
            return Ok(known);
        }
        let asked = Instant::now();
        let asker = auth.query_user.as_ref().unwrap_or(&control.user);
        let password = match &auth.query_user {
            Some(_) => auth.query_password.as_ref(),
            None => control.password.as_ref(),
        };
        let database = auth.query_database.as_ref().unwrap_or(&control.database);
        let who = (asker.as_str(), password, database.as_str());
        let rows = loop {
            let client = self.connect(topology, topology.home, who).await?;
            let of: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&user];
            let question = client.query(&auth.query, &of);
            let address = || {
                let server = topology.likely_primary(topology.home);
                server.endpoint.address.clone()
            };
            let question = client.ask(question);
            match tokio::time::timeout(control.timeout, question).await {
                Ok(Ok(rows)) => break rows,
                // It was asked nothing that could not be asked again.
                Ok(Err(cause)) if is_gone(&cause) && come.elapsed() < limit => {
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(Err(cause)) => {
                    let address = address();
                    return Err(ControlError::Query { address, cause });
                }
                Err(_) => {
                    return Err(ControlError::TimedOut {
                        address: address(),
                        limit: control.timeout,
                    });
                }
            }
        };
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
        if self.changes.get() != changes {
            // A role was changed while the server was asked.
            return Ok((asked, looked_up));
        }
        let mut verifiers = self.verifiers.borrow_mut();
        if verifiers.len() >= auth.cache_entries.get() as usize {
            verifiers.clear();
        }
        verifiers.insert(user.to_owned(), (asked, looked_up.clone()));
        Ok((asked, looked_up))
    }

    /// The right to ask for the verifier of a user.
    fn turn(&self, user: &str) -> Rc<tokio::sync::Mutex<()>> {
        let mut asking = self.asking.borrow_mut();
        // Of those who were asked for, and of those whose clients have left.
        asking.retain(|_, turn| Rc::strong_count(turn) > 1);
        Rc::clone(asking.entry(user.to_owned()).or_default())
    }

    /// A connection of the control role to the primary of a shard; waits for one to be known.
    pub async fn lend(
        &self,
        topology: &Topology,
        shard: ShardId,
        database: &str,
    ) -> Result<Lent, ControlError> {
        let control = &topology.config.control;
        let own = topology.config_of(shard);
        let user = own.control_user.as_ref().unwrap_or(&control.user);
        let password = own.control_password.as_ref().or(control.password.as_ref());
        let who = (user.as_str(), password, database);
        self.connect(topology, shard, who).await
    }

    /// A connection to the primary of a shard. While there is none, and while the one that was it takes no
    /// connections, it is waited for, as requests of clients wait.
    async fn connect(
        &self,
        topology: &Topology,
        shard: ShardId,
        (user, password, database): (&str, Option<&ConfigSecret>, &str),
    ) -> Result<Lent, ControlError> {
        let (begun, window) = (Instant::now(), topology.config.failover.window);
        let limit = topology.config.control.timeout;
        loop {
            let left = window.saturating_sub(begun.elapsed());
            let at = match topology.primary(shard) {
                Ok(at) => at,
                Err(why) if left.is_zero() => {
                    let shard = topology.shards[shard].name.clone();
                    return Err(ControlError::NoPrimary { shard, why });
                }
                Err(why) => {
                    // Whether there is one is asked again.
                    let known = topology.health.has_primary_or_is_over(shard.index());
                    if let Ok(false) = tokio::time::timeout(left, known).await {
                        let shard = topology.shards[shard].name.clone();
                        return Err(ControlError::NoPrimary { shard, why });
                    }
                    continue;
                }
            };
            let server = &topology.shards[shard].servers[at];
            self.follow_name(server.endpoint.id, topology.health.moves(shard.index(), at));
            let pool = self.pool(topology, server, user, password, database)?;
            let address = || server.endpoint.address.clone();
            // A server that never was a primary has not failed over.
            let is_primary = topology.health.primary(shard.index()) == Ok(at);
            match tokio::time::timeout(limit, pool.get()).await {
                Ok(Ok(client)) => {
                    let endpoint = &server.endpoint;
                    let is_spoken_to = endpoint.interpreter.is_some();
                    let tls = (!is_spoken_to).then(|| ControlTls::new(endpoint));
                    return Ok(Lent::new(client, lent::End { tls, limit }));
                }
                Ok(Err(PoolError::Backend(cause)))
                    if !left.is_zero() && is_gone(&cause) && is_primary =>
                {
                    topology.health.probe_soon(shard.index(), at);
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(Err(cause)) => {
                    let address = address();
                    return Err(ControlError::Pool { address, cause });
                }
                Err(_) => {
                    let address = address();
                    return Err(ControlError::TimedOut { address, limit });
                }
            }
        }
    }

    /// Connections to a server that are on loan, or being opened.
    pub fn in_use(&self, server: EndpointId) -> usize {
        let pools = self.pools.borrow();
        let pools = pools
            .iter()
            .filter(|((endpoint, ..), _)| *endpoint == server);
        let statuses = pools.map(|(_, pool)| pool.status());
        statuses
            .map(|status| status.size.saturating_sub(status.available) + status.waiting)
            .sum()
    }

    /// Not every user of control connections hears of it when a server's name means another one.
    fn follow_name(&self, server: EndpointId, moves: u64) {
        let before = self.moves.borrow_mut().insert(server, moves);
        if before.is_some_and(|before| before != moves) {
            self.break_off(server);
        }
    }

    /// Closes connections to a server that is none any longer, or whose name means another one: what it says is not what
    /// is asked for.
    pub fn break_off(&self, server: EndpointId) {
        let mut pools = self.pools.borrow_mut();
        pools.retain(|(endpoint, ..), _| *endpoint != server);
    }

    /// Closes connections to a database. What is on loan is closed when it comes back, and who waits for one still gets it.
    pub fn leave_database(&self, database: &str) {
        let mut pools = self.pools.borrow_mut();
        pools.retain(|(_, _, of), _| of != database);
    }

    /// Forgets answers and connections: the configuration changed.
    pub fn forget(&self) {
        self.verifiers.borrow_mut().clear();
        self.pools.borrow_mut().clear();
    }

    fn pool(
        &self,
        topology: &Topology,
        server: &Server,
        user: &str,
        password: Option<&ConfigSecret>,
        database: &str,
    ) -> Result<Pool, ControlError> {
        let endpoint = &server.endpoint;
        let key = (endpoint.id, user.to_owned(), database.to_owned());
        if let Some(pool) = self.pools.borrow().get(&key) {
            return Ok(pool.clone());
        }
        let mut config = towards(server, user, password, database);
        let tls = ControlTls::new(endpoint);
        config
            .ssl_mode(tls.mode())
            .application_name("mothership")
            .connect_timeout(topology.config.pool.connect_timeout);
        if endpoint.interpreter.is_none() {
            // A lock that a client holds keeps no backend of the control role waiting for longer. A limit for whole
            // statements would also end COMMIT PREPARED while it waits for a standby.
            let wait = topology.config.control.timeout.as_millis();
            config.options(format!("{SETTINGS} -c lock_timeout={wait}"));
        }
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = match &endpoint.interpreter {
            None => Manager::from_config(config, tls, recycling),
            Some(interpreter) => {
                let through = Through(Arc::clone(interpreter));
                Manager::from_connect(config, through, recycling)
            }
        };
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

/// Connects to a server of another kind, which somebody speaks to in its own language.
struct Through(Arc<dyn Interpreter>);

impl Connect for Through {
    fn connect(&self, config: &tokio_postgres::Config) -> Connecting<'_> {
        let (dialled, config) = (self.0.dial(), config.clone());
        Box::pin(async move {
            match dialled {
                Ok(stream) => spoken(config.connect_raw(stream, NoTls).await?),
                Err(error) => {
                    tracing::warn!(%error, "a server cannot be dialled");
                    // What ends at once is a connection that is lost.
                    spoken(config.connect_raw(tokio::io::empty(), NoTls).await?)
                }
            }
        })
    }
}

type Connected = (tokio_postgres::Client, JoinHandle<()>);
type Connecting<'a> =
    Pin<Box<dyn Future<Output = Result<Connected, tokio_postgres::Error>> + Send + 'a>>;

fn spoken<S>(
    (client, connection): (
        tokio_postgres::Client,
        tokio_postgres::Connection<S, NoTlsStream>,
    ),
) -> Result<Connected, tokio_postgres::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::warn!(%error, "a control connection is lost");
        }
    });
    Ok((client, task))
}

/// Whether the server that should answer is not there, or not yet, or no longer.
pub fn is_gone(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => ["57P01", "57P02", "57P03"].contains(&code.code()),
        // Not a wrong password or certificate.
        None => error.is_closed() || cause_is_io(error),
    }
}

fn cause_is_io(error: &tokio_postgres::Error) -> bool {
    use std::error::Error;
    error
        .source()
        .is_some_and(|cause| cause.is::<std::io::Error>())
}
