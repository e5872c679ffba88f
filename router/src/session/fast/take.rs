//! Which requests are for the fast path, and where they go.

use crate::config::LogStatements;
use crate::model::DatabaseModel;
use crate::session::Session;
use crate::session::knowledge::Knowledge;
use crate::session::large::{LARGE, SHAPED};
use crate::session::time::asks_no_time;
use crate::statements::names::Prepared;
use crate::statements::shapes::{Entry, Known};
use crate::statements::step::Step;
use mothership_plan::{self, Literals, Merge, Params, PlanContext, ReadRoute};
use mothership_proto::frame::{self, HEADER, Next};
use mothership_proto::frontend::{self, tag};
use mothership_proto::segment::{self, Segment};
use mothership_shardmap::{ShardId, ShardSet};
use smallvec::SmallVec;
use std::rc::Rc;
use std::sync::Arc;

/// So many parameters cost no allocation.
const FEW: usize = 8;

/// Where a request goes.
pub(super) enum Reach {
    /// To one shard.
    One(ShardId),
    /// To several, whose answers make one.
    Over(ShardSet, Merge),
}

/// A request that is recognised; its bytes are the first of the input.
pub(super) struct Request {
    /// Its bytes.
    pub length: usize,
    /// What it is.
    pub kind: Kind,
    /// By which knowledge it was recognised.
    model: Option<u64>,
}

/// What a request is.
pub(super) enum Kind {
    /// A simple query of this shape.
    Query(Rc<Entry>),
    /// A whole segment of one statement.
    Segment {
        /// What the server must have.
        needs: Needs,
        /// It has a Describe of its portal.
        describes: bool,
        /// Its statement.
        statement: Rc<Prepared>,
    },
}

/// What a server must have prepared for a Bind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing: Parse goes before it.
    Nothing,
    /// The statement in the unnamed slot.
    Unnamed,
    /// The statement under our name.
    Named,
}

impl Knowledge {
    /// Which knowledge plans are made from.
    fn model_version(&self) -> Option<u64> {
        self.model.as_ref().map(|model| model.version)
    }

    fn recognised(&self, length: usize, kind: Kind) -> Request {
        Request {
            length,
            kind,
            model: self.model_version(),
        }
    }
}

impl Session {
    /// Whether nothing of before, and nobody else, has a say in what comes now.
    pub(super) fn may_go_fast(&self) -> bool {
        self.is_free()
            && !self.state.untold.get()
            && self.state.notifications.get().is_none()
            && !self.core.suspended.get()
            && self.core.shared.doubts.count() == 0
            && !self.core.shared.is_changing()
            && self.is_as_begun()
            && self.must_go().is_none()
            && self.topology.config.logging.statements == LogStatements::Off
            && self.client.unsent() <= self.most_unsent()
    }

    /// The request at the beginning of the input, if it is for the fast path and there whole.
    pub(super) fn recognise(&mut self) -> Option<(Reach, Request)> {
        match self.client.input().first() {
            Some(&tag::QUERY) => self.recognise_query(),
            Some(&(tag::PARSE | tag::BIND)) => self.recognise_segment(),
            _ => None,
        }
    }

    fn recognise_query(&mut self) -> Option<(Reach, Request)> {
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
        if sql.len() + HEADER + 1 != length || self.topology.check_text(sql).is_err() {
            return None;
        }
        if sql.len() > SHAPED {
            return None;
        }
        let shaped = self.core.shapes.known(sql, self.standard_strings())?;
        if !shaped.entry.step().is_some_and(Step::only_reads)
            || self.text_runs_code_unseen(sql, &shaped)
        {
            return None;
        }
        let reach = match (&self.known.model, &context) {
            (Some(model), Some(context)) => {
                let Known::Plan(known) = shaped.entry.plan(model.version, context, &[]) else {
                    return None;
                };
                let own = shaped.span.of(sql);
                self.topology.check_length(own).ok()?;
                let text = || std::str::from_utf8(own).ok();
                if !known.serves_every_text() && !model.planner().is_valid_for(&known, text()?) {
                    return None;
                }
                let params = Params {
                    literals: Literals::new(own, &shaped.literals),
                    ..Params::NONE
                };
                match mothership_plan::reading(
                    &known.plan,
                    &params,
                    model.map(),
                    &self.state.text_context(),
                )? {
                    ReadRoute::One(shard) => Reach::One(there(model, shard)?),
                    ReadRoute::Over(shards, merge) => {
                        for shard in shards.iter() {
                            there(model, shard)?;
                        }
                        let strings = self.standard_strings();
                        if !asks_no_time(&shaped, (text()?, strings), model) {
                            return None;
                        }
                        Reach::Over(shards, merge.clone())
                    }
                }
            }
            _ => Reach::One(self.topology.home),
        };
        let kind = Kind::Query(shaped.entry);
        Some((reach, self.known.recognised(length, kind)))
    }

    fn recognise_segment(&mut self) -> Option<(Reach, Request)> {
        let limit = self.topology.config.limits.client_message.bytes();
        let length = segment::length(self.client.input(), limit)?;
        if !self.is_informed() {
            return None;
        }
        let context = self.planning_context();
        let segment = Segment::read(&self.client.input()[..length])?;
        let (statement, needs) = match &segment.parse {
            // It is read beside the loop first.
            Some(parse) if parse.sql.len() > LARGE => return None,
            Some(parse) => {
                self.topology.check_text(parse.sql).ok()?;
                self.check_room(parse.name, parse.sql).ok()?;
                (self.statement(parse), Needs::Nothing)
            }
            None => {
                let name = segment.bind.statement;
                let needs = match name.is_empty() {
                    true => Needs::Unnamed,
                    false => Needs::Named,
                };
                let statement = self.state.names.get(name)?;
                (self.as_it_runs(statement).ok()?, needs)
            }
        };
        let [step] = statement.steps.as_slice() else {
            return None;
        };
        if !step.only_reads() || statement.runs.is_some() || self.must_look_through(&statement) {
            return None;
        }
        if self.runs_code_unseen(&statement) {
            return None;
        }
        let shard = match (&self.known.model, &context) {
            (Some(model), Some(context)) => self.reader(&segment, &statement, model, context)?,
            _ => self.topology.home,
        };
        if let (Some(parse), Some(oids)) = (&segment.parse, self.known.oids(shard))
            && *oids.on_shard(parse.types) != *parse.types
        {
            return None;
        }
        let kind = Kind::Segment {
            needs,
            describes: segment.describes,
            statement,
        };
        Some((Reach::One(shard), self.known.recognised(length, kind)))
    }

    /// Whether what a request was recognised by still holds.
    pub(super) fn still_holds(&mut self, request: &Request) -> bool {
        self.may_go_fast()
            && self.core.shared.is_current(&self.topology)
            && self.is_informed()
            && self.known.model_version() == request.model
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
    pub(super) fn planning_context(&mut self) -> Option<Rc<PlanContext>> {
        self.known.model.is_some().then(|| self.context())
    }

    /// The shard of a bound statement, if its plan is known and leads to one.
    fn reader(
        &self,
        segment: &Segment<'_>,
        statement: &Prepared,
        model: &Arc<DatabaseModel>,
        context: &Rc<PlanContext>,
    ) -> Option<ShardId> {
        let [step] = statement.steps.as_slice() else {
            return None;
        };
        let sql = step.span.of(&statement.sql);
        self.topology.check_length(sql).ok()?;
        let strings = context.standard_conforming_strings;
        let sql = std::str::from_utf8(sql).ok()?;
        if statement.may_leave_or_show(step, sql, model, strings) {
            return None;
        }
        let plan = statement.known_plan(model, context)?;
        let values = segment.bind.values();
        let formats: SmallVec<[i16; FEW]> = values.map(|(format, _)| format).collect();
        let values = segment.bind.values();
        let values: SmallVec<[Option<&[u8]>; FEW]> = values.map(|(_, value)| value).collect();
        let params = Params {
            formats: &formats,
            values: &values,
            literals: statement.literals(),
        };
        match mothership_plan::reading(&plan, &params, model.map(), &self.state.text_context())? {
            ReadRoute::One(shard) => there(model, shard),
            ReadRoute::Over(..) => None,
        }
    }
}

/// A shard, unless nothing is known of it: what is to be done then, the general path says.
fn there(model: &DatabaseModel, shard: ShardId) -> Option<ShardId> {
    model.why_away(shard).is_none().then_some(shard)
}

impl Step {
    /// Whether it does nothing but read, as far as tokens can prove, and leaves nothing behind for the session.
    fn only_reads(&self) -> bool {
        use crate::statements::step::{Defines, Kind};
        use crate::statements::temporary::CreatesTemporary;
        self.reads_only
            && !self.writes
            && self.calls.is_empty()
            && matches!(self.kind, Kind::Plain)
            && self.pins.is_empty()
            && self.unpins.is_empty()
            && !self.changes_schema
            && !self.moves_sequence
            && !self.copy_in
            && !self.processes
            && self.defines == Defines::Nothing
            && matches!(self.makes, CreatesTemporary::Nothing)
            && self.explains.is_none()
            && self.name_span.is_none()
    }
}
