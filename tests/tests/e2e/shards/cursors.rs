//! Cursors over several shards: their rows are gathered at DECLARE, and stay on one server.

use super::gathered::{STATEMENTS, compare};
use super::stage::{DEFINITIONS, Stage, extended, one, one_each, say, send};
use mothership_tests::{Frame, Shards, Wire, message};
use std::time::Duration;

/// What is done with a cursor of ten rows or so.
const MOVES: &[&str] = &[
    "FETCH c",
    "FETCH 2 FROM c",
    "FETCH FORWARD 3 IN c",
    "MOVE 1 IN c",
    "FETCH PRIOR FROM c",
    "FETCH BACKWARD 2 FROM c",
    "FETCH ABSOLUTE 4 FROM c",
    "FETCH RELATIVE -2 FROM c",
    "FETCH RELATIVE 0 FROM c",
    "FETCH LAST FROM c",
    "FETCH NEXT FROM c",
    "MOVE BACKWARD ALL IN c",
    "FETCH FIRST FROM c",
    "FETCH 0 FROM c",
    "FETCH ALL FROM c",
    "FETCH BACKWARD ALL FROM c",
    "SELECT count(*) FROM pg_cursors WHERE name = 'c' AND is_scrollable",
];

#[test]
fn every_row_of_a_cursor_is_that_of_its_query() {
    compare(STATEMENTS, |wire, sql| {
        let mut said = say(wire, "BEGIN");
        said.extend(say(wire, &format!("DECLARE c CURSOR FOR {sql}")));
        for text in ["FETCH 3 FROM c", "FETCH ALL FROM c", "CLOSE c", "COMMIT"] {
            said.extend(say(wire, text));
        }
        at_open(said)
    });
}

#[test]
fn in_the_extended_protocol_too() {
    compare(STATEMENTS, |wire, sql| {
        let ask = |sql: &str| extended(sql, &[], &[]);
        let mut said = say(wire, "BEGIN");
        said.extend(send(wire, &ask(&format!("DECLARE c CURSOR FOR {sql}"))));
        for text in ["FETCH 3 FROM c", "FETCH ALL FROM c"] {
            said.extend(send(wire, &ask(text)));
        }
        said.extend(say(wire, "COMMIT"));
        at_open(said)
    });
}

/// As drivers do that read a result in parts: DECLARE, then the columns of the portal that it has made.
#[test]
fn a_cursor_can_be_described_as_a_portal() {
    let queries = [
        "SELECT id, name FROM people WHERE id < 12 ORDER BY id",
        "SELECT id FROM people WHERE id = 3",
        "SELECT kind, count(*) FROM orders GROUP BY kind ORDER BY kind",
    ];
    compare(&queries, |wire, sql| {
        let mut said = say(wire, "BEGIN");
        said.extend(say(wire, &format!("DECLARE c CURSOR FOR {sql}")));
        said.extend(send(
            wire,
            &[message::describe_portal("c"), message::sync()],
        ));
        said.extend(say(wire, "FETCH ALL FROM c"));
        said.extend(send(
            wire,
            &[message::describe_portal("d"), message::sync()],
        ));
        said.extend(say(wire, "ROLLBACK"));
        said
    });
}

/// A row that cannot be computed is found when it is fetched, or where the rows are gathered: then the cursor is not
/// there. Either way nothing but the error and the end of the transaction is left.
fn at_open(mut said: Vec<String>) -> Vec<String> {
    if said.iter().any(|line| line.starts_with("Error")) {
        said.retain(|line| line.starts_with("Error") && !line.starts_with("Error 25P02"));
    }
    said
}

#[test]
fn a_scroll_cursor_goes_wherever_it_is_told() {
    let queries = [
        "SELECT id, name FROM people WHERE id < 12 ORDER BY id",
        "SELECT o.id, o.person, k.label FROM orders o LEFT JOIN kinds k ON k.id = o.kind WHERE o.person < 9 ORDER BY 2, 1",
        "SELECT kind, count(*) FROM orders GROUP BY kind ORDER BY kind",
        "SELECT id FROM people WHERE id < 0",
    ];
    compare(&queries, |wire, sql| {
        let mut said = say(wire, "BEGIN");
        said.extend(say(
            wire,
            &format!("DECLARE c NO SCROLL CURSOR FOR {sql}; FETCH 2 FROM c; CLOSE c"),
        ));
        said.extend(say(wire, &format!("DECLARE c SCROLL CURSOR FOR {sql}")));
        for text in MOVES {
            said.extend(say(wire, text));
        }
        said.extend(say(wire, "COMMIT"));
        said
    });
}

#[test]
fn a_cursor_that_holds_outlives_its_transaction() {
    let declare =
        "DECLARE \"H c\" SCROLL CURSOR WITH HOLD FOR SELECT id, age FROM people ORDER BY id";
    compare(&[declare], |wire, sql| {
        let mut said = Vec::new();
        for text in [
            sql,
            "FETCH 2 FROM \"H c\"",
            "UPDATE people SET age = age + 1",
            "BEGIN",
            "SELECT count(*) FROM people",
            "FETCH LAST FROM \"H c\"",
            "COMMIT",
            "FETCH FIRST FROM \"H c\"",
            "CLOSE \"H c\"",
            "FETCH \"H c\"",
            "BEGIN",
            sql,
            "ROLLBACK",
            "FETCH \"H c\"",
            sql,
            "CLOSE ALL",
            "FETCH \"H c\"",
            "UPDATE people SET age = age - 1",
        ] {
            said.extend(say(wire, text));
        }
        said
    });
}

/// A server is kept for what the session has on it, and for nothing else that keeps another one.
#[test]
fn a_cursor_that_holds_keeps_its_server_until_it_is_closed() {
    let declare = "DECLARE h CURSOR WITH HOLD FOR SELECT id FROM people ORDER BY id";
    let write = "UPDATE people SET age = age + 1";
    for pin in ["LISTEN beside", "SELECT pg_advisory_lock(77)"] {
        let stories: [&[&str]; 6] = [
            &[declare, write, "CLOSE h", write],
            &["BEGIN", declare, "ROLLBACK", write],
            &[
                "BEGIN",
                declare,
                "COMMIT",
                write,
                "FETCH 2 FROM h",
                "CLOSE h",
                write,
            ],
            &[
                "BEGIN",
                declare,
                "SAVEPOINT s",
                "CLOSE h",
                "ROLLBACK TO s",
                "COMMIT",
                write,
            ],
            &[
                declare,
                "BEGIN",
                write,
                "SELECT count(*) FROM orders",
                "COMMIT",
                "CLOSE ALL",
                write,
            ],
            &[declare, "DISCARD ALL", write],
        ];
        let stories = stories.map(|story| story.join("|"));
        let stories: Vec<&str> = stories.iter().map(String::as_str).collect();
        compare(&stories, |wire, story| {
            let mut said = say(wire, pin);
            for sql in story.split('|') {
                said.extend(say(wire, sql));
            }
            said.extend(say(wire, "SELECT sum(age) FROM people"));
            say(wire, "DISCARD ALL");
            said
        });
    }
}

/// A server skips what stands behind an error, a Close as well: the cursor is still its client's.
#[test]
fn a_cursor_whose_close_was_skipped_stays_with_its_client() {
    let stage = Stage::on_one_core();
    stage.fill(1..=9);
    let mut client = stage.wire();
    say(
        &mut client,
        "DECLARE h CURSOR WITH HOLD FOR SELECT id FROM items ORDER BY id",
    );
    client.send_all(&[
        message::parse("", "SELECT 1 / 0", &[]),
        message::bind_text(&[]),
        message::execute("", 0),
        message::close_portal("h"),
        message::sync(),
    ]);
    client.until_ready();
    for _ in 0..3 {
        let other = say(&mut stage.wire(), "FETCH ALL FROM h");
        assert!(other[0].starts_with("Error 34000"), "{other:?}");
    }
    let own = say(&mut client, "FETCH 1 FROM h");
    assert_eq!(own[1], "DataRow 1", "{own:?}");
}

#[test]
fn a_cursor_sees_what_was_there_when_it_was_declared() {
    let stage = Stage::new();
    stage.fill(1..=20);
    let mut wire = stage.wire();
    wire.query("BEGIN");
    let declare = "DECLARE c CURSOR FOR SELECT id FROM items WHERE v > 10 ORDER BY id";
    assert_eq!(
        say(&mut wire, declare),
        ["CommandComplete DECLARE CURSOR", "ReadyForQuery T"]
    );
    wire.query("DELETE FROM items WHERE id > 10");
    assert_eq!(wire.rows("FETCH ALL FROM c").len(), 15);
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "10");
    for id in one_each() {
        say(
            &mut wire,
            &format!("DECLARE c{id} CURSOR FOR SELECT {id} FROM items WHERE id = {id}"),
        );
    }
    assert_eq!(
        say(&mut wire, "CLOSE ALL"),
        ["CommandComplete CLOSE CURSOR ALL", "ReadyForQuery T"]
    );
    let [_, _, last] = one_each();
    let gone = say(&mut wire, &format!("FETCH c{last}"));
    assert!(gone[0].starts_with("Error 34000"), "{gone:?}");
    assert_eq!(say(&mut wire, "ROLLBACK")[0], "CommandComplete ROLLBACK");
    stage.assert_nothing_open();
}

#[test]
fn what_postgresql_says_of_cursors_is_said() {
    let statements = [
        "DECLARE c CURSOR FOR SELECT id FROM people ORDER BY id",
        "DECLARE c CURSOR FOR SELECT id FROM people ORDER BY id; FETCH 2 FROM c; FETCH NEXT FROM c",
        "DECLARE c CURSOR FOR SELECT id FROM people ORDER BY žluť",
        "BEGIN; DECLARE c CURSOR FOR SELECT id FROM people ORDER BY id; DECLARE c CURSOR FOR SELECT age FROM people ORDER BY id",
        "ROLLBACK",
        "BEGIN; DECLARE c NO SCROLL CURSOR FOR SELECT id FROM people ORDER BY id; FETCH 2 FROM c; FETCH PRIOR FROM c",
        "ROLLBACK",
        "FETCH c",
    ];
    compare(&statements, say);
}

#[test]
fn parameters_of_a_cursor_are_bound() {
    let queries = ["SELECT id, age FROM people WHERE age > $1 AND name <> $2 ORDER BY id"];
    compare(&queries, |wire, sql| {
        let mut said = say(wire, "BEGIN");
        let sql = format!("DECLARE c CURSOR FOR {sql}");
        said.extend(send(wire, &extended(&sql, &[23], &["20", "name3"])));
        said.extend(say(wire, "FETCH ALL FROM c"));
        said.extend(say(wire, "COMMIT"));
        said
    });
}

/// COMMIT computes the rows of a cursor WITH HOLD, and fails where that fails: then nothing of the transaction holds.
#[test]
fn a_cursor_that_holds_and_fails_fails_its_transaction() {
    let (stage, plain) = (Stage::new(), Shards::new(1));
    let mut direct = Wire::login(&plain.endpoint(0));
    say(&mut direct, DEFINITIONS[0]);
    let fill = "INSERT INTO items SELECT g, g, 'n' FROM generate_series(1, 60) g";
    for wire in [&mut stage.wire(), &mut direct] {
        say(wire, fill);
    }
    for write in [
        "SELECT 1",
        "UPDATE items SET v = 99 WHERE id = 3",
        "UPDATE items SET v = 99 WHERE id IN (3, 4, 42)",
        "UPDATE items SET v = 99",
    ] {
        for declare in [
            "DECLARE c CURSOR WITH HOLD FOR SELECT id, 1 / (id - 42) FROM items",
            "DECLARE c CURSOR WITH HOLD FOR SELECT id, 1 / (id - 42) FROM items ORDER BY id LIMIT 50",
        ] {
            // The server on which the cursor is, is another one for each client.
            for _ in 0..3 {
                let mut router = stage.wire();
                for sql in [
                    "BEGIN",
                    declare,
                    write,
                    "COMMIT",
                    "SELECT count(*) FROM items WHERE v = 99",
                    "FETCH 1 FROM c",
                ] {
                    let [said, right] = [&mut router, &mut direct].map(|wire| say(wire, sql));
                    // A row may be computed when it is declared: then the transaction has failed by then.
                    let fails = |said: &[String]| said.iter().any(|line| line.starts_with("Error"));
                    match sql {
                        "COMMIT" => {
                            let undone = said[0] == "CommandComplete ROLLBACK" || fails(&said);
                            assert!(undone && fails(&right), "{declare}; {write}: {said:?}");
                        }
                        "BEGIN" => assert_eq!(said, right),
                        sql if sql == declare || sql == write => {}
                        _ => assert_eq!(said, right, "{declare}; {write}; {sql}"),
                    }
                }
            }
        }
    }
    stage.assert_nothing_prepared();
}

/// A DECLARE that has failed has left nothing, whatever it failed by.
#[test]
fn a_cursor_that_holds_and_is_overtaken_is_not_there() {
    let stage = Stage::on_one_core();
    stage.fill(1..=9);
    let mut changes = stage.wire();
    say(&mut changes, "CREATE VIEW seen AS SELECT id, v FROM items");
    for view in [
        "SELECT id, v + 1 AS v FROM items",
        "SELECT id, v FROM items",
    ] {
        say(&mut changes, "BEGIN");
        say(
            &mut changes,
            &format!("CREATE OR REPLACE VIEW seen AS {view}"),
        );
        let mut client = stage.wire();
        client.send(&message::query(
            "DECLARE zz CURSOR WITH HOLD FOR SELECT id, v FROM seen",
        ));
        let early = client.try_frame(Duration::from_millis(50));
        say(&mut changes, "COMMIT");
        let mut frames: Vec<Frame> = early.into_iter().collect();
        frames.extend(client.until_ready());
        let declared = !frames.iter().any(|frame| frame.kind == b'E');
        drop(client);
        if declared {
            continue;
        }
        for _ in 0..6 {
            let mut other = stage.wire();
            let said = say(&mut other, "DECLARE zz CURSOR WITH HOLD FOR SELECT 1");
            assert_eq!(said[0], "CommandComplete DECLARE CURSOR");
            say(&mut other, "CLOSE zz");
            assert_eq!(one(&mut other, "SELECT count(*) FROM pg_cursors"), "0");
        }
    }
}
