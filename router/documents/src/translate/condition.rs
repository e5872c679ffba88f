//! WHERE, read into what a filter can say.
//!
//! A row is selected where the condition is true; where it is false or unknown, it is not. So NOT is pushed down to
//! the leaves, by De Morgan's laws, and each leaf says for itself when it is true or, negated, when it is false: a
//! leaf that is unknown is neither.

use sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, Query, UnaryOperator, Value as Token, ValueWithSpan,
};

use super::super::{Collection, Kind};
use super::constant::{Constant, Literal};
use super::like::{Escape, Likeness, is_unfinished};
use super::prefilter::Prefilter;
use super::scope::{Parameters, Scope, VARCHAR};
use super::select::unnested;
use super::{Result, because};

/// MongoDB refuses filters that are nested some 200 levels deep, and no stack is endless.
pub(super) const MAX_DEPTH: usize = 50;

/// When a row is selected.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    /// Always, or never: it does not depend on the row.
    Known(bool),
    /// All are true.
    All(Vec<Condition>),
    /// One is true.
    Any(Vec<Condition>),
    /// A comparison is true.
    Compare(Field, Op, Constant),
    /// The column is one of a list (`among`), or none of it.
    Among(Field, Vec<Constant>, bool),
    /// The same with the elements of an array.
    AmongElements(Field, Constant, bool),
    /// IS NOT DISTINCT FROM, or IS DISTINCT FROM.
    Same(Field, Constant, bool),
    /// IS NULL, or IS NOT NULL.
    Null(Field, bool),
    /// Whether a column of arrays has an element, or has it not.
    Has(Field, Constant, bool),
    /// Whether a column of arrays has all elements of an array, or not all.
    Contains(Field, Constant, bool),
    /// Whether a column of arrays has an element of an array, or has none of them.
    Overlaps(Field, Constant, bool),
    /// LIKE or ILIKE, or their negations.
    Like(Field, Vec<Constant>, Likeness, bool),
    /// A comparison of two columns is true.
    Columns(Field, Op, Field),
    /// It may be true: it selects more rows, of which PostgreSQL asks it again.
    Prefiltered(Box<Prefilter>),
}

/// A column as filters see it.
#[derive(Clone, Debug)]
pub(super) struct Field {
    /// Its position in the declaration; an aggregate has none.
    pub column: Option<usize>,
    /// Its path with dots.
    pub path: String,
    /// Its type.
    pub kind: Kind,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Op {
    pub fn read(op: &BinaryOperator) -> Option<Op> {
        Some(match op {
            BinaryOperator::Eq => Op::Equal,
            BinaryOperator::NotEq => Op::Unequal,
            BinaryOperator::Lt => Op::Less,
            BinaryOperator::LtEq => Op::LessOrEqual,
            BinaryOperator::Gt => Op::Greater,
            BinaryOperator::GtEq => Op::GreaterOrEqual,
            _ => return None,
        })
    }

    /// True where this is false.
    fn negated(self) -> Op {
        match self {
            Op::Equal => Op::Unequal,
            Op::Unequal => Op::Equal,
            Op::Less => Op::GreaterOrEqual,
            Op::LessOrEqual => Op::Greater,
            Op::Greater => Op::LessOrEqual,
            Op::GreaterOrEqual => Op::Less,
        }
    }

    /// With its sides exchanged.
    pub fn turned(self) -> Op {
        match self {
            Op::Equal | Op::Unequal => self,
            Op::Less => Op::Greater,
            Op::LessOrEqual => Op::GreaterOrEqual,
            Op::Greater => Op::Less,
            Op::GreaterOrEqual => Op::LessOrEqual,
        }
    }

    fn wanted(self, wanted: bool) -> Op {
        if wanted { self } else { self.negated() }
    }
}

impl Condition {
    /// Of WHERE; without one every row is selected.
    pub fn of(
        selection: Option<&Expr>,
        scope: &Scope,
        parameters: &mut Parameters,
    ) -> Result<Condition> {
        match selection {
            None => Ok(Condition::Known(true)),
            Some(expr) => {
                let mut columns = scope;
                Condition::on(expr, &mut columns, parameters)
            }
        }
    }

    /// Of an expression about these operands.
    pub fn on(
        expr: &Expr,
        operands: &mut dyn Operands,
        parameters: &mut Parameters,
    ) -> Result<Condition> {
        let mut reader = Reader {
            operands,
            parameters,
        };
        reader.read(expr, true, 0)
    }

    /// Whether a row with NULL in this column is never selected.
    pub fn excludes_null(&self, column: usize) -> bool {
        match self {
            Condition::Known(value) => !value,
            Condition::All(parts) => parts.iter().any(|part| part.excludes_null(column)),
            Condition::Any(parts) => parts.iter().all(|part| part.excludes_null(column)),
            Condition::Compare(field, ..)
            | Condition::Has(field, ..)
            | Condition::Contains(field, ..)
            | Condition::Overlaps(field, ..)
            | Condition::Like(field, ..) => field.column == Some(column),
            Condition::Columns(left, _, right) => [left, right]
                .map(|field| field.column)
                .contains(&Some(column)),
            Condition::Prefiltered(_) => false,
            // NULL is not among nothing, too.
            Condition::Among(field, _, _) | Condition::AmongElements(field, _, true) => {
                field.column == Some(column)
            }
            Condition::AmongElements(..) | Condition::Same(..) => false,
            Condition::Null(field, null) => !null && field.column == Some(column),
        }
    }

    /// Whether all rows that are selected have one value in this column.
    pub fn pins(&self, column: usize) -> bool {
        match self {
            Condition::All(parts) => parts.iter().any(|part| part.pins(column)),
            Condition::Compare(field, Op::Equal, _) => field.column == Some(column),
            _ => false,
        }
    }

    /// Whether it asks for one value of each column of a unique key.
    pub fn is_single(&self, collection: &Collection) -> bool {
        let pinned = |columns: &Vec<usize>| columns.iter().all(|column| self.pins(*column));
        collection
            .unique
            .iter()
            .any(|key| !key.columns.is_empty() && pinned(&key.columns))
    }
}

/// What a condition may be about.
pub(super) trait Operands {
    /// The field that an expression names; None where it names none at all.
    fn operand_if(&mut self, expr: &Expr) -> Result<Option<Field>>;
}

/// Columns of a table.
impl Operands for &Scope {
    fn operand_if(&mut self, expr: &Expr) -> Result<Option<Field>> {
        let column = self.column_if(expr)?;
        column.map(|column| Field::of(self, column)).transpose()
    }
}

struct Reader<'a> {
    operands: &'a mut dyn Operands,
    parameters: &'a mut Parameters,
}

impl Reader<'_> {
    /// When an expression is true, or where that is wanted, false.
    fn read(&mut self, expr: &Expr, wanted: bool, depth: usize) -> Result<Condition> {
        if depth > MAX_DEPTH {
            return Err(because("a condition too deep"));
        }
        match expr {
            Expr::Nested(expr) => self.read(expr, wanted, depth + 1),
            Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr,
            } => self.read(expr, !wanted, depth + 1),
            Expr::BinaryOp { left, op, right } => match op {
                BinaryOperator::And | BinaryOperator::Or => self.chain(expr, op, wanted, depth + 1),
                BinaryOperator::AtArrow => self.contains(left, right, wanted),
                BinaryOperator::ArrowAt => self.contains(right, left, wanted),
                BinaryOperator::PGOverlap => self.overlaps(left, right, wanted),
                op => match Op::read(op) {
                    Some(op) => self.compare(left, op, right, wanted),
                    None => Err(because("an operator that MongoDB may understand otherwise")),
                },
            },
            Expr::Between {
                expr,
                negated,
                low,
                high,
            } => {
                let wanted = wanted != *negated;
                let parts = vec![
                    self.compare(expr, Op::GreaterOrEqual, low, wanted)?,
                    self.compare(expr, Op::LessOrEqual, high, wanted)?,
                ];
                Ok(match wanted {
                    true => Condition::All(parts),
                    false => Condition::Any(parts),
                })
            }
            Expr::InList {
                expr,
                list,
                negated,
            } => self.among(expr, list, wanted != *negated),
            Expr::InSubquery {
                expr,
                subquery,
                negated,
            } => self.among_unnested(expr, subquery, wanted != *negated),
            Expr::AnyOp {
                left,
                compare_op: BinaryOperator::Eq,
                right,
                is_some: _,
            } => match self.operands.operand_if(right)? {
                Some(field) => self.has(field, left, wanted),
                None => self.among_elements(left, right, wanted),
            },
            Expr::AllOp {
                left,
                compare_op: BinaryOperator::NotEq,
                right,
            } => self.among_elements(left, right, !wanted),
            Expr::Like {
                negated,
                any: false,
                expr,
                pattern,
                escape_char,
            } => {
                let likeness = likeness(false, escape_char.as_deref())?;
                self.like(expr, pattern, likeness, wanted != *negated)
            }
            Expr::ILike {
                negated,
                any: false,
                expr,
                pattern,
                escape_char,
            } => {
                let likeness = likeness(true, escape_char.as_deref())?;
                self.like(expr, pattern, likeness, wanted != *negated)
            }
            Expr::IsNull(expr) => self.null(expr, wanted),
            Expr::IsNotNull(expr) => self.null(expr, !wanted),
            Expr::IsUnknown(expr) => self
                .boolean(expr)
                .map(|field| Condition::Null(field, wanted)),
            Expr::IsNotUnknown(expr) => self
                .boolean(expr)
                .map(|field| Condition::Null(field, !wanted)),
            Expr::IsTrue(expr) => self.is(expr, true, wanted),
            Expr::IsNotTrue(expr) => self.is(expr, true, !wanted),
            Expr::IsFalse(expr) => self.is(expr, false, wanted),
            Expr::IsNotFalse(expr) => self.is(expr, false, !wanted),
            Expr::IsDistinctFrom(left, right) => self.same(left, right, !wanted),
            Expr::IsNotDistinctFrom(left, right) => self.same(left, right, wanted),
            Expr::Value(ValueWithSpan { value, span: _ }) => match value {
                Token::Boolean(value) => Ok(Condition::Known(*value == wanted)),
                Token::Null => Ok(Condition::Known(false)),
                _ => Err(because("a condition that is a constant")),
            },
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => {
                let field = self.boolean(expr)?;
                let constant = Literal::Bool(wanted).typed(&Kind::Bool, self.parameters)?;
                Ok(Condition::Compare(field, Op::Equal, constant))
            }
            _ => Err(because("a condition that MongoDB may understand otherwise")),
        }
    }

    /// `a AND b AND c`, of any length: the parser nests them to the left.
    fn chain(
        &mut self,
        expr: &Expr,
        chained: &BinaryOperator,
        wanted: bool,
        depth: usize,
    ) -> Result<Condition> {
        let parts = self::chain(expr, chained)
            .into_iter()
            .map(|link| self.read(link, wanted, depth))
            .collect::<Result<_>>()?;
        Ok(match (chained == &BinaryOperator::And) == wanted {
            true => Condition::All(parts),
            false => Condition::Any(parts),
        })
    }

    fn compare(&mut self, left: &Expr, op: Op, right: &Expr, wanted: bool) -> Result<Condition> {
        let op = op.wanted(wanted);
        let (field, op, constant) = match self.sides(left, right)? {
            (Some(field), None) => (field, op, right),
            (None, Some(field)) => (field, op.turned(), left),
            (None, None) => return self.constants(left, op, right),
            (Some(left), Some(right)) => return columns(left, op, right),
        };
        let equality = matches!(op, Op::Equal | Op::Unequal);
        if !equality && matches!(field.kind, Kind::Bytea | Kind::ObjectId) {
            return Err(because("an order that MongoDB does not have"));
        }
        let constant = self.constant(constant, &field)?;
        Ok(Condition::Compare(field, op, constant))
    }

    /// `1 = 1`, which some clients write.
    fn constants(&mut self, left: &Expr, op: Op, right: &Expr) -> Result<Condition> {
        let left = Literal::read(left, self.parameters)?;
        let right = Literal::read(right, self.parameters)?;
        let integer = |literal| match literal {
            Some(Literal::Number(digits, Kind::Int4 | Kind::Int8)) => digits.parse::<i64>().ok(),
            _ => None,
        };
        match (integer(left), op, integer(right)) {
            (Some(left), Op::Equal, Some(right)) => Ok(Condition::Known(left == right)),
            (Some(left), Op::Unequal, Some(right)) => Ok(Condition::Known(left != right)),
            _ => Err(because("a comparison without a column")),
        }
    }

    fn among(&mut self, expr: &Expr, list: &[Expr], among: bool) -> Result<Condition> {
        let field = self.operand(expr)?;
        let literals = list
            .iter()
            .map(|item| self.literal(item))
            .collect::<Result<Vec<_>>>()?;
        // PostgreSQL makes an array of the list, of one type for all, unless it has one item.
        let single = literals.len() == 1;
        let place = match single {
            true => compared(&field.kind),
            false => self.common(&field.kind, &literals)?,
        };
        let real = field.kind == Kind::Float4 && !single;
        let constants = literals
            .into_iter()
            .map(|literal| match literal {
                // Numbers become elements of an array of real.
                Literal::Number(digits, _) if real => Literal::Text(digits),
                literal => literal,
            })
            .map(|literal| literal.typed(&place, self.parameters)?.beside(&field.kind))
            .collect::<Result<Vec<_>>>()?;
        if real
            && constants
                .iter()
                .any(|constant| constant.kind != Kind::Float4)
        {
            return Err(because("a list of different types"));
        }
        Ok(Condition::Among(field, constants, among))
    }

    /// `select_common_type` of PostgreSQL, of the column and the items that have a type.
    fn common(&self, column: &Kind, literals: &[Literal]) -> Result<Kind> {
        if matches!(column, Kind::Varchar(_) | Kind::ObjectId) {
            return Ok(VARCHAR);
        }
        const NUMBERS: [Kind; 4] = [Kind::Int2, Kind::Int4, Kind::Int8, Kind::Numeric];
        let rank = |kind: &Kind| NUMBERS.iter().position(|number| number == kind);
        let Some(own) = rank(column) else {
            return Ok(column.clone());
        };
        let kinds = literals
            .iter()
            .filter_map(|literal| literal.own_kind(self.parameters));
        let widest = kinds.filter_map(|kind| rank(&kind)).fold(own, usize::max);
        Ok(NUMBERS[widest].clone())
    }

    fn among_elements(&mut self, expr: &Expr, array: &Expr, among: bool) -> Result<Condition> {
        let field = self.operand(expr)?;
        let place = Kind::Array(Box::new(compared(&field.kind)));
        let array = self
            .literal(array)?
            .typed(&place, self.parameters)?
            .elements_beside(&field.kind)?;
        Ok(Condition::AmongElements(field, array, among))
    }

    /// `column IN (SELECT unnest(array))`.
    fn among_unnested(&mut self, expr: &Expr, subquery: &Query, among: bool) -> Result<Condition> {
        let array = unnested(subquery).ok_or_else(|| because("a subquery"))?;
        // Of NULL, `unnest` makes no rows, and NOT IN them is true; NOT = ANY (NULL) is not.
        if !among {
            return Err(because("NOT IN a subquery"));
        }
        // Without a type of its own the call would be ambiguous.
        if self.literal(array)?.own_kind(self.parameters).is_none() {
            return Err(because("an array without a type"));
        }
        self.among_elements(expr, array, true)
    }

    /// `constant = ANY (column)`.
    fn has(&mut self, field: Field, constant: &Expr, has: bool) -> Result<Condition> {
        let Kind::Array(element) = &field.kind else {
            return Err(because("ANY of a column that is no array"));
        };
        let constant = self
            .literal(constant)?
            .typed(&compared(element), self.parameters)?
            .beside(element)?;
        Ok(Condition::Has(field, constant, has))
    }

    /// `column @> array`.
    fn contains(&mut self, column: &Expr, array: &Expr, contains: bool) -> Result<Condition> {
        let field = self.operand(column)?;
        let array = self.array_beside(array, &field)?;
        Ok(Condition::Contains(field, array, contains))
    }

    /// `column && array`.
    fn overlaps(&mut self, left: &Expr, right: &Expr, overlaps: bool) -> Result<Condition> {
        let (field, array) = self.one_column(left, right)?;
        let array = self.array_beside(array, &field)?;
        Ok(Condition::Overlaps(field, array, overlaps))
    }

    /// An array that a column of arrays is compared with.
    fn array_beside(&mut self, array: &Expr, field: &Field) -> Result<Constant> {
        let Kind::Array(element) = &field.kind else {
            return Err(because("an operator of arrays, of a column that is none"));
        };
        let array = self.literal(array)?.typed(&field.kind, self.parameters)?;
        // Of other types PostgreSQL has no such operator, but for those that are like text.
        if array.kind != field.kind || matches!(**element, Kind::Varchar(_) | Kind::ObjectId) {
            return Err(because("arrays of different types"));
        }
        array.elements_beside(element)
    }

    fn like(
        &mut self,
        expr: &Expr,
        pattern: &Expr,
        likeness: Likeness,
        like: bool,
    ) -> Result<Condition> {
        let field = self.operand(without_cast(expr))?;
        if !matches!(field.kind, Kind::Text | Kind::Varchar(_)) {
            return Err(because("LIKE of something else than text"));
        }
        let pattern = match chained(pattern) {
            parts if parts.len() == 1 => vec![self.constant(pattern, &field)?],
            parts => parts
                .into_iter()
                .map(|part| self.text(part))
                .collect::<Result<_>>()?,
        };
        let mut texts = pattern.iter().filter_map(Constant::text);
        let is_unfinished = |text| is_unfinished(&likeness.escape.plain(text));
        if texts.any(is_unfinished) {
            return Err(because("a pattern that ends with its escape"));
        }
        Ok(Condition::Like(field, pattern, likeness, like))
    }

    /// A part of a text.
    fn text(&mut self, expr: &Expr) -> Result<Constant> {
        let constant = self.literal(expr)?.typed(&Kind::Text, self.parameters)?;
        match constant.kind {
            Kind::Text | Kind::Varchar(_) => Ok(constant),
            _ => Err(because("a text of something else than texts")),
        }
    }

    fn null(&mut self, expr: &Expr, null: bool) -> Result<Condition> {
        self.operand(expr).map(|field| Condition::Null(field, null))
    }

    /// `b IS TRUE`: NULL is not.
    fn is(&mut self, expr: &Expr, value: bool, wanted: bool) -> Result<Condition> {
        let field = self.boolean(expr)?;
        let constant = Literal::Bool(value).typed(&Kind::Bool, self.parameters)?;
        Ok(Condition::Same(field, constant, wanted))
    }

    fn same(&mut self, left: &Expr, right: &Expr, same: bool) -> Result<Condition> {
        let (field, constant) = self.one_column(left, right)?;
        let constant = self.constant(constant, &field)?;
        Ok(Condition::Same(field, constant, same))
    }

    /// The side that is a column, and the other one.
    fn one_column<'e>(&mut self, left: &'e Expr, right: &'e Expr) -> Result<(Field, &'e Expr)> {
        match self.sides(left, right)? {
            (Some(field), None) => Ok((field, right)),
            (None, Some(field)) => Ok((field, left)),
            _ => Err(because(
                "a comparison of other things than a column and a constant",
            )),
        }
    }

    fn constant(&mut self, expr: &Expr, field: &Field) -> Result<Constant> {
        self.literal(expr)?
            .typed(&compared(&field.kind), self.parameters)?
            .beside(&field.kind)
    }

    fn literal(&mut self, expr: &Expr) -> Result<Literal> {
        Literal::read(expr, self.parameters)?
            .ok_or_else(|| because("an expression where a constant is needed"))
    }

    fn boolean(&mut self, expr: &Expr) -> Result<Field> {
        let field = self.operand(expr)?;
        match field.kind {
            Kind::Bool => Ok(field),
            _ => Err(because("a condition that is no boolean")),
        }
    }

    fn sides(&mut self, left: &Expr, right: &Expr) -> Result<(Option<Field>, Option<Field>)> {
        let left = self.operands.operand_if(left)?;
        Ok((left, self.operands.operand_if(right)?))
    }

    fn operand(&mut self, expr: &Expr) -> Result<Field> {
        let found = self.operands.operand_if(expr)?;
        found.ok_or_else(|| because("an expression where a column is needed"))
    }
}

impl Field {
    /// Of the column at a position.
    pub fn of(scope: &Scope, column: usize) -> Result<Field> {
        if scope.at(column).is_rest() {
            return Err(because("a condition on all other fields"));
        }
        Ok(Field {
            column: Some(column),
            path: scope.at(column).field(),
            kind: scope.at(column).kind.without_precision(),
        })
    }
}

/// Of two columns, whose types MongoDB orders as PostgreSQL does. Numbers with a fraction are not among them: a double
/// is shown by fewer digits than MongoDB compares.
fn columns(left: Field, op: Op, right: Field) -> Result<Condition> {
    let is_integer = |kind: &Kind| matches!(kind, Kind::Int2 | Kind::Int4 | Kind::Int8);
    let is_text = |kind: &Kind| matches!(kind, Kind::Text | Kind::Varchar(_));
    let is_alike = match (&left.kind, &right.kind) {
        (left, right) if is_integer(left) && is_integer(right) => true,
        (left, right) if is_text(left) && is_text(right) => true,
        (
            left @ (Kind::Bool
            | Kind::Uuid
            | Kind::Timestamptz(_)
            | Kind::Timestamp(_)
            | Kind::Date),
            right,
        ) => left == right,
        _ => false,
    };
    // What has no column is computed of groups, and MongoDB's numbers are wider than its type.
    match is_alike && left.column.is_some() && right.column.is_some() {
        true => Ok(Condition::Columns(left, op, right)),
        false => Err(because("a comparison of two columns")),
    }
}

/// How LIKE or ILIKE sees its pattern.
pub(super) fn likeness(folds: bool, escape: Option<&Expr>) -> Result<Likeness> {
    let escape = match escape {
        None => Some(Escape::Backslash),
        Some(Expr::Value(ValueWithSpan {
            value: Token::SingleQuotedString(text),
            span: _,
        })) => Escape::of(text),
        Some(_) => None,
    };
    match escape {
        Some(escape) => Ok(Likeness { folds, escape }),
        None => Err(because("an escape that is no character")),
    }
}

/// The parts of `a AND b AND c`, or of the same of OR, in their order.
pub(super) fn chain<'e>(expr: &'e Expr, chained: &BinaryOperator) -> Vec<&'e Expr> {
    let mut links = Vec::new();
    let mut rest = expr;
    while let Expr::BinaryOp { left, op, right } = rest
        && op == chained
    {
        links.push(&**right);
        rest = left;
    }
    links.push(rest);
    links.reverse();
    links
}

/// The parts of `a || b || c`: the parser nests them to the left.
pub(super) fn chained(expr: &Expr) -> Vec<&Expr> {
    let mut parts = Vec::new();
    let mut rest = expr;
    loop {
        match rest {
            Expr::Nested(expr) => rest = expr,
            Expr::BinaryOp {
                left,
                op: BinaryOperator::StringConcat,
                right,
            } => {
                parts.push(&**right);
                rest = left;
            }
            expr => {
                parts.push(expr);
                parts.reverse();
                return parts;
            }
        }
    }
}

/// What an expression is a text of, as some clients write before LIKE; which asks for one itself.
fn without_cast(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(expr) => without_cast(expr),
        Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr,
            data_type: DataType::Text,
            format: None,
        } => expr,
        expr => expr,
    }
}

/// The type that a constant without one gets beside a column: of strings, PostgreSQL compares texts.
fn compared(column: &Kind) -> Kind {
    match column {
        Kind::Varchar(_) | Kind::ObjectId => Kind::Text,
        kind => kind.clone(),
    }
}
