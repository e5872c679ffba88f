//! What the router holds: memory, descriptors, server connections, while clients work and when they are gone.

use crate::session::ROLE;
use crate::world::World;
use mothership_tests::proof::{self, Verdict};
use mothership_tests::{Fleet, Router, poll_until};
use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(2);
const MIB: u64 = 1 << 20;
/// Memory that allocators may keep besides the half of what was used when warm.
const SLACK: u64 = 16 * MIB;
/// Connections of the router's own on a shard: `control.connections`, a probe, recovery.
const OWN: usize = 4;

/// Looks at a router while clients work.
pub struct Watch<'a> {
    router: &'a Router,
    fleet: &'a Fleet,
    descriptors: usize,
    warm: Option<u64>,
    memory: Vec<u64>,
    /// The most on one shard that were open at once for two looks in a row.
    connections: i64,
    looks: u32,
}

impl<'a> Watch<'a> {
    /// Begins when no client is there yet.
    pub fn new(router: &'a Router, fleet: &'a Fleet) -> Watch<'a> {
        let idle = poll_until(crate::SOON, || server_connections(fleet) == 0);
        assert!(idle, "connections of the router stay open");
        Watch {
            router,
            fleet,
            descriptors: router.open_descriptors(),
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
            let memory = memory(self.router);
            self.memory.push(memory);
            if begun.elapsed() >= warm {
                self.warm.get_or_insert(memory);
            }
            // A backend whose connection was closed lives for a moment: only what stays counts.
            let open = most_on_one_shard(self.fleet);
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
        let gone = memory(self.router);
        let mib = |bytes: u64| format!("{:.1}", bytes as f64 / MIB as f64);
        let figure = format!(
            "MiB {} warm, {} at the end, {} at most, {} when all had left",
            mib(warm),
            mib(last),
            mib(most),
            mib(gone)
        );
        let bound = warm * 3 / 2 + SLACK;
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
        let bound = self.descriptors + OWN * self.fleet.shards.len();
        let back = poll_until(crate::SOON, || self.router.open_descriptors() <= bound);
        let figure = format!(
            "{} before, {} after",
            self.descriptors,
            self.router.open_descriptors()
        );
        verdict.claim(back, "the router's descriptors are closed", figure);
    }
}

/// The router's memory in bytes, shared pages in their part; see Pss in proc(5).
fn memory(router: &Router) -> u64 {
    let path = format!("/proc/{}/smaps_rollup", router.pid());
    let rollup = std::fs::read_to_string(path).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() * 1024
}

fn of_clients(condition: &str) -> String {
    format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{ROLE}' {condition}")
}

/// Connections that serve clients, over all shards.
pub fn server_connections(fleet: &Fleet) -> i64 {
    proof::sum(fleet, &of_clients(""))
}

fn most_on_one_shard(fleet: &Fleet) -> i64 {
    let counts = proof::on_all(fleet, &of_clients(""));
    let counts = counts.iter().map(|n| n.parse::<i64>().unwrap());
    counts.max().unwrap_or(0)
}

/// When all clients have left, nothing of them is there.
pub fn nothing_left(router: &Router, fleet: &Fleet, verdict: &mut Verdict) {
    let clients = || {
        let shown = proof::console(router, "SHOW CLIENTS");
        shown.iter().filter(|c| c["database"] == "postgres").count()
    };
    let gone = poll_until(crate::SOON, || clients() == 0);
    verdict.claim(gone, "SHOW CLIENTS shows no client", clients());
    let busy = || {
        let shown = proof::console(router, "SHOW POOLS");
        let shown = shown.iter().filter(|pool| pool["database"] == "postgres");
        let columns = ["cl_active", "cl_waiting", "sv_active", "sv_login"];
        shown
            .flat_map(|pool| columns.map(|c| pool[c].parse::<i64>().unwrap()))
            .sum::<i64>()
    };
    let quiet = poll_until(crate::SOON, || busy() == 0);
    verdict.claim(quiet, "SHOW POOLS shows nothing in use", busy());
    let open = || proof::sum(fleet, &of_clients("AND state <> 'idle'"));
    let closed = poll_until(crate::SOON, || open() == 0);
    verdict.claim(closed, "no statement or transaction is left open", open());
    let idle = poll_until(crate::SOON, || server_connections(fleet) == 0);
    let left = server_connections(fleet);
    verdict.claim(idle, "unused server connections are closed", left);
    let finished = poll_until(crate::SOON, || proof::prepared(fleet) == 0);
    let left = proof::prepared(fleet);
    verdict.claim(finished, "no prepared transaction is left", left);
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
