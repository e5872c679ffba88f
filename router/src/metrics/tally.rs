//! Counts what happens in one session, and keeps what the console shows of it.
//!
//! A [`Tally`] is told of each event of the session's requests as it happens. It adds to the counters of the session's
//! database and user and to the histograms of the core. It reads the clock three times for each request: when the
//! request was taken, when it was known where it goes, and when it was answered.

use super::latency::{Latencies, LatencyKey, Place, PlanKind, ServedBy, Spent};
use super::traffic::{Totals, Traffic};
use mothership_proto::backend::TxStatus;
use mothership_proto::frontend::tag;
use mothership_shardmap::ShardId;
use mothership_sql::effect::Pins;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What a session shows of itself; the console reads it.
#[derive(Debug, Default)]
pub struct Seen {
    /// The application name, as the startup packet or a SET gave it.
    pub application_name: RefCell<Box<str>>,
    /// When the last request was taken.
    pub requested: Cell<Option<Instant>>,
    /// The number of prepared statements that the client has.
    pub prepared: Cell<u32>,
    /// The session's statement was cancelled because it took too long.
    pub timed_out: Cell<bool>,
    /// The session's statement was cancelled because of a deadlock over several shards: the detail of the error.
    pub deadlock: RefCell<Option<Box<str>>>,
    /// Why the session keeps its server connection.
    pins: Cell<Pins>,
    /// Since when it has kept one.
    pinned: Cell<Option<Instant>>,
}

impl Seen {
    /// Notes why the session keeps its server connection.
    pub fn set_pins(&self, pins: Pins) {
        if self.pins.replace(pins) == pins {
            return;
        }
        match (pins.is_empty(), self.pinned.get()) {
            (true, _) => self.pinned.set(None),
            (false, None) => self.pinned.set(Some(Instant::now())),
            (false, Some(_)) => {}
        }
    }

    /// Why the session keeps its server connection, and since when.
    pub fn pins(&self) -> Option<(Pins, Instant)> {
        self.pinned.get().map(|since| (self.pins.get(), since))
    }
}

/// Counts for one session.
pub struct Tally {
    seen: Rc<Seen>,
    traffic: Rc<Traffic>,
    latencies: Rc<Latencies>,
    begun: Option<Instant>,
    planned: Option<Instant>,
    waited: Duration,
    transaction: Option<Instant>,
    ended: Option<Instant>,
    key: LatencyKey,
}

impl Default for Tally {
    /// Counts for nobody: a session that is not logged in yet.
    fn default() -> Self {
        Self::new(Rc::default(), Rc::default(), Rc::default())
    }
}

impl Tally {
    pub(super) fn new(seen: Rc<Seen>, traffic: Rc<Traffic>, latencies: Rc<Latencies>) -> Self {
        Self {
            seen,
            traffic,
            latencies,
            begun: None,
            planned: None,
            waited: Duration::ZERO,
            transaction: None,
            ended: None,
            key: LatencyKey::default(),
        }
    }

    /// A message of the client was taken; `length` includes its header.
    pub fn took(&mut self, message: u8, length: usize) {
        self.traffic.count(|totals| {
            totals.received += length as u64;
            match message {
                tag::PARSE => totals.client_parses += 1,
                tag::BIND => totals.binds += 1,
                _ => {}
            }
        });
        self.begin();
    }

    /// Messages that are neither Parse nor Bind were taken together with others; `length` includes their headers.
    pub fn took_more(&mut self, length: usize) {
        let count = |totals: &mut Totals| totals.received += length as u64;
        self.traffic.count(count);
    }

    /// A request begins with this message, if none has begun.
    pub fn begin(&mut self) {
        if self.begun.is_none() {
            let now = Instant::now();
            self.begun = Some(now);
            self.transaction.get_or_insert(now);
            self.seen.requested.set(Some(now));
            self.seen.timed_out.set(false);
        }
    }

    /// The request is sent once more.
    pub fn repeats(&mut self) {
        self.traffic.count(|totals| totals.repeats += 1);
    }

    /// When the request was taken.
    pub fn begun(&self) -> Instant {
        self.begun.unwrap_or_else(Instant::now)
    }

    /// When the last request was answered.
    pub fn ended(&self) -> Option<Instant> {
        self.ended
    }

    /// It is known where the request goes. Only the first call in a request counts its time; `kind` is that of the last
    /// call.
    pub fn planned(&mut self, kind: PlanKind) {
        self.key.kind = kind;
        if self.begun.is_some() && self.planned.is_none() {
            self.planned = Some(Instant::now());
        }
    }

    /// A server of this shard works for the request.
    pub fn uses(&mut self, shard: ShardId, role: ServedBy) {
        let shard = Place::Shard(shard.0);
        self.key.place = match self.key.place {
            Place::Router => shard,
            place if place == shard => shard,
            _ => Place::Several,
        };
        self.key.role = self.key.role.max_write(role);
    }

    /// A server connection was lent after this time.
    pub fn assigned(&mut self, waited: Duration) {
        self.waited += waited;
        self.traffic.count(|totals| {
            totals.assignments += 1;
            totals.wait_time += micros(waited);
        });
    }

    /// It is known where the request goes, and from now on it waits on the fast path. Returns the time.
    pub fn line_up(&mut self) -> Instant {
        let now = Instant::now();
        self.planned.get_or_insert(now);
        now
    }

    /// A request was sent to the primary of a shard on the fast path. It had waited there since `since`, and took
    /// `received` bytes from the client. Returns the time.
    pub fn fast(
        &mut self,
        shard: ShardId,
        received: usize,
        (parses, binds): (bool, bool),
        since: Option<Instant>,
    ) -> Instant {
        let now = Instant::now();
        self.key.kind = PlanKind::Single;
        self.planned.get_or_insert(now);
        self.uses(shard, ServedBy::Primary);
        let waited = since.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.waited += waited;
        self.traffic.count(|totals| {
            totals.received += received as u64;
            totals.client_parses += u64::from(parses);
            totals.binds += u64::from(binds);
            totals.assignments += 1;
            totals.wait_time += micros(waited);
            totals.fast += 1;
        });
        now
    }

    /// A request was sent to the primaries of these shards on the fast path. It took `received` bytes from the client.
    /// Returns the time.
    pub fn fast_over(&mut self, shards: impl Iterator<Item = ShardId>, received: usize) -> Instant {
        let now = Instant::now();
        self.key.kind = PlanKind::Scatter;
        self.planned.get_or_insert(now);
        let mut assignments = 0;
        for shard in shards {
            self.uses(shard, ServedBy::Primary);
            assignments += 1;
        }
        self.traffic.count(|totals| {
            totals.received += received as u64;
            totals.assignments += assignments;
            totals.fast += 1;
        });
        now
    }

    /// A message of a server was passed on.
    pub fn gave(&mut self, length: usize) {
        self.traffic.count(|totals| totals.sent += length as u64);
    }

    /// A server has prepared a statement.
    pub fn server_parsed(&mut self) {
        self.traffic.count(|totals| totals.server_parses += 1);
    }

    /// The client was told an error.
    pub fn failed(&mut self) {
        self.traffic.count(|totals| totals.errors += 1);
    }

    /// The request was refused because a limit is reached.
    pub fn shed(&mut self) {
        self.traffic.count(|totals| totals.shed += 1);
    }

    /// True if the statement that was just cancelled had taken too long. Returns it once.
    pub fn timed_out(&self) -> bool {
        self.seen.timed_out.take()
    }

    /// The detail of the deadlock for which the session's statement was cancelled. Returns it once.
    pub fn deadlock(&self) -> Option<Box<str>> {
        self.seen.deadlock.take()
    }

    /// The application name is now this.
    pub fn application_name(&mut self, name: &[u8]) {
        let name = String::from_utf8_lossy(name);
        self.seen.application_name.replace(name.into());
    }

    /// ReadyForQuery was written: the request is answered.
    pub fn ready(&mut self, status: TxStatus) {
        let Some(begun) = self.begun.take() else {
            return;
        };
        let now = Instant::now();
        self.ended = Some(now);
        let total = now.saturating_duration_since(begun);
        let waiting = std::mem::take(&mut self.waited).min(total);
        let planning = self.planned.take();
        let planning = planning.map_or(total - waiting, |at| at.saturating_duration_since(begun));
        let spent = Spent {
            waiting,
            planning,
            server: total.saturating_sub(waiting + planning),
            total,
        };
        self.latencies.record(std::mem::take(&mut self.key), spent);
        let ended = match status {
            TxStatus::Idle => self.transaction.take(),
            TxStatus::Open | TxStatus::Failed => None,
        };
        self.traffic.count(|totals| {
            totals.queries += 1;
            totals.query_time += micros(total - waiting);
            if let Some(since) = ended {
                totals.transactions += 1;
                totals.transaction_time += micros(now.saturating_duration_since(since));
            }
        });
    }
}

impl ServedBy {
    /// If a request used both, the primary counts.
    fn max_write(self, other: Self) -> Self {
        match (self, other) {
            (Self::Primary, _) | (_, Self::Primary) => Self::Primary,
            (Self::Replica, _) | (_, Self::Replica) => Self::Replica,
            (Self::Nobody, Self::Nobody) => Self::Nobody,
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mothership_sql::effect::Pin;

    struct World {
        traffic: Rc<Traffic>,
        latencies: Rc<Latencies>,
        tally: Tally,
    }

    fn world() -> World {
        let (traffic, latencies) = (Rc::default(), Rc::default());
        World {
            tally: Tally::new(Rc::default(), Rc::clone(&traffic), Rc::clone(&latencies)),
            traffic,
            latencies,
        }
    }

    #[test]
    fn a_transaction_of_three_requests_is_one_transaction() {
        let mut w = world();
        for status in [TxStatus::Open, TxStatus::Failed, TxStatus::Idle] {
            w.tally.took(tag::QUERY, 10);
            w.tally.planned(PlanKind::Single);
            w.tally.uses(ShardId(0), ServedBy::Primary);
            w.tally.gave(5);
            w.tally.ready(status);
        }
        let t = w.traffic.snapshot().now;
        assert_eq!((t.transactions, t.queries), (1, 3));
        assert_eq!((t.received, t.sent), (30, 15));
        assert!(t.transaction_time >= t.query_time);
    }

    #[test]
    fn a_segment_is_one_request_however_many_messages_it_has() {
        let mut w = world();
        for message in [tag::PARSE, tag::BIND, tag::BIND, tag::EXECUTE, tag::SYNC] {
            w.tally.took(message, 7);
        }
        w.tally.assigned(Duration::from_micros(3));
        w.tally.ready(TxStatus::Idle);
        // A ReadyForQuery that answers no request counts nothing.
        w.tally.ready(TxStatus::Idle);
        let t = w.traffic.snapshot().now;
        assert_eq!((t.queries, t.client_parses, t.binds), (1, 1, 2));
        assert_eq!((t.assignments, t.wait_time), (1, 3));
    }

    #[test]
    fn a_request_is_counted_where_it_ran() {
        let mut w = world();
        let mut run = |shards: &[(u16, ServedBy)], kind| {
            w.tally.took(tag::QUERY, 1);
            w.tally.planned(kind);
            shards
                .iter()
                .for_each(|&(s, r)| w.tally.uses(ShardId(s), r));
            w.tally.ready(TxStatus::Idle);
        };
        run(&[], PlanKind::Local);
        run(
            &[(2, ServedBy::Replica), (2, ServedBy::Replica)],
            PlanKind::Single,
        );
        run(
            &[(0, ServedBy::Replica), (1, ServedBy::Primary)],
            PlanKind::Scatter,
        );
        let keys: Vec<_> = w.latencies.snapshot().into_keys().collect();
        let key = |place, role, kind| LatencyKey { place, role, kind };
        assert_eq!(
            keys,
            [
                key(Place::Router, ServedBy::Nobody, PlanKind::Local),
                key(Place::Shard(2), ServedBy::Replica, PlanKind::Single),
                key(Place::Several, ServedBy::Primary, PlanKind::Scatter),
            ]
        );
    }

    #[test]
    fn the_time_of_a_pin_is_that_of_its_first_reason() {
        let seen = Seen::default();
        assert!(seen.pins().is_none());
        seen.set_pins(Pins::NONE.with(Pin::Listen));
        let (_, since) = seen.pins().unwrap();
        let both = Pins::NONE.with(Pin::Listen).with(Pin::TempObject);
        seen.set_pins(both);
        assert_eq!(seen.pins(), Some((both, since)));
        seen.set_pins(Pins::NONE);
        assert!(seen.pins().is_none());
    }
}
