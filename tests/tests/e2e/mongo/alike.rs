//! What SQL says of documents is what it says of the same rows in PostgreSQL.

use super::stage::Documents;
use crate::shards::stage::{extended, lines, one, say, send};
use mongodb::bson::{Bson, doc};
use mothership_tests::Wire;
use mothership_tests::mongo::ReplicaSet;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;

/// Rows with everything that a column can have.
const ROWS: [&str; 12] = [
    "(1, 'plain', 5.00, 1, 10, 0.5, true, '2020-01-02 03:04:05.678+00', '2020-01-02', \
      '00000000-0000-4000-8000-000000000001', '{\"b\": 1, \"aa\": [1, 2.50, null]}', '{a,NULL,\"c d\"}', '\\x00ff', 'eins')",
    "(2, 'other', -0.001, -1, NULL, '-0', false, '1969-12-31 23:59:59.999+00', '1900-02-28', NULL, '[]', '{}', '', 'zwei')",
    "(3, 'other', NULL, 32767, 2147483647, 'NaN', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    "(4, 'plain', 'NaN', -32768, -2147483648, 'Infinity', true, '0044-03-15 12:00:00+00 BC', '10000-01-01', NULL, \
      '\"text\"', '{\"\"}', NULL, '')",
    "(5, 'Ärger ☃ 😀', 12345678901234567890.5, 0, 0, 1e15, false, '2024-02-29 00:00:00+00', '2024-02-29', \
      'ffffffff-ffff-4fff-bfff-ffffffffffff', '{\"k\": {\"n\": \"x\"}}', '{z,a,m}', '\\xdeadbeef', 'ÄÖÜäöü')",
    "(6, '', 0, 5, 7, 1e-7, true, '2020-01-02 03:04:05.678+00', '2020-01-02', NULL, 'true', '{x}', '\\x5c', 'abc%_')",
    "(9223372036854775807, 'big', 1e10, 5, 7, 0, NULL, NULL, NULL, NULL, '1.50', NULL, NULL, 'max')",
    "(-9223372036854775808, 'big', 99999999999999999999999999999999.99, 6, 8, 3.0, NULL, NULL, NULL, NULL, '-7', NULL, NULL, 'min')",
    "(10, 'a', 1, 1, 1, 1, true, '2021-06-01 10:00:00+02', '2021-06-01', NULL, '{}', NULL, NULL, 'a')",
    "(11, 'b', 1.0, 1, 1, 1, true, '2021-06-01 08:00:00+00', '2021-06-01', NULL, '{}', NULL, NULL, 'b')",
    "(12, 'A', 1.00, 2, NULL, 2, false, NULL, NULL, NULL, NULL, NULL, NULL, 'A')",
    "(13, 'a\\b''c', -1, 2, -5, -2.5, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'q''s')",
];

/// Queries on `{t}`. What has no order of its own is compared as a set.
const QUERIES: [&str; 97] = [
    "WITH x AS (SELECT * FROM {t}) SELECT 1",
    "WITH x AS (SELECT kind FROM {t}) SELECT id, v FROM items ORDER BY id",
    "SELECT k.title FROM kinds k WHERE k.name IN (WITH x AS (TABLE {t}) SELECT 'plain')",
    "SELECT * FROM {t} ORDER BY id",
    "TABLE {t}",
    "SELECT id FROM {t} WHERE id = 1",
    "SELECT id, kind FROM {t} WHERE id = 9223372036854775807",
    "SELECT id FROM {t} WHERE id IN (1, 2, 3, 999)",
    "SELECT id FROM {t} WHERE id NOT IN (1, 2, 3)",
    "SELECT id FROM {t} WHERE kind = 'plain'",
    "SELECT id FROM {t} WHERE kind <> 'plain'",
    "SELECT id FROM {t} WHERE count <> 7",
    "SELECT id FROM {t} WHERE NOT (count = 7)",
    "SELECT id FROM {t} WHERE count IS NULL",
    "SELECT id FROM {t} WHERE count IS NOT NULL AND small > 0",
    "SELECT id FROM {t} WHERE count > 2.5",
    "SELECT id FROM {t} WHERE amount = 1",
    "SELECT id FROM {t} WHERE amount > 0.5",
    "SELECT id FROM {t} WHERE ratio = 'NaN'",
    "SELECT id FROM {t} WHERE ratio = 0",
    "SELECT id FROM {t} WHERE ratio > 0.4",
    "SELECT id FROM {t} WHERE is_on",
    "SELECT id FROM {t} WHERE is_on IS NOT TRUE",
    "SELECT id FROM {t} WHERE at = '2020-01-02 03:04:05.678+00'",
    "SELECT id FROM {t} WHERE at > '2020-01-02 03:04:05.6771+00'",
    "SELECT id FROM {t} WHERE day BETWEEN '2000-01-01' AND '2022-01-01'",
    "SELECT id FROM {t} WHERE tag = 'FFFFFFFF-ffff-4fff-bfff-ffffffffffff'",
    "SELECT id FROM {t} WHERE kind LIKE 'a%'",
    "SELECT id FROM {t} WHERE name LIKE '%\\%\\_'",
    "SELECT id FROM {t} WHERE kind ILIKE 'A%'",
    "SELECT id FROM {t} WHERE kind < 'b'",
    "SELECT id FROM {t} WHERE data IS NULL",
    "SELECT id FROM {t} WHERE data @> '{\"k\": {}}'",
    "SELECT id FROM {t} WHERE data->'k'->>'n' = 'x'",
    "SELECT id FROM {t} WHERE 'a' = ANY (words)",
    "SELECT id FROM {t} WHERE raw = '\\xdeadbeef'",
    "SELECT id FROM {t} WHERE length(kind) > 4",
    "SELECT id FROM {t} WHERE kind = 'plain' OR (small = 2 AND NOT is_on)",
    "SELECT id FROM {t} WHERE count = NULL",
    "SELECT id, count FROM {t} ORDER BY count, id",
    "SELECT id, count FROM {t} ORDER BY count DESC, id DESC",
    "SELECT id, count FROM {t} ORDER BY count NULLS FIRST, id LIMIT 4",
    "SELECT id, kind FROM {t} ORDER BY kind, id LIMIT 3 OFFSET 2",
    "SELECT id, ratio FROM {t} ORDER BY ratio, id",
    "SELECT id, amount FROM {t} ORDER BY amount DESC, id",
    "SELECT id FROM {t} ORDER BY id LIMIT 0",
    "SELECT id::text, kind AS k FROM {t} WHERE id < 5 ORDER BY id",
    "SELECT count(*) FROM {t}",
    "SELECT count(count), count(DISTINCT kind), sum(small), min(count), max(kind) FROM {t}",
    "SELECT sum(id), avg(amount), sum(amount) FROM {t} WHERE id < 100",
    "SELECT count(*), sum(small), min(at) FROM {t} WHERE id = 99",
    "SELECT kind, count(*), sum(count) FROM {t} GROUP BY kind ORDER BY kind",
    "SELECT small, count(*) FROM {t} GROUP BY small HAVING count(*) > 1 ORDER BY small",
    "SELECT DISTINCT kind FROM {t} ORDER BY kind",
    "SELECT DISTINCT small, is_on FROM {t} ORDER BY small DESC, is_on NULLS FIRST LIMIT 5 OFFSET 1",
    "SELECT DISTINCT day AS d FROM {t} WHERE id < 100 ORDER BY d",
    "SELECT DISTINCT kind, 1, at FROM {t}",
    "SELECT DISTINCT true FROM {t}",
    "SELECT DISTINCT true FROM {t} WHERE id = 99",
    "SELECT DISTINCT kind FROM {t} ORDER BY id",
    "SELECT kind, max(small) FROM {t} GROUP BY kind HAVING sum(count) > 5 AND kind <> 'b' ORDER BY kind",
    "SELECT kind FROM {t} GROUP BY kind HAVING sum(count) IS NULL OR max(id) > 9223372036854775000",
    "SELECT small, kind FROM {t} GROUP BY small, kind HAVING NOT (min(name) IN ('A', 'max')) AND small < 9",
    "SELECT is_on FROM {t} GROUP BY is_on HAVING is_on OR sum(id) < 2.5",
    "SELECT count(*) FROM {t} HAVING count(*) > 100",
    "SELECT bool_and(is_on), bool_or(is_on), every(is_on) FROM {t}",
    "SELECT small, bool_and(is_on), bool_or(is_on) FROM {t} GROUP BY 1 ORDER BY 1",
    "SELECT count(DISTINCT small) FROM {t}",
    "SELECT count(DISTINCT kind), sum(count) AS s, count(*), min(id), max(day), sum(id), bool_or(is_on) FROM {t} WHERE id < 99",
    "SELECT kind, count(DISTINCT small) AS n, sum(count), max(id) FROM {t} GROUP BY kind ORDER BY n DESC, 1",
    "SELECT is_on FROM {t} GROUP BY is_on HAVING count(DISTINCT kind) > 2 AND count(name) > 2",
    "SELECT upper(kind) AS k, count(*) + 1, avg(small), max(name) || '!' FROM {t} GROUP BY kind ORDER BY k",
    "SELECT avg(count), avg(small), sum(count) / 2, min(kind), max(id) FROM {t}",
    "SELECT avg(count), bool_or(is_on) FROM {t} WHERE id = 99",
    "SELECT small, avg(DISTINCT count), count(DISTINCT kind) FROM {t} WHERE id < 100 GROUP BY small ORDER BY small",
    "SELECT kind, count(*) AS n FROM {t} GROUP BY kind HAVING avg(small) > 1 ORDER BY n DESC, kind LIMIT 3",
    "WITH x AS (SELECT small, sum(count) AS s FROM {t} GROUP BY small) SELECT small, s * 2 FROM x WHERE s > 5 ORDER BY 1",
    "SELECT k.title, x.n FROM kinds k JOIN (SELECT kind, count(*) AS n FROM {t} GROUP BY kind) x ON x.kind = k.name ORDER BY 1",
    "SELECT id, kind FROM {t} ORDER BY kind DESC, id LIMIT 4 OFFSET 1",
    "SELECT id, ratio FROM {t} ORDER BY ratio DESC NULLS LAST, id LIMIT 5",
    "SELECT id, amount FROM {t} ORDER BY amount, id OFFSET 3 LIMIT 4",
    "SELECT id, upper(kind) FROM {t} WHERE small > 0 ORDER BY at DESC, id FETCH FIRST 3 ROWS ONLY",
    "SELECT DISTINCT small AS id, id AS small FROM {t} ORDER BY (id) NULLS FIRST, 2",
    "SELECT kind, small FROM {t} ORDER BY (2), (id)",
    "SELECT kind FROM {t} GROUP BY kind HAVING max(day) > '1 Feb 2020' ORDER BY kind",
    "SELECT id, row_number() OVER (ORDER BY small, id) FROM {t} ORDER BY id",
    "SELECT id, upper(kind) || '!' FROM {t} WHERE id < 5 ORDER BY id",
    "SELECT e.id, k.title FROM {t} e JOIN kinds k ON k.name = e.kind ORDER BY e.id",
    "SELECT e.id, i.v FROM {t} e LEFT JOIN items i ON i.id = e.id ORDER BY e.id",
    "SELECT i.id, e.kind FROM items i JOIN {t} e USING (id) WHERE i.v > 100 ORDER BY 1",
    "SELECT id FROM {t} a WHERE EXISTS (SELECT 1 FROM {t} b WHERE b.kind = a.kind AND b.id <> a.id) ORDER BY id",
    "WITH x AS (SELECT kind, max(id) AS most FROM {t} GROUP BY kind) SELECT * FROM x ORDER BY kind",
    "SELECT id FROM {t} WHERE small = 1 UNION SELECT id FROM items ORDER BY 1",
    "SELECT id FROM {t} WHERE id IN (SELECT id FROM items) ORDER BY id",
    "SELECT a.id, b.id FROM {t} a, {t} b WHERE a.small = b.small AND a.id < b.id ORDER BY 1, 2",
    "SELECT id, at AT TIME ZONE 'Europe/Berlin', day + 1 FROM {t} WHERE at IS NOT NULL ORDER BY id",
    "SELECT {t} IS NULL, data->'aa'->>1 FROM {t} WHERE id = 1",
];

/// Writes to `{t}`, one after the other; what each answers, and what is there then, is compared.
const WRITES: [&str; 30] = [
    "INSERT INTO {t} (id) VALUES (20)",
    "INSERT INTO {t} (id, kind) VALUES (21, 'x'), (22, DEFAULT) RETURNING id, kind, count",
    "INSERT INTO {t} (id, kind) VALUES (23, 'x'), (20, 'again')",
    "INSERT INTO {t} (id, kind) VALUES (24, NULL)",
    "INSERT INTO {t} (id, small) VALUES (25, 40000)",
    "INSERT INTO {t} (id, name) VALUES (26, 'much too long a name')",
    "INSERT INTO {t} (id, count) VALUES (27, 'five')",
    "INSERT INTO {t} (id, amount) VALUES (28, '1.50') RETURNING *",
    "INSERT INTO {t} (id, kind) VALUES (20, 'y'), (29, 'y') ON CONFLICT DO NOTHING",
    "INSERT INTO {t} (id, kind) VALUES (20, 'z') ON CONFLICT (id) DO UPDATE SET kind = EXCLUDED.kind RETURNING id, kind",
    "UPDATE {t} SET kind = 'changed' WHERE id = 21",
    "UPDATE {t} SET kind = 'changed' WHERE id = 999",
    "UPDATE {t} SET count = count + 1 WHERE id = 1 RETURNING id, count",
    "UPDATE {t} SET count = count + 1 WHERE id = 3",
    "UPDATE {t} SET count = NULL, amount = 2.50, name = DEFAULT WHERE kind = 'big'",
    "UPDATE {t} SET kind = NULL WHERE id = 1",
    "UPDATE {t} SET kind = NULL WHERE id = 999",
    "UPDATE {t} SET is_on = NOT is_on WHERE id = 999",
    "UPDATE {t} SET small = small - 1 WHERE count IS NOT NULL AND small > 0",
    "UPDATE {t} SET data = '{\"n\": [1, {\"z\": null}]}', words = '{p,q}' WHERE id = 2 RETURNING data, words",
    "UPDATE {t} SET at = '2022-02-02 02:02:02.002+00', day = '2022-02-02' WHERE id IN (5, 6) RETURNING id, at, day",
    "UPDATE {t} SET name = 'n' WHERE kind LIKE 'chan%' RETURNING *",
    "DELETE FROM {t} WHERE id = 22",
    "DELETE FROM {t} WHERE id = 22",
    "DELETE FROM {t} WHERE kind = 'x' OR small IS NULL RETURNING id",
    "DELETE FROM {t} WHERE ratio = 'NaN'",
    "INSERT INTO {t} (id, at) VALUES (40, '2020-13-01')",
    "INSERT INTO {t} VALUES (41, 'all', 1, 2, 3, 4, true, '2020-01-01 00:00:00+00', '2020-01-01', NULL, '1', '{}', '\\x01', 'n')",
    "DELETE FROM {t}",
    "SELECT count(*) FROM {t}",
];

pub(super) fn filled(documents: &Documents, wire: &mut Wire) {
    for row in ROWS {
        for table in ["twin", "events"] {
            let answer = say(wire, &format!("INSERT INTO {table} VALUES {row}"));
            assert_eq!(
                answer[0], "CommandComplete INSERT 0 1",
                "{table} {row}: {answer:?}"
            );
        }
    }
    for sql in [
        "INSERT INTO items SELECT g, g * 100 FROM generate_series(1, 12) g",
        "INSERT INTO kinds VALUES ('plain', 'Plain'), ('other', 'Other'), ('none', 'None')",
    ] {
        say(wire, sql);
    }
    let stored: usize = documents
        .databases
        .iter()
        .map(|database| {
            documents
                .set
                .find(database, "events", Default::default())
                .len()
        })
        .sum();
    assert_eq!(stored, ROWS.len());
}

/// Both answers to a statement, each on its table; in the order in which they came only where the text has one.
pub(super) fn both(wire: &mut Wire, sql: &str, is_extended: bool) -> [Vec<String>; 2] {
    ["events", "twin"].map(|table| {
        let sql = sql.replace("{t}", table);
        let mut answer = match is_extended {
            false => say(wire, &sql),
            true => send(wire, &extended(&sql, &[], &[])),
        };
        if !sql.contains("ORDER BY") {
            answer.sort();
        }
        answer
            .into_iter()
            .map(|line| {
                line.replace("\"twin\"", "\"events\"")
                    .replace("twin_pkey", "events_pkey")
            })
            .collect()
    })
}

fn compare(documents: &Documents) {
    filled(documents, &mut documents.stage.wire());
    ask_both(documents);
}

fn ask_both(documents: &Documents) {
    let mut wire = documents.stage.wire();
    let mut wrong = Vec::new();
    for is_extended in [false, true] {
        if is_extended {
            say(&mut wire, "SET TimeZone = 'America/New_York'");
        }
        for sql in QUERIES {
            let [events, twin] = both(&mut wire, sql, is_extended);
            if events != twin {
                wrong.push(format!(
                    "{sql}\n  documents  {events:?}\n  postgresql {twin:?}"
                ));
            }
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
fn queries_on_one_replica_set_answer_as_postgresql_does() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    compare(&documents);
}

#[test]
fn queries_on_three_shards_of_documents_answer_as_postgresql_does() {
    let Some(documents) = Documents::over(3) else {
        return;
    };
    compare(&documents);
}

#[test]
fn values_of_all_sizes_are_written_as_postgresql_writes_them() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let seed: u64 =
        std::env::var("SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut wire = documents.stage.wire();
    for from in (0..2_000).step_by(500) {
        let rows: Vec<_> = (from..from + 500).map(|id| row(&mut random, id)).collect();
        let sql = format!(
            "INSERT INTO {{t}} (id, ratio, amount, at) VALUES {}",
            rows.join(", ")
        );
        let [events, twin] = both(&mut wire, &sql, false);
        assert_eq!(events, twin);
        assert_eq!(events[0], "CommandComplete INSERT 0 500", "{events:?}");
    }
    for zone in ["UTC", "America/New_York", "Asia/Kolkata"] {
        say(&mut wire, &format!("SET TimeZone = '{zone}'"));
        let sql = "SELECT id, ratio, amount, at FROM {t} ORDER BY id";
        let [events, twin] = both(&mut wire, sql, false);
        // A description, the rows and what ends them.
        assert!(twin.len() > 2_000, "{}", twin.len());
        for (ours, theirs) in events.iter().zip(&twin) {
            assert_eq!(ours, theirs);
        }
        assert_eq!(events.len(), twin.len());
    }
}

/// A row of a double, a numeric and a time.
fn row(random: &mut StdRng, id: u32) -> String {
    let bits: u64 = random.random();
    let ratio = match random.random_range(0..5) {
        0 => f64::from_bits(bits),
        1 => (bits >> random.random_range(0..64)) as f64 / 100.0,
        // Few bits, far from the point: half way between decimals of few digits.
        2 => (bits >> 44) as f64 * 2_f64.powi(random.random_range(-100..100)),
        3 => 2_f64.powi(random.random_range(-1_022..1_024)),
        _ => f64::from(random.random_range(1..1_000)) * 10_f64.powi(random.random_range(-290..290)),
    };
    let count: u32 = random.random_range(1..=34);
    let digits = random.random_range(0..10_u128.pow(count));
    let scale = random.random_range(0..=20);
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = ["", "-"][random.random_range(0..2)];
    let mut part = |most: u32| random.random_range(1..=most);
    let (year, month, day) = (part(4_000), part(12), part(28));
    let (hour, minute, second) = (part(23), part(59), part(59));
    let fraction_of_second = [0, part(9) * 100, part(999)][part(3) as usize - 1];
    let era = ["", "", "", " BC"][part(4) as usize - 1];
    format!(
        "({id}, '{ratio:e}', '{sign}{whole}.{fraction}', '{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{fraction_of_second:03}+00{era}')"
    )
}

#[test]
fn queries_where_null_is_a_field_left_out_answer_as_postgresql_does() {
    for shards in [1, 3] {
        let Some(documents) = Documents::omitting(shards) else {
            return;
        };
        compare(&documents);
        for database in &documents.databases {
            let fields = ["amount", "of", "of.count", "of.name", "at", "data", "tag"];
            let nulls = fields.map(|field| doc! { field: { "$type": "null" } });
            let any = doc! { "$or": nulls.to_vec() };
            assert_eq!(documents.set.find(database, "events", any), []);
        }
        // Others may write what they like: some of each are null, and are not there.
        for (database, field) in documents.databases.iter().zip(["amount", "of.count", "at"]) {
            let is_null = doc! { "q": { field: Bson::Null }, "u": { "$set": { field: Bson::Null } }, "multi": true };
            let update = doc! { "update": "events", "updates": [is_null] };
            documents.set.command(database, update);
        }
        ask_both(&documents);
    }
}

#[test]
fn writes_do_and_answer_what_they_do_in_postgresql() {
    for documents in [Documents::over(1), Documents::omitting(1)] {
        let Some(documents) = documents else {
            return;
        };
        compare_writes(&documents);
    }
}

fn compare_writes(documents: &Documents) {
    let mut wire = documents.stage.wire();
    filled(documents, &mut wire);
    for sql in WRITES {
        let [events, twin] = both(&mut wire, sql, false);
        assert_eq!(events, twin, "{sql}");
        let [events, twin] = both(&mut wire, "SELECT * FROM {t} ORDER BY id", false);
        assert_eq!(events, twin, "after {sql}");
    }
}

#[test]
fn a_write_goes_to_the_shard_of_its_key_and_is_refused_on_several() {
    let Some(documents) = Documents::over(3) else {
        return;
    };
    let mut wire = documents.stage.wire();
    let ids: Vec<String> = (1..=30).map(|id: i64| id.to_string()).collect();
    for id in &ids {
        let sql = format!("INSERT INTO events (id) VALUES ({id}) RETURNING id");
        assert_eq!(one(&mut wire, &sql), *id);
    }
    let stored = |database: &String| {
        documents
            .set
            .find(database, "events", Default::default())
            .len()
    };
    let stored: Vec<usize> = documents.databases.iter().map(stored).collect();
    assert!(stored.iter().all(|count| *count > 0), "{stored:?}");
    assert_eq!(stored.iter().sum::<usize>(), 30);
    assert_eq!(
        say(&mut wire, "UPDATE events SET small = 1 WHERE id = 7")[0],
        "CommandComplete UPDATE 1"
    );
    assert_eq!(
        say(&mut wire, "DELETE FROM events WHERE id = 8")[0],
        "CommandComplete DELETE 1"
    );
    for sql in [
        "INSERT INTO events (id) VALUES (41), (42), (43), (44), (45), (46)",
        "UPDATE events SET small = 2",
        "DELETE FROM events",
    ] {
        assert_eq!(
            say(&mut wire, sql),
            [
                "Error 0A000 a write to documents on several replica sets is not supported",
                "ReadyForQuery I"
            ],
            "{sql}"
        );
    }
    assert_eq!(one(&mut wire, "SELECT count(*) FROM events"), "29");
    assert_eq!(one(&mut wire, "SELECT sum(small) FROM events"), "1");
}

#[test]
fn the_catalog_has_such_tables_like_any_other() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    let columns = |table: &str| {
        format!(
            "SELECT column_name, data_type, is_nullable FROM information_schema.columns \
             WHERE table_name = '{table}' ORDER BY ordinal_position"
        )
    };
    // The name of a table of documents in a string is no statement about documents.
    let events = lines(&wire.query(&columns("events")));
    assert_eq!(events, lines(&wire.query(&columns("twin"))));
    assert!(events.len() > 14, "{events:?}");
    let key =
        "SELECT conname FROM pg_constraint WHERE conrelid = 'events'::regclass AND contype = 'p'";
    assert_eq!(one(&mut wire, key), "events_pkey");
    let explained = say(&mut wire, "EXPLAIN SELECT id FROM events WHERE kind = 'x'");
    assert!(
        explained.concat().contains("\"find\":\"events\""),
        "{explained:?}"
    );
}

#[test]
fn a_collation_of_the_collection_changes_no_answer() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let collation = doc! { "locale": "en", "strength": 1 };
    let create = doc! { "create": "events", "collation": collation };
    documents.set.command(&documents.databases[0], create);
    compare(&documents);
    let mut wire = documents.stage.wire();
    for sql in [
        "UPDATE {t} SET small = 7 WHERE kind = 'A'",
        "UPDATE {t} SET small = 8 WHERE kind = 'A' RETURNING id",
        "UPDATE {t} SET small = 9 WHERE id = 12 AND kind = 'a' RETURNING id",
        "DELETE FROM {t} WHERE kind = 'A' RETURNING id",
        "DELETE FROM {t} WHERE kind = 'PLAIN'",
    ] {
        let [events, twin] = both(&mut wire, sql, false);
        assert_eq!(events, twin, "{sql}");
    }
}

#[test]
fn copies_have_the_rows_of_their_queries() {
    for shards in [1, 3] {
        let Some(documents) = Documents::over(shards) else {
            return;
        };
        let mut wire = documents.stage.wire();
        filled(&documents, &mut wire);
        for sql in [
            "COPY (SELECT * FROM {t} ORDER BY id) TO STDOUT",
            "COPY (TABLE {t} ORDER BY id) TO STDOUT (FORMAT csv, HEADER)",
            "COPY (SELECT id, at, amount FROM {t} ORDER BY id) TO STDOUT (FORMAT binary)",
            "COPY (SELECT kind, count(*) FROM {t} GROUP BY kind ORDER BY kind) TO STDOUT",
            "COPY {t} TO STDOUT",
            "COPY public.{t} (kind, \"id\") TO STDOUT (FORMAT csv)",
        ] {
            let [mut events, mut twin] = ["events", "twin"].map(|table| {
                let sql = sql.replace("{t}", table);
                let frames = wire.query(&sql);
                let data = frames.iter().map(|frame| (frame.kind, frame.body.clone()));
                data.collect::<Vec<_>>()
            });
            assert!(twin.len() > 3, "{sql}");
            if !sql.contains("ORDER BY") {
                events.sort();
                twin.sort();
            }
            assert_eq!(events, twin, "{sql}");
        }
    }
}

#[test]
fn what_cannot_be_done_is_refused_with_a_reason() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    for sql in [
        "TRUNCATE events",
        "ALTER TABLE events ADD COLUMN x int",
        "DROP TABLE events",
        "DROP SCHEMA public CASCADE",
        "DROP SCHEMA IF EXISTS elsewhere, \"public\"",
        "DROP SCHEMA PUBLIC RESTRICT",
        "DROP SCHEMA U&\"publ\\0069c\" CASCADE",
        "ALTER SCHEMA public RENAME TO other",
        "COPY (DELETE FROM events RETURNING id) TO STDOUT",
        "UPDATE events SET id = id + 1",
        "UPDATE events SET (kind, small) = (SELECT 'x', 1)",
        "MERGE INTO items USING events ON items.id = events.id WHEN MATCHED THEN DELETE",
        "MERGE INTO events USING items ON items.id = events.id WHEN MATCHED THEN UPDATE SET id = 5",
        "SELECT * FROM (SELECT * FROM events FOR UPDATE) AS e",
        "SELECT * FROM events JOIN items ON items.id = events.id FOR UPDATE",
        "SELECT * FROM events LEFT JOIN items ON items.id = events.id FOR UPDATE OF events",
    ] {
        let answer = say(&mut wire, sql);
        assert!(answer[0].starts_with("Error 0A000"), "{sql}: {answer:?}");
        assert_eq!(answer.len(), 2, "{sql}: {answer:?}");
    }
}

#[test]
fn what_is_sorted_and_grouped_may_be_more_than_memory_takes() {
    let set = ReplicaSet::start("disk", 1).map(Arc::new);
    let Some(documents) = Documents::on(set, 1, "") else {
        return;
    };
    // As before MongoDB 6.0, with less memory.
    let little = doc! {
        "setParameter": 1,
        "allowDiskUseByDefault": false,
        "internalQueryMaxBlockingSortMemoryUsageBytes": 50_000,
        "internalDocumentSourceGroupMaxMemoryBytes": 50_000,
    };
    documents.set.command("admin", little);
    let mut wire = documents.stage.wire();
    let rows = (0..2_000).map(|id| format!("({id}, 'kind {id} {}', {})", "x".repeat(100), id % 7));
    let rows: Vec<_> = rows.collect();
    let sql = format!(
        "INSERT INTO {{t}} (id, kind, small) VALUES {}",
        rows.join(", ")
    );
    both(&mut wire, &sql, false);
    for sql in [
        // A find, one whose sort needs a rank, and groups.
        "SELECT id FROM {t} ORDER BY kind",
        "SELECT id FROM {t} ORDER BY small, kind",
        "SELECT kind, count(*) FROM {t} GROUP BY kind ORDER BY kind",
        "SELECT DISTINCT kind FROM {t} ORDER BY kind",
        "SELECT count(DISTINCT kind) FROM {t}",
    ] {
        let [events, twin] = both(&mut wire, sql, false);
        assert_eq!(events, twin, "{sql}");
    }
}
