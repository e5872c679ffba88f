//! TPC-H through the router: the 22 queries over shards in two layouts and on one plain PostgreSQL with the same rows;
//! the answers must be the same, and what it costs to have shards is printed.
//!
//! SCALE, SEED and ROUNDS come from the environment; with ROUNDS=0 nothing is measured. TIMEOUT is for how many
//! seconds a query may run, LAYOUT=1 runs one of the layouts, ONLY=17 one of the queries,
//! VERBOSE=1 prints what EXPLAIN (ROUTE) says. See `make tpch`.

#![allow(clippy::unwrap_used)] // A proof that cannot go on has nothing better than to say where.

mod words;

mod generate;

mod layout;

mod queries;

mod servers;

mod answer;

mod run;

mod report;

use crate::layout::LAYOUTS;
use crate::run::Wanted;
use crate::servers::{Server, Sharded};
use mothership_tests::proof::{self, number};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::process::ExitCode;

fn main() -> ExitCode {
    let scale = scale();
    let wanted = Wanted {
        rounds: number("ROUNDS", 3),
        routes: number("VERBOSE", 0) == 1,
    };
    let seed = proof::seed();
    let timeout = format!("SET statement_timeout = '{}s'", number("TIMEOUT", 120));
    let (only, chosen) = (number("ONLY", 0), number("LAYOUT", 0));
    let mut queries = queries::queries(scale);
    queries.retain(|query| only == 0 || query.number as u64 == only);
    let mut random = StdRng::seed_from_u64(seed);
    let tables = generate::generate(scale, seed);
    let server = Server::start();
    let mut plain = server.plain(&tables);
    plain.rows(&timeout);
    let mut wrong = 0;
    for (number, layout) in (1..).zip(LAYOUTS) {
        if chosen != 0 && chosen != number {
            continue;
        }
        println!("layout {number}: {}", layout.name());
        let mut sharded = Sharded::new(&server, layout, &tables);
        sharded.client.rows(&timeout);
        let outcomes = run::run(&mut plain, &mut sharded, &queries, wanted, &mut random);
        wrong += report::print(&outcomes, seed);
    }
    match wrong {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// `SCALE`, which is a fraction: 1 would be six million lines of orders.
fn scale() -> f64 {
    let text = std::env::var("SCALE").unwrap_or_default();
    let scale = match text.is_empty() {
        true => 0.1,
        false => text.parse().unwrap_or(f64::NAN),
    };
    assert!(
        (0.0001..=10.0).contains(&scale),
        "SCALE={text} is not a number between 0.0001 and 10"
    );
    scale
}
