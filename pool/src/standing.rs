//! What others may see of a server connection while somebody works with it.
//!
//! The connection itself belongs to its borrower. This is its shadow: plain figures
//! that the borrower and the pool write, and that the console reads. All of it is
//! written and read on one core; the atomics are there because the pool demands
//! that what it stores may move between threads, and cost no more than plain words.

use crate::connection::CancelTarget;
use crate::wire::{Address, Breaker, Wire};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

static NEXT: AtomicU64 = AtomicU64::new(1);

/// The shadow of one server connection.
#[derive(Debug)]
pub struct Standing {
    /// A number that no other server connection of this process has.
    pub number: u64,
    /// When it was opened.
    pub opened: Instant,
    /// The server's end; unknown if the socket failed already.
    pub remote: Option<Address>,
    /// Our end.
    pub local: Option<Address>,
    /// TLS version and cipher; none in plain text.
    pub tls: Option<String>,
    breaker: Breaker,
    cancel: Arc<CancelTarget>,
    is_lent: AtomicU32,
    borrower: AtomicU64,
    lent_after: AtomicU64,
    prepared: AtomicU32,
    is_broken_off: AtomicBool,
}

impl Standing {
    pub(crate) fn new(wire: &Wire, cancel: Arc<CancelTarget>) -> Arc<Self> {
        let tls = wire.tls();
        Arc::new(Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            opened: Instant::now(),
            remote: wire.peer().ok(),
            local: wire.local().ok(),
            tls: tls.map(|tls| format!("{}/{}", tls.version, tls.cipher)),
            breaker: wire.breaker(),
            cancel,
            is_lent: AtomicU32::new(0),
            borrower: AtomicU64::new(0),
            lent_after: AtomicU64::new(0),
            prepared: AtomicU32::new(0),
            is_broken_off: AtomicBool::new(false),
        })
    }

    /// The backend's process id.
    pub fn pid(&self) -> i32 {
        self.cancel.key.pid
    }

    /// True while a cancel for it is under way.
    pub fn is_being_cancelled(&self) -> bool {
        self.cancel.is_pending()
    }

    /// True while somebody has borrowed it.
    pub fn is_lent(&self) -> bool {
        self.is_lent.load(Ordering::Relaxed) != 0
    }

    /// The number that the borrower gave of itself, if it is lent.
    pub fn borrower(&self) -> Option<u64> {
        let borrower = self.borrower.load(Ordering::Relaxed);
        (self.is_lent() && borrower != 0).then_some(borrower)
    }

    /// When it was lent last.
    pub fn lent_at(&self) -> Instant {
        self.opened + Duration::from_micros(self.lent_after.load(Ordering::Relaxed))
    }

    /// Statements prepared on it, as the borrower said last.
    pub fn prepared(&self) -> u32 {
        self.prepared.load(Ordering::Relaxed)
    }

    /// Says who has borrowed it; numbers begin at 1.
    pub fn set_borrower(&self, number: u64) {
        self.borrower.store(number, Ordering::Relaxed);
    }

    /// Says how many statements are prepared on it.
    pub fn set_prepared(&self, count: u32) {
        self.prepared.store(count, Ordering::Relaxed);
    }

    /// Ends the connection, whoever works with it: that one reads an end as if the server had closed it. To be called on
    /// the connection's own thread, so that nobody closes the socket meanwhile.
    pub(crate) fn break_off(&self) {
        self.is_broken_off.store(true, Ordering::Relaxed);
        self.breaker.break_off();
    }

    /// Whether the router has ended it itself: its server is down or no longer what it was, and no request is the cause.
    pub fn is_broken_off(&self) -> bool {
        self.is_broken_off.load(Ordering::Relaxed)
    }

    /// The socket is about to be closed.
    pub(crate) fn close(&self) {
        self.breaker.close();
    }

    pub(crate) fn lend(&self, now: Instant) {
        let after = now.saturating_duration_since(self.opened).as_micros();
        let after = u64::try_from(after).unwrap_or(u64::MAX);
        self.lent_after.store(after, Ordering::Relaxed);
        self.borrower.store(0, Ordering::Relaxed);
        self.is_lent.store(1, Ordering::Relaxed);
    }

    pub(crate) fn take_back(&self) {
        self.is_lent.store(0, Ordering::Relaxed);
    }
}
