//! How transactions over several shards are isolated: what holds on all of them, and what is refused because it
//! could not.

use super::stage::{Stage, extended, keys_of, one_each, say, send};

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
