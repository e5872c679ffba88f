//! Constants and parameters: what an expression plainly is, with casts and the
//! signs, sums and products that keep the value certain.

use mothership_shardmap::KeyType;
use sqlparser::ast::{BinaryOperator as Op, CastKind, DataType, Expr, UnaryOperator, Value};

use crate::condition::Scalar;
use crate::scope::Analysis;
use crate::slots::Slot;

use super::strip;

/// Constants are folded through this many operators; deeper ones are not looked into.
const MAX_FOLDING: u8 = 12;

impl Analysis<'_> {
    /// The constant or parameter that an expression is, if it is plainly one.
    pub fn scalar(&self, expr: &Expr) -> Option<Scalar> {
        self.scalar_within(expr, MAX_FOLDING)
    }

    fn scalar_within(&self, expr: &Expr, depth: u8) -> Option<Scalar> {
        let depth = depth.checked_sub(1)?;
        match strip(expr) {
            Expr::Value(value) => self.literal(&value.value),
            Expr::UnaryOp { op, expr } => match (op, self.scalar_within(expr, depth)?) {
                (UnaryOperator::Plus, s @ (Scalar::Integer(_) | Scalar::Decimal(_))) => Some(s),
                (UnaryOperator::Minus, Scalar::Integer(value)) => Some(Scalar::Integer(-value)),
                (UnaryOperator::Minus, Scalar::Decimal(digits)) => {
                    Some(Scalar::Decimal(negate(digits)))
                }
                (sign, Scalar::Slot(slot)) => self.signed(sign, slot),
                _ => None,
            },
            Expr::BinaryOp { left, op, right } => {
                let right = self.scalar_within(right, depth)?;
                match (self.scalar_within(left, depth)?, right) {
                    (Scalar::Integer(a), Scalar::Integer(b)) => fold_integers(a, op, b),
                    (a, b) => {
                        self.look_at(&a, &b);
                        None
                    }
                }
            }
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type,
                format: None,
            } => cast(self.scalar_within(expr, depth)?, cast_oid(data_type)?),
            Expr::TypedString(typed) if !typed.uses_odbc_syntax => cast(
                self.literal(&typed.value.value)?,
                cast_oid(&typed.data_type)?,
            ),
            _ => None,
        }
    }

    fn signed(&self, sign: &UnaryOperator, slot: Slot) -> Option<Scalar> {
        if !matches!(slot.form(), Scalar::Integer(_) | Scalar::Decimal(_)) {
            return None;
        }
        let negative = match sign {
            UnaryOperator::Plus => slot.negative,
            UnaryOperator::Minus if slot.as_type == 0 => !slot.negative,
            UnaryOperator::Minus => {
                self.looked.value.set(true);
                return None;
            }
            _ => return None,
        };
        Some(Scalar::Slot(Slot { negative, ..slot }))
    }

    /// Two constants are computed with: if one is a slot whose kind that needs, its value is asked for.
    pub(super) fn look_at(&self, a: &Scalar, b: &Scalar) {
        let slot = |s: &Scalar| matches!(s, Scalar::Slot(_));
        let integer = |s: &Scalar| matches!(*s.form(), Scalar::Integer(_));
        if (slot(a) || slot(b)) && integer(a) && integer(b) {
            self.looked.value.set(true);
        }
    }

    pub(super) fn literal(&self, value: &Value) -> Option<Scalar> {
        Some(match value {
            Value::Number(digits, false) => number(digits, false)?,
            Value::SingleQuotedString(text) => Scalar::Text {
                text: text.clone(),
                as_type: 0,
            },
            // A tag cannot occur within, and nothing is escaped.
            Value::DollarQuotedString(text) => Scalar::Text {
                text: text.value.clone(),
                as_type: 0,
            },
            Value::Boolean(value) => Scalar::Bool(*value),
            Value::Null => Scalar::Null,
            Value::Placeholder(text) => {
                if let Some(slot) = Slot::of_placeholder(text) {
                    return Some(Scalar::Slot(slot));
                }
                let number = placeholder(text)?;
                Scalar::Param {
                    number,
                    as_type: self.declared_type(number),
                }
            }
            _ => return None,
        })
    }

    fn declared_type(&self, number: u16) -> u32 {
        let declared = usize::from(number).checked_sub(1);
        let declared = declared
            .and_then(|i| self.context.parameter_types.get(i))
            .copied();
        // 705 is `unknown`.
        declared.filter(|oid| *oid != 705).unwrap_or(0)
    }
}

/// A numeric literal: decimal digits only; other bases and underscores came with PostgreSQL 16.
pub fn number(digits: &str, negative: bool) -> Option<Scalar> {
    Some(match (unsigned(digits)?, negative) {
        (Scalar::Integer(value), true) => Scalar::Integer(-value),
        (Scalar::Decimal(digits), true) => Scalar::Decimal(negate(digits)),
        (scalar, _) => scalar,
    })
}

fn unsigned(digits: &str) -> Option<Scalar> {
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        return match digits.parse::<i128>() {
            Ok(value) if value < i128::from(i64::MAX) * 1000 => Some(Scalar::Integer(value)),
            _ => Some(Scalar::Decimal(digits.to_owned())),
        };
    }
    let plain = digits
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    (plain && digits.bytes().any(|b| b.is_ascii_digit()))
        .then(|| Scalar::Decimal(digits.to_owned()))
}

fn negate(digits: String) -> String {
    match digits.strip_prefix('-') {
        Some(positive) => positive.to_owned(),
        None => format!("-{digits}"),
    }
}

/// Sums, differences and products that PostgreSQL computes in int4 without overflow.
fn fold_integers(a: i128, op: &Op, b: i128) -> Option<Scalar> {
    let int4 = |v: i128| i32::try_from(v).ok();
    let (a, b) = (int4(a)?, int4(b)?);
    let value = match op {
        Op::Plus => a.checked_add(b)?,
        Op::Minus => a.checked_sub(b)?,
        Op::Multiply => a.checked_mul(b)?,
        _ => return None,
    };
    Some(Scalar::Integer(value.into()))
}

/// A cast of a constant or parameter, where it keeps the value.
pub fn cast(scalar: Scalar, oid: u32) -> Option<Scalar> {
    let integer = matches!(oid, 20 | 21 | 23);
    match scalar {
        Scalar::Slot(slot) => slot.cast(oid).map(Scalar::Slot),
        Scalar::Null => Some(Scalar::Null),
        Scalar::Text { text, as_type: 0 } => Some(Scalar::Text { text, as_type: oid }),
        // A library casts to the type of the column what a driver has cast to it already.
        Scalar::Text { as_type, .. } if as_type == oid => Some(scalar),
        // Out of range is PostgreSQL's error; the value stands either way.
        Scalar::Integer(value) if integer => Some(Scalar::Text {
            text: value.to_string(),
            as_type: oid,
        }),
        Scalar::Integer(value) if oid == 1700 => Some(Scalar::Decimal(value.to_string())),
        Scalar::Bool(value) if oid == 16 => Some(Scalar::Bool(value)),
        Scalar::Param { number, as_type } if as_type == 0 || as_type == oid => {
            Some(Scalar::Param {
                number,
                as_type: oid,
            })
        }
        Scalar::Param {
            as_type: 20 | 21 | 23,
            ..
        } if integer => Some(scalar),
        _ => None,
    }
}

/// The type OID that a cast names, for types that may be keys and without modifiers.
pub fn cast_oid(data_type: &DataType) -> Option<u32> {
    use sqlparser::ast::{ExactNumberInfo, TimezoneInfo};
    let key = match data_type {
        DataType::Int2(None) | DataType::SmallInt(None) => KeyType::Int2,
        DataType::Int(None) | DataType::Int4(None) | DataType::Integer(None) => KeyType::Int4,
        DataType::Int8(None) | DataType::BigInt(None) => KeyType::Int8,
        DataType::Text => KeyType::Text,
        DataType::Varchar(None) | DataType::CharacterVarying(None) => KeyType::Varchar,
        DataType::Uuid => KeyType::Uuid,
        DataType::Bool | DataType::Boolean => KeyType::Bool,
        DataType::Date => KeyType::Date,
        DataType::Bytea => KeyType::Bytea,
        DataType::Numeric(ExactNumberInfo::None) | DataType::Decimal(ExactNumberInfo::None) => {
            KeyType::Numeric
        }
        DataType::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            KeyType::Timestamp
        }
        DataType::Timestamp(None, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => {
            KeyType::TimestampTz
        }
        _ => return None,
    };
    Some(key.oid())
}

/// The number of `$1`.
pub fn placeholder(text: &str) -> Option<u16> {
    text.strip_prefix('$')?.parse().ok().filter(|n| *n > 0)
}
