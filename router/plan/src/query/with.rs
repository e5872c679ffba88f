//! CTEs: what WITH defines, and what a reference to it reads.
//!
//! A plain one is walked again at each reference, like a derived table, so that
//! each reference has facts of its own.

use std::cell::Cell;
use std::rc::Rc;

use sqlparser::ast::{Cte, SetExpr, With};

use crate::names::folded;
use crate::refuse::{Reason, Refusal, not_understood};
use crate::scope::{Analysis, Scopes, Source};

use super::Output;
use super::local::Local;

/// The CTEs that are visible somewhere, innermost first.
#[derive(Clone, Default)]
pub struct Ctes<'q>(Option<Rc<CteNode<'q>>>);

pub struct CteNode<'q> {
    name: String,
    body: CteBody<'q>,
    used: Cell<bool>,
    outer: Ctes<'q>,
}

enum CteBody<'q> {
    /// A plain query: each reference is walked like a derived table.
    Inline(&'q Cte),
    /// Recursive or data-modifying: walked once. Its references say nothing but what it read.
    Opaque {
        sharded: bool,
        unstable: Option<Refusal>,
    },
}

impl CteBody<'_> {
    /// What a CTE is to itself: the whole is judged when it has been walked.
    const ITSELF: Self = CteBody::Opaque {
        sharded: false,
        unstable: None,
    };
}

impl<'q> Ctes<'q> {
    fn and(&self, name: String, body: CteBody<'q>) -> Ctes<'q> {
        Ctes(Some(Rc::new(CteNode {
            name,
            body,
            used: Cell::new(false),
            outer: self.clone(),
        })))
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Rc<CteNode<'q>>> {
        let mut at = self.0.as_ref();
        while let Some(node) = at {
            if node.name == name {
                return Some(node);
            }
            at = node.outer.0.as_ref();
        }
        None
    }
}

impl<'n> Analysis<'n> {
    /// The CTEs that are visible in a query with this WITH, and those that it defines.
    pub(super) fn with<'q>(
        &mut self,
        with: Option<&'q With>,
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'q>,
    ) -> Result<(Ctes<'q>, Vec<Rc<CteNode<'q>>>), Refusal> {
        let mut ctes = ctes.clone();
        let mut defined = Vec::new();
        if let Some(with) = with {
            for cte in &with.cte_tables {
                ctes = self.define(cte, with.recursive, outer, &ctes)?;
                defined.extend(ctes.0.clone());
            }
        }
        Ok((ctes, defined))
    }

    /// PostgreSQL checks an unused CTE, though it does not run it.
    pub(super) fn check_unused<'q>(
        &mut self,
        defined: &[Rc<CteNode<'q>>],
        outer: Option<&Scopes<'_>>,
    ) -> Result<(), Refusal> {
        for node in defined {
            if let CteBody::Inline(cte) = &node.body
                && !node.used.get()
            {
                let before = self.instances.len();
                self.query(&cte.query, outer, &node.outer)?;
                for instance in &mut self.instances[before..] {
                    // Tables of the home shard must still be there for the check.
                    if matches!(instance.source, Source::Sharded(..)) {
                        instance.source = Source::Derived;
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes a CTE visible.
    fn define<'q>(
        &mut self,
        cte: &'q Cte,
        recursive: bool,
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'q>,
    ) -> Result<Ctes<'q>, Refusal> {
        if cte.from.is_some() {
            return not_understood();
        }
        let name = self.ident(&cte.alias.name);
        for column in &cte.alias.columns {
            self.ident(&column.name);
        }
        if matches!(
            *cte.query.body,
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_)
        ) {
            self.seen.writes = true;
            // What is made for the statement itself is not made for those within it.
            let own = std::mem::take(&mut self.sequences);
            let output = self.query(&cte.query, outer, ctes)?;
            self.sequences = own;
            if let Some(within) = self.notes.within.last_mut() {
                within.cte = Some(cte.alias.name.span.start);
            }
            return Ok(ctes.and(name, opaque(output)));
        }
        if recursive {
            let before = (self.instances.len(), self.facts.len(), self.links.len());
            let inner = ctes.and(name.clone(), CteBody::ITSELF);
            let output = self.query(&cte.query, outer, &inner)?;
            if inner.0.as_ref().is_some_and(|node| node.used.get()) {
                return Ok(ctes.and(name, opaque(output)));
            }
            // RECURSIVE was said of another one. Each reference walks it again.
            self.instances.truncate(before.0);
            self.facts.truncate(before.1);
            self.links.truncate(before.2);
            self.sharded_below.retain(|instance| *instance < before.0);
            self.notes.truncate(before.0);
        }
        Ok(ctes.and(name, CteBody::Inline(cte)))
    }

    pub(super) fn cte_reference(
        &mut self,
        node: &Rc<CteNode<'_>>,
    ) -> Result<(usize, Option<Output>), Refusal> {
        node.used.set(true);
        let output = match &node.body {
            CteBody::Opaque { sharded, unstable } => Output {
                // A recursive CTE looks at all its rows again: no shard has them all.
                sharded: *sharded,
                local: Local::No(Refusal::new(Reason::Subquery)),
                unstable: unstable.clone(),
                ..Output::opaque()
            },
            CteBody::Inline(cte) => {
                // A CTE sees the scopes around its WITH, but correlated ones are rare: none here
                // means that an outer column stays unknown, which is safe.
                let mut output = self.query(&cte.query, None, &node.outer)?;
                for (position, column) in cte.alias.columns.iter().enumerate() {
                    if !output.complete {
                        output.columns.clear();
                        break;
                    }
                    if let Some(out) = output.columns.get_mut(position) {
                        let ident = &column.name;
                        out.name = folded(ident);
                    }
                }
                output
            }
        };
        Ok((self.derive(&output)?, Some(output)))
    }
}

fn opaque<'q>(output: Output) -> CteBody<'q> {
    CteBody::Opaque {
        sharded: output.sharded,
        unstable: output.unstable,
    }
}
