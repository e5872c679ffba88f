//! The settings that a session has without a server of PostgreSQL: their defaults, and what they may be.
//!
//! After PostgreSQL's manual, chapter Server Configuration. Those that are not here may be PostgreSQL's, and are refused.

use mothership_documents::VERSION;
use mothership_proto::report::{Report, sqlstate};
use mothership_sql::date_style::DateStyle;
use std::time::Duration;

/// One setting.
#[derive(Debug)]
pub(super) struct Parameter {
    /// As SHOW has it.
    pub name: &'static str,
    sort: Sort,
    default: &'static str,
    /// Clients are told when it changes (manual, Asynchronous Operations).
    pub is_reported: bool,
}

#[derive(Debug)]
enum Sort {
    Bool,
    Integer(i64, i64),
    /// Milliseconds.
    Time,
    Words(&'static [&'static str]),
    Text,
    Encoding,
    Zone,
    DateStyle,
    /// Nobody sets it.
    Fixed,
}

const fn of(name: &'static str, sort: Sort, default: &'static str) -> Parameter {
    Parameter {
        name,
        sort,
        default,
        is_reported: false,
    }
}

const fn told(name: &'static str, sort: Sort, default: &'static str) -> Parameter {
    Parameter {
        name,
        sort,
        default,
        is_reported: true,
    }
}

const ISOLATION: Sort = Sort::Words(&["read uncommitted", "read committed", "repeatable read"]);
const LEVELS: Sort = Sort::Words(&[
    "debug5", "debug4", "debug3", "debug2", "debug1", "debug", "log", "info", "notice", "warning",
    "error",
]);

/// All of them, in the order in which they are told.
pub(super) const ALL: &[Parameter] = &[
    told("application_name", Sort::Text, ""),
    told("client_encoding", Sort::Encoding, "UTF8"),
    told("DateStyle", Sort::DateStyle, "ISO, MDY"),
    told("default_transaction_read_only", Sort::Bool, "off"),
    told("in_hot_standby", Sort::Fixed, "off"),
    told("integer_datetimes", Sort::Fixed, "on"),
    told(
        "IntervalStyle",
        Sort::Words(&["postgres", "postgres_verbose", "sql_standard", "iso_8601"]),
        "postgres",
    ),
    told("is_superuser", Sort::Fixed, "off"),
    told("server_encoding", Sort::Fixed, "UTF8"),
    told("server_version", Sort::Fixed, VERSION),
    told("session_authorization", Sort::Fixed, ""),
    // A backslash in a string is one: so statements are read.
    told("standard_conforming_strings", Sort::Words(&["on"]), "on"),
    told("TimeZone", Sort::Zone, "UTC"),
    of("array_nulls", Sort::Bool, "on"),
    of("backslash_quote", Sort::Text, "safe_encoding"),
    of("bytea_output", Sort::Words(&["hex", "escape"]), "hex"),
    of("check_function_bodies", Sort::Bool, "on"),
    of("client_min_messages", LEVELS, "notice"),
    of("default_tablespace", Sort::Text, ""),
    of("default_table_access_method", Sort::Text, "heap"),
    of("default_transaction_deferrable", Sort::Bool, "off"),
    of("default_transaction_isolation", ISOLATION, "read committed"),
    of("escape_string_warning", Sort::Bool, "on"),
    of("extra_float_digits", Sort::Integer(-15, 3), "1"),
    of("idle_in_transaction_session_timeout", Sort::Time, "0"),
    of("idle_session_timeout", Sort::Time, "0"),
    of("jit", Sort::Bool, "on"),
    of("lc_collate", Sort::Fixed, "C"),
    of("lc_ctype", Sort::Fixed, "C"),
    of("lc_messages", Sort::Text, "C"),
    of("lc_monetary", Sort::Text, "C"),
    of("lc_numeric", Sort::Text, "C"),
    of("lc_time", Sort::Text, "C"),
    of("lock_timeout", Sort::Time, "0"),
    of("max_identifier_length", Sort::Fixed, "63"),
    of("max_index_keys", Sort::Fixed, "32"),
    of("plan_cache_mode", Sort::Text, "auto"),
    of("quote_all_identifiers", Sort::Bool, "off"),
    of("row_security", Sort::Bool, "on"),
    of("search_path", Sort::Text, "\"$user\", public"),
    of("server_version_num", Sort::Fixed, "150000"),
    of("statement_timeout", Sort::Time, "0"),
    of("synchronous_commit", Sort::Text, "on"),
    of("transaction_deferrable", Sort::Bool, "off"),
    of("transaction_isolation", ISOLATION, "read committed"),
    of("transaction_read_only", Sort::Bool, "off"),
    of("transform_null_equals", Sort::Bool, "off"),
    of("work_mem", Sort::Text, "4MB"),
    of("xmloption", Sort::Text, "content"),
];

/// The setting of that name, in any case.
pub(super) fn parameter(name: &str) -> Option<&'static Parameter> {
    ALL.iter().find(|one| one.name.eq_ignore_ascii_case(name))
}

/// Whether a name is one that anybody may use for a setting of his own.
pub(super) fn is_custom(name: &str) -> bool {
    name.contains('.')
}

/// What is said of a setting that is not known.
pub(super) fn unknown(name: &str) -> Report {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        format!("setting \"{name}\" is not known without a shard of PostgreSQL"),
    )
    .hint("Leave it out, or add a shard of PostgreSQL to the router's configuration.")
}

fn unknown_value(name: &str, value: &str) -> Report {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        format!("{name} = '{value}' is not known without a shard of PostgreSQL"),
    )
    .hint("Use the name of a zone, such as 'Europe/Rome' or 'Etc/GMT-2'.")
}

impl Parameter {
    /// As it is in a session that has not set it, of a user of this name.
    pub fn default<'a>(&'a self, user: &'a str) -> &'a str {
        match self.name {
            "session_authorization" => user,
            _ => self.default,
        }
    }

    /// A value as SHOW has it.
    ///
    /// # Errors
    /// It may not be this.
    pub fn read(&self, text: &str) -> Result<String, Report> {
        let read = match &self.sort {
            Sort::Fixed => {
                return Err(Report::error(
                    "55P02",
                    format!("parameter \"{}\" cannot be changed", self.name),
                ));
            }
            Sort::Text => Some(text.to_owned()),
            Sort::Bool => boolean(text).map(|is| if is { "on" } else { "off" }.to_owned()),
            Sort::Integer(least, most) => {
                let number = text.trim().parse::<i64>().ok();
                let fits = number.filter(|number| (least..=most).contains(&number));
                fits.map(|number| number.to_string())
            }
            Sort::Time => mothership_sql::duration::duration(text).map(time),
            Sort::Words(words) => {
                let known = words.iter().find(|word| word.eq_ignore_ascii_case(text));
                known.map(|word| (*word).to_owned())
            }
            Sort::Encoding => {
                // As PostgreSQL reads names of encodings; asyncpg has them in quotes.
                let plain = text.chars().filter(char::is_ascii_alphanumeric);
                let plain = plain.collect::<String>().to_ascii_lowercase();
                matches!(plain.as_str(), "utf8" | "unicode").then(|| "UTF8".to_owned())
            }
            // PostgreSQL's own ways of writing an offset.
            Sort::Zone if text.contains(|c: char| c.is_ascii_digit()) && zone(text).is_none() => {
                return Err(unknown_value(self.name, text));
            }
            Sort::Zone => zone(text),
            Sort::DateStyle => date_style(text),
        };
        read.ok_or_else(|| {
            Report::error(
                sqlstate::INVALID_PARAMETER_VALUE,
                format!("invalid value for parameter \"{}\": \"{text}\"", self.name),
            )
        })
    }
}

/// See `parse_bool` of PostgreSQL: also the beginnings of words, where they say which.
fn boolean(text: &str) -> Option<bool> {
    let text = text.to_ascii_lowercase();
    let begins = |word: &str, least: usize| text.len() >= least && word.starts_with(&text);
    match () {
        () if begins("true", 1) || begins("yes", 1) || text == "on" || text == "1" => Some(true),
        () if begins("false", 1) || begins("no", 1) || begins("off", 2) || text == "0" => {
            Some(false)
        }
        () => None,
    }
}

/// A time in the largest unit that it is a whole number of, as SHOW has it.
fn time(time: Duration) -> String {
    let milliseconds = time.as_millis();
    let units = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "min"),
        (1_000, "s"),
        (1, "ms"),
    ];
    let unit = units
        .iter()
        .find(|(size, _)| milliseconds.is_multiple_of(*size));
    match unit.filter(|_| milliseconds > 0) {
        Some((size, name)) => format!("{}{name}", milliseconds / size),
        None => "0".to_owned(),
    }
}

/// The zone of that name, as PostgreSQL's list writes it.
fn zone(text: &str) -> Option<String> {
    let zone = jiff::tz::TimeZone::get(text).ok()?;
    zone.iana_name().map(str::to_owned)
}

/// Names as SET has them, with quotes where they need them, as SHOW has them.
pub(super) fn path(text: &str) -> String {
    let is_plain = |name: &str| {
        let mut letters = name.chars();
        letters
            .next()
            .is_some_and(|c| c.is_ascii_lowercase() || c == '_')
            && letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let name = |part: &str| {
        let part = part.trim();
        let (inner, is_quoted) = match part.as_bytes() {
            [b'"', .., b'"'] | [b'\'', .., b'\''] if part.len() > 1 => {
                (&part[1..part.len() - 1], true)
            }
            _ => (part, false),
        };
        match is_quoted {
            true if is_plain(inner) => inner.to_owned(),
            true => format!("\"{inner}\""),
            false => inner.to_ascii_lowercase(),
        }
    };
    let names: Vec<String> = text.split(',').map(name).collect();
    names.join(", ")
}

/// A style and an order, each of which may be left out.
fn date_style(text: &str) -> Option<String> {
    let default = DateStyle {
        style: Some("ISO"),
        order: Some("MDY"),
    };
    Some(DateStyle::read(text)?.over(default).text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_postgresql_shows_them() {
        let cases = [
            ("statement_timeout", "5000", Some("5s")),
            ("statement_timeout", "1500", Some("1500ms")),
            ("statement_timeout", "2min", Some("2min")),
            ("statement_timeout", "0", Some("0")),
            ("statement_timeout", "soon", None),
            ("datestyle", "iso", Some("ISO, MDY")),
            ("datestyle", "German", Some("German, DMY")),
            ("datestyle", "ISO, DMY", Some("ISO, DMY")),
            ("datestyle", "when", None),
            ("timezone", "europe/rome", Some("Europe/Rome")),
            ("timezone", "Nowhere", None),
            ("timezone", "etc/gmt+5", Some("Etc/GMT+5")),
            ("timezone", "+05:30", None),
            ("extra_float_digits", "3", Some("3")),
            ("extra_float_digits", "4", None),
            ("row_security", "TR", Some("on")),
            ("row_security", "o", None),
            ("client_encoding", "'utf-8'", Some("UTF8")),
            ("client_encoding", "LATIN1", None),
            (
                "default_transaction_isolation",
                "Repeatable Read",
                Some("repeatable read"),
            ),
            ("default_transaction_isolation", "serializable", None),
            ("server_version", "9.1", None),
        ];
        for (name, text, expected) in cases {
            let read = parameter(name).expect(name).read(text).ok();
            assert_eq!(read.as_deref(), expected, "{name} = {text}");
        }
    }

    #[test]
    fn a_path_is_shown_with_the_quotes_that_it_needs() {
        let shown = "a, b, \"C d\", \"$user\"";
        assert_eq!(path("A, 'b', \"C d\",\"$user\""), shown);
    }

    #[test]
    fn every_default_is_a_value() {
        for one in ALL.iter().filter(|one| !matches!(one.sort, Sort::Fixed)) {
            assert_eq!(one.read(one.default).ok().as_deref(), Some(one.default));
        }
    }
}
