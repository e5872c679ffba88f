//! What the router holds: memory, descriptors, server connections, while clients work and when they are gone.

use crate::session::ROLE;
use crate::world::World;
use mothership_tests::level::{self, Level, mib};
use mothership_tests::proof::{self, Verdict};
use mothership_tests::{Fleet, Router};
use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(2);

/// Looks at a router while clients work.
pub struct Watch<'a> {
    router: &'a Router,
    fleet: &'a Fleet,
    before: Level,
    warm: Option<u64>,
    memory: Vec<u64>,
    /// The most on one shard that were open at once for two looks in a row.
    connections: i64,
    looks: u32,
}

impl<'a> Watch<'a> {
    /// Begins when no client is there yet.
    pub fn new(router: &'a Router, fleet: &'a Fleet) -> Watch<'a> {
        Watch {
            router,
            fleet,
            before: Level::now(router, fleet, ROLE, crate::SOON),
            warm: None,
            memory: Vec::new(),
            connections: 0,
            looks: 0,
        }
    }

    /// Looks again and again until the end of the world; what is measured first counts after `warm`.
    pub fn run(&mut self, world: &World, warm: Duration) {
        let begun = Instant::now();
        let mut before = 0;
        while !world.ended() {
            std::thread::sleep(PAUSE);
            let memory = self.router.memory();
            self.memory.push(memory);
            if begun.elapsed() >= warm {
                self.warm.get_or_insert(memory);
            }
            // A backend whose connection was closed lives for a moment: only what stays counts.
            let open = level::most_on_one_shard(self.fleet, ROLE);
            self.connections = self.connections.max(open.min(before));
            before = open;
            self.looks += 1;
        }
    }

    /// What there was to see.
    pub fn judge(&self, pool: u64, verdict: &mut Verdict) {
        let last = self.memory.last().copied().unwrap_or(0);
        let warm = self.warm.unwrap_or(last);
        let most = self.memory.iter().max().copied().unwrap_or(0);
        let gone = self.router.memory();
        let figure = format!(
            "MiB {} warm, {} at the end, {} at most, {} when all had left",
            mib(warm),
            mib(last),
            mib(most),
            mib(gone)
        );
        let bound = level::memory_bound(warm);
        verdict.claim(
            last <= bound && gone <= bound,
            "memory (Pss) does not grow",
            figure,
        );
        let within = self.connections <= pool as i64 && self.connections > 0;
        let figure = format!("{} at most in {} looks", self.connections, self.looks);
        verdict.claim(
            within,
            "server connections on a shard are within the pool",
            figure,
        );
        self.before
            .claim_descriptors(self.router, self.fleet, crate::SOON, verdict);
    }
}

/// Every row carries the mark of the session whose key it has, and lies on one shard only.
pub fn rows_are_whole(fleet: &Fleet, world: &World, verdict: &mut Verdict) {
    let mut keys = Vec::new();
    let mut mixed = 0;
    for text in proof::on_all(fleet, "SELECT id, mark FROM marks") {
        for line in text.lines() {
            let (key, mark) = line.split_once('|').unwrap();
            let key: i64 = key.parse().unwrap();
            let own = world.owner(key).map(|mark| mark.to_string());
            mixed += usize::from(own.as_deref() != Some(mark));
            keys.push(key);
        }
    }
    keys.sort_unstable();
    let rows = keys.len();
    keys.dedup();
    let figure = format!("{rows} rows of {} sessions", world.sessions());
    let whole = mixed == 0 && rows == keys.len() && rows > 0;
    verdict.claim(whole, "rows have the marks of their keys' sessions", figure);
    let copies = proof::on_all(fleet, "SELECT id, mark FROM tags ORDER BY id");
    let same = copies.iter().all(|copy| *copy == copies[0]);
    verdict.claim(same, "the reference table is the same everywhere", same);
}
