//! Decides where a statement goes: asks for its plan, computes the route, and makes work for servers of it.
//!
//! Without declared tables and without a rule that needs a catalog there is no model, and everything goes to the home
//! shard as it is.

use super::allowed::prepared_refused;
use super::gather::GatherWork;
use super::here::is_common;
use super::knowledge::Knowledge;
use super::own::{Definitions, unknown_definitions};
use super::rules::elsewhere;
use super::state::{Block, State};
use super::touched::Parts;
use super::transact::Transaction;
use super::{Halt, Servers, Session};
use crate::commit::schema::{is_named_in, takes_language};
use crate::metrics::latency::PlanKind;
use crate::model::DatabaseModel;
use crate::statements::names::{Origin, Prepared};
use crate::statements::step::{Kind, Pins, Step};
use crate::topology::Topology;
use mothership_copy::Filler;
use mothership_plan::gather::{Ending, Holders};
use mothership_plan::{
    Course, Literals, LockScope, Merge, NoRoute, Params, Pin, Plan, Reason, Refusal, Role, Route,
    Scatter, SplitRows, parts as touched, route, route::changes_of, route::part_of, slots,
};
use mothership_proto::report::{Report, sqlstate};
use mothership_shardmap::{ShardId, ShardSet};
use mothership_sql::cursor::Span;
use mothership_sql::password::RolePassword;
use mothership_sql::places::{Change, Characters, own_place, place_of_part};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;
use std::sync::Arc;

/// Where one statement goes, and with which text.
pub enum Dispatch {
    /// To one shard, with the client's own text.
    One {
        /// Which.
        shard: ShardId,
        /// It may change something.
        writes: bool,
        /// The parts that it touches there; `None` if it may touch any.
        parts: Option<Parts>,
    },
    /// To several shards. Boxed, because it is large, most statements go to one shard, and a `Dispatch` is moved often.
    Many(Box<Many>),
    /// To one server, with the rows that are fetched from several shards.
    Gather(Box<GatherWork>),
}

/// A shard and the text for it; `None` stands for the client's own text.
type ShardText = (ShardId, Option<Rc<[u8]>>);

/// Work for several shards.
#[derive(Clone)]
pub struct Many {
    /// The shards, in the order in which they are asked, with their texts.
    pub legs: Vec<ShardText>,
    /// How several answers become one.
    pub merge: Merge,
    /// It may change something, so it has to hold on all shards or on none.
    pub writes: bool,
    /// It writes every copy of a reference table, or locks rows of the copy on the home shard.
    pub copies: bool,
    /// Which rows of them it writes depends on others, too.
    pub reads_copies: bool,
    /// It locks whole tables on every shard.
    pub tables: bool,
    /// How a change of definitions goes to its shards.
    pub course: Course,
    /// It gives a role a password, and goes to several clusters: all of them have to store the same verifier.
    pub password: bool,
    /// COPY FROM STDIN.
    pub copy_in: bool,
    /// How the rows of a COPY are divided; `None` if every shard gets all of them.
    pub copy: Option<Rc<mothership_plan::Split>>,
    /// The types of the parameters, if this is a divided INSERT.
    pub parameter_types: Option<Vec<u32>>,
    /// If this is a divided INSERT: for each row of the client's list, the leg that stores it.
    pub order: Option<Rc<[usize]>>,
    /// It asks for the time, which has to be the same on all shards: its texts get the time as a value.
    pub timed: bool,
    /// Where the statement stands in the text that is run.
    pub step: Span,
    /// What is added to each row of a COPY.
    pub(super) filler: Option<Rc<Filler>>,
    /// The plan that says which rows are divided.
    pub(super) divided: Option<Rc<Plan>>,
    /// The plan that says which defaults of new columns ask for the time.
    pub(super) defaults: Option<Rc<Plan>>,
    /// What was changed in each text to write the time into it.
    pub(super) times: Option<Rc<[Vec<Change>]>>,
    /// What its plan was made by.
    pub(super) planned_by: Option<Arc<DatabaseModel>>,
    /// The only shard on which it may change a row: it sets the shard key.
    pub(super) only_on: Option<ShardId>,
}

impl Many {
    /// Whether it goes to one shard after the other, outside of a transaction.
    pub(super) fn is_step_by_step(&self) -> bool {
        self.course != Course::Transaction
    }

    /// Whether other shards than the home shard are told something else.
    pub(super) fn tells_others_apart(&self) -> bool {
        let own = |(_, text): &ShardText| text.is_some();
        self.merge == Merge::First && self.legs.iter().any(own) && !self.legs.iter().all(own)
    }

    /// Work for one shard.
    pub(super) fn one(shard: ShardId, text: Option<Rc<[u8]>>, writes: bool) -> Many {
        Many {
            legs: vec![(shard, text)],
            merge: Merge::Concat,
            writes,
            copies: false,
            reads_copies: false,
            tables: false,
            course: Course::Transaction,
            password: false,
            copy_in: false,
            copy: None,
            parameter_types: None,
            order: None,
            timed: false,
            step: Span { start: 0, end: 0 },
            filler: None,
            divided: None,
            defaults: None,
            times: None,
            planned_by: None,
            only_on: None,
        }
    }

    /// Whether it takes the lock of those who write reference tables. With one shard there is only one copy, and no
    /// lock is needed.
    pub(super) fn locks_copies(&self) -> bool {
        self.copies && (self.legs.len() > 1 || self.locks_alone())
    }

    /// Whether it only locks rows of a reference table, on the home shard.
    pub(super) fn locks_alone(&self) -> bool {
        self.copies && self.merge == Merge::Concat
    }

    /// Whether shards get texts that were written from the client's text, and a position in them can be found in that
    /// text.
    pub(super) fn is_written(&self) -> bool {
        self.divided.is_some() || self.times.is_some()
    }

    /// The position in `sql`, the text that is run, of a position in the text that the `leg`-th shard got.
    pub(super) fn place(
        &self,
        sql: &[u8],
        leg: usize,
        characters: Characters,
        place: usize,
    ) -> Option<usize> {
        let timed = |own: &[u8], place: usize| match &self.times {
            Some(times) => own_place(own, times.get(leg)?, characters, place),
            None => Some(place),
        };
        let Some(plan) = &self.divided else {
            return timed(sql, place);
        };
        let (Plan::Split(split), Some(order)) = (&**plan, &self.order) else {
            return None;
        };
        let SplitRows::Values { rows, .. } = &split.rows else {
            return None;
        };
        let kept = || (0..rows.len()).filter(|row| order.get(*row) == Some(&leg));
        let own = sql.get(self.step.start..self.step.end)?;
        let place = match &self.times {
            Some(_) => {
                let kept: Vec<usize> = kept().collect();
                let part = part_of(std::str::from_utf8(own).ok()?, rows, &kept)?;
                timed(part.as_bytes(), place)?
            }
            None => place,
        };
        let place = own_place(own, &changes_of(rows, kept())?, characters, place)?;
        place_of_part(sql, self.step.start, characters, place)
    }
}

impl Knowledge {
    /// Whether the outcome is unknown if the server is lost while it runs these statements: they write, or call
    /// something that may write.
    pub(super) fn may_write(&self, steps: &[Step]) -> bool {
        let calls = |name: &str| match &self.model {
            None => true,
            Some(model) => model.catalog().may_write(name),
        };
        let unknown = |step: &Step| step.calls.iter().any(|name| calls(name));
        steps.iter().any(|step| step.writes || unknown(step))
    }

    /// The shards of a route in the order in which they are asked, each with its text.
    fn legs(
        &self,
        topology: &Topology,
        sql: &str,
        plan: &Plan,
        route: &Route,
    ) -> Result<Vec<ShardText>, Halt> {
        let sorted: Option<Rc<[u8]>> = match &route.merge {
            Some(Merge::Flow(flow)) => Some(Rc::from(flow.sql.as_bytes())),
            _ => None,
        };
        let mut legs = Vec::new();
        for shard in route.shards.iter() {
            let text = match plan {
                Plan::Split(split) => part(sql, split, route, shard)?,
                Plan::Ddl(ddl) if shard != topology.home => {
                    let text = ddl.elsewhere.as_ref();
                    text.map(|text| Rc::from(text.as_bytes()))
                }
                _ => sorted.clone(),
            };
            legs.push((shard, text));
        }
        if let (Plan::Ddl(ddl), Some(model)) = (plan, &self.model)
            && ddl.place == mothership_plan::DdlPlace::OncePerCluster
        {
            let mut seen = Vec::new();
            legs.retain(|(shard, _)| {
                let cluster = model.cluster(*shard);
                let new = !seen.contains(&cluster);
                seen.push(cluster);
                new
            });
        }
        if matches!(plan, Plan::Ddl(ddl) if ddl.course == Course::DropsIndex) {
            legs.sort_by_key(|(shard, _)| *shard == topology.home);
        }
        Ok(legs)
    }

    /// Whether some of these shards are, or may be, databases of one cluster.
    fn share_a_cluster(&self, legs: &[ShardText]) -> bool {
        let cluster = |(shard, _): &ShardText| self.model.as_ref()?.cluster(*shard);
        let known: Option<HashSet<i64>> = legs.iter().map(cluster).collect();
        known.is_none_or(|clusters| clusters.len() < legs.len())
    }
}

impl Topology {
    /// Refuses to change what the router itself has defined in its schema, where it has one. `written` is the client's text:
    /// what the router writes into it has the name of the schema, too.
    fn check_own_schema(&self, step: &Step, sql: &str, written: &str) -> Result<(), Halt> {
        let schema = &self.config.transactions.schema;
        let verb = sql.trim_start().as_bytes().get(.."truncate".len());
        let truncates = verb.is_some_and(|verb| verb.eq_ignore_ascii_case(b"truncate"));
        let has_one = self.declared && self.postgres > 1 && self.config.transactions.two_phase;
        if !has_one || !(step.changes_schema || truncates) {
            return Ok(());
        }
        if takes_language(sql) {
            let message = "language \"plpgsql\" is that of the router's own functions";
            return Err(Report::error(sqlstate::INSUFFICIENT_PRIVILEGE, message)
                .detail("Without it no statement could be planned.")
                .into());
        }
        if !is_named_in(written, schema) {
            return Ok(());
        }
        let message = format!("schema \"{schema}\" belongs to the router");
        Err(Report::error(sqlstate::INSUFFICIENT_PRIVILEGE, message)
            .detail("It holds the decisions of transactions over several shards.")
            .hint("Let your tool ignore this schema. Whoever has to change it does so on each shard directly.")
            .into())
    }
}

impl Servers {
    /// The first PostgreSQL shard that works for the transaction.
    pub(super) fn postgres_here(&self, topology: &Topology) -> Option<ShardId> {
        let shards = self.iter().map(|attached| attached.shard);
        let mut postgres = shards.filter(|shard| topology.is_postgres(*shard));
        postgres.next()
    }
}

impl State {
    /// Refuses a statement that may concern what the open transaction has defined, if that could not be read since. What
    /// is new is not in the catalog, so a statement that would go to the home shard, because nothing is known of its
    /// tables, may belong elsewhere. Behind what is redefined there may be other rows and other values than planned for.
    pub(super) fn check_defined(
        &self,
        topology: &Topology,
        step: &Step,
        plan: &Plan,
    ) -> Result<(), Halt> {
        let auto = topology.config.tables.default == crate::config::DefaultTable::Auto;
        let more = self.defined_in_block == crate::statements::step::Defines::More;
        let hidden = self.definitions == Definitions::Changed && (auto || more);
        let at_home = match plan {
            Plan::Single(single) => {
                single.target == mothership_plan::Target::Home && step.names_rows
            }
            Plan::Ddl(ddl) => ddl.place == mothership_plan::DdlPlace::Home,
            _ => false,
        };
        let redefined = self.definitions == Definitions::Changed
            && self.defined_in_block >= crate::statements::step::Defines::Altered
            && step.names_rows
            && !matches!(plan, Plan::Ddl(_));
        if hidden && at_home || redefined {
            let why = "the statement may concern what the transaction has created or changed";
            return Err(unknown_definitions(why).into());
        }
        Ok(())
    }
}

impl Transaction {
    /// Whether a statement in a block of the client's locks rows of a reference table on the home shard. A write to
    /// such a table takes the lock of its writers first, and row locks then. If a block locked rows first, the two
    /// would wait for each other.
    fn locks_home_copy(
        &self,
        state: &State,
        topology: &Topology,
        step: &Step,
        plan: &Plan,
    ) -> bool {
        let locks = matches!(plan, Plan::Single(single) if single.locks_copies && single.target == mothership_plan::Target::Home);
        let lasts = matches!(state.block, Block::Begun | Block::Open) && !self.implicit;
        let plain = step.kind == Kind::Plain && step.pins == Pins::NONE && step.calls.is_empty();
        locks && lasts && plain && !step.writes && topology.postgres > 1
    }
}

impl Session {
    /// Where the `at`-th statement of `statement` goes with these parameters.
    pub(super) fn dispatch(
        &mut self,
        statement: &Prepared,
        at: usize,
        params: &Params<'_>,
    ) -> Result<Dispatch, Halt> {
        self.dispatch_planned(statement, at, params, None)
    }

    /// The same for a statement whose plan the caller has already looked up for this run.
    pub(super) fn dispatch_planned(
        &mut self,
        statement: &Prepared,
        at: usize,
        params: &Params<'_>,
        plan: Option<Rc<Plan>>,
    ) -> Result<Dispatch, Halt> {
        let step = statement.steps.get(at);
        if let Some(step) = step.filter(|step| step.concerns_others()) {
            self.transaction.begin_change_by(step, &self.core.shared);
        }
        let Some(model) = self.known.model.clone() else {
            self.state.tally.planned(PlanKind::Single);
            return Ok(Dispatch::One {
                shard: self.shard_unplanned(statement, at)?,
                writes: step.is_none_or(|s| s.writes) || self.rules.may_write_unseen(),
                parts: None,
            });
        };
        if let Some(work) = self.dispatch_unplanned(step)? {
            return Ok(work);
        }
        let sql = match step {
            Some(step) => step.span.of(&statement.sql),
            None => &statement.sql,
        };
        let sql = std::str::from_utf8(sql).map_err(|_| not_utf8())?;
        let mut plan = match plan {
            Some(plan) => plan,
            None => self.plan(statement, at, sql, &model)?,
        };
        plan = self.known.allowed(plan, sql)?;
        if let (Origin::Prepare(_), Ok(whole)) =
            (&statement.origin, std::str::from_utf8(&statement.sql))
            && model.planner().calls_unnamed(whole, &self.context())
        {
            // The types of its parameters stand before what the plan is made of.
            return Err(refused(&Refusal::new(Reason::FunctionUnproven)).into());
        }
        if let Some(step) = step {
            self.state.check_defined(&self.topology, step, &plan)?;
            let origin = statement.rewritten.get();
            let written = origin.and_then(|origin| std::str::from_utf8(&origin.sql).ok());
            self.topology
                .check_own_schema(step, sql, written.unwrap_or(sql))?;
        }
        let params = &Params {
            literals: statement.literals(),
            ..*params
        };
        if matches!(&*plan, Plan::Refuse(_)) {
            self.state.tally.planned(PlanKind::Refuse);
        }
        let pin = self.pin(statement, at);
        let mut route = self.route(&plan, params, &model, pin.as_ref())?;
        if statement.shaped.is_some() && !route.rows.is_empty() {
            // Where the rows stand is known only from the plan of this very text.
            plan = self.own_plan(statement, at, sql, &model)?;
            plan = self.known.allowed(plan, sql)?;
        }
        if matches!(route.role, Role::Primary(_)) && model.directories().may_be_named_in(sql) {
            // The statement may write a table that the map is read from: from now on the map has to be read anew.
            self.state.schema_changed = true;
            self.state.schema_changed_in_block = true;
        }
        if let Some(step) = step {
            self.heed_code((statement, step, sql), &model, &mut route)?;
        }
        self.state.tally.planned(kind_of(&plan, &route));
        let mut work = self.work_of(step, sql, &plan, (&route, &params.literals))?;
        match &mut work {
            Dispatch::Many(many) => {
                many.copy_in |= step.is_some_and(|s| s.copy_in);
                many.step = step.map_or_else(|| whole(&statement.sql), |step| step.span);
            }
            Dispatch::One { shard, parts, .. } => {
                let context = self.state.text_context();
                *parts = self.parts(*shard, &model, || touched(&plan, &route, params, &context));
            }
            Dispatch::Gather(_) => {}
        }
        let defines = matches!(&*plan, Plan::Ddl(_));
        let mut work = match defines {
            true => work,
            false => self.with_one_time(work, (statement, sql), step, params, &model)?,
        };
        if let Dispatch::One {
            shard,
            writes: true,
            ..
        } = work
            && self.may_be_overtaken(shard, step)
        {
            // It is committed when its plan has been looked at once more.
            work = Dispatch::Many(Box::new(Many {
                step: step.map_or_else(|| whole(&statement.sql), |step| step.span),
                ..Many::one(shard, None, true)
            }));
        }
        match &mut work {
            Dispatch::Many(many) => many.planned_by = Some(model),
            Dispatch::Gather(work) => work.planned_by = Some(model),
            Dispatch::One { .. } => {}
        }
        Ok(work)
    }

    /// Where a statement goes that needs no plan: to the server that holds the transaction or a cursor, or to the shard
    /// of a prepared transaction.
    fn dispatch_unplanned(&mut self, step: Option<&Step>) -> Result<Option<Dispatch>, Halt> {
        // The caller has just looked for it.
        let prepared_on = self.transaction.prepared_on.take();
        let Some(step) = step else {
            return Ok(None);
        };
        let to = |shard, writes| Dispatch::One {
            shard,
            writes,
            parts: None,
        };
        // Only PostgreSQL knows which settings exist, and which values they may have.
        let of_settings = matches!(step.kind, Kind::LocalConfig(_) | Kind::Settings(_));
        if let Some(first) = self.servers.first() {
            if of_settings {
                let shard = self
                    .servers
                    .postgres_here(&self.topology)
                    .unwrap_or(self.topology.home);
                return Ok(Some(to(shard, false)));
            }
            // What concerns the transaction goes to the server that holds it. If several servers hold it, another
            // function runs the statement on all of them.
            if step.kind.is_control() || is_common(&step.kind) {
                return Ok(Some(to(first.shard, false)));
            }
        }
        if let Some(shard) = self.state.cursor_shard(&step.kind)? {
            return Ok(Some(to(shard, !self.state.is_kept(&step.kind))));
        }
        let finishes = matches!(step.kind, Kind::FinishPrepared(_));
        let prepared = prepared_on.filter(|_| finishes);
        Ok(prepared.map(|shard| to(shard, true)))
    }

    /// The route of a plan with these parameters. It fails if the route needs a shard that is away.
    fn route(
        &mut self,
        plan: &Plan,
        params: &Params<'_>,
        model: &Arc<DatabaseModel>,
        pin: Option<&Pin>,
    ) -> Result<Route, Halt> {
        let routed = route(plan, params, model.map(), &self.state.text_context(), pin);
        let mut route = routed.map_err(|no_route| match no_route {
            NoRoute::Refused(refusal) => {
                self.doubt_directories(&refusal, model);
                refused(&refusal)
            }
            NoRoute::Elsewhere(its) => elsewhere(&its),
        })?;
        if model.is_partial() && !matches!(plan, Plan::Local(_)) {
            self.servers.check_away(&self.topology, model, &mut route)?;
        }
        Ok(route)
    }

    /// Reacts to the code that a statement runs: the code may leave something on its server, show what others have
    /// prepared, or say something about the one server that runs it.
    fn heed_code(
        &mut self,
        (statement, step, sql): (&Prepared, &Step, &str),
        model: &DatabaseModel,
        route: &mut Route,
    ) -> Result<(), Halt> {
        if !step.runs_code(sql) {
            return Ok(());
        }
        let strings = self.state.told.standard_strings();
        if statement.may_leave_or_show(step, sql, model, strings) {
            let context = self.context();
            let leaves = |apart: &BTreeSet<String>| {
                let lasting = model.lasting();
                lasting.is_left_by(sql, strings, step.writes, apart)
            };
            if model.does(sql, &context, leaves) {
                self.state.run_unseen();
                self.run_unfollowed(statement);
            }
            let shows = |apart: &BTreeSet<String>| {
                let shown = model.shows_prepared();
                shown.is_done_by(sql, strings, step.writes, apart)
            };
            if model.does(sql, &context, shows) {
                return Err(prepared_refused().into());
            }
        }
        if route.role == Role::Replica && statement.may_tell_server(step, sql, model, strings) {
            let tells = |apart: &BTreeSet<String>| {
                let server = model.tells_server();
                server.is_done_by(sql, strings, step.writes, apart)
            };
            if model.does(sql, &self.context(), tells) {
                route.role = Role::Primary("what it calls tells of one server".to_owned());
            }
        }
        Ok(())
    }

    /// Makes work of a route.
    fn work_of(
        &self,
        step: Option<&Step>,
        sql: &str,
        plan: &Rc<Plan>,
        (route, literals): (&Route, &Literals<'_>),
    ) -> Result<Dispatch, Halt> {
        if route.gathered.is_some() {
            return dispatch_gather(&self.topology, plan, route, literals);
        }
        let work = self.work(sql, plan, route)?;
        Ok(match work {
            Dispatch::One { shard, .. }
                if step.is_some_and(|step| {
                    self.transaction
                        .locks_home_copy(&self.state, &self.topology, step, plan)
                }) =>
            {
                Dispatch::Many(Box::new(Many {
                    copies: true,
                    ..Many::one(shard, None, true)
                }))
            }
            work => work,
        })
    }

    /// The same for the body of an EXECUTE. All shards get the client's own text of it, so if a shard would need
    /// another text, the rows are gathered. What cannot be gathered, because it locks rows, is bound to the values of
    /// the arguments.
    pub(super) fn dispatch_body(
        &mut self,
        body: &Prepared,
        params: &Params<'_>,
    ) -> Result<Dispatch, Halt> {
        let (Some(model), [step]) = (self.known.model.clone(), body.steps.as_slice()) else {
            return self.dispatch(body, 0, params);
        };
        let sql = std::str::from_utf8(step.span.of(&body.sql)).map_err(|_| not_utf8())?;
        let plan = self.plan(body, 0, sql, &model)?;
        let plan = self.known.allowed(plan, sql)?;
        let plan = match &*plan {
            Plan::Scatter(Scatter {
                merge: Merge::Sorted(sorted),
                ..
            }) if let Ok(gather) = &sorted.otherwise => Rc::new(Plan::Gather(Arc::clone(gather))),
            _ => plan,
        };
        self.dispatch_planned(body, 0, params, Some(plan))
    }

    /// The parts that a statement touches, if it is proven that it touches no others. `touched` reads them from its
    /// plan.
    fn parts(
        &self,
        shard: ShardId,
        model: &Arc<DatabaseModel>,
        touched: impl FnOnce() -> Option<Vec<u64>>,
    ) -> Option<Parts> {
        // If a shard has only one server, nobody asks how fresh its replicas are. A pin, for example because of a
        // temporary table, may mean that a name stands for something else than the planner believed. In session mode
        // the router does not know what the session has.
        let asked = self.topology.shards[shard].servers.len() > 1;
        if !asked || !self.state.pins.is_empty() || self.is_session_mode() {
            return None;
        }
        Some(Parts::new(touched()?, model, &self.core.shared))
    }

    /// How a change goes to its shards at this place of a transaction or a pipeline.
    fn course(&self, course: &Course, legs: &[ShardText]) -> Result<Course, Report> {
        if *course != Course::StepsOutside {
            return Ok(course.clone());
        }
        // What a named portal of the pipeline has left would end with the query of a step.
        let in_transaction = self.state.block != Block::None
            || self.transaction.implicit
            || self.state.portals.has_named()
            || self.servers.iter().any(|server| self.state.stakes(server));
        match in_transaction {
            false => Ok(Course::Steps),
            true if self.known.share_a_cluster(legs) => Err(locks_shared_catalogs()),
            true => Ok(Course::Transaction),
        }
    }

    /// Makes work of a route that does not gather. If it has one shard, the client's bytes pass unchanged.
    fn work(&self, sql: &str, plan: &Rc<Plan>, route: &Route) -> Result<Dispatch, Halt> {
        let writes = matches!(route.role, Role::Primary(_));
        let copy = match &**plan {
            Plan::Split(split) if matches!(split.rows, SplitRows::Copy { .. }) => {
                Some(Rc::new(split.clone()))
            }
            _ => None,
        };
        if copy.is_none()
            && let Some(shard) = route.shards.single()
        {
            let shard = match self.servers.postgres_here(&self.topology) {
                // Any shard will do, so it is the one that already works for the transaction.
                Some(shard) if route.anywhere => shard,
                _ => shard,
            };
            return Ok(Dispatch::One {
                shard,
                writes,
                parts: None,
            });
        }
        let legs = self.known.legs(&self.topology, sql, plan, route)?;
        let defaults =
            matches!(&**plan, Plan::Ddl(ddl) if !ddl.times.is_empty()).then(|| Rc::clone(plan));
        let course = match &**plan {
            Plan::Ddl(ddl) => self.course(&ddl.course, &legs)?,
            _ => Course::Transaction,
        };
        let password = legs.len() > 1
            && matches!(&**plan, Plan::Ddl(ddl) if ddl.place == mothership_plan::DdlPlace::OncePerCluster)
            && RolePassword::of(sql.as_bytes(), self.standard_strings()) != RolePassword::Settled;
        let merge = match &**plan {
            Plan::Ddl(_) => Merge::First,
            _ => route.merge.clone().unwrap_or(Merge::Concat),
        };
        let locks = |scope| matches!(&**plan, Plan::Scatter(scatter) if scatter.locks == scope);
        let tables = locks(LockScope::Tables);
        let defines = matches!(&**plan, Plan::Ddl(_));
        let copies = writes && merge == Merge::First && !defines && !tables;
        Ok(Dispatch::Many(Box::new(Many {
            legs,
            merge,
            writes,
            copies,
            reads_copies: locks(LockScope::SecuredCopies),
            tables,
            course,
            password,
            copy_in: copy.is_some(),
            copy,
            parameter_types: match &**plan {
                Plan::Split(mothership_plan::Split {
                    rows:
                        SplitRows::Values {
                            parameter_types, ..
                        },
                    ..
                }) => Some(parameter_types.clone()),
                _ => None,
            },
            order: match &**plan {
                Plan::Split(split) => split.shard_index_of_rows(route).map(Rc::from),
                _ => None,
            },
            timed: defaults.is_some(),
            step: Span { start: 0, end: 0 },
            defaults,
            filler: None,
            divided: matches!(&**plan, Plan::Split(split) if matches!(split.rows, SplitRows::Values { .. }))
                .then(|| Rc::clone(plan)),
            times: None,
            planned_by: None,
            only_on: route.only_on,
        })))
    }
}

/// ANALYZE without a table keeps locks on the catalogs that all databases of a cluster share. In a transaction over
/// several of them it would wait for itself.
fn locks_shared_catalogs() -> Report {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "ANALYZE without a table cannot run in a transaction over these shards",
    )
    .detail("some are databases of one cluster, and it locks catalogs that they share until the transaction ends")
    .hint("Name the tables, or send it outside of a transaction block and not in the middle of a pipeline.")
}

/// All of a text.
fn whole(sql: &[u8]) -> Span {
    Span {
        start: 0,
        end: sql.len(),
    }
}

/// The texts and shards of a statement that gathers.
fn gather_work(plan: &Plan, route: &Route, literals: &Literals<'_>) -> Result<GatherWork, Halt> {
    let gather = match plan {
        Plan::Gather(gather) => Some(gather),
        Plan::Single(single) => single.gather.as_ref(),
        Plan::Scatter(Scatter {
            merge: Merge::Sorted(sorted),
            ..
        }) => sorted.otherwise.as_ref().ok(),
        _ => None,
    };
    let filled = |text: &String| Some(slots::filled(text, literals)?.into_owned());
    let work = gather
        .zip(route.gathered.as_ref())
        .and_then(|(gather, places)| {
            let shards = |set: &ShardSet| set.iter().collect();
            let (head, tail) = match &gather.ending {
                Ending::Store(store) => (filled(&store.head)?, filled(&store.tail)?),
                Ending::Keep(keep) => (keep.head.clone(), keep.tail.clone()),
                Ending::Answer | Ending::Write(_) | Ending::Change(_) => Default::default(),
            };
            let mut parts = BTreeMap::new();
            for (number, rows) in &places.rows {
                let fragment = gather.fragments.get(*number)?;
                let Holders::Rows(listed) = &fragment.of else {
                    return None;
                };
                for (shard, rows) in rows {
                    let part = fragment.storing(listed, rows.iter().copied());
                    let place = (*number, *shard);
                    parts.insert(place, filled(&part)?);
                }
            }
            Some(GatherWork {
                plan: Arc::clone(gather),
                fragments: gather
                    .fragments
                    .iter()
                    .map(|f| Some(slots::filled(&f.whole(), literals)?.into_owned()))
                    .collect::<Option<_>>()?,
                parts,
                locked: places.locked.clone(),
                shards: places.fragments.iter().map(shards).collect(),
                residue: filled(&gather.residue)?,
                target: shards(&places.target),
                head,
                tail,
                planned_by: None,
            })
        });
    work.ok_or_else(not_found)
}

fn not_found() -> Halt {
    let message = "the parts of a statement were not found in its text";
    Report::error(sqlstate::INTERNAL_ERROR, message).into()
}

/// The kind of plan under which metrics count a statement. With one shard it is Single, whatever its plan is.
fn kind_of(plan: &Plan, route: &Route) -> PlanKind {
    match plan {
        _ if route.shards.len() == 1 => PlanKind::Single,
        Plan::Split(_) => PlanKind::Split,
        _ if route.gathered.is_some() => PlanKind::Gather,
        _ => PlanKind::Scatter,
    }
}

/// The statement with only those rows of its VALUES list that belong to one shard.
fn part(
    sql: &str,
    split: &mothership_plan::Split,
    route: &Route,
    shard: mothership_shardmap::ShardId,
) -> Result<Option<Rc<[u8]>>, Halt> {
    let (SplitRows::Values { rows, .. }, Some(kept)) = (&split.rows, route.rows.get(&shard)) else {
        return Ok(None);
    };
    match part_of(sql, rows, kept) {
        Some(text) => Ok(Some(Rc::from(text.into_bytes()))),
        None => Err(Report::error(
            sqlstate::INTERNAL_ERROR,
            "rows of a divided INSERT were not found in its text",
        )
        .into()),
    }
}

/// A refusal as the client gets it.
pub(super) fn refused(refusal: &Refusal) -> Report {
    let report = Report::error(refusal.sqlstate(), refusal.message()).hint(refusal.hint());
    match &refusal.detail {
        Some(detail) => report.detail(detail.clone()),
        None => report,
    }
}

pub(super) fn not_utf8() -> Report {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "statement is not in UTF-8, so it cannot be routed to shards",
    )
    .hint("Use client_encoding UTF8.")
}

/// The texts and shards of a run that gathers.
fn dispatch_gather(
    topology: &Topology,
    plan: &Plan,
    route: &Route,
    literals: &Literals<'_>,
) -> Result<Dispatch, Halt> {
    if !topology.config.has_postgres() {
        return Err(refused(&Refusal::new(Reason::WithoutPostgresql)).into());
    }
    let work = gather_work(plan, route, literals)?;
    Ok(Dispatch::Gather(Box::new(work)))
}
