//! Documents as rows of PostgreSQL's protocol.

use super::outcome::{Stop, wrong_value};
use mongodb::bson::{Bson, RawBsonRef, RawDocument};
use mothership_documents::field::Fields;
use mothership_documents::translate::{Output, Source};
use mothership_documents::value::{self, Forms};
use mothership_proto::backend::{self, Column, tag};
use mothership_proto::frame;
use std::sync::Arc;

/// What rows look like: their columns, and how each is written.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    outputs: Arc<[Output]>,
    /// The result formats of a Bind: without any, all columns are text; a single one holds for all columns.
    formats: Vec<i16>,
}

impl Shape {
    /// Rows of these columns in the formats of a Bind.
    pub fn new(outputs: Arc<[Output]>, formats: Vec<i16>) -> Shape {
        Shape { outputs, formats }
    }

    /// The same formats with other columns.
    pub fn with(&self, outputs: Arc<[Output]>) -> Shape {
        Shape {
            outputs,
            formats: self.formats.clone(),
        }
    }

    fn columns(&self) -> impl Iterator<Item = (&Output, i16)> {
        let format = |at: usize| match self.formats[..] {
            [] => 0,
            [one] => one,
            ref several => several.get(at).copied().unwrap_or(0),
        };
        let outputs = self.outputs.iter().enumerate();
        outputs.map(move |(at, output)| (output, format(at)))
    }

    /// RowDescription, or NoData without columns.
    pub fn describe(&self, out: &mut Vec<u8>) {
        if self.outputs.is_empty() {
            return out.extend_from_slice(backend::NO_DATA);
        }
        let columns: Vec<Column> = self.columns().map(column).collect();
        backend::put_columns(out, &columns);
    }

    /// One row. Nothing of it is left in `out` where it fails.
    pub fn put(
        &self,
        document: &RawDocument,
        forms: &Forms,
        out: &mut Vec<u8>,
    ) -> Result<(), Stop> {
        let begun = out.len();
        let fields = Fields::of(document);
        let mut failed = None;
        frame::put(out, tag::DATA_ROW, |out| {
            // There are no more columns than PostgreSQL allows.
            out.extend_from_slice(&(self.outputs.len() as u16).to_be_bytes());
            for (output, format) in self.columns() {
                if let Err(stop) = put_value(output, format, (document, &fields), forms, out) {
                    failed = Some(stop);
                    return;
                }
            }
        });
        match failed {
            None => Ok(()),
            Some(stop) => {
                out.truncate(begun);
                Err(stop)
            }
        }
    }
}

fn column((output, format): (&Output, i16)) -> Column {
    let kind = output.described();
    let mut column = Column::of(&output.name, kind.oid(), kind.size());
    column.modifier = kind.modifier();
    column.format = format;
    column
}

fn put_value(
    output: &Output,
    format: i16,
    (document, fields): (&RawDocument, &Fields<'_>),
    forms: &Forms,
    out: &mut Vec<u8>,
) -> Result<(), Stop> {
    let at = out.len();
    out.extend_from_slice(&(-1_i32).to_be_bytes());
    let (constant, rest);
    let found = match &output.source {
        Source::Path(path) => fields.find(path),
        Source::Rest(fields) => {
            let read = fields.read(document);
            rest = read.map_err(|fault| wrong_value(fault, &output.name, id(document)))?;
            Some(RawBsonRef::Document(&rest))
        }
        Source::Constant(value) => {
            constant = mongodb::bson::rawdoc! { "value": raw(value.clone()) };
            constant.get("value").ok().flatten()
        }
    };
    let Some(found) = found else {
        return Ok(());
    };
    let binary = format == 1 && !output.as_text;
    let done = match binary {
        true => value::put_binary(&output.kind, found, out),
        false => value::put_text(&output.kind, found, forms, out),
    };
    let is_value = done.map_err(|fault| wrong_value(fault, &output.name, id(document)))?;
    let length = match is_value {
        true => i32::try_from(out.len() - at - 4).unwrap_or(i32::MAX),
        false => -1,
    };
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn id(document: &RawDocument) -> Option<Bson> {
    let found = document.get("_id").ok()??;
    Bson::try_from(found).ok()
}

fn raw(value: Bson) -> mongodb::bson::RawBson {
    mongodb::bson::RawBson::try_from(value).unwrap_or(mongodb::bson::RawBson::Null)
}
