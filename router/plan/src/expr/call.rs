//! Calls of functions within the walk: what they may reach, their arguments and windows.

use sqlparser::ast::{
    DataType, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgOperator, FunctionArgumentClause, FunctionArguments, Ident, ObjectName, Value,
    WindowSpec, WindowType,
};

use crate::expr::ExprContext;
use crate::functions;
use crate::functions::Call;
use crate::names::folded;
use crate::refuse::{Reason, Refusal, not_understood};
use crate::scope::Analysis;
use crate::slots::Slot;
use crate::visit::any_expr;

impl<'n> Analysis<'n> {
    /// Whether there are several shards, each with a state of its own.
    pub fn is_over_shards(&self) -> bool {
        self.names.map.shards().len() > 1
    }

    /// Whether a function of a user is found before one of PostgreSQL's own that has its name: the search path names
    /// `pg_catalog` behind its schema (manual, The Search Path).
    fn hides_builtin(&self, name: &str) -> bool {
        let path = &self.context.search_path;
        let own = path.iter().position(|schema| schema == "pg_catalog");
        let before = &path[..own.unwrap_or(0)];
        let mut functions = self.names.catalog.functions.keys();
        !before.is_empty() && functions.any(|f| f.name == name && before.contains(&f.schema))
    }

    pub(super) fn function(
        &mut self,
        function: &Function,
        here: &mut ExprContext<'_>,
    ) -> Result<(), Refusal> {
        if function.uses_odbc_syntax || !matches!(function.parameters, FunctionArguments::None) {
            return not_understood();
        }
        let (schema, name) = self.called(&function.name)?;
        let (schema, name) = (schema.as_deref(), name.as_str());
        let mut call = functions::call(self.names, schema, name);
        if call == Call::Server
            && name == "current_setting"
            && self.is_custom_setting(&function.args)
        {
            // The session's own settings are the same on all its connections.
            call = Call::Harmless;
        }
        if schema.is_none() && self.hides_builtin(name) {
            // The router would give the value of PostgreSQL's own function.
            call = Call::Anything;
        }
        self.note(call, name);
        if function.over.is_some() {
            here.level.windows = true;
        } else if functions::is_aggregate(self.names, schema, name) {
            here.level.aggregates = true;
            here.level.unordered |=
                !says_order(function) && functions::depends_on_order(self.names, schema, name);
            if self.is_of_query_around(function, here) {
                self.aggregates_around += 1;
            }
        }
        match &function.args {
            FunctionArguments::None => {}
            FunctionArguments::Subquery(query) => drop(self.subquery(query, here)?),
            FunctionArguments::List(list) => {
                for arg in &list.args {
                    self.argument(arg, here)?;
                }
                for clause in &list.clauses {
                    match clause {
                        FunctionArgumentClause::OrderBy(order) => {
                            self.order(order, here)?;
                        }
                        _ => return not_understood(),
                    }
                }
            }
        }
        self.order(&function.within_group, here)?;
        self.walk_all(function.filter.as_deref(), here)?;
        match &function.over {
            Some(WindowType::WindowSpec(spec)) => self.window(spec, here),
            Some(WindowType::NamedWindow(name)) => {
                self.ident(name);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Whether an aggregate may be one of a query around this one: it belongs to the innermost query of which it names a
    /// column.
    /// <https://www.postgresql.org/docs/current/sql-expressions.html#SYNTAX-AGGREGATES>
    fn is_of_query_around(&self, function: &Function, here: &ExprContext<'_>) -> bool {
        let is_entry = |name: &Ident| {
            let name = folded(name);
            here.scopes.scope.entries.iter().any(|e| e.alias == name)
        };
        let (mut names_any, mut is_own, mut has_query) = (false, false, false);
        let mut see = |is_here: bool| {
            names_any = true;
            is_own |= is_here;
        };
        any_expr(function, |expr| {
            match expr {
                Expr::Identifier(name) => {
                    see(is_entry(name) || self.has_column(&[folded(name)], &here.scopes));
                }
                Expr::CompoundIdentifier(parts) => {
                    let path: Vec<String> = parts.iter().map(folded).collect();
                    let of_entry = || parts.len() > 1 && is_entry(&parts[parts.len() - 2]);
                    see(of_entry() || self.has_column(&path, &here.scopes));
                }
                // A name within may be a column of that query.
                Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => {
                    has_query = true
                }
                Expr::Function(inner) => {
                    has_query |= matches!(inner.args, FunctionArguments::Subquery(_));
                }
                _ => {}
            }
            false
        });
        if let FunctionArguments::List(list) = &function.args {
            for arg in &list.args {
                if let FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(name)) = arg {
                    let entry = name.0.last().and_then(|part| part.as_ident());
                    see(entry.is_some_and(is_entry));
                }
            }
        }
        names_any && (has_query || !is_own)
    }

    /// Whether the first argument is the name of a setting of the user's, `app.tenant`.
    fn is_custom_setting(&self, args: &FunctionArguments) -> bool {
        let FunctionArguments::List(list) = args else {
            return false;
        };
        let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))) = list.args.first() else {
            return false;
        };
        match without_text_cast(argument) {
            Expr::Value(value) => match &value.value {
                Value::SingleQuotedString(name) => name.contains('.'),
                Value::Placeholder(text) => {
                    if Slot::of_placeholder(text).is_some() {
                        self.looked.value.set(true);
                    }
                    false
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// The schema, if one is given, and the name of a function.
    pub fn called(&mut self, name: &ObjectName) -> Result<(Option<String>, String), Refusal> {
        let mut parts = self.object_name(name).into_iter();
        let called = match (parts.next(), parts.next(), parts.next()) {
            (Some(name), None, _) => (None, name),
            (Some(schema), Some(name), None) => (Some(schema), name),
            _ => return not_understood(),
        };
        match called.1.as_str() {
            // What the view of this kind calls.
            "pg_prepared_xact" if self.is_over_shards() => {
                Err(Refusal::new(Reason::PreparedOverShards))
            }
            _ => Ok(called),
        }
    }

    /// One argument of a function.
    pub fn argument(
        &mut self,
        arg: &FunctionArg,
        here: &mut ExprContext<'_>,
    ) -> Result<(), Refusal> {
        let value = match arg {
            FunctionArg::Unnamed(value) => value,
            // `f(a = 1)` is a comparison to PostgreSQL.
            FunctionArg::Named {
                operator: FunctionArgOperator::Equals,
                ..
            } => return not_understood(),
            FunctionArg::Named { name, arg, .. } => {
                self.ident(name);
                arg
            }
            FunctionArg::ExprNamed { .. } => return not_understood(),
        };
        match value {
            FunctionArgExpr::Expr(expr) => self.walk(expr, here),
            FunctionArgExpr::Wildcard => Ok(()),
            FunctionArgExpr::QualifiedWildcard(name) => {
                self.object_name(name);
                self.notes.stars = true;
                Ok(())
            }
            FunctionArgExpr::WildcardWithOptions(_) => not_understood(),
        }
    }

    /// A window's definition.
    pub fn window(&mut self, spec: &WindowSpec, here: &mut ExprContext<'_>) -> Result<(), Refusal> {
        if let Some(name) = &spec.window_name {
            self.ident(name);
        }
        self.walk_all(&spec.partition_by, here)?;
        self.order(&spec.order_by, here)?;
        if let Some(frame) = &spec.window_frame {
            for bound in std::iter::once(&frame.start_bound).chain(frame.end_bound.as_ref()) {
                use sqlparser::ast::WindowFrameBound as Bound;
                if let Bound::Preceding(Some(e)) | Bound::Following(Some(e)) = bound {
                    self.walk(e, here)?;
                }
            }
        }
        Ok(())
    }
}

/// What is cast to `text`, as PostgreSQL prints constants in the definitions of views.
fn without_text_cast(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => without_text_cast(inner),
        Expr::Cast {
            expr,
            data_type: DataType::Text,
            ..
        } => without_text_cast(expr),
        other => other,
    }
}

/// Whether a call of an aggregate says in which order it reads its rows: by ORDER BY, or because DISTINCT sorts them.
fn says_order(function: &Function) -> bool {
    let FunctionArguments::List(list) = &function.args else {
        return false;
    };
    let mut clauses = list.clauses.iter();
    list.duplicate_treatment == Some(DuplicateTreatment::Distinct)
        || clauses.any(|clause| matches!(clause, FunctionArgumentClause::OrderBy(_)))
}
