//! The columns of every SHOW command.
//!
//! PgBouncer's tables have PgBouncer's columns in PgBouncer's order and never one
//! more: programs count them (CloudNativePG's collector of SHOW POOLS does). What we
//! want to show beside them has commands of its own.

use super::table::Column;
use super::table::Type::{Big, Bytes, Int, Numeric, Text};

/// SHOW CLIENTS and SHOW SERVERS; the others have [`SOCKET_MORE`] too.
pub const SOCKET: &[Column] = &[
    ("type", Text),
    ("user", Text),
    ("database", Text),
    ("replication", Text),
    ("state", Text),
    ("addr", Text),
    ("port", Int),
    ("local_addr", Text),
    ("local_port", Int),
    ("connect_time", Text),
    ("request_time", Text),
    ("wait", Int),
    ("wait_us", Int),
    ("close_needed", Int),
    ("ptr", Text),
    ("link", Text),
    ("remote_pid", Int),
    ("tls", Text),
    ("application_name", Text),
    ("prepared_statements", Int),
    ("id", Int),
];

/// What SHOW SOCKETS and SHOW ACTIVE_SOCKETS add.
pub const SOCKET_MORE: &[Column] = &[
    ("recv_pos", Int),
    ("pkt_pos", Int),
    ("pkt_remain", Int),
    ("send_pos", Int),
    ("send_remain", Int),
    ("pkt_avail", Int),
    ("send_avail", Int),
];

/// SHOW POOLS.
pub const POOLS: &[Column] = &[
    ("database", Text),
    ("user", Text),
    ("cl_active", Int),
    ("cl_waiting", Int),
    ("cl_active_cancel_req", Int),
    ("cl_waiting_cancel_req", Int),
    ("sv_active", Int),
    ("sv_active_cancel", Int),
    ("sv_being_canceled", Int),
    ("sv_idle", Int),
    ("sv_used", Int),
    ("sv_tested", Int),
    ("sv_login", Int),
    ("maxwait", Int),
    ("maxwait_us", Int),
    ("pool_mode", Text),
    ("load_balance_hosts", Text),
];

/// SHOW DATABASES.
pub const DATABASES: &[Column] = &[
    ("name", Text),
    ("host", Text),
    ("port", Int),
    ("database", Text),
    ("force_user", Text),
    ("pool_size", Int),
    ("min_pool_size", Int),
    ("reserve_pool_size", Int),
    ("server_lifetime", Int),
    ("pool_mode", Text),
    ("load_balance_hosts", Text),
    ("max_connections", Int),
    ("current_connections", Int),
    ("max_client_connections", Int),
    ("current_client_connections", Int),
    ("paused", Int),
    ("disabled", Int),
];

/// SHOW USERS.
pub const USERS: &[Column] = &[
    ("name", Text),
    ("pool_size", Text),
    ("reserve_pool_size", Text),
    ("pool_mode", Text),
    ("max_user_connections", Int),
    ("current_connections", Int),
    ("max_user_client_connections", Int),
    ("current_client_connections", Int),
];

/// SHOW LISTS.
pub const LISTS: &[Column] = &[("list", Text), ("items", Int)];
/// SHOW CONFIG.
pub const CONFIG: &[Column] = &[
    ("key", Text),
    ("value", Text),
    ("default", Text),
    ("changeable", Text),
];
/// SHOW PEERS.
pub const PEERS: &[Column] = &[
    ("peer_id", Int),
    ("host", Text),
    ("port", Int),
    ("pool_size", Int),
];
/// SHOW PEER_POOLS.
pub const PEER_POOLS: &[Column] = &[
    ("peer_id", Int),
    ("cl_active_cancel_req", Int),
    ("cl_waiting_cancel_req", Int),
    ("sv_active_cancel", Int),
    ("sv_login", Int),
];
/// SHOW FDS.
pub const FDS: &[Column] = &[
    ("fd", Int),
    ("task", Text),
    ("user", Text),
    ("database", Text),
    ("addr", Text),
    ("port", Int),
    ("cancel", Big),
    ("link", Int),
    ("client_encoding", Text),
    ("std_strings", Text),
    ("datestyle", Text),
    ("timezone", Text),
    ("password", Text),
    ("scram_client_key", Bytes),
    ("scram_server_key", Bytes),
];
/// SHOW MEM.
pub const MEM: &[Column] = &[
    ("name", Text),
    ("size", Int),
    ("used", Int),
    ("free", Int),
    ("memtotal", Int),
];
/// SHOW DNS_HOSTS.
pub const DNS_HOSTS: &[Column] = &[("hostname", Text), ("ttl", Big), ("addrs", Text)];
/// SHOW DNS_ZONES.
pub const DNS_ZONES: &[Column] = &[("zonename", Text), ("serial", Big), ("count", Int)];
/// SHOW VERSION.
pub const VERSION: &[Column] = &[("version", Text)];
/// SHOW STATE.
pub const STATE: &[Column] = &[("key", Text), ("value", Text)];
/// SHOW TOTALS.
pub const TOTALS: &[Column] = &[("name", Text), ("value", Numeric)];

/// SHOW STATS. The columns of logins came with 1.26, so they are left out when an
/// older version is told.
pub const STATS: &[Column] = &[
    ("database", Text),
    ("total_server_assignment_count", Numeric),
    ("total_xact_count", Numeric),
    ("total_query_count", Numeric),
    ("total_received", Numeric),
    ("total_sent", Numeric),
    ("total_xact_time", Numeric),
    ("total_query_time", Numeric),
    ("total_wait_time", Numeric),
    ("total_client_parse_count", Numeric),
    ("total_server_parse_count", Numeric),
    ("total_bind_count", Numeric),
    ("total_client_login_count", Numeric),
    ("avg_server_assignment_count", Numeric),
    ("avg_xact_count", Numeric),
    ("avg_query_count", Numeric),
    ("avg_recv", Numeric),
    ("avg_sent", Numeric),
    ("avg_xact_time", Numeric),
    ("avg_query_time", Numeric),
    ("avg_wait_time", Numeric),
    ("avg_client_parse_count", Numeric),
    ("avg_server_parse_count", Numeric),
    ("avg_bind_count", Numeric),
    ("avg_client_login_count", Numeric),
];

/// SHOW STATS_TOTALS.
pub const STATS_TOTALS: &[Column] = &[
    ("database", Text),
    ("server_assignment_count", Numeric),
    ("xact_count", Numeric),
    ("query_count", Numeric),
    ("bytes_received", Numeric),
    ("bytes_sent", Numeric),
    ("xact_time", Numeric),
    ("query_time", Numeric),
    ("wait_time", Numeric),
    ("client_parse_count", Numeric),
    ("server_parse_count", Numeric),
    ("bind_count", Numeric),
    ("client_login_count", Numeric),
];

/// SHOW STATS_AVERAGES; that only some names begin with avg_ is PgBouncer's.
pub const STATS_AVERAGES: &[Column] = &[
    ("database", Text),
    ("server_assignment_count", Numeric),
    ("xact_count", Numeric),
    ("query_count", Numeric),
    ("bytes_received", Numeric),
    ("bytes_sent", Numeric),
    ("xact_time", Numeric),
    ("query_time", Numeric),
    ("wait_time", Numeric),
    ("avg_client_parse_count", Numeric),
    ("avg_server_parse_count", Numeric),
    ("avg_bind_count", Numeric),
    ("avg_client_login_count", Numeric),
];

/// Counters in the order of SHOW TOTALS, logins last.
pub const TOTAL_NAMES: &[&str] = &[
    "server_assignment_count",
    "xact_count",
    "query_count",
    "client_bytes",
    "server_bytes",
    "xact_time",
    "query_time",
    "wait_time",
    "ps_client_parse_count",
    "ps_server_parse_count",
    "ps_bind_count",
    "client_connect_count",
];

/// SHOW SHARDS.
pub const SHARDS: &[Column] = &[
    ("shard", Text),
    ("home", Int),
    ("slots", Int),
    ("slot_ranges", Text),
    ("primary", Text),
    ("servers", Int),
    ("connections", Int),
    ("waiting", Int),
];
/// SHOW MAP.
pub const MAP: &[Column] = &[
    ("database", Text),
    ("table", Text),
    ("place", Text),
    ("key", Text),
    ("key_types", Text),
    ("strategy", Text),
    ("colocated_with", Text),
    ("group", Text),
    ("shards", Text),
    ("allow_unenforced_unique", Int),
    ("unenforced", Text),
    ("drift", Text),
];
/// SHOW ENDPOINTS.
pub const ENDPOINTS: &[Column] = &[
    ("id", Int),
    ("shard", Text),
    ("address", Text),
    ("declared_role", Text),
    ("role", Text),
    ("health", Text),
    ("since", Text),
    ("reason", Text),
    ("lag_us", Big),
    ("lag_bytes", Big),
    ("latency_us", Big),
    ("in_flight", Int),
    ("served", Numeric),
    ("weight", Int),
    ("labels", Text),
    ("active", Int),
    ("idle", Int),
    ("opening", Int),
    ("waiting", Int),
    ("opened", Numeric),
    ("failed", Numeric),
    ("configured_weight", Int),
    ("in_use", Text),
    ("set_by", Text),
    ("set_at", Text),
    ("breaker", Text),
];
/// SHOW RULES.
pub const RULES: &[Column] = &[
    ("position", Int),
    ("name", Text),
    ("users", Text),
    ("databases", Text),
    ("applications", Text),
    ("networks", Text),
    ("kinds", Text),
    ("tables", Text),
    ("statements", Text),
    ("times", Text),
    ("action", Text),
    ("argument", Text),
    ("limits", Text),
    ("running", Int),
    ("waiting", Int),
    ("refused", Numeric),
    ("priority", Int),
    ("matched", Numeric),
];
/// SHOW PINS.
pub const PINS: &[Column] = &[
    ("id", Int),
    ("user", Text),
    ("database", Text),
    ("application_name", Text),
    ("since", Text),
    ("seconds", Int),
    ("reasons", Text),
    ("shard", Text),
    ("server", Text),
    ("server_pid", Int),
];
/// SHOW PLANS.
pub const PLANS: &[Column] = &[
    ("id", Big),
    ("plan", Text),
    ("uses", Numeric),
    ("shape", Text),
];
/// SHOW TRANSACTIONS.
pub const TRANSACTIONS: &[Column] = &[
    ("gid", Text),
    ("shard", Text),
    ("database", Text),
    ("owner", Text),
    ("prepared", Text),
    ("decision", Text),
];
/// SHOW POOLS_EXTENDED.
pub const POOLS_EXTENDED: &[Column] = &[
    ("shard", Text),
    ("server", Text),
    ("database", Text),
    ("user", Text),
    ("worker", Int),
    ("active", Int),
    ("idle", Int),
    ("opening", Int),
    ("waiting", Int),
    ("oldest_wait_us", Big),
    ("stale", Int),
    ("opened", Numeric),
    ("failed", Numeric),
    ("max", Int),
    ("open_on_all_workers", Int),
    ("paused", Int),
    ("pool", Text),
    ("max_now", Int),
    ("refused", Numeric),
];
