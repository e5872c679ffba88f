//! Literals as slots: planning a statement by its shape, without the values of its literals.
//!
//! For such a planning the literals are taken out of the text before anything reads it, and out of the
//! tokens before the parser sees them. What is left is a [`Slot`], which says of what kind the literal is; its
//! value is read at routing, from the text that is routed ([`Literals`]). So no plan can depend on a value that
//! it did not ask for, and whoever would ask (`1 = 0`, a sum, the name of a setting, a search of the text for
//! tables) notes it in [`Looked`]: then the plan is that of one text, or of the texts that pass the same question.

use std::borrow::Cow;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::condition::{Cond, Edge, Item, Scalar};
use super::expr;
use super::misread;
use super::names::Names;
use super::parse;
use super::refuse::{Refusal, not_understood};
use super::{KeyedBy, LeafBy, Merge, Plan, Scatter, Single, Split, SplitRows, Target, ValuesRow};
use mothership_sql::lexer::{Kind, Lexer};
use mothership_sql::shape::{Literal, LiteralKind};

/// What a literal is, whatever its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlotKind {
    /// Digits of an int4 or int8.
    Integer,
    /// Digits with a point between them.
    Decimal,
    /// `'...'`
    Text,
}

impl SlotKind {
    /// The kind of a literal. `None` if its form may be read in more than one way, or if two literals of its kind
    /// may be planned differently: a text with it is planned for itself.
    pub fn of(literal: &Literal, sql: &[u8]) -> Option<SlotKind> {
        let text = literal.span.of(sql);
        match literal.kind {
            LiteralKind::Int4 | LiteralKind::Int8 => Some(SlotKind::Integer),
            LiteralKind::Numeric => is_plain_decimal(text).then_some(SlotKind::Decimal),
            LiteralKind::String => content(text).map(|_| SlotKind::Text),
            LiteralKind::EscapeString | LiteralKind::DollarString => None,
        }
    }

    fn letter(self) -> char {
        match self {
            SlotKind::Integer => 'i',
            SlotKind::Decimal => 'd',
            SlotKind::Text => 's',
        }
    }
}

fn is_plain_decimal(digits: &[u8]) -> bool {
    let mut halves = digits.split(|b| *b == b'.');
    let mut half = || {
        halves
            .next()
            .is_some_and(|half| !half.is_empty() && half.iter().all(u8::is_ascii_digit))
    };
    half() && half() && halves.next().is_none()
}

/// What stands between the quotes, with quotes doubled as they are written. `None` if the constant goes on after
/// a line break.
fn content(quoted: &[u8]) -> Option<&str> {
    let inner = quoted.strip_prefix(b"'")?.strip_suffix(b"'")?;
    let inner = std::str::from_utf8(inner).ok()?;
    let plain = inner.split("''").all(|part| !part.contains('\''));
    plain.then_some(inner)
}

/// A literal in a plan: where it stands among the literals of the text, and what was done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Which literal, from 0.
    pub index: u16,
    /// What it is.
    pub kind: SlotKind,
    /// A minus stands before it.
    pub negative: bool,
    /// The type of the cast around it, 0 for none.
    pub as_type: u32,
}

/// Before the letter and the number in the placeholder that stands for a slot. No text that is parsed has it.
const MARK: &str = "$\u{1}";

impl Slot {
    /// The slot that a placeholder of the parser stands for; `None` for a parameter.
    pub fn of_placeholder(text: &str) -> Option<Slot> {
        let rest = text.strip_prefix(MARK)?;
        let kind = [SlotKind::Integer, SlotKind::Decimal, SlotKind::Text]
            .into_iter()
            .find(|kind| rest.starts_with(kind.letter()))?;
        Some(Slot {
            index: rest.get(1..)?.parse().ok()?,
            kind,
            negative: false,
            as_type: 0,
        })
    }

    /// A constant of the same type, to ask for nothing but the type.
    pub fn form(self) -> Scalar {
        let bare = match self.kind {
            SlotKind::Integer => Scalar::Integer(0),
            SlotKind::Decimal => Scalar::Decimal("0.0".to_owned()),
            SlotKind::Text => Scalar::Text {
                text: String::new(),
                as_type: 0,
            },
        };
        match self.as_type {
            0 => bare,
            oid => expr::cast(bare, oid).expect("a slot was cast to what its kind can be cast to"),
        }
    }

    /// The slot in a cast, where a constant of its kind keeps its value.
    pub fn cast(self, oid: u32) -> Option<Slot> {
        if self.as_type == oid {
            return Some(self);
        }
        // What a cast leaves of a constant can be cast to no other type.
        (self.as_type == 0 && expr::cast(self.form(), oid).is_some()).then_some(Slot {
            as_type: oid,
            ..self
        })
    }
}

/// The literals of a text that is routed by a plan of its shape.
#[derive(Debug, Clone, Copy, Default)]
pub struct Literals<'a> {
    sql: &'a [u8],
    all: &'a [Literal],
}

impl<'a> Literals<'a> {
    /// None.
    pub const NONE: Literals<'static> = Literals { sql: &[], all: &[] };

    /// Those of `sql`, where they stand in it.
    pub fn new(sql: &'a [u8], all: &'a [Literal]) -> Literals<'a> {
        Literals { sql, all }
    }

    /// The constant in a slot, as planning the text for itself reads it. `None` if the text has no such literal.
    pub fn scalar(&self, slot: Slot) -> Option<Scalar> {
        let literal = self.all.get(usize::from(slot.index))?;
        let text = literal.span.of(self.sql);
        let bare = match slot.kind {
            SlotKind::Integer | SlotKind::Decimal => {
                expr::number(std::str::from_utf8(text).ok()?, slot.negative)?
            }
            SlotKind::Text => Scalar::Text {
                text: content(text)?.replace("''", "'"),
                as_type: 0,
            },
        };
        match slot.as_type {
            0 => Some(bare),
            oid => expr::cast(bare, oid),
        }
    }
}

/// What was asked of the literals while a statement was planned without them.
#[derive(Debug, Default)]
pub struct Looked {
    /// The value of one.
    pub value: Cell<bool>,
    /// Whether the text mentions declared tables, and it does not but for its literals.
    pub tables: Cell<bool>,
    /// The same for functions that run SQL.
    pub functions: Cell<bool>,
    /// The same for tables with triggers that reach far.
    pub triggers: Cell<bool>,
}

/// A statement's text as planning sees it: whole, or without its literals.
pub struct Text<'a> {
    sql: &'a str,
    masked: Option<Masked>,
    looked: Rc<Looked>,
    gathers_documents: bool,
}

struct Masked {
    /// Its tokens but the literals, one space between them.
    rest: String,
    /// Where each literal starts, and what it is.
    slots: Vec<(usize, SlotKind)>,
}

/// Whether the words with which writes begin stand in a text, outside of strings and comments.
fn writes(text: &str, strings: bool) -> bool {
    let tokens = Lexer::new(text.as_bytes(), strings).map(|token| {
        let text = text.get(token.start..token.end).unwrap_or_default();
        match token.kind {
            Kind::Word => text.to_ascii_lowercase(),
            Kind::QuotedIdent | Kind::UnicodeIdent => "\"".to_owned(),
            _ => String::new(),
        }
    });
    let mut before = (String::new(), String::new());
    for token in tokens.chain([String::new()]) {
        let (last, word) = &before;
        let begins = match word.as_str() {
            "insert" | "merge" => token == "into",
            "delete" => token == "from",
            "update" => {
                !matches!(last.as_str(), "for" | "key") && !token.is_empty() && token != "from"
            }
            _ => false,
        };
        if begins {
            return true;
        }
        before = (before.1, token);
    }
    false
}

impl<'a> Text<'a> {
    /// A text that is planned for itself.
    pub fn whole(sql: &'a str) -> Text<'a> {
        Text {
            sql,
            masked: None,
            looked: Rc::default(),
            gathers_documents: false,
        }
    }

    /// The same, where documents that it reads are gathered even if one command of MongoDB would give the rows: they
    /// are wanted in a form that only a server of PostgreSQL has.
    pub fn gathering_documents(self) -> Text<'a> {
        Text {
            gathers_documents: true,
            ..self
        }
    }

    /// Whether documents are gathered in any case.
    pub fn gathers_documents(&self) -> bool {
        self.gathers_documents
    }

    /// `blank` is a text with its literals blanked by [`blanked`], which stood at these places.
    pub fn masked(
        blank: &'a str,
        slots: Vec<(usize, SlotKind)>,
        standard_conforming_strings: bool,
    ) -> Text<'a> {
        let mut rest = String::with_capacity(blank.len());
        for token in Lexer::new(blank.as_bytes(), standard_conforming_strings) {
            if slots.binary_search_by_key(&token.start, |s| s.0).is_err() {
                rest.push_str(blank.get(token.start..token.end).unwrap_or_default());
            }
            rest.push(' ');
        }
        Text {
            sql: blank,
            masked: Some(Masked { rest, slots }),
            looked: Rc::default(),
            gathers_documents: false,
        }
    }

    /// Whether it is without its literals.
    pub fn is_masked(&self) -> bool {
        self.masked.is_some()
    }

    /// What was asked so far.
    pub fn looked(&self) -> &Rc<Looked> {
        &self.looked
    }

    /// To cut it into tokens and to find their places; literals may be blanks of the same length.
    pub fn to_cut(&self) -> &'a str {
        self.sql
    }

    fn asks(&self, noted: &Cell<bool>, question: impl Fn(&str) -> bool) -> bool {
        let Some(masked) = &self.masked else {
            return question(self.sql);
        };
        let found = question(&masked.rest);
        // More text can only mention more.
        noted.set(noted.get() || !found);
        found
    }

    /// Whether it has a word that could lead to a declared table.
    pub fn mentions(&self, names: &Names<'_>) -> bool {
        if self.masked.is_some() && names.has_odd() {
            // Such names are searched for across tokens.
            self.looked.value.set(true);
        }
        self.asks(&self.looked.tables, |text| names.mentions(text))
    }

    /// Whether a built-in function in it may run SQL that it does not show.
    pub fn runs_sql(&self, names: &Names<'_>) -> bool {
        self.asks(&self.looked.functions, |text| {
            super::read::runs_sql(names, text)
        })
    }

    /// Whether a query may have a write in its WITH. FOR UPDATE is none.
    pub fn may_write(&self) -> bool {
        let text = self.masked.as_ref().map_or(self.sql, |masked| &masked.rest);
        // Where strings end depends on standard_conforming_strings.
        [true, false].iter().any(|strings| writes(text, *strings))
    }

    /// The refusal of a write to a table of the home shard whose triggers reach further.
    pub fn home_triggers(&self, names: &Names<'_>) -> Result<(), Refusal> {
        let of = |text: &str| super::write::home_triggers(names, text);
        let Some(masked) = &self.masked else {
            return of(self.sql);
        };
        of(&masked.rest)?;
        self.looked.triggers.set(true);
        Ok(())
    }

    /// Text that the parser may read otherwise than PostgreSQL.
    pub fn has_unclear_tokens(&self, standard_conforming_strings: bool) -> bool {
        misread::has_unclear_tokens(self.sql, standard_conforming_strings)
    }

    /// The tokens with placeholders where literals are.
    ///
    /// # Errors
    /// If the parser's tokens are others than ours.
    pub fn without_literals(
        &self,
        mut tokens: Vec<TokenWithSpan>,
    ) -> Result<Vec<TokenWithSpan>, Refusal> {
        let Some(masked) = &self.masked else {
            return Ok(tokens);
        };
        let starts = parse::byte_starts(self.sql, &tokens);
        let mut next = masked.slots.iter().enumerate().peekable();
        for (token, start) in tokens.iter_mut().zip(starts) {
            if let Some((index, (_, kind))) = next.next_if(|(_, slot)| slot.0 == start) {
                token.token = Token::Placeholder(format!("{MARK}{}{index}", kind.letter()));
            }
        }
        match next.next() {
            None => Ok(tokens),
            Some(_) => not_understood(),
        }
    }
}

/// The text with each literal replaced by a blank one of the same kind and length.
pub fn blanked(sql: &str, literals: &[Literal]) -> Option<(String, Vec<(usize, SlotKind)>)> {
    let mut blank = sql.as_bytes().to_vec();
    let mut slots = Vec::with_capacity(literals.len());
    for literal in literals {
        let kind = SlotKind::of(literal, sql.as_bytes())?;
        let bytes = blank.get_mut(literal.span.start..literal.span.end)?;
        match kind {
            SlotKind::Text => {
                let last = bytes.len().checked_sub(1)?;
                bytes.get_mut(1..last)?.fill(b' ');
            }
            SlotKind::Integer | SlotKind::Decimal => {
                for digit in bytes.iter_mut().filter(|b| **b != b'.') {
                    *digit = b'0';
                }
            }
        }
        slots.push((literal.span.start, kind));
    }
    Some((String::from_utf8(blank).ok()?, slots))
}

/// A text of ours with the literals of `literals` where it has slots, as they are written there. `None` if one is
/// not there.
pub fn filled<'t>(text: &'t str, literals: &Literals<'_>) -> Option<Cow<'t, str>> {
    let Some(first) = text.find(MARK) else {
        return Some(Cow::Borrowed(text));
    };
    let mut out = text[..first].to_owned();
    for part in text[first..].split(MARK).skip(1) {
        let rest = part.get(1..)?;
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let literal = literals.all.get(rest[..end].parse::<usize>().ok()?)?;
        out.push_str(std::str::from_utf8(literal.span.of(literals.sql)).ok()?);
        out.push_str(&rest[end..]);
    }
    Some(Cow::Owned(out))
}

impl Plan {
    /// The plan with constants in its slots, as planning the text for itself makes it; but places of rows are those
    /// of the text that was planned.
    pub fn with_literals(&self, literals: &Literals<'_>) -> Option<Plan> {
        Some(match self {
            Plan::Single(single) => Plan::Single(Single {
                target: target(&single.target, literals)?,
                gather: match &single.gather {
                    Some(gather) => Some(Arc::new(gather.with_literals(literals)?)),
                    None => None,
                },
                ..single.clone()
            }),
            Plan::Gather(gather) => Plan::Gather(Arc::new(gather.with_literals(literals)?)),
            Plan::Scatter(scatter) => Plan::Scatter(Scatter {
                target: target(&scatter.target, literals)?,
                merge: match &scatter.merge {
                    Merge::Sorted(sorted) => {
                        Merge::Sorted(Arc::new(sorted.with_literals(literals)?))
                    }
                    merge => merge.clone(),
                },
                ..scatter.clone()
            }),
            Plan::Split(split) => Plan::Split(Split {
                rows: rows(&split.rows, literals)?,
                others: all(&split.others, literals)?,
                ..split.clone()
            }),
            Plan::Local(_) | Plan::Ddl(_) | Plan::Fill(_) | Plan::Guarded(_) | Plan::Refuse(_) => {
                self.clone()
            }
        })
    }
}

fn target(target: &Target, literals: &Literals<'_>) -> Option<Target> {
    Some(match target {
        Target::Keys(keyed) => Target::Keys(all(keyed, literals)?),
        Target::Home | Target::AnyShard | Target::AllShards => target.clone(),
    })
}

pub(super) fn all(keyed: &[KeyedBy], literals: &Literals<'_>) -> Option<Vec<KeyedBy>> {
    let one = |by: &KeyedBy| {
        let kept = by.kept.iter();
        Some(KeyedBy {
            cond: cond(&by.cond, literals)?,
            leaf: match &by.leaf {
                Some(leaf) => Some(LeafBy {
                    cond: cond(&leaf.cond, literals)?,
                    ..leaf.clone()
                }),
                None => None,
            },
            kept: kept
                .map(|(column, value)| Some((*column, scalar(value, literals)?)))
                .collect::<Option<_>>()?,
            ..by.clone()
        })
    };
    keyed.iter().map(one).collect()
}

fn rows(rows: &SplitRows, literals: &Literals<'_>) -> Option<SplitRows> {
    let SplitRows::Values {
        rows,
        parameter_types,
        max_chars,
        nulls,
        whole,
    } = rows
    else {
        return Some(rows.clone());
    };
    let row = |row: &ValuesRow| {
        let key = row.key.iter().map(|value| scalar(value, literals));
        Some(ValuesRow {
            span: row.span.clone(),
            key: key.collect::<Option<_>>()?,
        })
    };
    Some(SplitRows::Values {
        rows: rows.iter().map(row).collect::<Option<_>>()?,
        parameter_types: parameter_types.clone(),
        max_chars: max_chars.clone(),
        nulls: *nulls,
        whole: whole.clone(),
    })
}

fn cond(from: &Cond, literals: &Literals<'_>) -> Option<Cond> {
    let edge = |edge: &Option<Edge>| match edge {
        Some(edge) => Some(Some(Edge {
            value: scalar(&edge.value, literals)?,
            inclusive: edge.inclusive,
        })),
        None => Some(None),
    };
    let item = |item: &Item| {
        Some(match item {
            Item::One(value) => Item::One(scalar(value, literals)?),
            Item::Array { source, element } => Item::Array {
                source: scalar(source, literals)?,
                element: *element,
            },
        })
    };
    Some(match from {
        Cond::Any => Cond::Any,
        Cond::Never => Cond::Never,
        Cond::In {
            column,
            items,
            nulls_match,
        } => Cond::In {
            column: *column,
            items: items.iter().map(item).collect::<Option<_>>()?,
            nulls_match: *nulls_match,
        },
        Cond::Between { column, low, high } => Cond::Between {
            column: *column,
            low: edge(low)?,
            high: edge(high)?,
        },
        // Equal conditions are one, as where they were put together.
        Cond::All(list) => list.iter().try_fold(Cond::Any, |whole, one| {
            Some(whole.and(cond(one, literals)?))
        })?,
        Cond::Either(list) => list.iter().try_fold(Cond::Never, |whole, one| {
            Some(whole.or(cond(one, literals)?))
        })?,
    })
}

pub(super) fn scalar(from: &Scalar, literals: &Literals<'_>) -> Option<Scalar> {
    match from {
        Scalar::Slot(slot) => literals.scalar(*slot),
        known => Some(known.clone()),
    }
}
