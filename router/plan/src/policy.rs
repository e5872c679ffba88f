//! Whether the policies of row security mean on each shard what they mean on one PostgreSQL.
//!
//! A policy of plain conditions does: it looks at the row, at settings and at the role. One with a subquery does if that
//! reads reference tables alone, of which each shard has a copy, and their policies mean the same everywhere, too.

use std::ops::ControlFlow;

use mothership_catalog::types::words;
use mothership_catalog::{Persistence, Policy, Relation, RelationKind};
use mothership_sql::keywords;
use sqlparser::ast::{ObjectName, Query, TableFactor};

use crate::PlanContext;
use crate::names::{Names, Place, Resolved};
use crate::parse;
use crate::reached::leads_off;
use crate::visit::{Look, look};

/// Reference tables are followed so deep through their own policies.
const DEEPEST: u32 = 4;

/// What a policy reads beside the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyReads {
    /// Nothing.
    Nothing,
    /// Copies of reference tables.
    Copies,
    /// What may be another thing on another shard.
    Unproven,
}

/// What the policies of a relation read.
pub fn reads(
    relation: &Relation,
    place: &Place,
    names: &Names<'_>,
    context: &PlanContext,
) -> PolicyReads {
    of_relation(relation, place, (names, context), 0)
}

fn of_relation(
    relation: &Relation,
    place: &Place,
    by: (&Names<'_>, &PlanContext),
    depth: u32,
) -> PolicyReads {
    let policies = relation.row_security.iter().flatten();
    let reads = policies.map(|policy| of_policy(policy, relation, place, by, depth));
    reads.max().unwrap_or(PolicyReads::Nothing)
}

fn of_policy(
    policy: &Policy,
    relation: &Relation,
    place: &Place,
    by: (&Names<'_>, &PlanContext),
    depth: u32,
) -> PolicyReads {
    let (names, _) = by;
    let expression = &policy.expression;
    if leads_off(names.code_reach(expression), place) {
        return PolicyReads::Unproven;
    }
    let lower = keywords::lower(expression);
    let mut read = Some(Vec::new());
    if lower.contains("select") {
        read = copies(expression, by, depth);
    }
    let Some(read) = read else {
        return PolicyReads::Unproven;
    };
    let own = relation.name.name.as_str();
    let known: Vec<&str> = read.iter().map(String::as_str).chain([own]).collect();
    match names.mentions_known(&without(expression, &known)) {
        true => PolicyReads::Unproven,
        false if read.is_empty() => PolicyReads::Nothing,
        false => PolicyReads::Copies,
    }
}

/// The names of the tables that the subqueries of an expression read, if all of them are reference tables.
fn copies(expression: &str, by: (&Names<'_>, &PlanContext), depth: u32) -> Option<Vec<String>> {
    let mut read = Vec::new();
    let query = parse::view(&format!("SELECT {expression}"))?;
    let mut found = Relations::default();
    look(&*query, &mut found).is_continue().then_some(())?;
    for parts in found.names {
        let (names, context) = by;
        let Resolved::Relation(relation, place @ Place::Reference) = names.resolve(&parts, context)
        else {
            return None;
        };
        let is_plain = matches!(
            (relation.kind, relation.persistence),
            (RelationKind::Table, Persistence::Permanent)
        );
        let proven = depth < DEEPEST
            && of_relation(relation, &place, by, depth + 1) != PolicyReads::Unproven;
        (is_plain && proven).then_some(())?;
        read.push(relation.name.name.to_string());
    }
    Some(read)
}

/// The qualified names of tables in FROM. Breaks off at anything else that rows may come of, and at locks.
#[derive(Default)]
struct Relations {
    names: Vec<Vec<String>>,
}

impl Look for Relations {
    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        match query.locks.is_empty() && query.with.is_none() {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        let parts: Option<Vec<String>> = name
            .0
            .iter()
            .map(|part| part.as_ident().map(crate::names::folded))
            .collect();
        match parts {
            // PostgreSQL prints the schema of every table that is not its own.
            Some(parts) if parts.len() == 2 => {
                self.names.push(parts);
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Break(()),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { args: None, .. }
            | TableFactor::Derived { .. }
            | TableFactor::NestedJoin { .. } => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }
}

/// An expression without these words.
fn without(expression: &str, names: &[&str]) -> String {
    let kept = words(expression).filter(|word| !names.contains(word));
    kept.collect::<Vec<_>>().join(" ")
}
