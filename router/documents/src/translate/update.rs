//! UPDATE and DELETE of one table.

use std::sync::Arc;

use bson::{Bson, Document, doc};
use sqlparser::ast::{
    BinaryOperator, Delete as DeleteClauses, Expr, FromTable, Update as UpdateClauses,
};

use super::super::rest::{self, Rest};
use super::super::set::columns;
use super::super::{Collection, Column, Fault, Kind, Nulls};
use super::assigned::{Assigned, is_default, is_id, null_violation};
use super::command::{Change, Command};
use super::condition::Condition;
use super::constant::{Bound, Constant, Literal};
use super::filter::{self, Filter};
use super::insert::{literal, operators, target};
use super::scope::{Parameters, Scope};
use super::select::returning;
use super::{Output, Result, Tables, because};

/// An UPDATE without the values of its parameters.
#[derive(Clone, Debug)]
pub(super) struct Update {
    collection: Arc<Collection>,
    condition: Condition,
    set: Vec<(usize, New)>,
}

/// What a column becomes.
#[derive(Clone, Debug)]
enum New {
    Assigned(Assigned),
    /// Another column, or the same, and an integer.
    Sum(Sum, Constant),
}

/// What stands for a number that is out of the range of int2: it is out of that of int4 as well, and no sum is it. As a
/// decimal, because MongoDB says of no other type which number it was.
pub const NO_INT2: i64 = 1 << 40;

/// What MongoDB's error of a conversion says where a document has another value than a document on the way to a column's
/// field, and the router computes what the column becomes.
pub const NO_ROOM: &str = "mothership: no document on the way to a field";

/// The sum of a column and an integer, or their difference.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sum {
    /// The column.
    pub from: usize,
    /// Whether the integer is taken away.
    pub minus: bool,
}

/// A DELETE without the values of its parameters.
#[derive(Clone, Debug)]
pub(super) struct Delete {
    collection: Arc<Collection>,
    condition: Condition,
}

/// An UPDATE, and the columns of RETURNING.
pub(super) fn update(
    clauses: &UpdateClauses,
    tables: Tables<'_>,
    parameters: &mut Parameters,
) -> Result<(Vec<Output>, Update)> {
    let UpdateClauses {
        update_token: _,
        optimizer_hints,
        table,
        assignments,
        from: None,
        selection,
        returning: returned,
        output: None,
        or: None,
        order_by,
        limit: None,
    } = clauses
    else {
        return Err(because(
            "an UPDATE with FROM, or that PostgreSQL does not know",
        ));
    };
    if !optimizer_hints.is_empty() || !order_by.is_empty() {
        return Err(because("an UPDATE that PostgreSQL does not know"));
    }
    let scope = Scope::of(table, tables)?;
    // PostgreSQL reads WHERE first, and then SET.
    let condition = Condition::of(selection.as_ref(), &scope, parameters)?;
    let mut set: Vec<(usize, New)> = Vec::new();
    let several = || because("SET of several columns at once");
    let assigned = columns(assignments).ok_or_else(several)?;
    let mut named = Vec::new();
    for (name, value) in assigned {
        let column = target(name, &scope)?;
        if named.contains(&column) {
            return Err(because("SET of a column twice"));
        }
        named.push(column);
        // What a column is given that it has already is no change.
        if !is_column(value, column, &scope)? {
            set.push((column, New::read(value, column, &scope, parameters)?));
        }
    }
    let moves = set.iter().any(|(column, _)| is_id(scope.at(*column)));
    let sums = set.iter().any(|(_, new)| matches!(new, New::Sum(..)));
    if moves && (sums || !condition.is_single(&scope.collection)) {
        return Err(because("SET of _id in what may be several documents"));
    }
    if moves && set.iter().any(|(column, _)| scope.at(*column).is_rest()) {
        return Err(because("SET of _id and of all other fields at once"));
    }
    let update = Update {
        collection: Arc::clone(&scope.collection),
        condition,
        set,
    };
    Ok((returning(returned.as_ref(), &scope)?, update))
}

/// Whether an expression is this column.
fn is_column(expr: &Expr, column: usize, scope: &Scope) -> Result<bool> {
    match expr {
        Expr::Nested(expr) => is_column(expr, column, scope),
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) if !is_default(expr) => {
            Ok(scope.column_if(expr)? == Some(column))
        }
        _ => Ok(false),
    }
}

/// A DELETE, and the columns of RETURNING.
pub(super) fn delete(
    clauses: &DeleteClauses,
    tables: Tables<'_>,
    parameters: &mut Parameters,
) -> Result<(Vec<Output>, Delete)> {
    let DeleteClauses {
        delete_token: _,
        optimizer_hints,
        tables: multiple,
        from: FromTable::WithFromKeyword(from),
        using: None,
        selection,
        returning: returned,
        output: None,
        order_by,
        limit: None,
    } = clauses
    else {
        return Err(because(
            "a DELETE with USING, or that PostgreSQL does not know",
        ));
    };
    let ([from], true) = (
        &from[..],
        optimizer_hints.is_empty() && multiple.is_empty() && order_by.is_empty(),
    ) else {
        return Err(because("a DELETE that PostgreSQL does not know"));
    };
    let scope = Scope::of(from, tables)?;
    let condition = Condition::of(selection.as_ref(), &scope, parameters)?;
    let delete = Delete {
        collection: Arc::clone(&scope.collection),
        condition,
    };
    Ok((returning(returned.as_ref(), &scope)?, delete))
}

impl New {
    fn read(expr: &Expr, column: usize, scope: &Scope, parameters: &mut Parameters) -> Result<New> {
        if let Expr::Nested(expr) = expr {
            return New::read(expr, column, scope, parameters);
        }
        let Expr::BinaryOp { left, op, right } = expr else {
            return Assigned::read(expr, scope.at(column), parameters).map(New::Assigned);
        };
        let (from, literal) = match (scope.column_if(left)?, op, scope.column_if(right)?) {
            (Some(from), BinaryOperator::Plus | BinaryOperator::Minus, None) => (from, right),
            (None, BinaryOperator::Plus, Some(from)) => (from, left),
            _ => return Err(because("a value that is computed")),
        };
        let minus = *op == BinaryOperator::Minus;
        let sum = Sum { from, minus };
        let amount = sum.constant(literal, scope, parameters)?;
        sum.check(&amount.kind, column, scope)?;
        Ok(New::Sum(sum, amount))
    }
}

impl Sum {
    /// The integer, where it is a constant.
    pub fn constant(
        self,
        expr: &Expr,
        scope: &Scope,
        parameters: &mut Parameters,
    ) -> Result<Constant> {
        let source = &scope.at(self.from).kind;
        match Literal::read(expr, parameters)? {
            Some(literal) if is_integer(source) => literal.typed(source, parameters),
            _ => Err(because("a sum of other things than integers")),
        }
    }

    /// Whether a column may become the sum with an integer of this type.
    pub fn check(self, amount: &Kind, column: usize, scope: &Scope) -> Result<()> {
        let (source, sum) = (scope.at(self.from), scope.at(column));
        if !is_integer(&source.kind) || !is_integer(amount) {
            return Err(because("a sum of other things than integers"));
        }
        // A sum of int4 that is too large is wrong even where an int8 has room for it.
        let widest = source.kind.size().max(amount.size());
        let fits = is_integer(&sum.kind) && sum.kind.size() <= widest;
        match !fits || (sum.not_null && !source.not_null) {
            true => Err(because("a sum of another type, or one that may be NULL")),
            false => Ok(()),
        }
    }

    /// What `column` becomes by an integer; None is NULL. A number out of range is error 241 of the conversion.
    pub fn computed(
        self,
        amount: Option<Bson>,
        column: &Column,
        collection: &Collection,
    ) -> Computed {
        match integer(amount) {
            None => Computed::Value(None),
            Some(amount) => {
                let amount = if self.minus { -amount } else { amount };
                Computed::Expression(self.expression(amount, column, collection))
            }
        }
    }

    fn expression(self, amount: i128, column: &Column, collection: &Collection) -> Document {
        let from = &collection.columns[self.from];
        let field = rest::field(&format!("${}", from.field()));
        let is_wide = from.kind == Kind::Int8;
        // In a wider type, where it is exact: MongoDB would go on in doubles.
        let exact = match i32::try_from(amount) {
            Ok(amount) if !is_wide => {
                doc! { "$add": [{ "$toLong": &field }, i64::from(amount)] }
            }
            _ => doc! { "$add": [{ "$toDecimal": { "$toLong": &field } }, decimal(amount)] },
        };
        let sum = match column.kind {
            Kind::Int8 => doc! { "$toLong": exact },
            Kind::Int2 => {
                let (least, greatest) = (i64::from(i16::MIN), i64::from(i16::MAX));
                let (least4, greatest4) = (i64::from(i32::MIN), i64::from(i32::MAX));
                // An int4 that is no int2; NULL, which is less than all numbers, is none.
                let is_too_large = doc! { "$and": [
                    { "$or": [{ "$lt": [&exact, least] }, { "$gt": [&exact, greatest] }] },
                    { "$gte": [&exact, least4] },
                    { "$lte": [&exact, greatest4] },
                ] };
                doc! { "$toInt": { "$cond": [is_too_large, decimal(NO_INT2.into()), exact] } }
            }
            _ => doc! { "$toInt": exact },
        };
        match collection.nulls {
            Nulls::Store => sum,
            Nulls::Omit => doc! { "$ifNull": [sum, "$$REMOVE"] },
        }
    }
}

impl Update {
    /// With its values.
    pub fn bind(&self, bound: &Bound<'_>) -> std::result::Result<Command, Fault> {
        let filter = filter::bind(&self.condition, bound)?;
        let mut values = Vec::new();
        let mut fault = None;
        let (mut rest, mut fields) = (None, Document::new());
        for (column, new) in &self.set {
            let declared = &self.collection.columns[*column];
            let value = match new {
                New::Sum(sum, amount) => {
                    sum.computed(amount.plain(bound)?, declared, &self.collection)
                }
                New::Assigned(assigned) => Computed::Value(assigned.value(declared, bound)?),
            };
            let is_needed = declared.not_null || is_id(declared);
            if is_needed && matches!(value, Computed::Value(None)) && fault.is_none() {
                fault = Some(null_violation(&self.collection, declared));
            }
            if declared.is_rest() {
                rest = Rest::of(&self.collection);
                fields = match (&rest, value) {
                    (Some(rest), Computed::Value(Some(value))) => rest.checked(value)?,
                    _ => Rest::null(),
                };
                continue;
            }
            values.push((*column, value));
        }
        let collection = self.collection.collection.clone();
        if filter == Filter::None {
            return Ok(Command::Empty);
        }
        let filter = filter.document();
        let columns = &self.collection.columns;
        let moves = self.set.iter().any(|(column, _)| is_id(&columns[*column]));
        let change = match rest {
            // Documents are found and counted, and stay as they are.
            _ if self.set.is_empty() => Change::Pipeline(vec![doc! { "$set": { "_id": "$_id" } }]),
            rest => change(&self.collection, values, rest.map(|rest| (rest, fields))),
        };
        Ok(match (fault, change) {
            (Some(fault), _) => Command::Fail {
                collection,
                filter,
                fault,
            },
            (_, change) if moves => Command::Move {
                collection,
                filter,
                change,
            },
            (_, change) => Command::Update {
                collection,
                filter,
                change,
                single: self.condition.is_single(&self.collection),
            },
        })
    }
}

fn is_integer(kind: &Kind) -> bool {
    matches!(kind, Kind::Int2 | Kind::Int4 | Kind::Int8)
}

/// Of a constant that has an integer's type; None is NULL.
fn integer(value: Option<Bson>) -> Option<i128> {
    match value {
        Some(Bson::Int32(value)) => Some(value.into()),
        Some(Bson::Int64(value)) => Some(value.into()),
        _ => None,
    }
}

fn decimal(amount: i128) -> Bson {
    match amount.to_string().parse() {
        Ok(number) => Bson::Decimal128(number),
        // Every integer of PostgreSQL's is a decimal of 19 digits.
        Err(_) => Bson::Null,
    }
}

impl Delete {
    /// With its values.
    pub fn bind(&self, bound: &Bound<'_>) -> std::result::Result<Command, Fault> {
        Ok(match filter::bind(&self.condition, bound)? {
            Filter::None => Command::Empty,
            filter => Command::Delete {
                collection: self.collection.collection.clone(),
                filter: filter.document(),
                single: self.condition.is_single(&self.collection),
            },
        })
    }
}

/// A new value, or how MongoDB computes it.
pub(super) enum Computed {
    Value(Option<Bson>),
    Expression(Document),
}

impl Computed {
    /// As a pipeline has it.
    fn expression(self, nulls: Nulls) -> Bson {
        match self {
            Computed::Expression(expression) => expression.into(),
            Computed::Value(value) => literal(value, nulls),
        }
    }
}

/// What gives columns these values, and where `rest` is there, all other fields as well.
pub(super) fn change(
    collection: &Collection,
    mut values: Vec<(usize, Computed)>,
    rest: Option<(Rest, Document)>,
) -> Change {
    let nulls = collection.nulls;
    if let Some((rest, fields)) = rest {
        return Change::Pipeline(vec![rest.replacing(fields, |column| {
            let at = values.iter().position(|(at, _)| *at == column)?;
            Some(values.swap_remove(at).1.expression(nulls))
        })]);
    }
    let values = named(values, collection);
    if values
        .iter()
        .all(|(_, value)| matches!(value, Computed::Value(_)))
    {
        let plain = values.into_iter().filter_map(|(field, value)| match value {
            Computed::Value(value) => Some((field, value)),
            Computed::Expression(_) => None,
        });
        return operators(plain.collect(), nulls);
    }
    Change::Pipeline(stages(values, nulls))
}

fn named(values: Vec<(usize, Computed)>, collection: &Collection) -> Vec<(String, Computed)> {
    let named = |(at, value): (usize, _)| (collection.columns[at].field(), value);
    values.into_iter().map(named).collect()
}

fn stages(values: Vec<(String, Computed)>, nulls: Nulls) -> Vec<Document> {
    let values = values.into_iter();
    let set: Document = values
        .map(|(field, value)| {
            let value = in_its_place(&field, value.expression(nulls));
            (field, value)
        })
        .collect();
    vec![doc! { "$set": set }]
}

/// A new value of a field. The operator `$set` refuses to set a field inside of what is no document. The stage `$set` puts a
/// document in the place of such a value, which would be lost, so it gets an error of a conversion there.
fn in_its_place(field: &str, value: Bson) -> Bson {
    let ways = field.match_indices('.').map(|(end, _)| &field[..end]);
    ways.fold(value, |value, way| {
        let kind = doc! { "$type": format!("${way}") };
        let has_room = doc! { "$in": [&kind, ["object", "missing", "null", "undefined"]] };
        // What is the same for all documents MongoDB would compute, and fail, before it looks at any.
        let fails = doc! { "$toInt": { "$concat": [NO_ROOM, ": ", kind] } };
        doc! { "$cond": [has_room, value, fails] }.into()
    })
}
