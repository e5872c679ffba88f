//! A statement as the planner understands it, with every parenthesis written.
//!
//! A text comes in, a text goes out: the parser's tree, after `misread` had its
//! say, printed so that no precedence is left to a reader. PostgreSQL's own
//! grammar must see the same tree in both, which `make grammar` asks of a million
//! statements. Only what the planner takes a key or a merge from is printed; the
//! rest is refused here as there. Every node is named, so that a new one in the
//! parser does not pass unseen. What is proven so writes the queries of `gather`, too.

mod call;
mod constant;
mod expr;
mod from;
mod query;
mod write;

use mothership_sql::quote;
use sqlparser::ast::{
    Cte, Expr, Ident, Insert, LockClause, Merge, ObjectName, OrderByExpr, Query, SelectItem,
    Statement, TableAlias, TableWithJoins, With,
};

use crate::PlanContext;
use crate::keep;
use crate::names::folded;
use crate::read::parsed;
use crate::refuse::{Reason, Refusal, not_understood};
use crate::slots::Text;
use mothership_sql::effect;

/// Every way to print ends in this.
type Done = Result<(), Refusal>;

/// Prints a query or a write. EXPLAIN, PREPARE, DECLARE and COPY of a query give what is inside of them.
///
/// # Errors
///
/// Those of the planner for texts and nodes that it does not understand.
pub fn parenthesised(sql: &str, context: &PlanContext) -> Result<String, Refusal> {
    stacker::grow(super::STACK, || {
        let inner = inner(sql, context).ok_or_else(|| Refusal::new(Reason::NotUnderstood))?;
        let mut writer = Writer::default();
        writer.statement(&parsed(&Text::whole(inner), context)?.statement)?;
        Ok(writer.out)
    })
}

/// A query, as its text.
///
/// # Errors
/// What is not understood.
pub(super) fn query(query: &Query) -> Result<String, Refusal> {
    written(|w| w.query(query))
}

/// Row locks, as a query ends with them.
///
/// # Errors
/// What is not understood.
pub(super) fn locks(locks: &[LockClause]) -> Result<String, Refusal> {
    written(|w| w.locks(locks))
}

/// A query or a write, as its text.
///
/// # Errors
/// What is not understood.
pub(super) fn statement(statement: &Statement) -> Result<String, Refusal> {
    written(|w| w.statement(statement))
}

/// An INSERT up to its source, and what comes behind it.
pub(super) fn around_source(insert: &Insert) -> Result<(String, String), Refusal> {
    Ok((
        written(|w| w.insert_head(insert))?,
        written(|w| w.insert_tail(insert))?,
    ))
}

/// A MERGE up to its source, and what comes behind it.
pub(super) fn around_merged(merge: &Merge) -> Result<(String, String), Refusal> {
    Ok((
        written(|w| w.merge_head(merge))?,
        written(|w| w.merge_tail(merge))?,
    ))
}

/// A row of a VALUES list, in its parentheses.
///
/// # Errors
/// What is not understood.
pub(super) fn row(fields: &[Expr]) -> Result<String, Refusal> {
    written(|w| w.row(fields))
}

/// RETURNING, if there is any.
pub(super) fn returning(items: Option<&[SelectItem]>) -> Result<String, Refusal> {
    written(|w| w.returning(items))
}

/// WITH, and a space behind it.
pub(super) fn with(with: &With) -> Result<String, Refusal> {
    written(|w| w.with(with))
}

/// The CTEs of a WITH, without that word.
pub(super) fn ctes(list: &[Cte]) -> Result<String, Refusal> {
    written(|w| w.ctes(list))
}

/// An expression in parentheses.
pub(super) fn expr(expr: &Expr) -> Result<String, Refusal> {
    written(|w| w.expr(expr))
}

/// A relation in FROM with its alias.
pub(super) fn relation(name: &ObjectName, alias: Option<&TableAlias>) -> Result<String, Refusal> {
    written(|w| {
        w.name(name)?;
        w.alias(alias)
    })
}

/// FROM and WHERE, each with its word before it.
pub(super) fn from(list: &[TableWithJoins], selection: Option<&Expr>) -> Result<String, Refusal> {
    written(|w| {
        w.put(" FROM ");
        w.from(list)?;
        w.condition(" WHERE ", selection)
    })
}

/// The entries of an ORDER BY.
pub(super) fn order(list: &[OrderByExpr]) -> Result<String, Refusal> {
    written(|w| w.order(list))
}

fn written(write: impl FnOnce(&mut Writer) -> Done) -> Result<String, Refusal> {
    let mut writer = Writer::default();
    write(&mut writer)?;
    Ok(writer.out)
}

/// The part of a statement that the planner parses; None for a statement that it knows by its words.
fn inner<'s>(sql: &'s str, context: &PlanContext) -> Option<&'s str> {
    use effect::Statement as S;
    let strings = context.standard_conforming_strings;
    let analysis = effect::analyse(sql.as_bytes(), strings);
    let span = match analysis.statement {
        // Without its INTO, which is found by its words, it is a query like any other.
        S::Select if keep::is_select_into(sql, strings) => return None,
        S::Select | S::Insert | S::Update | S::Delete | S::Merge => return Some(sql),
        S::Explain { inner, .. } => inner,
        S::Declare { query, .. } => query,
        S::Prepare { body, .. } => body,
        S::Copy {
            source: effect::CopySource::Query(query),
            ..
        } => query,
        _ => return None,
    };
    // EXPLAIN DECLARE is a statement, too.
    inner(&sql[span.start..span.end], context)
}

/// Whether the planner asks the parser about a statement.
pub fn is_parsed(sql: &str, context: &PlanContext) -> bool {
    inner(sql, context).is_some()
}

/// Writes SQL.
#[derive(Default)]
struct Writer {
    out: String,
}

impl Writer {
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
    }

    fn joined<T>(
        &mut self,
        items: &[T],
        between: &str,
        mut one: impl FnMut(&mut Writer, &T) -> Done,
    ) -> Done {
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.put(between);
            }
            one(self, item)?;
        }
        Ok(())
    }

    fn list<T>(&mut self, items: &[T], one: impl FnMut(&mut Writer, &T) -> Done) -> Done {
        self.joined(items, ", ", one)
    }

    fn statement(&mut self, statement: &Statement) -> Done {
        match statement {
            Statement::Query(query) => self.query(query),
            Statement::Insert(insert) => self.insert(insert),
            Statement::Update(update) => self.update(update),
            Statement::Delete(delete) => self.delete(delete),
            Statement::Merge(merge) => self.merge(merge),
            // The planner takes nothing from other statements here.
            _ => not_understood(),
        }
    }

    /// A name as the planner takes it: folded, unless it is quoted.
    fn ident(&mut self, ident: &Ident) -> Done {
        let name = folded(ident);
        match ident.quote_style {
            None => self.put(&name),
            Some('"') => self.put(&quote::identifier(&name)),
            Some(_) => return not_understood(),
        }
        Ok(())
    }

    fn name(&mut self, name: &ObjectName) -> Done {
        self.joined(&name.0, ".", |w, part| match part.as_ident() {
            Some(ident) => w.ident(ident),
            None => not_understood(),
        })
    }
}
