//! Clients that vanish, and one that does not read.

use crate::ask::say;
use crate::world::{SOON, World};
use mothership_tests::level::{memory_bound, mib};
use mothership_tests::message;
use mothership_tests::poll_until;
use mothership_tests::proof::{Verdict, on_all_in};
use std::time::Duration;

/// How soon a statement of nobody is to end; by itself it ends later.
const CANCELLED: Duration = Duration::from_secs(8);

/// 10: in the middle of a query.
pub fn in_query(world: &mut World<'_>, verdict: &mut Verdict) {
    let key = world.key(0);
    for sql in [
        format!("SELECT pg_sleep(25) AS vanished FROM accounts WHERE id = {key}"),
        format!(
            "SELECT pg_sleep(25) AS vanished FROM accounts WHERE id IN ({key}, {}, {})",
            world.key(1),
            world.key(2)
        ),
    ] {
        let mut client = world.client();
        client.send(&message::query(&sql));
        let runs = "query LIKE '%vanished%' AND state = 'active'";
        assert!(poll_until(SOON, || world.backends(runs) > 0), "{sql}");
        client.reset();
        let ended = poll_until(CANCELLED, || world.backends(runs) == 0);
        let claim = "a query whose client is gone is ended";
        verdict.claim(ended, claim, format!("{} run", world.backends(runs)));
        world.claim_served(verdict);
    }
}

/// 11: in the middle of a transaction, on one shard and on two.
pub fn in_transaction(world: &mut World<'_>, verdict: &mut Verdict) {
    for shards in [1, 2] {
        let mark = format!("vanished_{shards}");
        let mut client = world.client();
        say(&mut client, "BEGIN");
        say(&mut client, "SET LOCAL lock_timeout = '1ms'");
        for shard in 0..shards {
            let key = world.key(shard);
            let sql = format!("INSERT INTO victims (id, v) VALUES ({key}, '{mark}')");
            let answer = say(&mut client, &sql);
            assert_eq!(answer.last(), "ReadyForQuery T", "{answer}");
        }
        assert_eq!(writers(world), shards as i64);
        client.reset();
        let undone = poll_until(SOON, || writers(world) == 0);
        verdict.claim(
            undone,
            "a transaction whose client is gone is undone",
            undone,
        );
        let left = world.marked(&mark);
        verdict.claim(left == 0, "nothing of it is there", left);
    }
    let mut next = world.client();
    for _ in 0..10 {
        let answer = say(&mut next, "SHOW lock_timeout");
        if answer.rows() != ["0"] {
            verdict.claim(false, "its settings reach nobody", answer);
        }
    }
    world.claim_served(verdict);
}

/// Transactions that have written into `victims`, over all shards.
fn writers(world: &World<'_>) -> i64 {
    let sql = "SELECT count(*) FROM pg_locks WHERE relation = 'victims'::regclass AND mode = 'RowExclusiveLock'";
    let counts = on_all_in(&world.ground.fleet, &world.database, sql);
    counts
        .iter()
        .map(|n| n.trim().parse::<i64>().unwrap())
        .sum()
}

/// 12: in the middle of COPY, to one shard and to all.
pub fn in_copy(world: &mut World<'_>, verdict: &mut Verdict) {
    let all = || (0..3).flat_map(|shard| (0..5).map(move |n| (shard, n)));
    for (mark, shards) in [("copied to one", 1), ("copied to all", 3)] {
        let mut client = world.client();
        client.send(&message::query("COPY victims FROM STDIN"));
        assert_eq!(client.frame().kind, b'G');
        let rows: String = all()
            .filter(|(shard, _)| *shard < shards)
            .map(|(shard, n)| format!("{}\t{mark}\n", world.bank.accounts()[shard][n]))
            .collect();
        for row in rows.lines() {
            client.send(&message::copy_data(format!("{row}\n").as_bytes()));
        }
        let copies = "query LIKE '%COPY%' AND state = 'active'";
        let begun = poll_until(SOON, || world.backends(copies) >= shards as i64);
        verdict.claim(
            begun,
            "COPY has begun on its shards",
            world.backends(copies),
        );
        client.reset();
        let ended = poll_until(SOON, || {
            world.backends(&format!(
                "{copies} OR query LIKE '%COPY%' AND xact_start IS NOT NULL"
            )) == 0
        });
        verdict.claim(ended, "a COPY whose client is gone is ended", ended);
        let left = world.marked(mark);
        verdict.claim(left == 0, "no row of it is there", left);
    }
    world.claim_served(verdict);
}

/// 13: one that does not read a result of gigabytes.
pub fn does_not_read(world: &mut World<'_>, verdict: &mut Verdict) {
    let before = world.router.memory();
    let mut client = world.client();
    let key = world.key(0);
    let sql = format!(
        "SELECT repeat('x', 1000) AS unread FROM generate_series(1, 5000000), accounts WHERE id = {key}"
    );
    client.send(&message::query(&sql));
    // The server waits for somebody to read.
    let waits = "query LIKE '%unread%' AND wait_event = 'ClientWrite'";
    let held = poll_until(SOON, || world.backends(waits) == 1);
    verdict.claim(held, "the server is held back", held);
    world.claim_served(verdict);
    let memory = world.router.memory();
    let figure = format!("MiB {} before, {} now", mib(before), mib(memory));
    verdict.claim(memory <= memory_bound(before), "memory is bounded", figure);
    verdict.claim(world.backends(waits) == 1, "it is held back still", held);
    client.reset();
    let ended = poll_until(SOON, || {
        world.backends("query LIKE '%unread%' AND state = 'active'") == 0
    });
    verdict.claim(ended, "when it is gone its query is ended", ended);
}
