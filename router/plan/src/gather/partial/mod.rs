//! Partial aggregates: a SELECT with aggregates whose joins the shards may compute apart is computed by them group by
//! group, and the residue puts their groups together.
//!
//! A level comes in; a query for the shards and the SELECT that reads its rows go out. Each aggregate becomes a column
//! of the shards' query and an aggregate of that column, so that any division of the rows gives the same; what an
//! aggregate sees only once (`DISTINCT`) becomes one more column that the shards group by. If something is not known
//! to be so, there is no push, and rows are gathered as they are.

mod combined;
pub(crate) mod first;
mod locked;
mod movable;
mod named;
pub(crate) mod typed;

use std::ops::ControlFlow;

use sqlparser::ast::{
    Distinct, Expr, GroupByExpr, Ident, ObjectName, ObjectNamePart, OrderByExpr, Query, Select,
    SelectItem, TableFactor, TableWithJoins, Value,
};
use sqlparser::tokenizer::Location;

use crate::KeyedBy;
use crate::documents;
use crate::expr::{is_constant, strip};
use crate::functions::{self, Call};
use crate::grammar;
use crate::names::folded;
use crate::parens;
use crate::scope::{Analysis, Node, Scopes, Source};
use crate::slots::Slot;
use crate::visit::{Look, any_expr, look};
use mothership_catalog::Handed;

use super::fragment::Fetched;
use super::notes::Level;
use super::{CTE, Fragment, Holders, Narrowing, TEXT};
pub(super) use locked::locked;
use movable::{is_bare_call, is_harmless, keys, movable_from};
use typed::{Types, column_of, name_of};

/// A level that the shards compute.
pub(super) struct Pushed {
    /// What they are asked.
    pub fragment: Fragment,
    /// Its columns.
    pub columns: Vec<Fetched>,
    /// The SELECT that reads them.
    pub select: Select,
    /// Its ORDER BY, if it has one of its own.
    pub order: Vec<OrderByExpr>,
    /// The relations and SELECTs that are in the fragment now.
    pub swallowed: Vec<Location>,
    /// The columns of tables that it groups by, with its columns that show them.
    pub nodes: Vec<(Node, usize)>,
}

/// The levels of a statement that are pushed down, from the outermost inwards.
pub(super) fn all(
    analysis: &Analysis<'_>,
    query: &Query,
    cte: impl Fn(usize) -> String,
) -> Vec<(Location, Pushed)> {
    struct Find<'a, 'n, F> {
        analysis: &'a Analysis<'n>,
        cte: F,
        own: Vec<(Location, Vec<OrderByExpr>, Option<String>)>,
        found: Vec<(Location, Pushed)>,
    }
    impl<F: Fn(usize) -> String> Look for Find<'_, '_, F> {
        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            use sqlparser::ast::{OrderByKind, SetExpr};
            if let SetExpr::Select(select) = &*query.body {
                let list = match query.order_by.as_ref().map(|order| &order.kind) {
                    Some(OrderByKind::Expressions(list)) => list.clone(),
                    _ => Vec::new(),
                };
                let place = select.select_token.0.span.start;
                // MongoDB takes only what is no expression.
                let sums = self.analysis.has_documents();
                self.own.push((place, list, first::limit_of(query, sums)));
            }
            ControlFlow::Continue(())
        }
        fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
            let place = select.select_token.0.span.start;
            let mut pushed = self.found.iter();
            if pushed.any(|(_, pushed)| pushed.swallowed.contains(&place)) {
                return ControlFlow::Continue(());
            }
            let own = self.own.iter().find(|(at, _, _)| *at == place);
            let own = own.map(|(_, order, limit)| (order.as_slice(), limit.as_deref()));
            let own = own.unwrap_or_default();
            let cte = (self.cte)(self.found.len());
            self.found
                .extend(push(self.analysis, select, own, &cte).map(|pushed| (place, pushed)));
            ControlFlow::Continue(())
        }
    }
    let mut find = Find {
        analysis,
        cte,
        own: Vec::new(),
        found: Vec::new(),
    };
    let _ = look(query, &mut find);
    find.found
}

/// Pushes a SELECT down, if that is known to give the same. `order` and `limit` are those of its query, `cte` the name of its rows.
fn push(
    analysis: &Analysis<'_>,
    select: &Select,
    (order, limit): (&[OrderByExpr], Option<&str>),
    cte: &str,
) -> Option<Pushed> {
    let place = select.select_token.0.span.start;
    let walks: Vec<&Level> = analysis
        .notes
        .levels
        .iter()
        .filter(|level| level.place == place)
        .collect();
    let level = *walks.first()?;
    let may = |level: &&Level| level.apart && level.star.is_some() && !level.windows;
    // Before 14 other names and types come out of some functions.
    let usual = analysis.names.catalog.server_version >= 140_000
        && !analysis
            .context
            .search_path
            .iter()
            .any(|s| s == "pg_catalog");
    if !usual || !walks.iter().all(may) || place.line == 0 {
        return None;
    }
    let keys = walks.iter().map(|level| keys(analysis, level));
    let keys: Vec<KeyedBy> = keys.collect::<Option<_>>()?;
    let swallowed = movable_from(analysis, level, select, Call::Harmless)?;
    let scopes = Scopes {
        scope: &level.scope,
        outer: None,
    };
    let types = Types { analysis, scopes };
    let mut pushing = Pushing {
        types,
        cte,
        columns: Vec::new(),
        groups: Vec::new(),
        asked: 0,
        partials: 0,
        rows: !level.aggregates,
    };
    let whole = select;
    let (select, order, rest) = match limit {
        _ if level.aggregates => pushing.level(select, order)?,
        Some(limit) => pushing.first_rows(select, order, limit, level.star.as_deref()?)?,
        None => return None,
    };
    if pushing.columns.is_empty() {
        return None;
    }
    let list = pushing.columns.iter().enumerate();
    let list: Vec<String> = list
        .map(|(number, column)| match pushing.rows {
            // What the shards sort by must not mean these columns, which may be texts of what it means.
            true => format!("{} AS {CTE}c{}", column.sql, number + 1),
            false => column.sql.clone(),
        })
        .collect();
    let mut sql = format!("SELECT {}{rest}", list.join(", "));
    let groups = pushing.groups.iter().filter(|_| level.aggregates);
    let nodes = groups.filter_map(|(expr, column)| Some((analysis.node(expr, &scopes)?, *column)));
    let nodes: Vec<(Node, usize)> = nodes.collect();
    // Groups that lie on one shard are finished there, unless the shards divide them further, as by what DISTINCT counts.
    let are_whole = pushing.groups.len() == pushing.asked;
    let having = whole.having.as_ref().filter(|having| {
        are_whole && is_divided(analysis, level, &nodes) && is_the_same_everywhere(analysis, having)
    });
    if let Some(having) = having {
        sql.push_str(&format!(" HAVING {}", parens::expr(having).ok()?));
    }
    // MongoDB computes what it computes exactly, and no tables of PostgreSQL beside it.
    let context = analysis.context;
    let takes = || {
        (has_types(analysis) || !sql.contains('$'))
            && documents::takes(analysis.names, context, &context.parameter_types, &sql)
    };
    if analysis.has_documents() && !takes() {
        return None;
    }
    let filtered = having.is_some() || whole.selection.is_some();
    Some(Pushed {
        fragment: Fragment {
            table: keys.first()?.table.clone(),
            sql,
            of: Holders::Keys(keys),
            elements: pushing.columns.iter().map(|c| c.element).collect(),
            types: pushing
                .columns
                .iter()
                .map(|c| c.fetched.handed.sent_as())
                .collect(),
            narrowing: Narrowing {
                filtered,
                by: Vec::new(),
            },
            writes: false,
            locks: None,
        },
        columns: pushing.columns.into_iter().map(|c| c.fetched).collect(),
        select,
        order,
        swallowed,
        nodes,
    })
}

/// Whether the types of all parameters are known. Else they are what the whole statement makes of them, and that may be
/// another than a part of it does.
fn has_types(analysis: &Analysis<'_>) -> bool {
    let numbers = analysis.placeholders.iter();
    let count = numbers.map(|(_, number)| usize::from(*number)).max();
    let types = analysis.context.parameter_types.get(..count.unwrap_or(0));
    types.is_some_and(|types| types.iter().all(|oid| *oid != 0))
}

/// Whether rows of different shards are never in one group: the whole key of the only table is among what groups have
/// in common.
fn is_divided(analysis: &Analysis<'_>, level: &Level, nodes: &[(Node, usize)]) -> bool {
    let [entry] = level.scope.entries.as_slice() else {
        return false;
    };
    let Source::Sharded(_, keyed) = &analysis.instances[entry.instance].source else {
        return false;
    };
    let grouped = |column: usize| {
        let node = (entry.instance, column);
        nodes.iter().any(|(grouped, _)| *grouped == node)
    };
    let mut columns = keyed.columns.iter();
    keyed.routable && columns.all(|column| column.is_some_and(grouped))
}

/// Whether an expression over groups calls nothing that differs between servers.
fn is_the_same_everywhere(analysis: &Analysis<'_>, expr: &Expr) -> bool {
    let differs = |expr: &Expr| match expr {
        Expr::Identifier(ident) => is_bare_call(ident),
        Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => true,
        expr => !is_harmless(analysis, expr),
    };
    !any_expr(expr, differs)
}

/// A column of the shards' query.
struct Column {
    sql: String,
    element: u32,
    fetched: Fetched,
}

struct Pushing<'a, 'n> {
    types: Types<'a, 'n>,
    cte: &'a str,
    columns: Vec<Column>,
    /// What the shards group by, with the column that shows it; whether the residue groups by it, too.
    groups: Vec<(Expr, usize)>,
    /// How many of these GROUP BY asks for; they come first.
    asked: usize,
    /// How many columns are aggregates.
    partials: usize,
    /// Rows and no groups: every column is there.
    rows: bool,
}

impl Pushing<'_, '_> {
    /// The level of the residue, and FROM and WHERE and GROUP BY of the shards' query.
    fn level(
        &mut self,
        select: &Select,
        order: &[OrderByExpr],
    ) -> Option<(Select, Vec<OrderByExpr>, String)> {
        let GroupByExpr::Expressions(by, modifiers) = &select.group_by else {
            return None;
        };
        if !modifiers.is_empty() || !select.named_window.is_empty() || select.into.is_some() {
            return None;
        }
        // Without grouping sets DISTINCT says nothing, and what has some is not taken.
        let (by, _) = grammar::grouped(by);
        for expr in by {
            let expr = self.grouped(expr, &select.projection)?;
            self.key(&expr)?;
        }
        let grouped: Vec<usize> = self.groups.iter().map(|(_, column)| *column).collect();
        self.asked = grouped.len();
        let mut names = Vec::new();
        let mut projection = Vec::new();
        for item in &select.projection {
            let (expr, name) = match item {
                SelectItem::UnnamedExpr(expr) => (expr, named::name(expr)?),
                SelectItem::ExprWithAlias { expr, alias } => (expr, folded(alias)),
                _ => return None,
            };
            projection.push(SelectItem::ExprWithAlias {
                expr: self.combined(expr, &grouped)?,
                alias: Ident::with_quote('"', &name),
            });
            names.push(name);
        }
        let having = match &select.having {
            Some(having) => Some(self.combined(having, &grouped)?),
            None => None,
        };
        let distinct = match &select.distinct {
            Some(Distinct::On(list)) => {
                let list = list.iter().map(|expr| self.ordered(expr, &names, &grouped));
                Some(Distinct::On(list.collect::<Option<_>>()?))
            }
            other => other.clone(),
        };
        let order = order.iter().map(|item| {
            Some(OrderByExpr {
                expr: self.ordered(&item.expr, &names, &grouped)?,
                ..item.clone()
            })
        });
        let order = order.collect::<Option<Vec<_>>>()?;
        // Without either, every shard would have a row for each of its rows, or one for none.
        if by.is_empty() && self.partials == 0 && self.groups.is_empty() {
            return None;
        }
        let mut rest = parens::from(&select.from, select.selection.as_ref()).ok()?;
        let by_shards = self.groups.iter().map(|(expr, _)| parens::expr(expr).ok());
        let by_shards = by_shards.collect::<Option<Vec<String>>>()?;
        if !by_shards.is_empty() {
            rest.push_str(&format!(" GROUP BY {}", by_shards.join(", ")));
        }
        let by_residue = grouped.iter().map(|column| self.reference(*column));
        let residue = Select {
            distinct,
            projection,
            from: vec![stand_in(self.cte)],
            selection: None,
            group_by: GroupByExpr::Expressions(by_residue.collect(), Vec::new()),
            having,
            ..select.clone()
        };
        Some((residue, order, rest))
    }

    /// What an entry of GROUP BY means: an input column, an output column, an expression.
    fn grouped(&self, expr: &Expr, items: &[SelectItem]) -> Option<Expr> {
        let output = |item: &SelectItem| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                Some(strip(expr).clone())
            }
            _ => None,
        };
        match strip(expr) {
            Expr::Value(value) => match &value.value {
                Value::Number(digits, false) => {
                    // Stars before it would move its place.
                    let items = items.iter().map(output).collect::<Option<Vec<_>>>()?;
                    let at = digits.parse::<usize>().ok()?.checked_sub(1)?;
                    items.get(at).cloned()
                }
                Value::Placeholder(text) => {
                    if Slot::of_placeholder(text).is_some() {
                        self.types.analysis.looked.value.set(true);
                    }
                    None
                }
                _ => None,
            },
            Expr::Identifier(ident)
                if self.types.analysis.node(expr, &self.types.scopes).is_none() =>
            {
                let name = folded(ident);
                let mut meant = items.iter().filter(|item| match item {
                    SelectItem::ExprWithAlias { alias, .. } => folded(alias) == name,
                    SelectItem::UnnamedExpr(expr) => {
                        named::name(expr).is_none_or(|known| known == name)
                    }
                    _ => true,
                });
                match (meant.next(), meant.next()) {
                    (Some(item), None) => output(item),
                    _ => None,
                }
            }
            expr => Some(expr.clone()),
        }
    }

    /// An entry of ORDER BY: an output column by name or place, else an expression.
    fn ordered(&mut self, expr: &Expr, names: &[String], grouped: &[usize]) -> Option<Expr> {
        match strip(expr) {
            Expr::Value(_) => Some(strip(expr).clone()),
            Expr::Identifier(ident) => {
                let name = folded(ident);
                match names.iter().position(|known| *known == name) {
                    Some(at) => Some(Expr::value(Value::Number((at + 1).to_string(), false))),
                    None => self.combined(expr, grouped),
                }
            }
            expr => self.combined(expr, grouped),
        }
    }

    /// The column of the shards' query for something that they group by.
    fn key(&mut self, expr: &Expr) -> Option<usize> {
        let expr = strip(expr);
        if let Some(known) = self.known_key(expr) {
            return Some(known);
        }
        let (sql, element, handed) = self.handed(expr)?;
        let column = self.add(sql, element, handed);
        self.groups.push((expr.clone(), column));
        Some(column)
    }

    fn known_key(&self, expr: &Expr) -> Option<usize> {
        let node = |expr: &Expr| self.types.analysis.node(expr, &self.types.scopes);
        let same = |(known, _): &&(Expr, usize)| match (node(known), node(expr)) {
            (Some(a), Some(b)) => a == b,
            _ => strip(known) == strip(expr),
        };
        self.groups.iter().find(same).map(|(_, column)| *column)
    }

    /// How the value of an expression is handed over: what the shards select, of which type.
    fn handed(&self, expr: &Expr) -> Option<(String, u32, Handed)> {
        if !self.is_movable(expr) || is_constant(expr) {
            return None;
        }
        let text = parens::expr(expr).ok()?;
        let analysis = self.types.analysis;
        if let Expr::Identifier(_) | Expr::CompoundIdentifier(_) = expr {
            if is_merged(&self.types, expr) {
                return None;
            }
            let column = column_of(analysis, analysis.node(expr, &self.types.scopes)?)?;
            if column.handed.loses_xml {
                return None;
            }
            let handed = column.handed.clone();
            return Some(if handed.as_text {
                (format!("{text}::text"), TEXT, handed)
            } else {
                (text, column.type_oid, handed)
            });
        }
        let typed = self.types.of(expr).filter(|typed| !typed.modified)?;
        let name = name_of(typed.oid)?;
        Some((format!("{text}::{name}"), typed.oid, Handed::plain(name)))
    }

    fn is_movable(&self, expr: &Expr) -> bool {
        is_movable(&self.types, expr)
    }

    fn add(&mut self, sql: String, element: u32, handed: Handed) -> usize {
        let column = self.columns.len();
        self.columns.push(Column {
            sql,
            element,
            fetched: Fetched {
                name: format!("c{}", column + 1),
                known: String::new(),
                handed,
            },
        });
        column
    }

    /// A column of the stand-in. It is qualified: no output column is called so.
    fn reference(&self, column: usize) -> Expr {
        let name = &self.columns[column].fetched.name;
        Expr::CompoundIdentifier(vec![Ident::new(self.cte), Ident::new(name)])
    }
}

/// FROM of the level in the residue.
fn stand_in(cte: &str) -> TableWithJoins {
    TableWithJoins {
        relation: TableFactor::Table {
            name: ObjectName(vec![ObjectNamePart::Identifier(Ident::new(cte))]),
            alias: None,
            args: None,
            with_hints: Vec::new(),
            version: None,
            with_ordinality: false,
            partitions: Vec::new(),
            json_path: None,
            sample: None,
            index_hints: Vec::new(),
        },
        joins: Vec::new(),
    }
}

/// A column of USING may be of another type than the one that it shows.
fn is_merged(types: &Types<'_, '_>, expr: &Expr) -> bool {
    let merged = &types.scopes.scope.merged;
    matches!(expr, Expr::Identifier(ident) if merged.iter().any(|(name, _)| *name == folded(ident)))
}

/// Whether an expression means the same on a shard: columns of this level, constants, harmless calls.
fn is_movable(types: &Types<'_, '_>, expr: &Expr) -> bool {
    let analysis = types.analysis;
    let is_movable = |expr: &Expr| match expr {
        Expr::Identifier(ident) => {
            !is_bare_call(ident)
                && !is_merged(types, expr)
                && analysis.node(expr, &types.scopes).is_some()
        }
        Expr::CompoundIdentifier(_) => analysis.node(expr, &types.scopes).is_some(),
        Expr::Subquery(_)
        | Expr::Exists { .. }
        | Expr::InSubquery { .. }
        | Expr::CompoundFieldAccess { .. } => false,
        Expr::Function(function) => {
            let name = function
                .name
                .0
                .last()
                .and_then(|p| p.as_ident())
                .map(folded);
            is_harmless(analysis, expr)
                && name.is_some_and(|name| !functions::is_aggregate(analysis.names, None, &name))
        }
        _ => true,
    };
    !any_expr(expr, |expr| !is_movable(expr))
}
