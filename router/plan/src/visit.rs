//! Walks through the syntax tree.
//!
//! sqlparser compiles a walk of some hundred functions for each type of visitor. Here one visitor of each kind calls
//! the others through a table, so that the walk is compiled once.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, ObjectName, Query, Select, TableFactor, Visit, VisitMut, Visitor, VisitorMut,
};

const ON: ControlFlow<()> = ControlFlow::Continue(());

/// What looks at parts of a tree; the methods are those of [`Visitor`].
pub trait Look {
    /// A query, before its parts.
    fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        ON
    }

    /// A query, after its parts.
    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        ON
    }

    /// A SELECT, before its parts.
    fn pre_visit_select(&mut self, _select: &Select) -> ControlFlow<()> {
        ON
    }

    /// The name of a relation.
    fn pre_visit_relation(&mut self, _name: &ObjectName) -> ControlFlow<()> {
        ON
    }

    /// A FROM entry, before its parts.
    fn pre_visit_table_factor(&mut self, _factor: &TableFactor) -> ControlFlow<()> {
        ON
    }

    /// An expression, before its parts.
    fn pre_visit_expr(&mut self, _expr: &Expr) -> ControlFlow<()> {
        ON
    }
}

struct Looking<'l>(&'l mut dyn Look);

impl Visitor for Looking<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.0.pre_visit_query(query)
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.0.post_visit_query(query)
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.0.pre_visit_select(select)
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        self.0.pre_visit_relation(name)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        self.0.pre_visit_table_factor(factor)
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.0.pre_visit_expr(expr)
    }
}

/// Goes through a part of a statement until the look breaks off.
pub fn look(part: &impl Visit, look: &mut dyn Look) -> ControlFlow<()> {
    part.visit(&mut Looking(look))
}

/// What changes parts of a tree; the methods are those of [`VisitorMut`].
pub trait Change {
    /// A query, before its parts.
    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        ON
    }

    /// A SELECT, before its parts.
    fn pre_visit_select(&mut self, _select: &mut Select) -> ControlFlow<()> {
        ON
    }

    /// A FROM entry, before its parts.
    fn pre_visit_table_factor(&mut self, _factor: &mut TableFactor) -> ControlFlow<()> {
        ON
    }

    /// An expression, before its parts.
    fn pre_visit_expr(&mut self, _expr: &mut Expr) -> ControlFlow<()> {
        ON
    }

    /// An expression, after its parts.
    fn post_visit_expr(&mut self, _expr: &mut Expr) -> ControlFlow<()> {
        ON
    }
}

struct Changing<'c>(&'c mut dyn Change);

impl VisitorMut for Changing<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.0.pre_visit_query(query)
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        self.0.pre_visit_select(select)
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        self.0.pre_visit_table_factor(factor)
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        self.0.pre_visit_expr(expr)
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        self.0.post_visit_expr(expr)
    }
}

/// Goes through a part of a statement and changes it until the change breaks off.
pub fn change(part: &mut impl VisitMut, change: &mut dyn Change) -> ControlFlow<()> {
    part.visit(&mut Changing(change))
}

/// Whether an expression in it, or the expression itself, is such a one.
pub fn any_expr(part: &impl Visit, is: impl FnMut(&Expr) -> bool) -> bool {
    struct Any<F>(F);
    impl<F: FnMut(&Expr) -> bool> Look for Any<F> {
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match (self.0)(expr) {
                true => ControlFlow::Break(()),
                false => ON,
            }
        }
    }
    look(part, &mut Any(is)).is_break()
}

/// Whether a relation that it names is such a one.
pub fn any_relation(part: &impl Visit, is: impl FnMut(&ObjectName) -> bool) -> bool {
    struct Any<F>(F);
    impl<F: FnMut(&ObjectName) -> bool> Look for Any<F> {
        fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
            match (self.0)(name) {
                true => ControlFlow::Break(()),
                false => ON,
            }
        }
    }
    look(part, &mut Any(is)).is_break()
}
