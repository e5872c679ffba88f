//! Everything that a run needs, on this machine: servers with the same rows, and the proxies before them.
//!
//! One PostgreSQL serves `direct`, PgBouncer and the router as a plain pooler. Three more are the
//! shards of the router that routes; it fills them itself. All proxies may have as many server
//! connections in all ([`CONNECTIONS`]) and keep them. PgBouncer has one thread by design; the
//! router is run with its default, a runtime for every two cores, and with one for each.

use crate::case::{Case, Work};
use crate::interrupt;
use crate::load::Pgbench;
use crate::options::Options;
use crate::proxy::{DATABASE, Proxy, USER};
use crate::scripts;
use mothership::cluster::{Binaries, Cluster, ClusterError, Spec, free_port};
use mothership_tests::Folder;
use std::path::Path;
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
    /// The router over three shards.
    Shards,
    /// The same with a runtime for each core.
    ShardsCores,
    /// The same with one, where io_uring is forbidden.
    ShardsPlain,
    /// The router before one PostgreSQL, with nothing declared.
    Pool,
    /// The same with a runtime for each core.
    PoolCores,
}

impl Target {
    /// All of them, in the order of the tables.
    pub const ALL: [Target; 7] = [
        Target::Direct,
        Target::PgBouncer,
        Target::Shards,
        Target::ShardsPlain,
        Target::ShardsCores,
        Target::Pool,
        Target::PoolCores,
    ];

    /// Those that bars are about, and those that they are compared with.
    pub const JUDGED: [Target; 5] = [
        Target::Direct,
        Target::PgBouncer,
        Target::Shards,
        Target::ShardsPlain,
        Target::Pool,
    ];

    /// Its name in tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Target::Direct => "direct",
            Target::PgBouncer => "pgbouncer",
            Target::Shards => "shards",
            Target::ShardsCores => "shards-cores",
            Target::ShardsPlain => "shards-plain",
            Target::Pool => "pool",
            Target::PoolCores => "pool-cores",
        }
    }

    /// The target of a name.
    pub fn of(name: &str) -> Option<Target> {
        Target::ALL.into_iter().find(|target| target.name() == name)
    }

    /// Whether it stands before the shards.
    fn is_sharded(self) -> bool {
        matches!(
            self,
            Target::Shards | Target::ShardsCores | Target::ShardsPlain
        )
    }

    /// Whether a case is asked of it. What only one bar is about is asked of the two that it compares.
    pub fn is_asked(self, case: &Case) -> bool {
        match (case.work, self) {
            (_, Target::PgBouncer | Target::Shards) | (Work::Select, Target::Direct) => true,
            (Work::Select, _) => case.clients > 1,
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

/// What runs. Dropped, all of it ends and its folder is removed.
#[derive(Debug)]
pub struct Stage {
    proxies: Vec<(Target, Proxy)>,
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
        let mut clusters = clusters(&folder, binaries, if sharded { 1 + SHARDS } else { 1 })?;
        let mut stage = Stage {
            proxies: Vec::new(),
            single: clusters.remove(0),
            shards: clusters,
            folder,
        };
        interrupt::check()?;
        let (sharded, others): (Vec<_>, Vec<_>) = options
            .targets
            .iter()
            .filter(|target| **target != Target::Direct)
            .partition(|target| target.is_sharded());
        // One router fills the shards; another one that started before would not know the tables at once.
        let (first, second) = sharded.split_at(sharded.len().min(1));
        stage.begin(first, options, binaries)?;
        stage.fill(options, binaries)?;
        stage.begin(&[second, &others].concat(), options, binaries)?;
        Ok(stage)
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
            let proxy = self.proxy(**target, options, self.folder.path())?;
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
        let folder = self.folder.path().join(format!("{}-{name}", target.name()));
        std::fs::create_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let mut proxy = self.proxy(target, options, &folder)?;
        proxy.ready(binaries)?;
        Ok(proxy)
    }

    /// The port of a target, and the process whose CPU counts as its own.
    pub fn address(&self, target: Target) -> (u16, Option<u32>) {
        match self.proxy_of(target) {
            Some(proxy) => (proxy.port(), Some(proxy.pid())),
            None => (self.single.port(), None),
        }
    }

    /// An error of a load, with what the proxy has to say about it.
    pub fn explain(&self, target: Target, error: &str) -> String {
        match self.proxy_of(target) {
            Some(proxy) => proxy.failed(error),
            None => format!("{}: {error}", target.name()),
        }
    }

    fn proxy_of(&self, target: Target) -> Option<&Proxy> {
        let found = self.proxies.iter().find(|(of, _)| *of == target);
        found.map(|(_, proxy)| proxy)
    }

    fn proxy(&self, target: Target, options: &Options, folder: &Path) -> Result<Proxy, String> {
        let port = free_port().map_err(|e| e.to_string())?;
        if target == Target::PgBouncer {
            let program = options.pgbouncer.as_ref().ok_or("PgBouncer is missing")?;
            let text = pgbouncer_settings(port, self.single.port());
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
        let text = router_settings(port, (&target.workers(), batch), &servers);
        Proxy::router(&options.router, folder, target.name(), port, &text)
    }

    /// The same rows everywhere: on the shards through the router, which divides them.
    fn fill(&self, options: &Options, binaries: &Binaries) -> Result<(), String> {
        let pgbench = Pgbench::new(binaries, self.folder.path(), options.scale);
        let sharded = self.proxies.iter().find(|(target, _)| target.is_sharded());
        pgbench.fill(self.single.port())?;
        pgbench.say(self.single.port(), &scripts::definitions())?;
        if let Some((target, proxy)) = sharded {
            let filled = pgbench.fill(proxy.port());
            let filled = filled.and_then(|()| pgbench.say(proxy.port(), &scripts::definitions()));
            filled.map_err(|error| self.explain(*target, &error))?;
        }
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

fn pgbouncer_settings(port: u16, server: u16) -> String {
    format!(
        "[databases]
{DATABASE} = host=127.0.0.1 port={server} dbname={DATABASE} user={USER}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
auth_file = /dev/null
pool_mode = transaction
default_pool_size = {CONNECTIONS}
max_client_conn = 20000
max_prepared_statements = 500
server_idle_timeout = 3600
log_connections = 0
log_disconnections = 0
ignore_startup_parameters = extra_float_digits
"
    )
}

fn router_settings(port: u16, (workers, batch): (&str, &str), servers: &[u16]) -> String {
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
method = "trust"
[[user]]
name = "{USER}"
[control]
user = "{USER}"
[pool]
max = {each}
idle_timeout = "1h"
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
        for (name, key) in tables.into_iter().chain(by_branch) {
            text +=
                &format!("[[table]]\nname = \"{name}\"\nkey = \"{key}\"\nkey_type = \"int4\"\n");
        }
    }
    text
}
