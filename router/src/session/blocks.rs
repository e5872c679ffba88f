//! Transaction control where the client has begun no block, or only the router has: what PostgreSQL says to it, and how
//! a transaction of the router's own becomes the client's. And what a chained transaction takes over from the last.

use super::here::begin_command;
use super::history::TransactionEvent;
use super::state::{Block, State};
use super::{Halt, Session};
use crate::statements::names::Prepared;
use crate::statements::step::{Kind, Step, written};
use mothership_proto::backend;
use mothership_proto::report::{Report, sqlstate};
use mothership_sql::effect::{Modes, Pin, Statement, analyse};
use std::borrow::Cow;

impl Session {
    /// Answers transaction control outside of a block of the client's. True if nothing is left to do; a COMMIT or
    /// ROLLBACK that ends what the router has begun is only warned of.
    ///
    /// # Errors
    /// PostgreSQL's own, 25P01, for what can only be used in a block.
    pub(super) async fn control_outside(&mut self, kind: &Kind, sql: &[u8]) -> Result<bool, Halt> {
        if !self.transaction.implicit && self.state.block != Block::None {
            return Ok(false);
        }
        match kind {
            Kind::Begin(modes) if self.transaction.implicit => {
                self.take_over(modes).await?;
                self.client
                    .with_output(|out| backend::put_complete(out, begin_command(sql)));
                Ok(true)
            }
            Kind::Commit { chain } | Kind::Rollback { chain } => {
                let command = match kind {
                    Kind::Commit { .. } => "COMMIT",
                    _ => "ROLLBACK",
                };
                if *chain {
                    return Err(only_in_blocks(&format!("{command} AND CHAIN")).into());
                }
                let warning = "there is no transaction in progress";
                self.warn(sqlstate::NO_ACTIVE_TRANSACTION, warning);
                let begun =
                    self.transaction.implicit || self.servers.iter().any(|s| s.inbox.in_segment);
                if !begun {
                    self.client
                        .with_output(|out| backend::put_complete(out, command.as_bytes()));
                }
                Ok(!begun)
            }
            Kind::Savepoint(_) => Err(only_in_blocks("SAVEPOINT").into()),
            Kind::RollbackTo(_) => Err(only_in_blocks("ROLLBACK TO SAVEPOINT").into()),
            Kind::Release(_) => Err(only_in_blocks("RELEASE SAVEPOINT").into()),
            _ => Ok(false),
        }
    }

    /// Warns the client of what PostgreSQL would warn of, if its client_min_messages lets warnings through.
    pub(super) fn warn(&mut self, code: &'static str, message: impl Into<Cow<'static, str>>) {
        const NAME: &str = "client_min_messages";
        let settings = self.state.local.as_deref().unwrap_or(&self.state.settings);
        let own = settings.current().text(NAME);
        let begun = self.login.beginning.begins.as_deref();
        let level = own.or_else(|| begun?.value(NAME).map(Cow::Borrowed));
        // PostgreSQL takes the last two for the first.
        let silent = ["error", "fatal", "panic"];
        let is_silent = |level: &str| silent.iter().any(|own| level.eq_ignore_ascii_case(own));
        if !level.is_some_and(|level| is_silent(&level)) {
            let warning = Report::warning(code, message);
            self.client.with_output(|out| warning.put(out));
        }
    }

    /// Fails for what a pipeline can run in a block only: before PostgreSQL 18, which has one for all but the first of
    /// its statements. The transaction of the router's own is a block to its servers, and to nobody else.
    ///
    /// # Errors
    /// PostgreSQL's own, 25P01.
    pub(super) async fn check_pipelined(&mut self, statement: &Prepared) -> Result<(), Halt> {
        let outside =
            |session: &Self| session.transaction.implicit || session.state.block == Block::None;
        let Some(name) = statement
            .step()
            .and_then(|step| needs_block(step, statement))
        else {
            return Ok(());
        };
        if !outside(self) || self.state.told.server_version() >= 18 {
            return Ok(());
        }
        // A BEGIN may be under way.
        self.settle_active().await?;
        match outside(self) {
            true => Err(only_in_blocks(name).into()),
            false => Ok(()),
        }
    }

    /// Warns of what has no effect beyond its own statement where no block is open. To servers the transaction of the
    /// router's own is a block, so they do not. From PostgreSQL 18 on a pipeline counts as one.
    pub(super) async fn warn_pipelined(&mut self, statement: &Prepared) -> Result<(), Halt> {
        let constraints = |sql: &str| {
            let second = sql.split_whitespace().nth(1);
            second.is_some_and(|word| word.eq_ignore_ascii_case("constraints"))
        };
        let name = match statement.step().map(|step| &step.kind) {
            Some(Kind::SetLocal(..)) => "SET LOCAL",
            Some(Kind::SetTransaction(sql)) if constraints(sql) => "SET CONSTRAINTS",
            Some(Kind::SetTransaction(_)) => "SET TRANSACTION",
            _ => return Ok(()),
        };
        if !self.transaction.implicit || self.state.told.server_version() >= 18 {
            return Ok(());
        }
        // A BEGIN may be under way.
        self.settle_active().await?;
        if self.transaction.implicit {
            let message = format!("{name} can only be used in transaction blocks");
            self.warn(sqlstate::NO_ACTIVE_TRANSACTION, message);
        }
        Ok(())
    }

    /// BEGIN makes a block of the router's own transaction: what was done before it belongs to it, and its modes hold
    /// from here on, if the servers allow that so late.
    async fn take_over(&mut self, modes: &str) -> Result<(), Halt> {
        if !modes.is_empty() {
            let set = format!("SET TRANSACTION {modes}");
            for at in self.servers.ids() {
                self.bring_into_block(at).await?;
                if self.servers[at].inbox.in_segment {
                    self.tell(at, &set).await?;
                } else if let Some(body) = self.ask_plainly(at, set.as_bytes()).await? {
                    // These are the client's words: it is told, and the server only has a transaction to undo.
                    return Err(self.state.report_for_client(&body).into());
                }
            }
            self.state.begin(modes);
            let events = self.state.history.events().len();
            self.servers.iter_mut().for_each(|s| s.inbox.told = events);
        }
        self.transaction.implicit = false;
        Ok(())
    }
}

/// What PostgreSQL calls a statement that locks or declares for the transaction's time, if it is one.
fn needs_block(step: &Step, statement: &Prepared) -> Option<&'static str> {
    match &step.kind {
        Kind::Declare(_) if !step.pins.has(Pin::HoldCursor) => Some("DECLARE CURSOR"),
        Kind::Plain if step.writes && !step.names_rows && !step.changes_schema => {
            match analyse(&statement.sql, true).statement {
                Statement::Lock => Some("LOCK TABLE"),
                _ => None,
            }
        }
        _ => None,
    }
}

fn only_in_blocks(statement: &str) -> Report {
    let message = format!("{statement} can only be used in transaction blocks");
    Report::error(sqlstate::NO_ACTIVE_TRANSACTION, message)
}

impl State {
    /// The block ends, and with AND CHAIN another one begins.
    pub fn chain(&mut self, chains: bool) {
        self.modes = match chains {
            true => self.modes_to_chain().into(),
            false => Box::default(),
        };
        self.chained = chains;
    }

    /// The modes of the transaction that AND CHAIN begins after this one: those that hold now. One that has failed
    /// leaves those that it took over itself, as `CommitTransactionCommand` in PostgreSQL's `xact.c` does.
    fn modes_to_chain(&self) -> String {
        if matches!(self.block, Block::Failed | Block::Refused | Block::Lost) {
            return match self.chained {
                true => self.modes.to_string(),
                false => String::new(),
            };
        }
        let begun = format!("BEGIN {}", self.modes);
        let set = self
            .history
            .events()
            .iter()
            .filter_map(|event| match event {
                TransactionEvent::Local(sql) => Some(sql.as_str()),
                TransactionEvent::Savepoint(_) | TransactionEvent::Session { .. } => None,
            });
        let mut all = Modes::default();
        for sql in std::iter::once(begun.as_str()).chain(set) {
            // Whatever strings mean, modes have none.
            let (Statement::Begin { modes, .. } | Statement::SetTransaction(modes)) =
                analyse(sql.as_bytes(), true).statement
            else {
                continue;
            };
            all.isolation = modes.isolation.or(all.isolation);
            all.read_only = modes.read_only.or(all.read_only);
            all.deferrable = modes.deferrable.or(all.deferrable);
        }
        written(all)
    }
}
