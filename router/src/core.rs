//! What the sessions of one core share: configuration, pools, statements, and who
//! is connected.
//!
//! A [`Core`] never leaves its thread. What cores share with each other is in
//! [`Shared`]: limits, the configuration in force, and a mailbox for each core.

use crate::commit::doubt::Doubts;
use crate::commit::recover::Sweep;
use crate::config::{self, Config};
use crate::console::gates::Gates;
use crate::control::Control;
use crate::metrics::Metrics;
use crate::metrics::tally::Seen;
use crate::session::names::Interner;
use crate::session::notes::Notes;
use crate::world::World;
use mothership_pool::connection::CancelTarget;
use mothership_pool::endpoint::{Address, Endpoint, EndpointId};
use mothership_pool::health::{Health, Prober};
use mothership_pool::limit::Limit;
use mothership_pool::open::{OpenSettings, Opener};
use mothership_pool::pool::{Pool, PoolSettings};
use mothership_pool::wire::Keepalive;
use mothership_proto::auth::{Credentials, KeyCache, LoginRules, Secret, StandIn};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::task::Waker;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// A server connection on loan to a session.
pub type Lease = mothership_pool::pool::Lease<Notes>;

/// Which pool: one server, one user, one database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolKey {
    /// The server.
    pub endpoint: EndpointId,
    /// The role on the server.
    pub user: String,
    /// The database on the server.
    pub database: String,
}

/// What the process is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Serve.
    Serving,
    /// Take nobody new and wait until the clients have left by themselves.
    Closing,
    /// Take nobody new, let transactions end, say goodbye to idle clients.
    Draining,
    /// End now.
    Ending,
}

/// A message from another core.
pub enum Mail {
    /// Cancel what this session does, if the secret is right.
    Cancel {
        /// Place of the session in the core's table.
        slot: usize,
        /// What the client sent.
        secret: Vec<u8>,
    },
    /// The configuration changed.
    Reload,
    /// A client of the unix socket, which only one core listens to.
    Client(std::os::unix::net::UnixStream),
    /// Something to be done with the core's own state.
    Ask(Question),
}

/// What a core is asked; it sends its answer itself.
pub type Question = Box<dyn FnOnce(&Rc<Core>) + Send>;

/// What a console asks of the whole process.
pub enum Order {
    /// Read the configuration again; the answer says what changed, or what is wrong.
    Reload(oneshot::Sender<Result<Vec<config::Change>, String>>),
    /// End in this way.
    Shutdown(Life),
}

/// What all cores share.
pub struct Shared {
    config: RwLock<Arc<Topology>>,
    limits: Mutex<HashMap<PoolKey, Arc<Limit>>>,
    /// Goes up with every change of definitions that went through this router.
    pub schema_epoch: AtomicU64,
    /// What unknown users are measured against, so that they look like known ones.
    pub stand_in: StandIn,
    /// Clients logged in.
    pub clients: AtomicU32,
    /// Connections in login.
    pub logins: AtomicU32,
    /// One mailbox for each core.
    pub mail: Vec<mpsc::UnboundedSender<Mail>>,
    /// What the process is told to do.
    pub life: watch::Receiver<Life>,
    /// This router's part in the names of prepared transactions.
    pub router: config::Label,
    /// Committed parts that their shards have not finished.
    pub doubts: Arc<Doubts>,
    /// What is known of each database, by the clients' name.
    worlds: Mutex<HashMap<String, Arc<World>>>,
    /// What the log was told of each database, so that it is told once.
    told: Mutex<HashMap<String, Vec<String>>>,
    /// What recovery found when it looked last.
    pub swept: watch::Sender<Sweep>,
    /// To whoever supervises the process.
    pub orders: mpsc::UnboundedSender<Order>,
    /// Asks the servers for their health.
    prober: Mutex<Option<Prober>>,
    /// Consoles open.
    pub consoles: AtomicU32,
    /// Which databases are paused or disabled.
    pub gates: Gates,
    /// When the process began.
    pub started: std::time::SystemTime,
    next_session: AtomicU64,
}

impl Shared {
    /// The shared state of `mail.len()` cores.
    pub fn new(
        (topology, prober): (Topology, Option<Prober>),
        stand_in: StandIn,
        mail: Vec<mpsc::UnboundedSender<Mail>>,
        life: watch::Receiver<Life>,
        orders: mpsc::UnboundedSender<Order>,
    ) -> Arc<Self> {
        let given = topology.config.transactions.router_id.clone();
        let router = given.unwrap_or_else(|| {
            let random = format!("r{:016x}", rand::random::<u64>());
            config::Label::new(&random).expect("letters and digits make a label")
        });
        let doubts = Arc::<Doubts>::default();
        doubts.set_clocks(topology.clocks());
        Arc::new(Self {
            prober: Mutex::new(prober),
            config: RwLock::new(Arc::new(topology)),
            limits: Mutex::default(),
            schema_epoch: AtomicU64::new(0),
            stand_in,
            clients: AtomicU32::new(0),
            logins: AtomicU32::new(0),
            mail,
            life,
            router,
            doubts,
            worlds: Mutex::default(),
            told: Mutex::default(),
            swept: watch::Sender::default(),
            orders,
            consoles: AtomicU32::new(0),
            gates: Gates::default(),
            started: std::time::SystemTime::now(),
            next_session: AtomicU64::new(1),
        })
    }

    /// The configuration in force.
    pub fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.config.read().expect("nobody panics while holding it"))
    }

    /// Puts a new configuration in force; sessions see it at their next request.
    /// `prober` is the one that watches its servers, if it is a new one.
    pub fn set_topology(&self, topology: Topology, prober: Option<Prober>) {
        self.doubts.set_clocks(topology.clocks());
        *self.config.write().expect("nobody panics while holding it") = Arc::new(topology);
        if prober.is_some() {
            let mut kept = self.prober.lock().expect("nobody panics while holding it");
            let before = std::mem::replace(&mut *kept, prober);
            drop(kept);
            // Whoever still works by the old configuration knows what was known last.
            drop(before);
        }
        self.forget_worlds();
        for core in &self.mail {
            // A core that is gone needs no configuration.
            let _ = core.send(Mail::Reload);
        }
    }

    /// What is known of a database now.
    pub fn world(&self, database: &str) -> Option<Arc<World>> {
        let worlds = self.worlds.lock().expect("nobody panics while holding it");
        worlds.get(database).map(Arc::clone)
    }

    /// Puts newer knowledge in force, and tells the log what is new in it for administrators.
    pub fn set_world(&self, database: &str, world: Arc<World>) {
        let mut worlds = self.worlds.lock().expect("nobody panics while holding it");
        let newer = worlds
            .get(database)
            .is_none_or(|known| known.version < world.version);
        if !newer {
            return;
        }
        worlds.insert(database.to_owned(), Arc::clone(&world));
        drop(worlds);
        let found = world.findings();
        let mut told = self.told.lock().expect("nobody panics while holding it");
        let before = told.insert(database.to_owned(), found.clone());
        drop(told);
        let before = before.unwrap_or_default();
        for finding in found.iter().filter(|finding| !before.contains(finding)) {
            tracing::warn!(database, finding, "the shards are not as declared");
        }
        for finding in before.iter().filter(|finding| !found.contains(finding)) {
            tracing::info!(database, finding, "the shards are as declared again");
        }
    }

    /// What is known of all databases, by the clients' names.
    pub fn worlds(&self) -> Vec<(String, Arc<World>)> {
        let worlds = self.worlds.lock().expect("nobody panics while holding it");
        let mut all: Vec<_> = worlds
            .iter()
            .map(|(n, w)| (n.clone(), Arc::clone(w)))
            .collect();
        drop(worlds);
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// The databases whose catalog was read.
    pub fn known_databases(&self) -> Vec<String> {
        let worlds = self.worlds.lock().expect("nobody panics while holding it");
        worlds.keys().cloned().collect()
    }

    /// Forgets what is known of all databases: definitions or declarations changed.
    pub fn forget_worlds(&self) {
        self.worlds
            .lock()
            .expect("nobody panics while holding it")
            .clear();
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

    fn limit(&self, key: &PoolKey, max: u32) -> Arc<Limit> {
        let mut limits = self.limits.lock().expect("nobody panics while holding it");
        let limit = limits.entry(key.clone()).or_insert_with(|| Limit::new(max));
        if limit.max() != max {
            limit.set_max(max);
        }
        Arc::clone(limit)
    }
}

/// One server of a shard, ready to be connected to.
#[derive(Clone, Debug)]
pub struct Server {
    /// Number, address, encryption.
    pub endpoint: Arc<Endpoint>,
    /// What the configuration says it is.
    pub role: config::Role,
    /// Rules of login.
    pub login: LoginRules,
}

/// One shard with its servers.
#[derive(Clone, Debug)]
pub struct ShardServers {
    /// Its name.
    pub name: String,
    /// Its servers in the order of the file.
    pub servers: Vec<Server>,
}

impl ShardServers {
    /// The server that is declared to take writes, or the first one.
    pub fn declared_primary(&self) -> &Server {
        self.servers
            .iter()
            .find(|server| server.role == config::Role::Primary)
            .unwrap_or(&self.servers[0])
    }
}

/// A configuration with what follows from it: TLS settings read, servers numbered.
pub struct Topology {
    /// The file.
    pub config: Arc<Config>,
    /// The shards in the order of the file.
    pub shards: Vec<ShardServers>,
    /// Index of the home shard.
    pub home: usize,
    /// Some table is declared, so that statements are planned.
    pub declared: bool,
    /// What the logins of configured users are measured against.
    pub secrets: HashMap<String, Secret>,
    /// TLS towards clients.
    pub tls: Option<crate::tls::Offer>,
    /// What is known of the servers; its groups are the shards, in order.
    pub health: Arc<Health>,
    /// The number of the next server that was not there before.
    next_endpoint: u32,
}

/// Why a configuration cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// A certificate or key cannot be used.
    #[error("{what} {path:?}")]
    Tls {
        /// Which one.
        what: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Servers cannot be watched.
    #[error("start to watch the servers")]
    Watch(#[source] std::io::Error),
}

impl Topology {
    /// Reads certificates, prepares secrets, numbers servers and starts to watch them.
    /// A server keeps its number as long as nothing about its connections changes,
    /// and no number is given twice: pools go by it.
    pub fn new(
        config: Config,
        stand_in: &StandIn,
        before: Option<&Topology>,
    ) -> Result<(Self, Option<Prober>), TopologyError> {
        let mut next = before.map_or(0, |before| before.next_endpoint);
        let mut shards = Vec::new();
        for shard in &config.shards {
            let mut servers = Vec::new();
            for server in &shard.servers {
                servers.push(Server {
                    endpoint: Arc::new(Endpoint {
                        id: before
                            .and_then(|before| before.number_of(&shard.name, server))
                            .unwrap_or_else(|| {
                                next += 1;
                                EndpointId(next - 1)
                            }),
                        address: address(&server.address.value),
                        encryption: crate::tls::towards_server(server)?,
                    }),
                    role: server.role.value,
                    login: LoginRules {
                        require_channel_binding: server.channel_binding
                            == config::ChannelBinding::Require,
                        ..LoginRules::default()
                    },
                });
            }
            shards.push(ShardServers {
                name: shard.name.as_str().to_owned(),
                servers,
            });
        }
        let home = config
            .shards
            .iter()
            .position(|shard| shard.home)
            .unwrap_or(0);
        let tls = crate::tls::towards_clients(&config.tls)?;
        let secrets = config.users.iter().filter_map(|user| {
            let secret = crate::session::login::prepare_secret(user, stand_in)?;
            Some((user.name.value.as_str().to_owned(), secret))
        });
        let secrets = secrets.collect();
        let (health, prober) =
            crate::group::watch(&config, &shards, before).map_err(TopologyError::Watch)?;
        let topology = Self {
            secrets,
            health,
            next_endpoint: next,
            declared: crate::world::is_declared(&config),
            config: Arc::new(config),
            shards,
            home,
            tls,
        };
        Ok((topology, prober))
    }

    /// The number of a server that is connected to in the same way.
    fn number_of(&self, shard: &config::Label, server: &config::Server) -> Option<EndpointId> {
        let same = |known: &config::Server| {
            let judged = config::Server {
                role: known.role.clone(),
                weight: known.weight,
                labels: known.labels.clone(),
                ..server.clone()
            };
            judged == *known
        };
        let mut shards = self.config.shards.iter();
        let shard = shards.position(|known| known.name == *shard)?;
        let servers = &self.config.shards[shard].servers;
        let place = servers.iter().position(same)?;
        Some(self.shards[shard].servers[place].endpoint.id)
    }
}

fn address(address: &config::ServerAddress) -> Address {
    match address {
        config::ServerAddress::Tcp { host, port } => Address::Tcp(host.clone(), *port),
        config::ServerAddress::Unix(path) => Address::Unix(path.clone()),
    }
}

/// Who a session is; does not change while it lives.
#[derive(Clone, Debug)]
pub struct Who {
    /// Its number, by which KILL_CLIENT names it.
    pub number: u64,
    /// The user who logged in.
    pub user: String,
    /// The role on the servers.
    pub server_user: String,
    /// The database by the client's name.
    pub database: String,
    /// The client's end.
    pub remote: Option<mothership_pool::wire::Address>,
    /// Our end.
    pub local: Option<mothership_pool::wire::Address>,
    /// TLS version and cipher; none in plain text.
    pub tls: Option<String>,
    /// When it logged in.
    pub since: std::time::Instant,
    /// It talks to the router itself.
    pub is_console: bool,
}

/// A session as others on its core see it.
pub struct Entry {
    /// What a cancel must know.
    pub secret: Vec<u8>,
    /// What works for the session at this moment.
    pub working: RefCell<Vec<(Arc<Endpoint>, Arc<CancelTarget>)>>,
    /// Told to stop waiting for a server connection.
    pub cancelled: tokio::sync::Notify,
    /// True while it waits for one.
    pub waiting: Cell<bool>,
    /// An administrator wants it gone.
    pub killed: Cell<bool>,
    /// Who it is.
    pub who: Who,
    /// What it does.
    pub seen: Rc<Seen>,
    /// Its task, when it waits for its client.
    waker: RefCell<Option<Waker>>,
}

impl Entry {
    /// A session with this secret, which has done nothing yet.
    pub fn new(secret: Vec<u8>, who: Who) -> Rc<Self> {
        Rc::new(Self {
            who,
            seen: Rc::default(),
            secret,
            working: RefCell::default(),
            cancelled: tokio::sync::Notify::new(),
            waiting: Cell::new(false),
            killed: Cell::new(false),
            waker: RefCell::default(),
        })
    }

    /// Notes the task, so that [`Entry::wake`] finds it.
    pub fn watch(&self, cx: &std::task::Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(known) => known.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
    }

    /// Makes the session look at what it was told.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// The state of one core.
pub struct Core {
    /// Its number.
    pub index: usize,
    /// What it shares with the others.
    pub shared: Arc<Shared>,
    /// Prepared statements of its clients.
    pub interner: Interner,
    /// Its sessions.
    pub sessions: RefCell<Slab<Rc<Entry>>>,
    /// Answers for new clients: what a server reports at login.
    pub welcomes:
        RefCell<HashMap<crate::session::login::WelcomeKey, crate::session::login::Welcome>>,
    /// The router's own questions.
    pub control: Control,
    /// One reading of a database's catalog at a time.
    loading: RefCell<HashMap<String, Rc<tokio::sync::Mutex<()>>>>,
    /// What the process is told to do.
    pub life: Cell<Life>,
    /// A session has left.
    pub left: tokio::sync::Notify,
    /// What happened on it.
    pub metrics: Metrics,
    /// No request is taken from clients (SUSPEND).
    pub suspended: Cell<bool>,
    scratch: RefCell<Vec<Vec<u8>>>,
    pools: RefCell<HashMap<PoolKey, Rc<Pool<Notes>>>>,
    keys: Rc<RefCell<KeyCache>>,
}

/// Derived SCRAM keys that a core remembers.
const DERIVED_KEYS: usize = 1024;

impl Core {
    /// The core of this thread.
    pub fn new(index: usize, shared: Arc<Shared>) -> Rc<Self> {
        let suspended = shared.gates.read().suspended;
        Rc::new(Self {
            index,
            metrics: Metrics::default(),
            suspended: Cell::new(suspended),
            shared,
            interner: Interner::default(),
            sessions: RefCell::default(),
            welcomes: RefCell::default(),
            control: Control::default(),
            loading: RefCell::default(),
            life: Cell::new(Life::Serving),
            left: tokio::sync::Notify::new(),
            scratch: RefCell::default(),
            pools: RefCell::default(),
            keys: Rc::new(RefCell::new(KeyCache::new(DERIVED_KEYS))),
        })
    }

    /// Held by whoever reads the catalog of a database.
    pub fn loading(&self, database: &str) -> Rc<tokio::sync::Mutex<()>> {
        let mut loading = self.loading.borrow_mut();
        Rc::clone(loading.entry(database.to_owned()).or_default())
    }

    /// A buffer for one message.
    pub fn take_scratch(&self) -> Vec<u8> {
        self.scratch.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives a buffer back; large ones are freed.
    pub fn give_scratch(&self, mut buffer: Vec<u8>) {
        const KEPT: usize = 8;
        const LARGE: usize = 64 * 1024;
        let mut scratch = self.scratch.borrow_mut();
        if buffer.capacity() <= LARGE && scratch.len() < KEPT {
            buffer.clear();
            scratch.push(buffer);
        }
    }

    /// Tells every session what the process is told to do.
    pub fn set_life(&self, life: Life) {
        self.life.set(life);
        self.wake_all();
    }

    /// Stops taking requests, or takes them again.
    pub fn set_suspended(&self, suspended: bool) {
        self.suspended.set(suspended);
        self.wake_all();
    }

    fn wake_all(&self) {
        for (_, entry) in self.sessions.borrow().iter() {
            entry.wake();
        }
    }

    /// True if nobody is connected but administrators.
    pub fn only_consoles(&self) -> bool {
        let sessions = self.sessions.borrow();
        sessions.iter().all(|(_, entry)| entry.who.is_console)
    }

    /// The pool of a server, user and database; made when first asked for.
    pub fn pool(
        &self,
        topology: &Topology,
        server: &Server,
        key: PoolKey,
        credentials: &Credentials,
    ) -> Rc<Pool<Notes>> {
        if let Some(pool) = self.pools.borrow().get(&key) {
            return Rc::clone(pool);
        }
        let max = topology.pool_max(&key);
        let limit = self.shared.limit(&key, max);
        let opener = Opener::new(
            Arc::clone(&server.endpoint),
            key.user.clone(),
            key.database.clone(),
            credentials.clone(),
            server.login.clone(),
            topology.open_settings(),
            Rc::clone(&self.keys),
        );
        let pool = Pool::new(opener, limit, topology.pool_settings(max));
        if self.shared.gates.read().pauses(topology, &key) {
            pool.pause();
        }
        self.pools.borrow_mut().insert(key, Rc::clone(&pool));
        pool
    }

    /// Every pool of this core.
    pub fn pools(&self) -> Vec<(PoolKey, Rc<Pool<Notes>>)> {
        let pools = self.pools.borrow();
        pools
            .iter()
            .map(|(key, pool)| (key.clone(), Rc::clone(pool)))
            .collect()
    }

    /// Closes what lies idle for too long and forgets pools that nobody uses.
    pub fn maintain(&self) {
        let topology = self.shared.topology();
        let now = std::time::Instant::now();
        self.metrics.roll(now);
        let cores = self.shared.mail.len() as u32;
        let forget = topology.config.pool.forget_timeout.unwrap_or(Duration::MAX);
        for (key, pool) in self.pools() {
            let rested = now.saturating_duration_since(pool.last_used());
            let figures = pool.figures();
            let unused = figures.active + figures.opening + figures.waiting == 0;
            if unused && rested >= forget {
                self.pools.borrow_mut().remove(&key);
                continue;
            }
            pool.reap(now, topology.pool_min(&key).div_ceil(cores));
        }
    }

    /// Applies a new configuration to the pools that exist.
    pub fn reload(&self) {
        let topology = self.shared.topology();
        self.welcomes.borrow_mut().clear();
        self.control.forget();
        for (key, pool) in self.pools() {
            if topology.server(key.endpoint).is_none() {
                // What is on loan from it is closed by whoever gives it back last.
                self.pools.borrow_mut().remove(&key);
                continue;
            }
            let max = topology.pool_max(&key);
            self.shared.limit(&key, max);
            pool.set_settings(topology.pool_settings(max));
        }
    }
}

impl Topology {
    /// The most connections of a pool.
    pub fn pool_max(&self, key: &PoolKey) -> u32 {
        let user = self.config.user(&key.user).and_then(|user| user.pool_max);
        let database = self
            .config
            .database(&key.database)
            .and_then(|database| database.pool_max);
        user.or(database).unwrap_or(self.config.pool.max).get()
    }

    fn pool_min(&self, key: &PoolKey) -> u32 {
        let user = self.config.user(&key.user).and_then(|user| user.pool_min);
        let database = self
            .config
            .database(&key.database)
            .and_then(|database| database.pool_min);
        user.or(database).unwrap_or(self.config.pool.min)
    }

    /// The shard of a server and the server itself.
    pub fn server(&self, id: EndpointId) -> Option<(usize, &Server)> {
        self.shards.iter().enumerate().find_map(|(shard, servers)| {
            let server = servers.servers.iter().find(|s| s.endpoint.id == id)?;
            Some((shard, server))
        })
    }

    /// True if the pool serves clients of the database that they call `name`.
    pub fn pool_serves(&self, key: &PoolKey, name: &str) -> bool {
        self.server(key.endpoint)
            .is_some_and(|(shard, _)| self.database_on(name, shard) == key.database)
    }

    /// What clients call the database of a pool: the first declared one that means
    /// it, else the database by its own name.
    pub fn client_database<'a>(&'a self, key: &'a PoolKey) -> &'a str {
        let declared = self.config.databases.iter();
        let mut names = declared.map(|database| database.name.as_str());
        names
            .find(|name| self.pool_serves(key, name))
            .unwrap_or(&key.database)
    }

    /// The name on a shard's servers of the database that clients call `name`.
    pub fn database_on(&self, name: &str, shard: usize) -> String {
        let label = &self.config.shards[shard].name;
        match self.config.database(name) {
            Some(database) => database.name_on(label).as_str().to_owned(),
            None => name.to_owned(),
        }
    }

    /// Limits of opening a connection.
    pub fn open_settings(&self) -> OpenSettings {
        let pool = &self.config.pool;
        OpenSettings {
            timeout: pool.connect_timeout,
            lifetime: pool.lifetime.unwrap_or(Duration::from_secs(365 * 86_400)),
            user_timeout: pool.unacknowledged_timeout,
            keepalive: keepalive(pool.keepalive),
        }
    }

    fn pool_settings(&self, max: u32) -> PoolSettings {
        let pool = &self.config.pool;
        PoolSettings {
            min: pool.min,
            idle_timeout: pool.idle_timeout.unwrap_or(Duration::MAX),
            queue_length: pool.queue_length as usize,
            queue_timeout: pool.queue_timeout,
            join_timeout: pool.join_timeout,
            join_reserve: pool.join_reserve.of(max),
        }
    }
}

/// Keepalive that starts after `idle` of silence, with the system's other values.
pub fn keepalive(idle: Option<Duration>) -> Keepalive {
    Keepalive {
        idle,
        ..Keepalive::default()
    }
}

/// How a client's process number names its core and its place there.
///
/// 17 bits of slot, 10 of core, 4 of process; positive, because some drivers read
/// the number as signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientNumber {
    /// The router process, for several on one machine.
    pub process: u8,
    /// The core.
    pub core: usize,
    /// The place in the core's table.
    pub slot: usize,
}

impl ClientNumber {
    /// Most sessions of one core.
    pub const MAX_SLOT: usize = 1 << 17;

    /// The number as BackendKeyData carries it.
    pub fn encode(self) -> i32 {
        let process = i32::from(self.process & 0xf) << 27;
        process | (self.core as i32 & 0x3ff) << 17 | (self.slot as i32 & 0x1ffff)
    }

    /// Reads it back.
    pub fn decode(number: i32) -> Self {
        Self {
            process: (number >> 27) as u8 & 0xf,
            core: (number >> 17) as usize & 0x3ff,
            slot: number as usize & 0x1ffff,
        }
    }
}

/// Compares two secrets without telling by the time where they differ.
pub fn same_secret(a: &[u8], b: &[u8]) -> bool {
    subtle::ConstantTimeEq::ct_eq(a, b).into()
}

/// Iterations of the verifiers that unknown users are measured against.
pub const STAND_IN_ITERATIONS: NonZeroU32 = mothership_proto::auth::secret::DEFAULT_ITERATIONS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_number_finds_its_owner() {
        for (process, core, slot) in [(0, 0, 0), (15, 1023, 131_071), (3, 7, 12_345)] {
            let number = ClientNumber {
                process,
                core,
                slot,
            };
            assert!(number.encode() >= 0);
            assert_eq!(ClientNumber::decode(number.encode()), number);
        }
    }
}
