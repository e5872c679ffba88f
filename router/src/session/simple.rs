//! Simple queries and function calls: one message in, everything up to
//! ReadyForQuery out.

use super::names::{Origin, Prepared};
use super::state::{Block, Outcome, Phase};
use super::step::{Kind, Step, currval_refused, steps};
use super::{Halt, Session, violation};
use crate::sql::effect::Pin;
use mothership_proto::backend;
use mothership_proto::frontend::{self, Parse, put_query};
use mothership_proto::ledger::{Audience, Owed};
use mothership_proto::report::{Report, sqlstate};
use std::rc::Rc;

impl Session {
    pub(super) async fn on_query(&mut self, body: &[u8]) -> Result<(), Halt> {
        let sql = frontend::query(body).map_err(|e| violation(e.to_string()))?;
        if self.state.phase == Phase::Segment {
            // PostgreSQL lets a simple query end an open pipeline; its implicit
            // transaction goes on into the query.
            if let Some(at) = self.active {
                self.servers[at].lease.wire.send(frontend::FLUSH);
                self.settle(at).await?;
            }
        }
        self.state.phase = Phase::Query;
        self.state.names.drop_unnamed();
        self.state.portals.remove(&b""[..]);
        let statement = self.core.interner.intern(sql, Origin::Query, 0, || {
            steps(sql, self.standard_strings())
        });
        match statement.steps.as_slice() {
            [one] => self.query_one(sql, one, &statement).await,
            several => {
                if let Some(step) = several.iter().find(|s| must_be_alone(&s.kind)) {
                    return Err(alone_report(&step.kind).into());
                }
                self.query_on_server(sql, &statement).await
            }
        }
    }

    async fn query_one(
        &mut self,
        sql: &[u8],
        step: &Step,
        statement: &Rc<Prepared>,
    ) -> Result<(), Halt> {
        if self.runs_here(&step.kind) {
            self.run_here(&step.kind)?;
            self.state.ready_alone(&mut self.client);
            return Ok(());
        }
        match &step.kind {
            Kind::Refuse(report) => Err(Halt::Fail((**report).clone())),
            Kind::Prepare(name) => self.prepare(sql, step, name).await,
            Kind::Execute(name) => self.execute(sql, step, name).await,
            _ => self.query_on_server(sql, statement).await,
        }
    }

    async fn query_on_server(&mut self, sql: &[u8], statement: &Rc<Prepared>) -> Result<(), Halt> {
        self.check_steps(&statement.steps)?;
        let at = self.attach(self.topology.home).await?;
        let count = statement.steps.len();
        let outcomes = (0..count).map(|i| Outcome::Of(Rc::clone(statement), i));
        self.send_query(at, sql, outcomes);
        let inbox = &mut self.servers[at].inbox;
        inbox.may_write = statement.steps.iter().any(|s| s.writes);
        inbox.committing = statement
            .steps
            .iter()
            .any(|s| matches!(s.kind, Kind::Commit { .. }));
        Ok(())
    }

    fn send_query(&mut self, at: usize, sql: &[u8], outcomes: impl Iterator<Item = Outcome>) {
        let attached = &mut self.servers[at];
        attached.inbox.outcomes.extend(outcomes);
        attached.lease.notes.unnamed = None;
        attached.lease.wire.with_output(|out| put_query(out, sql));
        attached.lease.ledger.push(Owed::Query(Audience::Client));
    }

    /// What may not run at all, whatever the server would say.
    pub(super) fn check_steps(&self, steps: &[Step]) -> Result<(), Halt> {
        if self.state.block == Block::Lost {
            return Err(failed_transaction().into());
        }
        for step in steps {
            if step.pins.has(Pin::SequenceState)
                && self.state.pins.is_empty()
                && !self.identity.session_mode
            {
                return Err(currval_refused().into());
            }
            if self.identity.statement_mode && matches!(step.kind, Kind::Begin(_)) {
                return Err(Report::error(
                    sqlstate::FEATURE_NOT_SUPPORTED,
                    "transaction blocks are not allowed in statement pooling",
                )
                .hint("Use pool_mode = \"transaction\" for this user or database.")
                .into());
            }
        }
        Ok(())
    }

    /// True for what the router answers itself: transaction control that no server
    /// knows of, and the end of a transaction that no server holds any longer.
    pub(super) fn runs_here(&self, kind: &Kind) -> bool {
        let no_server = self.servers.is_empty();
        match (kind, &self.state.block) {
            (Kind::Deallocate(_), _) => true,
            (Kind::Begin(_), Block::None | Block::Begun { .. }) => {
                no_server && !self.identity.statement_mode
            }
            (Kind::Commit { .. } | Kind::Rollback { .. }, Block::Begun { .. } | Block::Lost) => {
                no_server
            }
            (Kind::Savepoint(_), Block::Begun { .. }) => no_server,
            (Kind::RollbackTo(name) | Kind::Release(name), Block::Begun { savepoints, .. }) => {
                no_server && savepoints.contains(name)
            }
            _ => false,
        }
    }

    /// Does it, and writes the answer up to CommandComplete.
    pub(super) fn run_here(&mut self, kind: &Kind) -> Result<(), Halt> {
        let block = std::mem::replace(&mut self.state.block, Block::None);
        let (block, command): (Block, &[u8]) = match (kind, block) {
            (Kind::Begin(modes), Block::None) => {
                self.state.settings.begin();
                let begun = Block::Begun {
                    modes: modes.clone(),
                    savepoints: Vec::new(),
                };
                (begun, b"BEGIN")
            }
            (Kind::Begin(_), begun) => {
                let warning = "there is already a transaction in progress";
                let warning = Report::warning(sqlstate::ACTIVE_TRANSACTION, warning);
                self.client.with_output(|out| warning.put(out));
                (begun, b"BEGIN")
            }
            (Kind::Commit { chain }, Block::Begun { modes, .. }) => {
                self.state.settings.commit();
                (chained(*chain, modes), b"COMMIT")
            }
            (Kind::Rollback { chain }, Block::Begun { modes, .. }) => {
                self.state.settings.rollback();
                (chained(*chain, modes), b"ROLLBACK")
            }
            (Kind::Commit { .. } | Kind::Rollback { .. }, _) => {
                self.state.settings.rollback();
                (Block::None, b"ROLLBACK")
            }
            (
                Kind::Savepoint(name),
                Block::Begun {
                    modes,
                    mut savepoints,
                },
            ) => {
                self.state.settings.savepoint(name);
                savepoints.push(name.clone());
                (Block::Begun { modes, savepoints }, b"SAVEPOINT")
            }
            (
                Kind::RollbackTo(name),
                Block::Begun {
                    modes,
                    mut savepoints,
                },
            ) => {
                self.state.settings.rollback_to(name);
                let at = savepoints.iter().rposition(|s| s == name).unwrap_or(0);
                savepoints.truncate(at + 1);
                (Block::Begun { modes, savepoints }, b"ROLLBACK")
            }
            (
                Kind::Release(name),
                Block::Begun {
                    modes,
                    mut savepoints,
                },
            ) => {
                self.state.settings.release(name);
                let at = savepoints.iter().rposition(|s| s == name).unwrap_or(0);
                savepoints.truncate(at);
                (Block::Begun { modes, savepoints }, b"RELEASE")
            }
            (Kind::Deallocate(name), block) => {
                self.state.block = block.clone();
                (block, self.deallocate(name.as_deref())?)
            }
            (_, block) => {
                debug_assert!(false, "asked runs_here before");
                (block, b"")
            }
        };
        self.state.block = block;
        self.client
            .with_output(|out| backend::put_complete(out, command));
        Ok(())
    }

    /// DEALLOCATE concerns only the client's own names.
    fn deallocate(&mut self, name: Option<&[u8]>) -> Result<&'static [u8], Halt> {
        if self.state.block.status() == backend::TxStatus::Failed {
            return Err(failed_transaction().into());
        }
        let Some(name) = name else {
            self.state.names.clear();
            return Ok(b"DEALLOCATE ALL");
        };
        if self.state.names.remove(name) {
            Ok(b"DEALLOCATE")
        } else {
            Err(no_such_statement(name).into())
        }
    }

    /// PREPARE: the statement gets a name of ours on the server.
    async fn prepare(&mut self, sql: &[u8], step: &Step, name: &[u8]) -> Result<(), Halt> {
        self.check_steps(std::slice::from_ref(step))?;
        if self.state.names.get(name).is_some() {
            return Err(duplicate_statement(name).into());
        }
        let Some(span) = step.name_span else {
            return Err(alone_report(&step.kind).into());
        };
        let strings = self.standard_strings();
        let prepared = self
            .core
            .interner
            .intern(sql, Origin::Prepare(span), self.epoch(), || {
                super::step::prepared_steps(sql, strings)
            });
        let at = self.attach(self.topology.home).await?;
        if self.servers[at].lease.notes.prepared.touch(prepared.id) {
            self.state.names.define_now(name, prepared);
            self.client
                .with_output(|out| backend::put_complete(out, b"PREPARE"));
            self.ready_with(at);
            return Ok(());
        }
        let text = prepared.definition();
        self.send_query(
            at,
            &text,
            std::iter::once(Outcome::Defined(name.into(), Rc::clone(&prepared))),
        );
        Ok(())
    }

    /// EXECUTE: the statement is prepared where it is not yet, under our name.
    async fn execute(&mut self, sql: &[u8], step: &Step, name: &[u8]) -> Result<(), Halt> {
        self.check_steps(std::slice::from_ref(step))?;
        let Some(prepared) = self.state.names.get(name).cloned() else {
            return Err(no_such_statement(name).into());
        };
        let Some(span) = step.name_span else {
            return Err(alone_report(&step.kind).into());
        };
        self.check_steps(&prepared.steps)?;
        let at = self.attach(self.topology.home).await?;
        if !self.servers[at].lease.notes.prepared.touch(prepared.id) {
            self.make_prepared(at, &prepared).await?;
        }
        let text = renamed(sql, span, &prepared.server_name());
        self.send_query(
            at,
            &text,
            std::iter::once(Outcome::Of(Rc::clone(&prepared), 0)),
        );
        self.servers[at].inbox.may_write = prepared.steps.iter().any(|s| s.writes);
        Ok(())
    }

    /// Prepares a statement on a server outside of a segment, and waits for it.
    async fn make_prepared(&mut self, at: usize, prepared: &Rc<Prepared>) -> Result<(), Halt> {
        match &prepared.origin {
            Origin::Parse(types) => {
                let attached = &mut self.servers[at];
                let name = prepared.server_name();
                let parse = Parse {
                    name: name.as_bytes(),
                    sql: &prepared.sql,
                    types,
                };
                attached.inbox.private = true;
                attached.lease.wire.with_output(|out| {
                    parse.put(out);
                    out.extend_from_slice(frontend::SYNC);
                });
                let ledger = &mut attached.lease.ledger;
                ledger.push(Owed::Parse(prepared.id, Audience::Router));
                ledger.push(Owed::Sync(Audience::Router));
                self.finish_private(at).await
            }
            _ => {
                self.ask(at, &prepared.definition()).await?;
                self.servers[at].lease.notes.prepared.insert(prepared.id);
                Ok(())
            }
        }
    }

    /// The request ends here, while the transaction stays on its server.
    fn ready_with(&mut self, at: usize) {
        match self.servers[at].lease.status {
            backend::TxStatus::Idle if self.state.block == Block::Open => {}
            _ => {}
        }
        self.state.ready_alone(&mut self.client);
    }

    pub(super) async fn on_function_call(&mut self, body: &[u8]) -> Result<(), Halt> {
        self.state.phase = Phase::Query;
        self.check_steps(&[])?;
        let at = self.attach(self.topology.home).await?;
        let attached = &mut self.servers[at];
        attached.inbox.may_write = true;
        attached.lease.wire.with_output(|out| {
            mothership_proto::frame::put(out, frontend::tag::FUNCTION_CALL, |b| {
                b.extend_from_slice(body)
            });
        });
        attached.lease.ledger.push(Owed::FunctionCall);
        // Which function it is stands in an OID of the server; it may do anything.
        self.state.pins = self.state.pins.with(Pin::Opaque);
        Ok(())
    }

    /// The epoch that new prepared statements belong to.
    pub(super) fn epoch(&self) -> u64 {
        let epoch = &self.core.shared.schema_epoch;
        epoch.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Whether backslashes in plain strings are plain.
    pub(super) fn standard_strings(&self) -> bool {
        let told = self
            .state
            .told
            .iter()
            .find(|(n, _)| n == b"standard_conforming_strings");
        told.is_none_or(|(_, value)| value == b"on")
    }
}

fn chained(chain: bool, modes: String) -> Block {
    if chain {
        Block::Begun {
            modes,
            savepoints: Vec::new(),
        }
    } else {
        Block::None
    }
}

/// The text with another name in place of the client's.
pub(super) fn renamed(sql: &[u8], span: crate::sql::cursor::Span, name: &str) -> Vec<u8> {
    [
        &sql[..span.start],
        b"\"",
        name.as_bytes(),
        b"\"",
        &sql[span.end..],
    ]
    .concat()
}

/// What the router takes part in cannot be one of several statements of a text.
fn must_be_alone(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Prepare(_) | Kind::Execute(_) | Kind::Deallocate(_) | Kind::Refuse(_)
    )
}

fn alone_report(kind: &Kind) -> Report {
    if let Kind::Refuse(report) = kind {
        return (**report).clone();
    }
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "PREPARE, EXECUTE and DEALLOCATE must be the only statement of a simple query",
    )
    .detail("the router keeps prepared statements for all of its servers")
    .hint("Send the statements one by one.")
}

/// PostgreSQL's own words for a statement in a failed transaction.
pub(super) fn failed_transaction() -> Report {
    Report::error(
        sqlstate::IN_FAILED_TRANSACTION,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

/// PostgreSQL's own words for a name that is not there.
pub(super) fn no_such_statement(name: &[u8]) -> Report {
    let message = if name.is_empty() {
        "unnamed prepared statement does not exist".to_owned()
    } else {
        format!(
            "prepared statement \"{}\" does not exist",
            String::from_utf8_lossy(name)
        )
    };
    Report::error(sqlstate::INVALID_STATEMENT_NAME, message)
}

/// PostgreSQL's own words for a name that is taken.
pub(super) fn duplicate_statement(name: &[u8]) -> Report {
    Report::error(
        sqlstate::DUPLICATE_STATEMENT,
        format!(
            "prepared statement \"{}\" already exists",
            String::from_utf8_lossy(name)
        ),
    )
}
