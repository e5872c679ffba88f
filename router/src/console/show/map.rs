//! SHOW MAP: what is declared, and the tables that each database has.

use super::Facts;
use super::topology::list;
use crate::config::{Label, Place, Table};
use crate::console::table::{Row, Value, row};
use crate::model::DatabaseModel;
use mothership_catalog::{Relation, RelationKind};
use mothership_shardmap::{Placement, Sharded, Strategy};

pub(super) fn map(facts: &Facts) -> Vec<Row> {
    let tables = &facts.topology.config.tables;
    let mut rows: Vec<Row> = tables.declared.iter().map(declared).collect();
    let rest = ("*".to_owned(), tables.default.to_string());
    rows.push(plain(None, rest, false));
    for (database, model) in &facts.known {
        // The decision table is the router's.
        let own = facts.topology.config.transactions.schema.as_str();
        rows.extend(known(database, model, own));
    }
    rows
}

/// A row with nothing to say of a key.
fn plain(database: Option<&str>, (table, place): (String, String), allowed: bool) -> Row {
    let none = || Value::Null;
    row![
        database,
        table,
        place,
        none(),
        none(),
        none(),
        none(),
        none(),
        none(),
        allowed,
        none(),
        none(),
    ]
}

fn declared(table: &Table) -> Row {
    let allowed = table.allow_unenforced_unique;
    let name = table.name.to_string();
    let (key, key_types, strategy, colocate) = match &table.place {
        Place::Home => return plain(None, (name, "home".to_owned()), allowed),
        Place::Reference => return plain(None, (name, "reference".to_owned()), allowed),
        Place::Documents {
            key,
            key_types,
            shards,
            ..
        } => {
            let types: Vec<&str> = key_types.iter().map(|t| t.name()).collect();
            let shards: Vec<&str> = shards.iter().map(Label::as_str).collect();
            return row![
                Value::Null,
                name,
                "documents",
                list(key),
                types.join(", "),
                "slots",
                Value::Null,
                shards.join(", "),
                Value::Null,
                allowed,
                Value::Null,
                Value::Null,
            ];
        }
        Place::Sharded {
            key,
            key_types,
            strategy,
            colocate,
        } => (key, key_types, strategy, colocate),
    };
    let types: Vec<&str> = key_types.iter().map(|t| t.name()).collect();
    row![
        Value::Null,
        name,
        "sharded",
        list(key),
        (!types.is_empty()).then(|| types.join(", ")),
        strategy
            .as_ref()
            .map_or("slots".to_owned(), ToString::to_string),
        colocate.as_ref().map(ToString::to_string),
        Value::Null,
        Value::Null,
        allowed,
        Value::Null,
        Value::Null,
    ]
}

/// The tables of one database; partitions are their parent's.
fn known(database: &str, model: &DatabaseModel, own: &str) -> Vec<Row> {
    let relations = model.catalog().relations.values();
    let tables = relations.filter(|r| {
        r.kind == RelationKind::Table
            && r.parent.is_none()
            && !r.name.is_system()
            && r.name.schema != own
    });
    let unenforced = model.planner().unenforced_by_table();
    let row = |relation: &Relation| {
        let own = unenforced.iter().filter(|(name, _)| *name == relation.name);
        let own: Vec<&str> = own
            .map(|(_, refusal)| refusal.detail.as_deref().unwrap_or(refusal.message()))
            .collect();
        let differs = model.drift.iter();
        let differs = differs.filter(|drift| drift.relation() == Some(&relation.name));
        let differs: Vec<String> = differs.map(|drift| model.told(drift)).collect();
        table(
            database,
            model,
            relation,
            own.join("; "),
            differs.join("; "),
        )
    };
    let mut rows: Vec<Row> = tables.map(row).collect();
    // What is on the other shards only, types, functions and extensions.
    let shown = |drift: &mothership_catalog::Drift| {
        let name = drift.relation();
        name.is_some_and(|name| model.catalog().relation(name).is_some())
    };
    for drift in model.drift.iter().filter(|drift| !shown(drift)) {
        let mut row = plain(Some(database), ("*".to_owned(), "all".to_owned()), false);
        if let Some(last) = row.last_mut() {
            *last = model.told(drift).into();
        }
        rows.push(row);
    }
    rows
}

fn table(
    database: &str,
    model: &DatabaseModel,
    relation: &Relation,
    unenforced: String,
    drift: String,
) -> Row {
    let placement = model.planner().placement(relation);
    let (place, sharded) = match &placement {
        Placement::Home => ("home", None),
        Placement::Reference => ("reference", None),
        Placement::Sharded(sharded) if model.map().has_documents(&sharded.shards) => {
            ("documents", Some(sharded))
        }
        Placement::Sharded(sharded) => ("sharded", Some(sharded)),
    };
    let key = sharded.map(|s| names(s.columns.iter().map(|(name, _)| name.as_str())));
    let types = sharded.map(|s| names(s.columns.iter().map(|(_, t)| t.name())));
    let group = sharded.map(|s| match model.map().group_name(s.group) {
        "" => format!("#{}", s.group.0),
        name => name.to_owned(),
    });
    row![
        database,
        relation.name.to_string(),
        place,
        key,
        types,
        sharded.map(|s| s.strategy.name()),
        Value::Null,
        group,
        sharded.map(|s| shards(model, s)),
        sharded.is_some_and(|s| s.allow_unenforced_unique),
        (!unenforced.is_empty()).then_some(unenforced),
        (!drift.is_empty()).then_some(drift),
    ]
}

/// What each shard has: its slots, or just that it has some.
fn shards(model: &DatabaseModel, sharded: &Sharded) -> String {
    let map = model.map();
    match &sharded.strategy {
        Strategy::Hash(slots) => {
            let ranges = slots.ranges();
            let each = ranges.map(|(range, shard)| {
                format!(
                    "{} {}-{}",
                    map.shard_name(shard),
                    range.start(),
                    range.end()
                )
            });
            each.collect::<Vec<_>>().join(", ")
        }
        _ => names(sharded.shards.iter().map(|shard| map.shard_name(shard))),
    }
}

fn names<'a>(each: impl Iterator<Item = &'a str>) -> String {
    each.collect::<Vec<_>>().join(", ")
}
