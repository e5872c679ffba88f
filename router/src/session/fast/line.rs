//! A request that waits in line for a connection on the fast path.
//!
//! It stays in the client's input, and the session is as it was before: whatever comes between, the general path finds
//! a request that nobody has looked at, which keeps its place in the line ([`FastPath::lined_up`]).

use super::Fast;
use super::take::Request;
use crate::core::Lease;
use crate::core::clock::Doing;
use crate::core::notes::Notes;
use crate::session::Session;
use mothership_pool::pool::{Place, Pool};
use mothership_shardmap::ShardId;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

/// A request in line.
pub struct InLine {
    shard: ShardId,
    request: Request,
    place: Place<Notes>,
    since: Instant,
}

impl Session {
    /// Gets in line. False if the request is better off on the general path.
    pub(super) fn line_up(
        &mut self,
        shard: ShardId,
        request: Request,
        pool: &Rc<Pool<Notes>>,
    ) -> bool {
        let since = self.state.tally.line_up();
        let Some(place) = pool.line_up(self.rules.priority(), since) else {
            return false;
        };
        let until = tokio::time::Instant::from_std(since + pool.patience());
        self.fast.wake_at(until);
        self.entry.pulse.begin(Doing::Running);
        self.entry.begin_wait();
        self.fast.request = Some(Fast::InLine(Box::new(InLine {
            shard,
            request,
            place,
            since,
        })));
        true
    }

    /// Sends the request in line when it is its turn. Ready with false when the general path has to go on with it.
    pub(super) fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(Fast::InLine(line)) = &self.fast.request else {
            return Poll::Ready(false);
        };
        match line.place.poll_idle(cx) {
            Poll::Ready(Some(lease)) => Poll::Ready(self.take_turn(lease)),
            Poll::Ready(None) => Poll::Ready(false),
            Poll::Pending if self.must_leave_line(cx) => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    }

    /// It is its turn. False if it cannot be sent so any more; then it is in line as before, and the connection went
    /// back.
    fn take_turn(&mut self, lease: Lease) -> bool {
        let Some(Fast::InLine(line)) = self.fast.request.take() else {
            return false;
        };
        let holds = !self.entry.is_wait_cancelled() && self.still_holds(&line.request);
        let sent = holds
            && self
                .send_fast(line.shard, &line.request, lease, Some(line.since))
                .is_some();
        match sent {
            true => self.entry.end_wait(),
            false => self.fast.request = Some(Fast::InLine(line)),
        }
        sent
    }

    /// Whether the request has to go on waiting as others do, or is not to be waited for.
    fn must_leave_line(&mut self, cx: &mut Context<'_>) -> bool {
        let waited_long = self.fast.poll_timer(cx).is_none_or(|over| over.is_ready());
        waited_long || self.entry.is_wait_cancelled() || !self.may_go_fast()
    }

    /// Leaves the request to the general path, which takes its place in the line again.
    pub(super) fn leave_line(&mut self, line: InLine) {
        self.fast.lined_up = Some(line.place.lined_up());
        // A cancel is for the wait that follows.
        if !self.entry.is_wait_cancelled() {
            self.entry.end_wait();
        }
    }
}
