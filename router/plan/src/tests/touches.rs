//! What statements are proven to touch.

use super::*;
use crate::touches::MAX_PARTS;

const CATALOG: &str = "
server_version 150004
schema public
type public.mood enum sad ok
type public.posint domain int4
function public.f immutable sql SELECT 1
function public.spread volatile plpgsql BEGIN RETURN NEW; END
table public.a
  column id bigint not null
  column n int
  contained
  primary key id
table public.b
  column id bigint not null
  column n int
  contained
  primary key id
table public.pair
  column x int not null
  column y text not null
  column n int
  contained
  primary key x, y
table public.parted
  column id bigint not null
  column n int
  contained
  primary key id
  partition by hash (id) into 2
table public.leafy
  column id bigint not null
  column n int
  contained
  primary key id
table public.leafy_0
  column id bigint not null
  column n int
  contained
  parent public.leafy
table public.triggered
  column id bigint not null
  column n int
  contained
  primary key id
  trigger t after public.spread
table public.ruled
  column id bigint not null
  column n int
  contained
  rules
table public.secured
  column id bigint not null
  column n int
  contained
  policy own (n > 0)
table public.unproven
  column id bigint not null
  column n int default f()
  primary key id
table public.ref
  column id bigint not null
  contained
table public.home
  column id bigint not null
  contained
view public.v (id, n) as SELECT a.id, a.n FROM public.a
";

const TABLES: [&str; 9] = [
    "a",
    "b",
    "parted",
    "leafy",
    "triggered",
    "ruled",
    "secured",
    "unproven",
    "gone",
];

fn map() -> ShardMap {
    let mut builder = ShardMapBuilder::new(1);
    // One shard, so that every statement has one.
    builder.shard("s0");
    for table in TABLES {
        builder.table("public", table, hash(&[("id", KeyType::Int8)]));
    }
    builder.table(
        "public",
        "pair",
        hash(&[("x", KeyType::Int4), ("y", KeyType::Text)]),
    );
    builder.table("public", "ref", TableDecl::Reference);
    builder.build().unwrap()
}

/// The parts of a statement with the parameters `$1 = 5` and `$2 = 6`; None for anything.
fn touched(sql: &str) -> Option<Vec<u64>> {
    let catalog = text::parse(CATALOG).unwrap();
    let map = map();
    let plan = Planner::new(&catalog, &map).plan(sql, &PlanContext::default());
    let params = Params {
        values: &[Some(b"5"), Some(b"6")],
        ..Params::NONE
    };
    let route = route(&plan, &params, &map, &TextContext::UTC, None).ok()?;
    parts(&plan, &route, &params, &TextContext::UTC)
}

/// The part of a row.
fn part(table: &str, id: i64) -> u64 {
    let sql = format!("SELECT n FROM {table} WHERE id = {id}");
    let parts = touched(&sql).unwrap();
    assert_eq!(parts.len(), 1, "{sql}");
    parts[0]
}

fn check(sql: &str, expected: &[u64]) {
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(touched(sql), Some(expected), "{sql}");
}

#[test]
fn a_read_by_one_key_touches_its_part_and_a_write_the_same() {
    let five = part("a", 5);
    assert_ne!(five, part("a", 6));
    assert_ne!(five, part("b", 5));
    for sql in [
        "SELECT * FROM a WHERE id = $1",
        "SELECT count(*), max(n) FROM public.a WHERE id = '5' AND n > 3",
        "WITH c AS (SELECT * FROM a WHERE id = 5) SELECT * FROM c",
        "SELECT x.n FROM a x JOIN a y ON y.id = x.id WHERE x.id = 5",
        "SELECT now(), lower('x'), n::text FROM a WHERE id = 5 ORDER BY n LIMIT 1",
        "INSERT INTO a VALUES (5, 1)",
        "INSERT INTO a (n, id) VALUES (random() * 10, $1), (2, 5) RETURNING n",
        "INSERT INTO a VALUES (5, 1) ON CONFLICT (id) DO UPDATE SET n = excluded.n",
        "UPDATE a SET n = n + 1 WHERE id = $1",
        "UPDATE a SET id = 5, n = 1 WHERE id = 5",
        "UPDATE a SET n = b.n FROM b WHERE b.id = 5 AND a.id = 5",
        "DELETE FROM a WHERE id = 5 AND n = 1 RETURNING *",
    ] {
        check(sql, &[five]);
    }
    check("INSERT INTO a VALUES (5, 1), (6, 1)", &[five, part("a", 6)]);
    check(
        "SELECT * FROM a JOIN b ON a.id = b.id WHERE a.id = 5",
        &[five, part("b", 5)],
    );
    check(
        "SELECT * FROM a, b WHERE a.id = $1 AND b.id = $2",
        &[five, part("b", 6)],
    );
}

#[test]
fn a_key_of_several_columns_must_be_whole() {
    assert!(touched("SELECT * FROM pair WHERE x = 1 AND y = 'k'").is_some());
    assert_eq!(
        touched("SELECT * FROM pair WHERE x = 1 AND y = 'k'"),
        touched("INSERT INTO pair VALUES (1, 'k', 2)")
    );
    assert_eq!(touched("SELECT * FROM pair WHERE x = 1"), None);
}

#[test]
fn a_partitioned_table_is_one_table_and_its_leaves_are_not_told_apart() {
    // The catalog of the test says nothing of these leaves.
    assert_eq!(touched("SELECT * FROM parted WHERE id = 5"), None);
    assert!(touched("SELECT * FROM leafy WHERE id = 5").is_some());
    assert!(touched("UPDATE leafy SET n = 1 WHERE id = 5").is_some());
    assert_eq!(touched("SELECT * FROM leafy_0 WHERE id = 5"), None);
    assert_eq!(touched("UPDATE leafy_0 SET n = 1 WHERE id = 5"), None);
}

#[test]
fn what_is_not_proven_may_touch_anything() {
    let rows = ["(5, 1)"; MAX_PARTS + 1].join(", ");
    for sql in [
        // Not one key.
        "SELECT * FROM a",
        "SELECT * FROM a WHERE id IN (5, 6)",
        "SELECT * FROM a WHERE id = 5 OR n = 1",
        "SELECT * FROM a WHERE id > 5",
        "SELECT * FROM a WHERE id = NULL",
        "SELECT * FROM a WHERE id = $3",
        "SELECT * FROM a, b WHERE a.id = 5",
        "SELECT n, (SELECT max(n) FROM b) FROM a WHERE id = 5",
        "UPDATE a SET n = 1",
        "DELETE FROM a WHERE n = 5",
        &format!("INSERT INTO a VALUES {rows}"),
        // Other tables.
        "SELECT * FROM a, ref WHERE a.id = 5",
        "UPDATE a SET n = 1 WHERE id = 5 AND EXISTS (SELECT 1 FROM ref)",
        "SELECT * FROM ref",
        "SELECT * FROM home WHERE id = 5",
        "SELECT * FROM pg_class, a WHERE a.id = 5",
        "SELECT * FROM nowhere WHERE id = 5",
        "SELECT * FROM v WHERE id = 5",
        // Consequences.
        "INSERT INTO triggered VALUES (5, 1)",
        "SELECT * FROM triggered WHERE id = 5",
        "UPDATE ruled SET n = 1 WHERE id = 5",
        "SELECT * FROM secured WHERE id = 5",
        "UPDATE secured SET n = 1 WHERE id = 5",
        "INSERT INTO unproven (id) VALUES (5)",
        "SELECT * FROM unproven WHERE id = 5",
        // What a user has made.
        "SELECT f() FROM a WHERE id = 5",
        "SELECT public.f() FROM a WHERE id = 5",
        "UPDATE a SET n = f() WHERE id = 5",
        "SELECT a.f FROM a WHERE id = 5",
        "SELECT n::posint FROM a WHERE id = 5",
        "SELECT pg_temp.g() FROM a WHERE id = 5",
        // Other sorts of statements.
        "SELECT * FROM a WHERE id = 5 FOR UPDATE",
        "WITH w AS (DELETE FROM a WHERE id = 5 RETURNING *) SELECT * FROM w",
        "WITH w AS (UPDATE b SET n = 1 WHERE id = 5 RETURNING id) UPDATE a SET n = 1 WHERE id = 5",
        "INSERT INTO a SELECT id, n FROM b WHERE id = 5",
        "MERGE INTO a USING b ON a.id = b.id AND b.id = 5 WHEN MATCHED THEN DELETE",
        "EXPLAIN ANALYZE UPDATE a SET n = 1 WHERE id = 5",
        "DECLARE c CURSOR FOR SELECT * FROM a WHERE id = 5",
        "COPY a FROM STDIN",
        "TRUNCATE a",
        "ALTER TABLE a ADD COLUMN c int",
        "DO 'BEGIN END'",
        "CALL p()",
        "LOCK a",
    ] {
        assert_eq!(touched(sql), None, "{sql}");
    }
}

#[test]
fn random_as_a_default_is_postgresqls_own() {
    // Volatile, and still nothing but a value.
    check(
        "UPDATE a SET n = (random() * 100)::int WHERE id = 5",
        &[part("a", 5)],
    );
}
