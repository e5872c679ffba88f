//! Who looks at accounts while transfers go on: what one statement sees on one shard agrees with itself.

use crate::world::World;
use mothership_tests::bank::ROLE;
use mothership_tests::proof::Verdict;
use mothership_tests::{Endpoint, Wire};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(5);

/// One at each router, until [`Readers::end`].
pub struct Readers {
    over: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Readers {
    /// They begin.
    pub fn begin(world: &World, seed: u64) -> Readers {
        let (over, reads) = (Arc::default(), Arc::default());
        let ids: Vec<i64> = world.bank.accounts().concat();
        let start = |(number, router): (usize, &mothership_tests::Router)| {
            let endpoint = router.endpoint(ROLE, "", "postgres");
            let rng = StdRng::seed_from_u64(seed ^ (77 + number as u64));
            let (over, reads, ids) = (Arc::clone(&over), Arc::clone(&reads), ids.clone());
            std::thread::spawn(move || read(&endpoint, rng, &ids, (&over, &reads)))
        };
        let threads = world.routers.iter().enumerate().map(start).collect();
        Readers {
            over,
            reads,
            threads,
        }
    }

    /// They stop; how many reads were answered.
    pub fn end(self, verdict: &mut Verdict) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        let wrong = self
            .threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap());
        let wrong: Vec<String> = wrong.collect();
        let reads = self.reads.load(Ordering::Relaxed);
        let figure = format!("{reads} reads, {wrong:?}");
        verdict.claim(
            wrong.is_empty() && reads > 0,
            "what is read agrees with itself",
            figure,
        );
        reads
    }
}

fn read(
    endpoint: &Endpoint,
    mut rng: StdRng,
    ids: &[i64],
    (over, reads): (&AtomicBool, &AtomicU64),
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut wire = None;
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(PAUSE);
        let Some(open) = wire.as_mut() else {
            wire = log_in(endpoint);
            continue;
        };
        let id = ids[rng.random_range(0..ids.len())];
        let sql = format!(
            "SELECT a.id, a.balance - 1000 - (SELECT coalesce(sum(l.amount), 0) FROM ledger l WHERE l.account = {id}) \
             FROM accounts a WHERE a.id = {id}"
        );
        if open
            .try_send(&mothership_tests::message::query(&sql))
            .is_err()
        {
            wire = None;
            continue;
        }
        match open.try_until_ready() {
            Ok(frames) => {
                let rows: Vec<_> = frames.iter().filter(|frame| frame.kind == b'D').collect();
                let is_error = frames.iter().any(|frame| frame.kind == b'E');
                let right = [id.to_string(), "0".into()];
                match rows.as_slice() {
                    [row] if row.row_text() == right => {
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                    _ if is_error => {}
                    _ => wrong.push(format!("{id}: {frames:?}")),
                }
            }
            Err(_) => wire = None,
        }
    }
    wrong
}

/// A router that is away is tried again.
fn log_in(endpoint: &Endpoint) -> Option<Wire> {
    let mut wire = Wire::try_connect(endpoint.port).ok()?;
    wire.set_limit(Duration::from_secs(60));
    wire.ask_in(endpoint, mothership_tests::message::V3_0, &[])
        .ok()?;
    Some(wire)
}
