//! The walk through all of an expression: what it calls, which subqueries it
//! has, which names it uses. What is not known here is refused.

use sqlparser::ast::{
    AccessExpr, CastKind, DataType, Expr, OrderByExpr, OrderByOptions, SetExpr, Subscript, Value,
    ValueWithSpan,
};

use super::operands;
use crate::functions::Call;
use crate::names::{Place, Resolved, folded};
use crate::query::Ctes;
use crate::refuse::{Reason, Refusal, not_understood, refuse};
use crate::scope::{Analysis, Scopes};
use crate::slots::Slot;
use crate::{functions, misread};
use mothership_sql::cursor::Cursor;

/// What an expression adds to its query level.
#[derive(Debug, Clone, Default)]
pub struct Level {
    /// An aggregate call.
    pub aggregates: bool,
    /// A window function call.
    pub windows: bool,
    /// An aggregate call whose result depends on the order of rows, which nothing says.
    pub unordered: bool,
    /// A subquery over a sharded table, or one whose answer may differ between shards.
    pub unmovable_subquery: Option<Refusal>,
}

/// Where an expression stands.
pub struct ExprContext<'h> {
    /// What its names may mean.
    pub scopes: Scopes<'h>,
    /// The CTEs that its subqueries may read.
    pub ctes: &'h Ctes<'h>,
    /// What it adds to its query level.
    pub level: &'h mut Level,
}

impl<'h> ExprContext<'h> {
    /// Beside no FROM clause: names mean something in the queries around only.
    pub fn around(
        outer: Option<&'h Scopes<'h>>,
        ctes: &'h Ctes<'h>,
        level: &'h mut Level,
    ) -> ExprContext<'h> {
        ExprContext {
            scopes: Scopes::around(outer),
            ctes,
            level,
        }
    }
}

/// Words that stand alone and call a function.
const BARE_CALLS: [&str; 9] = [
    "current_timestamp",
    "current_date",
    "current_time",
    "localtime",
    "localtimestamp",
    "current_user",
    "session_user",
    "current_role",
    "current_catalog",
];

impl<'n> Analysis<'n> {
    /// Visits all of an expression. An error means that something in it is not known.
    pub fn walk(&mut self, expr: &Expr, here: &mut ExprContext<'_>) -> Result<(), Refusal> {
        // The left spine of operators is walked in a loop: only parentheses nest.
        let mut expr = expr;
        loop {
            if !misread::agrees(expr) {
                return refuse(Reason::OperatorsUnclear);
            }
            match expr {
                Expr::BinaryOp { left, right, .. } => {
                    self.note_columns(expr, &here.scopes);
                    self.walk(right, here)?;
                    expr = left;
                }
                Expr::Cast {
                    kind: CastKind::DoubleColon,
                    expr: inner,
                    data_type,
                    format: None,
                } => {
                    self.note_columns(expr, &here.scopes);
                    self.data_type(data_type)?;
                    self.note_relation(inner, data_type);
                    expr = inner;
                }
                _ => return self.walk_node(expr, here),
            }
        }
    }

    pub(super) fn walk_all<'e>(
        &mut self,
        list: impl IntoIterator<Item = &'e Expr>,
        here: &mut ExprContext<'_>,
    ) -> Result<(), Refusal> {
        list.into_iter().try_for_each(|e| self.walk(e, here))
    }

    /// A constant of `regclass` that names a relation of the home shard can be read there only.
    fn note_relation(&mut self, constant: &Expr, data_type: &DataType) {
        let named = data_type.to_string().to_ascii_lowercase();
        let Expr::Value(value) = constant else {
            return;
        };
        if !matches!(named.as_str(), "regclass" | "pg_catalog.regclass") {
            return;
        }
        match &value.value {
            Value::SingleQuotedString(text) => {
                let path = Cursor::new(text.as_bytes(), true)
                    .path()
                    .unwrap_or_default();
                let parts = path.iter().map(|name| name.as_str().map(str::to_owned));
                let parts: Option<Vec<String>> = parts.collect();
                let found = parts.map(|parts| self.names.resolve(&parts, self.context));
                if let Some(Resolved::Relation(_, Place::Home)) = found {
                    self.note(Call::Server, "regclass");
                }
            }
            Value::Placeholder(text) if Slot::of_placeholder(text).is_some() => {
                self.looked.value.set(true);
            }
            _ => {}
        }
    }

    fn walk_node(&mut self, expr: &Expr, here: &mut ExprContext<'_>) -> Result<(), Refusal> {
        self.note_columns(expr, &here.scopes);
        if let Some((instance, _)) = self.node(expr, &here.scopes) {
            self.outermost_read = self.outermost_read.min(instance);
        }
        match expr {
            Expr::Identifier(ident) => {
                let name = self.ident(ident);
                if ident.quote_style.is_none() && BARE_CALLS.contains(&name.as_str()) {
                    self.note(
                        functions::call(self.names, Some("pg_catalog"), &name),
                        &name,
                    );
                }
                self.note_meaning(expr, ident.span.start, &here.scopes);
                self.note_row(&name, ident.span.start, &here.scopes);
                Ok(())
            }
            Expr::CompoundIdentifier(parts) => {
                parts.iter().for_each(|p| drop(self.ident(p)));
                if let Some(first) = parts.first() {
                    self.note_meaning(expr, first.span.start, &here.scopes);
                }
                // x.f calls f(x) where x has no column f.
                if let Some(last) = parts.last() {
                    let name = folded(last);
                    let path: Vec<String> = parts.iter().map(folded).collect();
                    let is_column = self.resolve(&path, &here.scopes).is_some();
                    self.field_call(&name, is_column);
                    if !is_column {
                        self.field_aggregates(&name, here);
                    }
                }
                Ok(())
            }
            Expr::Value(value) => self.value(value),
            Expr::TypedString(typed) => {
                self.note_relation(&Expr::Value(typed.value.clone()), &typed.data_type);
                self.value(&typed.value)
            }
            Expr::Collate { expr: e, collation } => {
                self.object_name(collation);
                self.walk(e, here)
            }
            Expr::Cast {
                kind: CastKind::Cast,
                expr: e,
                data_type,
                format: None,
            } => {
                self.data_type(data_type)?;
                self.note_relation(e, data_type);
                self.walk(e, here)
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                self.walk(root, here)?;
                access_chain.iter().try_for_each(|a| self.access(a, here))
            }
            Expr::Function(function) => self.function(function, here),
            Expr::Exists { subquery, .. } => {
                if matches!(*subquery.body, SetExpr::Select(_)) {
                    self.notes.existence.push(self.depth + 1);
                } else {
                    self.notes.existence.push(0);
                }
                let walked = self.subquery(subquery, here).map(drop);
                self.notes.existence.pop();
                walked
            }
            Expr::Subquery(subquery) => self.subquery(subquery, here).map(drop),
            Expr::InSubquery { expr, subquery, .. } => {
                self.walk(expr, here)?;
                self.subquery(subquery, here).map(drop)
            }
            _ => match operands::try_each(expr, |operand| self.walk(operand, here))? {
                true => Ok(()),
                false => not_understood(),
            },
        }
    }

    fn access(&mut self, access: &AccessExpr, here: &mut ExprContext<'_>) -> Result<(), Refusal> {
        match access {
            AccessExpr::Dot(Expr::Identifier(field)) => {
                let name = self.ident(field);
                self.field_call(&name, false);
                self.field_aggregates(&name, here);
                Ok(())
            }
            AccessExpr::Dot(Expr::Wildcard(_)) => Ok(()),
            AccessExpr::Dot(_) => not_understood(),
            AccessExpr::Subscript(Subscript::Index { index }) => self.walk(index, here),
            AccessExpr::Subscript(Subscript::Slice {
                lower_bound,
                upper_bound,
                stride: None,
            }) => {
                self.walk_all(lower_bound, here)?;
                self.walk_all(upper_bound, here)
            }
            AccessExpr::Subscript(_) => not_understood(),
        }
    }

    /// `t.count` is `count(t)` where t has no such column, of whatever query t is.
    fn field_aggregates(&mut self, name: &str, here: &mut ExprContext<'_>) {
        if functions::is_aggregate(self.names, None, name) {
            here.level.aggregates = true;
            self.aggregates_around += 1;
        }
    }

    /// A field of a composite value may be a call of a function: of a user's, or of PostgreSQL's own unless it is known to
    /// be a column.
    fn field_call(&mut self, name: &str, is_column: bool) {
        if self.names.reach(name).is_some() {
            self.note(
                functions::call(self.names, None, name).max(Call::Volatile),
                name,
            );
        } else if !is_column {
            self.note(functions::field(name), name);
        }
    }

    pub(super) fn value(&mut self, value: &ValueWithSpan) -> Result<(), Refusal> {
        match &value.value {
            Value::Number(..)
            | Value::SingleQuotedString(_)
            | Value::DollarQuotedString(_)
            | Value::EscapedStringLiteral(_)
            | Value::Boolean(_)
            | Value::Null
            | Value::Placeholder(_)
            | Value::HexStringLiteral(_)
            | Value::SingleQuotedByteStringLiteral(_)
            | Value::NationalStringLiteral(_) => Ok(()),
            _ => not_understood(),
        }
    }

    /// An ORDER BY list.
    pub fn order(
        &mut self,
        order: &[OrderByExpr],
        here: &mut ExprContext<'_>,
    ) -> Result<(), Refusal> {
        for OrderByExpr {
            expr,
            options: OrderByOptions { .. },
            with_fill,
        } in order
        {
            if with_fill.is_some() {
                return not_understood();
            }
            self.walk(expr, here)?;
        }
        Ok(())
    }

    /// A type's name may be a user type; nothing in it can name a table's rows.
    pub fn data_type(&mut self, data_type: &DataType) -> Result<(), Refusal> {
        match data_type {
            DataType::Custom(name, _) => {
                let parts = self.object_name(name);
                if let Some(table) = self.row_type_at_home(&parts) {
                    self.note(Call::Server, &format!("row type \"{table}\""));
                }
                Ok(())
            }
            DataType::Array(
                sqlparser::ast::ArrayElemTypeDef::SquareBracket(element, _)
                | sqlparser::ast::ArrayElemTypeDef::AngleBracket(element),
            ) => self.data_type(element),
            _ => Ok(()),
        }
    }

    /// The table whose row type this name of a type means, if it is a table of the home shard or a temporary one: other
    /// servers have no such type, or another one of that name.
    fn row_type_at_home(&self, parts: &[String]) -> Option<String> {
        let catalog = self.names.catalog;
        match self.names.resolve(parts, self.context) {
            Resolved::Temporary => parts.last().cloned(),
            Resolved::Relation(relation, Place::Home) => {
                let name = &relation.name;
                let path = self.context.search_path.iter();
                let mut before = path.take_while(|schema| **schema != name.schema);
                let is_type = |schema: &String| {
                    let other = mothership_catalog::Name::new(schema, &name.name);
                    catalog.types.contains_key(&other)
                };
                let is_other = parts.len() == 1 && before.any(is_type);
                (!is_other).then(|| name.name.clone())
            }
            _ => None,
        }
    }

    /// The folded parts of a name.
    pub fn object_name(&mut self, name: &sqlparser::ast::ObjectName) -> Vec<String> {
        name.0
            .iter()
            .map(|part| part.as_ident().map_or_else(String::new, |i| self.ident(i)))
            .collect()
    }
}
