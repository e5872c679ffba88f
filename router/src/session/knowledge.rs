//! By what a session plans: sees to it that what it knows of its database is good enough for the statement at hand.

use super::dispatch::{not_utf8, refused};
use super::own::Others;
use super::planning::{KeptContext, role, search_path, values};
use super::state::{Block, Unfollowed};
use super::{Attached, Halt, Session};
use crate::core::Age;
use crate::core::code::Code;
use crate::model::{Ask, DatabaseModel};
use crate::statements::environment::KeptEnvironment;
use crate::statements::names::{Origin, Prepared};
use crate::statements::settings::{Change, Setting, Value, local_sql};
use crate::statements::temporary::{self, ServerSessionState};
use mothership_catalog::types::words;
use mothership_plan::{DdlPlace, Plan, Reason, Refusal};
use mothership_proto::report::{Report, sqlstate};
use mothership_shardmap::ShardId;
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A catalog read so recently is not read again for a name that it does not have, unless the home shard has such a relation.
pub(super) const SEEN_JUST_NOW: Duration = Duration::from_millis(500);

/// Settings that are not asked for by their names: they are told by others.
const NOT_ASKED: [&str; 3] = ["role", "session_authorization", "client_encoding"];

/// Whether a change reads the same in all encodings.
fn is_ascii(change: &Change) -> bool {
    match change {
        Change::Set(Setting {
            value: Value::Text(value),
            ..
        }) => value.is_ascii(),
        _ => true,
    }
}

/// What a session knows of its database, and what it made of that for its last statement. All of it can be found out
/// again: whatever is too old, or was made of other settings, is replaced.
#[derive(Default)]
pub(super) struct Knowledge {
    /// What is known of the database, if any table is declared.
    pub model: Option<Arc<DatabaseModel>>,
    /// What is known of the code in its database.
    pub code: Option<Arc<Code>>,
    /// What plans depend on, as of the last statement.
    pub context: Option<KeptContext>,
    /// What its statements are analysed by, as it was last.
    pub kept_environment: Cell<Option<Box<KeptEnvironment>>>,
    /// The text that the home shard was asked about last: the client may run it.
    pub may_run: Option<Box<str>>,
}

impl Session {
    /// Sees to it that the newest knowledge is used: after a change of definitions that
    /// went through this router, and from time to time for those that did not.
    pub(super) async fn refresh_model(&mut self) -> Result<(), Halt> {
        self.refresh_code().await?;
        self.see_session().await?;
        if self.state.has_own_definitions(&self.topology) {
            return Box::pin(self.see_own_definitions()).await;
        }
        // It also takes over a new configuration.
        match self.is_up_to_date() || self.knows_model() {
            true => Ok(()),
            false => Box::pin(self.read_model()).await,
        }
    }

    /// Asks the servers that ran code that cannot be seen what temporary relations there are now, and what the
    /// session's settings are now (ADR 44). If they cannot be asked, names stay unclear, and no other server is used
    /// ([`Session::check_followed`]).
    pub(super) async fn see_session(&mut self) -> Result<(), Halt> {
        self.state.end_unfollowed();
        let in_block = match self.state.block {
            _ if self.state.pins.is_empty()
                && self.state.marks.unfollowed == Unfollowed::Nothing =>
            {
                return Ok(());
            }
            Block::None => {
                self.transaction.implicit || self.servers.iter().any(|s| s.inbox.in_segment)
            }
            Block::Begun | Block::Open => true,
            Block::Failed | Block::Refused | Block::Lost => return Ok(()),
        };
        let Some(model) = self.known.model.clone() else {
            return Ok(());
        };
        if !in_block && self.state.pins.is_empty() {
            // What was set for a transaction has ended with it.
            self.state.marks.forget_unfollowed();
            return Ok(());
        }
        let lacks_names = self.state.temporary.can_ask_server(in_block);
        let lacks_settings = self.state.marks.unfollowed == Unfollowed::Before;
        if !lacks_names && !lacks_settings {
            return Ok(());
        }
        let known = Arc::clone(self.state.in_force());
        let custom = model.custom_settings().names();
        let query = {
            let named = self.core.custom_settings.borrow();
            let names = known.iter().map(|setting| setting.name.as_str());
            let names = names.filter(|name| !NOT_ASKED.contains(name));
            let custom = custom.into_iter().flatten().map(String::as_str);
            self.state.marks.asked = Some(NonZeroU16::MIN.saturating_add(named.last()));
            temporary::session_state_query(names.chain(custom).chain(named.iter()))
        };
        // Code of the same transaction may have made names on all of these, and settings where it ran.
        let has_run = self.servers.iter().any(|s| s.inbox.unfollowed);
        let Some((all, sources)) = self.ask_servers(&query, has_run).await? else {
            return Ok(());
        };
        let spoken = sources.iter().filter_map(|at| all.get(*at));
        let Some(agreed) = ServerSessionState::agreed(spoken) else {
            return Ok(());
        };
        let owner = known.text("session_authorization");
        let owner = owner.map_or_else(
            || self.entry.who.names.server_user.to_string(),
            Cow::into_owned,
        );
        if agreed.session != owner {
            return Ok(());
        }
        let changes = agreed.changes(&known);
        // Others would be read by the encoding of the moment.
        let is_readable = changes.iter().all(is_ascii);
        if lacks_settings && custom.is_some() && is_readable {
            self.take_over_settings(&changes, in_block, has_run);
            self.state.marks.unfollowed = Unfollowed::Nothing;
        }
        let now = self.state.in_force();
        let role = role(now).unwrap_or_else(|| self.entry.who.names.server_user.to_string());
        let path = search_path(now);
        let has_types = all.iter().any(|told| told.types);
        if path == Some(values(&Value::Text(agreed.search_path.clone())))
            && role == agreed.role
            && !has_types
            && lacks_names
        {
            let names = all.into_iter().flat_map(|told| told.names);
            self.state.temporary.complete_with(names.collect());
        }
        Ok(())
    }

    /// What the servers say of the session on which code that is not followed may have run, and the places in it of those
    /// that speak for the settings. `None` if one does not say it.
    async fn ask_servers(
        &mut self,
        query: &str,
        has_run: bool,
    ) -> Result<Option<(Vec<ServerSessionState>, Vec<usize>)>, Halt> {
        let mut all: Vec<ServerSessionState> = Vec::new();
        let mut sources: Vec<usize> = Vec::new();
        for at in self.servers.ids() {
            let Attached { shard, inbox, .. } = &self.servers[at];
            let is_postgres = self.topology.is_postgres(*shard);
            if !is_postgres || !(inbox.is_pinned() || inbox.unfollowed) {
                continue;
            }
            if inbox.unfollowed || !has_run {
                sources.push(all.len());
            }
            // After a RESET it has a default of its own, and not the session's.
            self.bring_settings(at).await?;
            let Some(answer) = self.ask_row(at, query).await? else {
                return Ok(None);
            };
            let Ok(told) = serde_json::from_str(&answer) else {
                return Ok(None);
            };
            all.push(told);
        }
        Ok(Some((all, sources)))
    }

    /// The settings that code has changed on its servers are the session's: what joins gets them, too. Within a
    /// transaction nobody says whether they end with it, so there they do, and are asked for again.
    fn take_over_settings(&mut self, changes: &[Change], in_block: bool, has_run: bool) {
        if changes.is_empty() {
            return;
        }
        self.state.marks.found_in_block |= in_block;
        if in_block {
            self.state.history.local(&local_sql(changes));
            self.state.apply_local(changes);
        } else {
            for change in changes {
                self.state.settings.apply(change);
            }
        }
        let told = self.state.history.events().len();
        let current = Arc::clone(self.state.settings.current());
        let is_source = |s: &&mut Attached| match has_run {
            true => s.inbox.unfollowed,
            false => s.inbox.is_pinned(),
        };
        for attached in self.servers.iter_mut().filter(is_source) {
            match in_block {
                true => attached.inbox.told = told,
                false => attached.inbox.carried.bring_to(&current),
            }
        }
    }

    /// Whether a server of this shard may be used, if the settings of the session are not known.
    ///
    /// # Errors
    /// Code has run on another server that may have changed them, and they could not be asked for, or several servers said
    /// different things.
    pub(super) fn check_followed(&self, shard: ShardId) -> Result<(), Halt> {
        let ran = |s: &&Attached| s.inbox.is_pinned() || s.inbox.unfollowed;
        if self.state.marks.unfollowed != Unfollowed::Before
            || self.known.model.is_none()
            || self.servers.iter().filter(ran).all(|s| s.shard == shard)
        {
            return Ok(());
        }
        let message =
            "code that the router cannot follow may have changed the settings of this session";
        Err(
            Report::error(sqlstate::FEATURE_NOT_SUPPORTED, message)
                .detail("The statement needs another shard than the one that ran it.")
                .hint("Change settings with SET or with set_config and constants. DISCARD ALL makes them known again.")
                .into(),
        )
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
        (self.is_session_mode() || self.knows_code()) && self.knows_model()
    }

    /// True if nothing newer has to be read of the catalog.
    pub(super) fn knows_model(&mut self) -> bool {
        if !self.topology.declared && !self.rules.needs_catalog() {
            return true;
        }
        let most = self.topology.config.catalog.refresh_interval;
        let now = self.state.tally.begun();
        let fresh = |model: &Arc<DatabaseModel>| model.age(self.epoch(), most, now) == Age::Fresh;
        self.known_model().is_some_and(fresh) || self.takes_shared_model()
    }

    /// Takes over what others have read, if that will do.
    fn takes_shared_model(&mut self) -> bool {
        let database = &self.entry.who.names.database;
        let Some(mut model) = self.core.shared.model(database) else {
            return false;
        };
        let most = self.topology.config.catalog.refresh_interval;
        match model.age(self.epoch(), most, Instant::now()) {
            Age::Fresh => {}
            Age::Due => self.core.read_model_soon(database, &model),
            Age::Over => {
                if model.is_partial() {
                    // What is read now does not wait for those that were away.
                    self.core.read_model_soon(database, &model);
                }
                let Some(other) = self.core.shared.fall_back(database, self.epoch(), most) else {
                    return false;
                };
                model = other;
            }
        }
        if !self.known_model().is_some_and(|k| Arc::ptr_eq(k, &model)) {
            self.put_model(model);
        }
        true
    }

    pub(super) async fn read_model(&mut self) -> Result<(), Halt> {
        let epoch = self.epoch();
        let most = self.topology.config.catalog.refresh_interval;
        let will_do = |model: &DatabaseModel| model.age(epoch, most, Instant::now()) != Age::Over;
        self.reload_model(will_do).await
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
            Some((plan, true)) => Box::pin(self.look_again(statement, at, plan)).await,
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
        let (Some(model), Some(step)) = (self.known.model.clone(), statement.steps.get(at)) else {
            return Ok(None);
        };
        let sql = std::str::from_utf8(step.span.of(&statement.sql)).map_err(|_| not_utf8())?;
        let plan = self.plan(statement, at, sql, &model)?;
        let unknown = match &*plan {
            Plan::Single(single) => !single.unknown.is_empty(),
            // Nobody may hold it any more.
            Plan::Refuse(refusal) => refusal.reason == Reason::Unread,
            // Its names need not be the home shard's.
            Plan::Ddl(ddl) => ddl.place == DdlPlace::Home && !creates(sql),
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
        let Some(model) = self.known.model.clone() else {
            return Ok(None);
        };
        // What the transaction has defined itself, and could not be read of it, would not be found.
        let refused = statement.steps.get(at).is_some_and(|step| {
            self.state
                .check_defined(&self.topology, step, &plan)
                .is_err()
        });
        let seen = model.read.elapsed() < SEEN_JUST_NOW || matches!(*plan, Plan::Ddl(_));
        if refused || seen && !Box::pin(self.is_behind(&model, &statement.sql)).await {
            return Ok(Some(plan));
        }
        let version = model.version;
        self.reload_model(move |model: &DatabaseModel| model.version > version)
            .await?;
        let planned = self.plan_by_known(statement, at)?;
        Ok(planned.map(|(plan, _)| plan))
    }

    /// Whether the home shard has other relations by the names in a text than this model knows. Another router may have
    /// made one at this moment, and others may have been read before it.
    async fn is_behind(&self, model: &DatabaseModel, sql: &[u8]) -> bool {
        /// The same relations as in the catalog.
        const QUESTION: &str = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_class c \
            JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
            WHERE c.relname OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[]::pg_catalog.name[]) \
            AND c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p', 'v', 'm', 'f', 'S']::pg_catalog.\"char\"[]) \
            AND c.relpersistence OPERATOR(pg_catalog.<>) 't'::pg_catalog.\"char\" \
            AND n.nspname OPERATOR(pg_catalog.!~) '^pg_' \
            AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema'";
        let Ok(sql) = std::str::from_utf8(sql) else {
            return true;
        };
        if !self.topology.config.has_postgres() {
            return false;
        }
        let lower = sql.to_ascii_lowercase();
        let named: BTreeSet<&str> = words(&lower).chain(words(sql)).collect();
        let relations = model.catalog().relations.keys();
        let known = relations.filter(|name| named.contains(name.name.as_str()));
        let known = i64::try_from(known.count()).unwrap_or(i64::MAX);
        let named: Vec<&str> = named.into_iter().collect();
        let home = self.topology.home;
        let database = self
            .topology
            .database_on(&self.entry.who.names.database, home);
        let asked = async {
            let client = self
                .core
                .control
                .lend(&self.topology, home, &database)
                .await;
            let rows = client.ok()?.ask_prepared(QUESTION, &[&named]).await.ok()?;
            rows.first()?.try_get::<_, i64>(0).ok()
        };
        let limit = self.topology.config.control.timeout;
        let found = tokio::time::timeout(limit, asked).await;
        found.ok().flatten() != Some(known)
    }

    /// Reads the catalog, unless another session has put one in force meanwhile that will do.
    pub(super) async fn reload_model(
        &mut self,
        will_do: impl Fn(&DatabaseModel) -> bool,
    ) -> Result<(), Halt> {
        if self.state.has_own_definitions(&self.topology) {
            return self
                .read_own_definitions(self.epoch(), Others::AreRead)
                .await;
        }
        let loading = self.core.loading(&self.entry.who.names.database);
        let _one = loading.lock().await;
        // Another session may have read it meanwhile.
        if let Some(model) = self.core.shared.model(&self.entry.who.names.database)
            && will_do(&model)
        {
            self.put_model(model);
            return Ok(());
        }
        let database = &self.entry.who.names.database;
        match Box::pin(self.core.read_model(database, Ask::Known)).await {
            Ok(model) => {
                self.put_model(model);
                Ok(())
            }
            Err(error) => {
                let chain = crate::log::Chain(&error).to_string();
                tracing::error!(
                    database = &*self.entry.who.names.database,
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
        if let (Some(inner), Some(_)) =
            (statement.step().and_then(|s| s.explains), &self.known.model)
        {
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
    pub(super) fn doubt_directories(&self, refusal: &Refusal, model: &DatabaseModel) {
        let unknown = refusal.reason == mothership_plan::Reason::NoOwner;
        if unknown && !model.directories().is_empty() && model.read.elapsed() >= SEEN_JUST_NOW {
            let epoch = &self.core.shared.schema_epoch;
            epoch.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

/// Whether a change of definitions makes something, which needs no other thing of its name.
fn creates(sql: &str) -> bool {
    let verb = sql.trim_start().get(..6);
    verb.is_some_and(|verb| verb.eq_ignore_ascii_case("create"))
}
