//! What a text asks of a member: a statement about documents, or about the session and its transaction.

use super::outcome::Stop;
use crate::commit::mark::Mark;
use crate::commit::question::Question;
use crate::commit::said::Said;
use crate::defaults;
use mothership_copy::CopyOptions;
use mothership_documents::Collection;
use mothership_documents::translate::{
    Load, NotTranslated, Translated, Value, fetching, translate,
};
use mothership_plan::parse_plainly;
use mothership_pool::health::report::QUESTION;
use mothership_proto::report::{Report, sqlstate};
use mothership_sql::cursor::{Cursor, Span};
use mothership_sql::effect::{self, CopyEnd, CopySource, Direction, Isolation, Modes, Statement};
use mothership_sql::lexer::Kind;
use mothership_sql::name::Name;
use sqlparser::ast;
use std::sync::Arc;

/// What is to be done.
#[derive(Clone, Debug)]
pub(super) enum Task {
    /// Nothing.
    Empty,
    /// BEGIN, and what the transaction has otherwise than its session.
    Begin(Vec<Setting>),
    /// COMMIT.
    Commit,
    /// ROLLBACK.
    Rollback,
    /// Settings change; the tag that is told.
    Set(Vec<Setting>, &'static str),
    /// DEALLOCATE of this name, or of all.
    Deallocate(Option<String>),
    /// A command on documents.
    Command(Arc<Translated>),
    /// COPY FROM STDIN into a table of documents.
    Copy(Arc<Load>),
    /// EXPLAIN of one.
    Explain(Arc<Translated>),
    /// One row of texts, which does not depend on documents.
    Row(Vec<Option<String>>),
    /// One row of values that no table has, and the tag that is told.
    Values(Arc<[Value]>, &'static str),
    /// The question of whoever watches the servers.
    Health,
    /// What a transaction over several servers asks the first of them.
    Said,
    /// What is asked about decisions of transactions over several servers.
    Asked(Question),
}

/// A change of settings.
#[derive(Clone, Debug)]
pub(super) enum Setting {
    /// One of them; no value is the server's own.
    One {
        name: String,
        value: Option<String>,
        is_local: bool,
    },
    /// All are the server's own.
    All,
}

/// What a statement asks, whose parameters have these types as far as they are declared.
pub(super) fn task(
    sql: &str,
    types: &[u32],
    collections: &[Arc<Collection>],
) -> Result<Task, Stop> {
    if sql == QUESTION {
        return Ok(Task::Health);
    }
    if let Some(own) = of_the_router(sql) {
        return Ok(own);
    }
    if let Some((_, question)) = Question::read(sql) {
        return Ok(Task::Asked(question));
    }
    if sql.starts_with("PREPARE TRANSACTION") {
        return Err(refused(
            "a transaction that works on MongoDB cannot be prepared",
            "Commit it.",
        ));
    }
    let analysis = effect::analyse(sql.as_bytes(), true);
    match &analysis.statement {
        Statement::Empty => return Ok(Task::Empty),
        Statement::Explain { analyze, inner, .. } => {
            return explain(sql, *analyze, *inner, types, collections);
        }
        Statement::Copy {
            direction: Direction::In,
            end: CopyEnd::Client,
            source: CopySource::Table(path, columns),
        } => {
            let load = load(sql, path, *columns, collections)?;
            return Ok(Task::Copy(Arc::new(load)));
        }
        // Whatever they are, it begins: what is not done in it says so, and it can be ended.
        Statement::Begin { modes, .. } => return Ok(Task::Begin(changed(*modes, false))),
        Statement::SetTransaction(modes) => return Ok(Task::Set(changed(*modes, false), "SET")),
        Statement::SetSessionCharacteristics(modes) => {
            return Ok(Task::Set(changed(*modes, true), "SET"));
        }
        _ => {}
    }
    let parsed = match parse_plainly(sql) {
        Ok(parsed) => parsed,
        Err(_) if is_indifferent(sql) => return Ok(Task::Set(Vec::new(), "SET")),
        Err(_) => return Err(not_understood()),
    };
    match parsed {
        ast::Statement::Commit { chain: false, .. } => Ok(Task::Commit),
        ast::Statement::Rollback {
            chain: false,
            savepoint: None,
        } => Ok(Task::Rollback),
        ast::Statement::Savepoint { .. }
        | ast::Statement::ReleaseSavepoint { .. }
        | ast::Statement::Rollback { .. } => Err(refused(
            "a transaction that works on MongoDB has no savepoints",
            "Begin a transaction of its own for what may fail.",
        )),
        ast::Statement::Set(set) => settings(set),
        ast::Statement::Reset(reset) => Ok(reset_of(reset.reset)),
        ast::Statement::Discard { .. } => Ok(Task::Set(vec![Setting::All], "DISCARD ALL")),
        ast::Statement::Deallocate { name, .. } => {
            let all = name.quote_style.is_none() && name.value.eq_ignore_ascii_case("all");
            Ok(Task::Deallocate((!all).then_some(name.value)))
        }
        _ => Ok(Task::Command(command(sql, types, collections)?)),
    }
}

fn explain(
    sql: &str,
    analyze: bool,
    inner: Span,
    types: &[u32],
    collections: &[Arc<Collection>],
) -> Result<Task, Stop> {
    let options = sql[..inner.start].to_ascii_lowercase();
    let has = |format: &&str| options.contains(format);
    if ["json", "xml", "yaml"].iter().any(has) {
        return Err(refused(
            "EXPLAIN of documents is a text",
            "Leave out FORMAT.",
        ));
    }
    let explained = command(&sql[inner.start..inner.end], types, collections)?;
    if analyze && explained.verb() != "SELECT" {
        return Err(refused(
            "EXPLAIN ANALYZE of a write to documents is not supported",
            "Use EXPLAIN, which does not execute it.",
        ));
    }
    Ok(Task::Explain(explained))
}

fn reset_of(reset: ast::Reset) -> Task {
    let setting = match reset {
        ast::Reset::ALL => Setting::All,
        ast::Reset::ConfigurationParameter(name) => Setting::One {
            name: name.to_string().replace('"', ""),
            value: None,
            is_local: false,
        },
        _ => return Task::Set(Vec::new(), "RESET"),
    };
    Task::Set(vec![setting], "RESET")
}

fn settings(set: ast::Set) -> Result<Task, Stop> {
    let one = |name: String, value: Option<String>, is_local: bool| {
        let setting = Setting::One {
            name,
            value,
            is_local,
        };
        Ok(Task::Set(vec![setting], "SET"))
    };
    match set {
        ast::Set::SingleAssignment {
            scope,
            variable,
            values,
            ..
        } => {
            let is_local = matches!(scope, Some(ast::ContextModifier::Local));
            let texts: Vec<String> = values.iter().map(text_of).collect();
            let value = texts.join(", ");
            let value = (!value.eq_ignore_ascii_case("default")).then_some(value);
            one(variable.to_string().replace('"', ""), value, is_local)
        }
        ast::Set::SetTimeZone { local, value } => {
            one("timezone".to_owned(), Some(text_of(&value)), local)
        }
        // Roles and names say nothing of texts.
        _ => Ok(Task::Set(Vec::new(), "SET")),
    }
}

/// What modes set, of this transaction or of all that follow.
fn changed(modes: Modes, of_session: bool) -> Vec<Setting> {
    let setting = |name: &str, value: &str| Setting::One {
        name: match of_session {
            true => format!("default_{name}"),
            false => name.to_owned(),
        },
        value: Some(value.to_owned()),
        is_local: !of_session,
    };
    let access = modes.read_only.map(|is_on| match is_on {
        true => setting("transaction_read_only", "on"),
        false => setting("transaction_read_only", "off"),
    });
    let isolation = modes.isolation.map(|level| {
        let level = match level {
            Isolation::ReadUncommitted => "read uncommitted",
            Isolation::ReadCommitted => "read committed",
            Isolation::RepeatableRead => "repeatable read",
            Isolation::Serializable => "serializable",
        };
        setting("transaction_isolation", level)
    });
    access.into_iter().chain(isolation).collect()
}

fn text_of(value: &ast::Expr) -> String {
    match value {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::SingleQuotedString(text) | ast::Value::EscapedStringLiteral(text) => {
                text.clone()
            }
            other => other.to_string(),
        },
        other => other.to_string().replace('"', ""),
    }
}

/// What the router says by itself to each of its servers.
pub(super) fn of_the_router(sql: &str) -> Option<Task> {
    const SET_CONFIG: &str = "SELECT pg_catalog.set_config(";
    // Exactly: who else asks wants to be told the truth, or to have a lock.
    let marks = |call: &str| Mark::taken_by(call).is_some();
    let called = sql.strip_prefix("SELECT ").unwrap_or_default();
    let asked = called.strip_prefix(Said::QUESTION);
    if asked.is_some_and(|mark| mark.strip_prefix(", ").is_some_and(marks)) {
        return Some(Task::Said);
    }
    if marks(called) {
        return Some(Task::Row(vec![Some(String::new())]));
    }
    if sql == defaults::QUESTION {
        let answer = defaults::OF_POSTGRESQL.to_owned();
        return Some(Task::Row(vec![Some(answer)]));
    }
    let begun_with = sql.strip_prefix(
        "SELECT reset_val FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) ",
    );
    if begun_with == Some("'default_transaction_isolation'") {
        return Some(Task::Row(vec![Some("read committed".to_owned())]));
    }
    if !sql.starts_with(SET_CONFIG) {
        return None;
    }
    let parsed = parse_plainly(sql).ok()?;
    let ast::Statement::Query(query) = parsed else {
        return None;
    };
    let ast::SetExpr::Select(select) = *query.body else {
        return None;
    };
    let mut changes = Vec::new();
    for item in &select.projection {
        let ast::SelectItem::UnnamedExpr(ast::Expr::Function(function)) = item else {
            return None;
        };
        let ast::FunctionArguments::List(list) = &function.args else {
            return None;
        };
        let arguments: Vec<&ast::Expr> = list
            .args
            .iter()
            .filter_map(|argument| match argument {
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => Some(expr),
                _ => None,
            })
            .collect();
        let [name, value, local] = arguments.as_slice() else {
            return None;
        };
        let is_null = value.to_string().eq_ignore_ascii_case("null");
        changes.push(Setting::One {
            name: text_of(name),
            value: (!is_null).then(|| text_of(value)),
            is_local: local.to_string().eq_ignore_ascii_case("true"),
        });
    }
    Some(Task::Set(changes, "SELECT 1"))
}

/// COPY into a table.
fn load(
    sql: &str,
    path: &[Name<'_>],
    columns: Option<Span>,
    collections: &[Arc<Collection>],
) -> Result<Load, Stop> {
    let texts = |names: &[Name<'_>]| -> Option<Vec<String>> {
        let text = |name: &Name<'_>| name.as_str().map(str::to_owned);
        names.iter().map(text).collect()
    };
    let path = texts(path).ok_or_else(not_understood)?;
    let (schema, table) = match path.as_slice() {
        [table] => (None, table),
        [schema, table] => (Some(schema.as_str()), table),
        _ => return Err(not_understood()),
    };
    let collection = declared(collections, schema, table).ok_or_else(not_understood)?;
    let columns = match columns {
        None => None,
        Some(span) => {
            let mut cursor = Cursor::new(span.of(sql.as_bytes()), true);
            let mut names = Vec::new();
            loop {
                names.push(cursor.name().ok_or_else(not_understood)?);
                if !cursor.eat_kind(Kind::Comma) {
                    break;
                }
            }
            if !cursor.at_end() {
                return Err(not_understood());
            }
            Some(texts(&names).ok_or_else(not_understood)?)
        }
    };
    let options = CopyOptions::parse(sql.as_bytes(), true).map_err(|error| {
        refused(
            "this COPY is not understood well enough to be one for MongoDB",
            "Write it in plainer SQL.",
        )
        .with_detail(error.to_string())
    })?;
    Ok(Load::new(&collection, columns.as_deref(), options)?)
}

/// The only collection that has this name.
fn declared(
    collections: &[Arc<Collection>],
    schema: Option<&str>,
    table: &str,
) -> Option<Arc<Collection>> {
    let fits = |one: &&Arc<Collection>| {
        one.table == table && schema.is_none_or(|schema| one.schema == schema)
    };
    let mut found = collections.iter().filter(fits);
    // Of two the path of the session would have to decide.
    found.next().filter(|_| found.next().is_none()).cloned()
}

fn command(
    sql: &str,
    types: &[u32],
    collections: &[Arc<Collection>],
) -> Result<Arc<Translated>, Stop> {
    let parsed = parse_plainly(sql).map_err(|_| not_understood())?;
    let table = |schema: Option<&str>, table: &str| declared(collections, schema, table);
    // What the planner has not taken for a command comes here only to fetch rows.
    let translated = translate(&parsed, &table, types)
        .or_else(|why| fetching(&parsed, &table, types).map_err(|_| why));
    translated
        .map(Arc::new)
        .map_err(|NotTranslated::Because(why)| {
            refused(
                NO_COMMAND,
                "Write it in plainer SQL, outside of cursors and COPY.",
            )
            .with_detail(why.into_owned())
        })
}

/// Whether a text that the parser does not know sets something that says nothing of texts, such as a role.
fn is_indifferent(sql: &str) -> bool {
    const FORMS: [&str; 4] = [
        "timezone",
        "datestyle",
        "extra_float_digits",
        "bytea_output",
    ];
    let lower = sql.to_ascii_lowercase();
    let sets = lower.starts_with("set ") || lower.starts_with("reset ");
    sets && !FORMS.iter().any(|name| lower.contains(name)) && !lower.contains("serializable")
}

const NO_COMMAND: &str = "MongoDB has no command that does the same as this statement";
const NOT_UNDERSTOOD: &str = "this statement is not understood well enough to be one for MongoDB";

/// Whether a report says that a statement is none that MongoDB has a command for.
pub(super) fn not_for_documents(report: &Report) -> bool {
    matches!(&*report.message, NO_COMMAND | NOT_UNDERSTOOD)
}

fn not_understood() -> Stop {
    refused(NOT_UNDERSTOOD, "Write it in plainer SQL.")
}

fn refused(message: &'static str, hint: &'static str) -> Stop {
    Report::error(sqlstate::FEATURE_NOT_SUPPORTED, message)
        .hint(hint)
        .into()
}

impl Stop {
    fn with_detail(self, detail: String) -> Stop {
        match self {
            Stop::Report(report) => Stop::Report(report.detail(detail)),
            Stop::Lost => Stop::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(sql: &str) -> String {
        match task(sql, &[], &[]) {
            Ok(task) => format!("{task:?}"),
            Err(Stop::Report(report)) => format!("{} {}", report.code, report.message),
            Err(Stop::Lost) => "lost".to_owned(),
        }
    }

    #[test]
    fn what_is_about_the_session_is_known_as_such() {
        let zone = "Set([One { name: \"TimeZone\", value: Some(\"Asia/Tokyo\"), is_local: false }], \"SELECT 1\")";
        let cases = [
            ("", "Empty"),
            ("BEGIN", "Begin([])"),
            (
                "START TRANSACTION READ ONLY",
                "Begin([One { name: \"transaction_read_only\", value: Some(\"on\"), is_local: true }])",
            ),
            (
                "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY",
                "Set([One { name: \"default_transaction_read_only\", value: Some(\"on\"), is_local: false }, \
                 One { name: \"default_transaction_isolation\", value: Some(\"read committed\"), is_local: false }], \"SET\")",
            ),
            (
                "BEGIN ISOLATION LEVEL SERIALIZABLE, READ WRITE, NOT DEFERRABLE",
                "Begin([One { name: \"transaction_read_only\", value: Some(\"off\"), is_local: true }, \
                 One { name: \"transaction_isolation\", value: Some(\"serializable\"), is_local: true }])",
            ),
            ("COMMIT", "Commit"),
            ("END", "Commit"),
            ("ROLLBACK", "Rollback"),
            (
                "ROLLBACK TO SAVEPOINT s",
                "0A000 a transaction that works on MongoDB has no savepoints",
            ),
            (
                "SAVEPOINT s",
                "0A000 a transaction that works on MongoDB has no savepoints",
            ),
            (
                "SELECT pg_catalog.set_config(E'TimeZone',E'Asia/Tokyo',false)",
                zone,
            ),
            ("RESET SESSION AUTHORIZATION", "Set([], \"RESET\")"),
            ("SET SESSION AUTHORIZATION alice", "Set([], \"SET\")"),
            ("SET ROLE alice", "Set([], \"SET\")"),
            ("RESET ALL", "Set([All], \"RESET\")"),
            ("DEALLOCATE ALL", "Deallocate(None)"),
            ("DEALLOCATE s", "Deallocate(Some(\"s\"))"),
            (
                "PREPARE TRANSACTION 'x'",
                "0A000 a transaction that works on MongoDB cannot be prepared",
            ),
            ("SELECT \"mothership\".backend()", "Asked(Backend)"),
            (
                "SELECT \"mothership\".backend() FROM t",
                "0A000 MongoDB has no command that does the same as this statement",
            ),
            (
                "SELECT 1 FROM unknown",
                "0A000 MongoDB has no command that does the same as this statement",
            ),
        ];
        for (sql, expected) in cases {
            assert_eq!(said(sql), expected, "{sql}");
        }
    }

    #[test]
    fn a_setting_is_read_however_it_is_written() {
        for sql in [
            "SET TimeZone = 'UTC'",
            "SET timezone TO 'UTC'",
            "SET TIME ZONE 'UTC'",
            "SET \"TimeZone\" TO UTC",
        ] {
            let Ok(Task::Set(changes, _)) = task(sql, &[], &[]) else {
                panic!("{sql}");
            };
            let [Setting::One { name, value, .. }] = changes.as_slice() else {
                panic!("{sql}: {changes:?}");
            };
            assert_eq!(
                (name.to_lowercase().as_str(), value.as_deref()),
                ("timezone", Some("UTC")),
                "{sql}"
            );
        }
    }
}
