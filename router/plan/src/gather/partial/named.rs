//! The name that PostgreSQL gives to an output column without an alias (`FigureColname`).

use sqlparser::ast::{CastKind, DataType, Expr};

use crate::expr::strip;
use crate::names::folded;

/// The name; `None` if it is not certain.
pub fn name(expr: &Expr) -> Option<String> {
    Some(figured(expr)?.map_or_else(|| "?column?".to_owned(), |(name, _)| name))
}

/// A name, and whether a cast around it keeps it (PostgreSQL's `FigureColnameInternal` calls this its strength).
#[allow(clippy::option_option)]
fn figured(expr: &Expr) -> Option<Option<(String, bool)>> {
    Some(match strip(expr) {
        Expr::Identifier(ident) => Some((folded(ident), true)),
        Expr::CompoundIdentifier(parts) => Some((folded(parts.last()?), true)),
        Expr::Function(function) => {
            let last = function.name.0.last()?.as_ident()?;
            Some((folded(last), true))
        }
        Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr,
            data_type,
            format: None,
        } => match figured(expr)? {
            Some((name, true)) => Some((name, true)),
            _ => Some((type_name(data_type)?.to_owned(), false)),
        },
        Expr::Case { else_result, .. } => {
            let inner = match else_result {
                Some(expr) => figured(expr)?,
                None => None,
            };
            match inner {
                Some((name, true)) => Some((name, true)),
                _ => Some(("case".to_owned(), false)),
            }
        }
        Expr::Extract { .. } => Some(("extract".to_owned(), true)),
        Expr::BinaryOp { .. } | Expr::UnaryOp { .. } | Expr::Value(_) => None,
        Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..)
        | Expr::InList { .. }
        | Expr::Between { .. } => None,
        _ => return None,
    })
}

fn type_name(data_type: &DataType) -> Option<&'static str> {
    Some(match data_type {
        DataType::SmallInt(None) | DataType::Int2(None) => "int2",
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => "int4",
        DataType::BigInt(None) | DataType::Int8(None) => "int8",
        DataType::Numeric(_) | DataType::Decimal(_) => "numeric",
        DataType::Float8 | DataType::DoublePrecision => "float8",
        DataType::Text => "text",
        DataType::Date => "date",
        DataType::Bool | DataType::Boolean => "bool",
        _ => return None,
    })
}
