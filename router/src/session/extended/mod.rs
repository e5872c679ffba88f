//! The extended protocol: Parse, Bind, Describe, Execute, Close, Flush, Sync.
//!
//! Messages go to the server as they come; nothing waits for a reply that the
//! client does not wait for itself, except where a statement must be prepared anew
//! on a server that does not know it.

mod parse;

mod prepare;

mod bind;

mod describe;

mod execute;

mod close;

mod sync;

mod whole;

pub(super) use bind::many_types;
pub(super) use prepare::put_quietly;

use crate::session::allowed::{ends_failure, failed_transaction};
use crate::session::dispatch::Many;
use crate::session::gather::Bound;
use crate::session::many::Held;
use crate::session::sorted::Streams;
use crate::session::state::{Phase, State};
use crate::session::turns::Turns;
use crate::session::{Halt, Session};
use crate::statements::names::Prepared;
use mothership_proto::backend::{self, Column};
use mothership_shardmap::ShardId;
use std::cell::{Cell, RefCell};

impl State {
    /// In a failed transaction PostgreSQL parses and binds only what ends the failure.
    fn check_failed(&self, statement: &Prepared) -> Result<(), Halt> {
        let failed = self.block.status() == backend::TxStatus::Failed;
        match statement.step() {
            Some(step) if failed && !ends_failure(&step.kind) => Err(failed_transaction().into()),
            _ => Ok(()),
        }
    }
}

impl Session {
    /// A segment begins with its first message: the newest knowledge holds for all of it.
    async fn begin_segment(&mut self) -> Result<(), Halt> {
        if self.state.phase == Phase::Idle {
            self.state.phase = Phase::Segment;
            self.transaction.bound = Bound::Nothing;
            self.state.marks.awaited = false;
            self.refresh_model().await?;
        }
        self.state.phase = Phase::Segment;
        Ok(())
    }

    /// Waits for what the next statement of the segment is planned by.
    async fn await_earlier(&mut self) -> Result<(), Halt> {
        match std::mem::take(&mut self.state.marks.awaited) {
            true => {
                self.settle_active().await?;
                self.see_session().await
            }
            false => Ok(()),
        }
    }

    /// Everything before is answered, so that what is written now comes after it.
    pub(super) async fn settle_active(&mut self) -> Result<(), Halt> {
        if let Some(at) = self.servers.active
            && !self.servers[at].lease.ledger().is_empty()
        {
            self.servers[at].lease.flush();
            self.settle(at).await?;
        }
        Ok(())
    }
}

/// A portal that is open on several shards.
pub struct ManyPortal {
    many: Many,
    /// `None` for what runs as a simple query.
    columns: Option<Vec<Column>>,
    /// Whether it has rows, be it of no columns.
    shows: bool,
    /// The shard whose rows come next.
    leg: Cell<usize>,
    /// The rows of a write that wait to be fetched, and its tag.
    held: RefCell<Option<Held>>,
    /// Sorted rows of which some have been fetched.
    sorted: RefCell<Option<Streams>>,
    /// How it is executed.
    turns: Cell<Turns>,
    /// Its Bind, where it may have to be bound again.
    bind: Option<Box<[u8]>>,
    /// So many requests of the session were taken when it was bound.
    bound_at: u64,
}

impl ManyPortal {
    /// The shards whose servers have it.
    pub(super) fn shards(&self) -> impl Iterator<Item = ShardId> {
        let bound = self.columns.is_some();
        let legs = self.many.legs.iter().filter(move |_| bound);
        legs.map(|(shard, _)| *shard)
    }

    fn new(many: Many, columns: Option<Vec<Column>>, shows: bool) -> Self {
        Self {
            turns: Cell::new(Turns::ONE),
            bind: None,
            bound_at: 0,
            many,
            columns,
            shows,
            leg: Cell::new(0),
            held: RefCell::default(),
            sorted: RefCell::default(),
        }
    }
}
