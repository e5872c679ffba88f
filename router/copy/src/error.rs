//! Streams that PostgreSQL refuses whoever reads them, in PostgreSQL's own words.
//!
//! These are about the framing of rows: after one of them nothing can be said of
//! the bytes that follow, so the COPY must fail on all shards. What is wrong within
//! one row is left to the server that gets it.

use mothership_proto::report::{Report, sqlstate};

/// `bad_copy_file_format`
const BAD_FORMAT: &str = "22P04";

/// Why a stream cannot be divided any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// A line end that is not like the first one. `csv` says which words are used.
    #[error("{} newline found in data", kind(*.csv))]
    Newline {
        /// Whether the format is CSV.
        csv: bool,
    },
    /// Likewise for carriage returns.
    #[error("{} carriage return found in data", kind(*.csv))]
    CarriageReturn {
        /// Whether the format is CSV.
        csv: bool,
    },
    /// Something follows `\.` on its line.
    #[error("end-of-copy marker corrupt")]
    MarkerCorrupt,
    /// The line end after `\.` is not like the others.
    #[error("end-of-copy marker does not match previous newline style")]
    MarkerNewline,
    /// A quote was not closed.
    #[error("unterminated CSV quoted field")]
    UnterminatedQuote,
    /// The stream does not begin as binary COPY does.
    #[error("COPY file signature not recognized")]
    Signature,
    /// The binary header is cut short or has a negative length.
    #[error("invalid COPY file header ({what})")]
    BinaryHeader {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The binary header asks for what no server knows.
    #[error("unrecognized critical flags in COPY file header")]
    CriticalFlags,
    /// A binary row with another number of fields.
    #[error("row field count is {found}, expected {expected}")]
    FieldCount {
        /// As the row says.
        found: i16,
        /// As many columns are copied.
        expected: usize,
    },
    /// A negative length other than NULL's.
    #[error("invalid field size")]
    FieldSize,
    /// The stream ends within a row.
    #[error("unexpected EOF in COPY data")]
    UnexpectedEnd,
    /// Bytes after the binary trailer.
    #[error("received copy data after EOF marker")]
    AfterEnd,
    /// A row is longer than the router's limit.
    #[error("a row of COPY is longer than {limit} bytes")]
    RowTooLong {
        /// The limit, in bytes.
        limit: usize,
    },
    /// Two shards begin their rows with different headers.
    #[error("shards send different COPY headers")]
    HeadersDiffer,
}

fn kind(csv: bool) -> &'static str {
    if csv { "unquoted" } else { "literal" }
}

impl CopyError {
    /// SQLSTATE
    pub fn code(&self) -> &'static str {
        match self {
            CopyError::RowTooLong { .. } => sqlstate::PROGRAM_LIMIT_EXCEEDED,
            CopyError::HeadersDiffer => sqlstate::INTERNAL_ERROR,
            _ => BAD_FORMAT,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        Some(match self {
            CopyError::Newline { csv: false } => r#"Use "\n" to represent newline."#,
            CopyError::Newline { csv: true } => "Use quoted CSV field to represent newline.",
            CopyError::CarriageReturn { csv: false } => r#"Use "\r" to represent carriage return."#,
            CopyError::CarriageReturn { csv: true } => {
                "Use quoted CSV field to represent carriage return."
            }
            _ => return None,
        })
    }

    /// As the client sees it.
    pub fn report(&self) -> Report {
        let report = Report::error(self.code(), self.to_string());
        match self.hint() {
            Some(hint) => report.hint(hint),
            None => report,
        }
    }
}
