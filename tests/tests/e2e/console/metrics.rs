//! Figures over HTTP.

use super::stage::{I, N, PASSWORD, S, SOON, World, described, get, rows, send, state};
use mothership_tests::{Endpoint, Wire, poll_until};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

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
#[ignore = "long"]
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
