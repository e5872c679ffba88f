//! What is simulated around the router: shards, their servers, and what goes wrong there.

use crate::client::{Client, RANGE, agree};
use crate::engine::{Key, Row, Shard};
use crate::server;
use mothership::commit::doubt::Site;
use mothership::commit::recover::{Recovery, Settings};
use mothership::config::Config;
use mothership::control::Control;
use mothership::core::code::Code;
use mothership::core::primaries::Primaries;
use mothership::core::{Core, Life, Mail, Shared, cancel_entry};
use mothership::directory::Directories;
use mothership::model::{DatabaseModel, ShardReport};
use mothership::other_process::OtherProcess;
use mothership::topology::Topology;
use mothership_catalog::{Fingerprint, text};
use mothership_pool::endpoint::Interpreter;
use mothership_pool::health::Failure;
use mothership_pool::health::report::{Lsn, Report, ReportedRole};
use mothership_pool::wire::{Pipe, pipe};
use mothership_proto::auth::{SecretKind, StandIn};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, watch};

/// After the last client has left, all must be well within this time.
const HEALED: Duration = Duration::from_secs(20);

/// What happens to a server at a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    DieBefore,
    DieAfter,
    /// In the middle of its words.
    DieWithin,
    /// It says why before it ends.
    Farewell,
    Fails,
}

/// A server's session as others see it.
#[derive(Default)]
struct Process {
    works: bool,
    cancelled: bool,
    killed: bool,
    bell: Rc<Notify>,
}

/// What happened, so that a run says that something did.
#[derive(Clone, Debug, Default)]
pub struct Counts(pub BTreeMap<&'static str, u64>);

pub struct World {
    rng: RefCell<SmallRng>,
    pub shards: Vec<Rc<RefCell<Shard>>>,
    processes: RefCell<BTreeMap<(usize, i32), Process>>,
    last_pid: Cell<i32>,
    /// So many statements of a thousand meet a fault.
    faults: Cell<u32>,
    speakers: Vec<Arc<Speaker>>,
    tracing: bool,
    trace: RefCell<VecDeque<String>>,
    failed: RefCell<Option<String>>,
    counts: RefCell<Counts>,
}

/// Stands before a simulated server.
#[derive(Debug)]
struct Speaker {
    shard: usize,
    is_up: AtomicBool,
    calls: mpsc::UnboundedSender<(usize, Pipe)>,
}

impl Interpreter for Speaker {
    fn dial(&self) -> io::Result<Pipe> {
        if !self.is_up.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (near, far) = pipe();
        let sent = self.calls.send((self.shard, far));
        sent.map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(near)
    }
}

impl World {
    pub fn say(&self, what: impl FnOnce() -> String) {
        if self.tracing {
            let mut trace = self.trace.borrow_mut();
            trace.push_back(what());
            if trace.len() > 400 {
                trace.pop_front();
            }
        }
    }

    /// Something is wrong. The first thing counts.
    pub fn fails(&self, why: String) {
        self.say(|| format!("WRONG: {why}"));
        self.failed.borrow_mut().get_or_insert(why);
    }

    pub fn has_failed(&self) -> bool {
        self.failed.borrow().is_some()
    }

    pub fn count(&self, what: &'static str) {
        *self.counts.borrow_mut().0.entry(what).or_default() += 1;
    }

    pub fn number(&self, most: usize) -> usize {
        self.rng.borrow_mut().random_range(0..most)
    }

    /// Whether anything goes wrong in this run.
    pub fn faulty(&self) -> bool {
        self.faults.get() > 0
    }

    /// What goes wrong now, if anything.
    pub fn fault(&self) -> Option<Fault> {
        let mut rng = self.rng.borrow_mut();
        if rng.random_range(0..1_000) >= self.faults.get() {
            return None;
        }
        let all = [
            Fault::DieBefore,
            Fault::DieAfter,
            Fault::DieWithin,
            Fault::Farewell,
            Fault::Fails,
        ];
        Some(all[rng.random_range(0..all.len())])
    }

    /// Others have their turn.
    pub async fn pause(&self) {
        let (turns, sleeps) = {
            let mut rng = self.rng.borrow_mut();
            (rng.random_range(0..3), rng.random_range(0..200) == 0)
        };
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        if sleeps {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub fn enter(&self, shard: usize) -> i32 {
        let pid = self.last_pid.get() + 1;
        self.last_pid.set(pid);
        let mut processes = self.processes.borrow_mut();
        processes.insert((shard, pid), Process::default());
        pid
    }

    pub fn leave(&self, shard: usize, pid: i32) {
        self.processes.borrow_mut().remove(&(shard, pid));
    }

    /// A statement takes its time; whether it was cancelled meanwhile.
    pub async fn work(&self, shard: usize, pid: i32) -> bool {
        let of = |work: bool| {
            let mut processes = self.processes.borrow_mut();
            let process = processes.get_mut(&(shard, pid));
            process.is_some_and(|process| {
                process.works = work;
                std::mem::take(&mut process.cancelled)
            })
        };
        of(true);
        self.pause().await;
        self.pause().await;
        of(false)
    }

    pub fn cancel(&self, shard: usize, pid: i32) {
        let mut processes = self.processes.borrow_mut();
        if let Some(process) = processes.get_mut(&(shard, pid))
            && process.works
        {
            process.cancelled = true;
            drop(processes);
            self.count("cancelled");
        }
    }

    pub fn is_killed(&self, shard: usize, pid: i32) -> bool {
        let processes = self.processes.borrow();
        processes.get(&(shard, pid)).is_none_or(|p| p.killed)
    }

    /// Ready when somebody ends this session.
    pub async fn killed(&self, shard: usize, pid: i32) {
        let bell = {
            let processes = self.processes.borrow();
            processes.get(&(shard, pid)).map(|p| Rc::clone(&p.bell))
        };
        match bell {
            Some(bell) if !self.is_killed(shard, pid) => bell.notified().await,
            _ => {}
        }
    }

    /// A server ends all its sessions and takes none for a while.
    fn crash(&self, shard: usize) {
        if self.processes.borrow().keys().any(|(of, _)| *of == shard) {
            self.say(|| format!("s{shard} crashes"));
        }
        self.count("crashes");
        self.speakers[shard].is_up.store(false, Ordering::Relaxed);
        for ((of, _), process) in self.processes.borrow_mut().iter_mut() {
            if *of == shard {
                process.killed = true;
                process.bell.notify_one();
            }
        }
    }

    fn restart(&self, shard: usize) {
        self.speakers[shard].is_up.store(true, Ordering::Relaxed);
    }
}

const CATALOG: &str = "server_version 150000\ntext_order UTF8 C C\nschema public\n";
const TABLE: &str = "column id bigint not null\ncolumn v bigint\ncolumn w text\nprimary key id\n";

fn config(shards: usize) -> Config {
    let mut text = String::from(
        "[listen]\naddress = [\"127.0.0.1\"]\nport = 6432\n\
         [control]\nuser = \"u\"\ntimeout = \"300ms\"\n\
         [pool]\nmin = 0\nmax = 4\nconnect_timeout = \"300ms\"\nretry_pause = \"1ms\"\nretry_pause_max = \"2ms\"\n\
         reset_timeout = \"1s\"\ncancel_timeout = \"300ms\"\n\
         [failover]\nwindow = \"500ms\"\n\
         [transactions]\nprepare_timeout = \"1s\"\ndoubt_timeout = \"2s\"\nrecovery_interval = \"200ms\"\n\
         [catalog]\nrefresh_interval = \"24h\"\n\
         [balance]\ndown_after = 1\nup_after = 1\n\
         [[auth.rule]]\nmethod = \"trust\"\n[[user]]\nname = \"u\"\npassword = \"p\"\n",
    );
    for shard in 0..shards {
        text += &format!(
            "[[shard]]\nname = \"s{shard}\"\n[[shard.server]]\naddress = \"127.0.0.1:{}\"\nrole = \"primary\"\ntls = \"disable\"\n",
            shard + 1
        );
    }
    text +=
        "[[table]]\nname = \"t\"\nkey = \"id\"\n[[table]]\nname = \"r\"\nkind = \"reference\"\n";
    let parsed = Config::parse(
        Path::new("sessions.toml"),
        &text,
        &mothership::config::Process,
    );
    parsed.unwrap_or_else(|problems| panic!("{problems}"))
}

/// Runs one world; returns what happened, or what was wrong, with the last events.
pub async fn run(seed: u64, tracing: bool) -> Result<Counts, String> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let shards = rng.random_range(2..=3);
    let config = config(shards);
    let (calls, called) = mpsc::unbounded_channel();
    let speakers = (0..shards).map(|shard| {
        Arc::new(Speaker {
            shard,
            is_up: AtomicBool::new(true),
            calls: calls.clone(),
        })
    });
    let speakers: Vec<Arc<Speaker>> = speakers.collect();
    let faults = [0, 2, 10, 30][rng.random_range(0..4)];
    let world = Rc::new(World {
        shards: (0..shards).map(Shard::new).collect(),
        processes: RefCell::default(),
        last_pid: Cell::new(100),
        faults: Cell::new(faults),
        speakers: speakers.clone(),
        tracing,
        trace: RefCell::default(),
        failed: RefCell::default(),
        counts: RefCell::default(),
        rng: RefCell::new(SmallRng::seed_from_u64(rng.random())),
    });
    let stand_in = StandIn::new(
        rng.random(),
        1.try_into().expect("it is one"),
        SecretKind::Scram,
    );
    let interpreter =
        |shard: usize, _| -> Arc<dyn Interpreter> { Arc::clone(&speakers[shard]) as _ };
    let topology = Topology::simulated(config, &stand_in, interpreter);
    let topology = topology.unwrap_or_else(|error| panic!("{error}"));
    let (mail, mailbox) = mpsc::unbounded_channel();
    let (_life, watched) = watch::channel(Life::Serving);
    let (orders, _orders) = mpsc::unbounded_channel();
    let shared = Shared::new(
        (topology, None),
        stand_in,
        vec![mail],
        watched,
        orders,
        OtherProcess::new(None),
    );
    let topology = shared.topology();
    // Of all worlds with so many shards: it takes longer to make than most of them.
    static MODELS: [OnceLock<Arc<DatabaseModel>>; 4] = [const { OnceLock::new() }; 4];
    let model = MODELS[shards].get_or_init(|| Arc::new(model(&topology, shards)));
    shared.set_model("d", Arc::clone(model));
    // No code of users is anywhere.
    let mut code = Code::default();
    code.read = Some(Instant::now());
    let known = shared.code.lock();
    known.unwrap().insert("d".to_owned(), Arc::new(code));
    let core = Core::new(0, Arc::clone(&shared));
    let around = [
        tokio::task::spawn_local(take_calls(Rc::clone(&world), called)),
        tokio::task::spawn_local(take_mail(Rc::clone(&core), mailbox)),
        tokio::task::spawn_local(probe(Rc::clone(&world), Arc::clone(&topology))),
        tokio::task::spawn_local(recover(Arc::clone(&shared))),
        tokio::task::spawn_local(mothership::core::watch_roles(Rc::clone(&core))),
        tokio::task::spawn_local(crashes(Rc::clone(&world), rng.random())),
    ];
    let clients = rng.random_range(1..=4);
    let steps = rng.random_range(5..=25);
    let work = (0..clients).map(|number| {
        let mut client = Client::new(&world, &core, number + 1, rng.random());
        tokio::task::spawn_local(async move {
            client.run(steps).await;
            client
        })
    });
    let work: Vec<_> = work.collect();
    let mut done = Vec::new();
    for client in work {
        match client.await {
            Ok(client) => done.push(client),
            Err(error) => world.fails(format!("a client has panicked: {error}")),
        }
    }
    if !world.has_failed() {
        end(&world, &core, &done).await;
    }
    around.iter().for_each(tokio::task::JoinHandle::abort);
    core.set_life(Life::Ending);
    let failed = world.failed.borrow_mut().take();
    match failed {
        None => Ok(world.counts.borrow().clone()),
        Some(why) => {
            let trace: Vec<String> = world.trace.borrow().iter().cloned().collect();
            Err(format!("{}\nseed {seed}: {why}", trace.join("\n")))
        }
    }
}

fn model(topology: &Topology, shards: usize) -> DatabaseModel {
    let of = |shard: usize| {
        let home = if shard == topology.home.index() {
            format!("table public.h\n{TABLE}")
        } else {
            String::new()
        };
        let all = format!("{CATALOG}table public.t\n{TABLE}table public.r\n{TABLE}{home}");
        Ok(ShardReport {
            catalog: text::parse(&all).unwrap_or_else(|error| panic!("{error}")),
            cluster: shard as i64 + 1,
            fingerprint: Fingerprint::default(),
        })
    };
    let directories = Directories::unread(&topology.config);
    let model = DatabaseModel::new(
        &topology.config,
        topology.home,
        (0..shards).map(of).collect(),
        directories,
        0,
    );
    let mut model = model.unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    model.doubts = Some(0);
    model
}

async fn take_calls(world: Rc<World>, mut called: mpsc::UnboundedReceiver<(usize, Pipe)>) {
    while let Some((shard, stream)) = called.recv().await {
        tokio::task::spawn_local(server::serve(Rc::clone(&world), shard, stream));
    }
}

/// What the loop of a core does with its mail.
async fn take_mail(core: Rc<Core>, mut mailbox: mpsc::UnboundedReceiver<Mail>) {
    while let Some(mail) = mailbox.recv().await {
        match mail {
            Mail::Cancel {
                slot,
                secret,
                ticket,
            } => {
                let entry = core.sessions.borrow().get(slot).map(Rc::clone);
                if let Some(entry) = entry.filter(|entry| entry.secret.is(&secret)) {
                    cancel_entry(&core, &entry, Rc::new(ticket));
                }
            }
            Mail::Ask(question) => question(&core),
            Mail::Reload | Mail::Listen(_) | Mail::Client(_) => {}
        }
    }
}

/// Asks servers how they are, as the prober does.
async fn probe(world: Rc<World>, topology: Arc<Topology>) {
    let health = &topology.health;
    loop {
        for shard in 0..world.shards.len() {
            let asked = Instant::now();
            let moment = health.clock(shard).map_or(0, |clock| clock.now());
            match world.speakers[shard].is_up.load(Ordering::Relaxed) {
                true => {
                    let says = ReportedRole::Primary {
                        timeline: 1,
                        written: Lsn(1),
                    };
                    let report = Report {
                        system: shard as u64 + 1,
                        says,
                        read_only: false,
                    };
                    health.on_report(shard, 0, report, moment, asked);
                }
                false => health.on_failed_probe(shard, 0, Failure::Refused, asked),
            }
        }
        let mut woken: Vec<_> = (0..world.shards.len())
            .map(|shard| Box::pin(health.woken(shard, 0)))
            .collect();
        let any = std::future::poll_fn(|cx| {
            match woken.iter_mut().any(|one| one.as_mut().poll(cx).is_ready()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        let _ = tokio::time::timeout(Duration::from_millis(5), any).await;
    }
}

fn settings(topology: &Topology, patience: Duration) -> Settings {
    let mut settings = Settings::new(&topology.config.transactions, &topology.config.control);
    settings.patience.short = patience;
    settings.patience.long = patience.max(settings.patience.long.min(patience * 20));
    settings
}

fn sites(topology: &Topology) -> Vec<Site> {
    let site = |shard: &mothership::topology::ShardServers| Site {
        shard: shard.name.clone(),
        database: "d".to_owned(),
    };
    topology.shards.iter().map(site).collect()
}

/// Recovery as it runs beside the clients.
async fn recover(shared: Arc<Shared>) {
    let control = Control::default();
    let topology = shared.topology();
    let servers = Primaries::sparing(&control, &shared);
    let settings = settings(&topology, Duration::from_millis(100));
    let recovery = Recovery::new(servers, settings, Arc::clone(&shared.doubts));
    recovery
        .run(|| sites(&topology), shared.swept.clone())
        .await;
}

/// Servers crash now and then.
async fn crashes(world: Rc<World>, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    loop {
        tokio::time::sleep(Duration::from_millis(rng.random_range(1..40))).await;
        if world.faults.get() < 10 {
            continue;
        }
        let shard = rng.random_range(0..world.shards.len());
        world.crash(shard);
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..15))).await;
        world.restart(shard);
    }
}

/// All clients have left: nothing of them is left, and their rows are what they know of them.
async fn end(world: &Rc<World>, core: &Rc<Core>, clients: &[Client]) {
    let faults = world.faults.replace(0);
    world.say(|| "all clients have left".to_owned());
    for shard in 0..world.shards.len() {
        world.restart(shard);
    }
    let gone = async {
        while !core.sessions.borrow().is_empty() {
            core.left.notified().await;
        }
    };
    if tokio::time::timeout(HEALED, gone).await.is_err() {
        return world.fails("a session has not ended".to_owned());
    }
    let control = Control::default();
    let topology = core.shared.topology();
    let servers = Primaries::new(&control, &core.shared);
    let settings = settings(&topology, Duration::ZERO);
    let mut recovery = Recovery::new(servers, settings, Arc::clone(&core.shared.doubts));
    let begun = Instant::now();
    let left = loop {
        let sweep = recovery.sweep(&sites(&topology)).await;
        let left = |shard: &Rc<RefCell<Shard>>| {
            let shard = shard.borrow();
            let prepared = shard.prepared.keys().cloned();
            let locked = shard
                .locks
                .keys()
                .map(|(table, id)| format!("{table} {id}"));
            prepared.chain(locked).collect::<Vec<_>>()
        };
        let left: Vec<Vec<String>> = world.shards.iter().map(left).collect();
        if left.iter().all(Vec::is_empty) && sweep.unreachable.is_empty() {
            break Vec::new();
        }
        if begun.elapsed() > HEALED {
            break left;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    if !left.is_empty() {
        return world.fails(format!("this is left prepared or locked: {left:?}"));
    }
    world.count(match faults {
        0 => "worlds without faults",
        _ => "worlds with faults",
    });
    check(world, &topology, clients);
}

fn check(world: &World, topology: &Topology, clients: &[Client]) {
    // Every row with the shards that have it.
    let mut there: BTreeMap<Key, Vec<(usize, Row)>> = BTreeMap::new();
    for shard in &world.shards {
        let shard = shard.borrow();
        for (table, rows) in &shard.tables {
            for (id, row) in rows {
                let places = there.entry((table.clone(), *id)).or_default();
                places.push((shard.number, row.clone()));
            }
        }
    }
    for ((table, id), places) in &there {
        let wanted = if table == "r" { world.shards.len() } else { 1 };
        let first = &places[0].1;
        if places.len() != wanted || places.iter().any(|(_, row)| row != first) {
            return world.fails(format!("row {id} of {table} is there as {places:?}"));
        }
        if table == "h" && places[0].0 != topology.home.index() {
            return world.fails(format!("row {id} of {table} is on shard {}", places[0].0));
        }
    }
    let row = |key: &Key| there.get(key).map(|places| &places[0].1);
    let mut known: BTreeMap<Key, ()> = BTreeMap::new();
    for client in clients {
        for (key, expected) in &client.ledger.sure {
            known.insert(key.clone(), ());
            world.count("rows");
            if row(key) != Some(expected) {
                return world.fails(format!(
                    "{key:?} is {:?}, and its client knows {expected:?}",
                    row(key)
                ));
            }
        }
        for write in &client.ledger.maybe {
            world.count("writes in doubt");
            known.extend(write.iter().map(|(key, ..)| (key.clone(), ())));
            let before = write.iter().all(|(key, before, _)| agree(row(key), before));
            let after = write.iter().all(|(key, _, after)| agree(row(key), after));
            if !before && !after {
                let is: Vec<_> = write.iter().map(|(key, ..)| row(key)).collect();
                return world.fails(format!("a part of {write:?} has happened: {is:?}"));
            }
        }
    }
    if let Some((key, places)) = there.iter().find(|(key, _)| !known.contains_key(key)) {
        let client = key.1 / RANGE / 100;
        world.fails(format!(
            "client {client} was told that {key:?} failed, or never wrote it: {places:?}"
        ));
    }
}
