//! Lists the settings that differ between two configurations, and says of each whether a reload applies it.

use super::section::Applies;
use super::{Config, Entries};

/// One setting that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The setting, such as `pool.max` or `shard.s1.slots`.
    pub path: String,
    /// The old value; `None` if it was not there. A secret is `***`.
    pub old: Option<String>,
    /// The new value; `None` if it is gone.
    pub new: Option<String>,
    /// Whether a reload applies it.
    pub applies: Applies,
}

impl Config {
    /// Every setting that differs, sorted by path.
    pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
        compare(&old.entries, &new.entries)
    }
}

pub(super) fn compare(old: &Entries, new: &Entries) -> Vec<Change> {
    let gone = old
        .iter()
        .filter(|(path, _)| !new.contains_key(*path))
        .map(|(path, was)| Change {
            path: path.clone(),
            old: Some(was.value.clone()),
            new: None,
            applies: was.applies,
        });
    let changed = new
        .iter()
        .filter(|(path, is)| old.get(*path) != Some(is))
        .map(|(path, is)| Change {
            path: path.clone(),
            old: old.get(path).map(|was| was.value.clone()),
            new: Some(is.value.clone()),
            applies: is.applies,
        });
    let mut changes: Vec<Change> = gone.chain(changed).collect();
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    changes
}
