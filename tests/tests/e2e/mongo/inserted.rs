//! INSERTs into documents of what PostgreSQL computes: functions, expressions, queries.

use super::stage::{Documents, shared};
use crate::shards::stage::{extended, one, say, send};
use mothership_tests::Wire;

/// A table with defaults that are not constant.
const STAMPED: &str = r#"
[[table]]
name = "stamped"
kind = "documents"
shards = ["docs0"]
[[table.column]]
name = "id"
path = "_id"
sql_type = "uuid"
default = "gen_random_uuid()"
[[table.column]]
name = "note"
sql_type = "text"
[[table.column]]
name = "made"
sql_type = "timestamptz"
not_null = true
default = "now()"
"#;

/// Writes to `{t}`; what each answers, and what is there then, is compared.
const WRITES: [&str; 63] = [
    "INSERT INTO {t} (id, count) VALUES (1, 2 + 3)",
    "INSERT INTO {t} (id, kind) VALUES (2, upper('x') || 'y'), (1 + 2, 'plain') RETURNING id, kind",
    "INSERT INTO {t} (id, kind, amount) VALUES (4, DEFAULT, 10 / 4.0), (5, DEFAULT, 1e3)",
    "INSERT INTO {t} (id, amount, ratio, small) VALUES (6, 7 / 2, 7 / 2.0, 2.5 + 1)",
    "INSERT INTO {t} (id, at) VALUES (7, '2020-01-01 00:00:00+00'::timestamptz + interval '1 day')",
    "INSERT INTO {t} (id, day, at) VALUES (8, '2020-02-28'::date + 1, '2020-02-28'::date)",
    "INSERT INTO {t} (id, tag) VALUES (9, md5('x')::uuid)",
    "INSERT INTO {t} (id, data, words) VALUES (10, jsonb_build_object('a', 1.50, 'b', ARRAY[1, 2]), ARRAY['x', NULL, 'y z'])",
    "INSERT INTO {t} (id, data, words) VALUES (11, to_jsonb('t'::text), string_to_array('a,b', ','))",
    "INSERT INTO {t} (id, raw, is_on) VALUES (12, decode('00ff', 'hex'), 1 < 2)",
    "INSERT INTO {t} (id, name) VALUES (13, repeat('n', 10))",
    "INSERT INTO {t} VALUES (10 + 4, 'all', 1, 2, 3, 4)",
    "INSERT INTO {t} (id, count) VALUES (15, (SELECT max(v)::int FROM items))",
    "INSERT INTO {t} (id, count) VALUES (16, NULLIF(1, 1)), (17, COALESCE(NULL, 7))",
    // What is wrong is told as PostgreSQL does, and nothing is stored.
    "INSERT INTO {t} (id, name) VALUES (20, repeat('n', 11))",
    "INSERT INTO {t} (id, count) VALUES (20, 1 / 0)",
    "INSERT INTO {t} (id, count) VALUES (20, upper('5'))",
    "INSERT INTO {t} (id, count) VALUES (20, 2147483647 + 1)",
    "INSERT INTO {t} (id, small) VALUES (20, 32767 + 1)",
    "INSERT INTO {t} (id, kind) VALUES (20, lower(NULL))",
    "INSERT INTO {t} (id, kind) VALUES (20, upper('a')), (1, upper('b'))",
    "INSERT INTO {t} (id, is_on) VALUES (20, 1 + 1)",
    "INSERT INTO {t} (id) VALUES (nothing(1))",
    // Whichever row is wrong first.
    "INSERT INTO {t} (id, kind) VALUES (20, 'a'), (1, 'b'), (NULL, 'c')",
    "INSERT INTO {t} (id, kind) VALUES (20, 'a'), (NULL, 'c'), (1, 'b')",
    "INSERT INTO {t} (id, kind) VALUES (20, 'a'), (1, 'b'), (NULL, 'c') ON CONFLICT DO NOTHING",
    "INSERT INTO {t} (id, kind) VALUES (20, 'a'), (1, NULL), (NULL, 'c') ON CONFLICT (id) DO UPDATE SET kind = EXCLUDED.kind",
    "INSERT INTO {t} (id, kind) SELECT 20, 'a' UNION ALL SELECT 1, 'b' UNION ALL SELECT NULL, 'c'",
    "INSERT INTO {t} (id, kind) SELECT 20, 'a' UNION ALL SELECT NULL, 'b' UNION ALL SELECT 1, 'c'",
    // Keys that are there.
    "INSERT INTO {t} (id, kind) VALUES (1, upper('b')), (21, upper('c')) ON CONFLICT DO NOTHING RETURNING id",
    "INSERT INTO {t} (id, kind) VALUES (1, upper('b')), (22, upper('c')) ON CONFLICT (id) DO UPDATE SET kind = EXCLUDED.kind",
    // Queries.
    "INSERT INTO {t} (id, kind) SELECT id + 100, note FROM items ORDER BY id",
    "INSERT INTO {t} (id, count, name) SELECT id + 200, v, 'i' || id FROM items WHERE v > 300 RETURNING id, name",
    "INSERT INTO {t} (id, kind) SELECT 300 + row_number() OVER (ORDER BY name), title FROM kinds",
    "INSERT INTO {t} SELECT id + 400, kind, amount, small, count, ratio, is_on, at, day, tag, data, words, raw, name FROM {t} WHERE id < 20",
    "INSERT INTO {t} (id, kind) SELECT e.id + 500, k.title FROM {t} e JOIN kinds k ON k.name = e.kind",
    "INSERT INTO {t} (id) SELECT 600 + g FROM generate_series(1, 50) g",
    "INSERT INTO {t} (id, kind) WITH x AS (SELECT count(*) AS n FROM items) SELECT 700 + n, 'with' FROM x",
    "INSERT INTO {t} (id) SELECT id FROM items WHERE false",
    "WITH x AS (SELECT 1) INSERT INTO {t} SELECT id + 4000, 'x' FROM items",
    "WITH x AS (SELECT id, v FROM items WHERE v > 800) INSERT INTO {t} (id, amount, at) SELECT id + 4050, v / 3.0, '2020-01-01 00:00:00.5+00' FROM x RETURNING id, amount, at",
    "WITH x AS (UPDATE items SET v = v WHERE id < 4 RETURNING id, note) INSERT INTO {t} (id, kind) SELECT id + 4100, upper(note) FROM x RETURNING id, kind",
    "WITH x AS (UPDATE items SET v = v WHERE id < 4 RETURNING id) INSERT INTO {t} (id, kind) SELECT id + 4100, NULL FROM x",
    "WITH x AS (UPDATE items SET v = v WHERE id = 5 RETURNING id) INSERT INTO {t} (id, small) SELECT id + 4100, 40000 FROM x",
    "WITH x AS (DELETE FROM items WHERE id = 9999 RETURNING id) INSERT INTO {t} (id) SELECT id FROM x ON CONFLICT DO NOTHING",
    "INSERT INTO {t} (id, amount) SELECT 800 + id, v / 3.0 FROM items WHERE id < 3 UNION ALL SELECT 810, 1",
    "INSERT INTO {t} (id, small) SELECT 900 + id, v * 1000 FROM items",
    "INSERT INTO {t} (id, kind) SELECT id, NULL FROM items WHERE id = 12",
    "INSERT INTO {t} (id, kind) SELECT 1000, 'a' UNION ALL SELECT 1000, 'b'",
    "INSERT INTO {t} (id, count) SELECT id, note FROM items",
    "INSERT INTO {t} (id) SELECT id, v FROM items",
    "INSERT INTO {t} (id, kind) SELECT 1, 'new' FROM kinds WHERE name = 'none' ON CONFLICT (id) DO UPDATE SET kind = EXCLUDED.kind RETURNING *",
    "INSERT INTO {t} (id, nothing) SELECT 1, 2",
    // What RETURNING computes of rows that are stored, and what some of them leave to the default.
    "INSERT INTO {t} (id, kind, name) VALUES (2000, upper('a'), 'n'), (2001, DEFAULT, NULL) RETURNING id + 1 AS next, kind || '!', {t}.*",
    "INSERT INTO {t} (id, kind) VALUES (2000, 'again'), (2002, 'new') ON CONFLICT (id) DO UPDATE SET kind = EXCLUDED.kind RETURNING length(kind), id",
    "INSERT INTO {t} (id, kind) VALUES (2000, 'x') ON CONFLICT DO NOTHING RETURNING upper(kind)",
    "INSERT INTO {t} AS e (id) VALUES (2003) RETURNING e.id / 2, e.kind, e.words IS NULL, e.name",
    "INSERT INTO {t} (id, count) VALUES (2004, 1) RETURNING count / (count - 1)",
    "INSERT INTO {t} (id, count, kind) VALUES (2005, 1 + 1, DEFAULT), (2006, DEFAULT, 'k')",
    "INSERT INTO {t} (id, kind) VALUES (2007, NULL), (2010, DEFAULT) RETURNING upper(kind)",
    "INSERT INTO {t} (id) VALUES (2007) RETURNING nothing",
    "INSERT INTO {t} (id, words, data, amount) VALUES (2008, '{a,b}', '{\"a\": 1}', 1.50) RETURNING words[1], data->>'a', amount * 2, words || 'c'::text",
    "INSERT INTO items (id, note) SELECT id + 5000, kind FROM {t} WHERE id = 10",
];

fn filled(wire: &mut Wire) {
    for sql in [
        "INSERT INTO items SELECT g, g * 100, 'note ' || g FROM generate_series(1, 12) g",
        "INSERT INTO kinds VALUES ('plain', 'Plain'), ('Xy', 'Title'), ('none', 'None')",
    ] {
        let answer = say(wire, sql);
        assert!(answer[0].starts_with("CommandComplete"), "{answer:?}");
    }
}

fn both(wire: &mut Wire, sql: &str, is_extended: bool) -> [Vec<String>; 2] {
    ["events", "twin"].map(|table| {
        let sql = sql.replace("{t}", table);
        let answer = match is_extended {
            false => say(wire, &sql),
            true => send(wire, &extended(&sql, &[], &[])),
        };
        say(wire, "DELETE FROM items WHERE id > 5000");
        // What a constant is computed to, PostgreSQL finds when it binds.
        let answer = answer.into_iter().filter(|line| line != "BindComplete");
        answer.map(|line| line.replace("twin", "events")).collect()
    })
}

#[test]
#[ignore = "long"]
fn what_postgresql_computes_is_stored_as_it_stores_it() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    filled(&mut wire);
    say(&mut wire, "SET TimeZone = 'Asia/Kolkata'");
    let mut wrong = Vec::new();
    for is_extended in [false, true] {
        for sql in WRITES {
            let [events, twin] = both(&mut wire, sql, is_extended);
            if events != twin {
                wrong.push(format!("{sql}\n  {events:?}\n  {twin:?}"));
            }
            let [mut events, mut twin] = both(&mut wire, "SELECT * FROM {t} ORDER BY id", false);
            if events != twin {
                let both: Vec<String> = events.clone();
                events.retain(|row| !twin.contains(row));
                twin.retain(|row| !both.contains(row));
                wrong.push(format!("after {sql}\n  {events:?}\n  {twin:?}"));
            }
        }
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
fn the_time_is_that_of_the_transaction_in_all_of_its_statements() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    filled(&mut wire);
    let times = |wire: &mut Wire| {
        one(
            wire,
            "SELECT count(DISTINCT at) || ' ' || count(at) FROM events",
        )
    };
    for first in [
        "SELECT count(*) FROM kinds",
        "SELECT count(*) FROM events",
        "INSERT INTO events (id, at) VALUES (1, now())",
        "INSERT INTO items (id) VALUES (100)",
    ] {
        say(&mut wire, "DELETE FROM events");
        say(&mut wire, "BEGIN");
        for sql in [
            first,
            "INSERT INTO events (id, at) VALUES (2, now()), (3, CURRENT_TIMESTAMP)",
            "INSERT INTO events (id, at) SELECT id + 10, now() FROM items WHERE id < 4",
            "INSERT INTO events (id, at) VALUES (4, transaction_timestamp())",
        ] {
            let answer = say(&mut wire, sql);
            assert!(
                !answer[0].starts_with("Error"),
                "{first}: {sql}: {answer:?}"
            );
        }
        let is_now = "SELECT bool_and(at = date_trunc('milliseconds', now())) FROM events";
        let rows = say(&mut wire, "SELECT id, at, now() FROM events ORDER BY id");
        assert_eq!(one(&mut wire, is_now), "t", "{first}: {rows:?}");
        let many = if first.contains("events (id") {
            "1 7"
        } else {
            "1 6"
        };
        assert_eq!(times(&mut wire), many, "{first}");
        assert_eq!(
            say(&mut wire, "COMMIT")[0],
            "CommandComplete COMMIT",
            "{first}"
        );
        assert_eq!(times(&mut wire), many, "{first}");
        say(&mut wire, "DELETE FROM items WHERE id = 100");
    }
    // What is written out has to fit.
    let answer = say(
        &mut wire,
        "INSERT INTO events (id, at) VALUES (9, '2020-01-01 00:00:00.0001+00'::timestamptz + interval '1 day')",
    );
    assert!(
        answer[0].starts_with("Error 0A000") || answer[0].starts_with("Error 22008"),
        "{answer:?}"
    );
    assert_eq!(times(&mut wire), "1 6");
    documents.stage.assert_nothing_prepared();
}

#[test]
fn defaults_that_are_the_time_or_by_chance_are_filled_in() {
    let Some(documents) = Documents::on(shared(), 1, STAMPED) else {
        return;
    };
    let mut wire = documents.stage.wire();
    filled(&mut wire);
    for first in [
        "SELECT 1",
        "SELECT count(*) FROM kinds",
        "INSERT INTO items (id) VALUES (100)",
        "INSERT INTO stamped (note) VALUES ('first')",
    ] {
        say(&mut wire, "DELETE FROM stamped");
        say(&mut wire, "BEGIN");
        for sql in [
            first,
            "INSERT INTO stamped (note) VALUES ('plain')",
            "INSERT INTO stamped (note) VALUES (upper('x')), (upper('y'))",
            "INSERT INTO stamped (note) SELECT note FROM items WHERE id < 5",
            "INSERT INTO stamped (id, note, made) VALUES (gen_random_uuid(), 'clock', now())",
            "WITH w AS (INSERT INTO stamped (note) VALUES ('within') RETURNING *) SELECT * FROM w",
        ] {
            let answer = say(&mut wire, sql);
            let failed = answer.iter().any(|line| line.starts_with("Error"));
            assert!(!failed, "{first}: {sql}: {answer:?}");
        }
        let count = if first.contains("stamped") { "10" } else { "9" };
        let sql = "SELECT count(DISTINCT id) || ' ' || count(DISTINCT made) FROM stamped";
        assert_eq!(one(&mut wire, sql), format!("{count} 1"), "{first}");
        assert_eq!(say(&mut wire, "ROLLBACK")[0], "CommandComplete ROLLBACK");
    }
}

#[test]
fn rows_of_one_replica_set_are_stored_and_those_of_several_are_refused() {
    let Some(documents) = Documents::over(3) else {
        return;
    };
    let mut wire = documents.stage.wire();
    filled(&mut wire);
    let mut stored = 0;
    for id in 1..=12 {
        let answer = say(
            &mut wire,
            &format!("INSERT INTO events (id, kind) SELECT id, note FROM items WHERE id = {id}"),
        );
        assert_eq!(answer[0], "CommandComplete INSERT 0 1", "{answer:?}");
        stored += 1;
    }
    let refused = [
        "Error 0A000 a write to documents on several replica sets is not supported",
        "ReadyForQuery I",
    ];
    for sql in [
        "INSERT INTO events (id, kind) SELECT id + 100, note FROM items",
        "INSERT INTO events (id, kind) SELECT g + 100, upper('a') FROM generate_series(1, 20) g",
    ] {
        assert_eq!(say(&mut wire, sql), refused, "{sql}");
    }
    assert_eq!(
        one(&mut wire, "SELECT count(*) FROM events"),
        stored.to_string()
    );
    assert_eq!(
        one(
            &mut wire,
            "SELECT count(*) FROM events e JOIN items i ON i.id = e.id AND i.note = e.kind"
        ),
        stored.to_string()
    );
    // Of a transaction no more than of a statement.
    say(&mut wire, "BEGIN");
    let mut answers = (1..=12).map(|id| {
        let sql = format!("INSERT INTO events (id, kind) VALUES ({id} + 1000, upper('a'))");
        say(&mut wire, &sql)[0].clone()
    });
    let refused = answers.find(|answer| answer != "CommandComplete INSERT 0 1");
    assert_eq!(
        refused.as_deref(),
        Some("Error 0A000 transaction writes on more than one replica set of MongoDB")
    );
    assert_eq!(say(&mut wire, "COMMIT")[0], "CommandComplete ROLLBACK");
}

#[test]
fn parameters_are_what_postgresql_takes_them_for() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    filled(&mut wire);
    for (sql, values) in [
        (
            "INSERT INTO {t} (id, kind, at) VALUES ($1, upper($2), $3::timestamptz + interval '1 hour') RETURNING id, kind, at",
            &["1", "x", "2020-01-01 00:00:00+00"][..],
        ),
        (
            "INSERT INTO {t} (id, count) SELECT id + $1, v FROM items WHERE v > $2 RETURNING id",
            &["10", "900"],
        ),
        (
            "INSERT INTO {t} (id, count) VALUES ($1::int + 1, $2::text::int)",
            &["1", "x"],
        ),
    ] {
        let [events, twin] = ["events", "twin"].map(|table| {
            let sql = sql.replace("{t}", table);
            let mut answer = send(&mut wire, &extended(&sql, &[], values));
            answer.retain(|line| line != "BindComplete");
            answer.sort();
            answer
        });
        assert_eq!(events, twin, "{sql}");
    }
    assert_eq!(one(&mut wire, "SELECT count(*) FROM events"), "4");
}
