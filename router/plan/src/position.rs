//! Where a word of a query or a write can be the name of a table or a function, by the words around it.
//!
//! PostgreSQL's grammar has few such places: behind FROM, JOIN, INTO and the like, in a list, beside a period, before
//! parentheses. Everywhere else the word is a part of the grammar, a type or a label, whatever is called so. A column or a
//! row of a table may stand there too, but then the table is named at another place. What is not proven here may be a name.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use mothership_sql::keywords;

/// Words behind which a table may be named.
const NAMES_FOLLOW: [&str; 10] = [
    "from",
    "into",
    "join",
    "only",
    "table",
    "temp",
    "temporary",
    "unlogged",
    "update",
    "using",
];

/// Words with parentheses behind them that are no calls behind these others.
const NO_CALLS: [(&str, &str); 14] = [
    ("cross", "join"),
    ("full", "join"),
    ("group", "by"),
    ("grouping", "sets"),
    ("inner", "join"),
    ("left", "join"),
    ("natural", "join"),
    ("order", "by"),
    ("outer", "join"),
    ("partition", "by"),
    ("right", "join"),
    ("tablesample", "bernoulli"),
    ("tablesample", "system"),
    ("time", "zone"),
];

/// Whether the word at a place, of tokens without white space, may be the name of a table or a function.
pub fn may_be_name(tokens: &[TokenWithSpan], at: usize) -> bool {
    let place = Place { tokens, at };
    let before = place.token(-1);
    match (before, place.token(1)) {
        (Some(Token::Period), _) | (_, Some(Token::Period)) => true,
        // A label or a type.
        (Some(Token::DoubleColon), _) => false,
        _ if place.says(-1, "as") => false,
        (_, Some(Token::LParen)) => place.may_be_called(),
        // The type of a constant.
        (_, Some(token)) if is_constant(token) => false,
        (Some(Token::Comma), _) => true,
        (Some(Token::LParen), _) => match place.token(-2) {
            Some(Token::Comma | Token::LParen) => true,
            _ => ["from", "join", "only", "using"]
                .iter()
                .any(|word| place.says(-2, word)),
        },
        _ if place.says(-1, "update") => !place.is_behind_update_of_grammar(),
        _ => NAMES_FOLLOW.iter().any(|word| place.says(-1, word)),
    }
}

/// Whether parentheses are behind the word at a place and it names no table that is written: if it is a name, then that of
/// a function, or of a table that is there.
pub fn is_called(tokens: &[TokenWithSpan], at: usize) -> bool {
    let place = Place { tokens, at };
    place.token(1) == Some(&Token::LParen) && !place.says(-1, "into")
}

fn is_constant(token: &Token) -> bool {
    matches!(
        token,
        Token::Number(..)
            | Token::Placeholder(_)
            | Token::SingleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
    )
}

struct Place<'t> {
    tokens: &'t [TokenWithSpan],
    at: usize,
}

impl Place<'_> {
    /// The token so far from the word.
    fn token(&self, from: isize) -> Option<&Token> {
        let at = self.at.checked_add_signed(from)?;
        self.tokens.get(at).map(|token| &token.token)
    }

    /// The word there, if it is one without quotes.
    fn word(&self, from: isize) -> Option<&str> {
        match self.token(from)? {
            Token::Word(word) if word.quote_style.is_none() => Some(&word.value),
            _ => None,
        }
    }

    fn says(&self, from: isize, wanted: &str) -> bool {
        self.word(from)
            .is_some_and(|word| word.eq_ignore_ascii_case(wanted))
    }

    /// ON CONFLICT DO UPDATE, a MERGE's THEN UPDATE, FOR [NO KEY] UPDATE: no table follows. DO, THEN and FOR are reserved.
    fn is_behind_update_of_grammar(&self) -> bool {
        let locks = self.says(-2, "key") && self.says(-3, "no") && self.says(-4, "for");
        let mut before = ["do", "then", "for"].iter();
        locks || before.any(|word| self.says(-2, word))
    }

    /// Whether the word with parentheses behind it may be the name of a function, or a table that is written.
    fn may_be_called(&self) -> bool {
        if self.says(-1, "into") {
            return true;
        }
        let Some(word) = self.word(0) else {
            return true;
        };
        if keywords::never_a_function(keywords::lower(word).as_bytes()) {
            return false;
        }
        let no_call = NO_CALLS
            .iter()
            .any(|(before, no_call)| self.says(-1, before) && self.says(0, no_call));
        let grouped = self.says(-2, "group")
            && self.says(-1, "by")
            && (self.says(0, "rollup") || self.says(0, "cube"));
        let kept = self.says(-2, "as") && self.says(-1, "not") && self.says(0, "materialized");
        let arbiter =
            self.says(-1, "on") && self.says(0, "conflict") && self.is_followed_by(&["do"]);
        let merged = self.says(-1, "then")
            && self.says(0, "insert")
            && self.is_followed_by(&["values", "overriding"]);
        !(no_call || grouped || kept || arbiter || merged || self.is_behind_operand())
    }

    /// Whether one of these words follows the parentheses behind the word.
    fn is_followed_by(&self, words: &[&str]) -> bool {
        let mut depth = 0usize;
        let mut from = 1;
        while let Some(token) = self.token(from) {
            match token {
                Token::LParen => depth += 1,
                Token::RParen if depth == 1 => {
                    return words.iter().any(|word| self.says(from + 1, word));
                }
                Token::RParen => depth = depth.saturating_sub(1),
                _ => {}
            }
            from += 1;
        }
        false
    }

    /// Whether an operand ends before the word, and no call follows one.
    fn is_behind_operand(&self) -> bool {
        match self.token(-1) {
            Some(Token::RParen) => !self.is_behind_distinct_on(),
            Some(Token::RBracket) => true,
            // XMLPARSE (CONTENT a) and DOCUMENT are no words of the parser's.
            Some(Token::Word(_)) if self.says(-1, "content") || self.says(-1, "document") => false,
            Some(Token::Word(word)) => {
                word.quote_style.is_some() || word.keyword == Keyword::NoKeyword
            }
            Some(token) => is_constant(token),
            None => false,
        }
    }

    /// Behind DISTINCT ON (...) an expression begins. Whatever is behind ON and parentheses is taken for that.
    fn is_behind_distinct_on(&self) -> bool {
        let mut depth = 0usize;
        let mut from = -1;
        while let Some(token) = self.token(from) {
            match token {
                Token::RParen => depth += 1,
                Token::LParen if depth == 1 => return self.says(from - 1, "on"),
                Token::LParen => depth = depth.saturating_sub(1),
                _ => {}
            }
            from -= 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    /// The words `by` of a statement that may be names, by their turn.
    fn names(sql: &str) -> Vec<usize> {
        named(sql, "by")
    }

    fn named(sql: &str, name: &str) -> Vec<usize> {
        let mut tokens = parse::tokens(sql).expect("it can be cut into tokens");
        tokens.retain(|token| !matches!(token.token, Token::Whitespace(_)));
        let is_it = |at: &usize| match &tokens[*at].token {
            Token::Word(word) => word.value.eq_ignore_ascii_case(name),
            _ => false,
        };
        let all: Vec<usize> = (0..tokens.len()).filter(is_it).collect();
        let turns = all.iter().enumerate();
        turns
            .filter(|(_, at)| may_be_name(&tokens, **at))
            .map(|(turn, _)| turn)
            .collect()
    }

    #[test]
    fn a_word_of_the_grammar_is_no_name() {
        for sql in [
            "SELECT a, count(*) FROM t GROUP BY a ORDER BY a",
            "SELECT rank() OVER (PARTITION BY a ORDER BY b) FROM t",
            "SELECT x::by, CAST(x AS by), a AS by FROM t by",
            "SELECT by '1' FROM t AS by (a)",
            "SELECT DISTINCT ON (a) b AS by FROM t",
        ] {
            assert_eq!(names(sql), Vec::<usize>::new(), "{sql}");
        }
        for (sql, word) in [
            ("INSERT INTO t (a) VALUES (1)", "insert"),
            ("INSERT INTO t (a) VALUES (1)", "values"),
            (
                "INSERT INTO t VALUES (1) ON CONFLICT (a) DO NOTHING",
                "conflict",
            ),
            (
                "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 1",
                "set",
            ),
            (
                "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 1",
                "update",
            ),
            ("UPDATE t SET (a, b) = (1, 2)", "set"),
            ("UPDATE t SET a = 1", "update"),
            ("SELECT * FROM t x JOIN (SELECT 1) y ON true", "join"),
            ("SELECT * FROM t LEFT JOIN (SELECT 1) y ON true", "join"),
            ("SELECT * FROM t LEFT JOIN u ON true", "left"),
            ("SELECT count(*) FILTER (WHERE a > 1) FROM t", "filter"),
            ("SELECT count(*) OVER (ORDER BY a ROWS 1 PRECEDING)", "over"),
            ("SELECT count(*) OVER (ROWS 1 PRECEDING)", "rows"),
            ("SELECT a FROM t GROUP BY (a) ORDER BY (a + 1)", "by"),
            ("SELECT rank() OVER (PARTITION BY (a)) FROM t", "by"),
            ("SELECT a AT TIME ZONE ('UTC') FROM t", "zone"),
            ("SELECT a FROM t TABLESAMPLE system (10)", "system"),
            ("SELECT EXISTS (VALUES (1)), (VALUES (2))", "values"),
            ("SELECT EXISTS (VALUES (1)), EXISTS (VALUES (2))", "exists"),
            ("SELECT a FROM t FOR UPDATE SKIP LOCKED", "skip"),
            ("SELECT a FROM t FOR NO KEY UPDATE NOWAIT", "nowait"),
            ("SELECT extract(year FROM date '2020-01-01')", "year"),
            ("SELECT extract(year FROM date '2020-01-01')", "date"),
            ("SELECT a FROM t GROUP BY ROLLUP (a)", "rollup"),
            ("SELECT a FROM t GROUP BY GROUPING SETS ((a), ())", "sets"),
            (
                "WITH x AS NOT MATERIALIZED (SELECT 1) SELECT 1",
                "materialized",
            ),
            (
                "WITH x AS (INSERT INTO t VALUES (1) RETURNING a) SELECT 1",
                "insert",
            ),
            (
                "MERGE INTO t USING u ON true WHEN NOT MATCHED THEN INSERT (a) VALUES (1)",
                "insert",
            ),
        ] {
            assert_eq!(named(sql, word), Vec::<usize>::new(), "{word} in {sql}");
        }
    }

    #[test]
    fn a_word_that_may_be_a_table_or_a_function_is_a_name() {
        for (sql, expected) in [
            ("SELECT * FROM by ORDER BY a", &[0][..]),
            ("SELECT * FROM public.by", &[0]),
            ("SELECT by.a FROM t, by GROUP BY a", &[0, 1]),
            ("SELECT * FROM (by JOIN t ON true)", &[0]),
            ("SELECT * FROM ((by JOIN t ON true))", &[0]),
            ("SELECT * FROM t JOIN by USING (a)", &[0]),
            ("SELECT * FROM t JOIN (by CROSS JOIN u) ON true", &[0]),
            ("SELECT * FROM ONLY by, ONLY (by)", &[0, 1]),
            ("TABLE by", &[0]),
            ("TABLE ONLY by", &[0]),
            ("SELECT a INTO by FROM t", &[0]),
            ("SELECT a INTO TEMP by FROM t", &[0]),
            ("INSERT INTO by (a) VALUES (1)", &[0]),
            ("INSERT INTO t (a) SELECT a FROM by", &[0]),
            ("UPDATE by SET a = 1", &[0]),
            ("WITH x AS (UPDATE by SET a = 1) SELECT 1", &[0]),
            ("DELETE FROM by USING by b", &[0, 1]),
            ("MERGE INTO by USING by ON true", &[0, 1]),
            (
                "SELECT by(a), 1 + by(a), NOT by(a) FROM t ORDER BY a",
                &[0, 1, 2],
            ),
            ("SELECT DISTINCT ON (a) by(b) FROM t", &[0]),
            ("SELECT a FROM t WHERE by(a) ORDER BY by(a)", &[0, 2]),
            ("SELECT (a).by FROM t", &[0]),
            ("SELECT * FROM LATERAL by(1), ROWS FROM (by(1))", &[0, 1]),
        ] {
            assert_eq!(names(sql), expected, "{sql}");
        }
        assert_eq!(named("INSERT INTO values (a) VALUES (1)", "values"), [0]);
        assert_eq!(named("SELECT * FROM values", "values"), [0]);
        assert_eq!(named("UPDATE set SET a = 1", "set"), [0]);
        let joined = "SELECT 1 FROM t JOIN u ON conflict(a)";
        assert_eq!(named(joined, "conflict"), [0]);
        let chosen = "SELECT CASE WHEN a THEN insert(a) END FROM t";
        assert_eq!(named(chosen, "insert"), [0]);
    }

    /// What is no key word to the parser is taken for an operand: so those must be behind which one begins.
    #[test]
    fn the_parser_knows_the_words_behind_which_an_expression_begins() {
        for word in [
            "all",
            "and",
            "any",
            "array",
            "asymmetric",
            "between",
            "by",
            "case",
            "cast",
            "columns",
            "default",
            "distinct",
            "else",
            "escape",
            "except",
            "filter",
            "for",
            "from",
            "group",
            "having",
            "ilike",
            "in",
            "intersect",
            "is",
            "lateral",
            "like",
            "limit",
            "not",
            "notnull",
            "offset",
            "on",
            "or",
            "order",
            "over",
            "overlaps",
            "partition",
            "passing",
            "path",
            "preceding",
            "range",
            "recursive",
            "returning",
            "rows",
            "select",
            "set",
            "similar",
            "some",
            "symmetric",
            "then",
            "to",
            "union",
            "using",
            "value",
            "values",
            "when",
            "where",
            "within",
            "zone",
            "and",
            "operator",
            "key",
            "of",
            "groups",
            "variadic",
            "placing",
            "window",
        ] {
            let Token::Word(found) = Token::make_word(word, None) else {
                panic!("{word} is a word");
            };
            assert_ne!(found.keyword, Keyword::NoKeyword, "{word}");
        }
    }
}
