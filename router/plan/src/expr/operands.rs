//! The operands of an expression: the one place that knows where each kind of expression has them.

use sqlparser::ast::{CastKind, Expr};

use crate::grammar::lower_bound;

/// Visits the operands in the order in which they are written, up to the first error.
///
/// `Ok(false)` for an expression without operands (a name, a constant), for one that has more than operands (a call, a
/// query, a field), and for one that PostgreSQL does not have.
pub fn try_each<'e, E>(
    expr: &'e Expr,
    mut visit: impl FnMut(&'e Expr) -> Result<(), E>,
) -> Result<bool, E> {
    let mut all = |list: &[Option<&'e Expr>]| list.iter().flatten().try_for_each(|e| visit(e));
    match expr {
        Expr::Nested(e)
        | Expr::UnaryOp { expr: e, .. }
        | Expr::IsTrue(e)
        | Expr::IsNotTrue(e)
        | Expr::IsFalse(e)
        | Expr::IsNotFalse(e)
        | Expr::IsNull(e)
        | Expr::IsNotNull(e)
        | Expr::IsUnknown(e)
        | Expr::IsNotUnknown(e)
        | Expr::IsJson { expr: e, .. }
        | Expr::IsNormalized { expr: e, .. }
        | Expr::Extract { expr: e, .. }
        | Expr::Ceil { expr: e, .. }
        | Expr::Floor { expr: e, .. }
        | Expr::Collate { expr: e, .. }
        | Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr: e,
            format: None,
            ..
        } => all(&[Some(e)])?,
        Expr::Interval(interval) => all(&[Some(&interval.value)])?,
        Expr::BinaryOp { left, right, .. }
        | Expr::AnyOp { left, right, .. }
        | Expr::AllOp { left, right, .. }
        | Expr::IsDistinctFrom(left, right)
        | Expr::IsNotDistinctFrom(left, right)
        | Expr::AtTimeZone {
            timestamp: left,
            time_zone: right,
        }
        | Expr::Position {
            expr: left,
            r#in: right,
        } => all(&[Some(left), Some(right)])?,
        Expr::Between {
            expr, low, high, ..
        } => all(&[Some(expr), Some(lower_bound(low).0), Some(high)])?,
        Expr::Like {
            any: false,
            expr,
            pattern,
            escape_char,
            ..
        }
        | Expr::ILike {
            any: false,
            expr,
            pattern,
            escape_char,
            ..
        }
        | Expr::SimilarTo {
            expr,
            pattern,
            escape_char,
            ..
        } => all(&[Some(expr), Some(pattern), escape_char.as_deref()])?,
        Expr::Substring {
            expr,
            substring_from,
            substring_for,
            ..
        } => all(&[
            Some(expr),
            substring_from.as_deref(),
            substring_for.as_deref(),
        ])?,
        Expr::Trim {
            expr,
            trim_what,
            trim_characters,
            ..
        } => {
            all(&[Some(expr), trim_what.as_deref()])?;
            trim_characters.iter().flatten().try_for_each(visit)?;
        }
        Expr::Overlay {
            expr,
            overlay_what,
            overlay_from,
            overlay_for,
        } => all(&[
            Some(expr),
            Some(overlay_what),
            Some(overlay_from),
            overlay_for.as_deref(),
        ])?,
        Expr::Case {
            operand,
            conditions,
            else_result,
            ..
        } => {
            all(&[operand.as_deref()])?;
            for when in conditions {
                all(&[Some(&when.condition), Some(&when.result)])?;
            }
            all(&[else_result.as_deref()])?;
        }
        Expr::InList { expr, list, .. } => {
            all(&[Some(expr)])?;
            list.iter().try_for_each(visit)?;
        }
        Expr::Tuple(list) => list.iter().try_for_each(visit)?,
        Expr::Array(array) => array.elem.iter().try_for_each(visit)?,
        Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => {
            sets.iter().flatten().try_for_each(visit)?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}
