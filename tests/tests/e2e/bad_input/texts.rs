//! Texts of statements, and what is prepared of them.

use super::stage::{Bystanders, LIMIT, answers, check_alike, with_length};
use crate::shards::stage::Stage;
use mothership_tests::endpoint::endpoint_listening;
use mothership_tests::frame::{Frame, show};
use mothership_tests::message::{self, Format};
use mothership_tests::{Endpoint, Wire, endpoint};

#[test]
fn a_statement_prepared_by_one_role_shows_another_its_own_rows_only() {
    let server = endpoint_listening("workers = 1", "[pool]\nmax = 1");
    let mut mother = Wire::login(&server);
    for sql in [
        "DROP ROLE IF EXISTS reader_a",
        "DROP ROLE IF EXISTS reader_b",
        "CREATE ROLE reader_a",
        "CREATE ROLE reader_b",
        "CREATE TABLE private (owner name, note text)",
        "INSERT INTO private VALUES ('reader_a', 'of a'), ('reader_b', 'of b')",
        "ALTER TABLE private ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY own ON private USING (owner = current_user)",
        "GRANT SELECT ON private TO reader_a, reader_b",
    ] {
        mother.rows(sql);
    }
    let (mut a, mut b) = (Wire::login(&server), Wire::login(&server));
    a.rows("SET ROLE reader_a");
    b.rows("SET ROLE reader_b");
    // One server connection, one text: both clients and a superuser use the same prepared statement in turn.
    for wire in [&mut a, &mut b, &mut mother] {
        wire.send_all(&[
            message::parse("rows", "SELECT note FROM private ORDER BY note", &[]),
            message::sync(),
        ]);
        assert_eq!(
            show(&wire.until_ready()),
            "ParseComplete\nReadyForQuery I\n"
        );
    }
    for _ in 0..4 {
        for (wire, expected) in [
            (&mut a, "DataRow of a\nCommandComplete SELECT 1\n"),
            (&mut b, "DataRow of b\nCommandComplete SELECT 1\n"),
            (
                &mut mother,
                "DataRow of a\nDataRow of b\nCommandComplete SELECT 2\n",
            ),
        ] {
            wire.send_all(&[
                message::bind("", "rows", Format::Text, &[], Format::Text),
                message::execute("", 0),
                message::sync(),
            ]);
            let said = show(&wire.until_ready());
            assert_eq!(said, format!("BindComplete\n{expected}ReadyForQuery I\n"));
        }
    }
    drop((a, b));
    for sql in [
        "DROP TABLE private",
        "DROP ROLE reader_a",
        "DROP ROLE reader_b",
    ] {
        mother.rows(sql);
    }
}

#[test]
fn what_is_no_sql_is_refused_by_postgres_in_its_own_words() {
    let server = endpoint();
    let mut bystanders = Bystanders::of(&server);
    let cases = [
        "SELEC 1",
        "SELECT 'unterminated",
        "SELECT $$ unterminated",
        "SELECT \"",
        "/* unterminated",
        "SELECT 1 +",
        ")",
        "SELECT (((1))",
        "SELECT 0x",
        "SELECT 1; SELEC 2; SELECT 3",
        "\u{1}",
        "SELECT 1a",
        "SELECT E'\\x'",
        "SELECT U&'\\00'",
        "COMMIT AND",
        "BEGIN;SELEC",
        "SET",
        "DEALLOCATE",
        "FETCH",
        "LISTEN",
        "SAVEPOINT",
        "ROLLBACK TO",
        "COPY nothing FROM",
        "EXPLAIN SELEC",
    ];
    for sql in cases {
        let all_fields = |endpoint: &Endpoint| -> Vec<String> {
            let mut wire = Wire::login(endpoint);
            let simple = wire.query(sql);
            wire.query("ROLLBACK");
            wire.send_all(&[message::parse("", sql, &[]), message::sync()]);
            let extended = wire.until_ready();
            assert_eq!(wire.rows("SELECT 'usable'"), [["usable"]], "{sql}");
            let shown = |frame: &Frame| match frame.kind {
                b'E' => format!(
                    "{:?}",
                    ['S', 'V', 'C', 'M', 'D', 'H', 'P'].map(|c| frame.field(c))
                ),
                _ => frame.to_string(),
            };
            simple.iter().chain(&extended).map(shown).collect()
        };
        let direct = all_fields(&server.shards.endpoint(0));
        assert_eq!(all_fields(&server), direct, "{sql}");
    }
    println!("{} texts", cases.len());
    bystanders.noticed_nothing();
}

#[test]
fn an_error_names_its_place_in_the_text_that_the_client_wrote() {
    let server = endpoint();
    let direct = server.shards.endpoint(0);
    // PREPARE and EXECUTE go to servers with another name in place of the client's.
    let said = |endpoint: &Endpoint, messages: &[Vec<u8>]| {
        let mut wire = Wire::login(endpoint);
        wire.rows("PREPARE known (int) AS SELECT $1");
        wire.rows(
            "PREPARE \"ä name that is longer than any of the router's own\" (int) AS SELECT $1",
        );
        wire.send_all(messages);
        let frames = wire.until_ready();
        let error = frames.iter().find(|frame| frame.kind == b'E').unwrap();
        (error.sqlstate(), error.field('M'), error.field('P'))
    };
    for sql in [
        "PREPARE p AS SELEC 1",
        "PREPARE p AS SELECT nothing",
        "PREPARE \"ü\" AS SELECT 'ä', nothing",
        "/* ä */ PREPARE a_name_that_is_longer_than_that_of_the_router AS SELECT nothing",
        "PREPARE p (no_such_type) AS SELECT 1",
        "EXECUTE known ('x'::text)",
        "EXECUTE known (nothing)",
        "EXECUTE \"ä name that is longer than any of the router's own\" (nothing)",
        "SELECT nothing",
    ] {
        let expected = said(&direct, &[message::query(sql)]);
        assert_eq!(said(&server, &[message::query(sql)]), expected, "{sql}");
    }
    for sql in ["PREPARE p AS SELEC 1", "PREPARE p AS", "SELECT nothing"] {
        let messages = [message::parse("", sql, &[]), message::sync()];
        assert_eq!(said(&server, &messages), said(&direct, &messages), "{sql}");
    }
    let good = [
        message::parse("", "PREPARE p AS SELECT 1", &[]),
        message::sync(),
    ];
    assert_eq!(said(&server, &good).0, "0A000");
}

#[test]
fn bytes_that_are_no_utf8_are_refused_by_postgres_in_its_own_words() {
    let server = endpoint();
    let mut bystanders = Bystanders::of(&server);
    let texts: [&[u8]; 5] = [
        b"SELECT '\xff'",
        b"SELECT 1 AS \xc3\x28",
        b"\xfe\xff",
        b"SELECT 1 -- \xc0\x80",
        b"SELECT '\xed\xa0\x80'",
    ];
    for text in texts {
        let text = [text, b"\0"].concat();
        let simple = [
            message::message(b'Q', &text),
            message::query("SELECT 'usable'"),
        ]
        .concat();
        check_alike(&server, &text.escape_ascii().to_string(), &simple, 2);
        let parse = message::message(b'P', &[b"\0", &text[..], b"\0\0"].concat());
        let extended = [parse, message::sync(), message::query("SELECT 'usable'")].concat();
        check_alike(&server, &text.escape_ascii().to_string(), &extended, 2);
    }
    let bind = message::bind("", "", Format::Text, &[Some(b"\xff\xfe")], Format::Text);
    let bound = [
        message::parse("", "SELECT $1::text", &[]),
        bind,
        message::sync(),
        message::query("SELECT 'usable'"),
    ]
    .concat();
    check_alike(&server, "a value", &bound, 2);
    let name = message::message(b'P', b"\xff\xfe\0SELECT 7\0\0\0");
    let execute = [
        &name[..],
        &message::message(b'B', b"\0\xff\xfe\0\0\0\0\0\0\0"),
        &message::execute("", 0),
        &message::sync(),
    ]
    .concat();
    // Names are ours alone, in whatever encoding: no server hears them.
    let mut wire = Wire::login(&server);
    let said = answers(&mut wire, &execute, 1);
    assert_eq!(said[2], "DataRow 7", "{said:?}");
    bystanders.noticed_nothing();
}

#[test]
fn deep_nesting_is_postgres_to_refuse_or_the_planners() {
    let server = endpoint();
    let mut bystanders = Bystanders::of(&server);
    let nested = |open: &str, close: &str, depth: usize| {
        format!("SELECT {}1{}", open.repeat(depth), close.repeat(depth))
    };
    let cases = [
        nested("(", ")", 100_000),
        nested("(SELECT ", ")", 20_000),
        nested("-", "", 100_000),
        nested("NOT (1 = ", ")", 20_000),
        nested("ARRAY[", "]", 20_000),
        format!("SELECT 1{}", " + 1".repeat(100_000)),
    ];
    for sql in &cases {
        check_alike(
            &server,
            &sql[..30],
            &[message::query(sql), message::query("SELECT 'usable'")].concat(),
            2,
        );
    }
    bystanders.noticed_nothing();
    let stage = Stage::new();
    let mut bystanders = Bystanders::of(&stage.endpoint());
    for sql in &cases {
        let mut wire = stage.wire();
        let said = answers(
            &mut wire,
            &message::query(&sql.replacen("SELECT", "SELECT id FROM items WHERE id =", 1)),
            1,
        );
        // `--` begins a comment, so that nothing is left: PostgreSQL says so itself.
        let codes = ["ERROR Error 54", "ERROR Error 0A000", "ERROR Error 42601"];
        let refused = codes.iter().any(|code| said[0].starts_with(code));
        assert!(refused, "{}: {said:?}", &sql[..30]);
        assert_eq!(wire.rows("SELECT 'usable'"), [["usable"]]);
    }
    bystanders.noticed_nothing();
}

#[test]
#[ignore = "long"]
fn statements_of_a_hundred_megabytes_pass_or_meet_a_limit_with_a_name() {
    let server = endpoint();
    let mut bystanders = Bystanders::of(&server);
    let large = format!("SELECT length('{}')", "x".repeat(100_000_000));
    let mut wire = Wire::login(&server);
    wire.set_limit(4 * LIMIT);
    assert_eq!(wire.rows(&large), [["100000000"]]);
    bystanders.noticed_nothing();
    let stage = Stage::new();
    let mut bystanders = Bystanders::of(&stage.endpoint());
    let mut wire = stage.wire();
    wire.set_limit(4 * LIMIT);
    let sql = format!(
        "INSERT INTO items (id, note) VALUES (1, '{}')",
        "x".repeat(100_000_000)
    );
    let said = wire.query(&sql);
    assert_eq!(said[0].sqlstate(), "54000", "{}", said[0]);
    assert!(
        said[0]
            .field('H')
            .unwrap()
            .contains("limits.parsed_statement"),
        "{}",
        said[0]
    );
    assert_eq!(wire.rows("SELECT count(*) FROM items"), [["0"]]);
    // Beyond what one message may have, nothing is read any more.
    let mut wire = stage.wire();
    let said = answers(&mut wire, &with_length(b'Q', 300 << 20, b"SELECT"), 1);
    let refused = "FATAL Error 54000 message of 314572801 bytes";
    assert!(said[0].starts_with(refused), "{said:?}");
    let mut wire = stage.wire();
    let copy = message::query("COPY items (id) FROM STDIN");
    let data = with_length(b'd', 300 << 20, b"1\n");
    let said = answers(&mut wire, &[copy, data].concat(), 1);
    assert!(said[1].starts_with(refused), "{said:?}");
    assert_eq!(said[2], "closed");
    bystanders.noticed_nothing();
}
