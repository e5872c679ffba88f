//! Which members of a replica set serve reads: by what a shard and rules say, by the members' tags, and by how far they
//! are behind. And a client reads what it has written, whoever serves it.

use super::stage::{Documents, served, shared};
use crate::shards::stage::{LIMIT, extended, one, say, send};
use mongodb::bson::{Bson, Document, doc};
use mothership_tests::mongo::ReplicaSet;
use mothership_tests::{Wire, poll_until};
use std::sync::Arc;

const READS: usize = 20;
const QUICK: &str = "[balance]\nprobe_interval = \"50ms\"\n";

fn three(name: &str) -> Option<Arc<ReplicaSet>> {
    ReplicaSet::start(name, 3).map(Arc::new)
}

/// The primary, and the others.
fn members(documents: &Documents) -> (usize, [usize; 2]) {
    let primary = documents.set.primary();
    let others: Vec<usize> = (0..3).filter(|member| *member != primary).collect();
    (primary, [others[0], others[1]])
}

/// Gives the members these tags.
fn tag(set: &ReplicaSet, tags: [Document; 3]) {
    let found = set.command("admin", doc! { "replSetGetConfig": 1 });
    let mut config = found.get_document("config").unwrap().clone();
    let version = config.get_i32("version").unwrap();
    config.insert("version", version + 1);
    let members = config.get_array_mut("members").unwrap();
    for (member, tags) in members.iter_mut().zip(tags) {
        let Bson::Document(member) = member else {
            panic!("{member}");
        };
        member.insert("tags", tags);
    }
    set.command("admin", doc! { "replSetReconfig": config });
}

/// Lets a member apply nothing of what it copies, or all of it again. It confirms no writes meanwhile.
fn applies(set: &ReplicaSet, member: usize, applies: bool) {
    const POINT: &str = "rsSyncApplyStop";
    let mode = if applies { "off" } else { "alwaysOn" };
    let fail = doc! { "configureFailPoint": POINT, "mode": mode };
    let before = set.command_on(member, "admin", fail);
    if !applies {
        let count = before.get("count").and_then(|count| match count {
            Bson::Int32(count) => Some(i64::from(*count)),
            Bson::Int64(count) => Some(*count),
            _ => None,
        });
        // What it had begun to wait for may still be applied.
        let stopped = doc! {
            "waitForFailPoint": POINT, "timesEntered": count.unwrap() + 1, "maxTimeMS": 30_000,
        };
        set.command_on(member, "admin", stopped);
    }
}

/// How many of some reads each member serves. `None` if nobody may serve one: on a machine with other work a member is
/// behind for a moment.
fn spread(documents: &Documents, wire: &mut Wire) -> Option<[u64; 3]> {
    let count = || [0, 1, 2].map(|member| served(documents, member));
    let before = count();
    for id in 0..READS {
        let answer = say(wire, &format!("SELECT id FROM events WHERE id = {id}"));
        if answer[0].starts_with("Error 57P03") {
            return None;
        }
        assert_eq!(answer[0], "RowDescription id", "{answer:?}");
    }
    let after = count();
    Some([0, 1, 2].map(|member| after[member] - before[member]))
}

/// Waits until exactly these serve reads, each some of them.
fn wait_for(documents: &Documents, wire: &mut Wire, serving: &[usize]) {
    let mut last = None;
    let is_so = poll_until(LIMIT, || {
        last = spread(documents, wire);
        last.is_some_and(|by| (0..3).all(|member| (by[member] > 0) == serving.contains(&member)))
    });
    assert!(is_so, "{last:?}, not {serving:?}");
}

fn called(documents: &Documents, application: &str) -> Wire {
    let mut wire = documents.stage.wire();
    let done = say(
        &mut wire,
        &format!("SET application_name = '{application}'"),
    );
    assert_eq!(done[0], "CommandComplete SET");
    wire
}

#[test]
fn tags_are_labels_by_which_shards_and_rules_choose_members() {
    let rules = format!(
        "{QUICK}\
         [[rule]]\nname = \"eu\"\napplications = \"eu\"\naction = \"replica\"\nlabel = \"dc-eu\"\n\
         [[rule]]\nname = \"us\"\napplications = \"us\"\naction = \"group\"\nlabel = \"dc-us\"\n\
         [[rule]]\nname = \"primary\"\napplications = \"primary\"\naction = \"primary\"\n\
         [[rule]]\nname = \"replica\"\napplications = \"replica\"\naction = \"replica\"\n\
         [[rule]]\nname = \"first\"\napplications = \"first\"\nreads = \"prefer-primary\"\n\
         [[rule]]\nname = \"only\"\napplications = \"only\"\nreads = \"replicas\"\nlabel = \"dc-eu\"\n"
    );
    let shard = "reads = \"prefer-replicas\"\nlabel = \"use-web\"\nfreshness = \"any\"";
    let Some(documents) = Documents::of_shard(three("tagged"), shard, &rules) else {
        return;
    };
    let (primary, [eu, us]) = members(&documents);
    let mut plain = documents.stage.wire();
    // Nobody has such a tag yet.
    wait_for(&documents, &mut plain, &[primary]);

    let mut tags = [(); 3].map(|()| doc! { "dc": "us" });
    tags[eu] = doc! { "dc": "eu" };
    tags[us].insert("use", "web");
    tag(&documents.set, tags.clone());
    wait_for(&documents, &mut plain, &[us]);
    wait_for(&documents, &mut called(&documents, "eu"), &[eu]);
    wait_for(&documents, &mut called(&documents, "us"), &[primary, us]);
    wait_for(&documents, &mut called(&documents, "replica"), &[eu, us]);
    wait_for(&documents, &mut called(&documents, "primary"), &[primary]);
    wait_for(&documents, &mut called(&documents, "first"), &[primary]);
    wait_for(&documents, &mut called(&documents, "only"), &[eu]);
    let shown = documents.console().rows("SHOW ENDPOINTS");
    let labels = shown
        .iter()
        .filter(|row| row.iter().any(|value| value == "dc-us, use-web"));
    assert_eq!(labels.count(), 1, "{shown:?}");

    // A member that has the tag no longer, and nobody else has: the primary serves.
    tags[eu] = doc! { "dc": "asia" };
    tag(&documents.set, tags);
    wait_for(&documents, &mut called(&documents, "eu"), &[primary]);
    let answer = say(
        &mut called(&documents, "only"),
        "SELECT id FROM events WHERE id = 1",
    );
    assert_eq!(
        answer[0],
        "Error 57P03 shard \"docs0\" has no replica that may serve this read"
    );
}

#[test]
#[ignore = "long"]
fn members_that_are_behind_serve_nothing_and_reads_fall_back_or_are_refused() {
    let more = format!(
        "{QUICK}max_lag = \"1s\"\n\
         [[rule]]\nname = \"falls\"\napplications = \"falls\"\naction = \"replica\"\n"
    );
    let shard = "reads = \"replicas\"\nfreshness = \"any\"";
    let Some(documents) = Documents::of_shard(three("behind"), shard, &more) else {
        return;
    };
    let (primary, [one_of_them, other]) = members(&documents);
    let mut wire = documents.stage.wire();
    let mut falls = called(&documents, "falls");
    wait_for(&documents, &mut wire, &[one_of_them, other]);

    let mut id = 1000_i64;
    // On the primary alone, as the majority will not have it.
    let mut write = || {
        id += 1;
        let insert = doc! {
            "insert": "events", "documents": [{ "_id": id, "kind": "plain" }], "writeConcern": { "w": 1 },
        };
        documents.set.command(&documents.databases[0], insert);
    };
    applies(&documents.set, one_of_them, false);
    let is_left = poll_until(LIMIT, || {
        write();
        let by = spread(&documents, &mut wire);
        by.is_some_and(|by| by[one_of_them] == 0 && by[other] > 0)
    });
    assert!(is_left);

    // What no replica may serve is served by the primary as ever.
    let before = served(&documents, primary);
    let sql = "BEGIN; SELECT kind FROM events WHERE id = 1001; COMMIT";
    let answer = say(&mut wire, sql);
    assert!(answer.contains(&"DataRow plain".to_owned()), "{answer:?}");
    assert!(served(&documents, primary) > before);

    applies(&documents.set, other, false);
    let mut answer = Vec::new();
    let is_refused = poll_until(LIMIT, || {
        write();
        answer = say(&mut wire, "SELECT id FROM events WHERE id = 1");
        answer[0].starts_with("Error")
    });
    assert!(is_refused, "{answer:?}");
    assert_eq!(
        answer[0],
        "Error 57P03 shard \"docs0\" has no replica that may serve this read"
    );
    // Where replicas are only preferred, the primary serves.
    wait_for(&documents, &mut falls, &[primary]);

    for member in [one_of_them, other] {
        applies(&documents.set, member, true);
    }
    let is_back = poll_until(LIMIT, || {
        let answer = say(&mut wire, "SELECT id FROM events WHERE id = 1001");
        answer[1] == "DataRow 1001"
    });
    assert!(is_back);
    wait_for(&documents, &mut wire, &[one_of_them, other]);
}

#[test]
fn a_client_reads_what_it_has_written() {
    let more = format!(
        "{QUICK}[[rule]]\nname = \"all\"\napplications = \"all\"\nfreshness = \"router\"\n"
    );
    let shard = "reads = \"prefer-replicas\"\nfreshness = \"session\"";
    let Some(documents) = Documents::of_shard(three("own"), shard, &more) else {
        return;
    };
    let (primary, [behind, other]) = members(&documents);
    let both = [behind, other];
    let mut own = documents.stage.wire();
    let mut stranger = documents.stage.wire();
    let mut all = called(&documents, "all");
    say(&mut own, "INSERT INTO events (id) VALUES (1000)");
    for wire in [&mut own, &mut stranger, &mut all] {
        wait_for(&documents, wire, &both);
    }
    applies(&documents.set, behind, false);
    say(
        &mut own,
        "INSERT INTO events (id, kind) VALUES (1001, 'mine')",
    );
    let count = "SELECT count(*) FROM events WHERE kind = 'mine'";
    // Somebody else may see an older state, which shows that there is one to be seen.
    let is_old = poll_until(LIMIT, || one(&mut stranger, count) == "0");
    assert!(is_old);
    for _ in 0..READS {
        assert_eq!(one(&mut own, count), "1");
        assert_eq!(one(&mut all, count), "1");
    }
    wait_for(&documents, &mut own, &[other]);
    wait_for(&documents, &mut all, &[other]);
    let by = spread(&documents, &mut stranger);
    assert_eq!(by.map(|by| by[primary]), Some(0));
    applies(&documents.set, behind, true);
    wait_for(&documents, &mut own, &both);
    for _ in 0..READS {
        assert_eq!(one(&mut own, count), "1");
    }
}

/// Also when a statement is known by its shape, and there is only one server to be asked.
#[test]
fn where_only_secondaries_may_serve_a_primary_alone_does_not() {
    let shard = "reads = \"replicas\"\nfreshness = \"any\"";
    let Some(documents) = Documents::of_shard(shared(), shard, "") else {
        return;
    };
    let mut wire = documents.stage.wire();
    let sql = "SELECT id FROM events WHERE id = 1";
    let refused = "Error 57P03 shard \"docs0\" has no replica that may serve this read";
    for _ in 0..3 {
        assert_eq!(say(&mut wire, sql)[0], refused);
        let answer = send(&mut wire, &extended(sql, &[], &[]));
        assert!(answer.contains(&refused.to_owned()), "{answer:?}");
    }
}
