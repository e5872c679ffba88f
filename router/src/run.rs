//! Starts the process: a thread with a runtime for each core, listeners, signals,
//! and the end.
//!
//! Every core listens on the same port (`SO_REUSEPORT`), so the kernel spreads the
//! clients and a client stays on its core. The unix socket has one listener, which
//! deals its clients out. The ports may come from another process, and go to one: [`crate::takeover`].

use crate::commit::doubt::Site;
use crate::commit::errand::databases as databases_of;
use crate::commit::recover::{Recovery, Settings};
use crate::config::{Change, Config, Reloaded, SendBatch, Workers};
use crate::control::Control;
use crate::core::primaries::Primaries;
use crate::core::{
    Core, Life, Mail, Order, STAND_IN_ITERATIONS, Shared, cancel_entry, watch_roles,
};
use crate::log::Chain;
use crate::login;
use crate::other_process::OtherProcess;
use crate::other_process::words::Word;
use crate::pressure::{self, Level, Meter, Shut};
use crate::takeover::doors::Doors;
use crate::takeover::layout::difference;
use crate::takeover::new_process::{Inheritance, TakeoverError};
use crate::takeover::old_process::Event;
use crate::takeover::ports::{ListenError, Ports};
use crate::takeover::{notify, successor};
use crate::throttle::CancelTicket;
use crate::tick;
use crate::topology::shard_id;
use crate::topology::{ShardServers, Topology, TopologyError, keepalive};
use futures_util::future::join_all;
use mothership_pool::wire::{SendMode, Wire, install};
use mothership_proto::auth::{SecretKind, StandIn};
use mothership_shardmap::ShardId;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, UnixStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};

/// Why the process could not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration cannot be put in force.
    #[error("configuration")]
    Topology(#[from] TopologyError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The ports were not given by the process that has them.
    #[error("take over from the running process")]
    TakeOver(#[from] TakeoverError),
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
/// How often memory is given back to the system after there was little of it, once in [`MAINTENANCE`].
const TRIMS: u32 = 10;
/// How long the process waits for its cores after it has told them to end.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How often a process that another has taken over from looks whether its clients have left.
const LOOK: Duration = Duration::from_millis(200);

/// Serves until SIGTERM or SIGINT. `path` is read again at SIGHUP. With `take_over` the ports are those of the process
/// that has them now, if there is one; whatever fails before it accepts clients, that one goes on.
pub fn run(path: &Path, config: Config, take_over: bool) -> Result<(), RunError> {
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
    let start = |what| move |cause| RunError::Start { what, cause };
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(start("the main runtime"))?;
    let wishes = runtime.block_on(async { Wishes::catch() });
    let wishes = wishes.map_err(start("to catch signals"))?;
    let mut inheritance = match (take_over, &listen.takeover) {
        (false, _) => None,
        (true, None) => return Err(TakeoverError::NoPlace.into()),
        (true, Some(place)) => runtime.block_on(Inheritance::ask(place))?,
    };
    let inherited = inheritance
        .as_mut()
        .map(|all| std::mem::take(&mut all.ports));
    let before = inheritance.as_ref().map(|all| &all.facts);
    let entries = topology.config.entries();
    if let Some(path) = before.and_then(|before| difference(&before.layout, entries)) {
        return Err(TakeoverError::Layout(path).into());
    }
    // All ports are taken before anything else starts, so that a taken one is said
    // at once and leaves nothing behind.
    let ports = Ports::open(&topology.config, cores, inherited.unwrap_or_default())?;
    let (mail, mailboxes): (Vec<_>, Vec<_>) = (0..cores).map(|_| mpsc::unbounded_channel()).unzip();
    let (life, watched) = watch::channel(Life::Serving);
    let (order, mut orders) = mpsc::unbounded_channel();
    let other_process = OtherProcess::new(before.map(|before| before.process));
    let watching = (topology, prober);
    let shared = Shared::new(watching, stand_in, mail, watched, order, other_process);
    if let Some(before) = before {
        let disabled = before.disabled.iter().cloned();
        shared.gates.write().disabled.extend(disabled);
    }
    // The first clients need not wait for the first probes; those of a dead server do not hold up the others.
    runtime.block_on(asked(&shared.topology()));
    let mut threads = Vec::new();
    for (index, mailbox) in mailboxes.into_iter().enumerate() {
        let shared = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name(format!("core-{index}"));
        let spawned = thread.spawn(move || core_thread(index, shared, mailbox, mode));
        threads.push(spawned.map_err(start("a thread"))?);
    }
    let (event, events) = mpsc::unbounded_channel();
    let mut doors = Doors::new(ports, &shared, event, path);
    let opened = runtime.block_on(async {
        if let Some(inheritance) = inheritance {
            inheritance.take(doors.kept(), &shared).await?;
        }
        doors.open().map_err(start("to accept clients"))
    });
    opened?;
    tracing::info!(cores, port = listen.port, "serving");
    notify::serving();
    runtime.block_on(async {
        let supervisor = Supervisor {
            path,
            shared: &shared,
            life: &life,
            doors: &mut doors,
            now: Life::Serving,
            until: None,
            quiet: false,
        };
        supervisor.supervise(wishes, &mut orders, events).await;
        shared.other_process.all_said().await;
    });
    // Cores see Ending, tell their clients and stop.
    let _ = life.send(Life::Ending);
    drop(doors);
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a core ended by a panic");
        }
    }
    Ok(())
}

/// The signals that ask for something. They are caught before the servers are asked, which may take a while: what comes
/// meanwhile is done afterwards, and ends no process that is just starting.
struct Wishes {
    reload: Signal,
    ask: Signal,
    upgrade: Signal,
}

impl Wishes {
    fn catch() -> std::io::Result<Wishes> {
        Ok(Wishes {
            reload: signal(SignalKind::hangup())?,
            ask: signal(SignalKind::user_defined1())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }
}

/// What the process does, and what makes it do something else.
struct Supervisor<'a> {
    path: &'a Path,
    shared: &'a Arc<Shared>,
    life: &'a watch::Sender<Life>,
    doors: &'a mut Doors,
    now: Life,
    /// When that is over, if it is by itself.
    until: Option<Instant>,
    /// Nobody was there at the last look.
    quiet: bool,
}

impl Supervisor<'_> {
    /// Reacts to signals, orders and other processes until the process shall end.
    async fn supervise(
        mut self,
        mut wishes: Wishes,
        orders: &mut mpsc::UnboundedReceiver<Order>,
        mut events: mpsc::UnboundedReceiver<Event>,
    ) {
        let (path, shared) = (self.path, self.shared);
        let (Ok(mut terminate), Ok(mut interrupt)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
        ) else {
            tracing::error!("signals cannot be caught");
            return;
        };
        let recovery = recover(shared);
        tokio::pin!(recovery);
        let deadlocks = crate::deadlock::watch(shared);
        tokio::pin!(deadlocks);
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while self.now != Life::Ending {
            let next = tokio::select! {
                _ = wishes.reload.recv() => {
                    drop(reload(path, shared).await);
                    None
                }
                _ = terminate.recv() => Some(self.more_urgent()),
                _ = interrupt.recv() => Some(self.more_urgent()),
                _ = wishes.ask.recv() => {
                    ask_all(shared);
                    None
                }
                _ = wishes.upgrade.recv() => {
                    self.upgrade();
                    None
                }
                order = orders.recv() => match order {
                    Some(Order::Reload(answer)) => {
                        drop(answer.send(reload(path, shared).await));
                        None
                    }
                    Some(Order::Shutdown(how)) => Some(how),
                    // The sender lives in `shared`.
                    None => Some(Life::Draining),
                },
                // The sender lives in the doors.
                Some(event) = events.recv() => self.hear(event),
                _ = looks.tick(), if self.now == Life::HandedOver => self.look().await,
                () = left(shared), if !self.now.lets_in() => {
                    tracing::info!("all clients have left");
                    return;
                }
                () = over(self.until) => Some(self.after()),
                () = &mut recovery => None,
                () = &mut deadlocks => None,
            };
            if let Some(next) = next {
                self.turn_to(next);
            }
        }
    }

    /// From now on it is this.
    fn turn_to(&mut self, next: Life) {
        let listen = &self.shared.topology().config.listen;
        let before = std::mem::replace(&mut self.now, next);
        self.quiet = false;
        let limit = match next {
            Life::Announced => Some(listen.drain_delay),
            Life::Draining => Some(listen.drain_timeout),
            Life::HandedOver => listen.handover_timeout,
            Life::Serving | Life::Closing | Life::Ending => None,
        };
        self.until = limit.map(|limit| Instant::now() + limit);
        match next {
            Life::Serving => tracing::info!("serving"),
            Life::Announced => tracing::info!("not ready any more"),
            _ => tracing::info!(how = ?next, "no new clients"),
        }
        match before {
            _ if next.lets_in() => {}
            // The ports are another's.
            Life::HandedOver => self.doors.give_up(),
            Life::Serving | Life::Announced => {
                notify::stopping();
                // The unix socket stays open, so that administrators can look and order.
                self.doors.close();
                self.shared.other_process.tell(Word::Closing);
            }
            Life::Closing | Life::Draining | Life::Ending => {}
        }
        let _ = self.life.send(next);
    }

    /// What one more signal means.
    fn more_urgent(&self) -> Life {
        let delay = self.shared.topology().config.listen.drain_delay;
        match self.now {
            Life::Serving if !delay.is_zero() => Life::Announced,
            Life::Serving | Life::Announced | Life::HandedOver | Life::Closing => Life::Draining,
            Life::Draining | Life::Ending => Life::Ending,
        }
    }

    /// What comes when the time is over.
    fn after(&self) -> Life {
        match self.now {
            Life::Announced | Life::HandedOver => Life::Draining,
            Life::Serving | Life::Closing | Life::Draining | Life::Ending => {
                tracing::warn!("drain timeout is over");
                Life::Ending
            }
        }
    }

    /// Another process wants something, or is gone.
    fn hear(&mut self, event: Event) -> Option<Life> {
        match event {
            Event::Offer(answer) => {
                let offered = self.refusal().map_or_else(
                    || self.doors.copies().map_err(|error| error.to_string()),
                    |why| Err(why.to_owned()),
                );
                // Whoever asked may be gone.
                let _ = answer.send(offered);
                None
            }
            Event::HandOver { kept, done } if self.refusal_of_life().is_none() => {
                self.doors.hand_over(&kept);
                self.turn_to(Life::HandedOver);
                let _ = done.send(());
                None
            }
            // It is told by the loss of `done`.
            Event::HandOver { .. } => None,
            Event::NewProcessGone if self.now == Life::HandedOver && !self.doors.are_gone() => {
                tracing::warn!("the process that had taken over is gone, this one serves again");
                // Before the cores get the ports: they would let go of them at once.
                self.turn_to(Life::Serving);
                if let Err(error) = self.doors.open() {
                    tracing::error!(error = %error, "the ports cannot be used");
                    return Some(Life::Draining);
                }
                notify::serving();
                None
            }
            Event::NewProcessGone => None,
            Event::NewProcessCloses => {
                self.doors.give_up();
                None
            }
        }
    }

    /// Why nobody may take over now.
    fn refusal(&self) -> Option<&'static str> {
        let gates = self.shared.gates.read();
        if gates.paused_all || gates.suspended || !gates.paused.is_empty() {
            return Some("something is paused in the console; RESUME comes first");
        }
        if self.shared.other_process.other().is_some() {
            return Some(
                "the process before it still has clients; they leave, or SIGTERM to that one ends it",
            );
        }
        self.refusal_of_life()
    }

    fn refusal_of_life(&self) -> Option<&'static str> {
        (self.now != Life::Serving).then_some("it is ending")
    }

    /// Starts a successor by itself, if that may be.
    fn upgrade(&self) {
        let why = match self.shared.topology().config.listen.takeover {
            Some(_) => self.refusal(),
            None => Some("listen.takeover is not set"),
        };
        if let Some(why) = why {
            tracing::error!(why, "no successor is started");
            return;
        }
        let (shared, path) = (Arc::clone(self.shared), self.path.to_owned());
        tokio::spawn(async move {
            if let Err(why) = successor::start(&shared, &path).await {
                tracing::error!(why, "there is no successor");
            }
        });
    }

    /// Whether all clients have left, after another process has taken over. They are looked for twice, because one that
    /// was accepted just before has not begun its login when it is looked for the first time.
    async fn look(&mut self) -> Option<Life> {
        self.shared.ask(|_| ()).await;
        let is_quiet = [&self.shared.clients, &self.shared.logins]
            .iter()
            .all(|count| count.load(Ordering::SeqCst) == 0);
        let was_quiet = std::mem::replace(&mut self.quiet, is_quiet);
        (is_quiet && was_quiet).then_some(Life::Closing)
    }
}

/// Waits until all cores have ended.
async fn left(shared: &Shared) {
    for core in &shared.mail {
        core.closed().await;
    }
}

/// Waits for a moment, if there is one.
async fn over(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}

/// Has all servers asked at once: somebody has changed their roles.
fn ask_all(shared: &Shared) {
    tracing::info!("all servers are asked");
    let topology = shared.topology();
    for (shard, servers) in topology.shards.iter().enumerate() {
        for server in 0..servers.servers.len() {
            topology.health.probe_soon(shard, server);
        }
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
        Primaries::sparing(&control, shared),
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
            tokio::time::sleep_until(tick::spaced(transactions.recovery_interval)).await;
            look(&control, shared, &found).await;
        }
    };
    let mut emptied = shared.emptied.subscribe();
    let leave = async {
        loop {
            match emptied.recv().await {
                Ok(database) => control.leave_database(&database),
                Err(RecvError::Lagged(_)) => control.forget(),
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    };
    tokio::select! {
        () = recovery.run(|| sites(shared, &found.borrow()), told) => {}
        () = go_on => {}
        () = leave => {}
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
    if !topology.config.has_postgres() {
        // Nothing is prepared where nobody prepares.
        return;
    }
    let limit = topology.config.control.timeout;
    let own = topology.config.control.database.as_str();
    let ask = async |id: ShardId, shard: &str| {
        let answer = async {
            let client = control.lend(&topology, id, own).await;
            let client = client.map_err(|error| Chain(&error).to_string())?;
            let databases = client.ask(databases_of(&client)).await;
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
    let shards = topology.shards.by_id().take(topology.postgres);
    join_all(shards.map(|(id, shard)| ask(id, &shard.name))).await;
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
    on: impl Fn(&str, ShardId) -> String,
) -> Vec<Vec<String>> {
    let names = |shard: ShardId| known.iter().map(|name| on(name, shard)).collect::<Vec<_>>();
    let passed = found.iter().enumerate().flat_map(|(shard, found)| {
        let names = names(shard_id(shard));
        found.iter().filter(move |name| !names.contains(name))
    });
    let passed: Vec<&String> = passed.collect();
    let all = (0..found.len()).map(|shard| {
        let mut all = names(shard_id(shard));
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

/// One core: its runtime, its clients.
fn core_thread(
    index: usize,
    shared: Arc<Shared>,
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
        tokio::task::spawn_local(maintain(Rc::clone(&core)));
        tokio::task::spawn_local(look_at_clocks(Rc::clone(&core)));
        if core.index == 0 {
            tokio::task::spawn_local(watch_memory(Rc::clone(&core)));
            tokio::task::spawn_local(crate::core::altered::watch_defaults(Rc::clone(&core)));
        }
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
        if !now.lets_in() && core.only_consoles() {
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

/// A client's login is a task. It is boxed at once: a task moves its future several times. Whom the lack of descriptors
/// keeps out is returned.
fn let_in(core: &Rc<Core>, client: Wire, descriptor: i32) -> Option<Shut> {
    let reserve = core.shared.topology().config.limits.descriptor_reserve;
    let shut = pressure::shut(descriptor, pressure::most_descriptors(), reserve);
    tokio::task::spawn_local(Box::pin(login::serve(Rc::clone(core), client, shut)));
    shut
}

fn take(core: &Rc<Core>, mail: Mail) {
    match mail {
        Mail::Reload => core.reload(),
        Mail::Listen(socket) => match TcpListener::from_std(socket) {
            Ok(listener) => drop(tokio::task::spawn_local(accept(Rc::clone(core), listener))),
            Err(error) => tracing::error!(error = %error, "a listener cannot be used"),
        },
        Mail::Client(stream) => {
            let accepted = stream
                .set_nonblocking(true)
                .and_then(|()| UnixStream::from_std(stream));
            match accepted {
                Ok(stream) => {
                    let descriptor = stream.as_raw_fd();
                    let_in(core, Wire::unix(stream), descriptor);
                }
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
    if !entry.secret.is(secret) {
        return;
    }
    cancel_entry(core, &entry, Rc::new(ticket));
}

async fn look_at_clocks(core: Rc<Core>) {
    loop {
        let pause = core.look_at_clocks();
        tokio::time::sleep_until(tick::next(pause)).await;
    }
}

/// Measures the memory of the process, and frees what lies idle when there is little left.
async fn watch_memory(core: Rc<Core>) {
    let Some(meter) = Meter::open() else { return };
    let shared = &core.shared;
    let mut topology = shared.topology();
    let mut limit = pressure::limit(topology.config.limits.memory);
    let mut pause = pressure::LOOK;
    loop {
        tokio::time::sleep_until(tick::next(pause)).await;
        if !shared.is_current(&topology) {
            topology = shared.topology();
            limit = pressure::limit(topology.config.limits.memory);
        }
        let Some(mut used) = meter.resident() else {
            return;
        };
        while pressure::is_near(used, limit) && relieve(shared).await {
            tokio::time::sleep(pressure::RELIEF).await;
            let Some(now) = meter.resident() else { return };
            used = now;
        }
        pause = pressure::pause(used, limit);
        let (before, after) = shared.pressure.measured(used, limit);
        if before != after {
            let limit = limit.unwrap_or(0);
            tracing::warn!(used, limit, was = ?before, now = ?after, "memory of the process");
        }
        if after > Level::Calm && before == Level::Calm {
            for core in &shared.mail {
                // A core that has ended holds nothing.
                let _ = core.send(Mail::Ask(Box::new(|core| core.free_idle())));
            }
            pressure::trim();
        }
    }
}

/// Disconnects the client that holds most of a message that is not whole. False if nobody holds much.
async fn relieve(shared: &Shared) -> bool {
    let held = shared.ask(|core| core.largest_unfinished()).await;
    let Some((bytes, number)) = held.into_iter().flatten().max() else {
        return false;
    };
    if bytes < pressure::HOARD {
        return false;
    }
    tracing::warn!(
        session = number,
        bytes,
        "memory is short: the largest unfinished message goes"
    );
    shared.ask(move |core| core.end_unfinished(number)).await;
    true
}

async fn maintain(core: Rc<Core>) {
    let mut trims = 0;
    loop {
        core.maintain();
        if core.index == 0 {
            // Most of what made it tight is freed when it is so no longer.
            if core.shared.pressure.level() > Level::Calm {
                trims = TRIMS;
            }
            if trims > 0 {
                trims -= 1;
                pressure::trim();
            }
        }
        if core.index == 0 {
            crate::log::tell_left_out();
        }
        tokio::time::sleep_until(tick::next(MAINTENANCE)).await;
    }
}

/// Takes clients until the process takes nobody new.
async fn accept(core: Rc<Core>, listener: TcpListener) {
    let mut life = core.shared.life.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = life.wait_for(|life| !life.accepts()) => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let descriptor = stream.as_raw_fd();
                let listen = &core.shared.topology().config.listen;
                let ready = Wire::tcp(stream).and_then(|wire| {
                    wire.set_keepalive(keepalive(listen.keepalive))?;
                    if let Some(limit) = listen.unacknowledged_timeout {
                        wire.set_user_timeout(limit)?;
                    }
                    Ok(wire)
                });
                // A client that is gone already needs no answer.
                if let Ok(wire) = ready
                    && let_in(&core, wire, descriptor) == Some(Shut::All)
                {
                    // To tell it so takes a descriptor for a moment, and what is left is for servers.
                    tokio::time::sleep(core.shared.topology().config.limits.accept_pause).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_without_a_declaration_is_swept_on_all_shards_as_the_decider_may_hold_nothing() {
        let text = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        // "app" is declared, and has another name on each shard.
        let on = |name: &str, shard: ShardId| match name {
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
