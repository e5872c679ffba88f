//! What this router has committed and not yet seen on every shard.
//!
//! COMMIT is answered when the decision is durable, even if a shard cannot be
//! reached. Until recovery has finished that shard's part, a statement there would
//! not see what the client was told to be committed: so it waits. One registry for
//! all cores; asking it costs one atomic read while nothing is in doubt.

use super::gid::{Gid, TransactionId};
use mothership_pool::health::{CommitClock, Scope};
use mothership_proto::report::{Report, sqlstate};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// A database of one shard, by the names of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    /// The shard's name.
    pub shard: String,
    /// The database's name on its servers.
    pub database: String,
}

/// The registry.
#[derive(Debug)]
pub struct Doubts {
    count: AtomicUsize,
    /// How many there have ever been.
    ever: AtomicU64,
    sites: Mutex<HashMap<Site, HashMap<TransactionId, Instant>>>,
    settled: watch::Sender<u64>,
    /// Recovery waits for it.
    noted: Notify,
    /// By the shard's name: where a settled part counts as acknowledged.
    clocks: Mutex<HashMap<String, Arc<CommitClock>>>,
}

impl Default for Doubts {
    fn default() -> Self {
        Self {
            count: AtomicUsize::new(0),
            ever: AtomicU64::new(0),
            sites: Mutex::default(),
            settled: watch::Sender::new(0),
            noted: Notify::new(),
            clocks: Mutex::default(),
        }
    }
}

impl Doubts {
    /// Notes that a committed part was not finished on its shard, and wakes recovery.
    pub fn note(&self, site: Site, gid: &Gid) {
        let mut sites = self.lock();
        let new = sites
            .entry(site)
            .or_default()
            .insert(gid.id, Instant::now());
        if new.is_none() {
            self.count.fetch_add(1, Ordering::SeqCst);
            self.ever.fetch_add(1, Ordering::SeqCst);
        }
        drop(sites);
        self.noted.notify_one();
    }

    /// Says where writes are counted, so that no replica without a part that is
    /// settled late serves a read.
    pub fn set_clocks(&self, clocks: HashMap<String, Arc<CommitClock>>) {
        *self.clocks.lock().expect("nobody panics while holding it") = clocks;
    }

    /// How many parts are in doubt; above `transactions.in_doubt` new transactions over several shards are refused.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// How many there have ever been, if nothing is in doubt. As long as that stays the same, nothing is settled late
    /// that changes definitions.
    pub fn none_since(&self) -> Option<u64> {
        let ever = self.ever.load(Ordering::SeqCst);
        (self.count.load(Ordering::SeqCst) == 0).then_some(ever)
    }

    /// Whether statements there have to wait.
    pub fn has(&self, site: &Site) -> bool {
        self.count() > 0 && self.lock().contains_key(site)
    }

    /// Waits until nothing is in doubt there, at most `limit`. Cancel safe.
    ///
    /// # Errors
    /// What the client is told then (57P03).
    pub async fn wait(&self, site: &Site, limit: Duration) -> Result<(), Report> {
        let mut settled = self.settled.subscribe();
        let wait = async {
            while self.has(site) {
                if settled.changed().await.is_err() {
                    return;
                }
            }
        };
        let waited = tokio::time::timeout(limit, wait).await;
        waited.map_err(|_| unfinished(&site.shard))
    }

    /// Takes what a look at a site has shown that began at `begun`: all that was noted
    /// before and is not held any more is settled.
    pub fn settle(&self, site: &Site, begun: Instant, held: &HashSet<TransactionId>) {
        let mut sites = self.lock();
        // Before the first one that waits for it may go on.
        if sites.contains_key(site)
            && let Some(clock) = self.clock(&site.shard)
        {
            clock.acknowledge(Scope::All);
        }
        let Some(doubts) = sites.get_mut(site) else {
            return;
        };
        let before = doubts.len();
        doubts.retain(|id, noted| *noted >= begun || held.contains(id));
        let settled = before.saturating_sub(doubts.len());
        if doubts.is_empty() {
            sites.remove(site);
        }
        drop(sites);
        if settled > 0 {
            self.count.fetch_sub(settled, Ordering::Release);
            self.settled
                .send_modify(|version| *version = version.wrapping_add(1));
        }
    }

    /// Ends when something was noted since the last call, or now. Cancel safe; for one waiter.
    pub async fn noted(&self) {
        self.noted.notified().await;
    }

    /// Where something is in doubt: recovery looks there even if the configuration does not say so.
    pub fn sites(&self) -> Vec<Site> {
        self.lock().keys().cloned().collect()
    }

    /// Everything in doubt: where, which transaction, and since when it was noted.
    pub fn all(&self) -> Vec<(Site, TransactionId, Instant)> {
        let sites = self.lock();
        let each = sites.iter().flat_map(|(site, ids)| {
            let each = ids.iter();
            each.map(|(id, noted)| (site.clone(), *id, *noted))
        });
        each.collect()
    }

    fn clock(&self, shard: &str) -> Option<Arc<CommitClock>> {
        let clocks = self.clocks.lock().expect("nobody panics while holding it");
        clocks.get(shard).map(Arc::clone)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Site, HashMap<TransactionId, Instant>>> {
        self.sites.lock().expect("nobody panics while holding it")
    }
}

/// What a statement is told that has waited too long for a commit on this shard.
pub fn unfinished(shard: &str) -> Report {
    Report::error(
        sqlstate::CANNOT_CONNECT_NOW,
        format!("shard \"{shard}\" has a committed transaction that is not finished"),
    )
    .detail("the shard could not be reached when the transaction was committed")
    .hint("Try again when the shard can be reached; SHOW TRANSACTIONS lists what is in doubt.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        Site {
            shard: "a".into(),
            database: "d".into(),
        }
    }

    fn gid() -> Gid {
        Gid::parse("ms1:r1:0000000000000000000000003:s0:s1:1:5:7:b").unwrap()
    }

    #[tokio::test]
    async fn statements_wait_until_it_is_settled_or_fail() {
        let doubts = Doubts::default();
        assert_eq!(doubts.wait(&site(), Duration::from_secs(9)).await, Ok(()));
        doubts.note(site(), &gid());
        doubts.note(site(), &gid());
        assert_eq!(doubts.count(), 1);
        let late = doubts.wait(&site(), Duration::from_millis(5)).await;
        assert_eq!(late.unwrap_err().code, "57P03");
        let site = site();
        let (waited, ()) = tokio::join!(doubts.wait(&site, Duration::from_secs(9)), async {
            doubts.settle(&site, Instant::now(), &HashSet::from([gid().id]));
            assert!(doubts.has(&site));
            doubts.settle(&site, Instant::now(), &HashSet::new());
        });
        assert_eq!((waited, doubts.count()), (Ok(()), 0));
    }

    #[test]
    fn a_look_that_began_before_says_nothing() {
        let doubts = Doubts::default();
        let begun = Instant::now();
        doubts.note(site(), &gid());
        doubts.settle(&site(), begun, &HashSet::new());
        assert!(doubts.has(&site()));
    }
}
