//! Whether the policies of row security mean on each shard what they mean on one PostgreSQL.
//!
//! A policy of plain conditions does: it looks at the row, at settings and at the role. One with a subquery does if that
//! reads reference tables alone, of which each shard has a copy, and their policies mean the same everywhere, too. It must
//! not choose among rows (LIMIT, DISTINCT ON, TABLESAMPLE) or depend on their order or place, which differ between copies.

use std::ops::ControlFlow;

use mothership_catalog::types::words;
use mothership_catalog::{
    FunctionKind, Name, Persistence, Policy, Relation, RelationKind, Volatility,
};
use mothership_sql::keywords;
use sqlparser::ast::{
    Distinct, Expr, Function, FunctionArguments, Ident, ObjectName, Query, Select, TableFactor,
};

use crate::PlanContext;
use crate::names::{Names, Place, Resolved, folded};
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
    let (names, context) = by;
    let mut found = Relations {
        names,
        paths: Vec::new(),
    };
    look(&*query, &mut found).is_continue().then_some(())?;
    for parts in found.paths {
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

/// Functions that give the same on each shard, whatever the order of their rows.
const FUNCTIONS: [&str; 19] = [
    "bool_and",
    "bool_or",
    "btrim",
    "coalesce",
    "count",
    "current_role",
    "current_setting",
    "current_user",
    "every",
    "greatest",
    "least",
    "length",
    "lower",
    "max",
    "min",
    "nullif",
    "session_user",
    "upper",
    "user",
];

/// Columns of a row that its server gives it.
const SYSTEM_COLUMNS: [&str; 6] = ["cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"];

/// The qualified names of tables in FROM. Breaks off at anything else that rows may come of, at locks, and at what may be
/// another thing on another copy.
struct Relations<'a, 'n> {
    names: &'a Names<'n>,
    paths: Vec<Vec<String>>,
}

/// Goes on where something holds.
fn only_if(holds: bool) -> ControlFlow<()> {
    match holds {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    }
}

/// Whether a call is of one of [`FUNCTIONS`], or of a user's function that is not volatile. How far that reaches is asked of
/// the whole policy.
fn is_the_same_everywhere(function: &Function, names: &Names<'_>) -> bool {
    let Function {
        name,
        uses_odbc_syntax: _,
        parameters,
        args: _,
        within_group,
        filter: _,
        null_treatment,
        over,
    } = function;
    let parts: Option<Vec<String>> = name
        .0
        .iter()
        .map(|part| part.as_ident().map(folded))
        .collect();
    let known = match parts.as_deref() {
        Some([name]) => FUNCTIONS.contains(&name.as_str()),
        Some([schema, name]) if schema == "pg_catalog" => FUNCTIONS.contains(&name.as_str()),
        Some([schema, name]) => {
            let meant = Name::new(schema.as_str(), name.as_str());
            let is_steady = |function: &mothership_catalog::Function| {
                function.kind == FunctionKind::Function
                    && function.volatility != Volatility::Volatile
                    && !function.returns_set
            };
            let functions = names.catalog.functions.get(&meant);
            functions.is_some_and(|all| all.iter().all(is_steady))
        }
        _ => false,
    };
    let is_plain = within_group.is_empty() && null_treatment.is_none() && over.is_none();
    known && is_plain && matches!(parameters, FunctionArguments::None)
}

impl Look for Relations<'_, '_> {
    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let chooses = query.limit_clause.is_some() || query.fetch.is_some();
        only_if(query.locks.is_empty() && query.with.is_none() && !chooses)
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        only_if(!matches!(select.distinct, Some(Distinct::On(_))))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let is_system = |name: &Ident| SYSTEM_COLUMNS.contains(&folded(name).as_str());
        only_if(match expr {
            Expr::Function(function) => is_the_same_everywhere(function, self.names),
            Expr::Identifier(name) => !is_system(name),
            Expr::CompoundIdentifier(names) => !names.last().is_some_and(is_system),
            _ => true,
        })
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        let parts: Option<Vec<String>> = name
            .0
            .iter()
            .map(|part| part.as_ident().map(folded))
            .collect();
        match parts {
            // PostgreSQL prints the schema of every table that is not its own.
            Some(parts) if parts.len() == 2 => {
                self.paths.push(parts);
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Break(()),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        only_if(match factor {
            TableFactor::Table { args, sample, .. } => args.is_none() && sample.is_none(),
            TableFactor::Derived { sample, .. } => sample.is_none(),
            TableFactor::NestedJoin { .. } => true,
            _ => false,
        })
    }
}

/// An expression with blanks in place of these words.
fn without(expression: &str, names: &[&str]) -> String {
    let mut blanked = expression.to_owned();
    for word in words(expression).filter(|word| names.contains(word)) {
        let at = word.as_ptr().addr() - expression.as_ptr().addr();
        blanked.replace_range(at..at + word.len(), &" ".repeat(word.len()));
    }
    blanked
}
