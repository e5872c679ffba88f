//! Reads: by key, by lists of keys, over all shards; what is refused.

use super::stage::{Stage, extended, keys_of, lines, one, one_each, say, send, within};
use mothership_proto::backend;
use mothership_tests::Wire;
use mothership_tests::message::{self, Format};

const INT8: u32 = 20;

#[test]
fn a_row_is_read_by_its_key_in_every_protocol() {
    let stage = Stage::new();
    stage.fill(1..=60);
    let mut wire = stage.wire();
    for id in 1..=20_i64 {
        let row = format!("DataRow {id} {} n{id}", id * 2);
        let sql = format!("SELECT * FROM items WHERE id = {id}");
        assert_eq!(
            say(&mut wire, &sql),
            [
                "RowDescription id v note",
                &row,
                "CommandComplete SELECT 1",
                "ReadyForQuery I"
            ]
        );
        let text = extended("SELECT * FROM items WHERE id = $1", &[], &[&id.to_string()]);
        assert_eq!(
            send(&mut wire, &text),
            [
                "ParseComplete",
                "BindComplete",
                &row,
                "CommandComplete SELECT 1",
                "ReadyForQuery I"
            ]
        );
        let bytes = id.to_be_bytes();
        let binary = [
            message::parse("", "SELECT note FROM items WHERE id = $1", &[INT8]),
            message::bind("", "", Format::Binary, &[Some(&bytes)], Format::Text),
            message::execute("", 0),
            message::sync(),
        ];
        assert_eq!(send(&mut wire, &binary)[2], format!("DataRow n{id}"));
    }
    assert_eq!(wire.rows("SELECT id FROM items WHERE id = 61").len(), 0);
}

#[test]
fn a_prepared_statement_is_executed_with_keys_of_every_shard() {
    let stage = Stage::new();
    stage.fill(1..=30);
    let mut wire = stage.wire();
    let prepared = [
        message::parse("p", "SELECT v FROM items WHERE id = $1", &[INT8]),
        message::describe_statement("p"),
        message::sync(),
    ];
    assert_eq!(
        send(&mut wire, &prepared),
        [
            "ParseComplete",
            "ParameterDescription 1",
            "RowDescription v",
            "ReadyForQuery I"
        ]
    );
    // One pipeline over all shards: the answers come in the order of the requests.
    for id in 1..=30_i64 {
        let bytes = id.to_be_bytes();
        wire.send_all(&[
            message::bind("", "p", Format::Binary, &[Some(&bytes)], Format::Text),
            message::execute("", 0),
        ]);
    }
    wire.send(&message::sync());
    let rows: Vec<String> = lines(&wire.until_ready())
        .into_iter()
        .filter(|line| line.starts_with("DataRow"))
        .collect();
    let wanted: Vec<String> = (1..=30).map(|id| format!("DataRow {}", id * 2)).collect();
    assert_eq!(rows, wanted);
}

#[tokio::test]
async fn a_driver_reads_one_row_many_and_sums_over_all_shards() {
    let stage = Stage::new();
    stage.fill(1..=90);
    let client = stage.client().await;
    let by_key = within(client.prepare("SELECT v FROM items WHERE id = $1")).await;
    let by_key = by_key.unwrap();
    for id in 1..=90_i64 {
        let row = within(client.query_one(&by_key, &[&id])).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), id * 2);
    }
    let all = within(client.query("SELECT id FROM items", &[])).await;
    let mut ids: Vec<i64> = all.unwrap().iter().map(|row| row.get(0)).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=90).collect::<Vec<_>>());
    let many = within(client.query(
        "SELECT id, v FROM items WHERE id = ANY($1)",
        &[&vec![3_i64, 4, 5, 6, 7, 1000]],
    ))
    .await;
    let mut found: Vec<i64> = many.unwrap().iter().map(|row| row.get(1)).collect();
    found.sort_unstable();
    assert_eq!(found, [6, 8, 10, 12, 14]);
    let sql = "SELECT count(*), sum(id)::int8, min(v), max(v) FROM items WHERE id > $1";
    let row = within(client.query_one(sql, &[&10_i64])).await.unwrap();
    let found: (i64, i64, i64, i64) = (row.get(0), row.get(1), row.get(2), row.get(3));
    assert_eq!(found, (80, (11..=90).sum(), 22, 180));
    let sql = "SELECT count(*), min(v), max(v) FROM items WHERE id > $1";
    let row = within(client.query_one(sql, &[&10_i64])).await.unwrap();
    let found: (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    assert_eq!(found, (80, 22, 180));
}

#[test]
fn reads_over_all_shards_are_one_answer() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    let aggregates = "SELECT count(*), count(note), sum(v), min(id), max(id) FROM items";
    let empty = [["0", "0", "∅", "∅", "∅"]];
    assert_eq!(wire.rows(aggregates), empty);
    stage.fill(1..=90);
    let [a, b, c] = one_each();
    stage.shards.sql_all(&format!(
        "UPDATE items SET note = NULL WHERE id IN ({a}, {b})"
    ));
    // sum of int8 is numeric.
    assert_eq!(wire.rows(aggregates), [["90", "88", "8190", "1", "90"]]);
    assert_eq!(
        send(&mut wire, &extended(aggregates, &[], &[])),
        [
            "ParseComplete",
            "BindComplete",
            "DataRow 90 88 8190 1 90",
            "CommandComplete SELECT 1",
            "ReadyForQuery I"
        ]
    );
    let all = say(&mut wire, "SELECT id FROM items");
    assert_eq!(all[0], "RowDescription id");
    assert_eq!(all.len(), 93);
    assert_eq!(all[91..], ["CommandComplete SELECT 90", "ReadyForQuery I"]);
    assert_eq!(
        one(&mut wire, "SELECT count(*) FROM items WHERE v > 100"),
        "40"
    );
    assert_eq!(
        one(
            &mut wire,
            &format!("SELECT count(*) FROM items WHERE id IN ({a}, {b}, {c})")
        ),
        "3"
    );
    for list in [vec![a], vec![a, b], vec![a, b, c, -1, 1_000_000]] {
        let text: Vec<String> = list.iter().map(i64::to_string).collect();
        let sql = format!("SELECT v FROM items WHERE id IN ({})", text.join(", "));
        let mut found: Vec<i64> = wire
            .rows(&sql)
            .iter()
            .map(|r| r[0].parse().unwrap())
            .collect();
        found.sort_unstable();
        let mut wanted: Vec<i64> = list
            .iter()
            .filter(|id| (1..=90).contains(*id))
            .map(|id| id * 2)
            .collect();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "{sql}");
    }
}

#[test]
fn a_portal_with_a_row_limit_goes_on_over_the_shards() {
    let stage = Stage::new();
    stage.fill(1..=50);
    let mut wire = stage.wire();
    wire.query("BEGIN");
    let first = send(
        &mut wire,
        &[
            message::parse("", "SELECT id FROM items", &[]),
            message::bind("c", "", Format::Text, &[], Format::Text),
            message::execute("c", 7),
            message::sync(),
        ],
    );
    assert_eq!(first[..2], ["ParseComplete", "BindComplete"]);
    assert_eq!(first[9..], ["PortalSuspended", "ReadyForQuery T"]);
    let mut ids: Vec<String> = first[2..9].to_vec();
    loop {
        let more = send(&mut wire, &[message::execute("c", 7), message::sync()]);
        let (rows, rest): (Vec<_>, Vec<_>) = more
            .into_iter()
            .partition(|line| line.starts_with("DataRow"));
        assert!(rows.len() <= 7);
        ids.extend(rows);
        match rest[0].as_str() {
            "PortalSuspended" => assert!(ids.len() <= 50),
            // The tag counts the rows of the last Execute alone, as PostgreSQL's does.
            "CommandComplete SELECT 1" => break,
            other => panic!("{other}"),
        }
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 50);
    assert_eq!(
        say(&mut wire, "COMMIT"),
        ["CommandComplete COMMIT", "ReadyForQuery I"]
    );
}

#[test]
fn a_row_limit_is_kept_as_postgresql_keeps_it() {
    let stage = Stage::new();
    stage.fill(1..=50);
    let mut wire = stage.wire();
    wire.query("BEGIN");
    let mut ask = |sql: &str, limits: &[u32]| {
        let mut messages = vec![
            message::parse("", sql, &[]),
            message::bind("", "", Format::Text, &[], Format::Text),
        ];
        messages.extend(limits.iter().map(|rows| message::execute("", *rows)));
        messages.push(message::sync());
        send(&mut wire, &messages).split_off(2)
    };
    // A write without rows to return has no parts.
    let sql = "UPDATE items SET v = 1 WHERE id < 21";
    assert_eq!(ask(sql, &[1])[0], "CommandComplete UPDATE 20");
    // One row is all there is, but that is known only to who asks again.
    let sql = "SELECT count(*) FROM items";
    assert_eq!(
        ask(sql, &[1, 1])[..3],
        ["DataRow 50", "PortalSuspended", "CommandComplete SELECT 0"]
    );
    assert_eq!(
        ask(sql, &[2])[..2],
        ["DataRow 50", "CommandComplete SELECT 1"]
    );
    // Who has seen everything is told so again.
    let seen = ask("SELECT id FROM items", &[50, 50, 50]);
    let rest: Vec<_> = seen.iter().filter(|l| !l.starts_with("DataRow")).collect();
    assert_eq!(
        rest[..3],
        [
            "PortalSuspended",
            "CommandComplete SELECT 0",
            "CommandComplete SELECT 0"
        ]
    );
    // Rows that are never fetched are changed all the same.
    let some = ask("DELETE FROM items RETURNING id", &[1]);
    assert_eq!(some[1], "PortalSuspended", "{some:?}");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "0");
    say(&mut wire, "ROLLBACK");
    assert_eq!(stage.ids("items").len(), 50);
}

#[test]
fn what_is_refused_says_why_and_leaves_the_session_usable() {
    let stage = Stage::new();
    stage.fill(1..=9);
    let key = keys_of(1, 1)[0];
    let mut wire = stage.wire();
    let refused = [
        "SELECT id FROM items ORDER BY id LIMIT 1 FOR UPDATE NOWAIT",
        "SELECT id, ctid FROM items ORDER BY id",
        "SELECT a.id FROM items a TABLESAMPLE bernoulli (50) JOIN items b ON b.v = a.v",
        "DECLARE c CURSOR FOR SELECT * FROM items LIMIT 1 FOR UPDATE",
        "UPDATE items SET id = id + 1",
        "INSERT INTO items (v) VALUES (1)",
    ];
    let count = format!("SELECT v FROM items WHERE id = {key}");
    for sql in refused {
        let frames = wire.query(sql);
        assert_eq!(lines(&frames)[1..], ["ReadyForQuery I"], "{sql}");
        let error = &frames[0];
        assert_eq!(error.sqlstate(), "0A000", "{sql}: {error}");
        assert!(
            error.field('H').is_some_and(|hint| hint.len() > 10),
            "{sql}"
        );
        assert_eq!(one(&mut wire, &count), (key * 2).to_string(), "after {sql}");
        let answer = send(&mut wire, &extended(sql, &[], &[]));
        assert!(answer[0].starts_with("Error 0A000"), "{sql}: {answer:?}");
        assert_eq!(answer[1..], ["ReadyForQuery I"], "{sql}");
    }
    // In a transaction a refusal fails it, as any error does.
    wire.query("BEGIN");
    assert_eq!(one(&mut wire, &count), (key * 2).to_string());
    let refused = say(
        &mut wire,
        "SELECT id FROM items ORDER BY id LIMIT 1 FOR UPDATE NOWAIT",
    );
    assert_eq!(refused[1], "ReadyForQuery E");
    assert!(say(&mut wire, &count)[0].starts_with("Error 25P02"));
    assert_eq!(
        say(&mut wire, "COMMIT"),
        ["CommandComplete ROLLBACK", "ReadyForQuery I"]
    );
}

/// What a client believes of a column: its type and the table it comes from.
fn origins(wire: &mut Wire, messages: &[Vec<u8>]) -> Vec<(u32, u32)> {
    wire.send_all(messages);
    let frames = wire.until_ready();
    let description = frames.iter().find(|frame| frame.kind == b'T');
    let description = description.unwrap_or_else(|| panic!("{:?}", lines(&frames)));
    let columns = backend::columns(&description.body).unwrap();
    columns.iter().map(|c| (c.type_oid, c.table)).collect()
}

#[test]
fn every_shard_speaks_of_homes_types_and_tables() {
    let stage = Stage::with("[[table]]\nname = \"moods\"\nkey = [\"id\"]\nkey_type = [\"int8\"]\n");
    let mut wire = stage.wire();
    for sql in [
        "CREATE TYPE mood AS ENUM ('sad', 'glad')",
        "CREATE TABLE moods (id int8 PRIMARY KEY, m mood, more mood[])",
    ] {
        assert!(
            say(&mut wire, sql)[0].starts_with("CommandComplete"),
            "{sql}"
        );
    }
    // Databases of one server: no two objects have the same number.
    let oids = "SELECT 'mood'::regtype::oid, 'mood[]'::regtype::oid, 'moods'::regclass::oid";
    let all = stage.shards.sql_all(oids);
    assert!(all[0] != all[1] && all[1] != all[2], "{all:?}");
    let home: Vec<u32> = all[0].split('|').map(|n| n.parse().unwrap()).collect();
    let (mood, array, table) = (home[0], home[1], home[2]);
    for id in one_each() {
        // A parameter of the type that a client knows from home.
        let insert = [
            message::parse(
                "",
                "INSERT INTO moods VALUES ($1, $2, $3)",
                &[INT8, mood, array],
            ),
            message::describe_statement(""),
            message::bind_text(&[&id.to_string(), "glad", "{sad,glad}"]),
            message::execute("", 0),
            message::sync(),
        ];
        wire.send_all(&insert);
        let frames = wire.until_ready();
        assert_eq!(lines(&frames)[4], "CommandComplete INSERT 0 1");
        let types: Vec<u8> = [INT8, mood, array]
            .iter()
            .flat_map(|t| t.to_be_bytes())
            .collect();
        assert_eq!(frames[1].body[2..], types);
        let sql = format!("SELECT m, more, id FROM moods WHERE id = {id}");
        let told = [(mood, table), (array, table), (INT8, table)];
        assert_eq!(origins(&mut wire, &[message::query(&sql)]), told);
        let parsed = [
            message::parse("", "SELECT m, more, id FROM moods WHERE id = $1", &[]),
            message::bind_text(&[&id.to_string()]),
            message::describe_portal(""),
            message::execute("", 0),
            message::sync(),
        ];
        assert_eq!(origins(&mut wire, &parsed), told);
    }
    let many = "SELECT m, more, id FROM moods";
    let told = [(mood, table), (array, table), (INT8, table)];
    assert_eq!(origins(&mut wire, &[message::query(many)]), told);
    assert_eq!(wire.rows(many).len(), 3);
    let insert = [
        message::parse(
            "",
            "INSERT INTO moods VALUES ($1, $4), ($2, $4), ($3, $4)",
            &[0, 0, 0, mood],
        ),
        message::bind_text(&["101", "102", "103", "sad"]),
        message::execute("", 0),
        message::sync(),
    ];
    assert_eq!(send(&mut wire, &insert)[2], "CommandComplete INSERT 0 3");
    assert_eq!(
        stage.ids("(SELECT id FROM moods WHERE m = 'sad') t"),
        [101, 102, 103]
    );
}
