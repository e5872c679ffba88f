//! The number of the client's process: texts that ask for it get the one that the client was told, and what is to be
//! done to the process of another client is done to that client.
//!
//! A number that is a client's of this router is never a process of a server, so the two cannot be mistaken.

use super::dispatch::refused;
use super::{Halt, Session};
use crate::core::{ClientNumber, Core, Entry};
use crate::statements::errors::Written;
use crate::statements::names::{Origin, Prepared};
use crate::statements::rewritten::{About, Rewritten};
use mothership_plan::{Plan, Reason, Refusal, Target as Place};
use mothership_proto::frontend::{Bind, Parse};
use mothership_proto::report::{Fields, Report, sqlstate};
use mothership_sql::effect::Pin;
use mothership_sql::process::{
    ClientIdentity, GREATEST, MARK, ProcessAction, Processes, RewrittenQuery, SignalRows,
    Signalled, Target, numbers, told,
};
use std::rc::Rc;
use std::sync::Arc;

impl Session {
    /// A simple query with the client's number wherever it asks for that of its process. `None` if it does not.
    pub(super) fn told_query(&self, statement: &Prepared) -> Result<Option<Rc<Prepared>>, Halt> {
        let Some((told, about)) = self.told(statement)? else {
            return Ok(None);
        };
        let query = self.queried(&told.sql);
        Ok(Some(rewritten(query, &statement.sql, told, about)))
    }

    /// The same of what Parse names.
    pub(super) fn told_parse(
        &self,
        parse: &Parse<'_>,
        statement: &Prepared,
    ) -> Result<Option<Rc<Prepared>>, Halt> {
        let Some((told, about)) = self.told(statement)? else {
            return Ok(None);
        };
        let parsed = self.statement(&Parse {
            name: parse.name,
            sql: &told.sql,
            types: parse.types,
        });
        Ok(Some(rewritten(parsed, parse.sql, told, about)))
    }

    fn told(&self, statement: &Prepared) -> Result<Option<(RewrittenQuery, Option<About>)>, Halt> {
        if !statement.steps.iter().any(|step| step.processes) {
            return Ok(None);
        }
        let strings = self.standard_strings();
        let about = About::of(&statement.sql, strings);
        let own = ClientIdentity {
            number: self.entry.process.get(),
            has_temporary: self.state.pins.has(Pin::TempObject)
                || self.state.pins.has(Pin::Opaque)
                || self.is_session_mode(),
        };
        let is_resolved = about.as_ref().is_some_and(|a| a.target().is_some());
        let told = told(&statement.sql, strings, own, is_resolved).map_err(hidden)?;
        if let Some(told) = &told {
            self.topology.check_text(&told.sql)?;
        }
        Ok(told.map(|told| (told, about)))
    }

    /// Does what a simple query does to another client, or looks up whom it asks about; then the text is one that says so.
    pub(super) async fn signalled_query(
        &mut self,
        statement: &Rc<Prepared>,
    ) -> Result<Option<Rc<Prepared>>, Halt> {
        let Some(about) = about(statement) else {
            return Ok(None);
        };
        let number = match about.target() {
            Some(Target::Number(number)) => Some(number),
            Some(Target::Parameter(_)) => return Ok(None),
            None => None,
        };
        self.check_steps(&statement.steps)?;
        let sql = own_text(statement);
        let Some(done) = Box::pin(self.resolved(statement, &about, number, &sql)).await? else {
            return Ok(None);
        };
        let query = self.queried(&done.sql);
        Ok(Some(rewritten(query, &sql, done, None)))
    }

    /// The same of a Bind.
    pub(super) async fn signalled_bind(
        &mut self,
        bind: &Bind<'_>,
        statement: &Rc<Prepared>,
    ) -> Result<Option<Rc<Prepared>>, Halt> {
        let (Some(about), Origin::Parse(types)) = (about(statement), &statement.origin) else {
            return Ok(None);
        };
        let number = match about.target() {
            Some(Target::Number(number)) => Some(number),
            Some(Target::Parameter(at)) => bind
                .value(usize::from(at).wrapping_sub(1))
                .and_then(|(format, value)| number_of(format, value?)),
            None => None,
        };
        if number.is_none() && about.target().is_some() {
            return Ok(None);
        }
        self.check_steps(&statement.steps)?;
        self.settle_active().await?;
        let sql = own_text(statement);
        let Some(done) = Box::pin(self.resolved(statement, &about, number, &sql)).await? else {
            return Ok(None);
        };
        let parsed = self.statement(&Parse {
            name: b"",
            sql: &done.sql,
            types,
        });
        Ok(Some(rewritten(parsed, &sql, done, None)))
    }

    /// What becomes of a text about the process of this number, or about those of rows; None if it is the server's to
    /// answer as it stands.
    async fn resolved(
        &mut self,
        statement: &Rc<Prepared>,
        about: &About,
        number: Option<i32>,
        sql: &[u8],
    ) -> Result<Option<RewrittenQuery>, Halt> {
        match (about, number) {
            (About::Signal(signal), Some(number)) => {
                let done = self.signal(signal.action, number).await?;
                Ok(done.then(|| signal.carried_out(sql)))
            }
            (About::Question(question), Some(number)) => {
                let processes = self.processes(number, &question.others).await?;
                Ok(Some(question.asked(sql, &processes)))
            }
            (About::Rows(rows), _) => Box::pin(self.signal_rows(statement, rows, sql)).await,
            (_, None) => Ok(None),
        }
    }

    /// Reads the numbers that stand in rows of the home shard and signals the clients that have them.
    ///
    /// # Errors
    /// The server's, if the rows cannot be read. 0A000 if they have too many numbers of clients.
    async fn signal_rows(
        &mut self,
        statement: &Rc<Prepared>,
        rows: &SignalRows,
        sql: &[u8],
    ) -> Result<Option<RewrittenQuery>, Halt> {
        let plan = self.look_for_unknown(statement, 0).await?;
        let at_home = match plan.as_deref() {
            Some(Plan::Single(single)) => single.target == Place::Home,
            Some(_) => false,
            None => true,
        };
        let Ok(question) = String::from_utf8(rows.question(sql)) else {
            return Ok(None);
        };
        if !at_home {
            return Ok(None);
        }
        let at = self.attach(self.topology.home).await?;
        let answer = self.ask_row(at, &question).await?;
        let Some(numbers) = numbers(answer.as_deref()) else {
            return Err(refused(&Refusal::new(Reason::ProcessOfAnother)).into());
        };
        let own = self.entry.process.get();
        let mut signalled = Signalled::default();
        for number in numbers.into_iter().filter(|number| *number != own) {
            match self.signal(rows.action, number).await? {
                true => signalled.done.push(number),
                false => signalled.unknown.push(number),
            }
        }
        Ok(Some(rows.carried_out(sql, own, &signalled)))
    }

    /// The processes of the home shard's server behind these numbers, and whose they are at this moment.
    ///
    /// # Errors
    /// 0A000 if the client of the first number works on other servers, too: who blocks it there is not known here.
    async fn processes(&mut self, number: i32, others: &[i32]) -> Result<Processes, Halt> {
        let at = self.attach(self.topology.home).await?;
        let own = (
            self.servers[at].lease.cancel.key.pid,
            self.entry.process.get(),
        );
        let server = self.servers[at].lease.pool().opener().endpoint().id;
        let mut clients = vec![own];
        let mut elsewhere = Vec::new();
        let told = move |core: &Rc<Core>| {
            let sessions = core.sessions.borrow();
            let shown = sessions.iter().flat_map(|entry| {
                let working = entry.working.borrow();
                let shown = working.iter().map(|w| (w.endpoint.id, w.target.key.pid));
                let shown: Vec<_> = shown.collect();
                shown.into_iter().map(|shown| (entry.process.get(), shown))
            });
            Some(shown.collect::<Vec<_>>())
        };
        let shared = Arc::clone(&self.core.shared);
        for (number, (there, process)) in shared.ask(told).await.into_iter().flatten().flatten() {
            match there == server {
                _ if number == own.1 => {}
                true => clients.push((process, number)),
                false => elsewhere.push(number),
            }
        }
        // A number that is not of this router is the server's to judge.
        let is_ours = |number: i32| {
            number > GREATEST
                && ClientNumber::decode(number).process == shared.other_process.process
        };
        let real = |number: i32| match clients.iter().find(|(_, known)| *known == number) {
            Some((process, _)) => Some(*process),
            None if is_ours(number) => None,
            None => Some(number),
        };
        let target = real(number);
        // It may wait there, whatever it does here.
        if elsewhere.contains(&number) {
            return Err(refused(&Refusal::new(Reason::ProcessOfAnother)).into());
        }
        Ok(Processes {
            target,
            others: others.iter().filter_map(|other| real(*other)).collect(),
            clients,
        })
    }

    /// Cancels what another client does, or ends its session, if the role may. False if the number is not that of
    /// another client of this router.
    async fn signal(&mut self, event: ProcessAction, number: i32) -> Result<bool, Halt> {
        if number <= GREATEST || number == self.entry.process.get() {
            return Ok(false);
        }
        let client = ClientNumber::decode(number);
        let shared = Arc::clone(&self.core.shared);
        if client.process != shared.other_process.process {
            return Ok(false);
        }
        let who = move |core: &Rc<Core>| {
            let entry = at(core, client)?;
            (!entry.who.is_console)
                .then(|| (entry.who.number, Arc::clone(&entry.who.names.server_user)))
        };
        let found = shared.ask(who).await.into_iter().flatten().next();
        let Some((session, role)) = found else {
            return Ok(false);
        };
        self.check_may_signal(event, &role).await?;
        let act = move |core: &Rc<Core>| {
            let entry = at(core, client).filter(|entry| entry.who.number == session);
            if let Some(entry) = entry {
                match event {
                    ProcessAction::Cancel => crate::core::cancel_entry(core, &entry, Rc::new(())),
                    ProcessAction::Terminate => entry.terminate(),
                }
            }
        };
        shared.ask(act).await;
        Ok(true)
    }

    /// Fails in PostgreSQL's words if the client's role may not signal processes of `role`.
    async fn check_may_signal(&mut self, event: ProcessAction, role: &str) -> Result<(), Halt> {
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
        let said = self.ask_row(at, &sql).await?;
        let message = match (said.as_deref(), event) {
            (Some("may"), _) => return Ok(()),
            (Some("superuser"), ProcessAction::Cancel) => {
                "must be a superuser to cancel superuser query"
            }
            (Some("superuser"), ProcessAction::Terminate) => {
                "must be a superuser to terminate superuser process"
            }
            (_, ProcessAction::Cancel) => {
                "must be a member of the role whose query is being canceled or member of pg_signal_backend"
            }
            (_, ProcessAction::Terminate) => {
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

fn about(statement: &Prepared) -> Option<About> {
    statement.rewritten.get()?.about.clone()
}

/// The client's text.
fn own_text(statement: &Prepared) -> Box<[u8]> {
    let own = statement.rewritten.get().map(|rewritten| &rewritten.sql);
    own.unwrap_or(&statement.sql).clone()
}

fn rewritten(
    statement: Rc<Prepared>,
    sql: &[u8],
    told: RewrittenQuery,
    about: Option<About>,
) -> Rc<Prepared> {
    statement.rewritten.get_or_init(|| Rewritten {
        sql: sql.into(),
        changes: told.changes,
        about,
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
