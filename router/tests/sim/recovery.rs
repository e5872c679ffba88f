//! Recovery: what is asked in which order, as `commit::recover` does it, judged by the real [`judge`] and [`Look`].

use crate::requests::place;
use crate::server::Contents;
use crate::world::{Event, World};
use mothership::commit::doubt::Site;
use mothership::commit::gid::{Backend, TransactionId};
use mothership::commit::judge::{
    Decider, Decision, Look, Participants, Patience, PreparedTransaction, SeenSite, Verdict, ids,
    judge,
};
use rand::RngExt;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

const INTERVAL: u64 = 400;

/// Less than the router's: nothing may depend on it that others are left in peace.
const PATIENCE: Patience = Patience {
    short: Duration::from_millis(50),
    long: Duration::from_millis(300),
    keep: Duration::ZERO,
};

/// How far a sweep is.
#[derive(Clone, Copy, Debug)]
pub enum Phase {
    Decisions,
    Held,
    Deciders,
    Fences,
    Finish,
    Settle,
}

type Key = (TransactionId, Backend);

/// A sweep under way.
#[derive(Debug, Default)]
pub struct Sweep {
    begun: Option<Instant>,
    decisions: BTreeMap<usize, Vec<Decision>>,
    look: Look,
    deciders: BTreeMap<Key, Decider>,
    /// What a fence has said: where, in which run, and up to where another server must have the log.
    fenced: BTreeMap<Key, (usize, usize, u32, usize, bool)>,
    finished: Vec<(usize, usize, u32, usize, TransactionId)>,
    found: bool,
    /// Since when sweeps of all shards have found nothing.
    nothing: Option<u64>,
}

impl Sweep {
    pub fn found_nothing_since(&self, at: u64) -> bool {
        self.nothing.is_some_and(|since| since > at)
    }
}

impl World {
    pub fn sweep_on(&mut self, phase: Phase) {
        let next = match phase {
            Phase::Decisions => {
                self.read_decisions();
                Phase::Held
            }
            Phase::Held => {
                self.read_held();
                Phase::Deciders
            }
            Phase::Deciders => {
                self.ask_deciders();
                Phase::Fences
            }
            Phase::Fences => {
                self.make_fences();
                Phase::Finish
            }
            Phase::Finish => {
                self.finish_all();
                Phase::Settle
            }
            Phase::Settle => {
                self.settle();
                return self.after(INTERVAL, Event::Sweep(Phase::Decisions));
            }
        };
        let delay = match self.rng.random_range(0..20) {
            0 => self.rng.random_range(100..800),
            _ => self.rng.random_range(2..30),
        };
        self.after(delay, Event::Sweep(next));
    }

    /// The primary of a shard, if it can be asked.
    fn asked_primary(&self, shard: usize) -> Option<usize> {
        let server = self.health.primary(shard).ok()?;
        let of = &self.shards[shard].servers[server];
        (of.alive && of.ready && of.reached && of.is_primary).then_some(server)
    }

    fn age(&self, since: u64) -> Duration {
        Duration::from_millis(self.at - since)
    }

    fn read_decisions(&mut self) {
        let nothing = self.sweep.nothing;
        self.sweep = Sweep {
            begun: Some(Instant::now()),
            nothing,
            ..Sweep::default()
        };
        for shard in 0..self.shards.len() {
            let Some(server) = self.asked_primary(shard) else {
                self.sweep.found = true;
                continue;
            };
            let of = &self.shards[shard].servers[server];
            let decisions = Contents::of(of.shown()).decisions;
            let decision = |(id, row): (&TransactionId, &crate::server::Row)| Decision {
                id: *id,
                backend: row.backend,
                committed: row.committed,
                participants: Participants::Shards(row.participants.clone()),
                age: self.age(row.at),
                alive: !row.committed && of.backends.values().any(|b| *b == row.backend),
            };
            let decisions: Vec<Decision> = decisions.iter().map(decision).collect();
            self.sweep.found |= !decisions.is_empty();
            self.sweep.decisions.insert(shard, decisions);
        }
    }

    fn read_held(&mut self) {
        let decisions = std::mem::take(&mut self.sweep.decisions);
        for (shard, decisions) in decisions {
            let Some(server) = self.asked_primary(shard) else {
                continue;
            };
            let of = &self.shards[shard].servers[server];
            let prepared = Contents::of(of.shown()).prepared;
            let held = prepared
                .into_values()
                .map(|(gid, _, at)| PreparedTransaction {
                    gid,
                    owner: "o".into(),
                    age: self.age(at),
                    here: true,
                });
            let seen = SeenSite {
                place: place(shard),
                decisions,
                held: held.collect(),
            };
            self.sweep.found |= !seen.held.is_empty();
            let site = self.site(shard);
            self.sweep.look.seen.insert(site, seen);
        }
    }

    fn keys(&self) -> BTreeSet<Key> {
        let held = self.sweep.look.held();
        held.map(|(_, held)| (held.gid.id, held.gid.backend))
            .collect()
    }

    fn shard_of(backend: Backend) -> usize {
        backend.place().system as usize - 1
    }

    fn ask_deciders(&mut self) {
        for (id, backend) in self.keys() {
            let shard = World::shard_of(backend);
            let known = self.sweep.look.at(backend.place()).is_some();
            let server = self.asked_primary(shard).filter(|_| known);
            let decider = match server {
                None => Decider::Unreachable,
                Some(server) => {
                    let of = &self.shards[shard].servers[server];
                    let row = Contents::of(of.shown()).decisions.remove(&id);
                    Decider::Seen {
                        outcome: row.map(|row| row.committed),
                        alive: of.backends.values().any(|b| *b == backend),
                    }
                }
            };
            self.sweep.deciders.insert((id, backend), decider);
        }
    }

    /// What is to be done, in an order that the seed repeats.
    fn verdicts(&self) -> Vec<(Site, PreparedTransaction, Verdict)> {
        let held = self.sweep.look.held();
        let judged = held.map(|(site, held)| {
            let key = (held.gid.id, held.gid.backend);
            let decider = self.sweep.deciders.get(&key);
            let decider = decider.copied().unwrap_or(Decider::Unreachable);
            (site.clone(), held.clone(), judge(held, decider, &PATIENCE))
        });
        let mut judged: Vec<_> = judged.collect();
        judged.sort_by(|a, b| (&a.0, a.1.gid.id).cmp(&(&b.0, b.1.gid.id)));
        judged
    }

    fn make_fences(&mut self) {
        let verdicts = self.verdicts().into_iter();
        let fences = verdicts.filter(|(.., verdict)| *verdict == Verdict::Fence);
        let fences: BTreeSet<Key> = fences
            .map(|(_, held, _)| (held.gid.id, held.gid.backend))
            .collect();
        for (id, backend) in fences {
            let shard = World::shard_of(backend);
            let Some(server) = self.asked_primary(shard) else {
                continue;
            };
            let run = self.shards[shard].servers[server].run;
            let (row, position) = self.fence(shard, server, id, backend);
            let fenced = (shard, server, run, position, row == "commit");
            self.sweep.fenced.insert((id, backend), fenced);
        }
    }

    /// Whether what was done there was confirmed: another server has it, and nothing happened in between.
    fn is_confirmed(&self, shard: usize, server: usize, run: u32, position: usize) -> bool {
        let of = &self.shards[shard].servers[server];
        of.reached && of.alive && of.is_primary && of.run == run && of.synced >= position
    }

    fn finish_all(&mut self) {
        for (site, held, verdict) in self.verdicts() {
            let key = (held.gid.id, held.gid.backend);
            let verdict = match (verdict, self.sweep.fenced.get(&key).copied()) {
                (Verdict::Fence, Some((shard, server, run, position, commit)))
                    if self.is_confirmed(shard, server, run, position) =>
                {
                    Verdict::Finish(commit)
                }
                (verdict, _) => verdict,
            };
            let Verdict::Finish(commit) = verdict else {
                continue;
            };
            let shard: usize = site.shard[1..].parse().unwrap();
            let Some(server) = self.asked_primary(shard) else {
                continue;
            };
            let run = self.shards[shard].servers[server].run;
            if let Some(position) = self.finish_prepared(shard, server, held.gid.id, commit) {
                self.counts.recovered += 1;
                let finished = (shard, server, run, position, held.gid.id);
                self.sweep.finished.push(finished);
            }
        }
    }

    fn settle(&mut self) {
        let begun = self.sweep.begun.expect("it has begun");
        let finished = std::mem::take(&mut self.sweep.finished);
        let mut done: HashMap<usize, HashSet<TransactionId>> = HashMap::new();
        for (shard, server, run, position, id) in finished {
            if self.is_confirmed(shard, server, run, position) {
                done.entry(shard).or_default().insert(id);
            }
        }
        let look = std::mem::take(&mut self.sweep.look);
        for shard in 0..self.shards.len() {
            let site = self.site(shard);
            let Some(seen) = look.seen.get(&site) else {
                self.sweep.found = true;
                continue;
            };
            let mut held = ids(seen);
            if let Some(done) = done.get(&shard) {
                held.retain(|id| !done.contains(id));
            }
            self.doubts.settle(&site, begun, &held);
            let Some(server) = self.asked_primary(shard) else {
                continue;
            };
            let forgettable: Vec<TransactionId> =
                look.forgettable(&site, &PATIENCE).map(|d| d.id).collect();
            for id in forgettable {
                self.counts.forgotten += 1;
                self.forget(shard, server, id);
            }
        }
        self.sweep.nothing = match self.sweep.found || self.doubts.count() > 0 {
            true => None,
            false => Some(self.sweep.nothing.unwrap_or(self.at)),
        };
    }
}
