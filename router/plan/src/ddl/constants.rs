//! Constants that PostgreSQL makes of the time when something is defined: `DEFAULT 'now'`, a view's `timestamptz 'now'`.
//! Each shard would make another one, and keep it.

use crate::PlanContext;
use crate::names::Names;
use mothership_catalog::Relation;
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
const OF_TIME: [&str; 6] = ["timestamp", "timestamptz", "date", "time", "timetz", "zone"];

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
    let mut moving = moving.filter(|at| !text.is_cast(*at, &OF_TEXT));
    moving.any(|at| {
        let is_compared = matches!(
            object,
            Object::View | Object::MaterializedView | Object::Index
        ) || matches!(object, Object::Policy | Object::Other);
        text.is_cast(at, &OF_TIME)
            || text.is_default(at) && !text.fills_text(at, names)
            || is_compared && text.names_times(names)
    })
}

struct Text<'s> {
    sql: &'s str,
    tokens: Vec<Token>,
}

impl Text<'_> {
    fn word(&self, at: usize) -> String {
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
                    .find(opens)
                    .and_then(|open| open.checked_sub(1))
            }
            last => last,
        };
        before.is_some_and(is)
            || kind(behind) == Some(Kind::TypeCast) && is_type(behind + 1)
            || self.word(at + 1) == "as" && is_type(at + 2)
    }

    /// The word DEFAULT before a string, with nothing but parentheses between.
    fn default_of(&self, at: usize) -> Option<usize> {
        let is_opened = |at: &usize| self.tokens[*at].kind != Kind::LParen;
        let before = (0..at).rev().find(is_opened)?;
        (self.word(before) == "default").then_some(before)
    }

    fn is_default(&self, at: usize) -> bool {
        self.default_of(at).is_some()
    }

    /// Whether what the default fills is a text.
    fn fills_text(&self, at: usize, names: &Names<'_>) -> bool {
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
        let is_set = default
            .checked_sub(2)
            .filter(|_| self.word(default - 1) == "set");
        declared || is_set.is_some_and(|column| self.is_of_text(column, names))
    }

    /// Whether all columns of this name are texts, in the tables that the statement may mean.
    fn is_of_text(&self, at: usize, names: &Names<'_>) -> bool {
        let token = &self.tokens[at];
        let column = self.sql[token.start..token.end]
            .trim_matches('"')
            .to_owned();
        let columns = self.relations(names).filter_map(|relation| {
            let mut columns = relation.columns.iter();
            columns.find(|own| own.name.eq_ignore_ascii_case(&column))
        });
        let mut types = columns.map(|column| names.catalog.base_type(column.type_oid));
        types.all(|oid| [18, 19, 25, 114, 1042, 1043, 3802].contains(&oid))
    }

    fn relations<'n>(&self, names: &'n Names<'_>) -> impl Iterator<Item = &'n Relation> {
        let lower = self.sql.to_lowercase();
        let relations = names.catalog.relations.values();
        relations.filter(move |relation| {
            mothership_catalog::types::may_name(&lower, &relation.name.name.to_lowercase())
        })
    }

    /// Whether the statement names a table with times.
    fn names_times(&self, names: &Names<'_>) -> bool {
        /// date, time, timestamp, timestamptz, timetz, their arrays, and ranges of them.
        const TIMES: [u32; 16] = [
            1082, 1083, 1114, 1184, 1266, 1182, 1183, 1115, 1185, 1270, 3908, 3910, 3912, 4533,
            4534, 4535,
        ];
        self.relations(names).any(|relation| {
            let mut columns = relation.columns.iter();
            columns.any(|column| TIMES.contains(&names.catalog.base_type(column.type_oid)))
        })
    }
}
