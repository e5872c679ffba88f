//! Constants that PostgreSQL makes of the time when something is defined: `DEFAULT 'now'`, a view's `timestamptz 'now'`.
//! Each shard would make another one, and keep it.

use super::times::Columns;
use crate::PlanContext;
use crate::names::Names;
use mothership_sql::effect::{Object, Verb};
use mothership_sql::lexer::{Kind, Lexer, Token};
use mothership_sql::name;
use mothership_sql::time::is_moving;

/// Types whose values are texts, where such a word stays one.
const OF_TEXT: [&str; 9] = [
    "text",
    "varchar",
    "character",
    "char",
    "bpchar",
    "citext",
    "name",
    "json",
    "jsonb",
];

/// Types, and words at the end of their names, that read such a word as a time.
pub(super) const OF_TIME: [&str; 6] =
    ["timestamp", "timestamptz", "date", "time", "timetz", "zone"];

/// What may stand between a column and what it is compared with.
const PASSED: [&str; 8] = [
    "not",
    "in",
    "any",
    "all",
    "some",
    "array",
    "between",
    "symmetric",
];

/// A definition with more of them that are no texts is refused unread.
const MOST: usize = 64;

/// Whether a definition has a string that is a time of this moment and becomes a constant.
pub(super) fn of_time(
    names: &Names<'_>,
    sql: &str,
    (verb, object): (Verb, Object),
    context: &PlanContext,
) -> bool {
    if !matches!(verb, Verb::Create | Verb::Alter) {
        return false;
    }
    let strings = context.standard_conforming_strings;
    let text = Text {
        sql,
        tokens: Lexer::new(sql.as_bytes(), strings).collect(),
    };
    let is_moving = |token: &Token| {
        token.kind.is_string()
            && name::string(*token, sql.as_bytes(), strings)
                .is_none_or(|constant| is_moving(&constant.value))
    };
    let moving = (0..text.tokens.len()).filter(|at| is_moving(&text.tokens[*at]));
    let moving = moving.filter(|at| !text.is_cast(*at, &OF_TEXT));
    let moving: Vec<usize> = moving.take(MOST + 1).collect();
    if moving.is_empty() {
        return false;
    }
    let columns = Columns::of(&text, names);
    let is_compared = |at: usize| match object {
        Object::Routine => text.has("atomic") && columns.has_times(),
        Object::Table => text.is_bound(at) && columns.has_times() || text.meets_time(at, &columns),
        Object::Type => text.meets_time(at, &columns),
        // Views, indexes, policies, and conditions of triggers, rules and publications.
        _ => columns.has_times(),
    };
    moving.len() > MOST
        || moving.iter().any(|at| {
            text.is_cast(*at, &OF_TIME)
                || text.is_default(*at) && !text.fills_text(*at, &columns)
                || text.converts(*at)
                || is_compared(*at)
        })
}

/// A definition.
pub(super) struct Text<'s> {
    pub sql: &'s str,
    pub tokens: Vec<Token>,
}

impl Text<'_> {
    /// The name or keyword at a place, in lower case; nothing where there is none.
    pub fn word(&self, at: usize) -> String {
        let is_name = |token: &&Token| matches!(token.kind, Kind::Word | Kind::QuotedIdent);
        let token = self.tokens.get(at).filter(is_name);
        let word = token.map(|token| self.sql[token.start..token.end].to_ascii_lowercase());
        let word = word.map(|word| word.trim_matches('"').to_owned());
        word.unwrap_or_default()
    }

    /// Whether a string is a constant of one of these types, or cast to one.
    fn is_cast(&self, at: usize, types: &[&str]) -> bool {
        let is = |at: usize| types.contains(&&*self.word(at));
        let kind = |at: usize| self.tokens.get(at).map(|token| token.kind);
        let mut behind = at + 1;
        while kind(behind) == Some(Kind::RParen) {
            behind += 1;
        }
        // A type's name may have a schema before it, and a precision behind it.
        let is_type = |at: usize| match kind(at + 1) {
            Some(Kind::Dot) => is(at + 2),
            _ => is(at),
        };
        let before = match at.checked_sub(1) {
            Some(last) if kind(last) == Some(Kind::RParen) => {
                let opens = |at: &usize| kind(*at) == Some(Kind::LParen);
                (0..last)
                    .rev()
                    .take(2)
                    .find(opens)
                    .and_then(|open| open.checked_sub(1))
            }
            last => last,
        };
        before.is_some_and(is)
            || kind(behind) == Some(Kind::TypeCast) && is_type(behind + 1)
            || self.word(at + 1) == "as" && is_type(at + 2)
    }

    /// The word DEFAULT of the expression that a string stands in.
    fn default_of(&self, at: usize) -> Option<usize> {
        let is_it = |before: &usize| self.word(*before) == "default" && self.reaches(*before, at);
        (0..at).rev().find(is_it)
    }

    /// Whether what follows the word at `from` goes on up to `at`: in the same parentheses, and without a comma outside of
    /// others.
    fn reaches(&self, from: usize, at: usize) -> bool {
        let mut depth = 0;
        self.tokens[from..at].iter().all(|token| {
            match token.kind {
                Kind::LParen | Kind::LBracket => depth += 1,
                Kind::RParen | Kind::RBracket => depth -= 1,
                Kind::Comma | Kind::Semicolon => return depth > 0,
                _ => {}
            }
            depth >= 0
        })
    }

    /// Whether a string stands in the expression that a column is converted by, and the new type is no text.
    fn converts(&self, at: usize) -> bool {
        let is_using = |using: &usize| self.word(*using) == "using" && self.reaches(*using, at);
        let Some(using) = (0..at).rev().find(is_using) else {
            return false;
        };
        let is_type = |word: &usize| self.word(*word) == "type" && self.reaches(*word, using);
        let of = (0..using).rev().find(is_type);
        of.is_some_and(|of| !(of..using).any(|at| OF_TEXT.contains(&&*self.word(at))))
    }

    fn is_default(&self, at: usize) -> bool {
        self.default_of(at).is_some()
    }

    /// Whether what the default fills is a text.
    fn fills_text(&self, at: usize, columns: &Columns) -> bool {
        let Some(default) = self.default_of(at) else {
            return false;
        };
        // The words of its column, argument or domain.
        let (mut depth, mut first) = (0, default);
        while let Some(before) = first.checked_sub(1) {
            match self.tokens[before].kind {
                Kind::RParen => depth += 1,
                Kind::LParen | Kind::Comma if depth == 0 => break,
                Kind::LParen => depth -= 1,
                _ => {}
            }
            first = before;
        }
        let declared = (first + 1..default).any(|at| OF_TEXT.contains(&&*self.word(at)));
        // Of a domain nobody has looked up the type.
        let is_set = default
            .checked_sub(2)
            .filter(|_| self.word(default - 1) == "set" && self.word(1) != "domain");
        declared || is_set.is_some_and(|column| columns.is_of_text(&self.word(column)))
    }

    fn has(&self, word: &str) -> bool {
        (0..self.tokens.len()).any(|at| self.word(at) == word)
    }

    /// Whether a string is a bound of a partition.
    fn is_bound(&self, at: usize) -> bool {
        (1..at).any(|at| self.word(at - 1) == "for" && self.word(at) == "values")
    }

    /// Whether a string in an expression of a table or domain may be compared with a time, or added to one.
    fn meets_time(&self, at: usize, columns: &Columns) -> bool {
        let Some(expression) = columns.expression_around(at) else {
            return false;
        };
        let is_passed = |at: &usize| match self.tokens[*at].kind {
            Kind::LParen | Kind::LBracket | Kind::Comma | Kind::Operator => true,
            kind => kind.is_string() || PASSED.contains(&&*self.word(*at)),
        };
        // What it is compared with, where that is a column by itself, or some time in the whole expression.
        let mut left = expression.clone().rev().filter(|left| *left < at);
        let left = left.find(|left| !is_passed(left));
        let column = left.and_then(|left| columns.is_of_time(&self.word(left)));
        column.unwrap_or_else(|| {
            let mut words = expression.clone().map(|at| self.word(at));
            words.any(|word| OF_TIME.contains(&&*word) || columns.is_of_time(&word) == Some(true))
        })
    }
}
