//! Calls of functions with every parenthesis written: arguments, windows, orders.

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator, FunctionArgumentClause,
    FunctionArgumentList, FunctionArguments, Ident, ObjectName, OrderByExpr, OrderByOptions,
    OrderBySort, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowSpec, WindowType,
};

use crate::names::fold;
use crate::parse::excluded;
use crate::refuse::not_understood;

use mothership_sql::quote;

use super::{Done, Writer};

/// The functions of time that are words of the grammar.
fn has_precision(name: &ObjectName) -> bool {
    let word = |i: &Ident| {
        let name = fold(&i.value, false);
        let time = [
            "current_time",
            "current_timestamp",
            "localtime",
            "localtimestamp",
        ];
        i.quote_style.is_none() && time.contains(&&*name)
    };
    matches!(name.0.as_slice(), [part] if part.as_ident().is_some_and(word))
}

impl Writer {
    pub(super) fn function(&mut self, function: &Function) -> Done {
        let Function {
            name,
            uses_odbc_syntax: false,
            parameters: FunctionArguments::None,
            args,
            within_group,
            filter,
            null_treatment,
            over,
        } = function
        else {
            return not_understood();
        };
        self.name(name)?;
        match args {
            FunctionArguments::None => {}
            FunctionArguments::Subquery(query) => self.query_in_parens(query)?,
            FunctionArguments::List(list) if has_precision(name) && !list.args.is_empty() => {
                self.precision(&list.args)?
            }
            FunctionArguments::List(list) => self.arguments(list)?,
        }
        if !within_group.is_empty() {
            self.put(" WITHIN GROUP (ORDER BY ");
            self.order(within_group)?;
            self.put(")");
        }
        if let Some(filter) = filter {
            self.put(" FILTER (WHERE ");
            self.expr(filter)?;
            self.put(")");
        }
        if let Some(treatment) = null_treatment {
            self.put(&format!(" {treatment}"));
        }
        match over {
            None => Ok(()),
            Some(WindowType::NamedWindow(name)) => {
                self.put(" OVER ");
                self.ident(name)
            }
            Some(WindowType::WindowSpec(spec)) => {
                self.put(" OVER ");
                self.window(spec)
            }
        }
    }

    /// A function in FROM.
    pub(super) fn call(&mut self, name: &ObjectName, args: &[FunctionArg]) -> Done {
        self.name(name)?;
        if has_precision(name) {
            return self.precision(args);
        }
        self.put("(");
        self.list(args, Writer::argument)?;
        self.put(")");
        Ok(())
    }

    /// `CURRENT_TIMESTAMP(3)` takes a constant and nothing around it.
    fn precision(&mut self, args: &[FunctionArg]) -> Done {
        let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))] = args else {
            return not_understood();
        };
        self.put("(");
        self.constant(&value.value)?;
        self.put(")");
        Ok(())
    }

    fn arguments(&mut self, list: &FunctionArgumentList) -> Done {
        let FunctionArgumentList {
            duplicate_treatment,
            args,
            clauses,
        } = list;
        self.put("(");
        if let Some(treatment) = duplicate_treatment {
            self.put(&format!("{treatment} "));
        }
        self.list(args, Writer::argument)?;
        for clause in clauses {
            match clause {
                FunctionArgumentClause::OrderBy(order) => {
                    self.put(" ORDER BY ");
                    self.order(order)?;
                }
                FunctionArgumentClause::IgnoreOrRespectNulls(_)
                | FunctionArgumentClause::Where(_)
                | FunctionArgumentClause::Limit(_)
                | FunctionArgumentClause::OnOverflow(_)
                | FunctionArgumentClause::Having(_)
                | FunctionArgumentClause::Separator(_)
                | FunctionArgumentClause::JsonNullClause(_)
                | FunctionArgumentClause::JsonReturningClause(_) => return not_understood(),
            }
        }
        self.put(")");
        Ok(())
    }

    fn argument(&mut self, argument: &FunctionArg) -> Done {
        let value = match argument {
            FunctionArg::Unnamed(value) => value,
            FunctionArg::Named {
                name,
                arg,
                operator,
            } => {
                self.ident(name)?;
                self.put(match operator {
                    FunctionArgOperator::RightArrow => " => ",
                    FunctionArgOperator::Assignment => " := ",
                    // XMLPARSE(DOCUMENT x), JSON_OBJECT(a VALUE x), JSON_OBJECT(a : x)
                    FunctionArgOperator::Space => " ",
                    FunctionArgOperator::Value => " VALUE ",
                    FunctionArgOperator::Colon => " : ",
                    FunctionArgOperator::Equals => return not_understood(),
                });
                arg
            }
            FunctionArg::ExprNamed { .. } => return not_understood(),
        };
        match value {
            FunctionArgExpr::Expr(expr) => self.expr(expr),
            FunctionArgExpr::Wildcard => {
                self.put("*");
                Ok(())
            }
            FunctionArgExpr::QualifiedWildcard(name) => {
                self.name(name)?;
                self.put(".*");
                Ok(())
            }
            FunctionArgExpr::WildcardWithOptions(_) => not_understood(),
        }
    }

    pub(super) fn window(&mut self, spec: &WindowSpec) -> Done {
        let WindowSpec {
            window_name,
            partition_by,
            order_by,
            window_frame,
        } = spec;
        self.put("(");
        let excluded = window_name.as_ref().and_then(excluded);
        match (window_name, excluded) {
            (Some(_), Some((_, base))) => {
                self.put(&base.map(quote::identifier).unwrap_or_default())
            }
            (Some(name), None) => self.ident(name)?,
            (None, _) => {}
        }
        if !partition_by.is_empty() {
            self.put(" PARTITION BY ");
            self.exprs(partition_by)?;
        }
        if !order_by.is_empty() {
            self.put(" ORDER BY ");
            self.order(order_by)?;
        }
        if let Some(frame) = window_frame {
            self.frame(frame)?;
        }
        if let Some((what, _)) = excluded {
            self.put(&format!(" EXCLUDE {what}"));
        }
        self.put(")");
        Ok(())
    }

    fn frame(&mut self, frame: &WindowFrame) -> Done {
        let WindowFrame {
            units,
            start_bound,
            end_bound,
        } = frame;
        self.put(match units {
            WindowFrameUnits::Rows => " ROWS",
            WindowFrameUnits::Range => " RANGE",
            WindowFrameUnits::Groups => " GROUPS",
        });
        if end_bound.is_some() {
            self.put(" BETWEEN");
        }
        self.bound(start_bound)?;
        if let Some(end) = end_bound {
            self.put(" AND");
            self.bound(end)?;
        }
        Ok(())
    }

    fn bound(&mut self, bound: &WindowFrameBound) -> Done {
        let (expr, word) = match bound {
            WindowFrameBound::CurrentRow => {
                self.put(" CURRENT ROW");
                return Ok(());
            }
            WindowFrameBound::Preceding(expr) => (expr, " PRECEDING"),
            WindowFrameBound::Following(expr) => (expr, " FOLLOWING"),
        };
        match expr {
            None => self.put(" UNBOUNDED"),
            Some(expr) => {
                self.put(" ");
                self.expr(expr)?;
            }
        }
        self.put(word);
        Ok(())
    }

    pub(super) fn order(&mut self, order: &[OrderByExpr]) -> Done {
        self.list(order, |w, item| {
            let OrderByExpr {
                expr,
                options: OrderByOptions { sort, nulls_first },
                with_fill: None,
            } = item
            else {
                return not_understood();
            };
            w.expr(expr)?;
            match sort {
                None => {}
                Some(OrderBySort::Asc) => w.put(" ASC"),
                Some(OrderBySort::Desc) => w.put(" DESC"),
                Some(OrderBySort::Using(operator)) => w.put(&format!(" USING {operator}")),
            }
            w.put(match nulls_first {
                None => "",
                Some(true) => " NULLS FIRST",
                Some(false) => " NULLS LAST",
            });
            Ok(())
        })
    }
}
