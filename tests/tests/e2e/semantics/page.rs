//! `docs/sql.md`: what is answered, how, and what is refused.

use super::Kinds;
use super::cases::{Expected, Request, Row};
use std::fmt::Write as _;

const PARTS: [(usize, &str); 6] = [
    (1, "Where a statement goes"),
    (35, "Order and limits"),
    (48, "Aggregates and groups"),
    (65, "Joins, subqueries, set operations, windows"),
    (84, "Writes"),
    (102, "Transactions, sessions, protocol"),
];

const HEAD: &str = "# What of SQL is answered, and how\n\n\
    Made from the cases in `tests/tests/e2e/semantics` (`UPDATE_DOCS=1 cargo test -p mothership-tests --test e2e \
    semantics`). Each statement runs over three shards and on one PostgreSQL, in the simple and in the extended \
    protocol, and the answers are compared: rows, order, names and types of columns, command tags, errors, and what \
    the tables hold afterwards.\n\n\
    `Single`: one server answers. `Scatter`: several do, and their answers are put together. `Gather`: rows are \
    brought to one PostgreSQL, which answers. `Split`: a write is divided. `Ddl`: a definition changes on all shards \
    that have the object. No plan is shown for statements that concern the session, or whose plan depends on the values of a \
    Bind. The last column lists the plans and refusals of all statements of a row, not of the example alone. [refused.md](refused.md) has every reason.\n\n";

/// The whole page.
pub fn page(rows: &[Row], kinds: &Kinds) -> String {
    let mut page = String::from(HEAD);
    let requests = || rows.iter().flat_map(Row::requests);
    let count = |wanted: fn(&Expected) -> bool| requests().filter(|r| wanted(&r.expected)).count();
    let refused = rows.iter().filter(|row| row.is_refused()).count();
    let partly = rows.iter().filter(|row| row.refuses()).count()
        - rows
            .iter()
            .filter(|r| r.refuses() && r.is_refused())
            .count();
    let _ = write!(
        page,
        "| | |\n|---|---|\n| rows | {} |\n| answered in all their cases | {} |\n| answered in some | {partly} |\n\
         | refused | {refused} |\n| requests that are answered as by one PostgreSQL | {} |\n\
         | requests whose values [differ](differences.md), as they may | {} |\n| requests that are refused | {} |\n",
        rows.len(),
        rows.len() - partly - refused,
        count(|e| matches!(e, Expected::Equal)),
        count(|e| matches!(e, Expected::Differs(_))),
        count(|e| matches!(e, Expected::Refused(_))),
    );
    for row in rows {
        if let Some((_, title)) = PARTS.iter().find(|(first, _)| *first == row.number) {
            let _ = write!(
                page,
                "\n## {title}\n\n| | | for example | answered |\n|---|---|---|---|\n"
            );
        }
        let example = row.requests().find(|r| !is_control(r.sql));
        let example = example.map_or(String::new(), |r| code(r.sql));
        let _ = writeln!(
            page,
            "| {} | {} | {example} | {} |",
            row.number,
            row.title,
            answered(row, kinds)
        );
    }
    page += "\n## What is refused of these\n\n| | statement | reason |\n|---|---|---|\n";
    for row in rows {
        for request in row.requests() {
            if let Expected::Refused(why) = request.expected {
                let _ = writeln!(page, "| {} | {} | `{why}` |", row.number, code(request.sql));
            }
        }
        if let Some(why) = row.absent {
            let _ = writeln!(page, "| {} | | {why} |", row.number);
        }
    }
    page
}

fn is_control(sql: &str) -> bool {
    ["BEGIN", "START", "COMMIT", "ROLLBACK"]
        .iter()
        .any(|word| sql.starts_with(word))
}

/// The plans of its statements, the reasons, the tests.
fn answered(row: &Row, kinds: &Kinds) -> String {
    let mut words: Vec<String> = Vec::new();
    let kind = |request: &Request| match request.expected {
        Expected::Refused(why) => Some(format!("refused: `{why}`")),
        Expected::Differs(letter) => Some(format!("differs by ({letter})")),
        Expected::Equal => kinds
            .get(&(row.number, request.sql))
            .filter(|k| *k != "Refuse")
            .cloned(),
    };
    let found = row.requests().filter_map(kind);
    let tests = row.tests.iter().map(|test| format!("test `{test}`"));
    let absent = row.absent.map(|why| format!("refused: {why}"));
    for word in found.chain(absent).chain(tests) {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.join(", ")
}

fn code(sql: &str) -> String {
    let fence = if sql.contains('`') { "``" } else { "`" };
    format!("{fence}{}{fence}", sql.replace('|', "\\|"))
}
