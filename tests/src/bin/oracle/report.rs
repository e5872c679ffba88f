//! What is counted, and the last lines of a run.

use crate::judge::Verdict;
use crate::statement::Statement;
use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

/// So many refused statements are shown for each reason.
const EXAMPLES: usize = 4;

/// Counts.
#[derive(Debug, Default)]
pub struct Report {
    pub statements: u64,
    pub equal: u64,
    pub open: u64,
    pub refused: u64,
    /// What documents cannot have or do, each with how often it was refused.
    pub limits: BTreeMap<String, u64>,
    pub wrong: u64,
    /// What PostgreSQL itself refused, and with what.
    pub errors: BTreeMap<String, u64>,
    pub reasons: BTreeMap<String, u64>,
    pub plans: BTreeMap<String, u64>,
    /// Binary answers with object ids of a shard inside of values.
    pub foreign: u64,
    /// Changes of settings.
    pub settings: u64,
    /// Cases whose names mean other tables than most clients' do.
    pub hidden: u64,
    /// Changes of what new sessions begin with.
    pub defaults: u64,
    /// Partitions that came and went.
    pub partitions: u64,
    /// Statements that were asked a second time, to be gathered.
    pub gathered: u64,
    pub injected: u64,
    pub found: u64,
    /// What was not compared, because one side ended it at its time limit.
    pub slow: BTreeMap<&'static str, u64>,
    spent: BTreeMap<&'static str, Duration>,
    features: BTreeMap<&'static str, (u64, u64)>,
    /// The shortest statements that were refused for each reason.
    shortest: BTreeMap<String, Vec<String>>,
    kinds: BTreeMap<&'static str, u64>,
    ways: BTreeMap<String, u64>,
    /// Views at random that were made, and those that the router did not make, by its word.
    made_views: u64,
    refused_views: BTreeMap<String, u64>,
    /// Statements and those that were refused.
    layouts: BTreeMap<String, (u64, u64)>,
}

impl Report {
    /// One statement more.
    pub fn count(
        &mut self,
        statement: &Statement,
        layout: String,
        way: String,
        error: Option<&str>,
        verdict: &Verdict,
    ) {
        self.statements += 1;
        *self.ways.entry(way).or_default() += 1;
        let (all, refused) = self.layouts.entry(layout).or_default();
        *all += 1;
        *refused += u64::from(matches!(verdict, Verdict::Refused(_)));
        if let Some(error) = error {
            *self.errors.entry(error.to_owned()).or_default() += 1;
        }
        let answered = matches!(verdict, Verdict::Equal | Verdict::Open);
        for feature in &statement.features {
            let (all, equal) = self.features.entry(feature).or_default();
            *all += 1;
            *equal += u64::from(answered);
        }
        match verdict {
            Verdict::Equal => self.equal += 1,
            Verdict::Open => {
                self.equal += 1;
                self.open += 1;
            }
            Verdict::Refused(message) => {
                self.refused += 1;
                *self.reasons.entry(message.clone()).or_default() += 1;
                let text = statement.inline();
                let shortest = self.shortest.entry(message.clone()).or_default();
                shortest.push(text);
                shortest.sort_by_key(String::len);
                shortest.truncate(EXAMPLES);
            }
            Verdict::Limit(limit) => self.limit(limit),
            Verdict::Wrong { kind, .. } => {
                self.wrong += 1;
                *self.kinds.entry(kind).or_default() += 1;
            }
        }
    }

    /// A statement that was counted is asked again, to be gathered.
    pub fn count_gathered(&mut self, verdict: &Verdict) {
        self.gathered += 1;
        if let Verdict::Wrong { kind, .. } = verdict {
            self.fault(kind);
        }
    }

    /// Once more documents were refused what they cannot have or do.
    pub fn limit(&mut self, limit: &str) {
        *self.limits.entry(limit.to_owned()).or_default() += 1;
    }

    /// The views of one world more.
    pub fn views(&mut self, made: u64, refused: &BTreeMap<String, u64>) {
        self.made_views += made;
        for (reason, count) in refused {
            *self.refused_views.entry(reason.clone()).or_default() += count;
        }
    }

    /// Time that went by since `begun`, for this.
    pub fn spent(&mut self, on: &'static str, begun: Instant) {
        *self.spent.entry(on).or_default() += begun.elapsed();
    }

    /// Both together.
    pub fn and(mut self, other: Report) -> Report {
        fn add<K: Ord, V: AddAssign + Default>(to: &mut BTreeMap<K, V>, more: BTreeMap<K, V>) {
            for (key, value) in more {
                *to.entry(key).or_default() += value;
            }
        }
        self.statements += other.statements;
        self.equal += other.equal;
        self.open += other.open;
        self.refused += other.refused;
        self.wrong += other.wrong;
        self.foreign += other.foreign;
        self.gathered += other.gathered;
        self.settings += other.settings;
        self.hidden += other.hidden;
        self.defaults += other.defaults;
        self.partitions += other.partitions;
        self.injected += other.injected;
        self.found += other.found;
        self.made_views += other.made_views;
        add(&mut self.refused_views, other.refused_views);
        add(&mut self.errors, other.errors);
        add(&mut self.reasons, other.reasons);
        add(&mut self.limits, other.limits);
        add(&mut self.plans, other.plans);
        add(&mut self.slow, other.slow);
        add(&mut self.spent, other.spent);
        add(&mut self.kinds, other.kinds);
        add(&mut self.ways, other.ways);
        for (feature, (all, equal)) in other.features {
            let sum = self.features.entry(feature).or_default();
            *sum = (sum.0 + all, sum.1 + equal);
        }
        for (layout, (all, refused)) in other.layouts {
            let sum = self.layouts.entry(layout).or_default();
            *sum = (sum.0 + all, sum.1 + refused);
        }
        for (reason, texts) in other.shortest {
            let shortest = self.shortest.entry(reason).or_default();
            shortest.extend(texts);
            shortest.sort_by_key(String::len);
            shortest.truncate(EXAMPLES);
        }
        self
    }

    /// Something that is wrong beside statements: rows, leftovers.
    pub fn fault(&mut self, kind: &'static str) {
        self.wrong += 1;
        *self.kinds.entry(kind).or_default() += 1;
    }

    /// Everything, and the closing line of the proof of this name.
    pub fn print(&self, proof: &str, seed: u64) {
        let share = |part: u64| {
            format!(
                "{:.1} %",
                100.0 * part as f64 / self.statements.max(1) as f64
            )
        };
        let by_count = |map: &BTreeMap<String, u64>| {
            let mut list: Vec<(String, u64)> = map.iter().map(|(k, v)| (k.clone(), *v)).collect();
            list.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            list
        };
        println!("features: how many statements have them, how many of these were answered");
        for (feature, (all, equal)) in &self.features {
            println!("  {feature:<28} {all:>7} {equal:>7}");
        }
        println!("ways:");
        by_count(&self.ways)
            .iter()
            .for_each(|(way, count)| println!("  {way:<28} {count:>7}"));
        if self.made_views > 0 {
            println!("views made: {}, refused by reason:", self.made_views);
            by_count(&self.refused_views)
                .iter()
                .for_each(|(reason, count)| println!("  {count:>7} {reason}"));
        }
        println!("plans:");
        by_count(&self.plans)
            .iter()
            .for_each(|(plan, count)| println!("  {plan:<28} {count:>7}"));
        println!("layouts: statements, and how many of them were refused");
        for (layout, (all, refused)) in &self.layouts {
            let share = 100.0 * *refused as f64 / *all as f64;
            println!("  {layout:<28} {all:>7} {refused:>7} {share:.1} %");
        }
        println!("refused by reason:");
        by_count(&self.reasons).iter().for_each(|(reason, count)| {
            println!("  {count:>7} {reason}");
            let shortest = self.shortest.get(reason).into_iter().flatten();
            shortest.for_each(|sql| println!("          {sql}"));
        });
        let errors: u64 = self.errors.values().sum();
        println!("refused by PostgreSQL itself: {errors}, {}", share(errors));
        by_count(&self.errors)
            .iter()
            .take(12)
            .for_each(|(error, count)| println!("  {count:>7} {error}"));
        println!(
            "equal as far as SQL determines the answer: {}, {}",
            self.open,
            share(self.open)
        );
        if self.foreign > 0 {
            println!(
                "equal but for a shard's own object ids inside of binary values: {}",
                self.foreign
            );
        }
        println!(
            "settings changed: {}, defaults of roles and databases: {}, partitions: {}, cases with other tables of the \
             same names: {}",
            self.settings, self.defaults, self.partitions, self.hidden
        );
        println!(
            "asked again with mothership.plan = gather: {}",
            self.gathered
        );
        if !self.slow.is_empty() {
            println!("not compared, too slow for: {:?}", self.slow);
        }
        let all: Duration = self.spent.values().sum();
        let parts = self.spent.iter().map(|(on, time)| {
            format!(
                "{on} {:.0} %",
                100.0 * time.as_secs_f64() / all.as_secs_f64()
            )
        });
        println!("time: {}", parts.collect::<Vec<_>>().join(", "));
        if !self.kinds.is_empty() {
            println!("wrong by kind: {:?}", self.kinds);
        }
        if self.injected > 0 {
            println!("injected: {}, found: {}", self.injected, self.found);
        }
        if !self.limits.is_empty() {
            println!("refused because documents cannot have or do it:");
            by_count(&self.limits)
                .iter()
                .for_each(|(limit, count)| println!("  {count:>7} {limit}"));
        }
        let limits: u64 = self.limits.values().sum();
        println!(
            "{proof}: statements={} equal={} limits={limits} refused={} wrong={} seed={seed}",
            self.statements, self.equal, self.refused, self.wrong
        );
    }
}
