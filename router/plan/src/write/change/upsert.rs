//! INSERT … ON CONFLICT DO UPDATE of documents whose new rows, values or condition PostgreSQL computes.
//!
//! The rows that are proposed are joined with the documents that have their keys: of each it follows whether a document
//! is changed, stored or left alone. A key that another transaction stores in between is a conflict of the two, and all
//! begins anew.

use mothership_sql::quote;
use sqlparser::ast::{
    Assignment, AssignmentTarget, ConflictTarget, DoUpdate, Expr, Ident, Insert, OnConflict,
    OnConflictAction, OnInsert, Query, Values,
};

use super::{Computed, OLD, Table, default_of};
use crate::condition::{Cond, Scalar};
use crate::documents;
use crate::expr::{is_constant, strip};
use crate::functions::{self, Call};
use crate::gather::{DocumentStatement, DocumentWrite};
use crate::names::{Names, folded};
use crate::parens;
use crate::refuse::Refusal;
use crate::scope::Analysis;
use crate::visit::any_expr;
use crate::write::insert::plain_values;
use mothership_documents::Column;

/// What is computed of all rows.
const ROWS: &str = "\"__mothership_r\"";
/// Which of the changes a row is for.
const CHOICE: &str = "\"__mothership_w\"";
/// The rows in their order.
const ORDER: &str = "\"__mothership_o\"";
/// The first part of what a value is called.
const VALUE: &str = "__mothership_v";
/// The first part of what a key is called that a row proposes.
const PROPOSED: &str = "__mothership_p";
/// The first part of what a column of a document is called, as it was.
const STORED: &str = "__mothership_s";
/// The changes, by their numbers.
const UPDATES: usize = 1;
const INSERTS: usize = 2;
/// So many columns come before the keys.
const BEFORE: usize = 2;

/// The rows that are proposed.
pub(in crate::write) struct Proposed<'s> {
    /// The query that gives them.
    pub query: &'s Query,
    /// The columns that it fills, in its order.
    pub positions: &'s [usize],
}

/// What DO UPDATE says.
struct Clauses<'s> {
    /// Where the columns of the key are that two rows may not share.
    key: Vec<usize>,
    set: Vec<(usize, String)>,
    selection: Option<&'s Expr>,
}

impl Proposed<'_> {
    /// The rows, if they are written out.
    fn listed(&self) -> Option<&Values> {
        plain_values(self.query)
    }

    /// What the rows give a column, if that is written out as constants and parameters.
    fn given(&self, column: usize) -> Option<Vec<&Expr>> {
        let at = self.positions.iter().position(|other| *other == column)?;
        let rows = self.listed()?.rows.iter();
        rows.map(|row| {
            row.content
                .get(at)
                .map(uncast)
                .filter(|expr| is_constant(expr))
        })
        .collect()
    }

    fn may_be_several(&self) -> bool {
        self.listed().is_none_or(|values| values.rows.len() > 1)
    }
}

impl Table<'_> {
    /// Whether ON CONFLICT names a key that the table does not have, or sets a column that it has not.
    pub(super) fn lacks_conflicting(&self, insert: &Insert) -> bool {
        let Some(OnInsert::OnConflict(OnConflict {
            conflict_target,
            action,
        })) = &insert.on
        else {
            return false;
        };
        let lacks_key = |target| self.unique(target).is_none();
        let lacks_column = match action {
            OnConflictAction::DoUpdate(update) => self.cannot_be_set(&update.assignments),
            OnConflictAction::DoNothing => false,
        };
        lacks_column || conflict_target.as_ref().is_some_and(lacks_key)
    }

    /// What becomes of the rows; `None` if that is not known.
    pub(super) fn upsert(
        &self,
        insert: &Insert,
        proposed: &Proposed<'_>,
        analysis: &Analysis<'_>,
    ) -> Result<Option<Computed>, Refusal> {
        let Some(clauses) = self.clauses(insert, analysis)? else {
            return Ok(None);
        };
        // The condition is written more than once.
        let is_written = |condition| !may_differ(analysis.names, condition);
        if !clauses.selection.is_none_or(is_written) {
            return Ok(None);
        }
        if proposed.may_be_several() && self.may_meet(&clauses) {
            return Ok(None);
        }
        let own = &self.relation.name.name;
        let entry = insert.table_alias.as_ref();
        let entry = entry.map_or_else(|| own.clone(), |alias| folded(&alias.alias));
        let (columns, made) = self.columns(proposed);
        let columns: Vec<usize> = columns.into_iter().chain(made).collect();
        let unmade = (0..self.relation.columns.len()).filter(|at| !columns.contains(at));
        let unmade: Vec<usize> = unmade.collect();
        let is_whole = unmade.is_empty();
        if entry == "excluded"
            || !is_whole && (insert.returning.is_some() || self.names(insert, &unmade))
        {
            return Ok(None);
        }
        let (keys, values) = (BEFORE, BEFORE + self.key.len() + clauses.key.len());
        let apart: Vec<usize> = (keys + self.key.len()..values).collect();
        let inserted = values + clauses.set.len();
        let found = keys..keys + self.key.len();
        let told = vec![
            DocumentStatement {
                sql: self.updating(&clauses),
                values: found.chain(values..inserted).collect(),
                apart: apart.clone(),
            },
            DocumentStatement {
                sql: self.inserting(&columns, &clauses.key),
                values: (inserted..inserted + columns.len()).collect(),
                apart,
            },
        ];
        let types = |at: &[usize]| -> Vec<u32> {
            let oid = |at: &usize| self.relation.columns[*at].type_oid;
            at.iter().map(oid).collect()
        };
        let set: Vec<usize> = clauses.set.iter().map(|(column, _)| *column).collect();
        let changed = [types(&self.key), types(&set)].concat();
        let takes = |sql: &str, types: &[u32]| {
            documents::takes(analysis.names, analysis.context, types, sql)
        };
        if !takes(&told[0].sql, &changed) || !takes(&told[1].sql, &types(&columns)) {
            return Ok(None);
        }
        let query = self.joined(
            insert,
            proposed,
            (&clauses, &columns),
            &quote::identifier(&entry),
        )?;
        Ok(Some(Computed {
            query,
            told,
            command: DocumentWrite::Upsert,
            chooses: true,
            bound: inserted + columns.len(),
        }))
    }

    fn clauses<'s>(
        &self,
        insert: &'s Insert,
        analysis: &Analysis<'_>,
    ) -> Result<Option<Clauses<'s>>, Refusal> {
        let Some(OnInsert::OnConflict(OnConflict {
            conflict_target: Some(target),
            action:
                OnConflictAction::DoUpdate(DoUpdate {
                    assignments,
                    selection,
                }),
        })) = &insert.on
        else {
            return Ok(None);
        };
        let Some(key) = self.unique(target) else {
            return Ok(None);
        };
        // What is equal to the key that the document has is that key.
        let is_kept = |assignment: &&Assignment| {
            let AssignmentTarget::ColumnName(name) = &assignment.target else {
                return false;
            };
            let [part] = name.0.as_slice() else {
                return false;
            };
            let named = part.as_ident().map(folded);
            let column = named.and_then(|name| self.relation.column(&name));
            column.is_some_and(|(at, _)| {
                key.contains(&at)
                    && self.has_one_form(at)
                    && self.is_excluded(&assignment.value, at)
            })
        };
        let changes: Vec<Assignment> = assignments
            .iter()
            .filter(|one| !is_kept(one))
            .cloned()
            .collect();
        let Some(set) = self.set(&changes, None, analysis)? else {
            return Ok(None);
        };
        let moves = set.iter().any(|(column, _)| self.key.contains(column));
        if moves || set.is_empty() {
            return Ok(None);
        }
        Ok(Some(Clauses {
            key,
            set,
            selection: selection.as_ref(),
        }))
    }

    /// The columns of the declared key that ON CONFLICT names.
    fn unique(&self, target: &ConflictTarget) -> Option<Vec<usize>> {
        let place = |at: &usize| {
            let declared = &self.collection.columns.get(*at)?.name;
            self.relation.column(declared).map(|(at, _)| at)
        };
        let mut keys = self.collection.unique.iter();
        match target {
            ConflictTarget::OnConstraint(name) => {
                let [part] = name.0.as_slice() else {
                    return None;
                };
                let name = folded(part.as_ident()?);
                let key = keys.find(|key| key.name == name)?;
                key.columns.iter().map(place).collect()
            }
            ConflictTarget::Columns(names) => {
                let place_of = |name: &Ident| self.relation.column(&folded(name)).map(|(at, _)| at);
                let named: Vec<usize> = names.iter().map(place_of).collect::<Option<_>>()?;
                keys.find_map(|key| {
                    let columns: Vec<usize> =
                        key.columns.iter().map(place).collect::<Option<_>>()?;
                    let same = columns.iter().all(|at| named.contains(at))
                        && named.iter().all(|at| columns.contains(at));
                    same.then_some(columns)
                })
            }
        }
    }

    /// Whether an expression is `excluded.column`.
    fn is_excluded(&self, expr: &Expr, column: usize) -> bool {
        match expr {
            Expr::Nested(expr) => self.is_excluded(expr, column),
            Expr::CompoundIdentifier(names) => match names.as_slice() {
                [table, name] => {
                    folded(table) == "excluded"
                        && folded(name) == self.relation.columns[column].name
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether DO UPDATE names one of these columns of the row that is proposed, or that row as a whole.
    fn names(&self, insert: &Insert, columns: &[usize]) -> bool {
        let Some(on) = &insert.on else {
            return false;
        };
        any_expr(on, |expr| match expr {
            Expr::Identifier(name) => folded(name) == "excluded",
            Expr::CompoundFieldAccess { .. } => true,
            expr => columns.iter().any(|at| self.is_excluded(expr, *at)),
        })
    }

    fn column(&self, column: usize) -> Option<&Column> {
        let name = &self.relation.columns[column].name;
        let at = self.collection.column(name)?;
        self.collection.columns.get(at)
    }

    /// Whether equal values of a column look the same.
    fn has_one_form(&self, column: usize) -> bool {
        self.column(column)
            .is_some_and(|column| column.kind.has_one_form())
    }

    /// Whether it may depend on the order of the rows what becomes of them, or whether two of them have the same key
    /// cannot be told here.
    fn may_meet(&self, clauses: &Clauses<'_>) -> bool {
        let mut set = clauses.set.iter();
        let is_told_apart = clauses.key.iter().all(|at| self.has_one_form(*at));
        set.any(|(column, _)| self.is_unique(*column)) || !is_told_apart
    }

    /// The columns of a proposed row that are given, and those that have a default that PostgreSQL makes.
    fn columns(&self, proposed: &Proposed<'_>) -> (Vec<usize>, Vec<usize>) {
        let given = proposed.positions.to_vec();
        let made = |at: &usize| {
            let is_rest = self.column(*at).is_none_or(|column| column.is_rest());
            !given.contains(at)
                && !is_rest
                && default_of(self.collection, &self.relation.columns[*at]).is_some()
        };
        let made = (0..self.relation.columns.len()).filter(made).collect();
        (given, made)
    }

    /// The change of a document that is there.
    fn updating(&self, clauses: &Clauses<'_>) -> String {
        let sets = clauses.set.iter().enumerate();
        let sets = sets.map(|(at, (column, _))| {
            format!("{} = ${}", self.quoted(*column), self.key.len() + at + 1)
        });
        let sets: Vec<String> = sets.collect();
        format!(
            "UPDATE {} SET {}{}",
            self.name(),
            sets.join(", "),
            self.found()
        )
    }

    /// The row that is stored where there is no document. That its key is there nevertheless is a conflict with another
    /// transaction, which nothing but ON CONFLICT says.
    fn inserting(&self, columns: &[usize], key: &[usize]) -> String {
        let names: Vec<String> = columns.iter().map(|at| self.quoted(*at)).collect();
        let parameters: Vec<String> = (1..=columns.len()).map(|at| format!("${at}")).collect();
        let key: Vec<String> = key.iter().map(|at| self.quoted(*at)).collect();
        format!(
            "INSERT INTO {} ({}) VALUES ({}) ON CONFLICT ({}) DO NOTHING",
            self.name(),
            names.join(", "),
            parameters.join(", "),
            key.join(", ")
        )
    }

    /// The query that says what becomes of which row.
    fn joined(
        &self,
        insert: &Insert,
        proposed: &Proposed<'_>,
        (clauses, columns): (&Clauses<'_>, &[usize]),
        entry: &str,
    ) -> Result<String, Refusal> {
        let excluded = |at: usize| self.of("excluded", at);
        let choice = self.choice(clauses, columns, entry)?;
        let case =
            |number: usize, value: &str| format!("CASE {choice} WHEN {number} THEN {value} END");
        let named = |first: &str, values: Vec<String>| -> Vec<(String, String)> {
            let values = values.into_iter().enumerate();
            values
                .map(|(at, value)| (format!("\"{first}{at}\""), value))
                .collect()
        };
        let old = self.key.iter().map(|at| self.of(entry, *at)).collect();
        let keys = clauses.key.iter().map(|at| excluded(*at)).collect();
        let set = clauses.set.iter().map(|(_, value)| case(UPDATES, value));
        let new = columns.iter().map(|at| case(INSERTS, &excluded(*at)));
        let values = set.chain(new).collect();
        let mut computed = named(OLD, old);
        computed.extend(named(PROPOSED, keys));
        computed.extend(named(VALUE, values));
        let shown = computed.iter().map(|(name, _)| format!("{entry}.{name}"));
        let shown: Vec<String> = shown.collect();
        let all = 0..self.relation.columns.len();
        let is_shown = insert.returning.is_some();
        if is_shown {
            let old = all.clone().map(|at| self.of(entry, at)).collect();
            computed.extend(named(STORED, old));
        }
        let computed = computed
            .iter()
            .map(|(name, value)| format!("{value} AS {name}"));
        let computed: Vec<String> = computed.collect();
        // The row as it becomes is what RETURNING is about.
        let becomes = all.filter(|_| is_shown).map(|at| {
            let set = clauses.set.iter().position(|(column, _)| *column == at);
            let changed = set.map_or_else(|| format!("{STORED}{at}"), |set| format!("{VALUE}{set}"));
            let new = columns.iter().position(|column| *column == at).unwrap_or_default();
            let new = clauses.set.len() + new;
            format!(
                ", (CASE r.{CHOICE} WHEN {UPDATES} THEN r.\"{changed}\" ELSE r.\"{VALUE}{new}\" END)::{} AS {}",
                self.relation.columns[at].handed.full,
                self.quoted(at)
            )
        });
        let becomes: String = becomes.collect();
        Ok(format!(
            "WITH {ROWS} AS MATERIALIZED (SELECT {choice} AS {CHOICE}, excluded.{ORDER}, {} \
             FROM ({}) AS excluded LEFT JOIN {} AS {entry} ON {}) \
             SELECT {entry}.{CHOICE}, false, {}{} FROM (SELECT r.*{becomes} FROM {ROWS} AS r) AS {entry} \
             WHERE {entry}.{CHOICE} > 0 ORDER BY {entry}.{ORDER}",
            computed.join(", "),
            self.rows(proposed, columns)?,
            self.name(),
            self.same(proposed, &clauses.key, entry)?,
            shown.join(", "),
            self.shown_by_name(entry, insert.returning.as_deref())?,
        ))
    }

    /// What becomes of a row. One with a NULL where there may be none is stored, which is the error that it is.
    fn choice(
        &self,
        clauses: &Clauses<'_>,
        columns: &[usize],
        entry: &str,
    ) -> Result<String, Refusal> {
        let needed = columns.iter().filter(|at| {
            let is_id = |path: &[String]| path.first().is_some_and(|field| field == "_id");
            let declared = self.column(**at);
            declared.is_some_and(|column| column.not_null || is_id(&column.path))
        });
        let missing = needed.map(|at| format!("{} IS NULL", self.of("excluded", *at)));
        let first = self.key.first().copied().unwrap_or_default();
        let missing: Vec<String> = missing
            .chain([format!("{} IS NULL", self.of(entry, first))])
            .collect();
        let condition = match clauses.selection {
            Some(condition) => parens::expr(condition)?,
            None => "true".to_owned(),
        };
        Ok(format!(
            "CASE WHEN {} THEN {INSERTS} WHEN {condition} THEN {UPDATES} ELSE 0 END",
            missing.join(" OR ")
        ))
    }

    /// The rows that are proposed, with all columns that PostgreSQL makes.
    fn rows(&self, proposed: &Proposed<'_>, columns: &[usize]) -> Result<String, Refusal> {
        let column = |(number, at): (usize, &usize)| {
            let info = &self.relation.columns[*at];
            let base = &info.handed.base;
            let value = match number < proposed.positions.len() {
                true => Some(format!("s.c{}::{base}", number + 1)),
                false => default_of(self.collection, info).map(|value| format!("{value}::{base}")),
            };
            let value = self.fitted(*at, value?);
            let collate = info.handed.collate.as_ref();
            let collate = collate.map_or_else(String::new, |name| format!(" COLLATE {name}"));
            Some(format!(
                "{value}{collate} AS {}",
                quote::identifier(&info.name)
            ))
        };
        let shown: Vec<String> = columns.iter().enumerate().filter_map(column).collect();
        let names: Vec<String> = (1..=proposed.positions.len())
            .map(|at| format!("c{at}"))
            .collect();
        // A function of windows also keeps the rows from being made more than once.
        Ok(format!(
            "SELECT {}, pg_catalog.row_number() OVER () AS {ORDER} FROM ({}) AS s ({})",
            shown.join(", "),
            parens::query(proposed.query)?,
            names.join(", ")
        ))
    }

    /// Which documents have the key of a row. Where the keys are written out, only those are fetched.
    fn same(&self, proposed: &Proposed<'_>, key: &[usize], entry: &str) -> Result<String, Refusal> {
        let mut conditions = Vec::new();
        for at in key {
            let own = self.of(entry, *at);
            conditions.push(format!("{own} = {}", self.of("excluded", *at)));
            let base = self.base(*at);
            let given = proposed.given(*at).unwrap_or_default().into_iter();
            let given = given.map(|expr| {
                let typed = format!("{}::{base}", parens::expr(expr)?);
                Ok(self.fitted(*at, typed))
            });
            let given: Vec<String> = given.collect::<Result<_, Refusal>>()?;
            if !given.is_empty() {
                conditions.push(format!("{own} IN ({})", given.join(", ")));
            }
        }
        Ok(conditions.join(" AND "))
    }
}

/// A value without the type of the column that it is for.
fn uncast(expr: &Expr) -> &Expr {
    match strip(expr) {
        Expr::Cast { expr, .. } => strip(expr),
        expr => expr,
    }
}

/// Whether an expression may give something else when it is computed again.
fn may_differ(names: &Names<'_>, expr: &Expr) -> bool {
    any_expr(expr, |expr| {
        let Expr::Function(function) = expr else {
            return false;
        };
        let parts = function
            .name
            .0
            .iter()
            .map(|part| part.as_ident().map(folded));
        let parts: Option<Vec<String>> = parts.collect();
        let call = match parts.as_deref() {
            Some([name]) => functions::call(names, None, name),
            Some([schema, name]) => functions::call(names, Some(schema), name),
            _ => return true,
        };
        call > Call::Time
    })
}

/// Where rows with these keys are, if the keys are known: what must hold of a shard key of these columns.
pub(in crate::write) fn keys(
    proposed: &Proposed<'_>,
    columns: &[usize],
    analysis: &Analysis<'_>,
) -> Option<Cond> {
    let given: Vec<Vec<Scalar>> = columns
        .iter()
        .map(|at| {
            let given = proposed.given(*at)?.into_iter();
            given.map(|expr| analysis.scalar(expr)).collect()
        })
        .collect::<Option<_>>()?;
    let rows = proposed.listed()?.rows.len();
    let row = |row: usize| {
        let values = given.iter().enumerate();
        values.fold(Cond::Any, |all, (at, values)| {
            all.and(Cond::equals(at, values[row].clone()))
        })
    };
    Some((0..rows).map(row).fold(Cond::Never, Cond::or))
}
