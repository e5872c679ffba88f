//! What each level promises, and what clients were told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Rows that the writers of the routers change, each router's in a column of its own.
pub const ROWS: i64 = 64;
/// `balance.max_lag` while the level is `bounded`.
pub const BOUND: Duration = Duration::from_millis(600);

/// `balance.freshness`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// What this router has told anybody.
    Router,
    /// What this session was told.
    Session,
    /// What anybody was told so long ago.
    Bounded,
}

impl Level {
    pub const ALL: [Level; 3] = [Level::Router, Level::Session, Level::Bounded];

    /// The word of the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Level::Router => "router",
            Level::Session => "session",
            Level::Bounded => "bounded",
        }
    }

    /// DELAY so many times: near the bound where there is one.
    pub fn delays(self) -> u64 {
        match self {
            Level::Router | Level::Session => 1,
            Level::Bounded => 10,
        }
    }
}

/// What clients share.
pub struct Told {
    pub level: Level,
    /// Reads that are still to begin.
    pub left: AtomicI64,
    /// The failover is over.
    pub struck: AtomicBool,
    /// Nobody has anything more to do.
    pub done: AtomicBool,
    /// For each router and row what its writer was told to be committed, and when; the newest last.
    rows: [Vec<Mutex<History>>; 2],
    writes: [AtomicU64; 2],
    reads: AtomicU64,
    missed: AtomicU64,
    errors: Mutex<BTreeMap<String, u64>>,
    next: AtomicI64,
}

type History = VecDeque<(Instant, i64)>;

impl Told {
    pub fn new(level: Level, left: i64) -> Told {
        // Larger than what the race before has written.
        static BEGUN: AtomicI64 = AtomicI64::new(0);
        let rows = || (0..ROWS).map(|_| Mutex::default()).collect();
        Told {
            level,
            left: AtomicI64::new(left),
            struck: AtomicBool::new(false),
            done: AtomicBool::new(false),
            rows: [rows(), rows()],
            writes: [AtomicU64::new(0), AtomicU64::new(0)],
            reads: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            errors: Mutex::default(),
            next: AtomicI64::new(BEGUN.fetch_add(1 << 40, Ordering::SeqCst) + 1),
        }
    }

    /// A number larger than all before.
    pub fn number(&self) -> i64 {
        self.next.fetch_add(1, Ordering::SeqCst)
    }

    /// The writer of a router was told just now that the row has this number.
    pub fn acknowledged(&self, router: usize, id: i64, number: i64) {
        let mut row = self.row(router, id);
        row.push_back((Instant::now(), number));
        // The last one that is old enough is all that is asked for of older ones.
        while row.get(1).is_some_and(|(at, _)| at.elapsed() > BOUND) {
            row.pop_front();
        }
        drop(row);
        self.writes[router].fetch_add(1, Ordering::SeqCst);
    }

    /// The least numbers, by routers, that a read of the row which is sent through `router` now may find; what the session
    /// itself was told is not in it.
    pub fn promised(&self, router: usize, id: i64) -> [i64; 2] {
        let mut least = [0; 2];
        match self.level {
            Level::Session => {}
            Level::Router => least[router] = self.row(router, id).back().map_or(0, |told| told.1),
            Level::Bounded => {
                for (writer, least) in least.iter_mut().enumerate() {
                    let row = self.row(writer, id);
                    let mut old = row.iter().filter(|(at, _)| at.elapsed() > BOUND);
                    *least = old.next_back().map_or(0, |told| told.1);
                }
            }
        }
        least
    }

    /// A read that may not find less than `least` has found this.
    pub fn judge(&self, found: [i64; 2], least: [i64; 2]) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if found[0] < least[0] || found[1] < least[1] {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Something failed.
    pub fn failed(&self, code: &str) {
        *self
            .errors
            .lock()
            .unwrap()
            .entry(code.to_owned())
            .or_default() += 1;
    }

    /// Writes that were acknowledged, by routers.
    pub fn written(&self) -> [u64; 2] {
        self.writes.each_ref().map(|n| n.load(Ordering::SeqCst))
    }

    /// Reads, those that missed something, and errors by their codes.
    pub fn result(&self) -> (u64, u64, BTreeMap<String, u64>) {
        let now = |number: &AtomicU64| number.load(Ordering::SeqCst);
        let errors = self.errors.lock().unwrap().clone();
        (now(&self.reads), now(&self.missed), errors)
    }

    fn row(&self, router: usize, id: i64) -> std::sync::MutexGuard<'_, History> {
        self.rows[router][id as usize - 1].lock().unwrap()
    }
}
