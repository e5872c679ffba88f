//! SHOW POOLS, DATABASES, USERS, LISTS and MEM: sums over connections.

use super::Facts;
use crate::config::{Database, PoolMode};
use crate::console::table::{Row, Value, row};
use crate::console::view::{ClientState, PoolView, ServerState};
use mothership_pool::endpoint::Address;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Host and port of a server; of a unix socket its folder, and the port in its name.
pub(super) fn host_and_port(address: &Address) -> (String, u16) {
    match address {
        Address::Tcp(host, port) => (host.clone(), *port),
        Address::Unix(path) => {
            let port = path
                .extension()
                .and_then(|port| port.to_str()?.parse().ok());
            let folder = path.parent().unwrap_or(path);
            (folder.display().to_string(), port.unwrap_or(5432))
        }
    }
}

/// What SHOW POOLS adds up for one database and server role.
#[derive(Default)]
struct Sums {
    clients: u32,
    waiting: u32,
    active: u32,
    being_cancelled: u32,
    idle: u32,
    opening: u32,
    oldest_wait: Duration,
}

pub(super) fn pools(facts: &Facts) -> Vec<Row> {
    let mut all: BTreeMap<(&str, &str), Sums> = BTreeMap::new();
    let topology = &facts.topology;
    for pool in &facts.view.pools {
        let key = (topology.client_database(&pool.key), &*pool.key.user);
        let sums = all.entry(key).or_default();
        sums.opening += pool.figures.opening;
        sums.oldest_wait = sums.oldest_wait.max(pool.figures.oldest_wait);
    }
    for server in &facts.view.servers {
        let key = (topology.client_database(&server.key), &*server.key.user);
        let sums = all.entry(key).or_default();
        match server.state {
            ServerState::Active => sums.active += 1,
            ServerState::Idle => sums.idle += 1,
            ServerState::BeingCancelled => sums.being_cancelled += 1,
        }
    }
    for client in &facts.view.clients {
        let key = (&*client.who.names.database, &*client.who.names.server_user);
        let sums = all.entry(key).or_default();
        match client.state {
            ClientState::Waiting => sums.waiting += 1,
            ClientState::Active | ClientState::Idle => sums.clients += 1,
        }
    }
    let row = |((database, user), sums): ((&str, &str), Sums)| {
        row![
            database,
            user,
            sums.clients,
            sums.waiting,
            0_u32,
            0_u32,
            sums.active,
            0_u32,
            sums.being_cancelled,
            sums.idle,
            0_u32,
            0_u32,
            sums.opening,
            sums.oldest_wait.as_secs(),
            sums.oldest_wait.subsec_micros(),
            pool_mode(facts, database, user),
            // PgBouncer has one only where a database has several hosts.
            Value::Null,
        ]
    };
    all.into_iter().map(row).collect()
}

fn is_console(facts: &Facts, database: &str) -> bool {
    let consoles = &facts.topology.config.console.databases;
    consoles.iter().any(|name| name.as_str() == database)
}

fn pool_mode(facts: &Facts, database: &str, server_user: &str) -> String {
    if is_console(facts, database) {
        return PoolMode::Statement.to_string();
    }
    let config = &facts.topology.config;
    let of_server = |user: &&crate::config::User| {
        let name = user.server_user.as_ref().unwrap_or(&user.name.value);
        name.as_str() == server_user
    };
    let user = config.users.iter().find(of_server);
    let user = user.map_or(server_user, |user| user.name.value.as_str());
    let mode = match config.database(database) {
        Some(database) => config.pool_of(user, &database).mode,
        None => config.pool.mode,
    };
    mode.to_string()
}

pub(super) fn pools_extended(facts: &Facts) -> Vec<Row> {
    let mut rows: Vec<Row> = facts
        .view
        .pools
        .iter()
        .map(|pool| {
            let (shard, server) = pool.place(&facts.topology);
            let f = &pool.figures;
            let oldest = u64::try_from(f.oldest_wait.as_micros()).unwrap_or(u64::MAX);
            row![
                shard,
                server,
                &*pool.key.database,
                &*pool.key.user,
                pool.core,
                f.active,
                f.idle,
                f.opening,
                f.waiting,
                oldest,
                f.stale,
                f.opened,
                f.failed,
                pool.max,
                pool.open,
                f.paused,
                pool.key.label.as_ref().map(ToString::to_string),
                pool.max_now,
                f.refused,
            ]
        })
        .collect();
    rows.sort_by_key(|row| format!("{:?}", (&row[..5], &row[16])));
    rows
}

/// The names of databases that are declared, used or the console's.
fn database_names(facts: &Facts) -> BTreeSet<String> {
    let config = &facts.topology.config;
    let declared = config.databases.iter().map(|d| d.name.to_string());
    let consoles = config.console.databases.iter().map(ToString::to_string);
    let clients = facts
        .view
        .clients
        .iter()
        .map(|c| c.who.names.database.to_string());
    let pools = facts.view.pools.iter();
    let pools = pools.map(|p| facts.topology.client_database(&p.key).to_owned());
    declared
        .chain(consoles)
        .chain(clients)
        .chain(pools)
        .collect()
}

/// Server connections of a pool on one core, those being opened among them.
fn connections(pool: &PoolView) -> u32 {
    pool.figures.active + pool.figures.idle + pool.figures.opening
}

pub(super) fn databases(facts: &Facts) -> Vec<Row> {
    let names = database_names(facts);
    names.iter().map(|name| database(facts, name)).collect()
}

fn database(facts: &Facts, name: &str) -> Row {
    let topology = &facts.topology;
    let config = &topology.config;
    let clients = facts.view.clients.iter();
    let clients = clients.filter(|c| *c.who.names.database == *name).count();
    let seconds = config
        .pool
        .lifetime
        .map_or(0, |lifetime| lifetime.as_secs());
    if is_console(facts, name) {
        return row![
            name,
            Value::Null,
            config.listen.port,
            name,
            super::super::POOL_USER,
            2_u32,
            0_u32,
            0_u32,
            seconds,
            PoolMode::Statement.to_string(),
            Value::Null,
            0_u32,
            0_u32,
            0_u32,
            clients,
            0_u32,
            0_u32,
        ];
    }
    let declared: Option<Database> = config.database(name);
    let (host, port) = host_and_port(&topology.likely_primary(topology.home).endpoint.address);
    let pools = facts.view.pools.iter();
    let of_database = pools.filter(|p| topology.client_database(&p.key) == name);
    let shape = declared.as_ref().map(|d| config.pool_of("", d));
    let limit = |limit: Option<std::num::NonZeroU32>| limit.map_or(0, std::num::NonZeroU32::get);
    let declared = declared.as_ref();
    row![
        name,
        host,
        port,
        topology.database_on(name, topology.home),
        Value::Null,
        shape.map_or(config.pool.max.get(), |shape| shape.max.get()),
        shape.map_or(config.pool.min, |shape| shape.min),
        0_u32,
        seconds,
        declared
            .and_then(|d| d.pool_mode)
            .map(|mode| mode.to_string()),
        Value::Null,
        limit(declared.and_then(|d| d.max_per_server)),
        of_database.map(connections).sum::<u32>(),
        limit(declared.and_then(|d| d.max_clients)),
        clients,
        facts.gates.is_paused(name),
        facts.gates.disabled.contains(name),
    ]
}

fn user_names(facts: &Facts) -> BTreeSet<String> {
    let declared = facts.topology.config.users.iter();
    let clients = facts
        .view
        .clients
        .iter()
        .map(|c| c.who.names.user.to_string());
    let pools = facts.view.pools.iter().map(|p| p.key.user.clone());
    declared
        .map(|user| user.name.value.to_string())
        .chain(clients)
        .chain(pools)
        .collect()
}

pub(super) fn users(facts: &Facts) -> Vec<Row> {
    let row = |name: &String| {
        let declared = facts.topology.config.user(name);
        let pools = facts.view.pools.iter().filter(|p| p.key.user == *name);
        let clients = facts
            .view
            .clients
            .iter()
            .filter(|c| *c.who.names.user == **name);
        let pool_size = declared.and_then(|user| user.pool_max);
        row![
            &**name,
            // PgBouncer pads the number, and has an empty text for none.
            pool_size.map_or(String::new(), |max| format!("{max:9}")),
            "",
            declared
                .and_then(|user| user.pool_mode)
                .map(|mode| mode.to_string()),
            0_u32,
            pools.map(connections).sum::<u32>(),
            declared
                .and_then(|user| user.max_clients)
                .map_or(0, |max| max.get()),
            clients.count(),
        ]
    };
    user_names(facts).iter().map(row).collect()
}

pub(super) fn lists(facts: &Facts) -> Vec<Row> {
    let servers: u32 = facts.view.pools.iter().map(connections).sum();
    vec![
        row!["databases", database_names(facts).len()],
        row!["users", user_names(facts).len()],
        row!["peers", 0_u32],
        row!["pools", pools(facts).len()],
        row!["peer_pools", 0_u32],
        row!["free_clients", 0_u32],
        row!["used_clients", facts.view.clients.len()],
        row!["login_clients", facts.logins],
        row!["free_servers", 0_u32],
        row!["used_servers", servers],
        row!["dns_names", 0_u32],
        row!["dns_zones", 0_u32],
        row!["dns_queries", 0_u32],
        row!["dns_pending", 0_u32],
    ]
}

pub(super) fn memory(facts: &Facts) -> Vec<Row> {
    use crate::core::Entry;
    use crate::core::notes::Notes;
    use crate::session::Session;
    use mothership_pool::connection::ServerConnection;
    let prepared: u32 = facts.view.servers.iter().map(|s| s.prepared).sum();
    let line = |name: &str, size: usize, used: usize| row![name, size, used, 0_u32, size * used];
    let client = size_of::<Session>() + size_of::<Entry>();
    vec![
        line("client_cache", client, facts.view.clients.len()),
        line(
            "server_cache",
            size_of::<ServerConnection<Notes>>(),
            facts.view.servers.len(),
        ),
        line(
            "server_prepared_statement_cache",
            2 * size_of::<u64>(),
            prepared as usize,
        ),
    ]
}
