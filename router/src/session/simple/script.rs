//! A text of several statements that no one server takes whole: runs them one by one, and writes their answers up to
//! the last CommandComplete.

use super::alone_report;
use crate::plan::Params;
use crate::session::dispatch::{Dispatch, Many};
use crate::session::errors::Written;
use crate::session::here::is_control;
use crate::session::names::Prepared;
use crate::session::settings::Change;
use crate::session::step::Kind;
use crate::session::{Halt, Session};
use crate::sql::cursor::Span;
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
        let count = statement.steps.len();
        check_encoding(sql, statement)?;
        for (at, step) in statement.steps.iter().enumerate() {
            let text = step.span.of(sql);
            if at > 0 && !is_control(&step.kind) {
                self.refresh_between().await?;
            }
            self.check_steps(std::slice::from_ref(step))?;
            if self.control_outside(&step.kind, text).await? {
                continue;
            }
            if self.runs_here(&step.kind) || (is_control(&step.kind) && !self.servers.is_empty()) {
                self.carry_out(&step.kind, text).await?;
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
            self.state.sets = matches!(
                step.kind,
                Kind::Settings(_) | Kind::SetLocal(..) | Kind::SetTransaction(_)
            );
            self.written = Some(Rc::new(Written::part(statement, step.span)));
            if let Some(explaining) = self.explaining(statement, step, &Params::NONE).await? {
                let answer = self.explain_query_over(&explaining).await?;
                self.client.send(&answer);
                continue;
            }
            let filled = self.filled_query(statement, at).await?;
            if let Some((_, written)) = &filled {
                self.written = Some(Rc::clone(written));
            }
            let place = at;
            let (statement, at, text) = match &filled {
                Some((filled, _)) => (filled, 0, &*filled.sql),
                None => (statement, at, text),
            };
            self.look_for_cursor(Some(&step.kind)).await?;
            self.ask_rights(statement, at).await?;
            let work = match self.dispatch(statement, at, &Params::NONE) {
                Ok(work) => work,
                Err(halt) => return Err(self.judged(halt, text, &[]).await),
            };
            self.check_declared(Some(step), self.shard_declared(&work))?;
            let many = match work {
                Dispatch::Many(many) => Many {
                    step: match filled {
                        Some(_) => many.step,
                        None => Span {
                            start: 0,
                            end: text.len(),
                        },
                    },
                    ..many
                },
                Dispatch::Gather(work) => {
                    let command = self.query_gather(text, &work).await?;
                    self.put_command_of(place, count, command);
                    continue;
                }
                Dispatch::One { shard, writes, .. } => {
                    Many::one(shard, Some(Rc::from(text)), writes)
                }
            };
            let steps = std::slice::from_ref(step);
            let command = self.query_many(text, steps, &many).await?;
            self.put_command_of(place, count, command.clone());
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

    /// The end of the statement at this place of so many. PostgreSQL says that of the last one when all of it is
    /// committed, and not at all if it cannot be.
    fn put_command_of(&mut self, place: usize, count: usize, command: Vec<u8>) {
        match place + 1 == count {
            true => self.command_before_sync(command),
            false => self.put_command(&command),
        }
    }
}

/// Refuses a text that changes its encoding ahead of characters that depend on it: PostgreSQL reads the whole text by the
/// encoding in which it came, and a server would read each statement by the one that holds then.
fn check_encoding(sql: &[u8], statement: &Prepared) -> Result<(), Halt> {
    let is_encoding = |change: &Change| match change {
        Change::Set(setting) => setting.name == "client_encoding",
        Change::Reset(name) => name == "client_encoding",
        Change::ResetAll { .. } | Change::DiscardAll => false,
    };
    let changes = |kind: &Kind| match kind {
        Kind::Settings(changes) | Kind::LocalConfig(Some(changes)) => {
            changes.iter().any(is_encoding)
        }
        Kind::SetLocal(change, _) => is_encoding(change),
        _ => false,
    };
    let first = statement.steps.iter().find(|step| changes(&step.kind));
    let behind = first.and_then(|step| sql.get(step.span.end..));
    match behind.is_some_and(|behind| !behind.is_ascii()) {
        true => Err(Report::error(
            sqlstate::FEATURE_NOT_SUPPORTED,
            "client_encoding cannot be changed ahead of other characters of the same text",
        )
        .hint("Send SET client_encoding by itself.")
        .into()),
        false => Ok(()),
    }
}
