//! What happened: counters for each database and user, and histograms of where the
//! time of requests went.
//!
//! Each core counts for itself, without locks and without allocating for a request
//! ([`tally::Tally`] belongs to one session). Whoever wants to know asks every core
//! for a [`Snapshot`] and adds them up: the console's SHOW STATS and the page for
//! Prometheus ([`crate::exporter`], [`page`]). The names on that page stand in one table,
//! [`names::FAMILIES`].

pub mod traffic;

pub mod latency;

pub mod tally;

pub mod names;

pub mod page;

use latency::{Latencies, LatencyKey, Spans};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tally::{Seen, Tally};
use traffic::{Traffic, TrafficSnapshot};

/// How often the averages of SHOW STATS begin anew (PgBouncer's `stats_period`).
pub const PERIOD: Duration = Duration::from_secs(60);

/// Whose traffic it is: the database and the user by the client's names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// The database.
    pub database: String,
    /// The user.
    pub user: String,
}

/// Where everything over the limit of [`Metrics::tally`] is counted.
pub const OTHER: &str = "other";

/// The figures of one core.
#[derive(Default)]
pub struct Metrics {
    traffic: RefCell<BTreeMap<Owner, Rc<Traffic>>>,
    latencies: Rc<Latencies>,
    rolled: Cell<Option<Instant>>,
    period: Cell<Option<Duration>>,
}

/// What one core knows, to be added to what the others know.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Counters by owner.
    pub traffic: BTreeMap<Owner, TrafficSnapshot>,
    /// Histograms by shard, role and kind of plan.
    pub latencies: BTreeMap<LatencyKey, Spans>,
    /// The length of the period that averages speak of.
    pub period: Duration,
}

impl Metrics {
    /// The tally of a session that has just logged in. Beyond `most` owners on this
    /// core, further ones are counted together as [`OTHER`].
    pub fn tally(&self, database: &str, user: &str, seen: Rc<Seen>, most: usize) -> Tally {
        let owner = Owner {
            database: database.to_owned(),
            user: user.to_owned(),
        };
        let mut traffic = self.traffic.borrow_mut();
        let owner = if traffic.len() < most || traffic.contains_key(&owner) {
            owner
        } else {
            Owner {
                database: OTHER.to_owned(),
                user: OTHER.to_owned(),
            }
        };
        let traffic = Rc::clone(traffic.entry(owner).or_default());
        traffic.count(|totals| totals.logins += 1);
        Tally::new(seen, traffic, Rc::clone(&self.latencies))
    }

    /// Begins a new period of averages when the old one is over.
    pub fn roll(&self, now: Instant) {
        let since = self
            .rolled
            .get()
            .map(|at| now.saturating_duration_since(at));
        match since {
            None => self.rolled.set(Some(now)),
            Some(since) if since >= PERIOD => {
                self.rolled.set(Some(now));
                self.period.set(Some(since));
                self.traffic.borrow().values().for_each(|t| t.roll());
            }
            Some(_) => {}
        }
    }

    /// Everything that this core has counted.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            latencies: self.latencies.snapshot(),
            ..self.counters()
        }
    }

    /// The same without the histograms, which are large.
    pub fn counters(&self) -> Snapshot {
        let traffic = self.traffic.borrow();
        let traffic = traffic.iter().map(|(o, t)| (o.clone(), t.snapshot()));
        Snapshot {
            traffic: traffic.collect(),
            latencies: BTreeMap::new(),
            period: self.period.get().unwrap_or(PERIOD),
        }
    }
}

impl Snapshot {
    /// Adds what another core has counted.
    pub fn add(&mut self, other: Snapshot) {
        for (owner, traffic) in other.traffic {
            self.traffic.entry(owner).or_default().add(&traffic);
        }
        for (key, spans) in other.latencies {
            self.latencies.entry(key).or_default().add(&spans);
        }
        self.period = self.period.max(other.period);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_over_the_limit_are_counted_together() {
        let metrics = Metrics::default();
        for i in 0..100 {
            metrics.tally(&format!("d{i}"), "u", Rc::default(), 10);
        }
        let traffic = metrics.counters().traffic;
        assert_eq!(traffic.len(), 11);
        let other = traffic.iter().find(|(owner, _)| owner.database == OTHER);
        assert_eq!(other.map(|(_, t)| t.now.logins), Some(90));
    }

    #[test]
    fn cores_add_up() {
        let (a, b) = (Metrics::default(), Metrics::default());
        a.tally("d", "u", Rc::default(), 10);
        b.tally("d", "u", Rc::default(), 10);
        b.tally("d", "v", Rc::default(), 10);
        let mut both = a.snapshot();
        both.add(b.snapshot());
        let logins: Vec<u64> = both.traffic.values().map(|t| t.now.logins).collect();
        assert_eq!(logins, [2, 1]);
    }
}
