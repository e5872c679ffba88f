//! Messages after the login: their lengths, their order, what is inside of them.

use super::stage::{Bystanders, KINDS, LIMIT, answers, check_alike, check_violation, with_length};
use crate::shards::stage::Stage;
use mothership_tests::endpoint::endpoint_with;
use mothership_tests::frame::show;
use mothership_tests::message::{self, Format, V3_0};
use mothership_tests::{Wire, endpoint, poll_until};

#[test]
fn wrong_lengths_end_the_connection_with_an_error_and_cost_nothing() {
    let server = endpoint();
    let mut bystanders = Bystanders::of(&server);
    let before = server.router.resident_bytes();
    let mut count = 0;
    for kind in KINDS {
        for length in [0, 1, 2, 3, -1, i32::MIN, i32::MAX] {
            let mut wire = Wire::login(&server);
            let said = answers(&mut wire, &with_length(*kind, length, b"\0\0\0\0"), 1);
            // What is no message after a login is not looked at for its length.
            let state = if length == i32::MAX && *kind != b'p' {
                "54000"
            } else {
                "08P01"
            };
            let [error, end] = &said[..] else {
                panic!("{kind} {length}: {said:?}")
            };
            assert!(
                error.starts_with(&format!("FATAL Error {state} ")),
                "{kind} {length}: {error}"
            );
            assert_eq!(end, "closed");
            count += 1;
        }
    }
    println!("{count} lengths");
    let grown = server.router.resident_bytes().saturating_sub(before);
    assert!(
        grown < 64 << 20,
        "{grown} bytes for lengths that were only claimed"
    );
    bystanders.noticed_nothing();
}

#[test]
fn lengths_inside_of_messages_are_postgres_errors_and_leave_the_session_usable() {
    let server = endpoint();
    let mut bystanders = Bystanders::of(&server);
    let bind = |tail: &[u8]| message::message(b'B', &[b"\0\0", tail].concat());
    let parsed = message::parse("", "SELECT $1::text", &[]);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "a value of length -2",
            bind(b"\0\0\0\x01\xff\xff\xff\xfe\0\0"),
        ),
        ("a value of 2 GiB", bind(b"\0\0\0\x01\x7f\xff\xff\xffx\0\0")),
        ("more values than there are", bind(b"\0\0\xff\xffx")),
        ("more formats than there are", bind(b"\xff\xff\0\0")),
        (
            "bytes behind the end",
            bind(b"\0\0\0\x01\0\0\0\x01x\0\0more"),
        ),
        ("no end of a name", message::message(b'B', b"portal")),
        ("an empty Bind", message::message(b'B', b"")),
        (
            "more types than there are",
            message::message(b'P', b"\0SELECT 1\0\xff\xff"),
        ),
        ("an empty Parse", message::message(b'P', b"")),
        (
            "a Parse without a count",
            message::message(b'P', b"\0SELECT 1\0"),
        ),
        ("a Describe of nothing", message::message(b'D', b"")),
        (
            "a Describe of something unknown",
            message::message(b'D', b"Xname\0"),
        ),
        (
            "a Close of something unknown",
            message::message(b'C', b"Xname\0"),
        ),
        ("an Execute without a limit", message::message(b'E', b"\0")),
        (
            "a function call without a body",
            message::message(b'F', b""),
        ),
    ];
    for (what, case) in &cases {
        let bytes = [
            &parsed[..],
            case,
            &message::sync(),
            &message::query("SELECT 'usable'"),
        ]
        .concat();
        check_violation(&server, what, &bytes, if case[0] == b'F' { 3 } else { 2 });
    }
    for (what, case) in [
        (
            "a query without an end",
            message::message(b'Q', b"SELECT 1"),
        ),
        ("an empty query message", message::message(b'Q', b"")),
        (
            "a query with a zero byte",
            message::message(b'Q', b"SELECT 1\0 2\0"),
        ),
    ] {
        check_violation(
            &server,
            what,
            &[case, message::query("SELECT 'usable'")].concat(),
            2,
        );
    }
    println!("{} bodies", cases.len() + 3);
    bystanders.noticed_nothing();
}

#[test]
fn messages_out_of_order_have_postgres_answers() {
    let server = endpoint();
    let mut bystanders = Bystanders::of(&server);
    let select = message::parse("", "SELECT 'x' AS a", &[]);
    let sync = message::sync;
    let cases: Vec<(&str, Vec<Vec<u8>>, usize)> = vec![
        (
            "Bind of nothing",
            vec![
                message::bind("", "none", Format::Text, &[], Format::Text),
                sync(),
            ],
            1,
        ),
        (
            "Execute of nothing",
            vec![message::execute("none", 0), sync()],
            1,
        ),
        (
            "Execute before Bind",
            vec![select.clone(), message::execute("", 0), sync()],
            1,
        ),
        (
            "Describe of nothing",
            vec![
                message::describe_portal("none"),
                sync(),
                message::describe_statement("none"),
                sync(),
            ],
            2,
        ),
        (
            "Close of nothing",
            vec![
                message::close_portal("none"),
                message::close_statement("none"),
                sync(),
            ],
            1,
        ),
        (
            "Sync twice",
            vec![sync(), sync(), message::query("SELECT 1")],
            3,
        ),
        ("Flush alone", vec![message::flush(), sync()], 1),
        (
            "Query within a batch",
            vec![
                select.clone(),
                message::bind_text(&[]),
                message::query("SELECT 2"),
                sync(),
            ],
            2,
        ),
        (
            "Query after an error within a batch",
            vec![
                message::execute("none", 0),
                message::query("SELECT 2"),
                sync(),
                message::query("SELECT 3"),
            ],
            2,
        ),
        (
            "COPY data without COPY",
            vec![
                message::copy_data(b"1\n"),
                message::copy_done(),
                message::copy_fail("no"),
                message::query("SELECT 4"),
            ],
            1,
        ),
        (
            "Sync and Flush during COPY",
            vec![
                message::query("CREATE TEMP TABLE c (a text)"),
                message::query("COPY c FROM STDIN"),
                message::flush(),
                message::sync(),
                message::copy_data(b"1\n"),
                message::copy_done(),
                message::query("SELECT count(*) FROM c"),
            ],
            3,
        ),
        (
            "two statements in one Parse",
            vec![
                message::parse("", "SELECT 1; SELECT 2", &[]),
                sync(),
                message::query("SELECT 6"),
            ],
            2,
        ),
    ];
    for (what, messages, readies) in &cases {
        check_alike(&server, what, &messages.concat(), *readies);
    }
    println!("{} orders", cases.len());
    bystanders.noticed_nothing();
}

#[test]
fn a_request_in_the_middle_of_copied_rows_ends_the_connection_and_copies_nothing() {
    let server = endpoint();
    let mut bystanders = Bystanders::of(&server);
    let stage = Stage::new();
    server.shards.sql(0, "CREATE TABLE items (id int8, v int8)");
    let rows: String = (0..100).map(|id| format!("{id}\t1\n")).collect();
    for endpoint in [server.at_port(server.port), stage.endpoint()] {
        for request in [
            message::query("SELECT 5"),
            message::parse("", "SELECT 5", &[]),
            message::execute("", 0),
            message::message(b'p', b"what\0"),
        ] {
            let bytes = [
                message::query("COPY items (id, v) FROM STDIN"),
                message::copy_data(rows.as_bytes()),
                request.clone(),
                message::query("SELECT 6"),
            ];
            let said = answers(&mut Wire::login(&endpoint), &bytes.concat(), 1);
            let code = request[0];
            let expected = format!(
                "FATAL Error 08P01 unexpected message type 0x{code:02X} during COPY from stdin"
            );
            assert_eq!(said, ["CopyInResponse", &expected, "closed"]);
        }
    }
    // PostgreSQL fails the statement, and ends the connection with the next message.
    let direct = server.shards.endpoint(0);
    let bytes = [
        message::query("COPY items (id, v) FROM STDIN"),
        message::query("SELECT 5"),
    ];
    let said = answers(&mut Wire::login(&direct), &bytes.concat(), 2);
    assert_eq!(said.last().map(String::as_str), Some("closed"), "{said:?}");
    stage.assert_nothing_open();
    assert_eq!(stage.shards.sql_all("SELECT count(*) FROM items"), ["0"; 3]);
    assert_eq!(server.shards.sql(0, "SELECT count(*) FROM items"), "0");
    bystanders.noticed_nothing();
}

#[test]
fn several_commands_in_one_parse_are_refused_whatever_the_first_is() {
    let server = endpoint();
    let mut bystanders = Bystanders::of(&server);
    let stage = Stage::new();
    stage.fill([1]);
    server
        .shards
        .sql(0, "CREATE TABLE items AS SELECT 1::int8 AS id");
    for first in [
        "BEGIN",
        "COMMIT",
        "DEALLOCATE ALL",
        "SELECT 1",
        "SET work_mem = '2MB'",
        "EXPLAIN (ROUTE) SELECT 1",
    ] {
        for endpoint in [server.at_port(server.port), stage.endpoint()] {
            let mut wire = Wire::login(&endpoint);
            wire.send_all(&[
                message::parse("", &format!("{first}; DELETE FROM items"), &[]),
                message::bind_text(&[]),
                message::execute("", 0),
                message::sync(),
            ]);
            let said = wire.until_ready();
            assert_eq!(
                (said.len(), said[0].sqlstate().as_str()),
                (2, "42601"),
                "{first}: {}",
                said[0]
            );
            assert_eq!(said[1].transaction(), 'I', "{first}");
            assert_eq!(wire.rows("SELECT count(*) FROM items"), [["1"]]);
        }
    }
    bystanders.noticed_nothing();
}

#[test]
fn a_half_message_at_the_end_is_never_executed() {
    let server = endpoint();
    let mut bystanders = Bystanders::of(&server);
    Wire::login(&server).rows("CREATE TABLE half (a int)");
    let insert = message::query("INSERT INTO half VALUES (1)");
    let whole = [
        message::parse("", "INSERT INTO half VALUES (2)", &[]),
        message::bind_text(&[]),
        message::execute("", 0),
    ]
    .concat();
    for cut in (1..insert.len()).step_by(3) {
        let mut wire = Wire::login(&server);
        wire.send(&insert[..cut]);
        wire.reset();
    }
    // Without its Sync a batch is executed but not committed.
    for cut in (1..=whole.len()).step_by(7) {
        let mut wire = Wire::login(&server);
        wire.send(&whole[..cut]);
        drop(wire);
    }
    let quiet = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                 AND query LIKE 'INSERT INTO half%' AND state <> 'idle'";
    assert!(poll_until(LIMIT, || server.shards.sql(0, quiet) == "0"));
    assert_eq!(server.shards.sql(0, "SELECT count(*) FROM half"), "0");
    bystanders.noticed_nothing();
}

#[test]
fn a_session_whose_bytes_come_one_by_one_is_understood_from_the_first_on() {
    let server = endpoint();
    let mut bystanders = Bystanders::of(&server);
    let mut wire = Wire::connect(server.port);
    wire.send_slowly(&message::startup(
        V3_0,
        &[("user", &server.user), ("database", &server.database)],
    ));
    assert_eq!(wire.frame().kind, b'R');
    drop(wire);
    let batch = [
        message::parse("s", "SELECT $1::text AS a", &[]),
        message::bind("p", "s", Format::Text, &[Some(b"slow")], Format::Text),
        message::describe_portal("p"),
        message::execute("p", 0),
        message::sync(),
        message::query("SELECT 1/0"),
    ]
    .concat();
    let expected = answers(&mut Wire::login(&server.shards.endpoint(0)), &batch, 2);
    let mut wire = Wire::login(&server);
    wire.send_slowly(&batch);
    assert_eq!(answers(&mut wire, b"", 2), expected);
    bystanders.noticed_nothing();
}

#[test]
fn message_types_that_do_not_exist_end_the_connection_as_postgres_ends_it() {
    let server = endpoint();
    let mut bystanders = Bystanders::of(&server);
    let direct = server.shards.endpoint(0);
    let unknown: Vec<u8> = (0..=255)
        .filter(|kind| !KINDS.contains(kind) && kind % 5 == 2)
        .collect();
    for kind in &unknown {
        let said = answers(
            &mut Wire::login(&server),
            &message::message(*kind, b"anything"),
            1,
        );
        let expected = format!("FATAL Error 08P01 invalid frontend message type {kind}");
        assert_eq!(said, [expected.as_str(), "closed"]);
    }
    for kind in [0, b'G', b'R', b'\x16', b'p', 255] {
        let bytes = message::message(kind, b"anything\0");
        let expected = answers(&mut Wire::login(&direct), &bytes, 1);
        assert_eq!(
            answers(&mut Wire::login(&server), &bytes, 1),
            expected,
            "{kind}"
        );
    }
    // A browser's request claims a length beyond every limit, but it is its type that is wrong.
    let said = answers(&mut Wire::login(&server), b"GET / HTTP/1.1\r\n\r\n", 1);
    assert_eq!(
        said,
        [
            "FATAL Error 08P01 invalid frontend message type 71",
            "closed"
        ]
    );
    println!("{} types", unknown.len());
    bystanders.noticed_nothing();
}

#[test]
fn as_many_parameters_as_the_protocol_can_count_are_passed_on() {
    let server = endpoint();
    let mut bystanders = Bystanders::of(&server);
    let list: Vec<String> = (1..=65_535).map(|n| format!("${n}")).collect();
    let sql = format!(
        "SELECT count(*), min(x), max(x) FROM (VALUES ({}::int)) v (x)",
        list.join("::int), (")
    );
    let numbers: Vec<String> = (1..=65_535).map(|n| n.to_string()).collect();
    let values: Vec<Option<&[u8]>> = numbers.iter().map(|n| Some(n.as_bytes())).collect();
    let mut wire = Wire::login(&server);
    wire.set_limit(2 * LIMIT);
    wire.send_all(&[
        message::parse("", &sql, &[]),
        message::bind("", "", Format::Text, &values, Format::Text),
        message::execute("", 0),
        message::sync(),
    ]);
    let said = show(&wire.until_ready());
    assert!(said.contains("DataRow 65535 1 65535\n"), "{said}");
    bystanders.noticed_nothing();
}

#[test]
fn a_million_statement_names_meet_a_limit_with_a_name() {
    let server = endpoint_with("[limits]\nclient_statements = 1000");
    let mut bystanders = Bystanders::of(&server);
    let mut wire = Wire::login(&server);
    wire.set_limit(2 * LIMIT);
    let before = server.router.resident_bytes();
    let (mut parsed, mut refused, mut names) = (0, 0, 0);
    for batch in 0..100 {
        let mut bytes = Vec::new();
        for number in 0..10_000 {
            bytes.extend(message::parse(
                &format!("s{batch}_{number}"),
                "SELECT 1",
                &[],
            ));
            // Each with a Sync of its own at first, so that the limit is reached by confirmed statements.
            if batch == 0 && number < 1000 {
                bytes.extend(message::sync());
            }
            names += 1;
        }
        bytes.extend(message::sync());
        wire.send(&bytes);
        let readies = if batch == 0 { 1001 } else { 1 };
        for _ in 0..readies {
            for frame in wire.until_ready() {
                match frame.kind {
                    b'1' => parsed += 1,
                    b'E' => {
                        assert_eq!(frame.sqlstate(), "53400", "{frame}");
                        assert!(
                            frame
                                .field('H')
                                .unwrap()
                                .contains("limits.client_statements")
                        );
                        refused += 1;
                    }
                    other => assert_eq!(other, b'Z', "{frame}"),
                }
            }
        }
    }
    println!("{names} names, {parsed} taken, {refused} batches refused");
    assert_eq!((names, parsed, refused), (1_000_000, 1000, 100));
    let grown = server.router.resident_bytes().saturating_sub(before);
    assert!(grown < 128 << 20, "{grown} bytes are kept");
    // Those that are there work, and a closed one makes room.
    wire.send_all(&[
        message::bind("", "s0_7", Format::Text, &[], Format::Text),
        message::execute("", 0),
        message::close_statement("s0_7"),
        message::parse("new", "SELECT 2", &[]),
        message::sync(),
    ]);
    let said = show(&wire.until_ready());
    assert_eq!(
        said,
        "BindComplete\nDataRow 1\nCommandComplete SELECT 1\nCloseComplete\nParseComplete\nReadyForQuery I\n"
    );
    bystanders.noticed_nothing();
}
