//! Indexes of a collection, and which of them keeps a unique key.
//!
//! In come the documents of `listIndexes`. An index keeps a key if it allows no two documents that SQL would not allow:
//! its fields are those of the key, in any order and direction, it is for all values, and compares them by their bytes.

use bson::{Bson, Document, doc};

use super::{Collection, Kind, Nulls, Unique};

/// An index of a collection.
#[derive(Clone, Debug, PartialEq)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// Its fields.
    pub fields: Vec<String>,
    /// It allows no two documents with the same values.
    pub is_unique: bool,
    /// Documents without any of the fields are not in it.
    pub is_sparse: bool,
    /// Only documents that match are in it.
    pub partial: Option<Document>,
    /// The language by whose rules it compares texts; none compares bytes.
    pub collation: Option<String>,
}

/// What keeps a unique key.
#[derive(Clone, Debug, PartialEq)]
pub enum Kept<'i> {
    /// This index does.
    By(&'i Index),
    /// It would, but for this.
    Not(&'i Index, Flaw),
    /// None has its fields; the name that is declared is that of another one.
    Taken(&'i Index),
    /// None.
    Missing,
}

/// Why a unique index does not keep what SQL means by unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Some documents are not in it.
    Partial,
    /// It takes texts for equal that differ.
    Collation,
}

impl Index {
    /// The one that each collection has.
    pub fn of_id() -> Index {
        Index {
            name: "_id_".to_owned(),
            fields: vec!["_id".to_owned()],
            is_unique: true,
            is_sparse: false,
            partial: None,
            collation: None,
        }
    }

    /// From a document of `listIndexes`.
    pub fn read(listed: &Document) -> Option<Index> {
        let keys = listed.get_document("key").ok()?;
        let fields: Vec<String> = keys.keys().cloned().collect();
        // Others, such as texts and hashes, cannot be unique.
        let is_plain = keys.values().all(is_direction);
        // MongoDB does not say that this one is.
        let is_of_id = fields == ["_id"];
        let collation = listed.get_document("collation").ok();
        let collation = collation.and_then(|collation| collation.get_str("locale").ok());
        Some(Index {
            name: listed.get_str("name").ok()?.to_owned(),
            is_unique: is_plain && (is_of_id || listed.get_bool("unique").unwrap_or(false)),
            is_sparse: listed.get_bool("sparse").unwrap_or(false),
            partial: listed.get_document("partialFilterExpression").ok().cloned(),
            collation: collation
                .filter(|locale| *locale != "simple")
                .map(str::to_owned),
            fields,
        })
    }

    /// Why this unique index does not keep a key of SQL, if it does not. `kind` is the type of a field's column.
    ///
    /// What is left out because a field is not there is no flaw: SQL's NULLs are not equal either.
    pub fn flaw(&self, kind: impl Fn(&str) -> Option<Kind>) -> Option<Flaw> {
        let leaves_out_nulls_only = |filter: &Document| {
            filter.iter().all(|(field, condition)| {
                self.fields.contains(field) && is_always_met(condition, kind(field).as_ref())
            })
        };
        // Numbers and the like are the same in every language.
        let has_texts = || {
            let mut kinds = self.fields.iter().map(|field| kind(field));
            kinds.any(|kind| kind.is_none_or(|kind| kind.is_collatable() || kind == Kind::Jsonb))
        };
        match (&self.partial, &self.collation) {
            (Some(filter), _) if !leaves_out_nulls_only(filter) => Some(Flaw::Partial),
            (_, Some(_)) if has_texts() => Some(Flaw::Collation),
            _ => None,
        }
    }

    /// Whether it has exactly these fields.
    pub fn is_of(&self, fields: &[String]) -> bool {
        self.fields.len() == fields.len() && fields.iter().all(|field| self.fields.contains(field))
    }
}

impl Flaw {
    /// In words, of an index.
    pub fn told(self) -> &'static str {
        match self {
            Flaw::Partial => "it leaves documents out (partialFilterExpression)",
            Flaw::Collation => {
                "its collation is not \"simple\": it takes texts for equal that differ"
            }
        }
    }
}

/// What keeps a unique key of a table.
pub fn keeper<'i>(table: &Collection, unique: &Unique, indexes: &'i [Index]) -> Kept<'i> {
    let fields = fields(table, unique);
    let kind = |field: &str| {
        let column = table.columns.iter().find(|column| column.field() == field);
        column.map(|column| column.kind.clone())
    };
    let mut candidates: Vec<&Index> = indexes
        .iter()
        .filter(|index| index.is_unique && index.is_of(&fields))
        .collect();
    // Of several the one that is declared.
    candidates.sort_by_key(|index| index.name != unique.index);
    let whole = candidates.iter().find(|index| index.flaw(kind).is_none());
    if let Some(index) = whole {
        return Kept::By(index);
    }
    let flawed = candidates
        .first()
        .and_then(|index| Some((*index, index.flaw(kind)?)));
    if let Some((index, flaw)) = flawed {
        return Kept::Not(index, flaw);
    }
    match indexes.iter().find(|index| index.name == unique.index) {
        Some(index) => Kept::Taken(index),
        None => Kept::Missing,
    }
}

/// The fields of a key's columns.
pub fn fields(table: &Collection, unique: &Unique) -> Vec<String> {
    let columns = unique.columns.iter();
    columns.map(|at| table.columns[*at].field()).collect()
}

/// The command that makes the index of a key. It compares bytes, whatever the collection's own collation. Where NULL is
/// a field that is left out, it leaves out documents without one, because no NULL is equal to another.
pub fn creation(table: &Collection, unique: &Unique) -> Document {
    let keys = fields(table, unique).into_iter();
    let keys: Document = keys.map(|field| (field, Bson::Int32(1))).collect();
    let columns = unique.columns.iter().map(|at| &table.columns[*at]);
    let omitted = columns.filter(|column| !column.not_null && table.nulls == Nulls::Omit);
    let filter: Document = omitted
        .map(|column| (column.field(), doc! { "$exists": true }.into()))
        .collect();
    let mut index = doc! {
        "key": keys,
        "name": &unique.index,
        "unique": true,
        "collation": { "locale": "simple" },
    };
    if !filter.is_empty() {
        index.insert("partialFilterExpression", filter);
    }
    doc! {
        "createIndexes": &table.collection,
        "indexes": [index],
        "writeConcern": { "w": "majority" },
    }
}

fn is_direction(value: &Bson) -> bool {
    matches!(value, Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_))
}

/// Whether every value of a column of this type meets a condition of a partial index. A null need not.
fn is_always_met(condition: &Bson, kind: Option<&Kind>) -> bool {
    let Some(condition) = condition.as_document() else {
        return false;
    };
    condition
        .iter()
        .all(|(operator, value)| match (operator.as_str(), value) {
            ("$exists", Bson::Boolean(true)) => true,
            ("$type", value) => kind.is_some_and(|kind| stored_as(kind).contains(value)),
            _ => false,
        })
}

/// How `$type` calls all that a column of a type has; nothing where there is more than one.
fn stored_as(kind: &Kind) -> [Bson; 2] {
    let (name, number) = match kind {
        Kind::Bool => ("bool", 8),
        Kind::Text | Kind::Varchar(_) => ("string", 2),
        Kind::Uuid | Kind::Bytea => ("binData", 5),
        Kind::Timestamptz(_) | Kind::Timestamp(_) | Kind::Date => ("date", 9),
        Kind::ObjectId => ("objectId", 7),
        // All kinds of numbers are read as any; an array's condition is about its elements; JSON has all types.
        Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Float4 | Kind::Float8 | Kind::Numeric => {
            return [Bson::from("number"), Bson::from("number")];
        }
        Kind::Jsonb | Kind::Array(_) => return [Bson::Null, Bson::Null],
    };
    [Bson::from(name), Bson::Int32(number)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Column, Nulls};

    fn table() -> Collection {
        let column = Column::nullable;
        Collection {
            schema: "public".to_owned(),
            table: "t".to_owned(),
            collection: "t".to_owned(),
            columns: vec![
                column("id", Kind::Int8, "_id"),
                column("city", Kind::Text, "address.city"),
                column("n", Kind::Int4, "n"),
            ],
            unique: vec![
                Unique {
                    name: "t_pkey".to_owned(),
                    index: "_id_".to_owned(),
                    columns: vec![0],
                },
                Unique {
                    name: "t_key".to_owned(),
                    index: "address.city_1_n_1".to_owned(),
                    columns: vec![1, 2],
                },
            ],
            owner: None,
            nulls: Nulls::Store,
        }
    }

    fn told(listed: Document) -> String {
        let table = table();
        let indexes = [Index::read(&listed).unwrap()];
        match keeper(&table, &table.unique[1], &indexes) {
            Kept::By(index) => format!("by {}", index.name),
            Kept::Not(_, flaw) => format!("not: {flaw:?}"),
            Kept::Taken(_) => "taken".to_owned(),
            Kept::Missing => "missing".to_owned(),
        }
    }

    #[test]
    fn an_index_keeps_a_key_if_it_allows_nothing_that_sql_does_not() {
        let key = || doc! { "n": 1, "address.city": -1.0 };
        let with = |more: Document| {
            let mut listed = doc! { "v": 2, "key": key(), "name": "x", "unique": true };
            listed.extend(more);
            told(listed)
        };
        assert_eq!(with(doc! {}), "by x");
        assert_eq!(with(doc! { "sparse": true }), "by x");
        assert_eq!(with(doc! { "unique": false }), "missing");
        assert_eq!(
            with(doc! { "collation": { "locale": "de" } }),
            "not: Collation"
        );
        assert_eq!(with(doc! { "collation": { "locale": "simple" } }), "by x");
        assert_eq!(with(doc! { "key": { "n": 1 } }), "missing");
        assert_eq!(
            with(doc! { "unique": false, "name": "address.city_1_n_1" }),
            "taken"
        );
        let partial = |filter: Document| with(doc! { "partialFilterExpression": filter });
        assert_eq!(partial(doc! { "n": { "$gt": 5 } }), "not: Partial");
        assert_eq!(
            partial(doc! { "other": { "$exists": true } }),
            "not: Partial"
        );
        assert_eq!(partial(doc! { "n": { "$type": "int" } }), "not: Partial");
        assert_eq!(partial(doc! { "n": 5 }), "not: Partial");
        assert_eq!(
            partial(doc! { "n": { "$exists": true }, "address.city": { "$type": "string" } }),
            "by x"
        );
        assert_eq!(partial(doc! { "n": { "$type": "number" } }), "by x");
    }

    #[test]
    fn mongodb_does_not_say_that_its_own_index_is_unique() {
        let indexes = [Index::read(&doc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" }).unwrap()];
        let table = table();
        assert_eq!(
            keeper(&table, &table.unique[0], &indexes),
            Kept::By(&indexes[0])
        );
        assert_eq!(keeper(&table, &table.unique[1], &indexes), Kept::Missing);
    }

    #[test]
    fn the_index_that_is_made_keeps_the_key() {
        let table = table();
        let mut made = creation(&table, &table.unique[1]);
        let listed = made.get_array_mut("indexes").unwrap().remove(0);
        assert_eq!(
            told(listed.as_document().unwrap().clone()),
            "by address.city_1_n_1"
        );
        assert_eq!(
            made,
            doc! { "createIndexes": "t", "indexes": [], "writeConcern": { "w": "majority" } }
        );
    }
}
