//! What would mean something else in MongoDB is refused, and what cannot be done does nothing.

use super::stage::Documents;
use crate::shards::stage::{extended, one, say, send};
use mongodb::bson::{Bson, doc};

const READS: &str = "SELECT kind FROM events WHERE id = 1";

#[test]
fn settings_that_change_what_statements_mean_are_refused() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    say(
        &mut wire,
        "INSERT INTO events (id, kind) VALUES (1, 'Ärger')",
    );
    for (name, value) in [
        ("client_encoding", "latin1"),
        ("client_encoding", "WIN1252"),
        ("transform_null_equals", "on"),
        ("array_nulls", "off"),
        ("default_transaction_isolation", "serializable"),
    ] {
        say(&mut wire, &format!("SET {name} = '{value}'"));
        for sql in [
            READS,
            "SELECT upper(kind) FROM events WHERE id = 1",
            "INSERT INTO events (id) VALUES (2)",
            "UPDATE events SET kind = lower(kind)",
        ] {
            for answer in [
                say(&mut wire, sql),
                send(&mut wire, &extended(sql, &[], &[])),
            ] {
                let said = answer.iter().any(|line| line.starts_with("Error 0A000"));
                assert!(said, "{name} = {value}: {sql}: {answer:?}");
            }
        }
        assert_eq!(one(&mut wire, "SELECT 1"), "1");
        say(&mut wire, &format!("RESET {name}"));
        assert_eq!(one(&mut wire, READS), "Ärger", "{name} = {value}");
    }
    say(&mut wire, "SET client_encoding = 'SQL_ASCII'");
    assert_eq!(one(&mut wire, READS), "Ärger");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM events"), "1");
}

#[test]
fn a_transaction_that_is_refused_can_be_ended() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    say(&mut wire, "INSERT INTO events (id, kind) VALUES (1, 'a')");
    for (begin, code) in [
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", Some("0A000")),
        (
            "START TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE, DEFERRABLE",
            Some("0A000"),
        ),
        ("BEGIN DEFERRABLE", None),
        (
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY NOT DEFERRABLE",
            None,
        ),
        (
            "BEGIN; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            Some("0A000"),
        ),
        ("BEGIN; SET TRANSACTION NOT DEFERRABLE", None),
    ] {
        for end in ["ROLLBACK", "COMMIT"] {
            for part in begin.split("; ") {
                say(&mut wire, part);
            }
            let answer = say(&mut wire, READS);
            match code {
                None => assert_eq!(answer[1], "DataRow a", "{begin}"),
                Some(code) => {
                    let expected = format!("Error {code}");
                    assert!(answer[0].starts_with(&expected), "{begin}: {answer:?}");
                    let again = say(&mut wire, READS);
                    assert!(again[0].starts_with("Error 25P02"), "{begin}: {again:?}");
                }
            }
            let ended = say(&mut wire, end);
            let tag = if code.is_some() { "ROLLBACK" } else { end };
            let expected = [
                format!("CommandComplete {tag}"),
                "ReadyForQuery I".to_owned(),
            ];
            assert_eq!(ended, expected, "{begin}");
            assert_eq!(one(&mut wire, READS), "a");
        }
    }
}

#[test]
fn what_explain_cannot_do_it_says() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    say(&mut wire, "INSERT INTO events (id, kind) VALUES (1, 'a')");
    for sql in [
        "EXPLAIN ANALYZE UPDATE events SET kind = 'b' WHERE id = 1",
        "EXPLAIN (ANALYZE, COSTS off) DELETE FROM events WHERE id = 1",
        "EXPLAIN (FORMAT JSON) SELECT * FROM events",
        "EXPLAIN (FORMAT yaml) SELECT count(*) FROM events",
    ] {
        let answer = say(&mut wire, sql);
        assert!(answer[0].starts_with("Error 0A000"), "{sql}: {answer:?}");
        assert_eq!(one(&mut wire, READS), "a");
    }
    for sql in [
        "EXPLAIN DELETE FROM events",
        "EXPLAIN ANALYZE SELECT * FROM events",
    ] {
        let answer = say(&mut wire, sql);
        assert!(
            answer[0].starts_with("RowDescription QUERY PLAN"),
            "{sql}: {answer:?}"
        );
        assert_eq!(one(&mut wire, READS), "a");
    }
}

#[test]
fn what_cannot_be_returned_is_not_done() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    let database = &documents.databases[0];
    let stored = [
        doc! { "_id": 1_i64, "kind": "a", "data": { "x": f64::NAN } },
        doc! { "_id": 2_i64, "kind": "b", "words": "none" },
        doc! { "_id": 3_i64, "kind": "c", "of": { "count": "many" } },
        doc! { "_id": 4_i64, "kind": "d", "of": "text" },
        doc! { "_id": 5_i64, "kind": "e", "of": [{ "count": 1 }, 2] },
    ];
    let stored: Vec<Bson> = stored.into_iter().map(Bson::from).collect();
    documents
        .set
        .command(database, doc! { "insert": "events", "documents": &stored });
    let found = || {
        let find = doc! { "find": "events", "sort": { "_id": 1 } };
        let answer = documents.set.command(database, find);
        let cursor = answer.get_document("cursor").unwrap();
        format!("{:?}", cursor.get_array("firstBatch").unwrap())
    };
    for (sql, code) in [
        ("DELETE FROM events WHERE id = 1 RETURNING data", "22P02"),
        (
            "UPDATE events SET kind = 'z' WHERE id = 1 RETURNING data",
            "22P02",
        ),
        (
            "UPDATE events SET kind = 'z' WHERE kind IN ('a', 'b') RETURNING id, words",
            "42804",
        ),
        (
            "DELETE FROM events WHERE kind >= 'a' RETURNING words",
            "42804",
        ),
        (
            "INSERT INTO events (id, kind) VALUES (9, 'i'), (2, 'n') ON CONFLICT (id) DO UPDATE SET kind = 'z' RETURNING words",
            "42804",
        ),
        ("UPDATE events SET count = count + 1 WHERE id = 3", "42804"),
        ("UPDATE events SET count = 1 WHERE id = 4", "22000"),
        ("UPDATE events SET count = count + 1 WHERE id = 4", "22000"),
        ("UPDATE events SET count = count + 1 WHERE id = 5", "22000"),
        (
            "INSERT INTO events (id, kind) VALUES (4, 'n') ON CONFLICT (id) DO UPDATE SET count = events.count + 1",
            "22000",
        ),
        (
            "INSERT INTO events (id, kind) VALUES (6, repeat('x', 17000000))",
            "54000",
        ),
        (
            "UPDATE events SET kind = repeat('x', 17000000) WHERE id = 1",
            "54000",
        ),
    ] {
        for answer in [
            say(&mut wire, sql),
            send(&mut wire, &extended(sql, &[], &[])),
        ] {
            let expected = format!("Error {code}");
            let said = answer.iter().any(|line| line.starts_with(&expected));
            assert!(said, "{sql}: {answer:?}");
            assert_eq!(found(), format!("{stored:?}"), "{sql}");
        }
    }
}
