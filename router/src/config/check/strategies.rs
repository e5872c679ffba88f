//! Strategies: each has what its kind needs and nothing else, and its keys do not overlap.

use mothership_shardmap::{
    Encoding, KeyBytes, KeyError, KeyType, MapError, ShardMapBuilder, ShardedDecl, TableDecl,
};
use mothership_shardmap::{TextContext, TimeZone};

use crate::config::map::strategy_decl;
use crate::config::problem::Findings;
use crate::config::tables::{KeyList, KeyRange, KeyText, Strategy, StrategyKind, StrategyWord};
use crate::config::tables::{WrittenList, WrittenRange, WrittenStrategy};
use crate::config::value::At;
use mothership_shardmap::Label;

use super::{Names, count, duplicates};

/// The file is UTF-8; it has no time zone, so a timestamptz has to bring its own.
const CONTEXT: TextContext = TextContext {
    time_zone: TimeZone::Other,
    encoding: Encoding::Utf8,
};

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
    let mut strategies = Vec::new();
    for strategy in written {
        let ranges = strategy.range.iter().map(|range| &range.shard);
        let lists = strategy.list.iter().map(|list| &list.shard);
        let shards = ranges
            .chain(lists)
            .chain(&strategy.other)
            .chain(&strategy.remainders);
        shards.for_each(|shard| known.shard(shard.value.as_str(), shard.offset, findings));
        stray(&strategy, findings);
        strategies.extend(finished(strategy, known.shards, findings));
    }
    strategies
}

/// Reports settings of another kind: whoever wrote them expects something of them.
fn stray(strategy: &WrittenStrategy, findings: &mut Findings) {
    use StrategyWord::{Directory, List, Postgres, Range};
    let given = [
        (
            "key_type",
            !strategy.key_type.is_empty(),
            [Range, List].as_slice(),
        ),
        ("range", !strategy.range.is_empty(), &[Range]),
        ("list", !strategy.list.is_empty(), &[List]),
        ("other", strategy.other.is_some(), &[Range, List]),
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

fn needs(strategy: &WrittenStrategy, what: &str, given: bool, findings: &mut Findings) -> bool {
    if !given {
        let text = format!(
            "strategy `{}` of kind \"{}\" has no `{what}`",
            strategy.name.value, strategy.kind
        );
        findings.add(strategy.name.offset, text, "this kind needs it");
    }
    given
}

fn finished(
    written: WrittenStrategy,
    shards: &[Label],
    findings: &mut Findings,
) -> Option<Strategy> {
    let mut whole = |what: &str, given: bool| needs(&written, what, given, findings);
    let whole = match written.kind {
        StrategyWord::Range => {
            whole("range", !written.range.is_empty())
                & whole("key_type", !written.key_type.is_empty())
        }
        StrategyWord::List => {
            whole("list", !written.list.is_empty())
                & whole("key_type", !written.key_type.is_empty())
        }
        StrategyWord::Postgres => whole("remainders", !written.remainders.is_empty()),
        StrategyWord::Directory => {
            whole("table", written.table.is_some())
                & whole("key_column", written.key_column.is_some())
                & whole("shard_column", written.shard_column.is_some())
        }
    };
    if !whole {
        return None;
    }
    let WrittenStrategy {
        name,
        kind,
        key_type: key_types,
        range,
        list,
        other,
        ..
    } = written;
    let offsets: Vec<usize> = match kind {
        StrategyWord::Range => range.iter().map(|range| range.shard.offset).collect(),
        _ => list
            .iter()
            .flat_map(|list| {
                list.keys
                    .iter()
                    .map(|key| key.first().map_or(list.shard.offset, |key| key.offset))
            })
            .collect(),
    };
    let other = other.map(|shard| shard.value);
    let kind = match kind {
        StrategyWord::Range => {
            let ranges = range
                .into_iter()
                .map(|range| key_range(range, &key_types, findings))
                .collect::<Option<_>>()?;
            StrategyKind::Range {
                key_types,
                ranges,
                other,
            }
        }
        StrategyWord::List => {
            let lists = list
                .into_iter()
                .map(|list| key_list(list, &key_types, findings))
                .collect::<Option<_>>()?;
            StrategyKind::List {
                key_types,
                lists,
                other,
            }
        }
        StrategyWord::Directory => StrategyKind::Directory {
            table: written.table?.value,
            key_column: written.key_column?,
            shard_column: written.shard_column?,
        },
        StrategyWord::Postgres => StrategyKind::Postgres {
            remainders: written
                .remainders
                .into_iter()
                .map(|shard| shard.value)
                .collect(),
        },
    };
    let strategy = Strategy {
        name: name.value,
        kind,
    };
    overlaps(&strategy, name.offset, &offsets, shards, findings);
    Some(strategy)
}

fn key_range(range: WrittenRange, types: &[KeyType], findings: &mut Findings) -> Option<KeyRange> {
    let (from, below) = (
        key(&range.from, types, findings),
        key(&range.below, types, findings),
    );
    Some(KeyRange {
        from: from?,
        below: below?,
        shard: range.shard.value,
    })
}

fn key_list(list: WrittenList, types: &[KeyType], findings: &mut Findings) -> Option<KeyList> {
    let keys: Vec<Option<Vec<KeyBytes>>> = list
        .keys
        .iter()
        .map(|one| key(one, types, findings))
        .collect();
    Some(KeyList {
        keys: keys.into_iter().collect::<Option<_>>()?,
        shard: list.shard.value,
    })
}

/// A key, or its first columns; a value too many is the map's to refuse.
fn key(
    values: &[At<KeyText>],
    types: &[KeyType],
    findings: &mut Findings,
) -> Option<Vec<KeyBytes>> {
    if let Some(extra) = values.get(types.len()) {
        let what = format!(
            "a key of {} has {}",
            count(types.len(), "column"),
            count(values.len(), "value")
        );
        findings.add(extra.offset, what, "give one value for each column");
        return None;
    }
    let read = values.iter().zip(types).map(|(text, key_type)| {
        let read = key_type.from_text(text.value.0.as_bytes(), &CONTEXT);
        if let Err(error) = read {
            let what = format!(
                "{:?} is not a certain value of type {}",
                text.value.0,
                key_type.name()
            );
            findings.add(text.offset, what, form(*key_type, error));
        }
        read.ok()
    });
    // All of them are read, so that all mistakes are reported.
    read.collect::<Vec<_>>().into_iter().collect()
}

fn form(key_type: KeyType, error: KeyError) -> &'static str {
    match (key_type, error) {
        (KeyType::TimestampTz, KeyError::Unsure) => {
            "give it with its offset: \"2025-01-31 12:00:00+00\""
        }
        (KeyType::Date, _) => "write it as \"2025-01-31\"",
        (KeyType::Timestamp | KeyType::TimestampTz, _) => {
            "write it as \"2025-01-31 12:00:00\", with an offset for timestamptz"
        }
        _ => "write it as PostgreSQL does",
    }
}

/// Lets the map itself find keys that two shards would own.
fn overlaps(
    strategy: &Strategy,
    at: usize,
    offsets: &[usize],
    shards: &[Label],
    findings: &mut Findings,
) {
    let (StrategyKind::Range { key_types, .. } | StrategyKind::List { key_types, .. }) =
        &strategy.kind
    else {
        return;
    };
    let columns = key_types
        .iter()
        .enumerate()
        .map(|(index, key_type)| (format!("column {index}"), *key_type))
        .collect();
    let Some(decl) = strategy_decl(&strategy.kind, None) else {
        return;
    };
    let table = ShardedDecl {
        columns,
        strategy: decl,
        group: None,
        allow_unenforced_unique: false,
    };
    let mut builder = ShardMapBuilder::new(0);
    for shard in shards {
        builder.shard(shard.as_str());
    }
    builder.table("", strategy.name.as_str(), TableDecl::Sharded(table));
    let offset = |entry: usize| offsets.get(entry).copied().unwrap_or(at);
    let name = &strategy.name;
    for error in builder.build().err().unwrap_or_default() {
        match error {
            MapError::RangeEmpty { entry, .. } => {
                findings.add(
                    offset(entry),
                    format!("range {} of strategy `{name}` is empty", entry + 1),
                    "`from` has to be less than `below`",
                );
            }
            MapError::RangeOverlap { first, second, .. } => {
                let what = format!(
                    "ranges {} and {} of strategy `{name}` overlap",
                    first + 1,
                    second + 1
                );
                findings.add(
                    offset(second),
                    what,
                    "`below` is not included; let one begin where the other ends",
                );
            }
            MapError::ListTwice { second, .. } => {
                findings.add(
                    offset(second),
                    format!("a key is twice in strategy `{name}`"),
                    "give each key to one shard",
                );
            }
            MapError::EntryWidth {
                entry,
                got,
                columns,
                ..
            } => {
                let what = format!(
                    "a key of {} has {} in strategy `{name}`",
                    count(columns, "column"),
                    count(got, "value")
                );
                findings.add(offset(entry), what, "give one value for each column");
            }
            // Shards are compared by name before.
            MapError::UnknownShard { .. }
            | MapError::ShardTwice { .. }
            | MapError::NoShards
            | MapError::TooManyShards { .. } => {}
            other => findings.add(at, format!("strategy `{name}`: {other}"), other.hint()),
        }
    }
}
