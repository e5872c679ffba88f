//! Rules by request type and origin: which one fits a request, and what it makes of it.
//!
//! Pure. A [`RuleSet`] is made of the configuration. What depends on the origin alone
//! is found once for a session ([`RuleSet::of_origin`]); what a statement is, once for
//! each statement ([`facts`], [`survey`]). The first rule that fits decides. Where it is
//! not certain whether a rule fits, a rule that refuses does, and any other does not.

pub mod kinds;

pub mod facts;

pub mod survey;

pub mod meter;

use crate::config::{Action, Caps, Config, Label, Level, Origin, Reads, Rule, StatementKind};
use facts::Facts;
use kinds::Kinds;
use meter::{Meter, Used};
use mothership_plan::{About, Pin};
use mothership_shardmap::ShardId;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The rules in force, in their order.
#[derive(Debug, Default)]
pub struct RuleSet {
    /// No two sets of the process have the same.
    pub number: u64,
    rules: Vec<Counted>,
    has_replicas: bool,
    has_shards: bool,
    has_shapes: bool,
    has_times: bool,
}

/// A rule, and how often it decided. The count outlives a reload by the rule's name.
#[derive(Debug)]
struct Counted {
    rule: Rule,
    kinds: Kinds,
    /// Of the pools that it names, whichever rule gives it.
    limit: Option<NonZeroU32>,
    matched: Arc<AtomicU64>,
    meter: Arc<Meter>,
}

/// Which servers of a shard a rule leaves to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Servers {
    /// Those that fit without any rule.
    #[default]
    Any,
    /// The primary.
    Primary,
    /// For what a replica may serve those of these roles; with a label, those that have it.
    By(Reads, Option<Label>),
}

/// What the rules make of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleOutcome {
    /// The rule that decided, by its place.
    pub rule: Option<usize>,
    /// The group of servers.
    pub servers: Servers,
    /// The pools that it uses, which have connections, a limit and queues of their own.
    pub pool: Option<Label>,
    /// The most connections of each of those; without, what holds for other pools.
    pub limit: Option<NonZeroU32>,
    /// How far ahead of others it waits for a connection of its pool.
    pub priority: i8,
    /// The shard that it stays on.
    pub shard: Option<Label>,
    /// How long its statements may run.
    pub timeout: Option<Duration>,
    /// What its reads must find on a replica, if a rule says.
    pub level: Option<Level>,
    /// It is refused.
    pub refusal: Option<Refusal>,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The rule's name.
    pub rule: Label,
    /// The operator's words.
    pub message: String,
    /// False where it could not be excluded that the rule fits.
    pub is_certain: bool,
}

/// Whether a rule fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleMatch {
    /// It does not.
    No,
    /// It cannot be told.
    Perhaps,
    /// It does.
    Yes,
}

/// What rules look at in one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFacts {
    /// No rule speaks of it.
    pub exempt: bool,
    /// What it is.
    pub kinds: Kinds,
    /// What it may be besides.
    pub perhaps: Kinds,
    /// For each rule whether the statement names one of its tables; yes for rules without.
    pub tables: Vec<RuleMatch>,
    /// For each rule whether the statement is of one of its shapes; empty where no rule speaks of them.
    pub shapes: Vec<RuleMatch>,
}

/// Seconds since 1970, as rules count time.
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

static NEXT: AtomicU64 = AtomicU64::new(1);

impl RuleSet {
    /// The rules of a configuration, with what was counted under the same names before.
    pub fn new(config: &Config, before: Option<&RuleSet>) -> Self {
        let counted = |rule: &Rule| {
            let mut known = before.into_iter().flat_map(|set| &set.rules);
            let known = known.find(|counted| counted.rule.name == rule.name);
            Counted {
                kinds: rule.when.kinds.iter().copied().collect(),
                matched: known.map(|c| Arc::clone(&c.matched)).unwrap_or_default(),
                meter: known.map(|c| Arc::clone(&c.meter)).unwrap_or_default(),
                limit: rule
                    .pool
                    .as_ref()
                    .and_then(|pool| limit_of(&pool.name, &config.rules)),
                rule: rule.clone(),
            }
        };
        let replicas = |rule: &Rule| matches!(rule.action, Action::Reads { .. });
        let shards = |rule: &Rule| rule.shard.is_some();
        let shapes = |rule: &Rule| !rule.when.statements.is_empty();
        let times = |rule: &Rule| !rule.when.times.is_empty();
        RuleSet {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            rules: config.rules.iter().map(counted).collect(),
            has_replicas: config.rules.iter().any(replicas),
            has_shards: config.rules.iter().any(shards),
            has_shapes: config.rules.iter().any(shapes),
            has_times: config.rules.iter().any(times),
        }
    }

    /// The rules.
    pub fn rules(&self) -> impl ExactSizeIterator<Item = &Rule> {
        self.rules.iter().map(|counted| &counted.rule)
    }

    /// One of them.
    pub fn rule(&self, at: usize) -> Option<&Rule> {
        self.rules.get(at).map(|counted| &counted.rule)
    }

    /// Whether any rule gives reads to replicas, so that every write must be known as one.
    pub fn has_replicas(&self) -> bool {
        self.has_replicas
    }

    /// Whether any rule keeps statements on a shard.
    pub fn has_shards(&self) -> bool {
        self.has_shards
    }

    /// Whether any rule speaks of the shapes of statements.
    pub fn has_shapes(&self) -> bool {
        self.has_shapes
    }

    /// Whether any rule speaks of times.
    pub fn has_times(&self) -> bool {
        self.has_times
    }

    /// Whether any of these rules looks at what only a catalog knows of statements.
    pub fn looks_at_statements(&self, mine: &[usize]) -> bool {
        let mut rules = mine.iter().filter_map(|at| self.rule(*at));
        rules.any(|rule| rule.when.looks_at_statements())
    }

    /// The shortest time that a rule gives to statements.
    pub fn shortest_timeout(&self) -> Option<Duration> {
        self.rules().filter_map(|rule| rule.timeout).min()
    }

    /// The places of the rules that can decide about requests of this origin, in order.
    pub fn of_origin(&self, origin: &Origin<'_>) -> Vec<usize> {
        let mut mine = Vec::new();
        for (at, Counted { rule, .. }) in self.rules.iter().enumerate() {
            if !rule.when.fits_origin(origin) {
                continue;
            }
            mine.push(at);
            if rule.when.fits_all() {
                break;
            }
        }
        mine
    }

    /// Whether any of these rules keeps statements on a shard.
    pub fn pins(&self, mine: &[usize]) -> bool {
        let mut rules = mine.iter().filter_map(|at| self.rule(*at));
        rules.any(|rule| rule.shard.is_some())
    }

    /// Whether a catalog is needed to say which of these rules fits, or to obey it.
    pub fn needs_catalog(&self, mine: &[usize]) -> bool {
        self.has_replicas || self.looks_at_statements(mine) || self.pins(mine)
    }

    /// What the rules at `mine` make of a request at a moment, in seconds since 1970.
    pub fn outcome(&self, mine: &[usize], request: &RequestFacts, now: i64) -> RuleOutcome {
        if request.exempt {
            return RuleOutcome::default();
        }
        for &at in mine {
            let Some(Counted {
                rule, kinds, limit, ..
            }) = self.rules.get(at)
            else {
                continue;
            };
            if !rule.when.fits_time(now) {
                continue;
            }
            let of_kind = match kinds {
                kinds if kinds.is_empty() || kinds.meets(request.kinds) => RuleMatch::Yes,
                kinds if kinds.meets(request.perhaps) => RuleMatch::Perhaps,
                _ => RuleMatch::No,
            };
            let of_table = request
                .tables
                .get(at)
                .copied()
                .unwrap_or(RuleMatch::Perhaps);
            let of_shape = request.shapes.get(at).copied().unwrap_or(RuleMatch::Yes);
            let fit = of_kind.min(of_table).min(of_shape);
            let refuses = matches!(rule.action, Action::Refuse { .. });
            if fit == RuleMatch::Yes || (fit == RuleMatch::Perhaps && refuses) {
                return RuleOutcome {
                    limit: *limit,
                    ..outcome(at, rule, fit)
                };
            }
        }
        RuleOutcome::default()
    }

    /// Counts a request about which the rule at `at` decided.
    pub fn count(&self, at: usize) {
        if let Some(counted) = self.rules.get(at) {
            counted.matched.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What the rule at `at` limits, with what is in use of it; None if it limits nothing.
    pub fn metered(&self, at: usize) -> Option<(&Caps, &Arc<Meter>)> {
        let Counted { rule, meter, .. } = self.rules.get(at)?;
        (!rule.caps.are_none()).then_some((&rule.caps, meter))
    }

    /// What is in use of each rule's limits, in their order.
    pub fn used(&self) -> impl Iterator<Item = Used> {
        self.rules.iter().map(|counted| counted.meter.used())
    }

    /// How often each rule decided, in their order.
    pub fn counts(&self) -> impl Iterator<Item = u64> {
        self.rules.iter().map(|c| c.matched.load(Ordering::Relaxed))
    }

    /// The most connections of the pools of a label, if a rule says.
    pub fn pool_max(&self, pool: &Label) -> Option<NonZeroU32> {
        limit_of(pool, self.rules())
    }
}

/// Rules that share pools share their limit, which one of them gives.
fn limit_of<'r>(pool: &Label, rules: impl IntoIterator<Item = &'r Rule>) -> Option<NonZeroU32> {
    let pools = rules.into_iter().filter_map(|rule| rule.pool.as_ref());
    pools
        .filter(|own| own.name == *pool)
        .find_map(|own| own.max)
}

/// Whether a statement names a table of this rule, when it cannot be seen which it names.
fn unseen(rule: &Rule) -> RuleMatch {
    match rule.when.tables.is_empty() {
        true => RuleMatch::Yes,
        false => RuleMatch::Perhaps,
    }
}

fn outcome(at: usize, rule: &Rule, fit: RuleMatch) -> RuleOutcome {
    let mut outcome = RuleOutcome {
        rule: Some(at),
        priority: rule.priority,
        shard: rule.shard.clone(),
        pool: rule.pool.as_ref().map(|pool| pool.name.clone()),
        timeout: rule.timeout,
        level: rule.level,
        ..RuleOutcome::default()
    };
    match &rule.action {
        Action::Any => {}
        Action::Primary => outcome.servers = Servers::Primary,
        Action::Reads { by, label } => outcome.servers = Servers::By(*by, label.clone()),
        Action::Refuse { message } => {
            outcome.refusal = Some(Refusal {
                rule: rule.name.clone(),
                message: message.clone(),
                is_certain: fit == RuleMatch::Yes,
            });
        }
    }
    outcome
}

impl RequestFacts {
    /// The request of a session of which no catalog is known: enough for rules that look
    /// at the origin alone, and of others nothing is certain.
    pub fn by_origin(facts: &Facts, rules: &RuleSet) -> Self {
        RequestFacts {
            exempt: facts.exempt,
            kinds: facts.kinds.without(StatementKind::Read),
            perhaps: Kinds::all(),
            tables: rules.rules().map(unseen).collect(),
            shapes: shapes(facts, rules),
        }
    }
}

/// For each rule whether a statement is of one of its shapes.
pub(crate) fn shapes(facts: &Facts, rules: &RuleSet) -> Vec<RuleMatch> {
    let fit = |rule: &Rule| match &facts.shape {
        _ if rule.when.statements.is_empty() => RuleMatch::Yes,
        None => RuleMatch::Perhaps,
        Some(shape) if rule.when.statements.contains(shape) => RuleMatch::Yes,
        Some(_) => RuleMatch::No,
    };
    match rules.has_shapes {
        true => rules.rules().map(fit).collect(),
        false => Vec::new(),
    }
}

impl RuleOutcome {
    /// What of it decides about the shard of a statement. `shards` are the names of all, in the order of the file.
    pub fn pin<'s>(
        &self,
        rules: &RuleSet,
        about: About,
        shards: impl IntoIterator<Item = &'s str>,
    ) -> Option<Pin> {
        let name = self.shard.clone()?;
        let mut ids = (0..).map(ShardId).zip(shards);
        Some(Pin {
            rule: rules.rule(self.rule?)?.name.clone(),
            shard: ids
                .find(|(_, shard)| *shard == name.as_str())
                .map(|(id, _)| id),
            name,
            about,
        })
    }

    /// What EXPLAIN (ROUTE) says of it; None without a rule.
    pub fn told(&self, rules: &RuleSet) -> Option<String> {
        let rule = rules.rule(self.rule?)?;
        let mut what: Vec<String> = Vec::new();
        match (&rule.action, &self.refusal) {
            (_, Some(refusal)) if refusal.is_certain => what.push("refuse".to_owned()),
            (_, Some(_)) => {
                what.push("refuse, because it cannot be excluded that it fits".to_owned())
            }
            (Action::Reads { by, label }, _) => what.push(served_by(*by, label.as_ref())),
            (Action::Primary, _) => what.push("primary".to_owned()),
            (Action::Any | Action::Refuse { .. }, _) => {}
        }
        what.extend(rule.shard.as_ref().map(|shard| format!("shard {shard}")));
        what.extend(rule.pool.as_ref().map(|pool| format!("pool {}", pool.name)));
        if self.priority != 0 {
            what.push(format!("priority {}", self.priority));
        }
        what.extend(limits(rule));
        Some(format!("Rule: {} ({})", rule.name, what.join(", ")))
    }
}

/// Who serves reads, in words.
fn served_by(by: Reads, label: Option<&Label>) -> String {
    let by = match by {
        Reads::PreferReplicas => "replica".to_owned(),
        Reads::Any if label.is_some() => "servers".to_owned(),
        by => format!("reads {by}"),
    };
    match label {
        Some(label) => format!("{by} labelled {label}"),
        None => by,
    }
}

/// What a rule limits, in words.
pub fn limits(rule: &Rule) -> Vec<String> {
    let mut said = Vec::new();
    let caps = &rule.caps;
    said.extend(
        caps.concurrency
            .map(|most| format!("at most {most} at once")),
    );
    said.extend(caps.rate.map(|rate| format!("at most {rate}")));
    if !caps.wait.is_zero() {
        said.push(format!("waits {:?}", caps.wait));
    }
    said.extend(rule.timeout.map(|timeout| format!("timeout {timeout:?}")));
    if let Some(Level { freshness, max_lag }) = rule.level {
        said.push(match max_lag {
            Some(limit) => format!("freshness {freshness} within {limit:?}"),
            None => format!("freshness {freshness}"),
        });
    }
    if rule.log {
        said.push("logged".to_owned());
    }
    said
}

#[cfg(test)]
mod tests;
