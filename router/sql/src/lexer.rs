//! PostgreSQL's lexical rules over the client's bytes.
//!
//! Follows `src/backend/parser/scan.l` and chapter 4.1 of the manual
//! (<https://www.postgresql.org/docs/current/sql-syntax-lexical.html>). It does not
//! allocate, does not need UTF-8, and yields spans into the text it was given.
//! Keywords are ordinary words; escapes are not decoded here (see `name`).
//!
//! Where versions of PostgreSQL read a number differently (`0x1F`, `1_000`,
//! `123abc`), the token is [`Kind::UncertainNumber`]; what never ends is
//! [`Kind::Unterminated`] and reaches to the end of the text. A server answers the
//! latter, and [`Kind::Unknown`], with a syntax error before anything is executed.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An unquoted identifier or keyword. PostgreSQL folds its ASCII letters.
    Word,
    /// `"..."`
    QuotedIdent,
    /// `U&"..."`; a following `UESCAPE 'c'` is two tokens of its own.
    UnicodeIdent,
    /// Decimal digits only, of any length.
    Integer,
    /// Digits with a point or an exponent.
    Decimal,
    /// A number that versions of PostgreSQL read differently or refuse.
    UncertainNumber,
    /// `$1`
    Param,
    /// `'...'`, with its continuations on following lines.
    String,
    /// `E'...'`
    EscapeString,
    /// `N'...'`
    NationalString,
    /// `U&'...'`
    UnicodeString,
    /// `B'...'`
    BitString,
    /// `X'...'`
    HexString,
    /// `$tag$...$tag$`
    DollarString,
    /// One or more operator characters, `=` and `*` and `<=` among them.
    Operator,
    /// `::`
    TypeCast,
    /// `:=`
    ColonEquals,
    /// `=>`
    EqualsGreater,
    /// `..`
    DotDot,
    /// `,`
    Comma,
    /// `;`
    Semicolon,
    /// `:`
    Colon,
    /// `.`
    Dot,
    /// `(`
    LParen,
    /// `)`
    RParen,
    /// `[`
    LBracket,
    /// `]`
    RBracket,
    /// White space; only from [`Lexer::next_with_trivia`].
    Space,
    /// A comment; only from [`Lexer::next_with_trivia`].
    Comment,
    /// A string, quoted identifier or block comment without an end.
    Unterminated,
    /// A byte that starts no token.
    Unknown,
}

impl Kind {
    /// Any form of character string constant. Bit strings are not.
    pub fn is_string(self) -> bool {
        use Kind::*;
        matches!(
            self,
            String | EscapeString | NationalString | UnicodeString | DollarString
        )
    }

    /// A constant: a number, or a string of any form.
    pub fn is_value(self) -> bool {
        use Kind::*;
        self.is_string()
            || matches!(
                self,
                Integer | Decimal | UncertainNumber | BitString | HexString | Unterminated
            )
    }

    /// A token after which nothing is certain: PostgreSQL refuses the text, or reads it by version.
    pub fn is_uncertain(self) -> bool {
        matches!(
            self,
            Kind::Unterminated | Kind::Unknown | Kind::UncertainNumber
        )
    }
}

/// A token: its kind and where it stands in the text, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Its first byte.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
}

impl Token {
    /// The token's own bytes in the text it was read from.
    pub fn text<'a>(&self, sql: &'a [u8]) -> &'a [u8] {
        &sql[self.start..self.end]
    }
}

/// Iterates over the tokens of a text, without white space and comments.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    conforming: bool,
}

impl<'a> Lexer<'a> {
    /// Reads `text`. `standard_conforming_strings` is the session's setting of that
    /// name: when off, a backslash escapes in plain `'...'` too.
    pub fn new(text: &'a [u8], standard_conforming_strings: bool) -> Self {
        Lexer {
            text,
            at: 0,
            conforming: standard_conforming_strings,
        }
    }

    /// The next token, white space and comments included, so that tokens cover the text.
    #[inline]
    pub fn next_with_trivia(&mut self) -> Option<Token> {
        let start = self.at;
        let first = *self.text.get(start)?;
        let kind = match CLASS[first as usize] {
            Class::Space => self.space(),
            Class::Letter => self.word(first),
            Class::Digit => self.number(),
            Class::Operator => self.operator(first),
            Class::Quote => self.quoted(
                1,
                Kind::String,
                if self.conforming {
                    Escapes::Doubled
                } else {
                    Escapes::Backslash
                },
            ),
            Class::DoubleQuote => self.identifier(1, Kind::QuotedIdent),
            Class::Dollar => self.dollar(),
            Class::Dot => self.dot(),
            Class::Colon => match self.byte(1) {
                Some(b':') => self.take(2, Kind::TypeCast),
                Some(b'=') => self.take(2, Kind::ColonEquals),
                _ => self.take(1, Kind::Colon),
            },
            Class::Comma => self.take(1, Kind::Comma),
            Class::Semicolon => self.take(1, Kind::Semicolon),
            Class::LParen => self.take(1, Kind::LParen),
            Class::RParen => self.take(1, Kind::RParen),
            Class::LBracket => self.take(1, Kind::LBracket),
            Class::RBracket => self.take(1, Kind::RBracket),
            Class::Other => self.take(1, Kind::Unknown),
        };
        debug_assert!(self.at > start && self.at <= self.text.len());
        Some(Token {
            kind,
            start,
            end: self.at,
        })
    }

    #[inline]
    fn byte(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    #[inline]
    fn take(&mut self, bytes: usize, kind: Kind) -> Kind {
        self.at += bytes;
        kind
    }

    fn unterminated(&mut self) -> Kind {
        self.at = self.text.len();
        Kind::Unterminated
    }

    #[inline]
    fn space(&mut self) -> Kind {
        self.at += 1;
        while self.byte(0).is_some_and(is_space) {
            self.at += 1;
        }
        Kind::Space
    }

    #[inline]
    fn word(&mut self, first: u8) -> Kind {
        match (first | 0x20, self.byte(1), self.byte(2)) {
            (b'e', Some(b'\''), _) => {
                return self.quoted(2, Kind::EscapeString, Escapes::Backslash);
            }
            (b'b', Some(b'\''), _) => return self.quoted(2, Kind::BitString, Escapes::None),
            (b'x', Some(b'\''), _) => return self.quoted(2, Kind::HexString, Escapes::None),
            // PostgreSQL reads the keyword NCHAR and then a plain string.
            (b'n', Some(b'\''), _) => {
                let escapes = if self.conforming {
                    Escapes::Doubled
                } else {
                    Escapes::Backslash
                };
                return self.quoted(2, Kind::NationalString, escapes);
            }
            (b'u', Some(b'&'), Some(b'\'')) => {
                return self.quoted(3, Kind::UnicodeString, Escapes::Doubled);
            }
            (b'u', Some(b'&'), Some(b'"')) => return self.identifier(3, Kind::UnicodeIdent),
            _ => {}
        }
        self.at += 1;
        while self.byte(0).is_some_and(continues_word) {
            self.at += 1;
        }
        Kind::Word
    }

    /// A single-quoted constant that starts `open` bytes ahead, and its continuations.
    fn quoted(&mut self, open: usize, kind: Kind, escapes: Escapes) -> Kind {
        self.at += open;
        loop {
            match (self.byte(0), escapes) {
                (None, _) => return self.unterminated(),
                (Some(b'\\'), Escapes::Backslash) => {
                    if self.byte(1).is_none() {
                        return self.unterminated();
                    }
                    self.at += 2;
                }
                (Some(b'\''), _) => {
                    self.at += 1;
                    if self.byte(0) == Some(b'\'') && escapes != Escapes::None {
                        self.at += 1;
                    } else if let Some(next) = continuation(self.text, self.at) {
                        self.at = next;
                    } else {
                        return kind;
                    }
                }
                (Some(_), _) => self.at += 1,
            }
        }
    }

    /// A double-quoted identifier that starts `open` bytes ahead.
    fn identifier(&mut self, open: usize, kind: Kind) -> Kind {
        self.at += open;
        loop {
            match self.byte(0) {
                None => return self.unterminated(),
                Some(b'"') if self.byte(1) == Some(b'"') => self.at += 2,
                Some(b'"') => return self.take(1, kind),
                Some(_) => self.at += 1,
            }
        }
    }

    /// `$1`, `$tag$...$tag$`, or a lone `$`.
    fn dollar(&mut self) -> Kind {
        let digits = run(&self.text[self.at + 1..], |b| b.is_ascii_digit());
        if digits > 0 {
            self.at += 1 + digits;
            let junk = self.byte(0).is_some_and(starts_word);
            return if junk {
                Kind::UncertainNumber
            } else {
                Kind::Param
            };
        }
        let rest = &self.text[self.at + 1..];
        let tag = if rest.first().copied().is_some_and(starts_word) {
            run(rest, |b| continues_word(b) && b != b'$')
        } else {
            0
        };
        if rest.get(tag) != Some(&b'$') {
            return self.take(1, Kind::Unknown);
        }
        let delimiter = &self.text[self.at..self.at + tag + 2];
        let body = &rest[tag + 1..];
        match find(body, delimiter) {
            Some(length) => self.take(length + 2 * delimiter.len(), Kind::DollarString),
            None => self.unterminated(),
        }
    }

    #[inline]
    fn dot(&mut self) -> Kind {
        match self.byte(1) {
            Some(b'.') => self.take(2, Kind::DotDot),
            Some(b'0'..=b'9') => self.number(),
            _ => self.take(1, Kind::Dot),
        }
    }

    #[inline]
    fn number(&mut self) -> Kind {
        let (length, kind) = plain_number(&self.text[self.at..]);
        // Before version 16 these were a number and a word beside it.
        if let Some(modern) = modern_number(&self.text[self.at..], length) {
            return self.take(modern, Kind::UncertainNumber);
        }
        self.at += length;
        // An error since version 15; before it, a number and a word beside it.
        let junk = self.byte(0).is_some_and(starts_word);
        if junk { Kind::UncertainNumber } else { kind }
    }

    /// An operator, or a comment that starts like one.
    fn operator(&mut self, first: u8) -> Kind {
        match (first, self.byte(1)) {
            (b'-', Some(b'-')) => {
                self.at += 2;
                while self.byte(0).is_some_and(|b| b != b'\n' && b != b'\r') {
                    self.at += 1;
                }
                return Kind::Comment;
            }
            (b'/', Some(b'*')) => return self.block_comment(),
            _ => {}
        }
        let text = &self.text[self.at..];
        let length = operator_length(text);
        self.at += length;
        if &text[..length] == b"=>" {
            Kind::EqualsGreater
        } else {
            Kind::Operator
        }
    }

    fn block_comment(&mut self) -> Kind {
        self.at += 2;
        let mut depth = 1usize;
        while depth > 0 {
            match (self.byte(0), self.byte(1)) {
                (None, _) => return self.unterminated(),
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (Some(b'*'), Some(b'/')) => {
                    depth -= 1;
                    self.at += 2;
                }
                _ => self.at += 1,
            }
        }
        Kind::Comment
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    #[inline]
    fn next(&mut self) -> Option<Token> {
        loop {
            let token = self.next_with_trivia()?;
            if !matches!(token.kind, Kind::Space | Kind::Comment) {
                return Some(token);
            }
        }
    }
}

/// How quotes and backslashes are written inside a constant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    /// The first quote ends it: bit strings.
    None,
    /// `''` is a quote.
    Doubled,
    /// `''` is a quote, and a backslash takes the next byte with it.
    Backslash,
}

/// If the constant that was closed at `at` goes on after a line break, the position
/// after the quote that reopens it. Between them only white space and `--` comments
/// may stand, the first line break not inside a comment's line alone.
fn continuation(text: &[u8], at: usize) -> Option<usize> {
    let mut at = at;
    let mut lines = 0usize;
    loop {
        match text.get(at)? {
            b'\n' | b'\r' => {
                lines += 1;
                at += 1;
            }
            b' ' | b'\t' | 0x0b | 0x0c => at += 1,
            b'-' if text.get(at + 1) == Some(&b'-') => {
                at += run(&text[at..], |b| b != b'\n' && b != b'\r');
            }
            b'\'' if lines > 0 => return Some(at + 1),
            _ => return None,
        }
    }
}

/// The number at the start of `text` as all versions read it: its length and kind.
/// `1..10` is the integer 1 and `..`.
#[inline]
fn plain_number(text: &[u8]) -> (usize, Kind) {
    let mut length = run(text, |b| b.is_ascii_digit());
    let mut kind = Kind::Integer;
    if text.get(length) == Some(&b'.') && text.get(length + 1) != Some(&b'.') {
        length += 1;
        length += run(&text[length..], |b| b.is_ascii_digit());
        kind = Kind::Decimal;
    }
    match exponent(&text[length..]) {
        0 => (length, kind),
        more => (length + more, Kind::Decimal),
    }
}

/// The length of `e5`, `E+10`; 0 if there is none.
#[inline]
fn exponent(text: &[u8]) -> usize {
    if !matches!(text.first(), Some(b'e' | b'E')) {
        return 0;
    }
    let sign = usize::from(matches!(text.get(1), Some(b'+' | b'-')));
    match run(&text[1 + sign..], |b| b.is_ascii_digit()) {
        0 => 0,
        digits => 1 + sign + digits,
    }
}

/// The number as version 16 reads it, if that is longer than `plain` and nothing
/// stands against it: `0x1F`, `0o17`, `0b1`, `1_000`, `1_0.0_1e1_0`.
#[inline]
fn modern_number(text: &[u8], plain: usize) -> Option<usize> {
    if !text.get(plain).copied().is_some_and(starts_word) {
        return None;
    }
    let radix = match (text.first(), text.get(1).map(u8::to_ascii_lowercase)) {
        (Some(b'0'), Some(b'x')) => grouped(&text[2..], true, |b| b.is_ascii_hexdigit()),
        (Some(b'0'), Some(b'o')) => grouped(&text[2..], true, |b| matches!(b, b'0'..=b'7')),
        (Some(b'0'), Some(b'b')) => grouped(&text[2..], true, |b| matches!(b, b'0' | b'1')),
        _ => 0,
    };
    let length = if radix > 0 {
        2 + radix
    } else {
        grouped_decimal(text)
    };
    let junk = text.get(length).copied().is_some_and(starts_word);
    (length > plain && !junk).then_some(length)
}

fn grouped_decimal(text: &[u8]) -> usize {
    let digit = |b: u8| b.is_ascii_digit();
    let mut length = grouped(text, false, digit);
    if text.get(length) == Some(&b'.') && text.get(length + 1) != Some(&b'.') {
        length += 1;
        length += grouped(&text[length..], false, digit);
    }
    if matches!(text.get(length), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(length + 1), Some(b'+' | b'-')));
        match grouped(&text[length + 1 + sign..], false, digit) {
            0 => {}
            digits => length += 1 + sign + digits,
        }
    }
    length
}

/// The length of digits with single underscores between (and, if `leading`, before) them.
fn grouped(text: &[u8], leading: bool, digit: impl Fn(u8) -> bool) -> usize {
    let mut length = 0;
    loop {
        let skip = usize::from(text.get(length) == Some(&b'_') && (leading || length > 0));
        if !text.get(length + skip).copied().is_some_and(&digit) {
            return length;
        }
        length += skip + 1;
    }
}

/// How many of the operator characters at the start of `text` are one operator: up to
/// a comment, and without trailing `+` and `-` unless a character is among them that
/// no SQL operator has.
#[inline]
fn operator_length(text: &[u8]) -> usize {
    let mut length = run(text, |b| CLASS[b as usize] == Class::Operator);
    let comment = text[..length]
        .windows(2)
        .position(|pair| pair == b"/*" || pair == b"--");
    length = comment.unwrap_or(length);
    let ends_in_sign = |length: usize| length > 1 && matches!(text[length - 1], b'+' | b'-');
    let unusual = |b: &u8| {
        matches!(
            b,
            b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'%'
        )
    };
    if ends_in_sign(length) && !text[..length - 1].iter().any(unusual) {
        while ends_in_sign(length) {
            length -= 1;
        }
    }
    length
}

#[inline]
fn run(text: &[u8], member: impl Fn(u8) -> bool) -> usize {
    text.iter().position(|&b| !member(b)).unwrap_or(text.len())
}

/// Where `needle`, which starts with `$` and is not empty, first stands in `text`.
fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(next) = text[from..].iter().position(|&b| b == b'$') {
        let at = from + next;
        if text[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

#[inline]
fn is_space(b: u8) -> bool {
    CLASS[b as usize] == Class::Space
}

#[inline]
fn starts_word(b: u8) -> bool {
    CLASS[b as usize] == Class::Letter
}

#[inline]
fn continues_word(b: u8) -> bool {
    matches!(
        CLASS[b as usize],
        Class::Letter | Class::Digit | Class::Dollar
    )
}

/// What a byte may start.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Space,
    Letter,
    Digit,
    Operator,
    Quote,
    DoubleQuote,
    Dollar,
    Dot,
    Colon,
    Comma,
    Semicolon,
    LParen,
    RParen,
    LBracket,
    RBracket,
    Other,
}

const CLASS: [Class; 256] = classes();

const fn classes() -> [Class; 256] {
    let mut table = [Class::Other; 256];
    let mut b = 0;
    while b < 256 {
        table[b] = match b as u8 {
            // A vertical tab is white space since version 16 and a syntax error before.
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => Class::Space,
            b'A'..=b'Z' | b'a'..=b'z' | b'_' | 0x80..=0xff => Class::Letter,
            b'0'..=b'9' => Class::Digit,
            b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'+' | b'-' | b'*'
            | b'/' | b'%' | b'<' | b'>' | b'=' => Class::Operator,
            b'\'' => Class::Quote,
            b'"' => Class::DoubleQuote,
            b'$' => Class::Dollar,
            b'.' => Class::Dot,
            b':' => Class::Colon,
            b',' => Class::Comma,
            b';' => Class::Semicolon,
            b'(' => Class::LParen,
            b')' => Class::RParen,
            b'[' => Class::LBracket,
            b']' => Class::RBracket,
            _ => Class::Other,
        };
        b += 1;
    }
    table
}

#[cfg(test)]
#[path = "lexer_tests.rs"]
mod tests;
