//! How long something may take, as a setting of PostgreSQL's says it.

use std::time::Duration;

/// A time as PostgreSQL reads it of a setting: milliseconds, or with a unit (manual, Parameter Names and Values);
/// `None` if it is none, or less than nothing.
pub fn duration(text: &str) -> Option<Duration> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_those_of_postgresql() {
        for (text, millis) in [
            ("250", Some(250)),
            (" 2s ", Some(2_000)),
            ("1.5 min", Some(90_000)),
            ("1h", Some(3_600_000)),
            ("0", Some(0)),
            ("much", None),
            ("-1", None),
            ("1 week", None),
        ] {
            let expected = millis.map(Duration::from_millis);
            assert_eq!(duration(text.trim()), expected, "{text}");
        }
    }
}
