//! Rows of a query in the form of COPY TO, as PostgreSQL writes them (`CopyAttributeOutText` and `CopyAttributeOutCSV` in
//! `copyto.c`).

use super::binary::{SIGNATURE, TRAILER};
use super::format::{CopyFormat, CsvFormat, Header, TextFormat};

/// Writes rows.
#[derive(Debug)]
pub struct CopyRows<'f> {
    format: &'f CopyFormat,
}

impl<'f> CopyRows<'f> {
    /// In this form.
    pub fn new(format: &'f CopyFormat) -> Self {
        CopyRows { format }
    }

    /// The format code that the values must have.
    pub fn code(&self) -> i16 {
        i16::from(matches!(self.format, CopyFormat::Binary))
    }

    /// What comes before the rows, if anything does.
    pub fn head(&self, names: &[&[u8]]) -> Option<Vec<u8>> {
        match self.format {
            CopyFormat::Binary => Some([SIGNATURE.as_slice(), &[0; 8]].concat()),
            CopyFormat::Text(text) | CopyFormat::Csv(CsvFormat { text, .. }) => {
                let values = names.iter().map(|name| Some(*name));
                (text.header != Header::No).then(|| self.row(&values.collect::<Vec<_>>()))
            }
        }
    }

    /// What comes behind them.
    pub fn tail(&self) -> Option<Vec<u8>> {
        matches!(self.format, CopyFormat::Binary).then(|| TRAILER.to_vec())
    }

    /// One row, with the end of its line.
    pub fn row(&self, values: &[Option<&[u8]>]) -> Vec<u8> {
        let mut out = Vec::new();
        match self.format {
            CopyFormat::Binary => {
                out.extend_from_slice(&(values.len() as u16).to_be_bytes());
                for value in values {
                    match value {
                        None => out.extend_from_slice(&(-1i32).to_be_bytes()),
                        Some(bytes) => {
                            out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                            out.extend_from_slice(bytes);
                        }
                    }
                }
                return out;
            }
            CopyFormat::Text(format) => join(&mut out, format, values, |out, value| {
                put_text(out, format.delimiter, value);
            }),
            CopyFormat::Csv(format) => join(&mut out, &format.text, values, |out, value| {
                put_csv(out, format, value, values.len() == 1);
            }),
        }
        out.push(b'\n');
        out
    }
}

fn join(
    out: &mut Vec<u8>,
    format: &TextFormat,
    values: &[Option<&[u8]>],
    mut put: impl FnMut(&mut Vec<u8>, &[u8]),
) {
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            out.push(format.delimiter);
        }
        match value {
            None => out.extend_from_slice(&format.null),
            Some(value) => put(out, value),
        }
    }
}

fn put_text(out: &mut Vec<u8>, delimiter: u8, value: &[u8]) {
    for &byte in value {
        let letter = match byte {
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x0b => b'v',
            b'\\' => b'\\',
            byte if byte == delimiter => byte,
            byte => {
                out.push(byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', letter]);
    }
}

fn put_csv(out: &mut Vec<u8>, format: &CsvFormat, value: &[u8], alone: bool) {
    let special = |byte: &u8| {
        *byte == format.text.delimiter || *byte == format.quote || matches!(byte, b'\n' | b'\r')
    };
    let quoted =
        value == format.text.null || (alone && value == b"\\.") || value.iter().any(special);
    if !quoted {
        out.extend_from_slice(value);
        return;
    }
    out.push(format.quote);
    for &byte in value {
        if byte == format.quote || byte == format.escape {
            out.push(format.escape);
        }
        out.push(byte);
    }
    out.push(format.quote);
}
