//! Where a [`Health`](super::Health) has the time and its random numbers from: the machine, or a simulation that repeats
//! what happened by its seed.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The source.
#[derive(Debug, Default)]
pub enum Source {
    /// The machine.
    #[default]
    Machine,
    /// A simulation, which moves the time itself.
    Simulated {
        /// When it began.
        start: Instant,
        /// What has passed since then, in nanoseconds.
        passed: AtomicU64,
        /// What follows from the seed.
        random: Mutex<SmallRng>,
    },
}

impl Source {
    /// A simulation at its beginning.
    pub fn simulated(seed: u64) -> Source {
        Source::Simulated {
            start: Instant::now(),
            passed: AtomicU64::new(0),
            random: Mutex::new(SmallRng::seed_from_u64(seed)),
        }
    }

    /// Lets simulated time pass. The machine's does by itself.
    pub fn pass(&self, time: Duration) {
        if let Source::Simulated { passed, .. } = self {
            let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            passed.fetch_add(nanos, Ordering::SeqCst);
        }
    }

    /// Now.
    pub fn now(&self) -> Instant {
        match self {
            Source::Machine => Instant::now(),
            Source::Simulated { start, passed, .. } => {
                *start + Duration::from_nanos(passed.load(Ordering::SeqCst))
            }
        }
    }

    /// A generator of random numbers.
    pub(super) fn rng(&self) -> SmallRng {
        match self {
            Source::Machine => SmallRng::seed_from_u64(rand::random()),
            Source::Simulated { random, .. } => {
                let mut random = random.lock().unwrap_or_else(|e| e.into_inner());
                SmallRng::seed_from_u64(random.random())
            }
        }
    }
}
