//! What depends on a whole text, on settings that servers do not tell, or on what a name hides: the answers and what is
//! stored, beside one PostgreSQL.

use super::stage::{Stage, say};
use mothership_tests::{Shards, Wire};

const WORDS: &str = "[[table]]\nname = \"words\"\nkey = [\"id\"]\nkey_type = [\"text\"]\n";

const TABLES: [&str; 5] = [
    "CREATE TABLE items (id int8 PRIMARY KEY, v int8, note text)",
    "CREATE TABLE accounts (id int8 PRIMARY KEY, balance int8 NOT NULL)",
    "CREATE TABLE kinds (id int4 PRIMARY KEY, name text)",
    "CREATE TABLE notes (id int4 PRIMARY KEY, body text)",
    "CREATE TABLE words (id text PRIMARY KEY, n int)",
];

/// Statements are said to both.
struct Pair {
    stage: Stage,
    _plain: Shards,
    wires: [Wire; 2],
}

impl Pair {
    fn new() -> Pair {
        let (stage, plain) = (Stage::with(WORDS), Shards::new(1));
        for table in TABLES {
            plain.sql(0, table);
        }
        let mut routed = stage.wire();
        say(&mut routed, TABLES[4]);
        let wires = [Wire::login(&plain.endpoint(0)), routed];
        Pair {
            stage,
            _plain: plain,
            wires,
        }
    }

    /// Both answer the same.
    fn alike(&mut self, sql: &str) -> Vec<String> {
        let [plain, routed] = self.both(sql);
        assert_eq!(routed, plain, "{sql}");
        routed
    }

    /// The router answers the same, or refuses.
    fn alike_or_refused(&mut self, sql: &str) {
        let [plain, routed] = self.both(sql);
        let is_refused = routed[0].starts_with("Error 0A000");
        assert!(is_refused || routed == plain, "{sql}: {routed:?} {plain:?}");
    }

    fn both(&mut self, sql: &str) -> [Vec<String>; 2] {
        self.wires.each_mut().map(|wire| say(wire, sql))
    }
}

#[test]
fn rows_of_different_lengths_are_one_mistake_of_the_whole() {
    let mut pair = Pair::new();
    for sql in [
        "INSERT INTO items VALUES (1, 1), (2), (3, 1)",
        "INSERT INTO items VALUES (1), (2, 2), (3, 3), (4, 4)",
        "INSERT INTO items (id, v) VALUES (1, 1), (2, 2), (3, 3, 3)",
        "INSERT INTO items (v, id) VALUES (1, 1), (2), (3, 1) RETURNING id",
        "INSERT INTO items (id, v) VALUES (1, 1), (2), (3, 1) ON CONFLICT DO NOTHING",
        "WITH c AS (SELECT 1) INSERT INTO items VALUES (1, 1), (2), (3, 1)",
        "INSERT INTO kinds VALUES (1, 'a'), (2)",
        "INSERT INTO notes VALUES (1, 'a'), (2)",
        "PREPARE p AS INSERT INTO items VALUES ($1, 1), ($2), (3, 1)",
        "EXPLAIN INSERT INTO items VALUES (1, 1), (2), (3, 1)",
    ] {
        let told = pair.alike(sql);
        assert!(told[0].starts_with("Error 42601"), "{sql}: {told:?}");
    }
    for sql in [
        "INSERT INTO items SELECT * FROM (VALUES (1, 1), (2), (3, 1)) v",
        "WITH i AS (INSERT INTO items VALUES (1, 1), (2) RETURNING id) SELECT * FROM i",
        "SELECT * FROM items, (VALUES (1, 1), (2)) v (a, b)",
    ] {
        let [_, told] = pair.both(sql);
        let is_mistake = ["Error 42601", "Error 0A000"].map(|code| told[0].starts_with(code));
        assert!(is_mistake.contains(&true), "{sql}: {told:?}");
    }
    assert_eq!(pair.stage.ids("items"), [] as [i64; 0]);
    assert!(pair.stage.copies("kinds").is_empty());
    pair.stage.assert_nothing_open();
}

#[test]
fn equal_to_null_may_be_is_null() {
    let mut pair = Pair::new();
    pair.alike(
        "INSERT INTO items (id, v) SELECT g, CASE WHEN g % 3 > 0 THEN g END FROM generate_series(1, 30) g",
    );
    pair.alike("INSERT INTO accounts SELECT g, g FROM generate_series(1, 20) g");
    for setting in ["off", "on"] {
        pair.alike(&format!("SET transform_null_equals = {setting}"));
        for sql in [
            "SELECT count(*) FROM items WHERE v = NULL",
            "SELECT id FROM items WHERE (NULL) = v ORDER BY id",
            "SELECT id FROM items WHERE id = 5 AND NULL = NULL",
            "SELECT count(*) FROM items WHERE id = NULL",
            "SELECT a.id FROM items a LEFT JOIN accounts b ON b.id = a.id WHERE b.id = NULL ORDER BY 1",
            "SELECT a.id FROM items a LEFT JOIN accounts b ON b.id = a.id + 5 WHERE b.id = NULL ORDER BY 1",
            "SELECT a.id FROM items a LEFT JOIN accounts b ON b.id = a.id AND b.balance > 5 \
             WHERE b.balance = NULL ORDER BY 1",
            "SELECT count(*) FROM items a LEFT JOIN accounts b ON b.id = a.id AND b.balance > 5 \
             WHERE a.id = 2 AND b.id = NULL",
            "SELECT count(*) FROM items a LEFT JOIN accounts b ON b.id = a.id WHERE NOT (b.id = NULL)",
        ] {
            pair.alike(sql);
        }
        for sql in [
            "DELETE FROM items WHERE id IN \
             (SELECT a.id FROM items a LEFT JOIN accounts b ON b.id = a.id + 5 WHERE b.id = NULL)",
            "DELETE FROM accounts a USING items b WHERE b.id = a.id AND b.v = NULL",
        ] {
            pair.alike("BEGIN");
            pair.alike(sql);
            pair.alike("SELECT id FROM items ORDER BY id");
            pair.alike("SELECT id FROM accounts ORDER BY id");
            pair.alike("ROLLBACK");
        }
    }
}

#[test]
fn null_in_an_array_may_be_a_text() {
    let mut pair = Pair::new();
    pair.alike(
        "INSERT INTO words VALUES ('plain', 1), ('NULL', 2), ('null', 3), ('x', 4), ('y', 5)",
    );
    for setting in ["off", "on"] {
        pair.alike(&format!("SET array_nulls = {setting}"));
        for sql in [
            "SELECT id FROM words WHERE id = ANY ('{NULL,plain}') ORDER BY n",
            "SELECT id FROM words WHERE id = ANY ('{NULL}')",
            "SELECT id FROM words WHERE id = ANY ('{null}'::text[])",
            "SELECT id FROM words WHERE id = ANY ('{\"NULL\",x}') ORDER BY n",
            "UPDATE words SET n = n + 10 WHERE id = ANY ('{NULL,x}')",
            "DELETE FROM words WHERE id = ANY ('{null,y}')",
            "SELECT * FROM words ORDER BY n, id",
            "SELECT * FROM items WHERE id = ANY ('{1,2}')",
        ] {
            pair.alike(sql);
        }
    }
}

#[test]
fn elements_and_fields_of_a_column_are_set() {
    let mut pair = Pair::new();
    for sql in [
        "INSERT INTO items (id, v) SELECT g, g FROM generate_series(1, 6) g",
        "ALTER TABLE items ADD COLUMN arr int[] DEFAULT '{1,2}', ADD COLUMN j jsonb DEFAULT '{\"a\": 1}'",
        "UPDATE items SET j['a'] = '5', arr[3] = 9 WHERE id = 2 RETURNING id, arr, j",
        "UPDATE ONLY items AS q SET arr[4:5] = '{7,8}', v = 3 WHERE q.id = 3",
        "UPDATE items SET v = CASE WHEN v > 3 THEN 1 END, arr[1] = v, j['b']['c'] = to_jsonb(v)",
        "UPDATE items SET arr[-1] = 4 WHERE id IN (1, 5)",
        "UPDATE items SET arr[1] = 4, arr[2] = arr[1] WHERE v IS NULL RETURNING arr[1] = 4",
        "INSERT INTO items (id, v) VALUES (2, 0), (9, 0) ON CONFLICT (id) DO UPDATE SET arr[2] = excluded.id, v = 8",
        "MERGE INTO items t USING (VALUES (1, 4), (2, 5)) s (id, n) ON t.id = s.id \
         WHEN MATCHED THEN UPDATE SET v = s.n, arr[2] = s.n",
        "MERGE INTO items t USING accounts s ON t.id = s.id WHEN MATCHED THEN UPDATE SET arr[2] = 1, v = 5",
        "WITH changed AS (UPDATE items SET arr[2] = 6 WHERE id = 2 RETURNING id, arr) SELECT * FROM changed",
        "UPDATE items SET arr[1] = 'x' WHERE id = 4",
        "UPDATE items SET missing[1] = 1",
        "UPDATE items SET v[1] = 1 WHERE id = 4",
        "SELECT v, arr[1] = 4 FROM items WHERE id = 1",
        "SELECT * FROM items ORDER BY id",
    ] {
        pair.alike(sql);
    }
}

#[test]
fn a_sample_of_all_rows_is_all_rows() {
    let mut pair = Pair::new();
    for sql in [
        "INSERT INTO items (id, v) SELECT g, g FROM generate_series(1, 60) g",
        "SELECT count(*), sum(v) FROM items TABLESAMPLE bernoulli (100)",
        "SELECT id FROM items AS i TABLESAMPLE system (100) REPEATABLE (1) WHERE i.v > 3 ORDER BY id",
        "SELECT id FROM items TABLESAMPLE bernoulli (0)",
        "SELECT id FROM items TABLESAMPLE bernoulli (101)",
        "SELECT id FROM items TABLESAMPLE system (100) WHERE id = 7",
    ] {
        pair.alike(sql);
    }
}

#[test]
fn views_that_read_nothing_are_at_home() {
    let mut pair = Pair::new();
    pair.alike("INSERT INTO items (id, v) SELECT g, g FROM generate_series(1, 12) g");
    pair.alike("INSERT INTO kinds SELECT g, 'k' FROM generate_series(1, 12) g");
    for sql in [
        "CREATE VIEW single AS SELECT 3 AS x",
        "CREATE VIEW few AS VALUES (1, 'a'), (5, 'b')",
        "CREATE VIEW series AS SELECT g AS x FROM generate_series(2, 4) g",
        "CREATE VIEW nested AS SELECT x + 1 AS x FROM single",
    ] {
        pair.alike(sql);
    }
    for sql in [
        "SELECT * FROM single",
        "SELECT i.id FROM items i JOIN single s ON i.id = s.x",
        "SELECT i.id, f.column2 FROM items i JOIN few f ON i.id = f.column1 ORDER BY 1",
        "SELECT id FROM items WHERE id IN (SELECT x FROM series) ORDER BY 1",
        "SELECT id FROM items WHERE id = (SELECT x FROM nested)",
        "WITH c AS (SELECT x FROM series) SELECT i.id FROM items i, c WHERE i.id = c.x ORDER BY 1",
        "SELECT k.id FROM kinds k JOIN nested n ON k.id = n.x",
        "SELECT id FROM items WHERE id = 3 AND EXISTS (SELECT 1 FROM single)",
    ] {
        for _ in 0..4 {
            pair.alike(sql);
        }
    }
    for sql in [
        "UPDATE items SET v = 0 FROM single WHERE id = x",
        "DELETE FROM items USING series WHERE id = x",
        "UPDATE items SET v = 9 WHERE id IN (SELECT x FROM nested)",
        "INSERT INTO items SELECT x + 100, x FROM series",
        "UPDATE kinds SET name = 'n' FROM single WHERE id = x",
    ] {
        pair.alike("BEGIN");
        pair.alike_or_refused(sql);
        pair.both("ROLLBACK");
    }
}

#[test]
fn an_aggregate_reaches_as_far_as_its_functions() {
    let mut pair = Pair::new();
    pair.alike("INSERT INTO items (id, v) SELECT g, g FROM generate_series(1, 9) g");
    for sql in [
        "CREATE FUNCTION add_all(int8, int8) RETURNS int8 LANGUAGE sql STABLE \
         AS 'SELECT $1 + count(*) FROM items'",
        "CREATE FUNCTION add(int8, int8) RETURNS int8 LANGUAGE sql AS 'SELECT $1 + $2'",
        "CREATE FUNCTION take(int8, int8) RETURNS int8 LANGUAGE sql AS 'SELECT $1 - $2'",
        "CREATE FUNCTION ended(int8) RETURNS int8 LANGUAGE sql STABLE \
         AS 'SELECT $1 + count(*) FROM items'",
        "CREATE AGGREGATE sum_all (int8) (SFUNC = add_all, STYPE = int8, INITCOND = '0')",
        "CREATE AGGREGATE sum_ended (int8) (SFUNC = int8pl, STYPE = int8, FINALFUNC = ended, INITCOND = '0')",
        "CREATE AGGREGATE sum_moving (int8) (SFUNC = int8pl, STYPE = int8, INITCOND = '0', \
         MSFUNC = add_all, MINVFUNC = take, MSTYPE = int8, MINITCOND = '0')",
        "CREATE FUNCTION add_now(int8, int8) RETURNS int8 LANGUAGE sql STABLE \
         AS 'SELECT $1 + extract(year FROM now())::int8'",
        "CREATE AGGREGATE sum_now (int8) (SFUNC = add_now, STYPE = int8, INITCOND = '0')",
        "CREATE AGGREGATE sum_plain (int8) (SFUNC = add, STYPE = int8, INITCOND = '0')",
    ] {
        pair.alike(sql);
    }
    for aggregate in ["sum_all", "sum_ended", "sum_moving"] {
        let [_, told] = pair.both(&format!("SELECT {aggregate}(id) FROM items"));
        assert!(told[0].starts_with("Error 0A000"), "{aggregate}: {told:?}");
    }
    pair.alike("SELECT sum_plain(id) FROM items");
    // It asks for the time on the one server that has all rows.
    pair.alike("SELECT sum_now(id) FROM items");
    pair.alike("SELECT id % 2, sum_plain(id) FROM items GROUP BY 1 ORDER BY 1");
}
