//! Messages that a client sends: read just as far as routing needs, and written
//! for the servers.
//!
//! Readers borrow from the frame and check every count against the bytes that are
//! there; anything that does not fit is [`Malformed`], which becomes PostgreSQL's
//! own 08P01. Nothing is decoded that the router does not decide by.

use crate::frame::{put, put_str, take, take_i16, take_i32, take_str};

/// Message types of the frontend, as the manual names them.
pub mod tag {
    #![allow(missing_docs)]
    pub const BIND: u8 = b'B';
    pub const CLOSE: u8 = b'C';
    pub const COPY_DATA: u8 = b'd';
    pub const COPY_DONE: u8 = b'c';
    pub const COPY_FAIL: u8 = b'f';
    pub const DESCRIBE: u8 = b'D';
    pub const EXECUTE: u8 = b'E';
    pub const FLUSH: u8 = b'H';
    pub const FUNCTION_CALL: u8 = b'F';
    pub const PARSE: u8 = b'P';
    pub const PASSWORD: u8 = b'p';
    pub const QUERY: u8 = b'Q';
    pub const SYNC: u8 = b'S';
    pub const TERMINATE: u8 = b'X';
}

/// A message whose body does not follow the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid message format")]
pub struct Malformed;

/// What Describe and Close name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A prepared statement.
    Statement,
    /// A portal.
    Portal,
}

/// `Query`: the text without its terminator.
pub fn query(body: &[u8]) -> Result<&[u8], Malformed> {
    only_str(body)
}

/// `Parse`.
#[derive(Clone, Copy, Debug)]
pub struct Parse<'a> {
    /// Name of the statement; empty for the unnamed one.
    pub name: &'a [u8],
    /// The text.
    pub sql: &'a [u8],
    /// Declared parameter types, four bytes each; zero leaves one to the server.
    pub types: &'a [u8],
}

impl<'a> Parse<'a> {
    /// Reads a body.
    pub fn read(mut body: &'a [u8]) -> Result<Self, Malformed> {
        let name = take_str(&mut body).ok_or(Malformed)?;
        let sql = take_str(&mut body).ok_or(Malformed)?;
        let count = take_i16(&mut body).ok_or(Malformed)? as u16 as usize;
        let types = take(&mut body, count * 4).ok_or(Malformed)?;
        end(body)?;
        Ok(Self { name, sql, types })
    }

    /// The declared types as OIDs.
    pub fn type_oids(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.types
            .chunks_exact(4)
            .map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// Writes the message.
    pub fn put(&self, out: &mut Vec<u8>) {
        put(out, tag::PARSE, |body| {
            put_str(body, self.name);
            put_str(body, self.sql);
            let count = (self.types.len() / 4) as u16;
            body.extend_from_slice(&count.to_be_bytes());
            body.extend_from_slice(self.types);
        });
    }
}

/// `Bind`, kept as spans of the body.
#[derive(Clone, Copy, Debug)]
pub struct Bind<'a> {
    /// Name of the portal; empty for the unnamed one.
    pub portal: &'a [u8],
    /// Name of the statement; empty for the unnamed one.
    pub statement: &'a [u8],
    /// Everything after the two names, as sent.
    pub rest: &'a [u8],
    formats: &'a [u8],
    values: &'a [u8],
    count: usize,
    result_formats: &'a [u8],
}

impl<'a> Bind<'a> {
    /// Reads a body. Every value's length is checked.
    pub fn read(mut body: &'a [u8]) -> Result<Self, Malformed> {
        let portal = take_str(&mut body).ok_or(Malformed)?;
        let statement = take_str(&mut body).ok_or(Malformed)?;
        let rest = body;
        let format_count = take_i16(&mut body).ok_or(Malformed)? as u16 as usize;
        let formats = take(&mut body, format_count * 2).ok_or(Malformed)?;
        let count = take_i16(&mut body).ok_or(Malformed)? as u16 as usize;
        let values = body;
        for _ in 0..count {
            take_value(&mut body)?;
        }
        let values = &values[..values.len() - body.len()];
        let result_count = take_i16(&mut body).ok_or(Malformed)? as u16 as usize;
        let result_formats = take(&mut body, result_count * 2).ok_or(Malformed)?;
        end(body)?;
        Ok(Self {
            portal,
            statement,
            rest,
            formats,
            values,
            count,
            result_formats,
        })
    }

    /// Number of parameter values.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True without parameters.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Number of format codes for the values.
    pub fn format_count(&self) -> usize {
        self.formats.len() / 2
    }

    /// The values in order, each with its format code; `None` is NULL.
    pub fn values(&self) -> impl Iterator<Item = (i16, Option<&'a [u8]>)> + use<'a> {
        let formats = self.formats;
        let mut values = self.values;
        (0..self.count).map(move |i| {
            let value = take_value(&mut values).expect("checked by read");
            (format_at(formats, i), value)
        })
    }

    /// One value by its position from zero.
    pub fn value(&self, position: usize) -> Option<(i16, Option<&'a [u8]>)> {
        self.values().nth(position)
    }

    /// The format codes asked for the results: none means text for all, one means
    /// the same for all.
    pub fn result_formats(&self) -> impl Iterator<Item = i16> + use<'a> {
        self.result_formats
            .chunks_exact(2)
            .map(|b| i16::from_be_bytes([b[0], b[1]]))
    }

    /// The body with further values behind these, as texts.
    pub fn with_texts<'t>(&self, more: impl ExactSizeIterator<Item = &'t str>) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.rest.len() + 32 * more.len() + 64);
        put_str(&mut body, self.portal);
        put_str(&mut body, self.statement);
        let count = self.count + more.len();
        if self.formats.is_empty() {
            body.extend_from_slice(&[0, 0]);
        } else {
            // One format is for all, and must not be that of the texts.
            body.extend_from_slice(&(count as u16).to_be_bytes());
            for (format, _) in self.values() {
                body.extend_from_slice(&format.to_be_bytes());
            }
            body.resize(body.len() + 2 * more.len(), 0);
        }
        body.extend_from_slice(&(count as u16).to_be_bytes());
        body.extend_from_slice(self.values);
        for text in more {
            body.extend_from_slice(&(text.len() as u32).to_be_bytes());
            body.extend_from_slice(text.as_bytes());
        }
        let results = self.result_formats.len() / 2;
        body.extend_from_slice(&(results as u16).to_be_bytes());
        body.extend_from_slice(self.result_formats);
        body
    }

    /// Writes the message for a server, under that server's statement name.
    pub fn put_as(&self, out: &mut Vec<u8>, statement: &[u8]) {
        put(out, tag::BIND, |body| {
            put_str(body, self.portal);
            put_str(body, statement);
            body.extend_from_slice(self.rest);
        });
    }
}

/// The format code of value `i` by the rule of Bind: none is text, one is for all.
fn format_at(formats: &[u8], i: usize) -> i16 {
    let at = if formats.len() == 2 { 0 } else { i * 2 };
    match formats.get(at..at + 2) {
        Some(b) => i16::from_be_bytes([b[0], b[1]]),
        None => 0,
    }
}

fn take_value<'a>(body: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
    match take_i32(body).ok_or(Malformed)? {
        -1 => Ok(None),
        n => {
            let n = usize::try_from(n).map_err(|_| Malformed)?;
            Ok(Some(take(body, n).ok_or(Malformed)?))
        }
    }
}

/// `Describe` and `Close`: what is named, and the name.
pub fn target(mut body: &[u8]) -> Result<(Target, &[u8]), Malformed> {
    let target = match take(&mut body, 1).ok_or(Malformed)? {
        b"S" => Target::Statement,
        b"P" => Target::Portal,
        _ => return Err(Malformed),
    };
    Ok((target, only_str(body)?))
}

/// `Execute`: the portal's name and the row limit, zero for none.
pub fn execute(mut body: &[u8]) -> Result<(&[u8], i32), Malformed> {
    let portal = take_str(&mut body).ok_or(Malformed)?;
    let rows = take_i32(&mut body).ok_or(Malformed)?;
    end(body)?;
    Ok((portal, rows))
}

/// `CopyFail`: the client's reason.
pub fn copy_fail(body: &[u8]) -> Result<&[u8], Malformed> {
    only_str(body)
}

/// Writes `Query`.
pub fn put_query(out: &mut Vec<u8>, sql: &[u8]) {
    put(out, tag::QUERY, |body| put_str(body, sql));
}

/// Writes `Describe`.
pub fn put_describe(out: &mut Vec<u8>, target: Target, name: &[u8]) {
    put_target(out, tag::DESCRIBE, target, name);
}

/// Writes `Close`.
pub fn put_close(out: &mut Vec<u8>, target: Target, name: &[u8]) {
    put_target(out, tag::CLOSE, target, name);
}

fn put_target(out: &mut Vec<u8>, tag: u8, target: Target, name: &[u8]) {
    put(out, tag, |body| {
        body.push(match target {
            Target::Statement => b'S',
            Target::Portal => b'P',
        });
        put_str(body, name);
    });
}

/// Writes `Execute`.
pub fn put_execute(out: &mut Vec<u8>, portal: &[u8], rows: i32) {
    put(out, tag::EXECUTE, |body| {
        put_str(body, portal);
        body.extend_from_slice(&rows.to_be_bytes());
    });
}

/// Writes `Bind` for a portal and a statement, by their names. Each value has its own format; `None` is NULL.
pub fn put_bind<'v>(
    out: &mut Vec<u8>,
    (portal, statement): (&[u8], &[u8]),
    values: impl ExactSizeIterator<Item = (i16, Option<&'v [u8]>)> + Clone,
    result_formats: &[i16],
) {
    put(out, tag::BIND, |body| {
        put_str(body, portal);
        put_str(body, statement);
        // The counts are unsigned: there may be 65535.
        let count = (values.len() as u16).to_be_bytes();
        body.extend_from_slice(&count);
        for (format, _) in values.clone() {
            body.extend_from_slice(&format.to_be_bytes());
        }
        body.extend_from_slice(&count);
        for (_, value) in values {
            match value {
                None => body.extend_from_slice(&(-1i32).to_be_bytes()),
                Some(bytes) => {
                    body.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                    body.extend_from_slice(bytes);
                }
            }
        }
        body.extend_from_slice(&(result_formats.len() as u16).to_be_bytes());
        for format in result_formats {
            body.extend_from_slice(&format.to_be_bytes());
        }
    });
}

/// Writes a `Bind` of the unnamed portal without parameters and with text results.
pub fn put_plain_bind(out: &mut Vec<u8>, portal: &[u8], statement: &[u8]) {
    put(out, tag::BIND, |body| {
        put_str(body, portal);
        put_str(body, statement);
        body.extend_from_slice(&[0; 6]);
    });
}

/// `Sync`, whole.
pub const SYNC: &[u8] = &[tag::SYNC, 0, 0, 0, 4];
/// `Flush`, whole.
pub const FLUSH: &[u8] = &[tag::FLUSH, 0, 0, 0, 4];
/// `Terminate`, whole.
pub const TERMINATE: &[u8] = &[tag::TERMINATE, 0, 0, 0, 4];
/// `CopyDone`, whole.
pub const COPY_DONE: &[u8] = &[tag::COPY_DONE, 0, 0, 0, 4];

/// Writes `CopyFail`.
pub fn put_copy_fail(out: &mut Vec<u8>, reason: &[u8]) {
    put(out, tag::COPY_FAIL, |body| put_str(body, reason));
}

/// Writes a `CancelRequest`, which has no tag. `key` is the server's, of any length.
pub fn put_cancel(out: &mut Vec<u8>, pid: i32, key: &[u8]) {
    let length = 12 + key.len() as i32;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&80_877_102_i32.to_be_bytes());
    out.extend_from_slice(&pid.to_be_bytes());
    out.extend_from_slice(key);
}

fn only_str(mut body: &[u8]) -> Result<&[u8], Malformed> {
    let text = take_str(&mut body).ok_or(Malformed)?;
    end(body)?;
    Ok(text)
}

fn end(body: &[u8]) -> Result<(), Malformed> {
    if body.is_empty() {
        Ok(())
    } else {
        Err(Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bind_body(formats: &[i16], values: &[Option<&[u8]>], results: &[i16]) -> Vec<u8> {
        let mut body = b"portal\0stmt\0".to_vec();
        body.extend_from_slice(&(formats.len() as i16).to_be_bytes());
        formats
            .iter()
            .for_each(|f| body.extend_from_slice(&f.to_be_bytes()));
        body.extend_from_slice(&(values.len() as u16).to_be_bytes());
        for value in values {
            match value {
                None => body.extend_from_slice(&(-1i32).to_be_bytes()),
                Some(v) => {
                    body.extend_from_slice(&(v.len() as i32).to_be_bytes());
                    body.extend_from_slice(v);
                }
            }
        }
        body.extend_from_slice(&(results.len() as i16).to_be_bytes());
        results
            .iter()
            .for_each(|f| body.extend_from_slice(&f.to_be_bytes()));
        body
    }

    #[test]
    fn bind_gives_each_value_its_format() {
        let values: [Option<&[u8]>; 3] = [Some(b"5"), None, Some(b"")];
        let body = bind_body(&[], &values, &[1]);
        let bind = Bind::read(&body).unwrap();
        assert_eq!(
            bind.values().collect::<Vec<_>>(),
            [(0, values[0]), (0, None), (0, values[2])]
        );
        assert_eq!(bind.result_formats().collect::<Vec<_>>(), [1]);

        let body = bind_body(&[1], &values, &[]);
        assert!(Bind::read(&body).unwrap().values().all(|(f, _)| f == 1));

        let body = bind_body(&[0, 1, 0], &values, &[]);
        let formats: Vec<_> = Bind::read(&body).unwrap().values().map(|v| v.0).collect();
        assert_eq!(formats, [0, 1, 0]);
    }

    #[test]
    fn bind_takes_as_many_parameters_as_the_protocol_can_count() {
        let values = vec![Some(&b"x"[..]); 65_535];
        let body = bind_body(&[], &values, &[]);
        assert_eq!(Bind::read(&body).unwrap().len(), 65_535);
    }

    #[test]
    fn bind_under_another_name_changes_nothing_else() {
        let body = bind_body(&[1], &[Some(b"abc"), None], &[1, 0]);
        let bind = Bind::read(&body).unwrap();
        let mut out = Vec::new();
        bind.put_as(&mut out, b"ms_1");
        let again = Bind::read(&out[5..]).unwrap();
        assert_eq!(
            (again.portal, again.statement),
            (&b"portal"[..], &b"ms_1"[..])
        );
        assert_eq!(again.rest, bind.rest);
    }

    #[test]
    fn lengths_that_point_outside_are_malformed() {
        let mut body = b"\0\0\0\0\0\x01".to_vec();
        for length in [-2i32, i32::MIN, 1, i32::MAX] {
            body.truncate(6);
            body.extend_from_slice(&length.to_be_bytes());
            assert!(Bind::read(&body).is_err());
        }
        assert!(Parse::read(b"\0select 1\0\xff\xff").is_err());
        assert!(execute(b"p\0\0\0\0").is_err());
        assert!(target(b"Xname\0").is_err());
        assert!(query(b"select 1\0select 2\0").is_err());
    }

    proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(bind) = Bind::read(&body) {
                let _ = bind.values().count();
            }
            let _ = Parse::read(&body).map(|p| p.type_oids().count());
            let _ = (query(&body), target(&body), execute(&body), copy_fail(&body));
        }
    }
}
