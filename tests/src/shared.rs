//! The one PostgreSQL server that all tests of a process share, and databases
//! on it that act as shards.

use crate::folder::{Folder, at_exit};
use crate::{Endpoint, Router, Wire, binaries, poll_until, spec};
use mothership_cluster::{Asking, Auth, Cluster, ClusterError};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// The superuser of every server that tests start.
pub const USER: &str = "mother";
/// Its password, asked for by TCP.
pub const PASSWORD: &str = "ship's key";

/// How long a router may take to install its schema, and servers to see that it has left.
const INSTALL_LIMIT: Duration = Duration::from_secs(20);

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

/// Sessions of the superuser by database, which wait for the next question.
static KEPT: Mutex<Option<HashMap<String, Vec<Asking>>>> = Mutex::new(None);

/// What is done with those of a database.
fn kept<R>(database: &str, act: impl FnOnce(&mut Vec<Asking>) -> R) -> R {
    let mut kept = KEPT.lock().unwrap_or_else(|e| e.into_inner());
    act(kept
        .get_or_insert_default()
        .entry(database.to_owned())
        .or_default())
}

/// Runs SQL on the shared server in a session that has no settings, locks or temporary tables of another left, and
/// is kept for the next question.
fn ask(database: &str, sql: &str) -> Result<String, ClusterError> {
    let waiting = kept(database, |kept| {
        std::iter::from_fn(|| kept.pop()).find_map(|mut s| s.is_quiet().then_some(s))
    });
    let mut session = waiting.map_or_else(|| cluster().session(database), Ok)?;
    let answer = cluster().sql_in(&mut session, sql);
    if session.discard_all() {
        kept(database, |kept| kept.push(session));
    }
    answer
}

/// Empty databases of the shared server, dropped at the end of the test.
#[derive(Debug)]
pub struct Shards {
    names: Vec<String>,
}

impl Shards {
    /// Makes `count` databases.
    pub fn new(count: usize) -> Shards {
        Shards::like("template0", count)
    }

    /// The same with the schema of the router in them: to install it takes a router longer than all else at its start.
    pub fn with_schema(count: usize) -> Shards {
        /// One for each shard of the router that installs it.
        const MADE: [&str; 2] = ["with_schema", "with_schema_too"];
        static INSTALLED: OnceLock<()> = OnceLock::new();
        INSTALLED.get_or_init(|| install(MADE));
        Shards::like(MADE[1], count)
    }

    /// Copies of this database.
    fn like(template: &str, count: usize) -> Shards {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let names = (0..count).map(|shard| format!("t{number}_s{shard}"));
        let shards = Shards {
            names: names.collect(),
        };
        create(&shards.names, template);
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
        ask(&self.names[shard], sql).unwrap_or_else(|e| panic!("{e}"))
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
            kept(name, Vec::clear);
            let _ = ask("postgres", &sql);
        }
    }
}

/// Makes these databases as copies of another one.
fn create(names: &[impl AsRef<str>], template: &str) {
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
    for name in names {
        let name = name.as_ref();
        let sql = format!("CREATE DATABASE {name} TEMPLATE {template} {strategy}");
        ask("postgres", &sql).unwrap();
    }
}

/// Lets a router install its schema in these databases, which nobody can use afterwards but as templates.
fn install(databases: [&str; 2]) {
    create(&databases, "template0");
    let mut config = format!(
        "[listen]\naddress = [\"127.0.0.1\"]\nport = @port@\n\
         [control]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
         [[table]]\nname = \"nowhere\"\nkey = \"id\"\n"
    );
    let mut on = Vec::new();
    for (shard, database) in databases.iter().enumerate() {
        let port = cluster().port();
        config += &format!(
            "[[shard]]\nname = \"s{shard}\"\n[[shard.server]]\naddress = \"127.0.0.1:{port}\"\n"
        );
        on.push(format!("s{shard} = \"{database}\""));
    }
    config += &format!(
        "[[database]]\nname = \"app\"\non = {{ {} }}\n",
        on.join(", ")
    );
    let router = Router::start(&config);
    // It does so for whoever comes first.
    Wire::login(&router.endpoint(USER, PASSWORD, "app")).query("SELECT 1");
    let there = "SELECT to_regclass('mothership.installed') IS NOT NULL";
    let is_there = |database: &&str| cluster().sql(database, there).is_ok_and(|is| is == "t");
    let installed = poll_until(INSTALL_LIMIT, || databases.iter().all(&is_there));
    assert!(installed, "the router has not installed its schema");
    drop(router);
    for database in databases {
        let sql = format!("ALTER DATABASE {database} ALLOW_CONNECTIONS false");
        cluster().sql("postgres", &sql).unwrap();
        // CREATE DATABASE waits only so long for those that are still leaving.
        let left =
            format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = '{database}'");
        let all_left = || {
            cluster()
                .sql("postgres", &left)
                .is_ok_and(|left| left == "t")
        };
        assert!(poll_until(INSTALL_LIMIT, all_left), "{database} is in use");
    }
}
