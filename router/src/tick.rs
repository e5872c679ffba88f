//! When periodic work runs. Work with the same period runs at the same moments, so that a thread wakes once for all of it.
//!
//! A process without load does little else than wake up, and each wake-up costs more than the work for which it is.

use std::sync::OnceLock;
use std::time::Duration;
use tokio::time::Instant;

/// The next moment that is a multiple of `period` after the first call in the process: at most `period` from now.
pub fn next(period: Duration) -> Instant {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let now = Instant::now();
    let first = *FIRST.get_or_init(|| now);
    match now.checked_duration_since(first) {
        Some(elapsed) => first + next_multiple(elapsed, period),
        // The clock of a simulation begins anew with each run.
        None => now + period,
    }
}

/// The same for work that asks servers: at least half a period from now, so that slow servers are not asked without pause.
pub fn spaced(period: Duration) -> Instant {
    let next = next(period);
    match next < Instant::now() + period / 2 {
        true => next + period,
        false => next,
    }
}

/// The least multiple of `period` that is more than `elapsed`.
fn next_multiple(elapsed: Duration, period: Duration) -> Duration {
    let nanos = period.as_nanos().max(1);
    let over = elapsed.as_nanos() % nanos;
    elapsed + Duration::from_nanos(u64::try_from(nanos - over).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_equally_often_is_due_at_once() {
        let ms = Duration::from_millis;
        for (elapsed, period, next) in [
            (0, 1000, 1000),
            (1, 1000, 1000),
            (999, 1000, 1000),
            (1000, 1000, 2000),
            (1234, 200, 1400),
            (1234, 400, 1600),
        ] {
            assert_eq!(
                next_multiple(ms(elapsed), ms(period)),
                ms(next),
                "{elapsed}"
            );
        }
        assert!(next_multiple(ms(5), Duration::ZERO) > ms(5));
    }

    #[test]
    fn what_asks_servers_pauses_for_half_a_period_at_least() {
        let period = Duration::from_secs(10);
        for _ in 0..100 {
            let pause = spaced(period) - Instant::now();
            let most = period + period / 2;
            assert!((period * 49 / 100..=most).contains(&pause), "{pause:?}");
        }
    }
}
