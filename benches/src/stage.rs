//! Everything that a run needs, on this machine: servers with the same rows, and the proxies before them.
//!
//! One PostgreSQL serves `direct`, PgBouncer and the router as a plain pooler. Three more are the
//! shards of the router that routes; it fills them itself. All proxies may have as many server
//! connections in all ([`CONNECTIONS`]) and keep them. PgBouncer has one thread by design; the
//! router is run with its default, a runtime for every two cores, and with one for each.
//! For tables on MongoDB there is a replica set, with a router of its own.

use crate::bulk::{self, Bulk};
use crate::case::{Case, Work};
use crate::driver::Driver;
use crate::event;
use crate::interrupt;
use crate::load::Pgbench;
use crate::mongo::Mongo;
use crate::options::Options;
use crate::proxy::{DATABASE, PASSWORD, Proxy, USER, one_of_several};
use crate::scripts;
use mothership_cluster::{Binaries, Cluster, ClusterError, Spec, free_port};
use mothership_tests::Folder;
use std::path::{Path, PathBuf};
use std::thread;

/// Server connections of each proxy, in all.
pub const CONNECTIONS: u32 = 20;

const SHARDS: u32 = 3;

/// Who is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// PostgreSQL itself.
    Direct,
    /// PgBouncer before that PostgreSQL.
    PgBouncer,
    /// PgBouncer before the three shards, each a database of its own: it does not route.
    PgBouncerShards,
    /// The router over three shards.
    Shards,
    /// An earlier build of the router over the same shards.
    Earlier,
    /// The router over three shards with a runtime for each core.
    ShardsCores,
    /// The same with one, where io_uring is forbidden.
    ShardsPlain,
    /// The router before one PostgreSQL, with nothing declared.
    Pool,
    /// The same with a runtime for each core.
    PoolCores,
    /// The router before that PostgreSQL, with tables on MongoDB.
    Documents,
    /// A program that uses MongoDB's own driver.
    Driver,
}

impl Target {
    /// All of them, in the order of the tables.
    pub const ALL: [Target; 11] = [
        Target::Direct,
        Target::PgBouncer,
        Target::PgBouncerShards,
        Target::Shards,
        Target::Earlier,
        Target::ShardsPlain,
        Target::ShardsCores,
        Target::Pool,
        Target::PoolCores,
        Target::Documents,
        Target::Driver,
    ];

    /// Those that bars are about, and those that they are compared with.
    pub const JUDGED: [Target; 8] = [
        Target::Direct,
        Target::PgBouncer,
        Target::PgBouncerShards,
        Target::Shards,
        Target::ShardsPlain,
        Target::Pool,
        Target::Documents,
        Target::Driver,
    ];

    /// Its name in tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Target::Direct => "direct",
            Target::PgBouncer => "pgbouncer",
            Target::PgBouncerShards => "pgbouncer-shards",
            Target::Shards => "shards",
            Target::Earlier => "earlier",
            Target::ShardsCores => "shards-cores",
            Target::ShardsPlain => "shards-plain",
            Target::Pool => "pool",
            Target::PoolCores => "pool-cores",
            Target::Documents => "documents",
            Target::Driver => "driver",
        }
    }

    /// The target of a name.
    pub fn of(name: &str) -> Option<Target> {
        Target::ALL.into_iter().find(|target| target.name() == name)
    }

    /// Whether it stands before the shards.
    fn is_sharded(self) -> bool {
        self.routes() || self == Target::PgBouncerShards
    }

    /// Whether it finds the shard of each statement.
    fn routes(self) -> bool {
        matches!(
            self,
            Target::Shards | Target::Earlier | Target::ShardsCores | Target::ShardsPlain
        )
    }

    /// The databases among which its clients are divided.
    pub fn databases(self) -> u32 {
        match self {
            Target::PgBouncerShards => SHARDS,
            _ => 1,
        }
    }

    /// Whether it needs MongoDB, and nothing else is asked of it than what is about documents.
    pub fn is_of_documents(self) -> bool {
        matches!(self, Target::Documents | Target::Driver)
    }

    /// Whether a case is asked of it. What only one bar is about is asked of the two that it compares.
    pub fn is_asked(self, case: &Case) -> bool {
        match (case.work, self) {
            (Work::Documents(_), target) => target.is_of_documents(),
            (_, Target::Documents | Target::Driver) => false,
            (_, Target::Shards | Target::Earlier) | (Work::Select | Work::Copy, Target::Direct) => {
                true
            }
            (work, Target::PgBouncer) => work != Work::Copy,
            (Work::Select | Work::Paced(_), Target::Pool) => true,
            (Work::Select | Work::Paced(_), Target::PgBouncerShards) => case.clients >= SHARDS,
            (Work::Select, _) => case.clients > 1,
            (Work::Traced, Target::ShardsPlain) => true,
            _ => false,
        }
    }

    /// Runtimes of the router, as its `listen.workers`.
    fn workers(self) -> String {
        match self {
            Target::ShardsCores | Target::PoolCores => thread::available_parallelism()
                .map_or(1, |n| n.get())
                .to_string(),
            _ => "\"auto\"".to_owned(),
        }
    }
}

/// How a proxy lets its clients in.
#[derive(Debug, Clone, Copy)]
enum Login<'a> {
    Trust,
    /// By SCRAM, with this verifier of the user's password.
    Scram(&'a str),
}

/// What runs. Dropped, all of it ends and its folder is removed.
#[derive(Debug)]
pub struct Stage {
    proxies: Vec<(Target, Proxy)>,
    /// Those that ask for a password.
    strict: Vec<(Target, Proxy)>,
    /// What has documents, if they are asked for.
    mongo: Option<Mongo>,
    /// What reads documents through the router.
    reader: Option<Driver>,
    single: Cluster,
    shards: Vec<Cluster>,
    // Behind the servers, so that it is removed after them.
    folder: Folder,
}

impl Stage {
    /// Starts what the targets need, and fills it.
    pub fn start(options: &Options, binaries: &Binaries) -> Result<Stage, String> {
        let folder = Folder::new("bench");
        let sharded = options.targets.iter().any(|target| target.is_sharded());
        if sharded && !options.targets.iter().any(|target| target.routes()) {
            return Err("the rows of pgbouncer-shards are there with the target shards".into());
        }
        let mut clusters = clusters(&folder, binaries, if sharded { 1 + SHARDS } else { 1 })?;
        let mut stage = Stage {
            proxies: Vec::new(),
            strict: Vec::new(),
            mongo: None,
            reader: None,
            single: clusters.remove(0),
            shards: clusters,
            folder,
        };
        interrupt::check()?;
        if options
            .targets
            .iter()
            .any(|target| target.is_of_documents())
        {
            let program = options.driver.as_ref().ok_or("--driver is missing")?;
            stage.mongo = Some(Mongo::start(program, options.documents)?);
        }
        let (sharded, others): (Vec<_>, Vec<_>) = options
            .targets
            .iter()
            .filter(|target| !matches!(target, Target::Direct | Target::Driver))
            .partition(|target| target.routes());
        // One router fills the shards; another one that started before would not know the tables at once.
        let (first, second) = sharded.split_at(sharded.len().min(1));
        stage.begin(first, options, binaries)?;
        stage.fill(options, binaries)?;
        stage.begin(&[second, &others].concat(), options, binaries)?;
        stage.begin_strict(options, binaries)?;
        let documents = stage.proxies.iter().find(|(t, _)| *t == Target::Documents);
        if let (Some((_, proxy)), Some(program)) = (documents, &options.driver) {
            let uri = format!("postgres://{USER}@127.0.0.1:{}", proxy.port());
            stage.reader = Some(Driver::start(program, &uri)?);
        }
        Ok(stage)
    }

    /// Starts the proxies that ask for a password, where a case needs them.
    fn begin_strict(&mut self, options: &Options, binaries: &Binaries) -> Result<(), String> {
        let mut cases = options.cases.iter();
        let Some(case) = cases.find(|case| case.work == Work::Login) else {
            return Ok(());
        };
        // PostgreSQL makes the verifier; it trusts the proxies all the same.
        let make = format!(
            "SET password_encryption = 'scram-sha-256'; ALTER ROLE {USER} PASSWORD '{PASSWORD}'"
        );
        let read = format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{USER}'");
        let made = self.single.sql(DATABASE, &make);
        let verifier = made.and_then(|_| self.single.sql(DATABASE, &read));
        let verifier = verifier.map_err(|e| e.to_string())?;
        for target in options
            .targets
            .iter()
            .filter(|target| target.is_asked(case))
        {
            let folder = self.folder_of(*target, "login")?;
            let mut proxy = self.proxy(*target, options, &folder, Login::Scram(&verifier))?;
            proxy.ready(binaries)?;
            self.strict.push((*target, proxy));
        }
        Ok(())
    }

    /// Starts proxies and waits until they answer.
    fn begin(
        &mut self,
        targets: &[&Target],
        options: &Options,
        binaries: &Binaries,
    ) -> Result<(), String> {
        let before = self.proxies.len();
        for target in targets {
            let folder = match target {
                // There may be another PgBouncer.
                Target::PgBouncerShards => self.folder_of(**target, "files")?,
                _ => self.folder.path().to_owned(),
            };
            let proxy = self.proxy(**target, options, &folder, Login::Trust)?;
            self.proxies.push((**target, proxy));
        }
        let mut new = self.proxies[before..].iter_mut();
        new.try_for_each(|(_, proxy)| proxy.ready(binaries))
    }

    /// Another one of a target's proxy, which nobody has used, in a folder of this name.
    pub fn fresh(
        &self,
        target: Target,
        name: &str,
        options: &Options,
        binaries: &Binaries,
    ) -> Result<Proxy, String> {
        let folder = self.folder_of(target, name)?;
        let mut proxy = self.proxy(target, options, &folder, Login::Trust)?;
        proxy.ready(binaries)?;
        Ok(proxy)
    }

    /// A new folder for another one of a target's proxy.
    fn folder_of(&self, target: Target, name: &str) -> Result<PathBuf, String> {
        let folder = self.folder.path().join(format!("{}-{name}", target.name()));
        std::fs::create_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        Ok(folder)
    }

    /// The port of a target for a work, and the process whose CPU counts as its own.
    pub fn address(&self, target: Target, work: Work) -> (u16, Option<u32>) {
        match (self.proxy_of(target, work), self.driver(target)) {
            (Some(proxy), _) => (proxy.port(), Some(proxy.pid())),
            (None, Some(driver)) => (0, Some(driver.pid())),
            (None, None) => (self.single.port(), None),
        }
    }

    /// The program that is the target, if it is.
    pub fn driver(&self, target: Target) -> Option<&Driver> {
        let mongo = self.mongo.as_ref().filter(|_| target == Target::Driver);
        mongo.map(Mongo::driver)
    }

    /// The program that reads documents through the router, by a driver of PostgreSQL.
    pub fn reader(&self) -> Option<&Driver> {
        self.reader.as_ref()
    }

    /// Removes the documents that were inserted.
    pub fn empty_documents(&self) {
        if let Some(mongo) = &self.mongo {
            mongo.empty();
        }
    }

    /// An error of a load, with what the proxy has to say about it.
    pub fn explain(&self, target: Target, work: Work, error: &str) -> String {
        match self.proxy_of(target, work) {
            Some(proxy) => proxy.failed(error),
            None => format!("{}: {error}", target.name()),
        }
    }

    fn proxy_of(&self, target: Target, work: Work) -> Option<&Proxy> {
        let proxies = match work {
            Work::Login => &self.strict,
            _ => &self.proxies,
        };
        let found = proxies.iter().find(|(of, _)| *of == target);
        found.map(|(_, proxy)| proxy)
    }

    /// Removes all rows of a table, wherever a target has them.
    pub fn empty(&self, target: Target, table: &str) -> Result<(), String> {
        let servers = match target.is_sharded() {
            true => &self.shards[..],
            false => std::slice::from_ref(&self.single),
        };
        for server in servers {
            let done = server.sql(DATABASE, &format!("TRUNCATE {table}"));
            done.map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Fills the table that is read as a whole.
    pub fn fill_bulk(&self, bulk: &Bulk) -> Result<(), String> {
        let sharded = self.proxies.iter().find(|(target, _)| target.routes());
        let filled = bulk.copy(self.single.port(), bulk::OUT);
        filled.map_err(|error| self.explain(Target::Direct, Work::Copy, &error))?;
        if let Some((target, proxy)) = sharded {
            let filled = bulk.copy(proxy.port(), bulk::OUT);
            filled.map_err(|error| self.explain(*target, Work::Copy, &error))?;
        }
        self.checkpoint()
    }

    fn proxy(
        &self,
        target: Target,
        options: &Options,
        folder: &Path,
        login: Login<'_>,
    ) -> Result<Proxy, String> {
        let port = free_port().map_err(|e| e.to_string())?;
        if matches!(target, Target::PgBouncer | Target::PgBouncerShards) {
            let program = options.pgbouncer.as_ref().ok_or("PgBouncer is missing")?;
            let list = folder.join("users");
            let (method, users) = match login {
                Login::Trust => ("any", None),
                Login::Scram(verifier) => {
                    let text = format!("\"{USER}\" \"{verifier}\"\n");
                    std::fs::write(&list, text).map_err(|e| format!("{}: {e}", list.display()))?;
                    ("scram-sha-256", Some(&*list))
                }
            };
            let users = users.unwrap_or(Path::new("/dev/null"));
            let several = self.shards.iter().map(Cluster::port);
            let servers: Vec<u16> = match target {
                Target::PgBouncerShards => several.collect(),
                _ => vec![self.single.port()],
            };
            let text = pgbouncer_settings(port, &servers, (method, users));
            return Proxy::pgbouncer(program, folder, port, &text);
        }
        let servers: Vec<u16> = match target.is_sharded() {
            true => self.shards.iter().map(Cluster::port).collect(),
            false => vec![self.single.port()],
        };
        let batch = match target {
            Target::ShardsPlain => "off",
            _ => "auto",
        };
        let mut text = router_settings(port, (&target.workers(), batch), login, &servers);
        if let (Target::Documents, Some(mongo)) = (target, &self.mongo) {
            text += &event::declarations(&mongo.address());
        }
        let program = match target {
            Target::Earlier => options.earlier.as_ref().ok_or("--earlier is missing")?,
            _ => &options.router,
        };
        Proxy::router(program, folder, target.name(), port, &text)
    }

    /// The same rows everywhere: on the shards through the router, which divides them.
    fn fill(&self, options: &Options, binaries: &Binaries) -> Result<(), String> {
        let pgbench = Pgbench::new(binaries, self.folder.path(), options);
        let sharded = self.proxies.iter().find(|(target, _)| target.routes());
        pgbench.fill(self.single.port())?;
        pgbench.say(self.single.port(), &scripts::definitions())?;
        if let Some((target, proxy)) = sharded {
            let filled = pgbench.fill(proxy.port());
            let filled = filled.and_then(|()| pgbench.say(proxy.port(), &scripts::definitions()));
            filled.map_err(|error| self.explain(*target, Work::Select, &error))?;
        }
        self.checkpoint()
    }

    fn checkpoint(&self) -> Result<(), String> {
        for cluster in self.shards.iter().chain([&self.single]) {
            // What filling has left to do would else be done while something is measured.
            let done = cluster.sql(DATABASE, "CHECKPOINT");
            done.map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

/// Servers side by side; the first is the single one.
fn clusters(folder: &Folder, binaries: &Binaries, count: u32) -> Result<Vec<Cluster>, String> {
    let start = |number: u32| -> Result<Cluster, ClusterError> {
        let spec = Spec::new(folder.path().join(format!("server-{number}")))
            // What is compared never waits for a disk.
            .set("fsync", "off")
            .set("full_page_writes", "off")
            .set("autovacuum", "off")
            .set("max_wal_size", "4GB")
            .set("max_connections", "200")
            .set("max_prepared_transactions", "100")
            .set("shared_buffers", "256MB")
            .set("log_min_messages", "warning");
        let cluster = Cluster::create(binaries, spec)?;
        cluster.sql("postgres", &format!("CREATE DATABASE {DATABASE}"))?;
        Ok(cluster)
    };
    thread::scope(|scope| {
        let start = &start;
        let starting: Vec<_> = (0..count)
            .map(|number| scope.spawn(move || start(number)))
            .collect();
        let ended = starting.into_iter().map(|server| {
            let started = server
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            started.map_err(|error| error.to_string())
        });
        // All are waited for before the first error counts.
        let ended: Vec<_> = ended.collect();
        ended.into_iter().collect()
    })
}

/// The first server has the database of all runs; of several each has one that is named after its place, too.
fn pgbouncer_settings(port: u16, servers: &[u16], (method, users): (&str, &Path)) -> String {
    let names = (0..).map(one_of_several).zip(servers);
    let several = names.filter(|_| servers.len() > 1);
    let all = std::iter::once(DATABASE.to_owned())
        .zip(servers)
        .chain(several);
    let databases = all.map(|(name, server)| {
        format!("{name} = host=127.0.0.1 port={server} dbname={DATABASE} user={USER}\n")
    });
    let databases: String = databases.collect();
    let each = CONNECTIONS.div_ceil(servers.len().try_into().unwrap_or(1));
    format!(
        "[databases]
{databases}[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = {method}
auth_file = {}
pool_mode = transaction
default_pool_size = {each}
max_client_conn = 20000
max_prepared_statements = 500
server_idle_timeout = 3600
log_connections = 0
log_disconnections = 0
ignore_startup_parameters = extra_float_digits
",
        users.display()
    )
}

fn router_settings(
    port: u16,
    (workers, batch): (&str, &str),
    login: Login<'_>,
    servers: &[u16],
) -> String {
    let (method, verifier) = match login {
        Login::Trust => ("trust", String::new()),
        Login::Scram(verifier) => ("scram-sha-256", format!("verifier = \"{verifier}\"\n")),
    };
    // A pool is of one shard; rounded up, so that none of CONNECTIONS is lost.
    let each = CONNECTIONS.div_ceil(servers.len().try_into().unwrap_or(1));
    let mut text = format!(
        r#"
[listen]
address = "127.0.0.1"
port = {port}
workers = {workers}
send_batch = "{batch}"
max_clients = 30000
[auth]
passthrough = false
[[auth.rule]]
network = "127.0.0.1"
method = "{method}"
[[user]]
name = "{USER}"
{verifier}[control]
user = "{USER}"
[pool]
max = {each}
idle_timeout = "1h"
queue_length = 10000
[limits]
queue_length = 10000
descriptor_reserve = "10%"
[logging]
connections = false
"#
    );
    for (number, server) in servers.iter().enumerate() {
        let home = if number == 0 { "home = true\n" } else { "" };
        text += &format!(
            "[[shard]]\nname = \"s{number}\"\n{home}[[shard.server]]\naddress = \"127.0.0.1:{server}\"\n"
        );
    }
    if servers.len() > 1 {
        let tables = [
            ("pgbench_accounts", "aid"),
            ("pgbench_branches", "bid"),
            ("pgbench_tellers", "tid"),
            ("pgbench_history", "aid"),
        ];
        let by_branch = scripts::BY_BRANCH.map(|name| (name, "bid"));
        let in_bulk = [bulk::OUT, bulk::IN].map(|name| (name, bulk::KEY));
        for (name, key) in tables.into_iter().chain(by_branch).chain(in_bulk) {
            text +=
                &format!("[[table]]\nname = \"{name}\"\nkey = \"{key}\"\nkey_type = \"int4\"\n");
        }
    }
    text
}
