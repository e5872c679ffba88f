//! COPY over several shards: the client's stream of rows divided by shard key, and streams of shards made one.
//!
//! Pure and sync: bytes in, pieces out; nothing here knows sockets or shards. The
//! bytes that a client sends of a row are never changed. The rules of
//! <https://www.postgresql.org/docs/current/sql-copy.html> and of PostgreSQL's
//! `copyfromparse.c` are followed byte for byte where they decide where a row or a
//! key begins and ends; everything else is left to the server that gets the row.
//!
//! How a session divides COPY FROM STDIN:
//! 1. [`CopyOptions::parse`] on the statement, which goes to every shard unaltered.
//! 2. [`Splitter::feed`] with each CopyData, [`Splitter::finish`] at CopyDone.
//! 3. [`Piece::Header`] goes to *every* shard on which COPY was started, before its
//!    rows, and [`Piece::Trailer`] to every one at the end: a header line is read
//!    and checked by each server as the one PostgreSQL would, and line ends are
//!    detected from the same bytes. [`Piece::Row`] goes to the owner of its key.
//!    If the shards would fill a column that the client leaves out with different
//!    times, [`Filler`] adds it to each row.
//! 4. [`LineMap`] turns the line numbers of a shard's error into the client's.

mod options;

mod format;

mod splitter;

mod line;

mod fields;

mod filler;

mod binary;

mod line_map;

mod out;

mod rows;

mod values;

mod error;

pub use error::CopyError;
pub use filler::Filler;
pub use format::{Columns, CopyFormat, CsvFormat, Header, TextFormat};
pub use line_map::LineMap;
pub use options::{CopyOptions, OptionError};
pub use out::CopyOut;
pub use rows::CopyRows;
pub use splitter::{HeaderPiece, KeyColumn, Piece, Row, RowKey, Rules, Splitter};
pub use values::{Value, Values};
