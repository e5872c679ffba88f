//! The first rows: a SELECT of columns with LIMIT is sorted and limited on each shard, and the residue sorts and
//! limits what they send once more.
//!
//! Sound for any type and collation, because both sorts are PostgreSQL's, as long as the shards' texts have one order. A shard sends as many rows as the limit and
//! the offset together, so no row among the first ones is missing. What makes other rows of these (functions that
//! return sets, windows, DISTINCT) has no limit on a shard.

use sqlparser::ast::{
    CastKind, Expr, FunctionArguments, GroupByExpr, Ident, LimitClause, OrderByExpr, Query, Select,
    SelectItem, SelectItemQualifiedWildcardKind, Value,
};

use crate::expr::{cast_oid, is_constant, strip};
use crate::gather::BOOL;
use crate::names::folded;
use crate::parens;
use crate::query::OutColumn;
use crate::slots::Slot;
use mothership_catalog::Handed;

use super::typed::{Types, name_of};
use super::{Pushing, is_movable, named, stand_in};

/// Built-in functions that give one value for each row, whatever their arguments.
const SCALAR: [&str; 22] = [
    "abs",
    "ceil",
    "coalesce",
    "concat",
    "date_part",
    "date_trunc",
    "floor",
    "greatest",
    "initcap",
    "least",
    "left",
    "length",
    "lower",
    "md5",
    "nullif",
    "right",
    "round",
    "sign",
    "substr",
    "to_char",
    "trunc",
    "upper",
];

/// How many rows a shard has to send of a query with LIMIT or FETCH, as the end of its own query. `None` if it has no
/// limit, or one that is not a plain value. `sums`: of numbers their sum is told, which is another one for each statement
/// of a shape.
pub(crate) fn limit_of(query: &Query, sums: bool) -> Option<String> {
    let (limit, offset) = match &query.limit_clause {
        None => (None, None),
        Some(LimitClause::LimitOffset { limit, offset, .. }) => {
            (limit.as_ref(), offset.as_ref().map(|offset| &offset.value))
        }
        Some(LimitClause::OffsetCommaLimit { .. }) => return None,
    };
    let one = Expr::value(Value::Number("1".to_owned(), false));
    let (limit, ties) = match (&query.fetch, limit) {
        (None, Some(limit)) => (limit, false),
        (Some(fetch), None) if !fetch.percent => {
            (fetch.quantity.as_ref().unwrap_or(&one), fetch.with_ties)
        }
        _ => return None,
    };
    // MongoDB takes only what is no expression.
    let value = |expr: &Expr| match is_amount(expr, !sums) {
        true => parens::expr(expr).ok(),
        false => None,
    };
    let sum = offset.filter(|_| sums);
    let sum = sum.and_then(|offset| number(limit)?.checked_add(number(offset)?));
    let limit = value(limit)?;
    let amount = match offset {
        None => limit,
        Some(_) if let Some(sum) = sum => sum.to_string(),
        // Negative ones fail in the residue, whichever PostgreSQL looks at first. NULL is no limit, and none of these
        // lets it through. The sum may be larger than any bigint, but there are not so many rows.
        Some(offset) => format!(
            "(CASE WHEN {limit}::bigint IS NOT NULL THEN \
             greatest(0, least({limit}::bigint::numeric + {}::bigint, 9223372036854775807))::bigint END)",
            value(offset)?
        ),
    };
    Some(match ties {
        true => format!(" FETCH FIRST {amount} ROWS WITH TIES"),
        false => format!(" LIMIT {amount}"),
    })
}

/// Whether it is a plain value, or with `casts` one that is cast to an integer: so SQLAlchemy writes its parameters.
fn is_amount(expr: &Expr, casts: bool) -> bool {
    match strip(expr) {
        Expr::Value(_) => true,
        Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr,
            data_type,
            format: None,
        } => casts && matches!(cast_oid(data_type), Some(20 | 21 | 23)) && is_amount(expr, casts),
        _ => false,
    }
}

/// A number as it is written, without a sign.
fn number(expr: &Expr) -> Option<i64> {
    match strip(expr) {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, false) => digits.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

impl Pushing<'_, '_> {
    /// The SELECT of the residue, its ORDER BY, and what follows the list in the shards' query.
    pub(super) fn first_rows(
        &mut self,
        select: &Select,
        order: &[OrderByExpr],
        limit: &str,
        star: &[OutColumn],
    ) -> Option<(Select, Vec<OrderByExpr>, String)> {
        // What one shard would send first is not what another would.
        let catalog = self.types.analysis.names.catalog;
        if catalog.text_order_differs && !order.is_empty() {
            return None;
        }
        let plain = matches!(&select.group_by, GroupByExpr::Expressions(by, more) if by.is_empty() && more.is_empty());
        let windows = select.named_window.is_empty();
        if !plain || !windows || select.distinct.is_some() || select.into.is_some() {
            return None;
        }
        let items = Items::of(&self.types, select, star)?;
        let list = &items.list;
        let names: Vec<String> = list.iter().map(|(_, name)| name.clone()).collect();
        let mut projection = Vec::new();
        for (expr, name) in list {
            projection.push(SelectItem::ExprWithAlias {
                expr: self.combined(expr, &[])?,
                alias: Ident::with_quote('"', name),
            });
        }
        let mut by_shards = Vec::new();
        let mut by_residue = Vec::new();
        for item in order {
            by_residue.push(OrderByExpr {
                expr: self.ordered(&item.expr, &names, &[])?,
                ..item.clone()
            });
            if let Some(expr) = items.sorted_by(&self.types, &item.expr)? {
                by_shards.push(OrderByExpr {
                    expr,
                    ..item.clone()
                });
            }
        }
        if self.columns.is_empty() {
            // The rows still count.
            self.add("true".to_owned(), BOOL, Handed::plain(name_of(BOOL)?));
        }
        let mut rest = parens::from(&select.from, select.selection.as_ref()).ok()?;
        if !by_shards.is_empty() {
            rest.push_str(&format!(" ORDER BY {}", parens::order(&by_shards).ok()?));
        } else if !order.is_empty() || limit.starts_with(" FETCH") {
            // By constants only: all rows are ties.
            return None;
        }
        rest.push_str(limit);
        let residue = Select {
            projection,
            from: vec![stand_in(self.cte)],
            selection: None,
            ..select.clone()
        };
        Some((residue, by_residue, rest))
    }

    /// Whether a call gives one value for each row.
    pub(super) fn is_scalar(name: &str, arguments: &FunctionArguments) -> bool {
        matches!(arguments, FunctionArguments::List(_)) && SCALAR.contains(&name)
    }
}

/// The select list with `*` written out, and the names of its columns.
pub(crate) struct Items {
    /// Each with its name.
    pub list: Vec<(Expr, String)>,
}

impl Items {
    /// That of a SELECT. `None` if a column or a name is not certain.
    pub(crate) fn of(types: &Types<'_, '_>, select: &Select, star: &[OutColumn]) -> Option<Items> {
        let mut list = Vec::new();
        for item in &select.projection {
            match item {
                SelectItem::UnnamedExpr(expr) => list.push((expr.clone(), named::name(expr)?)),
                SelectItem::ExprWithAlias { expr, alias } => {
                    list.push((expr.clone(), folded(alias)));
                }
                SelectItem::Wildcard(_) => {
                    for column in star {
                        list.push((of_star(types, column)?, column.name.clone()));
                    }
                }
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    _,
                ) => {
                    let alias = folded(name.0.last()?.as_ident()?);
                    let mine = |column: &&OutColumn| {
                        let of = |(instance, _)| alias_of(types, instance) == Some(alias.as_str());
                        column.node.is_some_and(of)
                    };
                    let columns: Vec<_> = star.iter().filter(mine).collect();
                    // What USING has merged is not where it was.
                    let merged = !types.scopes.scope.merged.is_empty();
                    if name.0.len() != 1 || columns.is_empty() || merged {
                        return None;
                    }
                    for column in columns {
                        list.push((of_star(types, column)?, column.name.clone()));
                    }
                }
                _ => return None,
            }
        }
        Some(Items { list })
    }

    /// What an entry of ORDER BY or DISTINCT ON means, as the shards sort by it; nothing where it is a constant.
    #[allow(clippy::option_option)]
    pub(crate) fn sorted_by(&self, types: &Types<'_, '_>, expr: &Expr) -> Option<Option<Expr>> {
        let meant = match strip(expr) {
            Expr::Value(value) => match &value.value {
                Value::Number(digits, false) => {
                    let at = digits.parse::<usize>().ok()?.checked_sub(1)?;
                    strip(&self.list.get(at)?.0)
                }
                Value::Placeholder(text) if Slot::of_placeholder(text).is_some() => {
                    types.analysis.looked.value.set(true);
                    return None;
                }
                _ => return None,
            },
            Expr::Identifier(ident) => {
                let name = folded(ident);
                let mut meant = self.list.iter().filter(|(_, known)| *known == name);
                match (meant.next(), meant.next()) {
                    (Some((item, _)), None) => strip(item),
                    (None, _) => strip(expr),
                    // PostgreSQL says so.
                    (Some(_), Some(_)) => return None,
                }
            }
            expr => expr,
        };
        if is_constant(meant) {
            // An entry that is one itself is for PostgreSQL to refuse.
            return (!std::ptr::eq(meant, strip(expr))).then_some(None);
        }
        is_movable(types, meant).then(|| Some(meant.clone()))
    }
}

/// A column of `*` by its name and that of its entry.
fn of_star(types: &Types<'_, '_>, column: &OutColumn) -> Option<Expr> {
    let node = column.node?;
    let info = types.analysis.instances[node.0].columns.get(node.1)?;
    let parts = [alias_of(types, node.0)?, &info.name];
    let parts = parts.map(|part| Ident::with_quote('"', part));
    let expr = Expr::CompoundIdentifier(parts.to_vec());
    (types.analysis.node(&expr, &types.scopes) == Some(node)).then_some(expr)
}

fn alias_of<'t>(types: &'t Types<'_, '_>, instance: usize) -> Option<&'t str> {
    let mut entries = types.scopes.scope.entries.iter();
    let entry = entries.find(|entry| entry.instance == instance)?;
    Some(&entry.alias)
}
