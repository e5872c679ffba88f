//! Values of shard keys: from what a client wrote to [`KeyBytes`].
//!
//! The door at which a literal, a text parameter or a binary parameter becomes a key. Each type has its own file with
//! PostgreSQL's input rules; this file says which rules apply, and what a value of one type means for a column of
//! another. What PostgreSQL might read differently under a setting or a version that is not known here is
//! [`KeyError::Unsure`].

mod boolean;
mod bytea;
mod context;
mod convert;
mod datetime;
mod integer;
mod numeric;
pub(crate) mod numeric_form;
mod stored;
mod text;
mod uuid;

pub use context::{Encoding, TextContext, TimeZone};

use crate::KeyBytes;

/// The types that a shard key column may have, with the canonical form of a value in [`KeyBytes`].
///
/// | type | canonical bytes | bytes sort as the type |
/// |---|---|---|
/// | bool | one byte, 0 or 1 | yes |
/// | int2, int4, int8 | the value as 8 bytes big-endian with the sign bit turned: one form for the three | yes |
/// | numeric | a class byte, then for finite values the weight and the base-10000 digits without leading or trailing zeros (`key/numeric_form.rs`) | yes |
/// | text, varchar | the bytes in the server's encoding: one form for both | only under C-like collations |
/// | uuid | its 16 bytes | yes |
/// | date | days since 2000-01-01 as 4 bytes, as integers | yes |
/// | timestamp, timestamptz | microseconds since 2000-01-01 (UTC) as 8 bytes, as integers | yes |
/// | bytea | its bytes | yes |
///
/// Text under a collation that is not deterministic has other rules of equality and must not be a shard key; the
/// catalog knows collations, this crate does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyType {
    /// `boolean`
    Bool,
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `numeric`, with or without precision and scale
    Numeric,
    /// `text`
    Text,
    /// `character varying`, with or without a length
    Varchar,
    /// `uuid`
    Uuid,
    /// `date`
    Date,
    /// `timestamp without time zone`
    Timestamp,
    /// `timestamp with time zone`
    TimestampTz,
    /// `bytea`
    Bytea,
}

/// Why a value is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// PostgreSQL refuses this value (22P02, 22003, 22007, 22008, 22021, 22P03): send it to any one server to say so.
    #[error("value is not valid for its type")]
    Invalid,
    /// PostgreSQL accepts the value, and a comparison with it is true for no value of the column (`int8 = 5.5`).
    /// If the value is to be *stored*, assignment rounds, truncates or refuses it: treat it as [`KeyError::Unsure`].
    /// It says nothing about `<` and `>`.
    #[error("value equals no value of the column's type")]
    NoMatch,
    /// The router cannot be certain which value PostgreSQL would read: read from all shards, refuse to write.
    #[error("value cannot be read with certainty")]
    Unsure,
}

/// The OID of `unknown`; like 0, a parameter of this type takes the type of the column that it meets.
const UNKNOWN_OID: u32 = 705;

impl KeyType {
    /// All key types.
    pub const ALL: [KeyType; 12] = [
        KeyType::Bool,
        KeyType::Int2,
        KeyType::Int4,
        KeyType::Int8,
        KeyType::Numeric,
        KeyType::Text,
        KeyType::Varchar,
        KeyType::Uuid,
        KeyType::Date,
        KeyType::Timestamp,
        KeyType::TimestampTz,
        KeyType::Bytea,
    ];

    /// The type's OID in PostgreSQL; these are the same on every server.
    pub const fn oid(self) -> u32 {
        match self {
            KeyType::Bool => 16,
            KeyType::Bytea => 17,
            KeyType::Int8 => 20,
            KeyType::Int2 => 21,
            KeyType::Int4 => 23,
            KeyType::Text => 25,
            KeyType::Varchar => 1043,
            KeyType::Date => 1082,
            KeyType::Timestamp => 1114,
            KeyType::TimestampTz => 1184,
            KeyType::Numeric => 1700,
            KeyType::Uuid => 2950,
        }
    }

    /// The key type with this OID; None for types that cannot be keys, such as domains, enums and `char(n)`.
    pub fn from_oid(oid: u32) -> Option<KeyType> {
        KeyType::ALL
            .into_iter()
            .find(|key_type| key_type.oid() == oid)
    }

    /// PostgreSQL's short name: `int8`, `timestamptz`.
    pub const fn name(self) -> &'static str {
        match self {
            KeyType::Bool => "bool",
            KeyType::Int2 => "int2",
            KeyType::Int4 => "int4",
            KeyType::Int8 => "int8",
            KeyType::Numeric => "numeric",
            KeyType::Text => "text",
            KeyType::Varchar => "varchar",
            KeyType::Uuid => "uuid",
            KeyType::Date => "date",
            KeyType::Timestamp => "timestamp",
            KeyType::TimestampTz => "timestamptz",
            KeyType::Bytea => "bytea",
        }
    }

    /// A type by its short name or its SQL name, in any case: `int8`, `bigint`, `timestamp with time zone`.
    pub fn from_name(name: &str) -> Option<KeyType> {
        let name = name.trim().to_ascii_lowercase();
        let by_short_name = KeyType::ALL
            .into_iter()
            .find(|key_type| key_type.name() == name);
        by_short_name.or(match name.as_str() {
            "boolean" => Some(KeyType::Bool),
            "smallint" => Some(KeyType::Int2),
            "int" | "integer" => Some(KeyType::Int4),
            "bigint" => Some(KeyType::Int8),
            "decimal" => Some(KeyType::Numeric),
            "character varying" => Some(KeyType::Varchar),
            "timestamp without time zone" => Some(KeyType::Timestamp),
            "timestamp with time zone" => Some(KeyType::TimestampTz),
            _ => None,
        })
    }

    /// Whether canonical bytes sort as the type does, whatever the collation.
    pub const fn bytes_order(self) -> bool {
        !matches!(self, KeyType::Text | KeyType::Varchar)
    }

    /// Whether this is int2, int4 or int8, which share one canonical form.
    pub const fn is_integer(self) -> bool {
        matches!(self, KeyType::Int2 | KeyType::Int4 | KeyType::Int8)
    }

    /// A value in the type's text form: a literal without a type (`'5'`), or a text parameter without a declared type.
    #[inline]
    pub fn from_text(self, text: &[u8], context: &TextContext) -> Result<KeyBytes, KeyError> {
        let key = match self {
            KeyType::Int2 => integer::from_text(text, i16::MIN.into(), i16::MAX.into()),
            KeyType::Int4 => integer::from_text(text, i32::MIN.into(), i32::MAX.into()),
            KeyType::Int8 => integer::from_text(text, i64::MIN, i64::MAX),
            KeyType::Text | KeyType::Varchar => text::from_bytes(text, context),
            KeyType::Uuid => uuid::from_text(text),
            KeyType::Bool => boolean::from_text(text),
            KeyType::Numeric => numeric::from_text(text),
            KeyType::Date => datetime::date_from_text(text),
            KeyType::Timestamp => datetime::timestamp_from_text(text),
            KeyType::TimestampTz => datetime::timestamptz_from_text(text, context),
            KeyType::Bytea => bytea::from_text(text, context),
        };
        match key {
            // Under another encoding a byte beyond ASCII may be white space, or become something else on conversion.
            Err(KeyError::Invalid) if !context.is_certain(text) => Err(KeyError::Unsure),
            key => key,
        }
    }

    /// A text parameter with a declared type, or a literal with a cast (`'5'::int2`): read by the type that it is
    /// `sent_as`, then converted as PostgreSQL does to compare it with this column.
    pub fn from_text_as(
        self,
        sent_as: u32,
        text: &[u8],
        context: &TextContext,
    ) -> Result<KeyBytes, KeyError> {
        let sent = self.sent_type(sent_as)?;
        self.convert(sent, sent.from_text(text, context)?, context)
    }

    /// A parameter in binary format, read by the type OID that it is `sent_as`: the declared type of the parameter,
    /// not the column's. OIDs 0 and 705 (`unknown`) stand for the column's type.
    #[inline]
    pub fn from_binary(
        self,
        sent_as: u32,
        bytes: &[u8],
        context: &TextContext,
    ) -> Result<KeyBytes, KeyError> {
        let sent = self.sent_type(sent_as)?;
        let key = match sent {
            KeyType::Int2 => integer::from_binary::<2>(bytes),
            KeyType::Int4 => integer::from_binary::<4>(bytes),
            KeyType::Int8 => integer::from_binary::<8>(bytes),
            KeyType::Text | KeyType::Varchar => text::from_bytes(bytes, context),
            KeyType::Uuid => uuid::from_binary(bytes),
            KeyType::Bool => boolean::from_binary(bytes),
            KeyType::Numeric => numeric::from_binary(bytes),
            KeyType::Date => datetime::date_from_binary(bytes),
            KeyType::Timestamp | KeyType::TimestampTz => datetime::timestamp_from_binary(bytes),
            KeyType::Bytea => Ok(KeyBytes::from_canonical(bytes)),
        }?;
        self.convert(sent, key, context)
    }

    /// An integer literal. Out of the column's range is no error: `int2_column = 100000` is a comparison of integers.
    pub fn from_integer(self, value: i128) -> Result<KeyBytes, KeyError> {
        match self {
            KeyType::Int2 | KeyType::Int4 | KeyType::Int8 => integer::from_integer(value),
            KeyType::Numeric => numeric_form::from_integer(value),
            _ => Err(KeyError::Unsure),
        }
    }

    fn sent_type(self, sent_as: u32) -> Result<KeyType, KeyError> {
        match sent_as {
            0 | UNKNOWN_OID => Ok(self),
            oid if oid == self.oid() => Ok(self),
            oid => KeyType::from_oid(oid).ok_or(KeyError::Unsure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UTC: TextContext = TextContext::UTC;

    #[test]
    fn names_and_oids_lead_back_to_the_type() {
        for key_type in KeyType::ALL {
            assert_eq!(KeyType::from_oid(key_type.oid()), Some(key_type));
            assert_eq!(KeyType::from_name(key_type.name()), Some(key_type));
        }
        assert_eq!(
            KeyType::from_name(" Timestamp With Time Zone"),
            Some(KeyType::TimestampTz)
        );
        assert_eq!(
            (KeyType::from_name("char"), KeyType::from_oid(1042)),
            (None, None)
        );
    }

    #[test]
    fn all_spellings_of_five_are_one_key() {
        let five = KeyType::Int8.from_integer(5).unwrap();
        for column in [KeyType::Int2, KeyType::Int4, KeyType::Int8] {
            for text in ["5", " 5 ", "+5", "005", "\t5\n"] {
                assert_eq!(
                    column.from_text(text.as_bytes(), &UTC).as_ref(),
                    Ok(&five),
                    "{text:?}"
                );
            }
            for (oid, bytes) in [
                (21, &[0, 5][..]),
                (23, &[0, 0, 0, 5]),
                (20, &[0, 0, 0, 0, 0, 0, 0, 5]),
                (1700, &[0, 1, 0, 0, 0, 0, 0, 0, 0, 5]),
            ] {
                assert_eq!(
                    column.from_binary(oid, bytes, &UTC).as_ref(),
                    Ok(&five),
                    "{oid}"
                );
            }
            assert_eq!(column.from_text_as(1700, b"5.00", &UTC).as_ref(), Ok(&five));
        }
    }

    #[test]
    fn what_postgres_compares_by_another_type_is_not_guessed() {
        let binary = |column: KeyType, oid, bytes: &[u8]| column.from_binary(oid, bytes, &UTC);
        assert_eq!(
            KeyType::Int8.from_text_as(1700, b"5.5", &UTC),
            Err(KeyError::NoMatch)
        );
        assert_eq!(
            KeyType::Int8.from_text_as(1700, b"NaN", &UTC),
            Err(KeyError::NoMatch)
        );
        assert_eq!(
            KeyType::Int8.from_text_as(1700, b"9223372036854775808", &UTC),
            Err(KeyError::NoMatch)
        );
        assert_eq!(
            KeyType::Int8.from_integer(i128::from(i64::MAX) + 1),
            Err(KeyError::NoMatch)
        );
        assert_eq!(
            binary(KeyType::Int8, 701, &5f64.to_be_bytes()),
            Err(KeyError::Unsure)
        );
        assert_eq!(binary(KeyType::Int8, 25, b"5"), Err(KeyError::Unsure));
        assert_eq!(binary(KeyType::Text, 1042, b"a  "), Err(KeyError::Unsure));
        assert_eq!(binary(KeyType::Int8, 23, &[0; 8]), Err(KeyError::Invalid));
        assert_eq!(KeyType::Text.from_integer(5), Err(KeyError::Unsure));
    }
}
