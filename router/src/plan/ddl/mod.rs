//! Changes of definitions, TRUNCATE, LOCK and maintenance: where they are done.
//!
//! Objects live where their statements run: sharded and reference tables, schemas,
//! types, functions and grants on every shard; undeclared tables with their indexes
//! and views at home; roles, databases and tablespaces once per cluster. A constraint that no
//! shard could enforce for the whole table is refused.

mod alter;
mod column;
mod constraint;
mod create;
mod fills;
mod index;
mod words;

pub use constraint::unenforced;
pub use create::{created, is_of_home};

use sqlparser::ast::ObjectName;

use crate::catalog::{Events, Name, RelationKind};
use crate::plan::names::{Names, Reach, Resolved, folded};
use crate::plan::refuse::{Reason, Refusal, refuse};
use crate::plan::{Ddl, DdlPlace, Merge, Plan, PlanContext, Role, Scatter, Target, keep, utility};
use crate::sql::effect::{Object, Other, Verb};

use alter::{alter_table, drops_no_key};
use create::create_table;
use index::index;
use words::{Named, Only, Words, places_named};

/// Plans CREATE, ALTER, DROP, COMMENT, GRANT and their kin.
pub fn plan(
    names: &Names<'_>,
    sql: &str,
    verb: Verb,
    object: Object,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    let words = Words::of(sql, context);
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
    }
    match object {
        Object::Role => Ok(ddl(
            DdlPlace::OncePerCluster,
            true,
            "roles belong to the cluster",
        )),
        Object::Database | Object::Tablespace | Object::System => Ok(ddl(
            DdlPlace::OncePerCluster,
            false,
            "belongs to the cluster",
        )),
        Object::Schema | Object::Routine | Object::Extension => {
            on_all_shards("the same on all shards")
        }
        Object::Type => {
            // It is checked where a value is, which a statement need not show.
            let makes = matches!(verb, Verb::Create | Verb::Alter) && words.has("domain");
            if makes && names.code_reach(sql) > Reach::Nothing {
                return refuse(Reason::FunctionUnproven);
            }
            // A new label cannot be used in the transaction that adds it.
            let adds_value = words.has("add") && words.has("value");
            Ok(ddl(
                DdlPlace::AllShards,
                !adds_value,
                "the same on all shards",
            ))
        }
        Object::Publication | Object::Subscription => {
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
            _ => by_tables(names, sql, &words, context),
        },
        Object::Index => index(names, sql, &words, verb, context),
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

fn ddl(place: DdlPlace, transactional: bool, why: &str) -> Plan {
    Plan::Ddl(Ddl {
        place,
        transactional,
        why: why.to_owned(),
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

fn sequence(
    names: &Names<'_>,
    sql: &str,
    words: &Words,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    // Sequences owned by columns of declared tables exist wherever their tables do.
    let known = words.paths().any(|path| {
        matches!(names.resolve(path, context), Resolved::Relation(r, _) if r.kind == RelationKind::Sequence)
    });
    if names.mentions(sql) && !known {
        return on_all_shards("a sequence of a table on all shards");
    }
    at_home("sequences live at home")
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
    let named = places_named(names, words, context)?;
    if object == Object::MaterializedView
        && names.mentions(sql)
        && matches!(verb, Verb::Create | Verb::Refresh)
    {
        return refuse(Reason::CreateFromSharded);
    }
    match named.only(names, sql, Reason::ViewMixed)? {
        Only::Declared => on_all_shards("reads tables on all shards"),
        Only::Home => at_home("a view of the home shard"),
    }
}

fn drop_tables(
    names: &Names<'_>,
    sql: &str,
    words: &Words,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    let named = places_named(names, words, context)?;
    match named.only(names, sql, Reason::MixedTables)? {
        Only::Declared => on_all_shards("drops tables on all shards"),
        Only::Home => home_table(),
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
    whole_tables(names, sql, context)
}

/// TRUNCATE and LOCK TABLE: where their tables are.
pub fn whole_tables(names: &Names<'_>, sql: &str, context: &PlanContext) -> Result<Plan, Refusal> {
    let named = places_named(names, &Words::of(sql, context), context)?;
    match named.only(names, sql, Reason::MixedTables)? {
        Only::Declared => Ok(Plan::Scatter(Scatter {
            target: Target::AllShards,
            role: Role::Primary("writes".to_owned()),
            merge: Merge::First,
        })),
        Only::Home => Ok(utility::home("writes")),
    }
}

/// ANALYZE, VACUUM and their kin.
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
