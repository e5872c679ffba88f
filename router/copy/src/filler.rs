//! Columns that a client leaves out of its COPY, added to each row with the same value.
//!
//! The router does this for defaults that would differ between shards, such as `now()`: all shards get the same value.

use super::fields::{CsvFields, TextFields, ends_with_lone_backslash};
use super::format::{CopyFormat, Header};
use super::splitter::Row;

/// Adds the columns.
#[derive(Debug)]
pub struct Filler {
    format: CopyFormat,
    /// So many columns are the client's.
    columns: usize,
    /// What stands behind them: a delimiter and a value for each column.
    tail: Vec<u8>,
}

impl Filler {
    /// For rows with so many columns of the client's. `None` if the form of the rows cannot take the values: the binary
    /// one, one whose header has to name all columns, and one in which a value would not be read as it is.
    pub fn new(format: &CopyFormat, columns: usize, values: &[String]) -> Option<Filler> {
        let text = format.text().filter(|text| text.header != Header::Match)?;
        let mut tail = Vec::new();
        for value in values {
            tail.push(text.delimiter);
            match format {
                CopyFormat::Csv(csv) => {
                    let plain = |b: &u8| b.is_ascii() && *b != csv.quote && *b != csv.escape;
                    if !value.as_bytes().iter().all(plain) {
                        return None;
                    }
                    tail.push(csv.quote);
                    tail.extend_from_slice(value.as_bytes());
                    tail.push(csv.quote);
                }
                _ => {
                    let plain = |b: &u8| b.is_ascii_graphic() && *b != b'\\' || *b == b' ';
                    if !value.as_bytes().iter().all(plain) {
                        return None;
                    }
                    let delimiter = char::from(text.delimiter);
                    let escaped = value.replace(delimiter, &format!("\\{delimiter}"));
                    tail.extend_from_slice(escaped.as_bytes());
                }
            }
        }
        Some(Filler {
            format: format.clone(),
            columns,
            tail,
        })
    }

    /// How many columns the client sends.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Writes the row with its further columns to `out`. One that lacks a column of the client's stays as it is: the
    /// server says which one is missing.
    pub fn put(&self, row: &Row<'_>, out: &mut Vec<u8>) {
        let content = row.content;
        let is_whole = match &self.format {
            CopyFormat::Text(text) => {
                TextFields::new(text, content, row.special).skip(self.columns)
            }
            CopyFormat::Csv(csv) => CsvFields::new(csv, content)
                .skip(self.columns, &mut Vec::new())
                .unwrap_or(false),
            CopyFormat::Binary => false,
        };
        if !is_whole {
            out.extend_from_slice(row.bytes);
            return;
        }
        // At the end of the stream it would escape the delimiter.
        let lone = matches!(self.format, CopyFormat::Text(_))
            && row.special
            && ends_with_lone_backslash(content);
        out.extend_from_slice(&content[..content.len() - usize::from(lone)]);
        out.extend_from_slice(&self.tail);
        out.extend_from_slice(&row.bytes[content.len()..]);
    }

    /// A line of CONTEXT that quotes a row, without what was added to the row.
    pub fn without_tail(&self, context: &str) -> String {
        let tail = String::from_utf8_lossy(&self.tail);
        context.replace(&format!("{tail}\""), "\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CopyOptions, Piece, Rules, Splitter};
    use mothership_shardmap::TextContext;

    const VALUE: &str = "2026-01-02T03:04:05.6+00:00";

    fn filled(options: &str, rows: &str) -> Option<String> {
        let sql = format!("COPY t (a, b) FROM STDIN {options}");
        let options = CopyOptions::parse(sql.as_bytes(), true).expect("it is a COPY");
        let filler = Filler::new(&options.format, 2, &[VALUE.to_owned(), "x".to_owned()])?;
        let rules = Rules {
            columns: 2,
            key: Vec::new(),
            context: TextContext::UTC,
            major_version: 15,
            row_limit: 1 << 20,
        };
        let mut splitter = Splitter::new(&options, rules).expect("it can be divided");
        let mut out = Vec::new();
        let mut emit = |piece: Piece<'_>| match piece {
            Piece::Header(header) => out.extend_from_slice(header.bytes),
            Piece::Row(row) => filler.put(&row, &mut out),
            Piece::Trailer(bytes) => out.extend_from_slice(bytes),
        };
        splitter.feed(rows.as_bytes(), &mut emit).expect("rows");
        splitter.finish(&mut emit).expect("the end");
        Some(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn every_whole_row_gets_the_values() {
        for (options, rows, expected) in [
            ("", "1\ta\n2\tb\n", "1\ta@<>\tx\n2\tb@<>\tx\n"),
            ("", "1\ta", "1\ta@<>\tx"),
            ("", "1\ta\\\\\n", "1\ta\\\\@<>\tx\n"),
            ("", "1\ta\\", "1\ta@<>\tx"),
            // One column is missing, and one is too many.
            ("", "1\n1\\\ta\n", "1\n1\\\ta\n"),
            ("", "1\ta\tb\n", "1\ta\tb@<>\tx\n"),
            (
                "(DELIMITER ':')",
                "1:a\r\n",
                "1:a:2026-01-02T03\\:04\\:05.6+00\\:00:x\r\n",
            ),
            (
                "(FORMAT csv)",
                "1,a\n\"2\",\"b\nc\"\n",
                "1,a,\"<>\",\"x\"\n\"2\",\"b\nc\",\"<>\",\"x\"\n",
            ),
            (
                "(FORMAT csv, HEADER)",
                "a,b\n1,\n",
                "a,b\n1,,\"<>\",\"x\"\n",
            ),
            ("(FORMAT csv)", "\"1,a\"\n", "\"1,a\"\n"),
        ] {
            let expected = expected.replace('@', "\t").replace("<>", VALUE);
            let done = filled(options, rows).expect("it can be filled");
            assert_eq!(done, expected, "{options}: {rows:?}");
        }
    }

    #[test]
    fn what_cannot_take_the_values_is_not_filled() {
        for options in [
            "(FORMAT binary)",
            "(FORMAT csv, HEADER MATCH)",
            "(FORMAT csv, QUOTE '-')",
            "(FORMAT csv, ESCAPE '2')",
        ] {
            assert_eq!(filled(options, ""), None, "{options}");
        }
    }
}
