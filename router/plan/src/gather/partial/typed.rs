//! The type of an expression, where it is certain.
//!
//! What is computed on a shard is handed over as of the type that PostgreSQL gives it. Columns have their types from
//! the catalog; of anything else only what is built into PostgreSQL is known here: numbers, dates, truth values.

use mothership_shardmap::KeyType;
use sqlparser::ast::{
    BinaryOperator as Op, CastKind, DataType, DateTimeField, Expr, FunctionArg, FunctionArgExpr,
    FunctionArguments, UnaryOperator, Value,
};

use crate::expr::{cast_oid, strip};
use crate::names::folded;
use crate::scope::{Analysis, Node, Scopes, Source};
use crate::slots::{Slot, SlotKind};
use mothership_catalog::Column;

pub const BOOL: u32 = 16;
pub const INT8: u32 = 20;
pub const INT2: u32 = 21;
pub const INT4: u32 = 23;
pub const FLOAT4: u32 = 700;
pub const FLOAT8: u32 = 701;
pub const DATE: u32 = 1082;
pub const NUMERIC: u32 = 1700;

/// The types that are computed here, with their names.
pub fn name_of(oid: u32) -> Option<&'static str> {
    Some(match oid {
        BOOL => "boolean",
        INT8 => "bigint",
        INT2 => "smallint",
        INT4 => "integer",
        FLOAT4 => "real",
        FLOAT8 => "double precision",
        DATE => "date",
        NUMERIC => "numeric",
        _ => return None,
    })
}

/// A type, and whether it may have a modifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Typed {
    /// Its object id.
    pub oid: u32,
    /// A modifier may come with it.
    pub modified: bool,
}

/// Expressions may nest this deep to be looked into.
const MAX_DEPTH: u8 = 20;

/// The column of a table that a column of an instance shows unchanged.
pub fn column_of<'n>(analysis: &Analysis<'n>, node: Node) -> Option<&'n Column> {
    let mut node = node;
    // Subqueries end; the bound is for the reader.
    for _ in 0..100 {
        match &analysis.instances[node.0].source {
            Source::Sharded(relation, _) | Source::Reference(relation) => {
                return relation.columns.get(node.1);
            }
            // A column of USING may be of another type than the one that it shows.
            Source::Derived if analysis.notes.merged => return None,
            Source::Derived => node = *analysis.notes.shown.get(&node)?,
            Source::Home(_) | Source::Rows => return None,
        }
    }
    None
}

/// The types of expressions in one scope.
pub struct Types<'a, 'n> {
    /// The statement.
    pub analysis: &'a Analysis<'n>,
    /// What names mean.
    pub scopes: Scopes<'a>,
}

impl Types<'_, '_> {
    /// The type of an expression, if it is certain and one of `name_of`.
    pub fn of(&self, expr: &Expr) -> Option<Typed> {
        self.within(expr, MAX_DEPTH)
    }

    fn within(&self, expr: &Expr, depth: u8) -> Option<Typed> {
        let depth = depth.checked_sub(1)?;
        let expr = strip(expr);
        let plain = |oid| Typed {
            oid,
            modified: false,
        };
        match expr {
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => {
                let column = column_of(self.analysis, self.analysis.node(expr, &self.scopes)?)?;
                let oid = self.analysis.names.catalog.base_type(column.type_oid);
                name_of(oid).map(|_| Typed {
                    oid,
                    modified: column.typmod != -1 || oid != column.type_oid,
                })
            }
            Expr::Value(value) => self.constant(&value.value).map(plain),
            Expr::UnaryOp {
                op: UnaryOperator::Plus | UnaryOperator::Minus,
                expr,
            } => {
                let oid = self.within(expr, depth)?.oid;
                is_number(oid).then(|| plain(oid))
            }
            Expr::BinaryOp { left, op, right } => self.operation(left, op, right, depth).map(plain),
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                data_type,
                format: None,
                ..
            } => {
                let oid = match data_type {
                    DataType::Float8 | DataType::DoublePrecision => FLOAT8,
                    DataType::Float4 | DataType::Real => FLOAT4,
                    data_type => cast_oid(data_type)?,
                };
                name_of(oid).map(|_| plain(oid))
            }
            Expr::TypedString(typed) => cast_oid(&typed.data_type)
                .filter(|oid| name_of(*oid).is_some())
                .map(plain),
            // Before 14 it was a float8.
            Expr::Extract {
                field: DateTimeField::Year | DateTimeField::Month | DateTimeField::Day,
                ..
            } => (self.analysis.names.catalog.server_version >= 140_000).then(|| plain(NUMERIC)),
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
            | Expr::InList { .. }
            | Expr::Between { .. }
            | Expr::UnaryOp {
                op: UnaryOperator::Not,
                ..
            } => Some(plain(BOOL)),
            Expr::Case {
                conditions,
                else_result,
                ..
            } => {
                let results = conditions.iter().map(|when| &when.result);
                self.common(results.chain(else_result.as_deref()), depth)
            }
            Expr::Function(function) => {
                let [name] = function.name.0.as_slice() else {
                    return None;
                };
                let FunctionArguments::List(list) = &function.args else {
                    return None;
                };
                let arguments = list.args.iter().map(|argument| match argument {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
                    _ => None,
                });
                let arguments: Vec<&Expr> = arguments.collect::<Option<_>>()?;
                match folded(name.as_ident()?).as_str() {
                    // A word of the grammar, not a function's name.
                    "coalesce" => self.common(arguments.into_iter(), depth),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn constant(&self, value: &Value) -> Option<u32> {
        match value {
            Value::Number(digits, false) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(match digits.parse::<i64>() {
                    Ok(value) if i32::try_from(value).is_ok() => INT4,
                    Ok(_) => INT8,
                    Err(_) => NUMERIC,
                })
            }
            Value::Number(_, false) => Some(NUMERIC),
            Value::Boolean(_) => Some(BOOL),
            Value::Placeholder(text) => match Slot::of_placeholder(text)?.kind {
                SlotKind::Decimal => Some(NUMERIC),
                SlotKind::Integer => {
                    // Its size says which type of integers it has.
                    self.analysis.looked.value.set(true);
                    None
                }
                SlotKind::Text => None,
            },
            _ => None,
        }
    }

    /// An integer, of whatever size.
    fn is_integer_slot(expr: &Expr) -> bool {
        match strip(expr) {
            Expr::Value(value) => match &value.value {
                Value::Placeholder(text) => {
                    Slot::of_placeholder(text).is_some_and(|slot| slot.kind == SlotKind::Integer)
                }
                _ => false,
            },
            _ => false,
        }
    }

    fn operation(&self, left: &Expr, op: &Op, right: &Expr, depth: u8) -> Option<u32> {
        if self
            .analysis
            .names
            .catalog
            .operators
            .contains_key(&op.to_string())
        {
            return None;
        }
        match op {
            Op::And | Op::Or | Op::Eq | Op::NotEq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq => {
                return Some(BOOL);
            }
            Op::Plus | Op::Minus | Op::Multiply | Op::Divide => {}
            _ => return None,
        }
        let (left, right) = self.pair(left, right, depth)?;
        match (left, op, right) {
            (DATE, Op::Plus | Op::Minus, INT2 | INT4) => Some(DATE),
            (DATE, Op::Minus, DATE) => Some(INT4),
            _ => wider(left, right),
        }
    }

    /// The types of two operands. Beside what is wider than any integer, that of an integer does not matter.
    fn pair(&self, left: &Expr, right: &Expr, depth: u8) -> Option<(u32, u32)> {
        let wide = |expr: &Expr| {
            let oid = self.within(expr, depth)?.oid;
            matches!(oid, INT8 | NUMERIC | FLOAT8).then_some((oid, oid))
        };
        if Self::is_integer_slot(left)
            && let Some(found) = wide(right)
        {
            return Some(found);
        }
        if Self::is_integer_slot(right)
            && let Some(found) = wide(left)
        {
            return Some(found);
        }
        Some((
            self.within(left, depth)?.oid,
            self.within(right, depth)?.oid,
        ))
    }

    /// The common type of several results.
    fn common<'e>(&self, results: impl Iterator<Item = &'e Expr>, depth: u8) -> Option<Typed> {
        let is_null = |expr: &&Expr| match strip(expr) {
            Expr::Value(value) => value.value == Value::Null,
            _ => false,
        };
        let results: Vec<&Expr> = results.filter(|expr| !is_null(expr)).collect();
        let (slots, others): (Vec<&Expr>, Vec<&Expr>) = results
            .into_iter()
            .partition(|expr| Self::is_integer_slot(expr));
        let mut oid = None;
        for expr in others {
            let found = self.within(expr, depth)?.oid;
            oid = Some(match oid {
                None => found,
                Some(oid) => wider(oid, found).or((oid == found).then_some(oid))?,
            });
        }
        let oid = oid?;
        if !slots.is_empty() && !matches!(oid, INT8 | NUMERIC | FLOAT8) {
            self.analysis.looked.value.set(true);
            return None;
        }
        // If all results have one modifier, it stays.
        Some(Typed {
            oid,
            modified: true,
        })
    }
}

fn is_number(oid: u32) -> bool {
    matches!(oid, INT2 | INT4 | INT8 | NUMERIC | FLOAT4 | FLOAT8)
}

/// The type in which PostgreSQL computes with two numbers.
fn wider(left: u32, right: u32) -> Option<u32> {
    const ORDER: [u32; 5] = [INT2, INT4, INT8, NUMERIC, FLOAT8];
    let place = |oid| ORDER.iter().position(|known| *known == oid);
    match (left, right) {
        (FLOAT4, FLOAT4) => Some(FLOAT4),
        _ => Some(ORDER[place(left)?.max(place(right)?)]),
    }
}

/// Whether PostgreSQL's own min and max know the type, give it back, and need no collation.
pub fn has_order(oid: u32) -> bool {
    name_of(oid).is_some_and(|_| oid != BOOL)
        || KeyType::from_oid(oid)
            .is_some_and(|key| matches!(key, KeyType::Timestamp | KeyType::TimestampTz))
}
