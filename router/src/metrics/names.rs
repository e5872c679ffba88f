//! The one table of metrics: name, meaning, labels.
//!
//! `docs/metrics.md` is [`reference`]; a test compares them. A name, once released,
//! keeps its meaning.

use std::fmt::Write;

/// What kind of number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down. Values of equal labels are added.
    Gauge,
    /// Goes up and down. Of equal labels the largest value counts.
    Largest,
    /// Counts of requests by how long they took, in seconds.
    Histogram,
}

impl Kind {
    /// The word in the text format.
    pub fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge | Self::Largest => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its labels in order.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

macro_rules! families {
    ($( $id:ident $kind:ident $name:literal [$($label:literal),*] $help:literal; )*) => {
        $(
            #[doc = $help]
            pub const $id: Family = Family {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )*
        /// All metrics in the order of the page.
        pub const FAMILIES: &[Family] = &[$($id),*];
    };
}

families! {
    INFO Gauge "mothership_info" ["version"] "Always 1.";
    START_TIME Gauge "mothership_start_time_seconds" [] "When the process began, in seconds since 1970.";
    CPU Counter "mothership_cpu_seconds_total" [] "CPU time that the process has used.";
    MEMORY Gauge "mothership_resident_memory_bytes" [] "Memory that the process holds.";
    DESCRIPTORS Gauge "mothership_open_descriptors" [] "Sockets and files that the process holds open.";
    DESCRIPTORS_MAX Gauge "mothership_open_descriptors_max" [] "How many it may hold open.";
    CORES Gauge "mothership_cores" [] "Threads that serve clients.";
    LOGINS_UNDER_WAY Gauge "mothership_logins_under_way" [] "Connections that are not logged in yet.";
    MEMORY_LIMIT Gauge "mothership_memory_limit_bytes" [] "The limit of the process's memory; 0 if there is none.";
    MEMORY_LEVEL Gauge "mothership_memory_level" [] "1 while new clients are refused for lack of memory, 2 while new transactions are, too.";
    QUEUED Gauge "mothership_queued_requests" [] "Requests that wait for a connection of any pool, without those of transactions that already hold one.";
    HELD Gauge "mothership_held_requests" [] "Requests that wait for their shard to have a primary.";
    HELD_BYTES Gauge "mothership_held_bytes" [] "What these requests hold in memory.";
    PREDECESSOR Gauge "mothership_predecessor_clients" [] "Clients that the process before this one still has, after a takeover.";
    SHED_CLIENTS Counter "mothership_shed_clients_total" [] "Clients that were refused with 53300 at login.";
    CONSOLES Gauge "mothership_consoles" [] "Administrators connected.";
    CLIENTS Gauge "mothership_clients" ["database", "user", "state"] "Clients connected: active (a server works for it), waiting (for a server connection) or idle.";
    PINNED Gauge "mothership_pinned_clients" ["database", "user", "reason"] "Clients that keep their server connection, by each reason.";
    TRANSACTIONS Counter "mothership_transactions_total" ["database", "user"] "Transactions that ended.";
    QUERIES Counter "mothership_queries_total" ["database", "user"] "Requests answered; each ends with one ReadyForQuery.";
    ERRORS Counter "mothership_errors_total" ["database", "user"] "Errors that clients were told.";
    SHED_REQUESTS Counter "mothership_shed_requests_total" ["database", "user"] "Requests that the router refused with 53300.";
    LOGINS Counter "mothership_logins_total" ["database", "user"] "Clients that logged in.";
    RECEIVED Counter "mothership_received_bytes_total" ["database", "user"] "Bytes from clients.";
    SENT Counter "mothership_sent_bytes_total" ["database", "user"] "Bytes from servers to clients.";
    TRANSACTION_TIME Counter "mothership_transaction_seconds_total" ["database", "user"] "Time between the first request of a transaction and its end.";
    QUERY_TIME Counter "mothership_query_seconds_total" ["database", "user"] "Time between a request and its answer, without waiting for a server connection.";
    WAIT_TIME Counter "mothership_wait_seconds_total" ["database", "user"] "Time that clients waited for a server connection, counted when they got it.";
    ASSIGNMENTS Counter "mothership_assignments_total" ["database", "user"] "Server connections lent to clients.";
    FAST_REQUESTS Counter "mothership_fast_requests_total" ["database", "user"] "Requests that were sent on the fast path.";
    REPEATS Counter "mothership_repeated_requests_total" ["database", "user"] "Requests that were sent once more before the client had seen anything of the answer: reads whose server was lost, requests that were refused before anything was done, statements that were undone because of a deadlock over shards, and requests whose definitions changed meanwhile.";
    CLIENT_PARSES Counter "mothership_client_parses_total" ["database", "user"] "Parse messages of clients.";
    SERVER_PARSES Counter "mothership_server_parses_total" ["database", "user"] "Statements prepared on servers.";
    BINDS Counter "mothership_binds_total" ["database", "user"] "Bind messages of clients.";
    CONNECTIONS Gauge "mothership_server_connections" ["shard", "server", "database", "user", "state"] "Server connections: active, idle or opening. Database and user by their names on the server.";
    CONNECTIONS_MAX Largest "mothership_server_connections_max" ["shard", "server", "database", "user"] "The most server connections of the pool.";
    OPENED Counter "mothership_server_connections_opened_total" ["shard", "server", "database", "user"] "Server connections opened.";
    OPEN_FAILED Counter "mothership_server_connections_failed_total" ["shard", "server", "database", "user"] "Attempts to open a server connection that failed.";
    WAITING Gauge "mothership_pool_waiting" ["shard", "server", "database", "user"] "Requests that wait for a connection of the pool.";
    OLDEST_WAIT Largest "mothership_pool_oldest_wait_seconds" ["shard", "server", "database", "user"] "How long the oldest of them has waited.";
    REFUSED Counter "mothership_pool_refused_total" ["shard", "server", "database", "user"] "Requests that were not let wait, because the queue was full or another one of a higher priority took the place.";
    NARROWED Largest "mothership_pool_narrowed" ["shard", "server", "database", "user"] "1 while the server has no room for as many connections as the pool may have.";
    PAUSED Largest "mothership_pool_paused" ["shard", "server", "database", "user"] "1 while the console keeps the pool from lending.";
    RULE_REFUSED Counter "mothership_rule_refused_total" ["rule"] "Requests that were refused because the rule's `concurrency` or `rate` was used up.";
    RULE_RUNNING Gauge "mothership_rule_running" ["rule"] "Requests and transactions that count for the rule's `concurrency`.";
    RULE_WAITING Gauge "mothership_rule_waiting" ["rule"] "Requests that wait for their turn by the rule.";
    RULE_MATCHES Counter "mothership_rule_matches_total" ["rule"] "Requests about which the rule decided.";
    SERVER_UP Largest "mothership_server_up" ["shard", "server"] "1 while the server answers probes.";
    SERVER_BREAKER Largest "mothership_server_breaker_state" ["shard", "server"] "0: closed. 1: half-open, single requests try the server. 2: open, the server gets nothing that another one can take.";
    SERVER_PRIMARY Largest "mothership_server_primary" ["shard", "server"] "1 while the server takes the writes of its shard.";
    SERVER_LAG Largest "mothership_server_lag_seconds" ["shard", "server"] "How far the replica is behind; absent while it is not known.";
    SERVER_LAG_BYTES Largest "mothership_server_lag_bytes" ["shard", "server"] "Log of the primary that the replica has not replayed; absent while it is not known.";
    SERVER_IN_FLIGHT Gauge "mothership_server_in_flight" ["shard", "server"] "Requests and transactions that the server works for.";
    SERVER_LATENCY Largest "mothership_server_latency_seconds" ["shard", "server"] "Smoothed latency of reads on the server; absent before the first one.";
    SERVER_WEIGHT Largest "mothership_server_weight" ["shard", "server"] "The server's part of the reads: that of the configuration, or one set by WEIGHT SERVER.";
    SERVER_DISABLED Largest "mothership_server_disabled" ["shard", "server"] "1 while the server is out of use by hand: DISABLE SERVER or DRAIN SERVER.";
    SERVED Counter "mothership_server_requests_total" ["shard", "server"] "Requests and transactions that were given to the server.";
    IN_DOUBT Gauge "mothership_in_doubt_parts" ["shard"] "Branches of transactions over several shards that are not finished: the rows of SHOW TRANSACTIONS.";
    IN_DOUBT_OLDEST Largest "mothership_in_doubt_oldest_seconds" ["shard"] "For how long the oldest of them has been prepared; 0 if there is none.";
    REQUEST_WAITING Histogram "mothership_request_waiting_seconds" ["shard", "role", "plan"] "Time of a request for a server connection.";
    REQUEST_PLANNING Histogram "mothership_request_planning_seconds" ["shard", "role", "plan"] "Time of a request until it was known where it goes.";
    REQUEST_SERVER Histogram "mothership_request_server_seconds" ["shard", "role", "plan"] "Time of a request with the servers.";
    REQUEST_TOTAL Histogram "mothership_request_seconds" ["shard", "role", "plan"] "Time from a request to its answer.";
}

const HEAD: &str = "\
# Metrics

With `[metrics] port` set, the router answers HTTP on that port:

- `GET /metrics`: the metrics below in Prometheus' text format.
- `GET /health/live` (also `/health`): 200 while the process works.
- `GET /health/ready` (also `/ready`): 200 while it takes clients, 503 while it drains or ends.

Every worker counts for itself. The page has the sum of counts, and the largest of ages, limits and states. Counters begin at zero with the process. `shard` is the name of
the shard, or `none` for requests that the router answered itself, or `several`; `role` is `primary`, `replica` or `none`;
`plan` is `local`, `single`, `scatter`, `split`, `gather` or `refuse`. A label takes at most
`limits.metric_labels` different values; what comes after them is counted together as `other`. Control characters in
labels are shown as `\u{fffd}`, and labels end after 128 characters.

A request is what ends with one ReadyForQuery: a simple query with all its statements, or everything up to a Sync.

| Name | Kind | Labels | |
|---|---|---|---|
";

/// `docs/metrics.md`.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for family in FAMILIES {
        let labels: Vec<String> = family.labels.iter().map(|l| format!("`{l}`")).collect();
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} |",
            family.name,
            family.kind.word(),
            labels.join(", "),
            family.help
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_is_the_table() {
        expect_test::expect_file!["../../../docs/metrics.md"].assert_eq(&reference());
    }

    #[test]
    fn names_follow_prometheus_rules_and_are_unique() {
        let mut seen = std::collections::HashSet::new();
        for family in FAMILIES {
            assert!(seen.insert(family.name), "{} twice", family.name);
            let plain = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(family.name.chars().all(plain), "{}", family.name);
            let total = family.name.ends_with("_total");
            assert_eq!(total, family.kind == Kind::Counter, "{}", family.name);
            let labels = family.labels.iter();
            assert!(labels.clone().all(|l| l.chars().all(plain)) && !family.labels.contains(&"le"));
        }
    }
}
