//! What a statement does beyond the table that it names: to the place of rows, by the actions of foreign keys, by
//! triggers, and by functions that are called out of sight.

use super::stage::{Stage, one, say};
use mothership_tests::Wire;

const AUTO: &str =
    "[tables]\ndefault = \"auto\"\n[[table]]\nname = \"ref_*\"\nkind = \"reference\"\n";

/// All of these are done.
fn done(wire: &mut Wire, statements: &[&str]) {
    for sql in statements {
        let said = say(wire, sql);
        let failed = said.iter().any(|line| line.starts_with("Error"));
        assert!(!failed, "{sql}: {said:?}");
    }
}

/// All of these are refused, for this reason.
fn refused(wire: &mut Wire, message: &str, statements: &[&str]) {
    for sql in statements {
        let said = wire.query(sql);
        let error = said.iter().find(|frame| frame.kind == b'E');
        let error = error.unwrap_or_else(|| panic!("{sql}: {said:?}"));
        assert_eq!(error.sqlstate(), "0A000", "{sql}: {said:?}");
        let told = error.field('M').unwrap();
        assert!(told.contains(message), "{sql}: {told}");
    }
}

#[test]
fn what_is_divided_by_its_primary_key_keeps_it() {
    let stage = Stage::bare(&format!(
        "{AUTO}[[table]]\nname = \"declared\"\nkey = [\"id\"]\nkey_type = [\"int8\"]\n"
    ));
    let mut wire = stage.wire();
    done(
        &mut wire,
        &[
            "CREATE DOMAIN amount AS int",
            "CREATE DOMAIN price AS amount",
            "CREATE DOMAIN other AS int",
            "CREATE TABLE y (id int8, a int, b price, c other, PRIMARY KEY (id, a, b))",
            "INSERT INTO y SELECT g, g, g, g FROM generate_series(1, 9) g",
            "CREATE TABLE declared (id int8 PRIMARY KEY, a int)",
            "CREATE TABLE heap (id int8 PRIMARY KEY, a float8, x float8)",
        ],
    );
    refused(
        &mut wire,
        "would change or remove the shard key",
        &[
            "ALTER TABLE y DROP CONSTRAINT y_pkey",
            "ALTER TABLE y DROP CONSTRAINT IF EXISTS \"y_pkey\" CASCADE",
            "ALTER TABLE y DROP CONSTRAINT y_pkey, ADD PRIMARY KEY (a, id, b)",
            "ALTER TABLE y DROP COLUMN a",
            "ALTER TABLE y ADD COLUMN d int, DROP COLUMN b CASCADE",
            "DROP DOMAIN price CASCADE",
            "DROP DOMAIN public.amount CASCADE",
        ],
    );
    assert_eq!(one(&mut wire, "SELECT count(*) FROM y"), "9");
    done(
        &mut wire,
        &[
            "ALTER TABLE y ADD CONSTRAINT positive CHECK (a > 0)",
            "ALTER TABLE y DROP CONSTRAINT positive",
            "DROP DOMAIN other CASCADE",
            "ALTER TABLE heap DROP COLUMN x CASCADE",
            // Its key is declared.
            "ALTER TABLE declared DROP CONSTRAINT declared_pkey",
            "INSERT INTO declared VALUES (1, 1), (2, 1), (3, 1), (1, 2)",
        ],
    );
    assert_eq!(one(&mut wire, "SELECT count(*) FROM declared"), "4");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM y"), "9");
}

#[test]
fn a_table_on_all_shards_that_has_lost_its_primary_key_is_not_taken_for_one_of_the_home_shard() {
    let stage = Stage::bare(AUTO);
    let mut wire = stage.wire();
    done(
        &mut wire,
        &[
            "CREATE TABLE y (id int8 PRIMARY KEY, a int)",
            "INSERT INTO y SELECT g, g FROM generate_series(1, 9) g",
            "CREATE TABLE heap (a int)",
            "INSERT INTO heap VALUES (1)",
        ],
    );
    // Past the router, which looks again when it has changed something.
    stage.shards.sql_all("ALTER TABLE y DROP CONSTRAINT y_pkey");
    done(&mut wire, &["CREATE TABLE another (id int8 PRIMARY KEY)"]);
    refused(
        &mut wire,
        "has no primary key",
        &[
            "SELECT count(*) FROM y",
            "INSERT INTO y VALUES (10, 10)",
            "UPDATE y SET a = 1",
            "COPY y TO STDOUT",
            "ALTER TABLE y ADD PRIMARY KEY (a)",
            "CREATE INDEX ON y (a)",
        ],
    );
    assert_eq!(one(&mut wire, "SELECT count(*) FROM heap"), "1");
    done(&mut wire, &["DROP TABLE y"]);
    assert_eq!(
        stage.shards.sql_all("SELECT to_regclass('y') IS NULL"),
        ["t"; 3]
    );
}

#[test]
fn actions_of_foreign_keys_leave_shard_keys_alone() {
    let stage = Stage::bare(AUTO);
    let mut wire = stage.wire();
    let message = "would change the shard key of the rows";
    done(
        &mut wire,
        &[
            "CREATE TABLE ref_e (id int8 PRIMARY KEY, name text)",
            "INSERT INTO ref_e SELECT g, 'e' FROM generate_series(1, 9) g",
            "CREATE TABLE p (id int8, n int, PRIMARY KEY (id, n))",
            "CREATE TABLE added (id int8 PRIMARY KEY)",
            // Nothing but `auto` would divide them, so that they live at home.
            "CREATE TABLE home1 (id int8 PRIMARY KEY REFERENCES ref_e ON UPDATE CASCADE)",
            "CREATE TABLE home2 (id int8, n int, PRIMARY KEY (id, n), FOREIGN KEY (id) REFERENCES ref_e ON DELETE SET DEFAULT)",
            "INSERT INTO home1 VALUES (9)",
        ],
    );
    refused(
        &mut wire,
        message,
        &[
            "CREATE TABLE c (id int8, n int, x int, PRIMARY KEY (id, x), FOREIGN KEY (id, n) REFERENCES p ON DELETE SET NULL)",
            "ALTER TABLE added ADD FOREIGN KEY (id) REFERENCES ref_e ON UPDATE SET NULL",
        ],
    );
    done(
        &mut wire,
        &[
            "CREATE TABLE c1 (id int8 PRIMARY KEY REFERENCES ref_e ON DELETE CASCADE)",
            "CREATE TABLE c2 (id int8 PRIMARY KEY, e int8 REFERENCES ref_e ON DELETE SET NULL ON UPDATE CASCADE)",
            "CREATE TABLE c3 (id int8, n int, x int, PRIMARY KEY (id, x), FOREIGN KEY (id, n) REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE)",
            "INSERT INTO c2 SELECT g, g FROM generate_series(1, 9) g",
            "INSERT INTO p VALUES (1, 1), (2, 2), (3, 3)",
            "INSERT INTO c3 VALUES (1, 1, 1), (2, 2, 2), (3, 3, 3)",
            "UPDATE p SET n = n + 10",
            "UPDATE ref_e SET id = id + 10 WHERE id = 9",
            "DELETE FROM ref_e WHERE id = 8",
        ],
    );
    assert_eq!(one(&mut wire, "SELECT sum(n) FROM c3"), "36");
    assert_eq!(one(&mut wire, "SELECT sum(e) FROM c2"), "47");
    assert_eq!(one(&mut wire, "SELECT id FROM home1"), "19");
    // Made past the router.
    let added = "ALTER TABLE added ADD FOREIGN KEY (id) REFERENCES ref_e ON UPDATE CASCADE";
    stage.shards.sql_all(added);
    done(
        &mut wire,
        &[
            "CREATE TABLE another (id int8 PRIMARY KEY)",
            "INSERT INTO added VALUES (1), (2), (3)",
        ],
    );
    refused(
        &mut wire,
        message,
        &[
            "UPDATE ref_e SET id = id + 100",
            "UPDATE ref_e SET (name, id) = ('x', 7)",
            "INSERT INTO ref_e VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET id = 100",
            "WITH u AS (UPDATE ref_e SET id = 5 RETURNING id) SELECT id FROM u",
        ],
    );
    done(
        &mut wire,
        &[
            "UPDATE ref_e SET name = 'other'",
            "INSERT INTO ref_e VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = 'y'",
            "DELETE FROM ref_e WHERE id = 4",
        ],
    );
    let set = "ALTER TABLE added DROP CONSTRAINT added_id_fkey, ADD FOREIGN KEY (id) REFERENCES ref_e ON DELETE SET NULL";
    stage.shards.sql_all(set);
    done(
        &mut wire,
        &["CREATE TABLE yet_another (id int8 PRIMARY KEY)"],
    );
    refused(&mut wire, message, &["DELETE FROM ref_e WHERE id = 5"]);
    done(&mut wire, &["UPDATE ref_e SET id = 70 WHERE id = 7"]);
    assert_eq!(stage.ids("added"), [1, 2, 3]);
}

#[test]
fn triggers_that_a_statement_does_not_name_are_looked_at() {
    let stage = Stage::bare(AUTO);
    let mut wire = stage.wire();
    let message = "a trigger of a sharded or reference table";
    let body = "RETURNS trigger LANGUAGE plpgsql AS";
    done(
        &mut wire,
        &[
            "CREATE TABLE log (id int8 PRIMARY KEY, n int)",
            "INSERT INTO log VALUES (1, 0), (2, 0), (3, 0)",
            "CREATE TABLE parts (id int8, k text, v int, PRIMARY KEY (id, k)) PARTITION BY LIST (k)",
            "CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a')",
            "CREATE TABLE parts_b PARTITION OF parts FOR VALUES IN ('b')",
            "CREATE TABLE ref_v (id int8 PRIMARY KEY, name text)",
            "INSERT INTO ref_v VALUES (1), (2), (3)",
            "CREATE TABLE c (id int8 PRIMARY KEY, r int8 REFERENCES ref_v ON DELETE CASCADE)",
            "CREATE TABLE kd (id int8 PRIMARY KEY)",
            "CREATE TABLE kc (id int8 PRIMARY KEY REFERENCES kd)",
            "CREATE TABLE heap (id int8, k int) PARTITION BY LIST (k)",
            "CREATE TABLE heap_1 PARTITION OF heap FOR VALUES IN (1)",
        ],
    );
    let moves =
        format!("CREATE FUNCTION moves() {body} 'BEGIN NEW.id := NEW.id + 1000; RETURN NEW; END'");
    let writes = format!(
        "CREATE FUNCTION writes() {body} 'BEGIN UPDATE log SET n = n + 1; RETURN NEW; END'"
    );
    let upper = format!("CREATE FUNCTION marks() {body} 'BEGIN NEW.v := 7; RETURN NEW; END'");
    done(
        &mut wire,
        &[
            &moves,
            &writes,
            &upper,
            "CREATE TRIGGER t BEFORE INSERT ON parts_a FOR EACH ROW EXECUTE FUNCTION marks()",
            "INSERT INTO parts VALUES (1, 'a', 1), (2, 'b', 2), (3, 'a', 3)",
            "CREATE TRIGGER t BEFORE INSERT ON parts_b FOR EACH ROW EXECUTE FUNCTION moves()",
            "CREATE TRIGGER t AFTER DELETE ON c FOR EACH ROW EXECUTE FUNCTION writes()",
            "CREATE TRIGGER t AFTER TRUNCATE ON kc EXECUTE FUNCTION writes()",
            "CREATE TRIGGER t AFTER INSERT ON heap_1 FOR EACH ROW EXECUTE FUNCTION writes()",
        ],
    );
    assert_eq!(one(&mut wire, "SELECT sum(v) FROM parts"), "16");
    refused(
        &mut wire,
        message,
        &[
            "INSERT INTO parts VALUES (5, 'b', 5), (6, 'b', 6)",
            "UPDATE parts SET k = 'b'",
            "COPY parts FROM STDIN",
            "DELETE FROM ref_v WHERE id = 1",
            "WITH d AS (DELETE FROM ref_v RETURNING id) SELECT count(*) FROM d",
            "TRUNCATE kc",
            "TRUNCATE kd CASCADE",
            "TRUNCATE kd, kc",
            "INSERT INTO heap VALUES (1, 1)",
            "COPY heap FROM STDIN",
        ],
    );
    done(
        &mut wire,
        &[
            "UPDATE ref_v SET name = 'x'",
            "INSERT INTO ref_v VALUES (4)",
            "INSERT INTO kd VALUES (1), (2), (3)",
            "INSERT INTO kc VALUES (1), (2), (3)",
            "DELETE FROM kc",
            "DELETE FROM parts WHERE id = 1",
            "TRUNCATE log",
        ],
    );
    stage.assert_nothing_prepared();
}

#[test]
fn functions_in_definitions_do_not_read_the_part_of_one_shard() {
    let stage = Stage::bare(AUTO);
    let mut wire = stage.wire();
    let message = "a user function may touch tables";
    let counts = "LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT count(*) FROM a) > 8; END'";
    let counted = "LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT count(*) FROM a); END'";
    done(
        &mut wire,
        &[
            "CREATE TABLE a (id int8 PRIMARY KEY, n int)",
            "INSERT INTO a SELECT g, g FROM generate_series(1, 9) g",
            &format!("CREATE FUNCTION enough(int) RETURNS boolean {counts}"),
            &format!("CREATE FUNCTION \"How many\"() RETURNS int {counted}"),
            "CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2'",
            "CREATE FUNCTION later() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1'",
            "CREATE FUNCTION fired() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "CREATE DOMAIN amount AS int CHECK (twice(VALUE) > 0)",
            "CREATE TABLE by_default (id int8 PRIMARY KEY, n int DEFAULT \"How many\"(), m int)",
            "CREATE TABLE by_check (id int8 PRIMARY KEY, n int CHECK (enough(n)))",
            "CREATE TABLE by_condition (id int8 PRIMARY KEY, n int)",
            "CREATE TRIGGER t AFTER INSERT ON by_condition FOR EACH ROW WHEN (enough(NEW.n)) EXECUTE FUNCTION fired()",
            "CREATE TABLE by_change (id int8 PRIMARY KEY, n int CHECK (later() = 1))",
            "CREATE TABLE ref_r (id int8 PRIMARY KEY, n int CHECK (enough(n)))",
            "CREATE TABLE heap (n int DEFAULT \"How many\"())",
            "CREATE TABLE fine (id int8 PRIMARY KEY, n amount DEFAULT twice(4), u uuid DEFAULT gen_random_uuid(), \
                t timestamptz DEFAULT now(), s serial, k text DEFAULT lower('A') CHECK (length(k) > 0 AND twice(n) > 0))",
            "INSERT INTO by_change VALUES (1), (2), (3)",
        ],
    );
    refused(
        &mut wire,
        message,
        &[
            "CREATE DOMAIN large AS int CHECK (enough(VALUE))",
            "ALTER DOMAIN amount ADD CONSTRAINT enough CHECK (enough(VALUE))",
            "INSERT INTO by_default (id) VALUES (1), (2), (3)",
            "INSERT INTO by_default VALUES (1, DEFAULT)",
            "INSERT INTO by_default (id) SELECT id FROM a",
            "UPDATE by_default SET n = DEFAULT",
            "MERGE INTO by_default USING (VALUES (7), (8)) v (id) ON v.id = by_default.id WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id)",
            "COPY by_default (id) FROM STDIN",
            "INSERT INTO by_check VALUES (1, 1), (2, 2)",
            "UPDATE by_check SET n = 3",
            "COPY by_check FROM STDIN",
            "INSERT INTO by_condition VALUES (1, 1)",
            "INSERT INTO ref_r VALUES (1, 1)",
            "INSERT INTO heap VALUES (DEFAULT)",
            "COPY heap FROM STDIN",
        ],
    );
    done(
        &mut wire,
        &[
            "CREATE OR REPLACE FUNCTION later() RETURNS int LANGUAGE sql STABLE AS 'SELECT count(*)::int FROM a'",
            "INSERT INTO by_default VALUES (1, 1), (2, 2), (3, 3)",
            "UPDATE by_default SET n = 5",
            "DELETE FROM by_check",
            "INSERT INTO fine (id) VALUES (1), (2), (3)",
            "INSERT INTO fine (id, t) SELECT id + 10, '2024-01-01' FROM a",
            "UPDATE fine SET n = DEFAULT, k = DEFAULT WHERE id = 1",
        ],
    );
    refused(&mut wire, message, &["INSERT INTO by_change VALUES (4)"]);
    assert_eq!(one(&mut wire, "SELECT count(*) FROM fine"), "12");
    // Past the router.
    stage
        .shards
        .sql_all("ALTER DOMAIN amount ADD CHECK (enough(VALUE)) NOT VALID");
    done(&mut wire, &["CREATE TABLE another (id int8 PRIMARY KEY)"]);
    refused(&mut wire, message, &["INSERT INTO fine (id) VALUES (50)"]);
    stage.assert_nothing_prepared();
}

#[test]
fn what_a_write_of_the_home_shard_sets_off_does_not_stay_on_it() {
    let stage = Stage::bare(AUTO);
    let mut wire = stage.wire();
    let changes = "LANGUAGE plpgsql AS 'BEGIN UPDATE a SET n = 0; RETURN NEW; END'";
    let writes = "LANGUAGE plpgsql AS 'BEGIN UPDATE a SET n = 0; RETURN 1; END'";
    let counts = "LANGUAGE sql STABLE AS 'SELECT count(*) FROM a'";
    let counted = "LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN (SELECT count(*) FROM a); END'";
    done(
        &mut wire,
        &[
            "CREATE TABLE a (id int8 PRIMARY KEY, n int)",
            "INSERT INTO a SELECT g, g FROM generate_series(1, 9) g",
            &format!("CREATE FUNCTION changes() RETURNS trigger {changes}"),
            &format!("CREATE FUNCTION writes() RETURNS int {writes}"),
            &format!("CREATE FUNCTION counts() RETURNS bigint {counts}"),
            "CREATE FUNCTION same(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END'",
            "CREATE TABLE heap (id int)",
            "CREATE TABLE fired (id int)",
            "CREATE TRIGGER t BEFORE INSERT ON fired FOR EACH ROW EXECUTE FUNCTION changes()",
            "CREATE TABLE filled (id int, n bigint DEFAULT counts())",
            "CREATE TABLE says (id int)",
            "CREATE RULE also AS ON INSERT TO says DO ALSO SELECT writes()",
            "CREATE TABLE kept (id int)",
            "CREATE RULE unless AS ON UPDATE TO kept WHERE counts() > 0 DO INSTEAD NOTHING",
            "CREATE TABLE passes (id int)",
            "CREATE RULE on_to_fired AS ON INSERT TO passes DO ALSO INSERT INTO fired VALUES (NEW.id)",
            "CREATE TABLE passes_again (id int)",
            "CREATE RULE on_to_passes AS ON INSERT TO passes_again DO ALSO INSERT INTO passes VALUES (NEW.id)",
            "CREATE VIEW seen AS SELECT * FROM heap",
            "CREATE RULE instead AS ON INSERT TO seen DO INSTEAD INSERT INTO filled (id) VALUES (NEW.id)",
            "CREATE TABLE fine (id int)",
            "CREATE RULE fine AS ON INSERT TO fine DO ALSO INSERT INTO heap VALUES (NEW.id)",
            "CREATE TABLE parted (id int) PARTITION BY LIST (same(id))",
            "CREATE TABLE parted_all PARTITION OF parted DEFAULT",
            "CREATE TABLE indexed (id int)",
            "CREATE INDEX ON indexed (same(id)) WHERE same(id) > 0",
            "INSERT INTO parted VALUES (1)",
            "INSERT INTO indexed VALUES (1)",
            &format!("CREATE OR REPLACE FUNCTION same(int) RETURNS int {counted}"),
            "INSERT INTO fine VALUES (1)",
        ],
    );
    for sql in [
        "INSERT INTO fired VALUES (1)",
        "WITH x AS (INSERT INTO fired VALUES (1) RETURNING id) SELECT * FROM x",
        "COPY (WITH x AS (INSERT INTO fired VALUES (1) RETURNING id) SELECT * FROM x) TO STDOUT",
        "EXPLAIN ANALYZE WITH x AS (INSERT INTO fired VALUES (1) RETURNING id) SELECT * FROM x",
        "WITH x AS (INSERT INTO filled (id) VALUES (1) RETURNING n) SELECT * FROM x",
        "INSERT INTO says VALUES (1)",
        "DO $$ BEGIN INSERT INTO says VALUES (1); END $$",
        "UPDATE kept SET id = 1",
        "INSERT INTO passes VALUES (1)",
        "INSERT INTO passes_again VALUES (1)",
        "INSERT INTO seen VALUES (1)",
        "INSERT INTO parted VALUES (2)",
        "INSERT INTO indexed VALUES (2)",
    ] {
        let said = wire.query(sql);
        let error = said.iter().find(|frame| frame.kind == b'E');
        let error = error.unwrap_or_else(|| panic!("{sql}: {said:?}"));
        assert_eq!(error.sqlstate(), "0A000", "{sql}: {said:?}");
    }
    assert_eq!(one(&mut wire, "SELECT count(*) FROM a WHERE n > 0"), "9");
}
