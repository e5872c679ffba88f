//! Commits over several shards that this router carries out at this moment.
//!
//! The shards of such a commit do not commit at the same moment: whoever waited for a lock of it goes on when the lock's
//! shard has committed, and another shard may still show what was there before. One PostgreSQL shows nothing of a
//! transaction before all of it ([`ProcArrayEndTransaction` comes before `ResourceOwnerRelease` of locks in
//! `CommitTransaction`, `xact.c`]). So a transaction that goes on to another shard waits there for the commits that had
//! begun before. One registry for all cores; asking it costs one atomic read while nothing is under way.

use super::doubt::Site;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// The registry.
#[derive(Debug)]
pub struct Finishing {
    count: AtomicUsize,
    sites: Mutex<Sites>,
    /// Goes up when one leaves.
    left: watch::Sender<u64>,
}

/// The commits at each site by their numbers, and whether each is decided.
#[derive(Debug, Default)]
struct Sites {
    last: u64,
    of: HashMap<Site, BTreeMap<u64, bool>>,
}

impl Default for Finishing {
    fn default() -> Self {
        Self {
            count: AtomicUsize::new(0),
            sites: Mutex::default(),
            left: watch::Sender::new(0),
        }
    }
}

/// A commit that is under way, until this is dropped.
#[derive(Debug)]
pub struct UnderWay {
    all: Arc<Finishing>,
    number: u64,
    /// By what the session calls the shard.
    sites: Vec<(usize, Site)>,
}

impl Finishing {
    /// A commit begins that writes at these sites.
    pub fn begin(self: &Arc<Self>, sites: Vec<(usize, Site)>) -> UnderWay {
        let mut known = self.lock();
        known.last += 1;
        let number = known.last;
        for (_, site) in &sites {
            known
                .of
                .entry(site.clone())
                .or_default()
                .insert(number, false);
        }
        self.count.fetch_add(sites.len(), Ordering::Release);
        drop(known);
        UnderWay {
            all: Arc::clone(self),
            number,
            sites,
        }
    }

    /// Whether none is under way anywhere.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Waits until those have ended at the site that are under way now. One that is not decided is waited for at most
    /// `undecided`: it has let nothing of it be seen yet, and may itself wait for whoever waits here. Cancel safe.
    ///
    /// # Errors
    /// One that is decided takes longer than `decided`.
    pub async fn wait(
        &self,
        site: &Site,
        undecided: Duration,
        decided: Duration,
    ) -> Result<(), StillFinishing> {
        let mut left = self.left.subscribe();
        let last = self.lock().last;
        let ended = async |only_decided: bool| {
            while self.has(site, last, only_decided) && left.changed().await.is_ok() {}
        };
        let mut ended = ended;
        if tokio::time::timeout(undecided, ended(false)).await.is_ok() {
            return Ok(());
        }
        let rest = decided.saturating_sub(undecided);
        let waited = tokio::time::timeout(rest, ended(true)).await;
        waited.map_err(|_| StillFinishing)
    }

    /// Whether one of the first `last` is under way at the site, and decided if only those count.
    fn has(&self, site: &Site, last: u64, only_decided: bool) -> bool {
        let known = self.lock();
        let Some(there) = known.of.get(site) else {
            return false;
        };
        let mut first = there.range(..=last);
        first.any(|(_, decided)| *decided || !only_decided)
    }

    fn lock(&self) -> MutexGuard<'_, Sites> {
        // Whoever panicked while holding it left whole entries.
        self.sites.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A commit that is decided is not finished at a site in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StillFinishing;

impl UnderWay {
    /// It is decided: from now on its parts are committed one by one.
    pub fn decided(&self) {
        let mut known = self.all.lock();
        for (_, site) in &self.sites {
            if let Some(decided) = known
                .of
                .get_mut(site)
                .and_then(|of| of.get_mut(&self.number))
            {
                *decided = true;
            }
        }
    }

    /// Its part on this shard is done.
    pub fn done(&mut self, shard: usize) {
        if let Some(at) = self.sites.iter().position(|(own, _)| *own == shard) {
            let (_, site) = self.sites.swap_remove(at);
            self.leave(&[site]);
        }
    }

    fn leave(&self, sites: &[Site]) {
        let mut known = self.all.lock();
        for site in sites {
            if let Some(there) = known.of.get_mut(site) {
                there.remove(&self.number);
                if there.is_empty() {
                    known.of.remove(site);
                }
            }
        }
        drop(known);
        self.all.count.fetch_sub(sites.len(), Ordering::Release);
        self.all
            .left
            .send_modify(|version| *version = version.wrapping_add(1));
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let sites: Vec<Site> = self.sites.drain(..).map(|(_, site)| site).collect();
        if !sites.is_empty() {
            self.leave(&sites);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(9);
    const SHORT: Duration = Duration::from_millis(5);

    fn site(shard: &str) -> Site {
        Site {
            shard: shard.into(),
            database: "d".into(),
        }
    }

    fn begun(all: &Arc<Finishing>) -> UnderWay {
        all.begin(vec![(0, site("a")), (1, site("b"))])
    }

    #[tokio::test]
    async fn those_are_waited_for_that_began_before() {
        let all = Arc::<Finishing>::default();
        assert!(all.is_empty());
        assert_eq!(all.wait(&site("a"), LONG, LONG).await, Ok(()));
        let mut first = begun(&all);
        let (waited, later) = tokio::join!(
            async {
                let (a, b) = (site("a"), site("b"));
                tokio::join!(all.wait(&a, LONG, LONG), all.wait(&b, LONG, LONG))
            },
            async {
                let later = begun(&all);
                first.done(0);
                drop(first);
                later
            }
        );
        assert_eq!(waited, (Ok(()), Ok(())));
        drop(later);
        assert!(all.is_empty());
    }

    #[tokio::test]
    async fn what_is_not_decided_is_not_waited_for_long() {
        let all = Arc::<Finishing>::default();
        let under_way = begun(&all);
        assert_eq!(all.wait(&site("a"), SHORT, SHORT * 2).await, Ok(()));
        under_way.decided();
        let late = all.wait(&site("a"), SHORT, SHORT * 2).await;
        assert_eq!(late, Err(StillFinishing));
    }
}
