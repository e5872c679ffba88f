//! Deadlocks over two shards, with one router and with two: does each end within three
//! seconds, with 40P01 on exactly one side, while the other side commits on both shards?
//!
//! Two clients at a time lock a row each and go for the other's; PAIRS of them collide
//! side by side, each on rows of its own. ROUNDS for each number of routers, PAIRS and
//! SEED come from the environment; see `make deadlocks`.

#![allow(clippy::unwrap_used)] // A proof that cannot go on has nothing better than to say where.

use mothership_tests::proof::{self, Verdict, number};
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Fleet, Router, Wire, poll_until};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);
/// The bar.
const LIMIT: Duration = Duration::from_secs(3);

/// How one deadlock ended.
struct End {
    took: Duration,
    /// The SQLSTATE of each side that was told one.
    told: Vec<String>,
    /// The rows say what the winner wrote.
    agrees: bool,
}

fn main() -> ExitCode {
    let seed = proof::seed();
    let (rounds, pairs) = (number("ROUNDS", 100), number("PAIRS", 4));
    let fleet = Fleet::new(2, 0);
    let define = "CREATE TABLE t (id int8 PRIMARY KEY, by text)";
    proof::on_all(&fleet, define);
    let config = proof::config(&fleet, "", "", "[[table]]\nname = \"t\"\nkey = \"id\"\n");
    let routers = [Router::start(&config), Router::start(&config)];
    fill(&routers[0], pairs);
    let rows = rows(&fleet, pairs);
    let mut verdict = Verdict::default();
    for count in [1, 2] {
        let ends = race(&routers[..count], &rows, rounds, seed ^ count as u64);
        judge(count, &ends, &mut verdict);
    }
    let nothing = poll_until(SOON, || proof::prepared(&fleet) == 0);
    verdict.claim(
        nothing,
        "transactions left prepared",
        proof::prepared(&fleet),
    );
    verdict.exit()
}

fn login(router: &Router) -> Wire {
    let mut wire = Wire::login(&router.endpoint(USER, PASSWORD, "postgres"));
    wire.set_limit(SOON);
    wire
}

fn fill(router: &Router, pairs: u64) {
    let mut wire = login(router);
    let values: Vec<String> = (1..=20 * pairs).map(|id| format!("({id})")).collect();
    wire.query(&format!("INSERT INTO t (id) VALUES {}", values.join(", ")));
}

/// For each pair a row of each shard.
fn rows(fleet: &Fleet, pairs: u64) -> Vec<[i64; 2]> {
    let ids = proof::on_all(fleet, "SELECT id FROM t ORDER BY id");
    let ids: Vec<Vec<i64>> = ids
        .iter()
        .map(|text| text.lines().map(|line| line.parse().unwrap()).collect())
        .collect();
    let pairs = 0..usize::try_from(pairs).unwrap();
    pairs.map(|pair| [ids[0][pair], ids[1][pair]]).collect()
}

fn race(routers: &[Router], rows: &[[i64; 2]], rounds: u64, seed: u64) -> Vec<End> {
    let left = AtomicI64::new(i64::try_from(rounds).unwrap());
    let ends = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (pair, rows) in rows.iter().enumerate() {
            let (left, ends) = (&left, &ends);
            scope.spawn(move || {
                let mut rng = StdRng::seed_from_u64(seed ^ ((pair as u64) << 40));
                let mut wires = [login(&routers[0]), login(routers.last().unwrap())];
                while left.fetch_sub(1, Ordering::SeqCst) > 0 {
                    let end = collide(&mut wires, *rows, rng.random());
                    ends.lock().unwrap().push(end);
                }
            });
        }
    });
    ends.into_inner().unwrap()
}

fn update(by: usize, id: i64) -> String {
    format!("UPDATE t SET by = 'w{by}' WHERE id = {id}")
}

/// Both lock a row and go for the other's; the first to begin is `turned` or not.
fn collide(wires: &mut [Wire; 2], rows: [i64; 2], turned: bool) -> End {
    let order = if turned { [1, 0] } else { [0, 1] };
    for at in order {
        for sql in ["BEGIN", &update(at, rows[at])] {
            let frames = wires[at].query(sql);
            assert!(frames.iter().all(|frame| frame.kind != b'E'), "{frames:?}");
        }
    }
    let began = Instant::now();
    let [first, second] = wires;
    let go = |wire: &mut Wire, at: usize| {
        let frames = wire.query(&update(at, rows[1 - at]));
        let took = began.elapsed();
        let error = frames.iter().find(|frame| frame.kind == b'E');
        let told = error.map(|frame| frame.sqlstate());
        let end = if told.is_some() { "ROLLBACK" } else { "COMMIT" };
        let ended = wire.query(end);
        assert_eq!(ended[0].text(), end, "{ended:?}");
        (took, told)
    };
    let (a, b) = std::thread::scope(|scope| {
        let other = scope.spawn(|| go(second, 1));
        (go(first, 0), other.join().unwrap())
    });
    let winner = if a.1.is_none() { "w0" } else { "w1" };
    let written = format!("SELECT by FROM t WHERE id IN ({}, {})", rows[0], rows[1]);
    let written = first.rows(&written).concat();
    End {
        took: a.0.max(b.0),
        told: [a.1, b.1].into_iter().flatten().collect(),
        agrees: written == [winner, winner],
    }
}

fn judge(routers: usize, ends: &[End], verdict: &mut Verdict) {
    let claim = |what: &str| format!("{what}, of {} through {routers} router(s)", ends.len());
    let mut took: Vec<Duration> = ends.iter().map(|end| end.took).collect();
    took.sort();
    println!(
        "     {routers} router(s): half within {:?}, the longest {:?}",
        took[took.len() / 2],
        took[took.len() - 1]
    );
    let late = took.iter().filter(|took| **took >= LIMIT).count();
    verdict.claim(late == 0, &claim("deadlocks that took 3 s or longer"), late);
    let other = ends.iter().filter(|end| end.told != ["40P01"]).count();
    verdict.claim(
        other == 0,
        &claim("that did not end with 40P01 on exactly one side"),
        other,
    );
    let split = ends.iter().filter(|end| !end.agrees).count();
    verdict.claim(split == 0, &claim("whose rows are not the winner's"), split);
}
