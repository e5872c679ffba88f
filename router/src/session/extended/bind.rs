//! Bind: the parameters say which shard a portal is on, or which ones.

use super::ManyPortal;
use crate::core::lists::Describing;
use crate::session::bind_count;
use crate::session::choose::Wants;
use crate::session::dispatch::{Dispatch, Many};
use crate::session::execute::{arguments, unknown_name};
use crate::session::explain::Explaining;
use crate::session::gather::without_position;
use crate::session::inbox::Notices;
use crate::session::many::first_error;
use crate::session::portals::{Place, Portal, Progress, duplicate};
use crate::session::process;
use crate::session::room::over_limit;
use crate::session::rules::RuleStage;
use crate::session::servers::AttachedId;
use crate::session::simple::named::{no_such_statement, prepared_over_shards};
use crate::session::sorted::{unlike_the_plan, visible};
use crate::session::state::{Block, State};
use crate::session::touched::Parts;
use crate::session::turns::Order;
use crate::session::{Halt, Session, malformed};
use crate::statements::errors::with_name;
use crate::statements::names::{Origin, Prepared};
use crate::statements::step::{Kind, Step};
use mothership_plan::{Merge, Params, Plan, Split, SplitRows};
use mothership_proto::backend::{self, Column};
use mothership_proto::frontend::{self, Bind, Target};
use mothership_proto::ledger::{Audience, Event};
use mothership_proto::report::{Report, sqlstate};
use mothership_shardmap::ShardId;
use smallvec::SmallVec;
use std::rc::Rc;

/// So many parameters cost no allocation.
const FEW: usize = 8;

impl State {
    /// What the client is told where Bind has failed on these shards.
    fn first_failure(
        &self,
        many: &Many,
        sql: &[u8],
        failed: Vec<(usize, Vec<u8>)>,
    ) -> Option<Vec<u8>> {
        let first = if many.is_written() {
            let characters = self.told.characters();
            first_error(many, sql, characters, failed.into_iter())
        } else {
            failed.into_iter().next()
        };
        let (_, body) = first?;
        // The client's own text was parsed before.
        Some(match many.sorted() {
            Some(_) => without_position(&body),
            None => body,
        })
    }
}

impl Session {
    pub(in crate::session) async fn on_bind(&mut self, body: &[u8]) -> Result<(), Halt> {
        self.begin_segment().await?;
        self.await_earlier().await?;
        self.transaction.bound.check_unlocked()?;
        let bind = Bind::read(body).map_err(malformed)?;
        let Some(statement) = self.state.names.get(bind.statement).cloned() else {
            self.flush_held().await?;
            return Err(no_such_statement(bind.statement).into());
        };
        let statement = self.as_it_runs(&statement)?;
        if !bind.portal.is_empty() {
            self.check_name(bind.portal, &statement).await?;
        }
        self.settle_names_for(statement.step().map(|step| &step.kind))
            .await?;
        let own = statement;
        let statement = self.meant(&own)?;
        self.let_changes_go(&statement).await?;
        self.look_through(&statement).await;
        if self.heed_named_settings(&statement) {
            self.settle_active().await?;
            self.see_session().await?;
        }
        self.heed(&statement, RuleStage::Runs).await?;
        self.mind_commit(&statement).await?;
        self.mind_code(&statement);
        self.leave_databases(&statement).await;
        let executed = self.executed_bind(&bind, &own, &statement).await?;
        let executes = executed.is_some().then(|| Rc::clone(&statement));
        let (statement, bind) = match &executed {
            Some((body, bound)) => (Rc::clone(body), Bind::read(bound).map_err(malformed)?),
            None => (statement, bind),
        };
        let numbered = self.numbered_bind(&statement).await?;
        let statement = match &numbered {
            Some((numbered, written)) => {
                self.request.written = Some(Rc::clone(written));
                Rc::clone(numbered)
            }
            None => statement,
        };
        self.find_numbers(&statement).await?;
        let filled = self.filled_bind(&bind, &statement).await?;
        let (statement, bind) = match &filled {
            Some((filled, body, written)) => {
                self.request.written = Some(Rc::clone(written));
                (Rc::clone(filled), Bind::read(body).map_err(malformed)?)
            }
            None => (statement, bind),
        };
        let signalled = self.signalled_bind(&bind, &statement).await?;
        let statement = signalled.unwrap_or(statement);
        if filled.is_none() && numbered.is_none() {
            self.request.written = process::origin(&statement);
        }
        let mut parts = None;
        let place = if let Some(inner) = self.state.explained_by(&statement)? {
            Box::pin(self.bind_explain(&bind, &statement, inner)).await?
        } else if unknown_name(&statement).is_some()
            || statement.step().is_some_and(|s| self.runs_here(&s.kind))
        {
            self.flush_held().await?;
            bind_count::check(&bind, 0)?;
            self.state.check_failed(&statement)?;
            self.answer(backend::BIND_COMPLETE);
            Place::Here
        } else {
            self.bind_on_servers(&bind, &statement, &mut parts).await?
        };
        let portal = Portal {
            statement,
            place,
            parts,
            executes,
            events: self.state.history.events().len(),
            progress: Progress::Ready,
        };
        self.state.portals.bind(bind.portal, portal);
        self.transaction.bound.add();
        Ok(())
    }

    /// Fails if a portal of this name cannot be made.
    async fn check_name(&mut self, name: &[u8], statement: &Prepared) -> Result<(), Halt> {
        self.settle_names().await?;
        if self.state.portals.get(name).is_some() {
            self.flush_held().await?;
            self.state.check_failed(statement)?;
            return Err(duplicate(name).into());
        }
        let most = self.topology.config.limits.client_portals.get() as usize;
        match self.state.portals.count() < most {
            true => Ok(()),
            false => Err(over_limit(
                format!("a client may have {most} portals"),
                "limits.client_portals",
            )
            .into()),
        }
    }

    /// Whether it is an INSERT that can only be divided when a server has said of which types its parameters are.
    fn lacks_types(&mut self, statement: &Rc<Prepared>) -> bool {
        let (Some(model), [step], Origin::Parse(_)) = (
            self.known.model.clone(),
            statement.steps.as_slice(),
            &statement.origin,
        ) else {
            return false;
        };
        let Ok(sql) = std::str::from_utf8(step.span.of(&statement.sql)) else {
            return false;
        };
        match self
            .plan(statement, 0, sql, &model)
            .as_deref()
            .map(Plan::unguarded)
        {
            Ok(Plan::Split(Split {
                rows: SplitRows::Values {
                    parameter_types, ..
                },
                ..
            })) => parameter_types.contains(&0),
            _ => false,
        }
    }

    async fn bind_on_servers(
        &mut self,
        bind: &Bind<'_>,
        mut statement: &Rc<Prepared>,
        parts: &mut Option<Parts>,
    ) -> Result<Place, Halt> {
        let typed;
        self.check_steps(&statement.steps)?;
        if let Some(runs) = &statement.runs {
            self.check_steps(&runs.body.steps)?;
        }
        if let Some(explaining) = self.explaining_bind(bind, statement).await? {
            return Box::pin(self.bind_explaining(bind, statement, explaining)).await;
        }
        self.look_for_prepared(statement, 0).await?;
        self.look_for_cursor(statement.step().map(|step| &step.kind))
            .await?;
        match &statement.runs {
            Some(runs) => self.ask_rights(&runs.body, 0).await?,
            None => self.ask_rights(statement, 0).await?,
        }
        let dispatched = match self.dispatch_bind(bind, statement, None) {
            Err(Halt::Fail(_)) if self.lacks_types(statement) => {
                self.flush_held().await?;
                self.settle_active().await?;
                self.join_segment(Some(self.topology.home), true).await?;
                typed = Box::pin(self.typed(statement)).await?;
                statement = &typed;
                self.dispatch_bind(bind, statement, None)?
            }
            dispatched => dispatched?,
        };
        if !matches!(dispatched, Dispatch::One { .. }) {
            self.check_described(statement).await?;
        }
        let (shard, writes) = match dispatched {
            Dispatch::One {
                shard,
                writes,
                parts: touched,
            } => {
                // An EXECUTE has more in its text than its body's plan knows.
                *parts = touched.filter(|_| statement.runs.is_none());
                (shard, writes)
            }
            Dispatch::Many(many) => return Box::pin(self.bind_many(bind, statement, *many)).await,
            Dispatch::Gather(work) => {
                self.settle_active().await?;
                self.join_segment(None, work.writes()).await?;
                if work.writes() {
                    let portal = Box::pin(self.bind_gathered_write(bind, statement, *work)).await?;
                    return Ok(Place::Gathered(Rc::new(portal)));
                }
                let shard = Box::pin(self.bind_gather(bind, statement, &work)).await?;
                return Ok(Place::Shard(shard));
            }
        };
        let parts = parts.as_ref();
        self.bind_on(bind, statement, (shard, writes, parts)).await
    }

    /// The EXPLAIN that a statement is with these parameters, if what it explains needs several shards.
    async fn explaining_bind(
        &mut self,
        bind: &Bind<'_>,
        statement: &Rc<Prepared>,
    ) -> Result<Option<Explaining>, Halt> {
        let Some(step) = statement.step().filter(|step| step.explains.is_some()) else {
            return Ok(None);
        };
        let (formats, values): (Vec<i16>, Vec<Option<&[u8]>>) = bind.values().unzip();
        let params = Params {
            formats: &formats,
            values: &values,
            ..Params::NONE
        };
        self.explaining(statement, step, &params).await
    }

    /// Binds on one shard.
    async fn bind_on(
        &mut self,
        bind: &Bind<'_>,
        statement: &Rc<Prepared>,
        (shard, writes, parts): (ShardId, bool, Option<&Parts>),
    ) -> Result<Place, Halt> {
        let sets = |step: &Step| matches!(step.kind, Kind::Settings(_) | Kind::LocalConfig(_));
        let sets = statement.step().is_some_and(sets);
        self.servers
            .check_second_set(&self.topology, shard, writes)?;
        self.join_segment(Some(shard), writes || sets).await?;
        let wants = self.wants(writes, &statement.steps, parts);
        if matches!(wants, Wants::FreshRead(_)) && self.is_alone_in_segment(bind.portal) {
            // What follows for this segment finds it attached.
            self.attach_to(shard, wants).await?;
        }
        match self.request.held.take() {
            Some((name, held)) if *name == *bind.statement => {
                let at = self.attach(shard).await?;
                self.parse_on(at, &name, &held).await?
            }
            other => {
                self.request.held = other;
                self.flush_held().await?;
            }
        }
        let at = self.attach(shard).await?;
        let name = self.on_server(at, bind.statement, statement).await?;
        let attached = &mut self.servers[at];
        attached.inbox.in_segment = true;
        attached.inbox.wrote |= writes;
        if writes && !statement.is_control() {
            attached.inbox.touched.add(parts);
        }
        let lease = &mut attached.lease;
        lease.request(Audience::Client, |send| {
            send.bind_as(bind, name.as_bytes());
        });
        Ok(Place::Shard(shard))
    }

    /// Where a statement goes with the parameters of a Bind; `plan` if it was looked up for this very run.
    pub(super) fn dispatch_bind(
        &mut self,
        bind: &Bind<'_>,
        statement: &Rc<Prepared>,
        plan: Option<Rc<Plan>>,
    ) -> Result<Dispatch, Halt> {
        if self.known.model.is_none() {
            return self.dispatch(statement, 0, &Params::NONE);
        }
        let formats: SmallVec<[i16; FEW]> = bind.values().map(|(format, _)| format).collect();
        let values: SmallVec<[Option<&[u8]>; FEW]> =
            bind.values().map(|(_, value)| value).collect();
        let params = Params {
            formats: &formats,
            values: &values,
            ..Params::NONE
        };
        let Some(runs) = &statement.runs else {
            return self.dispatch_planned(statement, 0, &params, plan);
        };
        // EXECUTE has its arguments in its text.
        let strings = self.standard_strings();
        let Some(arguments) = arguments(&statement.sql, strings, &runs.body) else {
            return Err(prepared_over_shards().into());
        };
        let work = arguments.with(|params| self.dispatch_body(&runs.body, params))?;
        self.check_explained(&statement.sql, &work)?;
        match &work {
            // Each shard would need a text of its own, or a message that is no EXECUTE.
            Dispatch::Many(many)
                if many.copy_in
                    || many.is_step_by_step()
                    || many.password
                    || many.timed
                    || many.legs.iter().any(|(_, text)| text.is_some()) =>
            {
                Err(prepared_over_shards().into())
            }
            Dispatch::Gather(_) => Err(prepared_over_shards().into()),
            _ => Ok(work),
        }
    }

    /// A Bind of an EXECUTE that cannot run as it is written: what it runs, and the body of a Bind of that to the values
    /// of the arguments. `own` is the statement as the client has parsed it.
    async fn executed_bind(
        &mut self,
        bind: &Bind<'_>,
        own: &Rc<Prepared>,
        statement: &Rc<Prepared>,
    ) -> Result<Option<(Rc<Prepared>, Vec<u8>)>, Halt> {
        let (Some(runs), [step]) = (&statement.runs, own.steps.as_slice()) else {
            return Ok(None);
        };
        let (Kind::Execute(name), Some(span)) = (&step.kind, step.name_span) else {
            return Ok(None);
        };
        if self.known.model.is_none() || self.state.explained_by(statement)?.is_some() {
            return Ok(None);
        }
        let whole = self.dispatch_execute(&own.sql, &runs.body);
        if matches!(whole, Ok(Some(_)) | Err(_)) {
            // An error is said again in its turn.
            return Ok(None);
        }
        self.flush_held().await?;
        bind_count::check(bind, 0)?;
        self.check_steps(&own.steps)?;
        self.check_steps(&runs.body.steps)?;
        self.settle_active().await?;
        let plain = arguments(&own.sql, self.standard_strings(), &runs.body).is_some();
        self.join_segment(Some(self.topology.home), !plain).await?;
        let bound = Box::pin(self.bound((&own.sql, span), step, (name, &runs.body))).await?;
        let values = bound.values();
        let results: Vec<i16> = bind.result_formats().collect();
        let mut message = Vec::new();
        let names = (bind.portal, bind.statement);
        frontend::put_bind(&mut message, names, values.iter().copied(), &results);
        // Behind the tag and the length.
        Ok(Some((Rc::clone(&bound.statement), message.split_off(5))))
    }

    /// Binds on every shard of the work at once, and waits for all of them: an error
    /// of one is the error of the Bind.
    async fn bind_many(
        &mut self,
        bind: &Bind<'_>,
        statement: &Rc<Prepared>,
        many: Many,
    ) -> Result<Place, Halt> {
        if many.copy_in || many.is_step_by_step() || many.password {
            self.flush_held().await?;
            // COPY, maintenance and roles have no parameters: they run as simple queries.
            bind_count::check(bind, 0)?;
            self.answer(backend::BIND_COMPLETE);
            return Ok(Place::Many(Rc::new(ManyPortal::new(many, None, false))));
        }
        // Asked before the text itself is sent to a server: what else is in the segment could not be undone.
        let turns = self.turns(&statement.sql, &statement.steps, &many);
        if many.sorted().is_some() {
            // What the shards get is another text: if something is wrong with this one, it is said of this one.
            self.flush_held().await?;
            self.settle_active().await?;
        } else if let Some((_, _held)) = self.request.held.take() {
            // Each server gets it with its own Bind.
            self.answer(backend::PARSE_COMPLETE);
        }
        self.join_segment(None, many.writes).await?;
        let many = match self.lock_without_block(&statement.sql, &many) {
            Some(refused) => refused,
            None => {
                if many.writes {
                    self.transaction.begin_implicit(&mut self.state);
                }
                many
            }
        };
        let wants = match self.is_alone_in_segment(bind.portal) {
            true => self.wants(many.writes, &statement.steps, None),
            false => Wants::Primary,
        };
        self.servers.check_second_set_of(&self.topology, &many)?;
        let many = Box::pin(self.attach_many(statement, many, &wants)).await?;
        // First everything that may wait for a server, then what is asked of all at once, so that of their errors the one
        // that PostgreSQL would tell can be told.
        for (shard, _) in &many.legs {
            self.servers.leave_ahead();
            self.attach_to(*shard, wants.clone()).await?;
        }
        self.settle_active().await?;
        for at in self.servers.ids() {
            if self.servers[at].inbox.ahead > 0 {
                self.settle(at).await?;
            }
        }
        self.servers.active = None;
        if turns.saves() {
            self.servers.begin_saving();
            self.servers.save(&self.state, &many);
        }
        let (columns, shows) = self.bind_and_describe(bind, statement, &many).await?;
        self.client.send(backend::BIND_COMPLETE);
        let mut portal = ManyPortal::new(many, columns, shows);
        portal.turns.set(turns);
        portal.bound_at = self.request.taken;
        if turns.can_undo() {
            let names = [bind.portal, b"\0", bind.statement, b"\0"].concat();
            portal.bind = Some([&names, bind.rest].concat().into());
        }
        Ok(Place::Many(Rc::new(portal)))
    }

    /// Sends the portal to all its servers. Gives what they say to it: the columns that all have in common, and whether a
    /// server has any.
    ///
    /// Bind locks tables. While definitions of these are changed, one shard is asked after the other, as whoever changes
    /// them does.
    async fn bind_and_describe(
        &mut self,
        bind: &Bind<'_>,
        statement: &Rc<Prepared>,
        many: &Many,
    ) -> Result<(Option<Vec<Column>>, bool), Halt> {
        let order = match self.core.shared.is_changing() {
            true => self.order_among_others(&statement.sql),
            false => Order::AT_ONCE,
        };
        let mut found = Vec::new();
        let shards: Vec<ShardId> = many.legs.iter().map(|(shard, _)| *shard).collect();
        let copies = many.merge == Merge::First;
        for legs in self.topology.batches_of(&shards, order, copies) {
            let places = self.bind_legs(bind, statement, (many, &legs), true).await?;
            for (leg, at) in legs.into_iter().zip(places) {
                found.push((leg, at, self.description(at).await?));
            }
        }
        found.sort_by_key(|(leg, ..)| *leg);
        let mut columns: Option<Vec<Column>> = None;
        let mut shows = false;
        let mut failed = Vec::new();
        for (leg, at, found) in found {
            let found = match found {
                Ok(found) => found,
                Err(body) => {
                    failed.push((leg, body));
                    continue;
                }
            };
            let found = match (many.sorted(), found) {
                (Some(plan), Some(found)) => {
                    Some(visible(plan, found).ok_or_else(unlike_the_plan)?)
                }
                (_, found) => found,
            };
            shows |= found.is_some();
            match (&columns, found.unwrap_or_default()) {
                (None, found) => columns = Some(found),
                (Some(first), found) => {
                    let shard = self.servers[at].shard;
                    mothership_merge::reconcile(first, &found)
                        .map_err(|d| Halt::Fail(d.report(&self.topology.shards[shard].name)))?;
                }
            }
        }
        self.servers.active = None;
        if let Some(body) = self.state.first_failure(many, &statement.sql, failed) {
            let named = with_name(&body, bind.statement);
            return Err(self.failed_in_segment(named.as_deref().unwrap_or(&body)));
        }
        Ok((columns, shows))
    }

    /// Sends the portal to the servers of these legs, which are attached, at once. Their answers are owed to the router.
    async fn bind_legs(
        &mut self,
        bind: &Bind<'_>,
        statement: &Rc<Prepared>,
        (many, legs): (&Many, &[usize]),
        describes: bool,
    ) -> Result<Vec<AttachedId>, Halt> {
        let types = many_types(many, statement);
        let mut names = Vec::new();
        for leg in legs {
            let (shard, text) = &many.legs[*leg];
            let at = self.servers.place_of(*shard)?;
            let name = match text {
                None => self.on_server(at, bind.statement, statement).await?,
                Some(text) => {
                    let crate::session::Attached { lease, inbox, .. } = &mut self.servers[at];
                    inbox.in_segment = true;
                    let types = inbox.types_on_shard(&types);
                    lease.request(Audience::Router, |send| {
                        send.parse(text, &types);
                        send.flush();
                    });
                    String::new()
                }
            };
            names.push((at, name));
        }
        let mut places = Vec::new();
        let asked: Vec<i16> = bind.result_formats().collect();
        let formats = many.sorted().map(|sorted| sorted.formats(&asked));
        for (at, name) in names {
            let attached = &mut self.servers[at];
            attached.inbox.in_segment = true;
            attached.inbox.wrote |= many.writes;
            attached.inbox.touched.add(None);
            attached.inbox.notices = Notices::of(legs[places.len()], &many.merge);
            attached.lease.request(Audience::Router, |send| {
                match &formats {
                    Some(formats) => {
                        let values: Vec<_> = bind.values().collect();
                        let names = (bind.portal, name.as_bytes());
                        send.bind(names, values.into_iter(), formats);
                    }
                    None => send.bind_as(bind, name.as_bytes()),
                }
                if describes {
                    send.describe(Target::Portal, bind.portal);
                    send.flush();
                }
            });
            if describes {
                attached.inbox.describing.push_back(Describing::Portal);
            }
            places.push(at);
        }
        Ok(places)
    }

    /// Binds a portal again whose transaction was undone.
    pub(super) async fn bind_again(
        &mut self,
        portal: &ManyPortal,
        statement: &Rc<Prepared>,
    ) -> Result<(), Halt> {
        let Some(body) = &portal.bind else {
            return Err(Halt::Failed);
        };
        let bind = Bind::read(body).map_err(malformed)?;
        for (shard, _) in &portal.many.legs {
            self.servers.leave_ahead();
            self.attach_to(*shard, Wants::Primary).await?;
        }
        self.servers.active = None;
        let all: Vec<usize> = (0..portal.many.legs.len()).collect();
        self.bind_legs(&bind, statement, (&portal.many, &all), false)
            .await?;
        self.servers.active = None;
        Ok(())
    }

    /// Attaches every server of the work before any gets something of it: what they are told and asked then would take
    /// the place of an unnamed statement. The work comes back with its time in its texts.
    async fn attach_many(
        &mut self,
        statement: &Prepared,
        many: Many,
        wants: &Wants,
    ) -> Result<Many, Halt> {
        self.open_snapshots(&many).await?;
        let mut first = None;
        for (shard, _) in &many.legs {
            self.servers.leave_ahead();
            let at = self.attach_to(*shard, wants.clone()).await?;
            self.check_isolation(at, many.legs.len()).await?;
            first.get_or_insert(at);
        }
        let timed = match first {
            Some(at) => self.timed(&many, &statement.sql, at).await?,
            None => None,
        };
        Ok(timed.unwrap_or(many))
    }

    /// The columns of a portal that is being bound and described; `None` if it has no rows. `SELECT FROM t` has rows
    /// without columns.
    pub(super) async fn described(&mut self, at: AttachedId) -> Result<Option<Vec<Column>>, Halt> {
        match self.description(at).await? {
            Ok(columns) => Ok(columns),
            Err(body) => Err(self.failed_in_segment(&body)),
        }
    }

    /// The same; within, the error of the server.
    async fn description(
        &mut self,
        at: AttachedId,
    ) -> Result<Result<Option<Vec<Column>>, Vec<u8>>, Halt> {
        let mut columns = Ok(None);
        let mut error = None;
        self.each_message(at, |frame, reply, _| match (reply.event, frame.tag()) {
            (Event::Failed, _) => {
                error = Some(frame.body().to_vec());
                true
            }
            (Event::Answered, backend::tag::ROW_DESCRIPTION) => {
                columns = backend::columns(frame.body()).map(Some);
                true
            }
            (Event::Answered, backend::tag::NO_DATA) => true,
            _ => false,
        })
        .await?;
        self.servers[at].inbox.describing.pop_front();
        match (error, columns) {
            (Some(body), _) => Ok(Err(body)),
            (None, Ok(columns)) => Ok(Ok(columns)),
            (None, Err(_)) => Err(Report::error(
                sqlstate::INTERNAL_ERROR,
                "server sent a malformed message",
            )
            .into()),
        }
    }

    /// A server's error in the middle of a segment that several servers share.
    pub(in crate::session) fn failed_in_segment(&mut self, body: &[u8]) -> Halt {
        if self.gives_way_to(body) {
            return Halt::Failed;
        }
        let written = self.request.written.as_deref();
        let changed = self.state.error_for_client(body, written);
        let body = changed.as_deref().unwrap_or(body);
        self.client
            .with_output(|out| crate::statements::errors::put_as_error(out, body));
        self.state.note_failure();
        self.state.skipping = true;
        if !self.transaction.implicit && self.state.block == Block::Open {
            self.state.block = Block::Failed;
        }
        Halt::Failed
    }
}

/// The types of the parameters, which rows that are left out can no longer show.
pub(in crate::session) fn many_types(many: &Many, statement: &Prepared) -> Vec<u8> {
    if let Some(types) = &many.parameter_types {
        return types.iter().flat_map(|oid| oid.to_be_bytes()).collect();
    }
    match &statement.origin {
        Origin::Parse(types) => types.to_vec(),
        _ => Vec::new(),
    }
}
