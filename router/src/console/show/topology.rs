//! SHOW SHARDS, ENDPOINTS and RULES: what the configuration says, and the load
//! that is on it.

use super::Facts;
use crate::config::{Action, Label, Reads, Rule};
use crate::console::table::{Row, row};
use crate::console::view::PoolView;
use crate::rules::limits;
use crate::rules::meter::Used;
use crate::topology::Server;
use mothership_pool::endpoint::EndpointId;
use mothership_pool::health::{ServerSnapshot, State};
use mothership_pool::pool::PoolFigures;
use std::time::Duration;

/// The sum of the pools of some servers.
fn load<'a>(pools: impl Iterator<Item = &'a PoolView>) -> PoolFigures {
    pools.fold(PoolFigures::default(), |sum, pool| PoolFigures {
        active: sum.active + pool.figures.active,
        idle: sum.idle + pool.figures.idle,
        opening: sum.opening + pool.figures.opening,
        waiting: sum.waiting + pool.figures.waiting,
        opened: sum.opened + pool.figures.opened,
        failed: sum.failed + pool.figures.failed,
        ..sum
    })
}

fn load_of(facts: &Facts, server: EndpointId) -> PoolFigures {
    let pools = facts.view.pools.iter();
    load(pools.filter(|pool| pool.key.endpoint == server))
}

pub(super) fn shards(facts: &Facts) -> Vec<Row> {
    let topology = &facts.topology;
    let all = topology.shards.by_id();
    all.map(|(at, servers)| {
        let config = topology.config_of(at);
        let slots: usize = config.slots.iter().map(ExactSizeIterator::len).sum();
        let ranges = config.slots.iter();
        let ranges = ranges.map(|r| format!("{}-{}", r.start(), r.end()));
        let pools = facts.view.pools.iter();
        let load = load(pools.filter(|pool| {
            let ids = servers.servers.iter().map(|s| s.endpoint.id);
            ids.clone().any(|id| id == pool.key.endpoint)
        }));
        row![
            &*servers.name,
            at == topology.home,
            slots,
            ranges.collect::<Vec<_>>().join(","),
            topology.likely_primary(at).endpoint.address.to_string(),
            servers.servers.len(),
            load.active + load.idle + load.opening,
            load.waiting,
        ]
    })
    .collect()
}

pub(super) fn list<T: ToString>(items: &[T]) -> String {
    let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

pub(super) fn endpoints(facts: &Facts) -> Vec<Row> {
    let topology = &facts.topology;
    let both = topology.config.shards.iter().zip(&topology.shards);
    let mut rows = Vec::new();
    let known = topology.health.snapshot();
    for (group, ((config, shard), known)) in both.zip(&known).enumerate() {
        let servers = config.servers.iter().zip(&shard.servers).enumerate();
        for ((at, (declared, server)), seen) in servers.zip(&known.servers) {
            let mut labels: Vec<String> = declared.labels.iter().map(Label::to_string).collect();
            labels.extend(topology.health.labels(group, at));
            let servers = (declared, server);
            rows.push(endpoint(facts, &shard.name, servers, &labels, seen));
        }
    }
    rows
}

fn endpoint(
    facts: &Facts,
    shard: &str,
    (declared, server): (&crate::config::Server, &Server),
    labels: &[String],
    seen: &ServerSnapshot,
) -> Row {
    let load = load_of(facts, server.endpoint.id);
    let (health, reason) = match seen.state {
        State::Unknown { tried } => ("unknown", tried),
        State::Up => ("up", None),
        State::Down { reason } => ("down", Some(reason)),
    };
    let reason = reason.map(|reason| reason.to_string());
    let by = seen.hand.by.as_ref().filter(|_| !seen.hand.is_empty());
    row![
        server.endpoint.id.0,
        shard,
        server.endpoint.address.to_string(),
        server.role.to_string(),
        seen.view.role.to_string(),
        health,
        facts.now.text(seen.since),
        reason,
        seen.view.lag.map(|lag| micros(lag.time)),
        seen.view.lag.map(|lag| lag.bytes),
        seen.latency.map(micros),
        seen.in_flight,
        seen.served,
        seen.weight,
        labels.join(", "),
        load.active,
        load.idle,
        load.opening,
        load.waiting,
        load.opened,
        load.failed,
        declared.weight,
        seen.hand
            .out
            .map_or("yes".to_owned(), |out| out.to_string()),
        by.map(|(name, _)| name.to_string()),
        by.map(|(_, at)| facts.now.text(*at)),
        seen.view.breaker.to_string(),
    ]
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn rules(facts: &Facts) -> Vec<Row> {
    let set = &facts.topology.rules;
    let figures = set.counts().zip(set.used());
    let rules = set.rules().zip(figures).enumerate();
    rules
        .map(|(at, (found, (count, used)))| rule(at + 1, found, count, used))
        .collect()
}

fn rule(position: usize, rule: &Rule, matched: u64, used: Used) -> Row {
    let (mut action, mut argument) = match &rule.action {
        Action::Any => ("", Vec::new()),
        Action::Primary => ("primary", Vec::new()),
        Action::Reads { by, label } => {
            let label = label.iter().map(ToString::to_string);
            match by {
                Reads::PreferReplicas => ("replica", label.collect()),
                Reads::Any if label.len() > 0 => ("group", label.collect()),
                by => (
                    "reads",
                    std::iter::once(by.to_string()).chain(label).collect(),
                ),
            }
        }
        Action::Refuse { message } => ("refuse", vec![message.clone()]),
    };
    // The first of the others has the place of the action, if it is free.
    let shard = rule.shard.as_ref().map(ToString::to_string);
    let pool = rule.pool.as_ref().map(|pool| match pool.max {
        Some(max) => format!("{} (at most {max})", pool.name),
        None => pool.name.to_string(),
    });
    for (word, what) in [("shard", shard), ("pool", pool)] {
        match (what, action) {
            (None, _) => {}
            (Some(what), "") => (action, argument) = (word, vec![what]),
            (Some(what), _) => argument.push(format!("{word} {what}")),
        }
    }
    let times = match rule.when.times.is_empty() {
        true => String::new(),
        false => format!("{} {}", list(&rule.when.times), rule.when.zone),
    };
    row![
        position,
        rule.name.as_str(),
        list(&rule.when.users),
        list(&rule.when.databases),
        list(&rule.when.applications),
        list(&rule.when.networks),
        list(&rule.when.kinds),
        list(&rule.when.tables),
        rule.when.statements.join("; "),
        times,
        action,
        (!argument.is_empty()).then(|| argument.join(", ")),
        limits(rule).join(", "),
        used.running,
        used.waiting,
        used.refused,
        rule.priority,
        matched,
    ]
}
