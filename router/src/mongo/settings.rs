//! What the settings of a session say of texts, as far as documents need it.
//!
//! The router repeats a session's settings on each connection that it uses. Of all of them only those matter here that
//! decide how a value is written. Of such, a value other than PostgreSQL's default is refused when a statement runs,
//! unless it is known here.

use super::outcome::Stop;
use crate::documents::value::Forms;
use mothership_proto::report::{Report, sqlstate};
use std::collections::BTreeMap;

/// Settings by their names in lower case, with what the open transaction changes of them for itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    session: BTreeMap<String, String>,
    local: BTreeMap<String, String>,
    /// As they were when the transaction began.
    before: Option<BTreeMap<String, String>>,
}

impl Settings {
    /// A transaction begins.
    pub fn begin(&mut self) {
        self.before = Some(self.session.clone());
    }

    /// It ends.
    pub fn end(&mut self, commits: bool) {
        self.local.clear();
        if let Some(before) = self.before.take().filter(|_| !commits) {
            self.session = before;
        }
    }

    /// Sets one; without a value it is what the server has of itself.
    pub fn set(&mut self, name: &str, value: Option<String>, is_local: bool) {
        let name = name.to_ascii_lowercase();
        let settings = match is_local {
            true => &mut self.local,
            false => &mut self.session,
        };
        match value {
            Some(value) => drop(settings.insert(name, value)),
            None => drop(settings.remove(&name)),
        }
    }

    /// Sets all to what the server has of itself.
    pub fn reset(&mut self) {
        self.session.clear();
    }

    fn get(&self, name: &str) -> Option<&str> {
        let found = self.local.get(name).or_else(|| self.session.get(name));
        found.map(|value| value.trim().trim_matches('\''))
    }

    /// How values are written.
    ///
    /// # Errors
    /// They are set in a way that is not known here.
    pub fn forms(&self) -> Result<Forms, Stop> {
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

fn unknown(name: &str, value: &str) -> Stop {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        format!("documents cannot be shown with {name} = '{value}'"),
    )
    .hint("Use PostgreSQL's default, and a zone by its name.")
    .into()
}
