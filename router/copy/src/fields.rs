//! The key's fields of one line of text or CSV.
//!
//! Follows `CopyReadAttributesText` and `CopyReadAttributesCSV` of PostgreSQL's
//! `copyfromparse.c`: escapes, quotes, what is NULL and what is DEFAULT. Fields
//! behind the last key column are not looked at; the server that gets the row does.

use memchr::{memchr, memchr2};

use super::error::CopyError;
use super::format::{CsvFormat, TextFormat};

/// A field of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// NULL.
    Null,
    /// The column's default, which only the server knows.
    Default,
    /// A value without escapes and quotes.
    Value(&'a [u8]),
}

/// Walks over the fields of a text line.
#[derive(Debug)]
pub struct TextFields<'a> {
    format: &'a TextFormat,
    /// None behind the last field.
    rest: Option<&'a [u8]>,
    /// Whether the line has a backslash at all.
    escapes: bool,
}

impl<'a> TextFields<'a> {
    /// `line` is without its line end.
    pub fn new(format: &'a TextFormat, line: &'a [u8], escapes: bool) -> Self {
        TextFields {
            format,
            rest: Some(line),
            escapes,
        }
    }

    /// Passes `count` fields; false if there are not as many.
    #[inline]
    pub fn skip(&mut self, count: usize) -> bool {
        (0..count).all(|_| self.raw().is_some())
    }

    /// The next field; none if there is no more. An unescaped value is made in `scratch`.
    #[inline]
    pub fn take<'s>(&mut self, scratch: &'s mut Vec<u8>) -> Option<Field<'s>>
    where
        'a: 's,
    {
        let raw = self.raw()?;
        // NULL is compared with what was sent, before escapes are taken out.
        if raw == self.format.null {
            return Some(Field::Null);
        }
        if self.format.default.as_deref() == Some(raw) {
            return Some(Field::Default);
        }
        if !self.escapes || memchr(b'\\', raw).is_none() {
            return Some(Field::Value(raw));
        }
        scratch.clear();
        unescape(raw, scratch);
        Some(Field::Value(scratch))
    }

    #[inline]
    fn raw(&mut self) -> Option<&'a [u8]> {
        let line = self.rest?;
        let end = match self.escapes {
            false => memchr(self.format.delimiter, line),
            true => unescaped(self.format.delimiter, line),
        };
        let Some(end) = end else {
            self.rest = None;
            // A backslash at the end of the stream is no part of the field.
            let lone = self.escapes && ends_with_lone_backslash(line);
            return Some(&line[..line.len() - usize::from(lone)]);
        };
        self.rest = Some(&line[end + 1..]);
        Some(&line[..end])
    }
}

/// The first delimiter without a backslash before it.
fn unescaped(delimiter: u8, line: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < line.len() {
        let found = at + memchr2(delimiter, b'\\', &line[at..])?;
        if line[found] != b'\\' {
            return Some(found);
        }
        at = found + 2;
    }
    None
}

/// Whether a line ends with a backslash that escapes nothing.
pub(super) fn ends_with_lone_backslash(line: &[u8]) -> bool {
    let backslashes = line.iter().rev().take_while(|&&b| b == b'\\').count();
    backslashes % 2 == 1
}

/// Takes out backslash escapes.
fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(&byte) = raw.get(at) {
        at += 1;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let Some(&escaped) = raw.get(at) else { return };
        at += 1;
        let value = match escaped {
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 0x0b,
            b'0'..=b'7' => number(&raw[at - 1..], 8, 3, &mut at, 1),
            b'x' if raw.get(at).is_some_and(u8::is_ascii_hexdigit) => {
                number(&raw[at..], 16, 2, &mut at, 0)
            }
            other => other,
        };
        out.push(value);
    }
}

/// Up to `most` digits, of which `passed` are behind `at` already; only the low byte counts.
fn number(raw: &[u8], radix: u32, most: usize, at: &mut usize, passed: usize) -> u8 {
    let digits = raw
        .iter()
        .take(most)
        .map_while(|&b| char::from(b).to_digit(radix));
    let (mut value, mut count) = (0u32, 0);
    for digit in digits {
        value = value * radix + digit;
        count += 1;
    }
    *at += count - passed;
    (value & 0xff) as u8
}

/// Walks over the fields of a CSV line.
#[derive(Debug)]
pub struct CsvFields<'a> {
    format: &'a CsvFormat,
    rest: Option<&'a [u8]>,
}

/// How the key column's name stands in FORCE_NULL and FORCE_NOT_NULL.
#[derive(Clone, Copy, Debug, Default)]
pub struct Force {
    /// A quoted value may be NULL.
    pub null: bool,
    /// An unquoted one never is.
    pub not_null: bool,
}

impl<'a> CsvFields<'a> {
    /// `line` is without its line end.
    pub fn new(format: &'a CsvFormat, line: &'a [u8]) -> Self {
        CsvFields {
            format,
            rest: Some(line),
        }
    }

    /// Passes `count` fields; false if there are not as many.
    pub fn skip(&mut self, count: usize, scratch: &mut Vec<u8>) -> Result<bool, CopyError> {
        for _ in 0..count {
            if self.raw(scratch)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The next field; none if there is no more. A value that was quoted is made in `scratch`.
    pub fn take<'s>(
        &mut self,
        force: Force,
        scratch: &'s mut Vec<u8>,
    ) -> Result<Option<Field<'s>>, CopyError>
    where
        'a: 's,
    {
        let Some((raw, quoted)) = self.raw(scratch)? else {
            return Ok(None);
        };
        let text = &self.format.text;
        Ok(Some(match quoted {
            true if force.null && *scratch == text.null => Field::Null,
            true => Field::Value(scratch),
            false if raw == text.null && force.not_null => Field::Value(raw),
            false if raw == text.null => Field::Null,
            false if text.default.as_deref() == Some(raw) => Field::Default,
            // PostgreSQL asks again after FORCE_NULL, but an unquoted match was NULL already.
            false => Field::Value(raw),
        }))
    }

    /// The field as it stands in the line, and whether it has quotes; then its value is in `scratch`.
    fn raw(&mut self, scratch: &mut Vec<u8>) -> Result<Option<(&'a [u8], bool)>, CopyError> {
        let Some(line) = self.rest else {
            return Ok(None);
        };
        let CsvFormat { quote, escape, .. } = *self.format;
        let delimiter = self.format.text.delimiter;
        scratch.clear();
        let (mut at, mut quoted) = (0, false);
        loop {
            let Some(ahead) = memchr2(delimiter, quote, &line[at..]) else {
                scratch.extend_from_slice(&line[at..]);
                self.rest = None;
                return Ok(Some((line, quoted)));
            };
            scratch.extend_from_slice(&line[at..at + ahead]);
            at += ahead + 1;
            if line[at - 1] == delimiter {
                self.rest = Some(&line[at..]);
                return Ok(Some((&line[..at - 1], quoted)));
            }
            quoted = true;
            at = within_quotes(line, at, quote, escape, scratch)?;
        }
    }
}

/// From behind an opening quote to behind the closing one.
fn within_quotes(
    line: &[u8],
    mut at: usize,
    quote: u8,
    escape: u8,
    out: &mut Vec<u8>,
) -> Result<usize, CopyError> {
    loop {
        let rest = &line[at..];
        let ahead = memchr2(quote, escape, rest).ok_or(CopyError::UnterminatedQuote)?;
        out.extend_from_slice(&rest[..ahead]);
        at += ahead;
        let byte = line[at];
        match line.get(at + 1) {
            Some(&next) if byte == escape && (next == escape || next == quote) => {
                out.push(next);
                at += 2;
            }
            _ if byte == quote => return Ok(at + 1),
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::Header;
    use super::*;

    fn text() -> TextFormat {
        TextFormat {
            delimiter: b'\t',
            null: b"\\N".to_vec(),
            default: None,
            header: Header::No,
        }
    }

    fn text_fields(line: &str) -> Vec<Option<Vec<u8>>> {
        let format = text();
        let mut fields = TextFields::new(&format, line.as_bytes(), line.contains('\\'));
        let mut all = Vec::new();
        let mut scratch = Vec::new();
        while let Some(field) = fields.take(&mut scratch) {
            all.push(match field {
                Field::Value(value) => Some(value.to_vec()),
                _ => None,
            });
        }
        all
    }

    #[test]
    fn text_escapes_are_taken_out_as_postgres_does() {
        let cases: [(&str, &[Option<&[u8]>]); 10] = [
            ("", &[Some(b"")]),
            ("a\tb", &[Some(b"a"), Some(b"b")]),
            ("\t", &[Some(b""), Some(b"")]),
            (r"\N", &[None]),
            (r"\\N", &[Some(br"\N")]),
            ("a\\\tb\tc", &[Some(b"a\tb"), Some(b"c")]),
            (r"\b\f\n\r\t\v\q", &[Some(b"\x08\x0c\n\r\t\x0bq")]),
            (r"\101\1018\7z\777", &[Some(b"AA8\x07z\xff")]),
            (r"\x41\x4\x\xg\x412", &[Some(b"A\x04xxgA2")]),
            ("a\\", &[Some(b"a")]),
        ];
        for (line, wanted) in cases {
            let wanted: Vec<_> = wanted.iter().map(|f| f.map(<[u8]>::to_vec)).collect();
            assert_eq!(text_fields(line), wanted, "{line:?}");
        }
    }

    fn csv_fields(line: &str, escape: u8, force: Force) -> Result<Vec<Option<String>>, CopyError> {
        let format = CsvFormat {
            text: TextFormat {
                delimiter: b',',
                null: b"nil".to_vec(),
                ..text()
            },
            quote: b'"',
            escape,
            force_null: Default::default(),
            force_not_null: Default::default(),
        };
        let mut fields = CsvFields::new(&format, line.as_bytes());
        let mut all = Vec::new();
        let mut scratch = Vec::new();
        while let Some(field) = fields.take(force, &mut scratch)? {
            all.push(match field {
                Field::Value(value) => Some(String::from_utf8(value.to_vec()).unwrap()),
                _ => None,
            });
        }
        Ok(all)
    }

    #[test]
    fn csv_quotes_are_taken_out_as_postgres_does() {
        let cases: [(&str, u8, &[Option<&str>]); 9] = [
            ("", b'"', &[Some("")]),
            ("nil,\"nil\",", b'"', &[None, Some("nil"), Some("")]),
            ("\"a,b\",c", b'"', &[Some("a,b"), Some("c")]),
            ("\"a\"\"b\"", b'"', &[Some("a\"b")]),
            ("x\"a,b\"y,z", b'"', &[Some("xa,by"), Some("z")]),
            ("\"a\\\"b\\\\c\\d\"", b'\\', &[Some("a\"b\\c\\d")]),
            ("a\\,b", b'\\', &[Some("a\\"), Some("b")]),
            ("\"a\nb\"", b'"', &[Some("a\nb")]),
            ("\"\"", b'"', &[Some("")]),
        ];
        for (line, escape, wanted) in cases {
            let wanted: Vec<_> = wanted.iter().map(|f| f.map(str::to_string)).collect();
            assert_eq!(
                csv_fields(line, escape, Force::default()),
                Ok(wanted),
                "{line:?}"
            );
        }
        let unclosed = csv_fields("a,\"b", b'"', Force::default());
        assert_eq!(unclosed, Err(CopyError::UnterminatedQuote));
    }

    #[test]
    fn forced_columns_turn_null_around() {
        let force = |null, not_null| csv_fields("nil,\"nil\"", b'"', Force { null, not_null });
        let nil = || Some("nil".to_string());
        assert_eq!(force(false, false), Ok(vec![None, nil()]));
        assert_eq!(force(true, false), Ok(vec![None, None]));
        assert_eq!(force(false, true), Ok(vec![nil(), nil()]));
        // With both, an unquoted match becomes the string and stays it.
        assert_eq!(force(true, true), Ok(vec![nil(), None]));
    }
}
