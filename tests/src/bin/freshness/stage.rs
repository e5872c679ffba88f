//! A primary with two standbys, of which one has each commit, behind two routers.

use crate::clients::{self, OWN};
use crate::promise::{BOUND, Level, ROWS};
use crate::{SOON, clients::log_in};
use mothership_cluster::Mode;
use mothership_tests::proof;
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Endpoint, Fleet, Folder, Router, Wire, binaries, poll_until};
use std::collections::BTreeMap;
use std::process::Command;

/// Readers that may have rows of their own.
const READERS: u64 = 64;
/// Rows for pgbench: so many that a write of one leaves most of the others as they are.
const MANY: i64 = 10_000;
const PGBENCH_CLIENTS: &str = "4";

pub struct Stage {
    routers: [Router; 2],
    fleet: Fleet,
    /// The replica in this place is an old primary that does not run.
    fallen: Option<usize>,
}

/// Another server is the primary.
pub struct Failover {
    /// Its address.
    pub to: String,
}

impl Stage {
    pub fn new() -> Stage {
        let mut fleet = Fleet::new(1, 2);
        fleet.shards[0].wait_for_standbys();
        let own = (0..READERS).map(|reader| {
            let first = clients::first(reader);
            format!(
                "INSERT INTO t SELECT g, 0, 0 FROM generate_series({first} + 1, {first} + {OWN}) g;"
            )
        });
        let own: String = own.collect();
        let fill = format!(
            "CREATE TABLE t (id int8 PRIMARY KEY, a int8, b int8); \
             INSERT INTO t SELECT g, 0, 0 FROM generate_series(1, {ROWS}) g; {own} \
             CREATE TABLE many (id int8 PRIMARY KEY, n int8); \
             INSERT INTO many SELECT g, 0 FROM generate_series(1, {MANY}) g"
        );
        proof::on_all(&fleet, &fill);
        fleet.shards[0].wait_replayed();
        let routers = [(); 2].map(|()| Router::start(&config(&fleet, Level::Router)));
        let stage = Stage {
            routers,
            fleet,
            fallen: None,
        };
        stage.wait_up();
        stage
    }

    /// From here on both routers have this level, and every server is up.
    pub fn set_level(&self, level: Level) {
        for router in &self.routers {
            router.write_config(&config(&self.fleet, level));
            router.sighup();
            let is_set = || {
                let shown = proof::console(router, "SHOW CONFIG");
                let of = |key: &str| shown.iter().find(|row| row["key"] == key);
                of("balance.freshness").is_some_and(|row| row["value"].contains(&word(level)))
            };
            assert!(poll_until(SOON, is_set), "{}", router.log());
        }
        self.wait_up();
    }

    fn wait_up(&self) {
        for router in &self.routers {
            let mut shown = Vec::new();
            let up = poll_until(SOON, || {
                shown = proof::console(router, "SHOW ENDPOINTS");
                let primaries = shown.iter().filter(|server| server["role"] == "primary");
                primaries.count() == 1 && shown.iter().all(|server| server["health"] == "up")
            });
            assert!(up, "{shown:#?}");
        }
    }

    /// Standbys replay what was committed so long ago.
    pub fn set_delay(&mut self, delay: &str) {
        println!("     standbys replay {delay} late");
        let shard = &mut self.fleet.shards[0];
        for server in shard.replicas.iter_mut().chain([&mut shard.primary]) {
            server
                .configure(&[("recovery_min_apply_delay", delay)])
                .unwrap();
            let shown = || {
                let shown = server.sql("postgres", "SHOW recovery_min_apply_delay");
                shown.is_ok_and(|shown| shown == delay)
            };
            assert!(poll_until(SOON, shown));
        }
    }

    /// Kills the primary and promotes the standby with the most log.
    pub fn fail_over(&mut self) -> Failover {
        let shard = &mut self.fleet.shards[0];
        shard.primary.kill9();
        self.fallen = Some(shard.succeed());
        Failover {
            to: format!("127.0.0.1:{}", shard.primary.port()),
        }
    }

    /// What was the primary is a standby.
    pub fn rejoin(&mut self) {
        let shard = &mut self.fleet.shards[0];
        if let Some(fallen) = self.fallen.take() {
            shard.rejoin(fallen);
        }
        shard.wait_replayed();
    }

    /// The second standby goes.
    pub fn keep_one_replica(&mut self) {
        self.fleet.shards[0].replicas[1].stop(Mode::Fast).unwrap();
        let router = &self.routers[0];
        let gone = poll_until(SOON, || {
            let shown = proof::console(router, "SHOW ENDPOINTS");
            let up = shown.iter().filter(|server| server["health"] == "up");
            up.count() == 2
        });
        assert!(gone);
    }

    pub fn endpoints(&self) -> [Endpoint; 2] {
        let routers = self.routers.each_ref();
        routers.map(|router| router.endpoint(USER, PASSWORD, "postgres"))
    }

    pub fn client(&self, router: usize) -> Wire {
        log_in(&self.endpoints()[router])
    }

    /// Requests that replicas have answered, through both routers.
    pub fn read_by_replicas(&self) -> u64 {
        let of = |router: &Router| {
            let page = router.metrics();
            let lines = page.lines().filter(|line| {
                line.starts_with("mothership_request_seconds_count{")
                    && line.contains("role=\"replica\"")
            });
            let numbers = lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>());
            numbers.map(Result::unwrap).sum::<u64>()
        };
        self.routers.iter().map(of).sum()
    }

    /// Requests that the first router gave to each server so far.
    pub fn served(&self) -> BTreeMap<String, u64> {
        let shown = proof::console(&self.routers[0], "SHOW ENDPOINTS");
        let served = shown.iter().map(|server| {
            let count = server["served"].parse().unwrap();
            (format!("{} {}", server["role"], server["address"]), count)
        });
        served.collect()
    }

    /// What it gave since then to replicas, and to the primary.
    pub fn served_since(&self, before: BTreeMap<String, u64>) -> (u64, u64) {
        let now = self.served();
        let of = |role: &str| {
            let servers = now.iter().filter(|(server, _)| server.starts_with(role));
            servers.map(|(server, count)| count - before[server]).sum()
        };
        (of("replica"), of("primary"))
    }

    /// Runs it for so many seconds through the first router: of ten transactions one writes. Returns how many there were.
    pub fn pgbench(&self, seconds: u64) -> u64 {
        let folder = Folder::new("scripts");
        let script = |name: &str, statement: &str| {
            let path = folder.path().join(name);
            let text = format!("\\set id random(1, {MANY})\n{statement};\n");
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let reads = script("reads", "SELECT n FROM many WHERE id = :id");
        let writes = script("writes", "UPDATE many SET n = n + 1 WHERE id = :id");
        let mut pgbench = Command::new(binaries().program("pgbench"));
        pgbench.envs(self.endpoints()[0].env());
        pgbench.args(["-n", "-M", "prepared", "-c", PGBENCH_CLIENTS]);
        pgbench.args(["-T", &seconds.to_string()]);
        pgbench.args(["-f", &format!("{reads}@9"), "-f", &format!("{writes}@1")]);
        let done = pgbench.output().unwrap();
        let (said, complaints) = (text(&done.stdout), text(&done.stderr));
        assert!(done.status.success(), "{said}\n{complaints}");
        let line = said
            .lines()
            .find_map(|line| line.strip_prefix("number of transactions actually processed: "));
        let count = line.unwrap_or_else(|| panic!("{said}\n{complaints}"));
        count.trim().parse().unwrap()
    }

    /// Writes that it has ever committed.
    pub fn written_by_pgbench(&self) -> u64 {
        let sum = proof::sum(&self.fleet, "SELECT sum(n) FROM many");
        u64::try_from(sum).unwrap()
    }
}

fn config(fleet: &Fleet, level: Level) -> String {
    let word = word(level);
    let bound = match level {
        Level::Bounded => format!("max_lag = \"{}ms\"\n", BOUND.as_millis()),
        Level::Router | Level::Session => String::new(),
    };
    let more = format!(
        "[balance]\nprobe_interval = \"100ms\"\nfreshness = \"{word}\"\n{bound}\
         [metrics]\nport = @metrics_port@\n\
         [[table]]\nname = \"t\"\nkey = \"id\"\n[[table]]\nname = \"many\"\nkey = \"id\"\n"
    );
    proof::config(fleet, "", "", &more)
}

/// What routers are told; with INJECT, something weaker than what is judged.
fn word(level: Level) -> String {
    let injected = std::env::var("INJECT").ok();
    let injected = injected.filter(|word| !word.is_empty());
    injected.unwrap_or_else(|| level.word().to_owned())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
