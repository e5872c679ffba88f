//! A pool with one connection.

use crate::ask::{ask, read, say};
use crate::world::{NARROW, PLAIN, SOON, Setup, World};
use mothership_tests::proof::{self, Verdict};
use mothership_tests::{Wire, message, poll_until};
use std::time::{Duration, Instant};

/// A pool of one for its role, which is not the bank's.
pub const SETUP: Setup = Setup {
    listen: "workers = 1",
    pool: "queue_timeout = \"2s\"",
    narrow: "pool_max = 1",
    ..PLAIN
};
/// See above.
const DEADLINE: Duration = Duration::from_secs(2);
const WAITERS: usize = 50;

/// 36: who waits is served in turn, or told in time.
pub fn exhausted(world: &mut World<'_>, verdict: &mut Verdict) {
    let key = world.key(0);
    let client = || world.narrow();
    let waiting = || {
        let shown = proof::console(&world.router, "SHOW POOLS");
        let narrow = shown.iter().filter(|pool| pool["user"] == NARROW);
        narrow
            .map(|pool| pool["cl_waiting"].parse::<usize>().unwrap())
            .sum::<usize>()
    };
    let mut holder = client();
    say(
        &mut holder,
        &format!("INSERT INTO victims VALUES ({key}, '0')"),
    );
    let hold = |holder: &mut Wire| {
        say(holder, "BEGIN");
        say(holder, &format!("SELECT v FROM victims WHERE id = {key}"));
    };
    let mut waiters: Vec<Wire> = (0..WAITERS).map(|_| client()).collect();

    hold(&mut holder);
    let next = format!("UPDATE victims SET v = v::int + 1 WHERE id = {key} RETURNING v");
    let few = 8;
    for (number, waiter) in waiters.iter_mut().take(few).enumerate() {
        waiter.send(&message::query(&next));
        assert!(
            poll_until(SOON, || waiting() == number + 1),
            "{}",
            waiting()
        );
    }
    say(&mut holder, "COMMIT");
    let served: Vec<String> = waiters
        .iter_mut()
        .take(few)
        .map(|waiter| read(waiter).rows().concat())
        .collect();
    let in_turn = served.iter().cloned().eq((1..=few).map(|n| n.to_string()));
    verdict.claim(in_turn, "who waits is served in turn", served.join(" "));

    hold(&mut holder);
    let begun = Instant::now();
    for waiter in &mut waiters {
        waiter.send(&message::query(&next));
    }
    let answers: Vec<_> = waiters.iter_mut().map(read).collect();
    let took = begun.elapsed();
    let told = answers
        .iter()
        .filter(|answer| answer.is_error(&["53300"], 'I'));
    let figure = format!(
        "{} of {WAITERS} after {took:.1?}: {}",
        told.clone().count(),
        answers[0]
    );
    let in_time = (DEADLINE..DEADLINE * 2).contains(&took);
    let claim = "who waits too long is told so, in time";
    verdict.claim(told.count() == WAITERS && in_time, claim, figure);
    say(&mut holder, "COMMIT");
    let figures = world.bank.figures();
    verdict.claim(
        figures.errors.is_empty(),
        "the bank notices nothing",
        figures,
    );
    let served = waiters.iter_mut().filter_map(|waiter| {
        let answer = ask(waiter, &message::query(&next));
        (answer.rows().len() == 1).then_some(())
    });
    let served = served.count();
    verdict.claim(served == WAITERS, "then all are served", served);
    world.claim_served(verdict);
}
