//! What a change of a table writes into the rows that it has already: each shard does so for its own.

use mothership_shardmap::Placement;
use sqlparser::ast::{ColumnDef, ColumnOption, DataType, Expr};

use crate::functions::{Call, call};
use crate::names::{Names, folded};
use crate::visit::any_expr;
use crate::{PlanContext, TimedDefault, parse};
use mothership_catalog::TypeKind;
use mothership_sql::cursor::Cursor;
use mothership_sql::lexer::Kind;
use mothership_sql::time::{Uses, is_moving};

use super::column::serial;
use super::path_of;

/// What the rows that are there get in a new column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filling {
    /// The same on all shards, or by chance.
    Alike,
    /// The time, which is another one on each shard.
    Times,
    /// Values that may be other ones on one shard than on another, or the same where they should differ.
    Differing,
}

/// What rows get in a new column of a table with this placement.
pub(super) fn filling(names: &Names<'_>, column: &ColumnDef, placement: &Placement) -> Filling {
    let mut default = None;
    for option in &column.options {
        match &option.option {
            ColumnOption::Default(expr) => default = Some(expr),
            // An identity.
            ColumnOption::Generated {
                generation_expr: None,
                ..
            } => return Filling::Differing,
            _ => {}
        }
    }
    let Some(expr) = default else {
        let differs =
            serial(&column.data_type).is_some() || is_domain_different(names, &column.data_type);
        return match differs {
            true => Filling::Differing,
            false => Filling::Alike,
        };
    };
    if is_plain(expr) {
        return match says_time(expr) && !is_of_text(&column.data_type) {
            true => Filling::Differing,
            false => Filling::Alike,
        };
    }
    if says_time(expr) {
        return Filling::Differing;
    }
    let calls = calls(names, expr);
    let asks_time = calls.contains(&Call::Time);
    match (calls.iter().max(), placement) {
        (None | Some(Call::Harmless), _) => Filling::Alike,
        (Some(Call::Time), _) => Filling::Times,
        // Each row has its own; a copy would have, too.
        (Some(Call::Volatile), Placement::Sharded(_)) if !asks_time => Filling::Alike,
        _ => Filling::Differing,
    }
}

/// What the calls of an expression are.
fn calls(names: &Names<'_>, expr: &Expr) -> Vec<Call> {
    let mut calls = Vec::new();
    any_expr(expr, |expr| {
        if let Expr::Function(function) = expr {
            let path = path_of(&function.name);
            calls.push(match path.as_slice() {
                [name] => call(names, None, name),
                [schema, name] => call(names, Some(schema), name),
                _ => Call::Anything,
            });
        }
        false
    });
    calls
}

/// Whether a string in an expression may be read as the time: `'now'`.
fn says_time(expr: &Expr) -> bool {
    any_expr(expr, |expr| {
        let value = match expr {
            Expr::Value(value) => value,
            Expr::TypedString(typed) => &typed.value,
            _ => return false,
        };
        let text = value.value.clone().into_string();
        text.is_some_and(|text| is_moving(text.as_bytes()))
    })
}

/// Whether a type keeps a string as it is.
fn is_of_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Text
            | DataType::Varchar(_)
            | DataType::CharacterVarying(_)
            | DataType::Char(_)
            | DataType::Character(_)
            | DataType::JSON
            | DataType::JSONB
    )
}

/// Where the default of a new column stands that asks for the time: in one change of a table, which begins at this
/// place of its statement. `None` if it is not found for certain.
pub(super) fn timed_default(
    (action, begins): (&str, usize),
    column: &ColumnDef,
    conforming: bool,
) -> Option<TimedDefault> {
    const FOLLOWS: [&str; 10] = [
        "not",
        "null",
        "constraint",
        "unique",
        "primary",
        "references",
        "check",
        "generated",
        "deferrable",
        "initially",
    ];
    let mut c = Cursor::new(action.as_bytes(), conforming);
    c.eat("add").then_some(())?;
    c.eat("column");
    let from = c.at();
    let unless = c
        .eat_all(&["if", "not", "exists"])
        .then(|| begins + from..begins + c.at());
    let mut depth = 0usize;
    let mut found: Option<usize> = None;
    let mut end = 0;
    while let Some(token) = c.peek() {
        if depth == 0 && found.is_some() && c.sees_any(&FOLLOWS) {
            break;
        }
        match token.kind {
            Kind::LParen | Kind::LBracket => depth += 1,
            Kind::RParen | Kind::RBracket => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 && found.is_none() && c.sees("default") {
            found = Some(token.end);
        }
        end = token.end;
        c.bump();
    }
    let at = found?..end;
    let text = action.get(at.clone())?;
    let wanted = column
        .options
        .iter()
        .find_map(|option| match &option.option {
            ColumnOption::Default(expr) => Some(expr),
            _ => None,
        });
    let is_it = parse::expression(text).is_some_and(|read| Some(&read) == wanted);
    // What is asked for must be there to be replaced.
    let uses = Uses::of(text, conforming).ok()?;
    (is_it && !uses.is_empty()).then(|| TimedDefault {
        column: format!("\"{}\"", folded(&column.name).replace('"', "\"\"")),
        unless,
        at: begins + at.start..begins + at.end,
        end: begins + action.len(),
    })
}

/// Whether the bounds of a partition, in the statement that makes or attaches it, are the same wherever they are computed.
pub(super) fn are_bounds_same(names: &Names<'_>, sql: &str, context: &PlanContext) -> bool {
    let mut c = Cursor::new(sql.as_bytes(), context.standard_conforming_strings);
    while !c.eat_all(&["for", "values"]) {
        if c.bump().is_none() {
            return true;
        }
    }
    while let Some(token) = c.peek() {
        if token.kind.is_string() {
            let moves = |text: mothership_sql::name::Name<'_>| is_moving(text.as_bytes());
            if c.string().is_none_or(moves) {
                return false;
            }
            continue;
        }
        let path = c.path();
        let Some(path) = path else {
            c.bump();
            continue;
        };
        let path: Option<Vec<&str>> = path.iter().map(|name| name.as_str()).collect();
        let called = match path.as_deref() {
            Some([name]) => call(names, None, name),
            Some([schema, name]) => call(names, Some(schema), name),
            _ => return false,
        };
        let is_called = c.sees_kind(Kind::LParen);
        let differs = match called {
            Call::Time => true,
            Call::Volatile | Call::Server | Call::Session => is_called,
            // What reads tables is refused for that.
            Call::Harmless | Call::Home | Call::Anything => false,
        };
        if differs {
            return false;
        }
    }
    true
}

/// Whether an expression over the columns of a row is the same wherever it is computed.
pub(super) fn is_same_everywhere(names: &Names<'_>, expr: &Expr) -> bool {
    let mut calls = calls(names, expr).into_iter();
    calls.all(|call| call == Call::Harmless)
}

/// The same of a domain, whose default a column has that names none.
fn is_domain_different(names: &Names<'_>, data_type: &DataType) -> bool {
    let DataType::Custom(name, _) = data_type else {
        return false;
    };
    let path = path_of(name);
    let mut types = names.catalog.types.iter();
    types.any(|(name, info)| match &info.kind {
        TypeKind::Domain {
            default: Some(default),
            ..
        } => path.last() == Some(&name.name) && !is_plain_text(default),
        _ => false,
    })
}

/// A constant as PostgreSQL prints it.
fn is_plain_text(expression: &str) -> bool {
    parse::expression(expression).is_some_and(|expr| is_plain(&expr))
}

/// A constant.
fn is_plain(expr: &Expr) -> bool {
    match expr {
        Expr::Value(_) | Expr::TypedString(_) => true,
        Expr::Nested(e) | Expr::Cast { expr: e, .. } | Expr::UnaryOp { expr: e, .. } => is_plain(e),
        _ => false,
    }
}
