//! The table that is written: whether it may be at all, which of its columns are
//! assigned, and what RETURNING sees of it.

use sqlparser::ast::{Assignment, AssignmentTarget, Expr, ObjectName};

use crate::expr::{is_default, strip};
use crate::names::{Names, Place, Resolved};
use crate::reached::Change;
use crate::refuse::{Reason, Refusal};
use crate::scope::Analysis;
use mothership_catalog::{Events, Relation, RelationKind};

use super::omitted_default;

/// Writes of the home shard may reach further through triggers and their like, which the text does not show.
pub fn home_triggers(names: &Names<'_>, sql: &str) -> Result<(), Refusal> {
    if !names.anything_declared() {
        return Ok(());
    }
    if let Some((name, reason)) = names.far_named(sql) {
        return Err(Refusal::of_table(reason, name));
    }
    Ok(())
}

impl<'n> Analysis<'n> {
    /// Whether a table may be written at all through here.
    fn check_target(
        &self,
        relation: &'n Relation,
        place: &Place,
        change: &Change,
    ) -> Result<(), Refusal> {
        if relation.kind == RelationKind::View {
            return Err(Refusal::of_table(Reason::Rules, &relation.name));
        }
        if relation.has_rules && !matches!(place, Place::Home) {
            return Err(Refusal::of_table(Reason::Rules, &relation.name));
        }
        self.names.check_reached(relation, change, false)
    }

    /// The table that a name means, if it may be written.
    pub(super) fn target(
        &mut self,
        name: &ObjectName,
        change: &Change,
    ) -> Result<(&'n Relation, Place), Refusal> {
        let parts = self.object_name(name);
        match self.names.resolve(&parts, self.context) {
            Resolved::Relation(relation, place) => {
                self.check_target(relation, &place, change)?;
                if let Some(refusal) = self.names.fires_once(relation, change)? {
                    self.seen.fires_once = Some(refusal);
                }
                self.row_security(relation, &place)?;
                Ok((relation, place))
            }
            Resolved::Missing(name) => Err(Refusal::of_table(Reason::NotInCatalog, &name)),
            Resolved::KeyGone(name, reason) => Err(Refusal::of_table(reason, &name)),
            Resolved::Unread(name) => Err(Refusal::of_table(Reason::Unread, &name)),
            _ => Err(Refusal::about(Reason::NameUnclear, parts.join("."))),
        }
    }

    /// The columns that an UPDATE sets; of a field or element it is the first part.
    pub(super) fn set_by(&mut self, assignments: &[Assignment]) -> Change {
        let mut set = Vec::new();
        for assignment in assignments {
            let names = match &assignment.target {
                AssignmentTarget::ColumnName(name) => std::slice::from_ref(name),
                AssignmentTarget::Tuple(names) => names,
            };
            for name in names {
                set.extend(self.object_name(name).into_iter().next());
            }
        }
        Change {
            events: Events::UPDATE,
            set: Some(set),
            is_copy: false,
        }
    }

    /// The key columns that an assignment sets, with the value where it is one column's.
    pub(super) fn assigned<'q>(
        &mut self,
        assignment: &'q Assignment,
        relation: &Relation,
        place: &Place,
    ) -> Result<Vec<(usize, Option<&'q Expr>)>, Refusal> {
        let targets: Vec<(String, Option<&Expr>)> = match &assignment.target {
            AssignmentTarget::ColumnName(name) => {
                let parts = self.object_name(name);
                // Of a field or element, the column is the first part.
                let column = parts.first().cloned().unwrap_or_default();
                vec![(column, (parts.len() == 1).then_some(&assignment.value))]
            }
            AssignmentTarget::Tuple(names) => {
                let values = match strip(&assignment.value) {
                    Expr::Tuple(values) if values.len() == names.len() => Some(values),
                    _ => None,
                };
                let each = names.iter().enumerate().map(|(at, name)| {
                    let column = self
                        .object_name(name)
                        .into_iter()
                        .next()
                        .unwrap_or_default();
                    (column, values.and_then(|v| v.get(at)))
                });
                each.collect()
            }
        };
        for (name, value) in &targets {
            // What PostgreSQL would fill in must come out right, too.
            if value.is_some_and(is_default)
                && let Some((_, column)) = relation.column(name)
                && !matches!(place, Place::Home)
            {
                omitted_default(self.names, relation, column, place)?;
            }
        }
        let Place::Sharded(keyed) = place else {
            return Ok(Vec::new());
        };
        let keys = targets.into_iter().filter_map(|(name, value)| {
            let (position, _) = relation.column(&name)?;
            keyed.position(position).map(|_| (position, value))
        });
        Ok(keys.collect())
    }
}
