//! A document of the tables on MongoDB that are read and written: as a program has it, and as SQL declares it. Pure.

use crate::case::Work;
use mongodb::bson::{DateTime, Decimal128};
use serde::{Deserialize, Serialize};

/// The collection, and the table, that is read.
pub const EVENTS: &str = "events";
/// The one that is written.
pub const NEW: &str = "new_events";
/// Documents that one statement inserts.
pub const INSERTED: u32 = 1_000;

/// Milliseconds from 1970 to 2000, where PostgreSQL's times begin.
const EPOCH: i64 = 946_684_800_000;
const KINDS: [&str; 6] = ["order", "payment", "refund", "review", "call", "visit"];
const CITIES: [&str; 5] = ["Oslo", "Reykjavík", "Łódź", "Buenos Aires", "Ulaanbaatar"];

/// The document: a field of each type that most tables have, one of them in a document of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its key.
    #[serde(rename = "_id")]
    pub id: i64,
    /// One of a few.
    pub kind: String,
    /// Some number.
    pub n: i32,
    /// Some amount with two digits behind the point.
    pub amount: Decimal128,
    /// Where it was.
    pub address: Address,
    /// When it was.
    pub happened_at: DateTime,
    /// Whether it is paid.
    pub paid: bool,
    /// Some ratio.
    pub score: f64,
}

/// The document within.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Address {
    /// The city.
    pub city: String,
}

/// What is told of the events of one kind.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Group {
    /// The kind.
    #[serde(rename = "_id")]
    pub kind: String,
    /// How many they are.
    pub count: i64,
    /// The sum of their numbers.
    pub total: i64,
    /// The latest of them.
    pub last: DateTime,
}

impl Event {
    /// The one with this key: the same each time, and not like the next.
    pub fn new(id: u32) -> Event {
        let mixed = id.wrapping_mul(2_654_435_761);
        let pick = |from: &[&str]| from[(mixed >> 8) as usize % from.len()].to_owned();
        Event {
            id: i64::from(id),
            kind: pick(&KINDS),
            n: (mixed >> 12) as i32,
            amount: amount(mixed),
            address: Address {
                city: pick(&CITIES),
            },
            happened_at: DateTime::from_millis(
                EPOCH + i64::from(id) * 60_001 + i64::from(mixed % 997),
            ),
            paid: mixed & 512 != 0,
            score: f64::from(mixed) / 7e6,
        }
    }

    /// Adds what a Bind says of it: in binary, but for the amount, which the document has as a text's digits.
    pub fn put(&self, values: &mut Vec<(i16, Vec<u8>)>) {
        let micros = (self.happened_at.timestamp_millis() - EPOCH) * 1_000;
        values.extend([
            (1, self.id.to_be_bytes().to_vec()),
            (1, self.kind.as_bytes().to_vec()),
            (1, self.n.to_be_bytes().to_vec()),
            (0, self.amount.to_string().into_bytes()),
            (1, self.address.city.as_bytes().to_vec()),
            (1, micros.to_be_bytes().to_vec()),
            (1, vec![self.paid.into()]),
            (1, self.score.to_be_bytes().to_vec()),
        ]);
    }

    /// Values that [`put`](Event::put) adds: the columns.
    pub const COLUMNS: usize = 8;
}

fn amount(mixed: u32) -> Decimal128 {
    let text = format!("{}.{:02}", mixed % 100_000, mixed % 97);
    // Seven digits at most: every one of them is a decimal.
    text.parse()
        .unwrap_or_else(|_| Decimal128::from_bytes([0; 16]))
}

/// How many of so many documents a statement is about: a scan of half of them, from wherever chance begins.
pub fn range(work: Work, documents: u32) -> u32 {
    let share = match work {
        Work::Scan => documents / 2,
        Work::Group => documents / 20,
        _ => 1,
    };
    share.max(1)
}

/// The shard and its tables in the configuration of a router.
pub fn declarations(address: &str) -> String {
    let mut text = format!(
        "[[shard]]\nname = \"docs0\"\nengine = \"mongodb\"\n[[shard.server]]\naddress = \"{address}\"\n"
    );
    let columns = [
        ("id", "_id", "int8"),
        ("kind", "kind", "text"),
        ("n", "n", "int4"),
        ("amount", "amount", "numeric"),
        ("city", "address.city", "text"),
        ("happened_at", "happened_at", "timestamptz"),
        ("paid", "paid", "bool"),
        ("score", "score", "float8"),
    ];
    for table in [EVENTS, NEW] {
        text +=
            &format!("[[table]]\nname = \"{table}\"\nkind = \"documents\"\nshards = [\"docs0\"]\n");
        for (name, path, sql_type) in columns {
            text += &format!(
                "[[table.column]]\nname = \"{name}\"\npath = \"{path}\"\nsql_type = \"{sql_type}\"\nnot_null = true\n"
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use mongodb::bson::{deserialize_from_slice, serialize_to_vec};

    #[test]
    fn an_event_is_a_document_of_its_fields_and_comes_back() {
        let event = Event::new(7);
        assert_eq!(event, Event::new(7));
        let bytes = serialize_to_vec(&event).unwrap();
        assert_eq!(deserialize_from_slice::<Event>(&bytes).unwrap(), event);
        assert!(event.amount.to_string().contains('.'), "{event:?}");
    }

    #[test]
    fn events_differ_in_every_field() {
        let (mut kinds, mut cities) = (Vec::new(), Vec::new());
        for event in (1..=100).map(Event::new) {
            kinds.push(event.kind);
            cities.push(event.address.city);
        }
        for mut several in [kinds, cities] {
            several.sort();
            several.dedup();
            assert!(several.len() >= 5, "{several:?}");
        }
        let mut values = Vec::new();
        Event::new(1).put(&mut values);
        assert_eq!(values.len(), Event::COLUMNS);
    }
}
