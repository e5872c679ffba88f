//! Indexes: where their tables are.

use sqlparser::ast::{CreateIndex, Statement};

use crate::names::{Names, Place, Resolved};
use crate::refuse::{Reason, Refusal, refuse};
use crate::{Course, Ddl, DdlPlace, Plan, PlanContext, Temporary, parse};
use mothership_catalog::Name;
use mothership_sql::cursor::Cursor;
use mothership_sql::effect::Verb;

use super::constraint::{contains_key, plain_columns};
use super::words::{HomeOrDeclared, Named, Words, places_named};
use super::{computes_alone, ddl, going, path_of};

pub(super) fn index(
    names: &Names<'_>,
    sql: &str,
    words: &Words,
    verb: Verb,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    let transactional = !words.has("concurrently");
    // PostgreSQL lets it rename tables, too.
    if verb == Verb::Alter
        && let Some(path) = altered(sql, context)
        && let Resolved::Relation(table, place) = names.resolve(&path, context)
    {
        return match place {
            // To other shards the name may mean a table of another schema.
            Place::Home => Ok(ddl(DdlPlace::Home, transactional, "a home table")),
            _ => Err(Refusal::of_table(Reason::PlaceChange, &table.name)),
        };
    }
    if verb != Verb::Create {
        let place = indexed_place(names, words, context)?;
        let mut paths = words.paths();
        let known = paths.any(|path| is_index(names, path, context));
        return Ok(match verb == Verb::Drop && !transactional && known {
            true => dropped_step_by_step(place, sql, context),
            false => ddl(place, transactional, "an index"),
        });
    }
    let parsed = match on_only(sql, context) {
        Some(on_all) => parse::statement(&on_all),
        None => parse::statement(sql),
    };
    let (place, name) = match parsed.map(|p| p.statement) {
        Ok(Statement::CreateIndex(create)) => create_index(names, sql, &create, context)?,
        _ => {
            let named = places_named(names, words, context)?;
            match named.only(names, sql, Reason::DdlNotUnderstood)? {
                HomeOrDeclared::Declared => return refuse(Reason::DdlNotUnderstood),
                HomeOrDeclared::Home => (Place::Home, None),
            }
        }
    };
    // Its expressions and its predicate are computed of every row that is there.
    computes_alone(names, sql, &place, context)?;
    let (place, why) = match place {
        Place::Home => (DdlPlace::Home, "an index of a home table"),
        Place::Reference => (DdlPlace::AllShards, "an index of a reference table"),
        Place::Sharded(_) => (DdlPlace::AllShards, "an index of a sharded table"),
    };
    let course = match (transactional, name) {
        (true, _) => Course::Transaction,
        (false, Some(name)) => Course::MakesIndex(name.quoted()),
        (false, None) => Course::Steps,
    };
    Ok(going(place, course, why))
}

/// What ALTER INDEX names.
fn altered(sql: &str, context: &PlanContext) -> Option<Vec<String>> {
    let mut c = Cursor::new(sql.as_bytes(), context.standard_conforming_strings);
    c.eat_all(&["alter", "index"]).then_some(())?;
    c.eat_all(&["if", "exists"]);
    let path = c.path()?;
    let names = path.iter().map(|name| name.as_str().map(str::to_owned));
    names.collect()
}

/// CREATE INDEX ... ON ONLY, which the parser does not know, without ONLY: the table and its columns are the same.
fn on_only(sql: &str, context: &PlanContext) -> Option<String> {
    let mut c = Cursor::new(sql.as_bytes(), context.standard_conforming_strings);
    c.eat("create").then_some(())?;
    c.eat("unique");
    c.eat("index").then_some(())?;
    c.eat("concurrently");
    c.eat_all(&["if", "not", "exists"]);
    if !c.eat("on") {
        c.name()?;
        c.eat("on").then_some(())?;
    }
    let only = c.at();
    c.eat("only").then_some(())?;
    Some(format!("{}{}", sql.get(..only)?, sql.get(c.at()..)?))
}

/// DROP INDEX CONCURRENTLY. Other shards than the home shard may have done it already.
fn dropped_step_by_step(place: DdlPlace, sql: &str, context: &PlanContext) -> Plan {
    let mut c = Cursor::new(sql.as_bytes(), context.standard_conforming_strings);
    let plain =
        c.eat_all(&["drop", "index", "concurrently"]) && !c.clone().eat_all(&["if", "exists"]);
    let elsewhere = plain.then(|| format!("DROP INDEX CONCURRENTLY IF EXISTS {}", &sql[c.at()..]));
    Plan::Ddl(Ddl {
        place,
        course: Course::DropsIndex,
        why: "an index".to_owned(),
        elsewhere,
        times: Vec::new(),
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

/// Where the table lives that gets an index, and the name of the index if whoever makes it is the only one to have made it:
/// with IF NOT EXISTS a shard may have had it before.
fn create_index(
    names: &Names<'_>,
    sql: &str,
    create: &CreateIndex,
    context: &PlanContext,
) -> Result<(Place, Option<Name>), Refusal> {
    let (relation, place) = match names.resolve(&path_of(&create.table_name), context) {
        Resolved::Relation(relation, place) => (relation, place),
        Resolved::Missing(name) => return Err(Refusal::of_table(Reason::NotInCatalog, &name)),
        Resolved::KeyGone(name, reason) => return Err(Refusal::of_table(reason, &name)),
        Resolved::Unread(name) => return Err(Refusal::of_table(Reason::Unread, &name)),
        Resolved::Unclear => return refuse(Reason::NameUnclear),
        _ if names.mentions(sql) => return refuse(Reason::DdlNotUnderstood),
        _ => return Ok((Place::Home, None)),
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
    let named = create.name.as_ref().map(path_of);
    let name = named.as_deref().and_then(<[String]>::last);
    let name = name.map(|name| Name::new(relation.name.schema.clone(), name.clone()));
    let new =
        name.filter(|name| !create.if_not_exists && !names.catalog.indexes.contains_key(name));
    Ok((place, new))
}
