//! FOR UPDATE and its kin of a query whose rows are gathered: who fetches rows locks them.

use sqlparser::ast::{Query, SetExpr};

use crate::plan::grammar;
use crate::plan::parens;
use crate::plan::refuse::{Reason, Refusal, refuse};
use crate::plan::scope::{Analysis, Locks, Source};

use super::rewrite::Pruned;
use super::{Ending, Fragment};

/// Has the fragment of a query lock what it fetches, if it fetches just the rows that the query locks: those of one
/// table, with all of WHERE. What is left of the query keeps its clause, for PostgreSQL to say where there may be none.
///
/// # Errors
/// Other rows would be locked.
pub fn take(
    analysis: &Analysis<'_>,
    ending: &Ending,
    pruned: &mut Pruned,
    fragments: &mut [Fragment],
) -> Result<(), Refusal> {
    if analysis.seen.locks == Locks::No {
        return Ok(());
    }
    let is_table = match analysis.instances.as_slice() {
        [table] => matches!(table.source, Source::Sharded(..)),
        _ => false,
    };
    match (analysis.seen.locks, ending, pruned, fragments) {
        (Locks::Apart, Ending::Answer, Pruned::Query(query), [fragment])
            if is_table && is_whole(query) =>
        {
            fragment.sql.push_str(&parens::locks(&query.locks)?);
            for lock in &mut query.locks {
                // The stand-in of the table cannot be named.
                lock.of = grammar::unnamed(lock);
            }
            Ok(())
        }
        _ => refuse(Reason::Locking),
    }
}

/// Whether the rows of its table are the query's rows.
fn is_whole(query: &Query) -> bool {
    match &*query.body {
        SetExpr::Select(select) => query.with.is_none() && select.selection.is_none(),
        _ => false,
    }
}
