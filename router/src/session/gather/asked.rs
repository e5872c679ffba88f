//! The part of a client's text that a server is asked about.

use std::borrow::Cow;
use std::ops::Range;

/// A part of a text, with as many spaces before it as the text has characters there: what a server says of the part
/// has its places in the text.
pub(super) fn within(text: &[u8], part: Range<usize>) -> Cow<'_, [u8]> {
    if part == (0..text.len()) {
        return Cow::Borrowed(text);
    }
    let (before, rest) = text.split_at(part.start);
    // Bytes of UTF-8 that begin a character.
    let characters = before.iter().filter(|byte| **byte & 0xC0 != 0x80).count();
    let mut out = vec![b' '; characters];
    out.extend_from_slice(&rest[..part.end - part.start]);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_a_part_are_those_of_the_text() {
        let text = "žluť (SELECT 'ř') x";
        let part = within(text.as_bytes(), 8..19);
        assert_eq!(String::from_utf8_lossy(&part), "      SELECT 'ř'");
        assert_eq!(&*within(b"abc", 0..3), b"abc");
    }
}
