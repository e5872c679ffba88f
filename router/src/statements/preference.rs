//! `SET mothership.plan = 'gather'`: one server computes each query over shards from the rows that the shards bring, also
//! where the shards could compute it apart or one of them alone. It is slower, and another way to the same answer: whoever
//! doubts an answer asks both ways. As PostgreSQL's `enable_*` settings it is a wish: what can't be gathered is planned as
//! ever.
//!
//! To the servers it is a setting like any other with a prefix. Here its value is read.

use super::settings::Settings;
use mothership_proto::report::{Report, sqlstate};

/// The setting's name.
pub const NAME: &str = "mothership.plan";

/// Whether queries are to be gathered. The empty text is what a RESET leaves.
fn parse(text: &str) -> Option<bool> {
    match text.trim() {
        "gather" => Some(true),
        "auto" | "" => Some(false),
        _ => None,
    }
}

/// The refusal of a value that is none. Another setting may have any.
pub fn refusal(name: &str, value: &str) -> Option<Report> {
    if name != NAME || parse(value).is_some() {
        return None;
    }
    let message = format!("invalid value for parameter \"{NAME}\": \"{value}\"");
    let report = Report::error(sqlstate::INVALID_PARAMETER_VALUE, message);
    Some(report.hint("Available values: auto, gather."))
}

/// Whether a session's settings ask for it.
pub fn gathers(settings: &Settings) -> bool {
    let said = settings.text(NAME).and_then(|text| parse(&text));
    said.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::settings::Value;
    use super::*;

    #[test]
    fn a_value_is_known_or_refused() {
        for (text, expected) in [
            ("gather", Some(true)),
            ("auto", Some(false)),
            ("", Some(false)),
            ("scatter", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
            assert_eq!(refusal(NAME, text).is_some(), expected.is_none(), "{text}");
            assert!(refusal("other.plan", text).is_none());
        }
    }

    #[test]
    fn it_is_read_however_it_was_set() {
        for (value, expected) in [
            (Value::Text("gather".into()), true),
            (
                Value::Statement("SET mothership.plan = 'gather'".into()),
                true,
            ),
            (
                Value::Statement("SET mothership.plan TO auto".into()),
                false,
            ),
        ] {
            let mut settings = Settings::default();
            settings.set(NAME, value.clone());
            assert_eq!(gathers(&settings), expected, "{value:?}");
        }
        assert!(!gathers(&Settings::default()));
    }
}
