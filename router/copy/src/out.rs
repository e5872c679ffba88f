//! Makes one COPY TO STDOUT stream of those of several shards.
//!
//! Servers send one row in each CopyData (manual, "COPY Operations"); a header line
//! has a message of its own, the binary header comes with the first row, and the
//! binary trailer is a message of its own or follows the header. The header that
//! comes first is passed on, further ones must be like it and are dropped; trailers
//! are dropped, and one is sent at the end.

use super::binary::{self, TRAILER};
use super::error::CopyError;
use super::format::CopyFormat;

/// The client's side of several shards' streams.
#[derive(Debug)]
pub struct CopyOut {
    kind: Kind,
    header: Option<Vec<u8>>,
    begun: Vec<bool>,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    HeaderLine,
    Binary,
}

impl CopyOut {
    /// For `shards` streams in this format, numbered from 0.
    pub fn new(format: &CopyFormat, shards: usize) -> CopyOut {
        let kind = match format {
            CopyFormat::Binary => Kind::Binary,
            text if text.has_header_line() => Kind::HeaderLine,
            _ => Kind::Plain,
        };
        CopyOut {
            kind,
            header: None,
            begun: vec![false; shards],
        }
    }

    /// What the client gets of one CopyData body of a shard; none if nothing.
    pub fn message<'a>(
        &mut self,
        shard: usize,
        body: &'a [u8],
    ) -> Result<Option<&'a [u8]>, CopyError> {
        if self.kind == Kind::Plain {
            return Ok(Some(body));
        }
        let begun = match self.begun.get_mut(shard) {
            Some(begun) => std::mem::replace(begun, true),
            None => false,
        };
        let (header, rest) = match (begun, &self.kind) {
            (true, _) => (&body[..0], body),
            (false, Kind::Binary) => {
                let length = binary::header(body, true)?;
                body.split_at(length.map_err(|_| CopyError::Signature)?)
            }
            (false, _) => (body, &body[body.len()..]),
        };
        let row = match self.kind {
            Kind::Binary if rest == TRAILER => &rest[..0],
            _ => rest,
        };
        let passed = match &self.header {
            _ if begun => row,
            Some(known) if known == header => row,
            Some(_) => return Err(CopyError::HeadersDiffer),
            None => {
                self.header = Some(header.to_vec());
                &body[..header.len() + row.len()]
            }
        };
        Ok(Some(passed).filter(|passed| !passed.is_empty()))
    }

    /// The body of the last CopyData, when all shards are done; none if there is no trailer.
    pub fn finish(&self) -> Option<&'static [u8]> {
        const END: &[u8] = &TRAILER;
        (self.kind == Kind::Binary).then_some(END)
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::CopyOptions;
    use super::*;

    fn merged(options: &str, messages: &[(usize, &[u8])]) -> Result<Vec<u8>, CopyError> {
        let sql = format!("COPY t TO STDOUT ({options})");
        let format = CopyOptions::parse(sql.as_bytes(), true).unwrap().format;
        let mut out = CopyOut::new(&format, 3);
        let mut all = Vec::new();
        for (shard, body) in messages {
            if let Some(passed) = out.message(*shard, body)? {
                assert!(!passed.is_empty());
                all.extend_from_slice(passed);
            }
        }
        all.extend_from_slice(out.finish().unwrap_or_default());
        Ok(all)
    }

    #[test]
    fn a_header_line_is_sent_once() {
        let rows: [(usize, &[u8]); 5] = [
            (1, b"a,b\n"),
            (1, b"1,2\n"),
            (0, b"a,b\n"),
            (2, b"a,b\n"),
            (0, b"3,4\n"),
        ];
        let wanted = b"a,b\n1,2\n3,4\n".to_vec();
        assert_eq!(merged("FORMAT csv, HEADER", &rows), Ok(wanted));
        let plain = merged("FORMAT csv", &rows).unwrap();
        assert_eq!(plain.len(), 20);
        let other: [(usize, &[u8]); 2] = [(1, b"a,b\n"), (0, b"b,a\n")];
        let differ = merged("FORMAT csv, HEADER", &other);
        assert_eq!(differ, Err(CopyError::HeadersDiffer));
    }

    #[test]
    fn binary_headers_and_trailers_are_sent_once() {
        let header = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
        let row = |value: u8| [&[0, 1, 0, 0, 0, 1][..], &[value]].concat();
        let first = [&header[..], &row(1)].concat();
        let second = [&header[..], &row(2)].concat();
        let empty = [&header[..], &TRAILER].concat();
        let streams: [(usize, &[u8]); 6] = [
            (2, &empty),
            (0, &first),
            (1, &second),
            (1, &row(3)),
            (0, &TRAILER),
            (1, &TRAILER),
        ];
        let wanted = [&header[..], &row(1), &row(2), &row(3), &TRAILER].concat();
        assert_eq!(merged("FORMAT binary", &streams), Ok(wanted));
        let short: [(usize, &[u8]); 1] = [(0, b"PGCOPY")];
        assert!(merged("FORMAT binary", &short).is_err());
    }
}
