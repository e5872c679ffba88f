//! Cuts messages from a byte stream by their headers alone.
//!
//! A message is one tag byte, a length that counts itself but not the tag, and a
//! body. In: what was received so far. Out: the first whole message as a slice, or
//! how many bytes are still missing. Bodies are never looked at here.

/// Bytes of a header: the tag and the length.
pub const HEADER: usize = 5;

/// One whole message, borrowed from the receive buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Header and body, ready to be passed on untouched.
    pub bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The message type.
    pub fn tag(&self) -> u8 {
        self.bytes[0]
    }

    /// What follows the header.
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[HEADER..]
    }
}

/// What a receive buffer begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// A whole message.
    Whole(Frame<'a>),
    /// The beginning of a message that is `total` bytes long, or of its header.
    Partial {
        /// The tag, once it is known.
        tag: Option<u8>,
        /// Bytes of the whole message, or of the header while that is incomplete.
        total: usize,
    },
}

/// A length that no peer may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length does not even cover itself, or is negative.
    #[error("invalid message length")]
    Invalid {
        /// The tag of the message.
        tag: u8,
        /// The length as sent.
        length: i32,
    },
    /// The length is over the limit of this connection.
    #[error("message of {length} bytes is over the limit of {limit}")]
    TooLong {
        /// The tag of the message.
        tag: u8,
        /// The length as sent.
        length: usize,
        /// The limit that it exceeds.
        limit: usize,
    },
}

/// Looks at the beginning of `input`. `limit` is the longest message allowed, in
/// bytes with its header.
pub fn next(input: &[u8], limit: usize) -> Result<Next<'_>, FrameError> {
    let Some(header) = input.first_chunk::<HEADER>() else {
        return Ok(Next::Partial {
            tag: input.first().copied(),
            total: HEADER,
        });
    };
    let [tag, a, b, c, d] = *header;
    let length = i32::from_be_bytes([a, b, c, d]);
    let total = match usize::try_from(length) {
        Ok(n) if n >= 4 => n + 1,
        _ => return Err(FrameError::Invalid { tag, length }),
    };
    if total > limit {
        return Err(FrameError::TooLong {
            tag,
            length: total,
            limit,
        });
    }
    Ok(match input.get(..total) {
        Some(bytes) => Next::Whole(Frame { bytes }),
        None => Next::Partial {
            tag: Some(tag),
            total,
        },
    })
}

/// Appends one message: `body` writes what follows the header.
///
/// # Panics
/// If the message is longer than a length field can say. Lengths of peers are limited far below ([`fits`]), so it is
/// a bug of ours; a length that wrapped around would let the rest of the body pass for messages (CVE-2024-27304).
/// Nothing of the message stays in `out`.
pub fn put(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[tag, 0, 0, 0, 0]);
    body(out);
    let Some(length) = length_field(out.len() - start - HEADER) else {
        out.truncate(start);
        panic!("messages are built below 2 GiB");
    };
    out[start + 1..start + HEADER].copy_from_slice(&length);
}

/// True when a body of `bytes` can be sent as one message.
pub const fn fits(bytes: usize) -> bool {
    bytes <= i32::MAX as usize - 4
}

/// The length field of a message with a body of `bytes`: it counts itself, and has 31 bits.
fn length_field(bytes: usize) -> Option<[u8; 4]> {
    let length = fits(bytes).then(|| i32::try_from(bytes + 4))?;
    length.ok().map(i32::to_be_bytes)
}

/// Appends a zero-terminated string.
pub fn put_str(out: &mut Vec<u8>, text: &[u8]) {
    debug_assert!(!text.contains(&0), "a zero byte would end the string early");
    out.extend_from_slice(text);
    out.push(0);
}

/// Splits a zero-terminated string off the front.
pub fn take_str<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = memchr::memchr(0, body)?;
    let text = &body[..end];
    *body = &body[end + 1..];
    Some(text)
}

/// Splits `n` bytes off the front.
pub fn take<'a>(body: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (head, tail) = body.split_at_checked(n)?;
    *body = tail;
    Some(head)
}

/// Splits a big-endian 16-bit integer off the front.
pub fn take_i16(body: &mut &[u8]) -> Option<i16> {
    take(body, 2).map(|b| i16::from_be_bytes([b[0], b[1]]))
}

/// Splits a big-endian 32-bit integer off the front.
pub fn take_i32(body: &mut &[u8]) -> Option<i32> {
    take(body, 4).map(|b| i32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_no_peer_may_send_are_refused() {
        for length in [i32::MIN, -1, 0, 1, 2, 3] {
            let mut input = vec![b'Q'];
            input.extend_from_slice(&length.to_be_bytes());
            assert_eq!(
                next(&input, 1 << 20),
                Err(FrameError::Invalid { tag: b'Q', length })
            );
        }
        let mut input = vec![b'Q'];
        input.extend_from_slice(&i32::MAX.to_be_bytes());
        assert!(matches!(
            next(&input, 1 << 20),
            Err(FrameError::TooLong { .. })
        ));
    }

    // See: CVE-2024-27304 (pgx), RUSTSEC-2024-0363 (sqlx), CVE-2025-12818 (libpq)
    #[test]
    fn a_length_that_does_not_fit_its_field_is_never_written() {
        let longest = i32::MAX as usize - 4;
        assert_eq!(length_field(0), Some([0, 0, 0, 4]));
        assert_eq!(length_field(longest), Some(i32::MAX.to_be_bytes()));
        let gib = 1_usize << 30;
        for bytes in [
            longest + 1,
            2 * gib - 4,
            2 * gib,
            // These would wrap around to small lengths.
            4 * gib - 5,
            4 * gib - 4,
            4 * gib,
            4 * gib + 20,
            usize::MAX,
        ] {
            assert_eq!(length_field(bytes), None, "{bytes}");
            assert!(!fits(bytes), "{bytes}");
        }
        assert!(fits(longest));
    }

    // Zeroed pages that nobody touches take no memory.
    #[test]
    fn of_a_message_that_is_too_long_nothing_is_left_to_be_sent() {
        let mut out = b"before".to_vec();
        let built = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            put(&mut out, b'Q', |body| {
                let mut large = vec![0; i32::MAX as usize + 100];
                large[..body.len()].copy_from_slice(body);
                *body = large;
            });
        }));
        assert!(built.is_err());
        assert_eq!(out, b"before");
    }

    #[test]
    fn a_message_is_whole_only_with_its_last_byte() {
        let mut message = Vec::new();
        put(&mut message, b'Q', |body| put_str(body, b"select 1"));
        for cut in 0..message.len() {
            assert!(matches!(
                next(&message[..cut], 1 << 20),
                Ok(Next::Partial { .. })
            ));
        }
        let mut two = message.clone();
        two.extend_from_slice(&message);
        let Ok(Next::Whole(frame)) = next(&two, 1 << 20) else {
            panic!("a whole message is there")
        };
        assert_eq!(frame.bytes, message);
        assert_eq!(frame.body(), b"select 1\0");
    }
}
