//! Servers in an open block that take no part in its transaction.
//!
//! Drivers such as asyncpg and tokio-postgres parse and describe a statement before they bind its parameters, and others
//! send SET TRANSACTION as a statement of its own. Which shard the block works on is not known then, so the home shard gets
//! them. What such a server has done can be done on any other one: it carries no mark, does not make a SERIALIZABLE
//! transaction one over several shards, and leaves the block as soon as a statement runs elsewhere.

use super::attach::give_back;
use super::choose::Wants;
use super::servers::AttachedId;
use super::{Attached, Halt, Session};
use crate::statements::step::{Kind, Step};
use mothership_shardmap::ShardId;

impl Session {
    /// The place of a server of `shard` that parses or describes a statement for the client.
    pub(super) async fn attach_to_describe(&mut self, shard: ShardId) -> Result<AttachedId, Halt> {
        match self.ready_server(shard) {
            Some(at) => Ok(at),
            None => self.attach_to(shard, Wants::NoPart).await,
        }
    }

    /// The bystanders on other shards than `shard` leave the open block.
    pub(super) async fn leave_bystanders(&mut self, shard: ShardId) -> Result<(), Halt> {
        if self.is_session_mode() {
            return Ok(());
        }
        let leaves = |s: &&Attached| {
            let inbox = &s.inbox;
            let ends = inbox.in_block && !(inbox.is_pinned() || inbox.in_segment);
            ends && inbox.stands_by && s.shard != shard
        };
        while let Some(at) = self.servers.find(leaves) {
            self.settle(at).await?;
            self.servers.active = None;
            self.private_query(at, "ROLLBACK").await;
            let Some(mut attached) = self.servers.remove(at) else {
                continue;
            };
            attached.inbox.carried.rollback();
            attached.inbox.leave_block();
            give_back(attached, None, &self.core);
            self.show_working();
        }
        Ok(())
    }

    /// The same before the block ends, if a server takes part in it.
    pub(super) async fn leave_bystanders_at_end(&mut self) -> Result<(), Halt> {
        let takes_part = |s: &&Attached| s.inbox.in_block && !s.inbox.stands_by;
        match self.servers.iter().find(takes_part).map(|s| s.shard) {
            Some(shard) => self.leave_bystanders(shard).await,
            None => Ok(()),
        }
    }
}

/// Whether every server that joins the transaction later is told the same anyway.
pub(super) fn is_told_to_all(steps: &[Step]) -> bool {
    let told = |step: &Step| {
        let told = matches!(step.kind, Kind::SetTransaction(_) | Kind::SetLocal(..));
        told && step.pins.is_empty()
    };
    steps.iter().all(told)
}
