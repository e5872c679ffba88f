//! From line numbers that a shard reports to those of the client's stream.
//!
//! PostgreSQL says `COPY t, line 7` in an error's context, and a shard counts only
//! the lines that it was sent. The map remembers the latest rows, about two bytes
//! each; for rows that were forgotten there is no answer, and no number is better
//! than a wrong one.

use std::collections::VecDeque;

use super::splitter::{HeaderPiece, Row};

/// Rows in one block.
const BLOCK: u32 = 4096;

/// The line numbers of one COPY on all of its shards.
#[derive(Debug)]
pub struct LineMap {
    shards: Vec<Shard>,
    /// Blocks that are kept of each shard.
    blocks: usize,
}

#[derive(Debug, Default)]
struct Shard {
    /// Lines of the header, which are the client's own.
    header: u64,
    line: u64,
    blocks: VecDeque<Block>,
}

/// Consecutive rows of a shard: pairs of how much the two line numbers rise, as varints.
#[derive(Debug)]
struct Block {
    before_shard: u64,
    before_client: u64,
    last_client: u64,
    rows: u32,
    rises: Vec<u8>,
}

impl LineMap {
    /// For `shards` shards, numbered from 0; of each at least the latest `window` rows are remembered.
    pub fn new(shards: usize, window: u32) -> LineMap {
        LineMap {
            shards: (0..shards).map(|_| Shard::default()).collect(),
            blocks: window.div_ceil(BLOCK) as usize + 1,
        }
    }

    /// The header was sent to this shard.
    pub fn header(&mut self, shard: usize, header: &HeaderPiece<'_>) {
        if let Some(shard) = self.shards.get_mut(shard) {
            shard.header += u64::from(header.height);
            shard.line += u64::from(header.height);
        }
    }

    /// This row was sent to this shard.
    #[inline]
    pub fn row(&mut self, shard: usize, row: &Row<'_>) {
        let keep = self.blocks;
        let Some(shard) = self.shards.get_mut(shard) else {
            return;
        };
        let before = shard.line;
        let height = if before == 0 {
            row.first_height
        } else {
            row.height
        };
        shard.line += u64::from(height);
        if shard.blocks.back().is_none_or(|block| block.rows == BLOCK) {
            if shard.blocks.len() == keep {
                shard.blocks.pop_front();
            }
            shard.blocks.push_back(Block {
                before_shard: before,
                before_client: row.line.saturating_sub(1),
                last_client: row.line.saturating_sub(1),
                rows: 0,
                rises: Vec::new(),
            });
        }
        let Some(block) = shard.blocks.back_mut() else {
            return;
        };
        put(&mut block.rises, u64::from(height));
        put(&mut block.rises, row.line.saturating_sub(block.last_client));
        block.last_client = row.line;
        block.rows += 1;
    }

    /// The client's line for a line of a shard; none if it is not that of a row that is remembered.
    pub fn client_line(&self, shard: usize, line: u64) -> Option<u64> {
        let Shard { header, blocks, .. } = self.shards.get(shard)?;
        if line <= *header {
            return Some(line);
        }
        let block = blocks
            .iter()
            .rev()
            .find(|block| block.before_shard < line)?;
        let (mut at, mut client) = (block.before_shard, block.before_client);
        let mut rises = &block.rises[..];
        while let (Some(down), Some(over)) = (take(&mut rises), take(&mut rises)) {
            at += down;
            client += over;
            if at >= line {
                return (at == line).then_some(client);
            }
        }
        None
    }

    /// The context of a shard's error with the client's line number in the line about this COPY, and that number.
    ///
    /// `table` is the table's own name. A number that is not known is left out. Works in any language of
    /// messages that puts the number behind `COPY table, word`.
    pub fn correct_context(
        &self,
        shard: usize,
        table: &str,
        context: &str,
    ) -> (String, Option<u64>) {
        let mut found = None;
        let lines = context.split('\n').map(|line| {
            let about = line.strip_prefix("COPY ")?.strip_prefix(table)?;
            let about = about.strip_prefix(", ")?;
            let start = about.find(|c: char| c.is_ascii_digit())?;
            let end = (about[start..].find(|c: char| !c.is_ascii_digit()))
                .map_or(about.len(), |length| start + length);
            let plain = about[..start].trim_end().chars().all(char::is_alphabetic);
            if !plain {
                return None;
            }
            let number = about[start..end].parse().ok()?;
            Some(match self.client_line(shard, number) {
                Some(client) => {
                    found = Some(client);
                    format!("COPY {table}, {}{client}{}", &about[..start], &about[end..])
                }
                None => format!("COPY {table}{}", &about[end..]),
            })
        });
        let corrected = lines
            .zip(context.split('\n'))
            .map(|(new, old)| new.unwrap_or_else(|| old.to_string()));
        let corrected = corrected.collect::<Vec<_>>().join("\n");
        (corrected, found)
    }
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let (mut value, mut shift) = (0u64, 0u32);
    loop {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(value);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use super::super::splitter::RowKey;
    use super::*;

    fn row(line: u64, height: u32) -> Row<'static> {
        let key = RowKey::Null { column: 0 };
        let first_height = 1;
        Row {
            bytes: b"",
            content: b"",
            special: false,
            key,
            line,
            height,
            first_height,
        }
    }

    #[test]
    fn a_shards_line_leads_to_the_clients() {
        let mut map = LineMap::new(2, 10);
        let header = HeaderPiece {
            bytes: b"",
            content: b"",
            special: false,
            height: 1,
        };
        map.header(0, &header);
        map.header(1, &header);
        // Three lines high, from line 2 to 4.
        map.row(0, &row(4, 3));
        map.row(1, &row(5, 1));
        map.row(0, &row(500, 1));
        assert_eq!(map.client_line(0, 4), Some(4));
        assert_eq!(map.client_line(0, 5), Some(500));
        assert_eq!(map.client_line(1, 2), Some(5));
        assert_eq!(map.client_line(1, 1), Some(1));
        assert_eq!(map.client_line(1, 3), None);
        assert_eq!(map.client_line(0, 3), None);
        assert_eq!(map.client_line(7, 1), None);
    }

    #[test]
    fn the_latest_rows_are_remembered_and_old_ones_forgotten() {
        let mut map = LineMap::new(1, 5000);
        for line in 1..=100_000 {
            map.row(0, &row(line * 3, 1));
        }
        for line in 95_001..=100_000 {
            assert_eq!(map.client_line(0, line), Some(line * 3));
        }
        assert_eq!(map.client_line(0, 1), None);
        assert_eq!(map.client_line(0, 100_001), None);
    }

    #[test]
    fn only_the_number_of_the_context_changes() {
        let mut map = LineMap::new(1, 10);
        map.row(0, &row(41, 1));
        let cases = [
            (
                "COPY t, line 1, column a: \"line 1\"",
                "COPY t, line 41, column a: \"line 1\"",
            ),
            (
                "PL/pgSQL function f()\nCOPY t, line 1",
                "PL/pgSQL function f()\nCOPY t, line 41",
            ),
            ("COPY t, Zeile 1: »x«", "COPY t, Zeile 41: »x«"),
            ("COPY t, line 2: \"x\"", "COPY t: \"x\""),
            ("COPY u, line 1", "COPY u, line 1"),
            ("COPY t, column a: \"1\"", "COPY t, column a: \"1\""),
        ];
        for (context, wanted) in cases {
            assert_eq!(map.correct_context(0, "t", context).0, wanted);
        }
    }
}
