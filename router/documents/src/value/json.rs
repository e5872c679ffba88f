//! `jsonb` of stored values, in PostgreSQL's normal form.

use bson::raw::RawDocument;
use bson::spec::BinarySubtype;
use bson::{RawBinaryRef, RawBsonRef};

use super::numeric::Number;
use super::{Fault, bytes, corrupted, mismatch, text};

/// What a binary form begins with; the rest is its text. See `jsonb_send` of PostgreSQL's `jsonb.c`.
pub(super) const VERSION: u8 = 1;
/// How deep documents may be; MongoDB's own limit for what it stores is 180.
const MAX_DEPTH: usize = 200;

/// Adds the text of a stored value of any type that JSON has something for.
pub(super) fn put(value: RawBsonRef<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    put_value(value, 0, out)
}

fn put_value(value: RawBsonRef<'_>, depth: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    if depth > MAX_DEPTH {
        return Err(too_deep());
    }
    match value {
        RawBsonRef::Null | RawBsonRef::Undefined => out.extend_from_slice(b"null"),
        RawBsonRef::Boolean(true) => out.extend_from_slice(b"true"),
        RawBsonRef::Boolean(false) => out.extend_from_slice(b"false"),
        RawBsonRef::String(string) => put_string(string, out)?,
        RawBsonRef::ObjectId(id) => put_string(&id.to_hex(), out)?,
        RawBsonRef::DateTime(time) => put_string(&iso(time), out)?,
        RawBsonRef::Binary(binary) => put_string(&words(binary)?, out)?,
        RawBsonRef::Document(document) => put_object(document, depth, out)?,
        RawBsonRef::Array(array) => {
            out.push(b'[');
            for (place, element) in array.into_iter().enumerate() {
                put_separator(place, out);
                put_value(element.map_err(corrupted)?, depth + 1, out)?;
            }
            out.push(b']');
        }
        _ => put_number(value, out)?,
    }
    Ok(())
}

/// JSON's numbers are numerics, but neither infinite nor no number.
fn put_number(value: RawBsonRef<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let number = Number::of(value).ok_or_else(|| mismatch(value, "what JSON has a type for"))?;
    let number = number.to_numeric();
    if !number.is_finite() {
        return Err(Fault::new(
            "22P02",
            format!("{number} is not a number of JSON"),
        ));
    }
    number.put_text(out);
    Ok(())
}

/// Keys are sorted by their lengths, then by their bytes; of two that are the same the last counts.
fn put_object(document: &RawDocument, depth: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut entries = Vec::new();
    for entry in document {
        let (key, value) = entry.map_err(corrupted)?;
        entries.push((key.as_str(), value));
    }
    let entries = normalized(entries);
    out.push(b'{');
    for (place, (key, value)) in entries.into_iter().enumerate() {
        put_separator(place, out);
        put_string(key, out)?;
        out.extend_from_slice(b": ");
        put_value(value, depth + 1, out)?;
    }
    out.push(b'}');
    Ok(())
}

/// The entries of an object as `jsonb` keeps them.
pub(super) fn normalized<K: AsRef<str>, V>(mut entries: Vec<(K, V)>) -> Vec<(K, V)> {
    fn order(key: &str) -> (usize, &str) {
        (key.len(), key)
    }
    // Of the same keys the last becomes the first, and is kept.
    entries.reverse();
    entries.sort_by(|(left, _), (right, _)| order(left.as_ref()).cmp(&order(right.as_ref())));
    entries.dedup_by(|(later, _), (earlier, _)| later.as_ref() == earlier.as_ref());
    entries
}

fn put_separator(place: usize, out: &mut Vec<u8>) {
    if place > 0 {
        out.extend_from_slice(b", ");
    }
}

/// See `escape_json` of PostgreSQL's `json.c`.
fn put_string(string: &str, out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut rest = text::check_text(string)?.as_bytes();
    out.push(b'"');
    while let Some(at) = rest.iter().position(|byte| is_escaped(*byte)) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\x08' => out.extend_from_slice(b"\\b"),
            b'\x0c' => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => {
                out.extend_from_slice(b"\\u00");
                bytes::put_hex(&[byte], out);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
    Ok(())
}

fn is_escaped(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | ..=0x1f)
}

/// As JavaScript's `toISOString` has it.
fn iso(time: bson::DateTime) -> String {
    let millis = time.timestamp_millis();
    let (day, millis) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    let (year, month, day) = super::time::civil_from_unix_days(day);
    let year = match year {
        0..=9999 => format!("{year:04}"),
        _ => format!("{year:+07}"),
    };
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// A UUID as such, other bytes in base 64.
fn words(binary: RawBinaryRef<'_>) -> Result<String, Fault> {
    if binary.subtype != BinarySubtype::Uuid {
        return Ok(base64(binary.bytes));
    }
    let mut uuid = Vec::with_capacity(36);
    bytes::put_uuid(bytes::read_uuid(RawBsonRef::Binary(binary))?, &mut uuid);
    Ok(String::from_utf8_lossy(&uuid).into_owned())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |place: usize| u32::from(chunk.get(place).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            text.push(match place <= chunk.len() {
                true => char::from(DIGITS[(bits >> (18 - 6 * place) & 63) as usize]),
                false => '=',
            });
        }
    }
    text
}

/// More levels than are looked at.
pub(super) fn too_deep() -> Fault {
    Fault::new("54001", "stack depth limit exceeded")
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    fn shown(document: &RawDocument) -> Result<String, Fault> {
        let mut out = Vec::new();
        put(RawBsonRef::Document(document), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn documents_are_shown_in_normal_form() {
        let decimal: bson::Decimal128 = "1.50".parse().unwrap();
        let document = rawdoc! {
            "b": [1, 2.5, decimal, 5_000_000_000_i64, 1e3],
            "aa": {"z": true, "": "q\"\\\n\u{1}\u{7f}é"},
            "a": 1,
            "a": {},
            "c": [],
        };
        assert_eq!(
            shown(&document).unwrap(),
            r#"{"a": {}, "b": [1, 2.5, 1.50, 5000000000, 1000], "c": [], "aa": {"": "q\"\\\n\u0001"#
                .to_owned() + "\u{7f}é\", \"z\": true}}"
        );
    }

    #[test]
    fn types_that_json_has_not_are_strings_or_errors() {
        let id = bson::oid::ObjectId::from_bytes([0xab; 12]);
        let uuid = bson::Binary {
            subtype: BinarySubtype::Uuid,
            bytes: vec![1; 16],
        };
        let bytes = |bytes: &[u8]| bson::Binary {
            subtype: BinarySubtype::Generic,
            bytes: bytes.to_vec(),
        };
        let document = rawdoc! {
            "1": id,
            "2": uuid,
            "3": [bytes(b""), bytes(b"a"), bytes(b"ab"), bytes(b"abc")],
            "4": bson::DateTime::from_millis(1_577_836_800_000),
            "5": bson::DateTime::from_millis(-62_198_755_200_001),
        };
        assert_eq!(
            shown(&document).unwrap(),
            "{\"1\": \"abababababababababababab\", \"2\": \"01010101-0101-0101-0101-010101010101\", \
             \"3\": [\"\", \"YQ==\", \"YWI=\", \"YWJj\"], \"4\": \"2020-01-01T00:00:00.000Z\", \
             \"5\": \"-000002-12-31T23:59:59.999Z\"}"
        );
        assert_eq!(
            shown(&rawdoc! {"a": f64::NAN}).unwrap_err().sqlstate,
            "22P02"
        );
        assert_eq!(shown(&rawdoc! {"a": "\0"}).unwrap_err().sqlstate, "22021");
        let time = bson::Timestamp {
            time: 1,
            increment: 1,
        };
        assert_eq!(shown(&rawdoc! {"a": time}).unwrap_err().sqlstate, "42804");
    }
}
