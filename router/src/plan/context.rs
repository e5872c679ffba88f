//! What a statement means depends on more than its text: here is the rest.
//!
//! All of it is part of a plan cache's key, or given anew at each Bind.

use std::collections::BTreeSet;

pub use mothership_shardmap::TextContext;

use super::slots::Literals;

/// The session's part of planning. Two sessions with equal contexts share plans.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PlanContext {
    /// The effective search path, `"$user"` already replaced.
    pub search_path: Vec<String>,
    /// The current role, for `explain` and cache keys; row security depends on it.
    pub role: String,
    /// The parameter types that the client declared in Parse; 0 or missing: not declared.
    pub parameter_types: Vec<u32>,
    /// The session's temporary tables, which hide tables of the same name.
    pub temporary: Temporary,
    /// The setting of that name; when off, backslashes change where strings end.
    pub standard_conforming_strings: bool,
}

impl Default for PlanContext {
    fn default() -> PlanContext {
        PlanContext {
            search_path: vec!["public".to_owned()],
            role: String::new(),
            parameter_types: Vec::new(),
            temporary: Temporary::None,
            standard_conforming_strings: true,
        }
    }
}

/// Which temporary tables the session may have.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Temporary {
    /// None at all.
    #[default]
    None,
    /// Exactly these.
    Named(BTreeSet<String>),
    /// Perhaps these, and certainly no others.
    Perhaps(BTreeSet<String>),
    /// It is not known: an unclear function may have made some.
    Unclear,
}

/// The values of one Bind.
#[derive(Debug, Clone, Copy, Default)]
pub struct Params<'a> {
    /// Format codes as in Bind: none (all text), one for all, or one each.
    pub formats: &'a [i16],
    /// The values, None for NULL.
    pub values: &'a [Option<&'a [u8]>],
    /// The literals of the text, for a plan of its shape.
    pub literals: Literals<'a>,
}

/// One value as it was bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound<'a> {
    /// NULL.
    Null,
    /// In text format.
    Text(&'a [u8]),
    /// In binary format.
    Binary(&'a [u8]),
}

impl<'a> Params<'a> {
    /// No parameters.
    pub const NONE: Params<'static> = Params {
        formats: &[],
        values: &[],
        literals: Literals::NONE,
    };

    /// The value of `$number`, counted from 1; None if it was not bound or its format is unknown.
    pub fn get(&self, number: u16) -> Option<Bound<'a>> {
        let index = usize::from(number).checked_sub(1)?;
        let value = *self.values.get(index)?;
        let format = match self.formats {
            [] => 0,
            [all] => *all,
            each => *each.get(index)?,
        };
        Some(match (value, format) {
            (None, _) => Bound::Null,
            (Some(bytes), 0) => Bound::Text(bytes),
            (Some(bytes), 1) => Bound::Binary(bytes),
            _ => return None,
        })
    }
}
