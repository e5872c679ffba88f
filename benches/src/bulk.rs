//! Many rows at once: a whole table read, and a whole table filled by COPY.
//!
//! The client is a socket and a buffer. Rows that it reads it counts and throws away, those that it sends it has made
//! before: what it does itself is the same for every target, and little.

use crate::interrupt;
use crate::proxy::{DATABASE, USER};
use mothership_proto::backend::tag;
use mothership_proto::frame::{self, Next};
use mothership_proto::frontend;
use mothership_tests::message::{self, V3_0};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// The table that is read.
pub const OUT: &str = "bulk_out";
/// The table that is filled.
pub const IN: &str = "bulk_in";
/// Their key, by which they are sharded.
pub const KEY: &str = "id";

/// The characters of a row: those of the key and those of the text beside it.
const WIDTH: usize = 100;
/// As psql and most drivers fill a CopyData.
const BODY: usize = 8192;
/// What is read at once.
const CHUNK: usize = 256 << 10;
/// Far above any message of these tables.
const LONGEST: usize = 1 << 20;
/// How long one side may say or take nothing.
const SILENCE: Duration = Duration::from_secs(60);

/// Statements that make both tables.
pub fn definitions() -> [String; 2] {
    [OUT, IN]
        .map(|table| format!("CREATE TABLE {table} ({KEY} int4 PRIMARY KEY, filler text NOT NULL)"))
}

/// Rows, ready to be sent.
#[derive(Debug)]
pub struct Bulk {
    rows: u32,
    /// CopyData messages, one behind the other.
    stream: Vec<u8>,
}

impl Bulk {
    /// So many of them.
    pub fn new(rows: u32) -> Bulk {
        let mut text = Vec::with_capacity(rows as usize * (WIDTH + 2));
        for id in 1..=rows {
            let id = id.to_string();
            let filler = WIDTH.saturating_sub(id.len());
            // Writing to a Vec cannot fail.
            let _ = writeln!(text, "{id}\t{id:x>filler$}");
        }
        let mut stream = Vec::with_capacity(text.len() + text.len() / BODY * 8);
        for body in text.chunks(BODY) {
            frame::put(&mut stream, frontend::tag::COPY_DATA, |out| {
                out.extend_from_slice(body);
            });
        }
        Bulk { rows, stream }
    }

    /// How many there are.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Copies the rows into a table, which is empty.
    pub fn copy(&self, port: u16, table: &str) -> Result<(), String> {
        let mut client = Client::connect(port)?;
        client.send(&message::query(&format!("COPY {table} FROM STDIN")))?;
        client.until(tag::COPY_IN, |_, _| {})?;
        client.send(&self.stream)?;
        client.send(frontend::COPY_DONE)?;
        let mut told = String::new();
        client.until(tag::READY, |tag, body| {
            if tag == tag::COMMAND_COMPLETE {
                told = text(body);
            }
        })?;
        let expected = format!("COPY {}", self.rows);
        match told == expected {
            true => Ok(()),
            false => Err(format!("answered \"{told}\" in place of \"{expected}\"")),
        }
    }

    /// Reads all rows of [`OUT`], which were copied into it, and returns how many bytes they are.
    pub fn read(&self, port: u16) -> Result<u64, String> {
        let mut client = Client::connect(port)?;
        client.send(&message::query(&format!("SELECT * FROM {OUT}")))?;
        let (mut rows, mut bytes) = (0, 0);
        client.until(tag::READY, |tag, body| {
            if tag == tag::DATA_ROW {
                rows += 1;
                bytes += (frame::HEADER + body.len()) as u64;
            }
        })?;
        match rows == self.rows {
            true => Ok(bytes),
            false => Err(format!("answered {rows} rows of {}", self.rows)),
        }
    }
}

/// A connection that holds no more than the message that it looks at.
struct Client {
    socket: TcpStream,
    buffer: Box<[u8]>,
    /// What has come and was not looked at.
    from: usize,
    to: usize,
}

impl Client {
    fn connect(port: u16) -> Result<Client, String> {
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

    fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        interrupt::check()?;
        self.socket
            .write_all(bytes)
            .map_err(|e| format!("send: {e}"))
    }

    /// Lets `look` see each message up to the next with this tag; an error that is among them is one.
    fn until(&mut self, last: u8, mut look: impl FnMut(u8, &[u8])) -> Result<(), String> {
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
fn text(body: &[u8]) -> String {
    let end = body.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&body[..end.unwrap_or(body.len())]).into_owned()
}

/// The message of an ErrorResponse.
fn text_of_error(body: &[u8]) -> String {
    let fields = body.split(|byte| *byte == 0);
    let mut message = fields.filter_map(|field| field.strip_prefix(b"M"));
    String::from_utf8_lossy(message.next().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn rows_are_of_one_width_and_the_stream_has_all_of_them() {
        let bulk = Bulk::new(1_000);
        let (mut rest, mut sent) = (&bulk.stream[..], Vec::new());
        while !rest.is_empty() {
            let Next::Whole(frame) = frame::next(rest, LONGEST).unwrap() else {
                panic!("a message is cut");
            };
            assert_eq!(frame.tag(), b'd');
            sent.extend_from_slice(frame.body());
            rest = &rest[frame.bytes.len()..];
        }
        let sent = String::from_utf8(sent).unwrap();
        let lines: Vec<_> = sent.lines().collect();
        assert_eq!(lines.len(), 1_000);
        assert!(lines.iter().all(|line| line.len() == WIDTH + 1));
        assert!(lines[41].starts_with("42\txxx") && lines[41].ends_with("x42"));
    }
}
