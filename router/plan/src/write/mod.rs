//! Plans of INSERT, UPDATE, DELETE and MERGE.
//!
//! The target of a write is an instance like any other, so the same facts say
//! where its rows are. A row to be stored is an instance as well, marked so that
//! its key must be known and not only restricted. Reference tables are written on every
//! shard, so whatever could come out differently there is refused.

mod change;
mod conflict;
mod documents;
mod fill;
mod insert;
mod merge;
mod moved;
mod recast;
mod rows;
mod source;
mod target;
mod update;

pub use insert::{omitted_default, without_key};
pub use target::home_triggers;

use std::sync::Arc;

use sqlparser::ast::{
    Expr, Ident, Insert, ObjectName, ObjectNamePart, Query, SetExpr, Statement, TableFactor, Update,
};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::decide::{finish, finish_from, keyed_by, on_one_shard};
use crate::functions::{self, Call};
use crate::gather::within::{NestedWrite, has_query};
use crate::gather::{self, Ending, Gather, Root, SYSTEM_COLUMNS, views};
use crate::names::{Keyed, Names, fold, folded};
use crate::parens;
use crate::parse::Parsed;
use crate::query::{Ctes, Local};
use crate::read::{explained, may_lead_apart, parsed};
use crate::refuse::{Reason, Refusal, not_understood, refuse};
use crate::scope::{Analysis, LeftToSequences, Source};
use crate::slots::Text;
use crate::touches::{Touches, touches};
use crate::visit::any_expr;
use crate::{
    LockScope, MaxChars, Merge, Plan, PlanContext, Role, SameSharded, Scatter, Single, Target,
    utility,
};
use mothership_catalog::{DefaultKind, Name, Relation};

use merge::{Merged, merge_gathered};
use moved::moved;
use rows::{Rows, split};

/// What walking a write gave.
struct Written {
    /// The instance that is written, or that stands for the stored rows.
    target: usize,
    /// Whether each shard may do its part.
    local: Local,
    /// The rows of a VALUES list into a sharded table.
    rows: Option<Rows>,
    /// Of an INSERT: the columns that are given.
    positions: Option<Vec<usize>>,
    /// Of a MERGE.
    merged: Option<Merged>,
}

/// Plans a write.
pub fn plan(names: &Names<'_>, text: &Text<'_>, context: &PlanContext) -> Result<Plan, Refusal> {
    if !text.mentions(names) {
        text.home_triggers(names)?;
        return Ok(utility::home_write(names, text.to_cut(), context));
    }
    let parsed = parsed(text, context)?;
    if has_uneven_rows(&parsed.statement) {
        return Ok(utility::home("its rows are of different lengths"));
    }
    let again = || planned((names, text, context), self::parsed(text, context)?);
    let computed = |why: &Refusal| match &parsed.statement {
        Statement::Insert(_) => documents::computed((names, text, context), &parsed, why),
        _ => change::plan((names, text, context), &parsed, why),
    };
    let is_of_one_shard = names_what_is_of_one_shard(&parsed.tokens);
    if let Some(plan) = crate::documents::write((names, text, context), &parsed, again, computed)? {
        return Ok(plan);
    }
    let merges = matches!(parsed.statement, Statement::Merge(_));
    if merges && names.mentions_documents(text.to_cut()) {
        return refuse(Reason::DocumentsStatement);
    }
    match planned((names, text, context), parsed)? {
        Plan::Scatter(_) if is_of_one_shard => refuse(Reason::SystemColumn),
        plan => Ok(plan),
    }
}

/// Whether a write has the name of a system column, or of a type whose values are numbers of one server's objects. What
/// RETURNING shows of them decides nothing.
fn names_what_is_of_one_shard(tokens: &[TokenWithSpan]) -> bool {
    let mut depth = 0_usize;
    for token in tokens {
        match &token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            Token::Word(word) => {
                let name = fold(&word.value, word.quote_style.is_some());
                if depth == 0 && word.quote_style.is_none() && name == "returning" {
                    return false;
                }
                if SYSTEM_COLUMNS.contains(&&*name) || OBJECT_TYPES.contains(&&*name) {
                    return true;
                }
            }
            _ => {}
        }
    }
    false
}

/// <https://www.postgresql.org/docs/current/datatype-oid.html>
const OBJECT_TYPES: [&str; 11] = [
    "regclass",
    "regcollation",
    "regconfig",
    "regdictionary",
    "regnamespace",
    "regoper",
    "regoperator",
    "regproc",
    "regprocedure",
    "regrole",
    "regtype",
];

fn planned(
    (names, text, context): (&Names<'_>, &Text<'_>, &PlanContext),
    parsed: Parsed,
) -> Result<Plan, Refusal> {
    if let Some(fill) = filled((names, text, context), &parsed)? {
        return Ok(fill);
    }
    walked((names, text, context), parsed, 0)
}

/// The plan of a statement with INSERTs whose values the router has to make, if it has any.
///
/// # Errors
/// If the text is without its literals.
pub fn filled(
    (names, text, context): (&Names<'_>, &Text<'_>, &PlanContext),
    parsed: &Parsed,
) -> Result<Option<Plan>, Refusal> {
    let fill = fill::fill(names, text, context, parsed)?;
    Ok(fill.map(Plan::Fill))
}

/// Whether an INSERT lists rows of different lengths. PostgreSQL refuses them before it does anything, and says where in
/// the whole text; on shards each part could be even.
fn has_uneven_rows(statement: &Statement) -> bool {
    let insert = match statement {
        Statement::Insert(insert) => insert,
        Statement::Query(query) => match &*query.body {
            SetExpr::Insert(Statement::Insert(insert)) => insert,
            _ => return false,
        },
        _ => return false,
    };
    let source = insert.source.as_deref();
    source.is_some_and(|source| insert::plain_values(source).is_some_and(insert::is_uneven))
}

/// Plans a parsed write. `depth` counts how often views have become part of it.
fn walked<'n>(
    (names, text, context): (&'n Names<'n>, &Text<'_>, &'n PlanContext),
    parsed: Parsed,
    depth: u64,
) -> Result<Plan, Refusal> {
    let mut analysis = Analysis::of(text, names, context);
    analysis.placeholders.clone_from(&parsed.placeholders);
    let plan = analysed(&mut analysis, (names, text, context), parsed, depth)?;
    on_one_shard(plan, analysis.seen.fires_once)
}

fn analysed<'n>(
    analysis: &mut Analysis<'n>,
    (names, text, context): (&'n Names<'n>, &Text<'_>, &'n PlanContext),
    parsed: Parsed,
    depth: u64,
) -> Result<Plan, Refusal> {
    let ctes = Ctes::default();
    let expanded = |analysis: &Analysis<'_>, refused: Refusal| match views::expanded_write(
        analysis, &parsed, depth,
    ) {
        Some(parsed) => walked((names, text, context), parsed, depth + 1),
        None => Err(refused),
    };
    if let Statement::Query(query) = &parsed.statement {
        // WITH before a write.
        if matches!(*query.body, SetExpr::Insert(_)) {
            analysis.sequences = LeftToSequences::Made;
        }
        let output = analysis.query(query, None, &ctes)?;
        explained(analysis, names, &parsed)?;
        let finished = finish(analysis, output.over_shards(), None);
        let must_be_gathered = behind_left_to_sequences(analysis, query)
            .or_else(|| behind_changes_documents(analysis, query));
        if let Some(why) = must_be_gathered {
            return match finished {
                Err(refusal) if !gather::helps(refusal.reason) => Err(refusal),
                _ => {
                    let gathered = gathered_behind(analysis, &parsed, query, why)?;
                    Ok(Plan::Gather(Arc::new(gathered)))
                }
            };
        }
        let mut targets = analysis.notes.within.iter().map(|write| write.target);
        let finished = match targets.any(|target| analysis.is_documents(target)) {
            true => finished,
            false => apart_from_documents(analysis, finished),
        };
        return match finished {
            Err(why) if gather::helps(why.reason) => {
                match gathered_behind(analysis, &parsed, query, why) {
                    Ok(gather) => Ok(Plan::Gather(Arc::new(gather))),
                    Err(refused) => expanded(analysis, refused),
                }
            }
            Ok(Plan::Single(single)) if may_lead_apart(&single) => {
                let why = single.otherwise.clone();
                let gather = gathered_behind(analysis, &parsed, query, why).ok();
                Ok(Plan::Single(Single {
                    gather: gather.map(Arc::new),
                    ..single
                }))
            }
            plan => plan,
        };
    }
    if !matches!(parsed.statement, Statement::Insert(_)) {
        analysis.rows_depth = 0;
    }
    if matches!(parsed.statement, Statement::Insert(_)) {
        analysis.sequences = LeftToSequences::Made;
    }
    let written = analysis.write(&parsed.statement, &ctes)?;
    explained(analysis, names, &parsed)?;
    if let Some(why) = left_to_sequences(analysis, &parsed, &written) {
        // What may not happen beside sharded tables is the same as for any other write.
        match finish(analysis, written.local.clone(), Some(written.target)) {
            Err(refusal) if !gather::helps(refusal.reason) => return Err(refusal),
            _ => {
                let gathered = gathered(analysis, &parsed, &written, why)?;
                return Ok(Plan::Gather(Arc::new(gathered)));
            }
        }
    }
    if matches!(
        analysis.instances[written.target].source,
        Source::Reference(_)
    ) {
        return everywhere(analysis, &written).or_else(|why| {
            match gathered(analysis, &parsed, &written, why) {
                Ok(gather) => Ok(Plan::Gather(Arc::new(gather))),
                Err(refused) => expanded(analysis, refused),
            }
        });
    }
    if let Some(gather) = moved(analysis, &parsed, &written) {
        // What may not happen beside sharded tables is the same as for any other write.
        finish(analysis, written.local, Some(written.target))?;
        return Ok(Plan::Gather(Arc::new(gather)));
    }
    let touches = match (&parsed.statement, &written.rows) {
        (Statement::Update(_) | Statement::Delete(_), None) | (Statement::Insert(_), Some(_)) => {
            touches(analysis, Some(written.target), &parsed)
        }
        _ => Touches::Anything,
    };
    let plan = match written.rows {
        Some(ref rows) => split(analysis, text.to_cut(), &parsed, rows, &written),
        None => {
            let target = written.target;
            let roots = match &written.merged {
                Some(merged) => merged.roots(analysis, target),
                None => vec![target],
            };
            let plan = finish_from(analysis, written.local.clone(), Some(target), roots);
            match analysis.is_documents(target) {
                true => plan,
                false => apart_from_documents(analysis, plan),
            }
        }
    };
    let plan = match plan {
        Err(why) if written.rows.is_none() && gather::helps(why.reason) => {
            match gathered(analysis, &parsed, &written, why) {
                Ok(gather) => Plan::Gather(Arc::new(gather)),
                Err(refused) => return expanded(analysis, refused),
            }
        }
        Ok(Plan::Single(single)) if may_lead_apart(&single) => {
            let why = single.otherwise.clone();
            let gather = gathered(analysis, &parsed, &written, why).ok();
            Plan::Single(Single {
                gather: gather.map(Arc::new),
                ..single
            })
        }
        plan => plan?,
    };
    Ok(plan.touching(touches))
}

/// The plan of a write to PostgreSQL that reads documents, too. Even where no row of theirs is asked for, the shard of the
/// write does not know their table.
fn apart_from_documents(
    analysis: &Analysis<'_>,
    plan: Result<Plan, Refusal>,
) -> Result<Plan, Refusal> {
    match plan {
        Ok(_) if analysis.has_documents() => refuse(Reason::Documents),
        plan => plan,
    }
}

/// The refusal of an INSERT of a query that leaves columns of a sharded table to a sequence, if they are not made.
fn left_to_sequences(
    analysis: &Analysis<'_>,
    parsed: &Parsed,
    written: &Written,
) -> Option<Refusal> {
    let Statement::Insert(insert) = &parsed.statement else {
        return None;
    };
    if insert.source.is_none() || written.rows.is_some() {
        return None;
    }
    left_to_sequence(analysis, written.target, written.positions.as_deref())
}

/// The same of an INSERT behind WITH.
fn behind_left_to_sequences(analysis: &Analysis<'_>, query: &Query) -> Option<Refusal> {
    let SetExpr::Insert(Statement::Insert(insert)) = &*query.body else {
        return None;
    };
    let within = analysis.notes.within.iter();
    let behind = within.rev().find(|write| write.cte.is_none())?;
    if insert.source.is_none() || !behind.rows.is_empty() {
        return None;
    }
    left_to_sequence(analysis, behind.target, behind.positions.as_deref())
}

/// The refusal of an UPDATE or DELETE of documents behind WITH: MongoDB has no command with one.
fn behind_changes_documents(analysis: &Analysis<'_>, query: &Query) -> Option<Refusal> {
    let (SetExpr::Update(_) | SetExpr::Delete(_)) = &*query.body else {
        return None;
    };
    let within = analysis.notes.within.iter();
    let behind = within.rev().find(|write| write.cte.is_none())?;
    match &analysis.instances[behind.target].source {
        Source::Sharded(relation, _) if analysis.is_documents(behind.target) => {
            Some(Refusal::of_table(Reason::DocumentsWrite, &relation.name))
        }
        _ => None,
    }
}

/// The refusal of storing rows in a sharded table without a value for a column that a sequence fills.
fn left_to_sequence(
    analysis: &Analysis<'_>,
    target: usize,
    positions: Option<&[usize]>,
) -> Option<Refusal> {
    let (Source::Sharded(relation, _), Some(positions)) =
        (&analysis.instances[target].source, positions)
    else {
        return None;
    };
    let (_, column) = made(relation, positions).into_iter().next()?;
    let column = &relation.columns[column].name;
    let reason = Reason::InsertSequence;
    Some(Refusal::of_column(reason, &relation.name, column))
}

/// The sequences that fill columns which are not among these, each with the column's position.
fn made<'r>(relation: &'r Relation, positions: &[usize]) -> Vec<(&'r Name, usize)> {
    let columns = relation.columns.iter().enumerate();
    let left_out = columns.filter(|(at, _)| !positions.contains(at));
    left_out
        .filter_map(|(at, column)| Some((insert::next_of(column)?, at)))
        .collect()
}

/// The defaults that ask for nothing but the time, of columns that are not among these, each with the column's position:
/// each shard would ask its own clock.
fn times<'r>(relation: &'r Relation, positions: &[usize]) -> Vec<(&'r str, usize)> {
    let columns = relation.columns.iter().enumerate();
    let left_out = columns.filter(|(at, _)| !positions.contains(at));
    let timed = left_out.filter_map(|(at, column)| match &column.default {
        DefaultKind::Stable(default) if insert::is_plain_time(default) => {
            Some((default.as_str(), at))
        }
        _ => None,
    });
    timed.collect()
}

/// A write that needs rows of other shards than those that it is done on.
fn gathered(
    analysis: &Analysis<'_>,
    parsed: &Parsed,
    written: &Written,
    why: Refusal,
) -> Result<Gather, Refusal> {
    let source = &analysis.instances[written.target].source;
    if let Statement::Insert(insert) = &parsed.statement
        && let (Some(query), None) = (&insert.source, &written.rows)
        && !matches!(source, Source::Home(_))
    {
        let of = (written.target, written.positions.as_deref());
        return insert_gathered(analysis, parsed, (insert, query), of, why);
    }
    if let (Statement::Merge(merge), Some(merged), Source::Sharded(..)) =
        (&parsed.statement, &written.merged, source)
        && merged.outer()
    {
        return merge_gathered(analysis, parsed, (merge, merged), written.target, why);
    }
    let ending = match (&parsed.statement, source) {
        (
            Statement::Update(_) | Statement::Delete(_) | Statement::Merge(_),
            Source::Sharded(..),
        ) => {
            let by = keyed_by(analysis, written.target).ok_or_else(|| why.clone())?;
            gather::Written::Owners(Box::new(by))
        }
        (Statement::Delete(_) | Statement::Merge(_), Source::Reference(_))
            if only_harmless(analysis) =>
        {
            gather::Written::Everywhere
        }
        // It may find several rows to take its values from, and take those of another one on each shard.
        (Statement::Update(update), Source::Reference(_))
            if only_harmless(analysis) && takes_own_values(update) =>
        {
            gather::Written::Everywhere
        }
        (
            Statement::Update(_)
            | Statement::Delete(_)
            | Statement::Insert(_)
            | Statement::Merge(_),
            Source::Home(_),
        ) => gather::Written::Home,
        _ => return Err(why),
    };
    let root = Root::Write(&parsed.statement, written.target);
    gather::plan(analysis, root, parsed, Ending::Write(ending), why)
}

/// Whether an UPDATE computes what it sets of the row's own columns.
fn takes_own_values(update: &Update) -> bool {
    let TableFactor::Table { name, alias, .. } = &update.table.relation else {
        return false;
    };
    let last = name.0.last().and_then(|part| part.as_ident());
    let entry = alias.as_ref().map(|alias| &alias.name).or(last).map(folded);
    let is_own = |expr: &Expr| match expr {
        Expr::Identifier(_) => update.from.is_none(),
        Expr::CompoundIdentifier(parts) => {
            update.from.is_none()
                || matches!(parts.as_slice(), [table, _] if Some(folded(table)) == entry)
        }
        _ => true,
    };
    update.assignments.iter().all(|assignment| {
        !has_query(&assignment.value) && !any_expr(&assignment.value, |expr| !is_own(expr))
    })
}

/// A write behind WITH.
fn gathered_behind(
    analysis: &Analysis<'_>,
    parsed: &Parsed,
    query: &Query,
    why: Refusal,
) -> Result<Gather, Refusal> {
    let within = analysis.notes.within.iter();
    let Some(behind) = within.rev().find(|write| write.cte.is_none()) else {
        return Err(why);
    };
    if analysis.is_documents(behind.target) && !matches!(*query.body, SetExpr::Insert(_)) {
        return change::behind(analysis, parsed, query, behind.target, why);
    }
    let source = &analysis.instances[behind.target].source;
    let ending = match (&*query.body, source) {
        (SetExpr::Insert(statement), Source::Sharded(..) | Source::Reference(_)) => {
            let Statement::Insert(insert) = statement else {
                return not_understood();
            };
            let of = (behind.target, behind.positions.as_deref());
            return match &insert.source {
                // What is behind the source may read a CTE, too, and the constants of VALUES have the types of columns.
                Some(source)
                    if !has_query(&insert.on)
                        && !has_query(&insert.returning)
                        && source.with.is_none()
                        && !matches!(*source.body, SetExpr::Values(_)) =>
                {
                    let source = Query {
                        with: query.with.clone(),
                        ..(**source).clone()
                    };
                    insert_gathered(analysis, parsed, (insert, &source), of, why)
                }
                _ => Err(why),
            };
        }
        (SetExpr::Update(_) | SetExpr::Delete(_), Source::Sharded(..)) => {
            let by = keyed_by(analysis, behind.target).ok_or_else(|| why.clone())?;
            gather::Written::Owners(Box::new(by))
        }
        (SetExpr::Delete(_), Source::Reference(_)) if only_harmless(analysis) => {
            gather::Written::Everywhere
        }
        (SetExpr::Update(Statement::Update(update)), Source::Reference(_))
            if only_harmless(analysis) && takes_own_values(update) =>
        {
            gather::Written::Everywhere
        }
        (SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_), Source::Home(_)) => {
            gather::Written::Home
        }
        _ => return Err(why),
    };
    let root = Root::Query(query);
    gather::plan(analysis, root, parsed, Ending::Write(ending), why)
}

/// INSERT of what a query gives, which runs first.
fn insert_gathered(
    analysis: &Analysis<'_>,
    parsed: &Parsed,
    (insert, query): (&Insert, &Query),
    (target, positions): (usize, Option<&[usize]>),
    why: Refusal,
) -> Result<Gather, Refusal> {
    let Some(positions) = positions else {
        return Err(why);
    };
    if analysis.is_documents(target) {
        let of = (target, positions);
        return documents::insert_gathered(analysis, parsed, (insert, query), of, why);
    }
    let (relation, sharded) = match &analysis.instances[target].source {
        Source::Sharded(relation, keyed) => (*relation, Some(keyed)),
        Source::Reference(relation) if only_harmless(analysis) => (*relation, None),
        _ => return Err(why),
    };
    // What is left to the time and to sequences comes behind what the query gives.
    let (times, made) = match sharded {
        Some(_) => (times(relation, positions), made(relation, positions)),
        None => (Vec::new(), Vec::new()),
    };
    let given = positions.len();
    let behind = times.iter().map(|(_, at)| *at);
    let behind = behind.chain(made.iter().map(|(_, at)| *at));
    let all: Vec<usize> = positions.iter().copied().chain(behind).collect();
    let positions = all.as_slice();
    let (mut key, mut max_chars) = (Vec::new(), Vec::new());
    for column in sharded.iter().flat_map(|keyed| &keyed.columns) {
        let column = column.ok_or_else(|| why.clone())?;
        let at = positions.iter().position(|p| *p == column);
        key.push(at.ok_or_else(|| why.clone())?);
        max_chars.push(rows::stored_chars(relation, column)?);
    }
    let columns = handed(relation, positions)?;
    let texts: Vec<bool> = columns.iter().map(|column| column.cast.is_some()).collect();
    // Without a list of columns the query fills the first ones.
    let listed = match insert.columns.is_empty() && positions.len() > given {
        true => 0,
        false => given,
    };
    let names = positions[listed..]
        .iter()
        .map(|at| Ident::with_quote('"', &relation.columns[*at].name));
    let names = names.map(|name| ObjectName(vec![ObjectNamePart::Identifier(name)]));
    let mut insert = insert.clone();
    insert.columns.extend(names);
    let (head, tail) = parens::around_source(&insert)?;
    let store = gather::Store {
        shown: None,
        documents: false,
        made: made.len(),
        sharded: sharded.map(|keyed| SameSharded(Arc::clone(&keyed.sharded))),
        key,
        max_chars: MaxChars(max_chars),
        nulls: gather::Nulls::Refused,
        verb: gather::Verb::Own,
        head,
        tail,
        columns,
    };
    let query = source::typed(query, analysis.names.catalog, relation, positions);
    let ending = Ending::Store(Box::new(store));
    let root = Root::Query(&query);
    let mut gather = gather::plan(analysis, root, parsed, ending, why.clone())?;
    if positions.len() > given {
        let catalog = analysis.names.catalog;
        let times = times
            .iter()
            .map(|(default, at)| source::default_value(catalog, default, &relation.columns[*at]));
        let next = made
            .iter()
            .map(|(sequence, at)| source::next_value(catalog, sequence, &relation.columns[*at]));
        let values: Option<Vec<String>> = times.chain(next).collect();
        gather.residue = source::with_values(gather.residue, given, &values.ok_or(why)?);
        // The sequences are there.
        gather.home |= !made.is_empty();
    }
    gather.residue = source::with_texts(gather.residue, &texts);
    Ok(gather)
}

/// What becomes of rows without a key: where the table refuses them, any shard may.
fn nulls(relation: &Relation, keyed: &Keyed) -> gather::Nulls {
    let mut columns = keyed.columns.iter().flatten();
    match columns.all(|column| relation.columns[*column].not_null) {
        true => gather::Nulls::Anywhere,
        false => gather::Nulls::Refused,
    }
}

/// How the columns of a table that are filled are handed over.
fn handed(relation: &Relation, positions: &[usize]) -> Result<Vec<gather::Filled>, Refusal> {
    let mut columns = Vec::new();
    for position in positions {
        let Some(column) = relation.columns.get(*position) else {
            // PostgreSQL will say that there is no such column.
            columns.push(gather::Filled {
                oid: gather::TEXT,
                name: "text".to_owned(),
                cast: None,
            });
            continue;
        };
        if column.handed.loses_xml {
            return Err(gather::within_xml(&column.name));
        }
        let base = column.handed.base.clone();
        columns.push(match column.handed.as_text {
            true => gather::Filled {
                oid: gather::TEXT,
                name: "text".to_owned(),
                cast: Some(base),
            },
            false => gather::Filled {
                oid: column.type_oid,
                name: base,
                cast: None,
            },
        });
    }
    Ok(columns)
}

/// Whether nothing that the statement calls could differ between shards.
fn only_harmless(analysis: &Analysis<'_>) -> bool {
    let mut calls = analysis.seen.calls.keys();
    calls.all(|call| *call == Call::Harmless)
}

/// A write of a reference table: the same on every shard, or not at all.
fn everywhere(analysis: &Analysis<'_>, written: &Written) -> Result<Plan, Refusal> {
    let refusal = |what: &str| Refusal::about(Reason::ReferenceWrite, what.to_owned());
    if let Some((_, name)) = analysis
        .seen
        .calls
        .iter()
        // The time is given to all as a value.
        .find(|(call, _)| **call > Call::Time)
    {
        return Err(refusal(&functions::told("function ", name)));
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
        locks: match analysis.seen.secured_by_copies {
            true => LockScope::SecuredCopies,
            false => LockScope::Copies,
        },
    }))
}

impl<'n> Analysis<'n> {
    /// A write inside WITH, or behind it.
    pub fn nested_write<'q>(
        &mut self,
        statement: &'q Statement,
        ctes: &Ctes<'q>,
    ) -> Result<(), Refusal> {
        let first = self.instances.len();
        let written = self.write(statement, ctes)?;
        let instances = first..self.instances.len();
        self.notes.within.push(NestedWrite {
            positions: written.positions,
            rows: written.rows.map_or_else(Vec::new, |rows| rows.conditions()),
            ..NestedWrite::new(statement, written.target, instances, &written.local)
        });
        self.seen.copies |= matches!(self.instances[written.target].source, Source::Reference(_));
        Ok(())
    }

    fn write<'q>(&mut self, statement: &'q Statement, ctes: &Ctes<'q>) -> Result<Written, Refusal> {
        match statement {
            Statement::Insert(insert) => self.insert(insert, ctes),
            Statement::Update(update) => self.update(update, ctes),
            Statement::Delete(delete) => self.delete(delete, ctes),
            Statement::Merge(merge) => self.merge(merge, ctes),
            _ => not_understood(),
        }
    }
}
