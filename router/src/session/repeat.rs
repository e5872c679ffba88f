//! A read whose server is gone before the client has seen anything of the answer.
//!
//! The router may send it once more, as if it had never been sent: it changes nothing, and it is not part of an open
//! transaction. Where there is no primary it waits for one, like any other request. It is sent again only once, unless the
//! server says that something else is the cause, or the connection was hardly a second old: the request itself may be what
//! ends the server, or an administrator may want to end both. On the fast path the request is still in the input; here it is
//! kept until it is answered.
//!
//! What a server refuses before it has done anything is sent again as well: a read that stood in the way of what a replica
//! had to replay goes to the primary, and a write that the primary did not take waits until one does.

use super::choose::Wants;
use super::inbox::Inbox;
use super::servers::AttachedId;
use super::state::{Block, Phase, State};
use super::transact::Transaction;
use super::turns::AttemptOutcome;
use super::{Attached, Servers, Session};
use crate::core::Lease;
use crate::statements::errors::Written;
use crate::statements::names::Prepared;
use crate::topology::Topology;
use mothership_pool::connection::{Broken, Farewell};
use mothership_pool::refusal::Refusal;
use mothership_proto::frame::FrameError;
use mothership_proto::report::{Report, sqlstate};
use mothership_shardmap::ShardId;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Longer requests are not kept.
const LONGEST: usize = 64 * 1024;

/// How often a request is sent again at most.
pub(super) const MAX_REPEATS: u8 = 4;

/// A server that has crashed lets clients in until it notices, and what it says to a backend that is just sending is
/// dropped: the second connection may be lost without a word. A server that shuts down ends a backend that has just let
/// a client in with 57P01, like any other.
const YOUNG: Duration = Duration::from_secs(1);

/// When a request may be sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Again {
    /// It may not.
    #[default]
    Never,
    /// When its server has refused it: it is one statement that writes.
    Refused,
    /// When its server has refused it, and when it is lost with its server: it is one statement that is proven to only read.
    Lost,
}

impl Again {
    /// `writes` if it is one statement that writes rows, and commits nothing in between.
    pub(super) fn of(wants: &Wants, writes: bool) -> Again {
        match wants {
            Wants::FreshRead(_) => Again::Lost,
            Wants::Primary if writes => Again::Refused,
            Wants::Primary | Wants::NoPart => Again::Never,
        }
    }
}

/// What a server refused of the request at hand. Small, as every session has room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A read, as it was in the way of what the replica had to replay.
    Read,
    /// A write: the server at this place of its shard is read-only.
    Write(u8),
}

/// Marks of the request at hand, all in one byte: every session has room for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RequestMarks(u8);

impl RequestMarks {
    /// So much of one message was read that others have their turn.
    pub const YIELDS: RequestMarks = RequestMarks(1);
    /// Its answer is held back until it is known whether definitions have overtaken it.
    pub const HELD: RequestMarks = RequestMarks(2);

    pub fn has(self, mark: RequestMarks) -> bool {
        self.0 & mark.0 != 0
    }

    pub fn set(&mut self, mark: RequestMarks) {
        self.0 |= mark.0;
    }

    /// Takes a mark away. Whether it was there.
    pub fn take(&mut self, mark: RequestMarks) -> bool {
        let had = self.has(mark);
        self.0 &= !mark.0;
        had
    }
}

/// What is known of the request at hand, from when it is taken until it is answered.
///
/// Whether it may be sent again is decided when it is sent. How often it was, and why, outlives each attempt.
#[derive(Default)]
pub struct RequestAtHand {
    /// How many were taken from the client, but for what changes nothing.
    pub(super) taken: u64,
    /// A Parse that waits for its Bind to say which server it goes to.
    pub(super) held: Option<(Box<[u8]>, Rc<Prepared>)>,
    /// Whether it may be sent again, once it was taken.
    pub(super) again: Again,
    /// How often it was lost with its server or refused there, and is sent again.
    pub(super) repeated: u8,
    /// Why its server has refused it, if one has.
    pub(super) refused: Option<Refused>,
    /// What of it has left the input, in [buffers](super::primary::BUFFER) that are begun.
    pub(super) buffers: u16,
    /// Whether the statement that runs and others wait for each other: then it is undone, and runs again.
    pub(super) met: AttemptOutcome,
    /// What else is known of it.
    pub(super) marks: RequestMarks,
    /// Where the text that runs for it comes from, if it is not the client's own: errors are about it.
    pub(super) written: Option<Rc<Written>>,
}

impl RequestAtHand {
    /// It is answered, and what comes next is another one.
    pub(super) fn was_answered(&mut self) {
        self.repeated = 0;
        self.refused = None;
    }

    /// It will be sent once more, as its server has refused it.
    fn refuse(&mut self, refused: Refused) {
        self.refused = Some(refused);
        self.repeated += 1;
    }

    /// Whether it may be sent once more, now that this connection is lost.
    pub(super) fn may_repeat(&self, lease: &Lease) -> bool {
        let broken_off = || lease.standing.is_broken_off().then_some(Farewell::NotReady);
        let farewell = lease.farewell().or_else(broken_off);
        repeats(farewell, lease.opened.elapsed(), self.repeated)
    }

    fn is_unseen(&self, servers: &Servers, state: &State, at: AttachedId) -> bool {
        let Some(Attached {
            lease, inbox, kept, ..
        }) = servers.get(at)
        else {
            return false;
        };
        let all_owed = |kept: &Kept| kept.owed > 0 && lease.ledger().len() == kept.owed;
        kept.as_deref().is_some_and(all_owed)
            && matches!(state.phase, Phase::Query | Phase::Syncing)
            && !(inbox.passed || inbox.fatal || state.skipping)
            && self.repeated < MAX_REPEATS
    }

    /// The request at hand will be sent once more, as its server is lost.
    pub(super) fn count_repeat(&mut self, state: &mut State, lost: &Lease) {
        self.repeated += 1;
        state.tally.repeats();
        tracing::info!(
            server = %lost.pool().opener().endpoint().address,
            said = ?lost.farewell(),
            repeated = self.repeated,
            "lost a server connection; the read is sent once more",
        );
    }
}

/// A request that was sent to one server and could be sent again.
pub struct Kept {
    bytes: Vec<u8>,
    again: Again,
    /// So many replies were owed when it was sent; while they are, the client has seen nothing.
    owed: usize,
}

impl Topology {
    /// Whether a lone server's connections were broken off because it says nothing: who has waited for it so long waits
    /// for it no longer. Where there are others, one of them may answer.
    pub(super) fn was_silent(&self, shard: ShardId, server: usize) -> bool {
        if self.shards[shard].servers.len() > 1 {
            return false;
        }
        let limit = self.config.failover.silence;
        let down = self.health.down_for(shard.index(), server);
        limit.is_some_and(|limit| down.is_some_and(|down| down >= limit))
    }
}

impl Transaction {
    /// Whether a server got nothing of the client's, nor any other one: if it is lost, the client need not know.
    pub(super) fn is_unused(&self, servers: &Servers, state: &State, at: AttachedId) -> bool {
        let nothing = matches!(state.block, Block::None | Block::Begun) && !self.implicit;
        nothing && servers.len() == 1 && servers[at].unused
    }
}

impl Session {
    /// A request was taken, and perhaps sent.
    pub(super) fn keep_request(&mut self, bytes: Vec<u8>) {
        let again = std::mem::replace(&mut self.request.again, Again::Never);
        let open = self.state.block != Block::None
            || self.transaction.implicit
            || self.transaction.changing.is_some()
            || !self.state.pins.is_empty();
        let whole = matches!(self.state.phase, Phase::Query | Phase::Syncing);
        let fits_in = !open && whole && bytes.len() <= LONGEST;
        let mut alone = self.servers.only_mut().filter(|_| fits_in);
        let fits = |inbox: &Inbox| match again {
            Again::Never => false,
            Again::Refused => true,
            Again::Lost => !inbox.may_write && !inbox.wrote,
        };
        match alone.as_mut().filter(|server| fits(&server.inbox)) {
            Some(server) => {
                // A cancel that comes from now on is about this request, and ends it.
                self.entry.cancelled.set(false);
                let owed = server.lease.ledger().len();
                server.kept = Some(Box::new(Kept { bytes, again, owed }));
            }
            None => self.core.give_scratch(bytes),
        }
    }

    /// Nobody needs it any more.
    pub(super) fn forget_request(&mut self) {
        for kept in self.servers.iter_mut().filter_map(|s| s.kept.take()) {
            self.core.give_scratch(kept.bytes);
        }
    }

    /// Whether the server is gone that works for a request of which nothing was seen. Pending while it says nothing.
    pub(super) fn poll_farewell(&mut self, cx: &mut Context<'_>, at: AttachedId) -> Poll<bool> {
        if !self.request.is_unseen(&self.servers, &self.state, at) {
            return Poll::Ready(false);
        }
        let server = &mut self.servers[at];
        let reads = server.kept.as_ref().is_some_and(|k| k.again == Again::Lost);
        let gone = server.lease.poll_farewell(cx);
        // What cannot be sent again is told in the server's own words.
        gone.map(|gone| gone && reads && self.request.may_repeat(&self.servers[at].lease))
    }

    /// Takes the request at hand back from a server that has refused it. False if it has not, or has before.
    pub(super) fn takes_back_refused(&mut self, at: AttachedId) -> bool {
        if self.request.refused.is_some() || !self.request.is_unseen(&self.servers, &self.state, at)
        {
            return false;
        }
        let Attached {
            lease,
            shard,
            server,
            is_primary,
            ..
        } = &self.servers[at];
        let (shard, server) = (*shard, *server);
        let refused = match lease.refusal() {
            Some(Refusal::Conflict) if !is_primary => Refused::Read,
            Some(Refusal::ReadOnly) if self.topology.shards[shard].servers.len() > 1 => {
                Refused::Write(u8::try_from(server).unwrap_or(u8::MAX))
            }
            _ => return false,
        };
        let Some(mut attached) = self.take_back(at) else {
            return false;
        };
        // What else it says is not waited for.
        attached.lease.doubt();
        if let Refused::Write(_) = refused {
            self.topology.report_lost(shard, server);
        }
        self.request.refuse(refused);
        self.state.tally.repeats();
        tracing::info!(
            server = %attached.lease.pool().opener().endpoint().address,
            ?refused,
            "a server refused a request; it is sent once more",
        );
        true
    }

    /// Takes the request at hand back from a server that is lost. False if that cannot be; nothing has changed then.
    pub(super) fn takes_back(&mut self, at: AttachedId) -> bool {
        if !self.request.is_unseen(&self.servers, &self.state, at) {
            return false;
        }
        let Attached {
            lease,
            shard,
            server,
            kept,
            ..
        } = &self.servers[at];
        let reads = kept.as_ref().is_some_and(|k| k.again == Again::Lost);
        if !reads
            || self.entry.cancelled.get()
            || !self.request.may_repeat(lease)
            || self.topology.was_silent(*shard, *server)
        {
            return false;
        }
        let Some(mut attached) = self.take_back(at) else {
            return false;
        };
        renew(&mut attached.lease);
        self.topology.report_broken(attached.shard, attached.server);
        self.request.count_repeat(&mut self.state, &attached.lease);
        true
    }

    /// The request at hand, as if it had never been sent. Returns the server that had it.
    fn take_back(&mut self, at: AttachedId) -> Option<Attached> {
        let kept = self.servers[at].kept.take()?;
        let attached = self.servers.remove(at)?;
        self.servers.active = None;
        self.state.portals.close_all();
        self.state.phase = Phase::Idle;
        self.show_working();
        self.client.put_back(&kept.bytes);
        self.core.give_scratch(kept.bytes);
        Some(attached)
    }

    /// Lets go of a server that is lost and [unused](Transaction::is_unused). False if it is not.
    pub(super) fn drops_unused(&mut self, at: AttachedId) -> bool {
        if !self.transaction.is_unused(&self.servers, &self.state, at) {
            return false;
        }
        let Some(mut attached) = self.servers.remove(at) else {
            return false;
        };
        renew(&mut attached.lease);
        self.topology.report_broken(attached.shard, attached.server);
        self.servers.active = None;
        self.show_working();
        true
    }
}

/// Whether a read of which nothing was seen is sent once more. `farewell` is what its server said at the end, `age` that of the
/// connection, and `repeated` how often the read was sent again before.
pub fn repeats(farewell: Option<Farewell>, age: Duration, repeated: u8) -> bool {
    match farewell {
        // The request has no part in it.
        Some(Farewell::Crash | Farewell::NotReady | Farewell::Idle) => repeated < MAX_REPEATS,
        Some(Farewell::Ended) | None if age < YOUNG => repeated <= 1,
        Some(Farewell::Ended) | None => repeated == 0,
    }
}

/// A request whose server is lost and that is not sent again.
#[derive(Clone, Copy, Debug)]
pub struct Abandoned {
    /// A COMMIT was under way.
    pub committing: bool,
    /// The server said that it committed without its standbys.
    pub unreplicated: bool,
    /// No transaction block was open.
    pub autocommit: bool,
    /// A statement under way may write.
    pub may_write: bool,
}

impl Abandoned {
    /// Whether it may have taken effect: then its client is told 08007, else 08006.
    pub fn is_unknown(self) -> bool {
        self.committing || self.unreplicated || (self.autocommit && self.may_write)
    }

    /// What its client is told of a connection that was lost by `error`.
    pub fn report(self, error: &Broken) -> Report {
        if self.unreplicated {
            return Report::error(
                sqlstate::UNKNOWN_OUTCOME,
                "the transaction is committed on its server, but might not have been replicated",
            )
            .detail("The wait for a synchronous standby was cancelled; what no standby has is gone if the server is lost.")
            .hint("Look before repeating it.");
        }
        if self.is_unknown() {
            let message = "server connection was lost before the outcome was known";
            return Report::error(sqlstate::UNKNOWN_OUTCOME, message)
                .hint("The statement may have taken effect. Look before repeating it.");
        }
        match error {
            Broken::Frame(FrameError::TooLong { length, limit, .. }) => {
                let message = format!(
                    "message of {length} bytes from a server is over the limit of {limit} bytes"
                );
                Report::error(sqlstate::PROGRAM_LIMIT_EXCEEDED, message)
                    .hint("The setting is limits.server_message.")
            }
            _ => Report::error(sqlstate::CONNECTION_FAILURE, "server connection was lost"),
        }
    }
}

/// The connection is lost, and those that were opened before it was may be about to end as well: the request that is sent
/// again gets a newer one.
pub(super) fn renew(lease: &mut Lease) {
    lease.doubt();
    let pool = lease.pool();
    if !pool.is_stale(lease.opened) {
        pool.reconnect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_is_sent_again_more_than_once_only_where_it_cannot_be_the_cause() {
        let old = YOUNG * 10;
        for farewell in [Farewell::Idle, Farewell::Crash, Farewell::NotReady] {
            let more = (0..=MAX_REPEATS).map(|repeated| repeats(Some(farewell), old, repeated));
            assert!(more.eq((0..=MAX_REPEATS).map(|repeated| repeated < MAX_REPEATS)));
        }
        let young = YOUNG / 2;
        for farewell in [Some(Farewell::Ended), None] {
            assert!(repeats(farewell, old, 0) && !repeats(farewell, old, 1));
            assert!(repeats(farewell, young, 1) && !repeats(farewell, young, 2));
        }
    }
}
