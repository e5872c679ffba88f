//! SELECT: a `find`, or where NULL and NaN must be sorted, or documents grouped, an `aggregate`.

use std::sync::Arc;

use bson::{Bson, Document, doc};
use sqlparser::ast::{
    CastKind, DataType, Distinct, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentList, FunctionArguments, GroupByExpr, Query, Select as Clauses, SelectFlavor,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableAlias, TableFactor, TableWithJoins,
    Value as Token, ValueWithSpan, WildcardAdditionalOptions,
};

use super::super::rest::Rest;
use super::super::{Collection, Column, Fault, Kind};
use super::aggregate::{self, Groups};
use super::command::Command;
use super::condition::Condition;
use super::constant::{Bound, Literal};
use super::filter::{self, Filter};
use super::order::{Order, Page, RANK, Sortable, Window};
use super::prefilter;
use super::scope::{Parameters, Scope, folded, words};
use super::{Output, Result, Source, Tables, because};

/// A SELECT without the values of its parameters.
#[derive(Clone, Debug)]
pub(super) struct Select {
    collection: Arc<Collection>,
    condition: Condition,
    /// A unique key says that it is one document at most.
    single: bool,
    projection: Arc<Document>,
    groups: Option<Groups>,
    order: Order,
    window: Window,
    /// LIMIT and OFFSET of rows that are then counted.
    counted: Option<Window>,
}

/// A SELECT, and the columns of its answer.
pub(super) fn select(
    query: &Query,
    tables: Tables<'_>,
    parameters: &mut Parameters,
) -> Result<(Vec<Output>, Select)> {
    read(query, tables, parameters, Condition::of)
}

/// The same of one that fetches rows for PostgreSQL, which asks its conditions again: see [`prefilter`](super::prefilter).
pub(super) fn fetched(
    query: &Query,
    tables: Tables<'_>,
    parameters: &mut Parameters,
) -> Result<(Vec<Output>, Select)> {
    let (columns, select) = read(query, tables, parameters, prefilter::of)?;
    // Rows that are too many may neither be counted nor be among the first ones.
    let are_rows = select.groups.is_none()
        && select.counted.is_none()
        && select.window.is_none()
        && select.order.is_none();
    match are_rows {
        true => Ok((columns, select)),
        false => Err(because("rows that are fetched in another form")),
    }
}

/// How WHERE is read.
type Where = fn(Option<&Expr>, &Scope, &mut Parameters) -> Result<Condition>;

fn read(
    query: &Query,
    tables: Tables<'_>,
    parameters: &mut Parameters,
    condition: Where,
) -> Result<(Vec<Output>, Select)> {
    let Query {
        with: None,
        body,
        order_by,
        limit_clause,
        fetch,
        locks,
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators,
    } = query
    else {
        return Err(because("WITH, or a clause that PostgreSQL does not know"));
    };
    if !locks.is_empty() || !pipe_operators.is_empty() {
        return Err(because("a lock on rows"));
    }
    let SetExpr::Select(clauses) = &**body else {
        return Err(because("a query that is no plain SELECT"));
    };
    let parts = Parts::of(clauses)?;
    let Parts {
        projection,
        from: [from],
        selection,
        ..
    } = parts
    else {
        return Err(because("FROM of other than one table"));
    };
    if let Some(rows) = derived(from) {
        if selection.is_some() || parts.has_groups() || order_by.is_some() {
            return Err(because("a subquery"));
        }
        let (_, rows) = select(rows, tables, parameters)?;
        let (columns, groups) = aggregate::count_of_rows(projection)?;
        let window = Window::of(limit_clause.as_ref(), fetch.as_ref(), parameters)?;
        return Ok((columns, rows.counted(groups, window)?));
    }
    let scope = Scope::of(from, tables)?;
    let grouped = parts.has_groups() || projection.iter().any(aggregate::is_aggregate);
    let taken = |column: &Column| {
        column
            .path
            .first()
            .is_some_and(|field| field.starts_with(RANK))
    };
    if scope.collection.columns.iter().any(taken) {
        return Err(because("a field with the name of a rank"));
    }

    // In PostgreSQL's order: the first use of a parameter gives it its type.
    let items = match grouped {
        true => None,
        false => Some(items(projection, &scope)?),
    };
    let condition = condition(selection, &scope, parameters)?;
    let single = condition.is_single(&scope.collection);
    let (columns, projection, groups, order) = match items {
        Some(items) => {
            let order = Order::of(order_by.as_ref(), |expr| sortable(expr, &items, &scope))?;
            let columns = items
                .into_iter()
                .map(|item| item.output)
                .collect::<Vec<_>>();
            let projection = match single && reads_every(&columns, &scope.collection) {
                true => Document::new(),
                false => fields(&columns),
            };
            (columns, projection, None, order)
        }
        None => {
            let (columns, groups, order) =
                aggregate::groups(&parts, order_by.as_ref(), &scope, parameters)?;
            (columns, Document::new(), Some(groups), order)
        }
    };
    let window = Window::of(limit_clause.as_ref(), fetch.as_ref(), parameters)?;
    let select = Select {
        collection: scope.collection,
        condition,
        single,
        projection: Arc::new(projection),
        groups,
        order,
        window,
        counted: None,
    };
    Ok((columns, select))
}

/// The subquery that FROM is.
fn derived(from: &TableWithJoins) -> Option<&Query> {
    let TableWithJoins {
        relation:
            TableFactor::Derived {
                lateral: false,
                subquery,
                alias:
                    Some(TableAlias {
                        explicit: _,
                        name: _,
                        columns,
                        at: None,
                    }),
                sample: None,
            },
        joins,
    } = from
    else {
        return None;
    };
    (columns.is_empty() && joins.is_empty()).then_some(subquery)
}

impl Select {
    /// How many rows it has. Their order does not matter to that.
    fn counted(self, groups: Groups, window: Window) -> Result<Select> {
        if self.groups.is_some() || self.counted.is_some() {
            return Err(because("a count of groups"));
        }
        Ok(Select {
            groups: Some(groups),
            order: Order::default(),
            window,
            counted: Some(self.window),
            ..self
        })
    }

    /// With its values.
    pub fn bind(&self, bound: &Bound<'_>) -> std::result::Result<Command, Fault> {
        let filter = filter::bind(&self.condition, bound)?;
        // All values are read, even where there are no rows: each may be at fault.
        let groups = self.groups.as_ref();
        let groups = groups.map(|groups| groups.stages(bound)).transpose()?;
        let counted = self
            .counted
            .as_ref()
            .map(|window| window.bind(bound))
            .transpose()?;
        let page = self.window.bind(bound)?;
        if page.limit == Some(0) {
            return Ok(Command::Empty);
        }
        let only_row = self
            .groups
            .as_ref()
            .and_then(|groups| groups.if_empty.clone());
        match (&only_row, &filter) {
            // The only row is one of those that OFFSET leaves out.
            (Some(_), _) if page.skip > 0 => return Ok(Command::Empty),
            (None, Filter::None) => return Ok(Command::Empty),
            _ => {}
        }
        let collection = self.collection.collection.clone();
        let filter = match counted {
            Some(Page { limit: Some(0), .. }) => Filter::None.document(),
            _ => filter.document(),
        };
        let order = self.order.stages(&self.condition);
        if self.groups.is_none() && order.len() < 2 {
            let sort = order
                .into_iter()
                .next()
                .and_then(|mut stage| match stage.remove("$sort") {
                    Some(Bson::Document(sort)) => Some(sort),
                    _ => None,
                });
            return Ok(Command::Find {
                collection,
                filter,
                projection: Arc::clone(&self.projection),
                sort: sort.unwrap_or_default(),
                skip: page.skip,
                limit: page.limit,
                single: self.single,
            });
        }

        let mut pipeline = Vec::new();
        if !filter.is_empty() {
            pipeline.push(doc! { "$match": filter });
        }
        pipeline.extend(counted.iter().flat_map(Page::stages));
        match groups {
            Some(Some(stages)) => pipeline.extend(stages),
            Some(None) => return Ok(Command::Empty),
            None => {}
        }
        pipeline.extend(order);
        if only_row.is_none() {
            pipeline.extend(page.stages());
        }
        let projection = match &self.groups {
            Some(groups) => &groups.projection,
            None => &self.projection,
        };
        if !projection.is_empty() {
            pipeline.push(doc! { "$project": projection.clone() });
        }
        Ok(Command::Aggregate {
            collection,
            pipeline,
            if_empty: only_row,
        })
    }
}

/// The clauses of a SELECT that are understood.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub distinct: bool,
    pub projection: &'a [SelectItem],
    pub from: &'a [TableWithJoins],
    pub selection: Option<&'a Expr>,
    pub group_by: &'a [Expr],
    pub having: Option<&'a Expr>,
}

impl<'a> Parts<'a> {
    /// Every clause is named here, so that none passes unseen.
    pub fn of(clauses: &'a Clauses) -> Result<Parts<'a>> {
        let Clauses {
            select_token: _,
            optimizer_hints,
            distinct,
            select_modifiers,
            top: None,
            top_before_distinct: _,
            projection,
            exclude: None,
            into: None,
            from,
            lateral_views,
            prewhere: None,
            selection,
            connect_by,
            group_by: GroupByExpr::Expressions(group_by, modifiers),
            cluster_by,
            distribute_by,
            sort_by,
            having,
            named_window,
            qualify: None,
            window_before_qualify: _,
            value_table_mode: None,
            flavor: SelectFlavor::Standard,
        } = clauses
        else {
            return Err(because("INTO, or a clause that PostgreSQL does not know"));
        };
        let distinct = match distinct {
            None | Some(Distinct::All) => false,
            Some(Distinct::Distinct) => true,
            Some(Distinct::On(_)) => return Err(because("DISTINCT ON")),
        };
        let known = select_modifiers
            .as_ref()
            .is_none_or(|modifiers| !modifiers.is_any_set())
            && optimizer_hints.is_empty()
            && lateral_views.is_empty()
            && connect_by.is_empty()
            && modifiers.is_empty()
            && cluster_by.is_empty()
            && distribute_by.is_empty()
            && sort_by.is_empty();
        if !known || !named_window.is_empty() {
            return Err(because(
                "a window, or a clause that PostgreSQL does not know",
            ));
        }
        Ok(Parts {
            distinct,
            projection,
            from,
            selection: selection.as_ref(),
            group_by,
            having: having.as_ref(),
        })
    }

    /// Whether its rows are groups of others, even if it has no aggregate.
    pub fn has_groups(&self) -> bool {
        self.distinct || !self.group_by.is_empty() || self.having.is_some()
    }
}

/// The array of `SELECT unnest(array)`.
pub(super) fn unnested(query: &Query) -> Option<&Expr> {
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
        return None;
    };
    let SetExpr::Select(clauses) = &**body else {
        return None;
    };
    let Parts {
        distinct: false,
        projection: [SelectItem::UnnamedExpr(expr)],
        from: [],
        selection: None,
        group_by: [],
        having: None,
    } = Parts::of(clauses).ok()?
    else {
        return None;
    };
    let (name, [FunctionArg::Unnamed(FunctionArgExpr::Expr(array))]) = call(expr)? else {
        return None;
    };
    (name == "unnest" && locks.is_empty() && pipe_operators.is_empty()).then_some(array)
}

/// The name and the arguments of a plain call.
pub(super) fn call(expr: &Expr) -> Option<(String, &[FunctionArg])> {
    match called(expr)? {
        (name, arguments, false) => Some((name, arguments)),
        _ => None,
    }
}

/// The same, also of a call that sees equal values once, `DISTINCT`, and whether it is one.
pub(super) fn called(expr: &Expr) -> Option<(String, &[FunctionArg], bool)> {
    let Expr::Function(Function {
        name,
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args:
            FunctionArguments::List(FunctionArgumentList {
                duplicate_treatment: duplicates @ (None | Some(DuplicateTreatment::Distinct)),
                args,
                clauses,
            }),
        within_group,
        filter: None,
        null_treatment: None,
        over: None,
    }) = expr
    else {
        return None;
    };
    let words = words(name).ok()?;
    let name = match &words[..] {
        [name] => name,
        [schema, name] if schema == "pg_catalog" => name,
        _ => return None,
    };
    (clauses.is_empty() && within_group.is_empty()).then(|| {
        let is_distinct = duplicates.is_some();
        (name.clone(), args.as_slice(), is_distinct)
    })
}

/// A column of the answer, and what ORDER BY may say of it.
struct Item {
    output: Output,
    /// The column whose value it is, as it is.
    column: Option<usize>,
}

/// What a SELECT shows that reads nothing.
pub(super) fn shown(query: &Query) -> Option<&[SelectItem]> {
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
        return None;
    };
    let SetExpr::Select(select) = &**body else {
        return None;
    };
    let Clauses {
        select_token: _,
        optimizer_hints,
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection,
        exclude: None,
        into: None,
        from,
        lateral_views,
        prewhere: None,
        selection: None,
        connect_by,
        group_by: GroupByExpr::Expressions(groups, modifiers),
        cluster_by,
        distribute_by,
        sort_by,
        having: None,
        named_window,
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    } = &**select
    else {
        return None;
    };
    let is_plain = locks.is_empty()
        && pipe_operators.is_empty()
        && optimizer_hints.is_empty()
        && from.is_empty()
        && lateral_views.is_empty()
        && connect_by.is_empty()
        && groups.is_empty()
        && modifiers.is_empty()
        && cluster_by.is_empty()
        && distribute_by.is_empty()
        && sort_by.is_empty()
        && named_window.is_empty();
    is_plain.then_some(projection)
}

/// The columns of RETURNING.
pub(super) fn returning(items: Option<&Vec<SelectItem>>, scope: &Scope) -> Result<Vec<Output>> {
    match items {
        None => Ok(Vec::new()),
        Some(list) => Ok(self::items(list, scope)?
            .into_iter()
            .map(|item| item.output)
            .collect()),
    }
}

fn items(list: &[SelectItem], scope: &Scope) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for item in list {
        match item {
            SelectItem::Wildcard(options) if is_plain(options) => items.extend(every_column(scope)),
            SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(name),
                options,
            ) if is_plain(options) && scope.is_table(name)? => {
                items.extend(every_column(scope));
            }
            SelectItem::UnnamedExpr(expr) => items.push(Item::of(expr, None, scope)?),
            SelectItem::ExprWithAlias { expr, alias } => {
                items.push(Item::of(expr, Some(folded(alias)?), scope)?)
            }
            _ => return Err(because("a column of the answer in another form")),
        }
    }
    match items.is_empty() {
        true => Err(because("an answer without columns")),
        false => Ok(items),
    }
}

fn is_plain(options: &WildcardAdditionalOptions) -> bool {
    let WildcardAdditionalOptions {
        wildcard_token: _,
        opt_ilike,
        opt_exclude,
        opt_except,
        opt_replace,
        opt_rename,
        opt_alias,
    } = options;
    opt_ilike.is_none()
        && opt_exclude.is_none()
        && opt_except.is_none()
        && opt_replace.is_none()
        && opt_rename.is_none()
        && opt_alias.is_none()
}

fn every_column(scope: &Scope) -> impl Iterator<Item = Item> {
    (0..scope.collection.columns.len()).map(|column| Item::column(column, None, scope))
}

impl Item {
    fn of(expr: &Expr, alias: Option<String>, scope: &Scope) -> Result<Item> {
        if let Some(output) = constant(expr, alias.as_deref())? {
            return Ok(Item {
                output,
                column: None,
            });
        }
        if let Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr,
            data_type: DataType::Text,
            format: None,
        } = expr
        {
            let item = Item::column(scope.column(expr)?, alias, scope);
            // As text, a boolean is a whole word.
            if item.output.kind == Kind::Bool {
                return Err(because("a boolean as text"));
            }
            let output = Output {
                as_text: true,
                ..item.output
            };
            return Ok(Item {
                output,
                column: None,
            });
        }
        let column = scope.column(expr)?;
        Ok(Item::column(column, alias, scope))
    }

    fn column(column: usize, alias: Option<String>, scope: &Scope) -> Item {
        let declared = scope.at(column);
        let output = Output {
            name: alias.unwrap_or_else(|| declared.name.clone()),
            kind: declared.kind.clone(),
            source: match Rest::of(&scope.collection).filter(|_| declared.is_rest()) {
                Some(rest) => Source::Rest(Arc::new(rest)),
                None => Source::Path(declared.path.clone()),
            },
            as_text: false,
        };
        Item {
            output,
            column: Some(column),
        }
    }
}

/// `SELECT true`. Constants have no name; before PostgreSQL 15, booleans had.
pub(super) fn constant(expr: &Expr, alias: Option<&str>) -> Result<Option<Output>> {
    let (name, kind, value) = match Literal::read(expr, &mut Parameters::declared(&[]))? {
        None => return Ok(None),
        Some(Literal::Null) => ("?column?", Kind::Text, Bson::Null),
        Some(Literal::Text(text)) => ("?column?", Kind::Text, Bson::String(text)),
        Some(Literal::Bool(value)) => ("?column?", Kind::Bool, Bson::Boolean(value)),
        Some(Literal::Number(digits, kind)) => match (&kind, digits.parse::<i64>()) {
            (Kind::Int8, Ok(number)) => ("?column?", kind, Bson::Int64(number)),
            (Kind::Int4, Ok(number)) => match i32::try_from(number) {
                Ok(number) => ("?column?", kind, Bson::Int32(number)),
                Err(_) => return Err(because("a number of another form")),
            },
            _ => return Err(because("a fraction as a column")),
        },
        Some(_) => return Err(because("a constant of this form as a column")),
    };
    Ok(Some(Output {
        name: alias.unwrap_or(name).to_owned(),
        kind,
        source: Source::Constant(value),
        as_text: false,
    }))
}

/// Whether an answer has all columns. To choose from one document the fields that are wanted costs MongoDB more than a
/// quarter of all that it does to find it by its key, and here only fields that no column has would be left out: measured.
fn reads_every(answer: &[Output], collection: &Collection) -> bool {
    let mut columns = collection.columns.iter();
    columns.all(|column| {
        answer.iter().any(|output| match &output.source {
            Source::Path(path) => *path == column.path,
            Source::Rest(_) => column.is_rest(),
            Source::Constant(_) => false,
        })
    })
}

/// The fields that columns are read from; none where all fields are read. Without any, something small.
fn fields(columns: &[Output]) -> Document {
    let mut fields = Document::new();
    let reads_all = |output: &Output| matches!(output.source, Source::Rest(_));
    if columns.iter().any(reads_all) {
        return fields;
    }
    for output in columns {
        if let Source::Path(path) = &output.source {
            fields.insert(path.join("."), 1);
        }
    }
    let of_id = |name: &String| name == "_id" || name.starts_with("_id.");
    if fields.is_empty() {
        fields.insert("_id", 1);
    } else if !fields.keys().any(of_id) {
        fields.insert("_id", 0);
    }
    fields
}

/// What an expression of ORDER BY is. A bare name is one of the answer's, before it is one of the table's.
fn sortable(expr: &Expr, items: &[Item], scope: &Scope) -> Result<Sortable> {
    let column = match named(expr, items.iter().map(|item| item.output.name.as_str()))? {
        Some(Named { first, others }) => {
            let column = items[first]
                .column
                .ok_or_else(|| because("an order by something else than a column"))?;
            if others
                .iter()
                .any(|other| items[*other].column != Some(column))
            {
                return Err(because("an order by a name of two columns"));
            }
            column
        }
        None => scope.column(expr)?,
    };
    let declared = scope.at(column);
    if declared.is_rest() {
        return Err(because("an order by all other fields"));
    }
    Ok(Sortable {
        path: declared.field(),
        kind: declared.kind.clone(),
        nullable: (!declared.not_null).then_some(column),
    })
}

/// The columns of the answer that ORDER BY names.
pub(super) struct Named {
    pub first: usize,
    pub others: Vec<usize>,
}

/// By position, or by name; None if it is neither.
pub(super) fn named<'a>(
    expr: &Expr,
    names: impl Iterator<Item = &'a str>,
) -> Result<Option<Named>> {
    match expr {
        // To PostgreSQL they are not there.
        Expr::Nested(expr) => named(expr, names),
        Expr::Value(ValueWithSpan {
            value: Token::Number(digits, false),
            span: _,
        }) => match digits.parse::<usize>() {
            Ok(position) if (1..=names.count()).contains(&position) => Ok(Some(Named {
                first: position - 1,
                others: Vec::new(),
            })),
            _ => Err(because("an order by no column of the answer")),
        },
        Expr::Identifier(name) => {
            let name = folded(name)?;
            let mut same = names
                .enumerate()
                .filter(|(_, other)| *other == name)
                .map(|(at, _)| at);
            Ok(same.next().map(|first| Named {
                first,
                others: same.collect(),
            }))
        }
        _ => Ok(None),
    }
}
