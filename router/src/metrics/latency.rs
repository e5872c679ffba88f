//! Histograms of where the time of requests went, by shard, role and kind of plan.
//!
//! A histogram is allocated when the first request of its key ends. Recording finds it by an index and increments a
//! bucket. Requests are recorded in batches.

use crate::config::Role;
use hdrhistogram::Histogram;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

/// The largest recorded time, in microseconds: one hour. A longer time counts as this one.
const LONGEST: u64 = 3_600_000_000;
/// Two significant digits: an error of at most 1 %, and 26 KiB for each histogram.
const DIGITS: u8 = 2;

/// Which shards served a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// None: the router answered itself.
    #[default]
    Router,
    /// One shard, by its index in the configuration.
    Shard(u16),
    /// More than one.
    Several,
}

/// How a request was executed, for the label "plan". A request to one shard is "single", whatever its plan was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlanKind {
    /// Answered by the router.
    #[default]
    Local,
    /// One shard.
    Single,
    /// Several shards, merged.
    Scatter,
    /// A write divided by shard.
    Split,
    /// Rows gathered on one backend.
    Gather,
    /// Refused by the planner.
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

/// The role of the server that served a request. If several did, a primary wins over a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServedBy {
    /// No server.
    #[default]
    Nobody,
    /// A primary. A server whose declared role is "auto" counts as one.
    Primary,
    /// A replica.
    Replica,
}

impl ServedBy {
    /// All roles.
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

/// The labels of a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LatencyKey {
    /// The shards that served the request.
    pub place: Place,
    /// The role of their servers.
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
    /// Time until a server connection was free.
    pub waiting: Duration,
    /// Time until the router knew where to send the request.
    pub planning: Duration,
    /// The rest: time with the servers.
    pub server: Duration,
    /// Time from the request to its answer.
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

    /// Adds the values of another histogram.
    pub fn add(&mut self, other: &Self) {
        self.histogram
            .add(&other.histogram)
            .expect("all histograms have the same bounds");
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// The number of recorded times.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The exact sum of the recorded times.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum)
    }

    /// For each limit, the number of times up to it. The limits must ascend. Times within the last 1 % below a limit may be
    /// missing.
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

    /// The quantile: this share (0 to 1) of the times did not exceed it.
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

    /// Adds the histograms of another core.
    pub fn add(&mut self, other: &Self) {
        self.waiting.add(&other.waiting);
        self.planning.add(&other.planning);
        self.server.add(&other.server);
        self.total.add(&other.total);
    }
}

/// Requests are recorded in batches of this size. That is much cheaper than one by one, because the histograms stay in the
/// processor's cache.
const BATCH: usize = 64;

/// The histograms of one core.
#[derive(Default)]
pub struct Latencies {
    all: RefCell<Vec<Slot>>,
    pending: RefCell<Vec<(LatencyKey, Spent)>>,
}

/// The histograms of one key. Empty until its first request ends.
type Slot = Option<Box<(LatencyKey, Spans)>>;

impl Latencies {
    /// Records a request that was answered.
    pub fn record(&self, key: LatencyKey, spent: Spent) {
        let mut pending = self.pending.borrow_mut();
        pending.push((key, spent));
        if pending.len() >= BATCH {
            self.flush(&mut pending);
        }
    }

    #[cold]
    fn flush(&self, pending: &mut Vec<(LatencyKey, Spent)>) {
        let mut all = self.all.borrow_mut();
        for (key, spent) in pending.drain(..) {
            let index = key.index();
            if index >= all.len() {
                all.resize_with(index + 1, || None);
            }
            let slot = all[index].get_or_insert_with(|| Box::new((key, Spans::default())));
            slot.1.record(spent);
        }
    }

    /// A copy of all histograms, pending requests included.
    pub fn snapshot(&self) -> BTreeMap<LatencyKey, Spans> {
        self.flush(&mut self.pending.borrow_mut());
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
        // Only two digits are exact, so values next to a limit may fall on its other side.
        assert!((18..=22).contains(&counts[1]), "{counts:?}");
        assert!((96..=104).contains(&counts[2]), "{counts:?}");
        let median = total.quantile(0.5).as_millis();
        assert!((49..=51).contains(&median), "{median}");
        assert_eq!(Span::default().at_most(&[ms(1)]), [0]);
    }

    #[test]
    fn a_time_over_the_maximum_still_counts() {
        let mut span = Span::default();
        span.record(Duration::MAX);
        assert_eq!(span.count(), 1);
    }
}
