//! Writes to documents that MongoDB has no command for: PostgreSQL computes them, and they do what they do there.

use super::alike::{both, filled};
use super::stage::Documents;
use crate::shards::stage::{LIMIT, extended, one, say, send};
use mongodb::bson::doc;
use mothership_tests::message::{self, Format};
use mothership_tests::mongo::ReplicaSet;
use mothership_tests::{Wire, poll_until};
use std::sync::Arc;

/// Writes to `{t}`, one after the other; what each answers, and what is there then, is compared.
const WRITES: [&str; 71] = [
    "UPDATE {t} SET kind = upper(kind), count = small * 2 WHERE id < 5",
    "UPDATE {t} SET is_on = NOT is_on WHERE id IN (1, 2, 3) RETURNING id, is_on",
    "UPDATE {t} SET amount = amount * 1.10 WHERE amount > 0 AND kind NOT IN ('big', 'BIG')",
    "UPDATE {t} SET small = small * 1000 WHERE id = 6",
    "UPDATE {t} SET count = amount WHERE id = 1",
    "UPDATE {t} SET count = 'seven' WHERE length(kind) > 3",
    "UPDATE {t} SET count = kind WHERE length(kind) > 3",
    "UPDATE {t} SET kind = NULLIF(kind, 'a') WHERE id = 10",
    "UPDATE {t} SET kind = lower(NULL) WHERE id = 999",
    "UPDATE {t} SET name = repeat(kind, 11) WHERE id = 1",
    "UPDATE {t} SET name = upper(name) || '   ' WHERE id = 12",
    "UPDATE {t} SET name = DEFAULT, kind = DEFAULT, ratio = sqrt(4) WHERE id = 13",
    "UPDATE {t} SET data = jsonb_set(data, '{aa,0}', '9') WHERE id = 1 RETURNING data",
    "UPDATE {t} SET data = '{\"k\": [1]}'::jsonb || data WHERE id = 5",
    "UPDATE {t} SET words = words || 'new'::text, raw = raw || '\\x01' WHERE words IS NOT NULL",
    "UPDATE {t} SET words = array_remove(words, 'new') WHERE 'new' = ANY (words) RETURNING id, words",
    "UPDATE {t} SET at = at + interval '1 day', day = day - 1 WHERE at IS NOT NULL AND id <> 4 RETURNING id, at, day",
    // Several columns at once, and what stays as it is.
    "UPDATE {t} SET (kind, small) = ('x', 1) WHERE id = 7 RETURNING id, kind, small",
    "UPDATE {t} SET (kind, small) = (upper(kind), small + 1), name = DEFAULT WHERE id < 4 RETURNING id, kind, small",
    "UPDATE {t} SET (kind, nothing) = ('x', 1)",
    "UPDATE {t} SET id = id",
    "UPDATE {t} SET id = id, kind = kind, small = 3 WHERE id < 3 RETURNING *",
    "UPDATE {t} SET id = {t}.id, kind = upper(kind) WHERE id > 3 RETURNING id, kind",
    "UPDATE {t} AS e SET id = (e.id) WHERE length(kind) = 1 RETURNING e.*",
    "UPDATE {t} SET id = {t}.id, count = items.v FROM items WHERE items.id = {t}.id AND items.v < 300",
    "UPDATE {t} SET count = count, name = name, data = data WHERE count IS NULL",
    "UPDATE {t} AS e SET small = k.n FROM (SELECT name, length(title) AS n FROM kinds) AS k WHERE k.name = lower(e.kind)",
    "UPDATE {t} SET count = items.v FROM items WHERE items.id = {t}.id AND items.v > 500",
    "UPDATE {t} SET count = (SELECT max(v) FROM items), small = (SELECT count(*) FROM {t}) WHERE id = 1 RETURNING id, count, small + 1 AS more",
    "UPDATE {t} SET small = 1 WHERE id IN (SELECT id FROM items WHERE v = 100)",
    "UPDATE {t} SET small = 2 WHERE id = (SELECT min(id) FROM {t}) RETURNING *",
    "UPDATE {t} SET small = 3 WHERE false",
    "UPDATE {t} SET small = length(kind) WHERE id = 998 RETURNING small",
    "DELETE FROM {t} USING items WHERE items.id = {t}.id AND items.v = 1200 RETURNING {t}.id, items.v",
    "DELETE FROM {t} WHERE length(kind) = 3 AND id > 100 RETURNING id, upper(kind)",
    "DELETE FROM {t} WHERE id IN (SELECT id FROM items WHERE v > 10000)",
    "DELETE FROM {t} AS e WHERE EXISTS (SELECT 1 FROM {t} AS o WHERE o.kind = e.kind AND o.id < e.id)",
    "INSERT INTO {t} (id, kind, small) SELECT id + 100, 'item', v FROM items WHERE v < 400",
    "INSERT INTO {t} (id, kind) SELECT id + 100, 'item' FROM items WHERE v < 500",
    "INSERT INTO {t} (id, kind) SELECT id + 100, 'again' FROM items WHERE v < 600 ON CONFLICT DO NOTHING RETURNING id, kind",
    "INSERT INTO {t} (id, kind) SELECT id + 100, 'more' FROM items WHERE v < 700 ON CONFLICT (id) DO UPDATE SET kind = excluded.kind",
    "INSERT INTO {t} (id) SELECT 200 FROM items WHERE v < 300",
    "INSERT INTO {t} (id, kind) SELECT 201, 'x' FROM items WHERE v < 300 ON CONFLICT (id) DO UPDATE SET kind = excluded.kind",
    "INSERT INTO {t} (id, small) SELECT id + 300, 'x' FROM items",
    "INSERT INTO {t} (id, small) SELECT id + 300, v * 100 FROM items WHERE v > 900",
    "INSERT INTO {t} SELECT id + 1000, kind, amount, small, count, ratio, is_on, at, day, tag, data, words, raw, name FROM {t} RETURNING *",
    "INSERT INTO {t} (id, kind, count, name) VALUES (2001, upper('x'), 1 + 1, NULL), (2002, 'plain', length('abc'), 'n' || 'm') RETURNING id, kind, count, name",
    "INSERT INTO {t} (id, count) VALUES (2003, 1.5), (2004, '7'), (2005, 1 + 1)",
    "INSERT INTO {t} (id, count) VALUES (2003, abs(-1.5)), (2004, '7')",
    "INSERT INTO {t} (id, data) SELECT 2006, to_jsonb(k) FROM kinds AS k WHERE name = 'plain'",
    "INSERT INTO {t} (id, kind) SELECT g, 'series' FROM generate_series(3000, 4200) AS g",
    "DELETE FROM {t} WHERE kind = lower('SERIES') AND id % 2 = 0",
    // What names a column twice, or has more values than columns.
    "INSERT INTO {t} (id, id) VALUES (1, 2)",
    "INSERT INTO {t} (id, kind) VALUES (1, 'a', 3)",
    "INSERT INTO {t} (id, kind) VALUES (1, 'a', 3), (2, 'b', 4) ON CONFLICT DO NOTHING RETURNING id",
    "UPDATE {t} SET kind = 'a', KIND = upper('b')",
    "UPDATE {t} SET (kind, count) = ('a', 1), count = 3 WHERE id = 3",
    "INSERT INTO {t} (id) VALUES (3) ON CONFLICT (id) DO UPDATE SET kind = 'a', kind = 'b'",
    "MERGE INTO {t} USING items ON items.id = {t}.id WHEN MATCHED THEN UPDATE SET count = 1, count = 2",
    // Behind WITH.
    "WITH few AS (SELECT id, v FROM items WHERE v < 400) UPDATE {t} SET count = few.v, kind = upper(kind) FROM few WHERE few.id = {t}.id RETURNING {t}.id, kind, count",
    "WITH few AS (SELECT id FROM {t} WHERE kind = 'item' ORDER BY id LIMIT 2) UPDATE {t} AS e SET small = 5 WHERE e.id IN (SELECT id FROM few) RETURNING *",
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) UPDATE {t} SET count = (SELECT sum(i) FROM n) WHERE id IN (SELECT i FROM n)",
    "WITH few AS MATERIALIZED (SELECT id FROM items), more AS (SELECT min(id) AS id FROM few) DELETE FROM {t} USING more WHERE more.id = {t}.id RETURNING {t}.id",
    "WITH one AS (SELECT 2 AS id) UPDATE {t} SET id = 7777 WHERE id = (SELECT id FROM one) RETURNING id, kind",
    "WITH {t} AS (SELECT 5 AS id) UPDATE public.{t} SET kind = kind || '!' WHERE id IN (SELECT id FROM {t})",
    "WITH one AS (SELECT 3 AS id) UPDATE {t} SET small = 1 WHERE id = 3",
    "WITH one AS (SELECT 'x' AS x) UPDATE {t} SET count = one.x FROM one",
    "WITH one AS (SELECT max(v) * 1000 AS x FROM items) UPDATE {t} SET small = one.x FROM one WHERE id = 3",
    "WITH one AS (SELECT 1 AS id) UPDATE {t} SET kind = NULL WHERE id IN (SELECT id + 2 FROM one)",
    "WITH none AS (SELECT id FROM items WHERE v < 0) DELETE FROM {t} WHERE id IN (SELECT id FROM none)",
    "WITH few AS (SELECT kind, max(id) AS id FROM {t} GROUP BY kind) DELETE FROM {t} AS e USING few WHERE e.kind = few.kind AND e.id < few.id",
];

#[test]
#[ignore = "long"]
fn what_postgresql_computes_is_written_to_documents() {
    for is_extended in [false, true] {
        let Some(documents) = Documents::over(1) else {
            return;
        };
        let mut wire = documents.stage.wire();
        filled(&documents, &mut wire);
        for sql in WRITES {
            let [events, twin] = both(&mut wire, sql, is_extended);
            assert_eq!(events, twin, "{sql}");
            let [events, twin] = both(&mut wire, "SELECT * FROM {t} ORDER BY id", false);
            assert_eq!(events, twin, "after {sql}");
        }
    }
}

#[test]
fn parameters_and_prepared_statements_are_computed_with() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    filled(&documents, &mut wire);
    for (sql, values) in [
        (
            "UPDATE {t} SET kind = kind || $2, small = $3 WHERE id = $1",
            ["1", "!", "4"],
        ),
        (
            "UPDATE {t} SET kind = $2 WHERE id = $1 AND length(kind) > $3 RETURNING kind",
            ["1", "two", "1"],
        ),
        (
            "DELETE FROM {t} WHERE length(kind) = $1 AND small = $2 AND $3 = kind RETURNING id",
            ["1", "1", "a"],
        ),
        (
            "INSERT INTO {t} (id, kind, count) VALUES ($1, upper($2), $3::int + 1)",
            ["70", "x", "1"],
        ),
        (
            "INSERT INTO {t} (id, kind, count) SELECT id + $1, $2, $3 FROM items WHERE v < 300",
            ["80", "y", "5"],
        ),
    ] {
        for _ in 0..2 {
            let [events, twin] = ["events", "twin"].map(|table| {
                let sql = sql.replace("{t}", table);
                let answer = send(&mut wire, &extended(&sql, &[], &values));
                as_events(answer)
            });
            assert_eq!(events, twin, "{sql}");
        }
    }
    for table in ["twin", "events"] {
        for sql in [
            "PREPARE add_{t} (int, text) AS UPDATE {t} SET count = small + $1 WHERE kind LIKE $2 || '%'",
            "PREPARE drop_{t} (int8) AS DELETE FROM {t} WHERE NOT (id <> $1)",
            "EXECUTE add_{t} (1, 'o')",
            "EXECUTE add_{t} (2, 'b')",
            "EXECUTE drop_{t} (12)",
        ] {
            let answer = say(&mut wire, &sql.replace("{t}", table));
            assert!(!answer[0].starts_with("Error"), "{sql} {table}: {answer:?}");
        }
    }
    let [events, twin] = both(&mut wire, "SELECT * FROM {t} ORDER BY id", false);
    assert_eq!(events, twin);
}

/// The answers to these statements, one after the other.
fn told(wire: &mut Wire, table: &str, statements: &[&str]) -> Vec<String> {
    let answers = statements.iter().map(|sql| {
        let answer = as_events(say(wire, &sql.replace("{t}", table)));
        format!("{sql}: {answer:?}")
    });
    answers.collect()
}

fn as_events(answer: Vec<String>) -> Vec<String> {
    let named = |line: String| line.replace("twin", "events");
    answer.into_iter().map(named).collect()
}

#[test]
fn a_computed_write_is_of_its_transaction() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    filled(&documents, &mut wire);
    for end in ["ROLLBACK", "COMMIT"] {
        let statements = [
            "BEGIN",
            "INSERT INTO {t} (id, small) VALUES (900, 1)",
            "UPDATE {t} SET small = small + length(kind) WHERE id IN (1, 900)",
            "DELETE FROM {t} WHERE length(kind) = 1 AND small < 3",
            "SELECT sum(small) FROM {t}",
            end,
            "SELECT * FROM {t} ORDER BY id",
        ];
        let [events, twin] = ["events", "twin"].map(|table| told(&mut wire, table, &statements));
        assert_eq!(events, twin);
    }
    // One that fails fails its transaction, and by itself leaves nothing behind.
    let statements = [
        "UPDATE {t} SET small = 3000 + id WHERE id IN (1, 2, 3, 4, 5, 6)",
        "UPDATE {t} SET small = small * 30000",
        "SELECT * FROM {t} ORDER BY id",
        "BEGIN",
        "UPDATE {t} SET kind = 'gone' WHERE length(kind) > 0",
        "UPDATE {t} SET small = 30000 * length(kind)",
        "SELECT 1",
        "COMMIT",
        "BEGIN READ ONLY",
        "UPDATE {t} SET small = length(kind) WHERE id = 999",
        "ROLLBACK",
        "SELECT * FROM {t} ORDER BY id",
    ];
    let [events, twin] = ["events", "twin"].map(|table| told(&mut wire, table, &statements));
    assert_eq!(events, twin);
}

#[test]
fn the_time_is_cut_to_milliseconds_and_is_that_of_the_transaction() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    for sql in [
        "INSERT INTO events (id, at, kind) VALUES (1, now(), 'a'), (2, now() - interval '1 hour', upper('b'))",
        "UPDATE events SET at = greatest(at, CURRENT_TIMESTAMP) WHERE length(kind) = 1 AND id = 2",
        "INSERT INTO events (id, at) SELECT id + 10, now() FROM items",
    ] {
        let answer = say(&mut wire, sql);
        let done = |line: &String| line.starts_with("CommandComplete");
        assert!(answer.iter().any(done), "{sql}: {answer:?}");
    }
    let near = "SELECT bool_and(at BETWEEN now() - interval '2 minutes' AND now() + interval '2 minutes') FROM events";
    assert_eq!(one(&mut wire, near), "t");
    say(&mut wire, "BEGIN");
    say(
        &mut wire,
        "INSERT INTO events (id, at, kind) VALUES (21, now(), upper('b'))",
    );
    say(
        &mut wire,
        "UPDATE events SET at = now() + interval '0', kind = kind || 'c' WHERE id = 1",
    );
    say(&mut wire, "COMMIT");
    let same = "SELECT count(DISTINCT at) FROM events WHERE id IN (1, 21)";
    assert_eq!(one(&mut wire, same), "1");
}

#[test]
fn a_computed_write_is_explained_and_goes_to_one_shard_only() {
    let Some(documents) = Documents::over(3) else {
        return;
    };
    let mut wire = documents.stage.wire();
    for id in 1..=9 {
        say(&mut wire, &format!("INSERT INTO events (id) VALUES ({id})"));
    }
    let answer = say(
        &mut wire,
        "UPDATE events SET kind = upper(kind) WHERE id = 4 AND length(kind) > 1",
    );
    assert_eq!(answer[0], "CommandComplete UPDATE 1");
    for sql in [
        "UPDATE events SET kind = lower(kind)",
        "DELETE FROM events WHERE length(kind) > 1",
    ] {
        let answer = say(&mut wire, sql);
        let refused = "Error 0A000 a write to documents on several replica sets is not supported";
        assert_eq!(answer[0], refused, "{sql}");
    }
    assert_eq!(
        one(
            &mut wire,
            "SELECT count(*) FROM events WHERE kind = 'PLAIN'"
        ),
        "1"
    );
    let told = say(
        &mut wire,
        "EXPLAIN (ROUTE) DELETE FROM events WHERE id = 4 AND length(kind) > 1",
    )
    .concat();
    assert!(
        told.contains("Documents on docs") && told.contains("Residue on the home shard"),
        "{told}"
    );
}

#[test]
fn of_many_who_compute_the_same_row_anew_none_fails_and_none_is_lost() {
    const CLIENTS: usize = 4;
    const TIMES: usize = 10;
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    say(&mut wire, "INSERT INTO events (id, count) VALUES (1, 0)");
    let add = "UPDATE events SET count = count + length(kind) - 4 WHERE id = 1";
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let documents = &documents;
            scope.spawn(move || {
                let mut wire = documents.stage.wire();
                say(&mut wire, &format!("PREPARE add AS {add}"));
                for time in 0..TIMES {
                    let answer = match (client + time) % 3 {
                        0 => say(&mut wire, add),
                        1 => send(&mut wire, &extended(add, &[], &[])),
                        _ => say(&mut wire, "EXECUTE add"),
                    };
                    let done = answer.iter().any(|line| line == "CommandComplete UPDATE 1");
                    assert!(done, "{answer:?}");
                }
            });
        }
    });
    let sum = (CLIENTS * TIMES).to_string();
    assert_eq!(one(&mut wire, "SELECT count FROM events WHERE id = 1"), sum);
    // Within a transaction the client is told, for only he can begin it again.
    let mut other = documents.stage.wire();
    say(&mut wire, "BEGIN");
    say(&mut wire, "SELECT count FROM events WHERE id = 1");
    say(&mut other, add);
    let answer = say(&mut wire, add);
    assert!(answer[0].starts_with("Error 40001"), "{answer:?}");
    assert_eq!(say(&mut wire, "COMMIT")[0], "CommandComplete ROLLBACK");
}

#[test]
fn what_was_done_between_bind_and_execute_is_not_undone_by_a_conflict() {
    // What is counted there is its own.
    let set = ReplicaSet::start("deeds", 1).map(Arc::new);
    let Some(documents) = Documents::on(set, 1, "") else {
        return;
    };
    let mut wire = documents.stage.wire();
    let mut other = documents.stage.wire();
    say(&mut wire, "CREATE TABLE notes (id int)");
    say(&mut wire, "INSERT INTO events (id, count) VALUES (1, 0)");
    // Somebody else holds the document until this one has met it.
    say(&mut other, "BEGIN");
    say(&mut other, "UPDATE events SET count = 5 WHERE id = 1");
    let aborted = || {
        let told = documents.set.command("admin", doc! { "serverStatus": 1 });
        let transactions = told.get_document("transactions").unwrap();
        transactions.get_i64("totalAborted").unwrap()
    };
    let before = aborted();
    let sql = "UPDATE events SET count = count + length(kind) WHERE id = 1";
    let messages = [
        message::parse("u", sql, &[]),
        message::bind("u", "u", Format::Text, &[], Format::Text),
        message::parse("n", "INSERT INTO notes VALUES (1)", &[]),
        message::bind("n", "n", Format::Text, &[], Format::Text),
        message::execute("n", 0),
        message::execute("u", 0),
        message::sync(),
    ];
    let answer = std::thread::scope(|scope| {
        let asked = scope.spawn(|| send(&mut wire, &messages));
        let met = poll_until(LIMIT, || aborted() > before);
        say(&mut other, "COMMIT");
        assert!(met, "nothing was in the way");
        asked.join().unwrap()
    });
    let is_there = |told: &str| answer.iter().any(|line| line.starts_with(told));
    assert!(
        is_there("CommandComplete INSERT 0 1") && is_there("Error 40001"),
        "{answer:?}"
    );
    assert_eq!(one(&mut wire, "SELECT count(*) FROM notes"), "0");
    let answer = send(&mut documents.stage.wire(), &messages);
    let failed = answer.iter().any(|line| line.starts_with("Error"));
    assert!(!failed, "{answer:?}");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM notes"), "1");
}

#[test]
fn a_write_to_postgresql_may_ask_for_documents_that_cannot_be() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    for id in 1..=6 {
        let made = say(
            &mut wire,
            &format!("INSERT INTO items (id, v) VALUES ({id}, 1)"),
        );
        assert_eq!(made[0], "CommandComplete INSERT 0 1");
        // No document has both keys, so that no shard has to be asked.
        let sql = format!(
            "UPDATE items SET v = 2 WHERE id = {id} AND v < ALL (SELECT count FROM events WHERE id = 1 AND id = 2)"
        );
        assert_eq!(say(&mut wire, &sql)[0], "CommandComplete UPDATE 1", "{sql}");
        let sql = format!(
            "DELETE FROM items USING events WHERE items.id = {id} AND events.id = 1 AND events.id = 2"
        );
        assert_eq!(say(&mut wire, &sql)[0], "CommandComplete DELETE 0", "{sql}");
    }
    assert_eq!(
        one(&mut wire, "SELECT sum(v) FROM items WHERE id <= 6"),
        "12"
    );
}
