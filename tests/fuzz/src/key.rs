//! Values of shard keys.
//!
//! Promises: no text and no bytes panic; the same value is the same key in every form and every type in which
//! PostgreSQL finds it equal; knowing less of a session makes a key uncertain and never another one; integers and
//! numerics sort as their bytes; what a column stores it stores again; the owner of a key is among the owners of any
//! condition that the key fulfils.

use std::ops::Bound;

use mothership_shardmap::{
    Cut, KeyBytes, KeyError, KeyType, Placement, ShardMap, ShardMapBuilder, ShardedDecl,
    StrategyDecl, TableDecl, TextContext,
};

use crate::input::Input;
use crate::memory::bounded;

/// Forms of values.
pub const WORDS: &[&str] = &[
    "infinity",
    "-infinity",
    "NaN",
    "2024-02-29",
    "12:00:00",
    "+01",
    "-08:30",
    " UTC",
    "Z",
    "BC",
    " AM",
    "epoch",
    "today",
    "true",
    "off",
    "\\x",
    "\\\\",
    "e5",
    "E-3",
    "0x",
    "0b1",
    "1_0",
    "-",
    "+",
    ".",
    "9223372036854775807",
    "-2147483648",
    "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "{",
    "}",
    "T",
    "J2451187",
];

/// The types of one family: values that are equal have one form.
const INTEGERS: [KeyType; 3] = [KeyType::Int2, KeyType::Int4, KeyType::Int8];

thread_local! {
    static MAPS: Vec<(KeyType, ShardMap)> = KeyType::ALL.map(|key_type| (key_type, map(key_type))).into();
}

/// A type, an OID and a modifier; the rest is the value, as text and as bytes.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let key_type = input.one_of(&KeyType::ALL);
    let sent = input.one_of(&KeyType::ALL);
    let typmod = [
        -1,
        4,
        5,
        7,
        12,
        (10 << 16 | 2) + 4,
        (3 << 16 | 0x7ff) + 4,
        i32::MAX,
    ][input.below(8)];
    let value = input.rest();
    // A numeric may have 131,072 digits before its point: `1e131071` is short and its key has one digit.
    let limit = 64 * 1024 + value.len() * 64;
    MAPS.with(|_| ());
    bounded(limit, "reading a key", || {
        forms(key_type, sent, typmod, value);
    });
    if let Ok(text) = std::str::from_utf8(value) {
        integers(text);
        numerics(text);
    }
    order(value);
}

fn forms(key_type: KeyType, sent: KeyType, typmod: i32, value: &[u8]) {
    let known = &TextContext::UTC;
    let text = key_type.from_text(value, known);
    let binary = key_type.from_binary(key_type.oid(), value, known);
    for (form, key) in [("text", &text), ("binary", &binary)] {
        let guarded = match form {
            "text" => key_type.from_text(value, &TextContext::UNKNOWN),
            _ => key_type.from_binary(key_type.oid(), value, &TextContext::UNKNOWN),
        };
        assert!(
            &guarded == key || guarded == Err(KeyError::Unsure),
            "{form}: knowing less gave {guarded:?} for {key:?}"
        );
        let Ok(key) = key else { continue };
        assert_eq!(&KeyBytes::from_canonical(key.as_bytes()), key);
        assert_eq!(key_type.stored(key.clone(), -1).as_ref(), Ok(key));
        if let Ok(stored) = key_type.stored(key.clone(), typmod) {
            assert_eq!(
                key_type.stored(stored.clone(), typmod),
                Ok(stored),
                "what is stored stays"
            );
        }
        owned(key_type, key);
    }
    // Without a declared type a value is read by the column's.
    assert_eq!(key_type.from_text_as(0, value, known), text);
    assert_eq!(key_type.from_text_as(705, value, known), text);
    assert_eq!(key_type.from_binary(0, value, known), binary);
    let as_sent = key_type.from_text_as(sent.oid(), value, known);
    if key_type.is_integer() && sent.is_integer() {
        // `int2 = int8` compares integers, whatever the column could hold.
        assert_eq!(as_sent, sent.from_text(value, known));
    }
    let _ = key_type.from_binary(sent.oid(), value, known);
    let _ = key_type.from_text_as(1042, value, known);
    match key_type {
        KeyType::Text | KeyType::Varchar => {
            assert_eq!(text, binary);
            assert!(text.is_err() || text.is_ok_and(|key| key.as_bytes() == value));
        }
        KeyType::Uuid => {
            if let Ok(key) = text {
                assert_eq!(key_type.from_binary(2950, key.as_bytes(), known), Ok(key));
            }
        }
        KeyType::Bytea => assert_eq!(
            binary.map(|key| key.as_bytes().to_vec()),
            Ok(value.to_vec())
        ),
        KeyType::Bool => {
            if let Ok(key) = text {
                assert_eq!(key_type.from_binary(16, key.as_bytes(), known), Ok(key));
            }
        }
        _ => {}
    }
}

/// An integer is one key in all types and forms.
fn integers(text: &str) {
    let known = &TextContext::UTC;
    for column in INTEGERS {
        let Ok(key) = column.from_text(text.as_bytes(), known) else {
            continue;
        };
        let bytes: [u8; 8] = key
            .as_bytes()
            .try_into()
            .expect("an integer's key has eight bytes");
        let value = (u64::from_be_bytes(bytes) ^ 1 << 63) as i64;
        for other in INTEGERS {
            assert_eq!(other.from_integer(i128::from(value)).as_ref(), Ok(&key));
            assert_eq!(
                other.from_binary(20, &value.to_be_bytes(), known).as_ref(),
                Ok(&key)
            );
            let spelled = format!("\t {value}\n");
            if let Ok(again) = other.from_text(spelled.as_bytes(), known) {
                assert_eq!(again, key);
            }
        }
        if let Ok(numeric) = column.from_text_as(1700, text.as_bytes(), known) {
            assert_eq!(numeric, key, "as numeric");
        }
        assert_eq!(
            KeyType::Numeric.from_integer(i128::from(value)),
            KeyType::Numeric.from_text(value.to_string().as_bytes(), known)
        );
    }
}

/// Zeros that say nothing change nothing.
fn numerics(text: &str) {
    let known = &TextContext::UTC;
    let text = text.trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    let Ok(key) = KeyType::Numeric.from_text(text.as_bytes(), known) else {
        return;
    };
    let digits = text.trim_start_matches(['+', '-']);
    if digits.is_empty()
        || !digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return;
    }
    let sign = &text[..text.len() - digits.len()];
    let mut same = vec![
        format!("{sign}00{digits}"),
        format!(" {text} "),
        format!("{text}e0"),
    ];
    same.push(match text.contains('.') {
        true => format!("{text}000"),
        false => format!("{text}.0"),
    });
    for spelled in same {
        if let Ok(other) = KeyType::Numeric.from_text(spelled.as_bytes(), known) {
            assert_eq!(other, key, "{spelled:?} and {text:?}");
        }
    }
}

/// Two integers, and two numerics of them, sort as their keys.
fn order(value: &[u8]) {
    let mut input = Input::new(value);
    let mut number = || {
        let bytes: [u8; 8] = std::array::from_fn(|_| input.byte());
        i64::from_be_bytes(bytes) >> (input.byte() % 64)
    };
    let (a, b) = (number(), number());
    let key = |n: i64| KeyType::Int8.from_integer(i128::from(n)).expect("fits");
    assert_eq!(key(a).as_bytes().cmp(key(b).as_bytes()), a.cmp(&b));
    let hundredth = |n: i64| {
        let sign = if n < 0 { "-" } else { "" };
        let n = n.unsigned_abs();
        format!("{sign}{}.{:02}", n / 100, n % 100)
    };
    let numeric = |n: i64| {
        KeyType::Numeric
            .from_text(hundredth(n).as_bytes(), &TextContext::UTC)
            .expect("a numeric")
    };
    assert_eq!(
        numeric(a).as_bytes().cmp(numeric(b).as_bytes()),
        a.cmp(&b),
        "{} {}",
        hundredth(a),
        hundredth(b)
    );
}

/// The owner is the same each time, and among the owners of the key's interval.
fn owned(key_type: KeyType, key: &KeyBytes) {
    MAPS.with(|maps| {
        let (_, map) = maps
            .iter()
            .find(|(known, _)| *known == key_type)
            .expect("all types have a map");
        for (_, table, placement) in map.tables() {
            let Placement::Sharded(sharded) = placement else {
                continue;
            };
            let keys = std::slice::from_ref(key);
            let Ok(owner) = sharded.owner(keys) else {
                continue;
            };
            assert_eq!(sharded.owner(keys), Ok(owner));
            assert_eq!(sharded.owners_with_prefix(keys).single(), Some(owner));
            assert!(sharded.owners_with_prefix(&[]).contains(owner));
            for (lower, upper) in [
                (Bound::Included(key), Bound::Included(key)),
                (Bound::Included(key), Bound::Unbounded),
                (Bound::Unbounded, Bound::Included(key)),
                (Bound::Unbounded, Bound::Unbounded),
            ] {
                assert!(
                    sharded.owners_between(lower, upper).contains(owner),
                    "{table} {lower:?} {upper:?}"
                );
            }
        }
    });
}

fn map(key_type: KeyType) -> ShardMap {
    let mut builder = ShardMapBuilder::new(1);
    builder.shard("s0").shard("s1").shard("s2");
    let sharded = |strategy| {
        TableDecl::Sharded(ShardedDecl {
            columns: vec![("k".to_owned(), key_type)],
            strategy,
            group: None,
            allow_unenforced_unique: false,
        })
    };
    builder.table("public", "hashed", sharded(StrategyDecl::Hash));
    let middle = match key_type {
        KeyType::Date => key_type.from_text(b"2024-01-01", &TextContext::UTC).ok(),
        KeyType::Timestamp | KeyType::TimestampTz => key_type
            .from_text(b"2024-01-01 00:00:00+00", &TextContext::UTC)
            .ok(),
        KeyType::Uuid => key_type
            .from_text(b"80000000-0000-0000-0000-000000000000", &TextContext::UTC)
            .ok(),
        _ => key_type.from_integer(100).ok(),
    };
    if let Some(middle) = middle {
        let middle = || vec![Cut::Value(middle.clone())];
        let ranges = vec![
            (vec![Cut::Min], middle(), "s0".to_owned()),
            (middle(), vec![Cut::Max], "s1".to_owned()),
        ];
        builder.table(
            "public",
            "ranged",
            sharded(StrategyDecl::Range {
                ranges,
                default: None,
            }),
        );
    }
    builder.build().expect("a good map")
}

/// Values of all types in both forms.
pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "5",
        " -32768 ",
        "9223372036854775807",
        "1.50",
        "-0.00",
        "1e131071",
        "1e-16383",
        "NaN",
        "-infinity",
        "t",
        " off ",
        "a text",
        "é",
        "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        "{a0eebc999c0b4ef8bb6d6bb9bd380a11}",
        "2024-02-29",
        "2024-01-01 12:34:56.789012+01",
        "2024-01-01T24:00:00Z",
        "0044-03-15 BC",
        "\\x0aff",
        "\\001\\\\x",
        "294276-12-31 23:59:59.999999",
        "0x1F",
        "1_000",
        "",
        "+",
        "5874897-12-31",
        "4714-11-24 BC",
    ];
    let binaries: [&[u8]; 8] = [
        &[0, 5],
        &[0x7f, 0xff, 0xff, 0xff],
        &[0x80, 0, 0, 0, 0, 0, 0, 0],
        &[0, 1, 0, 0, 0, 0, 0, 2, 0, 5],
        &[0, 2, 0xff, 0xff, 0x40, 0, 0, 3, 0, 1, 0x27, 0x0f],
        &[0, 0, 0, 0, 0xc0, 0, 0, 0],
        &[1],
        &[7; 16],
    ];
    let mut seeds = Vec::new();
    for (at, _) in KeyType::ALL.iter().enumerate() {
        for (number, text) in texts.iter().enumerate() {
            seeds.push([&[at as u8, 10, number as u8][..], text.as_bytes()].concat());
        }
        for (number, bytes) in binaries.iter().enumerate() {
            seeds.push([&[at as u8, 4, number as u8][..], bytes].concat());
        }
    }
    seeds
}
