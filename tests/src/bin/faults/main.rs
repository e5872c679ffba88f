//! The table of faults, row by row: real servers, the real router, a bank that transfers behind, a fault, and what
//! clients saw of it. Afterwards nothing may be lost, doubled, made up or left behind.
//!
//! ROWS picks rows (`20-24,47`), SEED repeats a run; see `make faults`. `table.rs` has every row with what a client is
//! to see. A row that cannot be run here says why and counts as not shown.

#![allow(clippy::unwrap_used)] // A proof that cannot go on has nothing better than to say where.

mod ask;

mod world;

mod lost;

mod clients;

mod network;

mod apart;

mod corrupt;

mod queue;

mod commits;

mod servers;

mod standbys;
mod takeover;

mod protocol;

mod encrypted;
mod proofs;
mod random;

mod crowd;

mod disk;

mod reloads;

mod moved;

mod scarce;

mod table;

use crate::table::{ROWS, Row, Show};
use crate::world::{Ground, World};
use mothership_tests::proof::{self, Verdict};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// How a row ended.
enum End {
    Shown,
    NotShown,
    Failed(Vec<String>),
}

fn main() -> ExitCode {
    let seed = proof::seed();
    proof::raise_descriptor_limit();
    let picked = picked(&std::env::var("ROWS").unwrap_or_default());
    let rows: Vec<&Row> = ROWS
        .iter()
        .filter(|row| picked.is_empty() || picked.contains(&row.number))
        .collect();
    let mut grounds = [None, None];
    let (mut shown, mut failed) = (0, Vec::new());
    for row in &rows {
        let begun = Instant::now();
        println!("---- row {}: {}", row.number, row.fault);
        let end = play(row, seed, &mut grounds);
        let took = begun.elapsed().as_secs_f64();
        match end {
            End::Shown => {
                shown += 1;
                println!("row {} shown in {took:.1} s", row.number);
            }
            End::NotShown => {}
            End::Failed(claims) => {
                println!("row {} FAILED in {took:.1} s", row.number);
                failed.push((row.number, claims));
            }
        }
    }
    for (number, claims) in &failed {
        println!("failed: row {number}: {}", claims.join("; "));
    }
    println!(
        "faults: rows={} shown={shown} failed={} seed={seed}",
        rows.len(),
        failed.len()
    );
    match failed.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Plays one row. The servers serve the next row, too, unless something went wrong.
fn play(row: &Row, seed: u64, grounds: &mut [Option<Ground>; 2]) -> End {
    let (setup, act) = match &row.show {
        Show::Not(why) => {
            println!("row {} not shown: {why}", row.number);
            return End::NotShown;
        }
        Show::By(setup, act) => (setup, act),
    };
    // Not more servers at a time than the row needs.
    let [ground, other] = match (grounds, setup.standbys) {
        ([alone, standbys], 0) => [alone, standbys],
        ([alone, standbys], _) => [standbys, alone],
    };
    *other = None;
    let mut verdict = Verdict::default();
    let played = catch_unwind(AssertUnwindSafe(|| {
        let ground = ground.get_or_insert_with(|| Ground::new(setup.standbys));
        let seed = seed ^ (u64::from(row.number) << 40);
        let mut world = World::begin(ground, row.number, seed, setup);
        if world.cannot.is_none() {
            act(&mut world, &mut verdict);
        }
        let cannot = world.cannot.take();
        world.end(&mut verdict);
        cannot
    }));
    let mut broken = verdict.broken().to_vec();
    let cannot = played.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        broken.push(text.unwrap_or_else(|| "a panic".into()));
        None
    });
    match (broken.is_empty(), cannot) {
        (true, Some(why)) => {
            println!("row {} not shown: {why}", row.number);
            End::NotShown
        }
        (true, None) => End::Shown,
        (false, _) => {
            // Whatever it has left behind is none of the next row's.
            *ground = None;
            End::Failed(broken)
        }
    }
}

/// `20-24,47` as numbers; nothing means all.
fn picked(text: &str) -> Vec<u32> {
    let ranges = text.split([',', ' ']).filter(|part| !part.is_empty());
    let number = |text: &str| {
        let number = text.trim().parse::<u32>();
        number.unwrap_or_else(|_| panic!("ROWS={text}: not a number of a row"))
    };
    let range = |part: &str| match part.split_once('-') {
        Some((from, to)) => number(from)..=number(to),
        None => number(part)..=number(part),
    };
    ranges.flat_map(range).collect()
}
