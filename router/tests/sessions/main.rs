//! The real sessions of the router under random faults, by seed.
//!
//! What runs is the router's own code: login, sessions, pools, plans, commits over shards, recovery, cancels, by streams
//! within the process. What is simulated is around it: servers that speak the protocol and keep a few rows (`server`,
//! `engine`, `sql`), which die at every step, fail, crash and come back (`world`); and clients that know what they must
//! be answered (`client`).
//!
//! Promises: every message comes in its turn, and ReadyForQuery says how it is; every request ends; a client reads its
//! own writes and no mixture of two rows; its settings are its own; who asked for no cancel is not cancelled; what was
//! told as done is there at the end, what was told as failed is not, and of what is not known all is there or nothing, on
//! all shards; when all clients have left nothing is prepared or locked.
//!
//! What is not in it: waiting for locks (a simulated server fails at once), replicas, gathered statements, COPY in the
//! extended protocol, definitions, a second router. `router/tests/sim` has replicas and failover.
//!
//! `SEED` and `SEEDS` say which runs; a run that fails is run again with its events. Times are the machine's own, so that a
//! seed repeats mostly, and not always.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod client;
mod engine;
mod server;
mod sql;
mod world;

use mothership_pool::wire::{SendMode, install};
use std::cell::RefCell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::runtime::{Builder, LocalOptions};
use world::Counts;

/// After so many failures there is enough to look at.
const ENOUGH: usize = 3;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

thread_local! {
    /// What has panicked on this thread: a task of the router that does ends silently.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn run(seed: u64, tracing: bool) -> Result<Counts, String> {
    PANIC.take();
    let mut builder = Builder::new_current_thread();
    builder.enable_all();
    install(&mut builder, SendMode::Plain);
    let runtime = builder.build_local(LocalOptions::default()).unwrap();
    let ran = runtime.block_on(world::run(seed, tracing));
    match PANIC.take() {
        None => ran,
        Some(panic) => {
            let before = ran.err().unwrap_or_default();
            Err(format!("{before}\nseed {seed}: {panic}"))
        }
    }
}

#[test]
fn sessions_keep_their_promises_under_random_faults() {
    let seeds = number("SEEDS").unwrap_or(100);
    let first = number("SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    println!("sessions: SEED={first} SEEDS={seeds}");
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let trace = std::backtrace::Backtrace::capture();
        PANIC.set(Some(format!("{panic}\n{trace}")));
        if std::thread::current().name().is_some() {
            before(panic);
        }
    }));
    let (next, total) = (AtomicU64::new(0), Mutex::new(Counts::default()));
    let failed: Mutex<Vec<u64>> = Mutex::default();
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= seeds || failed.lock().unwrap().len() >= ENOUGH {
                return;
            }
            if at > 0 && at % 1_000 == 0 {
                println!("sessions: {at} of {seeds}");
            }
            let seed = first.wrapping_add(at);
            match run(seed, true) {
                Ok(counts) => {
                    let mut total = total.lock().unwrap();
                    for (what, count) in counts.0 {
                        *total.0.entry(what).or_default() += count;
                    }
                }
                Err(why) => {
                    println!("{why}\n");
                    failed.lock().unwrap().push(seed);
                }
            }
        }
    };
    // They wait for timers, too.
    let threads = 2 * std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().unwrap();
    println!("{:?}", total.into_inner().unwrap().0);
    println!(
        "sessions: seeds={seeds} failed={} seed={first}",
        failed.len()
    );
    assert!(failed.is_empty(), "seeds {failed:?}");
}
