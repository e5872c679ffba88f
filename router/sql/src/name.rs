//! Identifiers and string constants with their escapes taken out.
//!
//! Follows PostgreSQL's `downcase_truncate_identifier` and chapter 4.1 of the
//! manual. A [`Name`] borrows from the statement where nothing had to change, and
//! is bytes, because the client's encoding need not be UTF-8. In single-byte
//! encodings PostgreSQL may also fold letters above ASCII; we fold ASCII only.

use std::borrow::Cow;
use std::fmt;

use super::lexer::{Kind, Lexer, Token};

/// `NAMEDATALEN - 1`: the bytes that PostgreSQL keeps of an identifier.
pub const NAME_LIMIT: usize = 63;

/// An identifier or a value as PostgreSQL sees it, after folding and unquoting.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name<'a>(pub Cow<'a, [u8]>);

impl Name<'_> {
    /// The bytes, in the client's encoding.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name as text, if it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The same name, owning its bytes.
    pub fn into_owned(self) -> Name<'static> {
        Name(Cow::Owned(self.0.into_owned()))
    }

    /// The name with ASCII letters in lower case, as setting names are compared.
    pub fn folded(self) -> Self {
        if self.0.iter().any(u8::is_ascii_uppercase) {
            Name(Cow::Owned(self.0.to_ascii_lowercase()))
        } else {
            self
        }
    }
}

impl<'a> From<&'a str> for Name<'a> {
    fn from(text: &'a str) -> Self {
        Name(Cow::Borrowed(text.as_bytes()))
    }
}

impl PartialEq<str> for Name<'_> {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other.as_bytes()
    }
}

impl PartialEq<&str> for Name<'_> {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == *other.as_bytes()
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// The name that an identifier token stands for. `escape` is the character of a
/// following `UESCAPE`, else `\`. `None` for other tokens and broken escapes.
pub fn identifier<'a>(token: Token, sql: &'a [u8], escape: u8) -> Option<Name<'a>> {
    let text = token.text(sql);
    let name = match token.kind {
        Kind::Word if text.iter().any(u8::is_ascii_uppercase) => {
            Cow::Owned(text.to_ascii_lowercase())
        }
        Kind::Word => Cow::Borrowed(text),
        Kind::QuotedIdent => undouble(inside(text, 1)?, b'"'),
        Kind::UnicodeIdent => Cow::Owned(unicode(&undouble(inside(text, 3)?, b'"'), escape)?),
        _ => return None,
    };
    if name.is_empty() {
        None
    } else {
        Some(Name(truncate(name)))
    }
}

/// The name that `U&"..."` stands for, and the byte behind it and behind the UESCAPE that may follow. `None` for other
/// tokens and broken escapes.
pub fn unicode_identifier<'a>(token: Token, sql: &'a [u8]) -> Option<(Name<'a>, usize)> {
    if token.kind != Kind::UnicodeIdent {
        return None;
    }
    let (escape, end) = match uescape(token.end, sql) {
        Some(found) => found?,
        None => (b'\\', token.end),
    };
    Some((identifier(token, sql, escape)?, end))
}

/// The value of a character string constant, and where it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constant<'a> {
    /// The value.
    pub value: Cow<'a, [u8]>,
    /// The byte behind the constant, and behind its UESCAPE if it has one.
    pub end: usize,
}

/// The value of the character string constant that begins with `token`, in any of its forms. `None` for other tokens and
/// for what PostgreSQL refuses. This is the one place where a client's string is decoded: what is compared with a name,
/// a value or a word of ours has to come from here.
pub fn string<'a>(
    token: Token,
    sql: &'a [u8],
    standard_conforming_strings: bool,
) -> Option<Constant<'a>> {
    let text = token.text(sql);
    let (open, escapes) = match token.kind {
        Kind::String => (1, !standard_conforming_strings),
        Kind::NationalString => (2, !standard_conforming_strings),
        Kind::EscapeString => (2, true),
        Kind::DollarString => {
            let value = Cow::Borrowed(dollar_body(text)?);
            return Some(Constant {
                value,
                end: token.end,
            });
        }
        Kind::UnicodeString => return unicode_string(token, sql, standard_conforming_strings),
        _ => return None,
    };
    let body = inside(text, open)?;
    let is_plain = !body.iter().any(|&b| b == b'\'' || (escapes && b == b'\\'));
    let value = match is_plain {
        true => Cow::Borrowed(body),
        false => Cow::Owned(unescape(body, escapes)?),
    };
    Some(Constant {
        value,
        end: token.end,
    })
}

/// `U&'...'` with the UESCAPE that may follow. PostgreSQL refuses it where backslashes escape in plain strings.
fn unicode_string<'a>(
    token: Token,
    sql: &'a [u8],
    standard_conforming_strings: bool,
) -> Option<Constant<'a>> {
    if !standard_conforming_strings {
        return None;
    }
    let (escape, end) = match uescape(token.end, sql) {
        Some(found) => found?,
        None => (b'\\', token.end),
    };
    let body = unescape(inside(token.text(sql), 3)?, false)?;
    let value = Cow::Owned(unicode(&body, escape)?);
    Some(Constant { value, end })
}

/// The escape character of a UESCAPE at `from` and where it ends. `None`: there is none; `Some(None)`: a broken one.
#[allow(clippy::option_option)]
fn uescape(from: usize, sql: &[u8]) -> Option<Option<(u8, usize)>> {
    let rest = &sql[from..];
    let mut tokens = Lexer::new(rest, true);
    let word = tokens.next()?;
    let is_there = word.kind == Kind::Word && word.text(rest).eq_ignore_ascii_case(b"uescape");
    if !is_there {
        return None;
    }
    Some(tokens.next().and_then(|token| {
        let given = match token.kind {
            // It would stand for itself.
            Kind::UnicodeString => None,
            _ => string(token, rest, true),
        };
        match *given?.value {
            [one] if is_escape(one) => Some((one, from + token.end)),
            _ => None,
        }
    }))
}

/// PostgreSQL's `check_uescapechar`.
fn is_escape(byte: u8) -> bool {
    let is_reserved = matches!(
        byte,
        b'+' | b'\'' | b'"' | b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c
    );
    !byte.is_ascii_hexdigit() && !is_reserved
}

/// The values of all character string constants of a text. What is not certain is an error, not nothing.
pub fn strings(
    sql: &[u8],
    standard_conforming_strings: bool,
) -> Result<Vec<Cow<'_, [u8]>>, Unread> {
    let mut found = Vec::new();
    for token in Lexer::new(sql, standard_conforming_strings) {
        match token.kind {
            kind if kind.is_string() => {
                let constant = string(token, sql, standard_conforming_strings).ok_or(Unread)?;
                found.push(constant.value);
            }
            Kind::Unterminated => return Err(Unread),
            _ => {}
        }
    }
    Ok(found)
}

/// A text has a string of which the value is not certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unread;

fn dollar_body(text: &[u8]) -> Option<&[u8]> {
    let delimiter = 2 + text.get(1..)?.iter().position(|&b| b == b'$')?;
    text.get(delimiter..text.len().checked_sub(delimiter)?)
}

/// Without `open` bytes in front and one behind.
fn inside(text: &[u8], open: usize) -> Option<&[u8]> {
    text.get(open..text.len().checked_sub(1)?)
}

fn undouble(body: &[u8], quote: u8) -> Cow<'_, [u8]> {
    if !body.contains(&quote) {
        return Cow::Borrowed(body);
    }
    let mut out = Vec::with_capacity(body.len());
    let mut bytes = body.iter();
    while let Some(&b) = bytes.next() {
        out.push(b);
        if b == quote {
            bytes.next();
        }
    }
    Cow::Owned(out)
}

/// Takes out doubled quotes, continuations on following lines and, if `escapes`, backslashes.
fn unescape(body: &[u8], escapes: bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(body.len());
    let mut at = 0;
    while at < body.len() {
        match body[at] {
            b'\'' if body.get(at + 1) == Some(&b'\'') => {
                out.push(b'\'');
                at += 2;
            }
            b'\'' => at = reopened(body, at + 1)?,
            b'\\' if escapes => at += escape(&body[at..], &mut out)?,
            b => {
                out.push(b);
                at += 1;
            }
        }
    }
    Some(out)
}

/// After a closing quote inside a constant: the position after the quote that reopens it.
fn reopened(body: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while *body.get(at)? != b'\'' {
        if body[at..].starts_with(b"--") {
            at += body[at..].iter().position(|b| matches!(b, b'\n' | b'\r'))?;
        }
        at += 1;
    }
    Some(at + 1)
}

/// Decodes one backslash escape of an `E''` string; returns how many bytes it took.
fn escape(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let number = |from: usize, most: usize, radix: u32| {
        let digits = text[from..]
            .iter()
            .take(most)
            .take_while(|b| (**b as char).is_digit(radix))
            .count();
        let written = std::str::from_utf8(&text[from..from + digits]).ok()?;
        Some((u32::from_str_radix(written, radix).ok()?, digits))
    };
    let simple = match *text.get(1)? {
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'0'..=b'7' => {
            let (value, digits) = number(1, 3, 8)?;
            out.push((value & 0xff) as u8);
            return Some(1 + digits);
        }
        b'x' if text.get(2).is_some_and(u8::is_ascii_hexdigit) => {
            let (value, digits) = number(2, 2, 16)?;
            out.push(value as u8);
            return Some(2 + digits);
        }
        kind @ (b'u' | b'U') => {
            let wanted = if kind == b'u' { 4 } else { 8 };
            let (value, digits) = number(2, wanted, 16)?;
            if digits != wanted {
                return None;
            }
            return match Half::of(value) {
                Some(Half::First) => {
                    let second = text.get(2 + digits..)?;
                    let (pair, taken) = second_of_pair(second)?;
                    push_char(out, whole(value, pair)?)?;
                    Some(2 + digits + taken)
                }
                Some(Half::Second) => None,
                None => {
                    push_char(out, value)?;
                    Some(2 + digits)
                }
            };
        }
        other => other,
    };
    out.push(simple);
    Some(2)
}

/// The halves of which UTF-16 makes one character.
enum Half {
    First,
    Second,
}

impl Half {
    fn of(code: u32) -> Option<Half> {
        match code {
            0xd800..=0xdbff => Some(Half::First),
            0xdc00..=0xdfff => Some(Half::Second),
            _ => None,
        }
    }
}

fn whole(first: u32, second: u32) -> Option<u32> {
    let is_pair = matches!(Half::of(first), Some(Half::First))
        && matches!(Half::of(second), Some(Half::Second));
    is_pair.then(|| 0x1_0000 + ((first & 0x3ff) << 10) + (second & 0x3ff))
}

/// The escape `\uXXXX` or `\UXXXXXXXX` at the beginning of a text, and how many bytes it has.
fn second_of_pair(text: &[u8]) -> Option<(u32, usize)> {
    let digits = match text.get(..2)? {
        b"\\u" => 4,
        b"\\U" => 8,
        _ => return None,
    };
    Some((hex(text.get(2..2 + digits)?)?, 2 + digits))
}

fn hex(digits: &[u8]) -> Option<u32> {
    let all = digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| all)?;
    u32::from_str_radix(text, 16).ok()
}

/// Decodes `\0061` and `\+000061` of `U&""` and `U&''`.
fn unicode(body: &[u8], escape: u8) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(body.len());
    let mut at = 0;
    let mut first = None;
    while let Some(&b) = body.get(at) {
        if b != escape {
            // The second half of a pair must follow at once.
            if first.is_some() {
                return None;
            }
            out.push(b);
            at += 1;
            continue;
        }
        let (from, digits) = match body.get(at + 1)? {
            b if *b == escape => {
                if first.is_some() {
                    return None;
                }
                out.push(escape);
                at += 2;
                continue;
            }
            b'+' => (at + 2, 6),
            _ => (at + 1, 4),
        };
        let code = hex(body.get(from..from + digits)?)?;
        at = from + digits;
        match (first.take(), Half::of(code)) {
            (None, Some(Half::First)) => first = Some(code),
            (None, None) => push_char(&mut out, code)?,
            (Some(before), Some(Half::Second)) => push_char(&mut out, whole(before, code)?)?,
            (None, Some(Half::Second)) | (Some(_), _) => return None,
        }
    }
    first.is_none().then_some(out)
}

fn push_char(out: &mut Vec<u8>, code: u32) -> Option<()> {
    let c = char::from_u32(code).filter(|c| *c != '\0')?;
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    Some(())
}

/// Cuts at 63 bytes, before a UTF-8 character that would be cut in two.
fn truncate(name: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    if name.len() <= NAME_LIMIT {
        return name;
    }
    let mut end = NAME_LIMIT;
    if std::str::from_utf8(&name).is_ok() {
        while name[end] & 0xc0 == 0x80 {
            end -= 1;
        }
    }
    match name {
        Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[..end]),
        Cow::Owned(mut bytes) => {
            bytes.truncate(end);
            Cow::Owned(bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexer::Lexer;

    fn first_string(sql: &str, conforming: bool) -> Option<String> {
        let token = Lexer::new(sql.as_bytes(), conforming).next()?;
        let constant = string(token, sql.as_bytes(), conforming)?;
        assert_eq!(constant.end, sql.len(), "{sql}");
        Some(String::from_utf8_lossy(&constant.value).into_owned())
    }

    fn first_name(sql: &str) -> Option<String> {
        let token = Lexer::new(sql.as_bytes(), true).next()?;
        identifier(token, sql.as_bytes(), b'\\').map(|n| n.to_string())
    }

    #[test]
    fn strings_lose_their_escapes() {
        let cases = [
            ("'it''s'", true, "it's"),
            (r"'a\n'", true, r"a\n"),
            (r"'a\''''", false, "a''"),
            (r"E'\'\\\x41\101\u0042\U00000043\t'", true, "'\\AABC\t"),
            ("'a' \n 'b'", true, "ab"),
            ("'a' -- it's\n -- x\n 'b'", true, "ab"),
            ("E'a'\n'\\x62'", true, "ab"),
            ("$$a'b$$", true, "a'b"),
            ("$x$a$$b$x$", true, "a$$b"),
            ("n'x'", true, "x"),
            ("''", true, ""),
            (r"U&'d\0061t\+000061'", true, "data"),
            (r"u&'\\ it''s'", true, r"\ it's"),
            (r"U&'!0061\' UESCAPE '!'", true, r"a\"),
            ("U&'#0061' /* x */ uescape\nE'\\x23'", true, "a"),
            ("U&'\\00'\n'61b'", true, "ab"),
            (r"U&'\d83d\de00'", true, "😀"),
            (r"E'\ud83d\ude00'", true, "😀"),
            (r"E'\ud83d\U0000de00'", true, "😀"),
        ];
        for (sql, conforming, want) in cases {
            assert_eq!(
                first_string(sql, conforming).as_deref(),
                Some(want),
                "{sql}"
            );
        }
        for broken in [
            r"E'\u12'",
            r"E'\ud83d'",
            r"E'\ude00'",
            r"U&'\d83d'",
            r"U&'\d83dx\de00'",
            r"U&'\006'",
            r"U&'a' UESCAPE 'f'",
            r"U&'a' UESCAPE '+'",
            r"U&'a' UESCAPE 'no'",
            r"U&'a' UESCAPE",
            "x'1F'",
            "b'1'",
        ] {
            assert_eq!(first_string(broken, true), None, "{broken}");
        }
        // PostgreSQL refuses it there: a backslash might be meant as one of either.
        assert_eq!(first_string("U&'a'", false), None);
    }

    #[test]
    fn identifiers_fold_ascii_only_and_end_at_63_bytes() {
        let long = "a".repeat(62) + "é";
        let cases = [
            ("FooBar", "foobar"),
            ("\"FooBar\"", "FooBar"),
            ("\"a\"\"b\"", "a\"b"),
            ("ÄB", "Äb"),
            (r#"U&"d\0061t\+000061""#, "data"),
            (r#"u&"\\x""#, r"\x"),
            (long.as_str(), &long[..62]),
        ];
        for (sql, want) in cases {
            assert_eq!(first_name(sql).as_deref(), Some(want), "{sql}");
        }
        for broken in ["\"\"", r#"U&"\00""#, "'x'", "1"] {
            assert_eq!(first_name(broken), None, "{broken}");
        }
    }
}
