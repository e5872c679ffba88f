//! What values the fields of documents have.

use std::collections::BTreeMap;
use std::fmt;

use bson::spec::BinarySubtype;
use bson::{RawBsonRef, RawDocument};

/// The greatest whole number below which a Double has all of them.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;
const MILLIS_PER_DAY: i64 = 86_400_000;

/// The type of a value, as far as a column's type depends on it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Type {
    Null,
    Bool,
    Int32,
    Int64,
    /// A Double that an integer can be.
    Whole,
    Double,
    Decimal,
    String,
    ObjectId,
    Uuid,
    Binary,
    /// A DateTime at midnight in UTC.
    Day,
    DateTime,
    Document,
    Array,
    /// One that no column has.
    Other(String),
}

/// The values that a field has, or the elements of its arrays.
#[derive(Debug, Default)]
pub(super) struct Values {
    /// How many of each type.
    pub types: BTreeMap<Type, usize>,
    /// What is in those that are documents.
    pub inside: Fields,
    /// The elements of those that are arrays.
    pub elements: Option<Box<Values>>,
}

/// The fields of documents, in the order in which they were seen first.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// How many documents.
    pub documents: usize,
    /// Their names and values.
    pub fields: Vec<(String, Values)>,
    places: BTreeMap<String, usize>,
}

impl Type {
    fn of(value: RawBsonRef<'_>) -> Type {
        match value {
            RawBsonRef::Null | RawBsonRef::Undefined => Type::Null,
            RawBsonRef::Boolean(_) => Type::Bool,
            RawBsonRef::Int32(_) => Type::Int32,
            RawBsonRef::Int64(_) => Type::Int64,
            RawBsonRef::Double(n) if n.fract() == 0.0 && n.abs() <= MAX_WHOLE => Type::Whole,
            RawBsonRef::Double(_) => Type::Double,
            RawBsonRef::Decimal128(_) => Type::Decimal,
            RawBsonRef::String(_) => Type::String,
            RawBsonRef::ObjectId(_) => Type::ObjectId,
            RawBsonRef::Binary(binary) if binary.subtype == BinarySubtype::Uuid => Type::Uuid,
            RawBsonRef::Binary(_) => Type::Binary,
            RawBsonRef::DateTime(time) if time.timestamp_millis() % MILLIS_PER_DAY == 0 => {
                Type::Day
            }
            RawBsonRef::DateTime(_) => Type::DateTime,
            RawBsonRef::Document(_) => Type::Document,
            RawBsonRef::Array(_) => Type::Array,
            other => Type::Other(format!("{:?}", other.element_type())),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::Null => "null",
            Type::Bool => "Boolean",
            Type::Int32 => "Int32",
            Type::Int64 => "Int64",
            Type::Whole => "Double without a fraction",
            Type::Double => "Double",
            Type::Decimal => "Decimal128",
            Type::String => "String",
            Type::ObjectId => "ObjectId",
            Type::Uuid => "Binary of subtype 4",
            Type::Binary => "Binary of another subtype than 4",
            Type::Day => "DateTime at midnight",
            Type::DateTime => "DateTime",
            Type::Document => "Document",
            Type::Array => "Array",
            Type::Other(name) => name,
        })
    }
}

impl Values {
    pub fn add(&mut self, value: RawBsonRef<'_>) {
        *self.types.entry(Type::of(value)).or_default() += 1;
        match value {
            RawBsonRef::Document(document) => self.inside.add(document),
            RawBsonRef::Array(array) => {
                let elements = self.elements.get_or_insert_default();
                array
                    .into_iter()
                    .flatten()
                    .for_each(|element| elements.add(element));
            }
            _ => {}
        }
    }

    /// The types other than null.
    pub fn real(&self) -> impl Iterator<Item = &Type> {
        self.types.keys().filter(|kind| **kind != Type::Null)
    }

    /// How many are not null.
    pub fn count(&self) -> usize {
        let real = self.types.iter().filter(|(kind, _)| **kind != Type::Null);
        real.map(|(_, count)| count).sum()
    }

    /// How many of which type.
    pub fn told(&self) -> String {
        let counts = self.types.iter();
        let counts: Vec<String> = counts
            .map(|(kind, count)| format!("{kind} in {count}"))
            .collect();
        counts.join(", ")
    }
}

impl Fields {
    pub fn add(&mut self, document: &RawDocument) {
        self.documents += 1;
        for (name, value) in document.into_iter().flatten() {
            let next = self.fields.len();
            let place = *self.places.entry(name.as_str().to_owned()).or_insert(next);
            if place == next {
                self.fields
                    .push((name.as_str().to_owned(), Values::default()));
            }
            self.fields[place].1.add(value);
        }
    }

    /// Whether documents are alike enough for a column for each field: at least half of the names are in at least half
    /// of them. Where names are data, such as days or languages, they are not.
    pub fn are_alike(&self) -> bool {
        let common = self.fields.iter().filter(|(_, values)| {
            let there: usize = values.types.values().sum();
            there * 2 >= self.documents
        });
        !self.fields.is_empty() && common.count() * 2 >= self.fields.len()
    }
}
