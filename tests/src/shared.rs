//! The one PostgreSQL server that all tests of a process share, and databases
//! on it that act as shards.

use crate::folder::{Folder, at_exit};
use crate::{Endpoint, binaries, spec};
use mothership_cluster::{Auth, Cluster};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

/// The superuser of every server that tests start.
pub const USER: &str = "mother";
/// Its password, asked for by TCP.
pub const PASSWORD: &str = "ship's key";

/// A file with [`PASSWORD`] for initdb, readable to the account that runs it.
pub fn password_file(folder: &Folder) -> std::path::PathBuf {
    let path = folder.path().join("password");
    std::fs::write(&path, format!("{PASSWORD}\n")).unwrap();
    path
}

/// The shared server; the first caller starts it, the others wait.
pub fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let folder = Folder::new("shared");
        let mut spec = spec(&folder, "primary");
        spec.superuser = USER.into();
        spec.auth = Auth::Scram {
            password_file: password_file(&folder),
        };
        let cluster = Cluster::create(&binaries(), spec).unwrap_or_else(|e| panic!("{e}"));
        let pid = cluster.pid().unwrap();
        at_exit(move || end(pid, folder));
        cluster
    })
}

/// A static is never dropped, so the server is told to end here; it would also
/// end a moment after us by itself, but then its files could not be removed.
fn end(pid: u32, folder: Folder) {
    let pid = pid.try_into().unwrap();
    // SAFETY: kill and waitpid touch no memory of ours; the pid is our child, unreaped.
    unsafe {
        libc::kill(pid, libc::SIGQUIT);
        libc::waitpid(pid, std::ptr::null_mut(), 0);
    }
    drop(folder);
}

/// Empty databases of the shared server, dropped at the end of the test.
#[derive(Debug)]
pub struct Shards {
    names: Vec<String>,
}

impl Shards {
    /// Makes `count` databases.
    pub fn new(count: usize) -> Shards {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let names = (0..count).map(|shard| format!("t{number}_s{shard}"));
        let shards = Shards {
            names: names.collect(),
        };
        // A copy of the files takes half of the time that a copy of the pages takes. Before version 15 there was no other.
        static STRATEGY: OnceLock<&str> = OnceLock::new();
        let strategy = STRATEGY.get_or_init(|| {
            let version = cluster().sql("postgres", "SHOW server_version_num");
            match version.unwrap().parse::<u32>().unwrap() >= 150_000 {
                true => "STRATEGY file_copy",
                false => "",
            }
        });
        // Two CREATE DATABASE from one template at a time can be in each other's way (55006).
        static MAKING: Mutex<()> = Mutex::new(());
        let _making = MAKING.lock().unwrap_or_else(|e| e.into_inner());
        for name in &shards.names {
            let sql = format!("CREATE DATABASE {name} TEMPLATE template0 {strategy}");
            cluster().sql("postgres", &sql).unwrap();
        }
        shards
    }

    /// How to reach one of them directly, with user and password.
    pub fn endpoint(&self, shard: usize) -> Endpoint {
        Endpoint {
            host: "127.0.0.1".into(),
            port: cluster().port(),
            user: USER.into(),
            password: PASSWORD.into(),
            database: self.names[shard].clone(),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// Runs SQL on one of them, past the router: rows one per line, columns separated by `|`.
    pub fn sql(&self, shard: usize, sql: &str) -> String {
        cluster()
            .sql(&self.names[shard], sql)
            .unwrap_or_else(|e| panic!("{e}"))
    }

    /// Runs SQL on all of them and returns what each said.
    pub fn sql_all(&self, sql: &str) -> Vec<String> {
        (0..self.count())
            .map(|shard| self.sql(shard, sql))
            .collect()
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        for name in &self.names {
            // Of a failed test the sessions may still be there; a prepared
            // transaction would keep the database, which is no worry here.
            let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
            let _ = cluster().sql("postgres", &sql);
        }
    }
}
