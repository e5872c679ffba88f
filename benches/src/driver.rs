//! The program that does by MongoDB's own driver what the router is asked for: the orders that it takes, and how it is
//! started and spoken to. The program is `src/bin/driver.rs`.
//!
//! It is a process of its own, so that its CPU is its own, and it stays between the loads as the router does. An order
//! is a line, and so is what comes of it.

use crate::case::Work;
use crate::interrupt;
use crate::load::Run;
use crate::proxy::DATABASE;
use mothership::cluster::spawn_tied;
use std::cell::RefCell;
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

/// What the program is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Make so many documents.
    Fill(u32),
    /// Carry out statements.
    Load(Load),
}

/// Statements of a work, one after the other by each client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// The work, which is about documents.
    pub work: Work,
    /// Clients at the same time.
    pub clients: u32,
    /// For how long.
    pub duration: Duration,
    /// How many documents there are to be read.
    pub documents: u32,
    /// Decides which of them are.
    pub seed: u32,
}

/// What came of a load.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Done {
    /// Statements, or rows where the work counts in these.
    pub units: u64,
    /// How long each statement took, in microseconds.
    pub elapsed: Vec<u64>,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Order::Fill(documents) => write!(f, "fill {documents}"),
            Order::Load(load) => write!(
                f,
                "{} {} {} {} {}",
                load.work.word(),
                load.clients,
                load.duration.as_millis(),
                load.documents,
                load.seed
            ),
        }
    }
}

impl FromStr for Order {
    type Err = String;

    fn from_str(line: &str) -> Result<Order, String> {
        let unknown = || format!("\"{line}\" is no order");
        let (word, numbers) = line.split_once(' ').ok_or_else(unknown)?;
        let numbers: Result<Vec<u32>, _> = numbers.split(' ').map(str::parse).collect();
        let numbers = numbers.map_err(|_| unknown())?;
        let work = Work::OF_DOCUMENTS
            .into_iter()
            .find(|work| work.word() == word);
        match (word, work, &numbers[..]) {
            ("fill", _, &[documents]) => Ok(Order::Fill(documents)),
            (_, Some(work), &[clients, milliseconds, documents, seed]) => Ok(Order::Load(Load {
                work,
                clients,
                duration: Duration::from_millis(milliseconds.into()),
                documents,
                seed,
            })),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "done {}", self.units)?;
        self.elapsed
            .iter()
            .try_for_each(|elapsed| write!(f, " {elapsed}"))
    }
}

impl FromStr for Done {
    type Err = String;

    /// Anything else is what the program says of its failure.
    fn from_str(line: &str) -> Result<Done, String> {
        let numbers = line.strip_prefix("done ").ok_or(line)?;
        let numbers: Result<Vec<u64>, _> = numbers.split(' ').map(str::parse).collect();
        match numbers.as_deref() {
            Ok([units, elapsed @ ..]) => Ok(Done {
                units: *units,
                elapsed: elapsed.to_vec(),
            }),
            _ => Err(line.to_owned()),
        }
    }
}

/// The program, running. Dropped, it is killed.
#[derive(Debug)]
pub struct Driver {
    child: Child,
    orders: ChildStdin,
    answers: RefCell<BufReader<ChildStdout>>,
}

impl Driver {
    /// Starts it for the replica set at `uri`.
    pub fn start(program: &Path, uri: &str) -> Result<Driver, String> {
        let mut command = Command::new(program);
        command.args([uri, DATABASE]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = spawn_tied(command, libc::SIGKILL);
        let mut child = child.map_err(|e| format!("start {}: {e}", program.display()))?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(orders), Some(answers)) => Ok(Driver {
                child,
                orders,
                answers: RefCell::new(BufReader::new(answers)),
            }),
            _ => Err("the driver program has no pipes".into()),
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes the documents that are read.
    pub fn fill(&self, documents: u32) -> Result<(), String> {
        self.carry_out(Order::Fill(documents)).map(drop)
    }

    /// Carries out a run.
    pub fn run(&self, run: &Run, documents: u32) -> Result<Done, String> {
        self.carry_out(Order::Load(Load {
            work: run.case.work,
            clients: run.case.clients,
            duration: run.duration,
            documents,
            seed: run.seed,
        }))
    }

    /// The program limits how long it takes for that.
    fn carry_out(&self, order: Order) -> Result<Done, String> {
        interrupt::check()?;
        let told = writeln!(&self.orders, "{order}");
        told.map_err(|e| format!("tell the driver program: {e}"))?;
        let mut line = String::new();
        let read = self.answers.borrow_mut().read_line(&mut line);
        read.map_err(|e| format!("hear the driver program: {e}"))?;
        let done = line.trim_end().parse();
        done.map_err(|told: String| format!("the driver program says \"{told}\" to \"{order}\""))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn orders_and_answers_are_read_as_they_were_written() {
        let load = |work| {
            Order::Load(Load {
                work,
                clients: 16,
                duration: Duration::from_millis(1_500),
                documents: 200_000,
                seed: u32::MAX,
            })
        };
        let orders = Work::OF_DOCUMENTS.map(load).into_iter();
        for order in orders.chain([Order::Fill(5)]) {
            assert_eq!(order.to_string().parse(), Ok(order));
        }
        for line in ["", "fill", "fill x", "find 1 2 3", "select 1 1000 5 5"] {
            assert!(line.parse::<Order>().is_err(), "{line}");
        }
        for elapsed in [vec![], vec![1, 20]] {
            let done = Done { units: 7, elapsed };
            assert_eq!(done.to_string().parse(), Ok(done));
        }
        let told = "failed: no server".parse::<Done>();
        assert_eq!(told, Err("failed: no server".to_owned()));
    }
}
