//! Settings that databases and roles begin with on PostgreSQL hold for documents as well.

use super::stage::Documents;
use crate::shards::stage::say;
use mothership_tests::Wire;

/// A default, a statement that shows it, the beginning of what it answers, and of what it answers in a session that sets
/// PostgreSQL's own value.
const CASES: [(&str, &str, &str, &str); 7] = [
    (
        "default_transaction_read_only = on",
        "INSERT INTO events (id) VALUES (9) ON CONFLICT DO NOTHING",
        "Error 25006",
        "CommandComplete INSERT 0 1",
    ),
    (
        "extra_float_digits = 0",
        "SELECT ratio FROM events WHERE id = 1",
        "Error 0A000",
        "DataRow 0.30000000000000004",
    ),
    (
        "bytea_output = escape",
        "SELECT raw FROM events WHERE id = 1",
        "Error 0A000",
        "DataRow \\x01",
    ),
    (
        "transform_null_equals = on",
        "SELECT id FROM events WHERE amount = NULL",
        "Error 0A000",
        "CommandComplete SELECT 0",
    ),
    (
        "array_nulls = off",
        "SELECT id FROM events WHERE words = '{NULL}'",
        "Error 0A000",
        "CommandComplete SELECT 0",
    ),
    (
        "default_transaction_isolation = serializable",
        "SELECT id FROM events WHERE id = 1",
        "Error 0A000",
        "DataRow 1",
    ),
    (
        "statement_timeout = '1234s'",
        "SHOW statement_timeout",
        "DataRow 1234s",
        "DataRow 0",
    ),
];

fn played() -> Option<Documents> {
    let documents = Documents::over(1)?;
    let stored = say(
        &mut documents.stage.wire(),
        "INSERT INTO events (id, ratio, raw) VALUES (1, 0.1::float8 + 0.2, '\\x01')",
    );
    assert_eq!(stored[0], "CommandComplete INSERT 0 1", "{stored:?}");
    Some(documents)
}

/// The first word that a statement answers, which is not what rows look like.
fn said(wire: &mut Wire, sql: &str) -> String {
    let simple = say(wire, sql);
    let first = simple
        .iter()
        .find(|said| !said.starts_with("RowDescription"));
    first.cloned().unwrap_or_default()
}

/// Changes a default of the database or the role, and makes sessions from now on begin with it.
fn change(documents: &Documents, sql: &str) {
    let sql = format!("SET transaction_read_only = off; {sql}");
    documents.stage.shards.sql(0, &sql);
    let answer = say(&mut documents.console(), "RECONNECT");
    assert_eq!(answer[0], "CommandComplete RECONNECT");
}

#[test]
fn of_the_database() {
    let Some(documents) = played() else { return };
    let database = documents.stage.shards.endpoint(0).database;
    for (default, sql, with, without) in CASES {
        change(
            &documents,
            &format!("ALTER DATABASE \"{database}\" SET {default}"),
        );
        let mut wire = documents.stage.wire();
        let answer = said(&mut wire, sql);
        assert!(answer.starts_with(with), "{default}: {answer}");
        let name = default.split(' ').next().unwrap();
        let own = match name {
            "bytea_output" => "hex",
            "extra_float_digits" => "1",
            "default_transaction_isolation" => "'read committed'",
            "statement_timeout" => "0",
            "array_nulls" => "on",
            _ => "off",
        };
        say(&mut wire, &format!("SET {name} = {own}"));
        let answer = said(&mut wire, sql);
        assert!(answer.starts_with(without), "{default}: {answer}");
        say(&mut wire, &format!("RESET {name}"));
        let answer = said(&mut wire, sql);
        assert!(answer.starts_with(with), "{default}, RESET: {answer}");
        change(
            &documents,
            &format!("ALTER DATABASE \"{database}\" RESET {name}"),
        );
        let answer = said(&mut documents.stage.wire(), sql);
        assert!(
            !answer.starts_with("Error"),
            "{default}, no longer: {answer}"
        );
    }
}
