//! Reads spread over a primary and its replicas through the real router, while
//! replicas are delayed, killed, frozen and promoted.

use mothership_tests::cluster::Cluster;
use mothership_tests::fleet::Shard;
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Endpoint, Fleet, Router, Wire, connect, poll_until};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);

/// How long a request waits for a primary.
const WINDOW: Duration = Duration::from_secs(9);
const ROWS: i64 = 32;
/// In one round.
const READS: u64 = 300;

/// A busy machine may keep a probe waiting for a while: only what is dead or frozen fails three of them.
const PROBE_TIMEOUT: &str = "3s";

/// Each shard with its primary and its first `replicas` replicas. These stand first: roles are found.
fn config(fleet: &Fleet, replicas: usize, balance: &str) -> String {
    let server = |server: &Cluster| {
        let port = server.port();
        format!("[[shard.server]]\naddress = \"127.0.0.1:{port}\"\ntls = \"disable\"\n")
    };
    let shards = fleet.shards.iter().enumerate().map(|(at, shard)| {
        let servers = shard.replicas.iter().take(replicas).chain([&shard.primary]);
        let servers: String = servers.map(server).collect();
        format!("[[shard]]\nname = \"s{at}\"\n{servers}")
    });
    let shards: String = shards.collect();
    let window = WINDOW.as_secs();
    format!(
        r#"
[listen]
port = @port@
[balance]
probe_interval = "200ms"
probe_timeout = "{PROBE_TIMEOUT}"
{balance}
[failover]
window = "{window}s"
[console]
admin_users = ["{USER}"]
[control]
user = "{USER}"
password = "{PASSWORD}"
[[user]]
name = "{USER}"
password = "{PASSWORD}"
[[user]]
name = "careful"
password = "{PASSWORD}"
{shards}
[[table]]
name = "t"
key = "id"
"#
    )
}

struct World {
    router: Router,
    fleet: Fleet,
}

/// A row of SHOW ENDPOINTS by its columns.
type Shown = HashMap<String, String>;

impl World {
    /// One shard with replicas and a declared table of [`ROWS`] rows with `n = 0`.
    fn new(replicas: usize) -> World {
        World::with(replicas, "")
    }

    fn with(replicas: usize, balance: &str) -> World {
        let fleet = Fleet::new(1, replicas);
        let shard = &fleet.shards[0];
        let fill = format!(
            "CREATE TABLE t (id int8 PRIMARY KEY, n int8); INSERT INTO t SELECT g, 0 FROM generate_series(1, {ROWS}) g;
             CREATE ROLE careful LOGIN PASSWORD '{}'; GRANT ALL ON t TO careful;
             ALTER ROLE careful SET default_transaction_isolation = 'serializable'",
            PASSWORD.replace('\'', "''")
        );
        shard.primary.sql("postgres", &fill).unwrap();
        shard.wait_replayed();
        let world = World {
            router: Router::start(&config(&fleet, replicas, balance)),
            fleet,
        };
        world.wait_up();
        let mut wire = world.client();
        let spread = poll_until(SOON, || {
            wire.rows("SELECT n FROM t WHERE id = 1");
            world.replicas_served().iter().all(|served| *served > 0)
        });
        assert!(spread, "{:#?}", world.shown());
        world
    }

    fn endpoint(&self) -> Endpoint {
        self.router.endpoint(USER, PASSWORD, "postgres")
    }

    fn client(&self) -> Wire {
        Wire::login(&self.endpoint())
    }

    /// Every server has answered: a client that comes now is served.
    fn wait_up(&self) {
        let up = || self.shown().iter().all(|server| server["health"] == "up");
        assert!(poll_until(SOON, up), "{:#?}", self.shown());
    }

    fn shown(&self) -> Vec<Shown> {
        let console = self.router.endpoint(USER, PASSWORD, "mothership");
        let mut console = Wire::login(&console);
        let frames = console.query("SHOW ENDPOINTS");
        let names = frames[0].columns();
        let rows = frames.iter().filter(|frame| frame.kind == b'D');
        rows.map(|row| names.iter().cloned().zip(row.row_text()).collect())
            .collect()
    }

    /// How many requests each server was given; the primary comes last.
    fn served(&self) -> Vec<u64> {
        let shown = self.shown();
        shown.iter().map(|s| s["served"].parse().unwrap()).collect()
    }

    fn replicas_served(&self) -> Vec<u64> {
        let mut served = self.served();
        served.pop();
        served
    }

    fn replica(&mut self) -> &mut Cluster {
        &mut self.fleet.shards[0].replicas[0]
    }

    fn delay(&mut self, delay: &'static str) {
        let replica = self.replica();
        replica
            .configure(&[("recovery_min_apply_delay", delay)])
            .unwrap();
        let show = "SHOW recovery_min_apply_delay";
        let set = || replica.sql("postgres", show).unwrap() == delay;
        assert!(poll_until(SOON, set));
    }

    /// How many of [`READS`] reads each server got.
    fn round(&self, mut read: impl FnMut(i64)) -> Vec<u64> {
        let before = self.served();
        (0..READS as i64).for_each(|n| read(n % ROWS + 1));
        let after = self.served();
        after.iter().zip(&before).map(|(a, b)| a - b).collect()
    }

    fn health(&self, server: usize) -> String {
        self.shown()[server]["health"].clone()
    }

    /// Whether the replica gets some of `reads` reads, each of which must succeed. Nobody writes what they read: a
    /// replica that serves them may lack other rows.
    fn replica_serves(&self, wire: &mut Wire, reads: u32) -> bool {
        self.replica_serves_row(wire, reads, 2, "0")
    }

    /// The same for the row `id`, whose `n` is known.
    fn replica_serves_row(&self, wire: &mut Wire, reads: u32, id: i64, n: &str) -> bool {
        let before = self.replicas_served()[0];
        for _ in 0..reads {
            let sql = format!("SELECT n FROM t WHERE id = {id}");
            assert_eq!(wire.rows(&sql), [[n]]);
        }
        self.replicas_served()[0] > before
    }
}

#[test]
fn reads_are_spread_in_both_protocols_and_writes_go_to_the_primary() {
    let world = World::new(2);
    let shown = world.shown();
    let roles: Vec<&str> = shown.iter().map(|s| &*s["role"]).collect();
    assert_eq!(roles, ["replica", "replica", "primary"]);
    assert!(shown.iter().all(|s| s["health"] == "up"), "{shown:#?}");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut wire = world.client();
    // Shares go by load, which on a busy machine is what it is for a while.
    let spread = |round: &[u64]| round.iter().all(|served| served * 6 >= READS);
    let simple = poll_until(SOON, || {
        let round = world.round(|id| {
            let sql = format!("SELECT n FROM t WHERE id = {id}");
            assert_eq!(wire.rows(&sql), [["0"]]);
        });
        println!("simple {round:?}");
        spread(&round)
    });
    assert!(simple);
    let (client, select) = runtime.block_on(async {
        let client = connect(&world.endpoint()).await;
        let select = client.prepare("SELECT n FROM t WHERE id = $1").await;
        (client, select.unwrap())
    });
    let extended = poll_until(SOON, || {
        let round = world.round(|id| {
            let row = runtime.block_on(client.query_one(&select, &[&id])).unwrap();
            assert_eq!(row.get::<_, i64>(0), 0);
        });
        println!("extended {round:?}");
        spread(&round)
    });
    assert!(extended);
    // What may write, sees its own transaction, or asks for the primary's level stays with it.
    let replicas = world.replicas_served();
    for sql in [
        "UPDATE t SET n = 0 WHERE id = 3",
        "SELECT n FROM t WHERE id = 3 FOR UPDATE",
        "BEGIN; SELECT n FROM t WHERE id = 3; COMMIT",
        "BEGIN",
        "SELECT n FROM t WHERE id = 3",
        "COMMIT",
        "SET default_transaction_isolation = 'serializable'",
        "SELECT n FROM t WHERE id = 3",
        "SELECT pg_is_in_recovery()",
    ] {
        let frames = wire.query(sql);
        assert!(frames.iter().all(|f| f.kind != b'E'), "{sql}: {frames:?}");
    }
    assert_eq!(world.replicas_served(), replicas);
}

#[test]
fn reads_over_several_shards_use_the_replicas_of_each() {
    let fleet = Fleet::new(2, 1);
    for shard in &fleet.shards {
        let table = "CREATE TABLE t (id int8 PRIMARY KEY, n int8)";
        shard.primary.sql("postgres", table).unwrap();
    }
    let world = World {
        router: Router::start(&config(&fleet, 1, "")),
        fleet,
    };
    world.wait_up();
    let mut wire = world.client();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let client = runtime.block_on(connect(&world.endpoint()));
    let mut rows = 0;
    // Replicas come first in each of the two shards.
    let used = |world: &World, before: &[u64]| {
        let now = world.served();
        [0, 2].iter().all(|at| now[*at] >= before[*at] + 20)
    };
    let before = world.served();
    let simple = poll_until(SOON, || {
        // A write over two shards is committed in two phases, and seen by the next read at once.
        let insert = format!(
            "INSERT INTO t VALUES ({rows}, 1), ({}, 1), ({}, 1), ({}, 1)",
            rows + 1,
            rows + 2,
            rows + 3
        );
        let frames = wire.query(&insert);
        assert!(frames.iter().all(|f| f.kind != b'E'), "{frames:?}");
        rows += 4;
        for _ in 0..40 {
            assert_eq!(wire.rows("SELECT count(*) FROM t"), [[rows.to_string()]]);
            std::thread::sleep(Duration::from_millis(5));
        }
        used(&world, &before)
    });
    assert!(simple, "{:#?}", world.shown());
    let before = world.served();
    let extended = poll_until(SOON, || {
        for _ in 0..20 {
            let found = runtime.block_on(client.query("SELECT id FROM t WHERE n = $1", &[&1_i64]));
            assert_eq!(found.unwrap().len(), rows as usize);
        }
        used(&world, &before)
    });
    assert!(extended, "{:#?}", world.shown());
}

#[test]
fn what_is_serializable_by_default_stays_on_the_primary() {
    let world = World::new(1);
    let mut wire = Wire::login(&world.router.endpoint("careful", PASSWORD, "postgres"));
    let before = world.served();
    for _ in 0..100 {
        assert_eq!(wire.rows("SELECT n FROM t WHERE id = 2"), [["0"]]);
    }
    let after = world.served();
    assert!(after[1] - before[1] >= 100, "{before:?} {after:?}");
}

#[test]
fn what_tells_of_one_server_and_sequences_are_read_from_the_primary() {
    let world = World::new(1);
    let mut wire = world.client();
    for sql in [
        "CREATE SEQUENCE ahead",
        "CREATE VIEW ahead_view AS SELECT last_value FROM ahead",
        "CREATE FUNCTION told() RETURNS text STABLE LANGUAGE sql AS \
            'SELECT pg_is_in_recovery()::text || current_setting(''transaction_read_only'')'",
        "CREATE FUNCTION told_by_another() RETURNS text STABLE LANGUAGE plpgsql AS 'BEGIN RETURN told(); END'",
        "SELECT nextval('ahead')",
    ] {
        let frames = wire.query(sql);
        assert!(frames.iter().all(|f| f.kind != b'E'), "{sql}: {frames:?}");
    }
    let before = world.served();
    for (sql, expected) in [
        ("SELECT last_value FROM ahead", "1"),
        ("SELECT last_value FROM ahead_view", "1"),
        ("SELECT told()", "falseoff"),
        ("SELECT told_by_another()", "falseoff"),
    ] {
        for _ in 0..50 {
            assert_eq!(wire.rows(sql), [[expected]], "{sql}");
        }
    }
    let after = world.served();
    assert!(after[1] - before[1] >= 200, "{before:?} {after:?}");
}

#[test]
fn a_reload_brings_and_takes_servers_and_mixes_none_up() {
    let world = World::new(1);
    let mut wire = world.client();
    // With the replica first, the primary's place in the file changes when that goes and comes.
    for round in 0..3 {
        for replicas in [0, 1] {
            world
                .router
                .write_config(&config(&world.fleet, replicas, ""));
            world.router.sighup();
            let shown = || world.shown().len() == replicas + 1;
            assert!(poll_until(SOON, shown), "{:#?}", world.shown());
            let write = wire.query(&format!("UPDATE t SET n = {round} WHERE id = 1"));
            assert!(write.iter().all(|f| f.kind != b'E'), "{write:?}");
            for _ in 0..50 {
                let found = wire.rows("SELECT n FROM t WHERE id = 1");
                assert_eq!(found, [[round.to_string()]]);
            }
        }
        let served = poll_until(SOON, || world.replica_serves(&mut wire, 20));
        assert!(served, "{:#?}", world.shown());
    }
}

#[test]
fn a_delayed_replica_serves_no_read_that_misses_what_any_client_was_told() {
    let mut world = World::new(1);
    // Late for every write, but not so late that it never serves.
    world.delay("40ms");
    let told: Vec<AtomicI64> = (0..ROWS).map(|_| AtomicI64::new(0)).collect();
    let (end, reads, missed) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    let before = world.served();
    std::thread::scope(|scope| {
        let (told, end, reads, missed, world) = (&told, &end, &reads, &missed, &world);
        scope.spawn(move || {
            let mut wire = world.client();
            let until = Instant::now() + Duration::from_secs(8);
            let mut n = 0;
            while Instant::now() < until {
                n += 1;
                let row = n % ROWS;
                let id = row + 1;
                let write = match n % 3 {
                    0 => format!("UPDATE t SET n = {n} WHERE id = {id}"),
                    1 => format!("BEGIN; UPDATE t SET n = {n} WHERE id = {id}; COMMIT"),
                    _ => {
                        wire.query("BEGIN");
                        wire.query(&format!("UPDATE t SET n = {n} WHERE id = {id}"));
                        "COMMIT".to_owned()
                    }
                };
                wire.query(&write);
                told[row as usize].store(n, Ordering::SeqCst);
                // Now and then there is nothing to write, so that the replica gets its turn.
                if n % 200 == 0 {
                    std::thread::sleep(Duration::from_millis(300));
                }
            }
            end.store(true, Ordering::SeqCst);
            println!("{n} writes");
        });
        for reader in 0..2_i64 {
            scope.spawn(move || {
                let mut wire = world.client();
                let mut at = reader * 7;
                while !end.load(Ordering::SeqCst) {
                    at += 1;
                    let row = at % ROWS;
                    let needed = told[row as usize].load(Ordering::SeqCst);
                    let sql = format!("SELECT n FROM t WHERE id = {}", row + 1);
                    let found: i64 = wire.rows(&sql)[0][0].parse().unwrap();
                    reads.fetch_add(1, Ordering::Relaxed);
                    if found < needed {
                        missed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let after = world.served();
    let served: Vec<u64> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
    println!("{reads:?} reads, replica and primary {served:?}");
    assert_eq!(missed.into_inner(), 0);
    assert!(reads.into_inner() > 2000);
    assert!(
        served[0] > 0,
        "the replica was never asked: nothing was tested"
    );
}

/// Writes by `write` until the end of `during`, which begins after the first one; what it was told of last is `told`.
fn while_writing(
    world: &World,
    write: impl Fn(i64) -> String + Sync,
    during: impl FnOnce(&AtomicI64),
) {
    let (end, told) = (AtomicBool::new(false), AtomicI64::new(0));
    std::thread::scope(|scope| {
        let (end, told, write) = (&end, &told, &write);
        scope.spawn(move || {
            let mut wire = world.client();
            for n in 1.. {
                // What is not written would be missed, and fails the reader.
                let frames = wire.query(&write(n));
                let wrote = frames.iter().all(|frame| frame.kind != b'E');
                told.store(if wrote { n } else { i64::MAX }, Ordering::SeqCst);
                if end.load(Ordering::SeqCst) || !wrote {
                    break;
                }
            }
        });
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        // Also if the reader fails.
        let _end = End(end);
        assert!(poll_until(SOON, || told.load(Ordering::SeqCst) > 0));
        during(told);
    });
}

#[test]
fn a_late_replica_serves_reads_of_rows_that_are_not_written() {
    let mut world = World::with(1, "max_lag = \"60s\"\nreads = \"prefer-replicas\"");
    world.delay("3s");
    let world = &world;
    let mut wire = world.client();
    let write = |n| match n % 3 {
        0 => format!("INSERT INTO t VALUES (1, {n}) ON CONFLICT (id) DO UPDATE SET n = excluded.n"),
        _ => format!("UPDATE t SET n = {n} WHERE id = 1"),
    };
    while_writing(world, write, |told| {
        let served = poll_until(SOON, || world.replica_serves(&mut wire, 20));
        assert!(served, "{:#?}", world.shown());
        for _ in 0..READS {
            let needed = told.load(Ordering::SeqCst);
            let found: i64 = wire.rows("SELECT n FROM t WHERE id = 1")[0][0]
                .parse()
                .unwrap();
            assert!(found >= needed, "{found} after {needed}");
            // A read of both must see the one as well.
            let both = "SELECT max(n) FROM t WHERE id = 1 OR id = 2";
            let found: i64 = wire.rows(both)[0][0].parse().unwrap();
            assert!(found >= needed, "{found} after {needed}");
        }
    });
    // In blocks, and in the extended protocol.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let client = runtime.block_on(connect(&world.endpoint()));
    let select = "SELECT n FROM t WHERE id = $1";
    let select = runtime.block_on(client.prepare(select)).unwrap();
    let read = |id: i64| -> i64 {
        let row = runtime.block_on(client.query_one(&select, &[&id])).unwrap();
        row.get(0)
    };
    let (block, extended) = (world.client(), world.replicas_served()[0]);
    let block = std::sync::Mutex::new(block);
    let write = |n| {
        let mut block = block.lock().unwrap();
        block.query("BEGIN");
        block.query(&format!("UPDATE t SET n = -{n} WHERE id = 3"));
        block.query("COMMIT");
        format!("UPDATE t SET n = {n} WHERE id = 4")
    };
    while_writing(world, write, |told| {
        let served = poll_until(SOON, || {
            assert_eq!(read(2), 0);
            world.replicas_served()[0] > extended
        });
        assert!(served, "{:#?}", world.shown());
        for _ in 0..READS {
            let needed = told.load(Ordering::SeqCst);
            assert!(read(4) >= needed);
            assert!(read(3) <= -needed);
        }
    });
}

#[test]
#[ignore = "long"]
fn what_a_trigger_may_do_counts_for_every_row() {
    let table =
        "max_lag = \"60s\"\nreads = \"prefer-replicas\"\n[[table]]\nname = \"u\"\nkey = \"id\"";
    let mut world = World::with(1, table);
    world.delay("3s");
    let mut wire = world.client();
    let mut run = |sql: &str| {
        let frames = wire.query(sql);
        assert!(frames.iter().all(|frame| frame.kind != b'E'), "{sql}");
    };
    run("CREATE TABLE u (id int8 PRIMARY KEY, n int8)");
    run("INSERT INTO u VALUES (1, 0)");
    run(
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.n := NEW.n + 0; RETURN NEW; END'",
    );
    let world = &world;
    let mut reader = world.client();
    let write = |n| format!("UPDATE u SET n = {n} WHERE id = 1");
    while_writing(world, write, |_| {
        let mut served = || poll_until(SOON, || world.replica_serves(&mut reader, 20));
        assert!(served(), "{:#?}", world.shown());
        run("CREATE TRIGGER touch BEFORE UPDATE ON u FOR EACH ROW EXECUTE FUNCTION touch()");
        // The change itself is not what the replica lacks.
        let count = "SELECT count(*) FROM pg_trigger WHERE tgname = 'touch'";
        let replica = &world.fleet.shards[0].replicas[0];
        let replayed = || replica.sql("postgres", count).unwrap() == "1";
        assert!(poll_until(SOON, replayed));
        assert!(!world.replica_serves(&mut world.client(), 200));
        run("DROP TRIGGER touch ON u");
        assert!(served(), "{:#?}", world.shown());
    });
}

#[test]
fn a_replica_far_behind_serves_nothing_until_it_has_caught_up() {
    let mut world = World::new(1);
    world.delay("1h");
    let mut wire = world.client();
    wire.query("UPDATE t SET n = 5 WHERE id = 1");
    let replicas = world.replicas_served();
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        assert_eq!(wire.rows("SELECT n FROM t WHERE id = 1"), [["5"]]);
    }
    assert_eq!(world.replicas_served(), replicas);
    world.delay("0");
    let again = poll_until(SOON, || world.replica_serves(&mut wire, 50));
    assert!(again, "{:#?}", world.shown());
    let third = poll_until(SOON, || {
        let round = world.round(|_| assert_eq!(wire.rows("SELECT n FROM t WHERE id = 1"), [["5"]]));
        println!("without delay and writes: {round:?}");
        round[0] * 3 >= READS
    });
    assert!(third, "less than a third");
}

/// By its own word or by a rule; for all others it is as before.
#[test]
fn a_session_may_read_what_is_older_than_others_may() {
    const RULE: &str = "max_lag = \"1h\"\n[[rule]]\nname = \"reports\"\napplications = \"reports\"\nfreshness = \"any\"\n";
    const READ: &str = "SELECT n FROM t WHERE id = 1";
    let mut world = World::with(1, RULE);
    world.delay("1h");
    let mut wire = world.client();
    wire.query("UPDATE t SET n = 5 WHERE id = 1");
    let fresh = |wire: &mut Wire| (0..100).all(|_| wire.rows(READ) == [["5"]]);
    let old = |wire: &mut Wire| poll_until(SOON, || wire.rows(READ) == [["0"]]);
    assert!(fresh(&mut wire));
    wire.query("SET mothership.max_lag = '30min'");
    assert!(old(&mut wire), "{:#?}", world.shown());
    assert_eq!(wire.rows("SHOW mothership.max_lag"), [["30min"]]);
    assert!(fresh(&mut world.client()));
    // What a transaction sees is never of a replica.
    wire.query("BEGIN");
    assert!(fresh(&mut wire));
    wire.query("COMMIT");
    wire.query("RESET mothership.max_lag");
    assert!(fresh(&mut wire));
    for wrong in [
        "SET mothership.max_lag = 'soon'",
        "SET LOCAL mothership.max_lag TO -1",
        "SET mothership.max_lag = a, b",
        "SELECT set_config('mothership.max_lag', '1 fortnight', false)",
    ] {
        assert_eq!(wire.query(wrong)[0].sqlstate(), "22023", "{wrong}");
    }
    assert!(fresh(&mut wire));
    let mut reports = Wire::login_with(&world.endpoint(), &[("application_name", "reports")]);
    assert!(old(&mut reports), "{:#?}", world.shown());
    // Its own word is the narrower one here.
    reports.query("SET mothership.max_lag = 1");
    assert!(fresh(&mut reports));
    let mut started = Wire::login_with(&world.endpoint(), &[("mothership.max_lag", "30min")]);
    assert!(old(&mut started), "{:#?}", world.shown());
}

/// Reads leave it, although its last commit is young.
#[test]
fn a_replica_that_lacks_too_many_bytes_serves_nothing() {
    let mut world = World::with(
        1,
        "freshness = \"any\"\nmax_lag = \"1h\"\nmax_lag_bytes = \"1MiB\"",
    );
    world.delay("1h");
    let mut wire = world.client();
    // It waits at the commit; the rest of the log lies behind.
    wire.query("UPDATE t SET n = 1 WHERE id = 3");
    let filler = "CREATE TABLE filler AS SELECT repeat('x', 500) FROM generate_series(1, 10000)";
    world.fleet.shards[0]
        .primary
        .sql("postgres", filler)
        .unwrap();
    let lags = poll_until(SOON, || {
        let before = world.replicas_served();
        (0..50).for_each(|_| drop(wire.rows("SELECT n FROM t WHERE id = 2")));
        world.replicas_served() == before
    });
    assert!(lags, "{:#?}", world.shown());
    world.delay("0");
    let again = poll_until(SOON, || world.replica_serves(&mut wire, 50));
    assert!(again, "{:#?}", world.shown());
}

#[test]
#[ignore = "long"]
fn a_dead_or_frozen_replica_gets_nothing_and_reads_go_on() {
    let mut world = World::new(1);
    let mut wire = world.client();
    world.replica().kill9();
    // A connection may be lost under a read; after that there is no error.
    let gone = poll_until(SOON, || {
        wire.query("SELECT n FROM t WHERE id = 2");
        world.health(0) == "down"
    });
    assert!(gone, "{:#?}", world.shown());
    assert!(!world.replica_serves(&mut wire, 200));
    world.replica().start().unwrap();
    let back = poll_until(SOON, || world.replica_serves(&mut wire, 20));
    assert!(back, "{:#?}", world.shown());

    world.replica().pause().unwrap();
    // Three probes must run into their time limit.
    assert!(poll_until(SOON * 3, || world.health(0) == "down"));
    assert!(!world.replica_serves(&mut wire, 200));
    world.replica().resume().unwrap();
    let back = poll_until(SOON, || world.replica_serves(&mut wire, 20));
    assert!(back, "{:#?}", world.shown());
}

#[test]
#[ignore = "long"]
fn reads_go_on_while_no_primary_can_be_asked_for_its_catalog() {
    const INTERVAL: Duration = Duration::from_secs(10);
    let interval = format!("[catalog]\nrefresh_interval = \"{}s\"", INTERVAL.as_secs());
    let mut world = World::with(1, &interval);
    let mut wire = world.client();
    // What is read of the catalog after this is new.
    wire.query("COMMENT ON TABLE t IS 'changed'");
    let begun = Instant::now();
    assert_eq!(wire.rows("SELECT n FROM t WHERE id = 1"), [["0"]]);
    let serves = poll_until(SOON, || world.replica_serves_row(&mut wire, 20, 1, "0"));
    assert!(serves, "{:#?}", world.shown());
    world.fleet.shards[0].primary.kill9();
    let down = poll_until(SOON, || world.health(1) == "down");
    assert!(down, "{:#?}", world.shown());
    let mut reads = 0;
    let until = begun + INTERVAL - Duration::from_millis(500);
    while Instant::now() < until {
        assert_eq!(wire.rows("SELECT n FROM t WHERE id = 1"), [["0"]]);
        reads += 1;
    }
    assert!(reads > 0, "the machine was too slow for this test");
    // But not for ever. Who came while it was asked for ahead of need may wait for that, and then once himself.
    wire.set_limit(WINDOW * 2 + SOON / 2);
    let over = poll_until(SOON, || {
        let frames = wire.query("SELECT n FROM t WHERE id = 1");
        let error = frames.iter().find(|f| f.kind == b'E');
        error.is_some_and(|error| error.sqlstate() == "57P03")
    });
    assert!(over, "{:#?}", world.shown());
    world.fleet.shards[0].primary.start().unwrap();
    let again = poll_until(SOON, || {
        let frames = wire.query("SELECT n FROM t WHERE id = 1");
        frames.iter().all(|f| f.kind != b'E')
    });
    assert!(again, "{:#?}", world.shown());
}

#[test]
#[ignore = "long"]
fn after_a_promotion_writes_go_to_the_new_primary() {
    let mut world = World::new(1);
    let mut wire = world.client();
    wire.query("UPDATE t SET n = 7 WHERE id = 1");
    // The primary must have been asked after the write, or nobody could tell that the replica has it.
    let seen = poll_until(SOON, || world.replica_serves_row(&mut wire, 20, 1, "7"));
    assert!(seen, "{:#?}", world.shown());
    world.fleet.shards[0].primary.kill9();
    // Reads go on at the replica, which has everything that was acknowledged.
    let read = poll_until(SOON, || {
        let frames = wire.query("SELECT n FROM t WHERE id = 1");
        frames
            .iter()
            .any(|f| f.kind == b'D' && f.row_text() == ["7"])
    });
    assert!(read, "{:#?}", world.shown());
    // A write waits for a primary, and then says why there is none.
    let begun = Instant::now();
    let frames = wire.query("UPDATE t SET n = 8 WHERE id = 1");
    let error = frames.iter().find(|f| f.kind == b'E').unwrap();
    assert_eq!(error.sqlstate(), "57P03", "{frames:?}");
    assert!(begun.elapsed() < SOON);
    // One that waits while the replica is promoted goes on there.
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let mut wire = world.client();
            wire.query("UPDATE t SET n = 9 WHERE id = 1")
        });
        std::thread::sleep(Duration::from_millis(300));
        let mut direct = Wire::login(&Shard::endpoint(&world.fleet.shards[0].replicas[0]));
        direct.query("SELECT pg_promote()");
        let frames = waiting.join().unwrap();
        assert!(frames.iter().all(|f| f.kind != b'E'), "{frames:?}");
    });
    assert_eq!(wire.rows("SELECT n FROM t WHERE id = 1"), [["9"]]);
    let shown = world.shown();
    assert_eq!(
        (&*shown[0]["role"], &*shown[1]["health"]),
        ("primary", "down")
    );
}
