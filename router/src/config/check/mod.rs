//! Compares the values of a file with each other and makes the checked configuration.
//!
//! Pure: it does no I/O. Each function reports what it finds and goes on, so that one run shows everything.

mod rules;
mod servers;
mod settings;
mod shards;
mod strategies;
mod tables;
mod users;

use std::collections::BTreeMap;
use std::fmt::Display;

use super::Config;
use super::problem::{Findings, suggest};
use super::value::At;
use super::written::Written;
use mothership_shardmap::Label;

/// The byte offset of each setting that the file contains, by its path (`pool.max`).
pub(crate) type Places = BTreeMap<String, usize>;

/// Checks everything, after defaults that do not fit the values of the file were lowered. Returns `None` if there is any finding.
pub(crate) fn check(
    mut written: Written,
    places: &Places,
    findings: &mut Findings,
) -> Option<Config> {
    settings::fit_defaults(&mut written, places);
    let entries = written.entries();
    let kept = Box::new(written.clone());
    settings::check(&written, places, findings);
    users::check(&written, findings);
    let names: Vec<Label> = written
        .shard
        .iter()
        .map(|shard| shard.name.value.clone())
        .collect();
    let known = Names { shards: &names };
    servers::check(&written.shard, findings);
    let databases = users::databases(written.database, &written.console, &known, findings);
    let strategy_names: Vec<Label> = written
        .strategy
        .iter()
        .map(|one| one.name.value.clone())
        .collect();
    let strategies = strategies::check(written.strategy, &known, findings);
    let tables = tables::check(
        written.tables,
        written.table,
        (&strategies, &strategy_names),
        &written.shard,
        findings,
    );
    let rules = rules::check(written.rule, &written.shard, &known, findings);
    let shards = shards::check(written.shard, findings);
    findings.is_empty().then_some(Config {
        listen: written.listen,
        tls: written.tls,
        pool: written.pool,
        balance: written.balance,
        failover: written.failover,
        transactions: written.transactions,
        catalog: written.catalog,
        sequences: written.sequences,
        control: written.control,
        limits: written.limits,
        auth: written.auth,
        users: written.user,
        databases,
        shards,
        tables,
        strategies,
        rules,
        metrics: written.metrics,
        console: written.console,
        logging: written.logging,
        entries,
        written: kept,
    })
}

/// The names of shards, which other sections refer to.
struct Names<'a> {
    shards: &'a [Label],
}

impl Names<'_> {
    /// Reports a shard that does not exist.
    fn shard(&self, name: &str, offset: usize, findings: &mut Findings) {
        if !self.shards.iter().any(|shard| shard.as_str() == name) {
            let known = self.shards.iter().map(Label::as_str);
            findings.add(
                offset,
                format!("there is no shard `{}`", name.escape_debug()),
                suggest(name, known),
            );
        }
    }
}

/// Reports each name that occurs again.
fn duplicates<'a, T: Display + 'a>(
    what: &str,
    names: impl IntoIterator<Item = &'a At<T>>,
    findings: &mut Findings,
) {
    let mut seen = BTreeMap::new();
    for name in names {
        let text = name.value.to_string();
        if seen.insert(text.clone(), ()).is_some() {
            findings.add(
                name.offset,
                format!("there are two {what} `{text}`"),
                "keep one of them",
            );
        }
    }
}

/// "1 column", "2 columns".
fn count(number: usize, thing: &str) -> String {
    if number == 1 {
        format!("1 {thing}")
    } else {
        format!("{number} {thing}s")
    }
}
