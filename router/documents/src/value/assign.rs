//! Converts a value to the type of a column.

use bson::{Bson, RawBsonRef};

use super::integer::{self, Integer};
use super::numeric::{self, Number, Numeric};
use super::{Fault, Kind, float, text, time};

/// Converts a value to the type of the column in which it is stored or with which it is compared.
///
/// - Null and undefined become null, whatever the type.
/// - A number becomes a number of the column's type, as by PostgreSQL's assignment cast.
/// - A string must fit the length of a `varchar(n)`; only spaces beyond it are cut off.
/// - An array is converted element by element.
/// - A `jsonb` column takes every value as it is.
/// - For all other types the value must have the type of the column already.
pub fn assign(kind: &Kind, value: Bson) -> Result<Bson, Fault> {
    match (kind, value) {
        (_, Bson::Null | Bson::Undefined) => Ok(Bson::Null),
        // The most frequent case: the value has the type of the column already.
        (Kind::Int4, value @ Bson::Int32(_)) => Ok(value),
        (Kind::Int8, value @ Bson::Int64(_)) => Ok(value),
        (Kind::Float8, value @ Bson::Double(_)) => Ok(value),
        (Kind::Int2, value) => Ok(Bson::Int32(to_integer::<i16>(kind, &value)?.into())),
        (Kind::Int4, value) => Ok(Bson::Int32(to_integer(kind, &value)?)),
        (Kind::Int8, value) => Ok(Bson::Int64(to_integer(kind, &value)?)),
        (Kind::Float4, value) => Ok(Bson::Double(to_real(kind, &value)?.into())),
        (Kind::Float8, value) => Ok(Bson::Double(number(kind, &value)?.to_double()?)),
        (Kind::Numeric, value) => Ok(to_numeric(number(kind, &value)?)?.to_bson()),
        (Kind::Varchar(length), Bson::String(value)) => {
            text::check_text(&value)?;
            Ok(Bson::String(fit(value, *length)?))
        }
        (Kind::Array(element), Bson::Array(values)) => {
            let values = values.into_iter().map(|value| assign(element, value));
            Ok(Bson::Array(values.collect::<Result<_, _>>()?))
        }
        (Kind::Jsonb, value) => Ok(value),
        (kind, value) if is_of(kind, &value) => Ok(value),
        (kind, value) => Err(wrong(kind, &value)),
    }
}

fn is_of(kind: &Kind, value: &Bson) -> bool {
    use bson::spec::BinarySubtype;
    match (kind, value) {
        (Kind::Bool, Bson::Boolean(_))
        | (Kind::Text, Bson::String(_))
        | (Kind::Timestamptz(_) | Kind::Timestamp(_), Bson::DateTime(_))
        | (Kind::ObjectId, Bson::ObjectId(_)) => true,
        (Kind::Date, Bson::DateTime(value)) => time::is_midnight(*value),
        (Kind::Uuid, Bson::Binary(value)) => value.subtype == BinarySubtype::Uuid,
        (Kind::Bytea, Bson::Binary(value)) => value.subtype == BinarySubtype::Generic,
        _ => false,
    }
}

fn wrong(kind: &Kind, value: &Bson) -> Fault {
    Fault::new(
        "42804",
        format!(
            "a column of type {} cannot take a value of BSON type {:?}",
            kind.sql_name(),
            value.element_type()
        ),
    )
}

fn number(kind: &Kind, value: &Bson) -> Result<Number, Fault> {
    match value {
        Bson::Int32(number) => Number::of(RawBsonRef::Int32(*number)),
        Bson::Int64(number) => Number::of(RawBsonRef::Int64(*number)),
        Bson::Double(number) => Number::of(RawBsonRef::Double(*number)),
        Bson::Decimal128(number) => Number::of(RawBsonRef::Decimal128(*number)),
        _ => None,
    }
    .ok_or_else(|| wrong(kind, value))
}

/// Rounds to the nearest integer. If two are equally near, a double becomes the even one and a numeric the one farther
/// from zero, as by `dtoi4` and `numeric_int4` of PostgreSQL.
fn to_integer<I: Integer>(kind: &Kind, value: &Bson) -> Result<I, Fault> {
    let rounded = match number(kind, value)? {
        Number::Integer(number) => Some(number.into()),
        // Below the bound the conversion to i128 is exact. No integer type of SQL reaches the bound.
        Number::Double(number) => (number.abs() < 1e30).then_some(number.round_ties_even() as i128),
        Number::Decimal(number) => match number {
            Numeric::NaN => return Err(no_integer("NaN", I::NAME)),
            Numeric::Infinity | Numeric::NegativeInfinity => {
                return Err(no_integer("infinity", I::NAME));
            }
            Numeric::Finite(_) => number.rounded(),
        },
    };
    rounded
        .and_then(|rounded| I::try_from(rounded).ok())
        .ok_or_else(integer::out_of_range::<I>)
}

fn no_integer(what: &str, name: &str) -> Fault {
    Fault::new("0A000", format!("cannot convert {what} to {name}"))
}

fn to_real(kind: &Kind, value: &Bson) -> Result<f32, Fault> {
    match number(kind, value)? {
        Number::Integer(number) => Ok(number as f32),
        Number::Double(number) => float::narrow(number),
        // Parsed from its text, so that the value is rounded only once.
        Number::Decimal(number) => float::parse_real(&number.to_string()),
    }
}

/// A double keeps 15 significant digits, as by `float8_numeric` in PostgreSQL's `numeric.c`.
fn to_numeric(number: Number) -> Result<Numeric, Fault> {
    match number {
        Number::Double(double) if double.is_finite() => {
            let digits = format!("{double:.14e}");
            let (mantissa, exponent) = digits.split_once('e').unwrap_or((&digits, "0"));
            let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
            numeric::parse(&format!("{mantissa}e{exponent}"))
        }
        other => Ok(other.to_numeric()),
    }
}

/// Cuts the text to `length` characters, and returns an error if anything but spaces would be cut off, as `varchar` in
/// PostgreSQL's `varchar.c` does.
fn fit(mut value: String, length: u32) -> Result<String, Fault> {
    let Some((cut, _)) = value.char_indices().nth(length as usize) else {
        return Ok(value);
    };
    if value.as_bytes()[cut..].iter().any(|byte| *byte != b' ') {
        return Err(Fault::new(
            "22001",
            format!("value too long for type character varying({length})"),
        ));
    }
    value.truncate(cut);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Bson {
        Bson::Decimal128(text.parse().unwrap())
    }

    #[test]
    fn numbers_become_those_of_the_column() {
        for (kind, value, assigned) in [
            (Kind::Int8, Bson::Int32(7), Bson::Int64(7)),
            (Kind::Int4, Bson::Double(2.5), Bson::Int32(2)),
            (Kind::Int4, decimal("2.5"), Bson::Int32(3)),
            (Kind::Numeric, Bson::Int64(7), decimal("7")),
            (Kind::Numeric, Bson::Double(0.1 + 0.2), decimal("0.3")),
            (Kind::Float8, decimal("1.5"), Bson::Double(1.5)),
            (Kind::Float4, Bson::Double(0.1), Bson::Double(0.1f32.into())),
            (Kind::Int4, Bson::Undefined, Bson::Null),
        ] {
            assert_eq!(assign(&kind, value), Ok(assigned), "{kind:?}");
        }
    }

    #[test]
    fn numbers_beyond_the_column_are_refused() {
        for (kind, value, message) in [
            (Kind::Int2, Bson::Int32(32_768), "smallint out of range"),
            (Kind::Int4, Bson::Int64(1 << 40), "integer out of range"),
            (Kind::Int8, Bson::Double(1e19), "bigint out of range"),
            (Kind::Int8, Bson::Double(f64::NAN), "bigint out of range"),
            (Kind::Int4, decimal("NaN"), "cannot convert NaN to integer"),
            (
                Kind::Float4,
                Bson::Double(1e39),
                "value out of range: overflow",
            ),
            (
                Kind::Float4,
                Bson::Double(1e-50),
                "value out of range: underflow",
            ),
        ] {
            assert_eq!(assign(&kind, value).unwrap_err().message, message);
        }
    }

    #[test]
    fn only_spaces_are_cut_off() {
        let fit = |text: &str| assign(&Kind::Varchar(2), Bson::from(text));
        assert_eq!(fit("éé"), Ok(Bson::from("éé")));
        assert_eq!(fit("é   "), Ok(Bson::from("é ")));
        let fault = fit("abc").unwrap_err();
        assert_eq!(fault.sqlstate, "22001");
        assert_eq!(
            fault.message,
            "value too long for type character varying(2)"
        );
    }

    #[test]
    fn everything_else_has_its_type_already() {
        for (kind, value) in [
            (Kind::Text, Bson::Int32(1)),
            (Kind::Int4, Bson::from("1")),
            (Kind::Bool, Bson::Int32(1)),
            (Kind::Uuid, Bson::from("x")),
            (Kind::Date, Bson::DateTime(bson::DateTime::from_millis(1))),
        ] {
            assert_eq!(
                assign(&kind, value).unwrap_err().sqlstate,
                "42804",
                "{kind:?}"
            );
        }
        let ints = Kind::Array(Box::new(Kind::Int8));
        let values = vec![Bson::Int32(1), Bson::Null];
        assert_eq!(
            assign(&ints, Bson::Array(values)),
            Ok(Bson::Array(vec![Bson::Int64(1), Bson::Null]))
        );
    }
}
