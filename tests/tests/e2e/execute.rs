//! SQL's EXECUTE, sent by the extended protocol and by simple queries: what it runs is what the client's own name means
//! when it runs, whatever others call the same statement.
//!
//! Where PostgreSQL has an answer, the same messages are sent to it, and the answers are compared.

use crate::shards::stage::{Stage, extended, one_each, say, send};
use mothership_tests::endpoint::{Served, endpoint_listening, endpoint_with};
use mothership_tests::message::{self, Format};
use mothership_tests::{Endpoint, Frame, Wire, endpoint};

/// Bind and Execute of a named statement without parameters, and Sync.
fn run(name: &str) -> [Vec<u8>; 3] {
    [
        message::bind("", name, Format::Text, &[], Format::Text),
        message::execute("", 0),
        message::sync(),
    ]
}

/// Parse and Sync.
fn parse(name: &str, sql: &str) -> [Vec<u8>; 2] {
    [message::parse(name, sql, &[]), message::sync()]
}

const PARSED: [&str; 2] = ["ParseComplete", "ReadyForQuery I"];

fn row(value: &str) -> Vec<String> {
    let row = format!("DataRow {value}");
    [
        "BindComplete",
        &row,
        "CommandComplete SELECT 1",
        "ReadyForQuery I",
    ]
    .map(str::to_owned)
    .to_vec()
}

#[test]
fn the_same_body_under_other_names_and_another_under_the_same_name() {
    // Statements are shared by the clients of one core.
    let server = endpoint_listening("workers = 1", "");
    let (mut a, mut b) = (Wire::login(&server), Wire::login(&server));
    let shared = "SELECT 'shared ' || $1::int4";
    let other = "SELECT 'only of b ' || $1::int4";
    // What one calls `mine` the other calls `yours`, and there `mine` is something else.
    for (wire, statements) in [
        (&mut a, [("mine", shared), ("yours", other)]),
        (&mut b, [("yours", shared), ("mine", other)]),
    ] {
        for (name, sql) in statements {
            assert_eq!(send(wire, &parse(name, sql)), PARSED);
        }
    }
    // In the same place, so that both texts are equal once the names are ours.
    for (wire, name) in [(&mut a, "mine"), (&mut b, "yours")] {
        let sql = format!("EXECUTE {name} (1)");
        assert_eq!(send(wire, &parse("e", &sql)), PARSED);
        assert_eq!(send(wire, &run("e")), row("shared 1"));
    }
    for (wire, name) in [(&mut b, "mine"), (&mut a, "yours")] {
        let sql = format!("EXECUTE {name} (1)");
        assert_eq!(
            send(wire, &extended(&sql, &[], &[]))[1..],
            row("only of b 1")
        );
    }
    // A server that has seen none of it: the first is held by a transaction.
    say(&mut a, "BEGIN");
    let mut said = row("shared 1");
    said[3] = "ReadyForQuery T".to_owned();
    assert_eq!(send(&mut a, &run("e")), said);
    assert_eq!(send(&mut b, &run("e")), row("shared 1"));
    say(&mut a, "COMMIT");
    // A third has the body under neither name.
    let mut c = Wire::login(&server);
    assert_eq!(send(&mut c, &parse("third", shared)), PARSED);
    for name in ["mine", "yours"] {
        let said = send(&mut c, &extended(&format!("EXECUTE {name} (1)"), &[], &[]));
        let error = format!("Error 26000 prepared statement \"{name}\" does not exist");
        assert!(said.contains(&error), "{said:?}");
    }
    let sql = "EXECUTE third (1)";
    assert_eq!(send(&mut c, &extended(sql, &[], &[]))[1..], row("shared 1"));
}

#[test]
fn each_client_reaches_the_shard_of_its_own_statement() {
    let stage = Stage::on_one_core();
    let keys = one_each();
    stage.fill(keys);
    let (mut a, mut b) = (stage.wire(), stage.wire());
    // The name of one leads by the other's statement to another shard.
    let by_key = "SELECT note FROM items WHERE id = $1";
    let reversed = format!(
        "SELECT note FROM items WHERE id = {} AND $1::int8 > 0",
        keys[1]
    );
    for (wire, statements) in [
        (&mut a, [("p", by_key), ("q", &*reversed)]),
        (&mut b, [("q", by_key), ("p", &*reversed)]),
    ] {
        for (name, sql) in statements {
            assert_eq!(send(wire, &parse(name, sql)), PARSED);
        }
    }
    for key in keys {
        for (wire, name) in [(&mut a, "p"), (&mut b, "q")] {
            let said = send(
                wire,
                &extended(&format!("EXECUTE {name} ({key})"), &[], &[]),
            );
            assert_eq!(said[1..], row(&format!("n{key}")), "{name} {key}");
        }
        for (wire, name) in [(&mut a, "q"), (&mut b, "p")] {
            let said = send(
                wire,
                &extended(&format!("EXECUTE {name} ({key})"), &[], &[]),
            );
            assert_eq!(said[1..], row(&format!("n{}", keys[1])), "{name} {key}");
        }
    }
}

/// An answer with all that a client can see of an error.
fn shown(frame: &Frame) -> String {
    match frame.kind {
        b'E' => format!("Error {:?}", ['C', 'M', 'D', 'P'].map(|c| frame.field(c))),
        _ => frame.to_string(),
    }
}

/// All that is said to these messages; each inner list is sent after the answer to the one before.
fn said(endpoint: &Endpoint, requests: &[Vec<Vec<u8>>]) -> Vec<String> {
    let mut wire = Wire::login(endpoint);
    let mut lines = Vec::new();
    for messages in requests {
        wire.send_all(messages);
        lines.extend(wire.until_ready().iter().map(shown));
    }
    lines
}

#[test]
fn an_execute_by_parse_means_what_it_means_to_postgres() {
    let query = |sql: &str| vec![message::query(sql)];
    let parse = |name: &str, sql: &str| parse(name, sql).to_vec();
    let run = |name: &str| run(name).to_vec();
    let describe = |name: &str| vec![message::describe_statement(name), message::sync()];
    let all = |sql: &str| {
        let mut messages = extended(sql, &[], &[]);
        messages.insert(2, message::describe_portal(""));
        messages
    };
    let prepare = || query("PREPARE known (int) AS SELECT $1 AS a");
    let cases: Vec<(&str, Vec<Vec<Vec<u8>>>)> = vec![
        ("unknown", vec![all("EXECUTE unknown (1)")]),
        (
            "unknown, described",
            vec![parse("e", "EXECUTE unknown"), describe("e"), run("e")],
        ),
        (
            "unknown, in a block",
            vec![
                query("BEGIN"),
                all("EXECUTE unknown"),
                all("EXECUTE unknown"),
                query("ROLLBACK"),
                query("SELECT 'usable'"),
            ],
        ),
        ("known", vec![prepare(), all("EXECUTE known (1)")]),
        (
            "known, described",
            vec![
                prepare(),
                parse("e", "EXECUTE known (1)"),
                describe("e"),
                run("e"),
            ],
        ),
        (
            "prepared after it was parsed",
            vec![parse("e", "EXECUTE known (1)"), prepare(), run("e")],
        ),
        (
            "prepared in the same pipeline",
            vec![vec![
                message::parse("e", "EXECUTE known (1)", &[]),
                message::parse("known", "SELECT $1::int", &[]),
                message::bind("", "e", Format::Text, &[], Format::Text),
                message::execute("", 0),
                message::sync(),
            ]],
        ),
        (
            "stored",
            vec![
                prepare(),
                query("CREATE TEMP TABLE made AS EXECUTE known (1)"),
                query("SELECT a FROM made"),
                all("CREATE TEMP TABLE \"as\" (b) AS EXECUTE known (2) WITH DATA"),
                query("SELECT b FROM \"as\""),
                all("CREATE TEMP TABLE IF NOT EXISTS made AS EXECUTE known (3)"),
                query("CREATE TEMP TABLE made AS EXECUTE known (4)"),
                all("EXPLAIN (COSTS off) CREATE TABLE explained AS EXECUTE known (5)"),
                query("EXPLAIN (COSTS off) CREATE TABLE explained AS EXECUTE known (5)"),
                query("CREATE TEMP TABLE none AS EXECUTE known (6) WITH NO DATA"),
                query("SELECT count(*) FROM none"),
                query("CREATE TEMP TABLE other AS EXECUTE known (nothing)"),
                query("CREATE TEMP TABLE other AS EXECUTE unknown"),
                all("CREATE TEMP TABLE other AS EXECUTE unknown"),
                query("CREATE TEMP TABLE other AS SELECT 1 AS execute"),
                query("SELECT * FROM other"),
            ],
        ),
        (
            "among other statements",
            vec![
                prepare(),
                parse("s", "SELECT set_config('application_name', $1, false)"),
                query("BEGIN; EXECUTE known (1); SELECT 2"),
                query("SELECT 3; EXECUTE known (4); EXECUTE known (5)"),
                query("COMMIT"),
                query("EXECUTE known (1); EXECUTE known (2); SELECT nothing"),
                query("/* ä */ EXECUTE known (1); EXECUTE known (nothing); SELECT 3"),
                query("EXECUTE known (1); SELECT 1 / 0; EXECUTE known (2)"),
                query("EXECUTE s ('of a text'); SELECT 1"),
                query("SHOW application_name"),
                query("EXECUTE s ('undone'); SELECT 1 / 0"),
                query("SHOW application_name"),
                query("EXPLAIN (COSTS off) EXECUTE known (1); SELECT 1"),
                query("CREATE TEMP TABLE made AS EXECUTE known (6); SELECT * FROM made"),
            ],
        ),
        (
            "stored in a block",
            vec![
                parse("rows", "SELECT generate_series(1, 3) AS a"),
                query("BEGIN"),
                query("CREATE TABLE made_in_block AS EXECUTE rows"),
                query("SELECT * FROM made_in_block"),
                query("ROLLBACK"),
                query("SELECT to_regclass('made_in_block')"),
                parse("write", "DELETE FROM pg_class WHERE false"),
                query("CREATE TEMP TABLE made AS EXECUTE write"),
            ],
        ),
        (
            "stored, and sets something",
            vec![
                parse("s", "SELECT set_config('application_name', $1, false)"),
                query("CREATE TEMP TABLE made AS EXECUTE s ('by query')"),
                query("SHOW application_name"),
                all("CREATE TEMP TABLE other AS EXECUTE s ('by parse')"),
                query("SHOW application_name"),
            ],
        ),
        (
            "deallocated",
            vec![
                prepare(),
                parse("e", "EXECUTE known (1)"),
                query("DEALLOCATE known"),
                run("e"),
                query("DEALLOCATE e"),
                run("e"),
            ],
        ),
        (
            "deallocated after Bind",
            vec![
                prepare(),
                query("BEGIN"),
                vec![
                    message::parse("", "EXECUTE known (1)", &[]),
                    message::bind_text(&[]),
                    message::close_statement("known"),
                    message::execute("", 0),
                    message::sync(),
                ],
                query("ROLLBACK"),
            ],
        ),
        (
            "prepared anew",
            vec![
                prepare(),
                parse("e", "EXECUTE known (1)"),
                run("e"),
                query("DEALLOCATE known"),
                query("PREPARE known (int) AS SELECT -$1 AS a"),
                run("e"),
            ],
        ),
        (
            "explained",
            vec![prepare(), all("EXPLAIN (COSTS off) EXECUTE known (1)")],
        ),
        (
            "changes a setting of the session",
            vec![
                parse("s", "SELECT set_config('application_name', $1, false)"),
                query("EXECUTE s ('by query')"),
                query("SHOW application_name"),
                all("EXECUTE s ('by parse')"),
                query("SHOW application_name"),
            ],
        ),
        (
            "an argument with a type",
            vec![prepare(), all("EXECUTE known (1::int)")],
        ),
        (
            "no name",
            vec![all("EXECUTE"), all("EXECUTE (1)"), all("EXECUTE known 1")],
        ),
        (
            "no such column",
            vec![prepare(), all("EXECUTE known (nothing)")],
        ),
        (
            "a name of several bytes",
            vec![
                query(
                    "PREPARE \"ä name that is longer than any of the router's own\" (int) AS SELECT $1",
                ),
                all("EXECUTE \"ä name that is longer than any of the router's own\" (nothing)"),
                all(
                    "/* ü */ EXECUTE  \"ä name that is longer than any of the router's own\" ('x'::text)",
                ),
                all(
                    "EXPLAIN EXECUTE \"ä name that is longer than any of the router's own\" (nothing)",
                ),
            ],
        ),
        ("a parameter", vec![prepare(), all("EXECUTE known ($1)")]),
        (
            "no SQL",
            vec![
                prepare(),
                all("EXECUTE known (1 +)"),
                all("EXECUTE known (1"),
            ],
        ),
        (
            "an error after it is not moved",
            vec![
                prepare(),
                vec![
                    message::parse("", "EXECUTE known (1)", &[]),
                    message::bind_text(&[]),
                    message::execute("", 0),
                    message::parse("", "SELECT nothing", &[]),
                    message::sync(),
                ],
                vec![
                    message::parse("e", "EXECUTE known (nothing)", &[]),
                    message::bind("p", "e", Format::Text, &[], Format::Text),
                    message::parse("", "SELECT nothing", &[]),
                    message::execute("p", 0),
                    message::sync(),
                ],
            ],
        ),
    ];
    for mode in ["transaction", "session"] {
        let server = endpoint_with(&format!("[pool]\nmode = \"{mode}\"\n"));
        let direct = server.shards.endpoint(0);
        for (what, requests) in &cases {
            let expected = said(&direct, requests);
            assert_eq!(said(&server, requests), expected, "{mode}: {what}");
        }
        println!("{} cases", cases.len());
    }
}

/// What a client sees of its prepared statements.
const NAMES: &str = "SELECT name, statement, parameter_types, result_types, from_sql, generic_plans + custom_plans \
    FROM pg_prepared_statements ORDER BY name";

fn in_session_mode(more: &str) -> Served {
    endpoint_with(&format!("[pool]\nmode = \"session\"\n{more}"))
}

#[test]
fn a_session_that_keeps_its_server_has_the_names_that_postgres_has() {
    let query = |sql: &str| vec![message::query(sql)];
    let parse = |name: &str, sql: &str| parse(name, sql).to_vec();
    let run = |name: &str| run(name).to_vec();
    let close = |name: &str| vec![message::close_statement(name), message::sync()];
    let by_parse = |sql: &str| extended(sql, &[], &[]);
    let known = "PREPARE known (int) AS SELECT $1 AS a;";
    let long = format!("PREPARE {} AS SELECT 1", "n".repeat(63));
    let cases: Vec<(&str, Vec<Vec<Vec<u8>>>)> = vec![
        (
            "both kinds",
            vec![
                query(known),
                parse("of Parse", "SELECT $1::text || 'x'"),
                query("PREPARE \"Of SQL; too\" AS VALUES (1)"),
                query(&long),
                query(NAMES),
                query("EXECUTE known (1)"),
                query("EXECUTE \"Of SQL; too\""),
                query("EXECUTE \"of Parse\" ('y')"),
                query(NAMES),
                by_parse("EXECUTE known (2)"),
                by_parse("EXPLAIN EXECUTE known (3)"),
                query(NAMES),
            ],
        ),
        (
            "dropped one by one",
            vec![
                query(known),
                parse("p", "SELECT 2"),
                parse("q", "SELECT 3"),
                query("DEALLOCATE known"),
                query(NAMES),
                close("p"),
                query(NAMES),
                by_parse("DEALLOCATE PREPARE q"),
                query(NAMES),
                query("DEALLOCATE known"),
                run("p"),
                query("PREPARE known AS SELECT 4"),
                parse("p", "SELECT 5"),
                query(NAMES),
                query("EXECUTE known"),
                run("p"),
            ],
        ),
        (
            "dropped in a block",
            vec![
                query(known),
                parse("p", "SELECT 2"),
                query("BEGIN"),
                query("DEALLOCATE known"),
                close("p"),
                query(NAMES),
                query("ROLLBACK"),
                query(NAMES),
                query("BEGIN"),
                parse("p", "SELECT 3"),
                query("SELECT 1 / 0"),
                query("DEALLOCATE p"),
                close("p"),
                query("ROLLBACK"),
                query(NAMES),
            ],
        ),
        (
            "all dropped",
            vec![
                query(known),
                parse("p", "SELECT 2"),
                query("DEALLOCATE ALL"),
                query(NAMES),
                query(known),
                parse("p", "SELECT 2"),
                by_parse("DEALLOCATE ALL"),
                query(NAMES),
                query(known),
                parse("p", "SELECT 2"),
                query("DISCARD ALL"),
                query(NAMES),
                query(known),
                parse("p", "SELECT 2"),
                query(NAMES),
            ],
        ),
        (
            "in one pipeline",
            vec![
                vec![
                    message::parse("p", "SELECT 1", &[]),
                    message::close_statement("p"),
                    message::parse("p", "SELECT 2", &[]),
                    message::bind("", "p", Format::Text, &[], Format::Text),
                    message::execute("", 0),
                    message::sync(),
                ],
                query(NAMES),
                // What comes behind an error is not done.
                vec![
                    message::parse("q", "SELECT 3", &[]),
                    message::parse("r", "SELECT nothing", &[]),
                    message::close_statement("p"),
                    message::parse("p", "SELECT 4", &[]),
                    message::sync(),
                ],
                query(NAMES),
                vec![
                    message::bind("", "p", Format::Text, &[], Format::Text),
                    message::execute("", 0),
                    message::close_statement("p"),
                    message::parse("p", "SELECT 1 / 0", &[]),
                    message::sync(),
                ],
                query(NAMES),
                parse("p", "SELECT 5"),
                run("p"),
                query(NAMES),
            ],
        ),
        (
            "made by PREPARE in the extended protocol",
            vec![
                by_parse(known),
                query(NAMES),
                query("EXECUTE known (1)"),
                by_parse("PREPARE known AS SELECT 2"),
                by_parse("PREPARE wrong AS SELECT nothing"),
                by_parse("PREPARE wrong AS"),
                parse("maker", "PREPARE made AS SELECT 'made'"),
                vec![message::describe_statement("maker"), message::sync()],
                run("maker"),
                run("maker"),
                query("DEALLOCATE made"),
                run("maker"),
                query(NAMES),
                // What follows in a pipeline finds it.
                [
                    &by_parse("PREPARE two AS SELECT 2")[..3],
                    &by_parse("EXECUTE two")[..],
                ]
                .concat(),
                [
                    &by_parse("PREPARE three AS SELECT 3")[..3],
                    &by_parse("SELECT 1 / 0")[..],
                ]
                .concat(),
                query("EXECUTE three"),
                query("BEGIN"),
                query("SELECT nothing"),
                by_parse("PREPARE four AS SELECT 4"),
                query("ROLLBACK"),
                query(NAMES),
            ],
        ),
        (
            "taken",
            vec![
                query(known),
                query("PREPARE known AS SELECT 2"),
                parse("known", "SELECT 2"),
                query("PREPARE wrong AS SELECT nothing"),
                parse("wrong", "SELECT nothing"),
                query(NAMES),
                query("EXECUTE known (1)"),
            ],
        ),
        (
            "run by a function",
            vec![
                query(known),
                parse("p", "SELECT 7 AS a"),
                query(
                    "CREATE FUNCTION pg_temp.runs(text) RETURNS SETOF int LANGUAGE plpgsql AS \
                     $$BEGIN RETURN QUERY EXECUTE $1; END$$",
                ),
                query("SELECT pg_temp.runs('EXECUTE known (8)')"),
                query("SELECT pg_temp.runs('EXECUTE p')"),
                query("DO $$BEGIN EXECUTE 'PREPARE unseen AS SELECT 1'; END$$"),
                query(NAMES),
                query("DEALLOCATE ALL"),
                query(NAMES),
                query("DO $$BEGIN EXECUTE 'PREPARE unseen AS SELECT 1'; END$$"),
                query("PREPARE unseen AS SELECT 2"),
            ],
        ),
        (
            "read by the settings of their time",
            vec![
                query("PREPARE day AS SELECT '01/02/2024'::date AS d"),
                parse("p", "SELECT '01/02/2024'::date AS d"),
                query("SET DateStyle = 'SQL, DMY'"),
                query("EXECUTE day"),
                run("p"),
                query("SET search_path = pg_catalog"),
                query("EXECUTE day"),
                run("p"),
                query("RESET DateStyle"),
                query("EXECUTE day"),
                run("p"),
            ],
        ),
        (
            "of a table that changes",
            vec![
                query("CREATE TEMP TABLE changes (a int)"),
                query("INSERT INTO changes VALUES (1)"),
                query("PREPARE p AS SELECT * FROM changes"),
                parse("q", "SELECT * FROM changes"),
                query("EXECUTE p"),
                query("ALTER TABLE changes ADD b int"),
                query("EXECUTE p"),
                run("q"),
                query("ALTER TABLE changes DROP b"),
                query("EXECUTE p"),
                run("q"),
            ],
        ),
    ];
    // One statement of the router's own on a connection: the client's do not give way.
    let server = in_session_mode("prepared_statements = 1\n");
    let direct = server.shards.endpoint(0);
    for (what, requests) in &cases {
        let expected = said(&direct, requests);
        assert_eq!(said(&server, requests), expected, "{what}");
    }
    println!("{} cases", cases.len());
}

#[test]
fn an_execute_in_a_text_runs_by_the_settings_that_hold_before_it() {
    let refused = |said: &[String]| said[0].starts_with("Error 0A000");
    let server = endpoint_with("[pool]\nprepared_statements = 1\n");
    let mut wire = Wire::login(&server);
    wire.rows("PREPARE p AS SELECT 1");
    wire.rows("PREPARE q AS SELECT 2");
    for text in [
        "SET DateStyle = 'German'; EXECUTE p",
        "BEGIN; SELECT 1; COMMIT; EXECUTE p",
        "SELECT 1; EXECUTE unknown",
        "PREPARE r AS SELECT 1; EXECUTE r",
        // The connection has room for one of them.
        "EXECUTE p; EXECUTE q",
    ] {
        let said = say(&mut wire, text);
        assert!(refused(&said), "{text}: {said:?}");
        assert_eq!(said[1], "ReadyForQuery I", "{text}");
    }
    assert_eq!(wire.rows("EXECUTE p; SELECT 3"), [["1"], ["3"]]);
    // In a block that has failed the server has to know it already.
    say(&mut wire, "BEGIN");
    say(&mut wire, "SELECT nothing");
    let said = say(&mut wire, "ROLLBACK; EXECUTE q");
    assert!(refused(&said) && said[1] == "ReadyForQuery E", "{said:?}");
    say(&mut wire, "ROLLBACK");
    assert_eq!(wire.rows("EXECUTE q"), [["2"]]);
    // Nobody else gets what it is planned by.
    let server = in_session_mode("");
    let mut wire = Wire::login(&server);
    wire.rows("PREPARE p AS SELECT '01/02/2024'::date");
    let text = "SET DateStyle = 'German'; EXECUTE p";
    assert_eq!(wire.rows(text), [["02.01.2024"]]);
}

#[test]
fn a_name_that_servers_may_read_otherwise_runs_all_the_same() {
    let server = in_session_mode("");
    let mut wire = Wire::login(&server);
    let long = format!("\"{}\"", "ä".repeat(31));
    let names = ["\"a\"\"b\"", "\"__mothership_1\"", "\"ä\"", &long];
    for (value, name) in names.iter().enumerate() {
        wire.rows(&format!("PREPARE {name} AS SELECT {value}"));
    }
    wire.rows("PREPARE mine AS SELECT 'mine'");
    for (value, name) in names.iter().enumerate() {
        let found = wire.rows(&format!("EXECUTE {name}"));
        assert_eq!(found, [[value.to_string()]], "{name}");
    }
    assert_eq!(wire.rows("EXECUTE mine"), [["mine"]]);
    for name in names {
        wire.rows(&format!("DEALLOCATE {name}"));
        let said = say(&mut wire, &format!("EXECUTE {name}"));
        assert!(said[0].starts_with("Error 26000"), "{name}: {said:?}");
    }
    let of_client = "SELECT name FROM pg_prepared_statements WHERE name !~ '^__mothership_'";
    assert_eq!(wire.rows(of_client), [["mine"]]);
}

#[test]
fn nobody_else_sees_the_names_of_a_client() {
    let server = in_session_mode("max = 1\n");
    let mut wire = Wire::login(&server);
    wire.rows("PREPARE secret AS SELECT 'mine'");
    assert_eq!(send(&mut wire, &parse("too", "SELECT 'mine'")), PARSED);
    drop(wire);
    let mut wire = Wire::login(&server);
    assert_eq!(
        wire.rows("SELECT count(*) FROM pg_prepared_statements"),
        [["0"]]
    );
    wire.rows("PREPARE secret AS SELECT 'of another'");
    assert_eq!(wire.rows("EXECUTE secret"), [["of another"]]);
}

#[test]
fn names_outlive_the_server_that_has_them() {
    let server = in_session_mode("");
    let mut wire = Wire::login(&server);
    wire.rows("PREPARE p AS SELECT 'by SQL'");
    wire.rows("PREPARE gone AS SELECT 1");
    assert_eq!(send(&mut wire, &parse("q", "SELECT 'by parse'")), PARSED);
    let mut direct = Wire::login(&server.shards.endpoint(0));
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%by parse%'";
    assert_eq!(direct.rows(end), [["1"]]);
    // The loss may be told of the statement that comes next.
    say(&mut wire, "SELECT 1");
    assert_eq!(wire.rows("EXECUTE p"), [["by SQL"]]);
    assert_eq!(send(&mut wire, &run("q")), row("by parse"));
    wire.rows("DEALLOCATE gone");
    wire.rows("PREPARE gone AS SELECT 2");
    assert_eq!(wire.rows("EXECUTE gone"), [["2"]]);
    let names = "SELECT name FROM pg_prepared_statements ORDER BY name";
    assert_eq!(wire.rows(names), [["gone"], ["p"], ["q"]]);
}

#[test]
fn what_an_argument_does_to_the_session_stays_with_it() {
    let more = "[pool]\nmax = 1\n";
    let server = endpoint_listening("workers = 1", more);
    let set = "EXECUTE known (set_config('work_mem', '1234kB', false))";
    let requests = [vec![message::query(set)], extended(set, &[], &[])];
    for messages in requests {
        let mut wire = Wire::login(&server);
        wire.rows("PREPARE known (text) AS SELECT $1");
        let said = send(&mut wire, &messages);
        assert!(said.contains(&"DataRow 1234kB".to_owned()), "{said:?}");
        assert_eq!(wire.rows("SHOW work_mem"), [["1234kB"]]);
        drop(wire);
        // There is one server connection: the next client would have it.
        assert_ne!(Wire::login(&server).rows("SHOW work_mem"), [["1234kB"]]);
    }
}

#[test]
fn a_statement_that_is_the_sessions_business_is_not_run_by_execute() {
    let server = endpoint();
    let refused = |said: &[String]| {
        let message = "Error 0A000 EXECUTE does not run this statement";
        said.iter().any(|line| line == message)
    };
    for sql in [
        "BEGIN",
        "COMMIT",
        "SAVEPOINT s",
        "SET work_mem = '1234kB'",
        "SET LOCAL work_mem = '1234kB'",
        "RESET ALL",
        "DISCARD ALL",
        "DEALLOCATE ALL",
        "EXECUTE p",
        "EXECUTE other",
        "",
    ] {
        let mut wire = Wire::login(&server);
        wire.rows("PREPARE other AS SELECT 1");
        assert_eq!(send(&mut wire, &parse("p", sql)), PARSED, "{sql}");
        assert!(refused(&say(&mut wire, "EXECUTE p")), "{sql}");
        let said = send(&mut wire, &extended("EXECUTE p", &[], &[]));
        assert!(refused(&said), "{sql}: {said:?}");
        assert_eq!(
            say(&mut wire, "SELECT 1").last().unwrap(),
            "ReadyForQuery I"
        );
        assert_ne!(wire.rows("SHOW work_mem"), [["1234kB"]]);
        assert_eq!(wire.rows("EXECUTE other"), [["1"]]);
    }
    // What EXPLAIN does not run changes nothing, and whether it runs is not looked at.
    let mut wire = Wire::login(&server);
    let set = "SELECT set_config('work_mem', '1234kB', false)";
    assert_eq!(send(&mut wire, &parse("p", set)), PARSED);
    assert!(refused(&say(&mut wire, "EXPLAIN EXECUTE p")));
    assert_ne!(wire.rows("SHOW work_mem"), [["1234kB"]]);
    assert_eq!(wire.rows("EXECUTE p"), [["1234kB"]]);
    assert_eq!(wire.rows("SHOW work_mem"), [["1234kB"]]);
}

#[test]
fn a_portal_does_not_run_what_its_name_meant_before() {
    let server = endpoint();
    let mut wire = Wire::login(&server);
    wire.rows("PREPARE p AS SELECT 1");
    let messages = [
        message::parse("", "EXECUTE p", &[]),
        message::bind_text(&[]),
        message::close_statement("p"),
        message::parse("p", "SELECT 2", &[]),
        message::execute("", 0),
        message::sync(),
    ];
    let said = send(&mut wire, &messages);
    let refused = "Error 0A000 what this EXECUTE runs was prepared anew after it was bound";
    assert_eq!(said[said.len() - 2..], [refused, "ReadyForQuery I"]);
    assert_eq!(wire.rows("SELECT 'usable'"), [["usable"]]);
}

#[test]
fn an_argument_of_any_kind_leads_to_its_own_row() {
    let stage = Stage::new();
    let keys = one_each();
    stage.fill(keys);
    let mut wire = stage.wire();
    wire.rows("PREPARE p (int8) AS SELECT note FROM items WHERE id = $1");
    for key in keys {
        let note = format!("DataRow n{key}");
        for argument in [
            key.to_string(),
            format!("'{key}'"),
            format!("{key}::int8"),
            format!("{key} + 0"),
            format!("abs(-{key}::numeric) + 0.4"),
            format!("(ARRAY[0, {key}])[2]"),
            format!("'{key}'::text"),
        ] {
            if argument.ends_with("text") {
                // PostgreSQL's own error, and no row.
                let said = say(&mut wire, &format!("EXECUTE p ({argument})"));
                assert!(said[0].starts_with("Error 42804"), "{said:?}");
                continue;
            }
            let sql = format!("EXECUTE p ({argument})");
            assert!(say(&mut wire, &sql).contains(&note), "{sql}");
            assert!(
                send(&mut wire, &extended(&sql, &[], &[])).contains(&note),
                "{sql}"
            );
        }
        // A minus before a cast is applied behind it.
        let sql = format!("EXECUTE p (-{key}::int8)");
        let nothing = "CommandComplete SELECT 0".to_owned();
        assert!(say(&mut wire, &sql).contains(&nothing), "{sql}");
        let said = send(&mut wire, &extended(&sql, &[], &[]));
        assert!(said.contains(&nothing), "{sql}");
    }
}

#[test]
fn a_value_that_becomes_another_leads_to_no_wrong_shard() {
    let table = "[[table]]\nname = \"words\"\nkey = [\"word\"]\nkey_type = [\"text\"]\n\
                 [[table]]\nname = \"numbers\"\nkey = [\"number\"]\nkey_type = [\"int8\"]\n";
    let stage = Stage::bare(table);
    let mut wire = stage.wire();
    for sql in [
        "CREATE TABLE words (word text PRIMARY KEY)",
        "CREATE TABLE numbers (number int8 PRIMARY KEY)",
        "PREPARE word (int) AS SELECT word FROM words WHERE word = $1::text",
        "PREPARE number (int) AS SELECT number FROM numbers WHERE number = $1",
        "PREPARE insert (int) AS INSERT INTO words VALUES ($1)",
    ] {
        wire.rows(sql);
    }
    let guessed = "SELECT number FROM numbers WHERE number = $1";
    assert_eq!(send(&mut wire, &parse("guessed", guessed)), PARSED);
    let mut found = 0;
    for n in 1..9 {
        wire.rows(&format!("INSERT INTO words VALUES ('{n}')"));
        wire.rows(&format!("INSERT INTO numbers VALUES ({n})"));
        for (name, argument) in [
            ("word", format!("{n}")),
            ("word", format!("'00{n}'")),
            ("word", format!("' {n}'")),
            ("word", format!("{n}.4")),
            ("number", format!("{n}.4")),
            ("number", format!("'00{n}'")),
            ("guessed", format!("{n}.4")),
            ("guessed", format!("00{n}")),
        ] {
            let sql = format!("EXECUTE {name} ({argument})");
            let extended = send(&mut wire, &extended(&sql, &[], &[]));
            for said in [say(&mut wire, &sql), extended] {
                let is_found = said.contains(&format!("DataRow {n}"));
                // One cannot become a number, and nothing else may fail.
                let fails =
                    name == "guessed" && said.iter().any(|line| line.starts_with("Error 42804"));
                assert!(is_found || fails, "{sql}: {said:?}");
                found += usize::from(is_found);
            }
        }
        // What is stored is found again by its key, or nothing is stored.
        let sql = format!("EXECUTE insert ('00{n}0')");
        let extended = send(&mut wire, &extended(&sql, &[], &[]));
        let stored = [say(&mut wire, &sql), extended].concat();
        let stored = stored.contains(&"CommandComplete INSERT 0 1".to_owned());
        let rows = wire.rows(&format!("SELECT word FROM words WHERE word = '{n}0'"));
        assert_eq!(rows.len(), usize::from(stored), "{sql}");
    }
    assert!(found >= 16, "only {found} are found");
    stage.assert_nothing_open();
}
