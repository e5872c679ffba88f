//! `date`, `timestamp` and `timestamptz`.
//!
//! PostgreSQL reads dates in dozens of forms, which depend on DateStyle and TimeZone. Taken as keys are only ISO forms that
//! every setting reads alike: `YYYY-MM-DD`, a time `HH:MM:SS[.ffffff]` after a blank or `T`, an offset `Z` or
//! `+hh[:mm[:ss]]`, `BC`, and the infinities. All else, `now` and `today` included, is Unsure.
//! <https://www.postgresql.org/docs/15/datatype-datetime.html>

use super::{KeyError, TextContext, TimeZone, integer::trim};
use crate::KeyBytes;

const DAY: i64 = 86_400_000_000;
const SECOND: i64 = 1_000_000;

/// 4714-11-24 BC, where PostgreSQL's calendar begins, in days since 2000-01-01.
const FIRST_DAY: i64 = -2_451_545;
/// 5874898-01-01, the first day that is too late for a date.
const END_DAY: i64 = 2_145_031_949;
/// The bounds of a timestamp, from PostgreSQL's `datatype/timestamp.h`.
const FIRST_MICROSECOND: i64 = -211_813_488_000_000_000;
const END_MICROSECOND: i64 = 9_223_371_331_200_000_000;

/// The last and first values of the number's type stand for the infinities, as in PostgreSQL.
pub fn date_from_text(text: &[u8]) -> Result<KeyBytes, KeyError> {
    match ParsedInstant::parse(text)? {
        ParsedInstant::Infinity => Ok(KeyBytes::from_i32(i32::MAX)),
        ParsedInstant::NegativeInfinity => Ok(KeyBytes::from_i32(i32::MIN)),
        ParsedInstant::At { time: Some(_), .. } => Err(KeyError::Unsure),
        ParsedInstant::At { day, .. } => date_key(day),
    }
}

/// An offset in the text is read and ignored, as PostgreSQL does.
pub fn timestamp_from_text(text: &[u8]) -> Result<KeyBytes, KeyError> {
    match ParsedInstant::parse(text)? {
        ParsedInstant::Infinity => Ok(KeyBytes::from_i64(i64::MAX)),
        ParsedInstant::NegativeInfinity => Ok(KeyBytes::from_i64(i64::MIN)),
        ParsedInstant::At { day, time, .. } => timestamp_key(day, time.unwrap_or(0)),
    }
}

/// Without an offset in the text the session's zone decides.
pub fn timestamptz_from_text(text: &[u8], context: &TextContext) -> Result<KeyBytes, KeyError> {
    match ParsedInstant::parse(text)? {
        ParsedInstant::Infinity => Ok(KeyBytes::from_i64(i64::MAX)),
        ParsedInstant::NegativeInfinity => Ok(KeyBytes::from_i64(i64::MIN)),
        ParsedInstant::At {
            day,
            time: Some(time),
            offset: Some(offset),
        } => timestamp_key(day, time - offset * SECOND),
        ParsedInstant::At { day, time, .. } if context.time_zone == TimeZone::Utc => {
            timestamp_key(day, time.unwrap_or(0))
        }
        ParsedInstant::At { .. } => Err(KeyError::Unsure),
    }
}

/// Days since 2000-01-01.
pub fn date_from_binary(bytes: &[u8]) -> Result<KeyBytes, KeyError> {
    let days = i32::from_be_bytes(bytes.try_into().map_err(|_| KeyError::Invalid)?);
    match days {
        i32::MIN | i32::MAX => Ok(KeyBytes::from_i32(days)),
        _ => date_key(days.into()),
    }
}

/// Microseconds since 2000-01-01, of timestamptz in UTC.
pub fn timestamp_from_binary(bytes: &[u8]) -> Result<KeyBytes, KeyError> {
    let microseconds = i64::from_be_bytes(bytes.try_into().map_err(|_| KeyError::Invalid)?);
    match microseconds {
        i64::MIN | i64::MAX => Ok(KeyBytes::from_i64(microseconds)),
        _ => timestamp_key(0, microseconds),
    }
}

/// The timestamp at the start of a day.
pub fn date_to_timestamp(date: &KeyBytes) -> Result<KeyBytes, KeyError> {
    match date.as_i32().ok_or(KeyError::Unsure)? {
        i32::MIN => Ok(KeyBytes::from_i64(i64::MIN)),
        i32::MAX => Ok(KeyBytes::from_i64(i64::MAX)),
        // A date later than every timestamp still compares, so it is not invalid.
        days => timestamp_key(days.into(), 0).map_err(|_| KeyError::Unsure),
    }
}

/// The date whose start is this timestamp.
pub fn timestamp_to_date(timestamp: &KeyBytes) -> Result<KeyBytes, KeyError> {
    match timestamp.as_i64().ok_or(KeyError::Unsure)? {
        i64::MIN => Ok(KeyBytes::from_i32(i32::MIN)),
        i64::MAX => Ok(KeyBytes::from_i32(i32::MAX)),
        microseconds if microseconds % DAY == 0 => {
            date_key(microseconds / DAY).map_err(|_| KeyError::Unsure)
        }
        _ => Err(KeyError::NoMatch),
    }
}

/// How many units (microseconds) lie behind the last one that `timestamp(precision)` keeps; None for an infinity.
pub fn beyond_precision(timestamp: &KeyBytes, precision: u32) -> Option<i64> {
    let microseconds = timestamp
        .as_i64()
        .filter(|value| !matches!(*value, i64::MIN | i64::MAX))?;
    Some(microseconds % 10i64.pow(6u32.saturating_sub(precision)))
}

fn date_key(day: i64) -> Result<KeyBytes, KeyError> {
    match i32::try_from(day) {
        Ok(days) if (FIRST_DAY..END_DAY).contains(&day) => Ok(KeyBytes::from_i32(days)),
        _ => Err(KeyError::Invalid),
    }
}

fn timestamp_key(day: i64, microseconds: i64) -> Result<KeyBytes, KeyError> {
    let timestamp = day
        .checked_mul(DAY)
        .and_then(|start| start.checked_add(microseconds));
    match timestamp {
        Some(at) if (FIRST_MICROSECOND..END_MICROSECOND).contains(&at) => {
            Ok(KeyBytes::from_i64(at))
        }
        _ => Err(KeyError::Invalid),
    }
}

/// What a text says, before its type is applied.
enum ParsedInstant {
    Infinity,
    NegativeInfinity,
    /// Days since 2000-01-01, microseconds of the day, seconds east of UTC.
    At {
        day: i64,
        time: Option<i64>,
        offset: Option<i64>,
    },
}

impl ParsedInstant {
    fn parse(text: &[u8]) -> Result<ParsedInstant, KeyError> {
        let text = trim(text);
        if text.is_empty() {
            return Err(KeyError::Invalid);
        }
        if text.eq_ignore_ascii_case(b"infinity") {
            return Ok(ParsedInstant::Infinity);
        }
        if text.eq_ignore_ascii_case(b"-infinity") {
            return Ok(ParsedInstant::NegativeInfinity);
        }
        let (text, before_christ) = match text.strip_suffix(b" BC") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let mut cursor = Cursor(text);
        let day = match cursor.day(before_christ) {
            // BC may stand in the middle, too, and has other leap years.
            Err(KeyError::Invalid) if text.iter().any(u8::is_ascii_alphabetic) => {
                return Err(KeyError::Unsure);
            }
            day => day?,
        };
        let (time, offset) = match cursor.0 {
            [] => (None, None),
            [b' ', ..] => cursor.time()?,
            [b'T', ..] if !before_christ => cursor.time()?,
            _ => return Err(KeyError::Unsure),
        };
        Ok(ParsedInstant::At { day, time, offset })
    }
}

/// The rest of the text.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn day(&mut self, before_christ: bool) -> Result<i64, KeyError> {
        // Four digits or more: with fewer, DateStyle decides what is the year.
        let year = self.digits(4, 7)?;
        self.byte(b'-')?;
        let month = self.digits(2, 2)?;
        self.byte(b'-')?;
        let day = self.digits(2, 2)?;
        if year == 0 {
            return Err(KeyError::Unsure);
        }
        let year = if before_christ { 1 - year } else { year };
        if !(1..=12).contains(&month) || !(1..=month_length(year, month)).contains(&day) {
            return Err(KeyError::Invalid);
        }
        Ok(day_number(year, month, day))
    }

    /// Microseconds of the day, and the offset if there is one.
    fn time(&mut self) -> Result<(Option<i64>, Option<i64>), KeyError> {
        self.0 = &self.0[1..];
        let hour = self.below(24)?;
        self.byte(b':')?;
        let minute = self.below(60)?;
        self.byte(b':')?;
        let second = self.below(60)?;
        let microsecond = match self.0 {
            [b'.', rest @ ..] => {
                self.0 = rest;
                let before = self.0.len();
                let fraction = self.digits(1, 6)?;
                fraction * 10i64.pow(6 - (before - self.0.len()) as u32)
            }
            _ => 0,
        };
        let time = (hour * 3600 + minute * 60 + second) * SECOND + microsecond;
        Ok((Some(time), self.offset()?))
    }

    /// Up to the end of the text. PostgreSQL allows 15 hours; more is left to it.
    fn offset(&mut self) -> Result<Option<i64>, KeyError> {
        let sign = match self.0 {
            [] => return Ok(None),
            // An abbreviation by its nature, and UTC in every abbreviation set that comes with PostgreSQL.
            b"Z" => return Ok(Some(0)),
            [b'+', ..] => 1,
            [b'-', ..] => -1,
            _ => return Err(KeyError::Unsure),
        };
        self.0 = &self.0[1..];
        let mut seconds = self.below(16)? * 3600;
        for unit in [60, 1] {
            if self.0.is_empty() {
                break;
            }
            self.byte(b':')?;
            seconds += self.below(60)? * unit;
        }
        match self.0 {
            [] => Ok(Some(sign * seconds)),
            _ => Err(KeyError::Unsure),
        }
    }

    /// Two digits, a number below the limit.
    fn below(&mut self, limit: i64) -> Result<i64, KeyError> {
        self.digits(2, 2).and_then(|value| {
            if value < limit {
                Ok(value)
            } else {
                Err(KeyError::Unsure)
            }
        })
    }

    /// All the digits here, if there are so many.
    fn digits(&mut self, least: usize, most: usize) -> Result<i64, KeyError> {
        let count = self
            .0
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if !(least..=most).contains(&count) {
            return Err(KeyError::Unsure);
        }
        let (digits, rest) = self.0.split_at(count);
        self.0 = rest;
        Ok(digits
            .iter()
            .fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
    }

    fn byte(&mut self, expected: u8) -> Result<(), KeyError> {
        match self.0 {
            [first, rest @ ..] if *first == expected => {
                self.0 = rest;
                Ok(())
            }
            _ => Err(KeyError::Unsure),
        }
    }
}

/// Years are astronomical: 1 BC is 0.
fn month_length(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 2000-01-01 in the Gregorian calendar, extended backwards.
fn day_number(year: i64, month: i64, day: i64) -> i64 {
    // Years from March on, so that the leap day is the last one.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days_before_month = (153 * month + 2) / 5;
    let days_before_year =
        year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 2000-03-01 is day 60, and 730,485 days from 0000-03-01.
    days_before_year + days_before_month + day - 1 - 730_485 + 60
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: TextContext = TextContext {
        time_zone: TimeZone::Other,
        ..TextContext::UTC
    };

    #[test]
    fn days_are_counted_from_2000() {
        for (text, days) in [
            ("2000-01-01", 0),
            ("2000-03-01", 60),
            ("1999-12-31", -1),
            ("1970-01-01", -10_957),
            ("4714-11-24 BC", -2_451_545),
            ("5874897-12-31", 2_145_031_948),
        ] {
            assert_eq!(
                date_from_text(text.as_bytes()),
                Ok(KeyBytes::from_i32(days)),
                "{text}"
            );
        }
    }

    #[test]
    fn an_offset_makes_a_moment_certain_in_every_zone() {
        let noon = timestamp_from_text(b"2024-02-29 12:00:00");
        for text in [
            "2024-02-29 12:00:00+00",
            "2024-02-29T12:00:00.000Z",
            "2024-02-29 14:00:00+02",
            "2024-02-29 06:30:00-05:30",
            "2024-02-29 12:53:28+00:53:28",
        ] {
            assert_eq!(
                timestamptz_from_text(text.as_bytes(), &LOCAL),
                noon,
                "{text}"
            );
        }
        assert_eq!(
            timestamptz_from_text(b"2024-02-29 12:00:00", &TextContext::UTC),
            noon
        );
        assert_eq!(
            timestamptz_from_text(b"2024-02-29 12:00:00", &LOCAL),
            Err(KeyError::Unsure)
        );
        assert_eq!(
            timestamp_from_text(b"2024-02-29 12:00:00+07"),
            noon,
            "timestamp ignores an offset"
        );
    }

    #[test]
    fn what_depends_on_settings_or_the_clock_is_unsure() {
        for text in [
            "now",
            "today",
            "epoch",
            "01-02-03",
            "1/2/2024",
            "20240229",
            "Feb 29 2024",
            "2024-2-9",
            "2024-02-29 24:00:00",
            "2024-02-29 12:00:00 CET",
            "2024-02-29 12:00:00+16",
            "2024-02-29 12:00:00.1234567",
            "0000-01-01",
            "2024-02-29 BCE",
            "4713-02-29 BC 03:43:48",
        ] {
            assert_eq!(
                timestamp_from_text(text.as_bytes()),
                Err(KeyError::Unsure),
                "{text}"
            );
        }
        for text in ["2023-02-29", "2024-13-01", "2024-00-10", "2024-01-32", ""] {
            assert_eq!(
                date_from_text(text.as_bytes()),
                Err(KeyError::Invalid),
                "{text}"
            );
        }
    }

    #[test]
    fn bounds_are_those_of_postgres() {
        assert_eq!(
            timestamp_from_text(b"294276-12-31 23:59:59.999999"),
            Ok(KeyBytes::from_i64(END_MICROSECOND - 1))
        );
        assert_eq!(
            timestamp_from_text(b"294277-01-01 00:00:00"),
            Err(KeyError::Invalid)
        );
        assert_eq!(
            timestamp_from_binary(&(FIRST_MICROSECOND - 1).to_be_bytes()),
            Err(KeyError::Invalid)
        );
        assert_eq!(
            timestamp_from_binary(&i64::MAX.to_be_bytes()),
            timestamp_from_text(b"infinity")
        );
        assert_eq!(
            date_from_binary(&i32::MIN.to_be_bytes()),
            date_from_text(b" -Infinity")
        );
        assert_eq!(
            date_from_binary(&(END_DAY as i32).to_be_bytes()),
            Err(KeyError::Invalid)
        );
    }
}
