//! Settings at random: those by which PostgreSQL reads, writes, analyses or plans. Both sides get the same ones, and the
//! clients of a world different ones, so that what they share must not be what depends on them.

use crate::schema::ALT_PATH;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Each with values as SET takes them. Without `quote_all_identifiers`, by which SHOW search_path quotes what was set at that
/// moment (docs/differences.md).
const SETTINGS: [(&str, &[&str]); 26] = [
    (
        "DateStyle",
        &[
            "'ISO, MDY'",
            "'ISO, DMY'",
            "'SQL, DMY'",
            "'German'",
            "'Postgres, YMD'",
        ],
    ),
    (
        "IntervalStyle",
        &["postgres", "sql_standard", "iso_8601", "postgres_verbose"],
    ),
    (
        "TimeZone",
        &[
            "'UTC'",
            "'Asia/Kolkata'",
            "'America/New_York'",
            "'Pacific/Apia'",
        ],
    ),
    ("extra_float_digits", &["-3", "0", "1", "3"]),
    ("bytea_output", &["hex", "escape"]),
    ("array_nulls", &["on", "off"]),
    ("transform_null_equals", &["on", "off"]),
    ("standard_conforming_strings", &["on", "off"]),
    ("backslash_quote", &["on", "off", "safe_encoding"]),
    (
        "search_path",
        &[
            "public",
            "pg_catalog, public",
            "\"$user\", public",
            ALT_PATH,
            ALT_PATH,
        ],
    ),
    ("row_security", &["on", "off"]),
    (
        "plan_cache_mode",
        &["auto", "force_generic_plan", "force_custom_plan"],
    ),
    ("constraint_exclusion", &["partition", "on", "off"]),
    ("from_collapse_limit", &["1", "8"]),
    ("join_collapse_limit", &["1", "8"]),
    ("enable_hashjoin", &["on", "off"]),
    ("enable_sort", &["on", "off"]),
    ("enable_seqscan", &["on", "off"]),
    ("enable_partition_pruning", &["on", "off"]),
    ("work_mem", &["'64kB'", "'4MB'"]),
    (
        "default_transaction_isolation",
        &["'read committed'", "'repeatable read'"],
    ),
    ("client_min_messages", &["notice", "warning", "error"]),
    ("xmloption", &["content", "document"]),
    (
        "default_text_search_config",
        &["'pg_catalog.simple'", "'pg_catalog.english'"],
    ),
    ("lc_numeric", &["'C'"]),
    ("synchronous_commit", &["on", "off"]),
];

/// A statement that gives one of them a value, in one of the ways that there are.
pub fn some(rng: &mut StdRng) -> String {
    let (name, values) = SETTINGS.choose(rng).expect("there are settings");
    let value = values.choose(rng).expect("each has values");
    match rng.random_range(0..10) {
        0..3 => format!("RESET {name}"),
        3 => format!("SET {name} TO DEFAULT"),
        4 if !value.contains('"') => {
            let text = value.trim_matches('\'');
            format!("SELECT set_config('{name}', '{text}', false)")
        }
        5 => format!("SET SESSION {name} = {value}"),
        _ => format!("SET {name} = {value}"),
    }
}

/// A statement by which names mean other tables, or the first ones again.
pub fn path(rng: &mut StdRng) -> String {
    match rng.random_range(0..5) {
        0..3 => format!("SET search_path = {ALT_PATH}"),
        3 => "SET search_path = public".to_owned(),
        _ => "RESET search_path".to_owned(),
    }
}

/// What a new session begins with, as ALTER ROLE and ALTER DATABASE take it. Without `search_path`, which connections that
/// are open keep (docs/limits.md).
pub fn default(rng: &mut StdRng) -> String {
    let plain = |(name, _): &&(&str, &[&str])| *name != "search_path";
    let settings: Vec<_> = SETTINGS.iter().filter(plain).collect();
    let (name, values) = settings.choose(rng).expect("there are settings");
    let value = values.choose(rng).expect("each has values");
    match rng.random_range(0..10) {
        0 => "RESET ALL".to_owned(),
        1..3 => format!("RESET {name}"),
        3 => format!("SET {name} TO DEFAULT"),
        _ => format!("SET {name} TO {value}"),
    }
}
