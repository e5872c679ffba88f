//! Where sqlparser's tree may not be PostgreSQL's, in one place.
//!
//! Two readers of one operator grammar agree if every operand binds as tightly
//! as PostgreSQL's precedence table asks of its place: for a given row of
//! tokens only one tree does. So `agrees` checks each operator against that
//! table (parentheses are kept as `Nested` and always fit). `-2 ^ 2` read as
//! `-(2 ^ 2)`, or `a IS DISTINCT FROM (1 OR b)`, do not pass, and nothing is
//! concluded from such a statement. What PostgreSQL has and the table below
//! does not know does not pass either.
//! <https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-PRECEDENCE>

use sqlparser::ast::{BinaryOperator as Op, CastKind, Expr, UnaryOperator};

use crate::sql::lexer::Lexer;

use super::parse::{self, Parsed};

/// Whether the parser cut the text into the same tokens as our own lexer, which follows PostgreSQL's.
pub fn same_tokens(sql: &str, parsed: &Parsed, standard_conforming_strings: bool) -> bool {
    let ours = Lexer::new(sql.as_bytes(), standard_conforming_strings);
    let theirs = parse::byte_starts(sql, &parsed.tokens);
    ours.map(|token| token.start).eq(theirs)
}

/// Text that the parser may tokenize otherwise than PostgreSQL: nothing is concluded from a statement with it.
pub fn has_unclear_tokens(sql: &str, standard_conforming_strings: bool) -> bool {
    let lower = sql.to_ascii_lowercase();
    // Without standard conforming strings a backslash moves the end of a string.
    let moving_strings = !standard_conforming_strings && sql.contains('\\');
    // Escapes in identifiers and strings; operators by name.
    let escapes = lower.contains("u&\"") || lower.contains("u&'");
    moving_strings || escapes || has_named_operator(&lower) || has_control(sql)
}

/// `OPERATOR(schema.=)`, with whatever white space; in a string or comment it does no harm to be careful.
fn has_named_operator(lower: &str) -> bool {
    let mut rest = lower;
    while let Some(at) = rest.find("operator") {
        rest = &rest[at + "operator".len()..];
        if rest.trim_start().starts_with(['(', '/', '-']) {
            return true;
        }
    }
    false
}

/// White space that PostgreSQL does not take for white space, or the other way round.
fn has_control(sql: &str) -> bool {
    sql.chars().any(|c| {
        (c.is_control() && !matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c'))
            || (!c.is_ascii() && c.is_whitespace())
            || c == '\u{feff}'
    })
}

// PostgreSQL's precedence, from loose to tight.
const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const IS: u8 = 4;
const COMPARE: u8 = 5;
const IN: u8 = 6;
const OTHER: u8 = 7;
const ADD: u8 = 8;
const MULTIPLY: u8 = 9;
const POWER: u8 = 10;
const AT: u8 = 11;
const COLLATE: u8 = 12;
const SIGN: u8 = 13;
const SUBSCRIPT: u8 = 14;
const CAST: u8 = 15;
const PRIMARY: u8 = 16;

/// Whether this node, with its direct operands, stands as PostgreSQL would have it. The
/// caller asks for every node of the tree.
pub fn agrees(expr: &Expr) -> bool {
    let tighter = |operand: &Expr, than: u8| class(operand).is_some_and(|c| c > than);
    let least = |operand: &Expr, bound: u8| class(operand).is_some_and(|c| c >= bound);
    match expr {
        Expr::BinaryOp { left, op, right } => match binary_class(op) {
            // `<`, `=` and their kin do not chain.
            Some(COMPARE) => tighter(left, COMPARE) && tighter(right, COMPARE),
            Some(class) => least(left, class) && tighter(right, class),
            None => false,
        },
        Expr::UnaryOp { op, expr } => match op {
            UnaryOperator::Not => least(expr, NOT),
            UnaryOperator::Plus | UnaryOperator::Minus => least(expr, SIGN),
            UnaryOperator::PGPostfixFactorial => false,
            _ => tighter(expr, OTHER),
        },
        Expr::IsTrue(e)
        | Expr::IsNotTrue(e)
        | Expr::IsFalse(e)
        | Expr::IsNotFalse(e)
        | Expr::IsNull(e)
        | Expr::IsNotNull(e)
        | Expr::IsUnknown(e)
        | Expr::IsNotUnknown(e) => tighter(e, IS),
        Expr::IsDistinctFrom(a, b) | Expr::IsNotDistinctFrom(a, b) => {
            tighter(a, IS) && tighter(b, IS)
        }
        Expr::IsJson { expr, .. } | Expr::IsNormalized { expr, .. } => tighter(expr, IS),
        Expr::InList { expr, .. } | Expr::InSubquery { expr, .. } => tighter(expr, IN),
        Expr::Between {
            expr, low, high, ..
        } => tighter(expr, IN) && tighter(low, IN) && tighter(high, IN),
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
        } => {
            tighter(expr, IN)
                && tighter(pattern, IN)
                && escape_char.as_ref().is_none_or(|e| tighter(e, IN))
        }
        Expr::AnyOp {
            left, is_some: _, ..
        }
        | Expr::AllOp { left, .. } => least(left, OTHER),
        Expr::AtTimeZone {
            timestamp,
            time_zone,
        } => least(timestamp, AT) && tighter(time_zone, AT),
        Expr::Collate { expr, .. } => least(expr, COLLATE),
        Expr::Cast {
            kind: CastKind::DoubleColon,
            expr,
            ..
        } => least(expr, CAST),
        Expr::CompoundFieldAccess { root, .. } => least(root, SUBSCRIPT),
        Expr::Interval(interval) => matches!(*interval.value, Expr::Value(_)),
        _ => class(expr).is_some(),
    }
}

/// How tightly an expression binds; None for what PostgreSQL does not have or is not listed here.
fn class(expr: &Expr) -> Option<u8> {
    Some(match expr {
        Expr::BinaryOp { op, .. } => binary_class(op)?,
        Expr::UnaryOp { op, .. } => match op {
            UnaryOperator::Not => NOT,
            UnaryOperator::Plus | UnaryOperator::Minus => SIGN,
            UnaryOperator::PGPostfixFactorial => return None,
            _ => OTHER,
        },
        Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotUnknown(_)
        | Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..)
        | Expr::IsJson { .. }
        | Expr::IsNormalized { .. } => IS,
        Expr::InList { .. }
        | Expr::InSubquery { .. }
        | Expr::Between { .. }
        | Expr::Like { .. }
        | Expr::ILike { .. }
        | Expr::SimilarTo { .. } => IN,
        Expr::AnyOp { .. } | Expr::AllOp { .. } => OTHER,
        Expr::AtTimeZone { .. } => AT,
        Expr::Collate { .. } => COLLATE,
        Expr::Cast {
            kind: CastKind::DoubleColon,
            ..
        } => CAST,
        Expr::CompoundFieldAccess { .. } => SUBSCRIPT,
        // NOT EXISTS is one node, and an operator in PostgreSQL.
        Expr::Exists { negated: true, .. } => NOT,
        Expr::Cast {
            kind: CastKind::Cast,
            ..
        }
        | Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::Nested(_)
        | Expr::Value(_)
        | Expr::TypedString(_)
        | Expr::Function(_)
        | Expr::Case { .. }
        | Expr::Exists { .. }
        | Expr::Subquery(_)
        | Expr::Tuple(_)
        | Expr::Array(_)
        | Expr::Interval(_)
        | Expr::Extract { .. }
        | Expr::Ceil { .. }
        | Expr::Floor { .. }
        | Expr::Position { .. }
        | Expr::Substring { .. }
        | Expr::Trim { .. }
        | Expr::Overlay { .. }
        | Expr::GroupingSets(_)
        | Expr::Cube(_)
        | Expr::Rollup(_) => PRIMARY,
        _ => return None,
    })
}

fn binary_class(op: &Op) -> Option<u8> {
    Some(match op {
        Op::Or => OR,
        Op::And => AND,
        Op::Eq | Op::NotEq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq => COMPARE,
        Op::Plus | Op::Minus => ADD,
        Op::Multiply | Op::Divide | Op::Modulo => MULTIPLY,
        Op::PGExp => POWER,
        // Not PostgreSQL's, or with rules of their own.
        Op::Spaceship
        | Op::Xor
        | Op::BitwiseXor
        | Op::DuckIntegerDivide
        | Op::MyIntegerDivide
        | Op::Match
        | Op::Regexp
        | Op::Glob
        | Op::Assignment
        | Op::Overlaps
        | Op::PGCustomBinaryOperator(_) => return None,
        _ => OTHER,
    })
}
