//! A million reads beside a replica that is late for every write: does any read miss
//! what some client had been told of before the read was sent?
//!
//! A writer notes what it was told; readers take that note, send pipelines of prepared
//! reads by key, and compare. Then the delay goes and nothing is written: the replica
//! must serve at least a third. READS, READERS, DELAY (milliseconds) and SEED come from the
//! environment; see `make freshness`.

#![allow(clippy::unwrap_used)] // A proof that cannot go on has nothing better than to say where.

use mothership_tests::message::{self, Format};
use mothership_tests::proof::{self, Verdict, number};
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Fleet, Router, Wire, poll_until};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const ROWS: i64 = 64;
/// Requests of one pipeline, each with a Sync of its own, so that each has its own choice of a server.
const PIPELINE: usize = 25;

fn main() -> ExitCode {
    let seed = proof::seed();
    let mut verdict = Verdict::default();
    let mut stage = Stage::new();
    let delay = format!("{}ms", number("DELAY", 40));
    stage.delay(&delay);
    println!("     the replica replays {delay} late");
    stage.race(
        number("READS", 1_000_000),
        number("READERS", 4),
        seed,
        &mut verdict,
    );
    stage.delay("0");
    stage.alone(seed, &mut verdict);
    verdict.exit()
}

/// A primary, its replica, the router.
struct Stage {
    router: Router,
    fleet: Fleet,
}

/// What clients share.
struct Told {
    /// For each row the last value that the writer was told to be committed.
    values: Vec<AtomicI64>,
    left: AtomicI64,
    reads: AtomicU64,
    missed: AtomicU64,
    done: AtomicBool,
}

impl Stage {
    fn new() -> Stage {
        let fleet = Fleet::new(1, 1);
        let fill = format!(
            "CREATE TABLE t (id int8 PRIMARY KEY, n int8); \
             INSERT INTO t SELECT g, 0 FROM generate_series(1, {ROWS}) g"
        );
        proof::on_all(&fleet, &fill);
        fleet.shards[0].wait_replayed();
        let more = "[balance]\nprobe_interval = \"100ms\"\n[[table]]\nname = \"t\"\nkey = \"id\"\n";
        let router = Router::start(&proof::config(&fleet, "", "", more));
        let stage = Stage { router, fleet };
        let mut wire = stage.client();
        let spread = poll_until(SOON, || {
            wire.rows("SELECT n FROM t WHERE id = 1");
            stage.served().0 > 0
        });
        assert!(spread, "the replica serves nothing even without a delay");
        stage
    }

    fn client(&self) -> Wire {
        let mut wire = Wire::login(&self.router.endpoint(USER, PASSWORD, "postgres"));
        wire.set_limit(SOON);
        wire
    }

    fn delay(&mut self, delay: &str) {
        let replica = &mut self.fleet.shards[0].replicas[0];
        let set = replica.configure(&[("recovery_min_apply_delay", delay)]);
        set.unwrap();
        let shown = || {
            replica
                .sql("postgres", "SHOW recovery_min_apply_delay")
                .unwrap()
                == *delay
        };
        assert!(poll_until(SOON, shown));
    }

    /// Requests that the replica and the primary were given so far.
    fn served(&self) -> (u64, u64) {
        let shown = proof::console(&self.router, "SHOW ENDPOINTS");
        let of = |role: &str| {
            let servers = shown.iter().filter(|server| server["role"] == role);
            servers.map(|s| s["served"].parse::<u64>().unwrap()).sum()
        };
        (of("replica"), of("primary"))
    }

    /// Reads beside writes.
    fn race(&self, reads: u64, readers: u64, seed: u64, verdict: &mut Verdict) {
        let told = Told {
            values: (0..ROWS).map(|_| AtomicI64::new(0)).collect(),
            left: AtomicI64::new(i64::try_from(reads).unwrap()),
            reads: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            done: AtomicBool::new(false),
        };
        let before = self.served();
        let mut writes = 0;
        std::thread::scope(|scope| {
            let told = &told;
            let writer = scope.spawn(move || self.write(told, seed));
            let readers: Vec<_> = (1..=readers)
                .map(|reader| scope.spawn(move || self.read(told, seed ^ (reader << 40))))
                .collect();
            let ends: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
            // The writer ends also after a reader that found something impossible.
            told.done.store(true, Ordering::SeqCst);
            ends.into_iter().for_each(|end| end.unwrap());
            writes = writer.join().unwrap();
        });
        let after = self.served();
        let (reads_done, missed) = (told.reads.into_inner(), told.missed.into_inner());
        let (replica, primary) = (after.0 - before.0, after.1 - before.1);
        println!(
            "     {reads_done} reads, {writes} writes; replica {replica}, primary {primary} requests"
        );
        verdict.claim(missed == 0, "reads that missed a write", missed);
        verdict.claim(
            reads_done >= reads,
            "as many reads as asked for",
            reads_done,
        );
        verdict.claim(
            replica > 0,
            "the replica was asked, or nothing was tested",
            replica,
        );
        verdict.claim(writes > 0, "there were writes", writes);
    }

    /// Writes in three ways, in bursts, with pauses in which the replica catches up and gets its turn.
    fn write(&self, told: &Told, seed: u64) -> i64 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut wire = self.client();
        let mut n = 0;
        while !told.done.load(Ordering::SeqCst) {
            for _ in 0..rng.random_range(1..20) {
                n += 1;
                let id = rng.random_range(1..=ROWS);
                let update = format!("UPDATE t SET n = {n} WHERE id = {id}");
                let last = match n % 3 {
                    0 => wire.query(&update),
                    1 => wire.query(&format!("BEGIN; {update}; COMMIT")),
                    _ => {
                        wire.query("BEGIN");
                        wire.query(&update);
                        wire.query("COMMIT")
                    }
                };
                assert!(last.iter().all(|f| f.kind != b'E'), "{last:?}");
                told.values[id as usize - 1].store(n, Ordering::SeqCst);
            }
            std::thread::sleep(Duration::from_millis(rng.random_range(50..600)));
        }
        n
    }

    /// Pipelines of prepared reads until all are done.
    fn read(&self, told: &Told, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut wire = self.client();
        prepare(&mut wire);
        let batch = i64::try_from(PIPELINE).unwrap();
        while told.left.fetch_sub(batch, Ordering::SeqCst) > 0 {
            let ids: Vec<i64> = (0..PIPELINE).map(|_| rng.random_range(1..=ROWS)).collect();
            let needed = |id: &i64| told.values[*id as usize - 1].load(Ordering::SeqCst);
            let needed: Vec<i64> = ids.iter().map(needed).collect();
            let found = pipeline(&mut wire, &ids);
            let missed = found
                .iter()
                .zip(&needed)
                .filter(|(found, needed)| found < needed);
            told.missed
                .fetch_add(missed.count() as u64, Ordering::Relaxed);
            told.reads.fetch_add(PIPELINE as u64, Ordering::Relaxed);
        }
    }

    /// Without delay and without writes the replica has its share.
    fn alone(&self, seed: u64, verdict: &mut Verdict) {
        const PIPELINES: u64 = 80;
        let mut rng = StdRng::seed_from_u64(seed);
        let mut wire = self.client();
        prepare(&mut wire);
        let mut shares = (0, 0);
        // Shares go by load, which on a busy machine is what it is for a while.
        let third = poll_until(SOON, || {
            let before = self.served();
            for _ in 0..PIPELINES {
                let ids: Vec<i64> = (0..PIPELINE).map(|_| rng.random_range(1..=ROWS)).collect();
                pipeline(&mut wire, &ids);
            }
            let after = self.served();
            shares = (after.0 - before.0, after.1 - before.1);
            shares.0 * 3 >= PIPELINES * PIPELINE as u64
        });
        let figure = format!("replica {}, primary {}", shares.0, shares.1);
        verdict.claim(
            third,
            "without delay and writes the replica serves a third",
            figure,
        );
    }
}

fn prepare(wire: &mut Wire) {
    wire.send_all(&[
        message::parse("r", "SELECT n FROM t WHERE id = $1", &[20]),
        message::sync(),
    ]);
    let frames = wire.until_ready();
    assert_eq!(frames[0].kind, b'1', "{frames:?}");
}

/// Reads these rows, each by a request of its own, all sent at once; returns what was found.
fn pipeline(wire: &mut Wire, ids: &[i64]) -> Vec<i64> {
    let read = |id: &i64| {
        let value = id.to_be_bytes();
        let values = [Some(value.as_slice())];
        [
            message::bind("", "r", Format::Binary, &values, Format::Binary),
            message::execute("", 0),
            message::sync(),
        ]
        .concat()
    };
    wire.send_all(&ids.iter().map(read).collect::<Vec<_>>());
    let one = |_: &i64| {
        // Four, because the client is not told when another server answers.
        let frames = wire.until_ready();
        assert_eq!(frames.len(), 4, "{frames:?}");
        let value = frames[1].row().remove(0).unwrap();
        i64::from_be_bytes(value.try_into().unwrap())
    };
    ids.iter().map(one).collect()
}
