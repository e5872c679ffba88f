//! Temporary tables of a session beside sharded tables.

use super::stage::{Stage, one, say};
use mothership_tests::Wire;

fn done(wire: &mut Wire, sql: &str) {
    let said = say(wire, sql);
    assert!(
        !said.iter().any(|line| line.starts_with("Error")),
        "{sql}: {said:?}"
    );
}

/// What users do with a temporary table is done where it is.
#[test]
fn all_that_concerns_a_temporary_table_is_done_at_home() {
    let stage = Stage::new();
    stage.fill(1..=30);
    let mut wire = stage.wire();
    for sql in [
        "CREATE TEMP TABLE few (id serial PRIMARY KEY, v int)",
        "INSERT INTO few (v) VALUES (1), (2)",
        "CREATE INDEX few_v ON few (v)",
        "ALTER TABLE few RENAME COLUMN v TO w",
        "COMMENT ON TABLE few IS 'x'",
        "COMMENT ON COLUMN few.w IS 'x'",
        "ANALYZE few",
        "VACUUM few",
        "REINDEX TABLE few",
        "CLUSTER few USING few_v",
        "GRANT SELECT ON few TO public",
        "CREATE TRIGGER same BEFORE UPDATE ON few FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE STATISTICS few_w ON id, w FROM few",
        "ALTER SEQUENCE few_id_seq RESTART WITH 7",
        "CREATE TEMP SEQUENCE counter",
        "CREATE TEMP VIEW seen AS SELECT id FROM few",
        "SELECT 5 AS five INTO TEMP fifth",
        "CREATE FUNCTION pg_temp.own() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "COMMENT ON FUNCTION pg_temp.own() IS 'x'",
        "DROP FUNCTION pg_temp.own()",
    ] {
        done(&mut wire, sql);
    }
    let next = "INSERT INTO few (w) VALUES (3) RETURNING id";
    assert_eq!(one(&mut wire, next), "7");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM seen"), "3");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "30");
    let both = "SELECT count(*) FROM items JOIN few ON items.id = few.w";
    assert_eq!(one(&mut wire, both), "3");
    done(&mut wire, "ANALYZE items");
    let said = say(&mut wire, "ANALYZE items, few");
    assert!(said[0].starts_with("Error 0A000"), "{said:?}");
    done(&mut wire, "TRUNCATE few");
    done(&mut wire, "DROP TABLE few CASCADE");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "30");
}

/// A column's comment is made where the column is.
#[test]
fn a_column_gets_its_comment() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    done(&mut wire, "CREATE TABLE at_home (v int)");
    for (column, comments) in [
        ("items.note", ["x"; 3]),
        ("public.items.note", ["y"; 3]),
        ("at_home.v", ["x", "", ""]),
        ("public.at_home.v", ["y", "", ""]),
    ] {
        let comment = comments[0];
        done(
            &mut wire,
            &format!("COMMENT ON COLUMN {column} IS '{comment}'"),
        );
        let (table, name) = column
            .trim_start_matches("public.")
            .split_once('.')
            .unwrap();
        let kept = format!(
            "SELECT coalesce((SELECT col_description(attrelid, attnum) FROM pg_attribute \
             WHERE attrelid = to_regclass('{table}') AND attname = '{name}'), '')"
        );
        assert_eq!(stage.shards.sql_all(&kept), comments, "{column}");
    }
}

fn unclear(wire: &mut Wire, sql: &str) {
    let said = say(wire, sql);
    let refused = "Error 0A000 a table name in this statement cannot be resolved with certainty";
    assert_eq!(said[0], refused, "{sql}: {said:?}");
}

#[test]
fn a_temporary_table_makes_no_other_name_unclear() {
    let stage = Stage::new();
    stage.fill(1..=30);
    let mut wire = stage.wire();
    done(&mut wire, "CREATE TEMP TABLE few (id int8, note text)");
    done(&mut wire, "INSERT INTO few VALUES (1, 'a'), (2, 'b')");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "30");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM few"), "2");
    done(&mut wire, "UPDATE items SET note = 'x' WHERE id < 20");
    done(&mut wire, "CREATE INDEX items_note ON items (note)");
    done(
        &mut wire,
        "CREATE TEMP TABLE kept AS SELECT id FROM items WHERE id < 10",
    );
    assert_eq!(one(&mut wire, "SELECT count(*) FROM kept"), "9");
    assert_eq!(
        one(&mut wire, "SELECT count(*) FROM items WHERE note = 'x'"),
        "19"
    );
    let same = "SELECT to_regclass('items_note') IS NOT NULL";
    assert_eq!(stage.shards.sql_all(same), ["t"; 3]);
}

#[test]
fn a_name_that_a_temporary_table_may_have_is_not_certain() {
    let stage = Stage::new();
    stage.fill(1..=30);
    let mut wire = stage.wire();
    done(&mut wire, "BEGIN");
    done(&mut wire, "CREATE TEMP TABLE items (id int8)");
    // Gone, as far as PostgreSQL is concerned, which only its server knows.
    done(&mut wire, "ROLLBACK");
    done(
        &mut wire,
        "CREATE TEMP TABLE items (id int8) ON COMMIT DROP",
    );
    unclear(&mut wire, "SELECT count(*) FROM items");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM public.items"), "30");
    // It is the name of a type as well, that of the table's rows.
    unclear(&mut wire, "SELECT count(*) FROM accounts");
    done(&mut wire, "DISCARD TEMP");
    done(&mut wire, "CREATE TEMP TABLE few (id int8 PRIMARY KEY)");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM accounts"), "0");
    // Of an index the name tells nothing of its table.
    done(&mut wire, "CREATE INDEX items_v ON public.items (v)");
    unclear(&mut wire, "DROP INDEX items_v");
    done(&mut wire, "DROP INDEX public.items_v");
    // Another name of it is another one of its names.
    done(&mut wire, "ALTER TABLE few RENAME TO others");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM accounts"), "0");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM others"), "0");
    done(&mut wire, "DISCARD TEMP");
    done(&mut wire, "CREATE TEMP SEQUENCE accounts");
    unclear(&mut wire, "SELECT count(*) FROM accounts");
    done(&mut wire, "DISCARD TEMP");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "30");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM accounts"), "0");
}

/// What a DO block makes is asked for, so that the session goes on as before.
#[test]
fn code_that_cannot_be_seen_leaves_names_as_certain_as_they_are() {
    let stage = Stage::new();
    stage.fill(1..=30);
    let mut wire = stage.wire();
    let count = "SELECT count(*) FROM items";
    done(&mut wire, "DO 'BEGIN PERFORM 1; END'");
    assert_eq!(one(&mut wire, count), "30");
    done(&mut wire, "ALTER TABLE items ADD COLUMN more int");
    done(&mut wire, "DO 'BEGIN CREATE TEMP TABLE few (id int8); END'");
    assert_eq!(one(&mut wire, count), "30");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM few"), "0");
    done(&mut wire, "CREATE INDEX items_more ON items (more)");
    done(&mut wire, "DISCARD ALL");
    done(&mut wire, "CREATE TEMP TABLE date (id int)");
    unclear(&mut wire, count);
    done(&mut wire, "DISCARD ALL");
    // A type that only its server knows.
    done(&mut wire, "CREATE DOMAIN pg_temp.count AS int");
    unclear(&mut wire, count);
    done(&mut wire, "DISCARD ALL");
    // The path is asked for with the names.
    done(
        &mut wire,
        "DO 'BEGIN SET search_path = pg_catalog, public; END'",
    );
    assert_eq!(one(&mut wire, count), "30");
    done(&mut wire, "DISCARD ALL");
    assert_eq!(one(&mut wire, count), "30");
}
