//! What operators, or Patroni, do for a shard: commits wait for a standby, and the standby with the most WAL takes the
//! place of a primary that is lost.

use super::{CATCH_UP, Shard};
use crate::poll_until;
use mothership_cluster::Cluster;

/// A standby that was away needs the WAL of that time, and has no slot any longer.
const KEPT: &str = "256MB";

impl Shard {
    /// From here on a commit waits until one standby has it, whichever server is the primary.
    pub fn wait_for_standbys(&mut self) {
        let settings = [
            ("synchronous_standby_names", "ANY 1 (*)"),
            ("wal_keep_size", KEPT),
        ];
        for server in self.replicas.iter_mut().chain([&mut self.primary]) {
            server.configure(&settings).unwrap();
        }
        let waits = || {
            let names = self
                .primary
                .sql("postgres", "SHOW synchronous_standby_names");
            names.is_ok_and(|names| names == "ANY 1 (*)")
        };
        assert!(poll_until(CATCH_UP, waits), "the primary waits for nobody");
    }

    /// Promotes the replica with the most WAL; the others that run follow it. The old primary, which is ended already,
    /// is the replica in the place that is returned, and does not run.
    ///
    /// # Panics
    /// If no replica runs.
    pub fn succeed(&mut self) -> usize {
        let received = |server: &Cluster| {
            let sql = "SELECT pg_last_wal_receive_lsn() - '0/0'";
            server.sql("postgres", sql).ok()?.parse::<u64>().ok()
        };
        let running = self.replicas.iter().enumerate();
        let candidates = running.filter_map(|(at, server)| Some((received(server)?, at)));
        let candidate = candidates.max().expect("a replica runs").1;
        self.gather_behind(candidate);
        self.replicas[candidate].promote().unwrap();
        std::mem::swap(&mut self.primary, &mut self.replicas[candidate]);
        candidate
    }

    /// The other replicas that run follow the one in this place: when it is promoted, commits have a standby at once.
    pub fn gather_behind(&self, candidate: usize) {
        for (at, server) in self.replicas.iter().enumerate() {
            if at != candidate && server.pid().is_some() {
                server.follow(&self.replicas[candidate]).unwrap();
            }
        }
    }

    /// All replicas that run follow the primary.
    pub fn gather(&self) {
        for server in self.replicas.iter().filter(|server| server.pid().is_some()) {
            server.follow(&self.primary).unwrap();
        }
    }

    /// The replica in this place was promoted: it is the primary, the others that run follow it, and in its place is the
    /// old primary.
    pub fn crown(&mut self, candidate: usize) {
        let Shard { primary, replicas } = self;
        std::mem::swap(primary, &mut replicas[candidate]);
        for (at, server) in replicas.iter_mut().enumerate() {
            if at != candidate && server.is_running() {
                server.follow(primary).unwrap();
            }
        }
    }

    /// The replica that takes writes, if one does.
    pub fn promoted(&self) -> Option<usize> {
        let writes = |server: &Cluster| {
            let said = server.sql("postgres", "SELECT pg_is_in_recovery()");
            said.is_ok_and(|said| said == "f")
        };
        self.replicas.iter().position(writes)
    }

    /// Makes the replica in this place a new copy of the primary.
    pub fn rejoin(&mut self, at: usize) {
        let Shard { primary, replicas } = self;
        replicas[at].become_replica_of(primary).unwrap();
    }
}
