//! Execute: runs a portal, on one server, on several, or here.

use super::ManyPortal;
use super::parse::prepare_by_parse;
use crate::core::lists::Outcome;
use crate::session::allowed::failed_transaction;
use crate::session::execute::unknown_name;
use crate::session::gather::{GatherPortal, without_position};
use crate::session::here::is_common;
use crate::session::many::{Held, Merging, WaitingRows};
use crate::session::own::Definitions;
use crate::session::portals::{Open, Place, Portal, Progress, cannot_be_run, no_such_portal};
use crate::session::servers::AttachedId;
use crate::session::simple::named::duplicate_statement;
use crate::session::sorted::Streams;
use crate::session::state::{Block, Phase, State, Unfollowed};
use crate::session::turns::{Order, patiently};
use crate::session::{Attached, Halt, Servers, Session, malformed};
use crate::statements::names::Prepared;
use crate::statements::step::{Kind, Step};
use mothership_plan::Merge;
use mothership_proto::backend;
use mothership_proto::frontend::{self, tag};
use mothership_proto::ledger::{Audience, Event};
use mothership_sql::effect::Pin;
use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;

impl Servers {
    pub(in crate::session) fn send_execute(&mut self, at: AttachedId, name: &[u8], rows: i32) {
        let attached = &mut self[at];
        attached.inbox.in_segment = true;
        attached.lease.request(Audience::Router, |send| {
            send.execute(name, rows);
            send.flush();
        });
    }
}

impl State {
    /// Whether what follows in the segment is planned by what this statement does: it changes settings, or ends a failure.
    fn is_awaited(&self, step: &Step) -> bool {
        match step.kind {
            Kind::Settings(_) | Kind::SetLocal(..) | Kind::LocalConfig(_) => true,
            Kind::Commit { .. } | Kind::Rollback { .. } | Kind::RollbackTo(_) => {
                self.block.status() == backend::TxStatus::Failed
            }
            _ => step.pins.has(Pin::UnclearSetting) || self.runs_unseen(),
        }
    }
}

impl Session {
    pub(in crate::session) async fn on_execute(&mut self, body: &[u8]) -> Result<(), Halt> {
        self.begin_segment().await?;
        self.flush_held().await?;
        let (name, rows) = frontend::execute(body).map_err(malformed)?;
        if !name.is_empty() {
            self.settle_names().await?;
        }
        let Some(portal) = self.state.portals.portal(name).cloned() else {
            return Box::pin(self.execute_cursor(name, rows)).await;
        };
        let Portal {
            statement, place, ..
        } = &portal;
        if let Some(step) = statement.step().filter(|step| step.redefines()) {
            // What follows in this pipeline is planned before this is answered.
            self.state.definitions = Definitions::Changed;
            self.state.defined_in_block = self.state.defined_in_block.max(step.defines);
        }
        self.log_statement(&statement.sql);
        if self.known.model.is_some() {
            // The server that has it may not be the one that failed.
            self.state.check_failed(statement)?;
        }
        self.state
            .check_meant(portal.executes.as_ref().unwrap_or(statement))?;
        self.warn_pipelined(statement).await?;
        self.mind_execute(&portal.statement);
        self.state.marks.awaited |= self.state.marks.unfollowed == Unfollowed::Now
            || statement
                .steps
                .iter()
                .any(|step| self.state.is_awaited(step));
        let shard = match place {
            Place::Here => return Box::pin(self.execute_local(name, &portal, rows)).await,
            Place::Many(many) => {
                self.check_pipelined(statement).await?;
                return Box::pin(self.execute_many(name, rows, many, &portal)).await;
            }
            Place::Gathered(gathered) => {
                return Box::pin(self.execute_gathered(name, gathered, &portal, rows)).await;
            }
            Place::Explaining(explaining) => {
                return Box::pin(self.execute_explaining(explaining, rows)).await;
            }
            Place::Explained(explained) => {
                self.state.check_explain()?;
                let rows = explained.rows(rows);
                self.answer(rows);
                return Ok(());
            }
            Place::Shard(shard) => *shard,
        };
        // COMMIT and the like, bound when the transaction had one server, and now it has
        // more: all of them must do it.
        if statement.step().is_some_and(|s| self.runs_here(&s.kind)) {
            return Box::pin(self.execute_local(name, &portal, rows)).await;
        }
        self.settle_names_for(statement.step().map(|s| &s.kind))
            .await?;
        self.state.check_declared(statement.step(), shard)?;
        self.check_pipelined(statement).await?;
        if statement.runs.is_some() {
            // The place that an error names is moved to the client's text: it must be this one's.
            self.settle_active().await?;
        }
        let outcome = self.outcome_of_run(statement)?;
        let at = self.attach(shard).await?;
        let defines = matches!(outcome, Outcome::Defined(..));
        self.send_portal(at, (name, rows), &portal, outcome);
        let leaves_startup = |step: &Step| self.state.leaves_startup(&step.kind);
        if defines || statement.step().is_some_and(leaves_startup) {
            // What follows in the segment is for what the session goes back to, or by the name that is made.
            self.settle_active().await?;
        }
        if statement.step().is_some_and(|step| step.copy_in) {
            self.await_copy(at).await;
        }
        Ok(())
    }

    /// Sends the Execute of a portal to the server that has it, and notes what that may do.
    fn send_portal(
        &mut self,
        at: AttachedId,
        (name, rows): (&[u8], i32),
        portal: &Portal,
        outcome: Outcome,
    ) {
        let statement = &portal.statement;
        let may_write = self.known.may_write(&statement.steps);
        let inbox = &mut self.servers[at].inbox;
        inbox.in_segment = true;
        inbox.may_write |= may_write;
        if may_write && !statement.is_control() {
            inbox.touched.add(portal.parts.as_ref());
        }
        inbox.outcomes.push_back(outcome);
        if let Some(step) = statement.step() {
            inbox.committing |= matches!(step.kind, Kind::Commit { .. });
            self.state.portals.sent(&step.kind);
            if step.kind.is_control() || is_common(&step.kind) {
                self.state.portals.done(name);
            }
        }
        let lease = &mut self.servers[at].lease;
        lease.request(Audience::Client, |send| send.execute(name, rows));
    }

    /// What follows when a statement has run.
    ///
    /// # Errors
    /// It is a PREPARE whose name is taken or cannot be given, or there is no room.
    fn outcome_of_run(&self, statement: &Rc<Prepared>) -> Result<Outcome, Halt> {
        if let Some(runs) = &statement.runs {
            let body = Rc::clone(&runs.body);
            return Ok(Outcome::Runs(Rc::clone(statement), 0, body));
        }
        let Some((Kind::Prepare(name), Some(span))) =
            statement.step().map(|s| (&s.kind, s.name_span))
        else {
            return Ok(Outcome::Of(Rc::clone(statement), 0));
        };
        if !self.gives(name) {
            return Err(prepare_by_parse().into());
        }
        if self.state.names.get(name).is_some() {
            return Err(duplicate_statement(name).into());
        }
        let prepared = self.prepared_by(&statement.sql, span, name)?;
        Ok(Outcome::Defined(name.as_slice().into(), prepared))
    }

    /// Executes what DECLARE has opened, or a function; PostgreSQL calls it a portal as well.
    async fn execute_cursor(&mut self, name: &[u8], rows: i32) -> Result<(), Halt> {
        if name.is_empty() {
            return self.execute_failed(rows).await;
        }
        self.look_for_name(name).await?;
        let open = self.state.portals.get(name);
        let writes = !open.is_some_and(Open::is_kept);
        let has_run = self.state.marks.asked.is_some();
        let shard = match open.and_then(Open::shard) {
            // The server that has it may not be the one that failed.
            Some(_) if self.state.block.status() == backend::TxStatus::Failed => {
                return Err(failed_transaction().into());
            }
            Some(shard) => shard,
            None => self.servers.shard_of_unknown(&self.topology),
        };
        self.join_segment(Some(shard), writes).await?;
        if has_run && self.known.model.is_some() {
            // Its query may be code that is not followed.
            self.state.run_unfollowed();
            self.state.marks.awaited = true;
        }
        let at = self.attach(shard).await?;
        let Attached { lease, inbox, .. } = &mut self.servers[at];
        inbox.in_segment = true;
        inbox.wrote |= writes;
        inbox.may_write |= writes;
        if writes {
            inbox.touched.add(None);
        }
        inbox.outcomes.push_back(Outcome::None);
        lease.request(Audience::Client, |send| send.execute(name, rows));
        Ok(())
    }

    /// Executes the unnamed portal where none was bound: that of a simple query that has failed, if there is one.
    async fn execute_failed(&mut self, rows: i32) -> Result<(), Halt> {
        let Some(at) = self.servers.failed() else {
            return Err(no_such_portal(b"").into());
        };
        let at = self.attach(self.servers[at].shard).await?;
        let Attached { lease, inbox, .. } = &mut self.servers[at];
        inbox.in_segment = true;
        inbox.outcomes.push_back(Outcome::None);
        lease.request(Audience::Client, |send| send.execute(b"", rows));
        Ok(())
    }

    /// Executes a write that gathers, or shows what is left of its rows.
    async fn execute_gathered(
        &mut self,
        name: &[u8],
        gathered: &GatherPortal,
        portal: &Portal,
        rows: i32,
    ) -> Result<(), Halt> {
        self.settle_active().await?;
        self.servers.active = None;
        if gathered.held.borrow().is_some() {
            self.put_held(rows, &gathered.held);
            return Ok(());
        }
        if portal.progress == Progress::Done {
            return Err(cannot_be_run(name).into());
        }
        self.state.portals.done(name);
        let command = Box::pin(self.execute_gathered_write(gathered, rows)).await?;
        self.note_kept(gathered, &command);
        match gathered.holds(rows) {
            true => self.put_held(rows, &gathered.held),
            false => {
                gathered.leave_none(&command);
                self.command_before_sync(command);
            }
        }
        Ok(())
    }

    /// Waits until the server takes the data of a COPY, or has refused to: a client that sends them at once has nothing
    /// to wait for, and only now it is known what they are.
    async fn await_copy(&mut self, at: AttachedId) {
        while self.state.phase == Phase::Segment
            && let Some(attached) = self.servers.get(at)
        {
            let ledger = attached.lease.ledger();
            if ledger.is_empty() || ledger.is_skipping() {
                return;
            }
            poll_fn(|cx| self.poll_server(cx, at)).await;
        }
    }

    /// Executes a portal of several shards: their rows follow each other. A row limit
    /// holds for all of them together.
    async fn execute_many(
        &mut self,
        name: &[u8],
        rows: i32,
        portal: &Rc<ManyPortal>,
        bound: &Portal,
    ) -> Result<(), Halt> {
        self.settle_active().await?;
        self.servers.active = None;
        let many = &portal.many;
        let statement = &bound.statement;
        if portal.columns.is_none() {
            if bound.progress == Progress::Done {
                return Err(cannot_be_run(name).into());
            }
            self.state.portals.done(name);
            let Prepared { sql, steps, .. } = &**statement;
            let done = self.query_many(sql, steps, many).await;
            self.servers.active = None;
            let command = done?;
            if let Some(step) = statement.step() {
                self.state.note_definitions(step);
            }
            self.command_before_sync(command);
            return Ok(());
        }
        let one_row = matches!(many.merge, Merge::Aggregates(_));
        if one_row && portal.leg.get() > 0 {
            self.put_command(b"SELECT 0");
            return Ok(());
        }
        let mut turns = portal.turns.get();
        if portal.bound_at + 1 != self.request.taken {
            // Something else may have been done since, which would be undone with it.
            turns = turns.without_undoing();
        }
        let shared = std::sync::Arc::clone(&self.core.shared);
        let mut again = false;
        self.begin_attempts();
        loop {
            self.begin_attempt(turns);
            let attempt = self.attempt_execute((name, rows), portal, statement, turns.order, again);
            let done = match many.writes {
                true => patiently(&shared.stuck, attempt).await,
                false => attempt.await,
            };
            if !self.end_attempt(&mut turns, &statement.sql).await? {
                done?;
                let planned_by = many.planned_by.as_ref();
                return self.check_not_overtaken(&statement.sql, planned_by).await;
            }
            again = true;
        }
    }

    async fn attempt_execute(
        &mut self,
        (name, rows): (&[u8], i32),
        portal: &Rc<ManyPortal>,
        statement: &Rc<Prepared>,
        order: Order,
        again: bool,
    ) -> Result<(), Halt> {
        let many = &portal.many;
        if again {
            Box::pin(self.bind_again(portal, statement)).await?;
        }
        let mut places = Vec::new();
        for (shard, _) in &many.legs {
            match self.servers.of_shard(*shard) {
                Some(at) => places.push(at),
                None => return Err(no_such_portal(name).into()),
            }
        }
        if let Some(plan) = many.sorted() {
            let streams = portal.sorted.borrow_mut().take();
            let mut streams = streams.unwrap_or_else(|| Streams::new(plan, places.len()));
            let before = streams.sent();
            let more = self
                .execute_sorted((name, rows), &places, &mut streams, order)
                .await?;
            if streams.is_wrong() {
                return self.end_sorted(streams).map(|_| ());
            }
            let command = format!("SELECT {}", streams.sent() - before).into_bytes();
            portal.sorted.replace(Some(streams));
            match more {
                true => self.client.send(backend::PORTAL_SUSPENDED),
                false => self.command_before_sync(command),
            }
            return Ok(());
        }
        if portal.held.borrow().is_some() {
            self.put_held(rows, &portal.held);
            return Ok(());
        }
        let mut merging = self.merging(many, places.len())?;
        if let Some(columns) = &portal.columns {
            merging = merging.with_columns(columns.clone())?;
        }
        merging.copies(&statement.sql, self.standard_strings());
        let limited = rows > 0 && many.merge == Merge::Concat && !many.writes;
        if !limited {
            return self
                .execute_whole((name, rows), portal, &places, merging, (statement, order))
                .await;
        }
        self.execute_limited((name, rows), portal, &places, merging)
            .await
    }

    /// Runs a portal on one shard after the other, until so many rows are shown.
    async fn execute_limited(
        &mut self,
        (name, rows): (&[u8], i32),
        portal: &ManyPortal,
        places: &[AttachedId],
        mut merging: Merging,
    ) -> Result<(), Halt> {
        let mut left = rows;
        // A portal that has shown everything says so again, as its last shard does.
        let done = portal.leg.get().min(places.len().saturating_sub(1));
        for (leg, &at) in places.iter().enumerate().skip(done) {
            self.servers.send_execute(at, name, left);
            let mut suspended = false;
            let mut seen = 0;
            self.each_message(at, |frame, reply, client| {
                suspended = reply.event == Event::Suspended;
                seen += i32::from(frame.tag() == backend::tag::DATA_ROW);
                merging.take(leg, frame, reply.event, client);
                matches!(
                    reply.event,
                    Event::Completed | Event::Failed | Event::Suspended
                )
            })
            .await?;
            if merging.is_wrong() {
                break;
            }
            left -= seen;
            portal.leg.set(leg + usize::from(!suspended));
            if left <= 0 && (suspended || leg + 1 < places.len()) {
                self.client.send(backend::PORTAL_SUSPENDED);
                return Ok(());
            }
        }
        self.finish_many(merging)
            .map(|command| self.put_command(&command))
    }

    /// Runs a portal on all its shards to the end. If a client wants some of the rows of a write, the others are held:
    /// all of it must be done now, as in PostgreSQL, whether they are ever asked for or not.
    async fn execute_whole(
        &mut self,
        (name, rows): (&[u8], i32),
        portal: &Rc<ManyPortal>,
        places: &[AttachedId],
        mut merging: Merging,
        (statement, order): (&Prepared, Order),
    ) -> Result<(), Halt> {
        let many = &portal.many;
        let held = rows > 0 && many.writes && portal.shows;
        if held {
            merging = merging.holding(self.topology.config.limits.held_rows.bytes());
        }
        let ends = |event| matches!(event, Event::Completed | Event::Failed | Event::Suspended);
        let batches = self.topology.batches(many, order);
        let several = batches.len() > 1;
        let most = self.topology.config.limits.held_rows.bytes();
        let mut kept = WaitingRows::new(many.order.is_some(), places.len(), most);
        for batch in batches {
            for &leg in &batch {
                if many.locks_copies() {
                    self.servers.lock_copy(places[leg]);
                }
                self.servers.send_execute(places[leg], name, 0);
            }
            if several {
                self.collect_batch(&batch, places, (&mut merging, &mut kept), ends)
                    .await?;
            } else {
                self.collect_all(many, places, &mut merging, ends).await?;
            }
            if merging.is_decided(many) {
                break;
            }
        }
        if several {
            let listed = many.order.as_deref().unwrap_or_default();
            kept.pass(listed, &mut merging, &mut self.client);
        }
        let waiting = merging.held();
        if let (Some(error), true) = (&mut merging.error, many.is_written()) {
            // Bind has found nothing wrong with the text.
            *error = without_position(error);
        }
        let command = self.finish_many(merging)?;
        if matches!(many.merge, Merge::Aggregates(_)) {
            portal.leg.set(places.len());
            match rows {
                // PostgreSQL does not look whether there is another one.
                1 => self.client.send(backend::PORTAL_SUSPENDED),
                _ => self.put_command(&command),
            }
            return Ok(());
        }
        if let Some(step) = statement.step() {
            self.state.note_definitions(step);
        }
        if held {
            portal.held.replace(Some((waiting, command)));
            self.put_held(rows, &portal.held);
        } else {
            self.command_before_sync(command);
        }
        Ok(())
    }

    /// So many of the rows that wait, or all; as PostgreSQL, which counts those of one Execute in the tag.
    fn put_held(&mut self, rows: i32, held: &RefCell<Option<Held>>) {
        let mut held = held.borrow_mut();
        let Some((waiting, command)) = &mut *held else {
            return;
        };
        let wanted = usize::try_from(rows).ok().filter(|rows| *rows > 0);
        let count = wanted.map_or(waiting.len(), |rows| rows.min(waiting.len()));
        for row in waiting.drain(..count) {
            self.client.send(&row);
        }
        if wanted == Some(count) {
            self.client.send(backend::PORTAL_SUSPENDED);
            return;
        }
        let verb = command.iter().rposition(|byte| *byte == b' ');
        let mut command = command[..verb.map_or(0, |end| end + 1)].to_vec();
        command.extend_from_slice(count.to_string().as_bytes());
        drop(held);
        self.command_before_sync(command);
    }

    /// A statement over several shards has ended. If the Sync that follows commits it, its
    /// end is said after the commit: PostgreSQL sends both in one piece, and there are
    /// drivers that take CommandComplete for the end of it all.
    pub(in crate::session) fn command_before_sync(&mut self, command: Vec<u8>) {
        if self.transaction.implicit {
            self.transaction.waiting_command = Some(Box::new(command));
        } else {
            self.put_command(&command);
        }
    }

    /// Something else than a Sync follows: the client may wait for the command's end.
    pub(in crate::session) fn say_waiting_command(&mut self) {
        if let Some(command) = self.transaction.waiting_command.take() {
            self.put_command(&command);
        }
    }

    /// What a pipeline sets on several servers is undone with the pipeline: they set it in a transaction of the router's
    /// own, unless nothing else is in the pipeline.
    async fn own_setting(&mut self, statement: &Prepared, step: &Step) -> Result<(), Halt> {
        let alone = self.client.input().first() == Some(&tag::SYNC);
        if step.kind.sets() && !alone && self.servers.len() > 1 && self.state.block == Block::None {
            self.transaction.begin_implicit(&mut self.state);
            self.warn_pipelined(statement).await?;
        }
        Ok(())
    }

    /// Runs what the router answers itself, unless a server has come in between.
    async fn execute_local(&mut self, name: &[u8], portal: &Portal, rows: i32) -> Result<(), Halt> {
        let statement = &portal.statement;
        let Some(step) = statement.step() else {
            return Ok(());
        };
        if let Some(name) = unknown_name(statement) {
            return Err(self.state.lacks_statement(name).into());
        }
        // Answers before this one must be out, because this one is written at once.
        self.settle_active().await?;
        if portal.progress == Progress::Done {
            return Err(cannot_be_run(name).into());
        }
        if self.runs_here(&step.kind) {
            if is_common(&step.kind) {
                // Servers that only read so far must not commit it each for itself.
                self.join_segment(None, true).await?;
                self.own_setting(statement, step).await?;
            }
            self.servers.active = None;
            self.state.portals.done(name);
            return Box::pin(self.run_here(&step.kind, &statement.sql)).await;
        }
        let shard = self.state.cursor_shard(&step.kind)?;
        let shard = shard.unwrap_or(self.topology.home);
        let at = self.attach(shard).await?;
        self.ensure_prepared(at, statement).await?;
        let server_name = statement.server_name();
        let attached = &mut self.servers[at];
        attached
            .inbox
            .outcomes
            .push_back(Outcome::Of(Rc::clone(statement), 0));
        attached.inbox.may_write = true;
        attached.inbox.touched.add(None);
        attached.inbox.committing |= matches!(step.kind, Kind::Commit { .. });
        attached.lease.request(Audience::Router, |send| {
            send.plain_bind(name, server_name.as_bytes());
            send.turn_to(Audience::Client);
            send.execute(name, rows);
        });
        self.state.portals.sent(&step.kind);
        if let Some(portal) = self.state.portals.portal_mut(name) {
            portal.place = Place::Shard(shard);
        }
        Ok(())
    }
}
