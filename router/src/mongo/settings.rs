//! What the settings of a session say of texts, as far as documents need it.
//!
//! The router repeats a session's settings on each connection that it uses. Of all of them only those matter here that
//! decide how a value is written, and whether anything may be. Of the first, a value other than PostgreSQL's default is
//! refused when a statement runs, unless it is known here.

use super::outcome::Stop;
use super::text::Setting;
use crate::documents::value::Forms;
use mothership_proto::report::{Report, sqlstate};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a transaction may do; no session has it.
const READ_ONLY: &str = "transaction_read_only";

/// Settings by their names in lower case, with what the open transaction changes of them for itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    session: BTreeMap<String, String>,
    local: BTreeMap<String, String>,
    /// As they were when the transaction began.
    before: Option<BTreeMap<String, String>>,
    /// What they say of how values are written, where that has been asked since one of them changed.
    forms: Option<Forms>,
}

impl Settings {
    /// A transaction begins.
    pub fn begin(&mut self) {
        self.before = Some(self.session.clone());
        // The default is asked for now, and not when it changes later.
        let default = self.get("default_transaction_read_only");
        let default = default.unwrap_or("off").to_owned();
        self.local.insert(READ_ONLY.to_owned(), default);
    }

    /// What was not between BEGIN and its end is over: so is what was set for it.
    pub fn end_implicit(&mut self) {
        if !self.local.is_empty() {
            self.local.clear();
            self.forms = None;
        }
    }

    /// It ends.
    pub fn end(&mut self, commits: bool) {
        self.local.clear();
        self.forms = None;
        if let Some(before) = self.before.take().filter(|_| !commits) {
            self.session = before;
        }
    }

    /// Sets what a statement asks.
    pub fn apply(&mut self, changes: &[Setting]) {
        self.forms = None;
        for change in changes {
            match change {
                Setting::All => self.session.clear(),
                Setting::One {
                    name,
                    value,
                    is_local,
                } => self.set(name, value.clone(), *is_local),
            }
        }
    }

    /// Sets one; without a value it is what the server has of itself.
    fn set(&mut self, name: &str, value: Option<String>, is_local: bool) {
        let name = name.to_ascii_lowercase();
        let settings = match is_local || name == READ_ONLY {
            true => &mut self.local,
            false => &mut self.session,
        };
        match value {
            Some(value) => drop(settings.insert(name, value)),
            None => drop(settings.remove(&name)),
        }
    }

    /// What one is set to, by its name in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.local.get(name).or_else(|| self.session.get(name));
        found.map(|value| value.trim().trim_matches('\''))
    }

    /// Whether the transaction may not write.
    pub fn is_read_only(&self) -> bool {
        let default = || self.get("default_transaction_read_only");
        let value = self.get(READ_ONLY).or_else(default);
        // As the router and its clients write it; see `parse_bool` of PostgreSQL.
        value.is_some_and(is_true)
    }

    /// How long a statement may take; nothing if it is not set.
    pub fn statement_timeout(&self) -> Option<Duration> {
        duration(self.get("statement_timeout")?).filter(|limit| !limit.is_zero())
    }

    /// Whether the bytes of a stream are what they seem.
    ///
    /// # Errors
    /// They are set to be something else.
    pub fn check_streams(&self) -> Result<(), Stop> {
        let encoding = self.get("client_encoding").unwrap_or("utf8");
        let plain = encoding.to_ascii_lowercase().replace(['-', '_'], "");
        if !matches!(plain.as_str(), "utf8" | "unicode") {
            return Err(unknown("client_encoding", encoding));
        }
        Ok(())
    }

    /// How values are written.
    ///
    /// # Errors
    /// They are set in a way that is not known here.
    pub fn forms(&mut self) -> Result<Forms, Stop> {
        if self.forms.is_none() {
            self.forms = Some(self.read_forms()?);
        }
        Ok(self.forms.clone().unwrap_or_default())
    }

    fn read_forms(&self) -> Result<Forms, Stop> {
        let mut forms = Forms::default();
        if let Some(zone) = self.get("timezone") {
            forms.zone = jiff::tz::TimeZone::get(zone).map_err(|_| unknown("TimeZone", zone))?;
        }
        if let Some(digits) = self.get("extra_float_digits") {
            let number = digits.parse();
            forms.extra_float_digits = number.map_err(|_| unknown("extra_float_digits", digits))?;
        }
        let expected = [("datestyle", "iso"), ("bytea_output", "hex")];
        for (name, prefix) in expected {
            let value = self.get(name).unwrap_or(prefix);
            if !value.to_ascii_lowercase().starts_with(prefix) {
                return Err(unknown(name, value));
            }
        }
        Ok(forms)
    }
}

/// A time as PostgreSQL reads it of a setting: milliseconds, or with a unit (manual, Parameter Names and Values).
pub(super) fn duration(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| c.is_ascii_alphabetic());
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let seconds = match unit.trim() {
        "" | "ms" => 1e-3,
        "us" => 1e-6,
        "s" => 1.0,
        "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    let number: f64 = number.trim().parse().ok()?;
    Duration::try_from_secs_f64(number * seconds).ok()
}

fn is_true(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    value == "on" || value.starts_with(['t', 'y', '1'])
}

fn unknown(name: &str, value: &str) -> Stop {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        format!("documents cannot be shown with {name} = '{value}'"),
    )
    .hint("Use PostgreSQL's default, and a zone by its name.")
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_postgresql_reads_them() {
        let cases = [
            ("250", Some(250)),
            ("'2s'", Some(2_000)),
            ("1.5 min", Some(90_000)),
            ("0", None),
            ("much", None),
            ("-1", None),
        ];
        for (text, expected) in cases {
            let mut settings = Settings::default();
            settings.set("statement_timeout", Some(text.to_owned()), false);
            let expected = expected.map(Duration::from_millis);
            assert_eq!(settings.statement_timeout(), expected, "{text}");
        }
    }

    #[test]
    fn forms_are_those_of_the_settings_of_now() {
        let mut settings = Settings::default();
        let zone = |settings: &mut Settings| {
            settings
                .forms()
                .unwrap()
                .zone
                .iana_name()
                .map(str::to_owned)
        };
        let set = |value: &str, is_local: bool| Setting::One {
            name: "TimeZone".to_owned(),
            value: Some(value.to_owned()),
            is_local,
        };
        assert_eq!(zone(&mut settings), Some("UTC".to_owned()));
        settings.apply(&[set("Asia/Tokyo", true)]);
        assert_eq!(zone(&mut settings), Some("Asia/Tokyo".to_owned()));
        settings.end_implicit();
        assert_eq!(zone(&mut settings), Some("UTC".to_owned()));
        settings.begin();
        settings.apply(&[set("Europe/Rome", false)]);
        assert_eq!(zone(&mut settings), Some("Europe/Rome".to_owned()));
        settings.end(false);
        assert_eq!(zone(&mut settings), Some("UTC".to_owned()));
        settings.apply(&[set("Nowhere", false)]);
        assert!(settings.forms().is_err());
        assert!(settings.forms().is_err());
    }

    #[test]
    fn a_transaction_is_read_only_as_it_began_or_was_told() {
        let mut settings = Settings::default();
        let on = || Some("'on'".to_owned());
        settings.begin();
        settings.set("default_transaction_read_only", on(), false);
        assert!(!settings.is_read_only(), "the default came later");
        settings.set("transaction_read_only", on(), false);
        assert!(settings.is_read_only());
        settings.end(true);
        assert!(settings.is_read_only(), "of a statement by itself");
        settings.begin();
        assert!(settings.is_read_only());
        settings.set("transaction_read_only", Some("off".to_owned()), true);
        assert!(!settings.is_read_only());
        settings.end(false);
        settings.set("default_transaction_read_only", None, false);
        assert!(!settings.is_read_only());
    }
}
