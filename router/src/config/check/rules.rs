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
        ActionWord::Pool => Action::Pool(written.pool.or_else(|| (needs("pool"), None).1)?.value),
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
    })
}
