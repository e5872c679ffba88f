//! The commands that the router sends to MongoDB, with all their values, and how EXPLAIN shows them.

use std::fmt::{self, Display, Formatter, Write as _};
use std::sync::Arc;

use bson::{Bson, Document, RawDocument, RawDocumentBuf};

use super::super::Fault;

/// A command with all its values; `Display` is what EXPLAIN shows of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// There are no rows, whatever the collection has: the server need not be asked.
    Empty,
    /// `find`.
    Find {
        /// The collection.
        collection: String,
        /// Which documents.
        filter: Document,
        /// Which of their fields; those of the answer's columns, at least.
        projection: Arc<Document>,
        /// Their order; empty if there is none.
        sort: Document,
        /// How many come before the first.
        skip: u64,
        /// How many at most; never 0.
        limit: Option<u64>,
        /// A unique key says that it is one document at most.
        single: bool,
    },
    /// `aggregate`.
    Aggregate {
        /// The collection.
        collection: String,
        /// The stages.
        pipeline: Vec<Document>,
        /// The only row where the server has none: aggregates of no rows.
        if_empty: Option<Document>,
    },
    /// `insert`, of all documents or none.
    Insert {
        /// The collection.
        collection: String,
        /// Complete: defaults are filled in, and there is an `_id`.
        documents: Vec<RawDocumentBuf>,
        /// ON CONFLICT DO NOTHING: the unique keys whose duplicates are left out.
        ignore: Option<Conflict>,
        /// The fault of the row that follows these documents, if it has one. Then none is stored; but if MongoDB refuses one
        /// of these documents, that error is told instead.
        behind: Option<Fault>,
    },
    /// ON CONFLICT DO UPDATE, one document after the other, all or none.
    Upsert {
        /// The collection.
        collection: String,
        /// The position of the key among the declared ones.
        unique: usize,
        /// The documents.
        rows: Vec<Upserted>,
        /// The fault of the row that follows these, as in `Insert`.
        behind: Option<Fault>,
    },
    /// `update`.
    Update {
        /// The collection.
        collection: String,
        /// Which documents.
        filter: Document,
        /// What becomes of them.
        change: Change,
        /// A unique key says that it is one document at most.
        single: bool,
    },
    /// An UPDATE that gives a document another `_id`, which MongoDB cannot do: the document is deleted, and inserted again
    /// as changed.
    Move {
        /// The collection.
        collection: String,
        /// Which document; it is one at most.
        filter: Document,
        /// What becomes of it: operators.
        change: Change,
    },
    /// `delete`.
    Delete {
        /// The collection.
        collection: String,
        /// Which documents.
        filter: Document,
        /// A unique key says that it is one document at most.
        single: bool,
    },
    /// An UPDATE that fails for every row: it gives `fault` if a document matches, and changes nothing if none does.
    Fail {
        /// The collection.
        collection: String,
        /// Which documents.
        filter: Document,
        /// What is wrong then.
        fault: Fault,
    },
}

/// The unique keys whose duplicates ON CONFLICT DO NOTHING ignores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Any unique key.
    Any,
    /// The key at this position among the declared ones; others are errors.
    Key(usize),
}

/// How documents are changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// `$set` and `$unset`.
    Operators(Document),
    /// Stages; a number out of its type's range is error 241 there, and 22003 in SQL.
    Pipeline(Vec<Document>),
}

/// A document of ON CONFLICT DO UPDATE: if `filter` finds one, it gets `change`, else `document` is inserted. Where
/// another transaction inserts it in between, the key is a duplicate, and all begins anew.
#[derive(Clone, Debug, PartialEq)]
pub struct Upserted {
    /// Finds the row with the same key; None if a part of the key is NULL, which is like no other.
    pub filter: Option<Document>,
    /// The new row.
    pub document: RawDocumentBuf,
    /// What the old row gets.
    pub change: Change,
}

impl Display for Command {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_json(f, &Bson::Document(self.document()))
    }
}

impl Command {
    /// Like the commands of MongoDB's shell.
    fn document(&self) -> Document {
        let mut shown = Document::new();
        match self {
            Command::Empty => drop(shown.insert("rows", Bson::Array(Vec::new()))),
            Command::Find {
                collection,
                filter,
                projection,
                sort,
                skip,
                limit,
                single: _,
            } => {
                shown.insert("find", collection);
                shown.insert("filter", filter);
                shown.insert("projection", &**projection);
                if !sort.is_empty() {
                    shown.insert("sort", sort);
                }
                if *skip > 0 {
                    shown.insert("skip", number(*skip));
                }
                if let Some(limit) = limit {
                    shown.insert("limit", number(*limit));
                }
            }
            Command::Aggregate {
                collection,
                pipeline,
                if_empty,
            } => {
                shown.insert("aggregate", collection);
                shown.insert("pipeline", pipeline.clone());
                if let Some(row) = if_empty {
                    shown.insert("ifEmpty", row);
                }
            }
            Command::Insert {
                collection,
                documents,
                ignore,
                behind,
            } => {
                shown.insert("insert", collection);
                let documents: Vec<Bson> = documents.iter().map(|row| tree(row)).collect();
                shown.insert("documents", documents);
                match ignore {
                    None => {}
                    Some(Conflict::Any) => drop(shown.insert("ignoreConflict", "any")),
                    Some(Conflict::Key(key)) => {
                        drop(shown.insert("ignoreConflict", number(*key as u64)))
                    }
                }
                if let Some(fault) = behind {
                    shown.insert("fault", fault.message.as_str());
                }
            }
            Command::Upsert {
                collection,
                unique,
                rows,
                behind,
            } => {
                shown.insert("upsert", collection);
                shown.insert("key", number(*unique as u64));
                shown.insert(
                    "rows",
                    rows.iter().map(Upserted::document).collect::<Vec<_>>(),
                );
                if let Some(fault) = behind {
                    shown.insert("fault", fault.message.as_str());
                }
            }
            Command::Update {
                collection,
                filter,
                change,
                single,
            } => {
                shown.insert("update", collection);
                shown.insert("filter", filter);
                shown.insert("change", change.bson());
                shown.insert("multi", !single);
            }
            Command::Move {
                collection,
                filter,
                change,
            } => {
                shown.insert("move", collection);
                shown.insert("filter", filter);
                shown.insert("change", change.bson());
            }
            Command::Delete {
                collection,
                filter,
                single,
            } => {
                shown.insert("delete", collection);
                shown.insert("filter", filter);
                shown.insert("multi", !single);
            }
            Command::Fail {
                collection,
                filter,
                fault,
            } => {
                shown.insert("update", collection);
                shown.insert("filter", filter);
                shown.insert("fault", fault.message.as_str());
            }
        }
        shown
    }
}

impl Upserted {
    fn document(&self) -> Document {
        let mut shown = Document::new();
        if let Some(filter) = &self.filter {
            shown.insert("filter", filter);
        }
        shown.insert("document", tree(&self.document));
        shown.insert("change", self.change.bson());
        shown
    }
}

/// What a change does to a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FieldChange<'c> {
    /// It stays as it is.
    Nothing,
    /// It becomes this, whatever it was.
    Constant(&'c Bson),
    /// It is computed, or removed.
    Other,
}

impl Change {
    /// What a field gets.
    pub fn gets(&self, field: &str) -> FieldChange<'_> {
        let (set, unset) = match self {
            Change::Operators(operators) => {
                let of = |name: &str| operators.get_document(name).ok();
                (of("$set"), of("$unset"))
            }
            Change::Pipeline(stages) => match stages.as_slice() {
                [stage] if stage.contains_key("$set") => (stage.get_document("$set").ok(), None),
                _ => return FieldChange::Other,
            },
        };
        if unset.is_some_and(|unset| unset.contains_key(field)) {
            return FieldChange::Other;
        }
        match (self, set.and_then(|set| set.get(field))) {
            (_, None) => FieldChange::Nothing,
            (Change::Operators(_), Some(value)) => FieldChange::Constant(value),
            (Change::Pipeline(_), Some(Bson::Document(expression))) => {
                let constant = constant(expression);
                constant.map_or(FieldChange::Other, FieldChange::Constant)
            }
            (Change::Pipeline(_), Some(_)) => FieldChange::Other,
        }
    }

    fn bson(&self) -> Bson {
        match self {
            Change::Operators(operators) => Bson::Document(operators.clone()),
            Change::Pipeline(stages) => stages.clone().into(),
        }
    }
}

/// The constant that an expression is, also where it fails without a document on the way to its field.
fn constant(expression: &Document) -> Option<&Bson> {
    match expression.get_array("$cond").map(Vec::as_slice) {
        Ok([_, value, _]) => constant(value.as_document()?),
        _ => expression.get("$literal"),
    }
}

/// A document that was made here, so that it can be read.
fn tree(document: &RawDocument) -> Bson {
    Document::try_from(document).map_or(Bson::Null, Bson::Document)
}

fn number(number: u64) -> Bson {
    i64::try_from(number).map_or(Bson::Null, Bson::Int64)
}

/// Relaxed extended JSON; see MongoDB's specification of that name.
fn write_json(f: &mut Formatter<'_>, value: &Bson) -> fmt::Result {
    match value {
        Bson::Null => f.write_str("null"),
        Bson::Boolean(value) => write!(f, "{value}"),
        Bson::Int32(number) => write!(f, "{number}"),
        Bson::Int64(number) => write!(f, "{number}"),
        Bson::Double(number) if number.is_finite() => write!(f, "{number:?}"),
        Bson::Double(number) if number.is_nan() => f.write_str("{\"$numberDouble\":\"NaN\"}"),
        Bson::Double(number) => {
            let sign = if *number < 0.0 { "-" } else { "" };
            write!(f, "{{\"$numberDouble\":\"{sign}Infinity\"}}")
        }
        Bson::Decimal128(number) => write!(f, "{{\"$numberDecimal\":\"{number}\"}}"),
        Bson::String(text) => write_string(f, text),
        Bson::ObjectId(id) => write!(f, "{{\"$oid\":\"{id}\"}}"),
        Bson::DateTime(time) => match time.try_to_rfc3339_string() {
            Ok(text) => write!(f, "{{\"$date\":\"{text}\"}}"),
            Err(_) => write!(
                f,
                "{{\"$date\":{{\"$numberLong\":\"{}\"}}}}",
                time.timestamp_millis()
            ),
        },
        Bson::Binary(binary) => match binary.to_uuid() {
            Ok(uuid) => write!(f, "{{\"$uuid\":\"{uuid}\"}}"),
            Err(_) => {
                let text = base64(&binary.bytes);
                write!(
                    f,
                    "{{\"$binary\":{{\"base64\":\"{text}\",\"subType\":\"00\"}}}}"
                )
            }
        },
        Bson::Array(values) => {
            f.write_char('[')?;
            for (position, value) in values.iter().enumerate() {
                if position > 0 {
                    f.write_char(',')?;
                }
                write_json(f, value)?;
            }
            f.write_char(']')
        }
        Bson::Document(document) => {
            f.write_char('{')?;
            for (position, (name, value)) in document.iter().enumerate() {
                if position > 0 {
                    f.write_char(',')?;
                }
                write_string(f, name)?;
                f.write_char(':')?;
                write_json(f, value)?;
            }
            f.write_char('}')
        }
        // Nothing else is made here.
        other => write_string(f, &other.to_string()),
    }
}

fn write_string(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' | '\\' => write!(f, "\\{character}")?,
            '\n' => f.write_str("\\n")?,
            control if control.is_control() => write!(f, "\\u{:04x}", u32::from(control))?,
            character => f.write_char(character)?,
        }
    }
    f.write_char('"')
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, at| {
            bits << 8 | u32::from(chunk.get(at).copied().unwrap_or(0))
        });
        for digit in 0..4 {
            let at = (bits >> (18 - 6 * digit)) as usize & 63;
            text.push(if digit > chunk.len() {
                '='
            } else {
                char::from(DIGITS[at])
            });
        }
    }
    text
}
