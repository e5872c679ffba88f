//! Turns PostgreSQL's arrays, in text and in binary format, into BSON's and back. Only PostgreSQL's arrays of one
//! dimension whose subscripts begin with 1 can be stored in BSON. All others are refused, and so is a text that gives
//! its subscripts (`[1:2]={a,b}`).

use bson::raw::RawArray;
use bson::{Bson, RawBsonRef};

use super::wire::{take, take_slice, too_long};
use super::{Fault, Forms, Kind, corrupted, is_null, is_space, mismatch};

/// Object ids below this number are the same in every installation. See `FirstGenbkiObjectId` in PostgreSQL's
/// `transam.h`.
const FIRST_OWN_OID: u32 = 10_000;
/// The types that an error message can name.
const NAMES: [&str; 14] = [
    "bool",
    "int2",
    "int4",
    "int8",
    "float4",
    "float8",
    "numeric",
    "text",
    "uuid",
    "bytea",
    "timestamptz",
    "timestamp",
    "date",
    "jsonb",
];

/// Reads an array in text format. See `array_in` in PostgreSQL's `arrayfuncs.c`.
pub(super) fn from_text(element: &Kind, text: &str, forms: &Forms) -> Result<Bson, Fault> {
    let literal = text.trim_start_matches(is_space);
    let elements = Rest(literal).elements().map_err(|unread| match unread {
        Unread::NoArray => malformed(
            text,
            "Array value must start with \"{\" or dimension information.",
        ),
        Unread::Malformed(detail) => malformed(literal, detail),
        Unread::Unknown(what) => unsupported(what),
    })?;
    let values = elements.iter().map(|text| match text {
        Some(text) => super::from_text(element, text, forms),
        None => Ok(Bson::Null),
    });
    Ok(Bson::Array(values.collect::<Result<_, _>>()?))
}

fn malformed(text: &str, detail: &str) -> Fault {
    Fault::new("22P02", format!("malformed array literal: \"{text}\"")).detail(detail)
}

fn unsupported(what: &str) -> Fault {
    Fault::new(
        "0A000",
        format!("{what} are not supported for tables on MongoDB"),
    )
}

/// Why a text cannot be read as an array.
enum Unread {
    /// It does not begin like an array.
    NoArray,
    /// It begins like an array, but has an error.
    Malformed(&'static str),
    /// It is an array of a kind that is not stored.
    Unknown(&'static str),
}

const ENDED: Unread = Unread::Malformed("Unexpected end of input.");

/// The part of a text that has not been read yet.
struct Rest<'a>(&'a str);

impl Rest<'_> {
    /// The texts of the elements; `None` for NULL.
    fn elements(mut self) -> Result<Vec<Option<String>>, Unread> {
        if self.0.starts_with('[') {
            return Err(Unread::Unknown("arrays with explicit subscripts"));
        }
        if !self.eat('{') {
            return Err(Unread::NoArray);
        }
        let mut elements = Vec::new();
        self.skip_space();
        if !self.eat('}') {
            loop {
                elements.push(self.element()?);
                if self.eat('}') {
                    break;
                }
                if !self.eat(',') {
                    return Err(self.unexpected());
                }
            }
        }
        self.skip_space();
        match self.0 {
            "" => Ok(elements),
            _ => Err(Unread::Malformed("Junk after closing right brace.")),
        }
    }

    fn element(&mut self) -> Result<Option<String>, Unread> {
        self.skip_space();
        match self.0.chars().next() {
            Some('{') => Err(Unread::Unknown("arrays of arrays")),
            Some('"') => self.quoted().map(Some),
            None | Some('}' | ',') => Err(self.unexpected()),
            Some(_) => self.unquoted(),
        }
    }

    fn quoted(&mut self) -> Result<String, Unread> {
        let mut element = String::new();
        let mut chars = self.0[1..].chars();
        loop {
            match chars.next() {
                None => return Err(ENDED),
                Some('"') => break,
                Some('\\') => element.push(chars.next().ok_or(ENDED)?),
                Some(c) => element.push(c),
            }
        }
        self.0 = chars.as_str();
        self.skip_space();
        Ok(element)
    }

    /// Reads an element without quotes. Spaces at its end are dropped, unless a backslash stands before them.
    fn unquoted(&mut self) -> Result<Option<String>, Unread> {
        let mut element = String::new();
        let (mut kept, mut escaped) = (0, false);
        let mut chars = self.0.chars();
        loop {
            let before = chars.as_str();
            match chars.next() {
                None => return Err(ENDED),
                Some(',' | '}') => {
                    self.0 = before;
                    break;
                }
                Some('"' | '{') => return Err(Unread::Malformed("Unexpected array element.")),
                Some('\\') => {
                    element.push(chars.next().ok_or(ENDED)?);
                    (kept, escaped) = (element.len(), true);
                }
                Some(c) => {
                    element.push(c);
                    if !is_space(c) {
                        kept = element.len();
                    }
                }
            }
        }
        element.truncate(kept);
        Ok((escaped || !element.eq_ignore_ascii_case("null")).then_some(element))
    }

    fn unexpected(&self) -> Unread {
        Unread::Malformed(match self.0.chars().next() {
            None => return ENDED,
            Some(',') => "Unexpected \",\" character.",
            Some('}') => "Unexpected \"}\" character.",
            Some(_) => "Unexpected array element.",
        })
    }

    fn eat(&mut self, c: char) -> bool {
        match self.0.strip_prefix(c) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn skip_space(&mut self) {
        self.0 = self.0.trim_start_matches(is_space);
    }
}

/// Reads an array in binary format. See `array_recv` in PostgreSQL's `arrayfuncs.c`.
pub(super) fn from_binary(element: &Kind, mut bytes: &[u8]) -> Result<Bson, Fault> {
    let dimensions = i32::from_be_bytes(take(&mut bytes)?);
    let flags = i32::from_be_bytes(take(&mut bytes)?);
    let oid = u32::from_be_bytes(take(&mut bytes)?);
    match dimensions {
        ..0 => {
            return Err(invalid_form(format!(
                "invalid number of dimensions: {dimensions}"
            )));
        }
        0 | 1 => {}
        _ => return Err(unsupported("arrays of arrays")),
    }
    if !matches!(flags, 0 | 1) {
        return Err(invalid_form("invalid array flags"));
    }
    check_element(element, oid)?;
    let mut values = Vec::new();
    if dimensions == 1 {
        let length = u32::from_be_bytes(take(&mut bytes)?);
        if i32::from_be_bytes(take(&mut bytes)?) != 1 && length > 0 {
            return Err(unsupported("arrays whose subscripts do not begin with 1"));
        }
        for place in 1..=length {
            values.push(element_from_binary(element, &mut bytes, place)?);
        }
    }
    match bytes {
        [] => Ok(Bson::Array(values)),
        _ => Err(too_long()),
    }
}

fn invalid_form(message: impl Into<String>) -> Fault {
    Fault::new("22P03", message)
}

/// Refuses an array of another element type. Only object ids of PostgreSQL's own types are compared: all others may
/// differ between installations.
fn check_element(element: &Kind, sent: u32) -> Result<(), Fault> {
    if sent == element.oid() || sent >= FIRST_OWN_OID {
        return Ok(());
    }
    let name = NAMES.iter().filter_map(|name| Kind::from_name(name));
    let name = name
        .filter(|kind| kind.oid() == sent)
        .map(|kind| kind.sql_name())
        .next()
        .unwrap_or_else(|| "???".to_owned());
    Err(Fault::new(
        "42804",
        format!(
            "binary data has array element type {sent} ({name}) instead of expected {} ({})",
            element.oid(),
            element.sql_name()
        ),
    ))
}

fn element_from_binary(element: &Kind, bytes: &mut &[u8], place: u32) -> Result<Bson, Fault> {
    let length = i32::from_be_bytes(take(bytes)?);
    if length == -1 {
        return Ok(Bson::Null);
    }
    let value = usize::try_from(length)
        .ok()
        .and_then(|length| take_slice(bytes, length))
        .ok_or_else(|| invalid_form("insufficient data left in message"))?;
    super::from_binary(element, value).map_err(|fault| {
        if fault != too_long() {
            return fault;
        }
        invalid_form(format!("improper binary format in array element {place}"))
    })
}

fn read(value: RawBsonRef<'_>) -> Result<&RawArray, Fault> {
    value.as_array().ok_or_else(|| mismatch(value, "Array"))
}

/// Writes an array in text format. See `array_out` in PostgreSQL's `arrayfuncs.c`.
pub(super) fn put_text(
    element: &Kind,
    value: RawBsonRef<'_>,
    forms: &Forms,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let mut text = Vec::new();
    out.push(b'{');
    for (place, value) in read(value)?.into_iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        text.clear();
        match super::put_text(element, value.map_err(corrupted)?, forms, &mut text)? {
            true => put_element(&text, out),
            false => out.extend_from_slice(b"NULL"),
        }
    }
    out.push(b'}');
    Ok(())
}

fn put_element(text: &[u8], out: &mut Vec<u8>) {
    let special = |byte: &u8| b"\"\\{}, \t\n\x0b\x0c\r".contains(byte);
    let quoted = text.is_empty() || text.eq_ignore_ascii_case(b"null") || text.iter().any(special);
    if !quoted {
        return out.extend_from_slice(text);
    }
    out.push(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// Writes an array in binary format. An empty array has no dimension. See `array_send` in PostgreSQL's `arrayfuncs.c`.
pub(super) fn put_binary(
    element: &Kind,
    value: RawBsonRef<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let values: Vec<RawBsonRef<'_>> = read(value)?
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(corrupted)?;
    // The length fits: a BSON document has less than 2 GiB.
    let length = i32::try_from(values.len()).unwrap_or(i32::MAX);
    let has_null = values.iter().any(|value| is_null(*value));
    put_int(length.min(1), out);
    put_int(has_null.into(), out);
    out.extend_from_slice(&element.oid().to_be_bytes());
    if length > 0 {
        put_int(length, out);
        put_int(1, out);
    }
    for value in values {
        put_binary_element(element, value, out)?;
    }
    Ok(())
}

fn put_binary_element(
    element: &Kind,
    value: RawBsonRef<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let start = out.len();
    put_int(-1, out);
    if super::put_binary(element, value, out)? {
        let length = i32::try_from(out.len() - start - 4).unwrap_or(i32::MAX);
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

fn put_int(number: i32, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use bson::{RawBson, RawDocumentBuf, rawdoc};

    use super::*;

    fn elements(literal: &str) -> Result<Bson, Fault> {
        from_text(&Kind::Text, literal, &Forms::default())
    }

    fn text_of(document: &RawDocumentBuf) -> String {
        let value = document.get("v").unwrap().unwrap();
        let mut out = Vec::new();
        put_text(&Kind::Text, value, &Forms::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn literals_are_read_as_postgresql_reads_them() {
        let strings = |values: &[Option<&str>]| {
            let value = |text: &Option<&str>| text.map_or(Bson::Null, Bson::from);
            Bson::Array(values.iter().map(value).collect())
        };
        for (literal, values) in [
            ("{}", &[][..]),
            (" { } ", &[]),
            ("{a,b c , d}", &[Some("a"), Some("b c"), Some("d")]),
            (
                "{NULL,null,\"NULL\",N\\ULL}",
                &[None, None, Some("NULL"), Some("NULL")],
            ),
            (
                "{\"\",\"a\\\"b\" ,a\\ }",
                &[Some(""), Some("a\"b"), Some("a ")],
            ),
        ] {
            assert_eq!(elements(literal), Ok(strings(values)), "{literal}");
        }
        for literal in [
            "", "a", "{", "{a", "{,}", "{a,}", "{a}b", "{a\"b\"}", "{\"a\"b}", "{\\",
        ] {
            assert_eq!(
                elements(literal).unwrap_err().sqlstate,
                "22P02",
                "{literal}"
            );
        }
        for literal in ["[0:1]={a,b}", "{{a},{b}}"] {
            assert_eq!(
                elements(literal).unwrap_err().sqlstate,
                "0A000",
                "{literal}"
            );
        }
    }

    #[test]
    fn elements_are_quoted_only_where_they_must_be() {
        let array = rawdoc! {"v": ["a", "", "NULL", "x y", "q\"", "b\\c", RawBson::Null, "{", "é"]};
        assert_eq!(
            text_of(&array),
            r#"{a,"","NULL","x y","q\"","b\\c",NULL,"{",é}"#
        );
        assert_eq!(text_of(&rawdoc! {"v": []}), "{}");
    }

    #[test]
    fn binary_forms_have_one_dimension_or_none() {
        for (array, form) in [
            (
                rawdoc! {"v": [1, RawBson::Null]},
                &b"\0\0\0\x01\0\0\0\x01\0\0\0\x17\0\0\0\x02\0\0\0\x01\0\0\0\x04\0\0\0\x01\xff\xff\xff\xff"[..],
            ),
            (rawdoc! {"v": []}, b"\0\0\0\0\0\0\0\0\0\0\0\x17"),
        ] {
            let mut out = Vec::new();
            let value = array.get("v").unwrap().unwrap();
            put_binary(&Kind::Int4, value, &mut out).unwrap();
            assert_eq!(out, form);
            let back = from_binary(&Kind::Int4, form).unwrap();
            assert_eq!(back, Bson::try_from(value).unwrap());
        }
        let refused = |form: &[u8]| from_binary(&Kind::Int4, form).unwrap_err().sqlstate;
        assert_eq!(refused(b"\0\0\0\x02\0\0\0\0\0\0\0\x17"), "0A000");
        assert_eq!(refused(b"\0\0\0\0\0\0\0\0\0\0\0\x19"), "42804");
        assert_eq!(refused(b"\0\0\0\0"), "08P01");
    }
}
