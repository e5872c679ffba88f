//! What is used up: the log, descriptors, memory, buffers, addresses of a name.

use super::stage::{LIMIT, Stage, state};
use mothership_tests::message::{self, Format, V3_0};
use mothership_tests::router::may_have_own_hosts;
use mothership_tests::{Endpoint, Frame, Router, Shards, Wire, poll_until};
use std::fmt::Write;
use std::time::{Duration, Instant};

// R11
#[test]
fn nobody_fills_the_log_or_writes_lines_of_his_own() {
    let stage = Stage::with(
        "[listen]\nport = @port@\n[limits]\nlog_rate = 3\nlog_text = 40\nwrong_password_pause = \"0s\"",
    );
    let bystander = stage.bystander();
    let begun = Instant::now();
    for n in 0..60 {
        let endpoint = Endpoint {
            user: format!("u{n}\n2026-01-01 ERROR forged {}", "x".repeat(30)),
            ..stage.endpoint()
        };
        let mut wire = Wire::connect(endpoint.port);
        assert!(wire.try_login(&endpoint, V3_0, &[]).is_err());
    }
    let left_out = || stage.router.log().contains("log lines were left out");
    assert!(
        poll_until(LIMIT, left_out),
        "it is not told that lines are missing"
    );
    let log = stage.router.log();
    let seconds = begun.elapsed().as_secs() as usize + 1;
    let failed = log.matches("login failed").count();
    println!("{failed} lines in {seconds} s");
    assert!(failed <= 3 * (seconds + 1), "{failed} lines in {seconds} s");
    assert!(!log.contains("\n2026-01-01 ERROR forged"), "{log}");
    assert!(
        !log.contains("xxxxxxxxxx"),
        "a text is longer than limits.log_text"
    );
    bystander.noticed_nothing();
}

// A stranger found it: a text of 20 MB held up everybody on its core for seconds.
#[test]
#[ignore = "long"]
fn whoever_sends_a_large_text_holds_up_nobody_else() {
    let stage = Stage::with("[listen]\nport = @port@\nworkers = 1");
    let bystander = stage.bystander();
    // The server sees that it is no SQL at the third word.
    let sql = format!("SELECT 1{}", " 1".repeat(4 << 20));
    let mut wire = stage.wire();
    let parsed = [message::parse("", &sql, &[]), message::sync()].concat();
    for request in [message::query(&sql), parsed] {
        bystander.longest_wait();
        let begun = Instant::now();
        assert_eq!(state(&mut wire, &request), "42601");
        let (took, waited) = (begun.elapsed(), bystander.longest_wait());
        println!("{took:?}, of which the bystander waited {waited:?}");
        assert!(waited * 2 < took, "{took:?}: {waited:?}");
    }
    bystander.noticed_nothing();
}

// A stranger found it: to look for the names of code in a large text, or to plan many statements, held up everybody.
#[test]
#[ignore = "long"]
fn whoever_sends_a_text_for_which_code_is_looked_for_holds_up_nobody_else() {
    let stage = Stage::with("[listen]\nport = @port@\nworkers = 1");
    let mut wire = stage.wire();
    wire.set_limit(LIMIT * 6);
    wire.query(
        "CREATE FUNCTION sets_a_path() RETURNS text LANGUAGE plpgsql AS \
         $$ BEGIN RETURN set_config('search_path', 'pg_catalog', false); END $$",
    );
    let bystander = stage.bystander();
    let names = format!("SET search_path = a{}", ", a".repeat(3 << 20));
    let columns: String = (0..1 << 19).map(|n| format!(", app.c{n}")).collect();
    for (sql, state_of) in [
        (names, "53400"),
        ("BEGIN;COMMIT;".repeat(1 << 18), ""),
        (format!("SELECT sets_a_path(){columns}"), "42P01"),
    ] {
        // A machine that is busy makes somebody wait now and then; the router would do so each time.
        let mut goes_on = || {
            bystander.longest_wait();
            let begun = Instant::now();
            assert_eq!(state(&mut wire, &message::query(&sql)), state_of);
            let (took, waited) = (begun.elapsed(), bystander.longest_wait());
            println!("{took:?}, of which the bystander waited {waited:?}");
            waited * 8 < took
        };
        assert!((0..3).any(|_| goes_on()), "{}", &sql[..20]);
    }
    bystander.noticed_nothing();
}

// R13
#[test]
fn without_descriptors_it_waits_and_whoever_is_connected_is_served() {
    let stage = Stage::with(
        "[listen]\nport = @port@\nworkers = 1\nlogin_timeout = \"1h\"\n[pool]\nmin = 1\n\
         [limits]\naccept_pause = \"100ms\"\ndescriptor_reserve = \"0%\"",
    );
    let bystander = stage.bystander();
    let most = u64::try_from(stage.router.open_descriptors()).unwrap() + 8;
    let before = stage.router.limit_descriptors(most);
    let waiting: Vec<Wire> = (0..60)
        .map(|_| Wire::connect(stage.router.port()))
        .collect();
    let out = || stage.router.log().matches("could not be accepted").count() > 1;
    assert!(poll_until(LIMIT, out), "it is not out of descriptors");
    // It pauses: the accepts that fail are few, and none of them is a spin.
    let pauses = stage.router.log().matches("could not be accepted").count();
    assert!(pauses < 100, "{pauses} attempts");
    bystander.goes_on();
    stage.router.limit_descriptors(before);
    drop(waiting);
    stage.wire();
    bystander.noticed_nothing();
}

// R13
#[test]
fn the_last_descriptors_are_for_servers_and_administrators() {
    let stage = Stage::with(
        "[listen]\nport = @port@\nworkers = 1\n[pool]\nmin = 1\n\
         [limits]\ndescriptor_reserve = \"40%\"",
    );
    let bystander = stage.bystander();
    let mut idle: Vec<Wire> = (0..3).map(|_| stage.wire()).collect();
    let most = u64::try_from(stage.router.open_descriptors()).unwrap() * 2;
    let before = stage.router.limit_descriptors(most);
    let mut clients = Vec::new();
    let refused = (0..most).find_map(|_| {
        let mut wire = Wire::connect(stage.router.port());
        match wire.try_login(&stage.endpoint(), V3_0, &[]) {
            Ok(_) => {
                clients.push(wire);
                None
            }
            Err(error) => Some(error),
        }
    });
    let refused = refused.expect("nobody was refused");
    assert_eq!(refused.sqlstate(), "53300", "{refused}");
    let hint = refused.field('H').unwrap_or_default();
    assert!(hint.contains("limits.descriptor_reserve"), "{hint}");
    // Whoever is in gets a server connection of its own, and the console is open.
    for wire in &mut idle {
        wire.query("BEGIN");
        assert_eq!(wire.rows("SELECT 1"), [["1"]]);
    }
    assert!(!stage.console().query("SHOW VERSION").is_empty());
    assert!(!stage.router.log().contains("could not be accepted"));
    stage.router.limit_descriptors(before);
    stage.wire();
    bystander.noticed_nothing();
}

#[test]
#[ignore = "long"]
fn a_process_short_of_memory_refuses_clients_then_transactions_and_recovers() {
    let stage = Stage::with(
        "[listen]\nport = @port@\nworkers = 1\n[limits]\nmemory = \"160MiB\"\n\
         client_statements_size = \"1GiB\"\nshared_statements_size = \"1GiB\"\n[metrics]\nport = @metrics_port@",
    );
    let (mut known, mut holder) = (stage.wire(), stage.wire());
    holder.query("BEGIN");
    assert_eq!(holder.rows("SELECT 1"), [["1"]]);
    // Prepared statements, which nobody but their clients can give up. Of messages that are not whole the largest go first.
    let mut hogs: Vec<Wire> = (0..100).map(|_| stage.wire()).collect();
    // Memory is measured every 50 ms, while some steps are made: together they must not lead from one level past the next.
    let more = "x".repeat(512 << 10);
    let mut steps = 0..400;
    let mut grow = || {
        let step = steps.next().expect("memory is never short");
        let turn = step % hogs.len();
        let sql = format!("SELECT '{step} {more}'");
        hogs[turn].send_all(&[
            message::parse(&format!("p{step}"), &sql, &[]),
            message::sync(),
        ]);
        hogs[turn].until_ready();
    };
    let newcomer = || {
        let mut wire = Wire::connect(stage.router.port());
        let login = wire.try_login(&stage.endpoint(), V3_0, &[]);
        login.err().map(|error| error.sqlstate())
    };
    let mut refused;
    loop {
        refused = newcomer();
        if refused.is_some() {
            break;
        }
        grow();
    }
    assert_eq!(refused.as_deref(), Some("53300"));
    assert_eq!(known.rows("SELECT 2"), [["2"]], "it was there before");
    let mut told;
    loop {
        told = state(&mut known, &message::query("SELECT 3"));
        if !told.is_empty() {
            break;
        }
        grow();
    }
    assert_eq!(told, "53300", "{}", stage.router.log());
    assert_eq!(holder.rows("SELECT 4"), [["4"]], "its transaction goes on");
    assert!(!stage.console().query("SHOW VERSION").is_empty());
    drop(hogs);
    let serves = || state(&mut known, &message::query("SELECT 5")).is_empty();
    assert!(poll_until(LIMIT, serves), "{}", stage.router.log());
    assert!(poll_until(LIMIT, || newcomer().is_none()));
    holder.query("COMMIT");
}

// R13
#[test]
fn descriptors_that_the_router_lacks_do_not_count_against_the_server() {
    let stage = Stage::with(
        "[listen]\nport = @port@\nworkers = 1\n[pool]\nmin = 0\n\
         [balance]\nprobe_interval = \"200ms\"\ndown_after = 1",
    );
    let mut wires: Vec<Wire> = (0..6).map(|_| stage.wire()).collect();
    let most = u64::try_from(stage.router.open_descriptors()).unwrap();
    let before = stage.router.limit_descriptors(most);
    // Each keeps its server connection, and there is no descriptor for as many.
    let begin = message::query("BEGIN; SELECT 1");
    let answers: Vec<Vec<Frame>> = wires
        .iter_mut()
        .map(|wire| {
            wire.send(&begin);
            wire.until_ready()
        })
        .collect();
    let errors = answers.iter().flatten().filter(|frame| frame.kind == b'E');
    let codes: Vec<String> = errors.map(Frame::sqlstate).collect();
    stage.router.limit_descriptors(before);
    assert!(
        !codes.is_empty() && codes.iter().all(|code| code == "08006"),
        "{codes:?}"
    );
    let log = stage.router.log();
    assert!(!log.contains("server is down"), "{log}");
    let again = poll_until(LIMIT, || {
        wires.iter_mut().all(|wire| {
            wire.query("ROLLBACK");
            wire.query("SELECT 1")
                .iter()
                .all(|frame| frame.kind != b'E')
        })
    });
    assert!(again, "{}", stage.router.log());
}

// R8
#[test]
fn a_pipeline_without_an_end_is_read_no_further_than_its_limit() {
    let stage = Stage::with("[listen]\nport = @port@\n[limits]\npipeline = 10");
    let bystander = stage.bystander();
    let mut wire = stage.wire();
    // Nothing in between makes the server answer; the router must see to it.
    let mut messages = vec![message::parse("s", "SELECT $1::int", &[])];
    for n in 0..200_i32 {
        let value = n.to_be_bytes();
        messages.push(message::bind(
            "",
            "s",
            Format::Binary,
            &[Some(&value)],
            Format::Text,
        ));
        messages.push(message::execute("", 0));
    }
    messages.push(message::sync());
    wire.send_all(&messages);
    let frames = wire.until_ready();
    let rows: Vec<_> = frames
        .iter()
        .filter(|f| f.kind == b'D')
        .map(|f| f.row_text())
        .collect();
    let expected: Vec<_> = (0..200).map(|n| vec![n.to_string()]).collect();
    assert_eq!(rows, expected);
    assert_eq!(state(&mut wire, &message::query("SELECT 1/0")), "22012");
    bystander.noticed_nothing();
}

// R12
#[test]
fn a_name_with_ten_thousand_addresses_costs_no_more_than_one_with_a_few() {
    const MANY: u32 = 10_000;
    if !may_have_own_hosts() {
        eprintln!("SKIP names of servers: needs root and mount namespaces");
        return;
    }
    let shards = Shards::new(1);
    let server = shards.endpoint(0);
    let config = format!(
        "[listen]\nport = @port@\n[pool]\nmin = 1\nresolve_interval = \"1s\"\n\
         [control]\nuser = \"{0}\"\npassword = \"{1}\"\n[[shard]]\nname = \"s1\"\n\
         [[shard.server]]\naddress = \"many.test:{2}\"\nrole = \"primary\"\ntls = \"disable\"\n",
        server.user, server.password, server.port
    );
    // Behind the right one nobody listens.
    let hosts = |count: u32| {
        (0..count).fold(
            "127.0.0.1 localhost many.test\n".to_owned(),
            |mut text, n| {
                let [.., high, low] = n.to_be_bytes();
                writeln!(text, "127.9.{high}.{low} many.test").unwrap();
                text
            },
        )
    };
    let router = Router::start_with_hosts(&config, &hosts(10));
    let mut wire = Wire::login(&server.at_port(router.port()));
    assert_eq!(wire.rows("SELECT 1"), [["1"]]);
    let before = router.resident_bytes();
    router.write_hosts(&hosts(MANY));
    let begun = Instant::now();
    // Each second it is asked what the name means.
    while begun.elapsed() < Duration::from_secs(5) {
        let asked = Instant::now();
        assert_eq!(wire.rows("SELECT 1"), [["1"]]);
        assert_eq!(
            Wire::login(&server.at_port(router.port())).rows("SELECT 2"),
            [["2"]]
        );
        assert!(
            asked.elapsed() < Duration::from_secs(5),
            "clients wait for names"
        );
    }
    let grown = router.resident_bytes().saturating_sub(before);
    println!("{grown} bytes more with {MANY} addresses");
    assert!(grown < 16 << 20, "{grown} bytes");
}
