//! What is known of numbers, and where a text asks for them.

use super::*;

const ME: u64 = 7;
const OTHER: u64 = 8;

fn taking(last: Last) -> Numbers {
    Numbers(Some(Box::new(Known {
        last,
        takes: true,
        ..Known::default()
    })))
}

#[test]
fn a_server_is_asked_only_for_what_it_remembers_of_one_session() {
    use Remembers::{Nothing, Of, Several};
    // Where the last numbers are, whose its server remembers; and afterwards.
    let cases = [
        (Last::Nowhere, Nothing, Last::With(1), Of(ME), false),
        (Last::With(1), Of(ME), Last::With(1), Of(ME), false),
        (Last::With(2), Nothing, Last::With(1), Of(ME), true),
        // Older ones, of an earlier visit.
        (Last::With(2), Of(ME), Last::Unclear, Several, true),
        (Last::Nowhere, Of(ME), Last::Unclear, Several, false),
        (Last::Nowhere, Of(OTHER), Last::Unclear, Several, false),
        (Last::With(1), Of(OTHER), Last::Unclear, Several, true),
        (Last::With(1), Several, Last::Unclear, Several, true),
        (Last::Unclear, Nothing, Last::With(1), Of(ME), true),
    ];
    for (last, mut remembers, then, remembered, older) in cases {
        let case = format!("{last:?} {remembers:?}");
        let mut numbers = taking(last);
        let kept = numbers.go_to(ME, 1, &mut remembers);
        assert_eq!(
            (numbers.last(), remembers, numbers.known().older),
            (then, remembered, older),
            "{case}"
        );
        assert!(!kept, "{case}");
    }
    let (mut numbers, mut remembers) = (Numbers::default(), Of(OTHER));
    numbers.begin(false);
    assert!(!numbers.go_to(ME, 1, &mut remembers));
    assert_eq!((numbers.last(), remembers), (Last::Nowhere, Of(OTHER)));
}

#[test]
fn who_has_asked_once_keeps_the_server_that_gives_the_next_number() {
    let mut numbers = taking(Last::Unclear);
    numbers.known().follows = true;
    assert!(numbers.known().lacks_room(ME, 1, Remembers::Several));
    assert!(numbers.go_to(ME, 1, &mut Remembers::Nothing));
}

#[test]
fn numbers_that_the_router_has_taken_are_known_until_others_may_have_been_used() {
    let (a, b) = (Name::new("public", "a"), Name::new("public", "b"));
    let told = |numbers: &Numbers, sequence: Option<&str>| match numbers
        .made()
        .expect("some were made")
        .find(sequence)
    {
        SequenceValue::Here(value) => value.to_string(),
        SequenceValue::Elsewhere => "elsewhere".to_owned(),
        SequenceValue::Unclear => "unclear".to_owned(),
    };
    let all = |numbers: &Numbers| {
        [None, Some("\"public\".\"a\""), Some("\"public\".\"b\"")]
            .map(|sequence| told(numbers, sequence))
            .join(" ")
    };
    let mut numbers = Numbers::default();
    numbers.known().make(&[(&a, 1), (&a, 2)], false);
    assert_eq!(all(&numbers), "2 2 elsewhere");
    numbers.known().make(&[(&b, 9)], false);
    assert_eq!(all(&numbers), "9 2 9");
    // In which order PostgreSQL fills the columns of a row is not looked into.
    numbers.known().make(&[(&a, 3), (&b, 10)], false);
    assert_eq!(all(&numbers), "unclear 3 10");
    numbers.failed();
    assert_eq!(all(&numbers), "unclear unclear unclear");
    numbers.known().make(&[(&b, 10)], false);
    numbers.answered();
    numbers.failed();
    assert_eq!(all(&numbers), "10 unclear 10");
    numbers.known().make(&[(&a, 4)], false);
    assert_eq!(all(&numbers), "4 4 10");
    numbers.begin(true);
    numbers.go_to(ME, 1, &mut Remembers::Nothing);
    assert_eq!(all(&numbers), "unclear unclear unclear");
    numbers.known().make(&[(&b, 11), (&b, 12)], true);
    assert_eq!(all(&numbers), "unclear unclear unclear");
}

#[test]
fn calls_are_found_where_a_constant_says_the_same() {
    let check = |sql: &str| {
        let found = calls(sql.as_bytes(), true);
        found.map(|calls| {
            let call = |c: &Call| {
                let argument = c.argument.as_deref().unwrap_or("-");
                format!("{} {argument} {}", &sql[c.at.clone()], c.is_column)
            };
            calls.iter().map(call).collect::<Vec<_>>()
        })
    };
    let cases = [
        ("SELECT lastval()", &["lastval() - true"][..]),
        (
            "select pg_catalog.lastval ( ) ;",
            &["pg_catalog.lastval ( ) - true"],
        ),
        ("SELECT lastval() AS id", &["lastval() - false"]),
        (
            "SELECT currval('s'), currval('t'::regclass) AS t",
            &[
                "currval('s') 's' true",
                "currval('t'::regclass) 't'::regclass false",
            ],
        ),
        (
            "SELECT currval(pg_get_serial_sequence('t', 'id'))",
            &["currval(pg_get_serial_sequence('t', 'id')) pg_get_serial_sequence('t', 'id') true"],
        ),
    ];
    for (sql, expected) in cases {
        assert_eq!(
            check(sql).as_deref(),
            Some(&expected.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()[..]),
            "{sql}"
        );
    }
    for sql in [
        "SELECT lastval()::int",
        "SELECT lastval() + 1",
        "SELECT (lastval())",
        "SELECT lastval() FROM t",
        "SELECT x FROM a, lastval()",
        "SELECT 1 AS x ORDER BY 1, lastval()",
        "SELECT lastval() id",
        "SELECT currval($1)",
        "SELECT currval(name) FROM t",
        "SELECT app.lastval()",
        "SELECT \"lastval\"()",
        "SELECT lastval",
        "SELECT lastval(1), currval()",
        "INSERT INTO t VALUES (1) RETURNING lastval()",
        "INSERT INTO t VALUES (lastval(), 1), (2, currval('s'))",
        "WITH x AS (SELECT lastval()) SELECT * FROM x",
    ] {
        assert_eq!(check(sql), None, "{sql}");
    }
}
