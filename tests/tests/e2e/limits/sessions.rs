//! What one session may keep in the router. Over it is an error of one statement.

use super::stage::{Stage, state};
use mothership_tests::message::{self, V3_0};
use mothership_tests::{Frame, Wire};

const SECTIONS: &str = "[listen]\nport = @port@\nworkers = 1\n[limits]\nsavepoints = 3\n\
    session_settings = 4\nsession_settings_size = \"1KiB\"\nstatement = \"2KiB\"\n\
    client_portals = 2\nclient_statements = 3\n";

/// Asks all of `sql`; the last answer has this SQLSTATE (empty: none), the others none.
fn check(wire: &mut Wire, sql: &[&str], expected: &str) {
    let (last, before) = sql.split_last().unwrap();
    for sql in before {
        assert_eq!(state(wire, &message::query(sql)), "", "{sql}");
    }
    assert_eq!(state(wire, &message::query(last)), expected, "{last}");
}

#[test]
fn a_session_keeps_no_more_than_its_limits_and_goes_on() {
    let stage = Stage::with(SECTIONS);
    let bystander = stage.bystander();
    let set = |n: u32| format!("SET a.p{n} = 'x'");
    let long = format!("SET a.long = '{}'", "x".repeat(1024));
    let local = |n: u32| format!("SET LOCAL a.p{n} = 'x'");
    let text = format!("SELECT '{}'", "x".repeat(2048));
    let cases: [(&[&str], &str); 9] = [
        // The fourth savepoint, whether a server knows of the transaction or not.
        (
            &[
                "BEGIN",
                "SAVEPOINT a",
                "SAVEPOINT a",
                "SAVEPOINT a",
                "SAVEPOINT a",
            ],
            "53400",
        ),
        (
            &[
                "BEGIN",
                "SELECT 1",
                "SAVEPOINT a",
                "SAVEPOINT b",
                "SAVEPOINT c",
                "SAVEPOINT d",
            ],
            "53400",
        ),
        (
            &[
                "BEGIN",
                "SAVEPOINT a",
                "RELEASE a",
                "SAVEPOINT a",
                "SAVEPOINT b",
                "SAVEPOINT c",
            ],
            "",
        ),
        (
            &["BEGIN; SAVEPOINT a; SAVEPOINT b; SAVEPOINT c; SAVEPOINT d"],
            "53400",
        ),
        (
            &[&set(1), &set(2), &set(3), &set(4), &set(4), &set(5)],
            "53400",
        ),
        (&[&long], "53400"),
        (
            &["BEGIN", &local(1), &local(2), &local(3), &local(4)],
            "53400",
        ),
        (&[&text], "54000"),
        (
            &[
                "BEGIN",
                "DECLARE a CURSOR FOR SELECT 1",
                "DECLARE b CURSOR FOR SELECT 1",
                "DECLARE c CURSOR FOR SELECT 1",
            ],
            "53400",
        ),
    ];
    for (sql, expected) in cases {
        let mut wire = stage.wire();
        check(&mut wire, sql, expected);
        check(&mut wire, &["ROLLBACK", "SELECT 1"], "");
    }
    bystander.noticed_nothing();
}

#[test]
fn statements_prepared_by_sql_count_like_those_of_the_protocol() {
    let stage = Stage::with(SECTIONS);
    let mut wire = stage.wire();
    let prepare = |name: &str| message::query(&format!("PREPARE {name} AS SELECT 1"));
    let parse = |name| [message::parse(name, "SELECT 1", &[]), message::sync()].concat();
    assert_eq!(state(&mut wire, &prepare("a")), "");
    assert_eq!(state(&mut wire, &parse("b")), "");
    assert_eq!(state(&mut wire, &prepare("c")), "");
    assert_eq!(state(&mut wire, &prepare("d")), "53400");
    assert_eq!(state(&mut wire, &parse("d")), "53400");
    assert_eq!(state(&mut wire, &message::query("DEALLOCATE a")), "");
    assert_eq!(state(&mut wire, &parse("d")), "");
}

#[test]
fn settings_of_the_startup_packet_count_too() {
    let stage = Stage::with(SECTIONS);
    let names: Vec<_> = (0..5).map(|n| format!("a.p{n}")).collect();
    let more: Vec<_> = names.iter().map(|name| (name.as_str(), "x")).collect();
    let mut wire = Wire::connect(stage.router.port());
    let error = wire.try_login(&stage.endpoint(), V3_0, &more).unwrap_err();
    assert_eq!(error.sqlstate(), "53400");
    Wire::login_with(&stage.endpoint(), &more[..4]);
}

// R8
#[test]
fn a_bomb_of_prepared_statements_hits_the_one_who_throws_it() {
    let stage = Stage::with(
        "[listen]\nport = @port@\nworkers = 1\n[limits]\nshared_statements = 300\n\
         client_statements = 100000\n[pool]\nprepared_statements = 50",
    );
    let bystander = stage.bystander();
    let mut modest = stage.wire();
    let mut bomb = stage.wire();
    let mut refused = None;
    for batch in 0..20 {
        let mut messages: Vec<_> = (0..50)
            .map(|n| {
                message::parse(
                    &format!("s{batch}_{n}"),
                    &format!("SELECT {batch}, {n}"),
                    &[],
                )
            })
            .collect();
        messages.push(message::sync());
        bomb.send_all(&messages);
        let frames = bomb.until_ready();
        refused = refused.or(frames.into_iter().find(|frame| frame.kind == b'E'));
    }
    let refused = refused.expect("1000 statements were taken");
    assert_eq!(refused.sqlstate(), "53400");
    assert!(
        refused
            .field('H')
            .unwrap()
            .contains("limits.shared_statements"),
        "{refused}"
    );
    // Who has few statements is not held up by who has many.
    for n in 0..20 {
        let parse = message::parse(&format!("m{n}"), &format!("SELECT {n} AS modest"), &[]);
        modest.send_all(&[parse, message::sync()]);
        let frames = modest.until_ready();
        let error = frames
            .iter()
            .find(|frame| frame.kind == b'E')
            .map(Frame::to_string);
        assert_eq!(error, None);
    }
    drop(bomb);
    bystander.noticed_nothing();
}
