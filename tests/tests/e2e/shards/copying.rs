//! COPY: rows from the client are divided by their key, rows to the client are one
//! stream.

use super::stage::{Stage, extended, keys_of, lines, one, one_each, say, send, within};
use futures_util::{SinkExt, StreamExt};
use mothership_tests::message::{self, Format};
use mothership_tests::{Shards, Wire};
use std::pin::pin;
use tokio_postgres::binary_copy::{BinaryCopyInWriter, BinaryCopyOutStream};
use tokio_postgres::types::Type;

/// COPY FROM STDIN with these pieces; what is answered from CopyInResponse on.
pub fn copy_in(wire: &mut Wire, sql: &str, pieces: &[&[u8]]) -> Vec<String> {
    wire.send(&message::query(sql));
    let first = wire.frame();
    if first.kind != b'G' {
        let mut frames = vec![first];
        frames.extend(wire.until_ready());
        return lines(&frames);
    }
    for piece in pieces {
        wire.send(&message::copy_data(piece));
    }
    wire.send(&message::copy_done());
    lines(&wire.until_ready())
}

/// What COPY TO STDOUT sends, as one text.
fn copy_out(wire: &mut Wire, sql: &str) -> String {
    let frames = wire.query(sql);
    assert_eq!(frames[0].kind, b'H', "{sql}: {}", frames[0]);
    let data = frames.iter().filter(|frame| frame.kind == b'd');
    String::from_utf8(data.flat_map(|frame| frame.body.clone()).collect()).unwrap()
}

#[test]
fn text_and_csv_are_divided_wherever_the_messages_end() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    let text: String = (1..=40)
        .map(|id| format!("{id}\t{}\tn\\n{id}\n", id * 2))
        .collect();
    let csv: String = (41..=80)
        .map(|id| format!("{},{id},\"n\n{id}\"\r\n", id * 2))
        .collect();
    let csv = format!("v,id,note\r\n{csv}");
    for size in [1000, 7, 1] {
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
        let done = ["CommandComplete COPY 40", "ReadyForQuery I"];
        assert_eq!(copy_in(&mut wire, "COPY items FROM STDIN", &pieces), done);
        let pieces: Vec<&[u8]> = csv.as_bytes().chunks(size).collect();
        let sql = "COPY items (v, id, note) FROM STDIN WITH (FORMAT csv, HEADER)";
        assert_eq!(copy_in(&mut wire, sql, &pieces), done);
        assert_eq!(stage.ids("items"), (1..=80).collect::<Vec<_>>(), "{size}");
        for shard in 0..3 {
            let sql = "SELECT count(*) FROM items WHERE note <> E'n\\n' || id OR v <> id * 2";
            assert_eq!(stage.shards.sql(shard, sql), "0", "{size}");
        }
        say(&mut wire, "TRUNCATE items");
    }
    stage.assert_nothing_prepared();
}

#[tokio::test]
async fn binary_copies_go_in_and_out_through_a_driver() {
    let stage = Stage::new();
    let client = stage.client().await;
    let types = [Type::INT8, Type::INT8, Type::TEXT];
    let sink = within(client.copy_in("COPY items FROM STDIN (FORMAT binary)")).await;
    let mut writer = pin!(BinaryCopyInWriter::new(sink.unwrap(), &types));
    for id in 1..=500_i64 {
        let note = (id % 3 > 0).then(|| format!("n{id}"));
        within(writer.as_mut().write(&[&id, &(id * 2), &note]))
            .await
            .unwrap();
    }
    assert_eq!(within(writer.finish()).await.unwrap(), 500);
    assert_eq!(stage.ids("items"), (1..=500).collect::<Vec<_>>());
    let stream = within(client.copy_out("COPY items TO STDOUT (FORMAT binary)")).await;
    let rows = BinaryCopyOutStream::new(stream.unwrap(), &types);
    let rows: Vec<_> = within(rows.collect::<Vec<_>>()).await;
    let mut ids: Vec<i64> = rows
        .iter()
        .map(|row| row.as_ref().unwrap().get(0))
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=500).collect::<Vec<_>>());
    // In text as well, and in a transaction that is rolled back.
    within(client.batch_execute("BEGIN")).await.unwrap();
    let mut sink = pin!(
        within(client.copy_in("COPY items (id) FROM STDIN"))
            .await
            .unwrap()
    );
    let text: String = (501..=600).map(|id| format!("{id}\n")).collect();
    within(sink.send(bytes::Bytes::from(text))).await.unwrap();
    assert_eq!(within(sink.finish()).await.unwrap(), 100);
    let count = within(client.query_one("SELECT count(*) FROM items", &[])).await;
    assert_eq!(count.unwrap().get::<_, i64>(0), 600);
    within(client.batch_execute("ROLLBACK")).await.unwrap();
    assert_eq!(stage.ids("items").len(), 500);
    stage.assert_nothing_prepared();
}

#[test]
fn a_copy_that_fails_leaves_nothing_on_any_shard() {
    let stage = Stage::new();
    let [a, b, c] = one_each();
    let mut wire = stage.wire();
    stage.fill([c]);
    let good = format!("{a}\t1\tx\n{b}\t1\tx\n");
    let cases = [
        (format!("{good}{c}\t1\tx\n"), "23505"),
        (format!("{good}1000\tnumber\tx\n"), "22P02"),
        (format!("{good}1000\t1\n"), "22P04"),
        (format!("{good}\\N\t1\tx\n"), "23502"),
    ];
    for (rows, code) in cases {
        let answer = copy_in(&mut wire, "COPY items FROM STDIN", &[rows.as_bytes()]);
        let error = format!("Error {code}");
        assert!(answer[0].starts_with(&error), "{rows}: {answer:?}");
        assert_eq!(answer[1..], ["ReadyForQuery I"], "{rows}");
        assert_eq!(stage.ids("items"), [c], "{rows}");
    }
    // The client itself gives up.
    wire.send_all(&[message::query("COPY items FROM STDIN")]);
    assert_eq!(wire.frame().kind, b'G');
    wire.send_all(&[
        message::copy_data(good.as_bytes()),
        message::copy_fail("no more"),
    ]);
    let answer = lines(&wire.until_ready());
    assert!(answer[0].starts_with("Error 57014"), "{answer:?}");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "1");
    // In a transaction it fails the whole of it.
    wire.query("BEGIN");
    say(&mut wire, &format!("INSERT INTO items (id) VALUES ({a})"));
    let answer = copy_in(&mut wire, "COPY items FROM STDIN", &[b"1000\tnumber\tx\n"]);
    assert_eq!(answer.last().unwrap(), "ReadyForQuery E");
    assert_eq!(say(&mut wire, "COMMIT")[0], "CommandComplete ROLLBACK");
    assert_eq!(stage.ids("items"), [c]);
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}

#[test]
fn an_error_of_copy_is_that_of_the_first_line_and_names_it() {
    let stage = Stage::new();
    let plain = Shards::new(1);
    plain.sql(
        0,
        "CREATE TABLE items (id int8 PRIMARY KEY, v int8, note text)",
    );
    let mut wires = [Wire::login(&plain.endpoint(0)), stage.wire()];
    let row = |id: i64, v: &str, mark: &str| format!("{id}{mark}{v}{mark}n\n");
    // Every line in turn is wrong, and every one behind it.
    for wrong in 1..=6 {
        for (sql, mark, header) in [
            ("COPY items FROM STDIN", "\t", ""),
            (
                "COPY items FROM STDIN (FORMAT csv, HEADER)",
                ",",
                "id,v,note\n",
            ),
        ] {
            let value = |id| if id < wrong { "1" } else { "x" };
            let rows: String = (1..=6).map(|id| row(id, value(id), mark)).collect();
            let told = wires.each_mut().map(|wire| {
                wire.send(&message::query(sql));
                assert_eq!(wire.frame().kind, b'G');
                wire.send(&message::copy_data(format!("{header}{rows}").as_bytes()));
                wire.send(&message::copy_done());
                let error = wire.until_ready().remove(0);
                (error.sqlstate(), error.field('M'), error.field('W'))
            });
            assert_eq!(told[1], told[0], "{sql}: {rows}");
        }
    }
    // Every shard refuses it before any row.
    for wire in &mut wires {
        say(wire, "SET default_transaction_read_only = on");
    }
    let told = wires
        .each_mut()
        .map(|wire| say(wire, "COPY items FROM STDIN"));
    assert_eq!(told[1], told[0]);
    assert!(told[1][0].starts_with("Error 25006"), "{told:?}");
    for wire in &mut wires {
        say(wire, "SET default_transaction_read_only = off");
    }
    // A line that is too short before one that is wrong, and a key that is there already.
    for rows in [
        "1\t1\tn\n2\n3\tx\tn\n",
        "1\t1\tn\n2\t2\tn\n2\t3\tn\n3\t1\tn\n",
    ] {
        let told = wires.each_mut().map(|wire| {
            wire.send(&message::query("COPY items FROM STDIN"));
            assert_eq!(wire.frame().kind, b'G');
            wire.send(&message::copy_data(rows.as_bytes()));
            wire.send(&message::copy_done());
            let error = wire.until_ready().remove(0);
            (error.sqlstate(), error.field('M'), error.field('W'))
        });
        assert_eq!(told[1], told[0], "{rows}");
    }
}

#[test]
fn copy_out_is_one_stream_of_all_shards() {
    let stage = Stage::new();
    stage.fill(1..=30);
    let mut wire = stage.wire();
    let mut rows: Vec<String> = copy_out(&mut wire, "COPY items TO STDOUT")
        .lines()
        .map(str::to_owned)
        .collect();
    rows.sort();
    let mut wanted: Vec<String> = (1..=30)
        .map(|id| format!("{id}\t{}\tn{id}", id * 2))
        .collect();
    wanted.sort();
    assert_eq!(rows, wanted);
    let csv = copy_out(
        &mut wire,
        "COPY items (id) TO STDOUT WITH (FORMAT csv, HEADER)",
    );
    assert!(csv.starts_with("id\n"), "{csv}");
    assert_eq!(csv.lines().filter(|line| *line == "id").count(), 1);
    assert_eq!(csv.lines().count(), 31);
    let key = keys_of(2, 1)[0];
    let sql = format!("COPY (SELECT v FROM items WHERE id = {key}) TO STDOUT");
    assert_eq!(copy_out(&mut wire, &sql), format!("{}\n", key * 2));
    let answer = send(
        &mut wire,
        &[
            message::parse("", "COPY items TO STDOUT", &[]),
            message::bind("", "", Format::Text, &[], Format::Text),
            message::execute("", 0),
            message::sync(),
        ],
    );
    assert_eq!(
        answer.iter().filter(|l| l.starts_with("CopyData")).count(),
        30
    );
    assert_eq!(
        answer[answer.len() - 2..],
        ["CommandComplete COPY 30", "ReadyForQuery I"]
    );
}

#[test]
fn a_copy_into_a_reference_table_is_the_same_on_every_shard() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    let answer = copy_in(&mut wire, "COPY kinds FROM STDIN", &[b"1\ta\n2", b"\tb\n"]);
    assert_eq!(answer, ["CommandComplete COPY 2", "ReadyForQuery I"]);
    assert_eq!(stage.copies("kinds"), ["1|a", "2|b"]);
    let answer = copy_in(&mut wire, "COPY kinds FROM STDIN", &[b"3\tc\n2\tb\n"]);
    assert!(answer[0].starts_with("Error 23505"), "{answer:?}");
    assert_eq!(stage.copies("kinds"), ["1|a", "2|b"]);
    stage.assert_nothing_prepared();
    assert_eq!(
        copy_in(&mut wire, "COPY notes FROM STDIN", &[b"1\ta\n"]),
        ["CommandComplete COPY 1", "ReadyForQuery I"]
    );
    assert_eq!(one(&mut wire, "SELECT body FROM notes"), "a");
}

#[test]
fn data_may_follow_a_copy_at_once() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    // To the home shard, to one shard for all rows, to several; what comes next is no data any longer.
    for (table, rows) in [
        ("notes", "1\ta\n"),
        ("kinds", "1\ta\n"),
        ("items (id)", "1\n2\n3\n"),
    ] {
        let mut pipeline = |rows: &str| {
            let copy = extended(&format!("COPY {table} FROM STDIN"), &[], &[]);
            let data = [message::copy_data(rows.as_bytes()), message::copy_done()];
            let next = extended("SELECT 7", &[], &[]);
            let all = [&copy[..3], &data, &next].concat();
            send(&mut wire, &all)
        };
        let told = pipeline(rows);
        let next = [
            "ParseComplete",
            "BindComplete",
            "DataRow 7",
            "CommandComplete SELECT 1",
        ];
        let copied = format!("CommandComplete COPY {}", rows.lines().count());
        let begun = ["ParseComplete", "BindComplete", "CopyInResponse", &copied];
        let expected = [&begun[..], &next, &["ReadyForQuery I"]].concat();
        assert_eq!(told, expected, "{table}");
        let told = pipeline(rows);
        assert!(told[3].starts_with("Error 23505"), "{table}: {told:?}");
        assert_eq!(told[4..], ["ReadyForQuery I"], "{table}");
    }
}
