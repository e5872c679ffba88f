//! Random statements over the tables of the world, with parameters.
//!
//! PostgreSQL's own answer to each must be certain: rows that are taken in parts have an order, and times, random
//! numbers and what other clients do are left out. Some are no SQL, some fail when they run, some on one shard only.

use crate::sent::Order;
use crate::world::KEYS;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// A text with `$1`, `$2`, …, and the values.
#[derive(Debug, Clone)]
pub struct Statement {
    pub text: String,
    pub values: Vec<String>,
}

impl Statement {
    fn new(text: impl Into<String>, values: Vec<String>) -> Statement {
        Statement {
            text: text.into(),
            values,
        }
    }

    fn plain(text: impl Into<String>) -> Statement {
        Statement::new(text, Vec::new())
    }

    /// With its values in the text.
    pub fn inline(&self) -> String {
        let values = self.values.iter().enumerate().rev();
        values.fold(self.text.clone(), |text, (at, value)| {
            let shown = match value.parse::<i64>() {
                Ok(number) => number.to_string(),
                Err(_) => format!("'{value}'"),
            };
            text.replace(&format!("${}", at + 1), &shown)
        })
    }

    /// Whether the order of its rows is told.
    pub fn order(&self) -> Order {
        Order::of(&self.text)
    }
}

/// One of the keys.
pub fn key(rng: &mut StdRng) -> String {
    rng.random_range(KEYS).to_string()
}

fn two_keys(rng: &mut StdRng) -> Vec<String> {
    let first = rng.random_range(KEYS);
    let second = (first + rng.random_range(0..11)) % 12 + 1;
    vec![first.to_string(), second.to_string()]
}

/// A statement that reads or writes rows, or fails.
pub fn statement(rng: &mut StdRng) -> Statement {
    match rng.random_range(0..100) {
        0..34 => read(rng),
        34..84 => write(rng),
        _ => wrong(rng),
    }
}

/// One that reads.
pub fn read(rng: &mut StdRng) -> Statement {
    let texts: [(&str, usize); 14] = [
        ("SELECT id, v, note FROM items WHERE id = $1", 1),
        ("SELECT id, v FROM items ORDER BY id", 0),
        (
            "SELECT id, v FROM items WHERE id IN ($1, $2) ORDER BY id DESC",
            2,
        ),
        ("SELECT count(*), sum(v) FROM items", 0),
        ("SELECT count(*) FROM lines WHERE item = $1", 1),
        (
            "SELECT i.id, l.n FROM items i JOIN lines l ON l.item = i.id ORDER BY 1, 2 LIMIT 5",
            0,
        ),
        ("SELECT id, name FROM kinds ORDER BY id", 0),
        ("SELECT name FROM kinds WHERE id = $1", 1),
        ("SELECT id, body FROM notes ORDER BY id", 0),
        ("SELECT 1 AS one", 0),
        (
            "SELECT id, to_timestamp(id)::text FROM items WHERE id = $1",
            1,
        ),
        (
            "SELECT id, to_timestamp(id)::text FROM items ORDER BY id",
            0,
        ),
        (
            "SELECT i.id, k.name FROM items i JOIN kinds k ON k.id = i.id ORDER BY 1",
            0,
        ),
        ("SELECT id FROM watched WHERE v > $1 ORDER BY id", 1),
    ];
    let (text, count) = *texts.choose(rng).expect("there are some");
    let values = two_keys(rng);
    Statement::new(text, values[..count].to_vec())
}

/// One that writes; it may fail by what is there already.
pub fn write(rng: &mut StdRng) -> Statement {
    let (one, two) = (vec![key(rng)], two_keys(rng));
    match rng.random_range(0..24) {
        0..3 => Statement::new("INSERT INTO items (id, v) VALUES ($1, 7)", one),
        3 => Statement::new(
            "INSERT INTO items (id, v, note) VALUES ($1, 8, 'a') RETURNING id, v",
            one,
        ),
        4..6 => Statement::new("INSERT INTO items (id, v) VALUES ($1, 1), ($2, 2)", two),
        6 => Statement::new(
            "INSERT INTO items (id, v) VALUES ($1, 9) ON CONFLICT (id) DO UPDATE SET v = 10",
            one,
        ),
        7..9 => Statement::new("UPDATE items SET v = v + 1 WHERE id = $1", one),
        9 => Statement::plain("UPDATE items SET v = v + 1"),
        // Fails on the shards where a row is beyond the limit then.
        10 => Statement::new("UPDATE items SET v = v + 900 WHERE id IN ($1, $2)", two),
        11 => Statement::new("DELETE FROM watched WHERE id = $1", one),
        12 => Statement::new("DELETE FROM lines WHERE item = $1", one),
        // Their lines may refer to them, which is noticed at COMMIT.
        13 => Statement::new("DELETE FROM items WHERE id = $1", one),
        14 => Statement::new("INSERT INTO lines VALUES ($1, 5)", one),
        15 => Statement::new("INSERT INTO lines VALUES ($1, 6), ($2, 6)", two),
        16 => Statement::new("INSERT INTO watched VALUES ($1, -1)", one),
        17 => Statement::new("INSERT INTO watched VALUES ($1, 13)", one),
        18 => Statement::new("UPDATE watched SET v = -id WHERE id IN ($1, $2)", two),
        19 => Statement::new("INSERT INTO kinds VALUES ($1, 'k')", one),
        20 => Statement::new("UPDATE kinds SET name = 'n' WHERE id = $1", one),
        21 => Statement::new("INSERT INTO notes VALUES ($1, 'body')", one),
        22 => Statement::new(
            "UPDATE notes SET body = 'b' WHERE id = $1 RETURNING id, body",
            one,
        ),
        _ => Statement::new("DELETE FROM items WHERE id IN ($1, $2) RETURNING id", two),
    }
}

/// One that fails for certain, or almost.
pub fn wrong(rng: &mut StdRng) -> Statement {
    let one = vec![key(rng)];
    match rng.random_range(0..12) {
        0 => Statement::plain("SELEC 1"),
        1 => Statement::plain("SELECT * FROM nowhere"),
        2 => Statement::plain("SELECT nothing FROM items"),
        3 => Statement::plain("SELECT 1 / 0"),
        4 => Statement::new("SELECT 1 / (id - id) FROM items WHERE id = $1", one),
        5 => Statement::plain("SELECT id, 10 / (id - 3) FROM items ORDER BY id"),
        6 => Statement::new("INSERT INTO items (id, v) VALUES ($1, 5000)", one),
        7 => Statement::plain("INSERT INTO kinds VALUES (9, NULL)"),
        8 => Statement::plain("INSERT INTO notes VALUES (1, 'again')"),
        9 => Statement::plain("UPDATE items SET v = 10 / (id - 5)"),
        10 => Statement::new("INSERT INTO lines VALUES ($1, 1), ($1, 1)", one),
        _ => Statement::new("UPDATE kinds SET name = NULL WHERE id = 1 OR id = $1", one),
    }
}

/// One that begins, ends or divides a transaction.
pub fn transaction(rng: &mut StdRng) -> &'static str {
    let texts = [
        "BEGIN",
        "BEGIN",
        "BEGIN",
        "BEGIN",
        "COMMIT",
        "COMMIT",
        "COMMIT",
        "ROLLBACK",
        "ROLLBACK",
        "BEGIN READ ONLY",
        "BEGIN ISOLATION LEVEL REPEATABLE READ",
        "START TRANSACTION READ WRITE",
        "COMMIT AND CHAIN",
        "ROLLBACK AND CHAIN",
        "SAVEPOINT a",
        "SAVEPOINT a",
        "SAVEPOINT b",
        "RELEASE a",
        "RELEASE b",
        "ROLLBACK TO a",
        "ROLLBACK TO a",
        "ROLLBACK TO b",
        "SET TRANSACTION READ ONLY",
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET CONSTRAINTS ALL IMMEDIATE",
        "SET CONSTRAINTS ALL DEFERRED",
    ];
    texts.choose(rng).expect("there are some")
}

/// One about settings.
pub fn setting(rng: &mut StdRng) -> &'static str {
    let texts = [
        "SET work_mem = '5MB'",
        "SET work_mem = '6MB'",
        "SET work_mem = 'much'",
        "SET LOCAL work_mem = '7MB'",
        "RESET work_mem",
        "SET work_mem TO DEFAULT",
        "SHOW work_mem",
        "SHOW work_mem",
        "SET application_name = 'me'",
        "SHOW application_name",
        "SET DateStyle = 'German'",
        "SHOW DateStyle",
        "RESET DateStyle",
        "SET LOCAL extra_float_digits = 0",
        "SHOW extra_float_digits",
        "SET TIME ZONE 'Asia/Tokyo'",
        "SHOW TimeZone",
        "SET statement_timeout = '61s'",
        "SHOW statement_timeout",
        "SET LOCAL search_path = public, pg_catalog",
        "SHOW search_path",
        "SET default_transaction_isolation = 'repeatable read'",
        "SHOW transaction_isolation",
        "SET default_transaction_read_only = on",
        "RESET default_transaction_read_only",
        "SHOW transaction_read_only",
        "SET nowhere = 1",
        "SHOW nowhere",
        "RESET ALL",
    ];
    texts.choose(rng).expect("there are some")
}

/// One about statements with names in SQL.
pub fn prepared(rng: &mut StdRng) -> String {
    let name = ["x", "y"].choose(rng).expect("two");
    match rng.random_range(0..9) {
        0..2 => {
            let of = match rng.random_bool(0.5) {
                true => read(rng),
                false => write(rng),
            };
            format!("PREPARE {name} AS {}", of.inline())
        }
        2 => format!("PREPARE {name} (int8) AS SELECT id, v FROM items WHERE id = $1"),
        3 => format!("PREPARE {name} (int8) AS UPDATE items SET v = v + 1 WHERE id = $1"),
        4..6 => format!("EXECUTE {name}"),
        6..8 => format!("EXECUTE {name} ({})", key(rng)),
        _ => format!("DEALLOCATE {name}"),
    }
}

/// One about cursors.
pub fn cursor(rng: &mut StdRng) -> String {
    let cursor = ["c", "d"].choose(rng).expect("two");
    match rng.random_range(0..7) {
        0..3 => {
            let query = loop {
                let query = read(rng);
                if query.order() == Order::Told {
                    break query.inline();
                }
            };
            let how = [
                "CURSOR",
                "SCROLL CURSOR",
                "NO SCROLL CURSOR",
                "CURSOR WITH HOLD",
            ];
            let how = how.choose(rng).expect("some");
            format!("DECLARE {cursor} {how} FOR {query}")
        }
        3..6 => {
            let how = ["FETCH", "FETCH 2 FROM", "FETCH ALL", "MOVE 1 IN"];
            format!("{} {cursor}", how.choose(rng).expect("some"))
        }
        _ => format!("CLOSE {cursor}"),
    }
}

/// A COPY FROM STDIN and its lines, good ones and bad ones.
pub fn copy_in(rng: &mut StdRng) -> (String, Vec<String>) {
    let (text, line): (&str, fn(i64) -> String) = *[
        (
            "COPY items (id, v) FROM STDIN",
            (|id| format!("{id}\t3\n")) as fn(i64) -> String,
        ),
        ("COPY items (id, v, note) FROM STDIN (FORMAT csv)", |id| {
            format!("{id},4,\"x, y\"\n")
        }),
        ("COPY lines FROM STDIN", |id| format!("{id}\t9\n")),
        ("COPY kinds FROM STDIN", |id| format!("{id}\tnew\n")),
        ("COPY notes FROM STDIN", |id| format!("{id}\tnew\n")),
        ("COPY watched FROM STDIN", |id| format!("{id}\t-1\n")),
    ]
    .choose(rng)
    .expect("there are some");
    let first = rng.random_range(KEYS);
    let count = rng.random_range(0..4);
    let mut lines: Vec<String> = (0..count)
        .map(|more| line((first + more * 5) % 12 + 1))
        .collect();
    if rng.random_bool(0.25) {
        let bad = *["x\n", "1\t\n", "1\tx\n", "1\t2\t3\t4\n", "\n"]
            .choose(rng)
            .expect("some");
        lines.insert(rng.random_range(0..=lines.len()), bad.to_owned());
    }
    (text.to_owned(), lines)
}

/// COPY TO STDOUT.
pub fn copy_out(rng: &mut StdRng) -> &'static str {
    let texts = [
        "COPY (SELECT id, v FROM items ORDER BY id) TO STDOUT",
        "COPY (SELECT * FROM kinds ORDER BY id) TO STDOUT",
        "COPY (SELECT id, 10 / (id - 3) FROM items ORDER BY id) TO STDOUT",
        "COPY notes TO STDOUT (FORMAT csv)",
    ];
    texts.choose(rng).expect("there are some")
}

/// What else there is.
pub fn other(rng: &mut StdRng) -> &'static str {
    let texts = [
        "",
        ";",
        "NOTIFY news",
        "NOTIFY news, 'x'",
        "CREATE TEMP TABLE few (id int4)",
        "INSERT INTO few VALUES (1), (2)",
        "SELECT id FROM few ORDER BY id",
        "DROP TABLE few",
        "DISCARD ALL",
        "DISCARD TEMP",
        "DEALLOCATE ALL",
        "CLOSE ALL",
    ];
    texts.choose(rng).expect("there are some")
}
