//! Conditions that MongoDB cannot decide narrow what is fetched of documents, and leave out no row.
//!
//! Documents come from elsewhere, with values of every type that JSON shows; the twin in PostgreSQL has the texts that
//! the router shows of them, and is asked the same.

use super::alike::both;
use super::stage::Documents;
use crate::shards::stage::{extended, say, send};
use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Decimal128, Document, doc};
use mothership_tests::Wire;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fmt::Write as _;

fn decimal(text: &str) -> Bson {
    Bson::Decimal128(text.parse::<Decimal128>().unwrap())
}

fn binary(subtype: BinarySubtype, bytes: &[u8]) -> Bson {
    Bson::Binary(Binary {
        subtype,
        bytes: bytes.to_vec(),
    })
}

/// Values of every type, many of which look like others.
fn values(random: &mut StdRng) -> Vec<Bson> {
    let mut values: Vec<Bson> = [
        "x",
        "",
        "X y",
        "blue",
        "YWI=",
        "true",
        "false",
        "null",
        "0",
        "1",
        "1.0",
        "1.50",
        "0.1",
        "-5",
        "1e2",
        "007",
        "[]",
        "[1, 2]",
        "{}",
        "{\"b\": 1}",
        "a.b",
        "$a",
        "Ä☃",
        "a\nb",
        "100%",
        "a_b",
        "back\\slash",
        "\"q\"",
        "abababababababababababab",
        "01010101-0101-0101-0101-010101010101",
        "2020-01-01T00:00:00.000Z",
        "123456789012345678901234567890123456789012",
    ]
    .iter()
    .map(|text| Bson::from(*text))
    .collect();
    values.extend([
        Bson::Boolean(true),
        Bson::Boolean(false),
        Bson::Null,
        Bson::Undefined,
        Bson::Int32(0),
        Bson::Int32(1),
        Bson::Int32(-5),
        Bson::Int64(1),
        Bson::Int64(9_223_372_036_854_775_000),
        Bson::Int64(i64::MAX),
        Bson::Double(1.0),
        Bson::Double(-0.0),
        Bson::Double(0.1),
        Bson::Double(1.5),
        Bson::Double(1e23),
        Bson::Double(1e300),
        Bson::Double(5e-324),
        Bson::Double(9_223_372_036_854_774_784.0),
        decimal("0.1"),
        decimal("0.10"),
        decimal("1.00"),
        decimal("1E+2"),
        decimal("1E+40"),
        decimal("-0"),
        decimal("0.1000000000000000055511151231257827"),
        Bson::ObjectId(ObjectId::from_bytes([0xab; 12])),
        binary(BinarySubtype::Uuid, &[1; 16]),
        binary(BinarySubtype::Generic, b""),
        binary(BinarySubtype::Generic, b"ab"),
        binary(BinarySubtype::UserDefined(0x80), b"n\xe5\x9e"),
        Bson::DateTime(DateTime::from_millis(1_577_836_800_000)),
        Bson::DateTime(DateTime::from_millis(-62_198_755_200_001)),
        Bson::Array(Vec::new()),
        Bson::from(vec![1, 2]),
        Bson::Array(vec![Bson::Null, "x".into(), Bson::Double(0.1)]),
        Bson::Array(vec![Bson::Array(vec!["x".into()])]),
        Bson::Document(Document::new()),
        doc! { "b": 1 }.into(),
        doc! { "b": "x", "": 1, "a.b": "x", "7": "x" }.into(),
        doc! { "b": { "b": "x" } }.into(),
    ]);
    for _ in 0..12 {
        let exponent = random.random_range(-30..30);
        let number = f64::from(random.random_range(-999..1_000)) * 10_f64.powi(exponent);
        values.push(Bson::Double(number));
        values.push(decimal(&number.to_string()));
        let bits = f64::from_bits(random.random());
        values.push(Bson::Double(if bits.is_finite() { bits } else { 0.5 }));
    }
    values
}

/// A document of each, as it is and in others, in two arrays of them.
fn documents(values: &[Bson]) -> Vec<Document> {
    let mut documents = vec![doc! { "small": 1 }, doc! { "data": Bson::Null }];
    for value in values {
        let value = || value.clone();
        for data in [
            value(),
            doc! { "a": value(), "c": "x" }.into(),
            doc! { "a": { "b": value() } }.into(),
            doc! { "a": [value(), "x"] }.into(),
            doc! { "a": [{ "b": value() }, { "b": 7 }] }.into(),
            Bson::Array(vec![value()]),
            Bson::Array(vec![doc! { "a": value() }.into()]),
        ] {
            documents.push(doc! { "data": data });
        }
    }
    for (id, document) in (1_i64..).zip(&mut documents) {
        document.insert("_id", id);
        document.insert("kind", format!("kind {}", id % 7));
    }
    documents
}

/// Stored as they are on the shard of their key, which the router finds, and in the twin as the router shows them.
fn filled(documents: &Documents, wire: &mut Wire, values: &[Bson]) {
    let mut updates = Vec::new();
    for mut document in self::documents(values) {
        let id = document.remove("_id").unwrap();
        let sql = format!("INSERT INTO events (id, kind) VALUES ({id}, 'none')");
        assert_eq!(say(wire, &sql)[0], "CommandComplete INSERT 0 1", "{sql}");
        updates.push(doc! { "q": { "_id": id }, "u": { "$set": document } });
    }
    for database in &documents.databases {
        let update = doc! { "update": "events", "updates": updates.clone() };
        let done = documents.set.command(database, update);
        assert!(!done.contains_key("writeErrors"), "{done}");
    }
    let answer = say(wire, "INSERT INTO twin SELECT * FROM events");
    assert!(
        answer[0].starts_with("CommandComplete INSERT 0"),
        "{answer:?}"
    );
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Every text that is at one of these places, once.
fn texts(wire: &mut Wire, of: &str) -> Vec<String> {
    let sql = format!("SELECT DISTINCT {of} FROM twin WHERE {of} IS NOT NULL ORDER BY 1");
    let rows = wire.rows(&sql);
    rows.into_iter().map(|mut row| row.remove(0)).collect()
}

/// What is asked of a text of `->>`.
const OF_TEXTS: [&str; 10] = [
    "data->>'a' = {v}",
    "data->'a'->>'b' = {v}",
    "data#>>'{a,b}' = {v}",
    "{v} = (data->>'a')::text",
    "data->>'a' IN ({v}, 'x', NULL)",
    "data->>'a' = ANY (ARRAY[{v}, 'no'])",
    "data->>'a' LIKE left({v}, 1) || '%' AND data->>'a' <> {v}",
    "data ? {v}",
    "data->'a' ?| ARRAY[{v}, 'no']",
    "(data->>'a' = {v} OR small = 1 OR data->'a'->>'b' = {v})",
];

/// What is asked of a value of JSON.
const OF_VALUES: [&str; 9] = [
    "data @> {v}",
    "data = {v}",
    "data->'a' @> {v}",
    "data->'a' = {v}",
    "{v} <@ (data->'a')",
    "data @> jsonb_build_object('a', {v}::jsonb)",
    "data @> {a}",
    "data @> {b}",
    "data @> {c}",
];

fn compare(shards: usize) {
    let Some(documents) = Documents::over(shards) else {
        return;
    };
    let seed: u64 =
        std::env::var("SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut wire = documents.stage.wire();
    filled(&documents, &mut wire, &values(&mut random));
    let mut conditions = Vec::new();
    let mut all = texts(&mut wire, "data->>'a'");
    all.extend(texts(&mut wire, "data->'a'->>'b'"));
    all.sort();
    all.dedup();
    for text in all {
        conditions.extend(OF_TEXTS.map(|of| of.replace("{v}", &quoted(&text))));
    }
    let mut all = texts(&mut wire, "(data->'a')::text");
    all.extend(texts(&mut wire, "data::text"));
    all.sort();
    all.dedup();
    for text in all {
        for of in OF_VALUES {
            let condition = of
                .replace("{a}", &quoted(&format!("{{\"a\": {text}}}")))
                .replace("{b}", &quoted(&format!("{{\"a\": {{\"b\": {text}}}}}")))
                .replace("{c}", &quoted(&format!("[{text}]")))
                .replace("{v}", &quoted(&text));
            conditions.push(condition);
        }
    }
    // Each run takes others of them.
    conditions.retain(|_| random.random_bool(if shards == 1 { 0.1 } else { 0.05 }));
    println!("{} conditions", conditions.len());
    let mut wrong = String::new();
    for condition in &conditions {
        let sql = format!("SELECT id FROM {{t}} WHERE {condition}");
        let is_extended = random.random_bool(0.2);
        let [events, twin] = both(&mut wire, &sql, is_extended);
        if events != twin {
            let _ = writeln!(
                wrong,
                "{sql}\n  documents  {events:?}\n  postgresql {twin:?}"
            );
        }
    }
    assert!(conditions.len() > 200, "{}", conditions.len());
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
#[ignore = "long"]
fn conditions_on_json_leave_out_no_row_of_one_replica_set() {
    compare(1);
}

#[test]
#[ignore = "long"]
fn conditions_on_json_leave_out_no_row_of_three() {
    compare(3);
}

#[test]
fn a_parameter_narrows_as_a_constant_does() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    filled(
        &documents,
        &mut wire,
        &values(&mut StdRng::seed_from_u64(1)),
    );
    for (condition, values) in [
        ("data->>'a' = $1", &["0.1"][..]),
        ("data->>'a' = $1 AND kind <> $2", &["x", "kind 3"]),
        (
            "data->>'a' IN ($1, $2)",
            &["abababababababababababab", "true"],
        ),
        ("data->>'a' = ANY ($1)", &["{x,1.50,NULL}"]),
        ("data @> $1", &["{\"a\": 0.10}"]),
        ("data @> $1", &["{\"a\": {\"a.b\": \"x\"}}"]),
        ("data @> $1", &["{\"a\": nul}"]),
        ("data ? $1", &["a"]),
        ("data ?& $1", &["{a,c}"]),
        ("data->'a' = $1", &["1"]),
        ("data->'a' = $1", &["null"]),
        ("data->>'a' LIKE $1 || '%'", &["2020-"]),
        ("kind ILIKE $1", &["KIND _"]),
        ("(data->>'c' = $1 OR id = $2)", &["x", "5"]),
    ] {
        let [events, twin] = ["events", "twin"].map(|table| {
            let sql = format!("SELECT id FROM {table} WHERE {condition}");
            let mut answer = send(&mut wire, &extended(&sql, &[], values));
            answer.sort();
            answer
        });
        assert_eq!(events, twin, "{condition} {values:?}");
    }
}

#[test]
fn texts_that_are_no_numbers_are_still_an_error() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    let mut random = StdRng::seed_from_u64(7);
    let mut numbers: Vec<Bson> = values(&mut random);
    numbers.retain(|value| {
        matches!(
            value,
            Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) | Bson::Decimal128(_) | Bson::Null
        )
    });
    numbers.push("0.1".into());
    let documents_of = |value: &Bson| doc! { "data": { "a": value.clone() } };
    let mut made: Vec<Document> = numbers.iter().map(documents_of).collect();
    for (id, document) in (1_i64..).zip(&mut made) {
        document.insert("_id", id);
        document.insert("kind", "k");
    }
    documents
        .set
        .insert(&documents.databases[0], "events", made);
    let answer = say(&mut wire, "INSERT INTO twin SELECT * FROM events");
    assert!(
        answer[0].starts_with("CommandComplete INSERT 0"),
        "{answer:?}"
    );
    let mut ask = |condition: &str| {
        let sql = format!("SELECT id FROM {{t}} WHERE {condition}");
        let [events, twin] = both(&mut wire, &sql, false);
        // Which row is the first to fail is nobody's promise.
        let told = |answer: &[String]| -> Vec<String> {
            let failed = answer.iter().find(|line| line.starts_with("Error"));
            match failed {
                Some(line) => vec![line.chars().take("Error 22".len()).collect()],
                None => answer.to_vec(),
            }
        };
        assert_eq!(told(&events), told(&twin), "{condition}");
        told(&twin)
    };
    for of in texts(&mut documents.stage.wire(), "data->>'a'") {
        for op in ["=", "<", "<=", ">", ">=", "<>"] {
            ask(&format!("(data->>'a')::numeric {op} {}", quoted(&of)));
        }
    }
    // 0.1 is no integer.
    assert_eq!(ask("(data->>'a')::int = 1"), ["Error 22"]);
    assert_eq!(ask("(data->>'a')::int8 > 99999"), ["Error 22"]);
    for condition in ["data->>'a' LIKE '%.%'", "data->>'a' LIKE '%000'"] {
        for table in ["events", "twin"] {
            let sql = format!("DELETE FROM {table} WHERE {condition}");
            assert_eq!(
                say(&mut wire, &sql).last(),
                say(&mut wire, "SELECT 1").last(),
                "{sql}"
            );
        }
    }
    let mut ask = |condition: &str| {
        let sql = format!("SELECT id FROM {{t}} WHERE {condition}");
        let [events, twin] = both(&mut wire, &sql, false);
        assert_eq!(events, twin, "{condition}");
        twin
    };
    ask("(data->>'a')::numeric < 1");
    let answer = ask("(data->>'a')::int2 < 1");
    assert!(
        answer.iter().any(|line| line.starts_with("Error 22003")),
        "{answer:?}"
    );
}

/// The filters of what is found in MongoDB for a statement.
fn filters(wire: &mut Wire, sql: &str) -> Vec<String> {
    let explained = say(wire, &format!("EXPLAIN {sql}"));
    let filter = |line: &String| {
        let (_, rest) = line.split_once("\"filter\":")?;
        Some(rest.split_once(",\"projection\"")?.0.to_owned())
    };
    explained.iter().filter_map(filter).collect()
}

#[test]
fn a_filter_that_finds_too_much_is_never_counted_or_cut_short() {
    for shards in [1, 3] {
        let Some(documents) = Documents::over(shards) else {
            return;
        };
        let mut wire = documents.stage.wire();
        filled(
            &documents,
            &mut wire,
            &values(&mut StdRng::seed_from_u64(3)),
        );
        // That many documents have other types, which the filter has to find.
        let condition = "data->>'a' = 'blue'";
        for sql in [
            "SELECT count(*) FROM {t} WHERE {c}",
            "SELECT kind, count(*), max(id) FROM {t} WHERE {c} GROUP BY kind ORDER BY kind",
            "SELECT count(DISTINCT kind) FROM {t} WHERE {c}",
            "SELECT DISTINCT kind FROM {t} WHERE {c} ORDER BY kind",
            "SELECT avg(id) FROM {t} WHERE {c}",
            "SELECT id FROM {t} WHERE {c} ORDER BY id DESC LIMIT 2",
            "SELECT id FROM {t} WHERE {c} ORDER BY id OFFSET 1 LIMIT 1",
            "SELECT id, upper(kind) FROM {t} WHERE {c} ORDER BY id FETCH FIRST 2 ROWS ONLY",
            "SELECT count(*) FROM (SELECT id FROM {t} WHERE {c} LIMIT 2) x",
            "SELECT count(*) FROM {t} WHERE kind = 'kind 1' AND {c}",
            "SELECT i.id FROM items i LEFT JOIN {t} e ON e.id = i.id AND e.{c} ORDER BY 1",
            "SELECT a.id FROM {t} a JOIN {t} b ON b.id = a.id WHERE b.{c} AND NOT (a.{c}) ORDER BY 1",
            "SELECT count(*) FROM {t} e WHERE NOT EXISTS (SELECT 1 FROM {t} f WHERE f.id = e.id AND f.{c})",
        ] {
            let sql = sql.replace("{c}", condition);
            let [events, twin] = both(&mut wire, &sql, false);
            assert_eq!(events, twin, "{sql}");
            assert!(
                twin.iter().any(|line| line.starts_with("CommandComplete")),
                "{twin:?}"
            );
            let explained = say(
                &mut wire,
                &format!("EXPLAIN {}", sql.replace("{t}", "events")),
            );
            let is_pushed = |line: &&String| line.contains("limit") || line.contains("$group");
            let of_mongodb = explained.iter().filter(|line| line.contains("Command: {"));
            assert_eq!(of_mongodb.clone().find(is_pushed), None, "{sql}");
        }
        let found = filters(
            &mut wire,
            &format!("SELECT id FROM events WHERE {condition}"),
        );
        let wide = r#"{"$or":[{"data.a":"blue"},{"data.a":{"$type":["binData"]}}]}"#;
        assert!(
            !found.is_empty() && found.iter().all(|filter| filter == wide),
            "{found:?}"
        );
    }
}

#[test]
fn what_is_computed_for_a_write_is_of_the_rows_that_satisfy_its_condition() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    filled(
        &documents,
        &mut wire,
        &values(&mut StdRng::seed_from_u64(5)),
    );
    for sql in [
        "UPDATE {t} SET kind = upper(kind) WHERE data->>'a' = 'blue'",
        "UPDATE {t} SET small = 9 WHERE data @> '{\"a\": 0.1}'",
        "DELETE FROM {t} WHERE data->>'a' = 'true'",
        "DELETE FROM {t} WHERE data ? 'c' AND data->'a' = '[1, 2]' RETURNING id",
        "UPDATE {t} SET small = 3 WHERE kind ILIKE 'KIND 3' AND id > 30",
        "DELETE FROM {t} WHERE data->>'a' LIKE '2020%'",
        "UPDATE {t} SET words = ARRAY['a', NULL, 'c d'] WHERE id <= small RETURNING id, words",
        "UPDATE {t} SET count = 7 WHERE words && ARRAY['c d'] AND id = small",
        "DELETE FROM {t} WHERE kind >= kind AND words @> ARRAY['a'] RETURNING id, small, count",
    ] {
        let [events, twin] = both(&mut wire, sql, false);
        assert_eq!(events, twin, "{sql}");
        let [events, twin] = both(
            &mut wire,
            "SELECT id, kind, small, count, words FROM {t} ORDER BY id",
            false,
        );
        assert_eq!(events, twin, "after {sql}");
    }
}

#[test]
fn a_client_cannot_ask_for_rows_that_may_be_too_many() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    filled(
        &documents,
        &mut wire,
        &values(&mut StdRng::seed_from_u64(5)),
    );
    let condition = "mothership.perhaps(data->>'a' = 'blue')";
    for sql in [
        "SELECT id FROM events WHERE {c}",
        "SELECT id FROM events WHERE id < 1000 AND {c}",
        "SELECT count(*) FROM events WHERE {c}",
        "SELECT id FROM events WHERE {c} ORDER BY id LIMIT 1",
        "EXPLAIN SELECT id FROM events WHERE {c}",
        "COPY (SELECT id FROM events WHERE {c}) TO STDOUT",
        "UPDATE events SET small = 1 WHERE {c}",
        "DELETE FROM events WHERE {c}",
        "WITH w AS (DELETE FROM events WHERE {c} RETURNING id) SELECT * FROM w",
    ] {
        let sql = sql.replace("{c}", condition);
        let mut answers = vec![say(&mut wire, &sql)];
        if !sql.starts_with("COPY") {
            answers.push(send(&mut wire, &extended(&sql, &[], &[])));
        }
        for answer in answers {
            let fails = answer.iter().any(|line| line.starts_with("Error "));
            let has_rows = answer.iter().any(|line| line.starts_with("DataRow"));
            assert!(fails && !has_rows, "{sql}: {answer:?}");
        }
    }
    // A function of the name is PostgreSQL's to call. It is made past the router, which keeps its schema for itself.
    let shards = &documents.stage.shards;
    shards.sql_all("CREATE SCHEMA IF NOT EXISTS mothership");
    let function = "CREATE FUNCTION mothership.perhaps(boolean) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT $1'";
    shards.sql_all(function);
    let answer = say(&mut wire, "CREATE TABLE read_again (id int)");
    assert_eq!(answer[0], "CommandComplete CREATE TABLE");
    for sql in [
        "SELECT id FROM {t} WHERE {c}",
        "SELECT count(*) FROM {t} WHERE {c}",
    ] {
        let sql = sql.replace("{c}", condition);
        let [events, twin] = both(&mut wire, &sql, false);
        assert_eq!(events, twin, "{sql}");
    }
}

#[test]
fn what_is_exact_is_a_command_of_its_own() {
    for shards in [1, 3] {
        let Some(documents) = Documents::over(shards) else {
            return;
        };
        let mut wire = documents.stage.wire();
        super::alike::filled(&documents, &mut wire);
        for condition in [
            "kind ILIKE 'A%'",
            "kind ILIKE 'ärger%'",
            "kind ILIKE 'Ärger _ _'",
            "kind NOT ILIKE 'pl%'",
            "kind ILIKE '%\\\\b%'",
            "name LIKE '%!%!_' ESCAPE '!'",
            "name LIKE '%\\_' ESCAPE ''",
            "kind NOT LIKE 'Ao%' ESCAPE 'o'",
            "kind ILIKE 'Oa' ESCAPE 'O'",
            "small = count",
            "small <> count",
            "NOT (small < count)",
            "count >= id",
            "kind > name",
            "kind = kind",
            "name <= kind",
            "small = small AND NOT (count = count)",
            "words @> ARRAY['a']",
            "words @> ARRAY['z', 'm']",
            "ARRAY['x'] <@ words",
            "NOT (words @> ARRAY[NULL]::text[])",
            "words && ARRAY['a', 'x']",
            "words && ARRAY['nothing', NULL]",
            "'{a,m}' && words",
            "NOT (words && ARRAY['a', 'x'])",
            "NOT (words && '{}')",
            "words && NULL",
            "kind = ANY (ARRAY['plain', 'b', NULL])",
            "kind <> ALL (ARRAY['plain', 'b'])",
            "id = ANY (ARRAY[1, 2, 9223372036854775807])",
            "tag = ANY (ARRAY['ffffffff-ffff-4fff-bfff-ffffffffffff']::uuid[])",
            "ratio = ANY (ARRAY[0.5, 0]::float8[])",
            "amount = ANY (ARRAY[1, 5.0])",
            "day = ANY (ARRAY['2024-02-29'::date])",
        ] {
            let sql = format!("SELECT id FROM {{t}} WHERE {condition}");
            for is_extended in [false, true] {
                let [events, twin] = both(&mut wire, &sql, is_extended);
                assert_eq!(events, twin, "{sql}");
            }
            let route = say(
                &mut wire,
                &format!("EXPLAIN (ROUTE) {}", sql.replace("{t}", "events")),
            );
            let is_gathered = route.iter().any(|line| line.contains("Plan: Gather"));
            assert!(!is_gathered, "{sql}: {route:?}");
        }
    }
}
