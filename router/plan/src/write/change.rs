//! UPDATE, DELETE, MERGE and ON CONFLICT DO UPDATE of documents that are no command of MongoDB's: PostgreSQL computes on
//! gathered rows which of them become what, and MongoDB is told of each row by its primary key, in the same transaction.
//!
//! The statement becomes a query. Its first columns are the values of what MongoDB is told; those behind them are what
//! RETURNING shows. What the statement itself means is asked of the home shard, which has an empty table of the same
//! columns, so that what assigns values of another type is refused there in PostgreSQL's words.

mod merge;
mod upsert;

use mothership_sql::quote;
use sqlparser::ast::{
    Assignment, AssignmentTarget, Delete, Expr, FromTable, Ident, Insert, ObjectName, Query,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement, TableFactor, TableWithJoins,
    Update, UpdateTableFromKind,
};

use std::collections::HashSet;
use std::sync::Arc;

use crate::condition::Cond;
use crate::decide::keyed_by;
use crate::expr::is_default;
use crate::gather::{Change, DocumentStatement, DocumentWrite, Ending, Gather};
use crate::names::{Names, folded};
use crate::parens;
use crate::parse::Parsed;
use crate::query::Ctes;
use crate::read::{self, explained};
use crate::refuse::Refusal;
use crate::scope::{Analysis, Source};
use crate::slots::Text;
use crate::{KeyedBy, MaxChars, Plan, PlanContext, utility};
use mothership_catalog::{Column, Relation};
use mothership_documents::Collection;
use mothership_documents::set::columns;

pub(super) use upsert::Proposed;

use super::documents::{asks_time, default_of};
use super::rows::stored_chars;

/// The object id of `varchar`.
const VARCHAR: u32 = 1043;
/// Those of `timestamp`, `timestamptz` and arrays of them.
const TIMES: [u32; 4] = [1114, 1184, 1115, 1185];
/// The first part of what a key is called that a row had before.
const OLD: &str = "__mothership_k";

/// A table of documents with what is declared of it.
struct Table<'n> {
    relation: &'n Relation,
    collection: &'n Collection,
    /// Where the columns of its primary key are in the relation.
    key: Vec<usize>,
}

/// What is computed, and what MongoDB is told of it.
struct Computed {
    query: String,
    /// What MongoDB is told, and what that is called.
    told: Vec<DocumentStatement>,
    command: DocumentWrite,
    /// Whether the query says which of these a row is for.
    chooses: bool,
    /// So many of the query's first columns are the values of each change.
    bound: usize,
}

/// The plan of an UPDATE or DELETE of documents that is no command.
///
/// # Errors
/// `why`, or a reason that says more.
pub fn plan(
    (names, text, context): (&Names<'_>, &Text<'_>, &PlanContext),
    parsed: &Parsed,
    why: &Refusal,
) -> Result<Plan, Refusal> {
    let mut analysis = Analysis::of(text, names, context);
    analysis.placeholders.clone_from(&parsed.placeholders);
    let ctes = Ctes::default();
    analysis.rows_depth = 0;
    let written = analysis.write(&parsed.statement, &ctes)?;
    explained(&analysis, names, parsed)?;
    let none = || why.clone();
    let Source::Sharded(relation, _) = &analysis.instances[written.target].source else {
        return Err(none());
    };
    let collection = names.collection(&relation.name).ok_or_else(none)?;
    let table = Table::declared(relation, collection).ok_or_else(none)?;
    let computed = match &parsed.statement {
        Statement::Update(update) if table.cannot_be_set(&update.assignments) => {
            return Ok(utility::home("columns that cannot be set"));
        }
        Statement::Merge(merge) if table.lacks_of(merge) => {
            return Ok(utility::home("a column that is not there"));
        }
        Statement::Update(update) => table.update(update, &analysis)?,
        Statement::Delete(delete) => table.delete(delete)?,
        Statement::Merge(merge) => table.merge(merge, &analysis)?,
        _ => None,
    };
    let computed = computed.ok_or_else(none)?;
    let mut by = keyed_by(&analysis, written.target).ok_or_else(none)?;
    if computed.told.iter().any(|told| told.apart.is_empty()) {
        // What is stored is not restricted by what is asked of the rows that are there.
        by.cond = Cond::Any;
        by.leaf = None;
    }
    gathered((names, context), parsed, (by, computed), none())
}

/// The plan of an INSERT with ON CONFLICT DO UPDATE that is no command; `None` if it is another one, or not known what
/// becomes of its rows. `target` is the instance that its table is.
///
/// # Errors
/// `why`, or a reason that says more.
pub(super) fn conflicting(
    analysis: &Analysis<'_>,
    parsed: &Parsed,
    (insert, proposed): (&Insert, &Proposed<'_>),
    target: usize,
    why: &Refusal,
) -> Result<Option<Plan>, Refusal> {
    let (names, context) = (analysis.names, analysis.context);
    let Source::Sharded(relation, keyed) = &analysis.instances[target].source else {
        return Ok(None);
    };
    let table = names
        .collection(&relation.name)
        .and_then(|collection| Table::declared(relation, collection));
    let (Some(table), Some(mut by)) = (table, keyed_by(analysis, target)) else {
        return Ok(None);
    };
    if table.lacks_conflicting(insert) {
        return Ok(Some(utility::home("a column or a key that is not there")));
    }
    let Some(computed) = table.upsert(insert, proposed, analysis)? else {
        return Ok(None);
    };
    by.leaf = None;
    by.cond = Cond::Any;
    let columns: Option<Vec<usize>> = keyed.columns.iter().copied().collect();
    if let (None, Some(columns)) = (keyed.sharded.shards.single(), columns)
        && let Some(keys) = upsert::keys(proposed, &columns, analysis)
    {
        let chars = columns.iter().map(|at| stored_chars(relation, *at));
        by.stored = Some(MaxChars(chars.collect::<Result<_, _>>()?));
        by.cond = keys;
    }
    gathered((names, context), parsed, (by, computed), why.clone()).map(Some)
}

/// The plan of an UPDATE or DELETE of documents behind WITH, of an analysis of all of it. `target` is the instance that
/// its table is.
///
/// # Errors
/// `why`, or a reason that says more.
pub(super) fn behind(
    analysis: &Analysis<'_>,
    parsed: &Parsed,
    query: &Query,
    target: usize,
    why: Refusal,
) -> Result<Gather, Refusal> {
    let (names, context) = (analysis.names, analysis.context);
    let none = || why.clone();
    let (Some(with), Source::Sharded(relation, _)) =
        (&query.with, &analysis.instances[target].source)
    else {
        return Err(why);
    };
    let collection = names.collection(&relation.name).ok_or_else(none)?;
    let table = Table::declared(relation, collection).ok_or_else(none)?;
    let mut within = analysis.notes.within.iter();
    if within.any(|write| write.cte.is_some()) {
        return Err(why);
    }
    let computed = match &*query.body {
        SetExpr::Update(Statement::Update(update)) => table.update(update, analysis)?,
        SetExpr::Delete(Statement::Delete(delete)) => table.delete(delete)?,
        _ => None,
    };
    let mut computed = computed.ok_or_else(none)?;
    computed.query.insert_str(0, &parens::with(with)?);
    let by = keyed_by(analysis, target).ok_or_else(none)?;
    match gathered((names, context), parsed, (by, computed), none())? {
        Plan::Gather(gather) => Ok(Arc::unwrap_or_clone(gather)),
        _ => Err(why),
    }
}

fn gathered(
    (names, context): (&Names<'_>, &PlanContext),
    parsed: &Parsed,
    (by, computed): (KeyedBy, Computed),
    why: Refusal,
) -> Result<Plan, Refusal> {
    let Computed {
        query,
        told,
        command,
        chooses,
        bound,
    } = computed;
    // The query has the parameters of the statement, also where it does not mention the last of them.
    let numbers = parsed
        .placeholders
        .iter()
        .map(|(_, number)| usize::from(*number));
    let mut context = context.clone();
    let count = numbers
        .max()
        .unwrap_or(0)
        .max(context.parameter_types.len());
    context.parameter_types.resize(count, 0);
    let ending = Ending::Change(Box::new(Change {
        by,
        told,
        chooses,
        bound,
        command,
    }));
    read::changing((names, &query, &context), ending, why)
}

impl<'n> Table<'n> {
    /// `None` if it has no primary key whose columns PostgreSQL knows.
    fn declared(relation: &'n Relation, collection: &'n Collection) -> Option<Table<'n>> {
        let key = collection.unique.first()?.columns.iter().map(|at| {
            let (place, _) = relation.column(&collection.columns.get(*at)?.name)?;
            Some(place)
        });
        Some(Table {
            relation,
            collection,
            key: key.collect::<Option<_>>()?,
        })
    }
}

impl Table<'_> {
    /// Whether a column is set that the table does not have, or one is set twice, which is PostgreSQL's error.
    fn cannot_be_set(&self, assignments: &[Assignment]) -> bool {
        let mut set = HashSet::new();
        let names = assignments.iter().flat_map(|one| match &one.target {
            AssignmentTarget::ColumnName(name) => std::slice::from_ref(name),
            AssignmentTarget::Tuple(names) => names,
        });
        let own = |name: &ObjectName| match name.0.as_slice() {
            [part] => part.as_ident().map(folded),
            _ => None,
        };
        names
            .into_iter()
            .any(|name| self.has_not(name) || own(name).is_some_and(|name| !set.insert(name)))
    }

    fn has_not(&self, column: &ObjectName) -> bool {
        match column.0.as_slice() {
            [part] => part
                .as_ident()
                .is_some_and(|part| self.relation.column(&folded(part)).is_none()),
            _ => false,
        }
    }

    fn update(
        &self,
        update: &Update,
        analysis: &Analysis<'_>,
    ) -> Result<Option<Computed>, Refusal> {
        let Some(entry) = entry(&update.table.relation) else {
            return Ok(None);
        };
        let Some(set) = self.set(&update.assignments, Some(&entry), analysis)? else {
            return Ok(None);
        };
        let more: &[TableWithJoins] = match &update.from {
            None => &[],
            Some(UpdateTableFromKind::AfterSet(list)) => list,
            Some(UpdateTableFromKind::BeforeSet(_)) => return Ok(None),
        };
        let columns = self
            .relation
            .columns
            .iter()
            .enumerate()
            // Only RETURNING asks for what neither finds the row nor becomes another.
            .filter(|(at, _)| {
                let is_set = set.iter().any(|(other, _)| other == at);
                is_set || self.key.contains(at) || update.returning.is_some()
            })
            .map(|(at, column)| {
                let name = quote::identifier(&column.name);
                match set.iter().find(|(other, _)| *other == at) {
                    Some((_, value)) => format!("{value} AS {name}"),
                    None => format!("{entry}.{name}"),
                }
            });
        let mut columns: Vec<String> = columns.collect();
        // A row is found by the key that it had.
        let moves = set.iter().any(|(column, _)| self.key.contains(column));
        let old = |at: usize| format!("\"{OLD}{at}\"");
        if moves {
            let key = self.key.iter().enumerate();
            let key =
                key.map(|(at, column)| format!("{} AS {}", self.of(&entry, *column), old(at)));
            columns.extend(key);
        }
        let rows = from(&update.table, more, update.selection.as_ref())?;
        let once = self.once(&entry, more);
        // The row as it becomes is what RETURNING is about.
        let rows = format!("(SELECT {once}{}{rows}) AS {entry}", columns.join(", "));
        let found = self.key.iter().enumerate().map(|(at, column)| match moves {
            true => format!("{entry}.{}", old(at)),
            false => self.of(&entry, *column),
        });
        let new = set.iter().map(|(column, _)| self.of(&entry, *column));
        let values: Vec<String> = found.chain(new).collect();
        let returning = update.returning.as_deref();
        let shown = match moves {
            true => self.shown_by_name(&entry, returning)?,
            false => shown(returning)?,
        };
        let sets = set.iter().enumerate();
        let sets = sets.map(|(at, (column, _))| {
            format!("{} = ${}", self.quoted(*column), self.key.len() + at + 1)
        });
        let mut sets: Vec<String> = sets.collect();
        if sets.is_empty() {
            // The rows are found, and stay as they are.
            let key = self.key.iter().map(|at| self.quoted(*at));
            sets.extend(key.map(|name| format!("{name} = {name}")));
        }
        let statement = format!(
            "UPDATE {} SET {}{}",
            self.name(),
            sets.join(", "),
            self.found()
        );
        Ok(Some(Computed {
            query: format!("SELECT {}{shown} FROM {rows}", values.join(", ")),
            command: DocumentWrite::Update,
            told: self.told(statement, values.len()),
            chooses: false,
            bound: values.len(),
        }))
    }

    /// The columns of RETURNING, behind others; what a star stands for is said, because the rows have more.
    fn shown_by_name(
        &self,
        entry: &str,
        returning: Option<&[SelectItem]>,
    ) -> Result<String, Refusal> {
        let all = || {
            let all = 0..self.relation.columns.len();
            let all: Vec<String> = all.map(|at| self.of(entry, at)).collect();
            format!(", {}", all.join(", "))
        };
        let is_entry = |name: &ObjectName| match name.0.as_slice() {
            [part] => part
                .as_ident()
                .is_some_and(|part| quote::identifier(&folded(part)) == entry),
            _ => false,
        };
        let items = returning.unwrap_or_default().iter();
        let items = items.map(|item| match item {
            SelectItem::Wildcard(_) => Ok(all()),
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _)
                if is_entry(name) =>
            {
                Ok(all())
            }
            item => shown(Some(std::slice::from_ref(item))),
        });
        items.collect()
    }

    /// Whether an expression is the column that is set, as the row has it. Its name alone may be ambiguous, which is
    /// PostgreSQL's error, but not another one's. Without quotes it is a value where a column needs them: `user`.
    fn is_own(&self, target: &Ident, value: &Expr, entry: &str) -> bool {
        match value {
            Expr::Nested(value) => self.is_own(target, value, entry),
            Expr::Identifier(name) => {
                let is_name = name.quote_style.is_some() || target.quote_style.is_none();
                is_name && folded(name) == folded(target)
            }
            Expr::CompoundIdentifier(names) => match names.as_slice() {
                [table, name] => {
                    quote::identifier(&folded(table)) == entry && folded(name) == folded(target)
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// The columns that are set, each with what it becomes. A key that stays as it is is none.
    fn set(
        &self,
        assignments: &[Assignment],
        entry: Option<&str>,
        analysis: &Analysis<'_>,
    ) -> Result<Option<Vec<(usize, String)>>, Refusal> {
        let mut set: Vec<(usize, String)> = Vec::new();
        let Some(assigned) = columns(assignments) else {
            return Ok(None);
        };
        for (name, value) in assigned {
            let [part] = name.0.as_slice() else {
                return Ok(None);
            };
            let found = part
                .as_ident()
                .and_then(|part| self.relation.column(&folded(part)));
            let Some((column, _)) = found else {
                return Ok(None);
            };
            // Many write whole rows, their keys among them.
            let target = part.as_ident().zip(entry);
            let stays = target.is_some_and(|(target, entry)| self.is_own(target, value, entry));
            if self.key.contains(&column) && stays {
                continue;
            }
            // Rows that trade their keys do so in an order that is PostgreSQL's own. Those that all get the same one do
            // not: it is free, or one of them keeps it, or it is a duplicate whoever comes first.
            let trades = self.key.contains(&column) && analysis.scalar(value).is_none();
            let unknown = trades || set.iter().any(|(other, _)| *other == column);
            let Some(value) = self.assigned(column, value)?.filter(|_| !unknown) else {
                return Ok(None);
            };
            set.push((column, value));
        }
        Ok(Some(set))
    }

    fn delete(&self, delete: &Delete) -> Result<Option<Computed>, Refusal> {
        let FromTable::WithFromKeyword(list) = &delete.from else {
            return Ok(None);
        };
        let [table] = list.as_slice() else {
            return Ok(None);
        };
        let Some(entry) = entry(&table.relation) else {
            return Ok(None);
        };
        let more = delete.using.as_deref().unwrap_or_default();
        let values: Vec<String> = self.key.iter().map(|at| self.of(&entry, *at)).collect();
        Ok(Some(Computed {
            query: format!(
                "SELECT {}{}{}{}",
                self.once(&entry, more),
                values.join(", "),
                shown(delete.returning.as_deref())?,
                from(table, more, delete.selection.as_ref())?
            ),
            command: DocumentWrite::Delete,
            told: self.told(
                format!("DELETE FROM {}{}", self.name(), self.found()),
                values.len(),
            ),
            chooses: false,
            bound: values.len(),
        }))
    }

    /// The only thing that is told, with so many values.
    fn told(&self, sql: String, values: usize) -> Vec<DocumentStatement> {
        vec![DocumentStatement {
            sql,
            values: (0..values).collect(),
            apart: (0..self.key.len()).collect(),
        }]
    }

    /// What an expression gives that is assigned to a column. `None` if that is not known.
    fn assigned(&self, column: usize, value: &Expr) -> Result<Option<String>, Refusal> {
        let base = self.base(column);
        if is_default(value) {
            let default = default_of(self.collection, &self.relation.columns[column]);
            return Ok(default.map(|default| self.fitted(column, default)));
        }
        let typed = format!("{}::{base}", parens::expr(value)?);
        let typed = match asks_time(value) {
            // PostgreSQL's clock has microseconds, and documents have not.
            true if base.starts_with("timestamp") => whole_milliseconds(&typed),
            _ => typed,
        };
        Ok(Some(self.fitted(column, typed)))
    }

    /// A value in the length or precision of its column: times are rounded; too long a text is an error, which a cast
    /// that is written would cut. Of a constant it is one even where there are no rows.
    fn fitted(&self, column: usize, value: String) -> String {
        let Column {
            handed,
            type_oid,
            typmod,
            ..
        } = &self.relation.columns[column];
        match (*type_oid, *typmod) {
            (_, ..0) => value,
            (VARCHAR, length) => format!(
                "pg_catalog.\"varchar\"({value}, {length}, false)::{}",
                handed.full
            ),
            (oid, _) if TIMES.contains(&oid) => format!("({value})::{}", handed.full),
            _ => value,
        }
    }

    /// Whether a column is in a unique key.
    fn is_unique(&self, column: usize) -> bool {
        let name = &self.relation.columns[column].name;
        let at = self.collection.column(name);
        let mut keys = self.collection.unique.iter();
        keys.any(|key| at.is_none_or(|at| key.columns.contains(&at)))
    }

    fn base(&self, column: usize) -> &str {
        &self.relation.columns[column].handed.base
    }

    fn quoted(&self, column: usize) -> String {
        quote::identifier(&self.relation.columns[column].name)
    }

    fn of(&self, entry: &str, column: usize) -> String {
        format!("{entry}.{}", self.quoted(column))
    }

    fn name(&self) -> String {
        let name = &self.relation.name;
        name.quoted()
    }

    /// The condition by which one row is found; its values are the first parameters.
    fn found(&self) -> String {
        let conditions = self.key.iter().enumerate();
        let conditions =
            conditions.map(|(at, column)| format!("{} = ${}", self.quoted(*column), at + 1));
        let conditions: Vec<String> = conditions.collect();
        format!(" WHERE {}", conditions.join(" AND "))
    }

    /// A row that several others join is changed once, by any of them.
    fn once(&self, entry: &str, more: &[TableWithJoins]) -> String {
        if more.is_empty() {
            return String::new();
        }
        let key: Vec<String> = self.key.iter().map(|at| self.of(entry, *at)).collect();
        format!("DISTINCT ON ({}) ", key.join(", "))
    }
}

/// What the target of a write is called in it.
fn entry(table: &TableFactor) -> Option<String> {
    let TableFactor::Table { name, alias, .. } = table else {
        return None;
    };
    let own = name.0.last()?.as_ident()?;
    let entry = alias.as_ref().map_or(own, |alias| &alias.name);
    Some(quote::identifier(&folded(entry)))
}

fn from(
    table: &TableWithJoins,
    more: &[TableWithJoins],
    selection: Option<&Expr>,
) -> Result<String, Refusal> {
    let list: Vec<TableWithJoins> = std::iter::once(table).chain(more).cloned().collect();
    parens::from(&list, selection)
}

/// The columns of RETURNING, behind others.
fn shown(returning: Option<&[SelectItem]>) -> Result<String, Refusal> {
    let text = parens::returning(returning)?;
    Ok(text.replacen(" RETURNING ", ", ", 1))
}

fn whole_milliseconds(value: &str) -> String {
    format!("pg_catalog.date_trunc('milliseconds', {value})")
}
