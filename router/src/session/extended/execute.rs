//! Execute: runs a portal, on one server, on several, or here.

use super::ManyPortal;
use crate::plan::Merge;
use crate::session::execute::unknown_name;
use crate::session::here::is_common;
use crate::session::inbox::Outcome;
use crate::session::many::{Held, Merging};
use crate::session::names::Prepared;
use crate::session::own::Definitions;
use crate::session::simple::named::no_such_statement;
use crate::session::sorted::Streams;
use crate::session::state::Place;
use crate::session::step::{Kind, Step};
use crate::session::{Halt, Session, malformed};
use mothership_proto::backend;
use mothership_proto::frontend;
use mothership_proto::ledger::{Audience, Event, Owed};
use mothership_proto::report::{Report, sqlstate};
use std::cell::RefCell;
use std::rc::Rc;

impl Session {
    pub(in crate::session) async fn on_execute(&mut self, body: &[u8]) -> Result<(), Halt> {
        self.begin_segment().await?;
        self.flush_held().await?;
        let (name, rows) = frontend::execute(body).map_err(malformed)?;
        let portal = self.state.portals.get(name).cloned();
        let step = portal.as_ref().and_then(|portal| portal.statement.step());
        if step.is_some_and(Step::redefines) {
            // What follows in this pipeline is planned before this is answered.
            self.state.definitions = Definitions::Changed;
        }
        if let Some(portal) = &portal {
            self.log_statement(&portal.statement.sql);
            if self.world.is_some() {
                // The server that has it may not be the one that failed.
                self.check_failed(&portal.statement)?;
            }
            self.check_meant(portal.executes.as_ref().unwrap_or(&portal.statement))?;
        }
        let shard = match portal.as_ref().map(|p| &p.place) {
            Some(Place::Here) => {
                let statement = portal.map(|p| p.statement);
                return match statement {
                    Some(statement) => self.execute_local(name, &statement, rows).await,
                    None => Ok(()),
                };
            }
            Some(Place::Many(many)) => {
                let many = Rc::clone(many);
                let statement = portal.map(|p| p.statement);
                return self.execute_many(name, rows, &many, statement).await;
            }
            Some(Place::Gathered(gathered)) => {
                let gathered = Rc::clone(gathered);
                self.settle_active().await?;
                self.active = None;
                if gathered.held.borrow().is_some() {
                    self.put_held(rows, &gathered.held);
                    return Ok(());
                }
                let command = self.execute_gathered_write(&gathered, rows).await?;
                self.note_kept(&gathered, &command);
                match gathered.holds(rows) {
                    true => self.put_held(rows, &gathered.held),
                    false => self.command_before_sync(command),
                }
                return Ok(());
            }
            Some(Place::Explaining(portal)) => {
                let portal = Rc::clone(portal);
                return self.execute_explaining(&portal, rows).await;
            }
            Some(Place::Explained(explained)) => {
                self.check_explain()?;
                let rows = explained.rows(rows);
                self.answer(rows);
                return Ok(());
            }
            Some(Place::Shard(shard)) => *shard,
            None => self.topology.home,
        };
        // COMMIT and the like, bound when the transaction had one server, and now it has
        // more: all of them must do it.
        if let Some(portal) = &portal
            && portal
                .statement
                .step()
                .is_some_and(|step| self.runs_here(&step.kind))
        {
            let statement = Rc::clone(&portal.statement);
            return self.execute_local(name, &statement, rows).await;
        }
        if portal.as_ref().is_some_and(|p| p.statement.runs.is_some()) {
            // The place that an error names is moved to the client's text: it must be this one's.
            self.settle_active().await?;
        }
        let at = self.attach(shard).await?;
        let steps = portal.as_ref().map(|portal| &portal.statement.steps[..]);
        let may_write = self.may_write(steps.unwrap_or_default());
        let inbox = &mut self.servers[at].inbox;
        inbox.in_segment = true;
        inbox.may_write |= may_write;
        let portal_of_control = portal.as_ref().is_some_and(|p| p.statement.is_control());
        if may_write && !portal_of_control {
            let parts = portal.as_ref().and_then(|portal| portal.parts.as_ref());
            inbox.touched.add(parts);
        }
        match &portal {
            Some(portal) => {
                let statement = Rc::clone(&portal.statement);
                inbox.outcomes.push_back(match &portal.statement.runs {
                    Some(runs) => Outcome::Runs(statement, Rc::clone(&runs.body)),
                    None => Outcome::Of(statement, 0),
                });
                if let Some(step) = portal.statement.step() {
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
        let step = portal.as_ref().and_then(|portal| portal.statement.step());
        if step.is_some_and(|step| self.state.leaves_startup(&step.kind)) {
            // What follows in the segment is for what the session goes back to.
            self.settle_active().await?;
        }
        Ok(())
    }

    /// Executes a portal of several shards: their rows follow each other. A row limit
    /// holds for all of them together.
    async fn execute_many(
        &mut self,
        name: &[u8],
        rows: i32,
        portal: &Rc<ManyPortal>,
        statement: Option<Rc<Prepared>>,
    ) -> Result<(), Halt> {
        self.settle_active().await?;
        self.active = None;
        let many = &portal.many;
        if portal.columns.is_none() {
            let done = match &statement {
                Some(statement) => {
                    let Prepared { sql, steps, .. } = &**statement;
                    self.query_many(sql, steps, many).await
                }
                None => self.query_many(b"", &[], many).await,
            };
            self.active = None;
            let command = done?;
            self.command_before_sync(command);
            return Ok(());
        }
        let one_row = matches!(many.merge, Merge::Aggregates(_));
        if one_row && portal.leg.get() > 0 {
            self.put_command(b"SELECT 0");
            return Ok(());
        }
        let mut places = Vec::new();
        for (shard, _) in &many.legs {
            match self.servers.iter().position(|s| s.shard == *shard) {
                Some(at) => places.push(at),
                None => {
                    return Err(Report::error(
                        sqlstate::INVALID_CURSOR_NAME,
                        format!(
                            "portal \"{}\" does not exist",
                            String::from_utf8_lossy(name)
                        ),
                    )
                    .into());
                }
            }
        }
        if let Some(plan) = many.sorted() {
            let streams = portal.sorted.borrow_mut().take();
            let mut streams = streams.unwrap_or_else(|| Streams::new(plan, places.len()));
            let before = streams.sent();
            let more = self
                .execute_sorted((name, rows), &places, &mut streams)
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
        let mut merging = Merging::new(&many.merge, places.len());
        if let Some(columns) = &portal.columns {
            merging = merging.with_columns(columns.clone())?;
        }
        if let Some(statement) = &statement {
            merging.copies(&statement.sql, self.standard_strings());
        }
        let limited = rows > 0 && many.merge == Merge::Concat && !many.writes;
        if !limited {
            for &at in &places {
                self.send_execute(at, name, 0);
            }
            return self
                .execute_whole(rows, portal, &places, merging, statement)
                .await;
        }
        let mut left = rows;
        // A portal that has shown everything says so again, as its last shard does.
        let done = portal.leg.get().min(places.len().saturating_sub(1));
        for (leg, &at) in places.iter().enumerate().skip(done) {
            self.send_execute(at, name, left);
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
        rows: i32,
        portal: &Rc<ManyPortal>,
        places: &[usize],
        mut merging: Merging,
        statement: Option<Rc<Prepared>>,
    ) -> Result<(), Halt> {
        let many = &portal.many;
        let held = rows > 0 && many.writes && portal.shows;
        if held {
            merging = merging.holding(self.topology.config.limits.held_rows.bytes());
        }
        let ends = |event| matches!(event, Event::Completed | Event::Failed | Event::Suspended);
        self.collect_all(many, places, &mut merging, ends).await?;
        let waiting = merging.held();
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
        if let Some(step) = statement.as_ref().and_then(|s| s.step()) {
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
        if self.implicit {
            self.waiting_command = Some(command);
        } else {
            self.put_command(&command);
        }
    }

    /// Something else than a Sync follows: the client may wait for the command's end.
    pub(in crate::session) fn say_waiting_command(&mut self) {
        if let Some(command) = self.waiting_command.take() {
            self.put_command(&command);
        }
    }

    pub(in crate::session) fn send_execute(&mut self, at: usize, name: &[u8], rows: i32) {
        let attached = &mut self.servers[at];
        attached.inbox.in_segment = true;
        attached.lease.wire.with_output(|out| {
            frontend::put_execute(out, name, rows);
            out.extend_from_slice(frontend::FLUSH);
        });
        attached.lease.ledger.push(Owed::Execute(Audience::Router));
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
        if let Some(name) = unknown_name(statement) {
            return Err(no_such_statement(name).into());
        }
        // Answers before this one must be out, because this one is written at once.
        self.settle_active().await?;
        if self.runs_here(&step.kind) {
            if is_common(&step.kind) {
                // Servers that only read so far must not commit it each for itself.
                self.join_segment(None, true).await?;
            }
            self.active = None;
            return self.run_here(&step.kind, &statement.sql).await;
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
        attached.inbox.touched.add(None);
        attached.inbox.committing |= matches!(step.kind, Kind::Commit { .. });
        attached.lease.wire.with_output(|out| {
            frontend::put_plain_bind(out, name, server_name.as_bytes());
            frontend::put_execute(out, name, rows);
        });
        attached.lease.ledger.push(Owed::Bind(Audience::Router));
        attached.lease.ledger.push(Owed::Execute(Audience::Client));
        Ok(())
    }
}
