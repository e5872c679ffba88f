//! What is computed of documents leaves nothing on a connection that others get, and reaches no further than is known.

use super::stage::Documents;
use crate::shards::stage::{extended, one, say, send};
use mothership_tests::Wire;

fn code(answer: &[String]) -> &str {
    let error = answer.iter().find_map(|line| line.strip_prefix("Error "));
    error.map_or("", |error| &error[..5])
}

/// With two rows in `events` and four in `items`.
fn staged() -> Option<(Documents, Wire)> {
    let documents = Documents::over(1)?;
    let mut wire = documents.stage.wire();
    for sql in [
        "INSERT INTO events (id, kind) VALUES (1, 'a'), (2, 'b')",
        "INSERT INTO items (id, v) VALUES (1, 1), (2, 2), (3, 3), (4, 4)",
    ] {
        let answer = say(&mut wire, sql);
        assert!(
            answer[0].starts_with("CommandComplete INSERT"),
            "{answer:?}"
        );
    }
    Some((documents, wire))
}

/// What several new clients see of a setting.
fn seen(documents: &Documents, setting: &str) -> Vec<String> {
    let mut wires: Vec<Wire> = (0..4).map(|_| documents.stage.wire()).collect();
    let show = format!("SELECT current_setting('{setting}')");
    wires.iter_mut().map(|wire| one(wire, &show)).collect()
}

#[test]
fn no_setting_and_no_lock_is_left_to_others() {
    let Some((documents, mut wire)) = staged() else {
        return;
    };
    say(&mut wire, "CREATE TABLE apart (id int)");
    let before = seen(&documents, "statement_timeout");
    for sql in [
        "SELECT set_config('statement_timeout', '77ms', false) FROM events WHERE id = 1",
        "SELECT id FROM events WHERE set_config('statement_timeout', '77ms', false) = kind",
        "UPDATE events SET kind = set_config('statement_timeout', '77ms', false) WHERE id = 1",
        "DELETE FROM events WHERE kind = set_config('statement_timeout', '77ms', false)",
        "INSERT INTO events (id, kind) VALUES (9, set_config('statement_timeout', '77ms', false))",
        "INSERT INTO events (id, kind) SELECT id + 10, set_config('statement_timeout', '77ms', false) FROM items",
        "INSERT INTO events (id, kind) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET kind = set_config('statement_timeout', '77ms', false)",
        "INSERT INTO events (id, kind) VALUES (12, 'x') RETURNING set_config('statement_timeout', '77ms', false)",
        "WITH w AS (SELECT set_config('statement_timeout', '77ms', false) AS s) UPDATE events SET kind = w.s FROM w",
        "SELECT pg_catalog.set_config('statement_timeout', '77ms', false) FROM events, apart",
        "SELECT set_config('statement_timeout', '77ms', false) FROM items, pg_class",
        "SELECT pg_advisory_lock(id) FROM events WHERE id = 1",
        "UPDATE events SET kind = 'x' WHERE id = 1 AND pg_try_advisory_lock(id)",
        "SELECT setseed(0.5) FROM events",
    ] {
        for is_extended in [false, true] {
            let mut other = documents.stage.wire();
            let answer = match is_extended {
                false => say(&mut other, sql),
                true => send(&mut other, &extended(sql, &[], &[])),
            };
            assert_eq!(code(&answer), "0A000", "{sql}: {answer:?}");
        }
        assert_eq!(seen(&documents, "statement_timeout"), before, "{sql}");
    }
    // A view whose rule is set_config.
    let mut other = documents.stage.wire();
    say(
        &mut other,
        "UPDATE pg_settings SET setting = '77ms' WHERE name = 'statement_timeout'",
    );
    drop(other);
    assert_eq!(seen(&documents, "statement_timeout"), before);
}

#[test]
fn functions_that_may_reach_further_are_refused() {
    let Some((_documents, mut wire)) = staged() else {
        return;
    };
    let function = "CREATE FUNCTION rows_of(t text) RETURNS bigint LANGUAGE plpgsql AS \
        $$ DECLARE r bigint; BEGIN EXECUTE 'SELECT count(*) FROM ' || t INTO r; RETURN r; END $$";
    assert_eq!(
        say(&mut wire, function)[0],
        "CommandComplete CREATE FUNCTION"
    );
    for sql in [
        "SELECT rows_of('ev' || 'ents'), id FROM events WHERE id = 1",
        "SELECT id FROM events WHERE rows_of('it' || 'ems') = 4",
        "SELECT query_to_xml('SELECT count(*) FROM it' || 'ems', true, true, '') FROM events WHERE id = 1",
        "UPDATE events SET count = rows_of('it' || 'ems') WHERE id = 1",
        "INSERT INTO events (id, count) VALUES (5, rows_of('ev' || 'ents'))",
    ] {
        let answer = say(&mut wire, sql);
        assert_eq!(code(&answer), "0A000", "{sql}: {answer:?}");
    }
}

#[test]
fn a_part_of_with_does_not_hide_what_is_written() {
    let Some((_documents, mut wire)) = staged() else {
        return;
    };
    for sql in [
        "WITH events AS (SELECT 1 AS id) UPDATE events SET small = 1 WHERE id = 1",
        "WITH events AS (SELECT 1 AS id) DELETE FROM events WHERE id = 1",
        "WITH items AS (SELECT 1 AS id) UPDATE items SET note = 'q' WHERE id = 1",
        "WITH items AS (SELECT 1 AS id) DELETE FROM items WHERE id > 0",
        "WITH items AS (SELECT 1 AS id) MERGE INTO items USING (SELECT 1 AS n) AS s ON items.id = s.n WHEN MATCHED THEN DELETE",
    ] {
        let answer = say(&mut wire, sql);
        assert_eq!(code(&answer), "0A000", "{sql}: {answer:?}");
    }
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "4");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM events"), "2");
}
