//! Which type a column for a field has.

use super::seen::{Type, Values};
use crate::{Kind, Precision};

/// What becomes of a field.
#[derive(Debug, PartialEq)]
pub(super) enum Decision {
    /// A column of this type, and what is to be known of it.
    Column(Kind, Vec<String>),
    /// A column for each field of its documents.
    Nested,
    /// Nothing, because.
    Undecided(String),
}

/// Decides by the types that were seen.
pub(super) fn decide(values: &Values) -> Decision {
    let real: Vec<&Type> = values.real().collect();
    match real.as_slice() {
        [] => Decision::Undecided(format!("only null ({})", values.told())),
        [Type::Other(name)] => {
            Decision::Undecided(format!("BSON type {name}, which no column has"))
        }
        [Type::Document] => of_documents(values),
        [Type::Array] => of_arrays(values),
        _ => match scalar(values, &real) {
            Some((kind, remark)) => Decision::Column(kind, remark.into_iter().collect()),
            None => jsonb(format!("values of several types: {}", values.told())),
        },
    }
}

fn jsonb(remark: String) -> Decision {
    Decision::Column(Kind::Jsonb, vec![remark])
}

fn of_documents(values: &Values) -> Decision {
    let odd = values.inside.fields.iter().find(|(name, _)| !is_name(name));
    match odd {
        Some((name, _)) => jsonb(format!(
            "as a whole: no path may have the name {name:?}, which is in it"
        )),
        None if values.inside.fields.is_empty() => jsonb("only empty documents".to_owned()),
        None if !values.inside.are_alike() => jsonb(format!(
            "as a whole: its documents are not alike ({} different names in {} documents)",
            values.inside.fields.len(),
            values.inside.documents
        )),
        None => Decision::Nested,
    }
}

fn of_arrays(values: &Values) -> Decision {
    let Some(elements) = &values.elements else {
        return jsonb("arrays of nothing".to_owned());
    };
    let real: Vec<&Type> = elements.real().collect();
    if real.is_empty() {
        let what = "only arrays without values: an array such as text[] may be right";
        return jsonb(what.to_owned());
    }
    match scalar(elements, &real) {
        Some((kind, remark)) => {
            Decision::Column(Kind::Array(Box::new(kind)), remark.into_iter().collect())
        }
        None => jsonb(format!("arrays with elements: {}", elements.told())),
    }
}

/// The one type for all of these values, if they are neither documents nor arrays.
fn scalar(values: &Values, real: &[&Type]) -> Option<(Kind, Option<String>)> {
    use Type::{Binary, DateTime, Day, Decimal, Double, Int32, Int64, Uuid, Whole};
    let only = |allowed: &[Type]| real.iter().all(|kind| allowed.contains(kind));
    let mixed = || Some(values.told());
    Some(match real {
        [Type::Bool] => (Kind::Bool, None),
        [Type::String] => (Kind::Text, None),
        [Type::ObjectId] => (Kind::ObjectId, None),
        [Uuid] => (Kind::Uuid, None),
        [Int32] => (Kind::Int4, None),
        [Int64] => (Kind::Int8, None),
        [Whole] => {
            let remark = "all without a fraction: int8 may be right";
            (Kind::Float8, Some(remark.to_owned()))
        }
        [Double] => (Kind::Float8, None),
        [Decimal] => (Kind::Numeric, None),
        [DateTime] | [Day, DateTime] => (Kind::Timestamptz(Precision::Millis), None),
        [Day] => {
            let remark = "all at midnight in UTC: date may be right";
            (
                Kind::Timestamptz(Precision::Millis),
                Some(remark.to_owned()),
            )
        }
        [Binary] => (Kind::Bytea, None),
        _ if only(&[Uuid, Binary]) => (Kind::Bytea, mixed()),
        _ if only(&[Int32, Int64]) => (Kind::Int8, None),
        // Some drivers write a number as Double where it is too great for Int32.
        _ if only(&[Int32, Int64, Whole]) => (Kind::Int8, mixed()),
        _ if only(&[Whole, Double]) => (Kind::Float8, None),
        _ if only(&[Int32, Whole, Double]) => (Kind::Float8, mixed()),
        // A Double has not all Int64.
        _ if only(&[Int32, Int64, Whole, Double, Decimal]) => (Kind::Numeric, mixed()),
        _ => return None,
    })
}

/// Whether a path may have this name.
pub(super) fn is_name(name: &str) -> bool {
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
    !(name.starts_with('$') || name.contains(['.', '\0']) || is_number)
}
