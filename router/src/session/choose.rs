//! Chooses the server of a shard that gets a request: the primary, or any server that may serve the read, preferably
//! one that has little to do.
//!
//! `Health` makes the choice. This file leases a connection to the chosen server, and reports back what the attempt
//! shows of it. If the attempt fails, it chooses another server, where that is allowed.

use super::bystanders::is_told_to_all;
use super::dispatch::Many;
use super::repeat::Refused;
use super::rules::Ruled;
use super::servers::AttachedId;
use super::state::{Block, State};
use super::touched::Parts;
use super::{Halt, Session};
use crate::commit::steps::Reply;
use crate::config::{self, Freshness, Level};
use crate::core::notes::Notes;
use crate::core::{Lease, Queued, Spread};
use crate::statements::staleness;
use crate::statements::step::Step;
use crate::topology::{PoolKey, Topology};
use mothership_pool::balance::InFlight;
use mothership_pool::health::{CommitClock, Failure, Need, Read, Reads};
use mothership_pool::pool::{Asking, LeaseError, LinedUp, Pool, Priority};
use mothership_proto::auth::Credentials;
use mothership_proto::frame::{self, Next};
use mothership_proto::frontend::{self, tag};
use mothership_proto::ledger::Audience;
use mothership_proto::report::{Report, sqlstate};
use mothership_shardmap::ShardId;
use smallvec::SmallVec;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a request asks of its server.
#[derive(Clone, Debug)]
pub(super) enum Wants {
    /// The primary.
    Primary,
    /// A server that shows every write that the client may know of: to these parts, or to any part.
    FreshRead(Option<Parts>),
    /// The primary, without joining the open transaction: the request describes something, or sets something that every
    /// server that joins is told anyway.
    NoPart,
}

/// What a connection is leased for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// A read on a replica, which may go elsewhere.
    Replica,
    /// A read on the primary. How long it takes says how busy the server is.
    ReadOnPrimary,
    /// Anything else.
    Primary,
}

/// A connection to the chosen server.
pub(super) struct Chosen {
    /// The connection.
    pub lease: Lease,
    /// How long the request waited for it.
    pub waited: Duration,
    /// The index of the server in its shard.
    pub server: usize,
    /// Whether it takes writes.
    pub is_primary: bool,
    /// Counts the request as under way on the server.
    pub flight: Option<Flight>,
}

/// A request under way on a server.
pub struct Flight {
    counted: InFlight,
    /// When the request began; `None` if it is not measured.
    since: Option<Instant>,
    measured: bool,
}

impl Flight {
    /// A request that counts as under way on a server, and has not begun. `measured`: how long it takes says how busy
    /// the server is.
    pub fn new(counted: InFlight, measured: bool) -> Flight {
        Flight {
            counted,
            since: None,
            measured,
        }
    }

    /// The session has the connection, and the request itself begins. The first request on a connection fills the
    /// server's caches, so it says nothing about how busy the server is.
    pub fn take_off(&mut self, warm: bool) {
        self.take_off_at(warm, Instant::now);
    }

    /// The same with a time that the caller may already have read.
    pub fn take_off_at(&mut self, warm: bool, now: impl FnOnce() -> Instant) {
        self.measured &= warm;
        self.since = self.measured.then(now);
    }

    /// The request has ended well. If it was a single read, the time that it took says how busy the server is; a
    /// transaction lasts as long as its client likes. `ended` is when the session's last request was answered, if the
    /// caller knows: then the clock is not read again.
    pub fn land(self, ended: Option<Instant>) {
        self.counted.answered();
        if let Some(since) = self.since {
            let ended = ended.filter(|ended| *ended >= since);
            let now = ended.unwrap_or_else(Instant::now);
            let took = now.saturating_duration_since(since);
            self.counted.finish(took, now);
        }
    }
}

/// The pools that a session has used. Without this list, finding a pool by its names would cost more than the rest of a
/// lease.
///
/// A session may be idle for days, so it holds weak references: otherwise the pools' connections would stay open for
/// it.
#[derive(Default)]
pub struct KnownPools {
    /// The configuration that the list is for: under another one a name may mean something else.
    topology: Option<Arc<Topology>>,
    /// The core's count of forgotten pools when the list was made. A pool that the core forgot may still exist, while a
    /// connection of it is lent.
    forgotten: u64,
    /// Mostly one pool, which needs no allocation.
    list: SmallVec<[KnownPool; 1]>,
}

/// The pool of one server. The user and the database are those of the session.
struct KnownPool {
    /// The shard, and the server in it.
    place: (ShardId, usize),
    /// The name that a rule gave.
    label: Option<Box<config::Label>>,
    pool: Weak<Pool<Notes>>,
}

impl KnownPools {
    fn begin_anew_if_changed(&mut self, topology: &Arc<Topology>, forgotten: u64) {
        let known = self.topology.as_ref();
        let same = known.is_some_and(|known| Arc::ptr_eq(known, topology));
        if !same || self.forgotten != forgotten {
            *self = Self {
                topology: Some(Arc::clone(topology)),
                forgotten,
                list: SmallVec::new(),
            };
        }
    }

    /// The pool of a server, if it is known under this configuration and the core has not forgotten it.
    fn find(
        &mut self,
        topology: &Arc<Topology>,
        forgotten: u64,
        place: (ShardId, usize),
        label: Option<&config::Label>,
    ) -> Option<Rc<Pool<Notes>>> {
        self.begin_anew_if_changed(topology, forgotten);
        let mut list = self.list.iter();
        let found = list.find(|known| known.place == place && known.label.as_deref() == label);
        found?.pool.upgrade()
    }
}

/// How often a read tries to get a replica.
const TRIES: usize = 3;

impl State {
    /// Whether statements outside of blocks are SERIALIZABLE, which replicas do not support.
    fn is_serializable(&self) -> bool {
        self.default_isolation() == Some(true)
    }

    /// Whether the client has set `default_transaction_isolation` to SERIALIZABLE, or to a value that the router does not
    /// know. `None` if it has not set it.
    pub(super) fn default_isolation(&self) -> Option<bool> {
        let settings = self.settings.current();
        let named = |name: &str| settings.get(name).map(super::planning::values);
        let known = ["read committed", "read uncommitted", "repeatable read"];
        let weaker = |values: Vec<String>| {
            let value = values.join(" ").to_ascii_lowercase();
            known.contains(&&*value)
        };
        named("default_transaction_isolation").map(|values| !weaker(values))
    }
}

impl Topology {
    /// Reports what a failed attempt says about the server. False if it says nothing.
    pub(super) fn report_failed(&self, shard: ShardId, server: usize, error: &LeaseError) -> bool {
        let (LeaseError::Open(cause) | LeaseError::Resting(cause)) = error else {
            return false;
        };
        let Some(failure) = Failure::of_opening(cause) else {
            return false;
        };
        if matches!(error, LeaseError::Resting(_)) {
            // The failure was reported when it happened. How the server is now is not known.
            return true;
        }
        let health = &self.health;
        health.report_connect_failure(shard.index(), server, failure);
        true
    }

    /// A connection was lost while a request used it, or did not answer the request.
    pub(super) fn report_broken(&self, shard: ShardId, server: usize) {
        self.health.report_broken(shard.index(), server);
    }

    /// The server said that it is read-only, or a connection to it was lost without a fault of the server.
    pub(super) fn report_lost(&self, shard: ShardId, server: usize) {
        self.health.report_lost(shard.index(), server);
    }
}

impl Ruled {
    /// How fresh reads must be for this session: by its own word, else by the rule of the request at hand.
    fn level_for(&self, state: &State) -> Option<Level> {
        let limit = staleness::of(state.settings.current());
        let own = limit.map(|limit| Level {
            freshness: Freshness::Bounded,
            max_lag: Some(limit),
        });
        own.or(self.level())
    }
}

impl Session {
    /// What a statement asks of its server. A replica may serve it if it is proven to read only what replicas have, and
    /// is sent alone, outside of any transaction of the client.
    pub(super) fn wants(&self, writes: bool, steps: &[Step], parts: Option<&Parts>) -> Wants {
        if matches!(self.state.block, Block::Begun | Block::Open) && is_told_to_all(steps) {
            return Wants::NoPart;
        }
        let alone = self.state.block == Block::None
            && !self.transaction.implicit
            && self.servers.is_empty()
            && !self.is_session_mode()
            && self.state.pins.is_empty();
        let [step] = steps else {
            return Wants::Primary;
        };
        // Without a catalog nothing is known of functions and relations.
        let reads = !writes && step.reads_only && step.pins.is_empty() && self.is_read_known();
        if alone && reads && !self.state.is_serializable() {
            Wants::FreshRead(parts.cloned())
        } else {
            Wants::Primary
        }
    }

    /// The same for a statement on several shards.
    pub(super) fn wants_of_many(&self, steps: &[Step], many: &Many) -> Wants {
        if many.writes || many.is_step_by_step() || many.copy.is_some() {
            return Wants::Primary;
        }
        self.wants(false, steps, None)
    }

    /// Whether at most one Execute, of this portal, follows its Bind before Sync; Describe and Flush do not count. So the
    /// segment is not a transaction of several statements.
    pub(super) fn is_alone_in_segment(&self, portal: &[u8]) -> bool {
        let mut executed = false;
        let mut rest = self.client.input();
        let limit = self.topology.config.limits.client_message.bytes();
        while let Ok(Next::Whole(frame)) = frame::next(rest, limit) {
            match frame.tag() {
                tag::SYNC => return true,
                tag::DESCRIBE | tag::FLUSH => {}
                tag::EXECUTE if !executed => {
                    let named = frontend::execute(frame.body());
                    executed = named.is_ok_and(|(name, _)| name == portal);
                    if !executed {
                        return false;
                    }
                }
                _ => return false,
            }
            rest = &rest[frame.bytes.len()..];
        }
        false
    }

    /// Leases a connection to a server that meets `wants`.
    pub(super) async fn choose(&mut self, shard: ShardId, wants: &Wants) -> Result<Chosen, Halt> {
        // A shard with a single server has no replica.
        if let Wants::FreshRead(parts) = wants
            && self.request.refused != Some(Refused::Read)
            && self.topology.shards[shard].servers.len() > 1
            && let Some(chosen) = self.choose_replica(shard, parts.as_ref()).await?
        {
            return Ok(chosen);
        }
        if matches!(wants, Wants::FreshRead(_))
            && self.rules.ruled_reads(&self.topology, shard).0 == Reads::Replicas
        {
            return Err(Halt::Fail(self.topology.no_replica(shard)));
        }
        self.choose_primary(shard, wants).await
    }

    /// Leases a connection to a replica for a read. `None` if no replica may serve it.
    pub(super) async fn choose_replica(
        &mut self,
        shard: ShardId,
        parts: Option<&Parts>,
    ) -> Result<Option<Chosen>, Halt> {
        let health = std::sync::Arc::clone(&self.topology.health);
        // The read has arrived, so it must see every write that was acknowledged before this point.
        let told = self.state.acknowledged.get();
        let told = told.and_then(|told| told.get(&shard)).copied();
        let is_alone = self.core.shared.other_process.is_alone();
        let level = self.rules.level_for(&self.state);
        let needed = parts.map(|parts| |clock: &CommitClock| parts.required_write(clock));
        let freshness = self
            .topology
            .freshness(shard, told, needed, is_alone, level);
        let (reads, mut among) = self.rules.ruled_reads(&self.topology, shard);
        for _ in 0..TRIES {
            let need = Need::Read(Read {
                freshness,
                reads,
                among,
            });
            let choice = match health.choose(shard.index(), need, &mut rand::rng()) {
                Ok(choice) if !choice.is_primary => choice,
                Ok(_) | Err(_) => return Ok(None),
            };
            match self.lease_from(shard, choice.server, Use::Replica).await? {
                Ok(chosen) if choice.covers(chosen.lease.opened) => return Ok(Some(chosen)),
                Ok(younger) => {
                    drop(younger);
                    if health.primary(shard.index()).is_ok() {
                        // The connection stays in the pool, and can be used after the next probe.
                        among = among.without(choice.server);
                    } else {
                        health.confirm(shard.index(), choice.server).await;
                    }
                }
                Err(error) => {
                    self.topology.report_failed(shard, choice.server, &error);
                    tracing::debug!(error = %crate::log::Chain(&error), "a read goes elsewhere");
                    among = among.without(choice.server);
                }
            }
        }
        Ok(None)
    }

    /// Whether a read may run on the connection `at` to a replica. The defaults of the role or the database may make it
    /// SERIALIZABLE, which replicas refuse.
    pub(super) async fn replica_will_do(&mut self, at: AttachedId) -> bool {
        let lease = &mut self.servers[at].lease;
        if let Some(serializable) = lease.notes.serializable {
            return !serializable;
        }
        // This asks for `reset_val`, because the connection may still carry the settings of another session.
        const QUESTION: &[u8] = b"SELECT reset_val FROM pg_catalog.pg_settings \
            WHERE name OPERATOR(pg_catalog.=) 'default_transaction_isolation'";
        lease.query(QUESTION, Audience::Router);
        let limit = self.topology.config.pool.connect_timeout;
        let asked = tokio::time::timeout(limit, self.private_reply(at)).await;
        let lease = &mut self.servers[at].lease;
        let Ok((Reply::Done { row: Some(row), .. }, _)) = asked else {
            lease.doubt();
            self.topology
                .report_broken(self.servers[at].shard, self.servers[at].server);
            return false;
        };
        let serializable = row == "serializable";
        lease.notes.serializable = Some(serializable);
        !serializable
    }

    /// Leases a connection to one server of a shard.
    pub(super) async fn lease_from(
        &mut self,
        shard: ShardId,
        server: usize,
        used: Use,
    ) -> Result<Result<Chosen, LeaseError>, Halt> {
        if self.servers.is_empty()
            && let Some(report) = self.core.shared.pressure.refuses_transactions()
        {
            return Err(Halt::Fail(report));
        }
        let pool = self.pool(shard, server)?;
        let counted = self.topology.health.begin(shard.index(), server);
        // A request that has waited in the queue before takes its old place again.
        let lined_up = self.fast.lined_up.take();
        let at_once = lined_up.is_none().then(|| pool.try_lease()).flatten();
        let (lease, waited) = match at_once {
            Some(lease) => (lease, Duration::ZERO),
            None => {
                let priority = if self.servers.is_empty() {
                    Priority::New(self.rules.priority())
                } else {
                    Priority::Join
                };
                let since = match lined_up {
                    Some(LinedUp::Since(since)) => since,
                    Some(LinedUp::SentAway) | None => Instant::now(),
                };
                let spread = (priority == Priority::Join).then(|| Spread::new(&self.core.shared));
                if priority == Priority::Join {
                    self.entry.set_queued(Some(Queued {
                        limit: Arc::as_ptr(pool.limit()) as usize,
                        most: pool.limit().max(),
                        since,
                    }));
                }
                // This future is boxed: it is large, because it may open a connection, and it is rarely needed.
                let lease = Box::pin(pool.lease(Asking {
                    priority,
                    lined_up,
                    elsewhere: used == Use::Replica,
                }));
                let leased = self.while_client_waits(lease).await;
                self.entry.set_queued(None);
                drop(spread);
                // A deadlock may have been reported too late to end this wait. It must not end another one.
                self.entry.seen.deadlock.take();
                match leased? {
                    Ok(lease) => (lease, since.elapsed()),
                    Err(error) => return Ok(Err(error)),
                }
            }
        };
        Ok(Ok(Chosen {
            lease,
            waited,
            server,
            is_primary: false,
            flight: counted.map(|counted| Flight::new(counted, used != Use::Primary)),
        }))
    }

    /// The pool of a server for this session's statements.
    pub(super) fn pool(
        &mut self,
        shard: ShardId,
        server: usize,
    ) -> Result<Rc<Pool<Notes>>, Report> {
        let place = (shard, server);
        let (topology, forgotten) = (&self.topology, self.core.forgotten_pools());
        let label = self.rules.pool();
        if let Some(known) = self.login.pools.find(topology, forgotten, place, label) {
            return Ok(known);
        }
        let pool = self.find_pool(shard, server)?;
        // Finding it may have made the core forget another pool.
        let forgotten = self.core.forgotten_pools();
        self.login
            .pools
            .begin_anew_if_changed(&self.topology, forgotten);
        self.login.pools.list.push(KnownPool {
            place,
            label: self.rules.pool().cloned().map(Box::new),
            pool: Rc::downgrade(&pool),
        });
        Ok(pool)
    }

    fn find_pool(&self, shard: ShardId, server: usize) -> Result<Rc<Pool<Notes>>, Report> {
        let server = &self.topology.shards[shard].servers[server];
        let key = PoolKey {
            endpoint: server.endpoint.id,
            user: self.entry.who.names.server_user.to_string(),
            database: self
                .topology
                .database_on(&self.entry.who.names.database, shard),
            label: self.rules.pool().cloned(),
        };
        let max = match self.rules.limit() {
            Some(limit) => limit.get(),
            None => self.topology.pool_max(&key),
        };
        let credentials = self
            .login
            .credentials
            .as_deref()
            .unwrap_or(&Credentials::None);
        let pool = self
            .core
            .pool(&self.topology, server, key, max, credentials);
        pool.ok_or_else(|| {
            let most = self.topology.config.limits.pools;
            let message = format!("all {most} pools of server connections are in use");
            let report = Report::error(sqlstate::TOO_MANY_CONNECTIONS, message);
            report.hint("The setting is limits.pools.")
        })
    }
}
