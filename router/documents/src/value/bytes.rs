//! `bytea`, `uuid` and ObjectIds.

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, RawBsonRef};

use super::{Fault, invalid, mismatch};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// See `byteain` of PostgreSQL's `varlena.c`.
pub(super) fn parse_bytea(text: &str) -> Result<Bson, Fault> {
    match text.strip_prefix("\\x") {
        Some(digits) => parse_hex(digits),
        None => parse_escaped(text.as_bytes()),
    }
    .map(bytea)
}

/// See `hex_decode` of PostgreSQL's `encode.c`: white space may stand between bytes.
fn parse_hex(digits: &str) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    let mut rest = digits.chars();
    while let Some(high) = rest.find(|c| !matches!(c, ' ' | '\n' | '\t' | '\r')) {
        let high = hex_digit(high)?;
        let low = rest
            .next()
            .ok_or_else(|| Fault::new("22023", "invalid hexadecimal data: odd number of digits"))?;
        bytes.push(high << 4 | hex_digit(low)?);
    }
    Ok(bytes)
}

fn hex_digit(c: char) -> Result<u8, Fault> {
    nibble(c).ok_or_else(|| Fault::new("22023", format!("invalid hexadecimal digit: \"{c}\"")))
}

fn nibble(c: char) -> Option<u8> {
    c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn parse_escaped(mut rest: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::with_capacity(rest.len());
    loop {
        rest = match rest {
            [] => return Ok(bytes),
            [b'\\', b'\\', rest @ ..] => {
                bytes.push(b'\\');
                rest
            }
            [
                b'\\',
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                rest @ ..,
            ] => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest
            }
            [b'\\', ..] => return Err(Fault::new("22P02", "invalid input syntax for type bytea")),
            [byte, rest @ ..] => {
                bytes.push(*byte);
                rest
            }
        }
    }
}

/// As it is stored.
pub(super) fn bytea(bytes: Vec<u8>) -> Bson {
    Bson::Binary(Binary {
        subtype: BinarySubtype::Generic,
        bytes,
    })
}

/// Stored bytes, whatever their subtype.
pub(super) fn read_bytea(value: RawBsonRef<'_>) -> Result<&[u8], Fault> {
    match value {
        RawBsonRef::Binary(binary) => Ok(binary.bytes),
        _ => Err(mismatch(value, "Binary")),
    }
}

/// As `bytea_output = hex` has it.
pub(super) fn put_bytea(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"\\x");
    put_hex(bytes, out);
}

/// Adds two digits of lower case for each byte.
pub(super) fn put_hex(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend(
        bytes
            .iter()
            .flat_map(|byte| [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
    );
}

/// See `string_to_uuid` of PostgreSQL's `uuid.c`: braces around it and a hyphen after each two bytes are optional.
pub(super) fn parse_uuid(text: &str) -> Result<Bson, Fault> {
    let inner = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}'),
        None => Some(text),
    };
    inner
        .and_then(|digits| uuid_bytes(digits.as_bytes()))
        .map(uuid)
        .ok_or_else(|| invalid("uuid", text))
}

fn uuid_bytes(mut rest: &[u8]) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    for (place, byte) in bytes.iter_mut().enumerate() {
        let [high, low, after @ ..] = rest else {
            return None;
        };
        *byte = nibble(char::from(*high))? << 4 | nibble(char::from(*low))?;
        rest = match after {
            [b'-', after @ ..] if place % 2 == 1 && place < 15 => after,
            after => after,
        };
    }
    rest.is_empty().then_some(bytes)
}

/// As it is stored.
pub(super) fn uuid(bytes: [u8; 16]) -> Bson {
    Bson::Binary(Binary {
        subtype: BinarySubtype::Uuid,
        bytes: bytes.to_vec(),
    })
}

/// A stored UUID. Subtype 3 is refused: drivers disagree about the order of its bytes.
pub(super) fn read_uuid(value: RawBsonRef<'_>) -> Result<[u8; 16], Fault> {
    match value {
        RawBsonRef::Binary(binary) if binary.subtype == BinarySubtype::Uuid => {
            binary.bytes.try_into().ok()
        }
        _ => None,
    }
    .ok_or_else(|| mismatch(value, "Binary of subtype 4"))
}

/// In five groups of lower case.
pub(super) fn put_uuid(bytes: [u8; 16], out: &mut Vec<u8>) {
    for (place, group) in [0..4, 4..6, 6..8, 8..10, 10..16].into_iter().enumerate() {
        if place > 0 {
            out.push(b'-');
        }
        put_hex(&bytes[group], out);
    }
}

/// Exactly 24 digits; `ObjectId::parse_str` would take other lengths for other forms.
pub(super) fn parse_object_id(text: &str) -> Result<Bson, Fault> {
    (text.len() == 24)
        .then(|| ObjectId::parse_str(text).ok())
        .flatten()
        .map(Bson::ObjectId)
        .ok_or_else(|| invalid("objectid", text))
}

/// The digits of a stored ObjectId.
pub(super) fn read_object_id(value: RawBsonRef<'_>) -> Result<String, Fault> {
    match value {
        RawBsonRef::ObjectId(id) => Ok(id.to_hex()),
        _ => Err(mismatch(value, "ObjectId")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_in_both_forms() {
        for (text, bytes) in [
            ("\\x", &b""[..]),
            ("\\xDEad be\nef ", b"\xde\xad\xbe\xef"),
            ("a\\\\b\\001\\377é", b"a\\b\x01\xff\xc3\xa9"),
        ] {
            assert_eq!(parse_bytea(text), Ok(bytea(bytes.to_vec())), "{text}");
        }
        for (text, sqlstate) in [
            ("\\x1", "22023"),
            ("\\x1 2", "22023"),
            ("\\xé1", "22023"),
            ("\\400", "22P02"),
            ("\\", "22P02"),
        ] {
            assert_eq!(parse_bytea(text).unwrap_err().sqlstate, sqlstate, "{text}");
        }
        let mut out = Vec::new();
        put_bytea(b"\x00\xff", &mut out);
        assert_eq!(out, b"\\x00ff");
    }

    #[test]
    fn uuids_have_one_form_for_many() {
        let form = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        for text in [
            form,
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
        ] {
            let Ok(Bson::Binary(binary)) = parse_uuid(text) else {
                panic!("{text}");
            };
            let mut out = Vec::new();
            put_uuid(binary.bytes.try_into().unwrap(), &mut out);
            assert_eq!(out, form.as_bytes());
        }
        for text in [
            "",
            "{a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11-",
            " a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a-0eebc999c0b4ef8bb6d6bb9bd380a11",
        ] {
            assert_eq!(parse_uuid(text).unwrap_err().sqlstate, "22P02", "{text}");
        }
    }

    #[test]
    fn only_subtype_4_is_a_uuid() {
        let old = RawBsonRef::Binary(bson::RawBinaryRef {
            subtype: BinarySubtype::UuidOld,
            bytes: &[0; 16],
        });
        assert_eq!(read_uuid(old).unwrap_err().sqlstate, "42804");
        assert_eq!(read_bytea(old), Ok(&[0; 16][..]));
    }

    #[test]
    fn object_ids_have_24_digits() {
        let Ok(Bson::ObjectId(id)) = parse_object_id("65A1b2c3d4e5f60718293a4b") else {
            panic!();
        };
        let shown = read_object_id(RawBsonRef::ObjectId(id));
        assert_eq!(shown.unwrap(), "65a1b2c3d4e5f60718293a4b");
        for text in [
            "",
            "65a1b2c3d4e5f60718293a4",
            "65a1b2c3d4e5f60718293a4g",
            "abcdefghijkl",
        ] {
            assert_eq!(
                parse_object_id(text).unwrap_err().sqlstate,
                "22P02",
                "{text}"
            );
        }
    }
}
