//! Values that the router writes into an INSERT before it is routed.
//!
//! What a sequence or chance gives must be the same wherever the row is stored, and where it is the shard key it decides
//! that place. A [`Fill`] says what is wanted and where it goes in the client's text. With the values in their places,
//! as constants or as further parameters, the text is an INSERT like any other and is planned anew.

use mothership_sql::quote;
use std::fmt;
use std::ops::Range;

use mothership_catalog::Name;
use mothership_sql::places::Change;

/// What is written into the text of an INSERT.
#[derive(Debug, Clone, PartialEq)]
pub struct Fill {
    /// The table.
    pub table: Name,
    /// Changes of the text, in its order.
    pub edits: Vec<Edit>,
    /// The values that they name, in the order of the rows.
    pub values: Vec<Wanted>,
    /// The highest number of a parameter in the text.
    pub parameters: usize,
}

/// One change of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// What it replaces, in bytes; nothing if it is empty.
    pub at: Range<usize>,
    /// What stands there instead.
    pub put: Vec<Piece>,
}

/// A part of what is written.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// As it is.
    Text(String),
    /// One of the values.
    Value(usize),
}

/// A value that the router sees to.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Where it comes from.
    pub source: Source,
    /// The type that it has as a parameter.
    pub type_oid: u32,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The next value of the home shard's sequence of that name.
    Next(Name),
    /// A random UUID (version 4).
    RandomUuid,
    /// What a server says to an expression of the session's own settings.
    Asked(String),
}

/// A statement may have so many parameters: their count is 16 bits on the wire.
const MAX_PARAMETERS: usize = 65_535;

impl Fill {
    /// The text with these values in their places, each a number or a text without quotes. `None` if they are not all.
    pub fn with_constants(&self, sql: &str, values: &[String]) -> Option<String> {
        self.written(sql, |index| self.constant(values, index))
    }

    /// How that text differs.
    pub fn changes_by_constants(&self, values: &[String]) -> Option<Vec<Change>> {
        self.changes(|index| self.constant(values, index))
    }

    /// How a text with parameters in their places differs, the first of which has the number behind `before`.
    pub fn changes_by_parameters(&self, before: usize) -> Option<Vec<Change>> {
        self.changes(|index| Some(format!("${}", before + index + 1)))
    }

    /// The text with further parameters in their places, and the types of all when `declared` are those of the
    /// client's. `None` if there are more than a statement may have.
    pub fn with_parameters(&self, sql: &str, declared: &[u32]) -> Option<(String, Vec<u32>)> {
        let first = self.parameters.max(declared.len());
        if first + self.values.len() > MAX_PARAMETERS {
            return None;
        }
        let mut types = declared.to_vec();
        types.resize(first, 0);
        types.extend(self.values.iter().map(|wanted| wanted.type_oid));
        let text = self.written(sql, |index| Some(format!("${}", first + index + 1)))?;
        Some((text, types))
    }

    fn constant(&self, values: &[String], index: usize) -> Option<String> {
        let value = values.get(index)?;
        Some(match self.values.get(index)?.source {
            // `007` is no number where it is a text.
            Source::Asked(_) => quote::literal(value),
            Source::Next(_) | Source::RandomUuid => constant(value),
        })
    }

    fn written(&self, sql: &str, value: impl Fn(usize) -> Option<String>) -> Option<String> {
        let mut text = String::with_capacity(sql.len() + 16 * self.edits.len());
        let mut from = 0;
        for Edit { at, put } in &self.edits {
            text += sql.get(from..at.start)?;
            for piece in put {
                match piece {
                    Piece::Text(piece) => text += piece,
                    Piece::Value(index) => text += &value(*index)?,
                }
            }
            from = at.end;
        }
        text += sql.get(from..)?;
        Some(text)
    }

    fn changes(&self, value: impl Fn(usize) -> Option<String>) -> Option<Vec<Change>> {
        let change = |Edit { at, put }: &Edit| {
            let mut text = String::new();
            for piece in put {
                match piece {
                    Piece::Text(piece) => text += piece,
                    Piece::Value(index) => text += &value(*index)?,
                }
            }
            Some(Change::new(at.clone(), &text))
        };
        self.edits.iter().map(change).collect()
    }
}

/// A number, or a text in quotes.
fn constant(value: &str) -> String {
    let plain = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    match plain {
        true => value.to_owned(),
        false => quote::literal(value),
    }
}

impl fmt::Display for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fill {}", self.table)?;
        for wanted in self.values.iter().take(8) {
            write!(f, ", {}", wanted.source)?;
        }
        if self.values.len() > 8 {
            write!(f, ", ...{}", self.values.len())?;
        }
        Ok(())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Next(sequence) => write!(f, "next of {sequence}"),
            Source::RandomUuid => f.write_str("random uuid"),
            Source::Asked(expression) => write!(f, "value of {expression}"),
        }
    }
}
