//! A query inside of a statement that locks rows: the shards lock them, until there are as many as it wants, and the
//! residue reads what they have locked.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, GroupByExpr, LockClause, NonBlock, OrderByExpr, OrderByKind, Query, Select, SetExpr,
};
use sqlparser::tokenizer::Location;

use crate::functions::Call;
use crate::gather::notes::Level;
use crate::gather::{Ending, Locked, Root};
use crate::parens;
use crate::scope::{Analysis, Scopes, Source};
use crate::sorted::{self, Keys};
use crate::visit::{Look, look};

use super::first::{Items, limit_of};
use super::movable::{keys, movable_from};
use super::typed::Types;
use super::{CTE, Fragment, Holders, Narrowing, Pushed, Pushing};

/// The only query of the statement that locks rows, with its place, pushed down. `cte` is the name of its rows. `None` if
/// other rows might be locked, or the rest of the statement could notice that they are locked first.
pub(in crate::gather) fn locked(
    analysis: &Analysis<'_>,
    root: Root<'_>,
    ending: &Ending,
    cte: &str,
) -> Option<(Location, Pushed)> {
    if !matches!(ending, Ending::Answer | Ending::Write(_)) || analysis.seen.views {
        return None;
    }
    let query = &only_locking(root)?;
    let SetExpr::Select(select) = &*query.body else {
        return None;
    };
    let place = select.select_token.0.span.start;
    let mut walks = analysis.notes.levels.iter();
    let level = walks.find(|level| level.place == place)?;
    if walks.any(|other| other.place == place) || !is_plain(analysis, query, select, level) {
        return None;
    }
    let by = keys(analysis, level)?;
    let swallowed = movable_from(analysis, level, select, Call::Time)?;
    let scopes = Scopes {
        scope: &level.scope,
        outer: None,
    };
    let types = Types { analysis, scopes };
    let star = level.star.as_deref()?;
    let order: &[OrderByExpr] = match query.order_by.as_ref().map(|order| &order.kind) {
        None => &[],
        Some(OrderByKind::Expressions(list)) => list,
        Some(OrderByKind::All(_)) => return None,
    };
    let mut pushing = Pushing {
        types: Types { analysis, scopes },
        cte,
        columns: Vec::new(),
        groups: Vec::new(),
        asked: 0,
        partials: 0,
        rows: true,
    };
    let (residue, by_residue, rest) = pushing.first_rows(select, order, "", star)?;
    let (limit, offset, ties) = sorted::limits(query)?;
    let mut sorts = Keys::new(&types);
    if limit.is_some() {
        let items = Items::of(&types, select, star)?;
        for entry in order {
            if let Some(meant) = items.sorted_by(&types, &entry.expr)? {
                sorts.add(&meant, &entry.options)?;
            }
        }
    }
    // A shard's next row is locked before it is known whether it is wanted: that must not be an error.
    let fails = |lock: &LockClause| matches!(lock.nonblock, Some(NonBlock::Nowait));
    let ordered = !sorts.found.is_empty();
    if ties || ordered && query.locks.iter().any(fails) {
        return None;
    }
    let sorted_by = sorts.found.iter().map(|key| parens::expr(&key.asked).ok());
    let sorted_by = sorted_by.collect::<Option<Vec<String>>>()?;
    let columns = pushing.columns.iter().enumerate();
    // What the shards sort by must not mean these columns, which may be texts of what it means.
    let columns = columns.map(|(at, column)| format!("{} AS {CTE}c{}", column.sql, at + 1));
    let list: Vec<String> = sorted_by.into_iter().chain(columns).collect();
    let amount = match limit {
        Some(_) => limit_of(query, false)?,
        None => String::new(),
    };
    let locks = parens::locks(&query.locks).ok()?;
    let scalar = |expr| Some(Box::new(analysis.scalar(expr)?));
    let locks_rows = Locked {
        keys: sorts.found.iter().map(|key| key.sorts).collect(),
        texts: sorts.found.iter().any(|key| key.is_text),
        limit: match limit {
            Some(limit) => Some(scalar(limit)?),
            None => None,
        },
        // Of all rows the residue leaves them out.
        offset: match offset.filter(|_| limit.is_some()) {
            Some(offset) => Some(scalar(offset)?),
            None => None,
        },
    };
    let fragment = Fragment {
        table: by.table.clone(),
        sql: format!("SELECT {}{rest}{amount}{locks}", list.join(", ")),
        of: Holders::Keys(vec![by]),
        elements: pushing.columns.iter().map(|c| c.element).collect(),
        types: pushing
            .columns
            .iter()
            .map(|c| c.fetched.handed.sent_as())
            .collect(),
        narrowing: Narrowing {
            filtered: true,
            by: Vec::new(),
        },
        writes: false,
        locks: Some(locks_rows),
    };
    Some((
        place,
        Pushed {
            fragment,
            columns: pushing.columns.into_iter().map(|c| c.fetched).collect(),
            select: residue,
            order: by_residue,
            swallowed,
            nodes: Vec::new(),
        },
    ))
}

/// Whether its rows are rows of one sharded table, each by itself.
fn is_plain(analysis: &Analysis<'_>, query: &Query, select: &Select, level: &Level) -> bool {
    let ungrouped = matches!(&select.group_by, GroupByExpr::Expressions(by, more) if by.is_empty() && more.is_empty());
    let of_one = match level.instances.clone().collect::<Vec<_>>().as_slice() {
        [one] => matches!(analysis.instances[*one].source, Source::Sharded(..)),
        _ => false,
    };
    let path = &analysis.context.search_path;
    of_one
        && ungrouped
        && level.apart
        && !level.aggregates
        && !level.windows
        && select.having.is_none()
        && query.with.is_none()
        && level.place.line != 0
        && !analysis.has_documents()
        && analysis.names.catalog.server_version >= 140_000
        && !path.iter().any(|schema| schema == "pg_catalog")
}

/// The query that locks rows, if there is one only. None, too, where PostgreSQL stops before it has taken all of its rows: in
/// EXISTS, and below a LIMIT. It locks no more than it takes.
fn only_locking(root: Root<'_>) -> Option<Query> {
    struct Find {
        locking: Vec<Query>,
        stops: bool,
    }
    impl Look for Find {
        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            match query.locks.is_empty() {
                true => self.stops |= query.limit_clause.is_some() || query.fetch.is_some(),
                false => self.locking.push(query.clone()),
            }
            ControlFlow::Continue(())
        }
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            self.stops |= matches!(expr, Expr::Exists { .. });
            ControlFlow::Continue(())
        }
    }
    let mut find = Find {
        locking: Vec::new(),
        stops: false,
    };
    let _ = match root {
        Root::Query(query) | Root::Source(query, _) => look(query, &mut find),
        Root::Write(statement, _) => look(statement, &mut find),
    };
    match (find.locking.pop(), find.locking.is_empty(), find.stops) {
        (Some(query), true, false) => Some(query),
        _ => None,
    }
}
