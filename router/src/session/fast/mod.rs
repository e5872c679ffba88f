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

mod take;

use super::choose::Flight;
use super::clock::Doing;
use super::inbox::{Inbox, Outcome};
use super::serve::READ_AHEAD;
use super::settings::SessionSettings;
use super::state::Phase;
use super::{Attached, Session};
use crate::core::{Lease, Life};
use mothership_proto::backend::TxStatus;
use mothership_proto::frame::Frame;
use mothership_proto::ledger::{Owed, Until};
use std::sync::Arc;
use std::task::{Context, Poll};

/// A request under way on the fast path.
pub struct Fast {
    shard: usize,
    server: usize,
    lease: Lease,
    flight: Option<Flight>,
    /// Something of the answer has reached the client.
    passed: bool,
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
            if self.fast.is_some() {
                match self.poll_answer(cx) {
                    Poll::Ready(Ended::Answered) => {}
                    Poll::Ready(Ended::Unfolded) => return Poll::Ready(()),
                    Poll::Pending => return self.poll_ahead(cx),
                }
                continue;
            }
            if !self.may_go_fast() {
                return Poll::Ready(());
            }
            if self.client.input().is_empty() {
                self.entry.pulse.set(Doing::Idle);
                match self.client.poll_fill(cx) {
                    Poll::Pending => return Poll::Pending,
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
        while let Some(fast) = &mut self.fast {
            let oids = self.world.as_ref().and_then(|world| world.oids(fast.shard));
            let columns =
                oids.map(|oids| |frame: Frame<'_>, out: &mut _| oids.put_at_home(frame, out));
            let passed = match fast.lease.poll_passing(cx, &mut self.client, columns) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(passed)) => passed,
                Poll::Ready(Err(error)) => {
                    self.unfold();
                    self.lost(0, &error);
                    return Poll::Ready(Ended::Unfolded);
                }
            };
            fast.passed |= passed.bytes > 0;
            self.state.tally.gave(passed.bytes);
            if passed.parsed {
                self.state.tally.server_parsed();
                self.state.names.confirm_parsed();
            }
            match passed.until {
                Until::Ready => self.answered_fast(),
                Until::Partial if self.client.unsent() <= most_unsent => {}
                Until::Partial | Until::Judgement | Until::Columns => {
                    self.unfold();
                    return Poll::Ready(Ended::Unfolded);
                }
            }
        }
        Poll::Ready(Ended::Answered)
    }

    /// While the server works: reads what the client sends meanwhile, and sees that it is still there.
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
        let Some(Fast {
            mut lease, flight, ..
        }) = self.fast.take()
        else {
            return;
        };
        lease.notes.warm = true;
        let ended = self.state.tally.ended();
        if let Some(flight) = flight {
            flight.land(ended);
        }
        match ended {
            Some(now) => lease.give_back(now),
            None => drop(lease),
        }
        self.entry.working.borrow_mut().clear();
        self.entry.limits.borrow_mut().clear();
        self.entry.deadlock.replace(None);
    }

    /// Makes of the request under way what the general path would have of it now.
    pub(super) fn unfold(&mut self) {
        let Some(Fast {
            shard,
            server,
            lease,
            flight,
            passed,
        }) = self.fast.take()
        else {
            return;
        };
        let carried = SessionSettings::carried(Arc::clone(&lease.notes.settings));
        let mut inbox = Inbox::new(shard, carried, self.core.take_lists());
        inbox.clock = self.topology.health.clock(shard).map(Arc::clone);
        inbox.passed = passed;
        inbox.oids = self.oids(shard).map(Arc::clone);
        self.state.phase = Phase::Syncing;
        for owed in lease.ledger.owed() {
            match owed {
                Owed::Query(_) => {
                    self.state.phase = Phase::Query;
                    inbox.outcomes.push_back(Outcome::None);
                }
                // What only reads leaves nothing to be done at its end.
                Owed::Execute(_) => inbox.outcomes.push_back(Outcome::None),
                Owed::DescribePortal(_) => inbox.describing.push_back(None),
                _ => {}
            }
        }
        inbox.in_segment = self.state.phase == Phase::Syncing;
        self.servers.push(Attached {
            shard,
            server,
            is_primary: true,
            flight,
            lease,
            inbox,
        });
        self.active = Some(0);
    }

    /// A client that has so many bytes to read yet gets no more for now.
    fn most_unsent(&self) -> usize {
        self.topology.config.limits.client_buffer.bytes()
    }
}
