//! CREATE TABLE AS and SELECT INTO of queries over several shards. The rows are gathered, and the table is created on the
//! home shard.

use super::gathered::{STATEMENTS, compare};
use super::stage::{Stage, extended, one, say, send};

/// Query for the columns of the table "made": name, type and collation.
const COLUMNS: &str = "SELECT attname, format_type(atttypid, atttypmod), \
    (SELECT collname FROM pg_collation c WHERE c.oid = attcollation) \
    FROM pg_attribute WHERE attrelid = 'made'::regclass AND attnum > 0 ORDER BY attnum";

/// The answer to the CREATE, then the columns and rows of the table "made", then the answer to its DROP. Of a failed CREATE
/// only the error.
fn created_and_read(wire: &mut mothership_tests::Wire, create: Vec<String>) -> Vec<String> {
    let mut said = create;
    if said.iter().any(|line| line.starts_with("Error")) {
        // The router may find the error at another message than PostgreSQL: while it gathers the rows, or while it stores
        // them. So only the error is compared.
        said.retain(|line| line.starts_with("Error"));
        return said;
    }
    for text in [COLUMNS, "SELECT * FROM made", "DROP TABLE made"] {
        said.extend(say(wire, text));
    }
    said
}

#[test]
#[ignore = "long"]
fn a_table_made_of_a_query_has_its_columns_and_rows() {
    compare(STATEMENTS, |wire, sql| {
        let create = say(wire, &format!("CREATE TABLE made AS {sql}"));
        created_and_read(wire, create)
    });
}

#[test]
#[ignore = "long"]
fn a_table_made_of_a_query_in_the_extended_protocol_has_its_columns_and_rows() {
    compare(STATEMENTS, |wire, sql| {
        let sql = format!("CREATE TABLE made AS {sql}");
        let create = send(wire, &extended(&sql, &[], &[]));
        created_and_read(wire, create)
    });
}

#[test]
#[ignore = "long"]
fn every_form_of_create_table_as_and_select_into_works() {
    let statements = [
        "CREATE TABLE made (a, \"B\") WITH (fillfactor = 70) AS SELECT id, name FROM people ORDER BY id WITH NO DATA",
        "CREATE UNLOGGED TABLE IF NOT EXISTS public.made AS (SELECT name, count(*) FROM people GROUP BY name ORDER BY 1) WITH DATA;",
        "CREATE TABLE made AS WITH c AS (SELECT person FROM orders) SELECT p.name, c.person FROM people p JOIN c ON c.person = p.id + 1 ORDER BY p.id, c.person",
        "CREATE TABLE made AS SELECT id, age FROM people WHERE id = 5",
        "CREATE TABLE made AS TABLE kinds",
        "SELECT id, name INTO made FROM people ORDER BY id",
        "SELECT p.id, k.label INTO UNLOGGED TABLE \"made\" FROM people p LEFT JOIN kinds k ON k.id = p.age ORDER BY p.id",
        "CREATE TABLE made AS SELECT id, nothing FROM people",
        "SELECT id, nothing INTO made FROM people ORDER BY id",
        "CREATE TABLE made AS SELECT id, id FROM people",
    ];
    compare(&statements, |wire, sql| {
        let create = say(wire, sql);
        created_and_read(wire, create)
    });
    compare(&statements[..8], |wire, sql| {
        let create = send(wire, &extended(sql, &[], &[]));
        created_and_read(wire, create)
    });
}

#[test]
fn an_existing_table_is_not_changed() {
    let texts = "CREATE TABLE made AS SELECT id FROM people ORDER BY id LIMIT 3|CREATE TABLE IF NOT EXISTS made AS SELECT age FROM people|\
        CREATE TABLE made AS SELECT age FROM people|SELECT * FROM made|DROP TABLE made";
    compare(&[texts], |wire, texts| {
        texts.split('|').flat_map(|sql| say(wire, sql)).collect()
    });
}

#[test]
fn it_is_made_in_the_transaction_or_not_at_all() {
    let stage = Stage::new();
    stage.fill(1..=20);
    let mut wire = stage.wire();
    let there = "SELECT count(*) FROM pg_class WHERE relname LIKE 'made%'";
    say(&mut wire, "BEGIN");
    say(
        &mut wire,
        "INSERT INTO items SELECT id + 100, v, note FROM items",
    );
    let create = "CREATE TABLE made AS SELECT id, v FROM items ORDER BY id";
    assert_eq!(say(&mut wire, create)[0], "CommandComplete SELECT 40");
    assert_eq!(one(&mut wire, there), "1");
    say(&mut wire, "ROLLBACK");
    assert_eq!(one(&mut wire, there), "0");
    let fails = "CREATE TABLE made AS SELECT id, 1 / (id - 7) FROM items";
    assert!(say(&mut wire, fails)[0].starts_with("Error 22012"));
    assert_eq!(one(&mut wire, there), "0");
    let text =
        "CREATE TABLE made AS SELECT count(*) AS n FROM items; SELECT n FROM made; DROP TABLE made";
    let said = say(&mut wire, text);
    assert!(said.contains(&"DataRow 20".to_owned()), "{said:?}");
    // A temporary table belongs to the session.
    let temporary = "CREATE TEMP TABLE made_too AS SELECT id FROM items WHERE v > 10 ORDER BY id";
    assert_eq!(say(&mut wire, temporary)[0], "CommandComplete SELECT 15");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM made_too"), "15");
    let mut wire = stage.wire();
    let into = "SELECT note, count(*) AS n INTO TEMP made_three FROM items GROUP BY note";
    assert_eq!(say(&mut wire, into)[0], "CommandComplete SELECT 20");
    assert_eq!(one(&mut wire, "SELECT sum(n) FROM made_three"), "20");
    // A materialized view, declared tables as the target (accounts, kinds), and EXECUTE as the query are refused.
    for refused in [
        "CREATE MATERIALIZED VIEW seen AS SELECT count(*) FROM items",
        "CREATE TABLE accounts AS SELECT id, v AS balance FROM items",
        "CREATE TABLE kinds AS SELECT id FROM items",
        "CREATE TABLE run AS EXECUTE prepared(1)",
    ] {
        let said = say(&mut stage.wire(), refused);
        assert!(said[0].starts_with("Error 0A000"), "{refused}: {said:?}");
    }
    drop(wire);
    stage.assert_nothing_prepared();
}
