//! More requests than there are connections: how many wait, who is refused, and what they are told.

use super::stage::{LIMIT, Stage};
use mothership_tests::proxy::{Proxy, Travel};
use mothership_tests::{Endpoint, Frame, Router, Shards, Wire, message, poll_until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// One connection, over two cores, and who waits by its application's name.
const NARROW: &str = "[listen]\nport = @port@\nworkers = 2\n[pool]\nmax = 1\nmin = 1\nqueue_length = 4\n\
    [[rule]]\nname = \"low\"\napplications = \"low*\"\naction = \"pool\"\npool = \"one\"\npriority = -10\n\
    [[rule]]\nname = \"high\"\napplications = \"high*\"\naction = \"pool\"\npool = \"one\"\npriority = 10\n\
    [[rule]]\nname = \"other\"\napplications = \"other*\"\naction = \"pool\"\npool = \"two\"\n\
    [[rule]]\nname = \"rest\"\napplications = \"plain*\"\naction = \"pool\"\npool = \"one\"\n";

fn named(stage: &Stage, name: &str) -> Wire {
    let mut wire = Wire::login_with(&stage.endpoint(), &[("application_name", name)]);
    wire.set_limit(LIMIT * 2);
    wire
}

/// A client that has the connection of its pool.
fn holder(stage: &Stage, name: &str) -> Wire {
    let mut wire = named(stage, name);
    wire.query("BEGIN");
    assert_eq!(wire.rows("SELECT 1"), [["1"]]);
    wire
}

fn error(frames: &[Frame]) -> &Frame {
    let error = frames.iter().find(|frame| frame.kind == b'E');
    error.unwrap_or_else(|| panic!("no error: {frames:?}"))
}

/// Asks, and waits until so many requests wait.
fn ask(stage: &Stage, wire: &mut Wire, number: usize, waiting: usize) {
    // Through both protocols.
    match number % 2 {
        0 => wire.send(&message::query("SELECT 1")),
        _ => wire.send_all(&[
            message::parse("", "SELECT 1", &[]),
            message::bind_text(&[]),
            message::execute("", 0),
            message::sync(),
        ]),
    }
    wait_for(stage, waiting);
}

/// One column of the pools that there are.
fn of_pools(stage: &Stage, column: &str) -> Vec<u64> {
    let frames = stage.console().query("SHOW POOLS_EXTENDED");
    let mut columns = frames[0].columns().into_iter();
    let at = columns.position(|c| c == column).unwrap();
    let rows = frames.iter().filter(|frame| frame.kind == b'D');
    rows.map(|row| row.row_text()[at].parse().unwrap())
        .collect()
}

fn wait_for(stage: &Stage, count: usize) {
    let waiting = || of_pools(stage, "waiting").iter().sum::<u64>() as usize;
    assert!(
        poll_until(LIMIT, || waiting() == count),
        "{} wait",
        waiting()
    );
}

/// All that an error says.
fn said(error: &Frame) -> String {
    let field = |field| error.field(field).unwrap_or_default();
    [field('M'), field('D'), field('H')].join("; ")
}

#[test]
fn a_queue_is_as_long_over_all_cores_as_its_setting_says_and_one_more_is_told_so() {
    let stage = Stage::with(NARROW);
    let mut first = holder(&stage, "plain");
    let mut waiting: Vec<Wire> = (0..4).map(|_| named(&stage, "plain")).collect();
    for (number, wire) in waiting.iter_mut().enumerate() {
        ask(&stage, wire, number, number + 1);
    }
    for number in 0..8 {
        let mut wire = named(&stage, "plain");
        ask(&stage, &mut wire, number, 4);
        let frames = wire.until_ready();
        let refused = error(&frames);
        assert_eq!(refused.sqlstate(), "53300");
        let said = said(refused);
        assert!(said.contains("4 requests already wait"), "{said}");
        assert!(said.contains("pool.queue_length"), "{said}");
    }
    // Another pool has a queue of its own.
    let mut other = named(&stage, "other");
    assert_eq!(other.rows("SELECT 2"), [["2"]]);
    first.query("COMMIT");
    for wire in &mut waiting {
        assert!(wire.until_ready().iter().all(|frame| frame.kind != b'E'));
    }
    assert_eq!(first.rows("SELECT 3"), [["3"]]);
}

#[test]
fn all_queues_together_are_as_long_as_the_setting_of_the_router_says() {
    let stage = Stage::with(&format!("{NARROW}[limits]\nqueue_length = 3\n"));
    let (mut one, mut two) = (holder(&stage, "plain"), holder(&stage, "other"));
    let mut waiting: Vec<Wire> = ["plain", "plain", "other"]
        .map(|name| named(&stage, name))
        .into();
    for (number, wire) in waiting.iter_mut().enumerate() {
        ask(&stage, wire, number, number + 1);
    }
    for name in ["plain", "other"] {
        let mut wire = named(&stage, name);
        let frames = wire.query("SELECT 1");
        let refused = said(error(&frames));
        assert!(refused.contains("limits.queue_length"), "{refused}");
    }
    // Somebody with a higher priority is let in, in the place of one of the longer queue.
    let mut high = named(&stage, "high");
    high.send(&message::query("SELECT 1"));
    // Which of the two is the newest is known on each core for itself.
    let mut told = None;
    let one_is_told = poll_until(LIMIT, || {
        let mut longer = waiting.iter_mut().take(2);
        told = longer.position(|wire| wire.try_frame(Duration::from_millis(20)).is_ok());
        told.is_some()
    });
    assert!(one_is_told, "nobody gives way");
    wait_for(&stage, 3);
    one.query("COMMIT");
    two.query("COMMIT");
    waiting.remove(told.unwrap());
    waiting.push(high);
    for wire in &mut waiting {
        assert!(wire.until_ready().iter().all(|frame| frame.kind != b'E'));
    }
}

#[test]
fn a_higher_priority_takes_the_place_of_the_newest_of_the_lowest() {
    let stage = Stage::with(NARROW);
    let mut first = holder(&stage, "plain");
    let mut waiting: Vec<(&str, Wire)> = ["low-1", "low-2", "plain-1", "plain-2"]
        .map(|name| (name, named(&stage, name)))
        .into();
    for (number, (_, wire)) in waiting.iter_mut().enumerate() {
        ask(&stage, wire, number, number + 1);
    }
    // Nobody has fewer points than this one.
    assert_eq!(
        error(&named(&stage, "low-3").query("SELECT 1")).sqlstate(),
        "53300"
    );
    for number in 0..2 {
        let mut high = named(&stage, "high");
        high.send(&message::query("SELECT 1"));
        // Which of them is the newest is known on each core for itself.
        let mut told = None;
        let one_is_told = poll_until(LIMIT, || {
            told = waiting.iter_mut().position(|(name, wire)| {
                name.starts_with("low") && wire.try_frame(Duration::from_millis(20)).is_ok()
            });
            told.is_some()
        });
        assert!(one_is_told, "nobody gives way to request {number}");
        waiting.remove(told.unwrap());
        waiting.push(("high", high));
        wait_for(&stage, 4);
    }
    let mut plain = named(&stage, "plain-3");
    assert_eq!(error(&plain.query("SELECT 1")).sqlstate(), "53300");
    first.query("COMMIT");
    for (name, wire) in &mut waiting {
        let frames = wire.until_ready();
        assert!(frames.iter().all(|frame| frame.kind != b'E'), "{name}");
    }
}

#[test]
fn logins_that_come_together_ask_a_server_once_and_are_not_too_many_for_its_queue() {
    let stage = Stage::with(NARROW);
    let endpoint = stage.endpoint();
    let crowd: Vec<Wire> = (0..100)
        .map(|_| {
            let mut wire = Wire::connect(endpoint.port);
            wire.set_limit(LIMIT * 2);
            let own = [("user", &*endpoint.user), ("database", &*endpoint.database)];
            wire.send(&message::startup(message::V3_0, &own));
            wire
        })
        .collect();
    let logins: Vec<_> = crowd
        .into_iter()
        .map(|mut wire| {
            let endpoint = endpoint.clone();
            std::thread::spawn(move || wire.finish_login(&endpoint))
        })
        .collect();
    for login in logins {
        let refused = login.join().unwrap();
        assert!(refused.is_ok(), "{}", refused.unwrap_err());
    }
}

/// A role of the servers that may have so many connections.
fn with_few(stage: &Stage, few: u32) -> Endpoint {
    let make = format!("CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT {few}");
    stage.shards.sql(0, &make);
    Endpoint {
        user: "few".into(),
        password: "few".into(),
        ..stage.endpoint()
    }
}

#[test]
#[ignore = "long"]
fn a_server_that_takes_no_more_connections_makes_requests_wait_and_the_pool_smaller() {
    let stage = Stage::with(
        "[listen]\nport = @port@\nworkers = 2\n[pool]\nmax = 20\nmin = 1\nqueue_timeout = \"20s\"",
    );
    let endpoint = with_few(&stage, 2);
    let login = || {
        let mut wire = Wire::login(&endpoint);
        wire.set_limit(LIMIT * 2);
        wire
    };
    let clients: Vec<Wire> = (0..12).map(|_| login()).collect();
    let all: Vec<_> = clients
        .into_iter()
        .map(|mut wire| {
            std::thread::spawn(move || {
                let mut answers = Vec::new();
                for _ in 0..10 {
                    answers.push(wire.rows("SELECT 7, pg_sleep(0.01)").len());
                }
                answers
            })
        })
        .collect();
    for one in all {
        assert_eq!(one.join().unwrap(), [1; 10]);
    }
    let mut holders: Vec<Wire> = (0..2).map(|_| login()).collect();
    for wire in &mut holders {
        wire.query("BEGIN");
        assert_eq!(wire.rows("SELECT 1"), [["1"]]);
    }
    let mut late = login();
    let frames = late.query("SELECT 1");
    let refused = error(&frames);
    assert_eq!(refused.sqlstate(), "53300");
    let said = said(refused);
    assert!(said.contains("too many connections for role"), "{said}");
    // The pool knows that it has two, and says so.
    late.send(&message::query("SELECT 1"));
    let seen = poll_until(LIMIT, || {
        let shown = of_pools(&stage, "max")
            .into_iter()
            .zip(of_pools(&stage, "max_now"));
        shown.into_iter().any(|shown| shown == (20, 2))
    });
    assert!(seen, "the pool is as large as before");
    for wire in &mut holders {
        wire.query("COMMIT");
    }
    let frames = late.until_ready();
    assert!(frames.iter().all(|frame| frame.kind != b'E'), "{frames:?}");
    stage.shards.sql(0, "ALTER ROLE few CONNECTION LIMIT -1");
    assert_eq!(late.rows("SELECT 2"), [["2"]]);
    // With more room it grows again.
    let more = poll_until(LIMIT, || {
        let mut many: Vec<Wire> = (0..3).map(|_| login()).collect();
        many.iter_mut().all(|wire| {
            wire.query("BEGIN");
            let frames = wire.query("SELECT 1");
            frames.iter().all(|frame| frame.kind != b'E')
        })
    });
    assert!(more, "the pool stays small");
}

#[test]
fn a_shard_that_becomes_slow_takes_nothing_from_another_one() {
    let shards = Shards::new(2);
    shards.sql_all("CREATE TABLE orders (customer_id int8 PRIMARY KEY)");
    let port = shards.endpoint(0).port;
    let proxy = Proxy::to(port);
    let tables = "[[table]]\nname = \"orders\"\nkey = \"customer_id\"\n";
    // The last one is behind the proxy: whoever logs in needs the home shard, the first.
    let config = crate::explain::config(&shards, tables);
    let (before, after) = config.rsplit_once(&format!(":{port}\"")).unwrap();
    let config = format!("{before}:{}\"{after}", proxy.port());
    let pool = "[balance]\nprobe_timeout = \"20s\"\n\
                [pool]\nmax = 4\nqueue_length = 8\nconnect_timeout = \"20s\"\n";
    let listen = "[listen]\nlogin_timeout = \"1min\"\n";
    let config = config.replace("[pool]\n", pool);
    let router = Router::start(&config.replace("[listen]\n", listen));
    let endpoint = Endpoint {
        database: "shop".into(),
        ..shards.endpoint(0).at_port(router.port())
    };
    let key_of = |shard: &str| {
        let mut wire = Wire::login(&endpoint);
        let mut is_of = |key: &i32| {
            let sql = format!("EXPLAIN (ROUTE) SELECT * FROM orders WHERE customer_id = {key}");
            let lines = wire.rows(&sql).concat();
            lines.contains(&format!("Shards: {shard}"))
        };
        let key = (0..100).find(&mut is_of);
        key.expect("one of a hundred keys is of each shard")
    };
    let ask = |key: i32| format!("SELECT count(*) FROM orders WHERE customer_id = {key}");
    let (slow, quick) = (ask(key_of("s1")), ask(key_of("s0")));
    // A login waits for the home shard as any request does, and 40 at once are more than its queue takes.
    let clients: Vec<Wire> = (0..40)
        .map(|_| {
            let mut wire = Wire::login(&endpoint);
            wire.set_limit(LIMIT * 2);
            wire
        })
        .collect();
    let memory = router.resident_bytes();
    proxy.travel_both(Travel {
        latency: Duration::from_millis(100),
        ..Travel::default()
    });
    let over = Arc::new(AtomicBool::new(false));
    let crowd: Vec<_> = clients
        .into_iter()
        .map(|mut wire| {
            let (slow, over) = (slow.clone(), Arc::clone(&over));
            std::thread::spawn(move || {
                let (mut served, mut refused) = (0, 0);
                while !over.load(Ordering::Relaxed) {
                    let frames = wire.query(&slow);
                    match frames.iter().find(|frame| frame.kind == b'E') {
                        None => served += 1,
                        Some(error) => {
                            assert_eq!(error.sqlstate(), "53300", "{error}");
                            refused += 1;
                            // As it is told: later. Who asks again at once keeps a small machine busy with nothing
                            // but that.
                            std::thread::sleep(Duration::from_millis(20));
                        }
                    }
                }
                (served, refused)
            })
        })
        .collect();
    // Meanwhile others come, are let in, and are answered by the other shard.
    let (mut longest, mut slowest) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..50 {
        let begun = Instant::now();
        let mut wire = Wire::login(&endpoint);
        longest = longest.max(begun.elapsed());
        let begun = Instant::now();
        assert_eq!(wire.rows(&quick), [["0"]]);
        slowest = slowest.max(begun.elapsed());
    }
    over.store(true, Ordering::Relaxed);
    let sums = crowd.into_iter().map(|client| client.join().unwrap());
    let (served, refused) = sums.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!(
        "served {served}, refused {refused}; longest login {longest:.0?}, slowest answer of the other shard {slowest:.0?}"
    );
    assert!(
        served > 0 && refused > 0,
        "served {served}, refused {refused}"
    );
    // Those of the pool, the router's own, and some whose end is still under way.
    assert!(proxy.open() <= 16, "{} connections", proxy.open());
    let grown = router.resident_bytes().saturating_sub(memory);
    assert!(grown < 64 << 20, "{grown} bytes");
    proxy.heal();
    let mut wire = Wire::login(&endpoint);
    assert_eq!(wire.rows(&slow), [["0"]]);
}
