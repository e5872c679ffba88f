//! Applications' own settings (`app.tenant`) that a text names.

use mothership_catalog::custom_settings::CustomSettings;
pub use mothership_catalog::custom_settings::MAX_NAMES;

/// The names in a text that may be such settings, sorted, at most [`MAX_NAMES`].
pub fn named_by(sql: &[u8]) -> Box<[String]> {
    let names = CustomSettings::named_by(&String::from_utf8_lossy(sql));
    names.into_iter().take(MAX_NAMES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_no_settings_and_leave_room_for_them() {
        let columns: Vec<_> = (0..2 * MAX_NAMES).map(|n| format!("t.c{n}")).collect();
        let columns = columns.join(", ");
        let sql = format!("SELECT {columns}, current_setting('app.tenant') FROM t");
        assert_eq!(*named_by(sql.as_bytes()), ["app.tenant"]);
    }

    #[test]
    fn no_more_names_are_kept_than_there_is_room_for() {
        let names: Vec<_> = (0..2 * MAX_NAMES).map(|n| format!("'app.n{n}'")).collect();
        let sql = format!("SELECT {}", names.join(", "));
        assert_eq!(named_by(sql.as_bytes()).len(), MAX_NAMES);
    }
}
