//! Server connections: how many, how long, who waits; and which server serves a read.

use std::num::NonZeroU32;
use std::time::Duration;

use super::section::settings;
use super::units::{ByteSize, Share};
use super::value::{nonzero, words};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

settings! {
    /// Pools of server connections. There is one for each server, user and database; the numbers
    /// are over all workers. [[database]] and [[user]] may set some of them for themselves.
    pub struct Pool {
        /// When a server connection is given back: after the transaction, at the end of the session, or after each statement.
        reload mode: PoolMode = PoolMode::Transaction;
        /// Connections that stay open once they were needed.
        reload min: u32 = 10, 0..=100_000;
        /// The most connections of one pool.
        reload max: NonZeroU32 = nonzero(100), nonzero(1)..=nonzero(100_000);
        /// The most connections to one server, over all users and databases.
        reload max_per_server: Option<NonZeroU32> = None, nonzero(1)..=nonzero(1_000_000);
        /// Connections to one server that may be opening at once.
        reload opening: NonZeroU32 = nonzero(8), nonzero(1)..=nonzero(1_000);
        /// Transactions that may wait for one pool, on all workers together. One more is refused with 53300, or takes the place of the newest one of a lower priority.
        reload queue_length: u32 = 100, 0..=1_000_000;
        /// The longest such wait, after which the statement fails with 53300.
        reload queue_timeout: Duration = SECOND * 30, Duration::from_millis(1)..=DAY;
        /// The share of a pool that is kept for transactions that already hold a connection of another shard, so that they cannot block each other.
        reload join_reserve: Share = Share::percent(10), Share::percent(0)..=Share::percent(90);
        /// The longest wait of such a transaction, after which it fails with 40P01.
        reload join_timeout: Duration = SECOND * 5, Duration::from_millis(1)..=HOUR;
        /// An unused connection above `min` is closed after so long.
        reload idle_timeout: Option<Duration> = Some(SECOND * 10), Duration::from_millis(100)..=DAY;
        /// A pool that nobody used for so long is closed, its `min` included.
        reload forget_timeout: Option<Duration> = Some(HOUR), SECOND..=(DAY * 30);
        /// Opening a connection, TLS and login included, may take so long.
        reload connect_timeout: Duration = SECOND * 5, Duration::from_millis(10)..=HOUR;
        /// After a failed attempt the first pause before the next one; it doubles each time.
        reload retry_pause: Duration = Duration::from_millis(100), Duration::from_millis(1)..=HOUR;
        /// The longest such pause.
        reload retry_pause_max: Duration = SECOND * 5, Duration::from_millis(1)..=HOUR;
        /// A connection older than this is closed when it is given back.
        reload lifetime: Option<Duration> = Some(HOUR), SECOND..=(DAY * 30);
        /// Each connection's lifetime is shortened by a random part of up to this share, so that they do not all end together.
        reload lifetime_jitter: Share = Share::percent(10), Share::percent(0)..=Share::percent(90);
        /// Prepared statements kept on one server connection; the least recently used gives way. 0 keeps none.
        reload prepared_statements: u32 = 500, 0..=100_000;
        /// A statement may run so long before it is cancelled.
        reload query_timeout: Option<Duration> = None, Duration::from_millis(1)..=(DAY * 30);
        /// A client may leave its transaction, or a pipeline without Sync, open and idle for so long before it is disconnected with 25P03.
        reload idle_in_transaction_timeout: Option<Duration> = None, Duration::from_millis(1)..=(DAY * 30);
        /// A client may take so long to read replies that are ready while it holds a server connection.
        reload send_timeout: Option<Duration> = Some(SECOND * 60), SECOND..=DAY;
        /// Cleaning a connection (rollback, reset, draining a cancelled query) may take so long before it is closed instead.
        reload reset_timeout: Duration = SECOND * 5, Duration::from_millis(10)..=HOUR;
        /// Delivering a cancel request to a server may take so long.
        reload cancel_timeout: Duration = SECOND * 5, Duration::from_millis(10)..=HOUR;
        /// TCP keepalive: probes start after so long without traffic; unanswered for as long again, the connection has ended.
        reload keepalive: Option<Duration> = Some(SECOND * 30), SECOND..=DAY;
        /// A server that acknowledges nothing for so long is gone (`TCP_USER_TIMEOUT`).
        reload unacknowledged_timeout: Option<Duration> = Some(SECOND * 30), SECOND..=DAY;
        /// Host names of servers are resolved again after so long.
        reload resolve_interval: Duration = SECOND * 15, SECOND..=DAY;
    }
}

words! {
    /// When a server connection goes back to its pool.
    pub enum PoolMode {
        /// At the end of each transaction.
        Transaction = "transaction",
        /// When the client leaves.
        Session = "session",
        /// After each statement; transactions of several statements are refused.
        Statement = "statement",
    }
}

settings! {
    /// Which server of a shard serves a read, and how servers are watched.
    pub struct Balance {
        /// How fresh a replica must be to serve a read. Only `router` promises that no client reads an older state than any client of this router was told of.
        reload freshness: Freshness = Freshness::Router;
        /// A replica further behind serves no reads at all; with `freshness = "bounded"` this is the bound.
        reload max_lag: Duration = SECOND * 10, Duration::from_millis(1)..=DAY;
        /// The same in bytes of the log.
        reload max_lag_bytes: Option<ByteSize> = None, ByteSize::kib(1)..=ByteSize(1 << 50);
        /// Which servers reads may use.
        reload reads: Reads = Reads::Any;
        /// Each server is asked for its role, health and position this often.
        reload probe_interval: Duration = SECOND, Duration::from_millis(10)..=HOUR;
        /// An unanswered probe has failed after so long.
        reload probe_timeout: Duration = SECOND * 2, Duration::from_millis(10)..=HOUR;
        /// Failed probes in a row after which a server gets no traffic. A refused connection counts at once.
        reload down_after: NonZeroU32 = nonzero(3), nonzero(1)..=nonzero(1_000);
        /// Good probes in a row after which it gets traffic again.
        reload up_after: NonZeroU32 = nonzero(2), nonzero(1)..=nonzero(1_000);
        /// A server whose probes are answered gets no traffic that another server can take after so many failures of what
        /// clients send to it (refused, reset, timed out). At most one counts in each `probe_interval`; quiet intervals take them back.
        reload breaker_failures: NonZeroU32 = nonzero(5), nonzero(1)..=nonzero(1_000);
        /// It is tried again after so long, one request at a time, and after up to eight times as long if it fails again. A primary, and a server that is alone, is tried at its next good probe.
        reload breaker_time: Duration = SECOND * 60, Duration::from_millis(10)..=HOUR;
        /// A server's latency is averaged so that a sample counts half after so long.
        reload latency_half_life: Duration = SECOND * 5, Duration::from_millis(10)..=HOUR;
    }
}

words! {
    /// What a read from a replica must have seen.
    pub enum Freshness {
        /// Every commit that this router had acknowledged on the shard when the read arrived.
        Router = "router",
        /// Every commit that this session was told of.
        Session = "session",
        /// At most `max_lag` old.
        Bounded = "bounded",
        /// Any state that the replica has.
        Any = "any",
    }
}

words! {
    /// Which servers reads may use.
    pub enum Reads {
        /// The less loaded of primary and replicas.
        Any = "any",
        /// Replicas, and the primary only when none is fit.
        PreferReplicas = "prefer-replicas",
        /// The primary, and replicas while none is known.
        PreferPrimary = "prefer-primary",
        /// Only the primary.
        Primary = "primary",
        /// Only replicas: what one may serve is refused with 57P03 while none is fit. Everything else goes to the primary as ever.
        Replicas = "replicas",
    }
}
