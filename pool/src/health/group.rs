//! What a group of servers is, put together from what each of them says: who is
//! the primary, which replicas may serve reads, and what those have seen.
//!
//! Pure: reports, failures and times come in; [`Group::view`] is what comes out. A
//! wrong primary splits the data, so whatever is not certain is "no primary" with
//! a reason.

use super::breaker::{Breaker, BreakerState, Traffic};
use super::clock::WriteNumber;
use super::position::{WalHistory, WalSample};
use super::report::{Lsn, Report, ReportedRole};
use super::state::{Failure, ServerHealth, State, Watch};
use std::fmt;
use std::time::{Duration, Instant};

/// What the configuration says a server is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Declared {
    /// What it says itself.
    #[default]
    Auto,
    /// The primary, unless another one is on a higher timeline.
    Primary,
    /// A replica; it never gets writes.
    Replica,
}

/// The newest history that a group was seen on. A primary on a lower timeline was replaced and never gets writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Whose timelines these are.
    pub system: u64,
    /// The highest timeline seen on any server of the group.
    pub timeline: u32,
    /// Two servers were primaries on that timeline at the same time, as after two promotions by hand. The number of
    /// the timeline then no longer says whose history a replica follows, and its position says nothing.
    pub forked: bool,
}

/// When a replica serves no reads, and when a lone primary is believed.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// A replica further behind serves no reads, until it has caught up to half of this.
    pub max_lag: Duration,
    /// The same in bytes of log.
    pub max_lag_bytes: Option<u64>,
    /// At the start, believe a primary of a group of several although no other server of the group has answered and
    /// it is not declared. The others may have a newer primary among them.
    pub trust_single: bool,
}

impl Rules {
    /// How much of its limit a replica's lag is, by time or bytes, whichever is more; more than 1 is over it.
    fn part_of_limit(&self, lag: Lag) -> f32 {
        let time = lag.time.as_secs_f32() / self.max_lag.as_secs_f32().max(f32::MIN_POSITIVE);
        let bytes = self.max_lag_bytes.map_or(0.0, |most| {
            // Only how they compare counts.
            lag.bytes as f32 / most.max(1) as f32
        });
        time.max(bytes)
    }
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            max_lag: Duration::from_secs(10),
            max_lag_bytes: None,
            trust_single: false,
        }
    }
}

/// Why a group has no primary. Numbers are indexes of servers in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPrimary {
    /// Not every server's first probe has ended.
    Asking,
    /// No server has ever answered.
    Silent,
    /// It was this one, which is down.
    Down(u8),
    /// All that answer are replicas.
    OnlyReplicas,
    /// This one claims to be, but a newer timeline was seen in the group.
    Replaced(u8),
    /// This one claims to be, but belongs to another database system.
    Foreign(u8),
    /// Both claim to be, and neither is newer.
    Two(u8, u8),
    /// This one claims to be, no other has answered yet, and it is not declared.
    Unconfirmed(u8),
    /// This one claims to be, but a discovery source names another server as the leader.
    NotLeader(u8),
    /// It was this one, whose name means another address now, which has not been asked yet.
    Moved(u8),
    /// There is one, but another is about to take its place.
    Held,
}

impl NoPrimary {
    /// In words; `name` says what a server is called.
    pub fn in_words(self, name: impl Fn(u8) -> String) -> String {
        match self {
            NoPrimary::Asking => "servers have not been asked yet".to_owned(),
            NoPrimary::Silent => "no server has answered".to_owned(),
            NoPrimary::Down(server) => format!("{} is down", name(server)),
            NoPrimary::OnlyReplicas => "all servers that answer are replicas".to_owned(),
            NoPrimary::Replaced(server) => {
                format!("{} is on a timeline that was replaced", name(server))
            }
            NoPrimary::Foreign(server) => {
                format!("{} belongs to another database system", name(server))
            }
            NoPrimary::Two(a, b) => {
                let (a, b) = (name(a), name(b));
                format!("{a} and {b} both say that they are the primary")
            }
            NoPrimary::Unconfirmed(server) => {
                let server = name(server);
                format!("no other server has confirmed that {server} is the primary")
            }
            NoPrimary::NotLeader(server) => {
                format!("{} is not the leader that Patroni names", name(server))
            }
            NoPrimary::Moved(server) => {
                format!(
                    "{} has another address, which has not been asked yet",
                    name(server)
                )
            }
            NoPrimary::Held => "a switchover is under way".to_owned(),
        }
    }
}

impl fmt::Display for NoPrimary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.in_words(|server| format!("server {server}")))
    }
}

/// What a server is in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Not known yet.
    Unknown,
    /// It takes the writes.
    Primary,
    /// It replays.
    Replica,
    /// It says that it is a primary and is not taken for it.
    Claimant,
    /// It replays a history that is not the primary's, or may not be: it serves nothing until it is rebuilt.
    Diverged,
    /// It belongs to another database system.
    Foreign,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Unknown => "unknown",
            Role::Primary => "primary",
            Role::Replica => "replica",
            Role::Claimant => "claimant",
            Role::Diverged => "diverged",
            Role::Foreign => "foreign",
        })
    }
}

/// What is certain about the state that a replica shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fresh {
    /// It has every write up to this one.
    pub seen: WriteNumber,
    /// It has everything that was committed before this.
    pub until: Instant,
    /// When it was asked. A connection that was opened before is one to the same run of the server: after a crash a
    /// replica may for a while show an older state than before.
    pub asked: Instant,
}

/// One server as its group sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerView {
    /// Its role.
    pub role: Role,
    /// A replica that is up, of this system, in the primary's history as far as anybody can tell, and not too far
    /// behind. What it has seen is another question.
    pub fit: bool,
    /// What it has certainly seen, if anything.
    pub fresh: Option<Fresh>,
    /// How far behind it is, if that is known.
    pub lag: Option<Lag>,
    /// From 1 (not behind) to 4 (at the limit).
    pub penalty: f32,
    /// What its breaker lets through.
    pub breaker: BreakerState,
}

/// How far a replica is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// It has everything that was committed so long ago.
    pub time: Duration,
    /// Log that it has not replayed.
    pub bytes: u64,
}

/// A server in a group.
#[derive(Clone, Debug)]
struct Member {
    declared: Declared,
    /// False: nothing is asked, what is declared is believed.
    watched: bool,
    health: ServerHealth,
    breaker: Breaker,
    told: Option<LastReport>,
    /// `told` is still what it says: nothing has failed since.
    current: bool,
    /// Its name means another server than the one that has told it.
    moved: bool,
    /// Serves no reads because it was too far behind.
    lagging: bool,
    /// Serves no reads because it has replayed what the primary never wrote.
    diverged: bool,
}

#[derive(Clone, Copy, Debug)]
struct LastReport {
    report: Report,
    /// The last acknowledged write, read before the question was sent.
    moment: WriteNumber,
    asked: Instant,
    answered: Instant,
}

/// A primary with its replicas.
#[derive(Clone, Debug)]
pub struct Group {
    members: Vec<Member>,
    watch: Watch,
    rules: Rules,
    fence: Option<Fence>,
    /// Whom a discovery source names at present. It chooses among servers that may be elected, and makes nobody electable.
    leader: Option<usize>,
    primary: Result<usize, NoPrimary>,
    /// The server and timeline that `positions` are of.
    term: Option<(usize, u32)>,
    positions: WalHistory,
}

/// One server as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberSpec {
    /// Its declared role.
    pub declared: Declared,
    /// Whether it is probed.
    pub watched: bool,
}

/// The most servers in a group: sets of them are bits of a word.
pub const MAX_SERVERS: usize = 64;

impl Group {
    /// A group of which nothing is known, or what an earlier one has handed over. Servers past [`MAX_SERVERS`] are left out.
    pub fn new(
        members: &[MemberSpec],
        watch: Watch,
        rules: Rules,
        fence: Option<Fence>,
        now: Instant,
    ) -> Group {
        let members = members.iter().take(MAX_SERVERS).map(|spec| {
            let mut health = ServerHealth::new(now);
            if !spec.watched {
                health.on_good(now, &watch);
            }
            Member {
                declared: spec.declared,
                watched: spec.watched,
                health,
                breaker: Breaker::default(),
                told: None,
                current: false,
                moved: false,
                lagging: false,
                diverged: false,
            }
        });
        let mut group = Group {
            members: members.collect(),
            watch,
            rules,
            fence,
            leader: None,
            primary: Err(NoPrimary::Asking),
            term: None,
            positions: WalHistory::default(),
        };
        group.decide();
        group
    }

    /// A probe was answered. `asked` is when it was sent and `moment` the number of the last acknowledged write, read
    /// before that.
    pub fn on_report(
        &mut self,
        server: usize,
        report: Report,
        moment: WriteNumber,
        asked: Instant,
        now: Instant,
    ) {
        let Some(member) = self.members.get_mut(server) else {
            return;
        };
        member.health.on_good(now, &self.watch);
        // It was rebuilt, rewound or started again: what it has is judged anew.
        member.diverged &= member
            .told
            .is_some_and(|before| follows(&before.report, &report));
        member.told = Some(LastReport {
            report,
            moment,
            asked,
            answered: now,
        });
        member.current = true;
        member.moved = false;
        self.decide();
        if self.primary == Ok(server) {
            self.note_position(server);
            self.mark_diverged(server);
        }
        self.judge_lag(server, now);
    }

    /// A probe failed.
    pub fn on_failed_probe(&mut self, server: usize, failure: Failure, now: Instant) {
        if let Some(member) = self.members.get_mut(server) {
            member.health.on_failed_probe(failure, now, &self.watch);
            member.current = false;
            self.decide();
        }
    }

    /// A client's connection attempt failed.
    pub fn on_failed_connect(&mut self, server: usize, failure: Failure, now: Instant) {
        // What nobody asks would never come back.
        if let Some(member) = self.members.get_mut(server).filter(|m| m.watched) {
            member.health.on_failed_connect(failure, now, &self.watch);
            member.current &= member.health.is_up();
            self.decide();
        }
    }

    /// A probe was answered, as [`Self::on_report`] was told: the breaker may be tried. `answered` and `spread` are those of [`Traffic`].
    pub fn on_good_probe(&mut self, server: usize, answered: u64, spread: f64, now: Instant) {
        let traffic = self.traffic(server, answered, spread, now);
        if let Some(member) = self.members.get_mut(server) {
            member.breaker.on_good_probe(traffic);
        }
    }

    /// What a client sent to a server, or its attempt to connect to it, failed, and that is the server's matter.
    pub fn on_failed_traffic(&mut self, server: usize, answered: u64, spread: f64, now: Instant) {
        let traffic = self.traffic(server, answered, spread, now);
        // What is not up is judged by probes alone, and what nobody asks would never come back.
        let member = self.members.get_mut(server);
        if let Some(member) = member.filter(|m| m.watched && m.health.is_up()) {
            let Watch {
                interval, breaker, ..
            } = &self.watch;
            member.breaker.on_failure(traffic, *interval, breaker);
        }
    }

    fn traffic(&self, server: usize, answered: u64, spread: f64, now: Instant) -> Traffic {
        Traffic {
            now,
            answered,
            spread,
            is_spared: self.members.len() > 1 && self.primary != Ok(server),
        }
    }

    /// A connection to it was lost. The server may have crashed, and a replica that starts again shows for a while an older
    /// state than before: nothing is certain until it is asked again. Its health is not judged by that: an operator may have
    /// ended the session.
    pub fn on_lost(&mut self, server: usize) {
        if let Some(member) = self.members.get_mut(server) {
            member.current = false;
        }
    }

    /// Its name means another server now: nothing is known of that one.
    pub fn on_moved(&mut self, server: usize) {
        if let Some(member) = self.members.get_mut(server) {
            member.current = false;
            member.moved = true;
            member.breaker = Breaker::default();
            self.decide();
        }
    }

    /// A discovery source names this server as the leader, or nobody; that also when it cannot be asked any longer.
    pub fn on_leader(&mut self, leader: Option<usize>) {
        self.leader = leader.filter(|server| *server < self.members.len());
        self.decide();
    }

    /// Whom a discovery source names at present.
    pub fn leader(&self) -> Option<usize> {
        self.leader
    }

    /// Who takes writes.
    pub fn primary(&self) -> Result<usize, NoPrimary> {
        self.primary
    }

    /// The newest history seen, to be handed to the group that follows this one.
    pub fn fence(&self) -> Option<Fence> {
        self.fence
    }

    /// The health of a server.
    pub fn health(&self, server: usize) -> Option<&ServerHealth> {
        self.members.get(server).map(|m| &m.health)
    }

    /// What the breaker of a server lets through.
    pub fn breaker(&self, server: usize) -> Option<BreakerState> {
        self.members.get(server).map(|m| m.breaker.state())
    }

    /// The last answer of a server.
    pub fn report(&self, server: usize) -> Option<&Report> {
        let told = self.members.get(server)?.told.as_ref();
        told.map(|told| &told.report)
    }

    /// Whether each first probe has ended.
    pub fn was_asked(&self) -> bool {
        self.members.iter().all(|m| m.health.was_asked())
    }

    /// What may be done with a server.
    pub fn view(&self, server: usize, now: Instant) -> Option<ServerView> {
        let member = self.members.get(server)?;
        let role = self.role(server);
        let fit =
            role == Role::Replica && member.health.is_up() && !member.lagging && !member.moved;
        let lag = self.lag(member, now);
        let part = lag.map_or(0.0, |lag| self.rules.part_of_limit(lag));
        Some(ServerView {
            role,
            fit,
            fresh: self.fresh(member).filter(|_| fit),
            lag,
            penalty: 1.0 + 3.0 * part.min(1.0),
            breaker: member.breaker.state(),
        })
    }

    /// What a server is; a group that has no such server knows nothing of it.
    pub fn role(&self, server: usize) -> Role {
        let Some(member) = self.members.get(server) else {
            return Role::Unknown;
        };
        if self.primary == Ok(server) {
            return Role::Primary;
        }
        let Some(told) = &member.told else {
            return match (member.watched, member.declared) {
                (false, Declared::Replica) => Role::Replica,
                _ => Role::Unknown,
            };
        };
        match told.report.says {
            _ if self.fence.is_some_and(|f| f.system != told.report.system) => Role::Foreign,
            ReportedRole::Primary { .. } => Role::Claimant,
            _ if member.diverged || self.fence.is_some_and(|f| f.forked) => Role::Diverged,
            ReportedRole::Replica { .. } => Role::Replica,
        }
    }

    /// What a replica has seen. Only positions of the elected primary count, and only a replica whose position lies
    /// in the history of that primary's timeline: on another branch an equal position means other data.
    fn fresh(&self, member: &Member) -> Option<Fresh> {
        let told = member.told.filter(|_| member.current)?;
        let position = self
            .positions
            .last_replayed(self.on_our_timeline(&told.report)?)?;
        Some(Fresh {
            seen: position.moment,
            until: position.at,
            asked: told.asked,
        })
    }

    /// The position of a replica, if it can be compared with the primary's.
    fn on_our_timeline(&self, report: &Report) -> Option<Lsn> {
        let (_, term) = self.term?;
        let same_system = self.fence.is_some_and(|f| f.system == report.system);
        match report.says {
            ReportedRole::Replica {
                replayed,
                timeline: Some(timeline),
                ..
            } if same_system && timeline == term => Some(replayed),
            _ => None,
        }
    }

    fn lag(&self, member: &Member, now: Instant) -> Option<Lag> {
        let told = member.told?;
        let replayed = self.on_our_timeline(&told.report)?;
        let latest = self.positions.latest()?;
        let bytes = replayed.behind(latest.written);
        let time = match self.positions.last_replayed(replayed) {
            // It has all that the primary is known to have. That a dead primary says nothing more does not make it lag.
            _ if bytes == 0 => Duration::ZERO,
            Some(position) => now.saturating_duration_since(position.at),
            // Further behind than this router looks back: ask its own clock, and when it does not know, fear the worst.
            None => match told.report.says {
                ReportedRole::Replica { age: Some(age), .. } => age,
                _ => Duration::MAX,
            },
        };
        Some(Lag { time, bytes })
    }

    /// Drops replicas that have replayed more than the primary had written when it was asked later. A replica is sent
    /// what is on the primary's disk, so these follow another history that has the same timeline.
    fn mark_diverged(&mut self, primary: usize) {
        let Some(told) = self.members[primary].told else {
            return;
        };
        let ReportedRole::Primary { written, .. } = told.report.says else {
            return;
        };
        for server in 0..self.members.len() {
            let Some(replica) = self.members[server].told else {
                continue;
            };
            let replayed = self.on_our_timeline(&replica.report);
            let beyond = replayed.is_some_and(|replayed| replayed > written);
            if beyond && replica.answered <= told.asked {
                self.members[server].diverged = true;
            }
        }
    }

    /// Drops a replica that is too far behind and takes it back when it is well within the limit.
    fn judge_lag(&mut self, server: usize, now: Instant) {
        let Some(lag) = self.members.get(server).and_then(|m| self.lag(m, now)) else {
            return;
        };
        let Rules {
            max_lag,
            max_lag_bytes,
            ..
        } = self.rules;
        let over = |limit: Duration, bytes: Option<u64>| {
            lag.time > limit || bytes.is_some_and(|limit| lag.bytes > limit)
        };
        let member = &mut self.members[server];
        member.lagging = match member.lagging {
            // See: pgdog#1122, where the order was inverted.
            false => over(max_lag, max_lag_bytes),
            true => over(max_lag / 2, max_lag_bytes.map(|bytes| bytes / 2)),
        };
    }

    /// Elects, and forgets what is no longer true afterwards.
    fn decide(&mut self) {
        self.primary = self.elect();
        if let Some(fence) = &mut self.fence {
            let newest = newest(&self.members, fence.system);
            if newest > fence.timeline {
                *fence = Fence {
                    timeline: newest,
                    forked: false,
                    ..*fence
                };
            }
            fence.forked |= primaries_on(&self.members, fence) > 1;
        }
        let elected = self.primary.ok().and_then(|server| {
            let told = self.members[server].told?;
            match told.report.says {
                ReportedRole::Primary { timeline, .. } => {
                    Some((server, timeline, told.report.system))
                }
                ReportedRole::Replica { .. } => None,
            }
        });
        let term = match (elected, self.primary) {
            (Some((server, timeline, system)), _) => {
                self.fence.get_or_insert(Fence {
                    system,
                    timeline,
                    forked: false,
                });
                Some((server, timeline))
            }
            // It is silent. Nobody else writes as far as we know, so what replicas have seen is still so.
            (None, Err(NoPrimary::Down(_))) => self.term,
            (None, _) => None,
        };
        if term != self.term {
            self.term = term;
            self.positions.clear();
            for member in &mut self.members {
                (member.lagging, member.diverged) = (false, false);
            }
            if let Some((server, _)) = term {
                // What it said before it was elected holds too.
                self.note_position(server);
            }
        }
    }

    /// Notes how far the primary's log went when it was asked last.
    fn note_position(&mut self, primary: usize) {
        let Some(told) = self.members[primary].told else {
            return;
        };
        if let ReportedRole::Primary { written, .. } = told.report.says {
            self.positions.push(WalSample {
                moment: told.moment,
                at: told.asked,
                written,
            });
        }
    }

    fn elect(&self) -> Result<usize, NoPrimary> {
        if let Some(assumed) = self.assumed() {
            return Ok(assumed);
        }
        if self.fence.is_none() && !self.was_asked() {
            return Err(NoPrimary::Asking);
        }
        let claims: Vec<Claim> = self.claims().collect();
        if claims.is_empty()
            && let Some(moved) = self.members.iter().position(|m| m.moved)
        {
            return Err(NoPrimary::Moved(bits(moved)));
        }
        let Some(first) = claims.first() else {
            return Err(self.why_nobody());
        };
        let declared = claims.iter().find(|c| c.declared);
        let system = match self.fence {
            Some(fence) => fence.system,
            None => declared.unwrap_or(first).system,
        };
        let other = claims.iter().find(|c| c.system != system);
        if let (None, None, Some(other)) = (self.fence, declared, other) {
            return Err(NoPrimary::Two(bits(first.server), bits(other.server)));
        }
        let fenced = self.fence.map_or(0, |fence| fence.timeline);
        let newest = newest(&self.members, system).max(fenced);
        let mut ours = claims.iter().filter(|c| c.system == system).peekable();
        if ours.peek().is_none() {
            return Err(self
                .down()
                .unwrap_or(NoPrimary::Foreign(bits(first.server))));
        }
        let replaced = ours.peek().map_or(0, |c| c.server);
        let current: Vec<&Claim> = ours.filter(|c| c.timeline == newest).collect();
        match current[..] {
            [] => Err(self.down().unwrap_or(NoPrimary::Replaced(bits(replaced)))),
            [only] => self.confirmed(only),
            [a, b, ..] => match current.iter().find(|c| self.is_named(c)) {
                // The source or the operator has said which.
                Some(named) => self.confirmed(named),
                None => Err(NoPrimary::Two(bits(a.server), bits(b.server))),
            },
        }
    }

    /// A server that cannot be asked and is taken for the primary all the same: there is no other, or it is declared and nobody
    /// is watched. If it is in recovery, it refuses writes itself.
    fn assumed(&self) -> Option<usize> {
        let rejected = |state| match state {
            State::Unknown { tried } => matches!(tried, Some(Failure::Rejected(_))),
            State::Up | State::Down { .. } => false,
        };
        let mute = |m: &Member| !m.watched || rejected(m.health.state());
        match &self.members[..] {
            [only] if mute(only) && only.declared != Declared::Replica => Some(0),
            members if members.iter().all(|m| !m.watched) => {
                members.iter().position(|m| m.declared == Declared::Primary)
            }
            _ => None,
        }
    }

    fn claims(&self) -> impl Iterator<Item = Claim> {
        let living = self.members.iter().enumerate();
        let living = living.filter(|(_, m)| m.health.is_up() && !m.moved);
        let living = living.filter(|(_, m)| m.declared != Declared::Replica);
        living.filter_map(|(server, member)| {
            let report = member.told?.report;
            match report.says {
                ReportedRole::Primary { timeline, .. } => Some(Claim {
                    server,
                    declared: member.declared == Declared::Primary,
                    system: report.system,
                    timeline,
                }),
                ReportedRole::Replica { .. } => None,
            }
        })
    }

    /// Whether a claim is that of the leader, or, where no source names one, of the declared primary.
    fn is_named(&self, claim: &Claim) -> bool {
        match self.leader {
            Some(leader) => leader == claim.server,
            None => claim.declared,
        }
    }

    /// At the start somebody else has to have answered: behind the silence there may be a newer primary. And a server that is not
    /// the leader writes what will be thrown away.
    fn confirmed(&self, claim: &Claim) -> Result<usize, NoPrimary> {
        match self.leader {
            Some(leader) if leader == claim.server => return Ok(claim.server),
            Some(_) => return Err(NoPrimary::NotLeader(bits(claim.server))),
            None => {}
        }
        let answered = |(server, member): (usize, &Member)| {
            server != claim.server && member.told.is_some_and(|t| t.report.system == claim.system)
        };
        let sure = self.fence.is_some()
            || claim.declared
            || self.rules.trust_single
            || self.members.len() == 1
            || self.members.iter().enumerate().any(answered);
        match sure {
            true => Ok(claim.server),
            false => Err(NoPrimary::Unconfirmed(bits(claim.server))),
        }
    }

    /// The primary is down and, as far as anybody said, not replaced. Pretenders do not change that.
    fn down(&self) -> Option<NoPrimary> {
        let (server, timeline) = self.term?;
        let replaced = newest(&self.members, self.fence?.system) > timeline;
        let down = !self.members[server].health.is_up() && !replaced;
        down.then_some(NoPrimary::Down(bits(server)))
    }

    fn why_nobody(&self) -> NoPrimary {
        if let Some(down) = self.down() {
            return down;
        }
        match self.members.iter().any(|m| m.health.is_up()) {
            true => NoPrimary::OnlyReplicas,
            false => NoPrimary::Silent,
        }
    }
}

/// A living server that says it is the primary.
#[derive(Clone, Copy, Debug)]
struct Claim {
    server: usize,
    declared: bool,
    system: u64,
    timeline: u32,
}

/// How many servers are primaries now in the history that `fence` names.
fn primaries_on(members: &[Member], fence: &Fence) -> usize {
    let living = members.iter().filter(|m| m.current && m.health.is_up());
    let primaries = living.filter(|m| {
        m.told.is_some_and(|told| match told.report.says {
            ReportedRole::Primary { timeline, .. } => {
                told.report.system == fence.system && timeline == fence.timeline
            }
            ReportedRole::Replica { .. } => false,
        })
    });
    primaries.count()
}

/// Whether a replica has gone on from `before` to `after`: the same history, and not less of it.
fn follows(before: &Report, after: &Report) -> bool {
    match (before.says, after.says) {
        (
            ReportedRole::Replica {
                replayed: had,
                timeline: on,
                ..
            },
            ReportedRole::Replica {
                replayed, timeline, ..
            },
        ) => before.system == after.system && timeline == on && replayed >= had,
        _ => false,
    }
}

/// The highest timeline that any server of the system ever spoke of, also one that is down now: a replica that follows
/// a newer primary gives the old one away before the new one is asked.
fn newest(members: &[Member], system: u64) -> u32 {
    let told = members.iter().filter_map(|m| m.told);
    let timelines = told
        .filter(|t| t.report.system == system)
        .map(|t| match t.report.says {
            ReportedRole::Primary { timeline, .. } => timeline,
            ReportedRole::Replica { timeline, .. } => timeline.unwrap_or(0),
        });
    timelines.max().unwrap_or(0)
}

/// An index of a server as messages carry it; there are at most 64.
fn bits(server: usize) -> u8 {
    u8::try_from(server).unwrap_or(u8::MAX)
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
