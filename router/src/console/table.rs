//! Answers of the console as tables, and their bytes on the wire.
//!
//! The types are those that PgBouncer's tables have, because programs that read them
//! switch on the OID: text, int4, int8, numeric and bytea, in text or binary format.

use mothership_proto::backend::{self, Column as WireColumn};

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// text, 25.
    Text,
    /// int4, 23.
    Int,
    /// int8, 20.
    Big,
    /// numeric, 1700: what only grows.
    Numeric,
    /// bytea, 17; no column of it ever has a value.
    Bytes,
}

impl Type {
    /// OID in pg_type.
    pub fn oid(self) -> u32 {
        match self {
            Self::Text => 25,
            Self::Int => 23,
            Self::Big => 20,
            Self::Numeric => 1700,
            Self::Bytes => 17,
        }
    }

    /// Its name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Int => "int4",
            Self::Big => "int8",
            Self::Numeric => "numeric",
            Self::Bytes => "bytea",
        }
    }

    fn size(self) -> i16 {
        match self {
            Self::Int => 4,
            Self::Big => 8,
            Self::Text | Self::Numeric | Self::Bytes => -1,
        }
    }
}

/// A column: its name and type.
pub type Column = (&'static str, Type);

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// NULL.
    Null,
    /// Text.
    Text(String),
    /// A number; the column says how wide. What does not fit is shown as the largest.
    Number(u64),
    /// One that may be negative.
    Signed(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(number as u64)
    }
}

impl From<i8> for Value {
    fn from(number: i8) -> Self {
        Self::Signed(number.into())
    }
}

impl From<bool> for Value {
    fn from(is: bool) -> Self {
        Self::Number(is.into())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A row from values of different types.
macro_rules! row {
    ($($value:expr),* $(,)?) => { vec![$($crate::console::table::Value::from($value)),*] };
}
pub(crate) use row;

/// One row.
pub type Row = Vec<Value>;

/// Writes RowDescription. `formats` as Bind gave them: none means text for all, one
/// means the same for all.
pub fn put_columns(out: &mut Vec<u8>, columns: &[Column], formats: &[i16]) {
    let column = |(at, &(name, kind)): (usize, &Column)| WireColumn {
        format: format(formats, at),
        ..WireColumn::of(name, kind.oid(), kind.size())
    };
    let columns: Vec<WireColumn> = columns.iter().enumerate().map(column).collect();
    backend::put_columns(out, &columns);
}

/// Writes DataRow.
pub fn put_row(out: &mut Vec<u8>, columns: &[Column], row: &Row, formats: &[i16]) {
    debug_assert_eq!(columns.len(), row.len());
    let both = columns.iter().zip(row).enumerate();
    let values: Vec<Option<Vec<u8>>> = both
        .map(|(at, (&(_, kind), value))| encode(kind, value, format(formats, at) == 1))
        .collect();
    backend::put_row(out, values.iter().map(Option::as_deref));
}

fn format(formats: &[i16], at: usize) -> i16 {
    match formats {
        [] => 0,
        [one] => *one,
        several => several.get(at).copied().unwrap_or(0),
    }
}

fn encode(kind: Type, value: &Value, binary: bool) -> Option<Vec<u8>> {
    let (number, is_negative) = match value {
        Value::Null => return None,
        // The text format and the binary format of text are the same.
        Value::Text(text) => return Some(text.replace('\0', "").into_bytes()),
        Value::Number(number) => (*number, false),
        Value::Signed(number) => (number.unsigned_abs(), *number < 0),
    };
    let (sign, minus) = if is_negative { (-1, "-") } else { (1, "") };
    let int = i32::try_from(number).unwrap_or(i32::MAX) * sign;
    let big = i64::try_from(number).unwrap_or(i64::MAX) * i64::from(sign);
    Some(match (kind, binary) {
        (Type::Int, true) => int.to_be_bytes().to_vec(),
        (Type::Int, false) => int.to_string().into_bytes(),
        (Type::Big, true) => big.to_be_bytes().to_vec(),
        (Type::Big, false) => big.to_string().into_bytes(),
        (Type::Numeric, true) => binary_numeric(number, is_negative),
        (Type::Numeric | Type::Text | Type::Bytes, _) => format!("{minus}{number}").into_bytes(),
    })
}

/// `numeric_send`: count of digits, weight of the first, sign, scale, digits to the
/// base of 10,000.
fn binary_numeric(number: u64, is_negative: bool) -> Vec<u8> {
    let mut digits = Vec::new();
    let mut rest = number;
    while rest > 0 {
        digits.push((rest % 10_000) as u16);
        rest /= 10_000;
    }
    let weight = (digits.len() as u16).saturating_sub(1);
    // Zeroes at the end are not sent: the weight says that they are there.
    let kept: Vec<u16> = digits.into_iter().skip_while(|digit| *digit == 0).collect();
    let sign = if is_negative { 0x4000 } else { 0 };
    let head = [kept.len() as u16, weight, sign, 0];
    let words = head.into_iter().chain(kept.into_iter().rev());
    words.flat_map(u16::to_be_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes were taken from PostgreSQL 15's `numeric_send`.
    #[test]
    fn numbers_are_sent_as_postgresql_sends_them() {
        for (number, words) in [
            (0_i128, &[0, 0, 0, 0][..]),
            (1, &[1, 0, 0, 0, 1]),
            (9_999, &[1, 0, 0, 0, 9_999]),
            (10_000, &[1, 1, 0, 0, 1]),
            (10_001, &[2, 1, 0, 0, 1, 1]),
            (120_000_000, &[2, 2, 0, 0, 1, 2_000]),
            (
                u64::MAX.into(),
                &[5, 4, 0, 0, 1_844, 6_744, 737, 955, 1_615],
            ),
            (-12_345, &[2, 1, 0x4000, 0, 1, 2_345]),
        ] {
            let expected: Vec<u8> = words.iter().flat_map(|w: &u16| w.to_be_bytes()).collect();
            let value = match u64::try_from(number) {
                Ok(number) => Value::Number(number),
                Err(_) => Value::Signed(i64::try_from(number).unwrap()),
            };
            let sent = encode(Type::Numeric, &value, true);
            assert_eq!(sent, Some(expected), "{number}");
            let text = encode(Type::Numeric, &value, false);
            assert_eq!(text, Some(number.to_string().into_bytes()));
        }
    }

    #[test]
    fn what_is_negative_has_its_sign_in_every_type() {
        let sent = |kind, binary| encode(kind, &Value::from(-100_i8), binary);
        assert_eq!(sent(Type::Int, true), Some((-100_i32).to_be_bytes().into()));
        assert_eq!(sent(Type::Big, true), Some((-100_i64).to_be_bytes().into()));
        for kind in [Type::Int, Type::Big, Type::Numeric, Type::Text] {
            assert_eq!(sent(kind, false), Some(b"-100".to_vec()));
        }
    }

    #[test]
    fn what_does_not_fit_is_the_largest() {
        let int = encode(Type::Int, &Value::Number(u64::MAX), false);
        assert_eq!(int, Some(b"2147483647".to_vec()));
        assert_eq!(encode(Type::Text, &Value::Null, true), None);
    }
}
