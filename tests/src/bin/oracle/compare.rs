//! Whether two answers to one statement are the same.
//!
//! Pure: it sees two answers and what the statement promises of their order.

use crate::choice::FLOATS;
use crate::run::{Answer, Row};
use crate::statement::{Order, Statement};
use std::collections::BTreeMap;

/// What a database says of its types: names by object ids, and what values of them contain.
#[derive(Debug, Default, Clone)]
pub struct Types {
    pub names: BTreeMap<u32, String>,
    /// Those that may stand inside of values, too: a shard puts its own into arrays and records.
    pub inside: BTreeMap<u32, Inner>,
}

/// A user's type as binary values of it are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inner {
    pub name: String,
    pub form: Form,
}

/// Where values of a type carry object ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The one of its elements, <https://www.postgresql.org/docs/current/xtypes.html>.
    Array,
    /// One for each field.
    Record,
    /// None.
    Plain,
}

const RECORD: u32 = 2249;
const RECORDS: u32 = 2287;

/// Why two answers are not the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub kind: &'static str,
    pub detail: String,
}

impl Types {
    /// What a type is called, or its number where that is the same everywhere.
    pub fn name(&self, oid: u32) -> String {
        match self.names.get(&oid) {
            Some(name) => name.clone(),
            None => oid.to_string(),
        }
    }

    /// Whether a value has another database's object id in it than that of the type's name.
    pub fn is_foreign(&self, answer: &Answer) -> bool {
        let mut foreign = false;
        let values = answer.rows.iter().flat_map(|row| row.iter().enumerate());
        for (at, value) in values {
            if let (Some(column), Some(value)) = (answer.columns.get(at), value)
                && column.format == 1
            {
                self.walk(column.ty, value, &mut |part| {
                    if let Part::Type(oid) = part {
                        foreign |= self.inside.contains_key(&oid) && !self.names.contains_key(&oid);
                    }
                });
            }
        }
        foreign
    }

    /// A binary value with the names of types in place of the database's own object ids.
    fn neutral(&self, ty: u32, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(value.len());
        self.walk(ty, value, &mut |part| match part {
            Part::Type(oid) => match self.inside.get(&oid) {
                Some(inner) => out.extend(inner.name.as_bytes()),
                None => out.extend(oid.to_be_bytes()),
            },
            Part::Bytes(bytes) => out.extend(bytes),
        });
        out
    }

    /// Takes a binary value of a type apart: object ids of types, and what is between them.
    fn walk(&self, ty: u32, value: &[u8], see: &mut impl FnMut(Part)) {
        let form = match self.inside.get(&ty) {
            _ if ty == RECORD => Form::Record,
            _ if ty == RECORDS => Form::Array,
            Some(inner) => inner.form,
            None => Form::Plain,
        };
        let taken = match form {
            Form::Plain => None,
            Form::Array => self.walk_array(value, see),
            Form::Record => self.walk_record(value, see),
        };
        // What is not of the form that its type says is seen as it is.
        see(Part::Bytes(taken.unwrap_or(value)));
    }

    /// Dimensions, flags, the elements' type, each dimension, elements with their lengths; what
    /// is left.
    fn walk_array<'v>(&self, value: &'v [u8], see: &mut impl FnMut(Part)) -> Option<&'v [u8]> {
        let (dimensions, flags) = (number(value, 0)?, number(value, 4)?);
        let ty = number(value, 8)?;
        let start = 12 + 8 * dimensions as usize;
        let (bounds, mut rest) = (value.get(12..start)?, value.get(start..)?);
        see(Part::Bytes(&dimensions.to_be_bytes()));
        see(Part::Bytes(&flags.to_be_bytes()));
        see(Part::Type(ty));
        see(Part::Bytes(bounds));
        while !rest.is_empty() {
            rest = self.walk_item(ty, rest, see)?;
        }
        Some(rest)
    }

    /// The number of fields, and of each its type, length and value; what is left.
    fn walk_record<'v>(&self, value: &'v [u8], see: &mut impl FnMut(Part)) -> Option<&'v [u8]> {
        let fields = number(value, 0)?;
        see(Part::Bytes(&fields.to_be_bytes()));
        let mut rest = &value[4..];
        for _ in 0..fields {
            let ty = number(rest, 0)?;
            see(Part::Type(ty));
            rest = self.walk_item(ty, &rest[4..], see)?;
        }
        Some(rest)
    }

    fn walk_item<'v>(
        &self,
        ty: u32,
        value: &'v [u8],
        see: &mut impl FnMut(Part),
    ) -> Option<&'v [u8]> {
        let length = number(value, 0)?;
        let null = length == u32::MAX;
        let end = 4 + if null { 0 } else { length as usize };
        let item = value.get(4..end)?;
        see(Part::Bytes(&value[..4]));
        if !null {
            self.walk(ty, item, see);
        }
        Some(&value[end..])
    }
}

/// A piece of a binary value.
enum Part<'v> {
    /// The object id of a type.
    Type(u32),
    Bytes(&'v [u8]),
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes(four.try_into().expect("four bytes")))
}

/// One side of a comparison.
pub struct Side<'s> {
    pub answer: &'s Answer,
    pub types: &'s Types,
}

/// The difference that is seen first; `status`: the transaction's state counts, too.
pub fn difference(o: &Side, r: &Side, statement: &Statement, status: bool) -> Option<Difference> {
    let differ = |kind, detail: String| Some(Difference { kind, detail });
    let (oa, ra) = (o.answer, r.answer);
    let code = |answer: &Answer| answer.error.as_ref().map(|(code, _)| code.clone());
    if code(oa) != code(ra) {
        return differ("error", format!("{:?} / {:?}", oa.error, ra.error));
    }
    if status && oa.status != ra.status {
        return differ("status", format!("{} / {}", oa.status, ra.status));
    }
    if oa.error.is_some() {
        return None;
    }
    let described = |side: &Side| -> Vec<(String, String, i32, u16)> {
        let columns = side.answer.columns.iter();
        columns
            .map(|c| (c.name.clone(), side.types.name(c.ty), c.modifier, c.format))
            .collect()
    };
    if described(o) != described(r) {
        return differ(
            "columns",
            format!("{:?} / {:?}", described(o), described(r)),
        );
    }
    let parameters = |side: &Side| -> Vec<String> {
        side.answer
            .parameters
            .iter()
            .map(|oid| side.types.name(*oid))
            .collect()
    };
    if parameters(o) != parameters(r) {
        return differ(
            "parameters",
            format!("{:?} / {:?}", parameters(o), parameters(r)),
        );
    }
    let (orows, rrows) = (rows(o, statement), rows(r, statement));
    if orows.len() != rrows.len() {
        return differ(
            "count",
            format!("{} rows / {} rows", orows.len(), rrows.len()),
        );
    }
    let sorted = |rows: &[Row]| {
        let mut rows = rows.to_vec();
        rows.sort();
        rows
    };
    let (os, rs) = (sorted(&orows), sorted(&rrows));
    if let Some(at) = (0..os.len()).find(|at| os[*at] != rs[*at]) {
        return differ(
            "rows",
            format!("{} / {}", show_row(&os[at]), show_row(&rs[at])),
        );
    }
    if oa.tags != ra.tags {
        return differ("tag", format!("{:?} / {:?}", oa.tags, ra.tags));
    }
    if oa.shape != ra.shape {
        return differ("shape", format!("{} / {}", oa.shape, ra.shape));
    }
    let keys: Box<dyn Fn(&Row) -> Row> = match &statement.order {
        Order::None => return None,
        Order::Hidden => Box::new(Row::clone),
        Order::Columns(keys) => Box::new(|row| {
            certain_keys(keys, o, statement)
                .iter()
                .map(|at| row.get(*at).cloned().flatten())
                .collect()
        }),
    };
    let at = (0..orows.len()).find(|at| keys(&orows[*at]) != keys(&rrows[*at]))?;
    let detail = format!(
        "row {at}: {} / {}",
        show_row(&orows[at]),
        show_row(&rrows[at])
    );
    differ("order", detail)
}

/// The keys of the order up to the first one that may be a sum of floats. What differs there in its last digits, which
/// depend on the order of the rows, is no tie for PostgreSQL, so that the keys behind it decide nothing for certain.
fn certain_keys<'k>(keys: &'k [usize], side: &Side, statement: &Statement) -> &'k [usize] {
    let float = |at: &usize| {
        let column = side.answer.columns.get(*at);
        statement.floats && column.is_none_or(|c| FLOATS.contains(&c.ty))
    };
    let last = keys.iter().position(float).unwrap_or(keys.len());
    &keys[..keys.len().min(last + 1)]
}

/// The rows in a form in which equal ones are equal.
pub fn rows(side: &Side, statement: &Statement) -> Vec<Row> {
    let answer = side.answer;
    let neutral = |at: usize, value: &Vec<u8>| -> Vec<u8> {
        let column = answer.columns.get(at);
        let float = column.is_none_or(|c| FLOATS.contains(&c.ty));
        if statement.floats && float {
            return rounded(
                value,
                column.is_some_and(|c| c.format == 1),
                column.map_or(0, |c| c.ty),
            );
        }
        match column {
            Some(column) if column.format == 1 => side.types.neutral(column.ty, value),
            _ => value.clone(),
        }
    };
    let row = |row: &Row| -> Row {
        let values = row.iter().enumerate();
        values
            .map(|(at, value)| value.as_ref().map(|value| neutral(at, value)))
            .collect()
    };
    answer.rows.iter().map(row).collect()
}

/// A floating point number to six digits: sums depend on their order in the last ones.
fn rounded(value: &[u8], binary: bool, ty: u32) -> Vec<u8> {
    let number = match (binary, ty) {
        (true, 701) => value.try_into().ok().map(f64::from_be_bytes),
        (true, 700) => value
            .try_into()
            .ok()
            .map(|bytes| f64::from(f32::from_be_bytes(bytes))),
        _ => std::str::from_utf8(value)
            .ok()
            // What COPY tells has no type; a whole number of six digits keeps them all.
            .and_then(|text| {
                match FLOATS.contains(&ty) || text.contains(['.', 'e']) || text.len() <= 6 {
                    true => text.parse().ok(),
                    false => None,
                }
            }),
    };
    match number {
        Some(number) if number.is_finite() => {
            let number = if number.abs() < 1e-9 { 0.0 } else { number };
            format!("{number:.5e}").into_bytes()
        }
        // There are many in binary form, and which one a computation gives depends on the order of the rows, too.
        Some(number) if number.is_nan() => b"NaN".to_vec(),
        _ => value.to_vec(),
    }
}

/// For people.
pub fn show_row(row: &Row) -> String {
    let values = row.iter().map(|value| match value {
        None => "∅".to_owned(),
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => text.to_owned(),
            _ => format!("{bytes:02x?}"),
        },
    });
    values.collect::<Vec<_>>().join("|")
}

/// An answer in short.
pub fn show(answer: &Answer) -> String {
    if let Some((code, message)) = &answer.error {
        return format!("{code} {message} ({})", answer.status);
    }
    let mut rows: Vec<String> = answer.rows.iter().map(show_row).collect();
    let more = rows.len().saturating_sub(12);
    rows.truncate(12);
    if more > 0 {
        rows.push(format!("… {more} more"));
    }
    format!(
        "{} {} ({}): {}",
        answer.shape,
        answer.tags.join(","),
        answer.status,
        rows.join(" ; ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(first: u32) -> Types {
        let inner = |name: &str, form| Inner {
            name: name.to_owned(),
            form,
        };
        let inside = BTreeMap::from([
            (first, inner("mood", Form::Plain)),
            (first + 1, inner("mood[]", Form::Array)),
            (first + 2, inner("pair", Form::Record)),
        ]);
        Types {
            names: BTreeMap::new(),
            inside,
        }
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn object_ids_are_where_the_type_says() {
        let (one, other) = (types(70_000), types(80_000));
        let pair = |mood: u32, text: u32| {
            words(&[2, mood, 4, text, mood + 1, 24, 1, 0, mood, 1, 1, u32::MAX])
        };
        assert_eq!(
            one.neutral(70_002, &pair(70_000, 5)),
            other.neutral(80_002, &pair(80_000, 5))
        );
        assert_ne!(
            one.neutral(70_002, &pair(70_000, 5)),
            other.neutral(80_002, &pair(80_000, 6))
        );
        // A number that looks like one is a number.
        let (a, b) = (words(&[70_000]), words(&[80_000]));
        assert_ne!(one.neutral(70_000, &a), other.neutral(80_000, &b));
    }
}
