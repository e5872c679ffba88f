//! SQL text read by tokens: where literals, statements and shapes begin and end.
//!
//! Promises: tokens cover the text; a value written as a literal is one token and is read back as the value, in every
//! form of a literal; statements are made of all tokens but the `;` between them, and each stands for itself;
//! a text whose literals are replaced by others of their kind has the same shape, and says the same of itself.

use mothership_sql::effect::analyse;
use mothership_sql::lexer::{Kind, Lexer, Token};
use mothership_sql::name::{identifier, string};
use mothership_sql::shape::{LiteralKind, Scratch, shape};
use mothership_sql::split::split;

use crate::input::Input;

/// What SQL is made of.
pub const WORDS: &[&str] = &[
    "SELECT ",
    "FROM ",
    "t",
    "u",
    "r",
    "WHERE ",
    "id",
    " = ",
    " AND ",
    " OR ",
    "NOT ",
    "IN (",
    "1",
    "5",
    "2147483648",
    "'5'",
    "$1",
    "$2",
    "::int8",
    "::text",
    "NULL",
    " IS ",
    "DISTINCT FROM ",
    "BETWEEN ",
    "INSERT INTO ",
    "VALUES (",
    "UPDATE ",
    "SET ",
    "DELETE ",
    "JOIN ",
    "ON ",
    "USING (id)",
    "LEFT ",
    "ORDER BY ",
    "LIMIT ",
    "GROUP BY ",
    "count(*)",
    "WITH x AS (",
    "UNION ALL ",
    "EXISTS (",
    "ANY('{1,2}')",
    "RETURNING ",
    "ON CONFLICT ",
    "DO NOTHING",
    "FOR UPDATE",
    "COPY ",
    "CREATE ",
    "FUNCTION ",
    "BEGIN ATOMIC ",
    "END",
    ";",
    "$$",
    "$a$",
    "E'\\'",
    "U&'",
    "--",
    "/*",
    "*/",
    "\"",
    "'",
    "\\",
    "\n",
    "(",
    ")",
    ", ",
    ".",
    "..",
    "::",
    ":=",
    "=>",
    "B'01'",
    "X'1f'",
    "1.5",
    "1e5",
    "CASE WHEN ",
    "THEN ",
    "ELSE ",
    "CAST(",
    " AS ",
    "INTERVAL ",
    "ARRAY[",
    "]",
    "public.",
    "c2",
    "rng",
    "txt",
    "x",
    "y",
    "k",
    "MERGE ",
    "LATERAL ",
    "EXPLAIN ",
    "PREPARE ",
    "DECLARE ",
    "TRUNCATE ",
    "ALTER TABLE ",
    "standard_conforming_strings",
];

/// The first byte decides how strings are read, the second how long a piece is taken for a value; the rest is text.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let conforming = !input.byte().is_multiple_of(4);
    let length = input.below(64);
    let text = input.rest();
    cover(text, conforming);
    statements(text, conforming);
    values(&text[..length.min(text.len())], conforming);
    alike(text, conforming);
    assert_eq!(
        format!("{:?}", analyse(text, conforming)),
        format!("{:?}", analyse(text, conforming)),
        "the same is said twice"
    );
}

/// Tokens, white space included, are the text from its beginning to its end.
fn cover(text: &[u8], conforming: bool) {
    let mut lexer = Lexer::new(text, conforming);
    let mut at = 0;
    let mut solid = Vec::new();
    while let Some(token) = lexer.next_with_trivia() {
        assert_eq!(token.start, at, "no byte lies between tokens");
        assert!(token.end > token.start, "a token is not empty");
        at = token.end;
        if token.kind == Kind::Unterminated {
            assert_eq!(
                token.end,
                text.len(),
                "what does not end reaches to the end"
            );
        }
        if !matches!(token.kind, Kind::Space | Kind::Comment) {
            solid.push(token);
        }
        let _ = string(token, text, conforming);
        let _ = (
            identifier(token, text, b'\\'),
            identifier(token, text, b'!'),
        );
    }
    assert_eq!(at, text.len(), "tokens cover the text");
    let without: Vec<Token> = Lexer::new(text, conforming).collect();
    assert_eq!(
        without, solid,
        "without white space and comments they are the same"
    );
}

/// The parts, in order, have all tokens but `;`, and each is one statement by itself.
fn statements(text: &[u8], conforming: bool) {
    let mut tokens = Lexer::new(text, conforming);
    let mut end = 0;
    for part in split(text, conforming) {
        assert!(part.span.start >= end && part.span.end <= text.len());
        end = part.span.end;
        if part.empty {
            assert_eq!(part.span.start, part.span.end);
            continue;
        }
        let mut uncertain = false;
        let mut first = true;
        loop {
            let token = tokens.next().expect("the part has tokens");
            if token.start < part.span.start {
                assert_eq!(
                    token.kind,
                    Kind::Semicolon,
                    "only ; lies between statements"
                );
                continue;
            }
            assert!(!first || token.start == part.span.start);
            first = false;
            uncertain |= token.kind.is_uncertain();
            if token.end >= part.span.end {
                assert_eq!(token.end, part.span.end);
                break;
            }
        }
        assert_eq!(part.uncertain, uncertain);
        let own = part.span.of(text);
        let again: Vec<_> = split(own, conforming).collect();
        assert_eq!(again.len(), 1, "a statement is one statement");
        assert_eq!((again[0].span.start, again[0].span.end), (0, own.len()));
    }
    assert!(
        tokens.all(|token| token.kind == Kind::Semicolon),
        "nothing is left out"
    );
}

/// A value, quoted in each way, is one token and comes back.
fn values(value: &[u8], conforming: bool) {
    if value.contains(&0) {
        return;
    }
    let backslashes = !conforming;
    let plain = quoted("'", value, b'\'', backslashes);
    back(&plain, Kind::String, value, conforming);
    back(
        &quoted("N'", value, b'\'', backslashes),
        Kind::NationalString,
        value,
        conforming,
    );
    back(
        &quoted("e'", value, b'\'', true),
        Kind::EscapeString,
        value,
        conforming,
    );
    let octal: String = value.iter().map(|byte| format!("\\{byte:03o}")).collect();
    back(
        format!("E'{octal}'").as_bytes(),
        Kind::EscapeString,
        value,
        conforming,
    );
    let hex: String = value.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    back(
        format!("E'{hex}'").as_bytes(),
        Kind::EscapeString,
        value,
        conforming,
    );
    let tag = (0..).map(|n| format!("$t{n}$")).find(|tag| {
        let whole = [value, tag.as_bytes()].concat();
        whole.windows(tag.len()).position(|w| w == tag.as_bytes()) == Some(value.len())
    });
    let tag = tag.expect("some tag is not in the value");
    let dollar = [tag.as_bytes(), value, tag.as_bytes()].concat();
    back(&dollar, Kind::DollarString, value, conforming);
    // A string goes on behind a line end; the parts are one value.
    let (head, tail) = value.split_at(value.len() / 2);
    let mut continued = quoted("'", head, b'\'', backslashes);
    continued.extend_from_slice(b" \n\t");
    continued.extend_from_slice(&quoted("'", tail, b'\'', backslashes));
    back(&continued, Kind::String, value, conforming);
    if !value.is_empty() && value.len() < 64 {
        let name = quoted("\"", value, b'"', false);
        let token = only(&name, Kind::QuotedIdent, conforming);
        let read = identifier(token, &name, b'\\').expect("a name");
        assert!(value.starts_with(read.as_bytes()), "names are only cut");
        assert!(std::str::from_utf8(value).is_err() || read.as_bytes() == value);
    }
}

fn quoted(open: &str, value: &[u8], quote: u8, backslashes: bool) -> Vec<u8> {
    let mut text = open.as_bytes().to_vec();
    for &byte in value {
        if byte == quote || byte == b'\\' && backslashes {
            text.push(byte);
        }
        text.push(byte);
    }
    text.push(quote);
    text
}

fn only(text: &[u8], kind: Kind, conforming: bool) -> Token {
    let mut lexer = Lexer::new(text, conforming);
    let token = lexer.next().expect("a token");
    assert_eq!(
        (token.kind, token.start, token.end),
        (kind, 0, text.len()),
        "{}",
        text.escape_ascii()
    );
    token
}

fn back(text: &[u8], kind: Kind, value: &[u8], conforming: bool) {
    let token = only(text, kind, conforming);
    match string(token, text, conforming) {
        Some(read) => assert_eq!(&*read.value, value, "{}", text.escape_ascii()),
        // Escapes that make no UTF-8 are not read, because PostgreSQL may refuse them.
        None => assert!(
            std::str::from_utf8(value).is_err(),
            "{} is not read",
            text.escape_ascii()
        ),
    }
}

/// Another literal of the kind, as PostgreSQL would type it.
fn other(kind: LiteralKind, number: usize) -> &'static str {
    match kind {
        LiteralKind::Int4 => ["0", "2147483647", "00012"][number % 3],
        LiteralKind::Int8 => ["2147483648", "9223372036854775807"][number % 2],
        LiteralKind::Numeric => ["1.5", ".5e3", "9223372036854775808"][number % 3],
        LiteralKind::String => ["''", "'it''s;--'", "'/*'"][number % 3],
        LiteralKind::EscapeString => ["E''", r"e'\'; select'", r"E'\\'"][number % 3],
        LiteralKind::DollarString => ["$$$$", "$a$;'$b$\"$a$"][number % 2],
    }
}

/// Literals replaced by others of their kind: the shape is the same, and what tokens say of the statement.
fn alike(text: &[u8], conforming: bool) {
    let mut scratch = Scratch::new(4096, 64);
    let Some(first) = shape(text, conforming, &mut scratch) else {
        return;
    };
    let mut replaced = Vec::new();
    let mut at = 0;
    for (number, literal) in first.literals.iter().enumerate() {
        assert!(literal.span.start >= at && literal.span.end <= text.len());
        replaced.extend_from_slice(&text[at..literal.span.start]);
        // A literal may stand close to what is beside it, where another would join with it.
        replaced.push(b' ');
        replaced.extend_from_slice(other(literal.kind, number + text.len()).as_bytes());
        replaced.push(b' ');
        at = literal.span.end;
    }
    replaced.extend_from_slice(&text[at..]);
    let kinds: Vec<LiteralKind> = first.literals.iter().map(|literal| literal.kind).collect();
    let (hash, shown) = (first.hash, first.text.to_vec());
    let mut scratch = Scratch::new(4096, 64);
    let second = shape(&replaced, conforming, &mut scratch);
    let second = second.unwrap_or_else(|| panic!("no shape: {}", replaced.escape_ascii()));
    assert_eq!(
        second.text.escape_ascii().to_string(),
        shown.escape_ascii().to_string()
    );
    assert_eq!(second.hash, hash);
    assert!(second.literals.iter().map(|literal| literal.kind).eq(kinds));
}

/// The statements of the planner's cases, and the corners of the scanner.
pub fn seeds() -> Vec<Vec<u8>> {
    let corners: [&[u8]; 14] = [
        b"select 'a' \n 'b', E'\\x41\\'', $$x$$, $a$ $b$ $a$, U&'d!0061' uescape '!', N'n', B'01', X'1f'",
        b"select 1, 1.5, .5, 1e5, 0x1f, 1_000, 123abc, $1, $1a, 1..2",
        b"select /* a /* b */ c */ 1 -- x\n, \"A\"\"b\", U&\"\\0061\"",
        b"create function f() returns int language sql begin atomic select 1; select case when true then 1 end; end; select 2",
        b"create rule r as on insert to t do also (select 1; select 2); select 3",
        b";;select 1;;select 2;",
        b"select 'unterminated",
        b"select $a$ unterminated $b$",
        b"select a from t where b = '\\' and c = 'x'",
        b"insert into t values (1, 'a', 3000000000, 1.5, E'\\n', $$x$$) on conflict (id) do update set a = 5",
        b"update t set a = a + -5 where id = 3 returning a limit 10 offset 20",
        b"set standard_conforming_strings = off; select '\\'",
        b"select a+-1, a--1\n, a<-1, a@-1, a=-1",
        b"\xff\xfe select \x00",
    ];
    let mut seeds: Vec<Vec<u8>> = corners
        .iter()
        .flat_map(|text| [[&[1, 60][..], text].concat(), [&[0, 9][..], text].concat()])
        .collect();
    seeds.extend(crate::planner::statements().map(|sql| [b"\x01\x10", sql.as_bytes()].concat()));
    seeds
}
