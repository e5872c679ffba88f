//! The bank for as long as asked, through two routers side by side, while one fault follows the other: servers that
//! crash, are replaced or freeze, standbys that go, routers that are killed, drained or reloaded, connections that are
//! cut, slow or silent. Each shard is a primary with two standbys, and a commit waits for one of them, so that nothing
//! that was acknowledged may be lost; with ASYNC=1 none is waited for, and what is lost then is a figure.
//!
//! MINUTES, CLIENTS and SEED come from the environment; see `make soak`.

#![allow(clippy::unwrap_used)] // A proof that cannot go on has nothing better than to say where.

mod faults;

mod readers;

mod world;

use crate::faults::{KINDS, Kind};
use crate::readers::Readers;
use crate::world::World;
use mothership_tests::proof::{self, Verdict, number};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// After a fault the bank goes on for as long before the next.
const CALM: std::ops::Range<u64> = 500..2_500;
/// So many faults, and the bank is judged in between.
const JUDGED_EVERY: u64 = 25;

fn main() -> ExitCode {
    let seed = proof::seed();
    proof::raise_descriptor_limit();
    let lasts = Duration::from_secs_f64(60.0 * minutes());
    let is_async = number("ASYNC", 0) != 0;
    let mut rng = StdRng::seed_from_u64(seed);
    let mut verdict = Verdict::default();
    let mut world = World::begin(number("CLIENTS", 12) as usize, seed, is_async);
    let readers = Readers::begin(&world, seed);
    let begun = Instant::now();
    let mut done: BTreeMap<&str, u64> = BTreeMap::new();
    let mut deck: Vec<Kind> = Vec::new();
    while begun.elapsed() < lasts {
        // Every kind once, in any order, and again.
        if deck.is_empty() {
            deck = KINDS.to_vec();
            deck.shuffle(&mut rng);
        }
        let kind = deck.pop().expect("it was filled");
        let since = Instant::now();
        let what = kind.strike(&mut world, &mut rng);
        *done.entry(kind.name).or_default() += 1;
        let goes_on = world.goes_on();
        println!(
            "{:6.1} s: {} ({what}) {:.1} s{}",
            begun.elapsed().as_secs_f64(),
            kind.name,
            since.elapsed().as_secs_f64(),
            if goes_on {
                ""
            } else {
                ", and the bank stands still"
            }
        );
        if !goes_on {
            verdict.claim(
                false,
                &format!("the bank goes on after {}", kind.name),
                world.bank.figures(),
            );
            world.print_state();
            break;
        }
        let count: u64 = done.values().sum();
        if count.is_multiple_of(JUDGED_EVERY) {
            world.judge(is_async, &mut verdict);
        }
        std::thread::sleep(Duration::from_millis(rng.random_range(CALM)));
    }
    let reads = readers.end(&mut verdict);
    let judgement = world.judge(is_async, &mut verdict);
    let figures = world.bank.figures();
    let right = figures.hangs == 0 && figures.strange.is_empty();
    let claim = "every answer was its own, and came in time";
    verdict.claim(right, claim, format!("{figures} {:?}", figures.strange));
    let faults: u64 = done.values().sum();
    println!("{done:?}");
    println!(
        "soak: minutes={:.1} faults={faults} kinds={} acknowledged={} unknown={} failed={} reads={reads} lost={} doubled={} ghost={} torn={} sums={} seed={seed}",
        begun.elapsed().as_secs_f64() / 60.0,
        done.len(),
        figures.acknowledged,
        figures.unknown,
        figures.failed,
        judgement.lost.len(),
        judgement.doubled.len(),
        judgement.ghost.len(),
        judgement.torn.len(),
        judgement.sums.len(),
    );
    verdict.exit()
}

/// MINUTES, which may be a part of one.
fn minutes() -> f64 {
    let text = std::env::var("MINUTES").unwrap_or_default();
    match text.as_str() {
        "" => 30.0,
        text => text
            .parse()
            .unwrap_or_else(|_| panic!("MINUTES={text} is no number")),
    }
}
