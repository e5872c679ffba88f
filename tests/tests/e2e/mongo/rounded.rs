//! Columns with a precision round times to the milliseconds that MongoDB has, as PostgreSQL's do.

use super::stage::{Documents, shared};
use crate::shards::stage::{extended, say, send};
use mothership_tests::message::Format;
use mothership_tests::{Wire, message};

/// Beside `events`: times in rows, in arrays and in the key, and one column that has no precision.
const TABLES: &str = r#"
[[table]]
name = "visits"
kind = "documents"
shards = ["docs0"]
[[table.column]]
name = "id"
path = "_id"
sql_type = "int4"
[[table.column]]
name = "at"
sql_type = "timestamptz(3)"
default = "2020-01-01 00:00:00.0005+00"
[[table.column]]
name = "seen"
sql_type = "timestamp(3) without time zone"
[[table.column]]
name = "times"
sql_type = "timestamptz(3)[]"
[[table.column]]
name = "exact"
sql_type = "timestamptz"
[[table]]
name = "moments"
kind = "documents"
shards = ["docs0"]
[[table.column]]
name = "at"
path = "_id"
sql_type = "timestamp(3)"
[[table.column]]
name = "count"
sql_type = "int4"
not_null = true
"#;

const TWINS: [&str; 2] = [
    "CREATE TABLE visits_twin (id int4 PRIMARY KEY, at timestamptz(3) DEFAULT '2020-01-01 00:00:00.0005+00', \
     seen timestamp(3), times timestamptz(3)[], exact timestamptz)",
    "CREATE TABLE moments_twin (at timestamp(3) PRIMARY KEY, count int4 NOT NULL)",
];

/// Statements on `visits{_}` and `moments{_}`, one after the other.
const STATEMENTS: [&str; 38] = [
    "INSERT INTO visits{_} (id, at) VALUES (1, '2024-05-06 07:08:09.123456+00')",
    "INSERT INTO visits{_} (id, at, seen) VALUES (2, '2024-05-06 07:08:09.1235+00', '1999-12-31 23:59:59.9995') RETURNING *",
    "INSERT INTO visits{_} (id) VALUES (3) RETURNING id, at",
    "INSERT INTO visits{_} (id, at, seen) VALUES (4, '1999-12-31 23:59:59.999499+00', '0044-03-15 12:00:00.0005 BC') RETURNING *",
    "INSERT INTO visits{_} (id, at) VALUES (5, '2024-05-06 07:08:09.9999999+02'::timestamptz), (6, NULL) RETURNING *",
    "INSERT INTO visits{_} (id, times) VALUES (7, '{\"2024-05-06 07:08:09.123456+00\",NULL}') RETURNING times",
    "INSERT INTO visits{_} (id, times) VALUES (8, ARRAY['2024-05-06 07:08:09.0004999+00'::timestamptz, '2024-05-06 07:08:09.0005+00']) RETURNING times",
    "INSERT INTO visits{_} (id, seen) SELECT 9, '2024-05-06 07:08:09.123456'::timestamp RETURNING seen",
    "INSERT INTO visits{_} (id, at) SELECT id + 100, '2024-05-06 07:08:09.0016+00'::timestamptz + id * interval '1 us' FROM items RETURNING id, at",
    // Comparisons are with what is stored, and are not rounded.
    "SELECT id FROM visits{_} WHERE at = '2024-05-06 07:08:09.123+00'",
    "SELECT id FROM visits{_} WHERE at = '2024-05-06 07:08:09.123456+00'",
    "SELECT id FROM visits{_} WHERE at < '2024-05-06 07:08:09.123456+00' ORDER BY id",
    "SELECT id FROM visits{_} WHERE at >= '2024-05-06 07:08:09.1235+00' ORDER BY id",
    "SELECT id FROM visits{_} WHERE '2024-05-06 07:08:09.123+00' = ANY (times)",
    "SELECT id FROM visits{_} WHERE at > seen::timestamptz ORDER BY id",
    "SELECT id FROM visits{_} WHERE exact IS NULL AND at <> exact",
    "SELECT min(at), max(seen), count(DISTINCT at) FROM visits{_}",
    "SELECT at, count(*) FROM visits{_} GROUP BY at HAVING count(*) > 1 ORDER BY at",
    "SELECT id, at + interval '1 us', seen, at::timestamptz(0) FROM visits{_} ORDER BY id",
    "SELECT v.id, i.v FROM visits{_} v JOIN items i ON i.id = v.id ORDER BY v.at, v.id",
    // Writes by one command of MongoDB's, and those that PostgreSQL computes.
    "UPDATE visits{_} SET at = '2024-05-06 07:08:09.0025+00' WHERE id = 1 RETURNING at",
    "UPDATE visits{_} SET at = at + interval '1500 us' WHERE id <= 3 RETURNING id, at",
    "UPDATE visits{_} SET seen = '2024-01-01 00:00:00'::timestamp + id * interval '400 us', times = times || ARRAY['2024-05-06 07:08:09.7777+00'::timestamptz] RETURNING *",
    "UPDATE visits{_} SET exact = at WHERE id = 1 RETURNING exact = at",
    "INSERT INTO visits{_} (id, at) VALUES (1, '2024-05-06 07:08:09.7777+00') ON CONFLICT (id) DO UPDATE SET at = EXCLUDED.at RETURNING at",
    "INSERT INTO visits{_} (id, at) VALUES (1, '2024-05-06 07:08:09.8888+00'), (20, '2024-05-06 07:08:09.9999+00') ON CONFLICT (id) DO UPDATE SET at = EXCLUDED.at + interval '1 us' RETURNING id, at",
    "INSERT INTO visits{_} (id, exact) VALUES (1, '2024-05-06 07:08:09.888+00') ON CONFLICT (id) DO UPDATE SET at = EXCLUDED.exact RETURNING at",
    "MERGE INTO visits{_} v USING items i ON i.id = v.id WHEN MATCHED THEN UPDATE SET at = v.at + interval '700 us' \
     WHEN NOT MATCHED THEN INSERT (id, at) VALUES (i.id, '2024-05-06 07:08:09.12351+00')",
    // Keys.
    "INSERT INTO moments{_} VALUES ('2024-01-01 00:00:00.0001', 1), ('2024-01-01 00:00:00.0006', 2)",
    "INSERT INTO moments{_} VALUES ('2024-01-01 00:00:00.0014', 3)",
    "INSERT INTO moments{_} VALUES ('2024-01-01 00:00:00.0014', 3) ON CONFLICT DO NOTHING",
    "INSERT INTO moments{_} VALUES ('2024-01-01 00:00:00.0014', 3) ON CONFLICT (at) DO UPDATE SET count = moments{_}.count + EXCLUDED.count RETURNING *",
    "INSERT INTO moments{_} VALUES ('2024-01-01 00:00:00.0014', 3) ON CONFLICT (at) DO UPDATE SET count = moments{_}.count * EXCLUDED.count RETURNING *",
    "INSERT INTO moments{_} VALUES ('2024-01-01 00:00:00.0016', 7) ON CONFLICT (at) DO UPDATE SET count = moments{_}.count * EXCLUDED.count RETURNING *",
    "UPDATE moments{_} SET at = '2024-01-01 00:00:00.0035' WHERE at = '2024-01-01 00:00:00' RETURNING *",
    "UPDATE moments{_} SET count = count + 1 WHERE at = '2024-01-01 00:00:00.0006'",
    "DELETE FROM moments{_} WHERE at = '2024-01-01 00:00:00.001' RETURNING *",
    "INSERT INTO moments{_} VALUES ('2024-01-01 00:00:00.0039', NULL)",
];

const SHOWN: [&str; 2] = [
    "SELECT * FROM visits{_} ORDER BY id",
    "SELECT * FROM moments{_} ORDER BY at",
];

/// The answer of a table of documents and that of its twin.
fn both(wire: &mut Wire, mut ask: impl FnMut(&mut Wire, &str) -> Vec<String>) -> [Vec<String>; 2] {
    ["", "_twin"].map(|suffix| {
        let mut answer = ask(wire, suffix);
        // What a constant is computed to, PostgreSQL finds when it binds; rows that are written have no order.
        answer.retain(|line| line != "BindComplete");
        answer.sort();
        answer
            .into_iter()
            .map(|line| line.replace("_twin", ""))
            .collect()
    })
}

fn staged() -> Option<Documents> {
    let documents = Documents::on(shared(), 1, TABLES)?;
    let mut wire = documents.stage.wire();
    for sql in TWINS {
        assert_eq!(
            say(&mut wire, sql)[0],
            "CommandComplete CREATE TABLE",
            "{sql}"
        );
    }
    let filled = say(
        &mut wire,
        "INSERT INTO items VALUES (1, 1, 'a'), (2, 2, 'b'), (30, 3, 'c')",
    );
    assert_eq!(filled[0], "CommandComplete INSERT 0 3");
    Some(documents)
}

fn assert_alike(wire: &mut Wire, after: &str) {
    for shown in SHOWN {
        let [own, twin] = both(wire, |wire, suffix| {
            say(wire, &shown.replace("{_}", suffix))
        });
        assert_eq!(own, twin, "after {after}");
    }
}

#[test]
fn times_are_rounded_as_by_postgresql() {
    for is_extended in [false, true] {
        let Some(documents) = staged() else {
            return;
        };
        let mut wire = documents.stage.wire();
        for statement in STATEMENTS {
            let [own, twin] = both(&mut wire, |wire, suffix| {
                let sql = statement.replace("{_}", suffix);
                match is_extended {
                    true => send(wire, &extended(&sql, &[], &[])),
                    false => say(wire, &sql),
                }
            });
            assert_eq!(own, twin, "{statement}");
            assert_alike(&mut wire, statement);
        }
    }
}

#[test]
fn parameters_and_copied_rows_are_rounded() {
    let Some(documents) = staged() else {
        return;
    };
    let mut wire = documents.stage.wire();
    let insert = "INSERT INTO visits{_} (id, at, times) VALUES ($1, $2, $3) RETURNING *";
    let update = "UPDATE visits{_} SET at = $2, times = $3 WHERE id = $1 RETURNING *";
    let computed = "UPDATE visits{_} SET at = $2::timestamptz - interval '1 us', times = $3 WHERE id = abs($1) RETURNING *";
    for (number, types) in [[23, 0, 0], [0, 1184, 1185], [0, 0, 0]]
        .into_iter()
        .enumerate()
    {
        let id = (number + 1).to_string();
        let values = [
            "2024-05-06 07:08:09.123456+02",
            "{\"2024-05-06 07:08:09.1235+02\"}",
        ];
        for statement in [insert, update, computed] {
            let [own, twin] = both(&mut wire, |wire, suffix| {
                let sql = statement.replace("{_}", suffix);
                send(wire, &extended(&sql, &types, &[&id, values[0], values[1]]))
            });
            assert_eq!(own, twin, "{statement}");
            assert!(own[0].contains("CommandComplete"), "{statement}: {own:?}");
        }
    }
    // In binary: microseconds since the year 2000.
    for (id, micros) in [
        (10, 499i64),
        (11, 500),
        (12, -500),
        (13, 768_294_489_123_500),
    ] {
        let [own, twin] = both(&mut wire, |wire, suffix| {
            let sql = format!("INSERT INTO visits{suffix} (id, at) VALUES ({id}, $1) RETURNING at");
            let bytes = micros.to_be_bytes();
            let messages = [
                message::parse("", &sql, &[1184]),
                message::bind("", "", Format::Binary, &[Some(&bytes[..])], Format::Text),
                message::execute("", 0),
                message::sync(),
            ];
            send(wire, &messages)
        });
        assert_eq!(own, twin, "{micros}");
    }
    let [own, twin] = both(&mut wire, |wire, suffix| {
        wire.send(&message::query(&format!(
            "COPY visits{suffix} (id, at, seen) FROM STDIN"
        )));
        assert_eq!(wire.frame().kind, b'G');
        wire.send(&message::copy_data(
            b"40\t2024-05-06 07:08:09.123456+00\t2024-05-06 07:08:09.9995\n41\t\\N\t\\N\n",
        ));
        wire.send(&message::copy_done());
        wire.until_ready().iter().map(ToString::to_string).collect()
    });
    assert_eq!(own, twin);
    assert_alike(&mut wire, "COPY");
}

#[test]
fn without_a_precision_they_are_refused_with_a_hint() {
    let Some(documents) = staged() else {
        return;
    };
    let mut wire = documents.stage.wire();
    let frames =
        wire.query("INSERT INTO visits (id, exact) VALUES (1, '2024-05-06 07:08:09.123456+00')");
    let error = frames.iter().find(|frame| frame.kind == b'E').unwrap();
    assert_eq!(error.field('C'), Some("22008".to_owned()));
    let hint = error.field('H').unwrap();
    assert!(hint.contains("timestamptz(3)"), "{hint}");
}
