//! Rules: each has what its action needs and nothing else.

use crate::config::problem::{Findings, suggest};
use crate::config::rules::{Action, ActionWord, Rule, When, WrittenRule};
use crate::config::shards::WrittenShard;

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
    let Some(label) = &rule.label else { return };
    let servers = shards.iter().flat_map(|shard| &shard.server);
    let known: Vec<&str> = servers
        .flat_map(|server| &server.labels)
        .map(|label| label.as_str())
        .collect();
    if !known.contains(&label.value.as_str()) {
        let what = format!("no server has the label `{}`", label.value);
        let fix = match known.as_slice() {
            [] => "add it to the `labels` of a server".to_owned(),
            known => suggest(label.value.as_str(), known.iter().copied()),
        };
        findings.add(label.offset, what, fix);
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
    let given = [
        (
            "shard",
            rule.shard.as_ref().map(|it| it.offset),
            ActionWord::Shard,
        ),
        (
            "pool",
            rule.pool.as_ref().map(|it| it.offset),
            ActionWord::Pool,
        ),
        (
            "pool_max",
            rule.pool_max.as_ref().map(|it| it.offset),
            ActionWord::Pool,
        ),
        (
            "label",
            rule.label.as_ref().map(|it| it.offset),
            ActionWord::Replica,
        ),
        (
            "message",
            rule.message.as_ref().map(|it| it.offset),
            ActionWord::Refuse,
        ),
    ];
    if let (ActionWord::Refuse, Some(priority)) = (rule.action.value, &rule.priority) {
        let what = format!(
            "rule `{}` with action \"refuse\" has `priority`",
            rule.name.value
        );
        findings.add(
            priority.offset,
            what,
            "it belongs to every other action: what is refused does not wait",
        );
    }
    for (key, at, action) in given {
        if let Some(at) = at.filter(|_| rule.action.value != action) {
            let what = format!(
                "rule `{}` with action \"{}\" has `{key}`",
                rule.name.value, rule.action.value
            );
            findings.add(at, what, format!("it belongs to the action \"{action}\""));
        }
    }
}

fn finished(written: WrittenRule, findings: &mut Findings) -> Option<Rule> {
    let mut needs = |key: &str| {
        let what = format!(
            "rule `{}` with action \"{}\" has no `{key}`",
            written.name.value, written.action.value
        );
        findings.add(written.action.offset, what, "this action needs it");
    };
    let action = match written.action.value {
        ActionWord::Primary => Action::Primary,
        ActionWord::Replica => Action::Replica {
            label: written.label.map(|label| label.value),
        },
        ActionWord::Shard => {
            Action::Shard(written.shard.or_else(|| (needs("shard"), None).1)?.value)
        }
        ActionWord::Pool => Action::Pool {
            name: written.pool.or_else(|| (needs("pool"), None).1)?.value,
            max: written.pool_max.map(|max| max.value),
        },
        ActionWord::Refuse => Action::Refuse {
            message: written
                .message
                .or_else(|| (needs("message"), None).1)?
                .value,
        },
    };
    let when = When {
        users: written.users,
        databases: written.databases,
        applications: written.applications,
        networks: written.networks,
        kinds: written.kinds,
        tables: written.tables,
    };
    Some(Rule {
        name: written.name.value,
        when,
        action,
        priority: written.priority.map_or(0, |priority| priority.value),
    })
}
