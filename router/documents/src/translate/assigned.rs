//! Computes the values that a row's columns get from INSERT, from SET or from their defaults, and makes the row's
//! document of them.

use bson::oid::ObjectId;
use bson::{Bson, Document, RawDocument, RawDocumentBuf, Uuid};
use smallvec::SmallVec;
use sqlparser::ast::{Expr, Ident};

use super::super::field::{Field, field};
use super::super::rest::Rest;
use super::super::told::failing_row;
use super::super::value::{self, Forms};
use super::super::{Collection, Column, Fault, Filled, Kind};
use super::constant::{Bound, Constant, Literal};
use super::laid::lay;
use super::scope::{Parameters, VARCHAR};
use super::{Result, because};

/// A NULL in a column that does not allow it.
const NOT_NULL: &str = "23502";

/// A value of a column that does not depend on the row.
#[derive(Clone, Debug)]
pub(super) enum Assigned {
    /// The column's default.
    Default,
    /// A constant of a type that the column accepts.
    Constant(Constant),
}

impl Assigned {
    /// Reads an expression.
    pub fn read(expr: &Expr, column: &Column, parameters: &mut Parameters) -> Result<Assigned> {
        if is_default(expr) {
            return Ok(Assigned::Default);
        }
        let literal =
            Literal::read(expr, parameters)?.ok_or_else(|| because("a value that is computed"))?;
        let literal = match literal {
            // Read from its text, the number is rounded only once and keeps its scale.
            Literal::Number(digits, _)
                if matches!(column.kind, Kind::Float4 | Kind::Float8 | Kind::Numeric) =>
            {
                Literal::Text(digits)
            }
            literal => literal,
        };
        let constant = literal.typed(&written(&column.kind), parameters)?;
        match takes(&column.kind, &constant.kind) {
            true => Ok(Assigned::Constant(constant)),
            false => Err(because("a value of another type")),
        }
    }

    /// Whether the value is NULL, or may be NULL once its parameter is known.
    pub fn may_be_null(&self, column: &Column) -> bool {
        match self {
            Assigned::Default => column.default.is_none(),
            Assigned::Constant(constant) => constant.may_be_null(),
        }
    }

    /// The value; None is NULL.
    pub fn value(
        &self,
        column: &Column,
        bound: &Bound<'_>,
    ) -> std::result::Result<Option<Bson>, Fault> {
        let constant = match self {
            Assigned::Default => return default(column, bound),
            Assigned::Constant(constant) => constant,
        };
        let Some(value) = constant.for_column(&column.kind, bound)? else {
            return Ok(None);
        };
        stored(&column.kind, value, bound.forms).map(Some)
    }
}

/// A value as a column stores it.
pub(super) fn stored(kind: &Kind, value: Bson, forms: &Forms) -> std::result::Result<Bson, Fault> {
    match (kind, value) {
        (Kind::ObjectId, Bson::String(text)) => value::from_text(&Kind::ObjectId, &text, forms),
        (kind, value) => value::assign(kind, value),
    }
}

/// The document of a row with these values of its columns. An error if a column that does not allow NULL is NULL.
pub(super) fn document(
    collection: &Collection,
    forms: &Forms,
    mut value: impl FnMut(usize, &Column) -> std::result::Result<Option<Bson>, Fault>,
) -> std::result::Result<RawDocumentBuf, Fault> {
    let mut values = SmallVec::<[Option<Bson>; 8]>::new();
    let rest = Rest::of(collection);
    let mut missing = None;
    let mut fields = Document::new();
    for (at, column) in collection.columns.iter().enumerate() {
        let value = value(at, column)?;
        if value.is_none() && (column.not_null || is_id(column)) && missing.is_none() {
            missing = Some(column);
        }
        values.push(match (rest.as_ref().filter(|_| column.is_rest()), value) {
            (Some(rest), Some(value)) => {
                fields = rest.checked(value)?;
                None
            }
            (Some(_), None) => {
                fields = Rest::null();
                None
            }
            (None, value) => value,
        });
    }
    let mut document = lay(collection, &values)?;
    if rest.is_some() {
        document = Rest::add(&document, fields)?;
    }
    match missing {
        None => Ok(document),
        Some(column) => {
            let fault = null_violation(collection, column);
            Err(match failing_row(collection, &document, forms) {
                Some(detail) => fault.detail(detail),
                None => fault,
            })
        }
    }
}

/// The documents of rows, in their order, up to the first row with a NULL that is not allowed, and the error of that
/// row.
///
/// # Errors
/// If a value in any row is invalid: PostgreSQL reads all rows before it stores the first one.
pub(super) fn documents(
    rows: impl Iterator<Item = std::result::Result<RawDocumentBuf, Fault>>,
) -> std::result::Result<(Vec<RawDocumentBuf>, Option<Fault>), Fault> {
    let (mut made, mut missing) = (Vec::new(), None);
    for row in rows {
        match (row, &missing) {
            (Ok(document), None) => made.push(document),
            (Err(fault), None) if fault.sqlstate == NOT_NULL => missing = Some(fault),
            (Err(fault), _) if fault.sqlstate != NOT_NULL => return Err(fault),
            (_, _) => {}
        }
    }
    Ok((made, missing))
}

/// Whether a column is in the `_id` of a document, which MongoDB never changes.
pub(super) fn is_id(column: &Column) -> bool {
    column.path.first().is_some_and(|field| field == "_id")
}

/// Whether an expression is DEFAULT, which the parser reads as a name.
pub(super) fn is_default(expr: &Expr) -> bool {
    match expr {
        Expr::Identifier(Ident {
            value,
            quote_style: None,
            span: _,
        }) => value.eq_ignore_ascii_case("default"),
        _ => false,
    }
}

/// The type that a constant without a type gets. For `varchar(n)` the length is checked later.
pub(super) fn written(column: &Kind) -> Kind {
    match column {
        Kind::Varchar(_) | Kind::ObjectId => VARCHAR,
        Kind::Array(element) => Kind::Array(Box::new(written(element))),
        kind => kind.without_precision(),
    }
}

/// Whether a column accepts values of a type, directly or by an assignment cast.
pub(super) fn takes(column: &Kind, constant: &Kind) -> bool {
    let is_number = |kind: &Kind| {
        matches!(
            kind,
            Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Float4 | Kind::Float8 | Kind::Numeric
        )
    };
    match (column, constant) {
        // PostgreSQL converts with six digits, but the value here is a double, which has more.
        (Kind::Numeric, Kind::Float4) => false,
        (column, constant) if is_number(column) && is_number(constant) => true,
        (Kind::Text | Kind::Varchar(_) | Kind::ObjectId, Kind::Text | Kind::Varchar(_)) => true,
        (Kind::Array(column), Kind::Array(constant)) => {
            written(column) == **constant && **column != Kind::ObjectId
        }
        (column, constant) => column.without_precision() == constant.without_precision(),
    }
}

/// The default of a column. The time is that of the transaction; identifiers are new each time.
fn default(column: &Column, bound: &Bound<'_>) -> std::result::Result<Option<Bson>, Fault> {
    Ok(match &column.default {
        None => None,
        Some(Filled::Now) => Some(now(&column.kind, bound)),
        Some(Filled::Uuid) => Some(Uuid::new().into()),
        Some(Filled::ObjectId) => Some(ObjectId::new().into()),
        Some(Filled::Constant(text)) => {
            let value = value::from_text(&column.kind, text, bound.forms)?;
            Some(value::assign(&column.kind, value)?)
        }
    })
}

fn now(kind: &Kind, bound: &Bound<'_>) -> Bson {
    let local = match kind {
        Kind::Timestamptz(_) => bound.now_ms,
        _ => local(bound),
    };
    Bson::DateTime(bson::DateTime::from_millis(match kind {
        Kind::Date => local - local.rem_euclid(86_400_000),
        _ => local,
    }))
}

/// The local time in the session's time zone, in milliseconds.
fn local(bound: &Bound<'_>) -> i64 {
    let offset = jiff::Timestamp::from_millisecond(bound.now_ms)
        .map_or(0, |now| bound.forms.zone.to_offset(now).seconds());
    bound.now_ms + i64::from(offset) * 1000
}

/// The value of a column in a document; None is NULL.
pub(super) fn get(document: &RawDocument, path: &[String]) -> Option<Bson> {
    match field(document, path) {
        Field::Value(value) => Bson::try_from(value).ok(),
        Field::Missing | Field::Blocked(_) => None,
    }
    .filter(|value| *value != Bson::Null)
}

/// The error `null value in column "…"`; see `ExecConstraints` in PostgreSQL's `execMain.c`.
pub(super) fn null_violation(collection: &Collection, column: &Column) -> Fault {
    let mut fault = Fault::new(
        NOT_NULL,
        format!(
            "null value in column \"{}\" of relation \"{}\" violates not-null constraint",
            column.name, collection.table
        ),
    );
    let table = (collection.schema.clone(), collection.table.clone());
    fault.table = Some(Box::new(table));
    fault.column = Some(column.name.clone());
    fault
}
