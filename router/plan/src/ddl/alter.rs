//! ALTER TABLE: what may change of a table that is on all shards.

use mothership_shardmap::Placement;
use sqlparser::ast::{AlterTableOperation, ColumnDef, Ident, Statement, TableConstraint};

use crate::left::same_place;
use crate::names::{Names, Reach, Resolved, folded};
use crate::refuse::{Reason, Refusal, refuse};
use crate::{Course, Ddl, DdlPlace, Plan, PlanContext, parse};
use mothership_catalog::{Key, Name, Relation, RelationKind, TypeKind};
use mothership_sql::effect::{Object, Verb};

use super::actions::{Action, Alteration, action};
use super::column::about_column;
use super::constraint::Constraints;
use super::create::Future;
use super::fills::{self, Filling};
use super::index::{index, is_index};
use super::words::{HomeOrDeclared, Words, places_named};
use super::{home_table, on_all_shards, sequence, view_changed};

/// Whether an alteration names another table, or gives the table another name.
fn concerns_others(read: &Alteration<'_>, context: &PlanContext) -> bool {
    let strings = context.standard_conforming_strings;
    read.actions.iter().any(|text| {
        let is_own = matches!(
            action(text, strings),
            Action::Harmless | Action::DropExpression(_) | Action::Other
        );
        !is_own || text.to_ascii_lowercase().contains("references")
    })
}

pub(super) fn alter_table(
    names: &Names<'_>,
    sql: &str,
    words: &Words,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    if words.has("tablespace") && words.has("all") {
        return on_all_shards("all tables of a tablespace");
    }
    // The grammar takes views, sequences and indexes here, too.
    let read = Alteration::of(sql, context.standard_conforming_strings);
    let kind = read
        .as_ref()
        .map(|read| kind_of(names, &read.path, context));
    match kind {
        Some(Kind::View) => return view_changed(names, sql, words, context),
        Some(Kind::Sequence) => return sequence(names, sql, words, context),
        Some(Kind::Index) => return index(names, sql, words, Verb::Alter, context),
        Some(Kind::Table) | None => {}
    }
    let Some(read) = read else {
        return alter_unread(names, sql, words, context);
    };
    let (relation, place) = match names.resolve(&read.path, context) {
        Resolved::Relation(relation, place) => (relation, place),
        Resolved::Missing(name) => return Err(Refusal::of_table(Reason::NotInCatalog, &name)),
        Resolved::KeyGone(name, reason) => return Err(Refusal::of_table(reason, &name)),
        Resolved::Unread(name) => return Err(Refusal::of_table(Reason::Unread, &name)),
        // The home shard says that there is none, whatever was to become of it. It may be of this transaction, and unread.
        Resolved::Unknown(_) if !concerns_others(&read, context) => return home_table(),
        _ if names.mentions(sql) => return refuse(Reason::DdlNotUnderstood),
        _ => return home_table(),
    };
    let own = Future::existing(relation, &place);
    let mut times = Vec::new();
    for (text, begins) in read.actions.iter().zip(&read.begins) {
        match action(text, context.standard_conforming_strings) {
            Action::Harmless => {}
            Action::Rename(name) => {
                let name = Name::new(relation.name.schema.clone(), name);
                renames(names, relation, &name)?;
            }
            Action::SetSchema(schema) => {
                let name = Name::new(schema, relation.name.name.clone());
                renames(names, relation, &name)?;
            }
            Action::Join(other) => {
                joins(names, &other, &own, context)?;
                if !own.is_home() && !fills::are_bounds_same(names, text, context) {
                    return Err(Refusal::of_table(Reason::BoundsDiffer, &own.name));
                }
            }
            Action::Detach(part) => detaches(names, &part, &own, context)?,
            Action::Leave => leaves(names, relation, &own)?,
            Action::DropExpression(column) if own.has_key(&column) => {
                return Err(about_column(Reason::KeyChange, &own.name, &column));
            }
            // The values of the rows that are there stay.
            Action::DropExpression(_) => {}
            Action::Other => {
                let timed = alter_parsed(names, &read.alone(text), (relation, &own), context)?;
                let conforming = context.standard_conforming_strings;
                for column in timed {
                    let found = fills::timed_default((*text, *begins), &column, conforming);
                    times.push(found.ok_or_else(|| fills_rows(&own, &column))?);
                }
            }
        }
    }
    looks_at_no_other(names, sql, words, (relation, own.is_home()))?;
    let course = match words.has("concurrently") {
        true => Course::Steps,
        false => Course::Transaction,
    };
    let (place, why) = match own.is_home() {
        true => (DdlPlace::Home, "a table of the home shard"),
        false => (DdlPlace::AllShards, "a table on all shards"),
    };
    Ok(Plan::Ddl(Ddl {
        place,
        course,
        why: why.to_owned(),
        elsewhere: None,
        times,
    }))
}

/// ALTER TABLE that computes rows which are there, or looks at them, calls no function that reads what lives elsewhere.
fn looks_at_no_other(
    names: &Names<'_>,
    sql: &str,
    words: &Words,
    (relation, is_home): (&Relation, bool),
) -> Result<(), Refusal> {
    let computing = ["add", "using", "attach", "expression"];
    let computes = computing.iter().any(|word| words.has(word));
    let written = computes.then(|| names.code_reach(sql));
    let checks = relation.checks.iter().filter(|_| words.has("validate"));
    let checked = checks.map(|check| names.code_reach(&check.expression));
    let bound = if is_home { Reach::Home } else { Reach::Nothing };
    match checked.chain(written).any(|reach| reach > bound) {
        true => refuse(Reason::FunctionUnproven),
        false => Ok(()),
    }
}

/// What ALTER TABLE is said of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Table,
    View,
    Sequence,
    Index,
}

fn kind_of(names: &Names<'_>, path: &[String], context: &PlanContext) -> Kind {
    match names.resolve(path, context) {
        Resolved::Relation(relation, _) => match relation.kind {
            RelationKind::View | RelationKind::MaterializedView => Kind::View,
            RelationKind::Sequence => Kind::Sequence,
            RelationKind::Table | RelationKind::ForeignTable => Kind::Table,
        },
        Resolved::Unknown(_) if is_index(names, path, context) => Kind::Index,
        _ => Kind::Table,
    }
}

/// Refuses what would make somebody look for the rows elsewhere.
fn stays(place: &Placement, own: &Future) -> Result<(), Refusal> {
    match same_place(place, &own.placement) {
        true => Ok(()),
        false => Err(Refusal::of_table(Reason::PlaceChange, &own.name)),
    }
}

/// A table by another name must live where it does.
pub(super) fn renames(names: &Names<'_>, relation: &Relation, name: &Name) -> Result<(), Refusal> {
    // It is declared, and the map will know it when there is such a table.
    if names.is_pending(&name.schema, &name.name) {
        return Err(Refusal::of_table(Reason::PlaceChange, &relation.name));
    }
    let own = Future::existing(relation, &names.place(&relation.name));
    stays(&names.place_renamed(relation, name), &own)
}

/// ATTACH PARTITION and INHERIT: a part lives with the whole, so that its rows must be there already.
fn joins(
    names: &Names<'_>,
    other: &[String],
    own: &Future,
    context: &PlanContext,
) -> Result<(), Refusal> {
    match names.resolve(other, context) {
        Resolved::Relation(relation, place) => stays(
            &place.placement(),
            &Future {
                name: relation.name.clone(),
                placement: own.placement.clone(),
            },
        ),
        // Of its home shard alone PostgreSQL knows what it is.
        Resolved::Unknown(_) | Resolved::Temporary if own.is_home() => Ok(()),
        Resolved::KeyGone(name, reason) => Err(Refusal::of_table(reason, &name)),
        _ => Err(Refusal::of_table(Reason::DdlNotUnderstood, &own.name)),
    }
}

/// DETACH PARTITION: what has a declaration of its own lives by that from now on.
fn detaches(
    names: &Names<'_>,
    part: &[String],
    own: &Future,
    context: &PlanContext,
) -> Result<(), Refusal> {
    match names.resolve(part, context) {
        Resolved::Relation(relation, _) => leaves(names, relation, own),
        // PostgreSQL says on every shard that there is none.
        _ => Ok(()),
    }
}

fn leaves(names: &Names<'_>, part: &Relation, own: &Future) -> Result<(), Refusal> {
    match names.place_detached(part) {
        None => Ok(()),
        Some(placement) => stays(
            &placement,
            &Future {
                name: part.name.clone(),
                placement: own.placement.clone(),
            },
        ),
    }
}

/// One change that its words do not explain. What comes back are new columns that rows fill with the time.
fn alter_parsed(
    names: &Names<'_>,
    sql: &str,
    (relation, own): (&Relation, &Future),
    context: &PlanContext,
) -> Result<Vec<ColumnDef>, Refusal> {
    let alter = match parse::statement(sql).map(|p| p.statement) {
        Ok(Statement::AlterTable(alter)) => alter,
        _ if own.is_home() && !names.mentions(sql) => return Ok(Vec::new()),
        _ => return Err(Refusal::of_table(Reason::DdlNotUnderstood, &own.name)),
    };
    let mut timed = Vec::new();
    for operation in &alter.operations {
        keeps_primary_key(names, operation, relation)?;
        alter_operation(names, operation, (relation, own), context)?;
        if let AlterTableOperation::AddColumn {
            column_def,
            if_not_exists,
            ..
        } = operation
        {
            let is_there = relation.column(&folded(&column_def.name)).is_some();
            // Of a column that is there PostgreSQL says so, and changes nothing.
            let adds = !(own.is_home() || *if_not_exists && is_there);
            match fills::filling(names, column_def, &own.placement) {
                Filling::Times if adds => timed.push(column_def.clone()),
                Filling::Differing if adds => return Err(fills_rows(own, column_def)),
                _ => {}
            }
        }
    }
    Ok(timed)
}

fn fills_rows(own: &Future, column: &ColumnDef) -> Refusal {
    about_column(Reason::DdlFillsRows, &own.name, &folded(&column.name))
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
    let is_generated = |name: &String| {
        relation
            .column(name)
            .is_some_and(|(_, c)| c.generated.is_some())
    };
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
                Object::Schema => {
                    column.generated.is_some() || types.iter().any(|(n, _)| named(&n.schema))
                }
                Object::Type => is_opaque || types.iter().any(|(n, _)| named(&n.name)),
                Object::Table | Object::View | Object::MaterializedView => {
                    types.iter().any(|(n, _)| named(&n.name))
                }
                _ => column.generated.is_some() || is_opaque,
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
    (relation, own): (&Relation, &Future),
    context: &PlanContext,
) -> Result<(), Refusal> {
    use AlterTableOperation as Op;
    use sqlparser::ast::AlterColumnOperation as Column;
    let sharded = match &own.placement {
        Placement::Sharded(sharded) => Some(sharded),
        _ => None,
    };
    let is_key = |ident: &Ident| own.has_key(&folded(ident));
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
            match constraint {
                TableConstraint::PrimaryKeyUsingIndex(using)
                | TableConstraint::UniqueUsingIndex(using) => {
                    constraints.add_index(relation, &folded(&using.index_name));
                }
                other => constraints.add(other),
            }
            enforce(constraints)
        }
        Op::AddColumn { column_def, .. } => {
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
        _ if own.is_home() => Ok(()),
        _ => Err(Refusal::of_table(Reason::DdlNotUnderstood, &own.name)),
    }
}

/// ALTER TABLE of another form, which PostgreSQL will most likely refuse: only where no declared table is concerned.
fn alter_unread(
    names: &Names<'_>,
    sql: &str,
    words: &Words,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    let named = places_named(names, words, context)?;
    match named.only(names, sql, Reason::DdlNotUnderstood)? {
        HomeOrDeclared::Declared => refuse(Reason::DdlNotUnderstood),
        HomeOrDeclared::Home => home_table(),
    }
}
