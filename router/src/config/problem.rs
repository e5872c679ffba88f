//! What is wrong with a configuration file, and where.
//!
//! Reading collects every problem instead of stopping at the first, because a
//! file is mended fastest when all of its faults are on one screen. A problem
//! holds a byte offset while reading; lines and columns are counted once, at
//! the end. Text from the file is quoted sparingly and never from a secret.

use std::fmt;
use std::path::{Path, PathBuf};

/// Why a configuration could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read at all.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file that was asked for.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The file was read and is wrong in at least one place.
    #[error(transparent)]
    Invalid(#[from] Problems),
}

/// All problems of one file, in the order of their position; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems {
    /// The file as it was named by the user.
    pub file: PathBuf,
    /// The problems, first line first.
    pub list: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            let file = self.file.display();
            write!(
                f,
                "{file}:{}:{}: {}",
                problem.line, problem.column, problem.what
            )?;
            if !problem.fix.is_empty() {
                write!(f, "; {}", problem.fix)?;
            }
        }
        Ok(())
    }
}

/// One thing that is wrong, where it is, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What would be right; may be empty when `what` already says it.
    pub fix: String,
}

/// Problems while they are collected, still at byte offsets.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    list: Vec<(usize, String, String)>,
}

impl Findings {
    pub(crate) fn add(&mut self, offset: usize, what: impl Into<String>, fix: impl Into<String>) {
        self.list.push((offset, what.into(), fix.into()));
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Turns offsets into lines and columns of `text`.
    pub(crate) fn locate(mut self, file: &Path, text: &str) -> Problems {
        self.list.sort();
        self.list.dedup();
        let list = self
            .list
            .into_iter()
            .map(|(offset, what, fix)| {
                let (line, column) = position(text, offset);
                Problem {
                    line,
                    column,
                    what,
                    fix,
                }
            })
            .collect();
        Problems {
            file: file.to_owned(),
            list,
        }
    }
}

impl Findings {
    /// In words, without a place.
    pub(crate) fn told(self) -> String {
        let told = self.list.into_iter().map(|(_, what, fix)| match &*fix {
            "" => what,
            fix => format!("{what}; {fix}"),
        });
        told.collect::<Vec<_>>().join("\n")
    }
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (
        before.matches('\n').count() + 1,
        before[line_start..].chars().count() + 1,
    )
}

/// "did you mean `x`?" when one of `known` is close to `word`, else the whole list.
pub(crate) fn suggest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let near = known
        .iter()
        .map(|candidate| (distance(word, candidate), *candidate))
        .filter(|(edits, candidate)| *edits <= (candidate.len() / 3).max(1))
        .min();
    match near {
        Some((_, candidate)) => format!("did you mean `{candidate}`?"),
        None if known.is_empty() => String::new(),
        None if known.len() > 12 => "docs/configuration.md lists what is known".to_owned(),
        None => format!("known: {}", known.join(", ")),
    }
}

/// Edits (insert, delete, replace, swap of neighbours) between two short words.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_characters_not_bytes() {
        assert_eq!(position("a\nåäö = 1", 2 + 6), (2, 4));
        assert_eq!(position("a", 100), (1, 2));
        assert_eq!(position("å", 1), (1, 1));
    }

    #[test]
    fn near_words_are_suggested_and_far_ones_listed() {
        assert_eq!(suggest("prot", ["port", "path"]), "did you mean `port`?");
        assert_eq!(suggest("colour", ["port", "path"]), "known: port, path");
        assert_eq!(suggest("", ["port"]), "known: port");
    }
}
