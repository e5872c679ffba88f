//! The oracle: statements by seed, each run on one plain PostgreSQL and through the
//! router over shards that hold the same rows; both answers must be the same, or the
//! router refuses. How anyone can check the promise "never a wrong answer".
//!
//! COUNT, SEED, LAYOUT, SHARDS come from the environment. ONLY runs one numbered case,
//! with what went before it in its world. INJECT=drop puts faults of a kind into one of
//! ONE_IN answers, to see that they are found. WRITES=1 plays writes only. VERBOSE=1 shows
//! what is refused, by PostgreSQL itself or by the router. See `make oracle`.

#![allow(clippy::unwrap_used)] // A proof that cannot go on has nothing better than to say where.

mod values;

mod schema;

mod statement;

mod expr;

mod condition;

mod aggregate;

mod query;

mod source;

mod select;

mod subquery;

mod write;

mod run;

mod compare;

mod twins;

mod choice;

mod judge;

mod inject;

mod world;

mod play;

mod reduce;

mod report;

use crate::inject::Injector;
use crate::play::Play;
use crate::report::Report;
use crate::schema::{LAYOUTS, Layout};
use crate::world::World;
use mothership_tests::proof::{self, number};
use std::process::ExitCode;

/// Cases of one world; then come other tables, rows, layout and number of shards.
const WORLD: u64 = 200;
/// Numbers of shards, in turn.
const SHARDS: [usize; 4] = [3, 2, 7, 1];

fn main() -> ExitCode {
    let count = number("COUNT", 20_000);
    let seed = proof::seed();
    let text = |name: &str| std::env::var(name).unwrap_or_default();
    let layouts = chosen(&text("LAYOUT"));
    let shards = match number("SHARDS", 0) {
        0 => SHARDS.to_vec(),
        shards => vec![usize::try_from(shards).unwrap()],
    };
    let only = text("ONLY").parse::<u64>().ok();
    let mut injector = Injector::new(&text("INJECT"), number("ONE_IN", 500), seed);
    let mut report = Report::default();
    let worlds = match only {
        Some(only) => only / WORLD..only / WORLD + 1,
        None => 0..count.div_ceil(WORLD),
    };
    for number in worlds {
        let at = usize::try_from(number).unwrap();
        let layout = layouts[at % layouts.len()];
        // Every layout meets every number of shards.
        let shards = shards[(at / layouts.len() + at) % shards.len()];
        let first = number * WORLD;
        let end = only.map_or(count.min(first + WORLD), |only| only + 1);
        let world = World::new(mix(seed, number, 1), layout, shards);
        let play = Play {
            world,
            report: &mut report,
            injector: &mut injector,
            seed,
            only,
            writes: text("WRITES") == "1",
            verbose: text("VERBOSE") == "1",
        };
        play.run(first..end);
    }
    report.print(seed);
    let fine = match injector.is_on() {
        true => report.injected > 0 && report.injected == report.found,
        false => report.wrong == 0,
    };
    match fine {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn chosen(name: &str) -> Vec<Layout> {
    if name.is_empty() {
        return LAYOUTS.to_vec();
    }
    let found: Vec<Layout> = LAYOUTS
        .into_iter()
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
