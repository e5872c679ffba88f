//! What a statement means for the session: the transaction, the settings, cursors and prepared statements.

use super::super::settings::{Change, Setting, Value};
use super::super::{preference, staleness};
use super::replay::{replayed, written as modes_written};
use crate::commit::gid::is_reserved;
use mothership_proto::report::{Report, sqlstate};
use mothership_sql::cursor::{Cursor, Span};
use mothership_sql::effect::{
    Argument, DiscardWhat, Isolation, Object, Scope, SetConfig, SetConfigCall, SetValue, Statement,
    Target, Verb, analyse,
};
use mothership_sql::encoding::safe_encoding;
use mothership_sql::name::Name;

/// What a statement means for the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: it goes to a server as it stands.
    Plain,
    /// It begins a transaction block; the modes in the router's own words.
    Begin(String),
    /// It ends the block, and with `chain` begins another.
    Commit {
        /// `AND CHAIN`
        chain: bool,
    },
    /// It undoes the block.
    Rollback {
        /// `AND CHAIN`
        chain: bool,
    },
    /// PREPARE TRANSACTION: the block ends and its settings stay.
    PrepareTransaction,
    /// COMMIT PREPARED or ROLLBACK PREPARED: the name.
    FinishPrepared(String),
    /// It sets a savepoint.
    Savepoint(String),
    /// It goes back to one.
    RollbackTo(String),
    /// It forgets one.
    Release(String),
    /// It changes settings of the session.
    Settings(Vec<Change>),
    /// It makes a prepared statement at the SQL level.
    Prepare(Vec<u8>),
    /// It runs one; also EXPLAIN EXECUTE and CREATE TABLE AS EXECUTE.
    Execute(Vec<u8>),
    /// It drops one, or all.
    Deallocate(Option<Vec<u8>>),
    /// SET TRANSACTION, SET CONSTRAINTS in the router's own words, for every server of the transaction.
    SetTransaction(String),
    /// SET LOCAL: what it changes, and the router's own words for it.
    SetLocal(Change, String),
    /// set_config(..., true) with literals; `None` with parameters, which cannot be told
    /// to a server that joins later.
    LocalConfig(Option<Vec<Change>>),
    /// It declares a cursor.
    Declare(String),
    /// It works on a cursor: FETCH, MOVE.
    Cursor(String),
    /// CLOSE of one cursor.
    Close(String),
    /// CLOSE ALL: every server of the session closes its own.
    CloseAll,
    /// It throws away what belongs to the session.
    Discard(DiscardWhat),
    /// EXPLAIN (ROUTE): the router says where this statement would go.
    ExplainRoute(Span),
    /// It is not done.
    Refuse(Report),
}

/// `None` if it changes something that has to be said again to other servers, and cannot be with certainty.
impl Kind {
    /// Transaction control.
    pub fn is_control(&self) -> bool {
        matches!(
            self,
            Kind::Begin(_)
                | Kind::Commit { .. }
                | Kind::Rollback { .. }
                | Kind::Savepoint(_)
                | Kind::RollbackTo(_)
                | Kind::Release(_)
        )
    }

    /// It only sets something, for the session or the transaction.
    pub fn sets(&self) -> bool {
        matches!(
            self,
            Kind::Settings(_) | Kind::SetLocal(..) | Kind::SetTransaction(_)
        )
    }
}

pub(crate) fn of(statement: &Statement<'_>, text: &[u8], scs: bool) -> Option<Kind> {
    use Statement as S;
    let name = |n: &Name<'_>| String::from_utf8_lossy(n.as_bytes()).into_owned();
    // Only these are said again; the words of others are not even written.
    let own = || replayed(statement, text, scs);
    Some(match statement {
        S::Begin { modes, .. } => Kind::Begin(modes_written(*modes)),
        S::Commit { chain } => Kind::Commit { chain: *chain },
        S::Rollback { chain } => Kind::Rollback { chain: *chain },
        S::PrepareTransaction(n) | S::CommitPrepared(n) | S::RollbackPrepared(n)
            if is_reserved(n.as_bytes()) =>
        {
            Kind::Refuse(reserved())
        }
        S::PrepareTransaction(_) => Kind::PrepareTransaction,
        S::CommitPrepared(n) | S::RollbackPrepared(n) => Kind::FinishPrepared(name(n)),
        S::Savepoint(n) if n.as_str().is_none() => Kind::Refuse(unreadable("savepoint")),
        S::SetConstraints if std::str::from_utf8(text).is_err() => {
            Kind::Refuse(unreadable("constraint"))
        }
        S::Savepoint(n) => Kind::Savepoint(name(n)),
        S::RollbackTo(n) => Kind::RollbackTo(name(n)),
        S::Release(n) => Kind::Release(name(n)),
        // SET TRANSACTION by another name: it ends with the transaction, and comes before its first query.
        S::Set { name: n, .. } | S::Reset(n) if is_of_transaction(n) => {
            Kind::SetTransaction(own()?)
        }
        S::Set {
            scope: Scope::Session,
            name: n,
            value,
        } => match value {
            SetValue::Default => Kind::Settings(vec![Change::Reset(name(n))]),
            SetValue::Given { text: value, .. } => match refused_value(n, value) {
                Some(report) => Kind::Refuse(report),
                None => Kind::Settings(vec![said(name(n), own()?)]),
            },
            SetValue::FromCurrent => return None,
        },
        S::SetTransaction(_) | S::SetTransactionSnapshot(_) | S::SetConstraints => {
            Kind::SetTransaction(own()?)
        }
        S::Set {
            scope: Scope::Local,
            name: n,
            value,
        } => match value {
            SetValue::Default => Kind::SetLocal(Change::Reset(name(n)), own()?),
            SetValue::Given { text: value, .. } => match refused_value(n, value) {
                Some(report) => Kind::Refuse(report),
                None => {
                    let own = own()?;
                    Kind::SetLocal(said(name(n), own.clone()), own)
                }
            },
            SetValue::FromCurrent => return None,
        },
        S::SetRole {
            scope: Scope::Local,
            role,
        } => {
            let own = own()?;
            Kind::SetLocal(role_change("role", role, own.clone()), own)
        }
        S::SetSessionAuthorization {
            scope: Scope::Local,
            role,
        } => {
            let own = own()?;
            let change = role_change("session_authorization", role, own.clone());
            Kind::SetLocal(change, own)
        }
        S::Declare { name: n, .. } => Kind::Declare(name(n)),
        S::Fetch { name: n, .. } | S::Move { name: n, .. } => Kind::Cursor(name(n)),
        S::Close(Some(n)) => Kind::Close(name(n)),
        S::Close(None) => Kind::CloseAll,
        S::Reset(n) => Kind::Settings(vec![Change::Reset(name(n))]),
        S::ResetAll => Kind::Settings(vec![Change::RESET_ALL]),
        S::SetRole {
            scope: Scope::Session,
            role,
        } => Kind::Settings(vec![role_change("role", role, own()?)]),
        S::SetSessionAuthorization {
            scope: Scope::Session,
            role,
        } => {
            let change = role_change("session_authorization", role, own()?);
            Kind::Settings(vec![change])
        }
        S::Prepare { name, .. } => Kind::Prepare(name.as_bytes().to_vec()),
        S::Execute { name, .. } => Kind::Execute(name.as_bytes().to_vec()),
        S::Deallocate(n) => Kind::Deallocate(n.as_ref().map(|n| n.as_bytes().to_vec())),
        S::Discard(what) => Kind::Discard(*what),
        S::Explain { inner, .. } => match analyse(inner.of(text), scs).statement {
            S::Execute { name, .. } => Kind::Execute(name.as_bytes().to_vec()),
            _ => Kind::Plain,
        },
        S::SetSessionCharacteristics(_) => Kind::Settings(characteristics(statement)),
        S::Unclear if names_prepared(text) => Kind::Refuse(unread()),
        // Nothing is known of the session afterwards.
        S::Unclear => return None,
        _ => Kind::Plain,
    })
}

/// Whether a text that is not understood prepares or finishes a transaction by some string.
fn names_prepared(text: &[u8]) -> bool {
    let mut c = Cursor::new(text, true);
    let is_of_prepared = c.eat_all(&["prepare", "transaction"])
        || c.eat_all(&["commit", "prepared"])
        || c.eat_all(&["rollback", "prepared"]);
    is_of_prepared && c.peek().is_some_and(|token| token.kind.is_string())
}

/// Why a setting may not have a value, if the router has to say so.
fn refused_value(setting: &Name<'_>, value: &Option<Name<'_>>) -> Option<Report> {
    match value.as_ref().and_then(Name::as_str) {
        Some(value) => refusal(setting.as_str()?, value),
        // A list, or something that is no text.
        None => refused_own(setting.as_str()?, "a list"),
    }
}

/// Why a setting may not have a value, if the router has to say so.
pub fn refusal(setting: &str, value: &str) -> Option<Report> {
    match setting {
        "client_encoding" if !safe_encoding(value) => Some(unsafe_encoding(value)),
        _ => refused_own(setting, value),
    }
}

/// The same of a setting of the router's own.
fn refused_own(setting: &str, value: &str) -> Option<Report> {
    staleness::refusal(setting, value).or_else(|| preference::refusal(setting, value))
}

/// A setting in the router's own words.
fn said(name: String, own: String) -> Change {
    let value = Value::Statement(own);
    Change::Set(Setting { name, value })
}

fn role_change(name: &str, role: &Target<'_>, own: String) -> Change {
    match role {
        Target::Original => Change::Reset(name.to_owned()),
        Target::Role(_) => said(name.to_owned(), own),
    }
}

/// The refusal of a name that other servers cannot be told, because its bytes are no text of theirs.
fn unreadable(what: &str) -> Report {
    let message = format!("a {what} needs a name in UTF8");
    Report::error(sqlstate::FEATURE_NOT_SUPPORTED, message)
        .detail("the name is told to each server that joins the transaction, and its encoding is not known there")
        .hint("Use UTF8 as client_encoding, or a name of ASCII letters.")
}

/// SET SESSION CHARACTERISTICS is a way to write three settings.
fn characteristics(statement: &Statement<'_>) -> Vec<Change> {
    let Statement::SetSessionCharacteristics(modes) = statement else {
        return Vec::new();
    };
    let on = |b: bool| if b { "on" } else { "off" };
    let isolation = modes.isolation.map(|level| match level {
        Isolation::ReadUncommitted => "read uncommitted",
        Isolation::ReadCommitted => "read committed",
        Isolation::RepeatableRead => "repeatable read",
        Isolation::Serializable => "serializable",
    });
    [
        ("default_transaction_isolation", isolation),
        ("default_transaction_read_only", modes.read_only.map(on)),
        ("default_transaction_deferrable", modes.deferrable.map(on)),
    ]
    .into_iter()
    .filter_map(|(name, value)| {
        Some(Change::Set(Setting {
            name: name.to_owned(),
            value: Value::Text(value?.to_owned()),
        }))
    })
    .collect()
}

/// Clear calls of set_config with literals are SET. With parameters they are not
/// known before Bind: `None`, and the session is pinned.
pub(crate) fn set_config(calls: &SetConfig<'_>) -> Option<Vec<Change>> {
    let SetConfig::Calls(calls) = calls else {
        // Unclear mentions are pinned by the effects already.
        return Some(Vec::new());
    };
    let session = calls.iter().filter(|call| !is_local(call));
    session
        .map(|call| match (&call.name, &call.value) {
            (Argument::Text(name), Argument::Text(value)) => literal(name, value),
            _ => None,
        })
        .collect()
}

/// Calls of set_config that hold for the transaction only.
pub(crate) fn local_config(calls: &SetConfig<'_>) -> Option<Kind> {
    let SetConfig::Calls(calls) = calls else {
        return None;
    };
    let mut local = calls.iter().filter(|call| is_local(call)).peekable();
    local.peek()?;
    let change = |call: &SetConfigCall<'_>| match (&call.name, &call.value) {
        (Argument::Text(name), Argument::Text(value)) => literal(name, value),
        (Argument::Text(name), Argument::Null) => Some(Change::Reset(name.as_str()?.to_owned())),
        _ => None,
    };
    Some(Kind::LocalConfig(local.map(change).collect()))
}

/// Whether a call sets for the transaction what is not shown, and it may be no setting of the application's own.
pub(crate) fn clouds(calls: &SetConfig<'_>) -> bool {
    let SetConfig::Calls(calls) = calls else {
        return false;
    };
    let own = |name: &Name<'_>| name.as_bytes().contains(&b'.');
    let clear = |call: &SetConfigCall<'_>| match (&call.name, &call.value) {
        (Argument::Text(name), Argument::Text(_) | Argument::Null) if name.as_str().is_some() => {
            true
        }
        (Argument::Text(name), _) => own(name),
        _ => false,
    };
    calls.iter().any(|call| is_local(call) && !clear(call))
}

/// A setting by literals, if their bytes are the same in every encoding.
fn literal(name: &Name<'_>, value: &Name<'_>) -> Option<Change> {
    let ascii = |text: &Name<'_>| Some(text.as_str().filter(|t| t.is_ascii())?.to_owned());
    Some(Change::Set(Setting {
        name: ascii(name)?,
        value: Value::Text(ascii(value)?),
    }))
}

/// Whether what a call sets ends with the transaction, whatever its last argument says.
fn is_local(call: &SetConfigCall<'_>) -> bool {
    call.local || matches!(&call.name, Argument::Text(name) if is_of_transaction(name))
}

/// Settings that no session has, only a transaction (manual, SET TRANSACTION).
fn is_of_transaction(name: &Name<'_>) -> bool {
    [
        "transaction_isolation",
        "transaction_read_only",
        "transaction_deferrable",
    ]
    .iter()
    .any(|setting| *name == *setting)
}

/// Why what set_config chooses may not be, if the router has to say so.
pub(crate) fn refused_config(kind: &Kind) -> Option<Report> {
    let Kind::Settings(changes) = kind else {
        return None;
    };
    changes.iter().find_map(|change| match change {
        Change::Set(Setting {
            name,
            value: Value::Text(value),
        }) => refusal(name, value),
        _ => None,
    })
}

/// The name that CREATE TABLE ... AS EXECUTE runs, or an EXPLAIN of one, and where it stands.
pub(crate) fn stored(statement: &Statement<'_>, text: &[u8], scs: bool) -> Option<(Vec<u8>, Span)> {
    let start = match statement {
        Statement::Ddl {
            verb: Verb::Create,
            object: Object::Table,
        } => 0,
        Statement::Explain { inner, .. } => {
            let explained = analyse(inner.of(text), scs).statement;
            let creates = matches!(
                explained,
                Statement::Ddl {
                    verb: Verb::Create,
                    object: Object::Table,
                }
            );
            creates.then_some(inner.start)?
        }
        _ => return None,
    };
    let mut c = Cursor::new(&text[start..], scs);
    // Before the first AS there is nothing that has one outside of parentheses.
    while !c.eat("as") {
        if c.group().is_none() {
            c.bump()?;
        }
    }
    if !c.eat("execute") {
        return None;
    }
    let token = c.peek()?;
    let name = c.name()?;
    let span = Span {
        start: start + token.start,
        end: start + token.end,
    };
    Some((name.as_bytes().to_vec(), span))
}

/// Where tables are declared, what it runs may read rows of several shards.
pub fn create_as_execute_refused() -> Report {
    let message = "CREATE TABLE AS EXECUTE is not supported where tables are declared";
    Report::error(sqlstate::FEATURE_NOT_SUPPORTED, message)
        .hint("Use CREATE TABLE AS with the statement itself.")
}

/// The refusal of an encoding in which a quote may be half of a character.
fn unsafe_encoding(name: &str) -> Report {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        format!("client_encoding \"{name}\" is not supported"),
    )
    .detail("in this encoding bytes of ASCII characters may be parts of other characters, so statements cannot be read safely")
    .hint("Use UTF8.")
}

/// What a client is told who prepares or finishes a transaction by a name of the routers.
pub fn reserved() -> Report {
    let message = "names of prepared transactions that begin with \"ms1:\" are the routers'";
    Report::error(sqlstate::FEATURE_NOT_SUPPORTED, message)
        .detail("they name parts of transactions over several shards, which the routers finish together")
        .hint("Use another name. SHOW TRANSACTIONS in the console lists what is in doubt.")
}

/// What a client is told whose name of a prepared transaction is not certain.
pub fn unread() -> Report {
    let message = "the name of the prepared transaction cannot be read";
    Report::error(sqlstate::FEATURE_NOT_SUPPORTED, message)
        .hint("Write the name as a plain string.")
}
