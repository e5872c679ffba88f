//! The marks of a transaction over several shards: each server that it works on
//! carries one, so that other routers can tell which backends belong together.
//!
//! A mark is taken as soon as the transaction is open on a second server, behind what
//! that server is told of the transaction, because SET TRANSACTION must come before any
//! query. It goes ahead of the statement that follows BEGIN; only a server that had
//! begun before costs a round trip of its own. Going back to a savepoint releases what
//! was taken after it.

use super::inbox::Inbox;
use super::state::Block;
use super::step::Kind;
use super::{Attached, Halt, Session};
use crate::commit::gid::TransactionId;
use crate::deadlock::mark::Mark;
use mothership_proto::frontend::put_query;
use mothership_proto::ledger::{Audience, Owed};

impl Session {
    /// The first server that works for a transaction over several and has no mark of it.
    pub(super) fn unmarked(&self) -> Option<usize> {
        if self.servers.len() < 2 && !self.implicit {
            return None;
        }
        let open = |s: &&Attached| s.inbox.in_block;
        // The router has transactions of its own for statements on several shards only.
        let several = self.implicit || self.servers.iter().filter(open).count() > 1;
        let lacks = |s: &Attached| open(&s) && s.inbox.mark.is_none();
        let wanted = several && self.state.block == Block::Open;
        wanted.then(|| self.servers.iter().position(lacks))?
    }

    /// Sees to it that every server of a transaction over several carries its mark.
    pub(super) async fn mark_branches(&mut self) -> Result<(), Halt> {
        while let Some(at) = self.unmarked() {
            if self.servers.iter().all(|s| s.inbox.mark.is_none()) {
                self.marked = TransactionId::random();
                self.entry.mark.set(Some(Mark::of(self.marked)));
            }
            let sql = Mark::of(self.marked).sql();
            let attached = &mut self.servers[at];
            if attached.inbox.ahead > 0 {
                attached.inbox.ahead += 1;
                attached
                    .lease
                    .wire
                    .with_output(|out| put_query(out, sql.as_bytes()));
                attached.lease.ledger.push(Owed::Query(Audience::Router));
            } else {
                self.tell(at, &sql).await?;
            }
            self.servers[at].inbox.mark = Some(self.state.history.deeds().len());
        }
        Ok(())
    }

    /// The id by which the transaction is committed over several shards: that of its marks.
    pub(super) fn transaction_id(&self) -> TransactionId {
        let marked = |s: &Attached| s.inbox.mark.is_some();
        match self.servers.iter().any(marked) {
            true => self.marked,
            false => TransactionId::random(),
        }
    }
}

impl Inbox {
    /// The server was told of a statement of the transaction, which has `deeds` deeds since.
    pub(super) fn heard(&mut self, kind: &Kind, deeds: usize) {
        self.told = deeds;
        if matches!(kind, Kind::RollbackTo(_)) && self.mark.is_some_and(|mark| mark >= deeds) {
            self.mark = None;
        }
    }
}
