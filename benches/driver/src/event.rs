//! The documents that are read and written, as a program has them. Pure.

use mongodb::bson::{DateTime, Decimal128};
use serde::{Deserialize, Serialize};

/// The collection that is read.
pub const EVENTS: &str = "events";
/// The one that is written.
pub const NEW: &str = "new_events";
/// Documents that one statement inserts.
pub const INSERTED: u32 = 1_000;

/// Milliseconds from 1970 to 2000, where PostgreSQL's times begin.
pub const EPOCH: i64 = 946_684_800_000;
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
}

fn amount(mixed: u32) -> Decimal128 {
    let text = format!("{}.{:02}", mixed % 100_000, mixed % 97);
    // Seven digits at most: every one of them is a decimal.
    text.parse()
        .unwrap_or_else(|_| Decimal128::from_bytes([0; 16]))
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
    }
}
