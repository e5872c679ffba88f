//! Parameters stay parameters: the text that a server gets is the text of the client, whatever looks like a placeholder
//! in it, and no value ever becomes a part of a text.
//!
//! Whoever writes values into a text has to know where quotes, comments and names begin and end exactly as the server
//! does, or a value becomes SQL (pgx, GHSA-j88v-2chj-qfwx).

use crate::shards::stage::{Stage, one_each, owner};
use mothership_tests::message::{self, Format};
use mothership_tests::{Frame, Wire, endpoint};

/// Values that would end a quote, a comment or a statement, or look like something else.
const VALUES: [&str; 12] = [
    "plain",
    "'",
    "''; DROP TABLE items; --",
    "\\",
    "\\'; DROP TABLE items; --",
    "$1",
    "$2",
    "$$",
    "$tag$; DROP TABLE items; $tag$",
    "*/ ; DROP TABLE items; /*",
    "\"\n--",
    "NULL",
];

/// `$1` where it is a parameter once, and where it is only text.
const QUOTED: &str = "'$1', E'\\'$1', U&'$1', $$ $1 $$, $tag$ $1 $$ ' $2 $tag$, \"$1\"";

/// Values of the quotes above.
const QUOTED_VALUES: [&str; 6] = ["$1", "'$1", "$1", " $1 ", " $1 $$ ' $2 ", "column"];

const INT8: u32 = 20;
const TEXT: u32 = 25;

const COMMENTS: &str = "/* $1 /* ' $2 */ $$ */ -- $1 '";

/// Rows of a statement with these parameters of these types, by the unnamed or a named statement.
fn rows(
    wire: &mut Wire,
    name: &str,
    sql: &str,
    types: &[u32],
    values: &[&str],
) -> Vec<Vec<String>> {
    let values: Vec<_> = values.iter().map(|value| Some(value.as_bytes())).collect();
    let mut messages = vec![message::parse(name, sql, types)];
    messages.extend([
        message::bind("", name, Format::Text, &values, Format::Text),
        message::execute("", 0),
    ]);
    if !name.is_empty() {
        messages.push(message::close_statement(name));
    }
    messages.push(message::sync());
    wire.send_all(&messages);
    let said = wire.until_ready();
    if let Some(error) = said.iter().find(|frame| frame.kind == b'E') {
        panic!("{sql} {values:?}: {error}");
    }
    let rows = said.iter().filter(|frame| frame.kind == b'D');
    rows.map(Frame::row_text).collect()
}

#[test]
fn a_server_gets_the_text_of_the_client_and_the_values_beside_it() {
    let server = endpoint();
    let mut wire = Wire::login(&server);
    let sql = format!(
        "SELECT current_query(), $1::text, {QUOTED} FROM (SELECT 'column' AS \"$1\") t {COMMENTS}"
    );
    for name in ["", "named"] {
        for value in VALUES {
            let mut expected = vec![sql.as_str(), value];
            expected.extend(QUOTED_VALUES);
            assert_eq!(
                rows(&mut wire, name, &sql, &[TEXT], &[value]),
                [expected],
                "{value}"
            );
        }
    }
}

#[test]
fn values_stay_beside_the_text_on_one_shard_and_on_all() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    let ids = one_each();
    for name in ["", "named"] {
        for value in VALUES {
            // Each row goes to a shard of its own.
            let insert = format!(
                "INSERT INTO items (id, v, note) VALUES ($1, 1, $4), ($2, 2, $4), ($3, 3, $4) {COMMENTS}"
            );
            let text = ids.map(|id| id.to_string());
            let [a, b, c] = text.each_ref().map(String::as_str);
            rows(
                &mut wire,
                name,
                &insert,
                &[INT8, INT8, INT8, TEXT],
                &[a, b, c, value],
            );
            for (shard, held) in stage
                .shards
                .sql_all("SELECT note FROM items")
                .iter()
                .enumerate()
            {
                assert_eq!(held, value, "{shard}");
            }
            let quoted = QUOTED.replace("\"$1\"", "note");
            let mut expected = QUOTED_VALUES.map(str::to_owned).to_vec();
            expected[5] = value.to_owned();
            let one = format!("SELECT {quoted} FROM items WHERE id = $1 AND note = $2 {COMMENTS}");
            for id in &text {
                let found = rows(&mut wire, name, &one, &[INT8, TEXT], &[id, value]);
                assert_eq!(found, [expected.clone()], "{id} {value}");
            }
            let all = format!("SELECT {quoted} FROM items WHERE note = $1 {COMMENTS}");
            let found = rows(&mut wire, name, &all, &[TEXT], &[value]);
            assert_eq!(found, vec![expected.clone(); 3], "{value}");
            let set = format!("UPDATE items SET note = note || $1 || '$1' WHERE v > 0 {COMMENTS}");
            rows(&mut wire, name, &set, &[TEXT], &[value]);
            for held in stage.shards.sql_all("SELECT note FROM items") {
                assert_eq!(held, format!("{value}{value}$1"));
            }
            let delete = format!("DELETE FROM items WHERE note = $1 || $2 || '$1' {COMMENTS}");
            rows(&mut wire, name, &delete, &[TEXT, TEXT], &[value, value]);
            assert!(stage.ids("items").is_empty());
        }
    }
    assert_eq!(ids.map(owner), [0, 1, 2]);
}
