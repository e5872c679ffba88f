//! SHOW CLIENTS, SERVERS, SOCKETS and PINS: one row for each connection.

use super::Facts;
use crate::console::table::{Row, Value, row};
use crate::console::view::{ClientState, ClientView, ServerState, ServerView};
use mothership_pool::wire::Address;
use mothership_sql::effect::Pins;
use std::collections::HashMap;
use std::time::Instant;

/// The columns of buffers that SHOW SOCKETS adds. The router does not know them: they are always 0.
const POSITIONS: usize = 7;

/// Something unique that looks like an address: clients and servers apart.
fn client_pointer(number: u64) -> String {
    format!("{:#x}", 1 << 44 | number)
}

fn server_pointer(number: u64) -> String {
    format!("{:#x}", 2 << 44 | number)
}

/// Host and port; a unix socket's port is that in its name.
fn address(address: Option<&Address>, unix_port: u16) -> (String, u16) {
    match address {
        Some(Address::Tcp(address)) => (address.ip().to_string(), address.port()),
        Some(Address::Unix(_)) => ("unix".to_owned(), unix_port),
        None => (String::new(), 0),
    }
}

pub(super) fn clients(facts: &Facts) -> Vec<Row> {
    let links = links(facts);
    let clients = facts.view.clients.iter();
    clients
        .map(|c| client(facts, c, c.state.word(), &links))
        .collect()
}

pub(super) fn servers(facts: &Facts) -> Vec<Row> {
    let clients = clients_by_number(facts);
    let servers = facts.view.servers.iter();
    servers
        .map(|s| server(facts, s, s.state.word(), &clients))
        .collect()
}

pub(super) fn sockets(facts: &Facts, only_active: bool) -> Vec<Row> {
    let (links, by_number) = (links(facts), clients_by_number(facts));
    let mut rows = Vec::new();
    for c in &facts.view.clients {
        let state = match c.state {
            ClientState::Waiting => "cl_waiting",
            ClientState::Active | ClientState::Idle => "cl_active",
        };
        if !only_active || c.state != ClientState::Idle {
            rows.push(client(facts, c, state, &links));
        }
    }
    for s in &facts.view.servers {
        let state = match s.state {
            ServerState::Idle => "sv_idle",
            ServerState::Active | ServerState::BeingCancelled => "sv_active",
        };
        if !only_active || s.state != ServerState::Idle {
            rows.push(server(facts, s, state, &by_number));
        }
    }
    for row in &mut rows {
        row.extend(vec![Value::from(0_u32); POSITIONS]);
    }
    rows
}

/// The server connections of each client, the one that was opened first before the others.
fn links(facts: &Facts) -> HashMap<u64, Vec<&ServerView>> {
    let mut links: HashMap<u64, Vec<&ServerView>> = HashMap::new();
    for server in &facts.view.servers {
        if let Some(borrower) = server.borrower {
            links.entry(borrower).or_default().push(server);
        }
    }
    links
}

fn clients_by_number(facts: &Facts) -> HashMap<u64, &ClientView> {
    let clients = facts.view.clients.iter();
    clients.map(|c| (c.who.number, c)).collect()
}

fn client(
    facts: &Facts,
    client: &ClientView,
    state: &str,
    links: &HashMap<u64, Vec<&ServerView>>,
) -> Row {
    let who = &client.who;
    let port = facts.topology.config.listen.port;
    let (addr, addr_port) = address(who.remote.as_ref(), port);
    let (local, local_port) = address(who.local.as_deref(), port);
    let requested = client.requested.unwrap_or(who.since);
    let wait = match client.state {
        ClientState::Waiting => facts.now.instant.saturating_duration_since(requested),
        ClientState::Active | ClientState::Idle => Default::default(),
    };
    let link = links.get(&who.number).and_then(|servers| servers.first());
    let link = link.map(|server| server_pointer(server.number));
    row![
        "C",
        &*who.names.user,
        &*who.names.database,
        "none",
        state,
        addr,
        addr_port,
        local,
        local_port,
        facts.now.text(who.since),
        facts.now.text(requested),
        wait.as_secs(),
        wait.subsec_micros(),
        0_u32,
        client_pointer(who.number),
        link.unwrap_or_default(),
        0_u32,
        who.tls.as_deref().unwrap_or_default(),
        &*client.application_name,
        client.prepared,
        who.number,
    ]
}

fn server(
    facts: &Facts,
    server: &ServerView,
    state: &str,
    clients: &HashMap<u64, &ClientView>,
) -> Row {
    let unix_port = match facts.topology.server(server.key.endpoint) {
        Some((_, known)) => super::pools::host_and_port(&known.endpoint.address).1,
        None => 0,
    };
    let (addr, port) = address(server.remote.as_ref(), unix_port);
    let (local, local_port) = address(server.local.as_ref(), unix_port);
    let borrower = server.borrower.and_then(|number| clients.get(&number));
    row![
        "S",
        &*server.key.user,
        facts.topology.client_database(&server.key),
        "none",
        state,
        addr,
        port,
        local,
        local_port,
        facts.now.text(server.opened),
        facts.now.text(server.lent),
        0_u32,
        0_u32,
        server.close_needed,
        server_pointer(server.number),
        borrower.map_or(String::new(), |c| client_pointer(c.who.number)),
        u32::try_from(server.pid).unwrap_or(0),
        server.tls.clone().unwrap_or_default(),
        borrower.map_or("", |c| &c.application_name),
        server.prepared,
        server.number,
    ]
}

/// A row for each server that a pinned client has, and one without a server for a client that has none at the moment.
pub(super) fn pins(facts: &Facts) -> Vec<Row> {
    let links = links(facts);
    let pinned = facts.view.clients.iter().filter_map(|c| Some((c, c.pins?)));
    pinned
        .flat_map(|(client, pins)| {
            let servers = links.get(&client.who.number).into_iter().flatten();
            let mut servers: Vec<Option<&ServerView>> = servers.copied().map(Some).collect();
            if servers.is_empty() {
                servers.push(None);
            }
            let rows = servers.into_iter();
            rows.map(move |server| pin(facts, client, pins, server))
        })
        .collect()
}

fn pin(
    facts: &Facts,
    client: &ClientView,
    (pins, since): (Pins, Instant),
    link: Option<&ServerView>,
) -> Row {
    let who = &client.who;
    let held = facts.now.instant.saturating_duration_since(since);
    let reasons: Vec<&str> = pins.reasons().collect();
    let server = link.and_then(|s| facts.topology.server(s.key.endpoint));
    let shard = server.map(|(shard, _)| facts.topology.shards[shard].name.clone());
    let address = server.map(|(_, server)| server.endpoint.address.to_string());
    row![
        who.number,
        &*who.names.user,
        &*who.names.database,
        &*client.application_name,
        facts.now.text(since),
        held.as_secs(),
        reasons.join(", "),
        shard,
        address,
        link.map(|s| u32::try_from(s.pid).unwrap_or(0)),
    ]
}
