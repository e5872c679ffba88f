//! Expressions: constants, necessary conditions, and a walk that leaves nothing unseen.
//!
//! `Analysis::walk` visits every part of an expression and refuses what it does
//! not know. `scalar` reads constants and parameters. `implied` says what must
//! hold of one instance's columns if an expression is true (or false); by
//! three-valued logic neither holds when it is null.

mod call;
mod constant;
mod implied;
mod list;
pub mod operands;
mod parameter;
mod walk;

pub use constant::{cast, cast_oid, number, placeholder};
pub use walk::{ExprContext, Level};

use sqlparser::ast::{BinaryOperator as Op, Expr, UnaryOperator, Value};

use crate::names::{fold, folded};
use crate::scope::{Analysis, Node, Scopes};

/// `NOT x = y` and parentheses aside, an expression and whether it must be true or false.
pub fn strip(mut expr: &Expr) -> &Expr {
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    expr
}

/// Whether one side of `=` is the word NULL. PostgreSQL reads that as IS NULL where `transform_null_equals` is on, and
/// tells nobody where it is.
pub fn equals_null(left: &Expr, right: &Expr) -> bool {
    let is_null = |expr| matches!(strip(expr), Expr::Value(value) if value.value == Value::Null);
    is_null(left) || is_null(right)
}

/// A constant by PostgreSQL's grammar, which makes one of a number and the minus before it: ORDER BY and GROUP BY take
/// none but the place of a column.
pub fn is_constant(expr: &Expr) -> bool {
    match strip(expr) {
        Expr::Value(_) => true,
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => is_number(expr),
        _ => false,
    }
}

fn is_number(expr: &Expr) -> bool {
    match strip(expr) {
        // A placeholder may stand for a literal.
        Expr::Value(value) => matches!(value.value, Value::Number(..) | Value::Placeholder(_)),
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => is_number(expr),
        _ => false,
    }
}

/// The word DEFAULT in place of a value.
pub fn is_default(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(i) if i.quote_style.is_none() && fold(&i.value, false) == "default")
}

/// The operands of a chain of one operator, left to right, without recursion: chains of
/// thousands are legal.
pub fn chain<'e>(expr: &'e Expr, wanted: &Op) -> Vec<&'e Expr> {
    let mut operands = Vec::new();
    let mut open = vec![expr];
    while let Some(expr) = open.pop() {
        match strip(expr) {
            Expr::BinaryOp { left, op, right } if op == wanted => {
                open.push(right);
                open.push(left);
            }
            operand => operands.push(operand),
        }
    }
    operands
}

impl Analysis<'_> {
    /// The column that an expression plainly is.
    pub fn node(&self, expr: &Expr, scopes: &Scopes<'_>) -> Option<Node> {
        let parts: Vec<String> = match strip(expr) {
            Expr::Identifier(ident) => vec![folded(ident)],
            Expr::CompoundIdentifier(parts) => parts.iter().map(folded).collect(),
            _ => return None,
        };
        self.resolve(&parts, scopes)
    }

    /// The column of `instance` that an expression plainly is.
    fn column(&self, expr: &Expr, instance: usize, scopes: &Scopes<'_>) -> Option<usize> {
        self.node(expr, scopes)
            .filter(|node| node.0 == instance)
            .map(|node| node.1)
    }
}
