//! Serves a whole segment at once, if it has one statement that runs once, on one shard, outside of any transaction.
//!
//! Most clients send little else. The handlers of the single messages then have nothing to do that matters: nothing is
//! open, held, pinned or postponed. So the segment is planned as a whole and goes to its server in one piece.
//! Decisions, and what the session and the server's ledger know afterwards, are the same as with the handlers. Any
//! other segment is left to them, and so is one whose statement the router would refuse or has to ask a server about.
//! Until a server is requested, nothing has changed.

use crate::core::clock::Doing;
use crate::core::lists::{Describing, Outcome};
use crate::session::choose::Wants;
use crate::session::dispatch::Dispatch;
use crate::session::repeat::Again;
use crate::session::servers::AttachedId;
use crate::session::state::{Block, Phase};
use crate::session::touched::Parts;
use crate::session::{Halt, Session};
use crate::statements::names::Prepared;
use crate::statements::step::Kind;
use mothership_plan::Plan;
use mothership_proto::frontend::{Parse, tag};
use mothership_proto::ledger::Audience;
use mothership_proto::segment::{self, Segment};
use mothership_shardmap::ShardId;
use std::rc::Rc;

/// Where the statement of a segment goes.
struct SegmentRoute {
    statement: Rc<Prepared>,
    shard: ShardId,
    writes: bool,
    parts: Option<Parts>,
}

impl Session {
    /// Serves the segment at the beginning of the input, if this file can. False if it cannot, or if the segment has
    /// not arrived in full; then nothing was taken from the input.
    pub(in crate::session) async fn take_segment(&mut self) -> Result<bool, Halt> {
        let first = self.client.input().first();
        if !matches!(first, Some(&(tag::PARSE | tag::BIND))) || !self.is_free() {
            return Ok(false);
        }
        let limit = self.topology.config.limits.client_message.bytes();
        let Some(length) = segment::length(self.client.input(), limit) else {
            return Ok(false);
        };
        let mut bytes = self.core.take_scratch();
        bytes.extend_from_slice(&self.client.input()[..length]);
        self.request.again = Again::Never;
        let taken = match Segment::read(&bytes) {
            Some(segment) => self.on_segment(&segment, &bytes).await,
            None => Ok(false),
        };
        match taken {
            Ok(true) => {
                self.client.consume(length);
                self.keep_request(bytes);
            }
            _ => self.core.give_scratch(bytes),
        }
        taken
    }

    /// Whether nothing that came before affects what comes now.
    pub(in crate::session) fn is_free(&self) -> bool {
        self.state.phase == Phase::Idle
            && self.state.block == Block::None
            && self.servers.is_empty()
            && self.state.pins.is_empty()
            && !self.is_session_mode()
            && !self.transaction.implicit
            && !self.state.skipping
            && self.request.held.is_none()
            && self.transaction.waiting_command.is_none()
            && self.transaction.changing.is_none()
    }

    async fn on_segment(&mut self, segment: &Segment<'_>, bytes: &[u8]) -> Result<bool, Halt> {
        self.entry.pulse.begin(Doing::Running);
        self.state.tally.begin();
        let Some(way) = self.way_of(segment) else {
            return Ok(false);
        };
        // From here on the segment is taken.
        self.state.phase = Phase::Segment;
        let up_to_bind = bytes.len() - segment.tail.len();
        if let Some(parse) = &segment.parse {
            let length = up_to_bind - bind_length(segment);
            self.state.tally.took(tag::PARSE, length);
            let context = self.known.model.is_some().then(|| self.context());
            let statement = Rc::clone(&way.statement);
            self.state.names.define(parse.name, statement, context);
        }
        self.state.tally.took(tag::BIND, bind_length(segment));
        let sent = match self.ask_for_server(segment, &way).await {
            Ok(at) => self.send_segment(at, segment, &way, bytes).await,
            Err(halt) => Err(halt),
        };
        if let Err(halt) = sent {
            // The messages after Bind are left in the input, to be skipped.
            self.client.consume(up_to_bind);
            return Err(halt);
        }
        Ok(true)
    }

    /// Where the statement goes. `None` if the handlers have to serve the segment.
    fn way_of(&mut self, segment: &Segment<'_>) -> Option<SegmentRoute> {
        // The rules that match are known only for the current configuration.
        if !self.is_up_to_date() || !self.rules.is_idle() {
            return None;
        }
        self.heed_none();
        let statement = match &segment.parse {
            Some(parse) => {
                self.topology.check_text(parse.sql).ok()?;
                self.check_room(parse.name, parse.sql).ok()?;
                self.statement(parse)
            }
            None => {
                let statement = self.state.names.get(segment.bind.statement)?;
                self.as_it_runs(statement).ok()?
            }
        };
        let [step] = statement.steps.as_slice() else {
            return None;
        };
        let plain = step.kind == Kind::Plain && !step.changes_schema && !step.copy_in;
        // For such a statement the router may have to write another Parse.
        let plain = plain && !step.processes && !step.notifies;
        if !plain || statement.runs.is_some() || self.must_look_through(&statement) {
            return None;
        }
        if self.runs_code_unseen(&statement) {
            return None;
        }
        if self.sets_out_of_sight(&statement) {
            return None;
        }
        self.state.mind_numbers(&statement);
        self.check_steps(&statement.steps).ok()?;
        let plan = match self.plan_by_known(&statement, 0).ok()? {
            Some((_, true)) => return None,
            Some((plan, false)) if matches!(&*plan, Plan::Refuse(_) | Plan::Guarded(_)) => {
                return None;
            }
            Some((plan, false)) => Some(plan),
            None => None,
        };
        match self.dispatch_bind(&segment.bind, &statement, plan).ok()? {
            Dispatch::One {
                shard,
                writes,
                parts,
            } => Some(SegmentRoute {
                statement,
                shard,
                writes,
                parts,
            }),
            Dispatch::Many(_) | Dispatch::Gather(_) => None,
        }
    }

    async fn ask_for_server(
        &mut self,
        segment: &Segment<'_>,
        way: &SegmentRoute,
    ) -> Result<AttachedId, Halt> {
        let wants = match (&self.known.model, &segment.parse) {
            // If the handlers served it, its Parse would have gone to the primary already.
            (None, Some(_)) => Wants::Primary,
            _ => self.wants(way.writes, &way.statement.steps, way.parts.as_ref()),
        };
        // If the segment were sent again, its named statement would be defined twice.
        let named = segment.parse.as_ref().is_some_and(|p| !p.name.is_empty());
        self.request.again = match named {
            true => Again::Never,
            false => Again::of(&wants, way.writes),
        };
        self.attach_to(way.shard, wants).await
    }

    async fn send_segment(
        &mut self,
        at: AttachedId,
        segment: &Segment<'_>,
        way: &SegmentRoute,
        bytes: &[u8],
    ) -> Result<(), Halt> {
        let statement = &way.statement;
        let name = match segment.parse {
            Some(_) => String::new(),
            None => {
                let name = segment.bind.statement;
                self.on_server(at, name, statement).await?
            }
        };
        self.log_statement(&statement.sql);
        let may_write = self.known.may_write(&statement.steps);
        let crate::session::Attached { lease, inbox, .. } = &mut self.servers[at];
        match &segment.parse {
            // The server uses the same name, and its types have the same object ids.
            Some(_) if inbox.oids.is_none() => {
                lease.segment_as_sent(bytes, Some(statement.id), segment.describes);
            }
            Some(parse) => {
                let types = &inbox.types_on_shard(parse.types);
                lease.request(Audience::Client, |send| {
                    send.parse_numbered(&Parse { types, ..*parse }, statement.id);
                    send.bind_as(&segment.bind, b"");
                    send.tail_as_sent(segment.tail, segment.describes);
                });
            }
            None => lease.request(Audience::Client, |send| {
                send.bind_as(&segment.bind, name.as_bytes());
                send.tail_as_sent(segment.tail, segment.describes);
            }),
        }
        if segment.describes {
            inbox.describing.push_back(Describing::Portal);
        }
        inbox.in_segment = true;
        inbox.wrote |= way.writes;
        inbox.may_write |= may_write;
        if way.writes || may_write {
            inbox.touched.add(way.parts.as_ref());
        }
        inbox
            .outcomes
            .push_back(Outcome::Of(Rc::clone(statement), 0));
        self.state.tally.took_more(segment.tail.len());
        self.servers.active = Some(at);
        self.state.phase = Phase::Syncing;
        Ok(())
    }
}

/// The length of the Bind message as the client sent it.
fn bind_length(segment: &Segment<'_>) -> usize {
    let names = segment.bind.portal.len() + segment.bind.statement.len() + 2;
    mothership_proto::frame::HEADER + names + segment.bind.rest.len()
}
