//! What the sessions of one core share: configuration, pools, statements, and who
//! is connected.
//!
//! A [`Core`] never leaves its thread. What cores share with each other is in
//! [`Shared`]: limits, the configuration in force, and a mailbox for each core.

pub mod altered;
mod shared;

mod held;

mod roles;

mod cancel_secret;
mod cancels;
mod common;
pub mod drains;
mod entry;
pub mod gates;

mod named_settings;
mod notifiers;
mod number;

mod sessions;

mod pools;

pub mod primaries;

pub mod clock;
pub mod code;
pub mod goodbye;
pub mod lists;
pub mod notes;
pub mod place;
pub mod welcomes;

mod knowledge;

mod models;

use self::clock::{Overdue, Verdict};
use self::common::Common;
use self::lists::Lists;
use self::notes::Notes;
use self::welcomes::Welcomes;
use crate::config;
use crate::control::Control;
use crate::metrics::Metrics;
use crate::model::DatabaseModel;
use crate::rules::RuleSet;
use crate::rules::survey::Survey;
use crate::statements::environment::Environments;
use crate::statements::names::Interner;
use crate::statements::shapes::Shapes;
use crate::throttle::CancelTicket;
use crate::topology::PoolKey;
use mothership_plan::PlanContext;
use mothership_pool::pool::Pool;
use mothership_pool::wire::Address;
use mothership_proto::auth::KeyCache;
use named_settings::NamedSettings;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

pub use cancel_secret::CancelSecret;
pub use cancels::{cancel_each, cancel_entry};
pub use entry::{Attempt, Entry, LoginNames, Queued, SessionIdentity, Working, Yielding};
pub use held::{Full, Holding, WaitingTotals};
pub use knowledge::Age;
pub use notifiers::{Notifier, Notifiers};
pub use number::ClientNumber;
pub use roles::watch_roles;
pub use sessions::Sessions;
pub use shared::{Changing, Shared, Spread};

/// A server connection on loan to a session.
pub type Lease = mothership_pool::pool::Lease<Notes>;

/// Buffers and lists that a core keeps for the next request.
const KEPT: usize = 8;

/// What the process is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Serve.
    Serving,
    /// Serve, and say that it will end: no longer ready, so that nobody is sent here any more.
    Announced,
    /// Another process takes whoever is new. Wait until the clients have left by themselves.
    HandedOver,
    /// Take nobody new and wait until the clients have left by themselves.
    Closing,
    /// Take nobody new, let transactions end, say goodbye to idle clients.
    Draining,
    /// End now.
    Ending,
}

impl Life {
    /// Whoever connects is accepted.
    pub fn accepts(self) -> bool {
        matches!(self, Life::Serving | Life::Announced)
    }

    /// Whoever was accepted may log in.
    pub fn lets_in(self) -> bool {
        self.accepts() || self == Life::HandedOver
    }
}

/// A message from another core.
pub enum Mail {
    /// Cancel what this session does, if the secret is right.
    Cancel {
        /// Place of the session in the core's table.
        slot: usize,
        /// What the client sent.
        secret: Vec<u8>,
        /// Its place among those that are under way.
        ticket: CancelTicket,
    },
    /// The configuration changed.
    Reload,
    /// A port to accept clients on, until the process shall take nobody new.
    Listen(std::net::TcpListener),
    /// A client of the unix socket, which only one core listens to.
    Client(std::os::unix::net::UnixStream),
    /// Something to be done with the core's own state.
    Ask(Question),
}

/// What a core is asked; it sends its answer itself.
pub type Question = Box<dyn FnOnce(&Rc<Core>) + Send>;

/// What a console asks of the whole process.
pub enum Order {
    /// Read the configuration again; the answer says what waits for a restart, or what is wrong.
    Reload(oneshot::Sender<Result<Vec<config::Change>, String>>),
    /// End in this way.
    Shutdown(Life),
}

/// The numbers of a set of rules and of a model, and what they come to together.
type Surveyed = ((u64, u64), Rc<Survey>);

/// The state of one core.
pub struct Core {
    /// Its number.
    pub index: usize,
    /// What it shares with the others.
    pub shared: Arc<Shared>,
    /// Prepared statements of its clients.
    pub interner: Interner,
    /// What statements of its sessions are analysed by.
    pub environments: Environments,
    /// A client was not told its number from a sequence, because its server may remember those of others.
    pub numbers_asked: Cell<bool>,
    /// How many changes of what roles and databases begin with its pools know of.
    altered: Cell<u64>,
    /// What its statements have in common.
    pub shapes: Shapes,
    /// Its sessions.
    pub sessions: RefCell<Sessions>,
    /// Answers for new clients: what a server reports at login.
    pub welcomes: Welcomes,
    /// The router's own questions.
    pub control: Control,
    /// What catalogs say about rules, by the numbers of both, the newest last.
    surveys: RefCell<Vec<Surveyed>>,
    /// One reading of a database's catalog at a time.
    loading: RefCell<HashMap<String, Rc<tokio::sync::Mutex<()>>>>,
    /// When the catalog of a database was last read ahead of need; nothing while it is.
    ahead: RefCell<HashMap<String, Option<std::time::Instant>>>,
    /// What the process is told to do.
    pub life: Cell<Life>,
    /// A session has left.
    pub left: tokio::sync::Notify,
    /// What happened on it.
    pub metrics: Metrics,
    /// No request is taken from clients (SUSPEND).
    pub suspended: Cell<bool>,
    /// What plans of its sessions depend on: equal ones are one, which is compared faster.
    contexts: RefCell<Vec<Weak<PlanContext>>>,
    /// Settings of the application's own that statements have named, the newest last: servers list them nowhere.
    pub custom_settings: RefCell<NamedSettings>,
    /// The names that clients have logged in with.
    pub login_names: Common<LoginNames>,
    /// Our ends of clients' connections.
    pub local_addresses: Common<Address>,
    scratch: RefCell<Vec<Vec<u8>>>,
    /// Lists of inboxes that nobody uses.
    lists: RefCell<Vec<Lists>>,
    pools: RefCell<HashMap<PoolKey, Rc<Pool<Notes>>>>,
    /// How many of them were forgotten: whoever keeps a pool has to ask again when this changes.
    forgotten: Cell<u64>,
    keys: Rc<RefCell<KeyCache>>,
}

/// Derived SCRAM keys that a core remembers.
const DERIVED_KEYS: usize = 1024;

impl Core {
    /// The core of this thread.
    pub fn new(index: usize, shared: Arc<Shared>) -> Rc<Self> {
        let suspended = shared.gates.read().suspended;
        let welcomes = Welcomes::of(&shared.welcomes);
        Rc::new(Self {
            index,
            metrics: Metrics::default(),
            suspended: Cell::new(suspended),
            shared,
            interner: Interner::default(),
            environments: Environments::default(),
            numbers_asked: Cell::new(false),
            altered: Cell::new(0),
            shapes: Shapes::default(),
            sessions: RefCell::new(Sessions::new()),
            welcomes,
            control: Control::default(),
            surveys: RefCell::default(),
            loading: RefCell::default(),
            ahead: RefCell::default(),
            life: Cell::new(Life::Serving),
            left: tokio::sync::Notify::new(),
            contexts: RefCell::default(),
            custom_settings: RefCell::default(),
            login_names: Common::default(),
            local_addresses: Common::default(),
            scratch: RefCell::default(),
            lists: RefCell::default(),
            pools: RefCell::default(),
            forgotten: Cell::new(0),
            keys: Rc::new(RefCell::new(KeyCache::new(DERIVED_KEYS))),
        })
    }

    /// Held by whoever reads the catalog of a database.
    pub fn loading(&self, database: &str) -> Rc<tokio::sync::Mutex<()>> {
        let mut loading = self.loading.borrow_mut();
        Rc::clone(loading.entry(database.to_owned()).or_default())
    }

    /// What the catalog of a model says about rules.
    pub fn survey(&self, rules: &RuleSet, model: &DatabaseModel) -> Rc<Survey> {
        /// Databases and their catalogs that sessions use at the same time.
        const KEPT: usize = 16;
        let mut surveys = self.surveys.borrow_mut();
        let key = (rules.number, model.version);
        if let Some((_, known)) = surveys.iter().find(|(known, _)| *known == key) {
            return Rc::clone(known);
        }
        if surveys.len() >= KEPT {
            surveys.remove(0);
        }
        let survey = Rc::new(Survey::new(rules, model.catalog()));
        surveys.push((key, Rc::clone(&survey)));
        survey
    }

    /// The one of its sessions' contexts that is equal to this.
    pub fn share_context(&self, context: PlanContext) -> Rc<PlanContext> {
        /// Beyond, sessions have their own.
        const MAX_CONTEXTS: usize = 64;
        let mut contexts = self.contexts.borrow_mut();
        let mut known = contexts.iter().filter_map(Weak::upgrade);
        if let Some(known) = known.find(|known| **known == context) {
            return known;
        }
        let context = Rc::new(context);
        contexts.retain(|known| known.strong_count() > 0);
        if contexts.len() < MAX_CONTEXTS {
            contexts.push(Rc::downgrade(&context));
        }
        context
    }

    /// A buffer for one message.
    pub fn take_scratch(&self) -> Vec<u8> {
        self.scratch.borrow_mut().pop().unwrap_or_default()
    }

    /// Lists for an inbox.
    pub fn take_lists(&self) -> Lists {
        self.lists.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives lists back; large ones are freed.
    pub fn give_lists(&self, given: Lists) {
        let mut lists = self.lists.borrow_mut();
        if given.is_small() && lists.len() < KEPT {
            lists.push(given);
        }
    }

    /// Gives a buffer back; large ones are freed.
    pub fn give_scratch(&self, mut buffer: Vec<u8>) {
        const LARGE: usize = 64 * 1024;
        let mut scratch = self.scratch.borrow_mut();
        if buffer.capacity() <= LARGE && scratch.len() < KEPT {
            buffer.clear();
            scratch.push(buffer);
        }
    }

    /// Tells every session what the process is told to do.
    pub fn set_life(&self, life: Life) {
        let before = self.life.replace(life);
        if (before == Life::HandedOver) != (life == Life::HandedOver) {
            // Another process needs connections to the same servers.
            self.reload();
        }
        self.wake_all();
    }

    /// Stops taking requests, or takes them again.
    pub fn set_suspended(&self, suspended: bool) {
        self.suspended.set(suspended);
        self.wake_all();
    }

    fn wake_all(&self) {
        for entry in self.sessions.borrow().iter() {
            entry.wake();
        }
    }

    /// True if nobody is connected but administrators.
    pub fn only_consoles(&self) -> bool {
        let sessions = self.sessions.borrow();
        sessions.iter().all(|entry| entry.who.is_console)
    }

    /// Of the sessions that wait for the rest of a message: how many bytes the one holds that holds most, and which it is.
    pub fn largest_unfinished(&self) -> Option<(u32, u64)> {
        let sessions = self.sessions.borrow();
        let held = sessions.iter();
        let held = held.map(|entry| (entry.pulse.unfinished(), entry.who.number));
        held.filter(|(bytes, _)| *bytes > 0).max()
    }

    /// Ends that session, if it still waits for the rest.
    pub fn end_unfinished(&self, number: u64) {
        for entry in self.sessions.borrow().iter() {
            if entry.who.number == number && entry.pulse.unfinished() > 0 {
                entry.pulse.end(Overdue::Hoarding);
                entry.wake();
            }
        }
    }

    /// Looks for sessions that do the same for too long. Returns when to look again.
    pub fn look_at_clocks(self: &Rc<Self>) -> Duration {
        let terms = self.shared.topology().terms();
        if terms.are_none() {
            return terms.tick();
        }
        let now = std::time::Instant::now();
        for entry in self.sessions.borrow().iter() {
            if entry.who.is_console {
                continue;
            }
            match entry.pulse.look(now, entry.is_waiting(), &terms) {
                Verdict::Fine => {}
                Verdict::Cancel => {
                    entry.seen.timed_out.set(true);
                    cancels::deliver_cancels(self, entry, Rc::new(()));
                }
                Verdict::End(_) => entry.wake(),
            }
        }
        terms.tick()
    }
}

/// Iterations of the verifiers that unknown users are measured against.
pub const STAND_IN_ITERATIONS: NonZeroU32 = mothership_proto::auth::secret::DEFAULT_ITERATIONS;
