//! Plans statements on tables whose rows are documents: which of them MongoDB runs as one command, and for which of
//! them rows are gathered.
//!
//! [`mothership_documents::translate`] says whether a statement is one command. If it is not, PostgreSQL runs a query
//! on gathered rows. A condition on one table alone that MongoDB can evaluate narrows what is fetched, and PostgreSQL
//! checks all conditions again. A write that is no command is computed by PostgreSQL as well: `write::change` and
//! `write::documents` plan it, and refuse what cannot be done so (ADR 23).

use std::sync::Arc;

use sqlparser::ast::{FromTable, Statement, TableFactor, TableObject};
use sqlparser::tokenizer::Token;

use super::condition::Cond;
use super::names::{Names, Place, Resolved, fold, folded};
use super::parse::Parsed;
use super::refuse::{Reason, Refusal, refuse};
use super::scope::{Analysis, Locks, Source};
use super::slots::Text;
use super::{KeyedBy, Plan, PlanContext, Role, Single, Target, Touches};
use mothership_catalog::types::may_name;
use mothership_catalog::{Name, Relation};
use mothership_documents::Collection;

/// Tables of documents that a query names and does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hidden {
    /// There are none.
    None,
    /// There may be some, in a WITH that nothing refers to.
    Unread,
    /// There may be some, and a write.
    Unclear,
}

impl Names<'_> {
    /// What is declared of a table whose rows are documents.
    pub fn collection(&self, table: &Name) -> Option<&Arc<Collection>> {
        self.documents.get(table)
    }

    /// Whether a text may name such a table.
    pub fn mentions_documents(&self, text: &str) -> bool {
        if self.documents.is_empty() {
            return false;
        }
        let lower = text.to_lowercase();
        let is_named = |name: &Name| may_name(&lower, &name.name.to_lowercase());
        self.documents.keys().any(is_named)
    }
}

impl Names<'_> {
    /// Whether a query that was found to read no documents may name such a table in a WITH that nothing refers to: the
    /// shards that it goes to would not know it.
    pub(super) fn hidden_documents(&self, parsed: &Parsed) -> Hidden {
        if self.documents.is_empty() {
            return Hidden::None;
        }
        let words = parsed.tokens.iter().filter_map(|token| match &token.token {
            Token::Word(word) => Some(fold(&word.value, word.quote_style.is_some())),
            _ => None,
        });
        let words: Vec<_> = words.collect();
        let is_table = |word: &str| self.documents.keys().any(|name| name.name == word);
        let has = |wanted: &[&str]| words.iter().any(|word| wanted.contains(&&**word));
        if !has(&["with"]) || !words.iter().any(|word| is_table(word)) {
            return Hidden::None;
        }
        // A write within WITH is done whether anything refers to it or not.
        match has(&["insert", "update", "delete", "merge"]) {
            true => Hidden::Unclear,
            false => Hidden::Unread,
        }
    }
}

impl Analysis<'_> {
    /// Whether the rows of an instance are documents.
    pub fn is_documents(&self, instance: usize) -> bool {
        match &self.instances[instance].source {
            Source::Sharded(relation, _) => self.names.collection(&relation.name).is_some(),
            Source::Reference(_) | Source::Home(_) | Source::Derived | Source::Rows => false,
        }
    }

    /// Whether those of any are.
    pub fn has_documents(&self) -> bool {
        !self.names.documents.is_empty()
            && (0..self.instances.len()).any(|instance| self.is_documents(instance))
    }
}

/// The plan of a query that reads documents. `finished` is the one that it would have if all of its tables were
/// PostgreSQL's.
///
/// # Errors
/// [`Reason::Documents`], against which gathering helps, or a reason against which nothing does.
pub fn query(
    analysis: &Analysis<'_>,
    (text, parsed): (&Text<'_>, &Parsed),
    is_kept: bool,
    finished: Result<Plan, Refusal>,
) -> Result<Plan, Refusal> {
    unmasked(text)?;
    match analysis.seen.locks {
        Locks::No => {}
        Locks::Documents => return refuse(Reason::Documents),
        Locks::Apart | Locks::Within | Locks::Otherwise => return refuse(Reason::DocumentsLocks),
    }
    let one = match analysis.instances.as_slice() {
        [one] if !is_kept => match &one.source {
            Source::Sharded(relation, _) => Some(*relation),
            _ => None,
        },
        _ => None,
    };
    let Some(relation) = one.filter(|_| is_command(analysis.names, analysis.context, parsed))
    else {
        return refuse(Reason::Documents);
    };
    match (on_one(analysis.names, relation, Role::Replica), finished) {
        (Some(plan), _) => Ok(plan),
        // The rows of several shards are put one behind the other, or aggregates into one row.
        (None, Ok(plan @ (Plan::Single(_) | Plan::Scatter(_)))) => Ok(plan),
        (None, _) => refuse(Reason::Documents),
    }
}

/// The plan of a write to documents; `None` if its target is another table. `walked` is the one that it would have in
/// PostgreSQL, `computed` that of one that PostgreSQL computes.
///
/// # Errors
/// Why it is not done.
pub fn write(
    (names, text, context): (&Names<'_>, &Text<'_>, &PlanContext),
    parsed: &Parsed,
    walked: impl FnOnce() -> Result<Plan, Refusal>,
    computed: impl FnOnce(&Refusal) -> Result<Plan, Refusal>,
) -> Result<Option<Plan>, Refusal> {
    if names.documents.is_empty() {
        return Ok(None);
    }
    let Some(relation) = target(names, context, &parsed.statement) else {
        return Ok(None);
    };
    unmasked(text)?;
    let refused = || Refusal::of_table(Reason::DocumentsWrite, &relation.name);
    if !is_command(names, context, parsed) {
        return computed(&refused()).map(Some);
    }
    let role = Role::Primary("writes".to_owned());
    if let Some(plan) = on_one(names, relation, role) {
        return Ok(Some(plan));
    }
    match walked()? {
        plan @ (Plan::Single(_) | Plan::Scatter(_) | Plan::Split(_) | Plan::Fill(_)) => {
            Ok(Some(plan))
        }
        _ => Err(refused()),
    }
}

/// The plan of COPY FROM STDIN into documents. Where its rows belong is not known before they come, and they are stored
/// in one transaction.
///
/// # Errors
/// There may be no such transaction, or strings of the text mean something else there.
pub fn copied_in(
    names: &Names<'_>,
    relation: &Relation,
    sql: &str,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    if !context.standard_conforming_strings && sql.contains('\\') {
        return refuse(Reason::NotUnderstood);
    }
    let role = Role::Primary("copies".to_owned());
    on_one(names, relation, role)
        .ok_or_else(|| Refusal::of_table(Reason::DocumentsShards, &relation.name))
}

/// The table of documents that a statement writes.
fn target<'n>(
    names: &Names<'n>,
    context: &PlanContext,
    statement: &Statement,
) -> Option<&'n Relation> {
    let name = match statement {
        Statement::Insert(insert) => match &insert.table {
            TableObject::TableName(name) => name,
            _ => return None,
        },
        Statement::Update(update) => match &update.table.relation {
            TableFactor::Table { name, .. } => name,
            _ => return None,
        },
        Statement::Delete(delete) => {
            let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
            match &from.first()?.relation {
                TableFactor::Table { name, .. } => name,
                _ => return None,
            }
        }
        Statement::Merge(merge) => match &merge.table {
            TableFactor::Table { name, .. } => name,
            _ => return None,
        },
        _ => return None,
    };
    let parts = name.0.iter().map(|part| part.as_ident().map(folded));
    let parts: Vec<String> = parts.collect::<Option<_>>()?;
    match names.resolve(&parts, context) {
        Resolved::Relation(relation, _) if names.collection(&relation.name).is_some() => {
            Some(relation)
        }
        _ => None,
    }
}

/// A plan looks at the constants here: there is none for all texts of a shape.
fn unmasked(text: &Text<'_>) -> Result<(), Refusal> {
    match text.is_masked() {
        true => refuse(Reason::Documents),
        false => Ok(()),
    }
}

/// The way to the only shard of a table.
fn only_shard(names: &Names<'_>, relation: &Relation) -> Option<KeyedBy> {
    let Place::Sharded(keyed) = names.place(&relation.name) else {
        return None;
    };
    keyed.sharded.shards.single()?;
    Some(KeyedBy {
        table: relation.name.clone(),
        sharded: Arc::clone(&keyed.sharded),
        cond: Cond::Any,
        leaf: None,
        kept: Vec::new(),
        stored: None,
    })
}

/// The plan of what goes to the only shard of a table as it is.
fn on_one(names: &Names<'_>, relation: &Relation, role: Role) -> Option<Plan> {
    let by = only_shard(names, relation)?;
    Some(Plan::Single(Single {
        target: Target::Keys(vec![by]),
        role,
        fallback: None,
        gather: None,
        otherwise: Refusal::new(Reason::SeveralShards),
        unknown: Vec::new(),
        locks_copies: false,
        touches: Touches::Anything,
    }))
}

/// Of the conditions on an instance, as they are written, those that narrow what is fetched of its documents. Those that
/// MongoDB cannot decide are marked as such: it leaves out only rows of which they are certainly not true, and what is
/// left of the statement has to ask all of them again.
pub fn narrowing(analysis: &Analysis<'_>, entry: &str, filters: Vec<String>) -> Vec<String> {
    let (names, context) = (analysis.names, analysis.context);
    let is_read = |text: &str, read: Read| {
        let sql = format!("SELECT true FROM {entry} WHERE {text}");
        let parsed = super::parse::statement(&sql);
        parsed
            .is_ok_and(|parsed| is_read_by(read, names, context, &context.parameter_types, &parsed))
    };
    let mut narrowing: Vec<String> = Vec::new();
    for text in filters {
        let text = match is_read(&text, Read::Exactly) {
            true => Some(text),
            false => marked(&text).filter(|marked| is_read(marked, Read::Widely)),
        };
        let Some(text) = text else { continue };
        // A parameter may get another type here than there.
        let is_alone = narrowing.is_empty() || !text.contains('$');
        let beside = || format!("{} AND {text}", narrowing.join(" AND "));
        if is_alone || is_read(&beside(), Read::Widely) {
            narrowing.push(text);
        }
    }
    narrowing
}

/// Whether a text is one command of MongoDB, if its parameters have these types.
pub fn takes(names: &Names<'_>, context: &PlanContext, types: &[u32], sql: &str) -> bool {
    let parsed = super::parse::statement(sql);
    parsed.is_ok_and(|parsed| is_command_of(names, context, types, &parsed))
}

/// Whether a statement is one command of MongoDB.
fn is_command(names: &Names<'_>, context: &PlanContext, parsed: &Parsed) -> bool {
    is_command_of(names, context, &context.parameter_types, parsed)
}

fn is_command_of(names: &Names<'_>, context: &PlanContext, types: &[u32], parsed: &Parsed) -> bool {
    is_read_by(Read::Exactly, names, context, types, parsed)
}

/// How MongoDB reads conditions.
#[derive(Clone, Copy)]
enum Read {
    /// As PostgreSQL does.
    Exactly,
    /// Those that are marked may select more rows: only where they are asked again.
    Widely,
}

#[cfg(feature = "mongo")]
fn is_read_by(
    read: Read,
    names: &Names<'_>,
    context: &PlanContext,
    types: &[u32],
    parsed: &Parsed,
) -> bool {
    use mothership_documents::translate::{fetching, translate};
    let table = |schema: Option<&str>, table: &str| {
        let parts: Vec<String> = schema
            .into_iter()
            .chain([table])
            .map(str::to_owned)
            .collect();
        match names.resolve(&parts, context) {
            Resolved::Relation(relation, _) => names.collection(&relation.name).cloned(),
            _ => None,
        }
    };
    match read {
        Read::Exactly => translate(&parsed.statement, &table, types).is_ok(),
        Read::Widely => fetching(&parsed.statement, &table, types).is_ok(),
    }
}

/// A condition of which PostgreSQL will ask again.
#[cfg(feature = "mongo")]
fn marked(condition: &str) -> Option<String> {
    Some(mothership_documents::translate::marked(condition))
}

#[cfg(not(feature = "mongo"))]
fn is_read_by(_: Read, _: &Names<'_>, _: &PlanContext, _: &[u32], _: &Parsed) -> bool {
    false
}

#[cfg(not(feature = "mongo"))]
fn marked(_: &str) -> Option<String> {
    None
}
