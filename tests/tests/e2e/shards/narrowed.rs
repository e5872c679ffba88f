//! What is fetched first leaves out rows of what is fetched later. The limit of rows is far below the tables' size, so
//! a statement is only answered if the others stay where they are.

use super::stage::{Stage, extended, say, send};
use mothership_tests::{Shards, Wire};

const LIMITS: &str = "[limits]\ngathered_rows = 600\n";

const DEFINITIONS: [&str; 3] = [
    "CREATE TABLE items (id int8 PRIMARY KEY, v int8, note text)",
    "CREATE TABLE accounts (id int8 PRIMARY KEY, balance int8 NOT NULL)",
    "CREATE TABLE kinds (id int4 PRIMARY KEY, name text)",
];

/// The same tables with the same rows, divided and in one PostgreSQL.
fn both() -> (Stage, Shards, Wire) {
    let stage = Stage::with(LIMITS);
    let one = Shards::new(1);
    for sql in DEFINITIONS {
        one.sql(0, sql);
    }
    let mut wire = stage.wire();
    let mut fill = |sql: &str| {
        let said = say(&mut wire, sql);
        assert!(said[0].starts_with("CommandComplete"), "{sql}: {said:?}");
        one.sql(0, sql);
    };
    for from in (1..3_000).step_by(500) {
        let ids = from..from + 500;
        let items = ids.clone().map(|id| match id % 50 {
            0 => format!("({id}, NULL, 'none')"),
            _ => format!("({id}, {}, 'note {}')", id % 2_000, id % 7),
        });
        let items: Vec<String> = items.collect();
        fill(&format!("INSERT INTO items VALUES {}", items.join(", ")));
        let accounts: Vec<String> = ids.map(|id| format!("({id}, {})", id % 1_500)).collect();
        fill(&format!(
            "INSERT INTO accounts VALUES {}",
            accounts.join(", ")
        ));
    }
    fill("INSERT INTO kinds SELECT g, 'kind ' || g FROM generate_series(1, 9) AS g");
    for shard in 0..stage.shards.count() {
        stage.shards.sql(shard, "ANALYZE");
    }
    let direct = Wire::login(&one.endpoint(0));
    (stage, one, direct)
}

/// Conditions that few rows of `accounts` satisfy, and what else there is of them in `items`.
const STATEMENTS: [&str; 12] = [
    "SELECT i.id, a.balance FROM items i JOIN accounts a ON a.id = i.v WHERE a.balance BETWEEN 5 AND 7 ORDER BY 1",
    "SELECT i.id, a.id FROM accounts a LEFT JOIN items i ON i.v = a.id WHERE a.balance IN (4, 50) ORDER BY 1, 2",
    "SELECT i.id, a.id FROM items i RIGHT JOIN accounts a ON i.v = a.id WHERE a.balance IN (4, 50) ORDER BY 1, 2",
    "SELECT i.id FROM items i WHERE i.v IN (SELECT a.id FROM accounts a WHERE a.balance < 3) ORDER BY 1",
    "SELECT a.id, (SELECT count(*) FROM items i WHERE i.v = a.id) FROM accounts a WHERE a.balance < 9 ORDER BY 1",
    "SELECT a.id FROM accounts a WHERE a.balance < 99 AND NOT EXISTS (SELECT 1 FROM items i WHERE i.v = a.id) ORDER BY 1",
    "SELECT count(*), sum(i.id) FROM items i, accounts a WHERE (i.v = a.id AND a.balance = 8 AND i.id < 500) OR (i.v = a.id AND a.balance = 9)",
    "SELECT i.id FROM items i JOIN accounts a ON a.id = i.v JOIN kinds k ON k.id = a.balance WHERE k.name = 'kind 3' ORDER BY 1",
    "SELECT b.id FROM accounts a, items i, accounts b WHERE a.balance = 77 AND i.v = a.id AND b.balance = i.id ORDER BY 1",
    "WITH few AS (SELECT id FROM accounts WHERE balance = 6) SELECT i.id FROM few JOIN items i ON i.v = few.id ORDER BY 1",
    "SELECT i.id FROM items i JOIN accounts a ON a.id = i.v WHERE a.balance < 0 ORDER BY 1",
    "SELECT i.note, count(*) FROM items i JOIN accounts a ON a.id = i.v WHERE a.balance % 500 = 1 GROUP BY 1 ORDER BY 1",
];

fn compare(ask: impl Fn(&mut Wire, &str) -> Vec<String>) {
    let (stage, _one, mut direct) = both();
    let mut wire = stage.wire();
    for sql in STATEMENTS {
        assert_eq!(ask(&mut wire, sql), ask(&mut direct, sql), "{sql}");
    }
}

#[test]
fn rows_that_no_fetched_key_names_stay_on_their_shards() {
    compare(say);
}

#[test]
fn they_do_so_in_the_extended_protocol_and_in_transactions() {
    compare(|wire, sql| {
        let mut said = send(wire, &extended(sql, &[], &[]));
        said.extend(say(wire, "BEGIN ISOLATION LEVEL REPEATABLE READ"));
        said.extend(say(wire, sql));
        said.extend(send(wire, &extended(sql, &[], &[])));
        said.extend(say(wire, "COMMIT"));
        said
    });
}

#[test]
fn keys_come_behind_the_parameters_of_a_statement() {
    let (stage, _one, mut direct) = both();
    let mut wire = stage.wire();
    let sql = "SELECT i.id, $2::text FROM items i JOIN accounts a ON a.id = i.v \
               WHERE a.balance = $1 AND i.note <> $2 ORDER BY 1";
    for values in [["5", "note 5"], ["1400", "x"], ["-1", "x"]] {
        let asked = extended(sql, &[20, 25], &values);
        assert_eq!(send(&mut wire, &asked), send(&mut direct, &asked));
    }
    let prepare = "PREPARE few (int8) AS SELECT i.id FROM items i JOIN accounts a ON a.id = i.v WHERE a.balance = $1 ORDER BY 1";
    for sql in [prepare, "EXECUTE few (7)", "EXECUTE few (8)"] {
        assert_eq!(say(&mut wire, sql), say(&mut direct, sql), "{sql}");
    }
}

#[test]
fn a_write_fetches_no_more_than_a_query() {
    let (stage, _one, mut direct) = both();
    let mut wire = stage.wire();
    for sql in [
        "UPDATE accounts SET balance = balance + 70000 WHERE id IN (SELECT i.v FROM items i JOIN accounts a ON a.id = i.v WHERE a.balance BETWEEN 3 AND 4)",
        "INSERT INTO items SELECT i.id + 9000, i.v, 'new' FROM items i JOIN accounts a ON a.id = i.v WHERE a.balance = 12",
        "SELECT * FROM accounts WHERE balance > 60000 ORDER BY id",
        "SELECT * FROM items WHERE id > 8000 ORDER BY id",
    ] {
        assert_eq!(say(&mut wire, sql), say(&mut direct, sql), "{sql}");
    }
}
