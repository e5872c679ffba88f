//! Turns a condition and its values into a filter of MongoDB.
//!
//! Two facts matter throughout. A field that is null or missing is NULL to SQL, but `$ne`, `$nin` and `$not` match it.
//! NaN equals itself in both, but in PostgreSQL it is the greatest number, and in MongoDB it is neither less nor
//! greater than any number.

use bson::{Bson, DateTime, Decimal128, Document, doc};

use super::super::{Fault, Kind};
use super::condition::{Condition, Field, Op};
use super::constant::{Bound, Constant, Value};
use super::{like, shown};

type Result<T> = std::result::Result<T, Fault>;

/// The documents that a condition selects.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Filter {
    All,
    None,
    Matching(Document),
}

impl Filter {
    /// The filter in MongoDB's form.
    pub fn document(self) -> Document {
        match self {
            Filter::All => Document::new(),
            Filter::None => doc! { "$expr": false },
            Filter::Matching(document) => document,
        }
    }
}

/// The filter for a condition. It reads all values, even if the first one decides, because each of them may be invalid.
pub(super) fn bind(condition: &Condition, bound: &Bound<'_>) -> Result<Filter> {
    match condition {
        Condition::Known(value) => Ok(if *value { Filter::All } else { Filter::None }),
        Condition::All(parts) => Ok(all(filters(parts, bound)?)),
        Condition::Any(parts) => Ok(any(filters(parts, bound)?)),
        Condition::Compare(field, op, constant) => Ok(compare(field, *op, constant.value(bound)?)),
        Condition::Among(field, list, among) => {
            let values = list
                .iter()
                .map(|constant| constant.value(bound))
                .collect::<Result<Vec<_>>>()?;
            Ok(self::among(field, values, *among))
        }
        Condition::AmongElements(field, array, among) => Ok(match array.elements(bound)? {
            None => Filter::None,
            // With an empty array the condition IN is false, even for NULL.
            Some(elements) if elements.is_empty() && !among => Filter::All,
            Some(elements) => self::among(field, elements, *among),
        }),
        Condition::Same(field, constant, same) => {
            Ok(self::same(field, constant.value(bound)?, *same))
        }
        Condition::Null(field, null) => Ok(self::null(field, *null)),
        Condition::Has(field, constant, has) => Ok(self::has(field, constant.value(bound)?, *has)),
        Condition::Contains(field, array, contains) => Ok(match array.elements(bound)? {
            None => Filter::None,
            Some(elements) => self::contains(field, elements, *contains),
        }),
        Condition::Overlaps(field, array, overlaps) => Ok(match array.elements(bound)? {
            None => Filter::None,
            Some(elements) => self::overlaps(field, elements, *overlaps),
        }),
        Condition::Columns(left, op, right) => Ok(columns(left, *op, right)),
        Condition::Prefiltered(condition) => Ok(shown::bind(condition, bound)),
        Condition::Like(field, parts, likeness, matches) => match joined(parts, bound)? {
            Some(pattern) => {
                let regex = like::regex(&pattern, *likeness)?;
                Ok(match matches {
                    true => is(field, doc! { "$regex": regex, "$options": "s" }),
                    false => is(
                        field,
                        doc! { "$not": { "$regex": regex, "$options": "s" }, "$ne": null },
                    ),
                })
            }
            None => Ok(Filter::None),
        },
    }
}

/// Texts, concatenated; None (NULL) if one of them is NULL.
pub(super) fn joined(parts: &[Constant], bound: &Bound<'_>) -> Result<Option<String>> {
    let mut all = String::new();
    for part in parts {
        match part.plain(bound)? {
            Some(Bson::String(text)) => all.push_str(&text),
            _ => return Ok(None),
        }
    }
    Ok(Some(all))
}

fn filters(parts: &[Condition], bound: &Bound<'_>) -> Result<Vec<Filter>> {
    parts.iter().map(|part| bind(part, bound)).collect()
}

pub(super) fn all(parts: Vec<Filter>) -> Filter {
    if parts.contains(&Filter::None) {
        return Filter::None;
    }
    let mut matching = parts
        .into_iter()
        .filter_map(Filter::matching)
        .collect::<Vec<_>>();
    match matching.len() {
        0 => Filter::All,
        1 => Filter::Matching(matching.remove(0)),
        _ => Filter::Matching(doc! { "$and": matching }),
    }
}

pub(super) fn any(parts: Vec<Filter>) -> Filter {
    if parts.contains(&Filter::All) {
        return Filter::All;
    }
    let mut matching = parts
        .into_iter()
        .filter_map(Filter::matching)
        .collect::<Vec<_>>();
    match matching.len() {
        0 => Filter::None,
        1 => Filter::Matching(matching.remove(0)),
        _ => Filter::Matching(doc! { "$or": matching }),
    }
}

impl Filter {
    fn matching(self) -> Option<Document> {
        match self {
            Filter::Matching(document) => Some(document),
            Filter::All | Filter::None => None,
        }
    }
}

fn compare(field: &Field, op: Op, value: Value) -> Filter {
    let value = match value {
        Value::Null => return Filter::None,
        // For a value that no document can have, only equality is asked.
        Value::Absent => {
            return match op {
                Op::Unequal => not_null(field),
                _ => Filter::None,
            };
        }
        Value::After(millisecond) => return compare_after(field, op, millisecond),
        Value::Exact(value) if is_nan(&value) => return compare_nan(field, op, value),
        Value::Exact(value) => value,
    };
    match op {
        Op::Equal => is(field, value),
        Op::Unequal => is(field, doc! { "$nin": [value, Bson::Null] }),
        Op::Less => is(field, doc! { "$lt": value }),
        Op::LessOrEqual => is(field, doc! { "$lte": value }),
        Op::Greater => or_nan(field, doc! { "$gt": value }),
        Op::GreaterOrEqual => or_nan(field, doc! { "$gte": value }),
    }
}

/// Compares with a time between this millisecond and the next one.
fn compare_after(field: &Field, op: Op, time: DateTime) -> Filter {
    match op {
        Op::Equal => Filter::None,
        Op::Unequal => not_null(field),
        Op::Less | Op::LessOrEqual => is(field, doc! { "$lte": time }),
        Op::Greater | Op::GreaterOrEqual => is(field, doc! { "$gt": time }),
    }
}

/// Compares with NaN, which is PostgreSQL's greatest number.
fn compare_nan(field: &Field, op: Op, nan: Bson) -> Filter {
    match op {
        Op::Greater => Filter::None,
        Op::Equal | Op::GreaterOrEqual => is(field, nan),
        Op::Less | Op::Unequal => is(field, doc! { "$nin": [nan, Bson::Null] }),
        Op::LessOrEqual => not_null(field),
    }
}

fn among(field: &Field, values: Vec<Value>, among: bool) -> Filter {
    let unknown = values.iter().any(|value| matches!(value, Value::Null));
    let mut exact = values
        .into_iter()
        .filter_map(|value| match value {
            Value::Exact(value) => Some(value),
            Value::Null | Value::After(_) | Value::Absent => None,
        })
        .collect::<Vec<_>>();
    match among {
        true if exact.is_empty() => Filter::None,
        true => is(field, doc! { "$in": exact }),
        // Inequality with NULL is unknown.
        false if unknown => Filter::None,
        false => {
            exact.push(Bson::Null);
            is(field, doc! { "$nin": exact })
        }
    }
}

fn same(field: &Field, value: Value, same: bool) -> Filter {
    match (value, same) {
        (Value::Null, same) => null(field, same),
        (Value::Exact(value), true) => is(field, value),
        (Value::Exact(value), false) => is(field, doc! { "$ne": value }),
        (Value::After(_) | Value::Absent, true) => Filter::None,
        (Value::After(_) | Value::Absent, false) => Filter::All,
    }
}

fn null(field: &Field, null: bool) -> Filter {
    // `{p: null}` matches an array that has a null.
    match (&field.kind, null) {
        (Kind::Array(_), true) => is(field, doc! { "$not": { "$type": "array" } }),
        (Kind::Array(_), false) => is(field, doc! { "$type": "array" }),
        (Kind::Jsonb, true) => is(field, doc! { "$eq": null, "$not": { "$type": "array" } }),
        (Kind::Jsonb, false) => any(vec![not_null(field), is(field, doc! { "$type": "array" })]),
        (_, true) => is(field, Bson::Null),
        (_, false) => not_null(field),
    }
}

/// Whether an array has an element. `$nin` looks at the elements of an array. If one of them is NULL, it is unknown
/// that the array does not have the value.
fn has(field: &Field, value: Value, has: bool) -> Filter {
    match (value, has) {
        (Value::Null | Value::After(_) | Value::Absent, true) => Filter::None,
        // Only an empty array certainly has no NULL either.
        (Value::Null, false) => is(field, doc! { "$size": 0 }),
        (Value::Exact(value), true) => is(field, value),
        (Value::Exact(value), false) => is(
            field,
            doc! { "$type": "array", "$nin": [value, Bson::Null] },
        ),
        (Value::After(_) | Value::Absent, false) => {
            is(field, doc! { "$type": "array", "$ne": null })
        }
    }
}

/// Whether an array contains all these values. No array contains NULL, and every array contains an empty list.
fn contains(field: &Field, values: Vec<Value>, contains: bool) -> Filter {
    let count = values.len();
    let exact = values
        .into_iter()
        .filter_map(|value| match value {
            Value::Exact(value) => Some(value),
            Value::Null | Value::After(_) | Value::Absent => None,
        })
        .collect::<Vec<_>>();
    match (exact.len() == count, contains) {
        (false, true) => Filter::None,
        (false, false) => null(field, false),
        (true, true) if exact.is_empty() => null(field, false),
        (true, false) if exact.is_empty() => Filter::None,
        (true, true) => is(field, doc! { "$all": exact }),
        (true, false) => is(field, doc! { "$type": "array", "$not": { "$all": exact } }),
    }
}

/// Whether an array has one of these values. NULL elements equal nothing, and do not make the answer unknown.
fn overlaps(field: &Field, values: Vec<Value>, overlaps: bool) -> Filter {
    let exact = values.into_iter().filter_map(|value| match value {
        Value::Exact(value) => Some(value),
        Value::Null | Value::After(_) | Value::Absent => None,
    });
    let exact: Vec<Bson> = exact.collect();
    match (exact.is_empty(), overlaps) {
        (true, true) => Filter::None,
        (true, false) => null(field, false),
        (false, true) => is(field, doc! { "$in": exact }),
        (false, false) => is(field, doc! { "$type": "array", "$nin": exact }),
    }
}

/// Compares two columns. To `$expr`, null and missing fields are values, too, so they are left out first.
fn columns(left: &Field, op: Op, right: &Field) -> Filter {
    let operator = match op {
        Op::Equal => "$eq",
        Op::Unequal => "$ne",
        Op::Less => "$lt",
        Op::LessOrEqual => "$lte",
        Op::Greater => "$gt",
        Op::GreaterOrEqual => "$gte",
    };
    let paths = [left, right].map(|field| format!("${}", field.path));
    let mut compared = Document::new();
    compared.insert(operator, paths.to_vec());
    let compared = Filter::Matching(doc! { "$expr": compared });
    all(vec![not_null(left), not_null(right), compared])
}

fn or_nan(field: &Field, condition: Document) -> Filter {
    let filter = is(field, condition);
    match field.kind {
        Kind::Float4 | Kind::Float8 | Kind::Numeric => any(vec![filter, is(field, f64::NAN)]),
        _ => filter,
    }
}

fn not_null(field: &Field) -> Filter {
    is(field, doc! { "$ne": null })
}

fn is(field: &Field, condition: impl Into<Bson>) -> Filter {
    let mut document = Document::new();
    document.insert(&field.path, condition);
    Filter::Matching(document)
}

pub(super) fn is_nan(value: &Bson) -> bool {
    match value {
        Bson::Double(number) => number.is_nan(),
        Bson::Decimal128(number) => is_decimal_nan(number),
        _ => false,
    }
}

/// NaN has the five bits after the sign all set; see IEEE 754, decimal formats.
fn is_decimal_nan(number: &Decimal128) -> bool {
    number.bytes()[15] & 0x7c == 0x7c
}
