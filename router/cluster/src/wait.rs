//! Waiting for a condition of the outside world: polls with a deadline, never
//! one fixed sleep. This is the only place that sleeps.

use std::time::{Duration, Instant};

/// Between two polls. Short beside the 100 ms that a server needs to start,
/// long enough that a hundred waiting tests cost no noticeable CPU.
const INTERVAL: Duration = Duration::from_millis(5);

/// Polls `condition` until it holds or `limit` has passed; says whether it held.
///
/// The condition is tried at least once, and once more after the deadline, so
/// that a machine which was asleep in between gives no false alarm.
pub fn poll_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if condition() {
            return true;
        }
        std::thread::sleep(INTERVAL);
    }
    condition()
}
