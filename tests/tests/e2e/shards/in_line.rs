//! Statements that only read and find no connection idle: they wait in line, and what can happen to them meanwhile.

use super::fast::{backends, begin_slow, bound, fast, metric, segment, stage};
use super::stage::{LIMIT, Stage, keys_of, lines, one, one_each, owner, send};
use mothership_tests::message;
use mothership_tests::{Wire, poll_until};
use std::time::Duration;

/// A statement for the connection that [`begin_slow`] takes, not sent yet, whose shape the router knows; and its row.
fn known_read(wire: &mut Wire) -> (Vec<u8>, String) {
    let [busy, ..] = one_each();
    let keys = keys_of(owner(busy), 4);
    let read = |key: i64| format!("SELECT v FROM items WHERE id = {key}");
    for key in &keys[..3] {
        one(wire, &read(*key));
    }
    (message::query(&read(keys[3])), (keys[3] * 2).to_string())
}

/// Ends the statement that keeps the connection to the shard of `busy`.
fn let_go(stage: &Stage, busy: i64) {
    let end = format!("SELECT count(pg_cancel_backend(pid)) {}", backends());
    assert_eq!(stage.shards.sql(owner(busy), &end), "1");
}

/// The row of a `known_read`, alone.
fn assert_row(wire: &mut Wire, row: &str) {
    let answer = lines(&wire.until_ready());
    assert_eq!(answer[1], format!("DataRow {row}"), "{answer:?}");
    assert_eq!(answer[3..], ["ReadyForQuery I"]);
}

#[test]
fn who_waits_for_a_connection_is_served_on_the_fast_path_each_with_its_own() {
    const CLIENTS: usize = 8;
    const ROUNDS: usize = 40;
    let stage = stage();
    let mut wires: Vec<Wire> = (0..CLIENTS).map(|_| stage.wire()).collect();
    let keys = keys_of(1, CLIENTS);
    // Everybody has a statement of a name, and a text of its own, that the one connection may lack.
    for (at, wire) in wires.iter_mut().enumerate() {
        let sql = format!("SELECT v, {at} FROM items WHERE id = $1");
        send(wire, &[message::parse("s", &sql, &[20]), message::sync()]);
    }
    let mut counts = [0; 3];
    for round in 0..3 * ROUNDS {
        let before = fast(&stage);
        for (at, wire) in wires.iter_mut().enumerate() {
            let (sql, value) = ("SELECT v FROM items WHERE id = ", keys[at].to_string());
            match round % 3 {
                0 => wire.send(&message::query(&format!("{sql}{value}"))),
                1 => wire.send_all(&segment(&format!("{sql}$1"), &value)),
                _ => {
                    let values = [Some(&keys[at].to_be_bytes()[..])];
                    let (text, binary) = (message::Format::Text, message::Format::Binary);
                    wire.send_all(&[
                        message::bind("", "s", binary, &values, text),
                        message::execute("", 0),
                        message::sync(),
                    ]);
                }
            }
        }
        for (at, wire) in wires.iter_mut().enumerate() {
            let answer = lines(&wire.until_ready());
            let own = match round % 3 {
                2 => format!("DataRow {} {at}", keys[at] * 2),
                _ => format!("DataRow {}", keys[at] * 2),
            };
            let rows: Vec<_> = answer.iter().filter(|l| l.starts_with("DataRow")).collect();
            assert_eq!(rows, [&own], "{round} {at}: {answer:?}");
        }
        counts[round % 3] += fast(&stage) - before;
    }
    // Only one of them finds the connection idle, an eighth. A machine that is busy may make some wait for too long.
    let most = u64::try_from(CLIENTS * ROUNDS).unwrap();
    println!("of {most} each: {counts:?}");
    assert!(counts.iter().all(|count| *count > most / 4), "{counts:?}");
    stage.assert_nothing_open();
}

#[test]
fn a_request_in_line_is_cancelled_and_the_next_one_is_not() {
    let stage = stage();
    let (mut busy, mut wire) = (stage.wire(), stage.wire());
    for round in 0..5 {
        let (read, row) = known_read(&mut wire);
        let key = begin_slow(&stage, &mut busy);
        wire.send(&read);
        let mut told = None;
        // A cancel that overtakes the request is for nothing.
        let cancelled = poll_until(LIMIT, || {
            wire.cancel();
            told = wire.try_frame(Duration::from_millis(20)).ok();
            told.is_some()
        });
        assert!(cancelled, "{round}");
        let told = told.unwrap().to_string();
        assert!(told.starts_with("Error 57014"), "{round}: {told}");
        assert_eq!(lines(&wire.until_ready()), ["ReadyForQuery I"]);
        wire.send(&read);
        let_go(&stage, key);
        assert_row(&mut wire, &row);
        let answer = lines(&busy.until_ready());
        assert!(answer.iter().any(|line| line.starts_with("Error 57014")));
    }
}

#[test]
fn a_client_that_leaves_the_line_takes_no_connection_with_it() {
    let stage = stage();
    let (mut busy, mut gone, mut wire) = (stage.wire(), stage.wire(), stage.wire());
    let (left, _) = known_read(&mut gone);
    let (read, row) = known_read(&mut wire);
    let key = begin_slow(&stage, &mut busy);
    gone.send(&left);
    wire.send(&read);
    gone.reset();
    let_go(&stage, key);
    assert_row(&mut wire, &row);
    busy.until_ready();
    wire.send(&read);
    assert_row(&mut wire, &row);
}

#[test]
fn who_waits_for_too_long_is_told_so() {
    for timeout in ["10ms", "300ms"] {
        let stage = Stage::on_one_core_with(&format!(
            "[pool]\nmax = 1\nqueue_timeout = \"{timeout}\"\n[metrics]\nport = @metrics_port@\n"
        ));
        stage.fill(1..=60);
        let (mut busy, mut wire) = (stage.wire(), stage.wire());
        let (read, row) = known_read(&mut wire);
        let key = begin_slow(&stage, &mut busy);
        wire.send(&read);
        let answer = lines(&wire.until_ready());
        assert!(answer[0].starts_with("Error 53300"), "{answer:?}");
        assert_eq!(answer[1..], ["ReadyForQuery I"]);
        let_go(&stage, key);
        busy.until_ready();
        wire.send(&read);
        assert_row(&mut wire, &row);
    }
}

#[test]
fn who_is_in_line_when_the_router_ends_is_served_first() {
    let mut stage = stage();
    let (mut busy, mut wire) = (stage.wire(), stage.wire());
    let (read, row) = known_read(&mut wire);
    let key = begin_slow(&stage, &mut busy);
    wire.send(&read);
    // Of one that it has not read yet a router that ends knows nothing.
    let waits = || metric(&stage, "mothership_pool_waiting") == 1;
    assert!(poll_until(LIMIT, waits));
    stage.router.sigterm();
    let draining = || stage.router.log().contains("no new clients");
    assert!(poll_until(LIMIT, draining));
    let_go(&stage, key);
    assert_row(&mut wire, &row);
    assert!(stage.router.wait(LIMIT).success());
}

#[test]
fn a_statement_that_is_bound_in_line_is_parsed_first_where_that_is_needed() {
    let stage = stage();
    let (mut busy, mut wire) = (stage.wire(), stage.wire());
    let [key, ..] = one_each();
    let ids = keys_of(owner(key), 3);
    let sql = "SELECT v FROM items WHERE id = $1";
    for id in ids {
        // The other one's statement is in the unnamed slot of the connection when it is lent next.
        let answer = send(&mut wire, &segment(sql, &id.to_string()));
        assert_eq!(answer[0], "ParseComplete");
        begin_slow(&stage, &mut busy);
        wire.send_all(&bound("", &id.to_string()));
        let_go(&stage, key);
        let answer = lines(&wire.until_ready());
        assert_eq!(answer[0], "BindComplete", "{answer:?}");
        busy.until_ready();
    }
}
