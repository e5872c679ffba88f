//! The door to sqlparser: text in, one statement and its tokens out, with bounds on depth.

use std::ops::Range;

use sqlparser::ast::{Expr, Ident, Query, SelectItem, SetExpr, Statement};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Word};

use super::expr::placeholder;
use super::gather::views::Opened;
use super::grammar::{self, Grammar, Strength};
use super::names::fold;
use super::refuse::{Reason, Refusal, not_understood, refuse};
use super::slots::Text;
use super::spelled::Spelled;
use mothership_sql::lexer::{Kind, Lexer};

/// Parentheses, subqueries and the like may nest this deep.
const MAX_NESTING: usize = 60;

/// More operators than this in one statement are not parsed: chains of them become trees as
/// deep as they are long, which even dropping would walk.
const MAX_OPERATORS: usize = 6_000;

/// Tokens of one statement, constants in lists included: each becomes some hundred bytes of tokens and tree.
const MAX_TOKENS: usize = 400_000;

/// Terms in lists of one statement, but for constants in parentheses (rows of VALUES, IN lists): sort keys, groups,
/// columns, entries of FROM. PostgreSQL has a limit of 1664 for most of them.
const MAX_TERMS: usize = 6_000;

/// A statement as the parser sees it.
pub struct Parsed {
    /// The tree.
    pub statement: Statement,
    /// The client's tokens but white space, with their places. The tree is made of rewritten ones.
    pub tokens: Vec<TokenWithSpan>,
    /// The parameters and where they stand.
    pub placeholders: Vec<(Location, u16)>,
    /// Views that the text names and the tree has as subqueries.
    pub opened: Vec<Opened>,
    /// Whether their definitions have constants whose meaning depends on settings, such as DateStyle.
    pub opened_forms: bool,
}

/// Parses a query or a write, after it has rewritten the grammar that the parser does not know.
pub fn query_or_write(text: &Text<'_>) -> Result<Parsed, Refusal> {
    parse(text.without_literals(tokens(text.to_cut())?)?, normalised)
}

/// The same of a text that is spelled in a way that the parser does not know.
pub fn spelled(text: &Spelled) -> Result<Parsed, Refusal> {
    parse(text.tokens()?, normalised)
}

/// Parses one statement.
pub fn statement(sql: &str) -> Result<Parsed, Refusal> {
    parse(tokens(sql)?, defining)
}

/// The tokens of a definition in a form that the parser knows.
fn defining(tokens: &[TokenWithSpan]) -> Vec<TokenWithSpan> {
    with_set_columns(without_identity_options(tokens))
}

/// So many foreign keys with such a list are read, and so many tokens back to their REFERENCES.
const MAX_SET_COLUMNS: usize = 100;
const MAX_ACTIONS: usize = 200;

/// `REFERENCES t (a, b) ON DELETE SET NULL (a)`: the columns that are set, which the parser does not know, go behind those of
/// the other table, as names that no client can write.
fn with_set_columns(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut at = 0;
    let mut left = MAX_SET_COLUMNS;
    while at < tokens.len() && left > 0 {
        let is_action = [["delete", "set", "null"], ["delete", "set", "default"]]
            .iter()
            .any(|action| says(&tokens, at, action));
        at += 1;
        if is_action && let Some(moved) = move_set_columns(&mut tokens, at + 2) {
            left -= 1;
            at = moved;
        }
    }
    tokens
}

/// The same of one foreign key; `at` is behind SET NULL. Gives the place behind its list, if there is one.
fn move_set_columns(tokens: &mut Vec<TokenWithSpan>, at: usize) -> Option<usize> {
    let token = |at: usize| tokens.get(at).map(|token| &token.token);
    (token(at)? == &Token::LParen).then_some(())?;
    let length = tokens[at..].iter().position(|t| t.token == Token::RParen)?;
    let listed = &tokens[at + 1..at + length];
    let columns: Option<Vec<TokenWithSpan>> = listed
        .split(|token| token.token == Token::Comma)
        .map(|column| match column {
            [
                TokenWithSpan {
                    token: Token::Word(word),
                    span,
                },
            ] => {
                let name = fold(&word.value, word.quote_style.is_some());
                Some(TokenWithSpan::new(marked(&name), *span))
            }
            _ => None,
        })
        .collect();
    let columns = columns?;
    let from = at.saturating_sub(MAX_ACTIONS);
    let references = (from..at)
        .rev()
        .find(|at| says(tokens, *at, &["references"]))?;
    let mut name = references + 2;
    while token(name)? == &Token::Period {
        name += 2;
    }
    let placed = |t: Token| TokenWithSpan::new(t, tokens[at].span);
    let list = columns
        .into_iter()
        .flat_map(|column| [placed(Token::Comma), column]);
    let (place, list): (usize, Vec<TokenWithSpan>) = match token(name)? {
        Token::LParen => {
            let close = tokens[name..]
                .iter()
                .position(|t| t.token == Token::RParen)?;
            (name + close, list.collect())
        }
        _ => {
            let open = std::iter::once(placed(Token::LParen));
            let close = std::iter::once(placed(Token::RParen));
            (name, open.chain(list.skip(1)).chain(close).collect())
        }
    };
    // A parenthesis of REFERENCES that is closed by nothing before.
    (place <= at).then_some(())?;
    let added = list.len();
    tokens.drain(at..=at + length);
    tokens.splice(place..place, list);
    Some(at + added)
}

/// Removes the options of the sequence, in parentheses behind GENERATED ... AS IDENTITY: the parser does not know all of them,
/// and they are constants and a name.
fn without_identity_options(tokens: &[TokenWithSpan]) -> Vec<TokenWithSpan> {
    let white = |t: &&TokenWithSpan| matches!(t.token, Token::Whitespace(_));
    let mut kept: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut rest = tokens.iter().filter(|t| !white(t));
    while let Some(token) = rest.next() {
        if token.token != Token::LParen || !ends_with_identity(&kept) {
            kept.push(token.clone());
            continue;
        }
        let mut depth = 1usize;
        while depth > 0 {
            match rest.next().map(|token| &token.token) {
                Some(Token::LParen) => depth += 1,
                Some(Token::RParen) => depth -= 1,
                Some(_) => {}
                None => return kept,
            }
        }
    }
    kept
}

/// Whether these tokens end with GENERATED ALWAYS AS IDENTITY, or BY DEFAULT.
fn ends_with_identity(tokens: &[TokenWithSpan]) -> bool {
    let forms: [&[&str]; 2] = [
        &["generated", "always", "as", "identity"],
        &["generated", "by", "default", "as", "identity"],
    ];
    forms.iter().any(|form| {
        let at = tokens.len().checked_sub(form.len());
        at.is_some_and(|at| says(tokens, at, form))
    })
}

/// Parses an expression.
pub fn expression(text: &str) -> Option<Expr> {
    match statement(&format!("SELECT {text}")).ok()?.statement {
        Statement::Query(query) => match *query.body {
            SetExpr::Select(mut select) => {
                match (select.projection.pop(), select.projection.is_empty()) {
                    (Some(SelectItem::UnnamedExpr(expr)), true) => Some(expr),
                    _ => None,
                }
            }
            _ => None,
        },
        _ => None,
    }
}

fn parse(
    mut tokens: Vec<TokenWithSpan>,
    prepare: impl Fn(&[TokenWithSpan]) -> Vec<TokenWithSpan>,
) -> Result<Parsed, Refusal> {
    let grammar = Grammar::default();
    let statement = {
        let mut parser = Parser::new(&grammar)
            .with_recursion_limit(MAX_NESTING)
            .with_tokens_with_locations(prepare(&tokens));
        let mut statements = parser.parse_statements().map_err(refused)?;
        // It stops at the word END, which may be an alias, and would leave the rest unread.
        if parser.peek_token_ref().token != Token::EOF {
            return not_understood();
        }
        match (statements.pop(), statements.is_empty()) {
            (Some(statement), true) => statement,
            _ => return not_understood(),
        }
    };
    tokens.retain(|t| !matches!(t.token, Token::Whitespace(_)));
    let placeholders = tokens
        .iter()
        .filter_map(|t| match &t.token {
            Token::Placeholder(text) => Some((t.span.start, placeholder(text)?)),
            _ => None,
        })
        .collect();
    Ok(Parsed {
        statement,
        tokens,
        placeholders,
        opened: Vec::new(),
        opened_forms: false,
    })
}

/// Parses a view's definition; None if it is not understood.
pub fn view(definition: &str) -> Option<Box<Query>> {
    Some(view_at(definition, 0)?.0)
}

/// At most this many EXCLUDE clauses of a statement are read, and this many tokens back to the parenthesis of their window.
/// A statement with more is not understood.
const MAX_EXCLUDES: usize = 100;
const MAX_WINDOW: usize = 2_000;

/// What a window's frame excludes, and the name of the window that it is made of, if this name stands for both.
///
/// The tree has no place for EXCLUDE. So both are stored as the name of the base window, in a form that no client can
/// write: `` `TIES.base` ``.
pub fn excluded(name: &Ident) -> Option<(&'static str, Option<&str>)> {
    if name.quote_style != Some(grammar::MARK) {
        return None;
    }
    let (what, base) = match name.value.split_once('.') {
        Some((what, base)) => (what, Some(base)),
        None => (&*name.value, None),
    };
    let (what, _) = EXCLUDED.iter().find(|(known, _)| *known == what)?;
    Some((what, base))
}

/// What a frame may exclude.
const EXCLUDED: [(&str, &[&str]); 4] = [
    ("CURRENT ROW", &["current", "row"]),
    ("NO OTHERS", &["no", "others"]),
    ("GROUP", &["group"]),
    ("TIES", &["ties"]),
];

/// The word of a token, if it is one without quotes.
fn word(token: &TokenWithSpan) -> Option<&str> {
    match &token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(&word.value),
        _ => None,
    }
}

/// Whether these words, in lower case here, stand at a place.
fn says(tokens: &[TokenWithSpan], at: usize, words: &[&str]) -> bool {
    let there = tokens.get(at..).unwrap_or_default();
    let same = |(token, wanted): (&TokenWithSpan, &&str)| {
        word(token).is_some_and(|word| word.eq_ignore_ascii_case(wanted))
    };
    there.len() >= words.len() && there.iter().zip(words).all(same)
}

/// EXCLUDE of window frames becomes the name of the window.
fn without_excludes(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut at = 0;
    let mut left = MAX_EXCLUDES;
    while at < tokens.len() && left > 0 {
        if !says(&tokens, at, &["exclude"]) {
            at += 1;
            continue;
        }
        left -= 1;
        let (what, length) = EXCLUDED
            .iter()
            .find(|(_, said)| says(&tokens, at + 1, said))
            .map_or(("", 0), |(what, said)| (*what, said.len()));
        let ends = tokens.get(at + 1 + length).map(|t| &t.token) == Some(&Token::RParen);
        let mut depth = 0;
        let from = at.saturating_sub(MAX_WINDOW);
        let open = tokens[from..at].iter().rposition(|t| {
            match t.token {
                Token::RParen => depth += 1,
                Token::LParen if depth == 0 => return true,
                Token::LParen => depth -= 1,
                _ => {}
            }
            false
        });
        let Some(open) = open.filter(|_| length > 0 && ends).map(|open| from + open) else {
            at += 1;
            continue;
        };
        let place = tokens[at].span;
        tokens.drain(at..at + 1 + length);
        let clauses = ["partition", "order", "rows", "range", "groups"];
        let base = match tokens.get(open + 1).map(|t| &t.token) {
            Some(Token::Word(w)) if !clauses.iter().any(|c| says(&tokens, open + 1, &[c])) => {
                Some(fold(&w.value, w.quote_style.is_some()))
            }
            _ => None,
        };
        let name = match &base {
            Some(base) => format!("{what}.{base}"),
            None => what.to_owned(),
        };
        // It stands where its own name stands, so that no other meaning is looked for there.
        let place = match &base {
            Some(_) => tokens[open + 1].span,
            None => place,
        };
        let name = TokenWithSpan::new(marked(&name), place);
        match base {
            Some(_) => tokens[open + 1] = name,
            None => tokens.insert(open + 1, name),
        }
        at = open + 1;
    }
    tokens
}

/// Parses a view's definition. The places of its tokens get `lines` added, so that they differ from the statement's. None if it
/// is not understood.
pub fn view_at(definition: &str, lines: u64) -> Option<(Box<Query>, Vec<TokenWithSpan>)> {
    let mut tokens = tokens(definition).ok()?;
    for token in &mut tokens {
        token.span.start.line += lines;
        token.span.end.line += lines;
    }
    let parsed = parse(tokens, normalised).ok()?;
    match parsed.statement {
        Statement::Query(query) => Some((query, parsed.tokens)),
        _ => None,
    }
}

/// Words before a relation. Behind them ONLY is the keyword and no alias.
const RELATION_FOLLOWS: [&str; 6] = ["from", "join", "update", "using", "into", "table"];

/// The tokens in a form that the parser knows, with the same meaning for routing; servers get the client's text. Among what is
/// rewritten ([`in_other_words`] has all of it):
///
/// - the strength of row locks becomes a mark before the names that are locked;
/// - ONLY is left out: it changes nothing for tables without inheritance children (partitions live with their parents);
/// - TABLE t becomes SELECT * FROM t;
/// - DISTINCT of GROUP BY becomes a mark, its first entry;
/// - TRIM (BOTH FROM a) becomes the function that PostgreSQL calls for it.
fn normalised(tokens: &[TokenWithSpan]) -> Vec<TokenWithSpan> {
    let white = |t: &&TokenWithSpan| matches!(t.token, Token::Whitespace(_));
    let tokens: Vec<TokenWithSpan> = tokens.iter().filter(|t| !white(t)).cloned().collect();
    let mut replaced = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let Some((length, by)) = in_other_words(&tokens, at) else {
            at += 1;
            continue;
        };
        replaced.push((at..at + length, by));
        at += length;
    }
    if replaced.is_empty() {
        return without_excludes(tokens);
    }
    let mut out = Vec::with_capacity(tokens.len() + replaced.len());
    let mut rest = tokens.into_iter();
    let mut done = 0;
    for (place, by) in replaced {
        out.extend(rest.by_ref().take(place.start - done));
        out.extend(by);
        rest.by_ref().take(place.len()).for_each(drop);
        done = place.end;
    }
    out.extend(rest);
    without_excludes(out)
}

/// If the tokens at this place have to be rewritten: how many, and what takes their place.
fn in_other_words(tokens: &[TokenWithSpan], at: usize) -> Option<(usize, Vec<TokenWithSpan>)> {
    if is_offset(tokens, at) {
        let placed = |token: Token| TokenWithSpan::new(token, tokens[at].span);
        let by = vec![
            placed(Token::LParen),
            tokens[at].clone(),
            placed(Token::RParen),
        ];
        return Some((1, by));
    }
    word(&tokens[at])?;
    let says = |words: &[&str]| says(tokens, at, words);
    let last = at.checked_sub(1).map(|last| &tokens[last]);
    let follows = |token: &Token| last.is_some_and(|last| last.token == *token);
    if follows(&Token::Period) {
        return None;
    }
    if tokens
        .get(at + 1)
        .is_some_and(|t| t.token == Token::LBracket)
    {
        return element(tokens, at);
    }
    let place = tokens[at].span;
    let instead = |length: usize, tokens: &[Token]| {
        let placed = |t: &Token| TokenWithSpan::new(t.clone(), place);
        Some((length, tokens.iter().map(placed).collect()))
    };
    let keyword = |text: &str| Token::make_keyword(text);
    if let Some((strength, said)) = STRENGTHS.iter().find(|(_, said)| says(said)) {
        return Some(lock(tokens, at, *strength, said.len()));
    }
    if says(&["overriding", "system", "value"]) {
        return instead(3, &[]);
    }
    if says(&["only"]) {
        let relation = last.and_then(word).is_some_and(|last| {
            let mut before = RELATION_FOLLOWS.iter();
            before.any(|word| word.eq_ignore_ascii_case(last))
        });
        let opens = follows(&Token::Comma) || follows(&Token::LParen);
        return instead(1, &[]).filter(|_| relation || opens);
    }
    if says(&["table"]) {
        return instead(1, &[keyword("SELECT"), Token::Mul, keyword("FROM")]);
    }
    if says(&["distinct"]) {
        let grouped = at > 1 && self::says(tokens, at - 2, &["group", "by"]);
        return instead(1, &[marked(grammar::DISTINCT), Token::Comma]).filter(|_| grouped);
    }
    if says(&["conflict"])
        && last
            .and_then(word)
            .is_some_and(|w| w.eq_ignore_ascii_case("on"))
    {
        return conflict_target(tokens, at);
    }
    if says(&["trim"]) {
        return trim(tokens, at).and_then(|(length, function)| {
            let name = ["pg_catalog", function].map(|name| Token::make_word(name, None));
            let [schema, function] = name;
            instead(length, &[schema, Token::Period, function, Token::LParen])
        });
    }
    if says(&["fetch", "first"]) || says(&["fetch", "next"]) {
        return match tokens.get(at + 2..at + 5)? {
            [open, count, close] if open.token == Token::LParen && close.token == Token::RParen => {
                let counts = matches!(count.token, Token::Number(..) | Token::Placeholder(_));
                let words = [&tokens[at], &tokens[at + 1], count].map(Clone::clone);
                counts.then(|| (5, words.to_vec()))
            }
            _ => None,
        };
    }
    if says(&["isnull"]) {
        return instead(1, &[keyword("IS"), keyword("NULL")]);
    }
    if says(&["notnull"]) {
        return instead(1, &[keyword("IS"), keyword("NOT"), keyword("NULL")]);
    }
    None
}

/// Whether a string says how far a window's frame reaches: `RANGE '1 day' PRECEDING`. The parser would take it for an interval,
/// and PostgreSQL gives it the type that the order asks for.
fn is_offset(tokens: &[TokenWithSpan], at: usize) -> bool {
    if !matches!(tokens[at].token, Token::SingleQuotedString(_)) {
        return false;
    }
    let is_cast = tokens.get(at + 1).map(|t| &t.token) == Some(&Token::DoubleColon);
    let end = if is_cast { at + 3 } else { at + 1 };
    let before = at.checked_sub(1).and_then(|last| word(&tokens[last]));
    let is_typed = before.is_some_and(|word| !FRAME.iter().any(|f| f.eq_ignore_ascii_case(word)));
    let reaches = says(tokens, end, &["preceding"]) || says(tokens, end, &["following"]);
    reaches && !is_typed
}

/// Words behind which the bound of a frame stands.
const FRAME: [&str; 5] = ["between", "and", "rows", "range", "groups"];

/// `TRIM([side] FROM`: how many tokens that is, and the function of PostgreSQL that it calls. `None` if characters are given.
fn trim(tokens: &[TokenWithSpan], at: usize) -> Option<(usize, &'static str)> {
    if tokens.get(at + 1)?.token != Token::LParen {
        return None;
    }
    let sides = [
        ("both", "btrim"),
        ("leading", "ltrim"),
        ("trailing", "rtrim"),
    ];
    let side = sides
        .iter()
        .find(|(side, _)| says(tokens, at + 2, &[side, "from"]));
    match side {
        Some((_, function)) => Some((4, function)),
        None if says(tokens, at + 2, &["from"]) => Some((3, "btrim")),
        None => None,
    }
}

/// So many tokens before an assignment of an element are looked at for the SET that it belongs to.
const MAX_SET: usize = 2_000;

/// `column[1] =` behind SET becomes a field of the column, with a mark for its name. SQL must not be written from this tree: it
/// has no index. What stands in the brackets is a constant or a parameter.
fn element(tokens: &[TokenWithSpan], at: usize) -> Option<(usize, Vec<TokenWithSpan>)> {
    let token = |at: usize| tokens.get(at).map(|t| &t.token);
    let mut end = at + 1;
    while token(end)? == &Token::LBracket {
        end += 1;
        while token(end)? != &Token::RBracket {
            match token(end)? {
                Token::Number(..)
                | Token::SingleQuotedString(_)
                | Token::Placeholder(_)
                | Token::Colon
                | Token::Minus => end += 1,
                _ => return None,
            }
        }
        end += 1;
    }
    if token(end)? != &Token::Eq || !is_assigned(tokens, at) {
        return None;
    }
    let placed = |token: Token| TokenWithSpan::new(token, tokens[at].span);
    let by = vec![
        tokens[at].clone(),
        placed(Token::Period),
        placed(marked(grammar::ELEMENT)),
    ];
    Some((end - at, by))
}

/// Whether what stands at a place is a target of SET in an UPDATE. Behind SELECT and RETURNING it is an expression.
fn is_assigned(tokens: &[TokenWithSpan], at: usize) -> bool {
    const OTHERS: [&str; 9] = [
        "select",
        "returning",
        "where",
        "from",
        "values",
        "having",
        "by",
        "on",
        "using",
    ];
    // A target stands right behind SET or a comma.
    let follows = at
        .checked_sub(1)
        .is_some_and(|last| tokens[last].token == Token::Comma || says(tokens, last, &["set"]));
    if !follows {
        return false;
    }
    let mut depth = 0usize;
    let mut set = None;
    for place in (at.saturating_sub(MAX_SET)..at).rev() {
        match &tokens[place].token {
            Token::RParen => depth += 1,
            Token::LParen if depth == 0 => return false,
            Token::LParen => depth -= 1,
            Token::Comma if set.is_some() && depth == 0 => return false,
            _ if depth > 0 => {}
            _ => match word(&tokens[place]) {
                Some(word) if set.is_some() && word.eq_ignore_ascii_case("update") => return true,
                Some(_) if set.is_some() => {}
                Some(word) if word.eq_ignore_ascii_case("set") => set = Some(place),
                Some(word) if OTHERS.iter().any(|other| word.eq_ignore_ascii_case(other)) => {
                    return false;
                }
                _ => {}
            },
        }
        if set.is_some_and(|set: usize| set - place > 8) {
            return false;
        }
    }
    false
}

/// The target of ON CONFLICT, if it has more than names of columns: these, and a mark for expressions and the condition. They
/// only choose an index, by its definition; nothing is computed by them.
fn conflict_target(tokens: &[TokenWithSpan], at: usize) -> Option<(usize, Vec<TokenWithSpan>)> {
    let is = |place: usize, token: &Token| tokens.get(place).is_some_and(|t| t.token == *token);
    is(at + 1, &Token::LParen).then_some(())?;
    let mut elements: Vec<Range<usize>> = std::iter::once(at + 2..at + 2).collect();
    let mut depth = 0usize;
    let mut end = at + 2;
    loop {
        match &tokens.get(end)?.token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen if depth == 0 => break,
            Token::RParen | Token::RBracket => depth = depth.checked_sub(1)?,
            Token::Comma if depth == 0 => elements.push(end + 1..end + 1),
            _ => {}
        }
        end += 1;
        if let Some(element) = elements.last_mut().filter(|element| element.start < end) {
            element.end = end;
        }
    }
    let mut after = end + 1;
    if says(tokens, after, &["where"]) {
        let ends = |at: &usize| {
            says(tokens, *at, &["do", "nothing"]) || says(tokens, *at, &["do", "update"])
        };
        after = (after..tokens.len()).find(ends)?;
    }
    let is_column = |element: &&Range<usize>| {
        element.len() == 1 && matches!(tokens[element.start].token, Token::Word(_))
    };
    let columns: Vec<_> = elements.iter().filter(is_column).collect();
    if columns.len() == elements.len() && after == end + 1 {
        return None;
    }
    let is_parameter = |t: &TokenWithSpan| matches!(&t.token, Token::Placeholder(text) if placeholder(text).is_some());
    if tokens[at..after].iter().any(is_parameter) || elements.iter().any(Range::is_empty) {
        return None;
    }
    let place = tokens[at].span;
    let placed = |token: Token| TokenWithSpan::new(token, place);
    let mut by = vec![tokens[at].clone(), tokens[at + 1].clone()];
    for column in columns {
        by.push(tokens[column.start].clone());
        by.push(placed(Token::Comma));
    }
    by.push(placed(marked(grammar::ARBITER)));
    by.push(tokens[end].clone());
    Some((after - at, by))
}

/// The lock at a place, of this strength in so many words. With OF, or with a strength that the parser does not have, a mark goes
/// first among the names.
fn lock(
    tokens: &[TokenWithSpan],
    at: usize,
    strength: Strength,
    length: usize,
) -> (usize, Vec<TokenWithSpan>) {
    let known = match strength {
        Strength::Update | Strength::NoKeyUpdate => "UPDATE",
        Strength::Share | Strength::KeyShare => "SHARE",
    };
    let placed = |token: Token| TokenWithSpan::new(token, tokens[at].span);
    let mut by = vec![
        placed(Token::make_keyword("FOR")),
        placed(Token::make_keyword(known)),
    ];
    let of = says(tokens, at + length, &["of"]);
    if of || matches!(strength, Strength::NoKeyUpdate | Strength::KeyShare) {
        by.push(placed(Token::make_keyword("OF")));
        by.push(placed(marked(strength.mark())));
    }
    let names = match of {
        true => locked_names(&tokens[at + length + 1..]),
        false => &[],
    };
    for name in names.iter().step_by(2) {
        by.push(placed(Token::Period));
        by.push(name.clone());
    }
    (length + usize::from(of) + names.len(), by)
}

/// What the words of a lock say.
const STRENGTHS: [(Strength, &[&str]); 4] = [
    (Strength::Update, &["for", "update"]),
    (Strength::NoKeyUpdate, &["for", "no", "key", "update"]),
    (Strength::Share, &["for", "share"]),
    (Strength::KeyShare, &["for", "key", "share"]),
];

/// A name that nobody can write.
fn marked(name: &str) -> Token {
    Token::Word(Word {
        value: name.to_owned(),
        quote_style: Some(grammar::MARK),
        keyword: Keyword::NoKeyword,
    })
}

/// The names behind OF, with their commas.
fn locked_names(tokens: &[TokenWithSpan]) -> &[TokenWithSpan] {
    let right = |(at, token): (usize, &TokenWithSpan)| match &token.token {
        Token::Word(_) => at % 2 == 0,
        Token::Comma => at % 2 == 1,
        _ => false,
    };
    let count = tokens.iter().enumerate().take_while(|t| right(*t)).count();
    match tokens.get(count).map(|after| &after.token) {
        // Names with a schema would be taken for several. Without any of them the parser gives up.
        Some(Token::Period) => &[],
        // No name follows the last comma.
        _ if count % 2 == 0 => &tokens[..count.saturating_sub(1)],
        _ => &tokens[..count],
    }
}

/// The tokens of a text, white space included.
pub fn tokens(sql: &str) -> Result<Vec<TokenWithSpan>, Refusal> {
    if !is_affordable(sql.as_bytes()) {
        return refuse(Reason::TooComplex);
    }
    let dialect = Grammar::default();
    let tokens = Tokenizer::new(&dialect, sql)
        .tokenize_with_location()
        .map_err(|_| Refusal::new(Reason::NotUnderstood))?;
    let tokens = with_signs_apart(tokens);
    let mut nesting = 0usize;
    for token in &tokens {
        match &token.token {
            Token::LParen | Token::LBracket => nesting += 1,
            Token::RParen | Token::RBracket => nesting = nesting.saturating_sub(1),
            _ => {}
        }
        if nesting > 4 * MAX_NESTING {
            return refuse(Reason::TooComplex);
        }
    }
    match Size::of(&tokens).is_affordable() {
        true => Ok(tokens),
        false => refuse(Reason::TooComplex),
    }
}

/// Splits signs off operators that the tokenizer has read too long: in `a>-1` it takes `>-` for one. In PostgreSQL a
/// name of several characters ends in + or - only if it has one of [`MAY_END_IN_SIGN`] (manual, "Lexical Structure").
fn with_signs_apart(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let is_signed = |token: &TokenWithSpan| signs(token) > 0;
    if !tokens.iter().any(is_signed) {
        return tokens;
    }
    let mut out = Vec::with_capacity(tokens.len() + 1);
    for token in tokens {
        let (signs, Token::CustomBinaryOperator(name)) = (signs(&token), &token.token) else {
            out.push(token);
            continue;
        };
        let (name, signs) = name.split_at(name.len() - signs);
        let mut span = token.span;
        let parts = std::iter::once(name).chain(signs.split_inclusive(['+', '-']));
        for part in parts {
            // Operators are of ASCII.
            span.end.column = span.start.column + part.len() as u64;
            let token = operator(part);
            out.push(TokenWithSpan { token, span });
            span.start = span.end;
        }
    }
    out
}

/// An operator's name may end in a sign only if it has one of these characters.
const MAY_END_IN_SIGN: [char; 10] = ['~', '!', '@', '#', '%', '^', '&', '|', '`', '?'];

/// How many signs an operator has at its end that are not part of its name.
fn signs(token: &TokenWithSpan) -> usize {
    match &token.token {
        Token::CustomBinaryOperator(name) if !name.contains(MAY_END_IN_SIGN) => {
            let bare = name.trim_end_matches(['+', '-']);
            // An operator of signs alone keeps its first character.
            name.len() - bare.len().max(1)
        }
        _ => 0,
    }
}

/// The token of an operator that stands alone.
fn operator(name: &str) -> Token {
    let dialect = Grammar::default();
    let alone = Tokenizer::new(&dialect, name).tokenize();
    match alone.as_deref() {
        Ok([token]) => token.clone(),
        _ => Token::CustomBinaryOperator(name.to_owned()),
    }
}

/// How large a tree its tokens make.
#[derive(Clone, Copy, Default)]
pub struct Size {
    tokens: usize,
    operators: usize,
}

impl Size {
    /// Counts them.
    pub fn of(tokens: &[TokenWithSpan]) -> Size {
        let is_operator = |token: &TokenWithSpan| match &token.token {
            Token::LParen
            | Token::LBracket
            | Token::RParen
            | Token::RBracket
            | Token::Whitespace(_)
            | Token::Comma
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::Placeholder(_)
            | Token::SemiColon
            | Token::Period => false,
            Token::Word(word) => is_operator_word(&word.value),
            _ => true,
        };
        let white = |token: &&TokenWithSpan| matches!(token.token, Token::Whitespace(_));
        Size {
            tokens: tokens.len() - tokens.iter().filter(white).count(),
            operators: tokens.iter().filter(|token| is_operator(token)).count(),
        }
    }

    /// Of a statement that another becomes part of.
    pub fn and(self, other: Size) -> Size {
        Size {
            tokens: self.tokens + other.tokens,
            operators: self.operators + other.operators,
        }
    }

    /// Whether such a tree may be made. [`is_affordable`] has counted the tokens of each text in its own way.
    pub fn is_affordable(self) -> bool {
        self.tokens <= 2 * MAX_TOKENS && self.operators <= MAX_OPERATORS
    }
}

/// Whether a text has no more tokens and terms than may be parsed. It allocates nothing: to parse a text that it rejects would
/// cost thousands of times its length.
fn is_affordable(sql: &[u8]) -> bool {
    // Each token takes a byte, each term two.
    if sql.len() <= MAX_TERMS {
        return true;
    }
    let (mut tokens, mut terms) = (0usize, 0usize);
    // Strings are read by the standard: to count it is exact enough.
    let mut lists = vec![List::Clause];
    let mut after_constant = false;
    for token in Lexer::new(sql, true) {
        tokens += 1;
        let depth = lists.len();
        let list = lists.last_mut();
        match token.kind {
            Kind::LParen | Kind::LBracket => lists.push(List::Values),
            Kind::RParen | Kind::RBracket if depth > 1 => drop(lists.pop()),
            Kind::Word => {
                if let (Some(list), Some(now)) = (list, List::after(token.text(sql))) {
                    *list = now;
                }
            }
            Kind::Comma => {
                let free = after_constant && matches!(list, Some(List::Values));
                terms += usize::from(!free);
            }
            _ => {}
        }
        after_constant = match token.kind {
            Kind::Word => {
                let word = token.text(sql);
                let constants: [&[u8]; 4] = [b"null", b"default", b"true", b"false"];
                constants.iter().any(|c| c.eq_ignore_ascii_case(word))
            }
            Kind::Param | Kind::RParen | Kind::RBracket => true,
            kind => kind.is_value(),
        };
        if tokens > MAX_TOKENS || terms > MAX_TERMS || depth > MAX_TERMS {
            return false;
        }
    }
    true
}

/// What commas at a place divide.
#[derive(Clone, Copy)]
enum List {
    /// Constants, where nothing else was said: rows of VALUES, IN lists, arguments.
    Values,
    /// Terms of a clause.
    Clause,
}

impl List {
    /// What follows a word.
    fn after(word: &[u8]) -> Option<List> {
        let is = |of: &[u8]| word.eq_ignore_ascii_case(of);
        let clauses: [&[u8]; 6] = [b"select", b"by", b"from", b"set", b"with", b"returning"];
        match () {
            () if is(b"values") => Some(List::Values),
            () if clauses.iter().any(|clause| is(clause)) => Some(List::Clause),
            () => None,
        }
    }
}

fn is_operator_word(word: &str) -> bool {
    [
        "and",
        "or",
        "not",
        "is",
        "union",
        "intersect",
        "except",
        "join",
        "collate",
        "at",
        "when",
    ]
    .iter()
    .any(|w| word.eq_ignore_ascii_case(w))
}

fn refused(error: ParserError) -> Refusal {
    match error {
        ParserError::RecursionLimitExceeded => Refusal::new(Reason::TooComplex),
        _ => Refusal::new(Reason::NotUnderstood),
    }
}

/// Where tokens begin, in bytes. The parser counts lines and columns from 1, in characters.
pub fn byte_starts(sql: &str, tokens: &[TokenWithSpan]) -> Vec<usize> {
    let mut places = Places::new(sql);
    tokens
        .iter()
        .map(|token| places.advance_to(token.span.start))
        .collect()
}

/// Walks a text once, turning the parser's places into offsets. Places must come in order.
pub struct Places<'s> {
    sql: &'s str,
    at: usize,
    place: (u64, u64),
}

impl<'s> Places<'s> {
    /// At the start of a text.
    pub fn new(sql: &'s str) -> Places<'s> {
        Places {
            sql,
            at: 0,
            place: (1, 1),
        }
    }

    /// The offset of a place that is not before the last one; the text's length if there is none.
    pub fn advance_to(&mut self, place: Location) -> usize {
        let wanted = (place.line, place.column);
        for c in self.sql[self.at..].chars() {
            if self.place >= wanted {
                break;
            }
            self.at += c.len_utf8();
            self.place = if c == '\n' {
                (self.place.0 + 1, 1)
            } else {
                (self.place.0, self.place.1 + 1)
            };
        }
        self.at
    }
}
