//! Finds transactions that wait for each other over several shards, where no server
//! can see it, and ends one of them.
//!
//! Servers are asked only while some session holds connections to several shards.
//! What is seen in two looks, `transactions.deadlock_timeout` apart, with the same
//! statements waiting for the same locks, does not end by itself. The victim's
//! statement is cancelled by a question that finds it still waiting like that, and
//! its session makes 40P01 of the server's error.

mod graph;

use crate::control::{Control, ControlError};
use crate::core::{Shared, Topology};
use crate::log::Chain;
use graph::{Node, Wait, deadlock, detail, lasting, victim};
use mothership_pool::connection::CancelGuard;
use mothership_pool::endpoint::EndpointId;
use std::collections::{BTreeSet, HashMap};

/// Processes that wait for locks: number, for whom, what makes the wait this one, the beginning of the transaction.
const WAITING: &str = "SELECT a.pid, pg_catalog.pg_blocking_pids(a.pid) AS blockers, \
    pg_catalog.concat_ws('|', a.backend_start, a.xact_start, a.query_start, \
        (SELECT pg_catalog.string_agg(l::pg_catalog.text, ';') FROM pg_catalog.pg_locks l \
         WHERE l.pid OPERATOR(pg_catalog.=) a.pid AND NOT l.granted)) AS identity, \
    COALESCE(pg_catalog.date_part('epoch', a.xact_start), 0::pg_catalog.float8) AS since \
    FROM pg_catalog.pg_stat_activity a WHERE a.wait_event_type OPERATOR(pg_catalog.=) 'Lock'";

/// What a session holds: its number, and its processes by server.
#[derive(Clone)]
struct Held {
    session: u64,
    processes: Vec<(EndpointId, i32)>,
}

/// Looks as long as it is polled.
pub async fn watch(shared: &Shared) {
    let control = Control::default();
    let mut before: Vec<Wait> = Vec::new();
    loop {
        let topology = shared.topology();
        tokio::time::sleep(topology.config.transactions.deadlock_timeout).await;
        if topology.shards.len() < 2 {
            continue;
        }
        let now = look(&control, shared, &topology).await;
        let waits = lasting(&before, now.clone());
        before = now;
        let Some(cycle) = deadlock(&waits) else {
            continue;
        };
        let Some(victim) = victim(&cycle) else {
            continue;
        };
        let names: Vec<String> = topology.shards.iter().map(|s| s.name.clone()).collect();
        let detail = detail(&cycle, &names);
        match end(&control, shared, &topology, victim, &detail).await {
            Ok(done) => tracing::info!(detail, done, "deadlock over shards"),
            Err(error) => tracing::warn!(error = %Chain(&error), "a deadlock could not be ended"),
        }
        before.clear();
    }
}

/// Who waits for whom at this moment.
async fn look(control: &Control, shared: &Shared, topology: &Topology) -> Vec<Wait> {
    let held = shared.ask(|core| {
        let sessions = core.sessions.borrow();
        let held = sessions.iter().map(|(_, entry)| Held {
            session: entry.who.number,
            processes: entry
                .working
                .borrow()
                .iter()
                .map(|(endpoint, target)| (endpoint.id, target.key.pid))
                .collect(),
        });
        held.filter(|held| !held.processes.is_empty())
            .collect::<Vec<_>>()
    });
    let held = held.await.concat();
    let several = || held.iter().filter(|held| held.processes.len() > 1);
    let concerned: BTreeSet<EndpointId> = several()
        .flat_map(|held| held.processes.iter().map(|process| process.0))
        .collect();
    if concerned.is_empty() {
        return Vec::new();
    }
    let sessions: HashMap<(EndpointId, i32), u64> = held
        .iter()
        .flat_map(|held| {
            held.processes
                .iter()
                .map(|process| (*process, held.session))
        })
        .collect();
    let shards = (0..topology.shards.len())
        .filter(|shard| concerned.contains(&topology.primary(*shard).endpoint.id));
    let asked = shards.map(|shard| waiting(control, topology, shard, &sessions));
    futures_util::future::join_all(asked).await.concat()
}

/// The waits on one shard; none where it does not answer.
async fn waiting(
    control: &Control,
    topology: &Topology,
    shard: usize,
    sessions: &HashMap<(EndpointId, i32), u64>,
) -> Vec<Wait> {
    let endpoint = topology.primary(shard).endpoint.id;
    let node = |pid: i32| match sessions.get(&(endpoint, pid)) {
        Some(session) => Node::Session(*session),
        None => Node::Process(shard, pid),
    };
    let rows = match asked(control, topology, shard, WAITING, &[]).await {
        Ok(rows) => rows,
        Err(error) => {
            tracing::warn!(shard = topology.shards[shard].name, error = %Chain(&error), "cannot look for deadlocks");
            return Vec::new();
        }
    };
    let mut waits = Vec::new();
    for row in rows {
        let (Ok(pid), Ok(blockers), Ok(identity), Ok(since)) = (
            row.try_get::<_, i32>(0),
            row.try_get::<_, Vec<i32>>(1),
            row.try_get::<_, String>(2),
            row.try_get::<_, f64>(3),
        ) else {
            continue;
        };
        let each = blockers.into_iter().map(|blocker_pid| Wait {
            shard,
            waiter: node(pid),
            pid,
            blocker: node(blocker_pid),
            blocker_pid,
            identity: identity.clone(),
            since,
        });
        waits.extend(each);
    }
    waits
}

async fn asked(
    control: &Control,
    topology: &Topology,
    shard: usize,
    sql: &str,
    parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Result<Vec<tokio_postgres::Row>, ControlError> {
    let database = topology.config.control.database.as_str();
    let limit = topology.config.control.timeout;
    let address = || topology.primary(shard).endpoint.address.clone();
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
    let process = (topology.primary(victim.shard).endpoint.id, victim.pid);
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
            .find(|(endpoint, target)| (endpoint.id, target.key.pid) == process)?;
        entry.deadlock.replace(Some(said.clone()));
        Some(held.1.begin())
    });
    let guard: Option<CancelGuard> = told.await.into_iter().flatten().next();
    if guard.is_none() {
        return Ok(false);
    }
    let sql = format!(
        "SELECT pg_catalog.pg_cancel_backend(w.pid) FROM ({WAITING}) w \
         WHERE w.pid OPERATOR(pg_catalog.=) $1 AND w.identity OPERATOR(pg_catalog.=) $2"
    );
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] =
        [&victim.pid, &victim.identity];
    let cancelled = asked(control, topology, victim.shard, &sql, &parameters).await;
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
                entry.deadlock.replace(None);
            }
        });
        forget.await;
    }
    drop(guard);
    cancelled.map(|_| done)
}
