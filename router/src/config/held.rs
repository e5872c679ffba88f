//! What a reload does not change: a new file with the old values of what only a restart changes.
//!
//! Slots, keys and strategies say where rows are. Rows do not move because a file has changed, so a reload that put such
//! a setting in force would look for them where they are not.

use super::check::check;
use super::diff::compare;
use super::problem::Findings;
use super::section::Applies;
use super::value::Value;
use super::{Change, Config};
use std::collections::BTreeMap;

/// What a reload makes of a new file.
#[derive(Debug, Clone, PartialEq)]
pub struct Reloaded {
    /// What is in force from now on.
    pub config: Config,
    /// What the file says otherwise: `old` is in force, `new` would be after a restart.
    pub waiting: Vec<Change>,
}

impl Config {
    /// This configuration in place of `before`, without a restart.
    ///
    /// # Errors
    /// When what a reload may change needs what only a restart changes. Says what is wrong.
    pub fn held(self, before: &Config) -> Result<Reloaded, String> {
        let mut written = (*self.written).clone();
        written.hold(&before.written, Applies::Reload);
        let mut findings = Findings::default();
        let config = check(written, &BTreeMap::new(), &mut findings);
        match config {
            Some(config) => {
                let waiting = compare(&config.entries, &self.entries);
                Ok(Reloaded { config, waiting })
            }
            None => Err(format!(
                "some of it would only be right after a restart:\n{}",
                findings.told()
            )),
        }
    }
}
