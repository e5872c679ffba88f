//! A primary that was replaced gets nothing any more, whatever way led to it.

use super::stage::{SOON, Stage, turned_away};
use mothership_tests::cluster::Cluster;
use mothership_tests::message;
use mothership_tests::proxy::Side;
use mothership_tests::router::may_have_own_hosts;
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Fleet, Frame, Proxy, Router, Wire, poll_until, proof};
use std::net::Ipv4Addr;

/// Not even for a verifier: that of an old primary may let in whom the new one keeps out.
#[test]
fn a_server_that_was_replaced_is_asked_nothing() {
    const REPLICA: usize = 0;
    const PRIMARY: usize = 1;
    let mut stage = Stage::with(1, 1, "window = \"2s\"");
    let mut wire = Wire::login(&stage.endpoint(USER, PASSWORD));
    let shard = &stage.fleet.shards[0];
    let create = "CREATE TABLE t (a int); CREATE ROLE app LOGIN PASSWORD 'former'";
    shard.primary.sql("postgres", create).unwrap();
    shard.wait_replayed();
    assert_eq!(turned_away(&stage.endpoint("app", "former")), None);

    let shard = &mut stage.fleet.shards[0];
    shard.primary.kill9();
    shard.replicas[0].promote().unwrap();
    stage.wait_for(REPLICA, "role", "primary");
    let alter = "ALTER ROLE app PASSWORD 'later'";
    stage.fleet.shards[0].replicas[0]
        .sql("postgres", alter)
        .unwrap();
    assert_eq!(turned_away(&stage.endpoint("app", "later")), None);

    // The new one dies, and the old one is back.
    let shard = &mut stage.fleet.shards[0];
    shard.replicas[0].kill9();
    shard.primary.start().unwrap();
    stage.wait_for(PRIMARY, "role", "claimant");
    stage.wait_for(REPLICA, "health", "down");
    let former = turned_away(&stage.endpoint("app", "former"));
    assert_eq!(former.as_deref(), Some("57P03"));
    let frames = wire.query("INSERT INTO t VALUES (1)");
    assert_eq!(frames[0].sqlstate(), "57P03", "{frames:?}");

    stage.fleet.shards[0].replicas[0].start().unwrap();
    stage.wait_for(REPLICA, "role", "primary");
    assert_eq!(turned_away(&stage.endpoint("app", "later")), None);
    let frames = wire.query("INSERT INTO t VALUES (1)");
    assert!(frames.iter().all(|f| f.kind != b'E'), "{frames:?}");
    let former = turned_away(&stage.endpoint("app", "former"));
    assert_eq!(former.as_deref(), Some("28P01"));
}

/// Two servers that both take writes: what the old one still would take, the new one would not have.
#[test]
fn a_transaction_on_a_primary_that_was_replaced_is_lost() {
    const REPLICA: usize = 0;
    let mut stage = Stage::new(1, 1);
    let shard = &stage.fleet.shards[0];
    let create = "CREATE TABLE t (a int)";
    shard.primary.sql("postgres", create).unwrap();
    shard.wait_replayed();
    let endpoint = stage.endpoint(USER, PASSWORD);
    let mut open = Wire::login(&endpoint);
    let mut pinned = Wire::login(&endpoint);
    open.rows("BEGIN");
    open.rows("INSERT INTO t VALUES (1)");
    pinned.rows("CREATE TEMP TABLE own (a int)");
    stage.fleet.shards[0].replicas[0].promote().unwrap();
    stage.wait_for(REPLICA, "role", "primary");
    let shard = &stage.fleet.shards[0];
    let gone = poll_until(SOON, || {
        let backends = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' \
                        AND application_name NOT IN ('mothership', 'mothership health') AND pid <> pg_backend_pid()";
        shard.primary.sql("postgres", backends).unwrap() == "0"
    });
    assert!(gone, "a session still works on the old primary");
    let frames = open.query("INSERT INTO t VALUES (2)");
    assert_eq!(frames[0].sqlstate(), "08006", "{frames:?}");
    open.query("ROLLBACK");
    let frames = open.query("INSERT INTO t VALUES (3)");
    assert!(frames.iter().all(|f| f.kind != b'E'), "{frames:?}");
    // What it had there no other server has.
    let farewell = pinned.frame();
    assert_eq!(farewell.sqlstate(), "08006", "{farewell}");
    assert!(pinned.is_closed_within(SOON));
    let count = "SELECT count(*) FROM t";
    assert_eq!(shard.primary.sql("postgres", count).unwrap(), "0");
    assert_eq!(shard.replicas[0].sql("postgres", count).unwrap(), "1");
}

/// The worst case: the old server is still there, and would take writes.
#[test]
#[ignore = "long"]
fn a_name_that_means_another_server_leads_there_and_never_back_to_the_old_one() {
    if !may_have_own_hosts() {
        eprintln!("SKIP names of servers: needs root and mount namespaces");
        return;
    }
    let mut fleet = Fleet::new(1, 1);
    let shard = &mut fleet.shards[0];
    let old = Proxy::to(shard.primary.port());
    let new = Proxy::at(
        Ipv4Addr::new(127, 0, 0, 2),
        old.port(),
        shard.replicas[0].port(),
    );
    let config = format!(
        "[listen]\nport = @port@\n[failover]\nwindow = \"2s\"\n[pool]\nresolve_interval = \"1s\"\n\
         [control]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
         [[user]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
         [[shard]]\nname = \"s0\"\n[[shard.server]]\naddress = \"db.test:{}\"\n",
        old.port()
    );
    let hosts = |address: &str| format!("127.0.0.1 localhost\n{address} db.test\n");
    let router = Router::start_with_hosts(&config, &hosts("127.0.0.1"));
    let endpoint = router.endpoint(USER, PASSWORD, "postgres");
    let state = |frames: &[Frame]| {
        let error = frames.iter().find(|frame| frame.kind == b'E');
        error.map(|error| error.sqlstate())
    };
    let (mut open, mut wire) = (Wire::login(&endpoint), Wire::login(&endpoint));
    let served_by = |wire: &mut Wire| {
        let frames = wire.query("SELECT current_setting('port')");
        let row = frames.iter().find(|frame| frame.kind == b'D');
        row.map(|row| row.row_text()[0].clone())
    };
    assert_eq!(state(&wire.query("CREATE TABLE t (a int)")), None);
    assert_eq!(served_by(&mut wire), Some(shard.primary.port().to_string()));
    open.query("BEGIN");
    assert_eq!(state(&open.query("INSERT INTO t VALUES (1)")), None);
    shard.wait_replayed();

    shard.replicas[0].promote().unwrap();
    let promoted = shard.replicas[0].port().to_string();
    router.write_hosts(&hosts("127.0.0.2"));
    let moved = poll_until(SOON, || served_by(&mut wire).as_ref() == Some(&promoted));
    assert!(moved, "{}", router.log());
    // What was open at the old one is lost there, and not done in part.
    assert_eq!(state(&open.query("COMMIT")).as_deref(), Some("08006"));
    assert_eq!(state(&wire.query("INSERT INTO t VALUES (2)")), None);
    let rows = |server: &Cluster| server.sql("postgres", "SELECT count(*) FROM t").unwrap();
    assert_eq!(
        (rows(&shard.primary), rows(&shard.replicas[0])),
        ("0".into(), "1".into())
    );

    // The name is set back by mistake: that server is on a timeline that was replaced.
    router.write_hosts(&hosts("127.0.0.1"));
    let refused = || state(&wire.query("INSERT INTO t VALUES (3)")).as_deref() == Some("57P03");
    assert!(poll_until(SOON, refused), "{}", router.log());
    assert_eq!(rows(&shard.primary), "0");
    drop(new);
}

/// The old primary would take the write, and everybody would lose it.
#[test]
fn a_connection_that_opens_when_its_server_was_replaced_gets_no_write() {
    let mut fleet = Fleet::new(1, 1);
    let shard = &mut fleet.shards[0];
    let create = "CREATE TABLE t (a int)";
    shard.primary.sql("postgres", create).unwrap();
    shard.wait_replayed();
    let (old, new) = (&shard.primary, &mut shard.replicas[0]);
    let way = Proxy::to(old.port());
    let router = Router::start(&format!(
        "[listen]\nport = @port@\n[pool]\nconnect_timeout = \"1min\"\n\
         [balance]\nprobe_interval = \"200ms\"\nprobe_timeout = \"1s\"\n\
         [control]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
         [console]\nadmin_users = [\"{USER}\"]\n\
         [[user]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
         [[shard]]\nname = \"s0\"\n[[shard.server]]\naddress = \"127.0.0.1:{}\"\n\
         [[shard.server]]\naddress = \"127.0.0.1:{}\"\n",
        way.port(),
        new.port()
    ));
    let mut wire = Wire::login(&router.endpoint(USER, PASSWORD, "postgres"));
    wire.set_limit(SOON);
    let servers = || proof::console(&router, "SHOW ENDPOINTS");
    let up = || servers().iter().all(|server| server["health"] == "up");
    assert!(poll_until(SOON, up), "{:#?}", servers());
    // What is asked once of a database is known before the old primary falls silent.
    wire.query("SELECT 1");
    // Logging in may have left a connection.
    Wire::login(&router.endpoint(USER, PASSWORD, "mothership")).query("RECONNECT");

    way.hold(Side::Server);
    wire.send(&message::query("INSERT INTO t VALUES (1)"));
    let opens = || {
        let pools = proof::console(&router, "SHOW POOLS");
        pools.iter().any(|pool| pool["sv_login"] == "1")
    };
    assert!(poll_until(SOON, opens), "no connection is being opened");
    new.promote().unwrap();
    let is_seen = || servers()[1]["role"] == "primary";
    assert!(poll_until(SOON, is_seen), "{:#?}", servers());
    way.heal();
    let frames = wire.until_ready();
    let error = frames.iter().find(|frame| frame.kind == b'E');
    let count = |server: &Cluster| server.sql("postgres", "SELECT count(*) FROM t").unwrap();
    assert_eq!(count(old), "0", "{}", router.log());
    assert_eq!((error, &*count(new)), (None, "1"), "{}", router.log());
}
