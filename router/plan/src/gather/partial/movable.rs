//! Whether the shards may compute FROM and WHERE of a level: only tables that each of them has its part of, only joins
//! along the whole key, only columns of the level itself, and only calls that are the same on every server.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Ident, Select, TableFactor};
use sqlparser::tokenizer::Location;

use crate::KeyedBy;
use crate::decide::{colocated, keyed_by};
use crate::functions::{self, Call};
use crate::gather::notes::{Level, place_of};
use crate::names::folded;
use crate::scope::{Analysis, Source};
use crate::visit::{Look, look};

/// The keys of the table whose rows decide where the level has some.
pub(super) fn keys(analysis: &Analysis<'_>, level: &Level) -> Option<KeyedBy> {
    let mut sharded = Vec::new();
    for instance in level.instances.clone() {
        match &analysis.instances[instance].source {
            Source::Sharded(..) => sharded.push(instance),
            Source::Home(_) => return None,
            Source::Reference(_) | Source::Derived | Source::Rows => {}
        }
    }
    let root = sharded
        .iter()
        .find(|root| colocated(analysis, **root, &sharded))?;
    keyed_by(analysis, *root)
}

/// Whether FROM and WHERE mean the same on a shard, with such calls at most; the places that go there with them.
pub(super) fn movable_from(
    analysis: &Analysis<'_>,
    level: &Level,
    select: &Select,
    most: Call,
) -> Option<Vec<Location>> {
    struct Movable<'a, 'n> {
        analysis: &'a Analysis<'n>,
        most: Call,
        first: usize,
        places: Vec<Location>,
    }
    impl Look for Movable<'_, '_> {
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            // A column of a query around it is not there.
            let inner = |place: &Location| match self.analysis.notes.meant.get(place) {
                Some(meant) => meant.iter().all(|m| m.is_some_and(|m| m >= self.first)),
                None => false,
            };
            let fine = match expr {
                Expr::Identifier(ident) => inner(&ident.span.start) && !is_bare_call(ident),
                Expr::CompoundIdentifier(parts) => {
                    parts.first().is_some_and(|part| inner(&part.span.start))
                }
                Expr::CompoundFieldAccess { .. } => false,
                expr => is_at_most(self.analysis, expr, self.most),
            };
            go_on(fine)
        }
        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            let fine = match factor {
                TableFactor::Table {
                    name, args: None, ..
                } => place_of(name).is_some_and(|place| {
                    self.places.push(place);
                    !self.analysis.notes.ctes.contains(&place)
                }),
                TableFactor::Derived { .. } | TableFactor::NestedJoin { .. } => true,
                _ => false,
            };
            go_on(fine)
        }
        fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
            self.places.push(select.select_token.0.span.start);
            ControlFlow::Continue(())
        }
    }
    // What views call stands nowhere in the text.
    if analysis.seen.views
        && analysis
            .seen
            .calls
            .keys()
            .any(|call| *call > Call::Harmless)
    {
        return None;
    }
    let mut movable = Movable {
        analysis,
        most,
        first: level.instances.start,
        places: Vec::new(),
    };
    let through = look(&select.from, &mut movable).is_continue()
        && look(&select.selection, &mut movable).is_continue();
    through.then_some(movable.places)
}

fn go_on(fine: bool) -> ControlFlow<()> {
    if fine {
        ControlFlow::Continue(())
    } else {
        ControlFlow::Break(())
    }
}

/// `current_date` and the like.
pub(super) fn is_bare_call(ident: &Ident) -> bool {
    let name = folded(ident);
    ident.quote_style.is_none()
        && (name.starts_with("current_")
            || matches!(
                name.as_str(),
                "session_user" | "user" | "localtime" | "localtimestamp" | "system_user"
            ))
}

/// Whether a node, without those below it, means the same on every server.
pub(super) fn is_harmless(analysis: &Analysis<'_>, expr: &Expr) -> bool {
    is_at_most(analysis, expr, Call::Harmless)
}

/// Whether a node, without those below it, calls no more than such.
fn is_at_most(analysis: &Analysis<'_>, expr: &Expr, most: Call) -> bool {
    match expr {
        Expr::Function(function) => {
            let parts = function.name.0.iter().map(|p| p.as_ident().map(folded));
            let parts: Option<Vec<String>> = parts.collect();
            let (schema, name) = match parts.as_deref() {
                Some([name]) => (None, name),
                Some([schema, name]) => (Some(schema.as_str()), name),
                _ => return false,
            };
            function.over.is_none() && functions::call(analysis.names, schema, name) <= most
        }
        _ => true,
    }
}
