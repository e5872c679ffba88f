//! The form of COPY's rows: every option that decides where a row or a field ends, and what is NULL.

/// The form of the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    /// `FORMAT text`
    Text(TextFormat),
    /// `FORMAT csv`
    Csv(CsvFormat),
    /// `FORMAT binary`
    Binary,
}

/// What text and CSV have in common. All bytes are in the encoding of the statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextFormat {
    /// Between fields; ASCII.
    pub delimiter: u8,
    /// What stands for NULL.
    pub null: Vec<u8>,
    /// What stands for the column's default (PostgreSQL 16).
    pub default: Option<Vec<u8>>,
    /// Whether the first line is a header.
    pub header: Header,
}

/// CSV.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvFormat {
    /// What it shares with text.
    pub text: TextFormat,
    /// Around fields; ASCII.
    pub quote: u8,
    /// Before a quote or itself within quotes; ASCII. Often the same as `quote`.
    pub escape: u8,
    /// Columns whose quoted fields may be NULL too.
    pub force_null: Columns,
    /// Columns whose unquoted fields are never NULL.
    pub force_not_null: Columns,
}

/// The first line of text or CSV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// A row.
    No,
    /// Column names, not looked at.
    Yes,
    /// Column names that must be right (PostgreSQL 15).
    Match,
}

/// Columns that an option names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Columns {
    /// None.
    #[default]
    None,
    /// `*`
    All,
    /// These.
    Named(Vec<Vec<u8>>),
}

impl Columns {
    /// Whether this column is one of them.
    pub fn contain(&self, name: &[u8]) -> bool {
        match self {
            Columns::None => false,
            Columns::All => true,
            Columns::Named(names) => names.iter().any(|n| n == name),
        }
    }
}

impl CopyFormat {
    /// What text and CSV have in common; none for binary.
    pub fn text(&self) -> Option<&TextFormat> {
        match self {
            CopyFormat::Text(text) => Some(text),
            CopyFormat::Csv(csv) => Some(&csv.text),
            CopyFormat::Binary => None,
        }
    }

    /// Whether a header line comes first.
    pub fn has_header_line(&self) -> bool {
        self.text().is_some_and(|text| text.header != Header::No)
    }
}
