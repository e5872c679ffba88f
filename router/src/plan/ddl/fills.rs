//! What a change of a table writes into the rows that it has already: each shard does so for its own.

use std::ops::ControlFlow;

use sqlparser::ast::{
    ColumnDef, ColumnOption, DataType, Expr, SelectItem, SetExpr, Statement, Visit, Visitor,
};

use crate::catalog::TypeKind;
use crate::plan::functions::{Call, call};
use crate::plan::names::Names;
use crate::plan::parse;

use super::column::serial;
use super::path_of;

/// Whether a new column may get other values on one shard than on another, or the same where they should differ.
pub(super) fn is_different(names: &Names<'_>, column: &ColumnDef) -> bool {
    let mut default = None;
    for option in &column.options {
        match &option.option {
            ColumnOption::Default(expr) => default = Some(expr),
            // An identity.
            ColumnOption::Generated {
                generation_expr: None,
                ..
            } => return true,
            _ => {}
        }
    }
    match default {
        Some(expr) => !is_plain(expr),
        None => {
            serial(&column.data_type).is_some() || is_domain_different(names, &column.data_type)
        }
    }
}

/// Whether an expression over the columns of a row is the same wherever it is computed.
pub(super) fn is_same_everywhere(names: &Names<'_>, expr: &Expr) -> bool {
    struct Calls<'a, 'n>(&'a Names<'n>);
    impl Visitor for Calls<'_, '_> {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            let Expr::Function(function) = expr else {
                return ControlFlow::Continue(());
            };
            let path = path_of(&function.name);
            let harmless = match path.as_slice() {
                [name] => call(self.0, None, name) == Call::Harmless,
                [schema, name] => call(self.0, Some(schema), name) == Call::Harmless,
                _ => false,
            };
            match harmless {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        }
    }
    expr.visit(&mut Calls(names)).is_continue()
}

/// The same of a domain, whose default a column has that names none.
fn is_domain_different(names: &Names<'_>, data_type: &DataType) -> bool {
    let DataType::Custom(name, _) = data_type else {
        return false;
    };
    let path = path_of(name);
    let mut types = names.catalog.types.iter();
    types.any(|(name, info)| match &info.kind {
        TypeKind::Domain {
            default: Some(default),
            ..
        } => path.last() == Some(&name.name) && !is_plain_text(default),
        _ => false,
    })
}

/// A constant as PostgreSQL prints it.
fn is_plain_text(expression: &str) -> bool {
    let Ok(parsed) = parse::statement(&format!("SELECT {expression}")) else {
        return false;
    };
    match parsed.statement {
        Statement::Query(query) => match *query.body {
            SetExpr::Select(select) => match select.projection.as_slice() {
                [SelectItem::UnnamedExpr(expr)] => is_plain(expr),
                _ => false,
            },
            _ => false,
        },
        _ => false,
    }
}

/// A constant.
fn is_plain(expr: &Expr) -> bool {
    match expr {
        Expr::Value(_) | Expr::TypedString(_) => true,
        Expr::Nested(e) | Expr::Cast { expr: e, .. } | Expr::UnaryOp { expr: e, .. } => is_plain(e),
        _ => false,
    }
}
