//! What a client is told of a value or a row that cannot be.

/// An error in PostgreSQL's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// Its code, see PostgreSQL's appendix A.
    pub sqlstate: &'static str,
    /// What it is.
    pub message: String,
    /// More of it.
    pub detail: Option<String>,
    /// What may be done about it.
    pub hint: Option<&'static str>,
    /// The schema and the name of the table that it is about.
    pub table: Option<Box<(String, String)>>,
    /// The column that it is about.
    pub column: Option<String>,
}

impl Fault {
    /// An error without any particulars.
    pub fn new(sqlstate: &'static str, message: impl Into<String>) -> Fault {
        Fault {
            sqlstate,
            message: message.into(),
            detail: None,
            hint: None,
            table: None,
            column: None,
        }
    }

    /// The same with a hint.
    pub fn hint(self, hint: &'static str) -> Fault {
        Fault {
            hint: Some(hint),
            ..self
        }
    }

    /// The same with a detail.
    pub fn detail(self, detail: impl Into<String>) -> Fault {
        Fault {
            detail: Some(detail.into()),
            ..self
        }
    }
}
