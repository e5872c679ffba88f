//! Requests that wait while their shard has no primary: how many, and how much they hold.

use crate::config::Failover;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What waits, over all cores.
#[derive(Debug, Default)]
pub struct WaitingTotals {
    requests: AtomicU64,
    bytes: AtomicU64,
}

/// Why a request may not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// So many wait already.
    pub requests: u64,
    /// So many bytes they hold.
    pub bytes: u64,
}

/// A request that waits; it does no longer when this is dropped.
#[derive(Debug)]
pub struct Holding {
    held: Arc<WaitingTotals>,
    bytes: u64,
}

impl WaitingTotals {
    /// Lets a request of so many bytes wait.
    ///
    /// # Errors
    /// What waits already, if one more would be too much.
    pub fn hold(self: &Arc<Self>, bytes: usize, limits: &Failover) -> Result<Holding, Full> {
        let bytes = bytes as u64;
        let holding = Holding {
            held: Arc::clone(self),
            bytes,
        };
        // Counted before it is judged, and no longer if it is refused: two cores never let in one too many.
        let requests = self.requests.fetch_add(1, Ordering::Relaxed);
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits =
            requests < u64::from(limits.requests) && before + bytes <= limits.size.bytes() as u64;
        match fits {
            true => Ok(holding),
            false => Err(Full {
                requests,
                bytes: before,
            }),
        }
    }

    /// How many wait, and what they hold in bytes.
    pub fn now(&self) -> (u64, u64) {
        let now = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (now(&self.requests), now(&self.bytes))
    }
}

impl Holding {
    /// It holds so many bytes now.
    ///
    /// # Errors
    /// What waits, if that has become too much.
    pub fn holds(&mut self, bytes: usize, limits: &Failover) -> Result<(), Full> {
        let bytes = bytes as u64;
        // What is given back is added as what wraps around to it.
        let change = bytes.wrapping_sub(self.bytes);
        let before = self.held.bytes.fetch_add(change, Ordering::Relaxed);
        let (all, grown) = (before.wrapping_add(change), bytes > self.bytes);
        self.bytes = bytes;
        match grown && all > limits.size.bytes() as u64 {
            true => Err(Full {
                requests: self.held.requests.load(Ordering::Relaxed),
                bytes: all,
            }),
            false => Ok(()),
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.held.requests.fetch_sub(1, Ordering::Relaxed);
        self.held.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::ByteSize;
    use std::time::Duration;

    #[test]
    fn no_more_wait_than_may_and_room_comes_back() {
        let held = Arc::new(WaitingTotals::default());
        let limits = Failover {
            requests: 2,
            size: ByteSize::mib(1),
            window: Duration::ZERO,
            drain: Duration::ZERO,
            silence: None,
        };
        let large = held.hold(1 << 20, &limits).unwrap();
        let full = Full {
            requests: 1,
            bytes: 1 << 20,
        };
        assert_eq!(held.hold(1, &limits).unwrap_err(), full);
        let empty = held.hold(0, &limits).unwrap();
        let requests = held.hold(0, &limits).unwrap_err().requests;
        assert_eq!((requests, held.now()), (2, (2, 1 << 20)));
        drop(large);
        let mut grows = held.hold(1, &limits).unwrap();
        grows.holds(1 << 20, &limits).unwrap();
        assert_eq!(grows.holds((1 << 20) + 1, &limits).unwrap_err().requests, 2);
        grows.holds(2, &limits).unwrap();
        assert_eq!(held.now(), (2, 2));
        drop(grows);
        let small = held.hold(1, &limits).unwrap();
        drop((empty, small));
        assert_eq!(held.now(), (0, 0));
    }
}
