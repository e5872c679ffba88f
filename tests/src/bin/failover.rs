//! How long clients wait while the primary of a shard changes: ordered through the console, and after a crash.
//!
//! CLIENTS write one row after the other, TIMES for each way. A switchover is measured by the longest transaction of any
//! client, less what PostgreSQL's promotion took; a crash by the time from the end of the promotion to the first write
//! that is acknowledged. Every acknowledged row must be there afterwards. A commit waits for one of two standbys.

#![allow(clippy::unwrap_used)] // A proof that cannot go on has nothing better than to say where.

use mothership_tests::proof::{self, Verdict, number};
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Fleet, Router, Wire, message, poll_until};
use std::collections::{BTreeMap, HashSet};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// How long what is to happen may take.
const SOON: Duration = Duration::from_secs(60);
/// So many writes before a change and behind it.
const SOME: usize = 50;

fn main() -> ExitCode {
    let (clients, times) = (number("CLIENTS", 8), number("TIMES", 20));
    let mut verdict = Verdict::default();
    let mut stage = Stage::new();
    for way in [Way::Switchover, Way::Crash] {
        let mut figures = Figures::default();
        for _ in 0..times {
            stage.change(way, clients, &mut figures);
        }
        println!("{way:?}: {figures}");
        verdict.claim(
            figures.lost == 0,
            "what was acknowledged is there",
            figures.lost,
        );
        let allowed = match way {
            Way::Switchover => figures.errors.is_empty(),
            // Whoever was in a transaction, or waited for its end, hears of it once.
            Way::Crash => {
                let all: u64 = figures.errors.values().sum();
                let kinds = ["08006", "08007", "57P01", "57P02"];
                all <= clients * times && figures.errors.keys().all(|code| kinds.contains(&&**code))
            }
        };
        let errors = format!("{:?}", figures.errors);
        verdict.claim(allowed, "clients see no error that they need not", errors);
    }
    verdict.exit()
}

/// How a primary changes.
#[derive(Clone, Copy, Debug)]
enum Way {
    Switchover,
    Crash,
}

#[derive(Default)]
struct Figures {
    /// Of each change: what clients waited, and of that for the router alone.
    pauses: Vec<(Duration, Duration)>,
    /// By SQLSTATE.
    errors: BTreeMap<String, u64>,
    lost: usize,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sorted = |of: fn(&(Duration, Duration)) -> Duration| {
            let mut all: Vec<_> = self.pauses.iter().map(of).collect();
            all.sort();
            let last = all.len() - 1;
            (all[last / 2], all[last])
        };
        let ((pause, longest), (router, worst)) = (sorted(|p| p.0), sorted(|p| p.1));
        write!(
            f,
            "times={} pause median={pause:.0?} worst={longest:.0?}, beyond the promotion median={router:.0?} worst={worst:.0?}, errors={:?}",
            self.pauses.len(),
            self.errors
        )
    }
}

/// One shard with two standbys behind a router.
struct Stage {
    router: Router,
    fleet: Fleet,
    next: AtomicI64,
}

/// What clients have seen.
#[derive(Default)]
struct Seen {
    told: Vec<(i64, Instant)>,
    longest: Duration,
    errors: BTreeMap<String, u64>,
}

impl Stage {
    fn new() -> Stage {
        let mut fleet = Fleet::new(1, 2);
        fleet.shards[0].wait_for_standbys();
        let config = proof::config(&fleet, "", "", "");
        let stage = Stage {
            router: Router::start(&config),
            fleet,
            next: AtomicI64::new(1),
        };
        let create = "CREATE TABLE t (id int8 PRIMARY KEY)";
        stage.fleet.shards[0]
            .primary
            .sql("postgres", create)
            .unwrap();
        stage
    }

    fn change(&mut self, way: Way, clients: u64, figures: &mut Figures) {
        self.wait_up();
        let over = AtomicBool::new(false);
        let seen = Mutex::new(Seen::default());
        let endpoint = self.router.endpoint(USER, PASSWORD, "postgres");
        let (next, router, shard) = (&self.next, &self.router, &mut self.fleet.shards[0]);
        let (promoted, promotion, old) = std::thread::scope(|scope| {
            for client in 0..clients {
                let (over, seen, endpoint) = (&over, &seen, &endpoint);
                scope.spawn(move || write(&mut Wire::login(endpoint), client, next, over, seen));
            }
            let some = || {
                let count = || seen.lock().unwrap().told.len();
                let before = count();
                poll_until(SOON, || count() > before + SOME)
            };
            let began = some();
            seen.lock().unwrap().longest = Duration::ZERO;
            let (promotion, old) = match way {
                Way::Switchover => {
                    shard.gather_behind(0);
                    let address = format!("127.0.0.1:{}", shard.replicas[0].port());
                    let promotion = switchover(router, &address);
                    shard.crown(0);
                    (promotion, 0)
                }
                Way::Crash => {
                    shard.primary.kill9();
                    (Duration::ZERO, shard.succeed())
                }
            };
            let promoted = Instant::now();
            let goes_on = some();
            over.store(true, Ordering::Relaxed);
            assert!(began && goes_on, "clients do not write");
            (promoted, promotion, old)
        });
        let seen = seen.into_inner().unwrap();
        figures.pauses.push(match way {
            Way::Switchover => (seen.longest, seen.longest.saturating_sub(promotion)),
            Way::Crash => {
                let first = seen
                    .told
                    .iter()
                    .map(|told| told.1)
                    .filter(|at| *at > promoted);
                (seen.longest, first.min().unwrap() - promoted)
            }
        });
        for (code, count) in seen.errors {
            *figures.errors.entry(code).or_default() += count;
        }
        let kept = shard.primary.sql("postgres", "SELECT id FROM t").unwrap();
        let kept: HashSet<i64> = kept.lines().map(|id| id.parse().unwrap()).collect();
        figures.lost += seen
            .told
            .iter()
            .filter(|told| !kept.contains(&told.0))
            .count();
        shard.rejoin(old);
        shard.wait_replayed();
    }

    /// Waits until the router has seen the last change out.
    fn wait_up(&self) {
        let mut shown = Vec::new();
        let up = poll_until(SOON, || {
            shown = proof::console(&self.router, "SHOW ENDPOINTS");
            let primaries = shown.iter().filter(|server| server["role"] == "primary");
            primaries.count() == 1 && shown.iter().all(|server| server["health"] == "up")
        });
        assert!(up, "{shown:#?}");
    }
}

/// Orders it; how long the promotion took.
fn switchover(router: &Router, to: &str) -> Duration {
    let mut console = Wire::login(&router.endpoint(USER, PASSWORD, "mothership"));
    console.set_limit(SOON);
    let frames = console.query(&format!("SWITCHOVER s1 '{to}'"));
    assert!(frames.iter().all(|frame| frame.kind != b'E'), "{frames:?}");
    let log = router.log();
    let took = log.rsplit_once("promotion_ms=").expect("it is logged").1;
    let digits: String = took.chars().take_while(char::is_ascii_digit).collect();
    Duration::from_millis(digits.parse().unwrap())
}

/// Every second write is in a block.
fn write(wire: &mut Wire, client: u64, next: &AtomicI64, over: &AtomicBool, seen: &Mutex<Seen>) {
    while !over.load(Ordering::Relaxed) {
        let id = next.fetch_add(1, Ordering::Relaxed);
        let insert = format!("INSERT INTO t VALUES ({id})");
        let texts: &[&str] = match (id + client as i64) % 2 {
            0 => &[&insert],
            _ => &["BEGIN", &insert, "COMMIT"],
        };
        let begun = Instant::now();
        let mut error = None;
        for text in texts {
            wire.send(&message::query(text));
            let frames = wire.until_ready();
            error = frames
                .iter()
                .find(|frame| frame.kind == b'E')
                .map(|frame| frame.sqlstate());
            if error.is_some() {
                break;
            }
        }
        let mut seen = seen.lock().unwrap();
        match error {
            None => {
                seen.told.push((id, Instant::now()));
                seen.longest = seen.longest.max(begun.elapsed());
            }
            Some(code) => {
                *seen.errors.entry(code).or_default() += 1;
                drop(seen);
                wire.query("ROLLBACK");
            }
        }
    }
}
