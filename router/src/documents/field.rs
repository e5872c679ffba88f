//! The field of a document at the end of a path.

use bson::{RawBsonRef, RawDocument};

/// What is at the end of a path, or why nothing is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Field<'d> {
    /// A value, perhaps null.
    Value(RawBsonRef<'d>),
    /// Nothing, or null on the way to it.
    Missing,
    /// On the way is something else than a document.
    Blocked(RawBsonRef<'d>),
}

/// Goes down a path. A document that cannot be read has no fields.
pub fn field<'d>(document: &'d RawDocument, path: &[String]) -> Field<'d> {
    let Some((first, rest)) = path.split_first() else {
        return Field::Missing;
    };
    let Some(found) = document.get(first).ok().flatten() else {
        return Field::Missing;
    };
    if rest.is_empty() {
        return Field::Value(found);
    }
    match found {
        RawBsonRef::Document(inner) => field(inner, rest),
        RawBsonRef::Null | RawBsonRef::Undefined => Field::Missing,
        other => Field::Blocked(other),
    }
}

/// The value at the end of a path; none where there is nothing on the way.
pub fn find<'d>(document: &'d RawDocument, path: &[String]) -> Option<RawBsonRef<'d>> {
    match field(document, path) {
        Field::Value(value) => Some(value),
        Field::Missing | Field::Blocked(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::rawdoc;

    #[test]
    fn what_is_on_the_way_is_told() {
        let document =
            rawdoc! { "a": { "b": 1, "n": null }, "n": null, "list": [rawdoc! { "b": 1 }] };
        let at = |path: &str| {
            let path: Vec<String> = path.split('.').map(str::to_owned).collect();
            match field(&document, &path) {
                Field::Value(value) => format!("{:?}", value.element_type()),
                Field::Missing => "missing".to_owned(),
                Field::Blocked(value) => format!("blocked by {:?}", value.element_type()),
            }
        };
        for (path, told) in [
            ("a.b", "Int32"),
            ("a.n", "Null"),
            ("a.c", "missing"),
            ("n.b", "missing"),
            ("x.y", "missing"),
            ("list.b", "blocked by Array"),
            ("a.b.c", "blocked by Int32"),
        ] {
            assert_eq!(at(path), told, "{path}");
        }
    }
}
