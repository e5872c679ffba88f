//! Histograms of where the time of requests went, by shard, role and kind of plan.
//!
//! A histogram is made when its first request ends and then never again: recording
//! finds it by an index and adds one to a number, for some requests at a time.

use crate::config::Role;
use hdrhistogram::Histogram;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest time told apart from longer ones, in microseconds: an hour.
const LONGEST: u64 = 3_600_000_000;
/// Two digits are exact: 1 % of error, 26 KiB for each histogram.
const DIGITS: u8 = 2;

/// Which shards served a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// None: the router answered itself.
    #[default]
    Router,
    /// One, by its place in the configuration.
    Shard(u16),
    /// More than one.
    Several,
}

/// How a request was planned; the words of `Plan`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlanKind {
    /// Answered by the router.
    #[default]
    Local,
    /// One shard; bytes pass through.
    Single,
    /// Several shards, merged.
    Scatter,
    /// A write divided by shard.
    Split,
    /// Rows gathered on one backend.
    Gather,
    /// Refused.
    Refuse,
}

impl PlanKind {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::Local,
        Self::Single,
        Self::Scatter,
        Self::Split,
        Self::Gather,
        Self::Refuse,
    ];

    /// The word in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Single => "single",
            Self::Scatter => "scatter",
            Self::Split => "split",
            Self::Gather => "gather",
            Self::Refuse => "refuse",
        }
    }
}

/// What served a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServedBy {
    /// No server.
    #[default]
    Nobody,
    /// A primary, or a server that nothing is known about: it takes writes.
    Primary,
    /// A replica.
    Replica,
}

impl ServedBy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Nobody, Self::Primary, Self::Replica];

    /// The word in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Nobody => "none",
            Self::Primary => "primary",
            Self::Replica => "replica",
        }
    }
}

impl From<Role> for ServedBy {
    fn from(role: Role) -> Self {
        match role {
            Role::Replica => Self::Replica,
            Role::Primary | Role::Auto => Self::Primary,
        }
    }
}

/// Which histograms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LatencyKey {
    /// Which shards.
    pub place: Place,
    /// What kind of server.
    pub role: ServedBy,
    /// How it was planned.
    pub kind: PlanKind,
}

impl LatencyKey {
    fn index(self) -> usize {
        let place = match self.place {
            Place::Router => 0,
            Place::Several => 1,
            Place::Shard(n) => 2 + usize::from(n),
        };
        (place * ServedBy::ALL.len() + self.role as usize) * PlanKind::ALL.len()
            + self.kind as usize
    }
}

/// Where the time of one request went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// For a server connection.
    pub waiting: Duration,
    /// Until it was known where to send it.
    pub planning: Duration,
    /// With the servers.
    pub server: Duration,
    /// From the request to its answer.
    pub total: Duration,
}

/// One histogram with its exact sum.
#[derive(Clone, Debug)]
pub struct Span {
    histogram: Histogram<u64>,
    sum: u64,
}

impl Default for Span {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST, DIGITS);
        Self {
            histogram: histogram.expect("the bounds are constants that fit"),
            sum: 0,
        }
    }
}

impl Span {
    fn record(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(micros);
        self.sum = self.sum.saturating_add(micros);
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        self.histogram
            .add(&other.histogram)
            .expect("all histograms have the same bounds");
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Their sum.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum)
    }

    /// How many took at most each of `limits`, which ascend.
    pub fn at_most(&self, limits: &[Duration]) -> Vec<u64> {
        let mut counts = vec![0; limits.len()];
        let mut at = 0;
        let mut seen = 0;
        for value in self.histogram.iter_recorded() {
            let micros = u128::from(value.value_iterated_to());
            while at < limits.len() && limits[at].as_micros() < micros {
                counts[at] = seen;
                at += 1;
            }
            seen += value.count_since_last_iteration();
        }
        counts[at..].fill(seen);
        counts
    }

    /// The time that this share of requests did not exceed.
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_micros(self.histogram.value_at_quantile(share))
    }
}

/// The four histograms of one key.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    /// See [`Spent::waiting`].
    pub waiting: Span,
    /// See [`Spent::planning`].
    pub planning: Span,
    /// See [`Spent::server`].
    pub server: Span,
    /// See [`Spent::total`].
    pub total: Span,
}

impl Spans {
    fn record(&mut self, spent: Spent) {
        self.waiting.record(spent.waiting);
        self.planning.record(spent.planning);
        self.server.record(spent.server);
        self.total.record(spent.total);
    }

    /// Adds another core's.
    pub fn add(&mut self, other: &Self) {
        self.waiting.add(&other.waiting);
        self.planning.add(&other.planning);
        self.server.add(&other.server);
        self.total.add(&other.total);
    }
}

/// Requests that ended and are not in their histograms yet. Sorting them in together costs a fraction of doing it one by
/// one: what it takes is in the processor's cache after the first.
const FRESH: usize = 64;

/// The histograms of one core.
#[derive(Default)]
pub struct Latencies {
    all: RefCell<Vec<Slot>>,
    fresh: RefCell<Vec<(LatencyKey, Spent)>>,
}

/// The place of one key; empty until its first request ends.
type Slot = Option<Box<(LatencyKey, Spans)>>;

impl Latencies {
    /// A request was answered.
    pub fn record(&self, key: LatencyKey, spent: Spent) {
        let mut fresh = self.fresh.borrow_mut();
        fresh.push((key, spent));
        if fresh.len() >= FRESH {
            self.sort_in(&mut fresh);
        }
    }

    #[cold]
    fn sort_in(&self, fresh: &mut Vec<(LatencyKey, Spent)>) {
        let mut all = self.all.borrow_mut();
        for (key, spent) in fresh.drain(..) {
            let index = key.index();
            if index >= all.len() {
                all.resize_with(index + 1, || None);
            }
            let slot = all[index].get_or_insert_with(|| Box::new((key, Spans::default())));
            slot.1.record(spent);
        }
    }

    /// A copy of all of them.
    pub fn snapshot(&self) -> BTreeMap<LatencyKey, Spans> {
        self.sort_in(&mut self.fresh.borrow_mut());
        let all = self.all.borrow();
        all.iter()
            .flatten()
            .map(|known| (**known).clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn keys_have_indexes_of_their_own() {
        let places = [
            Place::Router,
            Place::Several,
            Place::Shard(0),
            Place::Shard(7),
        ];
        let mut seen = std::collections::HashSet::new();
        for place in places {
            for role in ServedBy::ALL {
                for kind in PlanKind::ALL {
                    let key = LatencyKey { place, role, kind };
                    assert!(seen.insert(key.index()), "{key:?}");
                }
            }
        }
    }

    #[test]
    fn buckets_count_what_lies_below_their_limit() {
        let latencies = Latencies::default();
        for n in 1..=100 {
            let spent = Spent {
                total: ms(n),
                ..Spent::default()
            };
            latencies.record(LatencyKey::default(), spent);
        }
        let mut spans = latencies.snapshot().remove(&LatencyKey::default()).unwrap();
        let other = spans.clone();
        spans.add(&other);
        let total = &spans.total;
        assert_eq!(total.count(), 200);
        assert_eq!(total.sum(), ms(2 * 5_050));
        let counts = total.at_most(&[Duration::from_micros(500), ms(10), ms(50), ms(1_000)]);
        assert_eq!((counts[0], counts[3]), (0, 200));
        // Two digits are exact, so a limit may cut a neighbour off.
        assert!((18..=22).contains(&counts[1]), "{counts:?}");
        assert!((96..=104).contains(&counts[2]), "{counts:?}");
        let median = total.quantile(0.5).as_millis();
        assert!((49..=51).contains(&median), "{median}");
        assert_eq!(Span::default().at_most(&[ms(1)]), [0]);
    }

    #[test]
    fn what_takes_longer_than_the_longest_still_counts() {
        let mut span = Span::default();
        span.record(Duration::MAX);
        assert_eq!(span.count(), 1);
    }
}
