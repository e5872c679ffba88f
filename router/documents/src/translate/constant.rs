//! Constants of a statement: literals and parameters, with the types that PostgreSQL gives them.
//!
//! A literal is read with the statement ([`Literal`]), gets its type where it is used ([`Constant`]), and its value
//! when the statement is bound ([`Value`]).

use bson::{Bson, oid::ObjectId};
use sqlparser::ast::{
    Array, ArrayElemTypeDef, CastKind, DataType, ExactNumberInfo, Expr, Query, SelectItem,
    TimezoneInfo, TypedString, UnaryOperator, Value as Token, ValueWithSpan,
};

use super::super::value::{self, Forms};
use super::super::{Fault, Kind, Precision};
use super::scope::{Parameters, VARCHAR, words};
use super::select::shown;
use super::{BoundValue, Result, because};

/// What Decimal128 has room for.
const DECIMAL_DIGITS: usize = 34;

/// A constant as it is written.
#[derive(Clone, Debug)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    /// In quotes: its type depends on its place.
    Text(String),
    /// With its sign, and the type that PostgreSQL gives it for its size.
    Number(String, Kind),
    Parameter(usize),
    Cast(Box<Literal>, Kind),
    /// `ARRAY[…]`, with the type of its elements.
    Array(Vec<Literal>, Kind),
    /// The time of the transaction, written out.
    Moment(String),
}

impl Literal {
    /// The constant that an expression is; None if it is something else.
    pub fn read(expr: &Expr, parameters: &mut Parameters) -> Result<Option<Literal>> {
        match expr {
            Expr::Nested(expr) => Literal::read(expr, parameters),
            Expr::Value(ValueWithSpan { value, span: _ }) => token(value, parameters).map(Some),
            Expr::UnaryOp {
                op: op @ (UnaryOperator::Minus | UnaryOperator::Plus),
                expr,
            } => match Literal::read(expr, parameters)? {
                Some(Literal::Number(digits, kind)) if !digits.starts_with('-') => {
                    Ok(Some(signed(*op == UnaryOperator::Minus, digits, kind)))
                }
                _ => Err(because("a sign before something else than a number")),
            },
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type,
                format: None,
            } => match elements(expr) {
                Some(elements) => match kind_of(data_type)? {
                    Kind::Array(element) => Literal::array(elements, Some(*element), parameters),
                    _ => Err(because("a cast that computes")),
                },
                None => match Literal::read(expr, parameters)? {
                    None => Ok(None),
                    Some(literal) => literal.cast(kind_of(data_type)?).map(Some),
                },
            },
            expr if let Some(elements) = elements(expr) => {
                Literal::array(elements, None, parameters)
            }
            Expr::TypedString(TypedString {
                data_type,
                value: ValueWithSpan { value, span: _ },
                uses_odbc_syntax: false,
            }) => match token(value, parameters)? {
                literal @ Literal::Text(_) => literal.cast(kind_of(data_type)?).map(Some),
                _ => Err(because("a type before something else than a string")),
            },
            Expr::Subquery(query) => Ok(moment(query).map(|text| Literal::Moment(text.to_owned()))),
            _ => Ok(None),
        }
    }

    /// `ARRAY[…]` of constants; `cast` is the type that a cast around it gives to its elements.
    fn array(
        elements: &[Expr],
        cast: Option<Kind>,
        parameters: &mut Parameters,
    ) -> Result<Option<Literal>> {
        let mut read = Vec::with_capacity(elements.len());
        for element in elements {
            match Literal::read(element, parameters)? {
                Some(Literal::Array(..)) => return Err(because("an array of arrays")),
                Some(literal) => read.push(literal),
                None => return Ok(None),
            }
        }
        let Some(kind) = cast else {
            let kind = of_all(&read, parameters)?;
            return Ok(Some(Literal::Array(read, kind)));
        };
        // PostgreSQL casts each element, and not the array.
        let cast = |literal: Literal| match literal.own_kind(parameters) {
            Some(own) if own == kind => Ok(literal),
            _ => literal.cast(kind.clone()),
        };
        let read = read.into_iter().map(cast).collect::<Result<_>>()?;
        Ok(Some(Literal::Array(read, kind)))
    }

    /// The type that it has wherever it stands.
    pub fn own_kind(&self, parameters: &Parameters) -> Option<Kind> {
        match self {
            Literal::Array(_, kind) => Some(Kind::Array(Box::new(kind.clone()))),
            Literal::Null | Literal::Text(_) => None,
            Literal::Bool(_) => Some(Kind::Bool),
            Literal::Number(_, kind) | Literal::Cast(_, kind) => Some(kind.clone()),
            Literal::Parameter(position) => parameters.declared_kind(*position).cloned(),
            Literal::Moment(_) => Some(Kind::Timestamptz(Precision::Micros)),
        }
    }

    /// With its own type, or else the one that its place gives it.
    pub fn typed(self, place: &Kind, parameters: &mut Parameters) -> Result<Constant> {
        let kind = self.own_kind(parameters).unwrap_or_else(|| place.clone());
        let source = match self {
            Literal::Null => Source::Null,
            Literal::Bool(value) => Source::Bool(value),
            Literal::Text(text) => Source::Text(certain(text, &kind)?),
            Literal::Number(digits, _) => Source::Text(digits),
            Literal::Parameter(position) => {
                parameters.infer(position, &kind)?;
                Source::Parameter(position)
            }
            Literal::Moment(text) => Source::Moment(text),
            Literal::Cast(inner, _) => match *inner {
                Literal::Moment(_) => return Err(because("a cast that computes")),
                Literal::Null => Source::Null,
                Literal::Text(text) | Literal::Number(text, _) => {
                    Source::Text(certain(text, &kind)?)
                }
                Literal::Bool(value) => Source::Bool(value),
                Literal::Parameter(position) => {
                    parameters.infer(position, &kind)?;
                    Source::Parameter(position)
                }
                Literal::Cast(..) | Literal::Array(..) => {
                    return Err(because("a cast of a cast"));
                }
            },
            Literal::Array(elements, element) => {
                let typed = |literal| match literal {
                    // A number of another type than the array's elements becomes one of them.
                    Literal::Number(digits, _) => Literal::Text(digits).typed(&element, parameters),
                    literal => literal.typed(&element, parameters),
                };
                Source::Array(elements.into_iter().map(typed).collect::<Result<_>>()?)
            }
        };
        Ok(Constant {
            source,
            kind,
            becomes: Becomes::Itself,
        })
    }

    /// `literal::kind`, where reading the text as that type is what the cast does.
    fn cast(self, kind: Kind) -> Result<Literal> {
        let reads = match &self {
            Literal::Null | Literal::Text(_) | Literal::Parameter(_) => true,
            Literal::Bool(_) => kind == Kind::Bool,
            Literal::Number(digits, _) => match kind {
                // PostgreSQL's message for a number that is too large differs from the one for such a text.
                Kind::Int2 => digits.parse::<i16>().is_ok(),
                Kind::Int4 => digits.parse::<i32>().is_ok(),
                Kind::Int8 => digits.parse::<i64>().is_ok(),
                Kind::Numeric | Kind::Float4 | Kind::Float8 => true,
                _ => false,
            },
            // A cast to its own type changes nothing.
            Literal::Moment(_) => {
                return match kind {
                    Kind::Timestamptz(_) => Ok(self),
                    _ => Err(because("a cast that computes")),
                };
            }
            Literal::Cast(inner, already) => {
                return if *already == kind {
                    Ok(Literal::Cast(inner.clone(), kind))
                } else {
                    Err(because("a cast of a cast"))
                };
            }
            Literal::Array(..) => false,
        };
        match reads {
            true => Ok(Literal::Cast(Box::new(self), kind)),
            false => Err(because("a cast that computes")),
        }
    }
}

/// The elements of `ARRAY[…]`.
fn elements(expr: &Expr) -> Option<&[Expr]> {
    match expr {
        Expr::Nested(expr) => elements(expr),
        Expr::Array(Array { elem, named: true }) => Some(elem),
        _ => None,
    }
}

/// The type of an array of these: `select_common_type` of PostgreSQL, as far as it is certain.
fn of_all(elements: &[Literal], parameters: &Parameters) -> Result<Kind> {
    const NUMBERS: [Kind; 3] = [Kind::Int4, Kind::Int8, Kind::Numeric];
    let rank = |kind: &Kind| NUMBERS.iter().position(|number| number == kind);
    let kinds = elements
        .iter()
        .filter_map(|literal| literal.own_kind(parameters));
    let kinds: Vec<Kind> = kinds.collect();
    let Some(first) = kinds.first() else {
        return match elements.is_empty() {
            true => Err(because("an array without a type")),
            false => Ok(Kind::Text),
        };
    };
    if kinds.iter().all(|kind| kind == first) {
        return Ok(first.clone());
    }
    let is_written = |literal: &Literal| matches!(literal, Literal::Number(..));
    let ranks: Option<Vec<usize>> = kinds.iter().map(rank).collect();
    match ranks.and_then(|ranks| ranks.into_iter().max()) {
        Some(widest) if elements.iter().all(is_written) => Ok(NUMBERS[widest].clone()),
        _ => Err(because("an array of different types")),
    }
}

/// `(SELECT '...'::pg_catalog.timestamptz AS "now")`: the time of a transaction, as `sql::time` writes it. A client may write
/// the same.
fn moment(query: &Query) -> Option<&str> {
    let [
        SelectItem::ExprWithAlias {
            expr:
                Expr::Cast {
                    kind: CastKind::DoubleColon,
                    expr,
                    data_type: DataType::Custom(name, arguments),
                    format: None,
                },
            alias: _,
        },
    ] = shown(query)?
    else {
        return None;
    };
    let is_time = words(name).is_ok_and(|words| words == ["pg_catalog", "timestamptz"]);
    match &**expr {
        Expr::Value(ValueWithSpan {
            value: Token::SingleQuotedString(text),
            span: _,
        }) if is_time && arguments.is_empty() => Some(text),
        _ => None,
    }
}

fn token(value: &Token, parameters: &mut Parameters) -> Result<Literal> {
    match value {
        Token::Null => Ok(Literal::Null),
        Token::Boolean(value) => Ok(Literal::Bool(*value)),
        Token::SingleQuotedString(text) => Ok(Literal::Text(text.clone())),
        Token::Placeholder(name) => parameters.position(name).map(Literal::Parameter),
        Token::Number(digits, false) => number(digits),
        _ => Err(because("a constant of another form")),
    }
}

/// `make_const` of PostgreSQL: integers as small as they fit, from int4; everything else is numeric.
fn number(digits: &str) -> Result<Literal> {
    let plain = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    if !plain || !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return Err(because("a number of another form"));
    }
    let kind = if digits.parse::<i32>().is_ok() {
        Kind::Int4
    } else if digits.parse::<i64>().is_ok() {
        Kind::Int8
    } else if fits_decimal(digits) {
        Kind::Numeric
    } else {
        return Err(because("a number of more digits than MongoDB has"));
    };
    Ok(Literal::Number(digits.to_owned(), kind))
}

/// Whether Decimal128 has it with all its digits. These limits are stricter than Decimal128's own.
fn fits_decimal(digits: &str) -> bool {
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let count = mantissa.bytes().filter(u8::is_ascii_digit).count();
    let small = |exponent: i32| (-30..=30).contains(&exponent);
    let whole = exponent.parse().is_ok_and(small);
    // PostgreSQL prints 1e20 with all its zeros, so they must have room as well.
    whole && count <= DECIMAL_DIGITS && (exponent == "0" || count <= DECIMAL_DIGITS - 30)
}

fn signed(minus: bool, digits: String, kind: Kind) -> Literal {
    // In PostgreSQL minus zero is zero in integers and numeric. A conversion to double would make it -0.0.
    let mantissa = digits.split(['e', 'E']).next().unwrap_or_default();
    let zero = mantissa.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    match minus && !zero {
        true => Literal::Number(format!("-{digits}"), kind),
        false => Literal::Number(digits, kind),
    }
}

/// A text, unless it names a time that only PostgreSQL's clock knows, or a number with more digits than MongoDB has.
fn certain(text: String, kind: &Kind) -> Result<String> {
    match kind {
        Kind::Timestamptz(_) | Kind::Timestamp(_) | Kind::Date
            if !text
                .trim_start()
                .starts_with(|first: char| first.is_ascii_digit())
                || !value::is_understood(kind, &text) =>
        {
            Err(because("a time that only PostgreSQL reads"))
        }
        Kind::Numeric if text.bytes().filter(u8::is_ascii_digit).count() > DECIMAL_DIGITS => {
            Err(because("a number of more digits than MongoDB has"))
        }
        _ => Ok(text),
    }
}

/// The type of a cast.
pub(super) fn kind_of(data_type: &DataType) -> Result<Kind> {
    Ok(match data_type {
        DataType::Bool | DataType::Boolean => Kind::Bool,
        DataType::Int2(None) | DataType::SmallInt(None) => Kind::Int2,
        DataType::Int(None) | DataType::Int4(None) | DataType::Integer(None) => Kind::Int4,
        DataType::Int8(None) | DataType::BigInt(None) => Kind::Int8,
        DataType::Float4 | DataType::Real => Kind::Float4,
        DataType::Float8 | DataType::DoublePrecision => Kind::Float8,
        DataType::Numeric(ExactNumberInfo::None) | DataType::Decimal(ExactNumberInfo::None) => {
            Kind::Numeric
        }
        DataType::Text => Kind::Text,
        DataType::Varchar(None) | DataType::CharacterVarying(None) => VARCHAR,
        DataType::Uuid => Kind::Uuid,
        DataType::Bytea => Kind::Bytea,
        DataType::Timestamp(None, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => {
            Kind::Timestamptz(Precision::Micros)
        }
        DataType::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            Kind::Timestamp(Precision::Micros)
        }
        DataType::Date => Kind::Date,
        DataType::JSONB => Kind::Jsonb,
        DataType::Array(ArrayElemTypeDef::SquareBracket(element, None)) => {
            match kind_of(element)? {
                Kind::Array(_) => return Err(because("an array of arrays")),
                element => Kind::Array(Box::new(element)),
            }
        }
        _ => return Err(because("a type that MongoDB does not have")),
    })
}

/// A constant with its type.
#[derive(Clone, Debug)]
pub(super) struct Constant {
    source: Source,
    /// Its type in SQL.
    pub kind: Kind,
    becomes: Becomes,
}

#[derive(Clone, Debug)]
enum Source {
    Null,
    Bool(bool),
    Text(String),
    Parameter(usize),
    /// The elements of an array, all of its element type.
    Array(Vec<Constant>),
    Moment(String),
}

/// To what a value is converted for its comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Becomes {
    Itself,
    /// A number that is compared with a column of floating point.
    Double,
    /// A text that is compared with a column of ObjectIds.
    ObjectId,
}

/// A value to compare with.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Exact(Bson),
    /// A time after this millisecond, and before the next.
    After(bson::DateTime),
    /// A value that no document can have.
    Absent,
}

/// What the parameters are, and how their texts are read.
pub(super) struct Bound<'a> {
    /// The values.
    pub given: &'a [BoundValue<'a>],
    /// The session's settings.
    pub forms: &'a Forms,
    /// The time of the transaction.
    pub now_ms: i64,
}

impl Constant {
    /// The constant for a comparison with a column of this type, converted as PostgreSQL converts it. An error if MongoDB would
    /// compare otherwise.
    pub fn beside(self, column: &Kind) -> Result<Constant> {
        let becomes = match (column, &self.kind) {
            (Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Numeric, kind) if is_exact(kind) => {
                Becomes::Itself
            }
            // PostgreSQL prefers double precision, also beside a column of real.
            (Kind::Float4 | Kind::Float8, kind) if is_exact(kind) => Becomes::Double,
            (Kind::Float4 | Kind::Float8, Kind::Float4 | Kind::Float8) => Becomes::Itself,
            (Kind::Text | Kind::Varchar(_), Kind::Text | Kind::Varchar(_)) => Becomes::Itself,
            (Kind::ObjectId, Kind::Text | Kind::Varchar(_)) => Becomes::ObjectId,
            (
                Kind::Bool
                | Kind::Uuid
                | Kind::Bytea
                | Kind::Timestamptz(_)
                | Kind::Timestamp(_)
                | Kind::Date,
                kind,
            ) if kind == column => Becomes::Itself,
            _ => return Err(because("a comparison of different types")),
        };
        Ok(Constant { becomes, ..self })
    }

    /// The same of each element of an array.
    pub fn elements_beside(self, column: &Kind) -> Result<Constant> {
        let Kind::Array(element) = &self.kind else {
            return Err(because("ANY of something else than an array"));
        };
        if matches!(**element, Kind::Timestamptz(_) | Kind::Timestamp(_)) {
            return Err(because("ANY of an array of times"));
        }
        let like = Constant {
            source: Source::Null,
            kind: (**element).clone(),
            becomes: Becomes::Itself,
        };
        let becomes = like.beside(column)?.becomes;
        Ok(Constant { becomes, ..self })
    }

    /// Whether it is NULL, or may be when its parameter is known.
    pub fn may_be_null(&self) -> bool {
        matches!(self.source, Source::Null | Source::Parameter(_))
    }

    /// Its text, if it is written in the statement.
    pub fn text(&self) -> Option<&str> {
        match &self.source {
            Source::Text(text) | Source::Moment(text) => Some(text),
            _ => None,
        }
    }

    /// Its value, of its own type; None is NULL.
    pub fn plain(&self, bound: &Bound<'_>) -> std::result::Result<Option<Bson>, Fault> {
        self.read(&self.kind, bound)
    }

    /// Its value for a column of this type; None is NULL.
    pub fn for_column(
        &self,
        column: &Kind,
        bound: &Bound<'_>,
    ) -> std::result::Result<Option<Bson>, Fault> {
        match column.without_precision() == self.kind {
            true => self.read(column, bound),
            false => self.read(&self.kind, bound),
        }
    }

    fn read(&self, kind: &Kind, bound: &Bound<'_>) -> std::result::Result<Option<Bson>, Fault> {
        match &self.source {
            Source::Null => Ok(None),
            Source::Bool(value) => Ok(Some(Bson::Boolean(*value))),
            Source::Text(text) => value::from_text(kind, text, bound.forms).map(Some),
            // The clock has microseconds, which a document has not.
            Source::Moment(text) => {
                let time = value::micros_from_text(kind, text, bound.forms)?;
                Ok(Some(Bson::DateTime(time.floor())))
            }
            Source::Parameter(position) => match bound.parameter(*position)? {
                BoundValue::Null => Ok(None),
                BoundValue::Text(text) => value::from_text(kind, text, bound.forms)
                    .map(Some)
                    .map_err(limit),
                BoundValue::Binary(bytes) => {
                    value::from_binary(kind, bytes).map(Some).map_err(limit)
                }
            },
            Source::Array(elements) => {
                let own = match kind {
                    Kind::Array(own) => own,
                    kind => kind,
                };
                let value =
                    |element: &Constant| Ok(element.for_column(own, bound)?.unwrap_or(Bson::Null));
                let values = elements.iter().map(value);
                let values = values.collect::<std::result::Result<Vec<Bson>, Fault>>()?;
                Ok(Some(Bson::Array(values)))
            }
        }
    }

    /// Its value, to compare a column with.
    pub fn value(&self, bound: &Bound<'_>) -> std::result::Result<Value, Fault> {
        if let Some(end) = self.end_of_time(bound)? {
            return Ok(Value::After(end));
        }
        if matches!(self.kind, Kind::Timestamptz(_) | Kind::Timestamp(_)) {
            return self.time(bound);
        }
        Ok(match self.plain(bound)? {
            None => Value::Null,
            Some(value) => self.becomes.convert(value)?,
        })
    }

    /// The elements of an array; None is NULL.
    pub fn elements(&self, bound: &Bound<'_>) -> std::result::Result<Option<Vec<Value>>, Fault> {
        match self.plain(bound)? {
            None => Ok(None),
            Some(Bson::Array(elements)) => elements
                .into_iter()
                .map(|element| match element {
                    Bson::Null => Ok(Value::Null),
                    element => self.becomes.convert(element),
                })
                .collect::<std::result::Result<_, _>>()
                .map(Some),
            Some(_) => Err(Fault::new("XX000", "an array's value is no array")),
        }
    }

    /// If the parameter is `infinity`, MongoDB's last time, and if it is `-infinity`, the first: no document has a later or
    /// earlier one. `None` for all other values.
    fn end_of_time(&self, bound: &Bound<'_>) -> std::result::Result<Option<bson::DateTime>, Fault> {
        let Source::Parameter(position) = &self.source else {
            return Ok(None);
        };
        let number = match (&self.kind, bound.parameter(*position)?) {
            (Kind::Timestamptz(_) | Kind::Timestamp(_) | Kind::Date, BoundValue::Text(text)) => {
                match text.trim().to_ascii_lowercase().as_str() {
                    "infinity" => i64::MAX,
                    "-infinity" => i64::MIN,
                    _ => return Ok(None),
                }
            }
            (Kind::Timestamptz(_) | Kind::Timestamp(_), BoundValue::Binary(bytes)) => {
                match <[u8; 8]>::try_from(*bytes) {
                    Ok(bytes) => i64::from_be_bytes(bytes),
                    Err(_) => return Ok(None),
                }
            }
            (Kind::Date, BoundValue::Binary(bytes)) => match <[u8; 4]>::try_from(*bytes) {
                Ok(bytes) => match i32::from_be_bytes(bytes) {
                    i32::MAX => i64::MAX,
                    i32::MIN => i64::MIN,
                    _ => return Ok(None),
                },
                Err(_) => return Ok(None),
            },
            _ => return Ok(None),
        };
        Ok(match number {
            i64::MAX => Some(bson::DateTime::MAX),
            i64::MIN => Some(bson::DateTime::MIN),
            _ => None,
        })
    }

    /// The time to compare with. Documents have milliseconds: a time between two of them is [`Value::After`] the first.
    fn time(&self, bound: &Bound<'_>) -> std::result::Result<Value, Fault> {
        let micros = |text: &str| value::micros_from_text(&self.kind, text, bound.forms);
        let micros = match &self.source {
            Source::Null | Source::Bool(_) | Source::Array(_) => return Ok(Value::Null),
            Source::Text(text) | Source::Moment(text) => micros(text)?,
            Source::Parameter(position) => match bound.parameter(*position)? {
                BoundValue::Null => return Ok(Value::Null),
                BoundValue::Text(text) => micros(text).map_err(limit)?,
                BoundValue::Binary(bytes) => {
                    value::micros_from_binary(&self.kind, bytes).map_err(limit)?
                }
            },
        };
        let floor = micros.floor();
        Ok(match floor == micros.ceil() {
            true => Value::Exact(Bson::DateTime(floor)),
            false => Value::After(floor),
        })
    }
}

/// Makes a refusal of a fault that says that MongoDB cannot hold a value: the client made no mistake. The message of such a
/// fault begins with `MongoDB`.
fn limit(fault: Fault) -> Fault {
    match fault.message.starts_with("MongoDB") {
        true => Fault {
            sqlstate: "0A000",
            ..fault
        },
        false => fault,
    }
}

impl Becomes {
    fn convert(self, value: Bson) -> std::result::Result<Value, Fault> {
        Ok(match (self, value) {
            (Becomes::Itself, value) => Value::Exact(value),
            (Becomes::Double, value) => Value::Exact(value::assign(&Kind::Float8, value)?),
            (Becomes::ObjectId, Bson::String(text)) => match object_id(&text) {
                Some(id) => Value::Exact(Bson::ObjectId(id)),
                None => Value::Absent,
            },
            (Becomes::ObjectId, _) => Value::Absent,
        })
    }
}

impl<'a> Bound<'a> {
    fn parameter(&self, position: usize) -> std::result::Result<&BoundValue<'a>, Fault> {
        self.given.get(position).ok_or_else(|| {
            Fault::new(
                "08P01",
                format!("there is no value of parameter ${}", position + 1),
            )
        })
    }
}

/// The ObjectId of a text. In SQL an ObjectId is 24 hexadecimal digits in lower case, and no other text equals it.
pub(super) fn object_id(text: &str) -> Option<ObjectId> {
    let lower = text
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (lower && text.len() == 24)
        .then(|| ObjectId::parse_str(text).ok())
        .flatten()
}

/// Types whose numbers MongoDB compares exactly, whatever BSON has them in.
pub(super) fn is_exact(kind: &Kind) -> bool {
    matches!(kind, Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Numeric)
}
