//! Simple queries and function calls: one message in, everything up to
//! ReadyForQuery out.

use super::dispatch::{Dispatch, Many};
use super::errors::Renamed;
use super::execute::arguments;
use super::inbox::Outcome;
use super::names::{Origin, Prepared};
use super::rules::Moment;
use super::settings::{Change, Value};
use super::state::{Block, Phase};
use super::step::{Defines, Kind, Step, currval_refused};
use super::touched::Parts;
use super::{Halt, Session, malformed};
use crate::plan::{Params, Plan};
use crate::sql::cursor::Cursor;
use crate::sql::effect::{Pin, Statement, analyse};
use mothership_proto::backend;
use mothership_proto::frontend::{self, Parse, put_query};
use mothership_proto::ledger::{Audience, Owed};
use mothership_proto::report::{Report, sqlstate};
use std::rc::Rc;

impl Session {
    pub(super) async fn on_query(&mut self, body: &[u8]) -> Result<(), Halt> {
        let sql = frontend::query(body).map_err(malformed)?;
        self.flush_held().await?;
        if self.state.phase == Phase::Segment {
            // PostgreSQL lets a simple query end an open pipeline; its implicit
            // transaction goes on into the query.
            if let Some(at) = self.active {
                self.servers[at].lease.wire.send(frontend::FLUSH);
                self.settle(at).await?;
            }
        }
        self.state.phase = Phase::Query;
        self.check_text(sql)?;
        self.log_statement(sql);
        let statement = self.queried(sql);
        // A transaction can be ended whatever is known of the definitions.
        if !ends_transaction(&statement) {
            self.refresh_world().await?;
        }
        self.state.names.drop_unnamed();
        self.state.portals.remove(&b""[..]);
        self.heed(&statement, Moment::Runs).await?;
        match statement.steps.as_slice() {
            [] => {
                self.query_on_server(self.topology.home, (false, None), sql, &statement)
                    .await
            }
            [one] => self.query_one(sql, one, &statement).await,
            _ => self.query_several(sql, &statement).await,
        }
    }

    async fn query_one(
        &mut self,
        sql: &[u8],
        step: &Step,
        statement: &Rc<Prepared>,
    ) -> Result<(), Halt> {
        if self.runs_here(&step.kind) {
            self.run_here(&step.kind, sql).await?;
            self.state.ready_alone(&mut self.client);
            return Ok(());
        }
        match &step.kind {
            Kind::Refuse(report) => return Err(Halt::Fail(report.clone())),
            Kind::Prepare(name) => return self.prepare(sql, step, name).await,
            Kind::Execute(name) => return self.execute(sql, step, name, statement).await,
            Kind::ExplainRoute(inner) => return self.explain_query(statement, *inner),
            _ => {}
        }
        self.check_steps(&statement.steps)?;
        if let Some(explaining) = self.explaining(statement, step, &Params::NONE).await? {
            let result = self.explain_query_over(&explaining).await;
            let mut answer = Vec::new();
            self.end_implicit(result.map(|rows| answer = rows)).await?;
            self.client.send(&answer);
            self.state.ready_alone(&mut self.client);
            return Ok(());
        }
        let plan = self.look_for_unknown(statement, 0).await?;
        if matches!(plan.as_deref(), Some(Plan::Fill(_)))
            && let Some(filled) = self.filled_query(statement, 0).await?
            && let [step] = filled.steps.as_slice()
        {
            // It leaves nothing to the router any longer.
            return Box::pin(self.query_one(&filled.sql, step, &filled)).await;
        }
        self.look_for_prepared(statement, 0).await?;
        match self.dispatch_planned(statement, 0, &Params::NONE, plan)? {
            Dispatch::One {
                shard,
                writes,
                parts,
            } => {
                self.query_on_server(shard, (writes, parts.as_ref()), sql, statement)
                    .await
            }
            Dispatch::Many(many) => {
                let mut command = Vec::new();
                let result = self.query_many(sql, &statement.steps, &many).await.map(|c| command = c);
                self.end_implicit(result).await?;
                self.put_command(&command);
                self.state.note_definitions(step);
                self.state.ready_alone(&mut self.client);
                Ok(())
            }
            Dispatch::Gather(work) => {
                let mut command = Vec::new();
                let result = self.query_gather(sql, &work).await;
                self.end_implicit(result.map(|c| command = c)).await?;
                self.put_command(&command);
                self.state.ready_alone(&mut self.client);
                Ok(())
            }
        }
    }

    /// A text of several statements goes to a server whole, if all of it belongs to
    /// one and nothing in it is the router's own.
    async fn query_several(&mut self, sql: &[u8], statement: &Rc<Prepared>) -> Result<(), Halt> {
        for at in 0..statement.steps.len() {
            self.look_for_unknown(statement, at).await?;
        }
        let ours = statement.steps.iter().find(|s| must_be_alone(&s.kind));
        let (_, before_last) = statement.steps.split_last().unzip();
        let leaves_startup = |step: &Step| self.state.leaves_startup(&step.kind);
        let leaves_startup = before_last.unwrap_or_default().iter().any(leaves_startup);
        if self.world.is_none() && self.servers.len() <= 1 && !leaves_startup {
            if let Some(step) = ours {
                return Err(alone_report(&step.kind).into());
            }
            let writes = statement.steps.iter().any(|s| s.writes) || self.may_write_unseen();
            let home = self.topology.home;
            let mut all_at_home = true;
            for at in 0..statement.steps.len() {
                all_at_home &= self.shard_unplanned(statement, at)? == home;
            }
            if all_at_home {
                return self
                    .query_on_server(home, (writes, None), sql, statement)
                    .await;
            }
        }
        if let Some((shard, writes)) = self.one_shard_for_all(statement)? {
            return self
                .query_on_server(shard, (writes, None), sql, statement)
                .await;
        }
        let result = self.script(sql, statement).await;
        self.end_implicit(result).await?;
        self.state.ready_alone(&mut self.client);
        Ok(())
    }

    /// The shard of every statement of a text, if it is the same.
    fn one_shard_for_all(
        &mut self,
        statement: &Rc<Prepared>,
    ) -> Result<Option<(usize, bool)>, Halt> {
        let mut found: Option<(usize, bool)> = None;
        for (at, step) in statement.steps.iter().enumerate() {
            if must_be_alone(&step.kind) {
                return Ok(None);
            }
            if is_control(&step.kind) {
                continue;
            }
            if step.explains.is_some() && self.world.is_some() {
                return Ok(None);
            }
            // Its values are made when it runs.
            if matches!(self.plan_by_known(statement, at)?, Some((plan, _)) if matches!(*plan, Plan::Fill(_)))
            {
                return Ok(None);
            }
            // What comes after it may be planned otherwise then.
            if changes_plans(step) && at + 1 < statement.steps.len() {
                return Ok(None);
            }
            match self.dispatch(statement, at, &Params::NONE)? {
                Dispatch::One { shard, writes, .. } => match found {
                    Some((known, _)) if known != shard => return Ok(None),
                    Some((known, wrote)) => found = Some((known, wrote | writes)),
                    None => found = Some((shard, writes)),
                },
                Dispatch::Many(_) | Dispatch::Gather(_) => return Ok(None),
            }
        }
        let others = |shard: usize| self.servers.iter().any(|s| s.shard != shard);
        Ok(found.filter(|(shard, _)| !others(*shard)))
    }

    /// Runs the statements of a text one by one, in one transaction unless the text
    /// itself says otherwise. PostgreSQL does the same (manual, "Multiple Statements
    /// in a Simple Query").
    async fn script(&mut self, sql: &[u8], statement: &Rc<Prepared>) -> Result<(), Halt> {
        for (at, step) in statement.steps.iter().enumerate() {
            let text = step.span.of(sql);
            if at > 0 && !is_control(&step.kind) {
                self.refresh_between().await?;
            }
            self.check_steps(std::slice::from_ref(step))?;
            if self.implicit || self.state.block == Block::None {
                check_block(&step.kind)?;
            }
            if let Kind::Begin(_) = step.kind
                && self.implicit
            {
                // It takes over what was done before it.
                self.implicit = false;
                self.client
                    .with_output(|out| backend::put_complete(out, begin_command(text)));
                continue;
            }
            if self.state.block == Block::None
                && self.servers.is_empty()
                && let Kind::Commit { chain } | Kind::Rollback { chain } = step.kind
            {
                self.end_nothing(&step.kind, chain)?;
                continue;
            }
            if self.runs_here(&step.kind) || (is_control(&step.kind) && !self.servers.is_empty()) {
                self.run_here(&step.kind, text).await?;
                if self.state.block == Block::None {
                    self.implicit = false;
                }
                continue;
            }
            if step.copy_in
                || matches!(
                    step.kind,
                    Kind::Prepare(_) | Kind::Execute(_) | Kind::ExplainRoute(_) | Kind::Refuse(_)
                )
            {
                return Err(alone_report(&step.kind).into());
            }
            self.begin_implicit();
            if let Some(explaining) = self.explaining(statement, step, &Params::NONE).await? {
                let answer = self.explain_query_over(&explaining).await?;
                self.client.send(&answer);
                continue;
            }
            let filled = self.filled_query(statement, at).await?;
            let (statement, at, text) = match &filled {
                Some(filled) => (filled, 0, &*filled.sql),
                None => (statement, at, text),
            };
            let many = match self.dispatch(statement, at, &Params::NONE)? {
                Dispatch::Many(many) => many,
                Dispatch::Gather(work) => {
                    let command = self.query_gather(text, &work).await?;
                    self.put_command(&command);
                    continue;
                }
                Dispatch::One { shard, writes, .. } => {
                    Many::one(shard, Some(Rc::from(text)), writes)
                }
            };
            let steps = std::slice::from_ref(step);
            let command = self.query_many(text, steps, &many).await?;
            self.put_command(&command);
            match self.active {
                Some(at) => {
                    let inbox = &mut self.servers[at].inbox;
                    self.state.ended_well(step, &command, inbox);
                }
                None => self.state.note_definitions(step),
            }
        }
        Ok(())
    }

    /// COMMIT or ROLLBACK of a text before anything else: PostgreSQL's own answer, without a server.
    fn end_nothing(&mut self, kind: &Kind, chain: bool) -> Result<(), Halt> {
        let command = match kind {
            Kind::Commit { .. } => "COMMIT",
            _ => "ROLLBACK",
        };
        if chain {
            let message = format!("{command} AND CHAIN can only be used in transaction blocks");
            return Err(Report::error(sqlstate::NO_ACTIVE_TRANSACTION, message).into());
        }
        let warning = "there is no transaction in progress";
        let warning = Report::warning(sqlstate::NO_ACTIVE_TRANSACTION, warning);
        self.client.with_output(|out| {
            warning.put(out);
            backend::put_complete(out, command.as_bytes());
        });
        Ok(())
    }

    /// Without parts what it writes or reads may be anything.
    async fn query_on_server(
        &mut self,
        shard: usize,
        (writes, parts): (bool, Option<&Parts>),
        sql: &[u8],
        statement: &Rc<Prepared>,
    ) -> Result<(), Halt> {
        self.check_steps(&statement.steps)?;
        let wants = self.wants(writes, &statement.steps, parts);
        let at = self.attach_to(shard, wants).await?;
        let count = statement.steps.len();
        let outcomes = (0..count).map(|i| Outcome::Of(Rc::clone(statement), i));
        self.send_query(at, sql, outcomes);
        let may_write = self.may_write(&statement.steps);
        let inbox = &mut self.servers[at].inbox;
        inbox.wrote |= writes;
        inbox.may_write = may_write;
        // What ends a transaction touches nothing that its statements did not.
        if (writes || may_write) && !statement.is_control() {
            inbox.touched.add(parts);
        }
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
        // With several servers the failed one may not be the one that would be asked.
        let failed = self.state.block == Block::Failed && self.world.is_some();
        let ends = steps.first().is_some_and(|step| ends_failure(&step.kind));
        if self.state.untold.take() {
            return Err(lost_transaction().into());
        }
        if (failed && !ends) || matches!(self.state.block, Block::Refused | Block::Lost) {
            return Err(failed_transaction().into());
        }
        self.check_growth(steps.iter().map(|step| &step.kind))?;
        for step in steps {
            if step.pins.has(Pin::SequenceState)
                && (self.made_values || self.state.pins.is_empty() && !self.identity.session_mode)
            {
                return Err(currval_refused().into());
            }
            if self.world.is_some() && matches!(step.kind, Kind::LocalConfig(None)) {
                return Err(set_config_refused().into());
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
    /// knows of, the end of a transaction that no server holds any longer, and what
    /// must be done on several servers alike.
    pub(super) fn runs_here(&self, kind: &Kind) -> bool {
        // A server that does not know of the failure would commit.
        let failed_elsewhere = self.state.block == Block::Failed
            && self
                .servers
                .iter()
                .any(|s| s.lease.status != backend::TxStatus::Failed);
        if (self.servers.len() > 1 || failed_elsewhere) && (is_control(kind) || is_common(kind)) {
            return true;
        }
        let no_server = self.servers.is_empty();
        match (kind, &self.state.block) {
            (Kind::Deallocate(_), _) => true,
            (Kind::Begin(_), Block::None | Block::Begun) => {
                no_server && !self.identity.statement_mode
            }
            (
                Kind::Commit { .. } | Kind::Rollback { .. },
                Block::Begun | Block::Refused | Block::Lost,
            ) => no_server,
            (Kind::RollbackTo(name), Block::Refused) => {
                no_server && self.state.history.has_savepoint(name)
            }
            (Kind::Savepoint(_), Block::Begun) => no_server,
            (Kind::RollbackTo(name) | Kind::Release(name), Block::Begun) => {
                no_server && self.state.history.has_savepoint(name)
            }
            _ => false,
        }
    }

    /// Does it, and writes the answer up to CommandComplete.
    pub(super) async fn run_here(&mut self, kind: &Kind, sql: &[u8]) -> Result<(), Halt> {
        self.check_growth(std::iter::once(kind))?;
        let command: &[u8] = match kind {
            Kind::Deallocate(name) => self.deallocate(name.as_deref())?,
            _ if !self.servers.is_empty() => return self.run_on_all(kind, sql).await,
            Kind::Begin(modes) => {
                if self.state.block == Block::None {
                    self.state.settings.begin();
                    self.state.block = Block::Begun;
                    self.state.modes.clone_from(modes);
                } else {
                    let warning = "there is already a transaction in progress";
                    let warning = Report::warning(sqlstate::ACTIVE_TRANSACTION, warning);
                    self.client.with_output(|out| warning.put(out));
                }
                begin_command(sql)
            }
            Kind::Commit { chain } | Kind::Rollback { chain } => {
                let commits =
                    matches!(kind, Kind::Commit { .. }) && self.state.block == Block::Begun;
                let command: &[u8] = if commits { b"COMMIT" } else { b"ROLLBACK" };
                let modes = std::mem::take(&mut self.state.modes);
                let untold = self.state.untold.take();
                self.state.follow(kind, command);
                if untold && matches!(kind, Kind::Commit { .. }) {
                    return Err(lost_transaction().into());
                }
                if *chain {
                    self.state.settings.begin();
                    self.state.block = Block::Begun;
                    self.state.modes = modes;
                }
                command
            }
            Kind::Savepoint(_) | Kind::RollbackTo(_) | Kind::Release(_) => {
                self.state.follow(kind, b"");
                if self.state.block == Block::Refused {
                    self.state.block = Block::Begun;
                }
                match kind {
                    Kind::Savepoint(_) => b"SAVEPOINT",
                    Kind::RollbackTo(_) => b"ROLLBACK",
                    _ => b"RELEASE",
                }
            }
            _ => {
                debug_assert!(false, "asked runs_here before");
                b""
            }
        };
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
        self.check_room(name, sql)?;
        let strings = self.standard_strings();
        let prepared =
            self.core
                .interner
                .intern((sql, strings), Origin::Prepare(span), self.epoch(), || {
                    super::step::prepared_steps(sql, strings)
                });
        let at = self.attach(self.topology.home).await?;
        if self.servers[at].lease.notes.prepared.touch(prepared.id) {
            self.state.names.define_now(name, prepared);
            self.client
                .with_output(|out| backend::put_complete(out, b"PREPARE"));
            self.state.ready_alone(&mut self.client);
            return Ok(());
        }
        let text = prepared.definition();
        self.send_query(
            at,
            &text,
            std::iter::once(Outcome::Defined(name.into(), Rc::clone(&prepared))),
        );
        self.servers[at].inbox.renamed = Some(renaming(sql, span, &prepared));
        Ok(())
    }

    /// EXECUTE: the statement is prepared where it is not yet, under our name.
    async fn execute(
        &mut self,
        sql: &[u8],
        step: &Step,
        name: &[u8],
        statement: &Rc<Prepared>,
    ) -> Result<(), Halt> {
        self.check_steps(std::slice::from_ref(step))?;
        let Some(prepared) = self.state.names.get(name).cloned() else {
            return Err(no_such_statement(name).into());
        };
        let Some(span) = step.name_span else {
            return Err(alone_report(&step.kind).into());
        };
        self.step_of(sql, &prepared)?;
        self.check_steps(&prepared.steps)?;
        let (shard, writes) = match self.dispatch_execute(sql, &prepared)? {
            Some(Dispatch::One { shard, writes, .. }) => (shard, writes),
            Some(Dispatch::Many(many)) => {
                let result = self.execute_many_prepared(sql, span, &prepared, many).await;
                return self.end_execute(result).await;
            }
            _ => {
                let named = (name, &prepared);
                let result = self.execute_bound((sql, span), step, named).await;
                return self.end_execute(result).await;
            }
        };
        let at = self.attach(shard).await?;
        self.servers[at].inbox.wrote |= writes;
        self.servers[at].inbox.touched.add(None);
        self.make_known(at, &prepared).await?;
        let text = renamed(sql, span, &prepared.server_name());
        self.send_query(
            at,
            &text,
            std::iter::once(Outcome::Runs(Rc::clone(statement), Rc::clone(&prepared))),
        );
        self.servers[at].inbox.renamed = Some(renaming(sql, span, &prepared));
        let plain = arguments(sql, self.standard_strings(), &prepared).is_some();
        self.servers[at].inbox.may_write = !plain || self.may_write(&prepared.steps);
        Ok(())
    }

    /// Where an EXECUTE goes as it is written, by the literals that it gives as arguments; `None` if what it runs has to be
    /// bound to their values.
    pub(super) fn dispatch_execute(
        &mut self,
        sql: &[u8],
        prepared: &Rc<Prepared>,
    ) -> Result<Option<Dispatch>, Halt> {
        if self.world.is_none() {
            return Ok(Some(Dispatch::One {
                shard: self.shard_unplanned(prepared, 0)?,
                writes: true,
                parts: None,
            }));
        }
        let Some(arguments) = arguments(sql, self.standard_strings(), prepared) else {
            return Ok(None);
        };
        let work = match arguments.with(|params| self.dispatch_body(prepared, params)) {
            Ok(work) => work,
            Err(halt) if explains(sql, self.standard_strings()) => return Err(halt),
            // More is known when a server has been asked.
            Err(_) => return Ok(None),
        };
        self.check_explained(sql, &work)?;
        Ok(match work {
            // What begins elsewhere has another time for a literal that asks for it.
            Dispatch::One { shard, .. }
                if arguments.are_certain()
                    || self.first_shard().is_none_or(|first| first == shard)
                    || explains(sql, self.standard_strings()) =>
            {
                Some(work)
            }
            Dispatch::Many(many)
                if arguments.are_certain()
                    && !many.timed
                    && many.legs.iter().all(|(_, text)| text.is_none()) =>
            {
                Some(Dispatch::Many(many))
            }
            _ => None,
        })
    }

    /// EXECUTE as the protocol would run its body, with the values of its arguments.
    async fn execute_bound(
        &mut self,
        text: (&[u8], crate::sql::cursor::Span),
        own: &Step,
        named: (&[u8], &Rc<Prepared>),
    ) -> Result<Vec<u8>, Halt> {
        let bound = self.bound(text, own, named).await?;
        let bound = self.filled_bound(bound).await?;
        let statement = &bound.statement;
        let values = bound.values();
        let many = match bound.with(|params| self.dispatch_body(statement, params))? {
            Dispatch::Gather(work) => {
                return self.execute_gather(statement, &values, &work).await;
            }
            Dispatch::One { shard, writes, .. } => Many::one(shard, None, writes),
            Dispatch::Many(many) => many,
        };
        if many.writes || self.may_write(&statement.steps) {
            self.begin_implicit();
        }
        let types = super::extended::many_types(&many, statement);
        let command = self
            .run_many(&statement.sql, &statement.steps, &many, Some((&types, &values)))
            .await?;
        if let ([(shard, _)], Some(step)) = (&*many.legs, statement.step())
            && let Some(attached) = self.servers.iter_mut().find(|s| s.shard == *shard)
        {
            self.state.ended_well(step, &command, &mut attached.inbox);
        }
        Ok(command)
    }

    /// EXECUTE on several shards, each of which has the statement.
    async fn execute_many_prepared(
        &mut self,
        sql: &[u8],
        span: crate::sql::cursor::Span,
        prepared: &Rc<Prepared>,
        many: Many,
    ) -> Result<Vec<u8>, Halt> {
        if many.copy_in || many.step_by_step || many.password {
            return Err(prepared_over_shards().into());
        }
        if many.writes {
            self.begin_implicit();
        }
        for (shard, _) in &many.legs {
            let at = self.attach(*shard).await?;
            self.make_known(at, prepared).await?;
        }
        let text = renamed(sql, span, &prepared.server_name());
        self.query_many(&text, &[], &many).await
    }

    /// The end of an EXECUTE on several shards.
    async fn end_execute(&mut self, result: Result<Vec<u8>, Halt>) -> Result<(), Halt> {
        let mut command = Vec::new();
        self.end_implicit(result.map(|c| command = c)).await?;
        self.put_command(&command);
        self.state.ready_alone(&mut self.client);
        Ok(())
    }

    /// Prepares a statement on a server outside of a segment, if it is not there.
    pub(super) async fn make_known(
        &mut self,
        at: usize,
        prepared: &Rc<Prepared>,
    ) -> Result<(), Halt> {
        if self.servers[at].lease.notes.prepared.touch(prepared.id) {
            return Ok(());
        }
        self.make_prepared(at, prepared).await
    }

    /// Prepares a statement on a server outside of a segment, and waits for it.
    async fn make_prepared(&mut self, at: usize, prepared: &Rc<Prepared>) -> Result<(), Halt> {
        match &prepared.origin {
            Origin::Parse(types) => {
                let attached = &mut self.servers[at];
                let name = prepared.server_name();
                let types = attached.inbox.types_on_shard(types).into_owned();
                let parse = Parse {
                    name: name.as_bytes(),
                    sql: &prepared.sql,
                    types: &types,
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

    pub(super) async fn on_function_call(&mut self, body: &[u8]) -> Result<(), Halt> {
        self.state.phase = Phase::Query;
        self.refresh_world().await?;
        self.heed_unknown()?;
        self.check_steps(&[])?;
        self.begin_change();
        let at = self.attach(self.topology.home).await?;
        let attached = &mut self.servers[at];
        attached.inbox.may_write = true;
        attached.inbox.touched.add(None);
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
        self.state.told.standard_strings()
    }
}

/// Nothing but COMMIT or ROLLBACK.
fn ends_transaction(statement: &Prepared) -> bool {
    let ends = |step: &Step| matches!(step.kind, Kind::Commit { .. } | Kind::Rollback { .. });
    matches!(statement.steps.as_slice(), [one] if ends(one))
}

/// Transaction control.
pub(super) fn is_control(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Begin(_)
            | Kind::Commit { .. }
            | Kind::Rollback { .. }
            | Kind::Savepoint(_)
            | Kind::RollbackTo(_)
            | Kind::Release(_)
    )
}

/// True for what may change the plans of the statements behind it.
fn changes_plans(step: &Step) -> bool {
    let sets = matches!(
        step.kind,
        Kind::Settings(_) | Kind::SetLocal(..) | Kind::LocalConfig(_) | Kind::Discard(_)
    );
    sets || step.defines != Defines::Nothing || step.redefines()
}

/// What PostgreSQL accepts in a failed transaction.
pub(super) fn ends_failure(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Commit { .. } | Kind::Rollback { .. } | Kind::RollbackTo(_)
    )
}

/// What every server of a transaction must do alike. set_config has a row for its answer:
/// one server runs it, and the others are told before they work again.
pub(super) fn is_common(kind: &Kind) -> bool {
    match kind {
        Kind::Settings(changes) => !by_function(changes),
        Kind::SetTransaction(_)
        | Kind::SetLocal(..)
        | Kind::Discard(_)
        | Kind::CloseAll
        | Kind::PrepareTransaction => true,
        _ => false,
    }
}

fn by_function(changes: &[Change]) -> bool {
    let text =
        |change: &Change| matches!(change, Change::Set(s) if matches!(s.value, Value::Text(_)));
    changes.iter().any(text)
}

fn set_config_refused() -> Report {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "set_config cannot be made to hold on every shard here",
    )
    .detail("a shard that joins the transaction later must be told the same")
    .hint("Use SET LOCAL, or set_config with literals.")
}

pub(super) fn prepared_over_shards() -> Report {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "this EXECUTE over shards has arguments or a statement that no one server can be asked about",
    )
    .hint("Use the protocol's own prepared statements, as drivers do.")
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

/// What [`renamed`] does to positions; it writes two quotes.
fn renaming(sql: &[u8], span: crate::sql::cursor::Span, prepared: &Prepared) -> Renamed {
    Renamed::new(sql, span, prepared.server_name().len() + 2)
}

/// Whether it is EXPLAIN of an EXECUTE.
fn explains(sql: &[u8], strings: bool) -> bool {
    matches!(analyse(sql, strings).statement, Statement::Explain { .. })
}

/// What the router takes part in cannot be one of several statements of a text.
fn must_be_alone(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Prepare(_)
            | Kind::Execute(_)
            | Kind::Deallocate(_)
            | Kind::ExplainRoute(_)
            | Kind::Refuse(_)
    )
}

fn alone_report(kind: &Kind) -> Report {
    if let Kind::Refuse(report) = kind {
        return report.clone();
    }
    if let Kind::ExplainRoute(_) = kind {
        return Report::error(
            sqlstate::FEATURE_NOT_SUPPORTED,
            "EXPLAIN (ROUTE) must be the only statement of a simple query",
        )
        .hint("Send the statements one by one.");
    }
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "PREPARE, EXECUTE and DEALLOCATE must be the only statement of a simple query",
    )
    .detail("the router keeps prepared statements for all of its servers")
    .hint("Send the statements one by one.")
}

/// PostgreSQL's own words for savepoints of a text that is not in a transaction block.
fn check_block(kind: &Kind) -> Result<(), Halt> {
    let statement = match kind {
        Kind::Savepoint(_) => "SAVEPOINT",
        Kind::RollbackTo(_) => "ROLLBACK TO SAVEPOINT",
        Kind::Release(_) => "RELEASE SAVEPOINT",
        _ => return Ok(()),
    };
    let message = format!("{statement} can only be used in transaction blocks");
    Err(Report::error(sqlstate::NO_ACTIVE_TRANSACTION, message).into())
}

/// PostgreSQL's own words for a statement in a failed transaction.
pub(super) fn failed_transaction() -> Report {
    Report::error(
        sqlstate::IN_FAILED_TRANSACTION,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

/// The transaction was lost since the last request.
fn lost_transaction() -> Report {
    Report::error(sqlstate::CONNECTION_FAILURE, "server connection was lost")
        .detail("The transaction was rolled back.")
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

/// What CommandComplete says of a statement that begins a transaction.
fn begin_command(sql: &[u8]) -> &'static [u8] {
    let mut words = Cursor::new(sql, true);
    while words.skip_semicolon() {}
    match words.sees("start") {
        true => b"START TRANSACTION",
        false => b"BEGIN",
    }
}
