//! Bounds of what clients can make the whole process do at once: passwords checked,
//! cancel requests taken and on their way, wrong passwords answered.
//!
//! All of it is shared by the cores. None of it is touched by a statement.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// At most so many at once; the others wait in their order. The number may change.
#[derive(Debug)]
pub struct Throttle {
    free: Arc<Semaphore>,
    size: Mutex<usize>,
}

impl Throttle {
    /// For `size` at once.
    pub fn new(size: u32) -> Self {
        let size = size as usize;
        Self {
            free: Arc::new(Semaphore::new(size)),
            size: Mutex::new(size),
        }
    }

    /// Changes the number. Who is in stays in.
    pub fn set(&self, wanted: u32) {
        let wanted = wanted as usize;
        let mut size = self.size.lock().expect("nobody panics while holding it");
        if wanted > *size {
            self.free.add_permits(wanted - *size);
            *size = wanted;
        } else {
            // What is in use now is taken away by the next reload, at the latest.
            *size -= self.free.forget_permits(*size - wanted);
        }
    }

    /// One of them, until the result is dropped. Cancel safe.
    pub async fn enter(&self) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.free).acquire_owned().await;
        permit.expect("the semaphore is never closed")
    }
}

/// Cancel requests that are on their way, from the client to the end of their delivery.
#[derive(Debug)]
pub struct Cancels {
    pending: Arc<AtomicU32>,
    /// Those that are being delivered.
    pub delivery: Throttle,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct CancelTicket {
    pending: Arc<AtomicU32>,
    /// Dropped with it: who waits for the other end learns that it has been delivered, or was not to be.
    _ended: oneshot::Sender<()>,
}

impl Cancels {
    /// With so many delivered at once.
    pub fn new(at_once: u32) -> Self {
        Self {
            pending: Arc::default(),
            delivery: Throttle::new(at_once),
        }
    }

    /// One more, and what ends when it has ended; none if `most` are under way: then it is dropped, which the protocol
    /// allows.
    pub fn admit(&self, most: u32) -> Option<(CancelTicket, oneshot::Receiver<()>)> {
        let one_more = |n: u32| (n < most).then_some(n + 1);
        let counted = self
            .pending
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        counted.ok().map(|_| {
            let (ended, ends) = oneshot::channel();
            let ticket = CancelTicket {
                pending: Arc::clone(&self.pending),
                _ended: ended,
            };
            (ticket, ends)
        })
    }
}

impl Drop for CancelTicket {
    fn drop(&mut self) {
        self.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

/// So many buckets are there; addresses that meet in one share it.
const BUCKETS: usize = 1024;

/// How many cancel requests each address may still send: buckets of tokens, in a memory that does not grow.
///
/// Each bucket is the one number that the generic cell rate algorithm needs (ITU-T I.371, annex A): when it will be
/// full again. The hash has a key of its own in each process, so that nobody can choose whose bucket he empties.
#[derive(Debug)]
pub struct Buckets {
    hash: RandomState,
    start: Instant,
    /// Nanoseconds after the start.
    full_at: Box<[AtomicU64]>,
}

impl Default for Buckets {
    fn default() -> Self {
        Self {
            hash: RandomState::new(),
            start: Instant::now(),
            full_at: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Buckets {
    /// Takes a token of an address at this time, if there is one: `rate` come in a second, `rate` fit. A rate of 0 is
    /// no limit.
    pub fn take(&self, address: IpAddr, rate: u32, now: Instant) -> bool {
        const SECOND: u64 = 1_000_000_000;
        let Some(each) = SECOND.checked_div(u64::from(rate)) else {
            return true;
        };
        let now = now.saturating_duration_since(self.start).as_nanos() as u64;
        let place = self.hash.hash_one(network(address)) as usize % BUCKETS;
        let one_less = |full_at: u64| {
            let full_at = full_at.max(now) + each;
            (full_at - now <= SECOND).then_some(full_at)
        };
        self.full_at[place]
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_ok()
    }
}

/// Whom an address belongs to: of IPv6 the network of 64 bits, within which one machine may have any address.
fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits() >> 64,
    }
}

/// How many clients of the same user, or of the same database, there are.
#[derive(Debug, Default)]
pub struct Crowds(Arc<Mutex<HashMap<Crowd, u32>>>);

/// Who is counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Crowd {
    /// The clients of a user.
    User(Arc<str>),
    /// The clients of a database, by their name for it.
    Database(Arc<str>),
}

/// A client among those of its user and those of its database, until it is dropped.
#[derive(Debug)]
pub struct InCrowds {
    crowds: Arc<Mutex<HashMap<Crowd, u32>>>,
    /// The name that all of the user share.
    pub user: Arc<str>,
    /// The name that all of the database share.
    pub database: Arc<str>,
}

impl Crowds {
    /// One more client of a user and of a database, each with the most that it may have. Fails with the crowd that is
    /// full.
    pub fn join(
        &self,
        (user, most_of_user): (&str, Option<u32>),
        (database, most_of_database): (&str, Option<u32>),
    ) -> Result<InCrowds, Crowd> {
        let mut crowds = self.0.lock().expect("nobody panics while holding it");
        let (user, database) = (Crowd::User(user.into()), Crowd::Database(database.into()));
        for (crowd, most) in [(&user, most_of_user), (&database, most_of_database)] {
            let count = crowds.get(crowd).copied().unwrap_or(0);
            if most.is_some_and(|most| count >= most) {
                return Err(crowd.clone());
            }
        }
        let mut enter = |crowd| {
            let entry = crowds.entry(crowd);
            // The name that the first one came with.
            let (Crowd::User(name) | Crowd::Database(name)) = entry.key();
            let name = Arc::clone(name);
            *entry.or_default() += 1;
            name
        };
        Ok(InCrowds {
            user: enter(user),
            database: enter(database),
            crowds: Arc::clone(&self.0),
        })
    }
}

impl Drop for InCrowds {
    fn drop(&mut self) {
        let mut crowds = self.crowds.lock().expect("nobody panics while holding it");
        let user = Crowd::User(Arc::clone(&self.user));
        for crowd in [user, Crowd::Database(Arc::clone(&self.database))] {
            if let Some(count) = crowds.get_mut(&crowd) {
                *count -= 1;
                if *count == 0 {
                    crowds.remove(&crowd);
                }
            }
        }
    }
}

/// The pause after the first wrong password; it doubles with each one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

type Pair = (Option<IpAddr>, String);

/// How often each user was given a wrong password from each address (none is the
/// unix socket), since the last right one.
///
/// Two halves: when the newer one is full it becomes the older one, and what nobody
/// tried for so long is forgotten. So a full memory costs nothing to find room in.
#[derive(Debug, Default)]
pub struct WrongPasswords(Mutex<Halves>);

#[derive(Debug, Default)]
struct Halves {
    newer: HashMap<Pair, u32>,
    older: HashMap<Pair, u32>,
}

impl WrongPasswords {
    /// One more; returns how long its answer shall wait, at most `longest`. No more
    /// than `most` pairs are remembered.
    pub fn failed(
        &self,
        address: Option<IpAddr>,
        user: &str,
        most: u32,
        longest: Duration,
    ) -> Duration {
        let pair = (address, user.to_owned());
        let mut halves = self.0.lock().expect("nobody panics while holding it");
        let before = halves.older.remove(&pair).unwrap_or(0);
        let before = before.max(halves.newer.get(&pair).copied().unwrap_or(0));
        let half = (most / 2).max(1) as usize;
        if halves.newer.len() >= half && !halves.newer.contains_key(&pair) {
            halves.older = std::mem::take(&mut halves.newer);
            if most < 2 {
                halves.older.clear();
            }
        }
        halves.newer.insert(pair, before.saturating_add(1));
        let doubled = FIRST_PAUSE.saturating_mul(1 << before.min(16));
        doubled.min(longest)
    }

    /// A right one: what was before it is forgotten.
    pub fn succeeded(&self, address: Option<IpAddr>, user: &str) {
        let mut halves = self.0.lock().expect("nobody panics while holding it");
        if halves.newer.is_empty() && halves.older.is_empty() {
            return;
        }
        let pair = (address, user.to_owned());
        halves.newer.remove(&pair);
        halves.older.remove(&pair);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let halves = self.0.lock().unwrap();
        halves.newer.len() + halves.older.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(2);

    #[test]
    fn each_wrong_password_waits_longer_until_a_right_one() {
        let wrong = WrongPasswords::default();
        let pauses: Vec<_> = (0..7)
            .map(|_| wrong.failed(None, "a", 10, LONGEST).as_millis())
            .collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(wrong.failed(None, "b", 10, LONGEST).as_millis(), 100);
        wrong.succeeded(None, "a");
        assert_eq!(wrong.failed(None, "a", 10, LONGEST).as_millis(), 100);
        assert_eq!(wrong.failed(None, "a", 10, Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn no_more_pairs_are_remembered_than_allowed() {
        for most in [1, 2, 3, 10, 101] {
            let wrong = WrongPasswords::default();
            for user in 0..1000 {
                wrong.failed(None, &user.to_string(), most, LONGEST);
                assert!(wrong.len() <= most as usize, "{} of {most}", wrong.len());
            }
        }
    }

    #[test]
    fn cancels_over_the_limit_are_dropped_and_each_place_comes_back() {
        let cancels = Cancels::new(1);
        let first = cancels.admit(2).expect("the first has room");
        let second = cancels.admit(2).expect("so has the second");
        assert!(cancels.admit(2).is_none());
        drop(first);
        assert!(cancels.admit(2).is_some());
        drop(second);
    }

    #[test]
    fn an_address_that_has_used_up_its_cancels_gets_new_ones_and_takes_nobody_elses() {
        let buckets = Buckets::default();
        let at = |millis| buckets.start + Duration::from_millis(millis);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let taken = |address, millis, rate| {
            let all = (0..100).filter(|_| buckets.take(address, rate, at(millis)));
            all.count()
        };
        let one = ip("10.0.0.1");
        assert_eq!(taken(one, 0, 10), 10);
        assert_eq!(taken(one, 50, 10), 0);
        assert_eq!(taken(one, 350, 10), 3);
        assert_eq!(taken(one, 60_000, 10), 10);
        assert_eq!(taken(one, 60_000, 0), 100);
        // Two may meet in one bucket, a hundred do not.
        let others = (1..=100).map(|n| ip(&format!("10.0.1.{n}")));
        let full = others.filter(|other| taken(*other, 60_000, 10) == 10);
        assert!(full.count() > 50);
        // The same machine, in both of these.
        assert_eq!(taken(ip("::ffff:10.0.0.1"), 60_000, 10), 0);
        let (v6, near) = (ip("2001:db8::1"), ip("2001:db8::ffff:2"));
        assert_eq!(taken(v6, 120_000, 10) + taken(near, 120_000, 10), 10);
    }

    #[tokio::test]
    async fn a_throttle_follows_its_setting() {
        let throttle = Throttle::new(1);
        let first = throttle.enter().await;
        let full = tokio::time::timeout(Duration::from_millis(5), throttle.enter()).await;
        assert!(full.is_err());
        throttle.set(2);
        let second = throttle.enter().await;
        drop((first, second));
        throttle.set(1);
        let _only = throttle.enter().await;
        let full = tokio::time::timeout(Duration::from_millis(5), throttle.enter()).await;
        assert!(full.is_err());
    }
}
