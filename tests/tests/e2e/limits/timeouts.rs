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

fn plain() -> Stage {
    stage("queue_timeout = \"10s\"")
}

/// What it is told at last, with the words, and that it closes.
fn farewell(wire: &mut mothership_tests::Wire) -> (String, String) {
    let frame = wire.try_frame(LIMIT).expect("it is told why");
    assert!(wire.is_closed_within(LIMIT));
    let said = |field| frame.field(field).unwrap_or_default();
    assert_eq!((said('S').as_str(), frame.field('H')), ("FATAL", None));
    (frame.sqlstate(), said('M'))
}

const IDLE: (&str, &str) = (
    "57P05",
    "terminating connection due to idle-session timeout",
);
const IN_TRANSACTION: (&str, &str) = (
    "25P03",
    "terminating connection due to idle-in-transaction timeout",
);

fn told((code, message): (&str, &str)) -> (String, String) {
    (code.to_owned(), message.to_owned())
}

#[test]
#[ignore = "long"]
fn a_block_that_has_no_server_yet_ends_by_the_timeout_of_its_client() {
    let stage = plain();
    let bystander = stage.bystander();
    let set = "SET idle_in_transaction_session_timeout = '300ms'";
    for begins in [
        &["BEGIN"][..],
        &["BEGIN", "SAVEPOINT a"],
        &["BEGIN", "SELECT 1"],
        &["BEGIN; SELECT 1/0"],
    ] {
        let mut wire = stage.wire();
        wire.query(set);
        begins.iter().for_each(|sql| drop(wire.query(sql)));
        assert_eq!(farewell(&mut wire), told(IN_TRANSACTION), "{begins:?}");
    }
    let mut wire = stage.wire();
    wire.query(&format!("{set}; BEGIN"));
    assert_eq!(farewell(&mut wire), told(IN_TRANSACTION));
    // Who goes on, or has said that it is no limit, is left alone.
    let mut wire = stage.wire();
    wire.query("SET idle_in_transaction_session_timeout = '1s'");
    wire.query("BEGIN");
    for _ in 0..6 {
        std::thread::sleep(std::time::Duration::from_millis(300));
        wire.query("SAVEPOINT a");
    }
    wire.query("COMMIT");
    for sql in [set, "SET idle_in_transaction_session_timeout = 0", "BEGIN"] {
        wire.query(sql);
    }
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(wire.rows("SELECT 1"), [["1"]]);
    bystander.noticed_nothing();
}

#[test]
fn a_silent_session_ends_by_the_timeout_of_its_client() {
    let stage = plain();
    let bystander = stage.bystander();
    let set = "SET idle_session_timeout = '300ms'";
    for sql in ["SELECT 1", "SHOW idle_session_timeout", "BEGIN; COMMIT"] {
        let mut wire = stage.wire();
        wire.query(set);
        wire.query(sql);
        assert_eq!(farewell(&mut wire), told(IDLE), "{sql}");
    }
    // Nothing else is sent after it.
    let mut wire = stage.wire();
    wire.query(&format!("{set}; SELECT 1;"));
    assert_eq!(farewell(&mut wire), told(IDLE));
    let mut wire = stage.wire();
    for sql in ["BEGIN", set, "ROLLBACK"] {
        wire.query(sql);
    }
    // A transaction is another matter, and so is who goes on.
    let mut busy = stage.wire();
    busy.query("SET idle_session_timeout = '1s'");
    for _ in 0..6 {
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(busy.rows("SHOW idle_session_timeout"), [["1s"]]);
    }
    busy.query("BEGIN");
    std::thread::sleep(std::time::Duration::from_secs(2));
    busy.query("COMMIT");
    assert_eq!(busy.rows("SELECT 1"), [["1"]]);
    busy.query("RESET idle_session_timeout");
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(busy.rows("SELECT 1"), [["1"]]);
    assert_eq!(wire.rows("SELECT 1"), [["1"]]);
    bystander.noticed_nothing();
}

#[test]
fn timeouts_that_a_session_begins_with_hold() {
    let stage = plain();
    let endpoint = stage.endpoint();
    // As its startup packet says.
    let startup = |options: &str| {
        let mut wire = mothership_tests::Wire::connect(stage.router.port());
        wire.try_login(&endpoint, message::V3_0, &[("options", options)])
            .unwrap();
        wire
    };
    let mut wire = startup("-c idle_session_timeout=300");
    assert_eq!(farewell(&mut wire), told(IDLE));
    let mut wire = startup("-c idle_in_transaction_session_timeout=300");
    wire.query("BEGIN");
    assert_eq!(farewell(&mut wire), told(IN_TRANSACTION));
    // As the database says.
    let name = &endpoint.database;
    let mut admin = stage.wire();
    for setting in [
        "idle_session_timeout",
        "idle_in_transaction_session_timeout",
    ] {
        let alter = format!("ALTER DATABASE \"{name}\" SET {setting} = '400ms'");
        assert_eq!(admin.query(&alter)[0].kind, b'C');
    }
    let mut wire = stage.wire();
    wire.query("BEGIN");
    assert_eq!(farewell(&mut wire), told(IN_TRANSACTION));
    let mut wire = stage.wire();
    assert_eq!(farewell(&mut wire), told(IDLE));
    let mut wire = startup("-c idle_session_timeout=0");
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(wire.rows("SHOW idle_session_timeout"), [["0"]]);
    // It began before.
    assert_eq!(admin.rows("SELECT 1"), [["1"]]);
}

#[test]
fn what_a_client_has_set_for_itself_does_not_end_the_servers_of_the_pool() {
    let stage = Stage::with("[pool]\nmin = 0\nmax = 1\n[listen]\nport = @port@\nworkers = 1");
    let process = "SELECT pg_backend_pid()";
    let mut other = stage.wire();
    let first = other.rows(process);
    let mut client = stage.wire();
    for sql in [
        "SET idle_session_timeout = '500ms'",
        "SELECT 1",
        "BEGIN; SELECT 1; COMMIT",
    ] {
        client.query(sql);
        assert_eq!(other.rows("SHOW idle_session_timeout"), [["0"]]);
        assert_eq!(client.rows("SHOW idle_session_timeout"), [["500ms"]]);
    }
    assert_eq!(farewell(&mut client), told(IDLE));
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(other.rows(process), first);
}

#[test]
#[ignore = "long"]
fn a_statement_that_no_cancel_ends_is_given_up() {
    // The bystander has the same limit, and is answered within it on a busy machine, too.
    let stage = stage("query_timeout = \"5s\"\nreset_timeout = \"300ms\"");
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
