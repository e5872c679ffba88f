//! The lexer against the rules of scan.l: by example, and for any bytes at all.

use super::*;
use proptest::prelude::*;

fn kinds(sql: &str, conforming: bool) -> Vec<(Kind, &str)> {
    Lexer::new(sql.as_bytes(), conforming)
        .map(|t| (t.kind, &sql[t.start..t.end]))
        .collect()
}

fn check(sql: &str, want: &[(Kind, &str)]) {
    assert_eq!(kinds(sql, true), want, "{sql}");
}

/// Each text is one token of this kind.
fn whole(kind: Kind, texts: &[&str]) {
    for text in texts {
        check(text, &[(kind, text)]);
    }
}

use Kind::*;

#[test]
fn words_and_quoted_identifiers() {
    whole(
        Word,
        &[
            "select", "SeLect", "_a", "a1$", "é", "naïve", "a$b$c", "e", "u", "N", "nx",
        ],
    );
    whole(
        QuotedIdent,
        &[
            "\"a\"",
            "\"a\"\"b\"",
            "\"'\"",
            "\"--\"",
            "\"/*\"",
            "\"\n\"",
            "\"\"",
        ],
    );
    whole(UnicodeIdent, &["U&\"a\"", "u&\"\\0061\"\"\""]);
    check("u&a", &[(Word, "u"), (Operator, "&"), (Word, "a")]);
    check("U& 'x'", &[(Word, "U"), (Operator, "&"), (String, "'x'")]);
    check(
        "\"a\" \n \"b\"",
        &[(QuotedIdent, "\"a\""), (QuotedIdent, "\"b\"")],
    );
    check(
        "a.b.\"c\".*",
        &[
            (Word, "a"),
            (Dot, "."),
            (Word, "b"),
            (Dot, "."),
            (QuotedIdent, "\"c\""),
            (Dot, "."),
            (Operator, "*"),
        ],
    );
}

#[test]
fn strings_of_all_forms() {
    whole(
        String,
        &[
            "''", "'a'", "'it''s'", "'\\'", "'a\nb'", "'--'", "'/*'", "';'", "''''",
        ],
    );
    whole(
        String,
        &[
            "'a'\n'b'",
            "'a' \n\t 'b'",
            "'a' -- c\n'b'",
            "'a'\n-- it's\n'b'",
            "'a'\r'b'",
            "'a'\n--\n--x\n 'b'\n'c'",
            "'a'--\n'b'",
        ],
    );
    whole(
        EscapeString,
        &["E''", "e'\\''", "E'\\\\'", "E'a''b\\'c'", "E'a'\n'\\'b'"],
    );
    whole(NationalString, &["n'a'", "N'a\\'"]);
    whole(UnicodeString, &["U&'a'", "u&'\\'", "U&'a'\n'b'"]);
    whole(BitString, &["B'01'", "b''", "b'0'\n'1'"]);
    whole(HexString, &["X'1F'", "x''"]);
    check("'a' 'b'", &[(String, "'a'"), (String, "'b'")]);
    // A block comment does not continue a string, nor does a comment that nothing follows.
    check("'a' /* \n */ 'b'", &[(String, "'a'"), (String, "'b'")]);
    check("'a'\n/**/'b'", &[(String, "'a'"), (String, "'b'")]);
    check("'a'\n-- x", &[(String, "'a'")]);
    check(
        "'a'\n- 'b'",
        &[(String, "'a'"), (Operator, "-"), (String, "'b'")],
    );
    // No doubling in bit strings.
    check("B'1''0'", &[(BitString, "B'1'"), (String, "'0'")]);
    check("'a'E'b'", &[(String, "'a'"), (EscapeString, "E'b'")]);
    check("'a'\nE'b'", &[(String, "'a'"), (EscapeString, "E'b'")]);
    check("e 'a'", &[(Word, "e"), (String, "'a'")]);
    check("re'a'", &[(Word, "re"), (String, "'a'")]);
}

#[test]
fn backslashes_in_plain_strings_obey_the_setting() {
    assert_eq!(kinds(r"'a\'b'", false), [(String, r"'a\'b'")]);
    assert_eq!(kinds(r"N'a\'b'", false), [(NationalString, r"N'a\'b'")]);
    assert_eq!(kinds("'a'\n'\\'b'", false), [(String, "'a'\n'\\'b'")]);
    assert_eq!(
        kinds(r"'a\'c'", true),
        [(String, r"'a\'"), (Word, "c"), (Unterminated, "'")]
    );
    assert_eq!(
        kinds(r"U&'a\'b", false),
        [(UnicodeString, r"U&'a\'"), (Word, "b")]
    );
}

#[test]
fn dollar_quotes_and_parameters() {
    whole(
        DollarString,
        &[
            "$$$$",
            "$$a'b$$",
            "$a$ $$ $b$ $a$",
            "$A1_é$x$A1_é$",
            "$a$$A$$a$",
            "$a$ $a1$ $a$",
            "$$ $a$ $$",
        ],
    );
    whole(Param, &["$1", "$65535"]);
    check("$1$2", &[(Param, "$1"), (Param, "$2")]);
    check("$1::int", &[(Param, "$1"), (TypeCast, "::"), (Word, "int")]);
    check("$1a", &[(UncertainNumber, "$1"), (Word, "a")]);
    check("$1$$x$$", &[(Param, "$1"), (DollarString, "$$x$$")]);
    check("a$$x$$", &[(Word, "a$$x$$")]);
    check("5$$x$$", &[(Integer, "5"), (DollarString, "$$x$$")]);
    check("$a x", &[(Unknown, "$"), (Word, "a"), (Word, "x")]);
    check(
        "$1a$ x",
        &[(UncertainNumber, "$1"), (Word, "a$"), (Word, "x")],
    );
    check("$", &[(Unknown, "$")]);
}

#[test]
fn numbers() {
    whole(Integer, &["0", "1", "007", "99999999999999999999999999"]);
    whole(
        Decimal,
        &["1.5", ".5", "1.", "1e5", "1E+5", "1.5e-10", ".5e1", "1.e5"],
    );
    check("1..10", &[(Integer, "1"), (DotDot, ".."), (Integer, "10")]);
    check("1...5", &[(Integer, "1"), (DotDot, ".."), (Decimal, ".5")]);
    check("1.5.3", &[(Decimal, "1.5"), (Decimal, ".3")]);
    check("t.5", &[(Word, "t"), (Decimal, ".5")]);
    check("-5", &[(Operator, "-"), (Integer, "5")]);
    check("1e5.5", &[(Decimal, "1e5"), (Decimal, ".5")]);
    whole(
        UncertainNumber,
        &[
            "0x1F", "0XaB", "0o17", "0b101", "1_000", "1_0.0_1", "1_0e1_0", "0x_1", "1.5_0",
        ],
    );
    // Numbers with junk: errors since version 15, two tokens before.
    check("123abc", &[(UncertainNumber, "123"), (Word, "abc")]);
    check("1e", &[(UncertainNumber, "1"), (Word, "e")]);
    check(
        "1e+",
        &[(UncertainNumber, "1"), (Word, "e"), (Operator, "+")],
    );
    check(
        "1e'\\''",
        &[(UncertainNumber, "1"), (EscapeString, "e'\\''")],
    );
    check("0x'1'", &[(UncertainNumber, "0"), (HexString, "x'1'")]);
    check("0x1Fg", &[(UncertainNumber, "0"), (Word, "x1Fg")]);
    check("1__0", &[(UncertainNumber, "1"), (Word, "__0")]);
    check("1.5a", &[(UncertainNumber, "1.5"), (Word, "a")]);
}

#[test]
fn operators_are_as_long_as_possible_and_no_longer() {
    whole(
        Operator,
        &[
            "+", "*", "<=", ">=", "<>", "!=", "->", "->>", "#>>", "@>", "||", "&&", "~*", "!~~*",
            "@-", "|/", "~-", "@+-", "?|", "*=", "`",
        ],
    );
    whole(EqualsGreater, &["=>"]);
    whole(ColonEquals, &[":="]);
    whole(TypeCast, &["::"]);
    check(
        "a<->-1",
        &[
            (Word, "a"),
            (Operator, "<->"),
            (Operator, "-"),
            (Integer, "1"),
        ],
    );
    check(
        "a=-1",
        &[
            (Word, "a"),
            (Operator, "="),
            (Operator, "-"),
            (Integer, "1"),
        ],
    );
    check(
        "a<-1",
        &[
            (Word, "a"),
            (Operator, "<"),
            (Operator, "-"),
            (Integer, "1"),
        ],
    );
    check(
        "a<=-1",
        &[
            (Word, "a"),
            (Operator, "<="),
            (Operator, "-"),
            (Integer, "1"),
        ],
    );
    check("=>-", &[(EqualsGreater, "=>"), (Operator, "-")]);
    check(
        "*+-+-",
        &[
            (Operator, "*"),
            (Operator, "+"),
            (Operator, "-"),
            (Operator, "+"),
            (Operator, "-"),
        ],
    );
    check("a@-1", &[(Word, "a"), (Operator, "@-"), (Integer, "1")]);
    check("=>=", &[(Operator, "=>=")]);
    check(":::", &[(TypeCast, "::"), (Colon, ":")]);
    check(
        "a[1:2]",
        &[
            (Word, "a"),
            (LBracket, "["),
            (Integer, "1"),
            (Colon, ":"),
            (Integer, "2"),
            (RBracket, "]"),
        ],
    );
    // Comments end operators.
    check(
        "1+--x\n2",
        &[(Integer, "1"), (Operator, "+"), (Integer, "2")],
    );
    check(
        "1+/*x*/2",
        &[(Integer, "1"), (Operator, "+"), (Integer, "2")],
    );
    check("*/*x*/", &[(Operator, "*")]);
    check("@/*x*/-", &[(Operator, "@"), (Operator, "-")]);
    check(
        "1- -2",
        &[
            (Integer, "1"),
            (Operator, "-"),
            (Operator, "-"),
            (Integer, "2"),
        ],
    );
    check("</*--\n*/>", &[(Operator, "<"), (Operator, ">")]);
    check("<--/*\n>", &[(Operator, "<"), (Operator, ">")]);
}

#[test]
fn comments_nest_and_lines_end() {
    check("/* /* */ */ a", &[(Word, "a")]);
    check("/*/**/*/a", &[(Word, "a")]);
    check("/***/a", &[(Word, "a")]);
    check("/*'*/a/*\"*/", &[(Word, "a")]);
    check("-- a\rb -- c", &[(Word, "b")]);
    check("--", &[]);
    check("/**//**/", &[]);
}

#[test]
fn what_never_ends_reaches_to_the_end() {
    whole(
        Unterminated,
        &[
            "'", "'a", "'a''", "E'\\'", "E'\\", "\"a", "\"a\"\"", "U&'", "U&\"a", "B'1", "$$",
            "$a$ $b$", "/*", "/* /* */", "'a'\n'b", "$a$ $a",
        ],
    );
    check(
        "a; 'b; c",
        &[(Word, "a"), (Semicolon, ";"), (Unterminated, "'b; c")],
    );
}

#[test]
fn other_bytes_are_unknown() {
    for sql in ["{", "}", "\\", "\0", "\u{1}", "\u{7f}"] {
        check(sql, &[(Unknown, sql)]);
    }
}

/// Tokens lie one behind the other, are never empty, and cover the text.
fn covers(text: &[u8], conforming: bool) {
    let mut lexer = Lexer::new(text, conforming);
    let mut at = 0;
    while let Some(token) = lexer.next_with_trivia() {
        assert_eq!(token.start, at);
        assert!(token.end > at);
        at = token.end;
        if token.kind == Unterminated {
            assert_eq!(at, text.len());
        }
    }
    assert_eq!(at, text.len());
}

/// A token between two blanks is read again as itself, if a word or number cannot join it.
fn stands_alone(text: &[u8], conforming: bool) {
    for token in Lexer::new(text, conforming) {
        if token.kind.is_uncertain() {
            continue;
        }
        let alone = [b" ", token.text(text), b" "].concat();
        let again: Vec<Token> = Lexer::new(&alone, conforming).collect();
        assert_eq!(
            again.len(),
            1,
            "{:?}",
            std::string::String::from_utf8_lossy(&alone)
        );
        assert_eq!(again[0].kind, token.kind);
    }
}

fn noisy() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "'",
            "''",
            "\"",
            "\\",
            "$",
            "$$",
            "$a$",
            "$1",
            "--",
            "/*",
            "*/",
            "\n",
            "\r",
            " ",
            "e'",
            "E'",
            "u&'",
            "U&\"",
            "b'",
            "x'",
            "n'",
            "::",
            ":=",
            "=>",
            "..",
            ".",
            "1",
            "1.",
            "e5",
            "0x",
            "_",
            "+",
            "-",
            "*",
            "@",
            "<",
            ">",
            "=",
            ";",
            "(",
            ")",
            "[",
            "]",
            "a",
            "é",
            "begin atomic",
            "end",
            "create function",
            "select",
            "set",
            "\u{0}",
            "{",
        ])
        .prop_map(|s| s.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_covered_in_order(text in noisy(), conforming in any::<bool>()) {
        covers(&text, conforming);
        stands_alone(&text, conforming);
    }

    #[test]
    fn any_bytes_are_split_analysed_and_shaped_without_panic(text in noisy(), conforming in any::<bool>()) {
        let mut last = 0;
        for part in crate::split::split(&text, conforming) {
            prop_assert!(part.span.start >= last && part.span.end <= text.len());
            last = part.span.end;
            let _ = crate::effect::analyse(part.span.of(&text), conforming);
        }
        let _ = crate::effect::analyse(&text, conforming);
        let mut scratch = crate::shape::Scratch::new(256, 16);
        let _ = crate::shape::shape(&text, conforming, &mut scratch);
    }
}
