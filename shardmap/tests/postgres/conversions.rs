//! A value of one type against a column of another: the key that is found is the one PostgreSQL compares equal to.

use mothership_shardmap::{KeyError, KeyType, TextContext, TimeZone};

use crate::cluster::{Cluster, Database, reader, send_function, unhex};
use crate::values::{Random, seed, texts};

const VALUES: usize = 300;

/// Column and parameter types that PostgreSQL compares with each other.
const PAIRS: [(KeyType, KeyType); 17] = [
    (KeyType::Int2, KeyType::Int4),
    (KeyType::Int2, KeyType::Int8),
    (KeyType::Int4, KeyType::Int2),
    (KeyType::Int8, KeyType::Int4),
    (KeyType::Int2, KeyType::Numeric),
    (KeyType::Int4, KeyType::Numeric),
    (KeyType::Int8, KeyType::Numeric),
    (KeyType::Numeric, KeyType::Int2),
    (KeyType::Numeric, KeyType::Int8),
    (KeyType::Text, KeyType::Varchar),
    (KeyType::Varchar, KeyType::Text),
    (KeyType::Date, KeyType::Timestamp),
    (KeyType::Date, KeyType::TimestampTz),
    (KeyType::Timestamp, KeyType::Date),
    (KeyType::Timestamp, KeyType::TimestampTz),
    (KeyType::TimestampTz, KeyType::Date),
    (KeyType::TimestampTz, KeyType::Timestamp),
];

#[test]
fn a_converted_key_is_what_postgres_compares_equal() {
    let seed = seed();
    let database = Cluster::shared().database("conversions");
    let sessions = [
        ("set timezone = 'UTC';", TextContext::UTC),
        (
            "set timezone = 'Asia/Kathmandu';",
            TextContext {
                time_zone: TimeZone::Other,
                ..TextContext::UTC
            },
        ),
    ];
    for (column, sent) in PAIRS {
        for (settings, context) in sessions {
            check(&database, seed, column, sent, settings, &context);
        }
    }
}

/// The same texts are read as both types, so that many are equal.
fn check(
    database: &Database,
    seed: u64,
    column: KeyType,
    sent: KeyType,
    settings: &str,
    context: &TextContext,
) {
    let mut random = Random::new(seed, &format!("{}{}", column.name(), sent.name()));
    let mut values = texts(&mut random, column, VALUES);
    values.extend(texts(&mut random, sent, VALUES));
    values.extend(SHARED.iter().map(|text| text.to_string()));
    let (c, s) = (column.name(), sent.name());
    let readers = reader(c, "read_column") + &reader(s, "read_sent");
    database.run("drop table if exists texts; drop table if exists c; drop table if exists s;");
    database.run("drop function if exists read_column; drop function if exists read_sent;");
    database.load("texts", &values);
    database.run(&format!(
        "{settings} {readers}
         create table c as select id, f.v from texts, read_column(t) f where state is null;
         create table s as select id, f.v from texts, read_sent(t) f where state is null;"
    ));
    let columns = database.query(
        settings,
        &format!(
            "select id, encode({}(v), 'hex') from c",
            send_function(column)
        ),
    );
    let matches = database.query(
        settings,
        &format!(
            "select s.v::text, encode({}(s.v), 'hex'),
                    array_to_string(array(select id from c where c.v = s.v order by id), ' ') from s",
            send_function(sent)
        ),
    );
    let keys = columns.iter().filter_map(|row| {
        let (id, hex) = (row[0].as_ref().unwrap(), row[1].as_ref().unwrap());
        Some((
            id.parse::<usize>().unwrap(),
            column.from_binary(0, &unhex(hex), context).ok()?,
        ))
    });
    let keys: Vec<_> = keys.collect();
    let (mut equal, mut unsure, mut no_match) = (0, 0, 0);
    for row in &matches {
        let (output, hex, ids) = (
            row[0].as_ref().unwrap(),
            row[1].as_ref().unwrap(),
            row[2].as_ref().unwrap(),
        );
        let truth: Vec<usize> = ids
            .split_whitespace()
            .map(|id| id.parse().unwrap())
            .collect();
        let key = column.from_binary(sent.oid(), &unhex(hex), context);
        let by_text = column.from_text_as(sent.oid(), output.as_bytes(), context);
        assert!(
            by_text == key || by_text == Err(KeyError::Unsure),
            "{c} = {s} {output}: text and binary differ"
        );
        let mine: Vec<usize> = match key {
            Ok(key) => keys
                .iter()
                .filter(|(_, other)| *other == key)
                .map(|(id, _)| *id)
                .collect(),
            Err(KeyError::NoMatch) => Vec::new(),
            Err(error) => {
                assert_eq!(error, KeyError::Unsure, "{c} = {s} {output}");
                unsure += 1;
                continue;
            }
        };
        let mut mine = mine;
        mine.sort();
        assert_eq!(mine, truth, "{c} = {s} {output}");
        if truth.is_empty() {
            no_match += 1
        } else {
            equal += 1
        }
    }
    println!("{c} = {s}: {equal} with an equal value, {no_match} without, {unsure} unsure");
    let zoned = matches!(
        (column, sent),
        (_, KeyType::TimestampTz) | (KeyType::TimestampTz, _)
    );
    assert!(
        equal > 20 || (zoned && *context != TextContext::UTC),
        "{c} = {s}: too few to be a test"
    );
}

/// Texts that several types read.
const SHARED: [&str; 40] = [
    "0",
    "1",
    "2",
    "-1",
    "5",
    "7",
    "42",
    "-42",
    "99",
    "100",
    "127",
    "128",
    "255",
    "256",
    "1000",
    "9999",
    "10000",
    "10001",
    "32767",
    "-32768",
    "2020-01-01",
    "2020-01-02",
    "2020-02-29",
    "1999-12-31",
    "0044-03-15 BC",
    "infinity",
    "-infinity",
    "294276-12-31",
    "294277-01-01",
    "5874897-12-31",
    "4714-11-24 BC",
    "2000-01-01",
    "2000-01-02",
    "2000-01-03",
    "2000-01-04",
    "2000-01-05",
    "2000-01-06",
    "2000-01-07",
    "2000-01-08",
    "2000-01-09",
];
