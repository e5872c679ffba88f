//! Applies the rules: to every statement before anything of it runs.
//!
//! What a rule makes of a statement is `crate::rules`' decision. Here it is asked with
//! what the session knows, remembered with the statement, and obeyed: by a refusal, or
//! by what [`choose`](super::choose) and [`dispatch`](super::dispatch) ask of it. Whether
//! a statement belongs to the shard of a rule, [`route`](mothership_plan::route()) decides;
//! of what has no plan, because no table is declared or only a function's number is
//! known, [`unplanned`] does, and it is asked here. A session whose origin no rule fits
//! pays one comparison for each request.

use super::knowledge::SEEN_JUST_NOW;
use super::planning::search_path;
use super::state::Block;
use super::{Halt, Session};
use crate::config;
use crate::config::{Caps, Label, Level};
use crate::model::DatabaseModel;
use crate::rules;
use crate::rules::facts::Facts;
use crate::rules::meter::{Over, Running};
use crate::rules::survey::{Scope, Survey, about};
use crate::rules::{Refusal, RequestFacts, RuleOutcome, RuleSet, Servers};
use crate::statements::names::{Origin, Prepared};
use crate::statements::requests::RequestKey;
use crate::statements::step::{Defines, Kind, Step};
use crate::topology::Topology;
use mothership_plan::pin::unplanned;
use mothership_plan::{About, Elsewhere, Pin, Plan, Role};
use mothership_pool::health::{Among, Reads};
use mothership_proto::report::{Report, sqlstate};
use mothership_shardmap::ShardId;
use mothership_sql::effect::{self, Statement, analyse};
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

/// The rules of one session.
pub struct Ruled {
    set: Arc<RuleSet>,
    /// What is known of the database where no table is declared.
    model: Option<Arc<DatabaseModel>>,
    /// None as long as there were no rules.
    own: Option<Box<SessionRules>>,
}

/// What a session keeps of its rules.
#[derive(Default)]
struct SessionRules {
    /// By which `mine` were chosen.
    application: Box<str>,
    /// Those that can decide about this origin.
    mine: Vec<usize>,
    survey: Option<Rc<Survey>>,
    /// For the request at hand.
    outcome: RuleOutcome,
    /// Its statement is proven to read only what replicas have.
    is_proven: bool,
    /// The pools of the servers that the session has, for as long as it has any.
    pool: Option<Label>,
    /// Of each of those, if a rule says.
    limit: Option<NonZeroU32>,
    /// The transaction, or the request at hand, counts for its rule's `concurrency`.
    running: Option<Running>,
    /// What was prepared was let through, and what runs next of the same rule with it.
    ahead: bool,
    /// When the request at hand came, in seconds since 1970; 0 where no rule asks for it.
    now: i64,
}

impl Default for Ruled {
    /// Those of a session before its first request.
    fn default() -> Self {
        // One for all: a session holds it until it takes over those of its topology.
        static NONE: LazyLock<Arc<RuleSet>> = LazyLock::new(Arc::default);
        Self {
            set: Arc::clone(&NONE),
            model: None,
            own: None,
        }
    }
}

impl Ruled {
    fn own(&mut self) -> &mut SessionRules {
        self.own.get_or_insert_default()
    }

    /// The rules that can decide about this origin.
    fn mine(&self) -> &[usize] {
        self.own.as_ref().map_or(&[], |own| &own.mine)
    }

    /// What the rules make of the request at hand.
    fn outcome(&self) -> &RuleOutcome {
        static UNRULED: LazyLock<RuleOutcome> = LazyLock::new(RuleOutcome::default);
        self.own.as_ref().map_or(&UNRULED, |own| &own.outcome)
    }

    fn is_proven(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.is_proven)
    }

    /// The name of the pools to lease from.
    pub(super) fn pool(&self) -> Option<&Label> {
        self.own.as_ref()?.pool.as_ref()
    }

    /// The most connections of each of them, if a rule says.
    pub(super) fn limit(&self) -> Option<NonZeroU32> {
        self.own.as_ref()?.limit
    }

    /// How fresh its reads must be, if a rule says.
    pub(super) fn level(&self) -> Option<Level> {
        self.outcome().level
    }

    /// The priority of the request at hand.
    pub(super) fn priority(&self) -> i8 {
        self.outcome().priority
    }

    fn use_pool(&mut self, outcome: &RuleOutcome) {
        let own = self.own();
        own.pool.clone_from(&outcome.pool);
        own.limit = outcome.limit;
    }

    /// Whether the catalog must be known, although no table is declared.
    pub(super) fn needs_catalog(&self) -> bool {
        self.set.needs_catalog(self.mine())
    }

    /// Whether what fits the origin may be another rule than at the last request under the same configuration.
    pub(super) fn may_change(&self, topology: &Topology) -> bool {
        let is_new = !Arc::ptr_eq(&topology.rules, &self.set);
        is_new || self.set.rules().len() > 0
    }

    /// When the request at hand came.
    fn now(&self) -> i64 {
        self.own.as_ref().map_or(0, |own| own.now)
    }

    /// The rules as they are, asked for a new request.
    fn read_clock(&mut self) {
        if self.set.has_times() {
            self.own().now = rules::now();
        }
    }

    /// No transaction is open, and nothing is asked for.
    pub(super) fn rest(&mut self) {
        if let Some(own) = &mut self.own {
            own.running = None;
            own.ahead = false;
        }
    }

    /// Nothing is to be asked.
    pub(super) fn is_idle(&self) -> bool {
        self.mine().is_empty() && !self.set.has_replicas()
    }

    /// Which servers of a shard serve a read.
    pub(super) fn ruled_reads(&self, topology: &Topology, shard: ShardId) -> (Reads, Among) {
        let (by, label) = match &self.outcome().servers {
            Servers::Any | Servers::Primary => {
                let label = &topology.config_of(shard).reads.label;
                (None, label.as_ref())
            }
            Servers::By(by, label) => (Some(*by), label.as_ref()),
        };
        let among = label.map(|label| labelled(topology, shard, label));
        (topology.reads(shard, by), among.unwrap_or(Among::ALL))
    }
}

/// When a statement is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RuleStage {
    /// It is made known to a server, which may plan it.
    Prepared,
    /// It is about to run.
    Runs,
}

impl Ruled {
    /// Where replicas serve reads of a database without declared tables, everything else
    /// counts as a write that they must have seen.
    pub(super) fn may_write_unseen(&self) -> bool {
        self.set.has_replicas() && !self.is_proven()
    }

    /// True for a Parse whose Bind says which server it goes to.
    pub(super) fn waits_for_bind(&self, statement: &Prepared) -> bool {
        let RuleOutcome { servers, shard, .. } = self.outcome();
        let reads = matches!(servers, Servers::By(..));
        let elsewhere = reads || shard.is_some();
        elsewhere && statement.steps.len() == 1
    }
}

impl Session {
    /// Takes over new rules, and finds those that fit the origin as it is now.
    pub(super) fn refresh_rules(&mut self, topology: &Topology) {
        let is_new = !Arc::ptr_eq(&topology.rules, &self.rules.set);
        if !is_new && self.rules.set.rules().len() == 0 {
            return;
        }
        let seen = Rc::clone(&self.entry.seen);
        let application = seen.application_name.borrow();
        let chosen = self.rules.own.as_ref().map(|own| &own.application);
        if !is_new && chosen.is_some_and(|chosen| *chosen == *application) {
            return;
        }
        let address = match &self.entry.who.remote {
            Some(mothership_pool::wire::Address::Tcp(address)) => Some(address.ip()),
            _ => None,
        };
        let origin = config::Origin {
            user: &self.entry.who.names.user,
            database: &self.entry.who.names.database,
            application: &application,
            address,
        };
        let mine = topology.rules.of_origin(&origin);
        self.rules.set = Arc::clone(&topology.rules);
        if topology.rules.rules().len() == 0 && self.rules.own.is_none() {
            return;
        }
        let own = self.rules.own();
        own.mine = mine;
        own.application = application.clone();
        own.survey = None;
        own.outcome = RuleOutcome::default();
    }

    /// What is known of the database.
    pub(super) fn known_model(&self) -> Option<&Arc<DatabaseModel>> {
        self.known.model.as_ref().or(self.rules.model.as_ref())
    }

    /// Works by newer knowledge from now on.
    pub(super) fn put_model(&mut self, model: Arc<DatabaseModel>) {
        if let Some(own) = &mut self.rules.own {
            own.survey = None;
        }
        if self.topology.declared {
            self.rules.model = None;
            self.known.model = Some(model);
        } else {
            self.known.model = None;
            self.rules.model = Some(model);
        }
    }

    /// Nothing is to be asked: all is as if no rule had ever decided.
    pub(super) fn heed_none(&mut self) {
        let Some(own) = &mut self.rules.own else {
            return;
        };
        if own.outcome.rule.is_some() {
            own.outcome = RuleOutcome::default();
        }
        own.running = None;
        self.entry.pulse.rule(None);
        if self.servers.is_empty() {
            own.pool = None;
            own.limit = None;
        }
    }

    /// Asks the rules about every statement of a text. Fails if one of them is refused;
    /// then nothing of the text may run.
    pub(super) async fn heed(
        &mut self,
        statement: &Prepared,
        moment: RuleStage,
    ) -> Result<(), Halt> {
        if self.rules.is_idle() {
            self.heed_none();
            return Ok(());
        }
        self.look_for_hidden(statement).await?;
        self.rules.read_clock();
        let mut first: Option<RuleOutcome> = None;
        for at in 0..statement.steps.len() {
            let outcome = self.outcome_of(statement, at);
            let refusal = outcome.refusal.clone();
            let decided = outcome
                .rule
                .filter(|_| moment == RuleStage::Runs || refusal.is_some());
            if let Some(rule) = decided {
                self.note(rule);
            }
            if let Some(refusal) = refusal {
                return Err(refused(&refusal).into());
            }
            if !matches!(first, Some(RuleOutcome { rule: Some(_), .. })) {
                first = Some(outcome);
            }
        }
        let outcome = first.unwrap_or_default();
        self.admit(&outcome, moment).await?;
        if self.servers.is_empty() {
            self.rules.use_pool(&outcome);
        }
        self.rules.own().outcome = outcome;
        self.rules.own().is_proven = self.prove(statement);
        Ok(())
    }

    /// The same for a function call by its OID, of which nothing is known.
    pub(super) async fn heed_unknown(&mut self) -> Result<(), Halt> {
        self.rules.read_clock();
        let (set, mine) = (&self.rules.set, self.rules.mine());
        if mine.is_empty() {
            return Ok(());
        }
        let request = RequestFacts::by_origin(&Facts::unknown(), set);
        let outcome = set.outcome(mine, &request, self.rules.now());
        outcome.rule.into_iter().for_each(|rule| self.note(rule));
        if let Some(refusal) = &outcome.refusal {
            return Err(refused(refusal).into());
        }
        let pin = outcome.pin(set, About::Rows, self.shard_names());
        self.admit(&outcome, RuleStage::Runs).await?;
        if self.servers.is_empty() {
            self.rules.use_pool(&outcome);
        }
        self.rules.own().outcome = outcome;
        at_home(&self.topology, pin.as_ref()).map(|_| ())
    }

    /// Counts a request about which the rule at `at` decided, and tells the log, if the rule says so.
    fn note(&self, at: usize) {
        let set = &self.rules.set;
        set.count(at);
        let Some(rule) = set.rule(at).filter(|rule| rule.log) else {
            return;
        };
        let (who, seen) = (&self.entry.who, &self.entry.seen);
        tracing::info!(
            rule = %rule.name,
            user = %who.names.user,
            database = %who.names.database,
            application = %seen.application_name.borrow(),
            from = ?who.remote,
            "request of a rule"
        );
    }

    /// Lets a request through as its rule's limits have it. Inside of a transaction that works somewhere nothing waits,
    /// and nothing is refused: others may wait for what it holds. What is prepared has a server from then on, so it is let
    /// through before, and once with what runs behind it.
    async fn admit(&mut self, outcome: &RuleOutcome, moment: RuleStage) -> Result<(), Halt> {
        if moment == RuleStage::Runs {
            self.entry.pulse.rule(outcome.timeout);
        }
        let in_transaction = self.state.block != Block::None || self.transaction.implicit;
        let works = (in_transaction && !self.servers.is_empty())
            || self.servers.iter().any(|server| server.inbox.in_segment);
        let set = Arc::clone(&self.rules.set);
        let rule = outcome.rule.and_then(|at| Some((at, set.rule(at)?)));
        let metered = rule.and_then(|(at, rule)| Some((rule, set.metered(at)?)));
        let Some((rule, (caps, meter))) = metered else {
            if !works {
                self.rules.rest();
            }
            return Ok(());
        };
        let own = self.rules.own();
        if std::mem::take(&mut own.ahead) && own.outcome.rule == outcome.rule {
            own.ahead = moment == RuleStage::Prepared;
            return Ok(());
        }
        if works {
            if moment == RuleStage::Runs {
                meter.charge(caps);
            }
            return Ok(());
        }
        self.rules.rest();
        let line = self.topology.config.pool.queue_length;
        let entered = self.while_client_waits(meter.enter(caps, line)).await?;
        self.rules.own().running =
            entered.map_err(|over| Halt::Fail(too_many(&rule.name, caps, over)))?;
        self.rules.own().ahead = moment == RuleStage::Prepared;
        Ok(())
    }

    /// What the rules make of one statement.
    pub(super) fn outcome_of(&mut self, statement: &Prepared, at: usize) -> RuleOutcome {
        let kind = statement.steps.get(at).map(|step| &step.kind);
        match kind {
            Some(Kind::ExplainRoute(_) | Kind::Refuse(_)) => return RuleOutcome::default(),
            Some(Kind::Execute(name)) => {
                let body = self.state.names.get(name).cloned();
                // One that was parsed before has the name that its body had then.
                let is_same = |body: &Rc<Prepared>| match statement.origin {
                    Origin::Parse(_) => contains(&statement.sql, body.server_name().as_bytes()),
                    _ => true,
                };
                let Some(body) = body.filter(is_same) else {
                    let request = RequestFacts::by_origin(&Facts::unknown(), &self.rules.set);
                    let rules = &self.rules;
                    return rules.set.outcome(rules.mine(), &request, rules.now());
                };
                let stores = statement.steps.get(at).is_some_and(|step| step.stores);
                // Its arguments may call functions, and a table may not be made.
                if stores || !self.facts(statement, at).calls.is_empty() {
                    let own = self.asked(statement, at);
                    if own.refusal.is_some() {
                        return own;
                    }
                }
                return self.asked(&body, 0);
            }
            _ => {}
        }
        self.asked(statement, at)
    }

    fn asked(&mut self, statement: &Prepared, at: usize) -> RuleOutcome {
        if self.rules.mine().is_empty() {
            return RuleOutcome::default();
        }
        let request = self.request(statement, at);
        let rules = &self.rules;
        rules.set.outcome(rules.mine(), &request, rules.now())
    }

    /// What the rules may look at in one statement.
    fn request(&mut self, statement: &Prepared, at: usize) -> Rc<RequestFacts> {
        let facts = self.facts(statement, at);
        let rules = &self.rules;
        let model = match rules.set.looks_at_statements(rules.mine()) {
            true => self.known_model().cloned(),
            false => None,
        };
        let Some(model) = model else {
            return Rc::new(RequestFacts::by_origin(&facts, &self.rules.set));
        };
        let mut scope = self.scope();
        // What a statement before it in the same text makes, nobody knows yet.
        let before = statement.steps.iter().take(at);
        let made = before.map(|step| step.defines).max().unwrap_or_default();
        scope.is_hidden |= made != Defines::Nothing;
        scope.is_redefined |= made == Defines::More;
        // What stands before it in the same text may change the search path.
        let moves = |step: &Step| match &step.kind {
            Kind::Plain | Kind::Begin(_) | Kind::Savepoint(_) => !step.pins.is_empty(),
            _ => true,
        };
        let mut before = statement.steps.iter().take(at);
        scope.is_path_known &= !(before.any(moves) || at > 0 && self.runs_code_unseen(statement));
        let asked = RequestKey {
            at,
            rules: self.rules.set.number,
            model: model.version,
            scope: Rc::new(scope),
        };
        if let Some(request) = statement.requests.known(&asked) {
            return request;
        }
        let survey = self.survey(&model);
        let (rules, catalog) = (&self.rules.set, model.catalog());
        let request = Rc::new(survey.request(rules, catalog, &facts, &asked.scope));
        let statements = statement.steps.len();
        statement.requests.remember(asked, &request, statements);
        request
    }

    fn facts(&self, statement: &Prepared, at: usize) -> Rc<Facts> {
        statement.requests.facts(
            statement,
            at,
            (self.standard_strings(), self.rules.set.has_shapes()),
        )
    }

    fn survey(&mut self, model: &DatabaseModel) -> Rc<Survey> {
        let known = self.rules.own.as_ref().and_then(|own| own.survey.as_ref());
        if let Some(survey) = known {
            return Rc::clone(survey);
        }
        let survey = self.core.survey(&self.rules.set, model);
        self.rules.own().survey = Some(Rc::clone(&survey));
        survey
    }

    fn scope(&mut self) -> Scope {
        let context = self.context();
        let settings = self.state.in_force();
        use effect::Pin;
        let unclear = [Pin::TempObject, Pin::Opaque, Pin::UnclearSetting];
        let is_unclear = |pin: &Pin| self.state.pins.has(*pin);
        Scope {
            search_path: context.search_path.clone(),
            is_path_known: search_path(settings).is_some()
                && ![Pin::Opaque, Pin::UnclearSetting].iter().any(is_unclear),
            is_hidden: unclear.iter().any(is_unclear)
                || self.state.defined_in_block != Defines::Nothing,
            is_redefined: self.state.defined_in_block == Defines::More,
        }
    }

    /// A name that the catalog does not have may be that of a view which somebody has just
    /// made past this router.
    async fn look_for_hidden(&mut self, statement: &Prepared) -> Result<(), Halt> {
        let set = &self.rules.set;
        let by_table = |at: &usize| set.rule(*at).is_some_and(|r| !r.when.tables.is_empty());
        let Some(model) = self.known_model().cloned() else {
            return Ok(());
        };
        if !self.rules.mine().iter().any(by_table) {
            return Ok(());
        }
        let scope = self.scope();
        // Then it is most likely a temporary table of the session.
        if scope.is_hidden && model.read.elapsed() < SEEN_JUST_NOW {
            return Ok(());
        }
        for at in 0..statement.steps.len() {
            let facts = self.facts(statement, at);
            if Survey::names_unknown(model.catalog(), &facts, &scope) {
                // What somebody else reads just now may have been begun too early.
                return self.reload_model(|_| false).await;
            }
        }
        Ok(())
    }

    /// Without declared tables nothing is planned, but what a replica may serve must be
    /// proven all the same.
    fn prove(&mut self, statement: &Prepared) -> bool {
        if self.known.model.is_some() || !self.rules.set.has_replicas() {
            return false;
        }
        let (Some(model), [step]) = (self.rules.model.clone(), statement.steps.as_slice()) else {
            return false;
        };
        let Ok(sql) = std::str::from_utf8(step.span.of(&statement.sql)) else {
            return false;
        };
        let plan = self.plan(statement, 0, sql, &model);
        matches!(plan.as_deref().map(Plan::unguarded), Ok(Plan::Single(single)) if single.role == Role::Replica)
    }

    /// Whether it is known what reads: without a catalog nothing is known of functions
    /// and relations. A rule may keep reads on the primary.
    pub(super) fn is_read_known(&self) -> bool {
        match &self.rules.outcome().servers {
            Servers::Primary => false,
            Servers::Any => self.known.model.is_some(),
            Servers::By(..) => self.known.model.is_some() || self.rules.is_proven(),
        }
    }

    /// What the rules leave to the route of a statement.
    pub(super) fn pin(&mut self, statement: &Prepared, at: usize) -> Option<Pin> {
        if self.rules.mine().is_empty() || !self.rules.set.has_shards() {
            return None;
        }
        let outcome = self.outcome_of(statement, at);
        outcome.shard.as_ref()?;
        let facts = self.facts(statement, at);
        self.pin_by(&outcome, &facts)
    }

    fn pin_by(&mut self, outcome: &RuleOutcome, facts: &Facts) -> Option<Pin> {
        let scope = self.scope();
        let catalog = self.known_model().map(|model| model.catalog());
        let about = about(catalog, facts, &scope);
        outcome.pin(&self.rules.set, about, self.shard_names())
    }

    fn shard_names(&self) -> impl Iterator<Item = &str> {
        self.topology.shards.iter().map(|shard| shard.name.as_str())
    }

    /// The shard of a statement that is not planned.
    pub(super) fn shard_unplanned(
        &mut self,
        statement: &Prepared,
        at: usize,
    ) -> Result<ShardId, Halt> {
        let pin = self.pin(statement, at);
        at_home(&self.topology, pin.as_ref())
    }

    /// What the rules make of a statement that stands in an EXPLAIN (ROUTE): what is
    /// said of them, and what they leave to its route.
    pub(super) fn explain_rules(&mut self, text: &[u8]) -> (Option<String>, Option<Pin>) {
        if self.rules.mine().is_empty() {
            return (None, None);
        }
        self.rules.read_clock();
        let strings = self.standard_strings();
        let (outcome, facts) = match analyse(text, strings).statement {
            Statement::Execute { name, .. } => {
                let Some(body) = self.state.names.get(name.as_bytes()).cloned() else {
                    return (None, None);
                };
                (self.asked(&body, 0), self.facts(&body, 0))
            }
            _ => {
                let facts = match self.rules.set.has_shapes() {
                    true => Facts::with_shape(text, strings),
                    false => Facts::of(text, strings),
                };
                let request = match self.known_model().cloned() {
                    None => RequestFacts::by_origin(&facts, &self.rules.set),
                    Some(model) => {
                        let scope = self.scope();
                        let survey = self.survey(&model);
                        survey.request(&self.rules.set, model.catalog(), &facts, &scope)
                    }
                };
                let rules = &self.rules;
                let outcome = rules.set.outcome(rules.mine(), &request, rules.now());
                (outcome, Rc::new(facts))
            }
        };
        let pin = self.pin_by(&outcome, &facts);
        (outcome.told(&self.rules.set), pin)
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn refused(refusal: &Refusal) -> Report {
    let report = Report::error(sqlstate::INSUFFICIENT_PRIVILEGE, refusal.message.clone());
    let rule = &refusal.rule;
    match refusal.is_certain {
        true => report.detail(format!("Rule \"{rule}\" of the router refuses it.")),
        false => report
            .detail(format!(
                "Rule \"{rule}\" of the router refuses it, because it cannot be excluded that the rule fits."
            ))
            .hint("EXPLAIN (ROUTE) says what the router knows of a statement."),
    }
}

/// A request more than a rule allows.
fn too_many(rule: &Label, caps: &Caps, over: Over) -> Report {
    let message = format!("too many requests of rule \"{rule}\"");
    let report = Report::error(sqlstate::TOO_MANY_CONNECTIONS, message);
    let report = match over {
        Over::Running { running, waited } => {
            let most = caps.concurrency.map_or(0, NonZeroU32::get);
            let waited = waited.as_secs_f64();
            report.detail(format!(
                "{running} of at most {most} run; this one has waited {waited:.1} s."
            ))
        }
        Over::Early(wait) => {
            let rate = caps.rate.map(|rate| rate.to_string()).unwrap_or_default();
            let wait = wait.as_secs_f64();
            report.detail(format!(
                "The rule allows {rate}; the next one may come in {wait:.3} s."
            ))
        }
        Over::Waiting(waiting) => report.detail(format!("{waiting} requests wait already.")),
    };
    report.hint("Send it again later.")
}

/// A rule's own refusal in the client's words.
pub(super) fn elsewhere(elsewhere: &Elsewhere) -> Report {
    Report::error(Elsewhere::SQLSTATE, elsewhere.to_string())
        .detail(elsewhere.detail())
        .hint(Elsewhere::HINT)
}

fn at_home(topology: &Topology, pin: Option<&Pin>) -> Result<ShardId, Halt> {
    let shard = unplanned(topology.home, pin);
    shard.map_err(|its| elsewhere(&its).into())
}

fn labelled(topology: &Topology, shard: ShardId, label: &Label) -> Among {
    let servers = topology.config_of(shard).servers.iter();
    let without = servers.enumerate().filter(|(at, s)| {
        let health = &topology.health;
        !s.labels.contains(label) && !health.has_label(shard.index(), *at, label.as_str())
    });
    without.fold(Among::ALL, |among, (at, _)| among.without(at))
}
