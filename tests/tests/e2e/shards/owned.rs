//! A shard is the one that it was when its rows were stored, or nothing is planned.

use super::stage::{Stage, extended, one, one_each, say, send};
use mothership_tests::Router;

/// What a router with this configuration says of the rows: their number, or the SQLSTATE and the detail.
fn count(stage: &Stage, config: &str) -> Result<String, (String, String)> {
    let router = Router::start(config);
    let mut wire = stage.wire_of(&router);
    let frames = wire.query("SELECT count(*) FROM items");
    match frames.iter().find(|frame| frame.kind == b'E') {
        Some(error) => Err((
            error.sqlstate().to_owned(),
            error.field('D').unwrap_or_default(),
        )),
        None => Ok(frames[1].row_text().join(",")),
    }
}

/// Nothing is planned, for this reason.
#[track_caller]
fn refuses(stage: &Stage, config: &str, why: &str) {
    let (code, detail) = count(stage, config).unwrap_err();
    assert_eq!(code, "57P03", "{detail}");
    assert!(detail.contains(why), "{detail}");
}

/// The text with two parts of it in each other's place.
fn swapped(text: &str, one: &str, other: &str) -> String {
    assert!(text.contains(one) && text.contains(other), "{text}");
    text.replace(one, "\0")
        .replace(other, one)
        .replace('\0', other)
}

fn filled() -> Stage {
    let stage = Stage::new();
    stage.fill(one_each());
    let config = stage.config();
    assert_eq!(count(&stage, config).as_deref(), Ok("3"));
    stage
}

#[test]
fn shards_in_another_order_are_refused_until_the_rows_have_moved() {
    let stage = filled();
    let config = stage.config();
    // The servers are the same, and the list of databases goes by name.
    let other = swapped(
        config,
        "[[shard]]\nname = \"s2\"",
        "[[shard]]\nname = \"s3\"",
    );
    refuses(
        &stage,
        &other,
        "its rows were stored when it was s3 (10922-16383), and the configuration says s3 (5461-10921): \
         correct [[shard]], or move the rows and then DELETE FROM mothership.shard on each shard",
    );
    // The attempt has changed nothing.
    assert_eq!(count(&stage, config).as_deref(), Ok("3"));
    let sql = "DELETE FROM items; DELETE FROM mothership.shard";
    stage.shards.sql_all(sql);
    assert_eq!(count(&stage, &other).as_deref(), Ok("0"));
    refuses(&stage, config, "when it was s2 (10922-16383)");
}

#[test]
fn another_home_shard_is_refused() {
    let stage = filled();
    let home = "name = \"s2\"\n";
    let other = stage
        .config()
        .replace(home, &format!("{home}home = true\n"));
    refuses(&stage, &other, "when it was s1 (0-5460, home)");
}

#[test]
fn a_shard_that_leads_to_the_database_of_another_is_refused() {
    let stage = filled();
    let [second, third] = [1, 2].map(|shard| stage.shards.endpoint(shard).database);
    let other = swapped(stage.config(), &second, &third);
    refuses(
        &stage,
        &other,
        "when it was s3 (10922-16383), and the configuration says s2 (5461-10921)",
    );
}

#[test]
fn a_database_without_rows_by_slots_is_no_shard_yet() {
    let stage = Stage::bare("[[table]]\nname = \"later\"\nkey = [\"id\"]\n");
    let mut wire = stage.wire();
    let records = || {
        let records = |shard| {
            stage
                .shards
                .sql(shard, "SELECT count(*) FROM mothership.shard")
        };
        [0, 1, 2].map(|shard| records(shard).trim().to_owned())
    };
    say(&mut wire, "CREATE TABLE notes (id int4 PRIMARY KEY)");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM notes"), "0");
    assert_eq!(records(), ["0"; 3]);
    say(&mut wire, "CREATE TABLE later (id int8 PRIMARY KEY)");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM later"), "0");
    assert_eq!(records(), ["1"; 3]);
}

#[test]
fn the_schema_of_the_router_is_not_changed_through_it() {
    let stage = filled();
    let mut wire = stage.wire();
    for sql in [
        "DROP TABLE IF EXISTS \"mothership\".\"decision\" CASCADE",
        "DROP SCHEMA IF EXISTS mothership CASCADE",
        "ALTER TABLE mothership.shard ADD COLUMN a int",
        "TRUNCATE mothership.shard",
    ] {
        for told in [
            say(&mut wire, sql),
            send(&mut wire, &extended(sql, &[], &[])),
        ] {
            let refused = "Error 42501 schema \"mothership\" belongs to the router";
            assert!(told.iter().any(|line| line == refused), "{sql}: {told:?}");
        }
    }
    // sqlsmith found it: the router writes its own name into a statement that asks about processes.
    let id = one(&mut wire, "SELECT min(id) FROM items");
    let asks = "note = pg_safe_snapshot_blocking_pids(0)::text";
    let runs = "ts_rewrite(NULL::tsquery, NULL::text)";
    for sql in [
        format!("UPDATE items SET {asks} WHERE id = {id} RETURNING {runs}"),
        format!("WITH a AS (SELECT {runs}) UPDATE items SET {asks} WHERE id = {id}"),
    ] {
        let told = say(&mut wire, &sql);
        assert!(!told[0].contains("42501"), "{sql}: {told:?}");
    }
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "3");
}
