//! Plans of INSERT, UPDATE, DELETE and MERGE.
//!
//! The target of a write is an instance like any other, so the same facts say
//! where its rows are. A row to be stored is an instance as well, marked so that
//! its key must be known and not only restricted. Reference tables are written on every
//! shard, so whatever could come out differently there is refused.

use std::collections::HashMap;

use mothership_shardmap::KeyType;
use sqlparser::ast::{
    Assignment, AssignmentTarget, ConflictTarget, Delete, Expr, FromTable, Insert,
    Merge as MergeStatement, MergeAction, MergeClauseKind, MergeInsertKind, MergeUpdateKind,
    ObjectName, OnConflictAction, OnInsert, Query, SelectItem, SetExpr, Statement, TableFactor,
    TableObject, TableWithJoins, Update, UpdateTableFromKind, Value, Values,
};
use sqlparser::tokenizer::Location;

use super::condition::{Cond, Scalar};
use super::expr::{Level, placeholder, strip};
use super::functions::Call;
use super::names::{Names, Place, Reach, Resolved, fold};
use super::parse::Places;
use super::query::{Ctes, From, Local};
use super::read::{explained, finish, keyed_by, parsed};
use super::refuse::{Reason, Refusal};
use super::scope::{Analysis, Entry, Instance, Scope, Scopes, Source};
use super::{
    Merge, Plan, PlanContext, Role, SameSharded, Scatter, Split, SplitRows, Target, ValuesRow,
};
use crate::catalog::types::words;
use crate::catalog::{DefaultKind, Name, Relation, RelationKind};

/// What walking a write gave.
struct Written {
    /// The instance that is written, or that stands for the stored rows.
    target: usize,
    /// Whether each shard may do its part.
    local: Local,
    /// The rows of a VALUES list into a sharded table.
    rows: Option<Rows>,
}

/// A VALUES list with the keys of its rows.
struct Rows {
    table: Name,
    keys: Vec<Vec<Scalar>>,
    spans: Vec<(Location, Location)>,
    max_chars: Vec<Option<usize>>,
    returning: bool,
    /// Parameters that stand alone in a row, with their column's type.
    parameters: Vec<(u16, u32)>,
}

/// Plans a write.
pub fn plan(names: &Names<'_>, sql: &str, context: &PlanContext) -> Result<Plan, Refusal> {
    if !names.mentions(sql) {
        home_triggers(names, sql)?;
        return Ok(super::utility::home("writes"));
    }
    let parsed = parsed(sql, context)?;
    let mut analysis = Analysis::new(names, context);
    analysis.placeholders.clone_from(&parsed.placeholders);
    let ctes = Ctes::default();
    if let Statement::Query(query) = &parsed.statement {
        // WITH before a write.
        let output = analysis.query(query, None, &ctes)?;
        explained(&analysis, names, &parsed)?;
        return finish(&analysis, output.local, None);
    }
    let written = analysis.write(&parsed.statement, &ctes)?;
    explained(&analysis, names, &parsed)?;
    if matches!(
        analysis.instances[written.target].source,
        Source::Reference(_)
    ) {
        return everywhere(&analysis, &written);
    }
    match written.rows {
        Some(ref rows) => split(&analysis, sql, &parsed, rows, &written),
        None => finish(&analysis, written.local, Some(written.target)),
    }
}

/// Writes of the home shard may reach further through triggers, which the text does not show.
fn home_triggers(names: &Names<'_>, sql: &str) -> Result<(), Refusal> {
    if !names.anything_declared() {
        return Ok(());
    }
    let lower = sql.to_ascii_lowercase();
    for relation in names
        .catalog
        .relations
        .values()
        .filter(|r| !r.triggers.is_empty())
    {
        let reaches = relation
            .triggers
            .iter()
            .any(|t| names.reach(&t.function.name).unwrap_or(Reach::Nothing) == Reach::Anything);
        if reaches && words(&lower).any(|w| w.eq_ignore_ascii_case(&relation.name.name)) {
            return Err(about(Reason::Trigger, relation));
        }
    }
    Ok(())
}

fn about(reason: Reason, relation: &Relation) -> Refusal {
    Refusal::about(reason, format!("table \"{}\"", relation.name.name))
}

/// A write of a reference table: the same on every shard, or not at all.
fn everywhere(analysis: &Analysis<'_>, written: &Written) -> Result<Plan, Refusal> {
    let refusal = |what: &str| Refusal::about(Reason::ReferenceWrite, what.to_owned());
    if let Some((_, name)) = analysis
        .seen
        .calls
        .iter()
        .find(|(call, _)| **call > Call::Harmless)
    {
        return Err(refusal(&format!("function {name}()")));
    }
    let others = analysis
        .instances
        .iter()
        .enumerate()
        .any(|(index, instance)| {
            index != written.target && !matches!(instance.source, Source::Rows)
        });
    if others || analysis.seen.writes {
        return Err(refusal("it reads other tables"));
    }
    Ok(Plan::Scatter(Scatter {
        target: Target::AllShards,
        role: Role::Primary("writes".to_owned()),
        merge: Merge::First,
    }))
}

fn split(
    analysis: &Analysis<'_>,
    sql: &str,
    parsed: &super::parse::Parsed,
    rows: &Rows,
    written: &Written,
) -> Result<Plan, Refusal> {
    let Source::Sharded(_, keyed) = &analysis.instances[written.target].source else {
        return Err(Refusal::new(Reason::NotUnderstood));
    };
    let mut places = Places::new(sql);
    let spans = rows.spans.iter().map(|(open, close)| {
        // The closing parenthesis is one byte.
        let start = places.advance_to(*open);
        start..places.advance_to(*close) + 1
    });
    let values = spans
        .zip(&rows.keys)
        .map(|(span, key)| ValuesRow {
            span,
            key: key.clone(),
        })
        .collect();
    let others: Vec<_> = analysis
        .sharded()
        .filter(|(index, _, _)| *index != written.target)
        .filter_map(|(index, _, _)| keyed_by(analysis, index))
        .collect();
    if let Some(unbound) = others.iter().find(|k| k.cond == Cond::Any) {
        return Err(Refusal::about(
            Reason::Subquery,
            format!("table \"{}\"", unbound.table.name),
        ));
    }
    // What may not happen beside sharded tables is the same as in a query.
    finish(analysis, written.local.clone(), Some(written.target))?;
    let whole = match &written.local {
        Local::No(refusal) => Some(refusal.clone()),
        _ => rows.returning.then(|| Refusal::new(Reason::ReturningSplit)),
    };
    Ok(Plan::Split(Split {
        table: rows.table.clone(),
        sharded: SameSharded(keyed.sharded.clone()),
        rows: SplitRows::Values {
            rows: values,
            parameter_types: parameter_types(analysis, parsed, rows),
            max_chars: rows.max_chars.clone(),
            whole,
        },
        others,
    }))
}

/// The type of each parameter; 0 where it follows only from how PostgreSQL reads the text.
fn parameter_types(
    analysis: &Analysis<'_>,
    parsed: &super::parse::Parsed,
    rows: &Rows,
) -> Vec<u32> {
    let count = parsed
        .placeholders
        .iter()
        .map(|(_, n)| *n)
        .max()
        .unwrap_or(0);
    let mut uses: HashMap<u16, usize> = HashMap::new();
    for (_, number) in &parsed.placeholders {
        *uses.entry(*number).or_default() += 1;
    }
    let alone: HashMap<u16, u32> = rows.parameters.iter().copied().collect();
    let declared = |number: u16| {
        let at = usize::from(number).checked_sub(1)?;
        analysis
            .context
            .parameter_types
            .get(at)
            .copied()
            .filter(|oid| *oid != 0)
    };
    let of = |number: u16| match (declared(number), uses.get(&number)) {
        (Some(oid), _) => oid,
        (None, Some(1)) => alone.get(&number).copied().unwrap_or(0),
        _ => 0,
    };
    (1..=count).map(of).collect()
}

impl<'n> Analysis<'n> {
    /// A write inside WITH, or behind it.
    pub fn nested_write<'q>(&mut self, body: &'q SetExpr, ctes: &Ctes<'q>) -> Result<(), Refusal> {
        let statement = match body {
            SetExpr::Insert(s) | SetExpr::Update(s) | SetExpr::Delete(s) | SetExpr::Merge(s) => s,
            _ => return Err(Refusal::new(Reason::NotUnderstood)),
        };
        let written = self.write(statement, ctes)?;
        match self.instances[written.target].source {
            // On one shard only it would differ from its copies.
            Source::Reference(_) => Err(Refusal::new(Reason::ReferenceWrite)),
            _ => Ok(()),
        }
    }

    fn write<'q>(&mut self, statement: &'q Statement, ctes: &Ctes<'q>) -> Result<Written, Refusal> {
        match statement {
            Statement::Insert(insert) => self.insert(insert, ctes),
            Statement::Update(update) => self.update(update, ctes),
            Statement::Delete(delete) => self.delete(delete, ctes),
            Statement::Merge(merge) => self.merge(merge, ctes),
            _ => Err(Refusal::new(Reason::NotUnderstood)),
        }
    }

    /// Whether a table may be written at all through here.
    fn check_target(&mut self, relation: &Relation, place: &Place) -> Result<(), Refusal> {
        if relation.kind == RelationKind::View {
            return Err(about(Reason::Rules, relation));
        }
        if relation.has_rules && !matches!(place, Place::Home) {
            return Err(about(Reason::Rules, relation));
        }
        for trigger in &relation.triggers {
            let reach = match self.names.reach(&trigger.function.name) {
                Some(reach) => reach,
                None if trigger.function.is_system() => Reach::Nothing,
                None => Reach::Anything,
            };
            let harmless = match place {
                Place::Home => reach < Reach::Anything,
                // It runs once per shard, and might see another time or chance on each.
                Place::Reference => false,
                Place::Sharded(keyed) => {
                    let key_named = |word: &str| {
                        keyed
                            .sharded
                            .columns
                            .iter()
                            .any(|(name, _)| name.eq_ignore_ascii_case(word))
                    };
                    let functions = self.names.catalog.functions.get(&trigger.function);
                    let names_key = functions
                        .into_iter()
                        .flatten()
                        .any(|f| words(&f.body).any(key_named));
                    reach == Reach::Nothing && !(trigger.may_change_row && names_key)
                }
            };
            if !harmless {
                return Err(about(Reason::Trigger, relation));
            }
        }
        Ok(())
    }

    fn target(&mut self, name: &ObjectName) -> Result<(&'n Relation, Place), Refusal> {
        let parts = self.object_name(name);
        match self.names.resolve(&parts, self.context) {
            Resolved::Relation(relation, place) => {
                self.check_target(relation, &place)?;
                self.row_security(relation, &place)?;
                Ok((relation, place))
            }
            Resolved::Missing(name) => Err(Refusal::about(
                Reason::NotInCatalog,
                format!("table \"{}\"", name.name),
            )),
            _ => Err(Refusal::about(Reason::NameUnclear, parts.join("."))),
        }
    }

    fn add_target(&mut self, relation: &'n Relation, place: Place) -> Result<usize, Refusal> {
        let source = match place {
            Place::Sharded(keyed) => Source::Sharded(relation, keyed),
            Place::Reference => Source::Reference(relation),
            Place::Home => Source::Home(relation.name.to_string()),
        };
        let columns = self.columns_of(relation);
        self.add(Instance {
            source,
            columns,
            complete: true,
        })
    }

    // ---- INSERT

    fn insert<'q>(&mut self, insert: &'q Insert, ctes: &Ctes<'q>) -> Result<Written, Refusal> {
        let Insert {
            insert_token: _,
            optimizer_hints,
            or,
            ignore,
            into: _,
            table,
            table_alias,
            columns,
            overwrite,
            source,
            assignments,
            partitioned,
            after_columns,
            has_table_keyword,
            on,
            returning,
            output,
            replace_into,
            priority,
            insert_alias,
            settings,
            format_clause,
            multi_table_insert_type,
            multi_table_into_clauses,
            multi_table_when_clauses,
            multi_table_else_clause,
        } = insert;
        let foreign = !optimizer_hints.is_empty()
            || or.is_some()
            || *ignore
            || *overwrite
            || !assignments.is_empty()
            || partitioned.is_some()
            || !after_columns.is_empty()
            || *has_table_keyword
            || output.is_some()
            || *replace_into
            || priority.is_some()
            || insert_alias.is_some()
            || settings.is_some()
            || format_clause.is_some()
            || multi_table_insert_type.is_some()
            || !multi_table_into_clauses.is_empty()
            || !multi_table_when_clauses.is_empty()
            || multi_table_else_clause.is_some();
        let TableObject::TableName(name) = table else {
            return Err(Refusal::new(Reason::NotUnderstood));
        };
        if foreign {
            return Err(Refusal::new(Reason::NotUnderstood));
        }
        let (relation, place) = self.target(name)?;
        let alias = match table_alias {
            Some(alias) => self.ident(&alias.alias),
            None => relation.name.name.clone(),
        };
        let positions = self.insert_columns(columns, relation)?;
        let target = self.add_target(relation, place.clone())?;
        let mut level = Level::default();
        let values = source.as_deref().and_then(plain_values);
        if !matches!(place, Place::Home) {
            self.omitted_defaults(relation, &place, &positions, values)?;
        }
        let mut rows = None;
        match (source.as_deref(), values) {
            (None, _) => {
                if let Place::Sharded(_) = place {
                    return Err(about(Reason::InsertWithoutKey, relation));
                }
            }
            (Some(_), Some(values)) => {
                rows = self.insert_values(
                    values, relation, &place, &positions, target, ctes, &mut level,
                )?;
            }
            (Some(query), None) => {
                self.insert_select(query, relation, &place, &positions, target, ctes)?
            }
        }
        if let (Some(rows), Place::Sharded(_)) = (&mut rows, &place) {
            rows.returning = returning.is_some();
        }
        self.on_conflict(
            on.as_ref(),
            relation,
            &place,
            target,
            &alias,
            ctes,
            &mut level,
        )?;
        self.returning(returning.as_deref(), target, &alias, ctes, &mut level)?;
        let local = match (level.unmovable_subquery, &rows) {
            (Some(refusal), _) => Local::No(refusal),
            (None, Some(_)) => Local::Rows,
            (None, None) => Local::No(Refusal::new(Reason::InsertSelect)),
        };
        Ok(Written {
            target,
            local,
            rows,
        })
    }

    /// The positions in the table of the inserted columns.
    fn insert_columns(
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
                _ => return Err(Refusal::new(Reason::NotUnderstood)),
            }
        }
        Ok(positions)
    }

    /// Columns that PostgreSQL fills itself must come out right on a shard.
    fn omitted_defaults(
        &self,
        relation: &Relation,
        place: &Place,
        positions: &[usize],
        values: Option<&Values>,
    ) -> Result<(), Refusal> {
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
            if filled {
                continue;
            }
            let detail = || {
                format!(
                    "column \"{}\" of table \"{}\"",
                    column.name, relation.name.name
                )
            };
            match (&column.default, place) {
                (DefaultKind::None | DefaultKind::Constant(_), _) => {}
                (DefaultKind::Sequence, Place::Reference) => {
                    return Err(Refusal::about(Reason::ReferenceWrite, detail()));
                }
                (DefaultKind::Sequence, _) => {
                    return Err(Refusal::about(Reason::InsertSequence, detail()));
                }
                (DefaultKind::Stable(_) | DefaultKind::Volatile(_), Place::Reference) => {
                    return Err(Refusal::about(Reason::ReferenceWrite, detail()));
                }
                (DefaultKind::Stable(_) | DefaultKind::Volatile(_), _) => {}
            }
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn insert_values<'q>(
        &mut self,
        values: &'q Values,
        relation: &'n Relation,
        place: &Place,
        positions: &[usize],
        target: usize,
        ctes: &Ctes<'q>,
        level: &mut Level,
    ) -> Result<Option<Rows>, Refusal> {
        let empty = Scope::default();
        let scopes = Scopes {
            scope: &empty,
            outer: None,
        };
        let mut parameters = Vec::new();
        for row in &values.rows {
            for (at, expr) in row.content.iter().enumerate() {
                self.walk(expr, &scopes, ctes, level)?;
                let Some(column) = positions.get(at).and_then(|p| relation.columns.get(*p)) else {
                    continue;
                };
                let base = self.names.catalog.base_type(column.type_oid);
                if let Some(key_type) = KeyType::from_oid(base) {
                    self.note_use(expr, key_type);
                }
                if let (Some(number), true) =
                    (bare_parameter(expr), column.type_oid < FIRST_USER_OID)
                {
                    parameters.push((number, column.type_oid));
                }
            }
        }
        let Place::Sharded(keyed) = place else {
            return Ok(None);
        };
        if !keyed.routable {
            return Err(about(Reason::KeyType, relation));
        }
        let mut at = Vec::new();
        let mut max_chars = Vec::new();
        for (name, column) in keyed
            .sharded
            .columns
            .iter()
            .map(|(n, _)| n)
            .zip(&keyed.columns)
        {
            let missing = || {
                Refusal::about(
                    Reason::InsertWithoutKey,
                    format!("table \"{}\" is sharded by \"{name}\"", relation.name.name),
                )
            };
            let column = column.ok_or_else(missing)?;
            at.push(
                positions
                    .iter()
                    .position(|p| *p == column)
                    .ok_or_else(missing)?,
            );
            max_chars.push(stored_chars(relation, column)?);
        }
        let mut keys = Vec::new();
        for row in &values.rows {
            let mut key = Vec::new();
            for (at, (name, _)) in at.iter().zip(&keyed.sharded.columns) {
                let detail = || format!("column \"{name}\" of table \"{}\"", relation.name.name);
                let expr = row.content.get(*at);
                let expr =
                    expr.ok_or_else(|| Refusal::about(Reason::InsertWithoutKey, detail()))?;
                if is_default(expr) {
                    return Err(Refusal::about(Reason::InsertWithoutKey, detail()));
                }
                let scalar = self.scalar(expr);
                key.push(scalar.ok_or_else(|| Refusal::about(Reason::InsertKey, detail()))?);
            }
            keys.push(key);
        }
        let certain = self.certain_params();
        let unclear = keys.iter().flatten().any(
            |scalar| matches!(scalar, Scalar::Param { number, as_type: 0 } if !certain(*number)),
        );
        drop(certain);
        if unclear {
            return Err(about(Reason::InsertKey, relation));
        }
        // For a write inside WITH the rows are conditions: all must lead to one shard.
        let columns: Vec<usize> = keyed.columns.iter().flatten().copied().collect();
        let any = keys.iter().fold(Cond::Never, |any, key| {
            let row = columns.iter().zip(key).fold(Cond::Any, |all, (c, s)| {
                all.and(Cond::equals(*c, s.clone()))
            });
            any.or(row)
        });
        self.facts.push((target, any));
        self.stored.insert(target);
        Ok(Some(Rows {
            table: relation.name.clone(),
            keys,
            spans: values
                .rows
                .iter()
                .map(|r| (r.opening_token.0.span.start, r.closing_token.0.span.start))
                .collect(),
            max_chars,
            returning: false,
            parameters,
        }))
    }

    /// INSERT ... SELECT: the stored key is what the query's column shows.
    fn insert_select<'q>(
        &mut self,
        query: &'q Query,
        relation: &'n Relation,
        place: &Place,
        positions: &[usize],
        target: usize,
        ctes: &Ctes<'q>,
    ) -> Result<(), Refusal> {
        let output = self.query(query, None, ctes)?;
        let derived = self.derive(&output)?;
        let Place::Sharded(keyed) = place else {
            return Ok(());
        };
        self.stored.insert(target);
        if !keyed.routable {
            return Err(about(Reason::KeyType, relation));
        }
        for column in keyed.columns.iter().flatten() {
            let at = positions.iter().position(|p| p == column);
            let at = at.ok_or_else(|| about(Reason::InsertWithoutKey, relation))?;
            // An outer join could make the shown column null, which the shard's own constraint must refuse.
            let plain =
                relation.columns[*column].typmod == -1 && relation.columns[*column].not_null;
            if output.complete && plain && at < output.columns.len() {
                self.equate((derived, at), (target, *column), &[target], false);
            }
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn on_conflict<'q>(
        &mut self,
        on: Option<&'q OnInsert>,
        relation: &'n Relation,
        place: &Place,
        target: usize,
        alias: &str,
        ctes: &Ctes<'q>,
        level: &mut Level,
    ) -> Result<(), Refusal> {
        let conflict = match on {
            None => return Ok(()),
            Some(OnInsert::OnConflict(conflict)) => conflict,
            Some(_) => return Err(Refusal::new(Reason::NotUnderstood)),
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
                // Any unique constraint may be the one that conflicts.
                None => relation
                    .keys
                    .iter()
                    .chain(&relation.exclusions)
                    .all(|k| holds_key(&k.columns)),
            };
            if !enforced {
                return Err(about(Reason::Conflict, relation));
            }
        }
        let OnConflictAction::DoUpdate(update) = &conflict.action else {
            return Ok(());
        };
        let columns = self.columns_of(relation);
        let excluded = self.add(Instance {
            source: Source::Rows,
            columns,
            complete: true,
        })?;
        let entry = |alias: &str, instance| Entry {
            alias: alias.to_owned(),
            schema: None,
            instance,
        };
        let scope = Scope {
            entries: vec![entry(alias, target), entry("excluded", excluded)],
            merged: Vec::new(),
        };
        let scopes = Scopes {
            scope: &scope,
            outer: None,
        };
        for assignment in &update.assignments {
            self.walk(&assignment.value, &scopes, ctes, level)?;
            for (column, value) in self.assigned(assignment, relation, place)? {
                // The arbiter holds the key, so the row in place has it already.
                let same = value.and_then(|v| self.node(v, &scopes)) == Some((excluded, column));
                if !same {
                    return Err(about(Reason::KeyUpdate, relation));
                }
            }
        }
        match &update.selection {
            Some(condition) => self.walk(condition, &scopes, ctes, level),
            None => Ok(()),
        }
    }

    fn returning<'q>(
        &mut self,
        items: Option<&'q [SelectItem]>,
        target: usize,
        alias: &str,
        ctes: &Ctes<'q>,
        level: &mut Level,
    ) -> Result<(), Refusal> {
        let Some(items) = items else { return Ok(()) };
        let entry = Entry {
            alias: alias.to_owned(),
            schema: None,
            instance: target,
        };
        let from = From {
            scope: Scope {
                entries: vec![entry],
                merged: Vec::new(),
            },
            complete: true,
            ..From::default()
        };
        let scopes = Scopes {
            scope: &from.scope,
            outer: None,
        };
        self.projection(items, &from, &scopes, ctes, level)
            .map(drop)
    }

    /// The key columns that an assignment sets, with the value where it is one column's.
    fn assigned<'q>(
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
        let Place::Sharded(keyed) = place else {
            return Ok(Vec::new());
        };
        let keys = targets.into_iter().filter_map(|(name, value)| {
            let (position, _) = relation.column(&name)?;
            keyed.position(position).map(|_| (position, value))
        });
        Ok(keys.collect())
    }

    // ---- UPDATE and DELETE

    /// The target of UPDATE or DELETE as the first entry of a FROM clause, which FROM or USING extends.
    fn target_entry<'q>(
        &mut self,
        table: &'q TableWithJoins,
        more: &'q [TableWithJoins],
        ctes: &Ctes<'q>,
    ) -> Result<(From<'q>, usize, &'n Relation, Place), Refusal> {
        let TableFactor::Table { name, alias, .. } = &table.relation else {
            return Err(Refusal::new(Reason::NotUnderstood));
        };
        if !table.joins.is_empty() {
            return Err(Refusal::new(Reason::NotUnderstood));
        }
        let mut from = self.from(std::slice::from_ref(table), None, ctes)?;
        let (relation, place) = self.target(name)?;
        let target = match from
            .tree
            .as_ref()
            .map(super::query::Tree::instances)
            .as_deref()
        {
            Some([target]) if alias.as_ref().is_none_or(|a| a.columns.is_empty()) => *target,
            _ => return Err(Refusal::new(Reason::NotUnderstood)),
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
                (Some(left), Some(right)) => Some(super::query::Tree::Join {
                    kind: super::query::Kind::Inner,
                    left: Box::new(left),
                    right: Box::new(right),
                    on: None,
                    pairs: Vec::new(),
                }),
                (one, other) => one.or(other),
            };
        }
        Ok((from, target, relation, place))
    }

    fn update<'q>(&mut self, update: &'q Update, ctes: &Ctes<'q>) -> Result<Written, Refusal> {
        let Update {
            update_token: _,
            optimizer_hints,
            table,
            assignments,
            from: more,
            selection,
            returning,
            output,
            or,
            order_by,
            limit,
        } = update;
        if !optimizer_hints.is_empty()
            || output.is_some()
            || or.is_some()
            || !order_by.is_empty()
            || limit.is_some()
        {
            return Err(Refusal::new(Reason::NotUnderstood));
        }
        let more: &[TableWithJoins] = match more {
            None => &[],
            Some(UpdateTableFromKind::AfterSet(list)) => list,
            Some(UpdateTableFromKind::BeforeSet(_)) => {
                return Err(Refusal::new(Reason::NotUnderstood));
            }
        };
        let (from, target, relation, place) = self.target_entry(table, more, ctes)?;
        let mut level = Level::default();
        {
            let scopes = Scopes {
                scope: &from.scope,
                outer: None,
            };
            for assignment in assignments {
                self.walk(&assignment.value, &scopes, ctes, &mut level)?;
                for (column, value) in self.assigned(assignment, relation, &place)? {
                    let Place::Sharded(keyed) = &place else {
                        continue;
                    };
                    let position = keyed.position(column);
                    if let (Some(value), Some(key_type)) = (value, self.key_type((target, column)))
                    {
                        self.note_use(value, key_type);
                    }
                    let own = value.and_then(|v| self.node(v, &scopes)) == Some((target, column));
                    match (position, value.and_then(|v| self.scalar(v))) {
                        _ if own => {}
                        (Some(position), Some(scalar)) if relation.columns[column].typmod == -1 => {
                            self.kept.push((target, position, scalar));
                        }
                        _ => return Err(about(Reason::KeyUpdate, relation)),
                    }
                }
            }
        }
        let local = self.restricted(
            &from,
            selection.as_ref(),
            returning.as_deref(),
            ctes,
            &mut level,
        )?;
        Ok(Written {
            target,
            local,
            rows: None,
        })
    }

    fn delete<'q>(&mut self, delete: &'q Delete, ctes: &Ctes<'q>) -> Result<Written, Refusal> {
        let Delete {
            delete_token: _,
            optimizer_hints,
            tables,
            from: list,
            using,
            selection,
            returning,
            output,
            order_by,
            limit,
        } = delete;
        if !optimizer_hints.is_empty()
            || !tables.is_empty()
            || output.is_some()
            || !order_by.is_empty()
            || limit.is_some()
        {
            return Err(Refusal::new(Reason::NotUnderstood));
        }
        let FromTable::WithFromKeyword(list) = list else {
            return Err(Refusal::new(Reason::NotUnderstood));
        };
        let [table] = list.as_slice() else {
            return Err(Refusal::new(Reason::NotUnderstood));
        };
        let more = using.as_deref().unwrap_or_default();
        let (from, target, _, _) = self.target_entry(table, more, ctes)?;
        let mut level = Level::default();
        let local = self.restricted(
            &from,
            selection.as_ref(),
            returning.as_deref(),
            ctes,
            &mut level,
        )?;
        Ok(Written {
            target,
            local,
            rows: None,
        })
    }

    /// WHERE and RETURNING of UPDATE and DELETE.
    fn restricted<'q>(
        &mut self,
        from: &From<'q>,
        selection: Option<&'q Expr>,
        returning: Option<&'q [SelectItem]>,
        ctes: &Ctes<'q>,
        level: &mut Level,
    ) -> Result<Local, Refusal> {
        let scopes = Scopes {
            scope: &from.scope,
            outer: None,
        };
        if let Some(condition) = selection {
            self.walk(condition, &scopes, ctes, level)?;
        }
        let obstacle = self.conditions(from, selection, &scopes);
        if let Some(items) = returning {
            self.projection(items, from, &scopes, ctes, level)?;
        }
        let refusal = level
            .unmovable_subquery
            .clone()
            .or(from.obstacle.clone())
            .or(obstacle);
        Ok(refusal.map_or(Local::Rows, Local::No))
    }

    // ---- MERGE

    fn merge<'q>(
        &mut self,
        merge: &'q MergeStatement,
        ctes: &Ctes<'q>,
    ) -> Result<Written, Refusal> {
        let MergeStatement {
            merge_token: _,
            optimizer_hints,
            into: _,
            table,
            source,
            on,
            clauses,
            output,
        } = merge;
        let TableFactor::Table { name, .. } = table else {
            return Err(Refusal::new(Reason::NotUnderstood));
        };
        if !optimizer_hints.is_empty() || output.is_some() {
            return Err(Refusal::new(Reason::NotUnderstood));
        }
        let (relation, place) = self.target(name)?;
        let mut from = From {
            complete: true,
            ..From::default()
        };
        let (target_tree, _) = self.factor(table, &mut from, None, ctes)?;
        self.factor(source, &mut from, None, ctes)?;
        let [target] = target_tree.instances()[..] else {
            return Err(Refusal::new(Reason::NotUnderstood));
        };
        let mut level = Level::default();
        let scopes = Scopes {
            scope: &from.scope,
            outer: None,
        };
        self.walk(on, &scopes, ctes, &mut level)?;
        // As in source LEFT JOIN target: ON restricts the target's rows, and no others.
        self.on_target(on, target, &scopes);
        for clause in clauses {
            if let Some(predicate) = &clause.predicate {
                self.walk(predicate, &scopes, ctes, &mut level)?;
            }
            match (&clause.clause_kind, &clause.action) {
                (MergeClauseKind::NotMatchedByTarget | MergeClauseKind::NotMatchedBySource, _) => {
                    return Err(Refusal::new(Reason::NotUnderstood));
                }
                (_, MergeAction::Delete { .. } | MergeAction::DoNothing { .. }) => {}
                (_, MergeAction::Update(update)) => {
                    let MergeUpdateKind::Set(assignments) = &update.kind else {
                        return Err(Refusal::new(Reason::NotUnderstood));
                    };
                    if update.update_predicate.is_some() || update.delete_predicate.is_some() {
                        return Err(Refusal::new(Reason::NotUnderstood));
                    }
                    for assignment in assignments {
                        self.walk(&assignment.value, &scopes, ctes, &mut level)?;
                        if !self.assigned(assignment, relation, &place)?.is_empty() {
                            return Err(about(Reason::KeyUpdate, relation));
                        }
                    }
                }
                (_, MergeAction::Insert(insert)) => {
                    if insert.insert_predicate.is_some() {
                        return Err(Refusal::new(Reason::NotUnderstood));
                    }
                    let MergeInsertKind::Values(values) = &insert.kind else {
                        return Err(Refusal::new(Reason::NotUnderstood));
                    };
                    let positions = self.insert_columns(&insert.columns, relation)?;
                    self.merge_insert(
                        values, relation, &place, &positions, &scopes, ctes, &mut level,
                    )?;
                }
            }
        }
        let local = Local::No(Refusal::new(Reason::Merge));
        Ok(Written {
            target,
            local,
            rows: None,
        })
    }

    #[allow(clippy::too_many_arguments)]
    fn merge_insert<'q>(
        &mut self,
        values: &'q Values,
        relation: &'n Relation,
        place: &Place,
        positions: &[usize],
        scopes: &Scopes<'_>,
        ctes: &Ctes<'q>,
        level: &mut Level,
    ) -> Result<(), Refusal> {
        let [row] = values.rows.as_slice() else {
            return Err(Refusal::new(Reason::NotUnderstood));
        };
        for expr in &row.content {
            self.walk(expr, scopes, ctes, level)?;
        }
        if !matches!(place, Place::Home) {
            self.omitted_defaults(relation, place, positions, Some(values))?;
        }
        let Place::Sharded(keyed) = place else {
            return Ok(());
        };
        let stored = self.add_target(relation, place.clone())?;
        self.stored.insert(stored);
        for column in keyed.columns.iter().flatten() {
            let at = positions.iter().position(|p| p == column);
            let expr = at.and_then(|at| row.content.get(at));
            let expr = expr
                .filter(|e| !is_default(e))
                .ok_or_else(|| about(Reason::InsertWithoutKey, relation))?;
            if relation.columns[*column].typmod != -1 || !relation.columns[*column].not_null {
                return Err(about(Reason::InsertKey, relation));
            }
            if let Some(node) = self.node(expr, scopes) {
                self.equate(node, (stored, *column), &[stored], false);
            } else if let Some(scalar) = self.scalar(expr) {
                self.facts.push((stored, Cond::equals(*column, scalar)));
            }
        }
        Ok(())
    }
}

/// User types have other object ids on each shard, from this one on.
const FIRST_USER_OID: u32 = 16_384;

/// A source that is VALUES and nothing else.
fn plain_values(query: &Query) -> Option<&Values> {
    let bare = query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && query.locks.is_empty()
        && query.for_clause.is_none()
        && query.settings.is_none()
        && query.format_clause.is_none()
        && query.pipe_operators.is_empty();
    match &*query.body {
        SetExpr::Values(values) if bare && !values.explicit_row => Some(values),
        _ => None,
    }
}

/// The word DEFAULT in place of a value.
fn is_default(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(i) if i.quote_style.is_none() && fold(&i.value, false) == "default")
}

fn bare_parameter(expr: &Expr) -> Option<u16> {
    match strip(expr) {
        Expr::Value(value) => match &value.value {
            Value::Placeholder(text) => placeholder(text),
            _ => None,
        },
        _ => None,
    }
}

/// The longest text that a varchar(n) stores as it is; other modifiers round, and are refused.
fn stored_chars(relation: &Relation, column: usize) -> Result<Option<usize>, Refusal> {
    let info = &relation.columns[column];
    match (info.typmod, info.type_oid) {
        (-1, _) => Ok(None),
        (typmod, 1043) => Ok(usize::try_from(typmod - 4).ok()),
        _ => Err(about(Reason::InsertKey, relation)),
    }
}
