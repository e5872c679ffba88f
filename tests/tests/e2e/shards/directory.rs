//! Tables whose keys a lookup table leads to their shards.

use super::stage::{LIMIT, Stage, extended, one, say, send};
use mothership_tests::poll_until;

const TABLES: &str = r#"
[[table]]
name = "tenants"
key = ["name"]
key_type = ["text"]
strategy = "places"
[[table]]
name = "visits"
key = ["tenant"]
key_type = ["text"]
strategy = "places"

[[strategy]]
name = "places"
kind = "directory"
table = "places"
key_column = "tenant"
shard_column = "shard"
"#;

#[test]
fn a_lookup_table_says_where_keys_live() {
    let stage = Stage::bare(TABLES);
    let mut wire = stage.wire();
    for sql in [
        "CREATE TABLE places (tenant text PRIMARY KEY, shard text)",
        "CREATE TABLE tenants (name text PRIMARY KEY, n int8)",
        "CREATE TABLE visits (tenant text, n int8)",
        "INSERT INTO places VALUES ('ada', 's3'), ('bob', 's2'), ('eve', 's1')",
        "INSERT INTO tenants VALUES ('ada', 1), ('bob', 2), ('eve', 3)",
    ] {
        assert!(
            say(&mut wire, sql)[0].starts_with("CommandComplete"),
            "{sql}"
        );
    }
    let names = stage
        .shards
        .sql_all("SELECT string_agg(name, ',') FROM tenants");
    assert_eq!(names, ["eve", "bob", "ada"]);
    // By key to one shard, in every form; tables of one strategy are joined there.
    let insert = extended("INSERT INTO visits VALUES ($1, 7)", &[], &["bob"]);
    assert_eq!(send(&mut wire, &insert)[2], "CommandComplete INSERT 0 1");
    assert_eq!(
        stage.shards.sql_all("SELECT count(*) FROM visits"),
        ["0", "1", "0"]
    );
    let joined =
        "SELECT t.n + v.n FROM tenants t JOIN visits v ON v.tenant = t.name WHERE t.name = 'bob'";
    assert_eq!(one(&mut wire, joined), "9");
    let route = "EXPLAIN (ROUTE) SELECT n FROM tenants WHERE name = 'ada'";
    let told = wire.rows(route).concat().join("\n");
    assert!(told.contains("s3") && !told.contains("s1"), "{told}");

    // A key that nobody has given a shard.
    let refused = say(&mut wire, "INSERT INTO tenants VALUES ('mia', 4)");
    assert!(refused[0].starts_with("Error 0A000"), "{refused:?}");
    // It gets one, and every client knows.
    let mut other = stage.wire();
    say(&mut wire, "INSERT INTO places VALUES ('mia', 's2')");
    let done = say(&mut other, "INSERT INTO tenants VALUES ('mia', 4)");
    assert_eq!(done[0], "CommandComplete INSERT 0 1");
    assert_eq!(
        stage
            .shards
            .sql(1, "SELECT n FROM tenants WHERE name = 'mia'"),
        "4"
    );

    // Added past the router, rows and all: a read looks everywhere, a write is refused
    // until the router has looked.
    stage
        .shards
        .sql(0, "INSERT INTO places VALUES ('zoe', 's3')");
    stage.shards.sql(2, "INSERT INTO tenants VALUES ('zoe', 5)");
    assert_eq!(
        one(&mut wire, "SELECT n FROM tenants WHERE name = 'zoe'"),
        "5"
    );
    let insert = "INSERT INTO visits VALUES ('zoe', 1)";
    assert!(poll_until(LIMIT, || {
        let said = say(&mut wire, insert);
        assert!(
            said[0].contains("0A000") || said[0].starts_with("CommandComplete"),
            "{said:?}"
        );
        said[0].starts_with("CommandComplete")
    }));
    assert_eq!(
        stage.shards.sql_all("SELECT count(*) FROM visits"),
        ["0", "1", "1"]
    );
    assert_eq!(one(&mut wire, "SELECT count(*) FROM tenants"), "5");

    // A key moves: after a reload sessions that run already know.
    stage
        .shards
        .sql(0, "UPDATE places SET shard = 's1' WHERE tenant = 'bob'");
    stage
        .shards
        .sql(1, "DELETE FROM tenants WHERE name = 'bob'");
    stage.shards.sql(0, "INSERT INTO tenants VALUES ('bob', 2)");
    assert!(
        wire.rows("SELECT n FROM tenants WHERE name = 'bob'")
            .is_empty()
    );
    stage.router.sighup();
    assert!(poll_until(LIMIT, || {
        wire.rows("SELECT n FROM tenants WHERE name = 'bob'") == [["2"]]
    }));

    // A lookup table that names what is not there stops everything: half a map is wrong.
    stage
        .shards
        .sql(0, "UPDATE places SET shard = 's9' WHERE tenant = 'zoe'");
    say(
        &mut wire,
        "UPDATE places SET shard = shard WHERE tenant = 'ada'",
    );
    let stopped = say(&mut wire, "SELECT n FROM tenants WHERE name = 'ada'");
    assert!(stopped[0].starts_with("Error 57P03"), "{stopped:?}");
}
