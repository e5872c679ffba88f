//! Simple queries and function calls: one message in, everything up to
//! ReadyForQuery out.

mod script;

pub(super) mod named;

use super::dispatch::Dispatch;
use super::large::ReadText;
use super::process;
use super::repeat::Again;
use super::rules::RuleStage;
use super::state::{Phase, Unfollowed};
use super::touched::Parts;
use super::{Halt, Session, malformed};
use crate::core::code::Behind;
use crate::core::lists::Outcome;
use crate::session::gather::Bound;
use crate::session::servers::AttachedId;
use crate::statements::errors::Written;
use crate::statements::names::Prepared;
use crate::statements::step::{Defines, Kind, Step};
use mothership_plan::{Params, Plan};
use mothership_proto::backend::{self, TxStatus};
use mothership_proto::frontend::{self};
use mothership_proto::ledger::Audience;
use mothership_proto::report::{Report, sqlstate};
use mothership_shardmap::ShardId;
use std::rc::Rc;

/// After so many statements of one text the other clients of the core have their turn.
const TURN: usize = 32;

/// The statement at this place of a text is looked at.
pub(super) async fn let_others_run(at: usize) {
    if at % TURN == TURN - 1 {
        tokio::task::yield_now().await;
    }
}

impl Session {
    /// A simple query. `read` is its statement, if its text was read before.
    pub(super) async fn on_query(
        &mut self,
        body: &[u8],
        read: Option<ReadText>,
    ) -> Result<(), Halt> {
        let sql = frontend::query(body).map_err(malformed)?;
        self.end_pipeline().await?;
        self.topology.check_text(sql)?;
        self.log_statement(sql);
        let strings = self.standard_strings();
        let read = read.and_then(|read| read.read_with(strings));
        let statement = read.unwrap_or_else(|| self.queried(sql));
        let mut statement = self.told_query(&statement)?.unwrap_or(statement);
        self.look_through(&statement).await;
        self.heed_named_settings(&statement);
        // A transaction can be ended whatever is known of the definitions.
        match ends_transaction(&statement) {
            false => self.refresh_model().await?,
            true => self.mind_commit(&statement).await?,
        }
        self.let_changes_go(&statement).await?;
        self.state.names.drop_unnamed();
        self.state.portals.close(b"");
        self.heed(&statement, RuleStage::Runs).await?;
        if statement.rewritten.get().is_some() {
            if let Some(done) = self.signalled_query(&statement).await? {
                statement = done;
            }
            self.request.written = process::origin(&statement);
        }
        self.look_through(&statement).await;
        self.mind_code(&statement);
        if let Some((numbered, written)) = self.numbered_query(&statement).await? {
            statement = numbered;
            self.request.written = Some(written);
        }
        self.find_numbers(&statement).await?;
        let told = self
            .request
            .written
            .is_some()
            .then(|| Rc::clone(&statement));
        let sql = told.as_ref().map_or(sql, |told| &told.sql);
        self.leave_databases(&statement).await;
        if self.transaction.implicit {
            // The transaction of a pipeline goes on into the text and ends with it.
            return Box::pin(self.run_script(sql, &statement)).await;
        }
        match statement.steps.as_slice() {
            [] if self.state.block.status() == TxStatus::Failed => {
                // The home shard's server may not be the one that failed, and PostgreSQL refuses no empty text.
                self.client.send(backend::EMPTY_QUERY);
                self.state.ready_alone(&mut self.client);
                Ok(())
            }
            [] => {
                self.query_on_server(self.topology.home, (false, None), sql, &statement)
                    .await
            }
            [one] => self.query_one(sql, one, &statement).await,
            _ => Box::pin(self.query_several(sql, &statement)).await,
        }
    }

    /// PostgreSQL lets a simple query, or a function call, end an open pipeline, whose implicit transaction goes on into
    /// it.
    async fn end_pipeline(&mut self) -> Result<(), Halt> {
        self.flush_held().await?;
        if self.state.phase == Phase::Segment {
            self.leave_segment().await?;
        }
        self.state.phase = Phase::Query;
        let unlocked = self.transaction.bound.check_unlocked();
        self.transaction.bound = Bound::Nothing;
        unlocked
    }

    async fn query_one(
        &mut self,
        sql: &[u8],
        step: &Step,
        statement: &Rc<Prepared>,
    ) -> Result<(), Halt> {
        if self.runs_here(&step.kind) {
            Box::pin(self.run_here(&step.kind, sql)).await?;
            self.state.ready_alone(&mut self.client);
            return Ok(());
        }
        match &step.kind {
            Kind::Refuse(report) => return Err(Halt::Fail(report.clone())),
            Kind::Prepare(name) => return Box::pin(self.prepare(sql, step, name)).await,
            Kind::Execute(name) => return Box::pin(self.execute(sql, step, name, statement)).await,
            Kind::ExplainRoute(inner) => return self.explain_query(statement, *inner),
            _ => {}
        }
        self.check_steps(&statement.steps)?;
        if let Some(explaining) = self.explaining(statement, step, &Params::NONE).await? {
            self.request.written = Some(Rc::new(Written::part(statement, step.span)));
            let result = Box::pin(self.explain_query_over(&explaining)).await;
            let mut answer = Vec::new();
            Box::pin(self.end_implicit(result.map(|rows| answer = rows))).await?;
            self.client.send(&answer);
            self.state.ready_alone(&mut self.client);
            return Ok(());
        }
        let plan = self.look_for_unknown(statement, 0).await?;
        if matches!(plan.as_deref(), Some(Plan::Fill(_)))
            && let Some((filled, written)) = self.filled_query(statement, 0).await?
            && let [step] = filled.steps.as_slice()
        {
            self.request.written = Some(written);
            // It leaves nothing to the router any longer.
            return Box::pin(self.query_one(&filled.sql, step, &filled)).await;
        }
        self.look_for_prepared(statement, 0).await?;
        self.look_for_cursor(Some(&step.kind)).await?;
        if matches!(plan.as_deref(), Some(Plan::Guarded(_))) {
            self.ask_rights(statement, 0).await?;
        }
        let work = match self.dispatch_planned(statement, 0, &Params::NONE, plan) {
            Ok(work) => work,
            Err(halt) => return Err(Box::pin(self.judged(halt, sql, &[])).await),
        };
        self.state
            .check_declared(Some(step), self.shard_declared(&work))?;
        match work {
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
                let result = Box::pin(self.query_many(sql, &statement.steps, &many))
                    .await
                    .map(|c| command = c);
                Box::pin(self.end_implicit(result)).await?;
                self.put_command(&command);
                self.state.note_definitions(step);
                self.state.ready_alone(&mut self.client);
                Ok(())
            }
            Dispatch::Gather(work) => {
                let mut command = Vec::new();
                let result = Box::pin(self.query_gather(sql, &work)).await;
                Box::pin(self.end_implicit(result.map(|c| command = c))).await?;
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
            let_others_run(at).await;
            self.look_for_unknown(statement, at).await?;
        }
        let ours = statement.steps.iter().find(|s| must_be_alone(&s.kind));
        let deallocates = |step: &Step| matches!(step.kind, Kind::Deallocate(_));
        // Whether there is room to prepare is asked first.
        let asks = self.topology.postgres > 1;
        let prepares = |step: &Step| asks && step.kind == Kind::PrepareTransaction;
        let mut steps = statement.steps.iter();
        let whole = !steps.any(|step| deallocates(step) || prepares(step));
        let (_, before_last) = statement.steps.split_last().unzip();
        let leaves_startup = |step: &Step| self.state.leaves_startup(&step.kind);
        let leaves_before_last = before_last.unwrap_or_default().iter().any(leaves_startup);
        // A server is asked what its code has set before a RESET takes it to a default that is not the session's.
        let must_ask = self.state.marks.unfollowed == Unfollowed::Now
            && statement.steps.iter().any(leaves_startup);
        // The router ends a block that no server holds.
        let whole = whole && !must_ask && !self.state.block.is_nowhere();
        if self.known.model.is_none() && self.servers.len() <= 1 && !leaves_before_last && whole {
            let writes = statement.steps.iter().any(|s| s.writes) || self.rules.may_write_unseen();
            let home = self.topology.home;
            let mut all_at_home = true;
            for at in 0..statement.steps.len() {
                all_at_home &= self.shard_unplanned(statement, at)? == home;
            }
            if let Some(step) = ours {
                if !all_at_home {
                    return Err(alone_report(step).into());
                }
                let executed = self.executed_within(sql, statement).await?;
                self.request.written = Some(executed.written);
                return self
                    .query_with_outcomes(
                        (home, writes, None),
                        &executed.text,
                        statement,
                        executed.outcomes.into_iter(),
                    )
                    .await;
            }
            if all_at_home {
                return self
                    .query_on_server(home, (writes, None), sql, statement)
                    .await;
            }
        }
        if whole && let Some((shard, writes)) = self.one_shard_for_all(statement).await? {
            return self
                .query_on_server(shard, (writes, None), sql, statement)
                .await;
        }
        Box::pin(self.run_script(sql, statement)).await
    }

    /// Runs the statements of a text one by one, up to ReadyForQuery.
    async fn run_script(&mut self, sql: &[u8], statement: &Rc<Prepared>) -> Result<(), Halt> {
        self.check_grammar(sql, statement).await?;
        let result = self.script(sql, statement).await;
        let ended = Box::pin(self.end_implicit(result)).await;
        if ended.is_err() {
            self.transaction.waiting_command = None;
        }
        ended?;
        self.say_waiting_command();
        if statement.steps.is_empty() {
            self.client.send(backend::EMPTY_QUERY);
        }
        self.state.ready_alone(&mut self.client);
        Ok(())
    }

    /// The shard of every statement of a text, if it is the same.
    async fn one_shard_for_all(
        &mut self,
        statement: &Rc<Prepared>,
    ) -> Result<Option<(ShardId, bool)>, Halt> {
        let mut found: Option<(ShardId, bool)> = None;
        for (at, step) in statement.steps.iter().enumerate() {
            let_others_run(at).await;
            if must_be_alone(&step.kind) {
                return Ok(None);
            }
            if step.kind.is_control() {
                continue;
            }
            if step.explains.is_some() && self.known.model.is_some() {
                return Ok(None);
            }
            // Its values are made when it runs, or its rights asked for.
            if matches!(self.plan_by_known(statement, at)?, Some((plan, _)) if matches!(*plan, Plan::Fill(_) | Plan::Guarded(_)))
            {
                return Ok(None);
            }
            // What comes after it may be planned otherwise then.
            if changes_plans(step) && at + 1 < statement.steps.len() {
                return Ok(None);
            }
            if self.runs_here(&step.kind) {
                return Ok(None);
            }
            let work = self.dispatch(statement, at, &Params::NONE)?;
            let declared = self
                .state
                .check_declared(Some(step), self.shard_declared(&work));
            if declared.is_err() {
                // The name may be free by then.
                return Ok(None);
            }
            match work {
                Dispatch::One { shard, writes, .. } => match found {
                    Some((known, _)) if known != shard => return Ok(None),
                    Some((known, wrote)) => found = Some((known, wrote | writes)),
                    None => found = Some((shard, writes)),
                },
                Dispatch::Many(_) | Dispatch::Gather(_) => return Ok(None),
            }
        }
        let others = |shard: ShardId| self.servers.iter().any(|s| s.shard != shard);
        Ok(found.filter(|(shard, _)| !others(*shard)))
    }

    /// Without parts what it writes or reads may be anything.
    async fn query_on_server(
        &mut self,
        shard: ShardId,
        (writes, parts): (bool, Option<&Parts>),
        sql: &[u8],
        statement: &Rc<Prepared>,
    ) -> Result<(), Halt> {
        let count = statement.steps.len();
        let outcomes = (0..count).map(|i| Outcome::Of(Rc::clone(statement), i));
        self.query_with_outcomes((shard, writes, parts), sql, statement, outcomes)
            .await
    }

    /// The same with what follows from each of its statements.
    async fn query_with_outcomes(
        &mut self,
        (shard, writes, parts): (ShardId, bool, Option<&Parts>),
        sql: &[u8],
        statement: &Rc<Prepared>,
        outcomes: impl Iterator<Item = Outcome>,
    ) -> Result<(), Halt> {
        self.check_steps(&statement.steps)?;
        self.servers
            .check_second_set(&self.topology, shard, writes)?;
        let wants = self.wants(writes, &statement.steps, parts);
        self.request.again = Again::of(&wants, writes && statement.steps.len() == 1);
        let at = self.attach_to(shard, wants).await?;
        self.send_query(at, sql, outcomes);
        let may_write = self.known.may_write(&statement.steps);
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

    fn send_query(&mut self, at: AttachedId, sql: &[u8], outcomes: impl Iterator<Item = Outcome>) {
        let attached = &mut self.servers[at];
        attached.inbox.outcomes.extend(outcomes);
        attached.inbox.written = self.request.written.clone();
        attached.lease.query(sql, Audience::Client);
    }

    pub(super) async fn on_function_call(&mut self, body: &[u8]) -> Result<(), Halt> {
        self.end_pipeline().await?;
        if self.transaction.implicit {
            let message = "a function call cannot end a pipeline that has changed something";
            return Err(Report::error(sqlstate::FEATURE_NOT_SUPPORTED, message)
                .hint("Send Sync before it, or call the function by SELECT.")
                .into());
        }
        self.refresh_model().await?;
        self.heed_unknown().await?;
        self.check_steps(&[])?;
        self.transaction
            .begin_change(Behind::Changed, &self.core.shared);
        // Which function it is stands in an OID of the server; it may do anything.
        self.state.run_unseen();
        let at = self.attach(self.topology.home).await?;
        let attached = &mut self.servers[at];
        attached.inbox.may_write = true;
        attached.inbox.touched.add(None);
        attached.lease.function_call(body);
        Ok(())
    }
}

/// Nothing but COMMIT or ROLLBACK.
fn ends_transaction(statement: &Prepared) -> bool {
    let ends = |step: &Step| matches!(step.kind, Kind::Commit { .. } | Kind::Rollback { .. });
    matches!(statement.steps.as_slice(), [one] if ends(one))
}

/// What the router takes part in cannot be one of several statements of a text.
fn must_be_alone(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Prepare(_) | Kind::Execute(_) | Kind::ExplainRoute(_) | Kind::Refuse(_)
    )
}

fn alone_report(step: &Step) -> Report {
    let alone = |message: &'static str| {
        Report::error(sqlstate::FEATURE_NOT_SUPPORTED, message)
            .hint("Send the statements one by one.")
    };
    match &step.kind {
        Kind::Refuse(report) => report.clone(),
        Kind::ExplainRoute(_) => {
            alone("EXPLAIN (ROUTE) must be the only statement of a simple query")
        }
        _ if step.copy_in => alone(
            "COPY FROM STDIN must be the only statement of a simple query that goes to several shards",
        ),
        _ => prepared_alone(),
    }
}

fn prepared_alone() -> Report {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "PREPARE and EXECUTE must be the only statement of a simple query",
    )
    .detail("the router keeps prepared statements for all of its servers")
    .hint("Send the statements one by one.")
}

/// True for what may change the plans of the statements behind it.
fn changes_plans(step: &Step) -> bool {
    let sets = matches!(
        step.kind,
        Kind::Settings(_) | Kind::SetLocal(..) | Kind::LocalConfig(_) | Kind::Discard(_)
    );
    sets || step.defines != Defines::Nothing || step.redefines()
}
