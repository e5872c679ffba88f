//! Values known at planning or at Bind, and the key that each is.

use std::borrow::Cow;

use mothership_shardmap::{KeyBytes, KeyError, KeyType, TextContext};

use crate::context::{Bound as Bind, Params};
use crate::slots::Slot;

/// A value known at planning, or at Bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar {
    /// NULL.
    Null,
    /// An integer constant without a type of its own: int4, int8 or numeric by its size.
    Integer(i128),
    /// A constant with a decimal point or an exponent: numeric.
    Decimal(String),
    /// A string, of the type `as_type`, or of none (0): then the column's.
    Text {
        /// The string between its quotes.
        text: String,
        /// The type of the cast around it, 0 for none.
        as_type: u32,
    },
    /// TRUE or FALSE.
    Bool(bool),
    /// `$number`, of the type `as_type`, or of none (0).
    Param {
        /// From 1.
        number: u16,
        /// The declared type or that of the cast around it, 0 for none.
        as_type: u32,
    },
    /// A literal whose value is read from the text that is routed.
    Slot(Slot),
}

/// What a scalar is at Bind, for a column of some type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// This key.
    Key(KeyBytes),
    /// NULL.
    Null,
    /// Equal to no value of the column.
    NoMatch,
    /// PostgreSQL will refuse it, wherever it is sent.
    Invalid,
    /// Not known.
    Unsure,
}

impl From<Result<KeyBytes, KeyError>> for Value {
    fn from(read: Result<KeyBytes, KeyError>) -> Value {
        match read {
            Ok(key) => Value::Key(key),
            Err(KeyError::NoMatch) => Value::NoMatch,
            Err(KeyError::Invalid) => Value::Invalid,
            Err(KeyError::Unsure) => Value::Unsure,
        }
    }
}

/// The type OID of `boolean`, `numeric`.
const BOOL: u32 = 16;

const NUMERIC: u32 = 1700;

impl Scalar {
    /// The value, for comparison with a column of type `key`.
    pub fn value(&self, key: KeyType, params: &Params<'_>, text: &TextContext) -> Value {
        match self {
            Scalar::Null => Value::Null,
            Scalar::Integer(value) => key.from_integer(*value).into(),
            Scalar::Decimal(digits) => key.from_text_as(NUMERIC, digits.as_bytes(), text).into(),
            Scalar::Text {
                text: literal,
                as_type,
            } => read(key, *as_type, literal.as_bytes(), text),
            Scalar::Bool(value) => {
                let literal: &[u8] = if *value { b"t" } else { b"f" };
                key.from_text_as(BOOL, literal, text).into()
            }
            Scalar::Param { number, as_type } => match params.get(*number) {
                Some(Bind::Null) => Value::Null,
                Some(Bind::Text(bytes)) => read(key, *as_type, bytes, text),
                Some(Bind::Binary(bytes)) => key.from_binary(*as_type, bytes, text).into(),
                None => Value::Unsure,
            },
            Scalar::Slot(slot) => match params.literals.scalar(*slot) {
                Some(constant) => constant.value(key, params, text),
                None => Value::Unsure,
            },
        }
    }

    /// The scalar, or a constant of the same type in place of a slot: for whoever asks for nothing but the type.
    pub fn form(&self) -> Cow<'_, Scalar> {
        match self {
            Scalar::Slot(slot) => Cow::Owned(slot.form()),
            known => Cow::Borrowed(known),
        }
    }
}

pub(super) fn read(key: KeyType, as_type: u32, bytes: &[u8], context: &TextContext) -> Value {
    match as_type {
        0 => key.from_text(bytes, context).into(),
        oid => key.from_text_as(oid, bytes, context).into(),
    }
}
