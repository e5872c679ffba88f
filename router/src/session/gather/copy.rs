//! COPY of a query whose rows are gathered: they come as rows, and the client gets them as COPY.

use crate::session::dispatch;
use mothership_copy::{CopyFormat, CopyOptions, CopyRows};
use mothership_plan::rows_of;
use mothership_pool::wire::Wire;
use mothership_proto::backend::{self, Column, tag};
use mothership_proto::frame::{self, Frame};
use mothership_proto::report::{Report, sqlstate};
use mothership_sql::effect::{Statement, analyse};

/// A COPY of a query.
pub(super) struct Copied {
    /// Its query, in its place.
    pub query: String,
    pub format: CopyFormat,
}

/// How the residue's rows reach the client: as they are, or in the form of COPY.
#[derive(Default)]
pub(super) struct Shown<'f> {
    format: Option<&'f CopyFormat>,
    /// What goes with the next piece of data, as PostgreSQL sends it.
    pending: Vec<u8>,
}

/// The COPY of a query that a text is, if it is one.
///
/// # Errors
/// For options that are not written here.
pub(super) fn copied(sql: &[u8], strings: bool) -> Result<Option<Copied>, Report> {
    if !sql
        .windows(4)
        .any(|word| word.eq_ignore_ascii_case(b"copy"))
    {
        return Ok(None);
    }
    let Statement::Copy { source, .. } = analyse(sql, strings).statement else {
        return Ok(None);
    };
    let refused = |what: String| {
        Report::error(sqlstate::FEATURE_NOT_SUPPORTED, what)
            .hint("Leave the option out, or copy from one shard.")
    };
    let options = CopyOptions::parse(sql, strings).map_err(|error| refused(error.to_string()))?;
    let forces = sql.to_ascii_lowercase();
    let forces = |word: &[u8]| forces.windows(word.len()).any(|found| found == word);
    if options.encoding.is_some() || (forces(b"force") && forces(b"quote")) {
        let what = "ENCODING and FORCE_QUOTE of COPY cannot be kept over several shards";
        return Err(refused(what.to_owned()));
    }
    let query = rows_of(&String::from_utf8_lossy(sql), &source);
    Ok(Some(Copied {
        query: query.map_err(|refusal| dispatch::refused(&refusal))?,
        format: options.format,
    }))
}

impl<'f> Shown<'f> {
    /// As COPY.
    pub(super) fn copied(format: &'f CopyFormat) -> Self {
        Shown {
            format: Some(format),
            pending: Vec::new(),
        }
    }

    /// The format of the values.
    pub(super) fn code(&self) -> i16 {
        self.format.map_or(0, |format| CopyRows::new(format).code())
    }

    /// Before the rows.
    pub(super) fn begin(&mut self, client: &mut Wire, columns: &[Column]) {
        let Some(format) = self.format else {
            return client.with_output(|out| backend::put_columns(out, columns));
        };
        let rows = CopyRows::new(format);
        client.with_output(|out| {
            frame::put(out, tag::COPY_OUT, |body| {
                body.push(rows.code() as u8);
                body.extend_from_slice(&(columns.len() as u16).to_be_bytes());
                for _ in columns {
                    body.extend_from_slice(&rows.code().to_be_bytes());
                }
            });
        });
        let names: Vec<&[u8]> = columns.iter().map(|c| c.name.as_slice()).collect();
        match (rows.head(&names), rows.code()) {
            (Some(head), 1) => self.pending = head,
            (Some(head), _) => self.put(client, head),
            (None, _) => {}
        }
    }

    /// One row.
    pub(super) fn row(&mut self, client: &mut Wire, frame: Frame<'_>) {
        match self.format {
            None => client.send(frame.bytes),
            Some(format) => {
                let values = backend::row_values(frame.body()).unwrap_or_default();
                self.put(client, CopyRows::new(format).row(&values));
            }
        }
    }

    /// Behind the rows; the command as the client sees it.
    pub(super) fn end(&mut self, client: &mut Wire, command: &[u8]) -> Vec<u8> {
        let Some(format) = self.format else {
            return command.to_vec();
        };
        if let Some(tail) = CopyRows::new(format).tail() {
            self.put(client, tail);
        }
        client.with_output(|out| frame::put(out, tag::COPY_DONE, |_| {}));
        let count = command.strip_prefix(b"SELECT").unwrap_or_default();
        [b"COPY", count].concat()
    }

    fn put(&mut self, client: &mut Wire, data: Vec<u8>) {
        let pending = std::mem::take(&mut self.pending);
        client.with_output(|out| {
            frame::put(out, tag::COPY_DATA, |body| {
                body.extend_from_slice(&pending);
                body.extend_from_slice(&data);
            });
        });
    }
}
