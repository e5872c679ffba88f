//! `numeric` from text and binary: one key for 5, 5.0 and 05.00e0.
//!
//! <https://www.postgresql.org/docs/15/datatype-numeric.html>

use super::KeyError;
use super::integer::{is_space, trim};
use super::numeric_form::{INFINITY, NAN, NEGATIVE_INFINITY, Parts, encode, normal};
use crate::KeyBytes;

/// Digits and exponents up to here lie well within PostgreSQL's limits (131,072 digits before the point and 16,383
/// after it), so that no edge of those needs to be known. What is longer is no plausible key: Unsure.
const MAX_DECIMALS: usize = 2000;

/// As `numeric_in`: white space around NaN, an infinity or a decimal number with an optional exponent.
pub fn from_text(text: &[u8]) -> Result<KeyBytes, KeyError> {
    let text = trim(text);
    if let Some(class) = special(text) {
        return Ok(KeyBytes::from_canonical(&[class]));
    }
    let decimal = Decimal::parse(text)?;
    finite(decimal.negative, &decimal)
}

fn special(text: &[u8]) -> Option<u8> {
    let is = |word: &str| text.eq_ignore_ascii_case(word.as_bytes());
    match text {
        _ if is("nan") => Some(NAN),
        _ if ["inf", "+inf", "infinity", "+infinity"].into_iter().any(is) => Some(INFINITY),
        _ if ["-inf", "-infinity"].into_iter().any(is) => Some(NEGATIVE_INFINITY),
        _ => None,
    }
}

/// Decimal digits with the power of ten of the last one.
struct Decimal {
    negative: bool,
    digits: Vec<u8>,
    last_power: i32,
}

impl Decimal {
    fn parse(text: &[u8]) -> Result<Decimal, KeyError> {
        let (negative, unsigned) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        let (whole, rest) = split_digits(unsigned);
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => split_digits(rest),
            rest => (&rest[..0], rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(KeyError::Invalid);
        }
        if whole.len() + fraction.len() > MAX_DECIMALS {
            return Err(KeyError::Unsure);
        }
        let digits = whole
            .iter()
            .chain(fraction)
            .map(|digit| digit - b'0')
            .collect();
        let exponent = exponent(rest)?;
        Ok(Decimal {
            negative,
            digits,
            last_power: exponent - fraction.len() as i32,
        })
    }
}

fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(
        text.iter()
            .position(|byte| !byte.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

/// Nothing, or `e` with an integer.
fn exponent(text: &[u8]) -> Result<i32, KeyError> {
    let [first, rest @ ..] = text else {
        return Ok(0);
    };
    match first {
        b'e' | b'E' => {}
        // From version 16 on: 0x1F, 0o17, 0b11, 1_000.
        b'x' | b'X' | b'o' | b'O' | b'b' | b'B' | b'_' => return Err(KeyError::Unsure),
        _ => return Err(KeyError::Invalid),
    }
    let digits = rest
        .strip_prefix(b"-")
        .or(rest.strip_prefix(b"+"))
        .unwrap_or(rest);
    match digits {
        [] => return Err(KeyError::Invalid),
        // Version 15 reads white space before an exponent; newer ones read underscores inside.
        _ if digits.iter().any(|&byte| is_space(byte) || byte == b'_') => {
            return Err(KeyError::Unsure);
        }
        _ if !digits.iter().all(u8::is_ascii_digit) => return Err(KeyError::Invalid),
        _ if digits.len() > 9 => return Err(KeyError::Unsure),
        _ => {}
    }
    let value = digits
        .iter()
        .fold(0i32, |value, digit| value * 10 + i32::from(digit - b'0'));
    match value {
        _ if value > MAX_DECIMALS as i32 => Err(KeyError::Unsure),
        _ if rest[0] == b'-' => Ok(-value),
        _ => Ok(value),
    }
}

/// Groups decimal digits by four, counted from the point.
fn finite(negative: bool, decimal: &Decimal) -> Result<KeyBytes, KeyError> {
    let Some(lead) = decimal.digits.iter().position(|&digit| digit != 0) else {
        return encode(&Parts::Zero);
    };
    let decimals = &decimal.digits[lead..];
    let first_power = decimal.last_power + decimals.len() as i32 - 1;
    let weight = first_power.div_euclid(4);
    let mut digits = vec![0u16; decimals.len() / 4 + 2];
    for (index, &digit) in decimals.iter().enumerate() {
        let power = first_power - index as i32;
        let group = (weight - power.div_euclid(4)) as usize;
        digits[group] += u16::from(digit) * 10u16.pow(power.rem_euclid(4) as u32);
    }
    let weight = i16::try_from(weight).map_err(|_| KeyError::Unsure)?;
    encode(&normal(negative, weight, digits)?)
}

/// As `numeric_recv`: counts, weight, sign, display scale, then the digits; digits beyond the display scale are cut off.
pub fn from_binary(bytes: &[u8]) -> Result<KeyBytes, KeyError> {
    let Some((head, body)) = bytes.split_at_checked(8) else {
        return Err(KeyError::Invalid);
    };
    let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let (count, weight, sign, scale) = (usize::from(word(0)), word(2) as i16, word(4), word(6));
    if body.len() != count * 2 {
        return Err(KeyError::Invalid);
    }
    let mut digits: Vec<u16> = body
        .chunks_exact(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
        .collect();
    if digits.iter().any(|&digit| digit > 9999) {
        return Err(KeyError::Invalid);
    }
    let negative = match sign {
        0x0000 => false,
        0x4000 => true,
        // A special value with digits is never sent; what the server makes of it need not be known.
        _ if count > 0 => return Err(KeyError::Unsure),
        0xc000 => return Ok(KeyBytes::from_canonical(&[NAN])),
        0xd000 => return Ok(KeyBytes::from_canonical(&[INFINITY])),
        0xf000 => return Ok(KeyBytes::from_canonical(&[NEGATIVE_INFINITY])),
        _ => return Err(KeyError::Invalid),
    };
    if usize::from(scale) > MAX_DECIMALS * 2
        || count > MAX_DECIMALS
        || usize::from(weight.unsigned_abs()) > MAX_DECIMALS
    {
        return Err(KeyError::Unsure);
    }
    truncate(&mut digits, weight, scale);
    encode(&normal(negative, weight, digits)?)
}

/// Zeroes the decimals beyond `scale`.
fn truncate(digits: &mut [u16], weight: i16, scale: u16) {
    for (index, digit) in digits.iter_mut().enumerate() {
        // The power of ten of this digit's last decimal, against that of the last decimal to stay.
        let last_power = (i32::from(weight) - index as i32) * 4;
        match -i32::from(scale) - last_power {
            ..=0 => {}
            cut @ 1..=3 => *digit -= *digit % 10u16.pow(cut as u32),
            _ => *digit = 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> KeyBytes {
        from_text(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn all_spellings_of_a_number_are_one_key() {
        for same in [
            &["5", "5.0", "+05.000", " 5e0 ", "0.5E1", "50e-1", "5."][..],
            &["0", "-0", "0.000", ".0", "0e5", "-0e-5"],
            &["12345.678", "1234567.8e-2", "0.00012345678e8"],
            &["-1e-7", "-0.0000001"],
            &["NaN", "nan"],
            &["Infinity", "inf", "+Inf"],
        ] {
            assert!(
                same.iter().all(|text| key(text) == key(same[0])),
                "{same:?}"
            );
        }
    }

    #[test]
    fn binary_digits_beyond_the_display_scale_are_cut() {
        // 5.5678 sent with a display scale of 1 is 5.5 for PostgreSQL.
        let sent = [0, 2, 0, 0, 0, 0, 0, 1, 0, 5, 0x16, 0x2e];
        assert_eq!(from_binary(&sent), Ok(key("5.5")));
        assert_eq!(from_binary(&[0, 0, 0, 0, 0xc0, 0, 0, 0]), Ok(key("NaN")));
        assert_eq!(
            from_binary(&[0, 1, 0, 0, 0, 0, 0, 0, 0x27, 0x10]),
            Err(KeyError::Invalid),
            "digit 10000"
        );
        assert_eq!(
            from_binary(&[0, 1, 0, 0, 0, 0, 0, 0]),
            Err(KeyError::Invalid),
            "too short"
        );
    }

    #[test]
    fn nonsense_is_invalid_and_edges_are_unsure() {
        for text in [
            "", ".", "+", "5e", "5e+", "1.2.3", "5 5", "--5", "+-5", "nanx", "+nan",
        ] {
            assert_eq!(
                from_text(text.as_bytes()),
                Err(KeyError::Invalid),
                "{text:?}"
            );
        }
        for text in ["1e2001", "1e-99999999999", "0x1f", "1_000", "1e 5"] {
            assert_eq!(
                from_text(text.as_bytes()),
                Err(KeyError::Unsure),
                "{text:?}"
            );
        }
        assert_eq!(from_text(&[b'9'; 2001]), Err(KeyError::Unsure));
    }
}
