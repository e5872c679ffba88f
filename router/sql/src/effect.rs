//! What one statement does to the session and to the transaction.
//!
//! Found by tokens alone, so that it holds for every statement that PostgreSQL
//! accepts, whatever the planner's parser can read. [`Statement`] is what the
//! statement is, with the names and spans that a session needs to follow and replay
//! it; [`Effects`] are flags that any statement may raise. Where tokens do not
//! suffice the answer is the careful one: [`Statement::Unclear`], [`Writes::Perhaps`],
//! [`SetConfig::Unclear`]. Not seen here: what views, triggers, policies, operators,
//! casts and functions of users do, and that a relation (`pg_stat_replication`) tells about
//! the server; the catalog knows those.

mod effects;
mod pins;
mod scan;
mod session;
mod settings;
mod statement;
mod transaction;

pub use effects::{Argument, Effects, FunctionName, Pin, SetConfig, SetConfigCall, Writes};
pub use pins::Pins;
pub use statement::{
    CopyEnd, CopySource, Direction, DiscardWhat, Isolation, Modes, Object, Other, Scope, SetValue,
    Statement, Target, Verb,
};

use super::cursor::Cursor;
use super::lexer::Kind;
use super::split::split;

/// One statement, understood as far as tokens go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Analysis<'a> {
    /// What it is.
    pub statement: Statement<'a>,
    /// What it does beside that.
    pub effects: Effects<'a>,
}

/// Reads one statement. A trailing `;` is allowed; of a text with several statements
/// nothing is known ([`Statement::Several`]), use [`split`](super::split::split) first.
///
/// `standard_conforming_strings` is the session's setting at this moment.
pub fn analyse(sql: &[u8], standard_conforming_strings: bool) -> Analysis<'_> {
    let mut parts = split(sql, standard_conforming_strings).filter(|part| !part.empty);
    let Some(part) = parts.next() else {
        return Analysis {
            statement: Statement::Empty,
            effects: Effects::default(),
        };
    };
    if parts.next().is_some() {
        return Analysis {
            statement: Statement::Several,
            effects: Effects::unknown(),
        };
    }
    let mut cursor = Cursor::new(sql, standard_conforming_strings);
    while cursor.skip_semicolon() {}
    let statement = if part.uncertain && first_is_control(&cursor) {
        Statement::Unclear
    } else {
        statement::read(cursor.clone())
    };
    let mut effects = scan::effects(cursor, &statement);
    effects.uncertain |= part.uncertain;
    Analysis { statement, effects }
}

/// Whether a statement that has uncertain tokens could change the session, if a
/// server accepted it. Queries and row changes cannot, beyond what the flags say.
fn first_is_control(cursor: &Cursor<'_>) -> bool {
    !cursor.sees_kind(Kind::LParen)
        && !cursor.sees_any(&[
            "select", "values", "table", "with", "insert", "update", "delete", "merge",
        ])
}

#[cfg(test)]
mod tests;
