//! Transactions that a client prepares itself, with a name of its own: PREPARE TRANSACTION on one shard, and
//! the shard on which COMMIT PREPARED and ROLLBACK PREPARED find it again.
//!
//! On several shards it is refused: its parts would have to be finished by two statements
//! of the client, of which the second may say the opposite of what the first has done on
//! some shards.

use super::planning::role;
use super::state::Block;
use super::{Halt, Session};
use crate::control::ControlError;
use crate::statements::names::Prepared;
use crate::statements::step::Kind;
use mothership_proto::report::{Report, sqlstate};
use mothership_shardmap::ShardId;
use mothership_sql::effect::{Statement, analyse};

/// Asked of the database of each shard: whose transaction has the name.
const OWNER: &str = "SELECT pg_catalog.max(owner::pg_catalog.text) FROM pg_catalog.pg_prepared_xacts \
    WHERE gid OPERATOR(pg_catalog.=) $1 AND database OPERATOR(pg_catalog.=) pg_catalog.current_database()";

impl Session {
    /// Whether the server of the transaction may prepare it. Where there are several shards, the other half of
    /// `max_prepared_transactions` is for COMMIT over shards: whoever prepares could stop everybody else's.
    pub(super) async fn has_room_to_prepare(&mut self) -> Result<bool, Halt> {
        const QUESTION: &str = "SELECT CASE WHEN m.most OPERATOR(pg_catalog.>) 0 AND (SELECT pg_catalog.count(*) \
            FROM pg_catalog.pg_prepared_xacts) OPERATOR(pg_catalog.*) 2 OPERATOR(pg_catalog.>=) m.most THEN 'full' ELSE '' END \
            FROM (SELECT pg_catalog.current_setting('max_prepared_transactions')::pg_catalog.int4) m (most)";
        let Some(first) = self.servers.first().map(|first| first.id) else {
            return Ok(true);
        };
        if self.topology.postgres < 2 || self.state.block != Block::Open {
            return Ok(true);
        }
        let answer = self.ask_row(first, QUESTION).await?;
        Ok(answer.as_deref() != Some("full"))
    }

    /// Finds the shard that has what COMMIT PREPARED or ROLLBACK PREPARED names, for the dispatch that follows. Where no
    /// shard has it, PostgreSQL says so.
    pub(super) async fn look_for_prepared(
        &mut self,
        statement: &Prepared,
        at: usize,
    ) -> Result<(), Halt> {
        self.transaction.prepared_on = None;
        let kind = statement.steps.get(at).map(|step| &step.kind);
        let Some(Kind::FinishPrepared(name)) = kind else {
            return Ok(());
        };
        // In a block it fails on whichever server.
        if self.known.model.is_none() || self.state.block != Block::None {
            return Ok(());
        }
        let (mut found, silent) = self.prepared_by_name(name).await;
        if found.len() > 1 {
            // Two clients have prepared it at the same moment. Whoever finishes one means the own one.
            let taken = role(self.state.in_force());
            let user = taken.unwrap_or_else(|| self.entry.who.names.server_user.to_string());
            if found.iter().any(|(_, owner)| *owner == user) {
                found.retain(|(_, owner)| *owner == user);
            }
        }
        match (&found[..], silent) {
            ([(one, _)], _) => self.transaction.prepared_on = Some(*one),
            ([], None) => {}
            ([], Some(error)) => {
                tracing::warn!(error = %crate::log::Chain(&error), "cannot look for what is prepared");
                let message = "cannot find out which shard has the prepared transaction";
                return Err(Report::error(sqlstate::CONNECTION_FAILURE, message)
                    .hint("Try again when all shards answer.")
                    .into());
            }
            _ => {
                let message = "several shards have a prepared transaction of this name";
                return Err(Report::error(sqlstate::FEATURE_NOT_SUPPORTED, message)
                    .hint("Finish them on the shards directly.")
                    .into());
            }
        }
        Ok(())
    }

    /// What PostgreSQL says if another shard has the name that PREPARE TRANSACTION gives: a server looks only for its own.
    /// `None` if none has it. A shard that does not answer is taken to have none.
    pub(super) async fn name_is_taken(&mut self, sql: &[u8]) -> Option<Report> {
        let Statement::PrepareTransaction(name) = analyse(sql, self.standard_strings()).statement
        else {
            return None;
        };
        let name = name.as_str().filter(|_| self.topology.postgres > 1)?;
        let own = self.servers.first().map(|first| first.shard);
        let (found, _) = self.prepared_by_name(name).await;
        found.iter().find(|(shard, _)| Some(*shard) != own)?;
        let message = format!("transaction identifier \"{name}\" is already in use");
        Some(Report::error(sqlstate::DUPLICATE_OBJECT, message))
    }

    /// The shards that have a prepared transaction of this name, with its owner, and why one could not be asked.
    async fn prepared_by_name(&self, name: &str) -> (Vec<(ShardId, String)>, Option<ControlError>) {
        let shards = self.topology.postgres_shards();
        let asked = shards.clone().map(|shard| self.owner_of(shard, name));
        let asked = futures_util::future::join_all(asked).await;
        let mut silent = None;
        let mut found = Vec::new();
        for (shard, answer) in shards.zip(asked) {
            match answer {
                Ok(owner) => found.extend(owner.map(|owner| (shard, owner))),
                Err(error) => silent = Some(error),
            }
        }
        (found, silent)
    }

    async fn owner_of(&self, shard: ShardId, name: &str) -> Result<Option<String>, ControlError> {
        let database = self
            .topology
            .database_on(&self.entry.who.names.database, shard);
        let limit = self.topology.config.control.timeout;
        let address = || self.topology.likely_primary(shard).endpoint.address.clone();
        let asked = async {
            let control = &self.core.control;
            let client = control.lend(&self.topology, shard, &database).await?;
            let of: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&name];
            let row = client.ask(client.query_one(OWNER, &of)).await;
            let owner = row.and_then(|row| row.try_get::<_, Option<String>>(0));
            owner.map_err(|cause| ControlError::Query {
                address: address(),
                cause,
            })
        };
        let late = |_| ControlError::TimedOut {
            address: address(),
            limit,
        };
        tokio::time::timeout(limit, asked).await.map_err(late)?
    }
}

/// What PREPARE TRANSACTION over several shards is told.
pub(super) fn over_shards() -> Report {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "PREPARE TRANSACTION cannot be used by a transaction over several shards",
    )
    .detail("the transaction was rolled back on all of them")
    .hint("COMMIT holds on all shards or on none. Or keep the transaction to one shard.")
}

/// What PostgreSQL says when no transaction can be prepared any more.
pub(super) fn no_room() -> Report {
    let message = "maximum number of prepared transactions reached";
    Report::error(sqlstate::OUT_OF_MEMORY, message)
        .detail("Half of max_prepared_transactions is for transactions over several shards.")
        .hint("Finish prepared transactions, or increase max_prepared_transactions.")
}
