//! Texts of times and days, in ISO forms.
//!
//! PostgreSQL's own reader knows many more forms, whose meaning depends on settings and on tables of words. They are
//! refused, not guessed: a text that is read here is read as PostgreSQL reads it.

use bson::DateTime;
use jiff::tz::TimeZone;

use super::time::{self, MICROS_PER_DAY, Micros, days_from_civil, infinite, offset_at_local};
use super::{Fault, Kind, is_space};

/// Words that are times to PostgreSQL.
const WORDS: [&str; 6] = ["epoch", "now", "today", "tomorrow", "yesterday", "allballs"];
/// Hours that a zone may be away from UTC; see `MAX_TZDISP_HOUR` of PostgreSQL's `datatype/timestamp.h`.
const MOST_ZONE_HOURS: i64 = 15;

/// A day of a text; a time that follows it is cut off.
pub(super) fn date(text: &str) -> Result<DateTime, Fault> {
    let said = read(&Kind::Date, text)?;
    time::date(said.day).ok_or_else(|| beyond("date", text))
}

/// A time of a text. A zone after a `timestamp` says nothing; a `timestamptz` without one is of the session's.
pub(super) fn timestamp(kind: &Kind, text: &str, session: &TimeZone) -> Result<Micros, Fault> {
    let said = read(kind, text)?;
    let beyond = || beyond("timestamp", text);
    let local = i128::from(said.day) * i128::from(MICROS_PER_DAY) + i128::from(said.time);
    // Zones reach a day beyond the times that there are.
    let local = i64::try_from(local).map_err(|_| beyond())?;
    let offset = match (kind, said.zone) {
        (Kind::Timestamp(_), _) => 0,
        (_, None) => offset_at_local(local, session)?,
        (_, Some(Zone::Named(zone))) => offset_at_local(local, &zone)?,
        (_, Some(Zone::Offset(offset))) => offset,
    };
    local
        .checked_sub(offset * 1_000_000)
        .filter(|micros| !matches!(*micros, i64::MIN | i64::MAX))
        .and_then(|micros| Micros::checked(micros).ok())
        .ok_or_else(beyond)
}

/// Whether it is known here what a text means, or that it means nothing.
pub(super) fn is_understood(kind: &Kind, text: &str) -> bool {
    !matches!(read(kind, text), Err(fault) if fault.sqlstate == "0A000")
}

fn beyond(what: &str, text: &str) -> Fault {
    Fault::new("22008", format!("{what} out of range: \"{text}\""))
}

/// What a text says.
struct Said {
    /// Since 2000-01-01.
    day: i64,
    /// Microseconds of the day, all of them included.
    time: i64,
    zone: Option<Zone>,
}

enum Zone {
    /// Seconds east of UTC.
    Offset(i64),
    Named(TimeZone),
}

/// Why a text is not read.
enum Unread {
    /// Not in a form that is known here.
    Unknown,
    /// A number that is none of a calendar or a clock.
    Field,
    /// A zone too far from UTC.
    Displacement,
    /// A name of no zone.
    Zone(String),
}

fn read(kind: &Kind, text: &str) -> Result<Said, Fault> {
    let word = text.trim_matches(is_space).to_ascii_lowercase();
    if matches!(word.as_str(), "infinity" | "-infinity") {
        return Err(infinite(&word));
    }
    Rest(&word).said().map_err(|unread| match unread {
        Unread::Unknown => not_read(kind, text, &word),
        Unread::Field => Fault::new(
            "22008",
            format!("date/time field value out of range: \"{text}\""),
        ),
        Unread::Displacement => Fault::new(
            "22009",
            format!("time zone displacement out of range: \"{text}\""),
        ),
        Unread::Zone(name) => Fault::new("22023", format!("time zone \"{name}\" not recognized")),
    })
}

/// Without a digit and a word that it knows, PostgreSQL does not read it either.
fn not_read(kind: &Kind, text: &str, word: &str) -> Fault {
    let name = kind.sql_name();
    let known = word.split(is_space).any(|word| WORDS.contains(&word));
    if known || word.bytes().any(|byte| byte.is_ascii_digit()) {
        return Fault::new(
            "0A000",
            format!("\"{text}\" as {name} is not understood for tables on MongoDB"),
        );
    }
    Fault::new(
        "22007",
        format!("invalid input syntax for type {name}: \"{text}\""),
    )
}

/// What of a text is still to be read, in lower case.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn said(mut self) -> Result<Said, Unread> {
        let year = self.number(4..=8)?;
        self.expect('-')?;
        let month = self.number(1..=2)?;
        self.expect('-')?;
        let day = self.number(1..=2)?;
        let time = self.time()?;
        self.skip_space();
        let before_christ = self.era();
        let zone = if before_christ.is_some() {
            None
        } else {
            self.zone()?
        };
        self.skip_space();
        let before_christ = before_christ.or_else(|| self.era()).unwrap_or(false);
        if !self.0.is_empty() {
            return Err(Unread::Unknown);
        }
        Ok(Said {
            day: checked_day(year, before_christ, month, day)?,
            time,
            zone,
        })
    }

    /// Without one it is midnight.
    fn time(&mut self) -> Result<i64, Unread> {
        let after = self.0.trim_start_matches(is_space);
        let after = after.strip_prefix('t').unwrap_or(after);
        let after = after.trim_start_matches(is_space);
        if after.len() == self.0.len() || !after.starts_with(|c: char| c.is_ascii_digit()) {
            // To PostgreSQL a hyphen that follows a day at once is a part of it.
            return if self.0.starts_with('-') {
                Err(Unread::Unknown)
            } else {
                Ok(0)
            };
        }
        self.0 = after;
        let hour = self.number(1..=2)?;
        self.expect(':')?;
        let minute = self.number(1..=2)?;
        let (second, micros) = match self.eat(':') {
            true => (self.number(1..=2)?, self.fraction()?),
            false => (0, 0),
        };
        let time = ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros;
        // 24:00 is midnight at the end of the day; the second 60 is that after 59.
        if minute > 59 || second > 60 || time > MICROS_PER_DAY {
            return Err(Unread::Field);
        }
        Ok(time)
    }

    /// Microseconds, rounded as `ParseFraction` of PostgreSQL's `datetime.c` does.
    fn fraction(&mut self) -> Result<i64, Unread> {
        if !self.0.starts_with('.') {
            return Ok(0);
        }
        let digits = self.0[1..].bytes().take_while(u8::is_ascii_digit).count();
        let (fraction, rest) = self.0.split_at(1 + digits);
        self.0 = rest;
        let fraction: f64 = format!("0{fraction}")
            .parse()
            .map_err(|_| Unread::Unknown)?;
        Ok((fraction * 1e6).round_ties_even() as i64)
    }

    fn zone(&mut self) -> Result<Option<Zone>, Unread> {
        match self.0.chars().next() {
            Some('+') => self.offset(1).map(Some),
            Some('-') => self.offset(-1).map(Some),
            Some('a'..='z') => self.named().map(Some),
            _ => Ok(None),
        }
    }

    /// See `DecodeTimezone` of PostgreSQL's `datetime.c`.
    fn offset(&mut self, sign: i64) -> Result<Zone, Unread> {
        self.0 = &self.0[1..];
        let digits = self.digits();
        let leading: i64 = self.number(1..=6)?;
        let (hours, minutes, seconds) = if self.eat(':') {
            let minutes = self.number(1..=2)?;
            let seconds = if self.eat(':') {
                self.number(1..=2)?
            } else {
                0
            };
            (leading, minutes, seconds)
        } else if digits > 2 {
            (leading / 100, leading % 100, 0)
        } else {
            (leading, 0, 0)
        };
        if hours > MOST_ZONE_HOURS || minutes > 59 || seconds > 59 {
            return Err(Unread::Displacement);
        }
        Ok(Zone::Offset(sign * (hours * 3600 + minutes * 60 + seconds)))
    }

    /// The names that mean UTC, and those of places, which no abbreviation looks like.
    fn named(&mut self) -> Result<Zone, Unread> {
        let length = self
            .0
            .bytes()
            .take_while(|byte| byte.is_ascii_alphanumeric() || b"/_-+".contains(byte))
            .count();
        let (name, rest) = self.0.split_at(length);
        self.0 = rest;
        match name {
            "utc" | "gmt" | "uct" | "z" | "zulu" => Ok(Zone::Offset(0)),
            _ if name.contains('/') => TimeZone::get(name)
                .map(Zone::Named)
                .map_err(|_| Unread::Zone(name.to_owned())),
            _ => Err(Unread::Unknown),
        }
    }

    fn era(&mut self) -> Option<bool> {
        let (era, rest) = self.0.split_at_checked(2)?;
        let before_christ = match era {
            "bc" => true,
            "ad" => false,
            _ => return None,
        };
        if rest.starts_with(|c: char| !is_space(c)) {
            return None;
        }
        self.0 = rest;
        Some(before_christ)
    }

    fn number(&mut self, lengths: std::ops::RangeInclusive<usize>) -> Result<i64, Unread> {
        let length = self.digits();
        if !lengths.contains(&length) {
            return Err(Unread::Unknown);
        }
        let (number, rest) = self.0.split_at(length);
        self.0 = rest;
        number.parse().map_err(|_| Unread::Unknown)
    }

    fn digits(&self) -> usize {
        self.0.bytes().take_while(u8::is_ascii_digit).count()
    }

    fn expect(&mut self, c: char) -> Result<(), Unread> {
        if self.eat(c) {
            Ok(())
        } else {
            Err(Unread::Unknown)
        }
    }

    fn eat(&mut self, c: char) -> bool {
        match self.0.strip_prefix(c) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn skip_space(&mut self) {
        self.0 = self.0.trim_start_matches(is_space);
    }
}

/// See `ValidateDate` of PostgreSQL's `datetime.c`: there is no year 0.
fn checked_day(year: i64, before_christ: bool, month: i64, day: i64) -> Result<i64, Unread> {
    let astronomical = if before_christ { 1 - year } else { year };
    if year == 0 || !(1..=12).contains(&month) || day == 0 || day > days_in(astronomical, month) {
        return Err(Unread::Field);
    }
    Ok(days_from_civil(astronomical, month, day))
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Precision;
    use super::*;

    fn shown(kind: &Kind, text: &str, zone: &str) -> String {
        let zone = TimeZone::get(zone).unwrap();
        let time = timestamp(kind, text, &zone).unwrap();
        let mut out = Vec::new();
        match kind {
            Kind::Timestamptz(_) => time::put_timestamptz(time, &zone, &mut out).unwrap(),
            _ => time::put_timestamp(time, &mut out),
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn timestamps_do_not_listen_to_zones() {
        for (text, time) in [
            ("2020-02-29 12:34:56.789+05", "2020-02-29 12:34:56.789"),
            (" 2020-1-2T3:4 ", "2020-01-02 03:04:00"),
            ("2020-01-01 24:00", "2020-01-02 00:00:00"),
            ("2020-01-01 12:59:60", "2020-01-01 13:00:00"),
            ("2020-01-01 00:00:00.9999999", "2020-01-01 00:00:01"),
            ("0044-03-15 bc 12:00", ""),
            ("0044-03-15 12:00 BC", "0044-03-15 12:00:00 BC"),
            ("10000-01-01", "10000-01-01 00:00:00"),
            (
                "294276-12-31 23:59:59.999999",
                "294276-12-31 23:59:59.999999",
            ),
            ("4714-11-24 bc", "4714-11-24 00:00:00 BC"),
        ] {
            match time {
                "" => assert_eq!(refused(text), "0A000"),
                time => assert_eq!(
                    shown(&Kind::Timestamp(Precision::Micros), text, "UTC"),
                    time
                ),
            }
        }
    }

    #[test]
    fn a_time_without_a_zone_is_of_the_sessions() {
        for (text, zone, time) in [
            (
                "2020-01-01 12:00",
                "Asia/Kolkata",
                "2020-01-01 12:00:00+05:30",
            ),
            (
                "2020-01-01 12:00Z",
                "Asia/Kolkata",
                "2020-01-01 17:30:00+05:30",
            ),
            ("2020-01-01+02", "UTC", "2019-12-31 22:00:00+00"),
            (
                "2020-07-01 12:00 Europe/Berlin",
                "UTC",
                "2020-07-01 10:00:00+00",
            ),
            ("2020-07-01 12:00:00 -1:30", "UTC", "2020-07-01 13:30:00+00"),
            ("2020-07-01 12:00:00+0130", "UTC", "2020-07-01 10:30:00+00"),
            (
                "1800-01-01",
                "Europe/London",
                "1800-01-01 00:00:00-00:01:15",
            ),
            ("12024-07-01", "Europe/London", "12024-07-01 00:00:00+01"),
            ("0044-03-15 12:00+00 BC", "UTC", "0044-03-15 12:00:00+00 BC"),
            // Skipped: the offset before. Shown twice: the offset after.
            (
                "2024-03-31 01:30",
                "Europe/London",
                "2024-03-31 02:30:00+01",
            ),
            (
                "2024-10-27 01:30",
                "Europe/London",
                "2024-10-27 01:30:00+00",
            ),
        ] {
            assert_eq!(
                shown(&Kind::Timestamptz(Precision::Micros), text, zone),
                time,
                "{text} {zone}"
            );
        }
    }

    fn refused(text: &str) -> &'static str {
        timestamp(&Kind::Timestamptz(Precision::Micros), text, &TimeZone::UTC)
            .unwrap_err()
            .sqlstate
    }

    #[test]
    fn what_is_not_understood_is_not_guessed() {
        for (sqlstate, texts) in [
            (
                "0A000",
                &[
                    "now",
                    "epoch",
                    "January 8, 1999",
                    "1/8/1999",
                    "2020-01-01 12:00 PST",
                    "2020-01-01 1 PM",
                    "20200101",
                ][..],
            ),
            ("22007", &["", "x", "garbage"]),
            (
                "22008",
                &[
                    "2020-13-01",
                    "2020-02-30",
                    "0000-01-01",
                    "2020-01-01 25:00",
                    "2020-01-01 24:00:01",
                    "2020-01-01 12:60",
                    "294277-01-01",
                    "4714-11-23 BC",
                    "infinity",
                    "-Infinity",
                ],
            ),
            ("22009", &["2020-01-01 12:00+16", "2020-01-01 12:00+01:60"]),
            ("22023", &["2020-01-01 12:00 No/Where"]),
        ] {
            for text in texts {
                assert_eq!(refused(text), sqlstate, "{text}");
            }
        }
    }

    #[test]
    fn dates_cut_times_off() {
        for text in ["2020-02-29", "2020-02-29 23:59:60+11", "2020-02-29 24:00"] {
            let day = date(text).unwrap();
            assert_eq!(day.try_to_rfc3339_string().unwrap(), "2020-02-29T00:00:00Z");
        }
        assert!(date("5874897-12-31").is_ok());
        assert_eq!(
            date("5874898-01-01").unwrap_err().message,
            "date out of range: \"5874898-01-01\""
        );
    }
}
