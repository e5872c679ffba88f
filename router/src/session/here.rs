//! What the router answers itself, without a server or for several of them: decides which statements these are, does
//! them, and writes the answer up to CommandComplete.

use super::allowed::{failed_transaction, lost_transaction, no_such_savepoint};
use super::simple::named::no_such_statement;
use super::state::Block;
use super::{Halt, Session};
use crate::config::PoolMode;
use crate::statements::settings::{Change, Value};
use crate::statements::step::Kind;
use mothership_proto::backend;
use mothership_proto::report::{Report, sqlstate};
use mothership_sql::cursor::Cursor;
use mothership_sql::effect::DiscardWhat;

impl Session {
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
        if (self.servers.len() > 1 || failed_elsewhere) && (kind.is_control() || is_common(kind)) {
            return true;
        }
        let no_server = self.servers.is_empty();
        match (kind, &self.state.block) {
            // A server that was told to BEGIN in those modes would forget them.
            (Kind::Commit { chain: true } | Kind::Rollback { chain: true }, Block::Failed) => {
                self.state.chained
            }
            (Kind::Deallocate(_), _) => true,
            // No server would come so far as to run it.
            (Kind::Settings(_) | Kind::Discard(DiscardWhat::All), Block::None) => {
                no_server && self.state.stuck && is_reset(kind)
            }
            (Kind::Close(name), _) => self.state.closes_here(name),
            (Kind::Begin(_), Block::None | Block::Begun) => {
                no_server && self.login.pool_mode != PoolMode::Statement
            }
            (
                Kind::Commit { .. } | Kind::Rollback { .. },
                Block::Begun | Block::Refused | Block::Lost,
            ) => no_server,
            (Kind::RollbackTo(_), Block::Refused) => no_server,
            (Kind::Savepoint(_), Block::Begun) => no_server,
            // Whether there is room for it is asked first.
            (Kind::PrepareTransaction, Block::Open) => {
                self.servers.len() == 1 && self.topology.postgres > 1
            }
            (Kind::PrepareTransaction, Block::Begun) => no_server && self.topology.postgres > 1,
            // It is a ROLLBACK then, and its server may know of no failure.
            (Kind::PrepareTransaction, Block::Failed) => true,
            (Kind::PrepareTransaction, Block::Refused | Block::Lost) => no_server,
            (Kind::RollbackTo(name) | Kind::Release(name), Block::Begun) => {
                no_server && self.state.history.has_savepoint(name)
            }
            _ => false,
        }
    }

    /// Does it, and writes the answer up to CommandComplete.
    pub(super) async fn run_here(&mut self, kind: &Kind, sql: &[u8]) -> Result<(), Halt> {
        match self.control_outside(kind, sql).await? {
            true => Ok(()),
            false => Box::pin(self.carry_out(kind, sql)).await,
        }
    }

    /// The same of what [`Session::control_outside`] has left to do.
    pub(super) async fn carry_out(&mut self, kind: &Kind, sql: &[u8]) -> Result<(), Halt> {
        self.state
            .check_growth(&self.topology, std::iter::once(kind))?;
        let command: &[u8] = match kind {
            Kind::Deallocate(name) => self.deallocate(name.as_deref()).await?,
            Kind::Close(name) if self.state.closes_here(name) => {
                self.close_here(name).await?;
                b"CLOSE CURSOR"
            }
            _ if !self.servers.is_empty() => return Box::pin(self.run_on_all(kind, sql)).await,
            Kind::PrepareTransaction if self.state.block == Block::Begun => {
                let at = self.attach(self.topology.home).await?;
                self.bring_into_block(at).await?;
                return Box::pin(self.run_on_all(kind, sql)).await;
            }
            Kind::Begin(modes) => {
                if self.state.block == Block::None {
                    self.state.settings.begin();
                    self.state.begin(modes);
                    self.state.block = Block::Begun;
                } else {
                    let warning = "there is already a transaction in progress";
                    self.warn(sqlstate::ACTIVE_TRANSACTION, warning);
                    self.state.check_modes_of_block(modes)?;
                    self.state.begin(modes);
                }
                begin_command(sql)
            }
            Kind::Commit { chain } | Kind::Rollback { chain } => {
                let commits =
                    matches!(kind, Kind::Commit { .. }) && self.state.block == Block::Begun;
                let command: &[u8] = if commits { b"COMMIT" } else { b"ROLLBACK" };
                let untold = self.state.untold.take();
                self.state.follow(kind, command);
                if untold && matches!(kind, Kind::Commit { .. }) {
                    return Err(lost_transaction().into());
                }
                self.transaction.implicit = false;
                if *chain {
                    // No server has begun it yet.
                    self.state.block = Block::Begun;
                }
                command
            }
            Kind::PrepareTransaction => {
                let untold = self.state.untold.take();
                let rollback = Kind::Rollback { chain: false };
                self.state.follow(&rollback, b"ROLLBACK");
                if untold {
                    return Err(lost_transaction().into());
                }
                self.transaction.implicit = false;
                b"ROLLBACK"
            }
            Kind::RollbackTo(name) if !self.state.history.has_savepoint(name) => {
                return Err(no_such_savepoint(name).into());
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
            Kind::Settings(_) | Kind::Discard(DiscardWhat::All) => {
                let command = reset_command(sql).ok_or_else(|| Halt::Fail(settings_refused()))?;
                self.state.follow(kind, command);
                if matches!(kind, Kind::Discard(_)) {
                    self.state.forget_session();
                }
                command
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
    async fn deallocate(&mut self, name: Option<&[u8]>) -> Result<&'static [u8], Halt> {
        if self.state.block.status() == backend::TxStatus::Failed {
            return Err(failed_transaction().into());
        }
        let Some(name) = name else {
            self.forget_all_given().await?;
            self.state.names.clear();
            return Ok(b"DEALLOCATE ALL");
        };
        let Some(statement) = self.state.names.get(name).cloned() else {
            return Err(no_such_statement(name).into());
        };
        self.state.names.remove(name);
        self.forget_given(&statement).await?;
        Ok(b"DEALLOCATE")
    }
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

/// Whether a statement only takes settings back to what every server takes: what the session began with, or no role.
fn is_reset(kind: &Kind) -> bool {
    let sets = |change: &Change| matches!(change, Change::Set(setting) if !setting.is_no_role());
    match kind {
        Kind::Settings(changes) => !changes.iter().any(sets),
        kind => matches!(kind, Kind::Discard(_)),
    }
}

/// The tag of a statement that does so, unless it is a query.
fn reset_command(sql: &[u8]) -> Option<&'static [u8]> {
    let mut words = Cursor::new(sql, true);
    while words.skip_semicolon() {}
    let tags: [(&str, &[u8]); 3] = [
        ("reset", b"RESET"),
        ("set", b"SET"),
        ("discard", b"DISCARD ALL"),
    ];
    let tag = tags.into_iter().find(|(word, _)| words.sees(word));
    tag.map(|(_, tag)| tag)
}

fn settings_refused() -> Report {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "set_config has no server that takes the other settings of the session",
    )
    .hint("Use RESET, or DISCARD ALL.")
}

pub(super) fn begin_command(sql: &[u8]) -> &'static [u8] {
    let mut words = Cursor::new(sql, true);
    while words.skip_semicolon() {}
    match words.sees("start") {
        true => b"START TRANSACTION",
        false => b"BEGIN",
    }
}
