//! Errors of servers as the client is to see them: a FATAL ends the server's connection and not the client's, and a
//! place in a text that the router has renamed is that of the client's own text.

use crate::sql::cursor::Span;
use mothership_proto::backend::tag;
use mothership_proto::report::Severity;

/// Where the text that a server has differs from the client's. Counted in characters, as positions of errors are.
#[derive(Clone, Copy, Debug)]
pub struct Renamed {
    /// Characters before the name.
    before: usize,
    /// Characters of the client's name, and of ours.
    lengths: (usize, usize),
}

impl Renamed {
    /// For a name of `ours` characters in place of what `span` says.
    pub fn new(sql: &[u8], span: Span, ours: usize) -> Renamed {
        Renamed {
            before: characters(&sql[..span.start]),
            lengths: (characters(span.of(sql)), ours),
        }
    }

    /// The place in the client's text of a place in the server's; both begin at 1.
    fn position(&self, position: usize) -> usize {
        let (theirs, ours) = self.lengths;
        match position.saturating_sub(self.before) {
            0 => position,
            within if within <= ours => self.before + 1,
            _ => position - ours + theirs,
        }
    }

    /// An ErrorResponse with its position moved.
    pub(super) fn put(&self, out: &mut Vec<u8>, body: &[u8]) {
        put_changed(out, body, |code, text| {
            let position = std::str::from_utf8(text).ok()?.parse().ok();
            let position = position.filter(|_| code == b'P')?;
            Some(self.position(position).to_string().into_bytes())
        });
    }
}

/// Characters of UTF-8; of other encodings, bytes or so.
fn characters(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

/// Writes a server's FATAL as an ERROR: it ends the server's connection, not the
/// client's. All other fields stay.
pub(super) fn put_as_error(out: &mut Vec<u8>, body: &[u8]) {
    put_changed(out, body, |code, _| {
        let severity = matches!(code, b'S' | b'V');
        severity.then(|| Severity::Error.word().as_bytes().to_vec())
    });
}

/// Writes an ErrorResponse with other texts in the fields for which `change` has one.
pub(super) fn put_changed(
    out: &mut Vec<u8>,
    mut body: &[u8],
    mut change: impl FnMut(u8, &[u8]) -> Option<Vec<u8>>,
) {
    mothership_proto::frame::put(out, tag::ERROR, |out| {
        while let Some((&code, rest)) = body.split_first() {
            body = rest;
            if code == 0 {
                break;
            }
            let Some(text) = mothership_proto::frame::take_str(&mut body) else {
                break;
            };
            out.push(code);
            let changed = change(code, text);
            mothership_proto::frame::put_str(out, changed.as_deref().unwrap_or(text));
        }
        out.push(0);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fatal_error_of_a_server_is_an_error_for_the_client() {
        let mut out = Vec::new();
        let body = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection\0Rfunc\0\0";
        put_as_error(&mut out, body);
        assert_eq!(
            &out[5..],
            b"SERROR\0VERROR\0C57P01\0Mterminating connection\0Rfunc\0\0"
        );
    }
}
