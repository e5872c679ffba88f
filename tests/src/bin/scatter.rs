//! What a statement over three shards costs the router, beside one of one shard; and what it holds in memory while it
//! merges a stream of sorted rows.
//!
//! Each kind of statement runs for SECONDS with 4 and with 16 clients, and the processor time of the router is divided
//! by the statements. The bar is twice the price of a single-shard statement and 2 us for each message of a shard. That
//! statement looks up a row, thousands of times a second, and what comes together is served by one wake-up; a count of
//! 10,000 rows keeps the servers busy, and each answer wakes the router. So the same count over one shard is priced,
//! too, and the bar that would come of it is shown. What was tried to come below it is in docs/adr/0001.
//!
//! Then ROWS rows come sorted from all shards to a client that reads them as they come, and once to one that stops
//! reading in the middle. Last, how long a gathered statement takes beyond its parts: what its shards are asked, one
//! after the other, and what runs on their rows. See `make scatter`.

#![allow(clippy::unwrap_used)] // A proof that cannot go on has nothing better than to say where.

use mothership_tests::fleet::Shard;
use mothership_tests::proof::{self, Verdict, number};
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Fleet, Router, Wire, message};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SHARDS: u64 = 3;
/// The rows of the table.
const STORED: u64 = 30_000;
/// Every answer comes within it.
const LIMIT: Duration = Duration::from_secs(120);
/// What the router may grow by while it merges: buffers, and nothing that grows with the rows.
const ROOM: u64 = 16 << 20;
/// The rows of a gathered statement, how often it runs, and the bar for what it takes beyond its parts.
const GATHERED: usize = 1_000;
const RUNS: usize = 200;
const BEYOND: Duration = Duration::from_millis(5);

/// A kind of statement, and how many messages its shards send.
struct Kind {
    name: &'static str,
    sql: &'static str,
    messages: u64,
}

const SINGLE: &str = "SELECT v FROM numbers WHERE id = 4711";
/// Of a table at home that is as large as a shard's part of the other.
const COUNT_OF_ONE: &str = "SELECT count(*) FROM part";

const KINDS: [Kind; 4] = [
    Kind {
        name: "count(*)",
        sql: "SELECT count(*) FROM numbers",
        messages: SHARDS * 4,
    },
    Kind {
        name: "sum by 1,000 groups",
        sql: "SELECT g, sum(v) FROM numbers GROUP BY g",
        // The groups of each shard, and those of the server that puts them together.
        messages: SHARDS * 1_005 + 1_005,
    },
    Kind {
        name: "top 10",
        sql: "SELECT id, v FROM numbers ORDER BY v DESC, id LIMIT 10",
        messages: SHARDS * 16,
    },
    Kind {
        name: "DISTINCT of 1,000",
        sql: "SELECT DISTINCT g FROM numbers",
        messages: SHARDS * 1_006,
    },
];

fn main() -> ExitCode {
    let (seconds, rows) = (number("SECONDS", 5), number("ROWS", 300_000));
    let fleet = Fleet::new(SHARDS as usize, 0);
    proof::on_all(
        &fleet,
        "CREATE TABLE numbers (id int8 PRIMARY KEY, g int, v int)",
    );
    let table = "[[table]]\nname = \"numbers\"\nkey = \"id\"\nkey_type = \"int8\"\n";
    // As many runtimes as it has by default, for these are prices.
    let router = Router::start(&proof::config(&fleet, "workers = \"auto\"", "", table));
    let fill = format!(
        "INSERT INTO numbers SELECT g, g % 1000, g * 7919 % 100003 FROM generate_series(1, {STORED}) g"
    );
    let said = login(&router).query(&fill);
    assert_eq!(
        said[0].to_string(),
        format!("CommandComplete INSERT 0 {STORED}")
    );
    proof::on_all(&fleet, "VACUUM ANALYZE numbers");
    let part = format!(
        "CREATE TABLE part AS SELECT g AS id, g AS v FROM generate_series(1, {}) g",
        STORED / SHARDS
    );
    login(&router).query(&part);
    login(&router).query("VACUUM ANALYZE part");
    let mut verdict = Verdict::default();
    for clients in [4, 16] {
        let single = price(&router, clients, seconds, SINGLE);
        println!("{clients} clients: single {single:.1} us of the router");
        for kind in &KINDS {
            let price = price(&router, clients, seconds, kind.sql);
            let bar = 2.0 * single + 2.0 * kind.messages as f64;
            let figure = format!("{price:.1} us, bar {bar:.1} us");
            verdict.claim(
                price <= bar,
                &format!("{} at {clients} clients", kind.name),
                figure,
            );
        }
        let count = price(&router, clients, seconds, COUNT_OF_ONE);
        let bar = 2.0 * count + 2.0 * KINDS[0].messages as f64;
        println!(
            "{clients} clients: count(*) over one shard {count:.1} us; by it the bar were {bar:.1} us"
        );
    }
    memory(&router, rows, &mut verdict);
    gathered(&router, &fleet, &mut verdict);
    verdict.exit()
}

fn login(router: &Router) -> Wire {
    let mut wire = Wire::login(&router.endpoint(USER, PASSWORD, "postgres"));
    wire.set_limit(LIMIT);
    wire
}

/// Microseconds of the router's processor time for each statement.
fn price(router: &Router, clients: usize, seconds: u64, sql: &str) -> f64 {
    let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut spent = 0.0;
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut wire = login(router);
                while !stop.load(Ordering::Relaxed) {
                    let frames = wire.query(sql);
                    assert_ne!(frames[0].kind, b'E', "{}", frames[0]);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Connections are opened and plans made before anything is counted.
        thread::sleep(Duration::from_millis(500));
        let before = processor_time(router);
        let counted = done.load(Ordering::Relaxed);
        thread::sleep(Duration::from_secs(seconds));
        spent = processor_time(router) - before;
        done.fetch_sub(counted, Ordering::Relaxed);
        stop.store(true, Ordering::Relaxed);
    });
    spent / done.load(Ordering::Relaxed).max(1) as f64
}

/// In microseconds, of all its threads, as the scheduler counts it.
fn processor_time(router: &Router) -> f64 {
    let threads = std::fs::read_dir(format!("/proc/{}/task", router.pid())).unwrap();
    let nanoseconds = threads.map(|thread| {
        let path = thread.unwrap().path().join("schedstat");
        let text = std::fs::read_to_string(path).unwrap();
        let on_a_core = text.split(' ').next().unwrap();
        on_a_core.parse::<u64>().unwrap()
    });
    nanoseconds.sum::<u64>() as f64 / 1_000.0
}

/// Reads so many sorted rows, and looks at the router's memory meanwhile.
fn memory(router: &Router, rows: u64, verdict: &mut Verdict) {
    let times = rows.div_ceil(STORED);
    let sql = format!(
        "SELECT n.id, s, repeat('x', 50) FROM numbers n CROSS JOIN generate_series(1, {times}) s ORDER BY n.id"
    );
    let mut wire = login(router);
    wire.query("SELECT id FROM numbers ORDER BY id");
    let before = router.resident_bytes();
    let mut most = before;
    wire.send(&message::query(&sql));
    let (mut seen, mut last, mut ordered) = (0u64, 0i64, true);
    loop {
        let frame = wire.frame();
        match frame.kind {
            b'D' => {
                let id: i64 = frame.row_text()[0].parse().unwrap();
                ordered &= id >= last;
                last = id;
                seen += 1;
            }
            b'Z' => break,
            b'E' => panic!("{frame}"),
            _ => {}
        }
        if seen % 10_000 == 0 {
            most = most.max(router.resident_bytes());
        }
        if seen == rows / 2 {
            // Nobody reads: the shards wait, and nothing piles up.
            thread::sleep(Duration::from_secs(2));
            most = most.max(router.resident_bytes());
        }
    }
    verdict.claim(
        ordered && seen == times * STORED,
        "sorted rows came in order",
        seen,
    );
    let grown = most.saturating_sub(before);
    let figure = format!("{} KiB, of {} KiB before", grown / 1024, before / 1024);
    verdict.claim(
        grown < ROOM,
        "memory of the merge is constant: the router grew by",
        figure,
    );
}

/// How long a statement takes that gathers 1,000 rows, beside what it is made of, by turns.
fn gathered(router: &Router, fleet: &Fleet, verdict: &mut Verdict) {
    let ranked = |from: &str| format!("SELECT id, rank() OVER (ORDER BY v) FROM {from}");
    let sql = ranked(&format!("numbers WHERE id <= {GATHERED}"));
    let part = format!("SELECT id, v FROM numbers WHERE id <= {GATHERED}");
    let mut routed = login(router);
    let plan = routed.rows(&format!("EXPLAIN (ROUTE) {sql}"));
    assert!(plan[0][0].contains("Gather"), "{plan:?}");
    let shards = fleet.shards.iter();
    let mut shards: Vec<Wire> = shards
        .map(|shard| Wire::login(&Shard::endpoint(&shard.primary)))
        .collect();
    let rows: Vec<Vec<String>> = shards
        .iter_mut()
        .flat_map(|wire| wire.rows(&part))
        .collect();
    assert_eq!(rows.len(), GATHERED);
    let array = |at: usize| {
        let values: Vec<&str> = rows.iter().map(|row| row[at].as_str()).collect();
        values.join(",")
    };
    let rest = ranked(&format!(
        "(SELECT unnest('{{{}}}'::int8[]), unnest('{{{}}}'::int[])) AS numbers (id, v)",
        array(0),
        array(1)
    ));
    let (mut whole, mut parts) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let begun = Instant::now();
        assert_eq!(routed.rows(&sql).len(), GATHERED);
        whole.push(begun.elapsed());
        let begun = Instant::now();
        for wire in &mut shards {
            wire.rows(&part);
        }
        assert_eq!(shards[0].rows(&rest).len(), GATHERED);
        parts.push(begun.elapsed());
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    let (whole, parts) = (median(&mut whole), median(&mut parts));
    let beyond = whole.saturating_sub(parts);
    verdict.claim(
        beyond < BEYOND,
        "a gather of 1,000 rows beyond its parts",
        format!("{beyond:.2?}: it takes {whole:.2?}, its parts one after the other {parts:.2?}"),
    );
}
