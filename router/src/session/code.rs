//! Whether a statement runs code that may leave something in its session, and what becomes of its connection then.

use super::large::LARGE;
use super::state::{Block, Phase, State, Unfollowed};
use super::{Attached, Halt, Session};
use crate::core::code::{Behind, Code};
use crate::model::DatabaseModel;
use crate::statements::memo::Memo;
use crate::statements::named_settings::named_by;
use crate::statements::names::Prepared;
use crate::statements::shapes::Shaped;
use crate::statements::step::{CodeEffects, Kind, Step};
use mothership_catalog::NOWHERE;
use mothership_sql::cursor::Span;
use mothership_sql::effect::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl State {
    /// Whether a statement says that it notifies others.
    fn notifies(&self, statement: &Prepared) -> bool {
        let says = |statement: &Prepared| statement.steps.iter().any(|step| step.notifies);
        let body_says = || {
            statement.steps.iter().any(|step| match &step.kind {
                Kind::Execute(name) => self.names.get(name).is_some_and(|body| says(body)),
                _ => false,
            })
        };
        says(statement)
            || body_says()
            || statement.runs.as_ref().is_some_and(|runs| says(&runs.body))
    }
}

impl Session {
    /// Takes over what is known of the database's code. True if nothing newer has to be read.
    pub(super) fn knows_code(&mut self) -> bool {
        let epoch = self.core.shared.code_epoch.load(Ordering::SeqCst);
        let most = self.topology.config.catalog.refresh_interval;
        let now = self.state.tally.begun();
        let age = |code: &Code| match code.read {
            _ if code.epoch < epoch => Duration::MAX,
            Some(read) => now.saturating_duration_since(read),
            None => Duration::MAX,
        };
        if self
            .known
            .code
            .as_ref()
            .is_some_and(|code| age(code) < most / 2)
        {
            return true;
        }
        let shared = {
            let known = self
                .core
                .shared
                .code
                .lock()
                .expect("nobody panics while holding it");
            known.get(&*self.entry.who.names.database).cloned()
        };
        let Some(code) = shared.filter(|code| age(code) < most) else {
            return false;
        };
        if age(&code) >= most / 2 {
            self.core.read_code_soon(&self.entry.who.names.database);
        }
        self.known.code = Some(code);
        true
    }

    /// Sees to it that what is known of the database's code is new enough.
    pub(super) async fn refresh_code(&mut self) -> Result<(), Halt> {
        let is_open = self.state.block != Block::None;
        let before = self.known.code.as_ref().filter(|_| is_open).cloned();
        self.read_code().await?;
        let now = self.known.code.as_ref();
        let is_more = before.zip(now).is_some_and(|(before, now)| {
            !Arc::ptr_eq(&before, now) && now.is_behind_more_than(&before)
        });
        // A deferred trigger that was judged before may be another one by now.
        let wrote = |s: &Attached| s.inbox.may_write || s.inbox.wrote;
        if is_more && self.servers.iter().any(wrote) {
            self.state.run_unseen();
        }
        Ok(())
    }

    async fn read_code(&mut self) -> Result<(), Halt> {
        match self.is_session_mode() || self.knows_code() {
            true => Ok(()),
            false => Box::pin(self.read_code_anew()).await,
        }
    }

    async fn read_code_anew(&mut self) -> Result<(), Halt> {
        let core = Rc::clone(&self.core);
        let database = Arc::clone(&self.entry.who.names.database);
        let loading = core.loading(&format!("code of {database}"));
        let one = self.while_client_waits(loading.lock()).await?;
        // Who was before may have read it.
        if !self.knows_code() {
            let code = self.while_client_waits(core.read_code(&database)).await?;
            self.known.code = Some(code);
        }
        drop(one);
        Ok(())
    }

    /// The transaction may end now: deferred triggers run as they are by then.
    pub(super) async fn mind_commit(&mut self, statement: &Prepared) -> Result<(), Halt> {
        let commits =
            |step: &Step| matches!(step.kind, Kind::Commit { .. } | Kind::PrepareTransaction);
        let epoch = self.epoch();
        let has_changed = self
            .known
            .code
            .as_ref()
            .is_some_and(|code| code.epoch != epoch);
        match has_changed && self.state.block == Block::Open && statement.steps.iter().any(commits)
        {
            true => self.refresh_code().await,
            false => Ok(()),
        }
    }

    /// Whether a statement may run code that leaves something in its session.
    pub(super) fn runs_code_unseen(&self, statement: &Prepared) -> bool {
        if self.is_session_mode() {
            return false;
        }
        if self.state.makes_temporary {
            return true;
        }
        let of_step = statement.steps.iter().map(|step| step.makes_code).max();
        let within = of_step.filter(|_| statement.steps.len() > 1);
        let makes = self.state.makes_code.max(within.unwrap_or_default());
        let Some(code) = self.known.code.as_ref().filter(|code| !code.is_clean()) else {
            return makes == CodeEffects::Leaves;
        };
        // It may call what is not proven under a name of its own.
        if makes != CodeEffects::Nothing {
            return true;
        }
        let strings = self.standard_strings();
        let find = |statement: &Prepared| {
            let (defines, calls) = defines_and_calls(statement);
            let (sql, types) = (&statement.sql, statement.origin.types());
            match &statement.shaped {
                Some(shaped) if types.is_empty() && !defines => {
                    code.is_run_by_shape(shaped, sql, strings)
                }
                _ => code.is_run_by(sql, strings, types, (defines, calls)),
            }
        };
        let is_run_by = |statement: &Prepared| {
            let memo = &statement.names_code;
            memo.get((code.number, strings), || find(statement))
        };
        let named = |name: &[u8]| {
            self.state
                .names
                .get(name)
                .is_some_and(|body| is_run_by(body))
        };
        let body = statement.steps.iter().any(|step| match &step.kind {
            Kind::Execute(name) => named(name),
            _ => false,
        });
        body || is_run_by(statement)
            || statement
                .runs
                .as_ref()
                .is_some_and(|runs| is_run_by(&runs.body))
    }

    /// The same of a text of a known shape.
    pub(super) fn text_runs_code_unseen(&self, sql: &[u8], shaped: &Shaped) -> bool {
        let strings = self.standard_strings();
        let code = self.known.code.as_ref();
        let runs = code.is_some_and(|code| code.is_run_by_shape(shaped, sql, strings));
        runs || self.state.makes_temporary && !self.is_session_mode()
    }

    /// Whether a statement may change settings in a way that is not followed, be it for the transaction only.
    pub(super) fn sets_out_of_sight(&self, statement: &Prepared) -> bool {
        let strings = self.standard_strings();
        let lasts = self.transaction.implicit
            || self.state.block != Block::None
            || self.state.phase == Phase::Segment
            || statement.steps.len() > 1;
        let hidden = |statement: &Prepared| {
            self.known.model.as_ref().is_some_and(|model| {
                let ground = (model.version, strings);
                let memo = &statement.sets_locally;
                memo.get(ground, || {
                    sets_locally(model, &statement.sql, strings, ran_code(statement))
                })
            })
        };
        let sets = |statement: &Prepared| {
            let in_sight = statement.steps.iter().any(|step| {
                let lasting = step.pins.has(Pin::Opaque) || step.pins.has(Pin::UnclearSetting);
                let local = || self.known.model.is_some() && step.kind == Kind::LocalConfig(None);
                lasting || lasts && local()
            });
            in_sight || lasts && hidden(statement)
        };
        let body = statement.steps.iter().any(|step| match &step.kind {
            Kind::Execute(name) => self.state.names.get(name).is_some_and(|body| sets(body)),
            _ => false,
        });
        let runs = statement.runs.as_ref();
        // Code that was opened, or put off, runs now.
        let late = self.state.marks.asked.is_some() && statement.steps.iter().any(Step::runs_late);
        late || body || sets(statement) || runs.is_some_and(|runs| sets(&runs.body))
    }

    /// An Execute runs what was bound before, perhaps long ago, or only a part of it: it may change settings as the Bind
    /// may have.
    pub(super) fn mind_execute(&mut self, statement: &Prepared) {
        let has_run = self.state.marks.asked.is_some();
        if has_run && (self.runs_code_unseen(statement) || self.sets_out_of_sight(statement)) {
            self.run_unfollowed(statement);
        }
    }

    /// The statement at hand may change settings in a way that is not followed.
    pub(super) fn run_unfollowed(&mut self, statement: &Prepared) {
        if self.known.model.is_none() {
            return;
        }
        if self.state.marks.unfollowed == Unfollowed::Nothing {
            let servers = self.servers.iter_mut();
            servers.for_each(|attached| attached.inbox.unfollowed = false);
        }
        let names = statement.named_settings();
        self.core.custom_settings.borrow_mut().add(names);
        self.state.run_unfollowed();
    }

    /// A statement may read a setting that nobody had named when the servers were asked what code has set. Then they are
    /// asked again. True if they have to be.
    pub(super) fn heed_named_settings(&mut self, statement: &Prepared) -> bool {
        let marks = &self.state.marks;
        let Some(asked) = marks
            .asked
            .filter(|_| marks.unfollowed == Unfollowed::Nothing)
        else {
            return false;
        };
        let named = |name: &[u8]| self.state.names.get(name);
        let bodies = statement.steps.iter().filter_map(|step| match &step.kind {
            Kind::Execute(name) => named(name).map(|body| &**body),
            _ => None,
        });
        let runs = statement.runs.iter().map(|runs| &*runs.body);
        let mut settings = self.core.custom_settings.borrow_mut();
        let all = bodies.chain(runs).chain([statement]);
        let numbers = all.map(|statement| settings.add(statement.named_settings()));
        let is_new = numbers.max() >= Some(asked.get());
        if is_new {
            self.state.marks.unfollowed = Unfollowed::Before;
        }
        is_new
    }

    /// Whether a text is so large that it has to be looked through on another thread, before it is asked what code it
    /// runs.
    pub(super) fn must_look_through(&self, statement: &Prepared) -> bool {
        self.is_unknown(statement)
            || statement
                .runs
                .iter()
                .any(|runs| self.is_unknown(&runs.body))
            || self
                .executed_by(statement)
                .any(|body| self.is_unknown(body))
    }

    /// The bodies of statements that the client has prepared and that a text runs by EXECUTE.
    fn executed_by<'s>(
        &'s self,
        statement: &'s Prepared,
    ) -> impl Iterator<Item = &'s Rc<Prepared>> {
        statement.steps.iter().filter_map(|step| match &step.kind {
            Kind::Execute(name) => self.state.names.get(name),
            _ => None,
        })
    }

    /// The same of the text alone.
    fn is_unknown(&self, statement: &Prepared) -> bool {
        if statement.sql.len() <= LARGE || statement.shaped.is_some() || self.is_session_mode() {
            return false;
        }
        let strings = self.standard_strings();
        let code = self.known.code.as_ref().filter(|code| !code.is_clean());
        let runs = |code: &Arc<Code>| statement.names_code.knows((code.number, strings));
        let model = self.known.model.as_ref();
        let sets = |model: &Arc<DatabaseModel>| {
            let memo = &statement.sets_locally;
            memo.knows((model.version, strings))
        };
        !statement.knows_named_settings() || !code.is_none_or(runs) || !model.is_none_or(sets)
    }

    /// Looks through a large text for names of code on another thread: the clients of this core go on meanwhile. What is
    /// found is kept with the statement.
    ///
    /// Cancel safe: what nobody waits for is thrown away.
    pub(super) async fn look_through(&mut self, statement: &Prepared) {
        if !self.must_look_through(statement) {
            return;
        }
        let bodies: Vec<_> = self.executed_by(statement).map(Rc::clone).collect();
        let runs = statement.runs.iter().map(|runs| &*runs.body);
        for text in bodies
            .iter()
            .map(|body| &**body)
            .chain(runs)
            .chain([statement])
        {
            if self.is_unknown(text) {
                self.look_through_text(text).await;
            }
        }
    }

    async fn look_through_text(&mut self, statement: &Prepared) {
        let strings = self.standard_strings();
        let (code, model) = (self.known.code.clone(), self.known.model.clone());
        let number = code.as_ref().map(|code| code.number);
        let version = model.as_ref().map(|model| model.version);
        let sql: Arc<[u8]> = Arc::from(&*statement.sql);
        let types: Box<[u8]> = statement.origin.types().into();
        let means = defines_and_calls(statement);
        let ran: Vec<_> = ran_code(statement).collect();
        let shared = Arc::clone(&self.core.shared);
        let turn = shared.large_texts.acquire().await;
        let found = tokio::task::spawn_blocking(move || {
            let runs = code.map(|code| code.is_run_by(&sql, strings, &types, means));
            let sets = model.map(|model| sets_locally(&model, &sql, strings, ran.into_iter()));
            (runs, sets, named_by(&sql))
        })
        .await;
        drop(turn);
        // A search that panics does so again where it is reported.
        let Ok((runs, sets, settings)) = found else {
            return;
        };
        statement.keep_named_settings(settings);
        let keep = |memo: &Memo, ground: Option<u64>, answer: Option<bool>| {
            if let Some((ground, answer)) = ground.zip(answer) {
                memo.get((ground, strings), || answer);
            }
        };
        keep(&statement.names_code, number, runs);
        keep(&statement.sets_locally, version, sets);
    }

    /// A statement is about to run: what it may leave stays with its session.
    pub(super) fn mind_code(&mut self, statement: &Prepared) {
        self.state.mind_numbers(statement);
        self.state.notifies |= self.state.notifies(statement);
        let unseen = self.runs_code_unseen(statement);
        if unseen {
            self.state.run_unseen();
        }
        if unseen || self.sets_out_of_sight(statement) {
            self.run_unfollowed(statement);
        }
        let behind = match &self.known.code {
            // What touches nothing with code behind it gives none to others.
            Some(code) if !unseen && !code.unnamed => Behind::AsOf(code.epoch),
            // In session mode it is not known what has.
            _ => Behind::Changed,
        };
        for step in statement.steps.iter().filter(|step| step.concerns_others()) {
            let behind = match step.changes_code {
                true => Behind::Changed,
                false => behind,
            };
            self.transaction.begin_change(behind, &self.core.shared);
        }
        // What comes behind it in a pipeline is judged before it has run.
        let makes = statement.steps.iter().map(|step| step.makes_code).max();
        self.state.makes_code = self.state.makes_code.max(makes.unwrap_or_default());
    }
}

impl Prepared {
    /// Whether a statement of the text may run code that leaves something in its session, or that shows what others have
    /// prepared, whatever the search path. For a text of one statement, the answer is kept for all who have prepared it.
    pub(super) fn may_leave_or_show(
        &self,
        step: &Step,
        sql: &str,
        model: &DatabaseModel,
        strings: bool,
    ) -> bool {
        self.judge_once(&self.leaves, (model, strings), || {
            let (lasting, shown) = (model.lasting(), model.shows_prepared());
            lasting.is_left_by(sql, strings, step.writes, &NOWHERE)
                || shown.is_done_by(sql, strings, step.writes, &NOWHERE)
        })
    }

    /// The same of code that says something about its server.
    pub(super) fn may_tell_server(
        &self,
        step: &Step,
        sql: &str,
        model: &DatabaseModel,
        strings: bool,
    ) -> bool {
        self.judge_once(&self.tells_server, (model, strings), || {
            let server = model.tells_server();
            server.is_done_by(sql, strings, step.writes, &NOWHERE)
        })
    }

    fn judge_once(
        &self,
        memo: &Memo,
        (model, strings): (&DatabaseModel, bool),
        judge: impl FnOnce() -> bool,
    ) -> bool {
        match self.steps.len() {
            1 => memo.get((model.version, strings), judge),
            _ => judge(),
        }
    }
}

/// Whether a text defines anything, and whether it may call anything.
fn defines_and_calls(statement: &Prepared) -> (bool, bool) {
    let defines = statement.steps.iter().any(|step| step.changes_schema);
    let calls = !statement.steps.iter().all(|step| step.creates_function);
    (defines, calls)
}

/// The statements of a text that run code, and whether each may write.
fn ran_code(statement: &Prepared) -> impl Iterator<Item = (Span, bool)> + '_ {
    let runs = |step: &&Step| {
        let sql = std::str::from_utf8(step.span.of(&statement.sql));
        sql.is_ok_and(|sql| step.runs_code(sql))
    };
    let steps = statement.steps.iter().filter(runs);
    steps.map(|step| (step.span, step.writes))
}

/// Whether code that these statements of a text run may set something for the transaction.
fn sets_locally(
    model: &DatabaseModel,
    sql: &[u8],
    strings: bool,
    mut ran: impl Iterator<Item = (Span, bool)>,
) -> bool {
    let sets = model.sets_locally();
    ran.any(|(span, writes)| {
        let sql = std::str::from_utf8(span.of(sql));
        sql.is_ok_and(|sql| sets.is_done_by(sql, strings, writes))
    })
}
