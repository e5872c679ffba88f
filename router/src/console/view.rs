//! What one core shows of its clients, pools and server connections.
//!
//! Copies that may travel to the core whose console asked. Taken in one go, so that
//! what one core shows is of one moment; the moments of two cores differ a little.

use crate::core::{Core, SessionIdentity};
use crate::topology::{PoolKey, Topology};
use mothership_pool::pool::PoolFigures;
use mothership_pool::wire::Address;
use mothership_sql::effect::Pins;
use std::sync::Arc;
use std::time::Instant;

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientState {
    /// A server works for it, or it is in a transaction, or pinned.
    Active,
    /// It waits for a server connection.
    Waiting,
    /// It could ask.
    Idle,
}

impl ClientState {
    /// The word in SHOW CLIENTS and in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Waiting => "waiting",
            Self::Idle => "idle",
        }
    }
}

/// One client.
#[derive(Clone, Debug)]
pub struct ClientView {
    /// Who it is.
    pub who: SessionIdentity,
    /// What it does.
    pub state: ClientState,
    /// The application name as it is now.
    pub application_name: String,
    /// When its last request was taken.
    pub requested: Option<Instant>,
    /// Prepared statements by its own names.
    pub prepared: u32,
    /// Why it keeps its server, and since when.
    pub pins: Option<(Pins, Instant)>,
}

/// The clients of a core.
pub fn clients(core: &Core) -> Vec<ClientView> {
    let sessions = core.sessions.borrow();
    let view = |entry: &crate::core::Entry| ClientView {
        who: entry.who.clone(),
        state: if entry.is_waiting() {
            ClientState::Waiting
        } else if entry.working.borrow().is_empty() {
            ClientState::Idle
        } else {
            ClientState::Active
        },
        application_name: entry.seen.application_name.borrow().to_string(),
        requested: entry.seen.requested.get(),
        prepared: entry.seen.prepared.get(),
        pins: entry.seen.pins(),
    };
    sessions.iter().map(|entry| view(entry)).collect()
}

/// One pool on one core.
#[derive(Clone, Debug)]
pub struct PoolView {
    /// Which server, user and database.
    pub key: PoolKey,
    /// The core.
    pub core: usize,
    /// Its connections and waiting requests.
    pub figures: PoolFigures,
    /// The most connections, on all cores together.
    pub max: u32,
    /// The same at the moment: less while the server has no room for more.
    pub max_now: u32,
    /// Connections open on all cores together.
    pub open: u32,
}

impl PoolView {
    /// The names of its shard and server.
    pub fn place(&self, topology: &Topology) -> (String, String) {
        match topology.server(self.key.endpoint) {
            Some((shard, server)) => (
                topology.shards[shard].name.clone(),
                server.endpoint.address.to_string(),
            ),
            // A reload took the server away while its connections are still in use.
            None => ("gone".to_owned(), "gone".to_owned()),
        }
    }
}

/// The pools of a core.
pub fn pools(core: &Core) -> Vec<PoolView> {
    let view = |(key, pool): (PoolKey, std::rc::Rc<mothership_pool::pool::Pool<_>>)| PoolView {
        key,
        core: core.index,
        figures: pool.figures(),
        max: pool.limit().max(),
        max_now: match pool.limit().narrowed() {
            Some(_) => pool.limit().most(),
            None => pool.limit().max(),
        },
        open: pool.limit().open(),
    };
    core.pools().into_iter().map(view).collect()
}

/// What a server connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// Lent.
    Active,
    /// In the pool.
    Idle,
    /// A cancel for it is under way.
    BeingCancelled,
}

impl ServerState {
    /// The word in SHOW SERVERS.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Idle => "idle",
            Self::BeingCancelled => "being_canceled",
        }
    }
}

/// One server connection.
#[derive(Clone, Debug)]
pub struct ServerView {
    /// Its pool.
    pub key: PoolKey,
    /// Its number.
    pub number: u64,
    /// What it does.
    pub state: ServerState,
    /// The client that has borrowed it.
    pub borrower: Option<u64>,
    /// The server's end.
    pub remote: Option<Address>,
    /// Our end.
    pub local: Option<Address>,
    /// When it was opened.
    pub opened: Instant,
    /// When it was lent last.
    pub lent: Instant,
    /// It is closed as soon as it is given back.
    pub close_needed: bool,
    /// The backend's process id.
    pub pid: i32,
    /// TLS version and cipher.
    pub tls: Option<String>,
    /// Statements prepared on it.
    pub prepared: u32,
}

/// The server connections of a core.
pub fn servers(core: &Core) -> Vec<ServerView> {
    let mut views = Vec::new();
    for (key, pool) in core.pools() {
        views.extend(pool.standings().iter().map(|standing| ServerView {
            key: key.clone(),
            number: standing.number,
            state: if standing.is_being_cancelled() {
                ServerState::BeingCancelled
            } else if standing.is_lent() {
                ServerState::Active
            } else {
                ServerState::Idle
            },
            borrower: standing.borrower(),
            remote: standing.remote.clone(),
            local: standing.local.clone(),
            opened: standing.opened,
            lent: standing.lent_at(),
            close_needed: pool.is_stale(standing.opened),
            pid: standing.pid(),
            tls: standing.tls.clone(),
            prepared: standing.prepared(),
        }));
    }
    views
}

/// Everything that the larger SHOW commands need, of all cores.
#[derive(Clone, Debug, Default)]
pub struct ConsoleView {
    /// The clients.
    pub clients: Vec<ClientView>,
    /// The pools.
    pub pools: Vec<PoolView>,
    /// The server connections.
    pub servers: Vec<ServerView>,
    /// What was counted.
    pub counted: crate::metrics::Snapshot,
}

/// Asks every core for everything but the histograms.
pub async fn console_view(shared: &Arc<crate::core::Shared>) -> ConsoleView {
    let mut answers = shared
        .ask(|core| {
            let counted = core.metrics.counters();
            (clients(core), pools(core), servers(core), counted)
        })
        .await;
    let mut view = ConsoleView::default();
    for (clients, pools, servers, counted) in answers.drain(..) {
        view.clients.extend(clients);
        view.pools.extend(pools);
        view.servers.extend(servers);
        view.counted.add(counted);
    }
    view.clients.sort_by_key(|client| client.who.number);
    view.servers.sort_by_key(|server| server.number);
    view
}

/// The shapes that every core remembers.
pub async fn plans(shared: &Arc<crate::core::Shared>) -> Vec<crate::statements::shapes::PlanView> {
    let answers = shared.ask(|core| core.shapes.views()).await;
    answers.into_iter().flatten().collect()
}
