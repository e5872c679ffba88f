//! Where a [`Health`](super::Health) gets the time and its random numbers: from the machine, or from a simulation. A
//! simulation with the same seed repeats the same run.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The source of time and random numbers.
#[derive(Debug, Default)]
pub enum Source {
    /// The clock and the random numbers of the machine.
    #[default]
    Machine,
    /// A simulation, which advances the time itself.
    Simulated {
        /// When the simulation was created, by the clock of the machine.
        start: Instant,
        /// The simulated time that has elapsed since `start`, in nanoseconds.
        passed: AtomicU64,
        /// The seeded generator, which seeds all others.
        random: Mutex<SmallRng>,
    },
}

impl Source {
    /// A new simulation. No simulated time has elapsed yet.
    pub fn simulated(seed: u64) -> Source {
        Source::Simulated {
            start: Instant::now(),
            passed: AtomicU64::new(0),
            random: Mutex::new(SmallRng::seed_from_u64(seed)),
        }
    }

    /// Advances the simulated time. Does nothing for the machine, whose time advances by itself.
    pub fn pass(&self, time: Duration) {
        if let Source::Simulated { passed, .. } = self {
            let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            passed.fetch_add(nanos, Ordering::SeqCst);
        }
    }

    /// The current time.
    pub fn now(&self) -> Instant {
        match self {
            Source::Machine => Instant::now(),
            Source::Simulated { start, passed, .. } => {
                *start + Duration::from_nanos(passed.load(Ordering::SeqCst))
            }
        }
    }

    /// A new generator of random numbers.
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
