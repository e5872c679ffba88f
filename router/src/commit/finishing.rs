//! Commits over several shards that this router is carrying out now.
//!
//! The shards of such a commit do not commit at the same moment. A transaction that waited for one of its locks goes on as
//! soon as the shard with the lock has committed. On another shard it could then still read the rows from before the
//! commit. One PostgreSQL never shows half a transaction: in `CommitTransaction` (`xact.c`), `ProcArrayEndTransaction`
//! comes before `ResourceOwnerRelease` of the locks. So before a transaction uses a further shard, it waits for the commits
//! there that have already begun. All cores share one registry. While no commit is under way, a check is one atomic read.

use super::doubt::Site;
use mothership_shardmap::ShardId;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// The registry of these commits.
#[derive(Debug)]
pub struct Finishing {
    /// How many shards have a part that is not finished, over all commits.
    count: AtomicUsize,
    sites: Mutex<Sites>,
    /// Changes whenever a part is finished. Wakes the waiting transactions.
    left: watch::Sender<u64>,
}

/// The commits at each site, by number. The value says whether the commit is decided.
#[derive(Debug, Default)]
struct Sites {
    /// The number of the newest commit.
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

/// A commit that is under way. Dropping it removes it from the registry.
#[derive(Debug)]
pub struct CommitUnderWay {
    all: Arc<Finishing>,
    number: u64,
    /// The unfinished parts: index of the shard, and its site.
    sites: Vec<(ShardId, Site)>,
}

impl Finishing {
    /// Registers a commit that writes at these sites.
    pub fn begin(self: &Arc<Self>, sites: Vec<(ShardId, Site)>) -> CommitUnderWay {
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
        CommitUnderWay {
            all: Arc::clone(self),
            number,
            sites,
        }
    }

    /// Whether no commit is under way.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Waits for the commits that are under way at the site now: for one that is decided at most `decided`, for any other
    /// at most `undecided`, because no shard shows anything of it yet and it may itself wait for the caller. Cancel safe.
    ///
    /// # Errors
    /// If a decided commit is not finished within `decided`.
    pub async fn wait(
        &self,
        site: &Site,
        undecided: Duration,
        decided: Duration,
    ) -> Result<(), StillFinishing> {
        let mut left = self.left.subscribe();
        let last = self.lock().last;
        let undecided = undecided.min(decided);
        let mut ended = async |only_decided: bool| {
            while self.has(site, last, only_decided) && left.changed().await.is_ok() {}
        };
        if tokio::time::timeout(undecided, ended(false)).await.is_ok() {
            return Ok(());
        }
        let rest = decided.saturating_sub(undecided);
        let waited = tokio::time::timeout(rest, ended(true)).await;
        waited.map_err(|_| StillFinishing)
    }

    /// Whether one of the commits up to number `last` is under way at the site. With `only_decided`, only decided ones count.
    fn has(&self, site: &Site, last: u64, only_decided: bool) -> bool {
        let known = self.lock();
        let Some(there) = known.of.get(site) else {
            return false;
        };
        let mut first = there.range(..=last);
        first.any(|(_, decided)| *decided || !only_decided)
    }

    fn lock(&self) -> MutexGuard<'_, Sites> {
        // After a panic each entry is still valid, so a poisoned lock may be used.
        self.sites.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A decided commit was not finished at the site in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StillFinishing;

impl CommitUnderWay {
    /// Notes that the commit is decided, or may be. From now on its parts may be committed one by one.
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

    /// Notes that the part on this shard is finished.
    pub fn done(&mut self, shard: ShardId) {
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

impl Drop for CommitUnderWay {
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

    fn begun(all: &Arc<Finishing>) -> CommitUnderWay {
        all.begin(vec![(ShardId(0), site("a")), (ShardId(1), site("b"))])
    }

    #[tokio::test]
    async fn wait_returns_when_earlier_commits_end() {
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
                first.done(ShardId(0));
                drop(first);
                later
            }
        );
        assert_eq!(waited, (Ok(()), Ok(())));
        drop(later);
        assert!(all.is_empty());
    }

    #[tokio::test]
    async fn an_undecided_commit_is_waited_for_only_briefly() {
        let all = Arc::<Finishing>::default();
        let under_way = begun(&all);
        assert_eq!(all.wait(&site("a"), SHORT, SHORT * 2).await, Ok(()));
        under_way.decided();
        for undecided in [SHORT, LONG] {
            let a = site("a");
            let late = all.wait(&a, undecided, SHORT * 2);
            let late = tokio::time::timeout(LONG / 2, late).await;
            assert_eq!(late, Ok(Err(StillFinishing)));
        }
    }
}
