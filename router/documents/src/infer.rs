//! Proposes the declaration of a table for a collection.
//!
//! In come some of its documents and its indexes, out goes a `[[table]]` in TOML. What could not be decided is a
//! comment there, and so is what follows from the documents that were seen but need not hold for others. A type is
//! proposed only if it reads all the values that were seen.

mod decide;
mod name;
mod seen;

use std::collections::BTreeSet;
use std::fmt::Write;

use bson::{RawBsonRef, RawDocumentBuf};

use super::Kind;
use super::drift::{Traits, reads};
use super::field::{Field, field};
use super::index::Index;
use super::rest::Rest;
use decide::{Decision, decide, is_name};
use seen::{Fields, Values};

/// The most columns that a table of PostgreSQL has.
const MAX_COLUMNS: usize = 1600;

/// What is known of a collection.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The shard that has it.
    pub shard: &'a str,
    /// Its name.
    pub collection: &'a str,
    /// What it is beside a plain collection.
    pub traits: &'a Traits,
    /// Its indexes.
    pub indexes: &'a [Index],
    /// Some of its documents, none twice.
    pub sample: &'a [RawDocumentBuf],
}

/// A column that is proposed.
struct Column {
    name: String,
    path: Vec<String>,
    kind: Kind,
    /// In how many documents it is there and not null.
    present: usize,
    remarks: Vec<String>,
}

/// The table, in TOML.
pub fn infer(subject: &Subject<'_>) -> String {
    let mut fields = Fields::default();
    subject
        .sample
        .iter()
        .for_each(|document| fields.add(document));
    let mut draft = Draft {
        subject,
        columns: Vec::new(),
        undecided: Vec::new(),
        taken: BTreeSet::new(),
    };
    draft.add_all(&fields, &mut Vec::new());
    draft.written()
}

struct Draft<'a> {
    subject: &'a Subject<'a>,
    columns: Vec<Column>,
    undecided: Vec<String>,
    taken: BTreeSet<String>,
}

impl Draft<'_> {
    fn add_all(&mut self, fields: &Fields, path: &mut Vec<String>) {
        for (name, values) in &fields.fields {
            path.push(name.clone());
            self.add(values, path);
            path.pop();
        }
    }

    fn add(&mut self, values: &Values, path: &mut Vec<String>) {
        let is_id = path == &["_id"];
        let shown = path.join(".");
        if !path.iter().all(|name| is_name(name)) {
            let what = format!(
                "field {shown:?}: no path may have such a name ({})",
                values.told()
            );
            return self.undecided.push(what);
        }
        let (kind, mut remarks) = match decide(values) {
            // What is unique is the document, whose fields' order counts.
            Decision::Nested if is_id => (Kind::Jsonb, vec!["a document".to_owned()]),
            // An integer can be a key.
            Decision::Column(Kind::Float8, _) if is_id && self.is_read(path, &Kind::Int8) => {
                (Kind::Int8, vec![values.told()])
            }
            Decision::Nested => return self.add_all(&values.inside, path),
            Decision::Column(kind, remarks) => (kind, remarks),
            Decision::Undecided(why) => {
                return self.undecided.push(format!("field {shown:?}: {why}"));
            }
        };
        let kind = match self.is_read(path, &kind) {
            true => kind,
            false if self.is_read(path, &Kind::Jsonb) => {
                remarks.push(format!("{} does not read all values", kind.written()));
                Kind::Jsonb
            }
            false => {
                let types = values.told();
                let what = format!("field {shown:?}: no type reads all of its values ({types})");
                return self.undecided.push(what);
            }
        };
        if self.columns.len() == MAX_COLUMNS {
            let what = format!("field {shown:?}: a table has {MAX_COLUMNS} columns at most");
            return self.undecided.push(what);
        }
        let name = match is_id {
            true => "id".to_owned(),
            false => name::plain(&path.join("_")),
        };
        self.columns.push(Column {
            name: name::free(&name, &mut self.taken),
            path: path.clone(),
            kind,
            present: values.count(),
            remarks,
        });
    }

    /// Whether a column of this type reads all that was seen.
    fn is_read(&self, path: &[String], kind: &Kind) -> bool {
        let mut sample = self.subject.sample.iter();
        sample.all(|document| match field(document, path) {
            Field::Value(value) => reads(kind, value).is_ok(),
            Field::Missing => true,
            Field::Blocked(_) => false,
        })
    }

    fn written(&self) -> String {
        let Subject {
            shard,
            collection,
            traits,
            sample,
            ..
        } = self.subject;
        let table = name::plain(collection);
        let key = self.key();
        let mut out = format!(
            "# Proposed from {} documents of collection {collection:?} and its indexes: what was seen, not what may \
             come.\n",
            sample.len()
        );
        if let Some(special) = &traits.special {
            let _ = writeln!(out, "# It is a {special}: writes to it fail.");
        }
        if let Some(collation) = &traits.collation {
            let _ = writeln!(
                out,
                "# It has the collation {collation:?}: its texts are compared in another way than SQL says here."
            );
        }
        if matches!(key, Key::None) {
            let _ = writeln!(
                out,
                "# This is not complete: `_id` cannot be a key, so give a `key` of columns that can, with `not_null`."
            );
        }
        let _ = writeln!(out, "[[table]]\nname = {}", quoted(&table));
        let _ = writeln!(out, "kind = \"documents\"\nshards = [{}]", quoted(shard));
        if table != *collection {
            let _ = writeln!(out, "collection = {}", quoted(collection));
        }
        if let Key::Other(column) = key {
            let _ = writeln!(
                out,
                "# `_id` cannot be a key; another column that is never NULL can."
            );
            let _ = writeln!(out, "key = [{}]", quoted(&self.columns[column].name));
        }
        for (at, column) in self.columns.iter().enumerate() {
            let is_key = matches!(key, Key::Other(key) if key == at);
            column.write(sample.len(), is_key, &mut out);
        }
        for undecided in &self.undecided {
            let _ = writeln!(out, "\n# No column for {undecided}");
        }
        self.write_rest(&mut out);
        self.write_keys(&table, &mut out);
        out
    }

    /// A column for what no other has, if there is something and all of it can be read.
    fn write_rest(&self, out: &mut String) {
        let name = name::free("rest", &mut self.taken.clone());
        let rest = Rest::beside(&name, self.columns.iter().map(|column| &*column.path));
        let is_read = |document: &RawDocumentBuf| {
            let read = rest.read(document).ok();
            read.is_some_and(|read| reads(&Kind::Jsonb, RawBsonRef::Document(&read)).is_ok())
        };
        if self.undecided.is_empty() || !self.subject.sample.iter().all(is_read) {
            return;
        }
        let _ = writeln!(
            out,
            "\n# These and all other fields in one column, as a jsonb object:\n# [[table.column]]\n# name = {}\n\
             # sql_type = \"jsonb\"\n# rest = true",
            quoted(&name)
        );
    }

    /// What decides which shard has a document.
    fn key(&self) -> Key {
        let can_be = |column: &Column| {
            mothership_shardmap::KeyType::from_oid(column.kind.oid()).is_some()
                && column.present == self.subject.sample.len()
        };
        match self.columns.iter().find(|column| column.path == ["_id"]) {
            Some(id) if can_be(id) => Key::Id,
            _ => self
                .columns
                .iter()
                .position(can_be)
                .map_or(Key::None, Key::Other),
        }
    }

    fn write_keys(&self, table: &str, out: &mut String) {
        let Some(id) = self.columns.iter().find(|column| column.path == ["_id"]) else {
            return;
        };
        let others = self.subject.indexes.iter();
        let mut others = others
            .filter(|index| index.is_unique && index.fields != ["_id"])
            .peekable();
        if others.peek().is_none() {
            return; // The primary key is on `_id` of itself.
        }
        let mut taken = BTreeSet::new();
        let primary = name::free(&name::of_key(table, &[], "pkey"), &mut taken);
        write_key(&primary, &[&id.name], None, out);
        for index in others {
            match self.columns_of(index) {
                Ok(columns) => {
                    let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
                    let key = name::free(&name::of_key(table, &names, "key"), &mut taken);
                    write_key(&key, &names, Some(&index.name), out);
                    let may_be_null = columns
                        .iter()
                        .any(|column| column.present < self.subject.sample.len());
                    if let Some(remark) = of_nulls(index).filter(|_| may_be_null) {
                        let _ = writeln!(out, "# {remark}");
                    }
                }
                Err(why) => {
                    let (name, fields) = (&index.name, index.fields.join(", "));
                    let _ = writeln!(
                        out,
                        "\n# No key for unique index {name:?} ({fields:?}): {why}"
                    );
                }
            }
        }
    }

    /// The columns of a unique index, or why no key of SQL is the same.
    fn columns_of(&self, index: &Index) -> Result<Vec<&Column>, String> {
        let at = |field: &str| {
            let mut columns = self.columns.iter();
            columns.find(|column| column.path.join(".") == field)
        };
        let mut columns = Vec::new();
        for field in &index.fields {
            let column = at(field).ok_or_else(|| format!("{field:?} is no column"))?;
            if matches!(column.kind, Kind::Array(_) | Kind::Jsonb) {
                let kind = column.kind.written();
                return Err(format!(
                    "{field:?} is {kind}, of which MongoDB may keep parts unique"
                ));
            }
            columns.push(column);
        }
        match index.flaw(|field| at(field).map(|column| column.kind.clone())) {
            Some(flaw) => Err(flaw.told().to_owned()),
            None => Ok(columns),
        }
    }
}

enum Key {
    /// `_id`, of itself.
    Id,
    /// Another column.
    Other(usize),
    /// No column can be it.
    None,
}

impl Column {
    fn write(&self, of: usize, is_key: bool, out: &mut String) {
        let _ = writeln!(out, "\n[[table.column]]\nname = {}", quoted(&self.name));
        let path = self.path.join(".");
        if path != self.name {
            let _ = writeln!(out, "path = {}", quoted(&path));
        }
        for remark in &self.remarks {
            let _ = writeln!(out, "# {remark}");
        }
        let _ = writeln!(out, "sql_type = {}", quoted(&self.kind.written()));
        let is_id = path == "_id";
        match self.present == of {
            // MongoDB sees to it.
            _ if is_id => {}
            true if is_key => {
                let _ = writeln!(
                    out,
                    "not_null = true  # it has a value in all {of} documents"
                );
            }
            true => {
                let _ = writeln!(
                    out,
                    "# not_null = true  # it has a value in all {of} documents"
                );
            }
            false => {
                let (missing, s) = (of - self.present, if of == 1 { "" } else { "s" });
                let _ = writeln!(out, "# null or left out in {missing} of {of} document{s}");
            }
        }
        if is_id && self.kind == Kind::ObjectId {
            out.push_str("default = \"objectid()\"\n");
        }
    }
}

fn write_key(name: &str, columns: &[&str], index: Option<&str>, out: &mut String) {
    let columns: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
    let _ = writeln!(out, "\n[[table.unique]]\nname = {}", quoted(name));
    let _ = writeln!(out, "columns = [{}]", columns.join(", "));
    if let Some(index) = index {
        let _ = writeln!(out, "index = {}", quoted(index));
    }
}

/// What a unique index has against several NULLs, which SQL allows.
fn of_nulls(index: &Index) -> Option<&'static str> {
    let conditions = index.partial.iter().flat_map(|filter| filter.values());
    let mut conditions = conditions.filter_map(bson::Bson::as_document);
    if conditions.any(|condition| condition.contains_key("$type")) {
        return None; // Null is of no such type.
    }
    Some(match index.is_sparse || index.partial.is_some() {
        true => "Two NULLs are equal to MongoDB, unless the table has `nulls = \"omit\"`.",
        false => "Two NULLs are equal to MongoDB.",
    })
}

/// As TOML has it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
