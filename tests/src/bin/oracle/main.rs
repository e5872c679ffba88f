//! The oracle: statements by seed, each run on one plain PostgreSQL and through the
//! router over shards that hold the same rows; both answers must be the same, or the
//! router refuses. How anyone can check the promise "never a wrong answer".
//!
//! COUNT, SEED, LAYOUT, SHARDS come from the environment. ONLY runs one numbered case,
//! with what went before it in its world. INJECT=drop puts faults of a kind into one of
//! ONE_IN answers, to see that they are found. WRITES=1 plays writes only. JOBS worlds are
//! played at a time. VIEWS=24 makes so many views at random in each world, which most names in FROM then are (`make views`).
//! VERBOSE=1 shows what is refused, by PostgreSQL itself or by the router. UNTIL_WRONG=1 ends the run with the first fault.
//! LAYOUT=mongodb, which is played when it is asked for, has two of three tables in MongoDB; what documents cannot have
//! or do is refused, and counted as limits.
//! See `make oracle`.

#![allow(clippy::unwrap_used)] // A proof that cannot go on has nothing better than to say where.

mod values;

mod schema;

mod statement;

mod expr;

mod condition;

mod aggregate;

mod grouped;

mod query;
mod ranks;

mod source;

mod select;

mod subquery;

mod views;

mod partition;
mod partition_ddl;

mod code;

mod settings;

mod write;

mod run;

mod compare;

mod twins;

mod choice;

mod judge;

mod inject;

mod limits;

mod world;

mod play;

mod reduce;

mod report;

use crate::inject::{Fault, Injector};
use crate::play::Play;
use crate::report::Report;
use crate::schema::{LAYOUTS, Layout};
use crate::world::World;
use mothership_tests::proof::{self, number};
use mothership_tests::shared;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Cases of one world; then come other tables, rows, layout and number of shards.
const WORLD: u64 = 400;
/// Numbers of shards, in turn.
const SHARDS: [usize; 4] = [3, 2, 7, 1];

fn main() -> ExitCode {
    let count = number("COUNT", 20_000);
    let only = text("ONLY").parse::<u64>().ok();
    let task = Task {
        layouts: chosen(&text("LAYOUT")),
        shards: match number("SHARDS", 0) {
            0 => SHARDS.to_vec(),
            shards => vec![usize::try_from(shards).unwrap()],
        },
        fault: Fault::named(&text("INJECT")),
        rarity: u32::try_from(number("ONE_IN", 500)).unwrap(),
        seed: proof::seed(),
        count,
        views: number("VIEWS", 0),
        only,
        writes: text("WRITES") == "1",
        verbose: text("VERBOSE") == "1",
        until_wrong: text("UNTIL_WRONG") == "1",
    };
    if task.layouts == [Layout::Mongodb] && mothership_tests::mongo::mongod().is_none() {
        println!("SKIP oracle/mongodb no mongod can be had");
        return ExitCode::SUCCESS;
    }
    // Statements that look expensive are small here, and compiling them takes most of their time.
    for sql in ["ALTER SYSTEM SET jit = off", "SELECT pg_reload_conf()"] {
        shared::cluster().sql("postgres", sql).unwrap();
    }
    let worlds = match only {
        Some(only) => only / WORLD..only / WORLD + 1,
        None => 0..count.div_ceil(WORLD),
    };
    let next = AtomicU64::new(worlds.start);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = number("JOBS", u64::try_from(cores).unwrap());
    // A panic of one of them ends the run.
    let reports: Vec<Report> = std::thread::scope(|scope| {
        let players: Vec<_> = (0..jobs)
            .map(|_| scope.spawn(|| task.play(&next, worlds.end)))
            .collect();
        players.into_iter().map(|p| p.join().unwrap()).collect()
    });
    let report = reports.into_iter().fold(Report::default(), Report::and);
    report.print(if task.views > 0 { "views" } else { "oracle" }, task.seed);
    let fine = match task.fault {
        Some(_) => report.injected > 0 && report.injected == report.found,
        None => report.wrong == 0,
    };
    match fine {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// What the environment asks for.
struct Task {
    layouts: Vec<Layout>,
    shards: Vec<usize>,
    fault: Option<Fault>,
    rarity: u32,
    seed: u64,
    count: u64,
    views: u64,
    only: Option<u64>,
    writes: bool,
    verbose: bool,
    until_wrong: bool,
}

impl Task {
    /// Plays world after world, whichever is next, until `end`. Which statements a world has depends on
    /// its number alone.
    fn play(&self, next: &AtomicU64, end: u64) -> Report {
        let mut report = Report::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= end {
                return report;
            }
            let at = usize::try_from(number).unwrap();
            let layout = self.layouts[at % self.layouts.len()];
            // Every layout meets every number of shards.
            let shards = self.shards[(at / self.layouts.len() + at) % self.shards.len()];
            let begun = Instant::now();
            let world = World::new(mix(self.seed, number, 1), layout, shards, self.views);
            report.spent("making worlds", begun);
            let play = Play {
                world,
                report: &mut report,
                injector: Injector::new(self.fault, self.rarity, mix(self.seed, number, 2)),
                seed: self.seed,
                only: self.only,
                writes: self.writes,
                verbose: self.verbose,
                until_wrong: self.until_wrong,
            };
            let first = number * WORLD;
            play.run(
                first
                    ..self
                        .only
                        .map_or(self.count.min(first + WORLD), |only| only + 1),
            );
            if self.until_wrong && report.wrong > 0 {
                next.store(end, Ordering::Relaxed);
            }
        }
    }
}

fn text(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn chosen(name: &str) -> Vec<Layout> {
    if name.is_empty() {
        return LAYOUTS.to_vec();
    }
    let found: Vec<Layout> = LAYOUTS
        .into_iter()
        .chain([Layout::Mongodb])
        .filter(|layout| layout.name() == name)
        .collect();
    assert!(
        !found.is_empty(),
        "LAYOUT={name} is none of {:?}",
        LAYOUTS.map(Layout::name)
    );
    found
}

/// A seed of its own for each number and purpose.
pub fn mix(seed: u64, number: u64, purpose: u64) -> u64 {
    let mut x = seed
        ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ purpose.wrapping_mul(0xd1b5_4a32_d192_ed03);
    for _ in 0..2 {
        x = (x ^ (x >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    x ^ (x >> 29)
}
