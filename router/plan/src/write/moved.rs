//! UPDATE of the shard key as a move: rows are deleted where they are and inserted where they belong, in one
//! transaction.
//!
//! DELETE ... RETURNING locks each row and gives the newest one, as UPDATE would find it, so that a row that somebody
//! changes meanwhile is moved as it is then, and one that somebody deletes is not moved at all. Where rows and their
//! new place are one shard, the UPDATE runs there as it is. It is only for tables of which nothing else notices the
//! difference: no triggers, rules or policies, nothing that refers to them, no children.

use mothership_sql::quote;
use std::sync::Arc;

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    AssignmentTarget, Expr, Ident, ObjectName, Query, SelectItem, SelectItemQualifiedWildcardKind,
    SetExpr, Statement, TableAlias, TableFactor, Update,
};

use crate::condition::{Cond, Scalar};
use crate::decide::keyed_by;
use crate::expr::is_default;
use crate::functions::Call;
use crate::gather::within::TakenOut;
use crate::gather::{self, Gather, Holders};
use crate::names::{Keyed, folded};
use crate::parens;
use crate::parse::{self, Parsed};
use crate::refuse::{Reason, Refusal};
use crate::scope::{Analysis, Locks, Source};
use crate::visit::any_expr;
use crate::{KeyedBy, MaxChars, SameSharded};
use mothership_catalog::{Relation, RelationKind};

use super::{Written, handed, nulls, rows, source};

/// The CTE that asks for the rights of the UPDATE and changes nothing.
const RIGHTS: &str = "__mothership_u";

/// The plan of an UPDATE that sets the shard key, where rows may move and this one may move them.
pub(super) fn moved(analysis: &Analysis<'_>, parsed: &Parsed, written: &Written) -> Option<Gather> {
    let Statement::Update(update) = &parsed.statement else {
        return None;
    };
    let target = written.target;
    let Source::Sharded(relation, keyed) = &analysis.instances[target].source else {
        return None;
    };
    let wanted = analysis.names.moves_rows && !analysis.kept.is_empty();
    let alone = analysis.instances.len() == 1
        && analysis.notes.rows.is_empty()
        && !analysis.seen.writes
        && analysis.seen.locks == Locks::No;
    if !wanted || !alone || !is_unnoticed(analysis, relation) || shows_versions(update) {
        return None;
    }
    let set = assignments(update, relation)?;
    // What a row is found by must be the same on each shard.
    let in_where = update.selection.as_ref().is_some_and(has_calls);
    let calls = analysis.seen.calls.keys().next_back();
    let fits = is_found_at_once(analysis, relation, &set)
        && (!in_where || calls.is_none_or(|worst| *worst <= Call::Time));
    if !fits {
        return None;
    }
    gathered(analysis, parsed, (update, target), (relation, keyed, &set)).ok()
}

/// The columns that are set, each with its value.
fn assignments<'u>(update: &'u Update, relation: &Relation) -> Option<Vec<(usize, &'u Expr)>> {
    let one = |assignment: &'u sqlparser::ast::Assignment| {
        let AssignmentTarget::ColumnName(name) = &assignment.target else {
            return None;
        };
        let [part] = name.0.as_slice() else {
            return None;
        };
        let (position, column) = relation.column(&folded(part.as_ident()?))?;
        (!is_default(&assignment.value) && column.generated.is_none())
            .then_some((position, &assignment.value))
    };
    update.assignments.iter().map(one).collect()
}

/// Whether nothing but the table itself notices that a row is deleted and inserted again.
fn is_unnoticed(analysis: &Analysis<'_>, relation: &Relation) -> bool {
    let others = || analysis.names.catalog.relations.values();
    let refers = |other: &Relation| other.foreign_keys.iter().any(|k| k.target == relation.name);
    let inherits = |other: &Relation| other.parent.as_ref() == Some(&relation.name);
    relation.kind == RelationKind::Table
        && relation.triggers.is_empty()
        && !relation.has_rules
        && relation.row_security.is_none()
        && relation.parent.is_none()
        && !relation.has_children
        && relation.partitioning.is_none()
        && !others().any(|other| refers(other) || inherits(other))
}

/// To PostgreSQL 18 these are the row before and after, and an INSERT has no row before.
fn shows_versions(update: &Update) -> bool {
    let is_version = |expr: &Expr| match expr {
        Expr::Identifier(name) => matches!(&*folded(name), "old" | "new"),
        Expr::CompoundIdentifier(parts) => parts
            .first()
            .is_some_and(|part| matches!(&*folded(part), "old" | "new")),
        _ => false,
    };
    update.returning.iter().flatten().any(|item| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
            any_expr(expr, is_version)
        }
        SelectItem::Wildcard(_) => false,
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
            let first = name.0.first().and_then(|part| part.as_ident());
            first.is_none_or(|part| is_version(&Expr::Identifier(part.clone())))
        }
        _ => true,
    })
}

/// Whether it makes no difference to unique constraints that all rows are taken away before the first comes back. It
/// makes none where all that is set is the same for all rows: a row that would have taken the place of another one then
/// is also in its place afterwards. Otherwise what is set must not be unique.
fn is_found_at_once(analysis: &Analysis<'_>, relation: &Relation, set: &[(usize, &Expr)]) -> bool {
    let differs = |(_, value): &&(usize, &Expr)| analysis.scalar(value).is_none();
    let mut varies = set.iter().filter(differs).peekable();
    if varies.peek().is_none() {
        // Rows may exclude each other by other keys than equal ones.
        return relation.exclusions.is_empty();
    }
    let key = |name: &String| {
        let mut keys = relation.keys.iter();
        keys.any(|key| key.columns.contains(name))
    };
    // What an index computes or leaves out is not known of any but the primary key.
    relation.exclusions.is_empty()
        && relation.keys.iter().all(|key| key.primary)
        && varies.all(|(position, _)| !key(&relation.columns[*position].name))
}

fn has_calls(condition: &Expr) -> bool {
    any_expr(condition, |expr| matches!(expr, Expr::Function(_)))
}

fn gathered(
    analysis: &Analysis<'_>,
    parsed: &Parsed,
    (update, target): (&Update, usize),
    (relation, keyed, set): (&Relation, &Keyed, &[(usize, &Expr)]),
) -> Result<Gather, Refusal> {
    let why = Refusal::of_table(Reason::KeyUpdate, &relation.name);
    let none = || why.clone();
    let TableFactor::Table { name, alias, .. } = &update.table.relation else {
        return Err(why);
    };
    let columns = relation.columns.iter().enumerate();
    let columns = columns.filter(|(_, column)| column.generated.is_none());
    let positions: Vec<usize> = columns.map(|(position, _)| position).collect();
    let (mut key, mut max_chars) = (Vec::new(), Vec::new());
    for column in &keyed.columns {
        let column = column.ok_or_else(none)?;
        let at = positions.iter().position(|p| *p == column);
        key.push(at.ok_or_else(none)?);
        max_chars.push(rows::stored_chars(relation, column)?);
    }
    let max_chars = MaxChars(max_chars);
    let names: Vec<String> = positions
        .iter()
        .map(|at| quote::identifier(&relation.columns[*at].name))
        .collect();
    let filled = handed(relation, &positions)?;
    let texts: Vec<bool> = filled.iter().map(|column| column.cast.is_some()).collect();
    let table = parens::relation(name, alias.as_ref())?;
    let store = gather::Store {
        shown: None,
        documents: false,
        made: 0,
        sharded: Some(SameSharded(Arc::clone(&keyed.sharded))),
        key,
        max_chars: max_chars.clone(),
        nulls: nulls(relation, keyed),
        verb: gather::Verb::Update,
        head: format!(
            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE ",
            inserted(name, alias.as_ref())?,
            names.join(", ")
        ),
        tail: parens::returning(update.returning.as_deref())?,
        columns: filled,
    };
    let condition = update.selection.as_ref().map(parens::expr).transpose()?;
    let condition = condition.map_or(String::new(), |text| format!(" WHERE {text}"));
    let query = shown(update, relation, (&positions, set)).ok_or_else(none)?;
    let query = source::typed(&query, analysis.names.catalog, relation, &positions);
    let entry = (name.clone(), alias.clone());
    // It is an UPDATE that the client must be allowed.
    let sets = set
        .iter()
        .map(|(at, _)| format!("{} = NULL", quote::identifier(&relation.columns[*at].name)));
    let sets: Vec<String> = sets.collect();
    let deletes = format!(
        "WITH {RIGHTS} AS (UPDATE {table} SET {} WHERE false) DELETE FROM {table}{condition}",
        sets.join(", ")
    );
    let taken = TakenOut::moved(target, entry, deletes, query).ok_or_else(none)?;
    let mut gather = gather::plan_moved(analysis, &taken, parsed, store, why.clone())?;
    gather.residue = source::with_texts(gather.residue, &texts);
    let from = KeyedBy {
        kept: Vec::new(),
        ..keyed_by(analysis, target).ok_or_else(none)?
    };
    for fragment in &mut gather.fragments {
        fragment.of = Holders::Keys(vec![from.clone()]);
    }
    let kept = analysis.kept.iter();
    let cond = kept.fold(Cond::Any, |all, (_, column, scalar)| {
        all.and(Cond::equals(*column, Scalar::clone(scalar)))
    });
    // Where it is certain that nothing leaves its shard, the client's own text runs there.
    let to = KeyedBy {
        cond,
        leaf: None,
        stored: Some(max_chars),
        ..from.clone()
    };
    gather.keyed = vec![from, to];
    Ok(gather)
}

/// A table as an INSERT names it.
fn inserted(name: &ObjectName, alias: Option<&TableAlias>) -> Result<String, Refusal> {
    let table = parens::relation(name, None)?;
    Ok(match alias {
        Some(alias) => format!("{table} AS {}", quote::identifier(&folded(&alias.name))),
        None => table,
    })
}

/// The rows as they are to be: a query of the ones that were taken away.
fn shown(
    update: &Update,
    relation: &Relation,
    (positions, set): (&[usize], &[(usize, &Expr)]),
) -> Option<Query> {
    let TableFactor::Table { name, alias, .. } = &update.table.relation else {
        return None;
    };
    let entry = match alias {
        Some(alias) => folded(&alias.name),
        None => folded(name.0.last()?.as_ident()?),
    };
    let mut query = parse::view("SELECT FROM t")?;
    let SetExpr::Select(select) = &mut *query.body else {
        return None;
    };
    // It stands nowhere in the client's text.
    select.select_token = AttachedToken::empty();
    let values = positions.iter().map(|position| {
        let value = set.iter().find(|(at, _)| at == position);
        let own = || {
            let parts = [&entry, &relation.columns[*position].name];
            Expr::CompoundIdentifier(parts.map(|part| Ident::with_quote('"', part)).to_vec())
        };
        SelectItem::UnnamedExpr(value.map_or_else(own, |(_, value)| Expr::clone(value)))
    });
    select.projection = values.collect();
    select.from = vec![update.table.clone()];
    Some(*query)
}
