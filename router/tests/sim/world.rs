//! The world: what happens when, and what must be so at the end.

use crate::requests::{Request, Verdict};
use crate::server::{Contents, Item, Server};
use mothership::commit::doubt::{Doubts, Site};
use mothership::commit::gid::TransactionId;
use mothership::config::{ByteSize, Failover};
use mothership::core::WaitingTotals;
use mothership_pool::connection::Farewell;
use mothership_pool::endpoint::{Address, Encryption, Endpoint, EndpointId};
use mothership_pool::health::breaker::Limits;
use mothership_pool::health::report::{Report, ReportedRole};
use mothership_pool::health::{
    BreakerState, CommitClock, Declared, Failure, GroupSpec, Health, ServerSpec, Settings, Source,
    State, Watch, WriteNumber,
};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

pub const SERVERS: usize = 3;
/// Faults begin until then, in milliseconds.
pub const FAULTS: u64 = 8_000;
/// Clients begin requests until then.
const CLIENTS_UNTIL: u64 = FAULTS + 17_000;
/// A fault lasts at most so long.
pub const FAULT: u64 = 2_500;
/// After the last fault all must be well again within this time.
const HEALED: u64 = FAULTS + FAULT + 12_000;
/// Everything must have ended by then.
const END: u64 = CLIENTS_UNTIL + 60_000;
/// A request takes no longer, whatever happens.
pub const LONGEST: u64 = 40_000;
const CLIENTS: usize = 8;

pub const WINDOW: u64 = 3_000;
pub const SILENCE: u64 = 2_000;
pub const CONNECT: u64 = 500;
/// Shorter than a fault: what nobody waits for any longer is done all the same, later.
pub const PREPARE: u64 = 1_000;
pub const CONTROL: u64 = 800;
pub const TICK: u64 = 50;

/// What happens at some moment.
#[derive(Debug)]
pub enum Event {
    /// A prober may have something to do.
    Probe(usize, usize),
    /// Its question arrives.
    Asked(usize, usize, WriteNumber, Instant, u64),
    /// Its answer does, or the news that there is none.
    Answered(usize, usize, Result<Report, Failure>, WriteNumber, Instant),
    /// Its connection ends.
    Unplugged(usize, usize),
    /// A replica receives and replays.
    Replicate(usize, usize),
    /// A client sends a request.
    Client(usize),
    /// A request goes on.
    Try(u64),
    /// It has a new connection, or none.
    Connected {
        request: u64,
        token: u64,
        shard: usize,
        server: usize,
        begun: u64,
    },
    /// The next message on a connection arrives.
    Deliver(u64),
    /// A server's answer arrives.
    Reply {
        connection: u64,
        request: u64,
        token: u64,
        answer: crate::requests::Answer,
    },
    /// The end of a connection is heard of.
    Cut(u64, Option<Farewell>),
    /// The client hears of the outcome.
    Told(u64, Verdict),
    /// The router looks at roles and times.
    Tick,
    /// Something breaks.
    Fault,
    /// It is over.
    Heal(usize, usize, crate::faults::Fault),
    /// Somebody sees to it that the shard has a primary.
    Agent(usize),
    /// Recovery.
    Sweep(crate::recovery::Phase),
}

/// What happened, so that a run says that something did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub events: u64,
    pub writes: u64,
    pub reads_on_replicas: u64,
    pub reads_on_primaries: u64,
    pub transfers: u64,
    pub unknown: u64,
    pub failed: u64,
    pub repeated: u64,
    pub held: u64,
    pub full: u64,
    pub promotions: u64,
    pub crashes: u64,
    pub breakers_opened: u64,
    pub aborted: u64,
    pub pending: u64,
    pub recovered: u64,
    pub forgotten: u64,
    pub fenced: u64,
}

impl Counts {
    fn all(&self) -> [(&'static str, u64); 18] {
        [
            ("events", self.events),
            ("writes", self.writes),
            ("reads on replicas", self.reads_on_replicas),
            ("reads on primaries", self.reads_on_primaries),
            ("transfers", self.transfers),
            ("unknown", self.unknown),
            ("failed", self.failed),
            ("repeated", self.repeated),
            ("held", self.held),
            ("full", self.full),
            ("promotions", self.promotions),
            ("crashes", self.crashes),
            ("breakers opened", self.breakers_opened),
            ("aborted", self.aborted),
            ("pending", self.pending),
            ("recovered", self.recovered),
            ("forgotten", self.forgotten),
            ("fenced", self.fenced),
        ]
    }

    pub fn add(&mut self, other: &Counts) {
        macro_rules! add { ($($field:ident)*) => { $(self.$field += other.$field;)* } }
        add!(events writes reads_on_replicas reads_on_primaries transfers unknown failed repeated held full
            promotions crashes breakers_opened aborted pending recovered forgotten fenced);
    }

    pub fn all_happened(&self) {
        for (what, count) in self.all() {
            assert!(count > 0, "{what}: never");
        }
    }
}

/// A shard as it really is.
pub struct Shard {
    pub servers: Vec<Server>,
    /// The newest timeline that the router was told of.
    pub newest_reported: u32,
    /// What each server has said of its own timeline as a primary.
    pub reported: Vec<u32>,
    /// The newest on which a write was accepted.
    pub newest_accepted: u32,
    /// When the primary was first seen to be gone.
    pub gone: Option<u64>,
    /// Items that clients know of.
    pub told: Vec<Item>,
    /// The primary that the router had before.
    pub primary_before: Option<usize>,
}

pub struct World {
    pub rng: SmallRng,
    pub at: u64,
    pub counts: Counts,
    pub trace: VecDeque<String>,
    tracing: bool,
    events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    pub source: Arc<Source>,
    pub health: Health,
    pub clocks: Vec<Arc<CommitClock>>,
    pub shards: Vec<Shard>,
    pub doubts: Doubts,
    pub held: Arc<WaitingTotals>,
    pub limits: Failover,
    pub requests: BTreeMap<u64, Request>,
    pub connections: BTreeMap<u64, crate::requests::Connection>,
    /// Answers of a primary that wait for another server to have its log so far.
    pub waiting: Vec<crate::requests::Waiting>,
    /// What clients were told of each row.
    pub verdicts: BTreeMap<u32, Verdict>,
    /// Rows that belong together.
    pub groups: Vec<(TransactionId, Vec<(usize, u32)>)>,
    pub number: u64,
    /// When each server was probed last.
    probes: Vec<Vec<Probe>>,
    pub sweep: crate::recovery::Sweep,
}

/// One server's prober.
#[derive(Clone, Copy, Debug)]
enum Probe {
    Resting { since: u64, due: u64 },
    Asking,
}

impl World {
    pub fn new(seed: u64, tracing: bool) -> World {
        let mut rng = SmallRng::seed_from_u64(seed);
        let shards = rng.random_range(2..=3);
        let source = Arc::new(Source::simulated(rng.random()));
        let clocks: Vec<Arc<CommitClock>> = (0..shards)
            .map(|_| Arc::new(CommitClock::new(16)))
            .collect();
        let server = |shard: usize, server: usize| ServerSpec {
            endpoint: Endpoint {
                id: EndpointId((shard * SERVERS + server) as u32),
                address: Address::Tcp(format!("s{shard}"), server as u16),
                encryption: Encryption::Disable,
                tls_name: None,
                tls_direct: false,
                interpreter: None,
            },
            declared: Declared::Auto,
            weight: 100,
            control: Some(tokio_postgres::Config::new()),
            kept: None,
        };
        let specs: Vec<GroupSpec> = (0..shards)
            .map(|shard| GroupSpec {
                name: format!("s{shard}"),
                servers: (0..SERVERS).map(|at| server(shard, at)).collect(),
                clock: Arc::clone(&clocks[shard]),
                gate: Arc::default(),
                fence: None,
                trust_single: false,
                patroni: Vec::new(),
            })
            .collect();
        let settings = Settings {
            watch: Watch {
                interval: Duration::from_millis(200),
                quick_interval: Duration::from_millis(40),
                pause_max: Duration::from_millis(1_000),
                timeout: Duration::from_millis(500),
                flap_window: Duration::from_secs(5),
                breaker: Limits {
                    failures: 3,
                    pause: Duration::from_millis(400),
                },
                ..Watch::default()
            },
            ..Settings::default()
        };
        let health = Health::new(&specs, &settings, Arc::clone(&source));
        let doubts = Doubts::default();
        let named = clocks.iter().enumerate();
        doubts.set_clocks(
            named
                .map(|(at, c)| (format!("s{at}"), Arc::clone(c)))
                .collect(),
        );
        let new_shard = |_| Shard {
            servers: (0..SERVERS)
                .map(|at| Server {
                    alive: true,
                    ready: true,
                    reached: true,
                    timeline: 1,
                    is_primary: at == 0,
                    ..Server::default()
                })
                .collect(),
            newest_reported: 0,
            newest_accepted: 0,
            reported: vec![0; SERVERS],
            gone: None,
            told: Vec::new(),
            primary_before: None,
        };
        let mut world = World {
            rng,
            at: 0,
            counts: Counts::default(),
            trace: VecDeque::new(),
            tracing,
            events: BTreeMap::new(),
            sequence: 0,
            source,
            health,
            clocks,
            shards: (0..shards).map(new_shard).collect(),
            doubts,
            held: Arc::default(),
            limits: Failover {
                requests: 4,
                size: ByteSize::kib(4),
                window: Duration::from_millis(WINDOW),
                drain: Duration::ZERO,
                silence: Some(Duration::from_millis(SILENCE)),
            },
            requests: BTreeMap::new(),
            connections: BTreeMap::new(),
            waiting: Vec::new(),
            verdicts: BTreeMap::new(),
            groups: Vec::new(),
            number: 0,
            probes: vec![vec![Probe::Resting { since: 0, due: 0 }; SERVERS]; shards],
            sweep: crate::recovery::Sweep::default(),
        };
        for shard in 0..shards {
            for server in 0..SERVERS {
                world.after(0, Event::Probe(shard, server));
                world.after(1, Event::Replicate(shard, server));
            }
            world.after(10, Event::Agent(shard));
        }
        for client in 0..CLIENTS {
            world.after(20, Event::Client(client));
        }
        world.after(TICK, Event::Tick);
        world.after(300, Event::Fault);
        world.after(500, Event::Sweep(crate::recovery::Phase::Decisions));
        world
    }

    /// Something happens after so many milliseconds.
    pub fn after(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((self.at + delay, self.sequence), event);
    }

    /// How long a message travels.
    pub fn travel(&mut self) -> u64 {
        match self.rng.random_range(0..100) {
            0..90 => self.rng.random_range(1..4),
            90..99 => self.rng.random_range(4..30),
            _ => self.rng.random_range(30..200),
        }
    }

    pub fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    pub fn say(&mut self, what: impl FnOnce(&World) -> String) {
        if self.tracing {
            let line = format!("{:>6} {}", self.at, what(self));
            self.trace.push_back(line);
            if self.trace.len() > 300 {
                self.trace.pop_front();
            }
        }
    }

    pub fn now(&self) -> Instant {
        self.source.now()
    }

    pub fn site(&self, shard: usize) -> Site {
        Site {
            shard: format!("s{shard}"),
            database: "d".into(),
        }
    }

    pub fn run(&mut self) {
        while let Some(((at, _), event)) = self.events.pop_first() {
            let passed = at - self.at;
            self.at = at;
            self.source.pass(Duration::from_millis(passed));
            self.counts.events += 1;
            let is_over = self.at > CLIENTS_UNTIL && self.is_quiet();
            if is_over {
                break;
            }
            assert!(self.at < END, "it does not end: {}", self.left());
            self.happen(event);
            let (requests, bytes) = self.held.now();
            assert!(
                requests <= 4 && bytes <= 4096,
                "{requests} {bytes} are held"
            );
        }
        self.check();
    }

    /// Nothing is under way, and nothing is left to recovery.
    fn is_quiet(&self) -> bool {
        self.requests.is_empty() && self.sweep.found_nothing_since(CLIENTS_UNTIL)
    }

    fn left(&self) -> String {
        format!("{:?}", self.requests.values().collect::<Vec<_>>())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Probe(shard, server) => self.probe(shard, server),
            Event::Asked(shard, server, moment, asked, sent) => {
                self.asked(shard, server, moment, asked, sent);
            }
            Event::Answered(shard, server, answer, moment, asked) => {
                self.answered(shard, server, answer, moment, asked);
            }
            Event::Unplugged(shard, server) => match self.shards[shard].servers[server].reached {
                true => self.health.report_lost(shard, server),
                false => self.after(20, Event::Unplugged(shard, server)),
            },
            Event::Replicate(shard, server) => self.replicate(shard, server),
            Event::Client(client) if self.at < CLIENTS_UNTIL => self.begin(client),
            Event::Client(_) => {}
            Event::Try(request) => self.go_on(request),
            Event::Connected {
                request,
                token,
                shard,
                server,
                begun,
            } => self.connected(request, token, shard, server, begun),
            Event::Deliver(connection) => self.deliver(connection),
            Event::Reply {
                connection,
                request,
                token,
                answer,
            } => self.reply(connection, request, token, answer),
            Event::Cut(connection, farewell) => self.cut(connection, farewell),
            Event::Told(request, verdict) => self.told(request, verdict),
            Event::Tick => self.tick(),
            Event::Fault => self.fault(),
            Event::Heal(shard, server, fault) => self.heal(shard, server, fault),
            Event::Agent(shard) => self.agent(shard),
            Event::Sweep(phase) => self.sweep_on(phase),
        }
    }

    /// A prober sends its question when it is due, or when somebody wants it.
    fn probe(&mut self, shard: usize, server: usize) {
        let Probe::Resting { since, due } = self.probes[shard][server] else {
            return;
        };
        let woken = {
            let woken = pin!(self.health.woken(shard, server));
            woken.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
        };
        if !woken && self.at < due {
            return self.after(10.min(due - self.at), Event::Probe(shard, server));
        }
        if self.at < since + 10 {
            // The least gap; who was woken asks then.
            self.probes[shard][server] = Probe::Resting {
                since,
                due: since + 10,
            };
            return self.after(since + 10 - self.at, Event::Probe(shard, server));
        }
        self.probes[shard][server] = Probe::Asking;
        let (moment, asked, sent) = (self.clocks[shard].now(), self.now(), self.at);
        let delay = self.travel();
        self.after(delay, Event::Asked(shard, server, moment, asked, sent));
    }

    fn asked(
        &mut self,
        shard: usize,
        server: usize,
        moment: WriteNumber,
        asked: Instant,
        sent: u64,
    ) {
        let of = &self.shards[shard].servers[server];
        if !of.reached {
            if self.at < sent + 500 {
                return self.after(10, Event::Asked(shard, server, moment, asked, sent));
            }
            return self.answered(shard, server, Err(Failure::TimedOut), moment, asked);
        }
        let answer = match (of.alive, of.ready) {
            (false, _) => Err(Failure::Refused),
            (true, false) => Err(Failure::NotReady),
            (true, true) => Ok(of.report()),
        };
        let delay = self.travel();
        self.after(delay, Event::Answered(shard, server, answer, moment, asked));
    }

    fn answered(
        &mut self,
        shard: usize,
        server: usize,
        answer: Result<Report, Failure>,
        moment: WriteNumber,
        asked: Instant,
    ) {
        let wrote = self.clocks[shard].now() != moment;
        match answer {
            Ok(report) => {
                let of = &mut self.shards[shard];
                match report.says {
                    ReportedRole::Primary { timeline, .. } => {
                        of.reported[server] = timeline;
                        of.newest_reported = of.newest_reported.max(timeline);
                    }
                    ReportedRole::Replica { timeline, .. } => {
                        of.newest_reported = of.newest_reported.max(timeline.unwrap_or(0));
                    }
                }
                self.health.on_report(shard, server, report, moment, asked);
            }
            Err(failure) => self.health.on_failed_probe(shard, server, failure, asked),
        }
        self.say(|w| {
            format!(
                "probe of {shard}.{server}: {answer:?}, primary {:?}",
                w.health.primary(shard)
            )
        });
        let pause = self.health.pause(shard, server, wrote).as_millis() as u64;
        self.probes[shard][server] = Probe::Resting {
            since: self.at,
            due: self.at + pause,
        };
        self.after(1, Event::Probe(shard, server));
    }

    /// What must be so at the end.
    fn check(&mut self) {
        assert_eq!(self.held.now(), (0, 0), "something is still held");
        assert_eq!(self.doubts.count(), 0, "something is still in doubt");
        let mut all: BTreeMap<(usize, u32), u32> = BTreeMap::new();
        for shard in 0..self.shards.len() {
            let primary = self.real_primary(shard);
            let contents = Contents::of(&self.shards[shard].servers[primary].log);
            assert!(
                contents.prepared.is_empty(),
                "shard {shard}: prepared {:?}",
                contents.prepared
            );
            for item in contents.visible {
                *all.entry((shard, item.id)).or_default() += 1;
                assert_eq!(all[&(shard, item.id)], 1, "row {} is there twice", item.id);
                let verdict = self.verdicts.get(&item.id);
                assert_ne!(
                    verdict,
                    Some(&Verdict::Failed),
                    "row {} failed and is there",
                    item.id
                );
            }
            for item in &self.shards[shard].told {
                assert!(
                    all.contains_key(&(shard, item.id)),
                    "row {} is lost",
                    item.id
                );
            }
        }
        for (id, rows) in &self.groups {
            let there = rows.iter().filter(|place| all.contains_key(place));
            let count = there.count();
            assert!(
                count == 0 || count == rows.len(),
                "transaction {id} is split: {count} of {rows:?} are there"
            );
        }
    }

    /// Some time after the last fault all servers are used again.
    pub fn check_healed(&mut self) {
        if self.at < HEALED || self.at >= HEALED + TICK {
            return;
        }
        for (shard, group) in self.health.snapshot().into_iter().enumerate() {
            let primary = self.real_primary(shard);
            assert_eq!(
                group.primary,
                Ok(primary),
                "shard {shard} has the wrong primary"
            );
            for (at, server) in group.servers.iter().enumerate() {
                assert_eq!(server.state, State::Up, "{shard}.{at} is not up");
                let breaker = server.view.breaker;
                assert_eq!(
                    breaker,
                    BreakerState::Closed,
                    "{shard}.{at} is not used: {server:?}"
                );
            }
        }
    }

    /// The primary on the newest timeline, dead or alive, whatever the router believes.
    pub fn real_primary(&self, shard: usize) -> usize {
        let servers = self.shards[shard].servers.iter().enumerate();
        let primaries = servers.filter(|(_, s)| s.is_primary);
        let newest = primaries.max_by_key(|(_, s)| s.timeline);
        newest.expect("there is one").0
    }
}
