//! `int2`, `int4` and `int8`: one canonical form for the three.
//!
//! This is the hot path of most statements: nothing here allocates.
//! <https://www.postgresql.org/docs/15/datatype-numeric.html>

use super::KeyError;
use crate::KeyBytes;

/// What C's `isspace` takes as white space, without which PostgreSQL's input functions read a value.
pub fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// The bytes without white space around them.
pub fn trim(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_space(*first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_space(*last)
    {
        text = rest;
    }
    text
}

/// White space, a sign, digits, white space, within the bounds of the type.
#[inline]
pub fn from_text(text: &[u8], min: i64, max: i64) -> Result<KeyBytes, KeyError> {
    let text = trim(text);
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(not_digits(digits));
    }
    // Counted below zero, where there is room for one more than above.
    let mut value = 0i64;
    for digit in digits {
        let next = value
            .checked_mul(10)
            .and_then(|value| value.checked_sub(i64::from(digit - b'0')));
        value = next.ok_or(KeyError::Invalid)?;
    }
    if !negative {
        value = value.checked_neg().ok_or(KeyError::Invalid)?;
    }
    match (min..=max).contains(&value) {
        true => Ok(KeyBytes::from_i64(value)),
        false => Err(KeyError::Invalid),
    }
}

/// PostgreSQL 16 reads `0x1F`, `0o17`, `0b11` and `1_000`, 15 refuses them; all else is refused by every version.
fn not_digits(digits: &[u8]) -> KeyError {
    let newer =
        |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b'x' | b'X' | b'o' | b'O' | b'_');
    match digits {
        [b'0'..=b'9', rest @ ..] if rest.iter().all(newer) => KeyError::Unsure,
        _ => KeyError::Invalid,
    }
}

/// Exactly `N` bytes, big-endian.
#[inline]
pub fn from_binary<const N: usize>(bytes: &[u8]) -> Result<KeyBytes, KeyError> {
    let bytes: [u8; N] = bytes.try_into().map_err(|_| KeyError::Invalid)?;
    // Sign extension to eight bytes.
    let mut wide = [if bytes[0] >= 0x80 { 0xff } else { 0 }; 8];
    wide[8 - N..].copy_from_slice(&bytes);
    Ok(KeyBytes::from_i64(i64::from_be_bytes(wide)))
}

/// A literal beyond int8 is a numeric, which equals no integer of a column.
pub fn from_integer(value: i128) -> Result<KeyBytes, KeyError> {
    i64::try_from(value)
        .map(KeyBytes::from_i64)
        .map_err(|_| KeyError::NoMatch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_the_type() {
        let int8 = |text: &str| from_text(text.as_bytes(), i64::MIN, i64::MAX);
        assert_eq!(
            int8("-9223372036854775808"),
            Ok(KeyBytes::from_i64(i64::MIN))
        );
        assert_eq!(
            int8("9223372036854775807"),
            Ok(KeyBytes::from_i64(i64::MAX))
        );
        assert_eq!(int8("9223372036854775808"), Err(KeyError::Invalid));
        assert_eq!(int8("-9223372036854775809"), Err(KeyError::Invalid));
        assert_eq!(from_text(b"32768", -32768, 32767), Err(KeyError::Invalid));
        assert_eq!(from_text(b"-0", -32768, 32767), Ok(KeyBytes::from_i64(0)));
    }

    #[test]
    fn forms_that_differ_by_version_are_unsure_and_nonsense_is_invalid() {
        for text in ["0x5", "5_0", "-0b1", "0o7", "1e5"] {
            assert_eq!(
                from_text(text.as_bytes(), 0, 9),
                Err(KeyError::Unsure),
                "{text}"
            );
        }
        for text in [
            "", " ", "-", "- 5", "--5", "5 5", "5.0", "abc", "_5", "\u{a0}5",
        ] {
            assert_eq!(
                from_text(text.as_bytes(), 0, 9),
                Err(KeyError::Invalid),
                "{text:?}"
            );
        }
    }

    #[test]
    fn binary_values_keep_their_sign() {
        assert_eq!(from_binary::<2>(&[0xff, 0xfe]), Ok(KeyBytes::from_i64(-2)));
        assert_eq!(
            from_binary::<4>(&[0x80, 0, 0, 0]),
            Ok(KeyBytes::from_i64(i64::from(i32::MIN)))
        );
        assert_eq!(from_binary::<8>(&[]), Err(KeyError::Invalid));
    }
}
