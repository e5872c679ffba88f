//! The command tags of several shards as one: `UPDATE 2` and `UPDATE 3` are `UPDATE 5`.

use mothership_proto::report::{Report, sqlstate};

/// Commands whose tag ends in a count of rows.
const COUNTED: [&[u8]; 8] = [
    b"INSERT 0",
    b"UPDATE",
    b"DELETE",
    b"MERGE",
    b"SELECT",
    b"COPY",
    b"FETCH",
    b"MOVE",
];

/// The tags so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandTag {
    command: Option<Vec<u8>>,
    rows: Option<u64>,
}

/// Why tags do not add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// The shards say that they have done different things.
    #[error("shards answer with different command tags")]
    Differ,
    /// More rows than can be counted.
    #[error("too many rows to count")]
    Overflow,
}

impl TagError {
    /// As the client sees it.
    pub fn report(&self) -> Report {
        Report::error(sqlstate::INTERNAL_ERROR, self.to_string())
    }
}

impl CommandTag {
    /// No tag yet.
    pub fn new() -> CommandTag {
        CommandTag::default()
    }

    /// Adds the tag of one more shard, without its terminator.
    pub fn add(&mut self, tag: &[u8]) -> Result<(), TagError> {
        let (command, rows) = read(tag);
        match &self.command {
            None => {
                self.command = Some(command.to_vec());
                self.rows = rows;
                return Ok(());
            }
            Some(known) if known != command => return Err(TagError::Differ),
            Some(_) => {}
        }
        self.rows = match (self.rows, rows) {
            (None, None) => None,
            (Some(a), Some(b)) => Some(a.checked_add(b).ok_or(TagError::Overflow)?),
            _ => return Err(TagError::Differ),
        };
        Ok(())
    }

    /// Adds the tag of one more shard that has done the same as the others, as in a write of a reference
    /// table: its rows are the others' rows.
    pub fn agree(&mut self, tag: &[u8]) -> Result<(), TagError> {
        match self.command {
            None => self.add(tag),
            Some(_) if self.bytes().as_deref() == Some(tag) => Ok(()),
            Some(_) => Err(TagError::Differ),
        }
    }

    /// The rows of all shards, for commands that count them.
    pub fn rows(&self) -> Option<u64> {
        self.rows
    }

    /// The tag for the client; none if no shard has answered.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let mut tag = self.command.clone()?;
        if let Some(rows) = self.rows {
            tag.extend_from_slice(format!(" {rows}").as_bytes());
        }
        Some(tag)
    }
}

/// The command and, if it counts rows, their number.
fn read(tag: &[u8]) -> (&[u8], Option<u64>) {
    let split = tag.iter().rposition(|&b| b == b' ');
    if let Some(at) = split {
        let digits = &tag[at + 1..];
        let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        let rows = std::str::from_utf8(digits)
            .ok()
            .and_then(|d| d.parse().ok());
        if plain && COUNTED.contains(&&tag[..at]) && rows.is_some() {
            return (&tag[..at], rows);
        }
    }
    (tag, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(tags: &[&str]) -> Result<Option<String>, TagError> {
        let mut all = CommandTag::new();
        for tag in tags {
            all.add(tag.as_bytes())?;
        }
        Ok(all.bytes().map(|bytes| String::from_utf8(bytes).unwrap()))
    }

    #[test]
    fn counts_are_summed_and_commands_are_kept() {
        let cases: [(&[&str], &str); 7] = [
            (&["UPDATE 2", "UPDATE 0", "UPDATE 3"], "UPDATE 5"),
            (&["INSERT 0 1", "INSERT 0 41"], "INSERT 0 42"),
            (&["DELETE 7"], "DELETE 7"),
            (&["SELECT 1", "SELECT 2"], "SELECT 3"),
            (&["COPY 100000", "COPY 1"], "COPY 100001"),
            (&["MERGE 1", "MERGE 1"], "MERGE 2"),
            (&["TRUNCATE TABLE", "TRUNCATE TABLE"], "TRUNCATE TABLE"),
        ];
        for (tags, wanted) in cases {
            assert_eq!(sum(tags), Ok(Some(wanted.to_string())), "{tags:?}");
        }
        assert_eq!(sum(&[]), Ok(None));
    }

    #[test]
    fn shards_that_do_the_same_count_once() {
        let mut all = CommandTag::new();
        assert_eq!(all.agree(b"UPDATE 3"), Ok(()));
        assert_eq!(all.agree(b"UPDATE 3"), Ok(()));
        assert_eq!(all.bytes().as_deref(), Some(&b"UPDATE 3"[..]));
        assert_eq!(all.agree(b"UPDATE 4"), Err(TagError::Differ));
    }

    #[test]
    fn tags_that_differ_are_an_error() {
        assert_eq!(sum(&["UPDATE 1", "DELETE 1"]), Err(TagError::Differ));
        assert_eq!(sum(&["INSERT 0 1", "INSERT 5 1"]), Err(TagError::Differ));
        assert_eq!(sum(&["SELECT", "SELECT 1"]), Err(TagError::Differ));
        assert_eq!(sum(&["UPDATE +1", "UPDATE 1"]), Err(TagError::Differ));
        let most = format!("COPY {}", u64::MAX);
        assert_eq!(sum(&[&most, "COPY 1"]), Err(TagError::Overflow));
    }
}
