//! Which of several fit servers serves a read: the better of two random ones.
//!
//! The choice is pure: candidates and a random generator come in, an index goes
//! out. Who is a candidate is decided in `health`. [`ServerLoad`] holds the figures, which all
//! cores share and update without locks.

use rand::{Rng, RngExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A server that may be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Its part of the reads relative to others; above 0.
    pub weight: u32,
    /// What it does for this process now.
    pub in_flight: u32,
    /// Its smoothed latency in nanoseconds; 0 if it was never measured.
    pub latency: f32,
    /// At least 1; more the further it lags.
    pub penalty: f32,
}

/// Chooses among `candidates`, a set of indexes as bits: two different ones at
/// random, then the better of the two. None if the set is empty.
///
/// Two random ones, and not the best of all, because figures are a little old: all cores would run to the same server at
/// once. Of the two, odds decide: the weights' ratio times the square of the ratio of loads, where load is (in flight + 1) x
/// latency x penalty, in flight counted relative to the weight. Equal servers so share by their weights even when
/// nothing else is under way; one with ten times the load gets 1 %, enough to notice that it has recovered.
pub fn choose(
    candidates: u64,
    candidate: impl Fn(usize) -> Candidate,
    rng: &mut impl Rng,
) -> Option<usize> {
    let count = candidates.count_ones();
    let nth = |n| nth_of(candidates, n);
    let (first, second) = match count {
        0 => return None,
        1 => return Some(nth(0)),
        2 => (nth(0), nth(1)),
        _ => {
            let first = rng.random_range(0..count);
            // One of the others: those from `first` on move up by one.
            let second = rng.random_range(0..count - 1);
            (nth(first), nth(second + u32::from(second >= first)))
        }
    };
    let odds = odds(&candidate(first), &candidate(second));
    Some(match rng.random::<f32>() < odds {
        true => first,
        false => second,
    })
}

/// The probability of the first of two.
fn odds(a: &Candidate, b: &Candidate) -> f32 {
    let (weight_a, weight_b) = (a.weight.max(1) as f32, b.weight.max(1) as f32);
    let mean = (weight_a + weight_b) / 2.0;
    // Without both latencies, only what is in flight can be compared.
    let (latency_a, latency_b) = match a.latency > 0.0 && b.latency > 0.0 {
        true => (a.latency, b.latency),
        false => (1.0, 1.0),
    };
    let load_a = (1.0 + a.in_flight as f32 * mean / weight_a) * latency_a * a.penalty.max(1.0);
    let load_b = (1.0 + b.in_flight as f32 * mean / weight_b) * latency_b * b.penalty.max(1.0);
    let ratio = load_a / load_b;
    // A ratio out of range of f32 is infinite or 0, which gives 0 or 1 here.
    weight_a / (weight_a + weight_b * ratio * ratio)
}

/// Index of the `n`th set bit.
fn nth_of(mut set: u64, n: u32) -> usize {
    for _ in 0..n {
        set &= set - 1;
    }
    set.trailing_zeros() as usize
}

/// How much a server has to do for this process.
#[derive(Debug)]
pub struct ServerLoad {
    /// When ticks began.
    start: Instant,
    /// A sample counts half after so long, in ticks. An f32.
    half_life: AtomicU32,
    in_flight: AtomicU32,
    served: AtomicU64,
    answered: AtomicU64,
    /// Smoothed latency (f32 nanoseconds) in the high half, tick of the last sample in the low half: one word, so that they change together.
    smoothed: AtomicU64,
}

/// The unit of sample times: 16 microseconds, so that 32 bits last for 19 hours. A server that had no sample for longer is taken
/// for one that had one lately, and unlearns a little later.
const TICK_NANOS: u128 = 16_000;

fn ticks(half_life: Duration) -> f32 {
    (half_life.as_nanos() / TICK_NANOS).max(1) as f32
}

impl ServerLoad {
    /// An idle server. A latency counts half after `half_life`.
    pub fn new(half_life: Duration) -> Self {
        Self::since(Instant::now(), half_life)
    }

    /// The same for who says what time it is.
    pub fn since(start: Instant, half_life: Duration) -> Self {
        ServerLoad {
            start,
            half_life: AtomicU32::new(ticks(half_life).to_bits()),
            in_flight: AtomicU32::new(0),
            served: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            smoothed: AtomicU64::new(0),
        }
    }

    /// A latency counts half after so long from now on.
    pub fn set_half_life(&self, half_life: Duration) {
        let ticks = ticks(half_life);
        self.half_life.store(ticks.to_bits(), Ordering::Relaxed);
    }

    /// Something is sent to the server, which counts as under way until the guard is finished or dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.served.fetch_add(1, Ordering::Relaxed);
        InFlight {
            load: Arc::clone(self),
        }
    }

    /// How much is under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How much was begun since the start.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Requests that have ended well, since the start.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// The smoothed latency in nanoseconds; 0 before the first sample.
    pub fn latency_nanos(&self) -> f32 {
        unpack(self.smoothed.load(Ordering::Relaxed)).0
    }

    /// The smoothed latency, if there was a sample.
    pub fn latency(&self) -> Option<Duration> {
        let nanos = self.latency_nanos();
        (nanos > 0.0).then(|| Duration::from_nanos(nanos as u64))
    }

    /// Takes a sample that was complete at `now`.
    ///
    /// The average is one over time and not over samples: a single slow query among thousands of fast ones moves it by its
    /// share of the time and does not drive all others away.
    pub fn sample(&self, latency: Duration, now: Instant) {
        let sample = (latency.as_nanos() as f32).max(1.0);
        self.move_towards(now, 0.0, |average| match average > 0.0 {
            true => Some(sample),
            false => None,
        });
        if self.latency_nanos() == 0.0 {
            // The first sample is all that is known.
            let first = pack(sample, self.tick(now));
            let _ = self
                .smoothed
                .compare_exchange(0, first, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Forgets a part of a high latency if there was no sample for `idle`: brings it nearer to `other`, the lowest one in the
    /// group. Else a server that was slow once would not be chosen, and so never be measured again.
    pub fn unlearn(&self, other: f32, idle: Duration, now: Instant) {
        let idle = (idle.as_nanos() / TICK_NANOS) as f32;
        self.move_towards(now, idle, |average| {
            (other > 0.0 && average > other).then_some(other)
        });
    }

    /// Moves the average towards a target by the time since the last move, if that is at least `idle` ticks.
    fn move_towards(&self, now: Instant, idle: f32, target: impl Fn(f32) -> Option<f32>) {
        let tick = self.tick(now);
        let half_life = f32::from_bits(self.half_life.load(Ordering::Relaxed));
        let step = |word| {
            let (average, last) = unpack(word);
            let passed = tick.wrapping_sub(last);
            // A sample that another core took with a later clock.
            if passed > u32::MAX / 2 || passed == 0 || (passed as f32) < idle {
                return None;
            }
            let kept = (-(passed as f32) / half_life).exp2();
            let target = target(average)?;
            Some(pack(average * kept + target * (1.0 - kept), tick))
        };
        // A lost race is a sample less, which no average notices, so it is not tried for long.
        let mut word = self.smoothed.load(Ordering::Relaxed);
        for _ in 0..3 {
            let Some(new) = step(word) else { return };
            let swapped = self.smoothed.compare_exchange_weak(
                word,
                new,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match swapped {
                Ok(_) => return,
                Err(current) => word = current,
            }
        }
    }

    fn tick(&self, now: Instant) -> u32 {
        let nanos = now.saturating_duration_since(self.start).as_nanos();
        // Wraps on purpose.
        (nanos / TICK_NANOS) as u32
    }
}

fn pack(average: f32, tick: u32) -> u64 {
    u64::from(average.to_bits()) << 32 | u64::from(tick)
}

fn unpack(word: u64) -> (f32, u32) {
    let high = (word >> 32) as u32;
    (f32::from_bits(high), word as u32)
}

/// Something under way on a server. Dropped, it is over and was not measured: a cancel or an error says nothing of the
/// server's speed.
#[derive(Debug)]
pub struct InFlight {
    load: Arc<ServerLoad>,
}

impl InFlight {
    /// It has ended well.
    pub fn answered(&self) {
        self.load.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// It is over now and took so long, to the first byte of its answer or to the last, but always the same.
    pub fn finish(self, latency: Duration, now: Instant) {
        self.load.sample(latency, now);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.load.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    const EQUAL: Candidate = Candidate {
        weight: 100,
        in_flight: 0,
        latency: 0.0,
        penalty: 1.0,
    };

    /// How much of many choices each candidate gets.
    fn shares(candidates: &[Candidate], seed: u64) -> Vec<f64> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let all = (1 << candidates.len()) - 1;
        let mut counts = vec![0_u32; candidates.len()];
        for _ in 0..20_000 {
            let chosen = choose(all, |i| candidates[i], &mut rng).unwrap();
            counts[chosen] += 1;
        }
        counts.iter().map(|n| f64::from(*n) / 20_000.0).collect()
    }

    fn near(share: f64, expected: f64) -> bool {
        (share - expected).abs() < 0.02
    }

    #[test]
    fn equal_servers_share_by_weight() {
        let weight = |weight| Candidate { weight, ..EQUAL };
        let cases: [(&[Candidate], &[f64]); 4] = [
            (&[EQUAL], &[1.0]),
            (&[EQUAL, EQUAL], &[0.5, 0.5]),
            (&[weight(300), weight(100)], &[0.75, 0.25]),
            (&[EQUAL, EQUAL, EQUAL, EQUAL], &[0.25, 0.25, 0.25, 0.25]),
        ];
        for (candidates, expected) in cases {
            let shares = shares(candidates, 1);
            let all = shares.iter().zip(expected).all(|(s, e)| near(*s, *e));
            assert!(all, "{shares:?} {expected:?}");
        }
    }

    // See: pgdog#703, where the busiest was preferred.
    #[test]
    fn the_less_loaded_is_preferred_by_the_square_of_the_ratio() {
        let busy = Candidate {
            in_flight: 1,
            ..EQUAL
        };
        let slow = |factor: f32| {
            [
                Candidate {
                    latency: 1e5,
                    ..EQUAL
                },
                Candidate {
                    latency: 1e5 * factor,
                    ..EQUAL
                },
            ]
        };
        assert!(near(shares(&[EQUAL, busy], 2)[1], 0.2));
        assert!(near(shares(&slow(3.0), 3)[1], 0.1));
        assert!(shares(&slow(100.0), 4)[1] < 0.001);
        let lagging = Candidate {
            penalty: 3.0,
            ..EQUAL
        };
        assert!(near(shares(&[lagging, EQUAL], 5)[0], 0.1));
    }

    #[test]
    fn an_unmeasured_server_is_compared_by_what_is_in_flight() {
        let measured = Candidate {
            latency: 1e9,
            ..EQUAL
        };
        assert!(near(shares(&[measured, EQUAL], 6)[0], 0.5));
    }

    #[test]
    fn load_in_flight_is_shared_by_weight() {
        let mut rng = SmallRng::seed_from_u64(8);
        let weights = [300, 100];
        let mut in_flight = [0_u32; 2];
        for _ in 0..400 {
            let candidate = |i: usize| Candidate {
                weight: weights[i],
                in_flight: in_flight[i],
                latency: 1e5,
                penalty: 1.0,
            };
            let chosen = choose(0b11, candidate, &mut rng).unwrap();
            in_flight[chosen] += 1;
        }
        assert!((285..=315).contains(&in_flight[0]), "{in_flight:?}");
    }

    proptest! {
        #[test]
        fn only_candidates_are_chosen(set: u64, seed: u64, in_flight: [u32; 4], latency in 0.0_f32..1e30) {
            let mut rng = SmallRng::seed_from_u64(seed);
            let candidate = |i: usize| Candidate {
                weight: in_flight[i % 4],
                in_flight: in_flight[(i + 1) % 4],
                latency,
                penalty: 1.0,
            };
            match choose(set, candidate, &mut rng) {
                None => prop_assert_eq!(set, 0),
                Some(chosen) => prop_assert!(set & (1 << chosen) != 0),
            }
        }

        #[test]
        fn odds_are_probabilities_and_fall_with_load(a in 0_u32..10_000, more in 1_u32..10_000, latency in 1.0_f32..1e12) {
            let less = Candidate { in_flight: a, latency, ..EQUAL };
            let loaded = Candidate { in_flight: a + more, latency, ..EQUAL };
            let odds = odds(&less, &loaded);
            prop_assert!(odds > 0.5 && odds <= 1.0, "{odds}");
        }
    }

    #[test]
    fn latency_is_an_average_over_time() {
        let load = ServerLoad::new(Duration::from_secs(5));
        let at = |ms| load.start + Duration::from_millis(ms);
        assert_eq!(load.latency(), None);
        load.sample(Duration::from_millis(1), at(0));
        assert_eq!(load.latency(), Some(Duration::from_millis(1)));
        // Half a lifetime of a slower server counts half.
        load.sample(Duration::from_millis(3), at(5_000));
        let millis = load.latency_nanos() / 1e6;
        assert!((millis - 2.0).abs() < 0.01, "{millis}");
        // One query of ten seconds among fast ones does not make the server a slow one.
        let load = ServerLoad::new(Duration::from_secs(5));
        for ms in 0..10_000 {
            let latency = if ms == 5_000 { 10_000 } else { 1 };
            load.sample(
                Duration::from_millis(latency),
                load.start + Duration::from_millis(ms),
            );
        }
        let millis = load.latency_nanos() / 1e6;
        assert!(millis < 3.0, "{millis}");
    }

    #[test]
    fn a_server_that_is_not_chosen_becomes_worth_a_try() {
        let load = ServerLoad::new(Duration::from_secs(5));
        let at = |seconds| load.start + Duration::from_secs(seconds);
        load.sample(Duration::from_secs(1), at(0));
        let (other, idle) = (1e6, Duration::from_secs(1));
        load.unlearn(other, idle, load.start + idle / 2);
        assert_eq!(
            load.latency(),
            Some(Duration::from_secs(1)),
            "it is not idle"
        );
        for second in 1..=60 {
            load.unlearn(other, idle, at(second));
        }
        let latency = load.latency_nanos();
        assert!(latency > other && latency < 2e6, "{latency}");
        // It never becomes better than the others by that.
        load.unlearn(1e9, idle, at(100));
        assert_eq!(load.latency_nanos(), latency);
    }

    #[test]
    fn what_is_under_way_is_counted_on_all_cores() {
        let load = Arc::new(ServerLoad::new(Duration::from_secs(5)));
        let guard = load.begin();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 1..=1000 {
                        load.begin()
                            .finish(Duration::from_micros(n), Instant::now());
                        drop(load.begin());
                    }
                });
            }
        });
        assert_eq!(load.in_flight(), 1);
        assert_eq!(load.served(), 8001);
        let latency = load.latency_nanos();
        assert!(latency > 0.0 && latency <= 1e6, "{latency}");
        drop(guard);
        assert_eq!(load.in_flight(), 0);
    }

    /// Clients that each send one request after the other, under a simulated clock: how many requests each of two servers
    /// got in each second. A server's latency grows with what it does.
    fn closed_loop(
        clients: usize,
        seconds: u64,
        base: impl Fn(usize, u64) -> u64,
    ) -> Vec<[u32; 2]> {
        let mut rng = SmallRng::seed_from_u64(9);
        let loads = [(); 2].map(|()| Arc::new(ServerLoad::new(Duration::from_secs(5))));
        let start = loads[0].start;
        // When a client goes on, and what it then is done with: server, beginning, guard.
        type Done = Option<(usize, u64, InFlight)>;
        let mut events: std::collections::BTreeMap<(u64, usize), Done> = (0..clients)
            .map(|client| ((client as u64, client), None))
            .collect();
        let mut counts = vec![[0; 2]; seconds as usize];
        let (mut served, mut tick) = ([0; 2], 0);
        while let Some(((micros, client), done)) = events.pop_first() {
            let now = start + Duration::from_micros(micros);
            let second = micros / 1_000_000;
            if second >= seconds {
                break;
            }
            if let Some((server, began, guard)) = done {
                loads[server].sample(Duration::from_micros(micros - began), now);
                drop(guard);
                counts[second as usize][server] += 1;
            }
            if micros / 1_000_000 > tick {
                tick = micros / 1_000_000;
                // As `health` does with each probe of the primary.
                let lowest = loads[0].latency_nanos().min(loads[1].latency_nanos());
                for (load, served) in loads.iter().zip(&mut served) {
                    let idle = std::mem::replace(served, load.served()) == load.served();
                    if idle && load.in_flight() == 0 {
                        load.unlearn(lowest, Duration::from_millis(100), now);
                    }
                }
            }
            let candidate = |i: usize| Candidate {
                in_flight: loads[i].in_flight(),
                latency: loads[i].latency_nanos(),
                ..EQUAL
            };
            let server = choose(0b11, candidate, &mut rng).unwrap();
            let guard = loads[server].begin();
            let busy = u64::from(loads[server].in_flight()).max(2) / 2;
            let latency = base(server, second) * busy;
            events.insert((micros + latency, client), Some((server, micros, guard)));
        }
        counts
    }

    fn share(counts: &[[u32; 2]], server: usize) -> f64 {
        let sum = |server: usize| counts.iter().map(|c| f64::from(c[server])).sum::<f64>();
        sum(server) / (sum(0) + sum(1))
    }

    #[test]
    fn a_slow_server_gets_less_and_gets_its_share_back_when_it_has_recovered() {
        for clients in [1, 4, 32] {
            // Server 1 takes ten times as long from second 20 to 40.
            let slow = |server, second| match (server, second) {
                (1, 20..40) => 5_000,
                _ => 500,
            };
            let counts = closed_loop(clients, 90, slow);
            let (before, during, after) = (&counts[5..20], &counts[25..40], &counts[70..]);
            let shares = [share(before, 1), share(during, 1), share(after, 1)];
            println!("{clients} clients: {shares:.3?}");
            assert!(
                (0.4..0.6).contains(&shares[0]),
                "{clients} clients: {shares:?}"
            );
            assert!(shares[1] < 0.2, "{clients} clients: {shares:?}");
            assert!(
                (0.4..0.6).contains(&shares[2]),
                "{clients} clients: {shares:?}"
            );
            // Never a see-saw: in calm times no second is one-sided.
            let calm = before.iter().all(|second| share(&[*second], 1) > 0.25);
            assert!(calm, "{clients} clients: {before:?}");
        }
    }
}
