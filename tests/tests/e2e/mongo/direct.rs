//! Connections to members beside the driver's, on which reads of a few documents go.

use super::stage::Documents;
use crate::shards::stage::{LIMIT, extended, lines, one, say, send};
use mongodb::bson::{Document, doc};
use mothership_tests::message::query;
use mothership_tests::mongo::{ReplicaSet, certify};
use mothership_tests::poll_until;
use std::path::Path;
use std::sync::Arc;

/// How many there are, as the member sees them.
fn connections(set: &ReplicaSet) -> usize {
    let every = doc! { "$currentOp": { "allUsers": true, "idleConnections": true } };
    let ours = doc! { "$match": { "clientMetadata.driver.name": "mothership" } };
    let ask = doc! { "aggregate": 1, "pipeline": [every, ours], "cursor": {} };
    let reply = set.command("admin", ask);
    let found = reply.get_document("cursor").unwrap();
    found.get_array("firstBatch").unwrap().len()
}

/// A router whose user logs in with this password, and knows the members by this authority.
fn guarded(set: &Arc<ReplicaSet>, password: &str, authority: &Path) -> Documents {
    let authority = authority.display();
    let user = &set.guard().unwrap().user;
    let of_shard = format!("control_user = \"{user}\"\ncontrol_password = \"{password}\"");
    let of_server = format!("tls = \"verify-full\"\ntls_ca = \"{authority}\"");
    Documents::of_servers(Some(Arc::clone(set)), &of_shard, &of_server).unwrap()
}

const BY_KEY: &str = "SELECT kind FROM events WHERE id = 2";

#[test]
fn who_logs_in_by_tls_reads_and_writes() {
    for (mechanism, is_direct) in [("SCRAM-SHA-256", true), ("SCRAM-SHA-1", false)] {
        let Some(set) = ReplicaSet::start_guarded("guarded", mechanism).map(Arc::new) else {
            return;
        };
        let guard = set.guard().unwrap();
        let documents = guarded(&set, &guard.password, &guard.authority);
        let mut wire = documents.stage.wire();
        let insert = "INSERT INTO events (id, kind) VALUES (1, 'a'), (2, 'b')";
        assert_eq!(say(&mut wire, insert)[0], "CommandComplete INSERT 0 2");
        assert_eq!(one(&mut wire, BY_KEY), "b", "{mechanism}");
        let answer = send(&mut wire, &extended(BY_KEY, &[], &[]));
        assert!(answer.contains(&"DataRow b".to_owned()), "{answer:?}");
        assert_eq!(one(&mut wire, "SELECT count(*) FROM events"), "2");
        assert_eq!(connections(&set) > 0, is_direct, "{mechanism}");
    }
}

#[test]
#[ignore = "long"]
fn whose_password_is_wrong_does_not_get_in_and_a_member_of_another_authority_is_none() {
    let Some(set) = ReplicaSet::start_guarded("wrong", "SCRAM-SHA-256").map(Arc::new) else {
        return;
    };
    let guard = set.guard().unwrap();
    let other = guard.authority.with_file_name("other.pem");
    certify(&other, &other.with_extension("key"));
    let cases = [
        ("another", &guard.authority, "Error 28P01"),
        (&guard.password, &other, "Error 08006"),
    ];
    for (password, authority, expected) in cases {
        let documents = guarded(&set, password, authority);
        let mut wire = documents.stage.wire();
        // The driver looks for a member that it may speak to as long as a connection may take.
        wire.set_limit(LIMIT * 3);
        let answer = say(&mut wire, BY_KEY);
        let is_told = answer.iter().any(|line| line.starts_with(expected));
        assert!(is_told, "{expected}: {answer:?}");
        assert_eq!(connections(&set), 0);
    }
}

/// Three texts of this length are more than one answer of MongoDB's has.
const LONG: usize = 7_000_000;

#[test]
fn a_few_rows_that_are_too_long_for_one_answer_come_all() {
    let set = ReplicaSet::start("long", 1).map(Arc::new);
    let Some(documents) = Documents::on(set, 1, "") else {
        return;
    };
    let rows = (0..3_i64).map(|id| doc! { "_id": id, "kind": "a".repeat(LONG) });
    let rows: Vec<Document> = rows.collect();
    documents
        .set
        .insert(&documents.databases[0], "events", rows);
    let mut wire = documents.stage.wire();
    let sql = "SELECT id, kind FROM events ORDER BY id LIMIT 3";
    for _ in 0..2 {
        let rows = wire.rows(sql);
        let lengths: Vec<(&str, usize)> = rows
            .iter()
            .map(|row| (row[0].as_str(), row[1].len()))
            .collect();
        assert_eq!(lengths, [("0", LONG), ("1", LONG), ("2", LONG)]);
        // The connection is none that anything is left on.
        assert_eq!(one(&mut wire, "SELECT id FROM events WHERE id = 2"), "2");
    }
    let open = doc! { "serverStatus": 1 };
    let status = documents.set.command("admin", open);
    let cursors = status.get_document("metrics").unwrap();
    let cursors = cursors.get_document("cursor").unwrap();
    let open = cursors.get_document("open").unwrap().get_i64("total");
    assert_eq!(open.unwrap(), 0, "{cursors}");
}

#[test]
fn a_member_that_was_gone_is_read_from_again() {
    let set = ReplicaSet::start("gone", 1).map(Arc::new);
    let Some(mut documents) = Documents::on(set, 1, "") else {
        return;
    };
    let mut wire = documents.stage.wire();
    let insert = "INSERT INTO events (id, kind) VALUES (1, 'a')";
    assert_eq!(say(&mut wire, insert)[0], "CommandComplete INSERT 0 1");
    let by_key = "SELECT kind FROM events WHERE id = 1";
    assert_eq!(one(&mut wire, by_key), "a");
    assert!(connections(&documents.set) > 0);
    let set = Arc::get_mut(&mut documents.set).unwrap();
    set.kill(0);
    set.restart(0);
    let read = || say(&mut wire, by_key).contains(&"DataRow a".to_owned());
    assert!(poll_until(LIMIT, read), "it is not read from");
    assert!(connections(&documents.set) > 0);
}

#[test]
fn a_read_that_is_cancelled_ends_on_the_server() {
    let set = ReplicaSet::start("cancelled", 1).map(Arc::new);
    let Some(documents) = Documents::on(set, 1, "") else {
        return;
    };
    let mut wire = documents.stage.wire();
    let insert = "INSERT INTO events (id, kind) VALUES (2, 'a')";
    assert_eq!(say(&mut wire, insert)[0], "CommandComplete INSERT 0 1");
    assert_eq!(one(&mut wire, BY_KEY), "a");
    // MongoDB waits with "off" for every find that it holds back, and one of the router's own may be among them. So
    // this is longer than LIMIT, and shorter than a command may take.
    let wait = |mode: &str| {
        let data =
            doc! { "failCommands": ["find"], "blockConnection": true, "blockTimeMS": 30_000 };
        let fail = doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data };
        documents.set.command("admin", fail);
    };
    let finds = || {
        let ours = doc! { "clientMetadata.driver.name": "mothership", "command.find": "events" };
        let pipeline = vec![doc! { "$currentOp": {} }, doc! { "$match": ours }];
        let ask = doc! { "aggregate": 1, "pipeline": pipeline, "cursor": {} };
        let reply = documents.set.command("admin", ask);
        let found = reply.get_document("cursor").unwrap();
        found.get_array("firstBatch").unwrap().len()
    };
    wait("alwaysOn");
    wire.send(&query(BY_KEY));
    assert!(poll_until(LIMIT, || finds() == 1), "it has not begun");
    wire.cancel();
    let answer = lines(&wire.until_ready());
    let is_told = answer.iter().any(|line| line.starts_with("Error 57014"));
    assert!(is_told, "{answer:?}");
    assert!(poll_until(LIMIT, || finds() == 0), "it goes on");
    wait("off");
    assert_eq!(one(&mut wire, BY_KEY), "a");
}
