//! A statement without its values, fit for the log.
//!
//! In: the client's bytes. Out: one line of its words, names and operators, with `?`
//! for every literal, for every value of a SET, and for whatever cannot be read. Comments
//! are left out. A parameter stays `$1`: its value is not in the text.

use super::lexer::{Kind, Lexer};

/// Writes it, at most `most` bytes and perhaps one token more.
pub fn redact(sql: &[u8], standard_conforming_strings: bool, most: usize) -> String {
    let mut line = String::new();
    let mut part = Part::First;
    for token in Lexer::new(sql, standard_conforming_strings) {
        if line.len() >= most {
            line.push_str(" ...");
            break;
        }
        let text = token.text(sql);
        let shown = match token.kind {
            _ if part == Part::Value && token.kind != Kind::Semicolon => continue,
            Kind::Unterminated | Kind::Unknown => {
                put(&mut line, "?");
                break;
            }
            Kind::Integer
            | Kind::Decimal
            | Kind::UncertainNumber
            | Kind::BitString
            | Kind::HexString => "?".into(),
            kind if kind.is_string() => "?".into(),
            _ => String::from_utf8_lossy(text),
        };
        put(&mut line, &shown);
        part = part.after(token.kind, text);
        if part == Part::Value {
            put(&mut line, "?");
        }
    }
    line
}

fn put(line: &mut String, token: &str) {
    if !line.is_empty() {
        line.push(' ');
    }
    line.push_str(token);
}

/// Where in a statement a token stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Nothing of it was read.
    First,
    /// In a statement whose SET is that of a setting.
    Alter,
    /// After that SET, before its value.
    Setting,
    /// In the value of a setting, which may be a bare word.
    Value,
    /// In any other statement.
    Other,
}

impl Part {
    fn after(self, kind: Kind, text: &[u8]) -> Self {
        let is = |word: &str| kind == Kind::Word && text.eq_ignore_ascii_case(word.as_bytes());
        match self {
            _ if kind == Kind::Semicolon => Self::First,
            Self::First if is("set") => Self::Setting,
            Self::First if is("alter") || is("create") => Self::Alter,
            Self::First => Self::Other,
            Self::Alter if is("set") => Self::Setting,
            Self::Setting if is("to") || text == b"=" => Self::Value,
            part => part,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::redact;

    #[test]
    fn no_value_is_left_in_a_statement() {
        for (sql, expected) in [
            (
                "SELECT  a+1, 'x''y' FROM t -- 'z'\nWHERE b = $1",
                "SELECT a + ? , ? FROM t WHERE b = $1",
            ),
            (
                "select E'\\'', $$q$$, B'1', x'ff', U&'a', 1.5e3, -2",
                "select ? , ? , ? , ? , ? , ? , - ?",
            ),
            (
                "SET a.token = secret; SELECT 1",
                "SET a . token = ? ; SELECT ?",
            ),
            ("set local a to secret, other", "set local a to ?"),
            ("ALTER ROLE r SET a = secret", "ALTER ROLE r SET a = ?"),
            ("ALTER ROLE r PASSWORD 'secret'", "ALTER ROLE r PASSWORD ?"),
            ("UPDATE t SET a = b, c = 2", "UPDATE t SET a = b , c = ?"),
            ("SELECT 1 /* secret */ 'open", "SELECT ? ?"),
            ("", ""),
        ] {
            assert_eq!(redact(sql.as_bytes(), true, 1000), expected);
        }
        assert_eq!(redact(b"select a, b, c", true, 8), "select a ...");
    }
}
