//! How far the primary's log went at some moments, and so what a replica that has
//! replayed to a position has seen, and how old its state is at most.
//!
//! Pure. Times are the router's own, monotonic, taken before the question was
//! sent: a replica that has reached the answer had everything that was committed
//! at that time. No server's clock is trusted.

use super::clock::Moment;
use super::report::Lsn;
use std::collections::VecDeque;
use std::time::Instant;

/// The most positions kept. When there are more, the older half is thinned out: what a lagging replica has seen is then said less
/// exactly, on the safe side.
const KEPT: usize = 1024;

/// One answer of the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The number of the last acknowledged write, read before the question was sent.
    pub moment: Moment,
    /// When that was.
    pub at: Instant,
    /// Writes up to `moment` end at or below this.
    pub written: Lsn,
}

/// Positions of one primary on one timeline, oldest first, all figures ascending.
#[derive(Clone, Debug, Default)]
pub struct Positions {
    kept: VecDeque<Position>,
}

impl Positions {
    /// Notes an answer. Answers come in the order of their questions.
    pub fn note(&mut self, new: Position) {
        if let Some(last) = self.kept.back() {
            if new.written < last.written {
                // After a crash a primary's log may end earlier: records that nobody was told of are lost. What was
                // noted stays true for the writes it counts, but order by position is gone.
                self.kept.clear();
            } else if new.moment < last.moment || new.at < last.at {
                return;
            } else if new.written == last.written {
                // The same position, reached by more writes at a later time, says all that the older one said.
                self.kept.pop_back();
            }
        }
        self.kept.push_back(new);
        if self.kept.len() > KEPT {
            let mut index = 0;
            self.kept.retain(|_| {
                index += 1;
                index > KEPT / 2 || index % 2 == 1
            });
        }
    }

    /// The latest answer.
    pub fn latest(&self) -> Option<&Position> {
        self.kept.back()
    }

    /// The latest answer that lies at or below `replayed`: who has replayed that far has seen all that it counts.
    pub fn reached(&self, replayed: Lsn) -> Option<&Position> {
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
        let mut positions = Positions::default();
        let mut note = |moment, seconds, written| {
            positions.note(Position {
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
        let seen = |replayed| positions.reached(Lsn(replayed)).map(|p| (p.moment, p.at));
        assert_eq!(seen(99), None);
        assert_eq!(seen(100), Some((0, at(0))));
        assert_eq!(seen(199), Some((0, at(0))));
        assert_eq!(seen(200), Some((3, at(2))));
        assert_eq!(seen(u64::MAX), Some((9, at(3))));
    }

    #[test]
    fn a_shorter_log_after_a_crash_starts_anew() {
        let at = Instant::now();
        let mut positions = Positions::default();
        for (moment, written) in [(1, 100), (2, 200), (2, 150)] {
            positions.note(Position {
                moment,
                at,
                written: Lsn(written),
            });
        }
        assert_eq!(positions.reached(Lsn(149)), None);
        assert_eq!(positions.reached(Lsn(150)).map(|p| p.moment), Some(2));
    }

    #[test]
    fn positions_are_bounded_and_the_newest_are_kept() {
        let at = Instant::now();
        let mut positions = Positions::default();
        for n in 1..=5000 {
            positions.note(Position {
                moment: n,
                at,
                written: Lsn(n * 10),
            });
            assert!(positions.kept.len() <= KEPT);
            assert_eq!(positions.latest().map(|p| p.moment), Some(n));
        }
        // Thinned out, but never more than was seen.
        for n in 1..=5000 {
            assert!(positions.reached(Lsn(n * 10)).is_none_or(|p| p.moment <= n));
        }
        assert!(positions.reached(Lsn(10_000)).is_some());
    }
}
