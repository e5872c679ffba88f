//! Transactions that write on PostgreSQL and on MongoDB: on both or on none.

use super::stage::{Documents, shared};
use crate::commit::direct::Direct;
use crate::commit::{killed_everywhere, stopped_everywhere};
use crate::shards::stage::{LIMIT, extended, one, one_each, say, segment, send};
use mongodb::bson::{Document, doc};
use mothership::config::{Config, Process};
use mothership::mongo::{Login, Member};
use mothership_pool::endpoint::Interpreter;
use mothership_tests::mongo::ReplicaSet;
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Endpoint, Frame, Shards, Wire, message, poll_until};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

fn events(documents: &Documents) -> usize {
    let found = documents
        .set
        .find(&documents.databases[0], "events", Document::new());
    found.len()
}

fn decisions(set: &ReplicaSet, database: &str) -> usize {
    let found = set.find(database, "mothership.decision", doc! { "committed": true });
    found.len()
}

#[test]
#[ignore = "long"]
fn what_is_committed_is_committed_on_both() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    let [first, second, third] = one_each();
    let writes = [
        format!("INSERT INTO items (id) VALUES ({first}), ({second})"),
        format!("INSERT INTO events (id) VALUES ({first})"),
        format!("INSERT INTO items (id) VALUES ({third})"),
        format!("INSERT INTO events (id) VALUES ({second})"),
    ];
    let stored = |wire: &mut Wire| {
        let items = one(wire, "SELECT count(*) FROM items");
        (items, events(&documents))
    };
    for end in ["ROLLBACK", "COMMIT"] {
        say(&mut wire, "BEGIN");
        for sql in &writes {
            let answer = say(&mut wire, sql);
            assert!(
                answer[0].starts_with("CommandComplete INSERT"),
                "{sql}: {answer:?}"
            );
        }
        let ended = [
            format!("CommandComplete {end}"),
            "ReadyForQuery I".to_owned(),
        ];
        assert_eq!(say(&mut wire, end), ended);
        let expected = match end {
            "COMMIT" => ("3".to_owned(), 2),
            _ => ("0".to_owned(), 0),
        };
        assert_eq!(stored(&mut wire), expected, "{end}");
    }
    // One message, and one segment, are one transaction.
    let answer = say(
        &mut wire,
        &format!("DELETE FROM items WHERE id = {first}; DELETE FROM events WHERE id = {first}"),
    );
    assert!(
        !answer.iter().any(|line| line.starts_with("Error")),
        "{answer:?}"
    );
    assert_eq!(stored(&mut wire), ("2".to_owned(), 1));
    let both = [
        format!("DELETE FROM items WHERE id = {second}"),
        format!("DELETE FROM events WHERE id = {second}"),
    ];
    let answer = send(&mut wire, &segment(both.iter().map(String::as_str)));
    assert!(
        !answer.iter().any(|line| line.starts_with("Error")),
        "{answer:?}"
    );
    assert_eq!(stored(&mut wire), ("1".to_owned(), 0));
    documents.stage.assert_nothing_prepared();
    let set = &documents.set;
    let forgotten = poll_until(LIMIT * 6, || decisions(set, &documents.databases[0]) == 0);
    assert!(forgotten, "decisions stay");
}

#[test]
fn what_fails_on_one_is_undone_on_both() {
    let set = ReplicaSet::start("undone", 1).map(Arc::new);
    let Some(documents) = Documents::on(set, 1, "") else {
        return;
    };
    let mut wire = documents.stage.wire();
    let deferred =
        "CREATE TABLE notes (id int8 PRIMARY KEY, of int8 UNIQUE DEFERRABLE INITIALLY DEFERRED)";
    assert_eq!(say(&mut wire, deferred)[0], "CommandComplete CREATE TABLE");
    // PostgreSQL says no when it is to prepare.
    say(&mut wire, "BEGIN");
    say(&mut wire, "INSERT INTO notes VALUES (1, 1), (2, 1)");
    say(&mut wire, "INSERT INTO events (id) VALUES (1)");
    let ended = say(&mut wire, "COMMIT");
    assert!(ended[0].starts_with("Error 23505"), "{ended:?}");
    assert_eq!(events(&documents), 0);
    // MongoDB has undone its part when it is to decide.
    say(&mut wire, "BEGIN");
    say(&mut wire, "INSERT INTO items (id) VALUES (1)");
    say(&mut wire, "INSERT INTO events (id) VALUES (1)");
    documents
        .set
        .command("admin", doc! { "killAllSessions": [] });
    let ended = say(&mut wire, "COMMIT");
    assert!(ended[0].starts_with("Error 40001"), "{ended:?}");
    assert_eq!(events(&documents), 0);
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "0");
    documents.stage.assert_nothing_prepared();
}

#[test]
fn a_second_replica_set_and_what_cannot_be_prepared_are_refused() {
    let Some(documents) = Documents::over(3) else {
        return;
    };
    let mut wire = documents.stage.wire();
    let refusal = "Error 0A000 transaction writes on more than one replica set of MongoDB";
    say(
        &mut wire,
        "INSERT INTO items (id) SELECT generate_series(1, 20)",
    );
    say(
        &mut wire,
        "PREPARE p AS INSERT INTO events (id) VALUES ($1)",
    );
    let is_error = |line: &String| line.starts_with("Error");
    for write in [
        "INSERT INTO events (id) VALUES ({id})",
        "INSERT INTO events (id) SELECT {id}",
        "EXECUTE p({id})",
        "EXECUTE p({id} + 0)",
        "WITH x AS (INSERT INTO events (id) VALUES ({id}) RETURNING id) SELECT id FROM x",
        "WITH x AS (UPDATE items SET v = 1 WHERE id = {id} RETURNING id) INSERT INTO events (id) SELECT id FROM x",
    ] {
        for is_extended in [false, true] {
            say(&mut wire, "BEGIN");
            let mut answers = (1..=20).map(|id| {
                let sql = write.replace("{id}", &id.to_string());
                match is_extended {
                    false => say(&mut wire, &sql),
                    true => send(&mut wire, &extended(&sql, &[], &[])),
                }
            });
            let refused = answers.find_map(|answer| answer.into_iter().find(is_error));
            assert_eq!(refused.as_deref(), Some(refusal), "{write} {is_extended}");
            assert_eq!(say(&mut wire, "COMMIT")[0], "CommandComplete ROLLBACK");
            assert_eq!(one(&mut wire, "SELECT count(*) FROM events"), "0");
        }
    }
    let several = "Error 0A000 a write to documents on several replica sets is not supported";
    let sql = "WITH x AS (UPDATE items SET v = 1 RETURNING id) INSERT INTO events (id) SELECT id FROM x ON CONFLICT DO NOTHING";
    for is_extended in [false, true] {
        say(&mut wire, "BEGIN");
        let answer = match is_extended {
            false => say(&mut wire, sql),
            true => send(&mut wire, &extended(sql, &[], &[])),
        };
        assert!(answer.contains(&several.to_owned()), "{answer:?}");
        say(&mut wire, "ROLLBACK");
    }
    // The other sets may be read, and what is no write goes on.
    say(&mut wire, "BEGIN");
    say(&mut wire, "INSERT INTO events (id) VALUES (1)");
    say(
        &mut wire,
        "PREPARE reads AS SELECT kind FROM events WHERE id >= $1",
    );
    for sql in [
        "SELECT count(*) FROM events",
        "SET LOCAL statement_timeout = '1min'",
        "SELECT id FROM events ORDER BY id",
        "EXECUTE reads(0 + 1)",
        "SELECT id FROM events WHERE length(kind) > random()",
    ] {
        let simple = say(&mut wire, sql);
        assert!(!simple.iter().any(is_error), "{sql}: {simple:?}");
        let bound = send(&mut wire, &extended(sql, &[], &[]));
        assert!(!bound.iter().any(is_error), "{sql}: {bound:?}");
    }
    assert_eq!(say(&mut wire, "COMMIT")[0], "CommandComplete COMMIT");
    assert_eq!(
        say(&mut wire, "DELETE FROM events WHERE id = 1")[0],
        "CommandComplete DELETE 1"
    );
    say(&mut wire, "BEGIN");
    say(&mut wire, "CREATE TEMP TABLE mine (id int)");
    say(&mut wire, "INSERT INTO events (id) VALUES (1)");
    let ended = say(&mut wire, "COMMIT");
    assert!(ended[0].starts_with("Error 0A000"), "{ended:?}");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM events"), "0");
}

/// A member as a server of PostgreSQL that anybody can connect to.
fn listening(set: &ReplicaSet) -> u16 {
    let text = "[[shard]]\nname = \"s1\"\n[[shard.server]]\naddress = \"127.0.0.1:1\"\n\
        [[shard]]\nname = \"docs\"\nengine = \"mongodb\"\n[[shard.server]]\naddress = \"127.0.0.1:2\"\n\
        [[database]]\nname = \"app\"\n\
        [[table]]\nname = \"t\"\nkind = \"documents\"\nshards = [\"docs\"]\n\
        [[table.column]]\nname = \"mark\"\npath = \"_id\"\nsql_type = \"int4\"\n";
    let config = Config::parse(Path::new("test.toml"), text, &Process).unwrap();
    let collections = config.collections();
    let collections = collections.into_iter().map(Arc::clone).collect();
    let login = Login {
        user: None,
        tls: None,
        connect_timeout: LIMIT,
    };
    let port = set.ports()[set.primary()];
    let member = Member::new("127.0.0.1", port, login, collections, "mothership");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((mut client, _)) = listener.accept().await {
                let mut member = member.dial().unwrap();
                tokio::spawn(async move {
                    // However it ends, both ends learn of it.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut member).await;
                });
            }
        });
    });
    port
}

/// Two databases of PostgreSQL and one of MongoDB.
fn direct(set: &ReplicaSet, database: &str) -> (Shards, Direct) {
    let databases = Shards::new(2);
    let documents = Endpoint {
        host: "127.0.0.1".into(),
        port: listening(set),
        user: USER.into(),
        password: PASSWORD.into(),
        database: database.into(),
    };
    let tables = (0..2).map(|shard| databases.endpoint(shard));
    let mut direct = Direct::new(tables.chain([documents]));
    direct.documents = Some(2);
    (databases, direct)
}

#[test]
fn a_router_that_is_stopped_anywhere_splits_nothing() {
    let Some(set) = shared() else { return };
    let (_databases, direct) = direct(&set, "stopped");
    block_on(stopped_everywhere(&direct, "BEGIN"));
    assert_eq!(decisions(&set, "stopped"), 0);
    set.drop_database("stopped");
}

#[test]
fn a_router_that_is_killed_anywhere_leaves_nothing_behind() {
    let Some(set) = shared() else { return };
    let (_databases, direct) = direct(&set, "killed");
    block_on(killed_everywhere(&direct));
    assert_eq!(decisions(&set, "killed"), 0);
    set.drop_database("killed");
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(test);
}

/// What a client of the bank has been told.
#[derive(Default)]
struct Told {
    /// Transfers whose COMMIT was answered.
    done: Vec<i64>,
    /// Transfers whose COMMIT was not answered.
    unknown: Vec<i64>,
}

/// Accounts on both engines, and a ledger on each; the router is killed again and again.
#[test]
#[ignore = "long"]
fn a_bank_over_both_engines_loses_nothing_when_its_router_is_killed() {
    const ACCOUNTS: i64 = 8;
    const CLIENTS: usize = 4;
    const KILLS: usize = 5;
    let seed: u64 =
        std::env::var("SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let set = ReplicaSet::start("bank", 1).map(Arc::new);
    let patience = "[transactions]\nprepare_timeout = \"3s\"\n";
    let Some(mut documents) = Documents::on(set, 1, patience) else {
        return;
    };
    let mut wire = documents.stage.wire();
    for id in 1..=ACCOUNTS {
        say(
            &mut wire,
            &format!("INSERT INTO items (id, v) VALUES ({id}, 100)"),
        );
        say(
            &mut wire,
            &format!("INSERT INTO events (id, count) VALUES ({id}, 100)"),
        );
    }
    drop(wire);
    let next = AtomicU64::new(1000);
    let mut caught = 0;
    let mut all = Told::default();
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..KILLS {
        let is_over = AtomicBool::new(false);
        let told: Vec<Told> = std::thread::scope(|scope| {
            let (is_over, next) = (&is_over, &next);
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    let (seed, mut wire) = (rng.random(), documents.stage.wire());
                    scope.spawn(move || transfers(&mut wire, seed, is_over, next))
                })
                .collect();
            let before = next.load(Ordering::Relaxed);
            let works = poll_until(LIMIT, || next.load(Ordering::Relaxed) > before + 20);
            assert!(works, "no transfer is made");
            // Wherever it is then.
            std::thread::sleep(Duration::from_micros(rng.random_range(0..200_000)));
            documents.stage.router.kill9();
            is_over.store(true, Ordering::Relaxed);
            clients
                .into_iter()
                .map(|client| client.join().unwrap())
                .collect()
        });
        caught += documents.stage.prepared();
        documents.stage.router.start_again();
        let finished = poll_until(Duration::from_secs(10), || documents.stage.prepared() == 0);
        assert!(finished, "something stays prepared");
        for one in told {
            all.done.extend(one.done);
            all.unknown.extend(one.unknown);
        }
    }
    println!(
        "{} done, {} unknown, {caught} caught prepared",
        all.done.len(),
        all.unknown.len()
    );
    let mut wire = documents.stage.wire();
    let sums = (
        one(
            &mut wire,
            "SELECT (SELECT sum(v) FROM items WHERE id < 1000) + (SELECT sum(count) FROM events WHERE id < 1000)",
        ),
        one(
            &mut wire,
            "SELECT count(*) FROM items i FULL JOIN events e USING (id) WHERE i.id IS NULL OR e.id IS NULL",
        ),
    );
    assert_eq!(sums, ((200 * ACCOUNTS).to_string(), "0".to_owned()));
    let ledger = wire.rows("SELECT id FROM items WHERE id >= 1000");
    let entries: BTreeSet<i64> = ledger.iter().map(|row| row[0].parse().unwrap()).collect();
    let lost = all.done.iter().filter(|id| !entries.contains(id));
    let known = |id: &&i64| all.done.contains(id) || all.unknown.contains(id);
    let ghost = entries.iter().filter(|id| !known(id));
    assert_eq!((lost.count(), ghost.count()), (0, 0));
    assert!(all.done.len() > 20 * KILLS / 2, "few were done");
    // Transactions of killed routers would keep the database for up to a minute.
    let set = &documents.set;
    set.command("admin", doc! { "killAllSessions": [] });
}

/// Moves amounts between both engines until the router goes away.
fn transfers(wire: &mut Wire, seed: u64, is_over: &AtomicBool, next: &AtomicU64) -> Told {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut told = Told::default();
    while !is_over.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed).cast_signed();
        let (from, to) = (rng.random_range(1..=8), rng.random_range(1..=8));
        let amount = rng.random_range(-5..=5);
        let statements = [
            "BEGIN".to_owned(),
            format!("UPDATE items SET v = v - {amount} WHERE id = {from}"),
            format!("UPDATE events SET count = count + {amount} WHERE id = {to}"),
            format!("INSERT INTO items (id, v) VALUES ({number}, {amount})"),
            format!("INSERT INTO events (id, count) VALUES ({number}, {amount})"),
        ];
        let mut is_whole = true;
        for sql in statements {
            match answer(wire, &sql) {
                None => return told,
                Some(frames) => is_whole &= frames.iter().all(|frame| frame.kind != b'E'),
            }
        }
        match answer(wire, if is_whole { "COMMIT" } else { "ROLLBACK" }) {
            None if is_whole => {
                told.unknown.push(number);
                return told;
            }
            None => return told,
            Some(frames) => match frames.iter().find(|frame| frame.kind == b'E') {
                Some(error) if error.sqlstate() == "08007" => told.unknown.push(number),
                Some(_) => {}
                None if is_whole => told.done.push(number),
                None => {}
            },
        }
    }
    told
}

/// The answer to a query, unless the router goes away.
fn answer(wire: &mut Wire, sql: &str) -> Option<Vec<Frame>> {
    wire.try_send(&message::query(sql)).ok()?;
    wire.try_until_ready().ok()
}
