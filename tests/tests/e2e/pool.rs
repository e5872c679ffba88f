//! Pools of several cores that share one limit: no core keeps what another one needs.

use mothership_tests::{Endpoint, Router, Shards, connect};
use std::cell::Cell;
use std::rc::Rc;
use tokio::task::LocalSet;

/// So many that each of two cores has some of them, but for one run in a hundred thousand.
const CLIENTS: usize = 18;

/// A router with two cores that share so many connections. A wait that would never end is an error soon.
fn served(connections: u32) -> (Shards, Router, Endpoint) {
    let shards = Shards::new(1);
    let direct = shards.endpoint(0);
    let router = Router::start(&format!(
        r#"
[listen]
port = @port@
workers = 2
[control]
user = "{user}"
password = "{password}"
[pool]
max = {connections}
queue_timeout = "10s"
[[shard]]
name = "one"
[[shard.server]]
address = "{host}:{port}"
"#,
        user = direct.user,
        password = direct.password,
        host = direct.host,
        port = direct.port,
    ));
    let endpoint = direct.at_port(router.port());
    (shards, router, endpoint)
}

#[tokio::test]
async fn an_idle_core_gives_its_connection_to_one_that_needs_it() {
    let (_shards, _router, endpoint) = served(1);
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        clients.push(connect(&endpoint).await);
        // The oldest asks again: what it had is on the other core by now, or never left.
        for client in [&clients[number], &clients[0]] {
            let row = client.query_one("SELECT 1", &[]).await.unwrap();
            assert_eq!(row.get::<_, i32>(0), 1);
        }
    }
}

#[tokio::test]
async fn a_busy_core_leaves_others_their_share() {
    for connections in [1, 3] {
        let (_shards, _router, endpoint) = served(connections);
        let endpoint = Rc::new(endpoint);
        // Everybody goes on until all have been served: who came first never rests.
        let unserved = Rc::new(Cell::new(CLIENTS));
        let set = LocalSet::new();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (endpoint, unserved) = (Rc::clone(&endpoint), Rc::clone(&unserved));
                set.spawn_local(async move {
                    let client = connect(&endpoint).await;
                    let mut answers = 0;
                    while unserved.get() > 0 {
                        let answer = client.query_one("SELECT 1", &[]).await;
                        if answer.is_err() {
                            // The others need not go on.
                            unserved.set(0);
                        }
                        answer.unwrap();
                        answers += 1;
                        if answers == 10 {
                            unserved.set(unserved.get() - 1);
                        }
                    }
                })
            })
            .collect();
        set.await;
        for client in clients {
            client.await.unwrap();
        }
    }
}
