//! Reads an INSERT whose rows are those of a VALUES list, each field cast: how ORMs insert many rows with generated keys.
//!
//! `INSERT INTO t (a, b) SELECT x::int, y::text FROM (VALUES (1, 'x', 0), (2, 'y', 1)) AS v (x, y, n) ORDER BY n` has
//! the rows of `INSERT INTO t (a, b) VALUES (1::int, 'x'::text), (2::int, 'y'::text)`, in the same order. What this finds is
//! what has to be written for the one instead of the other. It reads tokens and knows no other form than this one; where
//! the type that a field has in its list is not certain, it finds nothing.

use std::ops::Range;

use crate::PlanContext;
use crate::names::fold;
use mothership_sql::lexer::{Kind, Lexer, Token};

/// What stands around the rows.
pub(super) struct Recast {
    /// Where SELECT begins.
    pub select: usize,
    /// What is written behind the field of each row and column, which then stands in parentheses.
    pub casts: Vec<Vec<String>>,
    /// From behind the last row to the end of the SELECT.
    pub tail: Range<usize>,
}

/// The types that a client may declare for a parameter and that have the same name everywhere.
const NAMES: [(u32, &str); 13] = [
    (16, "bool"),
    (20, "int8"),
    (21, "int2"),
    (23, "int4"),
    (25, "text"),
    (700, "float4"),
    (701, "float8"),
    (1043, "varchar"),
    (1082, "date"),
    (1114, "timestamp"),
    (1184, "timestamptz"),
    (1700, "numeric"),
    (2950, "uuid"),
];

/// The numbers among them, each of which the ones before it become beside it.
const NUMBERS: [u32; 4] = [21, 23, 20, 1700];

/// What a field is to the type of its column in the list.
enum Field {
    /// NULL: of the type that the others have, text if none has one.
    Null,
    /// A string: the same.
    Text,
    /// A parameter without a declared type: the same.
    Undeclared,
    /// A parameter of this type.
    Declared(u32),
    /// An integer that is an int4 by itself.
    Number,
    /// A simple value with a cast: the type's words.
    Cast(String),
}

/// The form in a text, of which these are the fields of all rows. `None` if it is any other.
pub(super) fn recast(
    sql: &str,
    context: &PlanContext,
    rows: &[(Range<usize>, Vec<Range<usize>>)],
) -> Option<Recast> {
    let (first, last) = (&rows.first()?.0, &rows.last()?.0);
    let tokens: Vec<Token> = lexer(sql, context).collect();
    let words = Words {
        sql,
        tokens: &tokens,
    };
    let before = tokens.iter().take_while(|t| t.start < first.start).count();
    let select = (0..before).find(|at| words.is(*at, "select"))?;
    let behind = tokens.iter().take_while(|t| t.start <= last.end).count();
    let (projected, types) = words.projection(select + 1, before)?;
    let (listed, end) = words.alias(behind)?;
    let mut tail = last.end + 1..tokens[end - 1].end;
    if words.is(end, "order") {
        // By the number of the row, which stands at its end.
        let by = words.name(end + 2)?;
        let counted = listed.len() == projected.len() + 1 && listed.last() == Some(&by);
        let numbered = |(number, (_, fields)): (usize, &(Range<usize>, Vec<Range<usize>>))| {
            fields
                .last()
                .is_some_and(|field| sql[field.clone()] == number.to_string())
        };
        if !words.is(end + 1, "by") || !counted || !rows.iter().enumerate().all(numbered) {
            return None;
        }
        tail.end = tokens[end + 2].end;
    }
    // What follows must belong to the INSERT, or be nothing.
    let next = tokens.iter().position(|token| token.start >= tail.end);
    if let Some(at) = next {
        let ends = tokens[at].kind == Kind::Semicolon;
        if !ends && !words.is(at, "returning") && !words.is(at, "on") {
            return None;
        }
    }
    let distinct = (1..listed.len()).all(|at| !listed[..at].contains(&listed[at]));
    let in_order = listed.starts_with(&projected) && listed.len() <= projected.len() + 1;
    if !distinct || !in_order || rows.iter().any(|(_, fields)| fields.len() != listed.len()) {
        return None;
    }
    let mut casts = vec![Vec::new(); rows.len()];
    for (column, to) in types.iter().enumerate() {
        let fields = rows
            .iter()
            .map(|(_, fields)| field(&sql[fields[column].clone()], context));
        let column: Vec<Field> = fields.collect::<Option<_>>()?;
        let listed = type_in_list(&column)?;
        for (row, field) in casts.iter_mut().zip(&column) {
            let own = match field {
                Field::Null | Field::Text | Field::Undeclared => listed.as_str(),
                _ => "",
            };
            row.push(format!("{own}{to}"));
        }
    }
    let select = tokens[select].start;
    Some(Recast {
        select,
        casts,
        tail,
    })
}

fn lexer<'t>(text: &'t str, context: &PlanContext) -> Lexer<'t> {
    Lexer::new(text.as_bytes(), context.standard_conforming_strings)
}

/// The cast that gives NULL, a string or an undeclared parameter the type that it has in its column; empty if there is none.
fn type_in_list(column: &[Field]) -> Option<String> {
    let open = column
        .iter()
        .any(|f| matches!(f, Field::Text | Field::Undeclared));
    let mut casts = column.iter().filter_map(|field| match field {
        Field::Cast(to) => Some(to),
        _ => None,
    });
    let mut declared = Vec::new();
    for field in column {
        match field {
            Field::Declared(oid) => declared.push(*oid),
            Field::Number => declared.push(23),
            _ => {}
        }
    }
    match casts.next() {
        Some(to) => {
            // In the list only what is cast has the modifier of the type.
            let alike = declared.is_empty() && casts.all(|other| other == to);
            (alike && !(open && to.contains('('))).then(|| format!("::{to}"))
        }
        None => {
            let Some(first) = declared.first() else {
                return Some("::text".to_owned());
            };
            let rank = |oid: &u32| NUMBERS.iter().position(|number| number == oid);
            let oid = match declared.iter().all(|oid| oid == first) {
                true => *first,
                false => {
                    NUMBERS[declared
                        .iter()
                        .map(rank)
                        .collect::<Option<Vec<_>>>()?
                        .into_iter()
                        .max()?]
                }
            };
            let name = NAMES.iter().find(|(known, _)| *known == oid);
            match (name, open) {
                (Some((_, name)), _) => Some(format!("::{name}")),
                (None, false) => Some(String::new()),
                (None, true) => None,
            }
        }
    }
}

fn field(text: &str, context: &PlanContext) -> Option<Field> {
    let tokens: Vec<Token> = lexer(text, context).collect();
    let words = Words {
        sql: text,
        tokens: &tokens,
    };
    let (value, cast) = tokens.split_first()?;
    let is_null = words.is(0, "null");
    if let Some((colons, _)) = cast.split_first() {
        let simple = is_null
            || matches!(
                value.kind,
                Kind::Param | Kind::String | Kind::Integer | Kind::Decimal
            );
        let to = words.type_name(2, tokens.len())?;
        return (simple && colons.kind == Kind::TypeCast).then_some(Field::Cast(to));
    }
    match value.kind {
        _ if is_null => Some(Field::Null),
        Kind::String => Some(Field::Text),
        Kind::Integer => text.parse::<i32>().ok().map(|_| Field::Number),
        Kind::Param => {
            let number: usize = text.get(1..)?.parse().ok()?;
            let declared = context.parameter_types.get(number.checked_sub(1)?);
            Some(match declared {
                None | Some(0) => Field::Undeclared,
                Some(oid) => Field::Declared(*oid),
            })
        }
        _ => None,
    }
}

struct Words<'a> {
    sql: &'a str,
    tokens: &'a [Token],
}

impl Words<'_> {
    fn is(&self, at: usize, word: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| {
            token.kind == Kind::Word && self.sql[token.start..token.end].eq_ignore_ascii_case(word)
        })
    }

    fn is_kind(&self, at: usize, kind: Kind) -> bool {
        self.tokens.get(at).is_some_and(|token| token.kind == kind)
    }

    fn name(&self, at: usize) -> Option<String> {
        let token = self.tokens.get(at)?;
        let text = &self.sql[token.start..token.end];
        match token.kind {
            Kind::Word => Some(fold(text, false).into_owned()),
            _ => None,
        }
    }

    /// `a::int, b FROM (VALUES`, and nothing else between these tokens: names, and their casts or nothing.
    fn projection(&self, from: usize, to: usize) -> Option<(Vec<String>, Vec<String>)> {
        let end = to.checked_sub(3)?;
        let closed = self.is(end, "from")
            && self.is_kind(end + 1, Kind::LParen)
            && self.is(end + 2, "values");
        if !closed {
            return None;
        }
        let (mut names, mut types, mut at) = (Vec::new(), Vec::new(), from);
        loop {
            names.push(self.name(at)?);
            let mut comma = at + 1;
            let mut depth = 0_usize;
            while comma < end && (depth > 0 || !self.is_kind(comma, Kind::Comma)) {
                depth += usize::from(self.is_kind(comma, Kind::LParen));
                depth = depth.saturating_sub(usize::from(self.is_kind(comma, Kind::RParen)));
                comma += 1;
            }
            types.push(match comma == at + 1 {
                true => String::new(),
                false if self.is_kind(at + 1, Kind::TypeCast) => {
                    format!("::{}", self.type_name(at + 2, comma)?)
                }
                false => return None,
            });
            if comma == end {
                return Some((names, types));
            }
            at = comma + 1;
        }
    }

    /// `) AS v (a, b)` from this token on: the names, and the token behind it.
    fn alias(&self, mut at: usize) -> Option<(Vec<String>, usize)> {
        if !self.is_kind(at, Kind::RParen) {
            return None;
        }
        at += 1 + usize::from(self.is(at + 1, "as"));
        self.name(at)?;
        if !self.is_kind(at + 1, Kind::LParen) {
            return None;
        }
        let mut names = Vec::new();
        at += 2;
        loop {
            names.push(self.name(at)?);
            match self.tokens.get(at + 1)?.kind {
                Kind::Comma => at += 2,
                Kind::RParen => return Some((names, at + 2)),
                _ => return None,
            }
        }
    }

    /// A type as it is written: words, a modifier, brackets. No operator, and so no end of the cast, is among them.
    fn type_name(&self, from: usize, to: usize) -> Option<String> {
        let tokens = self.tokens.get(from..to)?;
        let fits = |token: &Token| {
            matches!(
                token.kind,
                Kind::Word
                    | Kind::LParen
                    | Kind::RParen
                    | Kind::LBracket
                    | Kind::RBracket
                    | Kind::Integer
                    | Kind::Comma
            )
        };
        let (first, last) = (tokens.first()?, tokens.last()?);
        // `x::int IS NULL`, `x::int COLLATE ...` and the like are no types.
        let one = tokens
            .iter()
            .filter(|token| token.kind == Kind::Word)
            .count()
            == 1;
        (one && first.kind == Kind::Word && tokens.iter().all(fits))
            .then(|| self.sql[first.start..last.end].to_ascii_lowercase())
    }
}
