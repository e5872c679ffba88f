//! The options of a COPY statement, in both of its grammars.
//!
//! `COPY t FROM STDIN (FORMAT csv, HEADER)` and, from before PostgreSQL 9.0, `COPY
//! t FROM STDIN WITH CSV HEADER DELIMITER AS ';'`. An option that is not known here
//! is an error: it might change what a row is. So is a combination that PostgreSQL
//! refuses, because not every COPY is seen by a server of its.

use mothership_proto::report::{Report, sqlstate};

use super::format::{Columns, CopyFormat, CsvFormat, Header, TextFormat};
use mothership_sql::cursor::Cursor;
use mothership_sql::encoding::safe_encoding;
use mothership_sql::lexer::Kind;

/// What a COPY statement says about its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOptions {
    /// The form of the rows.
    pub format: CopyFormat,
    /// `ENCODING`
    pub encoding: Option<String>,
    /// `FREEZE`, which needs a table made in the same transaction.
    pub freeze: bool,
    /// `ON_ERROR ignore`: rows with invalid values are left out (PostgreSQL 17).
    pub ignore_errors: bool,
    /// `WHERE`: which rows are stored.
    pub has_condition: bool,
}

/// Why a COPY is not divided.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// The statement does not read as a COPY.
    #[error("the COPY statement is not understood")]
    Syntax,
    /// An option that is not known.
    #[error("COPY option \"{name}\" is not known")]
    Unknown {
        /// Its name.
        name: String,
    },
    /// An option with a value that is not known, or given twice.
    #[error("the value of COPY option \"{name}\" is not understood")]
    Value {
        /// Its name.
        name: String,
    },
    /// An option that goes with another form of rows, or the other direction.
    #[error("COPY option \"{name}\" does not go with the others")]
    Misplaced {
        /// Its name.
        name: &'static str,
    },
    /// An option that several shards cannot keep together.
    #[error("COPY option \"{name}\" cannot be kept over several shards")]
    Divided {
        /// Its name.
        name: String,
    },
    /// NULL or DEFAULT is written with letters that might be converted on the way.
    #[error("the markers of COPY for NULL and DEFAULT must be ASCII")]
    NotAscii,
}

impl OptionError {
    /// As the client sees it.
    pub fn report(&self) -> Report {
        Report::error(
            sqlstate::FEATURE_NOT_SUPPORTED,
            "this COPY cannot be divided by the shard key",
        )
        .detail(self.to_string())
        .hint("Leave the option out, or copy to each shard directly.")
    }
}

impl CopyOptions {
    /// Reads a whole COPY statement, in either direction.
    pub fn parse(
        sql: &[u8],
        standard_conforming_strings: bool,
    ) -> Result<CopyOptions, OptionError> {
        let mut cursor = Cursor::new(sql, standard_conforming_strings);
        while cursor.skip_semicolon() {}
        let mut given = ParsedOptions::default();
        front(&mut cursor, &mut given).ok_or(OptionError::Syntax)?;
        cursor.eat("with");
        match cursor.sees_kind(Kind::LParen) {
            true => generic(&mut cursor, &mut given)?,
            false => old(&mut cursor, &mut given)?,
        }
        // WHERE is evaluated by each server for its rows.
        given.has_condition = cursor.sees("where");
        if given.header == Some(Header::Match) && !given.is_from {
            // PostgreSQL allows it for what comes in only.
            return Err(OptionError::Value {
                name: "header".into(),
            });
        }
        match cursor.at_end() || given.has_condition {
            true => given.finish(),
            false => Err(OptionError::Syntax),
        }
    }
}

/// Options as they are read: each at most once.
#[derive(Default)]
struct ParsedOptions {
    is_from: bool,
    has_condition: bool,
    format: Option<Format>,
    delimiter: Option<Vec<u8>>,
    null: Option<Vec<u8>>,
    default: Option<Vec<u8>>,
    header: Option<Header>,
    quote: Option<Vec<u8>>,
    escape: Option<Vec<u8>>,
    force_null: Option<Columns>,
    force_not_null: Option<Columns>,
    force_quote: Option<Columns>,
    encoding: Option<Vec<u8>>,
    freeze: Option<bool>,
    ignore_errors: Option<bool>,
    log_verbosity: Option<()>,
}

#[derive(Clone, Copy)]
enum Format {
    Text,
    Csv,
    Binary,
}

/// Up to STDIN or STDOUT, and the old DELIMITERS behind it.
fn front(cursor: &mut Cursor<'_>, given: &mut ParsedOptions) -> Option<()> {
    if !cursor.eat("copy") {
        return None;
    }
    if cursor.group().is_none() {
        if cursor.eat("binary") {
            given.format = Some(Format::Binary);
        }
        cursor.path()?;
        cursor.group();
    }
    given.is_from = cursor.eat("from");
    let direction = given.is_from || cursor.eat("to");
    let client = cursor.eat_any(&["stdin", "stdout"]);
    let using = cursor.eat("using");
    if cursor.eat("delimiters") {
        given.delimiter = Some(cursor.string()?.0.into_owned());
    } else if using {
        return None;
    }
    (direction && client).then_some(())
}

/// `(FORMAT csv, HEADER)`
fn generic(cursor: &mut Cursor<'_>, given: &mut ParsedOptions) -> Result<(), OptionError> {
    cursor.eat_kind(Kind::LParen);
    loop {
        let name = cursor.name().ok_or(OptionError::Syntax)?;
        let name = String::from_utf8_lossy(name.as_bytes()).into_owned();
        let value = value(cursor).ok_or_else(|| OptionError::Value { name: name.clone() })?;
        option(given, &name, value)?;
        if !cursor.eat_kind(Kind::Comma) {
            break;
        }
    }
    match cursor.eat_kind(Kind::RParen) {
        true => Ok(()),
        false => Err(OptionError::Syntax),
    }
}

/// What follows an option's name.
enum Value {
    None,
    Star,
    Text(Vec<u8>),
    List(Vec<Vec<u8>>),
}

fn value(cursor: &mut Cursor<'_>) -> Option<Value> {
    if cursor.sees_kind(Kind::Comma) || cursor.sees_kind(Kind::RParen) {
        return Some(Value::None);
    }
    if cursor.eat_operator("*") {
        return Some(Value::Star);
    }
    if !cursor.eat_kind(Kind::LParen) {
        return word(cursor).map(Value::Text);
    }
    let mut list = vec![word(cursor)?];
    while cursor.eat_kind(Kind::Comma) {
        list.push(word(cursor)?);
    }
    cursor.eat_kind(Kind::RParen).then_some(Value::List(list))
}

/// A word, a string or a plain integer.
fn word(cursor: &mut Cursor<'_>) -> Option<Vec<u8>> {
    let token = cursor.peek()?;
    if token.kind.is_string() {
        return Some(cursor.string()?.0.into_owned());
    }
    if token.kind == Kind::Integer {
        let digits = token.text(cursor.sql());
        // PostgreSQL takes the number, not its spelling.
        let plain = digits == b"0" || !digits.starts_with(b"0");
        cursor.bump();
        return plain.then(|| digits.to_vec());
    }
    Some(cursor.name()?.0.into_owned())
}

fn option(given: &mut ParsedOptions, name: &str, value: Value) -> Result<(), OptionError> {
    let wrong = || OptionError::Value { name: name.into() };
    let known = match name {
        "format" => {
            let format = match value.text().as_deref() {
                Some(b"text") => Format::Text,
                Some(b"csv") => Format::Csv,
                Some(b"binary") => Format::Binary,
                _ => return Err(wrong()),
            };
            once(&mut given.format, Some(format))
        }
        "delimiter" => once(&mut given.delimiter, value.text()),
        "null" => once(&mut given.null, value.text()),
        "default" => once(&mut given.default, value.text()),
        "quote" => once(&mut given.quote, value.text()),
        "escape" => once(&mut given.escape, value.text()),
        "encoding" => once(&mut given.encoding, value.text()),
        "header" => once(&mut given.header, value.header()),
        "freeze" => once(&mut given.freeze, value.flag()),
        "force_null" => once(&mut given.force_null, value.columns()),
        "force_not_null" => once(&mut given.force_not_null, value.columns()),
        "force_quote" => once(&mut given.force_quote, value.columns()),
        "on_error" => {
            let ignore = match value.text() {
                Some(word) if word.eq_ignore_ascii_case(b"stop") => Some(false),
                Some(word) if word.eq_ignore_ascii_case(b"ignore") => Some(true),
                _ => None,
            };
            once(&mut given.ignore_errors, ignore)
        }
        "log_verbosity" => once(&mut given.log_verbosity, value.text().map(|_| ())),
        // Each server would count for itself.
        "reject_limit" => return Err(OptionError::Divided { name: name.into() }),
        _ => return Err(OptionError::Unknown { name: name.into() }),
    };
    known.ok_or_else(wrong)
}

/// Stores a value that is there, where there was none.
fn once<T>(place: &mut Option<T>, value: Option<T>) -> Option<()> {
    match place.is_some() {
        true => None,
        false => {
            *place = Some(value?);
            Some(())
        }
    }
}

impl Value {
    fn text(self) -> Option<Vec<u8>> {
        match self {
            Value::Text(text) => Some(text),
            Value::Star => Some(b"*".to_vec()),
            _ => None,
        }
    }

    fn flag(self) -> Option<bool> {
        match self.header()? {
            Header::No => Some(false),
            Header::Yes => Some(true),
            Header::Match => None,
        }
    }

    fn header(self) -> Option<Header> {
        let Value::Text(text) = self else {
            return matches!(self, Value::None).then_some(Header::Yes);
        };
        match &*text.to_ascii_lowercase() {
            b"true" | b"on" | b"1" => Some(Header::Yes),
            b"false" | b"off" | b"0" => Some(Header::No),
            b"match" => Some(Header::Match),
            _ => None,
        }
    }

    fn columns(self) -> Option<Columns> {
        match self {
            Value::Star => Some(Columns::All),
            Value::List(names) => Some(Columns::Named(names)),
            _ => None,
        }
    }
}

/// `CSV HEADER DELIMITER AS ';'`
fn old(cursor: &mut Cursor<'_>, given: &mut ParsedOptions) -> Result<(), OptionError> {
    while let Some(token) = cursor.peek().filter(|_| !cursor.sees("where")) {
        let name = String::from_utf8_lossy(token.text(cursor.sql())).to_ascii_lowercase();
        if token.kind != Kind::Word {
            return Err(OptionError::Syntax);
        }
        cursor.bump();
        let known = match &*name {
            "binary" => once(&mut given.format, Some(Format::Binary)),
            "csv" => once(&mut given.format, Some(Format::Csv)),
            "freeze" => once(&mut given.freeze, Some(true)),
            "header" => once(&mut given.header, Some(Header::Yes)),
            "delimiter" => once(&mut given.delimiter, string(cursor, true)),
            "null" => once(&mut given.null, string(cursor, true)),
            "quote" => once(&mut given.quote, string(cursor, true)),
            "escape" => once(&mut given.escape, string(cursor, true)),
            "encoding" => once(&mut given.encoding, string(cursor, false)),
            "force" if cursor.eat("quote") => once(&mut given.force_quote, columns(cursor)),
            "force" if cursor.eat_all(&["not", "null"]) => {
                once(&mut given.force_not_null, columns(cursor))
            }
            "force" if cursor.eat("null") => once(&mut given.force_null, columns(cursor)),
            _ => return Err(OptionError::Unknown { name }),
        };
        known.ok_or(OptionError::Value { name })?;
    }
    Ok(())
}

fn string(cursor: &mut Cursor<'_>, may_say_as: bool) -> Option<Vec<u8>> {
    if may_say_as {
        cursor.eat("as");
    }
    Some(cursor.string()?.0.into_owned())
}

fn columns(cursor: &mut Cursor<'_>) -> Option<Columns> {
    if cursor.eat_operator("*") {
        return Some(Columns::All);
    }
    let mut names = vec![cursor.name()?.0.into_owned()];
    while cursor.eat_kind(Kind::Comma) {
        names.push(cursor.name()?.0.into_owned());
    }
    Some(Columns::Named(names))
}

impl ParsedOptions {
    /// What PostgreSQL refuses together; see `ProcessCopyOptions` of its `copy.c`.
    fn check(&self) -> Result<(), OptionError> {
        let is_csv = matches!(self.format, Some(Format::Csv));
        let is_binary = matches!(self.format, Some(Format::Binary));
        let header = self.header.is_some_and(|header| header != Header::No);
        let misplaced = [
            ("delimiter", is_binary && self.delimiter.is_some()),
            ("null", is_binary && self.null.is_some()),
            ("default", is_binary && self.default.is_some()),
            ("header", is_binary && header),
            ("quote", !is_csv && self.quote.is_some()),
            ("escape", !is_csv && self.escape.is_some()),
            (
                "force_quote",
                (!is_csv || self.is_from) && self.force_quote.is_some(),
            ),
            (
                "force_null",
                !(is_csv && self.is_from) && self.force_null.is_some(),
            ),
            (
                "force_not_null",
                !(is_csv && self.is_from) && self.force_not_null.is_some(),
            ),
        ];
        match misplaced.into_iter().find(|(_, misplaced)| *misplaced) {
            Some((name, _)) => Err(OptionError::Misplaced { name }),
            None => Ok(()),
        }
    }

    fn finish(self) -> Result<CopyOptions, OptionError> {
        self.check()?;
        let encoding = self.encoding.map(|name| safe_name(&name)).transpose()?;
        let csv = matches!(self.format, Some(Format::Csv));
        let one = |name: &str, given: &Option<Vec<u8>>, otherwise: u8| match given.as_deref() {
            None => Ok(otherwise),
            Some(&[byte]) if byte.is_ascii() && !matches!(byte, 0 | b'\n' | b'\r') => Ok(byte),
            Some(_) => Err(OptionError::Value { name: name.into() }),
        };
        let delimiter = one("delimiter", &self.delimiter, if csv { b',' } else { b'\t' })?;
        let quote = one("quote", &self.quote, b'"')?;
        let escape = one("escape", &self.escape, quote)?;
        // PostgreSQL reads a backslash that is a quote twice where its buffer ends.
        if quote == b'\\' || (csv && quote == delimiter) {
            return Err(OptionError::Value {
                name: "quote".into(),
            });
        }
        // In text PostgreSQL refuses these; they would be read as parts of escapes.
        if !csv && (delimiter == b'\\' || delimiter == b'.' || delimiter.is_ascii_alphanumeric()) {
            let name = "delimiter".into();
            return Err(OptionError::Value { name });
        }
        let null = if csv { "" } else { "\\N" };
        let null = self.null.unwrap_or_else(|| null.into());
        let is_within = |byte: &u8| {
            matches!(byte, b'\n' | b'\r') || *byte == delimiter || csv && *byte == quote
        };
        if null.iter().any(is_within) {
            return Err(OptionError::Value {
                name: "null".into(),
            });
        }
        let text = TextFormat {
            delimiter,
            null,
            default: self.default,
            header: self.header.unwrap_or(Header::No),
        };
        let format = match self.format {
            Some(Format::Binary) => CopyFormat::Binary,
            Some(Format::Csv) => CopyFormat::Csv(CsvFormat {
                text,
                quote,
                escape,
                force_null: self.force_null.unwrap_or_default(),
                force_not_null: self.force_not_null.unwrap_or_default(),
            }),
            Some(Format::Text) | None => CopyFormat::Text(text),
        };
        Ok(CopyOptions {
            format,
            encoding,
            freeze: self.freeze.unwrap_or(false),
            ignore_errors: self.ignore_errors.unwrap_or(false),
            has_condition: self.has_condition,
        })
    }
}

/// An encoding whose bytes may be looked at one by one.
fn safe_name(name: &[u8]) -> Result<String, OptionError> {
    let name = String::from_utf8_lossy(name).into_owned();
    match safe_encoding(&name) {
        true => Ok(name),
        false => Err(OptionError::Value {
            name: "encoding".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &str) -> Result<CopyOptions, OptionError> {
        CopyOptions::parse(format!("COPY s.\"T\" (a, b) {options}").as_bytes(), true)
    }

    fn text(header: Header) -> TextFormat {
        TextFormat {
            delimiter: b'\t',
            null: b"\\N".to_vec(),
            default: None,
            header,
        }
    }

    fn csv(delimiter: u8, null: &str, header: Header) -> CsvFormat {
        CsvFormat {
            text: TextFormat {
                delimiter,
                null: null.into(),
                default: None,
                header,
            },
            quote: b'"',
            escape: b'"',
            force_null: Columns::None,
            force_not_null: Columns::None,
        }
    }

    #[test]
    fn both_grammars_say_the_same() {
        let named = |names: &[&str]| Columns::Named(names.iter().map(|n| (*n).into()).collect());
        let cases = [
            ("FROM STDIN", CopyFormat::Text(text(Header::No))),
            (
                "to stdout with (format 'text')",
                CopyFormat::Text(text(Header::No)),
            ),
            (
                "FROM STDIN (HEADER match)",
                CopyFormat::Text(text(Header::Match)),
            ),
            (
                "FROM STDIN (HEADER, FORMAT text);",
                CopyFormat::Text(text(Header::Yes)),
            ),
            ("FROM STDIN BINARY", CopyFormat::Binary),
            (
                "FROM STDIN WITH (FORMAT binary) WHERE a > 1",
                CopyFormat::Binary,
            ),
            (
                "FROM STDIN USING DELIMITERS '|' WITH NULL AS 'x'",
                CopyFormat::Text(TextFormat {
                    delimiter: b'|',
                    null: b"x".to_vec(),
                    ..text(Header::No)
                }),
            ),
            (
                "FROM STDIN CSV HEADER DELIMITER AS ';' NULL 'nil' WHERE a = 1",
                CopyFormat::Csv(csv(b';', "nil", Header::Yes)),
            ),
            (
                "FROM STDIN (FORMAT csv, HEADER on, DELIMITER ';', NULL nil, LOG_VERBOSITY verbose)",
                CopyFormat::Csv(csv(b';', "nil", Header::Yes)),
            ),
            (
                "FROM STDIN CSV QUOTE E'\\'' ESCAPE AS '!' FORCE NOT NULL a, \"B\" FORCE NULL c",
                CopyFormat::Csv(CsvFormat {
                    quote: b'\'',
                    escape: b'!',
                    force_not_null: named(&["a", "B"]),
                    force_null: named(&["c"]),
                    ..csv(b',', "", Header::No)
                }),
            ),
            (
                "FROM STDIN (FORMAT csv, QUOTE '''', FORCE_NULL *, FORCE_NOT_NULL (a, B), DEFAULT '\\D')",
                CopyFormat::Csv(CsvFormat {
                    text: TextFormat {
                        default: Some(b"\\D".to_vec()),
                        ..csv(b',', "", Header::No).text
                    },
                    quote: b'\'',
                    escape: b'\'',
                    force_null: Columns::All,
                    force_not_null: named(&["a", "b"]),
                }),
            ),
            (
                "TO STDOUT (FORMAT csv, FORCE_QUOTE *, HEADER false)",
                CopyFormat::Csv(csv(b',', "", Header::No)),
            ),
        ];
        for (options, format) in cases {
            assert_eq!(parse(options).map(|o| o.format), Ok(format), "{options}");
        }
        let binary = CopyOptions::parse(b"COPY BINARY t FROM STDIN", true);
        assert_eq!(binary.map(|o| o.format), Ok(CopyFormat::Binary));
        let query = CopyOptions::parse(b"COPY (SELECT ')') TO STDOUT CSV", true);
        assert!(query.is_ok());
    }

    #[test]
    fn other_options_are_kept() {
        let all = parse("FROM STDIN (FREEZE, ENCODING 'latin1', ON_ERROR ignore)").unwrap();
        assert!(all.freeze && all.ignore_errors);
        assert_eq!(all.encoding.as_deref(), Some("latin1"));
        assert!(
            parse("FROM STDIN CSV FREEZE ENCODING 'UTF8'")
                .unwrap()
                .freeze
        );
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for options in [
            "FROM STDIN (FORMAT parquet)",
            "FROM STDIN (FORMAT 'CSV')",
            "FROM STDIN (OIDS)",
            "FROM STDIN OIDS",
            "FROM STDIN (HEADER 2)",
            "FROM STDIN (HEADER, HEADER)",
            "FROM STDIN (DELIMITER 'ab')",
            "FROM STDIN (DELIMITER 'ä')",
            "FROM STDIN (DELIMITER 'a')",
            "FROM STDIN (DELIMITER 007)",
            "FROM STDIN (FORMAT csv, QUOTE '\\')",
            "FROM STDIN (FORMAT csv, QUOTE ',')",
            "FROM STDIN (QUOTE '!')",
            "FROM STDIN (FORMAT binary, HEADER)",
            "FROM STDIN BINARY NULL 'x'",
            "FROM STDIN (FORCE_NULL *)",
            "FROM STDIN (FORMAT csv, FORCE_QUOTE *)",
            "TO STDOUT (FORMAT csv, FORCE_NULL *)",
            "TO STDOUT (FORMAT csv, HEADER MATCH)",
            "FROM STDIN (NULL E'a\tb')",
            "FROM STDIN (FORMAT csv, NULL '\"')",
            "FROM STDIN (ENCODING 'SJIS')",
            "FROM STDIN (REJECT_LIMIT 3, ON_ERROR ignore)",
            "FROM STDIN (ON_ERROR set_null)",
            "FROM STDIN ()",
            "FROM STDIN (FORMAT csv",
            "FROM STDIN CSV 5",
            "FROM STDIN CSV FORCE a",
            "FROM '/etc/passwd'",
            "FROM PROGRAM 'ls'",
            "FROM STDIN USING ','",
            "",
        ] {
            assert!(parse(options).is_err(), "{options}");
        }
    }
}
