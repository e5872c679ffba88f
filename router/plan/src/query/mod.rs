//! Queries: FROM clauses become instances, conditions become facts and links.
//!
//! `Analysis::query` walks one query with all below it and says what its rows
//! are: the columns they come from, whether conditions from above may be passed
//! down, and whether each shard may compute its own rows (`Local`). `conditions`
//! records only what holds for every row of the result, and says why at each
//! place; what an outer join does not allow it leaves out.

mod conditions;
mod entry;
mod from;
mod local;
mod relation;
mod select;
mod with;

pub use from::{From, Kind, Tree};
pub use local::Local;
pub use with::Ctes;

use mothership_shardmap::KeyType;
use sqlparser::ast::{
    Fetch, Ident, JoinOperator, LimitClause, LockClause, OrderByExpr, OrderByKind, Query, SetExpr,
    TableFactor, TableWithJoins, Values,
};
use sqlparser::tokenizer::Location;

use crate::condition::Scalar;
use crate::dialect;
use crate::expr::{ExprContext, Level};
use crate::grammar::{Strength, locked};
use crate::names::{folded, same_family};
use crate::refuse::{Reason, Refusal, not_understood, refuse};
use crate::scope::{Analysis, Locks, Node, Scopes, Source};

use local::first;

/// Queries may nest this deep; the parser has a limit of its own, but views nest outside of it.
const MAX_DEPTH: u32 = 40;

/// The result of walking a query.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its columns in order.
    pub columns: Vec<OutColumn>,
    /// Whether `columns` are all of them.
    pub complete: bool,
    /// Whether a sharded table is read anywhere in it.
    pub sharded: bool,
    /// Whether shards may compute it separately. Meaningful only if `sharded`.
    pub local: Local,
    /// Whether it could differ between shards though it reads no sharded table.
    pub unstable: Option<Refusal>,
    open: Open,
    /// The first instance of its own: columns of earlier ones come from queries around it.
    first_instance: usize,
}

/// An output column.
#[derive(Debug, Clone)]
pub struct OutColumn {
    /// Its name.
    pub name: String,
    /// The column it shows unchanged.
    pub node: Option<Node>,
    /// The constants it shows, one for each row of a VALUES list.
    pub constants: Option<Vec<Scalar>>,
    /// Its type, if it can be a key and is certain.
    pub key_type: Option<KeyType>,
}

/// Which output columns pass conditions from above down to their sources.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Open {
    All,
    Only(Vec<Node>),
    None,
}

impl Output {
    fn opaque() -> Output {
        Output {
            columns: Vec::new(),
            complete: false,
            sharded: false,
            local: Local::Rows,
            unstable: None,
            open: Open::None,
            first_instance: 0,
        }
    }
}

impl<'n> Analysis<'n> {
    /// Walks a query with everything below it.
    pub fn query<'q>(
        &mut self,
        query: &'q Query,
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'q>,
    ) -> Result<Output, Refusal> {
        if self.depth >= MAX_DEPTH {
            return refuse(Reason::TooComplex);
        }
        self.depth += 1;
        let first_instance = self.instances.len();
        let output = self.query_inner(query, outer, ctes);
        self.depth -= 1;
        output.map(|output| Output {
            first_instance,
            ..output
        })
    }

    fn query_inner<'q>(
        &mut self,
        query: &'q Query,
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'q>,
    ) -> Result<Output, Refusal> {
        if !dialect::knows_query(query) {
            return not_understood();
        }
        let (ctes, defined) = self.with(query.with.as_ref(), outer, ctes)?;
        let order: &[_] = match &query.order_by {
            None => &[],
            Some(order) => match &order.kind {
                OrderByKind::Expressions(list) if order.interpolate.is_none() => list,
                _ => return not_understood(),
            },
        };
        let mut output = self.body(&query.body, outer, &ctes, order)?;
        self.check_unused(&defined, outer)?;
        let mut level = Level::default();
        let mut here = ExprContext::around(outer, &ctes, &mut level);
        let limited = self.limits(query.limit_clause.as_ref(), query.fetch.as_ref(), &mut here)?;
        if !order.is_empty() && output.sharded {
            output.local = Local::No(first(&output.local, Reason::OrderBy));
        }
        if limited {
            output.local = Local::No(first(&output.local, Reason::Limit));
            output.unstable = Some(Refusal::new(Reason::Limit));
            if !output.sharded {
                self.note_unordered();
            }
            output.open = Open::None;
        }
        if !query.locks.is_empty() {
            self.locked(query);
            match self.seen.locks {
                Locks::Documents => {}
                // A Gather locks these rows on their shards.
                Locks::Within => output.local = Local::No(first(&output.local, Reason::Subquery)),
                // With LIMIT `local` is `No` already: each shard would lock that many rows. A sorted merge locks only the wanted
                // ones (ADR 38).
                Locks::Apart => {}
                Locks::No | Locks::Otherwise => {
                    self.seen.locks = Locks::Otherwise;
                    output.local = Local::No(first(&output.local, Reason::Locking));
                }
            }
            output.open = Open::None;
        }
        if let Some(refusal) = level.unmovable_subquery {
            output.local = Local::No(refusal);
        }
        Ok(output)
    }

    /// Notes which rows the query locks.
    fn locked(&mut self, query: &Query) {
        let place = match &*query.body {
            SetExpr::Select(select) => Some(select.select_token.0.span.start),
            _ => None,
        };
        let mut sources = self.instances.iter().map(|instance| &instance.source);
        let mut apart = self.depth == self.rows_depth && self.in_view == 0;
        if sources.any(|source| matches!(source, Source::Reference(_) | Source::Home(_))) {
            let mut levels = self.notes.levels.iter();
            let level = levels.find(|level| Some(level.place) == place);
            for lock in &query.locks {
                let (strength, names) = locked(lock);
                let excludes = matches!(strength, Strength::Update | Strength::NoKeyUpdate);
                let mut entries = level.iter().flat_map(|level| &level.scope.entries);
                let copied = entries.any(|entry| {
                    let named = names.is_empty() || names.iter().any(|n| folded(n) == entry.alias);
                    let source = &self.instances[entry.instance].source;
                    named && matches!(source, Source::Reference(_))
                });
                self.seen.locks_copies |= copied && excludes && lock.nonblock.is_none();
                let sharded = |name: &&Ident| {
                    let name = folded(name);
                    let mut entries = level.iter().flat_map(|level| &level.scope.entries);
                    entries.any(|entry| {
                        let source = &self.instances[entry.instance].source;
                        entry.alias == name && matches!(source, Source::Sharded(..))
                    })
                };
                apart &= !names.is_empty() && names.iter().all(sharded);
            }
        }
        let outermost = self.depth == self.rows_depth && self.in_view == 0;
        let within = !outermost && self.in_view == 0 && self.reads_one_sharded(place);
        let documents = outermost && self.locks_documents(query);
        for lock in &query.locks {
            for name in locked(lock).1 {
                self.ident(name);
            }
        }
        self.seen.locks = match self.seen.locks {
            Locks::No if documents => Locks::Documents,
            Locks::No if apart => Locks::Apart,
            Locks::No if within => Locks::Within,
            _ => Locks::Otherwise,
        };
    }

    /// Whether FROM of the SELECT at a place is one sharded table.
    fn reads_one_sharded(&self, place: Option<Location>) -> bool {
        let mut levels = self.notes.levels.iter();
        let level = levels.find(|level| Some(level.place) == place);
        match level.map(|level| level.scope.entries.as_slice()) {
            Some([entry]) => {
                matches!(self.instances[entry.instance].source, Source::Sharded(..))
            }
            _ => false,
        }
    }

    /// Whether a query locks documents and nothing else. False if it has an outer join: PostgreSQL refuses to lock its
    /// nullable side, but only when the statement runs.
    fn locks_documents(&self, query: &Query) -> bool {
        let SetExpr::Select(select) = &*query.body else {
            return false;
        };
        let place = select.select_token.0.span.start;
        let mut levels = self.notes.levels.iter();
        let Some(level) = levels.find(|level| level.place == place) else {
            return false;
        };
        let entries = &level.scope.entries;
        let are_documents = |lock: &LockClause| {
            let (_, names) = locked(lock);
            let is_one = |name: &&Ident| {
                let name = folded(name);
                // Of a name that is not there PostgreSQL says so.
                let mut named = entries.iter().filter(|entry| entry.alias == name);
                named.all(|entry| self.is_documents(entry.instance))
            };
            match names.is_empty() {
                true => entries
                    .iter()
                    .all(|entry| self.is_documents(entry.instance)),
                false => names.iter().all(is_one),
            }
        };
        // One must be of documents: `are_documents` accepts names that are not in FROM.
        let mut instances = entries.iter().map(|entry| entry.instance);
        instances.any(|instance| self.is_documents(instance))
            && query.locks.iter().all(are_documents)
            && select.from.iter().all(joins_plainly)
    }

    /// LIMIT, OFFSET and FETCH; whether there is any but LIMIT ALL.
    fn limits(
        &mut self,
        limit: Option<&LimitClause>,
        fetch: Option<&Fetch>,
        here: &mut ExprContext<'_>,
    ) -> Result<bool, Refusal> {
        let mut limited = false;
        match limit {
            None => {}
            Some(LimitClause::LimitOffset {
                limit,
                offset,
                limit_by,
            }) if limit_by.is_empty() => {
                for expr in limit.iter().chain(offset.as_ref().map(|o| &o.value)) {
                    self.walk(expr, here)?;
                    limited = true;
                }
            }
            Some(_) => return not_understood(),
        }
        if let Some(fetch) = fetch {
            if fetch.percent {
                return not_understood();
            }
            if let Some(expr) = &fetch.quantity {
                self.walk(expr, here)?;
            }
            limited = true;
        }
        Ok(limited)
    }

    fn body<'q>(
        &mut self,
        body: &'q SetExpr,
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'q>,
        order: &'q [OrderByExpr],
    ) -> Result<Output, Refusal> {
        match body {
            SetExpr::Select(select) => self.select(select, outer, ctes, order),
            SetExpr::Query(query) => {
                let output = self.query(query, outer, ctes)?;
                self.outer_order(order, outer, ctes)?;
                Ok(output)
            }
            SetExpr::SetOperation { .. } => self.set_operation(body, outer, ctes, order),
            SetExpr::Values(values) => self.values(values, outer, ctes, order),
            // The parser takes three tokens after TABLE, whatever they are. So `parse` has made a SELECT of it.
            SetExpr::Table(_) => not_understood(),
            SetExpr::Insert(write)
            | SetExpr::Update(write)
            | SetExpr::Delete(write)
            | SetExpr::Merge(write) => {
                self.seen.writes = true;
                self.nested_write(write, ctes)?;
                Ok(Output::opaque())
            }
        }
    }

    /// ORDER BY over something whose columns are only known by name.
    fn outer_order(
        &mut self,
        order: &[OrderByExpr],
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'_>,
    ) -> Result<(), Refusal> {
        let mut level = Level::default();
        self.order(order, &mut ExprContext::around(outer, ctes, &mut level))
    }

    /// UNION, INTERSECT, EXCEPT: chains of them are walked without recursion.
    fn set_operation<'q>(
        &mut self,
        body: &'q SetExpr,
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'q>,
        order: &'q [OrderByExpr],
    ) -> Result<Output, Refusal> {
        let mut arms = Vec::new();
        let mut open = vec![body];
        while let Some(at) = open.pop() {
            match at {
                SetExpr::SetOperation { left, right, .. } => {
                    open.push(right);
                    open.push(left);
                }
                arm => arms.push(arm),
            }
        }
        let mut result: Option<Output> = None;
        for arm in arms {
            let output = self.body(arm, outer, ctes, &[])?;
            result = Some(match result {
                None => output,
                Some(mut so_far) => {
                    so_far.sharded |= output.sharded;
                    so_far.unstable = so_far.unstable.or(output.unstable);
                    so_far
                }
            });
        }
        let mut output = result.unwrap_or_else(Output::opaque);
        self.outer_order(order, outer, ctes)?;
        for column in &mut output.columns {
            (column.node, column.constants, column.key_type) = (None, None, None);
        }
        output.local = Local::No(Refusal::new(Reason::SetOperation));
        output.open = Open::None;
        Ok(output)
    }

    fn values<'q>(
        &mut self,
        values: &'q Values,
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'q>,
        order: &'q [OrderByExpr],
    ) -> Result<Output, Refusal> {
        if values.explicit_row {
            return not_understood();
        }
        let mut level = Level::default();
        let mut here = ExprContext::around(outer, ctes, &mut level);
        for row in &values.rows {
            for expr in &row.content {
                self.walk(expr, &mut here)?;
            }
        }
        self.order(order, &mut here)?;
        let width = values.rows.first().map_or(0, |row| row.content.len());
        let columns = (0..width)
            .map(|position| {
                let constants: Option<Vec<Scalar>> = values
                    .rows
                    .iter()
                    .map(|row| self.scalar(row.content.get(position)?))
                    .collect();
                let key_type = constants.as_deref().and_then(common_type);
                OutColumn {
                    name: format!("column{}", position + 1),
                    node: None,
                    constants: constants.filter(|_| key_type.is_some()),
                    key_type,
                }
            })
            .collect();
        Ok(Output {
            columns,
            complete: true,
            sharded: level.unmovable_subquery.is_some(),
            local: match level.unmovable_subquery {
                Some(refusal) => Local::No(refusal),
                None => Local::Rows,
            },
            ..Output::opaque()
        })
    }
}

/// Whether all joins are inner or cross joins.
fn joins_plainly(from: &TableWithJoins) -> bool {
    let is_plain = |factor: &TableFactor| match factor {
        TableFactor::NestedJoin {
            table_with_joins, ..
        } => joins_plainly(table_with_joins),
        _ => true,
    };
    let mut joins = from.joins.iter();
    is_plain(&from.relation)
        && joins.all(|join| {
            let inner = matches!(
                join.join_operator,
                JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_)
            );
            inner && is_plain(&join.relation)
        })
}

/// The type of a column of constants, where PostgreSQL's choice is certain and exact.
fn common_type(constants: &[Scalar]) -> Option<KeyType> {
    let one = |scalar: &Scalar| match *scalar.form() {
        Scalar::Integer(_) => Some(KeyType::Int8),
        Scalar::Text { as_type, .. } | Scalar::Param { as_type, .. } => KeyType::from_oid(as_type),
        _ => None,
    };
    let first = one(constants.first()?)?;
    let family = |key: KeyType| {
        constants
            .iter()
            .all(|s| one(s).is_some_and(|k| same_family(k, key)))
    };
    family(first).then_some(first)
}
