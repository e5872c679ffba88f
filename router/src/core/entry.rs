//! A session as others on its core see it.

use super::CancelSecret;
use super::clock::Pulse;
use super::shared::Spread;
use crate::commit::mark::Mark;
use crate::contention::Met;
use crate::metrics::tally::Seen;
use mothership_pool::connection::CancelTarget;
use mothership_pool::endpoint::Endpoint;
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

/// Who a session is; does not change while it lives.
#[derive(Clone, Debug)]
pub struct SessionIdentity {
    /// Its number, by which KILL_CLIENT names it.
    pub number: u64,
    /// As whom it logged in, and where.
    pub names: Arc<LoginNames>,
    /// The client's end.
    pub remote: Option<mothership_pool::wire::Address>,
    /// Our end, which most clients have in common.
    pub local: Option<Arc<mothership_pool::wire::Address>>,
    /// TLS version and cipher; none in plain text.
    pub tls: Option<Box<str>>,
    /// When it logged in.
    pub since: std::time::Instant,
    /// It talks to the router itself.
    pub is_console: bool,
}

/// The names of a login, which most clients have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LoginNames {
    /// The user who logged in.
    pub user: Arc<str>,
    /// The role on the servers.
    pub server_user: Arc<str>,
    /// The database by the client's name.
    pub database: Arc<str>,
}

/// A wait for a connection.
#[derive(Clone, Debug)]
pub struct Queued {
    /// The limit of its pool, as a number: all cores have the same.
    pub limit: usize,
    /// How many the pool may have.
    pub most: u32,
    /// Since when.
    pub since: std::time::Instant,
}

/// What somebody does who can undo it without its client's noticing. It is the first to give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its number, so that nobody undoes another one than was looked at.
    pub number: u64,
    /// When it began.
    pub began: Instant,
    /// So often the statement was undone before.
    pub undone: u8,
    /// It is a part of a transaction, whose earlier statements stay.
    pub is_part: bool,
    /// It has asked all its shards at once. The next attempt will not.
    pub at_once: bool,
}

/// Whether a session can undo what it does and do it again without its client's noticing. Then it gives way where others
/// and it wait for each other.
#[derive(Default)]
pub struct Yielding {
    /// The last attempt. Its number counts, so that nobody is asked to undo another one than was looked at.
    attempt: Cell<Option<Box<Attempt>>>,
    state: Cell<UndoState>,
    /// Whom the attempt has met that was asked to give way.
    met: Cell<Option<Met>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum UndoState {
    /// What it does cannot be undone unseen.
    #[default]
    Goes,
    /// It can.
    MayGive,
    /// It was asked to.
    Gives,
}

impl Yielding {
    /// An attempt begins that can be undone, with this number.
    pub fn begin(&self, attempt: impl FnOnce(u64) -> Attempt) {
        let number = self.last().map_or(0, |last| last.number + 1);
        self.attempt.set(Some(Box::new(attempt(number))));
        self.state.set(UndoState::MayGive);
        self.met.set(None);
    }

    /// It has ended, or can be undone no longer.
    pub fn end(&self) {
        self.state.set(UndoState::Goes);
    }

    /// The attempt under way, if it can be undone.
    pub fn attempt(&self) -> Option<Attempt> {
        self.last().filter(|_| self.state.get() != UndoState::Goes)
    }

    /// How long ago the last attempt began.
    pub fn elapsed(&self) -> Duration {
        self.last()
            .map_or(Duration::ZERO, |last| last.began.elapsed())
    }

    fn last(&self) -> Option<Attempt> {
        let last = self.attempt.take();
        let copy = last.as_deref().copied();
        self.attempt.set(last);
        copy
    }

    /// Asks the session to give way, if it is still at this attempt, in which it has met these; whether it is.
    pub fn ask(&self, attempt: u64, met: Met) -> bool {
        let same = self.attempt().is_some_and(|now| now.number == attempt);
        if same {
            self.state.set(UndoState::Gives);
            self.met.set(Some(met));
        }
        same
    }

    /// Whom the attempt had met when it was asked to give way.
    pub fn met(&self) -> Option<Met> {
        self.met.get()
    }

    /// Whether it was asked to.
    pub fn is_asked(&self) -> bool {
        self.state.get() == UndoState::Gives
    }
}

/// Whether a session waits for something that is not a server's answer: a connection, or what a console does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wait {
    #[default]
    None,
    Waits,
    /// Its client, or somebody else, wants it to stop waiting.
    Cancelled,
}

/// A server connection that works for a session.
pub struct Working {
    /// The server.
    pub endpoint: Arc<Endpoint>,
    /// What cancels there.
    pub target: Arc<CancelTarget>,
    /// The limit of its pool, as in [`Queued`].
    pub limit: usize,
}

/// A session as others on its core see it.
pub struct Entry {
    /// What a cancel must know.
    pub secret: CancelSecret,
    /// What works for the session at this moment: mostly one server, for which nothing is allocated.
    pub working: RefCell<SmallVec<[Working; 1]>>,
    /// What its last transaction over several shards carries on servers.
    pub mark: Cell<Option<Mark>>,
    /// Whether it can give way to others.
    pub yielding: Yielding,
    /// What it waits for while it holds others: a connection of this pool, since then.
    queued: Cell<Option<Box<Queued>>>,
    /// There while several servers work for it.
    pub spread: Cell<Option<Spread>>,
    wait: Cell<Wait>,
    /// The number of its process, as its client was told.
    pub process: Cell<i32>,
    /// An administrator wants it gone.
    pub killed: Cell<bool>,
    /// A cancel has come, which nothing may have been there for. Who goes on with several requests for one statement looks
    /// at it in between, and takes it back before the first.
    pub cancelled: Cell<bool>,
    /// What it waits for.
    pub pulse: Pulse,
    /// Who it is.
    pub who: SessionIdentity,
    /// What it does.
    pub seen: Rc<Seen>,
    /// Its task, when it waits for its client.
    waker: RefCell<Option<Waker>>,
}

impl Entry {
    /// A session with this secret, which has done nothing yet.
    pub fn new(secret: CancelSecret, who: SessionIdentity) -> Rc<Self> {
        Rc::new(Self {
            who,
            seen: Rc::default(),
            secret,
            working: RefCell::default(),
            mark: Cell::new(None),
            yielding: Yielding::default(),
            queued: Cell::default(),
            spread: Cell::default(),
            wait: Cell::default(),
            process: Cell::new(0),
            killed: Cell::new(false),
            cancelled: Cell::new(false),
            pulse: Pulse::default(),
            waker: RefCell::default(),
        })
    }

    /// It waits for a connection while it holds others, or waits no longer.
    pub fn set_queued(&self, queued: Option<Queued>) {
        self.queued.set(queued.map(Box::new));
    }

    /// What it waits for while it holds others: a connection of this pool, since then.
    pub fn queued(&self) -> Option<Queued> {
        let queued = self.queued.take();
        let copy = queued.as_deref().cloned();
        self.queued.set(queued);
        copy
    }

    /// It waits for a connection. Who has been told to stop stays so.
    pub fn begin_wait(&self) {
        if self.wait.get() == Wait::None {
            self.wait.set(Wait::Waits);
        }
    }

    /// It waits no longer, and whatever it was told is forgotten.
    pub fn end_wait(&self) {
        self.wait.set(Wait::None);
    }

    /// True while it waits.
    pub fn is_waiting(&self) -> bool {
        self.wait.get() != Wait::None
    }

    /// Tells it to stop waiting. False if it does not wait.
    pub fn cancel_wait(&self) -> bool {
        let waits = self.is_waiting();
        if waits {
            self.wait.set(Wait::Cancelled);
            self.wake();
        }
        waits
    }

    /// True if it waits and shall not.
    pub fn is_wait_cancelled(&self) -> bool {
        self.wait.get() == Wait::Cancelled
    }

    /// Notes the task, so that [`Entry::wake`] finds it.
    pub fn watch(&self, cx: &std::task::Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(known) => known.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
    }

    /// Ends the session, whatever it does.
    pub fn terminate(&self) {
        self.killed.set(true);
        self.cancel_wait();
        self.wake();
    }

    /// Makes the session look at what it was told.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}
