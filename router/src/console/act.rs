//! What the commands do that change something: each core is asked to do its part.
//!
//! The state that must outlive the command (which databases are paused or disabled)
//! is set first, so that pools made meanwhile obey it too.

use super::command::{Act, AdminAction, Argument};
use super::servers;
use crate::config::Change;
use crate::core::{Core, Life, Order, Shared};
use crate::failover::switchover::switchover;
use crate::topology::{PoolKey, Topology};
use mothership_pool::pool::PoolFigures;
use mothership_proto::report::{Report, sqlstate};
use mothership_shardmap::ShardId;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How often a command that waits looks again.
pub(super) const AGAIN: Duration = Duration::from_millis(20);

/// `config_file_error`
const CONFIG_FILE: &str = "F0000";
/// `warning`
const WARNING: &str = "01000";

/// Does it for the user `by`, and may have something to add. Dropped before its end, PAUSE is to be undone with [`undo`].
pub async fn act(
    shared: &Arc<Shared>,
    act: &Act,
    argument: &Argument,
    by: Arc<str>,
) -> Result<Option<Report>, Report> {
    let database = match argument {
        Argument::Database(name) => Some(existing(shared, act, name)?),
        _ => None,
    };
    let server = match argument {
        Argument::Server(address) | Argument::Weight(address, _) => Some(&**address),
        _ => None,
    };
    tracing::info!(command = act.word, database, server, user = %by, "console command");
    let done = match act.action {
        AdminAction::Pause => pause(shared, database).await,
        AdminAction::Resume => resume(shared, database).await,
        AdminAction::Disable | AdminAction::Enable => {
            if let Some(name) = database {
                let disabled = &mut shared.gates.write().disabled;
                match act.action {
                    AdminAction::Disable => disabled.insert(name.to_owned()),
                    _ => disabled.remove(name),
                };
            }
            Ok(())
        }
        AdminAction::Reconnect => {
            let database = owned(database);
            let reconnect = move |core: &Rc<Core>| {
                // What sessions begin with is asked of a new connection, too.
                core.welcomes.forget();
                pools(core, database.as_deref(), |pool| pool.reconnect());
            };
            shared.ask(reconnect).await;
            Ok(())
        }
        AdminAction::Kill => kill(shared, database).await,
        AdminAction::KillClient => match argument {
            Argument::Client(id) => kill_client(shared, *id).await,
            _ => Ok(()),
        },
        AdminAction::Suspend => suspend(shared).await,
        AdminAction::Reload => return reload(shared).await,
        AdminAction::Shutdown => {
            let life = match argument {
                Argument::WaitForServers => Life::Draining,
                Argument::WaitForClients => Life::Closing,
                _ => Life::Ending,
            };
            order(shared, Order::Shutdown(life))
        }
        AdminAction::WaitClose => {
            wait(shared, database, |figures| figures.stale).await;
            Ok(())
        }
        AdminAction::Switchover => match argument {
            Argument::Shard(shard, to) => {
                let done = switchover(shared, shard, to.as_deref()).await;
                done.map(drop)
                    .map_err(|error| wrong_state(error.to_string()))
            }
            _ => Ok(()),
        },
        AdminAction::Promoted => match argument {
            Argument::Shard(shard, _) => promoted(shared, shard).await,
            _ => Ok(()),
        },
        AdminAction::DisableServer
        | AdminAction::EnableServer
        | AdminAction::DrainServer
        | AdminAction::WeightServer
        | AdminAction::ResetServer
        | AdminAction::ResetServers => servers::act(shared, act.action, argument, by).await,
    };
    done.map(|()| None)
}

/// Undoes what a command that did not come to its end has done.
pub async fn undo(shared: &Arc<Shared>, act: &Act, argument: &Argument) {
    if act.action != AdminAction::Pause {
        return;
    }
    let database = match argument {
        Argument::Database(name) => Some(&**name),
        _ => None,
    };
    // Somebody else has resumed it already, or it never was paused: as wanted.
    let _ = resume(shared, database).await;
}

/// The database, if it exists and is not the console's.
fn existing<'a>(shared: &Shared, act: &Act, name: &'a str) -> Result<&'a str, Report> {
    let config = &shared.topology().config;
    if config
        .console
        .databases
        .iter()
        .any(|own| own.as_str() == name)
    {
        let verb = act.word.to_ascii_lowercase();
        let message = format!("cannot {verb} admin database: {name}");
        return Err(Report::error(sqlstate::FEATURE_NOT_SUPPORTED, message));
    }
    if config.database(name).is_none() {
        let message = format!("no such database: {name}");
        return Err(Report::error(sqlstate::INVALID_CATALOG_NAME, message));
    }
    Ok(name)
}

pub(super) fn wrong_state(message: impl Into<std::borrow::Cow<'static, str>>) -> Report {
    Report::error(sqlstate::NOT_IN_PREREQUISITE_STATE, message)
}

fn owned(database: Option<&str>) -> Option<String> {
    database.map(str::to_owned)
}

type Pool = Rc<mothership_pool::pool::Pool<crate::core::notes::Notes>>;

/// Does something to the pools of a database, or to all.
fn pools(core: &Core, database: Option<&str>, mut each: impl FnMut(&Pool)) {
    let topology = core.shared.topology();
    let serves = |key: &PoolKey| database.is_none_or(|name| topology.pool_serves(key, name));
    for (key, pool) in core.pools() {
        if serves(&key) {
            each(&pool);
        }
    }
}

async fn pause(shared: &Arc<Shared>, database: Option<&str>) -> Result<(), Report> {
    {
        let mut gates = shared.gates.write();
        if gates.paused_all || gates.suspended {
            return Err(wrong_state("already suspended/paused"));
        }
        match database {
            Some(name) => drop(gates.paused.insert(name.to_owned())),
            None => gates.paused_all = true,
        }
    }
    close_pools(shared, database).await;
    wait(shared, database, |f| f.active + f.idle + f.opening).await;
    Ok(())
}

/// Lends nothing more, and closes every connection as it is given back.
async fn close_pools(shared: &Arc<Shared>, database: Option<&str>) {
    let database = owned(database);
    let close = move |core: &Rc<Core>| {
        pools(core, database.as_deref(), |pool| {
            pool.pause();
            pool.reconnect();
        });
    };
    shared.ask(close).await;
}

/// Waits until a figure is zero on all cores.
async fn wait(shared: &Arc<Shared>, database: Option<&str>, figure: fn(&PoolFigures) -> u32) {
    loop {
        let database = owned(database);
        let count = move |core: &Rc<Core>| {
            let mut count = 0;
            pools(core, database.as_deref(), |pool| {
                count += figure(&pool.figures())
            });
            count
        };
        if shared.ask(count).await.into_iter().all(|count| count == 0) {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn resume(shared: &Arc<Shared>, database: Option<&str>) -> Result<(), Report> {
    {
        let mut gates = shared.gates.write();
        match database {
            Some(name) => {
                if !gates.paused.remove(name) {
                    return Err(wrong_state(format!("database {name} is not paused")));
                }
            }
            None => {
                if !gates.paused_all && !gates.suspended {
                    return Err(wrong_state("pooler is not paused/suspended"));
                }
                gates.paused_all = false;
                gates.suspended = false;
            }
        }
    }
    let open = move |core: &Rc<Core>| {
        let topology = core.shared.topology();
        let gates = core.shared.gates.read();
        core.set_suspended(gates.suspended);
        for (key, pool) in core.pools() {
            if !gates.pauses(&topology, &key) {
                pool.resume();
            }
        }
    };
    shared.ask(open).await;
    Ok(())
}

async fn suspend(shared: &Arc<Shared>) -> Result<(), Report> {
    {
        let mut gates = shared.gates.write();
        if gates.paused_all || gates.suspended {
            return Err(wrong_state("already suspended/paused"));
        }
        if !gates.paused.is_empty() {
            return Err(wrong_state("cannot suspend with paused databases"));
        }
        gates.suspended = true;
    }
    shared.ask(|core| core.set_suspended(true)).await;
    Ok(())
}

/// Disconnects a session; its servers are closed if they are in the middle of something.
async fn kill(shared: &Arc<Shared>, database: Option<&str>) -> Result<(), Report> {
    {
        let mut gates = shared.gates.write();
        if gates.paused_all || gates.suspended {
            return Err(wrong_state("already suspended/paused"));
        }
        match database {
            Some(name) => drop(gates.paused.insert(name.to_owned())),
            None => gates.paused_all = true,
        }
    }
    close_pools(shared, database).await;
    let database = owned(database);
    let end_all = move |core: &Rc<Core>| {
        for entry in core.sessions.borrow().iter() {
            let is_meant = database
                .as_ref()
                .is_none_or(|name| **name == *entry.who.names.database);
            if is_meant && !entry.who.is_console {
                entry.terminate();
            }
        }
    };
    shared.ask(end_all).await;
    Ok(())
}

async fn kill_client(shared: &Arc<Shared>, id: u64) -> Result<(), Report> {
    let end_one = move |core: &Rc<Core>| {
        let sessions = core.sessions.borrow();
        let found = sessions.iter().find(|entry| entry.who.number == id);
        found.map(|entry| entry.terminate()).is_some()
    };
    match shared.ask(end_one).await.contains(&true) {
        true => Ok(()),
        false => Err(Report::error(
            sqlstate::UNDEFINED_OBJECT,
            "client not found",
        )),
    }
}

/// Asks all servers of a shard, and waits for a primary no longer than its requests would.
async fn promoted(shared: &Arc<Shared>, shard: &str) -> Result<(), Report> {
    let window = shared.topology().config.failover.window;
    let found = async {
        // After a reload others ask the servers.
        while !seen_promoted(shared, shard).await? {}
        Ok(())
    };
    if let Ok(found) = tokio::time::timeout(window, found).await {
        return found;
    }
    let topology = shared.topology();
    let at = place(&topology, shard)?;
    match topology.health.primary(at.index()) {
        Ok(_) => Ok(()),
        Err(why) => Err(wrong_state(format!("shard \"{shard}\" has no primary"))
            .detail(topology.in_words(at, why))),
    }
}

/// False if the configuration was replaced before there was a primary.
async fn seen_promoted(shared: &Arc<Shared>, shard: &str) -> Result<bool, Report> {
    let topology = shared.topology();
    let at = place(&topology, shard)?;
    let health = &topology.health;
    let ask = |server| health.confirm(at.index(), server);
    futures_util::future::join_all((0..topology.shards[at].servers.len()).map(ask)).await;
    Ok(health.has_primary_or_is_over(at.index()).await)
}

fn place(topology: &Topology, shard: &str) -> Result<ShardId, Report> {
    let found = topology.shards.named(shard);
    found.ok_or_else(|| wrong_state(format!("no shard is called \"{shard}\"")))
}

async fn reload(shared: &Arc<Shared>) -> Result<Option<Report>, Report> {
    let (answer, answered) = oneshot::channel();
    order(shared, Order::Reload(answer))?;
    match answered.await {
        Ok(Ok(waiting)) => Ok(wait_for_restart(&waiting)),
        Ok(Err(problems)) => {
            let report = Report::error(CONFIG_FILE, "RELOAD failed, the old configuration stays");
            Err(report.detail(problems))
        }
        Err(_) => Err(ending()),
    }
}

/// Says which settings are as they were.
fn wait_for_restart(waiting: &[Change]) -> Option<Report> {
    let each: Vec<&str> = waiting.iter().map(|change| &*change.path).collect();
    let message = "some settings stay as they were until a restart";
    let report = Report::warning(WARNING, message).detail(each.join(", "));
    (!each.is_empty()).then(|| report.hint("SHOW CONFIG has the values that are in force."))
}

fn order(shared: &Shared, order: Order) -> Result<(), Report> {
    shared.orders.send(order).map_err(|_| ending())
}

fn ending() -> Report {
    Report::error(sqlstate::ADMIN_SHUTDOWN, "the router is shutting down")
}
