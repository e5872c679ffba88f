//! A client of PostgreSQL that does little itself: a socket and a buffer, for what pgbench cannot do.

use crate::interrupt;
use crate::proxy::{DATABASE, USER};
use mothership_proto::backend::tag;
use mothership_proto::frame::{self, Next};
use mothership_tests::message::{self, V3_0};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// What is read at once.
const CHUNK: usize = 256 << 10;
/// Far above any message that comes.
pub const LONGEST: usize = 1 << 20;
/// How long one side may say or take nothing.
const SILENCE: Duration = Duration::from_secs(60);

/// A connection that holds no more than the message that it looks at.
#[derive(Debug)]
pub struct Client {
    socket: TcpStream,
    buffer: Box<[u8]>,
    /// What has come and was not looked at.
    from: usize,
    to: usize,
}

impl Client {
    /// Logs in.
    pub fn connect(port: u16) -> Result<Client, String> {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        let socket = socket.map_err(|e| format!("connect: {e}"))?;
        let limited = socket
            .set_read_timeout(Some(SILENCE))
            .and_then(|()| socket.set_write_timeout(Some(SILENCE)))
            .and_then(|()| socket.set_nodelay(true));
        limited.map_err(|e| format!("connect: {e}"))?;
        let mut client = Client {
            socket,
            buffer: vec![0; CHUNK + LONGEST].into(),
            from: 0,
            to: 0,
        };
        let own = [("user", USER), ("database", DATABASE)];
        client.send(&message::startup(V3_0, &own))?;
        client.until(tag::READY, |_, _| {})?;
        Ok(client)
    }

    /// Sends messages.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        interrupt::check()?;
        self.socket
            .write_all(bytes)
            .map_err(|e| format!("send: {e}"))
    }

    /// Lets `look` see each message up to the next with this tag; an error that is among them is one.
    pub fn until(&mut self, last: u8, mut look: impl FnMut(u8, &[u8])) -> Result<(), String> {
        loop {
            let input = &self.buffer[self.from..self.to];
            match frame::next(input, LONGEST).map_err(|e| e.to_string())? {
                Next::Whole(frame) => {
                    let (tag, length) = (frame.tag(), frame.bytes.len());
                    if tag == tag::ERROR {
                        return Err(format!("answered: {}", text_of_error(frame.body())));
                    }
                    look(tag, frame.body());
                    self.from += length;
                    if tag == last {
                        return Ok(());
                    }
                }
                Next::Partial { .. } => self.fill()?,
            }
        }
    }

    fn fill(&mut self) -> Result<(), String> {
        interrupt::check()?;
        // What is left is part of one message, and is shorter than the longest.
        self.buffer.copy_within(self.from..self.to, 0);
        self.to -= self.from;
        self.from = 0;
        match self.socket.read(&mut self.buffer[self.to..]) {
            Ok(0) => Err("closed the connection".into()),
            Ok(read) => {
                self.to += read;
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(format!("receive: {error}")),
        }
    }
}

/// A zero-terminated text.
pub fn text(body: &[u8]) -> String {
    let end = body.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&body[..end.unwrap_or(body.len())]).into_owned()
}

/// The message of an ErrorResponse.
fn text_of_error(body: &[u8]) -> String {
    let fields = body.split(|byte| *byte == 0);
    let mut message = fields.filter_map(|field| field.strip_prefix(b"M"));
    String::from_utf8_lossy(message.next().unwrap_or_default()).into_owned()
}
