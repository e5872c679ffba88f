//! MERGE into documents: a join of its source with them says of each row what becomes of which document.
//!
//! PostgreSQL does one row after the other, so that a row may find what one before it has left behind. Where that would
//! matter it is refused: a document that is deleted while another one is stored under its key.

use sqlparser::ast::{
    Expr, Merge, MergeAction, MergeClause, MergeClauseKind, MergeInsertExpr, MergeInsertKind,
    MergeUpdateKind, TableFactor, TableWithJoins,
};

use super::{Computed, DocumentStatement, Table, default_of, entry, from};
use crate::documents;
use crate::functions::Call;
use crate::gather::DocumentWrite;
use crate::names::folded;
use crate::parens;
use crate::refuse::Refusal;
use crate::scope::Analysis;
use mothership_documents::Filled;

/// What is computed of all rows.
const ROWS: &str = "\"__mothership_r\"";
/// Which of the changes a row is for.
const CHOICE: &str = "\"__mothership_w\"";
/// The first of them, a DELETE, is always there.
const DELETES: usize = 1;
/// So many columns come before the key.
const BEFORE: usize = 2;

/// What becomes of it all.
struct Changes {
    told: Vec<DocumentStatement>,
    /// Which of them rows with a document are for, and rows without one: as the arms of a CASE.
    matched: Vec<String>,
    unmatched: Vec<String>,
    /// The values, each with the change that it is for.
    values: Vec<(usize, String)>,
    /// Of each INSERT, its number and where the columns of the key are among the values.
    inserts: Vec<(usize, Vec<usize>)>,
    deletes: bool,
    /// Some unique key other than the first may get other values, or be free.
    frees: bool,
}

impl Table<'_> {
    /// Whether a MERGE names a column to be filled that the table does not have.
    pub(super) fn lacks_of(&self, merge: &Merge) -> bool {
        merge.clauses.iter().any(|clause| match &clause.action {
            MergeAction::Update(update) => match &update.kind {
                MergeUpdateKind::Set(assignments) => self.cannot_be_set(assignments),
                _ => false,
            },
            MergeAction::Insert(insert) => insert.columns.iter().any(|name| self.has_not(name)),
            MergeAction::Delete { .. } | MergeAction::DoNothing { .. } => false,
        })
    }

    pub(super) fn merge(
        &self,
        merge: &Merge,
        analysis: &Analysis<'_>,
    ) -> Result<Option<Computed>, Refusal> {
        let Some(entry) = entry(&merge.table) else {
            return Ok(None);
        };
        let mut calls = analysis.seen.calls.keys();
        if calls.any(|call| *call > Call::Time) {
            // It is written more than once.
            return Ok(None);
        }
        let delete = format!("DELETE FROM {}{}", self.name(), self.found());
        let mut changes = Changes {
            told: self.told(delete, self.key.len()),
            matched: Vec::new(),
            unmatched: Vec::new(),
            values: Vec::new(),
            inserts: Vec::new(),
            deletes: false,
            frees: false,
        };
        changes.told[0].values = self.places();
        changes.told[0].apart = self.places();
        for clause in &merge.clauses {
            if self.clause(clause, analysis, &mut changes)?.is_none() {
                return Ok(None);
            }
        }
        let others = self.collection.unique.len() > 1 && !changes.inserts.is_empty();
        if others && (changes.deletes || changes.frees) {
            return Ok(None);
        }
        let bound = BEFORE + self.key.len() + changes.values.len();
        Ok(Some(Computed {
            query: self.merged(merge, &entry, &changes)?,
            told: changes.told,
            command: DocumentWrite::Merge,
            chooses: true,
            bound,
        }))
    }

    /// The columns of the query that are the key of a document.
    fn places(&self) -> Vec<usize> {
        (BEFORE..BEFORE + self.key.len()).collect()
    }

    /// Adds what a clause does. `None` if it is not known.
    fn clause(
        &self,
        clause: &MergeClause,
        analysis: &Analysis<'_>,
        changes: &mut Changes,
    ) -> Result<Option<()>, Refusal> {
        let number = match &clause.action {
            MergeAction::DoNothing { .. } => 0,
            MergeAction::Delete { .. } => {
                changes.deletes = true;
                DELETES
            }
            MergeAction::Update(update) => {
                let MergeUpdateKind::Set(assignments) = &update.kind else {
                    return Ok(None);
                };
                let Some(set) = self.set(assignments, None, analysis)? else {
                    return Ok(None);
                };
                if set.iter().any(|(column, _)| self.key.contains(column)) {
                    return Ok(None);
                }
                self.updates(set, changes)
            }
            MergeAction::Insert(insert) => match self.inserts(insert, analysis, changes)? {
                Some(number) => number,
                None => return Ok(None),
            },
        };
        let predicate = match &clause.predicate {
            Some(predicate) => parens::expr(predicate)?,
            None => "true".to_owned(),
        };
        let arm = format!("WHEN {predicate} THEN {number}");
        match clause.clause_kind {
            MergeClauseKind::Matched => changes.matched.push(arm),
            MergeClauseKind::NotMatched => changes.unmatched.push(arm),
            MergeClauseKind::NotMatchedByTarget | MergeClauseKind::NotMatchedBySource => {
                return Ok(None);
            }
        }
        Ok(Some(()))
    }

    /// An UPDATE of these columns; its number.
    fn updates(&self, set: Vec<(usize, String)>, changes: &mut Changes) -> usize {
        let number = changes.told.len() + 1;
        let key = self.key.len();
        let sets = set.iter().enumerate();
        let sets =
            sets.map(|(at, (column, _))| format!("{} = ${}", self.quoted(*column), key + at + 1));
        let sets: Vec<String> = sets.collect();
        let first = BEFORE + key + changes.values.len();
        let values = (BEFORE..BEFORE + key).chain(first..first + set.len());
        changes.told.push(DocumentStatement {
            sql: format!(
                "UPDATE {} SET {}{}",
                self.name(),
                sets.join(", "),
                self.found()
            ),
            values: values.collect(),
            apart: self.places(),
        });
        for (column, value) in set {
            changes.frees |= self.is_unique(column);
            changes.values.push((number, value));
        }
        number
    }

    /// An INSERT; its number.
    fn inserts(
        &self,
        insert: &MergeInsertExpr,
        analysis: &Analysis<'_>,
        changes: &mut Changes,
    ) -> Result<Option<usize>, Refusal> {
        let MergeInsertKind::Values(values) = &insert.kind else {
            return Ok(None);
        };
        let [row] = values.rows.as_slice() else {
            return Ok(None);
        };
        let Some(given) = self.given(insert, &row.content)? else {
            return Ok(None);
        };
        let number = changes.told.len() + 1;
        let first = BEFORE + self.key.len() + changes.values.len();
        let names: Vec<String> = given.iter().map(|(at, _)| self.quoted(*at)).collect();
        let parameters: Vec<String> = (1..=given.len()).map(|at| format!("${at}")).collect();
        let sql = format!(
            "INSERT INTO {} ({}) VALUES ({})",
            self.name(),
            names.join(", "),
            parameters.join(", ")
        );
        let types: Vec<u32> = given
            .iter()
            .map(|(at, _)| self.relation.columns[*at].type_oid)
            .collect();
        let key: Option<Vec<usize>> = self
            .key
            .iter()
            .map(|column| given.iter().position(|(at, _)| at == column))
            .map(|at| at.map(|at| changes.values.len() + at))
            .collect();
        let Some(key) =
            key.filter(|_| documents::takes(analysis.names, analysis.context, &types, &sql))
        else {
            return Ok(None);
        };
        changes.told.push(DocumentStatement {
            sql,
            values: (first..first + given.len()).collect(),
            apart: Vec::new(),
        });
        changes.inserts.push((number, key));
        let values = given.into_iter().map(|(_, value)| (number, value));
        changes.values.extend(values);
        Ok(Some(number))
    }

    /// The columns that an INSERT gives, and the time where it leaves one to it: only the first server of a transaction
    /// knows that.
    fn given(
        &self,
        insert: &MergeInsertExpr,
        row: &[Expr],
    ) -> Result<Option<Vec<(usize, String)>>, Refusal> {
        let columns = match insert.columns.as_slice() {
            [] => (0..self.relation.columns.len()).collect(),
            names => {
                let column = |name: &sqlparser::ast::ObjectName| match name.0.as_slice() {
                    [part] => {
                        let (at, _) = self.relation.column(&folded(part.as_ident()?))?;
                        Some(at)
                    }
                    _ => None,
                };
                match names.iter().map(column).collect::<Option<Vec<usize>>>() {
                    Some(columns) if columns.len() == row.len() => columns,
                    _ => return Ok(None),
                }
            }
        };
        if row.len() > columns.len() {
            return Ok(None);
        }
        let mut given: Vec<(usize, String)> = Vec::new();
        for (column, value) in columns.into_iter().zip(row) {
            let twice = given.iter().any(|(other, _)| *other == column);
            match self.assigned(column, value)? {
                Some(value) if !twice => given.push((column, value)),
                _ => return Ok(None),
            }
        }
        for (at, column) in self.relation.columns.iter().enumerate() {
            let declared = self.collection.column(&column.name);
            let declared = declared.map(|at| &self.collection.columns[at]);
            let is_now = declared.is_some_and(|column| column.default == Some(Filled::Now));
            if is_now && !given.iter().any(|(other, _)| *other == at) {
                match default_of(self.collection, column) {
                    Some(now) => given.push((at, format!("{now}::{}", column.handed.base))),
                    None => return Ok(None),
                }
            }
        }
        Ok(Some(given))
    }

    /// The query that says what becomes of which document.
    fn merged(&self, merge: &Merge, entry: &str, changes: &Changes) -> Result<String, Refusal> {
        let case = |arms: &[String]| match arms.is_empty() {
            true => "0".to_owned(),
            false => format!("CASE {} ELSE 0 END", arms.join(" ")),
        };
        let first = self.key.first().copied().unwrap_or_default();
        let choice = format!(
            "CASE WHEN {} IS NULL THEN {} ELSE {} END",
            self.of(entry, first),
            case(&changes.unmatched),
            case(&changes.matched)
        );
        let key = self.key.iter().enumerate();
        let key = key.map(|(at, column)| format!("{} AS {}", self.of(entry, *column), of_key(at)));
        let values = changes.values.iter().enumerate();
        let values = values.map(|(at, (number, value))| {
            format!(
                "CASE {choice} WHEN {number} THEN {value} END AS {}",
                of_value(at)
            )
        });
        let computed: Vec<String> = key.chain(values).collect();
        let key = (0..self.key.len()).map(|at| format!("r.{}", of_key(at)));
        let values = (0..changes.values.len()).map(|at| format!("r.{}", of_value(at)));
        let shown: Vec<String> = key.chain(values).collect();
        Ok(format!(
            "WITH {ROWS} AS MATERIALIZED (SELECT {choice} AS {CHOICE}, {}{} LEFT JOIN {} ON {}) \
             SELECT r.{CHOICE}, {}, {} FROM {ROWS} AS r WHERE r.{CHOICE} > 0",
            computed.join(", "),
            only(&merge.source)?,
            only(&merge.table)?.replacen(" FROM ", "", 1),
            parens::expr(&merge.on)?,
            self.unclear(changes),
            shown.join(", ")
        ))
    }

    /// Whether a row is stored under the key of one that is deleted.
    fn unclear(&self, changes: &Changes) -> String {
        if !changes.deletes || changes.inserts.is_empty() {
            return "false".to_owned();
        }
        let inserts = changes.inserts.iter().map(|(number, key)| {
            let same = self.key.iter().enumerate().zip(key);
            let same = same.map(|((at, column), value)| {
                let collate = match &self.relation.columns[*column].handed.collate {
                    Some(collation) => format!(" COLLATE {collation}"),
                    None => String::new(),
                };
                format!("d.{}{collate} = r.{}", of_key(at), of_value(*value))
            });
            let same: Vec<String> = same.collect();
            format!("r.{CHOICE} = {number} AND {}", same.join(" AND "))
        });
        let inserts: Vec<String> = inserts.collect();
        format!(
            "EXISTS (SELECT FROM {ROWS} AS d WHERE d.{CHOICE} = {DELETES} AND ({}))",
            inserts.join(" OR ")
        )
    }
}

/// What a column of the key is called.
fn of_key(at: usize) -> String {
    format!("\"__mothership_k{at}\"")
}

/// What a value is called.
fn of_value(at: usize) -> String {
    format!("\"__mothership_v{at}\"")
}

/// FROM with one entry.
fn only(factor: &TableFactor) -> Result<String, Refusal> {
    let entry = TableWithJoins {
        relation: factor.clone(),
        joins: Vec::new(),
    };
    from(&entry, &[], None)
}
