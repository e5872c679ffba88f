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

const UNCLEAR: &str =
    "Error 0A000 a table name in this statement cannot be resolved with certainty";

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
    let unclear = |wire: &mut Wire, sql: &str| {
        let said = say(wire, sql);
        assert_eq!(said[0], UNCLEAR, "{sql}: {said:?}");
    };
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
    done(&mut wire, "CREATE TEMP TABLE few (id int8)");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM accounts"), "0");
    // Of an index the name tells nothing of its table.
    done(&mut wire, "CREATE INDEX items_v ON public.items (v)");
    unclear(&mut wire, "DROP INDEX items_v");
    done(&mut wire, "DROP INDEX public.items_v");
    // Which tables get another name is not looked into.
    done(&mut wire, "ALTER TABLE few RENAME TO others");
    unclear(&mut wire, "SELECT count(*) FROM accounts");
    done(&mut wire, "DISCARD TEMP");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "30");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM accounts"), "0");
}
