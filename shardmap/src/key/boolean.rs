//! `boolean` as `boolin` and `boolrecv` read it.
//!
//! <https://www.postgresql.org/docs/15/datatype-boolean.html>

use super::{KeyError, integer::trim};
use crate::KeyBytes;

fn key(value: bool) -> Result<KeyBytes, KeyError> {
    Ok(KeyBytes::from_canonical(&[u8::from(value)]))
}

/// Prefixes of the words are enough, except that `o` alone is neither `on` nor `off`.
pub fn from_text(text: &[u8]) -> Result<KeyBytes, KeyError> {
    let text = trim(text);
    let starts =
        |word: &[u8]| word.len() >= text.len() && word[..text.len()].eq_ignore_ascii_case(text);
    match text {
        b"" => Err(KeyError::Invalid),
        b"1" => key(true),
        b"0" => key(false),
        _ if starts(b"true") || starts(b"yes") => key(true),
        _ if starts(b"false") || starts(b"no") => key(false),
        _ if text.eq_ignore_ascii_case(b"on") => key(true),
        _ if text.len() > 1 && starts(b"off") => key(false),
        _ => Err(KeyError::Invalid),
    }
}

/// One byte; whatever is not zero is true.
pub fn from_binary(bytes: &[u8]) -> Result<KeyBytes, KeyError> {
    match bytes {
        [byte] => key(*byte != 0),
        _ => Err(KeyError::Invalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_boolean_is_read() {
        for text in ["t", "tr", "TRUE", " yes ", "y", "on", "1"] {
            assert_eq!(from_text(text.as_bytes()), key(true), "{text}");
        }
        for text in ["f", "fals", "No", "n", "of", "off", "0\n"] {
            assert_eq!(from_text(text.as_bytes()), key(false), "{text}");
        }
        for text in ["", " ", "o", "truee", "10", "tt", "true x"] {
            assert_eq!(
                from_text(text.as_bytes()),
                Err(KeyError::Invalid),
                "{text:?}"
            );
        }
    }
}
