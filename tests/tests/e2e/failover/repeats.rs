//! What is sent once more when its server is lost, and what is not.

use super::stage::{SOON, Stage};
use mothership_tests::cluster::Cluster;
use mothership_tests::message;
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Router, Wire, poll_until};
use std::collections::BTreeSet;

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
#[ignore = "long"]
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

/// Somebody ends each backend that works for a read. A second one that is just opened may belong to a server that shuts
/// down; a third one ends because somebody wants to stop the read.
#[test]
fn a_read_whose_backends_are_ended_again_and_again_fails() {
    let stage = Stage::new(1, 0);
    let shard = &stage.fleet.shards[0];
    let create = "CREATE TABLE t AS SELECT generate_series(1, 3000) AS a";
    shard.primary.sql("postgres", create).unwrap();
    let mut wire = Wire::login(&stage.endpoint(USER, PASSWORD));
    let end = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT count(*) FROM t one%' \
               AND state = 'active' AND pg_terminate_backend(pid)";
    let ended = std::thread::scope(|scope| {
        let asked = scope.spawn(|| wire.query(READ));
        let mut ended = BTreeSet::new();
        let done = poll_until(SOON, || {
            let pids = shard.primary.sql("postgres", end).unwrap();
            ended.extend(pids.lines().map(str::to_owned));
            asked.is_finished()
        });
        assert!(done, "backends that were ended: {ended:?}");
        let told = asked.join().unwrap();
        let error = told.iter().find(|frame| frame.kind == b'E');
        assert_eq!(error.unwrap().sqlstate(), "57P01", "{told:?}");
        ended
    });
    assert!((2..=3).contains(&ended.len()), "{ended:?}");
    assert_eq!(wire.rows("SELECT 1"), [["1"]]);
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
