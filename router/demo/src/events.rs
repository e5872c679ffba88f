//! The shop's events: what customers did on its pages, as documents of MongoDB.
//!
//! Each kind has details of its own, which is what documents are good at. As with the other rows, an event follows
//! from its customer's random numbers. There is no COPY to such a table, so they are sent as INSERTs of many rows.

use super::random::Random;
use super::rows::{LAST_DAY, Shop, date};
use super::shop::Table;
use std::fmt::Write;

/// The collection, and the table.
pub(super) const COLLECTION: &str = "events";
/// The events in the router's configuration.
pub(super) const DECLARATION: &str = r#"
# What customers did, as documents; joined with the tables above like any other.
[[table]]
name = "events"
kind = "documents"
shards = ["docs"]
owner = "demo"

[[table.column]]
name = "event_id"
path = "_id"
sql_type = "int8"

[[table.column]]
name = "customer_id"
sql_type = "int8"
not_null = true

[[table.column]]
name = "kind"
sql_type = "text"
not_null = true

[[table.column]]
name = "happened_at"
sql_type = "timestamptz(3)"
not_null = true
default = "now()"

[[table.column]]
name = "device"
sql_type = "text"
path = "client.device"

[[table.column]]
name = "details"
sql_type = "jsonb"
"#;

/// Rows of one INSERT: enough for the way there and back not to count.
const ROWS_AT_ONCE: u64 = 1000;
const MAX_EVENTS: u32 = 3;
/// Event ids are the customer's id times this, plus the event's number.
const EVENTS_STEP: u64 = 100;
const KIND_EVENT: u64 = 3;

const DEVICES: [&str; 4] = ["phone", "phone", "laptop", "tablet"];
const OPINIONS: [&str; 5] = [
    "Broke on the first day.",
    "Not what the picture shows.",
    "It does what it should.",
    "Better than the last one.",
    "I bought a second one for my sister.",
];

/// INSERTs with all events of a shop, each with the number of its rows.
pub(super) fn inserts(shop: Shop) -> impl Iterator<Item = (u64, String)> {
    let mut customers = 1..=shop.steps(Table::Customers);
    std::iter::from_fn(move || {
        let (mut rows, mut sql) = (0, format!("INSERT INTO {COLLECTION} VALUES "));
        for customer in customers.by_ref() {
            rows += write(&shop, customer, &mut sql);
            if rows >= ROWS_AT_ONCE {
                break;
            }
        }
        sql.truncate(sql.trim_end_matches(", ").len());
        (rows > 0).then_some((rows, sql))
    })
}

/// All events of a shop, counted by making the numbers that say so.
pub(super) fn count(shop: &Shop) -> u64 {
    let customers = 1..=shop.steps(Table::Customers);
    let counts = customers.map(|customer| u64::from(events_of(shop, customer).1));
    counts.sum()
}

/// A customer's random numbers for events, and how many there are.
fn events_of(shop: &Shop, customer: u32) -> (Random, u32) {
    let mut random = Random::of(shop.seed(), KIND_EVENT, u64::from(customer));
    let events = random.between(0, MAX_EVENTS);
    (random, events)
}

/// Appends a customer's events, each followed by a comma, and says how many they are.
fn write(shop: &Shop, customer: u32, out: &mut String) -> u64 {
    let (mut random, events) = events_of(shop, customer);
    for number in 1..=events {
        let id = u64::from(customer) * EVENTS_STEP + u64::from(number);
        let (kind, details) = happening(shop, &mut random);
        let day = date(random.between(shop.joined(customer), LAST_DAY));
        let second = random.between(0, 86_399);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let device = random.pick(&DEVICES);
        // None of our words has a quote in it.
        let _ = write!(
            out,
            "({id}, {customer}, '{kind}', '{day} {hour:02}:{minute:02}:{second:02}+00', '{device}', '{details}'), "
        );
    }
    u64::from(events)
}

/// The kind of an event, and its details as JSON.
fn happening(shop: &Shop, random: &mut Random) -> (&'static str, String) {
    let product = random.between(1, shop.products());
    match random.between(1, 10) {
        1..=5 => ("view", format!(r#"{{"product_id": {product}}}"#)),
        6..=7 => {
            let words = shop.product(product).0.to_lowercase();
            let found = random.between(0, 20);
            (
                "search",
                format!(r#"{{"words": "{words}", "found": {found}}}"#),
            )
        }
        8 => {
            let quantity = random.between(1, 3);
            (
                "basket",
                format!(r#"{{"product_id": {product}, "quantity": {quantity}}}"#),
            )
        }
        _ => {
            let stars = random.between(1, 5);
            let text = OPINIONS[(stars - 1) as usize];
            (
                "review",
                format!(r#"{{"product_id": {product}, "stars": {stars}, "text": "{text}"}}"#),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::Recipe;
    use super::*;

    fn shop(rows: u32, seed: u64) -> Shop {
        Shop::new(Recipe { rows, seed })
    }

    #[test]
    fn a_seed_makes_the_same_events_and_another_makes_others() {
        let all = |seed| inserts(shop(3000, seed)).collect::<Vec<_>>();
        assert_eq!(all(7), all(7));
        assert_ne!(all(7), all(8));
    }

    #[test]
    fn every_event_is_sent_once_and_no_statement_is_long() {
        for rows in [1, 3000, 90_000] {
            let shop = shop(rows, 1957);
            let mut sent = 0;
            for (rows, sql) in inserts(shop) {
                assert!(rows < ROWS_AT_ONCE + u64::from(MAX_EVENTS));
                assert_eq!(sql.matches("+00'").count() as u64, rows);
                assert!(sql.ends_with(')') && sql.matches('\'').count() as u64 == rows * 8);
                sent += rows;
            }
            assert_eq!(sent, count(&shop));
        }
    }
}
