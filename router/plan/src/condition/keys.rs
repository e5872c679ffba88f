//! The keys that a condition allows, once the values of a Bind are known.

use std::collections::BTreeSet;
use std::ops::Bound;

use mothership_shardmap::{KeyBytes, KeyType, TextContext};

use crate::MaxChars;
use crate::array::{self, Element};
use crate::context::{Bound as Bind, Params};

use super::scalar::{Scalar, Value, read};
use super::{Cond, Edge, Item};

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
/// that is stored, a value that is null, not certain or too long leaves the column free.
pub fn evaluate(
    cond: &Cond,
    types: &[KeyType],
    params: &Params<'_>,
    text: &TextContext,
    stored: Option<&MaxChars>,
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
            match members(items, (*column, *key), *nulls_match, params, text, stored) {
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
    (column, key): (usize, KeyType),
    nulls_match: bool,
    params: &Params<'_>,
    text: &TextContext,
    stored: Option<&MaxChars>,
) -> Option<BTreeSet<KeyBytes>> {
    let mut keys = BTreeSet::new();
    for item in items {
        match item {
            Item::One(scalar) => match scalar.value(key, params, text) {
                Value::Key(value) if stored.is_some_and(|s| !s.take(column, &value)) => {
                    return None;
                }
                Value::Key(value) => drop(keys.insert(value)),
                Value::Null if nulls_match => return None,
                Value::Null | Value::NoMatch | Value::Invalid if stored.is_some() => return None,
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
        Scalar::Slot(slot) => match params.literals.scalar(*slot)? {
            Scalar::Text { text, .. } => array::from_text(text.as_bytes())?,
            _ => return None,
        },
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
    // Other types have no value of that name.
    let may_be_text = matches!(key, KeyType::Text | KeyType::Varchar | KeyType::Bytea);
    for text in texts {
        match text {
            Element::Null(_) if !may_be_text => {}
            Element::Value(bytes) | Element::Null(bytes) => {
                add(read(key, element, &bytes, context))?;
            }
        }
    }
    Some(())
}
