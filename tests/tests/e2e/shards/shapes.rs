//! Texts of one shape share a plan; each must still go where its own values say.

use super::stage::{Stage, extended, one_each, owner, say, send};

#[test]
fn each_text_of_a_shape_reaches_the_row_of_its_own_literal() {
    let stage = Stage::new();
    stage.fill(1..=40);
    let mut wire = stage.wire();
    for id in (1..=40_i64).chain((1..=40).rev()) {
        let row = [format!("n{id}")];
        for sql in [
            format!("SELECT note FROM items WHERE id = {id}"),
            format!("select  note from items where id={id};"),
            format!("SELECT note FROM items WHERE id = '{id}'"),
            format!("SELECT note FROM items WHERE id = '0{id}'::int8"),
            format!("SELECT note FROM items WHERE id IN ({id}, {id})"),
            format!("SELECT note FROM items WHERE -id = {} AND id = {id}", -id),
            format!("SELECT note FROM items WHERE id = 1 + {}", id - 1),
            format!(
                "SELECT note FROM items WHERE id = {id} AND note = 'n{id}' LIMIT {}",
                id + 1
            ),
        ] {
            assert_eq!(wire.rows(&sql), [row.as_slice()], "{sql}");
        }
        let sql = format!("SELECT note FROM items WHERE id = {id} LIMIT 0");
        assert!(wire.rows(&sql).is_empty());
        // The literal of a Parse is as good, beside a parameter.
        let sql = format!("SELECT note FROM items WHERE id = {id} AND v = $1");
        let answer = send(&mut wire, &extended(&sql, &[20], &[&(id * 2).to_string()]));
        assert_eq!(answer[2], format!("DataRow n{id}"));
    }
    assert_eq!(wire.rows("SELECT note FROM items WHERE id = -1").len(), 0);
    let huge = "SELECT note FROM items WHERE id = 99999999999999999999999";
    assert_eq!(wire.rows(huge).len(), 0);
    let none = say(&mut wire, "SELECT note FROM items WHERE id = 'x'");
    assert!(none[0].contains("22P02"), "{none:?}");
}

#[test]
fn texts_of_a_shape_are_gathered_by_their_own_values() {
    let stage = Stage::new();
    stage.fill(1..=40);
    let mut wire = stage.wire();
    let [a, b, _] = one_each();
    let here = (a + 1..).find(|id| owner(*id) == owner(a)).unwrap();
    let sql =
        |one: i64, two: i64| format!("SELECT id FROM items WHERE id IN ({one}, {two}) ORDER BY id");
    for _ in 0..3 {
        assert_eq!(wire.rows(&sql(a, here)).len(), 2);
        assert_eq!(wire.rows(&sql(b, a)), wire.rows(&sql(a, b)));
        assert_eq!(wire.rows(&sql(a, b)).len(), 2);
        assert_eq!(wire.rows(&sql(here, here)).len(), 1);
    }
}

#[test]
fn rows_of_a_shape_are_divided_where_they_stand_in_each_text() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    let mut expected = Vec::new();
    for (at, id) in (1..=60_i64).step_by(3).enumerate() {
        let note = "x".repeat(at);
        let gap = " ".repeat(at % 4);
        let row = |id: i64| format!("({gap}{id},{gap}{at}, '{note}')");
        let rows = [row(id), row(id + 1), row(id + 2)].join(", ");
        assert_eq!(
            say(
                &mut wire,
                &format!("INSERT INTO items{gap} (id, v, note) VALUES {rows}")
            ),
            ["CommandComplete INSERT 0 3", "ReadyForQuery I"]
        );
        expected.extend((id..id + 3).map(|id| format!("{id}|{at}|{note}")));
    }
    assert_eq!(stage.rows("items"), expected);
}

#[test]
fn a_shape_is_planned_anew_for_another_path_reading_and_catalog() {
    let stage = Stage::new();
    stage.fill(1..=9);
    stage.shards.sql(
        0,
        "CREATE SCHEMA aside; CREATE TABLE aside.items (id int8, note text); \
         INSERT INTO aside.items SELECT i, 'aside' FROM generate_series(1, 9) i",
    );
    let (mut wire, mut other) = (stage.wire(), stage.wire());
    let sql = |id: i64| format!("SELECT note FROM items WHERE id = {id}");
    let ok = |answer: Vec<String>| assert!(answer[0].starts_with("CommandComplete"), "{answer:?}");
    // Known to the catalog from now on.
    ok(say(&mut wire, "CREATE TABLE later (id int4)"));
    for id in 1..=9 {
        ok(say(&mut wire, "SET search_path = public"));
        assert_eq!(wire.rows(&sql(id)), [[format!("n{id}")]]);
        ok(say(&mut wire, "SET search_path = aside"));
        assert_eq!(wire.rows(&sql(id)), [["aside"]]);
        assert_eq!(other.rows(&sql(id)), [[format!("n{id}")]]);
    }
    // Where a string ends depends on the session.
    ok(say(&mut wire, "RESET search_path"));
    ok(say(&mut wire, "SET standard_conforming_strings = off"));
    ok(say(&mut wire, "SET escape_string_warning = off"));
    let quoted = |id: i64| {
        format!(r"SELECT id FROM items WHERE id = {id} AND note <> 'a\' AND 1 = {id} --'")
    };
    for id in [3, 4] {
        assert_eq!(other.rows(&quoted(id)).len(), 0);
        assert_eq!(wire.rows(&quoted(id)), [[id.to_string()]]);
    }
    // What was unknown is there after somebody has made it.
    let missing = |id: i32| format!("SELECT body FROM made WHERE id = {id}");
    assert!(say(&mut wire, &missing(1))[0].contains("42P01"));
    ok(say(&mut other, "CREATE TABLE made (id int4, body text)"));
    ok(say(&mut other, "INSERT INTO made VALUES (2, 'two')"));
    assert_eq!(wire.rows(&missing(2)), [["two"]]);
}
