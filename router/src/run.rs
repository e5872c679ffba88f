//! Starts the process: a thread with a runtime for each core, listeners, signals,
//! and the end.
//!
//! Every core listens on the same port (`SO_REUSEPORT`), so the kernel spreads the
//! clients and a client stays on its core. The unix socket has one listener, which
//! deals its clients out.

use crate::commit::doubt::Site;
use crate::commit::errand::databases as databases_of;
use crate::commit::recover::{Recovery, Settings};
use crate::config::{Change, Config, Reloaded, SendBatch, Workers};
use crate::control::{Control, Primaries};
use crate::core::{
    Core, Entry, Life, Mail, Order, STAND_IN_ITERATIONS, ShardServers, Shared, Topology,
    TopologyError, Working, keepalive, watch_roles,
};
use crate::log::Chain;
use crate::metrics::http::Http;
use crate::session::login;
use crate::throttle::CancelTicket;
use futures_util::future::join_all;
use mothership_pool::open::cancel;
use mothership_pool::wire::{SendMode, Wire, install};
use mothership_proto::auth::{SecretKind, StandIn};
use socket2::{Domain, Protocol, Socket, Type};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// Why the process could not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration cannot be put in force.
    #[error("configuration")]
    Topology(#[from] TopologyError),
    /// An address cannot be listened on.
    #[error("listen on {what}")]
    Listen {
        /// Which.
        what: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A thread or runtime cannot be made.
    #[error("start {what}")]
    Start {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

/// How often pools look for what is idle too long.
const MAINTENANCE: Duration = Duration::from_secs(1);
/// How long the process waits for its cores after it has told them to end.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Serves until SIGTERM or SIGINT. `path` is read again at SIGHUP.
pub fn run(path: &Path, config: Config) -> Result<(), RunError> {
    let stand_in = StandIn::new(rand::random(), STAND_IN_ITERATIONS, SecretKind::Scram);
    let (topology, prober) = Topology::new(config, &stand_in, None)?;
    let listen = topology.config.listen.clone();
    let cores = match listen.workers {
        Workers::Count(count) => count.get() as usize,
        Workers::Auto => std::thread::available_parallelism().map_or(1, |n| n.get().div_ceil(2)),
    };
    let mode = match listen.send_batch {
        SendBatch::Auto => SendMode::Auto,
        SendBatch::Off => SendMode::Plain,
    };
    // All ports are taken before anything else starts, so that a taken one is said
    // at once and leaves nothing behind.
    // The one for metrics first: who reaches the clients' port finds it open.
    let metrics = &topology.config.metrics;
    let http = match metrics
        .port
        .map(|port| SocketAddr::new(metrics.address, port))
    {
        Some(address) => Some(Http::bind(address).map_err(|cause| RunError::Listen {
            what: address.to_string(),
            cause,
        })?),
        None => None,
    };
    let mut sockets = Vec::new();
    for _ in 0..cores {
        sockets.push(listeners(&listen.address, listen.port, listen.backlog)?);
    }
    let unix = match &listen.unix_socket {
        Some(folder) => Some(UnixSocket::bind(
            folder,
            listen.port,
            listen.unix_socket_mode.0,
        )?),
        None => None,
    };
    let (mail, mailboxes): (Vec<_>, Vec<_>) = (0..cores).map(|_| mpsc::unbounded_channel()).unzip();
    let (life, watched) = watch::channel(Life::Serving);
    let (order, mut orders) = mpsc::unbounded_channel();
    let shared = Shared::new((topology, prober), stand_in, mail, watched, order);
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|cause| RunError::Start {
        what: "the main runtime",
        cause,
    })?;
    // The first clients need not wait for the first probes; those of a dead server do not hold up the others.
    runtime.block_on(asked(&shared.topology()));
    let mut threads = Vec::new();
    for (index, (sockets, mailbox)) in sockets.into_iter().zip(mailboxes).enumerate() {
        let shared = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name(format!("core-{index}"));
        let spawned = thread.spawn(move || core_thread(index, shared, sockets, mailbox, mode));
        threads.push(spawned.map_err(|cause| RunError::Start {
            what: "a thread",
            cause,
        })?);
    }
    tracing::info!(cores, port = listen.port, "serving");
    let supervised = supervise(path, &shared, &life, &mut orders, unix.as_ref());
    runtime.block_on(async {
        let Some(http) = http else {
            return supervised.await;
        };
        tokio::select! {
            () = supervised => {}
            () = async { http.serve(Arc::clone(&shared)).await; std::future::pending().await } => {}
        }
    });
    // Cores see Ending, tell their clients and stop.
    let _ = life.send(Life::Ending);
    drop(unix);
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a core ended by a panic");
        }
    }
    Ok(())
}

/// Reacts to signals until the process shall end.
async fn supervise(
    path: &Path,
    shared: &Arc<Shared>,
    life: &watch::Sender<Life>,
    orders: &mut mpsc::UnboundedReceiver<Order>,
    unix: Option<&UnixSocket>,
) {
    let (Ok(mut hangup), Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::hangup()),
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        tracing::error!("signals cannot be caught");
        return;
    };
    let deal = async {
        match unix {
            Some(unix) => unix.deal(shared).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(deal);
    let recovery = recover(shared);
    tokio::pin!(recovery);
    let deadlocks = crate::deadlock::watch(shared);
    tokio::pin!(deadlocks);
    // Whatever comes next: a way to end.
    let mut how = loop {
        tokio::select! {
            _ = hangup.recv() => drop(reload(path, shared).await),
            _ = terminate.recv() => break Life::Draining,
            _ = interrupt.recv() => break Life::Draining,
            order = orders.recv() => match order {
                Some(Order::Reload(answer)) => drop(answer.send(reload(path, shared).await)),
                Some(Order::Shutdown(how)) => break how,
                // The sender lives in `shared`.
                None => break Life::Draining,
            },
            () = &mut deal => {}
            () = &mut recovery => {}
            () = &mut deadlocks => {}
        }
    };
    loop {
        let limit = match how {
            Life::Ending => return,
            Life::Closing | Life::Serving => Duration::MAX,
            Life::Draining => shared.topology().config.listen.drain_timeout,
        };
        tracing::info!(how = ?how, "no new clients");
        let _ = life.send(how);
        let drained = async {
            for core in &shared.mail {
                core.closed().await;
            }
        };
        // The unix socket stays open, so that administrators can look and order.
        tokio::select! {
            () = drained => {
                tracing::info!("all clients have left");
                return;
            }
            () = tokio::time::sleep(limit) => {
                tracing::warn!("drain timeout is over");
                return;
            }
            _ = terminate.recv() => how = more_urgent(how),
            _ = interrupt.recv() => how = more_urgent(how),
            order = orders.recv() => match order {
                Some(Order::Reload(answer)) => drop(answer.send(reload(path, shared).await)),
                Some(Order::Shutdown(next)) => how = next,
                None => return,
            },
            () = &mut deal => {}
            () = &mut recovery => {}
            () = &mut deadlocks => {}
        }
    }
}

/// What one more signal means.
fn more_urgent(how: Life) -> Life {
    match how {
        Life::Serving | Life::Closing => Life::Draining,
        Life::Draining | Life::Ending => Life::Ending,
    }
}

/// Finishes transactions over several shards that somebody left behind, as the configuration in force says.
async fn recover(shared: &Arc<Shared>) {
    let mut reloads = shared.reloads.subscribe();
    let mut is_needed = false;
    loop {
        reloads.borrow_and_update();
        let topology = shared.topology();
        let config = &topology.config;
        // Not only as long as new ones are made.
        is_needed |= topology.shards.len() > 1 && config.transactions.two_phase;
        let changed = async {
            while reloads.changed().await.is_ok() {
                let now = &shared.topology().config;
                if (&now.transactions, &now.control) != (&config.transactions, &config.control) {
                    return;
                }
            }
            std::future::pending().await
        };
        let recovery = async {
            match is_needed {
                true => recover_by(shared, &topology).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            () = recovery => {}
            () = changed => {}
        }
    }
}

/// The same by this configuration.
async fn recover_by(shared: &Arc<Shared>, topology: &Topology) {
    let transactions = &topology.config.transactions;
    let control = Control::default();
    let settings = Settings::new(transactions, &topology.config.control);
    let recovery = Recovery::new(
        Primaries::new(&control, shared),
        settings,
        Arc::clone(&shared.doubts),
    );
    let found = RefCell::new(Found::new());
    // Before the first sweep, or that one would look nowhere and what a crash has left would wait for the
    // second; but what is known already does not wait for a server that is slow to answer.
    let first = look(&control, shared, &found);
    let _late = tokio::time::timeout(FIRST_LOOK, first).await;
    let told = shared.swept.clone();
    let go_on = async {
        loop {
            tokio::time::sleep(transactions.recovery_interval).await;
            look(&control, shared, &found).await;
        }
    };
    tokio::select! {
        () = recovery.run(|| sites(shared, &found.borrow()), told) => {}
        () = go_on => {}
    }
}

/// How long the first sweep waits to be told where to look.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// The databases of each shard, by its name, that held something prepared under a router's
/// name when it was asked last.
type Found = HashMap<String, Vec<String>>;

/// Asks all shards at once. What each of them says is noted as soon as it has said it; of one
/// that does not answer in time the older answer stays.
async fn look(control: &Control, shared: &Shared, found: &RefCell<Found>) {
    let topology = shared.topology();
    let limit = topology.config.control.timeout;
    let own = topology.config.control.database.as_str();
    let ask = async |index: usize, shard: &str| {
        let answer = async {
            let client = control.lend(&topology, index, own).await;
            let client = client.map_err(|error| Chain(&error).to_string())?;
            let databases = databases_of(&client).await;
            databases.map_err(|error| Chain(&error).to_string())
        };
        let late = || Err(format!("no answer within {limit:?}"));
        match tokio::time::timeout(limit, answer)
            .await
            .unwrap_or_else(|_| late())
        {
            Ok(databases) => drop(found.borrow_mut().insert(shard.to_owned(), databases)),
            Err(error) => tracing::warn!(shard, error, "recovery cannot look"),
        }
    };
    let shards = topology.shards.iter().enumerate();
    join_all(shards.map(|(index, shard)| ask(index, &shard.name))).await;
}

/// Where something may be left: every database that clients have used or that holds
/// something prepared under a router's name, on every shard.
fn sites(shared: &Shared, found: &Found) -> Vec<Site> {
    let topology = shared.topology();
    let declared = topology
        .config
        .databases
        .iter()
        .map(|d| d.name.as_str().to_owned());
    let known: Vec<String> = declared.chain(shared.known_databases()).collect();
    let on_shard = |shard: &ShardServers| found.get(&shard.name).cloned().unwrap_or_default();
    let found: Vec<Vec<String>> = topology.shards.iter().map(on_shard).collect();
    let databases = databases_to_sweep(&known, &found, |name, shard| {
        topology.database_on(name, shard)
    });
    let sites = topology.shards.iter().zip(databases);
    let of = |(shard, databases): (&ShardServers, Vec<String>)| {
        let site = |database| Site {
            shard: shard.name.clone(),
            database,
        };
        databases.into_iter().map(site).collect::<Vec<_>>()
    };
    sites.flat_map(of).collect()
}

/// The databases to sweep on each shard: those that are `known` by the clients' names, and
/// those that were `found` on the shards. One that was found and is no known one's name there was
/// passed through by its name: the shard that decides has it by the same name, and may itself hold nothing
/// prepared, so it is swept on all shards.
fn databases_to_sweep(
    known: &[String],
    found: &[Vec<String>],
    on: impl Fn(&str, usize) -> String,
) -> Vec<Vec<String>> {
    let names = |shard: usize| known.iter().map(|name| on(name, shard)).collect::<Vec<_>>();
    let passed = found.iter().enumerate().flat_map(|(shard, found)| {
        let names = names(shard);
        found.iter().filter(move |name| !names.contains(name))
    });
    let passed: Vec<&String> = passed.collect();
    let all = (0..found.len()).map(|shard| {
        let mut all = names(shard);
        all.extend(passed.iter().map(|name| (*name).clone()));
        all.sort();
        all.dedup();
        all
    });
    all.collect()
}

/// Waits until every server has been asked once, but not for those that do not answer.
async fn asked(topology: &Topology) {
    let limit = topology.config.balance.probe_timeout;
    if tokio::time::timeout(limit, topology.health.ready())
        .await
        .is_err()
    {
        tracing::warn!("some servers have not answered yet");
    }
}

/// Reads the configuration again; a bad one is refused and the old one stays. What only a restart changes stays as it
/// was. Returns what waits for one, or what is wrong.
async fn reload(path: &Path, shared: &Arc<Shared>) -> Result<Vec<Change>, String> {
    let refused = |problems: String| {
        tracing::error!(
            error = problems,
            "configuration is refused, the old one stays"
        );
        problems
    };
    let old = shared.topology();
    let config = Config::load(path).map_err(|error| refused(error.to_string()))?;
    let Reloaded { config, waiting } = config.held(&old.config).map_err(refused)?;
    let changes = Config::diff(&old.config, &config);
    let topology = Topology::new(config, &shared.stand_in, Some(&old));
    let (topology, prober) = topology.map_err(|error| refused(Chain(&error).to_string()))?;
    for change in &changes {
        tracing::info!(setting = change.path, "configuration changed");
    }
    for change in &waiting {
        let (in_force, wanted) = (change.old.as_deref(), change.new.as_deref());
        tracing::warn!(
            setting = change.path,
            in_force = in_force.unwrap_or("not there"),
            wanted = wanted.unwrap_or("not there"),
            "this setting waits for a restart"
        );
    }
    if prober.is_some() {
        // What watches the servers now is good for the old configuration until then.
        asked(&topology).await;
    }
    shared.set_topology(topology, prober);
    Ok(waiting)
}

/// One core: its runtime, its listeners, its clients.
fn core_thread(
    index: usize,
    shared: Arc<Shared>,
    sockets: Vec<std::net::TcpListener>,
    mailbox: mpsc::UnboundedReceiver<Mail>,
    mode: SendMode,
) {
    let mut builder = Builder::new_current_thread();
    builder.enable_all();
    install(&mut builder, mode);
    let runtime = match builder.build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(error = %error, "a core cannot start");
            return;
        }
    };
    runtime.block_on(async move {
        let core = Core::new(index, shared);
        for socket in sockets {
            match TcpListener::from_std(socket) {
                Ok(listener) => drop(tokio::task::spawn_local(accept(Rc::clone(&core), listener))),
                Err(error) => tracing::error!(error = %error, "a listener cannot be used"),
            }
        }
        tokio::task::spawn_local(maintain(Rc::clone(&core)));
        tokio::task::spawn_local(look_at_clocks(Rc::clone(&core)));
        tokio::task::spawn_local(watch_roles(Rc::clone(&core)));
        live(core, mailbox).await;
    });
}

/// Takes mail until the process ends and the clients are gone.
async fn live(core: Rc<Core>, mut mailbox: mpsc::UnboundedReceiver<Mail>) {
    let mut life = core.shared.life.clone();
    loop {
        let now = *life.borrow_and_update();
        if now != core.life.get() {
            core.set_life(now);
        }
        if now != Life::Serving && core.only_consoles() {
            if core.sessions.borrow().is_empty() {
                return;
            }
            // Administrators do not hold up the end.
            core.set_life(Life::Ending);
            break;
        }
        tokio::select! {
            changed = life.changed() => {
                if changed.is_err() {
                    core.set_life(Life::Ending);
                    break;
                }
                if *life.borrow() == Life::Ending {
                    core.set_life(Life::Ending);
                    break;
                }
            }
            mail = mailbox.recv() => match mail {
                Some(mail) => take(&core, mail),
                None => break,
            },
            () = core.left.notified() => {}
        }
    }
    // Whoever would write to this core now is told that it takes nothing more.
    drop(mailbox);
    let gone = async {
        while !core.sessions.borrow().is_empty() {
            core.left.notified().await;
        }
    };
    if tokio::time::timeout(LAST_WORDS, gone).await.is_err() {
        tracing::warn!("some clients did not take their last message");
    }
}

/// A client's login is a task. It is boxed at once: a task moves its future several times, and this one has 4 KB.
fn let_in(core: &Rc<Core>, client: Wire) {
    tokio::task::spawn_local(Box::pin(login::serve(Rc::clone(core), client)));
}

fn take(core: &Rc<Core>, mail: Mail) {
    match mail {
        Mail::Reload => core.reload(),
        Mail::Client(stream) => {
            let accepted = stream
                .set_nonblocking(true)
                .and_then(|()| UnixStream::from_std(stream));
            match accepted {
                Ok(stream) => let_in(core, Wire::unix(stream)),
                Err(error) => tracing::warn!(error = %error, "a client was lost"),
            }
        }
        Mail::Ask(question) => question(core),
        Mail::Cancel {
            slot,
            secret,
            ticket,
        } => cancel_session(core, slot, &secret, ticket),
    }
}

/// Cancels what works for a session at this moment, if the secret is its own.
fn cancel_session(core: &Rc<Core>, slot: usize, secret: &[u8], ticket: CancelTicket) {
    let Some(entry) = core.sessions.borrow().get(slot).map(Rc::clone) else {
        return;
    };
    // A key that anybody may try must not be found out byte by byte.
    if !crate::core::same_secret(&entry.secret, secret) {
        return;
    }
    if entry.cancel_wait() {
        return;
    }
    deliver_cancels(core, &entry, Rc::new(ticket));
}

/// Cancels what works for a session on its servers. While a request waits for its turn
/// or is on its way, the connection that it is for is not given back.
pub(crate) fn deliver_cancels<T: 'static>(core: &Rc<Core>, entry: &Entry, ticket: Rc<T>) {
    let topology = core.shared.topology();
    let mut settings = topology.open_settings();
    settings.timeout = topology.config.pool.cancel_timeout;
    for Working {
        endpoint, target, ..
    } in entry.working.borrow().iter()
    {
        let guard = target.begin();
        let (endpoint, target, settings) = (endpoint.clone(), Arc::clone(target), settings.clone());
        let (shared, ticket) = (Arc::clone(&core.shared), Rc::clone(&ticket));
        tokio::task::spawn_local(async move {
            let _turn = shared.cancels.delivery.enter().await;
            if let Err(error) = cancel(&endpoint, &target.key, &settings).await {
                tracing::warn!(error = %Chain(&error), "cancel was not delivered");
            }
            drop((guard, ticket));
        });
    }
}

async fn look_at_clocks(core: Rc<Core>) {
    loop {
        let pause = core.look_at_clocks();
        tokio::time::sleep(pause).await;
    }
}

async fn maintain(core: Rc<Core>) {
    let mut ticks = tokio::time::interval(MAINTENANCE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        core.maintain();
        if core.index == 0 {
            crate::log::tell_left_out();
        }
    }
}

/// Takes clients until the process drains.
async fn accept(core: Rc<Core>, listener: TcpListener) {
    let mut life = core.shared.life.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = life.wait_for(|life| *life != Life::Serving) => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let listen = &core.shared.topology().config.listen;
                let ready = Wire::tcp(stream).and_then(|wire| {
                    wire.set_keepalive(keepalive(listen.keepalive))?;
                    if let Some(limit) = listen.unacknowledged_timeout {
                        wire.set_user_timeout(limit)?;
                    }
                    Ok(wire)
                });
                // A client that is gone already needs no answer.
                if let Ok(wire) = ready {
                    let_in(&core, wire);
                }
            }
            Err(error) => {
                // Out of descriptors, most likely: the listener stays readable, and
                // trying again at once would burn a core (pg_doorman 3.10.5).
                tracing::warn!(error = %error, "a client could not be accepted");
                tokio::time::sleep(core.shared.topology().config.limits.accept_pause).await;
            }
        }
    }
}

fn listeners(
    addresses: &[IpAddr],
    port: u16,
    backlog: u32,
) -> Result<Vec<std::net::TcpListener>, RunError> {
    let bind = |address: SocketAddr| -> io::Result<std::net::TcpListener> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        Ok(socket.into())
    };
    addresses
        .iter()
        .map(|&ip| {
            let address = SocketAddr::new(ip, port);
            taken_by_another(address)
                .and_then(|()| bind(address))
                .map_err(|cause| RunError::Listen {
                    what: address.to_string(),
                    cause,
                })
        })
        .collect()
}

/// `SO_REUSEPORT` lets another process of the same user listen on the same port
/// unseen; asking without it first says that the port is taken. Our own cores
/// listen on it with reuse, so only the first bind of a process may ask.
fn taken_by_another(address: SocketAddr) -> io::Result<()> {
    static ASKED: std::sync::Mutex<Vec<SocketAddr>> = std::sync::Mutex::new(Vec::new());
    let mut asked = ASKED.lock().expect("nobody panics while holding it");
    if asked.contains(&address) {
        return Ok(());
    }
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    asked.push(address);
    Ok(())
}

/// The unix socket and its file.
struct UnixSocket {
    listener: std::os::unix::net::UnixListener,
    path: PathBuf,
}

impl UnixSocket {
    fn bind(folder: &Path, port: u16, mode: u32) -> Result<Self, RunError> {
        let path = folder.join(format!(".s.PGSQL.{port}"));
        let bound = || -> io::Result<_> {
            // A file that nobody listens on was left by a process that was killed.
            if path.exists() && std::os::unix::net::UnixStream::connect(&path).is_err() {
                std::fs::remove_file(&path)?;
            }
            let listener = std::os::unix::net::UnixListener::bind(&path)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let listener = bound().map_err(|cause| RunError::Listen {
            what: path.display().to_string(),
            cause,
        })?;
        Ok(Self { listener, path })
    }

    /// Accepts clients and deals them out to the cores.
    async fn deal(&self, shared: &Arc<Shared>) {
        let listener = self
            .listener
            .try_clone()
            .and_then(tokio::net::UnixListener::from_std);
        let Ok(listener) = listener else {
            tracing::error!("the unix socket cannot be used");
            return std::future::pending().await;
        };
        let mut next = 0;
        loop {
            match listener
                .accept()
                .await
                .and_then(|(stream, _)| stream.into_std())
            {
                Ok(stream) => {
                    let mut client = Mail::Client(stream);
                    for _ in 0..shared.mail.len() {
                        next = (next + 1) % shared.mail.len();
                        // A core that has ended takes nobody; another may.
                        match shared.mail[next].send(client) {
                            Ok(()) => break,
                            Err(refused) => client = refused.0,
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(error = %error, "a client could not be accepted");
                    tokio::time::sleep(shared.topology().config.limits.accept_pause).await;
                }
            }
        }
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // Best effort: a left-over file is removed at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_without_a_declaration_is_swept_on_all_shards_as_the_decider_may_hold_nothing() {
        let text = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        // "app" is declared, and has another name on each shard.
        let on = |name: &str, shard: usize| match name {
            "app" => format!("app_{shard}"),
            other => other.to_owned(),
        };
        let found = [text(&[]), text(&["app_1", "shop"]), text(&["app_2"])];
        assert_eq!(
            databases_to_sweep(&text(&["app"]), &found, on),
            [
                text(&["app_0", "shop"]),
                text(&["app_1", "shop"]),
                text(&["app_2", "shop"])
            ]
        );
        assert_eq!(
            databases_to_sweep(&[], &[vec![], vec![]], on),
            [text(&[]), text(&[])]
        );
    }
}
