//! Asks a server whether it takes clients, as libpq's PQping does: with the
//! first message of a session, on the unix socket, and without logging in.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Whether a server answers a startup message with a question for a login: what
/// PQping asks. One that is starting, stopping or recovering sends an error.
pub(super) fn accepts(socket: &Path, user: &str) -> bool {
    const ANSWER_LIMIT: Duration = Duration::from_secs(2);
    let ask = || -> std::io::Result<u8> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.write_all(&startup(user))?;
        let mut kind = [0];
        stream.read_exact(&mut kind)?;
        Ok(kind[0])
    };
    matches!(ask(), Ok(b'R'))
}

/// A startup message of protocol 3.0 for the database `postgres`.
fn startup(user: &str) -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for text in ["user", user, "database", "postgres"] {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).expect("a user's name is short");
    [length.to_be_bytes().as_slice(), body.as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_startup_message_says_its_length() {
        let message = startup("me");
        assert_eq!(
            message[..4],
            u32::try_from(message.len()).unwrap().to_be_bytes()
        );
        assert!(message.ends_with(b"user\0me\0database\0postgres\0\0"));
    }
}
