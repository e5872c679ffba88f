//! Definitions that an open transaction has changed: its own statements are planned by them, nobody else's are.

use super::stage::{Stage, extended, one, one_each, say, segment, send};
use mothership_tests::Wire;

const AUTO: &str = "[tables]\ndefault = \"auto\"\n";

/// Says it and expects no error.
fn done(wire: &mut Wire, sql: &str) -> Vec<String> {
    let said = say(wire, sql);
    assert!(
        !said.iter().any(|line| line.starts_with("Error")),
        "{sql}: {said:?}"
    );
    said
}

#[test]
fn a_table_is_made_changed_and_used_in_one_transaction() {
    let stage = Stage::bare(AUTO);
    let mut wire = stage.wire();
    for sql in [
        "BEGIN",
        "CREATE TABLE things (id int8 PRIMARY KEY, v int8)",
        "ALTER TABLE things ADD COLUMN note text DEFAULT 'n'",
        "CREATE INDEX things_v ON things (v)",
        "CREATE VIEW seen AS SELECT id, v FROM things WHERE v > 10",
        "INSERT INTO things (id, v) SELECT g, g FROM generate_series(1, 30) g",
    ] {
        done(&mut wire, sql);
    }
    assert_eq!(one(&mut wire, "SELECT count(*) FROM seen"), "20");
    assert_eq!(
        one(&mut wire, "SELECT sum(v) FROM things WHERE note = 'n'"),
        "465"
    );
    let [a, ..] = one_each();
    let found = send(
        &mut wire,
        &extended(
            "SELECT v FROM things WHERE id = $1",
            &[20],
            &[&a.to_string()],
        ),
    );
    assert!(found.contains(&format!("DataRow {a}")), "{found:?}");
    done(&mut wire, "COMMIT");
    assert_eq!(stage.ids("things"), (1..=30).collect::<Vec<_>>());
    let same = "to_regclass('things_v') IS NOT NULL AND to_regclass('seen') IS NOT NULL";
    assert_eq!(stage.shards.sql_all(&format!("SELECT {same}")), ["t"; 3]);
    assert_eq!(one(&mut stage.wire(), "SELECT count(*) FROM seen"), "20");
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}

/// Servers keep the router's question for definitions as a prepared statement, which may be gone by the next transaction.
#[test]
fn what_was_prepared_may_be_dropped_between_transactions() {
    let stage = Stage::bare(AUTO);
    let mut wire = stage.wire();
    done(
        &mut wire,
        "CREATE FUNCTION drops() RETURNS void LANGUAGE plpgsql AS 'BEGIN DEALLOCATE ALL; END'",
    );
    let hidden = "SELECT drops()";
    let all = ["", hidden, "DISCARD ALL", "DEALLOCATE ALL", ""];
    for (number, drops) in all.iter().enumerate() {
        done(&mut wire, "BEGIN");
        for name in ["a", "b", "c"] {
            let table = format!("made_{number}_{name}");
            done(
                &mut wire,
                &format!("CREATE TABLE {table} (id int8 PRIMARY KEY)"),
            );
            done(
                &mut wire,
                &format!("INSERT INTO {table} SELECT generate_series(1, 9)"),
            );
            let count = one(&mut wire, &format!("SELECT count(*) FROM {table}"));
            assert_eq!(count, "9", "{table}");
        }
        done(&mut wire, "SAVEPOINT s");
        assert!(say(&mut wire, "SELECT 1 / 0")[0].starts_with("Error 22012"));
        done(&mut wire, "ROLLBACK TO s");
        if *drops == hidden {
            done(&mut wire, hidden);
        }
        done(&mut wire, "CREATE TABLE last (id int8 PRIMARY KEY)");
        assert_eq!(one(&mut wire, "SELECT count(*) FROM public.last"), "0");
        done(&mut wire, "DROP TABLE last");
        done(&mut wire, "COMMIT");
        done(&mut wire, drops);
    }
    stage.assert_nothing_open();
}

/// What the router reads for itself is not planned by the client's settings, and changes none of them.
#[test]
fn settings_of_a_transaction_stay_while_its_definitions_are_read() {
    let stage = Stage::bare(AUTO);
    let mut wire = stage.wire();
    for sql in [
        "SET statement_timeout = '17s'",
        "BEGIN",
        "SET LOCAL enable_indexscan = off",
        "SET search_path = public, pg_catalog",
        "CREATE TABLE things (id int8 PRIMARY KEY, v int8)",
        "INSERT INTO things (id, v) SELECT g, g FROM generate_series(1, 30) g",
    ] {
        done(&mut wire, sql);
    }
    for (setting, value) in [
        ("statement_timeout", "17s"),
        ("enable_indexscan", "off"),
        ("enable_seqscan", "on"),
        ("search_path", "public, pg_catalog"),
        ("lock_timeout", "0"),
    ] {
        assert_eq!(one(&mut wire, "SELECT count(*) FROM things"), "30");
        assert_eq!(one(&mut wire, &format!("SHOW {setting}")), value);
    }
}

#[test]
fn a_table_is_made_changed_and_used_in_one_text() {
    let stage = Stage::bare(AUTO);
    let mut wire = stage.wire();
    let text = "CREATE SCHEMA shop; CREATE TABLE shop.things (id serial PRIMARY KEY, v int8); \
        ALTER TABLE shop.things ADD COLUMN note text; CREATE INDEX things_note ON shop.things (note); \
        INSERT INTO shop.things (v) VALUES (1), (2), (3); SELECT count(*), sum(id) FROM shop.things; \
        COMMIT; SELECT max(v) FROM shop.things";
    let said = done(&mut wire, text);
    assert!(said.contains(&"DataRow 3 6".into()), "{said:?}");
    assert!(said.contains(&"DataRow 3".into()), "{said:?}");
    let same =
        "SELECT to_regclass('shop.things_note') IS NOT NULL AND count(note) = 0 FROM shop.things";
    assert_eq!(stage.shards.sql_all(same), ["t"; 3]);
    // The home shard is asked about definitions behind what it says of the transaction.
    let text = "CREATE TABLE notes (v int8); INSERT INTO notes VALUES (1), (2); \
        CREATE TABLE marks (id int8 PRIMARY KEY); INSERT INTO marks VALUES (1), (2), (3); \
        CREATE TABLE pages (v int8); SELECT count(*) FROM marks";
    let said = done(&mut wire, text);
    assert!(said.contains(&"DataRow 3".into()), "{said:?}");
    stage.assert_nothing_prepared();
}

#[test]
fn what_is_undone_is_not_planned_by() {
    let stage = Stage::bare(AUTO);
    let mut wire = stage.wire();
    done(
        &mut wire,
        "CREATE TABLE things (id int8 PRIMARY KEY, v int8)",
    );
    let [a, b, c] = one_each();
    done(
        &mut wire,
        &format!("INSERT INTO things VALUES ({a}, 1), ({b}, 2), ({c}, 3)"),
    );
    done(&mut wire, "BEGIN");
    done(&mut wire, "SAVEPOINT s");
    done(
        &mut wire,
        "ALTER TABLE things ADD COLUMN extra int8 DEFAULT 7",
    );
    assert_eq!(wire.rows("SELECT * FROM things ORDER BY id")[0].len(), 3);
    done(&mut wire, "ROLLBACK TO s");
    assert_eq!(wire.rows("SELECT * FROM things ORDER BY id")[0].len(), 2);
    done(&mut wire, "DROP TABLE things");
    // Of another key, and then without any.
    done(
        &mut wire,
        "CREATE TABLE things (v int8, id int8 PRIMARY KEY)",
    );
    done(
        &mut wire,
        &format!("INSERT INTO things VALUES ({c}, {a}), ({b}, {b})"),
    );
    assert_eq!(
        one(&mut wire, &format!("SELECT v FROM things WHERE id = {a}")),
        c.to_string()
    );
    done(&mut wire, "DROP TABLE things");
    done(&mut wire, "CREATE TABLE things (id int8, v int8)");
    done(&mut wire, "INSERT INTO things VALUES (1, 1)");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM things"), "1");
    done(&mut wire, "ROLLBACK");
    assert_eq!(one(&mut wire, "SELECT sum(v) FROM things"), "6");
    assert_eq!(one(&mut stage.wire(), "SELECT sum(v) FROM things"), "6");
    stage.assert_nothing_prepared();
}

#[test]
fn others_plan_by_what_is_committed() {
    let stage = Stage::bare(AUTO);
    let (mut wire, mut other) = (stage.wire(), stage.wire());
    done(
        &mut wire,
        "CREATE TABLE things (id int8 PRIMARY KEY, v int8)",
    );
    done(&mut other, "CREATE TABLE more (id int8 PRIMARY KEY)");
    done(&mut wire, "BEGIN");
    done(&mut wire, "CREATE TABLE mine (id int8 PRIMARY KEY)");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM mine"), "0");
    // What others make meanwhile is known as well.
    done(&mut other, "CREATE TABLE theirs (id int8 PRIMARY KEY)");
    done(
        &mut other,
        "INSERT INTO theirs SELECT generate_series(1, 12)",
    );
    assert_eq!(one(&mut wire, "SELECT count(*) FROM theirs"), "12");
    let unknown = say(&mut other, "SELECT count(*) FROM mine");
    assert!(unknown[0].starts_with("Error 42P01"), "{unknown:?}");
    done(&mut wire, "COMMIT");
    assert_eq!(one(&mut other, "SELECT count(*) FROM mine"), "0");
}

#[test]
fn values_of_a_sequence_come_from_the_transaction_that_has_made_it() {
    let stage = Stage::bare(AUTO);
    let mut wire = stage.wire();
    done(&mut wire, "BEGIN");
    done(
        &mut wire,
        "CREATE TABLE things (id serial PRIMARY KEY, v int8)",
    );
    let said = done(
        &mut wire,
        "INSERT INTO things (v) VALUES (10), (20), (30) RETURNING id",
    );
    assert_eq!(said[1..4], ["DataRow 1", "DataRow 2", "DataRow 3"]);
    let said = send(
        &mut wire,
        &extended(
            "INSERT INTO things (v) VALUES ($1) RETURNING id",
            &[20],
            &["40"],
        ),
    );
    assert!(said.contains(&"DataRow 4".into()), "{said:?}");
    done(&mut wire, "COMMIT");
    // The next one is another one, whoever asks.
    done(&mut wire, "INSERT INTO things (v) VALUES (50)");
    assert_eq!(stage.ids("things"), [1, 2, 3, 4, 5]);
    stage.assert_nothing_prepared();
}

/// See also `a_change_in_an_open_transaction_holds_up_nobody`.
#[test]
fn what_cannot_be_read_is_refused() {
    let stage = Stage::bare(AUTO);
    let mut wire = stage.wire();
    // The snapshot of the transaction would show definitions that its statements do not run by.
    done(&mut wire, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    done(&mut wire, "CREATE TABLE things (id int8 PRIMARY KEY)");
    for sql in ["CREATE INDEX ON things (id)", "SELECT count(*) FROM things"] {
        let refused = say(&mut wire, sql);
        assert!(
            refused[0].starts_with("Error 0A000 definitions of this transaction"),
            "{sql}: {refused:?}"
        );
        done(&mut wire, "ROLLBACK");
        done(&mut wire, "BEGIN ISOLATION LEVEL REPEATABLE READ");
        done(&mut wire, "CREATE TABLE things (id int8 PRIMARY KEY)");
    }
    done(&mut wire, "ROLLBACK");
    // In a pipeline all of it is planned before any of it is answered.
    let said = send(
        &mut wire,
        &segment([
            "CREATE TABLE things (id int8 PRIMARY KEY)",
            "CREATE INDEX ON things (id)",
        ]),
    );
    let refused = |line: &String| line.starts_with("Error 0A000 definitions of this transaction");
    assert!(said.iter().any(refused), "{said:?}");
    assert_eq!(
        stage.shards.sql_all("SELECT to_regclass('things') IS NULL"),
        ["t"; 3]
    );
    // Another transaction has locked what would have to be read.
    done(
        &mut wire,
        "CREATE TABLE locked (id int8 PRIMARY KEY, v int8 CHECK (v > 0))",
    );
    let mut other = stage.wire();
    done(&mut other, "BEGIN");
    done(&mut other, "LOCK TABLE locked");
    done(&mut wire, "BEGIN");
    done(&mut wire, "CREATE TABLE things (id int8 PRIMARY KEY)");
    let said = say(&mut wire, "SELECT count(*) FROM things");
    done(&mut other, "ROLLBACK");
    assert!(said.iter().any(refused), "{said:?}");
    done(&mut wire, "ROLLBACK");
    stage.assert_nothing_prepared();
}

/// What was planned by the old definition would run by the new one.
#[test]
fn what_is_redefined_and_cannot_be_read_is_refused() {
    let stage = Stage::new();
    stage.fill(1..=12);
    let mut wire = stage.wire();
    for sql in [
        "CREATE VIEW seen AS SELECT id, v FROM items",
        "CREATE FUNCTION up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.id := NEW.id + 1000; RETURN NEW; END $$",
        "INSERT INTO kinds VALUES (1, 'a')",
    ] {
        done(&mut wire, sql);
    }
    let cases = [
        (
            "CREATE OR REPLACE VIEW seen AS SELECT max(id) AS id, count(*) AS v FROM items",
            "SELECT * FROM seen",
        ),
        (
            "CREATE OR REPLACE VIEW seen AS SELECT 13 - id AS id, v FROM items",
            "SELECT * FROM seen WHERE id = 1",
        ),
        (
            "CREATE TRIGGER up BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION up()",
            "INSERT INTO items (id) VALUES (101), (102), (103)",
        ),
        (
            "ALTER TABLE kinds ALTER name SET DEFAULT random()::text",
            "INSERT INTO kinds (id) VALUES (2)",
        ),
        (
            "CREATE POLICY own ON items USING (EXISTS (SELECT FROM accounts))",
            "SELECT count(*) FROM items",
        ),
        (
            "ALTER TABLE items ALTER note SET DEFAULT now()::text",
            "INSERT INTO items (id) VALUES (101), (102), (103)",
        ),
    ];
    let is_refused =
        |line: &String| line.starts_with("Error 0A000 definitions of this transaction");
    for (changes, sql) in cases {
        done(&mut wire, "BEGIN ISOLATION LEVEL REPEATABLE READ");
        done(&mut wire, "SELECT count(*) FROM items");
        done(&mut wire, changes);
        let said = say(&mut wire, sql);
        assert!(is_refused(&said[0]), "{changes}; {sql}: {said:?}");
        done(&mut wire, "ROLLBACK");
        let said = send(&mut wire, &segment([changes, sql]));
        assert!(said.iter().any(is_refused), "{changes}; {sql}: {said:?}");
    }
    // Nothing of it is left, and the session goes on.
    assert_eq!(one(&mut wire, "SELECT count(*) FROM seen"), "12");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM kinds"), "1");
    stage.assert_nothing_prepared();
}
