//! Necessary conditions on columns, and the values that they allow.
//!
//! A `Cond` says what must hold of a row for it to matter; rows for which it
//! does not hold can be left out. It may only be too wide, never too narrow:
//! whatever is not understood is `Any`. Conditions are made at planning, hold
//! no parameter values, and are evaluated at each Bind (`evaluate`).

mod keys;
mod scalar;
mod shown;

pub use keys::{Alternative, Values, evaluate};
pub use scalar::{Scalar, Value};
pub use shown::Shown;

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

/// One end of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The value.
    pub value: Scalar,
    /// Whether the value itself belongs to the range.
    pub inclusive: bool,
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
