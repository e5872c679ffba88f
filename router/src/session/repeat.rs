//! A read whose server is gone before the client has seen anything of the answer.
//!
//! It may be sent once more, as if it had never been sent: by itself it changes nothing, nor is anything open that it
//! belongs to. Where there is no primary it waits for one, like any other request. Unless the server says that something
//! else is the cause, or hardly had it, it is not sent more often than once: it may be the request that ends it, or an
//! administrator who ends both. On the fast path the request is still in the input; here it is kept until it is answered.

use super::state::{Block, Phase};
use super::{Attached, Session};
use crate::core::Lease;
use mothership_pool::connection::Farewell;
use std::task::{Context, Poll};
use std::time::Duration;

/// Longer requests are not kept.
const LONGEST: usize = 64 * 1024;

/// A request is not sent more often than that again.
pub(super) const MOST: u8 = 4;

/// A server that has crashed lets clients in until it notices, and what it says to a backend that is just sending is
/// dropped: the second connection may be lost without a word.
const YOUNG: Duration = Duration::from_secs(1);

/// A request that was sent to one server and could be sent again.
pub struct Kept {
    bytes: Vec<u8>,
    /// So many replies were owed when it was sent; while they are, the client has seen nothing.
    owed: usize,
}

impl Session {
    /// A request was taken, and perhaps sent.
    pub(super) fn keep_request(&mut self, bytes: Vec<u8>) {
        let reads = std::mem::take(&mut self.only_reads);
        let mut alone = match self.servers.as_mut_slice() {
            [one] if !one.inbox.may_write && !one.inbox.wrote => Some(one),
            _ => None,
        };
        let open = self.state.block != Block::None || self.implicit || !self.state.pins.is_empty();
        let whole = matches!(self.state.phase, Phase::Query | Phase::Syncing);
        let again = reads && !open && whole && bytes.len() <= LONGEST;
        match alone.as_mut().filter(|_| again) {
            Some(server) => {
                let owed = server.lease.ledger.len();
                server.kept = Some(Box::new(Kept { bytes, owed }));
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
    pub(super) fn poll_farewell(&mut self, cx: &mut Context<'_>, at: usize) -> Poll<bool> {
        if !self.is_unseen(at) {
            return Poll::Ready(false);
        }
        let gone = self.servers[at].lease.poll_farewell(cx);
        // What cannot be sent again is told in the server's own words.
        gone.map(|gone| gone && self.may_repeat(&self.servers[at].lease))
    }

    fn is_unseen(&self, at: usize) -> bool {
        let Some(Attached {
            lease, inbox, kept, ..
        }) = self.servers.get(at)
        else {
            return false;
        };
        let all_owed = |kept: &Kept| kept.owed > 0 && lease.ledger.len() == kept.owed;
        kept.as_deref().is_some_and(all_owed)
            && matches!(self.state.phase, Phase::Query | Phase::Syncing)
            && !(inbox.passed || inbox.fatal || self.state.skipping)
            && self.repeated < MOST
    }

    /// Takes the request at hand back from a server that is lost. False if that cannot be; nothing has changed then.
    pub(super) fn takes_back(&mut self, at: usize) -> bool {
        if !self.is_unseen(at) {
            return false;
        }
        let Attached {
            lease,
            shard,
            server,
            ..
        } = &self.servers[at];
        if !self.may_repeat(lease) || self.was_silent(*shard, *server) {
            return false;
        }
        let Some(kept) = self.servers[at].kept.take() else {
            return false;
        };
        let mut attached = self.servers.remove(at);
        renew(&mut attached.lease);
        self.report_lost(attached.shard, attached.server);
        self.active = None;
        self.state.portals.close_all();
        self.state.phase = Phase::Idle;
        self.show_working();
        self.client.put_back(&kept.bytes);
        self.core.give_scratch(kept.bytes);
        self.count_repeat(&attached.lease);
        true
    }

    /// Whether a server got nothing of the client's, nor any other one: if it is lost, the client need not know.
    pub(super) fn is_unused(&self, at: usize) -> bool {
        let nothing = matches!(self.state.block, Block::None | Block::Begun) && !self.implicit;
        nothing && self.servers.len() == 1 && self.servers[at].unused
    }

    /// Lets go of a server that is lost and [unused](Self::is_unused). False if it is not.
    pub(super) fn drops_unused(&mut self, at: usize) -> bool {
        if !self.is_unused(at) {
            return false;
        }
        let mut attached = self.servers.remove(at);
        renew(&mut attached.lease);
        self.report_lost(attached.shard, attached.server);
        self.active = None;
        self.show_working();
        true
    }

    /// The request at hand will be sent once more, as its server is lost.
    pub(super) fn count_repeat(&mut self, lost: &Lease) {
        self.repeated += 1;
        self.state.tally.repeats();
        tracing::info!(
            server = %lost.pool().opener().endpoint().address,
            said = ?lost.farewell(),
            repeated = self.repeated,
            "lost a server connection; the read is sent once more",
        );
    }

    /// Whether a server's connections were broken off because it says nothing: who has waited for it so long waits for no
    /// other.
    pub(super) fn was_silent(&self, shard: usize, server: usize) -> bool {
        let limit = self.topology.config.failover.silence;
        let down = self.topology.health.down_for(shard, server);
        limit.is_some_and(|limit| down.is_some_and(|down| down >= limit))
    }

    /// Whether the request at hand may be sent once more, now that this connection is lost.
    pub(super) fn may_repeat(&self, lease: &Lease) -> bool {
        match lease.farewell() {
            Some(Farewell::Crash | Farewell::NotReady) => self.repeated < MOST,
            Some(Farewell::Ended) => self.repeated == 0,
            None if lease.opened.elapsed() < YOUNG => self.repeated <= 1,
            None => self.repeated == 0,
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
