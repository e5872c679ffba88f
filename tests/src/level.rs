//! What the router and its servers hold: memory, descriptors, connections, prepared transactions. Taken before a load
//! or a fault, and held against what is there afterwards: nothing may stay behind.

use crate::proof::{self, Verdict};
use crate::{Fleet, Router, poll_until};
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// Memory that allocators may keep besides the half of what was used when warm.
const SLACK: u64 = 16 * MIB;
/// Connections of the router's own on a shard: `control.connections`, a probe, recovery.
const OWN: usize = 4;

/// The most that may be used of what was `warm`.
pub fn memory_bound(warm: u64) -> u64 {
    warm * 3 / 2 + SLACK
}

/// Bytes as a human reads them.
pub fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / MIB as f64)
}

/// What was there at one moment, when no client had anything to do.
#[derive(Debug, Clone, Copy)]
pub struct Level {
    /// The router's descriptors.
    pub descriptors: usize,
    /// The router's memory in bytes.
    pub memory: u64,
}

impl Level {
    /// Waits until `role` has no server connection and nothing is prepared; what the router holds then.
    ///
    /// # Panics
    /// If that does not come within `limit`.
    pub fn now(router: &Router, fleet: &Fleet, role: &str, limit: Duration) -> Level {
        let idle = poll_until(limit, || server_connections(fleet, role) == 0);
        assert!(idle, "connections of the router stay open");
        let finished = poll_until(limit, || proof::prepared(fleet) == 0);
        assert!(finished, "prepared transactions are left");
        Level {
            descriptors: router.open_descriptors(),
            memory: router.memory(),
        }
    }

    /// Claims that all is back where it was, within `limit`.
    pub fn claim_back(
        &self,
        router: &Router,
        fleet: &Fleet,
        role: &str,
        limit: Duration,
        verdict: &mut Verdict,
    ) {
        nothing_on_servers(fleet, role, limit, verdict);
        self.claim_descriptors(router, fleet, limit, verdict);
        let bound = memory_bound(self.memory);
        let back = poll_until(limit, || router.memory() <= bound);
        let figure = format!(
            "MiB {} before, {} after",
            mib(self.memory),
            mib(router.memory())
        );
        verdict.claim(back, "the router's memory is back", figure);
    }

    /// The descriptors alone.
    pub fn claim_descriptors(
        &self,
        router: &Router,
        fleet: &Fleet,
        limit: Duration,
        verdict: &mut Verdict,
    ) {
        let bound = self.descriptors + OWN * fleet.shards.len();
        let back = poll_until(limit, || router.open_descriptors() <= bound);
        let figure = format!(
            "{} before, {} after",
            self.descriptors,
            router.open_descriptors()
        );
        verdict.claim(back, "the router's descriptors are closed", figure);
    }
}

fn of_clients(role: &str, condition: &str) -> String {
    format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}' {condition}")
}

/// Connections that serve this role, over all shards.
pub fn server_connections(fleet: &Fleet, role: &str) -> i64 {
    proof::sum(fleet, &of_clients(role, ""))
}

/// The same of the shard that has most.
pub fn most_on_one_shard(fleet: &Fleet, role: &str) -> i64 {
    let counts = proof::on_all(fleet, &of_clients(role, ""));
    let counts = counts.iter().map(|n| n.parse::<i64>().unwrap());
    counts.max().unwrap_or(0)
}

/// When all clients have left, nothing of them is there. Their database is `postgres`.
pub fn nothing_left(
    router: &Router,
    fleet: &Fleet,
    role: &str,
    limit: Duration,
    verdict: &mut Verdict,
) {
    let clients = || {
        let shown = proof::console(router, "SHOW CLIENTS");
        shown.iter().filter(|c| c["database"] == "postgres").count()
    };
    let gone = poll_until(limit, || clients() == 0);
    verdict.claim(gone, "SHOW CLIENTS shows no client", clients());
    let busy = || {
        let shown = proof::console(router, "SHOW POOLS");
        let shown = shown.iter().filter(|pool| pool["database"] == "postgres");
        let columns = ["cl_active", "cl_waiting", "sv_active", "sv_login"];
        shown
            .flat_map(|pool| columns.map(|c| pool[c].parse::<i64>().unwrap()))
            .sum::<i64>()
    };
    let quiet = poll_until(limit, || busy() == 0);
    verdict.claim(quiet, "SHOW POOLS shows nothing in use", busy());
    nothing_on_servers(fleet, role, limit, verdict);
}

fn nothing_on_servers(fleet: &Fleet, role: &str, limit: Duration, verdict: &mut Verdict) {
    let open = || proof::sum(fleet, &of_clients(role, "AND state <> 'idle'"));
    let closed = poll_until(limit, || open() == 0);
    verdict.claim(closed, "no statement or transaction is left open", open());
    let idle = poll_until(limit, || server_connections(fleet, role) == 0);
    let left = server_connections(fleet, role);
    verdict.claim(idle, "unused server connections are closed", left);
    let finished = poll_until(limit, || proof::prepared(fleet) == 0);
    let left = proof::prepared(fleet);
    verdict.claim(finished, "no prepared transaction is left", left);
}
