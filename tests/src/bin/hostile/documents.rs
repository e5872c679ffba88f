//! Documents of others.

use crate::stage::{Stage, client, error};
use mothership_tests::Wire;
use mothership_tests::mongo::ReplicaSet;
use mothership_tests::shared::{PASSWORD, USER};
use rand::RngExt;

/// What a stranger tries on `{t}`, a table on which he has rights on the column `id` alone.
const TRIES: [&str; 22] = [
    "SELECT secret FROM {t}",
    "SELECT * FROM {t} WHERE id = 1",
    "TABLE {t}",
    "SELECT id FROM {t} WHERE secret = 'deep'",
    "SELECT id FROM {t} ORDER BY secret",
    "SELECT max(secret) FROM {t}",
    "SELECT t::text FROM {t} t",
    "SELECT row_to_json(t) FROM {t} AS t",
    "SELECT (SELECT secret FROM {t} LIMIT 1)",
    "WITH w AS (SELECT secret FROM {t}) SELECT * FROM w",
    "SELECT a.secret FROM {t} a JOIN {t} b USING (id)",
    "SELECT 1 UNION ALL SELECT length(secret) FROM {t}",
    "INSERT INTO {t} (id, secret) VALUES (9, 'mine')",
    "INSERT INTO {t} (id) SELECT id + 10 FROM {t}",
    "UPDATE {t} SET secret = 'mine'",
    "DELETE FROM {t}",
    "DELETE FROM {t} WHERE id = 1 RETURNING secret",
    "SELECT id FROM {t} FOR UPDATE",
    "EXPLAIN SELECT secret FROM {t}",
    "COPY {t} TO STDOUT",
    "COPY (SELECT secret FROM {t}) TO STDOUT",
    "COPY {t} (id, secret) FROM STDIN",
];

/// A table's name in spellings that mean the same.
fn spelled(stage: &mut Stage) -> &'static str {
    let all = [
        "papers",
        "PAPERS",
        "\"papers\"",
        "public.papers",
        "public . \"papers\"",
        "U&\"p\\0061pers\"",
        "/* of others */ papers",
    ];
    all[stage.rng.random_range(0..all.len())]
}

/// Somebody who may read one column tries to get at the others, and to write.
pub fn rights(stage: &mut Stage) -> Result<String, String> {
    let Some(set) = ReplicaSet::start("hostile", 1) else {
        return Ok("not tried: no mongod can be had".into());
    };
    let database = stage.database();
    let mut more = "[[shard]]\nname = \"docs\"\nengine = \"mongodb\"\n".to_owned();
    for address in set.addresses() {
        more += &format!("[[shard.server]]\naddress = \"{address}\"\n");
    }
    more += "[[table]]\nname = \"papers\"\nkind = \"documents\"\nshards = [\"docs\"]\nowner = \"owner\"\n\
        [[table.column]]\nname = \"id\"\npath = \"_id\"\nsql_type = \"int8\"\n\
        [[table.column]]\nname = \"secret\"\nsql_type = \"text\"\n";
    let router = stage.router("", &more);
    let mut owner = client(&router, "owner", &database);
    let mut admin = Wire::login(&router.endpoint(USER, PASSWORD, &database));
    let mut stranger = client(&router, "bob", &database);
    for sql in [
        "INSERT INTO papers VALUES (1, 'deep')",
        "GRANT SELECT (id) ON papers TO bob",
        "GRANT SELECT ON papers TO alice",
    ] {
        if let Some(code) = error(&owner.query(sql)) {
            return Err(format!("{sql}: {code}"));
        }
    }
    let mut tried = 0;
    for sql in TRIES {
        for prefix in ["", "BEGIN; ", "SET search_path = public; ", "PREPARE p AS "] {
            let name = spelled(stage);
            let is_query =
                sql.starts_with("SELECT") || sql.starts_with("UPDATE") || sql.starts_with("DELETE");
            if prefix.starts_with("PREPARE") && !is_query {
                continue;
            }
            let text = format!("{prefix}{}", sql.replace("{t}", name));
            let mut said = stranger.query(&text);
            if prefix.starts_with("PREPARE") && error(&said).is_none() {
                said = stranger.query("EXECUTE p");
                stranger.query("DEALLOCATE p");
            }
            stranger.query("ROLLBACK");
            tried += 1;
            let shows = said
                .iter()
                .any(|frame| matches!(frame.kind, b'D' | b'd' | b'G'));
            match error(&said) {
                // What cannot be said in this spelling at all is refused.
                Some(code) if !shows && matches!(&*code, "42501" | "0A000") => {}
                code => return Err(format!("{text}: {code:?}, rows: {shows}")),
            }
        }
    }
    // Roles that may are not kept out, and those that may no longer are.
    let mut friend = client(&router, "alice", &database);
    let ask = "SELECT secret FROM papers";
    if let Some(code) = error(&friend.query(ask)) {
        return Err(format!("who may read is told {code}"));
    }
    owner.query("REVOKE ALL ON papers FROM alice");
    let after = error(&friend.query(ask));
    if after.as_deref() != Some("42501") {
        return Err(format!("who may no longer read is told {after:?}"));
    }
    let kept = admin.query("SELECT id, secret FROM papers");
    let rows: Vec<_> = kept
        .iter()
        .filter(|f| f.kind == b'D')
        .map(|f| f.row_text())
        .collect();
    match rows.as_slice() {
        [row] if row.concat() == "1deep" => Ok(format!("{tried} tries")),
        rows => Err(format!("the documents are {rows:?}")),
    }
}
