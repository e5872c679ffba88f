//! Whoever does the same for too long is told and let go, and its server is free again.

use super::stage::{LIMIT, Stage, state};
use mothership_tests::message;
use mothership_tests::poll_until;
use mothership_tests::wire::Silence;

fn stage(timeout: &str) -> Stage {
    Stage::with(&format!(
        "[pool]\nmin = 0\nmax = 2\n{timeout}\n[listen]\nport = @port@\nworkers = 1"
    ))
}

/// What the router says at last, and that it closes.
fn end(wire: &mut mothership_tests::Wire) -> String {
    let mut last = String::new();
    loop {
        match wire.try_frame(LIMIT) {
            Ok(frame) if frame.kind == b'E' => last = frame.sqlstate(),
            Ok(_) => {}
            Err(Silence::Closed) => return last,
            Err(Silence::Late) => panic!("the router does not close; last was {last:?}"),
        }
    }
}

#[test]
fn a_statement_that_takes_too_long_is_cancelled_and_the_session_goes_on() {
    // A server beside many others may take long to hear of a cancel. That it is given up is another test's.
    let stage = stage("query_timeout = \"2s\"\ncancel_timeout = \"20s\"\nreset_timeout = \"20s\"");
    let bystander = stage.bystander();
    let mut wire = stage.wire();
    for _ in 0..2 {
        wire.send(&message::query("SELECT pg_sleep(60)"));
        let frames = wire.until_ready();
        let error = frames.iter().find(|frame| frame.kind == b'E').unwrap();
        assert_eq!(error.sqlstate(), "57014");
        assert!(
            error.field('H').unwrap().contains("pool.query_timeout"),
            "{error}"
        );
    }
    assert_eq!(wire.rows("SELECT 1"), [["1"]]);
    bystander.noticed_nothing();
}

#[test]
fn an_idle_transaction_ends_and_what_it_did_is_undone() {
    let stage = stage("idle_in_transaction_timeout = \"500ms\"");
    let bystander = stage.bystander();
    stage.shards.sql(0, "CREATE TABLE t (a int)");
    let mut wire = stage.wire();
    wire.query("BEGIN");
    wire.query("INSERT INTO t VALUES (1)");
    assert_eq!(end(&mut wire), "25P03");
    assert_eq!(stage.shards.sql(0, "SELECT count(*) FROM t").trim(), "0");
    // Without a transaction nothing happens to who is silent as long.
    let mut quiet = stage.wire();
    let mut late = stage.wire();
    late.query("BEGIN");
    assert_eq!(end(&mut late), "25P03");
    assert_eq!(quiet.rows("SELECT 1"), [["1"]]);
    bystander.noticed_nothing();
}

// R10
#[test]
fn a_pipeline_without_sync_does_not_keep_its_server() {
    let stage = stage("idle_in_transaction_timeout = \"500ms\"");
    let bystander = stage.bystander();
    stage.shards.sql(0, "CREATE TABLE t (a int)");
    let mut wires: Vec<_> = (0..4).map(|_| stage.wire()).collect();
    for wire in &mut wires {
        wire.send_all(&[
            message::parse("", "INSERT INTO t VALUES (1)", &[]),
            message::bind_text(&[]),
            message::execute("", 0),
            message::flush(),
        ]);
    }
    for wire in &mut wires {
        assert_eq!(end(wire), "25P03");
    }
    assert_eq!(stage.shards.sql(0, "SELECT count(*) FROM t").trim(), "0");
    bystander.noticed_nothing();
}

#[test]
fn who_leaves_in_the_middle_of_a_pipeline_leaves_nothing_to_the_next() {
    let stage = Stage::with("[pool]\nmin = 0\nmax = 1\n[listen]\nport = @port@\nworkers = 1");
    stage.shards.sql(0, "CREATE TABLE t (a int)");
    let mut wire = stage.wire();
    wire.send_all(&[
        message::parse("", "INSERT INTO t VALUES (1)", &[]),
        message::bind_text(&[]),
        message::execute("", 0),
        message::flush(),
    ]);
    let done = (0..3).map(|_| wire.frame().kind).collect::<Vec<_>>();
    assert_eq!(done, b"12C");
    drop(wire);
    let mut next = stage.wire();
    assert_eq!(next.rows("SELECT count(*) FROM t"), [["0"]]);
    assert_eq!(stage.shards.sql(0, "SELECT count(*) FROM t").trim(), "0");
}

// R9
#[test]
fn who_does_not_read_is_disconnected_and_costs_bounded_memory() {
    let stage = stage("send_timeout = \"1s\"");
    let bystander = stage.bystander();
    let before = stage.router.resident_bytes();
    let mut slow = stage.wire();
    // 10 GiB, if somebody read them.
    slow.send(&message::query(
        "SELECT repeat('x', 1000000) FROM generate_series(1, 10000)",
    ));
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT repeat%' \
                   AND datname = current_database() AND state = 'active'";
    let runs = |count: &str| poll_until(LIMIT, || stage.shards.sql(0, running).trim() == count);
    assert!(runs("1"), "it never ran");
    let mut most = 0;
    let ended = poll_until(LIMIT, || {
        most = most.max(stage.router.resident_bytes());
        stage.shards.sql(0, running).trim() == "0"
    });
    assert!(ended, "its server is not free");
    let grown = most.saturating_sub(before);
    println!("{grown} bytes at most");
    assert!(grown < 32 << 20, "{grown} bytes");
    drop(slow);
    bystander.noticed_nothing();
}

#[test]
fn who_is_silent_for_too_long_is_disconnected() {
    let stage = Stage::with("[listen]\nport = @port@\nidle_timeout = \"1s\"\nworkers = 1");
    let bystander = stage.bystander();
    let mut wire = stage.wire();
    assert_eq!(state(&mut wire, &message::query("SELECT 1/0")), "22012");
    assert_eq!(end(&mut wire), "57P05");
    bystander.noticed_nothing();
}

#[test]
fn a_statement_that_no_cancel_ends_is_given_up() {
    let stage = stage("query_timeout = \"2s\"\nreset_timeout = \"300ms\"");
    let bystander = stage.bystander();
    stage.shards.sql(
        0,
        // A cancel may also come between two sleeps.
        "CREATE FUNCTION stubborn() RETURNS int LANGUAGE plpgsql AS $$ BEGIN LOOP BEGIN LOOP \
         BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN END; \
         END LOOP; EXCEPTION WHEN query_canceled THEN END; END LOOP; END $$",
    );
    let mut wire = stage.wire();
    stage.shards.sql(0, "CREATE TABLE t (a int)");
    wire.send(&message::query("INSERT INTO t SELECT stubborn()"));
    // Nobody knows what it has done.
    assert_eq!(end(&mut wire), "08007");
    // Nor here: the function may write.
    let mut wire = stage.wire();
    wire.send(&message::query("SELECT stubborn()"));
    assert_eq!(end(&mut wire), "08007");
    stage.shards.sql(
        0,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%stubborn%' \
         AND pid <> pg_backend_pid()",
    );
    bystander.noticed_nothing();
}
