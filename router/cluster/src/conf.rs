//! The settings file of a server: a list of names and values, quoted.
//!
//! It lies beside postgresql.conf, which includes it, so that a replica made by
//! pg_basebackup gets one of its own by replacing a single file.

/// The name of our settings file in the data folder.
pub(super) const FILE: &str = "mothership.conf";

/// What postgresql.conf must end with.
pub(super) const INCLUDE: &str = "\ninclude 'mothership.conf'\n";

/// The file's text. A later setting of the same name wins, as in PostgreSQL.
pub(super) fn render<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    settings
        .into_iter()
        .map(|(name, value)| format!("{name} = {}\n", quote(value)))
        .collect()
}

/// See "Parameter Interaction via the Configuration File": a quote is doubled;
/// PostgreSQL also reads backslash escapes, so a backslash is doubled too.
fn quote(value: &str) -> String {
    let doubled = value.replace('\\', "\\\\").replace('\'', "''");
    format!("'{doubled}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted() {
        let text = render([("a", "1"), ("b", "it's"), ("c", "x\\y")]);
        assert_eq!(text, "a = '1'\nb = 'it''s'\nc = 'x\\\\y'\n");
    }
}
