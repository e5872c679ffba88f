//! Reduces a statement to its shape, so that a plan made for one text serves all
//! texts that differ from it in literal values alone.
//!
//! One pass over the tokens, no allocation: the normalised text and the literals go to
//! a [`Scratch`] of fixed size, and what does not fit has no shape. Comments and white
//! space are normalised away, unquoted words are folded, and literals in *value places*
//! (WHERE, ON, VALUES, SET, LIMIT, OFFSET) become a mark of their kind. Literals
//! elsewhere stay as written: `ORDER BY 1` and `GROUP BY 1` are positions, type
//! modifiers are types, and a planner compares the expressions of select list, GROUP
//! BY, HAVING and ORDER BY with each other, so two that differ in a number are not alike.
//!
//! What a user of shapes owes: it may learn from the marked literals of the text it
//! plans nothing but their kinds, and must read their values from each text anew.

use std::hash::{BuildHasher, Hasher};

use super::cursor::Span;
use super::lexer::{Kind, Lexer, Token};

/// How deep parentheses may nest in a text that has a shape.
const DEPTH: usize = 64;

/// The type that PostgreSQL gives a literal before it looks at its surroundings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LiteralKind {
    /// At most 2147483647, without its sign.
    Int4,
    /// At most 9223372036854775807, without its sign.
    Int8,
    /// A larger integer, or one with a point or an exponent.
    Numeric,
    /// `'...'`, read with standard_conforming_strings as the session has it.
    String,
    /// `E'...'`
    EscapeString,
    /// `$tag$...$tag$`
    DollarString,
}

impl LiteralKind {
    /// Whether it is written with digits, not as a string.
    pub fn is_number(self) -> bool {
        match self {
            LiteralKind::Int4 | LiteralKind::Int8 | LiteralKind::Numeric => true,
            LiteralKind::String | LiteralKind::EscapeString | LiteralKind::DollarString => false,
        }
    }

    /// Stands for the literal in a normalised text, after [`MARK`].
    fn mark(self) -> u8 {
        match self {
            LiteralKind::Int4 => b'i',
            LiteralKind::Int8 => b'l',
            LiteralKind::Numeric => b'n',
            LiteralKind::String => b's',
            LiteralKind::EscapeString => b'e',
            LiteralKind::DollarString => b'd',
        }
    }
}

/// Comes before a literal's mark. No token of a text that has a shape starts with it.
pub const MARK: u8 = 0x01;

/// A literal whose value is no part of the shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Literal {
    /// Where it stands in the text, quotes included. A sign before it is an operator and
    /// part of the shape.
    pub span: Span,
    /// What it is.
    pub kind: LiteralKind,
    /// It stands after LIMIT, OFFSET or FETCH.
    pub limit: bool,
}

/// Room for one shape, to be used again for the next.
#[derive(Debug)]
pub struct Scratch {
    text: Vec<u8>,
    text_limit: usize,
    literals: Vec<Literal>,
    literal_limit: usize,
}

impl Scratch {
    /// Room for a normalised text of `text_limit` bytes and for `literal_limit` literals.
    pub fn new(text_limit: usize, literal_limit: usize) -> Self {
        Scratch {
            text: Vec::with_capacity(text_limit),
            text_limit,
            literals: Vec::with_capacity(literal_limit),
            literal_limit,
        }
    }

    fn clear(&mut self) {
        self.text.clear();
        self.literals.clear();
    }

    fn room(&self, bytes: usize) -> Option<()> {
        (self.text.len() + bytes <= self.text_limit).then_some(())
    }

    #[inline]
    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.verbatim(word)?;
        let from = self.text.len() - word.len();
        self.text[from..].make_ascii_lowercase();
        Some(())
    }

    #[inline]
    fn verbatim(&mut self, token: &[u8]) -> Option<()> {
        self.room(token.len() + 1)?;
        self.text.push(b' ');
        self.text.extend_from_slice(token);
        Some(())
    }

    #[inline]
    fn literal(&mut self, literal: Literal) -> Option<()> {
        self.room(2)?;
        if self.literals.len() == self.literal_limit {
            return None;
        }
        self.text.extend_from_slice(&[MARK, literal.kind.mark()]);
        self.literals.push(literal);
        Some(())
    }
}

/// What a statement is but for the values of its literals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape<'s> {
    /// A hash of `text`. Its seeds are fixed and public, so a cache that holds statements
    /// of strangers compares `text` as well.
    pub hash: u128,
    /// The normalised text. Not SQL, but distinct texts are distinct token sequences.
    pub text: &'s [u8],
    /// The literals that were taken out, in order.
    pub literals: &'s [Literal],
    /// From the first token to the last, without a `;`.
    pub span: Span,
    /// Two operators touch, as in `a=-1`: readers of other rules than PostgreSQL's may cut them elsewhere.
    pub tight: bool,
}

/// The shape of one statement. `None` if it has none: several statements, a token that is
/// uncertain, or more than the scratch can hold. Such a text is planned each time.
pub fn shape<'s>(
    sql: &[u8],
    standard_conforming_strings: bool,
    scratch: &'s mut Scratch,
) -> Option<Shape<'s>> {
    scratch.clear();
    // Backslashes in plain strings mean different things.
    scratch.room(1)?;
    scratch.text.push(if standard_conforming_strings {
        b'+'
    } else {
        b'-'
    });
    let mut places = Places::new();
    let mut span: Option<Span> = None;
    let mut tight = false;
    let mut operator_end = None;
    let mut lexer = Lexer::new(sql, standard_conforming_strings);
    while let Some(token) = lexer.next() {
        let text = token.text(sql);
        match token.kind {
            Kind::Word => scratch.word(text)?,
            Kind::Semicolon => {
                // Only at the end.
                if lexer.next().is_some() {
                    return None;
                }
                break;
            }
            kind if kind.is_uncertain() => return None,
            _ => match literal_kind(token, text).filter(|_| places.value()) {
                Some(kind) => {
                    let span = Span {
                        start: token.start,
                        end: token.end,
                    };
                    scratch.literal(Literal {
                        span,
                        kind,
                        limit: places.limit(),
                    })?;
                }
                None => scratch.verbatim(text)?,
            },
        }
        places.see(token, text)?;
        if is_operator(token.kind) {
            tight |= operator_end == Some(token.start);
            operator_end = Some(token.end);
        }
        span = Some(Span {
            start: span.map_or(token.start, |span| span.start),
            end: token.end,
        });
    }
    let hash = hash(&scratch.text);
    Some(Shape {
        hash,
        text: &scratch.text,
        literals: &scratch.literals,
        span: span.unwrap_or(Span { start: 0, end: 0 }),
        tight,
    })
}

fn is_operator(kind: Kind) -> bool {
    use Kind::*;
    matches!(
        kind,
        Operator | TypeCast | ColonEquals | EqualsGreater | DotDot | Colon
    )
}

fn hash(text: &[u8]) -> u128 {
    let half = |seed: u64| {
        let mut hasher = foldhash::quality::FixedState::with_seed(seed).build_hasher();
        hasher.write(text);
        hasher.finish()
    };
    (u128::from(half(0x6d6f_7468_6572_7368)) << 64) | u128::from(half(0x6970_2073_6861_7065))
}

/// The kind of a literal that may be taken out. Bit strings have their length as type, and
/// `U&''` may have an escape character beside it: both stay as written.
#[inline]
fn literal_kind(token: Token, text: &[u8]) -> Option<LiteralKind> {
    Some(match token.kind {
        Kind::Integer => integer_kind(text),
        Kind::Decimal => LiteralKind::Numeric,
        Kind::String => LiteralKind::String,
        Kind::EscapeString => LiteralKind::EscapeString,
        Kind::DollarString => LiteralKind::DollarString,
        _ => return None,
    })
}

/// The type of an integer without a sign, by its digits.
pub fn integer_kind(digits: &[u8]) -> LiteralKind {
    let zeros = digits.iter().take_while(|b| **b == b'0').count();
    let digits = &digits[zeros..];
    let at_most = |limit: &[u8]| {
        digits.len() < limit.len() || (digits.len() == limit.len() && digits <= limit)
    };
    if at_most(b"2147483647") {
        LiteralKind::Int4
    } else if at_most(b"9223372036854775807") {
        LiteralKind::Int8
    } else {
        LiteralKind::Numeric
    }
}

/// Which part of a statement the scanner is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before the first clause, in FROM, in a CTE: literals stay, clauses may begin.
    Open,
    /// Select list, GROUP BY, HAVING, ORDER BY, RETURNING: literals stay.
    List,
    /// In parentheses inside of those, or where nothing is a value: literals stay, and no
    /// clause changes that.
    Locked,
    /// Literals are values.
    Value,
    /// Literals are values, after LIMIT, OFFSET or FETCH.
    Limit,
}

/// The word before, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Start,
    /// AS: what follows is a label or a type, whatever it looks like.
    Name,
    /// A dot: what follows is a name, whatever it looks like.
    Dot,
    RParen,
    Distinct,
    On,
    /// A type's name, after `::` or AS, or by its own looks.
    Type,
    TypeCast,
    Uescape,
    Other,
}

struct Places {
    stack: [Place; DEPTH],
    depth: usize,
    before: Before,
}

impl Places {
    fn new() -> Self {
        Places {
            stack: [Place::Open; DEPTH],
            depth: 0,
            before: Before::Start,
        }
    }

    fn value(&self) -> bool {
        matches!(self.stack[self.depth], Place::Value | Place::Limit)
            && self.before != Before::Uescape
    }

    fn limit(&self) -> bool {
        self.stack[self.depth] == Place::Limit
    }

    /// Moves past a token. `None` if parentheses nest too deep or close too often.
    #[inline]
    fn see(&mut self, token: Token, text: &[u8]) -> Option<()> {
        let first = self.before == Before::Start;
        self.before = match token.kind {
            Kind::LParen => {
                let place = match self.stack[self.depth] {
                    _ if self.before == Before::Type => Place::Locked,
                    Place::List => Place::Locked,
                    outer => outer,
                };
                self.depth += 1;
                *self.stack.get_mut(self.depth)? = place;
                if first { Before::Start } else { Before::Other }
            }
            Kind::RParen => {
                self.depth = self.depth.checked_sub(1)?;
                Before::RParen
            }
            Kind::Word if first => {
                self.first(text);
                Before::Other
            }
            Kind::Word => self.word(text),
            // A name after :: or AS is a type's, its schema's, or a label's.
            Kind::QuotedIdent | Kind::UnicodeIdent
                if matches!(self.before, Before::TypeCast | Before::Name) =>
            {
                Before::Type
            }
            Kind::TypeCast => Before::TypeCast,
            Kind::Dot => {
                if self.before == Before::Type {
                    Before::TypeCast
                } else {
                    Before::Dot
                }
            }
            // `anytype(3) '...'`: what stood in the parentheses was no value but a type's modifier.
            kind if kind.is_string() && self.before == Before::RParen => return None,
            _ => Before::Other,
        };
        Some(())
    }

    /// The first word says whether the statement has value places at all.
    fn first(&mut self, text: &[u8]) {
        let place = match () {
            () if is(text, "select") => Place::List,
            () if is(text, "values") => Place::Value,
            () if ["with", "insert", "update", "delete", "merge"]
                .iter()
                .any(|word| is(text, word)) =>
            {
                Place::Open
            }
            () => Place::Locked,
        };
        self.stack[self.depth] = place;
    }

    fn word(&mut self, text: &[u8]) -> Before {
        match self.before {
            // AS MATERIALIZED (...), before the query of a CTE.
            Before::Name if is(text, "materialized") => return Before::Other,
            Before::TypeCast | Before::Name => return Before::Type,
            Before::Dot => return Before::Other,
            _ => {}
        }
        let before = self.before;
        let place = &mut self.stack[self.depth];
        // Lower case without allocating; longer words are none of ours.
        let mut folded = [0u8; 10];
        let Some(word) = folded.get_mut(..text.len()) else {
            return Before::Other;
        };
        word.copy_from_slice(text);
        word.make_ascii_lowercase();
        let next = match &*word {
            b"as" => return Before::Name,
            b"distinct" => return Before::Distinct,
            b"uescape" => return Before::Uescape,
            b"numeric" | b"decimal" | b"dec" | b"varchar" | b"char" | b"character" | b"varying"
            | b"bit" | b"float" | b"time" | b"timestamp" | b"interval" | b"nchar" | b"second" => {
                return Before::Type;
            }
            b"select" | b"group" | b"order" | b"having" | b"window" | b"returning"
            | b"partition" => Place::List,
            b"from" if before == Before::Distinct => return Before::Other,
            b"from" | b"using" | b"union" | b"intersect" | b"except" | b"join" => Place::Open,
            b"conflict" if before == Before::On => Place::Open,
            // DISTINCT ON (1) is part of the select list.
            b"on" if before == Before::Distinct => return Before::Other,
            b"on" => {
                if *place != Place::Locked && *place != Place::List {
                    *place = Place::Value;
                }
                return Before::On;
            }
            b"where" => Place::Value,
            // Not reserved: in a list they are columns.
            b"set" | b"values" if *place != Place::List => Place::Value,
            b"limit" | b"offset" | b"fetch" => Place::Limit,
            _ => return Before::Other,
        };
        if *place != Place::Locked {
            *place = next;
        }
        Before::Other
    }
}

fn is(text: &[u8], word: &str) -> bool {
    text.eq_ignore_ascii_case(word.as_bytes())
}

#[cfg(test)]
#[path = "shape_tests.rs"]
mod tests;
