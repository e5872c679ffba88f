//! Random interleavings of writers, probes, replication, crashes, promotions and
//! readers, one small step at a time: no read ever misses a write that some client was
//! told of before the read arrived, and no replaced primary is ever chosen.
//!
//! What is modelled is the world; [`Group`] and [`CommitClock`] are the real ones.

use super::clock::{CommitClock, Scope};
use super::group::{Declared, Fresh, Group, MemberSpec, Role, Rules};
use super::report::{Lsn, Report, ReportedRole};
use super::state::{Failure, Watch};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::time::{Duration, Instant};

const SERVERS: usize = 3;
const STEPS: usize = 3_000;
const SEEDS: u64 = 500;

/// A write: its number and the part that it touches.
type Write = (u32, u64);

#[derive(Clone, Debug)]
struct Server {
    alive: bool,
    /// Goes up with each start; a connection belongs to one run.
    run: u32,
    timeline: u32,
    is_primary: bool,
    /// Its log as written to disk.
    log: Vec<Write>,
    /// A replica shows this much of it.
    replayed: usize,
    /// After a crash it may start again from here.
    restart: usize,
}

impl Server {
    fn shows(&self) -> &[Write] {
        match self.is_primary {
            true => &self.log,
            false => &self.log[..self.replayed],
        }
    }

    fn says(&self) -> ReportedRole {
        match self.is_primary {
            true => ReportedRole::Primary {
                timeline: self.timeline,
                written: Lsn(self.log.len() as u64),
            },
            false => ReportedRole::Replica {
                replayed: Lsn(self.replayed as u64),
                timeline: Some(self.timeline),
                age: None,
            },
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Probe {
    Idle,
    Asked {
        run: u32,
        moment: u64,
        asked: Instant,
    },
    /// The answer, or the news that there is none, is on its way.
    Answered {
        says: Option<ReportedRole>,
        moment: u64,
        asked: Instant,
    },
}

#[derive(Clone, Copy, Debug)]
enum Writer {
    Idle,
    /// Committed on the server; its word is on its way to the router.
    Committed(Write),
    /// Counted; the word is on its way to the client.
    Counted(Write),
}

#[derive(Clone, Debug)]
struct Reader {
    server: usize,
    run: u32,
    part: Option<u64>,
    /// What had been told when the read arrived.
    told: Vec<Write>,
}

struct World {
    rng: SmallRng,
    seed: u64,
    now: Instant,
    servers: Vec<Server>,
    /// Runs whose end the router has not heard of yet.
    news: Vec<usize>,
    probes: Vec<Probe>,
    writers: Vec<Writer>,
    readers: Vec<Reader>,
    /// One pooled connection to each server: when it was opened, and to which run.
    pool: Vec<Option<(Instant, u32)>>,
    told: Vec<Write>,
    next_write: u32,
    group: Group,
    clock: CommitClock,
    newest_elected: u32,
    on_replica: u32,
    on_primary: u32,
    promotions: u32,
    uncovered: u32,
}

impl World {
    fn new(seed: u64) -> World {
        let now = Instant::now();
        let server = |index| Server {
            alive: true,
            run: 0,
            timeline: 1,
            is_primary: index == 0,
            log: Vec::new(),
            replayed: 0,
            restart: 0,
        };
        let member = MemberSpec {
            declared: Declared::Auto,
            watched: true,
        };
        let rules = Rules {
            max_lag: Duration::from_secs(3600),
            ..Rules::default()
        };
        World {
            rng: SmallRng::seed_from_u64(seed),
            seed,
            now,
            servers: (0..SERVERS).map(server).collect(),
            news: Vec::new(),
            probes: vec![Probe::Idle; SERVERS],
            writers: vec![Writer::Idle; 4],
            readers: Vec::new(),
            pool: vec![None; SERVERS],
            told: Vec::new(),
            next_write: 0,
            group: Group::new(&[member; SERVERS], Watch::default(), rules, None, now),
            clock: CommitClock::new(4),
            newest_elected: 0,
            on_replica: 0,
            on_primary: 0,
            promotions: 0,
            uncovered: 0,
        }
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(1);
        let server = self.rng.random_range(0..SERVERS);
        match self.rng.random_range(0..1000) {
            0..350 => self.probe(server),
            350..600 => self.replicate(server),
            600..640 => self.write(),
            640..840 => self.read(),
            840..950 => self.finish_read(),
            950..960 => self.checkpoint(server),
            960..964 => self.crash(server),
            964..980 => self.start(server),
            980..981 => self.promote(server),
            _ => self.hear(),
        }
        let elected = self.group.primary().ok();
        if let Some(ReportedRole::Primary { timeline, .. }) =
            elected.and_then(|p| self.group.report(p)).map(|r| r.says)
        {
            assert!(timeline >= self.newest_elected, "seed {}", self.seed);
            self.newest_elected = timeline;
        }
    }

    fn probe(&mut self, index: usize) {
        let server = &self.servers[index];
        self.probes[index] = match self.probes[index] {
            Probe::Idle => Probe::Asked {
                // The number is read before the question is sent.
                moment: self.clock.now(),
                asked: self.now,
                run: server.run,
            },
            Probe::Asked { run, moment, asked } => Probe::Answered {
                says: (server.alive && server.run == run).then(|| server.says()),
                moment,
                asked,
            },
            Probe::Answered {
                says,
                moment,
                asked,
            } => {
                match says {
                    Some(says) => {
                        let report = Report {
                            system: 1,
                            says,
                            read_only: false,
                        };
                        self.group.on_report(index, report, moment, asked, self.now);
                    }
                    None => {
                        let failure = match self.servers[index].alive {
                            true => Failure::Broken,
                            false => Failure::Refused,
                        };
                        self.group.on_failed_probe(index, failure, self.now);
                    }
                }
                Probe::Idle
            }
        };
    }

    /// The living primary on the newest timeline, whatever the router believes.
    fn source(&self) -> Option<usize> {
        let primaries = (0..SERVERS).filter(|s| self.servers[*s].is_primary);
        let newest = primaries.max_by_key(|s| self.servers[*s].timeline)?;
        self.servers[newest].alive.then_some(newest)
    }

    /// A replica receives or replays a little.
    fn replicate(&mut self, index: usize) {
        let Some(source) = self.source() else { return };
        let source = self.servers[source].clone();
        let receive = self.rng.random_bool(0.5);
        let some = self.rng.random_range(1..4);
        let replica = &mut self.servers[index];
        if replica.is_primary || !replica.alive {
            return;
        }
        if receive {
            // It follows only if all that it has replayed belongs to the primary's history; what it has beyond is thrown away.
            if !source.log.starts_with(&replica.log[..replica.replayed]) {
                return;
            }
            replica.timeline = source.timeline;
            if !source.log.starts_with(&replica.log) {
                replica.log.truncate(replica.replayed);
            }
            let until = (replica.log.len() + some).min(source.log.len());
            replica.log = source.log[..until].to_vec();
        } else {
            replica.replayed = (replica.replayed + some).min(replica.log.len());
        }
    }

    fn checkpoint(&mut self, index: usize) {
        let server = &mut self.servers[index];
        server.restart = server.replayed;
    }

    fn crash(&mut self, index: usize) {
        let server = &mut self.servers[index];
        if server.alive {
            server.alive = false;
            server.run += 1;
            server.replayed = self.rng.random_range(server.restart..=server.replayed);
            self.news.push(index);
        }
    }

    fn start(&mut self, index: usize) {
        // A replaced primary comes back too, and still says that it is one.
        self.servers[index].alive = true;
    }

    /// Only a dead primary is replaced.
    fn promote(&mut self, index: usize) {
        let newest = self.servers.iter().map(|s| s.timeline).max().unwrap();
        let server = &self.servers[index];
        if self.source().is_some() || server.is_primary || !server.alive || newest > 3 {
            return;
        }
        let server = &mut self.servers[index];
        server.log.truncate(server.replayed);
        server.timeline = newest + 1;
        server.is_primary = true;
        self.promotions += 1;
        let kept = server.log.clone();
        // Lost with the dead primary: no router can keep these.
        self.told.retain(|write| kept.contains(write));
        for writer in &mut self.writers {
            *writer = Writer::Idle;
        }
        // Reads under way arrived under the old primary.
        self.readers.clear();
    }

    fn write(&mut self) {
        let at = self.rng.random_range(0..self.writers.len());
        self.writers[at] = match self.writers[at] {
            Writer::Idle => {
                let Ok(primary) = self.group.primary() else {
                    return;
                };
                if Some(primary) != self.source() {
                    // Dead, or it says 25006.
                    return;
                }
                self.next_write += 1;
                let write = (self.next_write, self.rng.random_range(0..6));
                self.servers[primary].log.push(write);
                Writer::Committed(write)
            }
            Writer::Committed(write) => {
                let unknown = write.1 == 5;
                self.clock.acknowledge(match unknown {
                    true => Scope::All,
                    false => Scope::Part(write.1),
                });
                Writer::Counted(write)
            }
            Writer::Counted(write) => {
                self.told.push(write);
                Writer::Idle
            }
        };
    }

    fn read(&mut self) {
        let Ok(primary) = self.group.primary() else {
            return;
        };
        let index = self.rng.random_range(0..SERVERS);
        let part = self
            .rng
            .random_bool(0.5)
            .then(|| self.rng.random_range(0..5));
        let needed = self.clock.needed(part.map_or(Scope::All, Scope::Part));
        let told = self.told.clone();
        // Some time may pass in the router.
        let server = &self.servers[index];
        if !server.alive {
            self.pool[index] = None;
            return;
        }
        let now = self.now;
        let (opened, run) = *self.pool[index].get_or_insert((now, server.run));
        if run != server.run {
            // The pooled connection turns out to be dead.
            self.pool[index] = None;
            return;
        }
        if index == primary {
            self.on_primary += 1;
            if Some(index) != self.source() {
                return;
            }
        } else {
            let view = self.group.view(index, now).unwrap();
            let Some(Fresh { seen, asked, .. }) = view.fresh else {
                return;
            };
            assert_eq!(view.role, Role::Replica, "seed {}", self.seed);
            if seen < needed {
                return;
            }
            if opened > asked {
                self.uncovered += 1;
                return;
            }
            self.on_replica += 1;
        }
        self.readers.push(Reader {
            server: index,
            run,
            part,
            told,
        });
    }

    fn finish_read(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.readers.len());
        let reader = self.readers.swap_remove(at);
        let server = &self.servers[reader.server];
        if server.run != reader.run {
            return;
        }
        let shows = server.shows();
        for write in reader.told {
            let concerns = reader
                .part
                .is_none_or(|part| part == write.1 || write.1 == 5);
            assert!(
                !concerns || shows.contains(&write),
                "seed {}: server {} misses {write:?}",
                self.seed,
                reader.server
            );
        }
    }

    /// The router hears of the end of a connection.
    fn hear(&mut self) {
        if self.news.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.news.len());
        let index = self.news.swap_remove(at);
        self.group.on_lost(index);
    }
}

#[test]
fn no_read_misses_a_write_that_anybody_was_told_of() {
    let mut totals = [0; 4];
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        let counts = [
            world.on_replica,
            world.on_primary,
            world.promotions,
            world.uncovered,
        ];
        totals.iter_mut().zip(counts).for_each(|(t, c)| *t += c);
    }
    println!(
        "seeds 0..{SEEDS}: reads on replicas, on primaries, promotions, too young: {totals:?}"
    );
    // The test would be worth nothing if replicas never served, nobody was promoted, or no crash was in the way.
    assert!(totals[0] > totals[1] / 10, "{totals:?}");
    assert!(totals[2] > 50 && totals[3] > 100, "{totals:?}");
}
