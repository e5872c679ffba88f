//! Texts that ask for the number of the client's process, or are about another one's.

use mothership_sql::places::Change;
use mothership_sql::process::{Question, Signal, SignalRows, Target};

/// What a text was made of.
#[derive(Clone, Debug)]
pub struct Rewritten {
    /// The client's text.
    pub sql: Box<[u8]>,
    /// How it was changed.
    pub changes: Vec<Change>,
    /// What it is about, if it is about another process and nothing else.
    pub about: Option<About>,
}

/// A statement about one other process.
#[derive(Clone, Debug)]
pub enum About {
    /// It does something to that process.
    Signal(Signal),
    /// It asks what that process waits for.
    Question(Question),
    /// It does something to each process whose number stands in a table.
    Rows(SignalRows),
}

impl About {
    /// What a text is about.
    pub fn of(sql: &[u8], strings: bool) -> Option<About> {
        let signal = Signal::of(sql, strings).map(About::Signal);
        signal
            .or_else(|| Question::of(sql, strings).map(About::Question))
            .or_else(|| SignalRows::of(sql, strings).map(About::Rows))
    }

    /// The process that stands in the text; `None` if those of rows are meant.
    pub fn target(&self) -> Option<Target> {
        match self {
            About::Signal(signal) => Some(signal.target),
            About::Question(question) => Some(question.target),
            About::Rows(_) => None,
        }
    }
}
