//! The place of an error in the client's text, where servers have got another one: what is said is what one PostgreSQL
//! says, with the same place.

use super::stage::{Stage, extended, one_each};
use mothership_tests::{Frame, Shards, Wire, message};

const TABLES: &str = "[sequences]\nblock = 1\n\
    [[table]]\nname = \"things\"\nkey = [\"id\"]\nkey_type = [\"int4\"]\n\
    [[table]]\nname = \"made\"\nkey = [\"id\"]\nkey_type = [\"int4\"]\n\
    [[table]]\nname = \"counted\"\nkey = [\"id\"]\nkey_type = [\"int4\"]\n\
    [[table]]\nname = \"numbered\"\nkey = [\"id\"]\nkey_type = [\"int4\"]\n";

const DEFINITIONS: [&str; 4] = [
    "CREATE TABLE things (id int4 PRIMARY KEY, v int4, \"größe\" text)",
    "CREATE TABLE made (id int4 PRIMARY KEY, v int4, \"změněno\" timestamptz DEFAULT now())",
    "CREATE TABLE counted (id serial PRIMARY KEY, v int4, k int4)",
    "CREATE TABLE numbered (id int4 PRIMARY KEY, number serial, v int4)",
];

/// Statements that fail, and a router and one PostgreSQL to be asked.
struct Both {
    stage: Stage,
    plain: Shards,
}

impl Both {
    fn new() -> Both {
        let stage = Stage::bare(TABLES);
        let plain = Shards::new(1);
        let both = Both { stage, plain };
        for wire in &mut both.wires() {
            for sql in DEFINITIONS {
                let told = wire.query(sql);
                assert_eq!(told[0].to_string(), "CommandComplete CREATE TABLE", "{sql}");
            }
        }
        both
    }

    fn wires(&self) -> [Wire; 2] {
        [Wire::login(&self.plain.endpoint(0)), self.stage.wire()]
    }

    /// The messages are answered by the same errors, which are where `place` stands in the text, or nowhere.
    fn fails(&self, wires: &mut [Wire; 2], sql: &str, place: Option<&str>, messages: &[Vec<u8>]) {
        let [told, by_router] = wires.each_mut().map(|wire| {
            wire.send_all(messages);
            errors(&wire.until_ready())
        });
        assert_eq!(by_router, told, "{sql}");
        let at = |text: &str| sql.find(text).expect("the place stands in the statement");
        let place = place.map(|text| (sql[..at(text)].chars().count() + 1).to_string());
        let [error] = &told[..] else {
            panic!("{sql}: {told:?}")
        };
        assert_eq!(error[2], place, "{sql}: {error:?}");
    }
}

/// SQLSTATE, message and place of each error.
fn errors(frames: &[Frame]) -> Vec<[Option<String>; 3]> {
    let errors = frames.iter().filter(|frame| frame.kind == b'E');
    errors
        .map(|frame| ['C', 'M', 'P'].map(|code| frame.field(code)))
        .collect()
}

/// Rows of all shards, the last shard's first: what follows the key in each.
fn rows(behind: [&str; 3]) -> String {
    let ids = one_each();
    let rows = ids.iter().rev().zip(behind);
    let rows: Vec<String> = rows.map(|(id, row)| format!("({id}, {row})")).collect();
    rows.join(",\n   ")
}

/// Each fails in the simple protocol and in the extended one.
fn fail_by_both_protocols(cases: &[(String, Option<&str>)]) {
    let both = Both::new();
    let mut wires = both.wires();
    for (sql, place) in cases {
        both.fails(&mut wires, sql, *place, &[message::query(sql)]);
        both.fails(&mut wires, sql, *place, &extended(sql, &[], &[]));
    }
}

#[test]
fn the_rows_of_an_insert_that_was_divided_have_their_places() {
    let insert = |behind: [&str; 3], tail: &str| {
        let rows = rows(behind);
        format!("/* žluť */ INSERT INTO things (id, v, größe) VALUES {rows}{tail}")
    };
    fail_by_both_protocols(&[
        (insert(["1, 'ů'", "2, 'ň'", "nope, 'ď'"], ""), Some("nope")),
        (
            insert(["1, 'ů'", "'abc', 'ň'", "3, 'ď'"], ""),
            Some("'abc'"),
        ),
        (
            insert(["'abc', 'ů'", "2, 'ň'", "3, 'ď'"], ""),
            Some("'abc'"),
        ),
        // The first in the text is told, whichever shard it is of.
        (
            insert(["1, 'ů'", "2, größe()", "nope, 'ď'"], ""),
            Some("größe()"),
        ),
        (insert(["1, nope", "'x', 'y'", "3, 'ď'"], ""), Some("nope")),
        (
            insert(["1, 'ů'", "2, 'ň'", "3, 'ď'"], " RETURNING 'ř', nope"),
            Some("nope"),
        ),
        (
            insert(["1, 'ů'", "2, 'ň' || 1 + 'x'", "3, 'ď'"], ""),
            Some("'x'"),
        ),
        (insert(["1, 'ů'", "2, 'ň'", "3 / 0, 'ď'"], ""), None),
        (
            format!(
                "INSERT INTO things (id, v, nope) VALUES {}",
                rows(["1, 'ů'"; 3])
            ),
            Some("nope"),
        ),
    ]);
}

#[test]
fn a_text_with_the_time_written_into_it_has_its_places() {
    let insert = |behind: [&str; 3], tail: &str| {
        format!("INSERT INTO made (id, v) VALUES {}{tail}", rows(behind))
    };
    let all = "UPDATE things SET größe = 'ž' || now()";
    fail_by_both_protocols(&[
        (format!("{all} || CURRENT_DATE, v = nope"), Some("nope")),
        (format!("{all}, v = 'ů'"), Some("'ů'")),
        (format!("{all} WHERE now() > 'ů'"), Some("'ů'")),
        (
            "SELECT 'ž', now(), now() + id FROM things".to_owned(),
            Some("+ id"),
        ),
        (
            "SELECT 'ž' || now(), nope FROM things ORDER BY v".to_owned(),
            Some("nope"),
        ),
        // What stands in the place of the call is the call.
        (
            "DELETE FROM things WHERE 'ů' = '' AND now()".to_owned(),
            Some("now()"),
        ),
        // Columns that are filled with the time.
        (insert(["1", "2", "nope"], ""), Some("nope")),
        (insert(["1", "'ů'", "3"], ""), Some("'ů'")),
        (
            insert(["1", "2", "3"], " RETURNING 'ů', now(), nope"),
            Some("nope"),
        ),
        (insert(["1, 7", "2, 8", "3, 9"], ""), Some("7")),
        (
            "INSERT INTO made (id, v) VALUES (1), (2), (3)".to_owned(),
            Some("v)"),
        ),
    ]);
}

#[test]
fn an_insert_with_values_of_the_router_has_its_places() {
    fail_by_both_protocols(&[
        (
            "INSERT INTO counted (v, k) VALUES (1, 'ů')".to_owned(),
            Some("'ů'"),
        ),
        (
            "INSERT INTO counted (v, k) VALUES (1, 2), (3, 4), (5, 'ů'), (6, 7)".to_owned(),
            Some("'ů'"),
        ),
        (
            "/* ž */ INSERT INTO counted VALUES (DEFAULT, 2), (DEFAULT, 3), (DEFAULT, nope)"
                .to_owned(),
            Some("nope"),
        ),
        (
            "INSERT INTO counted (v, k) VALUES (1, 2), (3, 4) RETURNING 'ů', nope".to_owned(),
            Some("nope"),
        ),
        (
            format!(
                "INSERT INTO numbered (id, v) VALUES {}",
                rows(["1", "2", "'ů'"])
            ),
            Some("'ů'"),
        ),
        (
            "INSERT INTO numbered VALUES (11, DEFAULT, 'ů')".to_owned(),
            Some("'ů'"),
        ),
    ]);
}

#[test]
fn a_statement_with_parameters_has_its_places() {
    let both = Both::new();
    let mut wires = both.wires();
    let ids = one_each().map(|id| id.to_string());
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    for (sql, place) in [
        (
            "INSERT INTO things VALUES ($1, 1, 'ž'), ($2, 2, 'ů'), ($3, 'abc', 'ď')",
            "'abc'",
        ),
        (
            "INSERT INTO things VALUES ($1, 1, 'ž'), ($2, 2, 'ů'), ($3, 3, 'ď') RETURNING 'ň', nope",
            "nope",
        ),
        (
            "INSERT INTO made (id, v) VALUES ($1, 1), ($2, 2), ($3, 'ů')",
            "'ů'",
        ),
        (
            "INSERT INTO counted (v, k) VALUES ($1, 1), ($2, 2), ($3, 'ů')",
            "'ů'",
        ),
        (
            "INSERT INTO numbered (id, v) VALUES ($1, 1), ($2, 2), ($3, 'ů')",
            "'ů'",
        ),
        (
            "UPDATE things SET größe = 'ž' || now() WHERE v IN ($1, $2, $3) AND nope",
            "nope",
        ),
    ] {
        let messages = extended(sql, &[23, 23, 23], &ids);
        both.fails(&mut wires, sql, Some(place), &messages);
    }
}

#[test]
fn one_of_several_statements_of_a_text_has_its_places() {
    let both = Both::new();
    let mut wires = both.wires();
    let before = "SELECT 'žluť'; UPDATE things SET v = 7;";
    let rows = rows(["1, 'ň'", "'abc', 'ů'", "3, 'ď'"]);
    for (sql, place) in [
        (format!("INSERT INTO things VALUES {rows}"), "'abc'"),
        ("SELECT 'ů', nope FROM things; SELECT 1".to_owned(), "nope"),
        (
            "SELECT v, 'abc' + 1 FROM things WHERE id = 7;".to_owned(),
            "'abc'",
        ),
        (
            "UPDATE things SET größe = 'ů' || now(), v = nope".to_owned(),
            "nope",
        ),
        (
            "INSERT INTO counted (v, k) VALUES (1, 2), (3, 'abc')".to_owned(),
            "'abc'",
        ),
        (
            "SELECT * FROM things a JOIN things b ON a.v = b.v WHERE b.nope".to_owned(),
            "b.nope",
        ),
        (
            "DECLARE c CURSOR FOR SELECT 'ů', nope FROM things".to_owned(),
            "nope",
        ),
        (
            "COPY (SELECT 'ů', a.nope FROM things a JOIN things b ON a.v = b.v) TO STDOUT"
                .to_owned(),
            "a.nope",
        ),
        (
            "EXPLAIN SELECT 'ů' || now(), nope FROM things".to_owned(),
            "nope",
        ),
        ("SELECT * FROM nowhere".to_owned(), "nowhere"),
    ] {
        let sql = format!("{before} {sql}");
        both.fails(&mut wires, &sql, Some(place), &[message::query(&sql)]);
    }
}

#[test]
fn what_is_explained_sorted_or_gathered_has_its_places() {
    let both = Both::new();
    let mut wires = both.wires();
    let pairs = "FROM things a JOIN things b ON a.v = b.v";
    for (sql, place) in [
        (
            format!(" /* ů */ EXPLAIN SELECT 'ž', a.id {pairs} WHERE a.größe = 5"),
            "= 5",
        ),
        (
            format!(
                "EXPLAIN INSERT INTO things VALUES {}",
                rows(["1, 'ů'", "'abc', 'ň'", "3, 'ď'"])
            ),
            "'abc'",
        ),
        (
            "EXPLAIN (COSTS off) SELECT 'ž', now(), 'ů' + 1 FROM things".to_owned(),
            "'ů' + 1",
        ),
        (
            "EXPLAIN INSERT INTO counted (v, k) VALUES (1, 2), (3, 'ů')".to_owned(),
            "'ů'",
        ),
        ("SELECT 'ž', v FROM things ORDER BY nope".to_owned(), "nope"),
        ("SELECT avg(v), 'ž' + 1 FROM things".to_owned(), "'ž'"),
        (format!("SELECT 'ž', a.id {pairs} WHERE a.v = 'ř'"), "'ř'"),
        (
            format!("COPY (SELECT 'ž', 'ř' + 1 {pairs}) TO STDOUT"),
            "'ř'",
        ),
        (
            format!("CREATE TEMP TABLE x AS SELECT 'ž', nope {pairs}"),
            "nope",
        ),
        (
            "PREPARE p AS SELECT 'ž', nope FROM things".to_owned(),
            "nope",
        ),
    ] {
        both.fails(&mut wires, &sql, Some(place), &[message::query(&sql)]);
    }
}

/// Servers count bytes of what a client of LATIN1 sends.
#[test]
fn characters_are_counted_in_the_encoding_of_the_client() {
    let both = Both::new();
    let mut wires = both.wires();
    for wire in &mut wires {
        wire.query("SET client_encoding = 'LATIN1'");
    }
    // Two characters of LATIN1, which are one of UTF-8.
    let sql = format!(
        "INSERT INTO things VALUES {}",
        rows(["1, 'é'", "2, 'é'", "nope, 'é'"])
    );
    let messages = [message::query(&sql)];
    let told = wires.each_mut().map(|wire| {
        wire.send_all(&messages);
        errors(&wire.until_ready())
    });
    assert_eq!(told[1], told[0]);
    let place = sql.find("nope").map(|at| (at + 1).to_string());
    assert_eq!(told[0][0][2], place);
}
