//! `SET mothership.max_lag = '5s'`: how old what a replica shows may be for the reads of one session, in place of
//! `balance.freshness` and of what a rule says.
//!
//! To the servers it is a setting like any other with a prefix, so that SHOW, RESET, SET LOCAL, savepoints and startup
//! packets mean what they always do. Here its value is read, and a wrong one is refused before a server sees it.

use super::settings::Settings;
use crate::config::parse_duration;
use mothership_proto::report::{Report, sqlstate};
use std::time::Duration;

/// The setting's name.
pub const NAME: &str = "mothership.max_lag";

/// A value of it: a number of milliseconds, or one with a unit. `Some(None)` for the empty text, which a RESET leaves: no
/// limit of the session's own.
fn parse(text: &str) -> Option<Option<Duration>> {
    let text = text.trim();
    if text.is_empty() {
        return Some(None);
    }
    let milliseconds = || text.parse().ok().map(Duration::from_millis);
    parse_duration(text).or_else(milliseconds).map(Some)
}

/// The refusal of a value that is none. Another setting may have any.
pub fn refusal(name: &str, value: &str) -> Option<Report> {
    if name != NAME || parse(value).is_some() {
        return None;
    }
    let message = format!("invalid value for parameter \"{NAME}\": \"{value}\"");
    let hint = "Give a number of milliseconds, or a whole number with one of the units us, ms, s, min, h and d.";
    Some(Report::error(sqlstate::INVALID_PARAMETER_VALUE, message).hint(hint))
}

/// What a session's settings say, if they say anything.
pub fn of(settings: &Settings) -> Option<Duration> {
    parse(&settings.text(NAME)?)?
}

#[cfg(test)]
mod tests {
    use super::super::settings::Value;
    use super::*;

    #[test]
    fn a_value_is_a_time_or_refused() {
        let cases = [
            ("5s", Some(Some(5_000))),
            (" 1min ", Some(Some(60_000))),
            ("250", Some(Some(250))),
            ("0", Some(Some(0))),
            ("", Some(None)),
            ("-1", None),
            ("soon", None),
            ("1.5s", None),
        ];
        for (text, expected) in cases {
            let read = parse(text).map(|limit| limit.map(|limit| limit.as_millis()));
            assert_eq!(read, expected, "{text}");
            assert_eq!(refusal(NAME, text).is_some(), expected.is_none(), "{text}");
            assert!(refusal("other.setting", text).is_none());
        }
    }

    #[test]
    fn it_is_read_however_it_was_set() {
        for (value, expected) in [
            (Value::Text("5s".into()), Some(5_000)),
            (
                Value::Statement("SET mothership.max_lag = '2s'".into()),
                Some(2_000),
            ),
            (
                Value::Statement("set session Mothership.Max_Lag to 30".into()),
                Some(30),
            ),
            (Value::Statement("SET mothership.max_lag = ''".into()), None),
        ] {
            let mut settings = Settings::default();
            settings.set(NAME, value.clone());
            let limit = of(&settings).map(|limit| limit.as_millis());
            assert_eq!(limit, expected, "{value:?}");
        }
        assert_eq!(of(&Settings::default()), None);
    }
}
