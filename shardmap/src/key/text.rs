//! `text` and `varchar`: the bytes themselves, where it is certain that the server stores them as they are sent.
//!
//! Collations, `char(n)`, `citext` and `name` have other rules of equality and are not handled here. A length limit
//! of a varchar column matters only when a value is stored: [`crate::KeyType::stored`].

use super::{Encoding, KeyError, TextContext};
use crate::KeyBytes;

/// The key of a value in text or binary form, which are the same bytes here.
pub fn from_bytes(bytes: &[u8], context: &TextContext) -> Result<KeyBytes, KeyError> {
    verify(bytes, context)?;
    Ok(KeyBytes::from_canonical(bytes))
}

/// Whether the server takes these bytes and stores them unchanged.
pub fn verify(bytes: &[u8], context: &TextContext) -> Result<(), KeyError> {
    if bytes.contains(&0) {
        return Err(KeyError::Invalid);
    }
    match context.encoding {
        _ if bytes.is_ascii() => Ok(()),
        Encoding::Utf8 if std::str::from_utf8(bytes).is_ok() => Ok(()),
        Encoding::Utf8 => Err(KeyError::Invalid),
        Encoding::Other => Err(KeyError::Unsure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_beyond_ascii_need_utf8_on_both_sides() {
        let other = TextContext::UNKNOWN;
        assert!(from_bytes("grün 🦀".as_bytes(), &TextContext::UTC).is_ok());
        assert_eq!(from_bytes("grün".as_bytes(), &other), Err(KeyError::Unsure));
        assert!(from_bytes(b" plain ", &other).is_ok());
        assert_eq!(
            from_bytes(b"\xff", &TextContext::UTC),
            Err(KeyError::Invalid)
        );
        assert_eq!(
            from_bytes(b"\xed\xa0\x80", &TextContext::UTC),
            Err(KeyError::Invalid),
            "a surrogate"
        );
        assert_eq!(
            from_bytes(b"a\0", &TextContext::UTC),
            Err(KeyError::Invalid)
        );
    }
}
