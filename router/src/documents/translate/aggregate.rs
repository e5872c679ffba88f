//! GROUP BY, and the aggregates whose values MongoDB computes exactly.
//!
//! Each group key and each aggregate is a field of what `$group` makes; a column of the answer is `c` and its number.

use bson::{Bson, Document, doc};
use sqlparser::ast::{Expr, FunctionArg, FunctionArgExpr, OrderBy, SelectItem};

use super::super::Kind;
use super::order::{Order, Sortable};
use super::scope::{Scope, folded};
use super::select::{call, constant, named};
use super::{Output, Result, Source, because};

/// How documents become groups.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    /// `$group`.
    pub group: Document,
    /// `$project`, after ORDER BY.
    pub projection: Document,
    /// The row of no documents; there is none with GROUP BY.
    pub if_empty: Option<Document>,
}

/// Whether an item of the select list calls a function: then the query is about groups, or not translated.
pub(super) fn is_aggregate(item: &SelectItem) -> bool {
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, alias: _ } => {
            matches!(expr, Expr::Function(_))
        }
        _ => false,
    }
}

/// The columns, the groups and their order.
pub(super) fn groups(
    list: &[SelectItem],
    group_by: &[Expr],
    order_by: Option<&OrderBy>,
    scope: &Scope,
) -> Result<(Vec<Output>, Groups, Order)> {
    let mut keys = Vec::new();
    for expr in group_by {
        let column = scope.column(expr)?;
        if !keys.contains(&column) {
            keys.push(column);
        }
    }
    if keys.iter().any(|key| !is_groupable(&scope.at(*key).kind)) {
        return Err(because(
            "groups by a type whose equal values look different",
        ));
    }

    let mut made = Made::new(&keys, scope);
    let mut columns = Vec::new();
    for item in list {
        let (expr, alias) = match item {
            SelectItem::UnnamedExpr(expr) => (expr, None),
            SelectItem::ExprWithAlias { expr, alias } => (expr, Some(folded(alias)?)),
            _ => return Err(because("a column of the answer in another form")),
        };
        columns.push(made.column(expr, alias, &keys, scope)?);
    }
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
        group: made.group,
        projection: made.projection,
        if_empty: keys.is_empty().then_some(made.if_empty),
    };
    Ok((columns, groups, order))
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
        group: doc! { "_id": Bson::Null, "c0": { "$sum": Bson::Int64(1) } },
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

/// What is made on the way through the select list.
struct Made {
    group: Document,
    projection: Document,
    if_empty: Document,
    sortables: Vec<Option<Sortable>>,
}

impl Made {
    fn new(keys: &[usize], scope: &Scope) -> Made {
        let mut id = Document::new();
        for (position, key) in keys.iter().enumerate() {
            let field = format!("${}", scope.at(*key).field());
            // Missing and null would be two groups.
            id.insert(
                format!("g{position}"),
                doc! { "$ifNull": [field, Bson::Null] },
            );
        }
        let id = if keys.is_empty() {
            Bson::Null
        } else {
            Bson::Document(id)
        };
        Made {
            group: doc! { "_id": id },
            projection: Document::new(),
            if_empty: Document::new(),
            sortables: Vec::new(),
        }
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
        let (label, kind) = match call(expr) {
            Some((function, arguments)) => {
                let kind = self.aggregate(&function, arguments, &name, scope)?;
                (function, kind)
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

    /// The type of an aggregate that becomes the field of this name.
    fn aggregate(
        &mut self,
        function: &str,
        arguments: &[FunctionArg],
        name: &str,
        scope: &Scope,
    ) -> Result<Kind> {
        let argument = match arguments {
            [FunctionArg::Unnamed(argument)] => argument,
            _ => return Err(because("a call of another form")),
        };
        let column = match (function, argument) {
            ("count", FunctionArgExpr::Wildcard) => {
                self.count(name, Bson::Int64(1));
                return Ok(Kind::Int8);
            }
            (_, FunctionArgExpr::Expr(expr)) => scope.column(expr)?,
            _ => return Err(because("a call of another form")),
        };
        if scope.at(column).is_rest() {
            return Err(because("an aggregate of all other fields"));
        }
        let kind = &scope.at(column).kind;
        let path = format!("${}", scope.at(column).field());
        let is_null = doc! { "$eq": [{ "$ifNull": [&path, Bson::Null] }, Bson::Null] };
        let counted = doc! { "$cond": [is_null, Bson::Int64(0), Bson::Int64(1)] };
        match function {
            "count" => {
                self.count(name, counted);
                Ok(Kind::Int8)
            }
            "min" | "max" if has_extremes(kind) => {
                let mut accumulator = Document::new();
                accumulator.insert(format!("${function}"), path);
                self.group.insert(name, accumulator);
                self.projection.insert(name, 1);
                self.if_empty.insert(name, Bson::Null);
                self.sortables.push(None);
                Ok(match kind {
                    Kind::Varchar(_) => Kind::Text,
                    kind => kind.clone(),
                })
            }
            "sum" => {
                let (added, sum) = match kind {
                    Kind::Int2 | Kind::Int4 => (doc! { "$toLong": path }, Kind::Int8),
                    // Beyond its range an integer would become a double.
                    Kind::Int8 => (doc! { "$toDecimal": { "$toLong": path } }, Kind::Numeric),
                    _ => return Err(because("a sum that MongoDB may round")),
                };
                let count = format!("n{name}");
                let sum_field = format!("${name}");
                self.group.insert(name, doc! { "$sum": added });
                self.group.insert(&count, doc! { "$sum": counted });
                // The sum of nothing is NULL, and 0 in MongoDB.
                let count = format!("${count}");
                let shown = doc! { "$cond": [{ "$eq": [count, 0] }, Bson::Null, sum_field] };
                self.projection.insert(name, shown);
                self.if_empty.insert(name, Bson::Null);
                self.sortables.push(None);
                Ok(sum)
            }
            _ => Err(because("a function that MongoDB may compute otherwise")),
        }
    }

    fn count(&mut self, name: &str, counted: impl Into<Bson>) {
        self.group.insert(name, doc! { "$sum": counted.into() });
        self.projection.insert(name, 1);
        self.if_empty.insert(name, Bson::Int64(0));
        self.sortables.push(Some(Sortable {
            path: name.to_owned(),
            kind: Kind::Int8,
            nullable: None,
        }));
    }
}

fn key_sortable(key: usize, column: usize, scope: &Scope) -> Sortable {
    Sortable {
        path: format!("_id.g{key}"),
        kind: scope.at(column).kind.clone(),
        nullable: (!scope.at(column).not_null).then_some(column),
    }
}

/// 1.0 and 1.00 are equal, and so are 0 and -0: which one a group shows, nobody knows.
fn is_groupable(kind: &Kind) -> bool {
    !matches!(
        kind,
        Kind::Float4 | Kind::Float8 | Kind::Numeric | Kind::Jsonb | Kind::Array(_)
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
            | Kind::Timestamptz
            | Kind::Timestamp
            | Kind::Date
    )
}
