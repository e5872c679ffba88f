//! DateStyle, the one setting with two parts: a SET of one part leaves the other as it was.
//! <https://www.postgresql.org/docs/current/datatype-datetime.html#DATATYPE-DATETIME-OUTPUT>

/// A value of DateStyle, in PostgreSQL's spelling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DateStyle {
    /// The style of output, if it is named.
    pub style: Option<&'static str>,
    /// The order of day, month and year, if it is named or follows from the style.
    pub order: Option<&'static str>,
}

impl DateStyle {
    /// Reads the words of a value, with or without quotes; `None` if one of them is not known.
    pub fn read(text: &str) -> Option<DateStyle> {
        let mut read = DateStyle::default();
        for word in text.split(',') {
            let word = word.trim();
            let word = word.strip_prefix("E'").unwrap_or(word);
            let word = word.trim_matches(['\'', '"']).trim();
            match word.to_ascii_lowercase().as_str() {
                "iso" => read.style = Some("ISO"),
                "sql" => read.style = Some("SQL"),
                "mdy" | "us" => read.order = Some("MDY"),
                "dmy" => read.order = Some("DMY"),
                "ymd" => read.order = Some("YMD"),
                // PostgreSQL compares the beginnings of these.
                word if word.starts_with("postgres") => read.style = Some("Postgres"),
                word if word.starts_with("german") => read.style = Some("German"),
                word if word.starts_with("noneuro") => read.order = Some("MDY"),
                word if word.starts_with("euro") => read.order = Some("DMY"),
                _ => return None,
            }
        }
        if read.style == Some("German") {
            read.order = read.order.or(Some("DMY"));
        }
        Some(read)
    }

    /// What holds after it was set where `before` held.
    pub fn over(self, before: DateStyle) -> DateStyle {
        DateStyle {
            style: self.style.or(before.style),
            order: self.order.or(before.order),
        }
    }

    /// The parts that are known, as SET takes them.
    pub fn text(self) -> String {
        let parts: Vec<_> = [self.style, self.order].into_iter().flatten().collect();
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_leaves_the_other_part() {
        for (before, now, expected) in [
            ("Postgres, MDY", "iso", "ISO, MDY"),
            ("iso", "ymd", "ISO, YMD"),
            ("ISO, YMD", "german", "German, DMY"),
            ("E'SQL', E'european'", "us", "SQL, MDY"),
            ("'SQL, DMY'", "ISO", "ISO, DMY"),
            ("iso", "mdy, German", "German, MDY"),
        ] {
            let read = |text| DateStyle::read(text).unwrap();
            assert_eq!(
                read(now).over(read(before)).text(),
                expected,
                "{before} {now}"
            );
        }
        assert_eq!(DateStyle::read("when"), None);
    }
}
