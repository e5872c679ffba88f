//! COPY of a query whose rows are gathered: they come as rows, and the client gets them as COPY.

use crate::copy::{CopyFormat, CopyOptions, CopyRows};
use crate::sql::effect::{CopySource, Statement, analyse};
use mothership_pool::wire::Wire;
use mothership_proto::backend::{self, Column, tag};
use mothership_proto::frame::{self, Frame};
use mothership_proto::report::{Report, sqlstate};

/// A COPY of a query.
pub(super) struct Copied<'s> {
    /// The query.
    pub query: &'s [u8],
    pub format: CopyFormat,
}

/// How the residue's rows reach the client.
#[derive(Clone, Copy)]
pub(super) enum Shown<'f> {
    Rows,
    Copied(&'f CopyFormat),
}

/// The COPY of a query that a text is, if it is one.
///
/// # Errors
/// For options that are not written here.
pub(super) fn copied(sql: &[u8], strings: bool) -> Result<Option<Copied<'_>>, Report> {
    if !sql
        .windows(4)
        .any(|word| word.eq_ignore_ascii_case(b"copy"))
    {
        return Ok(None);
    }
    let Statement::Copy {
        source: CopySource::Query(span),
        ..
    } = analyse(sql, strings).statement
    else {
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
    Ok(Some(Copied {
        query: span.of(sql),
        format: options.format,
    }))
}

impl Shown<'_> {
    /// The format of the values.
    pub(super) fn code(self) -> i16 {
        match self {
            Shown::Rows => 0,
            Shown::Copied(format) => CopyRows::new(format).code(),
        }
    }

    /// Before the rows.
    pub(super) fn begin(self, client: &mut Wire, columns: &[Column]) {
        match self {
            Shown::Rows => client.with_output(|out| backend::put_columns(out, columns)),
            Shown::Copied(format) => {
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
                put(client, rows.head(&names));
            }
        }
    }

    /// One row.
    pub(super) fn row(self, client: &mut Wire, frame: Frame<'_>) {
        match self {
            Shown::Rows => client.send(frame.bytes),
            Shown::Copied(format) => {
                let values = backend::row_values(frame.body()).unwrap_or_default();
                put(client, Some(CopyRows::new(format).row(&values)));
            }
        }
    }

    /// Behind the rows; the command as the client sees it.
    pub(super) fn end(self, client: &mut Wire, command: &[u8]) -> Vec<u8> {
        match self {
            Shown::Rows => command.to_vec(),
            Shown::Copied(format) => {
                put(client, CopyRows::new(format).tail());
                client.with_output(|out| frame::put(out, tag::COPY_DONE, |_| {}));
                let count = command.strip_prefix(b"SELECT").unwrap_or_default();
                [b"COPY", count].concat()
            }
        }
    }
}

fn put(client: &mut Wire, data: Option<Vec<u8>>) {
    if let Some(data) = data {
        client.with_output(|out| frame::put(out, tag::COPY_DATA, |b| b.extend_from_slice(&data)));
    }
}
