//! What functions, views, triggers and defaults leave in a session behind a statement's back stays with its client.

use super::stage::{LIMIT, Stage, extended, keys_of, one, say, send};
use mothership_tests::shared::USER;
use mothership_tests::{Endpoint, Wire, message, poll_until};

/// They leave a setting, a lock or a table; the last ones leave nothing.
const DEFINITIONS: [&str; 11] = [
    "CREATE FUNCTION sets() RETURNS text LANGUAGE sql AS $$ SELECT set_config('unseen.a', 'mine', false) $$",
    "CREATE FUNCTION calls() RETURNS text LANGUAGE sql AS $$ SELECT sets() $$",
    "CREATE FUNCTION locks() RETURNS int LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM pg_advisory_lock(4711); RETURN 1; END $$",
    "CREATE FUNCTION makes() RETURNS int LANGUAGE plpgsql AS \
     $$ BEGIN CREATE TEMP TABLE made AS SELECT 5 AS x; RETURN 1; END $$",
    "CREATE FUNCTION fires() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM sets(); RETURN NEW; END $$",
    "CREATE VIEW shows AS SELECT calls() AS told",
    "CREATE TABLE fired (id int4 PRIMARY KEY)",
    "CREATE TRIGGER t BEFORE INSERT ON fired FOR EACH ROW EXECUTE FUNCTION fires()",
    "CREATE TABLE filled (id int4 PRIMARY KEY, told text DEFAULT calls())",
    "CREATE FUNCTION sets_locally() RETURNS text LANGUAGE sql AS $$ SELECT set_config('unseen.a', 'mine', true) $$",
    "CREATE FUNCTION locks_and_unlocks() RETURNS int LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM pg_advisory_lock(4712); PERFORM pg_advisory_unlock(4712); RETURN 1; END $$",
];

/// Statements that leave something, and what shows that it is there.
const LEAVE: [(&str, &str); 8] = [
    ("SELECT sets()", SETTING),
    ("SELECT public.\"calls\"()", SETTING),
    ("SELECT * FROM shows", SETTING),
    ("INSERT INTO fired VALUES (1)", SETTING),
    ("INSERT INTO filled (id) VALUES (1)", SETTING),
    ("SELECT locks()", LOCK),
    ("SELECT makes()", TABLE),
    ("SELECT sets() FROM (SELECT 1) AS of_one", SETTING),
];

const SETTING: &str = "SELECT current_setting('unseen.a', true) = 'mine'";
const LOCK: &str =
    "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()";
const TABLE: &str = "SELECT count(*) > 0 FROM pg_class WHERE relname = 'made' AND relnamespace = pg_my_temp_schema()";

fn staged() -> Stage {
    let stage = Stage::with(&format!("[console]\nadmin_users = [\"{USER}\"]\n"));
    let mut wire = stage.wire();
    for sql in DEFINITIONS {
        let answer = say(&mut wire, sql);
        assert!(
            answer[0].starts_with("CommandComplete CREATE"),
            "{sql}: {answer:?}"
        );
    }
    stage
}

/// Whether a client keeps a connection because of code that was not seen.
fn is_kept(stage: &Stage) -> bool {
    let mut console = Wire::login(&Endpoint {
        database: "mothership".into(),
        ..stage.endpoint()
    });
    let clients = say(&mut console, "SHOW PINS");
    let kept = |line: &String| line.contains("code that cannot be seen");
    clients.iter().any(kept)
}

#[test]
fn a_client_that_keeps_several_servers_is_shown_with_each() {
    let stage = staged();
    stage.fill(1..=9);
    let mut client = stage.wire();
    for sql in ["LISTEN a", "BEGIN", "UPDATE items SET v = v + 1"] {
        say(&mut client, sql);
    }
    let mut console = Wire::login(&Endpoint {
        database: "mothership".into(),
        ..stage.endpoint()
    });
    let shown = console.rows("SHOW PINS");
    let mut shards: Vec<&str> = shown.iter().map(|row| row[7].as_str()).collect();
    shards.sort();
    assert_eq!(shards, ["s1", "s2", "s3"], "{shown:?}");
    say(&mut client, "COMMIT");
    let shown = console.rows("SHOW PINS");
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert_eq!(shown[0][7], "s1");
}

fn shows(wire: &mut Wire, sql: &str) -> bool {
    one(wire, sql) == "t"
}

#[test]
fn stays_with_its_client() {
    let stage = staged();
    for is_extended in [false, true] {
        for (sql, shown) in LEAVE {
            let mut client = stage.wire();
            let answer = match is_extended {
                false => say(&mut client, sql),
                true => send(&mut client, &extended(sql, &[], &[])),
            };
            assert!(
                answer
                    .iter()
                    .any(|line| line.starts_with("CommandComplete")),
                "{sql}: {answer:?}"
            );
            // More clients than the first has connections, while it is there and when it has gone.
            for mut other in [stage.wire(), stage.wire()] {
                assert!(!shows(&mut other, shown), "{sql}, of another");
            }
            assert!(shows(&mut client, shown), "{sql}, of its own");
            say(&mut client, "DELETE FROM fired; DELETE FROM filled");
            drop(client);
            for mut other in [stage.wire(), stage.wire()] {
                assert!(!shows(&mut other, shown), "{sql}, of one that has gone");
            }
        }
    }
}

/// Also if it fails: an advisory lock outlives that.
#[test]
fn stays_with_its_client_where_it_fails() {
    let stage = staged();
    let mut client = stage.wire();
    let answer = say(&mut client, "SELECT locks() / 0");
    let failed = |line: &String| line.starts_with("Error 22012");
    assert!(answer.iter().any(failed), "{answer:?}");
    for mut other in [stage.wire(), stage.wire()] {
        assert!(!shows(&mut other, LOCK));
    }
    assert!(shows(&mut client, LOCK));
    say(&mut client, "DISCARD ALL");
    assert!(!is_kept(&stage));
}

/// The message FunctionCall says by a number which function is called.
#[test]
fn so_does_what_a_function_call_leaves() {
    /// set_config
    const NUMBER: u32 = 2078;
    let stage = staged();
    let mut client = stage.wire();
    let mut call = NUMBER.to_be_bytes().to_vec();
    call.extend([0, 0, 0, 3]);
    for value in ["unseen.a", "mine", "f"] {
        call.extend((value.len() as u32).to_be_bytes());
        call.extend(value.as_bytes());
    }
    call.extend([0, 0]);
    let answer = send(&mut client, &[message::message(b'F', &call)]);
    assert!(answer[0].starts_with("FunctionCallResponse"), "{answer:?}");
    for mut other in [stage.wire(), stage.wire()] {
        assert!(!shows(&mut other, SETTING));
    }
    assert!(shows(&mut client, SETTING));
}

#[test]
fn who_leaves_nothing_keeps_no_connection() {
    let stage = staged();
    for sql in [
        "SELECT sets_locally()",
        "SELECT count(*) FROM kinds",
        "INSERT INTO notes VALUES (1, 'x') ON CONFLICT DO NOTHING",
    ] {
        let mut client = stage.wire();
        say(&mut client, sql);
        assert!(!is_kept(&stage), "{sql}");
    }
    // Refused, and it would leave something.
    let mut client = stage.wire();
    let answer = say(
        &mut client,
        "UPDATE items SET id = id + 1 WHERE note = sets()",
    );
    assert!(answer[0].starts_with("Error 0A000"), "{answer:?}");
    assert!(!is_kept(&stage));
    let mut client = stage.wire();
    say(&mut client, "SELECT sets()");
    assert!(is_kept(&stage));
}

#[test]
fn a_view_over_what_runs_texts_proves_nothing() {
    let stage = staged();
    let mut wire = stage.wire();
    let id = keys_of(1, 1)[0];
    say(
        &mut wire,
        &format!("INSERT INTO items (id, v) VALUES ({id}, 1)"),
    );
    say(
        &mut wire,
        "CREATE VIEW told AS SELECT query_to_xml('SELECT count(*) FROM it' || 'ems', true, true, '') AS x",
    );
    let answer = say(&mut wire, "SELECT x FROM told");
    assert!(answer[0].starts_with("Error 0A000"), "{answer:?}");
}

// A stranger found it: any role may make temporary functions, and everybody's lower() kept a connection then.
#[test]
fn a_temporary_function_concerns_its_own_session_only() {
    let stage = staged();
    let mut owner = stage.wire();
    let makes = "CREATE FUNCTION pg_temp.lower(a int, b int, c int) RETURNS int LANGUAGE plpgsql AS \
        $$ BEGIN PERFORM set_config('unseen.a', 'mine', false); RETURN 1; END $$";
    assert!(say(&mut owner, makes)[0].starts_with("CommandComplete"));
    let mut other = stage.wire();
    for sql in ["SELECT lower('A')", "SELECT lower(v::text) FROM items"] {
        let told = say(&mut other, sql);
        assert!(
            told.iter().any(|line| line.starts_with("CommandComplete")),
            "{told:?}"
        );
    }
    let of_others = is_kept(&stage);
    // Who has made it runs it by its whole name.
    assert_eq!(one(&mut owner, "SELECT pg_temp.lower(1, 2, 3)"), "1");
    assert!(shows(&mut owner, SETTING));
    assert!(!shows(&mut other, SETTING));
    drop(owner);
    assert!(!of_others);
    for mut other in [stage.wire(), stage.wire()] {
        assert!(!shows(&mut other, SETTING));
    }
}

// A stranger found it: functions of a schema that nobody has on a search path stopped everybody's calls of PostgreSQL's own.
#[test]
fn functions_of_a_schema_off_the_search_path_stop_nobody() {
    let stage = Stage::new();
    let mut owner = stage.wire();
    let runs = "LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SELECT 1'; RETURN 1; END $$";
    for sql in [
        "CREATE SCHEMA own".to_owned(),
        format!("CREATE FUNCTION own.lower(int, int, int) RETURNS int {runs}"),
        format!("CREATE FUNCTION own.now(int) RETURNS int {runs}"),
        format!("CREATE FUNCTION own.step(int, int) RETURNS int {runs}"),
        "CREATE FUNCTION own.upper(int) RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM pg_prepared_statements'".to_owned(),
        "CREATE FUNCTION own.abs(int, int) RETURNS text LANGUAGE sql AS $$ SELECT set_config('unseen.a', 'b', false) $$".to_owned(),
        "CREATE AGGREGATE own.count(int) (sfunc = own.step, stype = int)".to_owned(),
        "CREATE FUNCTION low(text) RETURNS text LANGUAGE sql AS 'SELECT lower($1)'".to_owned(),
        "CREATE FUNCTION low_along(text) RETURNS text LANGUAGE sql SET search_path = own, public AS 'SELECT lower($1)'".to_owned(),
    ] {
        let told = say(&mut owner, &sql);
        assert!(told[0].starts_with("CommandComplete"), "{sql}: {told:?}");
    }
    let mut other = stage.wire();
    for (sql, right) in [
        ("SELECT lower('A')", "a"),
        ("SELECT count(*) FROM items", "0"),
        ("SELECT upper('a')", "A"),
        ("SELECT abs(-1)", "1"),
        ("SELECT now() - now() = interval '0'", "t"),
    ] {
        assert_eq!(one(&mut other, sql), right, "{sql}");
        // By the plan of its shape.
        assert_eq!(one(&mut other, sql), right, "{sql}");
    }
    assert_eq!(one(&mut other, "SELECT low('A')"), "a");
    for sql in [
        "SELECT own.lower(1, 2, 3)",
        "SELECT own.upper(1)",
        "SELECT low_along('A')",
    ] {
        assert!(say(&mut other, sql)[0].starts_with("Error 0A000"), "{sql}");
    }
    // Who has the schema on the path may mean its functions.
    assert!(say(&mut other, "SET search_path = own, public")[0].starts_with("CommandComplete"));
    for sql in ["SELECT lower(1, 2, 3)", "SELECT low('A')"] {
        assert!(say(&mut other, sql)[0].starts_with("Error 0A000"), "{sql}");
    }
}

// A stranger found it: a table that is called like a word of all code stopped the functions, triggers and policies of all.
#[test]
fn tables_of_a_schema_off_the_search_path_stop_nobody() {
    let stage = Stage::with("[tables]\ndefault = \"auto\"\n");
    let mut wire = stage.wire();
    let role = format!("looks_{}", std::process::id());
    for sql in [
        "CREATE SCHEMA own",
        "CREATE TABLE own.\"begin\" (id int8 PRIMARY KEY)",
        "CREATE TABLE own.\"return\" (id int8 PRIMARY KEY)",
        "CREATE TABLE own.\"current_user\" (id int8 PRIMARY KEY)",
        "CREATE TABLE own.new (id int8 PRIMARY KEY)",
        "CREATE FUNCTION one() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 1; END $$",
        "CREATE FUNCTION same() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
        "CREATE TABLE fired (id int8 PRIMARY KEY, whose text)",
        "CREATE TRIGGER same BEFORE INSERT ON fired FOR EACH ROW EXECUTE FUNCTION same()",
        "ALTER TABLE fired ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY p ON fired USING (whose = current_user)",
        &format!("CREATE ROLE {role}"),
        &format!("GRANT ALL ON fired TO {role}"),
        "CREATE FUNCTION empties() RETURNS void LANGUAGE plpgsql AS $$ BEGIN DELETE FROM own.\"begin\"; END $$",
    ] {
        let told = say(&mut wire, sql);
        assert!(told[0].starts_with("CommandComplete"), "{sql}: {told:?}");
    }
    let mut other = stage.wire();
    say(&mut other, &format!("SET ROLE {role}"));
    assert_eq!(one(&mut other, "SELECT one()"), "1");
    for id in 1..4 {
        let sql = format!("INSERT INTO fired VALUES ({id}, '{role}')");
        assert_eq!(say(&mut other, &sql)[0], "CommandComplete INSERT 0 1");
    }
    assert_eq!(one(&mut other, "SELECT count(*) FROM fired"), "3");
    assert!(say(&mut other, "SELECT empties()")[0].starts_with("Error 0A000"));
    say(&mut wire, &format!("DROP OWNED BY {role}"));
    say(&mut wire, &format!("DROP ROLE {role}"));
}

// A stranger found it: to ask a server what is wrong with a refused statement is enough to run the checks of its constants.
#[test]
fn a_statement_that_is_refused_leaves_nothing() {
    let stage = Stage::with("[pool]\nmax = 1\n");
    stage.shards.sql_all(
        "CREATE SCHEMA own; \
         CREATE FUNCTION own.late() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN \
            EXECUTE 'SET search_path = own'; EXECUTE 'SET app.tenant = 7'; RETURN true; END $$; \
         CREATE FUNCTION own.checks(int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RETURN own.late(); END $$; \
         CREATE DOMAIN own.d AS int CHECK (own.checks(VALUE)); \
         CREATE TYPE own.row AS (a own.d)",
    );
    // By a change of code through the router it learns of all other code.
    let any = "CREATE FUNCTION own.any() RETURNS int LANGUAGE sql AS 'SELECT 1'";
    say(&mut stage.wire(), any);
    let refused = |wire: &mut Wire| say(wire, "SELECT NULL::own.d[]");
    let seen = poll_until(LIMIT, || {
        refused(&mut stage.wire())[0].starts_with("Error 0A000")
    });
    assert!(seen, "{:?}", refused(&mut stage.wire()));
    for sql in [
        "SELECT '{1}'::own.d[]",
        "SELECT id FROM items WHERE id = 1 AND '{1}'::own.d[] IS NOT NULL",
        "INSERT INTO notes SELECT 1, 'x' WHERE '{1}'::own.d[] IS NULL",
        "PREPARE p AS SELECT '{1}'::own.d[]",
    ] {
        for by_parse in [false, true] {
            let mut wire = stage.wire();
            let told = match by_parse {
                true => send(&mut wire, &extended(sql, &[], &[])),
                false => say(&mut wire, sql),
            };
            // PREPARE plans nothing, and only EXECUTE is refused.
            let is_refused = told.iter().any(|line| line.starts_with("Error 0A000"));
            assert!(is_refused || sql.starts_with("PREPARE"), "{sql}: {told:?}");
            drop(wire);
            let mut other = stage.wire();
            let left = "SELECT current_setting('search_path'), coalesce(current_setting('app.tenant', true), '')";
            assert_eq!(
                other.rows(left),
                [["\"$user\", public", ""]],
                "{sql} {by_parse}: {told:?}"
            );
        }
    }
}

// A stranger found it: code that is called two levels below may come later.
#[test]
fn what_an_operator_or_a_cast_calls_stays_what_it_was() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    for sql in [
        "CREATE TYPE mood AS ENUM ('a', 'b')",
        "CREATE FUNCTION op(int8, int8) RETURNS int8 LANGUAGE plpgsql AS 'begin return late($1); end'",
        "CREATE OPERATOR <!> (LEFTARG = int8, RIGHTARG = int8, FUNCTION = op)",
        "CREATE FUNCTION to_int(mood) RETURNS int LANGUAGE plpgsql AS 'begin return later(1); end'",
        "CREATE CAST (mood AS int) WITH FUNCTION to_int(mood)",
        "CREATE FUNCTION other(int8) RETURNS int8 LANGUAGE plpgsql AS 'begin return (select count(*) from items); end'",
    ] {
        let told = say(&mut wire, sql);
        assert!(told[0].starts_with("CommandComplete"), "{sql}: {told:?}");
    }
    let body = "LANGUAGE plpgsql AS 'begin return (select count(*) from items); end'";
    for sql in [
        format!("CREATE FUNCTION late(int8) RETURNS int8 {body}"),
        format!("CREATE FUNCTION later(int8) RETURNS int {body}"),
        "ALTER FUNCTION other(int8) RENAME TO late".to_owned(),
    ] {
        let told = say(&mut wire, &sql);
        assert!(told[0].starts_with("Error 0A000"), "{sql}: {told:?}");
    }
    // Past the router it can be done. Then nothing is computed by it, and who has no such value goes on.
    stage.shards.sql_all(&format!(
        "CREATE FUNCTION late(int8) RETURNS int8 {body}; CREATE FUNCTION later(int8) RETURNS int {body}; \
         CREATE TABLE moods (id int4, m mood); CREATE DOMAIN dm AS int8 CHECK (late(VALUE) >= 0); \
         CREATE TABLE rows_of (a int, b dm); CREATE DOMAIN over_dm AS dm; CREATE TYPE comp AS (a int, b dm); \
         CREATE DOMAIN \"Dm\" AS int8 CHECK (late(VALUE) >= 0); CREATE TABLE capital (a int, b \"Dm\"); \
         CREATE VIEW shown AS SELECT id, m::int AS x FROM moods; \
         CREATE FUNCTION by_mood(mood, mood) RETURNS bool LANGUAGE sql AS 'SELECT true'; \
         CREATE OPERATOR <?> (LEFTARG = mood, RIGHTARG = mood, FUNCTION = by_mood)"
    ));
    let refused = "CREATE TABLE made AS SELECT 1::int8 <!> 2::int8 AS x";
    let seen = poll_until(LIMIT, || {
        say(&mut wire, "DROP TABLE IF EXISTS made");
        say(&mut wire, refused)[0].starts_with("Error 0A000")
    });
    assert!(seen);
    say(&mut wire, "PREPARE q (dm) AS SELECT $1");
    for sql in [
        refused,
        "CREATE MATERIALIZED VIEW made AS SELECT 1::int8 <!> 2::int8 AS x",
        "SELECT 1::int8 <!> 2::int8 AS x INTO made",
        "ALTER TABLE accounts ALTER COLUMN balance TYPE int8 USING balance <!> 1::int8",
        "ALTER TABLE notes ADD CHECK (id <!> 1::int8 < 10)",
        "ALTER TABLE kinds ADD COLUMN b dm DEFAULT 10",
        "CREATE TABLE made AS SELECT 10::dm",
        "SELECT json_populate_record(NULL::rows_of, '{\"b\": 10}')",
        "SELECT '(1,10)'::rows_of",
        "SELECT rows_of '(1,10)'",
        "SELECT '(1,10)'::comp",
        "SELECT comp '(1,10)'",
        "SELECT 10::over_dm",
        "SELECT json_populate_record(NULL::capital, '{\"b\": 10}')",
        "SELECT * FROM shown",
        "SELECT 'a' <?> 'b'",
        "EXECUTE q (10)",
        "SELECT 'a'::mood::int",
        "SELECT m FROM moods WHERE m::int = 1",
    ] {
        let told = say(&mut wire, sql);
        assert!(told[0].starts_with("Error 0A000"), "{sql}: {told:?}");
    }
    for sql in [
        "SELECT 1",
        "SELECT count(*) FROM items",
        "SELECT id FROM items WHERE id = 1",
    ] {
        let told = say(&mut wire, sql);
        assert!(told[0].starts_with("RowDescription"), "{sql}: {told:?}");
    }
}

#[test]
fn the_language_of_the_routers_functions_keeps_its_name() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    for sql in [
        "ALTER LANGUAGE plpgsql RENAME TO plx",
        "DROP EXTENSION plpgsql CASCADE",
    ] {
        let told = say(&mut wire, sql);
        assert!(told[0].starts_with("Error 42501"), "{sql}: {told:?}");
    }
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "0");
}

// A stranger found it: a role that owns a schema nobody looks into stopped the statements of all others.
#[test]
fn a_function_behind_a_cast_is_not_replaced_by_one_that_may_read_tables() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    let body = |sql: &str| {
        format!(
            "FUNCTION own.f(own.e) RETURNS int LANGUAGE plpgsql AS $$ BEGIN {sql} RETURN 1; END $$"
        )
    };
    for sql in [
        "CREATE SCHEMA own".to_owned(),
        "CREATE TYPE own.e AS ENUM ('a')".to_owned(),
        format!("CREATE {}", body("")),
        "CREATE CAST (own.e AS int) WITH FUNCTION own.f(own.e)".to_owned(),
        "CREATE FUNCTION own.checks(text) RETURNS bool LANGUAGE sql AS 'SELECT true'".to_owned(),
        "CREATE DOMAIN own.text AS text CHECK (own.checks(VALUE))".to_owned(),
        "CREATE FUNCTION own.g(own.e) RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SELECT 1'; RETURN 1; END $$".to_owned(),
        format!("CREATE OR REPLACE {}", body("PERFORM 1;")),
    ] {
        let told = say(&mut wire, &sql);
        assert!(told[0].starts_with("CommandComplete"), "{sql}: {told:?}");
    }
    for sql in [
        format!("CREATE OR REPLACE {}", body("EXECUTE 'SELECT 1';")),
        format!("CREATE OR REPLACE {}", body("PERFORM count(*) FROM items;")),
        format!("CREATE OR REPLACE {}", body("PERFORM set_config('a.b', '', false);")),
        "CREATE OR REPLACE FUNCTION own.checks(text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN EXECUTE $1; RETURN true; END $$".to_owned(),
        "ALTER FUNCTION own.g(own.e) RENAME TO checks".to_owned(),
    ] {
        let told = say(&mut wire, &sql);
        assert!(told[0].starts_with("Error 0A000"), "{sql}: {told:?}");
    }
    for sql in ["SELECT 1", "SELECT 'x'::text", "SELECT count(*) FROM items"] {
        let told = say(&mut wire, sql);
        assert!(told[0].starts_with("RowDescription"), "{sql}: {told:?}");
    }
}

/// What nobody's statement can mean makes nobody's statement fail: a stranger's operator in a schema of his own made each
/// `SELECT 1` refused.
#[test]
fn operators_of_others_concern_only_statements_that_may_use_them() {
    let stage = Stage::new();
    stage.fill(1..=6);
    // Past the router, which refuses to make them.
    stage.shards.sql_all(
        "CREATE SCHEMA aside; CREATE TYPE aside.pair AS (a int, b int); \
         CREATE FUNCTION aside.same(int8, int8) RETURNS bool LANGUAGE plpgsql AS 'BEGIN EXECUTE ''SELECT 1''; RETURN true; END'; \
         CREATE FUNCTION aside.alike(aside.pair, aside.pair) RETURNS bool LANGUAGE plpgsql AS 'BEGIN EXECUTE ''SELECT 1''; RETURN true; END'; \
         CREATE OPERATOR aside.= (LEFTARG = int8, RIGHTARG = int8, FUNCTION = aside.same); \
         CREATE OPERATOR aside.= (LEFTARG = aside.pair, RIGHTARG = aside.pair, FUNCTION = aside.alike); \
         CREATE OPERATOR public.< (LEFTARG = aside.pair, RIGHTARG = aside.pair, FUNCTION = aside.alike); \
         CREATE TABLE tallies (id int4, a int8, b int8, CHECK (a OPERATOR(aside.=) b))",
    );
    let router = stage.another_router();
    let mut wire = stage.wire_of(&router);
    for (sql, answer) in [
        ("SELECT 1", "1"),
        ("SELECT v FROM items WHERE id = 3", "6"),
        ("SELECT count(*) FROM items WHERE id < 3 AND v = 2", "1"),
        ("SELECT count(DISTINCT v) FROM items", "6"),
    ] {
        assert_eq!(one(&mut wire, sql), answer, "{sql}");
    }
    let update = say(&mut wire, "UPDATE items SET v = v + 1 WHERE id IN (1, 2)");
    assert_eq!(update[0], "CommandComplete UPDATE 2");
    let parsed = send(
        &mut wire,
        &extended("SELECT v FROM items WHERE id = $1", &[], &["4"]),
    );
    assert!(parsed.contains(&"DataRow 8".to_owned()), "{parsed:?}");
    for sql in [
        "SELECT 1::int8 OPERATOR(aside.=) 2::int8",
        "SELECT count(*) FROM items WHERE id OPERATOR(aside.=) 3",
        "SELECT (1, 2)::aside.pair = (1, 3)::aside.pair",
        "INSERT INTO tallies VALUES (1, 2, 2)",
        "CREATE TEMP TABLE pairs (p aside.pair); SELECT count(*) FROM pairs a, pairs b WHERE a.p < b.p",
        "SET search_path = aside, pg_catalog, public; SELECT count(*) FROM items WHERE id = 3",
    ] {
        let said = say(&mut wire, sql);
        assert!(
            said.iter().any(|line| line.starts_with("Error 0A000")),
            "{sql}: {said:?}"
        );
    }
    say(&mut wire, "SET search_path = aside, pg_catalog, public");
    let said = say(&mut wire, "SELECT count(*) FROM items WHERE id = 3");
    assert!(said[0].starts_with("Error 0A000"), "{said:?}");
}

/// An operator on a domain, or on one type of PostgreSQL's own, has operands that no name gives away.
#[test]
fn operators_that_take_values_of_postgresql_concern_every_statement() {
    for made in [
        "CREATE DOMAIN label AS text; CREATE FUNCTION adds(label, label) RETURNS text LANGUAGE plpgsql AS 'BEGIN EXECUTE ''SELECT 1''; RETURN 1; END'; \
         CREATE OPERATOR + (LEFTARG = label, RIGHTARG = label, FUNCTION = adds)",
        "CREATE TYPE pair AS (a int, b int); CREATE FUNCTION takes(text, pair) RETURNS text LANGUAGE plpgsql AS 'BEGIN EXECUTE ''SELECT 1''; RETURN 1; END'; \
         CREATE OPERATOR - (LEFTARG = text, RIGHTARG = pair, FUNCTION = takes)",
        "CREATE TYPE pair AS (a int, b int); CREATE FUNCTION adds(pair, pair) RETURNS text LANGUAGE plpgsql AS 'BEGIN EXECUTE ''SELECT 1''; RETURN 1; END'; \
         CREATE OPERATOR + (LEFTARG = pair, RIGHTARG = pair, FUNCTION = adds)",
    ] {
        let stage = Stage::new();
        stage.shards.sql_all(made);
        let router = stage.another_router();
        let said = say(
            &mut stage.wire_of(&router),
            "SELECT note FROM items WHERE id = 3",
        );
        assert!(said[0].starts_with("Error 0A000"), "{made}: {said:?}");
    }
}
