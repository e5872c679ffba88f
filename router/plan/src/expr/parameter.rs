//! Finds undeclared parameters whose type is certain, because PostgreSQL takes it from a column beside the parameter or
//! from a cast around it. The router needs the type to read the value of a shard key.

use mothership_shardmap::KeyType;
use sqlparser::ast::{BinaryOperator as Op, CastKind, Expr, Value, ValueWithSpan};

use crate::grammar::compared_by;
use crate::scope::{Analysis, Scopes};

use super::constant::{cast_oid, placeholder};
use super::list::array_cast;
use super::strip;

impl Analysis<'_> {
    /// Notes the parameters in this expression that get their type from a column beside them or from a cast.
    pub(super) fn note_columns(&mut self, expr: &Expr, scopes: &Scopes<'_>) {
        match expr {
            Expr::BinaryOp { op, .. } if !compares(compared_by(op)) => {}
            Expr::BinaryOp { left, right, .. }
            | Expr::IsDistinctFrom(left, right)
            | Expr::IsNotDistinctFrom(left, right) => {
                if let (Expr::Tuple(a), Expr::Tuple(b)) = (strip(left), strip(right)) {
                    for (x, y) in a.iter().zip(b) {
                        self.note_pair(x, y, scopes);
                    }
                }
                self.note_pair(left, right, scopes);
            }
            Expr::Between {
                expr, low, high, ..
            } => {
                self.note_pair(expr, low, scopes);
                self.note_pair(expr, high, scopes);
            }
            Expr::InList { expr, list, .. } if self.items(list).is_some() => {
                for item in list {
                    self.note_pair(expr, item, scopes);
                }
            }
            Expr::InList { expr, list, .. } => {
                if let Expr::Tuple(columns) = strip(expr) {
                    for row in list {
                        if let Expr::Tuple(values) = strip(row) {
                            for (c, v) in columns.iter().zip(values) {
                                self.note_pair(c, v, scopes);
                            }
                        }
                    }
                }
            }
            // PostgreSQL takes the array's type from the column, as it would take the type of an element.
            Expr::AnyOp {
                left,
                compare_op,
                right,
                ..
            } if *compared_by(compare_op) == Op::Eq => {
                let list: &[Expr] = match strip(right) {
                    Expr::Array(array) if self.items(&array.elem).is_some() => &array.elem,
                    _ => std::slice::from_ref(&**right),
                };
                for item in list {
                    self.note_pair(left, item, scopes);
                }
            }
            // A cast around a parameter gives it its type.
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type,
                ..
            } => {
                let oid = cast_oid(data_type).or_else(|| array_cast(data_type));
                if let Some(key_type) = oid.and_then(KeyType::from_oid) {
                    self.note_use(expr, key_type);
                }
            }
            _ => {}
        }
    }

    fn note_pair(&mut self, left: &Expr, right: &Expr, scopes: &Scopes<'_>) {
        for (column, value) in [(left, right), (right, left)] {
            if let Some(key_type) = self
                .node(column, scopes)
                .and_then(|node| self.key_type(node))
            {
                self.note_use(value, key_type);
            }
        }
    }

    /// Notes that an expression has this type, if it is a parameter and nothing else.
    pub fn note_use(&mut self, expr: &Expr, key_type: KeyType) {
        if let Expr::Value(ValueWithSpan {
            value: Value::Placeholder(text),
            span,
        }) = strip(expr)
            && let Some(number) = placeholder(text)
        {
            self.typed_uses.insert(span.start, (number, key_type));
        }
    }
}

fn compares(op: &Op) -> bool {
    matches!(
        op,
        Op::Eq | Op::NotEq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq
    )
}
