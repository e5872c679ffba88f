//! Runs a plan that gathers: fetches the fragments from their shards, hands them to one server, and lets it run the
//! residue.
//!
//! What is fetched is held here in its binary form until all of it is there, so its rows and bytes have limits. A
//! server is asked first what the client's own text means: its parameters and columns are what the client is told. In
//! the extended protocol a query is gathered at Bind, when PostgreSQL takes its snapshot; what is left is a portal of
//! one server. A write is gathered when it is executed.

mod alone;

mod change;
mod conflict;
mod copy;

mod divide;

mod fetch;

mod lock;

mod residue;

mod send;

mod within;

mod write;

use super::choose::Wants;
use super::dispatch::refused;
use super::many::Merging;
use super::state::{Phase, State};
use super::turns::{Turns, patiently};
use super::{Halt, Servers, Session};
use crate::model::DatabaseModel;
use crate::session::inbox::Notices;
use crate::session::servers::AttachedId;
use crate::statements::names::Prepared;
use crate::statements::step::steps;
use crate::topology::Topology;
use copy::Shown;
use mothership_merge::Shape;
use mothership_plan::gather::{Ending, Keeper, Verb};
use mothership_plan::{Gather, Merge, Role};
use mothership_proto::backend::Column;
use mothership_proto::frontend::{Bind, Target};
use mothership_proto::ledger::Audience;
use mothership_proto::report::{Report, sqlstate};
use mothership_shardmap::ShardId;
use mothership_sql::effect::Pin;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

pub(in crate::session) use alone::Bound;
pub(in crate::session) use conflict::Conflict;
pub(in crate::session) use fetch::{Fetching, Leg};
pub(super) use residue::without_position;
pub use write::GatherPortal;

/// The portal of the router's own statements here, which is nobody else's.
pub(super) const PORTAL: &[u8] = b"mothership_gather";

/// A plan that gathers, with the texts and shards of one run.
pub struct GatherWork {
    /// The plan.
    pub plan: Arc<Gather>,
    /// The texts of the fragments.
    pub fragments: Vec<String>,
    /// Of a fragment that stores rows, the text for a shard: with those that belong there.
    pub parts: BTreeMap<(usize, ShardId), String>,
    /// What is made of the rows of those that lock them.
    pub locked: BTreeMap<usize, Shape>,
    /// Their shards.
    pub shards: Vec<Vec<ShardId>>,
    /// The text that runs on their rows.
    pub residue: String,
    /// The shards that it writes to.
    pub target: Vec<ShardId>,
    /// An INSERT up to its rows.
    pub head: String,
    /// And behind them.
    pub tail: String,
    /// What its plan was made by.
    pub planned_by: Option<Arc<DatabaseModel>>,
}

impl GatherWork {
    /// Whether it changes anything.
    pub fn writes(&self) -> bool {
        match &self.plan.ending {
            Ending::Answer => false,
            Ending::Write(_) | Ending::Store(_) | Ending::Change(_) => true,
            Ending::Keep(keep) => !matches!(keep.by, Keeper::Cursor(_)),
        }
    }

    /// Whether it locks rows.
    pub(super) fn locks(&self) -> bool {
        self.writes() || self.writes_first() || !self.locked.is_empty()
    }

    /// The text of a fragment for a shard.
    pub(super) fn text(&self, fragment: usize, shard: ShardId) -> &str {
        let part = self.parts.get(&(fragment, shard));
        part.unwrap_or(&self.fragments[fragment])
    }

    /// What the client is told, where the servers say `command`.
    fn told(&self, command: Vec<u8>) -> Vec<u8> {
        match (&self.plan.ending, command.strip_prefix(b"INSERT 0 ")) {
            (Ending::Store(store), Some(rows)) if store.verb == Verb::Update => {
                [b"UPDATE ", rows].concat()
            }
            _ => command,
        }
    }

    /// The statement that keeps the rows of this residue, if they are kept.
    fn keeping(&self, residue: &str) -> Option<String> {
        match &self.plan.ending {
            Ending::Keep(_) => Some(format!("{}{residue}{}", self.head, self.tail)),
            Ending::Answer | Ending::Write(_) | Ending::Store(_) | Ending::Change(_) => None,
        }
    }
}

/// A value of a parameter: its format, and its bytes if it is not NULL.
pub(super) type Value<'v> = (i16, Option<&'v [u8]>);

/// What a server says of the client's own text.
#[derive(Default, Clone)]
pub(super) struct Described {
    /// The types of its parameters, in the client's object ids.
    pub parameters: Vec<u8>,
    columns: Vec<Column>,
}

impl Servers {
    /// Sets the statement's savepoint on these servers, where it is undone by one.
    pub(in crate::session) fn save_legs(&mut self, state: &State, legs: &[Leg], turns: Turns) {
        if turns.saves() {
            legs.iter().for_each(|leg| self.save_on(state, leg.at));
        }
    }
}

impl Session {
    /// Runs a simple query that gathers, up to its CommandComplete, which is returned and not written.
    pub(super) async fn query_gather(
        &mut self,
        sql: &[u8],
        work: &GatherWork,
    ) -> Result<Vec<u8>, Halt> {
        let mut attempts = self.transaction.attempts(&self.servers, &self.state, work);
        let mut turns = self.gathering_turns(sql, work);
        let shared = Arc::clone(&self.core.shared);
        self.begin_attempts();
        self.servers.begin_saving();
        loop {
            self.begin_attempt(turns);
            let attempt = self.query_gather_once(sql, work, turns);
            let done = match work.locks() {
                true => patiently(&shared.stuck, attempt).await,
                false => attempt.await,
            };
            if !self.goes_again(sql, &mut turns, &mut attempts).await? {
                let command = done?;
                self.check_not_overtaken(sql, work.planned_by.as_ref())
                    .await?;
                return Ok(command);
            }
        }
    }

    /// How a statement goes to its shards that gathers.
    pub(in crate::session) fn gathering_turns(&self, sql: &[u8], work: &GatherWork) -> Turns {
        if !work.locks() {
            return Turns::ONE;
        }
        let turns = self.turns_of(sql, &steps(sql, self.standard_strings()));
        match can_save(&self.topology, work) {
            true => turns,
            false => turns.of_transactions(),
        }
    }

    /// A server for more of a statement, where it can be undone as on the others.
    pub(in crate::session) async fn attach_saved(
        &mut self,
        shard: ShardId,
        turns: Turns,
    ) -> Result<AttachedId, Halt> {
        let at = self.attach(shard).await?;
        if turns.saves() {
            self.servers.save_on(&self.state, at);
        }
        Ok(at)
    }

    /// Whether a statement that has ended runs again: it met another one, or others and it waited for each other.
    async fn goes_again(
        &mut self,
        sql: &[u8],
        turns: &mut Turns,
        attempts: &mut conflict::Attempts,
    ) -> Result<bool, Halt> {
        if self.end_attempt(turns, sql).await? {
            return Ok(true);
        }
        self.met_conflict(attempts).await
    }

    async fn query_gather_once(
        &mut self,
        sql: &[u8],
        work: &GatherWork,
        turns: Turns,
    ) -> Result<Vec<u8>, Halt> {
        let own = steps(sql, self.standard_strings());
        // What COMMIT leaves can still be undone when the statement has run.
        let holds = own.iter().any(|step| step.pins.has(Pin::HoldCursor));
        if work.locks() || holds {
            self.transaction.begin_implicit(&mut self.state);
        }
        let wants = match work.plan.role {
            Role::Primary(_) => Wants::Primary,
            Role::Replica => self.wants(false, &own, None),
        };
        let copied = copy::copied(sql, self.standard_strings())?;
        if copied.is_some() && work.writes() {
            return Err(refused(&work.plan.why).into());
        }
        let text = sql;
        let sql = match (&copied, &work.plan.ending) {
            (Some(copied), _) => copied.query.as_bytes(),
            (None, Ending::Keep(keep)) => keep.asked.as_bytes(),
            (None, _) => sql,
        };
        let residue = self.residue_shard(work);
        let mut legs = self.attach_legs(work, residue, &wants).await?;
        self.servers.save_legs(&self.state, &legs, turns);
        let mut fetching = self.topology.fetching(work);
        let at = self.servers.place_of(residue)?;
        if let Some(leg) = legs.iter_mut().find(|leg| leg.at == at) {
            leg.describes = true;
            // What it has to say of the client's own text is the client's to hear.
            self.servers[at].inbox.notices = Notices::All;
            self.servers[at].ask_description(sql, &[]);
        }
        let given: (&[u8], &[Value<'_>]) = (&[], &[]);
        self.fetch(&legs, work, given, &mut fetching).await?;
        let described = Described::clone(&fetching.described);
        let legs = (&*legs, turns.order);
        self.lock_within(legs, work, sql, given, &mut fetching)
            .await?;
        self.write_within(at, legs, work, sql, (&described, &[]), &mut fetching)
            .await?;
        if copied.is_some() {
            fetching.is_running = false;
        }
        let (arrays, described) = self.fetched(fetching)?;
        if work.writes() {
            let run = write::Run {
                sql,
                values: &[],
                formats: &[],
                arrays: &arrays,
                described: &described,
                describes: true,
                held: None,
                turns,
            };
            let command = self.write_gathered(at, work, &run).await?;
            self.keeps(text, at, work, &command);
            return Ok(command);
        }
        let residue = self.with_times(sql, &work.residue, false).await?;
        let residue = self.with_one_moment(at, residue).await?;
        self.transaction.conflict.shows_rows();
        let shown = match &copied {
            Some(copied) => Shown::copied(&copied.format),
            None => Shown::default(),
        };
        let given = (&[][..], &arrays[..]);
        let command = self
            .query_residue(at, (work, &residue), given, &described, shown)
            .await?;
        self.keeps(text, at, work, &command);
        Ok(command)
    }

    /// What follows for the session from a statement that keeps rows on the server `at`.
    fn keeps(&mut self, sql: &[u8], at: AttachedId, work: &GatherWork, command: &[u8]) {
        if let Some(step) = steps(sql, self.standard_strings()).first()
            && matches!(work.plan.ending, Ending::Keep(_))
        {
            let inbox = &mut self.servers[at].inbox;
            self.state.ended_well(step, command, inbox);
        }
    }

    /// The same for EXECUTE, which binds `values` to `statement`.
    pub(super) async fn execute_gather(
        &mut self,
        statement: &Rc<Prepared>,
        values: &[Value<'_>],
        work: &GatherWork,
    ) -> Result<Vec<u8>, Halt> {
        let mut attempts = self.transaction.attempts(&self.servers, &self.state, work);
        let mut turns = self.gathering_turns(&statement.sql, work);
        let shared = Arc::clone(&self.core.shared);
        self.begin_attempts();
        self.servers.begin_saving();
        loop {
            self.begin_attempt(turns);
            let attempt = self.execute_gather_once(statement, values, work, turns);
            let done = match work.locks() {
                true => patiently(&shared.stuck, attempt).await,
                false => attempt.await,
            };
            if !self
                .goes_again(&statement.sql, &mut turns, &mut attempts)
                .await?
            {
                let done = done?;
                let planned_by = work.planned_by.as_ref();
                self.check_not_overtaken(&statement.sql, planned_by).await?;
                return Ok(done);
            }
        }
    }

    async fn execute_gather_once(
        &mut self,
        statement: &Rc<Prepared>,
        values: &[Value<'_>],
        work: &GatherWork,
        turns: Turns,
    ) -> Result<Vec<u8>, Halt> {
        if work.locks() {
            self.transaction.begin_implicit(&mut self.state);
        }
        let residue = self.residue_shard(work);
        let legs = self.attach_legs(work, residue, &Wants::Primary).await?;
        self.servers.save_legs(&self.state, &legs, turns);
        let at = self.servers.place_of(residue)?;
        self.make_known(at, statement).await?;
        let lease = &mut self.servers[at].lease;
        lease.request(Audience::Router, |send| {
            send.describe(Target::Statement, statement.server_name().as_bytes());
            send.sync();
        });
        let mut fetching = self.topology.fetching(work);
        let asks = Leg {
            at,
            describes: true,
            fragments: Vec::new(),
        };
        self.collect_leg(&asks, &[], &mut fetching).await?;
        if fetching.is_fine() {
            let types = fetching.described.parameters.clone();
            let given = (&*types, values);
            self.fetch(&legs, work, given, &mut fetching).await?;
            let legs = (&*legs, turns.order);
            self.lock_within(legs, work, &statement.sql, given, &mut fetching)
                .await?;
            let described = Described::clone(&fetching.described);
            let given = (&described, values);
            self.write_within(at, legs, work, &statement.sql, given, &mut fetching)
                .await?;
        }
        let (arrays, described) = self.fetched(fetching)?;
        if work.writes() {
            let run = write::Run {
                sql: &statement.sql,
                values,
                formats: &[],
                arrays: &arrays,
                described: &described,
                describes: true,
                held: None,
                turns,
            };
            return self.write_gathered(at, work, &run).await;
        }
        let text = self
            .with_times(&statement.sql, &work.residue, false)
            .await?;
        self.transaction.conflict.shows_rows();
        self.query_residue(
            at,
            (work, &text),
            (values, &arrays),
            &described,
            Shown::default(),
        )
        .await
    }

    /// The same of a query at Bind: afterwards the portal is there on the server of the shard that is returned.
    pub(super) async fn bind_gather(
        &mut self,
        bind: &Bind<'_>,
        statement: &Rc<Prepared>,
        work: &GatherWork,
    ) -> Result<ShardId, Halt> {
        let mut attempts = self.transaction.attempts(&self.servers, &self.state, work);
        let mut turns = self.gathering_turns(&statement.sql, work);
        let mut meant = None;
        let shared = Arc::clone(&self.core.shared);
        self.begin_attempts();
        self.servers.begin_saving();
        loop {
            let attempt = self.bind_gather_once(bind, statement, work, (turns, &mut meant));
            let done = match work.locks() {
                true => patiently(&shared.stuck, attempt).await,
                false => attempt.await,
            };
            if !self
                .goes_again(&statement.sql, &mut turns, &mut attempts)
                .await?
            {
                let done = done?;
                let planned_by = work.planned_by.as_ref();
                self.check_not_overtaken(&statement.sql, planned_by).await?;
                return Ok(done);
            }
        }
    }

    async fn bind_gather_once(
        &mut self,
        bind: &Bind<'_>,
        statement: &Rc<Prepared>,
        work: &GatherWork,
        (turns, meant): (Turns, &mut Option<Described>),
    ) -> Result<ShardId, Halt> {
        if copy::copied(&statement.sql, self.standard_strings())?.is_some() {
            // It would have to be a portal of COPY.
            return Err(refused(&work.plan.why).into());
        }
        let alone = self.is_alone_in_segment(bind.portal);
        let wants = match work.plan.role {
            Role::Replica if alone => self.wants(false, &statement.steps, None),
            _ => Wants::Primary,
        };
        if work.locks() {
            self.transaction.begin_implicit(&mut self.state);
        }
        let residue = self.residue_shard(work);
        let legs = self.attach_legs(work, residue, &wants).await?;
        self.servers.save_legs(&self.state, &legs, turns);
        let described = match meant {
            Some(described) => described.clone(),
            None => self.describe_gathered(bind, statement, residue).await?.1,
        };
        // From here on: what was told of the statement's Parse is not of the attempt.
        if turns.can_undo() {
            *meant = Some(described.clone());
        }
        self.begin_attempt(turns);
        let at = self.servers.place_of(residue)?;
        let mut fetching = self.topology.fetching(work);
        fetching.described = match &work.plan.ending {
            Ending::Keep(keep) => {
                let asked = keep.asked.as_bytes();
                self.describe_text(at, asked, &described.parameters).await?
            }
            Ending::Answer | Ending::Write(_) | Ending::Store(_) | Ending::Change(_) => described,
        };
        let values: Vec<Value<'_>> = bind.values().collect();
        let types = fetching.described.parameters.clone();
        let given = (&*types, &*values);
        self.fetch(&legs, work, given, &mut fetching).await?;
        let legs = (&*legs, turns.order);
        self.lock_within(legs, work, &statement.sql, given, &mut fetching)
            .await?;
        let (arrays, described) = self.fetched(fetching)?;
        let text = self
            .with_times(&statement.sql, &work.residue, false)
            .await?;
        self.transaction.conflict.shows_rows();
        self.servers.active = Some(at);
        self.bind_residue(at, bind, (work, &text), &values, (&arrays, &described))
            .await?;
        Ok(residue)
    }

    /// Asks the server of a shard, which is attached, what a statement of the client means that is being bound.
    pub(super) async fn describe_gathered(
        &mut self,
        bind: &Bind<'_>,
        statement: &Rc<Prepared>,
        shard: ShardId,
    ) -> Result<(AttachedId, Described), Halt> {
        let ours = |name: &[u8]| *name == *bind.statement;
        match self.request.held.take() {
            Some((name, held)) if ours(&name) => {
                let at = self.attach(shard).await?;
                self.parse_on(at, &name, &held).await?;
                self.settle_active().await?;
            }
            other => {
                self.request.held = other;
                self.flush_held().await?;
                self.settle_active().await?;
            }
        }
        let at = self.servers.place_of(shard)?;
        let name = self.on_server(at, bind.statement, statement).await?;
        let leg = Leg {
            at,
            describes: true,
            fragments: Vec::new(),
        };
        let attached = &mut self.servers[at];
        attached.inbox.in_segment = true;
        attached.lease.request(Audience::Router, |send| {
            send.describe(Target::Statement, name.as_bytes());
            send.flush();
        });
        let mut fetching = fetch::Fetching::default();
        self.collect_leg(&leg, &[], &mut fetching).await?;
        let (_, described) = self.fetched(fetching)?;
        let needed = described.parameters.len() / 4;
        if needed != bind.len() {
            return Err(wrong_count(bind, needed));
        }
        Ok((at, described))
    }

    /// Asks the server `at` for the columns of a text with parameters of these types.
    pub(in crate::session) async fn describe_text(
        &mut self,
        at: AttachedId,
        sql: &[u8],
        types: &[u8],
    ) -> Result<Described, Halt> {
        let segment = self.state.phase == Phase::Segment;
        let attached = &mut self.servers[at];
        let types = attached.inbox.types_on_shard(types);
        attached.ask_description(sql, &types);
        attached.lease.flush_or_sync(segment);
        let leg = Leg {
            at,
            describes: true,
            fragments: Vec::new(),
        };
        let mut fetching = fetch::Fetching::default();
        self.collect_leg(&leg, &[], &mut fetching).await?;
        let (_, described) = self.fetched(fetching)?;
        Ok(described)
    }

    /// A server's error is the client's.
    pub(super) fn failed_with(&mut self, body: &[u8]) -> Halt {
        if self.state.phase == Phase::Segment {
            return self.failed_in_segment(body);
        }
        let mut merging = Merging::new(&Merge::Concat, 1);
        merging.error = Some(body.to_vec());
        match self.finish_many(merging) {
            Err(halt) => halt,
            Ok(_) => Halt::Failed,
        }
    }
}

/// PostgreSQL's own words.
fn wrong_count(bind: &Bind<'_>, needed: usize) -> Halt {
    let name = String::from_utf8_lossy(bind.statement);
    let given = bind.len();
    let message = format!(
        "bind message supplies {given} parameters, but prepared statement \"{name}\" requires {needed}"
    );
    Report::error(sqlstate::PROTOCOL_VIOLATION, message).into()
}

/// Whether a savepoint on each server undoes what the statement does: MongoDB has none, and a definition, or a
/// cursor, would have to be forgotten as well.
fn can_save(topology: &Topology, work: &GatherWork) -> bool {
    let ending = match &work.plan.ending {
        Ending::Answer | Ending::Write(_) => true,
        Ending::Store(store) => !store.documents,
        Ending::Keep(_) | Ending::Change(_) => false,
    };
    let mut shards = work.shards.iter().flatten().chain(&work.target);
    ending && shards.all(|shard| topology.is_postgres(*shard))
}
