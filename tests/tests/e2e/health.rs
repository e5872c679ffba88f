//! Health, roles, freshness and balance on real clusters that are killed, frozen,
//! delayed and promoted.

use mothership::config::Config;
use mothership::tls::towards_server;
use mothership_pool::endpoint::{Address, Encryption, Endpoint, EndpointId};
use mothership_pool::health::{
    Among, CommitClock, Declared, Failure, Freshness, GroupSpec, Health, Need, NoPrimary, Prober,
    Read, Reads, Role, Scope, ServerSpec, Settings, State, Watch, WhyNot,
};
use mothership_tests::cluster::{Cluster, Mode};
use mothership_tests::fleet::Shard;
use mothership_tests::proxy::{Effect, End, Proxy, Side, Trap};
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Fleet, Folder, Router, Wire, binaries, connect, poll_until, spec};
use std::collections::HashMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);
const INTERVAL: Duration = Duration::from_millis(200);

/// The group lists the replica first: roles are found, not assumed.
const REPLICA: usize = 0;
const PRIMARY: usize = 1;

struct Watched {
    prober: Prober,
    fleet: Fleet,
}

impl Watched {
    fn new() -> Watched {
        let fleet = Fleet::new(1, 1);
        let shard = &fleet.shards[0];
        let servers = [&shard.replicas[0], &shard.primary];
        let servers = servers
            .iter()
            .zip(0..)
            .map(|(cluster, id)| server(cluster, id));
        let group = GroupSpec {
            name: "s0".into(),
            servers: servers.collect(),
            clock: Arc::new(CommitClock::default()),
            gate: Arc::default(),
            fence: None,
            trust_single: false,
            patroni: Vec::new(),
        };
        let settings = Settings {
            watch: Watch {
                interval: INTERVAL,
                quick_interval: Duration::from_millis(20),
                timeout: Duration::from_millis(500),
                pause_max: Duration::from_millis(500),
                ..Watch::default()
            },
            ..Settings::default()
        };
        let prober = Prober::spawn(vec![group], &settings).unwrap();
        let watched = Watched { prober, fleet };
        let ready = poll_until(SOON, || watched.chosen(REPLICA) && watched.chosen(PRIMARY));
        assert!(ready, "{:#?}", watched.health().snapshot());
        watched
    }

    fn health(&self) -> &Arc<Health> {
        self.prober.health()
    }

    fn clock(&self) -> &Arc<CommitClock> {
        self.health().clock(0).unwrap()
    }

    fn primary(&self) -> &Cluster {
        &self.fleet.shards[0].primary
    }

    fn replica(&mut self) -> &mut Cluster {
        &mut self.fleet.shards[0].replicas[0]
    }

    fn choose(&self) -> Result<usize, WhyNot> {
        choose(self.health(), self.clock().needed(Scope::All))
    }

    /// Whether a server is among the choices of a read.
    fn chosen(&self, server: usize) -> bool {
        (0..200).any(|_| self.choose() == Ok(server))
    }

    fn write(&self, sql: &str) {
        self.primary().sql("postgres", sql).unwrap();
        self.clock().acknowledge(Scope::All);
    }

    fn state(&self, server: usize) -> State {
        self.health().snapshot()[0].servers[server].state
    }

    fn role(&self, server: usize) -> Role {
        self.health().snapshot()[0].servers[server].view.role
    }

    fn writer(&self) -> Result<usize, WhyNot> {
        let choice = self.health().choose(0, Need::Write, &mut rand::rng());
        choice.map(|c| c.server).map_err(|e| e.why)
    }
}

fn choose(health: &Health, needed: u64) -> Result<usize, WhyNot> {
    let read = Read {
        freshness: Freshness::Seen(needed),
        reads: Reads::Any,
        among: Among::ALL,
    };
    let choice = health.choose(0, Need::Read(read), &mut rand::rng());
    choice.map(|c| c.server).map_err(|e| e.why)
}

fn server(cluster: &Cluster, id: u32) -> ServerSpec {
    let endpoint = Shard::endpoint(cluster);
    ServerSpec {
        endpoint: Endpoint {
            id: EndpointId(id),
            address: Address::Tcp(endpoint.host.clone(), endpoint.port),
            encryption: Encryption::Disable,
            tls_name: None,
            tls_direct: false,
            interpreter: None,
        },
        declared: Declared::Auto,
        weight: 100,
        control: Some(endpoint.conninfo().parse().unwrap()),
        kept: None,
    }
}

/// How long until a condition holds.
fn after(what: &str, condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    assert!(poll_until(SOON, condition), "{what}: not within {SOON:?}");
    println!("{what}: {:?}", start.elapsed());
    start.elapsed()
}

/// Two probes and what a busy machine needs.
fn two_probes(waited: Duration) {
    assert!(
        waited < INTERVAL * 2 + Duration::from_millis(300),
        "{waited:?}"
    );
}

#[test]
fn roles_are_found_and_an_idle_replica_serves() {
    let mut watched = Watched::new();
    assert_eq!(watched.role(PRIMARY), Role::Primary);
    assert_eq!(watched.role(REPLICA), Role::Replica);
    assert_eq!(watched.writer(), Ok(PRIMARY));
    // Without writes both serve, about half each.
    let replica = (0..1000)
        .filter(|_| watched.choose() == Ok(REPLICA))
        .count();
    assert!((350..650).contains(&replica), "{replica}");
    watched.write("CREATE TABLE t AS SELECT generate_series(1, 10000) AS a");
    two_probes(after("replica after a write", || watched.chosen(REPLICA)));

    // The insert position now lies behind the header of a segment that the replica has nothing of.
    watched.write("SELECT pg_switch_wal()");
    let raw = watched
        .primary()
        .sql("postgres", "SELECT pg_current_wal_insert_lsn()")
        .unwrap();
    let at = format!("SELECT pg_last_wal_replay_lsn() < '{raw}'");
    println!(
        "after a switch: insert {raw}, replica before it: {}",
        watched.replica().sql("postgres", &at).unwrap()
    );
    two_probes(after("replica after a switch", || watched.chosen(REPLICA)));

    // And here behind the header of a page, because a record filled the one before.
    let insert = "SELECT (pg_current_wal_insert_lsn() - '0/0')::int8";
    let position = |watched: &Watched| -> i64 {
        watched
            .primary()
            .sql("postgres", insert)
            .unwrap()
            .parse()
            .unwrap()
    };
    // Commits too, so that it is flushed and sent at once; returns by how much the log has grown.
    let emit = |watched: &Watched, length: i64| {
        let before = position(watched);
        let sql = format!("SELECT pg_logical_emit_message(true, 'm', repeat('x', {length}))");
        watched.write(&sql);
        position(watched) - before
    };
    // Record headers and the commit, when no page header lies between.
    let mut overhead = None;
    let filled = (0..100).any(|_| {
        let gap = 8192 - position(&watched) % 8192;
        match overhead {
            Some(overhead) if gap > overhead + 600 => {
                emit(&watched, gap - overhead);
            }
            None if gap > 2000 => overhead = Some(emit(&watched, 600) - 600),
            _ => {
                emit(&watched, 600);
            }
        }
        position(&watched) % 8192 == 24
    });
    assert!(filled, "no record ended with its page");
    two_probes(after("replica after a full page", || {
        watched.chosen(REPLICA)
    }));
}

#[test]
fn a_delayed_replica_serves_no_read_that_it_would_miss_a_write_for() {
    let mut watched = Watched::new();
    watched.write("CREATE TABLE t (a int)");
    after("replica", || watched.chosen(REPLICA));
    watched
        .replica()
        .configure(&[("recovery_min_apply_delay", "1h")])
        .unwrap();
    let delay = "SHOW recovery_min_apply_delay";
    after("delay", || {
        watched.fleet.shards[0].replicas[0]
            .sql("postgres", delay)
            .unwrap()
            == "1h"
    });
    watched.write("INSERT INTO t VALUES (1)");
    let until = Instant::now() + INTERVAL * 8;
    while Instant::now() < until {
        assert_eq!(watched.choose(), Ok(PRIMARY));
    }
    // A part of the data that was not written is another matter; so is a session that wrote nothing.
    assert!((0..200).any(|_| choose(watched.health(), 0) == Ok(REPLICA)));
    watched
        .replica()
        .configure(&[("recovery_min_apply_delay", "0")])
        .unwrap();
    let rows = "SELECT count(*) FROM t";
    after("replay", || {
        watched.fleet.shards[0].replicas[0]
            .sql("postgres", rows)
            .unwrap()
            == "1"
    });
    two_probes(after("replica without delay", || watched.chosen(REPLICA)));
}

#[test]
fn a_dead_or_frozen_replica_gets_nothing_and_comes_back() {
    let mut watched = Watched::new();
    watched.replica().kill9();
    let noticed = after("death noticed", || {
        matches!(watched.state(REPLICA), State::Down { .. })
    });
    assert!(
        noticed < INTERVAL,
        "the end of the connection says it: {noticed:?}"
    );
    assert!(!watched.chosen(REPLICA));
    watched.replica().start().unwrap();
    after("back", || watched.chosen(REPLICA));

    watched.replica().pause().unwrap();
    after("freeze noticed", || {
        watched.state(REPLICA)
            == State::Down {
                reason: Failure::TimedOut,
            }
    });
    assert!(!watched.chosen(REPLICA));
    assert!(watched.chosen(PRIMARY));
    watched.replica().resume().unwrap();
    after("thawed", || watched.chosen(REPLICA));
}

#[test]
fn an_ended_session_makes_no_server_dead() {
    let watched = Watched::new();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mothership health'";
    let since = watched.health().snapshot()[0].servers[PRIMARY].since;
    watched.primary().sql("postgres", end).unwrap();
    let confirm = watched.health().confirm(0, PRIMARY);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    assert!(runtime.block_on(confirm));
    let server = &watched.health().snapshot()[0].servers[PRIMARY];
    assert_eq!((server.state, server.since), (State::Up, since));
}

#[test]
fn a_promotion_is_noticed_and_the_old_primary_gets_no_write_any_more() {
    let mut watched = Watched::new();
    watched.write("CREATE TABLE t (a int)");
    after("replica", || watched.chosen(REPLICA));
    watched.fleet.shards[0].primary.kill9();
    let down = Err(WhyNot::NoPrimary(NoPrimary::Down(1)));
    after("death noticed", || watched.writer() == down);
    // What it has is all that was acknowledged, so reads go on.
    assert_eq!(watched.choose(), Ok(REPLICA));
    watched.replica().promote().unwrap();
    let waited = after("promotion noticed", || watched.writer() == Ok(REPLICA));
    assert!(waited < Duration::from_millis(500), "{waited:?}");
    // The old one comes back and would take writes.
    watched.fleet.shards[0].primary.start().unwrap();
    after("claimant", || {
        watched.role(PRIMARY) == Role::Claimant && watched.state(PRIMARY) == State::Up
    });
    let until = Instant::now() + INTERVAL * 3;
    while Instant::now() < until {
        assert_eq!(
            (watched.writer(), watched.choose()),
            (Ok(REPLICA), Ok(REPLICA))
        );
    }
    let fence = watched.health().fence(0).unwrap();
    assert_eq!(fence.timeline, 2);
}

/// The primary's disk is put back to an earlier state. Its timeline, and its system's name, stay what they were.
#[test]
fn a_replica_of_what_the_primary_has_lost_serves_no_reads() {
    let mut watched = Watched::new();
    watched.write("CREATE TABLE t AS SELECT 0 AS a");
    let data = watched.primary().data();
    let kept = data.with_extension("kept");
    let primary = |watched: &mut Watched, act: &dyn Fn(&Path, &Path)| {
        watched.fleet.shards[0].primary.stop(Mode::Fast).unwrap();
        act(&data, &kept);
        watched.fleet.shards[0].primary.start().unwrap();
        after("primary", || watched.writer() == Ok(PRIMARY));
    };
    primary(&mut watched, &|data, kept| {
        let copy = Command::new("cp").arg("-a").arg(data).arg(kept).status();
        assert!(copy.unwrap().success());
    });
    watched.write("INSERT INTO t SELECT generate_series(1, 100000)");
    after("replica", || watched.chosen(REPLICA));
    primary(&mut watched, &|data, kept| {
        std::fs::remove_dir_all(data).unwrap();
        std::fs::rename(kept, data).unwrap();
    });
    after("replica told apart", || {
        watched.role(REPLICA) == Role::Diverged
    });
    // Nothing brings it back, not even that the primary has written more than it had lost.
    for _ in 0..2 {
        watched.write("INSERT INTO t SELECT generate_series(1, 100000)");
    }
    let until = Instant::now() + INTERVAL * 3;
    while Instant::now() < until {
        assert_eq!(watched.choose(), Ok(PRIMARY));
    }
}

/// Readers ask the server that is chosen for the number that a writer was told last, while the replica is always a little late.
#[test]
fn no_reader_misses_what_the_writer_was_told() {
    let mut watched = Watched::new();
    watched.write("CREATE TABLE t AS SELECT 0::int8 AS n");
    watched
        .replica()
        .configure(&[("recovery_min_apply_delay", "60ms")])
        .unwrap();
    let delay = "SHOW recovery_min_apply_delay";
    after("delay", || {
        watched.fleet.shards[0].replicas[0]
            .sql("postgres", delay)
            .unwrap()
            == "60ms"
    });
    let told = AtomicI64::new(0);
    let counts = [const { AtomicU32::new(0) }; 2];
    let shard = &watched.fleet.shards[0];
    let endpoints = [
        Shard::endpoint(&shard.replicas[0]),
        Shard::endpoint(&shard.primary),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let end = Instant::now() + Duration::from_secs(5);
        let write = async {
            let client = connect(&endpoints[PRIMARY]).await;
            let update = "UPDATE t SET n = n + 1 RETURNING n";
            while Instant::now() < end {
                for _ in 0..3 {
                    let n = client.query_one(update, &[]).await.unwrap().get(0);
                    watched.clock().acknowledge(Scope::All);
                    told.store(n, Ordering::SeqCst);
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        };
        let read = async || {
            let clients = [
                connect(&endpoints[REPLICA]).await,
                connect(&endpoints[PRIMARY]).await,
            ];
            while Instant::now() < end {
                let expected = told.load(Ordering::SeqCst);
                let needed = watched.clock().needed(Scope::All);
                let server = choose(watched.health(), needed).unwrap();
                let guard = watched.health().begin(0, server).unwrap();
                let start = Instant::now();
                let row = clients[server]
                    .query_one("SELECT n FROM t", &[])
                    .await
                    .unwrap();
                guard.finish(start.elapsed(), Instant::now());
                let n: i64 = row.get(0);
                assert!(
                    n >= expected,
                    "server {server} shows {n}, told was {expected}"
                );
                counts[server].fetch_add(1, Ordering::Relaxed);
            }
        };
        tokio::join!(write, read(), read(), read());
    });
    let [replica, primary] = counts.map(|c| c.into_inner());
    println!(
        "{} writes, reads on replica {replica}, on primary {primary}",
        told.into_inner()
    );
    // How many depends on the machine; that both served is what is claimed.
    assert!(replica > 0 && primary > 0, "{replica} {primary}");
}

#[test]
fn probes_use_tls_where_the_server_must_be_reached_by_it() {
    let folder = Folder::new("tls");
    let mut spec = spec(&folder, "primary");
    spec.superuser = USER.into();
    let mut cluster = Cluster::create(&binaries(), spec).unwrap();
    let owner = std::fs::metadata(cluster.data()).unwrap();
    let (certificate, key) = (
        cluster.data().join("server.crt"),
        cluster.data().join("server.key"),
    );
    let mut openssl = Command::new("openssl");
    openssl.args("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=here".split(' '));
    openssl
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key);
    let made = openssl.output().unwrap();
    assert!(made.status.success(), "{made:?}");
    for file in [&certificate, &key] {
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::chown(file, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let primary = |cluster: &Cluster| {
        let address = format!("127.0.0.1:{}", cluster.port());
        let text = format!(
            "[[shard]]\nname = \"s0\"\n[[shard.server]]\naddress = \"{address}\"\ntls = \"require\"\n"
        );
        let path = folder.path().join("mothership.toml");
        std::fs::write(&path, text).unwrap();
        let config = Config::load(&path).unwrap();
        let mut spec = server(cluster, 7);
        spec.endpoint.encryption = towards_server(&config.shards[0].servers[0]).unwrap();
        let group = GroupSpec {
            name: "s0".into(),
            servers: vec![spec],
            clock: Arc::new(CommitClock::new(1)),
            gate: Arc::default(),
            fence: None,
            trust_single: false,
            patroni: Vec::new(),
        };
        Prober::spawn(vec![group], &Settings::default()).unwrap()
    };
    // Without TLS on the server, a server that has to be reached by TLS is not used.
    let prober = primary(&cluster);
    let tried = |prober: &Prober| prober.health().snapshot()[0].servers[0].state;
    let unusable = State::Unknown {
        tried: Some(Failure::Unusable),
    };
    after("refusal", || tried(&prober) == unusable);
    drop(prober);
    cluster.configure(&[("ssl", "on")]).unwrap();
    after("TLS on", || {
        cluster.sql("postgres", "SHOW ssl").unwrap() == "on"
    });
    let prober = primary(&cluster);
    after("primary", || prober.health().primary(0) == Ok(0));
    let encrypted = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'mothership health'";
    assert_eq!(cluster.sql("postgres", encrypted).unwrap(), "t");
}

/// A row of SHOW ENDPOINTS by its columns, for each server in the order of the file.
fn shown(router: &Router) -> Vec<HashMap<String, String>> {
    let mut console = Wire::login(&router.endpoint(USER, PASSWORD, "mothership"));
    let frames = console.query("SHOW ENDPOINTS");
    let names = frames[0].columns();
    let rows = frames.iter().filter(|frame| frame.kind == b'D');
    rows.map(|row| names.iter().cloned().zip(row.row_text()).collect())
        .collect()
}

#[test]
fn a_replica_that_answers_probes_and_resets_clients_gets_no_reads_until_it_answers_them() {
    const READ: &str = "SELECT a FROM readings WHERE id = 7";
    let fleet = Fleet::new(1, 1);
    let shard = &fleet.shards[0];
    let fill =
        "CREATE TABLE readings (id int8 PRIMARY KEY, a int8); INSERT INTO readings VALUES (7, 70)";
    shard.primary.sql("postgres", fill).unwrap();
    shard.wait_replayed();
    let proxy = Proxy::to(shard.replicas[0].port());
    let config = format!(
        "[listen]\nport = @port@\n\
         [balance]\nreads = \"prefer-replicas\"\nprobe_interval = \"200ms\"\nprobe_timeout = \"5s\"\n\
         breaker_failures = 3\nbreaker_time = \"4s\"\n\
         [control]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
         [console]\nadmin_users = [\"{USER}\"]\n\
         [[user]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
         [[table]]\nname = \"readings\"\nkey = [\"id\"]\nkey_type = [\"int8\"]\n\
         [[shard]]\nname = \"s0\"\n\
         [[shard.server]]\naddress = \"127.0.0.1:{}\"\n[[shard.server]]\naddress = \"127.0.0.1:{}\"\n",
        proxy.port(),
        shard.primary.port()
    );
    let router = Router::start(&config);
    let both_up = || shown(&router).iter().all(|server| server["health"] == "up");
    assert!(poll_until(SOON, both_up), "{:#?}", shown(&router));
    let mut wire = Wire::login(&router.endpoint(USER, PASSWORD, "postgres"));
    // What the client sees is the same all the time.
    let mut read = || assert_eq!(wire.rows(READ), [["70"]]);
    let served = |shown: &[HashMap<String, String>]| shown[REPLICA]["served"].clone();
    let before = served(&shown(&router));
    let serves = poll_until(SOON, || {
        read();
        served(&shown(&router)) != before
    });
    assert!(serves, "{:#?}", shown(&router));
    assert_eq!(shown(&router)[REPLICA]["breaker"], "closed");

    let is_open = poll_until(SOON, || {
        let reset = Effect::End(End::Reset);
        proxy.set(Trap::before_text(
            Side::Client,
            None,
            "FROM readings",
            reset,
        ));
        read();
        shown(&router)[REPLICA]["breaker"] == "open"
    });
    let now = shown(&router);
    assert!(is_open && now[REPLICA]["health"] == "up", "{now:#?}");
    assert_eq!(now[PRIMARY]["breaker"], "closed", "{now:#?}");

    // Nothing breaks any more, and it is left alone all the same.
    proxy.heal();
    (0..50).for_each(|_| read());
    let later = shown(&router);
    if later[REPLICA]["breaker"] == "open" {
        assert_eq!(served(&now), served(&later), "{now:#?} {later:#?}");
    }
    let is_back = poll_until(SOON, || {
        read();
        shown(&router)[REPLICA]["breaker"] == "closed"
    });
    let now = shown(&router);
    assert!(is_back, "{now:#?}");
    let serves = poll_until(SOON, || {
        read();
        served(&shown(&router)) != served(&now)
    });
    assert!(serves, "{now:#?}");
    assert!(router.log().contains("breaker of a server is open"));
}
