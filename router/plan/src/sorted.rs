//! Sorted merge: the shards sort their rows and the router merges the sorted streams (ORDER BY, LIMIT, DISTINCT).
//!
//! Each shard gets the statement with the sort keys as extra columns before the client's columns, sorts by these columns
//! and applies the limit. [`mothership_merge::SortedRows`] merges the results. The router compares only types that
//! [`order_of`] knows. All other queries are gathered, also if the values of a Bind do not allow a sorted merge
//! ([`SortedMerge::otherwise`]).

use std::fmt;
use std::sync::Arc;

use mothership_shardmap::{Encoding, KeyBytes, KeyType, TextContext};
use sqlparser::ast::{
    Distinct, Expr, Fetch, GroupByExpr, Ident, LimitClause, LockClause, NonBlock, ObjectName,
    ObjectNamePart, OrderBy, OrderByExpr, OrderByKind, OrderByOptions, OrderBySort, Query,
    SelectItem, SetExpr, Value,
};

use super::condition::{self, Scalar};
use super::context::Params;
use super::expr::{is_constant, strip};
use super::functions::Call;
use super::gather::Gather;
use super::gather::partial::first::{Items, limit_of};
use super::gather::partial::typed::{Types, column_of};
use super::names::folded;
use super::parens;
use super::refuse::Refusal;
use super::scope::{Analysis, Scopes};
use super::slots::{self, Literals};
use mothership_catalog::Collation;
use mothership_merge::{Order, Shape, SortKey, order_of};

/// The most columns of a shard's query. PostgreSQL allows 1664 (`MaxTupleAttributeNumber`); row locks add some.
const MAX_COLUMNS: usize = 1600;

/// The most rows that the router locks one by one over several shards. Each costs a round trip and a savepoint.
const MAX_LOCKED_ROWS: u64 = 1_000;

/// A query whose rows the shards sort.
#[derive(Debug, Clone, PartialEq)]
pub struct SortedMerge {
    /// The query of the shards, without the values of a Bind.
    shard_query: ShardQuery,
    /// OFFSET.
    offset: Option<Scalar>,
    /// LIMIT or FETCH FIRST.
    limit: Option<Scalar>,
    /// A sort key is text. The router compares its bytes, so client_encoding and server_encoding must both be UTF8.
    texts: bool,
    /// The plan for Bind values that do not allow a sorted merge: a gather, or the refusal.
    pub otherwise: Result<Arc<Gather>, Refusal>,
}

// `Gather` implements only PartialEq, so Eq cannot be derived.
impl Eq for SortedMerge {}

/// The query that the shards get, and how their rows are merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardQuery {
    /// The statement.
    pub sql: String,
    /// How many columns the client gets.
    pub columns: usize,
    /// How the rows are merged.
    pub shape: Shape,
}

impl SortedMerge {
    /// Plans a query as a sorted merge. Returns `None` if that is not possible. `otherwise` is the plan without one.
    pub fn plan(
        analysis: &Analysis<'_>,
        query: &Query,
        otherwise: Result<Arc<Gather>, Refusal>,
    ) -> Option<SortedMerge> {
        let SetExpr::Select(select) = &*query.body else {
            return None;
        };
        // The notes on this SELECT, found by its place in the text. A SELECT that was analysed twice has two; then there is no
        // sorted merge.
        let place = select.select_token.0.span.start;
        let mut walks = analysis.notes.levels.iter();
        let level = walks.find(|level| level.place == place)?;
        let ungrouped = matches!(&select.group_by, GroupByExpr::Expressions(by, more) if by.is_empty() && more.is_empty());
        let plain = ungrouped
            && select.having.is_none()
            && select.named_window.is_empty()
            && select.into.is_none()
            && !level.aggregates
            && !level.windows;
        let most_volatile = analysis.seen.calls.keys().next_back();
        let steady = most_volatile.is_none_or(|call| *call <= Call::Time);
        let catalog = analysis.names.catalog;
        if walks.any(|other| other.place == place)
            || query.with.is_some()
            || !plain
            || !steady
            || !level.apart
            // Before version 14 some functions return other types.
            || catalog.server_version < 140_000
            // Operators of users may come before PostgreSQL's own.
            || analysis.context.search_path.iter().any(|schema| schema == "pg_catalog")
        {
            return None;
        }
        let types = Types {
            analysis,
            scopes: Scopes {
                scope: &level.scope,
                outer: None,
            },
        };
        let items = Items::of(&types, select, level.star.as_deref()?)?;
        let order: &[OrderByExpr] = match query.order_by.as_ref().map(|order| &order.kind) {
            None => &[],
            Some(OrderByKind::Expressions(list)) => list,
            Some(OrderByKind::All(_)) => return None,
        };
        let mut keys = Keys::new(&types);
        for entry in order {
            // Like PostgreSQL, ignore an expression that ORDER BY repeats: DISTINCT ON counts the leading keys.
            if let Some(meant) = items.sorted_by(&types, &entry.expr)?
                && !keys.found.iter().any(|key| same(&key.expr, &meant))
            {
                keys.add(&meant, &entry.options)?;
            }
        }
        let ordered = keys.found.len();
        let mut distinct_on = None;
        let once = match &select.distinct {
            None | Some(Distinct::All) => None,
            Some(Distinct::Distinct) => {
                for (item, _) in &items.list {
                    keys.add_equal(item)?;
                }
                // With SELECT DISTINCT, PostgreSQL requires ORDER BY expressions to be in the select list.
                let selected = |key: &Key| items.list.iter().any(|(item, _)| same(item, &key.expr));
                if !keys.found[..ordered].iter().all(selected) {
                    return None;
                }
                Some(keys.found.len())
            }
            Some(Distinct::On(list)) => {
                let mut on: Vec<Expr> = Vec::new();
                for expr in list {
                    // A constant does not split the rows into groups, so it is skipped.
                    if let Some(meant) = items.sorted_by(&types, expr)?
                        && !on.iter().any(|known| same(known, &meant))
                    {
                        on.push(meant);
                    }
                }
                // PostgreSQL requires the DISTINCT ON expressions to be the first ones of ORDER BY.
                let leading = on.len().min(ordered);
                let mut first = keys.found[..leading].iter();
                if !first.all(|key| on.iter().any(|expr| same(expr, &key.expr))) {
                    return None;
                }
                for expr in &on {
                    keys.add_equal(expr)?;
                }
                let leads = |key: &Key| on.iter().any(|expr| same(expr, &key.expr));
                if on.is_empty() || !keys.found[..on.len()].iter().all(leads) {
                    return None;
                }
                distinct_on = Some(on.len());
                Some(on.len())
            }
        };
        let (limit, offset, ties) = limits(query)?;
        let locks = !query.locks.is_empty();
        let limited = limit.is_some() || offset.is_some();
        // The router locks the next row of each shard before it knows whether it needs it. With NOWAIT that could fail for a
        // row that the client never gets.
        let is_nowait = |lock: &LockClause| matches!(lock.nonblock, Some(NonBlock::Nowait));
        let may_fail = limited && ordered > 0 && query.locks.iter().any(is_nowait);
        if locks && (ties || may_fail || select.distinct.is_some()) {
            return None;
        }
        let ties = match ties {
            true if ordered == 0 => return None,
            true => Some(ordered),
            false => None,
        };
        let scalar = |expr: Option<&Expr>| match expr {
            Some(expr) => Some(Some(analysis.scalar(expr)?)),
            None => Some(None),
        };
        if keys.found.len() + items.list.len() > MAX_COLUMNS {
            return None;
        }
        let texts = keys.found.iter().any(|key| key.is_text);
        if texts && catalog.text_order_differs {
            return None;
        }
        let mut sql = keys.asked(query, distinct_on)?;
        // If the shards sort by more keys than ORDER BY, their ties are not those of the statement. Then they get no limit.
        let other_ties = ties.is_some_and(|ties| ties < keys.found.len());
        sql.push_str(&match limit {
            Some(_) if !other_ties => limit_of(query, false)?,
            // This OFFSET is 0, or NULL, which means 0. It mentions the LIMIT and OFFSET expressions, so that the server still
            // infers the types of their parameters.
            _ => match zero_expression(limit, offset)? {
                amounts if amounts.is_empty() => String::new(),
                amounts => format!(" OFFSET ({amounts})"),
            },
        });
        Some(SortedMerge {
            shard_query: ShardQuery {
                sql,
                columns: items.list.len(),
                shape: Shape {
                    keys: keys.found.iter().map(|key| key.sorts).collect(),
                    once,
                    offset: 0,
                    limit: None,
                    ties,
                    locks,
                },
            },
            offset: scalar(offset)?,
            limit: scalar(limit)?,
            texts,
            otherwise,
        })
    }

    /// The query and merge for the values of one Bind. `None` if these values do not allow a sorted merge.
    pub fn with_values(&self, params: &Params<'_>, text: &TextContext) -> Option<ShardQuery> {
        if self.texts && text.encoding != Encoding::Utf8 {
            return None;
        }
        let amount = |scalar: &Option<Scalar>| row_count(scalar.as_ref(), params, text);
        let shard_query = ShardQuery {
            sql: slots::filled(&self.shard_query.sql, &params.literals)?.into_owned(),
            columns: self.shard_query.columns,
            shape: Shape {
                offset: amount(&self.offset)?.unwrap_or(0),
                limit: amount(&self.limit)?,
                ..self.shard_query.shape.clone()
            },
        };
        may_lock(&shard_query.shape).then_some(shard_query)
    }

    /// The plan with the literals of one query string in its slots.
    pub fn with_literals(&self, literals: &Literals<'_>) -> Option<SortedMerge> {
        let filled = |scalar: &Option<Scalar>| match scalar {
            Some(scalar) => Some(Some(slots::scalar(scalar, literals)?)),
            None => Some(None),
        };
        Some(SortedMerge {
            shard_query: ShardQuery {
                sql: slots::filled(&self.shard_query.sql, literals)?.into_owned(),
                ..self.shard_query.clone()
            },
            offset: filled(&self.offset)?,
            limit: filled(&self.limit)?,
            otherwise: match &self.otherwise {
                Ok(gather) => Ok(Arc::new(gather.with_literals(literals)?)),
                Err(refusal) => Err(refusal.clone()),
            },
            ..self.clone()
        })
    }
}

impl ShardQuery {
    /// How many rows the router locks one by one, because of a LIMIT. `None` if each shard locks all its rows.
    pub fn rows_to_lock(&self) -> Option<u64> {
        rows_to_lock(&self.shape)
    }

    /// The format codes of all columns, sort keys included, for the format codes that the client has asked for.
    pub fn formats(&self, asked: &[i16]) -> Vec<i16> {
        // Sort keys are always binary (1).
        let keys = std::iter::repeat_n(1, self.shape.keys.len());
        match asked {
            [] => keys.chain(std::iter::repeat_n(0, self.columns)).collect(),
            [all] => keys
                .chain(std::iter::repeat_n(*all, self.columns))
                .collect(),
            each => keys.chain(each.iter().copied()).collect(),
        }
    }
}

impl fmt::Display for SortedMerge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shard_query.fmt(f)
    }
}

impl fmt::Display for ShardQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sorted({})", self.sql)
    }
}

/// A sort key.
pub(super) struct Key {
    /// The expression of the statement.
    expr: Expr,
    /// The expression that the shards get.
    pub asked: Expr,
    /// How the router compares the values.
    pub sorts: SortKey,
    options: OrderByOptions,
    /// The values are text.
    pub is_text: bool,
}

/// The sort keys of a query.
pub(super) struct Keys<'t, 'a, 'n> {
    types: &'t Types<'a, 'n>,
    /// The keys, the most significant first.
    pub found: Vec<Key>,
}

impl<'t, 'a, 'n> Keys<'t, 'a, 'n> {
    /// Without keys. `types` knows the columns of this SELECT.
    pub fn new(types: &'t Types<'a, 'n>) -> Self {
        Keys {
            types,
            found: Vec::new(),
        }
    }
}

impl Keys<'_, '_, '_> {
    /// Adds a sort key with these options. `None` if the router cannot compare its type.
    pub fn add(&mut self, expr: &Expr, options: &OrderByOptions) -> Option<()> {
        let descending = match options.sort {
            None | Some(OrderBySort::Asc) => false,
            Some(OrderBySort::Desc) => true,
            Some(OrderBySort::Using(_)) => return None,
        };
        let (order, is_text) = self.order(expr)?;
        self.found.push(Key {
            expr: expr.clone(),
            asked: expr.clone(),
            sorts: SortKey {
                order,
                descending,
                nulls_first: options.nulls_first.unwrap_or(descending),
            },
            options: options.clone(),
            is_text,
        });
        Some(())
    }

    /// Adds an expression by which DISTINCT compares rows; its sort order does not matter.
    fn add_equal(&mut self, expr: &Expr) -> Option<()> {
        if self.found.iter().any(|key| same(&key.expr, expr)) {
            return Some(());
        }
        let options = OrderByOptions {
            sort: None,
            nulls_first: None,
        };
        if is_constant(expr) {
            // The same in all rows.
            return Some(());
        }
        if self.order(expr).is_some() {
            return self.add(expr, &options);
        }
        // Texts that are equal have equal bytes, whatever their collation, unless that says otherwise.
        let order = order_of(self.column(expr)?.0, true)?;
        let parts = ["pg_catalog", "C"].map(|part| Ident::with_quote('"', part));
        let bytes = ObjectName(parts.map(ObjectNamePart::Identifier).to_vec());
        self.found.push(Key {
            expr: expr.clone(),
            asked: Expr::Collate {
                expr: Box::new(expr.clone()),
                collation: bytes,
            },
            sorts: SortKey {
                order,
                descending: false,
                nulls_first: false,
            },
            options,
            is_text: true,
        });
        Some(())
    }

    /// The type and collation of a column, if its collation is deterministic.
    fn column(&self, expr: &Expr) -> Option<(u32, &Collation)> {
        let analysis = self.types.analysis;
        let node = analysis.node(expr, &self.types.scopes)?;
        let column = column_of(analysis, node)?;
        let deterministic = column.collation.is_deterministic();
        let oid = analysis.names.catalog.base_type(column.type_oid);
        deterministic.then_some((oid, &column.collation))
    }

    fn order(&self, expr: &Expr) -> Option<(Order, bool)> {
        if let Expr::Identifier(_) | Expr::CompoundIdentifier(_) = strip(expr) {
            let (oid, collation) = self.column(expr)?;
            let bytes = match collation {
                Collation::Bytes => true,
                Collation::Default => self.types.analysis.names.catalog.sorts_bytes(),
                Collation::Named { .. } => false,
            };
            let order = order_of(oid, bytes)?;
            return Some((order, order_of(oid, false).is_none()));
        }
        if let Expr::Collate { expr, collation } = strip(expr) {
            let name = match collation.0.as_slice() {
                [schema, name] if folded(schema.as_ident()?) == "pg_catalog" => name,
                [name] => name,
                // Somebody may have made another one of that name.
                _ => return None,
            };
            let name = name.as_ident()?;
            let bytes = name.quote_style.is_some() && matches!(&*name.value, "C" | "POSIX");
            let order = order_of(self.column(expr)?.0, true)?;
            return bytes.then_some((order, true));
        }
        Some((order_of(self.types.of(expr)?.oid, false)?, false))
    }

    /// The statement as the shards get it, up to its limit.
    fn asked(&self, query: &Query, distinct_on: Option<usize>) -> Option<String> {
        let place = |at: usize| Expr::value(Value::Number((at + 1).to_string(), false));
        let mut query = query.clone();
        let SetExpr::Select(select) = &mut *query.body else {
            return None;
        };
        let own = std::mem::take(&mut select.projection);
        let keys = self
            .found
            .iter()
            .map(|key| SelectItem::UnnamedExpr(key.asked.clone()));
        select.projection = keys.chain(own).collect();
        if let Some(count) = distinct_on {
            select.distinct = Some(Distinct::On((0..count).map(place).collect()));
        }
        let order = self.found.iter().enumerate().map(|(at, key)| OrderByExpr {
            expr: place(at),
            options: key.options.clone(),
            with_fill: None,
        });
        query.order_by = (!self.found.is_empty()).then(|| OrderBy {
            kind: OrderByKind::Expressions(order.collect()),
            interpolate: None,
        });
        query.limit_clause = None;
        query.fetch = None;
        parens::query(&query).ok()
    }
}

/// The value of LIMIT or OFFSET for one Bind. `Some(None)`: no limit. `None`: unknown, or PostgreSQL would raise an error.
#[allow(clippy::option_option)]
pub(super) fn row_count(
    scalar: Option<&Scalar>,
    params: &Params<'_>,
    text: &TextContext,
) -> Option<Option<u64>> {
    let Some(scalar) = scalar else {
        return Some(None);
    };
    match scalar.value(KeyType::Int8, params, text) {
        condition::Value::Null => Some(None),
        condition::Value::Key(key) => u64_of(&key).map(Some),
        // What fails, fails where PostgreSQL says so.
        _ => None,
    }
}

/// How many rows are locked of all.
fn rows_to_lock(shape: &Shape) -> Option<u64> {
    // Rows before the offset are locked as well.
    shape
        .limit
        .filter(|_| shape.locks)
        .map(|limit| match limit {
            0 => 0,
            limit => limit.saturating_add(shape.offset),
        })
}

/// Whether so many rows may be chosen one by one, if it comes to that.
pub(super) fn may_lock(shape: &Shape) -> bool {
    shape.keys.is_empty() || rows_to_lock(shape).is_none_or(|rows| rows <= MAX_LOCKED_ROWS)
}

fn same(a: &Expr, b: &Expr) -> bool {
    strip(a) == strip(b)
}

/// LIMIT or FETCH FIRST, OFFSET, and WITH TIES.
#[allow(clippy::type_complexity)]
pub(super) fn limits(query: &Query) -> Option<(Option<&Expr>, Option<&Expr>, bool)> {
    let (limit, offset) = match &query.limit_clause {
        None => (None, None),
        Some(LimitClause::LimitOffset { limit, offset, .. }) => {
            (limit.as_ref(), offset.as_ref().map(|offset| &offset.value))
        }
        Some(LimitClause::OffsetCommaLimit { .. }) => return None,
    };
    Some(match &query.fetch {
        None => (limit, offset, false),
        Some(Fetch {
            quantity: Some(rows),
            with_ties,
            ..
        }) => (Some(rows), offset, *with_ties),
        Some(_) => return None,
    })
}

/// An SQL expression that is 0 or NULL and contains both expressions, so that their parameters keep their types.
fn zero_expression(limit: Option<&Expr>, offset: Option<&Expr>) -> Option<String> {
    let zero = |expr: &Expr| Some(format!("0 * {}::bigint", parens::expr(expr).ok()?));
    let parts = limit.into_iter().chain(offset).map(zero);
    Some(parts.collect::<Option<Vec<String>>>()?.join(" + "))
}

/// Decodes an int8 key (big-endian, sign bit flipped). `None` if it is negative.
fn u64_of(key: &KeyBytes) -> Option<u64> {
    let bytes: [u8; 8] = key.as_bytes().try_into().ok()?;
    let value = (u64::from_be_bytes(bytes) ^ (1 << 63)) as i64;
    u64::try_from(value).ok()
}
