//! CREATE FUNCTION and CREATE PROCEDURE: a body that is a string may name what only the home shard has.

use super::constants::Text;
use crate::PlanContext;
use mothership_sql::effect::Verb;
use mothership_sql::lexer::{Kind, Lexer};

/// What other shards than the home shard are told instead of `sql`, which creates a routine in SQL.
///
/// A server that creates it parses its body, and there the body may name a table of the home shard. So only the home shard
/// does that (`check_function_bodies`, PostgreSQL's "Client Connection Defaults"). Where the routine is called, its body is
/// looked through like any other.
///
/// `None` for other languages, which do not look names up so early, and for a body that is no string: PostgreSQL keeps that
/// as a tree, and has to know what it names.
pub(super) fn unchecked(sql: &str, verb: Verb, context: &PlanContext) -> Option<String> {
    if verb != Verb::Create {
        return None;
    }
    let strings = context.standard_conforming_strings;
    let text = Text {
        sql,
        tokens: Lexer::new(sql.as_bytes(), strings).collect(),
    };
    let places = 0..text.tokens.len();
    let is_string = |at: usize| text.tokens.get(at).is_some_and(|t| t.kind.is_string());
    let is_sql = |at: usize| text.word(at) == "language" && text.word(at + 1) == "sql";
    let has_body = |at: usize| text.word(at) == "as" && is_string(at + 1);
    // One at the end does no harm.
    let semicolons = text.tokens.iter().rev().skip(1);
    let is_one = !semicolons
        .into_iter()
        .any(|token| token.kind == Kind::Semicolon);
    if !is_one || !places.clone().any(is_sql) || !places.clone().any(has_body) {
        return None;
    }
    let (inner, outer) = (tag("body", sql), tag("all", sql));
    Some(format!(
        "DO {outer}DECLARE before text := pg_catalog.current_setting('check_function_bodies'); BEGIN \
         PERFORM pg_catalog.set_config('check_function_bodies', 'off', true); \
         EXECUTE {inner}{sql} {inner}; \
         PERFORM pg_catalog.set_config('check_function_bodies', before, true); END{outer}"
    ))
}

/// A dollar quote that does not end within `sql`.
fn tag(word: &str, sql: &str) -> String {
    let mut tags = (0..).map(|number: u64| format!("$mothership_{word}_{number}$"));
    let free = tags.find(|tag| !sql.contains(tag.as_str()));
    free.expect("a text does not contain all numbers")
}
