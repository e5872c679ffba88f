//! Gathers that run again. A computed write that meets another one: MongoDB undoes the whole transaction then, where
//! PostgreSQL would let one wait. And a read that loses a server while its rows are fetched, of which the client has seen
//! nothing. Either is all of its transaction.

use super::GatherWork;
use crate::retry::{Retry, concurrent_update};
use crate::session::attach::canceled_report;
use crate::session::repeat::renew;
use crate::session::servers::AttachedId;
use crate::session::state::{Block, State};
use crate::session::transact::Transaction;
use crate::session::{Attached, Halt, Servers, Session};
use mothership_plan::gather::Ending;
use rand::RngExt;
use std::time::Instant;

/// How often a read runs, before the client is told.
const READS: u32 = 12;

/// What becomes of a conflict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::session) enum Conflict {
    /// The client is told.
    #[default]
    IsTold,
    /// The statement may run again.
    Repeats,
    /// It only reads, and may run again where a server is lost.
    Rereads,
    /// There was one, and nobody was told.
    Met,
}

impl Conflict {
    /// From now on the client may see something of the answer.
    pub fn shows_rows(&mut self) {
        *self = Conflict::IsTold;
    }
}

/// How often a statement may still run again.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::session) enum Attempts {
    /// Not at all.
    #[default]
    None,
    /// A write, as long as others are in its way.
    Write(Retry),
    /// A read, so often.
    Read(u32),
}

impl Attempts {
    /// What becomes of a conflict of the statement that runs next.
    pub fn allow(&self) -> Conflict {
        match self {
            Attempts::None | Attempts::Read(0) => Conflict::IsTold,
            Attempts::Write(_) => Conflict::Repeats,
            Attempts::Read(_) => Conflict::Rereads,
        }
    }
}

impl Transaction {
    /// How often a statement may run that begins now.
    pub(super) fn attempts(
        &mut self,
        servers: &Servers,
        state: &State,
        work: &GatherWork,
    ) -> Attempts {
        let in_segment = servers.iter().any(|server| server.inbox.in_segment);
        let alone = state.block == Block::None && !in_segment;
        let unbound = alone && !self.implicit && servers.is_empty();
        let attempts = match work.plan.ending {
            Ending::Change(_) if alone => {
                let settings = state.settings.current();
                let limit = |name| settings.limit(name);
                let (statement, lock) = (limit("statement_timeout"), limit("lock_timeout"));
                Attempts::Write(Retry::new(Instant::now(), statement, lock))
            }
            Ending::Answer if unbound && !work.writes() => Attempts::Read(READS - 1),
            _ => Attempts::None,
        };
        self.conflict = attempts.allow();
        attempts
    }
}

impl Session {
    /// Lets go of all servers, as one of them is lost, if rows are being fetched for a statement that only reads. False if
    /// it is not so; nothing has changed then.
    pub(in crate::session) fn reads_again(&mut self, at: AttachedId) -> bool {
        let Attached {
            lease,
            inbox,
            shard,
            server,
            ..
        } = &self.servers[at];
        let (shard, server) = (*shard, *server);
        let waits = !self.entry.cancelled.get();
        let reads = self.transaction.conflict == Conflict::Rereads && !inbox.fatal && waits;
        if !reads || !self.request.may_repeat(lease) || self.topology.was_silent(shard, server) {
            return false;
        }
        let Some(mut lost) = self.servers.remove(at) else {
            return false;
        };
        renew(&mut lost.lease);
        self.topology.report_broken(shard, server);
        self.request.count_repeat(&mut self.state, &lost.lease);
        for mut other in self.servers.take_all() {
            other.lease.doubt();
        }
        self.show_working();
        self.transaction.conflict = Conflict::Met;
        true
    }

    /// Whether the statement that has ended met another write, or lost a server that it read from, and is to run again:
    /// then all that it did is undone.
    ///
    /// # Errors
    /// Others have been in its way for too long, or the client waits no longer.
    pub(super) async fn met_conflict(&mut self, attempts: &mut Attempts) -> Result<bool, Halt> {
        if std::mem::take(&mut self.transaction.conflict) != Conflict::Met {
            return Ok(false);
        }
        match attempts {
            Attempts::None => {}
            Attempts::Read(left) => {
                if self.entry.cancelled.get() {
                    return Err(canceled_report().into());
                }
                *left = left.saturating_sub(1);
            }
            Attempts::Write(retry) => {
                self.rollback_all().await;
                self.servers.active = None;
                // It is still the transaction of this statement.
                self.state.block = Block::Begun;
                self.state.settings.begin();
                if self.entry.cancelled.get() {
                    return Err(canceled_report().into());
                }
                let chosen = rand::rng().random();
                let pause = retry.next(Instant::now(), chosen);
                let pause = pause.map_err(|told| told.unwrap_or_else(concurrent_update))?;
                self.while_client_waits(tokio::time::sleep(pause)).await?;
                if self.entry.cancelled.get() {
                    return Err(canceled_report().into());
                }
            }
        }
        self.transaction.conflict = attempts.allow();
        Ok(true)
    }
}
