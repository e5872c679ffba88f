//! Where a place in a text that was sent stands in the text that it was written from.
//!
//! Pure. A server says where an error is by counting characters of the text that it has got, from 1. Where that text was
//! written from another one, by the changes that are listed here, the same place is counted anew in that one. What
//! stands in both keeps its place; a place within what stands instead of something is the beginning of that something;
//! what was only added has none.

use std::ops::Range;

/// One change of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The bytes of the own text that are left out; none where something is only added.
    pub at: Range<usize>,
    /// How long that is which stands there instead.
    put: Length,
}

/// The length of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Length {
    bytes: usize,
    characters: usize,
}

/// How a server counts the characters of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Characters {
    /// Those of UTF-8.
    Utf8,
    /// Each byte is one.
    Bytes,
    /// Only ASCII is counted here.
    Ascii,
}

impl Change {
    /// `put` in place of these bytes.
    pub fn new(at: Range<usize>, put: &str) -> Change {
        let put = Length {
            bytes: put.len(),
            characters: put.chars().count(),
        };
        Change { at, put }
    }
}

impl Characters {
    /// By the names that PostgreSQL has for the client's encoding and the server's. The server counts in its own, into
    /// which it has converted the text, if both are of a known encoding.
    pub fn of(client: &str, server: &str) -> Characters {
        let counted = match (client, server) {
            (_, "SQL_ASCII") => return Characters::Bytes,
            ("SQL_ASCII", server) => server,
            (client, _) => client,
        };
        let one_byte = ["LATIN", "ISO_8859", "KOI8", "WIN"];
        match counted {
            "UTF8" => Characters::Utf8,
            name if one_byte.iter().any(|begins| name.starts_with(begins)) => Characters::Bytes,
            _ => Characters::Ascii,
        }
    }

    /// How many there are.
    fn count(self, text: &[u8]) -> Option<usize> {
        let begins = |byte: &&u8| **byte & 0xc0 != 0x80;
        match self {
            Characters::Utf8 => Some(text.iter().filter(begins).count()),
            Characters::Bytes => Some(text.len()),
            Characters::Ascii => text.is_ascii().then_some(text.len()),
        }
    }

    fn length(self, put: Length) -> Option<usize> {
        match self {
            Characters::Utf8 => Some(put.characters),
            Characters::Bytes => Some(put.bytes),
            Characters::Ascii => (put.bytes == put.characters).then_some(put.bytes),
        }
    }
}

/// The place in `own` of a place in what was written from it by these changes, which are in its order; both places count
/// characters from 1. `None` for what `own` does not have, and where characters cannot be counted.
pub fn own_place(
    own: &[u8],
    changes: &[Change],
    characters: Characters,
    place: usize,
) -> Option<usize> {
    // What is left of the way to the place, and how far that is in the own text.
    let (mut left, mut passed) = (place.checked_sub(1)?, 0);
    let mut from = 0;
    for change in changes {
        let kept = characters.count(own.get(from..change.at.start)?)?;
        if left < kept {
            return Some(passed + left + 1);
        }
        (left, passed) = (left - kept, passed + kept);
        let put = characters.length(change.put)?;
        if left < put {
            return (!change.at.is_empty()).then_some(passed + 1);
        }
        left -= put;
        passed += characters.count(own.get(change.at.clone())?)?;
        from = change.at.end;
    }
    let kept = characters.count(own.get(from..)?)?;
    // An error at the end of the text is said to be behind it.
    (left <= kept).then_some(passed + left + 1)
}

/// The place in `own` of a place in a part of it that begins at this byte.
pub fn place_of_part(
    own: &[u8],
    start: usize,
    characters: Characters,
    place: usize,
) -> Option<usize> {
    Some(characters.count(own.get(..start)?)? + place)
}

/// The text that these changes make of `own`, with `?` for each character that is put into it. Tests compare it with the
/// text that was really made, by [`shows`].
pub fn sketched(own: &str, changes: &[Change]) -> String {
    let (mut text, mut from) = (String::new(), 0);
    for change in changes {
        text += &own[from..change.at.start];
        text += &"?".repeat(change.put.characters);
        from = change.at.end;
    }
    text + &own[from..]
}

/// Whether a text is what such a sketch shows.
pub fn shows(sketch: &str, text: &str) -> bool {
    let same = |(sketched, written)| sketched == '?' || sketched == written;
    sketch.chars().count() == text.chars().count() && sketch.chars().zip(text.chars()).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What was written, and where each of its characters is in the own text.
    fn written(own: &str, changes: &[(Range<usize>, &str)]) -> (String, Vec<Option<usize>>) {
        let (mut text, mut places) = (String::new(), Vec::new());
        let mut from = 0;
        let place = |byte: usize| own[..byte].chars().count() + 1;
        let kept = |range: Range<usize>, text: &mut String, places: &mut Vec<Option<usize>>| {
            for (at, c) in own[range.clone()].char_indices() {
                text.push(c);
                places.push(Some(place(range.start + at)));
            }
        };
        for (at, put) in changes {
            kept(from..at.start, &mut text, &mut places);
            text.push_str(put);
            let beginning = (!at.is_empty()).then(|| place(at.start));
            places.extend(put.chars().map(|_| beginning));
            from = at.end;
        }
        kept(from..own.len(), &mut text, &mut places);
        places.push(Some(place(own.len())));
        (text, places)
    }

    fn check(own: &str, changes: &[(Range<usize>, &str)]) {
        let (text, places) = written(own, changes);
        let list: Vec<Change> = changes
            .iter()
            .map(|(at, put)| Change::new(at.clone(), put))
            .collect();
        for (at, expected) in places.into_iter().enumerate() {
            let found = own_place(own.as_bytes(), &list, Characters::Utf8, at + 1);
            assert_eq!(found, expected, "{own:?} {text:?} {at}");
        }
        let behind = text.chars().count() + 2;
        assert_eq!(own_place(own.as_bytes(), &list, Characters::Utf8, 0), None);
        assert_eq!(
            own_place(own.as_bytes(), &list, Characters::Utf8, behind),
            None
        );
    }

    #[test]
    fn what_is_kept_keeps_its_place_and_what_is_replaced_begins_where_it_began() {
        check("SELECT x", &[]);
        check("", &[(0..0, "ů")]);
        let own = "INSERT INTO ž VALUES (1), ('ů'), (x)";
        let row = |text: &str| own.find(text).unwrap();
        let rows = row("(1)")..own.len();
        // Another name, a row that is left out, one that is added.
        check(own, &[(12..14, "\"dlouhý\"")]);
        check(
            own,
            &[(rows.start..row("('ů')"), ""), (rows.end - 5..rows.end, "")],
        );
        check(
            own,
            &[(14..14, " (ň)"), (row("(x)")..row("(x)"), "('ď'), ")],
        );
        let place = |place| {
            let changes = [Change::new(12..14, "\"dlouhý\"")];
            own_place(own.as_bytes(), &changes, Characters::Utf8, place)
        };
        assert_eq!(place(13), Some(13));
        assert_eq!(place(20), Some(13));
        // The space behind the name.
        assert_eq!(place(21), Some(14));
    }

    #[test]
    fn characters_are_counted_as_the_server_does() {
        for (client, server, expected) in [
            ("UTF8", "UTF8", Characters::Utf8),
            ("UTF8", "LATIN2", Characters::Utf8),
            ("LATIN1", "UTF8", Characters::Bytes),
            ("WIN1252", "UTF8", Characters::Bytes),
            ("SQL_ASCII", "UTF8", Characters::Utf8),
            ("SQL_ASCII", "LATIN1", Characters::Bytes),
            ("UTF8", "SQL_ASCII", Characters::Bytes),
            ("EUC_JP", "UTF8", Characters::Ascii),
            ("", "", Characters::Ascii),
        ] {
            assert_eq!(
                Characters::of(client, server),
                expected,
                "{client} {server}"
            );
        }
        let changes = [Change::new(3..4, "long")];
        let place = |own: &[u8], characters| own_place(own, &changes, characters, 9);
        assert_eq!(place("ů bcde".as_bytes(), Characters::Utf8), Some(6));
        assert_eq!(place("ů bcde".as_bytes(), Characters::Bytes), Some(6));
        assert_eq!(place("abcdef".as_bytes(), Characters::Ascii), Some(6));
        assert_eq!(place("ů bcde".as_bytes(), Characters::Ascii), None);
        let part = |characters| place_of_part("ů, bcd".as_bytes(), 4, characters, 2);
        assert_eq!(part(Characters::Utf8), Some(5));
        assert_eq!(part(Characters::Bytes), Some(6));
    }

    proptest! {
        #[test]
        fn every_character_that_is_kept_is_found(
            own in "[a-zžůň ]{0,20}",
            cuts in proptest::collection::vec((0usize..21, "[xřď]{0,3}"), 0..6),
        ) {
            let bounds: Vec<usize> = own.char_indices().map(|(at, _)| at).chain([own.len()]).collect();
            let mut ends: Vec<(usize, &str)> = cuts
                .iter()
                .map(|(at, put)| (bounds[at % bounds.len()], put.as_str()))
                .collect();
            ends.sort();
            let pairs = ends.chunks_exact(2);
            let changes: Vec<(Range<usize>, &str)> =
                pairs.map(|pair| (pair[0].0..pair[1].0, pair[0].1)).collect();
            check(&own, &changes);
        }

        #[test]
        fn no_text_panics(own: Vec<u8>, at in 0usize..40, to in 0usize..40, place in 0usize..60) {
            let changes = [Change::new(at..to, "x"), Change::new(to..at, "")];
            for characters in [Characters::Utf8, Characters::Bytes, Characters::Ascii] {
                let _ = own_place(&own, &changes, characters, place);
            }
        }
    }
}
