//! Schedules of clients that write and lock the same rows, each on one PostgreSQL and through the router over shards: the
//! sums are what the committed statements make, nothing is lost, and no SQLSTATE is told that PostgreSQL could not tell
//! for that schedule; nor does it take much longer.
//!
//! COUNT, CLIENTS, SEED and ONLY, the number of one schedule, come from the environment; see `make contention`. With BARS=0
//! only rows are judged: SQLSTATEs and times are told and do not fail, for machines that have other work at the same time.
//! LOAD=N runs the loads of ADR 33 instead, N times for TIME milliseconds on each side; with FSYNC=1 every commit waits for
//! the disk, as where data matter.

#![allow(clippy::unwrap_used)] // A proof that cannot go on has nothing better than to say where.

mod load;
mod play;
mod schedule;

use mothership_tests::fleet::Shard;
use mothership_tests::proof::{self, number};
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Fleet, Router, Wire};
use play::{Outcome, Side};
use rand::SeedableRng;
use rand::rngs::StdRng;
use schedule::{Schedule, TABLES};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

/// What a schedule may take through the router beside three times what it takes on one PostgreSQL: schedules are short, and
/// the first statements that meet on a table have to be undone.
const FIXED: Duration = Duration::from_millis(400);
/// For each deadlock that was told: PostgreSQL finds it after a second, the router within one.
const DEADLOCK: Duration = Duration::from_millis(1500);

#[derive(Default)]
struct Totals {
    wrong: usize,
    lost: usize,
    foreign: usize,
    slow: usize,
    /// What of its bound each schedule took.
    shares: Vec<f64>,
}

impl Totals {
    /// How many of them fail the run.
    fn failures(&self, bars: bool) -> usize {
        let bars = if bars { self.foreign + self.slow } else { 0 };
        self.wrong + self.lost + bars
    }
}

fn main() -> ExitCode {
    let seed = proof::seed();
    let (count, most) = (number("COUNT", 2000), number("CLIENTS", 6));
    let only = number("ONLY", u64::MAX);
    let bars = number("BARS", 1) != 0;
    let mut fleet = Fleet::new(4, 0);
    let plain = fleet.shards.pop().unwrap();
    let declared = "[[table]]\nname = \"acc\"\nkey = \"id\"\n[[table]]\nname = \"cfg\"\nkind = \"reference\"\n";
    let router = Router::start(&proof::config(&fleet, "", "", declared));
    let clients = usize::try_from(most).unwrap();
    let direct = |shard: &Shard| Wire::login(&Shard::endpoint(&shard.primary));
    let through = router.endpoint(USER, PASSWORD, "postgres");
    let one = Shard::endpoint(&plain.primary);
    let mut sides = [
        Side::new(&one, clients, vec![direct(&plain)]),
        Side::new(&through, clients, fleet.shards.iter().map(direct).collect()),
    ];
    for side in &mut sides {
        side.fill();
    }
    let rounds = number("LOAD", 0);
    if rounds > 0 {
        if number("FSYNC", 0) != 0 {
            sides.iter_mut().for_each(Side::wait_for_disks);
        }
        let time = Duration::from_millis(number("TIME", 1000));
        let servers: Vec<_> = fleet
            .shards
            .iter()
            .map(|s| Shard::endpoint(&s.primary))
            .collect();
        let loads = load::run(&mut sides, rounds, time);
        return match load::by_hand(&mut sides, &servers, rounds, time) && loads {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        };
    }
    let mut totals = Totals::default();
    let mut times = [Duration::ZERO; 2];
    let mut codes: [BTreeMap<String, usize>; 2] = Default::default();
    for at in 0..count {
        if only != u64::MAX && only != at {
            continue;
        }
        let mut rng = StdRng::seed_from_u64(seed ^ (at << 20));
        let schedule = Schedule::random(&mut rng, clients);
        let [one, through] = sides.each_mut().map(|side| side.play(&schedule));
        for (at, outcome) in [&one, &through].into_iter().enumerate() {
            times[at] += outcome.took;
            for (code, count) in &outcome.codes {
                *codes[at].entry(code.clone()).or_default() += count;
            }
        }
        if only == at {
            for step in &through.steps {
                println!(
                    "{:>9.1?} {:>9.1?} client {}: {:.90}",
                    step.from,
                    step.to - step.from,
                    step.client,
                    step.sql
                );
            }
        }
        let before = totals.failures(bars);
        let said = judge(&schedule, [&one, &through], &mut totals);
        if !said.is_empty() {
            let verdict = if totals.failures(bars) > before {
                "FAIL"
            } else {
                "note:"
            };
            println!("{verdict} schedule {at}: {}", said.join("; "));
            println!(
                "     codes {:?}, one PostgreSQL {:?}",
                through.codes, one.codes
            );
            for example in through.examples.values() {
                println!("     {example}");
            }
            println!("{schedule}");
        }
    }
    println!(
        "one PostgreSQL {:.1?}, the router {:.1?}; errors told {:?} and {:?}",
        times[0], times[1], codes[0], codes[1]
    );
    totals.shares.sort_by(f64::total_cmp);
    let shares = &totals.shares;
    let below = |percent: usize| shares[(shares.len() * percent / 100).min(shares.len() - 1)];
    if !shares.is_empty() {
        println!(
            "of the bound of time half take {:.2} at most, 99 of 100 {:.2}, all {:.2}",
            below(50),
            below(99),
            below(100)
        );
    }
    let Totals {
        wrong,
        lost,
        foreign,
        slow,
        ..
    } = totals;
    println!(
        "contention: schedules={count} wrong={wrong} lost={lost} foreign={foreign} slow={slow} seed={seed}"
    );
    match totals.failures(bars) {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Adds to the totals; says what is not as on one PostgreSQL.
fn judge(schedule: &Schedule, [one, through]: [&Outcome; 2], totals: &mut Totals) -> Vec<String> {
    let mut said = Vec::new();
    for table in TABLES {
        let (expected, found) = (through.expected[table], through.found[table]);
        if found < expected {
            totals.lost += 1;
            said.push(format!(
                "lost: {} is {found}, not {expected}",
                schedule::name(table)
            ));
        } else if found > expected {
            totals.wrong += 1;
            said.push(format!(
                "wrong: {} is {found}, not {expected}",
                schedule::name(table)
            ));
        }
        assert_eq!(
            one.expected[table], one.found[table],
            "the sums on one PostgreSQL"
        );
    }
    if !through.copies_agree {
        totals.wrong += 1;
        said.push("wrong: the copies of the reference table differ".to_owned());
    }
    for code in through.codes.keys() {
        if !schedule.may_tell(code) && !one.codes.contains_key(code) {
            totals.foreign += 1;
            said.push(format!("foreign: {code}"));
        }
    }
    let told = |outcome: &Outcome| outcome.codes.get("40P01").copied().unwrap_or(0);
    let deadlocks = u32::try_from(told(one) + told(through)).unwrap();
    let limit = one.took * 3 + FIXED + DEADLOCK * deadlocks;
    totals.shares.push(through.took.div_duration_f64(limit));
    if through.took > limit {
        totals.slow += 1;
        said.push(format!(
            "slow: {:.1?}, one PostgreSQL {:.1?}",
            through.took, one.took
        ));
    }
    said
}
