//! Servers that an administrator takes out of use, and what clients see of it.

use super::stage::{SOON, rows, state};
use mothership_tests::cluster::Cluster;
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Fleet, Router, Wire, message, poll_until};
use std::collections::BTreeMap;
use std::time::Duration;

const READ: &str = "SELECT n FROM t WHERE id = 1";
const WRITE: &str = "UPDATE t SET n = n + 1 WHERE id = 1";

/// One shard with two replicas; requests wait for a primary as long as `window`.
struct Stage {
    router: Router,
    fleet: Fleet,
    config: String,
}

impl Stage {
    fn new(window: &str) -> Stage {
        let fleet = Fleet::new(1, 2);
        let shard = &fleet.shards[0];
        let fill =
            "CREATE TABLE t (id int8 PRIMARY KEY, n int8); INSERT INTO t VALUES (1, 0), (2, 0)";
        shard.primary.sql("postgres", fill).unwrap();
        shard.wait_replayed();
        let servers = [&shard.primary, &shard.replicas[0], &shard.replicas[1]];
        let servers = servers.map(|server| {
            let address = address(server);
            format!("[[shard.server]]\naddress = \"{address}\"\ntls = \"disable\"\n")
        });
        let config = format!(
            "[listen]\nport = @port@\nworkers = 2\n[pool]\nmin = 0\n[failover]\nwindow = \"{window}\"\n\
             [balance]\nprobe_interval = \"200ms\"\nprobe_timeout = \"5s\"\n\
             [metrics]\nport = @metrics_port@\n\
             [control]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
             [console]\nadmin_users = [\"{USER}\"]\n\
             [[user]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
             [[table]]\nname = \"t\"\nkey = \"id\"\n\
             [[shard]]\nname = \"s1\"\n{}",
            servers.concat()
        );
        let stage = Stage {
            router: Router::start(&config),
            fleet,
            config,
        };
        let up = || stage.shown().iter().all(|server| server["health"] == "up");
        assert!(poll_until(SOON, up), "{:#?}", stage.shown());
        let mut wire = stage.client();
        let spread = || {
            wire.rows(READ);
            (1..3).all(|replica| stage.number(replica, "served") > 0)
        };
        assert!(poll_until(SOON, spread), "{:#?}", stage.shown());
        stage
    }

    fn client(&self) -> Wire {
        Wire::login(&self.router.endpoint(USER, PASSWORD, "postgres"))
    }

    fn console(&self) -> Wire {
        Wire::login(&self.router.endpoint(USER, PASSWORD, "mothership"))
    }

    /// Rows of SHOW ENDPOINTS: the primary and its replicas.
    fn shown(&self) -> Vec<BTreeMap<String, String>> {
        rows(&mut self.console(), "SHOW ENDPOINTS")
    }

    fn number(&self, server: usize, column: &str) -> u64 {
        self.shown()[server][column].parse().unwrap()
    }

    fn order(&self, command: &str, server: usize, more: &str) {
        let shard = &self.fleet.shards[0];
        let servers = [&shard.primary, &shard.replicas[0], &shard.replicas[1]];
        let order = format!("{command} '{}' {more}", address(servers[server]));
        assert_eq!(state(&mut self.console(), &order), "ok", "{order}");
    }

    fn waiting(&self) -> usize {
        let clients = rows(&mut self.console(), "SHOW CLIENTS");
        let waiting = clients.iter().filter(|c| c["state"] == "waiting");
        waiting.filter(|c| c["database"] == "postgres").count()
    }
}

fn address(server: &Cluster) -> String {
    format!("127.0.0.1:{}", server.port())
}

#[test]
fn a_disabled_replica_gets_no_read_until_it_is_enabled_and_a_reload_changes_nothing() {
    let stage = Stage::new("60s");
    let mut wire = stage.client();
    stage.order("DISABLE SERVER", 1, "");
    let gets_none = |wire: &mut Wire| {
        let before = stage.number(1, "served");
        (0..40).for_each(|_| assert_eq!(wire.rows(READ), [["0"]]));
        assert_eq!(stage.number(1, "served"), before);
    };
    gets_none(&mut wire);
    let shown = stage.shown();
    assert_eq!(
        (&*shown[1]["in_use"], &*shown[1]["set_by"]),
        ("disabled", USER)
    );
    assert!(shown[1]["set_at"].starts_with("20"), "{shown:#?}");
    assert_eq!((&*shown[2]["in_use"], &*shown[2]["set_by"]), ("yes", "∅"));
    let mut admin = stage.console();
    // The second changes how servers are asked, so that all is watched anew.
    for text in [
        &stage.config,
        &stage.config.replace("\"200ms\"", "\"210ms\""),
    ] {
        stage.router.write_config(text);
        assert_eq!(state(&mut admin, "RELOAD"), "ok");
        let up = || stage.shown().iter().all(|server| server["health"] == "up");
        assert!(poll_until(SOON, up), "{:#?}", stage.shown());
        assert_eq!(stage.shown()[1]["in_use"], "disabled");
        gets_none(&mut wire);
    }
    stage.order("ENABLE SERVER", 1, "");
    let before = stage.number(1, "served");
    let again = poll_until(SOON, || {
        (0..20).for_each(|_| drop(wire.rows(READ)));
        stage.number(1, "served") > before
    });
    assert!(again, "{:#?}", stage.shown());
    assert_eq!(state(&mut admin, "DISABLE SERVER 'nobody:1'"), "42704");
}

#[test]
fn a_weight_is_set_shown_and_reset() {
    let stage = Stage::new("60s");
    let mut wire = stage.client();
    stage.order("WEIGHT SERVER", 1, "0");
    stage.order("WEIGHT SERVER", 2, "7");
    stage.order("DISABLE SERVER", 2, "");
    let shown = stage.shown();
    let of = |at: usize| (&*shown[at]["weight"], &*shown[at]["configured_weight"]);
    assert_eq!(
        (of(0), of(1), of(2)),
        (("100", "100"), ("0", "100"), ("7", "100"))
    );
    // One that weighs nothing serves when no other can.
    let before = stage.number(1, "served");
    (0..20).for_each(|_| drop(wire.rows(READ)));
    assert_eq!(stage.number(1, "served"), before, "{:#?}", stage.shown());
    assert_eq!(state(&mut stage.console(), "RESET SERVERS"), "ok");
    let shown = stage.shown();
    for server in &shown {
        assert_eq!((&*server["weight"], &*server["in_use"]), ("100", "yes"));
        assert_eq!(server["set_by"], "∅");
    }
}

#[test]
fn what_needs_a_disabled_primary_waits_until_it_is_enabled() {
    let stage = Stage::new("120s");
    let (mut open, mut waiting, mut reader) = (stage.client(), stage.client(), stage.client());
    open.rows("BEGIN");
    open.query(WRITE);
    stage.order("DISABLE SERVER", 0, "");
    waiting.send(&message::query("UPDATE t SET n = 9 WHERE id = 2"));
    assert!(poll_until(SOON, || stage.waiting() == 1));
    // What was open goes on, and replicas serve what they may.
    assert!(open.query("COMMIT").iter().all(|f| f.kind != b'E'));
    assert!(
        reader
            .query("SELECT n FROM t WHERE id = 2")
            .iter()
            .all(|f| f.kind != b'E')
    );
    assert_eq!(stage.waiting(), 1);
    stage.order("ENABLE SERVER", 0, "");
    assert!(waiting.until_ready().iter().all(|f| f.kind != b'E'));
    assert_eq!(waiting.rows("SELECT n FROM t WHERE id = 2"), [["9"]]);
}

#[test]
fn what_waits_too_long_for_a_disabled_primary_is_told_why() {
    let stage = Stage::new("2s");
    let mut wire = stage.client();
    stage.order("DISABLE SERVER", 0, "");
    let frames = wire.query(WRITE);
    let error = frames.iter().find(|f| f.kind == b'E').expect("an error");
    assert_eq!(error.sqlstate(), "57P03");
    let detail = error.field('D').unwrap_or_default();
    assert_eq!(detail, "the primary was disabled by hand");
    assert_eq!(state(&mut stage.console(), "RESET SERVERS"), "ok");
    assert!(wire.query(WRITE).iter().all(|f| f.kind != b'E'));
}

#[test]
fn a_drain_waits_for_what_is_under_way_and_closes_the_connections() {
    let stage = Stage::new("120s");
    let (mut open, mut waiting) = (stage.client(), stage.client());
    let mut admin = stage.console();
    open.rows("BEGIN");
    open.query(WRITE);
    let primary = address(&stage.fleet.shards[0].primary);
    let drain = message::query(&format!("DRAIN SERVER '{primary}'"));
    admin.send(&drain);
    let is = |used: &str| poll_until(SOON, || stage.shown()[0]["in_use"] == used);
    assert!(is("draining"), "{:#?}", stage.shown());
    assert!(admin.try_frame(Duration::from_millis(300)).is_err());
    // Whoever no longer waits for it has not drained it.
    admin.cancel();
    assert_eq!(admin.until_ready()[0].sqlstate(), "57014");
    assert!(is("yes"), "{:#?}", stage.shown());
    admin.send(&drain);
    assert!(is("draining"));
    waiting.send(&message::query("UPDATE t SET n = 9 WHERE id = 2"));
    assert!(poll_until(SOON, || stage.waiting() == 1));
    assert!(open.query("COMMIT").iter().all(|f| f.kind != b'E'));
    let told = admin.until_ready()[0].to_string();
    assert_eq!(told, "CommandComplete DRAIN SERVER");
    assert!(is("drained"));
    let shown = &stage.shown()[0];
    assert_eq!(
        (&*shown["active"], &*shown["idle"]),
        ("0", "0"),
        "{shown:#?}"
    );
    stage.order("ENABLE SERVER", 0, "");
    assert!(waiting.until_ready().iter().all(|f| f.kind != b'E'));
}
