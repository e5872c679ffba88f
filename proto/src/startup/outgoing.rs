//! What we say first to a server: SSLRequest, StartupMessage, CancelRequest.
//!
//! A StartupMessage is built from a user, a database and parameters that the caller
//! chose. There is no way to pass on `options`, `replication` or `_pq_.` options, and
//! no byte of a value can become a parameter of its own (S19).

use bytes::BufMut;

use super::{CANCEL_REQUEST, MAX_CANCEL_KEY, MAX_STARTUP_PACKET, Protocol, SSL_REQUEST};
use crate::frame::put_str;

/// Appends a StartupMessage.
///
/// # Errors
/// A NUL byte, an empty or reserved parameter name, no user or database, or more than 10,000
/// bytes in all. Then nothing is appended.
pub fn put_startup(
    out: &mut Vec<u8>,
    protocol: Protocol,
    user: &str,
    database: &str,
    parameters: &[(String, String)],
) -> Result<(), OutgoingError> {
    check("user", user)?;
    check("database", database)?;
    for (name, value) in parameters {
        check_name(name)?;
        check(name, value).or_else(|error| match error {
            OutgoingError::Empty { .. } => Ok(()),
            other => Err(other),
        })?;
    }
    let fixed = [("user", user), ("database", database)];
    let chosen = parameters
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let pairs = fixed.into_iter().chain(chosen);
    let size = pairs
        .clone()
        .map(|(name, value)| name.len() + value.len() + 2)
        .sum::<usize>();
    // Version before, terminator after.
    if size + 5 > MAX_STARTUP_PACKET {
        return Err(OutgoingError::TooLong { bytes: size + 5 });
    }
    put_untyped(out, |out| {
        out.put_u32(protocol.number());
        for (name, value) in pairs {
            put_str(out, name.as_bytes());
            put_str(out, value.as_bytes());
        }
        out.put_u8(0);
    });
    Ok(())
}

fn check_name(name: &str) -> Result<(), OutgoingError> {
    check("parameter name", name)?;
    let reserved = ["user", "database", "options", "replication"];
    if name.starts_with("_pq_.") || reserved.contains(&name) {
        return Err(OutgoingError::Reserved { name: name.into() });
    }
    Ok(())
}

fn check(what: &str, text: &str) -> Result<(), OutgoingError> {
    if text.is_empty() {
        return Err(OutgoingError::Empty { what: what.into() });
    }
    if text.contains('\0') {
        return Err(OutgoingError::Nul { what: what.into() });
    }
    Ok(())
}

/// Appends an SSLRequest. Its answer is one byte, read by [`ssl_answer`].
pub fn put_ssl_request(out: &mut Vec<u8>) {
    put_untyped(out, |out| out.put_u32(SSL_REQUEST));
}

/// Appends a CancelRequest with the key that the server gave.
///
/// # Errors
/// The key is empty or longer than 256 bytes.
pub fn put_cancel(out: &mut Vec<u8>, pid: i32, secret: &[u8]) -> Result<(), super::KeyLength> {
    if secret.is_empty() || secret.len() > MAX_CANCEL_KEY {
        return Err(super::KeyLength {
            bytes: secret.len(),
            longest: MAX_CANCEL_KEY,
        });
    }
    put_untyped(out, |out| {
        out.put_u32(CANCEL_REQUEST);
        out.put_i32(pid);
        out.put_slice(secret);
    });
    Ok(())
}

/// Packets before login have a length, but no type byte.
fn put_untyped(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_u32(0);
    body(out);
    let length = u32::try_from(out.len() - start).expect("checked to be 10,000 bytes at most");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// A server's answer to SSLRequest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslAnswer {
    /// Begin the TLS handshake.
    Yes,
    /// Go on in clear text, if the setting allows it, else close.
    No,
}

/// Reads the answer to SSLRequest; `None` if nothing has come yet.
///
/// # Errors
/// An ErrorResponse, whose text comes unprotected and is neither shown nor trusted (S15); any
/// other byte; and any byte after the answer, which somebody may have slipped in (S4).
pub fn ssl_answer(bytes: &[u8]) -> Result<Option<SslAnswer>, SslAnswerError> {
    match bytes {
        [] => Ok(None),
        [b'S'] => Ok(Some(SslAnswer::Yes)),
        [b'N'] => Ok(Some(SslAnswer::No)),
        [b'S' | b'N', ..] => Err(SslAnswerError::BytesAfter),
        [b'E', ..] => Err(SslAnswerError::Error),
        [other, ..] => Err(SslAnswerError::Unknown { byte: *other }),
    }
}

/// A StartupMessage that we will not send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutgoingError {
    /// A name or value holds a NUL.
    #[error("{what} contains a NUL byte")]
    Nul {
        /// Which.
        what: String,
    },
    /// User, database or a parameter's name is empty.
    #[error("{what} is empty")]
    Empty {
        /// Which.
        what: String,
    },
    /// A parameter that would do more than set a parameter.
    #[error("startup parameter \"{name}\" is never passed to a server")]
    Reserved {
        /// Its name.
        name: String,
    },
    /// PostgreSQL would refuse it.
    #[error("startup message of {bytes} bytes is longer than 10000")]
    TooLong {
        /// Its size after the length field.
        bytes: usize,
    },
}

/// A server's answer to SSLRequest that ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SslAnswerError {
    /// `E`: the server did not understand, or somebody wants us to believe so.
    #[error("server answered the request for TLS with an error")]
    Error,
    /// No answer that exists.
    #[error("server answered the request for TLS with byte {byte:#04x}")]
    Unknown {
        /// It.
        byte: u8,
    },
    /// Plain text where the handshake must begin.
    #[error("server sent unencrypted bytes after its answer to the request for TLS")]
    BytesAfter,
}
