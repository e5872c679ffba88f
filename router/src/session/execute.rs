//! SQL's EXECUTE, in both protocols: what it runs, what that means for the session, and by which arguments it is routed.
//!
//! A name is looked up as late as it can be, when the statement is bound or comes as a simple query, because PostgreSQL
//! itself looks when it runs. What goes to servers has our name of the body in place of the client's. What only Parse can
//! name and the session must follow (SET, BEGIN, DEALLOCATE, another EXECUTE) is refused: EXECUTE would hide it.

use super::knowledge::Knowledge;
use super::planning::{Literal, literals};
use super::simple::named::no_such_statement;
use super::state::State;
use super::{Halt, Session};
use crate::statements::errors::Written;
use crate::statements::names::renamed;
use crate::statements::names::{Meaning, Origin, Prepared, Runs};
use crate::statements::settings::{Change, Value};
use crate::statements::step::{Kind, Step, create_as_execute_refused};
use mothership_catalog::types::builtin_oid;
use mothership_plan::Params;
use mothership_proto::report::{Report, sqlstate};
use mothership_sql::cursor::Span;
use mothership_sql::effect::{Statement, analyse};
use mothership_sql::time::is_moving;
use std::rc::Rc;

/// The arguments of an EXECUTE.
#[derive(Default)]
pub(super) struct Arguments {
    /// `None` is NULL.
    values: Vec<Option<Vec<u8>>>,
    formats: Vec<i16>,
    literals: Vec<Literal>,
}

/// One argument of an EXECUTE.
pub(super) struct Argument(Literal);

impl Argument {
    /// As it is written; `None` is NULL.
    pub(super) fn text(&self) -> Option<&[u8]> {
        self.0.text.as_deref()
    }

    /// Whether it may be a time that is another one later.
    pub(super) fn is_moving(&self) -> bool {
        self.text().is_some_and(is_moving)
    }

    /// Whether a parameter of this type gets the same value from the text as from the argument. A string is read as its
    /// parameter's type, and a number or what is cast to another type becomes it by a cast.
    pub(super) fn fits(&self, oid: u32) -> bool {
        let text = self.text().unwrap_or_default();
        match (&self.0.cast, self.0.number) {
            (Some(_), _) if self.0.text.is_none() => true,
            // Of char and bit there is more to say than their names.
            (Some(name), false) => {
                builtin_oid(name) == Some(oid) && !matches!(oid, 1042 | 1560 | 1562)
            }
            (Some(_), true) => false,
            (None, false) => true,
            (None, true) if is_integer(text) => {
                matches!(oid, 20 | 21 | 23 | 25 | 26 | 700 | 701 | 1043 | 1700)
            }
            (None, true) => matches!(oid, 700 | 701 | 1700),
        }
    }
}

/// The format code of a value whose parameter has it as it is written.
const TEXT: i16 = 0;
/// A format code that is none: the value may become another before the body has it, so nothing is routed by it.
const UNKNOWN: i16 = 2;

impl Arguments {
    /// One by one.
    pub(super) fn list(&self) -> Vec<Argument> {
        self.literals.iter().cloned().map(Argument).collect()
    }

    /// Whether each is the value of its parameter as it is written.
    pub(super) fn are_certain(&self) -> bool {
        let mut both = self.values.iter().zip(&self.formats);
        both.all(|(value, format)| value.is_none() || *format == TEXT)
    }

    /// Does something with them as parameters.
    pub(super) fn with<T>(&self, then: impl FnOnce(&Params<'_>) -> T) -> T {
        let values: Vec<Option<&[u8]>> = self.values.iter().map(|a| a.as_deref()).collect();
        then(&Params {
            formats: &self.formats,
            values: &values,
            ..Params::NONE
        })
    }
}

impl State {
    /// Fails if the name in a bound EXECUTE means something else by now. PostgreSQL would run that; the portal would
    /// run what was meant before.
    pub(super) fn check_meant(&self, statement: &Prepared) -> Result<(), Halt> {
        let (Some(runs), Some(Kind::Execute(name))) =
            (&statement.runs, statement.step().map(|step| &step.kind))
        else {
            return Ok(());
        };
        match self.names.get(name) {
            Some(body) if body.base == runs.body.base => Ok(()),
            Some(_) => Err(Report::error(
                sqlstate::FEATURE_NOT_SUPPORTED,
                "what this EXECUTE runs was prepared anew after it was bound",
            )
            .hint("Bind it again.")
            .into()),
            None => Err(no_such_statement(name).into()),
        }
    }
}

impl Knowledge {
    /// Fails for CREATE TABLE AS EXECUTE where its rows may come from several shards.
    pub(super) fn check_stores(&self, step: &Step) -> Result<(), Halt> {
        match step.stores && self.model.is_some() {
            true => Err(create_as_execute_refused().into()),
            false => Ok(()),
        }
    }
}

impl Session {
    /// A parsed statement as servers know it: an EXECUTE has our name of what the client's name means now. One whose
    /// name means nothing, and every other statement, is as it was.
    ///
    /// # Errors
    /// For what EXECUTE does not run.
    pub(super) fn meant(&self, statement: &Rc<Prepared>) -> Result<Rc<Prepared>, Halt> {
        let [own] = statement.steps.as_slice() else {
            return Ok(Rc::clone(statement));
        };
        let (Kind::Execute(name), Some(span)) = (&own.kind, own.name_span) else {
            return Ok(Rc::clone(statement));
        };
        self.known.check_stores(own)?;
        let Some(body) = self.state.names.get(name) else {
            return Ok(Rc::clone(statement));
        };
        let body = &self.as_it_runs(body)?;
        let step = self.step_of(&statement.sql, body)?;
        let make = || {
            let name = body.server_name();
            let sql = renamed(&statement.sql, span, name);
            let written = Rc::new(Written::named_in(&statement.sql, span, name.len() + 2));
            let plain = arguments(&statement.sql, self.standard_strings(), body).is_some();
            let step = running(own, step, plain, sql.len());
            let body = Rc::clone(body);
            (sql, Meaning::execute(step, Runs { body, written }))
        };
        Ok(self.core.interner.executing(statement, body, make))
    }

    /// What the body of an EXECUTE means.
    ///
    /// # Errors
    /// For what EXECUTE does not run.
    pub(super) fn step_of<'b>(&self, sql: &[u8], body: &'b Prepared) -> Result<&'b Step, Halt> {
        let explains = || {
            let statement = analyse(sql, self.standard_strings()).statement;
            matches!(statement, Statement::Explain { .. })
        };
        match body.steps.as_slice() {
            [step] if step.kind == Kind::Plain => Ok(step),
            // An EXPLAIN may not run it, and then it changes nothing.
            [step] if calls_set_config(&step.kind) && !explains() => Ok(step),
            _ => Err(Report::error(
                sqlstate::FEATURE_NOT_SUPPORTED,
                "EXECUTE does not run this statement",
            )
            .detail(
                "the router follows what it does to the session only where it is sent by itself",
            )
            .hint("Bind it by the protocol, or send it as a simple query.")
            .into()),
        }
    }
}

/// The name that a parsed EXECUTE runs, if nothing has it.
pub(super) fn unknown_name(statement: &Prepared) -> Option<&[u8]> {
    match statement.steps.as_slice() {
        [step] if statement.runs.is_none() => match &step.kind {
            Kind::Execute(name) => Some(name),
            _ => None,
        },
        _ => None,
    }
}

/// The arguments of an EXECUTE of `body`, explained or not, if each is a literal.
pub(super) fn arguments(sql: &[u8], strings: bool, body: &Prepared) -> Option<Arguments> {
    let (sql, statement) = match analyse(sql, strings).statement {
        Statement::Explain { inner, .. } => {
            let inner = inner.of(sql);
            (inner, analyse(inner, strings).statement)
        }
        statement => (sql, statement),
    };
    let list = match statement {
        Statement::Execute {
            args: Some(span), ..
        } => span.of(sql),
        Statement::Execute { args: None, .. } => return Some(Arguments::default()),
        _ => return None,
    };
    if !strings && list.contains(&b'\\') {
        return None;
    }
    let found = literals(list)?;
    let declared = declared_types(body, strings);
    let format = |(at, literal): (usize, &Literal)| {
        let value = literal.text.as_deref().unwrap_or_default();
        let of_type = declared
            .get(at)
            .is_none_or(|name| is_written_so(name, value));
        if of_type && literal.cast.is_none() && (!literal.number || is_integer(value)) {
            TEXT
        } else {
            UNKNOWN
        }
    };
    let formats = found.iter().enumerate().map(format).collect();
    let values = found.iter().map(|literal| literal.text.clone()).collect();
    Some(Arguments {
        values,
        formats,
        literals: found,
    })
}

/// The types that PREPARE declares.
fn declared_types(body: &Prepared, strings: bool) -> Vec<String> {
    let Origin::Prepare(_) = body.origin else {
        // Those of Parse are known to the planner.
        return Vec::new();
    };
    let Statement::Prepare {
        types: Some(types), ..
    } = analyse(&body.sql, strings).statement
    else {
        return Vec::new();
    };
    let list = String::from_utf8_lossy(types.of(&body.sql)).to_ascii_lowercase();
    let mut depth = 0;
    let parts = list.split(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    });
    parts.map(|name| name.trim().to_owned()).collect()
}

/// Whether a value of the type, made a text, is what was written: whatever the body makes of it then, it makes of this.
fn is_written_so(type_name: &str, value: &[u8]) -> bool {
    match type_name {
        "int2" | "int4" | "int8" | "smallint" | "int" | "integer" | "bigint" => is_integer(value),
        "text" | "varchar" | "character varying" => true,
        "uuid" => {
            let hyphens = [8, 13, 18, 23];
            let right = |(at, b): (usize, &u8)| match hyphens.contains(&at) {
                true => *b == b'-',
                false => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
            };
            value.len() == 36 && value.iter().enumerate().all(right)
        }
        _ => false,
    }
}

/// An integer as PostgreSQL writes it: `007` and `-0` are not.
fn is_integer(value: &[u8]) -> bool {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    match digits {
        [b'0'] => value.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// What an EXECUTE of a text of `length` bytes means for the session: its body's doings, and those of its arguments.
fn running(own: &Step, body: &Step, plain: bool, length: usize) -> Step {
    let calls = body.calls.iter().chain(&own.calls).cloned();
    // A table is made of the rows: that is more than what is done by reading them.
    let most = match own.stores {
        true => own,
        false => body,
    };
    Step {
        span: Span {
            start: 0,
            end: length,
        },
        kind: own.kind.clone(),
        pins: own.pins.and(body.pins),
        reads_only: body.reads_only && plain,
        writes: body.writes || !plain,
        calls: calls.collect(),
        name_span: None,
        clouds: own.clouds || body.clouds,
        ..most.clone()
    }
}

/// SELECT set_config(...).
fn calls_set_config(kind: &Kind) -> bool {
    let text =
        |change: &Change| matches!(change, Change::Set(s) if matches!(s.value, Value::Text(_)));
    match kind {
        Kind::Settings(changes) => changes.iter().all(text),
        Kind::LocalConfig(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statements::names::Interner;

    fn prepared(sql: &str) -> Rc<Prepared> {
        let origin = match sql.starts_with("PREPARE") {
            true => Origin::Prepare(Span { start: 8, end: 9 }),
            false => Origin::Parse(Box::default()),
        };
        let interner = Interner::default();
        interner.intern(
            (sql.as_bytes(), true),
            origin,
            &Default::default(),
            Vec::<Step>::new,
        )
    }

    /// The values, `?` for those that nothing is routed by.
    fn shown(body: &str, sql: &str, strings: bool) -> Option<String> {
        let arguments = arguments(sql.as_bytes(), strings, &prepared(body))?;
        let both = arguments.values.into_iter().zip(arguments.formats);
        let text = |(value, format): (Option<Vec<u8>>, i16)| match value {
            None => "NULL".to_owned(),
            Some(_) if format == UNKNOWN => "?".to_owned(),
            Some(value) => String::from_utf8_lossy(&value).into_owned(),
        };
        Some(both.map(text).collect::<Vec<_>>().join("|"))
    }

    #[test]
    fn only_a_value_that_stays_as_it_is_written_is_routed_by() {
        for (sql, expected) in [
            ("EXECUTE p", Some("")),
            (
                "EXECUTE p (1, -2, 'it''s', NULL, 0)",
                Some("1|-2|it's|NULL|0"),
            ),
            ("EXPLAIN (ANALYZE) EXECUTE p (7)", Some("7")),
            ("EXPLAIN EXECUTE p", Some("")),
            (
                "EXECUTE p (007, 'x', -0, .5, 5., 1.50, 1e3)",
                Some("?|x|?|?|?|?|?"),
            ),
            ("EXECUTE p ('7'::int8, NULL::text, 8)", Some("?|NULL|8")),
            ("EXECUTE p (-7::int8)", None),
            ("EXECUTE p ('a'::mood)", None),
            ("EXECUTE p (0x10)", None),
            ("EXECUTE p (1 + 1)", None),
            ("EXECUTE p (now())", None),
            ("EXECUTE p ($1)", None),
            ("EXECUTE p (E'x')", None),
            ("SELECT 1", None),
        ] {
            assert_eq!(shown("SELECT $1", sql, true).as_deref(), expected, "{sql}");
        }
        let sql = "EXECUTE p ('a\\b')";
        assert_eq!(shown("SELECT $1", sql, true).as_deref(), Some("a\\b"));
        assert_eq!(shown("SELECT $1", sql, false), None);
    }

    #[test]
    fn a_declared_type_may_make_another_value_of_it() {
        let uuid = "123e4567-e89b-12d3-a456-426614174000";
        for (types, value, expected) in [
            ("int", "'7'", "7"),
            ("INT8", "7", "7"),
            ("int", "'007'", "?"),
            ("int", "' 7'", "?"),
            ("int", "7.4", "?"),
            ("int", "NULL", "NULL"),
            ("text", "' 7'", " 7"),
            ("numeric(10, 2)", "'7'", "?"),
            ("date", "'2026-1-1'", "?"),
            ("bpchar", "'a '", "?"),
            ("uuid", &format!("'{uuid}'"), uuid),
            ("uuid", &format!("'{}'", uuid.to_uppercase()), "?"),
        ] {
            let body = format!("PREPARE p ({types}) AS SELECT $1");
            let sql = format!("EXECUTE p ({value})");
            assert_eq!(
                shown(&body, &sql, true).as_deref(),
                Some(expected),
                "{types} {value}"
            );
        }
        let body = "PREPARE p (numeric(10, 2), int) AS SELECT $1, $2, $3";
        let sql = "EXECUTE p ('1', '2', '3')";
        assert_eq!(shown(body, sql, true).as_deref(), Some("?|2|3"));
    }
}
