//! A read whose server is gone before the client has seen anything of the answer.
//!
//! It may be sent once more, as if it had never been sent: by itself it changes nothing, nor is anything open that it
//! belongs to. Where there is no primary it waits for one, like any other request. Not more often than once: it may be
//! the request that ends the server. On the fast path the request is still in the input; here it is kept until it is
//! answered.

use super::state::{Block, Phase};
use super::{Attached, Session};
use std::task::{Context, Poll};

/// Longer requests are not kept.
const LONGEST: usize = 64 * 1024;

/// A request that was sent to one server and could be sent again.
pub struct Kept {
    bytes: Vec<u8>,
    /// So many replies were owed when it was sent; while they are, the client has seen nothing.
    owed: usize,
}

impl Session {
    /// A request was taken, and perhaps sent. `is_second` if it is sent for the second time.
    pub(super) fn keep_request(&mut self, bytes: Vec<u8>, is_second: bool) {
        let reads = std::mem::take(&mut self.only_reads);
        let owed = match self.servers.as_slice() {
            [one] if !one.inbox.may_write && !one.inbox.wrote => one.lease.ledger.len(),
            _ => 0,
        };
        let open = self.state.block != Block::None || self.implicit || !self.state.pins.is_empty();
        let whole = matches!(self.state.phase, Phase::Query | Phase::Syncing);
        match reads && owed > 0 && !open && whole && !is_second && bytes.len() <= LONGEST {
            true => self.kept = Some(Box::new(Kept { bytes, owed })),
            false => self.core.give_scratch(bytes),
        }
    }

    /// Nobody needs it any more.
    pub(super) fn forget_request(&mut self) {
        if let Some(kept) = self.kept.take() {
            self.core.give_scratch(kept.bytes);
        }
    }

    /// Whether the server is gone that works for a request of which nothing was seen. Pending while it says nothing.
    pub(super) fn poll_farewell(&mut self, cx: &mut Context<'_>, at: usize) -> Poll<bool> {
        match self.is_unseen(at) {
            true => self.servers[at].lease.poll_farewell(cx),
            false => Poll::Ready(false),
        }
    }

    fn is_unseen(&self, at: usize) -> bool {
        let Some(Attached { lease, inbox, .. }) = self.servers.get(at) else {
            return false;
        };
        let all_owed = |kept: &Kept| lease.ledger.len() == kept.owed;
        self.kept.as_deref().is_some_and(all_owed)
            && matches!(self.state.phase, Phase::Query | Phase::Syncing)
            && !(inbox.passed || inbox.fatal || self.state.skipping)
    }

    /// Takes the request at hand back from a server that is lost. False if that cannot be; nothing has changed then.
    pub(super) fn takes_back(&mut self, at: usize) -> bool {
        if !self.is_unseen(at) {
            return false;
        }
        let Some(kept) = self.kept.take() else {
            return false;
        };
        let mut attached = self.servers.remove(at);
        attached.lease.doubt();
        self.report_lost(attached.shard, attached.server);
        self.active = None;
        self.state.portals.close_all();
        self.state.phase = Phase::Idle;
        self.show_working();
        self.client.put_back(&kept.bytes);
        self.core.give_scratch(kept.bytes);
        self.repeated = true;
        self.state.tally.repeats();
        true
    }
}
