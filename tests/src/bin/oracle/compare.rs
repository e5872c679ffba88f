//! Whether two answers to one statement are the same.
//!
//! Pure: it sees two answers and what the statement promises of their order.

use crate::run::{Answer, Row};
use crate::statement::{Order, Statement};
use std::collections::BTreeMap;

/// What a database says of its types: names by object ids, and what values of them contain.
#[derive(Debug, Default, Clone)]
pub struct Types {
    pub names: BTreeMap<u32, String>,
    /// Those that may stand inside of values, too: a shard puts its own into arrays and records.
    pub inside: BTreeMap<u32, String>,
}

/// Object ids from here on are given by each database on its own.
const FIRST_OWN: u32 = 16384;
const RECORD: u32 = 2249;

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
        let own = |at: usize| {
            answer
                .columns
                .get(at)
                .is_some_and(|c| c.format == 1 && c.ty >= FIRST_OWN)
        };
        let values = answer.rows.iter().flat_map(|row| row.iter().enumerate());
        values
            .filter(|(at, _)| own(*at))
            .filter_map(|(_, value)| value.as_ref())
            .any(|value| {
                value.windows(4).any(|four| {
                    let oid = u32::from_be_bytes(four.try_into().expect("four bytes"));
                    self.inside.contains_key(&oid) && !self.names.contains_key(&oid)
                })
            })
    }

    /// A binary value with the names of types in place of the database's own object ids.
    ///
    /// Arrays and records carry them as four bytes on their own; any four bytes that are the
    /// number of such a type are taken for it.
    fn neutral(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while at < bytes.len() {
            let four = bytes
                .get(at..at + 4)
                .and_then(|four| <[u8; 4]>::try_from(four).ok());
            match four
                .map(u32::from_be_bytes)
                .and_then(|oid| self.inside.get(&oid))
            {
                Some(name) => {
                    out.extend(name.as_bytes());
                    at += 4;
                }
                None => {
                    out.push(bytes[at]);
                    at += 1;
                }
            }
        }
        out
    }
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
            keys.iter()
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

/// The rows in a form in which equal ones are equal.
fn rows(side: &Side, statement: &Statement) -> Vec<Row> {
    let answer = side.answer;
    let neutral = |at: usize, value: &Vec<u8>| -> Vec<u8> {
        let column = answer.columns.get(at);
        let float = column.is_none_or(|c| matches!(c.ty, 700 | 701));
        if statement.floats && float {
            return rounded(
                value,
                column.is_some_and(|c| c.format == 1),
                column.map_or(0, |c| c.ty),
            );
        }
        // An anonymous record may have such values in it, too.
        match column.is_some_and(|c| c.format == 1 && (c.ty >= FIRST_OWN || c.ty == RECORD)) {
            true => side.types.neutral(value),
            false => value.clone(),
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
            .and_then(|text| match text.contains(['.', 'e']) {
                true => text.parse().ok(),
                false => None,
            }),
    };
    match number {
        Some(number) if number.is_finite() => {
            let number = if number.abs() < 1e-9 { 0.0 } else { number };
            format!("{number:.5e}").into_bytes()
        }
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
