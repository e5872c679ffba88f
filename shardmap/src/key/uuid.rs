//! `uuid` in every spelling that PostgreSQL reads: any case, braces, and a dash or none after any four digits.
//!
//! <https://www.postgresql.org/docs/15/datatype-uuid.html>

use super::KeyError;
use crate::KeyBytes;

/// No white space is allowed, as in `uuid_in`.
pub fn from_text(text: &[u8]) -> Result<KeyBytes, KeyError> {
    let mut rest = match text {
        [b'{', inner @ .., b'}'] => inner,
        text => text,
    };
    let mut uuid = [0u8; 16];
    for (index, byte) in uuid.iter_mut().enumerate() {
        let [high, low, tail @ ..] = rest else {
            return Err(KeyError::Invalid);
        };
        *byte = (hex_digit(*high)? << 4) | hex_digit(*low)?;
        rest = match tail {
            [b'-', tail @ ..] if index % 2 == 1 && index < 15 => tail,
            tail => tail,
        };
    }
    match rest.is_empty() {
        true => Ok(KeyBytes::from_canonical(&uuid)),
        false => Err(KeyError::Invalid),
    }
}

/// The value of a hexadecimal digit.
pub fn hex_digit(digit: u8) -> Result<u8, KeyError> {
    char::from(digit)
        .to_digit(16)
        .map(|value| value as u8)
        .ok_or(KeyError::Invalid)
}

/// Exactly 16 bytes.
pub fn from_binary(bytes: &[u8]) -> Result<KeyBytes, KeyError> {
    match bytes.len() {
        16 => Ok(KeyBytes::from_canonical(bytes)),
        _ => Err(KeyError::Invalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_are_one_key() {
        let key = from_binary(&0xa0ee_bc99_9c0b_4ef8_bb6d_6bb9_bd38_0a11_u128.to_be_bytes());
        for text in [
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
            "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
        ] {
            assert_eq!(from_text(text.as_bytes()), key, "{text}");
        }
        for text in [
            "",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            " a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "a0-eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11-",
            "a0eebc999c0b4ef8bb6d6bb9bd380a1g",
            "a0eebc999c0b4ef8bb6d6bb9bd380a1111",
        ] {
            assert_eq!(from_text(text.as_bytes()), Err(KeyError::Invalid), "{text}");
        }
    }
}
