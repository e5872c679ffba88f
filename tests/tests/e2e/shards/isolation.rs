//! How transactions over several shards are isolated: what holds on all of them, and what is refused because it
//! could not.

use super::stage::{Stage, extended, keys_of, one, one_each, say, send};
use mothership_tests::Wire;
use mothership_tests::message::{self, Format};

const REFUSED: &str = "Error 0A000 SERIALIZABLE transaction cannot work on several shards";

#[test]
fn a_serializable_transaction_stays_on_its_shard() {
    let stage = Stage::new();
    let ids = one_each();
    stage.fill(ids.iter().copied());
    let mut wire = stage.wire();
    let update = |id: i64| format!("UPDATE items SET note = 'x' WHERE id = {id}");
    let read = |id: i64| format!("SELECT note FROM items WHERE id = {id}");
    let begins: [&[&str]; 4] = [
        &["BEGIN ISOLATION LEVEL SERIALIZABLE"],
        &["BEGIN", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"],
        &["BEGIN", "SET LOCAL transaction_isolation = 'serializable'"],
        &[
            "SET default_transaction_isolation = 'serializable'",
            "BEGIN",
        ],
    ];
    let elsewhere = [
        update(ids[1]),
        read(ids[1]),
        "SELECT count(*) FROM items".into(),
        "UPDATE items SET v = 1".into(),
    ];
    for begin in begins {
        for other in &elsewhere {
            for by_parse in [false, true] {
                for sql in begin {
                    say(&mut wire, sql);
                }
                assert_eq!(
                    say(&mut wire, &update(ids[0]))[0],
                    "CommandComplete UPDATE 1"
                );
                say(&mut wire, "SAVEPOINT s");
                let told = match by_parse {
                    false => say(&mut wire, other),
                    true => send(&mut wire, &extended(other, &[], &[])),
                };
                assert!(
                    told.contains(&REFUSED.into()),
                    "{begin:?} {other}: {told:?}"
                );
                assert_eq!(told.last().unwrap(), "ReadyForQuery E");
                // Where it began it goes on.
                say(&mut wire, "ROLLBACK TO s");
                assert_eq!(
                    say(&mut wire, &read(ids[0]))[1],
                    "DataRow x",
                    "{begin:?} {other}"
                );
                let again = say(&mut wire, other);
                assert!(
                    again.contains(&REFUSED.into()),
                    "{begin:?} {other}: {again:?}"
                );
                say(&mut wire, "ROLLBACK TO s");
                assert_eq!(
                    say(&mut wire, "COMMIT"),
                    ["CommandComplete COMMIT", "ReadyForQuery I"]
                );
                say(&mut wire, "RESET default_transaction_isolation");
                let reset = format!("UPDATE items SET note = 'n' WHERE id = {}", ids[0]);
                assert_eq!(say(&mut wire, &reset)[0], "CommandComplete UPDATE 1");
            }
        }
    }
    // On one shard it is PostgreSQL's.
    let two = keys_of(0, 2);
    stage
        .shards
        .sql(0, &format!("INSERT INTO items VALUES ({}, 1, 'b')", two[1]));
    for sql in [
        "BEGIN ISOLATION LEVEL SERIALIZABLE",
        &update(two[0]),
        &update(two[1]),
    ] {
        assert!(say(&mut wire, sql)[0].starts_with("CommandComplete"));
    }
    assert_eq!(
        say(&mut wire, "COMMIT"),
        ["CommandComplete COMMIT", "ReadyForQuery I"]
    );
    stage.assert_nothing_open();
}

#[test]
fn who_describes_a_statement_takes_no_part_in_the_transaction() {
    let stage = Stage::new();
    let ids = one_each();
    stage.fill(ids);
    let mut wire = stage.wire();
    let mut names = 0;
    // As asyncpg and others: parsed and described in one segment, bound in the next.
    let mut run = |wire: &mut Wire, text: &str, id: i64| {
        names += 1;
        let (name, sql) = (format!("s{names}"), format!("{text} -- {names}"));
        let described = send(
            wire,
            &[
                message::parse(&name, &sql, &[]),
                message::describe_statement(&name),
                message::sync(),
            ],
        );
        assert_eq!(described[0], "ParseComplete", "{sql}: {described:?}");
        send(
            wire,
            &[
                message::bind(
                    "",
                    &name,
                    Format::Text,
                    &[Some(id.to_string().as_bytes())],
                    Format::Text,
                ),
                message::execute("", 0),
                message::sync(),
            ],
        )
    };
    let update = "UPDATE items SET note = 'x' WHERE id = $1";
    let read = "SELECT note FROM items WHERE id = $1";
    let begins: [&[&str]; 4] = [
        &["BEGIN"],
        &["BEGIN ISOLATION LEVEL SERIALIZABLE"],
        &["BEGIN", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"],
        &["BEGIN ISOLATION LEVEL SERIALIZABLE", "SAVEPOINT s"],
    ];
    for begin in begins {
        for (shard, id) in ids.into_iter().enumerate() {
            for ends in ["COMMIT", "ROLLBACK"] {
                for sql in begin {
                    say(&mut wire, sql);
                }
                for (text, told) in [(update, "CommandComplete UPDATE 1"), (read, "DataRow x")] {
                    let answer = run(&mut wire, text, id);
                    assert_eq!(answer[1], told, "{begin:?} {shard}: {answer:?}");
                }
                stage.assert_open_on_no_other(shard, &format!("{begin:?}"));
                assert_eq!(say(&mut wire, ends)[0], format!("CommandComplete {ends}"));
                stage.assert_nothing_open();
            }
        }
        // What runs on a second shard counts all the same.
        for sql in begin {
            say(&mut wire, sql);
        }
        assert_eq!(
            run(&mut wire, update, ids[1])[1],
            "CommandComplete UPDATE 1"
        );
        let told = run(&mut wire, update, ids[0]);
        let serializable = begin.join(" ").contains("SERIALIZABLE");
        assert_eq!(
            told.contains(&REFUSED.into()),
            serializable,
            "{begin:?} {told:?}"
        );
        say(&mut wire, "ROLLBACK");
        stage.assert_nothing_open();
    }
}

#[test]
fn a_statement_over_shards_is_refused_where_transactions_are_serializable_by_default() {
    let stage = Stage::new();
    stage.fill(one_each());
    let over_shards = [
        "SELECT count(*) FROM items",
        "SELECT id FROM items",
        "UPDATE items SET note = 'x'",
    ];
    let mut wire = stage.wire();
    say(
        &mut wire,
        "SET default_transaction_isolation = 'serializable'",
    );
    for sql in over_shards {
        assert!(say(&mut wire, sql).contains(&REFUSED.into()), "{sql}");
        let told = send(&mut wire, &extended(sql, &[], &[]));
        assert!(told.contains(&REFUSED.into()), "{sql}: {told:?}");
    }
    // By the defaults of a database, which the client has said nothing of.
    for shard in 0..3 {
        let name = stage.shards.endpoint(shard).database;
        stage.shards.sql(
            shard,
            &format!("ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'"),
        );
    }
    let other = stage.another_router();
    let mut wire = stage.wire_of(&other);
    for sql in over_shards {
        assert!(say(&mut wire, sql).contains(&REFUSED.into()), "{sql}");
        let told = send(&mut wire, &extended(sql, &[], &[]));
        assert!(told.contains(&REFUSED.into()), "{sql}: {told:?}");
    }
    say(
        &mut wire,
        "SET default_transaction_isolation = 'read committed'",
    );
    for sql in over_shards {
        let told = say(&mut wire, sql);
        assert!(
            told.last().unwrap() == "ReadyForQuery I" && !told[0].starts_with("Error"),
            "{told:?}"
        );
    }
    stage.assert_nothing_open();
}

#[test]
fn snapshots_of_all_shards_are_opened_by_the_first_statement_for_several() {
    let stage = Stage::new();
    let keys = [0, 1, 2].map(|shard| keys_of(shard, 4));
    stage.fill(keys.iter().map(|keys| keys[0]));
    let (mut reader, mut writer) = (stage.wire(), stage.wire());
    let all = "SELECT count(*) FROM items";
    let count = |at: usize, wire: &mut mothership_tests::Wire| {
        let insert = keys.iter().map(|keys| format!("({}, 1, 'x')", keys[at]));
        let insert = insert.collect::<Vec<_>>().join(", ");
        let told = say(wire, &format!("INSERT INTO items VALUES {insert}"));
        assert_eq!(told[0], "CommandComplete INSERT 0 3");
    };
    let one = |wire: &mut mothership_tests::Wire, sql: &str| wire.rows(sql)[0][0].clone();
    let two_shards = format!(
        "SELECT id FROM items WHERE id IN ({}, {})",
        keys[0][0], keys[1][0]
    );
    let on_third = |at: usize| format!("SELECT count(*) FROM items WHERE id = {}", keys[2][at]);
    let begins: [&[&str]; 4] = [
        &["BEGIN ISOLATION LEVEL REPEATABLE READ"],
        &["BEGIN", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"],
        &[
            "SET default_transaction_isolation = 'repeatable read'",
            "BEGIN",
        ],
        &["BEGIN ISOLATION LEVEL REPEATABLE READ"],
    ];
    for (round, begin) in begins.into_iter().enumerate() {
        for sql in begin {
            say(&mut reader, sql);
        }
        // By a simple query, and by an extended one.
        if round == 3 {
            let told = send(&mut reader, &extended(&two_shards, &[], &[]));
            assert_eq!(
                told.iter()
                    .filter(|line| line.starts_with("DataRow"))
                    .count(),
                2,
                "{told:?}"
            );
        } else {
            assert_eq!(reader.rows(&two_shards).len(), 2);
        }
        let before = (3 + 3 * round).to_string();
        if round < 3 {
            count(round + 1, &mut writer);
            assert_eq!(one(&mut reader, &on_third(round + 1)), "0", "{begin:?}");
        }
        let seen = if round < 3 { before } else { "12".into() };
        assert_eq!(one(&mut reader, all), seen, "{begin:?}");
        assert_eq!(say(&mut reader, "COMMIT")[0], "CommandComplete COMMIT");
        say(&mut reader, "RESET default_transaction_isolation");
    }
    // A statement for one shard opens that one, and the others when they join.
    say(&mut writer, "DELETE FROM items WHERE note = 'x'");
    say(&mut reader, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    let on_first = format!("SELECT count(*) FROM items WHERE id = {}", keys[0][1]);
    assert_eq!(one(&mut reader, &on_first), "0");
    count(1, &mut writer);
    assert_eq!(one(&mut reader, &on_first), "0");
    assert_eq!(one(&mut reader, &on_third(1)), "1");
    say(&mut reader, "COMMIT");
    // READ COMMITTED reads what is committed.
    say(&mut writer, "DELETE FROM items WHERE note = 'x'");
    say(&mut reader, "BEGIN");
    assert_eq!(reader.rows(&two_shards).len(), 2);
    count(1, &mut writer);
    assert_eq!(one(&mut reader, &on_third(1)), "1");
    assert_eq!(one(&mut reader, all), "6");
    say(&mut reader, "COMMIT");
    stage.assert_nothing_open();
}

/// `SET TRANSACTION SNAPSHOT` means one server: elsewhere the transaction would see another state, and nobody would know.
#[test]
fn an_imported_snapshot_stays_on_its_shard() {
    let stage = Stage::new();
    stage.fill(one_each());
    let (mut wire, mut other) = (stage.wire(), stage.wire());
    say(&mut wire, "INSERT INTO notes VALUES (1, 'n')");
    say(&mut wire, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    let id = one(&mut wire, "SELECT pg_export_snapshot()");
    say(&mut other, "DELETE FROM notes");
    let begin = || {
        [
            "BEGIN ISOLATION LEVEL REPEATABLE READ".into(),
            format!("SET TRANSACTION SNAPSHOT '{id}'"),
        ]
    };
    let over_shards = [
        "SELECT count(*) FROM items".to_owned(),
        "COPY items TO STDOUT".to_owned(),
        format!("SELECT v FROM items WHERE id = {}", one_each()[1]),
    ];
    for sql in over_shards {
        for sql in begin() {
            assert!(
                say(&mut other, &sql)[0].starts_with("CommandComplete"),
                "{sql}"
            );
        }
        // It is PostgreSQL's where it was taken.
        assert_eq!(one(&mut other, "SELECT count(*) FROM notes"), "1");
        let refused = say(&mut other, &sql);
        let told =
            |line: &String| line.starts_with("Error 0A000 a transaction with an imported snapshot");
        assert!(refused.iter().any(told), "{sql}: {refused:?}");
        say(&mut other, "ROLLBACK");
    }
    say(&mut wire, "COMMIT");
    stage.assert_nothing_open();
}

#[test]
fn what_a_client_prepares_is_on_one_shard_and_found_again() {
    let stage = Stage::new();
    let ids = one_each();
    stage.fill(ids.iter().copied());
    let mut wire = stage.wire();
    let note = |wire: &mut mothership_tests::Wire, id: i64| {
        wire.rows(&format!("SELECT note FROM items WHERE id = {id}"))[0][0].clone()
    };
    let name = |at: usize| format!("{}_{at}", stage.shards.endpoint(0).database);
    let by_either = |wire: &mut mothership_tests::Wire, sql: &str, by_parse: bool| match by_parse {
        false => say(wire, sql),
        true => send(wire, &extended(sql, &[], &[])),
    };
    for by_parse in [false, true] {
        for (at, id) in ids.into_iter().enumerate() {
            for (end, expected) in [("ROLLBACK", format!("n{id}")), ("COMMIT", format!("p{id}"))] {
                say(&mut wire, "BEGIN");
                say(
                    &mut wire,
                    &format!("UPDATE items SET note = 'p{id}' WHERE id = {id}"),
                );
                let prepare = format!("PREPARE TRANSACTION '{}'", name(at));
                let told = by_either(&mut wire, &prepare, by_parse);
                assert!(
                    told.contains(&"CommandComplete PREPARE TRANSACTION".into()),
                    "{told:?}"
                );
                assert_eq!(told.last().unwrap(), "ReadyForQuery I");
                assert_eq!(stage.prepared(), 1);
                let finish = format!("{end} PREPARED '{}'", name(at));
                let told = by_either(&mut wire, &finish, by_parse);
                assert!(
                    told.contains(&format!("CommandComplete {end} PREPARED")),
                    "{told:?}"
                );
                assert_eq!(stage.prepared(), 0);
                assert_eq!(note(&mut wire, id), expected);
                let told = by_either(&mut wire, &finish, by_parse);
                assert!(
                    told.iter().any(|line| line.starts_with("Error 42704")),
                    "{told:?}"
                );
            }
            say(
                &mut wire,
                &format!("UPDATE items SET note = 'n{id}' WHERE id = {id}"),
            );
        }
        // Over several shards it is refused, and nothing is left.
        say(&mut wire, "BEGIN");
        say(&mut wire, "UPDATE items SET note = 'all'");
        let told = by_either(
            &mut wire,
            &format!("PREPARE TRANSACTION '{}'", name(0)),
            by_parse,
        );
        let refused =
            "Error 0A000 PREPARE TRANSACTION cannot be used by a transaction over several shards";
        assert!(told.contains(&refused.into()), "{told:?}");
        assert_eq!(told.last().unwrap(), "ReadyForQuery I");
        assert_eq!(
            (stage.prepared(), note(&mut wire, ids[0])),
            (0, format!("n{}", ids[0]))
        );
    }
    // A name of the router's own is not the client's to finish.
    let ours = "ms1:r1:0000000000000000000000073:shard-a:shard_b:1k7zd2l6lxwjk:cn4:3mv:hbv8u65a0w";
    let told = say(&mut wire, &format!("COMMIT PREPARED '{ours}'"));
    assert!(
        told[0].starts_with("Error 0A000 names of prepared transactions that begin with \"ms1:\""),
        "{told:?}"
    );
    stage.assert_nothing_open();
}

/// A REPEATABLE READ transaction reads each copy of a reference table by a snapshot of its own, and these are of different
/// age. What it writes is the same on all copies, or it is told to try again.
#[test]
fn copies_stay_equal_whatever_snapshots_of_different_age_see() {
    let stage = Stage::new();
    let copies = || stage.shards.sql_all("SELECT * FROM kinds ORDER BY id");
    let [a, ..] = one_each();
    let firsts = [
        "SELECT 1".to_owned(),
        "SELECT count(*) FROM notes".to_owned(),
        "SELECT count(*) FROM kinds".to_owned(),
        format!("SELECT v FROM items WHERE id = {a}"),
        "SELECT id FROM items ORDER BY id LIMIT 1".to_owned(),
    ];
    let added = "INSERT INTO kinds VALUES (9, 'new')";
    let changed = "UPDATE kinds SET name = 'other' WHERE id = 1";
    for (by_other, write) in [
        (added, "UPDATE kinds SET name = 'mine' WHERE id > 5"),
        (added, "DELETE FROM kinds WHERE id > 5"),
        (
            added,
            "UPDATE kinds SET name = 'mine' WHERE id IN (SELECT max(id) FROM kinds)",
        ),
        (
            added,
            "WITH u AS (UPDATE kinds SET name = 'mine' WHERE id > 5 RETURNING id) SELECT count(*) FROM u",
        ),
        (
            added,
            "MERGE INTO kinds USING (VALUES (9)) AS s (id) ON kinds.id = s.id WHEN MATCHED THEN UPDATE SET name = 'mine' \
             WHEN NOT MATCHED THEN INSERT VALUES (10, 'mine')",
        ),
        (
            added,
            "INSERT INTO kinds VALUES (9, 'mine') ON CONFLICT (id) DO UPDATE SET name = 'mine'",
        ),
        (added, "INSERT INTO kinds VALUES (8, 'mine')"),
        (
            added,
            "EXPLAIN (ANALYZE, COSTS OFF) UPDATE kinds SET name = 'mine' WHERE id > 5",
        ),
        (added, "INSERT INTO kinds SELECT id + 20, 'mine' FROM kinds"),
        (
            changed,
            "UPDATE kinds SET name = 'mine' WHERE name = 'other'",
        ),
        (changed, "UPDATE kinds SET name = 'mine' WHERE id = 1"),
    ] {
        for first in &firsts {
            let (mut wire, mut other) = (stage.wire(), stage.wire());
            say(&mut wire, "DELETE FROM kinds");
            say(&mut wire, "INSERT INTO kinds VALUES (1, 'one'), (2, 'two')");
            say(&mut wire, "BEGIN ISOLATION LEVEL REPEATABLE READ");
            say(&mut wire, first);
            assert_eq!(
                say(&mut other, by_other)[1],
                "ReadyForQuery I",
                "{by_other}"
            );
            let told = say(&mut wire, write);
            let code = told.iter().find_map(|line| line.strip_prefix("Error "));
            let code = code.map(|error| &error[..5]);
            let fits = matches!(code, None | Some("40001" | "0A000" | "23505"));
            assert!(fits, "{first}, {by_other}, {write}: {told:?}");
            say(&mut wire, "COMMIT");
            let found = copies();
            let alike = found.iter().all(|copy| *copy == found[0]);
            assert!(alike, "{first}, {by_other}, {write}: {told:?}, {found:?}");
        }
    }
    // Each copy would read for itself.
    let mut wire = stage.wire();
    for source in [
        "SELECT setting FROM pg_settings WHERE name = 'port'",
        "SELECT max(name) FROM kinds",
    ] {
        let sql = format!(
            "INSERT INTO kinds VALUES (1) ON CONFLICT (id) DO UPDATE SET name = ({source})"
        );
        let told = say(&mut wire, &sql);
        assert!(told[0].starts_with("Error 0A000"), "{sql}: {told:?}");
    }
    // What reads by one snapshot for each statement is never told so.
    say(&mut wire, "BEGIN; SELECT count(*) FROM kinds");
    say(&mut stage.wire(), "INSERT INTO kinds VALUES (20, 'late')");
    let told = say(&mut wire, "UPDATE kinds SET name = 'all' WHERE id > 5");
    assert_eq!(told.last().unwrap(), "ReadyForQuery T", "{told:?}");
    say(&mut wire, "COMMIT");
    assert_eq!(copies()[0], copies()[2]);
    stage.assert_nothing_open();
}
