//! PostgreSQL's values as BSON, and back.
//!
//! In come texts and binary forms as clients send them, out goes what MongoDB stores; and the other way, byte for byte
//! as PostgreSQL 15 writes the value. One file for each family of types. What one side has and the other has not
//! (infinite times, microseconds, more than 34 digits, JSON's own null) is a [`Fault`], never another value.
//!
//! Absent: what names a column. A caller adds to a fault where the value was found.

mod array;
mod assign;
mod bytes;
mod float;
mod integer;
mod json;
mod json_input;
mod numeric;
mod text;
mod time;
mod time_input;
mod wire;

use bson::{Bson, RawBsonRef};
use jiff::tz::TimeZone;

use super::fault::Fault;
use super::table::{Kind, Precision};

pub use assign::assign;
pub use time::Micros;

/// What settings of a session say of texts. Of the others only PostgreSQL's defaults are known: `DateStyle` is ISO with
/// months before days, `bytea_output` is hex. A caller refuses a session that has set them otherwise.
#[derive(Clone, Debug)]
pub struct Forms {
    /// `TimeZone`.
    pub zone: TimeZone,
    /// `extra_float_digits`; any value below 1 is refused, and all above it are the same to PostgreSQL.
    pub extra_float_digits: i32,
}

impl Default for Forms {
    fn default() -> Forms {
        Forms {
            zone: TimeZone::UTC,
            extra_float_digits: 1,
        }
    }
}

/// The value of a type's text, in any form that PostgreSQL reads.
///
/// Of times only ISO forms are understood; they are rounded if the type says so. The length of a `varchar(n)` is not looked at: [`assign`] does.
pub fn from_text(kind: &Kind, text: &str, forms: &Forms) -> Result<Bson, Fault> {
    text::check_text(text)?;
    Ok(match kind {
        Kind::Bool => Bson::Boolean(integer::parse_bool(text)?),
        Kind::Int2 => Bson::Int32(integer::parse::<i16>(text)?.into()),
        Kind::Int4 => Bson::Int32(integer::parse(text)?),
        Kind::Int8 => Bson::Int64(integer::parse(text)?),
        Kind::Float4 => Bson::Double(float::parse_real(text)?.into()),
        Kind::Float8 => Bson::Double(float::parse_double(text)?),
        Kind::Numeric => numeric::parse(text)?.to_bson(),
        Kind::Text | Kind::Varchar(_) => Bson::String(text.to_owned()),
        Kind::Uuid => bytes::parse_uuid(text)?,
        Kind::Bytea => bytes::parse_bytea(text)?,
        Kind::Timestamptz(precision) | Kind::Timestamp(precision) => {
            let time = micros_from_text(kind, text, forms)?;
            Bson::DateTime(time.stored(*precision)?)
        }
        Kind::Date => Bson::DateTime(time_input::date(text)?),
        Kind::Jsonb => json_input::parse(text)?,
        Kind::ObjectId => bytes::parse_object_id(text)?,
        Kind::Array(element) => array::from_text(element, text, forms)?,
    })
}

/// Whether a text in place of a time is in one of the forms that are read here, or in none of PostgreSQL's.
pub fn is_understood(kind: &Kind, text: &str) -> bool {
    time_input::is_understood(kind, text)
}

/// Bytes as a text.
///
/// # Errors
/// PostgreSQL would not take them for one.
pub fn utf8(bytes: &[u8]) -> Result<&str, Fault> {
    text::check(bytes)
}

/// The value of a type's binary form.
pub fn from_binary(kind: &Kind, bytes: &[u8]) -> Result<Bson, Fault> {
    Ok(match kind {
        Kind::Bool => Bson::Boolean(integer::bool_from_binary(bytes)?),
        Kind::Int2 => Bson::Int32(i16::from_be_bytes(wire::fixed(bytes)?).into()),
        Kind::Int4 => Bson::Int32(i32::from_be_bytes(wire::fixed(bytes)?)),
        Kind::Int8 => Bson::Int64(i64::from_be_bytes(wire::fixed(bytes)?)),
        Kind::Float4 => Bson::Double(f32::from_be_bytes(wire::fixed(bytes)?).into()),
        Kind::Float8 => Bson::Double(f64::from_be_bytes(wire::fixed(bytes)?)),
        Kind::Numeric => numeric::from_binary(bytes)?.to_bson(),
        Kind::Text | Kind::Varchar(_) => Bson::String(text::check(bytes)?.to_owned()),
        Kind::Uuid => bytes::uuid(wire::fixed(bytes)?),
        Kind::Bytea => bytes::bytea(bytes.to_vec()),
        Kind::Timestamptz(precision) | Kind::Timestamp(precision) => {
            let time = micros_from_binary(kind, bytes)?;
            Bson::DateTime(time.stored(*precision)?)
        }
        Kind::Date => time::date_from_binary(bytes)?,
        Kind::Jsonb => json_input::from_binary(bytes)?,
        Kind::ObjectId => bytes::parse_object_id(text::check(bytes)?)?,
        Kind::Array(element) => array::from_binary(element, bytes)?,
    })
}

/// The time that a text says, to the microsecond: what a comparison with it needs, even where it cannot be stored.
/// Only of `timestamptz` and `timestamp`.
pub fn micros_from_text(kind: &Kind, text: &str, forms: &Forms) -> Result<Micros, Fault> {
    debug_assert!(matches!(kind, Kind::Timestamptz(_) | Kind::Timestamp(_)));
    text::check_text(text)?;
    time_input::timestamp(kind, text, &forms.zone)
}

/// The same of a binary form.
pub fn micros_from_binary(kind: &Kind, bytes: &[u8]) -> Result<Micros, Fault> {
    debug_assert!(matches!(kind, Kind::Timestamptz(_) | Kind::Timestamp(_)));
    Micros::checked(i64::from_be_bytes(wire::fixed(bytes)?))
}

/// Adds the text of a stored value; false if it is NULL, which has none.
pub fn put_text(
    kind: &Kind,
    value: RawBsonRef<'_>,
    forms: &Forms,
    out: &mut Vec<u8>,
) -> Result<bool, Fault> {
    if is_null(value) {
        return Ok(false);
    }
    match kind {
        Kind::Bool => out.push(if integer::read_bool(value)? {
            b't'
        } else {
            b'f'
        }),
        Kind::Int2 => wire::put_integer(integer::read::<i16>(value)?, out),
        Kind::Int4 => wire::put_integer(integer::read::<i32>(value)?, out),
        Kind::Int8 => wire::put_integer(integer::read::<i64>(value)?, out),
        Kind::Float4 => float::put_real(float::read_real(value)?, forms, out)?,
        Kind::Float8 => float::put_double(float::read_double(value)?, forms, out)?,
        Kind::Numeric => numeric::read(value)?.put_text(out),
        Kind::Text | Kind::Varchar(_) => out.extend_from_slice(text::read(value)?.as_bytes()),
        Kind::Uuid => bytes::put_uuid(bytes::read_uuid(value)?, out),
        Kind::Bytea => bytes::put_bytea(bytes::read_bytea(value)?, out),
        Kind::Timestamptz(_) => time::put_timestamptz(time::read(value)?, &forms.zone, out)?,
        Kind::Timestamp(_) => time::put_timestamp(time::read(value)?, out),
        Kind::Date => time::put_date(time::read_date(value)?, out),
        Kind::Jsonb => json::put(value, out)?,
        Kind::ObjectId => out.extend_from_slice(bytes::read_object_id(value)?.as_bytes()),
        Kind::Array(element) => array::put_text(element, value, forms, out)?,
    }
    Ok(true)
}

/// Adds the binary form of a stored value, without its length; false if it is NULL, which has none.
pub fn put_binary(kind: &Kind, value: RawBsonRef<'_>, out: &mut Vec<u8>) -> Result<bool, Fault> {
    if is_null(value) {
        return Ok(false);
    }
    match kind {
        Kind::Bool => out.push(integer::read_bool(value)?.into()),
        Kind::Int2 => out.extend_from_slice(&integer::read::<i16>(value)?.to_be_bytes()),
        Kind::Int4 => out.extend_from_slice(&integer::read::<i32>(value)?.to_be_bytes()),
        Kind::Int8 => out.extend_from_slice(&integer::read::<i64>(value)?.to_be_bytes()),
        Kind::Float4 => out.extend_from_slice(&float::read_real(value)?.to_be_bytes()),
        Kind::Float8 => out.extend_from_slice(&float::read_double(value)?.to_be_bytes()),
        Kind::Numeric => numeric::read(value)?.put_binary(out),
        Kind::Text | Kind::Varchar(_) => out.extend_from_slice(text::read(value)?.as_bytes()),
        Kind::Uuid => out.extend_from_slice(&bytes::read_uuid(value)?),
        Kind::Bytea => out.extend_from_slice(bytes::read_bytea(value)?),
        Kind::Timestamptz(_) | Kind::Timestamp(_) => {
            out.extend_from_slice(&time::read(value)?.0.to_be_bytes());
        }
        Kind::Date => out.extend_from_slice(&time::read_date(value)?.to_be_bytes()),
        Kind::Jsonb => {
            out.push(json::VERSION);
            json::put(value, out)?;
        }
        Kind::ObjectId => out.extend_from_slice(bytes::read_object_id(value)?.as_bytes()),
        Kind::Array(element) => array::put_binary(element, value, out)?,
    }
    Ok(true)
}

/// A field that is left out, null or of the type that old drivers wrote for it is SQL's NULL.
fn is_null(value: RawBsonRef<'_>) -> bool {
    matches!(value, RawBsonRef::Null | RawBsonRef::Undefined)
}

/// A field holds a value of a type that is not the column's.
fn mismatch(value: RawBsonRef<'_>, expected: &str) -> Fault {
    Fault::new(
        "42804",
        format!(
            "value is of BSON type {:?}, expected {expected}",
            value.element_type()
        ),
    )
}

/// A text is not of a type's syntax.
fn invalid(name: &str, text: &str) -> Fault {
    Fault::new(
        "22P02",
        format!("invalid input syntax for type {name}: \"{text}\""),
    )
}

/// What the driver hands over is not BSON.
pub(super) fn corrupted(error: bson::error::Error) -> Fault {
    Fault::new("XX001", "malformed BSON").detail(error.to_string())
}

/// What PostgreSQL's C skips before and after most values.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

#[cfg(test)]
mod tests {
    use bson::{RawDocumentBuf, doc};

    use super::*;

    /// The text of what is stored for a text, and what is stored for the binary form of that.
    fn round(name: &str, text: &str) -> String {
        let kind = Kind::from_name(name).unwrap();
        let forms = Forms::default();
        let stored = from_text(&kind, text, &forms).unwrap();
        let document = RawDocumentBuf::try_from(&doc! {"v": stored.clone()}).unwrap();
        let value = document.get("v").unwrap().unwrap();
        let (mut shown, mut form) = (Vec::new(), Vec::new());
        assert_eq!(put_text(&kind, value, &forms, &mut shown), Ok(true));
        assert_eq!(put_binary(&kind, value, &mut form), Ok(true));
        assert_eq!(from_binary(&kind, &form), Ok(stored));
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn values_of_all_types_come_back() {
        for (name, text, shown) in [
            ("bool", "yes", "t"),
            ("int2", " 7", "7"),
            ("int4", "-7", "-7"),
            ("int8", "5000000000", "5000000000"),
            ("float4", "0.1", "0.1"),
            ("float8", "1e15", "1e+15"),
            ("numeric", "5.00", "5.00"),
            ("text", " é\n", " é\n"),
            ("varchar(3)", "abcd", "abcd"),
            (
                "uuid",
                "{00000000000000000000000000000001}",
                "00000000-0000-0000-0000-000000000001",
            ),
            ("bytea", "a\\001", "\\x6101"),
            (
                "timestamptz",
                "2020-01-01 12:00+02",
                "2020-01-01 10:00:00+00",
            ),
            (
                "timestamp",
                "2020-01-01 12:00:00.120",
                "2020-01-01 12:00:00.12",
            ),
            ("date", "0044-03-15 BC", "0044-03-15 BC"),
            ("jsonb", "{\"a\":[1,null]}", "{\"a\": [1, null]}"),
            (
                "objectid",
                "65a1b2c3d4e5f60718293a4b",
                "65a1b2c3d4e5f60718293a4b",
            ),
            ("numeric[]", "{1.50,NULL}", "{1.50,NULL}"),
            (
                "timestamptz[]",
                "{2020-01-01}",
                "{\"2020-01-01 00:00:00+00\"}",
            ),
        ] {
            assert_eq!(round(name, text), shown, "{name}");
        }
    }

    #[test]
    fn null_and_undefined_are_null() {
        for value in [RawBsonRef::Null, RawBsonRef::Undefined] {
            let mut out = Vec::new();
            assert_eq!(
                put_text(&Kind::Jsonb, value, &Forms::default(), &mut out),
                Ok(false)
            );
            assert_eq!(put_binary(&Kind::Int4, value, &mut out), Ok(false));
            assert!(out.is_empty());
        }
    }

    #[test]
    fn another_bson_type_is_an_error() {
        let value = RawBsonRef::String("7");
        let fault = put_text(&Kind::Float8, value, &Forms::default(), &mut Vec::new()).unwrap_err();
        assert_eq!(fault.sqlstate, "42804");
        assert_eq!(
            fault.message,
            "value is of BSON type String, expected Double"
        );
    }

    #[test]
    fn microseconds_are_compared_but_not_stored() {
        let (kind, text) = (
            Kind::Timestamp(Precision::Micros),
            "2020-01-01 00:00:00.0005",
        );
        let forms = Forms::default();
        assert_eq!(
            from_text(&kind, text, &forms).unwrap_err().sqlstate,
            "22008"
        );
        let micros = micros_from_text(&kind, text, &forms).unwrap();
        assert!(!micros.is_exact());
        assert_eq!(
            micros_from_binary(&kind, &micros.0.to_be_bytes()),
            Ok(micros)
        );
    }
}
