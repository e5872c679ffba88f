//! What administrators tell the router to do.

use super::stage::{SOON, World, rows, state};
use mothership_tests::message;
use mothership_tests::{Wire, poll_until};
use std::time::Duration;

#[test]
fn pause_waits_for_transactions_and_resume_lets_clients_go_on() {
    let world = World::new();
    let database = world.endpoint().database.clone();
    let (mut admin, mut watch) = (world.console("root"), world.console("watch"));
    let (mut first, mut second) = (world.client(), world.client());
    first.rows("BEGIN");
    first.rows("SELECT 1");
    admin.send(&message::query(&format!("PAUSE {database}")));
    let is_paused = |watch: &mut Wire| {
        let all = rows(watch, "SHOW DATABASES");
        all.iter()
            .any(|row| row["name"] == database && row["paused"] == "1")
    };
    assert!(poll_until(SOON, || is_paused(&mut watch)));
    second.send(&message::query("SELECT 2"));
    assert!(
        admin.try_frame(Duration::from_millis(200)).is_err(),
        "a transaction is open"
    );
    first.rows("COMMIT");
    assert_eq!(admin.until_ready()[0].to_string(), "CommandComplete PAUSE");
    assert!(
        rows(&mut watch, "SHOW SERVERS").is_empty(),
        "all connections are closed"
    );
    assert!(
        second.try_frame(Duration::from_millis(100)).is_err(),
        "clients wait"
    );
    assert_eq!(state(&mut admin, &format!("RESUME {database}")), "ok");
    assert!(second.until_ready().iter().any(|f| f.kind == b'D'));
    assert_eq!(state(&mut admin, &format!("RESUME {database}")), "55000");
}

#[test]
fn a_pause_is_longer_than_clients_wait_for_a_pool() {
    let world = World::new();
    let mut admin = world.console("root");
    let short = "max = 4\nqueue_timeout = \"200ms\"";
    world
        .router
        .write_config(&world.config.replace("max = 4", short));
    assert_eq!(state(&mut admin, "RELOAD"), "ok");
    let mut client = world.client();
    assert_eq!(state(&mut admin, "PAUSE"), "ok");
    client.send(&message::query("SELECT 1"));
    assert!(client.try_frame(Duration::from_millis(700)).is_err());
    assert_eq!(state(&mut admin, "RESUME"), "ok");
    assert!(client.until_ready().iter().any(|f| f.kind == b'D'));
}

#[test]
fn a_cancelled_pause_is_undone() {
    let world = World::new();
    let mut admin = world.console("root");
    let (mut first, mut second) = (world.client(), world.client());
    first.rows("BEGIN");
    first.rows("SELECT 1");
    admin.send(&message::query("PAUSE"));
    let mut watch = world.console("watch");
    let paused = |wire: &mut Wire| wire.rows("SHOW STATE")[1][1] == "yes";
    assert!(poll_until(SOON, || paused(&mut watch)));
    admin.cancel();
    assert_eq!(admin.until_ready()[0].sqlstate(), "57014");
    assert!(!paused(&mut watch));
    second.rows("SELECT 2");
    // The same for an administrator who has left.
    admin.send(&message::query("PAUSE"));
    assert!(poll_until(SOON, || paused(&mut watch)));
    drop(admin);
    assert!(poll_until(SOON, || !paused(&mut watch)));
    second.rows("SELECT 3");
}

#[test]
fn suspend_takes_no_requests_until_resume() {
    let world = World::new();
    let mut admin = world.console("root");
    let mut client = world.client();
    client.rows("SELECT 1");
    assert_eq!(state(&mut admin, "SUSPEND"), "ok");
    client.send(&message::query("SELECT 2"));
    assert!(client.try_frame(Duration::from_millis(200)).is_err());
    assert_eq!(admin.rows("SHOW STATE")[2], ["suspended", "yes"]);
    assert_eq!(state(&mut admin, "RESUME"), "ok");
    assert!(client.until_ready().iter().any(|f| f.kind == b'D'));
}

#[test]
fn kill_disconnects_and_resume_lets_in_again() {
    let world = World::new();
    let database = world.endpoint().database.clone();
    let mut admin = world.console("root");
    let (mut idle, mut open) = (world.client(), world.client());
    idle.rows("SELECT 1");
    open.rows("BEGIN");
    open.rows("SELECT 1");
    let id = rows(&mut admin, "SHOW CLIENTS");
    let id = &id.iter().find(|row| row["database"] == database).unwrap()["id"];
    assert_eq!(state(&mut admin, &format!("KILL_CLIENT {id}")), "ok");
    let gone = idle.until_ready();
    assert_eq!(gone[0].sqlstate(), "57P01");
    assert_eq!(state(&mut admin, &format!("KILL {database}")), "ok");
    assert_eq!(open.until_ready()[0].sqlstate(), "57P01");
    let empty = |admin: &mut Wire| rows(admin, "SHOW SERVERS").is_empty();
    assert!(poll_until(SOON, || empty(&mut admin)));
    assert_eq!(state(&mut admin, &format!("RESUME {database}")), "ok");
    world.client().rows("SELECT 1");
}

#[test]
fn a_disabled_database_takes_nobody_new() {
    let world = World::new();
    let endpoint = world.endpoint();
    let mut admin = world.console("root");
    let mut old = world.client();
    assert_eq!(
        state(&mut admin, &format!("DISABLE \"{}\"", endpoint.database)),
        "ok"
    );
    let mut wire = Wire::connect(endpoint.port);
    let refused = wire.try_login(&endpoint, message::V3_0, &[]).unwrap_err();
    assert_eq!(refused.sqlstate(), "55000");
    old.rows("SELECT 1");
    assert_eq!(
        state(&mut admin, &format!("ENABLE {}", endpoint.database)),
        "ok"
    );
    world.client().rows("SELECT 1");
}

#[test]
fn reconnect_replaces_connections_as_they_come_back() {
    let world = World::new();
    let mut admin = world.console("root");
    let mut client = world.client();
    client.rows("BEGIN");
    let pid = |client: &mut Wire, sql| client.rows(sql)[0][0].clone();
    let before = pid(&mut client, "SELECT inet_server_port() || ''");
    let server = rows(&mut admin, "SHOW SERVERS")[0]["remote_pid"].clone();
    assert_eq!(state(&mut admin, "RECONNECT"), "ok");
    assert_eq!(rows(&mut admin, "SHOW SERVERS")[0]["close_needed"], "1");
    admin.send(&message::query("WAIT_CLOSE"));
    assert!(admin.try_frame(Duration::from_millis(100)).is_err());
    client.rows("COMMIT");
    assert_eq!(
        admin.until_ready()[0].to_string(),
        "CommandComplete WAIT_CLOSE"
    );
    assert_eq!(pid(&mut client, "SELECT inet_server_port() || ''"), before);
    assert_ne!(rows(&mut admin, "SHOW SERVERS")[0]["remote_pid"], server);
}

#[test]
fn a_wrong_configuration_is_told_and_not_used() {
    let world = World::new();
    let mut admin = world.console("root");
    let wrong = world.config.replace("max = 4", "max = 4\nmin_max = 3");
    world.router.write_config(&wrong);
    let frames = admin.query("RELOAD");
    assert_eq!(frames[0].sqlstate(), "F0000");
    let detail = frames[0].field('D').unwrap();
    assert!(detail.contains("min_max"), "{detail}");
    world.client().rows("SELECT 1");
    world
        .router
        .write_config(&world.config.replace("max = 4", "max = 7"));
    assert_eq!(state(&mut admin, "RELOAD"), "ok");
    let config = admin.rows("SHOW CONFIG");
    let value = |key: &str| config.iter().find(|row| row[0] == key).unwrap()[1].clone();
    assert_eq!(
        (value("pool.max"), value("default_pool_size")),
        ("7".into(), "7".into())
    );
    for number in ["max_client_conn", "max_user_connections"] {
        value(number).parse::<f64>().unwrap();
    }
}

#[test]
fn shutdown_ends_at_once() {
    let mut world = World::new();
    let mut admin = world.console("root");
    let mut client = world.client();
    client.rows("BEGIN");
    admin.send(&message::query("SHUTDOWN"));
    assert!(world.router.wait(SOON).success());
    assert_eq!(client.until_ready()[0].sqlstate(), "57P01");
}
