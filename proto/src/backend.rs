//! Messages that a server sends: written for clients, read where the router must
//! know what they say.
//!
//! Rows are never decoded here; [`row_values`] walks them for the merges that
//! must look inside.

use crate::frame::{put, put_str, take, take_i16, take_i32, take_str};
use crate::frontend::Malformed;

/// Message types of the backend, as the manual names them.
pub mod tag {
    #![allow(missing_docs)]
    pub const AUTHENTICATION: u8 = b'R';
    pub const BACKEND_KEY: u8 = b'K';
    pub const BIND_COMPLETE: u8 = b'2';
    pub const CLOSE_COMPLETE: u8 = b'3';
    pub const COMMAND_COMPLETE: u8 = b'C';
    pub const COPY_BOTH: u8 = b'W';
    pub const COPY_DATA: u8 = b'd';
    pub const COPY_DONE: u8 = b'c';
    pub const COPY_IN: u8 = b'G';
    pub const COPY_OUT: u8 = b'H';
    pub const DATA_ROW: u8 = b'D';
    pub const EMPTY_QUERY: u8 = b'I';
    pub const ERROR: u8 = b'E';
    pub const FUNCTION_RESULT: u8 = b'V';
    pub const NEGOTIATE_VERSION: u8 = b'v';
    pub const NO_DATA: u8 = b'n';
    pub const NOTICE: u8 = b'N';
    pub const NOTIFICATION: u8 = b'A';
    pub const PARAMETER_DESCRIPTION: u8 = b't';
    pub const PARAMETER_STATUS: u8 = b'S';
    pub const PARSE_COMPLETE: u8 = b'1';
    pub const PORTAL_SUSPENDED: u8 = b's';
    pub const READY: u8 = b'Z';
    pub const ROW_DESCRIPTION: u8 = b'T';
}

/// The transaction status that ReadyForQuery carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxStatus {
    /// Not in a transaction block.
    Idle,
    /// In a transaction block.
    Open,
    /// In a failed transaction block.
    Failed,
}

impl TxStatus {
    /// The byte on the wire.
    pub fn byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::Open => b'T',
            Self::Failed => b'E',
        }
    }

    /// Reads the body of ReadyForQuery.
    pub fn read(body: &[u8]) -> Result<Self, Malformed> {
        match body {
            b"I" => Ok(Self::Idle),
            b"T" => Ok(Self::Open),
            b"E" => Ok(Self::Failed),
            _ => Err(Malformed),
        }
    }
}

/// `ParseComplete`, whole.
pub const PARSE_COMPLETE: &[u8] = &[tag::PARSE_COMPLETE, 0, 0, 0, 4];
/// `BindComplete`, whole.
pub const BIND_COMPLETE: &[u8] = &[tag::BIND_COMPLETE, 0, 0, 0, 4];
/// `CloseComplete`, whole.
pub const CLOSE_COMPLETE: &[u8] = &[tag::CLOSE_COMPLETE, 0, 0, 0, 4];
/// `NoData`, whole.
pub const NO_DATA: &[u8] = &[tag::NO_DATA, 0, 0, 0, 4];
/// `EmptyQueryResponse`, whole.
pub const EMPTY_QUERY: &[u8] = &[tag::EMPTY_QUERY, 0, 0, 0, 4];
/// `PortalSuspended`, whole.
pub const PORTAL_SUSPENDED: &[u8] = &[tag::PORTAL_SUSPENDED, 0, 0, 0, 4];
/// `ParameterDescription` of a statement without parameters, whole.
pub const NO_PARAMETERS: &[u8] = &[tag::PARAMETER_DESCRIPTION, 0, 0, 0, 6, 0, 0];

/// Writes `ReadyForQuery`.
pub fn put_ready(out: &mut Vec<u8>, status: TxStatus) {
    out.extend_from_slice(&[tag::READY, 0, 0, 0, 5, status.byte()]);
}

/// Writes `CommandComplete`.
pub fn put_complete(out: &mut Vec<u8>, command: &[u8]) {
    put(out, tag::COMMAND_COMPLETE, |body| put_str(body, command));
}

/// Writes `ParameterStatus`.
pub fn put_parameter(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    put(out, tag::PARAMETER_STATUS, |body| {
        put_str(body, name);
        put_str(body, value);
    });
}

/// Reads `ParameterStatus`: name and value.
pub fn parameter(mut body: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let name = take_str(&mut body).ok_or(Malformed)?;
    let value = take_str(&mut body).ok_or(Malformed)?;
    Ok((name, value))
}

/// Reads `CommandComplete`: the tag without its terminator.
pub fn command(body: &[u8]) -> Result<&[u8], Malformed> {
    body.strip_suffix(b"\0").ok_or(Malformed)
}

/// The row count at the end of a command tag, as in `INSERT 0 5`.
pub fn affected(command: &[u8]) -> Option<u64> {
    let digits = command.rsplit(|&b| b == b' ').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// CopyInResponse for rows of text or CSV with so many columns.
pub fn put_copy_in_text(out: &mut Vec<u8>, columns: usize) {
    super::frame::put(out, tag::COPY_IN, |body| {
        body.push(0);
        let count = u16::try_from(columns).unwrap_or(u16::MAX);
        body.extend_from_slice(&count.to_be_bytes());
        body.resize(body.len() + 2 * usize::from(count), 0);
    });
}

/// One column of a `RowDescription`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The name.
    pub name: Vec<u8>,
    /// OID of the table the column comes from, or zero.
    pub table: u32,
    /// Attribute number in that table, or zero.
    pub attribute: i16,
    /// OID of the type.
    pub type_oid: u32,
    /// Size of the type, negative for variable width.
    pub type_size: i16,
    /// Type modifier, -1 for none.
    pub modifier: i32,
    /// Format code: 0 text, 1 binary.
    pub format: i16,
}

impl Column {
    /// A text column that belongs to no table.
    pub fn text(name: &str) -> Self {
        Self::of(name, 25, -1)
    }

    /// A column of a type that belongs to no table, in text format.
    pub fn of(name: &str, type_oid: u32, type_size: i16) -> Self {
        Self {
            name: name.as_bytes().to_vec(),
            table: 0,
            attribute: 0,
            type_oid,
            type_size,
            modifier: -1,
            format: 0,
        }
    }
}

/// Reads `RowDescription`.
pub fn columns(mut body: &[u8]) -> Result<Vec<Column>, Malformed> {
    let count = take_i16(&mut body).ok_or(Malformed)? as u16;
    // Grown as columns arrive: the count alone allocates nothing.
    let mut columns = Vec::new();
    for _ in 0..count {
        columns.push(column(&mut body).ok_or(Malformed)?);
    }
    if body.is_empty() {
        Ok(columns)
    } else {
        Err(Malformed)
    }
}

fn column(body: &mut &[u8]) -> Option<Column> {
    Some(Column {
        name: take_str(body)?.to_vec(),
        table: take_i32(body)? as u32,
        attribute: take_i16(body)?,
        type_oid: take_i32(body)? as u32,
        type_size: take_i16(body)?,
        modifier: take_i32(body)?,
        format: take_i16(body)?,
    })
}

/// Writes `RowDescription`.
pub fn put_columns(out: &mut Vec<u8>, columns: &[Column]) {
    put(out, tag::ROW_DESCRIPTION, |body| {
        body.extend_from_slice(&(columns.len() as u16).to_be_bytes());
        for c in columns {
            put_str(body, &c.name);
            body.extend_from_slice(&c.table.to_be_bytes());
            body.extend_from_slice(&c.attribute.to_be_bytes());
            body.extend_from_slice(&c.type_oid.to_be_bytes());
            body.extend_from_slice(&c.type_size.to_be_bytes());
            body.extend_from_slice(&c.modifier.to_be_bytes());
            body.extend_from_slice(&c.format.to_be_bytes());
        }
    });
}

/// Walks the values of a `DataRow`; `None` is NULL.
pub fn row_values(mut body: &[u8]) -> Result<Vec<Option<&[u8]>>, Malformed> {
    let count = take_i16(&mut body).ok_or(Malformed)? as u16;
    let mut values = Vec::new();
    for _ in 0..count {
        let value = match take_i32(&mut body).ok_or(Malformed)? {
            -1 => None,
            n => {
                let n = usize::try_from(n).map_err(|_| Malformed)?;
                Some(take(&mut body, n).ok_or(Malformed)?)
            }
        };
        values.push(value);
    }
    if body.is_empty() {
        Ok(values)
    } else {
        Err(Malformed)
    }
}

/// Writes `DataRow`.
pub fn put_row<'a>(out: &mut Vec<u8>, values: impl ExactSizeIterator<Item = Option<&'a [u8]>>) {
    put(out, tag::DATA_ROW, |body| {
        body.extend_from_slice(&(values.len() as u16).to_be_bytes());
        for value in values {
            match value {
                None => body.extend_from_slice(&(-1i32).to_be_bytes()),
                Some(bytes) => {
                    body.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
                    body.extend_from_slice(bytes);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn columns_and_rows_survive_the_way_out_and_in() {
        let columns_out = [Column::text("name"), Column::of("id", 23, 4)];
        let mut bytes = Vec::new();
        put_columns(&mut bytes, &columns_out);
        assert_eq!(columns(&bytes[5..]).unwrap(), columns_out);

        let values = [Some(&b"x"[..]), None, Some(b"")];
        let mut bytes = Vec::new();
        put_row(&mut bytes, values.into_iter());
        assert_eq!(row_values(&bytes[5..]).unwrap(), values);
    }

    #[test]
    fn the_count_of_a_command_is_its_last_word() {
        assert_eq!(affected(b"INSERT 0 5"), Some(5));
        assert_eq!(affected(b"UPDATE 12"), Some(12));
        assert_eq!(affected(b"BEGIN"), None);
    }

    proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (columns(&body), row_values(&body).is_ok(), parameter(&body).is_ok(), TxStatus::read(&body));
        }
    }
}
