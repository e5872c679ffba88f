//! One statement's answer, in a form in which equal answers are equal.

use mothership_tests::Wire;
use mothership_tests::frame::show;
use std::fmt;

/// What one side said. Rows are sorted: no statement here has an order that counts.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Rows {
        rows: Vec<Vec<String>>,
        tag: String,
    },
    Error {
        code: String,
        message: String,
    },
    /// The connection is gone, or nothing came.
    Lost,
}

/// Runs a statement that may write in a transaction that is rolled back; others as they are.
pub fn ask(wire: &mut Wire, sql: &str) -> Answer {
    let reads = sql.trim_start().starts_with("select") || sql.trim_start().starts_with("with");
    if reads {
        return one(wire, sql);
    }
    if one(wire, "BEGIN") == Answer::Lost {
        return Answer::Lost;
    }
    let said = one(wire, sql);
    match one(wire, "ROLLBACK") {
        Answer::Lost => Answer::Lost,
        _ => said,
    }
}

fn one(wire: &mut Wire, sql: &str) -> Answer {
    if wire
        .try_send(&mothership_tests::message::query(sql))
        .is_err()
    {
        return Answer::Lost;
    }
    let Ok(frames) = wire.try_until_ready() else {
        return Answer::Lost;
    };
    if let Some(error) = frames.iter().find(|frame| frame.kind == b'E') {
        return Answer::Error {
            code: error.sqlstate(),
            message: ['M', 'D']
                .iter()
                .filter_map(|part| error.field(*part))
                .collect::<Vec<_>>()
                .join("; "),
        };
    }
    let rows = frames.iter().filter(|frame| frame.kind == b'D');
    let mut rows: Vec<Vec<String>> = rows
        .map(|row| row.row_text().into_iter().map(rounded).collect())
        .collect();
    rows.sort();
    let tag = frames.iter().rfind(|frame| frame.kind == b'C');
    Answer::Rows {
        rows,
        tag: tag
            .map(|tag| show(std::slice::from_ref(tag)))
            .unwrap_or_default(),
    }
}

/// The last digits of sums of floats depend on the order of rows.
fn rounded(value: String) -> String {
    match value.parse::<f64>() {
        Ok(number) if value.contains(['.', 'e']) => format!("{number:.5e}"),
        _ => value,
    }
}

/// A message without the names in it.
pub fn reason(message: &str) -> String {
    let mut parts = message.split('"');
    let mut out = parts.next().unwrap_or_default().to_owned();
    while let Some(_name) = parts.next() {
        out.push('…');
        out += parts.next().unwrap_or_default();
    }
    out
}

impl Answer {
    /// Whether both are the same but for the order of what stands within a value.
    pub fn is_in_another_order(&self, other: &Answer) -> bool {
        let blind = |answer: &Answer| match answer {
            Answer::Rows { rows, tag } => {
                let letters = |value: &String| {
                    let mut letters: Vec<char> = value.chars().collect();
                    letters.sort_unstable();
                    letters
                };
                let mut rows: Vec<Vec<Vec<char>>> = rows
                    .iter()
                    .map(|row| row.iter().map(letters).collect())
                    .collect();
                rows.sort();
                Some((rows, tag.clone()))
            }
            _ => None,
        };
        blind(self).is_some_and(|own| blind(other) == Some(own))
    }

    /// The SQLSTATE of an error.
    pub fn code(&self) -> Option<&str> {
        match self {
            Answer::Error { code, .. } => Some(code),
            _ => None,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Lost => write!(f, "no answer"),
            Answer::Error { code, message } => write!(f, "{code} {message}"),
            Answer::Rows { rows, tag } => {
                let shown: Vec<String> = rows.iter().take(5).map(|row| row.join("|")).collect();
                write!(f, "{} rows, {tag}: {}", rows.len(), shown.join(" ; "))
            }
        }
    }
}
