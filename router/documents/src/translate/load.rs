//! COPY FROM STDIN: the client's rows as documents, in batches.
//!
//! What a row is, [`mothership_copy`] says; what its fields mean is said here, with PostgreSQL's errors and the line that
//! they are about. Nothing is stored here: whoever feeds it takes the batches that are full, and stores them.

use std::collections::VecDeque;
use std::sync::Arc;

use bson::{Bson, RawDocumentBuf};
use mothership_shardmap::{Encoding, TextContext, TimeZone};

use super::super::value::{self, Forms};
use super::super::{Collection, Column, Fault};
use super::assigned::{self, Assigned};
use super::constant::Bound;
use mothership_copy::{
    CopyError, CopyFormat, CopyOptions, Header, HeaderPiece, Piece, Row, Rules, Splitter, Value,
    Values,
};

/// As PostgreSQL does (`CopyMultiInsertInfoIsFull` of its `copyfrom.c`), so that of several errors it is the same that
/// comes first.
const BATCH_ROWS: usize = 1_000;
const BATCH_BYTES: usize = 65_535;
/// A document has 16 MiB at most, and escapes make four bytes of one.
const MAX_ROW: usize = 64 << 20;
/// What `limit_printout_length` of PostgreSQL's `copyfromparse.c` shows of a line.
const SHOWN: usize = 100;
/// Of PostgreSQL 15. Where later ones read a stream otherwise, it is refused.
const VERSION: u16 = 15;

/// A COPY into a table of documents.
#[derive(Debug)]
pub struct Load {
    collection: Arc<Collection>,
    /// The columns of a row, in its order.
    columns: Vec<usize>,
    options: CopyOptions,
    values: Values,
}

/// Why there is no such COPY, or why a row is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// What it is.
    pub fault: Box<Fault>,
    /// Where it was found.
    pub context: Option<String>,
}

/// Rows that are stored together.
#[derive(Debug, Default)]
pub struct Batch {
    /// In their order.
    pub documents: Vec<RawDocumentBuf>,
    /// The lines that they come from.
    pub lines: Vec<u64>,
    bytes: usize,
}

/// One run of a COPY.
#[derive(Debug)]
pub struct Loading<'l> {
    splitter: Splitter,
    rows: Rows<'l>,
}

#[derive(Debug)]
struct Rows<'l> {
    load: &'l Load,
    forms: &'l Forms,
    now_ms: i64,
    batch: Batch,
    full: VecDeque<Batch>,
    wrong: Option<Misfit>,
}

impl Load {
    /// Into these columns of a table, or into all.
    ///
    /// # Errors
    /// A column is not there, or options are not known for documents.
    pub fn new(
        collection: &Arc<Collection>,
        columns: Option<&[String]>,
        options: CopyOptions,
    ) -> Result<Load, Fault> {
        let all = || (0..collection.columns.len()).collect();
        let columns = columns.map_or_else(|| Ok(all()), |names| named(collection, names))?;
        let names: Vec<&str> = columns
            .iter()
            .map(|at| &*collection.columns[*at].name)
            .collect();
        if let CopyFormat::Csv(csv) = &options.format {
            for forced in [&csv.force_null, &csv.force_not_null] {
                if let mothership_copy::Columns::Named(forced) = forced {
                    for name in forced {
                        check_forced(collection, &names, name)?;
                    }
                }
            }
        }
        let has_default = options
            .format
            .text()
            .is_some_and(|text| text.default.is_some());
        let utf8 = |name: &String| Encoding::from_settings(name, "UTF8") == Encoding::Utf8;
        let unknown = [
            ("WHERE", options.has_condition),
            ("FREEZE", options.freeze),
            ("ON_ERROR", options.ignore_errors),
            ("DEFAULT", has_default),
            (
                "ENCODING",
                options.encoding.as_ref().is_some_and(|name| !utf8(name)),
            ),
        ];
        if let Some((name, _)) = unknown.iter().find(|(_, is_there)| *is_there) {
            let message = format!("COPY into documents does not know {name}");
            return Err(Fault::new("0A000", message));
        }
        Ok(Load {
            values: Values::new(&options.format, &names),
            collection: Arc::clone(collection),
            columns,
            options,
        })
    }

    /// The collection's name in MongoDB.
    pub fn collection(&self) -> &str {
        &self.collection.collection
    }

    /// How many columns a row has.
    pub fn columns(&self) -> usize {
        self.columns.len()
    }

    /// Whether values are in their binary form.
    pub fn is_binary(&self) -> bool {
        self.options.format == CopyFormat::Binary
    }

    /// What errors say of a line, of which no more is known.
    pub fn line(&self, line: u64) -> String {
        format!("COPY {}, line {line}", self.collection.table)
    }

    /// Begins to read. `now_ms` is the time of the transaction, in milliseconds since 1970.
    ///
    /// # Errors
    /// Markers for NULL cannot be told from values.
    pub fn begin<'l>(&'l self, forms: &'l Forms, now_ms: i64) -> Result<Loading<'l>, Fault> {
        let rules = Rules {
            columns: self.columns.len(),
            key: Vec::new(),
            context: TextContext {
                time_zone: TimeZone::Other,
                encoding: Encoding::Utf8,
            },
            major_version: VERSION,
            row_limit: MAX_ROW,
        };
        let splitter = Splitter::new(&self.options, rules)
            .map_err(|error| Fault::new("0A000", error.to_string()))?;
        Ok(Loading {
            splitter,
            rows: Rows {
                load: self,
                forms,
                now_ms,
                batch: Batch::default(),
                full: VecDeque::new(),
                wrong: None,
            },
        })
    }
}

fn named(collection: &Collection, names: &[String]) -> Result<Vec<usize>, Fault> {
    let mut columns = Vec::new();
    for name in names {
        let at = collection
            .column(name)
            .ok_or_else(|| no_column(collection, name))?;
        if columns.contains(&at) {
            let message = format!("column \"{name}\" specified more than once");
            return Err(Fault::new("42701", message));
        }
        columns.push(at);
    }
    Ok(columns)
}

fn no_column(collection: &Collection, name: &str) -> Fault {
    let table = &collection.table;
    Fault::new(
        "42703",
        format!("column \"{name}\" of relation \"{table}\" does not exist"),
    )
}

/// A column of FORCE_NULL or FORCE_NOT_NULL has to be copied.
fn check_forced(collection: &Collection, copied: &[&str], name: &[u8]) -> Result<(), Fault> {
    let name = String::from_utf8_lossy(name);
    if copied.contains(&&*name) {
        return Ok(());
    }
    collection
        .column(&name)
        .ok_or_else(|| no_column(collection, &name))?;
    Err(Fault::new(
        "42P10",
        format!("FORCE_NULL column \"{name}\" not referenced by COPY"),
    ))
}

impl Loading<'_> {
    /// Takes bytes of the client's. After an error it takes no more.
    pub fn feed(&mut self, bytes: &[u8]) {
        let Loading { splitter, rows } = self;
        if rows.wrong.is_some() {
            return;
        }
        let fed = splitter.feed(bytes, |piece| rows.take(&piece));
        self.check(fed);
        let is_csv = matches!(self.rows.load.options.format, CopyFormat::Csv(_));
        if is_csv && self.splitter.is_over() {
            let message = "a line \"\\.\" of CSV is the end of the rows or a row, which depends on the version of PostgreSQL";
            self.rows.is_wrong(Misfit {
                fault: Box::new(Fault::new("0A000", message)),
                context: Some(self.rows.load.line(self.splitter.line() + 1)),
            });
        }
    }

    /// There are no more.
    pub fn finish(&mut self) {
        let Loading { splitter, rows } = self;
        if rows.wrong.is_none() {
            let fed = splitter.finish(|piece| rows.take(&piece));
            self.check(fed);
        }
    }

    fn check(&mut self, fed: Result<(), CopyError>) {
        if let Err(error) = fed {
            // PostgreSQL has no line of what comes before the first row.
            let is_header = matches!(
                error,
                CopyError::Signature | CopyError::BinaryHeader { .. } | CopyError::CriticalFlags
            );
            let context = self.rows.load.line(self.splitter.line() + 1);
            self.rows.is_wrong(Misfit {
                fault: Box::new(fault_of(error)),
                context: (!is_header).then_some(context),
            });
        }
    }

    /// The line that PostgreSQL would name now.
    pub fn line(&self) -> u64 {
        self.splitter.line()
    }

    /// The next batch that is full.
    pub fn full(&mut self) -> Option<Batch> {
        self.rows.full.pop_front()
    }

    /// What is wrong with the rows behind the full batches.
    ///
    /// # Errors
    /// The first thing that is.
    pub fn checked(&mut self) -> Result<(), Misfit> {
        match self.rows.wrong.take() {
            None => Ok(()),
            Some(misfit) => Err(misfit),
        }
    }

    /// The last batch, which is not full.
    pub fn rest(&mut self) -> Batch {
        std::mem::take(&mut self.rows.batch)
    }
}

impl Rows<'_> {
    fn is_wrong(&mut self, misfit: Misfit) {
        self.wrong.get_or_insert(misfit);
    }

    fn take(&mut self, piece: &Piece<'_>) {
        if self.wrong.is_some() {
            return;
        }
        let taken = match piece {
            Piece::Header(header) => self.load.header(header),
            Piece::Row(row) => self.row(row),
            Piece::Trailer(_) => Ok(()),
        };
        if let Err(misfit) = taken {
            self.is_wrong(misfit);
        }
    }

    fn row(&mut self, row: &Row<'_>) -> Result<(), Misfit> {
        let document = self.load.document(row, self.forms, self.now_ms)?;
        self.batch.documents.push(document);
        self.batch.lines.push(row.line);
        self.batch.bytes += row.content.len();
        if self.batch.documents.len() >= BATCH_ROWS || self.batch.bytes >= BATCH_BYTES {
            self.full.push_back(std::mem::take(&mut self.batch));
        }
        Ok(())
    }
}

impl Load {
    fn document(
        &self,
        row: &Row<'_>,
        forms: &Forms,
        now_ms: i64,
    ) -> Result<RawDocumentBuf, Misfit> {
        let of_line = |fault: Fault| self.misfit(fault, row.line, row.content);
        if !self.is_binary() {
            let text = value::utf8(row.content);
            text.map_err(|fault| Misfit {
                fault: Box::new(fault),
                context: Some(self.line(row.line)),
            })?;
        }
        let behind = row.bytes.get(row.content.len()..).unwrap_or_default();
        if !self.is_binary() && behind.starts_with(b"\\.") {
            let message = "end-of-copy marker is not alone on its line";
            return Err(of_line(Fault::new("22P04", message)));
        }
        let fields = self.values.read(row.content, row.special);
        let fields = fields.map_err(|error| of_line(fault_of(error)))?;
        if fields.len() > self.columns.len() {
            let message = "extra data after last expected column";
            return Err(of_line(Fault::new("22P04", message)));
        }
        let mut given: Vec<Option<Option<Bson>>> = vec![None; self.collection.columns.len()];
        for (at, position) in self.columns.iter().enumerate() {
            let column = &self.collection.columns[*position];
            let Some(field) = fields.get(at) else {
                let message = format!("missing data for column \"{}\"", column.name);
                return Err(of_line(Fault::new("22P04", message)));
            };
            let value = self.value(column, field, forms);
            given[*position] = Some(value.map_err(|fault| Misfit {
                fault: Box::new(fault),
                context: Some(self.of_field(row.line, column, field)),
            })?);
        }
        let bound = Bound {
            given: &[],
            forms,
            now_ms,
        };
        let document = assigned::document(&self.collection, forms, |at, column| {
            match given[at].take() {
                Some(value) => Ok(value),
                None => Assigned::Default.value(column, &bound),
            }
        });
        document.map_err(of_line)
    }

    fn value(&self, column: &Column, field: &Value, forms: &Forms) -> Result<Option<Bson>, Fault> {
        let bytes = match field {
            Value::Null => return Ok(None),
            Value::Default => return Err(Fault::new("0A000", "COPY with DEFAULT is not known")),
            Value::Bytes(bytes) => bytes,
        };
        let value = match self.is_binary() {
            true => value::from_binary(&column.kind, bytes)?,
            false => value::from_text(&column.kind, value::utf8(bytes)?, forms)?,
        };
        assigned::stored(&column.kind, value, forms).map(Some)
    }

    /// HEADER MATCH; see `NextCopyFromRawFields` of PostgreSQL's `copyfromparse.c`.
    fn header(&self, header: &HeaderPiece<'_>) -> Result<(), Misfit> {
        let text = self.options.format.text();
        let Some(text) = text.filter(|text| text.header == Header::Match) else {
            return Ok(());
        };
        let wrong = |message: String| {
            let fault = Fault::new("22P04", message);
            Err(self.misfit(fault, header.height.into(), header.content))
        };
        // Whether a name stands for NULL is not for FORCE_NULL to say.
        let fields = Values::new(&self.options.format, &[]);
        let fields = match fields.read(header.content, header.special) {
            Ok(fields) => fields,
            Err(error) => return Err(self.misfit(fault_of(error), 1, header.content)),
        };
        let (found, expected) = (fields.len(), self.columns.len());
        if found != expected {
            return wrong(format!(
                "wrong number of fields in header line: got {found}, expected {expected}"
            ));
        }
        for (at, (field, column)) in fields.iter().zip(&self.columns).enumerate() {
            let name = &self.collection.columns[*column].name;
            let got = match field {
                Value::Bytes(bytes) if bytes == name.as_bytes() => continue,
                Value::Bytes(bytes) => format!("\"{}\"", String::from_utf8_lossy(bytes)),
                Value::Null | Value::Default => {
                    format!("null value (\"{}\")", String::from_utf8_lossy(&text.null))
                }
            };
            return wrong(format!(
                "column name mismatch in header line field {}: got {got}, expected \"{name}\"",
                at + 1
            ));
        }
        Ok(())
    }

    /// See `CopyFromErrorCallback` of PostgreSQL's `copyfrom.c`.
    fn misfit(&self, fault: Fault, line: u64, content: &[u8]) -> Misfit {
        let context = match self.is_binary() {
            true => self.line(line),
            false => format!("{}: \"{}\"", self.line(line), shown(content)),
        };
        Misfit {
            fault: Box::new(fault),
            context: Some(context),
        }
    }

    fn of_field(&self, line: u64, column: &Column, field: &Value) -> String {
        let place = format!("{}, column {}", self.line(line), column.name);
        match field {
            _ if self.is_binary() => place,
            Value::Bytes(bytes) => format!("{place}: \"{}\"", shown(bytes)),
            Value::Null | Value::Default => format!("{place}: null input"),
        }
    }
}

fn fault_of(error: CopyError) -> Fault {
    Fault::new(error.code(), error.to_string())
}

/// No more of a line than PostgreSQL shows.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if text.len() <= SHOWN {
        return text.into_owned();
    }
    let ends = (0..=SHOWN).rev().find(|end| text.is_char_boundary(*end));
    format!("{}...", &text[..ends.unwrap_or(0)])
}
