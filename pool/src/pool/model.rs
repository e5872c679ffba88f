//! What a pool is told, and what it says of itself.

use crate::limit::{Limit, Permit};
use crate::line::Full;
use crate::open::OpenError;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Settings of one pool.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// Idle connections kept, on all cores together.
    pub min: u32,
    /// Idle time after which a connection over `min` is closed.
    pub idle_timeout: Duration,
    /// How long a request waits.
    pub queue_timeout: Duration,
    /// How long a transaction waits for one more connection.
    pub join_timeout: Duration,
    /// Connections that only joining transactions may take.
    pub join_reserve: u32,
    /// After a failed attempt to open a connection the first pause; it doubles each time.
    pub retry_pause: Duration,
    /// The longest such pause.
    pub retry_pause_max: Duration,
}

/// Limits that a pool shares with other pools.
#[derive(Clone, Debug, Default)]
pub struct Outer {
    /// For as long as a connection is open: those of its server, of its database.
    pub open: Vec<Arc<Limit>>,
    /// While it is being opened.
    pub opening: Option<Arc<Limit>>,
}

impl Outer {
    pub(super) fn have_room(&self) -> bool {
        self.open.iter().chain(&self.opening).all(|l| l.has_room())
    }
}

/// The right to one open connection, by all limits that it counts against.
#[derive(Debug)]
pub struct Permits {
    pub(super) _own: Permit,
    pub(super) _outer: Vec<Permit>,
}

/// Who asks for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// A transaction that already holds a connection: goes before new ones.
    Join,
    /// Everyone else. Of two the one with more points is served first, unless the other
    /// has waited for as much longer as [`rank`](crate::rank) says.
    New(i8),
}

/// That a request has stood in line already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinedUp {
    /// Since then, and it may go on waiting.
    Since(Instant),
    /// Until another one took its place.
    SentAway,
}

/// How a request asks.
#[derive(Clone, Copy, Debug)]
pub struct Asking {
    /// Whom it goes before.
    pub priority: Priority,
    /// What became of it in another place of the queue.
    pub lined_up: Option<LinedUp>,
    /// Another server would do as well: it does not wait for one that has no room for any connection of the pool.
    pub elsewhere: bool,
}

/// Why no connection was lent.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// One more may not wait.
    #[error("{} requests already wait for a server connection", .0.waiting)]
    QueueFull(Full),
    /// A request of a higher priority has taken its place.
    #[error("a request of a higher priority took its place among {waiting} that wait")]
    SentAway {
        /// How many wait for the same pool.
        waiting: u32,
    },
    /// No connection became free in time.
    #[error("no server connection became free within {waited:?}")]
    TimedOut {
        /// How long was waited.
        waited: Duration,
        /// Who waited.
        priority: Priority,
    },
    /// No connection became free in time, and the server had no room for another one.
    #[error("no server connection became free within {waited:?}, and the server takes no more")]
    NoRoom {
        /// How long was waited.
        waited: Duration,
        /// What the server said.
        cause: Arc<OpenError>,
    },
    /// A new connection could not be opened.
    #[error(transparent)]
    Open(Arc<OpenError>),
    /// The last attempt failed so shortly before that none was made, and there is no
    /// other connection to wait for.
    #[error(transparent)]
    Resting(Arc<OpenError>),
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
    /// Requests that were not let wait, or not any longer, for one of a higher priority.
    pub refused: u64,
}
