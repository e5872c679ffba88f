//! The door to sqlparser: text in, one statement and its tokens out, with bounds on depth.

use sqlparser::ast::{Query, Statement};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Word};

use super::expr::placeholder;
use super::grammar::{self, Grammar, Strength};
use super::names::fold;
use super::refuse::{Reason, Refusal, not_understood, refuse};
use super::slots::Text;

/// Parentheses, subqueries and the like may nest this deep.
const MAX_NESTING: usize = 60;

/// More operators than this in one statement are not parsed: chains of them become trees as
/// deep as they are long, which even dropping would walk.
const MAX_OPERATORS: usize = 6_000;

/// A statement as the parser sees it.
pub struct Parsed {
    /// The tree.
    pub statement: Statement,
    /// All tokens but white space, with their places.
    pub tokens: Vec<TokenWithSpan>,
    /// The parameters and where they stand.
    pub placeholders: Vec<(Location, u16)>,
}

/// Parses a query or a write, with grammar that the parser does not know put in words that it does.
pub fn query_or_write(text: &Text<'_>) -> Result<Parsed, Refusal> {
    parse(text.without_literals(tokens(text.to_cut())?)?, normalised)
}

/// Parses one statement.
pub fn statement(sql: &str) -> Result<Parsed, Refusal> {
    parse(tokens(sql)?, |tokens| tokens)
}

fn parse(
    tokens: Vec<TokenWithSpan>,
    prepare: impl Fn(Vec<TokenWithSpan>) -> Vec<TokenWithSpan>,
) -> Result<Parsed, Refusal> {
    let grammar = Grammar::default();
    let statement = {
        let mut parser = Parser::new(&grammar)
            .with_recursion_limit(MAX_NESTING)
            .with_tokens_with_locations(prepare(tokens.clone()));
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
    let tokens: Vec<TokenWithSpan> = tokens
        .into_iter()
        .filter(|t| !matches!(t.token, Token::Whitespace(_)))
        .collect();
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
    })
}

/// Parses a view's definition; None if it is not understood.
pub fn view(definition: &str) -> Option<Box<Query>> {
    match statement(definition).ok()?.statement {
        Statement::Query(query) => Some(query),
        _ => None,
    }
}

/// In the name of a window: what its frame excludes, which the tree has no place for, and its own name if it has one.
const EXCLUDES: &str = "exclude ";

/// So many of them in a statement, and so many tokens before one in its window, are looked at; a statement with more is
/// not understood.
const MAX_EXCLUDES: usize = 100;
const MAX_WINDOW: usize = 2_000;

/// What a window's frame excludes, and the name of the window that it is made of.
pub fn excluded(name: &str) -> Option<(&str, Option<&str>)> {
    let rest = name.strip_prefix(EXCLUDES)?;
    Some(match rest.split_once('.') {
        Some((what, base)) => (what, Some(base)),
        None => (rest, None),
    })
}

/// EXCLUDE of window frames becomes the name of the window.
fn without_excludes(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let word = |tokens: &[TokenWithSpan], at: usize| match tokens.get(at).map(|t| &t.token) {
        Some(Token::Word(w)) if w.quote_style.is_none() => w.value.to_ascii_lowercase(),
        _ => String::new(),
    };
    let mut at = 0;
    let mut left = MAX_EXCLUDES;
    while at < tokens.len() && left > 0 {
        if word(&tokens, at) != "exclude" {
            at += 1;
            continue;
        }
        left -= 1;
        let (what, length) = match (
            word(&tokens, at + 1).as_str(),
            word(&tokens, at + 2).as_str(),
        ) {
            ("current", "row") => ("CURRENT ROW", 3),
            ("no", "others") => ("NO OTHERS", 3),
            ("group", _) => ("GROUP", 2),
            ("ties", _) => ("TIES", 2),
            _ => ("", 0),
        };
        let ends = tokens.get(at + length).map(|t| &t.token) == Some(&Token::RParen);
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
        tokens.drain(at..at + length);
        let clauses = ["partition", "order", "rows", "range", "groups"];
        let base = match tokens.get(open + 1).map(|t| &t.token) {
            Some(Token::Word(w)) if !clauses.contains(&word(&tokens, open + 1).as_str()) => {
                Some(fold(&w.value, w.quote_style.is_some()))
            }
            _ => None,
        };
        let name = match &base {
            Some(base) => format!("{EXCLUDES}{what}.{base}"),
            None => format!("{EXCLUDES}{what}"),
        };
        // It stands where its own name stands, so that no other meaning is looked for there.
        let place = match &base {
            Some(_) => tokens[open + 1].span,
            None => place,
        };
        let name = TokenWithSpan::new(Token::make_word(&name, Some('"')), place);
        match base {
            Some(_) => tokens[open + 1] = name,
            None => tokens.insert(open + 1, name),
        }
        at = open + 1;
    }
    tokens
}

/// A view's definition with its words, whose lines are moved down; None if it is not understood.
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

/// Where ONLY is said of a relation, and no alias.
const RELATION_FOLLOWS: [&str; 6] = ["from", "join", "update", "using", "into", "table"];

/// The tokens in a form that the parser knows, with the same meaning for routing; the client's text is what
/// servers get. The strength of row locks is a mark before the names that are locked, ONLY changes nothing for tables without
/// inheritance children (partitions live with their parents), TABLE t is SELECT * FROM t. GROUP BY DISTINCT has a mark for
/// its first entry.
fn normalised(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let tokens: Vec<TokenWithSpan> = tokens
        .into_iter()
        .filter(|t| !matches!(t.token, Token::Whitespace(_)))
        .collect();
    let word = |at: usize| match tokens.get(at).map(|t| &t.token) {
        Some(Token::Word(w)) if w.quote_style.is_none() => w.value.to_ascii_lowercase(),
        _ => String::new(),
    };
    let words =
        |at: usize, wanted: &[&str]| wanted.iter().enumerate().all(|(i, w)| word(at + i) == *w);
    let mut out = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let replace = |texts: &[Token]| -> Vec<TokenWithSpan> {
            texts
                .iter()
                .map(|t| TokenWithSpan::new(t.clone(), tokens[at].span))
                .collect()
        };
        let keyword = |text: &str| Token::make_keyword(text);
        let before = if at == 0 { String::new() } else { word(at - 1) };
        let last = at.checked_sub(1).map(|last| &tokens[last].token);
        let opens = matches!(last, Some(Token::Comma | Token::LParen));
        let dotted = at > 0 && tokens[at - 1].token == Token::Period;
        let skip = if dotted {
            0
        } else if let Some(&(strength, said)) = STRENGTHS.iter().find(|(_, said)| words(at, said)) {
            let length = said.len();
            let known = match strength {
                Strength::Update | Strength::NoKeyUpdate => "UPDATE",
                Strength::Share | Strength::KeyShare => "SHARE",
            };
            out.extend(replace(&[keyword("FOR"), keyword(known)]));
            let of = word(at + length) == "of";
            if of || matches!(strength, Strength::NoKeyUpdate | Strength::KeyShare) {
                out.extend(replace(&[keyword("OF"), marked(strength.mark())]));
            }
            let names = match of {
                true => locked_names(&tokens[at + length + 1..]),
                false => &[],
            };
            for name in names.iter().step_by(2) {
                out.extend(replace(&[Token::Period]));
                out.push(name.clone());
            }
            length + usize::from(of) + names.len()
        } else if words(at, &["overriding", "system", "value"]) {
            3
        } else if word(at) == "only" && (opens || RELATION_FOLLOWS.contains(&before.as_str())) {
            1
        } else if word(at) == "table" {
            out.extend(replace(&[keyword("SELECT"), Token::Mul, keyword("FROM")]));
            1
        } else if word(at) == "distinct" && at > 1 && words(at - 2, &["group", "by"]) {
            out.extend(replace(&[marked(grammar::DISTINCT), Token::Comma]));
            1
        } else if word(at) == "isnull" {
            out.extend(replace(&[keyword("IS"), keyword("NULL")]));
            1
        } else if word(at) == "notnull" {
            out.extend(replace(&[keyword("IS"), keyword("NOT"), keyword("NULL")]));
            1
        } else {
            0
        };
        if skip == 0 {
            out.push(tokens[at].clone());
            at += 1;
        }
        at += skip;
    }
    without_excludes(out)
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
    let dialect = Grammar::default();
    let tokens = Tokenizer::new(&dialect, sql)
        .tokenize_with_location()
        .map_err(|_| Refusal::new(Reason::NotUnderstood))?;
    let mut nesting = 0usize;
    let mut operators = 0usize;
    for token in &tokens {
        match &token.token {
            Token::LParen | Token::LBracket => nesting += 1,
            Token::RParen | Token::RBracket => nesting = nesting.saturating_sub(1),
            Token::Whitespace(_)
            | Token::Comma
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::Placeholder(_)
            | Token::SemiColon
            | Token::Period => {}
            Token::Word(word) => operators += usize::from(is_operator_word(&word.value)),
            _ => operators += 1,
        }
        if nesting > 4 * MAX_NESTING || operators > MAX_OPERATORS {
            return refuse(Reason::TooComplex);
        }
    }
    Ok(tokens)
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
