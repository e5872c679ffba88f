//! Computes the shard key that a column stores when a value is assigned to it.
//!
//! A column's length, precision or scale may change a value on its way into the table: `'abc   '` becomes `'abc'` in
//! `varchar(3)`, 1.005 becomes 1.01 in `numeric(10,2)`. The row belongs to the shard that owns the stored value.

use super::{KeyError, KeyType, datetime, numeric_form};
use crate::KeyBytes;

/// `atttypmod` counts the header of a variable-length value.
const HEADER: i32 = 4;

impl KeyType {
    /// The key as a column with this `atttypmod` (-1: none) stores it. Invalid if PostgreSQL refuses to store the
    /// value; Unsure if PostgreSQL would round it. Use it for INSERT, COPY, SET, and casts with a length, not for
    /// comparisons.
    pub fn stored(self, key: KeyBytes, typmod: i32) -> Result<KeyBytes, KeyError> {
        match self {
            _ if typmod < 0 => Ok(key),
            KeyType::Varchar => varchar(key, typmod - HEADER),
            KeyType::Numeric => rounded(key, typmod - HEADER),
            KeyType::Timestamp | KeyType::TimestampTz => {
                match datetime::beyond_precision(&key, typmod.unsigned_abs()) {
                    None | Some(0) => Ok(key),
                    Some(_) => Err(KeyError::Unsure),
                }
            }
            _ => Ok(key),
        }
    }
}

/// Cuts blanks beyond the length. Other characters beyond it are invalid.
fn varchar(key: KeyBytes, length: i32) -> Result<KeyBytes, KeyError> {
    let length = usize::try_from(length).map_err(|_| KeyError::Unsure)?;
    if key.as_bytes().len() <= length {
        return Ok(key);
    }
    // Bytes that are not UTF-8 are in another encoding, whose characters cannot be counted here.
    let text = std::str::from_utf8(key.as_bytes()).map_err(|_| KeyError::Unsure)?;
    let Some((cut, _)) = text.char_indices().nth(length) else {
        return Ok(key);
    };
    match text[cut..].bytes().all(|byte| byte == b' ') {
        true => Ok(KeyBytes::from_canonical(&key.as_bytes()[..cut])),
        false => Err(KeyError::Invalid),
    }
}

/// Checks a number against precision and scale. `packed` has the precision in its upper half, and the scale with its
/// sign in its lower 11 bits.
fn rounded(key: KeyBytes, packed: i32) -> Result<KeyBytes, KeyError> {
    let (precision, scale) = ((packed >> 16) & 0xffff, ((packed & 0x7ff) ^ 1024) - 1024);
    match numeric_form::fits(&key, precision, scale) {
        Some((true, true)) => Ok(key),
        Some((true, false)) => Err(KeyError::Invalid),
        // The value would be rounded, or it is an infinity or NaN, which versions of PostgreSQL treat differently.
        _ => Err(KeyError::Unsure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TextContext;

    fn stored(key_type: KeyType, text: &str, typmod: i32) -> Result<KeyBytes, KeyError> {
        key_type.stored(
            key_type.from_text(text.as_bytes(), &TextContext::UTC)?,
            typmod,
        )
    }

    #[test]
    fn blanks_beyond_the_length_are_cut_and_more_is_refused() {
        let abc = Ok(KeyBytes::from_canonical(b"abc"));
        assert_eq!(stored(KeyType::Varchar, "abc   ", 3 + 4), abc);
        assert_eq!(
            stored(KeyType::Varchar, "abc   ", -1),
            Ok(KeyBytes::from_canonical(b"abc   "))
        );
        assert_eq!(
            stored(KeyType::Varchar, "abcd", 3 + 4),
            Err(KeyError::Invalid)
        );
        assert_eq!(
            stored(KeyType::Varchar, "üüü ", 3 + 4),
            Ok(KeyBytes::from_canonical("üüü".as_bytes()))
        );
    }

    #[test]
    fn what_would_be_rounded_is_unsure() {
        let money = ((10 << 16) | 2) + 4;
        assert_eq!(
            stored(KeyType::Numeric, "1.50", money),
            stored(KeyType::Numeric, "1.5", -1)
        );
        assert_eq!(
            stored(KeyType::Numeric, "1.005", money),
            Err(KeyError::Unsure)
        );
        assert_eq!(
            stored(KeyType::Numeric, "123456789", money),
            Err(KeyError::Invalid)
        );
        assert!(stored(KeyType::Timestamp, "2024-01-01 00:00:00.5", 1).is_ok());
        assert_eq!(
            stored(KeyType::Timestamp, "2024-01-01 00:00:00.55", 1),
            Err(KeyError::Unsure)
        );
        assert!(stored(KeyType::TimestampTz, "infinity", 0).is_ok());
    }
}
