//! A place in the tokens of one statement, for readers that know a grammar by heart.
//!
//! Cheap to copy, so that a reader may look ahead and come back. `eat_*` take what
//! they name and say whether it was there; they change nothing when it was not.

use super::lexer::{Kind, Lexer, Token};
use super::name::{self, Name};

/// A range of bytes of a statement's text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl Span {
    /// The bytes of `sql` that it names.
    pub fn of<'a>(&self, sql: &'a [u8]) -> &'a [u8] {
        &sql[self.start..self.end]
    }
}

impl std::fmt::Debug for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

/// The rest of a statement, token by token. A `;` ends it.
#[derive(Clone)]
pub struct Cursor<'a> {
    sql: &'a [u8],
    conforming: bool,
    lexer: Lexer<'a>,
    next: Option<Token>,
    /// Where the last taken token ended.
    taken: usize,
}

impl<'a> Cursor<'a> {
    /// Starts at the first token of `sql`, which is one statement.
    pub fn new(sql: &'a [u8], standard_conforming_strings: bool) -> Self {
        let mut lexer = Lexer::new(sql, standard_conforming_strings);
        let next = lexer.next();
        Cursor {
            sql,
            conforming: standard_conforming_strings,
            lexer,
            next,
            taken: 0,
        }
    }

    /// The token that comes next, not taken.
    pub fn peek(&self) -> Option<Token> {
        self.next.filter(|token| token.kind != Kind::Semicolon)
    }

    /// Takes the next token. A `;` is not passed.
    pub fn bump(&mut self) -> Option<Token> {
        let token = self.peek()?;
        self.taken = token.end;
        self.next = self.lexer.next();
        Some(token)
    }

    /// Whether the statement is over.
    pub fn at_end(&self) -> bool {
        self.peek().is_none()
    }

    /// Where the next token starts, or where the last one ended.
    pub fn at(&self) -> usize {
        self.peek().map_or(self.taken, |token| token.start)
    }

    /// Where the last taken token ended.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// From here to the end of the statement, without the white space around it.
    pub fn rest(&self) -> Span {
        let start = self.at();
        let mut ahead = self.clone();
        while ahead.bump().is_some() {}
        Span {
            start,
            end: ahead.taken.max(start),
        }
    }

    /// Whether a token is this unquoted word (given in lower case).
    pub fn is(&self, token: Token, word: &str) -> bool {
        token.kind == Kind::Word && token.text(self.sql).eq_ignore_ascii_case(word.as_bytes())
    }

    /// Whether the next token is this word.
    pub fn sees(&self, word: &str) -> bool {
        self.peek().is_some_and(|token| self.is(token, word))
    }

    /// Whether the next token is one of these words.
    pub fn sees_any(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.sees(word))
    }

    /// Whether the next token is of this kind.
    pub fn sees_kind(&self, kind: Kind) -> bool {
        self.peek().is_some_and(|token| token.kind == kind)
    }

    /// Takes a word.
    pub fn eat(&mut self, word: &str) -> bool {
        let there = self.sees(word);
        if there {
            self.bump();
        }
        there
    }

    /// Takes one of these words.
    pub fn eat_any(&mut self, words: &[&str]) -> bool {
        words.iter().any(|word| self.eat(word))
    }

    /// Takes these words, all or none.
    pub fn eat_all(&mut self, words: &[&str]) -> bool {
        let mut ahead = self.clone();
        let there = words.iter().all(|word| ahead.eat(word));
        if there {
            *self = ahead;
        }
        there
    }

    /// Takes a token of this kind.
    pub fn eat_kind(&mut self, kind: Kind) -> bool {
        let there = self.sees_kind(kind);
        if there {
            self.bump();
        }
        there
    }

    /// Takes this operator.
    pub fn eat_operator(&mut self, operator: &str) -> bool {
        let there = self.peek().is_some_and(|token| {
            token.kind == Kind::Operator && token.text(self.sql) == operator.as_bytes()
        });
        if there {
            self.bump();
        }
        there
    }

    /// Takes an identifier, quoted or not, any keyword included.
    pub fn name(&mut self) -> Option<Name<'a>> {
        let token = self.peek()?;
        let mut ahead = self.clone();
        ahead.bump();
        let mut escape = b'\\';
        if token.kind == Kind::UnicodeIdent && ahead.eat("uescape") {
            escape = match ahead.string()?.as_bytes() {
                [one] => *one,
                _ => return None,
            };
        }
        let name = name::identifier(token, self.sql, escape)?;
        *self = ahead;
        Some(name)
    }

    /// Takes a character string constant, with its UESCAPE, and gives its value.
    pub fn string(&mut self) -> Option<Name<'a>> {
        let token = self.peek()?;
        let constant = name::string(token, self.sql, self.conforming)?;
        while self.peek().is_some_and(|token| token.start < constant.end) {
            self.bump();
        }
        Some(Name(constant.value))
    }

    /// Takes `a`, `a.b`, `a.b.c`.
    pub fn path(&mut self) -> Option<Vec<Name<'a>>> {
        let mut path = vec![self.name()?];
        while self.eat_kind(Kind::Dot) {
            path.push(self.name()?);
        }
        Some(path)
    }

    /// Takes a parenthesised group and gives the span of its inside. `None` (and
    /// nothing taken) if there is none or it does not close.
    pub fn group(&mut self) -> Option<Span> {
        let mut ahead = self.clone();
        if !ahead.eat_kind(Kind::LParen) {
            return None;
        }
        let start = ahead.taken;
        let mut depth = 1usize;
        loop {
            let token = ahead.bump()?;
            match token.kind {
                Kind::LParen => depth += 1,
                Kind::RParen => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                *self = ahead;
                return Some(Span {
                    start,
                    end: token.start,
                });
            }
        }
    }

    /// The statement's text.
    pub fn sql(&self) -> &'a [u8] {
        self.sql
    }

    /// The setting with which it is read.
    pub fn conforming(&self) -> bool {
        self.conforming
    }
}

impl Cursor<'_> {
    /// Passes one `;`, which only stands before the statement when empty ones do.
    pub fn skip_semicolon(&mut self) -> bool {
        let there = self.next.is_some_and(|token| token.kind == Kind::Semicolon);
        if there {
            self.next = self.lexer.next();
        }
        there
    }
}
