//! The canonical form of a `numeric`, which sorts as numeric does and holds what PostgreSQL hashes.
//!
//! A class byte comes first (-infinity, negative, zero, positive, infinity, NaN). A finite value other than zero goes on
//! with its weight (the power of 10000 of the first digit) and its base-10000 digits without leading and trailing
//! zeros, each two bytes big-endian; of a negative value the weight is inverted, a digit is what it lacks of 9999, and
//! 0xFFFF closes, so that larger magnitudes sort first.

use super::KeyError;
use crate::KeyBytes;

pub const NEGATIVE_INFINITY: u8 = 1;
const NEGATIVE: u8 = 2;
const ZERO: u8 = 3;
const POSITIVE: u8 = 4;
pub const INFINITY: u8 = 5;
pub const NAN: u8 = 6;

/// A numeric taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parts {
    /// NaN or an infinity.
    Special,
    /// Zero of any scale.
    Zero,
    /// The sum of `digits[i] * 10000 ^ (weight - i)`; the first and last digits are not zero.
    Finite {
        negative: bool,
        weight: i16,
        digits: Vec<u16>,
    },
}

/// Strips zeros on both sides of the digits.
pub fn normal(negative: bool, weight: i16, mut digits: Vec<u16>) -> Result<Parts, KeyError> {
    while digits.last() == Some(&0) {
        digits.pop();
    }
    let Some(lead) = digits.iter().position(|&digit| digit != 0) else {
        return Ok(Parts::Zero);
    };
    digits.drain(..lead);
    let weight = i16::try_from(i32::from(weight) - lead as i32).map_err(|_| KeyError::Unsure)?;
    Ok(Parts::Finite {
        negative,
        weight,
        digits,
    })
}

/// The canonical bytes; a special value has bytes of its own.
pub fn encode(parts: &Parts) -> Result<KeyBytes, KeyError> {
    let (negative, weight, digits) = match parts {
        Parts::Special => return Err(KeyError::Unsure),
        Parts::Zero => return Ok(KeyBytes::from_canonical(&[ZERO])),
        Parts::Finite {
            negative,
            weight,
            digits,
        } => (*negative, *weight, digits),
    };
    let mut bytes = vec![if negative { NEGATIVE } else { POSITIVE }];
    bytes.extend(turn_weight(weight as u16, negative).to_be_bytes());
    bytes.extend(
        digits
            .iter()
            .flat_map(|&digit| turn_digit(digit, negative).to_be_bytes()),
    );
    if negative {
        bytes.extend([0xff, 0xff]);
    }
    Ok(KeyBytes::from_canonical(&bytes))
}

/// Its own inverse: the sign bit is turned, and for a negative value all bits are.
fn turn_weight(weight: u16, negative: bool) -> u16 {
    weight ^ if negative { 0x7fff } else { 0x8000 }
}

/// Its own inverse: what is missing to 9999 stays below the closing 0xFFFF, also for the digit 0.
fn turn_digit(digit: u16, negative: bool) -> u16 {
    if negative {
        9999u16.wrapping_sub(digit)
    } else {
        digit
    }
}

/// Takes canonical bytes apart; None if they are not those of a numeric.
pub fn decode(key: &KeyBytes) -> Option<Parts> {
    let (&class, rest) = key.as_bytes().split_first()?;
    let (negative, body) = match class {
        NEGATIVE_INFINITY | INFINITY | NAN => return Some(Parts::Special),
        ZERO => return Some(Parts::Zero),
        POSITIVE => (false, rest),
        NEGATIVE => (true, rest.strip_suffix(&[0xff, 0xff])?),
        _ => return None,
    };
    let (words, []) = body.as_chunks::<2>() else {
        return None;
    };
    let (weight, digits) = words.split_first()?;
    let weight = turn_weight(u16::from_be_bytes(*weight), negative) as i16;
    let digits = digits
        .iter()
        .map(|word| turn_digit(u16::from_be_bytes(*word), negative))
        .collect();
    Some(Parts::Finite {
        negative,
        weight,
        digits,
    })
}

/// Every i128 fits.
pub fn from_integer(value: i128) -> Result<KeyBytes, KeyError> {
    let mut digits = Vec::new();
    let mut rest = value.unsigned_abs();
    while rest > 0 {
        digits.push((rest % 10_000) as u16);
        rest /= 10_000;
    }
    digits.reverse();
    encode(&normal(value < 0, digits.len() as i16 - 1, digits)?)
}

/// The value if it is an integer that i128 surely holds, which is more than int8 does.
pub fn to_integer(key: &KeyBytes) -> Option<i128> {
    let (negative, weight, digits) = match decode(key)? {
        Parts::Special => return None,
        Parts::Zero => return Some(0),
        Parts::Finite {
            negative,
            weight,
            digits,
        } => (negative, weight, digits),
    };
    // Digits up to the point, and at most eight of them: below 10^32.
    let places = usize::try_from(weight).ok().filter(|&weight| weight < 8)? + 1;
    if digits.len() > places {
        return None;
    }
    let digit = |place: usize| i128::from(digits.get(place).copied().unwrap_or(0));
    let magnitude = (0..places).fold(0i128, |value, place| value * 10_000 + digit(place));
    Some(if negative { -magnitude } else { magnitude })
}

/// Whether no digit stands beyond `scale` decimals (a negative scale: tens, hundreds), and the value is below
/// `10 ^ (precision - scale)`: whether `numeric(precision, scale)` stores it as it is. None if it is no finite value.
pub fn fits(key: &KeyBytes, precision: i32, scale: i32) -> Option<(bool, bool)> {
    let (weight, digits) = match decode(key)? {
        Parts::Special => return None,
        Parts::Zero => return Some((true, true)),
        Parts::Finite { weight, digits, .. } => (i32::from(weight), digits),
    };
    let (first, last) = (*digits.first()?, *digits.last()?);
    let last_weight = weight - (digits.len() as i32 - 1);
    let last_power = last_weight * 4
        + (1..4)
            .take_while(|&power| last % 10u16.pow(power) == 0)
            .count() as i32;
    let first_power = weight * 4 + first.ilog10() as i32;
    Some((last_power >= -scale, first_power < precision - scale))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::numeric::from_text;

    fn key(text: &str) -> KeyBytes {
        from_text(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn bytes_sort_as_numbers_do() {
        let ordered = [
            "-inf",
            "-1e2000",
            "-10001",
            "-10000.5",
            "-10000",
            "-9999",
            "-1.0001",
            "-1",
            "-0.5",
            "-0.00001",
            "0",
            "1e-2000",
            "0.00001",
            "0.0001",
            "0.5",
            "1",
            "1.0001",
            "1.00010001",
            "1.1",
            "9999",
            "10000",
            "10000.5",
            "10001",
            "1e2000",
            "inf",
            "nan",
        ];
        for pair in ordered.windows(2) {
            assert!(key(pair[0]) < key(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn integers_come_back_and_fractions_do_not() {
        for value in [
            0,
            5,
            -5,
            9999,
            10_000,
            -10_001,
            i128::from(i64::MAX),
            i128::from(i64::MIN),
            10i128.pow(30),
        ] {
            assert_eq!(to_integer(&from_integer(value).unwrap()), Some(value));
            assert_eq!(from_integer(value).unwrap(), key(&value.to_string()));
        }
        for text in [
            "5.5",
            "0.1",
            "1e-30",
            "1e40",
            "nan",
            "-inf",
            "100000000.00000001",
        ] {
            assert_eq!(to_integer(&key(text)), None, "{text}");
        }
    }

    #[test]
    fn precision_and_scale_are_checked_decimal_by_decimal() {
        for (text, precision, scale, expected) in [
            ("1.25", 3, 2, (true, true)),
            ("1.25", 3, 1, (false, true)),
            ("12.5", 3, 2, (true, false)),
            ("1200", 2, -2, (true, true)),
            ("1250", 2, -2, (false, true)),
            ("10000", 5, 0, (true, true)),
            ("10000", 4, 0, (true, false)),
            ("0.0001", 4, 4, (true, true)),
        ] {
            assert_eq!(
                fits(&key(text), precision, scale),
                Some(expected),
                "{text} in ({precision},{scale})"
            );
        }
    }
}
