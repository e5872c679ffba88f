//! Asks a server on its unix socket, as the superuser, who needs no password there: whether it takes clients, and any SQL.

use mothership_proto::{backend, frame, frontend, report};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Whether a server answers a startup message with a question for a login: what PQping asks. One that is starting, stopping or
/// recovering sends an error.
pub(super) fn accepts(socket: &Path, user: &str) -> bool {
    const ANSWER_LIMIT: Duration = Duration::from_secs(2);
    let ask = || -> io::Result<u8> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.write_all(&startup(user, "postgres"))?;
        let mut kind = [0];
        stream.read_exact(&mut kind)?;
        Ok(kind[0])
    };
    matches!(ask(), Ok(b'R'))
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// The session could not be had, or broke.
    Broken(io::Error),
    /// The server answered with an error: its message and SQLSTATE.
    Refused(String),
}

impl From<io::Error> for NoAnswer {
    fn from(error: io::Error) -> Self {
        NoAnswer::Broken(error)
    }
}

/// A session as the superuser, on the unix socket.
#[derive(Debug)]
pub struct Asking {
    stream: UnixStream,
    /// What came and is not read yet.
    unread: Vec<u8>,
    /// Whether a transaction is open.
    is_idle: bool,
}

impl Asking {
    pub(super) fn begin(socket: &Path, user: &str, database: &str) -> Result<Self, NoAnswer> {
        let mut session = Asking {
            stream: UnixStream::connect(socket)?,
            unread: Vec::new(),
            is_idle: true,
        };
        session.stream.write_all(&startup(user, database))?;
        // What is sent by the login; nothing of it is an answer.
        session.answer()?;
        Ok(session)
    }

    /// Runs SQL, which may be several statements. The rows of all of them, one per line, columns separated by `|`, null as
    /// nothing; what COPY sends as it is. As `psql -qAt` prints them.
    pub(super) fn ask(&mut self, sql: &str) -> Result<String, NoAnswer> {
        let mut message = Vec::new();
        frontend::put_query(&mut message, sql.as_bytes());
        self.stream.write_all(&message)?;
        self.answer()
    }

    /// Makes the session as good as a new one, as far as DISCARD ALL does. Whether that went well; if not, it is of no use.
    pub fn discard_all(&mut self) -> bool {
        self.is_idle && self.ask("DISCARD ALL").is_ok()
    }

    /// Whether the server has said nothing since the last answer: what it says then is, as a rule, that it ends the
    /// session.
    pub fn is_quiet(&mut self) -> bool {
        let mut unasked = || {
            self.stream.set_nonblocking(true)?;
            let read = self.stream.read(&mut [0]);
            self.stream.set_nonblocking(false)?;
            read
        };
        unasked().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Reads until the server waits for the next query; an error is what it says first.
    fn answer(&mut self) -> Result<String, NoAnswer> {
        let mut lines = String::new();
        let mut refused = None;
        let mut chunk = [0; 16 << 10];
        loop {
            let mut read = 0;
            while let frame::Next::Whole(frame) =
                frame::next(&self.unread[read..], usize::MAX).map_err(io::Error::other)?
            {
                match frame.tag() {
                    // It would wait for a password for a minute.
                    b'R' if frame.body() != [0; 4] => {
                        let said = "a password is asked for on the unix socket";
                        return Err(NoAnswer::Refused(said.to_owned()));
                    }
                    b'D' => put_row(&mut lines, frame.body())?,
                    b'd' => lines.push_str(&String::from_utf8_lossy(frame.body())),
                    b'G' => {
                        let mut fail = Vec::new();
                        frontend::put_copy_fail(&mut fail, b"there are no rows");
                        self.stream.write_all(&fail)?;
                    }
                    b'E' => {
                        let fields = report::Fields::read(frame.body());
                        let text = |field: Option<&[u8]>| {
                            String::from_utf8_lossy(field.unwrap_or_default()).into_owned()
                        };
                        let said = format!("{} ({})", text(fields.message), text(fields.code));
                        if fields.is_fatal() {
                            return Err(NoAnswer::Refused(said));
                        }
                        refused.get_or_insert(said);
                    }
                    b'Z' => {
                        self.is_idle = frame.body() == b"I";
                        self.unread.drain(..read + frame.body().len() + 5);
                        return match refused {
                            Some(said) => Err(NoAnswer::Refused(said)),
                            None => Ok(lines.trim_end().to_owned()),
                        };
                    }
                    _ => {}
                }
                read += frame.body().len() + 5;
            }
            self.unread.drain(..read);
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(count) => self.unread.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        // As the protocol asks; who is gone already needs none.
        let mut farewell = Vec::new();
        frame::put(&mut farewell, b'X', |_| {});
        let _ = self.stream.write_all(&farewell);
    }
}

fn put_row(lines: &mut String, body: &[u8]) -> io::Result<()> {
    let values = backend::row_values(body).map_err(io::Error::other)?;
    for (position, value) in values.into_iter().enumerate() {
        if position > 0 {
            lines.push('|');
        }
        lines.push_str(&String::from_utf8_lossy(value.unwrap_or_default()));
    }
    lines.push('\n');
    Ok(())
}

/// A startup message of protocol 3.0.
fn startup(user: &str, database: &str) -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for text in [
        "user",
        user,
        "database",
        database,
        "client_encoding",
        "UTF8",
    ] {
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
        let message = startup("me", "mine");
        assert_eq!(
            message[..4],
            u32::try_from(message.len()).unwrap().to_be_bytes()
        );
        let ends = b"user\0me\0database\0mine\0client_encoding\0UTF8\0\0";
        assert!(message.ends_with(ends));
    }
}
