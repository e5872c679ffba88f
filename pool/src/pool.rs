//! Lends the connections to one server, as one user, to one database, on one core.
//!
//! `bb8` keeps the idle connections. Its waiters are not served in order and its
//! check on checkout costs a round trip per query, so a fair queue stands before
//! it and the check is off: a connection is asked for only when one lies idle, and
//! is opened here, so that whoever waits for it gets the server's own error.
//!
//! Nothing is ever reserved for a waiter. Whatever changes wakes the waiter at the
//! head of the queue, who tries again; when he leaves, served or not, the next one
//! becomes head and is woken. So no grant can be lost (pg_doorman 3.5.2 lost them).

use crate::connection::ServerConnection;
use crate::limit::Limit;
use crate::open::{OpenError, Opener};
use crate::standing::Standing;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How long a core waits for its own connections before it asks other cores.
const PATIENCE: Duration = Duration::from_millis(5);

/// Settings of one pool.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// Idle connections kept, on all cores together.
    pub min: u32,
    /// Idle time after which a connection over `min` is closed.
    pub idle_timeout: Duration,
    /// Waiting requests, at most, on this core.
    pub queue_length: usize,
    /// How long a request waits.
    pub queue_timeout: Duration,
    /// How long a transaction waits for one more connection.
    pub join_timeout: Duration,
    /// Connections that only joining transactions may take.
    pub join_reserve: u32,
}

/// Who asks for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// A transaction that already holds a connection: goes before new ones.
    Join,
    /// Everyone else.
    New,
}

/// Why no connection was lent.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The queue is full.
    #[error("{waiting} requests already wait for a server connection")]
    QueueFull {
        /// How many.
        waiting: usize,
    },
    /// No connection became free in time.
    #[error("no server connection became free within {waited:?}")]
    TimedOut {
        /// How long was waited.
        waited: Duration,
        /// Who waited.
        priority: Priority,
    },
    /// A new connection could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Figures of one pool, for the console and the metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct PoolFigures {
    /// Connections lent.
    pub active: u32,
    /// Connections idle.
    pub idle: u32,
    /// Connections being opened.
    pub opening: u32,
    /// Requests waiting.
    pub waiting: u32,
    /// Age of the oldest waiting request.
    pub oldest_wait: Duration,
    /// Connections that are closed as soon as they are given back.
    pub stale: u32,
    /// Connections opened since the pool was made.
    pub opened: u64,
    /// Attempts to open one that failed.
    pub failed: u64,
    /// True while nothing is lent.
    pub paused: bool,
}

struct Waiter {
    ticket: u64,
    since: Instant,
    waker: Option<Waker>,
}

#[derive(Default)]
struct Queue {
    joins: VecDeque<Waiter>,
    new: VecDeque<Waiter>,
    next_ticket: u64,
}

impl Queue {
    fn of(&mut self, priority: Priority) -> &mut VecDeque<Waiter> {
        match priority {
            Priority::Join => &mut self.joins,
            Priority::New => &mut self.new,
        }
    }

    fn len(&self) -> usize {
        self.joins.len() + self.new.len()
    }

    fn wake_heads(&self) {
        // The head of the new ones too: a join at the head may be unable to use
        // what a new one could, never the other way round.
        for head in [self.joins.front(), self.new.front()].into_iter().flatten() {
            if let Some(waker) = &head.waker {
                waker.wake_by_ref();
            }
        }
    }
}

/// The pool. Shared on its core by `Rc`.
pub struct Pool<N: Send + 'static> {
    opener: Opener<N>,
    stored: bb8::Pool<Stored<N>>,
    limit: Arc<Limit>,
    settings: RefCell<PoolSettings>,
    queue: RefCell<Queue>,
    idle: Cell<u32>,
    active: Cell<u32>,
    opening: Cell<u32>,
    /// Connections opened before this instant are not lent again (RECONNECT).
    stale_before: Cell<Option<Instant>>,
    paused: Cell<bool>,
    last_used: Cell<Instant>,
    /// The connections that exist, and some that are closed already.
    standings: RefCell<Vec<Weak<Standing>>>,
    opened: Cell<u64>,
    failed: Cell<u64>,
}

impl<N: Default + Send + 'static> Pool<N> {
    /// A pool that opens its connections by `opener` under the shared `limit`.
    pub fn new(opener: Opener<N>, limit: Arc<Limit>, settings: PoolSettings) -> Rc<Self> {
        let stored = bb8::Pool::builder()
            .max_size(limit.max().max(1))
            .min_idle(None)
            .test_on_check_out(false)
            .max_lifetime(None)
            .idle_timeout(None)
            .build_unchecked(Stored(PhantomData));
        Rc::new(Self {
            opener,
            stored,
            limit,
            settings: RefCell::new(settings),
            queue: RefCell::default(),
            idle: Cell::new(0),
            active: Cell::new(0),
            opening: Cell::new(0),
            stale_before: Cell::new(None),
            paused: Cell::new(false),
            last_used: Cell::new(Instant::now()),
            standings: RefCell::default(),
            opened: Cell::new(0),
            failed: Cell::new(0),
        })
    }

    /// The opener, which knows the server, the user and the database.
    pub fn opener(&self) -> &Opener<N> {
        &self.opener
    }

    /// The limit shared with other cores.
    pub fn limit(&self) -> &Arc<Limit> {
        &self.limit
    }

    /// A connection at once, if one lies idle and nobody waits.
    pub fn try_lease(self: &Rc<Self>) -> Option<Lease<N>> {
        if self.paused.get() || self.queue.borrow().len() > 0 {
            return None;
        }
        self.take_idle()
    }

    /// A connection, as soon as it is this request's turn. Cancel safe: a dropped
    /// request leaves the queue.
    pub async fn lease(self: &Rc<Self>, priority: Priority) -> Result<Lease<N>, LeaseError> {
        if let Some(lease) = self.try_lease() {
            return Ok(lease);
        }
        let (length, wait) = {
            let settings = self.settings.borrow();
            let wait = match priority {
                Priority::Join => settings.join_timeout,
                Priority::New => settings.queue_timeout,
            };
            (settings.queue_length, wait)
        };
        let waiting = self.queue.borrow().new.len();
        if priority == Priority::New && waiting >= length {
            return Err(LeaseError::QueueFull { waiting });
        }
        let begun = Instant::now();
        loop {
            let place = Place::at_the_end(self, priority, begun);
            let left = wait.saturating_sub(begun.elapsed());
            let mut limit = left;
            let turn = loop {
                match tokio::time::timeout(limit, place.turn()).await {
                    Ok(turn) => break turn,
                    // An administrator made it wait: that is not the pool's delay.
                    Err(_) if self.paused.get() => limit = wait,
                    Err(_) => {
                        return Err(LeaseError::TimedOut {
                            waited: begun.elapsed(),
                            priority,
                        });
                    }
                }
            };
            drop(place);
            match turn {
                Turn::Idle(lease) => return Ok(lease),
                Turn::Open(permit) => {
                    let opening = Counted::new(&self.opening);
                    let opened = self.opener.open().await;
                    drop(opening);
                    let mut connection = opened.inspect_err(|_| add_one(&self.failed))?;
                    add_one(&self.opened);
                    connection._permit = Some(permit);
                    if let Some(lease) = self.store_and_take(connection) {
                        return Ok(lease);
                    }
                    // The pool shrank meanwhile: wait again.
                }
            }
        }
    }

    /// What the head of the queue can have now.
    fn try_turn(self: &Rc<Self>, priority: Priority) -> Option<Turn<N>> {
        if self.paused.get() {
            return None;
        }
        let spare = match priority {
            Priority::Join => 0,
            Priority::New => self.join_reserve(),
        };
        // Idle connections count against the reserve of joins as well.
        let leased = self.limit.open().saturating_sub(self.idle.get());
        if (leased + spare < self.limit.max() || priority == Priority::Join)
            && let Some(lease) = self.take_idle()
        {
            return Some(Turn::Idle(lease));
        }
        self.limit.try_acquire(spare).map(Turn::Open)
    }

    /// The reserve never takes the last connection from new requests.
    fn join_reserve(&self) -> u32 {
        self.settings
            .borrow()
            .join_reserve
            .min(self.limit.max().saturating_sub(1))
    }

    fn take_idle(self: &Rc<Self>) -> Option<Lease<N>> {
        while self.idle.get() > 0 {
            self.idle.set(self.idle.get() - 1);
            let mut connection = self.pop()?;
            let fresh = self
                .stale_before
                .get()
                .is_none_or(|at| connection.opened > at)
                && Instant::now() < connection.expires;
            if fresh && connection.survives_idling() {
                self.active.set(self.active.get() + 1);
                let now = Instant::now();
                self.last_used.set(now);
                connection.standing.lend(now);
                return Some(Lease {
                    connection: Some(connection),
                    pool: Rc::clone(self),
                });
            }
            connection.doubt();
        }
        None
    }

    /// bb8 answers at once when a connection lies idle, so one poll is enough.
    fn pop(&self) -> Option<bb8::PooledConnection<'static, Stored<N>>> {
        let mut get = pin!(self.stored.get_owned());
        match get.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(connection)) => Some(connection),
            _ => {
                debug_assert!(false, "idle connections are counted");
                None
            }
        }
    }

    fn store_and_take(self: &Rc<Self>, connection: ServerConnection<N>) -> Option<Lease<N>> {
        let standing = Arc::downgrade(&connection.standing);
        self.stored.add(connection).ok()?;
        let mut standings = self.standings.borrow_mut();
        // Swept when it is full, so that it stays as large as what exists.
        if standings.len() == standings.capacity() {
            standings.retain(|known| known.strong_count() > 0);
        }
        standings.push(standing);
        drop(standings);
        self.idle.set(self.idle.get() + 1);
        self.take_idle()
    }

    fn wake(&self) {
        self.queue.borrow().wake_heads();
    }

    /// Closes idle connections that are too old or too long idle, the longest idle
    /// first, and keeps `min` of them.
    pub fn reap(self: &Rc<Self>, now: Instant, min: u32) {
        let idle_timeout = self.settings.borrow().idle_timeout;
        let mut kept = Vec::new();
        let mut idle = Vec::new();
        while self.idle.get() > 0 {
            self.idle.set(self.idle.get() - 1);
            let Some(connection) = self.pop() else { break };
            idle.push(connection);
        }
        // bb8 gives the last one back first: the front of `idle` was used last.
        for mut connection in idle {
            let rested = now.saturating_duration_since(connection.idle_since);
            let surplus = kept.len() >= min as usize && rested >= idle_timeout;
            let stale = self
                .stale_before
                .get()
                .is_some_and(|at| connection.opened <= at);
            if surplus || stale || now >= connection.expires || !connection.survives_idling() {
                connection.doubt();
            } else {
                kept.push(connection);
            }
        }
        for connection in kept.into_iter().rev() {
            drop(connection);
            self.idle.set(self.idle.get() + 1);
        }
        self.wake();
    }

    /// When a connection was lent last.
    pub fn last_used(&self) -> Instant {
        self.last_used.get()
    }

    /// Figures for the console.
    pub fn figures(&self) -> PoolFigures {
        let queue = self.queue.borrow();
        let oldest = [queue.joins.front(), queue.new.front()]
            .into_iter()
            .flatten()
            .map(|w| w.since.elapsed())
            .max();
        PoolFigures {
            active: self.active.get(),
            idle: self.idle.get(),
            opening: self.opening.get(),
            waiting: queue.len() as u32,
            oldest_wait: oldest.unwrap_or_default(),
            stale: self.stale(),
            opened: self.opened.get(),
            failed: self.failed.get(),
            paused: self.paused.get(),
        }
    }

    /// What can be seen of every connection that exists.
    pub fn standings(&self) -> Vec<Arc<Standing>> {
        let standings = self.standings.borrow();
        standings.iter().filter_map(Weak::upgrade).collect()
    }

    /// True if a connection opened at `opened` is closed when it is given back.
    pub fn is_stale(&self, opened: Instant) -> bool {
        self.stale_before.get().is_some_and(|at| opened <= at)
    }

    fn stale(&self) -> u32 {
        if self.stale_before.get().is_none() {
            return 0;
        }
        let standings = self.standings();
        standings.iter().filter(|s| self.is_stale(s.opened)).count() as u32
    }

    /// No connection is lent from now on; who asks waits.
    pub fn pause(&self) {
        self.paused.set(true);
    }

    /// Lends again.
    pub fn resume(&self) {
        self.paused.set(false);
        self.wake();
    }

    /// Replaces every connection as it is given back.
    pub fn reconnect(self: &Rc<Self>) {
        let now = Instant::now();
        self.stale_before.set(Some(now));
        self.reap(now, self.settings.borrow().min);
    }

    /// Changes the settings that may change while running.
    pub fn set_settings(&self, settings: PoolSettings) {
        *self.settings.borrow_mut() = settings;
        self.wake();
    }
}

enum Turn<N: Send + 'static> {
    Idle(Lease<N>),
    Open(crate::limit::Permit),
}

/// A place in the queue; leaving it wakes the next one.
struct Place<'a, N: Default + Send + 'static> {
    pool: &'a Rc<Pool<N>>,
    priority: Priority,
    ticket: u64,
}

impl<'a, N: Default + Send + 'static> Place<'a, N> {
    fn at_the_end(pool: &'a Rc<Pool<N>>, priority: Priority, since: Instant) -> Self {
        let mut queue = pool.queue.borrow_mut();
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.of(priority).push_back(Waiter {
            ticket,
            since,
            waker: None,
        });
        Self {
            pool,
            priority,
            ticket,
        }
    }

    /// Waits for something usable. Cancel safe.
    async fn turn(&self) -> Turn<N> {
        let limit = Arc::clone(&self.pool.limit);
        match tokio::time::timeout(PATIENCE, self.some_turn(&limit)).await {
            Ok(turn) => turn,
            // Only now, or cores under a little load would trade connections all the time.
            Err(_) => {
                let _hungry = limit.hungry();
                self.some_turn(&limit).await
            }
        }
    }

    async fn some_turn(&self, limit: &Limit) -> Turn<N> {
        loop {
            let mut freed = pin!(limit.freed());
            // Registered before the try, so that no wake-up falls between.
            freed.as_mut().enable();
            if let Some(turn) = poll_fn(|cx| self.poll_turn(cx, freed.as_mut())).await {
                return turn;
            }
        }
    }

    /// Ready(None) when a permit was freed on another core and all must be tried anew.
    fn poll_turn(
        &self,
        cx: &mut Context<'_>,
        freed: Pin<&mut tokio::sync::futures::Notified<'_>>,
    ) -> Poll<Option<Turn<N>>> {
        let is_head = {
            let mut queue = self.pool.queue.borrow_mut();
            let line = queue.of(self.priority);
            let position = line.iter().position(|w| w.ticket == self.ticket);
            let position = position.expect("a place stays in line until it is left");
            line[position].waker = Some(cx.waker().clone());
            position == 0
        };
        let joins_wait =
            self.priority == Priority::New && !self.pool.queue.borrow().joins.is_empty();
        if is_head
            && !joins_wait
            && let Some(turn) = self.pool.try_turn(self.priority)
        {
            return Poll::Ready(Some(turn));
        }
        freed.poll(cx).map(|()| None)
    }
}

impl<N: Default + Send + 'static> Drop for Place<'_, N> {
    fn drop(&mut self) {
        let mut queue = self.pool.queue.borrow_mut();
        let ticket = self.ticket;
        queue.of(self.priority).retain(|w| w.ticket != ticket);
        queue.wake_heads();
    }
}

fn add_one(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

/// Adds one to a figure while it lives.
struct Counted<'a>(&'a Cell<u32>);

impl<'a> Counted<'a> {
    fn new(figure: &'a Cell<u32>) -> Self {
        figure.set(figure.get() + 1);
        Self(figure)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A connection on loan. Dropping it gives it back if it is clean, and closes it
/// if there is any doubt.
pub struct Lease<N: Send + 'static> {
    connection: Option<bb8::PooledConnection<'static, Stored<N>>>,
    pool: Rc<Pool<N>>,
}

impl<N: Send + 'static> Lease<N> {
    /// The pool it came from.
    pub fn pool(&self) -> &Rc<Pool<N>> {
        &self.pool
    }
}

impl<N: Send + 'static> Deref for Lease<N> {
    type Target = ServerConnection<N>;
    fn deref(&self) -> &Self::Target {
        self.connection
            .as_ref()
            .expect("a lease holds its connection until it is dropped")
    }
}

impl<N: Send + 'static> DerefMut for Lease<N> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.connection
            .as_mut()
            .expect("a lease holds its connection until it is dropped")
    }
}

impl<N: Send + 'static> Drop for Lease<N> {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        let pool = &self.pool;
        pool.active.set(pool.active.get() - 1);
        let now = Instant::now();
        connection.idle_since = now;
        connection.standing.take_back();
        let waiting = pool.queue.borrow().len() > 0;
        let unwanted = !waiting && pool.limit.wants_one_back();
        let stale = pool
            .stale_before
            .get()
            .is_some_and(|at| connection.opened <= at);
        if !connection.is_clean()
            || connection.cancel.is_pending()
            || unwanted
            || stale
            || now >= connection.expires
        {
            connection.doubt();
        } else {
            pool.idle.set(pool.idle.get() + 1);
        }
        // bb8 asks `has_broken` and keeps or closes it.
        drop(connection);
        pool.queue.borrow().wake_heads();
    }
}

/// What bb8 is told: it stores connections and opens none.
pub(crate) struct Stored<N>(PhantomData<fn() -> N>);

impl<N: Send + 'static> bb8::ManageConnection for Stored<N> {
    type Connection = ServerConnection<N>;
    type Error = std::convert::Infallible;

    async fn connect(&self) -> Result<Self::Connection, Self::Error> {
        // Never asked: `min_idle` is none and a connection is taken only when one
        // lies idle. Waiting for ever is the one answer that cannot do harm.
        std::future::pending().await
    }

    async fn is_valid(&self, _: &mut Self::Connection) -> Result<(), Self::Error> {
        Ok(())
    }

    fn has_broken(&self, connection: &mut Self::Connection) -> bool {
        connection.is_doubtful()
    }
}
