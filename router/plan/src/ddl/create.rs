//! CREATE TABLE: where the table will live, and whether its key and its
//! constraints can hold there.

use mothership_shardmap::{KeyType, Placement};
use sqlparser::ast::{CreateTable, Statement};

use crate::names::{Names, Place, Resolved, folded};
use crate::refuse::{Reason, Refusal, refuse};
use crate::{DdlPlace, Plan, PlanContext, keep, parse};
use mothership_catalog::{Name, Relation};
use mothership_shardmap::KnownTable;
use mothership_sql::cursor::Cursor;
use mothership_sql::lexer::Kind;

use super::column::{about_column, key_column, primary_key_of, type_of};
use super::constraint::Constraints;
use super::fills::are_bounds_same;
use super::words::Words;
use super::{at_home, computes_alone, home_table, on_all_shards, path_of};

pub(super) fn create_table(
    names: &Names<'_>,
    sql: &str,
    words: &Words,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    let planned = create_somewhere(names, sql, words, context)?;
    // What is in a part is computed when a row comes, and the bounds of a part at once.
    if words.has("partition") || words.has("exclude") {
        let place = match &planned {
            Plan::Ddl(ddl) if ddl.place == DdlPlace::AllShards => Place::Reference,
            _ => Place::Home,
        };
        computes_alone(names, sql, &place, context)?;
    }
    Ok(planned)
}

fn create_somewhere(
    names: &Names<'_>,
    sql: &str,
    words: &Words,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    match parse::statement(sql).map(|p| p.statement) {
        Ok(Statement::CreateTable(create)) => create_parsed(names, sql, &create, context),
        // A partition lives with its parent, whatever its bounds and its own parts are.
        _ if parent_of(sql, context).is_some() => {
            let (_, parent) = parent_of(sql, context).unwrap_or_default();
            partition(names, sql, &parent, context)
        }
        // It takes no rows over from there.
        _ if like(sql, context)
            .is_some_and(|path| is_of_home(names, &path, context) == Ok(true)) =>
        {
            home_table()
        }
        // Undeclared tables may have any grammar; but it must be certain which table it is.
        _ => match words.path_after(&["table", "exists"]) {
            Some(name) if !names.mentions(sql) && future(names, name, &[], context)?.is_home() => {
                home_table()
            }
            _ => keep::create_table(names, sql, context),
        },
    }
}

fn create_parsed(
    names: &Names<'_>,
    sql: &str,
    create: &CreateTable,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    // A partition lives with its parent.
    if let Some(parent) = create.partition_of.as_ref().map(path_of) {
        return partition(names, sql, &parent, context);
    }
    let path = path_of(&create.name);
    let future = future(names, &path, &primary_key_of(create), context)?;
    if takes_columns_from_elsewhere(create) {
        return match (future.is_home(), names.mentions(sql)) {
            (true, false) => home_table(),
            // No rows come with LIKE.
            (true, true) if create.query.is_none() && create.inherits.is_none() => home_table(),
            _ if create.query.is_some() => keep::create_table(names, sql, context),
            _ => refuse(Reason::CreateFromSharded),
        };
    }
    match placed(names, create, &future, context) {
        Err(refusal) if refusal.is_unenforced() && names.is_by_default(&future.name) => {
            // Nobody has said that it is to be divided. With all its rows on one shard that one enforces it.
            let home = Future {
                name: future.name,
                placement: Placement::Home,
            };
            placed(names, create, &home, context).map_err(|_| refusal)
        }
        placed => placed,
    }
}

/// Where all columns of a table stand in the statement.
fn placed(
    names: &Names<'_>,
    create: &CreateTable,
    future: &Future,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    let constraints = Constraints::of(create);
    constraints.check_foreign(names, future, context)?;
    let sharded = match &future.placement {
        Placement::Home => return home_table(),
        Placement::Reference => return on_all_shards("a reference table"),
        Placement::Sharded(sharded) => sharded,
    };
    for (name, key_type) in &sharded.columns {
        let column = create.columns.iter().find(|c| folded(&c.name) == *name);
        let column = column.ok_or_else(|| about_column(Reason::KeyMissing, &future.name, name))?;
        key_column(names, column, *key_type, &future.name)?;
    }
    constraints.check_unique(sharded, &future.name)?;
    on_all_shards("a sharded table")
}

fn partition(
    names: &Names<'_>,
    sql: &str,
    parent: &[String],
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    match names.resolve(parent, context) {
        Resolved::Relation(_, Place::Home) => at_home("a partition of a home table"),
        Resolved::Relation(parent, _) if !are_bounds_same(names, sql, context) => {
            Err(Refusal::of_table(Reason::BoundsDiffer, &parent.name))
        }
        Resolved::Relation(..) => on_all_shards("a partition"),
        _ => refuse(Reason::DdlNotUnderstood),
    }
}

/// The two names in `CREATE TABLE name PARTITION OF parent`.
pub(super) fn parent_of(sql: &str, context: &PlanContext) -> Option<(Vec<String>, Vec<String>)> {
    let mut c = Cursor::new(sql.as_bytes(), context.standard_conforming_strings);
    c.eat("create").then_some(())?;
    c.eat("unlogged");
    c.eat("foreign");
    c.eat("table").then_some(())?;
    c.eat_all(&["if", "not", "exists"]);
    let own = names_of(&c.path()?)?;
    c.eat_all(&["partition", "of"]).then_some(())?;
    Some((own, names_of(&c.path()?)?))
}

fn names_of(path: &[mothership_sql::name::Name<'_>]) -> Option<Vec<String>> {
    let names = path.iter().map(|name| name.as_str().map(str::to_owned));
    names.collect()
}

/// The name in `CREATE TABLE name (LIKE other ...)`, if there is nothing else in the list.
fn like(sql: &str, context: &PlanContext) -> Option<Vec<String>> {
    let mut c = Cursor::new(sql.as_bytes(), context.standard_conforming_strings);
    c.eat("create").then_some(())?;
    c.eat("unlogged");
    c.eat("table").then_some(())?;
    c.eat_all(&["if", "not", "exists"]);
    let path = c.path()?;
    (c.eat_kind(Kind::LParen) && c.eat("like")).then_some(())?;
    c.path()?;
    while c.eat_any(&["including", "excluding"]) {
        c.name()?;
    }
    (c.eat_kind(Kind::RParen) && c.at_end()).then_some(())?;
    let names = path.iter().map(|name| name.as_str().map(str::to_owned));
    names.collect()
}

/// Whether not all columns are in the statement.
fn takes_columns_from_elsewhere(create: &CreateTable) -> bool {
    create.query.is_some() || create.like.is_some() || create.inherits.is_some()
}

/// Whether a table of this name will live on the home shard.
pub fn is_of_home(
    names: &Names<'_>,
    path: &[String],
    context: &PlanContext,
) -> Result<bool, Refusal> {
    Ok(future(names, path, &[], context)?.is_home())
}

/// The name and columns of a table that a CREATE TABLE makes, as far as they stand in the statement; `None` for a
/// type that cannot be a key.
pub fn created(names: &Names<'_>, sql: &str, context: &PlanContext) -> Option<KnownTable> {
    let Ok(Statement::CreateTable(create)) = parse::statement(sql).map(|p| p.statement) else {
        return None;
    };
    if takes_columns_from_elsewhere(&create) {
        return None;
    }
    let columns = create.columns.iter();
    let columns = columns.map(|c| (folded(&c.name), type_of(names, &c.data_type)));
    let Name { schema, name } = name_of_new(names, &path_of(&create.name), context)?;
    Some(KnownTable {
        schema,
        name,
        columns: columns.collect(),
    })
}

/// A table and where it lives, now or once it is created.
pub(super) struct Future {
    pub(super) name: Name,
    pub(super) placement: Placement,
}

impl Future {
    /// A table that is there.
    pub(super) fn existing(relation: &Relation, place: &Place) -> Future {
        Future {
            name: relation.name.clone(),
            placement: place.placement(),
        }
    }

    pub(super) fn is_home(&self) -> bool {
        matches!(self.placement, Placement::Home)
    }

    /// Whether a column is of the shard key.
    pub(super) fn has_key(&self, column: &str) -> bool {
        match &self.placement {
            Placement::Sharded(sharded) => sharded.columns.iter().any(|(name, _)| name == column),
            Placement::Home | Placement::Reference => false,
        }
    }
}

/// Where a table to be created will live. An unqualified name goes to the first schema of the path.
pub(super) fn future(
    names: &Names<'_>,
    path: &[String],
    primary_key: &[(String, KeyType)],
    context: &PlanContext,
) -> Result<Future, Refusal> {
    let Some(name) = name_of_new(names, path, context) else {
        return refuse(Reason::DdlNotUnderstood);
    };
    if names.is_pending(&name.schema, &name.name) {
        return Err(Refusal::of_table(Reason::KeyTypeUnknown, &name));
    }
    let placement = names.future_place(&name, primary_key);
    Ok(Future { name, placement })
}

/// The name of what is made; without a schema it is made in the first one of the path.
pub(super) fn name_of_new(
    names: &Names<'_>,
    path: &[String],
    context: &PlanContext,
) -> Option<Name> {
    match path {
        [name] => {
            let mut path = context.search_path.iter();
            let schema = path.find(|s| names.catalog.schemas.contains(*s));
            let schema = schema.or(context.search_path.first());
            let schema = schema.map_or("public", String::as_str);
            Some(Name::new(schema, name))
        }
        [.., schema, name] => Some(Name::new(schema, name)),
        [] => None,
    }
}
