//! Reads a catalog as an open transaction of a client sees it, what it has defined itself included.
//!
//! All of [`QUERIES`], put into one: so they have one snapshot at READ COMMITTED too, and their answer is one value.
//! [`LARGE`] comes before them: where it has noted too little, more is read. Names are qualified throughout. What decides
//! how expressions print is set for this query and then as before, and so is what decides how it is planned: who turns
//! indexes off for his own query must not wait for ours. To print an expression PostgreSQL locks its table. For that it
//! waits less long than it takes a server to look for deadlocks.

use super::Catalog;
use super::decode::{Row, Unreadable, decode};
use super::queries::{LARGE, QUERIES};
use std::sync::OnceLock;

const WHAT: &str = "of a transaction";

/// Begins and ends what the query needs to be set.
const BEGIN: &str = "SAVEPOINT mothership_catalog; SET LOCAL search_path = ''; SET LOCAL lock_timeout = 900; SET LOCAL quote_all_identifiers = off; \
    SET LOCAL standard_conforming_strings = on; SET LOCAL datestyle = 'ISO'; SET LOCAL intervalstyle = 'postgres'; \
    SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 1; SET LOCAL client_encoding = 'UTF8'; \
    SET LOCAL statement_timeout = 0; SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0; \
    SET LOCAL join_collapse_limit = 8; SET LOCAL from_collapse_limit = 8";
/// Ways to plan that a client may have turned off.
const PLANNED_BY: [&str; 10] = [
    "enable_bitmapscan",
    "enable_hashagg",
    "enable_hashjoin",
    "enable_indexonlyscan",
    "enable_indexscan",
    "enable_material",
    "enable_mergejoin",
    "enable_nestloop",
    "enable_seqscan",
    "enable_sort",
];
const END: &str = "ROLLBACK TO SAVEPOINT mothership_catalog; RELEASE SAVEPOINT mothership_catalog";

/// How a server is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// It keeps the question as a prepared statement: to read and to plan it takes longer than the answer.
    #[default]
    First,
    /// It has kept it.
    Again,
    /// Nobody knows whether it has.
    Plainly,
}

/// The name of the prepared statement. No client may give it.
const NAME: &str = "__mothership_own";

/// Asks whether the server has it: one row if so.
pub const IS_KEPT: &str = "SELECT s.name FROM pg_catalog.pg_prepared_statements s WHERE s.name OPERATOR(pg_catalog.=) '__mothership_own'";

/// The statements to send within a transaction block; the only row has one column, for `read`.
pub fn query(asked: Asked) -> &'static str {
    static QUERIES: [OnceLock<String>; 3] = [const { OnceLock::new() }; 3];
    let at = match asked {
        Asked::First => 0,
        Asked::Again => 1,
        Asked::Plainly => 2,
    };
    QUERIES[at].get_or_init(|| {
        let ask = match asked {
            Asked::First => format!("PREPARE {NAME} AS {}; EXECUTE {NAME}", question()),
            Asked::Again => format!("EXECUTE {NAME}"),
            Asked::Plainly => question(),
        };
        let ways = PLANNED_BY.map(|way| format!("SET LOCAL {way} = on"));
        let ways = ways.join("; ");
        format!("{BEGIN}; {ways}; SELECT WHERE ({LARGE}) IS NULL; {ask}; {END}")
    })
}

fn question() -> String {
    let each = QUERIES
        .map(|(_, sql)| format!("(SELECT pg_catalog.json_agg(q::pg_catalog.text) FROM ({sql}) q)"));
    format!(
        "SELECT pg_catalog.json_build_array(pg_catalog.current_setting('transaction_isolation'), {})::pg_catalog.text",
        each.join(", ")
    )
}

/// What an open transaction sees.
pub enum TransactionCatalog {
    /// Its catalog.
    Catalog(Box<Catalog>),
    /// What it asks is answered by an old snapshot, while its statements run by the newest definitions.
    ByOldSnapshot,
}

/// Reads the answer to `query`.
pub fn read(answer: &str) -> Result<TransactionCatalog, Unreadable> {
    let wrong = || Unreadable { what: WHAT };
    let parts: Vec<serde_json::Value> = serde_json::from_str(answer).map_err(|_| wrong())?;
    let (isolation, answers) = parts.split_first().ok_or_else(wrong)?;
    if isolation != "read committed" && isolation != "read uncommitted" {
        return Ok(TransactionCatalog::ByOldSnapshot);
    }
    let rows = |part: &serde_json::Value| -> Option<Vec<Row>> {
        match part {
            serde_json::Value::Null => Some(Vec::new()),
            rows => rows
                .as_array()?
                .iter()
                .map(|row| record(row.as_str()?))
                .collect(),
        }
    };
    let answers: Option<Vec<Vec<Row>>> = answers.iter().map(rows).collect();
    let answers = answers.filter(|answers| answers.len() == QUERIES.len());
    decode(&answers.ok_or_else(wrong)?)
        .map(|catalog| TransactionCatalog::Catalog(Box::new(catalog)))
}

/// The columns of a record in text form (PostgreSQL manual, "Composite Type Input and Output Syntax").
fn record(text: &str) -> Option<Row> {
    let mut rest = text
        .strip_prefix('(')?
        .strip_suffix(')')?
        .chars()
        .peekable();
    let mut row = Row::new();
    loop {
        let mut value: Option<String> = None;
        let mut quoted = false;
        loop {
            match rest.peek().copied() {
                None => break,
                Some(',') if !quoted => break,
                Some(_) => {}
            }
            let value = value.get_or_insert_default();
            match rest.next()? {
                '"' if quoted && rest.peek() == Some(&'"') => value.extend(rest.next()),
                '"' => quoted = !quoted,
                '\\' => value.extend(rest.next()),
                char => value.push(char),
            }
        }
        if quoted {
            return None;
        }
        row.push(value);
        if rest.next().is_none() {
            return Some(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_record_is_its_columns() {
        let some = |text: &str| Some(text.to_owned());
        for (text, expected) in [
            ("(1,t,a b)", vec![some("1"), some("t"), some("a b")]),
            ("(,\"\",x)", vec![None, some(""), some("x")]),
            (
                r#"("a,b","c""d","e\\f",")(")"#,
                vec![some("a,b"), some("c\"d"), some("e\\f"), some(")(")],
            ),
            ("(a,)", vec![some("a"), None]),
            ("(\"two\nlines\")", vec![some("two\nlines")]),
        ] {
            assert_eq!(record(text), Some(expected), "{text}");
        }
        assert_eq!(record("(\"a)"), None);
    }
}
