//! A client that sends statements about many documents, one after the other: pgbench cannot do this, or it costs too much.
//!
//! It counts the rows that it receives and discards them. It makes the rows to insert in advance.

use crate::case::Mode;
use crate::client::{Client, text};
use crate::event::{self, COLUMNS};
use crate::load::Run;
use mothership_driver::event::{EVENTS, Event, INSERTED, NEW};
use mothership_driver::order::{Ask, Done};
use mothership_proto::backend::tag;
use mothership_proto::frontend::{self, SYNC};
use mothership_tests::message;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::{Duration, Instant};

/// A client, and what it asks next.
#[derive(Debug)]
pub struct Statements {
    client: Client,
    ask: Ask,
    mode: Mode,
    random: StdRng,
    /// How many documents the table has.
    documents: u32,
    /// The rows of the next INSERT.
    new: Vec<Event>,
}

impl Statements {
    /// Logs in, prepares the statement and carries it out once, so that everything is there that it needs.
    pub fn prepare(port: u16, ask: Ask, run: &Run, documents: u32) -> Result<Statements, String> {
        let mut statements = Statements {
            client: Client::connect(port)?,
            ask,
            mode: run.case.mode,
            random: StdRng::seed_from_u64(run.seed.into()),
            documents,
            new: (1..=INSERTED).map(Event::new).collect(),
        };
        if run.case.mode == Mode::Prepared {
            let parse = message::parse("s", &statements.sql(), &[]);
            statements.client.send(&[&parse, SYNC].concat())?;
            statements.client.until(tag::READY, |_, _| {})?;
        }
        statements.once()?;
        Ok(statements)
    }

    /// Carries it out until the time is over.
    pub fn run(&mut self, duration: Duration) -> Result<Done, String> {
        let begun = Instant::now();
        let mut done = Done::default();
        while begun.elapsed() < duration {
            let statement = Instant::now();
            done.units += u64::from(self.once()?);
            let elapsed = u64::try_from(statement.elapsed().as_micros());
            done.elapsed.push(elapsed.unwrap_or(u64::MAX));
        }
        Ok(done)
    }

    /// Runs the statement once. Gives how many rows it read or wrote.
    fn once(&mut self) -> Result<u32, String> {
        let messages = self.messages();
        self.client.send(&messages)?;
        let (mut rows, mut told) = (0, String::new());
        self.client.until(tag::READY, |tag, body| match tag {
            tag::DATA_ROW => rows += 1,
            tag::COMMAND_COMPLETE => told = text(body),
            _ => {}
        })?;
        let (count, expected) = match self.ask {
            Ask::Scan => (rows, Ask::Scan.range(self.documents)),
            _ => (inserted(&told), INSERTED),
        };
        match count == expected {
            true => Ok(count),
            false => Err(format!("{count} rows of {expected}")),
        }
    }

    /// The messages of the next statement.
    fn messages(&mut self) -> Vec<u8> {
        let values = match self.ask {
            Ask::Scan => {
                let count = Ask::Scan.range(self.documents);
                let first = i64::from(self.random.random_range(1..=self.documents - count + 1));
                let end = first + i64::from(count);
                if self.mode == Mode::Simple {
                    let ends = [first, end].map(|id| id.to_string());
                    return message::query(&scan([&ends[0], &ends[1]]));
                }
                [first, end].map(|id| (1, id.to_be_bytes().to_vec())).into()
            }
            _ => {
                let mut values = Vec::with_capacity(self.new.len() * COLUMNS);
                for event in &mut self.new {
                    event::put(event, &mut values);
                    event.id += i64::from(INSERTED);
                }
                values
            }
        };
        let mut messages = Vec::new();
        let values = values
            .iter()
            .map(|(format, value)| (*format, Some(&value[..])));
        frontend::put_bind(&mut messages, (b"", b"s"), values, &[1]);
        frontend::put_execute(&mut messages, b"", 0);
        messages.extend_from_slice(SYNC);
        messages
    }

    fn sql(&self) -> String {
        match self.ask {
            Ask::Scan => scan(["$1", "$2"]),
            _ => {
                let row = |row: usize| {
                    let first = row * COLUMNS;
                    let values = (first + 1..=first + COLUMNS).map(|n| format!("${n}"));
                    format!("({})", values.collect::<Vec<_>>().join(", "))
                };
                let rows: Vec<_> = (0..self.new.len()).map(row).collect();
                format!("INSERT INTO {NEW} VALUES {}", rows.join(", "))
            }
        }
    }
}

fn scan([first, end]: [&str; 2]) -> String {
    format!("SELECT * FROM {EVENTS} WHERE id >= {first} AND id < {end}")
}

/// The number of rows in the tag of an INSERT.
fn inserted(told: &str) -> u32 {
    let number = told.strip_prefix("INSERT 0 ");
    number.and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_of_an_insert_has_its_rows() {
        assert_eq!(inserted("INSERT 0 1000"), 1_000);
        assert_eq!(inserted("SELECT 7"), 0);
        assert_eq!(inserted(""), 0);
    }
}
