//! One value, one key: whatever form it comes in, and exactly if PostgreSQL finds the values equal.

use std::collections::HashMap;

use mothership_shardmap::{Encoding, KeyBytes, KeyError, KeyType, TextContext, TimeZone};

use crate::cluster::{Cluster, Database, reader, send_function, unhex};
use crate::values::{Random, seed, texts};

const VALUES: usize = 20_000;

/// A session's settings, and what the router knows of them.
const SESSIONS: [(&str, TextContext); 2] = [
    (
        "set timezone = 'UTC'; set datestyle = 'ISO, MDY';",
        TextContext::UTC,
    ),
    (
        "set timezone = 'America/St_Johns'; set datestyle = 'SQL, DMY'; set bytea_output = 'escape';",
        TextContext {
            time_zone: TimeZone::Other,
            encoding: Encoding::Utf8,
        },
    ),
];

#[test]
fn every_form_of_a_value_is_one_key_and_equal_keys_are_equal_values() {
    let seed = seed();
    let cluster = Cluster::shared();
    let database = cluster.database("keys");
    for key_type in KeyType::ALL {
        let texts = texts(&mut Random::new(seed, key_type.name()), key_type, VALUES);
        let table = format!("texts_{}", key_type.name());
        database.load(&table, &texts);
        for (settings, context) in SESSIONS {
            check(&database, key_type, &table, &texts, settings, &context);
            // The second session differs for what depends on settings only.
            if !matches!(
                key_type,
                KeyType::Date | KeyType::Timestamp | KeyType::TimestampTz
            ) {
                break;
            }
        }
    }
}

fn check(
    database: &Database,
    key_type: KeyType,
    table: &str,
    texts: &[String],
    settings: &str,
    context: &TextContext,
) {
    let name = key_type.name();
    let collate = if key_type.bytes_order() {
        ""
    } else {
        "collate \"C\""
    };
    let settings = format!("{settings} {}", reader(name, &format!("read_{name}")));
    let rows = database.query(
        &settings,
        &format!(
            "select id, state, encode({}(v), 'hex'), v::text, dense_rank() over (order by v {collate})
             from (select id, f.* from {table}, lateral read_{name}(t) f offset 0) r order by id",
            send_function(key_type)
        ),
    );
    assert_eq!(rows.len(), texts.len());
    let mut counts = Counts::default();
    let mut by_rank: HashMap<String, KeyBytes> = HashMap::new();
    for (row, text) in rows.iter().zip(texts) {
        let key = key_type.from_text(text.as_bytes(), context);
        if let Some(state) = &row[1] {
            assert!(
                state.starts_with("22"),
                "{name} {text:?}: refused with {state}"
            );
            assert!(
                key.is_err(),
                "{name} {text:?}: a key, though refused with {state}"
            );
            counts.refused(key);
            continue;
        }
        let (hex, output, rank) = (
            row[2].as_ref().unwrap(),
            row[3].as_ref().unwrap(),
            row[4].as_ref().unwrap(),
        );
        let binary = match key_type.from_binary(key_type.oid(), &unhex(hex), context) {
            Ok(key) => key,
            Err(KeyError::Unsure) if is_huge(key_type, output) => continue,
            Err(error) => panic!("{name} {text:?}: binary {hex}: {error}"),
        };
        match &key {
            Ok(key) => assert!(
                *key == binary,
                "{name} {text:?}: text and binary {hex} are different keys"
            ),
            Err(error) => assert_eq!(
                *error,
                KeyError::Unsure,
                "{name} {text:?}: PostgreSQL reads {output}"
            ),
        }
        match key_type.from_text(output.as_bytes(), context) {
            Ok(key) => assert!(key == binary, "{name} {text:?}: {output} is another key"),
            Err(error) => {
                assert_eq!(
                    error,
                    KeyError::Unsure,
                    "{name} {text:?}: PostgreSQL writes {output}"
                );
                let certain = *context == TextContext::UTC && !is_huge(key_type, output);
                assert!(
                    !certain,
                    "{name} {text:?}: PostgreSQL's own {output} is unsure"
                );
            }
        }
        if key_type.is_integer() {
            let literal = key_type.from_integer(output.parse().unwrap());
            assert!(
                literal == Ok(binary.clone()),
                "{name} {output}: the literal is another key"
            );
        }
        let first = by_rank
            .entry(rank.clone())
            .or_insert_with(|| binary.clone());
        assert!(
            *first == binary,
            "{name} {text:?}: equal values have different keys"
        );
        counts.accepted(key);
    }
    let mut ranked: Vec<(u32, &KeyBytes)> = by_rank
        .iter()
        .map(|(rank, key)| (rank.parse().unwrap(), key))
        .collect();
    ranked.sort();
    for pair in ranked.windows(2) {
        // Ascending means different as well.
        assert!(
            pair[0].1 < pair[1].1,
            "{name}: values {} and {} are out of order",
            pair[0].0,
            pair[1].0
        );
    }
    println!("{name:<12} {counts:?}, {} different values", ranked.len());
    assert!(
        counts.keys * 3 > texts.len() || *context != TextContext::UTC,
        "{name}: too few keys to be a test"
    );
}

/// A number of thousands of digits, which may be left unsure.
fn is_huge(key_type: KeyType, output: &str) -> bool {
    key_type == KeyType::Numeric && output.len() > 1000
}

#[derive(Debug, Default)]
struct Counts {
    keys: usize,
    unsure: usize,
    invalid: usize,
    refused_unsure: usize,
}

impl Counts {
    fn accepted(&mut self, key: Result<KeyBytes, KeyError>) {
        match key {
            Ok(_) => self.keys += 1,
            Err(_) => self.unsure += 1,
        }
    }

    fn refused(&mut self, key: Result<KeyBytes, KeyError>) {
        match key {
            Err(KeyError::Invalid) => self.invalid += 1,
            _ => self.refused_unsure += 1,
        }
    }
}
