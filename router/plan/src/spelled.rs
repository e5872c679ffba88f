//! Strings and names in spellings that the parser reads otherwise than PostgreSQL: escapes of Unicode, constants that go
//! on on the next line, backslashes where they escape in every string.
//!
//! Our lexer finds them and `sql::name` decodes them. The parser gets the text with a plain constant of the same length in
//! the place of each, so that every place in it is one of the client's text, and then, in the place of that constant, a
//! token with the value. Nothing is done to a text that was understood as it is.

use std::ops::Range;

use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::parse;
use super::refuse::{Refusal, not_understood};
use mothership_sql::lexer::{self, Kind, Lexer};
use mothership_sql::name;

/// A text in which nothing is spelled in a way of its own.
pub struct Spelled {
    /// The text with plain constants in the places of the others.
    pub plain: String,
    /// Where these begin, and what they are.
    tokens: Vec<(usize, Token)>,
}

impl Spelled {
    /// `None` if there is nothing of the kind in a text, or if it is not certain what that is.
    pub fn of(sql: &str, standard_conforming_strings: bool) -> Option<Spelled> {
        let mut plain = String::with_capacity(sql.len());
        let mut tokens = Vec::new();
        let mut kept = 0;
        for token in Lexer::new(sql.as_bytes(), standard_conforming_strings) {
            if !is_odd(
                &sql[token.start..token.end],
                token.kind,
                standard_conforming_strings,
            ) {
                continue;
            }
            let (meant, place) = meant(token, sql, standard_conforming_strings)?;
            plain.push_str(sql.get(kept..place.start)?);
            kept = place.end;
            plain.push_str(&blank(&meant, &sql[place.clone()])?);
            tokens.push((place.start, meant));
        }
        plain.push_str(sql.get(kept..)?);
        (!tokens.is_empty() && plain.len() == sql.len()).then_some(Spelled { plain, tokens })
    }

    /// The tokens of the text, each with its place.
    ///
    /// # Errors
    /// If the plain text is cut otherwise, as one in which two constants stand side by side.
    pub fn tokens(&self) -> Result<Vec<TokenWithSpan>, Refusal> {
        let mut tokens = parse::tokens(&self.plain)?;
        let starts = parse::byte_starts(&self.plain, &tokens);
        let mut next = self.tokens.iter().peekable();
        for (token, start) in tokens.iter_mut().zip(starts) {
            if let Some((_, meant)) = next.next_if(|(place, _)| *place == start) {
                token.token = meant.clone();
            }
        }
        match next.next() {
            None => Ok(tokens),
            Some(_) => not_understood(),
        }
    }
}

/// Whether the parser may read a token otherwise.
fn is_odd(text: &str, kind: Kind, standard_conforming_strings: bool) -> bool {
    let escapes = || !standard_conforming_strings && text.contains('\\');
    match kind {
        Kind::UnicodeIdent | Kind::UnicodeString => true,
        Kind::String => escapes() || goes_on(text, false),
        Kind::EscapeString => escapes() || goes_on(text, true),
        _ => false,
    }
}

/// Whether a constant goes on on the next line: its first part ends before it does.
fn goes_on(text: &str, escapes: bool) -> bool {
    let mut inner = text.bytes().skip_while(|b| *b != b'\'').skip(1).peekable();
    while let Some(byte) = inner.next() {
        match byte {
            b'\\' if escapes => drop(inner.next()),
            b'\'' if inner.next_if_eq(&b'\'').is_none() => return inner.peek().is_some(),
            _ => {}
        }
    }
    false
}

/// What a token means, and where it stands with its UESCAPE.
fn meant(
    token: lexer::Token,
    sql: &str,
    standard_conforming_strings: bool,
) -> Option<(Token, Range<usize>)> {
    let bytes = sql.as_bytes();
    let (value, end) = match token.kind {
        Kind::UnicodeIdent => {
            let (name, end) = name::unicode_identifier(token, bytes)?;
            (name.0, end)
        }
        _ => {
            let constant = name::string(token, bytes, standard_conforming_strings)?;
            (constant.value, constant.end)
        }
    };
    let value = std::str::from_utf8(&value).ok()?;
    let place = token.start..end;
    // What escapes make of other characters depends on the encoding of the server.
    let is_made = token.kind != Kind::String || !standard_conforming_strings;
    if is_made && !value.is_ascii() || value.contains('\0') {
        return None;
    }
    let meant = match token.kind {
        Kind::UnicodeIdent => Token::make_word(value, Some('"')),
        Kind::EscapeString => Token::EscapedStringLiteral(value.to_owned()),
        _ => Token::SingleQuotedString(value.to_owned()),
    };
    Some((meant, place))
}

/// A plain constant or name of the same length and the same lines.
fn blank(meant: &Token, written: &str) -> Option<String> {
    let quote = match meant {
        Token::Word(_) => '"',
        _ => '\'',
    };
    let inner = written.get(1..written.len().checked_sub(1)?)?;
    let plain = |c: char| match c {
        '\n' | '\r' => c,
        c if c.is_ascii() => 'x',
        c => c,
    };
    let inner: String = inner.chars().map(plain).collect();
    Some(format!("{quote}{inner}{quote}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(sql: &str) -> Option<String> {
        Some(Spelled::of(sql, true)?.plain)
    }

    #[test]
    fn constants_are_blank_and_all_else_keeps_its_place() {
        for (sql, expected) in [
            ("SELECT 1, 'a''b', \"a\", E'\\'', $$u&'$$", None),
            (
                "SELECT U&'\\0041' UESCAPE '!', b",
                Some("SELECT 'xxxxxxxxxxxxxxxxxxx', b"),
            ),
            (
                "SELECT u&\"\\0041\".\"b\"",
                Some("SELECT \"xxxxxxx\".\"b\""),
            ),
            ("SELECT 'ů'\n -- '\n'b' c", Some("SELECT 'ůx\nxxxxx\nxx' c")),
            ("SELECT E'\\''\n'' c", Some("SELECT 'xxxx\nx' c")),
            ("SELECT U&'\\00e9'", None),
            ("SELECT U&'a' UESCAPE '0'", None),
        ] {
            assert_eq!(plain(sql).as_deref(), expected, "{sql}");
        }
        assert_eq!(plain("SELECT 'a\\'"), None);
        let escaped = Spelled::of("SELECT 'a\\'b'", false).map(|text| text.plain);
        assert_eq!(escaped.as_deref(), Some("SELECT 'xxxx'"));
    }

    #[test]
    fn a_constant_that_would_become_part_of_another_is_none() {
        for sql in ["SELECT \"a\"U&\"b\"", "SELECT 'a'U&'b'"] {
            let spelled = Spelled::of(sql, true).expect("one is odd");
            assert!(spelled.tokens().is_err(), "{sql}");
        }
        let spelled = Spelled::of("SELECT U&'!0041' UESCAPE '!' x", true).expect("one is odd");
        let tokens = spelled.tokens().expect("it is cut as it is meant");
        let token = |at: usize| &tokens[at].token;
        assert_eq!(*token(2), Token::SingleQuotedString("A".to_owned()));
        assert_eq!((token(4).to_string(), tokens.len()), ("x".to_owned(), 5));
    }
}
