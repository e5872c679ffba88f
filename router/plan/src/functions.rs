//! What calling a function means for where a statement may run.

use mothership_catalog::{FunctionKind, Volatility};

use mothership_sql::functions::{Trait, special};

use super::names::{Names, Reach};

/// How a call restricts its statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// The same anywhere, replicas included.
    Harmless,
    /// Constant in a transaction, and given as a value where there are several parts: `now()`.
    Time,
    /// Another value on each call, from any primary: `random()`.
    Volatile,
    /// Answers about, or changes, one server or session: at home only.
    Server,
    /// A user function whose reach ends at home tables.
    Home,
    /// Changes the session that it runs in, or takes what outlives its transaction: only a statement that one server does
    /// by itself may, for whom that is then seen to.
    Session,
    /// A user function that may reach sharded tables, or a built-in one that runs SQL from its arguments.
    Anything,
}

/// What a function of this name does. `schema` is what stood before the name, if anything did.
pub fn call(names: &Names<'_>, schema: Option<&str>, name: &str) -> Call {
    if schema == Some("pg_catalog") {
        return builtin(name);
    }
    // It is on the session's server alone, and what it may reach was looked at when it was made.
    if schema.is_some_and(|schema| schema.starts_with("pg_temp")) {
        return Call::Server;
    }
    let mut found = names.functions_named(schema, name).peekable();
    if found.peek().is_none() {
        return builtin(name);
    }
    let volatility = found
        .map(|f| f.volatility)
        .max()
        .unwrap_or(Volatility::Volatile);
    match names.reach_of(schema, name).unwrap_or(Reach::Anything) {
        Reach::Anything => Call::Anything,
        Reach::Home => Call::Home,
        Reach::Nothing => match volatility {
            // An unqualified name may be a built-in one as well, if the arguments fit that better.
            Volatility::Immutable | Volatility::Stable => builtin(name),
            Volatility::Volatile => Call::Volatile.max(builtin(name)),
        },
    }
}

/// What `x.name` calls, if it is a call of one of PostgreSQL's own functions: of those, only the ones that take an argument.
pub fn field(name: &str) -> Call {
    match NO_ARGUMENT.contains(&name) {
        true => Call::Harmless,
        false => builtin(name),
    }
}

/// Whether a call without OVER makes its query level an aggregate.
pub fn is_aggregate(names: &Names<'_>, schema: Option<&str>, name: &str) -> bool {
    let user = schema != Some("pg_catalog")
        && names
            .functions_named(schema, name)
            .any(|f| f.kind == FunctionKind::Aggregate);
    user || AGGREGATES.contains(&name)
}

/// What was noted of a call, for people: most notes are names of functions, with `before` before them. Those with a space
/// say themselves what they are.
pub fn told(before: &str, note: &str) -> String {
    match note.contains(' ') {
        true => note.to_owned(),
        false => format!("{before}{note}()"),
    }
}

/// Whether the result of an aggregate depends on the order of its rows. Copies of a reference table may have their rows in
/// another order on each shard. Last digits of sums of floats do not count.
pub fn depends_on_order(names: &Names<'_>, schema: Option<&str>, name: &str) -> bool {
    const ORDERED: [&str; 4] = ["any_value", "array_agg", "string_agg", "xmlagg"];
    ORDERED.contains(&name)
        || name.starts_with("json") && name.contains("agg")
        || is_aggregate(names, schema, name) && !AGGREGATES.contains(&name)
}

/// Whether a built-in function of this name runs SQL that stands in its arguments or nowhere.
pub fn is_opaque(name: &str) -> bool {
    special(name.as_bytes()) == Some(Trait::Opaque) || MORE_OPAQUE.contains(&name)
}

/// Whether a built-in function answers about one server, changes it or leaves something there. Hidden in code of users it
/// would do so on each shard for itself.
pub fn is_of_one_server(name: &str) -> bool {
    // What a client sets is set on all of its servers, and roles are members of each other on all.
    const ALIKE: [&str; 4] = [
        "age",
        "current_setting",
        "pg_column_compression",
        "pg_has_role",
    ];
    if ALIKE.contains(&name) || HARMLESS.contains(&name) || VALUE.contains(&name) {
        return false;
    }
    match special(name.as_bytes()) {
        Some(Trait::Value | Trait::Opaque) => false,
        Some(_) => true,
        // The catalogs of a server, and what looks into them: the home shard has tables that others do not have.
        None => {
            MORE_SERVER.contains(&name)
                || matches!(name, "regclass" | "information_schema")
                || name.starts_with("pg_") && !OF_PLPGSQL.contains(&name)
        }
    }
}

/// Words of PL/pgSQL, the schema of PostgreSQL's own functions, and what is the same wherever a function runs.
const OF_PLPGSQL: [&str; 10] = [
    "pg_catalog",
    "pg_context",
    "pg_datatype_name",
    "pg_exception_context",
    "pg_exception_detail",
    "pg_exception_hint",
    "pg_routine_oid",
    "pg_temp",
    "pg_toast",
    "pg_trigger_depth",
];

fn builtin(name: &str) -> Call {
    if TIME.contains(&name) {
        return Call::Time;
    }
    if VALUE.contains(&name) {
        return Call::Volatile;
    }
    // What runs need not be the text that the client sent. Calls in that text itself are values by now.
    if is_opaque(name) || name == "current_query" {
        return Call::Anything;
    }
    if HARMLESS.contains(&name) {
        return Call::Harmless;
    }
    match special(name.as_bytes()) {
        Some(Trait::Value) => Call::Volatile,
        Some(Trait::Seed | Trait::SetConfig | Trait::LockSession | Trait::UnlockSession) => {
            Call::Session
        }
        Some(_) => Call::Server,
        None if name.starts_with("pg_")
            || name.starts_with("lo_")
            || MORE_SERVER.contains(&name) =>
        {
            Call::Server
        }
        None => Call::Harmless,
    }
}

/// Those that never take an argument: columns have some of their names.
const NO_ARGUMENT: &[&str] = &[
    "clock_timestamp",
    "current_date",
    "current_query",
    "current_time",
    "current_timestamp",
    "gen_random_uuid",
    "inet_client_addr",
    "inet_client_port",
    "inet_server_addr",
    "inet_server_port",
    "lastval",
    "localtime",
    "localtimestamp",
    "now",
    "random",
    "statement_timestamp",
    "timeofday",
    "transaction_timestamp",
    "uuidv4",
    "version",
];

/// Constant within a transaction, different between shards.
const TIME: &[&str] = &[
    "now",
    "current_timestamp",
    "current_date",
    "current_time",
    "localtime",
    "localtimestamp",
    "transaction_timestamp",
    "statement_timestamp",
    "age",
];

/// Another value on each call; those of extensions are here by their well-known names.
const VALUE: &[&str] = &[
    "random",
    "random_normal",
    "clock_timestamp",
    "timeofday",
    "gen_random_uuid",
    "uuidv4",
    "uuidv7",
    "gen_random_bytes",
    "uuid_generate_v1",
    "uuid_generate_v1mc",
    "uuid_generate_v4",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
];

/// Named like those that look at the server, but functions of their arguments.
const HARMLESS: &[&str] = &[
    "pg_typeof",
    "pg_collation_for",
    "pg_column_size",
    "pg_size_pretty",
    "pg_size_bytes",
    "pg_input_is_valid",
    "pg_lsn",
];

const MORE_OPAQUE: &[&str] = &[
    "crosstab",
    "crosstab2",
    "crosstab3",
    "crosstab4",
    "connectby",
    "crosstabn",
];

/// Stable functions that look into one shard's catalogs by name or number.
const MORE_SERVER: &[&str] = &[
    "version",
    "to_regclass",
    "to_regtype",
    "regclassin",
    "regtypein",
    "row_security_active",
    "has_type_privilege",
    "has_table_privilege",
    "has_sequence_privilege",
    "has_any_column_privilege",
    "has_column_privilege",
    "inet_server_addr",
    "inet_server_port",
];

const AGGREGATES: &[&str] = &[
    "any_value",
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "cume_dist",
    "dense_rank",
    "every",
    "grouping",
    "json_agg",
    "json_agg_strict",
    "json_arrayagg",
    "json_object_agg",
    "json_object_agg_strict",
    "json_object_agg_unique",
    "json_object_agg_unique_strict",
    "json_objectagg",
    "jsonb_agg",
    "jsonb_agg_strict",
    "jsonb_object_agg",
    "jsonb_object_agg_strict",
    "jsonb_object_agg_unique",
    "jsonb_object_agg_unique_strict",
    "max",
    "min",
    "mode",
    "percent_rank",
    "percentile_cont",
    "percentile_disc",
    "range_agg",
    "range_intersect_agg",
    "rank",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "string_agg",
    "sum",
    "var_pop",
    "var_samp",
    "variance",
    "xmlagg",
];
