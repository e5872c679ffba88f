//! A condition that may be true, with its values, as a filter that finds every document of which it is.
//!
//! What makes `jsonb` undecidable: texts of JSON are those of values of many types of BSON, numbers are shown by their
//! shortest digits, and the way down to a field leads through arrays, too. So what is looked for is each value that is
//! shown like the one that is asked for, and where that is too many, its type. See `value::json` for what shows them.

use std::collections::BTreeSet;

use bson::{Bson, Document, RawBsonRef, doc};

use super::super::value::{self, Forms};
use super::super::{Fault, Kind};
use super::condition::Op;
use super::constant::{Bound, Constant, object_id};
use super::filter::{self, Filter, all, any};
use super::like;
use super::prefilter::{Prefilter, is_field};

/// So many conditions are made of one pattern; what more it asks PostgreSQL does.
const MAX_LEAVES: usize = 100;

/// Types whose values are shown as strings of JSON, and are none.
const STRINGS: [&str; 3] = ["objectId", "binData", "date"];

/// All others that have a text, but for strings and numbers.
const OTHERS: [&str; 3] = ["bool", "object", "array"];

/// The filter of such a condition. A value that is at fault is PostgreSQL's to complain of, or to understand.
pub(super) fn bind(condition: &Prefilter, bound: &Bound<'_>) -> Filter {
    self::filter(condition, bound).unwrap_or(Filter::All)
}

fn filter(condition: &Prefilter, bound: &Bound<'_>) -> std::result::Result<Filter, Fault> {
    Ok(match condition {
        Prefilter::Exactly(condition) => filter::bind(condition, bound)?,
        Prefilter::All(parts) => all(parts.iter().map(|part| bind(part, bound)).collect()),
        Prefilter::Any(arms) => any(arms.iter().map(|arm| bind(arm, bound)).collect()),
        Prefilter::Texts(path, texts) => {
            let mut shown = Shown::default();
            for text in texts {
                shown.add_text(text.plain(bound)?);
            }
            shown.at(path)
        }
        Prefilter::TextAmong(path, array) => {
            let mut shown = Shown::default();
            for text in elements(array, bound)? {
                shown.add_text(Some(text));
            }
            shown.at(path)
        }
        Prefilter::Like(path, parts, likeness) => match filter::joined(parts, bound)? {
            Some(pattern) => {
                let regex = like::regex(&pattern, *likeness)?;
                let others = STRINGS.iter().chain(&OTHERS).chain(&["number"]);
                any(vec![
                    at(path, doc! { "$regex": regex, "$options": "s" }),
                    of_types(path, others),
                ])
            }
            None => Filter::None,
        },
        Prefilter::Present(path) => present(path),
        Prefilter::Exists(path) => exists(path),
        Prefilter::Contains(path, part) => match part.plain(bound)? {
            Some(part) => {
                let mut leaves = Vec::new();
                contain(path, &part, &mut leaves);
                all(leaves)
            }
            None => Filter::None,
        },
        Prefilter::Key(path, key) => match key.plain(bound)? {
            Some(key) => self::key(path, &key),
            None => Filter::None,
        },
        Prefilter::Keys(path, keys, every) => {
            let keys = elements(keys, bound)?.into_iter();
            let keys = keys.filter(|key| *key != Bson::Null);
            let keys = keys.map(|key| self::key(path, &key)).collect();
            match every {
                true => all(keys),
                false => any(keys),
            }
        }
        Prefilter::Number(path, kind, op, constant) => match constant.plain(bound)? {
            Some(number) => self::number(path, kind, *op, &number),
            None => Filter::None,
        },
    })
}

/// The elements of an array; of NULL there are none.
fn elements(array: &Constant, bound: &Bound<'_>) -> std::result::Result<Vec<Bson>, Fault> {
    Ok(match array.plain(bound)? {
        Some(Bson::Array(elements)) => elements,
        _ => Vec::new(),
    })
}

/// What values look like something.
#[derive(Default)]
struct Shown {
    values: Vec<Bson>,
    types: BTreeSet<&'static str>,
}

impl Shown {
    /// What `->>` shows as a text; nothing is shown as NULL.
    fn add_text(&mut self, text: Option<Bson>) {
        let Some(Bson::String(text)) = text else {
            return;
        };
        match text.as_str() {
            "true" => self.values.push(Bson::Boolean(true)),
            "false" => self.values.push(Bson::Boolean(false)),
            text if text.starts_with('{') => _ = self.types.insert("object"),
            text if text.starts_with('[') => _ = self.types.insert("array"),
            text if is_number(text) => {
                match value::from_text(&Kind::Numeric, text, &Forms::default()) {
                    Ok(number) => self.add_number(&number),
                    Err(_) => _ = self.types.insert("number"),
                }
            }
            _ => {}
        }
        self.add_string(&text);
    }

    /// What is a string of JSON.
    fn add_string(&mut self, text: &str) {
        self.values.push(Bson::String(text.to_owned()));
        self.values.extend(object_id(text).map(Bson::ObjectId));
        if let Ok(uuid) = value::from_text(&Kind::Uuid, text, &Forms::default()) {
            self.values.push(uuid);
        }
        if is_base64(text) {
            self.types.insert("binData");
        }
        if text.ends_with('Z') && text.contains('T') {
            self.types.insert("date");
        }
    }

    /// What is this number of JSON. A double is the number that its shortest digits say, and MongoDB compares it by all
    /// its digits: so it is asked for as a double, too.
    fn add_number(&mut self, number: &Bson) {
        match both(number) {
            Some(both) => self.values.extend(both),
            None => _ = self.types.insert("number"),
        }
    }

    fn at(mut self, path: &str) -> Filter {
        let values = match self.values.len() {
            0 => Filter::None,
            1 => at(path, self.values.remove(0)),
            _ => at(path, doc! { "$in": self.values }),
        };
        match self.types.is_empty() {
            true => values,
            false => any(vec![values, of_types(path, &self.types)]),
        }
    }
}

/// A number as MongoDB's two kinds of fractions have it. A cast of a double would leave some of its digits out.
fn both(number: &Bson) -> Option<[Bson; 2]> {
    let decimal = match number {
        Bson::Double(double) => {
            let (forms, mut text) = (Forms::default(), Vec::new());
            value::put_text(
                &Kind::Numeric,
                RawBsonRef::Double(*double),
                &forms,
                &mut text,
            )
            .ok()?;
            let text = std::str::from_utf8(&text).ok()?;
            value::from_text(&Kind::Numeric, text, &forms).ok()?
        }
        number => value::assign(&Kind::Numeric, number.clone()).ok()?,
    };
    let double = value::assign(&Kind::Float8, number.clone()).ok()?;
    Some([decimal, double])
}

/// Whether a text is of the form in which JSON's numbers are shown.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.starts_with(|first: char| first.is_ascii_digit())
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// Whether some bytes are shown so.
fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    text.len().is_multiple_of(4) && digits.bytes().all(is_digit)
}

/// What must be there for `jsonb` to contain this, or to equal it. A path finds what is in arrays, too, so that it finds
/// the elements of an array as it finds the array.
fn contain(path: &str, part: &Bson, leaves: &mut Vec<Filter>) {
    if leaves.len() >= MAX_LEAVES {
        return;
    }
    let mut shown = Shown::default();
    match part {
        Bson::Document(fields) => {
            let before = leaves.len();
            for (key, value) in fields.iter().filter(|(key, _)| is_field(key)) {
                contain(&format!("{path}.{key}"), value, leaves);
            }
            if leaves.len() == before {
                leaves.push(of_types(path, &["object"]));
            }
            return;
        }
        Bson::Array(elements) => {
            leaves.push(of_types(path, &["array"]));
            for element in elements {
                // Into arrays of arrays no path leads.
                if !matches!(element, Bson::Array(_) | Bson::Null) {
                    contain(path, element, leaves);
                }
            }
            return;
        }
        Bson::Null => {
            leaves.push(exists(path));
            return;
        }
        Bson::String(text) => shown.add_string(text),
        Bson::Boolean(_) => shown.values.push(part.clone()),
        number => shown.add_number(number),
    }
    leaves.push(shown.at(path));
}

fn key(path: &str, key: &Bson) -> Filter {
    let Bson::String(key) = key else {
        return Filter::All;
    };
    let as_field = match is_field(key) {
        true => exists(&format!("{path}.{key}")),
        false => of_types(path, &["object"]),
    };
    let mut shown = Shown::default();
    shown.add_string(key);
    any(vec![as_field, shown.at(path)])
}

/// What a cast cannot read is an error, and has to be found: a text that is no number, of integers a fraction, and
/// what is beyond their type.
fn number(path: &str, kind: &Kind, op: Op, number: &Bson) -> Filter {
    let Some(both) = both(number).filter(|_| op != Op::Unequal) else {
        return present(path);
    };
    if filter::is_nan(&both[0]) {
        return present(path);
    }
    let operator = match op {
        Op::Equal | Op::Unequal => "$eq",
        Op::Less => "$lt",
        Op::LessOrEqual => "$lte",
        Op::Greater => "$gt",
        Op::GreaterOrEqual => "$gte",
    };
    let compared = both.into_iter().map(|value| {
        let mut compared = Document::new();
        compared.insert(operator, value);
        at(path, compared)
    });
    let mut found: Vec<Filter> = compared.collect();
    let mut types: Vec<&str> = [&STRINGS[..], &OTHERS, &["string"]].concat();
    let range = match kind {
        Kind::Int2 => Some((i64::from(i16::MIN), i64::from(i16::MAX))),
        Kind::Int4 => Some((i64::from(i32::MIN), i64::from(i32::MAX))),
        _ => None,
    };
    if let Some((least, greatest)) = range {
        found.push(at(path, doc! { "$lt": least }));
        found.push(at(path, doc! { "$gt": greatest }));
    }
    if *kind != Kind::Numeric {
        types.extend(["double", "decimal"]);
    }
    found.push(of_types(path, &types));
    any(found)
}

/// `{p: {$ne: null}}` does not find an array that has a null.
fn present(path: &str) -> Filter {
    any(vec![
        at(path, doc! { "$ne": null }),
        of_types(path, &["array"]),
    ])
}

fn exists(path: &str) -> Filter {
    at(path, doc! { "$exists": true })
}

fn of_types<'t>(path: &str, types: impl IntoIterator<Item = &'t &'t str>) -> Filter {
    let types: Vec<&str> = types.into_iter().copied().collect();
    at(path, doc! { "$type": types })
}

fn at(path: &str, condition: impl Into<Bson>) -> Filter {
    let mut document = Document::new();
    document.insert(path, condition);
    Filter::Matching(document)
}
