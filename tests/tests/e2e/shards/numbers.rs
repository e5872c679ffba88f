//! What `currval` and `lastval` say: never a number of somebody else, nor an old one.

use super::stage::{Stage, extended, lines, say, send};
use mothership_tests::Wire;

const ASKS: [&str; 2] = ["SELECT lastval()", "SELECT currval('notes_no_seq')"];

/// On one core, so that clients share connections; `notes` is a table of the home shard.
fn stage() -> Stage {
    let stage = Stage::on_one_core();
    let mut wire = stage.wire();
    let said = say(&mut wire, "ALTER TABLE notes ADD COLUMN no serial");
    assert_eq!(said[0], "CommandComplete ALTER TABLE");
    stage
}

/// The values of the first row, or the error.
fn told(wire: &mut Wire, sql: &str) -> String {
    let frames = wire.query(sql);
    let error = frames.iter().find(|frame| frame.kind == b'E');
    let row = frames.iter().find(|frame| frame.kind == b'D');
    match (error, row) {
        (None, Some(row)) => row.row_text().join(","),
        (Some(error), _) => error.to_string(),
        (None, None) => lines(&frames)[0].clone(),
    }
}

fn add(wire: &mut Wire, id: u32) -> Vec<String> {
    say(wire, &format!("INSERT INTO notes (id) VALUES ({id})"))
}

#[test]
fn nobody_is_told_a_number_that_another_client_has_taken() {
    let stage = stage();
    let (mut one, mut other) = (stage.wire(), stage.wire());
    assert_eq!(add(&mut one, 1)[0], "CommandComplete INSERT 0 1");
    // Who has taken none hears so, on the very connection that has just given one.
    for sql in ASKS {
        let said = told(&mut other, sql);
        assert!(said.starts_with("Error 55000"), "{sql}: {said}");
    }
    // And also who keeps that connection for another reason.
    say(&mut other, "CREATE TEMP TABLE mine (i int)");
    for sql in ASKS {
        let said = told(&mut other, sql);
        assert!(said.starts_with("Error 55000"), "{sql}: {said}");
    }
}

#[test]
fn what_a_server_may_mix_up_is_refused_and_what_it_gives_from_then_on_is_told() {
    let stage = stage();
    let (mut one, mut other) = (stage.wire(), stage.wire());
    for (id, wire) in [(1, &mut one), (2, &mut other)] {
        assert_eq!(add(wire, id)[0], "CommandComplete INSERT 0 1");
    }
    for sql in ASKS {
        for wire in [&mut one, &mut other] {
            let said = told(wire, sql);
            assert!(said.starts_with("Error 0A000"), "{sql}: {said:?}");
        }
    }
    // The servers of those who come later forget what they gave to others.
    let mut third = stage.wire();
    for (id, wire) in [(3, &mut one), (4, &mut other), (5, &mut third)] {
        say(wire, "BEGIN");
        assert_eq!(add(wire, id)[0], "CommandComplete INSERT 0 1");
        for sql in ASKS {
            // The table's numbers are given in the order of its ids.
            assert_eq!(told(wire, sql), id.to_string(), "{sql}");
        }
        say(wire, "COMMIT");
    }
    // Each keeps its own.
    for (id, wire) in [(3, &mut one), (4, &mut other), (5, &mut third)] {
        for sql in ASKS {
            assert_eq!(told(wire, sql), id.to_string(), "{sql}");
        }
    }
}

#[test]
fn a_number_that_may_be_older_than_the_server_knows_is_refused() {
    let stage = stage();
    let mut one = stage.wire();
    say(&mut one, "CREATE SEQUENCE apart");
    say(&mut one, "SELECT nextval('apart')");
    let mut other = stage.wire();
    say(&mut other, "SELECT nextval('apart')");
    // From here on what a server remembers is its client's.
    assert!(told(&mut one, "SELECT lastval()").starts_with("Error 0A000"));
    add(&mut one, 1);
    assert_eq!(told(&mut one, "SELECT currval('notes_no_seq')"), "1");
    // PostgreSQL would say 1; the server that gave it has forgotten it.
    let said = told(&mut one, "SELECT currval('apart')");
    assert!(said.starts_with("Error 0A000"), "{said:?}");
}

#[test]
fn code_out_of_sight_that_takes_numbers_makes_them_unclear() {
    let stage = stage();
    let mut wire = stage.wire();
    say(
        &mut wire,
        "CREATE VIEW counted AS SELECT nextval('notes_no_seq') AS no",
    );
    let (mut one, mut other) = (stage.wire(), stage.wire());
    add(&mut one, 1);
    say(&mut other, "SELECT no FROM counted");
    let said = told(&mut one, "SELECT lastval()");
    assert!(said.starts_with("Error 0A000"), "{said:?}");
}

#[test]
fn numbers_that_the_router_takes_are_written_into_what_asks_for_them() {
    let stage = Stage::bare("[tables]\ndefault = \"auto\"\n");
    let mut wire = stage.wire();
    for sql in [
        "CREATE TABLE parents (id bigserial PRIMARY KEY, v text)",
        "CREATE TABLE children (id serial PRIMARY KEY, parent int8)",
    ] {
        assert_eq!(say(&mut wire, sql)[0], "CommandComplete CREATE TABLE");
    }
    let parent = "INSERT INTO parents (v) VALUES ('a'), ('b')";
    let asks = "SELECT currval('parents_id_seq') AS p, lastval() AS c";
    for expected in [2, 4, 6] {
        assert_eq!(say(&mut wire, parent)[0], "CommandComplete INSERT 0 2");
        assert_eq!(told(&mut wire, asks), format!("{expected},{expected}"));
        let child = format!("INSERT INTO children (parent) VALUES ({expected})");
        assert_eq!(say(&mut wire, &child)[0], "CommandComplete INSERT 0 1");
        assert_eq!(
            told(&mut wire, asks),
            format!("{expected},{}", expected / 2)
        );
    }
    // It takes numbers between its own rows.
    let child = "INSERT INTO children (parent) VALUES (lastval()), (lastval())";
    assert!(say(&mut wire, child)[0].starts_with("Error 0A000"));
    // A statement that fails may have used some of them.
    let fails = "INSERT INTO parents (v, id) VALUES ('x', DEFAULT), ('y', 1)";
    assert!(say(&mut wire, fails)[0].starts_with("Error 23505"));
    let said = told(&mut wire, "SELECT lastval()");
    assert!(said.starts_with("Error 0A000"), "{said:?}");
    assert_eq!(say(&mut wire, parent)[0], "CommandComplete INSERT 0 2");
    let expected = told(&mut wire, "SELECT max(id) FROM parents");
    let said = send(&mut wire, &extended("SELECT lastval()", &[], &[]));
    assert!(said[2].contains(&expected), "{said:?}, not {expected}");
}
