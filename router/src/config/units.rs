//! Durations ("5s", "200ms"), sizes ("64KiB") and shares ("10%") as written in the file.
//!
//! Pure text to value and back; `show` gives a form that reads back as the same value.

use std::fmt;
use std::time::Duration;

/// Units of time, the longest first.
const TIMES: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("min", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];
/// Units of size, the largest first.
const SIZES: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Reads "1h", "5s", "200ms": a whole number and a unit. PostgreSQL's units, and `m` is
/// not one of them, because it is a minute to some and a month to others.
pub fn parse_duration(text: &str) -> Option<Duration> {
    parse(text, &TIMES).map(Duration::from_micros)
}

/// The shortest text that [`parse_duration`] reads as the same time.
pub(super) fn show_duration(duration: Duration) -> String {
    show(
        u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
        &TIMES,
        "s",
    )
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// `count` times 1024 bytes.
    pub const fn kib(count: u64) -> Self {
        ByteSize(count << 10)
    }

    /// `count` times 1024 * 1024 bytes.
    pub const fn mib(count: u64) -> Self {
        ByteSize(count << 20)
    }

    /// The size for use as a length in memory.
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        parse(text, &SIZES).map(ByteSize)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show(self.0, &SIZES, "B"))
    }
}

/// A part of a whole, in tenths of a percent, from 0 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u16);

impl Share {
    /// A whole number of percent; more than 100 is taken as 100.
    pub const fn percent(percent: u16) -> Self {
        Share(if percent > 100 { 1000 } else { percent * 10 })
    }

    /// Between 0.0 and 1.0.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 1000.0
    }

    /// This share of `whole`, rounded down.
    pub fn of(self, whole: u32) -> u32 {
        u32::try_from(u64::from(whole) * u64::from(self.0) / 1000).unwrap_or(whole)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let number = text.strip_suffix('%')?.trim_end();
        let (whole, tenth) = number.split_once('.').unwrap_or((number, "0"));
        if tenth.len() != 1 || !digits(whole) || !digits(tenth) {
            return None;
        }
        let tenths = whole
            .parse::<u16>()
            .ok()?
            .checked_mul(10)?
            .checked_add(tenth.parse().ok()?)?;
        (tenths <= 1000).then_some(Share(tenths))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 10 {
            0 => write!(f, "{}%", self.0 / 10),
            tenth => write!(f, "{}.{tenth}%", self.0 / 10),
        }
    }
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = (&text[..split], text[split..].trim_start());
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn show(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    let unit = units
        .iter()
        .find(|(_, factor)| value != 0 && value.is_multiple_of(*factor));
    match unit {
        Some((name, factor)) => format!("{}{name}", value / factor),
        None => format!("0{zero}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back_as_shown() {
        for (text, micros, shown) in [
            ("5s", 5_000_000, "5s"),
            ("200ms", 200_000, "200ms"),
            ("90 min", 5_400_000_000, "90min"),
            ("3600s", 3_600_000_000, "1h"),
            ("7us", 7, "7us"),
            ("0s", 0, "0s"),
            ("1d", 86_400_000_000, "1d"),
        ] {
            assert_eq!(
                parse_duration(text),
                Some(Duration::from_micros(micros)),
                "{text}"
            );
            assert_eq!(show_duration(Duration::from_micros(micros)), shown);
            assert_eq!(parse_duration(shown), parse_duration(text));
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in [
            "",
            "5",
            "s",
            "-5s",
            "1.5s",
            "5m",
            "5 parsecs",
            "99999999999999999999s",
            "999999999999999d",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_and_shares_read_back_as_shown() {
        assert_eq!(ByteSize::parse("64KiB"), Some(ByteSize::kib(64)));
        assert_eq!(ByteSize::mib(1).to_string(), "1MiB");
        assert_eq!(ByteSize(1000).to_string(), "1000B");
        for text in ["64", "64KB", "-1B", "18446744073709551615GiB"] {
            assert_eq!(ByteSize::parse(text), None, "{text}");
        }
        for text in ["0%", "10%", "0.5%", "100%"] {
            assert_eq!(
                Share::parse(text).map(|share| share.to_string()).as_deref(),
                Some(text)
            );
        }
        for text in ["101%", "10", "1.25%", "-1%", "100.1%", "%", "+1%", "99999%"] {
            assert_eq!(Share::parse(text), None, "{text}");
        }
        assert_eq!(Share::percent(10).of(25), 2);
    }
}
