//! What all cores share: limits, the configuration in force, what is known of each database, and a mailbox for each
//! core.

use super::code::{Behind, Code};
use super::drains::{Drain, Drains};
use super::gates::Gates;
use super::{Core, Life, Mail, Order, WaitingTotals};
use crate::commit::doubt::{Doubts, Site};
use crate::commit::finishing::Finishing;
use crate::commit::recover::Sweep;
use crate::config;
use crate::contention::Contention;
use crate::model::DatabaseModel;
use crate::other_process::OtherProcess;
use crate::pressure::Pressure;
use crate::proofs::Proofs;
use crate::sequences::Sequences;
use crate::throttle::{Buckets, Cancels, Crowds, Throttle, WrongPasswords};
use crate::topology::{PoolKey, Topology};
use mothership_pool::endpoint::EndpointId;
use mothership_pool::health::Prober;
use mothership_pool::limit::Limit;
use mothership_pool::line::{Line, Lines};
use mothership_pool::pool::Outer;
use mothership_proto::auth::StandIn;
use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};

/// How many connections the cores' pools of one key may have, and how many requests may wait for them.
type Bounds = (Arc<Limit>, Arc<Line>);

/// How long recovery stays out of a database that somebody drops or renames.
const LEFT_ALONE: Duration = Duration::from_secs(20);

/// What all cores share.
pub struct Shared {
    config: RwLock<Arc<Topology>>,
    /// Where the configuration in force lies; whoever holds it can tell by that.
    current: AtomicUsize,
    limits: Mutex<HashMap<PoolKey, Bounds>>,
    /// Requests that wait for a connection.
    pub lines: Arc<Lines>,
    outer: Mutex<HashMap<OuterKey, Arc<Limit>>>,
    /// Whether it runs out of memory.
    pub pressure: Pressure,
    /// Clients of each user and database that has a limit of its own.
    pub crowds: Crowds,
    /// Goes up with every change of definitions that went through this router.
    pub schema_epoch: AtomicU64,
    /// Counts the changes of roles that went through this router: a password may be another one.
    pub role_changes: AtomicU64,
    /// Goes up with those of them that may change which names have code behind them.
    pub code_epoch: AtomicU64,
    /// What is known of the code in each database, by the clients' name.
    pub code: Mutex<HashMap<String, Arc<Code>>>,
    /// What roles and databases begin with was changed.
    pub altered: super::altered::Altered,
    /// Changes of definitions that are under way through this router.
    pub(super) changing: AtomicUsize,
    /// Clients whose changes of definitions are just being committed.
    committing_changes: AtomicUsize,
    /// What unknown users are measured against, so that they look like known ones.
    pub stand_in: StandIn,
    /// Clients logged in.
    pub clients: AtomicU32,
    /// Connections in login.
    pub logins: AtomicU32,
    /// Clients that were refused before they were logged in, because a limit was reached.
    pub shed_clients: AtomicU64,
    /// One mailbox for each core.
    pub mail: Vec<mpsc::UnboundedSender<Mail>>,
    /// What the process is told to do.
    pub life: watch::Receiver<Life>,
    /// The other process, while one takes over from another.
    pub other_process: OtherProcess,
    /// This router's part in the names of prepared transactions.
    pub router: config::Label,
    /// Committed parts that their shards have not finished.
    pub doubts: Arc<Doubts>,
    /// Commits over several shards that are under way.
    pub finishing: Arc<Finishing>,
    /// Requests that wait for a primary.
    pub held: Arc<WaitingTotals>,
    /// What is known of each database, by the clients' name.
    pub(super) models: Mutex<HashMap<String, Arc<DatabaseModel>>>,
    /// What takes the place of a model that is too old, if all that can be read is one in which a shard is away.
    pub(super) standing_by: Mutex<HashMap<String, Arc<DatabaseModel>>>,
    /// Where something was known at any time.
    pub(super) seen: Mutex<HashSet<Site>>,
    /// What the log was told of each database, so that it is told once.
    pub(super) told: Mutex<HashMap<String, Vec<String>>>,
    /// Answers for new clients that any core knows.
    pub welcomes: Arc<Mutex<super::welcomes::Known>>,
    /// Values that were taken from sequences.
    pub sequences: Sequences,
    /// What recovery found when it looked last.
    pub swept: watch::Sender<Sweep>,
    /// Databases that somebody wants to be empty: recovery, too, closes its connections to them.
    pub emptied: tokio::sync::broadcast::Sender<Arc<str>>,
    /// The same, and when that was.
    left_alone: Mutex<HashMap<Arc<str>, Instant>>,
    /// Counts reloads.
    pub reloads: watch::Sender<u64>,
    /// To whoever supervises the process.
    pub orders: mpsc::UnboundedSender<Order>,
    /// Asks the servers for their health.
    prober: Mutex<Option<Prober>>,
    /// Consoles open.
    pub consoles: AtomicU32,
    /// How many [`Spread`]s live. A session that holds several servers and waits for another one has two.
    spread: AtomicUsize,
    /// Whoever waits for others and holds what they may want asks here to be looked at.
    pub stuck: tokio::sync::Notify,
    /// On which tables statements over several shards met.
    pub contention: Contention,
    /// For which tables new transactions wait.
    pub drains: Arc<Drains>,
    /// Whose notifications come from which server process.
    pub notifiers: Arc<super::Notifiers>,
    /// Which databases are paused or disabled.
    pub gates: Gates,
    /// Cancel requests that are under way.
    pub cancels: Cancels,
    /// How many more each address may send.
    pub cancel_buckets: Buckets,
    /// Passwords that are being checked.
    pub password_checks: Throttle,
    /// Who gave wrong ones.
    pub wrong_passwords: WrongPasswords,
    /// Held by whoever plans a large statement beside its core's loop.
    pub large_plans: tokio::sync::Semaphore,
    /// Held by whoever reads a large text beside its core's loop.
    pub large_texts: tokio::sync::Semaphore,
    /// What pools of passed-through roles log in with.
    pub proofs: Proofs,
    /// When the process began.
    pub started: std::time::SystemTime,
    next_session: AtomicU64,
}

/// A change of definitions that is under way, from before it is sent to a server until its transaction has ended.
pub struct Changing {
    shared: Arc<Shared>,
    /// What it does to the code behind names.
    pub behind: Behind,
    /// Its tables, once it has given way to others.
    pub drain: Option<Drain>,
}

impl Changing {
    /// It begins.
    pub fn new(shared: &Arc<Shared>, behind: Behind) -> Self {
        shared.changing.fetch_add(1, Ordering::SeqCst);
        Self {
            shared: Arc::clone(shared),
            behind,
            drain: None,
        }
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        // Whether it came to anything is not asked.
        self.shared.definitions_changed(self.behind);
        self.shared.changing.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Changed definitions are being committed on several shards. Whoever sees that none are sees their epoch as well.
pub struct CommittingChange {
    shared: Arc<Shared>,
    behind: Behind,
}

impl Drop for CommittingChange {
    fn drop(&mut self) {
        self.shared.definitions_changed(self.behind);
        self.shared
            .committing_changes
            .fetch_sub(1, Ordering::SeqCst);
    }
}

impl Changing {
    /// Its commit begins.
    pub fn commits(&self) -> CommittingChange {
        let shared = Arc::clone(&self.shared);
        shared.committing_changes.fetch_add(1, Ordering::SeqCst);
        CommittingChange {
            shared,
            behind: self.behind,
        }
    }
}

/// A session holds connections to several servers, or waits for one more, as long as this lives.
pub struct Spread(Arc<Shared>);

impl Spread {
    /// It begins.
    pub fn new(shared: &Arc<Shared>) -> Self {
        shared.spread.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(shared))
    }
}

impl Drop for Spread {
    fn drop(&mut self) {
        self.0.spread.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    /// Whether a session of this router holds connections to several servers, or waits for one more. If none does, no
    /// deadlock over shards passes through this router.
    pub fn is_any_spread(&self) -> bool {
        self.spread.load(Ordering::SeqCst) > 0
    }

    /// Whether changed definitions are just being committed.
    pub fn is_committing_change(&self) -> bool {
        self.committing_changes.load(Ordering::SeqCst) > 0
    }

    /// Whether a client is changing definitions.
    pub fn is_changing(&self) -> bool {
        self.changing.load(Ordering::SeqCst) > 0
    }

    /// Definitions are others now.
    pub fn definitions_changed(&self, behind: Behind) {
        if behind.is_asked(self.code_epoch.load(Ordering::SeqCst)) {
            self.code_epoch.fetch_add(1, Ordering::SeqCst);
        }
        self.schema_epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// The shared state of `mail.len()` cores.
    pub fn new(
        (topology, prober): (Topology, Option<Prober>),
        stand_in: StandIn,
        mail: Vec<mpsc::UnboundedSender<Mail>>,
        life: watch::Receiver<Life>,
        orders: mpsc::UnboundedSender<Order>,
        other_process: OtherProcess,
    ) -> Arc<Self> {
        let given = topology.config.transactions.router_id.clone();
        let router = given.unwrap_or_else(|| {
            let random = format!("r{:016x}", rand::random::<u64>());
            config::Label::new(&random).expect("letters and digits make a label")
        });
        let limits = &topology.config.limits;
        let cancels = Cancels::new(limits.cancels.get());
        let password_checks = Throttle::new(limits.password_checks.get());
        let lines = Lines::new(limits.queue_length);
        let doubts = Arc::<Doubts>::default();
        doubts.set_clocks(topology.clocks());
        let topology = Arc::new(topology);
        Arc::new(Self {
            prober: Mutex::new(prober),
            current: AtomicUsize::new(Arc::as_ptr(&topology).addr()),
            config: RwLock::new(topology),
            limits: Mutex::default(),
            lines,
            outer: Mutex::default(),
            pressure: Pressure::default(),
            crowds: Crowds::default(),
            schema_epoch: AtomicU64::new(0),
            role_changes: AtomicU64::new(0),
            code_epoch: AtomicU64::new(0),
            code: Mutex::default(),
            altered: Default::default(),
            changing: AtomicUsize::new(0),
            committing_changes: AtomicUsize::new(0),
            stand_in,
            clients: AtomicU32::new(0),
            logins: AtomicU32::new(0),
            shed_clients: AtomicU64::new(0),
            mail,
            life,
            other_process,
            router,
            doubts,
            finishing: Arc::default(),
            held: Arc::default(),
            models: Mutex::default(),
            standing_by: Mutex::default(),
            seen: Mutex::default(),
            told: Mutex::default(),
            welcomes: Arc::default(),
            sequences: Sequences::default(),
            swept: watch::Sender::default(),
            emptied: tokio::sync::broadcast::Sender::new(16),
            left_alone: Mutex::default(),
            reloads: watch::Sender::default(),
            orders,
            consoles: AtomicU32::new(0),
            spread: AtomicUsize::new(0),
            stuck: tokio::sync::Notify::default(),
            contention: Contention::default(),
            drains: Arc::default(),
            notifiers: Arc::default(),
            gates: Gates::default(),
            cancels,
            cancel_buckets: Buckets::default(),
            password_checks,
            wrong_passwords: WrongPasswords::default(),
            large_plans: tokio::sync::Semaphore::new(1),
            large_texts: tokio::sync::Semaphore::new(1),
            proofs: Proofs::default(),
            started: std::time::SystemTime::now(),
            next_session: AtomicU64::new(1),
        })
    }

    /// Has recovery leave a database, and stay out of it for as long as it takes to drop or rename it on all shards.
    pub fn leave_alone(&self, database: &Arc<str>) {
        let mut left = self
            .left_alone
            .lock()
            .expect("nobody panics while holding it");
        left.retain(|_, since| since.elapsed() < LEFT_ALONE);
        left.insert(Arc::clone(database), Instant::now());
        drop(left);
        // None where there is no recovery.
        let _ = self.emptied.send(Arc::clone(database));
    }

    /// Whether recovery stays out of a database.
    pub fn is_left_alone(&self, database: &str) -> bool {
        let left = self
            .left_alone
            .lock()
            .expect("nobody panics while holding it");
        let since = left.get(database);
        since.is_some_and(|since| since.elapsed() < LEFT_ALONE)
    }

    /// The configuration in force.
    pub fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.config.read().expect("nobody panics while holding it"))
    }

    /// Whether this configuration is in force: no other one lies where it does while it is held.
    pub fn is_current(&self, topology: &Arc<Topology>) -> bool {
        self.current.load(Ordering::Acquire) == Arc::as_ptr(topology).addr()
    }

    /// Puts a new configuration in force; sessions see it at their next request.
    /// `prober` is the one that watches its servers, if it is a new one.
    pub fn set_topology(&self, topology: Topology, prober: Option<Prober>) {
        self.doubts.set_clocks(topology.clocks());
        let limits = &topology.config.limits;
        self.cancels.delivery.set(limits.cancels.get());
        self.password_checks.set(limits.password_checks.get());
        self.lines.set_max(limits.queue_length);
        crate::log::reload(&topology.config.logging, limits.log_rate.get());
        let topology = Arc::new(topology);
        let mut config = self.config.write().expect("nobody panics while holding it");
        let place = Arc::as_ptr(&topology).addr();
        *config = topology;
        self.current.store(place, Ordering::Release);
        drop(config);
        if prober.is_some() {
            let mut kept = self.prober.lock().expect("nobody panics while holding it");
            let before = std::mem::replace(&mut *kept, prober);
            drop(kept);
            // Whoever still works by the old configuration knows what was known last.
            drop(before);
        }
        self.forget_models();
        self.reloads.send_modify(|count| *count += 1);
        for core in &self.mail {
            // A core that is gone needs no configuration.
            let _ = core.send(Mail::Reload);
        }
    }

    /// Asks every core and gathers their answers in the order of cores. A core that
    /// has ended has none.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl Fn(&Rc<Core>) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let mut asked = Vec::new();
        for core in &self.mail {
            let (answer, answered) = oneshot::channel();
            let question = question.clone();
            let ask = move |core: &Rc<Core>| {
                // Whoever asked may have gone.
                let _ = answer.send(question(core));
            };
            if core.send(Mail::Ask(Box::new(ask))).is_ok() {
                asked.push(answered);
            }
        }
        let mut answers = Vec::new();
        for answered in asked {
            answers.extend(answered.await);
        }
        answers
    }

    /// A number that no other session of this process has.
    pub fn session_number(&self) -> u64 {
        self.next_session.fetch_add(1, Ordering::Relaxed)
    }

    /// The limits that a pool shares with others, as the configuration has them now.
    pub(super) fn outer(&self, topology: &Topology, key: &PoolKey) -> Outer {
        let pool = &topology.config.pool;
        let database = topology.config.database(topology.client_database(key));
        let database = database.and_then(|database| database.max_per_server);
        let mut limits = self.outer.lock().expect("nobody panics while holding it");
        let mut limit = |key: OuterKey, max: u32| {
            let limit = limits.entry(key).or_insert_with(|| Limit::new(max));
            if limit.max() != max {
                limit.set_max(max);
            }
            Arc::clone(limit)
        };
        // Without a limit they are counted, too, because a reload may bring one.
        let most = |max: Option<NonZeroU32>| max.map_or(u32::MAX, NonZeroU32::get);
        let server = limit(OuterKey::Server(key.endpoint), most(pool.max_per_server));
        let name = OuterKey::Database(key.endpoint, key.database.clone());
        Outer {
            open: vec![server, limit(name, most(database))],
            opening: Some(limit(OuterKey::Opening(key.endpoint), pool.opening.get())),
        }
    }

    /// What the cores' pools of one key share: how many connections there may be, and how many requests may wait.
    pub(super) fn limit(&self, key: &PoolKey, (max, queue): (u32, u32), pools: usize) -> Bounds {
        let mut limits = self.limits.lock().expect("nobody panics while holding it");
        if limits.len() > 2 * pools && !limits.contains_key(key) {
            limits.retain(|_, (limit, _)| Arc::strong_count(limit) > 1);
            let mut outer = self.outer.lock().expect("nobody panics while holding it");
            outer.retain(|_, limit| Arc::strong_count(limit) > 1);
        }
        let new = || (Limit::new(max), self.lines.line(queue));
        let (limit, line) = limits.entry(key.clone()).or_insert_with(new);
        if limit.max() != max {
            limit.set_max(max);
        }
        line.set_max(queue);
        (Arc::clone(limit), Arc::clone(line))
    }
}

/// What is limited besides single pools.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum OuterKey {
    /// Connections to a server.
    Server(EndpointId),
    /// Connections to a database of a server, by its name there.
    Database(EndpointId, String),
    /// Connections to a server that are being opened.
    Opening(EndpointId),
}
