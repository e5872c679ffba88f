//! UPDATE and DELETE: the target beside FROM or USING, and key columns that keep their value.

use sqlparser::ast::{
    Delete, Expr, FromTable, ObjectName, SelectItem, TableFactor, TableWithJoins, Update,
    UpdateTableFromKind,
};

use crate::dialect;
use crate::expr::{ExprContext, Level};
use crate::names::{Place, folded};
use crate::query::{Ctes, From, Local, Tree};
use crate::reached::Change;
use crate::refuse::{Reason, Refusal, not_understood};
use crate::scope::Analysis;
use mothership_catalog::{Events, Relation};

use super::Written;

impl<'n> Analysis<'n> {
    pub(super) fn update<'q>(
        &mut self,
        update: &'q Update,
        ctes: &Ctes<'q>,
    ) -> Result<Written, Refusal> {
        if !dialect::knows_update(update) {
            return not_understood();
        }
        let Update {
            table,
            assignments,
            from: more,
            selection,
            returning,
            ..
        } = update;
        let more: &[TableWithJoins] = match more {
            None => &[],
            Some(UpdateTableFromKind::AfterSet(list)) => list,
            Some(UpdateTableFromKind::BeforeSet(_)) => {
                return not_understood();
            }
        };
        let change = self.set_by(assignments);
        let (from, target, relation, place) = self.target_entry(table, more, &change, ctes)?;
        let mut level = Level::default();
        let mut here = from.here(None, ctes, &mut level);
        for assignment in assignments {
            self.walk(&assignment.value, &mut here)?;
            for (column, value) in self.assigned(assignment, relation, &place)? {
                let Place::Sharded(keyed) = &place else {
                    continue;
                };
                let position = keyed.position(column);
                if let (Some(value), Some(key_type)) = (value, self.key_type((target, column))) {
                    self.note_use(value, key_type);
                }
                let own = value.and_then(|v| self.node(v, &here.scopes)) == Some((target, column));
                match (position, value.and_then(|v| self.scalar(v))) {
                    _ if own => {}
                    (Some(position), Some(scalar)) if relation.columns[column].typmod == -1 => {
                        self.kept.push((target, position, scalar));
                    }
                    _ => return Err(Refusal::of_table(Reason::KeyUpdate, &relation.name)),
                }
            }
        }
        let local = self.restricted(&from, selection.as_ref(), returning.as_deref(), here)?;
        Ok(Written {
            target,
            local,
            rows: None,
            positions: None,
            merged: None,
        })
    }

    pub(super) fn delete<'q>(
        &mut self,
        delete: &'q Delete,
        ctes: &Ctes<'q>,
    ) -> Result<Written, Refusal> {
        if !dialect::knows_delete(delete) {
            return not_understood();
        }
        let Delete {
            from: list,
            using,
            selection,
            returning,
            ..
        } = delete;
        let FromTable::WithFromKeyword(list) = list else {
            return not_understood();
        };
        let [table] = list.as_slice() else {
            return not_understood();
        };
        let more = using.as_deref().unwrap_or_default();
        let (from, target, _, _) = self.target_entry(table, more, &Events::DELETE.into(), ctes)?;
        let mut level = Level::default();
        let here = from.here(None, ctes, &mut level);
        let local = self.restricted(&from, selection.as_ref(), returning.as_deref(), here)?;
        Ok(Written {
            target,
            local,
            rows: None,
            positions: None,
            merged: None,
        })
    }

    /// The target of UPDATE or DELETE as the first entry of a FROM clause, which FROM or USING extends.
    fn target_entry<'q>(
        &mut self,
        table: &'q TableWithJoins,
        more: &'q [TableWithJoins],
        change: &Change,
        ctes: &Ctes<'q>,
    ) -> Result<(From<'q>, usize, &'n Relation, Place), Refusal> {
        let TableFactor::Table { name, alias, .. } = &table.relation else {
            return not_understood();
        };
        if !table.joins.is_empty() || hides_target(ctes, name) {
            return not_understood();
        }
        let mut from = self.from(std::slice::from_ref(table), None, ctes)?;
        let (relation, place) = self.target(name, change)?;
        let target = match from.tree.as_ref().map(Tree::instances).as_deref() {
            Some([target]) if alias.as_ref().is_none_or(|a| a.columns.is_empty()) => *target,
            _ => return not_understood(),
        };
        if !more.is_empty() {
            let mut other = self.from(more, None, ctes)?;
            let entries = std::mem::take(&mut from.scope.entries);
            other.scope.entries.splice(0..0, entries);
            let left = from.tree.take();
            from = From {
                obstacle: from.obstacle.or(other.obstacle.take()),
                ..other
            };
            from.tree = match (left, from.tree.take()) {
                (Some(left), Some(right)) => Some(left.and(right)),
                (one, other) => one.or(other),
            };
        }
        Ok((from, target, relation, place))
    }

    /// WHERE and RETURNING of UPDATE and DELETE.
    fn restricted(
        &mut self,
        from: &From<'_>,
        selection: Option<&Expr>,
        returning: Option<&[SelectItem]>,
        mut here: ExprContext<'_>,
    ) -> Result<Local, Refusal> {
        if let Some(condition) = selection {
            self.walk(condition, &mut here)?;
        }
        let obstacle = self.conditions(from, selection, &here.scopes);
        if let Some(items) = returning {
            self.projection(items, from, &mut here)?;
        }
        let refusal = here.level.unmovable_subquery.take();
        let refusal = refusal.or(from.obstacle.clone()).or(obstacle);
        Ok(refusal.map_or(Local::Rows, Local::No))
    }
}

/// Whether a part of WITH has the name of what is written. PostgreSQL writes the table, and everything else in the statement
/// means the other one.
pub(super) fn hides_target(ctes: &Ctes<'_>, name: &ObjectName) -> bool {
    match name.0.as_slice() {
        [part] => part
            .as_ident()
            .is_some_and(|part| ctes.find(&folded(part)).is_some()),
        _ => false,
    }
}
