//! The document of a new row, laid out as the bytes that MongoDB stores: a tree of values in between would cost several
//! times as much.

use bson::oid::ObjectId;
use bson::raw::CStr;
use bson::{Bson, RawArrayBuf, RawBsonRef, RawDocumentBuf};
use smallvec::SmallVec;

use super::super::{Collection, Column, Fault, Nulls};
use super::assigned::is_id;

/// Most documents are smaller; a buffer that does not grow is filled faster.
const USUAL_BYTES: usize = 256;
/// A document without fields.
const EMPTY: [u8; 5] = [5, 0, 0, 0, 0];

/// Columns and their values, in the order of the table.
type Fields<'a> = SmallVec<[(&'a Column, &'a Bson); 16]>;

/// The document with these values of a collection's columns; None is NULL. With an `_id`, unless a column is it or a part
/// of it.
pub(super) fn lay(
    collection: &Collection,
    values: &[Option<Bson>],
) -> Result<RawDocumentBuf, Fault> {
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    bytes.extend_from_slice(&EMPTY);
    let mut document = RawDocumentBuf::from_bytes(bytes).map_err(unwritten)?;
    if !collection.columns.iter().any(is_id) {
        put("_id", RawBsonRef::ObjectId(ObjectId::new()), &mut document)?;
    }
    let columns = collection.columns.iter().zip(values);
    let fields = columns.filter_map(|(column, value)| match (value, collection.nulls) {
        (Some(value), _) => Some((column, value)),
        (None, Nulls::Store) => Some((column, &Bson::Null)),
        (None, Nulls::Omit) => None,
    });
    put_fields(&fields.collect::<Fields<'_>>(), 0, &mut document)?;
    Ok(document)
}

/// Adds fields whose paths are the same up to here. A document in the document comes where the first of its fields does.
fn put_fields(
    fields: &[(&Column, &Bson)],
    depth: usize,
    document: &mut RawDocumentBuf,
) -> Result<(), Fault> {
    for (at, (column, value)) in fields.iter().enumerate() {
        let [name, rest @ ..] = &column.path[depth..] else {
            // No path is the beginning of another.
            continue;
        };
        if rest.is_empty() {
            put_value(name, value, document)?;
            continue;
        }
        let is_within = |(other, _): &&(&Column, &Bson)| other.path.get(depth) == Some(name);
        if fields[..at].iter().any(|other| is_within(&other)) {
            continue;
        }
        let within: Fields<'_> = fields[at..].iter().filter(is_within).copied().collect();
        let mut inner = RawDocumentBuf::new();
        put_fields(&within, depth + 1, &mut inner)?;
        put(name, RawBsonRef::Document(&inner), document)?;
    }
    Ok(())
}

fn put_value(name: &str, value: &Bson, document: &mut RawDocumentBuf) -> Result<(), Fault> {
    let value = match value {
        Bson::Null => RawBsonRef::Null,
        Bson::Boolean(value) => RawBsonRef::Boolean(*value),
        Bson::Int32(value) => RawBsonRef::Int32(*value),
        Bson::Int64(value) => RawBsonRef::Int64(*value),
        Bson::Double(value) => RawBsonRef::Double(*value),
        Bson::Decimal128(value) => RawBsonRef::Decimal128(*value),
        Bson::String(value) => RawBsonRef::String(value),
        Bson::DateTime(value) => RawBsonRef::DateTime(*value),
        Bson::ObjectId(value) => RawBsonRef::ObjectId(*value),
        Bson::Binary(value) => value.into(),
        Bson::Document(value) => {
            let value = RawDocumentBuf::try_from(value).map_err(unwritten)?;
            return put(name, RawBsonRef::Document(&value), document);
        }
        Bson::Array(values) => {
            let values = RawArrayBuf::try_from(values).map_err(unwritten)?;
            return put(name, RawBsonRef::Array(&values), document);
        }
        other => {
            let kind = other.element_type();
            return Err(Fault::new("XX000", format!("no column has {kind:?}")));
        }
    };
    put(name, value, document)
}

fn put(name: &str, value: RawBsonRef<'_>, document: &mut RawDocumentBuf) -> Result<(), Fault> {
    let name: &CStr = name.try_into().map_err(unwritten)?;
    document.append(name, value);
    Ok(())
}

/// A name or a string has a byte that BSON cannot have there.
fn unwritten(error: bson::error::Error) -> Fault {
    Fault::new("XX000", "a row that BSON has no document for").detail(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::super::Kind;
    use super::*;
    use bson::{Document, doc};

    fn collection(paths: &[&str], nulls: Nulls) -> Collection {
        let column = |path: &&str| Column::nullable(path, Kind::Int4, path);
        Collection {
            schema: "public".to_owned(),
            table: "t".to_owned(),
            collection: "t".to_owned(),
            columns: paths.iter().map(column).collect(),
            unique: Vec::new(),
            owner: None,
            nulls,
        }
    }

    fn laid(paths: &[&str], nulls: Nulls, values: &[Option<Bson>]) -> Document {
        let document = lay(&collection(paths, nulls), values).unwrap();
        Document::try_from(document).unwrap()
    }

    #[test]
    fn a_document_within_comes_where_its_first_field_does() {
        let paths = ["a.x", "_id", "a.y.z", "b", "c.d", "a.y.w"];
        let values: Vec<_> = (1..=6).map(|n| Some(Bson::Int32(n))).collect();
        let whole =
            doc! { "a": { "x": 1, "y": { "z": 3, "w": 6 } }, "_id": 2, "b": 4, "c": { "d": 5 } };
        assert_eq!(laid(&paths, Nulls::Store, &values), whole);
        let mut values = values;
        (values[0], values[4]) = (None, None);
        let stored = doc! { "a": { "x": null, "y": { "z": 3, "w": 6 } }, "_id": 2, "b": 4, "c": { "d": null } };
        assert_eq!(laid(&paths, Nulls::Store, &values), stored);
        let left_out = doc! { "_id": 2, "a": { "y": { "z": 3, "w": 6 } }, "b": 4 };
        let laid = laid(&paths, Nulls::Omit, &values);
        assert_eq!(laid, left_out);
        assert!(laid.keys().eq(left_out.keys()));
    }

    #[test]
    fn values_of_all_types_are_what_a_tree_of_them_would_be() {
        let values = [
            Bson::from("é"),
            Bson::Boolean(true),
            Bson::Int32(-7),
            Bson::Int64(5_000_000_000),
            Bson::Double(0.1),
            Bson::Decimal128("1.50".parse().unwrap()),
            Bson::DateTime(bson::DateTime::from_millis(7)),
            Bson::ObjectId(ObjectId::new()),
            Bson::from(bson::Uuid::new()),
            Bson::from(vec![Bson::Int32(1), Bson::Null]),
            Bson::from(doc! { "a": [{ "b": "x" }] }),
            Bson::Null,
        ];
        for value in values {
            let whole = doc! { "_id": 1, "v": value.clone() };
            let whole = RawDocumentBuf::try_from(&whole).unwrap();
            let values = [Some(Bson::Int32(1)), Some(value)];
            let laid = lay(&collection(&["_id", "v"], Nulls::Store), &values).unwrap();
            assert_eq!(laid.as_bytes(), whole.as_bytes());
        }
    }

    #[test]
    fn a_document_without_a_key_gets_one() {
        let laid = laid(&["v"], Nulls::Store, &[None]);
        assert!(laid.keys().eq(["_id", "v"]));
        assert!(matches!(laid.get("_id"), Some(Bson::ObjectId(_))));
    }
}
