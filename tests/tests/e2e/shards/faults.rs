//! Failures: a server connection that is lost in the middle, a router that is killed between PREPARE and COMMIT PREPARED,
//! pools with too few connections.

use super::stage::{LIMIT, Stage, extended, keys_of, lines, one, one_each, say, send, within};
use mothership_tests::{Wire, connect, poll_until};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// Terminates all backends of a shard that have a transaction open, and waits until they are gone.
fn cut(stage: &Stage, shard: usize) {
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL \
        AND backend_type = 'client backend'";
    assert_ne!(stage.shards.sql(shard, sql), "0");
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
        AND pid <> pg_backend_pid() AND xact_start IS NOT NULL AND backend_type = 'client backend'";
    assert!(poll_until(LIMIT, || stage.shards.sql(shard, open) == "0"));
}

#[test]
fn a_lost_connection_aborts_the_transaction_and_the_session_goes_on() {
    let stage = Stage::new();
    let [a, b, c] = one_each();
    let mut wire = stage.wire();
    let asks = [
        format!("SELECT v FROM items WHERE id = {b}"),
        format!("SELECT v FROM items WHERE id = {a}"),
        "SELECT count(*) FROM items".into(),
        format!("INSERT INTO items (id) VALUES ({a}), ({b}), ({c})"),
        "COMMIT".into(),
    ];
    for ask in asks {
        for is_extended in [false, true] {
            wire.query("BEGIN");
            for id in [a, b] {
                let sql = format!("INSERT INTO items (id, v) VALUES ({id}, 1)");
                assert_eq!(say(&mut wire, &sql)[1], "ReadyForQuery T", "{ask}");
            }
            cut(&stage, 1);
            let answer = if is_extended {
                send(&mut wire, &extended(&ask, &[], &[]))
            } else {
                say(&mut wire, &ask)
            };
            let errors = answer
                .iter()
                .filter(|line| line.starts_with("Error"))
                .count();
            assert_eq!(errors, 1, "{ask}, extended {is_extended}: {answer:?}");
            let ready = answer.last().unwrap().as_str();
            if ask == "COMMIT" {
                assert_eq!(ready, "ReadyForQuery I", "{answer:?}");
            } else {
                assert_eq!(ready, "ReadyForQuery E", "{ask}: {answer:?}");
                let next = say(&mut wire, "SELECT count(*) FROM items");
                assert!(next[0].starts_with("Error 25P02"), "{ask}: {next:?}");
                assert_eq!(
                    say(&mut wire, "ROLLBACK"),
                    ["CommandComplete ROLLBACK", "ReadyForQuery I"],
                    "{ask}"
                );
            }
            assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "0", "{ask}");
            stage.assert_nothing_prepared();
            stage.assert_nothing_open();
        }
    }
    let sql = format!("INSERT INTO items (id) VALUES ({a}), ({b}), ({c})");
    assert_eq!(say(&mut wire, &sql)[0], "CommandComplete INSERT 0 3");
    assert_eq!(stage.ids("items").len(), 3);
}

#[test]
fn a_backend_that_ends_during_a_router_query_is_one_error_to_the_client() {
    let stage = Stage::new();
    let [a, b, _] = one_each();
    for is_extended in [false, true] {
        let mut wire = stage.wire();
        wire.query("BEGIN");
        say(
            &mut wire,
            &format!("INSERT INTO items (id, v) VALUES ({a}, 1)"),
        );
        let open = "SELECT pid FROM pg_stat_activity \
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'idle in transaction'";
        let backend: i32 = stage.shards.sql(0, open).parse().unwrap();
        // SAFETY: kill touches no memory. The process is a backend of our test server.
        let signal = |signal| assert_eq!(unsafe { libc::kill(backend, signal) }, 0);
        signal(libc::SIGSTOP);
        let sql = format!("INSERT INTO items (id, v) VALUES ({b}, 1)");
        match is_extended {
            true => extended(&sql, &[], &[]).iter().for_each(|m| wire.send(m)),
            false => wire.send(&mothership_tests::message::query(&sql)),
        }
        // The transaction now works on two shards, so the router sends the mark to the first server. That server is
        // stopped and does not answer.
        assert!(wire.try_frame(Duration::from_millis(300)).is_err());
        let end = format!("SELECT pg_terminate_backend({backend})");
        assert_eq!(stage.shards.sql(0, &end), "t");
        signal(libc::SIGCONT);
        let answer = lines(&wire.until_ready());
        let is_error = |line: &&String| line.starts_with("Error");
        assert_eq!(answer.iter().filter(is_error).count(), 1, "{answer:?}");
        assert_eq!(answer.last().unwrap(), "ReadyForQuery E", "{answer:?}");
        wire.query("ROLLBACK");
        assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "0");
    }
    stage.assert_nothing_open();
}

#[test]
fn a_shard_that_is_cut_in_the_middle_of_a_statement_fails_it() {
    let stage = Stage::new();
    stage.fill(1..=20);
    // The UPDATE waits for this row lock on the last shard.
    let key = keys_of(2, 1)[0];
    let holder = &mut Wire::login(&stage.shards.endpoint(2));
    holder.query("BEGIN");
    holder.query(&format!("UPDATE items SET v = 0 WHERE id = {key}"));
    let mut wire = stage.wire();
    wire.send(&mothership_tests::message::query(
        "UPDATE items SET v = v + 1",
    ));
    let waiting = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
        WHERE NOT l.granted AND a.datname = current_database()";
    assert!(poll_until(LIMIT, || stage.shards.sql(2, waiting) == "1"));
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
        WHERE NOT l.granted AND a.datname = current_database()";
    assert_eq!(stage.shards.sql(2, kill), "1");
    let answer = super::stage::lines(&wire.until_ready());
    assert!(answer[0].starts_with("Error"), "{answer:?}");
    assert_eq!(answer[1..], ["ReadyForQuery I"]);
    holder.query("ROLLBACK");
    assert_eq!(one(&mut wire, "SELECT sum(v) FROM items"), "420");
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}

#[test]
fn a_shard_that_is_lost_at_sync_is_told_of_and_sync_is_answered() {
    let stage = Stage::new();
    stage.fill(1..=20);
    let [a, b] = [0, 1].map(|shard| {
        let keys = keys_of(shard, 1);
        format!("UPDATE items SET v = v + 1 WHERE id = {}", keys[0])
    });
    let waiting = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
        WHERE NOT l.granted AND a.datname = current_database()";
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
        WHERE NOT l.granted AND a.datname = current_database()";
    for (block, status) in [(true, 'E'), (false, 'I')] {
        // The UPDATE on the second shard waits for this row lock. Its backend is terminated after Sync has been sent.
        let holder = &mut Wire::login(&stage.shards.endpoint(1));
        holder.query("BEGIN");
        holder.query(&b);
        let mut wire = stage.wire();
        if block {
            wire.query("BEGIN");
        }
        wire.send_all(&super::stage::segment([a.as_str(), b.as_str()]));
        assert!(poll_until(LIMIT, || stage.shards.sql(1, waiting) == "1"));
        assert_eq!(stage.shards.sql(1, kill), "1");
        let answer = super::stage::lines(&wire.until_ready());
        let errors = answer.iter().filter(|line| line.starts_with("Error"));
        assert_eq!(errors.count(), 1, "{answer:?}");
        assert_eq!(answer.last().unwrap(), &format!("ReadyForQuery {status}"));
        wire.query("ROLLBACK");
        holder.query("ROLLBACK");
        assert_eq!(one(&mut wire, "SELECT sum(v) FROM items"), "420");
        stage.assert_nothing_prepared();
        stage.assert_nothing_open();
    }
}

#[test]
fn a_parse_without_a_server_fails_and_its_sync_is_answered() {
    let stage = Stage::on_one_core_with("[pool]\nmax = 1\nqueue_timeout = \"3s\"\n");
    let (mut holder, mut wire) = (stage.wire(), stage.wire());
    holder.query("BEGIN");
    holder.query("SELECT count(*) FROM notes");
    let messages = [
        mothership_tests::message::parse("p", "SELECT 1", &[]),
        mothership_tests::message::sync(),
    ];
    let answer = send(&mut wire, &messages);
    assert!(answer[0].starts_with("Error 53300"), "{answer:?}");
    assert_eq!(answer[1..], ["ReadyForQuery I"]);
    holder.query("ROLLBACK");
    assert_eq!(one(&mut wire, "SELECT 1"), "1");
}

const ACCOUNTS: i64 = 60;
const BALANCE: i64 = 1000;

/// One client makes transfers until the router is gone. Returns the ids of the acknowledged ones. `all` counts those of all
/// clients.
async fn transfer(database: Client, client: i64, all: &AtomicUsize) -> Vec<i64> {
    let mut acknowledged = Vec::new();
    for number in 0_i64.. {
        if database.is_closed() {
            break;
        }
        let id = 1_000_000 + client * 10_000 + number;
        // Always lock the lower account first, so that transfers cannot deadlock over several shards.
        let low = (client * 7 + number * 13) % (ACCOUNTS - 10) + 1;
        let high = low + 1 + number % 9;
        let sql = format!(
            "BEGIN; UPDATE accounts SET balance = balance - 1 WHERE id = {low}; \
             UPDATE accounts SET balance = balance + 1 WHERE id = {high}; \
             INSERT INTO items (id, v) VALUES ({id}, 1)"
        );
        if within(database.batch_execute(&sql)).await.is_err() {
            let _ = within(database.batch_execute("ROLLBACK")).await;
            continue;
        }
        if within(database.batch_execute("COMMIT")).await.is_ok() {
            acknowledged.push(id);
            all.fetch_add(1, Ordering::Relaxed);
        }
    }
    acknowledged
}

fn total(stage: &Stage) -> i64 {
    let sums = stage.shards.sql_all("SELECT sum(balance) FROM accounts");
    sums.iter().map(|sum| sum.parse::<i64>().unwrap()).sum()
}

#[tokio::test]
async fn a_killed_router_leaves_no_transfer_half_done() {
    let mut stage = Stage::new();
    let client = stage.client().await;
    let values: Vec<String> = (1..=ACCOUNTS)
        .map(|id| format!("({id}, {BALANCE})"))
        .collect();
    let sql = format!("INSERT INTO accounts VALUES {}", values.join(", "));
    within(client.batch_execute(&sql)).await.unwrap();
    let mut acknowledged = Vec::new();
    let mut left_prepared = 0;
    for round in 0..3_i64 {
        let all = AtomicUsize::new(0);
        let mut clients = Vec::new();
        for client in 0..6 {
            let database = within(connect(&stage.endpoint())).await;
            clients.push(transfer(database, round * 10 + client, &all));
        }
        let kill = async {
            // Kill it in the middle of the work, at a random moment.
            let enough = rand::random_range(10..40);
            let begin = Instant::now();
            while all.load(Ordering::Relaxed) < enough {
                assert!(begin.elapsed() < 3 * LIMIT, "transfers are too slow");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let pid = i32::try_from(stage.router.pid()).unwrap();
            // SAFETY: kill touches no memory; the router is our child and not reaped yet.
            assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
        };
        let (done, ()) = tokio::join!(futures_util::future::join_all(clients), kill);
        acknowledged.extend(done.concat());
        left_prepared += stage.prepared();
        stage.router.kill9();
        stage.router.start_again();
        let begin = Instant::now();
        stage.assert_nothing_prepared();
        println!(
            "round {round}: nothing prepared after {:?}",
            begin.elapsed()
        );
        stage.assert_nothing_open();
        assert_eq!(total(&stage), ACCOUNTS * BALANCE, "round {round}");
    }
    println!(
        "{} acknowledged, {left_prepared} were left prepared",
        acknowledged.len()
    );
    assert!(
        acknowledged.len() > 3,
        "{} acknowledged",
        acknowledged.len()
    );
    let kept = stage.ids("items");
    for id in &acknowledged {
        assert!(
            kept.binary_search(id).is_ok(),
            "{id} was acknowledged and is lost"
        );
    }
    let mut wire = stage.wire();
    let sum = one(&mut wire, "SELECT sum(balance) FROM accounts");
    assert_eq!(sum, (ACCOUNTS * BALANCE).to_string());
}

/// Each client runs one transaction over three shards, in the order that `order` gives it. Returns how many committed and
/// how many failed with 40P01.
async fn crowd(
    stage: &Stage,
    numbers: Range<i64>,
    order: impl Fn(i64) -> [usize; 3],
) -> (usize, usize) {
    let keys = [0, 1, 2].map(|shard| keys_of(shard, 200));
    let mut clients = Vec::new();
    for number in numbers {
        let client = within(connect(&stage.endpoint())).await;
        let ids = order(number).map(|shard| keys[shard][usize::try_from(number).unwrap()]);
        let insert = |id| format!("INSERT INTO items (id) VALUES ({id})");
        let sql = format!(
            "BEGIN; {}; SELECT count(*) FROM items",
            ids.map(insert).join("; ")
        );
        clients.push(async move {
            let result = async {
                client.batch_execute(&sql).await?;
                client.batch_execute("COMMIT").await
            };
            let result = tokio::time::timeout(LIMIT * 2, result)
                .await
                .expect("no hang");
            if result.is_err() {
                within(client.batch_execute("ROLLBACK")).await.unwrap();
            }
            result
        });
    }
    let results = futures_util::future::join_all(clients).await;
    let committed = results.iter().filter(|result| result.is_ok()).count();
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        // The only allowed error is 40P01 (deadlock): the client may repeat the transaction.
        let code = error.code().map(|code| code.code().to_owned());
        assert_eq!(code.as_deref(), Some("40P01"), "{error:?}");
    }
    (committed, results.len() - committed)
}

#[tokio::test]
async fn pools_of_two_serve_many_clients_over_several_shards() {
    let stage = Stage::with("[pool]\nmax = 2\njoin_timeout = \"250ms\"\n");
    // If all use the shards in one order, no two can wait for each other.
    let same = crowd(&stage, 0..32, |_| [0, 1, 2]).await;
    assert_eq!(stage.ids("items").len(), same.0 * 3);
    // In different orders some wait for each other, until one fails.
    let orders = [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]];
    let any = crowd(&stage, 100..112, |number| orders[number as usize % 4]).await;
    println!("(committed, to be repeated): {same:?} in one order, {any:?} in any");
    assert_eq!(same, (32, 0));
    assert!(any.0 > 0);
    assert_eq!(stage.ids("items").len(), (same.0 + any.0) * 3);
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}
