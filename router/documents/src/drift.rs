//! Where a collection is not as its table declares it.
//!
//! In come the declaration, the collection's indexes and some of its documents; out go findings, each of which says
//! what, in how many documents, and what to do. A value is looked at by what reads it for clients, so that what is
//! found here is what they would be told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bson::{Bson, RawBsonRef, RawDocument, RawDocumentBuf};

use super::field::{Field, field};
use super::index::{Index, Kept, fields, keeper};
use super::rest::Rest;
use super::value::{Forms, put_text};
use super::{Collection, Column, Kind};

/// The most fields that one finding names.
const MAX_NAMED: usize = 20;

/// Something to be known of a collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub weight: Weight,
    /// What, and what to do.
    pub what: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Statements fail or have wrong answers.
    Error,
    /// Something is not as it seems.
    Warning,
    /// Good to know.
    Note,
}

/// What else is known of a collection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traits {
    /// It is a view, a time series or the like, by MongoDB's name for such.
    pub special: Option<String>,
    /// The language by whose rules texts are compared; none compares bytes.
    pub collation: Option<String>,
}

impl Finding {
    /// Of this weight.
    pub fn new(weight: Weight, what: impl Into<String>) -> Finding {
        Finding {
            weight,
            what: what.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.weight.word(), self.what)
    }
}

impl Weight {
    /// What a line about it begins with.
    pub fn word(self) -> &'static str {
        match self {
            Weight::Error => "error",
            Weight::Warning => "warning",
            Weight::Note => "note",
        }
    }
}

/// What is wrong with the collection itself.
pub fn of_traits(table: &Collection, traits: &Traits) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(special) = &traits.special {
        let what = format!("{:?} is a {special}: writes to it fail", table.collection);
        findings.push(Finding::new(Weight::Warning, what));
    }
    if let Some(collation) = &traits.collation {
        let what = format!(
            "collection {:?} has the collation {collation:?}: texts are compared by their bytes, for which its indexes are \
             of no use; use one without a collation",
            table.collection
        );
        findings.push(Finding::new(Weight::Warning, what));
    }
    findings
}

/// Whether the unique keys are kept, and who else keeps some.
pub fn of_indexes(table: &Collection, indexes: &[Index]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut keepers = BTreeSet::new();
    for unique in &table.unique {
        let key = format!(
            "unique key {:?} ({})",
            unique.name,
            fields(table, unique).join(", ")
        );
        let is_array = |at: &&usize| matches!(table.columns[**at].kind, Kind::Array(_));
        if let Some(at) = unique.columns.iter().find(is_array) {
            let what = format!(
                "{key}: column {:?} is an array, of which MongoDB keeps each element unique: leave the key out",
                table.columns[*at].name
            );
            findings.push(Finding::new(Weight::Error, what));
        }
        let kept = keeper(table, unique, indexes);
        if let Kept::By(index) | Kept::Not(index, _) = &kept {
            keepers.insert(&index.name);
        }
        findings.extend(of_key(&key, &unique.index, &kept));
    }
    for index in indexes.iter().filter(|index| index.is_unique) {
        if !keepers.contains(&index.name) && index.fields != ["_id"] {
            let what = format!(
                "unique index {:?} ({}) is not declared: a duplicate is told with that name, and ON CONFLICT does not \
                 know it; declare a [[table.unique]] with `index` = {:?}",
                index.name,
                index.fields.join(", "),
                index.name
            );
            findings.push(Finding::new(Weight::Warning, what));
        }
    }
    findings
}

fn of_key(key: &str, declared: &str, kept: &Kept<'_>) -> Option<Finding> {
    let make = "`mothership mongo ensure-indexes` makes it";
    let (weight, what) = match kept {
        Kept::By(index) if index.name != declared => (
            Weight::Warning,
            format!(
                "{key} is kept by index {:?}, not by {declared:?}: a duplicate is told with the name of the index; \
                 declare `index` = {:?}",
                index.name, index.name
            ),
        ),
        Kept::By(index) if index.is_sparse => (
            Weight::Note,
            format!(
                "{key}: index {:?} is sparse: documents without the fields are not in it",
                index.name
            ),
        ),
        Kept::By(_) => return None,
        Kept::Not(index, flaw) => (
            Weight::Error,
            format!(
                "{key} is not kept by index {:?}: {}; make one that is for all documents and compares bytes",
                index.name,
                flaw.told()
            ),
        ),
        Kept::Taken(index) => (
            Weight::Error,
            format!(
                "{key} is kept by no index: {:?} is {} ({}); give the key another `index`, and {make}",
                index.name,
                if index.is_unique {
                    "on other fields"
                } else {
                    "not one that keeps it"
                },
                index.fields.join(", ")
            ),
        ),
        Kept::Missing => (
            Weight::Error,
            format!("{key} is kept by no index: duplicates are stored; {make}"),
        ),
    };
    Some(Finding::new(weight, what))
}

/// Where documents are not as the columns say.
pub fn of_documents(table: &Collection, sample: &[RawDocumentBuf]) -> Vec<Finding> {
    if sample.is_empty() {
        return Vec::new();
    }
    let columns = table.columns.iter().filter(|column| !column.is_rest());
    let mut findings: Vec<Finding> = columns
        .flat_map(|column| of_column(column, sample))
        .collect();
    findings.extend(of_rest(table, sample));
    findings.extend(undeclared(table, sample));
    findings
}

/// In how many documents, and the first of them.
#[derive(Default)]
struct Tally {
    count: usize,
    first: Option<Bson>,
}

impl Tally {
    fn add(&mut self, document: &RawDocument) {
        self.count += 1;
        if self.first.is_none() {
            let id = document.get("_id").ok().flatten();
            self.first = id.and_then(|id| Bson::try_from(id).ok());
        }
    }

    fn told(&self, of: usize) -> String {
        let such = match &self.first {
            Some(id) => format!(", such as the one with _id {id}"),
            None => String::new(),
        };
        format!("in {} of {of} documents sampled{such}", self.count)
    }
}

fn of_column(column: &Column, sample: &[RawDocumentBuf]) -> Vec<Finding> {
    let mut wrong: BTreeMap<String, Tally> = BTreeMap::new();
    let (mut long, mut blocked) = (Tally::default(), BTreeMap::<String, Tally>::new());
    let (mut nothing, mut values) = (Tally::default(), 0);
    for document in sample {
        match field(document, &column.path) {
            Field::Missing => nothing.add(document),
            Field::Blocked(value) => {
                let kind = format!("{:?}", value.element_type());
                blocked.entry(kind).or_default().add(document);
            }
            Field::Value(value) => match reads(&column.kind, value) {
                Ok(true) => {
                    values += 1;
                    if is_too_long(&column.kind, value) {
                        long.add(document);
                    }
                }
                Ok(false) => nothing.add(document),
                Err(message) => wrong.entry(message).or_default().add(document),
            },
        }
    }
    let of = sample.len();
    let name = match column.field() {
        field if field == column.name => format!("column {:?}", column.name),
        field => format!("column {:?} (field {field:?})", column.name),
    };
    let mut findings = Vec::new();
    let mut say =
        |weight, what: String| findings.push(Finding::new(weight, format!("{name} {what}")));
    let is_found = !(wrong.is_empty() && blocked.is_empty());
    for (message, tally) in wrong {
        let what = format!(
            "is declared {}: {message}, {}: reading it fails; declare another type or change the documents",
            column.kind.written(),
            tally.told(of)
        );
        say(Weight::Error, what);
    }
    for (kind, tally) in blocked {
        let what = format!(
            "is inside of a document, but there is a value of BSON type {kind} in its place, {}: that is read as NULL \
             and may be found as if it were not; declare a field further up as jsonb or change the documents",
            tally.told(of)
        );
        say(Weight::Error, what);
    }
    if column.not_null && nothing.count > 0 {
        let what = format!(
            "is declared not_null: it is null or left out {}: answers may be wrong; leave `not_null` out or fill the \
             field",
            nothing.told(of)
        );
        say(Weight::Error, what);
    } else if values == 0 && !is_found {
        say(
            Weight::Note,
            format!("is NULL in all {of} documents sampled: see whether its path is right"),
        );
    }
    if long.count > 0 {
        let what = format!(
            "is declared {}: the text is longer {}",
            column.kind.written(),
            long.told(of)
        );
        say(Weight::Warning, what);
    }
    findings
}

/// Whether the column of all other fields can be read.
fn of_rest(table: &Collection, sample: &[RawDocumentBuf]) -> Vec<Finding> {
    let Some(rest) = Rest::of(table) else {
        return Vec::new();
    };
    let mut wrong: BTreeMap<String, Tally> = BTreeMap::new();
    for document in sample {
        let read = match rest.read(document) {
            Ok(read) => reads(&Kind::Jsonb, RawBsonRef::Document(&read)),
            Err(fault) => Err(fault.message),
        };
        if let Err(message) = read {
            wrong.entry(message).or_default().add(document);
        }
    }
    let found = wrong.into_iter().map(|(message, tally)| {
        let what = format!(
            "column {:?} has all other fields: {message}, {}: reading it fails; declare columns for those fields or \
             change the documents",
            rest.name(),
            tally.told(sample.len())
        );
        Finding::new(Weight::Error, what)
    });
    found.collect()
}

/// Whether a column of this type has a value there, or NULL; else what a client is told that reads it.
pub(super) fn reads(kind: &Kind, value: RawBsonRef<'_>) -> Result<bool, String> {
    put_text(kind, value, &Forms::default(), &mut Vec::new()).map_err(|fault| fault.message)
}

fn is_too_long(kind: &Kind, value: RawBsonRef<'_>) -> bool {
    match (kind, value) {
        (Kind::Varchar(most), RawBsonRef::String(text)) => text.chars().count() > *most as usize,
        _ => false,
    }
}

/// Fields that no column has.
fn undeclared(table: &Collection, sample: &[RawDocumentBuf]) -> Option<Finding> {
    let mut found = BTreeMap::new();
    let columns: Vec<&[String]> = table.columns.iter().map(|c| c.path.as_slice()).collect();
    for document in sample {
        beside(document, &mut Vec::new(), &columns, &mut found);
    }
    if found.is_empty() {
        return None;
    }
    let named = found.iter().take(MAX_NAMED);
    let mut named: Vec<String> = named
        .map(|(path, count)| format!("{:?} in {count}", path.join(".")))
        .collect();
    if found.len() > MAX_NAMED {
        named.push(format!("{} more", found.len() - MAX_NAMED));
    }
    let (of, named) = (sample.len(), named.join(", "));
    let what = match Rest::of(table) {
        Some(rest) => format!(
            "fields of column {:?}, of {of} documents sampled: {named}",
            rest.name()
        ),
        None => format!(
            "fields without a column, of {of} documents sampled: {named}; SQL does not see them, and leaves them as they \
             are"
        ),
    };
    Some(Finding::new(Weight::Note, what))
}

fn beside<'d>(
    document: &'d RawDocument,
    path: &mut Vec<&'d str>,
    columns: &[&[String]],
    found: &mut BTreeMap<Vec<&'d str>, usize>,
) {
    // What cannot be read is told by its column.
    for (name, value) in document.into_iter().flatten() {
        path.push(name.as_str());
        let depth = path.len();
        let mut within = columns.iter().filter(|column| {
            let begun = column.iter().zip(path.iter());
            column.len() >= depth && begun.take(depth).all(|(own, part)| own == part)
        });
        match (within.next(), value) {
            (None, _) => *found.entry(path.clone()).or_default() += 1,
            (Some(column), RawBsonRef::Document(inner)) if column.len() > depth => {
                beside(inner, path, columns, found);
            }
            (Some(_), _) => {}
        }
        path.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Nulls, Unique};
    use bson::{doc, rawdoc};
    use expect_test::{Expect, expect};

    fn table() -> Collection {
        let column = |name: &str, kind: &str, path: &str, not_null: bool| Column {
            name: name.to_owned(),
            kind: Kind::from_name(kind).unwrap(),
            path: path.split('.').map(str::to_owned).collect(),
            not_null,
            default: None,
        };
        let unique = |name: &str, index: &str, columns: Vec<usize>| Unique {
            name: name.to_owned(),
            index: index.to_owned(),
            columns,
        };
        Collection {
            schema: "public".to_owned(),
            table: "people".to_owned(),
            collection: "people".to_owned(),
            columns: vec![
                column("id", "int8", "_id", true),
                column("email", "varchar(5)", "email", true),
                column("city", "text", "address.city", false),
                column("tags", "text[]", "tags", false),
            ],
            unique: vec![
                unique("people_pkey", "_id_", vec![0]),
                unique("people_email_key", "email_1", vec![1]),
            ],
            owner: None,
            nulls: Nulls::Store,
        }
    }

    fn check(findings: Vec<Finding>, expected: Expect) {
        let told: String = findings
            .iter()
            .map(|finding| format!("{finding}\n"))
            .collect();
        expected.assert_eq(&told);
    }

    fn indexes(listed: Vec<bson::Document>) -> Vec<Index> {
        let id = doc! { "key": { "_id": 1 }, "name": "_id_" };
        let all = std::iter::once(id).chain(listed);
        all.map(|listed| Index::read(&listed).unwrap()).collect()
    }

    #[test]
    fn documents_as_declared_are_no_finding() {
        let sample = [
            rawdoc! { "_id": 1, "email": "a@b", "address": { "city": "Ulm" }, "tags": ["x", null] },
            rawdoc! { "_id": 2_i64, "email": "", "address": null, "tags": [] },
        ];
        assert_eq!(of_documents(&table(), &sample), []);
        assert_eq!(of_documents(&table(), &[]), []);
        let good = indexes(vec![
            doc! { "key": { "email": 1 }, "name": "email_1", "unique": true },
        ]);
        assert_eq!(of_indexes(&table(), &good), []);
        assert_eq!(of_traits(&table(), &Traits::default()), []);
    }

    #[test]
    fn values_of_other_types_nulls_and_other_fields_are_told() {
        let sample = [
            rawdoc! { "_id": 1, "email": "a@b", "address": "Ulm", "tags": "x", "age": 7 },
            rawdoc! { "_id": 2, "email": null, "address": { "city": 5, "zip": 1, "x.y": 1 }, "tags": [1] },
            rawdoc! { "_id": 3, "address": { "city": 6 }, "tags": [["x"]], "age": null },
            rawdoc! { "_id": "four", "email": "much too long", "address": [] },
        ];
        check(
            of_documents(&table(), &sample),
            expect![[r#"
            error: column "id" (field "_id") is declared int8: value is of BSON type String, expected Int32, Int64 or a whole number, in 1 of 4 documents sampled, such as the one with _id "four": reading it fails; declare another type or change the documents
            error: column "email" is declared not_null: it is null or left out in 2 of 4 documents sampled, such as the one with _id 2: answers may be wrong; leave `not_null` out or fill the field
            warning: column "email" is declared varchar(5): the text is longer in 1 of 4 documents sampled, such as the one with _id "four"
            error: column "city" (field "address.city") is declared text: value is of BSON type Int32, expected String, in 2 of 4 documents sampled, such as the one with _id 2: reading it fails; declare another type or change the documents
            error: column "city" (field "address.city") is inside of a document, but there is a value of BSON type Array in its place, in 1 of 4 documents sampled, such as the one with _id "four": that is read as NULL and may be found as if it were not; declare a field further up as jsonb or change the documents
            error: column "city" (field "address.city") is inside of a document, but there is a value of BSON type String in its place, in 1 of 4 documents sampled, such as the one with _id 1: that is read as NULL and may be found as if it were not; declare a field further up as jsonb or change the documents
            error: column "tags" is declared text[]: value is of BSON type Array, expected String, in 1 of 4 documents sampled, such as the one with _id 3: reading it fails; declare another type or change the documents
            error: column "tags" is declared text[]: value is of BSON type Int32, expected String, in 1 of 4 documents sampled, such as the one with _id 2: reading it fails; declare another type or change the documents
            error: column "tags" is declared text[]: value is of BSON type String, expected Array, in 1 of 4 documents sampled, such as the one with _id 1: reading it fails; declare another type or change the documents
            note: fields without a column, of 4 documents sampled: "address.x.y" in 1, "address.zip" in 1, "age" in 2; SQL does not see them, and leaves them as they are
        "#]],
        );
    }

    #[test]
    fn a_column_of_all_other_fields_is_told_with_what_is_in_it() {
        let sample = [
            rawdoc! { "_id": 1, "email": "a@b", "address": { "city": "Ulm", "zip": 1 }, "tags": [], "age": 7 },
            rawdoc! { "_id": 2, "email": "a@b", "tags": [], "at": bson::Timestamp { time: 1, increment: 1 } },
        ];
        let mut table = table();
        table.columns.push(Column {
            name: "more".to_owned(),
            kind: Kind::Jsonb,
            path: Vec::new(),
            not_null: true,
            default: None,
        });
        check(
            of_documents(&table, &sample),
            expect![[r#"
            error: column "more" has all other fields: value is of BSON type Timestamp, expected what JSON has a type for, in 1 of 2 documents sampled, such as the one with _id 2: reading it fails; declare columns for those fields or change the documents
            note: fields of column "more", of 2 documents sampled: "address.zip" in 1, "age" in 1, "at" in 1
        "#]],
        );
    }

    #[test]
    fn a_column_without_values_may_have_a_wrong_path() {
        let sample = [rawdoc! { "_id": 1, "email": "a@b", "tags": [] }];
        check(
            of_documents(&table(), &sample),
            expect![[r#"
            note: column "city" (field "address.city") is NULL in all 1 documents sampled: see whether its path is right
        "#]],
        );
    }

    #[test]
    fn keys_without_an_index_and_indexes_without_a_key_are_told() {
        check(
            of_indexes(&table(), &indexes(vec![])),
            expect![[r#"
            error: unique key "people_email_key" (email) is kept by no index: duplicates are stored; `mothership mongo ensure-indexes` makes it
        "#]],
        );
        let others = indexes(vec![
            doc! { "key": { "email": 1 }, "name": "email_1" },
            doc! { "key": { "address.city": 1 }, "name": "by_city", "unique": true },
        ]);
        check(
            of_indexes(&table(), &others),
            expect![[r#"
            error: unique key "people_email_key" (email) is kept by no index: "email_1" is not one that keeps it (email); give the key another `index`, and `mothership mongo ensure-indexes` makes it
            warning: unique index "by_city" (address.city) is not declared: a duplicate is told with that name, and ON CONFLICT does not know it; declare a [[table.unique]] with `index` = "by_city"
        "#]],
        );
        let named = |more: bson::Document| {
            let mut listed = doc! { "key": { "email": 1 }, "name": "mail", "unique": true };
            listed.extend(more);
            of_indexes(&table(), &indexes(vec![listed]))
        };
        check(
            named(doc! {}),
            expect![[r#"
            warning: unique key "people_email_key" (email) is kept by index "mail", not by "email_1": a duplicate is told with the name of the index; declare `index` = "mail"
        "#]],
        );
        check(
            named(doc! { "name": "email_1", "sparse": true }),
            expect![[r#"
                note: unique key "people_email_key" (email): index "email_1" is sparse: documents without the fields are not in it
            "#]],
        );
        check(
            named(doc! { "partialFilterExpression": { "email": { "$gt": "m" } } }),
            expect![[r#"
                error: unique key "people_email_key" (email) is not kept by index "mail": it leaves documents out (partialFilterExpression); make one that is for all documents and compares bytes
            "#]],
        );
        check(
            named(doc! { "collation": { "locale": "de" } }),
            expect![[r#"
                error: unique key "people_email_key" (email) is not kept by index "mail": its collation is not "simple": it takes texts for equal that differ; make one that is for all documents and compares bytes
            "#]],
        );
        let mut of_array = table();
        of_array.unique[1].columns = vec![3];
        let listed = doc! { "key": { "tags": 1 }, "name": "email_1", "unique": true };
        check(
            of_indexes(&of_array, &indexes(vec![listed])),
            expect![[r#"
            error: unique key "people_email_key" (tags): column "tags" is an array, of which MongoDB keeps each element unique: leave the key out
        "#]],
        );
    }

    #[test]
    fn views_and_collations_are_told() {
        let traits = Traits {
            special: Some("view".to_owned()),
            collation: Some("de".to_owned()),
        };
        check(
            of_traits(&table(), &traits),
            expect![[r#"
            warning: "people" is a view: writes to it fail
            warning: collection "people" has the collation "de": texts are compared by their bytes, for which its indexes are of no use; use one without a collation
        "#]],
        );
    }
}
