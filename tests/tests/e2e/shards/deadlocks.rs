//! Transactions that wait for each other on two shards, where no server can see it:
//! one of them is told, the other goes on.

use super::stage::{Stage, one_each, within};
use mothership_tests::poll_until;
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
