//! Whether each shard may compute its own rows of a query, and why not.
//!
//! What is not proven to be the rows of all shards together, or aggregates that
//! `merge` knows, is `Local::No`, with the reason that the client will be told.

use sqlparser::ast::{Distinct, GroupByExpr, Select};

use crate::expr::ExprContext;
use crate::merge;
use crate::merge::AggregateMerge;
use crate::refuse::{Reason, Refusal};
use crate::scope::Analysis;

use super::Output;

/// Whether each shard may compute its own rows of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Local {
    /// The rows of all shards together are the rows of the query.
    Rows,
    /// One row of aggregates, merged column by column.
    Aggregates(Vec<AggregateMerge>),
    /// No, for this reason.
    No(Refusal),
}

impl<'n> Analysis<'n> {
    /// Whether the shards may compute a SELECT separately, and what merges their rows.
    pub(super) fn locality(
        &self,
        select: &Select,
        here: &ExprContext<'_>,
        from_obstacle: Option<Refusal>,
        sharded_from: bool,
    ) -> Local {
        let no = |reason| Local::No(Refusal::new(reason));
        if let Some(refusal) = here.level.unmovable_subquery.clone() {
            return Local::No(refusal);
        }
        if let Some(refusal) = from_obstacle {
            return Local::No(refusal);
        }
        let group_by = !matches!(&select.group_by, GroupByExpr::Expressions(e, m) if e.is_empty() && m.is_empty());
        if !sharded_from {
            return Local::Rows;
        }
        if here.level.windows || !select.named_window.is_empty() {
            return no(Reason::Window);
        }
        if group_by || select.having.is_some() {
            return no(Reason::GroupBy);
        }
        if matches!(select.distinct, Some(Distinct::Distinct | Distinct::On(_))) {
            return no(Reason::Distinct);
        }
        if here.level.aggregates {
            return match merge::aggregates(self, &select.projection, &here.scopes) {
                Some(merges) => Local::Aggregates(merges),
                None => no(Reason::Aggregate),
            };
        }
        Local::Rows
    }
}

impl Output {
    /// What merges a statement's rows where it reads a sharded table somewhere, be it in a
    /// CTE that nothing refers to: without one in its own FROM each shard has all the rows.
    pub fn over_shards(self) -> Local {
        match self.sharded {
            true => self.local,
            false => Local::No(Refusal::new(Reason::Subquery)),
        }
    }
}

/// The first reason stays: it is the outermost in the text.
pub(super) fn first(known: &Local, reason: Reason) -> Refusal {
    match known {
        Local::No(refusal) => refusal.clone(),
        _ => Refusal::new(reason),
    }
}

/// Why a subquery in FROM keeps the shards from computing the whole separately.
pub(super) fn obstacle_of(output: &Output) -> Option<Refusal> {
    if !output.sharded {
        return output.unstable.clone();
    }
    match &output.local {
        Local::Rows => None,
        Local::Aggregates(_) => Some(Refusal::new(Reason::Subquery)),
        Local::No(refusal) => Some(Refusal {
            reason: Reason::Subquery,
            ..refusal.clone()
        }),
    }
}
