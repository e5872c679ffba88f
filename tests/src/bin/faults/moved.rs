//! What lies outside of the router and changes under it: the wall clock, and what names of servers mean.

use crate::ask::{read, say};
use crate::world::{PLAIN, Place, SHARDS, SOON, Setup, World, hosts};
use mothership_tests::proof::{self, Verdict};
use mothership_tests::{Proxy, message, poll_until};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// Names are resolved again soon.
pub const NAMES: Setup = Setup {
    pool: "resolve_interval = \"1s\"",
    place: Place::Names,
    ..PLAIN
};
/// Limits of time of many kinds.
pub const CLOCK: Setup = Setup {
    pool: "query_timeout = \"8s\"\nidle_in_transaction_timeout = \"1min\"\nqueue_timeout = \"20s\"",
    narrow: "pool_max = 1",
    place: Place::Clock,
    ..PLAIN
};
/// See above.
const QUERY_TIMEOUT: Duration = Duration::from_secs(8);
const HOUR: i64 = 3600;
/// Connections of recovery and of the search for deadlocks, which are closed before they would be used again.
const OWN: usize = 3;

/// 60: all servers are at another address.
pub fn address_changes(world: &mut World<'_>, verdict: &mut Verdict) {
    let other = Ipv4Addr::new(127, 0, 0, 2);
    let way = |old: &Proxy| Proxy::at(other, old.port(), old.target());
    let new: Vec<Proxy> = world.back.iter().map(way).collect();
    let used = |ways: &[Proxy]| ways.iter().all(|way| way.accepted() > 0);
    for (round, is_gone) in [false, true].into_iter().enumerate() {
        // First the old address is still there; then nobody listens.
        if is_gone {
            world.back.iter().for_each(Proxy::refuse);
        }
        world.router.write_hosts(&hosts("127.0.0.2"));
        let begun = Instant::now();
        let moved = poll_until(SOON, || {
            used(&new) && world.back.iter().all(|way| way.open() <= OWN)
        });
        let open: Vec<usize> = world.back.iter().map(Proxy::open).collect();
        let accepted: Vec<u64> = new.iter().map(Proxy::accepted).collect();
        let took = begun.elapsed();
        let figure = format!("round {round}: {accepted:?} there, {open:?} here after {took:.1?}");
        let who = "SELECT string_agg(application_name || ' ' || datname || ' ' || state || ' ' || left(query, 60), '; ' \
            ORDER BY backend_start) FROM pg_stat_activity WHERE client_addr IS NOT NULL";
        let who = world.sql(0, who);
        let figure = if moved {
            figure
        } else {
            format!("{figure}: {who}")
        };
        let claim = "the new address is used, and the old one no longer";
        verdict.claim(moved, claim, figure);
        let before: Vec<u64> = world.back.iter().map(Proxy::accepted).collect();
        world.claim_shards_served(&[0, 1, 2], verdict);
        world.claim_served(verdict);
        let after: Vec<u64> = world.back.iter().map(Proxy::accepted).collect();
        verdict.claim(before == after, "nor is it tried", format!("{after:?}"));
        world.back.iter().for_each(Proxy::heal);
        world.router.write_hosts(&hosts("127.0.0.1"));
        let back = poll_until(SOON, || new.iter().all(|way| way.open() <= OWN));
        verdict.claim(back, "and back again", back);
        world.claim_served(verdict);
    }
    let figures = world.bank.figures();
    let told = figures.errors.keys().all(|code| code.starts_with("08"));
    verdict.claim(
        told,
        "transfers fail only with what was open there",
        figures,
    );
    assert_eq!(new.len(), SHARDS);
}

/// 59: the wall clock jumps, forwards and backwards.
pub fn clock_jumps(world: &mut World<'_>, verdict: &mut Verdict) {
    let key = world.key(0);
    let row = format!("SELECT id FROM accounts WHERE id = {key}");
    let connected = |world: &World<'_>| {
        let shown = proof::console(&world.router, "SHOW CLIENTS");
        let times = shown.iter().map(|client| client["connect_time"].clone());
        times.max().unwrap_or_default()
    };
    let mut open = world.client();
    say(&mut open, "BEGIN");
    say(&mut open, &row);
    let known = proof::console(&world.router, "SHOW ENDPOINTS");
    for hours in [12, -12, 48, 0] {
        let before = connected(world);
        // Whoever waits for a connection, and whose statement runs: neither is told that time is over.
        let (mut holder, mut waits, mut runs) = (world.narrow(), world.narrow(), world.client());
        say(&mut holder, "BEGIN");
        say(&mut holder, &row);
        waits.send(&message::query(&row));
        runs.send(&message::query(&format!(
            "SELECT id, pg_sleep(3) FROM accounts WHERE id = {key}"
        )));
        world.router.set_clock(hours * HOUR);
        let told = poll_until(SOON, || {
            drop(world.client());
            let now = connected(world);
            now.get(..13) != before.get(..13)
        });
        let figure = format!("{before} and {}", connected(world));
        verdict.claim(told, "the router's clock has jumped", figure);
        let answer = read(&mut runs);
        verdict.claim(answer.is_done(), "no statement is cut off", answer);
        let answer = say(&mut open, &row);
        let stays = answer.last() == "ReadyForQuery T" && answer.is_done();
        verdict.claim(stays, "nor a transaction that rests", answer);
        say(&mut holder, "COMMIT");
        let answer = read(&mut waits);
        verdict.claim(answer.is_done(), "nor who waits for a connection", answer);
        world.claim_served(verdict);
    }
    // A limit that has begun is kept although the clock jumps in both directions.
    for hours in [-24, 24] {
        let mut slow = world.client();
        let begun = Instant::now();
        slow.send(&message::query(&format!(
            "SELECT id, pg_sleep(60) FROM accounts WHERE id = {key}"
        )));
        let runs = "query LIKE '%pg_sleep(60)%' AND state = 'active'";
        assert!(poll_until(SOON, || world.backends(runs) == 1));
        world.router.set_clock(hours * HOUR);
        let answer = read(&mut slow);
        let took = begun.elapsed();
        let told = answer.is_error(&["57014"], 'I') && took >= QUERY_TIMEOUT;
        let figure = format!("{answer} after {took:.1?}");
        verdict.claim(told, "a limit of time is kept, and not early", figure);
    }
    world.router.set_clock(0);
    let answer = say(&mut open, "COMMIT");
    verdict.claim(answer.is_done(), "the transaction commits", answer);
    let shown = proof::console(&world.router, "SHOW ENDPOINTS");
    let up = shown.iter().all(|server| server["health"] == "up");
    let same = shown.len() == known.len() && up;
    verdict.claim(same, "no server is taken for dead", up);
    let figures = world.bank.figures();
    verdict.claim(figures.errors.is_empty(), "no transfer fails", figures);
}
