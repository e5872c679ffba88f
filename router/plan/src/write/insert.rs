//! INSERT: the columns it fills, and the key of a row that comes from a query.

use sqlparser::ast::{
    Insert, ObjectName, OnConflict, OnConflictAction, OnInsert, Query, SelectItem, SetExpr,
    TableFactor, TableObject, Values,
};

use crate::MaxChars;
use crate::dialect;
use crate::expr::{Level, is_default};
use crate::names::{Names, Place};
use crate::query::{Ctes, From, Local};
use crate::reached::{Change, leads_off};
use crate::refuse::{Reason, Refusal, not_understood};
use crate::scope::{Analysis, Entry, LeftToSequences, Scope};
use mothership_catalog::types::words;
use mothership_catalog::{Column, DefaultKind, Events, Name, Relation};

use super::Written;

/// The table that an INSERT fills.
pub(super) struct Filled<'n> {
    pub(super) relation: &'n Relation,
    pub(super) place: Place,
    /// The instance that stands for the stored rows.
    pub(super) instance: usize,
    pub(super) alias: String,
    /// The positions of the columns that are given, in their order.
    pub(super) positions: Vec<usize>,
    /// Whether the client lists them.
    pub(super) is_listed: bool,
}

impl<'n> Analysis<'n> {
    pub(super) fn insert<'q>(
        &mut self,
        insert: &'q Insert,
        ctes: &Ctes<'q>,
    ) -> Result<Written, Refusal> {
        if !dialect::knows_insert(insert) {
            return not_understood();
        }
        let Insert {
            table,
            table_alias,
            columns,
            source,
            on,
            returning,
            ..
        } = insert;
        let TableObject::TableName(name) = table else {
            return not_understood();
        };
        // Those of a statement within it are its own matter.
        let sequences = std::mem::take(&mut self.sequences);
        let mut change = match on {
            Some(OnInsert::OnConflict(OnConflict {
                action: OnConflictAction::DoUpdate(update),
                ..
            })) => self.set_by(&update.assignments),
            _ => Change::default(),
        };
        change.events = change.events.and(Events::INSERT);
        let (relation, place) = self.target(name, &change)?;
        let alias = match table_alias {
            Some(alias) => self.ident(&alias.alias),
            None => relation.name.name.clone(),
        };
        let mut filled = Filled {
            relation,
            positions: self.insert_columns(columns, relation)?,
            is_listed: !columns.is_empty(),
            instance: self.add_relation(relation, place.clone())?,
            place,
            alias,
        };
        let mut level = Level::default();
        let values = source.as_deref().and_then(plain_values);
        // The time is given to all copies as a value, where rows are listed.
        let given = |column: &Column| match (&filled.place, values, &column.default) {
            (Place::Reference, Some(_), DefaultKind::Stable(text)) => is_plain_time(text),
            (Place::Sharded(_), None, _) if sequences == LeftToSequences::Made => {
                source.is_some() && next_of(column).is_some()
            }
            _ => false,
        };
        self.omitted_defaults(relation, &filled.place, (&filled.positions, values), given)?;
        let mut rows = None;
        match (source.as_deref(), values) {
            (None, _) => {
                if let Place::Sharded(_) = filled.place {
                    return Err(Refusal::of_table(Reason::InsertWithoutKey, &relation.name));
                }
            }
            (Some(_), Some(values)) => {
                rows = self.insert_values(values, &filled, ctes, &mut level)?;
            }
            (Some(query), None) => {
                let width = self.insert_select(query, &filled, sequences, ctes)?;
                filled.positions.truncate(width);
            }
        }
        self.on_conflict(on.as_ref(), &filled, ctes, &mut level)?;
        self.returning(returning.as_deref(), &filled, ctes, &mut level)?;
        let local = match (level.unmovable_subquery, &rows) {
            (Some(refusal), _) => Local::No(refusal),
            (None, Some(_)) => Local::Rows,
            (None, None) => Local::No(Refusal::new(Reason::InsertSelect)),
        };
        Ok(Written {
            target: filled.instance,
            local,
            rows,
            positions: Some(filled.positions),
            merged: None,
        })
    }

    /// The positions in the table of the inserted columns.
    pub(super) fn insert_columns(
        &mut self,
        columns: &[ObjectName],
        relation: &Relation,
    ) -> Result<Vec<usize>, Refusal> {
        if columns.is_empty() {
            return Ok((0..relation.columns.len()).collect());
        }
        let mut positions = Vec::new();
        for column in columns {
            let parts = self.object_name(column);
            match parts.as_slice() {
                // An unknown column is PostgreSQL's error; it can be no key.
                [name] => positions.push(relation.column(name).map_or(usize::MAX, |(p, _)| p)),
                _ => return not_understood(),
            }
        }
        Ok(positions)
    }

    /// Whether all columns that PostgreSQL fills itself come out right on a shard.
    pub(super) fn omitted_defaults(
        &self,
        relation: &Relation,
        place: &Place,
        (positions, values): (&[usize], Option<&Values>),
        is_given: impl Fn(&Column) -> bool,
    ) -> Result<(), Refusal> {
        if let Place::Home = place {
            return Ok(());
        }
        let width = values.and_then(|v| v.rows.iter().map(|r| r.content.len()).min());
        for (position, column) in relation.columns.iter().enumerate() {
            let given = positions.iter().position(|p| *p == position);
            // A short row leaves the last columns out; DEFAULT may stand in any row.
            let filled = given.is_some_and(|at| {
                width.is_none_or(|w| at < w)
                    && values.is_none_or(|v| {
                        v.rows
                            .iter()
                            .all(|r| !r.content.get(at).is_some_and(is_default))
                    })
            });
            if filled || is_given(column) {
                continue;
            }
            omitted_default(self.names, relation, column, place)?;
        }
        Ok(())
    }

    /// INSERT ... SELECT: the stored key is what the query's column shows. What comes back is how many columns it fills.
    fn insert_select<'q>(
        &mut self,
        query: &'q Query,
        filled: &Filled<'n>,
        sequences: LeftToSequences,
        ctes: &Ctes<'q>,
    ) -> Result<usize, Refusal> {
        let output = self.query(query, None, ctes)?;
        let derived = self.derive(&output)?;
        // Without a list of columns, a query of fewer leaves the last ones to their defaults.
        let width = match (filled.is_listed, output.complete) {
            (true, _) => filled.positions.len(),
            (false, true) => output.columns.len(),
            (false, false) => 0,
        };
        let is_made =
            |column: &Column| sequences == LeftToSequences::Made && next_of(column).is_some();
        for position in filled.positions.iter().skip(width) {
            if let Some(column) = filled.relation.columns.get(*position)
                && !matches!(filled.place, Place::Home)
                && !(matches!(filled.place, Place::Sharded(_)) && is_made(column))
            {
                omitted_default(self.names, filled.relation, column, &filled.place)?;
            }
        }
        // Of a query whose columns are not known the rows tell.
        let known = match (filled.is_listed, output.complete) {
            (false, true) => width.min(filled.positions.len()),
            _ => filled.positions.len(),
        };
        let Place::Sharded(keyed) = &filled.place else {
            return Ok(known);
        };
        let (relation, target) = (filled.relation, filled.instance);
        self.stored.insert(target, MaxChars::default());
        if !keyed.routable {
            return Err(Refusal::of_table(Reason::KeyType, &relation.name));
        }
        for column in keyed.columns.iter().flatten() {
            let given = &filled.positions[..known];
            let at = given.iter().position(|p| p == column);
            if at.is_none() && is_made(&relation.columns[*column]) {
                continue;
            }
            let at =
                at.ok_or_else(|| Refusal::of_table(Reason::InsertWithoutKey, &relation.name))?;
            // An outer join could make the shown column null, which the shard's own constraint must refuse.
            let plain =
                relation.columns[*column].typmod == -1 && relation.columns[*column].not_null;
            if output.complete && plain && at < output.columns.len() {
                self.equate((derived, at), (target, *column), &[target], false);
            }
        }
        Ok(known)
    }

    /// The table of an INSERT whose rows are `instance`, without what it is given.
    pub(super) fn filled(
        &mut self,
        insert: &Insert,
        (relation, place): (&'n Relation, Place),
        instance: usize,
    ) -> Filled<'n> {
        let alias = match &insert.table_alias {
            Some(alias) => self.ident(&alias.alias),
            None => relation.name.name.clone(),
        };
        Filled {
            relation,
            place,
            instance,
            alias,
            positions: Vec::new(),
            is_listed: false,
        }
    }

    /// Walks RETURNING of an INSERT whose rows are `instance`.
    pub(super) fn returned(
        &mut self,
        insert: &Insert,
        (relation, place): (&'n Relation, Place),
        instance: usize,
    ) -> Result<(), Refusal> {
        let filled = self.filled(insert, (relation, place), instance);
        let items = insert.returning.as_deref();
        self.returning(items, &filled, &Ctes::default(), &mut Level::default())
    }

    fn returning(
        &mut self,
        items: Option<&[SelectItem]>,
        filled: &Filled<'n>,
        ctes: &Ctes<'_>,
        level: &mut Level,
    ) -> Result<(), Refusal> {
        let Some(items) = items else { return Ok(()) };
        let from = From {
            scope: Scope {
                entries: vec![Entry::named(&filled.alias, filled.instance)],
                merged: Vec::new(),
            },
            complete: true,
            ..From::default()
        };
        let mut here = from.here(None, ctes, level);
        self.projection(items, &from, &mut here).map(drop)
    }
}

/// The sequence that fills a column, if its next value is all there is to it. What is GENERATED ALWAYS takes no value.
pub(super) fn next_of(column: &Column) -> Option<&Name> {
    match &column.default {
        DefaultKind::Sequence(from) if !from.always => from.sequence.as_ref(),
        _ => None,
    }
}

/// A source that is VALUES and nothing else.
pub(super) fn plain_values(query: &Query) -> Option<&Values> {
    let bare = query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && query.locks.is_empty()
        && dialect::knows_query(query);
    match &*query.body {
        SetExpr::Values(values) if bare && !values.explicit_row => Some(values),
        _ => None,
    }
}

/// Whether the rows of a list are of different lengths.
pub(super) fn is_uneven(values: &Values) -> bool {
    let mut lengths = values.rows.iter().map(|row| row.content.len());
    let first = lengths.next();
    lengths.any(|length| Some(length) != first)
}

/// The VALUES list of a SELECT that reads nothing else.
pub(super) fn selected_values(query: &Query) -> Option<&Values> {
    let SetExpr::Select(select) = &*query.body else {
        return None;
    };
    match select.from.as_slice() {
        [from] if query.with.is_none() && from.joins.is_empty() => match &from.relation {
            TableFactor::Derived { subquery, .. } => plain_values(subquery),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a default is the time of its transaction and nothing else, whatever the zone.
pub fn is_plain_time(default: &str) -> bool {
    const WORDS: [&str; 20] = [
        "now",
        "current_timestamp",
        "current_date",
        "current_time",
        "localtimestamp",
        "localtime",
        "transaction_timestamp",
        "statement_timestamp",
        "pg_catalog",
        "timezone",
        "at",
        "time",
        "zone",
        "with",
        "without",
        "text",
        "timestamp",
        "timestamptz",
        "date",
        "utc",
    ];
    let lower = default.to_ascii_lowercase();
    words(&lower)
        .all(|word| WORDS.contains(&word) || word.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether a column that PostgreSQL fills itself comes out right where rows are on shards.
pub fn omitted_default(
    names: &Names<'_>,
    relation: &Relation,
    column: &Column,
    place: &Place,
) -> Result<(), Refusal> {
    if leads_off(names.default_reach(&column.default), place) {
        let reason = Reason::FunctionUnproven;
        return Err(Refusal::of_column(reason, &relation.name, &column.name));
    }
    let reason = match (&column.default, place) {
        (DefaultKind::None | DefaultKind::Constant(_), _) => return Ok(()),
        (_, Place::Reference) => Reason::ReferenceWrite,
        (DefaultKind::Sequence(_), _) => Reason::InsertSequence,
        (DefaultKind::Stable(_) | DefaultKind::Volatile(_), _) => return Ok(()),
    };
    Err(Refusal::of_column(reason, &relation.name, &column.name))
}

/// The refusal of a row that names no value for a column of the key.
pub fn without_key(relation: &Relation, key: &str) -> Refusal {
    let detail = format!("table \"{}\" is sharded by \"{key}\"", relation.name.name);
    Refusal::about(Reason::InsertWithoutKey, detail)
}
