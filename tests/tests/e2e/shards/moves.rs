//! UPDATE of the shard key with `key_updates = "move"`: rows go to the shard of their new key, and nothing of them is
//! lost or doubled.

use super::stage::{LIMIT, Stage, extended, keys_of, lines, one, one_each, owner, say, send};
use mothership_tests::{Shards, Wire, message, poll_until};

const TABLES: &str = r#"
[tables]
key_updates = "move"
[[table]]
name = "items"
key = ["id"]
key_type = ["int8"]
[[table]]
name = "lines"
key = ["id"]
key_type = ["int8"]
[[table]]
name = "parents"
key = ["id"]
key_type = ["int8"]
colocate = "items"
[[table]]
name = "children"
key = ["id"]
key_type = ["int8"]
colocate = "items"
[[table]]
name = "watched"
key = ["id"]
key_type = ["int8"]
[[table]]
name = "loose"
key = ["id"]
key_type = ["int8"]
[[table]]
name = "bounded"
key = ["id"]
key_type = ["int8"]
strategy = "bounds"
[[strategy]]
name = "bounds"
kind = "range"
key_type = ["int8"]
range = [{ below = 100, shard = "s1" }, { from = 100, below = 200, shard = "s2" }]
"#;

const DEFINITIONS: [&str; 10] = [
    "CREATE TYPE mood AS ENUM ('sad', 'ok')",
    "CREATE TABLE items (id int8 PRIMARY KEY, v int8, note text)",
    "CREATE TABLE lines (id int8, no int, body varchar(9) COLLATE \"C\", tags text[], m mood, price numeric(8,2), \
     twice numeric GENERATED ALWAYS AS (price * 2) STORED, doc jsonb, seen timestamptz, PRIMARY KEY (id, no))",
    "CREATE TABLE parents (id int8 PRIMARY KEY, v int)",
    "CREATE TABLE children (id int8 PRIMARY KEY REFERENCES parents, v int)",
    "CREATE TABLE watched (id int8 PRIMARY KEY, v int)",
    "CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "CREATE TRIGGER watching BEFORE UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION watch()",
    "CREATE TABLE loose (id int8, v int)",
    "CREATE TABLE bounded (id int8, v int)",
];

fn stage() -> Stage {
    let stage = Stage::bare(TABLES);
    let mut wire = stage.wire();
    for sql in DEFINITIONS {
        let said = say(&mut wire, sql);
        assert!(said[0].starts_with("CommandComplete"), "{sql}: {said:?}");
    }
    stage
}

fn rows() -> Vec<String> {
    let mut rows = Vec::new();
    for id in 1..=12 {
        rows.push(format!(
            "INSERT INTO items VALUES ({id}, {id} * 2, 'n{id}')"
        ));
        for no in 1..=id % 3 {
            rows.push(format!(
                "INSERT INTO lines (id, no, body, tags, m, price, doc, seen) VALUES ({id}, {no}, 'b{id}', \
                 ARRAY['x', NULL, '{no},\"'], 'ok', {id}.5, '{{\"a\": [{no}]}}', timestamptz '2020-01-01 00:00:00+00' + interval '{id} min')"
            ));
        }
    }
    rows
}

/// After each both tables are compared with those of one PostgreSQL.
const UPDATES: &[&str] = &[
    "UPDATE items SET id = 101 WHERE id = 1",
    "UPDATE items SET id = 102 WHERE id = 2 RETURNING id, v, note",
    "UPDATE items AS i SET id = 103, v = i.v + 1, note = note || '!' WHERE i.id = 3 RETURNING i.*, i.v + 1 AS more",
    "UPDATE items SET id = 104 WHERE v = 8 AND note LIKE 'n%'",
    "UPDATE items SET id = 105 WHERE id = 999",
    "UPDATE items SET id = 105 WHERE id = 999 RETURNING *",
    "UPDATE items SET id = 5, v = 0 WHERE id = 5",
    "UPDATE items SET note = 'moved', id = '106' WHERE id = 6 RETURNING id",
    "UPDATE lines SET id = 20 WHERE id = 2",
    "UPDATE lines SET id = 21 WHERE id = 5 RETURNING *",
    "UPDATE lines SET id = 22, tags = '{}', m = 'sad', price = 1.005, seen = NULL WHERE id = 8 AND no = 2 RETURNING id, no, twice",
    "UPDATE lines SET id = 23 WHERE body = 'b11' RETURNING lines.id, lines.tags",
    "UPDATE lines SET id = 24, doc = NULL, body = 'new' WHERE price > 100",
    // What one PostgreSQL refuses leaves everything as it was.
    "UPDATE items SET id = 8 WHERE id = 7",
    "UPDATE items SET id = 900 WHERE v > 2",
    "UPDATE items SET id = 900, v = 1 / (v - v) WHERE id = 9",
    "UPDATE items SET id = NULL WHERE id = 9",
    "UPDATE lines SET id = 900, body = 'much too long' WHERE id = 10",
    "UPDATE items SET id = 900 WHERE nothing = 1",
    "UPDATE items SET id = 900 WHERE id = 9 RETURNING 1 / (v - v)",
];

fn compare(ask: impl Fn(&mut Wire, &str) -> Vec<String>) {
    let (stage, one) = (stage(), Shards::new(1));
    let mut ours = stage.wire();
    for sql in DEFINITIONS {
        one.sql(0, sql);
    }
    for sql in rows() {
        say(&mut ours, &sql);
    }
    one.sql(0, &rows().join("; "));
    let mut theirs = Wire::login(&one.endpoint(0));
    theirs.set_limit(LIMIT);
    let sorted = |mut said: Vec<String>| {
        said.retain(|line| line != "BindComplete");
        said.sort();
        said
    };
    for sql in UPDATES {
        let (found, wanted) = (sorted(ask(&mut ours, sql)), sorted(ask(&mut theirs, sql)));
        assert_eq!(found, wanted, "{sql}");
        for read in [
            "SELECT * FROM items ORDER BY id",
            "SELECT * FROM lines ORDER BY id, no",
        ] {
            assert_eq!(say(&mut ours, read), say(&mut theirs, read), "after {sql}");
        }
        stage.rows("items");
        stage.rows("lines");
    }
    stage.assert_nothing_prepared();
}

#[test]
fn rows_move_to_the_shard_of_their_new_key_as_one_postgresql_would_update_them() {
    compare(say);
}

#[test]
fn in_the_extended_protocol_and_in_a_transaction_they_move_too() {
    compare(|wire, sql| send(wire, &extended(sql, &[], &[])));
    compare(|wire, sql| {
        say(wire, "BEGIN");
        let mut said = say(wire, sql);
        said.extend(say(wire, "COMMIT"));
        said
    });
    let stage = stage();
    let mut wire = stage.wire();
    say(&mut wire, "INSERT INTO items VALUES (1, 1, 'a')");
    let update = "UPDATE items SET id = $1, v = $2 WHERE id = $3 RETURNING id, v";
    for (from, to) in [("1", "2"), ("2", "3"), ("3", "3"), ("3", "50")] {
        let said = send(&mut wire, &extended(update, &[], &[to, "7", from]));
        assert!(said.contains(&format!("DataRow {to} 7")), "{said:?}");
        assert!(
            said.contains(&"CommandComplete UPDATE 1".to_owned()),
            "{said:?}"
        );
        assert_eq!(stage.rows("items"), [format!("{to}|7|a")]);
    }
    say(&mut wire, "BEGIN");
    say(&mut wire, "UPDATE items SET id = 60 WHERE id = 50");
    say(&mut wire, "ROLLBACK");
    assert_eq!(stage.rows("items"), ["50|7|a"]);
}

#[test]
fn what_triggers_or_references_would_notice_is_refused() {
    let stage = stage();
    let mut wire = stage.wire();
    let [a, b, _] = one_each();
    let near = keys_of(0, 2)[1];
    for table in ["parents", "children", "watched"] {
        say(&mut wire, &format!("INSERT INTO {table} VALUES ({a}, 1)"));
    }
    say(
        &mut wire,
        &format!("INSERT INTO items VALUES ({a}, 1, 'x')"),
    );
    for sql in [
        format!("UPDATE parents SET id = {b} WHERE id = {a}"),
        format!("UPDATE watched SET id = {b} WHERE id = {a}"),
        // The order in which rows are found could decide.
        "UPDATE items SET id = id + 1".to_owned(),
        format!("UPDATE items SET id = {b} FROM parents p WHERE p.id = items.id"),
        format!("UPDATE items SET id = {b} WHERE v = (SELECT max(v) FROM parents)"),
    ] {
        let said = say(&mut wire, &sql);
        assert!(said[0].starts_with("Error 0A000"), "{sql}: {said:?}");
    }
    // The row of a child has to find its parent.
    let orphan = say(
        &mut wire,
        &format!("UPDATE children SET id = {b} WHERE id = {a}"),
    );
    assert!(orphan[0].starts_with("Error 23503"), "{orphan:?}");
    // On one shard it is an UPDATE like any other.
    let stays = say(
        &mut wire,
        &format!("UPDATE items SET id = {near} WHERE id = {a}"),
    );
    assert_eq!(stays[0], "CommandComplete UPDATE 1");
    assert_eq!(stage.rows("items"), [format!("{near}|1|x")]);
}

#[test]
fn a_key_that_has_no_shard_moves_nothing_and_a_savepoint_brings_back_what_was_moved() {
    let stage = stage();
    let mut wire = stage.wire();
    for sql in [
        "INSERT INTO loose VALUES (1, 1)",
        "INSERT INTO bounded VALUES (1, 1), (150, 2)",
    ] {
        assert!(say(&mut wire, sql)[0].starts_with("CommandComplete"));
    }
    let no_shard = "UPDATE bounded SET id = 900 WHERE v < 9";
    for nothing in [no_shard, "UPDATE loose SET id = NULL WHERE v = 1"] {
        let said = say(&mut wire, nothing);
        assert!(said[0].starts_with("Error 0A000"), "{nothing}: {said:?}");
    }
    say(&mut wire, "BEGIN");
    say(&mut wire, "UPDATE bounded SET id = 2 WHERE id = 150");
    say(&mut wire, "SAVEPOINT s");
    let back = say(
        &mut wire,
        "UPDATE bounded SET id = 101, v = v + 5 WHERE v < 9",
    );
    assert_eq!(back, ["CommandComplete UPDATE 2", "ReadyForQuery T"]);
    let failed = say(&mut wire, no_shard);
    assert_eq!(failed[1], "ReadyForQuery E", "{failed:?}");
    say(&mut wire, "ROLLBACK TO s");
    say(&mut wire, "COMMIT");
    let mut bounded = || say(&mut wire, "SELECT id, v FROM bounded ORDER BY id")[1..3].to_vec();
    assert_eq!(bounded(), ["DataRow 1 1", "DataRow 2 2"]);
    assert_eq!(stage.rows("loose"), ["1|1"]);
    say(&mut wire, "BEGIN");
    assert_eq!(say(&mut wire, no_shard)[1], "ReadyForQuery E");
    assert_eq!(say(&mut wire, "COMMIT")[0], "CommandComplete ROLLBACK");
    let mut bounded = || say(&mut wire, "SELECT id, v FROM bounded ORDER BY id")[1..3].to_vec();
    assert_eq!(bounded(), ["DataRow 1 1", "DataRow 2 2"]);
    stage.assert_nothing_prepared();
}

#[test]
fn who_may_delete_and_insert_but_not_update_may_not_move() {
    let stage = stage();
    let mut wire = stage.wire();
    let [a, b, _] = one_each();
    for sql in [
        format!("INSERT INTO items VALUES ({a}, 1, 'x')"),
        "CREATE ROLE replacer".to_owned(),
        "GRANT SELECT, INSERT, DELETE ON items TO replacer".to_owned(),
        "SET ROLE replacer".to_owned(),
    ] {
        let said = say(&mut wire, &sql);
        assert!(said[0].starts_with("CommandComplete"), "{sql}: {said:?}");
    }
    let update = format!("UPDATE items SET id = {b} WHERE id = {a}");
    let said = say(&mut wire, &update);
    assert!(said[0].starts_with("Error 42501"), "{said:?}");
    say(&mut wire, "RESET ROLE");
    say(&mut wire, "GRANT UPDATE (v) ON items TO replacer");
    say(&mut wire, "SET ROLE replacer");
    let said = say(&mut wire, &update);
    assert!(said[0].starts_with("Error 42501"), "{said:?}");
    assert_eq!(stage.rows("items"), [format!("{a}|1|x")]);
}

/// Begins `first` in a transaction, lets `second` run into it, and ends the first.
fn collide(stage: &Stage, first: &str, second: &str) -> Vec<String> {
    let (mut one, mut two) = (stage.wire(), stage.wire());
    say(&mut one, "BEGIN");
    let said = say(&mut one, first);
    assert!(said[0].starts_with("CommandComplete"), "{first}: {said:?}");
    two.send(&message::query(second));
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let waiting = || stage.shards.sql_all(waits).iter().any(|n| n == "1");
    assert!(poll_until(LIMIT, waiting), "{second} does not wait");
    assert_eq!(say(&mut one, "COMMIT")[0], "CommandComplete COMMIT");
    let said = lines(&two.until_ready());
    stage.assert_nothing_prepared();
    said
}

#[test]
fn a_row_that_changes_meanwhile_is_moved_as_it_is_then_and_never_twice() {
    let stage = stage();
    let [a, b, c] = one_each();
    let mut wire = stage.wire();
    let mut begin = |v: i64| {
        say(&mut wire, "DELETE FROM items");
        say(
            &mut wire,
            &format!("INSERT INTO items VALUES ({a}, {v}, 'x')"),
        );
    };
    let to = |id: i64| format!("UPDATE items SET id = {id} WHERE id = {a}");
    begin(1);
    let said = collide(
        &stage,
        &format!("UPDATE items SET v = 9 WHERE id = {a}"),
        &to(b),
    );
    assert_eq!(said[0], "CommandComplete UPDATE 1");
    assert_eq!(stage.rows("items"), [format!("{b}|9|x")]);
    // What no longer fits stays.
    begin(1);
    let fits = format!("{} AND v = 1", to(b));
    let said = collide(
        &stage,
        &format!("UPDATE items SET v = 9 WHERE id = {a}"),
        &fits,
    );
    assert_eq!(said[0], "CommandComplete UPDATE 0");
    assert_eq!(stage.rows("items"), [format!("{a}|9|x")]);
    begin(1);
    let said = collide(&stage, &format!("DELETE FROM items WHERE id = {a}"), &to(b));
    assert_eq!(said[0], "CommandComplete UPDATE 0");
    assert!(stage.rows("items").is_empty());
    begin(1);
    let said = collide(&stage, &to(b), &to(c));
    assert_eq!(said[0], "CommandComplete UPDATE 0");
    assert_eq!(stage.rows("items"), [format!("{b}|1|x")]);
    begin(1);
    let said = collide(
        &stage,
        &to(b),
        &format!("UPDATE items SET v = v + 1 WHERE id = {a}"),
    );
    assert_eq!(said[0], "CommandComplete UPDATE 0");
    assert_eq!(stage.rows("items"), [format!("{b}|1|x")]);
}

const SAVED: &str = "[[table]]\nname = \"saved\"\nkey = [\"tenant\"]\nkey_type = [\"int8\"]\n";

/// Object mappers save a row with all of its columns and find it by its own key alone.
#[test]
fn a_row_is_saved_with_the_key_that_it_has() {
    let stage = Stage::bare(SAVED);
    let mut wire = stage.wire();
    let [a, b, c] = one_each();
    let near = (100..).find(|key| owner(*key) == owner(a)).unwrap();
    let rows = format!("INSERT INTO saved VALUES (1, {a}, 0), (2, {b}, 0), (3, {c}, 0)");
    for sql in [
        "CREATE TABLE saved (id int8, tenant int8, v int8, PRIMARY KEY (tenant, id))",
        &rows,
    ] {
        assert!(say(&mut wire, sql)[0].starts_with("CommandComplete"));
    }
    let stored = || {
        let rows = stage.shards.sql_all("SELECT id, tenant, v FROM saved");
        let mut rows: Vec<String> = rows
            .iter()
            .flat_map(|rows| rows.lines().map(str::to_owned))
            .collect();
        rows.sort();
        rows
    };
    let save = |tenant: i64, v: i64, id: i64| {
        format!("UPDATE saved SET tenant = {tenant}, v = {v} WHERE id = {id}")
    };
    let by_parse = |wire: &mut Wire, sql: &str| send(wire, &extended(sql, &[], &[]));
    for (id, tenant) in [(1, a), (2, b), (3, c)] {
        assert_eq!(
            say(&mut wire, &save(tenant, 5, id))[0],
            "CommandComplete UPDATE 1"
        );
        let told = by_parse(&mut wire, &format!("{} RETURNING v", save(tenant, 6, id)));
        assert!(
            told.contains(&"DataRow 6".into()) && told.contains(&"CommandComplete UPDATE 1".into()),
            "{told:?}"
        );
        let values =
            [Some(tenant), Some(7), Some(id)].map(|value| value.map(|value| value.to_string()));
        let values: Vec<&str> = values.iter().flatten().map(String::as_str).collect();
        let told = send(
            &mut wire,
            &extended(
                "UPDATE saved SET tenant = $1, v = $2 WHERE id = $3",
                &[20, 20, 20],
                &values,
            ),
        );
        assert!(
            told.contains(&"CommandComplete UPDATE 1".into()),
            "{told:?}"
        );
    }
    assert_eq!(
        say(&mut wire, &save(a, 8, 99))[0],
        "CommandComplete UPDATE 0"
    );
    let before = [format!("1|{a}|7"), format!("2|{b}|7"), format!("3|{c}|7")];
    assert_eq!(stored(), before);
    // Rows would have to move.
    let moves = "Error 0A000 this UPDATE of the shard key may lead a row to another shard";
    for sql in [
        save(b, 9, 1),
        format!("{} RETURNING *", save(b, 9, 1)),
        format!("UPDATE saved SET tenant = {a}, v = 9"),
    ] {
        for told in [say(&mut wire, &sql), by_parse(&mut wire, &sql)] {
            assert!(told.iter().any(|line| line == moves), "{sql}: {told:?}");
        }
        say(&mut wire, "BEGIN");
        say(&mut wire, &save(c, 9, 3));
        let told = say(&mut wire, &sql);
        assert!(told.iter().any(|line| line == moves), "{sql}: {told:?}");
        assert_eq!(say(&mut wire, "COMMIT")[0], "CommandComplete ROLLBACK");
    }
    let analyzed = say(&mut wire, &format!("EXPLAIN ANALYZE {}", save(b, 9, 1)));
    assert!(analyzed[0].starts_with("Error 0A000"), "{analyzed:?}");
    assert_eq!(stored(), before);
    // Another key of the same shard is found there.
    assert_eq!(
        say(&mut wire, &save(near, 7, 1))[0],
        "CommandComplete UPDATE 1"
    );
    assert_eq!(
        one(
            &mut wire,
            &format!("SELECT id FROM saved WHERE tenant = {near}")
        ),
        "1"
    );
    stage.assert_nothing_prepared();
}
