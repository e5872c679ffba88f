//! A rule that refuses a table is not passed by another way to write the request.
//!
//! Each way is tried past the router first: it has to bring out the secret there, or it proves nothing.

use crate::spelling::{gap, identifier, literal};
use crate::stage::{Stage, client};
use mothership_tests::message::{self, Format};
use mothership_tests::{Frame, Wire};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

const SECRET: &str = "TOPSECRET";

/// What stands around the table, made by its owner. docs/rules.md says that rules, triggers, policies and defaults are not
/// looked at, so there are none.
const DEFINITIONS: &str = "CREATE TABLE secrets (id int, s text); INSERT INTO secrets VALUES (1, 'TOPSECRET'); \
    CREATE TABLE log (t text); CREATE SCHEMA sx; CREATE TYPE sx.ct AS (i int); \
    CREATE VIEW sx.shown AS SELECT s FROM secrets; CREATE VIEW sx.nested AS SELECT s FROM sx.shown; \
    CREATE FUNCTION sx.g(sx.ct) RETURNS text LANGUAGE sql AS 'select s from secrets'; \
    CREATE FUNCTION sx.reads() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT s FROM SECRETS); END $$; \
    CREATE FUNCTION sx.calls() RETURNS text LANGUAGE sql AS 'SELECT sx.reads()'; \
    CREATE FUNCTION sx.parsed() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT s FROM secrets; END; \
    CREATE FUNCTION sx.built() RETURNS text LANGUAGE plpgsql AS $$ DECLARE r text; BEGIN EXECUTE 'SELECT s FROM secr' || 'ets' INTO r; RETURN r; END $$; \
    CREATE FUNCTION sx.copies() RETURNS int LANGUAGE sql AS 'INSERT INTO log SELECT s FROM secrets; SELECT 1'; \
    CREATE PROCEDURE sx.saves() LANGUAGE sql AS 'INSERT INTO log SELECT s FROM secrets'; \
    CREATE FUNCTION sx.o(int, int) RETURNS text LANGUAGE sql AS 'select s from secrets'; \
    CREATE OPERATOR sx.<%> (leftarg = int, rightarg = int, function = sx.o); \
    CREATE FUNCTION sx.step(text, int) RETURNS text LANGUAGE sql AS 'select s from secrets'; \
    CREATE AGGREGATE sx.agg(int) (sfunc = sx.step, stype = text, initcond = ''); \
    CREATE TABLE whole (id int, s text) PARTITION BY LIST (id); \
    CREATE TABLE above (id int, s text); \
    GRANT ALL ON SCHEMA sx TO alice; GRANT ALL ON ALL TABLES IN SCHEMA public, sx TO alice, bob";

/// A cast need not be written, so everything may be one: it is alone in its database.
const CAST: &str = "CREATE FUNCTION sx.c(sx.ct) RETURNS text LANGUAGE sql AS 'select s from secrets'; \
    CREATE CAST (sx.ct AS text) WITH FUNCTION sx.c(sx.ct)";
const CASTS: &str = "SELECT ROW(1)::sx.ct::text";

/// Statements with bars between them: `{n}` is the table, `{s}` a string that is code which copies it.
const WAYS: [&str; 73] = [
    "SELECT s FROM {n}",
    "TABLE {n}",
    "SELECT s FROM ONLY {n}",
    "SELECT s FROM {n} *",
    "SELECT s FROM ONLY ({n})",
    "SELECT x.* FROM {n} x",
    "SELECT row_to_json(x) FROM {n} AS x",
    "SELECT x FROM {n} x",
    "SELECT a.s FROM log RIGHT JOIN {n} a ON true",
    "SELECT a.s FROM (log CROSS JOIN log b) RIGHT JOIN {n} a ON true",
    "SELECT a.s FROM generate_series(1, 1) g, {n} a",
    "SELECT a.s FROM (VALUES (1)) v (id) NATURAL JOIN {n} a",
    "SELECT s FROM (VALUES (1)) v (id) JOIN {n} USING (id)",
    "SELECT q.s FROM (VALUES (1)) v, LATERAL (SELECT s FROM {n}) q",
    "SELECT s FROM (TABLE {n}) q",
    "SELECT s FROM ((SELECT s FROM {n})) q",
    "SELECT (SELECT s FROM {n})",
    "SELECT ARRAY(SELECT s FROM {n})",
    "SELECT ARRAY(SELECT x FROM {n} x)::text",
    "VALUES ((SELECT s FROM {n}))",
    "SELECT CASE WHEN true THEN (SELECT s FROM {n}) END",
    "SELECT 'a' UNION ALL SELECT s FROM {n}",
    "SELECT 'a' UNION TABLE {n}|SELECT s FROM {n}",
    "SELECT s FROM {n} TABLESAMPLE system (100)",
    "SELECT s FROM {n} FOR UPDATE",
    "WITH x AS (SELECT s FROM {n}) SELECT s FROM x",
    "WITH x AS MATERIALIZED (TABLE {n}) TABLE x",
    "WITH secrets AS (SELECT s FROM {n}) SELECT s FROM secrets",
    "WITH RECURSIVE x (s, i) AS (SELECT s, 1 FROM {n} UNION ALL SELECT s, i + 1 FROM x WHERE i < 2) SELECT s FROM x",
    "WITH x AS (INSERT INTO log SELECT s FROM {n} RETURNING t) SELECT t FROM x",
    "INSERT INTO log SELECT s FROM {n}|TABLE log",
    "INSERT INTO log TABLE ONLY log|INSERT INTO log VALUES ((SELECT s FROM {n})) RETURNING t",
    "INSERT INTO log VALUES ('a') RETURNING (SELECT s FROM {n})",
    "INSERT INTO log VALUES ('a')|UPDATE log SET t = (SELECT s FROM {n})|TABLE log",
    "INSERT INTO log VALUES ('a')|UPDATE log SET t = s FROM {n}|TABLE log",
    "INSERT INTO log VALUES ('a')|UPDATE log SET (t) = (SELECT s FROM {n}) RETURNING t",
    "INSERT INTO log VALUES ('a')|DELETE FROM log USING {n} RETURNING s",
    "UPDATE {n} SET id = id RETURNING s",
    "UPDATE ONLY {n} AS x SET id = id RETURNING x.s",
    "MERGE INTO log USING {n} x ON false WHEN NOT MATCHED THEN INSERT VALUES (x.s)|TABLE log",
    "MERGE INTO log USING (SELECT s FROM {n}) x ON false WHEN NOT MATCHED THEN INSERT VALUES (x.s)|TABLE log",
    "COPY {n} TO STDOUT",
    "COPY {n} (s) TO STDOUT",
    "COPY (SELECT s FROM {n}) TO STDOUT",
    "COPY (TABLE {n}) TO STDOUT (FORMAT csv)",
    "COPY (WITH x AS (TABLE {n}) TABLE x) TO STDOUT",
    "CREATE TABLE sx.taken AS SELECT s FROM {n}|TABLE sx.taken",
    "CREATE TABLE sx.taken AS TABLE {n}|TABLE sx.taken",
    "SELECT s INTO sx.taken FROM {n}|TABLE sx.taken",
    "CREATE MATERIALIZED VIEW sx.taken AS SELECT s FROM {n}|TABLE sx.taken",
    "CREATE VIEW sx.taken AS SELECT s FROM {n}|TABLE sx.taken",
    "CREATE TEMP VIEW taken AS SELECT s FROM {n}|TABLE taken",
    "BEGIN|CREATE VIEW sx.taken AS SELECT s FROM {n}|TABLE sx.taken|COMMIT",
    "EXPLAIN ANALYZE INSERT INTO log SELECT s FROM {n}|TABLE log",
    "PREPARE p AS SELECT s FROM {n}|EXECUTE p",
    "PREPARE p AS INSERT INTO log SELECT s FROM {n}|EXPLAIN ANALYZE EXECUTE p|TABLE log",
    "BEGIN|DECLARE c CURSOR FOR SELECT s FROM {n}|FETCH c|COMMIT",
    "BEGIN|DECLARE c CURSOR WITH HOLD FOR TABLE {n}|COMMIT|FETCH ALL c",
    "SELECT s FROM sx.nested",
    "SELECT * FROM sx.calls()",
    "SELECT sx.parsed()",
    "SELECT sx.built()",
    "SELECT sx.copies()|TABLE log",
    "CALL sx.saves()|TABLE log",
    "SELECT 1 OPERATOR(sx.<%>) 2",
    "SELECT sx.agg(1)",
    "SET search_path = public, sx|SELECT (x).g FROM (SELECT ROW(1)::sx.ct AS x) q",
    "DO {s}|TABLE log",
    "DO LANGUAGE plpgsql {s}|TABLE log",
    "CREATE FUNCTION pg_temp.own() RETURNS void LANGUAGE plpgsql AS {s}|SELECT pg_temp.own()|TABLE log",
    "CREATE FUNCTION sx.own() RETURNS void LANGUAGE plpgsql AS {s}|SELECT sx.own()|TABLE log",
    "SELECT query_to_xml({q}, true, true, '')",
    "SELECT table_to_xml({r}, true, true, '')",
];

/// So many ways each time.
const TRIES: usize = 32;

/// The table by one of its names.
fn named(rng: &mut StdRng, database: &str) -> String {
    let table = identifier(rng, "secrets");
    let schema = identifier(rng, "public");
    let room = gap(rng);
    let path = match rng.random_range(0..4) {
        0 => format!("{}{room}.{schema}.{table}", identifier(rng, database)),
        1 => format!("{schema}{room}.{room}{table}"),
        _ => table,
    };
    // Behind UESCAPE something has to follow that is not its string.
    format!("{room}{path}")
}

fn written(rng: &mut StdRng, way: &str, database: &str, number: &str) -> String {
    let table = named(rng, database);
    let code = format!("BEGIN INSERT INTO log SELECT s FROM {table}; END");
    let built =
        "BEGIN EXECUTE format('INSERT INTO log SELECT s FROM secr%s', 'ets'); END".to_owned();
    let text = if rng.random_range(0..4) == 0 {
        &built
    } else {
        &code
    };
    let code = literal(rng, text, true);
    let query = literal(rng, &format!("SELECT s FROM {table}"), true);
    let number = if rng.random() {
        number.to_owned()
    } else {
        literal(rng, "secrets", true) + "::regclass"
    };
    way.replace("{n}", &table)
        .replace("{s}", &code)
        .replace("{q}", &query)
        .replace("{r}", &number)
}

/// Runs the statements; whether the secret came out.
fn tells(wire: &mut Wire, texts: &str, extended: bool) -> bool {
    let has = |frame: &Frame| {
        let body = String::from_utf8_lossy(&frame.body);
        matches!(frame.kind, b'D' | b'd') && body.contains(SECRET)
    };
    texts.split('|').any(|sql| {
        let answer = match extended {
            false => wire.query(sql),
            true => {
                wire.send_all(&[
                    message::parse("", sql, &[]),
                    message::bind("", "", Format::Text, &[], Format::Text),
                    message::execute("", 0),
                    message::sync(),
                ]);
                wire.until_ready()
            }
        };
        answer.iter().any(has)
    })
}

pub fn passed(stage: &mut Stage) -> Result<String, String> {
    let database = stage.database_with_accounts();
    let again = "TRUNCATE log; DROP TABLE IF EXISTS sx.taken_t; DROP FUNCTION IF EXISTS sx.own(); \
        DO $$ DECLARE k text; BEGIN SELECT CASE relkind WHEN 'r' THEN 'TABLE' WHEN 'v' THEN 'VIEW' ELSE 'MATERIALIZED VIEW' END INTO k \
        FROM pg_class WHERE oid = to_regclass('sx.taken'); IF FOUND THEN EXECUTE 'DROP ' || k || ' sx.taken'; END IF; END $$";
    let with_cast = stage.database_with_accounts();
    for database in [&database, &with_cast] {
        stage.at_home(database, DEFINITIONS);
    }
    stage.at_home(&with_cast, CAST);
    let number = stage.at_home(&database, "SELECT 'secrets'::regclass::oid");
    let rule = "[[rule]]\nname = \"no-secrets\"\nusers = [\"alice\"]\ntables = [\"secrets\"]\n\
        action = \"refuse\"\nmessage = \"secret\"\n";
    let (sharded, pooled) = (stage.router("", rule), stage.pooled(5, rule));
    let mut ways: Vec<&str> = WAYS.to_vec();
    ways.shuffle(&mut stage.rng);
    ways.truncate(TRIES);
    let mut cast = client(&pooled, "alice", &with_cast);
    if tells(&mut cast, CASTS, false) {
        return Err(format!("{CASTS}: the secret is told"));
    }
    // The rule refuses that table and nothing else.
    for (router, role, sql) in [
        (&sharded, "alice", "TABLE log"),
        (&pooled, "alice", "TABLE log"),
        (&sharded, "bob", "TABLE secrets"),
        (&pooled, "bob", "TABLE secrets"),
    ] {
        let answer = client(router, role, &database).query(sql);
        if let Some(error) = answer.iter().find(|frame| frame.kind == b'E') {
            return Err(format!("{sql} by {role}: {error}"));
        }
    }
    let (mut tried, mut empty) = (0, Vec::new());
    for (at, way) in ways.into_iter().enumerate() {
        let router = if at % 2 == 0 { &sharded } else { &pooled };
        let sql = written(&mut stage.rng, way, &database, &number);
        let extended = stage.rng.random();
        let mut wire = client(router, "alice", &database);
        let told = tells(&mut wire, &sql, extended);
        drop(wire);
        // Nor is it left where it may be read without the table.
        let mut later = client(router, "alice", &database);
        if told || tells(&mut later, "TABLE log|TABLE sx.taken", false) {
            return Err(format!("{sql}: the secret is told, extended {extended}"));
        }
        drop(later);
        stage.at_home(&database, again);
        let mut direct = stage.direct(0, "alice", &database);
        if !tells(&mut direct, &sql, extended) {
            empty.push(sql);
        }
        stage.at_home(&database, again);
        tried += 1;
    }
    match empty.is_empty() {
        true => Ok(format!("{tried} ways")),
        false => Err(format!(
            "these tell nothing without a router: {}",
            empty.join("; ")
        )),
    }
}
