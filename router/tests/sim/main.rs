//! The decisions about servers, under a simulated clock and network, with random faults by seed.
//!
//! What decides is the real thing: [`Health`](mothership_pool::health::Health) with elections, freshness, breakers and balance,
//! [`CommitClock`](mothership_pool::health::CommitClock), [`WaitingTotals`](mothership::core::WaitingTotals),
//! [`repeats`](mothership::session::repeat::repeats) and [`Abandoned`](mothership::session::repeat::Abandoned),
//! [`Commit`](mothership::commit::steps::Commit), [`Doubts`](mothership::commit::doubt::Doubts),
//! [`judge`](mothership::commit::judge::judge) and [`Look`](mothership::commit::judge::Look).
//!
//! What is simulated is the world around it: servers that crash, are cut off, promoted and rewound (`server`, `faults`),
//! the way of a request through a session, which in the router is tied to sockets (`requests`, `transfer`; it is written after
//! `session::primary`, `session::choose`, `session::serve`, `session::transact` and `core::roles`), the order in which
//! recovery asks and acts (`recovery`, after `commit::recover`), and pools of connections without limits.
//!
//! Invariants: no acknowledged write is lost, none is there twice, and none of which the client was told that it failed; no
//! request is sent to write on a timeline older than the newest that the router has seen; no read misses what its
//! freshness promises; nothing goes to a server whose breaker is open while another could take it; what waits stays within
//! its limits; every request ends; a transaction over two shards is on both or on none, and nothing stays prepared; when
//! all faults are over, all servers are used again.
//!
//! What is not in it: a second router, reloads, SWITCHOVER and what is set by hand, limits and queues of pools, statements that
//! work on several shards without a transaction, asynchronous replicas. Two things that PostgreSQL allows are kept out of
//! it, because no router can: a primary that has just started or was just promoted answers before any other server has
//! its whole log, so that what a client reads there may be gone if it is lost as well; and a failover manager may promote a
//! server that lacks what another one had confirmed.
//!
//! `SEED` and `SEEDS` say which runs; a run that fails is printed with its last events, and `SEED=… SEEDS=1` repeats it.
//! docs/proofs.md lists mistakes that were made on purpose, and what the simulation said to them.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod faults;
mod recovery;
mod requests;
mod server;
mod transfer;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use world::{Counts, World};

/// Threads that run seeds have this name: a run that fails is told once, with its events, and not by its panic.
const THREAD: &str = "seeds";

/// After so many failures there is enough to look at.
const ENOUGH: usize = 3;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run(seed: u64, tracing: bool) -> Result<Counts, String> {
    let mut world = World::new(seed, tracing);
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    let Err(panic) = ran else {
        return Ok(world.counts);
    };
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
    let trace: Vec<String> = world.trace.into_iter().collect();
    Err(format!(
        "{}\nseed {seed}, event {}, at {} ms: {}",
        trace.join("\n"),
        world.counts.events,
        world.at,
        text.unwrap_or_default()
    ))
}

/// What all runs came to, and the seeds that failed, with what happened.
#[derive(Default)]
struct Total {
    counts: Counts,
    failed: Vec<(u64, String)>,
}

fn run_all(first: u64, seeds: u64) -> Total {
    let total = Mutex::new(Total::default());
    let next = AtomicU64::new(0);
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= seeds || total.lock().unwrap().failed.len() >= ENOUGH {
                return;
            }
            let seed = first.wrapping_add(at);
            match run(seed, false) {
                Ok(counts) => total.lock().unwrap().counts.add(&counts),
                Err(_) => {
                    // It is the same again, and says what happened.
                    let why = run(seed, true).err();
                    let why = why.unwrap_or_else(|| format!("seed {seed} does not repeat"));
                    total.lock().unwrap().failed.push((seed, why));
                }
            }
        }
    };
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() != Some(THREAD) {
            before(panic);
        }
    }));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let thread = std::thread::Builder::new().name(THREAD.into());
            thread.spawn_scoped(scope, work).unwrap();
        }
    });
    total.into_inner().unwrap()
}

#[test]
fn the_decisions_hold_under_random_faults() {
    let seeds = number("SEEDS").unwrap_or(100);
    let first = number("SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    println!("sim: SEED={first} SEEDS={seeds}");
    let Total { counts, mut failed } = run_all(first, seeds);
    failed.sort();
    failed.iter().for_each(|(_, why)| println!("{why}"));
    println!("{counts:?}");
    println!(
        "sim: seeds={seeds} failed={} seed={first} events={}",
        failed.len(),
        counts.events
    );
    let failed: Vec<u64> = failed.into_iter().map(|(seed, _)| seed).collect();
    assert!(failed.is_empty(), "seeds {failed:?}");
    // It would be worth nothing if nothing happened.
    if seeds >= 50 {
        counts.all_happened();
    }
}

#[test]
fn a_seed_repeats() {
    let counts = |seed| run(seed, false).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(counts(7), counts(7));
}
