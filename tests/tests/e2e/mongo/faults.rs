//! What breaks on a replica set of three.

use super::stage::{Documents, served};
use crate::shards::stage::{LIMIT, extended, one, say, send};
use mongodb::bson::doc;
use mothership_tests::message::query;
use mothership_tests::mongo::ReplicaSet;
use mothership_tests::{Router, Wire, poll_until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn insert(wire: &mut Wire, id: usize) -> String {
    say(wire, &format!("INSERT INTO events (id) VALUES ({id})"))[0].clone()
}

#[test]
fn a_new_primary_gets_the_writes_and_nothing_acknowledged_is_lost() {
    let set = ReplicaSet::start("faults", 3).map(Arc::new);
    let Some(mut documents) = Documents::on(set, 1, "") else {
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
fn secondaries_serve_reads_and_miss_nothing_that_was_written() {
    let set = ReplicaSet::start("reads", 3).map(Arc::new);
    let Some(documents) = Documents::on(set, 1, "") else {
        return;
    };
    let mut wire = documents.stage.wire();
    let asks = [
        "SELECT count(*) FROM events",
        "SELECT count(DISTINCT id) FROM events",
    ];
    for id in 1..=20 {
        assert_eq!(insert(&mut wire, id), "CommandComplete INSERT 0 1");
        for sql in asks {
            assert_eq!(one(&mut wire, sql), id.to_string(), "{sql}");
            let answer = send(&mut wire, &extended(sql, &[], &[]));
            assert!(
                answer.contains(&format!("DataRow {id}")),
                "{sql}: {answer:?}"
            );
        }
    }
    // Without writes they have all there is, and have been seen to.
    let served = poll_until(LIMIT, || {
        asks.iter()
            .for_each(|sql| assert_eq!(one(&mut wire, sql), "20"));
        served_by_secondaries(&documents) > 0
    });
    assert!(served);
}

/// How many reads the members that are not the primary have served, as the router counts them.
fn served_by_secondaries(documents: &Documents) -> u64 {
    let primary = documents.set.primary();
    let others = (0..3).filter(|member| *member != primary);
    others.map(|member| served(documents, member)).sum()
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

#[test]
fn a_scan_ends_on_the_server_when_it_is_cancelled_or_its_client_leaves() {
    let set = ReplicaSet::start("scans", 1).map(Arc::new);
    let Some(documents) = Documents::on(set, 1, "") else {
        return;
    };
    let mut wire = documents.stage.wire();
    // More than the first answer of the server has.
    let rows = (0..1_000_i64).map(|id| doc! { "_id": id, "kind": "plain" });
    let database = &documents.databases[0];
    documents.set.insert(database, "events", rows.collect());
    let endless = |mode: &str| {
        let fail = doc! {
            "configureFailPoint": "waitWithPinnedCursorDuringGetMoreBatch", "mode": mode,
            "data": { "shouldCheckForInterrupt": true },
        };
        documents.set.command("admin", fail);
    };
    let scans = || {
        let of_ours = doc! { "command.collection": "events", "command.$db": database };
        let pipeline = vec![doc! { "$currentOp": {} }, doc! { "$match": of_ours }];
        let ask = doc! { "aggregate": 1, "pipeline": pipeline, "cursor": {} };
        let reply = documents.set.command("admin", ask);
        let found = reply.get_document("cursor").unwrap();
        found.get_array("firstBatch").unwrap().len()
    };
    let scan = "SELECT id FROM events WHERE kind LIKE '%a%'";
    endless("alwaysOn");
    let begins = |wire: &mut Wire| {
        wire.send(&mothership_tests::message::query(scan));
        assert!(poll_until(LIMIT, || scans() == 1), "it has not begun");
    };
    begins(&mut wire);
    wire.cancel();
    let answer = crate::shards::stage::lines(&wire.until_ready());
    let error = answer.iter().find(|line| line.starts_with("Error"));
    assert!(error.unwrap().starts_with("Error 57014"), "{error:?}");
    assert!(poll_until(LIMIT, || scans() == 0), "it goes on");
    let mut other = documents.stage.wire();
    begins(&mut other);
    drop(other);
    assert!(poll_until(LIMIT, || scans() == 0), "it goes on");
    endless("off");
    assert_eq!(wire.rows(scan).len(), 1_000);
}

#[test]
fn a_statement_that_takes_longer_than_its_session_lets_it_is_ended() {
    let set = ReplicaSet::start("slow", 1).map(Arc::new);
    let Some(documents) = Documents::on(set, 1, "") else {
        return;
    };
    let mut wire = documents.stage.wire();
    assert_eq!(insert(&mut wire, 1), "CommandComplete INSERT 0 1");
    let slow = |command: Option<&str>| {
        let mode = if command.is_some() { "alwaysOn" } else { "off" };
        let commands: Vec<&str> = command.into_iter().collect();
        let data =
            doc! { "failCommands": commands, "blockConnection": true, "blockTimeMS": 20_000 };
        let fail = doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data };
        documents.set.command("admin", fail);
    };
    let late = "Error 57014 canceling statement due to statement timeout";
    let read = "SELECT kind FROM events WHERE id = 1";
    assert_eq!(
        say(&mut wire, "SET statement_timeout = '300ms'")[0],
        "CommandComplete SET"
    );
    slow(Some("find"));
    assert!(say(&mut wire, read).contains(&late.to_owned()));
    slow(None);
    assert_eq!(one(&mut wire, read), "plain");
    say(&mut wire, "BEGIN");
    say(&mut wire, "UPDATE events SET kind = 'other' WHERE id = 1");
    slow(Some("update"));
    let update = "UPDATE events SET small = 1 WHERE id = 1";
    assert_eq!(say(&mut wire, update)[0], late);
    slow(None);
    assert_eq!(say(&mut wire, "COMMIT")[0], "CommandComplete ROLLBACK");
    // The document is free, and as it was.
    assert_eq!(say(&mut wire, update)[0], "CommandComplete UPDATE 1");
    assert_eq!(one(&mut wire, read), "plain");
}

/// The server knows when that is, so that it ends a read also where nobody can tell it to.
#[test]
fn the_server_itself_ends_a_read_that_takes_too_long() {
    let set = ReplicaSet::start("itself", 1).map(Arc::new);
    let Some(documents) = Documents::on(set, 1, "") else {
        return;
    };
    let mut wire = documents.stage.wire();
    assert_eq!(insert(&mut wire, 1), "CommandComplete INSERT 0 1");
    let find = "SELECT kind FROM events WHERE id = 1";
    let aggregate = "SELECT count(*) FROM events";
    // Whatever has a limit is over it.
    let over = |mode: &str| {
        let fail = doc! { "configureFailPoint": "maxTimeAlwaysTimeOut", "mode": mode };
        documents.set.command("admin", fail);
    };
    let late = "Error 57014 canceling statement due to statement timeout".to_owned();
    over("alwaysOn");
    for (sql, told) in [(find, "plain"), (aggregate, "1")] {
        say(&mut wire, "RESET statement_timeout");
        assert_eq!(one(&mut wire, sql), told, "{sql}");
        say(&mut wire, "SET statement_timeout = '1h'");
        assert!(say(&mut wire, sql).contains(&late), "{sql}");
        let answer = say(&mut wire, &format!("BEGIN; {sql}"));
        assert!(answer.contains(&late), "{sql}: {answer:?}");
        assert_eq!(say(&mut wire, "COMMIT")[0], "CommandComplete ROLLBACK");
    }
    over("off");
    assert_eq!(one(&mut wire, find), "plain");
    assert_eq!(one(&mut wire, aggregate), "1");
}

#[test]
fn a_write_that_is_cancelled_while_others_lack_it_is_of_unknown_outcome() {
    let set = ReplicaSet::start("lacking", 3).map(Arc::new);
    let Some(mut documents) = Documents::on(set, 1, "") else {
        return;
    };
    let mut wire = documents.stage.wire();
    assert_eq!(insert(&mut wire, 1), "CommandComplete INSERT 0 1");
    let primary = documents.set.primary();
    let others: Vec<usize> = (0..3).filter(|member| *member != primary).collect();
    let set = Arc::get_mut(&mut documents.set).unwrap();
    others.iter().for_each(|member| set.freeze(*member));
    let sql = "INSERT INTO events (id) VALUES (2)";
    wire.send(&mothership_tests::message::query(sql));
    let database = &documents.databases[0];
    let count = doc! { "count": "events", "query": { "_id": 2_i64 } };
    let is_there = poll_until(LIMIT, || {
        let reply = documents
            .set
            .try_command_on(primary, database, count.clone());
        reply.is_ok_and(|reply| reply.get_i32("n").is_ok_and(|n| n == 1))
    });
    assert!(is_there, "the primary has not got it");
    wire.cancel();
    let answer = crate::shards::stage::lines(&wire.until_ready());
    assert!(answer[0].starts_with("Error 08007"), "{answer:?}");
    let set = Arc::get_mut(&mut documents.set).unwrap();
    others.iter().for_each(|member| set.thaw(*member));
    set.wait_whole();
}

#[test]
#[ignore = "long"]
fn a_router_ends_though_all_members_end_with_it() {
    for (number, sql) in [
        "",
        "SELECT id FROM events",
        "INSERT INTO events (id) VALUES (1)",
        "BEGIN; INSERT INTO events (id) VALUES (1); INSERT INTO items VALUES (1, 1); COMMIT",
    ]
    .into_iter()
    .enumerate()
    {
        let set = ReplicaSet::start(&format!("ending{number}"), 3).map(Arc::new);
        let Some(mut documents) = Documents::on(set, 1, "") else {
            return;
        };
        // There will be nobody who could remove it.
        documents.databases.clear();
        let mut wire = documents.stage.wire();
        if !sql.is_empty() {
            say(&mut wire, sql);
        }
        documents.set.terminate();
        documents.stage.router.sigterm();
        documents.stage.router.wait(LIMIT);
    }
}

/// What clients do is not over, and what becomes of a COMMIT on both engines is looked for: as long as may be.
#[test]
#[ignore = "long"]
fn a_router_with_clients_ends_in_time_though_all_members_end_with_it() {
    let set = ReplicaSet::start("busy", 3).map(Arc::new);
    let Some(mut documents) = Documents::on(set, 1, "") else {
        return;
    };
    // There will be nobody who could remove it.
    documents.databases.clear();
    let config = documents.stage.config();
    let hasty = config.replace("[listen]\n", "[listen]\ndrain_timeout = \"3s\"\n");
    let mut router = Router::start(&hasty);
    let ask = |client: usize, id: usize| match client % 3 {
        0 => format!("INSERT INTO events (id) VALUES ({id})"),
        1 => "SELECT count(*) FROM events".to_owned(),
        _ => format!(
            "BEGIN; INSERT INTO events (id) VALUES ({id}); INSERT INTO items VALUES ({id}, 1); COMMIT"
        ),
    };
    let answered: [AtomicUsize; 6] = Default::default();
    std::thread::scope(|scope| {
        for (client, answered) in answered.iter().enumerate() {
            let mut wire = documents.stage.wire_of(&router);
            wire.set_limit(LIMIT * 6);
            scope.spawn(move || {
                // Until the router ends.
                for id in client * 1_000_000.. {
                    let sent = wire.try_send(&query(&ask(client, id)));
                    if sent.is_err() || wire.try_until_ready().is_err() {
                        return;
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let all = || {
            answered
                .iter()
                .all(|count| count.load(Ordering::Relaxed) > 5)
        };
        let busy = poll_until(LIMIT * 3, all);
        documents.set.terminate();
        router.sigterm();
        let begun = Instant::now();
        router.wait(LIMIT * 6);
        assert!(busy, "{answered:?}");
        assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    });
}

#[test]
fn reads_only_pause_when_the_primary_is_killed() {
    let set = ReplicaSet::start("pauses", 3).map(Arc::new);
    let Some(mut documents) = Documents::on(set, 1, "") else {
        return;
    };
    let mut wire = documents.stage.wire();
    for id in 1..=20 {
        insert(&mut wire, id);
    }
    let reads = [
        "SELECT kind FROM events WHERE id = 7",
        "SELECT count(*) FROM events",
        "SELECT id FROM events WHERE id > 3 ORDER BY id",
        "SELECT upper(kind) FROM events WHERE id = 7",
        "SELECT e.id, i.v FROM events e LEFT JOIN items i USING (id) ORDER BY 1",
    ];
    let primary = documents.set.primary();
    let (is_killed, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    let wires: Vec<Wire> = (0..2 * reads.len())
        .map(|_| {
            let mut wire = documents.stage.wire();
            wire.set_limit(Duration::from_secs(60));
            wire
        })
        .collect();
    let set = Arc::get_mut(&mut documents.set).unwrap();
    let failed: Vec<String> = std::thread::scope(|scope| {
        let readers = wires.into_iter().enumerate().map(|(number, mut wire)| {
            let (is_killed, is_over, sql) = (&is_killed, &is_over, reads[number / 2]);
            scope.spawn(move || {
                let mut failed = Vec::new();
                let mut after = 0;
                while !is_over.load(Ordering::Relaxed) || after < 5 {
                    let answer = match number % 2 {
                        0 => say(&mut wire, sql),
                        _ => send(&mut wire, &extended(sql, &[], &[])),
                    };
                    after += usize::from(is_killed.load(Ordering::Relaxed));
                    let errors = answer.into_iter().filter(|line| line.starts_with("Error"));
                    failed.extend(errors.map(|error| format!("{sql}: {error}")));
                }
                failed
            })
        });
        let readers: Vec<_> = readers.collect();
        set.kill(primary);
        is_killed.store(true, Ordering::Relaxed);
        // There is another primary when this is done.
        let mut writer = wire;
        writer.set_limit(Duration::from_secs(60));
        let mut id = 100;
        let wrote = poll_until(LIMIT * 6, || {
            id += 1;
            insert(&mut writer, id) == "CommandComplete INSERT 0 1"
        });
        is_over.store(true, Ordering::Relaxed);
        assert!(wrote, "there is no other primary");
        readers
            .into_iter()
            .flat_map(|reader| reader.join().unwrap())
            .collect()
    });
    assert_eq!(
        failed,
        Vec::<String>::new(),
        "{}",
        documents.stage.router.log()
    );
}
