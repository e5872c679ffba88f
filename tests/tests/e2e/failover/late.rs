//! What comes too late: a connection that is open only when another server is the primary.

use super::SOON;
use mothership_tests::cluster::Cluster;
use mothership_tests::message;
use mothership_tests::proxy::Side;
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Fleet, Proxy, Router, Wire, poll_until, proof};

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
