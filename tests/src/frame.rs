//! What a server said, message by message, and how tests look at it.

use std::fmt;

/// One message of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The type byte.
    pub kind: u8,
    /// All after the length.
    pub body: Vec<u8>,
}

impl Frame {
    /// A field of an ErrorResponse or NoticeResponse: `C` is the SQLSTATE, `M` the message, `D` detail, `H` hint.
    pub fn field(&self, code: char) -> Option<String> {
        assert!(matches!(self.kind, b'E' | b'N'), "no error: {self}");
        self.body
            .split(|byte| *byte == 0)
            .find(|field| field.first().copied().map(char::from) == Some(code))
            .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
    }

    /// The SQLSTATE of an error.
    pub fn sqlstate(&self) -> String {
        self.field('C').expect("an error has a SQLSTATE")
    }

    /// The values of a DataRow.
    pub fn row(&self) -> Vec<Option<Vec<u8>>> {
        assert_eq!(self.kind, b'D', "no DataRow: {self}");
        self.try_row().expect("a DataRow is what its length says")
    }

    /// The same of one that may have been damaged.
    pub fn try_row(&self) -> Option<Vec<Option<Vec<u8>>>> {
        let (count, mut rest) = self.body.split_first_chunk::<2>()?;
        let mut values = Vec::new();
        for _ in 0..u16::from_be_bytes(*count) {
            let (length, tail) = rest.split_first_chunk::<4>()?;
            let length = usize::try_from(i32::from_be_bytes(*length)).ok();
            let (value, tail) = match length {
                None => (None, tail),
                Some(length) => {
                    let (value, tail) = tail.split_at_checked(length)?;
                    (Some(value.to_vec()), tail)
                }
            };
            rest = tail;
            values.push(value);
        }
        rest.is_empty().then_some(values)
    }

    /// The values of a DataRow as text, NULL as `∅`.
    pub fn row_text(&self) -> Vec<String> {
        let text = |value: Option<Vec<u8>>| match value {
            None => "∅".to_string(),
            Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        };
        self.row().into_iter().map(text).collect()
    }

    /// The names of the columns in a RowDescription.
    pub fn columns(&self) -> Vec<String> {
        assert_eq!(self.kind, b'T', "no RowDescription: {self}");
        self.try_columns()
            .expect("a RowDescription is what its length says")
    }

    /// The same of one that may have been damaged.
    pub fn try_columns(&self) -> Option<Vec<String>> {
        let mut rest = self.body.get(2..)?;
        let mut names = Vec::new();
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == 0)?;
            names.push(String::from_utf8_lossy(&rest[..end]).into_owned());
            // Table, column, type, size, modifier and format: 18 bytes.
            rest = rest.get(end + 1 + 18..)?;
        }
        Some(names)
    }

    /// The transaction state in ReadyForQuery: `I`, `T` or `E`.
    pub fn transaction(&self) -> char {
        assert_eq!(self.kind, b'Z', "no ReadyForQuery: {self}");
        char::from(self.body[0])
    }

    /// The zero-terminated text that the body begins with.
    pub fn text(&self) -> String {
        let end = self.body.iter().position(|byte| *byte == 0);
        String::from_utf8_lossy(&self.body[..end.unwrap_or(self.body.len())]).into_owned()
    }
}

/// One line, good for comparing whole answers: `RowDescription a b`, `DataRow 1 x`, `Error 22012 division by zero`.
impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = |field| self.field(field).unwrap_or_default();
        match self.kind {
            b'1' => f.write_str("ParseComplete"),
            b'2' => f.write_str("BindComplete"),
            b'3' => f.write_str("CloseComplete"),
            b'A' => write!(f, "Notification"),
            b'C' => write!(f, "CommandComplete {}", self.text()),
            b'D' if self.try_row().is_none() => f.write_str("DataRow (damaged)"),
            b'D' => write!(f, "DataRow {}", self.row_text().join(" ")),
            b'E' => write!(f, "Error {} {}", error('C'), error('M')),
            b'G' => f.write_str("CopyInResponse"),
            b'H' => f.write_str("CopyOutResponse"),
            b'I' => f.write_str("EmptyQueryResponse"),
            b'K' => f.write_str("BackendKeyData"),
            b'N' => write!(f, "Notice {} {}", error('C'), error('M')),
            b'R' => f.write_str("Authentication"),
            b'S' => write!(f, "ParameterStatus {}", self.text()),
            b'T' if self.try_columns().is_none() => f.write_str("RowDescription (damaged)"),
            b'T' => write!(f, "RowDescription {}", self.columns().join(" ")),
            b'V' => f.write_str("FunctionCallResponse"),
            b'Z' if self.body.is_empty() => f.write_str("ReadyForQuery (damaged)"),
            b'Z' => write!(f, "ReadyForQuery {}", self.transaction()),
            b'c' => f.write_str("CopyDone"),
            b'd' => write!(
                f,
                "CopyData {}",
                String::from_utf8_lossy(&self.body).trim_end()
            ),
            b'n' => f.write_str("NoData"),
            b's' => f.write_str("PortalSuspended"),
            b't' => write!(f, "ParameterDescription {}", self.body.len() / 4),
            b'v' => f.write_str("NegotiateProtocolVersion"),
            other => write!(f, "{:?} {:?}", char::from(other), self.body),
        }
    }
}

/// One line for each message.
pub fn show(frames: &[Frame]) -> String {
    frames.iter().map(|frame| format!("{frame}\n")).collect()
}
