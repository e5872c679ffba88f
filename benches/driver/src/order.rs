//! What the program takes from its input, a line each, and what it says of it, again by a line. Pure.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What is done with documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// One is read by its key.
    Find,
    /// A range of them is read, each of their fields.
    Scan,
    /// A range of them is counted and summed by one of their fields.
    Group,
    /// They are inserted, many by each statement.
    Insert,
}

impl Ask {
    /// All of it.
    pub const ALL: [Ask; 4] = [Ask::Find, Ask::Scan, Ask::Group, Ask::Insert];

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Ask::Find => "find",
            Ask::Scan => "scan",
            Ask::Group => "group",
            Ask::Insert => "insert",
        }
    }

    /// How many of so many documents a statement reads: a scan half of them, from wherever chance begins.
    pub fn range(self, documents: u32) -> u32 {
        let share = match self {
            Ask::Scan => documents / 2,
            Ask::Group => documents / 20,
            Ask::Find | Ask::Insert => 1,
        };
        share.max(1)
    }
}

/// What the program is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Make so many documents.
    Fill(u32),
    /// Carry out statements.
    Load(Load),
}

/// Statements, one after the other by each client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// What they do.
    pub ask: Ask,
    /// Clients at the same time.
    pub clients: u32,
    /// For how long.
    pub duration: Duration,
    /// How many documents there are to be read.
    pub documents: u32,
    /// Decides which of them are.
    pub seed: u32,
}

/// What came of an order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Done {
    /// Statements; of a scan and of an insert rows.
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
                load.ask.word(),
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
        let ask = Ask::ALL.into_iter().find(|ask| ask.word() == word);
        match (word, ask, &numbers[..]) {
            ("fill", _, &[documents]) => Ok(Order::Fill(documents)),
            (_, Some(ask), &[clients, milliseconds, documents, seed]) => Ok(Order::Load(Load {
                ask,
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn orders_and_answers_are_read_as_they_were_written() {
        let load = |ask| {
            Order::Load(Load {
                ask,
                clients: 16,
                duration: Duration::from_millis(1_500),
                documents: 200_000,
                seed: u32::MAX,
            })
        };
        let orders = Ask::ALL.map(load).into_iter();
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
