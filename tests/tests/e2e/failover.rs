//! What clients see while the servers of a shard change their roles: a pause, or one right error.

use mothership_tests::cluster::Cluster;
use mothership_tests::message::{self, V3_0};
use mothership_tests::router::may_have_own_hosts;
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Endpoint, Fleet, Frame, Proxy, Router, Wire, poll_until};
use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[path = "failover/late.rs"]
mod late;

const SOON: Duration = Duration::from_secs(20);

/// Shards with their replicas behind a router that watches them closely and keeps no verifier.
struct Stage {
    router: Router,
    config: String,
    fleet: Fleet,
}

impl Stage {
    fn new(shards: usize, replicas: usize) -> Stage {
        Stage::with(shards, replicas, "")
    }

    /// With these settings of `failover`.
    fn with(shards: usize, replicas: usize, failover: &str) -> Stage {
        let fleet = Fleet::new(shards, replicas);
        let mut config = format!(
            "[listen]\nport = @port@\n[auth]\ncache = \"0s\"\n[failover]\n{failover}\n\
             [balance]\nprobe_interval = \"200ms\"\nprobe_timeout = \"2s\"\n\
             [control]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\ntimeout = \"2s\"\n\
             [console]\nadmin_users = [\"{USER}\"]\n\
             [[user]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
             [[table]]\nname = \"items\"\nkey = [\"id\"]\nkey_type = [\"int8\"]\n"
        );
        for (number, shard) in fleet.shards.iter().enumerate() {
            config += &format!("[[shard]]\nname = \"s{number}\"\n");
            for server in shard.replicas.iter().chain([&shard.primary]) {
                let port = server.port();
                config += &format!("[[shard.server]]\naddress = \"127.0.0.1:{port}\"\n");
            }
        }
        let stage = Stage {
            router: Router::start(&config),
            config,
            fleet,
        };
        stage.wait("all servers up", |server| server["health"] == "up");
        stage
    }

    fn endpoint(&self, user: &str, password: &str) -> Endpoint {
        self.router.endpoint(user, password, "postgres")
    }

    /// A row of SHOW ENDPOINTS for each server, in the order of the file.
    fn shown(&self) -> Vec<HashMap<String, String>> {
        let mut console = Wire::login(&self.router.endpoint(USER, PASSWORD, "mothership"));
        let frames = console.query("SHOW ENDPOINTS");
        let names = frames[0].columns();
        let rows = frames.iter().filter(|frame| frame.kind == b'D');
        rows.map(|row| names.iter().cloned().zip(row.row_text()).collect())
            .collect()
    }

    /// How many clients wait for a server.
    fn waiting(&self) -> usize {
        let mut console = Wire::login(&self.router.endpoint(USER, PASSWORD, "mothership"));
        let frames = console.query("SHOW CLIENTS");
        let state = frames[0].columns().iter().position(|name| name == "state");
        let rows = frames.iter().filter(|frame| frame.kind == b'D');
        rows.filter(|row| row.row_text()[state.unwrap()] == "waiting")
            .count()
    }

    fn wait_for_waiting(&self, count: usize) {
        let wait = poll_until(SOON, || self.waiting() == count);
        assert!(wait, "{} clients wait, not {count}", self.waiting());
    }

    /// Waits until this is so of each server.
    fn wait(&self, what: &str, so: impl Fn(&HashMap<String, String>) -> bool) {
        let all = poll_until(SOON, || self.shown().iter().all(&so));
        assert!(all, "{what}: {:#?}", self.shown());
    }

    /// Waits until the server at this place is shown so.
    fn wait_for(&self, server: usize, column: &str, value: &str) {
        let so = poll_until(SOON, || self.shown()[server][column] == value);
        assert!(so, "server {server} is not {value}: {:#?}", self.shown());
    }
}

/// The SQLSTATE with which a client is turned away, if it is.
fn turned_away(endpoint: &Endpoint) -> Option<String> {
    let mut wire = Wire::connect(endpoint.port);
    let refused = wire.try_login(endpoint, V3_0, &[]).err();
    refused.map(|error| error.sqlstate())
}

/// Not even for a verifier: that of an old primary may let in whom the new one keeps out.
#[test]
fn a_server_that_was_replaced_is_asked_nothing() {
    const REPLICA: usize = 0;
    const PRIMARY: usize = 1;
    let mut stage = Stage::with(1, 1, "window = \"2s\"");
    let mut wire = Wire::login(&stage.endpoint(USER, PASSWORD));
    let shard = &stage.fleet.shards[0];
    let create = "CREATE TABLE t (a int); CREATE ROLE app LOGIN PASSWORD 'former'";
    shard.primary.sql("postgres", create).unwrap();
    shard.wait_replayed();
    assert_eq!(turned_away(&stage.endpoint("app", "former")), None);

    let shard = &mut stage.fleet.shards[0];
    shard.primary.kill9();
    shard.replicas[0].promote().unwrap();
    stage.wait_for(REPLICA, "role", "primary");
    let alter = "ALTER ROLE app PASSWORD 'later'";
    stage.fleet.shards[0].replicas[0]
        .sql("postgres", alter)
        .unwrap();
    assert_eq!(turned_away(&stage.endpoint("app", "later")), None);

    // The new one dies, and the old one is back.
    let shard = &mut stage.fleet.shards[0];
    shard.replicas[0].kill9();
    shard.primary.start().unwrap();
    stage.wait_for(PRIMARY, "role", "claimant");
    stage.wait_for(REPLICA, "health", "down");
    let former = turned_away(&stage.endpoint("app", "former"));
    assert_eq!(former.as_deref(), Some("57P03"));
    let frames = wire.query("INSERT INTO t VALUES (1)");
    assert_eq!(frames[0].sqlstate(), "57P03", "{frames:?}");

    stage.fleet.shards[0].replicas[0].start().unwrap();
    stage.wait_for(REPLICA, "role", "primary");
    assert_eq!(turned_away(&stage.endpoint("app", "later")), None);
    let frames = wire.query("INSERT INTO t VALUES (1)");
    assert!(frames.iter().all(|f| f.kind != b'E'), "{frames:?}");
    let former = turned_away(&stage.endpoint("app", "former"));
    assert_eq!(former.as_deref(), Some("28P01"));
}

/// A crash is a pause: for clients that have something to ask, and for those that come.
#[test]
fn requests_and_logins_wait_for_a_lone_server_to_be_back() {
    let mut stage = Stage::new(1, 0);
    let create =
        "CREATE TABLE t (a int); CREATE ROLE app LOGIN PASSWORD 'sesame'; GRANT ALL ON t TO app";
    stage.fleet.shards[0]
        .primary
        .sql("postgres", create)
        .unwrap();
    let (admin, app) = (
        stage.endpoint(USER, PASSWORD),
        stage.endpoint("app", "sesame"),
    );
    let mut wires = [Wire::login(&admin), Wire::login(&app)];
    for wire in &mut wires {
        wire.rows("SELECT count(*) FROM t");
    }
    stage.fleet.shards[0].primary.kill9();
    std::thread::scope(|scope| {
        let asked = wires.each_mut().map(|wire| {
            scope.spawn(|| {
                wire.query("INSERT INTO t VALUES (1)")
                    .iter()
                    .find(|f| f.kind == b'E')
                    .map(|error| error.to_string())
            })
        });
        let come = scope.spawn(|| turned_away(&app));
        stage.wait_for_waiting(2);
        stage.fleet.shards[0].primary.start().unwrap();
        for asked in asked {
            assert_eq!(asked.join().unwrap(), None);
        }
        assert_eq!(come.join().unwrap(), None);
    });
    assert_eq!(wires[0].rows("SELECT count(*) FROM t"), [["2"]]);
}

#[test]
fn no_more_requests_wait_than_may_and_none_for_longer() {
    let mut stage = Stage::with(1, 0, "requests = 1\nwindow = \"2s\"");
    let endpoint = stage.endpoint(USER, PASSWORD);
    let (mut first, mut second) = (Wire::login(&endpoint), Wire::login(&endpoint));
    first.rows("SELECT 1");
    second.rows("SELECT 1");
    stage.fleet.shards[0].primary.kill9();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| first.query("SELECT 1")[0].sqlstate());
        stage.wait_for_waiting(1);
        let frames = second.query("SELECT 1");
        assert_eq!(frames[0].sqlstate(), "53300", "{frames:?}");
        assert!(
            frames[0]
                .field('D')
                .is_some_and(|detail| detail.starts_with("1 requests with ")),
            "{frames:?}"
        );
        let refused = waits.join().unwrap();
        assert!(["57P03", "08006"].contains(&&*refused), "{refused}");
        assert!(begun.elapsed() >= Duration::from_secs(2));
    });
    stage.fleet.shards[0].primary.start().unwrap();
    assert_eq!(first.rows("SELECT 1"), [["1"]]);
    assert_eq!(second.rows("SELECT 1"), [["1"]]);
}

/// Two servers that both take writes: what the old one still would take, the new one would not have.
#[test]
fn a_transaction_on_a_primary_that_was_replaced_is_lost() {
    const REPLICA: usize = 0;
    let mut stage = Stage::new(1, 1);
    let shard = &stage.fleet.shards[0];
    let create = "CREATE TABLE t (a int)";
    shard.primary.sql("postgres", create).unwrap();
    shard.wait_replayed();
    let endpoint = stage.endpoint(USER, PASSWORD);
    let mut open = Wire::login(&endpoint);
    let mut pinned = Wire::login(&endpoint);
    open.rows("BEGIN");
    open.rows("INSERT INTO t VALUES (1)");
    pinned.rows("CREATE TEMP TABLE own (a int)");
    stage.fleet.shards[0].replicas[0].promote().unwrap();
    stage.wait_for(REPLICA, "role", "primary");
    let shard = &stage.fleet.shards[0];
    let gone = poll_until(SOON, || {
        let backends = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' \
                        AND application_name NOT IN ('mothership', 'mothership health') AND pid <> pg_backend_pid()";
        shard.primary.sql("postgres", backends).unwrap() == "0"
    });
    assert!(gone, "a session still works on the old primary");
    let frames = open.query("INSERT INTO t VALUES (2)");
    assert_eq!(frames[0].sqlstate(), "08006", "{frames:?}");
    open.query("ROLLBACK");
    let frames = open.query("INSERT INTO t VALUES (3)");
    assert!(frames.iter().all(|f| f.kind != b'E'), "{frames:?}");
    // What it had there no other server has.
    let farewell = pinned.frame();
    assert_eq!(farewell.sqlstate(), "08006", "{farewell}");
    assert!(pinned.is_closed_within(SOON));
    let count = "SELECT count(*) FROM t";
    assert_eq!(shard.primary.sql("postgres", count).unwrap(), "0");
    assert_eq!(shard.replicas[0].sql("postgres", count).unwrap(), "1");
}

#[test]
fn who_waits_for_a_server_that_is_silent_hears_that_it_is_lost() {
    let mut stage = Stage::with(1, 0, "silence = \"1s\"\nwindow = \"1s\"");
    let mut wire = Wire::login(&stage.endpoint(USER, PASSWORD));
    wire.rows("SELECT 1");
    stage.fleet.shards[0].primary.pause().unwrap();
    let frames = wire.query("SELECT 2");
    assert_eq!(frames[0].sqlstate(), "08006", "{frames:?}");
    stage.fleet.shards[0].primary.resume().unwrap();
    let back = poll_until(SOON, || wire.query("SELECT 3")[0].kind == b'T');
    assert!(back);
}

/// What the console answers: nothing, or an error's SQLSTATE and message.
fn order(stage: &Stage, command: &str) -> Result<(), (String, String)> {
    let mut console = Wire::login(&stage.router.endpoint(USER, PASSWORD, "mothership"));
    let frames = console.query(command);
    match frames.iter().find(|frame| frame.kind == b'E') {
        None => Ok(()),
        Some(error) => Err((error.sqlstate(), error.field('M').unwrap())),
    }
}

/// Clients write all the while, with and without blocks; each write that they were told of is there, once.
#[test]
fn a_switchover_is_a_pause_without_errors() {
    const CLIENTS: usize = 8;
    const REPLICA: usize = 0;
    let stage = Stage::new(1, 1);
    let shard = &stage.fleet.shards[0];
    shard
        .primary
        .sql("postgres", "CREATE TABLE t (id int8 PRIMARY KEY)")
        .unwrap();
    shard.wait_replayed();
    let over = AtomicBool::new(false);
    let told = AtomicU64::new(0);
    let longest = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (over, told, endpoint) = (&over, &told, stage.endpoint(USER, PASSWORD));
                scope.spawn(move || {
                    let mut wire = Wire::login(&endpoint);
                    let mut longest = Duration::ZERO;
                    for number in 0.. {
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        let begun = Instant::now();
                        let insert =
                            format!("INSERT INTO t VALUES ({})", client + number * CLIENTS);
                        let texts: &[&str] = match number % 2 {
                            0 => &[&insert],
                            _ => &[
                                "BEGIN",
                                &insert,
                                "SELECT count(*) FROM t WHERE id = 1",
                                "COMMIT",
                            ],
                        };
                        for text in texts {
                            let frames = wire.query(text);
                            let error = frames.iter().find(|frame| frame.kind == b'E');
                            assert!(error.is_none(), "{text}: {}", error.unwrap());
                        }
                        told.fetch_add(1, Ordering::Relaxed);
                        longest = longest.max(begun.elapsed());
                    }
                    longest
                })
            })
            .collect();
        let some = |more: u64| {
            let before = told.load(Ordering::Relaxed);
            assert!(poll_until(SOON, || told.load(Ordering::Relaxed) > before + more));
        };
        some(200);
        order(&stage, "SWITCHOVER s0").unwrap();
        some(200);
        over.store(true, Ordering::Relaxed);
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .max()
    });
    println!("the longest transaction took {longest:?}");
    assert_eq!(stage.shown()[REPLICA]["role"], "primary");
    let count = "SELECT count(*), count(DISTINCT id) FROM t";
    let told = told.into_inner();
    let kept = shard.replicas[0].sql("postgres", count).unwrap();
    assert_eq!(kept, format!("{told}|{told}"));
    // What it had when it was replaced, and no more.
    let left = shard.primary.sql("postgres", "SELECT count(*) FROM t");
    assert!(left.unwrap().parse::<u64>().unwrap() < told);
}

/// Who cannot see all sessions does not know that they are gone.
#[test]
fn a_switchover_without_the_right_to_end_sessions_changes_nothing() {
    const PRIMARY: usize = 1;
    let stage = Stage::new(1, 1);
    let shard = &stage.fleet.shards[0];
    for sql in [
        &format!(
            "CREATE ROLE steward LOGIN PASSWORD '{}'",
            PASSWORD.replace('\'', "''")
        ),
        "GRANT EXECUTE ON FUNCTION pg_promote, pg_reload_conf TO steward",
        "GRANT ALTER SYSTEM ON PARAMETER default_transaction_read_only TO steward",
        "CREATE TABLE t (a int)",
    ] {
        shard.primary.sql("postgres", sql).unwrap();
    }
    shard.wait_replayed();
    let control = format!("[control]\nuser = \"{USER}\"");
    let limited = stage
        .config
        .replace(&control, "[control]\nuser = \"steward\"");
    assert_ne!(limited, stage.config);
    let stage = Stage {
        router: Router::start(&limited),
        ..stage
    };
    stage.wait("all servers up", |server| server["health"] == "up");
    let mut wire = Wire::login(&stage.endpoint(USER, PASSWORD));
    wire.query("INSERT INTO t VALUES (1)");
    let refused = order(&stage, "SWITCHOVER s0").unwrap_err();
    assert!(
        refused.1.contains("permission denied") || refused.1.contains("must be"),
        "{refused:?}"
    );
    assert_eq!(stage.shown()[PRIMARY]["role"], "primary");
    let shard = &stage.fleet.shards[0];
    let writes = || {
        shard
            .primary
            .sql("postgres", "INSERT INTO t VALUES (2)")
            .is_ok()
    };
    assert!(poll_until(SOON, writes), "the primary refuses writes still");
}

/// It hears of the switchover late, and its clients may see errors, but are told of nothing that is not kept.
#[test]
fn a_switchover_through_one_router_loses_nothing_of_another() {
    let stage = Stage::new(1, 1);
    let other = Router::start(&stage.config);
    let shard = &stage.fleet.shards[0];
    let create = "CREATE TABLE t (id int8 PRIMARY KEY)";
    shard.primary.sql("postgres", create).unwrap();
    shard.wait_replayed();
    let over = AtomicBool::new(false);
    let told = Mutex::new(Vec::new());
    let errors = Mutex::new(Vec::new());
    let (ordered, refused, served) = std::thread::scope(|scope| {
        for client in 0..4 {
            let endpoint = other.endpoint(USER, PASSWORD, "postgres");
            let (over, told, errors) = (&over, &told, &errors);
            scope.spawn(move || {
                let mut wire = Wire::login(&endpoint);
                let ids = (0i64..).map(|number| number * 4 + client);
                for id in ids.take_while(|_| !over.load(Ordering::Relaxed)) {
                    let insert = message::query(&format!("INSERT INTO t VALUES ({id})"));
                    let _ = wire.try_send(&insert);
                    match wire.try_until_ready() {
                        Ok(frames) if frames.iter().any(|frame| frame.kind == b'C') => {
                            told.lock().unwrap().push(id);
                        }
                        Ok(frames) => {
                            let error = frames.iter().find(|frame| frame.kind == b'E').unwrap();
                            errors.lock().unwrap().push(error.sqlstate());
                        }
                        Err(_) => wire = Wire::login(&endpoint),
                    }
                }
            });
        }
        let some = |more: usize| {
            let count = || told.lock().unwrap().len();
            let before = count();
            poll_until(SOON, || count() > before + more)
        };
        let began = some(100);
        let ordered = order(&stage, "SWITCHOVER s0");
        // Nor may anybody else write there any longer.
        let refused = shard.primary.sql("postgres", "INSERT INTO t VALUES (-1)");
        let goes_on = some(100);
        over.store(true, Ordering::Relaxed);
        (ordered, refused, began && goes_on)
    });
    ordered.unwrap();
    assert!(refused.unwrap_err().to_string().contains("read-only"));
    assert!(served, "clients of the other router are not served");
    // What the old primary refuses because it is one waits for the new one.
    let errors = errors.into_inner().unwrap();
    let lost = |code: &String| code.starts_with("08") || code.starts_with("57P");
    assert!(errors.iter().all(lost), "{errors:?}");
    let told = told.into_inner().unwrap();
    let kept = shard.replicas[0].sql("postgres", "SELECT id FROM t");
    let kept: HashSet<i64> = kept
        .unwrap()
        .lines()
        .map(|id| id.parse().unwrap())
        .collect();
    let lost: Vec<_> = told.iter().filter(|id| !kept.contains(id)).collect();
    assert!(
        lost.is_empty(),
        "{} of {} are lost: {lost:?}",
        lost.len(),
        told.len()
    );
}

#[test]
fn a_switchover_waits_for_open_transactions_but_not_for_ever() {
    const REPLICA: usize = 0;
    let mut stage = Stage::with(1, 1, "drain = \"500ms\"");
    let shard = &stage.fleet.shards[0];
    shard
        .primary
        .sql("postgres", "CREATE TABLE t (a int)")
        .unwrap();
    shard.wait_replayed();
    let mut idle = Wire::login(&stage.endpoint(USER, PASSWORD));
    idle.rows("BEGIN");
    idle.rows("INSERT INTO t VALUES (1)");
    let begun = Instant::now();
    order(&stage, "SWITCHOVER s0").unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(500));
    let frames = idle.query("COMMIT");
    assert_eq!(frames[0].sqlstate(), "08006", "{frames:?}");
    idle.query("ROLLBACK");
    assert_eq!(idle.rows("SELECT count(*) FROM t"), [["0"]]);
    assert_eq!(stage.shown()[REPLICA]["role"], "primary");
    // The old one follows nobody.
    let refused = order(&stage, "SWITCHOVER s0").unwrap_err();
    assert_eq!(refused.0, "55000");
    assert!(refused.1.starts_with("no replica"), "{refused:?}");
    let refused = order(&stage, "SWITCHOVER s9").unwrap_err();
    assert_eq!(refused.1, "no shard is called \"s9\"");
    stage.fleet.shards[0].primary.kill9();
}

#[test]
fn a_promotion_that_is_told_is_seen_at_once() {
    const REPLICA: usize = 0;
    let mut stage = Stage::new(1, 1);
    stage.fleet.shards[0].primary.kill9();
    stage.fleet.shards[0].replicas[0].promote().unwrap();
    order(&stage, "PROMOTED s0").unwrap();
    assert_eq!(stage.shown()[REPLICA]["role"], "primary");
    let mut wire = Wire::login(&stage.endpoint(USER, PASSWORD));
    let frames = wire.query("CREATE TABLE t (a int)");
    assert!(frames.iter().all(|f| f.kind != b'E'), "{frames:?}");
}

/// A read that takes a while, and is proven to only read.
const READ: &str = "SELECT count(*) FROM t one, t other WHERE one.a <> other.a + 1";

/// Runs [`READ`] while the backend that works for it is ended, which is told its server and process.
fn read_while_backends_end(stage: &Stage, wire: &mut Wire, end: impl Fn(&Cluster, i32)) {
    let shard = &stage.fleet.shards[0];
    let servers: Vec<&Cluster> = shard.replicas.iter().chain([&shard.primary]).collect();
    let backend = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT count(*) FROM t one%' AND state = 'active'";
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| wire.rows(READ));
        let ended = poll_until(SOON, || {
            servers.iter().any(|server| {
                let pid = server.sql("postgres", backend).unwrap().parse();
                pid.is_ok_and(|pid| {
                    end(server, pid);
                    true
                })
            })
        });
        assert!(ended, "no backend was seen at work");
        assert_eq!(asked.join().unwrap(), [["8997001"]]);
    });
}

/// The client hears nothing of it, on the fast path and on the general one, where replicas serve it.
#[test]
fn a_read_of_which_nothing_was_seen_is_asked_once_more() {
    for replicas in [0, 1] {
        let stage = Stage::new(1, replicas);
        let shard = &stage.fleet.shards[0];
        let create = "CREATE TABLE t AS SELECT generate_series(1, 3000) AS a";
        shard.primary.sql("postgres", create).unwrap();
        shard.wait_replayed();
        let mut wire = Wire::login(&stage.endpoint(USER, PASSWORD));
        // The shape has a plan from here on.
        for _ in 0..3 {
            wire.rows(READ);
        }
        read_while_backends_end(&stage, &mut wire, |server, pid| {
            let end = format!("SELECT pg_terminate_backend({pid})");
            server.sql("postgres", &end).unwrap();
        });
        // The whole server crashes, and starts again.
        read_while_backends_end(&stage, &mut wire, |_, pid| {
            // SAFETY: the process is a backend of a server that this test has started.
            assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
        });
    }
}

/// The client hears nothing of it.
#[test]
fn a_read_in_the_way_of_what_a_replica_replays_is_asked_of_the_primary() {
    let mut stage = Stage::new(1, 1);
    let shard = &mut stage.fleet.shards[0];
    let create = "CREATE TABLE t AS SELECT generate_series(1, 3000) AS a";
    shard.primary.sql("postgres", create).unwrap();
    let at_once = [("max_standby_streaming_delay", "0")];
    shard.replicas[0].configure(&at_once).unwrap();
    shard.wait_replayed();
    let prefers = "[balance]\nreads = \"prefer-replicas\"\n";
    let router = Router::start(&stage.config.replace("[balance]\n", prefers));
    let stage = Stage { router, ..stage };
    stage.wait("all servers up", |server| server["health"] == "up");
    let shard = &stage.fleet.shards[0];
    let replica = &shard.replicas[0];
    let at_work = "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE 'SELECT count(*) FROM t one%' AND state = 'active'";
    let mut wire = Wire::login(&stage.endpoint(USER, PASSWORD));
    // At first its connections are younger than the last probe, and the primary serves.
    let in_the_way = poll_until(SOON, || {
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| wire.rows(READ));
            let at_work = || replica.sql("postgres", at_work).unwrap() == "t";
            let at_work = poll_until(SOON, || asked.is_finished() || at_work());
            assert!(at_work, "nobody serves the read");
            if asked.is_finished() {
                return false;
            }
            for sql in ["DELETE FROM t WHERE a = 3000", "VACUUM t"] {
                shard.primary.sql("postgres", sql).unwrap();
            }
            assert_eq!(asked.join().unwrap(), [["8991003"]]);
            true
        })
    });
    assert!(
        in_the_way,
        "the replica serves no read: {:#?}",
        stage.shown()
    );
    let conflicts = "SELECT sum(confl_snapshot + confl_lock + confl_bufferpin) > 0 FROM pg_stat_database_conflicts";
    assert_eq!(replica.sql("postgres", conflicts).unwrap(), "t");
}

/// Whoever holds a lock there has sent the next statement before he could know that the lock is gone.
#[test]
fn what_was_sent_ahead_is_not_run_without_what_the_session_had() {
    let stage = Stage::new(1, 0);
    let server = &stage.fleet.shards[0].primary;
    server.sql("postgres", "CREATE TABLE t (a int)").unwrap();
    let mut wire = Wire::login(&stage.endpoint(USER, PASSWORD));
    wire.rows("SELECT pg_advisory_lock(7)");
    wire.send(&message::query("SELECT pg_sleep(60)"));
    wire.send(&message::query("INSERT INTO t VALUES (1)"));
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    assert!(poll_until(SOON, || server.sql("postgres", end).unwrap() == "1"));
    let told = wire.until_ready();
    assert!(told.iter().any(|frame| frame.kind == b'E'), "{told:?}");
    let farewell = wire.frame();
    assert_eq!(farewell.sqlstate(), "08006", "{farewell}");
    assert!(wire.is_closed_within(SOON));
    let count = server.sql("postgres", "SELECT count(*) FROM t");
    assert_eq!(count.unwrap(), "0");
}

/// The worst case: the old server is still there, and would take writes.
#[test]
fn a_name_that_means_another_server_leads_there_and_never_back_to_the_old_one() {
    if !may_have_own_hosts() {
        eprintln!("SKIP names of servers: needs root and mount namespaces");
        return;
    }
    let mut fleet = Fleet::new(1, 1);
    let shard = &mut fleet.shards[0];
    let old = Proxy::to(shard.primary.port());
    let new = Proxy::at(
        Ipv4Addr::new(127, 0, 0, 2),
        old.port(),
        shard.replicas[0].port(),
    );
    let config = format!(
        "[listen]\nport = @port@\n[failover]\nwindow = \"2s\"\n[pool]\nresolve_interval = \"1s\"\n\
         [control]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
         [[user]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
         [[shard]]\nname = \"s0\"\n[[shard.server]]\naddress = \"db.test:{}\"\n",
        old.port()
    );
    let hosts = |address: &str| format!("127.0.0.1 localhost\n{address} db.test\n");
    let router = Router::start_with_hosts(&config, &hosts("127.0.0.1"));
    let endpoint = router.endpoint(USER, PASSWORD, "postgres");
    let state = |frames: &[Frame]| {
        let error = frames.iter().find(|frame| frame.kind == b'E');
        error.map(|error| error.sqlstate())
    };
    let (mut open, mut wire) = (Wire::login(&endpoint), Wire::login(&endpoint));
    let served_by = |wire: &mut Wire| {
        let frames = wire.query("SELECT current_setting('port')");
        let row = frames.iter().find(|frame| frame.kind == b'D');
        row.map(|row| row.row_text()[0].clone())
    };
    assert_eq!(state(&wire.query("CREATE TABLE t (a int)")), None);
    assert_eq!(served_by(&mut wire), Some(shard.primary.port().to_string()));
    open.query("BEGIN");
    assert_eq!(state(&open.query("INSERT INTO t VALUES (1)")), None);
    shard.wait_replayed();

    shard.replicas[0].promote().unwrap();
    let promoted = shard.replicas[0].port().to_string();
    router.write_hosts(&hosts("127.0.0.2"));
    let moved = poll_until(SOON, || served_by(&mut wire).as_ref() == Some(&promoted));
    assert!(moved, "{}", router.log());
    // What was open at the old one is lost there, and not done in part.
    assert_eq!(state(&open.query("COMMIT")).as_deref(), Some("08006"));
    assert_eq!(state(&wire.query("INSERT INTO t VALUES (2)")), None);
    let rows = |server: &Cluster| server.sql("postgres", "SELECT count(*) FROM t").unwrap();
    assert_eq!(
        (rows(&shard.primary), rows(&shard.replicas[0])),
        ("0".into(), "1".into())
    );

    // The name is set back by mistake: that server is on a timeline that was replaced.
    router.write_hosts(&hosts("127.0.0.1"));
    let refused = || state(&wire.query("INSERT INTO t VALUES (3)")).as_deref() == Some("57P03");
    assert!(poll_until(SOON, refused), "{}", router.log());
    assert_eq!(rows(&shard.primary), "0");
    drop(new);
}

/// It is committed, and lost if the server is: success would be too much said.
#[test]
fn a_commit_whose_wait_for_a_standby_was_cancelled_is_of_unknown_outcome() {
    let stage = Stage::new(2, 0);
    for shard in &stage.fleet.shards {
        let create = "CREATE TABLE items (id int8 PRIMARY KEY)";
        shard.primary.sql("postgres", create).unwrap();
    }
    let mut wire = Wire::login(&stage.endpoint(USER, PASSWORD));
    // What the router keeps on servers is there from here on.
    let ids: Vec<_> = (11..=20).map(|id| format!("({id})")).collect();
    let frames = wire.query(&format!("INSERT INTO items VALUES {}", ids.join(", ")));
    assert!(frames.iter().all(|frame| frame.kind != b'E'), "{frames:?}");
    for shard in &stage.fleet.shards {
        let never = "ALTER SYSTEM SET synchronous_standby_names = 'nobody'";
        shard.primary.sql("postgres", never).unwrap();
        let reload = "SELECT pg_reload_conf()";
        shard.primary.sql("postgres", reload).unwrap();
        let obeys = || {
            let names = shard
                .primary
                .sql("postgres", "SHOW synchronous_standby_names");
            names.unwrap() == "nobody"
        };
        assert!(poll_until(SOON, obeys));
    }
    let requests: [&[u8]; 4] = [
        &message::query("INSERT INTO items VALUES (1)"),
        // The shape has a plan now.
        &message::query("INSERT INTO items VALUES (2)"),
        &[
            message::parse("", "INSERT INTO items VALUES (3)", &[]),
            message::bind_text(&[]),
            message::execute("", 0),
            message::sync(),
        ]
        .concat(),
        &message::query("BEGIN; INSERT INTO items VALUES (4); COMMIT"),
    ];
    let cancel =
        "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    for request in requests {
        wire.send(request);
        let cancelled = || {
            let count = |shard: &mothership_tests::fleet::Shard| {
                shard.primary.sql("postgres", cancel).unwrap() == "1"
            };
            stage.fleet.shards.iter().any(count)
        };
        assert!(poll_until(SOON, cancelled), "nothing waits for a standby");
        let frames = wire.until_ready();
        let error = frames.iter().find(|frame| frame.kind == b'E');
        let error = error.unwrap_or_else(|| panic!("{frames:?}"));
        assert_eq!(error.sqlstate(), "08007", "{error}");
        assert!(error.field('M').unwrap().contains("replicated"), "{error}");
    }
    assert_eq!(wire.rows("SELECT count(*) FROM items"), [["14"]]);

    // On both shards: whatever becomes of it becomes of all of it.
    let both: Vec<_> = (21..=30).map(|id| format!("({id})")).collect();
    wire.send(&message::query(&format!(
        "INSERT INTO items VALUES {}",
        both.join(", ")
    )));
    let answered = AtomicBool::new(false);
    let frames = std::thread::scope(|scope| {
        let cancels = scope.spawn(|| {
            poll_until(SOON, || {
                for shard in &stage.fleet.shards {
                    shard.primary.sql("postgres", cancel).unwrap();
                }
                answered.load(Ordering::Relaxed)
            })
        });
        let frames = wire.until_ready();
        answered.store(true, Ordering::Relaxed);
        assert!(cancels.join().unwrap());
        frames
    });
    let error = frames.iter().find(|frame| frame.kind == b'E').unwrap();
    assert!(
        ["08006", "08007", "40001"].contains(&&*error.sqlstate()),
        "{error}"
    );
    for shard in &stage.fleet.shards {
        let none = "ALTER SYSTEM RESET synchronous_standby_names";
        shard.primary.sql("postgres", none).unwrap();
        shard
            .primary
            .sql("postgres", "SELECT pg_reload_conf()")
            .unwrap();
    }
    let whole = poll_until(SOON, || {
        let prepared = |shard: &mothership_tests::fleet::Shard| {
            let count = "SELECT count(*) FROM pg_prepared_xacts";
            shard.primary.sql("postgres", count).unwrap() != "0"
        };
        !stage.fleet.shards.iter().any(prepared)
    });
    assert!(whole, "a transaction is prepared still");
    let count = wire.rows("SELECT count(*) FROM items");
    assert!(count == [["14"]] || count == [["24"]], "{count:?}");
}

/// What a failover loses of a transaction over several shards, it loses in part.
#[test]
fn who_checks_the_configuration_is_told_that_commits_wait_for_no_standby() {
    let stage = Stage::new(2, 1);
    let file = mothership_tests::Folder::new("check");
    let path = file.path().join("mothership.toml");
    std::fs::write(&path, stage.config.replace("@port@", "6432")).unwrap();
    let warning = || {
        let mut check = std::process::Command::new(mothership_tests::router::binary());
        check
            .args(["check-config", "--connect", "--config"])
            .arg(&path);
        let output = check.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{said}");
        ["s0", "s1"].map(|shard| {
            said.contains(&format!(
                "warning: shard {shard}: commits wait for no standby"
            ))
        })
    };
    assert_eq!(warning(), [true, true]);
    let primary = &stage.fleet.shards[0].primary;
    primary
        .sql(
            "postgres",
            "ALTER SYSTEM SET synchronous_standby_names = '*'",
        )
        .unwrap();
    primary.sql("postgres", "SELECT pg_reload_conf()").unwrap();
    let told = poll_until(SOON, || warning() == [false, true]);
    assert!(told, "{:?}", warning());
}
