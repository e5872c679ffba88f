//! Writes: rows that are divided, changed on several shards, copied to all of them.

use super::stage::{Stage, extended, keys_of, one, one_each, say, send, within};
use mothership_tests::message;
use tokio_postgres::types::ToSql;

type Value<'a> = &'a (dyn ToSql + Sync);

#[test]
fn rows_are_divided_among_their_shards() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    let values: Vec<String> = (1..=60)
        .map(|id| format!("({id}, {}, 'n{id}')", id * 2))
        .collect();
    let sql = format!("INSERT INTO items VALUES {}", values.join(", "));
    assert_eq!(
        say(&mut wire, &sql),
        ["CommandComplete INSERT 0 60", "ReadyForQuery I"]
    );
    assert_eq!(stage.ids("items"), (1..=60).collect::<Vec<_>>());
    assert_eq!(stage.rows("items")[16], "17|34|n17");

    // The same with parameters, in one message each.
    let (a, b, c) = (101, 102, 103);
    let sql = "INSERT INTO items (note, id, v) VALUES ($1, $2, 7), ($3, $4, $7), ('x', $5, $6), ($1, 104, 1)";
    let types = [25, 20, 25, 20, 20, 20, 20];
    let values = ["p", "101", "q", "102", "103", "9", "8"];
    assert_eq!(
        send(&mut wire, &extended(sql, &types, &values)),
        [
            "ParseComplete",
            "BindComplete",
            "CommandComplete INSERT 0 4",
            "ReadyForQuery I"
        ]
    );
    let rows = stage.rows("items");
    assert_eq!(
        rows[60..],
        [
            format!("{a}|7|p"),
            format!("{b}|8|q"),
            format!("{c}|9|x"),
            "104|1|p".into()
        ]
    );

    // One row that violates a constraint, and none is kept.
    let [a, b, c] = one_each().map(|id| id + 1000);
    let sql = format!("INSERT INTO items VALUES ({a}, 1), ({b}, 1), ({c}, 1), (17, 1)");
    let answer = say(&mut wire, &sql);
    assert!(answer[0].starts_with("Error 23505"), "{answer:?}");
    assert_eq!(answer[1..], ["ReadyForQuery I"]);
    let answer = send(&mut wire, &extended(&sql, &[], &[]));
    assert!(
        answer.iter().any(|l| l.starts_with("Error 23505")),
        "{answer:?}"
    );
    assert_eq!(stage.ids("items").len(), 64);
    stage.assert_nothing_prepared();
}

#[tokio::test]
async fn a_driver_inserts_changes_and_deletes_over_shards() {
    let stage = Stage::new();
    let client = stage.client().await;
    let insert = "INSERT INTO items (id, v, note) VALUES ($1, $2, $3), ($4, $5, $6)";
    let insert = within(client.prepare(insert)).await.unwrap();
    for id in 1..=20_i64 {
        let (double, other, note) = (id * 2, id + 100, format!("n{id}"));
        let nothing = None::<String>;
        let values: [Value<'_>; 6] = [&id, &double, &note, &other, &id, &nothing];
        assert_eq!(within(client.execute(&insert, &values)).await.unwrap(), 2);
    }
    let wanted: Vec<i64> = (1..=20).chain(101..=120).collect();
    assert_eq!(stage.ids("items"), wanted);
    let list = vec![1_i64, 2, 3, 101];
    let cases: [(&str, &[Value<'_>], u64); 3] = [
        ("UPDATE items SET v = v + $1", &[&1_i64], 40),
        (
            "UPDATE items SET note = $2 WHERE id = ANY($1)",
            &[&list, &"x"],
            4,
        ),
        ("DELETE FROM items WHERE id > $1", &[&100_i64], 20),
    ];
    for (sql, values, count) in cases {
        let done = within(client.execute(sql, values)).await;
        assert_eq!(done.unwrap(), count, "{sql}");
    }
    assert_eq!(stage.ids("items"), (1..=20).collect::<Vec<_>>());
    assert_eq!(stage.rows("items")[..2], ["1|3|x", "2|5|x"]);
    stage.assert_nothing_prepared();
}

#[test]
fn changes_over_shards_count_all_rows() {
    let stage = Stage::new();
    stage.fill(1..=60);
    let mut wire = stage.wire();
    let cases = [
        ("UPDATE items SET v = 0 WHERE v <= 20", "UPDATE 10"),
        ("UPDATE items SET note = 'k' WHERE id = 7", "UPDATE 1"),
        (
            "UPDATE items SET v = 1 WHERE id IN (1, 2, 3, 4, 5, 6, 7, 8, 99)",
            "UPDATE 8",
        ),
        ("UPDATE items SET v = 1 WHERE id > 1000", "UPDATE 0"),
        ("DELETE FROM items WHERE id BETWEEN 31 AND 60", "DELETE 30"),
        ("DELETE FROM items WHERE id IN (1, 2, 3)", "DELETE 3"),
    ];
    for (sql, tag) in cases {
        assert_eq!(
            say(&mut wire, sql),
            [format!("CommandComplete {tag}"), "ReadyForQuery I".into()],
            "{sql}"
        );
    }
    assert_eq!(stage.ids("items"), (4..=30).collect::<Vec<_>>());
    assert_eq!(
        one(&mut wire, "SELECT sum(v) FROM items WHERE id < 11"),
        "5"
    );
    let sql = "UPDATE items SET v = v + 1 WHERE id IN (4, 5, 6, 7) RETURNING id, v";
    let mut rows = wire.rows(sql);
    rows.sort();
    assert_eq!(rows, [["4", "2"], ["5", "2"], ["6", "2"], ["7", "2"]]);
    // One shard's rows cannot be divided by zero: no shard's rows are changed.
    let key = keys_of(2, 6)[5];
    let before = stage.rows("items");
    let sql = format!("UPDATE items SET v = 100 / (id - {key})");
    let failed = say(&mut wire, &sql);
    assert_eq!(failed, ["Error 22012 division by zero", "ReadyForQuery I"]);
    assert_eq!(stage.rows("items"), before);
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}

#[test]
fn reference_tables_are_the_same_on_every_shard() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    let cases = [
        (
            "INSERT INTO kinds VALUES (1, 'a'), (2, 'b'), (3, 'c')",
            "INSERT 0 3",
        ),
        ("UPDATE kinds SET name = 'z' WHERE id = 2", "UPDATE 1"),
        ("DELETE FROM kinds WHERE id = 1", "DELETE 1"),
        (
            "INSERT INTO kinds VALUES (2, 'y') ON CONFLICT (id) DO UPDATE SET name = excluded.name",
            "INSERT 0 1",
        ),
    ];
    for (sql, tag) in cases {
        assert_eq!(
            say(&mut wire, sql),
            [format!("CommandComplete {tag}"), "ReadyForQuery I".into()],
            "{sql}"
        );
    }
    assert_eq!(stage.copies("kinds"), ["2|y", "3|c"]);
    let sql = "INSERT INTO kinds VALUES ($1, $2)";
    let answer = send(&mut wire, &extended(sql, &[], &["4", "d"]));
    assert_eq!(
        answer[2..],
        ["CommandComplete INSERT 0 1", "ReadyForQuery I"]
    );
    assert_eq!(stage.copies("kinds"), ["2|y", "3|c", "4|d"]);
    assert_eq!(wire.rows("SELECT count(*) FROM kinds"), [["3"]]);
    let returned = wire.rows("UPDATE kinds SET name = 'q' WHERE id = 4 RETURNING name");
    assert_eq!(returned, [["q"]]);
    // A join with a sharded table runs where the rows are.
    stage.fill(1..=30);
    let mut rows = wire.rows("SELECT i.id, k.name FROM items i JOIN kinds k ON k.id = i.id");
    rows.sort();
    assert_eq!(rows, [["2", "y"], ["3", "c"], ["4", "q"]]);
    // An error on one shard alone, and no copy is changed.
    stage.shards.sql(1, "ALTER TABLE kinds ADD CHECK (id < 9)");
    let failed = say(&mut wire, "INSERT INTO kinds VALUES (10, 'k')");
    assert!(failed[0].starts_with("Error 23514"), "{failed:?}");
    assert_eq!(stage.copies("kinds"), ["2|y", "3|c", "4|q"]);
    let volatile = say(&mut wire, "INSERT INTO kinds VALUES (5, random()::text)");
    assert!(volatile[0].starts_with("Error 0A000"), "{volatile:?}");
    stage.assert_nothing_prepared();
}

#[test]
fn what_a_domain_gives_where_a_column_is_left_out_is_the_same_on_every_shard() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    for sql in [
        "CREATE DOMAIN ticket AS text DEFAULT md5(random()::text)",
        "CREATE DOMAIN color AS text DEFAULT 'red'",
        "ALTER TABLE kinds ADD COLUMN color color",
    ] {
        let answer = say(&mut wire, sql);
        assert!(
            answer[0].starts_with("CommandComplete"),
            "{sql}: {answer:?}"
        );
    }
    say(&mut wire, "INSERT INTO kinds (id) VALUES (1)");
    assert_eq!(stage.copies("kinds"), ["1||red"]);
    let filled = say(&mut wire, "ALTER TABLE kinds ADD COLUMN ticket ticket");
    assert!(filled[0].starts_with("Error 0A000"), "{filled:?}");
    for sql in [
        "ALTER TABLE kinds ADD COLUMN ticket text",
        "DELETE FROM kinds",
        "ALTER TABLE kinds ALTER COLUMN ticket TYPE ticket",
    ] {
        let answer = say(&mut wire, sql);
        assert!(
            answer[0].starts_with("CommandComplete"),
            "{sql}: {answer:?}"
        );
    }
    // Refused or not, the copies are equal.
    say(&mut wire, "INSERT INTO kinds (id) VALUES (2)");
    say(
        &mut wire,
        "INSERT INTO kinds (id, ticket) VALUES (3, 'own')",
    );
    let copies = stage.copies("kinds");
    assert_eq!(copies.last().unwrap(), "3||red|own");
}

#[test]
fn truncate_empties_every_shard_and_a_home_table_only_its_own() {
    let stage = Stage::new();
    stage.fill(1..=30);
    let mut wire = stage.wire();
    wire.query("INSERT INTO kinds VALUES (1, 'a')");
    let truncated = ["CommandComplete TRUNCATE TABLE", "ReadyForQuery I"];
    assert_eq!(say(&mut wire, "TRUNCATE items"), truncated);
    assert_eq!(stage.ids("items"), [] as [i64; 0]);
    assert_eq!(
        send(
            &mut wire,
            &[
                message::parse("", "TRUNCATE kinds", &[]),
                message::bind_text(&[]),
                message::execute("", 0),
                message::sync()
            ]
        )[2..],
        truncated
    );
    assert_eq!(stage.copies("kinds"), [] as [&str; 0]);
    // A table that is not declared lives on the home shard.
    wire.query("INSERT INTO notes VALUES (1, 'a'), (2, 'b')");
    assert_eq!(
        wire.rows("SELECT body FROM notes ORDER BY id"),
        [["a"], ["b"]]
    );
    assert_eq!(stage.shards.sql(0, "SELECT count(*) FROM notes"), "2");
    let elsewhere = stage.shards.sql(1, "SELECT to_regclass('notes') IS NULL");
    assert_eq!(elsewhere, "t");
    // A rolled back TRUNCATE has emptied nothing.
    stage.fill(1..=30);
    wire.query("BEGIN");
    assert_eq!(say(&mut wire, "TRUNCATE items")[0], truncated[0]);
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "0");
    wire.query("ROLLBACK");
    assert_eq!(stage.ids("items").len(), 30);
    stage.assert_nothing_prepared();
}

const LOGS: &str = "[[table]]\nname = \"logs\"\nkind = \"reference\"\n";

#[test]
fn a_reference_table_gets_the_same_times_and_random_values_on_every_shard() {
    let stage = Stage::bare(LOGS);
    let mut wire = stage.wire();
    let made = say(
        &mut wire,
        "CREATE TABLE logs (id bigserial PRIMARY KEY, token uuid DEFAULT gen_random_uuid(), \
         at timestamptz NOT NULL DEFAULT now(), day date DEFAULT CURRENT_DATE, other uuid, body text)",
    );
    assert_eq!(made[0], "CommandComplete CREATE TABLE");
    let writes = [
        "INSERT INTO logs (body) VALUES ('a')",
        "INSERT INTO logs (body) VALUES ('b'), ('c') RETURNING id, body",
        "INSERT INTO logs (id, other, body) VALUES (DEFAULT, gen_random_uuid(), 'd')",
        "INSERT INTO logs (body, at) VALUES ('e', now() - interval '1 day')",
        "UPDATE logs SET at = now(), body = body || '!' WHERE id > 2",
        "DELETE FROM logs WHERE at < now() - interval '1 hour'",
    ];
    for sql in writes {
        let said = say(&mut wire, sql);
        assert!(!said[0].starts_with("Error"), "{sql}: {said:?}");
        let said = send(&mut wire, &extended(sql, &[], &[]));
        assert!(
            !said.iter().any(|line| line.starts_with("Error")),
            "{sql}: {said:?}"
        );
        // The same on every shard.
        stage.copies("logs");
    }
    let bodies: Vec<String> = stage.copies("(SELECT id, body FROM logs) l");
    assert_eq!(bodies.len(), 10, "{bodies:?}");
    for sql in [
        "UPDATE logs SET body = random()::text",
        "UPDATE logs SET token = gen_random_uuid()",
        "UPDATE logs SET token = DEFAULT",
        "INSERT INTO logs (body) VALUES (clock_timestamp()::text)",
    ] {
        let refused = say(&mut wire, sql);
        assert!(refused[0].starts_with("Error 0A000"), "{sql}: {refused:?}");
    }
    stage.copies("logs");
    stage.assert_nothing_prepared();
}
