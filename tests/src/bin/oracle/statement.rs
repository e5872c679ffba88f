//! A generated statement with what must be known to run it and to judge its answers.
//!
//! Values are marked in the text, so that one statement can be written with its
//! values in place or as parameters. What asks for neither is plain text.

use crate::values::{KEYS, Ty, quote};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use std::collections::BTreeSet;

/// Around the number of a value in a text.
const OPEN: char = '\u{E000}';
const CLOSE: char = '\u{E001}';

/// A value.
#[derive(Debug, Clone)]
pub struct Value {
    pub ty: Ty,
    /// `None` is null.
    pub text: Option<String>,
    /// As it is written where it is not a parameter.
    pub inline: String,
    /// Whether it may become a parameter.
    pub parameter: bool,
    /// Whether the parameter is cast where it stands.
    pub cast: bool,
}

/// The sign of value `number`.
pub fn mark(number: usize) -> String {
    format!("{OPEN}{number}{CLOSE}")
}

/// What must hold of the order of the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Nothing.
    None,
    /// Rows come by these columns of the answer.
    Columns(Vec<usize>),
    /// Rows come by something that is not in the answer.
    Hidden,
}

/// What a statement does to rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Reads,
    /// These tables may change.
    Writes(Vec<String>),
}

/// A statement.
#[derive(Debug, Clone)]
pub struct Statement {
    pub text: String,
    pub values: Vec<Value>,
    pub features: BTreeSet<&'static str>,
    pub order: Order,
    pub effect: Effect,
    /// It adds up floating point numbers, whose sum depends on their order.
    pub floats: bool,
    /// What tells which rows may stand where, of one that reads.
    pub ranked: Option<Ranked>,
}

/// A statement that says of each row how many groups of peers come before its own.
#[derive(Debug, Clone)]
pub struct Ranked {
    /// It gives the columns of the statement itself and then the rank, without a LIMIT.
    pub text: String,
    /// How many rows the statement leaves out at the start.
    pub offset: usize,
}

impl Statement {
    /// With all values in place.
    pub fn inline(&self) -> String {
        self.inlined(&self.text)
    }

    /// Another text with the same values in place.
    pub fn inlined(&self, text: &str) -> String {
        self.render(text, |value, _| value.inline.clone()).0
    }

    /// With parameters, and the values that they stand for.
    pub fn parameters(&self) -> (String, Vec<&Value>) {
        let (text, used) = self.render(&self.text, |value, place| match (value.parameter, place) {
            (true, place) if value.cast => format!("${place}::{}", value.ty.name()),
            (true, place) => format!("${place}"),
            (false, _) => value.inline.clone(),
        });
        let used = used.into_iter().filter(|at| self.values[*at].parameter);
        (text, used.map(|at| &self.values[at]).collect())
    }

    /// The same statement with other values: a text that the router has seen in this shape.
    pub fn with_other_values(&self, rng: &mut StdRng) -> Statement {
        let mut other = self.clone();
        for value in &mut other.values {
            // What is counted by must stay a count.
            let counts = value.ty == Ty::Int8 && !value.inline.contains("::");
            if !counts && rng.random_bool(0.7) {
                let pool = match rng.random_bool(0.5) && KEYS.contains(&value.ty) {
                    true => value.ty.key_pool(),
                    false => value.ty.pool().iter().map(|v| (*v).to_owned()).collect(),
                };
                let text = pool.choose(rng).expect("no pool is empty").clone();
                value.inline = match value.ty.bare(&text) {
                    Some(bare) if !value.inline.contains("::") => bare,
                    _ => Value::cast_inline(value.ty, Some(&text)),
                };
                value.text = Some(text);
            }
        }
        other.features.insert("again with other values");
        other
    }

    /// Each mark by its value and its place among the parameters; and the values in the order of their first use.
    fn render(&self, text: &str, show: impl Fn(&Value, usize) -> String) -> (String, Vec<usize>) {
        let mut out = String::new();
        let mut used: Vec<usize> = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(OPEN) {
            out += &rest[..open];
            let close = rest.find(CLOSE).expect("every mark is closed");
            let number: usize = rest[open + OPEN.len_utf8()..close]
                .parse()
                .expect("a number");
            if !used.contains(&number) {
                used.push(number);
            }
            let before = used.iter().take_while(|at| **at != number);
            let place = before.filter(|at| self.values[**at].parameter).count() + 1;
            out += &show(&self.values[number], place);
            rest = &rest[close + CLOSE.len_utf8()..];
        }
        (out + rest, used)
    }
}

impl Value {
    /// A value as it is cast where it stands: certain to be of its type.
    pub fn cast_inline(ty: Ty, text: Option<&str>) -> String {
        match text {
            Some(text) => format!("{}::{}", quote(text), ty.name()),
            None => format!("NULL::{}", ty.name()),
        }
    }
}
