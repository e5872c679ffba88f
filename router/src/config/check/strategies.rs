//! Strategies: each has what its kind needs and nothing else.

use crate::config::problem::Findings;
use crate::config::tables::{
    KeyList, KeyRange, Strategy, StrategyKind, StrategyWord, WrittenStrategy,
};

use super::{Names, duplicates};

pub(super) fn check(
    written: Vec<WrittenStrategy>,
    known: &Names<'_>,
    findings: &mut Findings,
) -> Vec<Strategy> {
    duplicates(
        "strategies",
        written.iter().map(|strategy| &strategy.name),
        findings,
    );
    for strategy in &written {
        let ranges = strategy.range.iter().map(|range| &range.shard);
        let lists = strategy.list.iter().map(|list| &list.shard);
        let shards = ranges
            .chain(lists)
            .chain(&strategy.other)
            .chain(&strategy.remainders);
        shards.for_each(|shard| known.shard(shard.value.as_str(), shard.offset, findings));
        stray(strategy, findings);
    }
    written
        .into_iter()
        .filter_map(|strategy| finished(strategy, findings))
        .collect()
}

/// Reports settings of another kind: whoever wrote them expects something of them.
fn stray(strategy: &WrittenStrategy, findings: &mut Findings) {
    use StrategyWord::{Directory, List, Postgres, Range};
    let given = [
        (
            "key_type",
            strategy.key_type.is_some(),
            [Range, List].as_slice(),
        ),
        ("range", !strategy.range.is_empty(), &[Range]),
        ("list", !strategy.list.is_empty(), &[List]),
        ("other", strategy.other.is_some(), &[List]),
        ("table", strategy.table.is_some(), &[Directory]),
        ("key_column", strategy.key_column.is_some(), &[Directory]),
        (
            "shard_column",
            strategy.shard_column.is_some(),
            &[Directory],
        ),
        ("remainders", !strategy.remainders.is_empty(), &[Postgres]),
    ];
    for (key, given, kinds) in given {
        if given && !kinds.contains(&strategy.kind) {
            let what = format!(
                "strategy `{}` of kind \"{}\" has `{key}`",
                strategy.name.value, strategy.kind
            );
            let kinds = kinds
                .iter()
                .map(|kind| format!("\"{kind}\""))
                .collect::<Vec<_>>()
                .join(" or ");
            findings.add(
                strategy.name.offset,
                what,
                format!("it belongs to the kind {kinds}"),
            );
        }
    }
}

fn finished(written: WrittenStrategy, findings: &mut Findings) -> Option<Strategy> {
    let WrittenStrategy {
        name,
        kind,
        key_type,
        range,
        list,
        other,
        table,
        key_column,
        shard_column,
        remainders,
    } = written;
    let mut needs = |what: &str| {
        let text = format!(
            "strategy `{}` of kind \"{kind}\" has no `{what}`",
            name.value
        );
        findings.add(name.offset, text, "this kind needs it");
    };
    let kind = match kind {
        StrategyWord::Range if range.is_empty() => return (needs("range"), None).1,
        StrategyWord::List if list.is_empty() => return (needs("list"), None).1,
        StrategyWord::Postgres if remainders.is_empty() => return (needs("remainders"), None).1,
        StrategyWord::Range => {
            let part = |part: super::super::tables::WrittenRange| KeyRange {
                from: part.from.map(|key| key.value),
                below: part.below.map(|key| key.value),
                shard: part.shard.value,
            };
            let key_type = key_type.or_else(|| (needs("key_type"), None).1)?;
            StrategyKind::Range {
                key_type,
                ranges: range.into_iter().map(part).collect(),
            }
        }
        StrategyWord::List => {
            let part = |part: super::super::tables::WrittenList| KeyList {
                values: part.values.into_iter().map(|key| key.value).collect(),
                shard: part.shard.value,
            };
            let key_type = key_type.or_else(|| (needs("key_type"), None).1)?;
            StrategyKind::List {
                key_type,
                lists: list.into_iter().map(part).collect(),
                other: other.map(|shard| shard.value),
            }
        }
        StrategyWord::Directory => {
            let table = table.or_else(|| (needs("table"), None).1);
            let key_column = key_column.or_else(|| (needs("key_column"), None).1);
            let shard_column = shard_column.or_else(|| (needs("shard_column"), None).1);
            StrategyKind::Directory {
                table: table?.value,
                key_column: key_column?,
                shard_column: shard_column?,
            }
        }
        StrategyWord::Postgres => StrategyKind::Postgres {
            remainders: remainders.into_iter().map(|shard| shard.value).collect(),
        },
    };
    Some(Strategy {
        name: name.value,
        kind,
    })
}
