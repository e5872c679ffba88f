//! A request that is recognised gets a connection and goes to its server.

use super::take::{Kind, Needs, Reach, Request};
use super::{Fast, Leg, UnderWay};
use crate::core::Lease;
use crate::core::clock::Doing;
use crate::core::notes::Notes;
use crate::pressure::Level;
use crate::session::Session;
use crate::session::choose::Flight;
use crate::session::working_by;
use mothership_pool::health::Reads;
use mothership_pool::pool::Pool;
use mothership_proto::ledger::Audience;
use mothership_proto::segment::Segment;
use mothership_shardmap::ShardId;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// The place of a server that is alone in its shard.
pub(super) const ALONE: usize = 0;

impl Session {
    /// Sends the request at the beginning of the input to its server, or gets in line for a connection. False if it is
    /// not for the fast path, or not there whole; then nothing has changed.
    pub(super) fn take_fast(&mut self) -> bool {
        if self.core.shared.pressure.level() == Level::Full {
            // The general path refuses the request.
            return false;
        }
        let Some((reach, request)) = self.recognise() else {
            return false;
        };
        let shard = match reach {
            Reach::One(shard) => shard,
            Reach::Over(shards, merge) => return self.send_over(&request, &shards, merge),
        };
        let Some(pool) = self.pool_of_one(shard) else {
            return false;
        };
        match pool.try_lease_at(self.state.tally.begun()) {
            Some(lease) => self.send_fast(shard, &request, lease, None).is_some(),
            None => self.line_up(shard, request, &pool),
        }
    }

    /// The pool of a shard with one server. A shard with replicas is left to the general path, which chooses among them.
    pub(super) fn pool_of_one(&mut self, shard: ShardId) -> Option<Rc<Pool<Notes>>> {
        let alone = self.topology.shards[shard].servers.len() == 1;
        // If the primary may not serve, the general path reports why: also that reads need replicas and there are none.
        let serves = alone
            && self.topology.writer(shard).is_ok()
            && self.topology.reads(shard, None) != Reads::Replicas;
        serves.then(|| self.pool(shard, ALONE).ok()).flatten()
    }

    /// Sends a request to the server of `lease`, for which it has waited since `since`, if that has the session's settings and
    /// the statement. `None`: nothing was sent, and the connection went back to its pool.
    pub(super) fn send_fast(
        &mut self,
        shard: ShardId,
        request: &Request,
        mut lease: Lease,
        since: Option<Instant>,
    ) -> Option<()> {
        let length = request.length;
        if !self.fits(shard, &mut lease) {
            return None;
        }
        let (parses, binds) = match &request.kind {
            Kind::Query(shape) => {
                shape.use_again()?;
                lease.query_as_sent(&self.client.input()[..length], Audience::Client);
                self.state.names.drop_unnamed();
                (false, false)
            }
            Kind::Segment {
                needs,
                describes,
                statement,
            } => {
                let names = self.known.model.as_ref().map_or(0, |model| model.names());
                let has = match needs {
                    Needs::Nothing => true,
                    _ if lease.notes.names != names => false,
                    Needs::Unnamed => lease.unnamed == Some(statement.id),
                    Needs::Named => lease.notes.prepared.touch(statement.id),
                };
                if !has {
                    return None;
                }
                let bytes = &self.client.input()[..length];
                let parses = *needs == Needs::Nothing;
                match needs {
                    Needs::Nothing | Needs::Unnamed => {
                        let parsed = parses.then_some(statement.id);
                        lease.segment_as_sent(bytes, parsed, *describes);
                    }
                    Needs::Named => {
                        let segment = Segment::read(bytes)?;
                        lease.request(Audience::Client, |send| {
                            send.bind_as(&segment.bind, statement.server_name().as_bytes());
                            send.tail_as_sent(segment.tail, *describes);
                        });
                    }
                }
                if parses {
                    let context = self.planning_context();
                    self.state.names.define(b"", Rc::clone(statement), context);
                }
                (parses, true)
            }
        };
        let tally = &mut self.state.tally;
        let sent = tally.fast(shard, length, (parses, binds), since);
        let leg = self.leg(shard, lease, sent);
        self.entry.pulse.begin(Doing::Running);
        let passed = false;
        self.fast.request = Some(Fast::UnderWay(Box::new(UnderWay {
            leg,
            length,
            passed,
        })));
        Some(())
    }

    /// Whether a connection to a server of this shard has the settings and the reported parameters of the session.
    pub(super) fn fits(&mut self, shard: ShardId, lease: &mut Lease) -> bool {
        let outside = self.state.settings.outside();
        if !Arc::ptr_eq(&lease.notes.settings, outside) {
            if *lease.notes.settings != **outside {
                return false;
            }
            // Equal lists become one, which is compared faster.
            lease.notes.settings = Arc::clone(outside);
        }
        match self.topology.is_postgres(shard) {
            true => self.state.told.is_same(&mut lease.parameters),
            // A member of MongoDB reports no parameters: what the router told it counts.
            false => self.state.told.has_forms(&mut lease.notes.forms),
        }
    }

    /// A server works for the session from now on: it is shown to whoever may cancel, and counted.
    pub(super) fn leg(&self, shard: ShardId, mut lease: Lease, sent: Instant) -> Leg {
        lease.standing.set_borrower(self.entry.who.number);
        lease.notes.lend(self.state.process);
        self.entry.working.borrow_mut().push(working_by(&lease));
        // Only with a catalog is the request known to be a single read, whose time says how busy the server is.
        let measured = self.known.model.is_some();
        let counted = self.topology.health.begin(shard.index(), ALONE);
        let flight = counted.map(|counted| {
            let mut flight = Flight::new(counted, measured);
            flight.take_off_at(lease.notes.warm, || sent);
            flight
        });
        Leg {
            shard,
            lease,
            flight,
        }
    }
}
