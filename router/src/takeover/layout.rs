//! What both processes must agree on: where rows are.
//!
//! While both serve, one of them would look for rows where the other has not put them. Such a setting changes when the
//! old process has ended. Pure.

use crate::config::{Applies, Entries};
use std::collections::BTreeMap;

/// Tables of the file that say where rows are, in what only a restart changes.
const SAY_WHERE: [&str; 6] = [
    "shard.",
    "database.",
    "table.",
    "tables.",
    "strategy.",
    "transactions.schema",
];

fn says_where(path: &str, applies: Applies) -> bool {
    applies == Applies::Restart && SAY_WHERE.iter().any(|part| path.starts_with(part))
}

/// Those of a configuration, by their paths.
pub fn layout(entries: &Entries) -> BTreeMap<String, String> {
    let all = entries
        .iter()
        .filter(|(path, shown)| says_where(path, shown.applies));
    all.map(|(path, shown)| (path.clone(), shown.value.clone()))
        .collect()
}

/// The first setting in which a configuration differs from the layout of the other process. One that the other does
/// not have must be as it is by default: the other may be older.
pub fn difference(other: &BTreeMap<String, String>, own: &Entries) -> Option<String> {
    let here = layout(own);
    let gone = other
        .iter()
        .find(|(path, value)| here.get(*path) != Some(value));
    let is_new = |path: &String, value: &String| {
        !other.contains_key(path) && own[path].default.as_ref() != Some(value)
    };
    let found = gone.or_else(|| here.iter().find(|(path, value)| is_new(path, value)));
    found.map(|(path, _)| path.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Process};
    use std::path::Path;

    #[test]
    fn where_rows_are_must_be_the_same_and_nothing_else_must() {
        let base = "[control]\nuser = \"c\"\npassword = \"p\"\n\
            [[shard]]\nname = \"s\"\n[[shard.server]]\naddress = \"a:5\"\n\
            [[table]]\nname = \"t\"\nkey = \"id\"\nkey_type = \"int8\"\n";
        let config = |text: &str| Config::parse(Path::new("t.toml"), text, &Process).unwrap();
        let old = layout(config(base).entries());
        for (text, expected) in [
            (base.to_owned(), None),
            (base.replace("a:5", "b:6"), None),
            (format!("{base}[listen]\nport = 7\n[pool]\nmax = 3\n"), None),
            (base.replace("\"id\"", "\"no\""), Some("table.public.t.key")),
            (
                format!("{base}[[table]]\nname = \"u\"\nkind = \"reference\"\n"),
                Some("table.public.u."),
            ),
        ] {
            let found = difference(&old, config(&text).entries());
            let is_right = match (&found, expected) {
                (Some(path), Some(expected)) => path.starts_with(expected),
                (found, expected) => found.is_none() && expected.is_none(),
            };
            assert!(is_right, "{text}: {found:?}");
        }
    }
}
