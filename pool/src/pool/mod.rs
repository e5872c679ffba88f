//! Lends the connections to one server, as one user, to one database, on one core.
//!
//! `bb8` keeps the idle connections. Its waiters are not served in order and its
//! check on checkout costs a round trip per query, so a fair queue stands before
//! it and the check is off: a connection is asked for only when one lies idle, and
//! is opened here, so that whoever waits for it gets the server's own error.
//!
//! Nothing is ever reserved for a waiter. Whatever changes wakes the waiter at the
//! head of the queue, who tries again; when he leaves, served or not, the next one
//! becomes head and is woken, if there may be something for him. So no grant can be
//! lost (pg_doorman 3.5.2 lost them).

mod model;

mod queue;

mod lease;

mod upkeep;

use crate::connection::ServerConnection;
use crate::limit::{Limit, LimitMember};
use crate::line::{Full, Line};
use crate::open::{OpenError, Opener};
use crate::standing::Standing;
use mothership_proto::auth::Credentials;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::marker::PhantomData;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

pub use lease::Lease;
use lease::{InStore, Stored};
pub use model::{Asking, LeaseError, LinedUp, Outer, Permits, PoolFigures, PoolSettings, Priority};
pub use queue::Place;
use queue::{Entry, Queue, Turn};

/// The same as [`queue::PATIENCE`] where nobody else has connections that could be given up.
const PATIENCE_ALONE: Duration = Duration::from_millis(50);

/// The longest pause after a server had no room for one more connection than the pool has. The attempt costs it little,
/// and it may have refused only because one that was closed had not ended there yet.
const NO_ROOM_PAUSE: Duration = Duration::from_secs(1);

/// No connection is opened for a while, because the last attempt failed.
struct Rest {
    until: Instant,
    pause: Duration,
    error: Arc<OpenError>,
}

/// The pool. Shared on its core by `Rc`.
pub struct Pool<N: Send + 'static> {
    opener: Opener<N>,
    stored: bb8::Pool<Stored<N>>,
    limit: Arc<Limit>,
    line: Arc<Line>,
    _share: LimitMember,
    settings: RefCell<PoolSettings>,
    outer: RefCell<Outer>,
    rest: RefCell<Option<Rest>>,
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
    refused: Cell<u64>,
}

impl<N: Default + Send + 'static> Pool<N> {
    /// A pool that opens its connections by `opener`, as many as the shared `limit` lets, and for which as many wait as
    /// the shared `line` lets.
    pub fn new(
        opener: Opener<N>,
        (limit, line): (Arc<Limit>, Arc<Line>),
        settings: PoolSettings,
    ) -> Rc<Self> {
        let stored = bb8::Pool::builder()
            // How many there may be is the limit's to say, which a reload changes; bb8's own number never changes.
            .max_size(u32::MAX)
            .min_idle(None)
            .test_on_check_out(false)
            // The one that is warm. With the others in turn none would ever be idle for long.
            .queue_strategy(bb8::QueueStrategy::Lifo)
            .max_lifetime(None)
            .idle_timeout(None)
            .build_unchecked(Stored(PhantomData));
        Rc::new(Self {
            opener,
            stored,
            _share: limit.share(),
            limit,
            line,
            settings: RefCell::new(settings),
            outer: RefCell::default(),
            rest: RefCell::default(),
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
            refused: Cell::new(0),
        })
    }

    /// The opener, which knows the server, the user and the database.
    pub fn opener(&self) -> &Opener<N> {
        &self.opener
    }

    /// Connections are opened with these from now on, at once also after the older ones
    /// were refused. Those that are open stay.
    pub fn set_credentials(&self, credentials: Credentials) {
        self.opener.set_credentials(credentials);
        let rested = self.rest.take().is_some();
        if rested {
            self.wake();
        }
    }

    /// The limit shared with other cores.
    pub fn limit(&self) -> &Arc<Limit> {
        &self.limit
    }

    /// A connection at once, if one lies idle and nobody waits.
    pub fn try_lease(self: &Rc<Self>) -> Option<Lease<N>> {
        self.try_lease_at(Instant::now())
    }

    /// The same for who has read the clock just now.
    pub fn try_lease_at(self: &Rc<Self>, now: Instant) -> Option<Lease<N>> {
        if self.paused.get() || self.queue.borrow().len() > 0 {
            return None;
        }
        self.take_idle(now)
    }

    /// A place in line for a request that has waited since `since`, to wait for a connection that somebody gives back.
    /// `None` where that is not all it takes: one may be opened, none is on loan, the pool is paused, or the queue full.
    pub fn line_up(self: &Rc<Self>, points: i8, since: Instant) -> Option<Place<N>> {
        let priority = Priority::New(points);
        let waits = !self.paused.get() && self.active.get() > 0 && !self.may_open(priority);
        let line_up = || Place::in_line(self, priority, (Entry::New, since), true).ok();
        waits.then(line_up).flatten()
    }

    /// How long a request may wait so before it has to wait as [`Pool::lease`] does, which asks others for theirs.
    pub fn patience(&self) -> Duration {
        let shared = self.limit.is_shared() || !self.outer.borrow().open.is_empty();
        let most = match shared {
            true => queue::PATIENCE,
            false => PATIENCE_ALONE,
        };
        most.min(self.settings.borrow().queue_timeout)
    }

    /// A connection, as soon as it is this request's turn. Cancel safe: a dropped request leaves the queue.
    pub async fn lease(
        self: &Rc<Self>,
        Asking {
            priority,
            lined_up,
            elsewhere,
        }: Asking,
    ) -> Result<Lease<N>, LeaseError> {
        if let Some(lease) = self.try_lease() {
            return Ok(lease);
        }
        let wait = match priority {
            Priority::Join => self.settings.borrow().join_timeout,
            Priority::New(_) => self.settings.borrow().queue_timeout,
        };
        let (mut entry, begun) = match lined_up {
            None => (Entry::New, Instant::now()),
            Some(LinedUp::Since(since)) => (Entry::Again, since),
            Some(LinedUp::SentAway) => return Err(self.sent_away()),
        };
        loop {
            let place = Place::in_line(self, priority, (entry, begun), false);
            let place = place.map_err(|full| self.queue_full(full))?;
            entry = Entry::Again;
            let left = wait.saturating_sub(begun.elapsed());
            let mut limit = left;
            let turn = loop {
                let rest = self.rest_left().unwrap_or(Duration::MAX);
                match tokio::time::timeout(limit.min(rest), place.turn(elsewhere)).await {
                    Ok(turn) => break turn,
                    // It may be opened again.
                    Err(_) if rest < limit && !self.is_paused_for(priority) => {
                        limit = wait.saturating_sub(begun.elapsed());
                    }
                    // An administrator made it wait: that is not the pool's delay.
                    Err(_) if self.is_paused_for(priority) => limit = wait,
                    Err(_) => return Err(self.timed_out(begun.elapsed(), priority)),
                }
            };
            drop(place);
            match turn {
                Turn::Idle(lease) => return Ok(lease),
                Turn::Resting(error) => return Err(LeaseError::Resting(error)),
                Turn::SentAway => return Err(self.sent_away()),
                Turn::Open(permits, turn) => {
                    self.ask_again();
                    let opening = Counted::new(&self.opening);
                    let opened = self.opener.open().await;
                    drop((opening, turn));
                    let lent = match opened {
                        Ok(connection) => self.lend_opened(connection, permits),
                        Err(error) => {
                            drop(permits);
                            Err(Box::new(error))
                        }
                    };
                    match lent {
                        Ok(Some(lease)) => return Ok(lease),
                        // RECONNECT came after it was opened: only as often as somebody says that is another one opened.
                        Ok(None) => {}
                        Err(error) => {
                            let has_no_room = error.has_no_room();
                            let error = self.rest_after(*error);
                            // For a connection that comes back, or for room at the server, unless another server will do.
                            if has_no_room && !(elsewhere && self.limit.open() == 0) {
                                continue;
                            }
                            return Err(error);
                        }
                    }
                }
            }
        }
    }

    fn queue_full(&self, full: Full) -> LeaseError {
        add_one(&self.refused);
        LeaseError::QueueFull(full)
    }

    fn sent_away(&self) -> LeaseError {
        add_one(&self.refused);
        LeaseError::SentAway {
            waiting: self.line.waiting(),
        }
    }

    /// Tells requests to leave whose place others have.
    fn send_away(&self) {
        loop {
            let called = self.line.called(|points| self.queue.borrow().has(points));
            let Some(points) = called else { return };
            self.queue.borrow_mut().send_away(points);
        }
    }

    /// What the head of the queue can have now.
    fn try_turn(self: &Rc<Self>, priority: Priority, elsewhere: bool) -> Option<Turn<N>> {
        if self.is_paused_for(priority) {
            return None;
        }
        if let Some(lease) = self.take_idle_for(priority) {
            return Some(Turn::Idle(lease));
        }
        let resting = self.rest.borrow();
        if let Some(rest) = &*resting
            && Instant::now() < rest.until
        {
            let has_no_room = rest.error.has_no_room();
            let hopeless = match has_no_room {
                true => elsewhere && self.limit.open() == 0,
                false => self.active.get() + self.idle.get() + self.opening.get() == 0,
            };
            if hopeless {
                return Some(Turn::Resting(Arc::clone(&rest.error)));
            }
            // What the server has room for is known to the limit, for all cores: in the place of a connection that was
            // closed meanwhile another one may be opened.
            if !has_no_room {
                return None;
            }
        }
        drop(resting);
        let outer = self.outer.borrow();
        // Asked first: a permit that is given back at once would wake its own waiter.
        if !outer.have_room() {
            return None;
        }
        let own = self.limit.try_acquire(self.spare_for(priority))?;
        let taken = outer.open.iter().map(|limit| limit.try_acquire(0));
        let taken: Option<Vec<_>> = taken.collect();
        let opening = match &outer.opening {
            Some(limit) => Some(limit.try_acquire(0)?),
            None => None,
        };
        let permits = Permits {
            _own: own,
            _outer: taken?,
        };
        Some(Turn::Open(permits, opening))
    }

    /// An idle connection, if one may be lent so.
    fn take_idle_for(self: &Rc<Self>, priority: Priority) -> Option<Lease<N>> {
        // Idle connections count against the reserve of joins as well.
        let leased = self.limit.open().saturating_sub(self.idle.get());
        let spare = self.spare_for(priority);
        let may = leased + spare < self.limit.most() || priority == Priority::Join;
        may.then(|| self.take_idle(Instant::now())).flatten()
    }

    /// Whether the limits leave room to open one.
    fn may_open(&self, priority: Priority) -> bool {
        let open = self.limit.open().saturating_add(self.spare_for(priority));
        open < self.limit.most() && self.outer.borrow().have_room()
    }

    /// How long no connection is opened, or fewer than the setting says.
    fn rest_left(&self) -> Option<Duration> {
        let rest = self.rest.borrow();
        let until = rest.as_ref().map(|rest| rest.until);
        let rests = until.and_then(|until| until.checked_duration_since(Instant::now()));
        let left = [rests, self.limit.narrowed()].into_iter().flatten().min()?;
        Some(left.max(Duration::from_millis(1)))
    }

    /// A request has waited for too long: because the server has no room, if that is what it said last.
    fn timed_out(&self, waited: Duration, priority: Priority) -> LeaseError {
        let rest = self.rest.borrow();
        let refused = rest.as_ref().filter(|rest| rest.error.has_no_room());
        match (refused, priority) {
            (Some(rest), Priority::New(_)) => LeaseError::NoRoom {
                waited,
                cause: Arc::clone(&rest.error),
            },
            _ => LeaseError::TimedOut { waited, priority },
        }
    }

    /// An attempt failed: the next one waits, longer each time.
    fn rest_after(&self, error: OpenError) -> LeaseError {
        add_one(&self.failed);
        let error = Arc::new(error);
        let settings = self.settings.borrow();
        let mut rest = self.rest.borrow_mut();
        let pause = match &*rest {
            // Several were under way; they failed together.
            Some(rest) if Instant::now() < rest.until => rest.pause,
            Some(rest) => rest.pause.saturating_mul(2),
            None => settings.retry_pause,
        };
        let has_no_room = error.has_no_room();
        let longest = match has_no_room && self.limit.open() > 0 {
            true => settings.retry_pause_max.min(NO_ROOM_PAUSE),
            false => settings.retry_pause_max,
        };
        let pause = pause.min(longest);
        let until = Instant::now() + pause;
        if has_no_room {
            self.limit.narrow(until);
        }
        *rest = Some(Rest {
            until,
            pause,
            error: Arc::clone(&error),
        });
        LeaseError::Open(error)
    }

    /// Whoever waits elsewhere is heard once; now another permit may be what is missing.
    fn ask_again(&self) {
        self.limit.ask_again();
        for limit in &self.outer.borrow().open {
            limit.ask_again();
        }
    }

    /// Puts the pool under limits that it shares with others. What is open counts
    /// against those under which it was opened.
    pub fn set_outer(&self, outer: Outer) {
        for limit in outer.open.iter().chain(&outer.opening) {
            limit.contains(&self.limit);
        }
        *self.outer.borrow_mut() = outer;
        self.wake();
    }

    /// Permits that a request must leave to others.
    fn spare_for(&self, priority: Priority) -> u32 {
        match priority {
            Priority::Join => 0,
            Priority::New(_) => self.join_reserve(),
        }
    }

    /// The reserve never takes the last connection from new requests.
    fn join_reserve(&self) -> u32 {
        self.settings
            .borrow()
            .join_reserve
            .min(self.limit.most().saturating_sub(1))
    }

    fn take_idle(self: &Rc<Self>, now: Instant) -> Option<Lease<N>> {
        while self.idle.get() > 0 {
            self.idle.set(self.idle.get() - 1);
            let mut connection = self.pop()?;
            let fresh = self
                .stale_before
                .get()
                .is_none_or(|at| connection.opened > at)
                && now < connection.expires;
            if fresh && connection.survives_idling() {
                return Some(self.lend(connection, now));
            }
            connection.doubt();
        }
        None
    }

    fn lend(self: &Rc<Self>, connection: InStore<N>, now: Instant) -> Lease<N> {
        self.active.set(self.active.get() + 1);
        self.last_used.set(now);
        connection.standing.lend(now);
        Lease {
            connection: Some(connection),
            pool: Rc::clone(self),
        }
    }

    /// bb8 answers at once when a connection lies idle, so one poll is enough.
    fn pop(&self) -> Option<InStore<N>> {
        let mut get = pin!(self.stored.get_owned());
        match get.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(connection)) => Some(connection),
            _ => {
                debug_assert!(false, "idle connections are counted");
                None
            }
        }
    }

    /// Lends a connection that was just opened, however short its life; nothing if it is [stale](Self::is_stale) by now.
    ///
    /// # Errors
    /// It has ended already. That counts as an attempt that failed: another one at once would end the same way, and so on.
    fn lend_opened(
        self: &Rc<Self>,
        mut connection: ServerConnection<N>,
        permits: Permits,
    ) -> Result<Option<Lease<N>>, Box<OpenError>> {
        connection._permits = Some(permits);
        add_one(&self.opened);
        if self.is_stale(connection.opened) {
            return Ok(None);
        }
        let standing = Arc::downgrade(&connection.standing);
        let survives = connection.survives_idling();
        let stored = survives.then(|| self.stored.add(Box::new(connection)).ok());
        let connection = stored.flatten().and_then(|()| self.pop());
        let connection = connection.ok_or_else(|| Box::new(self.opener.broken_at_once()))?;
        *self.rest.borrow_mut() = None;
        let mut standings = self.standings.borrow_mut();
        // Swept when it is full, so that it stays as large as what exists.
        if standings.len() == standings.capacity() {
            standings.retain(|known| known.strong_count() > 0);
        }
        standings.push(standing);
        drop(standings);
        Ok(Some(self.lend(connection, Instant::now())))
    }

    fn wake(&self) {
        self.queue.borrow().wake_heads(true);
    }

    /// When a connection was lent last.
    pub fn last_used(&self) -> Instant {
        self.last_used.get()
    }

    /// Figures for the console.
    pub fn figures(&self) -> PoolFigures {
        let queue = self.queue.borrow();
        // Not the first in line, who may have a higher priority.
        let waiters = queue.joins.iter().chain(&queue.new);
        let oldest = waiters.map(|w| w.since).min();
        PoolFigures {
            active: self.active.get(),
            idle: self.idle.get(),
            opening: self.opening.get(),
            waiting: queue.len() as u32,
            oldest_wait: oldest.map_or(Duration::ZERO, |since| since.elapsed()),
            stale: self.stale(),
            opened: self.opened.get(),
            failed: self.failed.get(),
            paused: self.paused.get(),
            refused: self.refused.get(),
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

    /// Whether a request has to wait for [`Pool::resume`]. A transaction that is open goes on to its end.
    fn is_paused_for(&self, priority: Priority) -> bool {
        self.paused.get() && priority != Priority::Join
    }

    /// From now on no connection is lent, but to transactions that are open, and each is closed when it is given back. Who
    /// else asks waits.
    pub fn pause(&self) {
        self.paused.set(true);
    }

    /// Lends again.
    pub fn resume(&self) {
        self.paused.set(false);
        self.wake();
    }

    /// Changes the settings that may change while running.
    pub fn set_settings(&self, settings: PoolSettings) {
        *self.settings.borrow_mut() = settings;
        *self.rest.borrow_mut() = None;
        self.wake();
    }
}

impl<N: Send + 'static> Pool<N> {
    /// Connections of this core, those being opened included.
    fn own(&self) -> u32 {
        self.idle.get() + self.active.get() + self.opening.get()
    }

    /// True when another pool, or this one on another core, should have what this one
    /// could keep. A pool with waiters of its own shares with other cores, not with other pools.
    fn wants_one_back(&self, waiting: bool) -> bool {
        let outer = self.outer.borrow();
        self.limit.wants_one_back(self.own(), waiting)
            || (!waiting && outer.open.iter().any(|l| l.wants_one_back(0, false)))
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

#[cfg(test)]
mod tests;
