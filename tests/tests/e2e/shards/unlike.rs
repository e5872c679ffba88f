//! What depends on a whole text, on settings that servers do not tell, or on what a name hides: the answers and what is
//! stored, beside one PostgreSQL.

use super::stage::{Stage, extended, one, say, send};
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
fn what_is_not_there_is_said_as_one_postgresql_says_it() {
    let mut pair = Pair::new();
    pair.alike("INSERT INTO items SELECT g, g FROM generate_series(1, 9) g");
    pair.alike("PREPARE made AS INSERT INTO items VALUES ($1, 1)");
    for sql in [
        "SELECT * FROM items NATURAL JOIN nosuch",
        "SELECT nosuch(v) FROM items",
        "SELECT sum(nosuch(v)) OVER () FROM items",
        "SELECT v::nosuch FROM items",
        "SELECT v OPERATOR(nosuch.+) 1 FROM items",
        "SELECT id FROM items WHERE v IN (SELECT x FROM nosuch)",
        "INSERT INTO items VALUES (1, 1) ON CONFLICT ON CONSTRAINT nosuch DO NOTHING",
        "INSERT INTO items VALUES (1, 1) ON CONFLICT (nosuch) DO NOTHING",
        "INSERT INTO items (id, nosuch) VALUES (1, 1)",
        "INSERT INTO items SELECT * FROM nosuch",
        "INSERT INTO items (id, v) VALUES (nosuch(1), 2)",
        "UPDATE items SET nosuch = 1",
        "UPDATE items SET v = n.v FROM nosuch n",
        "UPDATE items SET v = nosuch(v)",
        "DELETE FROM items USING nosuch",
        "DELETE FROM items WHERE nosuch = 1",
        "MERGE INTO items USING nosuch ON true WHEN MATCHED THEN DELETE",
        "SELECT items.nosuch FROM items GROUP BY 1",
        "SELECT (nosuch.v) FROM items",
        "SELECT count(*) FROM items TABLESAMPLE nosuch (10)",
        "EXPLAIN SELECT * FROM items, nosuch",
        "DECLARE c CURSOR FOR SELECT nosuch FROM items",
        "COPY nosuch FROM STDIN",
        "COPY (SELECT nosuch FROM items) TO STDOUT",
        "CREATE TABLE made AS SELECT nosuch FROM items",
        "CREATE VIEW made AS SELECT nosuch FROM items",
        "ALTER TABLE items DROP COLUMN nosuch",
        "ALTER TABLE items ADD CHECK (nosuch > 1)",
        "CREATE INDEX ON items (nosuch)",
        "TRUNCATE items, nosuch",
        "LOCK TABLE nosuch",
        "REFRESH MATERIALIZED VIEW nosuch",
        "SELECT nextval('nosuch')",
        "DROP TABLE nosuch",
        "ANALYZE nosuch",
        "CALL nosuch()",
        "GRANT SELECT ON nosuch TO PUBLIC",
        "COMMENT ON COLUMN items.nosuch IS 'x'",
        "REINDEX TABLE nosuch",
        "EXECUTE nosuch",
        "FETCH nosuch",
        "INSERT INTO items VALUES (NULL, 1)",
        "INSERT INTO items VALUES (1, 1), (NULL, 1)",
        "INSERT INTO items VALUES (NULL, 1), (1, 1)",
        "EXECUTE made(NULL)",
    ] {
        let told = pair.alike(sql);
        assert!(told[0].starts_with("Error"), "{sql}: {told:?}");
        let messages = extended(sql, &[], &[]);
        let [plain, routed] = pair.wires.each_mut().map(|wire| send(wire, &messages));
        // Parse answers at another message where several shards are asked.
        let error = |told: &[String]| told.iter().find(|line| line.starts_with("Error")).cloned();
        assert_eq!(error(&routed), error(&plain), "{sql}");
    }
    pair.stage.assert_nothing_open();
}

#[test]
fn a_trigger_for_all_rows_of_a_statement_is_not_fired_for_those_of_each_shard() {
    let mut pair = Pair::new();
    pair.alike("INSERT INTO items SELECT g, g FROM generate_series(1, 20) g");
    for sql in [
        "CREATE FUNCTION few() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF (SELECT count(*) FROM o) > 10 THEN RAISE EXCEPTION 'too many rows'; END IF; RETURN NULL; END $$",
        "CREATE FUNCTION six() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF (SELECT count(*) FROM n) <> 6 THEN RAISE EXCEPTION 'want six rows'; END IF; RETURN NULL; END $$",
        "CREATE FUNCTION says() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         RAISE NOTICE 'changed'; RETURN NULL; END $$",
        "CREATE TRIGGER d AFTER DELETE ON items REFERENCING OLD TABLE AS o FOR EACH STATEMENT EXECUTE FUNCTION few()",
        "CREATE TRIGGER i AFTER INSERT ON items REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION six()",
        "CREATE TRIGGER u AFTER UPDATE ON items FOR EACH STATEMENT EXECUTE FUNCTION says()",
    ] {
        pair.alike(sql);
    }
    for sql in [
        "DELETE FROM items",
        "WITH d AS (DELETE FROM items RETURNING id) SELECT count(*) FROM d",
        "INSERT INTO items SELECT g, g FROM generate_series(31, 36) g",
        "INSERT INTO items VALUES (41, 1), (42, 1), (43, 1), (44, 1), (45, 1), (46, 1)",
        "UPDATE items SET v = v + 1",
    ] {
        let [plain, routed] = pair.both(sql);
        let is_refused = routed[0].starts_with("Error 0A000");
        assert!(is_refused || routed == plain, "{sql}: {routed:?} {plain:?}");
        if is_refused && !plain[0].starts_with("Error") {
            // Both are as the router has left it.
            let kept = "SELECT id, v FROM items ORDER BY id";
            let [_, kept] = pair.both(kept);
            assert!(
                kept.iter().any(|line| line == "CommandComplete SELECT 20"),
                "{kept:?}"
            );
            continue;
        }
    }
    // On one shard it is PostgreSQL's own.
    for sql in [
        "DELETE FROM items WHERE id = 3",
        "UPDATE items SET v = 7 WHERE id = 4",
        "INSERT INTO items VALUES (51, 1)",
    ] {
        pair.alike(sql);
    }
}

#[test]
fn what_belongs_to_one_server_is_not_hidden_in_code() {
    let mut pair = Pair::new();
    pair.alike("INSERT INTO items SELECT g, g FROM generate_series(1, 20) g");
    for sql in [
        "CREATE FUNCTION tells() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         PERFORM pg_notify('c', NEW.id::text); RETURN NULL; END $$",
        "CREATE FUNCTION notes() RETURNS int LANGUAGE plpgsql AS $$ BEGIN NOTIFY c; RETURN 1; END $$",
        "CREATE FUNCTION nth() RETURNS int LANGUAGE plpgsql AS $$ BEGIN \
         PERFORM set_config('app.n', (coalesce(nullif(current_setting('app.n', true), ''), '0')::int + 1)::text, true); \
         RETURN current_setting('app.n')::int; END $$",
        "CREATE FUNCTION locks(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN \
         RETURN pg_try_advisory_xact_lock($1); END $$",
        "CREATE FUNCTION asks(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN \
         RETURN pg_postmaster_start_time()::text || $1; END $$",
    ] {
        pair.alike(sql);
    }
    for sql in [
        "SELECT count(*) FROM items WHERE nth() <= 3",
        "UPDATE items SET v = nth()",
        "INSERT INTO items VALUES (31, nth()), (32, nth()), (33, nth())",
        "SELECT locks(9) FROM items WHERE id = 1",
        "SELECT notes() FROM items WHERE id = 2",
        "SELECT count(DISTINCT asks(id::text)) FROM items",
        "ALTER TABLE items ADD CHECK (nth() < 4)",
        "ALTER TABLE items ALTER v SET DEFAULT nth()",
    ] {
        pair.alike_or_refused(sql);
    }
    let [_, told] = pair.both("INSERT INTO items (id) VALUES (51)");
    assert!(told[0].starts_with("Error 0A000"), "{told:?}");
    pair.both("ALTER TABLE items ALTER v DROP DEFAULT");
    pair.both("CREATE TRIGGER t AFTER INSERT ON items FOR EACH ROW EXECUTE FUNCTION tells()");
    let [_, told] = pair.both("INSERT INTO items VALUES (61, 1)");
    assert!(told[0].starts_with("Error 0A000"), "{told:?}");
    // By themselves they are the home shard's.
    pair.alike("SELECT locks(9)");
    pair.alike("SELECT nth()");
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

#[test]
fn a_statement_that_no_shard_can_read_costs_no_connection_in_a_block() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    // Its connection is the session's own.
    say(&mut wire, "SELECT pg_advisory_lock(1)");
    for first in ["SELECT 1", "SELECT count(*) FROM items"] {
        for sql in [
            "DELETE FROM items WHERE int4range(1, 2) @> note",
            "SELECT nosuch(v) FROM items",
            "UPDATE items SET v = nosuch(v)",
        ] {
            for statement in ["BEGIN", first] {
                say(&mut wire, statement);
            }
            let told = say(&mut wire, sql);
            let expected = ["Error 42883", "Error 0A000"];
            assert!(
                expected.iter().any(|error| told[0].starts_with(error)),
                "{sql}: {told:?}"
            );
            let told = say(&mut wire, "ROLLBACK");
            assert_eq!(
                told,
                ["CommandComplete ROLLBACK", "ReadyForQuery I"],
                "{sql}"
            );
        }
    }
    assert_eq!(one(&mut wire, "SELECT pg_advisory_unlock(1)"), "t");
}

#[test]
fn prepare_transaction_that_fails_ends_the_transaction() {
    let mut pair = Pair::new();
    pair.alike("BEGIN");
    pair.alike("INSERT INTO notes VALUES (1, 'x')");
    let name = "unlike.prepared";
    // The shards are databases of one cluster, where a name is there once.
    let [plain, routed] = ["a", "b"].map(|of| format!("PREPARE TRANSACTION '{name}.{of}'"));
    assert_eq!(
        say(&mut pair.wires[0], &plain),
        say(&mut pair.wires[1], &routed)
    );
    for sql in [
        "INSERT INTO notes VALUES (2, 'y')",
        "SELECT * FROM notes WHERE id = 2",
    ] {
        pair.alike("BEGIN");
        pair.alike(sql);
        let taken = [&plain, &routed];
        let said = [0, 1].map(|at| say(&mut pair.wires[at], taken[at]));
        assert!(said[1][0].starts_with("Error 42710"), "{said:?}");
        assert_eq!(said[0][1], said[1][1], "{sql}");
        pair.alike("SELECT count(*) FROM notes");
    }
    pair.alike("BEGIN");
    pair.alike("SELECT 1 / 0");
    pair.alike("PREPARE TRANSACTION 'unlike.failed'");
    pair.alike("SELECT count(*) FROM notes");
    // It fails where no server knows of it.
    pair.alike("BEGIN");
    pair.alike("INSERT INTO notes VALUES (3, 'z')");
    pair.alike("EXECUTE nosuch");
    pair.alike("PREPARE TRANSACTION 'unlike.failed'");
    pair.alike("SELECT count(*) FROM notes");
    for (at, of) in ["a", "b"].iter().enumerate() {
        say(
            &mut pair.wires[at],
            &format!("ROLLBACK PREPARED '{name}.{of}'"),
        );
    }
    pair.stage.assert_nothing_prepared();
    pair.stage.assert_nothing_open();
}

#[test]
fn a_transaction_that_only_locks_over_shards_is_committed_read_only() {
    let mut pair = Pair::new();
    for sql in [
        "BEGIN READ ONLY; LOCK TABLE items IN ACCESS SHARE MODE; COMMIT",
        "BEGIN READ ONLY",
        "LOCK TABLE items, accounts IN ACCESS SHARE MODE",
        "COMMIT",
        "SET default_transaction_read_only = on",
        "BEGIN",
        "LOCK TABLE kinds IN ACCESS SHARE MODE",
        "COMMIT",
        "BEGIN READ WRITE",
        "INSERT INTO items VALUES (1, 1), (2, 2), (3, 3)",
        "COMMIT",
        "RESET default_transaction_read_only",
        "SELECT count(*) FROM items",
    ] {
        pair.alike(sql);
    }
    pair.stage.assert_nothing_prepared();
    pair.stage.assert_nothing_open();
}

#[test]
fn what_functions_say_of_rows_is_heard_from_all_shards() {
    let mut pair = Pair::new();
    pair.alike("INSERT INTO words SELECT g::text, g FROM generate_series(1, 9) g");
    pair.alike(
        "CREATE FUNCTION says(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE COST 0.0000001 AS \
         'BEGIN RAISE NOTICE ''row %'', $1; RETURN true; END'",
    );
    for sql in [
        "SELECT id FROM words WHERE says(id) ORDER BY 1",
        "SELECT count(*) FROM words WHERE says(id)",
        "SELECT max(id || '') FROM words WHERE says(id)",
        "SELECT id, count(*) FROM words WHERE says(id) GROUP BY 1 ORDER BY 1",
        "SELECT w.id FROM words w JOIN words o ON o.n = w.n + 1 WHERE says(w.id) ORDER BY 1",
        "UPDATE words SET n = n WHERE says(id)",
    ] {
        // In which order the shards speak is not promised.
        let said = pair.both(sql).map(|mut lines| {
            lines.sort();
            lines
        });
        assert_eq!(said[0], said[1], "{sql}");
    }
}

/// Somebody renames a shard key on the servers. Only statements on that table are refused, until it has its column again.
#[test]
fn a_table_that_does_not_fit_its_declaration_concerns_no_other() {
    let stage = Stage::new();
    stage.fill(1..=9);
    stage
        .shards
        .sql_all("CREATE VIEW both_of_them AS SELECT i.v FROM items i JOIN accounts a USING (id)");
    let mut wire = stage.wire();
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "9");
    stage.shards.sql_all("ALTER TABLE items RENAME id TO no");
    // The router reads the catalog again.
    say(&mut wire, "CREATE TABLE others (id int)");
    for sql in [
        "SELECT * FROM items WHERE no = 1",
        "SELECT count(*) FROM items",
        "SELECT * FROM both_of_them",
        "INSERT INTO items VALUES (10, 1, 'x')",
        "DELETE FROM items",
        "COPY items TO STDOUT",
        "ALTER TABLE items RENAME no TO id",
        "CREATE INDEX ON items (v)",
        "DO 'BEGIN DELETE FROM items; END'",
    ] {
        let told = say(&mut wire, sql);
        assert!(told[0].starts_with("Error 0A000"), "{sql}: {told:?}");
    }
    assert_eq!(
        say(
            &mut wire,
            "INSERT INTO accounts VALUES (1, 1), (2, 2), (3, 3)"
        ),
        ["CommandComplete INSERT 0 3", "ReadyForQuery I"]
    );
    assert_eq!(one(&mut wire, "SELECT count(*) FROM accounts"), "3");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM others"), "0");
    stage.shards.sql_all("ALTER TABLE items RENAME no TO id");
    say(&mut wire, "DROP TABLE others");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "9");
}
