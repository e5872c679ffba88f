//! Writes the DETAIL of errors about a document, in PostgreSQL's words: which row breaks a constraint, which key exists
//! already.

use bson::{Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf};

use super::rest::Rest;
use super::translate::{Change, FieldChange};
use super::value::{self, Forms};
use super::{Collection, Column, Unique};

/// Values are cut to this many bytes. See `ExecBuildSlotValueDescription` in PostgreSQL's `execMain.c`.
const MAX_FIELD: usize = 64;

/// The detail for a row that a constraint does not allow. `None` if a value cannot be written as text.
pub fn failing_row(
    collection: &Collection,
    document: &RawDocument,
    forms: &Forms,
) -> Option<String> {
    let rest = match Rest::of(collection).filter(|_| !Rest::is_null(document)) {
        Some(rest) => rest.read(document).ok()?,
        None => RawDocumentBuf::new(),
    };
    let fields = collection
        .columns
        .iter()
        .map(|column| match column.is_rest() {
            true if Rest::is_null(document) => Some("null".to_owned()),
            true => shown(column, RawBsonRef::Document(&rest), forms),
            false => text(column, document, forms),
        });
    let fields = fields.map(|text| text.map(|text| cut(&text)));
    let fields = fields.collect::<Option<Vec<_>>>()?.join(", ");
    Some(format!("Failing row contains ({fields})."))
}

/// The detail for a row whose key exists already. See `_bt_check_unique` in PostgreSQL's `nbtinsert.c`.
pub fn existing_key(
    (collection, unique): (&Collection, &Unique),
    document: &RawDocument,
    forms: &Forms,
) -> Option<String> {
    let columns = unique.columns.iter().map(|at| &collection.columns[*at]);
    let names: Vec<&str> = columns.clone().map(|column| &*column.name).collect();
    let values = columns.map(|column| text(column, document, forms));
    let values = values.collect::<Option<Vec<_>>>()?.join(", ");
    Some(format!(
        "Key ({})=({values}) already exists.",
        names.join(", ")
    ))
}

/// The same for a row that an UPDATE would have changed. The key comes from the new values and from the filter that
/// found the row. `None` if not all of it is known.
pub fn changed_key(
    (collection, unique): (&Collection, &Unique),
    (filter, change): (&Document, &Change),
    forms: &Forms,
) -> Option<String> {
    let mut known = Document::new();
    for column in unique.columns.iter().map(|at| &collection.columns[*at]) {
        let field = column.field();
        let value = match change.gets(&field) {
            FieldChange::Constant(value) => value,
            // Kinds with several forms are left out: equal values of them may have different texts.
            FieldChange::Nothing if column.kind.has_one_form() => asked(filter, &field)?,
            FieldChange::Nothing | FieldChange::Other => return None,
        };
        place(&mut known, &column.path, value.clone())?;
    }
    let known = RawDocumentBuf::try_from(&known).ok()?;
    existing_key((collection, unique), &known, forms)
}

/// The value of a field, if the filter allows only one.
fn asked<'f>(filter: &'f Document, field: &str) -> Option<&'f Bson> {
    filter.iter().find_map(|(name, condition)| {
        match (name.as_str(), condition) {
            ("$and", Bson::Array(all)) => {
                let mut all = all.iter().filter_map(Bson::as_document);
                return all.find_map(|filter| asked(filter, field));
            }
            (name, _) if name != field => return None,
            _ => {}
        }
        let value = match condition {
            Bson::Document(operators) => operators.get("$eq")?,
            value => value,
        };
        let is_value = !matches!(
            value,
            Bson::Null | Bson::Document(_) | Bson::Array(_) | Bson::RegularExpression(_)
        );
        is_value.then_some(value)
    })
}

/// Stores a value at a path in a document.
fn place(document: &mut Document, path: &[String], value: Bson) -> Option<()> {
    let (field, parents) = path.split_last()?;
    let mut place = document;
    for parent in parents {
        let inner = place.entry(parent.clone());
        let inner = inner.or_insert_with(|| Bson::Document(Document::new()));
        place = inner.as_document_mut()?;
    }
    place.insert(field, value);
    Some(())
}

/// The value of a column as text; `null` if there is none.
fn text(column: &Column, mut place: &RawDocument, forms: &Forms) -> Option<String> {
    let null = || Some("null".to_owned());
    let (field, parents) = column.path.split_last()?;
    for parent in parents {
        match place.get_document(parent) {
            Ok(inner) => place = inner,
            Err(_) => return null(),
        }
    }
    let Some(value) = place.get(field).ok().flatten() else {
        return null();
    };
    shown(column, value, forms)
}

fn shown(column: &Column, value: RawBsonRef<'_>, forms: &Forms) -> Option<String> {
    let mut text = Vec::new();
    match value::put_text(&column.kind, value, forms, &mut text).ok()? {
        true => String::from_utf8(text).ok(),
        false => Some("null".to_owned()),
    }
}

fn cut(text: &str) -> String {
    if text.len() <= MAX_FIELD {
        return text.to_owned();
    }
    let end = (0..=MAX_FIELD)
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    format!("{}...", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Nulls};
    use super::*;
    use bson::doc;

    fn people() -> Collection {
        Collection {
            schema: "public".to_owned(),
            table: "people".to_owned(),
            collection: "people".to_owned(),
            columns: vec![
                Column::nullable("city", Kind::Text, "address.city"),
                Column::nullable("score", Kind::Numeric, "score"),
            ],
            unique: vec![Unique {
                name: "people_key".to_owned(),
                index: "key".to_owned(),
                columns: vec![0, 1],
            }],
            owner: None,
            nulls: Nulls::Store,
        }
    }

    fn told(filter: &Document, change: Document) -> Option<String> {
        let people = people();
        let change = match change.contains_key("pipeline") {
            true => Change::Pipeline(vec![doc! { "$set": change.get_document("pipeline").ok()? }]),
            false => Change::Operators(change),
        };
        let key = (&people, &people.unique[0]);
        changed_key(key, (filter, &change), &Forms::default())
    }

    #[test]
    fn a_key_is_told_only_if_all_of_it_is_certain() {
        let number: Bson = Bson::Decimal128("1.50".parse().expect("a number"));
        let whole = Some("Key (city, score)=(Ulm, 1.50) already exists.".to_owned());
        let both = doc! { "$set": { "address.city": "Ulm", "score": number.clone() } };
        assert_eq!(told(&doc! {}, both), whole);
        let score = || doc! { "$set": { "score": number.clone() } };
        let by_city = doc! { "$and": [{ "n": 1 }, { "address.city": { "$eq": "Ulm" } }] };
        assert_eq!(told(&by_city, score()), whole);
        assert_eq!(told(&doc! { "address.city": "Ulm" }, score()), whole);
        let literal = doc! { "pipeline": { "address.city": { "$literal": "Ulm" }, "score": { "$literal": number.clone() } } };
        assert_eq!(told(&doc! {}, literal), whole);
        // The filter allows several values, or NULL, or says nothing of the column.
        for filter in [
            doc! { "address.city": { "$gte": "Ulm" } },
            doc! { "$or": [{ "address.city": "Ulm" }, { "n": 1 }] },
            doc! { "address.city": Bson::Null },
            doc! {},
        ] {
            assert_eq!(told(&filter, score()), None, "{filter}");
        }
        // The stored value may be 1.5, which equals 1.50.
        let by_score = doc! { "score": number.clone() };
        let city = doc! { "$set": { "address.city": "Ulm" } };
        assert_eq!(told(&by_score, city), None);
        let computed = doc! { "pipeline": { "address.city": { "$literal": "Ulm" }, "score": { "$add": ["$score", 1] } } };
        assert_eq!(told(&doc! {}, computed), None);
    }
}
