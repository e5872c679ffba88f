//! Turns PostgreSQL's times and dates into MongoDB's and back. PostgreSQL counts microseconds, MongoDB milliseconds.
//!
//! Dates are computed here for all years that PostgreSQL has, -4713 to 5874897. Only the offset of a time zone comes
//! from `jiff`, whose years end with 9999. The rules of time zones repeat every 400 years, which PostgreSQL assumes,
//! too.

use bson::{Bson, DateTime, RawBsonRef};
use jiff::Timestamp;
use jiff::civil;
use jiff::tz::{AmbiguousOffset, TimeZone};

use super::wire::{fixed, put_padded, put_two, two};
use super::{Fault, Precision, mismatch};

pub(super) const MICROS_PER_DAY: i64 = 86_400_000_000;
const MICROS_PER_SECOND: i64 = 1_000_000;
const MILLIS_PER_DAY: i64 = 86_400_000;
/// 2000-01-01 in milliseconds and days since 1970-01-01.
const EPOCH_MILLIS: i64 = 946_684_800_000;
const EPOCH_DAYS: i64 = 10_957;
/// See `MIN_TIMESTAMP` and `END_TIMESTAMP` of PostgreSQL's `datatype/timestamp.h`.
const LEAST_MICROS: i64 = -211_813_488_000_000_000;
const END_MICROS: i64 = 9_223_371_331_200_000_000;
/// 4714-11-24 BC and the day after 5874897-12-31, since 2000-01-01; see `IS_VALID_DATE` there.
const LEAST_DAY: i64 = -2_451_545;
const END_DAY: i64 = 2_147_483_494 - 2_451_545;
/// The days from 0000-03-01 to 2000-01-01.
const MARCH_OF_YEAR_0: i64 = 730_425;
/// The Gregorian calendar repeats itself after this many years, including the weekdays.
const CYCLE_YEARS: i64 = 400;
const CYCLE_SECONDS: i64 = 146_097 * 86_400;
/// A year for which `jiff` knows all time zones.
const LAST_YEAR: i64 = 9_000;

/// A time as PostgreSQL has it: microseconds since 2000-01-01 00:00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub i64);

impl Micros {
    /// A time within PostgreSQL's range. Infinities are refused.
    pub(super) fn checked(micros: i64) -> Result<Micros, Fault> {
        match micros {
            i64::MAX => Err(infinite("infinity")),
            i64::MIN => Err(infinite("-infinity")),
            LEAST_MICROS..END_MICROS => Ok(Micros(micros)),
            _ => Err(Fault::new("22008", "timestamp out of range")),
        }
    }

    /// The last time of MongoDB's that is not later. `t <= x` and `t > x` give the same result with either.
    pub fn floor(self) -> DateTime {
        DateTime::from_millis(self.0.div_euclid(1000) + EPOCH_MILLIS)
    }

    /// The first time of MongoDB's that is not earlier. `t >= x` and `t < x` give the same result with either.
    pub fn ceil(self) -> DateTime {
        let up = i64::from(!self.is_exact());
        DateTime::from_millis(self.0.div_euclid(1000) + up + EPOCH_MILLIS)
    }

    /// Whether MongoDB can store it exactly.
    pub fn is_exact(self) -> bool {
        self.0.rem_euclid(1000) == 0
    }

    /// The time as it is stored, or an error.
    pub(super) fn stored(self, precision: Precision) -> Result<DateTime, Fault> {
        match precision {
            Precision::Millis => self.rounded(),
            Precision::Micros if self.is_exact() => Ok(self.floor()),
            Precision::Micros => {
                let mut text = Vec::new();
                put_timestamp(self, &mut text);
                let text = String::from_utf8_lossy(&text);
                let fault = Fault::new("22008", format!("MongoDB keeps milliseconds: {text}"));
                Err(fault.hint(
                    "A column that is declared with a precision, as timestamptz(3) or timestamp(3), rounds to them.",
                ))
            }
        }
    }

    /// Rounds to milliseconds. A half is rounded away from the year 2000; see `AdjustTimestampForTypmod` in
    /// PostgreSQL's `timestamp.c`.
    fn rounded(self) -> Result<DateTime, Fault> {
        let away = self.0.signum() * ((self.0.abs() + 500) / 1000);
        // The last of all times would be rounded to one that is out of range.
        Micros::checked(away * 1000)?;
        Ok(DateTime::from_millis(away + EPOCH_MILLIS))
    }
}

/// The error for an infinite time, which BSON does not have.
pub(super) fn infinite(word: &str) -> Fault {
    Fault::new(
        "22008",
        format!("MongoDB has no \"{word}\" among its times"),
    )
}

/// Reads a stored time. An error if it is outside of PostgreSQL's range.
pub(super) fn read(value: RawBsonRef<'_>) -> Result<Micros, Fault> {
    let time = value
        .as_datetime()
        .ok_or_else(|| mismatch(value, "DateTime"))?;
    time.timestamp_millis()
        .checked_sub(EPOCH_MILLIS)
        .and_then(|millis| millis.checked_mul(1000))
        .filter(|micros| (LEAST_MICROS..END_MICROS).contains(micros))
        .map(Micros)
        .ok_or_else(|| Fault::new("22008", "timestamp out of range"))
}

/// Reads a stored date, in days since 2000-01-01. An error if it is outside of PostgreSQL's range.
pub(super) fn read_date(value: RawBsonRef<'_>) -> Result<i32, Fault> {
    let time = value
        .as_datetime()
        .ok_or_else(|| mismatch(value, "DateTime"))?;
    if !is_midnight(time) {
        return Err(mismatch(value, "a DateTime at midnight in UTC"));
    }
    let day = time.timestamp_millis().div_euclid(MILLIS_PER_DAY) - EPOCH_DAYS;
    i32::try_from(day)
        .ok()
        .filter(|_| (LEAST_DAY..END_DAY).contains(&day))
        .ok_or_else(|| Fault::new("22008", "date out of range"))
}

/// Whether a time is a date as we store dates.
pub(super) fn is_midnight(time: DateTime) -> bool {
    time.timestamp_millis().rem_euclid(MILLIS_PER_DAY) == 0
}

/// The stored form of a date, given in days since 2000-01-01. `None` if it is outside of PostgreSQL's range.
pub(super) fn date(day: i64) -> Option<DateTime> {
    (LEAST_DAY..END_DAY)
        .contains(&day)
        .then(|| DateTime::from_millis((day + EPOCH_DAYS) * MILLIS_PER_DAY))
}

/// Reads a date in binary format.
pub(super) fn date_from_binary(bytes: &[u8]) -> Result<Bson, Fault> {
    match i32::from_be_bytes(fixed(bytes)?) {
        i32::MAX => Err(infinite("infinity")),
        i32::MIN => Err(infinite("-infinity")),
        day => date(day.into())
            .map(Bson::DateTime)
            .ok_or_else(|| Fault::new("22008", "date out of range")),
    }
}

/// Adds a `timestamptz`; see `EncodeDateTime` and `EncodeTimezone` of PostgreSQL's `datetime.c`.
pub(super) fn put_timestamptz(
    time: Micros,
    zone: &TimeZone,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let offset = offset_at(time, zone)?;
    let local = time.0 + offset * MICROS_PER_SECOND;
    let year = put_day_and_time(local, out);
    let seconds = offset.unsigned_abs();
    out.push(if offset < 0 { b'-' } else { b'+' });
    put_padded(seconds / 3600, 2, out);
    if seconds % 3600 != 0 {
        out.push(b':');
        put_two(seconds / 60 % 60, out);
    }
    if seconds % 60 != 0 {
        out.push(b':');
        put_two(seconds % 60, out);
    }
    put_era(year, out);
    Ok(())
}

/// Adds a `timestamp`.
pub(super) fn put_timestamp(time: Micros, out: &mut Vec<u8>) {
    let year = put_day_and_time(time.0, out);
    put_era(year, out);
}

/// Adds a `date`.
pub(super) fn put_date(day: i32, out: &mut Vec<u8>) {
    let year = put_day(day.into(), out);
    put_era(year, out);
}

fn put_day_and_time(micros: i64, out: &mut Vec<u8>) -> i64 {
    let year = put_day(micros.div_euclid(MICROS_PER_DAY), out);
    let time = micros.rem_euclid(MICROS_PER_DAY).unsigned_abs();
    let (seconds, fraction) = (time / 1_000_000, time % 1_000_000);
    let ([a, b], [c, d], [e, f]) = (
        two(seconds / 3600),
        two(seconds / 60 % 60),
        two(seconds % 60),
    );
    out.extend_from_slice(&[b' ', a, b, b':', c, d, b':', e, f]);
    if fraction != 0 {
        out.push(b'.');
        put_padded(fraction, 6, out);
        let zeros = out.iter().rev().take_while(|byte| **byte == b'0').count();
        out.truncate(out.len() - zeros);
    }
    year
}

fn put_day(day: i64, out: &mut Vec<u8>) -> i64 {
    let (year, month, day) = civil_from_days(day);
    // The year before 1 is 1 BC.
    let shown = if year > 0 { year } else { 1 - year };
    put_padded(shown.unsigned_abs(), 4, out);
    let ([a, b], [c, d]) = (two(month.unsigned_abs()), two(day.unsigned_abs()));
    out.extend_from_slice(&[b'-', a, b, b'-', c, d]);
    year
}

fn put_era(year: i64, out: &mut Vec<u8>) {
    if year <= 0 {
        out.extend_from_slice(b" BC");
    }
}

/// The offset of the time zone at a time, in seconds east of UTC.
fn offset_at(time: Micros, zone: &TimeZone) -> Result<i64, Fault> {
    if let Ok(offset) = zone.to_fixed_offset() {
        return Ok(offset.seconds().into());
    }
    let seconds = time.0.div_euclid(MICROS_PER_SECOND);
    let (year, ..) = civil_from_days(seconds.div_euclid(86_400));
    let seconds = seconds - cycles_beyond(year) * CYCLE_SECONDS + EPOCH_MILLIS / 1000;
    let time = Timestamp::from_second(seconds).map_err(|_| out_of_zone())?;
    Ok(zone.to_offset(time).seconds().into())
}

/// The offset of the time zone at a local time (in microseconds since 2000-01-01 00:00), in seconds east of UTC. A time
/// that the clocks skip is read with the offset before, a time that they show twice with the offset after; see
/// `DetermineTimeZoneOffsetInternal` in PostgreSQL's `datetime.c`.
pub(super) fn offset_at_local(local: i64, zone: &TimeZone) -> Result<i64, Fault> {
    let seconds = local.div_euclid(MICROS_PER_SECOND);
    let (day, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil_from_days(day);
    let year = year - cycles_beyond(year) * CYCLE_YEARS;
    let narrow = |number: i64| i8::try_from(number).unwrap_or(i8::MAX);
    let local = civil::DateTime::new(
        i16::try_from(year).unwrap_or(i16::MAX),
        narrow(month),
        narrow(day),
        narrow(time / 3600),
        narrow(time / 60 % 60),
        narrow(time % 60),
        0,
    )
    .map_err(|_| out_of_zone())?;
    let offset = match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset,
        AmbiguousOffset::Gap { before, .. } => before,
        AmbiguousOffset::Fold { after, .. } => after,
    };
    Ok(offset.seconds().into())
}

fn cycles_beyond(year: i64) -> i64 {
    ((year - LAST_YEAR).max(0) + CYCLE_YEARS - 1) / CYCLE_YEARS
}

/// This cannot happen for times within PostgreSQL's range.
fn out_of_zone() -> Fault {
    Fault::new("22008", "timestamp out of range")
}

/// The days since 2000-01-01 of a date in the proleptic Gregorian calendar; the year before 1 is 0. The arithmetic is
/// that of Howard Hinnant's `days_from_civil`: years begin with March, so that the leap day is their last.
pub(super) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (cycle, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_cycle = year * 365 + year / 4 - year / 100 + day_of_year;
    cycle * 146_097 + day_of_cycle - MARCH_OF_YEAR_0
}

/// The year, month and day of a number of days since 2000-01-01.
fn civil_from_days(day: i64) -> (i64, i64, i64) {
    let days = day + MARCH_OF_YEAR_0;
    let (cycle, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + cycle * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The same for days since 1970-01-01.
pub(super) fn civil_from_unix_days(day: i64) -> (i64, i64, i64) {
    civil_from_days(day - EPOCH_DAYS)
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn days_and_their_numbers_agree_over_all_years() {
        assert_eq!(days_from_civil(2000, 1, 1), 0);
        assert_eq!(days_from_civil(-4713, 11, 24), LEAST_DAY);
        assert_eq!(days_from_civil(5_874_898, 1, 1), END_DAY);
        for day in (LEAST_DAY..END_DAY).step_by(99_991) {
            let (year, month, of_month) = civil_from_days(day);
            assert_eq!(days_from_civil(year, month, of_month), day);
        }
    }

    #[test]
    fn times_are_written_like_their_parts() {
        let seed = rand::random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let zones = ["UTC", "Asia/Kolkata", "America/New_York", "Europe/Oslo"];
        let zones = zones.map(|name| TimeZone::get(name).unwrap());
        for _ in 0..20_000 {
            // Half of them in our days.
            let time = match random.random() {
                true => random.random_range(LEAST_MICROS..END_MICROS),
                false => random.random_range(-3_000_000_000..3_000_000_000) * 1_000_000 / 7,
            };
            // Some have no fraction, or a short one.
            let time = time - time % [1, 1000, 10_000, 1_000_000][random.random_range(0..4)];
            let zone = &zones[random.random_range(0..4)];
            let seconds = time.div_euclid(MICROS_PER_SECOND);
            let (year, ..) = civil_from_days(seconds.div_euclid(86_400));
            let offset = match Timestamp::from_second(seconds + EPOCH_MILLIS / 1000) {
                Ok(time) => zone.to_offset(time).seconds().into(),
                // Years that `jiff` has not.
                Err(_) => offset_at(Micros(time), zone).unwrap(),
            };
            let mut shown = Vec::new();
            put_timestamptz(Micros(time), zone, &mut shown).unwrap();
            let shown = String::from_utf8(shown).unwrap();
            assert_eq!(shown, parts(time, offset), "{time} of year {year}");
        }
    }

    /// By the standard library.
    fn parts(time: i64, offset: i64) -> String {
        let local = time + offset * MICROS_PER_SECOND;
        let (year, month, day) = civil_from_days(local.div_euclid(MICROS_PER_DAY));
        let shown = if year > 0 { year } else { 1 - year };
        let rest = local.rem_euclid(MICROS_PER_DAY);
        let (seconds, fraction) = (rest / MICROS_PER_SECOND, rest % MICROS_PER_SECOND);
        let clock = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let mut text = format!("{shown:04}-{month:02}-{day:02}");
        text += &format!(" {:02}:{:02}:{:02}", clock.0, clock.1, clock.2);
        if fraction != 0 {
            text += format!(".{fraction:06}").trim_end_matches('0');
        }
        let (sign, off) = (if offset < 0 { '-' } else { '+' }, offset.abs());
        text += &format!("{sign}{:02}", off / 3600);
        if off % 3600 != 0 {
            text += &format!(":{:02}", off / 60 % 60);
        }
        if off % 60 != 0 {
            text += &format!(":{:02}", off % 60);
        }
        text + if year > 0 { "" } else { " BC" }
    }

    #[test]
    fn comparisons_fold_to_milliseconds() {
        for (micros, floor, ceil) in [(1000, 1, 1), (1001, 1, 2), (-1, -1, 0), (0, 0, 0)] {
            let time = Micros(micros);
            assert_eq!(time.floor().timestamp_millis() - EPOCH_MILLIS, floor);
            assert_eq!(time.ceil().timestamp_millis() - EPOCH_MILLIS, ceil);
        }
        let fault = Micros(1_234_567).stored(Precision::Micros).unwrap_err();
        assert_eq!(fault.sqlstate, "22008");
        assert_eq!(
            fault.message,
            "MongoDB keeps milliseconds: 2000-01-01 00:00:01.234567"
        );
    }

    #[test]
    fn halves_are_rounded_away_from_the_year_2000() {
        for (micros, millis) in [
            (499, 0),
            (500, 1),
            (1_499, 1),
            (1_500, 2),
            (-499, 0),
            (-500, -1),
            (-1_501, -2),
            (-2_000, -2),
        ] {
            let stored = Micros(micros).stored(Precision::Millis).unwrap();
            assert_eq!(stored.timestamp_millis() - EPOCH_MILLIS, millis, "{micros}");
        }
    }

    #[test]
    fn times_that_postgresql_does_not_have_are_refused() {
        for millis in [i64::MIN, i64::MAX, 9_224_318_016_000_000] {
            let value = RawBsonRef::DateTime(DateTime::from_millis(millis));
            assert_eq!(read(value).unwrap_err().sqlstate, "22008");
        }
        let noon = RawBsonRef::DateTime(DateTime::from_millis(MILLIS_PER_DAY / 2));
        assert_eq!(read_date(noon).unwrap_err().sqlstate, "42804");
        for day in [i32::MIN, i32::MAX, -2_451_546] {
            assert_eq!(
                date_from_binary(&day.to_be_bytes()).unwrap_err().sqlstate,
                "22008"
            );
        }
    }
}
