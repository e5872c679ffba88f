//! Where the lines of text and CSV end.
//!
//! Follows `CopyReadLineText` of PostgreSQL's `copyfromparse.c`: line ends as the
//! first one is, backslashes that take the next byte with them, quotes over lines,
//! and the end marker `\.`. Bytes are looked at once: what is incomplete is resumed
//! where it was left. The reading of fields is another matter (`fields.rs`), as it
//! is in PostgreSQL, which may disagree with itself about odd quotes.

use memchr::{memchr, memchr_iter, memchr2, memchr3};

use super::error::CopyError;

/// The line end of a stream, by its first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Eol {
    Unknown,
    Lf,
    Cr,
    CrLf,
}

/// The quotes of CSV.
#[derive(Clone, Copy, Debug)]
pub struct Quotes {
    /// Around fields.
    pub quote: u8,
    /// Within quotes, if it is not the quote itself.
    pub escape: Option<u8>,
    /// Whether `\.` alone on a line ends the stream (before PostgreSQL 18).
    pub marker: bool,
}

/// A line that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Bytes without the line end.
    pub content: usize,
    /// Bytes with it.
    pub whole: usize,
    /// Whether it has a backslash (text), a quote (CSV).
    pub special: bool,
    /// The stream is over after it, whatever follows.
    pub last: bool,
    /// By how much PostgreSQL's line counter rises.
    pub height: u32,
    /// The same, if it is the first line that a server sees: it does not know the line end yet, and
    /// counts carriage returns within quotes.
    pub first_height: u32,
}

/// What the bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Not a whole line.
    More,
    /// A line.
    Line(Line),
    /// The end of the stream.
    End,
}

/// Finds one line after the other.
#[derive(Debug)]
pub struct LineReader {
    quotes: Option<Quotes>,
    eol: Eol,
    at: usize,
    special: bool,
    in_quote: bool,
    escaped: bool,
    quoted_lf: u32,
    quoted_cr: u32,
}

impl LineReader {
    /// For CSV with quotes, for text without.
    pub fn new(quotes: Option<Quotes>) -> LineReader {
        LineReader {
            quotes,
            eol: Eol::Unknown,
            at: 0,
            special: false,
            in_quote: false,
            escaped: false,
            quoted_lf: 0,
            quoted_cr: 0,
        }
    }

    /// Looks for the line that `bytes` begin with. After [`Found::More`] it must be called with the
    /// same bytes and more behind them. `eof` says that no more will come.
    #[inline]
    pub fn next(&mut self, bytes: &[u8], eof: bool) -> Result<Found, CopyError> {
        match self.quotes {
            None => self.text(bytes, eof),
            Some(quotes) => self.csv(bytes, eof, quotes),
        }
    }

    #[inline]
    fn text(&mut self, bytes: &[u8], eof: bool) -> Result<Found, CopyError> {
        loop {
            let Some(ahead) = memchr3(b'\n', b'\r', b'\\', &bytes[self.at..]) else {
                return Ok(self.rest(bytes, eof));
            };
            self.at += ahead;
            if bytes[self.at] != b'\\' {
                return self.line_end(bytes, eof);
            }
            match bytes.get(self.at + 1) {
                None if eof => {
                    self.special = true;
                    return Ok(self.rest(bytes, eof));
                }
                None => return Ok(Found::More),
                Some(b'.') => return self.text_marker(bytes, eof),
                Some(_) => {
                    self.special = true;
                    self.at += 2;
                }
            }
        }
    }

    fn csv(&mut self, bytes: &[u8], eof: bool, quotes: Quotes) -> Result<Found, CopyError> {
        if self.at == 0 && quotes.marker && bytes.first() == Some(&b'\\') {
            match self.csv_marker(bytes, eof)? {
                Some(found) => return Ok(found),
                None => self.at = 1,
            }
        }
        loop {
            if self.in_quote {
                self.within_quotes(bytes, quotes);
                if self.in_quote {
                    return Ok(self.rest(bytes, eof));
                }
            }
            match memchr3(quotes.quote, b'\n', b'\r', &bytes[self.at..]) {
                None => return Ok(self.rest(bytes, eof)),
                Some(ahead) => self.at += ahead,
            }
            if bytes[self.at] != quotes.quote {
                return self.line_end(bytes, eof);
            }
            self.special = true;
            self.in_quote = true;
            self.escaped = false;
            self.at += 1;
        }
    }

    /// Up to behind the closing quote, or to the end of the bytes.
    fn within_quotes(&mut self, bytes: &[u8], quotes: Quotes) {
        loop {
            let rest = &bytes[self.at..];
            let ahead = match quotes.escape {
                None => memchr(quotes.quote, rest),
                Some(escape) => memchr2(quotes.quote, escape, rest),
            };
            let plain = &rest[..ahead.unwrap_or(rest.len())];
            if !plain.is_empty() {
                self.escaped = false;
                self.quoted_lf = self.quoted_lf.saturating_add(count(b'\n', plain));
                self.quoted_cr = self.quoted_cr.saturating_add(count(b'\r', plain));
            }
            self.at += plain.len();
            let Some(&byte) = bytes.get(self.at) else {
                return;
            };
            self.at += 1;
            if Some(byte) == quotes.escape {
                self.escaped = !self.escaped;
            } else if self.escaped {
                self.escaped = false;
            } else {
                self.in_quote = false;
                return;
            }
        }
    }

    /// At a `\n` or `\r` that stands for itself.
    #[inline]
    fn line_end(&mut self, bytes: &[u8], eof: bool) -> Result<Found, CopyError> {
        let csv = self.quotes.is_some();
        let (at, line_feed) = (self.at, bytes[self.at] == b'\n');
        let length = match (self.eol, line_feed) {
            (Eol::Unknown | Eol::Lf, true) => {
                self.eol = Eol::Lf;
                1
            }
            (_, true) => return Err(CopyError::Newline { csv }),
            (Eol::Lf, false) => return Err(CopyError::CarriageReturn { csv }),
            (Eol::Cr, false) => 1,
            (Eol::Unknown | Eol::CrLf, false) => match (bytes.get(at + 1), self.eol) {
                (None, _) if !eof => return Ok(Found::More),
                (Some(b'\n'), _) => {
                    self.eol = Eol::CrLf;
                    2
                }
                (_, Eol::CrLf) => return Err(CopyError::CarriageReturn { csv }),
                _ => {
                    self.eol = Eol::Cr;
                    1
                }
            },
        };
        Ok(self.found(at, at + length, false))
    }

    /// No line end is left: the last line if this is the end, a line without an end of its own.
    fn rest(&mut self, bytes: &[u8], eof: bool) -> Found {
        if !eof {
            self.at = bytes.len();
            return Found::More;
        }
        if bytes.is_empty() {
            return Found::End;
        }
        self.found(bytes.len(), bytes.len(), true)
    }

    fn found(&mut self, content: usize, whole: usize, last: bool) -> Found {
        let counted = match self.eol {
            Eol::Lf => self.quoted_lf,
            _ => self.quoted_cr,
        };
        let line = Line {
            content,
            whole,
            special: self.special,
            last,
            height: counted.saturating_add(1),
            first_height: self.quoted_cr.saturating_add(1),
        };
        self.at = 0;
        self.special = false;
        self.in_quote = false;
        self.escaped = false;
        self.quoted_lf = 0;
        self.quoted_cr = 0;
        Found::Line(line)
    }

    /// At `\.` in text: the end of the stream and of the line, or an error. What stands before it
    /// is a last row, up to PostgreSQL 17; later versions refuse it, and the server that gets the row,
    /// marker included, will say so.
    fn text_marker(&mut self, bytes: &[u8], eof: bool) -> Result<Found, CopyError> {
        let mut end = self.at + 2;
        let needed = if self.eol == Eol::CrLf { 2 } else { 1 };
        if bytes.len() < end + needed && !eof {
            return Ok(Found::More);
        }
        if self.eol == Eol::CrLf {
            match bytes.get(end) {
                Some(b'\r') => end += 1,
                Some(b'\n') => return Err(CopyError::MarkerNewline),
                _ => return Err(CopyError::MarkerCorrupt),
            }
        }
        match bytes.get(end) {
            Some(&byte @ (b'\r' | b'\n')) => self.marker_end(byte)?,
            _ => return Err(CopyError::MarkerCorrupt),
        }
        match self.at {
            0 => Ok(Found::End),
            at => Ok(self.found(at, end + 1, true)),
        }
    }

    /// At a `\` that begins a line of CSV; none if it is a value.
    fn csv_marker(&mut self, bytes: &[u8], eof: bool) -> Result<Option<Found>, CopyError> {
        match bytes.get(1) {
            None if !eof => return Ok(Some(Found::More)),
            Some(b'.') => {}
            _ => return Ok(None),
        }
        let mut end = 2;
        let needed = if self.eol == Eol::CrLf { 2 } else { 1 };
        if bytes.len() < end + needed && !eof {
            return Ok(Some(Found::More));
        }
        if self.eol == Eol::CrLf {
            match bytes.get(end) {
                Some(b'\r') => end += 1,
                _ => return Ok(None),
            }
        }
        match bytes.get(end) {
            Some(&byte @ (b'\r' | b'\n')) => {
                self.marker_end(byte)?;
                Ok(Some(Found::End))
            }
            _ => Ok(None),
        }
    }

    /// The last byte behind `\.` must be the last byte of the other line ends.
    fn marker_end(&self, byte: u8) -> Result<(), CopyError> {
        let wanted = match self.eol {
            Eol::Unknown => return Ok(()),
            Eol::Lf | Eol::CrLf => b'\n',
            Eol::Cr => b'\r',
        };
        match byte == wanted {
            true => Ok(()),
            false => Err(CopyError::MarkerNewline),
        }
    }
}

fn count(byte: u8, bytes: &[u8]) -> u32 {
    u32::try_from(memchr_iter(byte, bytes).count()).unwrap_or(u32::MAX)
}
