//! What the cores see of all groups, and the choice of a server for a request.
//!
//! [`Health::choose`] reads atomics only: no lock, no allocation, no clock (except
//! for bounded staleness). Behind each group's mutex stands its [`Group`], which
//! probes and rare failures change; what follows from it is published to the
//! atomics at once. No guard is held across an `await`.

use super::breaker::BreakerState;
use super::clock::{CommitClock, WriteNumber};
use super::group::{Fence, Group, MemberSpec, NoPrimary, Role, Rules, ServerView};
use super::hold::{Gate, Hold};
use super::need::{Among, Choice, Freshness, Need, NoServer, Read, Reads, WhyNot, bit};
use super::report::Report;
use super::source::Source;
use super::spec::{
    GroupSpec, Hand, HandState, ServerSnapshot, ServerSpec, Settings, Snapshot, SurvivesReload,
};
use super::state::{Failure, State, Watch};
use crate::balance::{self, Candidate, InFlight, ServerLoad};
use crate::endpoint::{Endpoint, EndpointId};
use rand::{Rng, RngExt};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// What the cores see of all groups.
#[derive(Debug)]
pub struct Health {
    groups: Box<[GroupState]>,
    source: Arc<Source>,
    start: Instant,
    half_life: Duration,
    watch: Watch,
    changes: watch::Sender<u64>,
    elections: watch::Sender<u64>,
    /// Nobody asks the servers for it any longer.
    over: AtomicBool,
}

#[derive(Debug)]
struct GroupState {
    name: String,
    group: Mutex<Group>,
    clock: Arc<CommitClock>,
    /// Index of the primary, or why there is none.
    primary: AtomicU32,
    gate: Arc<Gate>,
    asked: AtomicBool,
    servers: Box<[ServerState]>,
}

#[derive(Debug)]
struct ServerState {
    endpoint: Endpoint,
    load: Arc<ServerLoad>,
    /// The weight of the configuration.
    configured: u32,
    hand: Arc<HandState>,
    /// A replica that may serve reads.
    fit: AtomicBool,
    /// What it has seen, plus 1; 0 if nothing is certain.
    seen: AtomicU64,
    /// Up to when it has everything, in nanoseconds since the start plus 1; 0 if nothing is certain.
    until: AtomicU64,
    /// When it was asked that, in nanoseconds since the start. Written after `seen` and read before it, so that a new
    /// time is never taken together with an old `seen`.
    asked: AtomicU64,
    /// An f32.
    penalty: AtomicU32,
    /// What its breaker lets through: [`CLOSED`], [`HALF_OPEN`] or [`OPEN`].
    breaker: AtomicU8,
    served_before: AtomicU64,
    /// Words that it has told of itself, with spaces between them.
    labels: Mutex<String>,
    /// Wakes its prober.
    wake: Notify,
    /// How often its name came to mean another address.
    moves: AtomicU64,
    ended: watch::Sender<Ended>,
}

/// The last probe that has ended.
#[derive(Clone, Copy, Debug, Default)]
struct Ended {
    /// When it was sent, in nanoseconds since the start.
    asked: u64,
    answered: bool,
}

const CLOSED: u8 = 0;
const HALF_OPEN: u8 = 1;
const OPEN: u8 = 2;

impl Health {
    /// Nothing known yet. Who asks the servers says so by [`Self::on_report`] and [`Self::on_failed_probe`].
    pub fn new(specs: &[GroupSpec], settings: &Settings, source: Arc<Source>) -> Health {
        let start = source.now();
        let groups = specs.iter().map(|spec| {
            let members: Vec<MemberSpec> = spec.servers.iter().map(ServerSpec::member).collect();
            let rules = Rules {
                trust_single: spec.trust_single || settings.rules.trust_single,
                ..settings.rules.clone()
            };
            let group = Group::new(&members, settings.watch.clone(), rules, spec.fence, start);
            let servers = spec.servers.iter().take(super::MAX_SERVERS);
            let state = GroupState {
                name: spec.name.clone(),
                group: Mutex::new(group),
                clock: Arc::clone(&spec.clock),
                primary: AtomicU32::new(encode(Err(NoPrimary::Asking))),
                gate: Arc::clone(&spec.gate),
                asked: AtomicBool::new(false),
                servers: servers
                    .map(|server| ServerState::new(server, settings.latency_half_life, start))
                    .collect(),
            };
            state.publish(&state.lock(), start, start);
            state
        });
        Health {
            groups: groups.collect(),
            source,
            start,
            half_life: settings.latency_half_life,
            watch: settings.watch.clone(),
            changes: watch::Sender::new(0),
            elections: watch::Sender::new(0),
            over: AtomicBool::new(false),
        }
    }

    /// The server for a request.
    pub fn choose(&self, group: usize, need: Need, rng: &mut impl Rng) -> Result<Choice, NoServer> {
        let fail = |why| NoServer { group, why };
        let state = self.groups.get(group).ok_or(fail(WhyNot::NoGroup))?;
        let primary = state.taking();
        match need {
            Need::Write => state.primary_choice(primary, Among::ALL),
            Need::Read(read) if read.reads.is_of_primary(primary.is_ok()) => {
                state.primary_choice(primary, read.among)
            }
            Need::Read(read) => self.choose_reader(state, primary, read, rng),
        }
        .map_err(fail)
    }

    fn choose_reader(
        &self,
        state: &GroupState,
        primary: Result<usize, NoPrimary>,
        read: Read,
        rng: &mut impl Rng,
    ) -> Result<Choice, WhyNot> {
        let among = match (read.reads, primary) {
            (Reads::Replicas, Ok(primary)) => read.among.without(primary),
            _ => read.among,
        };
        let now = match read.freshness {
            Freshness::Within(_) => self.nanos(self.source.now()),
            Freshness::Seen(_) | Freshness::Any => 0,
        };
        let (mut weighty, mut weightless, mut spare) = (0_u64, 0_u64, 0_u64);
        let mut trial = 0_u64;
        // When each candidate was asked, for the one that is chosen.
        let mut asked = [0_u64; super::MAX_SERVERS];
        for (index, server) in state.servers.iter().enumerate() {
            if !among.has(index) || server.hand.is_out() {
                continue;
            }
            if primary != Ok(index) {
                asked[index] = server.asked.load(Ordering::Acquire);
                if !server.may_serve(read.freshness, now) {
                    continue;
                }
            }
            match server.weight() {
                // What fails gets nothing that another one can take.
                _ if !server.lets_through() => spare |= bit(index),
                0 => weightless |= bit(index),
                // Its latency from before would keep it from ever being tried.
                _ if primary != Ok(index) && server.is_tried() => trial |= bit(index),
                _ => weighty |= bit(index),
            }
        }
        if let (Ok(primary), Reads::PreferReplicas) = (primary, read.reads)
            && (weighty | weightless) != bit(primary)
        {
            weighty &= !bit(primary);
            weightless &= !bit(primary);
        }
        let candidates = match (weighty, weightless) {
            _ if trial != 0 => trial,
            (0, 0) => spare,
            (0, weightless) => weightless,
            (weighty, _) => weighty,
        };
        let candidate = |index: usize| state.servers[index].candidate();
        let server = balance::choose(candidates, candidate, rng).ok_or(match primary {
            Err(why) => WhyNot::NoPrimary(why),
            Ok(_) => WhyNot::NoneFit,
        })?;
        let is_primary = primary == Ok(server);
        let conditional = !is_primary && read.freshness != Freshness::Any;
        Ok(Choice {
            server,
            endpoint: state.servers[server].endpoint.id,
            is_primary,
            opened_before: conditional.then(|| self.instant(asked[server])),
        })
    }

    /// A server has told words by which reads may be sent to it.
    pub fn on_labels(&self, group: usize, server: usize, labels: &str) {
        if let Some(server) = self.server(group, server) {
            let mut told = server.labels.lock().unwrap_or_else(|e| e.into_inner());
            if !told.split(' ').eq(labels.split(' ')) {
                labels.clone_into(&mut told);
            }
        }
    }

    /// The words that it told last.
    pub fn labels(&self, group: usize, server: usize) -> Vec<String> {
        let Some(server) = self.server(group, server) else {
            return Vec::new();
        };
        let told = server.labels.lock().unwrap_or_else(|e| e.into_inner());
        told.split_whitespace().map(str::to_owned).collect()
    }

    /// Whether one of them is this.
    pub fn has_label(&self, group: usize, server: usize, label: &str) -> bool {
        self.server(group, server).is_some_and(|server| {
            let told = server.labels.lock().unwrap_or_else(|e| e.into_inner());
            told.split_whitespace().any(|word| word == label)
        })
    }

    /// Counts a request as under way on a server, until the guard is finished or dropped.
    pub fn begin(&self, group: usize, server: usize) -> Option<InFlight> {
        Some(self.server(group, server)?.load.begin())
    }

    /// The acknowledged writes of a group.
    pub fn clock(&self, group: usize) -> Option<&Arc<CommitClock>> {
        self.groups.get(group).map(|state| &state.clock)
    }

    /// A connection attempt of a client's pool failed. Not for errors that are the client's own.
    pub fn report_connect_failure(&self, group: usize, server: usize, failure: Failure) {
        self.change(group, |group, now| {
            group.on_failed_connect(server, failure, now);
        });
        self.count_failure(group, server);
        self.probe_soon(group, server);
    }

    /// What a client had sent to a server failed, because the connection broke or no answer came, and not because this one
    /// session was to end. As [`Self::report_lost`], and it counts towards the server's breaker.
    pub fn report_broken(&self, group: usize, server: usize) {
        self.count_failure(group, server);
        self.report_lost(group, server);
    }

    fn count_failure(&self, group: usize, server: usize) {
        let answered = self.answered(group, server);
        let spread = self.source.rng().random();
        self.change(group, |group, now| {
            group.on_failed_traffic(server, answered, spread, now);
        });
    }

    fn answered(&self, group: usize, server: usize) -> u64 {
        let server = self.server(group, server);
        server.map_or(0, |server| server.load.answered())
    }

    /// A pooled connection was lost, or a server that should be the primary said 25006 (read-only). The server is asked at once; until it has answered it
    /// serves no reads as a replica.
    pub fn report_lost(&self, group: usize, server: usize) {
        self.change(group, |group, _| group.on_lost(server));
        self.probe_soon(group, server);
    }

    /// Has a server asked without waiting for its turn.
    pub fn probe_soon(&self, group: usize, server: usize) {
        if let Some(server) = self.server(group, server) {
            server.wake.notify_one();
        }
    }

    /// Waits until a probe that was sent after this call has ended: a connection that is open now is then [covered](Choice::covers)
    /// if the server is chosen again. Cancel safe, and bounded: false if there was no probe in the time that one may take.
    pub async fn confirm(&self, group: usize, server: usize) -> bool {
        let Some(state) = self.server(group, server) else {
            return false;
        };
        let began = self.nanos(self.source.now());
        let mut ended = state.ended.subscribe();
        let later = async {
            // One that is under way may have been sent before, so it takes up to two.
            while ended.borrow_and_update().asked < began {
                state.wake.notify_one();
                if ended.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        let limit = self.watch.timeout * 2;
        tokio::time::timeout(limit, later).await.unwrap_or(false)
    }

    /// Whether a server answers a probe that is sent now. As [`Self::confirm`].
    pub async fn answers(&self, group: usize, server: usize) -> bool {
        self.confirm(group, server).await
            && self
                .server(group, server)
                .is_some_and(|state| state.ended.borrow().answered)
    }

    /// Waits until every server's first probe has ended, well or not. Cancel safe.
    pub async fn ready(&self) {
        let mut changes = self.changes.subscribe();
        while !self.groups.iter().all(|g| g.asked.load(Ordering::Acquire)) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until a group has a primary that takes what begins. Cancel safe; the caller says for how long.
    pub async fn has_writer(&self, group: usize) {
        self.until(|health| health.writer(group).is_ok()).await;
    }

    /// Waits until a group's primary is this server. Cancel safe; the caller says for how long.
    pub async fn is_elected(&self, group: usize, server: usize) {
        self.until(|health| health.elected(group) == Ok(server))
            .await;
    }

    /// Waits until a group's primary is another server than this one. Cancel safe; the caller says for how long.
    pub async fn is_another_elected(&self, group: usize, than: usize) {
        let another = |health: &Self| health.elected(group).is_ok_and(|server| server != than);
        self.until(another).await;
    }

    async fn until(&self, so: impl Fn(&Self) -> bool) {
        let mut changes = self.changes.subscribe();
        while !so(self) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until a group has a primary that may be [asked](Self::primary), or until this knowledge is replaced by that
    /// of a new configuration: false then, and whoever waits looks at what is in force now. Cancel safe; the caller says
    /// for how long.
    pub async fn has_primary_or_is_over(&self, group: usize) -> bool {
        self.until(|health| health.is_over() || health.primary(group).is_ok())
            .await;
        !self.is_over()
    }

    /// Whether nobody asks the servers for it any longer, because a newer one is in force.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Nobody asks the servers any longer.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.tell();
    }

    /// Holds back the writes of a group, until what is returned is dropped. `None` if somebody holds them already.
    pub fn hold(self: &Arc<Self>, group: usize) -> Option<Hold> {
        let gate = self.gate(group)?;
        gate.close()
            .then(|| Hold::new(Arc::clone(self), Arc::clone(gate)))
    }

    /// What holds back the writes of a group, for the next [`Health`].
    pub fn gate(&self, group: usize) -> Option<&Arc<Gate>> {
        Some(&self.groups.get(group)?.gate)
    }

    /// Wakes all who wait for something.
    pub(super) fn tell(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    /// How often the name of a server came to mean another address.
    pub fn moves(&self, group: usize, server: usize) -> u64 {
        let server = self.server(group, server);
        server.map_or(0, |server| server.moves.load(Ordering::Acquire))
    }

    /// Changes whenever a group gets another primary, or loses its own, and when a name means another server.
    pub fn elections(&self) -> watch::Receiver<u64> {
        self.elections.subscribe()
    }

    /// How long a server has been down; `None` while it is not.
    pub fn down_for(&self, group: usize, server: usize) -> Option<Duration> {
        let group = self.groups.get(group)?.lock();
        let health = group.health(server)?;
        let since = || self.source.now().saturating_duration_since(health.since());
        matches!(health.state(), State::Down { .. }).then(since)
    }

    /// The primary of a group, whatever is held back.
    pub fn elected(&self, group: usize) -> Result<usize, WhyNot> {
        let state = self.groups.get(group).ok_or(WhyNot::NoGroup)?;
        state.elected().map_err(WhyNot::NoPrimary)
    }

    /// Whether a server has said that transactions may not write there unless they say so.
    pub fn is_read_only(&self, group: usize, server: usize) -> bool {
        let state = self.groups.get(group);
        state.is_some_and(|state| state.lock().report(server).is_some_and(|r| r.read_only))
    }

    /// The primary of a group, for the router's own questions.
    pub fn primary(&self, group: usize) -> Result<usize, WhyNot> {
        let primary = self.elected(group)?;
        match self.gate(group).is_some_and(|gate| gate.holds_all()) {
            true => Err(WhyNot::NoPrimary(NoPrimary::Held)),
            false => Ok(primary),
        }
    }

    /// The primary of a group for what begins, unless it was disabled by hand.
    pub fn writer(&self, group: usize) -> Result<usize, WhyNot> {
        let state = self.groups.get(group).ok_or(WhyNot::NoGroup)?;
        let primary = state.taking().map_err(WhyNot::NoPrimary)?;
        let server = state.servers.get(primary).ok_or(WhyNot::NoneFit)?;
        match server.hand.is_out() {
            true => Err(WhyNot::Disabled),
            false => Ok(primary),
        }
    }

    /// What the next [`Health`] has to know of a group.
    pub fn fence(&self, group: usize) -> Option<Fence> {
        self.groups.get(group)?.lock().fence()
    }

    /// Changes what is set of a server by hand: its part of the reads, and whether it gets anything new. What is under way
    /// there is not touched. Returns what was set before.
    pub fn set_by_hand(
        &self,
        group: usize,
        server: usize,
        change: impl FnOnce(&mut Hand),
    ) -> Option<Hand> {
        let server = self.server(group, server)?;
        let before = server.hand.change(change);
        // Who waits for a server may have one now.
        self.tell();
        Some(before)
    }

    /// Whether a server gets nothing new, because it was taken out of use by hand.
    pub fn is_disabled(&self, group: usize, server: usize) -> bool {
        let server = self.server(group, server);
        server.is_some_and(|server| server.hand.is_out())
    }

    /// What the next [`Health`] has to know of a server, by the number that it keeps.
    pub fn kept(&self, group: usize, id: EndpointId) -> Option<SurvivesReload> {
        let mut servers = self.groups.get(group)?.servers.iter();
        let server = servers.find(|server| server.endpoint.id == id)?;
        Some(SurvivesReload {
            load: Arc::clone(&server.load),
            hand: Arc::clone(&server.hand),
        })
    }

    /// Everything about all servers, for the console.
    pub fn snapshot(&self) -> Vec<Snapshot> {
        let now = self.source.now();
        self.groups.iter().map(|g| g.snapshot(now)).collect()
    }

    /// How servers are watched.
    pub(super) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// How long the prober of a server waits before it asks again.
    pub fn pause(&self, group: usize, server: usize, wrote: bool) -> Duration {
        let Some(state) = self.groups.get(group) else {
            return self.watch.interval;
        };
        let group = state.lock();
        let primary = group.primary();
        let pause = group.health(server).map(|health| {
            let busy = wrote || primary.is_err();
            health.pause(busy, &self.watch, &mut self.source.rng())
        });
        let pause = pause.unwrap_or(self.watch.interval);
        match primary {
            // Normally the primary's prober wakes it before that.
            Ok(primary) if primary != server => pause.mul_f64(1.5),
            _ => pause,
        }
    }

    /// A probe was answered.
    pub fn on_report(
        &self,
        group: usize,
        server: usize,
        report: Report,
        moment: WriteNumber,
        asked: Instant,
    ) {
        let answered = self.answered(group, server);
        let spread = self.source.rng().random();
        self.change(group, |group, now| {
            group.on_report(server, report, moment, asked, now);
            group.on_good_probe(server, answered, spread, now);
        });
        let Some(state) = self.groups.get(group) else {
            return;
        };
        if let Some(server) = state.servers.get(server) {
            server.ended.send_replace(Ended {
                asked: self.nanos(asked),
                answered: true,
            });
        }
        if state.elected() == Ok(server) {
            // They can only now show that they have what the primary had.
            let replicas = state.servers.iter().enumerate();
            let replicas = replicas.filter(|(index, _)| *index != server);
            replicas.for_each(|(_, replica)| replica.wake.notify_one());
            state.unlearn(self.half_life, self.source.now());
        }
    }

    /// A probe failed.
    pub fn on_failed_probe(&self, group: usize, server: usize, failure: Failure, asked: Instant) {
        self.change(group, |group, now| {
            group.on_failed_probe(server, failure, now);
        });
        if let Some(server) = self.server(group, server) {
            server.ended.send_replace(Ended {
                asked: self.nanos(asked),
                answered: false,
            });
        }
    }

    /// The discovery sources of a group name this server as its leader, or nobody.
    pub(super) fn on_leader(&self, group: usize, leader: Option<usize>) {
        let known = self.groups.get(group).map(|state| state.lock().leader());
        if known.is_some_and(|known| known != leader) {
            self.change(group, |group, _| group.on_leader(leader));
        }
    }

    /// The name of a server means another one now. What is certain about the old one is not so about the new one.
    pub(super) fn on_moved(&self, group: usize, server: usize) {
        self.change(group, |group, _| group.on_moved(server));
        if let Some(server) = self.server(group, server) {
            server.moves.fetch_add(1, Ordering::Release);
            self.elections.send_modify(|n| *n += 1);
        }
    }

    /// Waits for [`Health::probe_soon`].
    pub async fn woken(&self, group: usize, server: usize) {
        match self.server(group, server) {
            Some(server) => server.wake.notified().await,
            None => std::future::pending().await,
        }
    }

    fn change(&self, group: usize, act: impl FnOnce(&mut Group, Instant)) {
        let Some(state) = self.groups.get(group) else {
            return;
        };
        let now = self.source.now();
        let (elected, lost) = {
            let mut group = state.lock();
            let before = states(&group, state.servers.len());
            let primary = group.primary();
            act(&mut group, now);
            state.log(&group, before);
            state.publish(&group, self.start, now);
            let now = group.primary();
            (primary != now, primary.is_ok() && now.is_err())
        };
        self.tell();
        if elected {
            self.elections.send_modify(|n| *n += 1);
        }
        if lost {
            // Each prober sleeps for as long as a group with a primary lets it; whoever is promoted is to be seen at once.
            for server in &state.servers {
                server.wake.notify_one();
            }
        }
    }

    fn server(&self, group: usize, server: usize) -> Option<&ServerState> {
        self.groups.get(group)?.servers.get(server)
    }

    fn nanos(&self, at: Instant) -> u64 {
        nanos_since(self.start, at)
    }

    fn instant(&self, nanos: u64) -> Instant {
        self.start + Duration::from_nanos(nanos)
    }
}

fn nanos_since(start: Instant, at: Instant) -> u64 {
    let nanos = at.saturating_duration_since(start).as_nanos();
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

impl GroupState {
    fn lock(&self) -> MutexGuard<'_, Group> {
        // Whoever panicked while holding it left a state that the next probe corrects.
        self.group.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn elected(&self) -> Result<usize, NoPrimary> {
        decode(self.primary.load(Ordering::Acquire))
    }

    /// The primary, if it takes what begins.
    fn taking(&self) -> Result<usize, NoPrimary> {
        let primary = self.elected()?;
        match self.gate.holds_new() {
            true => Err(NoPrimary::Held),
            false => Ok(primary),
        }
    }

    fn primary_choice(
        &self,
        primary: Result<usize, NoPrimary>,
        among: Among,
    ) -> Result<Choice, WhyNot> {
        let server = primary.map_err(WhyNot::NoPrimary)?;
        let state = self.servers.get(server).ok_or(WhyNot::NoneFit)?;
        if state.hand.is_out() {
            return Err(WhyNot::Disabled);
        }
        if !among.has(server) {
            return Err(WhyNot::NoneFit);
        }
        Ok(Choice {
            server,
            endpoint: state.endpoint.id,
            is_primary: true,
            opened_before: None,
        })
    }

    /// Makes what follows from `group` visible to the cores. What was promised before is taken back before anything new is
    /// promised: a reader in between sees less.
    fn publish(&self, group: &Group, start: Instant, now: Instant) {
        let primary = encode(group.primary());
        let views: Vec<Option<ServerView>> = (0..self.servers.len())
            .map(|server| group.view(server, now))
            .collect();
        if self.primary.load(Ordering::Relaxed) != primary {
            for server in &self.servers {
                server.seen.store(0, Ordering::SeqCst);
                server.until.store(0, Ordering::SeqCst);
            }
            self.primary.store(primary, Ordering::SeqCst);
        }
        for (server, view) in self.servers.iter().zip(views) {
            let Some(view) = view else { continue };
            let fresh = view.fresh;
            let (seen, until) = fresh.map_or((0, 0), |fresh| {
                let until = nanos_since(start, fresh.until);
                (fresh.seen.saturating_add(1), until.saturating_add(1))
            });
            server.fit.store(view.fit, Ordering::SeqCst);
            server
                .penalty
                .store(view.penalty.to_bits(), Ordering::Relaxed);
            let breaker = match view.breaker {
                BreakerState::Closed => CLOSED,
                BreakerState::HalfOpen => HALF_OPEN,
                BreakerState::Open => OPEN,
            };
            server.breaker.store(breaker, Ordering::Relaxed);
            server.seen.store(seen, Ordering::SeqCst);
            server.until.store(until, Ordering::SeqCst);
            if let Some(fresh) = fresh {
                let asked = nanos_since(start, fresh.asked);
                server.asked.store(asked, Ordering::SeqCst);
            }
        }
        self.asked.store(group.was_asked(), Ordering::Release);
    }

    /// Lets servers that nobody has chosen for a while be tried again.
    fn unlearn(&self, half_life: Duration, now: Instant) {
        let latencies = self.servers.iter().map(|s| s.load.latency_nanos());
        let lowest = latencies.filter(|l| *l > 0.0).reduce(f32::min);
        for server in &self.servers {
            let served = server.load.served();
            let idle = server.served_before.swap(served, Ordering::Relaxed) == served
                && server.load.in_flight() == 0;
            if let (true, Some(lowest)) = (idle, lowest) {
                server.load.unlearn(lowest, half_life / 50, now);
            }
        }
    }

    fn log(&self, group: &Group, (primary, before): (Result<usize, NoPrimary>, Vec<Stand>)) {
        let (elected, after) = states(group, self.servers.len());
        let servers = self.servers.iter().zip(before.iter().zip(&after));
        for (server, (before, after)) in servers {
            let address = &server.endpoint.address;
            match (before.1, after.1) {
                (before, after) if before == after => {}
                (_, BreakerState::Closed) => {
                    tracing::info!(group = %self.name, server = %address, "breaker of a server is closed");
                }
                (_, BreakerState::HalfOpen) => {
                    tracing::info!(group = %self.name, server = %address, "breaker of a server is half-open");
                }
                (_, BreakerState::Open) => {
                    tracing::warn!(group = %self.name, server = %address, "breaker of a server is open: what clients send to it fails");
                }
            }
            if after.2 == Role::Diverged && before.2 != Role::Diverged {
                tracing::warn!(
                    group = %self.name,
                    server = %address,
                    "replica may follow another history than the primary's and serves no reads: rebuild it"
                );
            }
            let (before, after) = (&before.0, &after.0);
            match after {
                _ if before == after => {}
                State::Up => tracing::info!(group = %self.name, server = %address, "server is up"),
                State::Down { .. } if matches!(before, State::Down { .. }) => {}
                State::Down { reason } => {
                    tracing::warn!(group = %self.name, server = %address, %reason, "server is down");
                }
                State::Unknown { tried } => {
                    let reason = tried.map(|t| t.to_string()).unwrap_or_default();
                    tracing::warn!(group = %self.name, server = %address, reason, "server has not answered yet");
                }
            }
        }
        match elected {
            _ if primary == elected => {}
            Ok(server) => {
                let address = self
                    .servers
                    .get(server)
                    .map(|s| s.endpoint.address.to_string());
                tracing::info!(group = %self.name, server = address, "group has a primary");
            }
            Err(why) => tracing::warn!(group = %self.name, %why, "group has no primary"),
        }
    }

    fn snapshot(&self, now: Instant) -> Snapshot {
        let group = self.lock();
        let servers = self.servers.iter().enumerate();
        let servers = servers.filter_map(|(index, server)| {
            let health = group.health(index)?;
            let view = group.view(index, now)?;
            Some(ServerSnapshot {
                endpoint: server.endpoint.clone(),
                view,
                state: health.state(),
                since: health.since(),
                report: group.report(index).copied(),
                weight: server.weight(),
                hand: server.hand.get(),
                in_flight: server.load.in_flight(),
                served: server.load.served(),
                latency: server.load.latency(),
            })
        });
        Snapshot {
            name: self.name.clone(),
            primary: group.primary(),
            fence: group.fence(),
            acknowledged: self.clock.now(),
            servers: servers.collect(),
        }
    }
}

/// A server's state, its breaker's, and its role.
type Stand = (State, BreakerState, Role);

fn states(group: &Group, count: usize) -> (Result<usize, NoPrimary>, Vec<Stand>) {
    let of = |server| {
        let state = group.health(server)?.state();
        Some((state, group.breaker(server)?, group.role(server)))
    };
    let states = (0..count).filter_map(of);
    (group.primary(), states.collect())
}

impl ServerState {
    fn new(spec: &ServerSpec, half_life: Duration, now: Instant) -> ServerState {
        let kept = spec.kept.as_ref();
        let load = match kept {
            Some(kept) => Arc::clone(&kept.load),
            None => Arc::new(ServerLoad::since(now, half_life)),
        };
        load.set_half_life(half_life);
        ServerState {
            endpoint: spec.endpoint.clone(),
            load,
            configured: spec.weight,
            hand: kept.map(|kept| Arc::clone(&kept.hand)).unwrap_or_default(),
            fit: AtomicBool::new(false),
            seen: AtomicU64::new(0),
            until: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            penalty: AtomicU32::new(1.0_f32.to_bits()),
            breaker: AtomicU8::new(CLOSED),
            served_before: AtomicU64::new(0),
            labels: Mutex::default(),
            wake: Notify::new(),
            moves: AtomicU64::new(0),
            ended: watch::Sender::new(Ended::default()),
        }
    }

    fn weight(&self) -> u32 {
        self.hand.weight().unwrap_or(self.configured)
    }

    /// Whether it may serve a read as a replica. `now` is in nanoseconds since the start.
    fn may_serve(&self, freshness: Freshness, now: u64) -> bool {
        if !self.fit.load(Ordering::SeqCst) {
            return false;
        }
        match freshness {
            // `seen` is one more than what was seen.
            Freshness::Seen(needed) => self.seen.load(Ordering::SeqCst) > needed,
            Freshness::Within(limit) => match self.until.load(Ordering::SeqCst).checked_sub(1) {
                Some(until) => u128::from(now.saturating_sub(until)) <= limit.as_nanos(),
                None => false,
            },
            Freshness::Any => true,
        }
    }

    /// Whether its breaker lets a request through now. What is under way says no more than how much that is: two requests
    /// may come to try it at the same time.
    fn lets_through(&self) -> bool {
        match self.breaker.load(Ordering::Relaxed) {
            CLOSED => true,
            HALF_OPEN => self.load.in_flight() == 0,
            _ => false,
        }
    }

    /// Whether the next request is to show if it answers again.
    fn is_tried(&self) -> bool {
        self.breaker.load(Ordering::Relaxed) == HALF_OPEN
    }

    fn candidate(&self) -> Candidate {
        Candidate {
            weight: self.weight().max(1),
            in_flight: self.load.in_flight(),
            latency: self.load.latency_nanos(),
            penalty: f32::from_bits(self.penalty.load(Ordering::Relaxed)),
        }
    }
}

/// One word for the primary or the reason why there is none: kind, first and second server.
fn encode(primary: Result<usize, NoPrimary>) -> u32 {
    let (kind, a, b) = match primary {
        Ok(server) => (0, u8::try_from(server).unwrap_or(u8::MAX), 0),
        Err(NoPrimary::Asking) => (1, 0, 0),
        Err(NoPrimary::Silent) => (2, 0, 0),
        Err(NoPrimary::Down(a)) => (3, a, 0),
        Err(NoPrimary::OnlyReplicas) => (4, 0, 0),
        Err(NoPrimary::Replaced(a)) => (5, a, 0),
        Err(NoPrimary::Foreign(a)) => (6, a, 0),
        Err(NoPrimary::Two(a, b)) => (7, a, b),
        Err(NoPrimary::Unconfirmed(a)) => (8, a, 0),
        Err(NoPrimary::Held) => (9, 0, 0),
        Err(NoPrimary::NotLeader(a)) => (10, a, 0),
        Err(NoPrimary::Moved(a)) => (11, a, 0),
    };
    u32::from_be_bytes([0, kind, a, b])
}

fn decode(word: u32) -> Result<usize, NoPrimary> {
    let [_, kind, a, b] = word.to_be_bytes();
    Err(match kind {
        0 => return Ok(usize::from(a)),
        1 => NoPrimary::Asking,
        2 => NoPrimary::Silent,
        3 => NoPrimary::Down(a),
        4 => NoPrimary::OnlyReplicas,
        5 => NoPrimary::Replaced(a),
        6 => NoPrimary::Foreign(a),
        7 => NoPrimary::Two(a, b),
        8 => NoPrimary::Unconfirmed(a),
        10 => NoPrimary::NotLeader(a),
        11 => NoPrimary::Moved(a),
        _ => NoPrimary::Held,
    })
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
