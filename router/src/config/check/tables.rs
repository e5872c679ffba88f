//! Checks the declarations of tables: each is complete, and colocated tables have the same key.

use mothership_shardmap::KeyType;

use crate::config::documents::collection;
use crate::config::names::Name;
use crate::config::problem::{Findings, suggest};
use crate::config::shards::{Engine, WrittenShard};
use crate::config::tables::{
    Place, Strategy, StrategyKind, Table, TableDefaults, TableKind, Tables, WrittenTable,
};
use crate::config::value::At;
use mothership_shardmap::Label;

use super::{count, duplicates};

/// PostgreSQL's limit for the columns of a partition key (`PARTITION_MAX_KEYS`).
const KEY_COLUMNS: usize = 32;

pub(super) fn check(
    defaults: TableDefaults,
    written: Vec<WrittenTable>,
    strategies: (&[Strategy], &[Label]),
    shards: &[WrittenShard],
    findings: &mut Findings,
) -> Tables {
    duplicates("tables", written.iter().map(|table| &table.name), findings);
    let has_postgres = shards
        .iter()
        .any(|shard| shard.engine.value == Engine::Postgresql);
    for table in &written {
        if !(has_postgres || shards.is_empty() || kind(table) == TableKind::Documents) {
            findings.add(
                table.name.offset,
                format!(
                    "table `{}` has no shard: none is of PostgreSQL",
                    table.name.value
                ),
                "add a shard of PostgreSQL, or make it a table of documents",
            );
        }
        own(table, findings);
        strategy(table, strategies, findings);
        colocation(table, &written, findings);
        if kind(table) != TableKind::Documents {
            not_of_documents(table, findings);
        }
    }
    let places: Vec<Option<Place>> = written
        .iter()
        .map(|table| match kind(table) {
            TableKind::Documents => documents(table, shards, findings),
            _ => None,
        })
        .collect();
    let written = written.into_iter().zip(places);
    Tables {
        default: defaults.default,
        key_updates: defaults.key_updates,
        declared: written.map(finished).collect(),
    }
}

fn kind(table: &WrittenTable) -> TableKind {
    let implied = if table.key.is_empty() {
        TableKind::Home
    } else {
        TableKind::Sharded
    };
    table.kind.as_ref().map_or(implied, |kind| kind.value)
}

fn finished((table, documents): (WrittenTable, Option<Place>)) -> Table {
    let place = match kind(&table) {
        // If there is no place, an error was reported.
        TableKind::Documents => documents.unwrap_or(Place::Home),
        TableKind::Home => Place::Home,
        TableKind::Reference => Place::Reference,
        TableKind::Sharded => Place::Sharded {
            key: table.key.into_iter().map(|column| column.value).collect(),
            key_types: table
                .key_type
                .into_iter()
                .map(|key_type| key_type.value)
                .collect(),
            strategy: table.strategy.map(|strategy| strategy.value),
            colocate: table.colocate.map(|other| other.value),
        },
    };
    Table {
        name: table.name.value,
        place,
        allow_unenforced_unique: table.allow_unenforced_unique,
    }
}

/// Where the rows of a table of documents are; `None` if the declaration is wrong.
fn documents(
    table: &WrittenTable,
    shards: &[WrittenShard],
    findings: &mut Findings,
) -> Option<Place> {
    let name = &table.name.value;
    let before = findings.len();
    if table.shards.is_empty() {
        let what = format!("table `{name}` of kind \"documents\" names no `shards`");
        let fix = "name shards whose `engine` is \"mongodb\"";
        findings.add(table.name.offset, what, fix);
    }
    duplicates("shards of a table", &table.shards, findings);
    for shard in &table.shards {
        let found = shards.iter().find(|one| one.name.value == shard.value);
        let what = match found {
            Some(found) if found.engine.value == Engine::Mongodb => continue,
            Some(_) => format!("table `{name}` names shard `{}` of PostgreSQL", shard.value),
            None => format!("there is no shard `{}`", shard.value),
        };
        findings.add(
            shard.offset,
            what,
            "name shards whose `engine` is \"mongodb\"",
        );
    }
    let collection = match collection(table) {
        Ok(collection) => collection,
        Err(mistakes) => {
            for (at, what, fix) in mistakes {
                findings.add(at, what, fix);
            }
            return None;
        }
    };
    let primary = collection.unique.first()?;
    let own = || primary.columns.iter().copied();
    let key: Vec<usize> = match table.key.is_empty() {
        true => own().collect(),
        false => table
            .key
            .iter()
            .filter_map(|column| {
                let found = collection.column(column.value.as_str());
                if found.is_none() {
                    let what = format!("table `{name}` has no column `{}`", column.value);
                    findings.add(column.offset, what, "name columns of the table");
                }
                found
            })
            .collect(),
    };
    let mut key_types = Vec::new();
    for column in key.iter().map(|at| &collection.columns[*at]) {
        // The slot is computed from the value as it is written in a statement, before it is rounded.
        let is_rounded = table.shards.len() > 1 && column.kind.is_rounded();
        match KeyType::from_oid(column.kind.oid()) {
            Some(key_type) if column.not_null && !is_rounded => key_types.push(key_type),
            found => {
                let what = format!(
                    "table `{name}` is sharded by `{}`, which {}",
                    column.name,
                    match found {
                        Some(_) if is_rounded => "is rounded",
                        Some(_) => "may be NULL",
                        None => "cannot be a key",
                    }
                );
                findings.add(table.name.offset, what, "give a `key` that can be one");
            }
        }
    }
    // A shard can enforce a unique key only if equal keys are on one shard.
    let apart = collection
        .unique
        .iter()
        .find(|unique| !key.iter().all(|column| unique.columns.contains(column)));
    if let (true, Some(unique)) = (table.shards.len() > 1, apart) {
        let what = format!(
            "unique key `{}` of table `{name}` does not have all columns of its `key`",
            unique.name
        );
        let fix = "each shard keeps it for itself only: leave it out, or use one shard";
        findings.add(table.name.offset, what, fix);
    }
    if findings.len() > before {
        return None;
    }
    let columns = key.iter().map(|at| &collection.columns[*at].name);
    Some(Place::Documents {
        key: columns.filter_map(|column| Name::new(column)).collect(),
        key_types,
        shards: table
            .shards
            .iter()
            .map(|shard| shard.value.clone())
            .collect(),
        collection,
    })
}

/// Reports settings that only tables of documents may have.
fn not_of_documents(table: &WrittenTable, findings: &mut Findings) {
    let name = &table.name.value;
    let stray = [
        ("shards", table.shards.first().map(|shard| shard.offset)),
        ("column", table.column.first().map(|one| one.name.offset)),
        ("unique", table.unique.first().map(|one| one.name.offset)),
        (
            "collection",
            table.collection.as_ref().map(|_| table.name.offset),
        ),
        ("owner", table.owner.as_ref().map(|_| table.name.offset)),
    ];
    for (key, at) in stray {
        if let Some(at) = at {
            let what = format!("table `{name}` has `{key}`");
            findings.add(at, what, "only a table of kind \"documents\" has it");
        }
    }
}

/// Checks what each kind of declaration needs, and what it may not have.
fn own(table: &WrittenTable, findings: &mut Findings) {
    let name = &table.name.value;
    let at = table.name.offset;
    if table.kind.is_none() && table.key.is_empty() {
        let fix = "give `key`, or `kind` = \"reference\" or \"home\"";
        return findings.add(
            at,
            format!("table `{name}` does not say where its rows live"),
            fix,
        );
    }
    if kind(table) == TableKind::Sharded {
        return sharded(table, findings);
    }
    let own_key = kind(table) == TableKind::Documents;
    let key = table.key.first().filter(|_| !own_key);
    let stray = [
        ("key", key.map(|key| key.offset)),
        (
            "key_type",
            table.key_type.first().map(|key_type| key_type.offset),
        ),
        (
            "strategy",
            table.strategy.as_ref().map(|strategy| strategy.offset),
        ),
        (
            "colocate",
            table.colocate.as_ref().map(|other| other.offset),
        ),
    ];
    for (key, at) in stray {
        if let Some(at) = at {
            let what = format!("table `{name}` of kind \"{}\" has `{key}`", kind(table));
            findings.add(at, what, "only a sharded table has one");
        }
    }
}

fn sharded(table: &WrittenTable, findings: &mut Findings) {
    let name = &table.name.value;
    let at = table.name.offset;
    if table.key.is_empty() {
        findings.add(
            at,
            format!("sharded table `{name}` has no `key`"),
            "name the column that decides the shard",
        );
    }
    if let Some(extra) = table.key.get(KEY_COLUMNS) {
        findings.add(
            extra.offset,
            format!("the key of table `{name}` has more than {KEY_COLUMNS} columns"),
            "",
        );
    }
    duplicates("key columns", &table.key, findings);
    if !table.key_type.is_empty() && table.key_type.len() != table.key.len() {
        let what = format!(
            "table `{name}` has {} and {}",
            count(table.key.len(), "key column"),
            count(table.key_type.len(), "key type")
        );
        findings.add(
            table.key_type[0].offset,
            what,
            "give one type for each column, or none",
        );
    }
}

fn strategy(
    table: &WrittenTable,
    (whole, names): (&[Strategy], &[Label]),
    findings: &mut Findings,
) {
    let Some(name) = table
        .strategy
        .as_ref()
        .filter(|_| kind(table) == TableKind::Sharded)
    else {
        return;
    };
    if !names.contains(&name.value) {
        let what = format!("there is no strategy `{}`", name.value);
        let fix = match names {
            [] => "declare it as a [[strategy]]".to_owned(),
            names => suggest(name.value.as_str(), names.iter().map(Label::as_str)),
        };
        return findings.add(name.offset, what, fix);
    }
    // An incomplete strategy is reported elsewhere.
    let Some(strategy) = whole.iter().find(|strategy| strategy.name == name.value) else {
        return;
    };
    let (StrategyKind::Range { key_types, .. } | StrategyKind::List { key_types, .. }) =
        &strategy.kind
    else {
        return;
    };
    let own = types(table);
    if key_types.len() != table.key.len() || !own.is_empty() && own != *key_types {
        let own = if own.is_empty() {
            count(table.key.len(), "column")
        } else {
            spell(&own)
        };
        let what = format!(
            "the key of table `{}` is {own} and that of its strategy is {}",
            table.name.value,
            spell(key_types)
        );
        findings.add(name.offset, what, "give them the same types");
    }
}

fn types(table: &WrittenTable) -> Vec<KeyType> {
    table.key_type.iter().map(|one| one.value).collect()
}

fn spell(types: &[KeyType]) -> String {
    types
        .iter()
        .map(|one| one.name())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Checks that equal keys of colocated tables are on one shard. For this, both tables must turn keys into the same
/// bytes, and these into the same shard: the same number of columns, the same types and the same strategy.
fn colocation(table: &WrittenTable, all: &[WrittenTable], findings: &mut Findings) {
    let Some(other) = &table.colocate else { return };
    let (name, at) = (&table.name.value, other.offset);
    let Some(group) = all.iter().find(|one| one.name.value == other.value) else {
        let known: Vec<String> = all.iter().map(|one| one.name.value.to_string()).collect();
        let what = format!(
            "table `{name}` is colocated with `{}`, which is not declared",
            other.value
        );
        return findings.add(
            at,
            what,
            suggest(&other.value.to_string(), known.iter().map(String::as_str)),
        );
    };
    let mut refuse = |what: String, fix: &str| {
        findings.add(at, format!("table `{name}` is colocated with {what}"), fix)
    };
    if !other.value.is_exact() {
        return refuse(format!("the pattern `{}`", other.value), "name one table");
    }
    if group.name == table.name {
        return refuse("itself".to_owned(), "leave `colocate` out");
    }
    if kind(group) != TableKind::Sharded {
        return refuse(
            format!("`{}`, which is of kind \"{}\"", other.value, kind(group)),
            "name a sharded table",
        );
    }
    if let Some(first) = &group.colocate {
        let what = format!(
            "`{}`, which is itself colocated with `{}`",
            other.value, first.value
        );
        return refuse(what, "name the first table of the group");
    }
    if group.key.len() != table.key.len() {
        let what = format!(
            "`{}`, whose key has {} and not {}",
            other.value,
            count(group.key.len(), "column"),
            table.key.len()
        );
        return refuse(what, "colocated tables have keys of the same types");
    }
    let (own, theirs) = (types(table), types(group));
    if !own.is_empty() && !theirs.is_empty() && own != theirs {
        let what = format!(
            "`{}`, whose key is {} and not {}",
            other.value,
            spell(&theirs),
            spell(&own)
        );
        return refuse(what, "colocated tables have keys of the same types");
    }
    let named = |table: &WrittenTable| {
        table
            .strategy
            .as_ref()
            .map(|At { value, .. }| value.clone())
    };
    if table.strategy.is_some() && named(table) != named(group) {
        refuse(
            format!("`{}`, which has another strategy", other.value),
            "leave `strategy` out",
        );
    }
}
