//! What a client sends: messages, and groups of them up to an answer that ends with ReadyForQuery.

use mothership_tests::message::{self, Format};
use std::fmt;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    Query(String),
    Parse {
        name: String,
        sql: String,
    },
    Bind {
        portal: String,
        statement: String,
        values: Vec<Option<String>>,
        results: Results,
    },
    DescribeStatement(String),
    DescribePortal(String),
    Execute {
        portal: String,
        rows: u32,
        order: Order,
    },
    CloseStatement(String),
    ClosePortal(String),
    Flush,
    /// Flush, and nothing more is sent before all that was sent is answered.
    Wait,
    Sync,
    CopyData(String),
    CopyDone,
    CopyFail,
}

/// The form in which a portal gives its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Results {
    Text,
    Binary,
}

/// Whether a statement says in which order its rows come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Told,
    Open,
}

impl Order {
    /// By the text: rows of a query without ORDER BY, and those that a write returns, come as they like. So does an error
    /// of one row among others.
    pub fn of(sql: &str) -> Order {
        let open = sql.contains("RETURNING")
            || sql.contains("10 / (id")
            || (!sql.contains("ORDER BY") && (sql.contains("SELECT") || sql.contains("TABLE ")));
        match open {
            true => Order::Open,
            false => Order::Told,
        }
    }
}

/// Messages of which the last leads to ReadyForQuery.
pub type Group = Vec<Sent>;

impl Sent {
    /// As it travels.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Sent::Query(sql) => message::query(sql),
            Sent::Parse { name, sql } => message::parse(name, sql, &[]),
            Sent::Bind {
                portal,
                statement,
                values,
                results,
            } => {
                let values: Vec<_> = values
                    .iter()
                    .map(|value| value.as_ref().map(|value| value.as_bytes()))
                    .collect();
                let results = match results {
                    Results::Text => Format::Text,
                    Results::Binary => Format::Binary,
                };
                message::bind(portal, statement, Format::Text, &values, results)
            }
            Sent::DescribeStatement(name) => message::describe_statement(name),
            Sent::DescribePortal(name) => message::describe_portal(name),
            Sent::Execute { portal, rows, .. } => message::execute(portal, *rows),
            Sent::CloseStatement(name) => message::close_statement(name),
            Sent::ClosePortal(name) => message::close_portal(name),
            Sent::Flush | Sent::Wait => message::flush(),
            Sent::Sync => message::sync(),
            Sent::CopyData(data) => message::copy_data(data.as_bytes()),
            Sent::CopyDone => message::copy_done(),
            Sent::CopyFail => message::copy_fail("no more"),
        }
    }

    /// Whether an error of it is followed by silence up to the next Sync.
    pub fn is_extended(&self) -> bool {
        !matches!(self, Sent::Query(_) | Sent::Sync)
    }

    /// Whether nothing is ever said to it alone.
    pub fn is_silent(&self) -> bool {
        let copying = matches!(self, Sent::CopyData(_) | Sent::CopyDone | Sent::CopyFail);
        copying || matches!(self, Sent::Flush | Sent::Wait)
    }

    /// Whether a message of this kind ends its answer.
    pub fn is_ended_by(&self, kind: u8) -> bool {
        match self {
            Sent::Query(_) | Sent::Sync => kind == b'Z',
            Sent::Parse { .. } => kind == b'1',
            Sent::Bind { .. } => kind == b'2',
            Sent::CloseStatement(_) | Sent::ClosePortal(_) => kind == b'3',
            Sent::DescribeStatement(_) | Sent::DescribePortal(_) => matches!(kind, b'T' | b'n'),
            Sent::Execute { .. } => matches!(kind, b'C' | b'I' | b's'),
            _ => false,
        }
    }

    /// Whether the order of its rows is open.
    pub fn order(&self) -> Order {
        match self {
            Sent::Query(sql) => Order::of(sql),
            Sent::Execute { order, .. } => *order,
            _ => Order::Told,
        }
    }
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sent::Query(sql) => write!(f, "Query {sql}"),
            Sent::Parse { name, sql } => write!(f, "Parse {name:?} {sql}"),
            Sent::Bind {
                portal,
                statement,
                values,
                results,
            } => {
                let values: Vec<&str> =
                    values.iter().map(|v| v.as_deref().unwrap_or("∅")).collect();
                let values = values.join(", ");
                write!(f, "Bind {portal:?} of {statement:?} ({values}) {results:?}")
            }
            Sent::DescribeStatement(name) => write!(f, "Describe statement {name:?}"),
            Sent::DescribePortal(name) => write!(f, "Describe portal {name:?}"),
            Sent::Execute { portal, rows, .. } => write!(f, "Execute {portal:?} {rows}"),
            Sent::CloseStatement(name) => write!(f, "Close statement {name:?}"),
            Sent::ClosePortal(name) => write!(f, "Close portal {name:?}"),
            Sent::CopyData(data) => write!(f, "CopyData {data:?}"),
            other => write!(f, "{other:?}"),
        }
    }
}
