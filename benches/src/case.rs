//! What is asked of every target alike: a work, in a protocol, by so many clients. Pure.

use mothership_driver::order::Ask;
use std::fmt;

/// The protocol that pgbench speaks, its `-M`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One Query message for each statement.
    Simple,
    /// Parse, Bind, Describe, Execute, Sync for each statement, nothing kept.
    Extended,
    /// Parsed once for each connection, then Bind, Describe, Execute, Sync.
    Prepared,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 3] = [Mode::Simple, Mode::Extended, Mode::Prepared];

    /// pgbench's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Mode::Simple => "simple",
            Mode::Extended => "extended",
            Mode::Prepared => "prepared",
        }
    }

    /// The mode of pgbench's word.
    pub fn of(word: &str) -> Option<Mode> {
        Mode::ALL.into_iter().find(|mode| mode.word() == word)
    }
}

/// What a transaction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Reads an account by its key.
    Select,
    /// The same at a fixed rate: so many percent of what PostgreSQL itself does at its fastest.
    Paced(u32),
    /// The same while every system call of the proxy is counted.
    Traced,
    /// The same, each time by a new connection.
    Connect,
    /// The same, each time by a new connection with a password, checked by SCRAM.
    Login,
    /// TPC-B among the accounts of one branch, by which its tables are sharded.
    Branch,
    /// So many reads of one account, sent before the first is answered.
    Pipeline(u32),
    /// Reads a whole table, and throws it away.
    Rows,
    /// Fills an empty table by COPY.
    Copy,
    /// Reads or writes documents of a table on MongoDB.
    Documents(Ask),
}

impl Work {
    /// Its kind: what the command line and the samples call it.
    pub fn word(self) -> &'static str {
        match self {
            Work::Select => "select",
            Work::Paced(_) => "paced",
            Work::Traced => "traced",
            Work::Connect => "connect",
            Work::Login => "login",
            Work::Branch => "branch",
            Work::Pipeline(_) => "pipeline",
            Work::Rows => "rows",
            Work::Copy => "copy",
            Work::Documents(ask) => ask.word(),
        }
    }

    /// The kinds.
    pub const WORDS: [&str; 13] = [
        "select", "paced", "traced", "connect", "login", "branch", "pipeline", "rows", "copy",
        "find", "scan", "group", "insert",
    ];

    /// What it does with documents of a table on MongoDB, if it is about these.
    pub fn ask(self) -> Option<Ask> {
        match self {
            Work::Documents(ask) => Some(ask),
            _ => None,
        }
    }

    /// How much of it, where there are several.
    pub fn amount(self) -> Option<u32> {
        match self {
            Work::Paced(percent) => Some(percent),
            Work::Pipeline(statements) => Some(statements),
            Work::Select
            | Work::Traced
            | Work::Connect
            | Work::Login
            | Work::Branch
            | Work::Rows
            | Work::Copy
            | Work::Documents(_) => None,
        }
    }

    /// What its figures are for each of, one and several; in the words of the tables.
    pub fn unit(self) -> (&'static str, &'static str) {
        match self {
            Work::Rows => ("MB", "MB"),
            Work::Copy | Work::Documents(Ask::Scan | Ask::Insert) => ("row", "rows"),
            Work::Branch | Work::Pipeline(_) => ("transaction", "transactions"),
            _ => ("query", "queries"),
        }
    }

    /// Queries of PostgreSQL in each of its transactions, if it consists of such.
    pub fn queries(self) -> Option<u32> {
        match self {
            Work::Select | Work::Paced(_) | Work::Traced | Work::Connect | Work::Login => Some(1),
            Work::Branch => Some(7),
            Work::Pipeline(statements) => Some(statements),
            Work::Rows | Work::Copy | Work::Documents(_) => None,
        }
    }

    /// Whether it needs the large table.
    pub fn is_bulk(self) -> bool {
        matches!(self, Work::Rows | Work::Copy)
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Work::Select => f.write_str("point select"),
            Work::Paced(percent) => write!(f, "point select at {percent} % of direct"),
            Work::Traced => f.write_str("point select under strace"),
            Work::Connect => f.write_str("a connection for each"),
            Work::Login => f.write_str("a connection with SCRAM for each"),
            Work::Branch => f.write_str("TPC-B by branch"),
            Work::Pipeline(statements) => write!(f, "pipeline of {statements}"),
            Work::Rows => f.write_str("rows out"),
            Work::Copy => f.write_str("COPY in"),
            Work::Documents(Ask::Find) => f.write_str("document by its key"),
            Work::Documents(Ask::Scan) => f.write_str("range of documents"),
            Work::Documents(Ask::Group) => f.write_str("grouped documents"),
            Work::Documents(Ask::Insert) => f.write_str("insert of documents"),
        }
    }
}

/// What is asked of every target alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// What a transaction does.
    pub work: Work,
    /// The protocol.
    pub mode: Mode,
    /// Clients at the same time.
    pub clients: u32,
}

impl Case {
    /// Point selects.
    pub const fn select(mode: Mode, clients: u32) -> Case {
        Case {
            work: Work::Select,
            mode,
            clients,
        }
    }

    /// Everything else that is measured.
    pub const OTHERS: [Case; 17] = [
        Case::of(Work::Paced(30), Mode::Simple, 16),
        Case::of(Work::Paced(70), Mode::Simple, 16),
        Case::of(Work::Traced, Mode::Simple, 16),
        Case::of(Work::Traced, Mode::Prepared, 16),
        Case::of(Work::Connect, Mode::Simple, 8),
        Case::of(Work::Login, Mode::Simple, 8),
        Case::of(Work::Branch, Mode::Prepared, 32),
        Case::of(Work::Pipeline(10), Mode::Prepared, 16),
        Case::of(Work::Pipeline(100), Mode::Prepared, 16),
        Case::of(Work::Rows, Mode::Simple, 1),
        Case::of(Work::Copy, Mode::Simple, 1),
        Case::of(Work::Documents(Ask::Find), Mode::Prepared, 1),
        Case::of(Work::Documents(Ask::Find), Mode::Prepared, 16),
        Case::of(Work::Documents(Ask::Scan), Mode::Prepared, 1),
        Case::of(Work::Documents(Ask::Scan), Mode::Simple, 1),
        Case::of(Work::Documents(Ask::Group), Mode::Prepared, 1),
        Case::of(Work::Documents(Ask::Insert), Mode::Prepared, 1),
    ];

    const fn of(work: Work, mode: Mode, clients: u32) -> Case {
        Case {
            work,
            mode,
            clients,
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clients = match self.clients {
            1 => "1 client".to_owned(),
            many => format!("{many} clients"),
        };
        write!(f, "{}, {}, {clients}", self.work, self.mode.word())
    }
}
