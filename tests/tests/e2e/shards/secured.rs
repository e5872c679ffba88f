//! Row security whose policies read reference tables: which tenants a user belongs to. Each shard has a copy of them.

use super::stage::{Stage, keys_of, say};
use mothership_tests::Wire;

const DECLARED: &str = r#"
[[table]]
name = "documents"
key = ["id"]
key_type = ["int8"]
[[table]]
name = "members"
kind = "reference"
[[table]]
name = "drafts"
key = ["id"]
key_type = ["int8"]
"#;

/// Two rows of each tenant on every shard. Ana belongs to tenant 1, and may write there.
fn documents() -> (Stage, String) {
    let stage = Stage::with(DECLARED);
    let role = format!("member_{}", stage.shards.endpoint(0).database);
    let mut wire = stage.wire();
    let who = "m.username = (SELECT me())";
    for sql in [
        format!("CREATE ROLE {role}"),
        "CREATE FUNCTION me() RETURNS text LANGUAGE sql STABLE \
         AS $$ SELECT current_setting('app.member', true) $$"
            .into(),
        "CREATE TABLE members (username text, tenant int, writes bool, PRIMARY KEY (username, tenant))".into(),
        "CREATE TABLE documents (id int8 PRIMARY KEY, tenant int, title text)".into(),
        "CREATE TABLE drafts (id int8 PRIMARY KEY, tenant int)".into(),
        "CREATE TABLE invited (username text, tenant int)".into(),
        "INSERT INTO members VALUES ('ana', 1, true)".into(),
        format!("GRANT ALL ON members, documents, drafts, invited TO {role}"),
        "ALTER TABLE documents ENABLE ROW LEVEL SECURITY".into(),
        format!(
            "CREATE POLICY member ON documents USING (tenant IN (SELECT m.tenant FROM members m WHERE {who})) \
             WITH CHECK (EXISTS (SELECT 1 FROM members m WHERE m.tenant = documents.tenant AND m.writes AND {who}))"
        ),
    ] {
        let told = say(&mut wire, &sql);
        assert!(told[0].starts_with("CommandComplete"), "{sql}: {told:?}");
    }
    for shard in 0..3 {
        for (n, id) in keys_of(shard, 4).into_iter().enumerate() {
            let sql = format!("INSERT INTO documents VALUES ({id}, {}, 'x')", 1 + n % 2);
            assert_eq!(say(&mut wire, &sql)[0], "CommandComplete INSERT 0 1");
        }
    }
    (stage, role)
}

fn seen(wire: &mut Wire) -> String {
    let sql = "SELECT count(*), min(tenant), max(tenant) FROM documents";
    say(wire, sql)[1].clone()
}

#[test]
fn policies_read_reference_tables_on_every_shard() {
    let (stage, role) = documents();
    let (mut owner, mut wire) = (stage.wire(), stage.wire());
    for sql in [&*format!("SET ROLE {role}"), "SET app.member = 'ana'"] {
        say(&mut wire, sql);
    }
    assert_eq!(seen(&mut wire), "DataRow 6 1 1");
    let [ours, theirs] = [0, 1].map(|n| keys_of(2, 4)[n]);
    let both = format!("SELECT id FROM documents WHERE id IN ({ours}, {theirs}) ORDER BY id");
    assert_eq!(say(&mut wire, &both)[1..2], [format!("DataRow {ours}")]);
    // Rows of several shards are joined by the router.
    let joined = "SELECT count(*) FROM documents a JOIN documents b ON a.tenant = b.tenant";
    assert_eq!(say(&mut wire, joined)[1], "DataRow 36");
    for (sql, told) in [
        (
            format!("UPDATE documents SET title = 'y' WHERE id IN ({ours}, {theirs})"),
            "CommandComplete UPDATE 1",
        ),
        (
            "UPDATE documents SET title = 'y'".into(),
            "CommandComplete UPDATE 6",
        ),
        (
            format!("UPDATE documents SET tenant = 2 WHERE id = {ours}"),
            "42501",
        ),
        (
            format!(
                "INSERT INTO documents VALUES ({}, 2, 'z')",
                keys_of(1, 5)[4]
            ),
            "42501",
        ),
        (
            format!(
                "INSERT INTO documents VALUES ({}, 1, 'z')",
                keys_of(1, 5)[4]
            ),
            "CommandComplete INSERT 0 1",
        ),
    ] {
        let answer = say(&mut wire, &sql);
        let is_told = answer[0] == told || answer[0].starts_with(&format!("Error {told} "));
        assert!(is_told, "{sql}: {answer:?}");
    }
    // A new membership counts at once on each shard, and one that has ended does not.
    say(&mut owner, "INSERT INTO members VALUES ('ana', 2, false)");
    assert_eq!(seen(&mut wire), "DataRow 13 1 2");
    say(&mut owner, "DELETE FROM members WHERE tenant = 1");
    assert_eq!(seen(&mut wire), "DataRow 6 2 2");
}

#[test]
fn policies_that_read_tables_of_other_shards_are_refused() {
    let (stage, _) = documents();
    let mut wire = stage.wire();
    let policy = |table: &str, other: &str| {
        format!("CREATE POLICY {other} ON {table} USING (tenant IN (SELECT tenant FROM {other}))")
    };
    // PostgreSQL refers to the tables of a policy, so they must be there on all shards.
    for table in ["documents", "members"] {
        let told = say(&mut wire, &policy(table, "invited"));
        assert!(told[0].contains("0A000"), "{table}: {told:?}");
    }
    let told = say(&mut wire, &policy("documents", "drafts"));
    assert_eq!(told[0], "CommandComplete CREATE POLICY");
    let told = say(&mut wire, "SELECT count(*) FROM documents");
    assert!(told[0].contains("0A000"), "{told:?}");
    say(&mut wire, "DROP POLICY drafts ON documents");
    // A policy of the reference table may hide other rows on each shard.
    say(&mut wire, &policy("members", "drafts"));
    say(&mut wire, "ALTER TABLE members ENABLE ROW LEVEL SECURITY");
    let told = say(&mut wire, "SELECT count(*) FROM documents");
    assert!(told[0].contains("0A000"), "{told:?}");
}
