//! How much of what a rule allows is in use: requests at once, and requests in time. Of all cores together.
//!
//! [`pace`] decides, by times that it is given. [`Meter`] counts in atomics, and lets requests wait for a place; it is
//! kept over a reload under the name of its rule.

use crate::config::{Caps, Rate};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// What one rule's requests use.
#[derive(Debug)]
pub struct Meter {
    begun: Instant,
    running: AtomicU32,
    waiting: AtomicU32,
    refused: AtomicU64,
    /// When the next request would be on time, in nanoseconds since it was made.
    due: AtomicU64,
    freed: Notify,
}

impl Default for Meter {
    fn default() -> Self {
        Meter {
            begun: Instant::now(),
            running: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            refused: AtomicU64::new(0),
            due: AtomicU64::new(0),
            freed: Notify::new(),
        }
    }
}

/// A request that counts as running, until it is dropped.
#[derive(Debug)]
pub struct Running(Arc<Meter>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.notify_one();
    }
}

/// A request that waits, until it is dropped.
struct Waiting<'m>(&'m AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Why a request is not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// So many run, after it had waited.
    Running {
        /// Those.
        running: u32,
        /// That.
        waited: Duration,
    },
    /// It would be on time only then.
    Early(Duration),
    /// So many wait already.
    Waiting(u32),
}

/// Figures for the console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Requests and transactions that run.
    pub running: u32,
    /// Requests that wait for their turn.
    pub waiting: u32,
    /// Requests that were refused because of a limit.
    pub refused: u64,
}

/// When a request comes: how long it has to wait and what is due for the next one. `due` and `now` count from the same
/// moment. Fails with how long it would have to wait, if that is more than `patience`.
///
/// # Errors
/// The time after which it would be let through.
pub fn pace(
    due: Duration,
    now: Duration,
    rate: Rate,
    patience: Duration,
) -> Result<(Duration, Duration), Duration> {
    let each = rate.per / rate.count.get();
    let start = due.max(now);
    // Without having used them for a while, as many come at once as there are in one period.
    let allowance = each * (rate.count.get() - 1);
    let wait = start.saturating_sub(allowance).saturating_sub(now);
    match wait <= patience {
        true => Ok((wait, start + each)),
        false => Err(wait),
    }
}

impl Meter {
    /// What is in use.
    pub fn used(&self) -> Used {
        Used {
            running: self.running.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// Lets a request in that holds nothing yet, when there is room; `line` may wait at the same time. Cancel safe.
    ///
    /// # Errors
    /// Why it may not come in.
    pub async fn enter(self: &Arc<Self>, caps: &Caps, line: u32) -> Result<Option<Running>, Over> {
        let entered = self.try_enter(caps, line).await;
        if entered.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        entered
    }

    async fn try_enter(self: &Arc<Self>, caps: &Caps, line: u32) -> Result<Option<Running>, Over> {
        let begun = Instant::now();
        if let Some(rate) = caps.rate {
            let wait = self.reserve(rate, caps.wait).map_err(Over::Early)?;
            if !wait.is_zero() {
                let _waiting = self.line_up(line)?;
                tokio::time::sleep(wait).await;
            }
        }
        let Some(most) = caps.concurrency else {
            return Ok(None);
        };
        // Who comes new does not go before those who wait.
        if self.waiting.load(Ordering::Acquire) == 0
            && let Some(running) = self.take(most.get())
        {
            return Ok(Some(running));
        }
        let over = |waited| Over::Running {
            running: self.running.load(Ordering::Relaxed),
            waited,
        };
        if caps.wait.is_zero() {
            return self.take(most.get()).map(Some).ok_or(over(Duration::ZERO));
        }
        let _waiting = self.line_up(line)?;
        let room = async {
            loop {
                let mut freed = std::pin::pin!(self.freed.notified());
                // Registered before the look, so that nothing that is freed falls between.
                freed.as_mut().enable();
                if let Some(running) = self.take(most.get()) {
                    return running;
                }
                freed.await;
            }
        };
        let left = caps.wait.saturating_sub(begun.elapsed());
        match tokio::time::timeout(left, room).await {
            Ok(running) => Ok(Some(running)),
            Err(_) => Err(over(begun.elapsed())),
        }
    }

    /// Counts a request that is in the middle of something: it neither waits nor is it refused, and others come later
    /// for it.
    pub fn charge(&self, caps: &Caps) {
        if let Some(rate) = caps.rate {
            // Not more than one period, or those who come later would pay for hours.
            let _ = self.reserve(rate, rate.per);
        }
    }

    fn reserve(&self, rate: Rate, patience: Duration) -> Result<Duration, Duration> {
        let now = self.begun.elapsed();
        let mut known = self.due.load(Ordering::Acquire);
        loop {
            let (wait, next) = pace(Duration::from_nanos(known), now, rate, patience)?;
            let next = u64::try_from(next.as_nanos()).unwrap_or(u64::MAX);
            let swapped =
                self.due
                    .compare_exchange_weak(known, next, Ordering::AcqRel, Ordering::Acquire);
            match swapped {
                Ok(_) => return Ok(wait),
                Err(other) => known = other,
            }
        }
    }

    fn line_up(&self, line: u32) -> Result<Waiting<'_>, Over> {
        let waiting = self.waiting.fetch_add(1, Ordering::AcqRel);
        let place = Waiting(&self.waiting);
        match waiting < line {
            true => Ok(place),
            false => Err(Over::Waiting(waiting)),
        }
    }

    fn take(self: &Arc<Self>, most: u32) -> Option<Running> {
        let more = |running: u32| (running < most).then_some(running + 1);
        let taken = self
            .running
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        taken.is_ok().then(|| Running(Arc::clone(self)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    const SECOND: Duration = Duration::from_secs(1);

    fn ten_a_second() -> Rate {
        Rate {
            count: NonZeroU32::new(10).unwrap(),
            per: SECOND,
        }
    }

    #[test]
    fn as_many_come_as_the_rate_says_and_a_period_of_them_at_once() {
        let (mut due, mut passed) = (Duration::ZERO, 0);
        // One tries each millisecond for three seconds.
        for now in (0..3000).map(Duration::from_millis) {
            if let Ok((_, next)) = pace(due, now, ten_a_second(), Duration::ZERO) {
                (due, passed) = (next, passed + 1);
            }
        }
        assert_eq!(passed, 10 + 29);
        // After a pause no more than a period of them.
        let now = SECOND * 100;
        let mut passed = 0;
        while let Ok((_, next)) = pace(due, now, ten_a_second(), Duration::ZERO) {
            (due, passed) = (next, passed + 1);
        }
        assert_eq!(passed, 10);
        let tenth = SECOND / 10;
        assert_eq!(pace(due, now, ten_a_second(), Duration::ZERO), Err(tenth));
        assert_eq!(
            pace(due, now, ten_a_second(), tenth),
            Ok((tenth, due + tenth))
        );
    }

    #[tokio::test]
    async fn who_waits_comes_in_when_one_has_ended_and_the_line_has_an_end() {
        let meter = Arc::new(Meter::default());
        let caps = Caps {
            concurrency: NonZeroU32::new(1),
            rate: None,
            wait: SECOND * 60,
        };
        let first = meter.enter(&caps, 1).await.unwrap();
        assert!(first.is_some());
        let hasty = Caps {
            wait: Duration::ZERO,
            ..caps.clone()
        };
        let refused = meter.enter(&hasty, 1).await.unwrap_err();
        let waited = Duration::ZERO;
        assert_eq!(refused, Over::Running { running: 1, waited });
        let (waiting, asked) = (Arc::clone(&meter), caps.clone());
        let second = tokio::spawn(async move { waiting.enter(&asked, 1).await });
        while meter.used().waiting == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(meter.enter(&caps, 1).await.unwrap_err(), Over::Waiting(1));
        drop(first);
        assert!(second.await.unwrap().unwrap().is_some());
        let used = Used {
            running: 0,
            waiting: 0,
            refused: 2,
        };
        assert_eq!(meter.used(), used);
    }
}
