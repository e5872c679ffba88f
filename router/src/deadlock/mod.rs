//! Finds transactions that wait for each other over several shards, where no server
//! can see it, and ends one of them.
//!
//! Servers are asked only while some session holds connections to several shards.
//! What is seen in two looks, `transactions.deadlock_timeout` apart, with the same
//! statements waiting for the same locks, does not end by itself. Then it is asked
//! which backends belong to transactions of other routers ([`mark`]), and [`graph`]
//! chooses the victims, which every router does alike. Who waits for a connection of a
//! pool, while he holds another, is looked at as well ([`queue`]). A router ends its own: the
//! victim's statement is cancelled by a question that finds it still waiting like
//! that, and its session makes 40P01 of the server's error.

mod graph;

pub mod mark;

mod questions;

mod queue;

use crate::commit::gid::Gid;
use crate::control::{Control, ControlError};
use crate::core::{self, Shared, Topology};
use crate::log::Chain;
use graph::{Age, Cycle, Node, Wait, deadlocks, detail};
use mark::Mark;
use mothership_pool::connection::CancelGuard;
use mothership_pool::endpoint::{Address, Endpoint};
use questions::{CANCEL, MARKS, PREPARED, WAITING};
use queue::Queued;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// What a session holds: its number, its mark, and its processes with their servers.
#[derive(Clone)]
struct Held {
    session: u64,
    mark: Option<Mark>,
    processes: Vec<(Arc<Endpoint>, i32)>,
    /// The limits of the pools that these are from.
    limits: Vec<usize>,
    queued: Option<core::Queued>,
}

/// A process that waits, as its server tells it.
#[derive(Clone, Debug, PartialEq)]
struct Waiting {
    server: usize,
    shard: usize,
    pid: i32,
    blockers: Vec<i32>,
    identity: String,
}

/// Who is behind processes and marks.
#[derive(Default)]
struct Known {
    sessions: HashMap<(usize, i32), u64>,
    own: HashMap<Mark, u64>,
    marked: HashMap<(usize, i32), Mark>,
    ages: BTreeMap<Node, Age>,
    prepared: HashMap<(usize, i32), Vec<Mark>>,
    queued: Vec<Queued>,
}

/// Looks as long as it is polled.
pub async fn watch(shared: &Shared) {
    let control = Control::default();
    let mut before: Vec<Waiting> = Vec::new();
    let mut queued_before: Vec<Queued> = Vec::new();
    loop {
        let topology = shared.topology();
        tokio::time::sleep(topology.config.transactions.deadlock_timeout).await;
        if topology.postgres < 2 {
            continue;
        }
        let (mut known, now) = look(&control, shared, &topology).await;
        let lasting: Vec<Waiting> = now.iter().filter(|w| before.contains(w)).cloned().collect();
        before = now;
        let queued = known
            .queued
            .iter()
            .filter(|one| queued_before.contains(one));
        let queued: Vec<Queued> = queued.cloned().collect();
        queued_before = std::mem::take(&mut known.queued);
        if lasting.is_empty() && queued.is_empty() {
            continue;
        }
        recognise(&control, &topology, &lasting, &mut known).await;
        let waits = known.waits(&lasting);
        let mut found = false;
        for cycle in deadlocks(&waits, &known.ages) {
            found = true;
            let victim = cycle[0];
            let own = matches!(victim.waiter, Node::Session(_));
            if own {
                report(&control, shared, &topology, &cycle).await;
            } else {
                tracing::debug!(victim = ?victim.waiter, "another router's deadlock");
            }
            before.retain(|w| !own || (w.server, w.pid) != (victim.server, victim.pid));
        }
        // What the victims held is free soon: it is looked at again then.
        if !found {
            for victim in queue::victims(&waits, &queued) {
                let ended = end_wait(shared, victim).await;
                tracing::info!(?victim, ended, "deadlock over shards and pools");
            }
        }
    }
}

/// Ends the wait of a session for a connection, if it still waits.
async fn end_wait(shared: &Shared, victim: Node) -> bool {
    let Node::Session(number) = victim else {
        return false;
    };
    let told = shared.ask(move |core| {
        let sessions = core.sessions.borrow();
        let mut sessions = sessions.iter().map(|(_, entry)| entry);
        let entry = sessions.find(|entry| entry.who.number == number)?;
        let waits = entry.is_waiting() && entry.queued.borrow().is_some();
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
async fn report(control: &Control, shared: &Shared, topology: &Topology, cycle: &Cycle<'_>) {
    let names: Vec<String> = topology.shards.iter().map(|s| s.name.clone()).collect();
    let detail = detail(cycle, &names);
    match end(control, shared, topology, cycle[0], &detail).await {
        Ok(done) => tracing::info!(detail, done, "deadlock over shards"),
        Err(error) => tracing::warn!(error = %Chain(&error), "a deadlock could not be ended"),
    }
}

/// Who waits for whom at this moment, and what our own sessions hold.
async fn look(control: &Control, shared: &Shared, topology: &Topology) -> (Known, Vec<Waiting>) {
    let held = shared.ask(|core| {
        let sessions = core.sessions.borrow();
        let held = sessions.iter().map(|(_, entry)| Held {
            session: entry.who.number,
            mark: entry.mark.get(),
            limits: entry.working.borrow().iter().map(|w| w.limit).collect(),
            queued: entry.queued.borrow().as_deref().cloned(),
            processes: entry
                .working
                .borrow()
                .iter()
                .map(|w| (Arc::clone(&w.endpoint), w.target.key.pid))
                .collect(),
        });
        held.filter(|held| !held.processes.is_empty())
            .collect::<Vec<_>>()
    });
    let held = held.await.concat();
    let servers = servers(topology);
    let mut known = Known::default();
    let mut concerned = BTreeSet::new();
    for held in &held {
        let server = |endpoint: &Endpoint| servers.get(&endpoint.address).copied();
        let processes = held.processes.iter();
        let processes: Vec<(usize, i32)> = processes
            .filter_map(|(endpoint, pid)| Some((server(endpoint)?, *pid)))
            .collect();
        if processes.len() > 1 || held.queued.is_some() {
            concerned.extend(processes.iter().map(|process| process.0));
        }
        let of_session = |process| (process, held.session);
        known.sessions.extend(processes.into_iter().map(of_session));
        known.own.extend(held.mark.map(|mark| (mark, held.session)));
    }
    known.queued = queued(&held);
    if concerned.is_empty() {
        return (known, Vec::new());
    }
    let (mine, others): (Vec<usize>, Vec<usize>) = servers
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
fn servers(topology: &Topology) -> HashMap<Address, usize> {
    let mut servers = HashMap::new();
    for shard in 0..topology.postgres {
        let address = &topology.likely_primary(shard).endpoint.address;
        servers.entry(address.clone()).or_insert(shard);
    }
    servers
}

async fn all_waiting(control: &Control, topology: &Topology, servers: Vec<usize>) -> Vec<Waiting> {
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
            })
        };
        rows.iter().filter_map(waiting).collect::<Vec<_>>()
    });
    futures_util::future::join_all(asked).await.concat()
}

/// The shard that has this database on this server.
fn shard_of(topology: &Topology, server: usize, database: Option<&str>) -> usize {
    let address = &topology.likely_primary(server).endpoint.address;
    let has = |shard: &usize| {
        let label = &topology.config.shards[*shard].name;
        let mut databases = topology.config.databases.iter();
        topology.likely_primary(*shard).endpoint.address == *address
            && databases.any(|d| Some(d.name_on(label).as_str()) == database)
    };
    (0..topology.postgres).find(has).unwrap_or(server)
}

/// Asks which transactions of other routers are behind processes and what is prepared.
async fn recognise(control: &Control, topology: &Topology, waiting: &[Waiting], known: &mut Known) {
    let asked = servers(topology).into_values().map(async |server| {
        let (first, last) = mark::FIRST_KEYS;
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

impl Known {
    /// Whose process it is.
    fn process(&self, server: usize, pid: i32, mark: Option<Mark>) -> Node {
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

    fn waits(&self, waiting: &[Waiting]) -> Vec<Wait> {
        let mut waits = Vec::new();
        for w in waiting {
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
fn or_none(topology: &Topology, server: usize, rows: Result<Vec<Row>, ControlError>) -> Vec<Row> {
    rows.unwrap_or_else(|error| {
        let shard = &topology.shards[server].name;
        tracing::warn!(shard, error = %Chain(&error), "cannot look for deadlocks");
        Vec::new()
    })
}

async fn asked(
    control: &Control,
    topology: &Topology,
    shard: usize,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, ControlError> {
    let database = topology.config.control.database.as_str();
    let limit = topology.config.control.timeout;
    let address = || topology.likely_primary(shard).endpoint.address.clone();
    let asked = async {
        let client = control.lend(topology, shard, database).await?;
        let rows = client.query(sql, parameters).await;
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
        let entry = sessions
            .iter()
            .find(|(_, entry)| entry.who.number == number)?
            .1;
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
            let found = sessions
                .iter()
                .find(|(_, entry)| entry.who.number == number);
            if let Some((_, entry)) = found {
                entry.seen.deadlock.take();
            }
        });
        forget.await;
    }
    drop(guard);
    cancelled.map(|_| done)
}
