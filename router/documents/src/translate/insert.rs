//! INSERT of constants or of arrays of them, with ON CONFLICT.

use std::collections::HashSet;
use std::sync::Arc;

use bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};
use sqlparser::ast::{
    Assignment, AssignmentTarget, BinaryOperator, ConflictTarget, DoUpdate, Expr,
    Insert as Clauses, ObjectName, OnConflict, OnConflictAction, OnInsert, Query, SetExpr,
    TableAliasWithoutColumns, TableObject, Values,
};

use super::super::rest::Rest;
use super::super::{Collection, Fault, Nulls};
use super::assigned::{self, Assigned, get, is_id};
use super::command::{Change, Command, Conflict, Upserted};
use super::constant::{Bound, Constant};
use super::scope::{Parameters, Scope, folded, words};
use super::select::returning;
use super::unnested::{self, Unnested, unnested};
use super::update::{Computed, Sum, change};
use super::{Output, Result, Tables, because};

/// An INSERT without the values of its parameters.
#[derive(Clone, Debug)]
pub(super) struct Insert {
    collection: Arc<Collection>,
    rows: Rows,
    resolution: Resolution,
}

/// What is stored.
#[derive(Clone, Debug)]
enum Rows {
    /// For each row, what each declared column is given.
    Listed(Vec<Vec<Assigned>>),
    /// Arrays whose elements are the rows' values, and the columns that they are for.
    Unnested(Vec<(usize, Unnested)>),
}

/// ON CONFLICT.
#[derive(Clone, Debug)]
enum Resolution {
    Fail,
    Ignore(Conflict),
    Update {
        unique: usize,
        set: Vec<(usize, Source)>,
    },
}

/// What the old row gets.
#[derive(Clone, Debug)]
enum Source {
    Assigned(Assigned),
    /// A column of the new row.
    Excluded(usize),
    /// A column of the old row, and an integer.
    Sum(Sum, Amount),
}

/// What is added to a column of the old row.
#[derive(Clone, Debug)]
enum Amount {
    Constant(Constant),
    /// A column of the new row.
    Excluded(usize),
}

/// An INSERT, and the columns of RETURNING.
pub(super) fn insert(
    clauses: &Clauses,
    tables: Tables<'_>,
    parameters: &mut Parameters,
) -> Result<(Vec<Output>, Insert)> {
    let Clauses {
        insert_token: _,
        optimizer_hints,
        or: None,
        ignore: false,
        into: _,
        table: TableObject::TableName(table),
        table_alias,
        columns,
        overwrite: false,
        source,
        assignments,
        partitioned: None,
        after_columns,
        has_table_keyword: false,
        on,
        returning: returned,
        output: None,
        replace_into: false,
        priority: None,
        insert_alias: None,
        settings: None,
        format_clause: None,
        multi_table_insert_type: None,
        multi_table_into_clauses,
        multi_table_when_clauses,
        multi_table_else_clause: None,
    } = clauses
    else {
        return Err(because("an INSERT that PostgreSQL does not know"));
    };
    let known = optimizer_hints.is_empty()
        && assignments.is_empty()
        && after_columns.is_empty()
        && multi_table_into_clauses.is_empty()
        && multi_table_when_clauses.is_empty();
    if !known {
        return Err(because("an INSERT that PostgreSQL does not know"));
    }
    let alias = table_alias
        .as_ref()
        .map(|TableAliasWithoutColumns { explicit: _, alias }| alias);
    let scope = Scope::named(table, alias, tables)?;
    let targets = targets(columns, &scope)?;
    let rows = match source {
        None if columns.is_empty() => Rows::Listed(vec![vec![
            Assigned::Default;
            scope.collection.columns.len()
        ]]),
        None => return Err(because("an INSERT without values")),
        Some(query) => match unnested(query, &scope, &targets, parameters)? {
            Some(unnested) => Rows::Unnested(unnested),
            None => values(query)?
                .iter()
                .map(|row| {
                    self::row(
                        &row.content,
                        !columns.is_empty(),
                        &targets,
                        &scope,
                        parameters,
                    )
                })
                .collect::<Result<_>>()
                .map(Rows::Listed)?,
        },
    };
    let resolution = match on {
        None => Resolution::Fail,
        Some(OnInsert::OnConflict(on)) => Resolution::of(on, &scope, parameters)?,
        Some(_) => return Err(because("an INSERT that PostgreSQL does not know")),
    };
    let insert = Insert {
        collection: Arc::clone(&scope.collection),
        rows,
        resolution,
    };
    insert.check_keys()?;
    Ok((returning(returned.as_ref(), &scope)?, insert))
}

/// The columns that the values are for.
fn targets(columns: &[ObjectName], scope: &Scope) -> Result<Vec<usize>> {
    if columns.is_empty() {
        return Ok((0..scope.collection.columns.len()).collect());
    }
    let mut targets = Vec::new();
    for name in columns {
        let target = self::target(name, scope)?;
        if targets.contains(&target) {
            return Err(because("a column that is named twice"));
        }
        targets.push(target);
    }
    Ok(targets)
}

/// The column that is written.
pub(super) fn target(name: &ObjectName, scope: &Scope) -> Result<usize> {
    match &words(name)?[..] {
        [name] => scope
            .collection
            .column(name)
            .ok_or_else(|| because("a name of no column of the table")),
        _ => Err(because("a part of a column")),
    }
}

fn values(query: &Query) -> Result<&[sqlparser::ast::Parens<Vec<Expr>>]> {
    let Query {
        with: None,
        body,
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks,
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators,
    } = query
    else {
        return Err(because("an INSERT of a query"));
    };
    match &**body {
        SetExpr::Values(Values {
            explicit_row: false,
            value_keyword: false,
            rows,
        }) if locks.is_empty() && pipe_operators.is_empty() => Ok(rows),
        _ => Err(because("an INSERT of a query")),
    }
}

/// What a row gives each declared column.
fn row(
    values: &[Expr],
    named: bool,
    targets: &[usize],
    scope: &Scope,
    parameters: &mut Parameters,
) -> Result<Vec<Assigned>> {
    if values.len() > targets.len() || (named && values.len() < targets.len()) || values.is_empty()
    {
        return Err(because("as many values as columns are needed"));
    }
    let mut row = vec![Assigned::Default; scope.collection.columns.len()];
    for (target, expr) in targets.iter().zip(values) {
        row[*target] = Assigned::read(expr, scope.at(*target), parameters)?;
    }
    Ok(row)
}

impl Rows {
    fn may_be_several(&self) -> bool {
        match self {
            Rows::Listed(rows) => rows.len() > 1,
            Rows::Unnested(_) => true,
        }
    }
}

impl Resolution {
    fn of(on: &OnConflict, scope: &Scope, parameters: &mut Parameters) -> Result<Resolution> {
        let OnConflict {
            conflict_target,
            action,
        } = on;
        let unique = conflict_target
            .as_ref()
            .map(|target| unique(target, scope))
            .transpose()?;
        match (action, unique) {
            (OnConflictAction::DoNothing, None) => Ok(Resolution::Ignore(Conflict::Any)),
            (OnConflictAction::DoNothing, Some(unique)) => {
                Ok(Resolution::Ignore(Conflict::Key(unique)))
            }
            (
                OnConflictAction::DoUpdate(DoUpdate {
                    assignments,
                    selection: None,
                }),
                Some(unique),
            ) => Ok(Resolution::Update {
                unique,
                set: set(assignments, scope, parameters)?,
            }),
            (OnConflictAction::DoUpdate(_), _) => {
                Err(because("DO UPDATE with a condition, or without a key"))
            }
        }
    }
}

/// The unique key that ON CONFLICT names.
fn unique(target: &ConflictTarget, scope: &Scope) -> Result<usize> {
    let keys = &scope.collection.unique;
    let position = match target {
        ConflictTarget::OnConstraint(name) => match &words(name)?[..] {
            [name] => keys.iter().position(|key| key.name == *name),
            _ => None,
        },
        ConflictTarget::Columns(names) => {
            let mut columns = HashSet::new();
            for name in names {
                columns.insert(scope.by_name(name)?);
            }
            keys.iter()
                .position(|key| key.columns.iter().copied().collect::<HashSet<_>>() == columns)
        }
    };
    position.ok_or_else(|| because("ON CONFLICT of no declared key"))
}

/// The assignments of DO UPDATE.
fn set(
    assignments: &[Assignment],
    scope: &Scope,
    parameters: &mut Parameters,
) -> Result<Vec<(usize, Source)>> {
    let mut set: Vec<(usize, Source)> = Vec::new();
    for Assignment { target, value } in assignments {
        let AssignmentTarget::ColumnName(name) = target else {
            return Err(because("SET of several columns at once"));
        };
        let column = self::target(name, scope)?;
        if set.iter().any(|(other, _)| *other == column) || is_id(scope.at(column)) {
            return Err(because("SET of _id, or of a column twice"));
        }
        let source = Source::read(value, column, scope, parameters)?;
        let may_be_null = match &source {
            Source::Excluded(from) => !scope.at(*from).not_null,
            Source::Assigned(assigned) => assigned.may_be_null(scope.at(column)),
            Source::Sum(_, Amount::Constant(amount)) => amount.may_be_null(),
            Source::Sum(_, Amount::Excluded(from)) => !scope.at(*from).not_null,
        };
        // It would be wrong only of rows that are there already.
        if scope.at(column).not_null && may_be_null {
            return Err(because("a column that is not NULL, and what may be"));
        }
        set.push((column, source));
    }
    Ok(set)
}

impl Source {
    /// Of what a column is set to.
    fn read(
        expr: &Expr,
        column: usize,
        scope: &Scope,
        parameters: &mut Parameters,
    ) -> Result<Source> {
        match expr {
            Expr::Nested(expr) => return Source::read(expr, column, scope, parameters),
            Expr::BinaryOp { left, op, right } => {
                let (from, other) = match (stored(left, scope)?, op, stored(right, scope)?) {
                    (Some(from), BinaryOperator::Plus | BinaryOperator::Minus, None) => {
                        (from, right)
                    }
                    (None, BinaryOperator::Plus, Some(from)) => (from, left),
                    _ => return Err(because("a value that is computed")),
                };
                let minus = *op == BinaryOperator::Minus;
                let sum = Sum { from, minus };
                let (amount, kind) = match excluded(other, scope)? {
                    Some(from) => (Amount::Excluded(from), scope.at(from).kind.clone()),
                    None => {
                        let amount = sum.constant(other, scope, parameters)?;
                        let kind = amount.kind.clone();
                        (Amount::Constant(amount), kind)
                    }
                };
                sum.check(&kind, column, scope)?;
                return Ok(Source::Sum(sum, amount));
            }
            _ => {}
        }
        match excluded(expr, scope)? {
            Some(from) => {
                let kind = |at| scope.at(at).kind.without_precision();
                match kind(from) == kind(column) {
                    true => Ok(Source::Excluded(from)),
                    false => Err(because("a value of another type")),
                }
            }
            None => Assigned::read(expr, scope.at(column), parameters).map(Source::Assigned),
        }
    }
}

/// The column of the old row that an expression is. Its name alone would be the new row's as well.
fn stored(expr: &Expr, scope: &Scope) -> Result<Option<usize>> {
    match expr {
        Expr::Nested(inner) => stored(inner, scope),
        Expr::CompoundIdentifier(_) if excluded(expr, scope)?.is_none() => scope.column_if(expr),
        _ => Ok(None),
    }
}

fn excluded(expr: &Expr, scope: &Scope) -> Result<Option<usize>> {
    if let Expr::Nested(inner) = expr {
        return excluded(inner, scope);
    }
    let Expr::CompoundIdentifier(names) = expr else {
        return Ok(None);
    };
    match &names[..] {
        [table, column] if folded(table)? == "excluded" => scope.by_name(column).map(Some),
        _ => Ok(None),
    }
}

impl Insert {
    /// Two rows of one DO UPDATE may not meet, so their keys must be comparable here.
    fn check_keys(&self) -> Result<()> {
        let Resolution::Update { unique, set } = &self.resolution else {
            return Ok(());
        };
        let key = &self.collection.unique[*unique].columns;
        let comparable = |column: &usize| self.collection.columns[*column].kind.has_one_form();
        let moved = set.iter().any(|(column, _)| key.contains(column));
        if self.rows.may_be_several() && (moved || !key.iter().all(comparable)) {
            return Err(because("DO UPDATE of several rows whose keys may be equal"));
        }
        Ok(())
    }

    /// With its values.
    pub fn bind(&self, bound: &Bound<'_>) -> std::result::Result<Command, Fault> {
        let (documents, behind) = match &self.rows {
            Rows::Listed(rows) => {
                assigned::documents(rows.iter().map(|row| self.document(row, bound)))?
            }
            Rows::Unnested(columns) => unnested::documents(&self.collection, columns, bound)?,
        };
        let behind = match behind {
            Some(fault) if documents.is_empty() => return Err(fault),
            behind => behind,
        };
        let collection = self.collection.collection.clone();
        let ignore = match &self.resolution {
            Resolution::Update { unique, set } => {
                return Ok(Command::Upsert {
                    collection,
                    unique: *unique,
                    rows: self.upserted(documents, *unique, set, bound)?,
                    behind,
                });
            }
            Resolution::Ignore(conflict) => Some(*conflict),
            Resolution::Fail => None,
        };
        Ok(Command::Insert {
            collection,
            documents,
            ignore,
            behind,
        })
    }

    fn document(
        &self,
        row: &[Assigned],
        bound: &Bound<'_>,
    ) -> std::result::Result<RawDocumentBuf, Fault> {
        assigned::document(&self.collection, bound.forms, |at, column| {
            row[at].value(column, bound)
        })
    }

    fn upserted(
        &self,
        documents: Vec<RawDocumentBuf>,
        unique: usize,
        set: &[(usize, Source)],
        bound: &Bound<'_>,
    ) -> std::result::Result<Vec<Upserted>, Fault> {
        let mut rows: Vec<Upserted> = Vec::new();
        for document in documents {
            let filter = self.key(unique, &document);
            if filter.is_some() && rows.iter().any(|other| other.filter == filter) {
                let fault = Fault::new(
                    "21000",
                    "ON CONFLICT DO UPDATE command cannot affect row a second time",
                );
                return Err(fault);
            }
            let change = self.change(set, &document, bound)?;
            rows.push(Upserted {
                filter,
                document,
                change,
            });
        }
        Ok(rows)
    }

    /// Finds the row with the same key; NULL is like no other.
    fn key(&self, unique: usize, document: &RawDocument) -> Option<Document> {
        let mut filter = Document::new();
        for column in &self.collection.unique[unique].columns {
            let column = &self.collection.columns[*column];
            filter.insert(column.field(), get(document, &column.path)?);
        }
        Some(filter)
    }

    fn change(
        &self,
        set: &[(usize, Source)],
        document: &RawDocument,
        bound: &Bound<'_>,
    ) -> std::result::Result<Change, Fault> {
        let mut values = Vec::new();
        let mut rest = None;
        for (at, source) in set {
            let column = &self.collection.columns[*at];
            let value = match source {
                Source::Excluded(from) => Computed::Value(self.excluded(*from, document)?),
                Source::Assigned(assigned) => Computed::Value(assigned.value(column, bound)?),
                Source::Sum(sum, amount) => {
                    let amount = match amount {
                        Amount::Constant(amount) => amount.plain(bound)?,
                        Amount::Excluded(from) => self.excluded(*from, document)?,
                    };
                    sum.computed(amount, column, &self.collection)
                }
            };
            match (
                value,
                Rest::of(&self.collection).filter(|_| column.is_rest()),
            ) {
                (Computed::Value(Some(fields)), Some(of)) => {
                    let fields = of.checked(fields)?;
                    rest = Some((of, fields));
                }
                (value, _) => values.push((*at, value)),
            }
        }
        Ok(change(&self.collection, values, rest))
    }

    /// A column's value in the new row.
    fn excluded(
        &self,
        column: usize,
        document: &RawDocument,
    ) -> std::result::Result<Option<Bson>, Fault> {
        let column = &self.collection.columns[column];
        match Rest::of(&self.collection).filter(|_| column.is_rest()) {
            Some(rest) => Ok(Some(rest.read_made(document)?.into())),
            None => Ok(get(document, &column.path)),
        }
    }
}

/// A value as a pipeline has it.
pub(super) fn literal(value: Option<Bson>, nulls: Nulls) -> Bson {
    match (value, nulls) {
        // Or a text with a dollar would be a field.
        (Some(value), _) => doc! { "$literal": value }.into(),
        (None, Nulls::Store) => Bson::Null,
        (None, Nulls::Omit) => "$$REMOVE".into(),
    }
}

/// `$set` and `$unset`.
pub(super) fn operators(values: Vec<(String, Option<Bson>)>, nulls: Nulls) -> Change {
    let mut set = Document::new();
    let mut unset = Document::new();
    for (field, value) in values {
        match (value, nulls) {
            (Some(value), _) => drop(set.insert(field, value)),
            (None, Nulls::Store) => drop(set.insert(field, Bson::Null)),
            (None, Nulls::Omit) => drop(unset.insert(field, "")),
        }
    }
    let mut operators = Document::new();
    if !set.is_empty() {
        operators.insert("$set", set);
    }
    if !unset.is_empty() {
        operators.insert("$unset", unset);
    }
    Change::Operators(operators)
}
