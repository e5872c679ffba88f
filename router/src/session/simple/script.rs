//! A text of several statements that no one server takes whole: runs them one by one, and writes their answers up to
//! the last CommandComplete.

use super::{alone_report, let_others_run};
use crate::session::dispatch::{Dispatch, Many};
use crate::session::here::is_common;
use crate::session::state::{DoneBefore, State, Unfollowed};
use crate::session::{Halt, Session};
use crate::statements::errors::Written;
use crate::statements::names::Prepared;
use crate::statements::settings::{Change, Setting};
use crate::statements::step::{Kind, Step};
use mothership_plan::Params;
use mothership_proto::report::{Report, sqlstate};
use mothership_sql::cursor::Span;
use std::rc::Rc;

impl State {
    /// Whether characters mean what they meant when the text arrived. PostgreSQL reads the whole text by the encoding in
    /// which it came, and a server would read each statement by the one that holds then.
    fn still_reads_as(&self, arrived: &Arrived) -> bool {
        let now = self.encoding_set();
        now == arrived.set || (arrived.set.is_none() && now == arrived.told)
    }

    /// What `client_encoding` is set to for the session or the transaction, if it is.
    fn encoding_set(&self) -> Option<String> {
        let local = self.local.as_deref();
        let settings = local.unwrap_or(&self.settings).current();
        let set = settings.text("client_encoding");
        set.map(|set| plain_name(&set))
    }

    fn encoding(&self) -> Arrived {
        let told = self.told.value(b"client_encoding");
        let told = told.and_then(|told| std::str::from_utf8(told).ok());
        Arrived {
            set: self.encoding_set(),
            told: told.map(plain_name),
        }
    }
}

impl Session {
    /// Runs the statements of a text one by one, in one transaction unless the text
    /// itself says otherwise. PostgreSQL does the same (manual, "Multiple Statements
    /// in a Simple Query").
    pub(super) async fn script(
        &mut self,
        sql: &[u8],
        statement: &Rc<Prepared>,
    ) -> Result<(), Halt> {
        let arrived = self.state.encoding();
        let strings = self.standard_strings();
        let mut quotes = false;
        // Any of its statements may be the one, and none of them has run yet.
        let runs_unfollowed = self.state.marks.unfollowed == Unfollowed::Now;
        if runs_unfollowed {
            self.state.marks.unfollowed = Unfollowed::Nothing;
        }
        for (at, step) in statement.steps.iter().enumerate() {
            let_others_run(at).await;
            let text = step.span.of(sql);
            if !text.is_ascii() && !self.state.still_reads_as(&arrived) {
                return Err(encoding_changed().into());
            }
            if text.contains(&b'\\') && (quotes || self.standard_strings() != strings) {
                return Err(quoting_changed().into());
            }
            quotes |= sets_backslash_quote(&step.kind);
            if !step.kind.is_control() {
                if at > 0 {
                    self.refresh_between().await?;
                }
                // What a statement says of settings is followed.
                if runs_unfollowed && !matches!(step.kind, Kind::Settings(_) | Kind::SetLocal(..)) {
                    self.state.run_unfollowed();
                }
            }
            // Nothing else may run in such a block.
            if self.state.block.is_nowhere() && self.runs_here(&step.kind) {
                self.carry_out(&step.kind, text).await?;
                continue;
            }
            self.check_steps(std::slice::from_ref(step))?;
            if self.control_outside(&step.kind, text).await? {
                continue;
            }
            let here = self.runs_here(&step.kind);
            let is_prepare = matches!(step.kind, Kind::PrepareTransaction);
            if here && is_common(&step.kind) && !is_prepare && !self.servers.is_empty() {
                // They must not commit it each for itself.
                self.transaction.begin_implicit(&mut self.state);
            }
            if here || (step.kind.is_control() && !self.servers.is_empty()) {
                self.carry_out(&step.kind, text).await?;
                continue;
            }
            if step.copy_in
                || matches!(
                    step.kind,
                    Kind::Prepare(_) | Kind::Execute(_) | Kind::ExplainRoute(_) | Kind::Refuse(_)
                )
            {
                return Err(alone_report(step).into());
            }
            self.transaction.begin_implicit(&mut self.state);
            self.state.sets = step.kind.sets();
            self.run_part((text, step), statement, at).await?;
        }
        Ok(())
    }

    /// Runs one of the statements on its shards, and writes its answer up to CommandComplete.
    async fn run_part(
        &mut self,
        (text, step): (&[u8], &Step),
        statement: &Rc<Prepared>,
        at: usize,
    ) -> Result<(), Halt> {
        self.request.written = Some(Rc::new(Written::part(statement, step.span)));
        if let Some(explaining) = self.explaining(statement, step, &Params::NONE).await? {
            let answer = self.explain_query_over(&explaining).await?;
            self.client.send(&answer);
            self.state.done_before = self.state.done_before.max(DoneBefore::Something);
            return Ok(());
        }
        let filled = self.filled_query(statement, at).await?;
        if let Some((_, written)) = &filled {
            self.request.written = Some(Rc::clone(written));
        }
        let (place, count) = (at, statement.steps.len());
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
        self.state
            .check_declared(Some(step), self.shard_declared(&work))?;
        let many = match work {
            Dispatch::Many(many) => Many {
                step: match filled {
                    Some(_) => many.step,
                    None => Span {
                        start: 0,
                        end: text.len(),
                    },
                },
                ..*many
            },
            Dispatch::Gather(work) => {
                let command = self.query_gather(text, &work).await?;
                self.put_command_of(place, count, command);
                self.state.done_before = self.state.done_before.max(DoneBefore::Something);
                return Ok(());
            }
            Dispatch::One { shard, writes, .. } => Many::one(shard, Some(Rc::from(text)), writes),
        };
        let steps = std::slice::from_ref(step);
        let command = self.query_many(text, steps, &many).await?;
        self.put_command_of(place, count, command.clone());
        match self.servers.active {
            Some(at) => {
                let inbox = &mut self.servers[at].inbox;
                self.state.ended_well(step, &command, inbox);
            }
            None => self.state.note_definitions(step),
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

/// The encoding in which a text came: what the session has set, and what its client was told.
struct Arrived {
    set: Option<String>,
    told: Option<String>,
}

/// The refusal of a text that changes its encoding ahead of characters that depend on it.
fn encoding_changed() -> Report {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "client_encoding cannot be changed ahead of other characters of the same text",
    )
    .hint("Send SET client_encoding by itself.")
}

/// Whether a statement says whether `\'` is a quote in a string.
fn sets_backslash_quote(kind: &Kind) -> bool {
    let is = |change: &Change| match change {
        Change::Set(Setting { name, .. }) | Change::Reset(name) => name == "backslash_quote",
        Change::ResetAll { .. } | Change::DiscardAll => true,
    };
    match kind {
        Kind::Settings(changes) | Kind::LocalConfig(Some(changes)) => changes.iter().any(is),
        Kind::SetLocal(change, _) => is(change),
        _ => false,
    }
}

/// The refusal of a text that changes how the strings behind it are read: PostgreSQL reads all of it as it arrives.
fn quoting_changed() -> Report {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "how backslashes are read cannot be changed ahead of other backslashes of the same text",
    )
    .hint("Send SET standard_conforming_strings or SET backslash_quote by itself.")
}

/// The name of an encoding as PostgreSQL compares it (`clean_encoding_name`).
fn plain_name(encoding: &str) -> String {
    let letters = encoding.chars().filter(char::is_ascii_alphanumeric);
    letters.map(|c| c.to_ascii_lowercase()).collect()
}
