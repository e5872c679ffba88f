//! The statements of a commit, as text.
//!
//! They run on connections that carry a client's settings: any search_path, role,
//! isolation level or encoding. So every name and operator is qualified, and every
//! literal is of ASCII letters, digits and `:_-,` alone, which no setting reads
//! otherwise.

use super::gid::{Backend, Gid, TransactionId};
use super::question::Question;
use super::schema::guard;
use crate::config::{Label, Name};
use mothership_sql::quote;

/// A client that commits without waiting for the disk or a standby risks its latest
/// transactions; a part of a transaction over several shards it must not lose.
const DURABLY: &str = "SELECT pg_catalog.set_config('synchronous_commit', 'on', true) \
     WHERE pg_catalog.current_setting('synchronous_commit') \
     OPERATOR(pg_catalog.=) ANY ('{off,local,remote_write}'::pg_catalog.text[])";

/// Asks a server connection which backend it has; see [`Backend::parse`].
pub(super) fn ask(schema: &Name) -> String {
    format!("SELECT {}.backend()", quote::identifier(schema.as_str()))
}

/// Prepares, in one message: nobody can be stopped between both statements.
pub(super) fn prepare(gid: &Gid) -> String {
    format!("{DURABLY}; PREPARE TRANSACTION '{gid}'")
}

/// Decides and commits, in one message: a router that is stopped has sent both or none.
pub(super) fn decide(
    schema: &Name,
    id: TransactionId,
    backend: Backend,
    participants: &[Label],
) -> String {
    let names: Vec<&str> = participants.iter().map(Label::as_str).collect();
    let participants = names.join(",");
    match backend {
        Backend::Process { pid, started, .. } => format!(
            "{DURABLY}; SELECT {}.decide('{id}', {pid}, {started}, '{participants}'); COMMIT",
            quote::identifier(schema.as_str()),
        ),
        Backend::Session { session, .. } => {
            let decide = Question::Decide {
                id,
                session,
                participants,
            };
            format!("{}; COMMIT", decide.sql(schema))
        }
    }
}

/// Finishes what is prepared. It must be alone in its message.
pub(super) fn finish(gid: &Gid, commit: bool) -> String {
    let verb = if commit { "COMMIT" } else { "ROLLBACK" };
    format!("{verb} PREPARED '{gid}'")
}

/// Makes the outcome final, whatever it is: `commit` or `abort`. One message is one
/// transaction, so that a client of ours that is dropped leaves none open. It waits
/// so many milliseconds for a decider that is just committing. Its answer comes when synchronous standbys have the
/// decision, too: see [`replicated`].
pub(super) fn fence(schema: &Name, id: TransactionId, backend: Backend, wait: u128) -> String {
    match backend {
        Backend::Process { pid, started, .. } => format!(
            "{}; {}; SELECT WHERE {WRITES_LOG} IS NULL; SELECT {}.fence('{id}', {pid}, {started})",
            transaction(wait),
            guard(schema),
            quote::identifier(schema.as_str()),
        ),
        Backend::Session { session, .. } => Question::Fence { id, session }.sql(schema),
    }
}

/// Writes a record to the server's log and nothing else. Without any record a commit waits for no standby.
const WRITES_LOG: &str = "pg_catalog.pg_logical_emit_message(true, 'mothership', '')";

/// Is answered when the synchronous standbys have everything that was committed on the server before. A commit that is
/// seen there may be on no standby yet: its own wait was cancelled, its client asked for none, or the server was
/// restarted (PostgreSQL manual, "Synchronous Replication"). No limit of the server's ends this wait.
pub(super) fn replicated(wait: u128) -> String {
    format!("{}; SELECT WHERE {WRITES_LOG} IS NULL", transaction(wait))
}

/// What every message of the control role begins with that writes.
pub(crate) fn transaction(wait: u128) -> String {
    format!(
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE; \
         SET LOCAL lock_timeout = {wait}; SET LOCAL statement_timeout = {wait}; \
         SET LOCAL synchronous_commit = on; SET LOCAL search_path = pg_catalog, pg_temp"
    )
}
