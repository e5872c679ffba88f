//! Finds transactions that wait for each other over several shards, where no server
//! can see it, and ends one of them.
//!
//! Servers are asked only while some session holds connections to several shards: a few
//! times within `transactions.deadlock_timeout`, and at once where a statement over several
//! shards has waited for a moment ([`Shared::stuck`]). It is also asked which backends belong to
//! transactions of other routers ([`crate::commit::mark`]), and [`graph`] looks for cycles. Each shard was
//! asked at another moment, so what was found is looked at once more, at once: where the
//! same statements still wait for the same locks, it does not end by itself.
//!
//! Whoever of a cycle can undo its statement unseen is asked to. Else it is as with
//! PostgreSQL: when somebody has waited for `transactions.deadlock_timeout`, one is ended,
//! the same for every router. A router ends its own: the victim's statement is cancelled by a
//! question that finds it still waiting like that, and its session makes 40P01 of the
//! server's error. Then it is looked again until no cycle is left. Who waits for a connection
//! of a pool, while he holds another, is looked at as well ([`queue`]).

mod graph;

mod questions;

mod queue;

use crate::commit::gid::Gid;
use crate::commit::mark::Mark;
use crate::contention::Met;
use crate::control::{Control, ControlError};
use crate::core::{self, Attempt, Entry, Shared};
use crate::log::Chain;
use crate::tick;
use crate::topology::Topology;
use graph::{Age, Node, Wait, can_free, deadlocks, detail};
use mothership_pool::connection::CancelGuard;
use mothership_pool::endpoint::{Address, Endpoint};
use mothership_shardmap::ShardId;
use questions::{CANCEL, MARKS, PREPARED, WAITING};
use queue::Queued;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// So often it is looked within `transactions.deadlock_timeout`, so that it is known since when somebody waits.
const LOOKS: u32 = 5;
/// The pause after a look that somebody has asked for, where something was found.
const SHORTEST: Duration = Duration::from_millis(4);
/// And the longest where nothing was.
const LONGEST: Duration = Duration::from_millis(64);
/// Such a pause is so many times as long as the look was: servers that are slow are asked less often.
const SHARE: u32 = 4;
/// A transaction that nobody was seen to wait for is forgotten after so long.
const KEPT: Duration = Duration::from_secs(60);

/// What a session holds: its number, its mark, and its processes with their servers.
#[derive(Clone)]
struct Held {
    session: u64,
    /// The attempt that it is at, if it can undo it.
    attempt: Option<Attempt>,
    mark: Option<Mark>,
    processes: Vec<(Arc<Endpoint>, i32)>,
    /// The limits of the pools that these are from.
    limits: Vec<usize>,
    queued: Option<core::Queued>,
}

/// A process that waits, as its server tells it.
#[derive(Clone, Debug, PartialEq)]
struct Waiting {
    server: ShardId,
    shard: ShardId,
    pid: i32,
    blockers: Vec<i32>,
    identity: String,
    awaited: Awaited,
}

/// What a process waits for.
#[derive(Clone, Debug, PartialEq)]
enum Awaited {
    /// To be the next one for a row: its holder has it only as long as its statement waits for that row itself.
    Turn,
    /// The end of a transaction or a subtransaction, by its number: it has locked the row.
    Transaction(Box<str>),
    /// Another lock, or it cannot be seen.
    Other,
}

/// Who is behind processes and marks.
#[derive(Default)]
struct Known {
    sessions: HashMap<(ShardId, i32), u64>,
    own: HashMap<Mark, u64>,
    marked: HashMap<(ShardId, i32), Mark>,
    ages: BTreeMap<Node, Age>,
    attempts: BTreeMap<Node, Attempt>,
    prepared: HashMap<(ShardId, i32), Vec<Mark>>,
    queued: Vec<Queued>,
}

/// Looks as long as it is polled.
pub async fn watch(shared: &Shared) {
    let mut watch = Watch::default();
    let mut asked = false;
    let mut next = tokio::time::Instant::now();
    loop {
        let topology = shared.topology();
        let timeout = topology.config.transactions.deadlock_timeout;
        if !asked {
            asked = tokio::select! {
                () = shared.stuck.notified() => true,
                () = tokio::time::sleep_until(next) => false,
            };
        }
        let is_one = topology.postgres < 2;
        if !asked {
            let pause = if is_one { timeout } else { timeout / LOOKS };
            next = tick::next(pause);
        }
        if is_one {
            asked = false;
            continue;
        }
        let began = Instant::now();
        let found = watch.look(shared, &topology).await;
        // Others may wait for what is free now; where there was nothing, those who ask may wait for a while.
        let pause = match found {
            true => SHORTEST,
            false => (began.elapsed() * SHARE).clamp(SHORTEST, LONGEST),
        };
        if asked {
            tokio::time::sleep(pause).await;
        }
        asked = found;
    }
}

/// Since when each wait is known: its server, its process and what makes it this one.
type Since = HashMap<(ShardId, i32, String), Instant>;
/// When somebody was first and last seen to wait for a transaction: its server and its number.
type Transactions = HashMap<(ShardId, Box<str>), (Instant, Instant)>;

/// What was seen before.
#[derive(Default)]
struct Watch {
    control: Control,
    since: Since,
    transactions: Transactions,
    queued: Vec<Queued>,
    queued_at: Option<Instant>,
    /// By session: the last attempt that was asked to give way, and since when.
    asked: RefCell<HashMap<u64, (u64, Instant)>>,
}

impl Watch {
    /// Looks once. True if a cycle was found in which there was something to do.
    async fn look(&mut self, shared: &Shared, topology: &Topology) -> bool {
        let control = &self.control;
        let timeout = topology.config.transactions.deadlock_timeout;
        let (mut known, waiting) = look(control, shared, topology).await;
        let now = Instant::now();
        let before = std::mem::take(&mut self.since);
        let seen = waiting.iter().map(|wait| {
            let wait = (wait.server, wait.pid, wait.identity.clone());
            let since = before.get(&wait).copied().unwrap_or(now);
            (wait, since)
        });
        self.since = seen.collect();
        self.note_transactions(&waiting, now);
        let found = match waiting.is_empty() {
            true => false,
            false => {
                self.end_cycles(shared, topology, &waiting, &mut known)
                    .await
            }
        };
        // Looks are at fixed times: one that is a little early is meant all the same.
        let due = self
            .queued_at
            .is_none_or(|at| now + timeout / LOOKS / 2 >= at + timeout);
        if due && !found {
            self.end_queues(shared, &waiting, &mut known).await;
            self.queued_at = Some(now);
        }
        found
    }

    /// Notes which transactions are waited for. Between two attempts of a statement nobody may wait for a moment.
    fn note_transactions(&mut self, waiting: &[Waiting], now: Instant) {
        for wait in waiting {
            if let Awaited::Transaction(number) = &wait.awaited {
                let seen = self.transactions.entry((wait.server, number.clone()));
                seen.or_insert((now, now)).1 = now;
            }
        }
        self.transactions.retain(|_, (_, last)| now - *last < KEPT);
    }

    /// An attempt was asked to give way. It does so at its next wait.
    fn note_asked(&self, session: u64, attempt: u64) {
        let mut asked = self.asked.borrow_mut();
        let known = asked.entry(session).or_insert((attempt, Instant::now()));
        if known.0 != attempt {
            *known = (attempt, Instant::now());
        }
    }

    /// Who has not given way for so long, waits where it cannot: the cycle has to end in another way.
    fn forget_deaf(&self, known: &mut Known, limit: Duration) {
        let mut asked = self.asked.borrow_mut();
        asked.retain(|_, (_, since)| since.elapsed() < KEPT);
        known.attempts.retain(|node, attempt| match node {
            Node::Session(session) => asked
                .get(session)
                .is_none_or(|(number, since)| *number != attempt.number || since.elapsed() < limit),
            _ => true,
        });
    }

    async fn end_cycles(
        &self,
        shared: &Shared,
        topology: &Topology,
        waiting: &[Waiting],
        known: &mut Known,
    ) -> bool {
        let control = &self.control;
        self.forget_deaf(known, topology.config.transactions.deadlock_timeout);
        // Of sessions of this router that can undo what they do nothing more need be known.
        let strange = !known.knows_all(waiting);
        if strange {
            recognise(control, topology, waiting, known).await;
        }
        let mut waits = known.waits(waiting, &self.since, &self.transactions);
        let mut victims = deadlocks(&waits, &known.ages, &known.attempts);
        if !strange && !victims.ended.is_empty() {
            recognise(control, topology, waiting, known).await;
            waits = known.waits(waiting, &self.since, &self.transactions);
            victims = deadlocks(&waits, &known.ages, &known.attempts);
        }
        let undone = victims.undone.iter().map(|(cycle, a)| (&**cycle, Some(*a)));
        let crowd = victims
            .crowd
            .iter()
            .map(|(wait, a)| (std::slice::from_ref(wait), Some(*a)));
        let ended = victims.ended.iter().map(|cycle| (&**cycle, None));
        let cycles: Vec<(&[&Wait], Option<Attempt>)> = undone.chain(crowd).chain(ended).collect();
        if cycles.is_empty() {
            return false;
        }
        let all = cycles.iter().flat_map(|(cycle, _)| cycle.iter());
        let servers: BTreeSet<ShardId> = all.map(|wait| wait.server).collect();
        let still = all_waiting(control, topology, servers.into_iter().collect()).await;
        let lasts = |wait: &Wait| {
            let same = |w: &&Waiting| (w.server, w.pid) == (wait.server, wait.pid);
            let now = still.iter().find(same);
            now.is_some_and(|now| {
                now.identity == wait.identity
                    && (now.blockers.contains(&wait.blocker_pid) || wait.blocker_pid == 0)
            })
        };
        // It is known of a wait some time after it began, and looking takes its time.
        let timeout = topology.config.transactions.deadlock_timeout;
        let enough = timeout.saturating_sub(timeout * 2 / LOOKS);
        let long = |wait: &Wait| wait.since.elapsed() >= enough;
        let mut found = false;
        for (cycle, attempt) in cycles {
            if !cycle.iter().all(|wait| lasts(wait)) {
                continue;
            }
            let victim = cycle[0];
            match (attempt, victim.waiter) {
                (Some(attempt), Node::Session(number)) => {
                    let can_free = |wait: &&Wait| can_free(wait, &known.attempts);
                    let met = match cycle.iter().all(can_free) {
                        true => Met::Alike,
                        false => Met::Others(victim.shard),
                    };
                    let asked = ask_to_yield(shared, number, attempt.number, met).await;
                    tracing::debug!(session = number, asked, ?cycle, "gives way to others");
                    found |= asked;
                    if asked {
                        self.note_asked(number, attempt.number);
                    }
                }
                _ if !cycle.iter().any(|wait| long(wait)) => {}
                (_, Node::Session(_)) => {
                    report(control, shared, topology, cycle).await;
                    found = true;
                }
                _ => tracing::debug!(victim = ?victim.waiter, "another router's deadlock"),
            }
        }
        found
    }

    /// Ends waits for connections that never end by themselves: they were seen twice.
    async fn end_queues(&mut self, shared: &Shared, waiting: &[Waiting], known: &mut Known) {
        let before = std::mem::replace(&mut self.queued, std::mem::take(&mut known.queued));
        let both = self.queued.iter().filter(|one| before.contains(one));
        let queued: Vec<Queued> = both.cloned().collect();
        if queued.is_empty() {
            return;
        }
        let waits = known.waits(waiting, &self.since, &self.transactions);
        for victim in queue::victims(&waits, &queued) {
            let ended = end_wait(shared, victim).await;
            tracing::info!(?victim, ended, "deadlock over shards and pools");
        }
    }
}

/// Asks a session to undo what it does and to do it again, if it is still at this attempt, in which it has met these;
/// whether it is.
async fn ask_to_yield(shared: &Shared, number: u64, attempt: u64, met: Met) -> bool {
    let asked = shared.ask(move |core| {
        let sessions = core.sessions.borrow();
        let mut sessions = sessions.iter();
        let entry = sessions.find(|entry| entry.who.number == number)?;
        let asked = entry.yielding.ask(attempt, met);
        if asked {
            entry.wake();
        }
        Some(asked)
    });
    asked.await.into_iter().flatten().any(|asked| asked)
}

/// Ends the wait of a session for a connection, if it still waits.
async fn end_wait(shared: &Shared, victim: Node) -> bool {
    let Node::Session(number) = victim else {
        return false;
    };
    let told = shared.ask(move |core| {
        let sessions = core.sessions.borrow();
        let mut sessions = sessions.iter();
        let entry = sessions.find(|entry| entry.who.number == number)?;
        let waits = entry.is_waiting() && entry.queued().is_some();
        if waits {
            let detail =
                "The transaction waits for a connection, and those who have one wait for it.";
            entry.seen.deadlock.replace(Some(detail.into()));
            entry.cancel_wait();
        }
        Some(waits)
    });
    told.await.into_iter().flatten().any(|waits| waits)
}

/// Ends the victim of a cycle, and says so.
async fn report(control: &Control, shared: &Shared, topology: &Topology, cycle: &[&Wait]) {
    let names: Vec<String> = topology.shards.iter().map(|s| s.name.clone()).collect();
    let detail = detail(cycle, &names);
    match end(control, shared, topology, cycle[0], &detail).await {
        Ok(done) => tracing::info!(detail, done, "deadlock over shards"),
        Err(error) => tracing::warn!(error = %Chain(&error), "a deadlock could not be ended"),
    }
}

/// Who waits for whom at this moment, and what our own sessions hold.
async fn look(control: &Control, shared: &Shared, topology: &Topology) -> (Known, Vec<Waiting>) {
    if !shared.is_any_spread() {
        // No core is woken to be asked.
        return (Known::default(), Vec::new());
    }
    let held = shared.ask(|core| {
        let sessions = core.sessions.borrow();
        let works = |entry: &&Rc<Entry>| !entry.working.borrow().is_empty();
        let held = sessions.iter().filter(works).map(|entry| Held {
            session: entry.who.number,
            attempt: entry.yielding.attempt(),
            mark: entry.mark.get(),
            limits: entry.working.borrow().iter().map(|w| w.limit).collect(),
            queued: entry.queued(),
            processes: entry
                .working
                .borrow()
                .iter()
                .map(|w| (Arc::clone(&w.endpoint), w.target.key.pid))
                .collect(),
        });
        held.collect::<Vec<_>>()
    });
    let held = held.await.concat();
    let servers = servers(topology);
    let mut known = Known::default();
    let mut concerned = BTreeSet::new();
    for held in &held {
        let server = |endpoint: &Endpoint| servers.get(&endpoint.address).copied();
        let processes = held.processes.iter();
        let processes: Vec<(ShardId, i32)> = processes
            .filter_map(|(endpoint, pid)| Some((server(endpoint)?, *pid)))
            .collect();
        if processes.len() > 1 || held.queued.is_some() {
            concerned.extend(processes.iter().map(|process| process.0));
        }
        if let Some(attempt) = held.attempt {
            let node = Node::Session(held.session);
            known.attempts.insert(node, attempt);
        }
        let of_session = |process| (process, held.session);
        known.sessions.extend(processes.into_iter().map(of_session));
        known.own.extend(held.mark.map(|mark| (mark, held.session)));
    }
    known.queued = queued(&held);
    if concerned.is_empty() {
        return (known, Vec::new());
    }
    let (mine, others): (Vec<ShardId>, Vec<ShardId>) = servers
        .into_values()
        .partition(|server| concerned.contains(server));
    let mut waiting = all_waiting(control, topology, mine).await;
    if !waiting.is_empty() {
        // Between two of ours it may go through a server on which we have nothing.
        waiting.extend(all_waiting(control, topology, others).await);
    }
    (known, waiting)
}

/// Who waits for a connection, and who holds those of that pool.
fn queued(held: &[Held]) -> Vec<Queued> {
    let mut all = Vec::new();
    for one in held {
        let Some(queued) = &one.queued else { continue };
        let holders = held.iter().flat_map(|other| {
            let of_pool = other.limits.iter().filter(|limit| **limit == queued.limit);
            of_pool.map(|_| Node::Session(other.session))
        });
        let mut holders: Vec<Node> = holders.collect();
        holders.sort();
        all.push(Queued {
            waiter: Node::Session(one.session),
            holders,
            most: queued.most as usize,
            since: queued.since,
        });
    }
    all
}

/// The primaries, each by its first shard: several shards may be databases of one server.
fn servers(topology: &Topology) -> HashMap<Address, ShardId> {
    let mut servers = HashMap::new();
    for shard in topology.postgres_shards() {
        let address = &topology.likely_primary(shard).endpoint.address;
        servers.entry(address.clone()).or_insert(shard);
    }
    servers
}

async fn all_waiting(
    control: &Control,
    topology: &Topology,
    servers: Vec<ShardId>,
) -> Vec<Waiting> {
    let asked = servers.into_iter().map(async |server| {
        let rows = or_none(
            topology,
            server,
            asked(control, topology, server, WAITING, &[]).await,
        );
        let waiting = |row: &Row| {
            Some(Waiting {
                server,
                shard: shard_of(topology, server, row.try_get(3).ok()?),
                pid: row.try_get(0).ok()?,
                blockers: row.try_get(1).ok()?,
                identity: row.try_get(2).ok()?,
                awaited: Awaited::read(row.try_get(4).ok()?),
            })
        };
        rows.iter().filter_map(waiting).collect::<Vec<_>>()
    });
    futures_util::future::join_all(asked).await.concat()
}

/// The shard that has this database on this server.
fn shard_of(topology: &Topology, server: ShardId, database: Option<&str>) -> ShardId {
    let address = &topology.likely_primary(server).endpoint.address;
    let has = |shard: &ShardId| {
        let label = &topology.config_of(*shard).name;
        let mut databases = topology.config.databases.iter();
        topology.likely_primary(*shard).endpoint.address == *address
            && databases.any(|d| Some(d.name_on(label).as_str()) == database)
    };
    topology.postgres_shards().find(has).unwrap_or(server)
}

/// Asks which transactions of other routers are behind processes and what is prepared.
async fn recognise(control: &Control, topology: &Topology, waiting: &[Waiting], known: &mut Known) {
    let asked = servers(topology).into_values().map(async |server| {
        let (first, last) = crate::commit::mark::FIRST_KEYS;
        let marks = self::asked(control, topology, server, MARKS, &[&first, &last]).await;
        let on_prepared = |w: &Waiting| w.server == server && w.blockers.contains(&0);
        let prepared = match waiting.iter().any(on_prepared) {
            true => self::asked(control, topology, server, PREPARED, &[]).await,
            false => Ok(Vec::new()),
        };
        let marks = or_none(topology, server, marks);
        (server, marks, or_none(topology, server, prepared))
    });
    for (server, marks, prepared) in futures_util::future::join_all(asked).await {
        for row in &marks {
            if let Some((pid, mark, since)) = marked(row) {
                let node = known.process(server, pid, Some(mark));
                known.marked.insert((server, pid), mark);
                let age = Age::Since(since, mark);
                let known = known.ages.entry(node).or_insert(age);
                *known = known.with(age);
            }
        }
        for row in &prepared {
            let (Ok(pid), Ok(gid)) = (row.try_get::<_, i32>(0), row.try_get::<_, &str>(1)) else {
                continue;
            };
            if let Some(gid) = Gid::parse(gid) {
                let marks = known.prepared.entry((server, pid)).or_default();
                marks.push(Mark::of(gid.id));
            }
        }
    }
}

fn marked(row: &Row) -> Option<(i32, Mark, f64)> {
    let mark = Mark::read(row.try_get(1).ok()?, row.try_get(2).ok()?)?;
    Some((row.try_get(0).ok()?, mark, row.try_get(3).ok()?))
}

impl Awaited {
    fn read(text: Option<&str>) -> Awaited {
        match text.unwrap_or_default().split_once(' ') {
            Some(("transactionid", number)) => Awaited::Transaction(number.into()),
            None if text == Some("tuple") => Awaited::Turn,
            _ => Awaited::Other,
        }
    }
}

impl Known {
    /// Whose process it is.
    fn process(&self, server: ShardId, pid: i32, mark: Option<Mark>) -> Node {
        match (self.sessions.get(&(server, pid)), mark) {
            (Some(session), _) => Node::Session(*session),
            (None, Some(mark)) => self.transaction(mark),
            (None, None) => Node::Process(server, pid),
        }
    }

    /// Whose transaction it is.
    fn transaction(&self, mark: Mark) -> Node {
        match self.own.get(&mark) {
            Some(session) => Node::Session(*session),
            None => Node::Transaction(mark),
        }
    }

    /// Whether all who wait and who are waited for are sessions of this router.
    fn knows_all(&self, waiting: &[Waiting]) -> bool {
        waiting.iter().all(|w| {
            let mut pids = w.blockers.iter().chain([&w.pid]);
            pids.all(|pid| self.sessions.contains_key(&(w.server, *pid)))
        })
    }

    fn waits(&self, waiting: &[Waiting], since: &Since, transactions: &Transactions) -> Vec<Wait> {
        let now = Instant::now();
        let mut waits = Vec::new();
        for w in waiting {
            let known = (w.server, w.pid, w.identity.clone());
            let since = since.get(&known).copied().unwrap_or(now);
            let held_since = match &w.awaited {
                Awaited::Turn => now,
                Awaited::Transaction(number) => {
                    let first = transactions.get(&(w.server, number.clone()));
                    first.map_or(since, |(first, _)| *first)
                }
                Awaited::Other => since,
            };
            let node = |pid: i32| {
                let mark = self.marked.get(&(w.server, pid)).copied();
                self.process(w.server, pid, mark)
            };
            let waiter = node(w.pid);
            let wait = |blocker: Node, blocker_pid: i32| Wait {
                server: w.server,
                shard: w.shard,
                waiter,
                pid: w.pid,
                blocker,
                blocker_pid,
                identity: w.identity.clone(),
                since,
                held_since,
            };
            let processes = w.blockers.iter().filter(|pid| **pid != 0);
            waits.extend(processes.map(|pid| wait(node(*pid), *pid)));
            // Of several that hold the lock it is not known which of them stand in the way.
            let zeros = w.blockers.iter().filter(|pid| **pid == 0).count();
            let prepared = self.prepared.get(&(w.server, w.pid));
            let prepared = prepared.filter(|marks| marks.len() == zeros);
            let prepared = prepared.into_iter().flatten();
            waits.extend(prepared.map(|mark| wait(self.transaction(*mark), 0)));
        }
        waits.retain(|wait| wait.waiter != wait.blocker);
        waits
    }
}

/// The rows; none where the server does not answer.
fn or_none(topology: &Topology, server: ShardId, rows: Result<Vec<Row>, ControlError>) -> Vec<Row> {
    rows.unwrap_or_else(|error| {
        let shard = &topology.shards[server].name;
        tracing::warn!(shard, error = %Chain(&error), "cannot look for deadlocks");
        Vec::new()
    })
}

async fn asked(
    control: &Control,
    topology: &Topology,
    shard: ShardId,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, ControlError> {
    let database = topology.config.control.database.as_str();
    let limit = topology.config.control.timeout;
    let address = || topology.likely_primary(shard).endpoint.address.clone();
    let asked = async {
        let client = control.lend(topology, shard, database).await?;
        let rows = client.ask_prepared(sql, parameters).await;
        rows.map_err(|cause| ControlError::Query {
            address: address(),
            cause,
        })
    };
    let late = |_| ControlError::TimedOut {
        address: address(),
        limit,
    };
    tokio::time::timeout(limit, asked).await.map_err(late)?
}

/// Cancels the statement of a wait, if it still waits; whether it did.
async fn end(
    control: &Control,
    shared: &Shared,
    topology: &Topology,
    victim: &Wait,
    detail: &str,
) -> Result<bool, ControlError> {
    let Node::Session(number) = victim.waiter else {
        return Ok(false);
    };
    // The connection is not given to somebody else while it may be cancelled.
    let address = topology
        .likely_primary(victim.server)
        .endpoint
        .address
        .clone();
    let pid = victim.pid;
    let said = detail.to_owned();
    let told = shared.ask(move |core| {
        let sessions = core.sessions.borrow();
        let entry = sessions.iter().find(|entry| entry.who.number == number)?;
        let working = entry.working.borrow();
        let held = working
            .iter()
            .find(|w| w.endpoint.address == address && w.target.key.pid == pid)?;
        entry.seen.deadlock.replace(Some(said.as_str().into()));
        Some(held.target.begin())
    });
    let guard: Option<CancelGuard> = told.await.into_iter().flatten().next();
    if guard.is_none() {
        return Ok(false);
    }
    let parameters: [&(dyn ToSql + Sync); 2] = [&victim.pid, &victim.identity];
    let cancelled = asked(control, topology, victim.server, CANCEL, &parameters).await;
    let done = cancelled
        .as_ref()
        .is_ok_and(|rows| rows.iter().any(|row| row.try_get(0).unwrap_or(false)));
    if !done {
        let forget = shared.ask(move |core| {
            let sessions = core.sessions.borrow();
            let found = sessions.iter().find(|entry| entry.who.number == number);
            if let Some(entry) = found {
                entry.seen.deadlock.take();
            }
        });
        forget.await;
    }
    drop(guard);
    cancelled.map(|_| done)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Process 1 waits for process 2 since a moment.
    fn waiting(awaited: Awaited, identity: &str) -> Waiting {
        Waiting {
            server: ShardId(0),
            shard: ShardId(0),
            pid: 1,
            blockers: vec![2],
            identity: identity.to_owned(),
            awaited,
        }
    }

    #[test]
    fn a_transaction_is_older_than_who_waits_for_it_anew() {
        let mut watch = Watch::default();
        let known = Known::default();
        let began = Instant::now();
        let later = began + Duration::from_secs(1);
        let mut held_since = |awaited: &Awaited, identity: &str, now: Instant| {
            let wait = waiting(awaited.clone(), identity);
            let seen = (wait.server, wait.pid, wait.identity.clone());
            watch.since = Since::from([(seen, now)]);
            watch.note_transactions(std::slice::from_ref(&wait), now);
            known.waits(&[wait], &watch.since, &watch.transactions)[0].held_since
        };
        let transaction = |number: &str| Awaited::Transaction(number.into());
        assert_eq!(held_since(&transaction("776"), "a", began), began);
        assert_eq!(held_since(&transaction("776"), "b", later), began);
        assert_eq!(held_since(&transaction("777"), "c", later), later);
        // What else is waited for may have been given back in between.
        assert_eq!(held_since(&Awaited::Other, "a", began), began);
        assert_eq!(held_since(&Awaited::Other, "b", later), later);
        assert!(held_since(&Awaited::Turn, "a", began) > began);
    }

    #[test]
    fn what_is_waited_for_is_read() {
        let read = |text| Awaited::read(Some(text));
        assert_eq!(
            read("transactionid 776"),
            Awaited::Transaction("776".into())
        );
        assert_eq!(read("tuple"), Awaited::Turn);
        assert_eq!(read("relation"), Awaited::Other);
        assert_eq!(Awaited::read(None), Awaited::Other);
    }
}
