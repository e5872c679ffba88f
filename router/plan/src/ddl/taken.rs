//! Plans CREATE ... IF NOT EXISTS where only the home shard has something with that name.
//!
//! Sent to all shards, the statement would do nothing on the home shard and create the object on the others. One
//! PostgreSQL would do nothing. So the statement goes to the home shard alone.

use crate::names::{Names, Place, Resolved};
use crate::refuse::{Reason, Refusal, refuse};
use crate::{Ddl, DdlPlace, Plan, PlanContext};
use mothership_catalog::Name;
use mothership_sql::cursor::Cursor;

use super::create::name_of_new;

/// What a statement creates unless the name exists.
struct Wanted {
    what: &'static str,
    path: Vec<String>,
    /// The table, if it creates an index.
    on: Option<Vec<String>>,
}

/// The plan of a CREATE. It goes to the home shard alone if that shard has the name already and creates nothing.
pub(super) fn unless_taken(
    names: &Names<'_>,
    sql: &str,
    plan: Plan,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    let Plan::Ddl(Ddl {
        place: DdlPlace::AllShards,
        course,
        ..
    }) = &plan
    else {
        return Ok(plan);
    };
    let Some(wanted) = wanted(sql, context) else {
        return Ok(plan);
    };
    let Some(name) = name_of(names, &wanted, context) else {
        return refuse(Reason::DdlNotUnderstood);
    };
    let taken = match wanted.what {
        "statistics" => {
            let table = names.catalog.statistics.get(&name);
            table.is_some_and(|table| names.is_only_at_home(table))
        }
        _ => names.is_taken_at_home(&name),
    };
    match taken {
        true => Ok(Plan::Ddl(Ddl {
            place: DdlPlace::Home,
            course: course.clone(),
            why: "the home shard has what is called so".to_owned(),
            elsewhere: None,
            times: Vec::new(),
        })),
        false => Ok(plan),
    }
}

fn name_of(names: &Names<'_>, wanted: &Wanted, context: &PlanContext) -> Option<Name> {
    let Some(table) = &wanted.on else {
        return name_of_new(names, &wanted.path, context);
    };
    match (names.resolve(table, context), wanted.path.as_slice()) {
        (Resolved::Relation(table, Place::Sharded(_) | Place::Reference), [name]) => {
            Some(Name::new(table.name.schema.clone(), name))
        }
        _ => None,
    }
}

/// What a statement with IF NOT EXISTS creates, if its name is one of a relation or of statistics.
fn wanted(sql: &str, context: &PlanContext) -> Option<Wanted> {
    let mut c = Cursor::new(sql.as_bytes(), context.standard_conforming_strings);
    c.eat("create").then_some(())?;
    c.eat_any(&["unlogged", "foreign", "unique", "materialized"]);
    let kinds = ["table", "index", "sequence", "view", "statistics"];
    let what = *kinds.iter().find(|kind| c.sees(kind))?;
    c.bump();
    c.eat("concurrently");
    c.eat_all(&["if", "not", "exists"]).then_some(())?;
    let path = path(&mut c)?;
    let on = match what == "index" {
        true => {
            c.eat("on").then_some(())?;
            c.eat("only");
            Some(self::path(&mut c)?)
        }
        false => None,
    };
    Some(Wanted { what, path, on })
}

fn path(c: &mut Cursor<'_>) -> Option<Vec<String>> {
    let path = c.path()?;
    let names = path.iter().map(|name| name.as_str().map(str::to_owned));
    names.collect()
}
