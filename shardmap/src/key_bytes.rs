//! The canonical bytes of one key value.
//!
//! Two values are equal for PostgreSQL exactly if their bytes are equal, and, except for text under a collation that
//! is not C-like, the bytes sort as the type sorts. The forms are listed at [`crate::KeyType`]. They are stable: slots are
//! computed from them, so changing a form would move data.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Fits every fixed-width type and keeps the whole value at 24 bytes.
const INLINE: usize = 22;

/// One key value in its canonical form: cheap to clone, compared and hashed by its bytes.
///
/// Values of different types must not be compared with each other.
#[derive(Clone)]
pub struct KeyBytes(Repr);

#[derive(Clone)]
enum Repr {
    Inline { len: u8, bytes: [u8; INLINE] },
    Shared(Arc<[u8]>),
}

impl KeyBytes {
    /// Takes bytes that already are canonical, such as those that a directory has stored.
    pub fn from_canonical(canonical: &[u8]) -> KeyBytes {
        if canonical.len() > INLINE {
            return KeyBytes(Repr::Shared(canonical.into()));
        }
        let mut bytes = [0; INLINE];
        bytes[..canonical.len()].copy_from_slice(canonical);
        KeyBytes(Repr::Inline {
            len: canonical.len() as u8,
            bytes,
        })
    }

    /// As [`KeyBytes::from_canonical`]; the length is known when this is compiled, which saves the copy a call.
    #[inline]
    fn from_fixed<const N: usize>(canonical: [u8; N]) -> KeyBytes {
        const { assert!(N <= INLINE) };
        let mut bytes = [0; INLINE];
        bytes[..N].copy_from_slice(&canonical);
        KeyBytes(Repr::Inline {
            len: N as u8,
            bytes,
        })
    }

    /// The canonical bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Shared(bytes) => bytes,
        }
    }

    /// The value behind an 8-byte canonical form (integers, timestamps).
    pub(crate) fn as_i64(&self) -> Option<i64> {
        let bytes: [u8; 8] = self.as_bytes().try_into().ok()?;
        Some((u64::from_be_bytes(bytes) ^ (1 << 63)) as i64)
    }

    /// The value behind a 4-byte canonical form (dates).
    pub(crate) fn as_i32(&self) -> Option<i32> {
        let bytes: [u8; 4] = self.as_bytes().try_into().ok()?;
        Some((u32::from_be_bytes(bytes) ^ (1 << 31)) as i32)
    }

    /// Eight bytes, big-endian, with the sign bit turned, so that bytes sort as numbers do.
    #[inline]
    pub(crate) fn from_i64(value: i64) -> KeyBytes {
        KeyBytes::from_fixed(((value as u64) ^ (1 << 63)).to_be_bytes())
    }

    /// Four bytes, as [`KeyBytes::from_i64`].
    pub(crate) fn from_i32(value: i32) -> KeyBytes {
        KeyBytes::from_fixed(((value as u32) ^ (1 << 31)).to_be_bytes())
    }
}

impl PartialEq for KeyBytes {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for KeyBytes {}

impl Hash for KeyBytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl PartialOrd for KeyBytes {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for KeyBytes {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

/// Shows the length only: a key is a value of the client's, and values must not reach a log by way of `{:?}`.
impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyBytes({} bytes)", self.as_bytes().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_sort_as_integers_do() {
        let values = [i64::MIN, -256, -1, 0, 1, 255, 256, i64::MAX];
        for pair in values.windows(2) {
            assert!(
                KeyBytes::from_i64(pair[0]) < KeyBytes::from_i64(pair[1]),
                "{pair:?}"
            );
        }
        assert!(
            values
                .iter()
                .all(|&v| KeyBytes::from_i64(v).as_i64() == Some(v))
        );
    }

    #[test]
    fn inline_and_shared_forms_compare_by_bytes_alone() {
        assert_eq!(size_of::<KeyBytes>(), 24);
        let long = KeyBytes::from_canonical(&[7; 23]);
        assert_eq!(long.as_bytes(), [7; 23]);
        assert!(KeyBytes::from_canonical(&[7; 22]) < long);
    }

    #[test]
    fn debug_never_shows_the_value() {
        assert_eq!(
            format!("{:?}", KeyBytes::from_canonical(b"secret")),
            "KeyBytes(6 bytes)"
        );
    }
}
