//! The query of an INSERT, when it runs by itself.

use sqlparser::ast::{
    CastKind, DataType, Expr, Ident, ObjectName, ObjectNamePart, Query, SelectItem, SetExpr, Value,
};

use crate::expr::strip;
use mothership_catalog::types::builtin_name;
use mothership_catalog::{Catalog, Column, Name, Relation};

/// The query with constants of the types of the columns that they fill, as they have in an INSERT; by itself a string
/// would be text. Types without their modifiers: what does not fit must be refused and not cut. Arrays, which an
/// array of them would flatten, are not handed over.
pub fn typed(query: &Query, catalog: &Catalog, relation: &Relation, positions: &[usize]) -> Query {
    let mut query = query.clone();
    if let SetExpr::Select(select) = &mut *query.body {
        // Where a column stands is not known behind a star.
        let named = |item: &SelectItem| {
            matches!(
                item,
                SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. }
            )
        };
        let known = select
            .projection
            .iter()
            .take_while(|item| named(item))
            .count();
        for (item, position) in select.projection.iter_mut().zip(positions).take(known) {
            let Some(column) = relation.columns.get(*position) else {
                continue;
            };
            let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item
            else {
                continue;
            };
            let Some(base) = base(catalog, column) else {
                continue;
            };
            if is_untyped(expr) {
                let name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new(base))]);
                *expr = Expr::Cast {
                    kind: CastKind::DoubleColon,
                    expr: Box::new(expr.clone()),
                    data_type: DataType::Custom(name, Vec::new()),
                    format: None,
                };
            }
        }
    }
    query
}

/// The next value of a sequence for a column; `None` if that cannot be written for any setting of strings.
pub fn next_value(catalog: &Catalog, sequence: &Name, column: &Column) -> Option<String> {
    let name = sequence.quoted();
    let is_plain = !name.contains(['\'', '\\']);
    let base = base(catalog, column)?;
    is_plain.then(|| format!("pg_catalog.nextval('{name}'::pg_catalog.regclass)::{base}"))
}

/// A default as a value of its column's type, for whoever runs the query; `None` if the type's name is not known.
pub fn default_value(catalog: &Catalog, default: &str, column: &Column) -> Option<String> {
    base(catalog, column).map(|base| format!("({default})::{base}"))
}

/// The query with these values behind its columns, made for its rows in their order, as PostgreSQL makes defaults.
pub fn with_values(query: String, columns: usize, values: &[String]) -> String {
    let names: Vec<String> = (1..=columns).map(|at| format!("c{at}")).collect();
    let shown = names.iter().map(|name| format!("q.{name}"));
    let shown: Vec<String> = shown.chain(values.iter().cloned()).collect();
    format!(
        "SELECT {} FROM ({query}) AS q ({})",
        shown.join(", "),
        names.join(", ")
    )
}

/// The query with these of its columns as texts, because arrays of their values cannot be made.
pub fn with_texts(query: String, texts: &[bool]) -> String {
    if !texts.contains(&true) {
        return query;
    }
    let names: Vec<String> = (1..=texts.len()).map(|at| format!("c{at}")).collect();
    let shown = names.iter().zip(texts).map(|(name, text)| match text {
        true => format!("s.{name}::text"),
        false => format!("s.{name}"),
    });
    let shown: Vec<String> = shown.collect();
    format!(
        "SELECT {} FROM ({query}) AS s ({})",
        shown.join(", "),
        names.join(", ")
    )
}

/// The type of a column without any modifier, which a domain may bring.
fn base<'c>(catalog: &Catalog, column: &'c Column) -> Option<&'c str> {
    match catalog.base_type(column.type_oid) {
        own if own == column.type_oid => Some(&column.handed.base),
        base => builtin_name(base),
    }
}

/// A constant whose type PostgreSQL takes from where it stands.
fn is_untyped(expr: &Expr) -> bool {
    match strip(expr) {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(_)
            | Value::DollarQuotedString(_)
            | Value::EscapedStringLiteral(_)
            | Value::Null => true,
            Value::Placeholder(text) => crate::slots::Slot::of_placeholder(text)
                .is_some_and(|slot| slot.kind == crate::slots::SlotKind::Text),
            _ => false,
        },
        _ => false,
    }
}
