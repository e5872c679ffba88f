//! Necessary conditions on columns, and the values that they allow.
//!
//! A `Cond` says what must hold of a row for it to matter; rows for which it
//! does not hold can be left out. It may only be too wide, never too narrow:
//! whatever is not understood is `Any`. Conditions are made at planning, hold
//! no parameter values, and are evaluated at each Bind (`evaluate`).

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Bound;

use mothership_shardmap::{KeyBytes, KeyError, KeyType, TextContext};

use super::array;
use super::context::{Bound as Bind, Params};

/// A value known at planning, or at Bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar {
    /// NULL.
    Null,
    /// An integer constant without a type of its own: int4, int8 or numeric by its size.
    Integer(i128),
    /// A constant with a decimal point or an exponent: numeric.
    Decimal(String),
    /// A string, of the type `as_type`, or of none (0): then the column's.
    Text {
        /// The string between its quotes.
        text: String,
        /// The type of the cast around it, 0 for none.
        as_type: u32,
    },
    /// TRUE or FALSE.
    Bool(bool),
    /// `$number`, of the type `as_type`, or of none (0).
    Param {
        /// From 1.
        number: u16,
        /// The declared type or that of the cast around it, 0 for none.
        as_type: u32,
    },
}

/// What a scalar is at Bind, for a column of some type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// This key.
    Key(KeyBytes),
    /// NULL.
    Null,
    /// Equal to no value of the column.
    NoMatch,
    /// PostgreSQL will refuse it, wherever it is sent.
    Invalid,
    /// Not known.
    Unsure,
}

impl From<Result<KeyBytes, KeyError>> for Value {
    fn from(read: Result<KeyBytes, KeyError>) -> Value {
        match read {
            Ok(key) => Value::Key(key),
            Err(KeyError::NoMatch) => Value::NoMatch,
            Err(KeyError::Invalid) => Value::Invalid,
            Err(KeyError::Unsure) => Value::Unsure,
        }
    }
}

/// The type OID of `boolean`, `numeric`.
const BOOL: u32 = 16;
const NUMERIC: u32 = 1700;

impl Scalar {
    /// The value, for comparison with a column of type `key`.
    pub fn value(&self, key: KeyType, params: &Params<'_>, text: &TextContext) -> Value {
        match self {
            Scalar::Null => Value::Null,
            Scalar::Integer(value) => key.from_integer(*value).into(),
            Scalar::Decimal(digits) => key.from_text_as(NUMERIC, digits.as_bytes(), text).into(),
            Scalar::Text {
                text: literal,
                as_type,
            } => read(key, *as_type, literal.as_bytes(), text),
            Scalar::Bool(value) => {
                let literal: &[u8] = if *value { b"t" } else { b"f" };
                key.from_text_as(BOOL, literal, text).into()
            }
            Scalar::Param { number, as_type } => match params.get(*number) {
                Some(Bind::Null) => Value::Null,
                Some(Bind::Text(bytes)) => read(key, *as_type, bytes, text),
                Some(Bind::Binary(bytes)) => key.from_binary(*as_type, bytes, text).into(),
                None => Value::Unsure,
            },
        }
    }
}

fn read(key: KeyType, as_type: u32, bytes: &[u8], context: &TextContext) -> Value {
    match as_type {
        0 => key.from_text(bytes, context).into(),
        oid => key.from_text_as(oid, bytes, context).into(),
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Null => f.write_str("NULL"),
            Scalar::Integer(value) => write!(f, "{value}"),
            Scalar::Decimal(digits) => f.write_str(digits),
            Scalar::Text { text, as_type: 0 } => write!(f, "'{text}'"),
            Scalar::Text { text, as_type } => write!(f, "'{text}'::{}", type_name(*as_type)),
            Scalar::Bool(value) => write!(f, "{value}"),
            Scalar::Param { number, as_type: 0 } => write!(f, "${number}"),
            Scalar::Param { number, as_type } => write!(f, "${number}::{}", type_name(*as_type)),
        }
    }
}

fn type_name(oid: u32) -> String {
    KeyType::from_oid(oid).map_or_else(|| oid.to_string(), |key| key.name().to_owned())
}

/// Members of a list of values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// One value.
    One(Scalar),
    /// The elements of an array in a parameter or a string; `element` is the element type, 0 for the column's.
    Array {
        /// The parameter or string.
        source: Scalar,
        /// The type of the elements, 0 for the column's.
        element: u32,
    },
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::One(scalar) => scalar.fmt(f),
            Item::Array { source, .. } => write!(f, "any {source}"),
        }
    }
}

/// One end of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The value.
    pub value: Scalar,
    /// Whether the value itself belongs to the range.
    pub inclusive: bool,
}

/// A necessary condition over numbered columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cond {
    /// No restriction.
    Any,
    /// No row matters.
    Never,
    /// The column equals one of the items.
    In {
        /// The column.
        column: usize,
        /// The items.
        items: Vec<Item>,
        /// Whether NULL equals NULL here (IS NOT DISTINCT FROM).
        nulls_match: bool,
    },
    /// The column lies between two values.
    Between {
        /// The column.
        column: usize,
        /// The lower end.
        low: Option<Edge>,
        /// The upper end.
        high: Option<Edge>,
    },
    /// All of them hold.
    All(Vec<Cond>),
    /// At least one holds.
    Either(Vec<Cond>),
}

impl Cond {
    /// `column = scalar`.
    pub fn equals(column: usize, scalar: Scalar) -> Cond {
        Cond::In {
            column,
            items: vec![Item::One(scalar)],
            nulls_match: false,
        }
    }

    /// Both.
    pub fn and(self, other: Cond) -> Cond {
        match (self, other) {
            (Cond::Any, c) | (c, Cond::Any) => c,
            (Cond::Never, _) | (_, Cond::Never) => Cond::Never,
            (Cond::All(mut a), Cond::All(b)) => {
                a.extend(b);
                Cond::All(a)
            }
            (Cond::All(mut a), b) => {
                if !a.contains(&b) {
                    a.push(b);
                }
                Cond::All(a)
            }
            (a, Cond::All(mut b)) => {
                if !b.contains(&a) {
                    b.insert(0, a);
                }
                Cond::All(b)
            }
            (a, b) if a == b => a,
            (a, b) => Cond::All(vec![a, b]),
        }
    }

    /// Either.
    pub fn or(self, other: Cond) -> Cond {
        match (self, other) {
            (Cond::Never, c) | (c, Cond::Never) => c,
            (Cond::Any, _) | (_, Cond::Any) => Cond::Any,
            (
                Cond::In {
                    column: a,
                    items: mut left,
                    nulls_match: false,
                },
                Cond::In {
                    column: b,
                    items: right,
                    nulls_match: false,
                },
            ) if a == b => {
                left.extend(right);
                Cond::In {
                    column: a,
                    items: left,
                    nulls_match: false,
                }
            }
            (Cond::Either(mut a), Cond::Either(b)) => {
                a.extend(b);
                Cond::Either(a)
            }
            (Cond::Either(mut a), b) | (b, Cond::Either(mut a)) => {
                a.push(b);
                Cond::Either(a)
            }
            (a, b) => Cond::Either(vec![a, b]),
        }
    }

    /// The condition with other column numbers; on columns that `rename` does not know it says nothing.
    pub fn rename(&self, rename: &impl Fn(usize) -> Option<usize>) -> Cond {
        match self {
            Cond::Any => Cond::Any,
            Cond::Never => Cond::Never,
            Cond::In {
                column,
                items,
                nulls_match,
            } => match rename(*column) {
                Some(column) => Cond::In {
                    column,
                    items: items.clone(),
                    nulls_match: *nulls_match,
                },
                None => Cond::Any,
            },
            Cond::Between { column, low, high } => match rename(*column) {
                Some(column) => Cond::Between {
                    column,
                    low: low.clone(),
                    high: high.clone(),
                },
                None => Cond::Any,
            },
            Cond::All(list) => list
                .iter()
                .fold(Cond::Any, |all, c| all.and(c.rename(rename))),
            Cond::Either(list) => list
                .iter()
                .fold(Cond::Never, |any, c| any.or(c.rename(rename))),
        }
    }

    /// The condition with every value that `keep` refuses made unknown.
    pub fn keep_scalars(self, keep: &impl Fn(&Scalar) -> bool) -> Cond {
        let edge = |edge: Option<Edge>| edge.filter(|e| keep(&e.value));
        match self {
            Cond::Any | Cond::Never => self,
            Cond::In { ref items, .. } => {
                let all = items.iter().all(|item| match item {
                    Item::One(scalar) | Item::Array { source: scalar, .. } => keep(scalar),
                });
                if all { self } else { Cond::Any }
            }
            Cond::Between { column, low, high } => match (edge(low), edge(high)) {
                (None, None) => Cond::Any,
                (low, high) => Cond::Between { column, low, high },
            },
            Cond::All(list) => list
                .into_iter()
                .fold(Cond::Any, |all, c| all.and(c.keep_scalars(keep))),
            Cond::Either(list) => list
                .into_iter()
                .fold(Cond::Never, |any, c| any.or(c.keep_scalars(keep))),
        }
    }

    /// Whether the condition can allow more than one key of `columns` columns.
    pub fn is_point(&self, columns: usize) -> bool {
        (0..columns).all(|column| self.pins(column))
    }

    fn pins(&self, wanted: usize) -> bool {
        match self {
            Cond::Never => true,
            Cond::In {
                column,
                items,
                nulls_match,
            } => *column == wanted && !nulls_match && matches!(items.as_slice(), [Item::One(_)]),
            Cond::All(list) => list.iter().any(|c| c.pins(wanted)),
            Cond::Any | Cond::Between { .. } | Cond::Either(_) => false,
        }
    }

    /// Whether it restricts all of `columns` columns by equality, so that its keys can be listed.
    pub fn lists_keys(&self, columns: usize) -> bool {
        match self {
            Cond::Never => true,
            Cond::Any | Cond::Between { .. } => false,
            Cond::In { .. } | Cond::All(_) => (0..columns).all(|c| self.lists(c)),
            Cond::Either(list) => list.iter().all(|c| c.lists_keys(columns)),
        }
    }

    fn lists(&self, wanted: usize) -> bool {
        match self {
            Cond::Never => true,
            Cond::Any | Cond::Between { .. } => false,
            Cond::In {
                column,
                nulls_match,
                ..
            } => *column == wanted && !nulls_match,
            Cond::All(list) => list.iter().any(|c| c.lists(wanted)),
            Cond::Either(list) => list.iter().all(|c| c.lists(wanted)),
        }
    }
}

/// The values that one column may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Values {
    /// Any.
    All,
    /// One of these.
    These(BTreeSet<KeyBytes>),
    /// Within an interval.
    Range(Bound<KeyBytes>, Bound<KeyBytes>),
}

impl Values {
    fn intersect(&self, other: &Values) -> Values {
        match (self, other) {
            (Values::All, v) | (v, Values::All) => v.clone(),
            (Values::These(a), Values::These(b)) => {
                Values::These(a.intersection(b).cloned().collect())
            }
            // Whether text lies in a range is for its collation to say; the list alone is wide enough.
            (Values::These(a), Values::Range(..)) | (Values::Range(..), Values::These(a)) => {
                Values::These(a.clone())
            }
            // The first known end is necessary; the tighter one would need the type's order.
            (Values::Range(a, b), Values::Range(c, d)) => {
                let first = |x: &Bound<KeyBytes>, y: &Bound<KeyBytes>| match x {
                    Bound::Unbounded => y.clone(),
                    known => known.clone(),
                };
                Values::Range(first(a, c), first(b, d))
            }
        }
    }
}

/// One conjunction: the allowed values of each key column.
pub type Alternative = Vec<Values>;

/// More alternatives than this are not kept apart.
const MAX_ALTERNATIVES: usize = 512;

/// The keys that a condition allows: any of the alternatives. An empty list allows none. For a key
/// that is stored, a value that is null or not certain leaves the column free.
pub fn evaluate(
    cond: &Cond,
    types: &[KeyType],
    params: &Params<'_>,
    text: &TextContext,
    stored: bool,
) -> Vec<Alternative> {
    let free = || vec![vec![Values::All; types.len()]];
    let only = |column: usize, values: Values| {
        let mut alternative = vec![Values::All; types.len()];
        alternative[column] = values;
        vec![alternative]
    };
    match cond {
        Cond::Any => free(),
        Cond::Never => Vec::new(),
        Cond::In {
            column,
            items,
            nulls_match,
        } => {
            let Some(key) = types.get(*column) else {
                return free();
            };
            match members(items, *key, *nulls_match, params, text, stored) {
                Some(keys) if keys.is_empty() => Vec::new(),
                Some(keys) => only(*column, Values::These(keys)),
                None => free(),
            }
        }
        Cond::Between { column, low, high } => {
            let Some(key) = types.get(*column) else {
                return free();
            };
            let end = |edge: &Option<Edge>| match edge {
                None => Some(Bound::Unbounded),
                Some(edge) => match edge.value.value(*key, params, text) {
                    Value::Key(key) if edge.inclusive => Some(Bound::Included(key)),
                    Value::Key(key) => Some(Bound::Excluded(key)),
                    // No row satisfies a comparison with NULL.
                    Value::Null => None,
                    Value::NoMatch | Value::Invalid | Value::Unsure => Some(Bound::Unbounded),
                },
            };
            match (end(low), end(high)) {
                (Some(Bound::Unbounded), Some(Bound::Unbounded)) => free(),
                (Some(low), Some(high)) => only(*column, Values::Range(low, high)),
                _ => Vec::new(),
            }
        }
        Cond::All(list) => list.iter().fold(free(), |all, c| {
            conjunction(all, evaluate(c, types, params, text, stored))
        }),
        Cond::Either(list) => {
            let mut any = Vec::new();
            for c in list {
                any.extend(evaluate(c, types, params, text, stored));
                if any.len() > MAX_ALTERNATIVES {
                    return free();
                }
            }
            any
        }
    }
}

fn conjunction(left: Vec<Alternative>, right: Vec<Alternative>) -> Vec<Alternative> {
    if left.len() * right.len() > MAX_ALTERNATIVES {
        // Leaving out one of two necessary conditions keeps the rest necessary.
        return if left.len() <= right.len() {
            left
        } else {
            right
        };
    }
    let mut out = Vec::new();
    for a in &left {
        for b in &right {
            let both: Alternative = a.iter().zip(b).map(|(x, y)| x.intersect(y)).collect();
            let empty = both
                .iter()
                .any(|v| matches!(v, Values::These(keys) if keys.is_empty()));
            if !empty {
                out.push(both);
            }
        }
    }
    out
}

/// The keys of a list; None when one of them cannot be known.
fn members(
    items: &[Item],
    key: KeyType,
    nulls_match: bool,
    params: &Params<'_>,
    text: &TextContext,
    stored: bool,
) -> Option<BTreeSet<KeyBytes>> {
    let mut keys = BTreeSet::new();
    for item in items {
        match item {
            Item::One(scalar) => match scalar.value(key, params, text) {
                Value::Key(value) => drop(keys.insert(value)),
                Value::Null if nulls_match => return None,
                Value::Null | Value::NoMatch | Value::Invalid if stored => return None,
                Value::Null | Value::NoMatch | Value::Invalid => {}
                Value::Unsure => return None,
            },
            Item::Array { source, element } => {
                array_members(&mut keys, source, *element, key, params, text)?;
            }
        }
    }
    Some(keys)
}

fn array_members(
    keys: &mut BTreeSet<KeyBytes>,
    source: &Scalar,
    element: u32,
    key: KeyType,
    params: &Params<'_>,
    context: &TextContext,
) -> Option<()> {
    let mut add = |value: Value| match value {
        Value::Key(value) => {
            keys.insert(value);
            Some(())
        }
        Value::Null | Value::NoMatch | Value::Invalid => Some(()),
        Value::Unsure => None,
    };
    let texts = match source {
        Scalar::Null => return Some(()),
        Scalar::Text { text, .. } => array::from_text(text.as_bytes())?,
        Scalar::Param { number, .. } => match params.get(*number)? {
            Bind::Null => return Some(()),
            Bind::Text(bytes) => array::from_text(bytes)?,
            Bind::Binary(bytes) => {
                let (sent, elements) = array::from_binary(bytes)?;
                // array_recv insists on the declared element type.
                if element != 0 && sent != element {
                    return None;
                }
                for bytes in elements.into_iter().flatten() {
                    add(key.from_binary(sent, bytes, context).into())?;
                }
                return Some(());
            }
        },
        _ => return None,
    };
    for bytes in texts.into_iter().flatten() {
        add(read(key, element, &bytes, context))?;
    }
    Some(())
}

/// Prints a condition with the names of its columns.
pub struct Shown<'a>(pub &'a Cond, pub &'a [String]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shown(cond, names) = self;
        let name = |column: &usize| names.get(*column).map_or("?", String::as_str);
        let join = |f: &mut fmt::Formatter<'_>, list: &[Cond], word: &str| {
            for (index, c) in list.iter().enumerate() {
                if index > 0 {
                    f.write_str(word)?;
                }
                match c {
                    Cond::All(_) | Cond::Either(_) => write!(f, "({})", Shown(c, names))?,
                    _ => write!(f, "{}", Shown(c, names))?,
                }
            }
            Ok(())
        };
        match cond {
            Cond::Any => f.write_str("any"),
            Cond::Never => f.write_str("none"),
            Cond::In {
                column,
                items,
                nulls_match,
            } => {
                let word = if *nulls_match { "is" } else { "=" };
                match items.as_slice() {
                    [item] => write!(f, "{} {word} {item}", name(column)),
                    items => {
                        write!(f, "{} in [", name(column))?;
                        for (index, item) in items.iter().enumerate() {
                            let comma = if index > 0 { ", " } else { "" };
                            write!(f, "{comma}{item}")?;
                        }
                        f.write_str("]")
                    }
                }
            }
            Cond::Between { column, low, high } => {
                if let Some(low) = low {
                    write!(
                        f,
                        "{} {} ",
                        low.value,
                        if low.inclusive { "<=" } else { "<" }
                    )?;
                }
                f.write_str(name(column))?;
                if let Some(high) = high {
                    write!(
                        f,
                        " {} {}",
                        if high.inclusive { "<=" } else { "<" },
                        high.value
                    )?;
                }
                Ok(())
            }
            Cond::All(list) => join(f, list, " and "),
            Cond::Either(list) => join(f, list, " or "),
        }
    }
}
