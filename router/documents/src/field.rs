//! The field of a document at the end of a path.

use bson::raw::RawElement;
use bson::{RawBsonRef, RawDocument};
use smallvec::SmallVec;

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
    match document.get(first) {
        Ok(Some(found)) => below(found, rest),
        Ok(None) | Err(_) => Field::Missing,
    }
}

fn below<'d>(found: RawBsonRef<'d>, rest: &[String]) -> Field<'d> {
    if rest.is_empty() {
        return Field::Value(found);
    }
    match found {
        RawBsonRef::Document(inner) => field(inner, rest),
        RawBsonRef::Null | RawBsonRef::Undefined => Field::Missing,
        other => Field::Blocked(other),
    }
}

/// The fields of a document, for who wants several of them: BSON has no index, so that each look at the document
/// itself begins anew.
pub struct Fields<'d>(SmallVec<[RawElement<'d>; 16]>);

impl<'d> Fields<'d> {
    /// All of them, or those before the one that cannot be read.
    pub fn of(document: &'d RawDocument) -> Fields<'d> {
        Fields(document.iter_elements().map_while(Result::ok).collect())
    }

    /// The value at the end of a path; none where there is nothing on the way. Of fields of one name the first counts.
    pub fn find(&self, path: &[String]) -> Option<RawBsonRef<'d>> {
        let (first, rest) = path.split_first()?;
        let found = self.0.iter().find(|one| one.key().as_str() == first)?;
        match below(found.value().ok()?, rest) {
            Field::Value(value) => Some(value),
            Field::Missing | Field::Blocked(_) => None,
        }
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

    #[test]
    fn fields_that_are_read_at_once_are_those_that_are_found_one_by_one() {
        let mut document = rawdoc! { "a": { "b": 1 }, "n": null, "list": [1], "a.b": 2 };
        // Of two fields of one name the first counts.
        document.append(bson::cstr!("n"), 7);
        let mut cut = document.clone().into_bytes();
        let kind = cut.iter().position(|byte| *byte == 4);
        // There is no such type: nothing from `list` on can be read.
        cut[kind.unwrap()] = 99;
        let cut = RawDocument::from_bytes(&cut).unwrap();
        for (document, found) in [(&*document, 4), (cut, 3)] {
            let fields = Fields::of(document);
            let mut values = 0;
            for path in ["a", "a.b", "a.c", "n", "list", "list.b", "x", "n.b"] {
                let path: Vec<String> = path.split('.').map(str::to_owned).collect();
                let alone = match field(document, &path) {
                    Field::Value(value) => Some(value),
                    Field::Missing | Field::Blocked(_) => None,
                };
                assert_eq!(fields.find(&path), alone, "{path:?}");
                values += usize::from(alone.is_some());
            }
            assert_eq!(values, found);
            assert_eq!(fields.find(&[]), None);
        }
    }
}
