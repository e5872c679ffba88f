//! What SHOW says: PgBouncer's tables and our own.

use super::stage::{I, N, Q, S, SOON, World, described, rows, state};
use mothership_tests::message;
use mothership_tests::{Wire, poll_until};

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
    assert!(rows(&mut wire, "SHOW TRANSACTIONS").is_empty());
    for id in 1..=3 {
        client.rows(&format!("SELECT 'secret' WHERE 'secret' <> 'x{id}'"));
    }
    let plans = rows(&mut wire, "SHOW PLANS");
    assert_eq!(
        (&*plans[0]["uses"], &*plans[0]["plan"], &*plans[0]["shape"]),
        ("3", "single", "select ? where ? <> ?")
    );
}
