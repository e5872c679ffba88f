//! tokio-postgres, the driver that Rust programs use: binary throughout,
//! statements prepared by name, pipelines by concurrent futures.
//!
//! The other drivers are in `tests/clients`, in their own languages.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, TryStreamExt, future, pin_mut};
use mothership_tests::{Endpoint, connect, endpoint};
use std::time::Duration;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Error, NoTls, SimpleQueryMessage};

const SOON: Duration = Duration::from_secs(20);

/// Fails the test instead of hanging it.
async fn soon<F: Future>(future: F) -> F::Output {
    let done = tokio::time::timeout(SOON, future).await;
    done.expect("an answer in time")
}

async fn int(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

fn state<T>(result: Result<T, Error>) -> SqlState {
    let error = result.err().expect("an error");
    error.code().expect("an error of the server").clone()
}

#[tokio::test]
async fn simple_queries_return_each_result() {
    let server = endpoint();
    let client = connect(&server).await;
    let messages = client.simple_query("SELECT 1; SELECT 'b' UNION ALL SELECT NULL");
    let messages = soon(messages).await.unwrap();
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
        _ => None,
    });
    let expected = [Some("1".to_owned()), Some("b".to_owned()), None];
    assert_eq!(rows.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_prepared_statement_is_reused_with_other_values() {
    let server = endpoint();
    let client = connect(&server).await;
    let statement = client
        .prepare("SELECT $1::int8 * 2, $2::text")
        .await
        .unwrap();
    for i in 0..200_i64 {
        let text = format!("čaj {i}");
        let row = client.query_one(&statement, &[&i, &text]).await.unwrap();
        assert_eq!(
            (row.get::<_, i64>(0), row.get::<_, &str>(1)),
            (2 * i, &*text)
        );
    }
}

#[tokio::test]
async fn concurrent_futures_are_one_pipeline_answered_in_order() {
    let server = endpoint();
    let client = connect(&server).await;
    let statement = client.prepare("SELECT $1::int8").await.unwrap();
    let asked: Vec<i64> = (0..300).collect();
    let answers = asked.iter().map(|i| {
        let statement = &statement;
        let client = &client;
        async move {
            client
                .query_one(statement, &[i])
                .await
                .unwrap()
                .get::<_, i64>(0)
        }
    });
    assert_eq!(soon(future::join_all(answers)).await, asked);
}

#[tokio::test]
async fn transactions_commit_roll_back_and_nest() {
    let server = endpoint();
    let mut client = connect(&server).await;
    client
        .batch_execute("CREATE TABLE t (a int PRIMARY KEY)")
        .await
        .unwrap();
    let mut outer = client.transaction().await.unwrap();
    outer
        .execute("INSERT INTO t VALUES (1)", &[])
        .await
        .unwrap();
    let inner = outer.transaction().await.unwrap();
    let twice = inner.execute("INSERT INTO t VALUES (1)", &[]).await;
    assert_eq!(state(twice), SqlState::UNIQUE_VIOLATION);
    inner.rollback().await.unwrap();
    outer
        .execute("INSERT INTO t VALUES (2)", &[])
        .await
        .unwrap();
    outer.commit().await.unwrap();
    let dropped = client.transaction().await.unwrap();
    dropped.execute("DELETE FROM t", &[]).await.unwrap();
    drop(dropped);
    assert_eq!(int(&client, "SELECT count(*) FROM t").await, 2);
}

#[tokio::test]
async fn errors_carry_sqlstate_and_leave_the_connection_usable() {
    let server = endpoint();
    let client = connect(&server).await;
    for (sql, expected) in [
        ("SELECT 1/0", SqlState::DIVISION_BY_ZERO),
        ("SELEC 1", SqlState::SYNTAX_ERROR),
        ("SELECT * FROM no_such_table", SqlState::UNDEFINED_TABLE),
        ("SELECT no_such_column", SqlState::UNDEFINED_COLUMN),
        ("SELECT 'x'::int", SqlState::INVALID_TEXT_REPRESENTATION),
    ] {
        assert_eq!(state(client.query(sql, &[]).await), expected, "{sql}");
        assert_eq!(state(client.simple_query(sql).await), expected, "{sql}");
        assert_eq!(int(&client, "SELECT 1::int8").await, 1, "after {sql}");
    }
}

#[tokio::test]
async fn copy_goes_in_and_out() {
    let server = endpoint();
    let client = connect(&server).await;
    client
        .batch_execute("CREATE TABLE t (a int, b text)")
        .await
        .unwrap();
    let sink = client.copy_in("COPY t FROM STDIN").await.unwrap();
    pin_mut!(sink);
    for i in 0..5000 {
        sink.send(Bytes::from(format!("{i}\trow\n"))).await.unwrap();
    }
    assert_eq!(sink.finish().await.unwrap(), 5000);
    let stream = client.copy_out("COPY t TO STDOUT").await.unwrap();
    let chunks: Vec<Bytes> = soon(stream.try_collect()).await.unwrap();
    let lines = chunks
        .concat()
        .iter()
        .filter(|byte| **byte == b'\n')
        .count();
    assert_eq!(lines, 5000);

    let sink = client.copy_in("COPY t FROM STDIN").await.unwrap();
    pin_mut!(sink);
    sink.send(Bytes::from("bad\trow\n")).await.unwrap();
    let refused = sink.finish().await;
    assert_eq!(state(refused), SqlState::INVALID_TEXT_REPRESENTATION);

    // Dropped without an end: the driver tells the server to forget it.
    let sink = client.copy_in("COPY t FROM STDIN").await.unwrap();
    {
        pin_mut!(sink);
        sink.send(Bytes::from("1\tforgotten\n")).await.unwrap();
    }
    assert_eq!(int(&client, "SELECT count(*) FROM t").await, 5000);
}

#[tokio::test]
async fn portals_are_read_in_pieces() {
    let server = endpoint();
    let mut client = connect(&server).await;
    let transaction = client.transaction().await.unwrap();
    let portal = transaction
        .bind("SELECT generate_series(1, 100)", &[])
        .await
        .unwrap();
    let mut pieces = Vec::new();
    loop {
        let rows = transaction.query_portal(&portal, 30).await.unwrap();
        pieces.push(rows.len());
        if rows.len() < 30 {
            break;
        }
    }
    assert_eq!(pieces, [30, 30, 30, 10]);
}

#[tokio::test]
async fn a_cancel_ends_the_running_query_only() {
    let server = endpoint();
    let (client, watcher) = (connect(&server).await, connect(&server).await);
    let cancel = client.cancel_token();
    let busy =
        tokio::spawn(async move { (client.batch_execute("SELECT pg_sleep(60)").await, client) });
    let running = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' \
                   AND datname = current_database()";
    soon(async {
        while int(&watcher, running).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    cancel.cancel_query(NoTls).await.unwrap();
    let (answer, client) = soon(busy).await.unwrap();
    assert_eq!(state(answer), SqlState::QUERY_CANCELED);
    assert_eq!(int(&client, "SELECT 1::int8").await, 1);
}

#[tokio::test]
async fn notifications_arrive_by_themselves() {
    let server = endpoint();
    let (mut heard, listener) = listen(&server).await;
    listener.batch_execute("LISTEN harbour").await.unwrap();
    let sender = connect(&server).await;
    sender
        .execute("SELECT pg_notify('harbour', $1)", &[&"ship 🚢"])
        .await
        .unwrap();
    assert_eq!(soon(heard.recv()).await.unwrap(), "ship 🚢");
}

/// A client whose notifications' payloads come out of a channel.
async fn listen(server: &Endpoint) -> (tokio::sync::mpsc::Receiver<String>, Client) {
    let connected = tokio_postgres::connect(&server.conninfo(), NoTls).await;
    let (client, mut connection) = connected.unwrap();
    let (tell, heard) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        let mut messages =
            futures_util::stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(note) = message {
                let _ = tell.send(note.payload().to_owned()).await;
            }
        }
    });
    (heard, client)
}

#[tokio::test]
async fn settings_belong_to_their_session() {
    let server = endpoint();
    let (one, other) = (connect(&server).await, connect(&server).await);
    one.batch_execute("SET statement_timeout = '54321ms'")
        .await
        .unwrap();
    let show = "SHOW statement_timeout";
    let of = async |client: &Client| {
        let row = client.query_one(show, &[]).await.unwrap();
        row.get::<_, String>(0)
    };
    assert_eq!(of(&one).await, "54321ms");
    assert_eq!(of(&other).await, "0");
    one.batch_execute("BEGIN; SET statement_timeout = '1min'; ROLLBACK")
        .await
        .unwrap();
    assert_eq!(of(&one).await, "54321ms");
}

#[tokio::test]
async fn large_values_go_both_ways() {
    let server = endpoint();
    let client = connect(&server).await;
    let value = "é".repeat(8_000_000);
    let row = soon(client.query_one("SELECT $1::text", &[&value]))
        .await
        .unwrap();
    assert!(row.get::<_, &str>(0) == value);
}

#[tokio::test]
async fn fifty_clients_get_their_own_answers() {
    let server = endpoint();
    let clients = (0..50_i64).map(|me| {
        let endpoint = server.clone();
        tokio::spawn(async move {
            let client = connect(&endpoint).await;
            for turn in 0..20_i64 {
                let mark = me * 1000 + turn;
                let row = client.query_one("SELECT $1::int8", &[&mark]).await.unwrap();
                assert_eq!(row.get::<_, i64>(0), mark);
            }
        })
    });
    for client in soon(future::join_all(clients)).await {
        client.unwrap();
    }
}
