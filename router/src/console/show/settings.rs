//! SHOW CONFIG, VERSION and STATE.

use super::Facts;
use crate::config::Applies;
use crate::console::table::{Row, Value, row};

/// Settings of PgBouncer that have a meaning here: their names, ours, and the unit
/// in which PgBouncer's number is meant.
const ALIASES: &[(&str, &str, Unit)] = &[
    (
        "client_login_timeout",
        "listen.login_timeout",
        Unit::Seconds,
    ),
    ("default_pool_size", "pool.max", Unit::Plain),
    (
        "idle_transaction_timeout",
        "pool.idle_in_transaction_timeout",
        Unit::Seconds,
    ),
    ("listen_addr", "listen.address", Unit::Plain),
    ("listen_backlog", "listen.backlog", Unit::Plain),
    ("listen_port", "listen.port", Unit::Plain),
    ("max_client_conn", "listen.max_clients", Unit::Plain),
    (
        "max_prepared_statements",
        "pool.prepared_statements",
        Unit::Plain,
    ),
    ("min_pool_size", "pool.min", Unit::Plain),
    ("pool_mode", "pool.mode", Unit::Plain),
    ("query_timeout", "pool.query_timeout", Unit::Seconds),
    ("query_wait_timeout", "pool.queue_timeout", Unit::Seconds),
    (
        "server_connect_timeout",
        "pool.connect_timeout",
        Unit::Seconds,
    ),
    ("server_idle_timeout", "pool.idle_timeout", Unit::Seconds),
    ("server_lifetime", "pool.lifetime", Unit::Seconds),
    ("unix_socket_dir", "listen.unix_socket", Unit::Plain),
];

#[derive(Clone, Copy)]
enum Unit {
    Plain,
    Seconds,
}

/// Settings of PgBouncer that programs read and that have no limit here.
const UNLIMITED: &[&str] = &[
    "max_db_client_connections",
    "max_db_connections",
    "max_user_client_connections",
    "max_user_connections",
    "reserve_pool_size",
];

pub(super) fn config(facts: &Facts) -> Vec<Row> {
    let entries = facts.topology.config.entries();
    let changeable = |applies| match applies {
        Applies::Reload => "yes",
        Applies::Restart => "no",
    };
    let mut rows: Vec<Row> = Vec::new();
    for &(theirs, ours, unit) in ALIASES {
        let Some(shown) = entries.get(ours) else {
            continue;
        };
        let default = shown.default.as_deref().map(|text| plain(text, unit));
        let value = plain(&shown.value, unit);
        rows.push(row![theirs, value, default, changeable(shown.applies)]);
    }
    for &name in UNLIMITED {
        rows.push(row![name, "0", "0", "no"]);
    }
    for (path, shown) in entries {
        let default = shown.default.as_deref();
        let value = &*shown.value;
        rows.push(row![&**path, value, default, changeable(shown.applies)]);
    }
    rows.sort_by(|a, b| match (&a[0], &b[0]) {
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        _ => std::cmp::Ordering::Equal,
    });
    rows
}

/// A value as PgBouncer shows its own: without quotes, times in seconds, 0 for off.
fn plain(value: &str, unit: Unit) -> String {
    let value = value.trim_matches('"');
    match unit {
        Unit::Plain => value.trim_matches(['[', ']']).replace('"', ""),
        Unit::Seconds => seconds(value).map_or_else(|| value.to_owned(), |s| s.to_string()),
    }
}

fn seconds(value: &str) -> Option<f64> {
    if matches!(value, "off" | "not set") {
        return Some(0.0);
    }
    let digits = value.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = value.split_at(digits);
    let unit = match unit.trim() {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * unit)
}

/// Programs take the first word after `PgBouncer ` for the version.
pub(super) fn version(facts: &Facts) -> String {
    let theirs = &facts.topology.config.console.version;
    format!(
        "PgBouncer {theirs} (mothership {})",
        env!("CARGO_PKG_VERSION")
    )
}

/// True if the version is 1.26 or newer.
pub(super) fn since_1_26(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    let number = (parts.next().flatten(), parts.next().flatten());
    matches!(number, (Some(major), Some(minor)) if (major, minor) >= (1, 26))
}

pub(super) fn state(facts: &Facts) -> Vec<Row> {
    let gates = &facts.gates;
    let word = |is: bool| if is { "yes" } else { "no" };
    vec![
        row!["active", word(!gates.paused_all && !gates.suspended)],
        row!["paused", word(gates.paused_all)],
        row!["suspended", word(gates.suspended)],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_told_by_newer_versions_only() {
        for (version, told) in [
            ("1.25.2", false),
            ("1.26.0", true),
            ("1.26", true),
            ("2.0", true),
            ("nonsense", false),
        ] {
            assert_eq!(since_1_26(version), told, "{version}");
        }
    }

    #[test]
    fn times_are_shown_in_pgbouncers_seconds() {
        for (value, shown) in [
            ("\"10s\"", "10"),
            ("200ms", "0.2"),
            ("1h", "3600"),
            ("\"off\"", "0"),
            ("strange", "strange"),
        ] {
            assert_eq!(plain(value, Unit::Seconds), shown);
        }
    }
}
