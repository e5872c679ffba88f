//! TPC-B over shards while servers, the router and clients are killed by turns: what clients were told is there, nothing
//! is there in part, and nothing stays prepared.
//!
//! Two pgbench processes with half of CLIENTS each run in loops, each run in another protocol mode. Every EVERY seconds,
//! for SECONDS, a shard's server, the router or one pgbench is killed with SIGKILL, and started again. A client writes a
//! line for each transaction whose COMMIT was answered, and of each kill it may have one more on its way. The same load
//! is measured before without kills, with all rows on one shard and with rows on all (for COMPARE seconds each).
//! SCALE and SEED come from the environment, too; see `make restarts`.

#![allow(clippy::unwrap_used)] // A proof that cannot go on has nothing better than to say where.

use mothership_tests::bench::{Bench, Spread};
use mothership_tests::poll_until;
use mothership_tests::proof::{self, Verdict, number};
use mothership_tests::teller::Teller;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long pgbench may take to begin, and to end.
const SOON: Duration = Duration::from_secs(60);
/// From the last restart until nothing is prepared.
const RECOVERY: Duration = Duration::from_secs(10);
/// How long one run of pgbench is, if nothing ends it.
const RUN: u64 = 15;

fn main() -> ExitCode {
    let clients = number("CLIENTS", 32);
    let (seconds, every) = (number("SECONDS", 600), number("EVERY", 10));
    let (scale, compare) = (number("SCALE", 10), number("COMPARE", 60));
    let mut rng = StdRng::seed_from_u64(proof::seed());
    let mut verdict = Verdict::default();
    let one_shard = measure(&Bench::new(scale, Spread::OneShard), clients, compare);
    println!("without kills, on one shard:   {one_shard}");
    let mut bench = Bench::new(scale, Spread::ByIds);
    let by_ids = measure(&bench, clients, compare);
    println!("without kills, over all shards: {by_ids}");
    println!("over all for one: {}", by_ids.beside(&one_shard));

    let before = bench.history();
    let mut tellers = [Teller::new(clients / 2), Teller::new(clients - clients / 2)];
    let begun = Instant::now();
    let mut kills = Kills::default();
    while begun.elapsed() < Duration::from_secs(seconds) {
        let next = begun + Duration::from_secs(every * (kills.all() + 1));
        while Instant::now() < next {
            for teller in &mut tellers {
                teller.tend(&bench, RUN);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        kills.one_more(&mut bench, &mut tellers, &mut rng);
    }
    let told: i64 = tellers.into_iter().map(|teller| teller.finish(SOON)).sum();
    let lasted = begun.elapsed().as_secs_f64();
    let finished = poll_until(RECOVERY, || proof::prepared(&bench.fleet) == 0);
    bench.wait_quiet();
    // A PREPARE that a server had received and not yet done may have come after that look.
    let finished = finished && poll_until(RECOVERY, || proof::prepared(&bench.fleet) == 0);
    let left = proof::prepared(&bench.fleet);
    verdict.claim(finished, "nothing stays prepared", left);
    let rows = bench.history() - before;
    let most = told + (clients * kills.all()) as i64;
    let figure = format!(
        "{told} acknowledged, {rows} rows, {:.0} transactions a second, {kills}",
        told as f64 / lasted
    );
    let fits = told <= rows && rows <= most && told > 0;
    verdict.claim(fits, "no transaction is lost or made up", figure);
    bench.claim_balances(&mut verdict);
    verdict.exit()
}

/// What was killed, how often.
#[derive(Default)]
struct Kills {
    shards: u64,
    routers: u64,
    clients: u64,
}

impl Kills {
    fn all(&self) -> u64 {
        self.shards + self.routers + self.clients
    }

    /// Kills what has its turn, and starts it again.
    fn one_more(&mut self, bench: &mut Bench, tellers: &mut [Teller; 2], rng: &mut StdRng) {
        match self.all() % 3 {
            0 => {
                let shard = rng.random_range(0..bench.fleet.shards.len());
                let server = &mut bench.fleet.shards[shard].primary;
                server.kill9();
                server.start().unwrap();
                self.shards += 1;
            }
            1 => {
                bench.router.kill9();
                bench.router.start_again();
                self.routers += 1;
            }
            _ => {
                tellers[rng.random_range(0..2)].kill();
                self.clients += 1;
            }
        }
    }
}

impl std::fmt::Display for Kills {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} servers, {} routers and {} clients killed",
            self.shards, self.routers, self.clients
        )
    }
}

/// A load without kills.
struct Figure {
    each_second: f64,
    /// CPU time for each transaction, in microseconds.
    router: f64,
    servers: f64,
}

fn measure(bench: &Bench, clients: u64, seconds: u64) -> Figure {
    let before = bench.cpu();
    let mut teller = Teller::new(clients);
    let begun = Instant::now();
    teller.tend(bench, seconds);
    let told = teller.finish(SOON + Duration::from_secs(seconds));
    let (after, lasted) = (bench.cpu(), begun.elapsed());
    let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / told as f64;
    Figure {
        each_second: told as f64 / lasted.as_secs_f64(),
        router: each(after.router.saturating_sub(before.router)),
        servers: each(after.servers.saturating_sub(before.servers)),
    }
}

impl Figure {
    fn beside(&self, other: &Figure) -> String {
        format!(
            "{:.2} of the transactions, {:.2} times the router's CPU, {:.2} times the servers'",
            self.each_second / other.each_second,
            self.router / other.router,
            self.servers / other.servers
        )
    }
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.0} transactions a second, CPU for each: router {:.0} us, servers {:.0} us",
            self.each_second, self.router, self.servers
        )
    }
}
