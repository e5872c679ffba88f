//! A thousand clients against a router with few server connections: does anything
//! of one reach another, does anything hang, does anything stay behind?
//!
//! Every session has a random mark and asks only for values that carry it. What
//! arrives is searched for marks of others, and held against what the request must
//! be answered by. CLIENTS, SECONDS and SEED come from the environment; see
//! `make canary`. Three shards, each a PostgreSQL of its own; declared tables.

#![allow(clippy::unwrap_used)] // A proof that cannot go on has nothing better than to say where.

mod mark;

mod session;

mod world;

mod ask;

mod keep;

mod cut;

mod client;

mod watch;

use crate::session::{Fault, ROLE, Session};
use crate::watch::Watch;
use crate::world::World;
use mothership_tests::level;
use mothership_tests::proof::{self, Verdict, number};
use mothership_tests::shared::PASSWORD;
use mothership_tests::{Fleet, Folder, Router, Wire, poll_until};
use rustls::{ClientConfig, RootCertStore};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio_rustls::TlsConnector;

/// Server connections of each pool, far fewer than clients.
const POOL: u64 = 20;
/// How long an answer may take when a thousand clients share two cores.
const ANSWER: Duration = Duration::from_secs(150);
/// How long what is to vanish may take.
const SOON: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let clients = number("CLIENTS", 1000);
    let seconds = Duration::from_secs(number("SECONDS", 300));
    let seed = proof::seed();
    // One for each client, and one more for its cancels.
    proof::raise_descriptor_limit();
    let folder = Folder::new("canary");
    let fleet = Fleet::new(3, 0);
    let (router, tls) = start(&folder, &fleet);
    let world = Arc::new(World::new(router.port(), ANSWER, tls, seed));
    let mut verdict = Verdict::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();

    runtime.block_on(plant(&world, &router, &mut verdict));
    let mut watch = Watch::new(&router, &fleet);
    println!("{clients} clients for {seconds:?}, {POOL} connections to each of 3 shards");
    std::thread::scope(|scope| {
        let (until, watched) = (world.clone(), &mut watch);
        let warm = (seconds / 4).max(Duration::from_secs(5)).min(seconds / 2);
        let watching = scope.spawn(move || watched.run(&until, warm));
        let begun = Instant::now();
        let late = runtime.block_on(crowd(clients, seconds, seed, &world));
        verdict.claim(late == 0, "clients that did not end", late);
        println!("     {:.0} s in all", begun.elapsed().as_secs_f64());
        watching.join().unwrap();
    });
    drop(runtime);
    println!("     counts: {:?}", world.counts());
    let did = world.counts().len();
    verdict.claim(did > 8, "many kinds of requests were made", did);
    for kind in ["foreign", "hang", "order", "closed"] {
        let count = world.faults().get(kind).copied().unwrap_or(0);
        verdict.claim(count == 0, &format!("faults: {kind}"), count);
    }
    let away = world.faults().get("turned away").copied().unwrap_or(0);
    let done: u64 = world.counts().values().sum();
    let figure = format!("{away} beside {done}");
    verdict.claim(away * 100 <= done, "hardly anybody was turned away", figure);
    watch.judge(POOL, &mut verdict);
    level::nothing_left(&router, &fleet, ROLE, SOON, &mut verdict);
    watch::rows_are_whole(&fleet, &world, &mut verdict);
    if !world.faults().is_empty() {
        let log = router.log();
        let tail: Vec<&str> = log.lines().rev().take(20).collect();
        println!(
            "the end of the router's log, backwards:\n{}",
            tail.join("\n")
        );
    }
    verdict.exit()
}

/// Lets clients do what they do; returns how many were still there long after the end.
async fn crowd(clients: u64, seconds: Duration, seed: u64, world: &Arc<World>) -> usize {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..clients as usize {
        tasks.spawn(client::run(number, seed, world.clone()));
    }
    tokio::time::sleep(seconds).await;
    world.end.store(true, Ordering::Relaxed);
    let all = async {
        while let Some(done) = tasks.join_next().await {
            if let Err(error) = done {
                let fault = Fault::Order(format!("a client panicked: {error}"));
                world.fault(0, "anything", &fault);
            }
        }
    };
    let _ = tokio::time::timeout(ANSWER * 2, all).await;
    tasks.len()
}

/// A foreign row is planted and must be noticed: else nothing below would prove anything.
async fn plant(world: &World, router: &Router, verdict: &mut Verdict) {
    let mut session = Session::open(world, true).await.unwrap();
    let (other, _) = world.next_session();
    let role = router.endpoint(ROLE, PASSWORD, "postgres");
    let key = session.first_key;
    let sql = format!("INSERT INTO marks (id, mark, n) VALUES ({key}, '{other}', 0)");
    let put = tokio::task::spawn_blocking(move || Wire::login(&role).query(&sql).len());
    assert_eq!(put.await.unwrap(), 2);
    let noticed = keep::read(&mut session).await;
    let noticed = matches!(noticed, Err(Fault::Foreign(_)));
    verdict.claim(
        noticed,
        "a planted row of another session is noticed",
        noticed,
    );
    let mut session = Session::open(world, false).await.unwrap();
    let sql = format!("DELETE FROM marks WHERE id = {key}");
    let done = ["CommandComplete DELETE 1", "ReadyForQuery I"];
    session.expect(&sql, &done).await.unwrap();
    session.leave().await.unwrap();
}

/// The router, with TLS, its tables made; and how clients trust its certificate.
fn start(folder: &Folder, fleet: &Fleet) -> (Router, TlsConnector) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    std::fs::write(&certificate, pem("CERTIFICATE", made.cert.der())).unwrap();
    std::fs::write(&key, pem("PRIVATE KEY", &made.signing_key.serialize_der())).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let trust = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let password = PASSWORD.replace('\'', "''");
    let role = format!(
        "CREATE ROLE {ROLE} LOGIN PASSWORD '{password}'; GRANT ALL ON SCHEMA public TO {ROLE}"
    );
    proof::on_all(fleet, &role);
    let more = format!(
        r#"
[tls]
mode = "allow"
certificate = "{}"
key = "{}"
[[auth.rule]]
tls = false
users = "{ROLE}"
method = "trust"
[[auth.rule]]
method = "scram-sha-256"
[[user]]
name = "{ROLE}"
password = "{PASSWORD}"
[pool]
max = {POOL}
min = 0
idle_timeout = "2s"
queue_timeout = "2min"
join_timeout = "2min"
queue_length = 2000
connect_timeout = "1min"
[limits]
queue_length = 2000
[[table]]
name = "marks"
key = "id"
key_type = "int8"
[[table]]
name = "tags"
kind = "reference"
"#,
        certificate.display(),
        key.display()
    );
    // A machine with a thousand clients to serve at once is slow, which is no fault here.
    let (listen, control) = ("login_timeout = \"2min\"", "timeout = \"1min\"");
    let router = Router::start(&proof::config(fleet, listen, control, &more));
    let mut wire = Wire::login(&router.endpoint(ROLE, PASSWORD, "postgres"));
    for sql in [
        "CREATE TABLE marks (id int8 PRIMARY KEY, mark text NOT NULL, n int8 NOT NULL)",
        "CREATE TABLE tags (id int8 PRIMARY KEY, mark text NOT NULL)",
        "CREATE TABLE notes (id int8 PRIMARY KEY, mark text NOT NULL)",
        "CREATE FUNCTION canary_say(what text) RETURNS text LANGUAGE plpgsql AS \
            'BEGIN RAISE NOTICE ''%'', what; RETURN what; END'",
        "CREATE FUNCTION canary_fail(what text) RETURNS text LANGUAGE plpgsql AS \
            'BEGIN RAISE EXCEPTION ''%'', what; END'",
    ] {
        let frames = wire.query(sql);
        assert!(frames.iter().all(|f| f.kind != b'E'), "{sql}: {frames:?}");
    }
    drop(wire);
    let idle = poll_until(SOON, || level::server_connections(fleet, ROLE) == 0);
    assert!(idle, "connections of the router stay open");
    (router, TlsConnector::from(Arc::new(trust)))
}

/// A file's text as of RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len())
        .step_by(64)
        .map(|at| &text[at..text.len().min(at + 64)])
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}
