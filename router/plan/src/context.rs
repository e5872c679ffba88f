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
    /// Queries are gathered wherever they can be.
    pub gathers: bool,
}

impl Default for PlanContext {
    fn default() -> PlanContext {
        PlanContext {
            search_path: vec!["public".to_owned()],
            role: String::new(),
            parameter_types: Vec::new(),
            temporary: Temporary::None,
            standard_conforming_strings: true,
            gathers: false,
        }
    }
}

/// Which temporary tables, views, sequences and indexes the session may have.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Temporary {
    /// None at all.
    #[default]
    None,
    /// Perhaps these, and certainly no others.
    Perhaps(BTreeSet<String>),
    /// It is not known: an unclear function may have made some.
    Unclear,
}

impl Temporary {
    /// Whether a relation of this name may stand before those of the search path: a table, or what PostgreSQL makes with
    /// one and names after it.
    pub fn may_hide(&self, name: &str) -> bool {
        match self {
            Temporary::None => false,
            Temporary::Perhaps(_) => self.has(name),
            Temporary::Unclear => true,
        }
    }

    /// Whether it is one that the session is known to have made.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Temporary::None | Temporary::Unclear => false,
            Temporary::Perhaps(tables) => {
                tables.contains(name) || tables.iter().any(|table| may_be_named_after(name, table))
            }
        }
    }
}

/// Of a table's name at least so many bytes are in the names that are made of it, which are cut at 63 bytes
/// (`makeObjectName` in PostgreSQL's indexcmds.c cuts the longer of table and column first).
const LEFT_OF_NAME: usize = 24;

/// Whether PostgreSQL may call a sequence or an index of this table so, when nobody names it.
fn may_be_named_after(name: &str, table: &str) -> bool {
    let begins = &table.as_bytes()[..table.len().min(LEFT_OF_NAME)];
    let made = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let ends = ["_seq", "_pkey", "_key", "_idx", "_excl"];
    name.as_bytes().starts_with(begins) && ends.iter().any(|end| made.ends_with(end))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The names are those that PostgreSQL 15 gave.
    #[test]
    fn what_is_made_with_a_temporary_table_may_hide_what_has_its_name() {
        let long = "a_table_with_a_name_that_goes_on_and_on_and_on_nearly_for_ever";
        let temporary = Temporary::Perhaps(["lines".to_owned(), long.to_owned()].into());
        for name in [
            "lines",
            "lines_id_seq",
            "lines_id_seq1",
            "lines_pkey",
            "lines_a_b_key",
            "lines_expr_idx1",
            long,
            "a_table_with_a_name_that_goes_a_column_with_a_name_that_goe_seq",
            "a_table_with_a_name_that_goes_on_and_on_and_on_nearly_fo_b_excl",
        ] {
            assert!(temporary.may_hide(name), "{name}");
        }
        for name in ["line", "lines_of_orders", "other_id_seq", "orders"] {
            assert!(!temporary.may_hide(name), "{name}");
        }
        assert!(!Temporary::None.may_hide("lines"));
        assert!(Temporary::Unclear.may_hide("orders"));
    }
}
