//! The query that fetches the rows of one FROM entry: the columns that the statement names, and the conditions that
//! are about this table alone, or about reference tables that it is joined with.

use mothership_sql::quote;
use std::collections::{BTreeMap, BTreeSet};

use sqlparser::ast::{ObjectName, TableAlias};
use sqlparser::tokenizer::Location;

use crate::decide::keyed_by;
use crate::documents;
use crate::names::folded;
use crate::parens;
use crate::refuse::{Reason, Refusal};
use crate::scope::{Analysis, Source};
use mothership_catalog::{Handed, Relation};

use super::narrow::is_exchanged;
use super::notes::{Computed, Read};
use super::{BOOL, Fragment, Holders, Narrowing, TEXT};

/// The FROM entries of a statement by their places, each with its name and alias.
pub type Entries = BTreeMap<Location, (ObjectName, Option<TableAlias>)>;

/// A fragment and what its stand-in must know.
pub struct Made<'r> {
    /// What is fetched.
    pub fragment: Fragment,
    /// The table or view.
    pub relation: &'r Relation,
    /// Under which the statement knows the entry.
    pub alias: String,
    /// Of the stand-in.
    pub columns: Vec<Fetched>,
    /// Where they are in the relation.
    pub positions: Vec<usize>,
    /// What is fetched for them.
    pub list: Vec<String>,
}

/// A column of a fragment.
pub struct Fetched {
    /// Its name in the stand-in, before the alias.
    pub name: String,
    /// Its name in the statement.
    pub known: String,
    /// Its type.
    pub handed: Handed,
}

/// The fragment of one place, with its columns: those that `text` names, which is the statement without what the
/// fragments have settled, in lower case.
pub fn of<'n>(
    analysis: &Analysis<'n>,
    (text, entries): (&str, &Entries),
    reads: &[Read<'n>],
    (name, alias): (&ObjectName, Option<&TableAlias>),
    why: &Refusal,
) -> Result<Made<'n>, Refusal> {
    let read = &reads[0];
    let instance = &analysis.instances[read.instance];
    let relation: &'n Relation = match (read.view, &instance.source) {
        (Some(view), _) if view.computed == Computed::Apart => view.relation,
        (None, Source::Sharded(relation, _) | Source::Reference(relation)) => relation,
        (None, Source::Home(name)) => match analysis.at_home(name) {
            Some(relation) => relation,
            None => return Err(why.clone()),
        },
        _ => return Err(why.clone()),
    };
    // The names under which the statement knows the columns.
    if !instance.complete || instance.columns.len() != relation.columns.len() {
        return Err(why.clone());
    }
    let whole = analysis.notes.stars
        || alias.is_some_and(|alias| !alias.columns.is_empty())
        || analysis
            .notes
            .rows
            .iter()
            .any(|(_, row)| reads.iter().any(|read| read.instance == *row));
    let mut fetched = Vec::new();
    let mut positions = Vec::new();
    let mut elements = Vec::new();
    let mut list = Vec::new();
    let entry_name = entry_name(relation, alias);
    let entry = quote::identifier(&entry_name);
    let columns = relation.columns.iter().zip(&instance.columns);
    for (position, (column, known)) in columns.enumerate() {
        if !whole && !is_named(text, &known.name) {
            continue;
        }
        if column.handed.loses_xml {
            return Err(within_xml(&column.name));
        }
        let as_text = column.handed.as_text;
        let cast = if as_text { "::text" } else { "" };
        elements.push(if as_text { TEXT } else { column.type_oid });
        list.push(format!("{entry}.{}{cast}", quote::identifier(&known.name)));
        positions.push(position);
        fetched.push(Fetched {
            name: column.name.clone(),
            known: known.name.clone(),
            handed: column.handed.clone(),
        });
    }
    if fetched.is_empty() {
        // The rows still count.
        list.push("true".to_owned());
        elements.push(BOOL);
        fetched.push(Fetched {
            name: "__mothership_row".to_owned(),
            known: String::new(),
            handed: Handed::plain("boolean"),
        });
    }
    let mut sql = format!(
        "SELECT {} FROM {}",
        list.join(", "),
        parens::relation(name, alias)?
    );
    let documents = analysis.is_documents(read.instance);
    let relation_text = parens::relation(name, alias)?;
    let mut filters = match documents {
        true => documents::narrowing(analysis, &relation_text, filters(analysis, read.instance)?),
        false => filters(analysis, read.instance)?,
    };
    if let [read] = reads
        && read.view.is_none()
        && !documents
    {
        let mut seen = BTreeSet::from([read.instance]);
        filters.extend(by_references(
            analysis,
            entries,
            read.instance,
            &entry,
            &mut seen,
        )?);
    }
    let starred = |read: &Read<'_>| analysis.notes.unseen_stars.contains(&read.instance);
    if !whole && !documents && reads.iter().any(starred) {
        // PostgreSQL checks the rights on all columns, and leaves the rest out when it plans.
        filters.push(format!("(({entry}.*) IS NULL OR true)"));
    }
    if !filters.is_empty() {
        sql.push_str(" WHERE ");
        sql.push_str(&filters.join(" AND "));
    }
    let keys = || {
        let keys = reads.iter();
        keys.filter_map(|read| keyed_by(analysis, read.instance))
    };
    let of = match (read.view, &instance.source) {
        (Some(_), _) => Holders::All,
        (None, Source::Sharded(..)) => Holders::Keys(keys().collect()),
        (None, _) => Holders::Home,
    };
    Ok(Made {
        fragment: Fragment {
            table: relation.name.clone(),
            sql,
            of,
            elements,
            types: fetched
                .iter()
                .map(|column| column.handed.sent_as())
                .collect(),
            narrowing: Narrowing {
                filtered: !filters.is_empty(),
                by: Vec::new(),
            },
            writes: false,
            locks: None,
        },
        relation,
        alias: entry_name,
        columns: fetched,
        positions,
        list,
    })
}

/// The refusal of a column that has XML within.
pub fn within_xml(column: &str) -> Refusal {
    let detail = format!("column {column} has XML within, which would lose its declaration");
    Refusal::about(Reason::GatherDiffers, detail)
}

fn entry_name(relation: &Relation, alias: Option<&TableAlias>) -> String {
    match alias {
        Some(alias) => folded(&alias.name),
        None => relation.name.name.clone(),
    }
}

/// Whether a text may name a column. It may also say yes of a part of a longer name.
pub fn is_named(text: &str, column: &str) -> bool {
    let name = column.to_lowercase();
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    // It would be written with the quote doubled.
    name.contains('"')
        || text.match_indices(&*name).any(|(at, _)| {
            !text[..at].ends_with(is_part) && !text[at + name.len()..].starts_with(is_part)
        })
}

/// What must hold of the rows of an entry.
fn filters(analysis: &Analysis<'_>, instance: usize) -> Result<Vec<String>, Refusal> {
    let filters = analysis.notes.filters.iter();
    let own = filters.filter(|(of, _)| *of == instance);
    own.map(|(_, expr)| parens::expr(expr)).collect()
}

/// The same, as far as it follows from reference tables of which some rows do not matter: each shard has them.
fn by_references(
    analysis: &Analysis<'_>,
    entries: &Entries,
    instance: usize,
    entry: &str,
    seen: &mut BTreeSet<usize>,
) -> Result<Vec<String>, Refusal> {
    let mut found = Vec::new();
    for (position, column) in analysis.instances[instance].columns.iter().enumerate() {
        for (other, its) in analysis.sources_of((instance, position), false) {
            let Source::Reference(relation) = &analysis.instances[other].source else {
                continue;
            };
            let reads = analysis.notes.reads.iter();
            let reads: Vec<&Read<'_>> = reads.filter(|read| read.instance == other).collect();
            let [read] = reads.as_slice() else { continue };
            let again = analysis
                .notes
                .reads
                .iter()
                .filter(|r| r.place == read.place);
            let Some((name, alias)) = entries.get(&read.place) else {
                continue;
            };
            if !is_exchanged(analysis, (instance, position), (other, its))
                || read.view.is_some()
                || again.count() > 1
                || !seen.insert(other)
            {
                continue;
            }
            let theirs = quote::identifier(&entry_name(relation, alias.as_ref()));
            let mut conditions = filters(analysis, other)?;
            conditions.extend(by_references(analysis, entries, other, &theirs, seen)?);
            if conditions.is_empty() {
                continue;
            }
            found.push(format!(
                "{entry}.{} IN (SELECT {theirs}.{} FROM {} WHERE {})",
                quote::identifier(&column.name),
                quote::identifier(&analysis.instances[other].columns[its].name),
                parens::relation(name, alias.as_ref())?,
                conditions.join(" AND ")
            ));
        }
    }
    Ok(found)
}
