//! Server connections that are lost: idle, in a read, in a transaction, at COMMIT, in a pipeline.

use crate::ask::{Answer, ask, both, read, say};
use crate::world::{SOON, World};
use mothership_tests::poll_until;
use mothership_tests::proof::{Verdict, on_all_in};
use mothership_tests::proxy::{Effect, End, Side, Trap};
use mothership_tests::{Wire, bank, message};
use rand::RngExt;

/// What a client may be told when a server is lost while it says nothing of an outcome.
const LOST: [&str; 2] = ["08006", "57P01"];

/// 1: a connection that lies idle in the pool.
pub fn idle(world: &mut World<'_>, verdict: &mut Verdict) {
    idle_by(world, verdict, End::Reset);
}

/// 2: a read of which nothing has been seen.
pub fn read_before_rows(world: &mut World<'_>, verdict: &mut Verdict) {
    before_rows_by(world, verdict, End::Reset);
}

/// 3: a read of which some rows have been seen.
pub fn read_after_rows(world: &mut World<'_>, verdict: &mut Verdict) {
    after_rows_by(world, verdict, End::Reset);
}

/// 4: in a transaction.
pub fn in_transaction(world: &mut World<'_>, verdict: &mut Verdict) {
    in_transaction_by(world, verdict, End::Reset);
}

/// 5: at COMMIT.
pub fn at_commit(world: &mut World<'_>, verdict: &mut Verdict) {
    at_commit_by(world, verdict, End::Reset);
}

/// 6: all of these with FIN.
pub fn by_fin(world: &mut World<'_>, verdict: &mut Verdict) {
    idle_by(world, verdict, End::Finish);
    before_rows_by(world, verdict, End::Finish);
    after_rows_by(world, verdict, End::Finish);
    in_transaction_by(world, verdict, End::Finish);
    at_commit_by(world, verdict, End::Finish);
}

fn idle_by(world: &mut World<'_>, verdict: &mut Verdict, end: End) {
    // Nobody is in a transaction: what is cut lies in the pool.
    world.hold(verdict);
    let key = world.key(0);
    let mut client = world.client();
    say(&mut client, &insert(key, "idle"));
    let read = format!("SELECT v FROM victims WHERE id = {key}");
    for request in both(&read) {
        let before = ask(&mut client, &request);
        world.back[0].cut(end);
        let after = ask(&mut client, &request);
        let same = before == after && after.rows() == ["idle"];
        verdict.claim(
            same,
            &format!("a read after {end:?} notices nothing"),
            after,
        );
    }
    for request in both(&format!("UPDATE victims SET v = 'kept' WHERE id = {key}")) {
        world.back[0].cut(end);
        let answer = ask(&mut client, &request);
        let done = answer.errors().is_empty() && answer.is_done();
        verdict.claim(
            done,
            &format!("a write after {end:?} notices nothing"),
            answer,
        );
    }
    say(
        &mut client,
        &format!("DELETE FROM victims WHERE id = {key}"),
    );
    world.bank.release();
}

fn before_rows_by(world: &mut World<'_>, verdict: &mut Verdict, end: End) {
    let key = world.key(1);
    let mut client = world.client();
    say(&mut client, &insert(key, "read"));
    for (number, kind) in [None, Some(b'T'), Some(b'D')].into_iter().enumerate() {
        let sql = format!("SELECT v AS unseen_{end:?}_{number} FROM victims WHERE id = {key}");
        for request in both(&sql) {
            // In the extended protocol nobody has asked for a description.
            let kind = kind.filter(|kind| *kind != b'T' || request[0] == b'Q');
            let trap = Trap::before_text(Side::Server, kind, "", Effect::End(end));
            let seen = format!("unseen_{end:?}_{number}");
            world.back[1].set(trap.once_seen(Side::Client, &seen));
            let answer = ask(&mut client, &request);
            let sprung = world.back[1].springs_within(SOON);
            let repeated = answer.rows() == ["read"] && answer.errors().is_empty();
            let told = answer.rows().is_empty() && answer.is_error(&["08006"], 'I');
            let claim = "a read that is lost before its rows is repeated or fails once";
            verdict.claim(sprung && (repeated || told), claim, answer);
            goes_on(&mut client, key, "read", verdict);
        }
    }
    say(
        &mut client,
        &format!("DELETE FROM victims WHERE id = {key}"),
    );
}

fn after_rows_by(world: &mut World<'_>, verdict: &mut Verdict, end: End) {
    let mut client = world.client();
    let sql = "SELECT n AS some_rows, repeat('x', 100) FROM generate_series(1, 20000) n";
    for request in both(sql) {
        let seen = world.rng.random_range(1..10_000);
        // Without a table the statement may run on any shard.
        for way in &world.back {
            let trap = Trap::before(Side::Server, b'D', Effect::End(end));
            way.set(trap.once_seen(Side::Client, "some_rows").skipping(seen));
        }
        let answer = ask(&mut client, &request);
        let rows = answer.rows();
        let numbers = rows
            .iter()
            .map(|row| row.split(' ').next().unwrap().parse());
        let in_order = numbers.eq((1..=rows.len()).map(Ok));
        let whole = in_order && !rows.is_empty() && rows.len() <= seen;
        let told = answer.is_error(&["08006"], 'I');
        let claim = "a result that is lost in the middle ends with an error";
        let figure = format!("{} of {seen} rows: {answer}", rows.len());
        verdict.claim(whole && told, claim, figure);
        let next = say(&mut client, "SELECT 7");
        verdict.claim(next.rows() == ["7"], "the session goes on", next);
        world.back.iter().for_each(mothership_tests::Proxy::heal);
    }
}

fn in_transaction_by(world: &mut World<'_>, verdict: &mut Verdict, end: End) {
    let key = world.key(2);
    let mut client = world.client();
    for number in 0..4 {
        let mark = format!("open_{end:?}_{number}");
        say(&mut client, "BEGIN");
        let began = say(&mut client, &insert(key, &mark));
        assert_eq!(began.last(), "ReadyForQuery T", "{began}");
        let next = both(&insert(key, &format!("{mark}_next")))[number % 2].clone();
        match number < 2 {
            // As the next statement is on its way.
            true => {
                let text = format!("{mark}_next");
                let trap = Trap::before_text(Side::Client, None, &text, Effect::End(end));
                world.back[2].set(trap);
            }
            // While it lies there; the bank's connections go with it.
            false => world.back[2].cut(end),
        }
        let answer = ask(&mut client, &next);
        // As in PostgreSQL a block that has failed is ended by the client.
        let claim = "a transaction whose server is lost fails once";
        verdict.claim(answer.is_error(&LOST, 'E'), claim, answer);
        let ended = say(&mut client, "ROLLBACK");
        let idle = ended.errors().is_empty() && ended.last() == "ReadyForQuery I";
        verdict.claim(idle, "ROLLBACK makes it idle again", ended);
        let gone = poll_until(SOON, || world.marked(&mark) == 0);
        verdict.claim(gone, "nothing of it is there", world.marked(&mark));
        goes_on_writing(world, &mut client, key, verdict);
    }
}

fn at_commit_by(world: &mut World<'_>, verdict: &mut Verdict, end: End) {
    let key = world.key(0);
    let mut client = world.client();
    let effect = Effect::End(end);
    for number in 0..4 {
        let mark = format!("commit_{end:?}_{number}");
        // Before COMMIT arrives nothing of it can be there; before its answer all of it is.
        let (trap, present) = match number < 2 {
            true => (
                Trap::before_text(Side::Server, Some(b'C'), "COMMIT", effect),
                1,
            ),
            false => (Trap::before_text(Side::Client, None, "COMMIT", effect), 0),
        };
        world.back[0].set(trap.once_seen(Side::Client, &mark));
        say(&mut client, "BEGIN");
        say(&mut client, &insert(key, &mark));
        let answer = ask(&mut client, &both("COMMIT")[number % 2]);
        // The server may be lost behind Parse, before anything else of COMMIT was sent: then it is known to be undone.
        if number == 3 && answer.is_error(&["08006"], 'E') {
            say(&mut client, "ROLLBACK");
            let undone = poll_until(SOON, || world.marked(&mark) == 0);
            verdict.claim(undone, "a COMMIT that was not sent is undone", answer);
        } else {
            unknown(world, &mark, present, &answer, verdict);
        }
        goes_on_writing(world, &mut client, key, verdict);
    }
    for (number, request) in ["simple", "extended"].into_iter().zip([0, 1]) {
        let mark = format!("alone_{end:?}_{number}");
        let trap = Trap::before_text(Side::Server, Some(b'C'), "INSERT", effect);
        world.back[0].set(trap.once_seen(Side::Client, &mark));
        let answer = ask(&mut client, &both(&insert(key, &mark))[request]);
        unknown(world, &mark, 1, &answer, verdict);
    }
}

fn unknown(world: &World<'_>, mark: &str, present: i64, answer: &Answer, verdict: &mut Verdict) {
    let sprung = world.back[0].springs_within(SOON);
    let told = answer.is_error(&["08007"], 'I');
    let claim = "an outcome that nobody knows is told as such, once";
    verdict.claim(sprung && told, claim, answer);
    // What a server has not noticed yet may still be rolled back, and is never committed.
    let open = format!("query LIKE '%{mark}%' AND state <> 'idle'");
    let ended = poll_until(SOON, || world.backends(&open) == 0);
    let there = ended && world.marked(mark) == present;
    verdict.claim(there, "and the statement was sent once", world.marked(mark));
}

/// 32: an administrator ends sessions.
pub fn terminated(world: &mut World<'_>, verdict: &mut Verdict) {
    let key = world.key(1);
    let mut client = world.client();
    say(&mut client, &insert(key, "idle"));
    world.hold(verdict);
    let terminate = |condition: &str| {
        format!(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity \
             WHERE usename = '{}' AND datname = current_database() AND {condition}",
            bank::ROLE
        )
    };
    for request in both(&format!("SELECT v FROM victims WHERE id = {key}")) {
        ask(&mut client, &request);
        let ended = world.sql(1, &terminate("state = 'idle'"));
        let answer = ask(&mut client, &request);
        let same = answer.rows() == ["idle"] && answer.errors().is_empty() && ended != "0";
        verdict.claim(same, "a session that was idle is not missed", answer);
    }
    world.bank.release();
    say(&mut client, "BEGIN");
    say(&mut client, &insert(key, "ended"));
    let open = "query LIKE '%ended%' AND state = 'idle in transaction'";
    assert_eq!(world.sql(1, &terminate(open)), "1");
    let answer = say(&mut client, &insert(key, "ended too"));
    verdict.claim(
        answer.is_error(&LOST, 'E'),
        "a transaction fails once",
        answer,
    );
    say(&mut client, "ROLLBACK");
    verdict.claim(
        world.marked("ended") == 0,
        "and is undone",
        world.marked("ended"),
    );
    let slow = "SELECT v, pg_sleep(60) AS while_it_runs FROM victims WHERE id = ";
    client.send(&message::query(&format!("{slow}{key}")));
    let runs = "query LIKE '%while_it_runs%' AND state = 'active' AND pid <> pg_backend_pid()";
    assert!(poll_until(SOON, || world.backends(runs) == 1));
    world.sql(1, &terminate(runs));
    let answer = read(&mut client);
    verdict.claim(
        answer.is_error(&LOST, 'I'),
        "a statement that runs fails once",
        answer,
    );
    goes_on(&mut client, key, "idle", verdict);
    say(
        &mut client,
        &format!("DELETE FROM victims WHERE id = {key}"),
    );
}

/// 62: a pipeline, cut before the answer to one of its statements.
pub fn pipeline(world: &mut World<'_>, verdict: &mut Verdict) {
    const COUNT: usize = 8;
    let key = world.key(0);
    for round in 0..COUNT {
        let mark = |n: usize| format!("line_{round}_{n}");
        let mut client = world.client();
        let trap = Trap::before_text(Side::Server, Some(b'C'), "INSERT", Effect::End(End::Reset));
        let trap = trap.once_seen(Side::Client, &mark(0));
        world.back[0].set(trap.skipping(round));
        let each = (0..COUNT).map(|n| crate::ask::extended(&insert(key, &mark(n))));
        client.send(&each.collect::<Vec<_>>().concat());
        let answers: Vec<Answer> = (0..COUNT).map(|_| read(&mut client)).collect();
        let sprung = world.back[0].springs_within(SOON);
        verdict.claim(sprung, "the pipeline was cut", round);
        let present: Vec<i64> = (0..COUNT).map(|n| world.marked(&mark(n))).collect();
        for (n, (answer, present)) in answers.iter().zip(present).enumerate() {
            let right = match n.cmp(&round) {
                std::cmp::Ordering::Less => answer.is_done() && present == 1,
                std::cmp::Ordering::Equal => answer.is_error(&["08007"], 'I') && present == 1,
                // Whether it was sent already is not to be seen from here.
                std::cmp::Ordering::Greater if answer.is_error(&["08007"], 'I') => present <= 1,
                std::cmp::Ordering::Greater if answer.is_error(&["08006"], 'I') => present == 0,
                std::cmp::Ordering::Greater => {
                    answer.errors().is_empty() && answer.is_done() && present == 1
                }
            };
            let claim = "before the cut all is answered, behind it nothing is sent twice";
            if !right || n == round {
                verdict.claim(
                    right,
                    claim,
                    format!("{n} of {COUNT}, {present} rows: {answer}"),
                );
            }
        }
        goes_on_writing(world, &mut client, key, verdict);
    }
    one_sync(world, verdict);
}

/// The same with one Sync: all of it is there or nothing.
fn one_sync(world: &mut World<'_>, verdict: &mut Verdict) {
    let key = world.key(0);
    for cut in 0..3 {
        let mark = format!("segment_{cut}");
        let mut client = world.client();
        let trap = Trap::before_text(Side::Server, Some(b'C'), "INSERT", Effect::End(End::Reset));
        world.back[0].set(trap.once_seen(Side::Client, &mark).skipping(cut));
        let mut segment = Vec::new();
        for _ in 0..4 {
            let mut whole = crate::ask::extended(&insert(key, &mark));
            whole.truncate(whole.len() - message::sync().len());
            segment.extend(whole);
        }
        segment.extend(message::sync());
        let answer = ask(&mut client, &segment);
        let sprung = world.back[0].springs_within(SOON);
        let told = answer.errors() == ["08007"] && answer.last() == "ReadyForQuery I";
        verdict.claim(
            sprung && told,
            "a segment that is cut is unknown, once",
            answer,
        );
        let present = world.marked(&mark);
        verdict.claim(
            present == 0 || present == 4,
            "it is whole or not there",
            present,
        );
    }
}

fn insert(key: i64, mark: &str) -> String {
    format!("INSERT INTO victims (id, v) VALUES ({key}, '{mark}')")
}

fn goes_on(client: &mut Wire, key: i64, expected: &str, verdict: &mut Verdict) {
    let answer = say(client, &format!("SELECT v FROM victims WHERE id = {key}"));
    verdict.claim(answer.rows() == [expected], "the session goes on", answer);
}

fn goes_on_writing(world: &World<'_>, client: &mut Wire, key: i64, verdict: &mut Verdict) {
    for sql in ["BEGIN", &insert(key, "next"), "COMMIT"] {
        let answer = say(client, sql);
        if !answer.errors().is_empty() || !answer.is_done() {
            verdict.claim(false, "the next transaction is done", answer);
            return;
        }
    }
    let there = world.marked("next");
    let sql = "DELETE FROM victims WHERE v = 'next'";
    on_all_in(&world.ground.fleet, &world.database, sql);
    verdict.claim(there == 1, "the next transaction is done", there);
}
