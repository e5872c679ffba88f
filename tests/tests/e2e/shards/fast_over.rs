//! Statements that only read, over all shards: asked again they go the fast path, and clients see the same.

use super::fast::{fast, stage};
use super::stage::{LIMIT, Stage, lines, one, one_each, owner, say};
use mothership_tests::shared::USER;
use mothership_tests::{Endpoint, Wire, message, poll_until};

/// The rows that `stage` stores.
const STORED: usize = 60;
/// Every key and every value of them is below it.
const ABOVE_ALL: i64 = 1_000;

/// An answer with its rows in one order, whichever shard they are of.
fn sorted(mut answer: Vec<String>) -> Vec<String> {
    let is_row = |line: &String| line.starts_with("DataRow");
    if let (Some(first), Some(last)) = (
        answer.iter().position(is_row),
        answer.iter().rposition(is_row),
    ) {
        answer[first..=last].sort();
    }
    answer
}

#[test]
fn what_is_asked_again_goes_the_fast_path_and_is_answered_alike() {
    const VALUES: [i64; 5] = [0, 7, 60, 119, ABOVE_ALL];
    let stage = stage();
    let mut wire = stage.wire();
    for (sql, goes_fast) in [
        ("SELECT count(*) FROM items WHERE v > VALUE", true),
        (
            "SELECT count(v), sum(v), min(v), max(id) FROM items WHERE v > VALUE",
            true,
        ),
        (
            "SELECT id, note FROM items WHERE v > VALUE AND note <> 'no'",
            true,
        ),
        (" select note from items where v > VALUE ; ", true),
        (
            "SELECT id, date '2020-01-31' FROM items WHERE v = VALUE OR v = 8",
            true,
        ),
        // Rows of some shards, then the error of another.
        (
            "SELECT id, 100 / (v - 10 - VALUE) FROM items WHERE v < 20",
            true,
        ),
        ("SELECT note::int FROM items WHERE v > VALUE", true),
        // These read the time, or may.
        (
            "SELECT count(*) FROM items WHERE v > VALUE AND now() IS NOT NULL",
            false,
        ),
        (
            "SELECT count(*) FROM items WHERE v > VALUE AND note <> 'now'",
            false,
        ),
        // These are merged otherwise.
        ("SELECT id FROM items WHERE v > VALUE ORDER BY id", false),
        ("SELECT avg(v) FROM items WHERE v > VALUE", false),
        ("SELECT id FROM items WHERE v > VALUE FOR UPDATE", false),
    ] {
        let mut ask =
            |value: i64| sorted(say(&mut wire, &sql.replace("VALUE", &value.to_string())));
        let first = VALUES.map(&mut ask);
        assert_eq!(VALUES.map(&mut ask), first, "{sql}");
        let before = fast(&stage);
        assert_eq!(VALUES.map(&mut ask), first, "{sql}");
        let taken = fast(&stage) - before;
        let expected = if goes_fast { VALUES.len() as u64 } else { 0 };
        assert_eq!(taken, expected, "{sql}");
    }
    stage.assert_nothing_open();
}

#[test]
fn a_text_that_differs_in_a_literal_may_ask_for_the_time() {
    let stage = stage();
    let mut wire = stage.wire();
    let sql = |note: &str| format!("SELECT count(*) FROM items WHERE note <> '{note}'");
    for _ in 0..3 {
        assert_eq!(one(&mut wire, &sql("n5")), (STORED - 1).to_string());
    }
    let before = fast(&stage);
    assert_eq!(one(&mut wire, &sql("n60")), (STORED - 1).to_string());
    assert_eq!(fast(&stage), before + 1);
    let answer = say(&mut wire, &sql("today"));
    assert!(answer[0].starts_with("Error 0A000"), "{answer:?}");
    assert_eq!(fast(&stage), before + 1);
}

#[test]
fn settings_and_isolation_of_a_client_hold_on_all_shards() {
    let stage = stage();
    let mut clients = [stage.wire(), stage.wire()];
    let days = ["31.01.2020", "2020-01-31"];
    for (wire, style) in clients.iter_mut().zip(["German", "ISO"]) {
        say(wire, &format!("SET DateStyle = '{style}'"));
    }
    let sql = "SELECT date '2020-01-31' FROM items WHERE v > 0";
    for _ in 0..5 {
        for (wire, day) in clients.iter_mut().zip(days) {
            let rows = wire.rows(sql);
            assert_eq!(rows.len(), STORED);
            assert!(rows.iter().all(|row| row[0] == day), "{rows:?}");
        }
    }
    let [wire, _] = &mut clients;
    let count = "SELECT count(*) FROM items WHERE v > 0";
    for _ in 0..3 {
        assert_eq!(one(wire, count), STORED.to_string());
    }
    say(wire, "SET default_transaction_isolation = 'serializable'");
    let answer = say(wire, count);
    assert!(answer[0].starts_with("Error 0A000"), "{answer:?}");
}

/// A read of all shards that takes very long if `above` is below their values, and no time if it is above them.
fn slow(above: i64) -> String {
    format!(
        "SELECT count(*) FROM items WHERE v > {above} AND (SELECT count(*) FROM \
         generate_series(1, 100000) a, generate_series(1, 100000) b WHERE a + b > v) = 0"
    )
}

/// The backends of a shard that run it.
const RUNNING: &str = "FROM pg_stat_activity WHERE state = 'active' \
     AND datname = current_database() AND query LIKE 'SELECT count(*) FROM items WHERE v >%'";

/// Sends it the fast way, and waits until all shards work for it.
fn begin_slow(stage: &Stage, wire: &mut Wire) {
    for _ in 0..3 {
        assert_eq!(one(wire, &slow(ABOVE_ALL)), "0");
    }
    let before = fast(stage);
    wire.send(&message::query(&slow(0)));
    let running = format!("SELECT count(*) {RUNNING}");
    let all_run = || stage.shards.sql_all(&running).iter().all(|n| n == "1");
    assert!(poll_until(LIMIT, all_run));
    assert_eq!(fast(stage), before + 1);
}

/// The next request finds nothing of the one before.
fn assert_serves(wire: &mut Wire) {
    let count = one(wire, "SELECT count(*) FROM items");
    assert_eq!(count, STORED.to_string());
    let [a, ..] = one_each();
    let row = one(wire, &format!("SELECT v FROM items WHERE id = {a}"));
    assert_eq!(row, (a * 2).to_string());
}

/// No shard works for it any longer.
fn assert_nothing_runs(stage: &Stage) {
    let running = format!("SELECT count(*) {RUNNING}");
    let none = || stage.shards.sql_all(&running).iter().all(|n| n == "0");
    assert!(poll_until(LIMIT, none));
}

#[test]
fn a_request_under_way_is_cancelled_on_all_shards() {
    let stage = stage();
    let mut wire = stage.wire();
    begin_slow(&stage, &mut wire);
    wire.cancel();
    let answer = lines(&wire.until_ready());
    let errors = answer.iter().filter(|l| l.starts_with("Error 57014"));
    assert_eq!(errors.count(), 1, "{answer:?}");
    assert_eq!(answer.last().unwrap(), "ReadyForQuery I");
    assert_nothing_runs(&stage);
    assert_serves(&mut wire);
}

#[test]
fn a_server_that_is_lost_is_told_and_the_others_are_given_up() {
    for shard in 0..3 {
        let stage = stage();
        let mut wire = stage.wire();
        begin_slow(&stage, &mut wire);
        let end = format!("SELECT count(pg_terminate_backend(pid)) {RUNNING}");
        assert_eq!(stage.shards.sql(shard, &end), "1");
        // Answers are taken in the order of the shards, and the first ones would take for ever.
        for before in 0..shard {
            let cancel = format!("SELECT count(pg_cancel_backend(pid)) {RUNNING}");
            assert_eq!(stage.shards.sql(before, &cancel), "1");
        }
        let answer = lines(&wire.until_ready());
        let errors = answer.iter().filter(|l| l.starts_with("Error"));
        assert_eq!(errors.count(), 1, "{answer:?}");
        assert_eq!(answer.last().unwrap(), "ReadyForQuery I");
        assert_serves(&mut wire);
    }
}

/// With a console in which the client may give orders.
fn stage_with_console() -> (Stage, Wire) {
    let console =
        format!("[metrics]\nport = @metrics_port@\n[console]\nadmin_users = [\"{USER}\"]\n");
    let stage = Stage::on_one_core_with(&console);
    stage.fill(1..=STORED as i64);
    let admin = Wire::login(&Endpoint {
        database: "pgbouncer".into(),
        ..stage.endpoint()
    });
    (stage, admin)
}

#[test]
fn a_client_that_is_killed_while_it_writes_is_told_that_the_outcome_is_not_known() {
    let (stage, mut admin) = stage_with_console();
    let [a, ..] = one_each();
    let write = format!("UPDATE items SET v = v WHERE id = {a} AND pg_sleep(60) IS NOT NULL");
    let running = "FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'UPDATE items%' \
         AND datname = current_database()";
    for (begin, code) in [("", "08007"), ("BEGIN", "57P01")] {
        let mut wire = stage.wire();
        if !begin.is_empty() {
            say(&mut wire, begin);
        }
        wire.send(&message::query(&write));
        let count = format!("SELECT count(*) {running}");
        assert!(poll_until(LIMIT, || stage.shards.sql(owner(a), &count) == "1"));
        assert_ne!(admin.query("KILL app")[0].kind, b'E');
        assert_eq!(wire.until_ready().last().unwrap().sqlstate(), code);
        assert_ne!(admin.query("RESUME app")[0].kind, b'E');
        let end = format!("SELECT count(pg_terminate_backend(pid)) {running}");
        stage.shards.sql(owner(a), &end);
        assert!(poll_until(LIMIT, || stage.shards.sql(owner(a), &count) == "0"));
    }
}

#[test]
fn a_client_that_is_killed_is_told_while_all_shards_work_for_it() {
    let (stage, mut admin) = stage_with_console();
    // The second one is new to the router, which takes the general path.
    for again in [true, false] {
        let mut wire = stage.wire();
        match again {
            true => begin_slow(&stage, &mut wire),
            false => {
                let sql = slow(0).replace("count(*) FROM items", "count(*), max(v) FROM items");
                wire.send(&message::query(&sql));
                let like = RUNNING.replace("count(*) FROM", "count(*), max(v) FROM");
                let running = format!("SELECT count(*) {like}");
                let all_run = || stage.shards.sql_all(&running).iter().all(|n| n == "1");
                assert!(poll_until(LIMIT, all_run));
            }
        }
        assert_ne!(admin.query("KILL app")[0].kind, b'E');
        let answer = wire.until_ready();
        assert_eq!(answer.last().unwrap().sqlstate(), "57P01", "{answer:?}");
        assert_ne!(admin.query("RESUME app")[0].kind, b'E');
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE state = 'active' \
             AND datname = current_database() AND query LIKE '%generate_series(1, 100000) a%' \
             AND pid <> pg_backend_pid()";
        stage.shards.sql_all(end);
    }
}

#[test]
fn the_connections_of_a_client_that_leaves_reach_nobody() {
    let stage = stage();
    let mut wire = stage.wire();
    begin_slow(&stage, &mut wire);
    wire.reset();
    assert_serves(&mut stage.wire());
    assert_nothing_runs(&stage);
}

#[test]
fn rows_of_all_shards_reach_a_slow_reader_whole() {
    const WIDE: usize = 300_000;
    let stage = stage();
    let mut wire = stage.wire();
    let sql = |above: i64| format!("SELECT id, repeat('x', {WIDE}) FROM items WHERE v > {above}");
    for _ in 0..3 {
        assert!(wire.rows(&sql(ABOVE_ALL)).is_empty());
    }
    let before = fast(&stage);
    wire.send(&message::query(&sql(0)));
    assert!(poll_until(LIMIT, || fast(&stage) == before + 1));
    let mut ids = Vec::new();
    loop {
        let frame = wire.frame();
        match frame.kind {
            b'D' => {
                let row = frame.row_text();
                assert_eq!(row[1].len(), WIDE);
                ids.push(row[0].parse::<usize>().unwrap());
            }
            b'Z' => break,
            _ => {}
        }
    }
    ids.sort_unstable();
    assert!(ids.iter().copied().eq(1..=STORED), "{ids:?}");
    assert_serves(&mut wire);
}
