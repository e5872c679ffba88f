//! Reads keys of type `bytea` from text, in hex and in escape format.
//!
//! <https://www.postgresql.org/docs/15/datatype-binary.html>

use super::{KeyError, TextContext, text, uuid::hex_digit};
use crate::KeyBytes;

/// The key of a value in text form. A text that begins with `\x` is in hex format, any other in escape format.
pub fn from_text(text: &[u8], context: &TextContext) -> Result<KeyBytes, KeyError> {
    text::verify(text, context)?;
    let bytes = match text {
        [b'\\', b'x', hex @ ..] => from_hex(hex)?,
        escaped => from_escaped(escaped)?,
    };
    Ok(KeyBytes::from_canonical(&bytes))
}

/// Reads pairs of hex digits. White space may stand between two pairs, but not inside a pair.
fn from_hex(mut hex: &[u8]) -> Result<Vec<u8>, KeyError> {
    let mut bytes = Vec::with_capacity(hex.len() / 2);
    loop {
        hex = match hex {
            [] => return Ok(bytes),
            [b' ' | b'\n' | b'\t' | b'\r', rest @ ..] => rest,
            [high, low, rest @ ..] => {
                bytes.push((hex_digit(*high)? << 4) | hex_digit(*low)?);
                rest
            }
            [_] => return Err(KeyError::Invalid),
        }
    }
}

/// Reads the escape format. Two backslashes stand for one. A backslash and three octal digits stand for the byte with
/// that value. All other bytes stand for themselves.
fn from_escaped(mut text: &[u8]) -> Result<Vec<u8>, KeyError> {
    let mut bytes = Vec::with_capacity(text.len());
    loop {
        text = match text {
            [] => return Ok(bytes),
            [b'\\', b'\\', rest @ ..] => {
                bytes.push(b'\\');
                rest
            }
            [
                b'\\',
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                rest @ ..,
            ] => {
                bytes.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                rest
            }
            [b'\\', ..] => return Err(KeyError::Invalid),
            [byte, rest @ ..] => {
                bytes.push(*byte);
                rest
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_and_escape_formats_are_one_key() {
        let key = |text: &str| from_text(text.as_bytes(), &TextContext::UTC);
        let abc = Ok(KeyBytes::from_canonical(b"a\\\0b"));
        for text in [
            r"\x615c0062",
            r"\x 61 5C 00	62 ",
            r"a\\\000b",
            r"\141\134\000\142",
        ] {
            assert_eq!(key(text), abc, "{text}");
        }
        assert_eq!(key(""), key(r"\x"));
        for text in [r"\x6", r"\x6 1", r"\xgg", r"\400", r"\1", r"\X61", r"\"] {
            assert_eq!(key(text), Err(KeyError::Invalid), "{text}");
        }
        assert_eq!(
            from_text("ü".as_bytes(), &TextContext::UNKNOWN),
            Err(KeyError::Unsure)
        );
    }
}
