//! A text of several statements that no one server takes whole: runs them one by one, and writes their answers up to
//! the last CommandComplete.

use super::alone_report;
use crate::plan::Params;
use crate::session::dispatch::{Dispatch, Many};
use crate::session::here::{begin_command, is_control};
use crate::session::names::Prepared;
use crate::session::state::Block;
use crate::session::step::Kind;
use crate::session::{Halt, Session};
use mothership_proto::backend;
use mothership_proto::report::{Report, sqlstate};
use std::rc::Rc;

impl Session {
    /// Runs the statements of a text one by one, in one transaction unless the text
    /// itself says otherwise. PostgreSQL does the same (manual, "Multiple Statements
    /// in a Simple Query").
    pub(super) async fn script(
        &mut self,
        sql: &[u8],
        statement: &Rc<Prepared>,
    ) -> Result<(), Halt> {
        for (at, step) in statement.steps.iter().enumerate() {
            let text = step.span.of(sql);
            if at > 0 && !is_control(&step.kind) {
                self.refresh_between().await?;
            }
            self.check_steps(std::slice::from_ref(step))?;
            if self.implicit || self.state.block == Block::None {
                check_block(&step.kind)?;
            }
            if let Kind::Begin(modes) = &step.kind
                && self.implicit
            {
                self.take_over(modes).await?;
                self.client
                    .with_output(|out| backend::put_complete(out, begin_command(text)));
                continue;
            }
            if let Kind::Commit { chain } | Kind::Rollback { chain } = step.kind {
                let nothing = self.state.block == Block::None && self.servers.is_empty();
                if nothing || self.implicit {
                    self.warn_of_no_block(&step.kind, chain)?;
                }
                if nothing {
                    let command = end_command(&step.kind);
                    self.client
                        .with_output(|out| backend::put_complete(out, command.as_bytes()));
                    continue;
                }
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

    /// BEGIN makes a block of the router's own transaction: what was done before it belongs to it, and its modes hold
    /// from here on, if the servers allow that so late.
    async fn take_over(&mut self, modes: &str) -> Result<(), Halt> {
        if !modes.is_empty() {
            let set = format!("SET TRANSACTION {modes}");
            for at in 0..self.servers.len() {
                self.bring_into_block(at).await?;
                self.ask(at, set.as_bytes()).await?;
            }
            self.state.begin(modes);
            let deeds = self.state.history.deeds().len();
            self.servers.iter_mut().for_each(|s| s.inbox.told = deeds);
        }
        self.implicit = false;
        Ok(())
    }

    /// What PostgreSQL says to COMMIT or ROLLBACK where BEGIN was not.
    fn warn_of_no_block(&mut self, kind: &Kind, chain: bool) -> Result<(), Halt> {
        if chain {
            let command = end_command(kind);
            let message = format!("{command} AND CHAIN can only be used in transaction blocks");
            return Err(Report::error(sqlstate::NO_ACTIVE_TRANSACTION, message).into());
        }
        let warning = "there is no transaction in progress";
        let warning = Report::warning(sqlstate::NO_ACTIVE_TRANSACTION, warning);
        self.client.with_output(|out| warning.put(out));
        Ok(())
    }
}

fn end_command(kind: &Kind) -> &'static str {
    match kind {
        Kind::Commit { .. } => "COMMIT",
        _ => "ROLLBACK",
    }
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
