//! What a standby has, and what is only said to be committed.

use super::stage::{SOON, Stage};
use mothership_tests::fleet::Shard;
use mothership_tests::message;
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Wire, poll_until};
use std::sync::atomic::{AtomicBool, Ordering};

/// It is committed, and lost if the server is: success would be too much said.
#[test]
fn a_commit_whose_wait_for_a_standby_was_cancelled_is_of_unknown_outcome() {
    let stage = Stage::new(2, 0);
    for shard in &stage.fleet.shards {
        let create = "CREATE TABLE items (id int8 PRIMARY KEY)";
        shard.primary.sql("postgres", create).unwrap();
    }
    let mut wire = Wire::login(&stage.endpoint(USER, PASSWORD));
    // What the router keeps on servers is there from here on.
    let ids: Vec<_> = (11..=20).map(|id| format!("({id})")).collect();
    let frames = wire.query(&format!("INSERT INTO items VALUES {}", ids.join(", ")));
    assert!(frames.iter().all(|frame| frame.kind != b'E'), "{frames:?}");
    for shard in &stage.fleet.shards {
        let never = "ALTER SYSTEM SET synchronous_standby_names = 'nobody'";
        shard.primary.sql("postgres", never).unwrap();
        let reload = "SELECT pg_reload_conf()";
        shard.primary.sql("postgres", reload).unwrap();
        let obeys = || {
            let names = shard
                .primary
                .sql("postgres", "SHOW synchronous_standby_names");
            names.unwrap() == "nobody"
        };
        assert!(poll_until(SOON, obeys));
    }
    let requests: [&[u8]; 4] = [
        &message::query("INSERT INTO items VALUES (1)"),
        // The shape has a plan now.
        &message::query("INSERT INTO items VALUES (2)"),
        &[
            message::parse("", "INSERT INTO items VALUES (3)", &[]),
            message::bind_text(&[]),
            message::execute("", 0),
            message::sync(),
        ]
        .concat(),
        &message::query("BEGIN; INSERT INTO items VALUES (4); COMMIT"),
    ];
    let cancel =
        "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    for request in requests {
        wire.send(request);
        let cancelled = || {
            let count = |shard: &mothership_tests::fleet::Shard| {
                shard.primary.sql("postgres", cancel).unwrap() == "1"
            };
            stage.fleet.shards.iter().any(count)
        };
        assert!(poll_until(SOON, cancelled), "nothing waits for a standby");
        let frames = wire.until_ready();
        let error = frames.iter().find(|frame| frame.kind == b'E');
        let error = error.unwrap_or_else(|| panic!("{frames:?}"));
        assert_eq!(error.sqlstate(), "08007", "{error}");
        assert!(error.field('M').unwrap().contains("replicated"), "{error}");
    }
    assert_eq!(wire.rows("SELECT count(*) FROM items"), [["14"]]);

    // On both shards: whatever becomes of it becomes of all of it.
    let both: Vec<_> = (21..=30).map(|id| format!("({id})")).collect();
    wire.send(&message::query(&format!(
        "INSERT INTO items VALUES {}",
        both.join(", ")
    )));
    let answered = AtomicBool::new(false);
    let frames = std::thread::scope(|scope| {
        let cancels = scope.spawn(|| {
            poll_until(SOON, || {
                for shard in &stage.fleet.shards {
                    shard.primary.sql("postgres", cancel).unwrap();
                }
                answered.load(Ordering::Relaxed)
            })
        });
        let frames = wire.until_ready();
        answered.store(true, Ordering::Relaxed);
        assert!(cancels.join().unwrap());
        frames
    });
    let error = frames.iter().find(|frame| frame.kind == b'E').unwrap();
    assert!(
        ["08006", "08007", "40001"].contains(&&*error.sqlstate()),
        "{error}"
    );
    for shard in &stage.fleet.shards {
        let none = "ALTER SYSTEM RESET synchronous_standby_names";
        shard.primary.sql("postgres", none).unwrap();
        shard
            .primary
            .sql("postgres", "SELECT pg_reload_conf()")
            .unwrap();
    }
    let whole = poll_until(SOON, || {
        let prepared = |shard: &mothership_tests::fleet::Shard| {
            let count = "SELECT count(*) FROM pg_prepared_xacts";
            shard.primary.sql("postgres", count).unwrap() != "0"
        };
        !stage.fleet.shards.iter().any(prepared)
    });
    assert!(whole, "a transaction is prepared still");
    let count = wire.rows("SELECT count(*) FROM items");
    assert!(count == [["14"]] || count == [["24"]], "{count:?}");
}

/// Whether commits on this shard wait for a standby that there is not.
fn wait_for_nobody(shard: &Shard, wait: bool) {
    let set = match wait {
        true => "ALTER SYSTEM SET synchronous_standby_names = 'nobody'",
        false => "ALTER SYSTEM RESET synchronous_standby_names",
    };
    for sql in [set, "SELECT pg_reload_conf()"] {
        shard.primary.sql("postgres", sql).unwrap();
    }
    let names = || {
        shard
            .primary
            .sql("postgres", "SHOW synchronous_standby_names")
    };
    assert!(poll_until(SOON, || (names().unwrap() == "nobody") == wait));
}

/// Sends COMMIT, cancels the first wait for a standby on this shard, and says with which error COMMIT is answered.
fn commit_cancelled(wire: &mut Wire, shard: &Shard) -> Option<String> {
    wire.send(&message::query("COMMIT"));
    let cancel =
        "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let is_cancelled = || shard.primary.sql("postgres", cancel).unwrap() == "1";
    assert!(
        poll_until(SOON, is_cancelled),
        "nothing waits for a standby"
    );
    let frames = wire.until_ready();
    let error = frames.iter().find(|frame| frame.kind == b'E');
    error.map(|error| error.sqlstate())
}

fn asked(shard: &Shard, sql: &str) -> String {
    shard.primary.sql("postgres", sql).unwrap()
}

const PREPARED: &str = "SELECT count(*) FROM pg_prepared_xacts";
const DECIDED: &str = "SELECT count(*) FROM mothership.decision WHERE committed";

/// The decision is committed and on no standby: a failover could lose it, and with it one part of the transaction.
#[test]
fn a_decision_that_no_standby_has_commits_nothing_and_is_of_unknown_outcome() {
    let stage = Stage::with(2, 0, "[transactions]\nprepare_timeout = \"3s\"");
    let [decider, other] = &stage.fleet.shards[..] else {
        panic!("two shards");
    };
    for shard in [decider, other] {
        asked(shard, "CREATE TABLE items (id int8 PRIMARY KEY)");
    }
    let mut wire = Wire::login(&stage.endpoint(USER, PASSWORD));
    wire.query("BEGIN");
    let frames = wire.query("INSERT INTO items VALUES (1), (2), (3), (4), (5), (6), (7), (8)");
    assert!(frames.iter().all(|frame| frame.kind != b'E'), "{frames:?}");
    wait_for_nobody(decider, true);
    let told = commit_cancelled(&mut wire, decider);
    assert_eq!(told.as_deref(), Some("08007"));
    assert_eq!(
        (asked(decider, DECIDED), asked(other, PREPARED)),
        ("1".into(), "1".into())
    );

    wait_for_nobody(decider, false);
    let finished = poll_until(SOON, || asked(other, PREPARED) == "0");
    assert!(finished, "a transaction is prepared still");
    assert_eq!(wire.rows("SELECT count(*) FROM items"), [["8"]]);
}

/// A standby that has the part still prepared may become the primary, and needs the decision then.
#[test]
#[ignore = "long"]
fn a_decision_is_kept_until_standbys_have_what_was_committed_by_it() {
    let stage = Stage::new(2, 0);
    let [decider, other] = &stage.fleet.shards[..] else {
        panic!("two shards");
    };
    for shard in [decider, other] {
        asked(shard, "CREATE TABLE items (id int8 PRIMARY KEY)");
    }
    let mut wire = Wire::login(&stage.endpoint(USER, PASSWORD));
    // PREPARE TRANSACTION waits whatever the client says, so the standby goes when it is prepared.
    wire.query("SET synchronous_commit = local");
    let frames = wire.query("INSERT INTO items VALUES (1), (2), (3), (4), (5), (6), (7), (8)");
    assert!(frames.iter().all(|frame| frame.kind != b'E'), "{frames:?}");
    wait_for_nobody(other, true);
    assert_eq!(
        (asked(decider, DECIDED), asked(other, PREPARED)),
        ("1".into(), "0".into())
    );
    let is_kept = || stage.router.log().contains("decisions are kept");
    assert!(poll_until(3 * SOON, is_kept), "nobody looked for standbys");
    assert_eq!(asked(decider, DECIDED), "1");

    wait_for_nobody(other, false);
    let forgotten = poll_until(3 * SOON, || asked(decider, DECIDED) == "0");
    assert!(forgotten, "the decision is kept for ever");
}

/// What a failover loses of a transaction over several shards, it loses in part.
#[test]
fn who_checks_the_configuration_is_told_that_commits_wait_for_no_standby() {
    let stage = Stage::new(2, 1);
    let file = mothership_tests::Folder::new("check");
    let path = file.path().join("mothership.toml");
    std::fs::write(&path, stage.config.replace("@port@", "6432")).unwrap();
    let warning = || {
        let mut check = std::process::Command::new(mothership_tests::router::binary());
        check
            .args(["check-config", "--connect", "--config"])
            .arg(&path);
        let output = check.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{said}");
        ["s0", "s1"].map(|shard| {
            said.contains(&format!(
                "warning: shard {shard}: commits do not wait for a standby"
            ))
        })
    };
    assert_eq!(warning(), [true, true]);
    let primary = &stage.fleet.shards[0].primary;
    primary
        .sql(
            "postgres",
            "ALTER SYSTEM SET synchronous_standby_names = '*'",
        )
        .unwrap();
    primary.sql("postgres", "SELECT pg_reload_conf()").unwrap();
    let told = poll_until(SOON, || warning() == [false, true]);
    assert!(told, "{:?}", warning());
}
