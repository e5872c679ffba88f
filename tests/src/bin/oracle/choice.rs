//! Values that are equal and not the same: 1.0 and 1.00, also within jsonb, 0 and -0, a month and 30 days, a and A by a
//! collation.
//!
//! DISTINCT, GROUP BY, UNION and the like show one of them, and which is nobody's
//! promise. Here all of them get one form.

use crate::run::{Column, Row};
use crate::statement::Statement;

const NUMERIC: u32 = 1700;
pub const FLOATS: [u32; 2] = [700, 701];
const INTERVAL: u32 = 1186;
const JSONB: u32 = 3802;
const BPCHAR: u32 = 1042;
/// `text`, `varchar` and `char(n)`, which have a collation.
pub const TEXTS: [u32; 3] = [25, 1043, 1042];

/// What shows one of several equal values.
const CHOOSERS: [&str; 6] = [
    "DISTINCT",
    "DISTINCT ON",
    "set operation",
    "GROUP BY",
    "choice",
    "aggregate DISTINCT",
];

/// Whether the statement may show one of several equal values.
pub fn is_open(statement: &Statement) -> bool {
    CHOOSERS
        .iter()
        .any(|word| statement.features.contains(word))
}

/// The columns of an answer, and which of them have the collation that takes letters of either case for the same.
pub struct Shown<'c> {
    pub columns: &'c [Column],
    pub caseless: &'c [usize],
}

impl Shown<'_> {
    /// A row of the answer, with every value in the form that all equal ones have.
    pub fn form_of(&self, row: &Row) -> Row {
        let one = |(at, value): (usize, &Option<Vec<u8>>)| {
            let value = value.as_ref()?;
            if self.caseless.contains(&at) {
                return Some(caseless(value));
            }
            Some(match self.columns.get(at) {
                Some(column) => form(value, column.ty, column.format == 1),
                None => untyped(value),
            })
        };
        row.iter().enumerate().map(one).collect()
    }
}

/// As the collation `nondet` compares, which tells letters and accents apart and nothing else.
fn caseless(value: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(value).unwrap_or_default();
    text.to_lowercase().replace('ß', "ss").into_bytes()
}

/// The form of a value that COPY tells, without its type: it may be a number or an interval.
fn untyped(value: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(value).unwrap_or_default();
    match interval(text).filter(|_| !text.is_empty()) {
        Some(span) => span.to_string().into_bytes(),
        None => form(value, NUMERIC, false),
    }
}

fn form(value: &[u8], ty: u32, binary: bool) -> Vec<u8> {
    let text = || std::str::from_utf8(value).unwrap_or_default();
    let formed = match (ty, binary) {
        (NUMERIC, false) => trimmed(text()),
        (NUMERIC, true) if value.len() >= 8 => {
            // Without the number of digits that are shown.
            return [&value[..6], &value[8..]].concat();
        }
        (ty, false) if FLOATS.contains(&ty) && text() == "-0" => "0".to_owned(),
        (ty, true) if FLOATS.contains(&ty) && value.iter().skip(1).all(|b| *b == 0) => {
            "0".to_owned()
        }
        (INTERVAL, true) if value.len() == 16 => {
            let number = |from: usize, to: usize| {
                let sign = if value[from] & 0x80 == 0 { 0 } else { 0xff };
                let mut wide = [sign; 16];
                wide[16 - (to - from)..].copy_from_slice(&value[from..to]);
                i128::from_be_bytes(wide)
            };
            span(number(12, 16), number(8, 12), number(0, 8)).to_string()
        }
        (BPCHAR, _) => text().trim_end_matches(' ').to_owned(),
        // In binary its text has a version before it.
        (JSONB, _) => json(text()),
        (INTERVAL, false) => interval(text()).map_or_else(|| text().to_owned(), |n| n.to_string()),
        _ => return value.to_vec(),
    };
    formed.into_bytes()
}

/// A number without zeros at its end; other text as it is. Of COPY no types are known, so it may be a float's -0.
fn trimmed(text: &str) -> String {
    if text == "-0" {
        return "0".to_owned();
    }
    let number = text.parse::<f64>().is_ok() && text.contains('.') && !text.contains('e');
    match number {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    }
}

/// JSON with all its numbers [`trimmed`].
fn json(text: &str) -> String {
    let (mut out, mut number) = (String::new(), String::new());
    let (mut in_string, mut is_escaped) = (false, false);
    for char in text.chars() {
        if !in_string && matches!(char, '0'..='9' | '.' | '-' | '+' | 'e' | 'E') {
            // Letters of true, false and null are not in numbers, or do no harm there.
            number.push(char);
            continue;
        }
        out.push_str(&trimmed(&std::mem::take(&mut number)));
        out.push(char);
        in_string ^= char == '"' && !is_escaped;
        is_escaped = in_string && char == '\\' && !is_escaped;
    }
    out + &trimmed(&number)
}

/// Microseconds, as PostgreSQL compares intervals.
fn span(months: i128, days: i128, microseconds: i128) -> i128 {
    (months * 30 + days) * 86_400_000_000 + microseconds
}

/// Of `1 year 2 mons -3 days 04:05:06.789`.
fn interval(text: &str) -> Option<i128> {
    let (mut months, mut days, mut time) = (0, 0, 0);
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        if word.contains(':') {
            let (sign, clock) = match word.strip_prefix('-') {
                Some(clock) => (-1, clock),
                None => (1, word),
            };
            let mut parts = clock.split(':');
            let hours: i128 = parts.next()?.trim_start_matches('+').parse().ok()?;
            let minutes: i128 = parts.next()?.parse().ok()?;
            let (seconds, fraction) = match parts.next()?.split_once('.') {
                Some((seconds, fraction)) => {
                    (seconds.parse::<i128>().ok()?, format!("{fraction:0<6}"))
                }
                None => (clock.rsplit(':').next()?.parse().ok()?, "0".to_owned()),
            };
            let all = (hours * 60 + minutes) * 60 + seconds;
            time = sign * (all * 1_000_000 + fraction.parse::<i128>().ok()?);
            continue;
        }
        let number: i128 = word.trim_start_matches('+').parse().ok()?;
        match words.next()?.trim_end_matches('s') {
            "year" => months += number * 12,
            "mon" => months += number,
            "day" => days += number,
            _ => return None,
        }
    }
    Some(span(months, days, time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_copy_tells_is_a_number_an_interval_or_itself() {
        let form = |text: &str| String::from_utf8(untyped(text.as_bytes())).unwrap();
        assert_eq!(form("1 day"), form("24:00:00"));
        assert_ne!(form("1 day"), form("2 days"));
        assert_eq!(form("1.50"), "1.5");
        for text in ["", "b", "7", "2020-01-31 04:05:06", "{1,2}"] {
            assert_eq!(form(text), text);
        }
    }

    #[test]
    fn numbers_within_jsonb_are_numbers() {
        let cases = [
            ("1.0", "1"),
            ("-2.50", "-2.5"),
            (
                "{\"a 1.0\": [1.00, true, \"2.0 \\\" 3.0\", null, false], \"b\": 100}",
                "{\"a 1.0\": [1, true, \"2.0 \\\" 3.0\", null, false], \"b\": 100}",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(form(text.as_bytes(), JSONB, false), expected.as_bytes());
            let binary = format!("\u{1}{text}");
            let expected = format!("\u{1}{expected}");
            assert_eq!(form(binary.as_bytes(), JSONB, true), expected.as_bytes());
        }
    }

    #[test]
    fn case_is_nothing_where_the_collation_says_so() {
        let row = |text: &str| vec![Some(text.as_bytes().to_vec()); 2];
        let shown = Shown {
            columns: &[],
            caseless: &[1],
        };
        assert_eq!(
            shown.form_of(&row("Straße")),
            [Some("Straße".into()), Some("strasse".into())]
        );
        assert_ne!(shown.form_of(&row("Ä"))[1], shown.form_of(&row("a"))[1]);
    }

    #[test]
    fn equal_values_have_one_form() {
        for (ty, a, b) in [
            (NUMERIC, "1.0", "1.00"),
            (NUMERIC, "0", "0.0"),
            (INTERVAL, "-4 mons +120 days", "-2 mons +60 days"),
            (INTERVAL, "1 day", "24:00:00"),
            (INTERVAL, "-00:00:00.000001", "-00:00:00.000001"),
            (701, "-0", "0"),
            (NUMERIC, "-0", "0"),
        ] {
            assert_eq!(
                form(a.as_bytes(), ty, false),
                form(b.as_bytes(), ty, false),
                "{a} {b}"
            );
        }
        for (ty, a, b) in [
            (NUMERIC, "10", "1"),
            (INTERVAL, "1 day", "-1 days"),
            (25, "1.0", "1.00"),
        ] {
            assert_ne!(
                form(a.as_bytes(), ty, false),
                form(b.as_bytes(), ty, false),
                "{a} {b}"
            );
        }
    }
}
