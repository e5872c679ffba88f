//! `SELECT setval('s', max(id)) FROM t`, which is sent where rows have come in by other ways than the sequence.
//!
//! Only the home shard's sequences count, and rows are wherever they are: so the rows are gathered, and the home shard
//! runs the statement on them. It may set one sequence once: in a row for each row of a table it would depend on
//! their order.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Function, GroupByExpr, Query, Select, SetExpr};
use sqlparser::tokenizer::Token;

use super::functions::{Call, call, is_aggregate};
use super::names::{Names, fold, folded};
use super::parse::Parsed;
use super::scope::Analysis;
use super::visit::{Look, look};

const SETVAL: &str = "setval";

/// Names of PostgreSQL that say the same on the home shard as in one PostgreSQL.
const ALIKE: [&str; 2] = ["pg_catalog", "pg_get_serial_sequence"];

/// Whether a query sets a sequence once, in a column of its only row, and calls nothing else of one server.
pub fn sets_sequence(analysis: &Analysis<'_>, query: &Query, parsed: &Parsed) -> bool {
    let worst = analysis.seen.calls.keys().next_back();
    let SetExpr::Select(select) = &*query.body else {
        return false;
    };
    let names = analysis.names;
    let mut columns = Columns {
        names,
        depth: 0,
        sets: 0,
        aggregates: 0,
    };
    let _ = look(&select.projection, &mut columns);
    let is_one_row = select.from.is_empty() || columns.aggregates > 0;
    worst == Some(&Call::Server)
        && !analysis.has_documents()
        && query.with.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && query.locks.is_empty()
        && query.order_by.is_none()
        && is_plain(select)
        && is_one_row
        && columns.sets == 1
        && calls_nothing_else(names, parsed)
}

fn is_plain(select: &Select) -> bool {
    let groups = !matches!(&select.group_by, GroupByExpr::Expressions(by, more) if by.is_empty() && more.is_empty());
    !groups
        && select.having.is_none()
        && select.distinct.is_none()
        && select.into.is_none()
        && select.named_window.is_empty()
}

/// Whether `setval` stands once in all of the text, and no word could be a call that belongs to one server.
fn calls_nothing_else(names: &Names<'_>, parsed: &Parsed) -> bool {
    let mut own = [SETVAL].into_iter().chain(ALIKE);
    let is_shadowed = own.any(|name| names.functions_named(None, name).next().is_some());
    let mut sets = 0;
    for token in &parsed.tokens {
        let Token::Word(word) = &token.token else {
            continue;
        };
        let name = fold(&word.value, word.quote_style.is_some());
        match &*name {
            SETVAL => sets += 1,
            name if ALIKE.contains(&name) => {}
            name if call(names, None, name) > Call::Volatile => return false,
            _ => {}
        }
    }
    sets == 1 && !is_shadowed
}

/// The calls in the columns of a query that are not within queries of their own.
struct Columns<'a, 'n> {
    names: &'a Names<'n>,
    depth: usize,
    sets: usize,
    aggregates: usize,
}

impl Look for Columns<'_, '_> {
    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr
            && self.depth == 0
        {
            self.note(function);
        }
        ControlFlow::Continue(())
    }
}

impl Columns<'_, '_> {
    fn note(&mut self, function: &Function) {
        let path: Option<Vec<String>> = function
            .name
            .0
            .iter()
            .map(|part| part.as_ident().map(folded))
            .collect();
        let path = path.unwrap_or_default();
        let (schema, name) = match path.as_slice() {
            [name] => (None, name.as_str()),
            [schema, name] => (Some(schema.as_str()), name.as_str()),
            _ => return,
        };
        let is_own = name == SETVAL && schema.is_none_or(|schema| schema == "pg_catalog");
        self.sets += usize::from(is_own);
        let aggregates = function.over.is_none() && is_aggregate(self.names, schema, name);
        self.aggregates += usize::from(aggregates);
    }
}
