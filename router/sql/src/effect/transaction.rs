//! Statements that begin and end transactions and their parts.

use super::super::cursor::{Cursor, Span};
use super::super::lexer::Kind;
use super::statement::{Isolation, Modes, Statement, only};

/// After BEGIN, or after START.
pub(super) fn begin(mut c: Cursor<'_>, plain: bool) -> Option<Statement<'_>> {
    if plain {
        c.eat_any(&["work", "transaction"]);
    } else if !c.eat("transaction") {
        return None;
    }
    let (modes, modes_span) = modes(&mut c)?;
    c.at_end().then_some(Statement::Begin { modes, modes_span })
}

/// `ISOLATION LEVEL ..., READ ONLY DEFERRABLE`: with or without commas, to the end.
pub(super) fn modes(c: &mut Cursor<'_>) -> Option<(Modes, Span)> {
    let mut modes = Modes::default();
    let span = c.rest();
    let mut first = true;
    while !c.at_end() {
        if !first {
            c.eat_kind(Kind::Comma);
        }
        first = false;
        if c.eat_all(&["isolation", "level"]) {
            modes.isolation = Some(isolation(c)?);
        } else if c.eat_all(&["read", "only"]) {
            modes.read_only = Some(true);
        } else if c.eat_all(&["read", "write"]) {
            modes.read_only = Some(false);
        } else if c.eat("deferrable") {
            modes.deferrable = Some(true);
        } else if c.eat_all(&["not", "deferrable"]) {
            modes.deferrable = Some(false);
        } else {
            return None;
        }
    }
    Some((modes, span))
}

fn isolation(c: &mut Cursor<'_>) -> Option<Isolation> {
    if c.eat_all(&["read", "uncommitted"]) {
        Some(Isolation::ReadUncommitted)
    } else if c.eat_all(&["read", "committed"]) {
        Some(Isolation::ReadCommitted)
    } else if c.eat_all(&["repeatable", "read"]) {
        Some(Isolation::RepeatableRead)
    } else if c.eat("serializable") {
        Some(Isolation::Serializable)
    } else {
        None
    }
}

/// After COMMIT, which may be followed by PREPARED, or after END.
pub(super) fn commit(mut c: Cursor<'_>, may_be_prepared: bool) -> Option<Statement<'_>> {
    if may_be_prepared && c.eat("prepared") {
        return only(&mut c, Cursor::string).map(Statement::CommitPrepared);
    }
    c.eat_any(&["work", "transaction"]);
    chain(c).map(|chain| Statement::Commit { chain })
}

/// After ROLLBACK, which may be followed by PREPARED or TO, or after ABORT.
pub(super) fn rollback(mut c: Cursor<'_>, may_go_on: bool) -> Option<Statement<'_>> {
    if may_go_on && c.eat("prepared") {
        return only(&mut c, Cursor::string).map(Statement::RollbackPrepared);
    }
    c.eat_any(&["work", "transaction"]);
    if may_go_on && c.eat("to") {
        return savepoint(c).map(Statement::RollbackTo);
    }
    chain(c).map(|chain| Statement::Rollback { chain })
}

/// After RELEASE.
pub(super) fn release(c: Cursor<'_>) -> Option<Statement<'_>> {
    savepoint(c).map(Statement::Release)
}

/// `[SAVEPOINT] name`; a savepoint may be called "savepoint".
fn savepoint(mut c: Cursor<'_>) -> Option<super::super::name::Name<'_>> {
    let whole = c.clone();
    if c.eat("savepoint") && c.at_end() {
        c = whole;
    }
    only(&mut c, Cursor::name)
}

/// `[AND [NO] CHAIN]` and the end.
fn chain(mut c: Cursor<'_>) -> Option<bool> {
    let chain = c.eat_all(&["and", "chain"]);
    if !chain {
        c.eat_all(&["and", "no", "chain"]);
    }
    c.at_end().then_some(chain)
}
