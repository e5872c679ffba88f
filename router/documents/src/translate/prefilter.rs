//! Conditions that MongoDB cannot decide, read into filters that select every row for which they may be true.
//!
//! A query whose rows are gathered asks all its conditions again of what is fetched. So a filter may select too many
//! rows, but none too few: neither one for which the condition is true, nor one of which PostgreSQL would make an error.
//! Who writes such a query says so by [`marked`]; in a client's statement the mark is a call of a function that there is
//! not.
//!
//! The filters are made in `shown`. Absent: NOT, which would select too few.

use bson::Bson;
use sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, FunctionArg, FunctionArgExpr, FunctionArguments,
};

use super::super::Kind;
use super::super::value::{self, Forms};
use super::condition::{Condition, MAX_DEPTH, Op, Operands, chain, chained, likeness};
use super::constant::{Constant, Literal, is_exact, kind_of};
use super::like::Likeness;
use super::scope::{Parameters, Scope, words};
use super::{Result, because};

/// The function that is called by a mark: its schema, and its name.
const MARK: [&str; 2] = ["mothership", "perhaps"];

/// A condition on an entry of FROM, as the query of its rows says that rows for which it may be true will do.
pub fn marked(condition: &str) -> String {
    format!("{}.{}({condition})", MARK[0], MARK[1])
}

/// What selects every row for which a condition may be true.
#[derive(Clone, Debug)]
pub(super) enum Prefilter {
    /// It is one that MongoDB decides.
    Exactly(Condition),
    /// All may be true.
    All(Vec<Prefilter>),
    /// One may be true.
    Any(Vec<Prefilter>),
    /// The text of what is at a path is one of these.
    Texts(String, Vec<Constant>),
    /// The same of the elements of an array.
    TextAmong(String, Constant),
    /// It is like a pattern.
    Like(String, Vec<Constant>, Likeness),
    /// It has a text.
    Present(String),
    /// There is something, perhaps JSON's own null.
    Exists(String),
    /// `jsonb` that contains this, or is equal to it.
    Contains(String, Constant),
    /// `jsonb` that has this key, or this string among its elements.
    Key(String, Constant),
    /// The same of one of the elements of an array, or of each.
    Keys(String, Constant, bool),
    /// The text is that of a number of this type, which compares so.
    Number(String, Kind, Op, Constant),
}

/// The condition of WHERE, of which what is [`marked`] is read so.
pub(super) fn of(
    selection: Option<&Expr>,
    scope: &Scope,
    parameters: &mut Parameters,
) -> Result<Condition> {
    let Some(expr) = selection else {
        return Ok(Condition::Known(true));
    };
    let parts = chain(expr, &BinaryOperator::And).into_iter();
    let parts = parts.map(|part| {
        let mut columns = scope;
        match unmarked(part) {
            None => Condition::on(part, &mut columns, parameters),
            Some(condition) => {
                let mut reader = Reader {
                    operands: &mut columns,
                    parameters,
                };
                let read = reader.read(condition, 0)?;
                Ok(Condition::Prefiltered(Box::new(read)))
            }
        }
    });
    let mut parts = parts.collect::<Result<Vec<Condition>>>()?;
    Ok(match parts.len() {
        1 => parts.remove(0),
        _ => Condition::All(parts),
    })
}

/// The condition in a mark.
fn unmarked(expr: &Expr) -> Option<&Expr> {
    let function = match expr {
        Expr::Nested(expr) => return unmarked(expr),
        Expr::Function(function) => function,
        _ => return None,
    };
    if words(&function.name).ok()? != MARK {
        return None;
    }
    match &function.args {
        FunctionArguments::List(list) => match list.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(condition))] => Some(condition),
            _ => None,
        },
        _ => None,
    }
}

struct Reader<'a> {
    operands: &'a mut dyn Operands,
    parameters: &'a mut Parameters,
}

impl Reader<'_> {
    fn read(&mut self, expr: &Expr, depth: usize) -> Result<Prefilter> {
        if depth > MAX_DEPTH {
            return Err(because("a condition too deep"));
        }
        // What is not read to its end gives no parameter its type.
        let mut parameters = self.parameters.clone();
        if let Ok(exact) = Condition::on(expr, self.operands, &mut parameters) {
            *self.parameters = parameters;
            return Ok(Prefilter::Exactly(exact));
        }
        match expr {
            Expr::Nested(expr) => self.read(expr, depth + 1),
            Expr::BinaryOp {
                op: BinaryOperator::And,
                ..
            } => self.all(chain(expr, &BinaryOperator::And), depth),
            Expr::BinaryOp {
                op: BinaryOperator::Or,
                ..
            } => {
                let arms = chain(expr, &BinaryOperator::Or).into_iter();
                let arms = arms.map(|arm| self.read(arm, depth + 1));
                Ok(Prefilter::Any(arms.collect::<Result<_>>()?))
            }
            expr => self.leaf(expr),
        }
    }

    /// Of conditions of which all must hold, those that are understood.
    fn all(&mut self, links: Vec<&Expr>, depth: usize) -> Result<Prefilter> {
        let mut parts = Vec::new();
        let mut why = because("a condition that MongoDB may understand otherwise");
        for link in links {
            let before = self.parameters.clone();
            match self.read(link, depth + 1) {
                Ok(part) => parts.push(part),
                Err(reason) => {
                    *self.parameters = before;
                    why = reason;
                }
            }
        }
        match parts.is_empty() {
            true => Err(why),
            false => Ok(Prefilter::All(parts)),
        }
    }

    fn leaf(&mut self, expr: &Expr) -> Result<Prefilter> {
        match expr {
            Expr::BinaryOp { left, op, right } => match op {
                BinaryOperator::AtArrow => self.contains(left, right),
                BinaryOperator::ArrowAt => self.contains(right, left),
                BinaryOperator::Question => {
                    let path = self.json(left)?;
                    Ok(Prefilter::Key(path, self.constant(right, &Kind::Text)?))
                }
                BinaryOperator::QuestionPipe => self.keys(left, right, false),
                BinaryOperator::QuestionAnd => self.keys(left, right, true),
                op => {
                    let op = Op::read(op).ok_or_else(not_understood)?;
                    match self.compare(left, op, right) {
                        Ok(read) => Ok(read),
                        Err(_) => self.compare(right, op.turned(), left),
                    }
                }
            },
            Expr::InList {
                expr,
                list,
                negated: false,
            } => {
                let path = self.text(expr)?;
                let texts = list.iter().map(|item| self.constant(item, &Kind::Text));
                Ok(Prefilter::Texts(path, texts.collect::<Result<_>>()?))
            }
            Expr::AnyOp {
                left,
                compare_op: BinaryOperator::Eq,
                right,
                is_some: _,
            } => {
                let path = self.text(left)?;
                Ok(Prefilter::TextAmong(path, self.texts(right)?))
            }
            Expr::Like {
                negated,
                any: false,
                expr,
                pattern,
                escape_char,
            } => self.like(
                expr,
                pattern,
                likeness(false, escape_char.as_deref())?,
                *negated,
            ),
            // Which letters are alike is a matter of the database's collation.
            Expr::ILike {
                negated: _,
                any: false,
                expr,
                pattern,
                escape_char,
            } => self.like(expr, pattern, likeness(true, escape_char.as_deref())?, true),
            Expr::IsNotNull(expr) => match self.text(expr) {
                Ok(path) => Ok(Prefilter::Present(path)),
                Err(_) => Ok(Prefilter::Exists(self.json(expr)?)),
            },
            _ => Err(not_understood()),
        }
    }

    fn compare(&mut self, left: &Expr, op: Op, right: &Expr) -> Result<Prefilter> {
        if let Some((path, kind)) = self.number(left)? {
            let constant = self.constant(right, &kind)?;
            return Ok(Prefilter::Number(path, kind, op, constant));
        }
        if let Ok(path) = self.text(left) {
            let constant = self.constant(right, &Kind::Text)?;
            return Ok(match op {
                Op::Equal => Prefilter::Texts(path, vec![constant]),
                // In what order texts are is a matter of the database's collation.
                _ => Prefilter::Present(path),
            });
        }
        let path = self.json(left)?;
        let constant = self.constant(right, &Kind::Jsonb)?;
        Ok(match op {
            Op::Equal => Prefilter::Contains(path, constant),
            _ => Prefilter::Exists(path),
        })
    }

    fn contains(&mut self, whole: &Expr, part: &Expr) -> Result<Prefilter> {
        let path = self.json(whole)?;
        Ok(Prefilter::Contains(
            path,
            self.constant(part, &Kind::Jsonb)?,
        ))
    }

    fn keys(&mut self, json: &Expr, keys: &Expr, every: bool) -> Result<Prefilter> {
        let path = self.json(json)?;
        Ok(Prefilter::Keys(path, self.texts(keys)?, every))
    }

    fn like(
        &mut self,
        expr: &Expr,
        pattern: &Expr,
        likeness: Likeness,
        is_unclear: bool,
    ) -> Result<Prefilter> {
        let path = self.text(expr)?;
        let parts = chained(pattern).into_iter();
        let parts = parts.map(|part| self.constant(part, &Kind::Text));
        let parts = parts.collect::<Result<_>>()?;
        Ok(match is_unclear {
            true => Prefilter::Present(path),
            false => Prefilter::Like(path, parts, likeness),
        })
    }

    /// The path of the field that an expression of type `jsonb` is.
    fn json(&mut self, expr: &Expr) -> Result<String> {
        match expr {
            Expr::Nested(expr) => self.json(expr),
            Expr::BinaryOp {
                left,
                op: op @ (BinaryOperator::Arrow | BinaryOperator::HashArrow),
                right,
            } => self.below(left, right, *op == BinaryOperator::HashArrow),
            expr => match self.operands.operand_if(expr)? {
                Some(field) if field.kind == Kind::Jsonb && field.column.is_some() => {
                    Ok(field.path)
                }
                _ => Err(because("an expression that is no field of JSON")),
            },
        }
    }

    /// The path of the field whose text an expression is.
    fn text(&mut self, expr: &Expr) -> Result<String> {
        match expr {
            Expr::Nested(expr) => self.text(expr),
            Expr::BinaryOp {
                left,
                op: op @ (BinaryOperator::LongArrow | BinaryOperator::HashLongArrow),
                right,
            } => self.below(left, right, *op == BinaryOperator::HashLongArrow),
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type: DataType::Text,
                format: None,
            } => self.text(expr),
            _ => Err(because("an expression that is no text of JSON")),
        }
    }

    /// The same, where the text is cast to a number that MongoDB compares exactly.
    fn number(&mut self, expr: &Expr) -> Result<Option<(String, Kind)>> {
        match expr {
            Expr::Nested(expr) => self.number(expr),
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type,
                format: None,
            } => match kind_of(data_type) {
                Ok(kind) if is_exact(&kind) => Ok(Some((self.text(expr)?, kind))),
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }

    fn below(&mut self, json: &Expr, key: &Expr, is_path: bool) -> Result<String> {
        let mut path = self.json(json)?;
        let keys = match (Literal::read(key, self.parameters)?, is_path) {
            (Some(literal), false) => vec![written(literal)?],
            (Some(literal), true) => steps(literal)?,
            (None, _) => return Err(because("a key that is computed")),
        };
        for key in keys {
            if !is_step(&key) {
                return Err(because("a key that may be another field"));
            }
            path.push('.');
            path.push_str(&key);
        }
        Ok(path)
    }

    /// A constant of this type, or of one that is compared as it is.
    fn constant(&mut self, expr: &Expr, kind: &Kind) -> Result<Constant> {
        let literal = Literal::read(expr, self.parameters)?
            .ok_or_else(|| because("an expression where a constant is needed"))?;
        let constant = literal.typed(kind, self.parameters)?;
        let is_alike = match (kind, &constant.kind) {
            (Kind::Text, Kind::Varchar(_)) => true,
            (kind, own) if is_exact(kind) => is_exact(own),
            (kind, own) => kind == own,
        };
        match is_alike {
            true => Ok(constant),
            false => Err(because("a comparison of different types")),
        }
    }

    /// An array of texts.
    fn texts(&mut self, expr: &Expr) -> Result<Constant> {
        self.constant(expr, &Kind::Array(Box::new(Kind::Text)))
    }
}

fn not_understood() -> super::NotTranslated {
    because("a condition that MongoDB may understand otherwise")
}

/// A text that stands in the statement.
fn written(literal: Literal) -> Result<String> {
    match literal {
        Literal::Text(text) => Ok(text),
        Literal::Cast(literal, Kind::Text) => written(*literal),
        _ => Err(because("a key that is no text of the statement")),
    }
}

/// The keys of `#>` that stand in the statement.
fn steps(literal: Literal) -> Result<Vec<String>> {
    let steps = match literal {
        Literal::Array(steps, Kind::Text) => {
            steps.into_iter().map(written).collect::<Result<_>>()?
        }
        Literal::Cast(literal, Kind::Array(element)) if *element == Kind::Text => {
            return match *literal {
                literal @ Literal::Text(_) => steps(literal),
                _ => Err(because("keys that are no text of the statement")),
            };
        }
        Literal::Text(text) => {
            let kind = Kind::Array(Box::new(Kind::Text));
            match value::from_text(&kind, &text, &Forms::default()) {
                Ok(Bson::Array(keys)) => {
                    let key = |key| match key {
                        Bson::String(key) => Ok(key),
                        _ => Err(because("a key that is NULL")),
                    };
                    keys.into_iter().map(key).collect::<Result<_>>()?
                }
                _ => return Err(because("keys that are no array")),
            }
        }
        _ => return Err(because("keys that are no text of the statement")),
    };
    match Vec::<String>::is_empty(&steps) {
        true => Err(because("no key")),
        false => Ok(steps),
    }
}

/// Whether a key means one field and no element of an array, in PostgreSQL and in a path of MongoDB's.
fn is_step(key: &str) -> bool {
    let is_number =
        |first: char| first.is_ascii_digit() || first.is_whitespace() || "+-".contains(first);
    is_field(key) && !key.starts_with(is_number)
}

/// Whether a path of MongoDB's can name it.
pub(super) fn is_field(key: &str) -> bool {
    !key.is_empty() && !key.starts_with('$') && !key.contains(['.', '\0'])
}
