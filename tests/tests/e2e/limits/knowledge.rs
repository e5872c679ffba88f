//! What the log says of clients, and how much of a catalog is known.

use super::stage::{LIMIT, Stage, state};
use mothership_tests::message::{self, V3_0};
use mothership_tests::{Wire, poll_until};

#[test]
fn the_log_shows_statements_without_their_values_and_who_came_and_went() {
    let stage = Stage::with(
        "[listen]\nport = @port@\n[logging]\nstatements = \"shape\"\nconnections = true",
    );
    let mut wire = stage.wire();
    wire.query("SELECT 'topsecret', 8675309");
    wire.query("SET a.token = topsecret");
    wire.send_all(&[
        message::parse("", "SELECT $1::text, 'topsecret' AS extended", &[]),
        message::bind_text(&["topsecret"]),
        message::execute("", 0),
        message::sync(),
    ]);
    assert_eq!(wire.until_ready().last().unwrap().kind, b'Z');
    wire.query("SELECT 'topsecret");
    drop(wire);
    assert!(poll_until(LIMIT, || stage
        .router
        .log()
        .contains("client left")));
    let log = stage.router.log();
    for expected in [
        "client logged in",
        "statement=SELECT ? , ?\n",
        "statement=SET a . token = ?\n",
        "statement=SELECT $1 :: text , ? AS extended\n",
        "statement=SELECT ?\n",
    ] {
        assert!(log.contains(expected), "{expected:?} is not in the log");
    }
    assert!(
        !log.contains("topsecret") && !log.contains("8675309"),
        "a value is in the log"
    );
}

#[test]
fn a_log_that_is_not_wanted_is_not_written() {
    let stage = Stage::with(
        "[listen]\nport = @port@\n[logging]\nstatements = \"off\"\nconnections = false",
    );
    let mut wire = stage.wire();
    assert_eq!(wire.rows("SELECT 1"), [["1"]]);
    drop(wire);
    let mut wire = Wire::connect(stage.router.port());
    let wrong = mothership_tests::Endpoint {
        password: "wrong".into(),
        ..stage.endpoint()
    };
    assert!(wire.try_login(&wrong, V3_0, &[]).is_err());
    assert!(poll_until(LIMIT, || stage
        .router
        .log()
        .contains("login failed")));
    let log = stage.router.log();
    assert!(!log.contains("client logged in") && !log.contains("client left"));
    assert!(!log.contains("SELECT"));
}

#[test]
fn a_database_with_too_many_relations_is_not_planned() {
    let stage = Stage::with(
        "[listen]\nport = @port@\n[catalog]\nrelations = 2\n[[table]]\nname = \"t1\"\nkey = \"a\"\nkey_type = \"int4\"",
    );
    for n in 1..=3 {
        stage.shards.sql(0, &format!("CREATE TABLE t{n} (a int)"));
    }
    let mut wire = stage.wire();
    wire.send(&message::query("SELECT * FROM t1"));
    let frames = wire.until_ready();
    let error = frames.iter().find(|frame| frame.kind == b'E').unwrap();
    assert_eq!(error.sqlstate(), "57P03");
    assert!(
        error.field('D').unwrap().contains("catalog.relations"),
        "{error}"
    );
    stage.shards.sql(0, "DROP TABLE t2, t3");
    assert_eq!(state(&mut wire, &message::query("SELECT * FROM t1")), "");
}
