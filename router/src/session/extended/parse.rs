//! Parse: what is wrong with a statement is said now, and which server gets it often only at its Bind.

use crate::session::allowed::failed_transaction;
use crate::session::judged::has_constant;
use crate::session::process;
use crate::session::rules::RuleStage;
use crate::session::servers::AttachedId;
use crate::session::simple::named::duplicate_statement;
use crate::session::state::Block;
use crate::session::{Halt, Session, malformed};
use crate::statements::names::{Meaning, Origin, Prepared};
use crate::statements::step::{Kind, steps};
use mothership_plan::Temporary;
use mothership_proto::backend::{self, TxStatus};
use mothership_proto::frontend::Parse;
use mothership_proto::ledger::Audience;
use mothership_proto::report::{Report, sqlstate};
use std::rc::Rc;

impl Session {
    pub(in crate::session) async fn on_parse(&mut self, body: &[u8]) -> Result<(), Halt> {
        self.begin_segment().await?;
        self.await_earlier().await?;
        self.flush_held().await?;
        let parse = Parse::read(body).map_err(malformed)?;
        if !parse.name.is_empty() && self.state.names.get(parse.name).is_some() {
            if self.state.block.status() == TxStatus::Failed {
                return Err(failed_transaction().into());
            }
            return Err(duplicate_statement(parse.name).into());
        }
        self.topology.check_text(parse.sql)?;
        self.check_room(parse.name, parse.sql)?;
        let statement = self.statement(&parse);
        let statement = self.told_parse(&parse, &statement)?.unwrap_or(statement);
        let statement = self.given(parse.name, statement);
        if let Some(Kind::Prepare(name)) = statement.step().map(|s| &s.kind)
            && !self.gives(name)
        {
            self.state.check_failed(&statement)?;
            return Box::pin(self.refuse_prepare(parse.sql)).await;
        }
        if let Some(Kind::Refuse(report)) = statement.step().map(|s| &s.kind) {
            return Err(Halt::Fail(report.clone()));
        }
        let meant = self.meant(&statement)?;
        self.heed(&meant, RuleStage::Prepared).await?;
        self.look_through(&statement).await;
        if has_constant(parse.sql) && self.runs_code_unseen(&statement) {
            self.state.run_unseen();
            self.run_unfollowed(&statement);
        }
        // Several commands are never ours to answer: the server, or the check below, refuses them.
        let one = statement.steps.len() == 1;
        if one
            && (self.state.explained_by(&statement)?.is_some()
                || statement.step().is_some_and(|s| self.runs_here(&s.kind)))
        {
            self.state.check_failed(&statement)?;
            self.state.names.define(parse.name, statement, None);
            self.answer(backend::PARSE_COMPLETE);
            return Ok(());
        }
        self.check_parsed(&statement.steps)?;
        if self.known.model.is_some() || self.rules.waits_for_bind(&statement) {
            if statement.steps.len() > 1 {
                return Err(Report::error(
                    sqlstate::SYNTAX_ERROR,
                    "cannot insert multiple commands into a prepared statement",
                )
                .into());
            }
            if let Err(halt) = Box::pin(self.check_unbound(&statement)).await {
                self.request.written = process::origin(&statement);
                return Err(Box::pin(self.judged(halt, &statement.sql, parse.types)).await);
            }
            // Which server it goes to is known at Bind, which often follows at once.
            self.request.held = Some((parse.name.into(), Rc::clone(&statement)));
            let context = self.context();
            self.state
                .names
                .define(parse.name, statement, Some(context));
            return Ok(());
        }
        let defined = Rc::clone(&statement);
        self.state.names.define(parse.name, defined, None);
        let at = self.attach_to_describe(self.topology.home).await?;
        self.parse_on(at, parse.name, &statement).await
    }

    /// Sends a Parse of the client to the server at the place `at`.
    pub(in crate::session) async fn parse_on(
        &mut self,
        at: AttachedId,
        name: &[u8],
        statement: &Rc<Prepared>,
    ) -> Result<(), Halt> {
        let named = !name.is_empty();
        let attached = &mut self.servers[at];
        // Two names of one text are one statement there, also before the server has confirmed the first.
        let known = attached.lease.notes.prepared.touch(statement.id)
            || attached.inbox.preparing.contains(&statement.id);
        if named && known {
            self.answer(backend::PARSE_COMPLETE);
            return Ok(());
        }
        let Some(written) = process::origin(statement) else {
            self.servers
                .send_parse(&self.topology, at, statement, named, Audience::Client);
            return Ok(());
        };
        // An error of this text, and of no other, has its place moved.
        self.settle_active().await?;
        self.servers[at].inbox.written = Some(written);
        self.servers
            .send_parse(&self.topology, at, statement, named, Audience::Client);
        let attached = &mut self.servers[at];
        attached.lease.flush();
        let settled = self.settle(at).await;
        if let Some(attached) = self.servers.get_mut(at) {
            attached.inbox.written = None;
        }
        settled
    }

    /// The held Parse can wait no longer: any server that knows the tables will do. What
    /// one has parsed in this context already needs none: a client that only prepares must
    /// not take a connection, least of all the home shard's for a transaction elsewhere.
    pub(in crate::session) async fn flush_held(&mut self) -> Result<(), Halt> {
        let Some((name, statement)) = self.request.held.take() else {
            return Ok(());
        };
        let context = self.context();
        let typed = statement.parameter_types.get().is_some() || !statement.has_open_types();
        let known = typed
            && context.temporary == Temporary::None
            && statement.valid_in.borrow().as_ref() == Some(&context);
        let unchanged = !self.state.schema_changed_in_block && self.state.block != Block::Failed;
        if known && unchanged {
            self.answer(backend::PARSE_COMPLETE);
            return Ok(());
        }
        let at = self.attach_to_describe(self.topology.home).await?;
        self.parse_on(at, &name, &statement).await
    }

    /// The statement of a Parse.
    pub(in crate::session) fn statement(&self, parse: &Parse<'_>) -> Rc<Prepared> {
        let strings = self.standard_strings();
        let read = || match self.shaped(parse.sql) {
            Some(shaped) => Meaning::from(shaped),
            None => Meaning::from(steps(parse.sql, strings)),
        };
        let (text, origin) = ((parse.sql, strings), Origin::Parse(parse.types.into()));
        let moment = self.moment();
        self.core.interner.intern(text, origin, &moment, read)
    }

    /// PREPARE by Parse is refused where the server would have a name of ours, but what is no SQL is a server's to refuse,
    /// in its own words.
    async fn refuse_prepare(&mut self, sql: &[u8]) -> Result<(), Halt> {
        let at = self.attach(self.topology.home).await?;
        let attached = &mut self.servers[at];
        attached.inbox.in_segment = true;
        attached.lease.request(Audience::Router, |send| {
            send.parse(sql, &[]);
            send.flush();
        });
        self.settle(at).await?;
        Err(prepare_by_parse().into())
    }
}

/// The server would know the statement by a name that PREPARE does not say.
pub(super) fn prepare_by_parse() -> Report {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "PREPARE cannot be sent through the extended protocol",
    )
    .hint("Send it as a simple query, or use the protocol's own Parse.")
}
