//! Rules: each has what its action needs and nothing else.

use crate::config::pool::{Freshness, Reads};
use crate::config::problem::Findings;
use crate::config::rules::{
    Action, ActionWord, Caps, Level, Rule, RuleConditions, RulePool, WrittenRule,
};
use crate::config::shape::shape;
use crate::config::shards::WrittenShard;
use std::time::Duration;

use super::shards::has_label;
use super::{Names, duplicates};

pub(super) fn check(
    written: Vec<WrittenRule>,
    shards: &[WrittenShard],
    known: &Names<'_>,
    findings: &mut Findings,
) -> Vec<Rule> {
    duplicates("rules", written.iter().map(|rule| &rule.name), findings);
    for rule in &written {
        if let Some(shard) = &rule.shard {
            known.shard(shard.value.as_str(), shard.offset, findings);
        }
        label(rule, shards, findings);
        stray(rule, findings);
    }
    one_limit(&written, findings);
    written
        .into_iter()
        .filter_map(|rule| finished(rule, findings))
        .collect()
}

fn label(rule: &WrittenRule, shards: &[WrittenShard], findings: &mut Findings) {
    if let Some(label) = &rule.label {
        has_label(label, shards, findings);
    }
}

/// Rules that share pools share their limit.
fn one_limit(rules: &[WrittenRule], findings: &mut Findings) {
    for (at, rule) in rules.iter().enumerate() {
        let (Some(pool), Some(max)) = (&rule.pool, &rule.pool_max) else {
            continue;
        };
        let before = rules[..at].iter().filter(|r| {
            let same = r.pool.as_ref().is_some_and(|p| p.value == pool.value);
            same && r.pool_max.as_ref().is_some_and(|m| m.value != max.value)
        });
        for other in before {
            let what = format!(
                "rules `{}` and `{}` give the pool `{}` different limits",
                other.name.value, rule.name.value, pool.value
            );
            findings.add(max.offset, what, "give `pool_max` in one of them");
        }
    }
}

fn stray(rule: &WrittenRule, findings: &mut Findings) {
    let name = &rule.name.value;
    let action = rule.action.as_ref().map(|action| action.value);
    let has = |key: &str| match action {
        Some(action) => format!("rule `{name}` with action \"{action}\" has `{key}`"),
        None => format!("rule `{name}` has `{key}`"),
    };
    let label = rule.label.as_ref().map(|it| it.offset);
    let steers = matches!(action, Some(ActionWord::Replica | ActionWord::Group));
    let reads = rule.reads.as_ref();
    let labelled = steers || reads.is_some_and(|reads| reads.value != Reads::Primary);
    if let Some(at) = label.filter(|_| !labelled) {
        let fix = "it belongs to the actions \"replica\" and \"group\", and to `reads` but for \"primary\"";
        findings.add(at, has("label"), fix);
    }
    if let Some(reads) = reads.filter(|_| steers || action == Some(ActionWord::Primary)) {
        let fix = "the action says already who serves reads; keep one of both";
        findings.add(reads.offset, has("reads"), fix);
    }
    let message = rule.message.as_ref().map(|it| it.offset);
    let refuses = action == Some(ActionWord::Refuse);
    if let Some(at) = message.filter(|_| !refuses) {
        findings.add(at, has("message"), "it belongs to the action \"refuse\"");
    }
    let served = [
        ("reads", reads.map(|it| it.offset)),
        ("shard", rule.shard.as_ref().map(|it| it.offset)),
        ("pool", rule.pool.as_ref().map(|it| it.offset)),
        ("pool_max", rule.pool_max.as_ref().map(|it| it.offset)),
        ("priority", rule.priority.as_ref().map(|it| it.offset)),
        ("concurrency", rule.concurrency.as_ref().map(|it| it.offset)),
        ("rate", rule.rate.as_ref().map(|it| it.offset)),
        ("wait", rule.wait.as_ref().map(|it| it.offset)),
        ("timeout", rule.timeout.as_ref().map(|it| it.offset)),
        ("freshness", rule.freshness.as_ref().map(|it| it.offset)),
        ("max_lag", rule.max_lag.as_ref().map(|it| it.offset)),
    ];
    for (key, at) in served {
        if let Some(at) = at.filter(|_| refuses) {
            let fix = match key {
                "priority" => {
                    "it belongs to every other action: what is refused does not wait".to_owned()
                }
                _ => "it belongs to every other action: what is refused does not run".to_owned(),
            };
            findings.add(at, has(key), fix);
        }
    }
    let beside = [
        (
            "pool_max",
            rule.pool_max.as_ref().map(|it| it.offset),
            rule.pool.is_some(),
            "pool",
        ),
        (
            "zone",
            rule.zone.as_ref().map(|it| it.offset),
            !rule.times.is_empty(),
            "times",
        ),
        (
            "wait",
            rule.wait.as_ref().map(|it| it.offset),
            rule.concurrency.is_some() || rule.rate.is_some(),
            "concurrency` or `rate",
        ),
        (
            "max_lag",
            rule.max_lag.as_ref().map(|it| it.offset),
            rule.freshness
                .as_ref()
                .is_some_and(|it| it.value == Freshness::Bounded),
            "freshness = \"bounded\"",
        ),
    ];
    for (key, at, fine, other) in beside {
        if let Some(at) = at.filter(|_| !fine && !refuses) {
            findings.add(at, has(key), format!("it belongs to `{other}`"));
        }
    }
    for statement in &rule.statements {
        if shape(statement.value.as_bytes(), true).is_none_or(|shape| shape.is_empty()) {
            let what = format!("a statement of rule `{name}` cannot be read");
            findings.add(statement.offset, what, "give a whole statement of SQL");
        }
    }
}

fn finished(written: WrittenRule, findings: &mut Findings) -> Option<Rule> {
    let mut needs = |key: &str| {
        let Some(action) = &written.action else {
            return;
        };
        let what = format!(
            "rule `{}` with action \"{}\" has no `{key}`",
            written.name.value, action.value
        );
        findings.add(action.offset, what, "this action needs it");
    };
    let label = written.label.map(|label| label.value);
    let of_reads = |label| match written.reads.as_ref().map(|reads| reads.value) {
        None => Action::Any,
        Some(Reads::Primary) => Action::Primary,
        Some(by) => Action::Reads { by, label },
    };
    let action = match written.action.as_ref().map(|action| action.value) {
        None => of_reads(label),
        Some(ActionWord::Primary) => Action::Primary,
        Some(ActionWord::Replica) => Action::Reads {
            by: Reads::PreferReplicas,
            label,
        },
        Some(ActionWord::Group) => Action::Reads {
            by: Reads::Any,
            label: Some(label.or_else(|| (needs("label"), None).1)?),
        },
        Some(ActionWord::Shard) => {
            if written.shard.is_none() {
                needs("shard");
                return None;
            }
            of_reads(label)
        }
        Some(ActionWord::Pool) => {
            if written.pool.is_none() {
                needs("pool");
                return None;
            }
            of_reads(label)
        }
        Some(ActionWord::Refuse) => Action::Refuse {
            message: written
                .message
                .or_else(|| (needs("message"), None).1)?
                .value,
        },
    };
    let does_nothing = written.action.is_none()
        && written.reads.is_none()
        && written.shard.is_none()
        && written.pool.is_none()
        && written.priority.is_none()
        && written.concurrency.is_none()
        && written.rate.is_none()
        && written.timeout.is_none()
        && written.freshness.is_none()
        && !written.log;
    if does_nothing {
        let what = format!("rule `{}` does nothing", written.name.value);
        let fix = "give it an `action`, or one of the settings that may stand without";
        findings.add(written.name.offset, what, fix);
        return None;
    }
    let shapes = written.statements.iter();
    let when = RuleConditions {
        users: written.users,
        databases: written.databases,
        applications: written.applications,
        networks: written.networks,
        kinds: written.kinds,
        tables: written.tables,
        statements: shapes
            .filter_map(|statement| shape(statement.value.as_bytes(), true))
            .collect(),
        times: written.times,
        zone: written.zone.map(|zone| zone.value).unwrap_or_default(),
    };
    let max = written.pool_max.map(|max| max.value);
    Some(Rule {
        name: written.name.value,
        when,
        action,
        shard: written.shard.map(|shard| shard.value),
        pool: written.pool.map(|pool| RulePool {
            name: pool.value,
            max,
        }),
        priority: written.priority.map_or(0, |priority| priority.value),
        caps: Caps {
            concurrency: written.concurrency.map(|most| most.value),
            rate: written.rate.map(|rate| rate.value),
            wait: written.wait.map_or(Duration::ZERO, |wait| wait.value),
        },
        timeout: written.timeout.map(|timeout| timeout.value),
        level: written.freshness.map(|freshness| Level {
            freshness: freshness.value,
            max_lag: written.max_lag.map(|limit| limit.value),
        }),
        log: written.log,
    })
}
