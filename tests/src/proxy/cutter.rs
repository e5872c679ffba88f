//! Cuts one direction of a connection into PostgreSQL's messages.
//!
//! Pure: bytes go in as they arrive, pieces come out. A message that somebody wants to look at comes out whole; while
//! nobody does, bytes pass at once. What is no PostgreSQL (TLS) passes uncut.

use super::Side;
use crate::message::{CANCEL_REQUEST, GSSENC_REQUEST, SSL_REQUEST};

/// The longest first packet, with its length; see ProcessStartupPacket.
const FIRST_PACKET: usize = 10_004;
/// What is longer than this is no message.
const LONGEST: usize = 1 << 30;

/// A part of what arrived.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The type, if this is a whole message that was wanted.
    pub(super) kind: Option<u8>,
    pub(super) bytes: Vec<u8>,
}

enum Stage {
    /// Before the first message with a type.
    First,
    /// So many bytes are left of a message that nobody wants.
    Messages {
        left: usize,
    },
    Opaque,
}

/// What is known of one direction.
pub(super) struct Cutter {
    side: Side,
    stage: Stage,
    /// The beginning of what is not complete.
    held: Vec<u8>,
    /// So many of these bytes have passed already.
    out: usize,
}

impl Cutter {
    pub(super) fn new(side: Side) -> Cutter {
        Cutter {
            side,
            stage: Stage::First,
            held: Vec::new(),
            out: 0,
        }
    }

    /// What passes with these bytes. `is_watched` says whether somebody looks at messages of this side, and `wanted`
    /// of which types they are to stay whole.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        is_watched: bool,
        wanted: impl Fn(u8) -> bool,
    ) -> Vec<Piece> {
        self.held.extend_from_slice(bytes);
        let mut pieces = Vec::new();
        while let Some((kind, count)) = self.next(&wanted) {
            let rest = self.held.split_off(count);
            let mut bytes = std::mem::replace(&mut self.held, rest);
            let passed = self.out.min(count);
            self.out -= passed;
            bytes.drain(..passed);
            // What has passed in part cannot be held back any longer.
            let kind = kind.filter(|_| passed == 0);
            if !bytes.is_empty() {
                pieces.push(Piece { kind, bytes });
            }
        }
        if !is_watched {
            pieces.extend(self.rest());
        }
        pieces
    }

    /// What has not passed, at the end or because nobody looks.
    pub(super) fn rest(&mut self) -> Option<Piece> {
        let bytes = self.held[self.out..].to_vec();
        self.out = self.held.len();
        let kind = None;
        (!bytes.is_empty()).then_some(Piece { kind, bytes })
    }

    /// How many of the held bytes are the next piece.
    fn next(&mut self, wanted: &impl Fn(u8) -> bool) -> Option<(Option<u8>, usize)> {
        if self.held.is_empty() {
            return None;
        }
        match (&mut self.stage, self.side) {
            (Stage::Opaque, _) => Some((None, self.held.len())),
            (Stage::First, Side::Client) => self.first_of_client(),
            (Stage::First, Side::Server) => Some((None, self.first_of_server()?)),
            (Stage::Messages { left }, _) if *left > 0 => {
                let count = self.held.len().min(*left);
                *left -= count;
                Some((None, count))
            }
            (Stage::Messages { .. }, _) => self.message(wanted),
        }
    }

    fn first_of_client(&mut self) -> Option<(Option<u8>, usize)> {
        let length = number(self.held.get(..4)?);
        if !(8..=FIRST_PACKET).contains(&length) {
            self.stage = Stage::Opaque;
            return Some((None, self.held.len()));
        }
        let code = number(self.held.get(..length)?.get(4..8)?) as u32;
        self.stage = match code {
            SSL_REQUEST | GSSENC_REQUEST => Stage::First,
            CANCEL_REQUEST => Stage::Opaque,
            _ => Stage::Messages { left: 0 },
        };
        Some((None, length))
    }

    /// The answer to a request for encryption is one byte; no first message has such a type.
    fn first_of_server(&mut self) -> Option<usize> {
        match self.held.first()? {
            b'N' => {}
            b'S' | b'G' => self.stage = Stage::Opaque,
            _ => {
                self.stage = Stage::Messages { left: 0 };
                return Some(0);
            }
        }
        Some(1)
    }

    fn message(&mut self, wanted: &impl Fn(u8) -> bool) -> Option<(Option<u8>, usize)> {
        let kind = *self.held.first()?;
        let length = number(self.held.get(1..5)?);
        if !(4..LONGEST).contains(&length) {
            self.stage = Stage::Opaque;
            return Some((None, self.held.len()));
        }
        if wanted(kind) {
            self.held.get(..1 + length)?;
            return Some((Some(kind), 1 + length));
        }
        self.stage = Stage::Messages { left: length - 4 };
        Some((None, 5))
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | usize::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{self, V3_0};

    fn all(side: Side, wanted: u8, step: usize, stream: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut cutter = Cutter::new(side);
        let pieces: Vec<Piece> = stream
            .chunks(step)
            .flat_map(|chunk| cutter.take(chunk, true, |kind| kind == wanted))
            .collect();
        let whole = pieces.iter().filter(|piece| piece.kind.is_some());
        let whole = whole.map(|piece| piece.bytes.clone()).collect();
        (
            whole,
            pieces.into_iter().flat_map(|piece| piece.bytes).collect(),
        )
    }

    #[test]
    fn wanted_messages_come_whole_and_nothing_is_lost_however_bytes_arrive() {
        let stream = [
            message::request(SSL_REQUEST),
            message::startup(V3_0, &[("user", "a")]),
            message::query("SELECT 1"),
            message::sync(),
            message::query("SELECT 2"),
        ]
        .concat();
        for step in [1, 2, 3, 7, 1000] {
            let (whole, passed) = all(Side::Client, b'Q', step, &stream);
            let queries = [message::query("SELECT 1"), message::query("SELECT 2")];
            assert_eq!(
                (whole, passed),
                (queries.to_vec(), stream.clone()),
                "{step}"
            );
        }
    }

    #[test]
    fn while_nobody_looks_bytes_pass_at_once() {
        let stream = [message::startup(V3_0, &[]), message::query("SELECT 1")].concat();
        let mut cutter = Cutter::new(Side::Client);
        for byte in &stream {
            let passed = cutter.take(&[*byte], false, |_| false);
            let bytes: Vec<u8> = passed.into_iter().flat_map(|piece| piece.bytes).collect();
            assert_eq!(bytes, [*byte]);
        }
        // Where the next message begins is known all the same.
        let next = cutter.take(&message::sync(), true, |kind| kind == b'S');
        assert_eq!(next[0].kind, Some(b'S'));
    }

    #[test]
    fn the_answer_to_a_request_for_tls_is_no_message() {
        let ready = message::message(b'Z', b"I");
        let plain = [b"N".as_slice(), &ready].concat();
        assert_eq!(all(Side::Server, b'Z', 1, &plain).0, [ready]);
        let encrypted = [b"S".as_slice(), &[0x16, 3, 3, 0, 200, 1]].concat();
        assert_eq!(all(Side::Server, b'Z', 1, &encrypted), (vec![], encrypted));
    }

    #[test]
    fn what_is_no_message_passes() {
        let stream = [message::startup(V3_0, &[]), b"Q\0\0\0\x01rest".to_vec()].concat();
        assert_eq!(all(Side::Client, b'Q', 3, &stream), (vec![], stream));
    }
}
