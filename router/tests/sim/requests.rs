//! Requests of clients on their way through the router, and what servers do with them.

use crate::server::{Contents, Entry, Item, Record, Row};
use crate::transfer::Transfer;
use crate::world::{CONNECT, Event, FAULTS, LONGEST, SILENCE, TICK, WINDOW, World};
use mothership::commit::gid::{Backend, Place, TransactionId};
use mothership::commit::steps::{Act, Reply, Step};
use mothership::core::Holding;
use mothership::session::repeat::{Abandoned, repeats};
use mothership_pool::balance::InFlight;
use mothership_pool::connection::Farewell;
use mothership_pool::health::{
    Among, BreakerState, Choice, Failure, Freshness, Need, Read, Reads, Scope, WhyNot,
};
use rand::RngExt;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A request chooses a replica at most so often before it goes to the primary.
const TRIES: u32 = 3;
/// What is committed and not finished on a shard is waited for so long.
const DOUBT: u64 = 5_000;

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Done,
    /// It has not happened.
    Failed,
    /// 08007.
    Unknown,
}

#[derive(Debug)]
pub enum Kind {
    Write {
        shard: usize,
        item: Item,
    },
    Read {
        shard: usize,
        part: Option<u64>,
        fresh: bool,
    },
    Transfer(Box<Transfer>),
}

#[derive(Debug)]
pub struct Request {
    pub client: usize,
    pub begun: u64,
    pub kind: Kind,
    /// Answers to what was sent before are not for it.
    pub token: u64,
    pub repeated: u8,
    /// How many rows of each shard clients knew of when it arrived.
    pub told: Vec<usize>,
    pub among: Among,
    pub tries: u32,
    pub holding: Option<(u64, Holding)>,
    /// Since when it waits for something in doubt.
    pub doubt: Option<u64>,
    pub flight: Option<InFlight>,
    pub connection: Option<u64>,
    pub sent: u64,
    /// It ends as soon as its client has heard of it.
    pub over: bool,
    /// What the replica that was chosen must have been asked after.
    pub choice: Option<Choice>,
}

/// A connection to a server. Messages arrive in their order.
#[derive(Debug)]
pub struct Connection {
    pub shard: usize,
    pub server: usize,
    pub run: u32,
    pub opened: Instant,
    pub queue: VecDeque<Message>,
    /// Who waits for an answer on it.
    pub owed: Option<(u64, u64)>,
    /// The router has closed it; the server may not have heard of it.
    pub closed: bool,
    /// Nobody works with it.
    pub idle: bool,
}

#[derive(Debug)]
pub struct Message {
    pub request: u64,
    pub token: u64,
    pub body: Body,
}

#[derive(Debug)]
pub enum Body {
    Insert(Item),
    Select(Option<u64>),
    /// The same in a transaction that stays open.
    Work(Item),
    Act(Box<Step>, TransactionId, Item),
    Close,
}

/// What a server answers.
#[derive(Clone, Debug)]
pub enum Answer {
    Inserted { timeline: u32 },
    Rows { missing: Option<u32> },
    Worked,
    Said(Reply),
    ReadOnly,
}

/// An answer that waits until another server has the log up to here.
#[derive(Debug)]
pub struct Waiting {
    pub shard: usize,
    pub server: usize,
    pub run: u32,
    pub position: usize,
    pub connection: u64,
    pub request: u64,
    pub token: u64,
    pub answer: Answer,
}

pub fn place(shard: usize) -> Place {
    Place {
        system: shard as u64 + 1,
        database: 5,
    }
}

impl World {
    /// A client sends a request.
    pub fn begin(&mut self, client: usize) {
        let shards = self.shards.len();
        let shard = self.rng.random_range(0..shards);
        let item = |world: &mut World| Item {
            id: world.next() as u32,
            part: world.rng.random_range(0..4),
        };
        let kind = match self.rng.random_range(0..100) {
            0..45 => Kind::Read {
                shard,
                part: self
                    .rng
                    .random_bool(0.7)
                    .then(|| self.rng.random_range(0..4)),
                fresh: self.rng.random_bool(0.9),
            },
            45..80 => Kind::Write {
                shard,
                item: item(self),
            },
            _ => {
                let count = self.rng.random_range(2..=shards);
                let others = (0..count).map(|at| (shard + at) % shards).collect();
                let items = (0..count).map(|_| item(self)).collect();
                let id = TransactionId(u128::from(self.next()));
                Kind::Transfer(Box::new(Transfer::new(id, others, items)))
            }
        };
        if let Kind::Transfer(transfer) = &kind {
            let rows = transfer.shards.iter().zip(&transfer.items);
            let rows = rows.map(|(shard, item)| (*shard, item.id)).collect();
            self.groups.push((transfer.id, rows));
        }
        let number = self.next();
        self.say(|_| format!("request {number}: {kind:?}"));
        let token = self.next();
        let request = Request {
            client,
            begun: self.at,
            kind,
            token,
            repeated: 0,
            told: self.shards.iter().map(|s| s.told.len()).collect(),
            among: Among::ALL,
            tries: 0,
            holding: None,
            doubt: None,
            flight: None,
            connection: None,
            sent: 0,
            over: false,
            choice: None,
        };
        self.requests.insert(number, request);
        self.go_on(number);
    }

    /// A request looks for a server, or goes on to.
    pub fn go_on(&mut self, number: u64) {
        let Some(request) = self.requests.get(&number).filter(|r| !r.over) else {
            return;
        };
        let shard = match &request.kind {
            Kind::Transfer(_) => return self.join_next(number),
            Kind::Write { shard, .. } | Kind::Read { shard, .. } => *shard,
        };
        if self.waits_for_doubts(number, shard) {
            return;
        }
        let request = &self.requests[&number];
        if let Kind::Read { part, fresh, .. } = request.kind
            && request.holding.is_none()
            && request.tries < TRIES
        {
            let scope = part.map_or(Scope::All, Scope::Part);
            let freshness = match fresh {
                true => Freshness::Seen(self.clocks[shard].needed(scope)),
                false => Freshness::Any,
            };
            let read = Read {
                freshness,
                reads: Reads::Any,
                among: request.among,
            };
            let choice = self.health.choose(shard, Need::Read(read), &mut self.rng);
            if let Ok(choice) = choice {
                self.check_breaker(shard, choice.server, read);
            }
            if let Ok(choice) = choice
                && !choice.is_primary
            {
                let request = self.requests.get_mut(&number).unwrap();
                request.tries += 1;
                request.choice = Some(choice);
                return self.lease(number, shard, choice.server);
            }
        }
        match self.writer(shard) {
            Ok(server) => self.lease(number, shard, server),
            Err(_) => self.hold(number, WINDOW),
        }
    }

    /// The server that is asked to write: never one on a timeline that was replaced as far as the router knows.
    pub fn writer(&self, shard: usize) -> Result<usize, WhyNot> {
        let server = self.health.writer(shard)?;
        let of = &self.shards[shard];
        assert!(
            of.reported[server] >= of.newest_reported,
            "server {shard}.{server} of timeline {} is asked to write after {} was seen",
            of.reported[server],
            of.newest_reported
        );
        Ok(server)
    }

    /// What fails gets nothing that another one can take.
    fn check_breaker(&mut self, shard: usize, server: usize, read: Read) {
        let group = &self.health.snapshot()[shard];
        if group.servers[server].view.breaker != BreakerState::Open {
            return;
        }
        let others = Read {
            among: read.among.without(server),
            ..read
        };
        let other = self.health.choose(shard, Need::Read(others), &mut self.rng);
        if let Ok(other) = other {
            let breaker = group.servers[other.server].view.breaker;
            assert_ne!(
                breaker,
                BreakerState::Closed,
                "server {shard}.{server} is chosen though its breaker is open"
            );
        }
    }

    /// Whether a request waits for something that is committed and not finished on the shard.
    pub fn waits_for_doubts(&mut self, number: u64, shard: usize) -> bool {
        if !self.doubts.has(&self.site(shard)) {
            return false;
        }
        let at = self.at;
        let since = *self
            .requests
            .get_mut(&number)
            .unwrap()
            .doubt
            .get_or_insert(at);
        if at >= since + DOUBT {
            self.end(number, Verdict::Failed);
        } else {
            self.after(20, Event::Try(number));
        }
        true
    }

    /// A request waits for a primary, if it may.
    pub fn hold(&mut self, number: u64, limit: u64) {
        let until = self.at + limit;
        let bytes = self.rng.random_range(100..2_500);
        let request = self.requests.get_mut(&number).unwrap();
        match &request.holding {
            Some((until, _)) if self.at >= *until => return self.end(number, Verdict::Failed),
            Some(_) => {}
            None => match self.held.hold(bytes, &self.limits) {
                Ok(holding) => {
                    self.counts.held += 1;
                    request.holding = Some((until, holding));
                }
                Err(_) => {
                    self.counts.full += 1;
                    return self.end(number, Verdict::Failed);
                }
            },
        }
        self.after(50, Event::Try(number));
    }

    /// A connection to a server, idle or new.
    pub fn lease(&mut self, number: u64, shard: usize, server: usize) {
        self.requests.get_mut(&number).unwrap().flight = self.health.begin(shard, server);
        let idle = self
            .connections
            .iter()
            .find(|(_, c)| c.idle && !c.closed && (c.shard, c.server) == (shard, server));
        if let Some((idle, _)) = idle {
            let idle = *idle;
            self.connections.get_mut(&idle).unwrap().idle = false;
            return self.leased(number, shard, server, idle);
        }
        let token = self.next();
        self.requests.get_mut(&number).unwrap().token = token;
        let (delay, begun) = (self.travel(), self.at);
        self.after(
            delay,
            Event::Connected {
                request: number,
                token,
                shard,
                server,
                begun,
            },
        );
    }

    pub fn connected(&mut self, number: u64, token: u64, shard: usize, server: usize, begun: u64) {
        if self
            .requests
            .get(&number)
            .is_none_or(|r| r.token != token || r.over)
        {
            return;
        }
        let of = &self.shards[shard].servers[server];
        if !of.reached && self.at < begun + CONNECT {
            let event = Event::Connected {
                request: number,
                token,
                shard,
                server,
                begun,
            };
            return self.after(20, event);
        }
        let failure = match (of.reached, of.alive, of.ready) {
            (false, ..) => Failure::TimedOut,
            (_, false, _) => Failure::Refused,
            (_, _, false) => Failure::NotReady,
            _ => {
                let connection = self.open(shard, server);
                let request = &self.requests[&number];
                let for_replica = request.choice.as_ref().is_some_and(|c| !c.is_primary);
                if !for_replica && self.health.writer(shard) != Ok(server) {
                    // It was long in coming: meanwhile another server may be the primary, or about to be.
                    self.connections.get_mut(&connection).unwrap().idle = true;
                    let request = self.requests.get_mut(&number).unwrap();
                    (request.flight, request.choice) = (None, None);
                    return self.after(0, Event::Try(number));
                }
                return self.leased(number, shard, server, connection);
            }
        };
        self.say(|_| format!("request {number}: no connection to {shard}.{server}: {failure}"));
        self.health.report_connect_failure(shard, server, failure);
        let request = self.requests.get_mut(&number).unwrap();
        request.flight = None;
        if let Kind::Transfer(_) = request.kind {
            return self.hold_transfer(number);
        }
        if request
            .choice
            .take()
            .is_some_and(|choice| !choice.is_primary)
        {
            request.among = request.among.without(server);
            return self.after(0, Event::Try(number));
        }
        self.hold(number, WINDOW);
    }

    pub fn open(&mut self, shard: usize, server: usize) -> u64 {
        let number = self.next();
        let opened = self.now();
        let of = &mut self.shards[shard].servers[server];
        let backend = Backend::Process {
            place: place(shard),
            pid: number as i32,
            started: i64::from(of.run) * 1_000_000 + number as i64,
        };
        of.backends.insert(number, backend);
        let connection = Connection {
            shard,
            server,
            run: of.run,
            opened,
            queue: VecDeque::new(),
            owed: None,
            closed: false,
            idle: false,
        };
        self.connections.insert(number, connection);
        number
    }

    fn leased(&mut self, number: u64, shard: usize, server: usize, connection: u64) {
        let opened = self.connections[&connection].opened;
        let request = self.requests.get_mut(&number).unwrap();
        if let Kind::Transfer(_) = request.kind {
            return self.work(number, shard, connection);
        }
        let choice = request.choice.take();
        let covered = choice.is_none_or(|choice| choice.covers(opened));
        if !covered {
            // It lies in the pool and is good after the next probe.
            request.flight = None;
            request.among = request.among.without(server);
            self.connections.get_mut(&connection).unwrap().idle = true;
            return self.after(0, Event::Try(number));
        }
        let body = match request.kind {
            Kind::Write { item, .. } => Body::Insert(item),
            Kind::Read { part, .. } => {
                match choice {
                    Some(_) => self.counts.reads_on_replicas += 1,
                    None => self.counts.reads_on_primaries += 1,
                }
                Body::Select(part)
            }
            Kind::Transfer(_) => unreachable!("it has gone its own way"),
        };
        request.holding = None;
        self.send(number, connection, body);
    }

    /// Sends a message and waits for its answer.
    pub fn send(&mut self, number: u64, connection: u64, body: Body) -> u64 {
        let token = self.next();
        if let Some(request) = self.requests.get_mut(&number) {
            request.sent = self.at;
            if !matches!(request.kind, Kind::Transfer(_)) {
                request.token = token;
                request.connection = Some(connection);
            }
        }
        self.say(|w| {
            let c = &w.connections[&connection];
            format!(
                "request {number}: to {}.{} by {connection}: {body:?}",
                c.shard, c.server
            )
        });
        let to = self.connections.get_mut(&connection).unwrap();
        if !matches!(body, Body::Close) {
            to.owed = Some((number, token));
        }
        to.queue.push_back(Message {
            request: number,
            token,
            body,
        });
        let delay = self.travel();
        self.after(delay, Event::Deliver(connection));
        token
    }

    /// The router closes a connection; the server hears of it after all that was sent before.
    pub fn close(&mut self, connection: u64) {
        if let Some(of) = self.connections.get_mut(&connection).filter(|c| !c.closed) {
            of.closed = true;
            of.idle = false;
            of.owed = None;
            self.send(0, connection, Body::Close);
        }
    }

    pub fn deliver(&mut self, number: u64) {
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        let (shard, server, run) = (connection.shard, connection.server, connection.run);
        let of = &self.shards[shard].servers[server];
        if !of.reached {
            return self.after(15, Event::Deliver(number));
        }
        if !of.alive || of.run != run {
            let delay = self.travel();
            return self.after(delay, Event::Cut(number, None));
        }
        let resets = of.resets && self.rng.random_bool(0.7);
        let message = self.connections.get_mut(&number).unwrap().queue.pop_front();
        let message = message.expect("each message has one event");
        if resets && !matches!(message.body, Body::Close) {
            if self.rng.random_bool(0.5) {
                self.execute(number, shard, server, message);
            }
            let of = &mut self.shards[shard].servers[server];
            of.open.remove(&number);
            of.backends.remove(&number);
            let delay = self.travel();
            return self.after(delay, Event::Cut(number, None));
        }
        self.execute(number, shard, server, message);
    }

    fn append(&mut self, shard: usize, server: usize, record: Record) -> usize {
        let serial = self.next();
        self.say(|_| format!("{shard}.{server} writes {record:?}"));
        let of = &mut self.shards[shard].servers[server];
        of.log.push(Rc::new(Entry { serial, record }));
        of.log.len()
    }

    /// What a server does with a message.
    fn execute(&mut self, connection: u64, shard: usize, server: usize, message: Message) {
        let Message {
            request,
            token,
            body,
        } = message;
        let of = &mut self.shards[shard].servers[server];
        if let Body::Close = body {
            of.open.remove(&connection);
            of.backends.remove(&connection);
            self.connections.remove(&connection);
            return;
        }
        let (timeline, run, log) = (of.timeline, of.run, of.log.len());
        let writes = !matches!(body, Body::Select(_));
        let (answer, position) = if writes && !of.is_primary {
            let answer = match body {
                Body::Act(..) => Answer::Said(refused("25006")),
                _ => Answer::ReadOnly,
            };
            (answer, 0)
        } else {
            match body {
                Body::Insert(item) => {
                    let position = self.append(shard, server, Record::Insert(item));
                    (Answer::Inserted { timeline }, position)
                }
                Body::Select(part) => {
                    let missing = self.missing(shard, server, request, part);
                    (Answer::Rows { missing }, 0)
                }
                Body::Work(item) => {
                    of.open.insert(connection, item);
                    (Answer::Worked, 0)
                }
                Body::Act(step, id, item) => {
                    self.act(connection, shard, server, &step, id, item, log)
                }
                Body::Close => unreachable!("it was closed above"),
            }
        };
        let waits = Waiting {
            shard,
            server,
            run,
            position,
            connection,
            request,
            token,
            answer,
        };
        self.answer_or_wait(waits);
    }

    fn answer_or_wait(&mut self, waits: Waiting) {
        let of = &self.shards[waits.shard].servers[waits.server];
        if of.is_primary && of.synced < waits.position {
            return self.waiting.push(waits);
        }
        self.answer(waits);
    }

    fn answer(&mut self, waits: Waiting) {
        if let Answer::Inserted { timeline } = waits.answer {
            let newest = &mut self.shards[waits.shard].newest_accepted;
            assert!(
                timeline >= *newest,
                "a write is accepted on timeline {timeline} after {newest}"
            );
            *newest = timeline;
        }
        let delay = self.travel();
        let event = Event::Reply {
            connection: waits.connection,
            request: waits.request,
            token: waits.token,
            answer: waits.answer,
        };
        self.after(delay, event);
    }

    /// Another server has more of a primary's log.
    pub fn synced(&mut self, shard: usize, server: usize, position: usize) {
        let of = &mut self.shards[shard].servers[server];
        of.synced = of.synced.max(position);
        of.ready |= of.alive && of.synced >= of.log.len();
        let (synced, run) = (of.synced, of.run);
        let here = |w: &Waiting| (w.shard, w.server) == (shard, server);
        let waiting = std::mem::take(&mut self.waiting);
        for waits in waiting {
            match here(&waits) {
                true if waits.run != run => {}
                true if waits.position <= synced => self.answer(waits),
                _ => self.waiting.push(waits),
            }
        }
    }

    fn missing(&self, shard: usize, server: usize, request: u64, part: Option<u64>) -> Option<u32> {
        let of = &self.shards[shard];
        let known = self.requests.get(&request)?.told[shard];
        let shown = Contents::of(of.servers[server].shown()).visible;
        let shown: std::collections::HashSet<u32> = shown.iter().map(|item| item.id).collect();
        let told = of.told[..known].iter();
        let mut concerned = told.filter(|item| part.is_none_or(|part| part == item.part));
        concerned
            .find(|item| !shown.contains(&item.id))
            .map(|item| item.id)
    }

    /// What a server does for a step of a commit: its answer, and up to where another server must have the log before.
    #[allow(clippy::too_many_arguments)]
    fn act(
        &mut self,
        connection: u64,
        shard: usize,
        server: usize,
        step: &Step,
        id: TransactionId,
        item: Item,
        log: usize,
    ) -> (Answer, usize) {
        let at = self.at;
        let of = &mut self.shards[shard].servers[server];
        let contents = Contents::of(&of.log);
        let said = |reply| Answer::Said(reply);
        match step.act {
            Act::Ask => {
                let Some(Backend::Process {
                    place,
                    pid,
                    started,
                }) = of.backends.get(&connection)
                else {
                    return (said(Reply::Lost), 0);
                };
                let Place { system, database } = place;
                let row = format!("{system} {database} {pid} {started}");
                (said(done("SELECT 1", Some(row))), 0)
            }
            Act::Rollback => {
                of.open.remove(&connection);
                (said(done("ROLLBACK", None)), 0)
            }
            Act::Finish(commit) => match contents.prepared.contains_key(&id) {
                // Whoever finishes it waits for another server, and holds it meanwhile.
                false if Contents::of(of.shown()).prepared.contains_key(&id) => {
                    (said(refused("55000")), 0)
                }
                false => (said(refused("42704")), 0),
                true => {
                    let position = self.append(shard, server, Record::Finish { id, commit });
                    let tag = match commit {
                        true => "COMMIT PREPARED",
                        false => "ROLLBACK PREPARED",
                    };
                    (said(done(tag, None)), position)
                }
            },
            Act::Fence => {
                let Some(backend) = backend_of(step) else {
                    return (said(refused("XX000")), 0);
                };
                let (row, position) = self.fence(shard, server, id, backend);
                (said(done("SELECT 1", Some(row.into()))), position)
            }
            Act::Prepare | Act::Decide | Act::Commit => {
                if of.open.remove(&connection).is_none() {
                    return (said(done("ROLLBACK", None)), 0);
                }
                match step.act {
                    Act::Prepare => {
                        let gid = step.gid.clone().expect("what is prepared has a name");
                        let record = Record::Prepare { gid, item, at };
                        let position = self.append(shard, server, record);
                        (said(done("PREPARE TRANSACTION", None)), position)
                    }
                    Act::Decide if contents.decisions.contains_key(&id) => {
                        (said(refused("40001")), log)
                    }
                    Act::Decide => {
                        let backend = of.backends[&connection];
                        let row = Row {
                            backend,
                            committed: true,
                            participants: participants(step),
                            at,
                        };
                        let record = Record::Decide { id, item, row };
                        let position = self.append(shard, server, record);
                        (said(done("COMMIT", None)), position)
                    }
                    _ => {
                        let position = self.append(shard, server, Record::Insert(item));
                        (said(done("COMMIT", None)), position)
                    }
                }
            }
        }
    }

    /// Makes the outcome of a transaction final at its decider.
    pub fn fence(
        &mut self,
        shard: usize,
        server: usize,
        id: TransactionId,
        backend: Backend,
    ) -> (&'static str, usize) {
        let of = &self.shards[shard].servers[server];
        let contents = Contents::of(&of.log);
        match contents.decisions.get(&id) {
            // One that waits for another server is waited for.
            Some(row) if row.committed => ("commit", of.log.len()),
            Some(_) => ("abort", of.log.len()),
            None => {
                self.counts.fenced += 1;
                let row = Row {
                    backend,
                    committed: false,
                    participants: Vec::new(),
                    at: self.at,
                };
                let position = self.append(shard, server, Record::Abort { id, row });
                ("abort", position)
            }
        }
    }

    pub fn finish_prepared(
        &mut self,
        shard: usize,
        server: usize,
        id: TransactionId,
        commit: bool,
    ) -> Option<usize> {
        let contents = Contents::of(&self.shards[shard].servers[server].log);
        let held = contents.prepared.contains_key(&id);
        held.then(|| self.append(shard, server, Record::Finish { id, commit }))
    }

    pub fn forget(&mut self, shard: usize, server: usize, id: TransactionId) {
        self.append(shard, server, Record::Forget { id });
    }

    /// A server's answer arrives.
    pub fn reply(&mut self, connection: u64, number: u64, token: u64, answer: Answer) {
        let Some(of) = self.connections.get_mut(&connection).filter(|c| !c.closed) else {
            return;
        };
        let (shard, server) = (of.shard, of.server);
        if !self.shards[shard].servers[server].reached {
            let event = Event::Reply {
                connection,
                request: number,
                token,
                answer,
            };
            return self.after(15, event);
        }
        if of.owed != Some((number, token)) {
            return;
        }
        of.owed = None;
        self.say(|_| format!("request {number}: {shard}.{server} says {answer:?}"));
        let Some(request) = self.requests.get_mut(&number) else {
            return self.close(connection);
        };
        if let Kind::Transfer(_) = request.kind {
            return self.transfer_said(number, shard, connection, answer);
        }
        let took = Duration::from_millis(self.at - request.sent);
        let flight = request.flight.take();
        self.connections.get_mut(&connection).unwrap().idle = true;
        let now = self.now();
        match answer {
            Answer::ReadOnly => {
                // Perhaps it is none any longer.
                self.health.report_lost(shard, server);
                return self.end(number, Verdict::Failed);
            }
            Answer::Inserted { .. } => {
                let Kind::Write { item, .. } = self.requests[&number].kind else {
                    unreachable!("it has written");
                };
                self.clocks[shard].acknowledge(Scope::Part(item.part));
                self.counts.writes += 1;
            }
            Answer::Rows { missing } => {
                let Kind::Read { fresh, .. } = self.requests[&number].kind else {
                    unreachable!("it has read");
                };
                if let (true, Some(missing)) = (fresh, missing) {
                    panic!("request {number} on {shard}.{server} misses row {missing}");
                }
            }
            Answer::Worked | Answer::Said(_) => unreachable!("it is no transaction"),
        }
        if let Some(flight) = flight {
            flight.answered();
            flight.finish(took, now);
        }
        self.end(number, Verdict::Done);
    }

    /// The router hears that a connection has ended.
    pub fn cut(&mut self, connection: u64, farewell: Option<Farewell>) {
        let Some(of) = self.connections.get(&connection) else {
            return;
        };
        let (shard, server) = (of.shard, of.server);
        if !self.shards[shard].servers[server].reached {
            return self.after(25, Event::Cut(connection, farewell));
        }
        self.lose(connection, farewell);
        self.connections.remove(&connection);
    }

    /// A connection is of no use any more: whoever works with it hears of that.
    pub fn lose(&mut self, connection: u64, farewell: Option<Farewell>) {
        let Some(of) = self.connections.get_mut(&connection).filter(|c| !c.closed) else {
            return;
        };
        let (shard, server) = (of.shard, of.server);
        let age = self.source.now().saturating_duration_since(of.opened);
        let owed = of.owed.take();
        self.close(connection);
        let Some((number, _)) = owed else {
            // Nobody works with it, or a transaction that will find out.
            return;
        };
        self.say(|_| format!("request {number}: lost {shard}.{server}, {farewell:?}"));
        self.health.report_broken(shard, server);
        let Some(request) = self.requests.get_mut(&number).filter(|r| !r.over) else {
            return;
        };
        request.flight = None;
        match &request.kind {
            Kind::Transfer(_) => self.transfer_lost(number, shard, connection),
            Kind::Read { .. } => {
                let silent = self.health.down_for(shard, server);
                let silent = silent.is_some_and(|down| down >= Duration::from_millis(SILENCE));
                if !silent && repeats(farewell, age, request.repeated) {
                    request.repeated += 1;
                    assert!(request.repeated <= 4, "{request:?} is sent again and again");
                    request.tries = 0;
                    request.among = Among::ALL;
                    request.token = 0;
                    self.counts.repeated += 1;
                    self.forsake(shard, server);
                    return self.after(0, Event::Try(number));
                }
                self.abandon(number, false);
            }
            Kind::Write { shard, .. } => {
                self.clocks[*shard].acknowledge(Scope::All);
                self.abandon(number, true);
            }
        }
    }

    fn abandon(&mut self, number: u64, may_write: bool) {
        let abandoned = Abandoned {
            committing: false,
            unreplicated: false,
            autocommit: true,
            may_write,
        };
        let verdict = match abandoned.is_unknown() {
            true => Verdict::Unknown,
            false => Verdict::Failed,
        };
        self.end(number, verdict);
    }

    /// Those that lie idle may be about to end as well.
    pub fn forsake(&mut self, shard: usize, server: usize) {
        let idle = self.connections.iter();
        let idle = idle.filter(|(_, c)| c.idle && (c.shard, c.server) == (shard, server));
        let idle: Vec<u64> = idle.map(|(number, _)| *number).collect();
        idle.into_iter().for_each(|number| self.close(number));
    }

    /// The outcome is on its way to the client.
    pub fn end(&mut self, number: u64, verdict: Verdict) {
        let at = self.at;
        let request = self.requests.get_mut(&number).unwrap();
        assert!(at - request.begun <= LONGEST, "{request:?} took too long");
        request.over = true;
        request.holding = None;
        request.flight = None;
        self.say(|_| format!("request {number}: {verdict:?}"));
        let delay = self.travel();
        self.after(delay, Event::Told(number, verdict));
    }

    pub fn told(&mut self, number: u64, verdict: Verdict) {
        let request = self
            .requests
            .remove(&number)
            .expect("it was not told before");
        let items: Vec<(usize, Item)> = match &request.kind {
            Kind::Write { shard, item } => vec![(*shard, *item)],
            Kind::Read { .. } => Vec::new(),
            Kind::Transfer(transfer) => {
                let all = transfer.shards.iter().zip(&transfer.items);
                all.map(|(shard, item)| (*shard, *item)).collect()
            }
        };
        for (shard, item) in items {
            self.verdicts.insert(item.id, verdict);
            if verdict == Verdict::Done {
                self.shards[shard].told.push(item);
            }
        }
        match verdict {
            Verdict::Done => {}
            Verdict::Failed => self.counts.failed += 1,
            Verdict::Unknown => self.counts.unknown += 1,
        }
        let pause = match self.at < FAULTS {
            true => self.rng.random_range(2..60),
            false => self.rng.random_range(20..200),
        };
        self.after(pause, Event::Client(request.client));
    }

    /// The router looks at roles, at silence and at what takes too long.
    pub fn tick(&mut self) {
        self.after(TICK, Event::Tick);
        let silence = Duration::from_millis(SILENCE);
        for shard in 0..self.shards.len() {
            if let Ok(primary) = self.health.primary(shard) {
                let before = self.shards[shard].primary_before.replace(primary);
                if let Some(before) = before.filter(|before| *before != primary) {
                    self.break_off(shard, before);
                }
            }
            for server in 0..crate::world::SERVERS {
                let down = self.health.down_for(shard, server);
                if down.is_some_and(|down| down >= silence) {
                    self.break_off(shard, server);
                }
            }
        }
        self.tick_transfers();
        if self.rng.random_bool(0.2) {
            // Those that nobody has used for long are closed.
            let shard = self.rng.random_range(0..self.shards.len());
            let server = self.rng.random_range(0..crate::world::SERVERS);
            self.forsake(shard, server);
        }
        let opened = self.health.snapshot();
        let open = opened.iter().flat_map(|group| &group.servers);
        let open = open.filter(|server| server.view.breaker == BreakerState::Open);
        self.counts.breakers_opened += open.count() as u64;
        let late = self.requests.values().find(|r| self.at - r.begun > LONGEST);
        assert!(late.is_none(), "{late:?} does not end");
        self.check_healed();
    }

    fn break_off(&mut self, shard: usize, server: usize) {
        let all = self.connections.iter();
        let all = all.filter(|(_, c)| !c.closed && (c.shard, c.server) == (shard, server));
        let all: Vec<u64> = all.map(|(number, _)| *number).collect();
        all.into_iter().for_each(|number| self.lose(number, None));
    }
}

pub fn done(tag: &str, row: Option<String>) -> Reply {
    Reply::Done {
        tag: tag.into(),
        row,
    }
}

pub fn refused(sqlstate: &str) -> Reply {
    Reply::Refused {
        sqlstate: sqlstate.into(),
        idle: true,
    }
}

/// The shards that a decision names: `decide('…', pid, started, 's0,s1')`.
fn participants(step: &Step) -> Vec<String> {
    let names = step.sql.rsplit_once(", '").map(|(_, rest)| rest);
    let names = names
        .and_then(|rest| rest.split_once('\''))
        .map(|(names, _)| names);
    let names = names.unwrap_or_else(|| panic!("{}", step.sql)).split(',');
    names.map(str::to_owned).collect()
}

/// The backend that a fence names: `fence('…', pid, started)`.
fn backend_of(step: &Step) -> Option<Backend> {
    let arguments = step.sql.rsplit_once("fence(")?.1;
    let mut arguments = arguments.trim_end_matches(')').split(", ").skip(1);
    Some(Backend::Process {
        place: place(step.shard.index()),
        pid: arguments.next()?.parse().ok()?,
        started: arguments.next()?.parse().ok()?,
    })
}
