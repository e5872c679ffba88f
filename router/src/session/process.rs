//! The number of the client's process: texts that ask for it get the one that the client was told, and what is to be
//! done to the process of another client is done to that client.
//!
//! A number that is a client's of this router is never a process of a server, so the two cannot be mistaken.

use super::dispatch::refused;
use super::errors::Written;
use super::names::{Origin, Prepared};
use super::{Halt, Session};
use crate::core::{ClientNumber, Core, Entry};
use crate::plan::{Reason, Refusal};
use crate::sql::effect::Pin;
use crate::sql::places::Change;
use crate::sql::process::{Deed, GREATEST, MARK, Own, Signal, Target, Told, told};
use mothership_proto::frontend::{Bind, Parse};
use mothership_proto::report::{Fields, Report, sqlstate};
use std::rc::Rc;
use std::sync::Arc;

/// What a text was made of.
#[derive(Debug)]
pub struct Rewritten {
    /// The client's text.
    pub sql: Box<[u8]>,
    /// How it was changed.
    pub changes: Vec<Change>,
    /// What it does to another process, and nothing else.
    signal: Option<Signal>,
}

impl Session {
    /// A simple query with the client's number wherever it asks for that of its process. `None` if it does not.
    pub(super) fn told_query(&self, statement: &Prepared) -> Result<Option<Rc<Prepared>>, Halt> {
        let Some((told, signal)) = self.told(statement)? else {
            return Ok(None);
        };
        let query = self.queried(&told.sql);
        Ok(Some(rewritten(query, &statement.sql, told, signal)))
    }

    /// The same of what Parse names.
    pub(super) fn told_parse(
        &self,
        parse: &Parse<'_>,
        statement: &Prepared,
    ) -> Result<Option<Rc<Prepared>>, Halt> {
        let Some((told, signal)) = self.told(statement)? else {
            return Ok(None);
        };
        let parsed = self.statement(&Parse {
            name: parse.name,
            sql: &told.sql,
            types: parse.types,
        });
        Ok(Some(rewritten(parsed, parse.sql, told, signal)))
    }

    fn told(&self, statement: &Prepared) -> Result<Option<(Told, Option<Signal>)>, Halt> {
        if !statement.steps.iter().any(|step| step.processes) {
            return Ok(None);
        }
        let strings = self.standard_strings();
        let signal = Signal::of(&statement.sql, strings);
        let own = Own {
            number: self.entry.process.get(),
            has_temporary: self.state.pins.has(Pin::TempObject)
                || self.state.pins.has(Pin::Opaque)
                || self.is_session_mode(),
        };
        let told = told(&statement.sql, strings, own, signal.as_ref()).map_err(hidden)?;
        if let Some(told) = &told {
            self.check_text(&told.sql)?;
        }
        Ok(told.map(|told| (told, signal)))
    }

    /// Does what a simple query does to another client; then the text is one that says so.
    pub(super) async fn signalled_query(
        &mut self,
        statement: &Rc<Prepared>,
    ) -> Result<Option<Rc<Prepared>>, Halt> {
        let Some(signal) = signal_of(statement) else {
            return Ok(None);
        };
        let Target::Number(number) = signal.target else {
            return Ok(None);
        };
        self.check_steps(&statement.steps)?;
        if !self.signal(signal.deed, number).await? {
            return Ok(None);
        }
        let (sql, done) = carried_out(statement, &signal);
        let query = self.queried(&done.sql);
        Ok(Some(rewritten(query, &sql, done, None)))
    }

    /// The same of a Bind.
    pub(super) async fn signalled_bind(
        &mut self,
        bind: &Bind<'_>,
        statement: &Rc<Prepared>,
    ) -> Result<Option<Rc<Prepared>>, Halt> {
        let (Some(signal), Origin::Parse(types)) = (signal_of(statement), &statement.origin) else {
            return Ok(None);
        };
        let number = match signal.target {
            Target::Number(number) => Some(number),
            Target::Parameter(at) => bind
                .value(usize::from(at).wrapping_sub(1))
                .and_then(|(format, value)| number_of(format, value?)),
        };
        let Some(number) = number else {
            return Ok(None);
        };
        self.check_steps(&statement.steps)?;
        self.settle_active().await?;
        if !self.signal(signal.deed, number).await? {
            return Ok(None);
        }
        let (sql, done) = carried_out(statement, &signal);
        let parsed = self.statement(&Parse {
            name: b"",
            sql: &done.sql,
            types,
        });
        Ok(Some(rewritten(parsed, &sql, done, None)))
    }

    /// Cancels what another client does, or ends its session, if the role may. False if the number is not that of
    /// another client of this router.
    async fn signal(&mut self, deed: Deed, number: i32) -> Result<bool, Halt> {
        if number <= GREATEST || number == self.entry.process.get() {
            return Ok(false);
        }
        let client = ClientNumber::decode(number);
        let shared = Arc::clone(&self.core.shared);
        if client.process != shared.kin.process {
            return Ok(false);
        }
        let who = move |core: &Rc<Core>| {
            let entry = at(core, client)?;
            (!entry.who.is_console).then(|| (entry.who.number, Arc::clone(&entry.who.server_user)))
        };
        let found = shared.ask(who).await.into_iter().flatten().next();
        let Some((session, role)) = found else {
            return Ok(false);
        };
        self.check_may_signal(deed, &role).await?;
        let act = move |core: &Rc<Core>| {
            let entry = at(core, client).filter(|entry| entry.who.number == session);
            if let Some(entry) = entry {
                match deed {
                    Deed::Cancel => crate::run::cancel_entry(core, &entry, Rc::new(())),
                    Deed::Terminate => crate::console::end(&entry),
                }
            }
        };
        shared.ask(act).await;
        Ok(true)
    }

    /// Fails in PostgreSQL's words if the client's role may not signal processes of `role`.
    async fn check_may_signal(&mut self, deed: Deed, role: &str) -> Result<(), Halt> {
        let role = role.replace('\'', "''");
        let role = match role.contains('\\') {
            true => format!("E'{}'", role.replace('\\', "\\\\")),
            false => format!("'{role}'"),
        };
        let is_superuser = |name: &str| {
            format!(
                "(SELECT r.rolsuper FROM pg_catalog.pg_roles AS r \
                 WHERE r.rolname OPERATOR(pg_catalog.=) {name})"
            )
        };
        let sql = format!(
            "SELECT CASE WHEN {} AND NOT {} THEN 'superuser' \
             WHEN pg_catalog.pg_has_role({role}::pg_catalog.name, 'USAGE') \
             OR pg_catalog.pg_has_role('pg_signal_backend'::pg_catalog.name, 'USAGE') THEN 'may' ELSE 'member' END",
            is_superuser(&format!("{role}::pg_catalog.name")),
            is_superuser("current_user"),
        );
        let at = self.attach(self.topology.home).await?;
        self.servers[at].inbox.row = None;
        self.tell(at, &sql).await?;
        let said = self.servers.get_mut(at).and_then(|s| s.inbox.row.take());
        let message = match (said.as_deref(), deed) {
            (Some("may"), _) => return Ok(()),
            (Some("superuser"), Deed::Cancel) => "must be a superuser to cancel superuser query",
            (Some("superuser"), Deed::Terminate) => {
                "must be a superuser to terminate superuser process"
            }
            (_, Deed::Cancel) => {
                "must be a member of the role whose query is being canceled or member of pg_signal_backend"
            }
            (_, Deed::Terminate) => {
                "must be a member of the role whose process is being terminated or member of pg_signal_backend"
            }
        };
        Err(Report::error(sqlstate::INSUFFICIENT_PRIVILEGE, message).into())
    }
}

/// The session at the place that a number names, if it is of this core.
fn at(core: &Rc<Core>, client: ClientNumber) -> Option<Rc<Entry>> {
    let sessions = core.sessions.borrow();
    let entry = sessions
        .get(client.slot)
        .filter(|_| core.index == client.core);
    entry.map(Rc::clone)
}

fn signal_of(statement: &Prepared) -> Option<Signal> {
    statement.rewritten.get()?.signal.clone()
}

/// The client's text, and what becomes of it when the router has done what it says.
fn carried_out(statement: &Prepared, signal: &Signal) -> (Box<[u8]>, Told) {
    let own = statement.rewritten.get().map(|rewritten| &rewritten.sql);
    let sql = own.unwrap_or(&statement.sql).clone();
    let done = signal.carried_out(&sql);
    (sql, done)
}

fn rewritten(
    statement: Rc<Prepared>,
    sql: &[u8],
    told: Told,
    signal: Option<Signal>,
) -> Rc<Prepared> {
    statement.rewritten.get_or_init(|| Rewritten {
        sql: sql.into(),
        changes: told.changes,
        signal,
    });
    statement
}

/// Where the text of a statement comes from, if it is not the client's own.
pub(super) fn origin(statement: &Rc<Prepared>) -> Option<Rc<Written>> {
    let rewritten = statement.rewritten.get().is_some();
    rewritten.then(|| Rc::new(Written::whole(statement)))
}

/// An integer parameter.
fn number_of(format: i16, value: &[u8]) -> Option<i32> {
    match (format, value.len()) {
        (0, _) => std::str::from_utf8(value).ok()?.trim().parse().ok(),
        (_, 2) => Some(i16::from_be_bytes(value.try_into().ok()?).into()),
        (_, 4) => Some(i32::from_be_bytes(value.try_into().ok()?)),
        _ => None,
    }
}

/// The refusal of what names no process by a number that is told.
fn hidden(what: String) -> Halt {
    refused(&Refusal::about(Reason::ProcessHidden, what)).into()
}

/// What a server's error means that is about the number of a client.
pub(super) fn unknown_to_server(fields: &Fields<'_>) -> Option<Report> {
    let message = fields.message?;
    let marked = message
        .windows(MARK.len())
        .any(|part| part == MARK.as_bytes());
    let invalid = fields.code == Some(b"22P02");
    (marked && invalid).then(|| refused(&Refusal::new(Reason::ProcessOfAnother)))
}
