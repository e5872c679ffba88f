//! Times of the week, in a time zone, and rates.
//!
//! Whether a moment lies in one is computed here from the moment that is given; nothing asks for the time. What a
//! zone is ahead of UTC, `jiff` knows from the system's zones, or its own where the system has none.

use super::value::text_values;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

const MINUTE: i64 = 60;
const DAY: i64 = 24 * 60 * MINUTE;

/// A part of each of some days of the week: "mon-fri 08:00-18:00". One that ends before it begins ends the next day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeOfWeek {
    /// Whether it begins on each day, from Monday.
    days: [bool; 7],
    /// Seconds of the day.
    from: i64,
    /// The first that is no part of it.
    to: i64,
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl TimeOfWeek {
    /// Reads "mon-fri 08:00-18:00", "sat,sun" or "22:00-06:00".
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split_ascii_whitespace();
        let (mut days, mut hours) = (None, None);
        for part in parts.by_ref().take(2) {
            match part.contains(':') {
                true if hours.is_none() => hours = Some(self::hours(part)?),
                false if days.is_none() && hours.is_none() => days = Some(self::days(part)?),
                _ => return None,
            }
        }
        if parts.next().is_some() || (days.is_none() && hours.is_none()) {
            return None;
        }
        let (from, to) = hours.unwrap_or((0, DAY));
        Some(TimeOfWeek {
            days: days.unwrap_or([true; 7]),
            from,
            to,
        })
    }

    /// Whether `local` lies in it: seconds since 1970 by the clock on the wall.
    fn contains(&self, local: i64) -> bool {
        let (day, second) = (local.div_euclid(DAY), local.rem_euclid(DAY));
        // 1970 began on a Thursday.
        let begins = |day: i64| self.days[(day + 3).rem_euclid(7) as usize];
        match self.from < self.to {
            true => begins(day) && (self.from..self.to).contains(&second),
            false => (begins(day) && second >= self.from) || (begins(day - 1) && second < self.to),
        }
    }
}

fn days(text: &str) -> Option<[bool; 7]> {
    let number = |name: &str| {
        let name = name.to_ascii_lowercase();
        DAYS.iter().position(|day| *day == name)
    };
    let mut found = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut at, last) = (number(first)?, number(last)?);
        found[at] = true;
        while at != last {
            at = (at + 1) % 7;
            found[at] = true;
        }
    }
    Some(found)
}

fn hours(text: &str) -> Option<(i64, i64)> {
    let (from, to) = text.split_once('-')?;
    let second = |text: &str| -> Option<i64> {
        let (hours, minutes) = text.split_once(':')?;
        let digits = |text: &str| (text.len() == 2).then(|| text.parse::<u8>().ok()).flatten();
        let (hours, minutes) = (i64::from(digits(hours)?), i64::from(digits(minutes)?));
        let second = (hours * 60 + minutes) * MINUTE;
        (minutes < 60 && second <= DAY).then_some(second)
    };
    let (from, to) = (second(from)?, second(to)?);
    (from != to && from < DAY).then_some((from, to))
}

impl fmt::Display for TimeOfWeek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != [true; 7] {
            let named = DAYS.iter().zip(self.days).filter(|(_, is)| *is);
            let names: Vec<&str> = named.map(|(name, _)| *name).collect();
            f.write_str(&names.join(","))?;
            f.write_str(" ")?;
        }
        let clock = |second: i64| (second / MINUTE / 60, second / MINUTE % 60);
        let ((h, m), (i, n)) = (clock(self.from), clock(self.to));
        write!(f, "{h:02}:{m:02}-{i:02}:{n:02}")
    }
}

/// A time zone by its name.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

impl Default for Zone {
    fn default() -> Self {
        Zone {
            name: "UTC".to_owned(),
            zone: TimeZone::UTC,
        }
    }
}

impl Zone {
    /// The zone of this name, if it is known.
    pub fn parse(name: &str) -> Option<Self> {
        let zone = TimeZone::get(name).ok()?;
        Some(Zone {
            name: name.to_owned(),
            zone,
        })
    }

    /// Whether a moment lies in one of these times; `moment` is in seconds since 1970.
    pub fn is_in(&self, times: &[TimeOfWeek], moment: i64) -> bool {
        let Ok(at) = Timestamp::from_second(moment) else {
            return false;
        };
        let local = moment + i64::from(self.zone.to_offset(at).seconds());
        times.iter().any(|time| time.contains(local))
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Seconds since 1970 of a moment such as "2026-01-05T08:30:00Z".
pub fn moment(text: &str) -> Option<i64> {
    Some(text.parse::<Timestamp>().ok()?.as_second())
}

/// So many in a time: "100/s".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: NonZeroU32,
    /// In what time.
    pub per: Duration,
}

const PERIODS: [(&str, u64); 3] = [("s", 1), ("min", 60), ("h", 3600)];

impl Rate {
    /// Reads "100/s", "600/min" or "5000/h".
    pub fn parse(text: &str) -> Option<Self> {
        let (count, period) = text.split_once('/')?;
        let count = count.trim().parse().ok()?;
        let (_, seconds) = PERIODS.iter().find(|(name, _)| *name == period.trim())?;
        Some(Rate {
            count,
            per: Duration::from_secs(*seconds),
        })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = PERIODS.iter().find(|(_, s)| *s == self.per.as_secs());
        write!(f, "{}/{}", self.count, named.map_or("", |(name, _)| name))
    }
}

text_values! {
    TimeOfWeek: "days, hours or both, such as \"mon-fri 08:00-18:00\", \"sat,sun\" or \"22:00-06:00\"", TimeOfWeek::parse, TimeOfWeek::to_string;
    Zone: "the name of a time zone, such as \"Europe/Berlin\"", Zone::parse, Zone::to_string;
    Rate: "a rate such as \"100/s\" (s, min, h)", Rate::parse, Rate::to_string;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_lies_in_a_time_by_the_clock_of_the_zone() {
        // 2026-01-05 is a Monday.
        for (times, zone, moment, expected) in [
            ("mon-fri 08:00-18:00", "UTC", "2026-01-05T08:00:00Z", true),
            ("mon-fri 08:00-18:00", "UTC", "2026-01-05T07:59:59Z", false),
            ("mon-fri 08:00-18:00", "UTC", "2026-01-05T18:00:00Z", false),
            ("mon-fri 08:00-18:00", "UTC", "2026-01-04T12:00:00Z", false),
            ("sat,sun", "UTC", "2026-01-04T23:59:59Z", true),
            ("sat,sun", "UTC", "2026-01-05T00:00:00Z", false),
            ("fri-mon", "UTC", "2026-01-05T12:00:00Z", true),
            ("fri-mon", "UTC", "2026-01-06T12:00:00Z", false),
            // The night of Friday ends on Saturday.
            ("fri 22:00-06:00", "UTC", "2026-01-09T23:00:00Z", true),
            ("fri 22:00-06:00", "UTC", "2026-01-10T05:59:59Z", true),
            ("fri 22:00-06:00", "UTC", "2026-01-10T06:00:00Z", false),
            ("fri 22:00-06:00", "UTC", "2026-01-09T05:00:00Z", false),
            ("00:00-24:00", "UTC", "2026-01-09T05:00:00Z", true),
            // In winter an hour ahead, in summer two.
            ("08:00-09:00", "Europe/Berlin", "2026-01-05T07:30:00Z", true),
            (
                "08:00-09:00",
                "Europe/Berlin",
                "2026-07-06T07:30:00Z",
                false,
            ),
            ("08:00-09:00", "Europe/Berlin", "2026-07-06T06:30:00Z", true),
            (
                "mon 00:00-01:00",
                "Asia/Kolkata",
                "2026-01-04T18:45:00Z",
                true,
            ),
            ("mon", "America/New_York", "2026-01-05T03:00:00Z", false),
            ("sun", "America/New_York", "2026-01-05T03:00:00Z", true),
        ] {
            let time = TimeOfWeek::parse(times).unwrap_or_else(|| panic!("{times}"));
            let found = Zone::parse(zone)
                .unwrap()
                .is_in(&[time], super::moment(moment).unwrap());
            assert_eq!(found, expected, "{times} {zone} {moment}");
        }
    }

    #[test]
    fn what_is_no_time_no_zone_and_no_rate_is_refused() {
        for text in [
            "",
            "mon-",
            "mo",
            "8:00-18:00",
            "08:00",
            "08:00-08:00",
            "24:00-08:00",
            "08:60-09:00",
            "08:00-25:00",
            "08:00-09:00 mon",
            "mon tue",
            "mon 08:00-09:00 x",
        ] {
            assert_eq!(TimeOfWeek::parse(text), None, "{text}");
        }
        assert_eq!(Zone::parse("Europe/Nowhere"), None);
        for text in ["", "5", "0/s", "5/d", "-1/s", "/s"] {
            assert_eq!(Rate::parse(text), None, "{text}");
        }
        for text in ["mon,wed 08:00-18:00", "22:00-06:00"] {
            let time = TimeOfWeek::parse(text).unwrap();
            assert_eq!(time.to_string(), text);
        }
        assert_eq!(Rate::parse("600/min").unwrap().to_string(), "600/min");
    }
}
