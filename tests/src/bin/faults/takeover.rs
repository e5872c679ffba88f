//! A new process takes over, again and again.

use crate::ask::say;
use crate::world::{PLAIN, SOON, Setup, World};
use mothership_tests::load::{self, Load};
use mothership_tests::poll_until;
use mothership_tests::proof::Verdict;
use mothership_tests::shared::{PASSWORD, USER};

/// A place to ask for the ports, and pgbench's table.
pub const TAKEOVER: Setup = Setup {
    listen: "takeover = \"@folder@/takeover\"",
    more: load::TABLE,
    ..PLAIN
};
/// How often.
const TIMES: usize = 10;

/// 52: a new process takes over while pgbench works, with and without connections that stay.
pub fn taken_over(world: &mut World<'_>, verdict: &mut Verdict) {
    let owner = world.router.endpoint(USER, PASSWORD, &world.database);
    let mut setup = mothership_tests::Wire::login(&owner);
    for sql in load::make() {
        let made = say(&mut setup, &sql);
        assert!(made.is_done(), "{sql}: {made}");
    }
    drop(setup);
    let counted = |world: &World<'_>| -> i64 {
        let count = |shard| world.sql(shard, "SELECT COALESCE(sum(n), 0) FROM counted");
        (0..3)
            .map(|shard| count(shard).parse::<i64>().unwrap())
            .sum()
    };
    let (mut done, mut shown, mut seconds) = (0, 0, 2);
    let mut wrong = Vec::new();
    while shown < TIMES && wrong.is_empty() {
        let mut load = Load::start(&world.router, USER, PASSWORD, &world.database, seconds);
        poll_until(SOON, || counted(world) > done + 10 || !load.runs());
        let new_process = world.router.take_over();
        let was_beside = load.runs();
        for (kind, end) in load.end() {
            done += end.transactions;
            wrong.extend(end.wrong.map(|wrong| format!("{kind}: {wrong}")));
        }
        let goes_on = world.bank.goes_on(10, SOON);
        if !goes_on {
            wrong.push(format!("the bank: {}", world.bank.figures()));
        }
        let mut old_process = std::mem::replace(&mut world.router, new_process);
        // The bank's clients stay, so it is told to let them go.
        old_process.sigterm();
        let status = old_process.wait(SOON);
        if !status.success() {
            wrong.push(format!("the old process: {status}"));
        }
        let gone = "the process before this one has ended";
        poll_until(SOON, || world.router.log().contains(gone));
        match was_beside {
            true => shown += 1,
            // The machine was too slow for a takeover in this time.
            false => seconds = (seconds * 2).min(30),
        }
    }
    let figure = format!("{shown} takeovers, {done} transactions, {wrong:?}");
    verdict.claim(
        wrong.is_empty(),
        "no client of pgbench has an error",
        figure,
    );
    let stored = counted(world);
    verdict.claim(stored == done, "and each counts once", stored);
    let figures = world.bank.figures();
    let unknown = figures.unknown;
    verdict.claim(unknown == 0, "no outcome is unknown", figures);
}
