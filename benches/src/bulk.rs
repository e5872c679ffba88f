//! Many rows at once: a whole table read, and a whole table filled by COPY.
//!
//! Rows that the client reads it counts and throws away, those that it sends it has made before: what it does itself is the
//! same for every target, and little.

use crate::client::{Client, text};
use mothership_proto::backend::tag;
use mothership_proto::frame;
use mothership_proto::frontend;
use mothership_tests::message;
use std::io::Write;

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::client::LONGEST;
    use mothership_proto::frame::Next;

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
