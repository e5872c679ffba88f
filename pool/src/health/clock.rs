//! Counts the writes that a group has acknowledged, so that a read can say what it
//! must see.
//!
//! The order of events is all there is to it:
//!
//! 1. The server acknowledges a write (its commit record lies in the log).
//! 2. The router calls [`CommitClock::acknowledge`].
//! 3. The client is told.
//!
//! and for a probe of the primary
//!
//! 1. The prober reads [`CommitClock::now`]: `k`.
//! 2. It asks the primary how far its log goes: `L`.
//!
//! Write `n <= k` was counted before the prober read `k`, and acknowledged by the
//! server before it was counted, so its record had been inserted before the
//! question was even sent: it ends at or below `L`. A write that is acknowledged
//! between the two steps gets a number above `k`, whether or not it lies below `L`:
//! it counts as later, which is the safe side. Were `L` read first, a write between
//! the two would be counted in `k` and lie above `L`: it would be missed.
//!
//! A read takes its number when it has arrived. Every write that any client of this
//! process was told of before that was counted before that, so the number is not
//! smaller than the write's. A replica that has replayed `L` has the writes `1..=k`
//! and may serve reads with a number of at most `k`.
//!
//! The orderings are sequentially consistent, because the three parties share no other
//! memory: what joins "told" and "arrived" is the network.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a write touched, or a read looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Everything, or it is not known what.
    All,
    /// A part of the group's data, by any hash of its name (table and slot). Different parts with one
    /// hash only make reads stricter.
    Part(u64),
}

/// The number of a write: how many writes the group had acknowledged with it.
pub type WriteNumber = u64;

/// The acknowledged writes of one group; lives as long as the process, whatever is reloaded.
#[derive(Debug)]
pub struct CommitClock {
    /// The last number given.
    last: AtomicU64,
    /// The last write of which it is not known what it touched.
    anywhere: AtomicU64,
    /// For each hash the last write of such a part.
    parts: Box<[AtomicU64]>,
}

/// How many parts are told apart by default; 128 KiB for each group.
pub const PARTS: usize = 16_384;

impl CommitClock {
    /// A clock that tells `parts` parts apart.
    pub fn new(parts: usize) -> Self {
        CommitClock {
            last: AtomicU64::new(0),
            anywhere: AtomicU64::new(0),
            parts: (0..parts.max(1)).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Counts a write, or a transaction with writes, that the server has acknowledged. To be called after that and before the client is
    /// told. Call it once for each scope that was touched, or with [`Scope::All`].
    ///
    /// Returns the write's number, which the session keeps for `freshness = "session"`.
    pub fn acknowledge(&self, scope: Scope) -> WriteNumber {
        let moment = self.last.fetch_add(1, Ordering::SeqCst) + 1;
        // A read between these two steps does not see the write's number yet. Nobody has been told of the write yet either.
        self.counter(scope).fetch_max(moment, Ordering::SeqCst);
        moment
    }

    /// From now on every write counted so far counts as one that may have been anywhere. No write is added, so a
    /// replica that has them all stays fit.
    pub fn widen(&self) {
        // A writer that has its number already and notes its part later has one of at most this.
        self.anywhere.fetch_max(self.now(), Ordering::SeqCst);
    }

    /// What a read of `scope` that has arrived now must see.
    pub fn needed(&self, scope: Scope) -> WriteNumber {
        match scope {
            Scope::All => self.now(),
            Scope::Part(_) => {
                let part = self.counter(scope).load(Ordering::SeqCst);
                part.max(self.anywhere.load(Ordering::SeqCst))
            }
        }
    }

    /// The number of the last write.
    pub fn now(&self) -> WriteNumber {
        self.last.load(Ordering::SeqCst)
    }

    /// Where the last write of a scope is noted.
    fn counter(&self, scope: Scope) -> &AtomicU64 {
        match scope {
            Scope::All => &self.anywhere,
            Scope::Part(hash) => {
                let at = hash % self.parts.len() as u64;
                &self.parts[at as usize]
            }
        }
    }
}

impl Default for CommitClock {
    fn default() -> Self {
        CommitClock::new(PARTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_needs_the_last_write_of_its_part_or_of_an_unknown_part() {
        let clock = CommitClock::new(8);
        let (a, b) = (Scope::Part(1), Scope::Part(2));
        assert_eq!(clock.needed(Scope::All), 0);
        assert_eq!(clock.acknowledge(a), 1);
        assert_eq!(clock.acknowledge(a), 2);
        assert_eq!((clock.needed(a), clock.needed(b)), (2, 0));
        assert_eq!(clock.acknowledge(Scope::All), 3);
        assert_eq!((clock.needed(a), clock.needed(b)), (3, 3));
        assert_eq!(clock.acknowledge(b), 4);
        assert_eq!((clock.needed(a), clock.needed(b)), (3, 4));
        assert_eq!(clock.needed(Scope::All), 4);
        // 9 shares the place of 1.
        assert_eq!(clock.needed(Scope::Part(9)), 3);
        clock.widen();
        assert_eq!((clock.needed(a), clock.needed(b), clock.now()), (4, 4, 4));
    }

    #[test]
    fn writers_on_many_cores_never_leave_a_part_behind() {
        let clock = CommitClock::new(1);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let moment = clock.acknowledge(Scope::Part(0));
                        assert!(clock.needed(Scope::Part(0)) >= moment);
                    }
                });
            }
        });
        assert_eq!(clock.needed(Scope::Part(0)), 40_000);
        assert_eq!(clock.now(), 40_000);
    }
}
