//! The extended protocol: Parse, Bind, Describe, Execute, Close, Flush, Sync.
//!
//! Messages go to the server as they come; nothing waits for a reply that the
//! client does not wait for itself, except where a statement must be prepared anew
//! on a server that does not know it.

use super::names::{Origin, Prepared};
use super::simple::{duplicate_statement, no_such_statement, renamed};
use super::state::{Outcome, Phase, Portal};
use super::step::{Kind, prepared_steps, steps};
use super::{Halt, Session, violation};
use mothership_proto::backend;
use mothership_proto::frontend::{self, Bind, Parse, Target};
use mothership_proto::ledger::{Audience, Owed};
use mothership_proto::report::{Report, sqlstate};
use std::rc::Rc;

impl Session {
    pub(super) async fn on_parse(&mut self, body: &[u8]) -> Result<(), Halt> {
        self.state.phase = Phase::Segment;
        let parse = Parse::read(body).map_err(|e| violation(e.to_string()))?;
        if !parse.name.is_empty() {
            if self.state.names.get(parse.name).is_some() {
                return Err(duplicate_statement(parse.name).into());
            }
            self.check_room(parse.name, parse.sql)?;
        }
        let statement = self.statement(&parse)?;
        if let Some(Kind::Refuse(report)) = statement.step().map(|s| &s.kind) {
            return Err(Halt::Fail((**report).clone()));
        }
        if statement.step().is_some_and(|s| self.runs_here(&s.kind)) {
            self.state.names.define(parse.name, statement);
            self.answer(backend::PARSE_COMPLETE);
            return Ok(());
        }
        self.check_steps(&statement.steps)?;
        let at = self.attach(self.topology.home).await?;
        if let Some(needed) = self.needed_by(&statement) {
            self.ensure_prepared(at, &needed).await?;
        }
        let named = !parse.name.is_empty();
        let attached = &mut self.servers[at];
        if named && attached.lease.notes.prepared.touch(statement.id) {
            self.state.names.define(parse.name, statement);
            self.answer(backend::PARSE_COMPLETE);
            return Ok(());
        }
        self.send_parse(at, &statement, named, Audience::Client);
        self.state.names.define(parse.name, statement);
        Ok(())
    }

    /// The statement of a Parse. EXECUTE and PREPARE are rewritten to the names that
    /// servers know.
    fn statement(&self, parse: &Parse<'_>) -> Result<Rc<Prepared>, Halt> {
        let strings = self.standard_strings();
        let origin = || Origin::Parse(parse.types.into());
        let read = || steps(parse.sql, strings);
        let statement = self
            .core
            .interner
            .intern(parse.sql, origin(), self.epoch(), read);
        let Some(step) = statement.step() else {
            return Ok(statement);
        };
        match (&step.kind, step.name_span) {
            (Kind::Execute(name), Some(span)) => {
                let Some(prepared) = self.state.names.get(name) else {
                    return Err(no_such_statement(name).into());
                };
                let sql = renamed(parse.sql, span, &prepared.server_name());
                let read = || {
                    let mut steps = prepared_steps(&prepared.sql, strings);
                    steps
                        .iter_mut()
                        .for_each(|s| s.kind = Kind::Execute(name.clone()));
                    steps
                };
                Ok(self
                    .core
                    .interner
                    .intern(&sql, origin(), self.epoch(), read))
            }
            (Kind::Prepare(_), _) => Err(Report::error(
                sqlstate::FEATURE_NOT_SUPPORTED,
                "PREPARE cannot be sent through the extended protocol",
            )
            .hint("Send it as a simple query, or use the protocol's own Parse.")
            .into()),
            _ => Ok(statement),
        }
    }

    /// The statement that an EXECUTE runs.
    fn needed_by(&self, statement: &Prepared) -> Option<Rc<Prepared>> {
        match statement.step().map(|s| &s.kind) {
            Some(Kind::Execute(name)) => self.state.names.get(name).cloned(),
            _ => None,
        }
    }

    fn check_room(&self, name: &[u8], sql: &[u8]) -> Result<(), Halt> {
        let limits = &self.topology.config.limits;
        let (count, bytes) = self.state.names.size();
        let most = limits.client_statements.get() as usize;
        if count >= most {
            return Err(over_limit(
                format!("a client may have {most} prepared statements"),
                "limits.client_statements",
            )
            .into());
        }
        let room = limits.client_statements_size.bytes();
        if bytes + name.len() + sql.len() > room {
            return Err(over_limit(
                format!("a client's prepared statements may have {room} bytes"),
                "limits.client_statements_size",
            )
            .into());
        }
        Ok(())
    }

    fn send_parse(&mut self, at: usize, statement: &Rc<Prepared>, named: bool, to: Audience) {
        let Origin::Parse(types) = &statement.origin else {
            debug_assert!(false, "only what was parsed is parsed again");
            return;
        };
        self.make_room(at);
        let attached = &mut self.servers[at];
        let name = if named {
            statement.server_name()
        } else {
            String::new()
        };
        let parse = Parse {
            name: name.as_bytes(),
            sql: &statement.sql,
            types,
        };
        attached.lease.wire.with_output(|out| parse.put(out));
        if named {
            attached.inbox.preparing.push(statement.id);
            attached.lease.ledger.push(Owed::Parse(statement.id, to));
        } else {
            attached.lease.notes.unnamed = Some(statement.id);
            attached.lease.ledger.push(Owed::Parse(0, to));
        }
    }

    /// Drops the least recently used statement of a connection that has too many.
    fn make_room(&mut self, at: usize) {
        let limit = self.topology.config.pool.prepared_statements as usize;
        let attached = &mut self.servers[at];
        let pending = attached.inbox.preparing.len();
        let Some(id) = attached
            .lease
            .notes
            .prepared
            .surplus(limit.saturating_sub(pending + 1))
        else {
            return;
        };
        attached.lease.notes.prepared.remove(id);
        attached.inbox.closing.push_back(id);
        let name = super::names::server_name(id);
        attached
            .lease
            .wire
            .with_output(|out| frontend::put_close(out, Target::Statement, name.as_bytes()));
        attached.lease.ledger.push(Owed::Close(Audience::Router));
    }

    /// Makes a statement of the client known to this server, if it is not yet.
    async fn ensure_prepared(&mut self, at: usize, statement: &Rc<Prepared>) -> Result<(), Halt> {
        let attached = &mut self.servers[at];
        if attached.lease.notes.prepared.touch(statement.id)
            || attached.inbox.preparing.contains(&statement.id)
        {
            return Ok(());
        }
        match &statement.origin {
            Origin::Parse(_) => self.parse_again(at, statement, true).await,
            _ => {
                let text = statement.definition();
                self.run_quietly(at, &text).await?;
                self.servers[at].lease.notes.prepared.insert(statement.id);
                Ok(())
            }
        }
    }

    /// Runs a statement of the router inside of the client's segment and waits.
    async fn run_quietly(&mut self, at: usize, sql: &[u8]) -> Result<(), Halt> {
        let lease = &mut self.servers[at].lease;
        lease.notes.unnamed = None;
        lease.wire.with_output(|out| {
            Parse {
                name: b"",
                sql,
                types: &[],
            }
            .put(out);
            frontend::put_plain_bind(out, b"", b"");
            frontend::put_execute(out, b"", 0);
            out.extend_from_slice(frontend::FLUSH);
        });
        for owed in [
            Owed::Parse(0, Audience::Router),
            Owed::Bind(Audience::Router),
            Owed::Execute(Audience::Router),
        ] {
            lease.ledger.push(owed);
        }
        self.settle(at).await
    }

    /// Parses a known statement on another server. If the server describes it
    /// otherwise than the first one did, the client's idea of its columns is wrong:
    /// PostgreSQL says so for a plan that outlived a change of its table.
    async fn parse_again(
        &mut self,
        at: usize,
        statement: &Rc<Prepared>,
        named: bool,
    ) -> Result<(), Halt> {
        self.send_parse(at, statement, named, Audience::Router);
        if statement.described.get().is_none() {
            return Ok(());
        }
        let name = if named {
            statement.server_name()
        } else {
            String::new()
        };
        let attached = &mut self.servers[at];
        attached.inbox.changed = false;
        attached
            .inbox
            .describing
            .push_back(Some(Rc::clone(statement)));
        attached.lease.wire.with_output(|out| {
            frontend::put_describe(out, Target::Statement, name.as_bytes());
            out.extend_from_slice(frontend::FLUSH);
        });
        attached
            .lease
            .ledger
            .push(Owed::DescribeStatement(Audience::Router));
        self.settle(at).await?;
        if std::mem::take(&mut self.servers[at].inbox.changed) {
            return Err(Report::error(
                sqlstate::FEATURE_NOT_SUPPORTED,
                "cached plan must not change result type",
            )
            // asyncpg tells this case from others by the routine.
            .routine("RevalidateCachedQuery")
            .into());
        }
        Ok(())
    }

    /// The statement of a name, known to the server `at`, and its name there.
    async fn on_server(
        &mut self,
        at: usize,
        name: &[u8],
        statement: &Rc<Prepared>,
    ) -> Result<String, Halt> {
        if let Some(needed) = self.needed_by(statement) {
            self.ensure_prepared(at, &needed).await?;
        }
        if !name.is_empty() {
            self.ensure_prepared(at, statement).await?;
            return Ok(statement.server_name());
        }
        if self.servers[at].lease.notes.unnamed != Some(statement.id) {
            self.parse_again(at, statement, false).await?;
        }
        Ok(String::new())
    }

    pub(super) async fn on_bind(&mut self, body: &[u8]) -> Result<(), Halt> {
        self.state.phase = Phase::Segment;
        let bind = Bind::read(body).map_err(|e| violation(e.to_string()))?;
        let Some(statement) = self.state.names.get(bind.statement).cloned() else {
            return Err(no_such_statement(bind.statement).into());
        };
        if !bind.portal.is_empty() && !self.state.portals.contains_key(bind.portal) {
            let most = self.topology.config.limits.client_portals.get() as usize;
            if self.state.portals.len() >= most {
                return Err(over_limit(
                    format!("a client may have {most} portals"),
                    "limits.client_portals",
                )
                .into());
            }
        }
        let is_local = statement.step().is_some_and(|s| self.runs_here(&s.kind));
        if is_local {
            self.answer(backend::BIND_COMPLETE);
        } else {
            self.check_steps(&statement.steps)?;
            let at = self.attach(self.topology.home).await?;
            let name = self.on_server(at, bind.statement, &statement).await?;
            let attached = &mut self.servers[at];
            attached
                .lease
                .wire
                .with_output(|out| bind.put_as(out, name.as_bytes()));
            attached.lease.ledger.push(Owed::Bind(Audience::Client));
        }
        let portal = Portal {
            statement,
            is_local,
        };
        match self.state.portals.get_mut(bind.portal) {
            Some(known) => *known = portal,
            None => {
                self.state.portals.insert(bind.portal.into(), portal);
            }
        }
        Ok(())
    }

    pub(super) async fn on_describe(&mut self, body: &[u8]) -> Result<(), Halt> {
        self.state.phase = Phase::Segment;
        let (target, name) = frontend::target(body).map_err(|e| violation(e.to_string()))?;
        match target {
            Target::Statement => self.describe_statement(name).await,
            Target::Portal => self.describe_portal(name).await,
        }
    }

    async fn describe_statement(&mut self, name: &[u8]) -> Result<(), Halt> {
        let Some(statement) = self.state.names.get(name).cloned() else {
            return Err(no_such_statement(name).into());
        };
        if statement.step().is_some_and(|s| self.runs_here(&s.kind)) {
            self.answer(backend::NO_PARAMETERS);
            self.answer(backend::NO_DATA);
            return Ok(());
        }
        self.check_steps(&statement.steps)?;
        let at = self.attach(self.topology.home).await?;
        let server_name = self.on_server(at, name, &statement).await?;
        let attached = &mut self.servers[at];
        attached.inbox.describing.push_back(Some(statement));
        attached.lease.wire.with_output(|out| {
            frontend::put_describe(out, Target::Statement, server_name.as_bytes())
        });
        attached
            .lease
            .ledger
            .push(Owed::DescribeStatement(Audience::Client));
        Ok(())
    }

    async fn describe_portal(&mut self, name: &[u8]) -> Result<(), Halt> {
        if self.state.portals.get(name).is_some_and(|p| p.is_local) {
            self.answer(backend::NO_DATA);
            return Ok(());
        }
        // A portal that is not there is the server's to report.
        let at = self.attach(self.topology.home).await?;
        let attached = &mut self.servers[at];
        attached.inbox.describing.push_back(None);
        attached
            .lease
            .wire
            .with_output(|out| frontend::put_describe(out, Target::Portal, name));
        attached
            .lease
            .ledger
            .push(Owed::DescribePortal(Audience::Client));
        Ok(())
    }

    pub(super) async fn on_execute(&mut self, body: &[u8]) -> Result<(), Halt> {
        self.state.phase = Phase::Segment;
        let (name, rows) = frontend::execute(body).map_err(|e| violation(e.to_string()))?;
        let portal = self.state.portals.get(name).cloned();
        if let Some(Portal {
            statement,
            is_local: true,
        }) = &portal
        {
            return self.execute_local(name, statement, rows).await;
        }
        let at = self.attach(self.topology.home).await?;
        let inbox = &mut self.servers[at].inbox;
        match &portal {
            Some(portal) => {
                inbox
                    .outcomes
                    .push_back(Outcome::Of(Rc::clone(&portal.statement), 0));
                if let Some(step) = portal.statement.step() {
                    inbox.may_write |= step.writes;
                    inbox.committing |= matches!(step.kind, Kind::Commit { .. });
                }
            }
            None => inbox.outcomes.push_back(Outcome::None),
        }
        let lease = &mut self.servers[at].lease;
        lease
            .wire
            .with_output(|out| frontend::put_execute(out, name, rows));
        lease.ledger.push(Owed::Execute(Audience::Client));
        Ok(())
    }

    /// Runs what the router answers itself, unless a server has come in between.
    async fn execute_local(
        &mut self,
        name: &[u8],
        statement: &Rc<Prepared>,
        rows: i32,
    ) -> Result<(), Halt> {
        let Some(step) = statement.step() else {
            return Ok(());
        };
        // Answers before this one must be out, because this one is written at once.
        if let Some(at) = self.active {
            self.servers[at].lease.wire.send(frontend::FLUSH);
            self.settle(at).await?;
        }
        if self.runs_here(&step.kind) {
            return self.run_here(&step.kind);
        }
        let at = self.attach(self.topology.home).await?;
        self.ensure_prepared(at, statement).await?;
        let server_name = statement.server_name();
        let attached = &mut self.servers[at];
        attached
            .inbox
            .outcomes
            .push_back(Outcome::Of(Rc::clone(statement), 0));
        attached.inbox.may_write = true;
        attached.inbox.committing |= matches!(step.kind, Kind::Commit { .. });
        attached.lease.wire.with_output(|out| {
            frontend::put_plain_bind(out, name, server_name.as_bytes());
            frontend::put_execute(out, name, rows);
        });
        attached.lease.ledger.push(Owed::Bind(Audience::Router));
        attached.lease.ledger.push(Owed::Execute(Audience::Client));
        Ok(())
    }

    pub(super) async fn on_close(&mut self, body: &[u8]) -> Result<(), Halt> {
        self.state.phase = Phase::Segment;
        let (target, name) = frontend::target(body).map_err(|e| violation(e.to_string()))?;
        match target {
            Target::Statement => {
                self.state.names.close(name);
                self.answer(backend::CLOSE_COMPLETE);
            }
            Target::Portal => {
                let known = self.state.portals.remove(name);
                match self.active {
                    Some(at) if !known.is_some_and(|p| p.is_local) => {
                        let lease = &mut self.servers[at].lease;
                        lease
                            .wire
                            .with_output(|out| frontend::put_close(out, Target::Portal, name));
                        lease.ledger.push(Owed::Close(Audience::Client));
                    }
                    Some(_) => {
                        self.state.names.close_nothing();
                        self.answer(backend::CLOSE_COMPLETE);
                    }
                    None => self.client.send(backend::CLOSE_COMPLETE),
                }
            }
        }
        Ok(())
    }

    pub(super) fn on_flush(&mut self) {
        if let Some(at) = self.active {
            self.servers[at].lease.wire.send(frontend::FLUSH);
        }
    }

    pub(super) async fn on_sync(&mut self) -> Result<(), Halt> {
        // A server that took part in the segment ends it with its own ReadyForQuery.
        let Some(at) = self.active.filter(|_| self.state.phase == Phase::Segment) else {
            self.state.ready_alone(&mut self.client);
            return Ok(());
        };
        let lease = &mut self.servers[at].lease;
        lease.wire.send(frontend::SYNC);
        lease.ledger.push(Owed::Sync(Audience::Client));
        self.state.phase = Phase::Syncing;
        self.state.skipping = false;
        Ok(())
    }
}

fn over_limit(message: String, setting: &str) -> Report {
    Report::error(sqlstate::LIMIT_EXCEEDED, message).hint(format!("The setting is {setting}."))
}
