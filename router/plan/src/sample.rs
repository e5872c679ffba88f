//! Recognises texts of a known shape that are written like one that was seen.
//!
//! Programs write a statement alike each time: the same words, the same spaces, other literals. A [`Sample`] is one
//! text of a shape. Another text that has the same bytes between its literals, and in their places plain literals of
//! the same kinds, consists of the same tokens, and so has the same shape, without being cut into tokens. Plain is an
//! integer, or a string without quotes, backslashes and whatever else [`has_only_plain_tokens`](super::shaped::has_only_plain_tokens) looks twice
//! at. A text that is not like the sample may still be of its shape; [`shape`](mothership_sql::shape) says so.

use super::shaped::can_skip;
use mothership_sql::cursor::Span;
use mothership_sql::shape::{Literal, LiteralKind, Shape, integer_kind};
use smallvec::SmallVec;

/// The literals of a text; so many cost no allocation.
pub type Found = SmallVec<[Literal; 4]>;

/// A longer text is not kept as a sample.
const LONGEST: usize = 4096;

/// A text with the places of its literals.
#[derive(Debug)]
pub struct Sample {
    text: Box<[u8]>,
    strings: bool,
    literals: Box<[Literal]>,
    span: Span,
}

impl Sample {
    /// `sql`, whose shape is `shape` with this standard_conforming_strings, and which is tame. `None` if it is too
    /// long, or if one of its literals could be another token in the place of a plain one.
    pub fn of(sql: &[u8], strings: bool, shape: &Shape<'_>) -> Option<Sample> {
        // Nothing may follow an integer that another one could run into.
        let plain = |literal: &Literal| match literal.kind {
            LiteralKind::Int4 | LiteralKind::Int8 => {
                let next = sql.get(literal.span.end);
                !next.is_some_and(|b| b.is_ascii_alphanumeric() || b"_.$".contains(b) || *b >= 0x80)
            }
            LiteralKind::String => string(&sql[literal.span.start..]).is_some(),
            LiteralKind::Numeric | LiteralKind::EscapeString | LiteralKind::DollarString => false,
        };
        let kept = sql.len() <= LONGEST && shape.literals.iter().all(plain);
        kept.then(|| Sample {
            text: sql.into(),
            strings,
            literals: shape.literals.into(),
            span: shape.span,
        })
    }

    /// Where the statement stands in `sql` and, added to `found`, the places of its literals, if `sql` is like the
    /// sample. It is tame then, and its shape is that of the sample.
    pub fn read(&self, sql: &[u8], strings: bool, found: &mut Found) -> Option<Span> {
        if strings != self.strings {
            return None;
        }
        // How far each of the two is read.
        let (mut at, mut of_sample) = (0, 0);
        for known in &self.literals {
            let between = &self.text[of_sample..known.span.start];
            let rest = &sql[at..];
            let rest = rest.strip_prefix(between)?;
            let length = match known.kind {
                LiteralKind::String => string(rest)?,
                kind => integer(rest, kind)?,
            };
            let start = at + between.len();
            let span = Span {
                start,
                end: start + length,
            };
            at = span.end;
            of_sample = known.span.end;
            found.push(Literal { span, ..*known });
        }
        if sql[at..] != self.text[of_sample..] {
            return None;
        }
        // All literals are in the statement, and what is behind it is as long.
        let behind = self.text.len() - self.span.end;
        Some(Span {
            start: self.span.start,
            end: sql.len() - behind,
        })
    }
}

/// The length of the integer at the start of `text`, if it is of this kind.
fn integer(text: &[u8], kind: LiteralKind) -> Option<usize> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    (digits > 0 && integer_kind(&text[..digits]) == kind).then_some(digits)
}

/// The length of the plain string at the start of `text`, quotes included.
fn string(text: &[u8]) -> Option<usize> {
    let inner = text.strip_prefix(b"'")?;
    let mut before = b'\'';
    for (at, &byte) in inner.iter().enumerate() {
        if byte == b'\'' {
            // A second quote would go on with it.
            return (inner.get(at + 1) != Some(&b'\'')).then_some(at + 2);
        }
        if byte == b'\\' || !can_skip(before, byte) {
            return None;
        }
        before = byte;
    }
    None
}

#[cfg(test)]
#[path = "sample_tests.rs"]
mod tests;
