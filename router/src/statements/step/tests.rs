//! Texts and the steps that are read of them.

use super::super::settings::{Change, Setting, Value};
use super::*;

fn one(sql: &str) -> Step {
    let mut all = steps(sql.as_bytes(), true);
    assert_eq!(all.len(), 1, "{sql}");
    all.remove(0)
}

#[test]
fn transaction_control_is_known_however_it_is_written() {
    let modes = "ISOLATION LEVEL SERIALIZABLE, READ ONLY";
    assert_eq!(one("begin").kind, Kind::Begin(String::new()));
    assert_eq!(
        one(&format!("START /* x */ TRANSACTION {modes};")).kind,
        Kind::Begin(modes.into())
    );
    assert_eq!(one("END").kind, Kind::Commit { chain: false });
    assert_eq!(one("ABORT AND CHAIN").kind, Kind::Rollback { chain: true });
    assert_eq!(one("SAVEPOINT \"A b\"").kind, Kind::Savepoint("A b".into()));
    assert_eq!(one("rollback to s").kind, Kind::RollbackTo("s".into()));
}

#[test]
fn settings_are_followed_and_unclear_ones_pin() {
    let Kind::Settings(changes) = one("SET TIME ZONE 'UTC'").kind else {
        panic!("SET is a setting")
    };
    assert_eq!(
        changes,
        [Change::Set(Setting {
            name: "timezone".into(),
            value: Value::Statement("SET \"timezone\" TO E'UTC'".into())
        })]
    );
    let path = "SET LOCAL \"search_path\" TO E'a', E'b'";
    assert_eq!(
        one("SET LOCAL search_path = a, b").kind,
        Kind::SetLocal(
            Change::Set(Setting {
                name: "search_path".into(),
                value: Value::Statement(path.into())
            }),
            path.into()
        )
    );
    for (sql, own) in [
        (
            "SET transaction_isolation = 'serializable'",
            "SET \"transaction_isolation\" TO E'serializable'",
        ),
        (
            "SET LOCAL transaction_read_only TO on",
            "SET LOCAL \"transaction_read_only\" TO E'on'",
        ),
        (
            "RESET transaction_deferrable",
            "RESET \"transaction_deferrable\"",
        ),
    ] {
        assert_eq!(one(sql).kind, Kind::SetTransaction(own.into()));
    }
    let local = "SET LOCAL \"work_mem\" TO DEFAULT";
    assert_eq!(
        one("SET LOCAL work_mem = default").kind,
        Kind::SetLocal(Change::Reset("work_mem".into()), local.into())
    );
    assert_eq!(
        one("SELECT set_config('Role', 'x', true), set_config('a.b', null, true)").kind,
        Kind::LocalConfig(Some(vec![
            Change::Set(Setting {
                name: "role".into(),
                value: Value::Text("x".into())
            }),
            Change::Reset("a.b".into())
        ]))
    );
    assert_eq!(
        one("SELECT set_config('a.b', $1, true)").kind,
        Kind::LocalConfig(None)
    );
    assert!(one("SET LOCAL work_mem = '1MB'").pins.is_empty());
    assert!(matches!(
        one("SELECT pg_catalog.set_config('search_path', '', false)").kind,
        Kind::Settings(_)
    ));
    assert_eq!(
        one("SELECT set_config('transaction_isolation', 'serializable', false)").kind,
        Kind::LocalConfig(Some(vec![Change::Set(Setting {
            name: "transaction_isolation".into(),
            value: Value::Text("serializable".into())
        })]))
    );
    for unclear in [
        "SELECT set_config('search_path', $1, false)",
        "SELECT set_config('a.b', c, false) FROM t",
        "SET application_name = 'žluť'",
        "DO $$ begin perform set_config('a.b', 'c', false); end $$",
        "SELECT set_config('a.b', 'c', false), set_config('a.b', 'd', true)",
    ] {
        assert!(!one(unclear).pins.is_empty(), "{unclear}");
    }
    assert!(one("SELECT set_config('a.b', 'x', true)").pins.is_empty());
}

#[test]
fn a_call_of_a_function_that_is_not_built_in_may_write() {
    for (sql, calls) in [
        (
            "SELECT count(*), coalesce(max(a), 0) FROM t WHERE lower(b) LIKE 'x'",
            &[][..],
        ),
        (
            "SELECT a::varchar(10), pg_catalog.upper(b), now(), random() FROM t",
            &[],
        ),
        (
            "SELECT extract(year FROM d), row_number() OVER (ORDER BY d) FROM t",
            &[],
        ),
        ("SELECT pg_sleep(1), nextval('s')", &[]),
        ("SELECT f(1), app.upper('x'), \"G\"()", &["f", "upper", "G"]),
        ("SELECT * FROM f() WHERE lower(g(a)) = 'x'", &["f", "g"]),
    ] {
        let step = one(sql);
        let found: Vec<&str> = step.calls.iter().map(|name| &**name).collect();
        assert_eq!(found, calls, "{sql}");
    }
}

#[test]
fn the_name_of_a_prepared_statement_is_found_to_be_replaced() {
    for (sql, name) in [
        ("PREPARE q(int) AS SELECT $1", "q"),
        ("EXECUTE \"Q x\"(1)", "\"Q x\""),
        ("EXPLAIN (ANALYZE) EXECUTE q(1)", "q"),
    ] {
        let step = one(sql);
        assert_eq!(
            step.name_span.map(|s| s.of(sql.as_bytes())),
            Some(name.as_bytes())
        );
    }
}

#[test]
fn explain_route_executes_nothing_and_knows_its_statement() {
    let sql = "SELECT 1; EXPLAIN (ANALYZE, ROUTE) DELETE FROM t WHERE pg_advisory_lock(1) IS NULL";
    let step = steps(sql.as_bytes(), true).remove(1);
    let Kind::ExplainRoute(inner) = step.kind else {
        panic!("{:?}", step.kind)
    };
    assert!(inner.of(sql.as_bytes()).starts_with(b"DELETE"));
    assert!(step.pins.is_empty() && !step.writes);
    assert_eq!(one("EXPLAIN (ROUTE off) SELECT 1").kind, Kind::Plain);
}

#[test]
fn spans_are_those_of_the_whole_text() {
    let sql = b"select 1;; execute q(2)";
    let all = steps(sql, true);
    assert_eq!(all.len(), 2);
    assert_eq!(all[1].name_span.map(|s| s.of(sql)), Some(&b"q"[..]));
}

#[test]
fn a_database_that_is_dropped_renamed_moved_or_copied_must_be_empty() {
    let of = |sql: &str| steps(sql.as_bytes(), true)[0].empties.clone();
    for (sql, name) in [
        (
            "DROP DATABASE IF EXISTS \"Test\" WITH (FORCE)",
            Some("Test"),
        ),
        ("drop database test", Some("test")),
        ("ALTER DATABASE test RENAME TO other", Some("test")),
        ("ALTER DATABASE test SET TABLESPACE fast", Some("test")),
        ("CREATE DATABASE test TEMPLATE = main", Some("main")),
        (
            "CREATE DATABASE test OWNER a TEMPLATE main ENCODING 'UTF8'",
            Some("main"),
        ),
        ("CREATE DATABASE test TEMPLATE 'Main'", Some("Main")),
        ("CREATE DATABASE test", Some("template1")),
        ("CREATE DATABASE template OWNER a", Some("template1")),
        ("CREATE DATABASE test TEMPLATE DEFAULT", Some("template1")),
        ("ALTER DATABASE test SET work_mem = '1MB'", None),
        ("DROP TABLE test", None),
    ] {
        assert_eq!(of(sql).as_deref(), name, "{sql}");
    }
}

#[test]
fn definitions_of_relations_make_no_code_unless_they_say_so() {
    for sql in [
        "CREATE TABLE t (id int PRIMARY KEY, a int DEFAULT f() CHECK (a > 0))",
        "ALTER TABLE t ADD COLUMN b text DEFAULT 'x'",
        "CREATE INDEX i ON t (lower(b))",
        "DROP TABLE t",
        "CREATE VIEW v AS SELECT 1",
        "GRANT SELECT ON t TO PUBLIC",
        "COMMENT ON FUNCTION f() IS 'x'",
    ] {
        assert!(one(sql).changes_schema && !one(sql).changes_code, "{sql}");
    }
    for sql in [
        "CREATE TABLE t (a text DEFAULT set_config('a.b', 'c', false))",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DROP FUNCTION f()",
        "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
        "CREATE TYPE c AS (a int)",
        "CREATE OPERATOR CLASS o FOR TYPE int USING btree AS OPERATOR 1 <",
        "CREATE SCHEMA s CREATE TABLE t ()",
        "CREATE EXTENSION hstore",
        "DO 'BEGIN END'",
    ] {
        assert!(one(sql).changes_code, "{sql}");
    }
}

#[test]
fn a_table_of_what_execute_gives_names_its_statement() {
    let name = |sql: &str| match one(sql) {
        Step {
            kind: Kind::Execute(name),
            name_span: Some(span),
            stores: true,
            ..
        } => format!(
            "{} {}",
            String::from_utf8_lossy(&name),
            &sql[span.start..span.end]
        ),
        step => format!("{:?}", step.kind),
    };
    for (sql, expected) in [
        ("CREATE TABLE t AS EXECUTE p", "p p"),
        (
            "create temp table \"as\" (a) on commit drop as execute \"P q\"(1, 'x') with no data;",
            "P q \"P q\"",
        ),
        (
            "CREATE TABLE IF NOT EXISTS s.t WITH (fillfactor = 10) TABLESPACE u AS EXECUTE Foo (2)",
            "foo Foo",
        ),
        (
            "EXPLAIN (ANALYZE, COSTS OFF) CREATE TABLE t AS EXECUTE p",
            "p p",
        ),
        ("CREATE TABLE t AS SELECT 1 AS execute", "Plain"),
        (
            "CREATE TABLE t (a int GENERATED ALWAYS AS (1) STORED)",
            "Plain",
        ),
        ("EXPLAIN CREATE TABLE t AS SELECT 1 AS execute", "Plain"),
        ("CREATE VIEW v AS SELECT 1 AS execute", "Plain"),
    ] {
        assert_eq!(name(sql), expected, "{sql}");
    }
    let temporary = one("CREATE TEMP TABLE t AS EXECUTE p");
    assert!(temporary.pins.has(Pin::TempObject) && temporary.changes_schema);
    for (sql, concerns) in [
        ("CREATE TEMP TABLE t AS SELECT 1", false),
        ("CREATE TEMP TABLE t (a int) ON COMMIT DROP", false),
        ("CREATE TEMPORARY VIEW v AS SELECT 1", false),
        ("CREATE TEMP TABLE t () INHERITS (public.t)", true),
        ("CREATE TABLE t (a int)", true),
        ("DROP TABLE t", true),
    ] {
        assert_eq!(one(sql).concerns_others(), concerns, "{sql}");
    }
}
