//! Pools of several cores that share one limit: no core keeps what another one needs.

use mothership_tests::{Endpoint, Router, Shards, Wire, connect, poll_until};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::LocalSet;

/// So many that each of two cores has some of them, but for one run in a hundred thousand.
const CLIENTS: usize = 18;

/// A router with two cores that share so many connections. A wait that would never end is an error soon.
fn served(connections: u32) -> (Shards, Router, Endpoint) {
    served_by(2, connections)
}

fn served_by(cores: u32, connections: u32) -> (Shards, Router, Endpoint) {
    let shards = Shards::new(1);
    let direct = shards.endpoint(0);
    let router = Router::start(&format!(
        r#"
[listen]
port = @port@
workers = {cores}
[control]
user = "{user}"
password = "{password}"
[pool]
max = {connections}
queue_timeout = "10s"
min = 1
idle_timeout = "1s"
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

#[test]
fn the_connection_that_was_used_last_is_used_again_and_the_others_are_closed() {
    let (shards, _router, endpoint) = served_by(1, 4);
    let mut clients = [(); 4].map(|()| Wire::login(&endpoint));
    for sql in ["BEGIN", "SELECT 1", "COMMIT"] {
        clients
            .iter_mut()
            .for_each(|client| drop(client.query(sql)));
    }
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
        AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND application_name <> 'mothership'";
    assert_eq!(shards.sql(0, open), "4");
    // While clients ask by turns, so that each connection would be used if they took turns, too.
    let left_alone = poll_until(Duration::from_secs(30), || {
        clients.iter_mut().for_each(|client| {
            client.rows("SELECT 1");
        });
        shards.sql(0, open) == "1"
    });
    assert!(left_alone, "{} are open", shards.sql(0, open));
}

#[test]
fn a_reload_that_allows_more_connections_lets_more_work() {
    let shards = Shards::new(1);
    let direct = shards.endpoint(0);
    let config = |most: u32| {
        format!(
            "[listen]\nport = @port@\nworkers = 1\n[control]\nuser = \"{0}\"\npassword = \"{1}\"\n\
             [pool]\nmax = {most}\nqueue_timeout = \"10s\"\n[[shard]]\nname = \"one\"\n\
             [[shard.server]]\naddress = \"{2}:{3}\"\n",
            direct.user, direct.password, direct.host, direct.port
        )
    };
    let router = Router::start(&config(1));
    let endpoint = direct.at_port(router.port());
    let mut clients = [(); 4].map(|()| Wire::login(&endpoint));
    assert_eq!(clients[0].rows("SELECT 1"), [["1"]]);
    router.write_config(&config(5));
    router.sighup();
    let obeyed = || router.log().contains("configuration changed");
    assert!(
        poll_until(Duration::from_secs(20), obeyed),
        "{}",
        router.log()
    );
    let opened = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()";
    let count = || shards.sql(0, opened).trim().parse::<u32>().unwrap();
    let before = count();
    for client in &mut clients {
        client.query("BEGIN");
        assert_eq!(client.rows("SELECT 1"), [["1"]]);
    }
    // Those of the test itself are among them.
    assert!(count() - before < 20, "{} were opened", count() - before);
}

#[test]
fn a_database_that_its_clients_have_left_can_be_dropped_and_renamed() {
    let (_shards, router, endpoint) = served(4);
    let name = format!("left_{}", router.port());
    let within = Endpoint {
        database: name.clone(),
        ..endpoint.clone()
    };
    let mut wire = Wire::login(&endpoint);
    let mut ok = |sql: &str| {
        let frames = wire.query(sql);
        let error = frames.iter().find(|frame| frame.kind == b'E');
        error.map(|error| error.sqlstate())
    };
    // It is a copy of a database in which a client was.
    let template = Endpoint {
        database: "template1".to_owned(),
        ..endpoint.clone()
    };
    assert_eq!(Wire::login(&template).rows("SELECT 1"), [["1"]]);
    assert_eq!(ok(&format!("CREATE DATABASE {name}")), None);
    let mut guest = Wire::login(&within);
    assert_eq!(guest.rows("SELECT 1"), [["1"]]);
    assert_eq!(guest.rows("BEGIN; SELECT 2")[0], ["2"]);
    // PostgreSQL waits five seconds for it to leave.
    assert_eq!(
        ok(&format!("DROP DATABASE {name}")).as_deref(),
        Some("55006")
    );
    guest.query("COMMIT");
    drop(guest);
    // Its connection lies idle in the pool.
    assert_eq!(
        ok(&format!("CREATE DATABASE {name}_copy TEMPLATE {name}")),
        None
    );
    assert_eq!(
        ok(&format!("ALTER DATABASE {name} RENAME TO {name}_new")),
        None
    );
    assert_eq!(ok(&format!("DROP DATABASE {name}_new")), None);
    assert_eq!(ok(&format!("DROP DATABASE {name}_copy WITH (FORCE)")), None);
}
