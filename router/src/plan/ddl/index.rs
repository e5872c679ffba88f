//! Indexes: where their tables are.

use sqlparser::ast::{CreateIndex, Statement};

use crate::catalog::Name;
use crate::plan::names::{Names, Place, Resolved};
use crate::plan::refuse::{Reason, Refusal, refuse};
use crate::plan::{DdlPlace, Plan, PlanContext, Temporary, parse};
use crate::sql::effect::Verb;

use super::constraint::{contains_key, plain_columns};
use super::words::{Named, Only, Words, places_named};
use super::{ddl, path_of};

pub(super) fn index(
    names: &Names<'_>,
    sql: &str,
    words: &Words,
    verb: Verb,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    let transactional = !words.has("concurrently");
    if verb != Verb::Create {
        let place = indexed_place(names, words, context)?;
        return Ok(ddl(place, transactional, "an index"));
    }
    let place = match parse::statement(sql).map(|p| p.statement) {
        Ok(Statement::CreateIndex(create)) => create_index(names, sql, &create, context)?,
        _ => {
            let named = places_named(names, words, context)?;
            match named.only(names, sql, Reason::DdlNotUnderstood)? {
                Only::Declared => return refuse(Reason::DdlNotUnderstood),
                Only::Home => Place::Home,
            }
        }
    };
    Ok(match place {
        Place::Home => ddl(DdlPlace::Home, transactional, "an index of a home table"),
        Place::Reference => ddl(
            DdlPlace::AllShards,
            transactional,
            "an index of a reference table",
        ),
        Place::Sharded(_) => ddl(
            DdlPlace::AllShards,
            transactional,
            "an index of a sharded table",
        ),
    })
}

/// Whether a name is that of an index.
pub(super) fn is_index(names: &Names<'_>, path: &[String], context: &PlanContext) -> bool {
    let known =
        |schema: &str, name: &str| names.catalog.indexes.contains_key(&Name::new(schema, name));
    match path {
        [name] => context.search_path.iter().any(|schema| known(schema, name)),
        [.., schema, name] => known(schema, name),
        [] => false,
    }
}

/// Where the indexes live that a statement names. One that is not known may be on any shard: then
/// PostgreSQL says on each whether it exists.
pub(super) fn indexed_place(
    names: &Names<'_>,
    words: &Words,
    context: &PlanContext,
) -> Result<DdlPlace, Refusal> {
    let mut found = Named::None;
    for path in words.paths() {
        let table = match path.as_slice() {
            [name] => {
                let mut schemas = context.search_path.iter();
                let found = schemas.find_map(|s| names.catalog.indexes.get(&Name::new(s, name)));
                if found.is_some() && context.temporary != Temporary::None {
                    // It may be the name of a temporary table's index, too, which the client may have named.
                    return refuse(Reason::NameUnclear);
                }
                found
            }
            [.., schema, name] => names.catalog.indexes.get(&Name::new(schema, name)),
            [] => None,
        };
        found = found.and(match table.map(|t| names.place(t)) {
            None => Named::None,
            Some(Place::Home) => Named::Home,
            Some(_) => Named::Declared,
        });
    }
    match found {
        Named::Both => refuse(Reason::MixedTables),
        Named::Declared => Ok(DdlPlace::AllShards),
        Named::None if context.temporary != Temporary::None => refuse(Reason::NameUnclear),
        Named::None if names.anything_declared() => Ok(DdlPlace::AllShards),
        Named::Home | Named::None => Ok(DdlPlace::Home),
    }
}

/// Where the table lives that gets an index.
fn create_index(
    names: &Names<'_>,
    sql: &str,
    create: &CreateIndex,
    context: &PlanContext,
) -> Result<Place, Refusal> {
    let (relation, place) = match names.resolve(&path_of(&create.table_name), context) {
        Resolved::Relation(relation, place) => (relation, place),
        Resolved::Missing(name) => return Err(Refusal::of_table(Reason::NotInCatalog, &name)),
        Resolved::KeyGone(name, reason) => return Err(Refusal::of_table(reason, &name)),
        Resolved::Unread(name) => return Err(Refusal::of_table(Reason::Unread, &name)),
        Resolved::Unclear => return refuse(Reason::NameUnclear),
        _ if names.mentions(sql) => return refuse(Reason::DdlNotUnderstood),
        _ => return Ok(Place::Home),
    };
    if let Place::Sharded(keyed) = &place
        && create.unique
        && !keyed.sharded.allow_unenforced_unique
    {
        // Rows with the same key are on one shard, whatever else of them must differ.
        let columns = plain_columns(&create.columns);
        contains_key(
            &columns,
            &keyed.sharded,
            &relation.name,
            Reason::UnenforcedUnique,
        )?;
    }
    Ok(place)
}
