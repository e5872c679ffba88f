//! A pipeline that fails has done nothing, whichever shard has failed: no row and no setting of it stays, for its own
//! client and for those who get the connections next. Beside one PostgreSQL.

use super::stage::{Stage, keys_of, lines, one, say, send};
use mothership_tests::message::{self, Format};
use mothership_tests::{Shards, Wire};

/// A statement through the unnamed statement and portal, without a Sync.
fn run(sql: &str) -> Vec<Vec<u8>> {
    vec![
        message::parse("", sql, &[]),
        message::bind_text(&[]),
        message::execute("", 0),
    ]
}

/// Ways to fail that concern other servers than the one that has worked, or none.
fn failures() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let bind =
        |portal, statement| message::bind(portal, statement, Format::Text, &[], Format::Text);
    // abs(int4) has one argument.
    let call = [&1397u32.to_be_bytes()[..], &[0, 0, 0, 0, 0, 0]].concat();
    vec![
        (
            "no SQL",
            vec![message::parse("", "SELEC", &[]), message::sync()],
        ),
        (
            "no such table",
            vec![
                message::parse("", "SELECT * FROM nowhere", &[]),
                message::describe_statement(""),
                message::sync(),
            ],
        ),
        (
            "Describe of no portal",
            vec![message::describe_portal("none"), message::sync()],
        ),
        (
            "Execute of no portal",
            vec![message::execute("none", 0), message::sync()],
        ),
        (
            "Bind of no statement",
            vec![
                message::parse("", "SELECT * FROM notes", &[]),
                message::describe_statement(""),
                bind("", "none"),
                message::sync(),
            ],
        ),
        (
            "an error of another shard",
            [
                run("SELECT 1 / 0 FROM generate_series(1, 2)"),
                vec![message::sync()],
            ]
            .concat(),
        ),
        ("a query", vec![message::query("SELECT 1 / 0")]),
        (
            "a query of several statements",
            vec![message::query("SELECT 1; SELECT 1 / 0")],
        ),
        ("a function call", vec![message::message(b'F', &call)]),
    ]
}

/// Sends a pipeline and reads to its end.
fn answer(wire: &mut Wire, messages: &[Vec<u8>]) -> Vec<String> {
    wire.send(&messages.concat());
    lines(&wire.until_ready())
}

#[test]
fn what_a_failed_pipeline_wrote_is_undone() {
    let stage = Stage::new();
    for before in ["SELECT 1", "LISTEN anything"] {
        for shard in 0..3 {
            let id = keys_of(shard, 1)[0];
            for (name, failure) in failures() {
                let mut wire = stage.wire();
                say(&mut wire, before);
                let insert = run(&format!("INSERT INTO items (id, v) VALUES ({id}, 1)"));
                let told = answer(&mut wire, &[insert, failure].concat());
                let what = format!("{name} after {before} on shard {shard}: {told:?}");
                assert!(told.iter().any(|l| l.starts_with("Error")), "{what}");
                assert_eq!(told.last().unwrap(), "ReadyForQuery I", "{what}");
                // Others use the connections.
                for _ in 0..3 {
                    one(&mut stage.wire(), "SELECT count(*) FROM items");
                }
                assert_eq!(stage.ids("items"), [] as [i64; 0], "{what}");
                assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "0", "{what}");
            }
        }
    }
    stage.assert_nothing_open();
    stage.assert_nothing_prepared();
}

#[test]
fn a_setting_of_a_failed_pipeline_reaches_nobody() {
    let stage = Stage::new();
    for shard in 0..3 {
        let id = keys_of(shard, 1)[0];
        stage.fill([id]);
        for (name, failure) in failures() {
            let mut wire = stage.wire();
            let pipeline = [
                run(&format!("SELECT v FROM items WHERE id = {id}")),
                run("SET default_transaction_read_only = on"),
                failure,
            ];
            let told = answer(&mut wire, &pipeline.concat());
            let what = format!("{name} on shard {shard}: {told:?}");
            assert!(told.iter().any(|l| l.starts_with("Error")), "{what}");
            let mut others: Vec<Wire> = (0..6).map(|_| stage.wire()).collect();
            for wire in others.iter_mut().chain([&mut wire]) {
                let setting = one(wire, "SHOW default_transaction_read_only");
                assert_eq!(setting, "off", "{what}");
                let wrote = say(wire, &format!("UPDATE items SET v = v WHERE id = {id}"));
                assert_eq!(wrote[0], "CommandComplete UPDATE 1", "{what}");
            }
        }
    }
}

#[test]
fn a_query_ends_a_pipeline_and_holds_with_it() {
    let stage = Stage::new();
    let plain = Shards::new(1);
    plain.sql(
        0,
        "CREATE TABLE items (id int8 PRIMARY KEY, v int8, note text)",
    );
    let [a, b, c] = super::stage::one_each();
    let add = |id| format!("INSERT INTO items (id) VALUES ({id})");
    for query in [
        add(b),
        format!("{}; {}", add(b), add(c)),
        format!("{}; ROLLBACK", add(b)),
        format!("{}; BEGIN; {}; ROLLBACK", add(b), add(c)),
        "ROLLBACK".into(),
        "COMMIT".into(),
        "ROLLBACK AND CHAIN".into(),
        "SAVEPOINT s".into(),
        "SELECT count(*) FROM items".into(),
        format!("SELECT id FROM items WHERE id = {b}"),
        String::new(),
    ] {
        let mut told = Vec::new();
        for wire in &mut [Wire::login(&plain.endpoint(0)), stage.wire()] {
            let pipeline = [run(&add(a)), vec![message::query(&query)]].concat();
            told.push(answer(wire, &pipeline));
        }
        assert_eq!(told[1], told[0], "{query}");
        let stored = plain.sql(0, "SELECT id FROM items ORDER BY id");
        let stored: Vec<i64> = stored.lines().map(|id| id.parse().unwrap()).collect();
        assert_eq!(stage.ids("items"), stored, "{query}");
        stage.assert_nothing_open();
        plain.sql(0, "TRUNCATE items");
        stage.shards.sql_all("TRUNCATE items");
    }
}

#[test]
fn transaction_control_in_a_pipeline_over_shards() {
    let stage = Stage::new();
    let plain = Shards::new(1);
    plain.sql(
        0,
        "CREATE TABLE items (id int8 PRIMARY KEY, v int8, note text)",
    );
    let [a, b, c] = super::stage::one_each();
    let add = |id| format!("INSERT INTO items (id) VALUES ({id})");
    let last = [add(c), "ROLLBACK".to_owned()];
    for control in [
        "BEGIN",
        "BEGIN READ ONLY",
        "COMMIT",
        "COMMIT AND CHAIN",
        "ROLLBACK",
        "ROLLBACK AND CHAIN",
        "SAVEPOINT s",
        "ROLLBACK TO s",
        "RELEASE s",
    ] {
        let mut told = Vec::new();
        for wire in &mut [Wire::login(&plain.endpoint(0)), stage.wire()] {
            let pipeline = [
                run(&add(a)),
                run(&add(b)),
                run(control),
                vec![message::sync()],
            ];
            let mut all = vec![send(wire, &pipeline.concat())];
            all.extend(last.iter().map(|sql| say(wire, sql)));
            told.push(all);
        }
        assert_eq!(told[1], told[0], "{control}");
        let stored = plain.sql(0, "SELECT id FROM items ORDER BY id");
        let stored: Vec<i64> = stored.lines().map(|id| id.parse().unwrap()).collect();
        assert_eq!(stage.ids("items"), stored, "{control}");
        stage.assert_nothing_open();
        plain.sql(0, "TRUNCATE items");
        stage.shards.sql_all("TRUNCATE items");
    }
    stage.assert_nothing_prepared();
}
