//! Who gets a lock of a transaction over several shards sees all that the transaction has done, as in one PostgreSQL.

use super::stage::{LIMIT, Stage, one, one_each, say};
use mothership_tests::message;
use mothership_tests::proxy::{Effect, End, Proxy, Side, Trap};
use mothership_tests::{Router, Wire, poll_until};

/// On the shards: an UPDATE of items waits at its COMMIT for whoever holds this lock. By its own name the router would refuse
/// it in a trigger.
const SLOW: &str = "CREATE FUNCTION gate(int8) RETURNS void IMMUTABLE LANGUAGE internal \
    AS 'pg_advisory_xact_lock_shared_int8'; CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
    $$ BEGIN PERFORM gate(4711 + 0 * NEW.v); RETURN NULL; END $$; \
    CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON items DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()";

const WAITING: &str = "SELECT count(*) FROM pg_locks WHERE NOT granted";

fn update(id: i64) -> String {
    format!("UPDATE items SET v = v + 1 WHERE id = {id}")
}

fn read(id: i64) -> String {
    format!("SELECT v FROM items WHERE id = {id}")
}

/// Whether so many wait for locks of the servers.
fn are_waiting(stage: &Stage, count: u32) -> bool {
    let waiting = || stage.shards.sql(0, WAITING).trim() == count.to_string();
    poll_until(LIMIT, waiting)
}

#[test]
fn a_lock_on_a_shard_that_wrote_nothing_is_kept_until_the_others_have_committed() {
    let stage = Stage::new();
    let [a, b, c] = one_each();
    stage.fill([a, b, c]);
    stage.shards.sql_all("UPDATE items SET v = 0");
    stage.shards.sql_all(SLOW);
    let row = |id| format!("{} FOR UPDATE", read(id));
    let advisory = || "SELECT pg_advisory_xact_lock(1)".to_owned();
    let cases = [
        (row(a), b),
        (row(b), a),
        (row(c), a),
        (advisory(), b),
        (advisory(), c),
    ];
    for (lock, written) in cases {
        stage
            .shards
            .sql_all("SET session_replication_role = replica; UPDATE items SET v = 0");
        let gate: Vec<Wire> = (0..3)
            .map(|shard| {
                let mut wire = Wire::login(&stage.shards.endpoint(shard));
                say(&mut wire, "SELECT pg_advisory_lock(4711)");
                wire
            })
            .collect();
        let (mut first, mut second) = (stage.wire(), stage.wire());
        for sql in ["BEGIN", &lock, &update(written)] {
            let told = say(&mut first, sql);
            assert!(!told[0].starts_with("Error"), "{sql}: {told:?}");
        }
        first.send(&message::query("COMMIT"));
        assert!(are_waiting(&stage, 1), "COMMIT does not wait for the gate");
        say(&mut second, "BEGIN");
        second.send(&message::query(&lock));
        // Or it does not wait at all.
        let waits = are_waiting(&stage, 2);
        drop(gate);
        first.until_ready();
        second.until_ready();
        assert_eq!(one(&mut second, &read(written)), "1", "{lock}");
        assert!(waits, "{lock} was free before COMMIT had ended");
        say(&mut second, "COMMIT");
    }
}

#[test]
fn who_has_seen_a_commit_on_one_shard_sees_it_on_the_next() {
    let stage = Stage::new();
    let [a, b, _] = one_each();
    stage.fill([a, b]);
    // A way of its own for each shard.
    let address = format!("address = \"127.0.0.1:{}\"", stage.shards.endpoint(0).port);
    let ways: Vec<Proxy> = (0..3)
        .map(|_| Proxy::to(stage.shards.endpoint(0).port))
        .collect();
    let mut config = stage.config().to_owned();
    for way in &ways {
        let own = format!("address = \"localhost:{}\"", way.port());
        config = config.replacen(&address, &own, 1);
    }
    let router = Router::start(&config);
    for lock in [" FOR UPDATE", ""] {
        stage.shards.sql_all("UPDATE items SET v = 0");
        let (mut first, mut second) = (stage.wire_of(&router), stage.wire_of(&router));
        for sql in ["BEGIN", &update(a), &update(b)] {
            say(&mut first, sql);
        }
        for way in &ways {
            way.set(Trap::before_text(
                Side::Client,
                None,
                "COMMIT PREPARED",
                Effect::Freeze,
            ));
        }
        let before: Vec<u64> = ways.iter().map(Proxy::sprung).collect();
        first.send(&message::query("COMMIT"));
        let late = || (0..3).find(|shard| ways[*shard].sprung() > before[*shard]);
        assert!(
            poll_until(LIMIT, || late().is_some()),
            "nothing was prepared"
        );
        let late = late().expect("one of them was prepared");
        let (early, late) = match super::stage::owner(a) == late {
            true => (b, a),
            false => (a, b),
        };
        say(&mut second, "BEGIN");
        assert_eq!(one(&mut second, &format!("{}{lock}", read(early))), "1");
        second.send(&message::query(&read(late)));
        let waits = second
            .try_frame(std::time::Duration::from_millis(100))
            .is_err();
        // Who waits like that can be cancelled.
        let mut third = stage.wire_of(&router);
        say(&mut third, "BEGIN");
        assert_eq!(one(&mut third, &read(early)), "1");
        third.send(&message::query(&read(late)));
        let waits_too = third
            .try_frame(std::time::Duration::from_millis(100))
            .is_err();
        third.cancel();
        let told = third.until_ready();
        let error = told.iter().find(|frame| frame.kind == b'E');
        ways.iter().for_each(Proxy::heal);
        assert!(waits_too, "it does not wait: {told:?}");
        assert_eq!(error.expect("it is cancelled").sqlstate(), "57014");
        if waits {
            let rows: Vec<String> = second
                .until_ready()
                .iter()
                .map(ToString::to_string)
                .collect();
            assert!(rows.contains(&"DataRow 1".into()), "{rows:?}");
        }
        assert!(waits, "it shows what was there before the commit");
        first.until_ready();
        say(&mut second, "COMMIT");
    }
}

#[test]
#[ignore = "long"]
fn a_router_that_starts_shows_the_commits_that_an_earlier_one_has_told_of() {
    let mut stage = Stage::new();
    let [a, b, _] = one_each();
    stage.fill([a, b]);
    stage.shards.sql_all("UPDATE items SET v = 0");
    let address = format!("address = \"127.0.0.1:{}\"", stage.shards.endpoint(0).port);
    let way = Proxy::to(stage.shards.endpoint(0).port);
    let own = format!("address = \"localhost:{}\"", way.port());
    let config = stage.config().replace(&address, &own);
    let config = format!("{config}\n[transactions]\nrecovery_interval = \"60s\"\n");
    let mut first = Router::start(&config);
    // Its recovery would finish the transaction.
    stage.router.kill9();
    let mut wire = stage.wire_of(&first);
    for sql in ["BEGIN", &update(a), &update(b)] {
        let told = say(&mut wire, sql);
        assert!(told[0].starts_with("CommandComplete"), "{sql}: {told:?}");
    }
    way.set(Trap::before_text(
        Side::Client,
        None,
        "COMMIT PREPARED",
        Effect::Freeze,
    ));
    wire.send(&message::query("COMMIT"));
    assert!(way.springs_within(LIMIT), "nothing was prepared");
    // No other connection may bring the news.
    way.refuse();
    way.cut(End::Reset);
    let told = super::stage::lines(&wire.until_ready());
    assert_eq!(told[0], "CommandComplete COMMIT");
    first.kill9();
    let prepared = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()";
    let left = stage.shards.sql_all(prepared);
    assert!(left.iter().any(|count| count.trim() == "1"), "{left:?}");
    let second = stage.another_router();
    let mut wire = stage.wire_of(&second);
    for id in [a, b] {
        assert_eq!(one(&mut wire, &read(id)), "1");
    }
    stage.assert_nothing_prepared();
}

#[test]
fn a_shard_that_does_not_say_what_is_prepared_there_hinders_no_other() {
    let stage = Stage::new();
    let [a, b, c] = one_each();
    stage.fill([a, b, c]);
    stage.shards.sql_all("UPDATE items SET v = 0");
    let address = format!("address = \"{}:", stage.shards.endpoint(0).host);
    let way = Proxy::to(stage.shards.endpoint(2).port);
    let (before, last) = stage
        .config()
        .split_at(stage.config().find("\"s3\"").unwrap());
    let end = last[last.find(&address).unwrap() + address.len()..]
        .find('"')
        .unwrap();
    let from = last.find(&address).unwrap();
    let to = from + address.len() + end;
    let config = format!(
        "{before}{}address = \"localhost:{}{}\n[transactions]\nrecovery_interval = \"60s\"\n",
        &last[..from],
        way.port(),
        &last[to..]
    );
    let router = Router::start(&config);
    // The same connection has read the catalog.
    let asks = Trap::before_text(
        Side::Client,
        None,
        "pg_prepared_xacts",
        Effect::End(End::Reset),
    );
    way.set(asks.once_seen(Side::Client, "pg_prepared_statements"));
    let mut wire = stage.wire_of(&router);
    assert_eq!(one(&mut wire, &read(a)), "0");
    assert_eq!(way.sprung(), 1, "it was not asked");
    assert_eq!(one(&mut wire, &read(b)), "0");
    // It is asked again.
    let serves = || say(&mut wire, &read(c))[0].starts_with("RowDescription");
    assert!(poll_until(LIMIT, serves));
}
