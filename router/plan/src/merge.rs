//! How the answers of several shards become one.
//!
//! Only what is proven equal to PostgreSQL's own answer: rows one after another where
//! no order was asked for, single aggregates over integers, and rows in an order that
//! is known here (`sorted`).

use std::fmt;
use std::sync::Arc;

use mothership_shardmap::KeyType;
use sqlparser::ast::{Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, SelectItem};

use super::names::folded;
use super::scope::{Analysis, Scopes};
use super::sorted::{ShardQuery, SortedMerge};

/// How the answers of several shards become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merge {
    /// All rows, shard after shard, one row description; the tag's count is the sum.
    Concat,
    /// One row; each column merged on its own. Every shard answers with exactly one row.
    Aggregates(Vec<AggregateMerge>),
    /// The rows of all shards in one order, each shard's in that order already.
    Sorted(Arc<SortedMerge>),
    /// The same with the values of one Bind: what a route has of it.
    Flow(Arc<ShardQuery>),
    /// Every shard does the same; the first one's rows and tag are the answer.
    First,
}

/// How one column of aggregates is merged. NULL is no value; without any value the result is
/// NULL, except for counts, which are never NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregateMerge {
    /// Sum of bigints, of counts: bigint. An overflow is 22003.
    Count,
    /// Sum of `sum(int2)` or `sum(int4)`: bigint, with 22003 "bigint out of range" on overflow.
    SumBigint,
    /// Sum of `sum(bigint)`: numeric without a fraction, of any size.
    SumNumeric,
    /// The smallest integer.
    Min,
    /// The largest integer.
    Max,
}

impl fmt::Display for Merge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Merge::Concat => f.write_str("concat"),
            Merge::First => f.write_str("first"),
            Merge::Sorted(sorted) => sorted.fmt(f),
            Merge::Flow(flow) => flow.fmt(f),
            Merge::Aggregates(list) => {
                f.write_str("aggregates(")?;
                for (index, merge) in list.iter().enumerate() {
                    let comma = if index > 0 { ", " } else { "" };
                    let name = match merge {
                        AggregateMerge::Count => "count",
                        AggregateMerge::SumBigint => "sum bigint",
                        AggregateMerge::SumNumeric => "sum numeric",
                        AggregateMerge::Min => "min",
                        AggregateMerge::Max => "max",
                    };
                    write!(f, "{comma}{name}")?;
                }
                f.write_str(")")
            }
        }
    }
}

/// The merge of a select list, if each item is a bare aggregate of the proven kinds.
pub fn aggregates(
    analysis: &Analysis<'_>,
    projection: &[SelectItem],
    scopes: &Scopes<'_>,
) -> Option<Vec<AggregateMerge>> {
    let one = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(Expr::Function(function))
        | SelectItem::ExprWithAlias {
            expr: Expr::Function(function),
            ..
        } => aggregate(analysis, function, scopes),
        _ => None,
    };
    projection.iter().map(one).collect()
}

fn aggregate(
    analysis: &Analysis<'_>,
    function: &Function,
    scopes: &Scopes<'_>,
) -> Option<AggregateMerge> {
    let parts: Vec<String> = function
        .name
        .0
        .iter()
        .map(|p| p.as_ident().map(folded))
        .collect::<Option<_>>()?;
    let name = match parts.as_slice() {
        [name] if analysis.names.reach(name).is_none() => name,
        [schema, name] if schema == "pg_catalog" => name,
        _ => return None,
    };
    if function.over.is_some()
        || !function.within_group.is_empty()
        || function.null_treatment.is_some()
    {
        return None;
    }
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    // DISTINCT sees duplicates on other shards; an order changes nothing here, but is not expected.
    if list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
        return None;
    }
    let [FunctionArg::Unnamed(argument)] = list.args.as_slice() else {
        return None;
    };
    match (name.as_str(), argument) {
        ("count", FunctionArgExpr::Wildcard | FunctionArgExpr::Expr(_)) => {
            Some(AggregateMerge::Count)
        }
        ("sum" | "min" | "max", FunctionArgExpr::Expr(expr)) => {
            let node = analysis.node(expr, scopes)?;
            let key_type = analysis.key_type(node).filter(|t| t.is_integer())?;
            match (name.as_str(), key_type) {
                ("min", _) => Some(AggregateMerge::Min),
                ("max", _) => Some(AggregateMerge::Max),
                (_, KeyType::Int8) => Some(AggregateMerge::SumNumeric),
                (_, _) => Some(AggregateMerge::SumBigint),
            }
        }
        _ => None,
    }
}
