//! Ordinary statements say on shards what they say in one PostgreSQL: words of the grammar name no declared table, rows
//! that a query gives are stored with one time, COPY forces fields to be null or not.

use super::copying::copy_in;
use super::stage::{Stage, extended, say, segment, send};
use mothership_tests::{Shards, Wire};

const TABLES: &str = r#"
[[table]]
name = "t"
key = ["id"]
key_type = ["int8"]
[[table]]
name = "by"
key = ["id"]
key_type = ["int8"]
[[table]]
name = "stamped"
key = ["id"]
key_type = ["int8"]
[[table]]
name = "app.*"
kind = "reference"
"#;

/// A router and one PostgreSQL.
fn both() -> (Stage, Shards) {
    (Stage::bare(TABLES), Shards::new(1))
}

/// Each statement is answered alike.
fn compare(stage: &Stage, one: &Shards, statements: &[&str]) {
    let (mut router, mut direct) = (stage.wire(), Wire::login(&one.endpoint(0)));
    for sql in statements {
        assert_eq!(say(&mut router, sql), say(&mut direct, sql), "{sql}");
    }
}

#[test]
fn words_of_the_grammar_name_no_table_that_is_called_so() {
    let (stage, one) = both();
    compare(
        &stage,
        &one,
        &[
            "CREATE SCHEMA app",
            "CREATE TABLE app.kinds (id int PRIMARY KEY, name text)",
            "CREATE TABLE t (id int8 PRIMARY KEY, a int, b text)",
            "CREATE TABLE by (id int8 PRIMARY KEY, a int)",
            "CREATE TABLE home (id int PRIMARY KEY, a int, g text)",
            "INSERT INTO home SELECT n, n % 3, 'x' || n FROM generate_series(1, 9) n",
            "INSERT INTO t (id, a, b) VALUES (1, 2, 'x'), (2, 3, 'y'), (3, 4, 'z'), (4, 4, 'w')",
            "INSERT INTO by VALUES (1, 5), (2, 6), (3, 5)",
            "INSERT INTO app.kinds VALUES (1, 'one'), (2, 'two')",
            "SELECT a, count(*) FROM home GROUP BY a ORDER BY a",
            "SELECT a, count(*) FROM t GROUP BY a ORDER BY a",
            "SELECT a, count(*) FROM by GROUP BY a ORDER BY a",
            "SELECT by.id FROM by, home WHERE by.id = home.id ORDER BY by.id",
            "SELECT * FROM app.kinds ORDER BY id",
            "SELECT t.a, k.name FROM t LEFT JOIN app.kinds k ON k.id = t.a ORDER BY t.id",
            "SELECT h.a, k.g FROM home h JOIN home k USING (id) ORDER BY h.id DESC NULLS LAST LIMIT 3",
            "SELECT row_number() OVER (PARTITION BY a ORDER BY id), sum(a) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) FROM home ORDER BY id",
            "SELECT count(*) FILTER (WHERE a > 1) FROM home",
            "SELECT a FROM home WHERE a BETWEEN 1 AND 2 AND g LIKE 'x%' AND EXISTS (SELECT 1 FROM t) ORDER BY id",
            "SELECT id FROM t ORDER BY (a + 1), id",
            "SELECT max(id) FROM t GROUP BY (a) ORDER BY (1)",
            "SELECT id, rank() OVER (PARTITION BY (a) ORDER BY (id)) FROM t ORDER BY id",
            "SELECT t.id, z.* FROM t, unnest(ARRAY['a', 'b']) WITH ORDINALITY z (v, o) ORDER BY t.id, z.o",
            "SELECT timestamptz '2024-01-01 00:00+00' AT TIME ZONE ('Asia/Tokyo') FROM t WHERE id = 1",
            "SELECT count(*) FROM t TABLESAMPLE system (100)",
            "SELECT trim(BOTH FROM b || ' '), trim(LEADING FROM ' ' || b), trim(FROM b), trim(TRAILING FROM b) FROM t ORDER BY id",
            "SELECT id FROM t ORDER BY id FETCH FIRST (2) ROWS ONLY",
            "SELECT array_agg(a ORDER BY (id)) FROM t",
            "UPDATE home SET a = 5 WHERE id = 1",
            "UPDATE t SET a = 5 WHERE id = 1",
            "UPDATE t SET a = a + 1",
            "INSERT INTO home (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET a = 1",
            "INSERT INTO t (id) VALUES (101) ON CONFLICT (id) DO UPDATE SET a = 1",
            "INSERT INTO t (id) VALUES (101) ON CONFLICT DO NOTHING",
            "DELETE FROM t USING app.kinds k WHERE k.id = t.a",
            "WITH RECURSIVE x AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM x WHERE n < 5) SELECT n FROM x",
            "SELECT CAST(a AS text), a::numeric(10,2), extract(year FROM date '2020-01-01'), interval '1 day' FROM home WHERE id = 2",
            "SELECT substring(g FROM 1 FOR 2), position('x' IN g), trim(both 'x' FROM g), overlay(g placing 'a' FROM 1) FROM home WHERE id = 2",
            "SELECT id FROM home FOR UPDATE SKIP LOCKED",
            "CREATE VIEW seen AS SELECT a, count(*) AS n FROM home GROUP BY a ORDER BY a",
            "SELECT * FROM seen",
            "CREATE VIEW seen_by AS SELECT a, count(*) AS n FROM by GROUP BY a ORDER BY a",
            "SELECT * FROM seen_by",
            "DROP VIEW seen",
            "CREATE FUNCTION least_of(x int) RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN (SELECT min(a) FROM home WHERE a > x GROUP BY g ORDER BY 1 LIMIT 1); END $$",
            "SELECT least_of(1)",
            "CREATE FUNCTION seven() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.a := 7; RETURN NEW; END $$",
            "CREATE TRIGGER seven BEFORE INSERT ON home FOR EACH ROW EXECUTE FUNCTION seven()",
            "INSERT INTO home (id) VALUES (500) RETURNING a",
            "TRUNCATE home",
            "SELECT count(*) FROM home",
            "SELECT id FROM app.coming ORDER BY id",
        ],
    );
}

#[test]
fn rows_of_a_query_are_stored_with_one_time() {
    let (stage, one) = both();
    let table = "CREATE TABLE stamped (id int8 PRIMARY KEY, a int, at timestamptz DEFAULT now(), \
         day date DEFAULT CURRENT_DATE, utc timestamp DEFAULT (now() AT TIME ZONE 'utc'))";
    let ones = "SELECT count(*), count(DISTINCT at), count(DISTINCT day), count(DISTINCT utc), \
         bool_and(at AT TIME ZONE 'utc' = utc), bool_and(at <= clock_timestamp()) FROM stamped";
    compare(
        &stage,
        &one,
        &[
            table,
            "CREATE TABLE t (id int8 PRIMARY KEY, a int)",
            "INSERT INTO t SELECT n, n FROM generate_series(1, 40) n",
            "INSERT INTO stamped (id, a) SELECT id, a FROM t",
            ones,
            "INSERT INTO stamped SELECT id + 100, a FROM t ORDER BY id DESC",
            ones,
            "BEGIN",
            "UPDATE t SET a = 0 WHERE id = 7",
            "INSERT INTO stamped (id, a) SELECT id + 200, a FROM t WHERE id % 2 = 0",
            "INSERT INTO stamped (id, a) VALUES (301, 1), (302, 1), (303, 1), (304, 1)",
            "SELECT count(*), bool_and(at = now()) FROM stamped WHERE id > 200",
            "COMMIT",
            ones,
            "SELECT id, a FROM stamped WHERE id > 190 ORDER BY id",
            "INSERT INTO stamped (a, id) SELECT a, id FROM t ON CONFLICT (id) DO UPDATE SET at = excluded.at, utc = excluded.utc",
            ones,
        ],
    );
}

#[test]
fn a_sequence_is_set_to_the_largest_key_of_all_shards() {
    let stage = Stage::bare("[tables]\ndefault = \"auto\"\n");
    let one = Shards::new(1);
    let statements = [
        "CREATE TABLE orders (id bigserial PRIMARY KEY, a int)",
        "CREATE TABLE parts (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, a int)",
        "INSERT INTO orders VALUES (5, 1), (77, 2), (78, 3), (12, 1)",
        "INSERT INTO parts VALUES (5, 1), (33, 2), (34, 2)",
        "SELECT setval('orders_id_seq', (SELECT max(id) FROM orders))",
        "INSERT INTO orders (a) VALUES (9) RETURNING id",
        "INSERT INTO orders VALUES (500, 2)",
        "SELECT setval(pg_get_serial_sequence('\"orders\"','id'), coalesce(max(\"id\"), 1), max(\"id\") IS NOT null) FROM \"orders\"",
        "INSERT INTO orders (a) VALUES (9) RETURNING id",
        "SELECT setval(pg_get_serial_sequence('parts', 'id'), (SELECT coalesce(max(id), 1) FROM parts))",
        "INSERT INTO parts (a) VALUES (9) RETURNING id",
        "SELECT setval('orders_id_seq', COALESCE((SELECT MAX(id) + 1 FROM orders), 1), false)",
        "SELECT nextval('orders_id_seq')",
        "SELECT pg_catalog.setval('orders_id_seq', max(id)) AS x, count(*) FROM orders",
        "BEGIN",
        "INSERT INTO orders VALUES (900, 1), (901, 1)",
        "SELECT setval('orders_id_seq', max(id)) FROM orders",
        "ROLLBACK",
        "INSERT INTO orders (a) VALUES (9) RETURNING id",
        "SELECT setval('orders_id_seq', (SELECT max(id) FROM orders WHERE a = 12345))",
        "SELECT setval('no_seq', max(id)) FROM orders",
        "DELETE FROM orders",
        "SELECT setval(pg_get_serial_sequence('orders', 'id'), coalesce(max(id), 1), max(id) IS NOT null) FROM orders",
        "INSERT INTO orders (a) VALUES (9) RETURNING id",
    ];
    compare(&stage, &one, &statements);
    let mut wire = stage.wire();
    for sql in [
        "SELECT setval('orders_id_seq', id) FROM orders",
        "SELECT setval('orders_id_seq', max(id)) FROM orders GROUP BY a",
        "SELECT setval('orders_id_seq', max(id)), inet_server_port() FROM orders",
    ] {
        let said = say(&mut wire, sql);
        assert!(said[0].starts_with("Error 0A000"), "{sql}: {said:?}");
    }
}

#[test]
fn copy_forces_fields_to_be_null_or_not() {
    let (stage, one) = both();
    let (mut router, mut direct) = (stage.wire(), Wire::login(&one.endpoint(0)));
    let table = "CREATE TABLE t (id int8 PRIMARY KEY, a text, b text)";
    assert_eq!(say(&mut router, table), say(&mut direct, table));
    let mut from = 0;
    for options in [
        "(FORMAT csv, FORCE_NULL (a, b))",
        "(FORMAT csv, FORCE_NOT_NULL (a), FORCE_NULL (\"b\"))",
        "(FORMAT csv, NULL 'x', FORCE_NULL (a), HEADER)",
        "CSV FORCE NOT NULL a, b",
        "CSV NULL 'x' FORCE NULL a FORCE NOT NULL b",
        "(FORMAT csv, FORCE_NULL (id))",
        "(FORMAT csv, FORCE_NULL (nothing))",
        "(FORMAT text, FORCE_NULL (a))",
        "(FORMAT csv, FORCE_QUOTE (a))",
    ] {
        let row = |id: i32| match id % 4 {
            0 => format!("{id},\"\",\"\"\n"),
            1 => format!("{id},,\n"),
            2 => format!("\"{id}\",x,\"x\"\n"),
            _ => format!("{id},\"a,b\",\"x\"\n"),
        };
        let rows: String = (from..from + 20).map(row).collect();
        from += 20;
        let sql = format!("COPY t FROM STDIN WITH {options}");
        let (said, expected) = (
            copy_in(&mut router, &sql, &[rows.as_bytes()]),
            copy_in(&mut direct, &sql, &[rows.as_bytes()]),
        );
        let failed = |said: &[String]| said.iter().any(|one| one.starts_with("Error"));
        match failed(&expected) {
            true => assert!(failed(&said), "{sql}: {said:?}"),
            false => assert_eq!(said, expected, "{sql}"),
        }
        let all = "SELECT * FROM t ORDER BY id";
        assert_eq!(say(&mut router, all), say(&mut direct, all), "{sql}");
    }
    let quoted = "COPY (SELECT * FROM t WHERE id = 3) TO STDOUT (FORMAT csv, FORCE_QUOTE (id, a))";
    assert_eq!(say(&mut router, quoted), say(&mut direct, quoted));
    let quoted = "COPY t TO STDOUT (FORMAT csv, FORCE_QUOTE *)";
    let sorted = |wire: &mut Wire| {
        let mut said = say(wire, quoted);
        said.sort();
        said
    };
    assert_eq!(sorted(&mut router), sorted(&mut direct));
}

// A stranger found it: copies of a reference table differed for good after such writes, and wrong rows were deleted.
#[test]
fn what_each_shard_has_of_its_own_decides_nothing() {
    let (stage, _) = both();
    let mut wire = stage.wire();
    let role = format!("looker_{}", std::process::id());
    for sql in [
        "CREATE SCHEMA app",
        "CREATE TABLE app.kinds (id int PRIMARY KEY, name text)",
        "CREATE TABLE t (id int8 PRIMARY KEY, a int, b text)",
        "CREATE TABLE home (id int)",
        "INSERT INTO app.kinds VALUES (1, 'one'), (2, 'two')",
        "INSERT INTO t (id, a, b) SELECT n, n, 'home' FROM generate_series(1, 9) n",
        "CREATE FUNCTION is_there(name text) RETURNS bool LANGUAGE plpgsql STABLE AS \
         $$ BEGIN RETURN to_regclass(name) IS NOT NULL; END $$",
        "CREATE FUNCTION is_listed(name text) RETURNS bool LANGUAGE sql STABLE AS \
         $$ SELECT EXISTS (SELECT FROM pg_class WHERE relname = name) $$",
        "CREATE TABLE by (id int8 PRIMARY KEY, a int)",
        "INSERT INTO by SELECT n, n FROM generate_series(1, 9) n",
        &format!("CREATE ROLE {role}"),
        &format!("GRANT ALL ON by TO {role}"),
        "ALTER TABLE by ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY p ON by USING (to_regclass('home') IS NOT NULL)",
    ] {
        let told = say(&mut wire, sql);
        assert!(told[0].starts_with("CommandComplete"), "{sql}: {told:?}");
    }
    for sql in [
        "UPDATE app.kinds SET name = 'x' WHERE id = 1 AND xmin::text <> ''",
        "DELETE FROM app.kinds WHERE ctid = '(0,1)'",
        "UPDATE app.kinds SET name = tableoid::text",
        "UPDATE app.kinds SET name = 'app.kinds'::regclass::oid::text",
        "UPDATE app.kinds SET name = is_there('home')::text",
        "INSERT INTO app.kinds VALUES (1, '') ON CONFLICT (id) DO UPDATE SET name = kinds.tableoid::text",
        "DELETE FROM t WHERE ctid = '(0,1)'",
        "DELETE FROM t WHERE NOT is_there(b)",
        "SELECT id FROM t WHERE is_listed(b)",
    ] {
        let told = say(&mut wire, sql);
        assert!(told[0].starts_with("Error 0A000"), "{sql}: {told:?}");
    }
    // RETURNING decides nothing, and a key leads to one server.
    for sql in [
        "UPDATE app.kinds SET name = 'x' WHERE id = 1 RETURNING xmin IS NULL",
        "UPDATE t SET b = 'y' WHERE id = 5 AND xmin::text <> '' RETURNING id",
    ] {
        assert!(say(&mut wire, sql)[1].starts_with("DataRow"), "{sql}");
    }
    say(&mut wire, &format!("SET ROLE {role}"));
    let told = say(&mut wire, "SELECT count(*) FROM by");
    assert!(told[0].starts_with("Error 0A000"), "{told:?}");
    say(&mut wire, "RESET ROLE");
    // U+00A6 does not come back from this encoding.
    say(&mut wire, "SET client_encoding = 'EUC_JP'");
    let told = say(&mut wire, "SELECT b, count(*) FROM t GROUP BY b");
    assert!(told[0].starts_with("Error 0A000"), "{told:?}");
    say(&mut wire, &format!("DROP OWNED BY {role}"));
    say(&mut wire, &format!("DROP ROLE {role}"));
}

#[test]
fn a_trigger_that_is_fired_by_updates_hinders_no_insert() {
    let (stage, one) = both();
    compare(
        &stage,
        &one,
        &[
            "CREATE TABLE stamped (id int8 PRIMARY KEY, a int, at timestamptz)",
            "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN NEW.at := now(); RETURN NEW; END $$",
            "CREATE TRIGGER stamp BEFORE UPDATE ON stamped FOR EACH ROW EXECUTE FUNCTION stamp()",
            "INSERT INTO stamped (id, a) VALUES (1, 1), (2, 2), (3, 3), (4, 4), (5, 5)",
            "INSERT INTO stamped (id, a) SELECT id + 10, a FROM stamped",
            "BEGIN",
            "INSERT INTO stamped (id, a) VALUES (6, 1)",
            "INSERT INTO stamped (id, a) VALUES (7, 1)",
            "COMMIT",
            "SELECT count(*), count(at) FROM stamped",
            "UPDATE stamped SET a = 7 WHERE id = 1 RETURNING at IS NOT NULL",
        ],
    );
    let mut wire = stage.wire();
    let copied = copy_in(
        &mut wire,
        "COPY stamped (id, a) FROM STDIN",
        &[b"21\t1\n22\t1\n23\t1\n"],
    );
    assert!(
        copied.contains(&"CommandComplete COPY 3".to_owned()),
        "{copied:?}"
    );
    for sql in [
        "UPDATE stamped SET a = 8",
        "INSERT INTO stamped (id, a) VALUES (1, 1), (2, 2), (3, 3), (4, 4) \
         ON CONFLICT (id) DO UPDATE SET a = excluded.a",
    ] {
        let told = say(&mut wire, sql);
        assert!(told[0].starts_with("Error 0A000"), "{sql}: {told:?}");
    }
}

#[test]
fn an_exclusion_constraint_that_compares_the_key_is_enforced() {
    let (stage, one) = both();
    compare(
        &stage,
        &one,
        &[
            "CREATE EXTENSION btree_gist",
            "CREATE TABLE t (id int8, during int4range, CONSTRAINT booked EXCLUDE USING gist (id WITH =, during WITH &&))",
            "INSERT INTO t VALUES (1, '[1,5)'), (2, '[1,5)'), (3, '[1,5)'), (1, '[5,7)')",
            "INSERT INTO t VALUES (2, '[4,6)')",
            "INSERT INTO t VALUES (4, '[1,5)'), (3, '[2,3)') ON CONFLICT DO NOTHING",
            "UPDATE t SET during = '[3,6)' WHERE id = 1 AND during = '[5,7)'",
            "SELECT * FROM t ORDER BY id, during",
            "ALTER TABLE t DROP CONSTRAINT booked",
            "INSERT INTO t VALUES (2, '[4,6)')",
            "ALTER TABLE t ADD CONSTRAINT booked EXCLUDE USING gist (id WITH =, during WITH &&)",
            "SELECT count(*) FROM t",
        ],
    );
}

// Shards of one cluster share catalogs, which ANALYZE locks until its transaction ends.
#[test]
fn everything_is_analysed_where_shards_share_a_cluster() {
    let (stage, one) = both();
    let all = ["ANALYZE", "ANALYSE VERBOSE", "ANALYZE (SKIP_LOCKED)"];
    let mut wire = stage.wire();
    let mut direct = Wire::login(&one.endpoint(0));
    for sql in all {
        let command = |wire: &mut Wire| {
            let told = say(wire, sql);
            told.into_iter().find(|line| line.starts_with("Command"))
        };
        assert_eq!(command(&mut wire), command(&mut direct), "{sql}");
    }
    for wire in [&mut wire, &mut direct] {
        say(wire, "CREATE TABLE t (id int8 PRIMARY KEY)");
    }
    let alone = extended("ANALYZE", &[], &[]);
    let first = segment(["ANALYZE", "INSERT INTO t VALUES (1)"]);
    for messages in [alone, first] {
        assert_eq!(send(&mut wire, &messages), send(&mut direct, &messages));
    }
    // Anywhere else it would wait for itself.
    let behind = segment(["INSERT INTO t VALUES (2)", "ANALYZE"]);
    let told = [
        send(&mut wire, &behind),
        say(&mut wire, "INSERT INTO t VALUES (2); ANALYZE"),
        say(&mut wire, "BEGIN; ANALYZE"),
    ];
    say(&mut wire, "ROLLBACK");
    for told in told {
        let refused =
            |line: &String| line.contains("0A000") && line.contains("ANALYZE without a table");
        assert!(told.iter().any(refused), "{told:?}");
    }
    assert_eq!(wire.rows("SELECT id FROM t"), [["1"]]);
}

#[test]
fn values_whose_binary_form_no_server_reads_are_gathered() {
    let (stage, one) = both();
    compare(
        &stage,
        &one,
        &[
            "CREATE TABLE t (id int8 PRIMARY KEY, q tsquery, bits bit(4), many tsquery[])",
            "INSERT INTO t (id, q, bits) VALUES (1, 'x', B'0000'), (2, 'a & b', B'0101'), (3, 'c', X'f')",
            "UPDATE t SET q = '!x' WHERE id = 3 AND bits = B'1111'",
            "SELECT q FROM t ORDER BY q",
            "SELECT count(DISTINCT q), max(bits) FROM t",
            "SELECT a.id, b.q, b.bits FROM t a JOIN t b ON a.id = b.id + 1 ORDER BY 1",
            "UPDATE t SET q = (SELECT o.q FROM t o WHERE o.id = 2) WHERE id = 1",
            "SELECT id, q, bits | B'0001' FROM t WHERE bits <> b'0000' ORDER BY id",
        ],
    );
    for wire in [&mut stage.wire(), &mut Wire::login(&one.endpoint(0))] {
        say(wire, "UPDATE t SET q = '' WHERE id = 1");
    }
    compare(
        &stage,
        &one,
        &[
            // The server that has the gathered rows reads an empty query as a text, and notices that.
            "SET client_min_messages = warning",
            "SELECT id, q FROM t ORDER BY q, id",
            "SELECT a.id, b.q FROM t a JOIN t b ON a.id = b.id + 1 ORDER BY 1",
            "SELECT count(DISTINCT q) FROM t",
        ],
    );
}

/// Triggers that read the key of their row, as strangers wrote them; none sets it.
#[test]
fn triggers_may_read_the_key_of_their_row() {
    let (stage, one) = both();
    let body = "BEGIN IF NEW.id = 3 OR NEW.id % 2 = 0 THEN NEW.b := NEW.b || NEW.id::text; END IF; \
        IF TG_OP = 'UPDATE' THEN IF OLD.id <> NEW.id THEN RAISE EXCEPTION 'row % moves', OLD.id; END IF; END IF; \
        RETURN NEW; END";
    let sets = "BEGIN NEW.id = NEW.id + 1; RETURN NEW; END";
    compare(
        &stage,
        &one,
        &[
            "CREATE TABLE t (id int8 PRIMARY KEY, a int, b text)",
            &format!("CREATE FUNCTION marks() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$"),
            "CREATE TRIGGER marks BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION marks()",
            "INSERT INTO t (id, a, b) VALUES (1, 1, 'x'), (2, 1, 'x'), (3, 1, 'x'), (4, 1, 'x')",
            "UPDATE t SET a = 2",
            "SELECT * FROM t ORDER BY id",
        ],
    );
    let mut wire = stage.wire();
    say(
        &mut wire,
        &format!("CREATE FUNCTION sets() RETURNS trigger LANGUAGE plpgsql AS $$ {sets} $$"),
    );
    say(
        &mut wire,
        "CREATE TRIGGER sets BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION sets()",
    );
    let said = say(&mut wire, "INSERT INTO t (id) VALUES (9)");
    assert!(said[0].starts_with("Error 0A000"), "{said:?}");
}
