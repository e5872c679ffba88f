//! Divides a COPY FROM STDIN stream into rows with their keys.
//!
//! In: CopyData bodies, cut anywhere. Out: pieces, each a header, one row with its
//! key, or a trailer, all as the client wrote them. Rows that lie within one body
//! are passed on without being copied. What a shard's owner is, and what to do with
//! a row that has no certain key, is the caller's business.

use mothership_shardmap::{Encoding, KeyBytes, KeyError, KeyType, TextContext};

use super::binary::{self, BinaryFound, BinaryReader};
use super::error::CopyError;
use super::fields::{CsvFields, Field, Force, TextFields};
use super::format::{CopyFormat, CsvFormat, TextFormat};
use super::line::{Found, Line, LineReader, Quotes};
use super::options::{CopyOptions, OptionError};

/// The first version of PostgreSQL that takes `\.` for a value of CSV.
const MARKER_IS_DATA: u16 = 18;

/// A column of the shard key.
#[derive(Clone, Debug)]
pub struct KeyColumn {
    /// Its name, for FORCE_NULL and FORCE_NOT_NULL.
    pub name: String,
    /// Its place among the copied columns, from 0.
    pub position: usize,
    /// Its type.
    pub key_type: KeyType,
    /// Its `atttypmod`, -1 for none.
    pub typmod: i32,
}

/// What is to be known of the table, the session and the servers.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How many columns are copied.
    pub columns: usize,
    /// The key's columns, in the order of the key.
    pub key: Vec<KeyColumn>,
    /// The session's settings, the encodings of client and server among them.
    pub context: TextContext,
    /// The major version of all shards.
    pub major_version: u16,
    /// The longest row or header that is taken, in bytes.
    pub row_limit: usize,
}

/// A part of the stream.
#[derive(Debug)]
pub enum Piece<'a> {
    /// A header line, or the header of the binary format: for every shard on which COPY was
    /// started, before all rows.
    Header(HeaderPiece<'a>),
    /// A row, line end included.
    Row(Row<'a>),
    /// The trailer of the binary format: for every shard on which COPY was started, at the end.
    Trailer(&'a [u8]),
}

/// What comes before the rows.
#[derive(Clone, Copy, Debug)]
pub struct HeaderPiece<'a> {
    /// As the client wrote it.
    pub bytes: &'a [u8],
    /// The same without its line end.
    pub content: &'a [u8],
    /// Whether a line has a backslash (text), a quote (CSV).
    pub special: bool,
    /// By how much it raises PostgreSQL's line counter: 0 for the binary format.
    pub height: u32,
}

/// A row.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// As the client wrote it, line end included.
    pub bytes: &'a [u8],
    /// The same without its line end.
    pub content: &'a [u8],
    /// Whether a line has a backslash (text), a quote (CSV).
    pub special: bool,
    /// Its key, or why there is none.
    pub key: RowKey<'a>,
    /// The line number that PostgreSQL would report for it, were it the only server.
    pub line: u64,
    /// By how much it raises the line counter of a server that has seen a line before.
    pub height: u32,
    /// By how much it raises that of a server whose first line it is.
    pub first_height: u32,
}

/// The key of a row. Columns are counted as in [`Rules::key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKey<'a> {
    /// The key as it is stored: it belongs to `Sharded::owner` of these.
    Values(&'a [KeyBytes]),
    /// PostgreSQL refuses this row: the value is not valid for the column, or a column is missing.
    /// Send it to any one shard on which COPY was started, so that PostgreSQL says it with its own
    /// words, and see to it that the COPY fails even if that shard should take it. With
    /// `ON_ERROR ignore` an invalid value is skipped there instead.
    Refused {
        /// The key's column.
        column: usize,
    },
    /// NULL, which no shard owns. Where the column is NOT NULL, PostgreSQL refuses it as above.
    Null {
        /// The key's column.
        column: usize,
    },
    /// The value cannot be read with certainty, or is the column's DEFAULT: refuse the COPY.
    Unsure {
        /// The key's column.
        column: usize,
    },
}

/// Divides one stream.
#[derive(Debug)]
pub struct Splitter {
    reader: Reader,
    keys: Keys,
    state: State,
    /// The beginning of a row whose end has not come yet.
    pending: Vec<u8>,
    /// How long `pending` must be at least before it is worth looking again.
    wanted: usize,
    line: u64,
    first: bool,
    row_limit: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Header,
    Rows,
    /// Behind the end marker of text and CSV, where PostgreSQL ignores everything.
    Ignoring,
    /// Behind the trailer of the binary format, where nothing may come.
    Closed,
}

#[derive(Debug)]
enum Reader {
    Text(LineReader, TextFormat),
    Csv(LineReader, CsvFormat),
    Binary(BinaryReader),
}

impl Splitter {
    /// For a statement with these options.
    pub fn new(options: &CopyOptions, rules: Rules) -> Result<Splitter, OptionError> {
        let context = options.context(rules.context)?;
        let reader = match &options.format {
            CopyFormat::Text(text) => Reader::Text(LineReader::new(None), text.clone()),
            CopyFormat::Csv(csv) => {
                let quotes = Quotes {
                    quote: csv.quote,
                    escape: (csv.escape != csv.quote).then_some(csv.escape),
                    marker: rules.major_version < MARKER_IS_DATA,
                };
                Reader::Csv(LineReader::new(Some(quotes)), csv.clone())
            }
            CopyFormat::Binary => Reader::Binary(BinaryReader::new(rules.columns)),
        };
        let has_header = matches!(reader, Reader::Binary(_)) || options.format.has_header_line();
        Ok(Splitter {
            reader,
            keys: Keys::new(&rules.key, &options.format, context),
            state: if has_header {
                State::Header
            } else {
                State::Rows
            },
            pending: Vec::new(),
            wanted: 0,
            line: 0,
            first: true,
            row_limit: rules.row_limit,
        })
    }

    /// The line that PostgreSQL would name in an error now.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Whether a marker has ended the rows.
    pub fn is_over(&self) -> bool {
        self.state == State::Ignoring
    }

    /// Takes the body of one CopyData. After an error the stream is lost: the COPY must fail.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        mut emit: impl FnMut(Piece<'_>),
    ) -> Result<(), CopyError> {
        while !bytes.is_empty() {
            if self.pending.is_empty() {
                let done = self.rows(bytes, false, &mut emit)?;
                self.pending.extend_from_slice(&bytes[done..]);
                return self.check_pending();
            }
            // No more than one row is completed in the copy; the rest is looked at where it is.
            let piece = self.piece(bytes);
            self.pending.extend_from_slice(&bytes[..piece]);
            bytes = &bytes[piece..];
            if self.pending.len() >= self.wanted {
                self.take_pending(false, &mut emit)?;
            }
            self.check_pending()?;
        }
        Ok(())
    }

    /// The client has sent CopyDone.
    pub fn finish(&mut self, mut emit: impl FnMut(Piece<'_>)) -> Result<(), CopyError> {
        self.take_pending(true, &mut emit)
    }

    fn take_pending(
        &mut self,
        eof: bool,
        emit: &mut impl FnMut(Piece<'_>),
    ) -> Result<(), CopyError> {
        let mut pending = std::mem::take(&mut self.pending);
        let done = self.rows(&pending, eof, emit)?;
        pending.drain(..done);
        self.pending = pending;
        Ok(())
    }

    /// How much of `bytes` to put behind the pending ones: up to where their row may end.
    fn piece(&self, bytes: &[u8]) -> usize {
        match self.reader {
            Reader::Binary(_) => {
                let missing = self.wanted.saturating_sub(self.pending.len()).max(1);
                missing.min(bytes.len())
            }
            _ => memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1),
        }
    }

    fn check_pending(&self) -> Result<(), CopyError> {
        check_length(self.pending.len().max(self.wanted), self.row_limit)
    }

    /// Emits what is whole; returns how many bytes that was.
    fn rows(
        &mut self,
        bytes: &[u8],
        eof: bool,
        emit: &mut impl FnMut(Piece<'_>),
    ) -> Result<usize, CopyError> {
        self.wanted = 0;
        match self.reader {
            Reader::Binary(_) => self.binary(bytes, eof, emit),
            _ => self.lines(bytes, eof, emit),
        }
    }

    fn lines(
        &mut self,
        bytes: &[u8],
        eof: bool,
        emit: &mut impl FnMut(Piece<'_>),
    ) -> Result<usize, CopyError> {
        let mut done = 0;
        while self.state != State::Ignoring {
            let rest = &bytes[done..];
            let (Reader::Text(lines, _) | Reader::Csv(lines, _)) = &mut self.reader else {
                return Ok(done);
            };
            let line = match lines.next(rest, eof)? {
                Found::More => return Ok(done),
                Found::End => {
                    self.state = State::Ignoring;
                    break;
                }
                Found::Line(line) => line,
            };
            check_length(line.whole, self.row_limit)?;
            done += line.whole;
            self.one_line(&rest[..line.whole], line, emit)?;
            if line.last {
                self.state = State::Ignoring;
            }
        }
        Ok(bytes.len())
    }

    #[inline]
    fn one_line(
        &mut self,
        bytes: &[u8],
        line: Line,
        emit: &mut impl FnMut(Piece<'_>),
    ) -> Result<(), CopyError> {
        let first = std::mem::take(&mut self.first);
        let height = if first {
            line.first_height
        } else {
            line.height
        };
        self.line += u64::from(height);
        if self.state == State::Header {
            self.state = State::Rows;
            emit(Piece::Header(HeaderPiece {
                bytes,
                content: &bytes[..line.content],
                special: line.special,
                height,
            }));
            return Ok(());
        }
        let content = &bytes[..line.content];
        let key = match &self.reader {
            Reader::Text(_, format) => {
                let fields = TextFields::new(format, content, line.special);
                self.keys.of_text(fields)
            }
            Reader::Csv(_, format) => self.keys.of_csv(CsvFields::new(format, content))?,
            Reader::Binary(_) => return Ok(()),
        };
        emit(Piece::Row(Row {
            bytes,
            content,
            special: line.special,
            key,
            line: self.line,
            height: line.height,
            first_height: line.first_height,
        }));
        Ok(())
    }

    fn binary(
        &mut self,
        bytes: &[u8],
        eof: bool,
        emit: &mut impl FnMut(Piece<'_>),
    ) -> Result<usize, CopyError> {
        let Reader::Binary(reader) = &mut self.reader else {
            return Ok(0);
        };
        let mut done = 0;
        if self.state == State::Header {
            match binary::header(bytes, eof)? {
                Err(needed) => {
                    self.wanted = needed;
                    return Ok(0);
                }
                Ok(length) => done = length,
            }
            // One that came in pieces was measured while it was pending.
            check_length(done, self.row_limit)?;
            self.state = State::Rows;
            let header = HeaderPiece {
                bytes: &bytes[..done],
                content: &bytes[..done],
                special: false,
                height: 0,
            };
            emit(Piece::Header(header));
        }
        loop {
            let rest = &bytes[done..];
            if self.state == State::Closed {
                let over = rest.is_empty();
                return if over {
                    Ok(done)
                } else {
                    Err(CopyError::AfterEnd)
                };
            }
            match reader.next(rest, eof)? {
                BinaryFound::More(needed) => {
                    self.wanted = needed;
                    return Ok(done);
                }
                BinaryFound::End => return Ok(bytes.len()),
                BinaryFound::Trailer => {
                    emit(Piece::Trailer(&rest[..binary::TRAILER.len()]));
                    done += binary::TRAILER.len();
                    self.state = State::Closed;
                }
                BinaryFound::Row(length) => {
                    check_length(length, self.row_limit)?;
                    self.line += 1;
                    done += length;
                    let key = self.keys.of_binary(&rest[..length], reader);
                    emit(Piece::Row(Row {
                        bytes: &rest[..length],
                        content: &rest[..length],
                        special: false,
                        key,
                        line: self.line,
                        height: 1,
                        first_height: 1,
                    }));
                }
            }
        }
    }
}

/// Rows and headers are measured alike, whole or while they are pending: cuts must not matter.
#[inline]
fn check_length(length: usize, limit: usize) -> Result<(), CopyError> {
    match length > limit {
        true => Err(CopyError::RowTooLong { limit }),
        false => Ok(()),
    }
}

/// Reads the keys of rows.
#[derive(Debug)]
struct Keys {
    /// By position in the row.
    columns: Vec<Wanted>,
    context: TextContext,
    /// The key of the row read last, in the order of the key.
    values: Vec<KeyBytes>,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Wanted {
    /// Fields between the wanted one before and this one.
    skip: usize,
    position: usize,
    /// Its place in the key.
    column: usize,
    key_type: KeyType,
    typmod: i32,
    force: Force,
}

/// What was found of a row's key, the worst last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Known,
    Null(usize),
    Unsure(usize),
    Refused(usize),
}

impl Keys {
    fn new(key: &[KeyColumn], format: &CopyFormat, context: TextContext) -> Keys {
        let force = |name: &str| match format {
            CopyFormat::Csv(csv) => Force {
                null: csv.force_null.contain(name.as_bytes()),
                not_null: csv.force_not_null.contain(name.as_bytes()),
            },
            _ => Force::default(),
        };
        let mut columns: Vec<Wanted> = (key.iter().enumerate())
            .map(|(column, given)| Wanted {
                skip: 0,
                position: given.position,
                column,
                key_type: given.key_type,
                typmod: given.typmod,
                force: force(&given.name),
            })
            .collect();
        columns.sort_by_key(|column| column.position);
        let mut next = 0;
        for column in &mut columns {
            column.skip = column.position.saturating_sub(next);
            next = column.position + 1;
        }
        Keys {
            values: vec![KeyBytes::from_canonical(&[]); columns.len()],
            columns,
            context,
            scratch: Vec::new(),
        }
    }

    #[inline]
    fn of_text(&mut self, mut fields: TextFields<'_>) -> RowKey<'_> {
        let mut verdict = Verdict::Known;
        for wanted in &self.columns {
            let field = match fields.skip(wanted.skip) {
                true => fields.take(&mut self.scratch),
                false => None,
            };
            let found = text_key(wanted, field, &self.context, &mut self.values);
            verdict = verdict.max(found);
        }
        key(verdict, &self.values)
    }

    fn of_csv(&mut self, mut fields: CsvFields<'_>) -> Result<RowKey<'_>, CopyError> {
        let mut verdict = Verdict::Known;
        for wanted in &self.columns {
            let field = match fields.skip(wanted.skip, &mut self.scratch)? {
                true => fields.take(wanted.force, &mut self.scratch)?,
                false => None,
            };
            let found = text_key(wanted, field, &self.context, &mut self.values);
            verdict = verdict.max(found);
        }
        Ok(key(verdict, &self.values))
    }

    fn of_binary(&mut self, row: &[u8], reader: &BinaryReader) -> RowKey<'_> {
        let mut verdict = Verdict::Known;
        for wanted in &self.columns {
            let found = match reader.field(wanted.position) {
                None => Verdict::Null(wanted.column),
                Some(field) => {
                    let oid = wanted.key_type.oid();
                    let read = (wanted.key_type).from_binary(oid, &row[field], &self.context);
                    stored(wanted, read, &mut self.values)
                }
            };
            verdict = verdict.max(found);
        }
        key(verdict, &self.values)
    }
}

#[inline]
fn text_key(
    wanted: &Wanted,
    field: Option<Field<'_>>,
    context: &TextContext,
    values: &mut [KeyBytes],
) -> Verdict {
    match field {
        None => Verdict::Refused(wanted.column),
        Some(Field::Null) => Verdict::Null(wanted.column),
        Some(Field::Default) => Verdict::Unsure(wanted.column),
        Some(Field::Value(text)) => {
            stored(wanted, wanted.key_type.from_text(text, context), values)
        }
    }
}

#[inline]
fn stored(wanted: &Wanted, read: Result<KeyBytes, KeyError>, values: &mut [KeyBytes]) -> Verdict {
    let column = wanted.column;
    match read.and_then(|read| wanted.key_type.stored(read, wanted.typmod)) {
        Ok(value) => {
            values[column] = value;
            Verdict::Known
        }
        Err(KeyError::Invalid) => Verdict::Refused(column),
        Err(KeyError::NoMatch | KeyError::Unsure) => Verdict::Unsure(column),
    }
}

#[inline]
fn key(verdict: Verdict, values: &[KeyBytes]) -> RowKey<'_> {
    match verdict {
        Verdict::Known => RowKey::Values(values),
        Verdict::Null(column) => RowKey::Null { column },
        Verdict::Unsure(column) => RowKey::Unsure { column },
        Verdict::Refused(column) => RowKey::Refused { column },
    }
}

impl CopyOptions {
    /// The context in which the stream is read, which may have an encoding of its own.
    fn context(&self, session: TextContext) -> Result<TextContext, OptionError> {
        let utf8 = |name: &String| Encoding::from_settings(name, "UTF8") == Encoding::Utf8;
        // Fields of the binary format are in the session's encoding whatever the option says.
        let binary = self.format == CopyFormat::Binary;
        let encoding = match &self.encoding {
            Some(name) if !binary && !utf8(name) => Encoding::Other,
            _ => session.encoding,
        };
        let markers = self
            .format
            .text()
            .map(|text| [Some(&text.null), text.default.as_ref()]);
        let ascii = markers
            .into_iter()
            .flatten()
            .flatten()
            .all(|m| m.is_ascii());
        // They are compared byte by byte, so statement and stream must be of one encoding.
        if !ascii && encoding != Encoding::Utf8 {
            return Err(OptionError::NotAscii);
        }
        Ok(TextContext {
            encoding,
            ..session
        })
    }
}

#[cfg(test)]
#[path = "splitter_tests.rs"]
mod tests;
