//! Commits over several shards, with a death between the two phases; COPY that one shard does not survive.

use crate::ask::{read, say};
use crate::world::{SOON, World};
use mothership_tests::poll_until;
use mothership_tests::proof::{self, Verdict};
use mothership_tests::proxy::{Effect, End, Proxy, Side, Trap};
use mothership_tests::{Wire, message};
use std::time::Duration;

/// From the restart of what has died until nothing is prepared.
const RECOVERY: Duration = Duration::from_secs(10);

/// Where a commit is stopped: before the message with this text arrives, or its answer does.
const POINTS: [(Side, &str); 4] = [
    (Side::Client, "PREPARE TRANSACTION"),
    (Side::Server, "PREPARE TRANSACTION"),
    (Side::Client, "COMMIT PREPARED"),
    (Side::Server, "COMMIT PREPARED"),
];

/// A transaction over two shards whose COMMIT is on its way, and its mark.
struct Halfway {
    client: Wire,
    mark: String,
}

impl Halfway {
    /// Stops one transaction at the point, on the second shard; those of the bank run into it, too, or pass.
    fn begin(world: &World<'_>, point: usize, verdict: &mut Verdict) -> Halfway {
        let (side, text) = POINTS[point];
        let mark = format!("halfway_{point}");
        let mut client = world.client();
        for sql in [
            "BEGIN",
            &format!("INSERT INTO victims VALUES ({}, '{mark}')", world.key(0)),
            &format!("INSERT INTO victims VALUES ({}, '{mark}')", world.key(1)),
            &format!("INSERT INTO victims VALUES ({}, '{mark}')", world.key(2)),
        ] {
            say(&mut client, sql);
        }
        // Which shard decides is the router's choice: the first one that comes to the point is it.
        world.back[1].set(Trap::before_text(side, None, text, Effect::Freeze));
        client.send(&message::query("COMMIT"));
        let sprung = world.back[1].springs_within(SOON);
        verdict.claim(
            sprung,
            &format!("a commit stops at {text} ({side:?})"),
            sprung,
        );
        Halfway { client, mark }
    }

    /// What the client is told agrees with what is there: all or nothing.
    fn claim(mut self, world: &World<'_>, verdict: &mut Verdict) {
        let answer = read(&mut self.client);
        let there = world.marked(&self.mark);
        let agrees = match answer.errors().as_slice() {
            [] if answer.is_done() => there == 3,
            ["08007"] => there == 0 || there == 3,
            [] => answer.last() == "closed" && (there == 0 || there == 3),
            _ => there == 0,
        };
        let figure = format!("{there} rows of 3, told {answer}");
        verdict.claim(
            agrees,
            "the outcome is the same everywhere, and as told",
            figure,
        );
    }
}

/// 47: a shard dies between the two.
pub fn shard_dies(world: &mut World<'_>, verdict: &mut Verdict) {
    for point in 0..POINTS.len() {
        let halfway = Halfway::begin(world, point, verdict);
        let server = &mut world.ground.fleet.shards[1].primary;
        server.kill9();
        world.back[1].heal();
        world.ground.fleet.shards[1].primary.start().unwrap();
        recovered(world, verdict);
        halfway.claim(world, verdict);
    }
}

/// 48: the router dies between the two.
pub fn router_dies(world: &mut World<'_>, verdict: &mut Verdict) {
    for point in 0..POINTS.len() {
        let halfway = Halfway::begin(world, point, verdict);
        world.router.kill9();
        world.back.iter().for_each(Proxy::heal);
        world.router.start_again();
        recovered(world, verdict);
        halfway.claim(world, verdict);
    }
}

fn recovered(world: &World<'_>, verdict: &mut Verdict) {
    let goes_on = world.bank.goes_on(10, SOON);
    verdict.claim(goes_on, "the bank goes on", world.bank.figures());
    world.hold(verdict);
    let prepared = || proof::prepared(&world.ground.fleet);
    let finished = poll_until(RECOVERY, || prepared() == 0);
    verdict.claim(finished, "nothing stays prepared", prepared());
    world.bank.release();
}

/// 49: COPY to all shards, of which one is lost at some row.
pub fn copy_loses_a_shard(world: &mut World<'_>, verdict: &mut Verdict) {
    for rows in [1, 40, 400] {
        let mark = format!("copied_{rows}");
        let mut client = world.client();
        let trap = Trap::before_text(Side::Client, Some(b'd'), &mark, Effect::End(End::Reset));
        world.back[1].set(trap.skipping(rows / 40));
        client.send(&message::query("COPY victims FROM STDIN"));
        assert_eq!(client.frame().kind, b'G');
        for n in 0..rows {
            let keys = world.bank.accounts().iter();
            let rows: String = keys
                .map(|ids| format!("{}\t{mark}\n", ids[n % ids.len()]))
                .collect();
            let _ = client.try_send(&message::copy_data(rows.as_bytes()));
        }
        let _ = client.try_send(&message::copy_done());
        let answer = read(&mut client);
        // A COPY that was given in few messages may have ended before.
        let sprung = world.back[1].springs_within(Duration::from_millis(500));
        world.back[1].heal();
        let left = world.marked(&mark);
        let expected = if sprung { 0 } else { 3 * rows as i64 };
        let told = match sprung {
            true => answer.is_error(&["08006", "08007"], 'I'),
            false => answer.is_done() && rows / 40 > 0,
        };
        let figure = format!("{left} rows of {}, told {answer}", 3 * rows);
        verdict.claim(
            told && left == expected,
            "a COPY that loses a shard leaves no row",
            figure,
        );
        let next = say(&mut client, "SELECT 7");
        verdict.claim(next.rows() == ["7"], "the session goes on", next);
    }
}
