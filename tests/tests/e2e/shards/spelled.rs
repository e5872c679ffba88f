//! Strings in every form: whatever the router compares with a name or reads as code is the value that PostgreSQL sees.

use super::stage::{Stage, one, say};
use mothership_tests::Wire;

/// Ways to write a text that has only letters, digits, spaces and simple signs, one of its letters hidden.
fn forms(text: &str, hidden: char) -> Vec<String> {
    let escaped = |by: &str| text.replacen(hidden, by, 1);
    let code = u32::from(hidden);
    let (before, after) = text.split_once(hidden).unwrap();
    vec![
        format!("'{text}'"),
        format!("E'{}'", escaped(&format!("\\{code:03o}"))),
        format!("e'{}'", escaped(&format!("\\x{code:02x}"))),
        format!("E'{}'", escaped(&format!("\\u{code:04X}"))),
        format!("E'{}'", escaped(&format!("\\U{code:08x}"))),
        format!("U&'{}'", escaped(&format!("\\{code:04x}"))),
        format!("u&'{}'", escaped(&format!("\\+{code:06x}"))),
        format!("U&'{}' UESCAPE '!'", escaped(&format!("!{code:04x}"))),
        format!(
            "U&'{}' /* x */ uescape\nE'\\x23'",
            escaped(&format!("#{code:04x}"))
        ),
        format!("'{before}' -- goes on\n  '{hidden}{after}'"),
        format!("U&'{before}'\n'\\{code:04x}{after}'"),
        format!("$${text}$$"),
        format!("$q${text}$q$"),
    ]
}

fn assert_refused(wire: &mut Wire, sql: &str) {
    let told = say(wire, sql);
    // What is no string PostgreSQL refuses itself.
    let codes = ["Error 0A000", "Error 42601"];
    let is_refused = told
        .iter()
        .any(|line| codes.iter().any(|code| line.starts_with(code)));
    assert!(is_refused, "{sql}: {told:?}");
}

#[test]
#[ignore = "long"]
fn code_over_declared_tables_is_found_in_every_form_of_a_string() {
    let stage = Stage::new();
    stage.fill(1..=12);
    let mut wire = stage.wire();
    let unchanged = |wire: &mut Wire, sql: &str| {
        assert_eq!(
            one(wire, "SELECT count(*) FROM public.items WHERE v = 1"),
            "0",
            "{sql}"
        );
    };
    for form in forms("BEGIN UPDATE items SET v = 1; END", 'm') {
        for sql in [
            format!("DO {form}"),
            format!("DO LANGUAGE plpgsql {form}"),
            format!("DO {form} LANGUAGE 'plpgsql'"),
            format!("CREATE FUNCTION pg_temp.f() RETURNS void LANGUAGE plpgsql AS {form}"),
        ] {
            assert_refused(&mut wire, &sql);
            unchanged(&mut wire, &sql);
        }
        let sql =
            format!("CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS {form}; SELECT f()");
        assert_refused(&mut wire, &sql);
        unchanged(&mut wire, &sql);
    }
    for form in forms("BEGIN PERFORM 1; END", 'F') {
        let told = say(&mut wire, &format!("DO {form}"));
        assert_eq!(told[0], "CommandComplete DO", "{form}: {told:?}");
    }
    // A procedural language whose code no word shows, a string that is not certain, and dynamic SQL.
    for sql in [
        "DO LANGUAGE plperl 'x'",
        "DO U&'BEGIN !0' UESCAPE '!'",
        "DO E'BEGIN EXEC\\165TE $$x$$; END'",
    ] {
        assert_refused(&mut wire, sql);
    }
    // Where backslashes escape in plain strings, too.
    say(&mut wire, "SET standard_conforming_strings = off");
    say(&mut wire, "SET escape_string_warning = off");
    assert_refused(&mut wire, "DO 'BEGIN UPDATE it\\145ms SET v = 1; END'");
    assert_refused(&mut wire, "DO 'BEGIN UPDATE it\\x65ms SET v = 1; END'");
    unchanged(&mut wire, "DO");
}

#[test]
fn code_that_no_name_shows_is_followed_or_refused() {
    let stage = Stage::new();
    stage.fill(1..=12);
    let mut wire = stage.wire();
    let made = |wire: &mut Wire, sql: &str| {
        let told = say(wire, sql);
        assert!(told[0].starts_with("CommandComplete"), "{sql}: {told:?}");
    };
    // Declared immutable, which PostgreSQL does not check.
    made(
        &mut wire,
        "CREATE FUNCTION how_many(int) RETURNS int8 LANGUAGE sql IMMUTABLE AS E'SELECT count(*) FROM it\\x65ms'",
    );
    made(
        &mut wire,
        "CREATE FUNCTION how_many_2(int) RETURNS int8 LANGUAGE sql IMMUTABLE AS 'SELECT how_many(1)'",
    );
    made(
        &mut wire,
        "CREATE FUNCTION harmless(int, int) RETURNS int8 LANGUAGE sql IMMUTABLE AS 'SELECT 1::int8'",
    );
    made(&mut wire, "CREATE TYPE pair AS (a int, b int)");
    made(
        &mut wire,
        "CREATE FUNCTION of_pair(pair) RETURNS int8 LANGUAGE sql IMMUTABLE AS 'SELECT 1::int8'",
    );
    made(
        &mut wire,
        "CREATE OPERATOR %%% (LEFTARG = int, RIGHTARG = int, FUNCTION = harmless)",
    );
    made(
        &mut wire,
        "CREATE DOMAIN checked AS int CHECK (harmless(VALUE, 1) > 0)",
    );
    for sql in [
        "SELECT how_many(1)",
        "SELECT how_many_2(1)",
        "CREATE OPERATOR %%%% (RIGHTARG = int, FUNCTION = how_many)",
        "CREATE DOMAIN few AS int CHECK (how_many(VALUE) < 5)",
    ] {
        assert_refused(&mut wire, sql);
    }
    assert_eq!(one(&mut wire, "SELECT 1 %%% 2"), "1");
    assert_eq!(one(&mut wire, "SELECT 1::checked"), "1");
    assert_eq!(one(&mut wire, "SELECT (ROW(1, 2)::pair).of_pair"), "1");
    // It is not made anew with such code. Where it was past the router, what has been made of it follows it.
    let anew = "CREATE OR REPLACE FUNCTION harmless(int, int) RETURNS int8 LANGUAGE sql IMMUTABLE AS 'SELECT count(*) FROM items'";
    assert_refused(&mut wire, anew);
    stage.shards.sql_all(anew);
    made(&mut wire, "CREATE TYPE tells_the_router AS (a int)");
    for sql in [
        "SELECT 1 %%% 2",
        "SELECT 1 OPERATOR(public.%%%) 2",
        "SELECT 1::checked",
        "SELECT CAST(1 AS \"checked\")",
    ] {
        assert_refused(&mut wire, sql);
    }
    assert_eq!(one(&mut wire, "SELECT 1 + 2"), "3");
    made(
        &mut wire,
        "CREATE OR REPLACE FUNCTION of_pair(pair) RETURNS int8 LANGUAGE sql STABLE AS 'SELECT count(*) FROM items'",
    );
    for sql in [
        "SELECT (ROW(1, 2)::pair).of_pair",
        "SELECT (x).of_pair FROM (SELECT ROW(1, 2)::pair AS x) q",
        "SELECT of_pair(ROW(1, 2))",
        "CREATE CAST (pair AS int8) WITH FUNCTION of_pair(pair)",
    ] {
        assert_refused(&mut wire, sql);
    }
    // A temporary function that stays at home is run there.
    made(
        &mut wire,
        "CREATE FUNCTION pg_temp.seven() RETURNS int LANGUAGE sql AS 'SELECT 7'",
    );
    assert_eq!(one(&mut wire, "SELECT pg_temp.seven()"), "7");
}

// A stranger found it: the quotes of a name are doubled in a text, and the router looked for the name itself.
#[test]
fn names_with_quotes_in_them_are_found_in_texts_and_in_code() {
    let stage = Stage::bare("[tables]\ndefault = \"auto\"");
    let mut wire = stage.wire();
    for name in ["p\"q", "it's", "back\\slash", "Two words", "A\"b'c"] {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        let literal = name.replace('\'', "''").replace('"', "\"\"");
        let made = format!("CREATE TABLE {quoted} (id int8 PRIMARY KEY, v int)");
        assert_eq!(say(&mut wire, &made)[0], "CommandComplete CREATE TABLE");
        let stored = format!("INSERT INTO {quoted} SELECT g, 1 FROM generate_series(1, 12) g");
        assert_eq!(
            say(&mut wire, &stored)[0],
            "CommandComplete INSERT 0 12",
            "{name}"
        );
        let count = format!("SELECT count(*) FROM {quoted}");
        assert_eq!(one(&mut wire, &count), "12", "{name}");
        say(
            &mut wire,
            &format!(
                "CREATE VIEW \"v_{}\" AS SELECT * FROM {quoted}",
                &quoted[1..quoted.len() - 1]
            ),
        );
        let view = format!(
            "SELECT count(*) FROM \"v_{}\"",
            &quoted[1..quoted.len() - 1]
        );
        assert_eq!(one(&mut wire, &view), "12", "{name}");
        let changed = format!("UPDATE {quoted} SET v = 2");
        assert_eq!(
            say(&mut wire, &changed)[0],
            "CommandComplete UPDATE 12",
            "{name}"
        );
        assert_refused(
            &mut wire,
            &format!("DO $$ BEGIN UPDATE {quoted} SET v = 3; END $$"),
        );
        assert_refused(
            &mut wire,
            &format!("DO 'BEGIN UPDATE \"{literal}\" SET v = 3; END'"),
        );
        assert_eq!(
            one(&mut wire, &format!("SELECT sum(v) FROM {quoted}")),
            "24",
            "{name}"
        );
    }
}

#[test]
fn nobody_prepares_or_finishes_what_has_a_name_of_the_routers() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    for form in forms("ms1:r1:x", 'm') {
        for sql in [
            format!("COMMIT PREPARED {form}"),
            format!("ROLLBACK PREPARED {form}"),
        ] {
            assert_refused(&mut wire, &sql);
        }
        say(&mut wire, "BEGIN");
        assert_eq!(
            say(&mut wire, "INSERT INTO items VALUES (1)")[0],
            "CommandComplete INSERT 0 1"
        );
        assert_refused(&mut wire, &format!("PREPARE TRANSACTION {form}"));
        say(&mut wire, "ROLLBACK");
    }
    assert_refused(&mut wire, "COMMIT PREPARED U&'!' UESCAPE '!'");
    say(&mut wire, "SET standard_conforming_strings = off");
    assert_refused(&mut wire, "ROLLBACK PREPARED '\\x6ds1:r1:x'");
    assert_refused(&mut wire, "ROLLBACK PREPARED U&'\\006ds1:r1:x'");
    say(&mut wire, "RESET standard_conforming_strings");
    // Any other name is the client's own, in any form.
    for form in forms("mine", 'm') {
        say(&mut wire, "BEGIN");
        say(&mut wire, "INSERT INTO items VALUES (1)");
        assert_eq!(
            say(&mut wire, &format!("PREPARE TRANSACTION {form}"))[0],
            "CommandComplete PREPARE TRANSACTION"
        );
        assert_eq!(stage.prepared(), 1);
        assert_eq!(
            say(&mut wire, &format!("ROLLBACK PREPARED {form}"))[0],
            "CommandComplete ROLLBACK PREPARED"
        );
    }
    stage.assert_nothing_prepared();
}

#[test]
fn settings_and_roles_are_the_same_in_every_form_of_a_string() {
    let stage = Stage::new();
    stage.fill(1..=3);
    let mut wire = stage.wire();
    say(&mut wire, "CREATE SCHEMA aside");
    say(&mut wire, "CREATE TABLE aside.notes (id int)");
    for form in forms("aside", 'd') {
        assert_eq!(
            say(&mut wire, &format!("SET search_path TO {form}"))[0],
            "CommandComplete SET",
            "{form}"
        );
        assert_eq!(one(&mut wire, "SHOW search_path"), "aside", "{form}");
        assert_unknown(&mut wire, "SELECT count(*) FROM items");
        assert_eq!(one(&mut wire, "SELECT count(*) FROM notes"), "0", "{form}");
        say(&mut wire, "RESET search_path");
        let sql = format!("SELECT set_config('search_path', {form}, false)");
        assert_eq!(one(&mut wire, &sql), "aside", "{form}");
        assert_unknown(&mut wire, "SELECT count(*) FROM items");
        say(&mut wire, "RESET search_path");
        assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "3", "{form}");
    }
    for form in forms("search_path", 'c') {
        let sql = format!("SELECT set_config({form}, 'aside', false)");
        assert_eq!(one(&mut wire, &sql), "aside", "{form}");
        assert_unknown(&mut wire, "SELECT count(*) FROM items");
        say(&mut wire, "RESET search_path");
    }
    say(&mut wire, "SET U&\"search\\005fpath\" TO aside");
    assert_unknown(&mut wire, "SELECT count(*) FROM items");
    say(&mut wire, "RESET search_path");
    for form in forms("big5", 'b') {
        assert_refused(&mut wire, &format!("SET client_encoding TO {form}"));
        assert_refused(&mut wire, &format!("SET NAMES {form}"));
    }
}

/// The table is not on the search path.
fn assert_unknown(wire: &mut Wire, sql: &str) {
    let told = say(wire, sql);
    assert!(told[0].starts_with("Error 42P01"), "{sql}: {told:?}");
}
