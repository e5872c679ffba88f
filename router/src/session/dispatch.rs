//! Where a statement goes: asks the planner, remembers its plan, and turns a route
//! into work for servers.
//!
//! Without declared tables there is no world, and everything goes to the home shard
//! as it is. Plans are kept with the statement, keyed by the world and by what of
//! the session a plan depends on.

use super::names::{Origin, Prepared};
use super::rules::elsewhere;
use super::settings::{Settings, Value};
use super::shapes::{Known, Room, Shaped};
use super::simple::{is_common, is_control};
use super::touched::Parts;
use super::{Halt, Session};
use crate::core::{Age, Changing, Core};
use crate::metrics::latency::PlanKind;
use crate::plan::{
    Merge, NoRoute, Params, Plan, PlanContext, Refusal, Role, Route, SplitRows, Temporary,
    TextContext, parts as touched, route,
};
use crate::sql::effect::{Pin, Statement, analyse};
use crate::sql::lexer::{Kind as TokenKind, Lexer};
use crate::sql::password::RolePassword;
use crate::world::World;
use mothership_proto::report::{Report, sqlstate};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Where one statement goes.
pub enum Dispatch {
    /// To one shard, untouched.
    One {
        /// Which.
        shard: usize,
        /// It may change something.
        writes: bool,
        /// What it touches there; without, it may be anything.
        parts: Option<Parts>,
    },
    /// To several.
    Many(Many),
}

/// Work for several shards.
#[derive(Clone)]
pub struct Many {
    /// The shards in order, each with its text; `None` is the client's own.
    pub legs: Vec<(usize, Option<Rc<[u8]>>)>,
    /// What makes one answer.
    pub merge: Merge,
    /// It may change something, so that it must hold on all or on none.
    pub writes: bool,
    /// PostgreSQL does not allow it in a transaction block: shard after shard.
    pub step_by_step: bool,
    /// A role gets a password, on several clusters: all have to keep the same of it.
    pub password: bool,
    /// COPY FROM STDIN.
    pub copy_in: bool,
    /// The rows of COPY are divided by these; without, each shard gets all.
    pub copy: Option<Rc<crate::plan::Split>>,
    /// The parameters' types, for a divided INSERT.
    pub parameter_types: Option<Vec<u32>>,
}

/// A plan with what it was made for.
#[derive(Debug)]
pub struct Planned {
    world: u64,
    context: Rc<PlanContext>,
    plan: Rc<Plan>,
}

impl Planned {
    fn is_for(&self, world: u64, context: &Rc<PlanContext>) -> bool {
        self.world == world && (Rc::ptr_eq(&self.context, context) || self.context == *context)
    }
}

/// A catalog read so recently is not read again for a name that it does not have.
pub(super) const SEEN_JUST_NOW: Duration = Duration::from_millis(500);

/// Plans kept for one statement, for sessions that differ in search_path and the like.
const KEPT: usize = 4;

impl Session {
    /// Where the `at`-th statement of `statement` goes with these parameters.
    pub(super) fn dispatch(
        &mut self,
        statement: &Prepared,
        at: usize,
        params: &Params<'_>,
    ) -> Result<Dispatch, Halt> {
        let step = statement.steps.get(at);
        if step.is_some_and(|step| step.changes_schema) {
            self.begin_change();
        }
        let Some(world) = self.world.clone() else {
            self.state.tally.planned(PlanKind::Single);
            return Ok(Dispatch::One {
                shard: self.shard_unplanned(statement, at)?,
                writes: step.is_none_or(|s| s.writes) || self.may_write_unseen(),
                parts: None,
            });
        };
        // What concerns the transaction goes to the server that holds it. With several
        // it is done on all, and does not come here.
        let of_block = step.is_some_and(|s| {
            is_control(&s.kind)
                || is_common(&s.kind)
                || matches!(
                    s.kind,
                    super::step::Kind::LocalConfig(_) | super::step::Kind::Settings(_)
                )
        });
        if let Some(attached) = self.servers.first().filter(|_| of_block) {
            return Ok(Dispatch::One {
                shard: attached.shard,
                writes: false,
                parts: None,
            });
        }
        if let Some(shard) = step.and_then(|s| self.cursor_shard(&s.kind)) {
            return Ok(Dispatch::One {
                shard,
                writes: true,
                parts: None,
            });
        }
        let sql = match step {
            Some(step) => step.span.of(&statement.sql),
            None => &statement.sql,
        };
        let sql = std::str::from_utf8(sql).map_err(|_| not_utf8())?;
        let mut plan = self.plan(statement, at, sql, &world)?;
        if let Some(step) = step {
            self.check_defined(step, &plan)?;
        }
        let params = &Params {
            literals: statement.literals(),
            ..*params
        };
        let pin = self.pin(statement, at);
        let context = self.text_context();
        let routed = route(&plan, params, world.map(), &context, pin.as_ref());
        let route = routed.map_err(|no_route| match no_route {
            NoRoute::Refused(refusal) => {
                self.doubt_directories(&refusal, &world);
                refused(&refusal)
            }
            NoRoute::Elsewhere(its) => elsewhere(&its),
        })?;
        if statement.shaped.is_some() && !route.rows.is_empty() {
            // Where the rows stand is known of this very text only.
            plan = self.own_plan(statement, at, sql, &world)?;
        }
        if matches!(route.role, Role::Primary(_)) && world.directories().may_be_named_in(sql) {
            // What is read of the map from now on must be what this has written.
            self.state.schema_changed = true;
            self.state.schema_changed_in_block = true;
        }
        self.state.tally.planned(kind_of(&plan, &route));
        let mut work = self.work(sql, &plan, &route)?;
        match &mut work {
            Dispatch::Many(many) => many.copy_in |= step.is_some_and(|s| s.copy_in),
            Dispatch::One { shard, parts, .. } => {
                *parts = self.parts(*shard, &world, || touched(&plan, &route, params, &context));
            }
        }
        Ok(work)
    }

    /// The parts that a statement touches, if it is proven that they are all. `touched` says so of its plan.
    fn parts(
        &self,
        shard: usize,
        world: &Arc<World>,
        touched: impl FnOnce() -> Option<Vec<u64>>,
    ) -> Option<Parts> {
        // Of a server that is alone nobody asks how fresh its replicas are. What pins the session, like a temporary
        // table, may also stand in the way of the names that were planned by; of session mode nothing is known.
        let asked = self.topology.shards[shard].servers.len() > 1;
        if !asked || !self.state.pins.is_empty() || self.identity.session_mode {
            return None;
        }
        Some(Parts::new(touched()?, world, &self.core.shared))
    }

    /// Definitions may change from now on until the transaction ends.
    pub(super) fn begin_change(&mut self) {
        if self.changing.is_none() {
            self.changing = Some(Changing::new(&self.core.shared));
        }
    }

    /// Whether the loss of these statements leaves their outcome unknown: they write, or
    /// call what may write as far as is known.
    pub(super) fn may_write(&self, steps: &[super::step::Step]) -> bool {
        let calls = |name: &str| match &self.world {
            None => true,
            Some(world) => world.catalog().may_write(name),
        };
        let unknown = |step: &super::step::Step| step.calls.iter().any(|name| calls(name));
        steps.iter().any(|step| step.writes || unknown(step))
    }

    /// A key without a shard may have been added to a directory past this router: the
    /// client's next try finds it.
    fn doubt_directories(&self, refusal: &Refusal, world: &World) {
        let unknown = refusal.reason == crate::plan::Reason::NoOwner;
        if unknown && !world.directories().is_empty() && world.read.elapsed() >= SEEN_JUST_NOW {
            let epoch = &self.core.shared.schema_epoch;
            epoch.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// Sees to it that the newest knowledge is used: after a change of definitions that
    /// went through this router, and from time to time for those that did not.
    pub(super) async fn refresh_world(&mut self) -> Result<(), Halt> {
        let topology = self.core.shared.topology();
        self.refresh_rules(&topology);
        if !Arc::ptr_eq(&topology, &self.topology) && self.servers.is_empty() {
            self.topology = topology;
        }
        if !self.topology.declared && !self.rules.needs_catalog() {
            return Ok(());
        }
        let epoch = self.epoch();
        let most = self.topology.config.catalog.refresh_interval;
        let age = |world: &World| Core::age(world, epoch, most);
        if let Some(world) = self.known_world()
            && age(world) == Age::Fresh
        {
            return Ok(());
        }
        let database = &self.identity.database;
        if let Some(world) = self.core.shared.world(database) {
            let age = age(&world);
            if age == Age::Due {
                self.core.read_world_soon(database);
            }
            if age != Age::Over {
                if !self.known_world().is_some_and(|k| Arc::ptr_eq(k, &world)) {
                    self.put_world(world);
                }
                return Ok(());
            }
        }
        self.reload_world(|world| age(world) == Age::Fresh).await
    }

    /// A statement names relations that are neither in the catalog nor declared. Perhaps
    /// somebody has made them past this router: the catalog is read again before the
    /// statement is believed to concern the home shard only. Returns its plan, if anything is planned.
    pub(super) async fn look_for_unknown(
        &mut self,
        statement: &Prepared,
        at: usize,
    ) -> Result<Option<Rc<Plan>>, Halt> {
        let (Some(world), Some(step)) = (self.world.clone(), statement.steps.get(at)) else {
            return Ok(None);
        };
        let sql = std::str::from_utf8(step.span.of(&statement.sql)).map_err(|_| not_utf8())?;
        let plan = self.plan(statement, at, sql, &world)?;
        let unknown = matches!(&*plan, Plan::Single(single) if !single.unknown.is_empty());
        if !unknown || world.read.elapsed() < SEEN_JUST_NOW {
            return Ok(Some(plan));
        }
        let version = world.version;
        self.reload_world(move |world: &World| world.version > version)
            .await?;
        match self.world.clone() {
            Some(world) => self.plan(statement, at, sql, &world).map(Some),
            None => Ok(None),
        }
    }

    /// Reads the catalog, unless another session has put one in force meanwhile that will do.
    pub(super) async fn reload_world(
        &mut self,
        will_do: impl Fn(&World) -> bool,
    ) -> Result<(), Halt> {
        let loading = self.core.loading(&self.identity.database);
        let _one = loading.lock().await;
        // Another session may have read it meanwhile.
        if let Some(world) = self.core.shared.world(&self.identity.database)
            && will_do(&world)
        {
            self.put_world(world);
            return Ok(());
        }
        let database = &self.identity.database;
        match self.core.read_world(database).await {
            Ok(world) => {
                self.put_world(world);
                Ok(())
            }
            Err(error) => {
                let chain = crate::log::Chain(&error).to_string();
                tracing::error!(
                    database = self.identity.database,
                    error = chain,
                    "the catalog could not be read"
                );
                Err(Report::error(
                    sqlstate::CANNOT_CONNECT_NOW,
                    "the catalog of the shards could not be read",
                )
                .detail(chain)
                .hint("The router plans nothing by old knowledge. Mend the cause and try again.")
                .into())
            }
        }
    }

    /// What can be said of a statement before its parameters are known: fails if it is refused whatever they are.
    pub(super) async fn check_unbound(&mut self, statement: &Prepared) -> Result<(), Halt> {
        match self.look_for_unknown(statement, 0).await?.as_deref() {
            Some(Plan::Refuse(refusal)) => Err(refused(refusal).into()),
            _ => Ok(()),
        }
    }

    /// What was defined in the open transaction is not in the catalog yet. A statement
    /// that would go to the home shard because nothing is known of its tables may belong
    /// elsewhere.
    fn check_defined(&self, step: &super::step::Step, plan: &Plan) -> Result<(), Halt> {
        let auto = self.topology.config.tables.default == crate::config::DefaultTable::Auto;
        let hidden = match self.state.defined_in_block {
            super::step::Defines::Nothing => false,
            super::step::Defines::Table => auto,
            super::step::Defines::More => true,
        };
        let at_home =
            matches!(plan, Plan::Single(single) if single.target == crate::plan::Target::Home);
        if hidden && at_home && step.names_rows {
            return Err(Report::error(
                sqlstate::FEATURE_NOT_SUPPORTED,
                "definitions of this transaction are not known to the router before it commits",
            )
            .detail("the statement may concern what the transaction has created or changed")
            .hint("Commit the definitions first.")
            .into());
        }
        Ok(())
    }

    /// The shard that holds the cursor which a statement works on.
    pub(super) fn cursor_shard(&self, kind: &super::step::Kind) -> Option<usize> {
        match kind {
            super::step::Kind::Cursor(name) => self.state.cursors.get(name).copied(),
            _ => None,
        }
    }

    /// The plan of a statement, from memory or made anew.
    pub(super) fn plan(
        &mut self,
        statement: &Prepared,
        at: usize,
        sql: &str,
        world: &Arc<World>,
    ) -> Result<Rc<Plan>, Halt> {
        let Some(shaped) = &statement.shaped else {
            return self.own_plan(statement, at, sql, world);
        };
        let context = self.context();
        if let Some(served) = &*statement.served.borrow()
            && served.is_for(world.version, &context)
        {
            return Ok(Rc::clone(&served.plan));
        }
        self.check_length(sql)?;
        let types: &[u8] = match &statement.origin {
            Origin::Parse(types) => types,
            Origin::Prepare(_) | Origin::Query => &[],
        };
        match shaped.entry.plan(world.version, &context, types) {
            Known::Plan(known) if world.planner().serves(&known, sql) => {
                statement.served.replace(Some(Planned {
                    world: world.version,
                    context,
                    plan: Rc::clone(&known.plan),
                }));
                Ok(Rc::clone(&known.plan))
            }
            Known::Plan(_) | Known::Own => self.own_plan(statement, at, sql, world),
            Known::Nothing => {
                let full = full_context(&context, &statement.origin);
                let planner = (world.planner(), world.version);
                let plan = Rc::new(shaped.entry.make_plan(
                    planner,
                    (&context, types),
                    sql,
                    &shaped.literals,
                    &full,
                ));
                statement.keep(at, world.version, context, &plan);
                // The text's own plan has no slots, and is as good.
                Ok(plan)
            }
        }
    }

    /// The text as one of its shape.
    pub(super) fn shaped(&self, sql: &[u8]) -> Option<Shaped> {
        let limits = &self.topology.config.limits;
        let room = Room {
            shapes: limits.plans.get() as usize,
            bytes: limits.plans_size.bytes(),
        };
        self.core.shapes.find(sql, self.standard_strings(), room)
    }

    fn check_length(&self, sql: &str) -> Result<(), Halt> {
        let limit = self.topology.config.limits.parsed_statement.bytes();
        if sql.len() > limit {
            return Err(Report::error(
                sqlstate::PROGRAM_LIMIT_EXCEEDED,
                format!(
                    "statement of {} bytes is too long to be routed to shards",
                    sql.len()
                ),
            )
            .hint("The setting is limits.parsed_statement.")
            .into());
        }
        Ok(())
    }

    /// The plan of this very text.
    fn own_plan(
        &mut self,
        statement: &Prepared,
        at: usize,
        sql: &str,
        world: &Arc<World>,
    ) -> Result<Rc<Plan>, Halt> {
        let context = self.context();
        let plans = statement.plans.borrow();
        let mut known = plans.iter().filter(|(n, _)| *n == at);
        if let Some((_, known)) = known.find(|(_, known)| known.is_for(world.version, &context)) {
            return Ok(Rc::clone(&known.plan));
        }
        drop(plans);
        self.check_length(sql)?;
        let full = full_context(&context, &statement.origin);
        let plan = Rc::new(world.plan(sql, &full));
        statement.keep(at, world.version, context, &plan);
        Ok(plan)
    }

    /// A route as work. With one shard the client's bytes pass untouched.
    fn work(&self, sql: &str, plan: &Plan, route: &Route) -> Result<Dispatch, Halt> {
        let writes = matches!(route.role, Role::Primary(_));
        let copy = match plan {
            Plan::Split(split) if matches!(split.rows, SplitRows::Copy { .. }) => {
                Some(Rc::new(split.clone()))
            }
            _ => None,
        };
        if copy.is_none()
            && let Some(shard) = route.shards.single()
        {
            let attached = self.servers.first().map(|s| s.shard);
            let shard = match attached {
                // Any shard will do: the one that works for the transaction already.
                Some(shard) if route.anywhere => shard,
                _ => usize::from(shard.0),
            };
            return Ok(Dispatch::One {
                shard,
                writes,
                parts: None,
            });
        }
        let mut legs = Vec::new();
        for shard in route.shards.iter() {
            let text = match plan {
                Plan::Split(split) => part(sql, split, route, shard)?,
                _ => None,
            };
            legs.push((usize::from(shard.0), text));
        }
        if let (Plan::Ddl(ddl), Some(world)) = (plan, &self.world)
            && ddl.place == crate::plan::DdlPlace::OncePerCluster
        {
            let mut seen = Vec::new();
            legs.retain(|(shard, _)| {
                let cluster = world.clusters.get(*shard).copied();
                let new = !seen.contains(&cluster);
                seen.push(cluster);
                new
            });
        }
        let step_by_step = matches!(plan, Plan::Ddl(ddl) if !ddl.transactional);
        let password = legs.len() > 1
            && matches!(plan, Plan::Ddl(ddl) if ddl.place == crate::plan::DdlPlace::OncePerCluster)
            && RolePassword::of(sql.as_bytes(), self.standard_strings()) != RolePassword::Settled;
        let merge = match plan {
            Plan::Ddl(_) => Merge::First,
            _ => route.merge.clone().unwrap_or(Merge::Concat),
        };
        Ok(Dispatch::Many(Many {
            legs,
            merge,
            writes,
            step_by_step,
            password,
            copy_in: copy.is_some(),
            copy,
            parameter_types: match plan {
                Plan::Split(crate::plan::Split {
                    rows:
                        SplitRows::Values {
                            parameter_types, ..
                        },
                    ..
                }) => Some(parameter_types.clone()),
                _ => None,
            },
        }))
    }

    /// What of the session a plan depends on; the same `Rc` until that changes.
    pub(super) fn context(&mut self) -> Rc<PlanContext> {
        let settings = Arc::clone(self.state.in_force());
        let unclear = [Pin::TempObject, Pin::Opaque, Pin::UnclearSetting]
            .iter()
            .any(|pin| self.state.pins.has(*pin));
        let strings = self.standard_strings();
        if let Some(kept) = &self.context
            && Arc::ptr_eq(&kept.settings, &settings)
            && kept.unclear == unclear
            && kept.strings == strings
        {
            return Rc::clone(&kept.context);
        }
        let role = role(&settings).unwrap_or_else(|| self.identity.server_user.clone());
        let path = search_path(&settings);
        // A session of before tables were declared does not say: nothing is certain.
        let unclear_path = path.is_none();
        let standard = || vec!["$user".to_owned(), "public".to_owned()];
        let search_path = path
            .unwrap_or_else(standard)
            .into_iter()
            .map(|schema| {
                if schema == "$user" {
                    role.clone()
                } else {
                    schema
                }
            })
            .collect();
        let context = self.core.share_context(PlanContext {
            search_path,
            role,
            parameter_types: Vec::new(),
            temporary: if unclear || unclear_path {
                Temporary::Unclear
            } else {
                Temporary::None
            },
            standard_conforming_strings: strings,
        });
        self.context = Some(KeptContext {
            settings,
            unclear,
            strings,
            context: Rc::clone(&context),
        });
        context
    }

    /// What the text of a key's value means in this session.
    pub(super) fn text_context(&self) -> TextContext {
        *self.state.told.text()
    }
}

impl Prepared {
    /// Remembers a plan of one of its statements.
    fn keep(&self, at: usize, world: u64, context: Rc<PlanContext>, plan: &Rc<Plan>) {
        let mut plans = self.plans.borrow_mut();
        plans.retain(|(_, p)| p.world == world);
        if plans.len() >= KEPT {
            plans.remove(0);
        }
        let plan = Rc::clone(plan);
        let planned = Planned {
            world,
            context,
            plan,
        };
        plans.push((at, planned));
    }
}

/// The context with the parameter types that Parse declared.
fn full_context(context: &PlanContext, origin: &Origin) -> PlanContext {
    let mut full = context.clone();
    if let Origin::Parse(types) = origin {
        full.parameter_types = types
            .chunks_exact(4)
            .map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
    }
    full
}

/// The context of the last statement, and what it was made of.
pub struct KeptContext {
    settings: Arc<Settings>,
    unclear: bool,
    strings: bool,
    context: Rc<PlanContext>,
}

/// What a statement counts as: with one shard it is single, whatever it could have been.
fn kind_of(plan: &Plan, route: &Route) -> PlanKind {
    match plan {
        _ if route.shards.len() == 1 => PlanKind::Single,
        Plan::Split(_) => PlanKind::Split,
        _ => PlanKind::Scatter,
    }
}

/// The rows of a VALUES list that belong to one shard, as a statement.
fn part(
    sql: &str,
    split: &crate::plan::Split,
    route: &Route,
    shard: mothership_shardmap::ShardId,
) -> Result<Option<Rc<[u8]>>, Halt> {
    let (SplitRows::Values { rows, .. }, Some(kept)) = (&split.rows, route.rows.get(&shard)) else {
        return Ok(None);
    };
    match crate::plan::route::part_of(sql, rows, kept) {
        Some(text) => Ok(Some(Rc::from(text.into_bytes()))),
        None => Err(Report::error(
            sqlstate::INTERNAL_ERROR,
            "rows of a divided INSERT were not found in its text",
        )
        .into()),
    }
}

/// A refusal in the client's words.
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

/// The role that a session has taken.
fn role(settings: &Settings) -> Option<String> {
    let value = settings
        .get("role")
        .or_else(|| settings.get("session_authorization"))?;
    values(value).into_iter().next()
}

/// The search path that a session has set.
pub(super) fn search_path(settings: &Settings) -> Option<Vec<String>> {
    settings.get("search_path").map(values)
}

/// The arguments of an EXECUTE, if each is a plain literal: its text, or NULL.
pub(super) fn literals(list: &[u8]) -> Option<Vec<Option<Vec<u8>>>> {
    let mut tokens = Lexer::new(list, true).peekable();
    let mut found = Vec::new();
    while tokens.peek().is_some() {
        let mut token = tokens.next()?;
        let mut text = Vec::new();
        if token.kind == TokenKind::Operator && token.text(list) == b"-" {
            text.push(b'-');
            token = tokens
                .next()
                .filter(|t| matches!(t.kind, TokenKind::Integer | TokenKind::Decimal))?;
        }
        let value = match token.kind {
            TokenKind::Integer | TokenKind::Decimal => {
                text.extend_from_slice(token.text(list));
                Some(text)
            }
            TokenKind::String => {
                let quoted = token.text(list);
                let inner = quoted.strip_prefix(b"'")?.strip_suffix(b"'")?;
                Some(
                    String::from_utf8(inner.to_vec())
                        .ok()?
                        .replace("''", "'")
                        .into_bytes(),
                )
            }
            TokenKind::Word if token.text(list).eq_ignore_ascii_case(b"null") => None,
            _ => return None,
        };
        found.push(value);
        if tokens.next().is_some_and(|t| t.kind != TokenKind::Comma) {
            return None;
        }
    }
    Some(found)
}

/// The names in a setting's value: those after TO or =, or those of the bare list.
pub(super) fn values(value: &Value) -> Vec<String> {
    match value {
        Value::Text(list) => names(list.as_bytes()),
        Value::Statement(sql) => match analyse(sql.as_bytes(), true).statement {
            Statement::Set {
                value: crate::sql::effect::SetValue::Given { span, .. },
                ..
            } => names(span.of(sql.as_bytes())),
            Statement::SetRole {
                role: crate::sql::effect::Target::Role(name),
                ..
            }
            | Statement::SetSessionAuthorization {
                role: crate::sql::effect::Target::Role(name),
                ..
            } => name.as_str().map(str::to_owned).into_iter().collect(),
            _ => Vec::new(),
        },
    }
}

fn names(list: &[u8]) -> Vec<String> {
    let tokens = Lexer::new(list, true);
    tokens
        .filter_map(|token| match token.kind {
            // `$user` without quotes is two tokens that PostgreSQL's list takes as a name.
            TokenKind::Word | TokenKind::QuotedIdent | TokenKind::UnicodeIdent => {
                let name = crate::sql::name::identifier(token, list, b'\\')?;
                name.as_str().map(str::to_owned)
            }
            TokenKind::String | TokenKind::EscapeString => {
                let text = token.text(list);
                let text = std::str::from_utf8(text)
                    .ok()?
                    .trim_start_matches(['E', 'e']);
                Some(text.trim_matches('\'').to_owned())
            }
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_path_is_read_from_every_way_to_set_it() {
        let statement = |sql: &str| values(&Value::Statement(sql.into()));
        assert_eq!(
            statement("SET search_path TO a, \"B c\", 'd'"),
            ["a", "B c", "d"]
        );
        assert_eq!(statement("set search_path = public"), ["public"]);
        assert_eq!(
            values(&Value::Text("\"$user\", public".into())),
            ["$user", "public"]
        );
        assert_eq!(values(&Value::Text(String::new())), [] as [&str; 0]);
        assert_eq!(statement("SET ROLE alice"), ["alice"]);
    }
}
