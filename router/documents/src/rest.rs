//! The column that has all fields of a document that no other column has.
//!
//! Where documents are nested it has what is beside the columns: of `{addr: {city, zip}}` with a column for `addr.city`
//! it has `{addr: {zip}}`. `_id` is never in it. What is on the way to a column and holds nothing else (an empty
//! document, null) is no field; what is there in a document's place (a number, an array) is one.
//!
//! It is an object in every row. What is written into it becomes fields beside those of the columns, and must be none
//! of theirs.

use bson::{Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf, doc};

use super::translate::RANK;
use super::value;
use super::{Collection, Fault};

/// No document that is stored has it.
const IS_NULL: &str = "mothership_rank_null";

/// The fields that other columns have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rest {
    /// The column's name, for errors.
    name: String,
    declared: Level,
}

/// A document, and what of it is declared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Level(Vec<(String, Declared)>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Declared {
    /// A column has it, the one at this position.
    Column(usize),
    /// Columns are inside of it.
    Within(Level),
}

impl Rest {
    /// Of a table; none if it has no such column.
    pub fn of(collection: &Collection) -> Option<Rest> {
        let own = collection.columns.iter().find(|column| column.is_rest())?;
        let paths = collection.columns.iter().map(|column| &*column.path);
        Some(Rest::beside(&own.name, paths))
    }

    /// The column of this name beside columns with these paths.
    pub fn beside<'p>(name: &str, paths: impl Iterator<Item = &'p [String]>) -> Rest {
        let mut declared = Level::default();
        for (at, path) in paths.enumerate() {
            declared.add(path, at);
        }
        Rest {
            name: name.to_owned(),
            declared,
        }
    }

    /// The column's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The column's value in a document.
    ///
    /// # Errors
    /// The document cannot be read.
    pub fn read(&self, document: &RawDocument) -> Result<RawDocumentBuf, Fault> {
        let mut rest = RawDocumentBuf::new();
        for element in document {
            let (name, value) = element.map_err(value::corrupted)?;
            if !is_own(name.as_str()) {
                self.declared.put(name, value, &mut rest)?;
            }
        }
        Ok(rest)
    }

    /// The same of a document that is being made.
    ///
    /// # Errors
    /// There is no such document.
    pub fn read_made(&self, document: &RawDocument) -> Result<Document, Fault> {
        Document::try_from(self.read(document)?).map_err(value::corrupted)
    }

    /// What may be written of a value: an object none of whose keys is a column's field.
    ///
    /// # Errors
    /// It is something else.
    pub fn checked(&self, value: Bson) -> Result<Document, Fault> {
        let Bson::Document(fields) = value else {
            let what = format!("column \"{}\" takes JSON objects only", self.name);
            return Err(Fault::new("22023", what).detail("Its keys are fields of the document."));
        };
        if let Some(own) = fields.keys().find(|name| is_own(name)) {
            let why = "The router or MongoDB uses a field of that name.";
            return Err(self.clash(own, why));
        }
        self.check(&self.declared, &fields, "")?;
        Ok(fields)
    }

    fn check(&self, level: &Level, fields: &Document, above: &str) -> Result<(), Fault> {
        for (name, value) in fields {
            let path = format!("{above}{name}");
            match (level.get(name), value) {
                (None, _) => {}
                (Some(Declared::Column(_)), _) => {
                    return Err(self.clash(&path, "Another column has that field."));
                }
                (Some(Declared::Within(_)), Bson::Document(inner)) if inner.is_empty() => {
                    let what = format!(
                        "column \"{}\" cannot have an empty object at \"{path}\"",
                        self.name
                    );
                    let why = "Columns are inside of it, so that an empty one is like none; leave the key out.";
                    return Err(Fault::new("0A000", what).detail(why));
                }
                (Some(Declared::Within(within)), Bson::Document(inner)) => {
                    self.check(within, inner, &format!("{path}."))?;
                }
                (Some(Declared::Within(_)), _) => {
                    let why = "Columns are inside of that field, which takes objects only.";
                    return Err(self.clash(&path, why));
                }
            }
        }
        Ok(())
    }

    /// The standard's word for a key that is there twice.
    fn clash(&self, key: &str, why: &str) -> Fault {
        let what = format!("column \"{}\" cannot have the key \"{key}\"", self.name);
        Fault::new("22030", what).detail(why)
    }

    /// In a document that an error shows: the column is NULL there.
    pub fn null() -> Document {
        doc! { IS_NULL: true }
    }

    /// The same, read.
    pub fn is_null(document: &RawDocument) -> bool {
        document.get(IS_NULL).is_ok_and(|found| found.is_some())
    }

    /// A document of columns with fields that were checked.
    ///
    /// # Errors
    /// There is no such document.
    pub fn add(document: &RawDocument, fields: Document) -> Result<RawDocumentBuf, Fault> {
        let mut made = Document::try_from(document).map_err(value::corrupted)?;
        join(&mut made, fields);
        RawDocumentBuf::try_from(&made).map_err(value::corrupted)
    }

    /// The stage that gives a document these fields and no other ones beside its columns. `columns` says what those at
    /// their positions become; without a word they stay as they are.
    ///
    /// All is of the document as it was, so that it is one step.
    pub fn replacing(
        &self,
        fields: Document,
        mut columns: impl FnMut(usize) -> Option<Bson>,
    ) -> Document {
        let mut kept = Document::new();
        kept.insert("_id", "$_id");
        let beside = self
            .declared
            .expression("$", fields, &mut columns, &mut kept);
        doc! { "$replaceWith": merged(kept, beside) }
    }
}

fn join(document: &mut Document, fields: Document) {
    for (name, value) in fields {
        match (document.get_mut(&name), value) {
            (Some(Bson::Document(there)), Bson::Document(value)) => join(there, value),
            (_, value) => drop(document.insert(name, value)),
        }
    }
}

/// Names at the top that nobody else may have: the identifier, and what sorting adds to a document.
fn is_own(name: &str) -> bool {
    name == "_id" || name.starts_with(RANK)
}

impl Level {
    fn add(&mut self, path: &[String], at: usize) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        if rest.is_empty() {
            return self.0.push((first.clone(), Declared::Column(at)));
        }
        match self.0.iter_mut().find(|(name, _)| name == first) {
            Some((_, Declared::Within(within))) => within.add(rest, at),
            // No path is the beginning of another.
            Some((_, Declared::Column(_))) => {}
            None => {
                let mut within = Level::default();
                within.add(rest, at);
                self.0.push((first.clone(), Declared::Within(within)));
            }
        }
    }

    fn get(&self, name: &str) -> Option<&Declared> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, declared)| declared)
    }

    /// Adds a field, if it is not a column's, or what is not of it.
    fn put(
        &self,
        name: &bson::raw::CStr,
        value: RawBsonRef<'_>,
        out: &mut RawDocumentBuf,
    ) -> Result<(), Fault> {
        match (self.get(name.as_str()), value) {
            (Some(Declared::Column(_)), _)
            | (Some(Declared::Within(_)), RawBsonRef::Null | RawBsonRef::Undefined) => {}
            (Some(Declared::Within(within)), RawBsonRef::Document(inner)) => {
                let mut beside = RawDocumentBuf::new();
                for element in inner {
                    let (name, value) = element.map_err(value::corrupted)?;
                    within.put(name, value, &mut beside)?;
                }
                if !beside.is_empty() {
                    out.append(name, beside);
                }
            }
            (None | Some(Declared::Within(_)), value) => out.append(name, value),
        }
        Ok(())
    }

    /// Puts into `kept` what the columns of a document become, where `at` is the way to it, and returns the fields
    /// that are beside them.
    fn expression(
        &self,
        at: &str,
        mut fields: Document,
        columns: &mut impl FnMut(usize) -> Option<Bson>,
        kept: &mut Document,
    ) -> Document {
        for (name, declared) in self
            .0
            .iter()
            .filter(|(name, _)| !(at == "$" && is_own(name)))
        {
            let path = format!("{at}{name}");
            let value = match declared {
                Declared::Column(column) => columns(*column).unwrap_or_else(|| field(&path)),
                Declared::Within(within) => {
                    let beside = match fields.remove(name) {
                        Some(Bson::Document(beside)) => beside,
                        _ => Document::new(),
                    };
                    let mut inner = Document::new();
                    let below = format!("{path}.");
                    let beside = within.expression(&below, beside, columns, &mut inner);
                    unless_empty(merged(inner, beside))
                }
            };
            kept.insert(name, value);
        }
        fields
    }
}

/// The value of a field as it is, nothing where there is none; the path begins with a dollar. Of an array on the way MongoDB
/// would take the fields of all elements, where a column reads NULL.
pub(super) fn field(path: &str) -> Bson {
    match path.rsplit_once('.') {
        None => path.into(),
        Some((above, _)) => {
            let is_document = doc! { "$eq": [{ "$type": above }, "object"] };
            doc! { "$cond": [is_document, path, "$$REMOVE"] }.into()
        }
    }
}

fn merged(columns: Document, beside: Document) -> Document {
    match beside.is_empty() {
        true => columns,
        // Or a text with a dollar would be a field.
        false => doc! { "$mergeObjects": [columns, { "$literal": beside }] },
    }
}

fn unless_empty(made: Document) -> Bson {
    let is_empty = doc! { "$eq": ["$$made", { "$literal": {} }] };
    let shown = doc! { "$cond": [is_empty, "$$REMOVE", "$$made"] };
    doc! { "$let": { "vars": { "made": made }, "in": shown } }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Column, Kind, Nulls, Unique};
    use bson::{cstr, rawdoc};

    fn table() -> Collection {
        let column = |name: &str, path: &str| Column::nullable(name, Kind::Jsonb, path);
        Collection {
            schema: "public".to_owned(),
            table: "people".to_owned(),
            collection: "people".to_owned(),
            columns: vec![
                column("id", "_id"),
                column("more", ""),
                column("kind", "kind"),
                column("city", "addr.city"),
                column("lat", "addr.geo.lat"),
            ],
            unique: vec![Unique {
                name: "people_pkey".to_owned(),
                index: "_id_".to_owned(),
                columns: vec![0],
            }],
            owner: None,
            nulls: Nulls::Store,
        }
    }

    fn rest() -> Rest {
        Rest::of(&table()).unwrap()
    }

    #[test]
    fn it_has_what_is_beside_the_columns() {
        let mut twice = rawdoc! { "kind": 1, "a": 1 };
        twice.append(cstr!("kind"), 2);
        for (document, found) in [
            (
                rawdoc! { "_id": 1, "kind": "x", "addr": { "city": "Ulm", "geo": { "lat": 1 } } },
                rawdoc! {},
            ),
            (
                rawdoc! { "z": 1, "_id": 1, "addr": { "zip": 5, "geo": { "lon": 2, "lat": 1 } }, "a": null },
                rawdoc! { "z": 1, "addr": { "zip": 5, "geo": { "lon": 2 } }, "a": null },
            ),
            (rawdoc! { "addr": null, "mothership_rank_0": 1 }, rawdoc! {}),
            (rawdoc! { "addr": { "geo": {} } }, rawdoc! {}),
            (
                rawdoc! { "addr": { "geo": [1] } },
                rawdoc! { "addr": { "geo": [1] } },
            ),
            (
                rawdoc! { "addr": "Ulm", "kinds": {} },
                rawdoc! { "addr": "Ulm", "kinds": {} },
            ),
            (
                rawdoc! { "addr.city": 1, "$x": 2, "": 3 },
                rawdoc! { "addr.city": 1, "$x": 2, "": 3 },
            ),
            (twice, rawdoc! { "a": 1 }),
        ] {
            assert_eq!(rest().read(&document), Ok(found), "{document:?}");
        }
        let mut none = table();
        none.columns.remove(1);
        assert_eq!(Rest::of(&none), None);
    }

    #[test]
    fn what_is_written_is_an_object_beside_the_columns() {
        for (value, wrong) in [
            (Bson::from(doc! {}), None),
            (
                doc! { "a": 1, "addr": { "zip": 1, "geo": { "lon": {} } } }.into(),
                None,
            ),
            (
                Bson::Int32(1),
                Some("22023 column \"more\" takes JSON objects only"),
            ),
            (
                Bson::Array(vec![]),
                Some("22023 column \"more\" takes JSON objects only"),
            ),
            (
                doc! { "_id": 1 }.into(),
                Some("22030 column \"more\" cannot have the key \"_id\""),
            ),
            (
                doc! { "kind": 1 }.into(),
                Some("22030 column \"more\" cannot have the key \"kind\""),
            ),
            (
                doc! { "addr": 1 }.into(),
                Some("22030 column \"more\" cannot have the key \"addr\""),
            ),
            (
                doc! { "addr": Bson::Null }.into(),
                Some("22030 column \"more\" cannot have the key \"addr\""),
            ),
            (
                doc! { "addr": { "city": 1 } }.into(),
                Some("22030 column \"more\" cannot have the key \"addr.city\""),
            ),
            (
                doc! { "addr": { "geo": { "lat": 1 } } }.into(),
                Some("22030 column \"more\" cannot have the key \"addr.geo.lat\""),
            ),
            (
                doc! { "addr": { "geo": {} } }.into(),
                Some("0A000 column \"more\" cannot have an empty object at \"addr.geo\""),
            ),
            (
                doc! { "mothership_rank_3": 1 }.into(),
                Some("22030 column \"more\" cannot have the key \"mothership_rank_3\""),
            ),
        ] {
            let told = rest().checked(value.clone()).err();
            let told = told.map(|fault| format!("{} {fault}", fault.sqlstate));
            assert_eq!(told.as_deref(), wrong, "{value}");
        }
    }

    #[test]
    fn fields_are_added_to_documents_that_are_there() {
        let document = RawDocumentBuf::try_from(&doc! { "_id": 1, "addr": { "city": "Ulm" } });
        let fields = doc! { "a": {}, "addr": { "zip": 1, "geo": { "lon": 2 } } };
        let document = Rest::add(&document.unwrap(), fields).unwrap();
        assert_eq!(
            Document::try_from(&*document).unwrap(),
            doc! { "_id": 1, "addr": { "city": "Ulm", "zip": 1, "geo": { "lon": 2 } }, "a": {} }
        );
        assert_eq!(
            rest().read_made(&document),
            Ok(doc! { "addr": { "zip": 1, "geo": { "lon": 2 } }, "a": {} })
        );
    }

    #[test]
    fn columns_stay_where_the_rest_is_replaced() {
        let one = |column: usize| (column == 2).then_some(Bson::from(doc! { "$literal": "x" }));
        let flat = Rest {
            declared: Level(rest().declared.0[..2].to_vec()),
            ..rest()
        };
        assert_eq!(
            flat.replacing(doc! { "a": "$b" }, one),
            doc! { "$replaceWith": { "$mergeObjects": [
                { "_id": "$_id", "kind": { "$literal": "x" } }, { "$literal": { "a": "$b" } }
            ] } }
        );
        let told = rest().replacing(doc! { "addr": { "zip": 1 } }, |_| None);
        assert_eq!(
            told.get_document("$replaceWith")
                .unwrap()
                .get_document("addr")
                .unwrap()
                .to_string(),
            "{ \"$let\": { \"vars\": { \"made\": { \"$mergeObjects\": [{ \"city\": { \"$cond\": [{ \"$eq\": \
             [{ \"$type\": \"$addr\" }, \"object\"] }, \"$addr.city\", \"$$REMOVE\"] }, \"geo\": { \"$let\": { \"vars\": \
             { \"made\": { \"lat\": { \"$cond\": [{ \"$eq\": [{ \"$type\": \"$addr.geo\" }, \"object\"] }, \
             \"$addr.geo.lat\", \"$$REMOVE\"] } } }, \"in\": { \"$cond\": [{ \"$eq\": [\"$$made\", { \"$literal\": {} }] }, \
             \"$$REMOVE\", \"$$made\"] } } } }, { \"$literal\": { \"zip\": 1 } }] } }, \"in\": { \"$cond\": [{ \"$eq\": \
             [\"$$made\", { \"$literal\": {} }] }, \"$$REMOVE\", \"$$made\"] } } }"
        );
    }
}
