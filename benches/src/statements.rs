//! Statements about documents by clients of PostgreSQL, each of which says one after the other: what pgbench cannot do, or
//! not cheaply.
//!
//! As with whole tables, the rows of a range are counted and thrown away, and those that go were made before. A row by
//! itself is read into a struct, and all clients share one thread, as in the program that the router is compared with.

use crate::case::Mode;
use crate::client::{Client, text};
use crate::event::{self, COLUMNS};
use crate::load::Run;
use mothership_driver::event::{EVENTS, Event, INSERTED, NEW};
use mothership_driver::order::{Ask, Done};
use mothership_proto::backend::{self, tag};
use mothership_proto::frontend::{self, SYNC};
use mothership_tests::message;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::hint::black_box;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::LocalSet;

/// A client, and what it asks next.
#[derive(Debug)]
pub struct Statements {
    client: Client,
    ask: Ask,
    mode: Mode,
    random: StdRng,
    /// Documents that there are to be read.
    documents: u32,
    /// Those that are inserted.
    new: Vec<Event>,
    /// The one that is asked for.
    key: i64,
}

impl Statements {
    /// Logs in as client `number`, prepares the statement and carries it out once, so that everything is there that it needs.
    pub fn prepare(
        port: u16,
        ask: Ask,
        run: &Run,
        documents: u32,
        number: u32,
    ) -> Result<Statements, String> {
        let seed = u64::from(run.seed) << 32 | u64::from(number);
        let mut statements = Statements {
            client: Client::connect(port)?,
            ask,
            mode: run.case.mode,
            random: StdRng::seed_from_u64(seed),
            documents,
            new: Vec::new(),
            key: 0,
        };
        if ask == Ask::Insert {
            statements.new = (1..=INSERTED).map(Event::new).collect();
        }
        if run.case.mode == Mode::Prepared {
            let parse = message::parse("s", &statements.sql(), &[]);
            statements.client.send(&[&parse, SYNC].concat())?;
            statements.client.until(tag::READY, |_, _| {})?;
        }
        statements.say()?;
        statements.hear()?;
        Ok(statements)
    }

    /// All clients carry them out until the time is over.
    pub fn run(clients: Vec<Statements>, duration: Duration) -> Result<Done, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(|e| e.to_string())?;
        let clients_of_one_thread = LocalSet::new();
        clients_of_one_thread.block_on(&runtime, async {
            let one = |client: Statements| tokio::task::spawn_local(client.repeat(duration));
            let clients: Vec<_> = clients.into_iter().map(one).collect();
            let mut all = Done::default();
            for client in clients {
                let done = client.await.map_err(|e| e.to_string())??;
                all.units += done.units;
                all.elapsed.extend(done.elapsed);
            }
            Ok(all)
        })
    }

    async fn repeat(mut self, duration: Duration) -> Result<Done, String> {
        let waiting = |error: std::io::Error| format!("wait: {error}");
        let socket = self.client.socket().map_err(waiting)?;
        // SAFETY: a TcpStream has one descriptor, which is open as long as it lives: it is owned here.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }
            .map_err(|error| waiting(error.into()))?;
        let begun = Instant::now();
        let mut done = Done::default();
        while begun.elapsed() < duration {
            let statement = Instant::now();
            self.say()?;
            let mut ready = socket.readable().await.map_err(waiting)?;
            // The whole answer: what is waited for of it is under way.
            done.units += u64::from(self.hear()?);
            ready.clear_ready();
            let elapsed = u64::try_from(statement.elapsed().as_micros());
            done.elapsed.push(elapsed.unwrap_or(u64::MAX));
        }
        Ok(done)
    }

    fn say(&mut self) -> Result<(), String> {
        let messages = self.messages();
        self.client.send(&messages)
    }

    /// How many rows it read or wrote.
    fn hear(&mut self) -> Result<u32, String> {
        let (mut rows, mut told, mut event) = (0, String::new(), None);
        self.client.until(tag::READY, |tag, body| match tag {
            tag::DATA_ROW => {
                rows += 1;
                if self.ask == Ask::Find {
                    let values = backend::row_values(body).unwrap_or_default();
                    event = event::take(&values);
                }
            }
            tag::COMMAND_COMPLETE => told = text(body),
            _ => {}
        })?;
        let (count, expected) = match self.ask {
            Ask::Insert => (inserted(&told), INSERTED),
            ask => (rows, ask.range(self.documents)),
        };
        if self.ask == Ask::Find && black_box(event).map(|event| event.id) != Some(self.key) {
            return Err(format!("the row of {} is another one", self.key));
        }
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
            Ask::Find => {
                self.key = i64::from(self.random.random_range(1..=self.documents));
                vec![(1, self.key.to_be_bytes().to_vec())]
            }
            Ask::Group | Ask::Insert => {
                let mut values = Vec::with_capacity(self.new.len() * COLUMNS);
                for event in &mut self.new {
                    event::put(event, &mut values);
                    event.id += i64::from(INSERTED);
                }
                values
            }
        };
        let formats: &[i16] = match self.ask {
            Ask::Find => &event::FORMATS,
            _ => &[1],
        };
        let mut messages = Vec::new();
        let values = values
            .iter()
            .map(|(format, value)| (*format, Some(&value[..])));
        frontend::put_bind(&mut messages, (b"", b"s"), values, formats);
        frontend::put_execute(&mut messages, b"", 0);
        messages.extend_from_slice(SYNC);
        messages
    }

    fn sql(&self) -> String {
        match self.ask {
            Ask::Find => format!("SELECT * FROM {EVENTS} WHERE id = $1"),
            Ask::Scan => scan(["$1", "$2"]),
            Ask::Group | Ask::Insert => {
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
