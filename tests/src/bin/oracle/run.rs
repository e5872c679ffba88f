//! Ways to run a statement: each sends messages on a raw connection and makes one
//! [`Answer`] of what comes back.

use crate::statement::{Statement, Value};
use crate::values::Ty;
use mothership_tests::frame::Frame;
use mothership_tests::message::{self, message as framed};
use mothership_tests::wire::{Silence, Wire};
use std::time::Duration;

/// How long an answer may take; PostgreSQL itself ends what takes long before.
pub const LIMIT: Duration = Duration::from_secs(20);

/// How a statement is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Simple,
    /// Parse, Bind, Execute with text; the most rows of one Execute, 0: all.
    Text(u32),
    /// The same with binary results and parameters.
    Binary(u32),
    /// One statement run once and nothing else: Parse, Bind, Describe of the portal, Execute, Sync; with binary results.
    Whole,
    /// With text and a row limit, and the rest is never fetched.
    Part(u32),
    /// The same as text, where the server has to find the types of the parameters.
    Untyped(u32),
    /// PREPARE and EXECUTE.
    Prepare,
    /// The same where the server has to find the types.
    PrepareUntyped,
    /// COPY (…) TO STDOUT.
    Copy,
}

/// One column of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub ty: u32,
    pub modifier: i32,
    pub format: u16,
}

/// A row, value by value.
pub type Row = Vec<Option<Vec<u8>>>;

/// What a server said to one statement.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The kinds of messages in their order; rows in a row count once.
    pub shape: String,
    pub columns: Vec<Column>,
    /// Types of parameters.
    pub parameters: Vec<u32>,
    pub rows: Vec<Row>,
    pub tags: Vec<String>,
    /// SQLSTATE and message.
    pub error: Option<(String, String)>,
    /// The transaction's state at the end.
    pub status: char,
    pub copied: bool,
}

/// There was none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    Hung,
    Closed,
}

impl Answer {
    fn take(&mut self, frame: &Frame) {
        let kind = char::from(frame.kind);
        match kind {
            'T' => self.columns = columns(&frame.body),
            'D' => self.rows.push(frame.row()),
            'd' => {
                self.copied = true;
                self.rows.push(copied_row(&frame.body));
            }
            't' => {
                let oids = frame.body[2..].chunks(4);
                self.parameters = oids
                    .map(|oid| u32::from_be_bytes(oid.try_into().unwrap()))
                    .collect();
            }
            'C' => self.tags.push(frame.text()),
            'E' => {
                let message = frame.field('M').unwrap_or_default();
                self.error = Some((frame.sqlstate(), message));
            }
            'Z' => self.status = frame.transaction(),
            _ => {}
        }
        // Settings and notices come when they come.
        let again = matches!(kind, 'D' | 'd') && self.shape.ends_with(kind);
        if !again && !matches!(kind, 'S' | 'N') {
            self.shape.push(kind);
        }
    }
}

fn copied_row(line: &[u8]) -> Row {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let values = line.split(|byte| *byte == b'\t');
    values
        .map(|value| (value != b"\\N").then(|| value.to_vec()))
        .collect()
}

fn columns(body: &[u8]) -> Vec<Column> {
    let mut rest = &body[2..];
    let mut columns = Vec::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == 0).unwrap();
        let name = String::from_utf8_lossy(&rest[..end]).into_owned();
        let fields = &rest[end + 1..];
        columns.push(Column {
            name,
            ty: u32::from_be_bytes(fields[6..10].try_into().unwrap()),
            modifier: i32::from_be_bytes(fields[12..16].try_into().unwrap()),
            format: u16::from_be_bytes(fields[16..18].try_into().unwrap()),
        });
        rest = &fields[18..];
    }
    columns
}

/// Reads until ReadyForQuery, or until one of these kinds.
fn collect(wire: &mut Wire, answer: &mut Answer, until: &[u8]) -> Result<u8, Lost> {
    loop {
        let frame = wire.try_frame(LIMIT).map_err(|silence| match silence {
            Silence::Late => Lost::Hung,
            Silence::Closed => Lost::Closed,
        })?;
        answer.take(&frame);
        if frame.kind == b'Z' || until.contains(&frame.kind) {
            return Ok(frame.kind);
        }
    }
}

fn send(wire: &mut Wire, bytes: &[u8]) -> Result<(), Lost> {
    wire.try_send(bytes).map_err(|_| Lost::Closed)
}

/// A simple query.
pub fn simple(wire: &mut Wire, sql: &str) -> Result<Answer, Lost> {
    let mut answer = Answer::default();
    send(wire, &message::query(sql))?;
    collect(wire, &mut answer, &[])?;
    Ok(answer)
}

/// The rows of a simple query as text.
pub fn rows(wire: &mut Wire, sql: &str) -> Vec<Vec<String>> {
    wire.rows(sql)
}

/// Runs the statement this way.
pub fn run(wire: &mut Wire, protocol: Protocol, statement: &Statement) -> Result<Answer, Lost> {
    match protocol {
        Protocol::Simple => simple(wire, &statement.inline()),
        Protocol::Copy => simple(wire, &format!("COPY ({}) TO STDOUT", statement.inline())),
        Protocol::Prepare => prepared(wire, statement, Types::Given),
        Protocol::PrepareUntyped => prepared(wire, statement, Types::Open),
        Protocol::Text(rows) => extended(wire, statement, (Types::Given, false), rows),
        Protocol::Untyped(rows) => extended(wire, statement, (Types::Open, false), rows),
        Protocol::Whole => extended_whole(wire, statement),
        Protocol::Part(rows) => extended_in_part(wire, statement, rows),
        Protocol::Binary(rows) => extended(wire, statement, (Types::Given, true), rows),
    }
}

/// Whether the types of parameters are declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Types {
    Given,
    /// The server finds them.
    Open,
}

fn prepared(wire: &mut Wire, statement: &Statement, types: Types) -> Result<Answer, Lost> {
    let (text, values) = statement.parameters();
    let names: Vec<&str> = values.iter().map(|value| value.ty.name()).collect();
    let types = match names.is_empty() || types == Types::Open {
        true => String::new(),
        false => format!(" ({})", names.join(", ")),
    };
    let answer = simple(wire, &format!("PREPARE p{types} AS {text}"))?;
    if answer.error.is_some() {
        return Ok(answer);
    }
    let values: Vec<&str> = values.iter().map(|value| value.inline.as_str()).collect();
    let values = match values.is_empty() {
        true => String::new(),
        false => format!(" ({})", values.join(", ")),
    };
    let answer = simple(wire, &format!("EXECUTE p{values}"))?;
    if answer.status != 'E' {
        let gone = simple(wire, "DEALLOCATE p")?;
        if gone.error.is_some() {
            // A timeout that ran out while the last rows were sent is told only now.
            return Ok(gone);
        }
    }
    Ok(answer)
}

fn extended(
    wire: &mut Wire,
    statement: &Statement,
    (types, binary): (Types, bool),
    rows: u32,
) -> Result<Answer, Lost> {
    let (text, values) = statement.parameters();
    let types: Vec<u32> = match types {
        Types::Given => values.iter().map(|value| value.ty.oid()).collect(),
        Types::Open => Vec::new(),
    };
    let mut answer = Answer::default();
    let mut values_sent = Vec::new();
    for value in &values {
        let bytes = value.text.as_ref().map(|text| match binary {
            true => in_binary(value.ty, text),
            false => (text.as_bytes().to_vec(), false),
        });
        values_sent.push(bytes);
    }
    let mut first = vec![
        message::parse("", &text, &types),
        message::describe_statement(""),
        bind(&values_sent, binary),
        message::describe_portal(""),
        message::execute("", rows),
    ];
    if rows == 0 {
        first.push(message::sync());
        send(wire, &first.concat())?;
        collect(wire, &mut answer, &[])?;
        return Ok(answer);
    }
    first.push(message::flush());
    send(wire, &first.concat())?;
    while collect(wire, &mut answer, b"sCEI")? == b's' {
        let more = [message::execute("", rows), message::flush()];
        send(wire, &more.concat())?;
    }
    send(wire, &message::sync())?;
    collect(wire, &mut answer, b"")?;
    Ok(answer)
}

/// The columns as they are told of before anything is planned.
pub fn described(wire: &mut Wire, statement: &Statement) -> Result<Vec<Column>, Lost> {
    let messages = [
        message::parse("", &statement.inline(), &[]),
        message::describe_statement(""),
        message::sync(),
    ];
    let mut answer = Answer::default();
    send(wire, &messages.concat())?;
    collect(wire, &mut answer, &[])?;
    Ok(answer.columns)
}

/// The first rows alone; which these are is nobody's promise, so only their number stays.
fn extended_in_part(wire: &mut Wire, statement: &Statement, rows: u32) -> Result<Answer, Lost> {
    let mut answer = in_one_segment(wire, statement, (false, rows))?;
    answer.rows.iter_mut().for_each(Vec::clear);
    Ok(answer)
}

fn extended_whole(wire: &mut Wire, statement: &Statement) -> Result<Answer, Lost> {
    in_one_segment(wire, statement, (true, 0))
}

/// Values as text; `binary` results, and at most so many `rows`.
fn in_one_segment(
    wire: &mut Wire,
    statement: &Statement,
    (binary, rows): (bool, u32),
) -> Result<Answer, Lost> {
    let (text, values) = statement.parameters();
    let types: Vec<u32> = values.iter().map(|value| value.ty.oid()).collect();
    let sent = |value: &&Value| {
        let text = value.text.as_ref()?;
        Some((text.as_bytes().to_vec(), false))
    };
    let sent: Vec<_> = values.iter().map(sent).collect();
    let messages = [
        message::parse("", &text, &types),
        bind(&sent, binary),
        message::describe_portal(""),
        message::execute("", rows),
        message::sync(),
    ];
    let mut answer = Answer::default();
    send(wire, &messages.concat())?;
    collect(wire, &mut answer, &[])?;
    Ok(answer)
}

/// A value's bytes and whether they are binary; what has no simple binary form is sent as text.
fn in_binary(ty: Ty, text: &str) -> (Vec<u8>, bool) {
    let bytes = match ty {
        Ty::Int2 => text.parse::<i16>().ok().map(|n| n.to_be_bytes().to_vec()),
        Ty::Int4 => text.parse::<i32>().ok().map(|n| n.to_be_bytes().to_vec()),
        Ty::Int8 => text.parse::<i64>().ok().map(|n| n.to_be_bytes().to_vec()),
        Ty::Float8 => text.parse::<f64>().ok().map(|n| n.to_be_bytes().to_vec()),
        Ty::Bool => Some(vec![u8::from(text == "t")]),
        Ty::Text | Ty::Icu | Ty::Nondet | Ty::Varchar => Some(text.as_bytes().to_vec()),
        Ty::Uuid => {
            let digits: String = text.chars().filter(|c| *c != '-').collect();
            u128::from_str_radix(&digits, 16)
                .ok()
                .map(|n| n.to_be_bytes().to_vec())
        }
        _ => None,
    };
    match bytes {
        Some(bytes) => (bytes, true),
        None => (text.as_bytes().to_vec(), false),
    }
}

/// Bind of the unnamed statement, each value in its own format.
fn bind(values: &[Option<(Vec<u8>, bool)>], binary_results: bool) -> Vec<u8> {
    let count = |n: usize| u16::try_from(n).unwrap().to_be_bytes();
    let mut body = vec![0, 0];
    body.extend(count(values.len()));
    for value in values {
        let binary = value.as_ref().is_some_and(|(_, binary)| *binary);
        body.extend(u16::from(binary).to_be_bytes());
    }
    body.extend(count(values.len()));
    for value in values {
        match value {
            None => body.extend((-1_i32).to_be_bytes()),
            Some((bytes, _)) => {
                body.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
                body.extend(bytes);
            }
        }
    }
    body.extend(count(1));
    body.extend(u16::from(binary_results).to_be_bytes());
    framed(b'B', &body)
}
