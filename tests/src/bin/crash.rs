//! The router is killed in the middle of TPC-B, again and again: what clients were
//! told is there, nothing is there in part, and nothing stays prepared.
//!
//! pgbench is not killed: its connections end, its clients stop, and its log has a
//! line for each transaction whose COMMIT was answered, all of them written out
//! when it ends. Of each client at most one transaction is unknown: the one that
//! it had sent and had no answer for. So in each round the new rows of history are
//! at least the lines, and at most one more for each client.
//! CLIENTS, KILLS, SCALE and SEED come from the environment; see `make crash`.

#![allow(clippy::unwrap_used)] // A proof that cannot go on has nothing better than to say where.

use mothership_tests::bench::{Bench, Spread};
use mothership_tests::proof::{self, Verdict, number};
use mothership_tests::{Folder, poll_until};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::process::{Child, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// How long pgbench may take to begin, and to end when its connections are gone.
const SOON: Duration = Duration::from_secs(60);
/// From the router's restart until nothing is prepared.
const RECOVERY: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let clients = number("CLIENTS", 32);
    let kills = number("KILLS", 10);
    let mut rng = StdRng::seed_from_u64(proof::seed());
    let mut verdict = Verdict::default();
    let mut bench = Bench::new(number("SCALE", 10), Spread::ByIds);
    let mut caught = 0;
    let mut rows = bench.history();
    for round in 1..=kills {
        let folder = Folder::new("crash");
        let mut load = load(&bench, &folder, clients);
        let begun = poll_until(SOON, || bench.history() > rows);
        assert!(begun, "pgbench does not begin");
        std::thread::sleep(Duration::from_micros(rng.random_range(0..2_000_000)));
        bench.router.kill9();
        let ended = poll_until(SOON, || load.try_wait().unwrap().is_some());
        verdict.claim(ended, "pgbench ends with its connections", ended);
        let prepared = proof::prepared(&bench.fleet);
        caught += prepared;
        bench.router.start_again();
        let since = Instant::now();
        let finished = poll_until(RECOVERY, || proof::prepared(&bench.fleet) == 0);
        let figure = format!(
            "{prepared} after the kill, none after {:.1?}",
            since.elapsed()
        );
        verdict.claim(finished, "nothing stays prepared", figure);
        bench.wait_quiet();
        // A PREPARE that a server had received and not yet done may have come after that look.
        let finished = poll_until(RECOVERY, || proof::prepared(&bench.fleet) == 0);
        assert!(finished, "something was prepared late and stays");
        let told = acknowledged(&folder);
        let now = bench.history();
        let new = now - rows;
        rows = now;
        let figure = format!("{told} acknowledged, {new} rows");
        let fits = told <= new && new <= told + clients as i64 && told > 0;
        verdict.claim(
            fits,
            &format!("round {round}: no transaction is lost or made up"),
            figure,
        );
    }
    bench.claim_balances(&mut verdict);
    // Kills that never met a commit half done would prove little.
    let met = caught > 0 || kills < 8;
    verdict.claim(met, "kills met transactions that were prepared", caught);
    verdict.exit()
}

/// TPC-B for longer than the router will live.
fn load(bench: &Bench, folder: &Folder, clients: u64) -> Child {
    let prefix = folder.path().join("log").display().to_string();
    let mut command = bench.pgbench();
    command.args(["-n", "-l", "--log-prefix", &prefix, "-j", "2", "-T", "600"]);
    command.args(["-M", "prepared", "-c", &clients.to_string()]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    mothership_tests::cluster::spawn_tied(command, libc::SIGKILL).unwrap()
}

/// Transactions whose COMMIT was answered, by pgbench's logs: client, number, time in µs (or a word for failed ones), …
fn acknowledged(folder: &Folder) -> i64 {
    let files = std::fs::read_dir(folder.path()).unwrap();
    let lines = files.map(|file| {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let done = |line: &&str| {
            let time = line.split(' ').nth(2);
            time.is_some_and(|time| time.parse::<u64>().is_ok())
        };
        text.lines().filter(done).count()
    });
    i64::try_from(lines.sum::<usize>()).unwrap()
}
