//! The wire protocol by hand: what PostgreSQL answers, message by message.

use expect_test::{Expect, expect};
use mothership_tests::frame::show;
use mothership_tests::message::{self, Format, V3_0, V3_2};
use mothership_tests::{Endpoint, Wire, endpoint};
use std::time::Duration;

/// Sends all at once and compares everything up to the last ReadyForQuery.
fn check(wire: &mut Wire, messages: &[Vec<u8>], expected: Expect) {
    wire.send_all(messages);
    let syncs = messages.iter().filter(|m| matches!(m[0], b'Q' | b'S'));
    let answers = (0..syncs.count()).map(|_| show(&wire.until_ready()));
    expected.assert_eq(&answers.collect::<String>());
}

#[test]
fn several_statements_in_one_query_end_at_the_first_error() {
    let server = endpoint();
    let mut wire = Wire::login(&server);
    check(
        &mut wire,
        &[message::query("SELECT 1 AS a; SELECT 1/0; SELECT 2")],
        expect![[r#"
            RowDescription a
            DataRow 1
            CommandComplete SELECT 1
            Error 22012 division by zero
            ReadyForQuery I
        "#]],
    );
    check(
        &mut wire,
        &[message::query("")],
        expect![[r#"
            EmptyQueryResponse
            ReadyForQuery I
        "#]],
    );
}

#[test]
fn the_extended_protocol_answers_step_by_step() {
    let server = endpoint();
    let mut wire = Wire::login(&server);
    let value = 41_i32.to_be_bytes();
    check(
        &mut wire,
        &[
            message::parse("s", "SELECT $1::int + 1 AS b", &[]),
            message::describe_statement("s"),
            message::bind("p", "s", Format::Binary, &[Some(&value)], Format::Text),
            message::describe_portal("p"),
            message::execute("p", 0),
            message::close_statement("s"),
            message::sync(),
        ],
        expect![[r#"
            ParseComplete
            ParameterDescription 1
            RowDescription b
            BindComplete
            RowDescription b
            DataRow 42
            CommandComplete SELECT 1
            CloseComplete
            ReadyForQuery I
        "#]],
    );
}

#[test]
fn after_an_error_a_pipeline_is_skipped_up_to_its_sync() {
    let server = endpoint();
    let mut wire = Wire::login(&server);
    let statement = |sql| {
        [
            message::parse("", sql, &[]),
            message::bind_text(&[]),
            message::execute("", 0),
        ]
        .concat()
    };
    check(
        &mut wire,
        &[
            statement("SELECT 1"),
            statement("SELECT 1/0"),
            statement("SELECT 2"),
            message::sync(),
            statement("SELECT 3"),
            message::sync(),
        ],
        expect![[r#"
            ParseComplete
            BindComplete
            DataRow 1
            CommandComplete SELECT 1
            ParseComplete
            Error 22012 division by zero
            ReadyForQuery I
            ParseComplete
            BindComplete
            DataRow 3
            CommandComplete SELECT 1
            ReadyForQuery I
        "#]],
    );
}

#[test]
fn a_portal_gives_as_many_rows_as_it_is_asked_for() {
    let server = endpoint();
    let mut wire = Wire::login(&server);
    check(
        &mut wire,
        &[
            message::parse("", "SELECT generate_series(1, 3)", &[]),
            message::bind_text(&[]),
            message::execute("", 2),
            message::execute("", 2),
            message::sync(),
        ],
        expect![[r#"
            ParseComplete
            BindComplete
            DataRow 1
            DataRow 2
            PortalSuspended
            DataRow 3
            CommandComplete SELECT 1
            ReadyForQuery I
        "#]],
    );
}

#[test]
fn copy_goes_both_ways_and_fails_as_asked() {
    let server = endpoint();
    let mut wire = Wire::login(&server);
    wire.rows("CREATE TABLE t(a int)");
    wire.send(&message::query("COPY t FROM STDIN"));
    assert_eq!(wire.frame().to_string(), "CopyInResponse");
    wire.send_all(&[message::copy_data(b"1\n2\n"), message::copy_done()]);
    expect![[r#"
        CommandComplete COPY 2
        ReadyForQuery I
    "#]]
    .assert_eq(&show(&wire.until_ready()));
    let out = show(&wire.query("COPY t TO STDOUT"));
    expect![[r#"
        CopyOutResponse
        CopyData 1
        CopyData 2
        CopyDone
        CommandComplete COPY 2
        ReadyForQuery I
    "#]]
    .assert_eq(&out);
    wire.send(&message::query("COPY t FROM STDIN"));
    assert_eq!(wire.frame().to_string(), "CopyInResponse");
    wire.send_all(&[message::copy_data(b"3\n"), message::copy_fail("enough")]);
    expect![[r#"
        Error 57014 COPY from stdin failed: enough
        ReadyForQuery I
    "#]]
    .assert_eq(&show(&wire.until_ready()));
}

#[test]
fn a_cancel_reaches_the_query_that_runs() {
    let server = endpoint();
    let mut wire = Wire::login(&server);
    let mut watcher = Wire::login(&server);
    wire.send(&message::query("SELECT pg_sleep(60)"));
    let running = "SELECT FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' \
                   AND wait_event = 'PgSleep' AND datname = current_database()";
    let soon = Duration::from_secs(20);
    assert!(mothership_tests::poll_until(soon, || !watcher
        .rows(running)
        .is_empty()));
    wire.cancel();
    let answer = wire.until_ready();
    assert!(
        answer
            .iter()
            .any(|f| f.kind == b'E' && f.sqlstate() == "57014")
    );
    assert_eq!(wire.rows("SELECT 1"), [["1"]]);
}

#[test]
fn a_wrong_password_and_an_unknown_user_are_refused_alike() {
    let server = endpoint();
    let mut answers = Vec::new();
    for (user, password) in [("mother", "guess"), ("nobody_here", "guess")] {
        let mut other = server.clone();
        (other.user, other.password) = (user.into(), password.into());
        let error = Wire::connect(server.port).try_login(&other, V3_0, &[]);
        answers.push(error.unwrap_err().sqlstate());
    }
    assert_eq!(answers, ["28P01", "28P01"]);
}

#[test]
fn a_newer_minor_version_is_negotiated_or_spoken() {
    let server = endpoint();
    let mut wire = Wire::connect(server.port);
    wire.try_login(&server, V3_2, &[]).unwrap();
    assert_eq!(wire.rows("SELECT 1"), [["1"]]);
}

#[test]
fn bytes_that_come_one_by_one_are_understood() {
    let server = endpoint();
    let mut wire = Wire::login(&server);
    wire.send_slowly(&message::query("SELECT 'slow' AS a"));
    expect![[r#"
        RowDescription a
        DataRow slow
        CommandComplete SELECT 1
        ReadyForQuery I
    "#]]
    .assert_eq(&show(&wire.until_ready()));
}

#[test]
fn a_wrong_length_closes_the_connection() {
    let server = endpoint();
    let mut wire = Wire::login(&server);
    // PostgreSQL closes without a word, because its client may be in the middle of anything. Ours is between requests.
    wire.send(&[b'Q', 0, 0, 0, 3]);
    assert_eq!(
        show(&[wire.frame()]),
        "Error 08P01 invalid message length\n"
    );
    assert!(wire.is_closed_within(Duration::from_secs(20)));
}

/// The parameters that a new client is told, in the order of their names, and how it is called then.
fn told(server: &Endpoint, more: &[(&str, &str)]) -> (Vec<String>, Vec<Vec<String>>) {
    let mut wire = Wire::connect(server.port);
    let frames = wire.try_login(server, V3_0, more).unwrap();
    let told = frames.iter().filter(|frame| frame.kind == b'S');
    let mut told: Vec<String> = told
        .map(|frame| String::from_utf8_lossy(&frame.body).replace('\0', " "))
        .collect();
    told.sort();
    (told, wire.rows("SHOW application_name"))
}

#[test]
fn clients_of_several_programs_are_each_told_their_own_parameters() {
    let server = endpoint();
    let direct = server.shards.endpoint(0);
    const NAME: &str = "application_name";
    let programs: [&[(&str, &str)]; 7] = [
        &[(NAME, "one")],
        &[(NAME, "two")],
        &[],
        &[(NAME, "two"), ("DateStyle", "German")],
        &[(NAME, "one"), ("DateStyle", "German")],
        &[("DateStyle", "German")],
        &[("DateStyle", "German"), (NAME, "two")],
    ];
    // The second one of a program is told what the first was; the next program comes between two of another.
    for round in 0..3 {
        for more in programs.into_iter().flat_map(|more| [more, more]) {
            assert_eq!(told(&server, more), told(&direct, more), "{round} {more:?}");
        }
    }
}
