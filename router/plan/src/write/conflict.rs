//! Checks ON CONFLICT of an INSERT.
//!
//! A constraint must contain the whole shard key. Otherwise a row on another shard may conflict, which the shard of
//! the new row cannot see.

use sqlparser::ast::{ConflictTarget, Insert, OnConflictAction, OnInsert};

use crate::expr::{ExprContext, Level};
use crate::names::Place;
use crate::query::Ctes;
use crate::refuse::{Reason, Refusal, not_understood};
use crate::scope::{Analysis, Entry, Instance, Scope, Scopes, Source};
use mothership_catalog::Relation;

use super::insert::Filled;

impl<'n> Analysis<'n> {
    /// Walks ON CONFLICT of an INSERT into documents. The constraint is not checked, because one server sees all rows
    /// that may conflict.
    pub(super) fn on_conflict_at_one(
        &mut self,
        insert: &Insert,
        (relation, place): (&'n Relation, Place),
        instance: usize,
    ) -> Result<(), Refusal> {
        let Some(OnInsert::OnConflict(conflict)) = &insert.on else {
            return Ok(());
        };
        let filled = self.filled(insert, (relation, place), instance);
        self.updated(
            &conflict.action,
            &filled,
            &Ctes::default(),
            &mut Level::default(),
        )
    }

    pub(super) fn on_conflict(
        &mut self,
        on: Option<&OnInsert>,
        filled: &Filled<'n>,
        ctes: &Ctes<'_>,
        level: &mut Level,
    ) -> Result<(), Refusal> {
        let (relation, place) = (filled.relation, &filled.place);
        let conflict = match on {
            None => return Ok(()),
            Some(OnInsert::OnConflict(conflict)) => conflict,
            Some(_) => return not_understood(),
        };
        let arbiter: Option<Vec<String>> = match &conflict.conflict_target {
            None => None,
            Some(ConflictTarget::Columns(columns)) => {
                Some(columns.iter().map(|c| self.ident(c)).collect())
            }
            Some(ConflictTarget::OnConstraint(name)) => {
                let name = self.object_name(name).pop().unwrap_or_default();
                let key = relation.keys.iter().find(|k| k.name == name);
                Some(key.map(|k| k.columns.clone()).unwrap_or_default())
            }
        };
        if let Place::Sharded(keyed) = place {
            let holds_key = |columns: &[String]| {
                keyed
                    .sharded
                    .columns
                    .iter()
                    .all(|(name, _)| columns.contains(name))
            };
            let enforced = match &arbiter {
                Some(columns) => holds_key(columns),
                // Without a conflict target, every unique or exclusion constraint may be the one that conflicts.
                None => relation
                    .keys
                    .iter()
                    .chain(&relation.exclusions)
                    .all(|k| holds_key(&k.columns)),
            };
            if !enforced {
                return Err(Refusal::of_table(Reason::Conflict, &relation.name));
            }
        }
        self.updated(&conflict.action, filled, ctes, level)
    }

    /// Walks DO UPDATE: the new values of the existing row, and the condition. Refuses a change of the shard key.
    fn updated(
        &mut self,
        action: &OnConflictAction,
        filled: &Filled<'n>,
        ctes: &Ctes<'_>,
        level: &mut Level,
    ) -> Result<(), Refusal> {
        let OnConflictAction::DoUpdate(update) = action else {
            return Ok(());
        };
        let (relation, place) = (filled.relation, &filled.place);
        let columns = self.columns_of(relation);
        let excluded = self.add(Instance {
            source: Source::Rows,
            columns,
            complete: true,
        })?;
        let scope = Scope {
            entries: vec![
                Entry::named(&filled.alias, filled.instance),
                Entry::named("excluded", excluded),
            ],
            merged: Vec::new(),
        };
        let mut here = ExprContext {
            scopes: Scopes {
                scope: &scope,
                outer: None,
            },
            ctes,
            level,
        };
        let read_before = self.instances.len();
        for assignment in &update.assignments {
            self.walk(&assignment.value, &mut here)?;
            for (column, value) in self.assigned(assignment, relation, place)? {
                // The arbiter contains the whole key, so the existing row has the key of `excluded` already.
                let same =
                    value.and_then(|v| self.node(v, &here.scopes)) == Some((excluded, column));
                if !same {
                    return Err(Refusal::of_table(Reason::KeyUpdate, &relation.name));
                }
            }
        }
        if let Some(condition) = &update.selection {
            self.walk(condition, &mut here)?;
        }
        // Each copy would read for itself.
        if matches!(place, Place::Reference) && self.instances.len() > read_before {
            let detail = "a subquery of ON CONFLICT DO UPDATE reads other tables";
            return Err(Refusal::about(Reason::ReferenceWrite, detail.to_owned()));
        }
        Ok(())
    }
}
