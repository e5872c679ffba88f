//! Pipelines: random conversations of the protocol by seed, each played on one plain PostgreSQL and through the router
//! over shards; every message must be answered alike, and afterwards the same must be stored and nothing be left of the
//! client. What the oracle never looks at: pipelines that fail, blocks and savepoints, settings, named statements and
//! portals, cursors, COPY that breaks off, triggers.
//!
//! Left out: definitions but for temporary tables, LISTEN, function calls, values in binary form, places of errors,
//! portals that are executed again and have no rows, and what several clients do to each other.
//!
//! COUNT and SEED come from the environment; ONLY plays one conversation by its number. JOBS are played at a time,
//! VERBOSE=1 shows all of them. A refusal by name ends its conversation, and so does a
//! difference of `known.rs`. What is not compared is said in `compare.rs`.
//! See `make pipelines`.
//!
//! A seed that has PostgreSQL 15 execute the unnamed portal behind a simple query that has failed in a block may end the
//! run: its server looks at what that query has left, and may crash (SEED=1001 ONLY=96). The router says 34000 by itself.

#![allow(clippy::unwrap_used)] // A proof that cannot go on has nothing better than to say where.

mod sent;

mod statement;

mod talk;

mod side;

mod world;

mod compare;

mod known;

mod play;

mod reduce;

use crate::compare::Verdict;
use crate::play::play;
use crate::reduce::reduce;
use crate::sent::Group;
use crate::talk::conversation;
use crate::world::{Layout, World};
use mothership_tests::proof::{self, number};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

/// The layouts that conversations are played in, by turns: most of them over three shards, as pools usually are.
const LAYOUTS: [Layout; 6] = [
    Layout::ONE_SHARD,
    Layout::THREE_SHARDS,
    Layout::THREE_SHARDS,
    Layout::THREE_SHARDS,
    Layout::THREE_SHARDS,
    Layout::SESSION_MODE,
];

fn main() -> ExitCode {
    let seed = proof::seed();
    let only = std::env::var("ONLY")
        .unwrap_or_default()
        .parse::<u64>()
        .ok();
    let numbers = match only {
        Some(only) => only..only + 1,
        None => 0..number("COUNT", 5000),
    };
    let verbose = number("VERBOSE", 0) == 1;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = number("JOBS", u64::try_from(cores).unwrap());
    let next = AtomicU64::new(numbers.start);
    // A panic of one of them ends the run.
    let counts: Vec<Counts> = std::thread::scope(|scope| {
        let player = || play_all(&next, numbers.end, seed, verbose);
        let players: Vec<_> = (0..jobs).map(|_| scope.spawn(player)).collect();
        players
            .into_iter()
            .map(|player| player.join().unwrap())
            .collect()
    });
    let counts = counts.into_iter().fold(Counts::default(), Counts::and);
    counts.print(seed);
    match counts.wrong {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Plays whichever conversation is next, until `end`. What is said in one depends on its number alone.
fn play_all(next: &AtomicU64, end: u64, seed: u64, verbose: bool) -> Counts {
    let mut counts = Counts::default();
    let mut worlds = BTreeMap::<Layout, World>::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= end {
            return counts;
        }
        let groups = conversation(mix(seed, number));
        let place = usize::try_from(number).unwrap() % LAYOUTS.len();
        let layout = LAYOUTS[place];
        let mut world = worlds.remove(&layout).unwrap_or_else(|| World::new(layout));
        if verbose {
            println!("{number}:\n{}", show(&groups));
        }
        let verdict = play(&mut world, &groups);
        if let Verdict::Wrong(found) = &verdict {
            // What is left of it must not be taken for a fault of another one.
            drop(world);
            let mut world = World::new(layout);
            let short = reduce(&mut world, &groups, &found.kind);
            println!(
                "WRONG SEED={seed} ONLY={number}, {layout:?}: {}\n  shortened:\n{}",
                found.text,
                show(&short)
            );
        } else {
            worlds.insert(layout, world);
        }
        counts.add(&groups, verdict);
    }
}

fn show(groups: &[Group]) -> String {
    let mut text = String::new();
    for (at, group) in groups.iter().enumerate() {
        for sent in group {
            text += &format!("    {at}: {sent}\n");
        }
    }
    text
}

/// What came of a run.
#[derive(Debug, Default)]
struct Counts {
    conversations: u64,
    messages: usize,
    equal: u64,
    refused: BTreeMap<String, u64>,
    wrong: u64,
}

impl Counts {
    fn add(&mut self, groups: &[Group], verdict: Verdict) {
        self.conversations += 1;
        self.messages += groups.iter().map(Vec::len).sum::<usize>();
        match verdict {
            Verdict::Equal => self.equal += 1,
            Verdict::Refused(reason) => *self.refused.entry(reason).or_default() += 1,
            Verdict::Wrong(_) => self.wrong += 1,
        }
    }

    fn and(mut self, other: Counts) -> Counts {
        self.conversations += other.conversations;
        self.messages += other.messages;
        self.equal += other.equal;
        self.wrong += other.wrong;
        for (reason, count) in other.refused {
            *self.refused.entry(reason).or_default() += count;
        }
        self
    }

    fn print(&self, seed: u64) {
        for (reason, count) in &self.refused {
            println!("refused {count}: {reason}");
        }
        println!(
            "pipelines: conversations={} messages={} equal={} refused={} wrong={} seed={seed}",
            self.conversations,
            self.messages,
            self.equal,
            self.refused.values().sum::<u64>(),
            self.wrong
        );
    }
}

/// A seed of its own for each number.
fn mix(seed: u64, number: u64) -> u64 {
    let mut x = seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for _ in 0..2 {
        x = (x ^ (x >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    x ^ (x >> 29)
}
