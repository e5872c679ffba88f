//! Whose turn it is among requests that wait for one pool.
//!
//! Pure. A [`Rank`] is fixed when a request comes, so that nothing is sorted anew
//! while it waits: a request of a high priority is due at once, one of a low
//! priority later, and who is due first is served first. That is ageing at the same
//! pace for all. Transactions that join a server have a line of their own, before
//! this one; see [`pool`](crate::pool).

use std::time::{Duration, Instant};

/// What one point of priority is worth: a request goes before those that came up to so
/// much earlier and have a point less.
pub const POINT: Duration = Duration::from_millis(100);

/// The place of a request in its line: the smallest is served first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    due: Instant,
    /// Tickets are given in the order of arrival.
    ticket: u64,
}

impl Rank {
    /// The rank of a request that waits since `since`.
    pub fn new(since: Instant, priority: i8, ticket: u64) -> Self {
        // Counted down from the highest, because an instant may have none before it.
        let behind = i8::MAX.abs_diff(priority);
        Rank {
            due: since + POINT * u32::from(behind),
            ticket,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    /// Requests as (milliseconds of their arrival, priority), in the order of their ranks.
    fn served(requests: &[(u64, i8)]) -> Vec<(u64, i8)> {
        let begin = Instant::now();
        let rank = |&(ticket, &(at, priority)): &(usize, &(u64, i8))| {
            Rank::new(begin + Duration::from_millis(at), priority, ticket as u64)
        };
        let mut line: Vec<_> = requests.iter().enumerate().collect();
        line.sort_by_key(rank);
        line.into_iter().map(|(_, request)| *request).collect()
    }

    #[test]
    fn without_priorities_who_comes_first_is_served_first() {
        let requests = [(0, 0), (0, 0), (1, 0), (5, 0), (90_000, 0)];
        assert_eq!(served(&requests), requests);
        let same = requests.map(|(at, _)| (at, -100));
        assert_eq!(served(&same), same);
    }

    #[test]
    fn a_higher_priority_goes_before_a_lower_one_that_came_shortly_before() {
        assert_eq!(
            served(&[(0, -100), (10, 0), (20, 100), (30, 0), (40, 100)]),
            [(20, 100), (40, 100), (10, 0), (30, 0), (0, -100)]
        );
        // The extremes of the type, too.
        assert_eq!(
            served(&[(0, i8::MIN), (1, i8::MAX)]),
            [(1, i8::MAX), (0, i8::MIN)]
        );
    }

    #[test]
    fn a_low_priority_that_has_waited_for_long_goes_before_a_high_one_that_comes() {
        // Ten points are a second.
        assert_eq!(served(&[(0, 0), (999, 10)]), [(999, 10), (0, 0)]);
        assert_eq!(served(&[(0, 0), (1000, 10)]), [(0, 0), (1000, 10)]);
        assert_eq!(
            served(&[(0, -100), (19_999, 100), (20_001, 100)]),
            [(19_999, 100), (0, -100), (20_001, 100)]
        );
    }

    #[test]
    fn nobody_is_overtaken_by_more_than_the_points_between_them() {
        let seed: u64 = rand::random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        for _ in 0..200 {
            let mut requests: Vec<(u64, i8)> = (0..50)
                .map(|_| {
                    (
                        random.random_range(0..30_000),
                        random.random_range(-100..=100),
                    )
                })
                .collect();
            // They come in the order of their tickets.
            requests.sort_by_key(|(at, _)| *at);
            let order = served(&requests);
            for (place, (at, priority)) in order.iter().enumerate() {
                for (later, lower) in &order[place + 1..] {
                    let points = u64::try_from(i32::from(*priority) - i32::from(*lower));
                    let head_start = points.map_or(0, |points| points * 100);
                    let came_before = at <= later;
                    let overtakes = at - later.min(at) <= head_start;
                    assert!(came_before || overtakes, "{order:?}");
                    assert!(at != later || priority >= lower, "{order:?}");
                }
            }
        }
    }
}
