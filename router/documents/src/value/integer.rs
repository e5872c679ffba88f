//! Whole numbers and truth.

use bson::RawBsonRef;

use super::numeric::Number;
use super::{Fault, invalid, is_space, mismatch, wire};

/// A type of whole numbers.
pub(super) trait Integer: TryFrom<i128> {
    /// Its name in PostgreSQL's messages on texts.
    const NAME: &'static str;
}

impl Integer for i16 {
    const NAME: &'static str = "smallint";
}

impl Integer for i32 {
    const NAME: &'static str = "integer";
}

impl Integer for i64 {
    const NAME: &'static str = "bigint";
}

/// See `pg_strtoint32` of PostgreSQL's `numutils.c`.
pub(super) fn parse<I: Integer>(text: &str) -> Result<I, Fault> {
    let rest = text.trim_start_matches(is_space);
    let (sign, rest) = match rest.as_bytes().first() {
        Some(b'-') => (1, &rest[1..]),
        Some(b'+') => (-1, &rest[1..]),
        _ => (-1, rest),
    };
    let out_of_range = || {
        Fault::new(
            "22003",
            format!("value \"{text}\" is out of range for type {}", I::NAME),
        )
    };
    // As PostgreSQL does, below zero, where there is room for one more; and it sees an overflow before it sees what
    // follows the digits.
    let mut value = 0i128;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    for digit in rest.bytes().take(digits) {
        value = value * 10 - i128::from(digit - b'0');
        I::try_from(value).map_err(|_| out_of_range())?;
    }
    if digits == 0 || !rest[digits..].chars().all(is_space) {
        return Err(invalid(I::NAME, text));
    }
    I::try_from(value * sign).map_err(|_| out_of_range())
}

/// A whole number, whichever type of numbers has it.
pub(super) fn read<I: Integer>(value: RawBsonRef<'_>) -> Result<I, Fault> {
    let whole = match Number::of(value) {
        Some(Number::Integer(number)) => Some(i128::from(number)),
        Some(Number::Double(number)) => whole_double(number),
        Some(Number::Decimal(number)) => number.whole(),
        None => return Err(mismatch(value, "Int32, Int64 or a whole number")),
    };
    whole
        .and_then(|whole| I::try_from(whole).ok())
        .ok_or_else(|| out_of_range::<I>().detail(format!("The field's value is {value:?}.")))
}

/// As a cast to the type says it.
pub(super) fn out_of_range<I: Integer>() -> Fault {
    Fault::new("22003", format!("{} out of range", I::NAME))
}

fn whole_double(number: f64) -> Option<i128> {
    // The bound keeps the conversion exact; no integer type of SQL reaches it.
    (number.fract() == 0.0 && number.abs() < 1e30).then_some(number as i128)
}

/// See `parse_bool_with_len` of PostgreSQL's `bool.c`.
pub(super) fn parse_bool(text: &str) -> Result<bool, Fault> {
    let word = text.trim_matches(is_space).to_ascii_lowercase();
    let begins = |whole: &str, least: usize| word.len() >= least && whole.starts_with(&word);
    if begins("true", 1) || begins("yes", 1) || begins("on", 2) || word == "1" {
        return Ok(true);
    }
    if begins("false", 1) || begins("no", 1) || begins("off", 2) || word == "0" {
        return Ok(false);
    }
    Err(invalid("boolean", text))
}

/// Any byte but zero is true.
pub(super) fn bool_from_binary(bytes: &[u8]) -> Result<bool, Fault> {
    match bytes {
        [] => Err(Fault::new("08P01", "no data left in message")),
        bytes => Ok(wire::fixed(bytes)? != [0]),
    }
}

/// A stored boolean.
pub(super) fn read_bool(value: RawBsonRef<'_>) -> Result<bool, Fault> {
    value.as_bool().ok_or_else(|| mismatch(value, "Boolean"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_end_where_their_types_do() {
        assert_eq!(parse::<i16>(" -32768\n"), Ok(-32768));
        assert_eq!(parse::<i32>("+2147483647"), Ok(i32::MAX));
        assert_eq!(parse::<i64>("-9223372036854775808"), Ok(i64::MIN));
        let fault = parse::<i32>("99999999999").unwrap_err();
        assert_eq!(fault.sqlstate, "22003");
        assert_eq!(
            fault.message,
            "value \"99999999999\" is out of range for type integer"
        );
        assert_eq!(parse::<i16>("99999x").unwrap_err().sqlstate, "22003");
        for text in ["", " ", "-", "1.0", "1e3", "0x1", "1_0", "1 2", "--1"] {
            let fault = parse::<i64>(text).unwrap_err();
            assert_eq!(
                fault.message,
                format!("invalid input syntax for type bigint: \"{text}\"")
            );
        }
    }

    #[test]
    fn any_whole_number_is_an_integer() {
        let decimal = |text: &str| RawBsonRef::Decimal128(text.parse().unwrap());
        for value in [
            RawBsonRef::Int32(7),
            RawBsonRef::Int64(7),
            RawBsonRef::Double(7.0),
            decimal("7.00"),
        ] {
            assert_eq!(read::<i16>(value), Ok(7));
        }
        for value in [
            RawBsonRef::Int32(40_000),
            RawBsonRef::Double(1.5),
            RawBsonRef::Double(f64::NAN),
            decimal("1E+6000"),
            decimal("0.1"),
        ] {
            assert_eq!(
                read::<i16>(value).unwrap_err().sqlstate,
                "22003",
                "{value:?}"
            );
        }
        assert_eq!(
            read::<i16>(RawBsonRef::String("7")).unwrap_err().sqlstate,
            "42804"
        );
    }

    #[test]
    fn truth_has_many_names() {
        for text in ["t", "TRUE", " tru ", "y", "yes", "on", "1"] {
            assert_eq!(parse_bool(text), Ok(true), "{text}");
        }
        for text in ["f", "fal", "n", "no", "of", "off", "0"] {
            assert_eq!(parse_bool(text), Ok(false), "{text}");
        }
        for text in ["", "o", "10", "truee", "ja"] {
            assert_eq!(parse_bool(text).unwrap_err().sqlstate, "22P02", "{text}");
        }
    }
}
