//! The types that columns and expressions have, and values of each.
//!
//! The pools are small, so that rows meet, and nasty: what PostgreSQL takes for
//! equal and prints differently, what sorts last, what no other type can hold.

/// A type as the generator sees it: one for each set of rules, so that text of a
/// collation is a type of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ty {
    Int2,
    Int4,
    Int8,
    Numeric,
    Float4,
    Float8,
    Bool,
    Text,
    Icu,
    Nondet,
    Varchar,
    Char,
    Uuid,
    Bytea,
    Date,
    Timestamp,
    Timestamptz,
    Time,
    Interval,
    Json,
    Jsonb,
    Inet,
    Mood,
    Pos,
    Pair,
    Ints,
    Texts,
    Moods,
    Span,
}

use Ty::*;

/// All of them.
pub const ALL: [Ty; 29] = [
    Int2,
    Int4,
    Int8,
    Numeric,
    Float4,
    Float8,
    Bool,
    Text,
    Icu,
    Nondet,
    Varchar,
    Char,
    Uuid,
    Bytea,
    Date,
    Timestamp,
    Timestamptz,
    Time,
    Interval,
    Json,
    Jsonb,
    Inet,
    Mood,
    Pos,
    Pair,
    Ints,
    Texts,
    Moods,
    Span,
];

/// Those that a shard key may have.
pub const KEYS: [Ty; 12] = [
    Int8,
    Int4,
    Int2,
    Text,
    Uuid,
    Numeric,
    Date,
    Timestamp,
    Timestamptz,
    Varchar,
    Bytea,
    Bool,
];

/// What databases need before their tables; collations and types differ in their object ids from one to the next.
pub const PRELUDE: &str = "\
    CREATE COLLATION nondet (provider = icu, locale = 'und-u-ks-level2', deterministic = false);\
    CREATE TYPE mood AS ENUM ('ok', 'sad', 'happy');\
    ALTER TYPE mood ADD VALUE 'bored' BEFORE 'sad';\
    CREATE DOMAIN pos AS int4 CHECK (VALUE >= 0);\
    CREATE TYPE pair AS (x int4, y text);";

impl Ty {
    /// As a column is declared.
    pub fn declared(self) -> &'static str {
        match self {
            Icu => "text COLLATE \"en-x-icu\"",
            Nondet => "text COLLATE nondet",
            Varchar => "varchar(8)",
            Char => "char(4)",
            _ => self.name(),
        }
    }

    /// As a cast names it.
    pub fn name(self) -> &'static str {
        match self {
            Int2 => "int2",
            Int4 => "int4",
            Int8 => "int8",
            Numeric => "numeric",
            Float4 => "float4",
            Float8 => "float8",
            Bool => "bool",
            Text | Icu | Nondet => "text",
            Varchar => "varchar",
            Char => "bpchar",
            Uuid => "uuid",
            Bytea => "bytea",
            Date => "date",
            Timestamp => "timestamp",
            Timestamptz => "timestamptz",
            Time => "time",
            Interval => "interval",
            Json => "json",
            Jsonb => "jsonb",
            Inet => "inet",
            Mood => "mood",
            Pos => "pos",
            Pair => "pair",
            Ints => "int4[]",
            Texts => "text[]",
            Moods => "mood[]",
            Span => "int4range",
        }
    }

    /// As a message declares it; 0 where the object id is the database's own.
    pub fn oid(self) -> u32 {
        match self {
            Int2 => 21,
            Int4 => 23,
            Int8 => 20,
            Numeric => 1700,
            Float4 => 700,
            Float8 => 701,
            Bool => 16,
            Text | Icu | Nondet => 25,
            Varchar => 1043,
            Char => 1042,
            Uuid => 2950,
            Bytea => 17,
            Date => 1082,
            Timestamp => 1114,
            Timestamptz => 1184,
            Time => 1083,
            Interval => 1186,
            Json => 114,
            Jsonb => 3802,
            Inet => 869,
            Ints => 1007,
            Texts => 1009,
            Span => 3904,
            Mood | Pos | Pair | Moods => 0,
        }
    }

    /// Has equality, an order and a hash: may be sorted, grouped and made distinct.
    pub fn ordered(self) -> bool {
        self != Json
    }

    /// Equal values are the same value: which of them is shown makes no difference.
    pub fn is_exact(self) -> bool {
        !matches!(
            self,
            Numeric | Float4 | Float8 | Nondet | Interval | Json | Jsonb
        )
    }

    /// `min` and `max` take it and give it back.
    pub fn has_extremes(self) -> bool {
        !matches!(
            self,
            Bool | Uuid | Bytea | Json | Jsonb | Pair | Span | Varchar | Pos
        )
    }

    /// What can be written without quotes, as `5` or `'a'`, and is still of this type.
    pub fn bare(self, text: &str) -> Option<String> {
        match self {
            Int4 if text.parse::<i32>().is_ok_and(|n| n >= 0) => Some(text.to_owned()),
            Numeric if text.contains('.') && !text.starts_with('-') => Some(text.to_owned()),
            Bool => Some(if text == "t" { "true" } else { "false" }.to_owned()),
            _ => None,
        }
    }

    /// Values as text, in PostgreSQL's input form.
    pub fn pool(self) -> &'static [&'static str] {
        match self {
            Int2 => &["0", "1", "2", "3", "5", "-1", "7", "32767", "-32768"],
            Int4 => &[
                "0",
                "1",
                "2",
                "3",
                "4",
                "5",
                "6",
                "7",
                "8",
                "9",
                "-1",
                "-7",
                "10",
                "20",
                "100000",
                "2147483647",
                "-2147483648",
            ],
            Int8 => &[
                "0",
                "1",
                "2",
                "3",
                "4",
                "5",
                "6",
                "7",
                "8",
                "9",
                "10",
                "11",
                "12",
                "13",
                "14",
                "-1",
                "9007199254740992",
                "9007199254740993",
                "4294967296",
                "9223372036854775807",
                "-9223372036854775808",
            ],
            Numeric => &[
                "0",
                "1",
                "1.0",
                "1.00",
                "-1.50",
                "2",
                "2.5",
                "2.50",
                "0.1",
                "1000",
                "-3.30",
                "NaN",
                "Infinity",
                "-Infinity",
                "9007199254740993",
                "12345.678900",
                "3",
                "4",
                "5",
            ],
            Float4 => &[
                "0",
                "-0",
                "1",
                "1.5",
                "-2.25",
                "0.1",
                "NaN",
                "Infinity",
                "-Infinity",
                "16777216",
            ],
            Float8 => &[
                "0",
                "-0",
                "1",
                "1.5",
                "-2.25",
                "0.1",
                "NaN",
                "Infinity",
                "-Infinity",
                "9007199254740992",
                "1e15",
                "3",
                "0.5",
                "0.25",
            ],
            Bool => &["t", "f"],
            Text => &[
                "", " ", "a", "A", "b", "B", "ab", "a ", "ä", "Ä", "z", "Z", "aa", "é", "e", "_",
                "%", "\\", "it's", "NULL", "10", "9", "ß", "日本",
            ],
            Icu => &[
                "", "a", "A", "ä", "b", "B", "z", "Z", "_", "ab", "a-b", "aB", "é", "e",
            ],
            Nondet => &["a", "A", "b", "B", "ab", "AB", "", "c"],
            Varchar => &["", "a", "A", "b", "ab", "ä", "z", "10", "9", "long one"],
            Char => &["", "a", "A", "ab", "abcd", "b", "z"],
            Uuid => &[
                "00000000-0000-0000-0000-000000000000",
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12",
                "ffffffff-ffff-ffff-ffff-ffffffffffff",
                "12345678-1234-5678-1234-567812345678",
                "7f000000-0000-0000-0000-000000000001",
                "80000000-0000-0000-0000-000000000001",
            ],
            Bytea => &[
                "\\x", "\\x00", "\\x61", "\\x6162", "\\xff00", "\\xff", "\\x5c",
            ],
            Date => &[
                "2024-01-01",
                "2024-02-29",
                "1970-01-01",
                "0044-03-15 BC",
                "infinity",
                "-infinity",
                "2000-12-31",
                "1999-12-31",
                "2024-01-02",
                "2024-01-03",
            ],
            Timestamp => &[
                "2024-01-01 00:00:00",
                "2024-01-01 00:00:00.000001",
                "2024-02-29 12:34:56.789",
                "1970-01-01 00:00:00",
                "0044-03-15 10:00:00 BC",
                "infinity",
                "-infinity",
                "1999-12-31 23:59:59.999999",
            ],
            Timestamptz => &[
                "2024-01-01 00:00:00+00",
                "2024-01-01 00:00:00.5+00",
                "2024-02-29 12:34:56+00",
                "1970-01-01 00:00:00+00",
                "0044-03-15 10:00:00+00 BC",
                "infinity",
                "-infinity",
                "2024-06-01 12:00:00+00",
            ],
            Time => &[
                "00:00:00",
                "24:00:00",
                "12:34:56.789",
                "23:59:59.999999",
                "01:00:00",
            ],
            Interval => &[
                "0",
                "1 mon",
                "30 days",
                "1 day",
                "24:00:00",
                "-1 day",
                "1 year 2 mons 3 days 04:05:06.789",
                "00:00:00.000001",
                "-1 mon 30 days",
            ],
            Json => &[
                "null",
                "{}",
                "[]",
                "1",
                "1.0",
                "\"a\"",
                "{\"a\": 1}",
                "{\"a\":1,\"a\":2}",
            ],
            Jsonb => &[
                "null",
                "{}",
                "[]",
                "1",
                "1.0",
                "\"a\"",
                "{\"a\": 1}",
                "{\"a\": [1, 2], \"b\": null}",
                "true",
                "[1, \"x\"]",
            ],
            Inet => &[
                "10.0.0.1",
                "10.0.0.0/8",
                "::1",
                "10.0.0.1/16",
                "192.168.1.5",
            ],
            Mood => &["ok", "bored", "sad", "happy"],
            Pos => &["0", "1", "2", "7", "100"],
            Pair => &["(1,a)", "(1,)", "(,b)", "(2,\"x y\")", "(,)", "(1,b)"],
            Ints => &[
                "{}",
                "{1,2}",
                "{1,NULL}",
                "{3}",
                "{{1,2},{3,4}}",
                "{1,2,3}",
                "{1}",
            ],
            Texts => &["{}", "{a,b}", "{NULL,\"\"}", "{\"a b\"}", "{A}", "{a}"],
            Moods => &["{}", "{sad,ok}", "{happy}", "{ok,NULL}"],
            Span => &["empty", "[1,5)", "[2,)", "(,3)", "[1,1]", "(,)", "[3,9)"],
        }
    }

    /// Values of a shard key: every one of them another key, and none of them null.
    pub fn key_pool(self) -> Vec<String> {
        let mut keys: Vec<String> = match self {
            Int2 | Int4 | Int8 => (1..=16).map(|n| n.to_string()).collect(),
            Numeric => (1..=8).map(|n| n.to_string()).collect(),
            Text | Varchar => ('c'..='n').map(|c| format!("k{c}")).collect(),
            Date => (1..=9).map(|n| format!("2024-03-0{n}")).collect(),
            Timestamp => (1..=9).map(|n| format!("2024-03-0{n} 10:00:00")).collect(),
            Timestamptz => (1..=9)
                .map(|n| format!("2024-03-0{n} 10:00:00+00"))
                .collect(),
            Uuid => (1..=9)
                .map(|n| format!("{n}0000000-0000-4000-8000-00000000000{n}"))
                .collect(),
            Bytea => (1..=9).map(|n| format!("\\x0{n}")).collect(),
            _ => Vec::new(),
        };
        for value in self.pool() {
            // Equal to another one, though it is written differently.
            if !matches!(*value, "1.0" | "1.00" | "2.50") && !keys.iter().any(|key| key == value) {
                keys.push((*value).to_owned());
            }
        }
        keys
    }
}

/// A string constant; standard_conforming_strings is on.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
