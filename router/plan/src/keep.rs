//! Statements that keep the rows of a query: cursors, tables made of queries, and materialized views.
//!
//! Over several shards their rows are gathered, and the statement runs on one server with the residue in the place of
//! its query: a cursor anywhere, a table at home. A materialized view keeps its query, too, and its server has to run that
//! again by itself: it is made of what the home shard has alone.

use super::ddl;
use super::gather::{Keep, Keeper};
use super::names::Names;
use super::refuse::{Reason, Refusal, refuse};
use super::{Plan, PlanContext, Single, Target, Text, read, utility};
use mothership_sql::cursor::{Cursor, Span};
use mothership_sql::effect::Statement;
use mothership_sql::lexer::{Kind, Lexer};
use mothership_sql::quote;

/// A table that is made of a query.
struct Made {
    /// Its name.
    path: Vec<String>,
    temporary: bool,
    /// The statement up to the query.
    head: String,
    /// And behind it.
    tail: String,
    /// The query, where it stands in the client's text.
    query: String,
}

/// Plans DECLARE.
pub fn cursor(
    names: &Names<'_>,
    sql: &str,
    statement: &Statement<'_>,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    let (Statement::Declare { name, query, .. }, Some(head)) =
        (statement, utility::declaration(statement))
    else {
        return refuse(Reason::NotUnderstood);
    };
    let keep = Keep {
        by: Keeper::Cursor(String::from_utf8_lossy(name.as_bytes()).into_owned()),
        head,
        tail: String::new(),
        asked: alone(sql, *query),
    };
    let planned = read::kept(names, query.of(sql.as_bytes()), context, keep);
    utility::cursor(planned?)
}

/// Plans CREATE TABLE AS of a query that names declared tables.
pub fn create_table(names: &Names<'_>, sql: &str, context: &PlanContext) -> Result<Plan, Refusal> {
    match created(sql, context.standard_conforming_strings, &TABLE) {
        Some(made) => table(names, made, context),
        None => refuse(Reason::DdlNotUnderstood),
    }
}

/// Fails for CREATE MATERIALIZED VIEW of what the home shard does not have alone.
pub fn check_materialized_view(
    names: &Names<'_>,
    sql: &str,
    context: &PlanContext,
) -> Result<(), Refusal> {
    let strings = context.standard_conforming_strings;
    let Some(made) = created(sql, strings, &MATERIALIZED_VIEW) else {
        return refuse(Reason::DdlNotUnderstood);
    };
    if !ddl::is_of_home(names, &made.path, context)? {
        return refuse(Reason::CreateFromSharded);
    }
    computed_at_home(names, &made.query, context)
}

/// The same of REFRESH, by the view's definition, which is printed with an empty search path.
pub fn check_refresh(
    names: &Names<'_>,
    definition: &str,
    context: &PlanContext,
) -> Result<(), Refusal> {
    let context = PlanContext {
        search_path: Vec::new(),
        ..context.clone()
    };
    computed_at_home(names, definition, &context)
}

fn computed_at_home(names: &Names<'_>, query: &str, context: &PlanContext) -> Result<(), Refusal> {
    match read::plan(names, &Text::whole(query), context)? {
        Plan::Single(Single {
            target: Target::Home | Target::AnyShard,
            ..
        }) => Ok(()),
        _ => refuse(Reason::CreateFromSharded),
    }
}

/// Plans SELECT INTO of a query that names declared tables.
pub fn select_into(names: &Names<'_>, sql: &str, context: &PlanContext) -> Result<Plan, Refusal> {
    match selected(sql, context.standard_conforming_strings) {
        Some(made) => table(names, made, context),
        None => refuse(Reason::CreateFromSharded),
    }
}

/// Whether a SELECT is a SELECT INTO.
pub fn is_select_into(sql: &str, strings: bool) -> bool {
    selected(sql, strings).is_some()
}

fn table(names: &Names<'_>, made: Made, context: &PlanContext) -> Result<Plan, Refusal> {
    if !made.temporary && !ddl::is_of_home(names, &made.path, context)? {
        return refuse(Reason::CreateFromSharded);
    }
    let keep = Keep {
        by: Keeper::Table,
        head: made.head,
        tail: made.tail,
        asked: made.query.clone(),
    };
    match read::kept(names, made.query.as_bytes(), context, keep)? {
        plan @ Plan::Gather(_) => Ok(plan),
        Plan::Single(_) => Ok(utility::home("a table of the home shard")),
        _ => refuse(Reason::CreateFromSharded),
    }
}

/// The words of what is made of a query.
const TABLE: [&str; 1] = ["table"];
const MATERIALIZED_VIEW: [&str; 2] = ["materialized", "view"];

/// `CREATE ... TABLE name ... AS query [WITH [NO] DATA]`, or the same of MATERIALIZED VIEW
fn created(sql: &str, strings: bool, kind: &[&str]) -> Option<Made> {
    let mut c = Cursor::new(sql.as_bytes(), strings);
    // Behind comments.
    let start = c.peek()?.start;
    c.eat("create").then_some(())?;
    let mut temporary = false;
    while !c.eat_all(kind) {
        temporary |= c.sees_any(&["temp", "temporary"]);
        c.eat_any(&["global", "local", "temp", "temporary", "unlogged"])
            .then_some(())?;
    }
    c.eat_all(&["if", "not", "exists"]);
    let path = path(&mut c)?;
    while !c.eat("as") {
        if c.group().is_none() {
            c.bump()?;
        }
    }
    let rest = c.rest();
    let end = query_end(rest.of(sql.as_bytes()), strings)? + rest.start;
    let query = Span {
        start: rest.start,
        end,
    };
    let ends = |c: char| c == ';' || c.is_whitespace();
    Some(Made {
        path,
        temporary,
        head: sql.get(start..query.start)?.to_owned(),
        tail: format!(" {}", sql.get(query.end..)?.trim_end_matches(ends)),
        query: alone(sql, query),
    })
}

/// Where the query ends before WITH DATA or WITH NO DATA.
fn query_end(rest: &[u8], strings: bool) -> Option<usize> {
    let tokens: Vec<_> = Lexer::new(rest, strings)
        .filter(|token| token.kind != Kind::Semicolon)
        .collect();
    let is = |back: usize, word: &str| {
        let token = tokens.len().checked_sub(back).and_then(|at| tokens.get(at));
        token.is_some_and(|t| {
            t.kind == Kind::Word && t.text(rest).eq_ignore_ascii_case(word.as_bytes())
        })
    };
    let behind = match () {
        () if is(1, "data") && is(2, "no") && is(3, "with") => 3,
        () if is(1, "data") && is(2, "with") => 2,
        () => 0,
    };
    tokens
        .get(tokens.len().checked_sub(behind + 1)?)
        .map(|last| last.end)
}

/// `SELECT ... INTO [TEMP | UNLOGGED] [TABLE] name ...`
fn selected(sql: &str, strings: bool) -> Option<Made> {
    let mut c = Cursor::new(sql.as_bytes(), strings);
    let start = loop {
        if c.sees("into") {
            break c.at();
        }
        if c.group().is_none() {
            c.bump()?;
        }
    };
    c.bump();
    c.eat_any(&["local", "global"]);
    let temporary = c.eat_any(&["temp", "temporary"]);
    let unlogged = !temporary && c.eat("unlogged");
    c.eat("table");
    let path = path(&mut c)?;
    let end = c.taken();
    let kind = match (temporary, unlogged) {
        (true, _) => "TEMP ",
        (_, true) => "UNLOGGED ",
        _ => "",
    };
    let name: Vec<String> = path.iter().map(|part| quote::identifier(part)).collect();
    let blank = " ".repeat(sql.get(start..end)?.chars().count());
    Some(Made {
        temporary,
        head: format!("CREATE {kind}TABLE {} AS ", name.join(".")),
        tail: String::new(),
        query: format!("{}{blank}{}", sql.get(..start)?, sql.get(end..)?),
        path,
    })
}

fn path(c: &mut Cursor<'_>) -> Option<Vec<String>> {
    let names = c.path()?;
    let names = names.iter().map(|name| name.as_str().map(str::to_owned));
    names.collect()
}

/// A part of a text, with as many spaces before it as the text has characters there: what a server says of the part
/// has its places in the text.
pub fn alone(text: &str, part: Span) -> String {
    let before = text.get(..part.start).unwrap_or_default();
    let spaces = " ".repeat(before.chars().count());
    spaces + text.get(part.start..part.end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_a_part_are_those_of_the_text() {
        let text = "žluť (SELECT 'ř') x";
        let part = alone(text, Span { start: 8, end: 19 });
        assert_eq!(part, "      SELECT 'ř'");
    }

    #[test]
    fn a_table_is_told_from_its_query() {
        for (sql, head, query, tail) in [
            (
                "CREATE TABLE a.\"B\" (x, y) WITH (fillfactor = 10) AS SELECT 1 AS b, (2) FROM t WITH NO DATA;",
                "CREATE TABLE a.\"B\" (x, y) WITH (fillfactor = 10) AS ",
                "SELECT 1 AS b, (2) FROM t",
                " WITH NO DATA",
            ),
            (
                "-- a\n/* b */ create temp table x as (select 1) with data\n;\n",
                "create temp table x as ",
                "(select 1)",
                "  with data",
            ),
            (
                "CREATE UNLOGGED TABLE IF NOT EXISTS x AS TABLE data",
                "CREATE UNLOGGED TABLE IF NOT EXISTS x AS ",
                "TABLE data",
                " ",
            ),
        ] {
            let made = created(sql, true, &TABLE).expect(sql);
            assert_eq!(made.head, head);
            assert_eq!(made.query.trim_start(), query);
            assert_eq!(made.tail.trim_start(), tail.trim_start());
            assert_eq!(made.temporary, sql.contains("temp"));
        }
        let sql = "CREATE MATERIALIZED VIEW IF NOT EXISTS s.m (a) USING heap AS SELECT 1 WITH DATA";
        let made = created(sql, true, &MATERIALIZED_VIEW).expect(sql);
        assert_eq!(
            (&*made.path, made.query.trim_start()),
            (&["s".into(), "m".into()][..], "SELECT 1")
        );
        let made = selected("SELECT a, (b) INTO UNLOGGED TABLE s.\"Ř\" FROM t", true);
        let made = made.expect("it is one");
        assert_eq!(made.head, "CREATE UNLOGGED TABLE \"s\".\"Ř\" AS ");
        assert_eq!(made.query, "SELECT a, (b)                           FROM t");
        assert_eq!(made.path, ["s", "Ř"]);
    }
}
