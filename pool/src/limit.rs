//! The limit of connections that the cores of a process share.
//!
//! Pools are local to a core, the limit is not: each connection holds a
//! [`Permit`] of the one [`Limit`] of its server, user and database. A core that
//! has waiters and gets no permit says so; another core closes an idle connection
//! instead of keeping it, and the permit moves. A core that has less than its share
//! is given some even by a core that has waiters itself: else the cores that came
//! first would keep all permits for as long as they are busy.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How many connections may be open in all, and how many are.
#[derive(Debug)]
pub struct Limit {
    max: AtomicU32,
    /// What the server has room for as far as it is known; `u32::MAX` if it has said nothing.
    room: AtomicU32,
    /// Until when that is believed.
    narrow_until: Mutex<Option<Instant>>,
    open: AtomicU32,
    /// Pools under this limit, one for each core that has one.
    sharers: AtomicU32,
    hungry: AtomicU32,
    starving: AtomicU32,
    /// Those of the hungry that leave `reserve` permits to others.
    modest: AtomicU32,
    reserve: AtomicU32,
    freed: Notify,
    asked: Notify,
    /// Limits of pools that lie within this one: who waits there waits for this one, too.
    inner: Mutex<Vec<Weak<Limit>>>,
}

impl Limit {
    /// A limit of `max` connections.
    pub fn new(max: u32) -> Arc<Self> {
        Arc::new(Self {
            max: AtomicU32::new(max),
            room: AtomicU32::new(u32::MAX),
            narrow_until: Mutex::default(),
            open: AtomicU32::new(0),
            sharers: AtomicU32::new(0),
            hungry: AtomicU32::new(0),
            starving: AtomicU32::new(0),
            modest: AtomicU32::new(0),
            reserve: AtomicU32::new(0),
            freed: Notify::new(),
            asked: Notify::new(),
            inner: Mutex::default(),
        })
    }

    /// Takes a permit if one is free, leaving `spare` of them to others.
    pub fn try_acquire(self: &Arc<Self>, spare: u32) -> Option<Permit> {
        let max = self.most().saturating_sub(spare);
        self.open
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |open| {
                (open < max).then_some(open + 1)
            })
            .ok()?;
        Some(Permit {
            limit: Arc::clone(self),
        })
    }

    /// What is given back here wakes whoever waits at `inner`, which is within this limit.
    pub fn contains(&self, inner: &Arc<Limit>) {
        let mut known = self.inner.lock().expect("nobody panics while holding it");
        known.retain(|limit| limit.strong_count() > 0);
        let inner = Arc::downgrade(inner);
        if !known.iter().any(|limit| limit.ptr_eq(&inner)) {
            known.push(inner);
        }
    }

    /// True if a permit could be had now.
    pub fn has_room(&self) -> bool {
        self.open() < self.most()
    }

    fn wake(&self) {
        self.tell(|limit| &limit.freed);
    }

    /// Wakes whoever listens here or at a limit within this one.
    fn tell(&self, news: impl Fn(&Limit) -> &Notify) {
        news(self).notify_waiters();
        let inner = self.inner.lock().expect("nobody panics while holding it");
        for limit in inner.iter().filter_map(Weak::upgrade) {
            news(&limit).notify_waiters();
        }
    }

    /// Changes the limit. Connections over it close as they are given back.
    pub fn set_max(&self, max: u32) {
        self.max.store(max, Ordering::Relaxed);
        self.wake();
    }

    /// The limit by its setting.
    pub fn max(&self) -> u32 {
        self.max.load(Ordering::Relaxed)
    }

    /// The limit in force: less than that by the setting while the server has no room for more.
    pub fn most(&self) -> u32 {
        self.max().min(self.room.load(Ordering::Relaxed))
    }

    /// The server has refused one more: no more than are open now are opened before `until`.
    pub fn narrow(&self, until: Instant) {
        let mut known = self.narrow_until();
        *known = (*known).max(Some(until));
        // Of several that were refused together the last one counts.
        self.room.fetch_min(self.open(), Ordering::Relaxed);
    }

    /// How long that holds still. Whoever asks when it is over lets everybody know.
    pub fn narrowed(&self) -> Option<Duration> {
        if self.room.load(Ordering::Relaxed) == u32::MAX {
            return None;
        }
        let mut until = self.narrow_until();
        let left = until.and_then(|until| until.checked_duration_since(Instant::now()));
        if left.is_none_or(|left| left.is_zero()) {
            *until = None;
            self.room.store(u32::MAX, Ordering::Relaxed);
            drop(until);
            self.wake();
            return None;
        }
        left
    }

    fn narrow_until(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        let until = self.narrow_until.lock();
        until.expect("nobody panics while holding it")
    }

    /// Connections open now, on all cores.
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts one more pool among those that share the limit, until dropped.
    pub fn share(self: &Arc<Self>) -> LimitMember {
        self.sharers.fetch_add(1, Ordering::Relaxed);
        LimitMember {
            limit: Arc::clone(self),
        }
    }

    /// True if several pools have it.
    pub fn is_shared(&self) -> bool {
        self.sharers.load(Ordering::Relaxed) > 1
    }

    /// True if a pool with `own` connections should close one that it could keep:
    /// more are open than allowed, or somebody else waits for a permit. A pool that
    /// `needs` it for waiters of its own closes it only for a pool that has less than
    /// its share, and keeps its own share.
    pub fn wants_one_back(&self, own: u32, needs: bool) -> bool {
        if self.is_exceeded() {
            return true;
        }
        let asks = if needs { &self.starving } else { &self.hungry };
        if asks.load(Ordering::Relaxed) == 0 || (needs && own <= self.fair_share()) {
            return false;
        }
        self.is_used_up()
    }

    /// True if more are open than allowed, because the limit was lowered.
    pub fn is_exceeded(&self) -> bool {
        self.open() > self.most()
    }

    /// True if somebody who waits cannot have a permit; else one only has to be fetched.
    fn is_used_up(&self) -> bool {
        let reserve = match self.modest.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.reserve.load(Ordering::Relaxed),
        };
        self.open().saturating_add(reserve) >= self.most()
    }

    /// What every pool may have when all of them are busy; 0 if there are more pools than permits.
    fn fair_share(&self) -> u32 {
        self.most() / self.sharers.load(Ordering::Relaxed).max(1)
    }

    /// Says, until dropped, that a pool with `own` connections waits for a permit of
    /// those that leave `spare` to others.
    pub fn hungry(self: &Arc<Self>, own: u32, spare: u32) -> PermitRequest {
        let starving = own < self.fair_share().max(1);
        let modest = spare > 0;
        if modest {
            self.reserve.store(spare, Ordering::Relaxed);
            self.modest.fetch_add(1, Ordering::Relaxed);
        }
        if starving {
            self.starving.fetch_add(1, Ordering::Relaxed);
        }
        // Once is enough: who gives a connection back looks for itself.
        if self.hungry.fetch_add(1, Ordering::Relaxed) == 0 {
            self.tell(|limit| &limit.asked);
        }
        PermitRequest {
            limit: Arc::clone(self),
            starving,
            modest,
        }
    }

    /// Asks again, after a permit was taken, for those who still wait for another one.
    pub fn ask_again(&self) {
        if self.hungry.load(Ordering::Relaxed) > 0 && self.is_used_up() {
            self.tell(|limit| &limit.asked);
        }
    }

    /// Wakes when somebody began to wait for a permit, here or at a limit around this
    /// one. Cancel safe.
    pub fn asked(&self) -> tokio::sync::futures::Notified<'_> {
        self.asked.notified()
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
        self.limit.wake();
    }
}

/// A core's wish for a permit.
#[derive(Debug)]
pub struct PermitRequest {
    limit: Arc<Limit>,
    starving: bool,
    modest: bool,
}

impl Drop for PermitRequest {
    fn drop(&mut self) {
        self.limit.hungry.fetch_sub(1, Ordering::Relaxed);
        if self.starving {
            self.limit.starving.fetch_sub(1, Ordering::Relaxed);
        }
        if self.modest {
            self.limit.modest.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A pool among those that share a limit.
#[derive(Debug)]
pub struct LimitMember {
    limit: Arc<Limit>,
}

impl Drop for LimitMember {
    fn drop(&mut self) {
        self.limit.sharers.fetch_sub(1, Ordering::Relaxed);
        // Whoever listens for the pool's sake can see that it is gone.
        self.limit.asked.notify_waiters();
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
    fn a_server_without_room_makes_the_limit_smaller_for_a_while() {
        let limit = Limit::new(5);
        let permits: Vec<_> = (0..3).filter_map(|_| limit.try_acquire(0)).collect();
        drop(limit.try_acquire(0));
        limit.narrow(Instant::now() + Duration::from_secs(3600));
        assert!(limit.narrowed().is_some() && limit.try_acquire(0).is_none());
        assert_eq!((limit.most(), limit.max()), (3, 5));
        assert!(!limit.is_exceeded());
        drop(permits);
        let kept = limit.try_acquire(0);
        assert!(kept.is_some(), "what was open may be opened again");
        *limit.narrow_until() = Some(Instant::now());
        assert!(limit.narrowed().is_none());
        assert_eq!(limit.most(), 5);
    }

    #[test]
    fn an_idle_connection_is_given_up_for_a_core_that_waits() {
        let limit = Limit::new(2);
        let _pools = (limit.share(), limit.share());
        let permits: Vec<_> = (0..2).filter_map(|_| limit.try_acquire(0)).collect();
        assert!(!limit.wants_one_back(2, false), "nobody waits");
        let hungry = limit.hungry(1, 0);
        assert!(limit.wants_one_back(2, false));
        assert!(!limit.wants_one_back(2, true), "it has its share already");
        drop(permits);
        assert!(!limit.wants_one_back(1, false), "a permit is free already");
        drop(hungry);
    }

    #[test]
    fn a_core_without_its_share_gets_it_from_one_that_has_more_and_waits_too() {
        let limit = Limit::new(7);
        let _pools = (limit.share(), limit.share());
        let _permits: Vec<_> = (0..7).filter_map(|_| limit.try_acquire(0)).collect();
        let starving = limit.hungry(0, 0);
        assert!(limit.wants_one_back(7, true));
        assert!(!limit.wants_one_back(3, true), "three are its own share");
        drop(starving);
        let _hungry = limit.hungry(3, 0);
        assert!(!limit.wants_one_back(4, true), "three are a fair share");
    }

    #[test]
    fn one_permit_goes_round_among_cores() {
        let limit = Limit::new(1);
        let _pools = (limit.share(), limit.share());
        let _permit = limit.try_acquire(0);
        let _starving = limit.hungry(0, 0);
        assert!(limit.wants_one_back(1, true));
    }

    #[test]
    fn what_is_reserved_for_joins_counts_as_taken_for_as_long_as_others_wait() {
        let limit = Limit::new(4);
        let _pools = (limit.share(), limit.share());
        let _permits: Vec<_> = (0..3).filter_map(|_| limit.try_acquire(1)).collect();
        let new = limit.hungry(0, 1);
        drop(limit.hungry(0, 0));
        assert!(limit.wants_one_back(3, false), "a join came and went");
        let _join = limit.hungry(0, 0);
        drop(new);
        assert!(
            !limit.wants_one_back(3, false),
            "the join can have the fourth"
        );
    }

    #[test]
    fn who_waits_for_an_outer_limit_is_heard_within_it() {
        use std::task::{Context, Poll, Waker};
        let (outer, inner) = (Limit::new(1), Limit::new(9));
        outer.contains(&inner);
        let mut asked = std::pin::pin!(inner.asked());
        asked.as_mut().enable();
        let mut heard = || {
            let mut cx = Context::from_waker(Waker::noop());
            let now = std::future::Future::poll(asked.as_mut(), &mut cx) == Poll::Ready(());
            if now {
                asked.set(inner.asked());
                asked.as_mut().enable();
            }
            now
        };
        let permit = outer.try_acquire(0);
        outer.ask_again();
        assert!(!heard(), "nobody waits");
        let _hungry = outer.hungry(0, 0);
        assert!(heard());
        outer.ask_again();
        assert!(heard());
        drop(permit);
        outer.ask_again();
        assert!(!heard(), "a permit is free");
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
