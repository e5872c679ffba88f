//! Definitions that name tables of documents. Their tables on the home shard say who may use them, so rights and owners
//! are given there; all else about them is declared in the configuration.

use super::words::Words;
use super::{Plan, at_home};
use crate::PlanContext;
use crate::names::{Names, Resolved};
use crate::refuse::{Reason, Refusal, refuse};
use mothership_sql::cursor::Cursor;
use mothership_sql::effect::{Object, Statement, Verb};
use mothership_sql::lexer::Kind;

/// The plan of a statement, no query and no write, that may name tables of documents; `None` if it names none of them
/// where a table stands.
pub fn plan(
    names: &Names<'_>,
    sql: &str,
    statement: &Statement<'_>,
    context: &PlanContext,
) -> Option<Result<Plan, Refusal>> {
    let c = Cursor::new(sql.as_bytes(), context.standard_conforming_strings);
    let Statement::Ddl { verb, object } = statement else {
        return Some(refuse(Reason::DocumentsStatement));
    };
    let words = || Words::of(sql, context);
    let named = match (verb, object) {
        (_, Object::Policy) => return Some(refuse(Reason::DocumentsRowSecurity)),
        (Verb::Grant | Verb::Revoke, _) => granted(names, c, context),
        (Verb::Alter, Object::Table) => match owned(names, c, context) {
            None if words().has("security") => return Some(refuse(Reason::DocumentsRowSecurity)),
            owned => owned,
        },
        _ => None,
    };
    match named {
        Some(Tables::Documents) => Some(at_home(
            "rights on documents are those on the home shard's table",
        )),
        Some(Tables::Others) => None,
        Some(Tables::Both) => Some(refuse(Reason::MixedTables)),
        None => Some(refuse(Reason::DocumentsStatement)),
    }
}

/// Which tables stand in a list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tables {
    Documents,
    Others,
    Both,
}

/// GRANT and REVOKE up to the list behind ON, which is one of tables.
fn granted(names: &Names<'_>, mut c: Cursor<'_>, context: &PlanContext) -> Option<Tables> {
    if !c.eat("grant") && !c.eat("revoke") {
        return None;
    }
    while !c.eat("on") {
        if c.group().is_none() {
            c.bump()?;
        }
    }
    c.eat("table");
    let tables = listed(names, &mut c, context)?;
    c.sees_any(&["to", "from"]).then_some(tables)
}

/// ALTER TABLE name OWNER TO role, and nothing else.
fn owned(names: &Names<'_>, mut c: Cursor<'_>, context: &PlanContext) -> Option<Tables> {
    if !c.eat_all(&["alter", "table"]) {
        return None;
    }
    c.eat_all(&["if", "exists"]);
    c.eat("only");
    let tables = listed(names, &mut c, context)?;
    if !c.eat_all(&["owner", "to"]) {
        return None;
    }
    c.name()?;
    c.skip_semicolon();
    c.at_end().then_some(tables)
}

fn listed(names: &Names<'_>, c: &mut Cursor<'_>, context: &PlanContext) -> Option<Tables> {
    let mut tables = None;
    loop {
        let path = c.path()?;
        let path: Option<Vec<String>> = path
            .iter()
            .map(|part| part.as_str().map(str::to_owned))
            .collect();
        let one = match names.resolve(&path?, context) {
            Resolved::Relation(relation, _) if names.collection(&relation.name).is_some() => {
                Tables::Documents
            }
            _ => Tables::Others,
        };
        tables = match tables {
            None => Some(one),
            Some(known) if known == one => Some(one),
            Some(_) => Some(Tables::Both),
        };
        if !c.eat_kind(Kind::Comma) {
            return tables;
        }
    }
}
