//! Arrays as parameters and literals: `= ANY($1)`, `= ANY('{1,2}')`.
//!
//! Gives the elements, or None when anything is not plain; whoever asked then
//! takes no key from it. Arrays of several dimensions are their elements, as for ANY.

/// More elements than this are not worth looking at: every shard will be asked anyway.
const MAX_ELEMENTS: usize = 100_000;

/// An element of an array in text form.
#[derive(Debug, PartialEq, Eq)]
pub enum Element {
    /// A value.
    Value(Vec<u8>),
    /// The word NULL, as it is written: no value, or this text where `array_nulls` is off, of which PostgreSQL tells
    /// nobody.
    Null(Vec<u8>),
}

/// The elements of an array in text form. Only forms without bounds (`[2:3]={..}`) are read.
pub fn from_text(text: &[u8]) -> Option<Vec<Element>> {
    let text = text.trim_ascii();
    let mut elements = Vec::new();
    let mut depth = 0usize;
    let mut at = 0;
    // Whether an element, not a separator, must come next.
    let mut expect_element = true;
    while let Some(&byte) = text.get(at) {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => at += 1,
            b'{' if expect_element => {
                depth += 1;
                at += 1;
                // An empty array is only allowed as a whole.
                if text.get(at..).map(<[u8]>::trim_ascii) == Some(b"}") && depth == 1 {
                    return Some(elements);
                }
            }
            b'}' if !expect_element => {
                depth = depth.checked_sub(1)?;
                at += 1;
                if depth == 0 {
                    return (at == text.len()).then_some(elements);
                }
            }
            b',' if !expect_element && depth > 0 => {
                expect_element = true;
                at += 1;
            }
            _ if expect_element && depth > 0 => {
                let (element, next) = element(text, at)?;
                elements.push(element);
                if elements.len() > MAX_ELEMENTS {
                    return None;
                }
                expect_element = false;
                at = next;
            }
            _ => return None,
        }
    }
    None
}

/// One element and where it ends.
fn element(text: &[u8], start: usize) -> Option<(Element, usize)> {
    if text[start] != b'"' {
        let length = text[start..]
            .iter()
            .position(|b| matches!(b, b',' | b'}'))?;
        let raw = text[start..start + length].trim_ascii_end();
        if raw.is_empty() || raw.iter().any(|b| matches!(b, b'\\' | b'"' | b'{')) {
            return None;
        }
        let element = match raw.eq_ignore_ascii_case(b"null") {
            true => Element::Null(raw.to_vec()),
            false => Element::Value(raw.to_vec()),
        };
        return Some((element, start + length));
    }
    let mut value = Vec::new();
    let mut at = start + 1;
    loop {
        match *text.get(at)? {
            b'"' => return Some((Element::Value(value), at + 1)),
            b'\\' => {
                value.push(*text.get(at + 1)?);
                at += 2;
            }
            byte => {
                value.push(byte);
                at += 1;
            }
        }
    }
}

/// The element type and the elements of an array in binary form.
/// <https://www.postgresql.org/docs/current/protocol-message-formats.html> and `array_recv`.
pub fn from_binary(bytes: &[u8]) -> Option<(u32, Vec<Option<&[u8]>>)> {
    let mut reader = Reader(bytes);
    let dimensions = reader.int()?;
    let flags = reader.int()?;
    let element = reader.int()? as u32;
    if !(0..=6).contains(&dimensions) || !(0..=1).contains(&flags) {
        return None;
    }
    let mut count = usize::from(dimensions > 0);
    for _ in 0..dimensions {
        count = count.checked_mul(usize::try_from(reader.int()?).ok()?)?;
        reader.int()?;
    }
    if count > MAX_ELEMENTS {
        return None;
    }
    let mut elements = Vec::new();
    for _ in 0..count {
        elements.push(match reader.int()? {
            -1 => None,
            length => Some(reader.take(usize::try_from(length).ok()?)?),
        });
    }
    reader.0.is_empty().then_some((element, elements))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    fn int(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_arrays_are_read_as_postgres_does() {
        let read = |text: &str| {
            from_text(text.as_bytes()).map(|elements| {
                elements
                    .into_iter()
                    .map(|element| match element {
                        Element::Value(text) => String::from_utf8(text).unwrap(),
                        Element::Null(text) => format!("<{}>", String::from_utf8(text).unwrap()),
                    })
                    .collect::<Vec<_>>()
                    .join("|")
            })
        };
        for (text, expected) in [
            ("{}", Some("")),
            (" { } ", Some("")),
            ("{1,2}", Some("1|2")),
            ("{ 1 , NULL, null}", Some("1|<NULL>|<null>")),
            ("{\"NULL\",\"a,b\",\"c\\\"d\"}", Some("NULL|a,b|c\"d")),
            ("{{1,2},{3,4}}", Some("1|2|3|4")),
            ("{1,}", None),
            ("{,1}", None),
            ("{1", None),
            ("1}", None),
            ("{1}x", None),
            ("[2:3]={1,2}", None),
            ("", None),
            ("{a\\b}", None),
        ] {
            assert_eq!(read(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn binary_arrays_are_read_with_every_length_checked() {
        let mut bytes = Vec::new();
        for int in [1, 1, 23, 2, 1, 4, 7, -1] {
            bytes.extend(i32::to_be_bytes(int));
        }
        assert_eq!(
            from_binary(&bytes),
            Some((23, vec![Some(&[0, 0, 0, 7][..]), None]))
        );
        for cut in 0..bytes.len() {
            assert_eq!(from_binary(&bytes[..cut]), None);
        }
        let empty: Vec<u8> = [0, 0, 20]
            .iter()
            .flat_map(|i: &i32| i.to_be_bytes())
            .collect();
        assert_eq!(from_binary(&empty), Some((20, vec![])));
    }
}
