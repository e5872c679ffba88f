//! INSERT into documents of what PostgreSQL computes: functions, expressions, parameters of other types, queries. Where
//! its ON CONFLICT DO UPDATE is no command, [`change`] says what becomes of the rows.
//!
//! The source runs first, as the residue of a gather on the home shard, where it has PostgreSQL's own meaning; the
//! client's own text is parsed there as well, so that what may not be assigned to a column is PostgreSQL's error. What
//! it gives is cast to the columns' types, which then is what the assignment does, and stored by one INSERT of arrays,
//! which MongoDB has a command for. The time in it has milliseconds, as documents have.

use mothership_sql::quote;
use std::collections::HashSet;
use std::sync::Arc;

use sqlparser::ast::{
    CastKind, DataType, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Insert,
    ObjectName, ObjectNamePart, Query, SelectItem, SetExpr, Statement, TableObject,
};

use crate::decide::of_one_server;
use crate::expr::is_default;
use crate::functions::Call;
use crate::gather::within::has_query;
use crate::gather::{self, Ending, Gather, Root};
use crate::names::{Keyed, Names, Place, folded};
use crate::parens;
use crate::parse::{self, Parsed};
use crate::query::Ctes;
use crate::reached::Change;
use crate::read::explained;
use crate::refuse::{Reason, Refusal, not_understood};
use crate::scope::{self, Analysis};
use crate::slots::Text;
use crate::visit::any_expr;
use crate::{MaxChars, Plan, PlanContext, SameSharded, documents, utility};
use mothership_catalog::{Column, Events, Relation};
use mothership_documents::{Collection, Filled};
use mothership_sql::time::is_word_of_time;

use super::change::{self, Proposed};
use super::insert::{is_uneven, plain_values, without_key};
use super::{handed, rows, source};

/// The plan of an INSERT into documents that is no single command.
///
/// # Errors
/// It has no source, or one that cannot be gathered, or what is behind it is no command.
pub fn computed(
    (names, text, context): (&Names<'_>, &Text<'_>, &PlanContext),
    parsed: &Parsed,
    why: &Refusal,
) -> Result<Plan, Refusal> {
    let Statement::Insert(insert) = &parsed.statement else {
        return Err(why.clone());
    };
    let (Some(query), TableObject::TableName(name)) = (&insert.source, &insert.table) else {
        return Err(why.clone());
    };
    let mut analysis = Analysis::of(text, names, context);
    analysis.placeholders.clone_from(&parsed.placeholders);
    let change = Change::from(Events::INSERT);
    let (relation, place) = analysis.target(name, &change)?;
    let (Place::Sharded(keyed), Some(collection)) = (&place, names.collection(&relation.name))
    else {
        return Err(why.clone());
    };
    let collection = Arc::clone(collection);
    let positions = analysis.insert_columns(&insert.columns, relation)?;
    let mut named = HashSet::new();
    let is_wrong = |at: &usize| *at >= relation.columns.len() || !named.insert(*at);
    if positions.iter().any(is_wrong) {
        return Ok(utility::home("columns that cannot be filled"));
    }
    let longest = plain_values(query)
        .into_iter()
        .flat_map(|values| &values.rows);
    if longest.map(|row| row.content.len()).max() > Some(positions.len()) {
        return Ok(utility::home("more values than columns"));
    }
    let source = Source::of(&analysis, query, (relation, &collection), positions, why)?;
    let target = analysis.add_relation(relation, place.clone())?;
    analysis.query(&source.query, None, &Ctes::default())?;
    analysis.on_conflict_at_one(insert, (relation, place.clone()), target)?;
    analysis.returned(insert, (relation, place.clone()), target)?;
    explained(&analysis, names, parsed)?;
    let stored = stored(
        &analysis,
        parsed,
        (insert, &source),
        (relation, keyed, &collection),
        why,
    );
    if stored.is_err() {
        let proposed = Proposed {
            query: &source.query,
            positions: &source.positions,
        };
        let rows = (insert, &proposed);
        if let Some(plan) = change::conflicting(&analysis, parsed, rows, target, why)? {
            return Ok(plan);
        }
    }
    Ok(Plan::Gather(Arc::new(stored?)))
}

/// The same of an INSERT that is understood already, and whose source may read what is written within WITH.
pub(super) fn insert_gathered(
    analysis: &Analysis<'_>,
    parsed: &Parsed,
    (insert, query): (&Insert, &Query),
    (target, positions): (usize, &[usize]),
    why: Refusal,
) -> Result<Gather, Refusal> {
    let scope::Source::Sharded(relation, keyed) = &analysis.instances[target].source else {
        return Err(why);
    };
    let Some(collection) = analysis.names.collection(&relation.name) else {
        return Err(why);
    };
    let to = (*relation, &**collection);
    let source = Source::of(analysis, query, to, positions.to_vec(), &why)?;
    let to = (*relation, &**keyed, &**collection);
    stored(analysis, parsed, (insert, &source), to, &why)
}

/// What an INSERT stores, and in which columns.
struct Source {
    query: Query,
    positions: Vec<usize>,
}

impl Source {
    fn of(
        analysis: &Analysis<'_>,
        query: &Query,
        (relation, collection): (&Relation, &Collection),
        mut positions: Vec<usize>,
        why: &Refusal,
    ) -> Result<Source, Refusal> {
        let Some(values) = plain_values(query) else {
            if let SetExpr::Select(select) = &*query.body {
                let named = |item: &SelectItem| {
                    matches!(
                        item,
                        SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. }
                    )
                };
                if select.projection.iter().all(named) {
                    positions.truncate(select.projection.len());
                }
            }
            let catalog = analysis.names.catalog;
            let mut query = source::typed(query, catalog, relation, &positions);
            if let SetExpr::Select(select) = &mut *query.body {
                for (item, at) in select.projection.iter_mut().zip(&positions) {
                    match item {
                        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                            *expr = in_milliseconds(expr, &relation.columns[*at])?;
                        }
                        // Which columns come next is not known.
                        _ => break,
                    }
                }
            }
            return Ok(Source { query, positions });
        };
        if is_uneven(values) {
            return Err(why.clone());
        }
        let mut values = values.clone();
        let width = values.rows.first().map_or(0, |row| row.content.len());
        positions.truncate(width);
        if positions.len() < width {
            return Err(why.clone());
        }
        // What all rows leave to the default is not given at all.
        for at in (0..width).rev() {
            let left = values
                .rows
                .iter()
                .filter(|row| is_default(&row.content[at]));
            match left.count() {
                0 => {}
                all if all == values.rows.len() && width > 1 => {
                    positions.remove(at);
                    for row in &mut values.rows {
                        row.content.remove(at);
                    }
                }
                _ => {
                    let column = &relation.columns[positions[at]];
                    let default = default_of(collection, column).ok_or_else(|| why.clone())?;
                    for row in &mut values.rows {
                        if is_default(&row.content[at]) {
                            row.content[at] = parsed_expr(&default)?;
                        }
                    }
                }
            }
        }
        if positions.is_empty() {
            return Err(why.clone());
        }
        for row in &mut values.rows {
            for (expr, at) in row.content.iter_mut().zip(&positions) {
                let column = &relation.columns[*at];
                *expr = cast(in_milliseconds(expr, column)?, &column.handed.base);
            }
        }
        let mut query = query.clone();
        *query.body = SetExpr::Values(values);
        Ok(Source { query, positions })
    }
}

/// `(expr)::type`
fn cast(expr: Expr, base: &str) -> Expr {
    let name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new(base))]);
    Expr::Cast {
        kind: CastKind::DoubleColon,
        expr: Box::new(Expr::Nested(Box::new(expr))),
        data_type: DataType::Custom(name, Vec::new()),
        format: None,
    }
}

/// A time without what documents do not store of it, where it depends on the clock. What is written out must fit.
fn in_milliseconds(expr: &Expr, column: &Column) -> Result<Expr, Refusal> {
    const TIMES: [u32; 2] = [1114, 1184];
    if !TIMES.contains(&column.type_oid) || !asks_time(expr) {
        return Ok(expr.clone());
    }
    let mut truncated = parsed_expr("pg_catalog.date_trunc('milliseconds', NULL)")?;
    if let Expr::Function(function) = &mut truncated
        && let FunctionArguments::List(list) = &mut function.args
        && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))) = list.args.last_mut()
    {
        *argument = cast(expr.clone(), &column.handed.base);
        return Ok(truncated);
    }
    not_understood()
}

/// An expression of the router's own.
fn parsed_expr(text: &str) -> Result<Expr, Refusal> {
    let parsed = parse::statement(&format!("SELECT {text}"))
        .map_err(|_| Refusal::new(Reason::NotUnderstood))?;
    let Statement::Query(query) = parsed.statement else {
        return not_understood();
    };
    let SetExpr::Select(mut select) = *query.body else {
        return not_understood();
    };
    match select.projection.pop() {
        Some(SelectItem::UnnamedExpr(expr)) => Ok(expr),
        _ => not_understood(),
    }
}

/// What a column becomes by DEFAULT, as an expression of its type. `None` if PostgreSQL cannot make it.
pub(super) fn default_of(collection: &Collection, column: &Column) -> Option<String> {
    let base = &column.handed.base;
    let declared = &collection.columns[collection.column(&column.name)?];
    match &declared.default {
        None => Some(format!("NULL::{base}")),
        Some(Filled::Now) => {
            Some("pg_catalog.date_trunc('milliseconds', pg_catalog.now())".to_owned())
        }
        Some(Filled::Uuid) => Some("pg_catalog.gen_random_uuid()".to_owned()),
        Some(Filled::Constant(text)) if !text.contains('\\') => {
            Some(format!("'{}'::{base}", text.replace('\'', "''")))
        }
        Some(Filled::Constant(_) | Filled::ObjectId) => None,
    }
}

/// Whether an expression calls for the time.
pub(super) fn asks_time(expr: &Expr) -> bool {
    let is_time = |expr: &Expr| match expr {
        Expr::Function(function) => {
            let name = function.name.0.last().and_then(|part| part.as_ident());
            name.is_some_and(|name| {
                let name = folded(name);
                name == "clock_timestamp" || is_word_of_time(&name)
            })
        }
        _ => false,
    };
    any_expr(expr, is_time)
}

/// The gather that computes the source and stores what it gives.
fn stored(
    analysis: &Analysis<'_>,
    parsed: &Parsed,
    (insert, source): (&Insert, &Source),
    (relation, keyed, collection): (&Relation, &Keyed, &Collection),
    why: &Refusal,
) -> Result<Gather, Refusal> {
    if let Some(refusal) = of_one_server(analysis, true) {
        return Err(refusal);
    }
    // The time that a default has is that of the transaction, which only its first server knows.
    let is_now = |at: &usize| {
        let declared = collection.column(&relation.columns[*at].name);
        let declared = declared.map(|at| &collection.columns[at]);
        declared.is_some_and(|column| column.default == Some(Filled::Now))
    };
    let left_out = (0..relation.columns.len()).filter(|at| !source.positions.contains(at));
    let now: Vec<usize> = left_out.filter(is_now).collect();
    let all: Vec<usize> = source.positions.iter().chain(&now).copied().collect();
    let (mut key, mut max_chars) = (Vec::new(), Vec::new());
    if keyed.sharded.shards.single().is_none() {
        if !keyed.routable {
            return Err(Refusal::of_table(Reason::KeyType, &relation.name));
        }
        for (column, (name, _)) in keyed.columns.iter().zip(&keyed.sharded.columns) {
            let column = column.ok_or_else(|| why.clone())?;
            let at = all.iter().position(|position| *position == column);
            key.push(at.ok_or_else(|| without_key(relation, name))?);
            max_chars.push(rows::stored_chars(relation, column)?);
        }
    }
    let columns = handed(relation, &all)?;
    let name = |at: &usize| {
        let name = Ident::with_quote('"', &relation.columns[*at].name);
        ObjectName(vec![ObjectNamePart::Identifier(name)])
    };
    let mut insert = insert.clone();
    insert.columns = all.iter().map(name).collect();
    let (head, tail) = parens::around_source(&insert)?;
    let mut store = gather::Store {
        shown: None,
        made: 0,
        sharded: Some(SameSharded(Arc::clone(&keyed.sharded))),
        documents: true,
        key,
        max_chars: MaxChars(max_chars),
        nulls: gather::Nulls::Refused,
        verb: gather::Verb::Own,
        head,
        tail,
        columns,
    };
    let mut computed = None;
    if !is_stored(analysis, parsed, &store) {
        // MongoDB says what it has stored, and PostgreSQL computes of that what RETURNING shows.
        let items = insert.returning.take().ok_or_else(|| why.clone())?;
        store.tail = parens::around_source(&insert)?.1 + &all_columns(relation);
        let mut calls = analysis.seen.calls.keys();
        let once = calls.all(|call| *call <= Call::Volatile);
        if !once || has_query(&items) || !is_stored(analysis, parsed, &store) {
            return Err(why.clone());
        }
        computed = Some(items);
    }
    let shown = shown(relation, &source.positions, &now, &store);
    let ending = Ending::Store(Box::new(store));
    let root = Root::Query(&source.query);
    let mut gather = gather::plan(analysis, root, parsed, ending, why.clone())?;
    let names: Vec<String> = (1..=source.positions.len())
        .map(|at| format!("c{at}"))
        .collect();
    gather.residue = format!(
        "SELECT {} FROM ({}) AS s ({})",
        shown.join(", "),
        gather.residue,
        names.join(", ")
    );
    if let (Ending::Store(store), Some(items)) = (&mut gather.ending, computed) {
        let entry = match &insert.table_alias {
            Some(alias) => folded(&alias.alias),
            None => relation.name.name.clone(),
        };
        let texts = relation.columns.iter().any(|column| column.handed.as_text);
        gather.texts |= texts;
        store.shown = Some(of_stored(relation, &entry, &items, gather.parameters + 1)?);
    }
    Ok(gather)
}

/// RETURNING of all columns, as they are handed over.
fn all_columns(relation: &Relation) -> String {
    let columns = relation.columns.iter().map(|column| {
        let name = quote::identifier(&column.name);
        match column.handed.as_text {
            true => format!("{name}::text"),
            false => name,
        }
    });
    let columns: Vec<String> = columns.collect();
    format!(" RETURNING {}", columns.join(", "))
}

/// What RETURNING shows, as a query of rows that are handed over by arrays: the parameters from `next` on.
fn of_stored(
    relation: &Relation,
    entry: &str,
    items: &[SelectItem],
    next: usize,
) -> Result<String, Refusal> {
    let lists = relation.columns.iter().zip(next..).map(|(column, number)| {
        let handed = &column.handed;
        let mut list = format!("unnest(${number}::{}[])::{}", handed.sent_as(), handed.full);
        if let Some(collation) = &handed.collate {
            list = format!("{list} COLLATE {collation}");
        }
        format!("{list} AS {}", quote::identifier(&column.name))
    });
    let lists: Vec<String> = lists.collect();
    let shown = parens::returning(Some(items))?;
    let shown = shown.replacen(" RETURNING ", "SELECT ", 1);
    // The rows are made first: what is computed of them may be a row of them as a whole.
    Ok(format!(
        "{shown} FROM (SELECT {} OFFSET 0) AS {}",
        lists.join(", "),
        quote::identifier(entry)
    ))
}

/// The source's columns as they are handed over, and the time behind them.
fn shown(
    relation: &Relation,
    given: &[usize],
    now: &[usize],
    store: &gather::Store,
) -> Vec<String> {
    let base = |at: &usize| &relation.columns[*at].handed.base;
    let given = given
        .iter()
        .zip(1..)
        .map(|(at, number)| format!("s.c{number}::{}", base(at)));
    let now = now.iter().map(|at| {
        format!(
            "pg_catalog.date_trunc('milliseconds', pg_catalog.now())::{}",
            base(at)
        )
    });
    let shown = given.chain(now).zip(&store.columns);
    shown
        .map(|(shown, column)| match column.cast {
            Some(_) => format!("{shown}::text"),
            None => shown,
        })
        .collect()
}

/// Whether what is around the rows is a command of MongoDB's. Where it has no parameter of the client's, it is run
/// without them.
fn is_stored(analysis: &Analysis<'_>, parsed: &Parsed, store: &gather::Store) -> bool {
    let own = parsed.placeholders.iter().map(|(_, number)| *number).max();
    let types = analysis.context.parameter_types.as_slice();
    let (own, types) = match store.tail.contains('$') {
        true => (usize::from(own.unwrap_or(0)).max(types.len()), types),
        false => (0, &[][..]),
    };
    let columns = store.columns.iter().zip(own + 1..);
    let rows = columns.map(|(column, number)| column.unnested(number, &column.name));
    let rows: Vec<String> = rows.collect();
    let sql = format!("{}SELECT {}{}", store.head, rows.join(", "), store.tail);
    documents::takes(analysis.names, analysis.context, types, &sql)
}
