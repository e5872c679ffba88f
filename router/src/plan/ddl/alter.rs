//! ALTER TABLE: what may change of a table that is on all shards.

use mothership_shardmap::Placement;
use sqlparser::ast::{AlterTableOperation, Ident, Statement};

use crate::catalog::{Key, Relation, TypeKind};
use crate::plan::names::{Names, Resolved, folded};
use crate::plan::refuse::{Reason, Refusal, refuse};
use crate::plan::{DdlPlace, Plan, PlanContext, parse};
use crate::sql::effect::Object;

use super::column::about_column;
use super::constraint::Constraints;
use super::create::Future;
use super::fills;
use super::words::{Only, Words, places_named};
use super::{ddl, home_table, on_all_shards, path_of};

pub(super) fn alter_table(
    names: &Names<'_>,
    sql: &str,
    words: &Words,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    let alter = match parse::statement(sql).map(|p| p.statement) {
        Ok(Statement::AlterTable(alter)) => alter,
        _ => return alter_unparsed(names, sql, words, context),
    };
    let (relation, place) = match names.resolve(&path_of(&alter.name), context) {
        Resolved::Relation(relation, place) => (relation, place),
        Resolved::Missing(name) => return Err(Refusal::of_table(Reason::NotInCatalog, &name)),
        Resolved::KeyGone(name) => return Err(Refusal::of_table(Reason::KeyGone, &name)),
        _ if names.mentions(sql) => return refuse(Reason::DdlNotUnderstood),
        _ => return home_table(),
    };
    let own = Future::existing(relation, &place);
    for operation in &alter.operations {
        keeps_primary_key(names, operation, relation)?;
        alter_operation(names, operation, &own, context)?;
    }
    if own.is_home() {
        return home_table();
    }
    on_all_shards("a table on all shards")
}

/// What is divided by its primary key only because nobody declares another must keep it.
fn keeps_primary_key(
    names: &Names<'_>,
    operation: &AlterTableOperation,
    relation: &Relation,
) -> Result<(), Refusal> {
    use AlterTableOperation as Op;
    let Some(key) = relation.keys.iter().find(|key| key.primary) else {
        return Ok(());
    };
    // A column takes those with it that are computed of it.
    let is_generated = |name: &String| relation.column(name).is_some_and(|(_, c)| c.generated);
    let gone = match operation {
        Op::DropConstraint { name, .. } => folded(name) == key.name,
        Op::DropColumn { column_names, .. } => {
            let mut dropped = column_names.iter().map(folded);
            dropped.any(|name| key.columns.contains(&name)) || key.columns.iter().any(is_generated)
        }
        _ => false,
    };
    if gone && names.is_by_primary_key(relation) {
        return Err(about_key(relation, key));
    }
    Ok(())
}

fn about_key(relation: &Relation, key: &Key) -> Refusal {
    about_column(Reason::KeyChange, &relation.name, &key.columns.join(", "))
}

/// DROP ... CASCADE of what a primary key's column cannot be without: its type, or what that type is made of.
pub(super) fn drops_no_key(
    names: &Names<'_>,
    words: &Words,
    object: Object,
) -> Result<(), Refusal> {
    if !words.has("cascade") {
        return Ok(());
    }
    let named = |name: &str| {
        let mut paths = words.paths();
        paths.any(|path| path.last().is_some_and(|last| last == name))
    };
    for relation in names.catalog.relations.values() {
        let Some(key) = relation.keys.iter().find(|key| key.primary) else {
            continue;
        };
        // It goes with its schema.
        let goes_too = object == Object::Schema && named(&relation.name.schema);
        if goes_too || !names.is_by_primary_key(relation) {
            continue;
        }
        let columns = key.columns.iter().filter_map(|name| relation.column(name));
        for (_, column) in columns {
            let types = names.catalog.types_under(column.type_oid);
            let is_opaque = types.iter().any(|(_, kind)| **kind == TypeKind::Other);
            let lost = match object {
                Object::Schema => column.generated || types.iter().any(|(n, _)| named(&n.schema)),
                Object::Type => is_opaque || types.iter().any(|(n, _)| named(&n.name)),
                Object::Table | Object::View | Object::MaterializedView => {
                    types.iter().any(|(n, _)| named(&n.name))
                }
                _ => column.generated || is_opaque,
            };
            if lost {
                return Err(about_key(relation, key));
            }
        }
    }
    Ok(())
}

fn alter_operation(
    names: &Names<'_>,
    operation: &AlterTableOperation,
    own: &Future,
    context: &PlanContext,
) -> Result<(), Refusal> {
    use AlterTableOperation as Op;
    use sqlparser::ast::AlterColumnOperation as Column;
    let sharded = match &own.placement {
        Placement::Sharded(sharded) => Some(sharded),
        _ => None,
    };
    let is_key = |ident: &Ident| {
        sharded.is_some_and(|s| s.columns.iter().any(|(name, _)| *name == folded(ident)))
    };
    let key_change =
        |ident: &Ident| Err(about_column(Reason::KeyChange, &own.name, &folded(ident)));
    let enforce = |constraints: Constraints| {
        constraints.check_foreign(names, own, context)?;
        match sharded {
            Some(sharded) => constraints.check_unique(sharded, &own.name),
            None => Ok(()),
        }
    };
    let mut constraints = Constraints::default();
    match operation {
        Op::AddConstraint { constraint, .. } => {
            constraints.add(constraint);
            enforce(constraints)
        }
        Op::AddColumn { column_def, .. } => {
            if !own.is_home() && fills::is_different(names, column_def) {
                let column = folded(&column_def.name);
                return Err(about_column(Reason::DdlFillsRows, &own.name, &column));
            }
            constraints.add_column(column_def);
            enforce(constraints)
        }
        Op::DropColumn { column_names, .. } => match column_names.iter().find(|c| is_key(c)) {
            Some(column) => key_change(column),
            None => Ok(()),
        },
        Op::RenameColumn {
            old_column_name, ..
        } if is_key(old_column_name) => key_change(old_column_name),
        Op::AlterColumn {
            column_name,
            op: Column::SetDataType {
                using: Some(using), ..
            },
        } if !own.is_home() && !fills::is_same_everywhere(names, using) => {
            let column = folded(column_name);
            Err(about_column(Reason::DdlFillsRows, &own.name, &column))
        }
        Op::AlterColumn { column_name, op } if is_key(column_name) => match op {
            Column::SetNotNull | Column::SetDefault { .. } | Column::DropDefault => Ok(()),
            _ => key_change(column_name),
        },
        Op::RenameColumn { .. }
        | Op::AlterColumn { .. }
        | Op::DropConstraint { .. }
        | Op::RenameConstraint { .. }
        | Op::ValidateConstraint { .. }
        | Op::OwnerTo { .. }
        | Op::EnableTrigger { .. }
        | Op::DisableTrigger { .. }
        | Op::EnableRowLevelSecurity
        | Op::DisableRowLevelSecurity
        | Op::ForceRowLevelSecurity
        | Op::NoForceRowLevelSecurity => Ok(()),
        // A declaration is by name, so a renamed table would change its place.
        _ if own.is_home() => Ok(()),
        _ => Err(Refusal::of_table(Reason::DdlNotUnderstood, &own.name)),
    }
}

/// ALTER TABLE with grammar that the parser does not know: only where no declared table is concerned, or
/// where its words show that partitions are attached or detached.
fn alter_unparsed(
    names: &Names<'_>,
    sql: &str,
    words: &Words,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    let partitions = (words.has("attach") || words.has("detach")) && words.has("partition");
    let transactional = !words.has("concurrently");
    let named = places_named(names, words, context)?;
    match named.only(names, sql, Reason::DdlNotUnderstood)? {
        Only::Declared if partitions => Ok(ddl(
            DdlPlace::AllShards,
            transactional,
            "partitions of a table on all shards",
        )),
        Only::Declared => refuse(Reason::DdlNotUnderstood),
        Only::Home => Ok(ddl(
            DdlPlace::Home,
            transactional,
            "a table of the home shard",
        )),
    }
}
