//! Statements that only read, one after the other: the first of a shape is planned on the general path, those after it
//! go the fast one. Clients see the same, whatever becomes of them.

use super::stage::{LIMIT, Stage, keys_of, lines, one, one_each, owner, say, send};
use mothership_tests::message::{self, Format};
use mothership_tests::{Wire, poll_until};
use std::io::{Read, Write};
use std::net::TcpStream;

/// One core, where clients share what is known, and one connection to each server, which they share, too.
pub(super) fn stage() -> Stage {
    let stage = Stage::on_one_core_with("[pool]\nmax = 1\n[metrics]\nport = @metrics_port@\n");
    stage.fill(1..=60);
    stage
}

/// How many requests went the fast path.
pub(super) fn fast(stage: &Stage) -> u64 {
    metric(stage, "mothership_fast_requests_total")
}

/// What the metrics say under a name, over all labels.
pub(super) fn metric(stage: &Stage, metric: &str) -> u64 {
    let mut stream = TcpStream::connect(("127.0.0.1", stage.router.metrics_port())).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    let counts = page.lines().filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        let is_it = name.split('{').next() == Some(metric);
        is_it.then(|| value.parse::<f64>().unwrap() as u64)
    });
    counts.sum()
}

/// Parse, Bind, Describe, Execute, Sync of the unnamed statement.
pub(super) fn segment(sql: &str, value: &str) -> Vec<Vec<u8>> {
    vec![
        message::parse("", sql, &[]),
        message::bind_text(&[value]),
        message::describe_portal(""),
        message::execute("", 0),
        message::sync(),
    ]
}

/// The same of a statement that has been parsed.
pub(super) fn bound(name: &str, value: &str) -> Vec<Vec<u8>> {
    let values = [Some(value.as_bytes())];
    vec![
        message::bind("", name, Format::Text, &values, Format::Binary),
        message::execute("", 0),
        message::sync(),
    ]
}

#[test]
fn what_is_asked_again_goes_the_fast_path_and_is_answered_alike() {
    const TIMES: u64 = 5;
    let stage = stage();
    let mut wire = stage.wire();
    for (sql, goes_fast) in [
        ("SELECT v, note FROM items WHERE id = KEY", [true, true]),
        (
            "SELECT v FROM items WHERE id = KEY AND note = 'no'",
            [true, true],
        ),
        (
            "SELECT 10 / (g - 7) FROM items, generate_series(1, 9) g WHERE id = KEY",
            [true, true],
        ),
        ("SELECT v / 0 FROM items WHERE id = KEY", [true, true]),
        (
            "SELECT v FROM items WHERE id = KEY AND nothing = 1",
            [true, true],
        ),
        ("SELECT note::int FROM items WHERE id = KEY", [true, true]),
        ("  select v from items where id = KEY ; ", [true, true]),
        ("SELECT body FROM notes WHERE id = KEY", [true, true]),
        (
            "SELECT v FROM items WHERE id = KEY FOR UPDATE",
            [false, false],
        ),
        ("UPDATE items SET v = v WHERE id = KEY", [false, false]),
        // Over all shards.
        ("SELECT count(*) FROM items WHERE v > KEY", [true, false]),
        (
            "SELECT v FROM items WHERE id = KEY; SELECT 1",
            [false, false],
        ),
        ("SELECT set_config('app.x', 'KEY', false)", [false, false]),
    ] {
        for (extended, goes_fast) in [false, true].into_iter().zip(goes_fast) {
            let mut ask = |key: i64| {
                let key = key.to_string();
                match extended {
                    true => send(&mut wire, &segment(&sql.replace("KEY", "$1"), &key)),
                    false => say(&mut wire, &sql.replace("KEY", &key)),
                }
            };
            // Seen twice, a text is one that others are compared with.
            let first = one_each().map(&mut ask);
            let second = one_each().map(&mut ask);
            assert_eq!(first, second, "{sql}");
            let before = fast(&stage);
            for _ in 0..TIMES {
                assert_eq!(
                    one_each().map(&mut ask),
                    first,
                    "{sql}, extended {extended}"
                );
            }
            let taken = fast(&stage) - before;
            match goes_fast {
                true => assert_eq!(taken, 3 * TIMES, "{sql}, extended {extended}"),
                false => assert_eq!(taken, 0, "{sql}, extended {extended}"),
            }
        }
    }
    // A block is never for the fast path.
    say(&mut wire, "BEGIN");
    let before = fast(&stage);
    let [a, ..] = one_each();
    let answer = say(
        &mut wire,
        &format!("SELECT v, note FROM items WHERE id = {a}"),
    );
    assert_eq!(answer.last().unwrap(), "ReadyForQuery T");
    say(&mut wire, "COMMIT");
    assert_eq!(fast(&stage), before);
    stage.assert_nothing_open();
}

#[test]
fn the_first_request_of_a_client_goes_the_fast_path() {
    let stage = stage();
    let [a, b, _] = one_each();
    let sql = "SELECT v FROM items WHERE id = ";
    let mut wire = stage.wire();
    for key in [a, b, a, b] {
        one(&mut wire, &format!("{sql}{key}"));
        send(&mut wire, &segment(&format!("{sql}$1"), &key.to_string()));
    }
    for key in [a, b] {
        let before = fast(&stage);
        let row = one(&mut stage.wire(), &format!("{sql}{key}"));
        assert_eq!(row, (key * 2).to_string());
        assert_eq!(fast(&stage), before + 1);
        let answer = send(
            &mut stage.wire(),
            &segment(&format!("{sql}$1"), &key.to_string()),
        );
        assert_eq!(answer[3], format!("DataRow {}", key * 2), "{answer:?}");
        assert_eq!(fast(&stage), before + 2);
    }
}

#[test]
fn clients_that_share_a_connection_keep_their_names_and_settings_apart() {
    let stage = stage();
    let mut clients = [stage.wire(), stage.wire()];
    let settings = ["German", "ISO"];
    let texts = [
        "SELECT v, 'left', date '2020-01-31' FROM items WHERE id = $1",
        "SELECT 'right', v, date '2020-01-31' FROM items WHERE id = $1",
    ];
    for ((wire, sql), style) in clients.iter_mut().zip(texts).zip(settings) {
        say(wire, &format!("SET DateStyle = '{style}'"));
        let parse = [message::parse("s", sql, &[20]), message::sync()];
        assert_eq!(send(wire, &parse)[0], "ParseComplete");
    }
    let day = ["31.01.2020", "2020-01-31"];
    for id in (1..=20).chain(1..=20) {
        for (at, wire) in clients.iter_mut().enumerate() {
            let sql = format!("SELECT date '2020-01-31' FROM items WHERE id = {id}");
            assert_eq!(one(wire, &sql), day[at], "{id}");
            let values = [Some(id.to_string().into_bytes())];
            let values = values.each_ref().map(|value| value.as_deref());
            let bind = message::bind("", "s", Format::Text, &values, Format::Text);
            let answer = send(wire, &[bind, message::execute("", 0), message::sync()]);
            let row = match at {
                0 => format!("DataRow {} left {}", id * 2, day[0]),
                _ => format!("DataRow right {} {}", id * 2, day[1]),
            };
            assert_eq!(answer[1], row, "{answer:?}");
        }
    }
    // The unnamed statement is one's own, too.
    for (wire, sql) in clients.iter_mut().zip(texts) {
        send(wire, &segment(sql, "7"));
    }
    for (at, wire) in clients.iter_mut().enumerate() {
        for id in [8, 9, 8, 9] {
            let answer = send(wire, &bound("", &id.to_string()));
            assert_eq!(answer[0], "BindComplete");
            assert_eq!(answer[1].contains("left"), at == 0, "{answer:?}");
        }
        // A simple query drops it.
        one(wire, "SELECT v FROM items WHERE id = 7");
        let answer = send(wire, &bound("", "8"));
        assert!(answer[0].starts_with("Error 26000"), "{answer:?}");
    }
}

#[test]
fn requests_one_behind_the_other_are_answered_in_order() {
    let stage = stage();
    let mut wire = stage.wire();
    let query = |id: i64| message::query(&format!("SELECT v FROM items WHERE id = {id}"));
    let parsed = |id: i64| segment("SELECT v FROM items WHERE id = $1", &id.to_string()).concat();
    for round in 0..3 {
        let all: Vec<_> = (1..=60).flat_map(|id| [query(id), parsed(id)]).collect();
        wire.send_all(&all);
        for id in 1..=60 {
            let row = format!("DataRow {}", id * 2);
            for _ in 0..2 {
                let answer = lines(&wire.until_ready());
                let rows: Vec<_> = answer.iter().filter(|l| l.starts_with("DataRow")).collect();
                assert_eq!(rows, [&row], "{round} {id}: {answer:?}");
            }
        }
    }
}

/// A read that takes very long for a key that exists, and no time for another.
fn slow(id: i64) -> String {
    format!(
        "SELECT count(*) FROM items, generate_series(1, 100000) a, generate_series(1, 100000) b \
         WHERE id = {id}"
    )
}

/// The backends that run it.
pub(super) fn backends() -> &'static str {
    "FROM pg_stat_activity WHERE state = 'active' AND datname = current_database() \
     AND query LIKE 'SELECT count(*) FROM items, generate_series%'"
}

/// A key that no row has, of the shard of this one.
fn missing(key: i64) -> i64 {
    let mut keys = keys_of(owner(key), 100).into_iter();
    keys.find(|key| *key > 60).unwrap()
}

/// Sends the slow read the fast way: its shape is known, and the session has its pool.
pub(super) fn begin_slow(stage: &Stage, wire: &mut Wire) -> i64 {
    let [key, ..] = one_each();
    for _ in 0..3 {
        assert_eq!(one(wire, &slow(missing(key))), "0");
    }
    let before = fast(stage);
    wire.send(&message::query(&slow(key)));
    let running = format!("SELECT count(*) {}", backends());
    assert!(poll_until(LIMIT, || stage.shards.sql(owner(key), &running) == "1"));
    assert_eq!(fast(stage), before + 1);
    key
}

#[test]
fn a_request_under_way_is_cancelled() {
    let stage = stage();
    let mut wire = stage.wire();
    let key = begin_slow(&stage, &mut wire);
    wire.cancel();
    let answer = lines(&wire.until_ready());
    let [_, error, ready] = answer.as_slice() else {
        panic!("{answer:?}")
    };
    assert!(error.starts_with("Error 57014"), "{answer:?}");
    assert_eq!(ready, "ReadyForQuery I");
    let row = one(&mut wire, &format!("SELECT v FROM items WHERE id = {key}"));
    assert_eq!(row, (key * 2).to_string());
}

#[test]
fn a_server_that_is_lost_again_and_again_is_told_and_the_next_request_gets_another() {
    let stage = stage();
    let mut wire = stage.wire();
    let key = begin_slow(&stage, &mut wire);
    let end = format!(
        "SELECT count(pg_terminate_backend(pid, 60000)) {}",
        backends()
    );
    let (answer, ended) = std::thread::scope(|scope| {
        let asked = scope.spawn(|| lines(&wire.until_ready()));
        let mut ended = 0;
        let told = poll_until(LIMIT, || {
            let count: u32 = stage.shards.sql(owner(key), &end).parse().unwrap();
            ended += count;
            asked.is_finished()
        });
        assert!(told, "{ended} backends were ended");
        (asked.join().unwrap(), ended)
    });
    // The read is sent once more, and a third time if the second connection was young.
    assert!((2..=3).contains(&ended), "{ended} backends were ended");
    assert!(answer[1].starts_with("Error 57P01"), "{answer:?}");
    assert_eq!(answer[2..], ["ReadyForQuery I"]);
    let row = one(&mut wire, &format!("SELECT v FROM items WHERE id = {key}"));
    assert_eq!(row, (key * 2).to_string());
}

#[test]
fn the_connection_of_a_client_that_leaves_reaches_nobody() {
    let stage = stage();
    let mut wire = stage.wire();
    let key = begin_slow(&stage, &mut wire);
    wire.reset();
    let mut other = stage.wire();
    let row = one(&mut other, &format!("SELECT v FROM items WHERE id = {key}"));
    assert_eq!(row, (key * 2).to_string());
    // What the server still did for it is cancelled.
    let running = format!("SELECT count(*) {}", backends());
    assert!(poll_until(LIMIT, || stage.shards.sql(owner(key), &running) == "0"));
}

#[test]
fn an_answer_of_many_rows_reaches_a_slow_reader_whole() {
    const ROWS: usize = 200_000;
    let stage = stage();
    let mut wire = stage.wire();
    let [key, ..] = one_each();
    let sql = |key: i64| {
        format!(
            "SELECT g, repeat('x', 100) FROM items, generate_series(1, {ROWS}) g WHERE id = {key}"
        )
    };
    for _ in 0..3 {
        assert!(wire.rows(&sql(missing(key))).is_empty());
    }
    let before = fast(&stage);
    wire.send(&message::query(&sql(key)));
    // It does not read, and another one is served meanwhile by another shard.
    let mut other = stage.wire();
    let far = keys_of((owner(key) + 1) % 3, 1)[0];
    one(&mut other, &format!("SELECT v FROM items WHERE id = {far}"));
    let mut next = 1;
    loop {
        let frame = wire.frame();
        match frame.kind {
            b'D' => {
                assert_eq!(frame.row_text()[0], next.to_string());
                next += 1;
            }
            b'Z' => break,
            _ => {}
        }
    }
    assert_eq!(next, ROWS + 1);
    assert!(fast(&stage) > before);
}
