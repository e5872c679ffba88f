//! The orders of PostgreSQL's types that are known here, value by value in binary form.
//!
//! [`ORDERS`] is what the planner consults: a type that is not in it is never compared by the router. Every line of it
//! is held against PostgreSQL itself by `make merge-proof`, a million pairs each. In binary form no setting of the
//! session (DateStyle, extra_float_digits, bytea_output) changes a value; texts are UTF8 on both sides, and only
//! those that PostgreSQL compares byte by byte have an order here.

use std::cmp::Ordering;

/// A way to compare two values of a type, neither of them NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Integers with a sign, of two, four or eight bytes.
    Integer,
    /// Byte by byte; what is a part of the other comes first.
    Bytes,
    /// The same of `char(n)`: blanks at the end do not count.
    Padded,
    /// IEEE 754, with NaN above everything and equal to itself.
    Float,
    /// numeric.
    Numeric,
    /// interval: months are thirty days, days are 24 hours.
    Interval,
}

/// A type whose order is known.
#[derive(Clone, Copy, Debug)]
pub struct Ordered {
    /// Its object id.
    pub oid: u32,
    /// Its name.
    pub name: &'static str,
    /// How its values compare.
    pub order: Order,
    /// Only under a collation that compares bytes: `C`, `POSIX`.
    pub needs_bytes: bool,
}

const fn known(oid: u32, name: &'static str, order: Order) -> Ordered {
    let needs_bytes = false;
    Ordered {
        oid,
        name,
        order,
        needs_bytes,
    }
}

const fn text(oid: u32, name: &'static str, order: Order) -> Ordered {
    Ordered {
        needs_bytes: true,
        ..known(oid, name, order)
    }
}

/// The types whose order is proven.
pub const ORDERS: [Ordered; 22] = [
    known(16, "boolean", Order::Bytes),
    known(17, "bytea", Order::Bytes),
    known(18, "\"char\"", Order::Bytes),
    known(20, "bigint", Order::Integer),
    known(21, "smallint", Order::Integer),
    known(23, "integer", Order::Integer),
    known(26, "oid", Order::Bytes),
    known(700, "real", Order::Float),
    known(701, "double precision", Order::Float),
    known(790, "money", Order::Integer),
    known(829, "macaddr", Order::Bytes),
    known(1082, "date", Order::Integer),
    known(1083, "time", Order::Integer),
    known(1114, "timestamp", Order::Integer),
    known(1184, "timestamptz", Order::Integer),
    known(1186, "interval", Order::Interval),
    known(1700, "numeric", Order::Numeric),
    known(2950, "uuid", Order::Bytes),
    text(19, "name", Order::Bytes),
    text(25, "text", Order::Bytes),
    text(1042, "bpchar", Order::Padded),
    text(1043, "varchar", Order::Bytes),
];

/// The order of a type; `bytes` says that its collation compares bytes.
pub fn order_of(oid: u32, bytes: bool) -> Option<Order> {
    let known = ORDERS.iter().find(|known| known.oid == oid)?;
    (bytes || !known.needs_bytes).then_some(known.order)
}

impl Order {
    /// Compares two values in binary form. `None` if one of them is not of the type.
    pub fn compare(self, a: &[u8], b: &[u8]) -> Option<Ordering> {
        Some(match self {
            Order::Integer => integer(a)?.cmp(&integer(b)?),
            Order::Bytes => a.cmp(b),
            Order::Padded => trimmed(a).cmp(trimmed(b)),
            Order::Float => {
                let (a, b) = (float(a)?, float(b)?);
                // Without an order there is a NaN.
                let nans = || a.is_nan().cmp(&b.is_nan());
                a.partial_cmp(&b).unwrap_or_else(nans)
            }
            Order::Numeric => Numeric::read(a)?.compare(&Numeric::read(b)?),
            Order::Interval => interval(a)?.cmp(&interval(b)?),
        })
    }
}

fn integer(bytes: &[u8]) -> Option<i64> {
    Some(match bytes.len() {
        2 => i16::from_be_bytes(bytes.try_into().ok()?).into(),
        4 => i32::from_be_bytes(bytes.try_into().ok()?).into(),
        8 => i64::from_be_bytes(bytes.try_into().ok()?),
        _ => return None,
    })
}

fn float(bytes: &[u8]) -> Option<f64> {
    Some(match bytes.len() {
        4 => f32::from_be_bytes(bytes.try_into().ok()?).into(),
        8 => f64::from_be_bytes(bytes.try_into().ok()?),
        _ => return None,
    })
}

fn trimmed(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte != b' ');
    &bytes[..end.map_or(0, |last| last + 1)]
}

/// In microseconds, as `interval_cmp_value` counts them.
fn interval(bytes: &[u8]) -> Option<i128> {
    let (time, rest) = bytes.split_first_chunk::<8>()?;
    let (days, months) = rest.split_first_chunk::<4>()?;
    let days = i128::from(i32::from_be_bytes(*days));
    let months = i128::from(i32::from_be_bytes(months.try_into().ok()?));
    let days = months * 30 + days;
    Some(days * 86_400_000_000 + i128::from(i64::from_be_bytes(*time)))
}

/// A numeric as `numeric_send` writes it. Its scale says nothing about its place.
enum Numeric<'v> {
    /// -Infinity, Infinity and NaN, in this order.
    NegativeInfinity,
    Finite {
        negative: bool,
        /// The power of 10,000 of the first digit.
        weight: i32,
        /// Two bytes each, without zeros at either end; none of zero.
        digits: &'v [u8],
    },
    Infinity,
    NaN,
}

impl<'v> Numeric<'v> {
    fn read(bytes: &'v [u8]) -> Option<Self> {
        let (header, mut digits) = bytes.split_first_chunk::<8>()?;
        let [count, weight, sign, _] =
            [0, 2, 4, 6].map(|at| u16::from_be_bytes([header[at], header[at + 1]]));
        if digits.len() != usize::from(count) * 2 {
            return None;
        }
        let mut weight = i32::from(weight as i16);
        let negative = match sign {
            0x0000 => false,
            0x4000 => true,
            0xc000 => return Some(Numeric::NaN),
            0xd000 => return Some(Numeric::Infinity),
            0xf000 => return Some(Numeric::NegativeInfinity),
            _ => return None,
        };
        while let [0, 0, rest @ ..] = digits {
            digits = rest;
            weight -= 1;
        }
        while let [rest @ .., 0, 0] = digits {
            digits = rest;
        }
        Some(Numeric::Finite {
            negative,
            weight,
            digits,
        })
    }

    fn rank(&self) -> u8 {
        match self {
            Numeric::NegativeInfinity => 0,
            Numeric::Finite { .. } => 1,
            Numeric::Infinity => 2,
            Numeric::NaN => 3,
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        let (
            Numeric::Finite {
                negative,
                weight,
                digits,
            },
            Numeric::Finite {
                negative: other_negative,
                weight: other_weight,
                digits: other_digits,
            },
        ) = (self, other)
        else {
            return self.rank().cmp(&other.rank());
        };
        let sign = |negative: &bool, digits: &[u8]| match (digits.is_empty(), negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        let (mine, theirs) = (sign(negative, digits), sign(other_negative, other_digits));
        // The digits have no zeros at the end, so that what goes on is larger.
        let size = || {
            weight
                .cmp(other_weight)
                .then_with(|| digits.cmp(other_digits))
        };
        match mine.cmp(&theirs) {
            Ordering::Equal if mine > 0 => size(),
            Ordering::Equal if mine < 0 => size().reverse(),
            order => order,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(weight: i16, sign: u16, digits: &[u16]) -> Vec<u8> {
        let head = [digits.len() as u16, weight as u16, sign, 0];
        let words = head.iter().chain(digits);
        words.flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn numerics_are_ordered_by_value_and_not_by_form() {
        let ascending = [
            numeric(0, 0xf000, &[]),
            numeric(1, 0x4000, &[1, 1]),
            numeric(0, 0x4000, &[9999]),
            numeric(-1, 0x4000, &[1]),
            numeric(0, 0, &[]),
            numeric(-1, 0, &[1]),
            numeric(-1, 0, &[1, 1]),
            numeric(0, 0, &[1]),
            numeric(3, 0, &[1]),
            numeric(0, 0xd000, &[]),
            numeric(0, 0xc000, &[]),
        ];
        for (at, a) in ascending.iter().enumerate() {
            for (other, b) in ascending.iter().enumerate() {
                assert_eq!(
                    Order::Numeric.compare(a, b),
                    Some(at.cmp(&other)),
                    "{at} {other}"
                );
            }
        }
        let padded = numeric(1, 0, &[0, 1, 0]);
        assert_eq!(
            Order::Numeric.compare(&padded, &numeric(0, 0, &[1])),
            Some(Ordering::Equal)
        );
    }

    #[test]
    fn what_is_not_of_the_type_has_no_order() {
        for order in [
            Order::Integer,
            Order::Float,
            Order::Numeric,
            Order::Interval,
        ] {
            assert_eq!(order.compare(b"123", b"123"), None, "{order:?}");
        }
        assert_eq!(order_of(25, false), None);
        assert_eq!(order_of(3802, true), None);
    }
}
