//! The marks of a transaction over several shards, and what its parts must agree on.
//!
//! Each server that such a transaction works on carries a mark, so that other routers
//! can tell which backends belong together (ADR 9). It is taken as soon as the
//! transaction is open on a second server, behind what that server is told of the
//! transaction, because SET TRANSACTION must come before any query. It goes ahead of the
//! statement that follows BEGIN; only a server that had begun before costs a round trip
//! of its own. Going back to a savepoint releases what was taken after it.
//!
//! In the same answer the first server says what the others cannot be asked: how the
//! transaction is isolated, by whatever default, and when it began.

use super::inbox::Inbox;
use super::servers::AttachedId;
use super::state::{Block, State};
use super::transact::Transaction;
use super::{Attached, Halt, Servers, Session};
use crate::commit::gid::TransactionId;
use crate::commit::mark::Mark;
use crate::commit::said::Said;
use crate::statements::step::Kind;
use mothership_proto::ledger::Audience;
use mothership_proto::report::{Report, sqlstate};
use mothership_shardmap::ShardId;

/// A transaction over several shards.
pub(super) struct Joint {
    /// By its end the marks name it, and what is prepared of it.
    id: TransactionId,
    /// The shard on which it began.
    pub first: ShardId,
    /// What the server there said of it; not yet at first.
    said: Option<Said>,
}

impl Transaction {
    /// The shard on which the transaction over several shards began.
    fn began_on(&self) -> Option<ShardId> {
        self.joint.as_ref().map(|joint| joint.first)
    }

    /// What the server there said of it, if it has.
    fn said(&self) -> Option<&Said> {
        self.joint.as_ref()?.said.as_ref()
    }

    /// The shard on which the open transaction began, if it works on one.
    pub(super) fn first_shard(&self, servers: &Servers) -> Option<ShardId> {
        // Whoever only stands by has described something, and nobody knows its time.
        let mut working = servers
            .iter()
            .filter(|s| (s.inbox.in_block || s.inbox.in_segment) && !s.inbox.stands_by);
        match &self.joint {
            Some(joint) if servers.is_marked() => Some(joint.first),
            _ => working.next().map(|s| s.shard),
        }
    }

    /// The id by which the transaction is committed over several shards: that of its marks.
    pub(super) fn transaction_id(&self, servers: &Servers) -> TransactionId {
        match &self.joint {
            Some(joint) if servers.is_marked() => joint.id,
            _ => TransactionId::random(),
        }
    }

    /// Whether the transaction is known to be one that must stay on its first shard.
    pub(super) fn must_stay(&self, servers: &Servers, state: &State) -> bool {
        let said = self.said();
        said.is_some_and(|said| said.serializable)
            && state.block == Block::Open
            && servers.is_marked()
    }

    /// The first server that works for a transaction over several and has no mark of it.
    pub(super) fn unmarked(&self, servers: &Servers, state: &State) -> Option<AttachedId> {
        if servers.len() < 2 && (!self.implicit || state.sets) {
            return None;
        }
        // The router has transactions of its own for statements on several shards only.
        let several = self.implicit || servers.is_joint();
        let lacks =
            |s: &&Attached| s.inbox.in_block && !s.inbox.stands_by && s.inbox.mark.is_none();
        let wanted = several && state.block == Block::Open;
        wanted.then(|| servers.find(lacks))?
    }

    /// Whether the first server's transactions were not SERIALIZABLE, by its own default, when it was asked last. It says
    /// so again with the answer to the first statement, which need not be waited for: see [`Session::may_commit_joint`].
    fn is_weaker_by_default(&self, servers: &Servers, state: &State) -> bool {
        let first = self.began_on();
        let first = servers.iter().find(|s| Some(s.shard) == first);
        let known = first.and_then(|first| first.lease.notes.serializable);
        known == Some(false) && state.is_by_default()
    }

    /// Takes what the first server of the transaction has said, if it has.
    pub(super) fn hear_said(&mut self, servers: &mut Servers, state: &State) {
        if !servers.is_marked() {
            // What is known is of the last transaction.
            return;
        }
        let by_default = state.is_by_default();
        let Some(joint) = self.joint.as_mut().filter(|joint| joint.said.is_none()) else {
            return;
        };
        let first = servers.iter_mut().find(|s| s.shard == joint.first);
        let Some(Attached { lease, inbox, .. }) = first else {
            return;
        };
        joint.said = inbox.row.take().as_deref().and_then(Said::read);
        if let (Some(said), true) = (&joint.said, by_default) {
            lease.notes.serializable = Some(said.serializable);
        }
    }
}

impl Servers {
    /// Whether what is known of a transaction over several shards is about the one that is open, and not about the last.
    pub(super) fn is_marked(&self) -> bool {
        self.iter().any(|s| s.inbox.mark.is_some())
    }

    /// The transaction is open on several servers.
    pub(super) fn is_joint(&self) -> bool {
        let takes_part = |s: &&Attached| s.inbox.in_block && !s.inbox.stands_by;
        self.iter().filter(takes_part).count() > 1
    }
}

impl State {
    /// Whether neither the client nor the transaction has said anything of its isolation.
    fn is_by_default(&self) -> bool {
        let silent = self.modes.is_empty() && self.history.events().is_empty();
        silent && self.default_isolation().is_none()
    }
}

impl Session {
    /// Sees to it that every server of a transaction over several carries its mark, and that it may work on `shard`.
    pub(super) async fn mark_branches(&mut self, shard: ShardId) -> Result<(), Halt> {
        while let Some(at) = self.transaction.unmarked(&self.servers, &self.state) {
            let sql = self.mark_of(at);
            let attached = &mut self.servers[at];
            let ahead = attached.inbox.ahead;
            // Behind a Parse it would take the unnamed statement away.
            if ahead > 0 && attached.lease.ledger().len() == ahead as usize {
                attached.inbox.ahead += 1;
                attached.lease.query(sql.as_bytes(), Audience::Router);
            } else {
                self.tell(at, &sql).await?;
            }
            // In a block of the client's what was said could be undone with a statement.
            let known = self.transaction.implicit
                && self
                    .transaction
                    .is_weaker_by_default(&self.servers, &self.state);
            if self.servers.is_joint() && !known {
                let said = self.said().await?;
                let first = self.transaction.began_on();
                if said.serializable && first != Some(shard) {
                    return Err(over_shards().into());
                }
            }
        }
        if self.transaction.must_stay(&self.servers, &self.state) && self.servers.is_joint() {
            let first = self.transaction.began_on();
            if first != Some(shard) {
                return Err(over_shards().into());
            }
        }
        Ok(())
    }

    /// The statement by which a server takes the mark, counted as taken. The first one begins a transaction over several.
    pub(super) fn mark_of(&mut self, at: AttachedId) -> String {
        let shard = self.servers[at].shard;
        let marked = self.servers.is_marked();
        let joint = match self.transaction.joint.take().filter(|_| marked) {
            Some(joint) => joint,
            None => Box::new(Joint {
                id: TransactionId::random(),
                first: shard,
                said: None,
            }),
        };
        let mark = Mark::of(joint.id);
        self.entry.mark.set(Some(mark));
        let asks = joint.first == shard && joint.said.is_none();
        self.transaction.joint = Some(joint);
        let inbox = &mut self.servers[at].inbox;
        inbox.row = None;
        inbox.mark = Some(self.state.history.events().len());
        match asks {
            true => format!("SELECT {}, {}", Said::QUESTION, mark.sql()),
            false => format!("SELECT {}", mark.sql()),
        }
    }

    /// What the first server of the transaction says of it.
    pub(super) async fn said(&mut self) -> Result<Said, Halt> {
        let first = self.transaction.began_on();
        let at = self.servers.find(|s| Some(s.shard) == first);
        let Some(at) = at else {
            return Err(unsaid().into());
        };
        if let Some(said) = self.transaction.said() {
            return Ok(said.clone());
        }
        self.settle(at).await?;
        self.transaction.hear_said(&mut self.servers, &self.state);
        self.transaction
            .said()
            .cloned()
            .ok_or_else(|| unsaid().into())
    }

    /// Refuses to commit on several shards what turns out to be SERIALIZABLE: the default may have become another one.
    pub(super) fn may_commit_joint(&mut self) -> Result<(), Halt> {
        self.transaction.hear_said(&mut self.servers, &self.state);
        match self.servers.is_joint() && self.transaction.must_stay(&self.servers, &self.state) {
            true => Err(over_shards().into()),
            false => Ok(()),
        }
    }

    /// Refuses a read on several shards outside of a transaction where each would be a SERIALIZABLE one of its own. `at` is
    /// one of the servers, which has nothing of the statement yet.
    pub(super) async fn check_isolation(
        &mut self,
        at: AttachedId,
        shards: usize,
    ) -> Result<(), Halt> {
        if self.state.block != Block::None || shards < 2 {
            return Ok(());
        }
        let serializable = match (
            self.state.default_isolation(),
            self.servers[at].lease.notes.serializable,
        ) {
            (Some(said), _) => said,
            (None, Some(known)) => known,
            (None, None) => {
                const QUESTION: &str = "SELECT reset_val FROM pg_catalog.pg_settings \
                    WHERE name OPERATOR(pg_catalog.=) 'default_transaction_isolation'";
                let row = self.ask_row(at, QUESTION).await?.ok_or_else(unsaid)?;
                let serializable = row == "serializable";
                self.servers[at].lease.notes.serializable = Some(serializable);
                serializable
            }
        };
        match serializable {
            true => Err(over_shards().into()),
            false => Ok(()),
        }
    }
}

fn over_shards() -> Report {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "SERIALIZABLE transaction cannot work on several shards",
    )
    .detail("each shard would see to the order of its own part only")
    .hint("Use REPEATABLE READ, or keep the transaction to rows of one key.")
}

fn unsaid() -> Report {
    let message = "server does not say how its transaction is isolated";
    Report::error(sqlstate::INTERNAL_ERROR, message)
}

impl Inbox {
    /// The server was told of a statement of the transaction, which has `events` events since.
    pub(super) fn heard(&mut self, kind: &Kind, events: usize) {
        self.told = events;
        if matches!(kind, Kind::RollbackTo(_) | Kind::Release(_)) {
            // It may be gone with the client's, or it stands and does no harm.
            self.saved = None;
        }
        if matches!(
            kind,
            Kind::Commit { chain: true } | Kind::Rollback { chain: true }
        ) {
            // It is in the next transaction already.
            (self.saved, self.mark) = (None, None);
        }
        if matches!(kind, Kind::RollbackTo(_)) && self.mark.is_some_and(|mark| mark >= events) {
            self.mark = None;
        }
    }
}
