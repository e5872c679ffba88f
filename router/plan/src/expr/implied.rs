//! What must hold of an instance's columns if an expression is true, or false.
//!
//! Here `customer_id = 5` becomes the condition that leads to a shard.

use sqlparser::ast::{BinaryOperator as Op, Expr, UnaryOperator, Value};

use crate::condition::{Cond, Edge, Item, Scalar};
use crate::grammar::{compared_by, lower_bound};
use crate::scope::{Analysis, Scopes};

use super::{chain, equals_null, strip};

impl Analysis<'_> {
    /// What must hold of an instance's columns if the expression is `wanted`.
    pub fn implied(&self, expr: &Expr, wanted: bool, instance: usize, scopes: &Scopes<'_>) -> Cond {
        match strip(expr) {
            expr @ Expr::BinaryOp {
                op: op @ (Op::And | Op::Or),
                ..
            } => {
                let operands = chain(expr, op);
                let each = operands
                    .into_iter()
                    .map(|e| self.implied(e, wanted, instance, scopes));
                if (*op == Op::And) == wanted {
                    each.fold(Cond::Any, Cond::and)
                } else {
                    each.fold(Cond::Never, Cond::or)
                }
            }
            Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr,
            } => self.implied(expr, !wanted, instance, scopes),
            Expr::IsTrue(e) if wanted => self.implied(e, true, instance, scopes),
            Expr::IsFalse(e) if wanted => self.implied(e, false, instance, scopes),
            Expr::BinaryOp {
                left,
                op: Op::Eq,
                right,
            } if equals_null(left, right) => Cond::Any,
            Expr::BinaryOp { left, op, right } => {
                self.comparison(left, compared_by(op), right, wanted, instance, scopes)
            }
            Expr::IsNotDistinctFrom(a, b) if wanted => self.not_distinct(a, b, instance, scopes),
            Expr::IsDistinctFrom(a, b) if !wanted => self.not_distinct(a, b, instance, scopes),
            Expr::InList {
                expr,
                list,
                negated,
            } if *negated != wanted => self.in_list(expr, list, instance, scopes),
            Expr::AnyOp {
                left,
                compare_op,
                right,
                ..
            } if wanted && *compared_by(compare_op) == Op::Eq => {
                match (self.column(left, instance, scopes), self.array_items(right)) {
                    (Some(column), Some(items)) => Cond::In {
                        column,
                        items,
                        nulls_match: false,
                    },
                    _ => Cond::Any,
                }
            }
            Expr::Between {
                expr,
                negated,
                low,
                high,
            } if *negated != wanted && !lower_bound(low).1 => {
                let low = self.comparison(expr, &Op::GtEq, low, true, instance, scopes);
                low.and(self.comparison(expr, &Op::LtEq, high, true, instance, scopes))
            }
            Expr::Value(value) => match value.value {
                Value::Boolean(constant) if constant == wanted => Cond::Any,
                Value::Boolean(_) | Value::Null => Cond::Never,
                _ => Cond::Any,
            },
            _ => Cond::Any,
        }
    }

    fn comparison(
        &self,
        left: &Expr,
        op: &Op,
        right: &Expr,
        wanted: bool,
        instance: usize,
        scopes: &Scopes<'_>,
    ) -> Cond {
        let op = match (op, wanted) {
            (Op::Eq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq, true) => op.clone(),
            (Op::NotEq, false) => Op::Eq,
            (Op::Lt, false) => Op::GtEq,
            (Op::LtEq, false) => Op::Gt,
            (Op::Gt, false) => Op::LtEq,
            (Op::GtEq, false) => Op::Lt,
            _ => return Cond::Any,
        };
        if let (Expr::Tuple(a), Expr::Tuple(b)) = (strip(left), strip(right)) {
            // Only equality of rows is equality of columns; `<` is lexicographic.
            if op != Op::Eq || a.len() != b.len() {
                return Cond::Any;
            }
            let pairs = a
                .iter()
                .zip(b)
                .map(|(x, y)| self.comparison(x, &Op::Eq, y, true, instance, scopes));
            return pairs.fold(Cond::Any, Cond::and);
        }
        if let (Some(a), Some(b)) = (self.scalar(left), self.scalar(right)) {
            self.look_at(&a, &b);
            return constants(&a, &op, &b);
        }
        if let (Some(column), Some(scalar)) =
            (self.column(left, instance, scopes), self.scalar(right))
        {
            return atom(column, &op, scalar);
        }
        if let (Some(scalar), Some(column)) =
            (self.scalar(left), self.column(right, instance, scopes))
        {
            let op = match op {
                Op::Lt => Op::Gt,
                Op::LtEq => Op::GtEq,
                Op::Gt => Op::Lt,
                Op::GtEq => Op::LtEq,
                other => other,
            };
            return atom(column, &op, scalar);
        }
        Cond::Any
    }

    fn not_distinct(&self, a: &Expr, b: &Expr, instance: usize, scopes: &Scopes<'_>) -> Cond {
        for (column, value) in [(a, b), (b, a)] {
            if let (Some(column), Some(scalar)) =
                (self.column(column, instance, scopes), self.scalar(value))
            {
                return Cond::In {
                    column,
                    items: vec![Item::One(scalar)],
                    nulls_match: true,
                };
            }
        }
        Cond::Any
    }

    fn in_list(&self, expr: &Expr, list: &[Expr], instance: usize, scopes: &Scopes<'_>) -> Cond {
        if let Expr::Tuple(columns) = strip(expr) {
            let rows = list.iter().map(|row| match strip(row) {
                Expr::Tuple(values) if values.len() == columns.len() => {
                    let pairs = columns.iter().zip(values);
                    pairs.fold(Cond::Any, |all, (c, v)| {
                        all.and(self.comparison(c, &Op::Eq, v, true, instance, scopes))
                    })
                }
                _ => Cond::Any,
            });
            return rows.fold(Cond::Never, Cond::or);
        }
        match (self.column(expr, instance, scopes), self.items(list)) {
            (Some(column), Some(items)) => Cond::In {
                column,
                items,
                nulls_match: false,
            },
            _ => Cond::Any,
        }
    }
}

fn atom(column: usize, op: &Op, value: Scalar) -> Cond {
    let edge = |inclusive| {
        Some(Edge {
            value: value.clone(),
            inclusive,
        })
    };
    match op {
        Op::Eq => Cond::equals(column, value),
        Op::Gt => Cond::Between {
            column,
            low: edge(false),
            high: None,
        },
        Op::GtEq => Cond::Between {
            column,
            low: edge(true),
            high: None,
        },
        Op::Lt => Cond::Between {
            column,
            low: None,
            high: edge(false),
        },
        Op::LtEq => Cond::Between {
            column,
            low: None,
            high: edge(true),
        },
        _ => Cond::Any,
    }
}

/// `1 = 0` and the like, for integers only.
fn constants(a: &Scalar, op: &Op, b: &Scalar) -> Cond {
    let holds = match (a, b) {
        (Scalar::Null, _) | (_, Scalar::Null) => false,
        (Scalar::Integer(a), Scalar::Integer(b)) => match op {
            Op::Eq => a == b,
            Op::Lt => a < b,
            Op::LtEq => a <= b,
            Op::Gt => a > b,
            Op::GtEq => a >= b,
            _ => return Cond::Any,
        },
        _ => return Cond::Any,
    };
    if holds { Cond::Any } else { Cond::Never }
}
