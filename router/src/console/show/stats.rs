//! SHOW STATS and its parts.

use super::Facts;
use crate::console::columns::TOTAL_NAMES;
use crate::console::table::{Row, Value, row};
use crate::metrics::traffic::{Totals, TrafficSnapshot};
use std::collections::BTreeMap;

/// The counters in the order of PgBouncer's columns, logins last.
fn counters(t: &Totals) -> [u64; 12] {
    [
        t.assignments,
        t.transactions,
        t.queries,
        t.received,
        t.sent,
        t.transaction_time,
        t.query_time,
        t.wait_time,
        t.client_parses,
        t.server_parses,
        t.binds,
        t.logins,
    ]
}

/// The counters as values; without the logins if `console.version` is older than 1.26.
fn told(facts: &Facts, totals: &Totals) -> Vec<Value> {
    let all = counters(totals);
    let count = if super::with_logins(&facts.topology.config.console) {
        12
    } else {
        11
    };
    all.into_iter().take(count).map(Value::from).collect()
}

/// One for each database, the console among them, as in PgBouncer.
fn by_database(facts: &Facts) -> BTreeMap<&str, TrafficSnapshot> {
    let mut all: BTreeMap<&str, TrafficSnapshot> = BTreeMap::new();
    let consoles = &facts.topology.config.console.databases;
    for name in consoles {
        all.entry(name.as_str()).or_default();
    }
    for (owner, traffic) in &facts.view.counted.traffic {
        all.entry(&owner.database).or_default().add(traffic);
    }
    all
}

pub(super) fn stats(facts: &Facts) -> Vec<Row> {
    let period = facts.view.counted.period;
    let row = |(database, traffic): (&str, TrafficSnapshot)| {
        let mut row = row![database];
        row.extend(told(facts, &traffic.now));
        row.extend(told(facts, &traffic.averages(period)));
        row
    };
    by_database(facts).into_iter().map(row).collect()
}

pub(super) fn totals_by_database(facts: &Facts) -> Vec<Row> {
    let row = |(database, traffic): (&str, TrafficSnapshot)| {
        let mut row = row![database];
        row.extend(told(facts, &traffic.now));
        row
    };
    by_database(facts).into_iter().map(row).collect()
}

pub(super) fn averages_by_database(facts: &Facts) -> Vec<Row> {
    let period = facts.view.counted.period;
    let row = |(database, traffic): (&str, TrafficSnapshot)| {
        let mut row = row![database];
        row.extend(told(facts, &traffic.averages(period)));
        row
    };
    by_database(facts).into_iter().map(row).collect()
}

pub(super) fn totals(facts: &Facts) -> Vec<Row> {
    let mut all = TrafficSnapshot::default();
    by_database(facts).values().for_each(|t| all.add(t));
    let averages = all.averages(facts.view.counted.period);
    let mut rows = Vec::new();
    for (prefix, numbers) in [("total", &all.now), ("avg", &averages)] {
        for (name, value) in TOTAL_NAMES.iter().zip(told(facts, numbers)) {
            rows.push(vec![Value::from(format!("{prefix}_{name}")), value]);
        }
    }
    rows
}
