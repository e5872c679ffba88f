//! pgbench's own scripts through the router with all tables sharded: no transaction
//! fails, and afterwards every balance agrees with history over all shards.
//!
//! CLIENTS, SECONDS for each of the six runs, SCALE; see `make tpcb`.

#![allow(clippy::unwrap_used)] // A proof that cannot go on has nothing better than to say where.

use mothership_tests::bench::{Bench, Spread};
use mothership_tests::poll_until;
use mothership_tests::proof::{self, Verdict, number};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let clients = number("CLIENTS", 64).to_string();
    let seconds = number("SECONDS", 60).to_string();
    let mut verdict = Verdict::default();
    let bench = Bench::new(number("SCALE", 10), Spread::ByIds);
    let mut written = 0;
    for mode in ["simple", "extended", "prepared"] {
        for script in ["select-only", "tpcb-like"] {
            let done = run(&bench, mode, script, &clients, &seconds, &mut verdict);
            written += if script == "tpcb-like" { done } else { 0 };
        }
    }
    let rows = bench.history();
    verdict.claim(
        rows == written && rows > 0,
        "history has a row for each transaction",
        rows,
    );
    bench.claim_balances(&mut verdict);
    let finished = poll_until(Duration::from_secs(10), || {
        proof::prepared(&bench.fleet) == 0
    });
    let left = proof::prepared(&bench.fleet);
    verdict.claim(finished, "no prepared transaction is left", left);
    verdict.exit()
}

/// One run; returns how many transactions pgbench counted.
fn run(
    bench: &Bench,
    mode: &str,
    script: &str,
    clients: &str,
    seconds: &str,
    verdict: &mut Verdict,
) -> i64 {
    let mut command = bench.pgbench();
    command.args([
        "-n", "-b", script, "-M", mode, "-c", clients, "-j", "2", "-T", seconds,
    ]);
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    let line = |name: &str| {
        let found = said.lines().find_map(|line| line.strip_prefix(name));
        found.map(|rest| rest.trim().to_owned()).unwrap_or_default()
    };
    let failed = line("number of failed transactions:");
    let done = line("number of transactions actually processed:");
    let figure = format!(
        "{done} transactions, {}, {failed} failed",
        line("latency average =")
    );
    let fine = out.status.success() && failed.starts_with("0 ");
    verdict.claim(
        fine,
        &format!("{script} {mode}, {clients} clients, {seconds} s"),
        figure,
    );
    if !fine {
        println!("{}", String::from_utf8_lossy(&out.stderr));
    }
    done.parse().unwrap_or(0)
}
