//! GROUP BY, HAVING and DISTINCT, and the aggregates whose values MongoDB computes exactly.
//!
//! Each group key and each aggregate is a field of what `$group` makes; a column of the answer is `c` and its number, an
//! aggregate in HAVING is `h` and its number.

use bson::{Bson, Document, doc};
use sqlparser::ast::{
    CastKind, DataType, Expr, FunctionArg, FunctionArgExpr, Ident, OrderBy, SelectItem,
    Value as Token, ValueWithSpan,
};

use super::super::{Fault, Kind};
use super::condition::{Condition, Field, Operands};
use super::constant::{Bound, kind_of};
use super::filter::{self, Filter};
use super::order::{Order, Sortable};
use super::scope::{Parameters, Scope, folded};
use super::select::{Parts, call, called, constant, named};
use super::{Output, Result, Source, because};

/// The field of a group's key that has the value which is counted once.
const VALUE: &str = "value";

/// How documents become groups.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    /// Each is a `$group`, of what the one before it makes.
    groups: Vec<Document>,
    /// Which of them are rows, if not all.
    having: Option<Having>,
    /// `$project`, after ORDER BY.
    pub projection: Document,
    /// The row of no documents; there is none with GROUP BY.
    pub if_empty: Option<Document>,
}

/// The condition on groups.
#[derive(Clone, Debug)]
struct Having {
    /// `$set`: aggregates whose values are not yet what `$group` makes.
    values: Document,
    condition: Condition,
}

impl Groups {
    /// The stages that make the groups; None if there are none, whatever the documents are.
    pub fn stages(&self, bound: &Bound<'_>) -> std::result::Result<Option<Vec<Document>>, Fault> {
        let groups = self.groups.iter();
        let mut stages: Vec<_> = groups
            .map(|group| doc! { "$group": group.clone() })
            .collect();
        let Some(Having { values, condition }) = &self.having else {
            return Ok(Some(stages));
        };
        let filter = match filter::bind(condition, bound)? {
            Filter::None => return Ok(None),
            filter => filter.document(),
        };
        if !filter.is_empty() {
            if !values.is_empty() {
                stages.push(doc! { "$set": values.clone() });
            }
            stages.push(doc! { "$match": filter });
        }
        Ok(Some(stages))
    }
}

/// Whether an item of the select list calls a function: then the query is about groups, or not translated.
pub(super) fn is_aggregate(item: &SelectItem) -> bool {
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, alias: _ } => {
            matches!(without_cast(expr).0, Expr::Function(_))
        }
        _ => false,
    }
}

/// The columns, the groups and their order.
pub(super) fn groups(
    parts: &Parts<'_>,
    order_by: Option<&OrderBy>,
    scope: &Scope,
    parameters: &mut Parameters,
) -> Result<(Vec<Output>, Groups, Order)> {
    let keys = keys(parts, scope)?;
    if keys.iter().any(|key| !is_groupable(&scope.at(*key).kind)) {
        return Err(because(
            "groups by a type whose equal values look different",
        ));
    }
    // Without GROUP BY all documents are one group, also where there are none.
    let is_one = keys.is_empty() && !parts.distinct;
    if is_one && parts.having.is_some() {
        return Err(because("HAVING without GROUP BY"));
    }

    let mut made = Made::default();
    let mut columns = Vec::new();
    for item in parts.projection {
        let (expr, alias) = listed(item)?;
        let alias = alias.map(folded).transpose()?;
        columns.push(made.column(expr, alias, &keys, scope)?);
    }
    let having = match parts.having {
        None => None,
        Some(expr) => {
            let mut grouped = Grouped {
                made: &mut made,
                keys: &keys,
                scope,
                values: Document::new(),
                number: 0,
            };
            let condition = Condition::on(expr, &mut grouped, parameters)?;
            Some(Having {
                values: grouped.values,
                condition,
            })
        }
    };
    let order = Order::of(order_by, |expr| {
        match named(expr, columns.iter().map(|column| column.name.as_str()))? {
            Some(named) if named.others.is_empty() => made.sortables[named.first]
                .clone()
                .ok_or_else(|| because("an order by this aggregate")),
            Some(_) => Err(because("an order by a name of two columns")),
            None => {
                let column = scope.column(expr)?;
                let key = keys.iter().position(|key| *key == column);
                key.map(|key| key_sortable(key, column, scope))
                    .ok_or_else(|| because("an order by a column that is not grouped"))
            }
        }
    })?;
    if made.projection.is_empty() {
        made.projection.insert("c", doc! { "$literal": 1 });
    }
    made.projection.insert("_id", 0);
    let groups = Groups {
        groups: made.groups(&keys, scope),
        having,
        projection: made.projection,
        if_empty: is_one.then_some(made.if_empty),
    };
    Ok((columns, groups, order))
}

/// The columns by which documents are grouped. Rows that are distinct are groups by all their columns.
fn keys(parts: &Parts<'_>, scope: &Scope) -> Result<Vec<usize>> {
    let mut keys = Vec::new();
    let mut add = |column| {
        if !keys.contains(&column) {
            keys.push(column);
        }
    };
    if parts.distinct && !(parts.group_by.is_empty() && parts.having.is_none()) {
        return Err(because("DISTINCT of groups"));
    }
    for expr in parts.group_by {
        add(scope.column(numbered(expr, parts.projection)?)?);
    }
    let distinct = parts.projection.iter().filter(|_| parts.distinct);
    for item in distinct {
        let (expr, _) = listed(item)?;
        if constant(expr, None)?.is_none() {
            add(scope.column(expr)?);
        }
    }
    Ok(keys)
}

/// What GROUP BY means by an expression: `GROUP BY 1` is by the first column of the answer.
fn numbered<'a>(expr: &'a Expr, list: &'a [SelectItem]) -> Result<&'a Expr> {
    let Expr::Value(ValueWithSpan {
        value: Token::Number(digits, false),
        span: _,
    }) = expr
    else {
        return Ok(expr);
    };
    let position = digits.parse::<usize>().ok();
    let item = position.and_then(|position| list.get(position.checked_sub(1)?));
    let item = item.ok_or_else(|| because("groups by no column of the answer"))?;
    Ok(listed(item)?.0)
}

fn listed(item: &SelectItem) -> Result<(&Expr, Option<&Ident>)> {
    match item {
        SelectItem::UnnamedExpr(expr) => Ok((expr, None)),
        SelectItem::ExprWithAlias { expr, alias } => Ok((expr, Some(alias))),
        _ => Err(because("a column of the answer in another form")),
    }
}

/// `count(*)` alone, of whatever comes before.
pub(super) fn count_of_rows(list: &[SelectItem]) -> Result<(Vec<Output>, Groups)> {
    let (expr, alias) = match list {
        [SelectItem::UnnamedExpr(expr)] => (expr, None),
        [SelectItem::ExprWithAlias { expr, alias }] => (expr, Some(folded(alias)?)),
        _ => return Err(because("a subquery")),
    };
    let Some((function, [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)])) = call(expr) else {
        return Err(because("a subquery"));
    };
    if function != "count" {
        return Err(because("a subquery"));
    }
    let groups = Groups {
        groups: vec![doc! { "_id": Bson::Null, "c0": { "$sum": Bson::Int64(1) } }],
        having: None,
        projection: doc! { "c0": 1, "_id": 0 },
        if_empty: Some(doc! { "c0": Bson::Int64(0) }),
    };
    let output = Output {
        name: alias.unwrap_or(function),
        kind: Kind::Int8,
        source: Source::Path(vec!["c0".to_owned()]),
        as_text: false,
    };
    Ok((vec![output], groups))
}

/// What is made on the way through the select list and HAVING.
#[derive(Default)]
struct Made {
    /// What is computed of the documents of a group.
    fields: Document,
    /// The column whose values are counted once each.
    once: Option<usize>,
    /// What is computed of these values.
    counts: Document,
    projection: Document,
    if_empty: Document,
    sortables: Vec<Option<Sortable>>,
}

impl Made {
    /// The stages that group. Where values are counted once each, they are groups of their own first.
    fn groups(&self, keys: &[usize], scope: &Scope) -> Vec<Document> {
        // Missing and null would be two groups.
        let value = |column: usize| {
            let field = format!("${}", scope.at(column).field());
            doc! { "$ifNull": [field, Bson::Null] }
        };
        let id = |id: Document| match id.is_empty() {
            true => doc! { "_id": Bson::Null },
            false => doc! { "_id": id },
        };
        let named = keys.iter().enumerate();
        let mut by: Document = named
            .map(|(position, key)| (format!("g{position}"), value(*key).into()))
            .collect();
        let Some(once) = self.once else {
            let mut group = id(by);
            group.extend(self.fields.clone());
            return vec![group];
        };
        let again = by
            .keys()
            .map(|key| (key.clone(), format!("$_id.{key}").into()));
        let mut last = id(again.collect());
        // Sums of sums, and extremes of extremes.
        last.extend(self.fields.iter().map(|(name, field)| {
            let accumulators = field.as_document().into_iter().flat_map(Document::keys);
            let again =
                accumulators.map(|accumulator| (accumulator.clone(), format!("${name}").into()));
            (name.clone(), Bson::Document(again.collect()))
        }));
        last.extend(self.counts.clone());
        by.insert(VALUE, value(once));
        let mut first = id(by);
        first.extend(self.fields.clone());
        vec![first, last]
    }

    /// Adds an aggregate, whose value is then in the field of this name; None if the expression is none.
    fn add(&mut self, expr: &Expr, name: &str, scope: &Scope) -> Result<Option<Aggregate>> {
        let (expr, cast) = without_cast(expr);
        let Some((function, arguments, is_distinct)) = called(expr) else {
            return Ok(None);
        };
        let check_cast = |made: &Aggregate| match cast {
            None => Ok(()),
            Some(cast) if kind_of(cast)? == made.kind => Ok(()),
            Some(_) => Err(because("an aggregate as another type")),
        };
        if is_distinct {
            let column = match (&function[..], arguments) {
                ("count", [FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))]) => {
                    scope.column(expr)?
                }
                _ => return Err(because("a call of another form")),
            };
            if !is_groupable(&scope.at(column).kind) {
                return Err(because(
                    "values of a type whose equal values look different",
                ));
            }
            if *self.once.get_or_insert(column) != column {
                return Err(because("values of two columns that are counted once each"));
            }
            let made = Aggregate::count(name, counted(&format!("$_id.{VALUE}")));
            check_cast(&made)?;
            self.counts.extend(made.fields.clone());
            return Ok(Some(made));
        }
        let made = Aggregate::of(&function, arguments, name, scope)?;
        check_cast(&made)?;
        self.fields.extend(made.fields.clone());
        Ok(Some(made))
    }

    fn column(
        &mut self,
        expr: &Expr,
        alias: Option<String>,
        keys: &[usize],
        scope: &Scope,
    ) -> Result<Output> {
        if let Some(output) = constant(expr, alias.as_deref())? {
            self.sortables.push(None);
            return Ok(output);
        }
        let name = format!("c{}", self.sortables.len());
        let (label, kind) = match self.add(expr, &name, scope)? {
            Some(made) => {
                self.projection.insert(&name, made.shown);
                self.if_empty.insert(&name, made.if_empty);
                self.sortables.push(made.is_sortable.then(|| Sortable {
                    path: name.clone(),
                    kind: made.kind.clone(),
                    nullable: None,
                }));
                (made.label, made.kind)
            }
            None => {
                let column = scope.column(expr)?;
                let key = keys
                    .iter()
                    .position(|key| *key == column)
                    .ok_or_else(|| because("a column that is not grouped"))?;
                self.projection.insert(&name, format!("$_id.g{key}"));
                self.sortables.push(Some(key_sortable(key, column, scope)));
                (scope.at(column).name.clone(), scope.at(column).kind.clone())
            }
        };
        Ok(Output {
            name: alias.unwrap_or(label),
            kind,
            source: Source::Path(vec![name]),
            as_text: false,
        })
    }
}

/// What HAVING may be about: keys of the groups, and aggregates, which are added to the groups.
struct Grouped<'a> {
    made: &'a mut Made,
    keys: &'a [usize],
    scope: &'a Scope,
    values: Document,
    /// Aggregates so far.
    number: usize,
}

impl Operands for Grouped<'_> {
    fn operand_if(&mut self, expr: &Expr) -> Result<Option<Field>> {
        if let Expr::Nested(expr) = expr {
            return self.operand_if(expr);
        }
        let path = format!("h{}", self.number);
        if let Some(made) = self.made.add(expr, &path, self.scope)? {
            self.number += 1;
            check_read(&made.kind)?;
            if made.shown != Bson::Int32(1) {
                self.values.insert(&path, made.shown);
            }
            return Ok(Some(Field {
                column: None,
                path,
                kind: made.kind,
            }));
        }
        let Some(column) = self.scope.column_if(expr)? else {
            return Ok(None);
        };
        let key = self.keys.iter().position(|key| *key == column);
        let key = key.ok_or_else(|| because("a column that is not grouped"))?;
        check_read(&self.scope.at(column).kind)?;
        Ok(Some(Field {
            column: Some(column),
            path: format!("_id.g{key}"),
            kind: self.scope.at(column).kind.clone(),
        }))
    }
}

/// An expression without casts and parentheses around it, and the type of the outermost cast.
fn without_cast(expr: &Expr) -> (&Expr, Option<&DataType>) {
    match expr {
        Expr::Nested(expr) => without_cast(expr),
        Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr,
            data_type,
            format: None,
        } => match without_cast(expr) {
            (expr, None) => (expr, Some(data_type)),
            // Two casts may differ from one.
            (_, Some(_)) => (expr, Some(data_type)),
        },
        expr => (expr, None),
    }
}

/// 1 for a value, which an expression of MongoDB's gives, and 0 for none.
fn counted(value: &str) -> Bson {
    let is_null = doc! { "$eq": [{ "$ifNull": [value, Bson::Null] }, Bson::Null] };
    doc! { "$cond": [is_null, Bson::Int64(0), Bson::Int64(1)] }.into()
}

/// An aggregate as fields of a group.
struct Aggregate {
    /// What PostgreSQL calls its column.
    label: String,
    /// What `$group` computes for it.
    fields: Document,
    /// What `$project` says of its field: 1, or how its value is made of the fields.
    shown: Bson,
    /// Its value where there are no documents.
    if_empty: Bson,
    kind: Kind,
    /// MongoDB sorts it as PostgreSQL does, and it is never NULL.
    is_sortable: bool,
}

impl Aggregate {
    /// A call whose value is to be in the field of this name.
    fn of(
        function: &str,
        arguments: &[FunctionArg],
        name: &str,
        scope: &Scope,
    ) -> Result<Aggregate> {
        let argument = match arguments {
            [FunctionArg::Unnamed(argument)] => argument,
            _ => return Err(because("a call of another form")),
        };
        let column = match (function, argument) {
            ("count", FunctionArgExpr::Wildcard) => {
                return Ok(Aggregate::count(name, Bson::Int64(1)));
            }
            (_, FunctionArgExpr::Expr(expr)) => scope.column(expr)?,
            _ => return Err(because("a call of another form")),
        };
        if scope.at(column).is_rest() {
            return Err(because("an aggregate of all other fields"));
        }
        let kind = &scope.at(column).kind;
        let path = format!("${}", scope.at(column).field());
        // Of NULL and missing fields MongoDB has as little to say as PostgreSQL.
        let extreme = |operator: &str| {
            let mut accumulator = Document::new();
            accumulator.insert(operator, &path);
            let mut fields = Document::new();
            fields.insert(name, accumulator);
            Aggregate {
                label: function.to_owned(),
                fields,
                shown: Bson::Int32(1),
                if_empty: Bson::Null,
                kind: match kind {
                    Kind::Varchar(_) => Kind::Text,
                    kind => kind.without_precision(),
                },
                is_sortable: false,
            }
        };
        match function {
            "count" => Ok(Aggregate::count(name, counted(&path))),
            "min" if has_extremes(kind) => Ok(extreme("$min")),
            "max" if has_extremes(kind) => Ok(extreme("$max")),
            "bool_and" | "every" if *kind == Kind::Bool => Ok(extreme("$min")),
            "bool_or" if *kind == Kind::Bool => Ok(extreme("$max")),
            "sum" => {
                let (added, kind) = match kind {
                    Kind::Int2 | Kind::Int4 => (doc! { "$toLong": &path }, Kind::Int8),
                    // Beyond its range an integer would become a double.
                    Kind::Int8 => (doc! { "$toDecimal": { "$toLong": &path } }, Kind::Numeric),
                    _ => return Err(because("a sum that MongoDB may round")),
                };
                let count = format!("n{name}");
                let mut fields = Document::new();
                fields.insert(name, doc! { "$sum": added });
                fields.insert(&count, doc! { "$sum": counted(&path) });
                // The sum of nothing is NULL, and 0 in MongoDB.
                let is_none = doc! { "$eq": [format!("${count}"), 0] };
                let shown = doc! { "$cond": [is_none, Bson::Null, format!("${name}")] };
                Ok(Aggregate {
                    label: function.to_owned(),
                    fields,
                    shown: shown.into(),
                    if_empty: Bson::Null,
                    kind,
                    is_sortable: false,
                })
            }
            _ => Err(because("a function that MongoDB may compute otherwise")),
        }
    }

    fn count(name: &str, counted: Bson) -> Aggregate {
        let mut fields = Document::new();
        fields.insert(name, doc! { "$sum": counted });
        Aggregate {
            label: "count".to_owned(),
            fields,
            shown: Bson::Int32(1),
            if_empty: Bson::Int64(0),
            kind: Kind::Int8,
            is_sortable: true,
        }
    }
}

fn key_sortable(key: usize, column: usize, scope: &Scope) -> Sortable {
    Sortable {
        path: format!("_id.g{key}"),
        kind: scope.at(column).kind.without_precision(),
        nullable: (!scope.at(column).not_null).then_some(column),
    }
}

/// Constants of these types can be such that only PostgreSQL reads them, and it can.
fn check_read(kind: &Kind) -> Result<()> {
    match kind {
        Kind::Timestamptz(_) | Kind::Timestamp(_) | Kind::Date | Kind::Numeric => {
            Err(because("HAVING about times or numerics"))
        }
        _ => Ok(()),
    }
}

/// 1.0 and 1.00 are equal, and so are 0 and -0: which one a group shows, nobody knows. To MongoDB the same bytes are
/// another value where they are marked as another kind of bytes.
fn is_groupable(kind: &Kind) -> bool {
    !matches!(
        kind,
        Kind::Float4 | Kind::Float8 | Kind::Numeric | Kind::Jsonb | Kind::Bytea | Kind::Array(_)
    )
}

/// The types of PostgreSQL's `min` and `max` that both sides sort alike.
fn has_extremes(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Int2
            | Kind::Int4
            | Kind::Int8
            | Kind::Text
            | Kind::Varchar(_)
            | Kind::Timestamptz(_)
            | Kind::Timestamp(_)
            | Kind::Date
    )
}
