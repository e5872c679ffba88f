//! A session's mark, and the search for those of others in whatever arrives.
//!
//! A mark is `mk` and sixteen hexadecimal digits. Everything that a session makes
//! carries its own, so any other one in what it receives came from somebody else.

use std::fmt;

/// A random number that belongs to one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(pub u64);

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mk{:016x}", self.0)
    }
}

impl Mark {
    /// The first mark in `bytes` that is not this one.
    pub fn foreign(self, bytes: &[u8]) -> Option<Mark> {
        marks(bytes).find(|mark| *mark != self)
    }
}

/// All marks in these bytes.
fn marks(bytes: &[u8]) -> impl Iterator<Item = Mark> {
    bytes.windows(18).filter_map(|window| {
        let digits = window.strip_prefix(b"mk")?;
        let lower = digits
            .iter()
            .all(|d| d.is_ascii_digit() || (b'a'..=b'f').contains(d));
        let digits = std::str::from_utf8(digits).ok().filter(|_| lower)?;
        u64::from_str_radix(digits, 16).ok().map(Mark)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_mark_is_found_wherever_it_stands_and_the_own_one_is_not() {
        let (own, other) = (Mark(7), Mark(0xfeed));
        assert_eq!(own.foreign(format!("a{own}{own}5").as_bytes()), None);
        let mixed = format!("\0\u{1}x {own}9{other}f");
        assert_eq!(own.foreign(mixed.as_bytes()), Some(other));
        assert_eq!(own.foreign(b"mk000000000000000"), None);
        assert_eq!(own.foreign(b""), None);
    }
}
