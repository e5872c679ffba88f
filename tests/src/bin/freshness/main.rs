//! A million reads through two routers, beside standbys that are late for every write, with a crash of the primary in
//! the middle: does any read miss what its freshness level promises?
//!
//! Once for each level. Writers note what they were told; readers take from those notes what their level promises, send
//! pipelines of prepared reads by key, and compare. Half of the reads are done when the primary is killed and the standby
//! with the most log promoted; the other half follows. Then the delay goes, and with one replica beside the primary:
//! nothing is written, and the replica must serve at least a third; pgbench writes with every tenth transaction, and it
//! must serve at least a quarter.
//!
//! READS, READERS, DELAY (milliseconds), SECONDS (of pgbench) and SEED come from the environment; see `make freshness`.
//! With INJECT=any the routers are given that level whatever is judged, and the proof must fail.

#![allow(clippy::unwrap_used)] // A proof that cannot go on has nothing better than to say where.

mod clients;

mod promise;

mod stage;

use crate::promise::{Level, Told};
use crate::stage::{Failover, Stage};
use mothership_tests::poll_until;
use mothership_tests::proof::{self, Verdict, number};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long what is to happen may take.
const SOON: Duration = Duration::from_secs(60);
/// How long the reads of one level may take.
const LONG: Duration = Duration::from_secs(3_600);
/// Errors of the statements that are under way when a primary dies, and of what waits for the next one in vain.
const OF_A_CRASH: [&str; 4] = ["08006", "08007", "57P01", "57P02"];

fn main() -> ExitCode {
    let seed = proof::seed();
    let (reads, readers) = (number("READS", 1_000_000), number("READERS", 4).max(2));
    let delay = number("DELAY", 40);
    let mut verdict = Verdict::default();
    let mut stage = Stage::new();
    let mut all = Figures::default();
    for level in Level::ALL {
        stage.set_level(level);
        stage.set_delay(&format!("{}ms", delay * level.delays()));
        let figures = race(&mut stage, level, reads.div_ceil(3), readers, seed);
        figures.judge(level, &mut verdict);
        all.add(figures);
    }
    stage.set_level(Level::Router);
    stage.set_delay("0");
    stage.keep_one_replica();
    let third = quiet(&stage, seed, &mut verdict);
    let quarter = busy(&stage, number("SECONDS", 10), &mut verdict);
    println!(
        "freshness: reads={} writes={} missed={} failovers={} errors={:?} by_replicas={} quiet={third:.2} busy={quarter:.2} seed={seed}",
        all.reads, all.writes, all.missed, all.failovers, all.errors, all.by_replicas,
    );
    verdict.exit()
}

/// What came of the reads of one level.
#[derive(Default)]
struct Figures {
    asked: u64,
    reads: u64,
    writes: u64,
    missed: u64,
    failovers: u64,
    by_replicas: u64,
    errors: BTreeMap<String, u64>,
}

impl Figures {
    fn add(&mut self, other: Figures) {
        self.asked += other.asked;
        self.reads += other.reads;
        self.writes += other.writes;
        self.missed += other.missed;
        self.failovers += other.failovers;
        self.by_replicas += other.by_replicas;
        for (code, count) in other.errors {
            *self.errors.entry(code).or_default() += count;
        }
    }

    fn judge(&self, level: Level, verdict: &mut Verdict) {
        let claim = format!("{}: reads that missed what is promised", level.word());
        verdict.claim(self.missed == 0, &claim, self.missed);
        let claim = format!("{}: as many reads as asked for", level.word());
        verdict.claim(self.reads >= self.asked, &claim, self.reads);
        let claim = format!(
            "{}: replicas were asked, or nothing was tested",
            level.word()
        );
        verdict.claim(self.by_replicas > 0, &claim, self.by_replicas);
        let claim = format!("{}: writes", level.word());
        verdict.claim(self.writes > 0, &claim, self.writes);
        let claim = format!("{}: no errors but those of a crash", level.word());
        let expected = self.errors.keys().all(|c| OF_A_CRASH.contains(&&**c));
        verdict.claim(expected, &claim, format!("{:?}", self.errors));
    }
}

/// Reads beside writes, through both routers, with a failover in the middle.
fn race(stage: &mut Stage, level: Level, reads: u64, readers: u64, seed: u64) -> Figures {
    let half = i64::try_from(reads.div_ceil(2)).unwrap();
    let told = Told::new(level, half);
    let endpoints = stage.endpoints();
    let before = stage.read_by_replicas();
    let mut paused = Duration::ZERO;
    std::thread::scope(|scope| {
        let (told, endpoints) = (&told, &endpoints);
        let mut clients = Vec::new();
        for (router, endpoint) in endpoints.iter().enumerate() {
            let seed = seed ^ ((router as u64) << 50);
            clients.push(scope.spawn(move || clients::write(endpoint, router, told, seed)));
        }
        for reader in 0..readers {
            let (router, seed) = ((reader % 2) as usize, seed ^ ((reader + 1) << 40));
            clients.push(scope.spawn(move || {
                clients::read(&endpoints[router], (router, reader), told, seed);
            }));
        }
        let half_done = || told.left.load(Ordering::SeqCst) <= 0;
        let ended = || {
            clients
                .iter()
                .any(std::thread::ScopedJoinHandle::is_finished)
        };
        assert!(poll_until(LONG, || half_done() || ended()));
        let crashed = Instant::now();
        let Failover { to } = stage.fail_over();
        let written = told.written();
        let goes_on = || {
            let now = told.written();
            now[0] > written[0] + 10 && now[1] > written[1] + 10
        };
        let writes_again = poll_until(SOON, || goes_on() || ended());
        paused = crashed.elapsed();
        println!(
            "     {}: the primary was killed, {to} is promoted",
            level.word()
        );
        told.left.store(half, Ordering::SeqCst);
        told.struck.store(true, Ordering::SeqCst);
        poll_until(LONG, || half_done() || ended());
        // Writers end also after a reader that found something impossible.
        told.done.store(true, Ordering::SeqCst);
        clients
            .into_iter()
            .for_each(|client| client.join().unwrap());
        assert!(writes_again, "no writes after the failover");
    });
    stage.rejoin();
    let by_replicas = stage.read_by_replicas() - before;
    let (reads_done, missed, errors) = told.result();
    let writes = told.written().iter().sum();
    println!(
        "     {}: {reads_done} reads, {by_replicas} of them by replicas, {writes} writes; {paused:.1?} from the crash until both routers wrote again",
        level.word()
    );
    Figures {
        asked: reads,
        reads: reads_done,
        writes,
        missed,
        failovers: 1,
        by_replicas,
        errors,
    }
}

/// Without delay and without writes the replica has its share of the reads, which is returned.
fn quiet(stage: &Stage, seed: u64, verdict: &mut Verdict) -> f64 {
    const PIPELINES: u64 = 80;
    let mut rng = StdRng::seed_from_u64(seed);
    let mut wire = stage.client(0);
    clients::prepare(&mut wire);
    let mut share = 0.0;
    // Shares go by load, which on a busy machine is what it is for a while.
    let third = poll_until(SOON, || {
        let before = stage.served();
        for _ in 0..PIPELINES {
            let ids: Vec<i64> = (0..clients::PIPELINE)
                .map(|_| rng.random_range(1..=promise::ROWS))
                .collect();
            for found in clients::pipeline(&mut wire, &ids) {
                found.unwrap();
            }
        }
        let (replica, primary) = stage.served_since(before);
        share = replica as f64 / (replica + primary) as f64;
        println!("     without writes: replica {replica}, primary {primary} reads");
        share * 3.0 >= 1.0
    });
    let claim = "without delay and writes the replica serves a third of the reads";
    verdict.claim(third, claim, format!("{share:.2}"));
    share
}

/// Under pgbench, of whose transactions every tenth writes, the replica has its share of the reads, which is returned.
fn busy(stage: &Stage, seconds: u64, verdict: &mut Verdict) -> f64 {
    let mut share = 0.0;
    let quarter = poll_until(SOON, || {
        let (before, written) = (stage.served(), stage.written_by_pgbench());
        let transactions = stage.pgbench(seconds);
        let (replica, primary) = stage.served_since(before);
        let writes = stage.written_by_pgbench() - written;
        let reads = replica + primary - writes;
        share = replica as f64 / reads as f64;
        println!(
            "     pgbench: {transactions} transactions, {writes} of them writes; replica {replica} of {reads} reads"
        );
        share * 4.0 >= 1.0
    });
    let claim = "under pgbench with 10 % writes the replica serves a quarter of the reads";
    verdict.claim(quarter, claim, format!("{share:.2}"));
    share
}
