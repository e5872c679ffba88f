//! The fast path: a statement that only reads, on one shard, of a session that has nothing open.
//!
//! It is what most clients send most of the time, and what the general path sees to on the way is nothing then: no
//! transaction, no setting, no name to be kept, one server, answers that pass as they are. So here a request is
//! recognised ([`take`]), goes to its server as it came, and its answer goes back in one piece, without a task's state,
//! a list or an allocation for any of it.
//!
//! The fast path decides nothing of its own. Where a statement goes is read from the plan that the general path has made
//! for its shape; what the connection owes stands in its ledger all the time. Whatever is not as expected is the general
//! path's: before a request is taken nothing has changed, and afterwards [`Session::unfold`] makes of it what the general
//! path would have of it at that point. `docs/adr/0015` has the figures.

mod line;

mod over;

mod repeat;

mod send;

mod take;

use super::choose::Flight;
use super::inbox::Inbox;
use super::many::Halfway;
use super::repeat::MAX_REPEATS;
use super::serve::READ_AHEAD;
use super::state::Phase;
use super::{Attached, Session};
use crate::core::clock::Doing;
use crate::core::lists::{Describing, Outcome};
use crate::core::{Lease, Life};
use crate::statements::settings::SessionSettings;
use mothership_pool::pool::LinedUp;
use mothership_proto::backend::TxStatus;
use mothership_proto::frame::Frame;
use mothership_proto::ledger::{Owed, Until};
use mothership_shardmap::ShardId;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::time::Sleep;

/// What a session has of the fast path, and what that path leaves to the general one.
///
/// While a request is here, nothing is attached to the session. The general path takes what was left to it before it takes
/// another request.
#[derive(Default)]
pub struct FastPath {
    /// The request on the fast path; nothing is attached then.
    pub(super) request: Option<Fast>,
    /// What it has left to the general path in the middle.
    pub(super) halfway: Option<Box<Halfway>>,
    /// What became of the request at hand in line for a connection, if it stood there on the fast path.
    pub(super) lined_up: Option<LinedUp>,
    /// Wakes a request that has waited for long on the fast path, and between requests ends a session that has rested for as
    /// long as [its settings](super::rests) let it.
    timer: Option<Pin<Box<Sleep>>>,
}

impl FastPath {
    /// Sets the timer, which nobody else needs at the same time: a session that rests has no request.
    pub(super) fn wake_at(&mut self, until: tokio::time::Instant) {
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(until),
            none => *none = Some(Box::pin(tokio::time::sleep_until(until))),
        }
    }

    /// Whether the time has come for which the timer was set; `None` if it never was.
    pub(super) fn poll_timer(&mut self, cx: &mut Context<'_>) -> Option<Poll<()>> {
        self.timer.as_mut().map(|timer| timer.as_mut().poll(cx))
    }
}

/// A request on the fast path. Boxed, because a session that waits for its client has none.
pub enum Fast {
    /// It waits for a connection.
    InLine(Box<line::InLine>),
    /// A server works for it.
    UnderWay(Box<UnderWay>),
    /// Several do.
    Over(Box<over::Over>),
}

/// A request that was sent.
pub struct UnderWay {
    leg: Leg,
    /// So many bytes of the input it takes: they stay there until it is answered, or the general path's.
    length: usize,
    /// Something of the answer has reached the client.
    passed: bool,
}

/// A server that works for a request, alone in its shard.
struct Leg {
    shard: ShardId,
    lease: Lease,
    flight: Option<Flight>,
}

/// How it ended there.
enum Ended {
    /// It is answered.
    Answered,
    /// It is the general path's now.
    Unfolded,
}

impl Session {
    /// Serves requests for as long as they are for the fast path, and waits for them. Ready when the general path has
    /// to go on, whatever the reason.
    pub(super) fn poll_fast(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &self.fast.request {
                Some(Fast::UnderWay(_)) => match self.poll_answer(cx) {
                    Poll::Ready(Ended::Answered) => {}
                    Poll::Ready(Ended::Unfolded) => return Poll::Ready(()),
                    Poll::Pending => return self.poll_ahead(cx),
                },
                Some(Fast::InLine(_)) => match self.poll_line(cx) {
                    Poll::Ready(true) => continue,
                    Poll::Ready(false) => {
                        self.unfold();
                        return Poll::Ready(());
                    }
                    Poll::Pending => return self.poll_ahead(cx),
                },
                Some(Fast::Over(_)) => match self.poll_over(cx) {
                    Poll::Ready(Ended::Answered) => {}
                    Poll::Ready(Ended::Unfolded) => return Poll::Ready(()),
                    Poll::Pending => return self.poll_ahead(cx),
                },
                None => {}
            }
            if !self.may_go_fast() {
                return Poll::Ready(());
            }
            if self.client.input().is_empty() {
                self.rules.rest();
                self.entry.pulse.set(Doing::Idle);
                match self.client.poll_fill(cx) {
                    Poll::Pending => {
                        self.poll_rest(cx);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(n)) if n > 0 => {}
                    Poll::Ready(_) => return Poll::Ready(()),
                }
            }
            if !self.take_fast() {
                return Poll::Ready(());
            }
        }
    }

    /// Passes on what the server has answered.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let most_unsent = self.most_unsent();
        if self.entry.killed.get() || self.core.life.get() == Life::Ending {
            self.unfold();
            return Poll::Ready(Ended::Unfolded);
        }
        while let Some(Fast::UnderWay(fast)) = &mut self.fast.request {
            let oids = self
                .known
                .model
                .as_ref()
                .and_then(|model| model.oids(fast.leg.shard));
            let columns =
                oids.map(|oids| |frame: Frame<'_>, out: &mut _| oids.put_at_home(frame, out));
            let unseen =
                !fast.passed && self.request.repeated < MAX_REPEATS && self.known.model.is_some();
            let passed = match fast
                .leg
                .lease
                .poll_passing(cx, &mut self.client, columns, unseen)
            {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(passed)) => passed,
                Poll::Ready(Err(error)) => {
                    if !self.repeats() {
                        self.unfold();
                        if let Some(at) = self.servers.active {
                            self.lost(at, &error);
                        }
                    }
                    return Poll::Ready(Ended::Unfolded);
                }
            };
            fast.passed |= passed.bytes > 0;
            let farewell = unseen
                && (passed.bytes, passed.until) == (0, Until::Judgement)
                && fast.leg.lease.says_farewell();
            self.state.tally.gave(passed.bytes);
            if passed.parsed {
                self.state.tally.server_parsed();
                self.state.names.confirm_parsed();
            }
            match passed.until {
                Until::Ready => self.answered_fast(),
                Until::Partial if self.client.unsent() <= most_unsent => {}
                Until::Partial | Until::Judgement | Until::Columns => {
                    if !(farewell && self.repeats()) {
                        self.unfold();
                    }
                    return Poll::Ready(Ended::Unfolded);
                }
            }
        }
        Poll::Ready(Ended::Answered)
    }

    /// While it waits or the server works: reads what the client sends meanwhile, and sees that it is still there.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.client.input().len() < READ_AHEAD {
            match self.client.poll_fill(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(n)) if n > 0 => {}
                Poll::Ready(_) => {
                    self.unfold();
                    return Poll::Ready(());
                }
            }
        }
        Poll::Pending
    }

    /// The request is answered: its connection goes back.
    fn answered_fast(&mut self) {
        self.state.tally.ready(TxStatus::Idle);
        let Some(Fast::UnderWay(under_way)) = self.fast.request.take() else {
            return;
        };
        self.client.consume(under_way.length);
        self.request.repeated = 0;
        under_way.leg.end(self.state.tally.ended());
        self.nobody_works();
    }

    /// No server works for the session any longer.
    fn nobody_works(&self) {
        self.entry.working.borrow_mut().clear();
        self.entry.seen.deadlock.take();
    }

    /// Makes of the request what the general path would have of it now.
    pub(super) fn unfold(&mut self) {
        let UnderWay { leg, passed, .. } = match self.fast.request.take() {
            Some(Fast::UnderWay(under_way)) => {
                self.client.consume(under_way.length);
                self.request.repeated = 0;
                *under_way
            }
            Some(Fast::InLine(line)) => return self.leave_line(*line),
            Some(Fast::Over(over)) => return self.leave_over(*over),
            None => return,
        };
        let mut attached = self.attached(leg);
        let Attached { lease, inbox, .. } = &mut attached;
        inbox.passed = passed;
        let mut phase = Phase::Syncing;
        for owed in lease.ledger().owed() {
            match owed {
                Owed::Query(_) => {
                    phase = Phase::Query;
                    inbox.outcomes.push_back(Outcome::None);
                }
                // What only reads leaves nothing to be done at its end.
                Owed::Execute(_) => inbox.outcomes.push_back(Outcome::None),
                Owed::DescribePortal(_) => inbox.describing.push_back(Describing::Portal),
                _ => {}
            }
        }
        inbox.in_segment = phase == Phase::Syncing;
        self.servers.active = Some(self.servers.add(attached));
        self.state.phase = phase;
    }

    /// A server as the general path has it.
    fn attached(&mut self, leg: Leg) -> Attached {
        let Leg {
            shard,
            lease,
            flight,
        } = leg;
        let carried = SessionSettings::carried(Arc::clone(&lease.notes.settings));
        let mut inbox = Inbox::new(shard, carried, self.core.take_lists());
        inbox.process = lease.cancel.key.pid;
        inbox.notifiers = Some(Arc::clone(&self.core.shared.notifiers));
        inbox.clock = self.topology.health.clock(shard.index()).map(Arc::clone);
        inbox.oids = self.known.oids(shard).map(Arc::clone);
        Attached {
            id: self.servers.next_id(),
            shard,
            server: send::ALONE,
            is_primary: true,
            flight,
            lease,
            inbox,
            kept: None,
            unused: false,
        }
    }

    /// A client that has so many bytes to read yet gets no more for now.
    fn most_unsent(&self) -> usize {
        self.topology.config.limits.client_buffer.bytes()
    }
}

impl Leg {
    /// It has answered: its connection goes back. `ended` is when the session's request was answered.
    fn end(mut self, ended: Option<Instant>) {
        self.lease.notes.warm = true;
        if let Some(flight) = self.flight {
            flight.land(ended);
        }
        match ended {
            Some(now) => self.lease.give_back(now),
            None => drop(self.lease),
        }
    }
}
