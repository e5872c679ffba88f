//! Writes with every parenthesis written.

use sqlparser::ast::{
    Assignment, AssignmentTarget, ConflictTarget, Delete, FromTable, Insert, Merge, MergeAction,
    MergeClause, MergeClauseKind, MergeInsertExpr, MergeInsertKind, MergeUpdateExpr,
    MergeUpdateKind, OnConflict, OnConflictAction, OnInsert, SelectItem, TableObject, Update,
    UpdateTableFromKind,
};

use crate::dialect;
use crate::refuse::not_understood;

use super::{Done, Writer};

impl Writer {
    pub(super) fn insert(&mut self, insert: &Insert) -> Done {
        self.insert_head(insert)?;
        match &insert.source {
            None => self.put("DEFAULT VALUES"),
            Some(query) => self.query(query)?,
        }
        self.insert_tail(insert)
    }

    /// Everything before the source.
    pub(super) fn insert_head(&mut self, insert: &Insert) -> Done {
        if !dialect::knows_insert(insert) {
            return not_understood();
        }
        let Insert {
            into,
            table: TableObject::TableName(table),
            table_alias,
            columns,
            ..
        } = insert
        else {
            return not_understood();
        };
        self.put(if *into { "INSERT INTO " } else { "INSERT " });
        self.name(table)?;
        if let Some(alias) = table_alias {
            self.put(" AS ");
            self.ident(&alias.alias)?;
        }
        if !columns.is_empty() {
            self.put(" (");
            self.list(columns, Writer::name)?;
            self.put(")");
        }
        self.put(" ");
        Ok(())
    }

    /// Everything behind the source.
    pub(super) fn insert_tail(&mut self, insert: &Insert) -> Done {
        match &insert.on {
            None => {}
            Some(OnInsert::OnConflict(conflict)) => self.on_conflict(conflict)?,
            Some(_) => return not_understood(),
        }
        self.returning(insert.returning.as_deref())
    }

    fn on_conflict(&mut self, conflict: &OnConflict) -> Done {
        let OnConflict {
            conflict_target,
            action,
        } = conflict;
        self.put(" ON CONFLICT ");
        match conflict_target {
            None => {}
            Some(ConflictTarget::Columns(columns)) => {
                self.put("(");
                self.list(columns, Writer::ident)?;
                self.put(") ");
            }
            Some(ConflictTarget::OnConstraint(name)) => {
                self.put("ON CONSTRAINT ");
                self.name(name)?;
                self.put(" ");
            }
        }
        match action {
            OnConflictAction::DoNothing => {
                self.put("DO NOTHING");
                Ok(())
            }
            OnConflictAction::DoUpdate(update) => {
                self.put("DO UPDATE SET ");
                self.assignments(&update.assignments)?;
                self.condition(" WHERE ", update.selection.as_ref())
            }
        }
    }

    fn assignments(&mut self, list: &[Assignment]) -> Done {
        self.list(list, |w, Assignment { target, value }| {
            match target {
                AssignmentTarget::ColumnName(name) => w.name(name)?,
                AssignmentTarget::Tuple(names) => {
                    w.put("(");
                    w.list(names, Writer::name)?;
                    w.put(")");
                }
            }
            w.put(" = ");
            w.value_or_default(value)
        })
    }

    pub(super) fn returning(&mut self, items: Option<&[SelectItem]>) -> Done {
        match items {
            None => Ok(()),
            Some(items) => {
                self.put(" RETURNING ");
                self.items(items)
            }
        }
    }

    pub(super) fn update(&mut self, update: &Update) -> Done {
        if !dialect::knows_update(update) {
            return not_understood();
        }
        let Update {
            table,
            assignments,
            from,
            selection,
            returning,
            ..
        } = update;
        if !table.joins.is_empty() {
            return not_understood();
        }
        self.put("UPDATE ");
        self.factor(&table.relation)?;
        self.put(" SET ");
        self.assignments(assignments)?;
        match from {
            None => {}
            Some(UpdateTableFromKind::AfterSet(list)) => {
                self.put(" FROM ");
                self.from(list)?;
            }
            Some(UpdateTableFromKind::BeforeSet(_)) => return not_understood(),
        }
        self.condition(" WHERE ", selection.as_ref())?;
        self.returning(returning.as_deref())
    }

    pub(super) fn delete(&mut self, delete: &Delete) -> Done {
        if !dialect::knows_delete(delete) {
            return not_understood();
        }
        let Delete {
            from: FromTable::WithFromKeyword(list),
            using,
            selection,
            returning,
            ..
        } = delete
        else {
            return not_understood();
        };
        self.put("DELETE FROM ");
        self.from(list)?;
        if let Some(using) = using {
            self.put(" USING ");
            self.from(using)?;
        }
        self.condition(" WHERE ", selection.as_ref())?;
        self.returning(returning.as_deref())
    }

    pub(super) fn merge(&mut self, merge: &Merge) -> Done {
        self.merge_head(merge)?;
        self.factor(&merge.source)?;
        self.merge_tail(merge)
    }

    /// Everything before the source.
    pub(super) fn merge_head(&mut self, merge: &Merge) -> Done {
        if !dialect::knows_merge(merge) {
            return not_understood();
        }
        self.put("MERGE INTO ");
        self.factor(&merge.table)?;
        self.put(" USING ");
        Ok(())
    }

    /// Everything behind the source.
    pub(super) fn merge_tail(&mut self, merge: &Merge) -> Done {
        self.condition(" ON ", Some(&merge.on))?;
        let mut clauses = merge.clauses.iter();
        clauses.try_for_each(|clause| self.when(clause))
    }

    fn when(&mut self, clause: &MergeClause) -> Done {
        let MergeClause {
            when_token: _,
            clause_kind,
            predicate,
            action,
        } = clause;
        self.put(match clause_kind {
            MergeClauseKind::Matched => " WHEN MATCHED",
            MergeClauseKind::NotMatched => " WHEN NOT MATCHED",
            MergeClauseKind::NotMatchedByTarget | MergeClauseKind::NotMatchedBySource => {
                return not_understood();
            }
        });
        self.condition(" AND ", predicate.as_ref())?;
        self.put(" THEN ");
        match action {
            MergeAction::Delete { .. } => self.put("DELETE"),
            MergeAction::DoNothing { .. } => self.put("DO NOTHING"),
            MergeAction::Update(MergeUpdateExpr {
                update_token: _,
                kind: MergeUpdateKind::Set(assignments),
                update_predicate: None,
                delete_predicate: None,
            }) => {
                self.put("UPDATE SET ");
                self.assignments(assignments)?;
            }
            MergeAction::Insert(MergeInsertExpr {
                insert_token: _,
                columns,
                kind_token: _,
                kind: MergeInsertKind::Values(values),
                insert_predicate: None,
            }) => {
                self.put("INSERT ");
                if !columns.is_empty() {
                    self.put("(");
                    self.list(columns, Writer::name)?;
                    self.put(") ");
                }
                self.values(values)?;
            }
            MergeAction::Update(_) | MergeAction::Insert(_) => return not_understood(),
        }
        Ok(())
    }
}
