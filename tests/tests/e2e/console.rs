//! The admin console and the metrics page of the real router, as programs made for
//! PgBouncer and Prometheus see them.

use mothership_tests::message::{self, Format};
use mothership_tests::{Endpoint, Router, Shards, Wire, connect, poll_until};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tokio_postgres::SimpleQueryMessage;

const SOON: Duration = Duration::from_secs(20);
const PASSWORD: &str = "open sesame";

/// A router with two workers in front of one database.
struct World {
    router: Router,
    shards: Shards,
    config: String,
}

impl World {
    fn new() -> World {
        World::with("")
    }

    fn with(more: &str) -> World {
        let shards = Shards::new(1);
        let server = shards.endpoint(0);
        let config = format!(
            r#"
{more}
[listen]
port = @port@
workers = 2
unix_socket = "@folder@"
[pool]
min = 0
max = 4
[auth]
passthrough = false
[control]
user = "{0}"
password = "{1}"
[metrics]
port = @metrics_port@
[console]
admin_users = ["root"]
stats_users = ["watch"]
[[user]]
name = "root"
password = "{PASSWORD}"
[[user]]
name = "watch"
password = "{PASSWORD}"
[[user]]
name = "{0}"
password = "{1}"
[[shard]]
name = "s1"
[[shard.server]]
address = "127.0.0.1:{2}"
role = "primary"
tls = "disable"
labels = ["ssd"]
[[table]]
name = "orders"
key = "customer_id"
key_type = "int8"
[[rule]]
name = "reports"
users = ["watch"]
action = "primary"
"#,
            server.user, server.password, server.port
        );
        World {
            router: Router::start(&config),
            shards,
            config,
        }
    }

    fn console(&self, user: &str) -> Wire {
        Wire::login(&self.router.endpoint(user, PASSWORD, "pgbouncer"))
    }

    fn endpoint(&self) -> Endpoint {
        self.shards.endpoint(0).at_port(self.router.port())
    }

    fn client(&self) -> Wire {
        Wire::login(&self.endpoint())
    }
}

/// Name and type OID of each column of a RowDescription.
fn described(frame: &mothership_tests::Frame) -> Vec<(String, u32)> {
    let names = frame.columns();
    let mut rest = &frame.body[2..];
    let oid = |_: &String| {
        let end = rest.iter().position(|byte| *byte == 0).unwrap();
        let fields = &rest[end + 1..];
        let oid = u32::from_be_bytes(fields[6..10].try_into().unwrap());
        rest = &fields[18..];
        oid
    };
    let oids: Vec<u32> = names.iter().map(oid).collect();
    names.into_iter().zip(oids).collect()
}

/// One row as a map from column to value.
fn rows(wire: &mut Wire, sql: &str) -> Vec<std::collections::BTreeMap<String, String>> {
    let frames = wire.query(sql);
    let columns = frames.iter().find(|f| f.kind == b'T');
    let columns = columns
        .unwrap_or_else(|| panic!("{sql}: {frames:?}"))
        .columns();
    let rows = frames.iter().filter(|f| f.kind == b'D');
    rows.map(|row| columns.iter().cloned().zip(row.row_text()).collect())
        .collect()
}

fn state(wire: &mut Wire, sql: &str) -> String {
    let frames = wire.query(sql);
    match frames.iter().find(|f| f.kind == b'E') {
        Some(error) => error.sqlstate(),
        None => "ok".into(),
    }
}

const S: u32 = 25;
const I: u32 = 23;
const Q: u32 = 20;
const N: u32 = 1700;

fn typed(names: &[&str], kinds: &[u32]) -> Vec<(String, u32)> {
    assert_eq!(names.len(), kinds.len());
    let names = names.iter().map(|name| (*name).to_string());
    names.zip(kinds.iter().copied()).collect()
}

/// Word for word what PgBouncer 1.25 answers.
#[test]
fn every_table_of_pgbouncer_has_its_columns_and_types() {
    let world = World::new();
    let mut wire = world.console("root");
    let socket = "type user database replication state addr port local_addr local_port connect_time \
                  request_time wait wait_us close_needed ptr link remote_pid tls application_name \
                  prepared_statements id";
    let socket_kinds = [
        S, S, S, S, S, S, I, S, I, S, S, I, I, I, S, S, I, S, S, I, I,
    ];
    let debug =
        format!("{socket} recv_pos pkt_pos pkt_remain send_pos send_remain pkt_avail send_avail");
    let debug_kinds = [&socket_kinds[..], &[I; 7]].concat();
    let pools = "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active \
                 sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us \
                 pool_mode load_balance_hosts";
    let databases = "name host port database force_user pool_size min_pool_size reserve_pool_size \
                     server_lifetime pool_mode load_balance_hosts max_connections current_connections \
                     max_client_connections current_client_connections paused disabled";
    let stats = "database total_server_assignment_count total_xact_count total_query_count total_received \
                 total_sent total_xact_time total_query_time total_wait_time total_client_parse_count \
                 total_server_parse_count total_bind_count avg_server_assignment_count avg_xact_count \
                 avg_query_count avg_recv avg_sent avg_xact_time avg_query_time avg_wait_time \
                 avg_client_parse_count avg_server_parse_count avg_bind_count";
    let totals = "database server_assignment_count xact_count query_count bytes_received bytes_sent xact_time \
                  query_time wait_time client_parse_count server_parse_count bind_count";
    let averages = "database server_assignment_count xact_count query_count bytes_received bytes_sent xact_time \
                    query_time wait_time avg_client_parse_count avg_server_parse_count avg_bind_count";
    let fds = "fd task user database addr port cancel link client_encoding std_strings datestyle timezone \
               password scram_client_key scram_server_key";
    let one_text = |numbers: usize| [&[S][..], &vec![N; numbers]].concat();
    let cases: Vec<(&str, &str, Vec<u32>)> = vec![
        ("CLIENTS", socket, socket_kinds.to_vec()),
        ("SERVERS", socket, socket_kinds.to_vec()),
        ("SOCKETS", &debug, debug_kinds.clone()),
        ("ACTIVE_SOCKETS", &debug, debug_kinds),
        ("POOLS", pools, [&[S, S][..], &[I; 13], &[S, S]].concat()),
        (
            "DATABASES",
            databases,
            vec![S, S, I, S, S, I, I, I, I, S, S, I, I, I, I, I, I],
        ),
        ("STATS", stats, one_text(22)),
        ("STATS_TOTALS", totals, one_text(11)),
        ("STATS_AVERAGES", averages, one_text(11)),
        ("TOTALS", "name value", vec![S, N]),
        ("LISTS", "list items", vec![S, I]),
        ("CONFIG", "key value default changeable", vec![S; 4]),
        (
            "USERS",
            "name pool_size reserve_pool_size pool_mode max_user_connections current_connections \
             max_user_client_connections current_client_connections",
            vec![S, S, S, S, I, I, I, I],
        ),
        ("PEERS", "peer_id host port pool_size", vec![I, S, I, I]),
        (
            "PEER_POOLS",
            "peer_id cl_active_cancel_req cl_waiting_cancel_req sv_active_cancel sv_login",
            vec![I; 5],
        ),
        (
            "FDS",
            fds,
            vec![I, S, S, S, S, I, Q, I, S, S, S, S, S, 17, 17],
        ),
        ("MEM", "name size used free memtotal", vec![S, I, I, I, I]),
        ("DNS_HOSTS", "hostname ttl addrs", vec![S, Q, S]),
        ("DNS_ZONES", "zonename serial count", vec![S, Q, I]),
        ("VERSION", "version", vec![S]),
        ("STATE", "key value", vec![S, S]),
    ];
    for (word, names, kinds) in cases {
        let names: Vec<&str> = names.split_whitespace().collect();
        let expected = typed(&names, &kinds);
        for verb in ["SHOW", "select"] {
            let frames = wire.query(&format!("{verb} {};", word.to_lowercase()));
            assert_eq!(described(&frames[0]), expected, "{word}");
            let end = &frames[frames.len() - 2..];
            assert_eq!(end[0].to_string(), "CommandComplete SHOW", "{word}");
            assert_eq!(end[1].to_string(), "ReadyForQuery I");
        }
        // What Describe promises is what comes.
        wire.send_all(&[
            message::parse("s", &format!("SHOW {word}"), &[]),
            message::describe_statement("s"),
            message::close_statement("s"),
            message::sync(),
        ]);
        let frames = wire.until_ready();
        assert_eq!(described(&frames[2]), expected, "{word}");
    }
}

#[test]
fn a_newer_version_tells_logins_too() {
    let world = World::with("");
    let newer = world
        .config
        .replace("[console]", "[console]\nversion = \"1.26.0\"");
    world.router.write_config(&newer);
    let mut wire = world.console("root");
    assert_eq!(state(&mut wire, "RELOAD"), "ok");
    let columns = wire.query("SHOW STATS")[0].columns();
    assert_eq!(columns.len(), 25);
    assert_eq!(columns[12], "total_client_login_count");
    assert_eq!(columns[24], "avg_client_login_count");
    let version = wire.rows("SHOW VERSION");
    assert!(version[0][0].starts_with("PgBouncer 1.26.0 (mothership "));
}

// See: CVE-2026-6667, S10
#[test]
fn who_may_do_what() {
    let world = World::new();
    let shows = [
        "STATS",
        "STATS_TOTALS",
        "STATS_AVERAGES",
        "TOTALS",
        "POOLS",
        "DATABASES",
        "CLIENTS",
        "SERVERS",
        "SOCKETS",
        "ACTIVE_SOCKETS",
        "LISTS",
        "CONFIG",
        "USERS",
        "PEERS",
        "PEER_POOLS",
        "MEM",
        "DNS_HOSTS",
        "DNS_ZONES",
        "VERSION",
        "STATE",
        "HELP",
        "SHARDS",
        "MAP",
        "ENDPOINTS",
        "RULES",
        "PINS",
        "PLANS",
        "TRANSACTIONS",
        "POOLS_EXTENDED",
        "datestyle",
    ];
    let shows = shows.map(|word| format!("SHOW {word}"));
    // With what the administrator gets; the last ones end what the first began.
    let acts = [
        ("SHOW FDS", "ok"),
        ("PAUSE nowhere", "ok"),
        ("RESUME nowhere", "ok"),
        ("PAUSE", "ok"),
        ("RESUME", "ok"),
        ("RESUME", "55000"),
        ("SUSPEND", "ok"),
        ("RESUME", "ok"),
        ("DISABLE nowhere", "ok"),
        ("ENABLE nowhere", "ok"),
        ("RECONNECT", "ok"),
        ("RECONNECT nowhere", "ok"),
        ("WAIT_CLOSE", "ok"),
        ("KILL nowhere", "ok"),
        ("RESUME nowhere", "ok"),
        ("KILL_CLIENT 999999", "42704"),
        ("KILL pgbouncer", "0A000"),
        ("PAUSE mothership", "0A000"),
        ("RELOAD", "ok"),
        ("SET pool.max = 5", "0A000"),
        ("SET nonsense = 5", "42704"),
        ("SET datestyle = ISO", "ok"),
        ("SHUTDOWN WAIT_FOR_CLIENTS", "ok"),
    ];
    let mut stats = world.console("watch");
    for show in &shows {
        assert_eq!(state(&mut stats, show), "ok", "{show}");
    }
    for (command, _) in acts {
        let expected = if command.starts_with("SET datestyle") {
            "ok"
        } else {
            "42501"
        };
        assert_eq!(state(&mut stats, command), expected, "{command}");
        // The same by the extended protocol.
        stats.send_all(&[
            message::parse("", command, &[]),
            message::bind_text(&[]),
            message::execute("", 0),
            message::sync(),
        ]);
        let frames = stats.until_ready();
        let error = frames.iter().find(|f| f.kind == b'E');
        let refused = error.map_or("ok".into(), |e| e.sqlstate());
        assert_eq!(refused, expected, "{command}, extended");
    }
    for (user, password, database, expected) in [
        (
            &*world.endpoint().user,
            &*world.endpoint().password,
            "pgbouncer",
            "42501",
        ),
        (
            &*world.endpoint().user,
            &*world.endpoint().password,
            "mothership",
            "42501",
        ),
        // Over TCP nobody is let in by the word of the operating system.
        ("pgbouncer", "", "pgbouncer", "28P01"),
        ("nobody", PASSWORD, "pgbouncer", "28P01"),
        ("root", "wrong", "mothership", "28P01"),
        ("watch", "wrong", "mothership", "28P01"),
    ] {
        let endpoint = world.router.endpoint(user, password, database);
        let mut wire = Wire::connect(world.router.port());
        let error = wire.try_login(&endpoint, message::V3_0, &[]).unwrap_err();
        assert_eq!(error.sqlstate(), expected, "{user} {database}");
    }
    let mut admin = world.console("root");
    for show in &shows {
        assert_eq!(state(&mut admin, show), "ok", "{show}");
    }
    for (command, expected) in acts {
        assert_eq!(state(&mut admin, command), expected, "{command}");
    }
}

// See: CVE-2023-22332, S12
#[test]
fn no_table_and_no_metric_shows_a_secret() {
    let world = World::new();
    let secret = "hidden in a literal 4711";
    let mut client = world.client();
    client.rows(&format!("SELECT '{secret}'"));
    client.rows("BEGIN");
    client.rows(&format!("SELECT '{secret}'"));
    let key = client.key.clone().unwrap();
    let key = u32::from_be_bytes(key.1.try_into().unwrap());
    let mut wire = world.console("root");
    let mut all = String::new();
    for word in [
        "STATS",
        "POOLS",
        "DATABASES",
        "CLIENTS",
        "SERVERS",
        "SOCKETS",
        "CONFIG",
        "USERS",
        "FDS",
        "LISTS",
        "MEM",
        "SHARDS",
        "MAP",
        "ENDPOINTS",
        "RULES",
        "PINS",
        "PLANS",
        "TRANSACTIONS",
        "POOLS_EXTENDED",
    ] {
        for row in wire.rows(&format!("SHOW {word}")) {
            all.push_str(&row.join("|"));
            all.push('\n');
        }
    }
    all.push_str(&get(&world, "/metrics").1);
    all.push_str(&world.router.log());
    let server = world.shards.endpoint(0);
    for hidden in [
        PASSWORD,
        &*server.password,
        secret,
        "SCRAM-SHA-256$",
        &key.to_string(),
    ] {
        assert!(!all.contains(hidden), "{hidden:?} is shown");
    }
    assert!(all.contains("***"), "passwords are shown as stars");
}

#[test]
fn clients_and_servers_are_seen_linked() {
    let world = World::new();
    let database = world.endpoint().database.clone();
    let mut wire = world.console("watch");
    let mut client = Wire::login_with(&world.endpoint(), &[("application_name", "shop")]);
    client.rows("BEGIN");
    client.rows("SELECT 1");
    let mine = |rows: Vec<std::collections::BTreeMap<String, String>>| {
        let mut rows = rows.into_iter().filter(|row| row["database"] == database);
        let row = rows.next().expect("one row");
        assert!(rows.next().is_none(), "one row");
        row
    };
    let seen = mine(rows(&mut wire, "SHOW CLIENTS"));
    let server = mine(rows(&mut wire, "SHOW SERVERS"));
    assert_eq!((&*seen["type"], &*server["type"]), ("C", "S"));
    assert_eq!((&*seen["state"], &*server["state"]), ("active", "active"));
    assert_eq!(
        (&seen["link"], &server["link"]),
        (&server["ptr"], &seen["ptr"])
    );
    assert_eq!(seen["application_name"], "shop");
    assert_eq!(seen["addr"], "127.0.0.1");
    assert_eq!(seen["local_port"], world.router.port().to_string());
    assert_eq!(server["port"], world.shards.endpoint(0).port.to_string());
    let pid = world.shards.sql(
        0,
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name <> 'mothership'",
    );
    assert_eq!(server["remote_pid"], pid.trim());
    assert!(seen["connect_time"].ends_with(" UTC"));

    client.rows("COMMIT");
    client.rows("SET application_name = 'other'");
    client.send_all(&[message::parse("a", "SELECT 1", &[]), message::sync()]);
    client.until_ready();
    let seen = mine(rows(&mut wire, "SHOW CLIENTS"));
    assert_eq!((&*seen["state"], &*seen["link"]), ("idle", ""));
    assert_eq!(seen["application_name"], "other");
    assert_eq!(seen["prepared_statements"], "1");
    let server = mine(rows(&mut wire, "SHOW SERVERS"));
    assert_eq!((&*server["state"], &*server["link"]), ("idle", ""));
    assert_eq!(server["prepared_statements"], "1");
    let pool = mine(rows(&mut wire, "SHOW POOLS"));
    assert_eq!(
        (&*pool["cl_active"], &*pool["cl_waiting"]),
        ("1", "0"),
        "idle ones count"
    );
    assert_eq!((&*pool["sv_active"], &*pool["sv_idle"]), ("0", "1"));
    assert_eq!(
        (&*pool["pool_mode"], &*pool["load_balance_hosts"]),
        ("transaction", "∅")
    );
    let row = rows(&mut wire, "SHOW DATABASES")
        .into_iter()
        .find(|row| row["name"] == database);
    let row = row.unwrap();
    assert_eq!(
        (
            &*row["current_connections"],
            &*row["current_client_connections"]
        ),
        ("1", "1")
    );
    assert_eq!((&*row["paused"], &*row["pool_size"]), ("0", "4"));
}

#[test]
fn pins_say_who_why_and_since_when() {
    let world = World::new();
    let mut wire = world.console("watch");
    let mut client = world.client();
    assert!(rows(&mut wire, "SHOW PINS").is_empty());
    client.rows("LISTEN a");
    client.rows("CREATE TEMP TABLE t(a int)");
    let pins = rows(&mut wire, "SHOW PINS");
    assert_eq!(pins.len(), 1);
    assert_eq!(pins[0]["reasons"], "temporary object, listen");
    assert_eq!(pins[0]["shard"], "s1");
    assert!(pins[0]["since"].ends_with(" UTC"));
    client.rows("DISCARD ALL");
    assert!(rows(&mut wire, "SHOW PINS").is_empty());
}

#[test]
fn requests_are_counted() {
    let world = World::new();
    let database = world.endpoint().database.clone();
    let mut wire = world.console("watch");
    let mut clients = [world.client(), world.client(), world.client()];
    for client in &mut clients {
        client.rows("BEGIN");
        client.rows("SELECT pg_sleep(0.01)");
        client.rows("COMMIT");
        client.send_all(&[
            message::parse("", "SELECT $1::int", &[]),
            message::bind_text(&["1"]),
            message::execute("", 0),
            message::bind_text(&["2"]),
            message::execute("", 0),
            message::sync(),
        ]);
        client.until_ready();
    }
    let stats = rows(&mut wire, "SHOW STATS_TOTALS");
    let mine = stats
        .iter()
        .find(|row| row["database"] == database)
        .unwrap();
    let number = |name: &str| mine[name].parse::<u64>().unwrap();
    // Clients of both workers add up.
    assert_eq!((number("xact_count"), number("query_count")), (6, 12));
    assert_eq!((number("client_parse_count"), number("bind_count")), (3, 6));
    assert_eq!(number("server_assignment_count"), 6);
    assert!(number("query_time") >= 30_000, "microseconds: {mine:?}");
    assert!(number("xact_time") >= number("query_time"));
    assert!(number("bytes_received") > 100 && number("bytes_sent") > 100);
    // The console's own database has its row.
    assert!(stats.iter().any(|row| row["database"] == "pgbouncer"));
}

#[test]
fn the_oldest_waiting_client_is_told() {
    let world = World::with("");
    let small = world.config.replace("max = 4", "max = 1");
    world.router.write_config(&small);
    let mut wire = world.console("root");
    assert_eq!(state(&mut wire, "RELOAD"), "ok");
    let (mut first, mut second) = (world.client(), world.client());
    first.rows("BEGIN");
    first.rows("SELECT 1");
    second.send(&message::query("SELECT 2"));
    let waiting = |wire: &mut Wire| {
        let pools = rows(wire, "SHOW POOLS");
        let pool = pools.into_iter().find(|row| row["cl_waiting"] == "1");
        pool.map(|pool| {
            let wait: u64 = pool["maxwait"].parse().unwrap();
            wait * 1_000_000 + pool["maxwait_us"].parse::<u64>().unwrap()
        })
    };
    assert!(poll_until(SOON, || waiting(&mut wire).is_some_and(|us| us > 100_000)));
    let clients = rows(&mut wire, "SHOW CLIENTS");
    assert!(
        clients
            .iter()
            .any(|row| row["state"] == "waiting" && row["wait_us"] != "0")
    );
    first.rows("COMMIT");
    let answer = second.until_ready();
    assert!(answer.iter().any(|f| f.kind == b'D'));
    assert!(waiting(&mut wire).is_none(), "nobody waits now");
    let stats = rows(&mut wire, "SHOW STATS_TOTALS");
    let waited: u64 = stats
        .iter()
        .map(|row| row["wait_time"].parse::<u64>().unwrap())
        .sum();
    assert!(waited >= 100_000, "{waited}");
}

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
fn our_own_tables_say_what_is_known() {
    let world = World::new();
    let mut client = world.client();
    client.rows("BEGIN");
    client.rows("SELECT 1");
    let mut wire = world.console("watch");
    let shards = rows(&mut wire, "SHOW SHARDS");
    assert_eq!(
        (&*shards[0]["shard"], &*shards[0]["slots"]),
        ("s1", "16384")
    );
    assert_eq!(
        (&*shards[0]["home"], &*shards[0]["slot_ranges"]),
        ("1", "0-16383")
    );
    let map = rows(&mut wire, "SHOW MAP");
    assert_eq!(
        (&*map[0]["place"], &*map[0]["key"]),
        ("sharded", "customer_id")
    );
    assert_eq!((&*map[1]["table"], &*map[1]["place"]), ("*", "home"));
    let endpoints = rows(&mut wire, "SHOW ENDPOINTS");
    assert_eq!(
        (&*endpoints[0]["declared_role"], &*endpoints[0]["labels"]),
        ("primary", "ssd")
    );
    assert_eq!(
        (&*endpoints[0]["active"], &*endpoints[0]["health"]),
        ("1", "up")
    );
    let rules = rows(&mut wire, "SHOW RULES");
    assert_eq!(
        (&*rules[0]["name"], &*rules[0]["users"]),
        ("reports", "watch")
    );
    let pools = rows(&mut wire, "SHOW POOLS_EXTENDED");
    let active: u32 = pools
        .iter()
        .map(|row| row["active"].parse::<u32>().unwrap())
        .sum();
    assert_eq!(active, 1);
    for empty in ["PLANS", "TRANSACTIONS"] {
        assert!(rows(&mut wire, &format!("SHOW {empty}")).is_empty());
    }
}

#[test]
fn help_is_a_notice_with_a_sqlstate() {
    let world = World::new();
    let mut wire = world.console("watch");
    let frames = wire.query("SHOW HELP");
    assert_eq!(frames[0].kind, b'N');
    assert_eq!(frames[0].field('C').unwrap(), "00000");
    assert_eq!(frames[0].field('M').unwrap(), "Console usage");
    assert!(
        frames[0]
            .field('D')
            .unwrap()
            .contains("KILL_CLIENT <client_id>")
    );
    assert_eq!(frames[1].to_string(), "CommandComplete SHOW");
}

#[test]
fn what_drivers_send_is_answered() {
    let world = World::new();
    let endpoint = world.router.endpoint("watch", PASSWORD, "mothership");
    let mut wire = Wire::connect(world.router.port());
    let more = [
        ("extra_float_digits", "2"),
        ("client_encoding", "UTF8"),
        ("datestyle", "ISO, MDY"),
    ];
    let welcome = wire.try_login(&endpoint, message::V3_2, &more).unwrap();
    let parameters: Vec<String> = welcome
        .iter()
        .filter(|f| f.kind == b'S')
        .map(|f| f.text())
        .collect();
    for name in [
        "server_version",
        "client_encoding",
        "DateStyle",
        "standard_conforming_strings",
    ] {
        assert!(parameters.iter().any(|p| p == name), "{name}");
    }
    let show = |frames: &[mothership_tests::Frame]| mothership_tests::frame::show(frames);
    let answer =
        show(&wire.query("SET datestyle = ISO; SHOW datestyle; BEGIN; SHOW timezone; COMMIT"));
    expect_test::expect![[r#"
        Notice 00000 SET ignored
        CommandComplete SET
        RowDescription datestyle
        DataRow ISO
        CommandComplete SHOW
        CommandComplete BEGIN
        RowDescription timezone
        DataRow GMT
        CommandComplete SHOW
        CommandComplete COMMIT
        ReadyForQuery I
    "#]]
    .assert_eq(&answer);
    let answer = show(&wire.query("BEGIN; SHOW VERSIONS; SHOW VERSION"));
    expect_test::expect![[r#"
        CommandComplete BEGIN
        Error 42601 invalid command 'SHOW VERSIONS', use SHOW HELP;
        ReadyForQuery E
    "#]]
    .assert_eq(&answer);
    assert_eq!(state(&mut wire, "SHOW VERSION"), "25P02");
    assert_eq!(
        show(&wire.query("COMMIT")),
        "CommandComplete ROLLBACK\nReadyForQuery I\n"
    );
    assert_eq!(
        show(&wire.query("-- ping")),
        "EmptyQueryResponse\nReadyForQuery I\n"
    );
}

#[test]
fn the_extended_protocol_has_limits_formats_and_errors() {
    let world = World::new();
    let mut wire = world.console("watch");
    let show = |frames: Vec<mothership_tests::Frame>| mothership_tests::frame::show(&frames);
    wire.send_all(&[
        message::parse("", "SHOW STATE", &[]),
        message::bind_text(&[]),
        message::describe_portal(""),
        message::execute("", 2),
        message::execute("", 2),
        message::sync(),
    ]);
    expect_test::expect![[r#"
        ParseComplete
        BindComplete
        RowDescription key value
        DataRow active yes
        DataRow paused no
        PortalSuspended
        DataRow suspended no
        CommandComplete SHOW
        ReadyForQuery I
    "#]]
    .assert_eq(&show(wire.until_ready()));
    wire.send_all(&[
        message::parse("", "SHOW nonsense", &[]),
        message::bind_text(&[]),
        message::execute("", 0),
        message::sync(),
        message::parse("", "SHOW VERSION; SHOW STATE", &[]),
        message::sync(),
        message::bind("", "unknown", Format::Text, &[], Format::Text),
        message::sync(),
        message::parse("", "", &[]),
        message::bind_text(&[]),
        message::execute("", 0),
        message::sync(),
    ]);
    let answers: Vec<String> = (0..4).map(|_| show(wire.until_ready())).collect();
    expect_test::expect![[r#"
        Error 42601 invalid command 'SHOW nonsense', use SHOW HELP;
        ReadyForQuery I
        Error 42601 cannot insert multiple commands into a prepared statement
        ReadyForQuery I
        Error 26000 prepared statement "unknown" does not exist
        ReadyForQuery I
        ParseComplete
        BindComplete
        EmptyQueryResponse
        ReadyForQuery I
    "#]]
    .assert_eq(&answers.concat());
    // Binary numbers are PostgreSQL's.
    let mut direct = Wire::login(&world.shards.endpoint(0));
    let sent = |wire: &mut Wire, sql: &str| {
        wire.send_all(&[
            message::parse("", sql, &[]),
            message::bind("", "", Format::Text, &[], Format::Binary),
            message::execute("", 0),
            message::sync(),
        ]);
        let frames = wire.until_ready();
        let rows = frames.into_iter().filter(|f| f.kind == b'D');
        rows.map(|f| f.row()).collect::<Vec<_>>()
    };
    let server = sent(
        &mut direct,
        "SELECT 'pgbouncer', n::numeric FROM (VALUES (0), (0)) v(n)",
    );
    let totals = sent(&mut wire, "SHOW STATS_TOTALS");
    let own = totals.iter().find(|row| row[0] == server[0][0]).unwrap();
    assert_eq!(own[1], server[0][1]);
}

#[tokio::test]
async fn tokio_postgres_reads_it_both_ways() {
    let world = World::new();
    let mut busy = world.client();
    busy.rows("SELECT 1");
    let client = connect(&world.router.endpoint("watch", PASSWORD, "pgbouncer")).await;
    let rows = client.query("SHOW POOLS", &[]).await.unwrap();
    let database = world.endpoint().database.clone();
    let row = rows
        .iter()
        .find(|row| row.get::<_, &str>("database") == database)
        .unwrap();
    assert_eq!(
        (row.get::<_, i32>("cl_active"), row.get::<_, i32>("maxwait")),
        (1, 0)
    );
    assert_eq!(row.get::<_, Option<String>>("load_balance_hosts"), None);
    let lists = client.query("SHOW LISTS", &[]).await.unwrap();
    assert_eq!(lists.len(), 14);
    let messages = client
        .simple_query("SHOW VERSION; SHOW DATABASES")
        .await
        .unwrap();
    let rows = messages
        .iter()
        .filter(|m| matches!(m, SimpleQueryMessage::Row(_)));
    assert!(rows.count() >= 4);
    let error = client.query("SHOW nothing", &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42601");
    let error = client.simple_query("RELOAD").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42501");
}

/// What prometheus-community/pgbouncer_exporter asks on one connection, and what it
/// demands of the answers.
#[test]
fn a_scrape_finds_what_it_looks_for() {
    let world = World::new();
    let mut clients = [world.client(), world.client()];
    clients[0].rows("BEGIN");
    clients[0].rows("SELECT 1");
    let endpoint = world.router.endpoint("watch", PASSWORD, "pgbouncer");
    let like_pq = [
        ("extra_float_digits", "2"),
        ("client_encoding", "UTF8"),
        ("datestyle", "ISO, MDY"),
    ];
    let mut wire = Wire::login_with(&endpoint, &like_pq);
    let mut scraped = std::collections::HashMap::new();
    for sql in [
        "SHOW STATS",
        "SHOW VERSION;",
        "SHOW LISTS;",
        "SHOW CONFIG;",
        "SHOW CLIENTS;",
        "SHOW databases;",
        "SHOW stats_totals;",
        "SHOW pools;",
    ] {
        // Other types come as bytes there, and every label as <invalid>.
        let frames = wire.query(sql);
        for (name, oid) in described(&frames[0]) {
            assert!([S, I, N].contains(&oid), "{sql} {name}");
        }
        scraped.insert(sql, rows(&mut wire, sql));
    }
    let version = &scraped["SHOW VERSION;"][0]["version"];
    let version = version.strip_prefix("PgBouncer ").unwrap();
    assert_eq!(version.split(' ').next(), Some("1.25.2"));
    // One set of labels twice fails the whole scrape.
    for (sql, labels) in [
        ("SHOW databases;", &["name"][..]),
        ("SHOW stats_totals;", &["database"]),
        ("SHOW pools;", &["database", "user"]),
    ] {
        let mut seen = std::collections::HashSet::new();
        for row in &scraped[sql] {
            let key: Vec<&String> = labels.iter().map(|label| &row[*label]).collect();
            assert!(seen.insert(key), "{sql} {row:?}");
        }
    }
}

/// The exporter itself, unmodified, where it is installed. Debian has another one of
/// a similar name, which asks for a column that PgBouncer dropped in 1.8.
#[test]
fn pgbouncer_exporter_runs_unmodified() {
    let asked = std::env::var_os("PGBOUNCER_EXPORTER").map(std::path::PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|folder| folder.join("pgbouncer_exporter"));
    let Some(program) = asked.or_else(|| found.find(|program| program.is_file())) else {
        // Past the capture of the test harness, or nobody would read it.
        let message = "\nSKIP e2e/pgbouncer_exporter not in PATH nor in $PGBOUNCER_EXPORTER\n";
        std::io::stderr().write_all(message.as_bytes()).unwrap();
        return;
    };
    let world = World::new();
    world.client().rows("SELECT 1");
    let port = mothership_tests::cluster::free_port().unwrap();
    let address = world.router.psql_url("watch", "pgbouncer");
    let address = address.replace("watch@", "watch:open%20sesame@");
    let mut command = std::process::Command::new(program);
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    command.arg(format!(
        "--pgBouncer.connectionString={address}?sslmode=disable"
    ));
    let mut exporter = mothership_tests::cluster::spawn_tied(command, libc::SIGKILL).unwrap();
    let page = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).ok()?;
        Some(page)
    };
    let is_up = || page().is_some_and(|page| page.contains("\npgbouncer_up 1\n"));
    let up = poll_until(SOON, is_up);
    let last = page().unwrap_or_default();
    let _ = exporter.kill();
    let _ = exporter.wait();
    assert!(up && !last.contains("<invalid>"), "{last}");
}

/// psql ignores nothing: a message it does not like is printed.
#[test]
fn psql_reads_it_without_a_complaint() {
    let world = World::new();
    let psql = mothership_tests::binaries().program("psql");
    let output = std::process::Command::new(psql)
        .args([
            "-X",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            "SHOW HELP",
            "-c",
            "SHOW STATS",
        ])
        .args(["-c", "SHOW FDS", "-c", "PAUSE", "-c", "RESUME"])
        .arg(world.router.psql_url("root", "mothership"))
        .env("PGPASSWORD", PASSWORD)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert!(err.starts_with("NOTICE:  Console usage\nDETAIL:"), "{err}");
    assert!(
        !err.contains("ERROR") && out.contains("RESUME"),
        "{out}\n{err}"
    );
}

#[test]
fn the_routers_own_user_comes_in_over_the_unix_socket() {
    let world = World::new();
    let psql = mothership_tests::binaries().program("psql");
    let folder = world.router.unix_folder();
    let run = |user: &str| {
        std::process::Command::new(&psql)
            .args(["-X", "-w", "-At", "-c", "SHOW STATE"])
            .arg(format!(
                "host='{folder}' port={} user={user} dbname=pgbouncer",
                world.router.port()
            ))
            .env_remove("PGPASSWORD")
            .output()
            .unwrap()
    };
    let output = run("pgbouncer");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "active|yes\npaused|no\nsuspended|no\n"
    );
    assert!(!run("root").status.success(), "others need their password");
}

#[test]
fn the_console_can_be_reached_until_the_last_client_has_left() {
    let mut world = World::new();
    let mut admin = world.console("root");
    let mut client = world.client();
    client.rows("SELECT 1");
    assert_eq!(get(&world, "/health/ready").0, 200);
    assert_eq!(state(&mut admin, "SHUTDOWN WAIT_FOR_CLIENTS"), "ok");
    assert_eq!(get(&world, "/health/ready").0, 503);
    assert_eq!(get(&world, "/health/live").0, 200);
    client.rows("SELECT 2");
    let psql = mothership_tests::binaries().program("psql");
    let folder = world.router.unix_folder();
    let seen = std::process::Command::new(psql)
        .args(["-X", "-w", "-At", "-c", "SHOW LISTS"])
        .arg(format!(
            "host='{folder}' port={} user=pgbouncer dbname=pgbouncer",
            world.router.port()
        ))
        .output()
        .unwrap();
    assert!(
        seen.status.success(),
        "{}",
        String::from_utf8_lossy(&seen.stderr)
    );
    drop(client);
    assert!(world.router.wait(SOON).success());
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

/// One request: status and body.
fn get(world: &World, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    send(world, request.as_bytes())
}

fn send(world: &World, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", world.router.metrics_port())).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

#[test]
fn prometheus_reads_every_figure() {
    let world = World::new();
    let Endpoint { database, user, .. } = world.endpoint();
    let mut client = world.client();
    client.rows("SELECT 1");
    client.rows("BEGIN");
    client.rows("SELECT pg_sleep(0.02)");
    state(&mut client, "SELECT 1/0");
    let (status, page) = get(&world, "/metrics");
    assert_eq!(status, 200);
    let who = format!("database=\"{database}\",user=\"{user}\"");
    let server = format!("127.0.0.1:{}", world.shards.endpoint(0).port);
    for line in [
        format!("mothership_queries_total{{{who}}} 4"),
        format!("mothership_transactions_total{{{who}}} 1"),
        format!("mothership_errors_total{{{who}}} 1"),
        format!("mothership_logins_total{{{who}}} 1"),
        format!("mothership_clients{{{who},state=\"active\"}} 1"),
        format!("mothership_server_connections{{shard=\"s1\",server=\"{server}\",{who},state=\"active\"}} 1"),
        format!("mothership_server_connections_max{{shard=\"s1\",server=\"{server}\",{who}}} 4"),
        "mothership_cores 2".to_owned(),
        "mothership_request_seconds_count{shard=\"s1\",role=\"primary\",plan=\"single\"} 3".to_owned(),
        "mothership_request_seconds_count{shard=\"none\",role=\"none\",plan=\"local\"} 1".to_owned(),
        "mothership_request_server_seconds_bucket{shard=\"s1\",role=\"primary\",plan=\"single\",le=\"+Inf\"} 3".to_owned(),
    ] {
        assert!(page.lines().any(|l| l == line), "{line}\nis not in\n{page}");
    }
    // Every line is a comment or a sample, and every family is declared once.
    let mut declared = std::collections::HashSet::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert!(
                declared.insert(rest.split(' ').next().unwrap().to_owned()),
                "{line}"
            );
        } else if !line.starts_with("# HELP ") {
            let (name, number) = line.rsplit_once(' ').unwrap();
            number.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
            let name = name.split('{').next().unwrap();
            let family = ["_bucket", "_sum", "_count"];
            let family = family
                .iter()
                .find_map(|end| name.strip_suffix(end).filter(|f| declared.contains(*f)));
            assert!(declared.contains(family.unwrap_or(name)), "{line}");
        }
    }
}

// See: R1, R11
#[test]
fn the_http_port_has_limits() {
    let world = World::new();
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(9_000));
    assert_eq!(send(&world, long.as_bytes()).0, 431);
    assert_eq!(send(&world, b"POST /metrics HTTP/1.1\r\n\r\n").0, 405);
    assert_eq!(get(&world, "/nothing").0, 404);
    assert_eq!(get(&world, "/health").0, 200);
    // Slow ones wait for their deadline and hold up nobody else.
    let slow: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream =
                TcpStream::connect(("127.0.0.1", world.router.metrics_port())).unwrap();
            stream.write_all(b"GET /met").unwrap();
            stream
        })
        .collect();
    let begun = Instant::now();
    assert_eq!(get(&world, "/health/live").0, 200);
    assert!(begun.elapsed() < Duration::from_secs(5));
    for mut stream in slow {
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut answer = Vec::new();
        // The deadline closes it, with or without a reset.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty());
    }
    assert!(begun.elapsed() < SOON);
}
