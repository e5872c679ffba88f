//! The limit of connections that the cores of a process share.
//!
//! Pools are local to a core, the limit is not: each connection holds a
//! [`Permit`] of the one [`Limit`] of its server, user and database. A core that
//! has waiters and gets no permit says so; another core that could keep an idle
//! connection closes it instead, and the permit moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::Notify;

/// How many connections may be open in all, and how many are.
#[derive(Debug)]
pub struct Limit {
    max: AtomicU32,
    open: AtomicU32,
    hungry: AtomicU32,
    freed: Notify,
}

impl Limit {
    /// A limit of `max` connections.
    pub fn new(max: u32) -> Arc<Self> {
        Arc::new(Self {
            max: AtomicU32::new(max),
            open: AtomicU32::new(0),
            hungry: AtomicU32::new(0),
            freed: Notify::new(),
        })
    }

    /// Takes a permit if one is free, leaving `spare` of them to others.
    pub fn try_acquire(self: &Arc<Self>, spare: u32) -> Option<Permit> {
        let max = self.max.load(Ordering::Relaxed).saturating_sub(spare);
        self.open
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |open| {
                (open < max).then_some(open + 1)
            })
            .ok()?;
        Some(Permit {
            limit: Arc::clone(self),
        })
    }

    /// Changes the limit. Connections over it close as they are given back.
    pub fn set_max(&self, max: u32) {
        self.max.store(max, Ordering::Relaxed);
        self.freed.notify_waiters();
    }

    /// The limit in force.
    pub fn max(&self) -> u32 {
        self.max.load(Ordering::Relaxed)
    }

    /// Connections open now, on all cores.
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// True when more are open than allowed, or somebody waits for a permit on
    /// another core: an idle connection should then be closed rather than kept.
    pub fn wants_one_back(&self) -> bool {
        self.open() > self.max() || self.hungry.load(Ordering::Relaxed) > 0
    }

    /// Says, until dropped, that this core waits for a permit.
    pub fn hungry(self: &Arc<Self>) -> Hungry {
        self.hungry.fetch_add(1, Ordering::Relaxed);
        Hungry {
            limit: Arc::clone(self),
        }
    }

    /// Wakes when a permit was given back. Cancel safe.
    pub fn freed(&self) -> tokio::sync::futures::Notified<'_> {
        self.freed.notified()
    }
}

/// The right to one open connection; given back on drop.
#[derive(Debug)]
pub struct Permit {
    limit: Arc<Limit>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limit.open.fetch_sub(1, Ordering::AcqRel);
        self.limit.freed.notify_waiters();
    }
}

/// A core's wish for a permit.
#[derive(Debug)]
pub struct Hungry {
    limit: Arc<Limit>,
}

impl Drop for Hungry {
    fn drop(&mut self) {
        self.limit.hungry.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_permits_than_the_limit_and_each_comes_back() {
        let limit = Limit::new(2);
        let a = limit.try_acquire(0).expect("the first is free");
        let _b = limit.try_acquire(0).expect("the second is free");
        assert!(limit.try_acquire(0).is_none());
        drop(a);
        assert!(limit.try_acquire(1).is_none(), "one is kept for joins");
        assert!(limit.try_acquire(0).is_some());
        assert_eq!(limit.open(), 1);
    }

    #[test]
    fn threads_never_exceed_the_limit() {
        let limit = Limit::new(7);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let permit = limit.try_acquire(0);
                        assert!(limit.open() <= 7);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(limit.open(), 0);
    }
}
