//! Plans for EXPLAIN, DECLARE, CALL and DO, and for statements that the planner cannot parse.

use mothership_sql::quote;
use std::borrow::Cow;

use super::defines::changes_all_shards;
use super::gather::Gather;
use super::names::{Names, Resolved};
use super::refuse::{Reason, Refusal, not_understood, refuse};
use super::{Plan, PlanContext, Role, Single, Target, Touches};
use mothership_catalog::types::words;
use mothership_sql::cursor::Cursor;
use mothership_sql::effect::{self, Object, Statement, Verb};
use mothership_sql::lexer::{Kind, Lexer};
use mothership_sql::name::{self, Name, Unread};
use std::sync::Arc;

/// Whether a text names the view or the function by which a server shows its prepared transactions. What follows of them
/// may be kept or counted in any statement.
pub fn shows_prepared(sql: &str, context: &PlanContext) -> bool {
    const SHOWING: [&str; 2] = ["pg_prepared_xacts", "pg_prepared_xact"];
    let lower = sql.to_ascii_lowercase();
    lower.contains(SHOWING[1])
        && Lexer::new(sql.as_bytes(), context.standard_conforming_strings).any(|token| {
            let name = lower.get(token.start..token.end).unwrap_or_default();
            matches!(token.kind, Kind::Word | Kind::QuotedIdent)
                && SHOWING.contains(&name.trim_matches('"'))
        })
}

/// The home shard's primary.
pub fn home(why: &str) -> Plan {
    Plan::Single(Single {
        target: Target::Home,
        role: Role::Primary(why.to_owned()),
        fallback: None,
        gather: None,
        otherwise: Refusal::new(Reason::SeveralShards),
        unknown: Vec::new(),
        locks_copies: false,
        touches: Touches::Anything,
    })
}

/// A write that names no declared table, with the tables that it writes and the catalog does not have: somebody may have
/// made them on all shards since.
pub fn home_write(names: &Names<'_>, sql: &str, context: &PlanContext) -> Plan {
    let mut unknown = Vec::new();
    let mut c = Cursor::new(sql.as_bytes(), context.standard_conforming_strings);
    loop {
        let writes = c.eat_all(&["insert", "into"])
            || c.eat_all(&["delete", "from"])
            || c.eat_all(&["merge", "into"])
            || c.eat("update");
        if writes {
            c.eat("only");
            unknown.extend(unknown_name(names, &mut c, context));
        } else if c.bump().is_none() {
            break;
        }
    }
    match home("writes") {
        Plan::Single(single) => Plan::Single(Single { unknown, ..single }),
        plan => plan,
    }
}

fn unknown_name(names: &Names<'_>, c: &mut Cursor<'_>, context: &PlanContext) -> Option<String> {
    let path = c.path()?;
    let parts: Option<Vec<String>> = path.iter().map(|n| n.as_str().map(str::to_owned)).collect();
    match names.resolve(&parts?, context) {
        Resolved::Unknown(name) => Some(name),
        _ => None,
    }
}

/// A plan that is refused with `reason` unless one shard can answer. For EXPLAIN; statements over several shards are
/// explained by `session/explain/over.rs`.
pub fn only_single(plan: Plan, reason: Reason) -> Result<Plan, Refusal> {
    match plan {
        Plan::Single(single) => {
            let otherwise = Refusal {
                reason,
                detail: single.otherwise.detail.clone(),
            };
            Ok(Plan::Single(Single {
                otherwise,
                fallback: None,
                gather: None,
                touches: Touches::Anything,
                ..single
            }))
        }
        Plan::Split(mut split) => {
            if let super::SplitRows::Values { whole, .. } = &mut split.rows {
                *whole = Some(Refusal::new(reason));
                split.touches = Touches::Anything;
                return Ok(Plan::Split(split));
            }
            refuse(reason)
        }
        // Over one shard, by its keys, it is untouched.
        Plan::Scatter(scatter) => match scatter.target {
            Target::Keys(keyed) if keyed.iter().all(|k| k.cond != super::condition::Cond::Any) => {
                Ok(Plan::Single(Single {
                    target: Target::Keys(keyed),
                    role: scatter.role,
                    fallback: None,
                    gather: None,
                    otherwise: Refusal::new(reason),
                    unknown: Vec::new(),
                    locks_copies: false,
                    touches: Touches::Anything,
                }))
            }
            _ => refuse(reason),
        },
        Plan::Gather(gather) => {
            let listed = gather
                .keyed
                .iter()
                .all(|k| k.cond != super::condition::Cond::Any);
            if !listed || gather.home {
                return refuse(reason);
            }
            Ok(Plan::Single(Single {
                target: Target::Keys(gather.keyed.clone()),
                role: gather.role.clone(),
                fallback: None,
                gather: None,
                otherwise: Refusal::new(reason),
                unknown: Vec::new(),
                locks_copies: false,
                touches: Touches::Anything,
            }))
        }
        // Guards are put around a whole plan.
        Plan::Fill(_) | Plan::Guarded(_) => refuse(reason),
        Plan::Refuse(refusal) => Err(refusal),
        Plan::Local(_) | Plan::Ddl(_) => Ok(plan),
    }
}

/// DECLARE up to its query. PostgreSQL lets a cursor go backwards where its plan can; rows that have been gathered always can.
pub fn declaration(statement: &Statement<'_>) -> Option<String> {
    let Statement::Declare {
        name,
        hold,
        scroll,
        binary,
        query: _,
    } = statement
    else {
        return None;
    };
    let binary = if *binary { "BINARY " } else { "" };
    let scroll = match scroll {
        Some(false) => "NO SCROLL",
        Some(true) | None => "SCROLL",
    };
    let hold = if *hold { " WITH HOLD" } else { "" };
    let name = quote::identifier(name.as_str()?);
    Some(format!("DECLARE {name} {binary}{scroll} CURSOR{hold} FOR "))
}

/// A cursor lives in a transaction, and FETCH must find it where it was declared.
pub fn cursor(plan: Plan) -> Result<Plan, Refusal> {
    match plan {
        Plan::Single(single) => Ok(Plan::Single(Single {
            role: Role::Primary("a cursor".to_owned()),
            touches: Touches::Anything,
            ..single
        })),
        Plan::Gather(gather) => Ok(Plan::Gather(Arc::new(Gather {
            role: Role::Primary("a cursor".to_owned()),
            ..(*gather).clone()
        }))),
        plan => Ok(plan),
    }
}

/// Whether a text that cannot be parsed names declared tables in string constants only,
/// and calls nothing that takes such a string for SQL: psql's `\d orders` asks the
/// catalog, which the home shard can answer.
pub fn names_nothing_declared(names: &Names<'_>, sql: &str, context: &PlanContext) -> bool {
    let mut rest = String::with_capacity(sql.len());
    for token in Lexer::new(sql.as_bytes(), context.standard_conforming_strings) {
        let text = sql.get(token.start..token.end).unwrap_or("u&\"");
        match token.kind {
            Kind::String | Kind::EscapeString => rest.push_str("''"),
            // Anything else that quotes may quote more than a string.
            kind if kind.is_string() => return false,
            _ => rest.push_str(text),
        }
        rest.push(' ');
    }
    let lower = rest.to_ascii_lowercase();
    !names.mentions(&rest) && !words(&lower).any(super::functions::is_opaque)
}

/// The plan of CALL and DO: the home shard, or a refusal if the code may reach declared tables.
pub fn code(names: &Names<'_>, sql: &str, context: &PlanContext) -> Result<Plan, Refusal> {
    if may_reach_declared(names, sql, context) {
        return refuse(Reason::CodeUnproven);
    }
    Ok(home("code"))
}

/// Errors that say what is there already, or is not: where a definition is on all shards or on none, all of them say so.
const OF_DEFINITIONS: [&str; 7] = [
    "duplicate_object",
    "duplicate_table",
    "duplicate_column",
    "duplicate_schema",
    "undefined_object",
    "undefined_table",
    "undefined_column",
];

/// The statement of a DO that does nothing but to change one definition, as migrations have it that may run twice:
/// `BEGIN CREATE TYPE ...; EXCEPTION WHEN duplicate_object THEN NULL; END`, or
/// `BEGIN IF NOT EXISTS (SELECT 1 FROM pg_type WHERE ...) THEN CREATE TYPE ...; END IF; END`.
pub fn definition(names: &Names<'_>, sql: &str, context: &PlanContext) -> Option<String> {
    let conforming = context.standard_conforming_strings;
    let strings = string_values(sql, conforming).ok()?;
    let mut body = strings.iter().filter(|text| text.contains(';'));
    let (Some(body), None) = (body.next(), body.next()) else {
        return None;
    };
    if is_of_other_language(sql, conforming) {
        return None;
    }
    let mut c = Cursor::new(body.as_bytes(), conforming);
    c.eat("begin").then_some(())?;
    let condition = match c.eat_all(&["if", "not", "exists"]) {
        true => Some(c.group()?),
        false => None,
    };
    (condition.is_none() || c.eat("then")).then_some(())?;
    let begins = c.at();
    while c.bump().is_some() {}
    let found = body.get(begins..c.taken())?.to_owned();
    c.skip_semicolon().then_some(())?;
    if let Some(condition) = condition {
        (c.eat_all(&["end", "if"]) && c.skip_semicolon()).then_some(())?;
        let asked = asked_names(&body[condition.start..condition.end], &found, context)?;
        let at_home = asked.iter().any(|name| names.is_used_at_home(name));
        (!at_home).then_some(())?;
    }
    if c.eat("exception") {
        while c.eat("when") {
            loop {
                OF_DEFINITIONS
                    .iter()
                    .any(|error| c.eat(error))
                    .then_some(())?;
                if !c.eat("or") {
                    break;
                }
            }
            c.eat("then").then_some(())?;
            if c.eat_all(&["raise", "notice"]) {
                c.string()?;
            } else {
                c.eat("null").then_some(())?;
            }
            c.skip_semicolon().then_some(())?;
        }
    }
    c.eat("end").then_some(())?;
    c.skip_semicolon();
    let is_whole = c.at_end() && !c.skip_semicolon();
    let analysis = effect::analyse(found.as_bytes(), conforming);
    let known = matches!(
        analysis.statement,
        Statement::Ddl {
            verb: Verb::Create,
            object: Object::Type
                | Object::Schema
                | Object::Index
                | Object::Extension
                | Object::Role,
        } | Statement::Ddl {
            verb: Verb::Alter,
            object: Object::Table | Object::Type,
        }
    );
    // Each cluster would make another secret of a password.
    let has_password = || words(&found.to_ascii_lowercase()).any(|word| word == "password");
    (is_whole && known && !has_password()).then_some(found)
}

/// Where all shards say the same of what has a certain name, if no table that only one of them has goes by it.
const OF_NAMES: [(&str, &[&str]); 2] = [
    (
        "pg_catalog",
        &[
            "pg_attribute",
            "pg_class",
            "pg_constraint",
            "pg_extension",
            "pg_indexes",
            "pg_namespace",
            "pg_roles",
            "pg_tables",
            "pg_type",
        ],
    ),
    (
        "information_schema",
        &["columns", "schemata", "table_constraints", "tables"],
    ),
];

/// Columns there with names that a schema has once.
const NAMES: [&str; 11] = [
    "attrelid",
    "conrelid",
    "extname",
    "indexname",
    "nspname",
    "relname",
    "rolname",
    "schema_name",
    "table_name",
    "tablename",
    "typname",
];

/// Columns there with names that a table has once.
const NAMES_IN_TABLE: [&str; 4] = ["attname", "column_name", "conname", "constraint_name"];

/// Columns there that say more of what has the name.
const MORE: [&str; 6] = [
    "constraint_schema",
    "constraint_type",
    "contype",
    "relkind",
    "schemaname",
    "table_schema",
];

/// The names that a query asks for, if it asks no more than whether there is what a definition names: where a definition
/// is on all shards or on none, the answer of all is the same.
fn asked_names(query: &str, definition: &str, context: &PlanContext) -> Option<Vec<String>> {
    let conforming = context.standard_conforming_strings;
    let mut named = Cursor::new(definition.as_bytes(), conforming);
    let mut names = Vec::new();
    while !named.at_end() {
        match named.name() {
            Some(name) => names.push(name),
            None => drop(named.bump()),
        }
    }
    let mut c = Cursor::new(query.as_bytes(), conforming);
    c.eat("select").then_some(())?;
    let one =
        |c: &mut Cursor<'_>| c.eat_kind(Kind::Integer) || c.eat_operator("*") || c.name().is_some();
    (c.sees("from") || one(&mut c)).then_some(())?;
    c.eat("from").then_some(())?;
    is_of_names(&c.path()?, context).then_some(())?;
    c.eat("as");
    if !c.sees("where") {
        c.name()?;
    }
    c.eat("where").then_some(())?;
    let mut asked = Vec::new();
    loop {
        let column = c.path()?.pop()?;
        c.eat_operator("=").then_some(())?;
        let value = c.string()?;
        if c.eat_kind(Kind::TypeCast) {
            c.eat_any(&["regclass", "name", "text"]).then_some(())?;
        }
        let is_one = |of: &[&str]| of.iter().any(|name| column == **name);
        let named = || names.contains(&value);
        if is_one(&NAMES) && named() {
            asked.push(value.as_str()?.to_owned());
        } else if !(is_one(&MORE) || is_one(&NAMES_IN_TABLE) && named()) {
            return None;
        }
        if !c.eat("and") {
            (!c.eat("limit") || c.eat_kind(Kind::Integer)).then_some(())?;
            // Of a column or a constraint the table must be known: another one may have the same.
            return (c.at_end() && !asked.is_empty()).then_some(asked);
        }
    }
}

/// Whether a path leads to one of the tables in [`OF_NAMES`].
fn is_of_names(path: &[Name<'_>], context: &PlanContext) -> bool {
    let listed = |schema: &str, table: &Name<'_>| {
        let mut lists = OF_NAMES.iter().filter(|(of, _)| *of == schema);
        lists.any(|(_, tables)| tables.iter().any(|one| *table == **one))
    };
    match path {
        [schema, table] => schema.as_str().is_some_and(|schema| listed(schema, table)),
        // Its schema stands before those of the path, unless the path has it itself.
        [table] => {
            let hidden = |table: &str| context.temporary.may_hide(table);
            let first = context.search_path.iter().all(|name| name != "pg_catalog");
            first && listed("pg_catalog", table) && !table.as_str().is_none_or(hidden)
        }
        _ => false,
    }
}

/// Whether the code in a statement, in its strings or outside of them, may reach declared tables. Code that cannot be read
/// counts as code that may.
pub fn may_reach_declared(names: &Names<'_>, sql: &str, context: &PlanContext) -> bool {
    if !names.anything_declared() {
        return false;
    }
    let conforming = context.standard_conforming_strings;
    let Ok(strings) = string_values(sql, conforming) else {
        return true;
    };
    // The strings of a CALL are values.
    let is_code = !Cursor::new(sql.as_bytes(), conforming).eat("call");
    let defines = |text: &Cow<'_, str>| changes_all_shards(text);
    let mut texts = strings.iter().map(Cow::as_ref).chain([sql]);
    is_of_other_language(sql, conforming)
        || is_code && strings.iter().any(defines)
        || texts.any(|text| names.code_may_leave_home(text))
}

/// The strings of a statement, decoded.
///
/// # Errors
/// The value of one of them is not certain.
pub fn string_values(sql: &str, conforming: bool) -> Result<Vec<Cow<'_, str>>, Unread> {
    let values = name::strings(sql.as_bytes(), conforming)?;
    let text = |value| match value {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    };
    Ok(values.into_iter().map(text).collect())
}

/// Whether a statement says LANGUAGE and names one whose code no word shows.
fn is_of_other_language(sql: &str, conforming: bool) -> bool {
    let mut c = Cursor::new(sql.as_bytes(), conforming);
    loop {
        if c.eat("language") {
            let language = c.string().map(Name::folded).or_else(|| c.name());
            return language.is_none_or(|name| name != "plpgsql" && name != "sql");
        }
        if c.bump().is_none() {
            return false;
        }
    }
}

/// The plan of a text that is no known statement. It goes to the home shard, which will most likely refuse it, unless it
/// names a declared table.
pub fn unclear(names: &Names<'_>, sql: &str) -> Result<Plan, Refusal> {
    if names.mentions(sql) {
        return not_understood();
    }
    Ok(home("not understood"))
}
