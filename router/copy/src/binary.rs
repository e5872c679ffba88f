//! Where the rows of binary COPY end, and where their fields are.
//!
//! A signature, flags and an extension; rows of a field count and fields with
//! lengths; a trailer, which may be missing. See "Binary Format" at
//! <https://www.postgresql.org/docs/current/sql-copy.html>. A row that is not whole
//! is resumed at the field where it was left.

use std::ops::Range;

use super::error::CopyError;

/// The first bytes of every stream.
pub const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags and the extension's length.
const FIXED: usize = SIGNATURE.len() + 8;
/// The end of the rows: a field count of -1.
pub const TRAILER: [u8; 2] = [0xff, 0xff];

/// What the bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryFound {
    /// Nothing whole; at least this many bytes are needed for the next step.
    More(usize),
    /// A row of this many bytes; its fields are in [`BinaryReader::field`].
    Row(usize),
    /// The trailer.
    Trailer,
    /// The stream is over without a trailer.
    End,
}

/// Finds one row after the other.
#[derive(Debug)]
pub struct BinaryReader {
    columns: usize,
    at: usize,
    fields: Vec<Option<Range<usize>>>,
}

impl BinaryReader {
    /// `columns`: how many columns are copied.
    pub fn new(columns: usize) -> BinaryReader {
        BinaryReader {
            columns,
            at: 0,
            fields: Vec::new(),
        }
    }

    /// A field of the row found last; none for NULL and where there is no such field.
    pub fn field(&self, position: usize) -> Option<Range<usize>> {
        self.fields.get(position).cloned().flatten()
    }

    /// Looks for the row that `bytes` begin with. After `More` it must be called with the same
    /// bytes and more behind them. `eof` says that no more will come.
    #[inline]
    pub fn next(&mut self, bytes: &[u8], eof: bool) -> Result<BinaryFound, CopyError> {
        if self.at == 0 {
            let Some(count) = bytes.first_chunk() else {
                // PostgreSQL takes a single last byte for the end, too.
                let end = if eof {
                    BinaryFound::End
                } else {
                    BinaryFound::More(2)
                };
                return Ok(end);
            };
            let found = i16::from_be_bytes(*count);
            if found == -1 {
                return Ok(BinaryFound::Trailer);
            }
            if usize::try_from(found) != Ok(self.columns) {
                let expected = self.columns;
                return Err(CopyError::FieldCount { found, expected });
            }
            self.at = 2;
            self.fields.clear();
        }
        while self.fields.len() < self.columns {
            let missing = match bytes[self.at..].first_chunk() {
                Some(length) => self.one(bytes, i32::from_be_bytes(*length))?,
                None => Some(self.at.saturating_add(4)),
            };
            match missing {
                None => {}
                Some(_) if eof => return Err(CopyError::UnexpectedEnd),
                Some(needed) => return Ok(BinaryFound::More(needed)),
            }
        }
        let length = std::mem::take(&mut self.at);
        Ok(BinaryFound::Row(length))
    }

    /// Passes one field; how many bytes are needed if it is not whole.
    fn one(&mut self, bytes: &[u8], length: i32) -> Result<Option<usize>, CopyError> {
        let start = self.at + 4;
        if length == -1 {
            self.fields.push(None);
            self.at = start;
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| CopyError::FieldSize)?;
        let end = start.checked_add(length).ok_or(CopyError::FieldSize)?;
        if bytes.len() < end {
            return Ok(Some(end));
        }
        self.fields.push(Some(start..end));
        self.at = end;
        Ok(None)
    }
}

/// How long the header is that `bytes` begin with; `Err(needed)` of the inner result if it is not whole.
pub fn header(bytes: &[u8], eof: bool) -> Result<Result<usize, usize>, CopyError> {
    let common = bytes.len().min(SIGNATURE.len());
    if bytes[..common] != SIGNATURE[..common] || (eof && common < SIGNATURE.len()) {
        return Err(CopyError::Signature);
    }
    let int = |at: usize| {
        bytes
            .get(at..)?
            .first_chunk()
            .map(|b| i32::from_be_bytes(*b))
    };
    let missing = |what, needed| match eof {
        true => Err(CopyError::BinaryHeader { what }),
        false => Ok(Err(needed)),
    };
    match int(SIGNATURE.len()) {
        None => return missing("missing flags", FIXED),
        // Bit 16 is for OIDs, which no version since 12 reads.
        Some(flags) if flags & (1 << 16) != 0 => {
            return Err(CopyError::BinaryHeader { what: "WITH OIDS" });
        }
        Some(flags) if flags >> 16 != 0 => return Err(CopyError::CriticalFlags),
        Some(_) => {}
    }
    let Some(extension) = int(SIGNATURE.len() + 4) else {
        return missing("missing length", FIXED);
    };
    let what = "missing length";
    let extension = usize::try_from(extension).map_err(|_| CopyError::BinaryHeader { what })?;
    match FIXED.saturating_add(extension) {
        end if bytes.len() < end => missing("wrong length", end),
        end => Ok(Ok(end)),
    }
}
