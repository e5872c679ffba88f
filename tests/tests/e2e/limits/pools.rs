//! Server connections: how many, of whom, and what happens after a failed attempt.

use super::stage::{LIMIT, Stage, certificate, state};
use mothership_tests::message::{self, V3_0};
use mothership_tests::{Endpoint, Folder, Router, Shards, Wire, poll_until};

/// The SQLSTATE with which a login is refused; empty if it is not.
fn refused(endpoint: &Endpoint) -> String {
    let mut wire = Wire::connect(endpoint.port);
    let refused = wire.try_login(endpoint, V3_0, &[]);
    refused.map_or_else(|error| error.sqlstate(), |_| String::new())
}

#[test]
fn one_server_gives_its_connections_to_all_pools_and_no_more_than_its_limit() {
    let stage = Stage::with(
        "[listen]\nport = @port@\nworkers = 2\n[pool]\nmin = 5\nmax = 10\nmax_per_server = 2\nopening = 1",
    );
    let other = Shards::new(1);
    let endpoints = [
        stage.endpoint(),
        other.endpoint(0).at_port(stage.router.port()),
    ];
    // A server still shows a connection for a moment after its end has gone; the router does not.
    let mut console = stage.console();
    let mut count = || console.rows("SHOW SERVERS").len();
    let clients: Vec<_> = (0..12)
        .map(|n| {
            let endpoint = endpoints[n % 2].clone();
            std::thread::spawn(move || {
                let mut wire = Wire::login(&endpoint);
                for _ in 0..10 {
                    assert_eq!(wire.rows("SELECT 1"), [["1"]]);
                }
            })
        })
        .collect();
    let mut most = 0;
    let ended = poll_until(LIMIT * 3, || {
        most = most.max(count());
        clients.iter().all(|client| client.is_finished())
    });
    clients
        .into_iter()
        .for_each(|client| client.join().unwrap());
    assert!(ended, "somebody waits");
    println!("{most} connections at most");
    assert!((1..=2).contains(&most), "{most} connections");
}

#[test]
fn the_limit_of_a_database_holds_by_the_name_that_clients_call_it() {
    let shards = Shards::new(1);
    let server = shards.endpoint(0);
    let router = Router::start(&format!(
        "[listen]\nport = @port@\nworkers = 2\n[control]\nuser = \"{}\"\npassword = \"{}\"\n\
         [[shard]]\nname = \"s1\"\n[[shard.server]]\naddress = \"127.0.0.1:{}\"\n\
         [[database]]\nname = \"app\"\npool_max = 2\non = {{ s1 = \"{}\" }}\n",
        server.user, server.password, server.port, server.database
    ));
    let endpoint = Endpoint {
        database: "app".into(),
        ..server.at_port(router.port())
    };
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let endpoint = endpoint.clone();
            std::thread::spawn(move || {
                let mut wire = Wire::login(&endpoint);
                for _ in 0..5 {
                    assert_eq!(wire.rows("SELECT 1 FROM pg_sleep(0.1)"), [["1"]]);
                }
            })
        })
        .collect();
    // Active ones: one that was closed may take a while to end.
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
               AND query LIKE 'SELECT 1 FROM pg_sleep%' AND state = 'active'";
    let mut most = 0;
    let ended = poll_until(LIMIT * 3, || {
        most = most.max(shards.sql(0, sql).trim().parse::<u32>().unwrap());
        clients.iter().all(|client| client.is_finished())
    });
    clients
        .into_iter()
        .for_each(|client| client.join().unwrap());
    assert!(ended, "somebody waits");
    println!("{most} connections at most");
    assert!((1..=2).contains(&most), "{most} connections");
}

#[test]
fn after_a_failed_attempt_nothing_is_tried_for_a_while() {
    let sections = |pause: &str| {
        format!(
            "[listen]\nport = @port@\nworkers = 1\n[pool]\nretry_pause = \"{pause}\"\nretry_pause_max = \"{pause}\""
        )
    };
    for (pause, expected) in [("1h", "3D000"), ("1ms", "")] {
        let stage = Stage::with(&sections(pause));
        let missing = Endpoint {
            database: format!("{}_later", stage.endpoint().database),
            ..stage.endpoint()
        };
        assert_eq!(refused(&missing), "3D000");
        stage.shards.sql(
            0,
            &format!("CREATE DATABASE {} TEMPLATE template0", missing.database),
        );
        if expected.is_empty() {
            assert!(poll_until(LIMIT, || refused(&missing).is_empty()));
        } else {
            assert_eq!(refused(&missing), expected, "it was tried again");
            stage.router.sighup();
            assert!(poll_until(LIMIT, || refused(&missing).is_empty()));
        }
        drop(stage.router);
        stage.shards.sql(
            0,
            &format!("DROP DATABASE {} WITH (FORCE)", missing.database),
        );
    }
}

#[test]
fn a_user_and_a_database_have_no_more_clients_than_their_own_limits() {
    let shards = Shards::new(1);
    let name = shards.endpoint(0).database;
    for (kind, own) in [
        (
            "database",
            format!("[[database]]\nname = \"{name}\"\nmax_clients = 2"),
        ),
        (
            "user",
            format!(
                "[[user]]\nname = \"{}\"\npassword = \"{}\"\nmax_clients = 2",
                shards.endpoint(0).user,
                shards.endpoint(0).password
            ),
        ),
    ] {
        let server = shards.endpoint(0);
        let router = Router::start(&format!(
            "{own}\n[listen]\nport = @port@\n[control]\nuser = \"{}\"\npassword = \"{}\"\n[[shard]]\n\
             name = \"s1\"\n[[shard.server]]\naddress = \"localhost:{}\"\ntls = \"disable\"\n",
            server.user, server.password, server.port
        ));
        let endpoint = server.at_port(router.port());
        let mut both = [Wire::login(&endpoint), Wire::login(&endpoint)];
        assert_eq!(refused(&endpoint), "53300", "{kind}");
        both[0].send(&message::terminate());
        assert!(
            poll_until(LIMIT, || refused(&endpoint).is_empty()),
            "{kind}"
        );
        assert_eq!(both[1].rows("SELECT 1"), [["1"]]);
    }
}

#[test]
fn a_message_of_a_server_over_the_limit_fails_its_statement_only() {
    let stage = Stage::with("[listen]\nport = @port@\n[limits]\nserver_message = \"64KiB\"");
    let bystander = stage.bystander();
    let mut wire = stage.wire();
    let row = |length: u32| message::query(&format!("SELECT repeat('x', {length})"));
    assert_eq!(state(&mut wire, &row(60_000)), "");
    assert_eq!(state(&mut wire, &row(70_000)), "54000");
    assert_eq!(state(&mut wire, &row(60_000)), "");
    bystander.noticed_nothing();
}

#[test]
fn the_pool_that_is_used_least_gives_way_and_one_in_use_does_not() {
    let stage = Stage::with("[listen]\nport = @port@\nworkers = 1\n[limits]\npools = 1");
    let other = Shards::new(1);
    let second = other.endpoint(0).at_port(stage.router.port());
    let mut first = stage.wire();
    first.query("BEGIN");
    first.query("SELECT 1");
    assert_eq!(refused(&second), "53300");
    first.query("COMMIT");
    let mut wire = Wire::login(&second);
    assert_eq!(wire.rows("SELECT 1"), [["1"]]);
    assert_eq!(first.rows("SELECT 1"), [["1"]]);
}

#[test]
fn tls_to_a_server_may_begin_at_once_and_under_another_name() {
    let folder = Folder::new("direct");
    let [certificate, key] = certificate(&folder);
    // PostgreSQL speaks it since 17; the router does towards its clients.
    let server = Stage::with(&format!(
        "[listen]\nport = @port@\n[tls]\nmode = \"require\"\ndirect = true\ncertificate = \"{certificate}\"\nkey = \"{key}\""
    ));
    let endpoint = server.shards.endpoint(0);
    for (name, direct, expected) in [
        ("here", true, ""),
        ("here", false, ""),
        ("elsewhere", true, "08006"),
        ("elsewhere", false, "08006"),
    ] {
        let router = Router::start(&format!(
            "[listen]\nport = @port@\n[auth]\npassthrough = false\n[control]\nuser = \"{0}\"\n\
             password = \"{1}\"\n[[user]]\nname = \"{0}\"\npassword = \"{1}\"\n[[shard]]\nname = \"s1\"\n\
             [[shard.server]]\naddress = \"127.0.0.1:{2}\"\nrole = \"primary\"\ntls = \"verify-full\"\n\
             tls_ca = \"{certificate}\"\ntls_name = \"{name}\"\ntls_direct = {direct}\n",
            endpoint.user,
            endpoint.password,
            server.router.port(),
        ));
        let endpoint = endpoint.clone().at_port(router.port());
        assert_eq!(refused(&endpoint), expected, "{name}, direct: {direct}");
    }
}

#[test]
fn logins_of_one_user_share_the_question_for_its_verifier() {
    // Two connections for questions, each of which takes a second.
    let stage = Stage::with(
        "[listen]\nport = @port@\nworkers = 1\n[auth]\ncache = \"0s\"\nquery = \"SELECT rolname::text, rolpassword \
         FROM pg_catalog.pg_authid CROSS JOIN pg_catalog.pg_sleep(1) WHERE rolname = $1\"\n",
    );
    let endpoint = stage.endpoint();
    let logins: Vec<_> = (0..40)
        .map(|_| {
            let endpoint = endpoint.clone();
            std::thread::spawn(move || refused(&endpoint))
        })
        .collect();
    let refused: Vec<String> = logins
        .into_iter()
        .map(|login| login.join().unwrap())
        .collect();
    assert!(refused.iter().all(String::is_empty), "{refused:?}");
}
