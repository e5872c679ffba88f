//! What breaks on a replica set of three.

use super::stage::Documents;
use crate::shards::stage::{LIMIT, one, say};
use mothership_tests::mongo::ReplicaSet;
use mothership_tests::{Wire, poll_until};
use std::sync::Arc;
use std::time::Duration;

fn insert(wire: &mut Wire, id: usize) -> String {
    say(wire, &format!("INSERT INTO events (id) VALUES ({id})"))[0].clone()
}

#[test]
fn a_new_primary_gets_the_writes_and_nothing_acknowledged_is_lost() {
    let set = ReplicaSet::start("faults", 3).map(Arc::new);
    let Some(mut documents) = Documents::on(set, 1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    wire.set_limit(Duration::from_secs(60));
    assert_eq!(insert(&mut wire, 0), "CommandComplete INSERT 0 1");
    documents.set.step_down();
    // Nothing of it was done where it was refused, so that it goes to whoever is the primary now.
    assert_eq!(insert(&mut wire, 1), "CommandComplete INSERT 0 1");
    let primary = documents.set.primary();
    Arc::get_mut(&mut documents.set).unwrap().kill(primary);
    let mut told = Vec::new();
    let mut done = vec![0, 1];
    let mut id = 2;
    let served = poll_until(LIMIT * 6, || {
        let answer = insert(&mut wire, id);
        let is_done = answer == "CommandComplete INSERT 0 1";
        match is_done {
            true => done.push(id),
            false => told.push(answer),
        }
        id += 1;
        is_done
    });
    assert!(served, "{told:?}");
    let known = ["Error 08006", "Error 08007", "Error 57P03", "Error 57P01"];
    let is_known = |answer: &&String| known.iter().any(|code| answer.starts_with(code));
    assert!(told.iter().all(|answer| is_known(&answer)), "{told:?}");
    let ids: Vec<String> = wire.rows("SELECT id FROM events").concat();
    assert!(
        done.iter().all(|id| ids.contains(&id.to_string())),
        "{done:?} {ids:?}"
    );
}

#[test]
fn a_long_statement_is_cancelled() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    for id in 0..2 {
        insert(&mut wire, id);
    }
    // It waits for the transaction of another client.
    let mut other = documents.stage.wire();
    say(&mut other, "BEGIN");
    say(&mut other, "UPDATE events SET small = 1 WHERE id = 1");
    wire.send(&mothership_tests::message::query(
        "UPDATE events SET small = 2 WHERE id = 1",
    ));
    assert!(wire.try_frame(Duration::from_millis(300)).is_err());
    wire.cancel();
    let answer = crate::shards::stage::lines(&wire.until_ready());
    assert!(answer[0].starts_with("Error 57014"), "{answer:?}");
    say(&mut other, "COMMIT");
    assert_eq!(one(&mut wire, "SELECT small FROM events WHERE id = 1"), "1");
}
