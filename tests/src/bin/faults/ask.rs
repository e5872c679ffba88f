//! What rows ask and how they look at answers.

use mothership_tests::wire::{Silence, Wire};
use mothership_tests::{Frame, message};

/// One statement by the simple protocol and by the extended one.
pub fn both(sql: &str) -> [Vec<u8>; 2] {
    [message::query(sql), extended(sql)]
}

/// One statement through the unnamed statement and portal, ended by Sync.
pub fn extended(sql: &str) -> Vec<u8> {
    [
        message::parse("", sql, &[]),
        message::bind_text(&[]),
        message::execute("", 0),
        message::sync(),
    ]
    .concat()
}

/// An answer, a line for each message; the last line is `closed` or `late` if ReadyForQuery did not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer(pub Vec<String>);

/// Sends a request and reads its answer.
pub fn ask(wire: &mut Wire, request: &[u8]) -> Answer {
    // If it cannot be sent, what was said before the end is read all the same.
    let _ = wire.try_send(request);
    read(wire)
}

/// A simple query.
pub fn say(wire: &mut Wire, sql: &str) -> Answer {
    ask(wire, &message::query(sql))
}

/// The next answer, up to ReadyForQuery.
pub fn read(wire: &mut Wire) -> Answer {
    let (frames, end) = match wire.try_until_ready() {
        Ok(frames) => (frames, None),
        Err((frames, Silence::Closed)) => (frames, Some("closed")),
        Err((frames, Silence::Late)) => (frames, Some("late")),
    };
    let shown = frames.iter().filter(|frame| frame.kind != b'S');
    let lines = shown.map(Frame::to_string);
    Answer(lines.chain(end.map(str::to_owned)).collect())
}

impl Answer {
    /// The SQLSTATEs of all errors.
    pub fn errors(&self) -> Vec<&str> {
        let errors = self.0.iter().filter_map(|line| line.strip_prefix("Error "));
        // Of a damaged one perhaps nothing is left.
        errors.map(|rest| rest.get(..5).unwrap_or(rest)).collect()
    }

    /// The last line.
    pub fn last(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    /// The values of all rows.
    pub fn rows(&self) -> Vec<&str> {
        let rows = self.0.iter();
        rows.filter_map(|line| line.strip_prefix("DataRow "))
            .collect()
    }

    /// Whether some statement was told to be done.
    pub fn is_done(&self) -> bool {
        let is_done = |line: &String| line.starts_with("CommandComplete");
        self.0.iter().any(is_done)
    }

    /// Exactly one error, of one of these states, and then ReadyForQuery with this status; nothing was told to be done.
    pub fn is_error(&self, states: &[&str], status: char) -> bool {
        let errors = self.errors();
        errors.len() == 1
            && states.contains(&errors[0])
            && self.last() == format!("ReadyForQuery {status}")
            && !self.is_done()
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.len() {
            0..=6 => write!(f, "{}", self.0.join(" | ")),
            all => write!(
                f,
                "{} | … {} messages … | {}",
                self.0[0],
                all - 3,
                self.0[all - 2..].join(" | ")
            ),
        }
    }
}
