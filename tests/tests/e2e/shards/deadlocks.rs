//! Transactions that wait for each other on two shards, where no server can see it:
//! one of them is told, the other goes on.

use super::fast::metric;
use super::stage::{Stage, one_each, owner, within};
use mothership_tests::{connect, poll_until};
use std::time::Duration;
use tokio_postgres::Client;

/// Far more than two looks take.
const LONG: Duration = Duration::from_secs(60);

const QUICK: &str = "[transactions]\ndeadlock_timeout = \"100ms\"\n";

fn update(id: i64, by: &str) -> String {
    format!("UPDATE items SET note = '{by}' WHERE id = {id}")
}

async fn run(client: &Client, sql: &str, prepared: bool) -> Result<(), tokio_postgres::Error> {
    match prepared {
        true => client.execute(sql, &[]).await.map(drop),
        false => client.batch_execute(sql).await,
    }
}

/// What one of them was told, after both went for what the other has; the loser has rolled back, the winner committed.
async fn collide(clients: [&Client; 2], wants: [&str; 2], prepared: bool) -> (usize, String) {
    let go = async |at: usize| {
        let done = run(clients[at], wants[at], prepared).await;
        let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
        clients[at].batch_execute(end).await.unwrap();
        done.err()
    };
    let both = async { tokio::join!(go(0), go(1)) };
    let told = match tokio::time::timeout(LONG, both).await.expect("it ends") {
        (Some(error), None) => (0, error),
        (None, Some(error)) => (1, error),
        other => panic!("exactly one fails: {other:?}"),
    };
    let error = told.1.as_db_error().unwrap();
    assert_eq!(error.code().code(), "40P01", "{error:?}");
    assert_eq!(error.message(), "deadlock detected");
    (told.0, error.detail().unwrap().to_owned())
}

#[tokio::test]
async fn one_of_two_transactions_in_opposite_order_is_told_and_the_other_commits() {
    let stage = Stage::with(QUICK);
    let ids = one_each();
    stage.fill(ids.iter().copied());
    let (a, b) = (stage.client().await, stage.client().await);
    let (x, y) = (ids[0], ids[1]);
    for prepared in [false, true] {
        for round in 0..2 {
            for client in [&a, &b] {
                within(client.batch_execute("BEGIN")).await.unwrap();
            }
            within(run(&a, &update(x, "a"), prepared)).await.unwrap();
            within(run(&b, &update(y, "b"), prepared)).await.unwrap();
            let wants = [&*update(y, "a"), &*update(x, "b")];
            let (loser, detail) = collide([&a, &b], wants, prepared).await;
            assert!(detail.contains("On shard s1, process"), "{detail}");
            assert!(detail.contains("On shard s2, process"), "{detail}");
            let winner = ["b", "a"][loser];
            let notes = format!("SELECT note FROM items WHERE id IN ({x}, {y})");
            let rows = within(a.query(&notes, &[])).await.unwrap();
            let notes: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
            assert_eq!(notes, [winner, winner], "{prepared} {round}");
        }
    }
    // A statement on all shards is one of the two.
    for client in [&a, &b] {
        within(client.batch_execute("BEGIN")).await.unwrap();
    }
    within(a.batch_execute(&update(x, "a"))).await.unwrap();
    within(b.batch_execute(&update(y, "b"))).await.unwrap();
    let all = "UPDATE items SET note = 'all'";
    collide([&a, &b], [all, &update(x, "b")], false).await;
    stage.assert_nothing_prepared();
}

#[tokio::test]
async fn every_statement_over_shards_is_told_of_its_deadlock() {
    let stage = Stage::with(QUICK);
    let ids = one_each();
    stage.fill(ids.iter().copied());
    let clients = [stage.client().await, stage.client().await];
    let [x, y, z] = ids;
    let mut lost = 0;
    for wants in [
        "UPDATE items SET note = 'all'".to_owned(),
        format!("UPDATE items SET note = 'some' WHERE id IN ({y}, {z}) RETURNING id"),
        format!("SELECT id FROM items WHERE id IN ({y}, {z}) ORDER BY id FOR UPDATE"),
        format!(
            "WITH u AS (UPDATE items SET note = 'within' WHERE id IN ({y}, {z}) RETURNING id) SELECT id FROM u"
        ),
        format!(
            "INSERT INTO items (id) VALUES ({y}), ({z}) ON CONFLICT (id) DO UPDATE SET note = 'set'"
        ),
    ] {
        for prepared in [false, true] {
            // The younger one is told.
            for younger in [0, 1] {
                for at in [1 - younger, younger] {
                    within(clients[at].batch_execute("BEGIN")).await.unwrap();
                    let own = update([x, y][at], "own");
                    within(clients[at].batch_execute(&own)).await.unwrap();
                }
                let both = [&clients[0], &clients[1]];
                let (loser, _) = collide(both, [&wants, &update(x, "b")], prepared).await;
                lost += usize::from(loser == 0);
            }
        }
    }
    assert!(lost > 0);
    stage.assert_nothing_prepared();
}

/// Both hold the row, and each attempt to write it waits for the other one's: to undo it more often is of no use.
#[tokio::test]
async fn who_shares_a_row_of_a_reference_table_and_writes_it_is_undone_a_few_times() {
    let stage = Stage::with("[metrics]\nport = @metrics_port@\n");
    let (a, b) = (stage.client().await, stage.client().await);
    within(a.batch_execute("INSERT INTO kinds VALUES (1, 'a')"))
        .await
        .unwrap();
    for client in [&a, &b] {
        let share = "BEGIN; SELECT id FROM kinds FOR SHARE";
        within(client.batch_execute(share)).await.unwrap();
    }
    collide([&a, &b], ["UPDATE kinds SET name = 'b'"; 2], false).await;
    let repeated = metric(&stage, "mothership_repeated_requests_total");
    assert!((1..60).contains(&repeated), "{repeated} times");
}

#[tokio::test]
async fn three_in_a_ring_lose_one_and_who_only_waits_loses_nothing() {
    let stage = Stage::with(QUICK);
    let ids = one_each();
    stage.fill(ids.iter().copied());
    let clients = [
        stage.client().await,
        stage.client().await,
        stage.client().await,
    ];
    for (client, id) in clients.iter().zip(&ids) {
        within(client.batch_execute("BEGIN")).await.unwrap();
        within(client.batch_execute(&update(*id, "mine")))
            .await
            .unwrap();
    }
    let go = async |at: usize| {
        let done = clients[at]
            .batch_execute(&update(ids[(at + 1) % 3], "next"))
            .await;
        let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
        clients[at].batch_execute(end).await.unwrap();
        done.err()
            .map(|e| e.as_db_error().unwrap().code().code().to_owned())
    };
    let ring = async { tokio::join!(go(0), go(1), go(2)) };
    let told = tokio::time::timeout(LONG, ring).await.expect("it ends");
    let told: Vec<String> = [told.0, told.1, told.2].into_iter().flatten().collect();
    assert_eq!(told, ["40P01"]);

    // One waits for the other and nobody for him: however often the router looks, he waits on.
    let [holder, waiter, _] = &clients;
    for client in [holder, waiter] {
        within(client.batch_execute("BEGIN")).await.unwrap();
    }
    within(holder.batch_execute(&update(ids[0], "held")))
        .await
        .unwrap();
    within(waiter.batch_execute(&update(ids[1], "other")))
        .await
        .unwrap();
    let blocked = update(ids[0], "waited");
    let waiting = waiter.batch_execute(&blocked);
    let release = async {
        // Until it waits, and for as long as six more looks take, as the server counts time.
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
            AND clock_timestamp() - query_start > '600ms'";
        let seen = tokio::task::spawn_blocking(move || {
            poll_until(LONG, || stage.shards.sql(0, waits) == "1").then_some(stage)
        });
        let stage = seen.await.unwrap().expect("it waits");
        holder.batch_execute("COMMIT").await.unwrap();
        stage
    };
    let (waited, stage) = tokio::join!(waiting, release);
    waited.unwrap();
    waiter.batch_execute("COMMIT").await.unwrap();
    assert_eq!(stage.shards.sql(0, "SELECT note FROM items"), "waited");
}

/// Rounds of the bar's deadlock, at the default setting: each ends within 3 s.
async fn collide_often(stage: &Stage, clients: [&Client; 2], rounds: usize) {
    let ids = one_each();
    stage.fill(ids.iter().copied());
    let (x, y) = (ids[0], ids[1]);
    for round in 0..rounds {
        for client in clients {
            within(client.batch_execute("BEGIN")).await.unwrap();
        }
        // Both orders of age, and of who comes second.
        let (a, b) = if round % 2 == 0 { (0, 1) } else { (1, 0) };
        within(run(clients[a], &update(x, "a"), false))
            .await
            .unwrap();
        within(run(clients[b], &update(y, "b"), false))
            .await
            .unwrap();
        let mut wants = [String::new(), String::new()];
        (wants[a], wants[b]) = (update(y, "a"), update(x, "b"));
        let began = std::time::Instant::now();
        collide(clients, [&wants[0], &wants[1]], false).await;
        let took = began.elapsed();
        assert!(took < Duration::from_secs(3), "round {round}: {took:?}");
    }
    stage.assert_nothing_prepared();
}

#[tokio::test]
async fn a_deadlock_through_two_routers_ends_within_three_seconds_on_one_side() {
    let stage = Stage::new();
    let other = stage.another_router();
    let (a, b) = (stage.client().await, stage.client_of(&other).await);
    collide_often(&stage, [&a, &b], 4).await;
}

#[tokio::test]
async fn a_deadlock_through_one_router_ends_within_three_seconds_on_one_side() {
    let stage = Stage::new();
    let (a, b) = (stage.client().await, stage.client().await);
    collide_often(&stage, [&a, &b], 4).await;
}

#[tokio::test]
async fn a_mark_that_a_savepoint_took_along_is_taken_again() {
    let stage = Stage::with(QUICK);
    let other = stage.another_router();
    let ids = one_each();
    stage.fill(ids.iter().copied());
    let (a, b) = (stage.client().await, stage.client_of(&other).await);
    let marks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid::int8 >> 16 = 28019 \
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    for client in [&a, &b] {
        within(client.batch_execute("BEGIN")).await.unwrap();
    }
    // One shard needs none.
    within(a.batch_execute(&update(ids[0], "a"))).await.unwrap();
    assert_eq!(stage.shards.sql_all(marks), ["0", "0", "0"]);
    within(a.batch_execute("SAVEPOINT s")).await.unwrap();
    within(a.batch_execute(&update(ids[2], "a"))).await.unwrap();
    assert_eq!(stage.shards.sql_all(marks), ["1", "0", "1"]);
    within(a.batch_execute("ROLLBACK TO s")).await.unwrap();
    assert_eq!(stage.shards.sql_all(marks), ["0", "0", "0"]);
    within(b.batch_execute(&update(ids[1], "b"))).await.unwrap();
    let (x, y) = (update(ids[1], "a"), update(ids[0], "b"));
    collide([&a, &b], [&x, &y], false).await;
    assert_eq!(stage.shards.sql_all(marks), ["0", "0", "0"]);
}

#[tokio::test]
async fn three_in_a_ring_through_three_routers_lose_one() {
    let stage = Stage::with(QUICK);
    let others = [stage.another_router(), stage.another_router()];
    let ids = one_each();
    stage.fill(ids.iter().copied());
    let clients = [
        stage.client().await,
        stage.client_of(&others[0]).await,
        stage.client_of(&others[1]).await,
    ];
    for (client, id) in clients.iter().zip(&ids) {
        within(client.batch_execute("BEGIN")).await.unwrap();
        within(run(client, &update(*id, "mine"), true))
            .await
            .unwrap();
    }
    let go = async |at: usize| {
        let done = run(&clients[at], &update(ids[(at + 1) % 3], "next"), true).await;
        let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
        clients[at].batch_execute(end).await.unwrap();
        done.err()
            .map(|e| e.as_db_error().unwrap().code().code().to_owned())
    };
    let ring = async { tokio::join!(go(0), go(1), go(2)) };
    let told = tokio::time::timeout(LONG, ring).await.expect("it ends");
    let told: Vec<String> = [told.0, told.1, told.2].into_iter().flatten().collect();
    assert_eq!(told, ["40P01"]);
}

const LATE: &str = "[[table]]\nname = \"late\"\nkey = [\"id\"]\nkey_type = [\"int8\"]\n\
    [transactions]\ndeadlock_timeout = \"100ms\"\n";

/// A transaction waits in its COMMIT, because a constraint is checked there, with a part that is prepared or is about to
/// be; and somebody waits for that part.
#[tokio::test]
async fn what_is_prepared_waits_and_is_waited_for() {
    let stage = Stage::with(LATE);
    let other = stage.another_router();
    let ids = one_each();
    let (a, b) = (stage.client().await, stage.client_of(&other).await);
    let define = "CREATE TABLE late (id int8 PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)";
    within(a.batch_execute(define)).await.unwrap();
    stage.fill(ids.iter().copied());
    let mut losers = Vec::new();
    for (x, y) in [(ids[0], ids[1]), (ids[1], ids[0])] {
        for a_is_older in [true, false] {
            let insert = format!("INSERT INTO late VALUES ({y})");
            let begin = async || {
                within(a.batch_execute("BEGIN")).await.unwrap();
                within(a.batch_execute(&update(x, "a"))).await.unwrap();
            };
            if a_is_older {
                begin().await;
            }
            within(b.batch_execute("BEGIN")).await.unwrap();
            within(b.batch_execute(&insert)).await.unwrap();
            if !a_is_older {
                begin().await;
            }
            within(a.batch_execute(&insert)).await.unwrap();
            let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
            let direct = within(connect(&stage.shards.endpoint(owner(y)))).await;
            let commit = a.batch_execute("COMMIT");
            let collide = async {
                let seen = async {
                    while direct.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
                        tokio::task::yield_now().await;
                    }
                };
                within(seen).await;
                let done = b.batch_execute(&update(x, "b")).await;
                let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
                b.batch_execute(end).await.unwrap();
                done
            };
            let both = async { tokio::join!(commit, collide) };
            let told = tokio::time::timeout(LONG, both).await.expect("it ends");
            let (loser, error) = match told {
                (Err(error), Ok(())) => ("a", error),
                (Ok(()), Err(error)) => ("b", error),
                other => panic!("exactly one fails: {other:?}"),
            };
            let error = error.as_db_error().unwrap();
            assert_eq!(error.code().code(), "40P01", "{error:?}");
            losers.push((loser, error.detail().unwrap().contains("prepared")));
            stage.assert_nothing_prepared();
            within(a.batch_execute("DELETE FROM late")).await.unwrap();
        }
    }
    // Of what is prepared nobody knows when it began: then the parts that still run tell the age.
    let by_age = losers.iter().filter(|loser| !loser.1);
    let by_age: Vec<&str> = by_age.map(|loser| loser.0).collect();
    assert_eq!(by_age, ["b", "a"], "{losers:?}");
    assert!(losers.iter().any(|loser| loser.1), "{losers:?}");
}

const NARROW: &str =
    "[pool]\nmax = 1\njoin_timeout = \"1h\"\n[transactions]\ndeadlock_timeout = \"100ms\"\n";

/// Each has the only connection of a shard, and wants that of the other's.
#[tokio::test]
async fn waits_for_connections_and_for_locks_are_one_deadlock() {
    let stage = Stage::with(NARROW);
    let ids = one_each();
    let (x, y) = (ids[0], ids[1]);
    stage.fill(ids.iter().copied());
    let (a, b) = (stage.client().await, stage.client().await);
    for _ in 0..3 {
        for client in [&a, &b] {
            within(client.batch_execute("BEGIN")).await.unwrap();
        }
        within(run(&a, &update(x, "a"), false)).await.unwrap();
        within(run(&b, &update(y, "b"), false)).await.unwrap();
        let wants = [&*update(y, "a"), &*update(x, "b")];
        let (loser, detail) = collide([&a, &b], wants, false).await;
        assert!(detail.contains("waits for a connection"), "{detail}");
        let winner = ["b", "a"][loser];
        for id in [x, y] {
            let rows =
                within(a.query(&format!("SELECT note FROM items WHERE id = {id}"), &[])).await;
            assert_eq!(rows.unwrap()[0].get::<_, &str>(0), winner);
        }
    }
    stage.assert_nothing_prepared();
}

/// Writers of reference tables wait for a lock of the router's own, which comes ahead of their statement.
#[tokio::test]
async fn a_writer_of_a_reference_table_is_in_the_cycle() {
    let stage = Stage::with(QUICK);
    let ids = one_each();
    stage.fill(ids.iter().copied());
    let (a, b) = (stage.client().await, stage.client().await);
    let kinds = "INSERT INTO kinds VALUES (1, 'k') ON CONFLICT (id) DO UPDATE SET name = 'l'";
    within(a.batch_execute(kinds)).await.unwrap();
    let [x, y, z] = ids;
    let writes_kinds = [
        kinds.to_owned(),
        "UPDATE kinds SET name = 'm' WHERE id = 1".to_owned(),
        format!(
            "WITH k AS (UPDATE kinds SET name = 'n' RETURNING id) UPDATE items SET v = 7 WHERE id = {z} AND id > (SELECT min(id) FROM k)"
        ),
    ];
    let writes_items = [
        format!("UPDATE items SET note = 'b' WHERE id IN ({x}, {y}, {z})"),
        format!(
            "INSERT INTO items SELECT g, 1, 'b' FROM unnest(ARRAY[{x}, {y}, {z}]) g \
             ON CONFLICT (id) DO UPDATE SET v = 9"
        ),
        format!("INSERT INTO items VALUES ({z}, 1), ({y}, 1) ON CONFLICT (id) DO UPDATE SET v = 8"),
    ];
    for wants in &writes_kinds {
        for other in &writes_items {
            for prepared in [false, true] {
                for client in [&a, &b] {
                    within(client.batch_execute("BEGIN")).await.unwrap();
                }
                within(run(&a, &update(y, "a"), prepared)).await.unwrap();
                if run(&b, kinds, prepared).await.is_err() {
                    panic!("{kinds}");
                }
                let (_, detail) = collide([&a, &b], [wants, other], prepared).await;
                assert!(detail.contains("process"), "{detail}");
            }
        }
    }
    stage.assert_nothing_open();
}
