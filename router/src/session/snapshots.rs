//! The snapshots of a REPEATABLE READ transaction, opened on all shards together.
//!
//! A server takes the snapshot of such a transaction at its first query there, and each
//! shard has its own. The first statement that goes to several shards opens those of all
//! at once, so that what others commit later is seen on none of them: the window in which
//! a commit can fall between them is that of one round trip. A statement for one shard
//! opens that one only; many transactions need no other.

use super::choose::Wants;
use super::dispatch::{Many, refused};
use super::history::TransactionEvent;
use super::state::{Block, DoneBefore, State, Unfollowed};
use super::{Halt, Session};
use crate::defaults::Begins;
use mothership_plan::{Reason, Refusal};
use mothership_proto::ledger::Audience;
use mothership_proto::report::{Report, sqlstate};
use mothership_shardmap::ShardId;

impl State {
    /// Whether the transaction reads by one snapshot to its end, as far as the client has said so.
    fn keeps_snapshot(&self, begins: Option<&Begins>) -> bool {
        let keeps = |text: &str| {
            let lower = text.to_ascii_lowercase();
            let level = lower.contains("isolation").then_some(lower);
            level.map(|level| level.contains("repeatable"))
        };
        let events = self.history.events().iter().rev();
        let mut set = events.filter_map(|event| match event {
            TransactionEvent::Local(sql) => keeps(sql),
            TransactionEvent::Savepoint(_) | TransactionEvent::Session { .. } => None,
        });
        let repeatable = |level: &str| level.to_ascii_lowercase().contains("repeatable");
        let by_default = || {
            let level = "default_transaction_isolation";
            match self.settings.current().get(level) {
                Some(own) => repeatable(&super::planning::values(own).join(" ")),
                None => begins.is_some_and(|begins| begins.value(level).is_some_and(repeatable)),
            }
        };
        set.next()
            .or_else(|| keeps(&self.modes))
            .unwrap_or_else(by_default)
    }

    /// Whether the transaction can have stored nothing: the client has begun it READ ONLY, and has set it to nothing else.
    /// What it locked, and what it called that might have written, needs no commit over shards. What servers take for their
    /// default does not count: each may have another one.
    pub(super) fn stores_nothing(&self) -> bool {
        let is_savepoint = |event| matches!(event, &TransactionEvent::Savepoint(_));
        if !self.history.events().iter().all(is_savepoint) {
            return false;
        }
        let modes = self.modes.to_ascii_lowercase();
        if let said @ Some(_) = modes.rfind("read only") {
            return said > modes.rfind("read write");
        }
        let name = "default_transaction_read_only";
        let is_on = |value: &str| value.eq_ignore_ascii_case("on");
        let own = self.settings.current().get(name);
        let by_default = own.is_some_and(|own| is_on(&super::planning::values(own).join(" ")));
        by_default && self.marks.unfollowed == Unfollowed::Nothing && !modes.contains("write")
    }
}

impl Session {
    /// Opens the snapshots of all shards, if the transaction keeps one and this statement is for several of them.
    pub(super) async fn open_snapshots(&mut self, many: &Many) -> Result<(), Halt> {
        let open = matches!(self.state.block, Block::Begun | Block::Open);
        let lacks = |shard: ShardId| {
            let has = |s: &super::Attached| s.shard == shard && s.inbox.in_block;
            !self.servers.iter().any(has)
        };
        let shards: Vec<ShardId> = self
            .topology
            .postgres_shards()
            .filter(|s| lacks(*s))
            .collect();
        let wanted =
            open && !self.transaction.implicit && many.legs.len() > 1 && !shards.is_empty();
        if !wanted || !self.reads_one_snapshot() {
            return Ok(());
        }
        if many.tables && self.state.done_before < DoneBefore::Read {
            return Err(locks_too_late().into());
        }
        self.settle_active().await?;
        self.servers.active = None;
        for shard in shards {
            match self.begin_on_shard(shard).await {
                Ok(()) => {}
                // What the statement does not need may be away.
                Err(Halt::Fail(_)) if many.legs.iter().all(|(leg, _)| *leg != shard) => {}
                Err(halt) => return Err(halt),
            }
        }
        self.query_all_at_once().await
    }

    async fn begin_on_shard(&mut self, shard: ShardId) -> Result<(), Halt> {
        self.wait_for_doubts(shard).await?;
        let at = match self.servers.of_shard(shard) {
            Some(at) => at,
            None => self.join(shard, Wants::Primary).await?,
        };
        self.bring_into_block(at).await?;
        // BEGIN goes ahead of a statement, and none follows before the others have begun as well.
        self.settle(at).await
    }

    /// The marks are the first queries: each server gets its own before the first answer is awaited.
    async fn query_all_at_once(&mut self) -> Result<(), Halt> {
        let mut asked = Vec::new();
        while let Some(at) = self.transaction.unmarked(&self.servers, &self.state) {
            let sql = self.mark_of(at);
            if self.servers[at].inbox.in_segment {
                self.tell(at, &sql).await?;
                continue;
            }
            let attached = &mut self.servers[at];
            attached.inbox.private = true;
            attached.lease.query(sql.as_bytes(), Audience::Router);
            asked.push(at);
        }
        for at in asked {
            self.finish_private(at).await?;
        }
        // Before anything relies on it: how it is isolated may be otherwise than the client has said.
        if self.servers.is_joint() {
            self.said().await?;
        }
        Ok(())
    }
}

/// What the copies of a reference table say of one write.
///
/// In a REPEATABLE READ transaction each copy is read by a snapshot of its own, and these may be of different age. A row that
/// is in an older one and was changed since is an error there (40001). So what a copy changes without an error is changed
/// by all copies with younger snapshots as well, and copies that change equally many rows change the same rows. That holds
/// while the rows are chosen by nothing but themselves: whatever else is read may differ between the snapshots. Writers of
/// copies come one after the other (ADR 35), so of two snapshots one has all that the other has.
pub(super) struct Copies {
    /// What the first one said.
    said: Option<Box<[u8]>>,
    keeps_snapshot: bool,
}

impl Copies {
    /// The next one says this.
    ///
    /// # Errors
    /// It differs from the first one, or it is a MERGE by snapshots of its own: one copy may insert what another one updates.
    pub fn hear(&mut self, command: &[u8]) -> Result<(), Report> {
        if self.keeps_snapshot && command.starts_with(b"MERGE") {
            return Err(refused(&by_snapshots("it is a MERGE")));
        }
        match &self.said {
            Some(said) if **said != *command => Err(copies_differ(self.keeps_snapshot)),
            Some(_) => Ok(()),
            None => {
                self.said = Some(command.into());
                Ok(())
            }
        }
    }
}

impl Session {
    /// What is expected of copies that a statement writes.
    pub(super) fn copies_written(&self) -> Copies {
        Copies {
            said: None,
            keeps_snapshot: self.reads_one_snapshot(),
        }
    }

    fn reads_one_snapshot(&self) -> bool {
        self.state
            .keeps_snapshot(self.login.beginning.begins.as_deref())
    }

    /// A write of copies that reads more than their own rows must not do that by snapshots of different age.
    ///
    /// # Errors
    /// The transaction is REPEATABLE READ.
    pub(super) fn check_copies_read(&self) -> Result<(), Halt> {
        match self.reads_one_snapshot() {
            true => Err(refused(&by_snapshots("the copies may not see the same rows")).into()),
            false => Ok(()),
        }
    }
}

fn by_snapshots(what: &str) -> Refusal {
    let detail = format!("in a REPEATABLE READ transaction, {what}");
    Refusal::about(Reason::ReferenceWrite, detail)
}

fn copies_differ(keeps_snapshot: bool) -> Report {
    match keeps_snapshot {
        true => Report::error(
            sqlstate::SERIALIZATION_FAILURE,
            "could not serialize access due to concurrent update",
        )
        .detail("A change of the reference table is in the snapshots of some shards only.")
        .hint("Run the transaction again."),
        false => Report::error(
            "XX001",
            "the copies of a reference table have changed different numbers of rows",
        )
        .detail("The copies differ, or the transaction reads by snapshots of different age.")
        .hint("Compare the copies on the shards. If they are equal, run the transaction again."),
    }
}

/// The refusal of a LOCK TABLE whose transaction would read by snapshots that are older than the lock. PostgreSQL opens
/// none for LOCK TABLE (manual, Explicit Locking), and the marks of a transaction over several shards are queries.
fn locks_too_late() -> Report {
    let message =
        "LOCK TABLE over several shards cannot come first in a REPEATABLE READ transaction";
    Report::error(sqlstate::FEATURE_NOT_SUPPORTED, message)
        .detail("the transaction would not see what others commit before it has the lock")
        .hint("Use READ COMMITTED, or SELECT ... FOR UPDATE.")
}
