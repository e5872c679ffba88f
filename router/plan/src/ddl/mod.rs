//! Changes of definitions, TRUNCATE, LOCK and maintenance: where they are done.
//!
//! Objects live where their statements run: sharded and reference tables, schemas,
//! types, functions and grants on every shard; undeclared tables with their indexes
//! and views at home; roles, databases and tablespaces once per cluster. A constraint that no
//! shard could enforce for the whole table is refused.

mod actions;
mod alter;
mod chosen;
mod column;
mod constants;
mod constraint;
mod create;
pub(super) mod documents;
mod fills;
mod index;
mod routine;
mod stem;
mod taken;
mod times;
mod words;

pub use constraint::unenforced;
pub use create::{created, is_of_home};

use sqlparser::ast::ObjectName;

use crate::names::{Names, Place, Reach, Resolved, folded};
use crate::reached::leads_off;
use crate::refuse::{Reason, Refusal, refuse};
use crate::{
    Course, Ddl, DdlPlace, LockScope, Merge, Plan, PlanContext, Role, Scatter, Target, keep,
    unnamed, utility,
};
use mothership_catalog::types::words as words_of;
use mothership_catalog::{Events, Name, RelationKind};
use mothership_sql::cursor::Cursor;
use mothership_sql::effect::{Object, Other, Statement, Verb};
use mothership_sql::lexer::Kind;

use alter::{alter_table, drops_no_key, renames};
use chosen::{same_names, same_statistics};
use create::create_table;
use index::index;
use taken::unless_taken;
use words::{HomeOrDeclared, Named, Words, places_named, places_read};

/// Plans CREATE, ALTER, DROP, COMMENT, GRANT and the like.
pub fn plan(
    names: &Names<'_>,
    sql: &str,
    verb: Verb,
    object: Object,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    let plan = placed(names, sql, verb, object, context)?;
    let plan = match verb {
        Verb::Create => unless_taken(names, sql, plan, context)?,
        _ => plan,
    };
    if matches!(verb, Verb::Create | Verb::Alter) && matches!(object, Object::Table | Object::Index)
    {
        same_names(names, sql, &plan, context)?;
    }
    if let Plan::Ddl(ddl) = &plan
        && ddl.place != DdlPlace::Home
        && constants::of_time(names, sql, (verb, object), context)
    {
        return refuse(Reason::TimeConstant);
    }
    Ok(plan)
}

/// The same by what it is about.
fn placed(
    names: &Names<'_>,
    sql: &str,
    verb: Verb,
    object: Object,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    let words = Words::of(sql, context);
    // Servers call these functions where no statement names them, and some before anything of it is known here.
    let binds = ["operator", "cast", "transform", "event", "conversion"];
    if matches!(verb, Verb::Create | Verb::Alter)
        && words.is_about(&binds)
        && names.named_reach(sql) > Reach::Nothing
    {
        return refuse(Reason::FunctionUnproven);
    }
    let first = context.search_path.first();
    if matches!(verb, Verb::Create) && first.is_some_and(|schema| schema.starts_with("pg_temp")) {
        // It would be a temporary object that nothing in the statement shows as one.
        return refuse(Reason::NameUnclear);
    }
    if matches!(verb, Verb::Create) && words.creates_temporary() {
        return temporary(names, sql, &words, context);
    }
    if words.names_temporary_schema() && !names.mentions(sql) {
        return at_home("a temporary object");
    }
    if matches!(verb, Verb::Drop) {
        drops_no_key(names, &words, object)?;
    }
    if object == Object::Schema {
        leaves_documents(names, verb, &words)?;
        if verb == Verb::Alter && words.has("rename") {
            schema_renamed(names, sql, context)?;
        }
    }
    match object {
        // What a role owns is in every database.
        Object::Role if words.has("owned") => on_all_shards("what a role owns on all shards"),
        Object::Role => Ok(ddl(
            DdlPlace::OncePerCluster,
            true,
            "roles belong to the cluster",
        )),
        Object::Database | Object::Tablespace | Object::System => Ok(ddl(
            DdlPlace::OncePerCluster,
            matches!(
                verb,
                Verb::Comment | Verb::Grant | Verb::Revoke | Verb::SecurityLabel
            ),
            "belongs to the cluster",
        )),
        // Event triggers that there are would run it on the home shard.
        Object::Routine
            if words.has("event_trigger") && utility::may_reach_declared(names, sql, context) =>
        {
            refuse(Reason::FunctionUnproven)
        }
        // It takes the place of one that casts, operators or domains call.
        Object::Routine if unnamed::replaces_bound(names, sql, verb, context) => {
            refuse(Reason::FunctionUnproven)
        }
        Object::Routine => Ok(Plan::Ddl(Ddl {
            place: DdlPlace::AllShards,
            course: Course::Transaction,
            why: "the same on all shards".to_owned(),
            elsewhere: routine::unchecked(sql, verb, context),
            times: Vec::new(),
        })),
        Object::Schema | Object::Extension => on_all_shards("the same on all shards"),
        Object::Type => {
            // It is checked where a value is, which a statement need not show.
            let makes = matches!(verb, Verb::Create | Verb::Alter) && words.has("domain");
            if makes && names.code_reach(sql) > Reach::Nothing {
                return refuse(Reason::FunctionUnproven);
            }
            on_all_shards("the same on all shards")
        }
        // Large objects and what is imported are at home.
        Object::Other if verb == Verb::ImportForeignSchema || words.is_of_large_object() => {
            match names.mentions(sql) {
                true => refuse(Reason::DdlNotUnderstood),
                false => at_home("an object of the home shard"),
            }
        }
        Object::Other if words.has("statistics") && verb != Verb::Create => {
            statistics(names, &words, context)
        }
        Object::Publication => publication(names, sql, verb, &words, context),
        Object::Subscription => {
            if names.mentions(sql) {
                return refuse(Reason::DdlNotUnderstood);
            }
            at_home("replication of the home shard")
        }
        Object::Sequence => sequence(names, sql, &words, context),
        Object::View | Object::MaterializedView => view(names, sql, &words, verb, object, context),
        Object::Table => match verb {
            Verb::Create => create_table(names, sql, &words, context),
            Verb::Alter => alter_table(names, sql, &words, context),
            Verb::Drop => drop_tables(names, sql, &words, context),
            Verb::Grant | Verb::Revoke => match by_tables(names, sql, &words, context) {
                Err(refusal) if refusal.reason == Reason::MixedTables => {
                    grant_wherever(names, sql, context).ok_or(refusal)
                }
                planned => planned,
            },
            _ => by_tables(names, sql, &words, context),
        },
        Object::Index => index(names, sql, &words, verb, context),
        // It is asked for rows that no statement shows.
        Object::Policy if names.code_reach(sql) == Reach::Anything => {
            refuse(Reason::FunctionUnproven)
        }
        Object::Other if words.has("statistics") => {
            let planned = by_tables(names, sql, &words, context)?;
            // ANALYZE computes their expressions.
            let place = match &planned {
                Plan::Ddl(ddl) if ddl.place == DdlPlace::Home => Place::Home,
                _ => Place::Reference,
            };
            computes_alone(names, sql, &place, context)?;
            same_statistics(names, sql, &planned, context)?;
            Ok(planned)
        }
        _ => by_tables(names, sql, &words, context),
    }
}

/// Neither DROP SCHEMA nor its new name takes away tables of documents: what they are is declared, and by name.
fn leaves_documents(names: &Names<'_>, verb: Verb, words: &Words) -> Result<(), Refusal> {
    let takes_away = match verb {
        Verb::Drop => true,
        Verb::Alter => words.has("rename"),
        _ => false,
    };
    let mut tables = names.documents.keys();
    match tables.find(|table| takes_away && words.may_have(&table.schema)) {
        Some(Name { schema, name }) => {
            let detail = format!("table \"{name}\" of schema \"{schema}\"");
            Err(Refusal::about(Reason::DocumentsStatement, detail))
        }
        None => Ok(()),
    }
}

/// ALTER SCHEMA ... RENAME TO: its tables have other names then, and declarations are by name.
fn schema_renamed(names: &Names<'_>, sql: &str, context: &PlanContext) -> Result<(), Refusal> {
    let mut c = Cursor::new(sql.as_bytes(), context.standard_conforming_strings);
    let renamed = c.eat_all(&["alter", "schema"]).then(|| {
        let from = c.name()?;
        c.eat_all(&["rename", "to"]).then_some(())?;
        let to = c.name()?;
        Some((from.as_str()?.to_owned(), to.as_str()?.to_owned()))
    });
    let Some(Some((from, to))) = renamed else {
        return refuse(Reason::DdlNotUnderstood);
    };
    let relations = names.catalog.relations.values();
    let tables = relations.filter(|r| r.name.schema == from && r.kind == RelationKind::Table);
    for relation in tables {
        let name = Name::new(to.clone(), relation.name.name.clone());
        renames(names, relation, &name)?;
    }
    Ok(())
}

fn ddl(place: DdlPlace, transactional: bool, why: &str) -> Plan {
    let course = match transactional {
        true => Course::Transaction,
        false => Course::Steps,
    };
    going(place, course, why)
}

fn going(place: DdlPlace, course: Course, why: &str) -> Plan {
    Plan::Ddl(Ddl {
        place,
        course,
        why: why.to_owned(),
        elsewhere: None,
        times: Vec::new(),
    })
}

fn on_all_shards(why: &str) -> Result<Plan, Refusal> {
    Ok(ddl(DdlPlace::AllShards, true, why))
}

fn at_home(why: &str) -> Result<Plan, Refusal> {
    Ok(ddl(DdlPlace::Home, true, why))
}

/// A table that is not declared.
fn home_table() -> Result<Plan, Refusal> {
    at_home("a table of the home shard")
}

/// Temporary objects belong to the session's server, which is at home.
fn temporary(
    names: &Names<'_>,
    sql: &str,
    words: &Words,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    if words.is_about(&["function", "procedure"]) {
        // Nobody sees it in the catalog, so that this is the last time to look into it.
        return match utility::may_reach_declared(names, sql, context) {
            true => refuse(Reason::CodeUnproven),
            false => Ok(utility::home("a temporary object")),
        };
    }
    // A list of columns reads nothing, whatever its names look like.
    let reads = ["as", "like", "inherits", "select", "execute", "owned"];
    let may_read = reads.iter().any(|word| words.has(word));
    if may_read && names.mentions(sql) {
        return keep::create_table(names, sql, context);
    }
    Ok(utility::home("a temporary object"))
}

/// Statements of other kinds go where the tables are that they name: GRANT, COMMENT, triggers, policies.
fn by_tables(
    names: &Names<'_>,
    sql: &str,
    words: &Words,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    match places_named(names, words, context)? {
        Named::Declared => on_all_shards("names tables on all shards"),
        Named::Home => at_home("names tables of the home shard"),
        Named::Both => refuse(Reason::MixedTables),
        Named::None if names.mentions(sql) => refuse(Reason::DdlNotUnderstood),
        Named::None => on_all_shards("the same on all shards"),
    }
}

/// Whether a definition computes something of rows when it is made: of a query, or of rows that are there.
pub(crate) fn computes(sql: &str, statement: &Statement) -> bool {
    let Statement::Ddl { verb, object } = statement else {
        return false;
    };
    match (verb, object) {
        (Verb::Create, Object::Table | Object::MaterializedView) => {
            words_of(&sql.to_ascii_lowercase()).any(|word| word == "as")
        }
        (Verb::Create, Object::Index) => true,
        (Verb::Alter, Object::Table | Object::MaterializedView) => true,
        _ => false,
    }
}

/// Refuses what is computed of each row of a table by code that reads what lives elsewhere. Who calls a function IMMUTABLE
/// that reads tables is believed by PostgreSQL.
fn computes_alone(
    names: &Names<'_>,
    sql: &str,
    place: &Place,
    context: &PlanContext,
) -> Result<(), Refusal> {
    let unnamed = names.calls_unnamed(sql, Some(context));
    match unnamed || leads_off(names.code_reach(sql), place) {
        true => refuse(Reason::FunctionUnproven),
        false => Ok(()),
    }
}

/// Statistics lie with their table, which DROP, ALTER and COMMENT do not name.
fn statistics(names: &Names<'_>, words: &Words, context: &PlanContext) -> Result<Plan, Refusal> {
    let known = |schema: &str, name: &str| names.catalog.statistics.get(&Name::new(schema, name));
    let mut found = Named::None;
    for path in words.paths() {
        let table = match path.as_slice() {
            [name] => context.search_path.iter().find_map(|s| known(s, name)),
            [.., schema, name] => known(schema, name),
            [] => None,
        };
        found = found.and(match table.map(|table| names.place(table)) {
            None => Named::None,
            Some(Place::Home) => Named::Home,
            Some(_) => Named::Declared,
        });
    }
    match found {
        Named::Both => refuse(Reason::MixedTables),
        Named::Home => at_home("statistics of a table of the home shard"),
        Named::Declared | Named::None => on_all_shards("statistics of a table on all shards"),
    }
}

/// A publication is on all shards, each of which publishes what it has: what follows need not name a table. Those of the
/// home shard are added on the home shard alone.
fn publication(
    names: &Names<'_>,
    sql: &str,
    verb: Verb,
    words: &Words,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    const WHY: &str = "a publication on all shards";
    let named = match verb {
        // Its own name is no table's.
        Verb::Drop => Named::None,
        _ => places_named(names, words, context)?,
    };
    match named {
        Named::Both => refuse(Reason::MixedTables),
        Named::Declared => on_all_shards(WHY),
        Named::None if names.mentions(sql) && verb != Verb::Drop => {
            refuse(Reason::DdlNotUnderstood)
        }
        Named::None => on_all_shards(WHY),
        Named::Home if verb == Verb::Create => match empty_publication(sql, context) {
            Some(elsewhere) => Ok(Plan::Ddl(Ddl {
                place: DdlPlace::AllShards,
                course: Course::Transaction,
                why: WHY.to_owned(),
                elsewhere: Some(elsewhere),
                times: Vec::new(),
            })),
            None => refuse(Reason::DdlNotUnderstood),
        },
        // SET TABLE would take away tables of all shards.
        Named::Home if words.has("set") => refuse(Reason::MixedTables),
        Named::Home => at_home("publishes tables of the home shard"),
    }
}

/// CREATE PUBLICATION with its options and without its tables.
fn empty_publication(sql: &str, context: &PlanContext) -> Option<String> {
    let strings = context.standard_conforming_strings;
    let mut c = Cursor::new(sql.as_bytes(), strings);
    c.eat_all(&["create", "publication"]).then_some(())?;
    let from = c.at();
    c.name()?;
    let name = sql.get(from..c.taken())?;
    let mut options = "";
    while let Some(token) = c.bump() {
        if c.is(token, "with") {
            options = sql.get(token.start..)?;
        }
    }
    Some(format!("CREATE PUBLICATION {name} {options}"))
}

fn sequence(
    names: &Names<'_>,
    sql: &str,
    words: &Words,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    let known = words
        .paths()
        .filter_map(|path| match names.resolve(path, context) {
            Resolved::Relation(r, _) if r.kind == RelationKind::Sequence => Some(&r.name),
            _ => None,
        });
    let (everywhere, at_one): (Vec<&Name>, Vec<&Name>) =
        known.partition(|name| names.catalog.everywhere.contains(*name));
    match (everywhere.is_empty(), at_one.is_empty()) {
        // Of a table that is on all shards, or was when it was made.
        (false, true) => on_all_shards("a sequence on all shards"),
        (false, false) => refuse(Reason::MixedTables),
        (true, _) if !words.may_have("owned") || owner_is_at_home(names, sql, context) => {
            at_home("sequences live at home")
        }
        // Sequences owned by columns of declared tables exist wherever their tables do.
        (true, true) if names.mentions(sql) => on_all_shards("a sequence of a table on all shards"),
        (true, false) if names.mentions(sql) => {
            owned(names, sql, context).ok_or_else(|| Refusal::new(Reason::DdlNotUnderstood))
        }
        (true, _) => at_home("sequences live at home"),
    }
}

/// Whether a sequence is to belong to a column of a home table, or to none.
fn owner_is_at_home(names: &Names<'_>, sql: &str, context: &PlanContext) -> bool {
    let mut c = Cursor::new(sql.as_bytes(), context.standard_conforming_strings);
    while !c.eat_all(&["owned", "by"]) {
        if c.bump().is_none() {
            return false;
        }
    }
    if c.eat("none") {
        return c.at_end();
    }
    let path = c.path().unwrap_or_default();
    let path = path.iter().map(|name| name.as_str().map(str::to_owned));
    let Some(path) = path.collect::<Option<Vec<String>>>() else {
        return false;
    };
    let Some((_, table)) = path.split_last() else {
        return false;
    };
    matches!(
        names.resolve(table, context),
        Resolved::Relation(_, Place::Home)
    )
}

/// ALTER SEQUENCE ... OWNED BY a column of a declared table, as a dump has it. From then on the sequence is wherever the
/// table is; its values are those of the home shard.
fn owned(names: &Names<'_>, sql: &str, context: &PlanContext) -> Option<Plan> {
    let mut c = Cursor::new(sql.as_bytes(), context.standard_conforming_strings);
    c.eat_all(&["alter", "sequence"]).then_some(())?;
    c.eat_all(&["if", "exists"]);
    let from = c.at();
    c.path()?;
    let name = sql.get(from..c.taken())?;
    c.eat_all(&["owned", "by"]).then_some(())?;
    let from = c.at();
    let path = c.path()?;
    let owner = sql.get(from..c.taken())?;
    c.at_end().then_some(())?;
    let path = path.iter().map(|name| name.as_str().map(str::to_owned));
    let path: Vec<String> = path.collect::<Option<_>>()?;
    let (column, table) = path.split_last()?;
    let relation = match names.resolve(table, context) {
        Resolved::Relation(relation, Place::Sharded(_) | Place::Reference) => relation,
        _ => return None,
    };
    let of_type = match relation.column(column)?.1.type_oid {
        21 => "smallint",
        23 => "integer",
        20 => "bigint",
        _ => return None,
    };
    Some(Plan::Ddl(Ddl {
        place: DdlPlace::AllShards,
        course: Course::Transaction,
        why: "a sequence of a table on all shards".to_owned(),
        elsewhere: Some(format!(
            "CREATE SEQUENCE {name} AS {of_type} OWNED BY {owner}"
        )),
        times: Vec::new(),
    }))
}

/// ALTER TABLE of a view.
fn view_changed(
    names: &Names<'_>,
    sql: &str,
    words: &Words,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    view(names, sql, words, Verb::Alter, Object::View, context)
}

/// A view lives where all the tables live that it reads.
fn view(
    names: &Names<'_>,
    sql: &str,
    words: &Words,
    verb: Verb,
    object: Object,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    match (object, verb) {
        (Object::MaterializedView, Verb::Create) => {
            keep::check_materialized_view(names, sql, context)?;
            return at_home("a materialized view of the home shard");
        }
        (Object::MaterializedView, Verb::Refresh) if names.mentions(sql) => {
            return refresh(names, sql, context);
        }
        _ => {}
    }
    let replaced = replaced(names, sql, context);
    let named = match verb {
        Verb::Create => places_read(names, words, replaced, context)?,
        _ => places_named(names, words, context)?,
    };
    match (replaced, named) {
        (Some(_), Named::None) => on_all_shards("replaces a view on all shards"),
        // The others have no such table.
        (Some(view), Named::Home) => {
            let detail = format!("view \"{}\" is on all shards", view.name);
            Err(Refusal::about(Reason::ViewMixed, detail))
        }
        _ => match named.only(names, sql, Reason::ViewMixed)? {
            HomeOrDeclared::Declared => on_all_shards("reads tables on all shards"),
            HomeOrDeclared::Home => at_home("a view of the home shard"),
        },
    }
}

/// REFRESH MATERIALIZED VIEW runs the query of the view again.
fn refresh(names: &Names<'_>, sql: &str, context: &PlanContext) -> Result<Plan, Refusal> {
    let mut c = Cursor::new(sql.as_bytes(), context.standard_conforming_strings);
    c.eat_all(&["refresh", "materialized", "view"]);
    c.eat("concurrently");
    let path = c.path().unwrap_or_default();
    let path = path.iter().map(|name| name.as_str().map(str::to_owned));
    let path: Option<Vec<String>> = path.collect();
    match path.map(|path| names.resolve(&path, context)) {
        Some(Resolved::Relation(relation, Place::Home)) => match &relation.definition {
            Some(definition) if relation.kind == RelationKind::MaterializedView => {
                keep::check_refresh(names, definition, context)?;
                at_home("a materialized view of the home shard")
            }
            // PostgreSQL says what it is.
            None if relation.kind == RelationKind::Table => home_table(),
            _ => refuse(Reason::CreateFromSharded),
        },
        _ => refuse(Reason::CreateFromSharded),
    }
}

/// The view on all shards that CREATE OR REPLACE VIEW finds.
fn replaced<'a>(names: &Names<'a>, sql: &str, context: &PlanContext) -> Option<&'a Name> {
    let mut c = Cursor::new(sql.as_bytes(), context.standard_conforming_strings);
    c.eat_all(&["create", "or", "replace"]).then_some(())?;
    c.eat("recursive");
    c.eat("view").then_some(())?;
    let path = c.path()?;
    let path = path.iter().map(|name| name.as_str().map(str::to_owned));
    let path: Vec<String> = path.collect::<Option<_>>()?;
    let name = create::name_of_new(names, &path, context)?;
    names.catalog.everywhere.get(&name)
}

fn drop_tables(
    names: &Names<'_>,
    sql: &str,
    words: &Words,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    let named = places_named(names, words, context)?;
    if named == Named::Both {
        return drop_wherever(names, sql, context).ok_or_else(|| Refusal::new(Reason::MixedTables));
    }
    if named == Named::Home && drops_home_tables(names, sql, context) {
        return home_table();
    }
    match named.only(names, sql, Reason::MixedTables)? {
        HomeOrDeclared::Declared => on_all_shards("drops tables on all shards"),
        HomeOrDeclared::Home => home_table(),
    }
}

/// Whether a DROP TABLE names tables of the home shard and nothing else, be there declared ones of these names in other
/// schemas.
fn drops_home_tables(names: &Names<'_>, sql: &str, context: &PlanContext) -> bool {
    let mut c = Cursor::new(sql.as_bytes(), context.standard_conforming_strings);
    if !c.eat_all(&["drop", "table"]) {
        return false;
    }
    c.eat_all(&["if", "exists"]);
    loop {
        let path = c.path().unwrap_or_default();
        let path = path.iter().map(|name| name.as_str().map(str::to_owned));
        let path: Option<Vec<String>> = path.collect();
        let resolved = path.map(|path| names.resolve(&path, context));
        let is_home = matches!(&resolved, Some(Resolved::Relation(relation, Place::Home))
            if relation.kind == RelationKind::Table);
        if !is_home {
            return false;
        }
        if !c.eat_kind(Kind::Comma) {
            break;
        }
    }
    c.eat_any(&["cascade", "restrict"]);
    c.at_end()
}

/// DROP TABLE of tables of the home shard and of declared ones. The home shard has all of them and says what is not there.
/// The others drop the declared ones alone: to them the name of a home table may mean a table of another schema.
fn drop_wherever(names: &Names<'_>, sql: &str, context: &PlanContext) -> Option<Plan> {
    let mut c = Cursor::new(sql.as_bytes(), context.standard_conforming_strings);
    c.eat_all(&["drop", "table"]).then_some(())?;
    c.eat_all(&["if", "exists"]);
    let listed = declared_of_list(&mut c, sql, |path| match names.resolve(path, context) {
        Resolved::Relation(table, _) if names.collection(&table.name).is_some() => None,
        Resolved::Relation(_, Place::Home) | Resolved::Temporary | Resolved::Unknown(_) => {
            Some(false)
        }
        Resolved::Relation(_, Place::Sharded(_) | Place::Reference)
        | Resolved::Missing(_)
        | Resolved::KeyGone(..) => Some(true),
        _ => None,
    })?;
    if listed.is_empty() {
        return home_table().ok();
    }
    let tail = &sql[c.at()..];
    Some(Plan::Ddl(Ddl {
        place: DdlPlace::AllShards,
        course: Course::Transaction,
        why: "drops tables wherever they are".to_owned(),
        elsewhere: Some(format!("DROP TABLE IF EXISTS {} {tail}", listed.join(", "))),
        times: Vec::new(),
    }))
}

/// The entries of a list of tables, as they are written, of which `is_declared` says so; `None` if it is not known of one.
fn declared_of_list<'a>(
    c: &mut Cursor<'_>,
    sql: &'a str,
    is_declared: impl Fn(&[String]) -> Option<bool>,
) -> Option<Vec<&'a str>> {
    let mut declared = Vec::new();
    loop {
        let from = c.at();
        c.eat("only");
        let path = c.path()?;
        c.eat_operator("*");
        let path = path.iter().map(|name| name.as_str().map(str::to_owned));
        let path: Vec<String> = path.collect::<Option<_>>()?;
        if is_declared(&path)? {
            declared.push(sql.get(from..c.taken())?);
        }
        if !c.eat_kind(Kind::Comma) {
            return Some(declared);
        }
    }
}

/// TRUNCATE: where its tables are, if nothing that it fires leads elsewhere.
pub fn truncate(names: &Names<'_>, sql: &str, context: &PlanContext) -> Result<Plan, Refusal> {
    let words = Words::of(sql, context);
    for path in words.paths().filter(|_| names.anything_declared()) {
        if let Resolved::Relation(relation, _) = names.resolve(path, context) {
            let change = Events::TRUNCATE.into();
            names.check_reached(relation, &change, words.has("cascade"))?;
        }
    }
    match whole_tables(names, sql, context) {
        Err(refusal) if refusal.reason == Reason::MixedTables => {
            truncate_wherever(names, sql, context).ok_or(refusal)
        }
        planned => planned,
    }
}

/// TRUNCATE of tables of the home shard and of declared ones, which the others have.
fn truncate_wherever(names: &Names<'_>, sql: &str, context: &PlanContext) -> Option<Plan> {
    let mut c = Cursor::new(sql.as_bytes(), context.standard_conforming_strings);
    c.eat("truncate").then_some(())?;
    c.eat("table");
    match wherever(names, sql, c, "empties tables wherever they are", context)? {
        Plan::Ddl(ddl) if ddl.place == DdlPlace::Home => Some(utility::home("writes")),
        plan => Some(plan),
    }
}

/// GRANT and REVOKE of rights on such tables.
fn grant_wherever(names: &Names<'_>, sql: &str, context: &PlanContext) -> Option<Plan> {
    let mut c = Cursor::new(sql.as_bytes(), context.standard_conforming_strings);
    c.eat_any(&["grant", "revoke"]).then_some(())?;
    while !c.eat("on") {
        if c.group().is_none() {
            c.bump()?;
        }
    }
    c.eat("table");
    wherever(names, sql, c, "rights on tables wherever they are", context)
}

/// A statement on a list of tables that begins at the cursor: on the home shard as it is, elsewhere with those tables of
/// the list that are there.
fn wherever(
    names: &Names<'_>,
    sql: &str,
    mut c: Cursor<'_>,
    why: &str,
    context: &PlanContext,
) -> Option<Plan> {
    let head = sql.get(..c.taken())?;
    let declared = declared_of_list(&mut c, sql, |path| match names.resolve(path, context) {
        // What it reads may be elsewhere, and it too.
        Resolved::Relation(view, Place::Home) if view.kind == RelationKind::View => None,
        Resolved::Relation(table, _) if names.collection(&table.name).is_some() => None,
        Resolved::Relation(_, Place::Home) => Some(false),
        Resolved::Relation(_, Place::Sharded(_) | Place::Reference) => Some(true),
        _ => None,
    })?;
    if declared.is_empty() {
        return home_table().ok();
    }
    let rest = c.rest();
    let tail = sql.get(rest.start..rest.end)?;
    Some(Plan::Ddl(Ddl {
        place: DdlPlace::AllShards,
        course: Course::Transaction,
        why: why.to_owned(),
        elsewhere: Some(format!("{head} {} {tail}", declared.join(", "))),
        times: Vec::new(),
    }))
}

/// TRUNCATE and LOCK TABLE: where their tables are.
pub fn whole_tables(names: &Names<'_>, sql: &str, context: &PlanContext) -> Result<Plan, Refusal> {
    let words = Words::of(sql, context);
    let named = places_named(names, &words, context)?;
    let is_other = |path: &Vec<String>| {
        let meant = names.resolve(path, context);
        let sharded = matches!(meant, Resolved::Relation(_, Place::Sharded(_)));
        !sharded && !matches!(meant, Resolved::Unknown(_))
    };
    match named.only(names, sql, Reason::MixedTables)? {
        HomeOrDeclared::Declared => Ok(Plan::Scatter(Scatter {
            target: Target::AllShards,
            role: Role::Primary("writes".to_owned()),
            merge: Merge::First,
            locks: match words.has("cascade") || words.paths().any(is_other) {
                true => LockScope::Copies,
                false => LockScope::Tables,
            },
        })),
        HomeOrDeclared::Home => Ok(utility::home("writes")),
    }
}

/// ANALYZE, VACUUM and the like.
pub fn maintenance(
    names: &Names<'_>,
    sql: &str,
    what: Other,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    let words = Words::of(sql, context);
    let transactional = match what {
        Other::Vacuum => false,
        Other::Reindex => {
            let alone = ["concurrently", "schema", "database", "system"];
            !alone.iter().any(|word| words.has(word))
        }
        Other::Load => return Ok(utility::home("a library of this session")),
        Other::Checkpoint => return Ok(ddl(DdlPlace::OncePerCluster, false, "the cluster")),
        Other::Analyze => true,
        // Without a table it goes through all of them, each in a transaction of its own.
        Other::Cluster => words.names_more_than(&["cluster", "verbose"]),
    };
    if what == Other::Reindex && words.has("index") {
        let place = index::indexed_place(names, &words, context)?;
        return Ok(ddl(place, transactional, "an index"));
    }
    const OPTIONS: [&str; 8] = [
        "analyze",
        "analyse",
        "verbose",
        "skip_locked",
        "on",
        "off",
        "true",
        "false",
    ];
    if what == Other::Analyze && !words.names_more_than(&OPTIONS) {
        return Ok(going(
            DdlPlace::AllShards,
            Course::StepsOutside,
            "on all shards",
        ));
    }
    match places_named(names, &words, context)? {
        Named::Home => Ok(ddl(
            DdlPlace::Home,
            transactional,
            "tables of the home shard",
        )),
        Named::Both => refuse(Reason::MixedTables),
        Named::Declared | Named::None => {
            Ok(ddl(DdlPlace::AllShards, transactional, "on all shards"))
        }
    }
}

fn path_of(name: &ObjectName) -> Vec<String> {
    name.0
        .iter()
        .filter_map(|p| p.as_ident())
        .map(folded)
        .collect()
}
