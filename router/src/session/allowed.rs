//! Whether statements may run at all, whatever the server would say: decides by the transaction, the mode and what
//! pins the session, and has the words for what may not.

use super::dispatch::Many;
use super::simple::named::no_such_statement;
use super::state::{Block, State};
use super::{Halt, Servers, Session};
use crate::config::PoolMode;
use crate::statements::step::{Kind, Step, currval_refused};
use crate::topology::Topology;
use mothership_proto::backend::TxStatus;
use mothership_proto::report::{Report, sqlstate};
use mothership_shardmap::ShardId;
use mothership_sql::effect::Pin;

impl Servers {
    /// What one transaction writes on MongoDB is on one replica set: of two, neither can be prepared.
    pub(super) fn check_second_set(
        &self,
        topology: &Topology,
        shard: ShardId,
        writes: bool,
    ) -> Result<(), Halt> {
        if !writes || topology.is_postgres(shard) {
            return Ok(());
        }
        let wrote = |s: &&super::Attached| {
            let inbox = &s.inbox;
            !topology.is_postgres(s.shard)
                && s.shard != shard
                && inbox.wrote
                && (inbox.in_block || inbox.in_segment)
        };
        let Some(first) = self.iter().find(wrote) else {
            return Ok(());
        };
        let name = |shard: ShardId| &topology.shards[shard].name;
        let report = Report::error(
            sqlstate::FEATURE_NOT_SUPPORTED,
            "transaction writes on more than one replica set of MongoDB",
        )
        .detail(format!(
            "it has written on shard \"{}\", and this statement writes on \"{}\"",
            name(first.shard),
            name(shard)
        ))
        .hint("Commit in between.");
        Err(report.into())
    }

    /// The same of a statement with several legs, or one.
    pub(super) fn check_second_set_of(&self, topology: &Topology, many: &Many) -> Result<(), Halt> {
        let mut shards = many.legs.iter().map(|(shard, _)| *shard);
        shards.try_for_each(|shard| self.check_second_set(topology, shard, many.writes))
    }
}

impl Session {
    /// What may not run at all, whatever the server would say.
    pub(super) fn check_steps(&self, steps: &[Step]) -> Result<(), Halt> {
        self.check_parsed(steps)?;
        if self.state.block == Block::Failed {
            return Ok(());
        }
        let asks = |pin| steps.iter().any(|step| step.pins.has(pin));
        if asks(Pin::SequenceState) && !self.state.may_ask_numbers() {
            return Err(currval_refused().into());
        }
        match asks(Pin::Prepared) && !self.gives_names() {
            true => Err(prepared_refused().into()),
            false => Ok(()),
        }
    }

    /// The same of what does not run yet.
    pub(super) fn check_parsed(&self, steps: &[Step]) -> Result<(), Halt> {
        // With several servers the failed one may not be the one that would be asked.
        let failed = self.state.block == Block::Failed && self.known.model.is_some();
        let ends = steps.first().is_some_and(|step| ends_failure(&step.kind));
        if self.state.untold.take() {
            return Err(lost_transaction().into());
        }
        if (failed && !ends) || self.state.block.is_nowhere() {
            return Err(failed_transaction().into());
        }
        self.state
            .check_growth(&self.topology, steps.iter().map(|step| &step.kind))?;
        for step in steps {
            if self.login.pool_mode == PoolMode::Statement && matches!(step.kind, Kind::Begin(_)) {
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
}

impl State {
    /// What EXECUTE of a name is told that means no statement.
    pub(super) fn lacks_statement(&self, name: &[u8]) -> Report {
        match self.block.status() {
            TxStatus::Failed => failed_transaction(),
            _ => no_such_statement(name),
        }
    }
}

/// What PostgreSQL accepts in a failed transaction.
pub(super) fn ends_failure(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Commit { .. }
            | Kind::Rollback { .. }
            | Kind::RollbackTo(_)
            | Kind::PrepareTransaction
    )
}

/// PostgreSQL's own words for a statement in a failed transaction.
pub(super) fn failed_transaction() -> Report {
    Report::error(
        sqlstate::IN_FAILED_TRANSACTION,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

/// The transaction was lost since the last request.
pub(super) fn lost_transaction() -> Report {
    Report::error(sqlstate::CONNECTION_FAILURE, "server connection was lost")
        .detail("The transaction was rolled back.")
}

/// The refusal of what shows the statements of a server connection, which several clients share.
pub(super) fn prepared_refused() -> Report {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "pg_prepared_statements would show what other clients have prepared",
    )
    .detail("several clients share the server connection and its prepared statements")
    .hint("Use pool_mode = \"session\" for this user or database, where no tables are declared.")
}

/// PostgreSQL's own words for a savepoint that is not set.
pub(super) fn no_such_savepoint(name: &str) -> Report {
    let message = format!("savepoint \"{name}\" does not exist");
    Report::error(sqlstate::SAVEPOINT_MISSING, message)
}
