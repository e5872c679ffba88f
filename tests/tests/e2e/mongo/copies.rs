//! COPY FROM STDIN into documents stores and answers what it does in PostgreSQL.

use super::stage::Documents;
use crate::shards::stage::{LIMIT, extended, lines, one, say};
use mongodb::bson::{Document, doc};
use mothership_tests::message;
use mothership_tests::mongo::ReplicaSet;
use mothership_tests::{Frame, Wire, poll_until};
use std::sync::Arc;

/// COPY FROM STDIN with these pieces; what is answered from CopyInResponse on, and CopyInResponse itself.
fn copied(wire: &mut Wire, sql: &str, pieces: &[&[u8]]) -> Vec<Frame> {
    wire.send(&message::query(sql));
    let first = wire.frame();
    let goes_on = first.kind == b'G';
    let mut frames = vec![first];
    if goes_on {
        for piece in pieces {
            wire.send(&message::copy_data(piece));
        }
        wire.send(&message::copy_done());
    }
    frames.extend(wire.until_ready());
    frames
}

fn copy_in(wire: &mut Wire, sql: &str, rows: &str) -> Vec<String> {
    let frames = copied(wire, sql, &[rows.as_bytes()]);
    lines(&frames)
}

/// An answer with all that an error says of its cause and its place.
fn told(frames: &[Frame]) -> Vec<String> {
    let told = frames
        .iter()
        .filter(|frame| frame.kind != b'S')
        .map(|frame| {
            let fields = || {
                let fields = ['D', 'W', 's', 't', 'c', 'n'];
                fields.map(|code| frame.field(code).unwrap_or_default())
            };
            match frame.kind {
                b'E' => format!("{frame} | {}", fields().join(" | ")),
                b'G' => format!("{frame} {:?}", frame.body),
                _ => frame.to_string(),
            }
        });
    told.map(|line| line.replace("twin", "events")).collect()
}

/// COPYs into `{t}`, each with its rows.
const COPIES: [(&str, &str); 46] = [
    ("COPY {t} (id) FROM STDIN", "1\n2\n3\n"),
    ("COPY {t} (id, kind) FROM STDIN", ""),
    (
        "COPY {t} FROM STDIN",
        "10\tä\\tb\\\\\\n\t5.00\t1\t\\N\t0.5\tt\t2020-01-02 03:04:05.678+00\t2020-01-02\t\
         00000000-0000-4000-8000-000000000001\t{\"b\": 1, \"aa\": [1, 2.50, null]}\t{a,NULL,\"c d\"}\t\\\\x00ff\teins\n\
         11\t\t\\N\t\\N\t\\N\tNaN\tf\t\\N\t\\N\t\\N\t\\N\t{}\t\\N\t\n",
    ),
    (
        "COPY {t} (kind, id) FROM STDIN CSV",
        "\"a,\"\"b\nc\",20\r\nplain,21\r\n",
    ),
    ("COPY {t} (kind, id) FROM STDIN CSV", "\"\",22\n"),
    ("COPY {t} (kind, id) FROM STDIN CSV", ",23\n"),
    (
        "COPY {t} (id, name) FROM STDIN (FORMAT csv, HEADER, DELIMITER ';', NULL 'nil', QUOTE '''')",
        "id;name\n24;nil\n25;'nil'\n26;'x;''y'\n",
    ),
    (
        "COPY {t} (id, name) FROM STDIN (FORMAT csv, FORCE_NULL (name))",
        "27,\"\"\n28,x\n",
    ),
    (
        "COPY {t} (id, name) FROM STDIN (FORMAT csv, FORCE_NOT_NULL (name))",
        "29,\n30,x\n",
    ),
    (
        "COPY {t} (id, name) FROM STDIN (HEADER match)",
        "id\tname\n31\tn\n",
    ),
    (
        "COPY {t} (id, name) FROM STDIN (HEADER match)",
        "id\tnames\n32\tn\n",
    ),
    (
        "COPY {t} (id, name) FROM STDIN (HEADER match)",
        "id\n32\tn\n",
    ),
    (
        "COPY {t} (id, name) FROM STDIN (FORMAT csv, HEADER match)",
        "id,\n32,n\n",
    ),
    (
        "COPY {t} (id, name) FROM STDIN DELIMITER '|' NULL ''",
        "33|\n34|x\\|y\n",
    ),
    ("COPY {t} (id) FROM STDIN", "35\n\\.\n"),
    ("COPY {t} (id) FROM STDIN", "36\r\n37\r\n"),
    (
        "COPY public.{t} (\"id\", kind) FROM STDIN WITH (FORMAT text)",
        "38\t\\x41\\101\n",
    ),
    (
        "COPY {t} (id, at, day, amount) FROM STDIN",
        "39\t2020-06-01 12:00:00\t2020-02-29\t1e3\n",
    ),
    // What is wrong with a value, and where.
    ("COPY {t} (id) FROM STDIN", "40\nforty\n"),
    (
        "COPY {t} (id, count) FROM STDIN",
        "40\t1\n41\t99999999999\n",
    ),
    ("COPY {t} (id, small) FROM STDIN CSV", "40,\"x\ny\"\n"),
    ("COPY {t} (id, amount) FROM STDIN", "40\tmuch\n"),
    ("COPY {t} (id, is_on) FROM STDIN", "40\tmaybe\n"),
    ("COPY {t} (id, at) FROM STDIN", "40\t2020-13-01\n"),
    ("COPY {t} (id, day) FROM STDIN", "40\tsoon\n"),
    ("COPY {t} (id, tag) FROM STDIN", "40\t123\n"),
    ("COPY {t} (id, raw) FROM STDIN", "40\t\\\\xfg\n"),
    ("COPY {t} (id, words) FROM STDIN", "40\t{a\n"),
    (
        "COPY {t} (id, name) FROM STDIN",
        "40\tmuch too long a name\n",
    ),
    ("COPY {t} (id, name) FROM STDIN", "40\tten chars.   \n"),
    ("COPY {t} (id, count) FROM STDIN", "41\t\n"),
    // Rows that do not fit.
    ("COPY {t} (id, name) FROM STDIN", "42\n"),
    ("COPY {t} (id, name) FROM STDIN", "42\ta\tb\n"),
    ("COPY {t} (id, name) FROM STDIN CSV", "42,\"a\n"),
    ("COPY {t} (id, name) FROM STDIN", "42\ta\n43\tb\r\n"),
    // NULL and keys.
    ("COPY {t} (id, kind) FROM STDIN", "44\ta\n45\t\\N\n"),
    ("COPY {t} (id) FROM STDIN", "44\n\\N\n"),
    ("COPY {t} (kind) FROM STDIN", "without an id\n"),
    ("COPY {t} (id) FROM STDIN", "44\n45\n44\n"),
    (
        "COPY {t} (id, kind) FROM STDIN",
        "46\tx\n1\tthere already\n47\tx\n",
    ),
    (
        "COPY {t} (id, kind) FROM STDIN",
        "48\tx\n1\tthere already\nforty\tx\n",
    ),
    // Statements that are none.
    ("COPY {t} (id, nothing) FROM STDIN", ""),
    ("COPY {t} (id, id) FROM STDIN", ""),
    (
        "COPY {t} (id, name) FROM STDIN (FORMAT csv, FORCE_NULL (nothing))",
        "",
    ),
    (
        "COPY {t} (id, name) FROM STDIN (FORMAT csv, FORCE_NULL (kind))",
        "",
    ),
    (
        "COPY {t} (id, name) FROM STDIN",
        "50\taaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaä\n",
    ),
];

fn contents(wire: &mut Wire, table: &str) -> Vec<String> {
    say(wire, &format!("SELECT * FROM {table} ORDER BY id"))
}

#[test]
fn copies_store_and_answer_what_they_do_in_postgresql() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    say(&mut wire, "SET TimeZone = 'America/New_York'");
    let mut wrong = Vec::new();
    for size in [usize::MAX, 7, 1] {
        for (sql, rows) in COPIES {
            let [events, twin] = ["events", "twin"].map(|table| {
                let pieces: Vec<&[u8]> = rows.as_bytes().chunks(size).collect();
                told(&copied(&mut wire, &sql.replace("{t}", table), &pieces))
            });
            if events != twin {
                wrong.push(format!("{sql} {rows:?}\n  {events:?}\n  {twin:?}"));
            }
            let [events, twin] = ["events", "twin"].map(|table| contents(&mut wire, table));
            assert_eq!(events, twin, "after {sql} {rows:?}");
        }
        assert_ne!(one(&mut wire, "SELECT count(*) FROM events"), "0");
        for table in ["events", "twin"] {
            say(&mut wire, &format!("DELETE FROM {table}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn binary_rows_are_those_of_a_copy_to() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    let (sql, rows) = COPIES[2];
    for table in ["events", "twin"] {
        copy_in(&mut wire, &sql.replace("{t}", table), rows);
    }
    let frames = wire.query("COPY (SELECT * FROM twin ORDER BY id) TO STDOUT (FORMAT binary)");
    let data: Vec<u8> = frames
        .iter()
        .filter(|frame| frame.kind == b'd')
        .flat_map(|frame| frame.body.clone())
        .collect();
    for size in [usize::MAX, 5] {
        // One that ends early, or has a field too few, is refused as by PostgreSQL.
        let mut cut = data.clone();
        cut.truncate(data.len() - 9);
        let mut other = data.clone();
        other[19..21].copy_from_slice(&13_i16.to_be_bytes());
        for (stream, stores) in [(&data, true), (&cut, false), (&other, false)] {
            for table in ["events", "twin"] {
                say(&mut wire, &format!("DELETE FROM {table}"));
            }
            let [events, twin] = ["events", "twin"].map(|table| {
                let pieces: Vec<&[u8]> = stream.chunks(size).collect();
                let sql = format!("COPY {table} FROM STDIN (FORMAT binary)");
                lines(&copied(&mut wire, &sql, &pieces))
            });
            assert_eq!(events, twin);
            assert_eq!(events[1] == "CommandComplete COPY 2", stores, "{events:?}");
            let [events, twin] = ["events", "twin"].map(|table| contents(&mut wire, table));
            assert_eq!(events, twin);
        }
    }
}

#[test]
fn a_copy_of_many_batches_is_all_or_nothing() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    let rows = |range: std::ops::RangeInclusive<u32>| -> String {
        range.map(|id| format!("{id}\tkind {id}\n")).collect()
    };
    let sql = "COPY {t} (id, kind) FROM STDIN";
    let many = rows(1..=10_000);
    // The key of a row far behind is that of the first, and a value is wrong still farther behind.
    let twice = format!("{many}7\tagain\n{}x\ty\n", rows(10_001..=12_000));
    for (rows, answer) in [
        (&twice, "Error 23505"),
        (&many, "CommandComplete COPY 10000"),
    ] {
        let [events, twin] = ["events", "twin"].map(|table| {
            let pieces: Vec<&[u8]> = rows.as_bytes().chunks(8192).collect();
            told(&copied(&mut wire, &sql.replace("{t}", table), &pieces))
        });
        assert_eq!(events, twin);
        assert!(events[1].starts_with(answer), "{events:?}");
        let counts = ["events", "twin"]
            .map(|table| one(&mut wire, &format!("SELECT count(*) FROM {table}")));
        assert_eq!(counts[0], counts[1]);
    }
    assert_eq!(one(&mut wire, "SELECT sum(id) FROM events"), "50005000");
    // The client gives up in the middle.
    wire.send(&message::query("COPY events (id, kind) FROM STDIN"));
    assert_eq!(wire.frame().kind, b'G');
    let more = rows(20_001..=25_000);
    wire.send_all(&[
        message::copy_data(more.as_bytes()),
        message::copy_fail("enough"),
    ]);
    assert_eq!(
        lines(&wire.until_ready()),
        [
            "Error 57014 COPY from stdin failed: enough",
            "ReadyForQuery I"
        ]
    );
    // Or is gone.
    let mut gone = documents.stage.wire();
    gone.send(&message::query("COPY events (id, kind) FROM STDIN"));
    assert_eq!(gone.frame().kind, b'G');
    gone.send(&message::copy_data(more.as_bytes()));
    gone.reset();
    // Its documents are nobody's again.
    let insert = "INSERT INTO events (id) VALUES (20001)";
    let is_over = poll_until(LIMIT, || say(&mut wire, insert)[0].ends_with("INSERT 0 1"));
    assert!(is_over, "a transaction stays open");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM events"), "10001");
}

#[test]
fn a_copy_belongs_to_the_transaction_that_it_is_in() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    let sql = "COPY events (id) FROM STDIN";
    let done = |wire: &mut Wire, end: &str, count: &str| {
        assert_eq!(say(wire, end)[0], format!("CommandComplete {end}"));
        assert_eq!(one(wire, "SELECT count(*) FROM events"), count);
    };
    for (end, count) in [("ROLLBACK", "0"), ("COMMIT", "3")] {
        say(&mut wire, "BEGIN");
        say(&mut wire, "INSERT INTO events (id) VALUES (1)");
        let answer = copy_in(&mut wire, sql, "2\n3\n");
        assert_eq!(
            answer[1..],
            ["CommandComplete COPY 2", "ReadyForQuery T"],
            "{answer:?}"
        );
        assert_eq!(one(&mut wire, "SELECT count(*) FROM events"), "3");
        done(&mut wire, end, count);
    }
    // With a table of PostgreSQL it is on both or on none.
    for (end, count, items) in [("ROLLBACK", "3", "0"), ("COMMIT", "4", "2")] {
        say(&mut wire, "BEGIN");
        copy_in(&mut wire, "COPY items (id) FROM STDIN", "1\n2\n");
        copy_in(&mut wire, sql, "4\n");
        done(&mut wire, end, count);
        assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), items);
    }
    // An error in it fails the whole.
    say(&mut wire, "BEGIN");
    say(&mut wire, "INSERT INTO events (id) VALUES (5)");
    let answer = copy_in(&mut wire, sql, "6\n1\n");
    assert!(answer[1].starts_with("Error 23505"), "{answer:?}");
    assert_eq!(answer[2], "ReadyForQuery E");
    assert_eq!(say(&mut wire, "COMMIT")[0], "CommandComplete ROLLBACK");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM events"), "4");
    say(&mut wire, "BEGIN READ ONLY");
    assert_eq!(
        copy_in(&mut wire, sql, "7\n")[0],
        "Error 25006 cannot execute COPY FROM in a read-only transaction"
    );
    say(&mut wire, "ROLLBACK");
    documents.stage.assert_nothing_prepared();
}

#[test]
fn a_copy_of_the_extended_protocol_does_the_same() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    for (rows, answer) in [
        ("1\n2\n", "CommandComplete COPY 2"),
        ("3\n1\n", "Error 23505"),
        ("4\nx\n", "Error 22P02"),
        ("5\n", "CommandComplete COPY 1"),
    ] {
        let [events, twin] = ["events", "twin"].map(|table| {
            let sql = format!("COPY {table} (id) FROM STDIN");
            wire.send_all(&extended(&sql, &[], &[]));
            let mut frames = Vec::new();
            while frames.last().is_none_or(|last: &Frame| last.kind != b'G') {
                frames.push(wire.frame());
            }
            wire.send_all(&[
                message::copy_data(rows.as_bytes()),
                message::copy_done(),
                message::sync(),
            ]);
            frames.extend(wire.until_ready());
            told(&frames)
        });
        assert_eq!(events, twin, "{rows:?}");
        let said = |line: &String| line.starts_with(answer);
        assert!(events.iter().any(said), "{events:?}");
    }
    assert_eq!(one(&mut wire, "SELECT count(*) FROM events"), "3");
}

#[test]
fn what_is_not_certain_of_a_copy_is_refused() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    for (sql, rows) in [
        ("COPY events (id) FROM STDIN WHERE id > 1", "1\n2\n"),
        ("COPY events (id) FROM STDIN (FREEZE)", "1\n"),
        ("COPY events (id) FROM STDIN (ENCODING 'latin1')", "1\n"),
        ("COPY events (id) FROM STDIN (QUOTE '!')", "1\n"),
        ("COPY events (id) FROM STDIN (FORMAT binary, HEADER)", ""),
        ("COPY events (id, kind) FROM STDIN CSV", "1,a\n\\.\n2,b\n"),
        ("COPY events (id, kind) FROM STDIN", "1\ta\n2\tb\\.\n"),
        ("COPY events FROM '/dev/null'", ""),
    ] {
        let answer = copy_in(&mut wire, sql, rows);
        let refused = |line: &String| {
            line.starts_with("Error 0A000") || line.starts_with("Error 22P04 end-of-copy")
        };
        assert!(answer.iter().any(refused), "{sql}: {answer:?}");
        assert_eq!(one(&mut wire, "SELECT count(*) FROM events"), "0", "{sql}");
    }
    say(&mut wire, "SET client_encoding = 'LATIN1'");
    let answer = copied(
        &mut wire,
        "COPY events (id, kind) FROM STDIN",
        &[b"1\t\xe4\n"],
    );
    assert!(lines(&answer)[0].starts_with("Error 0A000"), "{answer:?}");
    let Some(documents) = Documents::over(3) else {
        return;
    };
    let mut wire = documents.stage.wire();
    assert_eq!(
        copy_in(&mut wire, "COPY events (id) FROM STDIN", "1\n"),
        [
            "Error 0A000 a write to documents on several replica sets is not supported",
            "ReadyForQuery I"
        ]
    );
    assert_eq!(one(&mut wire, "SELECT count(*) FROM events"), "0");
}

#[test]
fn a_copy_that_takes_longer_than_mongodb_lets_it_leaves_nothing() {
    let set = ReplicaSet::start("slowly", 1).map(Arc::new);
    let Some(documents) = Documents::on(set, 1, "") else {
        return;
    };
    let set = &documents.set;
    set.command(
        "admin",
        doc! { "setParameter": 1, "transactionLifetimeLimitSeconds": 1 },
    );
    let aborted = || {
        let status = set.command("admin", doc! { "serverStatus": 1 });
        let transactions = status.get_document("transactions").unwrap();
        transactions
            .get("totalAborted")
            .and_then(|count| count.as_i64())
    };
    let mut wire = documents.stage.wire();
    let rows: String = (1..=2_000).map(|id| format!("{id}\n")).collect();
    wire.send(&message::query("COPY events (id) FROM STDIN"));
    assert_eq!(wire.frame().kind, b'G');
    let before = aborted();
    wire.send(&message::copy_data(rows.as_bytes()));
    assert!(poll_until(LIMIT, || aborted() > before), "it goes on");
    wire.send_all(&[message::copy_data(b"3000\n"), message::copy_done()]);
    let answer = wire.until_ready();
    assert_eq!(
        lines(&answer),
        [
            "Error 54000 MongoDB has ended the transaction of this COPY",
            "ReadyForQuery I"
        ]
    );
    let stored = set.find(&documents.databases[0], "events", Document::new());
    assert_eq!(stored.len(), 0);
    // The session has a limit as well.
    say(&mut wire, "SET statement_timeout = '300ms'");
    wire.send(&message::query("COPY events (id) FROM STDIN"));
    assert_eq!(wire.frame().kind, b'G');
    wire.send(&message::copy_data(rows.as_bytes()));
    assert_eq!(
        lines(&wire.until_ready())[0],
        "Error 57014 canceling statement due to statement timeout"
    );
    wire.send(&message::copy_done());
    assert_eq!(one(&mut wire, "SELECT count(*) FROM events"), "0");
}
