//! MERGE: as a join of source and target, with rows to be stored.

use sqlparser::ast::{
    Merge as MergeStatement, MergeAction, MergeClauseKind, MergeInsertKind, MergeUpdateKind,
    TableFactor, Values,
};

use crate::catalog::Relation;
use crate::plan::condition::Cond;
use crate::plan::dialect;
use crate::plan::expr::{Here, Level, is_default};
use crate::plan::names::Place;
use crate::plan::query::{Ctes, From, Local};
use crate::plan::refuse::{Reason, Refusal, not_understood};
use crate::plan::scope::Analysis;

use super::Written;

impl<'n> Analysis<'n> {
    pub(super) fn merge<'q>(
        &mut self,
        merge: &'q MergeStatement,
        ctes: &Ctes<'q>,
    ) -> Result<Written, Refusal> {
        if !dialect::knows_merge(merge) {
            return not_understood();
        }
        let MergeStatement {
            table,
            source,
            on,
            clauses,
            ..
        } = merge;
        let TableFactor::Table { name, .. } = table else {
            return not_understood();
        };
        let (relation, place) = self.target(name)?;
        let mut from = From {
            complete: true,
            ..From::default()
        };
        let (target_tree, _) = self.factor(table, &mut from, None, ctes)?;
        self.factor(source, &mut from, None, ctes)?;
        let [target] = target_tree.instances()[..] else {
            return not_understood();
        };
        let mut level = Level::default();
        let mut here = from.here(None, ctes, &mut level);
        self.walk(on, &mut here)?;
        // As in source LEFT JOIN target: ON restricts the target's rows, and no others.
        self.on_target(on, target, &here.scopes);
        for clause in clauses {
            if let Some(predicate) = &clause.predicate {
                self.walk(predicate, &mut here)?;
            }
            match (&clause.clause_kind, &clause.action) {
                (MergeClauseKind::NotMatchedByTarget | MergeClauseKind::NotMatchedBySource, _) => {
                    return not_understood();
                }
                (_, MergeAction::Delete { .. } | MergeAction::DoNothing { .. }) => {}
                (_, MergeAction::Update(update)) => {
                    let MergeUpdateKind::Set(assignments) = &update.kind else {
                        return not_understood();
                    };
                    if update.update_predicate.is_some() || update.delete_predicate.is_some() {
                        return not_understood();
                    }
                    for assignment in assignments {
                        self.walk(&assignment.value, &mut here)?;
                        if !self.assigned(assignment, relation, &place)?.is_empty() {
                            return Err(Refusal::of_table(Reason::KeyUpdate, &relation.name));
                        }
                    }
                }
                (_, MergeAction::Insert(insert)) => {
                    if insert.insert_predicate.is_some() {
                        return not_understood();
                    }
                    let MergeInsertKind::Values(values) = &insert.kind else {
                        return not_understood();
                    };
                    let positions = self.insert_columns(&insert.columns, relation)?;
                    self.merge_insert(values, relation, &place, &positions, &mut here)?;
                }
            }
        }
        let local = Local::No(Refusal::new(Reason::Merge));
        Ok(Written {
            target,
            local,
            rows: None,
            positions: None,
        })
    }

    fn merge_insert(
        &mut self,
        values: &Values,
        relation: &'n Relation,
        place: &Place,
        positions: &[usize],
        here: &mut Here<'_>,
    ) -> Result<(), Refusal> {
        let [row] = values.rows.as_slice() else {
            return not_understood();
        };
        for expr in &row.content {
            self.walk(expr, here)?;
        }
        self.omitted_defaults(relation, place, positions, Some(values))?;
        let Place::Sharded(keyed) = place else {
            return Ok(());
        };
        let stored = self.add_relation(relation, place.clone())?;
        self.stored.insert(stored);
        for column in keyed.columns.iter().flatten() {
            let at = positions.iter().position(|p| p == column);
            let expr = at.and_then(|at| row.content.get(at));
            let expr = expr
                .filter(|e| !is_default(e))
                .ok_or_else(|| Refusal::of_table(Reason::InsertWithoutKey, &relation.name))?;
            if relation.columns[*column].typmod != -1 || !relation.columns[*column].not_null {
                return Err(Refusal::of_table(Reason::InsertKey, &relation.name));
            }
            if let Some(node) = self.node(expr, &here.scopes) {
                self.equate(node, (stored, *column), &[stored], false);
            } else if let Some(scalar) = self.scalar(expr) {
                self.facts.push((stored, Cond::equals(*column, scalar)));
            }
        }
        Ok(())
    }
}
