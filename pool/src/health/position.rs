//! Samples of the primary's WAL position over time. They tell which acknowledged writes a replica has replayed, and the
//! maximum age of its data.
//!
//! Pure. Times come from the router's monotonic clock and are taken before the probe is sent. A replica that has replayed
//! up to the WAL position in the answer has everything that was committed at that time. The servers' clocks are not used.

use super::clock::WriteNumber;
use super::report::Lsn;
use std::collections::VecDeque;
use std::time::Instant;

/// The most positions kept. When there are more, the older half is thinned out: what a lagging replica has seen is then said less
/// exactly, on the safe side.
const MAX_SAMPLES: usize = 1024;

/// One answer of the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalSample {
    /// The number of the last acknowledged write, read before the question was sent.
    pub moment: WriteNumber,
    /// When that was.
    pub at: Instant,
    /// Writes up to `moment` end at or below this.
    pub written: Lsn,
}

/// Positions of one primary on one timeline, oldest first, all figures ascending.
#[derive(Clone, Debug, Default)]
pub struct WalHistory {
    kept: VecDeque<WalSample>,
}

impl WalHistory {
    /// Adds a sample. Samples must come in the order in which the probes were sent.
    pub fn push(&mut self, new: WalSample) {
        if let Some(last) = self.kept.back() {
            if new.written < last.written {
                // After a crash a primary's WAL may end earlier, because unacknowledged records are lost. The old samples are still
                // correct for their writes, but they are no longer in WAL order.
                self.kept.clear();
            } else if new.moment < last.moment || new.at < last.at {
                return;
            } else if new.written == last.written {
                // The same position, reached by more writes at a later time, says all that the older one said.
                self.kept.pop_back();
            }
        }
        self.kept.push_back(new);
        if self.kept.len() > MAX_SAMPLES {
            let mut index = 0;
            self.kept.retain(|_| {
                index += 1;
                index > MAX_SAMPLES / 2 || index % 2 == 1
            });
        }
    }

    /// The latest answer.
    pub fn latest(&self) -> Option<&WalSample> {
        self.kept.back()
    }

    /// The latest sample at or below the LSN `replayed`. A replica that has replayed so far has all writes of this sample.
    pub fn last_replayed(&self, replayed: Lsn) -> Option<&WalSample> {
        let above = self.kept.partition_point(|p| p.written <= replayed);
        self.kept.get(above.checked_sub(1)?)
    }

    /// Forgets everything: another primary, another timeline.
    pub fn clear(&mut self) {
        self.kept.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_replica_has_seen_what_lies_at_or_below_its_position() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut positions = WalHistory::default();
        let mut note = |moment, seconds, written| {
            positions.push(WalSample {
                moment,
                at: at(seconds),
                written: Lsn(written),
            });
            positions.clone()
        };
        note(0, 0, 100);
        note(3, 1, 200);
        note(3, 2, 200);
        let positions = note(9, 3, 300);
        let seen = |replayed| {
            positions
                .last_replayed(Lsn(replayed))
                .map(|p| (p.moment, p.at))
        };
        assert_eq!(seen(99), None);
        assert_eq!(seen(100), Some((0, at(0))));
        assert_eq!(seen(199), Some((0, at(0))));
        assert_eq!(seen(200), Some((3, at(2))));
        assert_eq!(seen(u64::MAX), Some((9, at(3))));
    }

    #[test]
    fn a_shorter_log_after_a_crash_starts_anew() {
        let at = Instant::now();
        let mut positions = WalHistory::default();
        for (moment, written) in [(1, 100), (2, 200), (2, 150)] {
            positions.push(WalSample {
                moment,
                at,
                written: Lsn(written),
            });
        }
        assert_eq!(positions.last_replayed(Lsn(149)), None);
        assert_eq!(positions.last_replayed(Lsn(150)).map(|p| p.moment), Some(2));
    }

    #[test]
    fn positions_are_bounded_and_the_newest_are_kept() {
        let at = Instant::now();
        let mut positions = WalHistory::default();
        for n in 1..=5000 {
            positions.push(WalSample {
                moment: n,
                at,
                written: Lsn(n * 10),
            });
            assert!(positions.kept.len() <= MAX_SAMPLES);
            assert_eq!(positions.latest().map(|p| p.moment), Some(n));
        }
        // Thinned out, but never more than was seen.
        for n in 1..=5000 {
            assert!(
                positions
                    .last_replayed(Lsn(n * 10))
                    .is_none_or(|p| p.moment <= n)
            );
        }
        assert!(positions.last_replayed(Lsn(10_000)).is_some());
    }
}
