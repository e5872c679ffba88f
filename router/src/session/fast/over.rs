//! A read over several shards on the fast path: its text goes to each, and their answers become one as they come.
//!
//! They are taken in the order of the shards, as on the general path, which goes on where anything is not as expected.

use super::take::{Kind, Request};
use super::{Ended, Fast, Leg};
use crate::core::clock::Doing;
use crate::core::{Lease, Life, Spread};
use crate::session::Session;
use crate::session::inbox::Notices;
use crate::session::many::{Halfway, Merging};
use crate::session::state::Phase;
use mothership_plan::Merge;
use mothership_proto::backend::{self, TxStatus, tag};
use mothership_proto::frame::Frame;
use mothership_proto::ledger::{Audience, Event, Until};
use mothership_shardmap::{ShardId, ShardSet};
use smallvec::SmallVec;
use std::task::{Context, Poll};

/// So many shards cost no allocation of their own.
const FEW: usize = 4;

/// A read that was sent to several shards.
pub struct Over {
    legs: SmallVec<[Leg; FEW]>,
    /// So many of them, the first ones, have answered.
    answered: usize,
    merging: Merging,
    spread: Spread,
}

impl Session {
    /// Sends the request to these shards. False if one of them has no connection at hand, or none that has all that the
    /// session has; then nothing has changed.
    pub(super) fn send_over(&mut self, request: &Request, shards: &ShardSet, merge: Merge) -> bool {
        let Kind::Query(shape) = &request.kind else {
            return false;
        };
        let Some(leases) = self.leases(shards) else {
            return false;
        };
        if shape.use_again().is_none() {
            return false;
        }
        let tally = &mut self.state.tally;
        let all = leases.iter().map(|(shard, _)| *shard);
        let sent = tally.fast_over(all, request.length);
        let mut legs = SmallVec::with_capacity(leases.len());
        for (shard, mut lease) in leases {
            lease.query_as_sent(&self.client.input()[..request.length], Audience::Router);
            legs.push(self.leg(shard, lease, sent));
        }
        self.state.names.drop_unnamed();
        self.entry.pulse.begin(Doing::Running);
        let merging = Merging::of(merge, legs.len());
        self.fast.request = Some(Fast::Over(Box::new(Over {
            legs,
            answered: 0,
            merging,
            spread: Spread::new(&self.core.shared),
        })));
        self.client.consume(request.length);
        true
    }

    /// A connection to each of these shards. If one of them has none, those that were taken go back.
    fn leases(&mut self, shards: &ShardSet) -> Option<SmallVec<[(ShardId, Lease); FEW]>> {
        let begun = self.state.tally.begun();
        let serializable = self.state.default_isolation();
        let mut leases = SmallVec::new();
        for shard in shards.iter() {
            let mut lease = self.pool_of_one(shard)?.try_lease_at(begun)?;
            // A transaction that is SERIALIZABLE by default cannot be over shards.
            let serializable = serializable.or(lease.notes.serializable);
            if serializable != Some(false) || !self.fits(shard, &mut lease) {
                return None;
            }
            leases.push((shard, lease));
        }
        Some(leases)
    }

    /// Takes what the servers have answered.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let most_unsent = self.most_unsent();
        if self.entry.killed.get() || self.core.life.get() == Life::Ending {
            self.unfold();
            return Poll::Ready(Ended::Unfolded);
        }
        let Self {
            fast,
            client,
            known,
            ..
        } = self;
        let Some(Fast::Over(over)) = &mut fast.request else {
            return Poll::Ready(Ended::Answered);
        };
        let Over {
            legs,
            answered,
            merging,
            ..
        } = &mut **over;
        while let Some(leg) = legs.get_mut(*answered) {
            let oids = known.model.as_ref().and_then(|model| model.oids(leg.shard));
            let taken = leg.lease.poll_taking(cx, |frame| {
                let translated = oids.and_then(|oids| oids.at_home(frame));
                let frame = translated.as_deref().map_or(frame, |bytes| Frame { bytes });
                merging.take(*answered, frame, event(frame), client);
            });
            let until = match taken {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(taken)) => taken.until,
                Poll::Ready(Err(error)) => {
                    let leg = *answered;
                    self.unfold();
                    self.fast.halfway = None;
                    if let Some(at) = self.servers.ids().get(leg) {
                        self.lost(*at, &error);
                    }
                    return Poll::Ready(Ended::Unfolded);
                }
            };
            match until {
                Until::Ready => *answered += 1,
                Until::Partial => {}
                Until::Judgement | Until::Columns => {
                    self.unfold();
                    return Poll::Ready(Ended::Unfolded);
                }
            }
            if merging.is_wrong() || client.unsent() > most_unsent {
                self.unfold();
                return Poll::Ready(Ended::Unfolded);
            }
        }
        Poll::Ready(self.answered_over())
    }

    /// All have answered: the client gets the end of it, and their connections go back.
    fn answered_over(&mut self) -> Ended {
        let Some(Fast::Over(over)) = &self.fast.request else {
            return Ended::Answered;
        };
        let Ok(command) = over.merging.end(&mut self.client) else {
            self.unfold();
            return Ended::Unfolded;
        };
        self.put_command(&command);
        self.state.tally.ready(TxStatus::Idle);
        self.client
            .with_output(|out| backend::put_ready(out, TxStatus::Idle));
        if let Some(Fast::Over(over)) = self.fast.request.take() {
            let ended = self.state.tally.ended();
            over.legs.into_iter().for_each(|leg| leg.end(ended));
        }
        self.nobody_works();
        Ended::Answered
    }

    /// Leaves the request to the general path, which has it as it is after it was sent.
    pub(super) fn leave_over(&mut self, over: Over) {
        let Over {
            legs,
            answered,
            merging,
            spread,
        } = over;
        self.entry.spread.set(Some(spread));
        for (number, leg) in legs.into_iter().enumerate() {
            let mut attached = self.attached(leg);
            attached.inbox.notices = Notices::of(number, merging.merge());
            attached.inbox.touched.add(None);
            self.servers.active = Some(self.servers.add(attached));
        }
        self.state.phase = Phase::Query;
        self.request.written = None;
        self.fast.halfway = Some(Box::new(Halfway { merging, answered }));
    }
}

/// What a message means that needs no judgement.
fn event(frame: Frame<'_>) -> Event {
    match frame.tag() {
        tag::COMMAND_COMPLETE => Event::Completed,
        tag::READY => Event::Ready(TxStatus::Idle),
        _ => Event::Part,
    }
}
