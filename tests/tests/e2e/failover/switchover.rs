//! A primary that changes by order: a pause, and nothing lost.

use super::stage::{SOON, Stage, order};
use mothership_tests::message;
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Router, Wire, poll_until};
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

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
fn a_switchover_that_is_cancelled_before_the_promotion_is_undone() {
    let mut stage = Stage::new(1, 1);
    let slow = [("recovery_min_apply_delay", "60s")];
    let replica = &mut stage.fleet.shards[0].replicas[0];
    replica.configure(&slow).unwrap();
    let shard = &stage.fleet.shards[0];
    let primary = |sql: &str| shard.primary.sql("postgres", sql).unwrap();
    let delay = "SHOW recovery_min_apply_delay";
    let is_slow = || shard.replicas[0].sql("postgres", delay).unwrap() == "1min";
    assert!(poll_until(SOON, is_slow));
    primary("CREATE TABLE t (a int)");
    let is_fenced = || primary("SHOW default_transaction_read_only") == "on";
    for by_cancel in [true, false] {
        let mut console = Wire::login(&stage.router.endpoint(USER, PASSWORD, "mothership"));
        console.send(&message::query("SWITCHOVER s0"));
        assert!(poll_until(SOON, is_fenced), "it has not begun");
        if by_cancel {
            console.cancel();
            let told = console.until_ready();
            let error = told.iter().find(|frame| frame.kind == b'E');
            assert_eq!(error.unwrap().sqlstate(), "57014");
        }
        drop(console);
        // By itself it gives up after ten seconds.
        let soon = Duration::from_secs(5);
        assert!(poll_until(soon, || !is_fenced()), "it is still fenced");
        let mut wire = Wire::login(&stage.endpoint(USER, PASSWORD));
        let frames = wire.query("INSERT INTO t VALUES (1)");
        assert!(frames.iter().all(|f| f.kind != b'E'), "{frames:?}");
    }
    assert_eq!(primary("SELECT pg_is_in_recovery()"), "f");
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

/// PAUSE waits for the transactions that are open, so they must be able to end.
#[test]
fn a_transaction_joins_another_shard_while_its_database_is_paused() {
    let stage = Stage::new(2, 0);
    for shard in &stage.fleet.shards {
        let create = "CREATE TABLE items (id int8 PRIMARY KEY)";
        shard.primary.sql("postgres", create).unwrap();
    }
    let fine = |frames: &[mothership_tests::frame::Frame]| {
        assert!(frames.iter().all(|frame| frame.kind != b'E'), "{frames:?}");
    };
    let mut open = Wire::login(&stage.endpoint(USER, PASSWORD));
    fine(&open.query("BEGIN; INSERT INTO items VALUES (1)"));
    std::thread::scope(|scope| {
        let pause = scope.spawn(|| order(&stage, "PAUSE postgres"));
        let mut other = Wire::login(&stage.endpoint(USER, PASSWORD));
        let is_paused = || {
            other.send(&message::query("SELECT 1"));
            let waits = poll_until(Duration::from_secs(1), || stage.waiting() > 0);
            waits || {
                other.until_ready();
                false
            }
        };
        assert!(poll_until(SOON, is_paused));
        fine(&open.query("INSERT INTO items SELECT g FROM generate_series(2, 20) g"));
        fine(&open.query("COMMIT"));
        pause.join().unwrap().unwrap();
        order(&stage, "RESUME postgres").unwrap();
        other.until_ready();
        assert_eq!(other.rows("SELECT count(*) FROM items"), [["20"]]);
    });
}

/// Recovery looks into all databases, and must not keep one from being dropped.
#[test]
fn a_database_that_recovery_has_looked_into_can_be_dropped() {
    let stage = Stage::new(2, 0);
    let mut wire = Wire::login(&stage.endpoint(USER, PASSWORD));
    let fine = |frames: &[mothership_tests::frame::Frame]| {
        assert!(frames.iter().all(|frame| frame.kind != b'E'), "{frames:?}");
    };
    // A sweep may begin at any time while it is dropped.
    for round in 0..4 {
        let name = format!("swept_{round}");
        fine(&wire.query(&format!("CREATE DATABASE {name}")));
        let mut within = stage.endpoint(USER, PASSWORD);
        within.database = name.clone();
        let mut guest = Wire::login(&within);
        fine(&guest.query("CREATE TABLE items (id int8 PRIMARY KEY)"));
        fine(&guest.query("INSERT INTO items SELECT g FROM generate_series(1, 20) g"));
        let server = &stage.fleet.shards[1].primary;
        let sweep = format!(
            "SELECT count(*) FROM pg_stat_activity \
            WHERE datname = '{name}' AND application_name = 'mothership' AND query LIKE '%pg_prepared_xacts%'"
        );
        let is_swept = || server.sql("postgres", &sweep).unwrap() != "0";
        assert!(poll_until(SOON, is_swept), "recovery has not looked");
        drop(guest);
        fine(&wire.query(&format!("DROP DATABASE {name}")));
    }
}
