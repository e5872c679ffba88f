//! Recovery: any router finishes what another one left behind, and forgets what
//! nobody can ask for any more. Every router does it all the time; that several do
//! it at once is harmless.
//!
//! A sweep asks all sites at once, lets `judge` decide, and acts. Nothing is kept
//! between sweeps but a place in long decision tables, so that a router with an
//! empty disk does as well. A site that does not answer is reported and tried
//! again; the others are not kept waiting for longer than one time limit.

use super::doubt::{Doubts, Site};
use super::errand::{Servers, Trouble, ask, field, finish, reading};
use super::gid::{Backend, Gid, Place, TransactionId};
use super::judge::{
    Decider, Decision, LeaveReason, Look, Participants, Patience, PreparedTransaction, SeenSite,
    Verdict, ids, judge,
};
use super::schema::guard;
use super::text::{self, transaction};
use crate::config::{Control, Name, Transactions};
use crate::tick;
use futures_util::future::join_all;
use mothership_proto::report::sqlstate;
use mothership_sql::quote;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_postgres::SimpleQueryRow;

mod documents;

/// Limits of recovery.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The schema of the decision table.
    pub schema: Name,
    /// Between sweeps.
    pub interval: Duration,
    /// One question or action may take so long.
    pub timeout: Duration,
    /// A decider that is just committing is waited for so long.
    pub fence_wait: Duration,
    /// When to act.
    pub patience: Patience,
    /// Rows of one decision table that one sweep reads.
    pub rows: u32,
}

/// What its own router finishes within this time, others need not look at.
const SHORT: Duration = Duration::from_secs(1);
/// Above the time that preparing may take, because a router needs some to say so.
const MARGIN: Duration = Duration::from_secs(2);
/// How far a replica that becomes a primary may have lagged behind without harm.
const KEEP: Duration = Duration::from_secs(10);

impl Settings {
    /// As the configuration says.
    pub fn new(transactions: &Transactions, control: &Control) -> Self {
        Self {
            schema: transactions.schema.clone(),
            interval: transactions.recovery_interval,
            timeout: control.timeout,
            fence_wait: control.timeout / 2,
            patience: Patience {
                short: SHORT,
                long: transactions.prepare_timeout.saturating_add(MARGIN),
                keep: KEEP,
            },
            rows: transactions.in_doubt.get(),
        }
    }
}

/// A part of a transaction that is still prepared, for `SHOW TRANSACTIONS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InDoubt {
    /// Where.
    pub site: Site,
    /// Its name.
    pub gid: Gid,
    /// Its owner.
    pub owner: String,
    /// Since it was prepared.
    pub age: Duration,
    /// Why it was left.
    pub why: LeaveReason,
}

/// What one sweep has found and done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Parts committed.
    pub committed: u64,
    /// Parts rolled back.
    pub rolled_back: u64,
    /// Rows deleted from decision tables.
    pub forgotten: u64,
    /// Parts left, with the reason.
    pub left: Vec<InDoubt>,
    /// Sites that did not answer, with the reason.
    pub unreachable: Vec<(Site, String)>,
}

impl Sweep {
    /// Whether it has seen this part and left it.
    pub fn has_left(&self, site: &Site, id: TransactionId) -> bool {
        let mut left = self.left.iter();
        left.any(|part| part.gid.id == id && part.site == *site)
    }
}

/// Age of a time in milliseconds, as SQL.
fn age(column: &str) -> String {
    format!("(extract(epoch FROM clock_timestamp() - {column}) * 1000)::int8")
}

/// The backends of the server. One whose start the control role may not see counts as
/// the one that is looked for.
const BACKENDS: &str = "WITH a AS MATERIALIZED (SELECT pid, \
    (extract(epoch FROM backend_start) * 1000000)::int8 AS started FROM pg_stat_get_activity(NULL)) ";

/// Whether a backend with `k.pid` and `k.started` is there.
const ALIVE: &str =
    "EXISTS (SELECT FROM a WHERE a.pid = k.pid AND COALESCE(a.started = k.started, true))";

/// Recovery by this router.
pub struct Recovery<S> {
    servers: S,
    settings: Settings,
    doubts: Arc<Doubts>,
    /// Where in each decision table the next sweep begins.
    cursors: HashMap<Site, String>,
    /// Decisions of which nothing was held any more, and then standbys had that, too. The next sweep forgets those of
    /// which it sees nothing either.
    settled: HashSet<(TransactionId, Backend)>,
}

impl<S: Servers> Recovery<S> {
    /// Of these servers. `doubts` learns what is settled.
    pub fn new(servers: S, settings: Settings, doubts: Arc<Doubts>) -> Self {
        Self {
            servers,
            settings,
            doubts,
            cursors: HashMap::new(),
            settled: HashSet::new(),
        }
    }

    /// Sweeps for ever. `sites` says where to look: all databases of the configuration on all shards, and those of
    /// [`databases`](super::errand::databases). Each sweep is told to `told`. Cancel safe between sweeps and within: everything can be repeated.
    pub async fn run(mut self, mut sites: impl FnMut() -> Vec<Site>, told: watch::Sender<Sweep>) {
        loop {
            let sweep = self.sweep(&sites()).await;
            let done = sweep.committed + sweep.rolled_back;
            if done > 0 || !sweep.left.is_empty() {
                tracing::info!(
                    committed = sweep.committed,
                    rolled_back = sweep.rolled_back,
                    left = sweep.left.len(),
                    "recovery of transactions over several shards"
                );
            }
            told.send_replace(sweep);
            tokio::select! {
                () = tokio::time::sleep_until(tick::spaced(self.settings.interval)) => {}
                // What this router could not finish is tried again as soon as it may be.
                () = self.doubts.noted() => {
                    let short = self.settings.patience.short.min(self.settings.interval);
                    tokio::time::sleep(short).await;
                }
            }
        }
    }

    /// Looks at all sites once, finishes what may be finished and forgets what may be forgotten.
    pub async fn sweep(&mut self, sites: &[Site]) -> Sweep {
        let mut sites: Vec<Site> = sites.to_vec();
        sites.extend(self.doubts.sites());
        sites.sort();
        sites.dedup();
        let mut sweep = Sweep::default();
        let begun = Instant::now();
        let look = self.look(&sites, &mut sweep).await;
        let deciders = self.deciders(&look, &sweep).await;
        let finished = self.act(&look, &deciders, &mut sweep).await;
        for (site, seen) in &look.seen {
            let mut held = ids(seen);
            if let Some(finished) = finished.get(site) {
                held.retain(|id| !finished.contains(id));
            }
            self.doubts.settle(site, begun, &held);
        }
        let forgets = look.seen.keys().map(|site| self.forget(&look, site));
        for (site, forgotten) in join_all(forgets).await {
            match forgotten {
                Ok(count) => sweep.forgotten += count,
                Err(trouble) => sweep.unreachable.push((site, trouble.to_string())),
            }
        }
        self.settled = self.settle(&look).await;
        sweep
    }

    /// Notes as doubts what committed transactions have left prepared on the sites `first`, which this process reads for
    /// the first time: their clients may have been told of the commit before it began. What nobody has decided was told to
    /// nobody, and is recovery's. `all` are the sites that may have decided.
    ///
    /// # Errors
    /// The site of `first` that could not be asked, and why.
    pub async fn note_left_behind(
        &mut self,
        all: &[Site],
        first: &[Site],
    ) -> Result<(), (Site, String)> {
        let mut sweep = Sweep::default();
        let look = self.look(all, &mut sweep).await;
        let deciders = self.deciders(&look, &sweep).await;
        for (site, held) in look.held().filter(|(site, _)| first.contains(site)) {
            match deciders.get(&(held.gid.id, held.gid.backend)) {
                Some(
                    Decider::Seen {
                        outcome: Some(true),
                        ..
                    }
                    | Decider::Unreachable,
                ) => {
                    self.doubts.note(site.clone(), &held.gid);
                }
                Some(Decider::Seen { .. } | Decider::Unknown) | None => {}
            }
        }
        let mut unreachable = sweep.unreachable.into_iter();
        match unreachable.find(|(site, _)| first.contains(site)) {
            Some(first) => Err(first),
            None => Ok(()),
        }
    }

    /// The decisions that may be forgotten once the next sweep, too, sees nothing prepared of them: the standbys of all that
    /// took part have everything that was committed before now.
    async fn settle(&self, look: &Look) -> HashSet<(TransactionId, Backend)> {
        let patience = &self.settings.patience;
        let all = look
            .seen
            .keys()
            .flat_map(|site| look.forgettable(site, patience));
        let new = all.filter(|decision| decision.committed && !self.is_settled(decision));
        let new: Vec<&Decision> = new.collect();
        // A server's log is one for all its databases.
        let mut sites: BTreeMap<&str, &Site> = BTreeMap::new();
        for site in look
            .seen
            .keys()
            .filter(|site| !self.servers.has_documents(site))
        {
            let is_named = |decision: &&Decision| decision.participants.include(&site.shard);
            if new.iter().any(is_named) {
                sites.entry(&site.shard).or_insert(site);
            }
        }
        let wait = text::replicated(self.settings.timeout.as_millis());
        let asks = sites
            .values()
            .map(async |site| (*site, self.ask(site, &[&wait]).await));
        let mut late: HashSet<&str> = HashSet::new();
        for (site, answer) in join_all(asks).await {
            if let Err(trouble) = answer {
                tracing::warn!(shard = site.shard, error = %trouble,
                    "decisions are kept: it is not known whether standbys have the commits");
                late.insert(&site.shard);
            }
        }
        let is_replicated = |decision: &&&Decision| {
            !late
                .iter()
                .any(|shard| decision.participants.include(shard))
        };
        let settled = new.iter().filter(is_replicated);
        settled
            .map(|decision| (decision.id, decision.backend))
            .collect()
    }

    fn is_settled(&self, decision: &Decision) -> bool {
        self.settled.contains(&(decision.id, decision.backend))
    }

    /// All decisions first, then all that is prepared: what is prepared then is a
    /// later view than any decision.
    async fn look(&mut self, sites: &[Site], sweep: &mut Sweep) -> Look {
        let longest = longest(sites);
        let decisions = join_all(sites.iter().map(|site| self.decisions(site, longest))).await;
        let mut seen = Vec::new();
        for (site, decisions) in sites.iter().zip(decisions) {
            match decisions {
                Ok((place, decisions, cursor)) => {
                    match cursor {
                        Some(cursor) => drop(self.cursors.insert(site.clone(), cursor)),
                        None => drop(self.cursors.remove(site)),
                    }
                    seen.push((site, place, decisions));
                }
                Err(trouble) => sweep.unreachable.push((site.clone(), trouble.to_string())),
            }
        }
        let held = join_all(seen.iter().map(|(site, ..)| self.held(site))).await;
        let mut look = Look::default();
        for ((site, place, decisions), held) in seen.into_iter().zip(held) {
            match held {
                Ok(held) => {
                    let seen = SeenSite {
                        place,
                        decisions,
                        held,
                    };
                    look.seen.insert(site.clone(), seen);
                }
                Err(trouble) => sweep.unreachable.push((site.clone(), trouble.to_string())),
            }
        }
        look
    }

    async fn ask(&self, site: &Site, messages: &[&str]) -> Result<Vec<SimpleQueryRow>, Trouble> {
        ask(&self.servers, site, self.settings.timeout, messages).await
    }

    fn table(&self) -> String {
        format!(
            "{}.decision",
            quote::identifier(self.settings.schema.as_str())
        )
    }

    /// Which database it is, rows of its decision table, and where to go on next time. Names of more than `longest`
    /// bytes are not fetched: everybody may write there.
    async fn decisions(
        &self,
        site: &Site,
        longest: usize,
    ) -> Result<(Place, Vec<Decision>, Option<String>), Trouble> {
        if self.servers.has_documents(site) {
            return self.documented(site).await;
        }
        let reading = reading(self.settings.timeout);
        let table = self.table();
        let which = format!(
            "{reading}; SELECT c.system_identifier, d.oid, pg_is_in_recovery(), \
             to_regclass('{table}') IS NOT NULL \
             FROM pg_control_system() c, pg_database d WHERE d.datname = current_database()"
        );
        let rows = self.ask(site, &[&which]).await?;
        let row = rows.first().ok_or(Trouble::Strange)?;
        if row.get(2) != Some("f") {
            return Err(Trouble::Replica);
        }
        let place = Place {
            system: field::<i64>(row, 0)?.cast_unsigned(),
            database: field(row, 1)?,
        };
        if row.get(3) != Some("t") {
            return Ok((place, Vec::new(), None));
        }
        let from = self.cursors.get(site).map_or("-infinity", String::as_str);
        let limit = self.settings.rows;
        let sql = format!(
            "{reading}; {}; {BACKENDS} SELECT k.id, k.pid, k.started, k.committed, \
             CASE WHEN octet_length(k.participants) <= {longest} THEN k.participants END, {}, \
             NOT k.committed AND {ALIVE}, k.decided FROM {table} k \
             WHERE k.decided >= '{from}'::timestamptz ORDER BY k.decided LIMIT {limit}",
            guard(&self.settings.schema),
            age("k.decided")
        );
        let rows = self.ask(site, &[&sql]).await?;
        let decisions = rows.iter().map(|row| read_decision(place, row));
        let decisions = decisions.collect::<Result<_, _>>()?;
        let full = rows.len() >= limit as usize;
        let last = rows.last().filter(|_| full).and_then(|row| row.get(7));
        Ok((place, decisions, last.map(str::to_owned)))
    }

    /// What is prepared under names of ours in the whole cluster.
    async fn held(&self, site: &Site) -> Result<Vec<PreparedTransaction>, Trouble> {
        if self.servers.has_documents(site) {
            return Ok(Vec::new());
        }
        let sql = format!(
            "{}; SELECT gid, owner, {}, database = current_database() \
             FROM pg_prepared_xacts WHERE starts_with(gid, 'ms1:')",
            reading(self.settings.timeout),
            age("prepared")
        );
        let rows = self.ask(site, &[&sql]).await?;
        let held = rows.iter().filter_map(|row| {
            let held = PreparedTransaction {
                // A name that only begins like ours is not ours.
                gid: Gid::parse(row.get(0)?)?,
                owner: row.get(1)?.to_owned(),
                age: milliseconds(row.get(2)?.parse().ok()?),
                here: row.get(3) == Some("t"),
            };
            Some(held)
        });
        Ok(held.collect())
    }

    /// What the deciders say of all that is held.
    async fn deciders(
        &self,
        look: &Look,
        sweep: &Sweep,
    ) -> HashMap<(TransactionId, Backend), Decider> {
        let mut known = HashMap::new();
        let mut questions: BTreeMap<&Site, Vec<(TransactionId, Backend)>> = BTreeMap::new();
        for (_, held) in look.held() {
            let key = (held.gid.id, held.gid.backend);
            if known.contains_key(&key) {
                continue;
            }
            let away = |(site, _): &(Site, String)| site.shard == held.gid.decider.as_str();
            let decider = match look.at(held.gid.backend.place()) {
                Some(site) => {
                    questions.entry(site).or_default().push(key);
                    Decider::Unreachable
                }
                None if sweep.unreachable.iter().any(away) => Decider::Unreachable,
                None => Decider::Unknown,
            };
            known.insert(key, decider);
        }
        let ask = |(site, keys)| self.outcomes(site, keys);
        for answers in join_all(questions.into_iter().map(ask)).await {
            known.extend(answers);
        }
        known
    }

    /// What one decider says; nothing if it does not answer.
    async fn outcomes(
        &self,
        site: &Site,
        keys: Vec<(TransactionId, Backend)>,
    ) -> Vec<((TransactionId, Backend), Decider)> {
        if self.servers.has_documents(site) {
            return self.documented_outcomes(site, keys).await;
        }
        let mut answers = Vec::new();
        for keys in keys.chunks(CHUNK) {
            let value = |(index, (id, backend)): (usize, &(TransactionId, Backend))| match backend {
                Backend::Process { pid, started, .. } => {
                    Some(format!("({index}, '{id}'::uuid, {pid}, {started}::int8)"))
                }
                Backend::Session { .. } => None,
            };
            let values: Vec<String> = keys.iter().enumerate().filter_map(value).collect();
            let sql = format!(
                "{}; {}; {BACKENDS} SELECT k.n, d.committed, {ALIVE} \
                 FROM (VALUES {}) k (n, id, pid, started) LEFT JOIN {} d \
                 ON d.id = k.id AND d.pid = k.pid AND d.started = k.started",
                reading(self.settings.timeout),
                guard(&self.settings.schema),
                values.join(", "),
                self.table()
            );
            let rows = match self.ask(site, &[&sql]).await {
                Ok(rows) => rows,
                Err(trouble) => {
                    tracing::warn!(shard = site.shard, error = %trouble, "decisions cannot be read");
                    return answers;
                }
            };
            let answer = |row: &SimpleQueryRow| {
                let key = keys.get(row.get(0)?.parse::<usize>().ok()?)?;
                let seen = Decider::Seen {
                    outcome: row.get(1).map(|committed| committed == "t"),
                    alive: row.get(2) != Some("f"),
                };
                Some((*key, seen))
            };
            answers.extend(rows.iter().filter_map(answer));
        }
        answers
    }

    /// Acts on the verdicts; says what was finished where.
    async fn act(
        &self,
        look: &Look,
        deciders: &HashMap<(TransactionId, Backend), Decider>,
        sweep: &mut Sweep,
    ) -> HashMap<Site, HashSet<TransactionId>> {
        let mut verdicts = Vec::new();
        let mut fences: BTreeMap<&Site, HashSet<(TransactionId, Backend)>> = BTreeMap::new();
        for (site, held) in look.held() {
            let key = (held.gid.id, held.gid.backend);
            let decider = deciders.get(&key).copied().unwrap_or(Decider::Unreachable);
            let verdict = judge(held, decider, &self.settings.patience);
            if verdict == Verdict::Fence
                && let Some(at) = look.at(held.gid.backend.place())
            {
                fences.entry(at).or_default().insert(key);
            }
            verdicts.push((site, held, verdict));
        }
        let fencing = fences
            .into_iter()
            .map(|(site, keys)| self.fence(site, keys));
        let fenced: HashMap<_, _> = join_all(fencing).await.into_iter().flatten().collect();
        let mut work: BTreeMap<&Site, Vec<(&PreparedTransaction, bool)>> = BTreeMap::new();
        for (site, held, verdict) in verdicts {
            let verdict = match verdict {
                Verdict::Fence => fenced
                    .get(&(held.gid.id, held.gid.backend))
                    .copied()
                    .unwrap_or(Verdict::Wait(LeaveReason::Deciding)),
                other => other,
            };
            match verdict {
                Verdict::Finish(commit) => work.entry(site).or_default().push((held, commit)),
                Verdict::Wait(why) => sweep.left.push(in_doubt(site, held, why)),
                Verdict::Fence => sweep.left.push(in_doubt(site, held, LeaveReason::Deciding)),
            }
        }
        let mut finished: HashMap<Site, HashSet<TransactionId>> = HashMap::new();
        let finishing = work
            .into_iter()
            .map(|(site, work)| self.finish_all(site, work));
        for (site, held, commit, outcome) in join_all(finishing).await.into_iter().flatten() {
            match outcome {
                Err(why) => {
                    sweep.left.push(in_doubt(site, held, why));
                    continue;
                }
                Ok(()) if commit => sweep.committed += 1,
                Ok(()) => sweep.rolled_back += 1,
            }
            let at = finished.entry(site.clone()).or_default();
            at.insert(held.gid.id);
        }
        finished
    }

    /// Makes outcomes final at their decider.
    async fn fence(
        &self,
        site: &Site,
        keys: HashSet<(TransactionId, Backend)>,
    ) -> Vec<((TransactionId, Backend), Verdict)> {
        let wait = self.settings.fence_wait.as_millis();
        let one = async |(id, backend): (TransactionId, Backend)| {
            let sql = text::fence(&self.settings.schema, id, backend, wait);
            let verdict = match self.ask(site, &[&sql]).await {
                Ok(rows) => match rows.first().and_then(|row| row.get(0)) {
                    Some("commit") => Verdict::Finish(true),
                    Some("abort") => Verdict::Finish(false),
                    _ => Verdict::Wait(LeaveReason::DeciderUnreachable),
                },
                Err(trouble) if trouble.sqlstate().is_some() => {
                    Verdict::Wait(LeaveReason::Deciding)
                }
                Err(_) => Verdict::Wait(LeaveReason::DeciderUnreachable),
            };
            ((id, backend), verdict)
        };
        // One that has to wait must not keep the others waiting.
        join_all(keys.into_iter().map(one)).await
    }

    async fn finish_all<'a>(
        &self,
        site: &'a Site,
        work: Vec<(&'a PreparedTransaction, bool)>,
    ) -> Vec<(
        &'a Site,
        &'a PreparedTransaction,
        bool,
        Result<(), LeaveReason>,
    )> {
        let mut outcomes = Vec::new();
        let mut away = false;
        for (held, commit) in work {
            let outcome = match away {
                true => Err(LeaveReason::Busy),
                false => self.finish_one(site, held, commit, &mut away).await,
            };
            outcomes.push((site, held, commit, outcome));
        }
        outcomes
    }

    async fn finish_one(
        &self,
        site: &Site,
        held: &PreparedTransaction,
        commit: bool,
        away: &mut bool,
    ) -> Result<(), LeaveReason> {
        let limit = self.settings.timeout;
        let Err(trouble) = finish(&self.servers, site, limit, &held.gid, commit).await else {
            tracing::info!(shard = site.shard, gid = %held.gid, commit, "finished by recovery");
            return Ok(());
        };
        match trouble.sqlstate() {
            // It was there: another one has finished it just now.
            Some(sqlstate::UNDEFINED_OBJECT) => Ok(()),
            Some(sqlstate::INSUFFICIENT_PRIVILEGE) => {
                tracing::error!(shard = site.shard, gid = %held.gid, owner = held.owner,
                    "the control role may not finish a prepared transaction");
                Err(LeaveReason::Denied)
            }
            code => {
                *away |= code.is_none();
                Err(LeaveReason::Busy)
            }
        }
    }

    /// Deletes the decisions that nobody can ask for any more.
    async fn forget(&self, look: &Look, site: &Site) -> (Site, Result<u64, Trouble>) {
        let patience = &self.settings.patience;
        let rows = look.forgettable(site, patience);
        let rows: Vec<&Decision> = rows
            .filter(|decision| !decision.committed || self.is_settled(decision))
            .collect();
        let mut count = 0;
        for chunk in rows.chunks(CHUNK) {
            if self.servers.has_documents(site) {
                match self.forget_documented(site, chunk).await {
                    Ok(gone) => count += gone,
                    Err(trouble) => return (site.clone(), Err(trouble)),
                }
                continue;
            }
            let value = |decision: &&Decision| match decision.backend {
                Backend::Process { pid, started, .. } => Some(format!(
                    "('{}'::uuid, {pid}, {started}::int8, {})",
                    decision.id, decision.committed
                )),
                Backend::Session { .. } => None,
            };
            let values: Vec<String> = chunk.iter().filter_map(value).collect();
            let sql = format!(
                "{}; {}; WITH gone AS (DELETE FROM {} d USING (VALUES {}) k (id, pid, started, committed) \
                 WHERE d.id = k.id AND d.pid = k.pid AND d.started = k.started \
                 AND d.committed = k.committed RETURNING 1) SELECT count(*) FROM gone",
                transaction(self.settings.timeout.as_millis()),
                guard(&self.settings.schema),
                self.table(),
                values.join(", ")
            );
            match self.ask(site, &[&sql]).await {
                Ok(rows) => {
                    count += rows
                        .first()
                        .and_then(|row| field::<u64>(row, 0).ok())
                        .unwrap_or(0)
                }
                Err(trouble) => return (site.clone(), Err(trouble)),
            }
        }
        (site.clone(), Ok(count))
    }
}

/// Keys in one message.
const CHUNK: usize = 1_000;

fn in_doubt(site: &Site, held: &PreparedTransaction, why: LeaveReason) -> InDoubt {
    InDoubt {
        site: site.clone(),
        gid: held.gid.clone(),
        owner: held.owner.clone(),
        age: held.age,
        why,
    }
}

fn read_decision(place: Place, row: &SimpleQueryRow) -> Result<Decision, Trouble> {
    let id = row.get(0).and_then(TransactionId::parse_uuid);
    Ok(Decision {
        id: id.ok_or(Trouble::Strange)?,
        backend: Backend::Process {
            place,
            pid: field(row, 1)?,
            started: field(row, 2)?,
        },
        committed: row.get(3) == Some("t"),
        participants: names(row.get(4)),
        age: milliseconds(field(row, 5)?),
        alive: row.get(6) != Some("f"),
    })
}

/// The names of who was prepared, of a decision; none where they were not read.
fn names(text: Option<&str>) -> Participants {
    let Some(text) = text else {
        return Participants::Strange;
    };
    let names = text.split(',').filter(|name| !name.is_empty());
    Participants::Shards(names.map(str::to_owned).collect())
}

/// The length of all names of shards, as a decision lists them. What is longer names others.
fn longest(sites: &[Site]) -> usize {
    let names: HashSet<&str> = sites.iter().map(|site| site.shard.as_str()).collect();
    names.iter().map(|name| name.len() + 1).sum()
}

/// A clock that was set back makes ages negative: then it is young.
fn milliseconds(count: i64) -> Duration {
    Duration::from_millis(u64::try_from(count).unwrap_or(0))
}
