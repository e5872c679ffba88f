//! What the settings of a session say of texts, as far as documents need it.
//!
//! The router repeats a session's settings on each connection that it uses. Of all of them only those matter here that
//! decide how a value is written, and whether anything may be. Of the first, a value other than PostgreSQL's default is
//! refused when a statement runs, unless it is known here.

use super::outcome::Stop;
use super::text::Setting;
use mothership_documents::value::Forms;
use mothership_proto::report::{Report, sqlstate};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a transaction may do, and what it sees; no session has them.
const READ_ONLY: &str = "transaction_read_only";
const ISOLATION: &str = "transaction_isolation";

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
        // The defaults are asked for now, and not when they change later.
        for (name, own) in [(READ_ONLY, "off"), (ISOLATION, "read committed")] {
            let default = self.get(&format!("default_{name}")).unwrap_or(own);
            let default = default.to_owned();
            self.local.insert(name.to_owned(), default);
        }
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
        let settings = match is_local || [READ_ONLY, ISOLATION].contains(&name.as_str()) {
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
        value.is_some_and(is_true)
    }

    /// How long a statement may take; nothing if it is not set.
    pub fn statement_timeout(&self) -> Option<Duration> {
        self.limit("statement_timeout")
    }

    /// How long it may wait for others; nothing if it is not set.
    pub fn lock_timeout(&self) -> Option<Duration> {
        self.limit("lock_timeout")
    }

    fn limit(&self, name: &str) -> Option<Duration> {
        mothership_sql::duration::duration(self.get(name)?).filter(|limit| !limit.is_zero())
    }

    /// Whether statements on documents mean here what they mean in PostgreSQL, and their bytes are what they seem.
    ///
    /// # Errors
    /// Settings say something else.
    pub fn check(&self) -> Result<(), Stop> {
        let default = || self.get("default_transaction_isolation");
        let isolation = self.get(ISOLATION).or_else(default).unwrap_or_default();
        if isolation.eq_ignore_ascii_case("serializable") {
            return Err(Report::error(
                sqlstate::FEATURE_NOT_SUPPORTED,
                "transactions on MongoDB are not SERIALIZABLE",
            )
            .hint("They see one snapshot, as REPEATABLE READ does.")
            .into());
        }
        let encoding = self.get("client_encoding").unwrap_or("utf8");
        let plain = encoding.to_ascii_lowercase().replace(['-', '_', ' '], "");
        // To SQL_ASCII, and from it, nothing is converted.
        if !matches!(plain.as_str(), "utf8" | "unicode" | "sqlascii") {
            return Err(unknown("client_encoding", encoding, "Use UTF8."));
        }
        for (name, own) in [("transform_null_equals", false), ("array_nulls", true)] {
            let value = self.get(name);
            if value.is_some_and(|value| is_true(value) != own) {
                let value = value.unwrap_or_default();
                return Err(unknown(name, value, "Use PostgreSQL's default."));
            }
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
            let named = jiff::tz::TimeZone::get(zone);
            forms.zone = named.map_err(|_| unknown("TimeZone", zone, "Use a zone by its name."))?;
        }
        if let Some(digits) = self.get("extra_float_digits") {
            let other = |_| unknown("extra_float_digits", digits, "Use a number.");
            forms.extra_float_digits = digits.parse().map_err(other)?;
        }
        let expected = [("datestyle", "iso"), ("bytea_output", "hex")];
        for (name, prefix) in expected {
            let value = self.get(name).unwrap_or(prefix);
            if !value.to_ascii_lowercase().starts_with(prefix) {
                return Err(unknown(name, value, "Use PostgreSQL's default."));
            }
        }
        Ok(forms)
    }
}

/// See `parse_bool` of PostgreSQL.
fn is_true(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    value == "on" || value.starts_with(['t', 'y', '1'])
}

fn unknown(name: &str, value: &str, hint: &'static str) -> Stop {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        format!("documents cannot be read or written with {name} = '{value}'"),
    )
    .hint(hint)
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
    fn what_changes_the_meaning_of_statements_is_refused() {
        let mut settings = Settings::default();
        let mut is_fine = |name: &str, value: &str| {
            settings.set(name, Some(value.to_owned()), false);
            let checked = settings.check().is_ok();
            settings.set(name, None, false);
            checked
        };
        for (name, value, expected) in [
            ("client_encoding", "'UTF-8'", true),
            ("client_encoding", "SQL_ASCII", true),
            ("client_encoding", "'latin1'", false),
            ("transform_null_equals", "off", true),
            ("transform_null_equals", "on", false),
            ("array_nulls", "'f'", false),
            ("default_transaction_isolation", "'repeatable read'", true),
            ("default_transaction_isolation", "Serializable", false),
        ] {
            assert_eq!(is_fine(name, value), expected, "{name} = {value}");
        }
        settings.set(
            "default_transaction_isolation",
            Some("serializable".to_owned()),
            false,
        );
        settings.begin();
        assert!(settings.check().is_err());
        settings.set(ISOLATION, Some("repeatable read".to_owned()), true);
        assert!(settings.check().is_ok());
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
