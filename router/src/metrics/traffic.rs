//! Counters of one owner (database and user) on one core.
//!
//! The totals only grow. Two older copies give the averages of the last whole
//! period, as PgBouncer's SHOW STATS has them.

use std::cell::{Cell, RefCell};
use std::time::Duration;

/// Totals since the start. Times are in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Server connections lent to a client.
    pub assignments: u64,
    /// Transactions that ended.
    pub transactions: u64,
    /// Requests answered: each ends with one ReadyForQuery.
    pub queries: u64,
    /// Requests that were sent on the fast path.
    pub fast: u64,
    /// Requests that were sent once more.
    pub repeats: u64,
    /// Bytes from clients.
    pub received: u64,
    /// Bytes from servers to clients.
    pub sent: u64,
    /// Time between the first request of a transaction and its end.
    pub transaction_time: u64,
    /// Time between a request and its answer, without waiting for a server connection.
    pub query_time: u64,
    /// Time that clients waited for a server connection, counted when they got it.
    pub wait_time: u64,
    /// Parse messages of clients.
    pub client_parses: u64,
    /// Statements prepared on servers.
    pub server_parses: u64,
    /// Bind messages of clients.
    pub binds: u64,
    /// Clients logged in.
    pub logins: u64,
    /// Errors that clients were told.
    pub errors: u64,
    /// Of these, requests that the router itself refused with 53300.
    pub shed: u64,
}

impl Totals {
    /// The sum of both.
    pub fn plus(self, other: Self) -> Self {
        self.zip(other, u64::wrapping_add)
    }

    /// What has been added since `older`.
    pub fn minus(self, older: Self) -> Self {
        self.zip(older, u64::saturating_sub)
    }

    fn zip(self, other: Self, f: fn(u64, u64) -> u64) -> Self {
        Self {
            assignments: f(self.assignments, other.assignments),
            transactions: f(self.transactions, other.transactions),
            queries: f(self.queries, other.queries),
            fast: f(self.fast, other.fast),
            repeats: f(self.repeats, other.repeats),
            received: f(self.received, other.received),
            sent: f(self.sent, other.sent),
            transaction_time: f(self.transaction_time, other.transaction_time),
            query_time: f(self.query_time, other.query_time),
            wait_time: f(self.wait_time, other.wait_time),
            client_parses: f(self.client_parses, other.client_parses),
            server_parses: f(self.server_parses, other.server_parses),
            binds: f(self.binds, other.binds),
            logins: f(self.logins, other.logins),
            errors: f(self.errors, other.errors),
            shed: f(self.shed, other.shed),
        }
    }
}

/// The counters of one owner.
#[derive(Debug, Default)]
pub struct Traffic {
    now: RefCell<Totals>,
    newer: Cell<Totals>,
    older: Cell<Totals>,
}

/// The counters as they were at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrafficSnapshot {
    /// Totals.
    pub now: Totals,
    /// What was added in the last whole period.
    pub period: Totals,
}

impl Traffic {
    /// Changes the totals.
    pub fn count(&self, change: impl FnOnce(&mut Totals)) {
        change(&mut self.now.borrow_mut());
    }

    /// A period is over.
    pub fn roll(&self) {
        self.older.set(self.newer.get());
        self.newer.set(*self.now.borrow());
    }

    /// The counters now.
    pub fn snapshot(&self) -> TrafficSnapshot {
        TrafficSnapshot {
            now: *self.now.borrow(),
            period: self.newer.get().minus(self.older.get()),
        }
    }
}

impl TrafficSnapshot {
    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        self.now = self.now.plus(other.now);
        self.period = self.period.plus(other.period);
    }

    /// Averages of the last period as PgBouncer computes them: counts and bytes a
    /// second; times for each transaction, request or assignment.
    pub fn averages(&self, period: Duration) -> Totals {
        let micros = u64::try_from(period.as_micros()).unwrap_or(u64::MAX).max(1);
        let rate = |count: u64| {
            let rate = u128::from(count) * 1_000_000 / u128::from(micros);
            u64::try_from(rate).unwrap_or(u64::MAX)
        };
        let each = |time: u64, count: u64| time.checked_div(count).unwrap_or(0);
        let p = &self.period;
        Totals {
            assignments: rate(p.assignments),
            transactions: rate(p.transactions),
            queries: rate(p.queries),
            fast: rate(p.fast),
            repeats: rate(p.repeats),
            received: rate(p.received),
            sent: rate(p.sent),
            transaction_time: each(p.transaction_time, p.transactions),
            query_time: each(p.query_time, p.queries),
            wait_time: each(p.wait_time, p.assignments),
            client_parses: rate(p.client_parses),
            server_parses: rate(p.server_parses),
            binds: rate(p.binds),
            logins: rate(p.logins),
            errors: rate(p.errors),
            shed: rate(p.shed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_are_those_of_the_last_whole_period() {
        let traffic = Traffic::default();
        let add = |queries, time| {
            traffic.count(|t| {
                t.queries += queries;
                t.query_time += time;
            });
        };
        add(600, 1_200);
        let average = || {
            let a = traffic.snapshot().averages(Duration::from_secs(60));
            (a.queries, a.query_time)
        };
        assert_eq!(average(), (0, 0), "no period is over yet");
        traffic.roll();
        assert_eq!(average(), (10, 2));
        add(6_000, 6_000);
        assert_eq!(average(), (10, 2), "the new period is not over");
        traffic.roll();
        assert_eq!(average(), (100, 1));
        traffic.roll();
        assert_eq!(average(), (0, 0));
        assert_eq!(traffic.snapshot().now.queries, 6_600);
    }
}
