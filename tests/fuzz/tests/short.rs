//! Every target for some seconds with random changes of its seeds: `make fuzz` looks longer and deeper.
//!
//! `FUZZ_SECONDS` is the time for each, `FUZZ_SEED` the seed to run again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use mothership_fuzz::{mutate::mutated, target};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs all seeds, then changed ones until the time is over.
fn run(name: &str) {
    let target = target(name).expect("a target of this name");
    let seed = number("FUZZ_SEED").unwrap_or_else(|| rand::rng().random());
    let time = Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(2));
    let mut rng = StdRng::seed_from_u64(seed);
    let seeds = (target.seeds)();
    println!("{name}: FUZZ_SEED={seed}, {} seeds", seeds.len());
    let holds = |input: &[u8]| {
        let outcome = catch_unwind(AssertUnwindSafe(|| (target.check)(input)));
        assert!(
            outcome.is_ok(),
            "{name} FUZZ_SEED={seed} input b\"{}\"",
            input.escape_ascii()
        );
    };
    seeds.iter().for_each(|input| holds(input));
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < time {
        holds(&mutated(&seeds, target.words, &mut rng));
        count += 1;
    }
    println!("{name}: {count} changed inputs hold");
    assert!(count > 0, "none was tried");
}

macro_rules! targets {
    ($($claim:ident: $name:literal),* $(,)?) => {
        $(#[test] fn $claim() { run($name); })*

        #[test]
        fn no_target_is_forgotten() {
            let names = mothership_fuzz::TARGETS.map(|target| target.name);
            assert_eq!(names, [$($name),*]);
        }
    };
}

targets! {
    any_bytes_of_a_client_are_cut_and_read_as_promised: "frontend",
    any_bytes_of_a_server_are_held_against_what_it_owes: "backend",
    any_first_packet_is_judged_as_promised: "startup",
    nobody_logs_in_without_the_proof: "login_client",
    no_server_gets_more_than_the_rules_allow: "login_server",
    any_text_is_made_of_tokens_statements_and_literals: "literals",
    any_value_is_a_key_or_none_as_promised: "key",
    any_copy_stream_is_divided_as_promised: "copy",
    any_statement_is_planned_as_promised: "planner",
}
