//! Binds that do not fit their statement, inside of a block, in a pipeline and alone: each has PostgreSQL's own SQLSTATE
//! and transaction status, and the session is usable afterwards.
//!
//! The same messages are sent to one PostgreSQL that has the same tables.

use crate::shards::stage::{Stage, one_each};
use mothership_tests::message::{self, message};
use mothership_tests::{Endpoint, Frame, Wire, endpoint};

/// Bind of the unnamed statement.
fn bind(portal: &str, formats: &[i16], values: &[Option<&[u8]>], results: &[i16]) -> Vec<u8> {
    let count = |n: usize| u16::try_from(n).unwrap().to_be_bytes();
    let codes = |codes: &[i16]| {
        codes
            .iter()
            .flat_map(|c| c.to_be_bytes())
            .collect::<Vec<_>>()
    };
    let mut body = [portal.as_bytes(), b"\0\0"].concat();
    body.extend(count(formats.len()));
    body.extend(codes(formats));
    body.extend(count(values.len()));
    for value in values {
        match value {
            None => body.extend((-1_i32).to_be_bytes()),
            Some(value) => {
                body.extend(i32::try_from(value.len()).unwrap().to_be_bytes());
                body.extend(*value);
            }
        }
    }
    body.extend(count(results.len()));
    body.extend(codes(results));
    message(b'B', &body)
}

/// A statement with the values of a Bind that fits it, in text, and the number of its columns.
struct Case {
    sql: &'static str,
    values: Vec<String>,
    columns: usize,
}

/// Binds that do not fit, by what is wrong with them.
fn wrong_binds(case: &Case) -> Vec<(&'static str, Vec<u8>)> {
    let good: Vec<Option<&[u8]>> = case.values.iter().map(|v| Some(v.as_bytes())).collect();
    let more = [&good[..], &[Some(&b"1"[..])]].concat();
    let with_first = |first: Option<&'static [u8]>| [&[first], &good[1..]].concat();
    let mut binds = vec![
        ("a value too many", bind("", &[], &more, &[])),
        (
            "two values too many",
            bind("", &[], &[&more[..], &[None]].concat(), &[]),
        ),
        (
            "more formats than values",
            bind("", &vec![0; good.len() + 2], &good, &[]),
        ),
        (
            "more result formats than columns",
            bind("", &[], &good, &vec![0; case.columns + 2]),
        ),
        ("an unknown result format", bind("", &[], &good, &[2])),
        ("a negative result format", bind("", &[], &good, &[-1])),
    ];
    if good.is_empty() {
        return binds;
    }
    binds.extend([
        ("no value", bind("", &[], &[], &[])),
        ("a value too few", bind("", &[], &good[1..], &[])),
        ("an unknown format", bind("", &[2], &good, &[])),
        (
            "a binary value of two bytes",
            bind("", &[1], &with_first(Some(b"ab")), &[]),
        ),
        (
            "a binary value of nine bytes",
            bind("", &[1], &with_first(Some(b"123456789")), &[]),
        ),
        ("no number", bind("", &[], &with_first(Some(b"x")), &[])),
        (
            "nothing for a number",
            bind("", &[], &with_first(Some(b"")), &[]),
        ),
        (
            "a number that is too large",
            bind("", &[], &with_first(Some(b"99999999999999999999")), &[]),
        ),
        ("no UTF-8", bind("", &[], &with_first(Some(b"\xff")), &[])),
        ("a zero byte", bind("", &[], &with_first(Some(b"1\0")), &[])),
    ]);
    binds
}

/// What can be compared of an answer: errors by their SQLSTATE, because names and places of rows differ.
fn shown(frame: &Frame) -> String {
    match frame.kind {
        b'E' => format!("Error {}", frame.sqlstate()),
        _ => frame.to_string(),
    }
}

/// All that is said to these requests, each sent after the answer to the one before.
fn said(endpoint: &Endpoint, requests: &[Vec<Vec<u8>>]) -> Vec<String> {
    let mut wire = Wire::login(endpoint);
    wire.rows("DELETE FROM items");
    let mut lines = Vec::new();
    for messages in requests {
        wire.send_all(messages);
        lines.extend(
            wire.until_ready()
                .iter()
                .filter(|f| f.kind != b'S')
                .map(shown),
        );
    }
    lines
}

/// A request with this Bind alone, in a block, and in pipelines before and behind others.
fn requests(case: &Case, wrong: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let good: Vec<Option<&[u8]>> = case.values.iter().map(|v| Some(v.as_bytes())).collect();
    let query = |sql: &str| vec![message::query(sql)];
    let parse = || message::parse("", case.sql, &[]);
    let (execute, sync) = (|| message::execute("", 0), message::sync);
    let describe = || message::describe_portal("");
    let fitting = || [parse(), bind("", &[], &good, &[]), describe(), execute()];
    let failing = || [parse(), wrong.to_vec(), describe(), execute()];
    let usable = || query("SELECT 'usable'");
    vec![
        // Alone.
        [&failing()[..], &[sync()]].concat(),
        usable(),
        // In a block: it fails, and nothing of it stays.
        query("BEGIN"),
        [&fitting()[..], &[sync()]].concat(),
        [&failing()[..], &[sync()]].concat(),
        usable(),
        [&fitting()[..], &[sync()]].concat(),
        query("ROLLBACK"),
        usable(),
        // The first of a block, whose end is a COMMIT.
        query("BEGIN"),
        [&failing()[..], &[sync()]].concat(),
        query("COMMIT"),
        usable(),
        // To a savepoint.
        query("BEGIN"),
        query("SAVEPOINT s"),
        [&failing()[..], &[sync()]].concat(),
        query("ROLLBACK TO s"),
        [&fitting()[..], &[sync()]].concat(),
        query("ROLLBACK"),
        // In a pipeline: all that came before is undone.
        [&fitting()[..], &failing(), &fitting(), &[sync()]].concat(),
        usable(),
        query("BEGIN"),
        [&fitting()[..], &failing(), &fitting(), &[sync()]].concat(),
        query("ROLLBACK"),
        [&fitting()[..3], &[sync()]].concat(),
        usable(),
        // Several segments at once.
        query("BEGIN"),
        [&failing()[..], &[sync()]].concat(),
        query("ROLLBACK"),
        query("SELECT count(*) FROM items"),
    ]
}

fn check(router: &Endpoint, direct: &Endpoint, cases: &[Case]) {
    let mut differ = Vec::new();
    let mut count = 0;
    for case in cases {
        for (what, wrong) in wrong_binds(case) {
            let requests = requests(case, &wrong);
            let (expected, actual) = (said(direct, &requests), said(router, &requests));
            count += 1;
            if expected != actual {
                let at = expected.iter().zip(&actual).position(|(e, a)| e != a);
                let from = at.unwrap_or(0);
                let part = |lines: &[String]| lines[from..lines.len().min(from + 4)].join("; ");
                differ.push(format!(
                    "{}: {what}: at {from}\n  PostgreSQL: {}\n  router:     {}",
                    case.sql,
                    part(&expected),
                    part(&actual)
                ));
            }
        }
    }
    println!("{count} binds");
    assert!(
        differ.is_empty(),
        "{} of {count} differ:\n{}",
        differ.len(),
        differ.join("\n")
    );
}

fn case(sql: &'static str, values: &[&str], columns: usize) -> Case {
    let values = values.iter().map(|&v| v.to_owned()).collect();
    Case {
        sql,
        values,
        columns,
    }
}

/// Statements that the router answers itself have no parameters and no columns either.
fn of_the_router() -> Vec<Case> {
    [
        "SAVEPOINT t",
        "SET work_mem = '2MB'",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "DEALLOCATE ALL",
        "EXECUTE unknown (1)",
    ]
    .map(|sql| case(sql, &[], 0))
    .into()
}

#[test]
fn a_bind_that_does_not_fit_is_postgres_to_refuse() {
    let server = endpoint();
    let direct = server.shards.endpoint(0);
    Wire::login(&direct).rows("CREATE TABLE items (id int8 PRIMARY KEY, v int8, note text)");
    let mut cases = of_the_router();
    cases.extend([
        case("SELECT 1", &[], 1),
        case("SELECT $1::int8 AS a, $2::text AS b", &["1", "x"], 2),
        case("INSERT INTO items (id, v) VALUES ($1, $2)", &["1", "2"], 0),
    ]);
    check(&server, &direct, &cases);
}

#[test]
fn a_bind_that_does_not_fit_is_refused_by_several_shards_as_by_one_postgres() {
    let stage = Stage::new();
    // The tables of one shard are those of one PostgreSQL; nothing of the messages is committed.
    let direct = stage.shards.endpoint(0);
    let [a, b, _] = one_each();
    let keys = [a, b].map(|key| key.to_string());
    let mut cases = of_the_router();
    cases.extend([
        case("SELECT v FROM items WHERE id = $1", &[&keys[0]], 1),
        case("SELECT v FROM items WHERE id = $1", &[&keys[1]], 1),
        case("SELECT count(*) FROM items WHERE v > $1", &["0"], 1),
        case("SELECT id, v FROM items WHERE v > $1", &["0"], 2),
        case("UPDATE items SET v = $1", &["1"], 0),
        case("UPDATE items SET v = $1 WHERE id = $2", &["1", &keys[1]], 0),
        case("SELECT count(*) FROM notes WHERE id = $1", &["1"], 1),
    ]);
    check(&stage.endpoint(), &direct, &cases);
    stage.assert_nothing_open();
    stage.assert_nothing_prepared();
}

#[test]
fn a_write_that_is_bound_wrongly_leaves_no_row_on_any_shard() {
    let stage = Stage::new();
    let [a, b, _] = one_each();
    let keys = [a, b].map(|key| key.to_string());
    for case in [
        case(
            "INSERT INTO items (id, v) VALUES ($1, $2)",
            &[&keys[0], "2"],
            0,
        ),
        case(
            "INSERT INTO items (id, v) VALUES ($1, 0), ($2, 0)",
            &[&keys[0], &keys[1]],
            0,
        ),
        case("INSERT INTO kinds VALUES ($1, $2)", &["1", "x"], 0),
    ] {
        for (what, wrong) in wrong_binds(&case) {
            // Without columns there is nothing that such a format would concern.
            if what.contains("result format") {
                continue;
            }
            let good: Vec<Option<&[u8]>> = case.values.iter().map(|v| Some(v.as_bytes())).collect();
            let parse = || message::parse("", case.sql, &[]);
            let pipeline = [
                parse(),
                bind("", &[], &good, &[]),
                message::execute("", 0),
                parse(),
                wrong,
                message::execute("", 0),
                message::sync(),
            ];
            let said = said(
                &stage.endpoint(),
                &[pipeline.to_vec(), vec![message::query("SELECT 'usable'")]],
            );
            let errors = said.iter().filter(|line| line.starts_with("Error"));
            assert_eq!(errors.count(), 1, "{}: {what}: {said:?}", case.sql);
            assert_eq!(
                said.last().unwrap(),
                "ReadyForQuery I",
                "{}: {what}",
                case.sql
            );
            assert_eq!(stage.ids("items"), [] as [i64; 0], "{}: {what}", case.sql);
            assert_eq!(
                stage.copies("kinds"),
                [] as [&str; 0],
                "{}: {what}",
                case.sql
            );
        }
    }
    stage.assert_nothing_open();
    stage.assert_nothing_prepared();
}
