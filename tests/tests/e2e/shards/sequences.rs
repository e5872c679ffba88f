//! Values that the router makes: identity, serial and nextval of sharded tables, and keys from other defaults.

use super::stage::{Stage, extended, one, one_each, say, send, within};
use mothership_tests::message::{self, Format};
use mothership_tests::{Endpoint, Wire, connect};
use std::collections::BTreeSet;
use tokio_postgres::types::ToSql;

const TABLES: &str = r#"
[[table]]
name = "people"
key = ["id"]
key_type = ["int8"]
[[table]]
name = "orders"
key = ["id"]
key_type = ["int4"]
[[table]]
name = "visits"
key = ["person"]
key_type = ["int8"]
[[table]]
name = "tokens"
key = ["id"]
key_type = ["uuid"]
"#;

const DEFINITIONS: [&str; 4] = [
    "CREATE TABLE people (id bigserial PRIMARY KEY, name text)",
    "CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, total int DEFAULT 7)",
    "CREATE TABLE visits (person int8, number int8 DEFAULT nextval('numbers'), note text)",
    "CREATE TABLE tokens (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), note text)",
];

fn stage() -> Stage {
    stage_with("")
}

fn stage_with(more: &str) -> Stage {
    let stage = Stage::bare(&format!("{TABLES}{more}"));
    // A sequence belongs to the home shard, and a default on each shard needs one.
    stage
        .shards
        .sql_all("CREATE SEQUENCE numbers INCREMENT 10 START 100");
    let mut wire = stage.wire();
    for sql in DEFINITIONS {
        let answer = say(&mut wire, sql);
        assert!(
            answer[0].starts_with("CommandComplete"),
            "{sql}: {answer:?}"
        );
    }
    stage
}

#[test]
fn keys_left_to_a_sequence_are_made_before_the_shard_is_chosen() {
    let stage = stage();
    let mut wire = stage.wire();
    // As Rails and SQLAlchemy write it.
    let sql = r#"INSERT INTO "people" ("name") VALUES ('Ada') RETURNING "id""#;
    assert_eq!(wire.rows(sql), [["1"]]);
    let sql =
        "INSERT INTO people (name) VALUES ('Bea'), ('Cyd'), ('Dot') RETURNING people.id, name";
    assert_eq!(wire.rows(sql), [["2", "Bea"], ["3", "Cyd"], ["4", "Dot"]]);
    let sql =
        "INSERT INTO people (id, name) VALUES (DEFAULT, 'Eve'), (500, 'Fay'), (DEFAULT, 'Gil')";
    assert_eq!(say(&mut wire, sql)[0], "CommandComplete INSERT 0 3");
    assert_eq!(
        wire.rows("INSERT INTO people DEFAULT VALUES RETURNING id"),
        [["7"]]
    );
    assert_eq!(
        wire.rows("INSERT INTO people VALUES (DEFAULT) RETURNING id"),
        [["8"]]
    );
    assert_eq!(stage.ids("people"), [1, 2, 3, 4, 5, 6, 7, 8, 500]);

    // Identity, which a client may not give itself.
    let sql = "INSERT INTO orders (total) VALUES (1), (2) RETURNING id, total";
    assert_eq!(wire.rows(sql), [["1", "1"], ["2", "2"]]);
    assert_eq!(
        wire.rows("INSERT INTO orders DEFAULT VALUES RETURNING *"),
        [["3", "7"]]
    );
    let refused = say(&mut wire, "INSERT INTO orders (id) VALUES (9)");
    assert!(refused[0].starts_with("Error 428C9"), "{refused:?}");
    let sql = "INSERT INTO orders (id) OVERRIDING SYSTEM VALUE VALUES (9), (DEFAULT) RETURNING id";
    assert_eq!(wire.rows(sql), [["9"], ["4"]]);
    assert_eq!(stage.ids("orders"), [1, 2, 3, 4, 9]);

    // A column that is no key, with a sequence of its own steps.
    let sql = "INSERT INTO visits (person) VALUES (1), (2), (3) RETURNING number";
    assert_eq!(wire.rows(sql), [["100"], ["110"], ["120"]]);
    let sql = "INSERT INTO visits (person, number) VALUES (4, nextval('numbers')) RETURNING number";
    assert_eq!(wire.rows(sql), [["130"]]);

    // The sequences of the other shards have given nothing.
    for shard in [1, 2] {
        let called = stage
            .shards
            .sql(shard, "SELECT is_called FROM people_id_seq");
        assert_eq!(called, "f");
    }
    stage.assert_nothing_prepared();
}

#[test]
fn parsed_statements_keep_their_own_parameters_and_columns() {
    let stage = stage();
    let mut wire = stage.wire();
    let sql = "INSERT INTO people (name) VALUES ($1) RETURNING id, name";
    // As psycopg and asyncpg do: Describe before Bind.
    let answer = send(
        &mut wire,
        &[
            message::parse("add", sql, &[]),
            message::describe_statement("add"),
            message::sync(),
        ],
    );
    assert_eq!(
        answer,
        [
            "ParseComplete",
            "ParameterDescription 1",
            "RowDescription id name",
            "ReadyForQuery I"
        ]
    );
    for (id, name) in [("1", "Ada"), ("2", "Bea"), ("3", "Cyd")] {
        let messages = [
            message::bind(
                "",
                "add",
                Format::Text,
                &[Some(name.as_bytes())],
                Format::Text,
            ),
            message::describe_portal(""),
            message::execute("", 0),
            message::sync(),
        ];
        let answer = send(&mut wire, &messages);
        assert_eq!(
            answer,
            [
                "BindComplete".to_owned(),
                "RowDescription id name".to_owned(),
                format!("DataRow {id} {name}"),
                "CommandComplete INSERT 0 1".to_owned(),
                "ReadyForQuery I".to_owned()
            ]
        );
    }
    // The unnamed statement, with a parameter in binary, which is not the format of what is added.
    let sql = "INSERT INTO visits (person, note) VALUES ($1, $2) RETURNING person, number";
    let (person, note) = (77_i64.to_be_bytes(), b"x");
    let messages = [
        message::parse("", sql, &[20, 25]),
        message::bind(
            "",
            "",
            Format::Binary,
            &[Some(&person), Some(note)],
            Format::Text,
        ),
        message::execute("", 0),
        message::sync(),
    ];
    let answer = send(&mut wire, &messages);
    assert_eq!(
        answer[2..],
        [
            "DataRow 77 100",
            "CommandComplete INSERT 0 1",
            "ReadyForQuery I"
        ]
    );
    // Rows of several shards.
    let sql = "INSERT INTO people (name) VALUES ($1), ($2), ($3), ($1) RETURNING id, name";
    let answer = send(&mut wire, &extended(sql, &[], &["a", "b", "c"]));
    assert_eq!(
        answer[2..],
        [
            "DataRow 4 a",
            "DataRow 5 b",
            "DataRow 6 c",
            "DataRow 7 a",
            "CommandComplete INSERT 0 4",
            "ReadyForQuery I"
        ]
    );
    assert_eq!(stage.ids("people"), [1, 2, 3, 4, 5, 6, 7]);
    // Too few values are the client's mistake, in PostgreSQL's words.
    let sql = "INSERT INTO people (name) VALUES ($1)";
    let answer = send(&mut wire, &extended(sql, &[], &[]));
    assert_eq!(
        answer,
        [
            "ParseComplete",
            "Error 08P01 bind message supplies 0 parameters, but prepared statement \"\" requires 1",
            "ReadyForQuery I"
        ]
    );
    // What is no SQL to the server is said at Parse.
    let answer = send(
        &mut wire,
        &extended("INSERT INTO people (nom) VALUES ($1)", &[], &["x"]),
    );
    assert!(answer[0].starts_with("Error"), "{answer:?}");
    // Refused before it is bound, as with any values.
    let sql = "INSERT INTO people (name) VALUES ($1) ON CONFLICT (name) DO NOTHING";
    let answer = send(&mut wire, &extended(sql, &[], &["x"]));
    assert!(answer[0].starts_with("Error 0A000"), "{answer:?}");
    stage.assert_nothing_open();
}

#[tokio::test]
async fn drivers_insert_in_transactions_and_read_the_keys() {
    let stage = stage();
    let mut client = stage.client().await;
    let insert = "INSERT INTO people (name) VALUES ($1) RETURNING id";
    let insert = within(client.prepare(insert)).await.unwrap();
    let mut ids = Vec::new();
    for round in 0..30 {
        let transaction = within(client.transaction()).await.unwrap();
        for _ in 0..3 {
            let name = format!("n{round}");
            let row = within(transaction.query_one(&insert, &[&name]))
                .await
                .unwrap();
            ids.push((row.get::<_, i64>(0), round % 3 != 0));
        }
        match round % 3 {
            0 => within(transaction.rollback()).await.unwrap(),
            _ => within(transaction.commit()).await.unwrap(),
        }
    }
    assert!(ids.windows(2).all(|two| two[0].0 < two[1].0), "{ids:?}");
    let kept: Vec<i64> = ids.iter().filter(|id| id.1).map(|id| id.0).collect();
    assert_eq!(stage.ids("people"), kept);
    let sql = "INSERT INTO people (id, name) VALUES ($1, $2), (DEFAULT, $3) \
        ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING id, name";
    let values: [&(dyn ToSql + Sync); 3] = [&kept[0], &"again", &"again"];
    let rows = within(client.query(sql, &values)).await.unwrap();
    assert_eq!(rows[0].get::<_, i64>(0), kept[0]);
    assert!(rows[1].get::<_, i64>(0) > ids[ids.len() - 1].0);
    assert!(rows.iter().all(|row| row.get::<_, &str>(1) == "again"));
    let script = "INSERT INTO people (name) VALUES ('a'); INSERT INTO orders DEFAULT VALUES; \
        INSERT INTO people (name) VALUES ('b'), ('c'); SELECT count(*) FROM orders";
    within(client.batch_execute(script)).await.unwrap();
    assert_eq!(stage.ids("people").len(), kept.len() + 4);
    assert_eq!(stage.ids("orders"), [1]);
    stage.assert_nothing_prepared();
}

#[test]
fn values_come_from_the_sequence_that_clients_see() {
    let stage = stage();
    let mut wire = stage.wire();
    let add = "INSERT INTO people (name) VALUES ('x') RETURNING id";
    let next = "SELECT nextval('people_id_seq')";
    let first: i64 = one(&mut wire, add).parse().unwrap();
    let theirs: i64 = one(&mut wire, next).parse().unwrap();
    let second: i64 = one(&mut wire, add).parse().unwrap();
    assert_eq!(first, 1);
    assert!(theirs > first && theirs != second, "{theirs} {second}");
    // As a restored dump does it: what was taken before is not given after it.
    assert_eq!(
        one(&mut wire, "SELECT setval('people_id_seq', 5000)"),
        "5000"
    );
    assert_eq!(one(&mut wire, add), "5001");
    assert_eq!(
        one(
            &mut wire,
            "SELECT pg_catalog.setval('people_id_seq', 6000, true)"
        ),
        "6000"
    );
    assert_eq!(one(&mut stage.wire(), add), "6001");
    let answer = say(&mut wire, "ALTER SEQUENCE people_id_seq RESTART WITH 7000");
    assert_eq!(answer[0], "CommandComplete ALTER SEQUENCE");
    assert_eq!(one(&mut wire, add), "7000");
    let answer = say(&mut wire, "TRUNCATE people RESTART IDENTITY");
    assert_eq!(answer[0], "CommandComplete TRUNCATE TABLE");
    assert_eq!(one(&mut wire, add), "1");
    // Within a transaction, too.
    say(&mut wire, "BEGIN");
    assert_eq!(
        one(&mut wire, "SELECT setval('people_id_seq', 8000)"),
        "8000"
    );
    assert_eq!(one(&mut wire, add), "8001");
    say(&mut wire, "COMMIT");
    assert_eq!(stage.ids("people"), [1, 8001]);
    // No server knows what the router took, and the router tells it.
    assert_eq!(one(&mut wire, "SELECT currval('people_id_seq')"), "8001");
    assert_eq!(one(&mut wire, "SELECT lastval()"), "8001");
}

#[test]
fn a_role_needs_the_privilege_that_nextval_asks_for() {
    let stage = stage();
    let mut wire = stage.wire();
    let role = format!("clerk_{}", std::process::id());
    say(&mut wire, &format!("CREATE ROLE {role}"));
    say(
        &mut wire,
        &format!("GRANT INSERT, SELECT ON people, orders TO {role}"),
    );
    say(&mut wire, &format!("SET ROLE {role}"));
    let denied = say(&mut wire, "INSERT INTO people (name) VALUES ('a')");
    assert_eq!(
        denied[0],
        "Error 42501 permission denied for sequence people_id_seq"
    );
    // An identity's is used by whoever may insert.
    let stored = say(&mut wire, "INSERT INTO orders (total) VALUES (1)");
    assert_eq!(stored[0], "CommandComplete INSERT 0 1");
    say(&mut wire, "RESET ROLE");
    say(
        &mut wire,
        &format!("GRANT USAGE ON SEQUENCE people_id_seq TO {role}"),
    );
    say(&mut wire, &format!("SET ROLE {role}"));
    let stored = say(&mut wire, "INSERT INTO people (name) VALUES ('a')");
    assert_eq!(stored[0], "CommandComplete INSERT 0 1");
    say(&mut wire, "RESET ROLE");
    say(&mut wire, &format!("DROP OWNED BY {role}"));
    say(&mut wire, &format!("DROP ROLE {role}"));
}

#[test]
fn a_sequence_ends_where_it_ends() {
    let stage = stage();
    let mut wire = stage.wire();
    say(
        &mut wire,
        "ALTER SEQUENCE people_id_seq MAXVALUE 5 INCREMENT BY 2",
    );
    let add = "INSERT INTO people (name) VALUES ('x') RETURNING id";
    let ids: Vec<String> = (0..3).map(|_| one(&mut wire, add)).collect();
    assert_eq!(ids, ["1", "3", "5"]);
    let error = "Error 2200H nextval: reached maximum value of sequence \"people_id_seq\" (5)";
    assert_eq!(say(&mut wire, add)[0], error);
    let parsed = "INSERT INTO people (name) VALUES ($1)";
    let answer = send(&mut wire, &extended(parsed, &[], &["x"]));
    assert_eq!(answer[0], "ParseComplete");
    assert_eq!(answer[1], error);
    say(
        &mut wire,
        "ALTER SEQUENCE people_id_seq MAXVALUE 7 MINVALUE -3 START 7 INCREMENT BY -4 RESTART CYCLE",
    );
    let ids: Vec<String> = (0..4).map(|_| {
        let sql = "INSERT INTO visits (person, number) VALUES (1, nextval('people_id_seq')) RETURNING number";
        one(&mut wire, sql)
    }).collect();
    assert_eq!(ids, ["7", "3", "-1", "7"]);
    let sql = "INSERT INTO people (name) VALUES ('b'), ('c') RETURNING id";
    assert_eq!(
        say(&mut wire, "DELETE FROM people")[0],
        "CommandComplete DELETE 3"
    );
    assert_eq!(wire.rows(sql), [["3"], ["-1"]]);
}

#[test]
fn the_last_values_are_given_before_a_sequence_ends() {
    let stage = stage();
    let mut wire = stage.wire();
    let told =
        |wire: &mut Wire, sql: &str| assert!(!say(wire, sql)[0].starts_with("Error"), "{sql}");
    let two = "INSERT INTO people (name) VALUES ('x'), ('y') RETURNING id";
    let one_more = "INSERT INTO people (name) VALUES ('z') RETURNING id";
    // A block is larger than what is left.
    told(&mut wire, "ALTER SEQUENCE people_id_seq AS smallint");
    told(&mut wire, "ALTER SEQUENCE people_id_seq RESTART WITH 32763");
    assert_eq!(wire.rows(two), [["32763"], ["32764"]]);
    assert_eq!(wire.rows(two), [["32765"], ["32766"]]);
    let error = "Error 2200H nextval: reached maximum value of sequence \"people_id_seq\" (32767)";
    assert_eq!(say(&mut wire, two)[0], error);
    // PostgreSQL has given the last one, too, to the row that it did not store.
    assert_eq!(say(&mut wire, one_more)[0], error);
    told(&mut wire, "SELECT setval('people_id_seq', 32767, false)");
    assert_eq!(wire.rows(one_more), [["32767"]]);
    told(&mut wire, "DELETE FROM people");
    // Downwards, and round.
    told(
        &mut wire,
        "ALTER SEQUENCE people_id_seq INCREMENT BY -1 MINVALUE -5 RESTART WITH -3",
    );
    assert_eq!(wire.rows(two), [["-3"], ["-4"]]);
    assert_eq!(wire.rows(one_more), [["-5"]]);
    let error = "Error 2200H nextval: reached minimum value of sequence \"people_id_seq\" (-5)";
    assert_eq!(say(&mut wire, one_more)[0], error);
    told(&mut wire, "DELETE FROM people");
    told(
        &mut wire,
        "ALTER SEQUENCE people_id_seq MAXVALUE 9 CYCLE RESTART WITH -4",
    );
    assert_eq!(wire.rows(two), [["-4"], ["-5"]]);
    assert_eq!(wire.rows(two), [["9"], ["8"]]);
}

#[test]
fn what_sql_has_prepared_gets_values_too() {
    let stage = stage();
    let mut wire = stage.wire();
    say(
        &mut wire,
        "PREPARE add AS INSERT INTO people (name) VALUES ($1), ($2) RETURNING id, name",
    );
    let first = wire.rows("EXECUTE add ('a', 'b' || 'c')");
    assert_eq!(first, [["1", "a"], ["2", "bc"]]);
    let by_parse = send(&mut wire, &extended("EXECUTE add ('d', NULL)", &[], &[]));
    assert_eq!(by_parse[2..4], ["DataRow 3 d", "DataRow 4 ∅"]);
    assert_eq!(stage.ids("people"), [1, 2, 3, 4]);
}

#[test]
fn random_keys_are_made_by_the_router() {
    let stage = stage();
    let mut wire = stage.wire();
    let sql = "INSERT INTO tokens (note) VALUES ('a'), ('b'), ('c'), ('d'), ('e'), ('f') RETURNING id, note";
    let rows = wire.rows(sql);
    let notes: Vec<&str> = rows.iter().map(|row| &*row[1]).collect();
    assert_eq!(notes, ["a", "b", "c", "d", "e", "f"]);
    let sql = "INSERT INTO tokens (id, note) VALUES (gen_random_uuid(), $1) RETURNING id";
    for _ in 0..10 {
        let answer = send(&mut wire, &extended(sql, &[], &["x"]));
        assert_eq!(answer[3], "CommandComplete INSERT 0 1", "{answer:?}");
    }
    for row in &rows {
        // It is found where it was put.
        let note = one(
            &mut wire,
            &format!("SELECT note FROM tokens WHERE id = '{}'", row[0]),
        );
        assert_eq!(note, row[1]);
    }
    assert_eq!(one(&mut wire, "SELECT count(*) FROM tokens"), "16");
}

#[test]
fn rows_of_a_query_get_values_in_their_order() {
    let stage = stage();
    let mut wire = stage.wire();
    let inserts = |wire: &mut Wire, sql: &str| {
        let said = say(wire, sql);
        let error = said.iter().any(|line| line.starts_with("Error"));
        assert!(!error, "{sql}: {said:?}");
        said
    };
    inserts(
        &mut wire,
        "INSERT INTO people (name) SELECT 'n' || g FROM generate_series(1, 40) g",
    );
    let right = "SELECT count(*) FROM people WHERE name = 'n' || id";
    assert_eq!(one(&mut wire, right), "40");
    assert_eq!(stage.ids("people").len(), 40);
    // RETURNING gives them back as the query gave them.
    let sql = "INSERT INTO people (name) SELECT name FROM people WHERE id > 34 ORDER BY id DESC RETURNING id, name";
    let said = inserts(&mut wire, sql);
    let shown: Vec<String> = (41..47)
        .map(|id| format!("DataRow {id} n{}", 81 - id))
        .collect();
    assert_eq!(said[1..7], shown);
    let sql = "INSERT INTO people (name) SELECT * FROM unnest($1::text[]) RETURNING id";
    let said = send(&mut wire, &extended(sql, &[], &["{a,b,c}"]));
    let shown: Vec<String> = (47..50).map(|id| format!("DataRow {id}")).collect();
    assert_eq!(said[2..5], shown, "{said:?}");
    // A shard by itself would take its own sequence's.
    let [a, b, _] = one_each();
    for (person, number) in [(a, 100), (b, 110), (a, 120)] {
        let sql = format!(
            "INSERT INTO visits (person, note) SELECT id, name FROM people WHERE id = {person} RETURNING number"
        );
        assert_eq!(one(&mut wire, &sql), number.to_string());
    }
    // What is given is taken, and nothing is made of no rows.
    inserts(
        &mut wire,
        "INSERT INTO people (name) SELECT 'x' WHERE false",
    );
    inserts(
        &mut wire,
        "INSERT INTO people (id, name) SELECT * FROM unnest(ARRAY[900, 901], ARRAY['g', 'h'])",
    );
    assert_eq!(
        one(
            &mut wire,
            "INSERT INTO people (name) SELECT 'y' RETURNING id"
        ),
        "50"
    );
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}

#[test]
fn inserts_within_with_and_behind_it_get_their_values() {
    let stage = stage();
    let mut wire = stage.wire();
    let parent_and_child = "WITH p AS (INSERT INTO people (name) VALUES ('a'), ('b'), ('c') RETURNING id, name) \
         INSERT INTO visits (person, note) SELECT id, name FROM p";
    for round in 0..3 {
        let answer = match round {
            0 => say(&mut wire, parent_and_child),
            1 => send(&mut wire, &extended(parent_and_child, &[], &[])),
            _ => say(
                &mut wire,
                &format!("PREPARE both_{round} AS {parent_and_child}"),
            ),
        };
        assert!(
            answer
                .iter()
                .any(|line| line == "CommandComplete INSERT 0 3"
                    || line == "CommandComplete PREPARE"),
            "{answer:?}"
        );
    }
    let found = "SELECT count(*), count(DISTINCT p.id), count(DISTINCT v.number), bool_and(v.note = p.name) FROM people p JOIN visits v ON v.person = p.id";
    assert_eq!(say(&mut wire, found)[1], "DataRow 6 6 6 t");
    let always = "WITH o AS (INSERT INTO orders (total) VALUES (1), (2), (3) RETURNING id, total), \
         t AS (INSERT INTO tokens (note) VALUES ('x'), ('y') RETURNING id) \
         SELECT count(DISTINCT o.id), sum(total), count(DISTINCT t.id) FROM o, t";
    assert_eq!(say(&mut wire, always)[1], "DataRow 3 12 2");
    let own = "WITH o AS (INSERT INTO orders (id, total) VALUES (5000, 1), (5001, 2), (5002, 3) RETURNING id) SELECT count(*) FROM o";
    let refused = say(&mut wire, own);
    assert!(refused[0].starts_with("Error 428C9"), "{refused:?}");
    let overriding = own.replace("VALUES", "OVERRIDING SYSTEM VALUE VALUES");
    assert_eq!(say(&mut wire, &overriding)[1], "DataRow 3");
    assert_eq!(
        say(&mut wire, "SELECT count(*) FROM orders")[1],
        "DataRow 6"
    );
    let behind = "WITH p AS (SELECT 'x'::text AS name) INSERT INTO people (name) SELECT name FROM p RETURNING id > 6";
    assert_eq!(say(&mut wire, behind)[1], "DataRow t");
    let listed = "WITH p AS (SELECT 1) INSERT INTO people (name) VALUES ('y') RETURNING id > 6";
    assert_eq!(say(&mut wire, listed)[1], "DataRow t");
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}

#[test]
fn what_has_no_place_for_values_is_refused() {
    let stage = stage();
    let mut wire = stage.wire();
    for sql in [
        "INSERT INTO orders (total) SELECT 1",
        "WITH p AS (INSERT INTO people (name) SELECT 'x' RETURNING id) SELECT id FROM p",
        "COPY people (name) FROM STDIN",
        "UPDATE visits SET number = DEFAULT WHERE person = 1",
        "INSERT INTO visits (person, number) VALUES (1, nextval('numbers') + 1)",
        "SELECT setval('people_id_seq', id) FROM people",
    ] {
        let answer = say(&mut wire, sql);
        assert!(answer[0].starts_with("Error 0A000"), "{sql}: {answer:?}");
    }
    say(
        &mut wire,
        "PREPARE add AS INSERT INTO people (name) VALUES ($1)",
    );
    let answer = say(&mut wire, "EXPLAIN EXECUTE add ('x')");
    assert!(answer[0].starts_with("Error 0A000"), "{answer:?}");
    let answer = say(
        &mut wire,
        "EXPLAIN (ROUTE) INSERT INTO people (name) VALUES ('x')",
    );
    assert!(
        answer
            .iter()
            .any(|line| line.contains("next of public.people_id_seq")),
        "{answer:?}"
    );
    assert_eq!(stage.ids("people"), [] as [i64; 0]);
    // A failed transaction takes no values.
    say(&mut wire, "BEGIN");
    say(&mut wire, "SELECT 1 / 0");
    let answer = say(&mut wire, "INSERT INTO people (name) VALUES ('x')");
    assert!(answer[0].starts_with("Error 25P02"), "{answer:?}");
    say(&mut wire, "ROLLBACK");
    assert_eq!(
        one(
            &mut wire,
            "INSERT INTO people (name) VALUES ('x') RETURNING id"
        ),
        "1"
    );
}

#[tokio::test]
#[ignore = "long"]
async fn ten_thousand_rows_by_two_routers_have_keys_of_their_own() {
    const CLIENTS: usize = 8;
    const ROUNDS: usize = 250;
    let stage = stage_with("[sequences]\nblock = 7\n");
    let another = stage.another_router();
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let endpoint = match number % 2 {
            0 => stage.endpoint(),
            _ => Endpoint {
                port: another.port(),
                ..stage.endpoint()
            },
        };
        clients.push(tokio::spawn(async move {
            let client = within(connect(&endpoint)).await;
            let one = "INSERT INTO people (name) VALUES ($1) RETURNING id";
            let four = "INSERT INTO people (name) VALUES ($1), ($2), ('x'), ('y') RETURNING id";
            let one = within(client.prepare(one)).await.unwrap();
            let four = within(client.prepare(four)).await.unwrap();
            let mut ids: Vec<i64> = Vec::new();
            for _ in 0..ROUNDS {
                let rows = within(client.query(&one, &[&"a"])).await.unwrap();
                ids.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
                let rows = within(client.query(&four, &[&"b", &"c"])).await.unwrap();
                assert_eq!(rows.len(), 4);
                ids.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
            }
            ids
        }));
    }
    let mut ids = Vec::new();
    for client in clients {
        ids.extend(client.await.unwrap());
    }
    assert_eq!(ids.len(), 10_000);
    let distinct: BTreeSet<i64> = ids.iter().copied().collect();
    assert_eq!(distinct.len(), 10_000);
    let stored: BTreeSet<i64> = stage.ids("people").into_iter().collect();
    assert_eq!(stored, distinct);
    stage.assert_nothing_prepared();
}
