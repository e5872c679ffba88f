//! The queries on both sides: first whether the answers are the same, then how long they take.

use crate::answer::{Answer, Verdict, ask, judge};
use crate::queries::Query;
use crate::servers::Sharded;
use mothership_tests::Wire;
use rand::RngExt;
use rand::rngs::StdRng;
use std::time::{Duration, Instant};

/// What takes longer than this is not asked again.
const SLOW: Duration = Duration::from_secs(15);

/// What came of a query.
pub struct Outcome {
    pub number: usize,
    /// How many rows plain PostgreSQL has for it, without those that are all NULL: what finds none proves little.
    pub rows: usize,
    pub verdict: Verdict,
    /// What EXPLAIN (ROUTE) calls the plan.
    pub plan: String,
    /// How many rows left their shard.
    pub moved: u64,
    /// Seconds of plain PostgreSQL and of the router, one after the other in any order.
    pub times: Vec<(f64, f64)>,
}

/// What is to be done with each query.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// How often its times are taken.
    pub rounds: u64,
    /// What EXPLAIN (ROUTE) says is printed.
    pub routes: bool,
}

/// Asks each query once, and what was answered right and soon once more in each round, both sides by turns.
pub fn run(
    plain: &mut Wire,
    sharded: &mut Sharded,
    queries: &[Query],
    wanted: Wanted,
    random: &mut StdRng,
) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    for query in queries {
        outcomes.push(first(plain, sharded, query, wanted));
    }
    for _ in 0..wanted.rounds {
        for (query, outcome) in queries.iter().zip(&mut outcomes) {
            let slow = outcome
                .times
                .iter()
                .any(|(_, took)| *took > SLOW.as_secs_f64());
            if !matches!(outcome.verdict, Verdict::Equal) || slow {
                continue;
            }
            let text = query.text();
            let plain_first = random.random_bool(0.5);
            let before = plain_first.then(|| timed(plain, &text).1);
            let router = timed(&mut sharded.client, &text).1;
            let plain = before.unwrap_or_else(|| timed(plain, &text).1);
            outcome.times.push((plain, router));
        }
    }
    outcomes
}

fn first(plain: &mut Wire, sharded: &mut Sharded, query: &Query, wanted: Wanted) -> Outcome {
    let text = query.text();
    let (expected, plain_time) = timed(plain, &text);
    let (told, router_time) = timed(&mut sharded.client, &text);
    let verdict = judge(query, (&expected, &told), || ask(plain, &query.sql));
    let rows = match &expected {
        Answer::Rows(_, rows) => rows
            .iter()
            .filter(|row| row.iter().any(Option::is_some))
            .count(),
        Answer::Error { .. } => 0,
    };
    let (plan, moved) = moved(sharded, &text, wanted.routes);
    // The first run fills caches; it counts only where there will be no other.
    let slow = router_time > SLOW.as_secs_f64();
    Outcome {
        number: query.number,
        rows,
        verdict,
        plan,
        moved,
        times: match wanted.rounds > 0 && slow {
            true => vec![(plain_time, router_time)],
            false => Vec::new(),
        },
    }
}

fn timed(wire: &mut Wire, sql: &str) -> (Answer, f64) {
    let begun = Instant::now();
    let answer = ask(wire, sql);
    (answer, begun.elapsed().as_secs_f64())
}

/// The plan, and how many rows shards send for it: those of the fragments, or of the statement itself where each shard
/// answers it. What one shard answers alone does not move.
fn moved(sharded: &mut Sharded, text: &str, shows: bool) -> (String, u64) {
    let report = sharded.client.rows(&format!("EXPLAIN (ROUTE) {text}"));
    let lines: Vec<&str> = report.iter().map(|row| row[0].as_str()).collect();
    if shows {
        println!("{text}\n  {}", lines.join("\n  "));
    }
    let behind = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name));
    let plan = behind("Plan: ").unwrap_or("?").to_owned();
    let fragments = lines
        .iter()
        .filter_map(|line| line.strip_prefix("Fragment: "));
    let mut sent: Vec<(&str, &str)> = fragments.filter_map(|f| f.rsplit_once(" on ")).collect();
    if plan == "Scatter" {
        sent.push((text, behind("Shards: ").unwrap_or_default()));
    }
    let mut moved = 0;
    for (sql, shards) in sent {
        for shard in shards.split(", ") {
            let at: usize = shard.trim_start_matches('s').parse().unwrap();
            let count = format!("SELECT count(*) FROM ({sql}) AS sent");
            let rows = sharded.shards[at - 1].rows(&count);
            moved += rows[0][0].parse::<u64>().unwrap();
        }
    }
    (plan, moved)
}
