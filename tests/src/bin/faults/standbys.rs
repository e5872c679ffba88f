//! Shards with standbys: a primary that is lost, replaced, or comes back; standbys that are lost, late or in conflict.

use crate::ask::{ask, both, read, say};
use crate::world::{PLAIN, SOON, Setup, World};
use mothership_tests::fleet::Shard;
use mothership_tests::proof::Verdict;
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Wire, bank, message, poll_until};
use std::time::{Duration, Instant};

/// Each shard is a primary with two standbys.
pub const REPLICATED: Setup = Setup {
    standbys: 2,
    ..PLAIN
};
/// And reads are theirs.
pub const READ: Setup = Setup {
    standbys: 2,
    more: "[balance]\nreads = \"prefer-replicas\"\nprobe_interval = \"200ms\"\nprobe_timeout = \"2s\"\n",
    ..PLAIN
};
/// Longer than two probes are apart.
const WARM: Duration = Duration::from_millis(700);
/// Rows of a table whose pairs take a while to be counted.
const MANY: i64 = 3000;
/// The time that a standby is behind.
const DELAY: &str = "30s";
/// For as long as this it is looked that something does not happen.
const WATCH: Duration = Duration::from_secs(3);

fn insert(key: i64, mark: &str) -> String {
    format!("INSERT INTO victims VALUES ({key}, '{mark}')")
}

/// What a client in a transaction may be told when its server is lost.
fn is_told(errors: &[&str]) -> bool {
    matches!(errors, [code] if code.starts_with("08") || code.starts_with("57P"))
}

/// 23: the primary of a shard is killed, and a standby promoted.
pub fn primary_killed(world: &mut World<'_>, verdict: &mut Verdict) {
    let key = world.key(0);
    let (mut open, mut idle) = (world.client(), world.client());
    say(&mut idle, &insert(key, "before"));
    say(&mut open, "BEGIN");
    say(&mut open, &insert(key, "open"));
    let shard = &mut world.ground.fleet.shards[0];
    shard.primary.kill9();
    idle.send(&message::query(&insert(key, "waits")));
    let begun = Instant::now();
    let old = shard.succeed();
    let answer = read(&mut idle);
    let figure = format!("{answer} after {:.1?}", begun.elapsed());
    verdict.claim(
        answer.is_done() && answer.errors().is_empty(),
        "a write waits for the new primary",
        figure,
    );
    let answer = say(&mut open, &insert(key, "open"));
    verdict.claim(
        is_told(&answer.errors()) && answer.last() == "ReadyForQuery E",
        "an open transaction fails once",
        answer,
    );
    let answer = say(&mut open, "ROLLBACK");
    verdict.claim(answer.errors().is_empty(), "and is over", answer);
    let marks = ["before", "waits", "open"].map(|mark| world.marked(mark));
    verdict.claim(
        marks == [1, 1, 0],
        "what was acknowledged is there",
        format!("{marks:?}"),
    );
    world.claim_shards_served(&[0, 1, 2], verdict);
    rejoin(&mut world.ground.fleet.shards[0], old);
}

/// 24: the primary changes in good order.
pub fn switchover(world: &mut World<'_>, verdict: &mut Verdict) {
    let shard = &world.ground.fleet.shards[0];
    shard.gather_behind(0);
    let to = shard.replicas[0].port();
    let begun = Instant::now();
    let errors = order(world, &format!("SWITCHOVER s1 '127.0.0.1:{to}'"));
    let took = begun.elapsed();
    verdict.claim(
        errors.is_empty(),
        "SWITCHOVER is done",
        format!("{errors} {took:.1?}"),
    );
    if !errors.is_empty() {
        return;
    }
    world.ground.fleet.shards[0].crown(0);
    world.claim_served(verdict);
    let figures = world.bank.figures();
    verdict.claim(figures.errors.is_empty(), "no transfer fails", figures);
    rejoin(&mut world.ground.fleet.shards[0], 0);
}

/// 25: the old primary is back as it was, and takes writes.
pub fn old_primary_returns(world: &mut World<'_>, verdict: &mut Verdict) {
    let shard = &mut world.ground.fleet.shards[0];
    shard.primary.kill9();
    let old = shard.succeed();
    let served = world.bank.serves(0, 10, SOON);
    verdict.claim(served, "its shard is served", world.bank.figures());
    let database = world.database.clone();
    let server = &mut world.ground.fleet.shards[0].replicas[old];
    // Alone it waits for nobody.
    server
        .configure(&[("synchronous_standby_names", "")])
        .unwrap();
    server.start().unwrap();
    let look = format!(
        "SELECT count(*) || ' rows, ' || (SELECT count(*) FROM pg_stat_activity WHERE usename = '{}') \
         || ' sessions' FROM ledger",
        bank::ROLE
    );
    let server = &world.ground.fleet.shards[0].replicas[old];
    let first = server.sql(&database, &look).unwrap();
    let begun = Instant::now();
    let changed = poll_until(WATCH, || server.sql(&database, &look).unwrap() != first);
    assert!(begun.elapsed() >= WATCH || changed);
    verdict.claim(
        !changed && first.ends_with("rows, 0 sessions"),
        "nobody is sent to it",
        first,
    );
    world.claim_served(verdict);
    let server = &mut world.ground.fleet.shards[0].replicas[old];
    server
        .configure(&[("synchronous_standby_names", "ANY 1 (*)")])
        .unwrap();
    rejoin(&mut world.ground.fleet.shards[0], old);
}

/// 26: a standby is killed.
pub fn standby_killed(world: &mut World<'_>, verdict: &mut Verdict) {
    let key = world.key(0);
    let mut client = world.client();
    say(&mut client, &insert(key, "read"));
    let sql = format!("SELECT v FROM victims WHERE id = {key}");
    let mut wrong = Vec::new();
    let mut look = |wire: &mut Wire| {
        for request in both(&sql) {
            let answer = ask(wire, &request);
            if answer.rows() != ["read"] {
                wrong.push(answer.to_string());
            }
        }
    };
    for which in [0, 1] {
        (0..50).for_each(|_| look(&mut client));
        world.ground.fleet.shards[0].replicas[which].kill9();
        (0..200).for_each(|_| look(&mut client));
        world.ground.fleet.shards[0].replicas[which]
            .start()
            .unwrap();
        world.ground.fleet.shards[0].wait_replayed();
    }
    let figure = format!("{} failed, {:?}", wrong.len(), wrong.first());
    verdict.claim(wrong.is_empty(), "reads go elsewhere at once", figure);
    let figures = world.bank.figures();
    verdict.claim(figures.errors.is_empty(), "no transfer fails", figures);
}

/// 27: standbys have everything half a minute late.
pub fn standby_lags(world: &mut World<'_>, verdict: &mut Verdict) {
    let key = world.key(0);
    let mut client = world.client();
    set_delay(&mut world.ground.fleet.shards[0], DELAY);
    let mut missed = Vec::new();
    for number in 0..100 {
        let mark = format!("late_{number}");
        say(&mut client, &insert(key, &mark));
        let sql = format!("SELECT count(*) FROM victims WHERE id = {key} AND v = '{mark}'");
        let answer = ask(&mut client, &both(&sql)[number % 2]);
        if answer.rows() != ["1"] {
            missed.push(answer.to_string());
        }
    }
    let figure = format!("{} of 100, {:?}", missed.len(), missed.first());
    verdict.claim(
        missed.is_empty(),
        "whoever writes reads what he wrote",
        figure,
    );
    set_delay(&mut world.ground.fleet.shards[0], "0");
    world.ground.fleet.shards[0].wait_replayed();
}

/// 28: what a standby replays takes away what a read on it looks at.
pub fn conflict(world: &mut World<'_>, verdict: &mut Verdict) {
    let key = world.key(0);
    let rows = format!("SELECT {key}, 'c' || g FROM generate_series(1, {MANY}) g");
    world.sql(0, &format!("INSERT INTO victims {rows}"));
    at_once(&mut world.ground.fleet.shards[0], "0");
    // What is written meanwhile would lead reads to the primary.
    world.hold(verdict);
    world.ground.fleet.shards[0].wait_replayed();
    let sql = format!(
        "SELECT count(*) AS in_the_way FROM victims one, victims two \
         WHERE one.id = {key} AND two.id = {key} AND one.v < two.v"
    );
    let quick = format!("SELECT count(*) FROM accounts WHERE id = {key}");
    let at_work = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT count(*) AS in_the_way%' \
        AND state = 'active'";
    let conflicts = |world: &World<'_>| -> i64 {
        let sql = "SELECT sum(confl_snapshot + confl_lock + confl_bufferpin) FROM pg_stat_database_conflicts";
        let standbys = world.ground.fleet.shards[0].replicas.iter();
        let each = standbys.map(|standby| standby.sql("postgres", sql).unwrap());
        each.map(|count| count.trim().parse::<i64>().unwrap()).sum()
    };
    let before = conflicts(world);
    let mut client = world.client();
    let mut left = MANY;
    for request in both(&sql) {
        let mut answer = None;
        let met = poll_until(SOON * 2, || {
            // A connection serves once it is older than the last probe, and is closed half a second after its last use.
            let until = Instant::now() + WARM;
            while Instant::now() < until {
                say(&mut client, &quick);
            }
            let (world, client, request) = (&*world, &mut client, &request);
            answer = std::thread::scope(|scope| {
                let asked = scope.spawn(move || ask(client, request));
                let standbys = &world.ground.fleet.shards[0].replicas;
                let works = || {
                    standbys
                        .iter()
                        .any(|s| s.sql("postgres", at_work).unwrap() != "0")
                };
                poll_until(SOON, || asked.is_finished() || works());
                if asked.is_finished() {
                    return None;
                }
                world.sql(0, &format!("DELETE FROM victims WHERE v = 'c{left}'"));
                world.sql(0, "VACUUM victims");
                left -= 1;
                Some(asked.join().unwrap())
            });
            answer.is_some()
        });
        verdict.claim(met, "a standby reads while that goes", met);
        let Some(answer) = answer else { continue };
        let pairs = left * (left - 1) / 2;
        let right = answer.rows() == [pairs.to_string()] && answer.errors().is_empty();
        verdict.claim(right, "a read in the way is asked of the primary", answer);
    }
    let met = conflicts(world) - before;
    verdict.claim(met > 0, "standbys have cancelled reads", met);
    world.bank.release();
    world.claim_served(verdict);
    at_once(&mut world.ground.fleet.shards[0], "30s");
}

/// How long a standby waits for reads that are in the way.
fn at_once(shard: &mut Shard, delay: &str) {
    for standby in &mut shard.replicas {
        let setting = [("max_standby_streaming_delay", delay)];
        standby.configure(&setting).unwrap();
        let sql = "SHOW max_standby_streaming_delay";
        assert!(poll_until(SOON, || standby.sql("postgres", sql).unwrap() == delay));
    }
}

fn set_delay(shard: &mut Shard, delay: &str) {
    for standby in &mut shard.replicas {
        standby
            .configure(&[("recovery_min_apply_delay", delay)])
            .unwrap();
        let shown = || {
            standby
                .sql("postgres", "SHOW recovery_min_apply_delay")
                .unwrap()
                == delay
        };
        assert!(poll_until(SOON, shown));
    }
}

/// 61: servers that come and go, and a router that is told of promotions that were none.
pub fn flapping(world: &mut World<'_>, verdict: &mut Verdict) {
    for _ in 0..5 {
        let errors = order(world, "PROMOTED s1");
        assert!(errors.is_empty(), "{errors}");
        world.ground.fleet.shards[0].replicas[0].pause().unwrap();
        let served = world.bank.serves(0, 5, SOON);
        verdict.claim(served, "its shard is served", world.bank.figures());
        world.ground.fleet.shards[0].replicas[0].resume().unwrap();
        world.ground.fleet.shards[0].primary.pause().unwrap();
        // The fault is that it says nothing for a moment.
        std::thread::sleep(Duration::from_millis(300));
        world.ground.fleet.shards[0].primary.resume().unwrap();
    }
    let figures = world.bank.figures();
    let errors = figures.errors.keys().all(|code| code != "25006");
    verdict.claim(errors, "no write goes to a standby", figures);
}

/// A command of the console; empty if it was done, else its error.
fn order(world: &World<'_>, command: &str) -> String {
    let endpoint = world.router.endpoint(USER, PASSWORD, "mothership");
    let mut console = Wire::login(&endpoint);
    console.set_limit(SOON + SOON);
    let frames = console.query(command);
    let error = frames.iter().find(|frame| frame.kind == b'E');
    error.map(ToString::to_string).unwrap_or_default()
}

/// The server in this place is a standby again.
fn rejoin(shard: &mut Shard, at: usize) {
    shard.rejoin(at);
    shard.wait_replayed();
}
