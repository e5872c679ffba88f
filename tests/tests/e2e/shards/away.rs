//! One shard of three is away for longer than what is known of it may be used: what does not need it goes on, what needs
//! it is told so with its name, and all is as before when it is back.

use super::stage::{extended, keys_of, lines, one, one_each, say, send};
use mothership_tests::fleet::Shard;
use mothership_tests::proof::{config, on_all};
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Fleet, Router, Wire, poll_until};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);
/// How old what is known may be.
const INTERVAL: Duration = Duration::from_secs(1);

const TABLES: &str = r#"
[catalog]
refresh_interval = "1s"
[failover]
window = "1s"
[transactions]
recovery_interval = "500ms"
[[table]]
name = "items"
key = ["id"]
key_type = ["int8"]
[[table]]
name = "kinds"
kind = "reference"
"#;

/// Three clusters, the first one the home shard's, and a router.
struct Stage {
    router: Router,
    fleet: Fleet,
}

impl Stage {
    /// With a row of `items` on each shard.
    fn new() -> Stage {
        let fleet = Fleet::new(3, 0);
        let router = Router::start(&config(&fleet, "", "", TABLES));
        let stage = Stage { router, fleet };
        let mut wire = stage.wire();
        let [a, b, c] = one_each();
        for sql in [
            "CREATE TABLE items (id int8 PRIMARY KEY, v int8)".to_owned(),
            "CREATE TABLE kinds (id int4 PRIMARY KEY, name text)".to_owned(),
            "CREATE TABLE notes (id int4 PRIMARY KEY, body text)".to_owned(),
            "INSERT INTO kinds VALUES (1, 'one')".to_owned(),
            format!("INSERT INTO items VALUES ({a}, 0), ({b}, 0), ({c}, 0)"),
        ] {
            let said = say(&mut wire, &sql);
            assert!(!said[0].starts_with("Error"), "{sql}: {said:?}");
        }
        stage
    }

    fn wire(&self) -> Wire {
        self.wire_of(&self.router)
    }

    fn wire_of(&self, router: &Router) -> Wire {
        let mut wire = Wire::login(&router.endpoint(USER, PASSWORD, "postgres"));
        wire.set_limit(SOON);
        wire
    }

    /// Waits until the router plans without a shard, which every statement that needs it is told then.
    fn wait_away(&self, wire: &mut Wire, shard: usize) {
        let name = format!("shard \"s{}\" is away", shard + 1);
        let sql = format!("SELECT v FROM items WHERE id = {}", one_each()[shard]);
        let lost = format!("\"s{}\"", shard + 1);
        let away = poll_until(SOON, || {
            let frames = wire.query(&sql);
            let Some(error) = frames.iter().find(|frame| frame.kind == b'E') else {
                return false;
            };
            // Until then its server is tried, and whoever fails is told which shard it was.
            let [message, detail] = ['M', 'D'].map(|code| error.field(code).unwrap_or_default());
            let is_named = message.contains(&lost) || detail.contains(&lost);
            assert!(is_named || error.sqlstate() == "57P01", "{error}: {detail}");
            message.contains(&name)
        });
        assert!(away, "{}", self.router.log());
    }

    /// Waits until all shards answer.
    fn wait_back(&self, wire: &mut Wire) {
        let back = poll_until(SOON, || error(wire, "SELECT count(*) FROM items").is_none());
        assert!(back, "{}", self.router.log());
    }
}

/// What is said of a simple query's failure, if it fails.
fn error(wire: &mut Wire, sql: &str) -> Option<String> {
    let said = say(wire, sql);
    said.into_iter().find(|line| line.starts_with("Error"))
}

/// A statement by both protocols; what is said of its failures.
fn errors(wire: &mut Wire, sql: &str) -> [Option<String>; 2] {
    let by_parse = send(wire, &extended(sql, &[], &[]));
    let by_parse = by_parse.into_iter().find(|line| line.starts_with("Error"));
    [error(wire, sql), by_parse]
}

fn goes_on(wire: &mut Wire, sql: &str) {
    assert_eq!(errors(wire, sql), [None, None], "{sql}");
}

fn names_it(wire: &mut Wire, sql: &str, shard: usize) {
    for said in errors(wire, sql) {
        let said = said.unwrap_or_else(|| panic!("{sql} is answered"));
        let name = format!("\"s{}\"", shard + 1);
        assert!(
            said.starts_with("Error 08006") && said.contains(&name),
            "{sql}: {said}"
        );
    }
}

#[test]
fn what_does_not_need_a_lost_shard_goes_on_and_what_needs_it_names_it() {
    let mut stage = Stage::new();
    let [a, b, c] = one_each();
    let new = [keys_of(0, 3), keys_of(1, 3), keys_of(2, 3)];
    let mut wire = stage.wire();
    let (done, served) = (AtomicBool::new(false), AtomicU64::new(0));
    // Reads and writes of the other two shards never fail, from before the one is lost until after it is back.
    let work = |mut wire: Wire| {
        while !done.load(Ordering::SeqCst) {
            for sql in [
                format!("SELECT v FROM items WHERE id = {a}"),
                format!("UPDATE items SET v = v + 1 WHERE id = {b}"),
                "SELECT name FROM kinds WHERE id = 1".to_owned(),
                "SELECT count(*) FROM notes".to_owned(),
                format!("SELECT v FROM items WHERE id IN ({a}, {b})"),
            ] {
                goes_on(&mut wire, &sql);
                served.fetch_add(1, Ordering::SeqCst);
            }
        }
    };
    let worker = stage.wire();
    std::thread::scope(|scope| {
        let working = scope.spawn(|| work(worker));
        stage.fleet.shards[2].primary.kill9();
        stage.wait_away(&mut wire, 2);
        let (before, begun) = (served.load(Ordering::SeqCst), Instant::now());
        // For as long as knowledge may be used, and longer.
        let mut round = 0;
        while begun.elapsed() < INTERVAL * 3 {
            for sql in [
                format!("SELECT v FROM items WHERE id = {c}"),
                format!("UPDATE items SET v = 1 WHERE id = {c}"),
                format!("INSERT INTO items VALUES ({}, 1)", new[2][1]),
                "SELECT count(*) FROM items".to_owned(),
                "SELECT id FROM items ORDER BY id".to_owned(),
                "INSERT INTO kinds VALUES (2, 'two')".to_owned(),
                "CREATE TYPE mood AS ENUM ('ok')".to_owned(),
            ] {
                names_it(&mut wire, &sql, 2);
            }
            // A transaction over the two that are there.
            for sql in [
                "BEGIN".to_owned(),
                format!("UPDATE items SET v = v + 1 WHERE id = {a}"),
                format!("UPDATE items SET v = v + 1 WHERE id = {b}"),
                "COMMIT".to_owned(),
            ] {
                assert_eq!(error(&mut wire, &sql), None, "{sql}");
            }
            // It fails in one, and the next statement is not looked at.
            assert_eq!(error(&mut wire, "BEGIN"), None);
            assert_eq!(
                error(&mut wire, &format!("SELECT v FROM items WHERE id = {a}")),
                None
            );
            let lost = format!("SELECT v FROM items WHERE id = {c}");
            assert!(error(&mut wire, &lost).unwrap().starts_with("Error 08006"));
            assert_eq!(say(&mut wire, "ROLLBACK")[0], "CommandComplete ROLLBACK");
            round += 1;
        }
        // What is made past the router meanwhile, on a shard that is there, is seen.
        let past = "CREATE TABLE later (id int4 PRIMARY KEY)";
        stage.fleet.shards[0].primary.sql("postgres", past).unwrap();
        goes_on(&mut wire, "SELECT count(*) FROM later");
        assert!(served.load(Ordering::SeqCst) > before && round > 0);
        stage.fleet.shards[2].primary.start().unwrap();
        stage.wait_back(&mut wire);
        done.store(true, Ordering::SeqCst);
        working.join().unwrap();
    });
    for ids in new {
        goes_on(
            &mut wire,
            &format!("DELETE FROM items WHERE id = {}", ids[1]),
        );
        goes_on(
            &mut wire,
            &format!("UPDATE items SET v = 0 WHERE id = {}", ids[0]),
        );
    }
    assert_eq!(one(&mut wire, "SELECT sum(v) FROM items"), "0");
    assert_eq!(error(&mut wire, "CREATE TYPE mood AS ENUM ('ok')"), None);
    assert_eq!(
        error(&mut wire, "ALTER TABLE items ADD COLUMN m mood"),
        None
    );
    goes_on(&mut wire, &format!("SELECT m FROM items WHERE id = {c}"));
    assert!(on_all(&stage.fleet, "SELECT count(*) FROM pg_prepared_xacts") == ["0"; 3]);
}

#[test]
fn a_router_that_starts_without_a_shard_serves_what_does_not_need_it() {
    let mut stage = Stage::new();
    let [a, b, c] = one_each();
    // What a router left behind that has died since: only the third shard knows whether it was committed.
    let part = |number: u32| format!("ms1:r1:{number:025}:s3:s2:1:5:7:b");
    let prepare = format!(
        "BEGIN; CREATE TABLE made (); PREPARE TRANSACTION '{}'",
        part(1)
    );
    let other = Router::start(&config(&stage.fleet, "", "", TABLES));
    stage.router.kill9();
    stage.fleet.shards[2].primary.kill9();
    let mut wire = stage.wire_of(&other);
    goes_on(&mut wire, &format!("UPDATE items SET v = 1 WHERE id = {a}"));
    goes_on(&mut wire, &format!("UPDATE items SET v = 1 WHERE id = {b}"));
    goes_on(&mut wire, "SELECT name FROM kinds");
    names_it(&mut wire, &format!("SELECT v FROM items WHERE id = {c}"), 2);
    names_it(&mut wire, "SELECT count(*) FROM items", 2);
    drop((wire, other));

    let mut direct = Wire::login(&Shard::endpoint(&stage.fleet.shards[1].primary));
    lines(&direct.query(&prepare));
    let held = "SELECT count(*) FROM pg_prepared_xacts";
    assert_eq!(
        stage.fleet.shards[1].primary.sql("postgres", held).unwrap(),
        "1"
    );
    let other = Router::start(&config(&stage.fleet, "", "", TABLES));
    let mut wire = stage.wire_of(&other);
    goes_on(&mut wire, &format!("UPDATE items SET v = 1 WHERE id = {a}"));
    for said in errors(&mut wire, &format!("SELECT v FROM items WHERE id = {b}")) {
        let said = said.expect("what was committed may be missing");
        assert!(said.contains("\"s2\""), "{said}");
    }
    assert!(
        other.log().contains("only shard s3 knows"),
        "{}",
        other.log()
    );
    stage.fleet.shards[2].primary.start().unwrap();
    stage.wait_back(&mut wire);
    goes_on(&mut wire, &format!("SELECT v FROM items WHERE id = {b}"));
}

#[test]
fn without_the_home_shard_others_go_on_as_long_as_they_have_not_changed() {
    let mut stage = Stage::new();
    let [a, b, c] = one_each();
    let mut wire = stage.wire();
    wire.query("SELECT count(*) FROM items");
    stage.fleet.shards[0].primary.kill9();
    stage.wait_away(&mut wire, 0);
    let begun = Instant::now();
    while begun.elapsed() < INTERVAL * 3 {
        goes_on(&mut wire, &format!("SELECT v FROM items WHERE id = {b}"));
        goes_on(
            &mut wire,
            &format!("UPDATE items SET v = v + 1 WHERE id = {c}"),
        );
        goes_on(
            &mut wire,
            &format!("SELECT v FROM items WHERE id IN ({b}, {c})"),
        );
        goes_on(&mut wire, "SELECT name FROM kinds WHERE id = 1");
        names_it(&mut wire, &format!("SELECT v FROM items WHERE id = {a}"), 0);
        names_it(&mut wire, "SELECT count(*) FROM items", 0);
        names_it(&mut wire, "SELECT count(*) FROM notes", 0);
    }
    // Nobody knows whether it was changed at home as well.
    let past = "ALTER TABLE items ADD COLUMN more int8";
    stage.fleet.shards[1].primary.sql("postgres", past).unwrap();
    let refused = poll_until(SOON, || {
        let said = error(&mut wire, &format!("SELECT v FROM items WHERE id = {c}"));
        said.is_some_and(|said| said.starts_with("Error 57P03"))
    });
    assert!(refused, "{}", stage.router.log());
    stage.fleet.shards[0].primary.start().unwrap();
    for shard in [0, 2] {
        let primary = &stage.fleet.shards[shard].primary;
        primary.sql("postgres", past).unwrap();
    }
    stage.wait_back(&mut wire);
    for id in [a, b, c] {
        goes_on(
            &mut wire,
            &format!("UPDATE items SET more = 1 WHERE id = {id}"),
        );
    }
    assert_eq!(one(&mut wire, "SELECT sum(more) FROM items"), "3");
}
