//! By what a session plans: sees to it that what it knows of its database is good enough for the statement at hand.

use super::dispatch::{not_utf8, refused};
use super::names::{Origin, Prepared};
use super::own::Others;
use super::planning::{role, search_path, values};
use super::settings::Value;
use super::state::Block;
use super::temporary::{self, Told};
use super::{Halt, Session};
use crate::core::Age;
use crate::world::{Ask, World};
use mothership_plan::{Plan, Reason, Refusal};
use mothership_proto::report::{Report, sqlstate};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A catalog read so recently is not read again for a name that it does not have.
pub(super) const SEEN_JUST_NOW: Duration = Duration::from_millis(500);

impl Session {
    /// Sees to it that the newest knowledge is used: after a change of definitions that
    /// went through this router, and from time to time for those that did not.
    pub(super) async fn refresh_world(&mut self) -> Result<(), Halt> {
        self.refresh_code().await?;
        self.see_temporary().await?;
        if self.has_own_definitions() {
            return self.see_own_definitions().await;
        }
        // It also takes over a new configuration.
        match self.is_up_to_date() || self.knows_world() {
            true => Ok(()),
            false => self.read_world().await,
        }
    }

    /// Asks the server on which code has run that cannot be seen what temporary relations there are now. As long as it
    /// cannot be asked, or says that such code has changed what names mean otherwise, names stay unclear.
    async fn see_temporary(&mut self) -> Result<(), Halt> {
        let in_block = match self.state.block {
            _ if self.state.pins.is_empty() => return Ok(()),
            Block::None => false,
            Block::Begun | Block::Open => true,
            Block::Failed | Block::Refused | Block::Lost => return Ok(()),
        };
        let pinned = |s: &super::Attached| s.inbox.pinned && !s.inbox.in_segment;
        let [only] = self.servers.as_slice() else {
            return Ok(());
        };
        let Some(path) = search_path(self.state.in_force()) else {
            return Ok(());
        };
        if self.world.is_none() || !pinned(only) || !self.state.temporary.can_be_asked(in_block) {
            return Ok(());
        }
        let answer = self.ask_row(0, temporary::ASK).await?;
        let Ok(told) = serde_json::from_str::<Told>(&answer.unwrap_or_default()) else {
            return Ok(());
        };
        let role = role(self.state.in_force());
        let role = role.unwrap_or_else(|| self.entry.who.server_user.to_string());
        if path == values(&Value::Text(told.search_path)) && role == told.role && !told.types {
            self.state.temporary.are(told.names);
        }
        Ok(())
    }

    /// Takes over a new configuration. True if nothing newer has to be read.
    pub(super) fn is_up_to_date(&mut self) -> bool {
        if !self.core.shared.is_current(&self.topology) || self.rules.may_change(&self.topology) {
            let topology = self.core.shared.topology();
            self.refresh_rules(&topology);
            if self.servers.is_empty() {
                self.topology = topology;
            }
        }
        (self.is_session_mode() || self.knows_code()) && self.knows_world()
    }

    /// True if nothing newer has to be read of the catalog.
    fn knows_world(&mut self) -> bool {
        if !self.topology.declared && !self.rules.needs_catalog() {
            return true;
        }
        let most = self.topology.config.catalog.refresh_interval;
        let now = self.state.tally.begun();
        let fresh = |world: &Arc<World>| world.age(self.epoch(), most, now) == Age::Fresh;
        self.known_world().is_some_and(fresh) || self.takes_shared_world()
    }

    /// Takes over what others have read, if that will do.
    fn takes_shared_world(&mut self) -> bool {
        let database = &self.entry.who.database;
        let Some(mut world) = self.core.shared.world(database) else {
            return false;
        };
        let most = self.topology.config.catalog.refresh_interval;
        match world.age(self.epoch(), most, Instant::now()) {
            Age::Fresh => {}
            Age::Due => self.core.read_world_soon(database, &world),
            Age::Over => {
                if world.is_partial() {
                    // What is read now does not wait for those that were away.
                    self.core.read_world_soon(database, &world);
                }
                let Some(other) = self.core.shared.fall_back(database, self.epoch(), most) else {
                    return false;
                };
                world = other;
            }
        }
        if !self.known_world().is_some_and(|k| Arc::ptr_eq(k, &world)) {
            self.put_world(world);
        }
        true
    }

    async fn read_world(&mut self) -> Result<(), Halt> {
        let epoch = self.epoch();
        let most = self.topology.config.catalog.refresh_interval;
        let will_do = |world: &World| world.age(epoch, most, Instant::now()) != Age::Over;
        self.reload_world(will_do).await
    }

    /// The epoch that new prepared statements belong to.
    pub(super) fn epoch(&self) -> u64 {
        let epoch = &self.core.shared.schema_epoch;
        epoch.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// A statement names relations that are neither in the catalog nor declared. Perhaps
    /// somebody has made them past this router: the catalog is read again before the
    /// statement is believed to concern the home shard only. Returns its plan, if anything is planned.
    pub(super) async fn look_for_unknown(
        &mut self,
        statement: &Prepared,
        at: usize,
    ) -> Result<Option<Rc<Plan>>, Halt> {
        self.plan_large(statement, at).await;
        match self.plan_by_known(statement, at)? {
            Some((plan, true)) => self.look_again(statement, at, plan).await,
            Some((plan, false)) => Ok(Some(plan)),
            None => Ok(None),
        }
    }

    /// The plan of a statement, if anything is planned, and whether it names what is unknown.
    pub(super) fn plan_by_known(
        &mut self,
        statement: &Prepared,
        at: usize,
    ) -> Result<Option<(Rc<Plan>, bool)>, Halt> {
        let (Some(world), Some(step)) = (self.world.clone(), statement.steps.get(at)) else {
            return Ok(None);
        };
        let sql = std::str::from_utf8(step.span.of(&statement.sql)).map_err(|_| not_utf8())?;
        let plan = self.plan(statement, at, sql, &world)?;
        let unknown = match &*plan {
            Plan::Single(single) => !single.unknown.is_empty(),
            // Nobody may hold it any more.
            Plan::Refuse(refusal) => refusal.reason == Reason::Unread,
            _ => false,
        };
        Ok(Some((plan, unknown)))
    }

    /// Reads the catalog again for a statement that by the present one has this plan, unless that is of just now.
    async fn look_again(
        &mut self,
        statement: &Prepared,
        at: usize,
        plan: Rc<Plan>,
    ) -> Result<Option<Rc<Plan>>, Halt> {
        let Some(world) = self.world.clone() else {
            return Ok(None);
        };
        // What the transaction has defined itself, and could not be read of it, would not be found.
        let refused = statement
            .steps
            .get(at)
            .is_some_and(|step| self.check_defined(step, &plan).is_err());
        if refused || world.read.elapsed() < SEEN_JUST_NOW {
            return Ok(Some(plan));
        }
        let version = world.version;
        self.reload_world(move |world: &World| world.version > version)
            .await?;
        let planned = self.plan_by_known(statement, at)?;
        Ok(planned.map(|(plan, _)| plan))
    }

    /// Reads the catalog, unless another session has put one in force meanwhile that will do.
    pub(super) async fn reload_world(
        &mut self,
        will_do: impl Fn(&World) -> bool,
    ) -> Result<(), Halt> {
        if self.has_own_definitions() {
            return self
                .read_own_definitions(self.epoch(), Others::AreRead)
                .await;
        }
        let loading = self.core.loading(&self.entry.who.database);
        let _one = loading.lock().await;
        // Another session may have read it meanwhile.
        if let Some(world) = self.core.shared.world(&self.entry.who.database)
            && will_do(&world)
        {
            self.put_world(world);
            return Ok(());
        }
        let database = &self.entry.who.database;
        match Box::pin(self.core.read_world(database, Ask::Known)).await {
            Ok(world) => {
                self.put_world(world);
                Ok(())
            }
            Err(error) => {
                let chain = crate::log::Chain(&error).to_string();
                tracing::error!(
                    database = &*self.entry.who.database,
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
        if let (Some(inner), Some(_)) = (statement.step().and_then(|s| s.explains), &self.world) {
            // Where it runs is known when it is bound.
            let explained = self.explained_statement(statement, inner.of(&statement.sql));
            return Box::pin(self.check_unbound(&explained)).await;
        }
        let plan = self.look_for_unknown(statement, 0).await?;
        let plan = match plan.as_deref() {
            Some(Plan::Fill(fill)) if matches!(statement.origin, Origin::Parse(_)) => {
                // What is refused of it is refused with any values.
                let (filled, _) = self.filled_statement(statement, fill)?;
                self.plan_by_known(&filled, 0)?.map(|(plan, _)| plan)
            }
            _ => plan,
        };
        match plan.as_deref() {
            Some(Plan::Refuse(refusal)) => Err(refused(refusal).into()),
            _ => Ok(()),
        }
    }

    /// A key without a shard may have been added to a directory past this router: the
    /// client's next try finds it.
    pub(super) fn doubt_directories(&self, refusal: &Refusal, world: &World) {
        let unknown = refusal.reason == mothership_plan::Reason::NoOwner;
        if unknown && !world.directories().is_empty() && world.read.elapsed() >= SEEN_JUST_NOW {
            let epoch = &self.core.shared.schema_epoch;
            epoch.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
}
