//! Writes within WITH over several shards: what they return goes to the other parts, what they change does not.

use super::gathered::compare_writes;
use super::stage::{Stage, extended, say, send};

const TABLES: &str = r#"
[[table]]
name = "items"
key = ["id"]
key_type = ["int8"]
[[table]]
name = "parts"
key = ["item"]
key_type = ["int8"]
colocate = "items"
[[table]]
name = "names"
kind = "reference"
[[table]]
name = "old"
key = ["id"]
key_type = ["int8"]
"#;

/// Writes whose tables are compared after each.
const WRITES: &[&str] = &[
    "WITH d AS (DELETE FROM orders WHERE kind = 1 RETURNING *) SELECT * FROM d",
    "WITH d AS (DELETE FROM orders WHERE kind = 2 RETURNING person, amount * 2 AS twice) SELECT count(*), sum(twice), min(person) FROM d",
    "WITH d AS (UPDATE people SET age = age + 1 WHERE age > 20 RETURNING *) SELECT d.id, d.age, d.tags, d.feels, d.code, d.s, p.age AS before FROM d JOIN people p ON p.id = d.id",
    "WITH d AS (UPDATE people p SET name = 'within' WHERE id < 9 RETURNING p.id, p.*) SELECT 1",
    "WITH d AS (UPDATE people p SET name = name || '.' WHERE id < 9) SELECT name FROM people WHERE id < 12 ORDER BY id",
    "WITH d (a, b) AS (UPDATE people AS p SET age = 3 WHERE id < 5 RETURNING p.id, p) SELECT a, (b).name, b IS NULL FROM d ORDER BY a",
    "WITH d AS (UPDATE people SET money = DEFAULT WHERE id IN (1, 2, 3) RETURNING id, money, code), c AS (SELECT count(*) AS n FROM people WHERE money IS NULL) SELECT d.*, c.n FROM d, c ORDER BY id LIMIT 2",
    "WITH d AS (DELETE FROM orders WHERE kind = 3 RETURNING *) INSERT INTO people (id, age, money, seen) SELECT id + 500 + person * 1000, kind, amount, at FROM d",
    "WITH d AS (DELETE FROM orders WHERE kind = 0 RETURNING person, amount, at) INSERT INTO people (id, money, seen) SELECT person + 20000, sum(amount), max(at) FROM d GROUP BY person RETURNING id, money",
    "WITH d AS (DELETE FROM orders WHERE id = 2 RETURNING person) UPDATE people SET age = -1 FROM d WHERE people.id = d.person RETURNING people.id, people.age",
    "WITH d AS (DELETE FROM orders WHERE id = 3 RETURNING person + 1 AS next) DELETE FROM people WHERE id IN (SELECT next FROM d) AND id > 25 RETURNING id",
    "WITH n AS (INSERT INTO notes (id, body) VALUES (7001, 'a'), (7002, 'b') RETURNING *) SELECT n.id, p.id FROM n JOIN people p ON p.id = n.id - 7000",
    "WITH n AS (DELETE FROM notes WHERE id < 3 RETURNING *) INSERT INTO people (id, name) SELECT id + 30000, body FROM n",
    "WITH n AS (UPDATE notes SET body = 'w' WHERE id < 9 RETURNING id, person) SELECT p.name, n.id FROM people p LEFT JOIN n ON n.person = p.id ORDER BY p.id, n.id",
    "WITH d AS (DELETE FROM orders WHERE person < 4 RETURNING *) INSERT INTO notes SELECT person + 40000 + id * 10, person, kind::text FROM d",
    "WITH d AS (UPDATE people SET name = 'two' WHERE id < 7 RETURNING id), e AS (DELETE FROM orders WHERE person < 7 RETURNING person, id) SELECT d.id, e.id FROM d LEFT JOIN e ON e.person = d.id",
    "WITH d AS (UPDATE people SET name = 'three' WHERE id < 7 RETURNING id), e AS (DELETE FROM notes WHERE id > 5 AND id < 9 RETURNING id) UPDATE orders SET kind = 9 FROM d, e WHERE orders.person = d.id + 1 AND e.id = 6",
    "WITH d AS (DELETE FROM orders o USING people p WHERE p.id = o.person AND p.age > 30 RETURNING o.id, o.person) SELECT count(*) FROM d",
    "WITH k AS (SELECT id FROM kinds WHERE id < 3), d AS (UPDATE orders SET amount = 0 WHERE kind = 5 RETURNING kind, id) SELECT d.id, (SELECT max(id) FROM k), (SELECT count(*) FROM kinds) FROM d",
    "WITH d AS (DELETE FROM orders WHERE false RETURNING *) SELECT count(*) FROM d",
    "WITH d AS (DELETE FROM orders WHERE person = 11 RETURNING *) SELECT person FROM d",
    "WITH d AS (UPDATE people SET age = (now() IS NULL)::int WHERE id < 4 RETURNING now() = transaction_timestamp() AS same) SELECT same, now() IS NULL FROM d",
    // Each copy of a reference table is changed, and one of them tells.
    "WITH k AS (UPDATE kinds SET label = label || '+' WHERE id < 4 RETURNING *) SELECT k.id, k.label, n.label AS before FROM k JOIN kinds n ON n.id = k.id",
    "WITH k AS (DELETE FROM kinds WHERE id = 5 RETURNING id) SELECT o.id, k.id FROM orders o JOIN k ON k.id = o.kind",
    "WITH k AS (INSERT INTO kinds VALUES (50, 'fifty'), (51, now()::date::text) ON CONFLICT (id) DO NOTHING RETURNING id) SELECT count(*), min(id) FROM k",
    "WITH k AS (UPDATE kinds SET label = 'k' WHERE id < 3 RETURNING id) UPDATE people SET age = -2 FROM k WHERE people.id = k.id RETURNING people.id",
    "WITH k AS (DELETE FROM kinds WHERE id = 51 RETURNING *) INSERT INTO notes (id, body) SELECT id + 60000, label FROM k",
    "WITH d AS (DELETE FROM orders WHERE person = 13 RETURNING kind) DELETE FROM kinds WHERE id IN (SELECT kind + 3 FROM d) RETURNING id",
    "WITH d AS (DELETE FROM orders WHERE person = 14 RETURNING kind, id) INSERT INTO kinds SELECT id + 70000, 'of ' || kind FROM d",
    "WITH d AS (UPDATE people SET age = 7 WHERE id < 4 RETURNING id) UPDATE kinds SET label = label || '?' WHERE id IN (SELECT id FROM d)",
    "WITH k AS (UPDATE kinds SET label = 'nobody asks' WHERE id = 1) SELECT count(*) FROM people",
    "UPDATE kinds SET label = kinds.label || '!' FROM orders o WHERE o.kind = kinds.id",
    "UPDATE kinds k SET label = 'x' || k.label WHERE EXISTS (SELECT FROM people p WHERE p.age = k.id)",
    "WITH k AS (UPDATE kinds SET label = 1 / (id - 2)) SELECT 1",
    // Rows that are listed are stored each on its shard.
    "WITH i AS (INSERT INTO people (id, age, seen) VALUES (80001, 1, NULL), (80002, DEFAULT, '2020-01-01 00:00+00'::timestamptz + (now() - now())), (80003, 1 + 2, NULL) RETURNING id, age, seen < now() AS before) SELECT * FROM i ORDER BY id",
    "WITH i AS (INSERT INTO people AS p (id, age) VALUES (80004, 1), (1, 2), (80005, 3), (80006, 4) ON CONFLICT (id) DO NOTHING RETURNING p.id * 2 AS twice) SELECT count(*), min(twice) FROM i",
    "WITH i AS (INSERT INTO people (id, age) VALUES (2, 77), (80007, 78), (3, 79) ON CONFLICT (id) DO UPDATE SET age = excluded.age RETURNING *) SELECT i.id, i.age, p.age AS before FROM i LEFT JOIN people p ON p.id = i.id ORDER BY 1",
    "WITH i AS (INSERT INTO people (id, name) VALUES (80008, 'a'), (80009, 'b') RETURNING id, name) INSERT INTO orders (id, person, kind) SELECT 9000, id, length(name) FROM i RETURNING person, kind",
    "WITH i AS (INSERT INTO people (id) VALUES (80010), (80011), (80012)), j AS (INSERT INTO orders (id, person) VALUES (9001, 80010), (9001, 80013)) SELECT count(*) FROM people",
    "WITH i AS (INSERT INTO people (id) VALUES (80014), (80015) RETURNING id) INSERT INTO notes (id, person) SELECT id, id FROM i",
    "WITH i AS (INSERT INTO people (id, age) VALUES (80016, 5), (80017, 5) RETURNING *) UPDATE orders SET amount = 5 FROM i WHERE orders.kind = i.age",
    "WITH d AS (DELETE FROM orders WHERE kind = 4 RETURNING *), i AS (INSERT INTO people (id) VALUES (80018), (80019), (80020)) SELECT count(*) FROM d",
    "WITH i AS (INSERT INTO people (id) VALUES (80021), (80021) ON CONFLICT (id) DO UPDATE SET age = 1 RETURNING id) SELECT count(*) FROM i, orders",
    "WITH i AS (INSERT INTO people (id) VALUES (80022), (1), (80023), (80024) RETURNING id) SELECT count(*) FROM i, orders",
    "WITH i AS (INSERT INTO people (id, age) VALUES (80025, 1), (80026), (80027) RETURNING id) SELECT count(*) FROM i, orders",
    // Errors leave everything as it was, also of what nobody reads.
    "WITH d AS (DELETE FROM orders WHERE person < 20 RETURNING 1 / (person - 5)) SELECT 1",
    "WITH d AS (UPDATE people SET age = 1 / (id - 5) RETURNING id) SELECT 1",
    "WITH d AS (DELETE FROM orders RETURNING *) SELECT 1 / (person - person) FROM d",
    "WITH d AS (DELETE FROM orders RETURNING *) INSERT INTO people (id) SELECT person FROM d",
    "WITH d AS (DELETE FROM orders) SELECT * FROM d",
];

#[test]
fn a_write_within_with_is_seen_by_what_it_returns_alone() {
    compare_writes(WRITES, say);
}

#[test]
fn so_it_is_in_the_extended_protocol() {
    compare_writes(WRITES, |wire, sql| send(wire, &extended(sql, &[], &[])));
}

#[test]
fn writes_that_could_notice_each_other_are_refused() {
    let stage = Stage::bare(TABLES);
    let mut wire = stage.wire();
    for sql in [
        "CREATE TABLE items (id int8 PRIMARY KEY, v int)",
        "CREATE TABLE parts (item int8 REFERENCES items (id) ON DELETE CASCADE, no int, PRIMARY KEY (item, no))",
        "CREATE TABLE old (id int8 PRIMARY KEY, v int)",
        "CREATE TABLE names (id int8 PRIMARY KEY, name text)",
        "INSERT INTO items SELECT g, g FROM generate_series(1, 9) g",
        "INSERT INTO parts SELECT g, 1 FROM generate_series(1, 9) g",
    ] {
        let said = say(&mut wire, sql);
        assert!(said[0].starts_with("CommandComplete"), "{sql}: {said:?}");
    }
    let refused = [
        // PostgreSQL counts 9 parts; after their items they would be gone.
        "WITH i AS (DELETE FROM items RETURNING id) DELETE FROM parts WHERE item > 0",
        "WITH i AS (DELETE FROM items RETURNING *) INSERT INTO items SELECT id + 100, v FROM i",
        "WITH i AS (DELETE FROM items WHERE id IN (SELECT id FROM old) RETURNING id), o AS (DELETE FROM old RETURNING id) SELECT 1",
        "WITH i AS (UPDATE items SET v = random() * 10 RETURNING id) SELECT * FROM i",
        "WITH n AS (UPDATE names SET name = i.v::text FROM items i WHERE i.id = names.id RETURNING 1) SELECT count(*) FROM n",
        "WITH n AS (UPDATE names SET name = random()::text RETURNING name) SELECT name FROM n",
        "WITH i AS (DELETE FROM items WHERE id = 1 RETURNING v) UPDATE names SET name = i.v::text FROM i",
        "UPDATE names SET name = i.v::text FROM items i WHERE i.id > names.id",
        "WITH p AS (INSERT INTO parts SELECT 1, 2) INSERT INTO items SELECT 50, 1",
        "WITH i AS (INSERT INTO items SELECT id + 50, v FROM old RETURNING id) SELECT count(*) FROM i",
        "WITH i AS (INSERT INTO items VALUES (50, (SELECT count(*) FROM names)), (51, 1), (52, 1) RETURNING id) SELECT * FROM i",
        // Where the rows are there is no such CTE, and there may be a table.
        "WITH old AS (SELECT 3 AS id), i AS (DELETE FROM items USING old WHERE items.v = old.id RETURNING items.id) SELECT * FROM i",
        "WITH x AS (SELECT 3 AS id), i AS (UPDATE items SET v = x.id FROM x RETURNING items.id) SELECT count(*) FROM i",
        "WITH x AS (SELECT 3 AS id), i AS (DELETE FROM items WHERE v IN (SELECT id FROM x) RETURNING id) SELECT count(*) FROM i",
    ];
    for sql in refused {
        let said = say(&mut wire, sql);
        assert!(said[0].starts_with("Error 0A000"), "{sql}: {said:?}");
    }
    let moved =
        "WITH i AS (DELETE FROM items WHERE id > 3 RETURNING *) INSERT INTO old SELECT * FROM i";
    assert_eq!(say(&mut wire, moved)[0], "CommandComplete INSERT 0 6");
    assert_eq!(
        say(
            &mut wire,
            "SELECT (SELECT count(*) FROM parts), (SELECT sum(v) FROM old)"
        )[1],
        "DataRow 3 39"
    );
    // A parent and its children, in the order that foreign keys want.
    let both = "WITH i AS (INSERT INTO items VALUES (60, 1), (61, 2), (62, 3) RETURNING id) INSERT INTO parts SELECT id, 7 FROM i";
    assert_eq!(say(&mut wire, both)[0], "CommandComplete INSERT 0 3");
    let orphan = "WITH i AS (INSERT INTO items VALUES (63, 1), (64, 2), (65, 3) RETURNING id) INSERT INTO parts SELECT id + 1, 7 FROM i";
    let said = say(&mut wire, orphan);
    assert!(said[0].starts_with("Error 23503"), "{said:?}");
    let counts = "SELECT (SELECT count(*) FROM items), (SELECT count(*) FROM parts)";
    assert_eq!(say(&mut wire, counts)[1], "DataRow 6 6");
    stage.assert_nothing_prepared();
}

#[test]
fn explain_shows_each_shard_the_rows_that_it_would_store() {
    let stage = Stage::bare(TABLES);
    let mut wire = stage.wire();
    say(&mut wire, "CREATE TABLE items (id int8 PRIMARY KEY, v int)");
    let insert = "WITH i AS (INSERT INTO items VALUES (1, 101), (2, 102), (3, 103), (4, 104), (5, 105) RETURNING id) SELECT count(*) FROM i";
    let route = say(&mut wire, &format!("EXPLAIN (ROUTE) {insert}")).join("\n");
    let plans = say(&mut wire, &format!("EXPLAIN (VERBOSE) {insert}")).join("\n");
    for value in 101..=105 {
        let times = |text: &str| text.matches(&format!("({value})")).count();
        assert_eq!((times(&route), times(&plans)), (1, 1), "{route}\n{plans}");
    }
    assert_eq!(say(&mut wire, "SELECT count(*) FROM items")[1], "DataRow 0");
}

#[test]
fn a_key_that_is_cut_off_where_it_is_stored_is_refused() {
    let stage = Stage::bare("[tables]\ndefault = \"auto\"\nkey_updates = \"move\"\n");
    let mut wire = stage.wire();
    let made = say(
        &mut wire,
        "CREATE TABLE words (word varchar(3) PRIMARY KEY, n int)",
    );
    assert!(made[0].starts_with("CommandComplete"), "{made:?}");
    let words: Vec<String> = ('a'..='l')
        .map(|letter| format!("{letter}{letter}"))
        .collect();
    for word in &words {
        for longer in [
            format!("INSERT INTO words VALUES ('{word}  ', 1)"),
            format!(
                "WITH i AS (INSERT INTO words VALUES ('{word}  ', 1) RETURNING word) SELECT word FROM i"
            ),
            format!(
                "WITH i AS (INSERT INTO words VALUES ('{word}  ', 1), ('zz', 1), ('yy', 1) RETURNING word) SELECT word FROM i"
            ),
        ] {
            let said = say(&mut wire, &longer);
            assert!(said[0].starts_with("Error 0A000"), "{longer}: {said:?}");
        }
        let fits = format!(
            "WITH i AS (INSERT INTO words VALUES ('{word} ', 1) RETURNING word) SELECT n FROM words, i"
        );
        let said = say(&mut wire, &fits);
        assert_eq!(
            said.last().map(String::as_str),
            Some("ReadyForQuery I"),
            "{said:?}"
        );
        let moved = format!("UPDATE words SET word = '{word}  ' WHERE word = '{word} '");
        say(&mut wire, &moved);
    }
    // Each lies where its key leads.
    for word in &words {
        for key in [format!("{word} "), word.clone()] {
            let by_key = say(
                &mut wire,
                &format!("SELECT count(*) FROM words WHERE word = '{key}'"),
            );
            let by_all = say(
                &mut wire,
                &format!("SELECT count(*) FROM words WHERE word || '' = '{key}'"),
            );
            assert_eq!(by_key, by_all, "{key:?}");
        }
    }
    assert_eq!(
        say(&mut wire, "SELECT count(*) FROM words")[1],
        "DataRow 12"
    );
}

#[test]
fn and_prepared_by_sql() {
    compare_writes(WRITES, |wire, sql| {
        let mut said = say(wire, &format!("PREPARE p AS {sql}"));
        said.extend(say(wire, "EXECUTE p"));
        // Of EXECUTE PostgreSQL describes rows when there are some.
        let failed = said.iter().any(|line| line.starts_with("Error"));
        said.retain(|line| !(failed && line.starts_with("RowDescription")));
        say(wire, "DEALLOCATE ALL");
        said
    });
}
