//! Equal shapes differ in literal values only: by example, and by random pairs.

use super::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The normalised text with marks shown as `?i`, and the literals.
fn shown(sql: &str) -> (String, Vec<&str>) {
    let mut scratch = Scratch::new(4096, 64);
    let shape =
        shape(sql.as_bytes(), true, &mut scratch).unwrap_or_else(|| panic!("no shape: {sql}"));
    let text = String::from_utf8_lossy(&shape.text[1..])
        .replace('\u{1}', " ?")
        .trim()
        .to_string();
    (
        text,
        shape
            .literals
            .iter()
            .map(|l| &sql[l.span.start..l.span.end])
            .collect(),
    )
}

fn check(sql: &str, text: &str, literals: &[&str]) {
    assert_eq!(shown(sql), (text.to_string(), literals.to_vec()), "{sql}");
}

fn hash_of(sql: &str) -> Option<u128> {
    let mut scratch = Scratch::new(4096, 64);
    shape(sql.as_bytes(), true, &mut scratch).map(|s| s.hash)
}

#[test]
fn literals_in_value_places_become_marks() {
    check(
        "SELECT abalance FROM pgbench_accounts WHERE aid = 77;",
        "select abalance from pgbench_accounts where aid = ?i",
        &["77"],
    );
    check(
        "update t set a=a+-5, b = 'x' where id=3000000000",
        "update t set a = a + - ?i , b = ?s where id = ?l",
        &["5", "'x'", "3000000000"],
    );
    check(
        "update t set a=a + -5 where id=1.5e3",
        "update t set a = a + - ?i where id = ?n",
        &["5", "1.5e3"],
    );
    check(
        "insert into t (a, b) values (1, E'\\'x'), ($1, $$y$$)",
        "insert into t ( a , b ) values ( ?i , ?e ) , ( $1 , ?d )",
        &["1", "E'\\'x'", "$$y$$"],
    );
    check(
        "select * from t where id in (1,2,3) limit 10 offset 20",
        "select * from t where id in ( ?i , ?i , ?i ) limit ?i offset ?i",
        &["1", "2", "3", "10", "20"],
    );
    check(
        "select 1 from a join b on a.x = 5 and b.\"Y\" = '5'",
        "select 1 from a join b on a . x = ?i and b . \"Y\" = ?s",
        &["5", "'5'"],
    );
    check(
        "/* c */ Select\tA -- x\n from T where a=$1 and b = - 9223372036854775808",
        "select a from t where a = $1 and b = - ?n",
        &["9223372036854775808"],
    );
    check(
        "select a from t where x > interval '1' day and d = date '2020-01-01'",
        "select a from t where x > interval ?s day and d = date ?s",
        &["'1'", "'2020-01-01'"],
    );
    check(
        "select a from t where a is distinct from 5 and b = 6",
        "select a from t where a is distinct from ?i and b = ?i",
        &["5", "6"],
    );
    check(
        "delete from t where id = any('{1,2}')",
        "delete from t where id = any ( ?s )",
        &["'{1,2}'"],
    );
    check(
        "insert into t values (1) on conflict (id, lower(b || 'x')) do update set a = 5 where t.a > 6",
        "insert into t values ( ?i ) on conflict ( id , lower ( b || 'x' ) ) do update set a = ?i where t . a > ?i",
        &["1", "5", "6"],
    );
    check(
        "with x as (select a, 1 from t where b = 2) select * from x where c = 3",
        "with x as ( select a , 1 from t where b = ?i ) select * from x where c = ?i",
        &["2", "3"],
    );
    check(
        "values (1,'a'),(2,'b')",
        "values ( ?i , ?s ) , ( ?i , ?s )",
        &["1", "'a'", "2", "'b'"],
    );
}

#[test]
fn literals_elsewhere_stay() {
    for sql in [
        "select 1 , 'a' , coalesce ( x , 0 ) from t",
        "select a from t order by 1 , a + 2",
        "select a , count ( * ) from t group by 1 , a + 2 having count ( * ) > 3",
        "select distinct on ( 1 ) a , 5 from t",
        "select count ( * ) filter ( where a = 5 ) from t",
        "select ( select 1 from t where a = 5 ) from t order by ( select 1 from t where a = 6 )",
        "select a from generate_series ( 1 , 10 ) a",
        "select rank ( ) over ( order by 1 rows 5 preceding ) from t",
        "select 1 union select 2",
        "set a = 5",
        "explain select a from t where b = 5",
        "prepare p as select a from t where b = 5",
        "create table t ( a int default 5 check ( a > 6 ) )",
        "select set , 5 from t",
        "select a as where , 5 from t",
        "select t . where , 5 from t",
        "select a from t where b = B'101'",
        "select a from t where b = U&'d!0061' uescape '!'",
        "select a from t where b = c :: numeric ( 10 , 2 )",
        "select a from t where b = cast ( c as varchar ( 20 ) )",
        "select a from t where b = c :: s . geometry ( point , 4326 )",
        "select a from t where b = c :: \"G\" ( 5 )",
        "delete from t where a = $1 returning b + 1",
    ] {
        let (text, literals) = shown(sql);
        assert_eq!(literals.len(), 0, "{sql}");
        assert_eq!(text, sql);
    }
}

#[test]
fn shapes_differ_where_meaning_may() {
    let groups = [
        [
            "select a from t where b = 5",
            "select a from t where b = '5'",
        ],
        [
            "select a from t where b = 5",
            "select a from t where b = 5.0",
        ],
        [
            "select a from t where b = 5",
            "select a from t where b = 5000000000",
        ],
        [
            "select a from t where b = 5",
            "select a from t where b = -5",
        ],
        [
            "select a from t where b = 5",
            "select a from t where b = 5::int8",
        ],
        [
            "select a from t where b = 5",
            "select a from t where \"b\" = 5",
        ],
        [
            "select a from t where b = 5",
            "select a from t where b = $1",
        ],
        [
            "select a from t where b = 5",
            "select a from t where b = null",
        ],
        [
            "select a from t where b in (1,2)",
            "select a from t where b in (1,2,3)",
        ],
        [
            "select a from t where b = 'x'",
            "select a from t where b = E'x'",
        ],
        [
            "select a from t where b @-1",
            "select a from t where b @ -1",
        ],
        ["select a from t order by 1", "select a from t order by 2"],
        [
            "select a from t where b = $1",
            "select a from t where b = $2",
        ],
        [
            "select a from t where b = 'x' 'y'",
            "select a from t where b = 'x'\n'y'",
        ],
    ];
    for [a, b] in groups {
        assert_ne!(hash_of(a), hash_of(b), "{a} / {b}");
    }
    for [a, b] in [
        [
            "select a from t where b = 5",
            "SELECT A\nFROM T WHERE b=0007 -- x",
        ],
        [
            "select a from t where b = 'x'",
            "select a from t where b = 'it''s; -- /*'",
        ],
        [
            "select a from t where b = 1e5",
            "select a from t where b = 12345678901234567890",
        ],
    ] {
        assert_eq!(hash_of(a), hash_of(b), "{a} / {b}");
    }
}

#[test]
fn some_texts_have_no_shape() {
    for sql in [
        "select 1; select 2",
        "; select 1",
        "select 'open",
        "select 0x1F",
        "select 1_000",
        "select {",
        "select )",
        "select \u{1}i",
        "select a from t where b = timestamp(3) '2020-01-01'",
        "select a from t where b = mytype(3) 'x'",
    ] {
        assert_eq!(hash_of(sql), None, "{sql}");
    }
    assert_eq!(hash_of(&format!("select {}", "(".repeat(100))), None);
    let mut small = Scratch::new(20, 1);
    assert!(shape(b"values (1, 2)", true, &mut small).is_none());
    assert!(
        shape(
            b"select aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            true,
            &mut small
        )
        .is_none()
    );
    assert!(shape(b"values (1)", true, &mut small).is_some());
    assert_eq!(small.text.capacity(), 20);
}

#[test]
fn backslashes_that_escape_are_part_of_the_shape() {
    let (mut a, mut b) = (Scratch::new(100, 4), Scratch::new(100, 4));
    let sql = b"values ('a')";
    let on = shape(sql, true, &mut a).map(|s| s.hash);
    let off = shape(sql, false, &mut b).map(|s| s.hash);
    assert_ne!(on, off);
}

/// Pieces from which statements are made. Each may follow each.
const PIECES: &[&str] = &[
    "select",
    "from",
    "where",
    "t",
    "a",
    "b",
    "\"A\"",
    "=",
    "<",
    "-",
    "+",
    "*",
    ",",
    "(",
    ")",
    "and",
    "or",
    "in",
    "values",
    "insert into",
    "update",
    "set",
    "delete from",
    "order by",
    "group by",
    "limit",
    "offset",
    "on",
    "join",
    "as",
    "distinct",
    "having",
    "union",
    "returning",
    "::",
    "numeric",
    "interval",
    "::numeric(10,2)",
    "cast(a as",
    "5",
    "7",
    "0",
    "2147483647",
    "2147483648",
    "9223372036854775808",
    "1.5",
    "2e3",
    "'x'",
    "'y'",
    "''",
    "'it''s'",
    "E'\\''",
    "E'z'",
    "$$q$$",
    "$a$r$a$",
    "B'1'",
    "X'f'",
    "U&'u'",
    "uescape",
    "$1",
    "$2",
    "null",
    "true",
    ".",
    "[",
    "]",
    "case when",
    "then",
    "end",
    "with",
    "filter",
    "over",
    "day",
    "date",
    "--",
    "->",
    "!=",
    "conflict",
    "do",
    "for update",
    "fetch first",
    "window",
];
const SPACES: &[&str] = &[
    " ",
    "  ",
    "\n",
    "\t",
    " /* c */ ",
    " -- c\n",
    " /* /* ' */ */ ",
    "",
];

fn statement(rng: &mut StdRng) -> Vec<&'static str> {
    let starts = [
        &[
            "select", "a", "from", "t", "where", "a", "=", "5", "and", "b", "<", "'x'",
        ][..],
        &["insert into", "t", "values", "(", "5", ",", "'x'"],
        &["update", "t", "set"],
        &["select"],
        &["with", "a", "as", "("],
        &["delete from", "t", "where"],
    ];
    let mut pieces = starts[rng.random_range(0..starts.len())].to_vec();
    for _ in 0..rng.random_range(0..12) {
        pieces.push(PIECES[rng.random_range(0..PIECES.len())]);
    }
    pieces
}

/// The same statement with a few pieces replaced, most of them literals by literals.
fn neighbour(rng: &mut StdRng, pieces: &[&'static str]) -> Vec<&'static str> {
    let mut out = pieces.to_vec();
    for piece in &mut out {
        let literal = piece.starts_with(|c: char| c.is_ascii_digit() || c == '\'')
            || piece.starts_with("E'")
            || piece.starts_with("$");
        let chance = if literal { 0.5 } else { 0.02 };
        if rng.random_bool(chance) {
            *piece = PIECES[rng.random_range(0..PIECES.len())];
        }
        if literal && rng.random_bool(0.3) {
            *piece = ["5", "7", "0", "'x'", "'y'", "1.5"][rng.random_range(0..6)];
        }
    }
    out
}

fn text(rng: &mut StdRng, pieces: &[&str]) -> String {
    let mut out = String::new();
    for piece in pieces {
        if rng.random_bool(0.2) && !piece.contains(['\'', '"', '$']) {
            out += &piece.to_uppercase();
        } else {
            out += piece;
        }
        // Mostly something between the pieces.
        let spaces = SPACES.len() - usize::from(rng.random_bool(0.8));
        out += SPACES[rng.random_range(0..spaces)];
    }
    out
}

/// What must be equal: kind and text of each token, and for marked literals their class.
fn tokens(sql: &str, literals: &[Literal]) -> Vec<(Option<Kind>, String)> {
    Lexer::new(sql.as_bytes(), true)
        .filter(|token| token.kind != Kind::Semicolon)
        .map(|token| {
            let text = &sql[token.start..token.end];
            match literals.iter().find(|l| l.span.start == token.start) {
                Some(literal) => {
                    assert_eq!(literal.span.end, token.end);
                    (None, class(text))
                }
                None if token.kind == Kind::Word => (Some(token.kind), text.to_ascii_lowercase()),
                None => (Some(token.kind), text.to_string()),
            }
        })
        .collect()
}

/// PostgreSQL's class of a literal, found another way than the scanner does.
fn class(text: &str) -> String {
    match text.as_bytes()[0] {
        b'\'' => "string".into(),
        b'$' => "dollar".into(),
        b'E' | b'e' => "escape".into(),
        _ if text.parse::<i32>().is_ok() => "int4".into(),
        _ if text.parse::<i64>().is_ok() => "int8".into(),
        _ => "numeric".into(),
    }
}

#[test]
fn equal_shapes_differ_in_literal_values_only() {
    let seed: u64 = 20240917;
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut one, mut two) = (Scratch::new(1024, 32), Scratch::new(1024, 32));
    let (mut equal, mut changed, mut differ) = (0, 0, 0);
    for _ in 0..200_000 {
        let pieces = statement(&mut rng);
        let other = neighbour(&mut rng, &pieces);
        let (a, b) = (text(&mut rng, &pieces), text(&mut rng, &other));
        let (Some(left), Some(right)) = (
            shape(a.as_bytes(), true, &mut one),
            shape(b.as_bytes(), true, &mut two),
        ) else {
            continue;
        };
        assert_eq!(
            left.hash == right.hash,
            left.text == right.text,
            "{a:?} {b:?}"
        );
        let same = tokens(&a, left.literals) == tokens(&b, right.literals);
        assert_eq!(left.text == right.text, same, "{a:?} {b:?}");
        if same {
            equal += 1;
            changed += usize::from(pieces != other);
        } else {
            differ += 1;
        }
    }
    println!("equal {equal}, of them with other values {changed}, different {differ}");
    assert!(equal > 20_000 && changed > 2_000 && differ > 20_000);
}
