//! The settings of applications' own (`app.tenant`) that a text names.

use mothership_catalog::custom_settings::CustomSettings;

/// So many names are kept, of a text and of all sessions of a core.
pub const MAX_NAMES: usize = 500;

/// The names that stand in a text, in their order; of more than are kept, the last ones.
pub fn named_by(sql: &[u8]) -> Box<[String]> {
    let mut names = CustomSettings::named_by(&String::from_utf8_lossy(sql));
    while names.len() > MAX_NAMES {
        names.pop_first();
    }
    names.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_names_in_one_statement_no_more_are_read_than_are_kept() {
        let columns: Vec<_> = (0..MAX_NAMES * 2).map(|n| format!("t.c{n:04}")).collect();
        let names = named_by(format!("SELECT {}", columns.join(", ")).as_bytes());
        assert_eq!(names.len(), MAX_NAMES);
        assert_eq!(names.last().map(String::as_str), Some("t.c0999"));
    }
}
