//! Shards as clusters of their own, each a primary with streaming replicas: for
//! tests that kill, freeze, delay or promote servers.

mod succession;

use crate::shared::{PASSWORD, USER, password_file};
use crate::{Endpoint, Folder, binaries, poll_until, spec};
use mothership_cluster::{Auth, Cluster, ClusterError, Slot};
use std::path::Path;
use std::thread;
use std::time::Duration;

/// How long a replica may take to have replayed what its primary has written.
const CATCH_UP: Duration = Duration::from_secs(30);

/// A primary and its replicas. Fields are open: a test breaks what it likes.
#[derive(Debug)]
pub struct Shard {
    /// The primary.
    pub primary: Cluster,
    /// Its replicas, each with a slot `r0`, `r1`, … of its own.
    pub replicas: Vec<Cluster>,
}

/// Several shards; their servers and folders end with this.
#[derive(Debug)]
pub struct Fleet {
    /// The shards.
    pub shards: Vec<Shard>,
    // Behind the servers, so that it is removed after them.
    _folder: Folder,
}

impl Fleet {
    /// Starts `shards` primaries with `replicas` each, side by side.
    pub fn new(shards: usize, replicas: usize) -> Fleet {
        let folder = Folder::new("fleet");
        password_file(&folder);
        let shards = thread::scope(|scope| {
            let start = |shard| {
                let folder = &folder;
                scope.spawn(move || Shard::start(folder, shard, replicas))
            };
            let starting: Vec<_> = (0..shards).map(start).collect();
            let started = starting.into_iter().map(|shard| shard.join().unwrap());
            started
                .map(|shard| shard.unwrap_or_else(|error| panic!("{error}")))
                .collect()
        });
        Fleet {
            shards,
            _folder: folder,
        }
    }
}

impl Shard {
    fn start(folder: &Folder, shard: usize, replicas: usize) -> Result<Shard, ClusterError> {
        let binaries = binaries();
        let of = |name: String| {
            let mut spec = spec(folder, &name);
            spec.superuser = USER.into();
            spec.auth = Auth::Scram {
                password_file: folder.path().join("password"),
            };
            spec
        };
        let primary = Cluster::create(&binaries, of(format!("s{shard}")))?;
        let replicas = (0..replicas).map(|number| {
            let slot = Slot::Named(format!("r{number}"));
            let spec = of(format!("s{shard}r{number}"));
            Cluster::replica_of(&primary, &binaries, spec, &slot)
        });
        let replicas = replicas.collect::<Result<_, _>>()?;
        Ok(Shard { primary, replicas })
    }

    /// How to reach one of the shard's servers directly.
    pub fn endpoint(server: &Cluster) -> Endpoint {
        Endpoint {
            host: "127.0.0.1".into(),
            port: server.port(),
            user: USER.into(),
            password: PASSWORD.into(),
            database: "postgres".into(),
        }
    }

    /// Waits until every replica has replayed all that the primary has written so far.
    pub fn wait_replayed(&self) {
        let written = self
            .primary
            .sql("postgres", "SELECT pg_current_wal_insert_lsn()");
        let replayed = format!(
            "SELECT pg_last_wal_replay_lsn() >= '{}'",
            written.unwrap_or_else(|error| panic!("{error}"))
        );
        let caught_up =
            |replica: &Cluster| replica.sql("postgres", &replayed).is_ok_and(|t| t == "t");
        let all = poll_until(CATCH_UP, || self.replicas.iter().all(caught_up));
        let late = self.replicas.iter().filter(|replica| !caught_up(replica));
        let said: Vec<String> = late.map(|replica| last_lines(&replica.log())).collect();
        assert!(
            all,
            "a replica has not replayed within {CATCH_UP:?}; it says: {said:#?}"
        );
    }
}

fn last_lines(path: &Path) -> String {
    const MAX_LINES: usize = 20;
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(MAX_LINES)..].join("\n")
}
