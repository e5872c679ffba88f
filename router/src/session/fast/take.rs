//! Which requests are for the fast path, and where they go.

use super::Fast;
use crate::config::LogStatements;
use crate::plan::{self, Literals, Params, PlanContext};
use crate::session::Session;
use crate::session::choose::Flight;
use crate::session::clock::Doing;
use crate::session::names::Prepared;
use crate::session::shapes::Known;
use crate::session::step::Step;
use crate::world::World;
use mothership_proto::frame::{self, HEADER, Next};
use mothership_proto::frontend::{self, tag};
use mothership_proto::ledger::{Audience, Owed};
use mothership_proto::segment::{self, Segment};
use smallvec::SmallVec;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// So many parameters cost no allocation.
const FEW: usize = 8;

/// What a server must have prepared for a Bind.
enum Needs {
    /// Nothing: Parse goes before it.
    Nothing,
    /// The statement in the unnamed slot.
    Unnamed,
    /// The statement under our name.
    Named,
}

impl Session {
    /// Whether nothing of before, and nobody else, has a say in what comes now.
    pub(super) fn may_go_fast(&self) -> bool {
        self.is_free()
            && !self.state.untold.get()
            && self.state.notifications.is_empty()
            && !self.core.suspended.get()
            && self.must_go().is_none()
            && self.topology.config.logging.statements == LogStatements::Off
            && self.client.unsent() <= self.most_unsent()
    }

    /// Sends the request at the beginning of the input to its server. False if it is not for the fast path, or not there
    /// whole; then nothing has changed.
    pub(super) fn take_fast(&mut self) -> bool {
        match self.client.input().first() {
            Some(&tag::QUERY) => self.take_query().is_some(),
            Some(&(tag::PARSE | tag::BIND)) => self.take_segment_fast().is_some(),
            _ => false,
        }
    }

    fn take_query(&mut self) -> Option<()> {
        let limit = self.topology.config.limits.client_message.bytes();
        let Ok(Next::Whole(frame)) = frame::next(self.client.input(), limit) else {
            return None;
        };
        let length = frame.bytes.len();
        if !self.is_informed() {
            return None;
        }
        let context = self.planning_context();
        let message = &self.client.input()[..length];
        let sql = frontend::query(&message[HEADER..]).ok()?;
        // As it came, it must be what the general path would write.
        if sql.len() + HEADER + 1 != length || self.check_text(sql).is_err() {
            return None;
        }
        let shaped = self.core.shapes.known(sql, self.standard_strings())?;
        if !shaped.entry.step().is_some_and(Step::only_reads) {
            return None;
        }
        let shard = match (&self.world, &context) {
            (Some(world), Some(context)) => {
                let Known::Plan(known) = shaped.entry.plan(world.version, context, &[]) else {
                    return None;
                };
                let text = shaped.span.of(sql);
                if !known.serves_every_text()
                    && !world
                        .planner()
                        .serves(&known, std::str::from_utf8(text).ok()?)
                {
                    return None;
                }
                let params = Params {
                    literals: Literals::new(text, &shaped.literals),
                    ..Params::NONE
                };
                let map = world.map();
                plan::reading_shard(&known.plan, &params, map, &self.text_context())?.index()
            }
            _ => self.topology.home,
        };
        let mut fast = self.lease_fast(shard)?;
        shaped.entry.use_again()?;
        fast.lease.notes.unnamed = None;
        fast.lease.wire.send(&self.client.input()[..length]);
        fast.lease.ledger.push(Owed::Query(Audience::Client));
        self.state.names.drop_unnamed();
        let sent = self.state.tally.fast(shard, length, false, false);
        self.took_fast(fast, length, sent);
        Some(())
    }

    fn take_segment_fast(&mut self) -> Option<()> {
        let limit = self.topology.config.limits.client_message.bytes();
        let length = segment::length(self.client.input(), limit)?;
        if !self.is_informed() {
            return None;
        }
        let context = self.planning_context();
        let segment = Segment::read(&self.client.input()[..length])?;
        let (statement, needs) = match &segment.parse {
            Some(parse) => {
                self.check_text(parse.sql).ok()?;
                self.check_room(parse.name, parse.sql).ok()?;
                (self.statement(parse), Needs::Nothing)
            }
            None => {
                let name = segment.bind.statement;
                let needs = match name.is_empty() {
                    true => Needs::Unnamed,
                    false => Needs::Named,
                };
                (Rc::clone(self.state.names.get(name)?), needs)
            }
        };
        let [step] = statement.steps.as_slice() else {
            return None;
        };
        if !step.only_reads() || statement.runs.is_some() {
            return None;
        }
        let shard = match (&self.world, &context) {
            (Some(world), Some(context)) => self.reader(&segment, &statement, world, context)?,
            _ => self.topology.home,
        };
        if let (Some(parse), Some(oids)) = (&segment.parse, self.oids(shard))
            && *oids.on_shard(parse.types) != *parse.types
        {
            return None;
        }
        let (parses, describes) = (segment.parse.is_some(), segment.describes);
        let mut fast = self.lease_fast(shard)?;
        let notes = &mut fast.lease.notes;
        match needs {
            Needs::Nothing => notes.unnamed = Some(statement.id),
            Needs::Unnamed if notes.unnamed == Some(statement.id) => {}
            Needs::Named if notes.prepared.touch(statement.id) => {}
            // The connection goes back.
            Needs::Unnamed | Needs::Named => return None,
        }
        let bytes = &self.client.input()[..length];
        match needs {
            Needs::Nothing | Needs::Unnamed => fast.lease.wire.send(bytes),
            Needs::Named => {
                let segment = Segment::read(bytes)?;
                fast.lease.wire.with_output(|out| {
                    segment.bind.put_as(out, statement.server_name().as_bytes());
                    out.extend_from_slice(segment.tail);
                });
            }
        }
        let ledger = &mut fast.lease.ledger;
        if parses {
            ledger.push(Owed::Parse(0, Audience::Client));
        }
        ledger.push(Owed::Bind(Audience::Client));
        if describes {
            ledger.push(Owed::DescribePortal(Audience::Client));
        }
        ledger.push(Owed::Execute(Audience::Client));
        ledger.push(Owed::Sync(Audience::Client));
        if parses {
            self.state.names.define(b"", statement, context);
        }
        let sent = self.state.tally.fast(shard, length, parses, true);
        self.took_fast(fast, length, sent);
        Some(())
    }

    /// Whether the newest configuration and knowledge of the database are at hand, and no rule is to be asked.
    fn is_informed(&mut self) -> bool {
        self.state.tally.begin();
        // Which rules fit is known only of the present configuration.
        let informed = self.is_up_to_date() && self.rules.is_idle();
        if informed {
            self.heed_none();
        }
        informed
    }

    /// What plans depend on, if anything is planned.
    fn planning_context(&mut self) -> Option<Rc<PlanContext>> {
        self.world.is_some().then(|| self.context())
    }

    /// The shard of a bound statement, if its plan is known and leads to one.
    fn reader(
        &self,
        segment: &Segment<'_>,
        statement: &Prepared,
        world: &Arc<World>,
        context: &Rc<PlanContext>,
    ) -> Option<usize> {
        let plan = statement.known_plan(world.version, context)?;
        let values = segment.bind.values();
        let formats: SmallVec<[i16; FEW]> = values.map(|(format, _)| format).collect();
        let values = segment.bind.values();
        let values: SmallVec<[Option<&[u8]>; FEW]> = values.map(|(_, value)| value).collect();
        let params = Params {
            formats: &formats,
            values: &values,
            literals: statement.literals(),
        };
        let shard = plan::reading_shard(&plan, &params, world.map(), &self.text_context())?;
        Some(shard.index())
    }

    /// A connection that has all that the session has, if one lies idle. A shard with replicas is left to the general
    /// path, which chooses among them.
    fn lease_fast(&mut self, shard: usize) -> Option<Fast> {
        const ALONE: usize = 0;
        if self.topology.shards[shard].servers.len() != 1 || self.core.shared.doubts.count() != 0 {
            return None;
        }
        let pool = self.known_pool(shard, ALONE)?;
        let mut lease = pool.try_lease_at(self.state.tally.begun())?;
        let outside = self.state.settings.outside();
        if !Arc::ptr_eq(&lease.notes.settings, outside) {
            if *lease.notes.settings != **outside {
                return None;
            }
            // Equal lists become one, which is compared faster.
            lease.notes.settings = Arc::clone(outside);
        }
        if !self.state.told.is_same(&mut lease.parameters) {
            return None;
        }
        lease.standing.set_borrower(self.number);
        let counted = self.topology.health.begin(shard, ALONE);
        // What is known to be a single read says how busy the server is.
        let measured = self.world.is_some();
        let flight = counted.map(|counted| Flight::new(counted, measured));
        Some(Fast {
            shard,
            server: ALONE,
            lease,
            flight,
            passed: false,
        })
    }

    /// The request was sent; `length` bytes of the input were it.
    fn took_fast(&mut self, mut fast: Fast, length: usize, sent: Instant) {
        self.entry.pulse.begin(Doing::Running);
        let lease = &fast.lease;
        let endpoint = lease.pool().opener().endpoint().clone();
        let target = (endpoint, Arc::clone(&lease.cancel));
        self.entry.working.borrow_mut().push(target);
        let limit = Arc::as_ptr(lease.pool().limit()) as usize;
        self.entry.limits.borrow_mut().push(limit);
        if let Some(flight) = &mut fast.flight {
            flight.take_off_at(fast.lease.notes.warm, || sent);
        }
        self.client.consume(length);
        self.fast = Some(fast);
    }
}

impl Step {
    /// Whether it does nothing but read, as far as tokens can prove, and leaves nothing behind for the session.
    fn only_reads(&self) -> bool {
        use crate::session::step::{Defines, Kind};
        use crate::session::temporary::Makes;
        self.reads_only
            && !self.writes
            && self.calls.is_empty()
            && matches!(self.kind, Kind::Plain)
            && self.pins.is_empty()
            && self.unpins.is_empty()
            && !self.changes_schema
            && !self.moves_sequence
            && !self.copy_in
            && self.defines == Defines::Nothing
            && matches!(self.makes, Makes::Nothing)
            && self.explains.is_none()
            && self.name_span.is_none()
    }
}
