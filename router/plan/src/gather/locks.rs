//! FOR UPDATE and the like of a query whose rows are gathered: who fetches rows locks them.
//!
//! MongoDB has no locks on rows. A statement that is all of its transaction holds its own no longer than it runs, so
//! that nobody sees whether there are any: what it reads then is read on the primary, and the router sees to it that
//! nothing else is in its transaction. The empty table of the home shard is locked in the place of documents, for
//! PostgreSQL to say what it has against it.

use mothership_sql::quote;
use sqlparser::ast::{Query, SetExpr};

use crate::grammar;
use crate::parens;
use crate::refuse::{Reason, Refusal, refuse};
use crate::scope::{Analysis, Locks, Source};

use super::rewrite::Pruned;
use super::{Ending, Fragment};

/// Has the fragment of a query lock what it fetches, if it fetches just the rows that the query locks: those of one
/// table, with all of WHERE. What is left of the query keeps its clause, for PostgreSQL to say where there may be none.
/// Of documents, what is returned is a query that gives no row and locks as the clause says.
///
/// # Errors
/// Other rows would be locked.
pub fn take(
    analysis: &Analysis<'_>,
    ending: &Ending,
    pruned: &mut Pruned,
    fragments: &mut [Fragment],
) -> Result<Option<String>, Refusal> {
    // Within: a fragment locks them.
    if matches!(analysis.seen.locks, Locks::No | Locks::Within) {
        return Ok(None);
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
            Ok(None)
        }
        (Locks::Documents, Ending::Answer, Pruned::Query(query), _) => {
            let mut locks = std::mem::take(&mut query.locks);
            for lock in &mut locks {
                lock.of = grammar::unnamed(lock);
            }
            Ok(Some(in_place(analysis, &parens::locks(&locks)?)?))
        }
        _ if analysis.has_documents() => refuse(Reason::DocumentsLocks),
        _ => refuse(Reason::Locking),
    }
}

/// What locks the table of the home shard that stands for documents.
fn in_place(analysis: &Analysis<'_>, locks: &str) -> Result<String, Refusal> {
    let mut instances = 0..analysis.instances.len();
    let documents = instances.find(|instance| analysis.is_documents(*instance));
    match documents.map(|instance| &analysis.instances[instance].source) {
        Some(Source::Sharded(relation, _)) => Ok(format!(
            "SELECT FROM {}.{}{locks}",
            quote::identifier(&relation.name.schema),
            quote::identifier(&relation.name.name)
        )),
        _ => refuse(Reason::DocumentsLocks),
    }
}

/// Whether the rows of its table are the query's rows.
fn is_whole(query: &Query) -> bool {
    let limited = query.limit_clause.is_some() || query.fetch.is_some();
    match &*query.body {
        SetExpr::Select(select) => query.with.is_none() && select.selection.is_none() && !limited,
        _ => false,
    }
}
