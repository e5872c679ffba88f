//! Servers that are killed, stopped, full, or down.

use crate::ask::{ask, both, extended, read, say};
use crate::world::{NARROW, PLAIN, SOON, Setup, World};
use mothership_tests::proof::{self, Verdict};
use mothership_tests::{Router, Wire, bank, message, poll_until};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

/// Statements have an end.
pub const OTHER_POOL: Setup = Setup {
    pool: "query_timeout = \"2s\"",
    ..PLAIN
};
/// The catalog grows old soon.
pub const SHORT_CATALOG: Setup = Setup {
    more: "[catalog]\nrefresh_interval = \"2s\"\n",
    ..PLAIN
};

/// Draining has an end, and says so before it begins.
pub const SHORT_DRAIN: Setup = Setup {
    listen: "drain_timeout = \"5s\"\ndrain_delay = \"2s\"",
    more: "[metrics]\nport = @metrics_port@\n",
    ..PLAIN
};

fn signal(pid: &str, signal: i32) {
    let pid = pid.parse().unwrap();
    // SAFETY: kill touches no memory. The process is a backend of a server of ours.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "process {pid}");
}

fn row_of(key: i64) -> String {
    format!("SELECT id FROM accounts WHERE id = {key}")
}

/// Begins a transaction on the first shard; the process that serves it.
fn backend(world: &World<'_>, client: &mut Wire) -> String {
    say(client, "BEGIN");
    let sql = format!(
        "SELECT id AS served FROM accounts WHERE id = {}",
        world.key(0)
    );
    say(client, &sql);
    let pid = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
        AND query LIKE '%AS served%' AND state = 'idle in transaction'";
    world.sql(0, pid)
}

/// 20: a backend is killed, and its server restarts.
pub fn backend_killed(world: &mut World<'_>, verdict: &mut Verdict) {
    let key = world.key(0);
    let (mut idle, mut open) = (world.client(), world.client());
    say(&mut idle, &row_of(key));
    world.hold(verdict);
    let pid = backend(world, &mut open);
    say(
        &mut open,
        &format!("INSERT INTO victims VALUES ({key}, 'killed')"),
    );
    signal(&pid, libc::SIGKILL);
    let begun = Instant::now();
    let answer = say(&mut idle, &row_of(key));
    let figure = format!("{answer} after {:.0?}", begun.elapsed());
    let absorbed = answer.rows() == [key.to_string()] && answer.errors().is_empty();
    verdict.claim(
        absorbed,
        "a client that was idle waits for the restart",
        figure,
    );
    let answer = say(
        &mut open,
        &format!("INSERT INTO victims VALUES ({key}, 'killed')"),
    );
    verdict.claim(
        answer.is_error(&["57P02", "08006"], 'E'),
        "a transaction fails once",
        answer,
    );
    say(&mut open, "ROLLBACK");
    let server = &mut world.ground.fleet.shards[0].primary;
    server.wait_ready(SOON).unwrap();
    let left = world.marked("killed");
    verdict.claim(left == 0, "and is undone", left);
    world.bank.release();
}

/// 21: a postmaster is stopped: whoever is connected goes on.
pub fn postmaster_stopped(world: &mut World<'_>, verdict: &mut Verdict) {
    let key = world.key(0);
    let mut open = world.client();
    backend(world, &mut open);
    let mut new = world.narrow();
    // Its login has asked a server; its statement is to need a new connection.
    let of_it = format!("usename = '{NARROW}'");
    assert!(poll_until(SOON, || world.backends(&of_it) == 0));
    let postmaster = world.ground.fleet.shards[0]
        .primary
        .pid()
        .unwrap()
        .to_string();
    signal(&postmaster, libc::SIGSTOP);
    let begun = Instant::now();
    new.send(&message::query(&row_of(key)));
    for request in both(&row_of(key)) {
        let answer = ask(&mut open, &request);
        let right = answer.rows() == [key.to_string()];
        verdict.claim(right, "a session that was open goes on", answer);
    }
    world.claim_shards_served(&[1, 2], verdict);
    let answer = read(&mut new);
    let took = begun.elapsed();
    let told = answer.errors().len() == 1 && took < Duration::from_secs(12);
    let figure = format!("{answer} after {took:.1?}");
    verdict.claim(told, "a new connection fails in time", figure);
    signal(&postmaster, libc::SIGCONT);
    say(&mut open, "COMMIT");
}

/// 22: one backend is stopped.
pub fn backend_stopped(world: &mut World<'_>, verdict: &mut Verdict) {
    let key = world.key(0);
    for cancels in [false, true] {
        let mut client = world.client();
        let pid = backend(world, &mut client);
        signal(&pid, libc::SIGSTOP);
        let begun = Instant::now();
        client.send(&message::query(&row_of(key)));
        if cancels {
            client.cancel();
        }
        world.claim_shards_served(&[0, 1, 2], verdict);
        let answer = read(&mut client);
        let took = begun.elapsed();
        let told = answer.errors() == ["57014"] && took < Duration::from_secs(15);
        let figure = format!("{answer} after {took:.1?}");
        verdict.claim(told, "its client is told in time", figure);
        signal(&pid, libc::SIGCONT);
        // What could not even be cancelled ends its session, see docs/limits.md.
        let next = say(&mut world.client(), &row_of(key));
        let served = next.rows() == [key.to_string()];
        verdict.claim(served, "the next one is served", next);
    }
}

/// 29: a server takes fewer connections than the pool would have.
pub fn too_many_connections(world: &mut World<'_>, verdict: &mut Verdict) {
    world.hold(verdict);
    let limit = |count: i32| {
        let sql = format!("ALTER ROLE {} CONNECTION LIMIT {count}", bank::ROLE);
        world.sql(0, &sql);
    };
    limit(2);
    assert!(poll_until(SOON, || world.backends("true") == 0));
    world.bank.release();
    world.claim_served(verdict);
    let served = world.bank.serves(0, 20, SOON);
    limit(-1);
    verdict.claim(served, "its shard is served", world.bank.figures());
    let figures = world.bank.figures();
    verdict.claim(
        figures.errors.is_empty(),
        "transfers wait for what there is",
        figures,
    );
}

/// 30: a server starts up while somebody wants something.
pub fn starting_up(world: &mut World<'_>, verdict: &mut Verdict) {
    let key = world.key(0);
    let mut client = world.client();
    for request in [
        both(&row_of(key)),
        both(&format!(
            "UPDATE accounts SET balance = balance WHERE id = {key}"
        )),
    ]
    .concat()
    {
        world.hold(verdict);
        world.ground.fleet.shards[0].primary.kill9();
        client.send(&request);
        world.ground.fleet.shards[0].primary.start().unwrap();
        let answer = read(&mut client);
        let right = answer.errors().is_empty() && answer.is_done();
        verdict.claim(right, "a statement waits for the server", answer);
        world.bank.release();
    }
}

/// 33: what the server limits.
pub fn server_timeouts(world: &mut World<'_>, verdict: &mut Verdict) {
    let key = world.key(0);
    let lock = format!("SELECT id FROM accounts WHERE id = {key} FOR UPDATE");
    let sleep = format!("SELECT pg_sleep(600) FROM accounts WHERE id = {key}");
    world.hold(verdict);
    let mut holder = world.client();
    for (setting, statement, expected) in [
        ("statement_timeout", &sleep, "57014"),
        ("lock_timeout", &lock, "55P03"),
    ] {
        for request in both(statement) {
            say(&mut holder, "BEGIN");
            say(&mut holder, &lock);
            let mut client = world.client();
            say(&mut client, &format!("SET {setting} = '100ms'"));
            let answer = ask(&mut client, &request);
            verdict.claim(answer.is_error(&[expected], 'I'), setting, answer);
            say(&mut holder, "ROLLBACK");
            let shown = say(&mut holder, &format!("SHOW {setting}"));
            verdict.claim(shown.rows() == ["0"], "reaches nobody else", shown);
        }
    }
    let mut client = world.client();
    say(
        &mut client,
        "SET idle_in_transaction_session_timeout = '100ms'",
    );
    say(&mut client, "BEGIN");
    say(&mut client, &lock);
    let gone = poll_until(SOON, || {
        world.backends("state LIKE 'idle in transaction%'") == 0
    });
    assert!(gone, "the server does not end it");
    let answer = ask(&mut client, &extended(&row_of(key)));
    let told = answer.errors().len() == 1 && ["25P03", "08006"].contains(&answer.errors()[0]);
    verdict.claim(told, "idle_in_transaction_session_timeout", answer);
    world.bank.release();
}

/// 46: a shard is down, for longer than knowledge of it lasts.
pub fn shard_down(world: &mut World<'_>, verdict: &mut Verdict) {
    let keys = [0, 1, 2].map(|shard| world.key(shard));
    let mut client = world.client();
    world.ground.fleet.shards[1].primary.kill9();
    let since = Instant::now();
    let mut wrong = Vec::new();
    // `catalog.refresh_interval` is two seconds.
    while since.elapsed() < Duration::from_secs(8) {
        for key in [keys[0], keys[2]] {
            let answer = say(&mut client, &row_of(key));
            if answer.rows() != [key.to_string()] {
                wrong.push(format!("{:.0?}: {answer}", since.elapsed()));
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let figure = format!("{} failed, {:?}", wrong.len(), wrong.first());
    verdict.claim(wrong.is_empty(), "keys of other shards are served", figure);
    let answer = say(&mut client, &row_of(keys[1]));
    verdict.claim(
        answer.is_error(&["08006"], 'I'),
        "its own keys fail with 08006",
        &answer,
    );
    verdict.claim(
        answer.0[0].contains("s2"),
        "and the error names the shard",
        answer,
    );
    world.ground.fleet.shards[1].primary.start().unwrap();
}

/// 51: the router is told to end.
pub fn terminated(world: &mut World<'_>, verdict: &mut Verdict) {
    let keys = [world.key(0), world.key(1)];
    let (mut idle, mut open, mut stays) = (world.client(), world.client(), world.client());
    say(&mut idle, &row_of(keys[0]));
    for client in [&mut open, &mut stays] {
        say(client, "BEGIN");
        for key in keys {
            let mark = "INSERT INTO victims VALUES";
            say(client, &format!("{mark} ({key}, 'drained')"));
        }
    }
    world.claim_served(verdict);
    let begun = Instant::now();
    world.router.sigterm();
    let mut answer = None;
    let off = poll_until(SOON, || {
        answer = readiness(&world.router);
        answer.as_deref() == Some("503")
    });
    verdict.claim(off, "readiness is off first", format!("{answer:?}"));
    let answer = say(&mut idle, &row_of(keys[0]));
    verdict.claim(
        answer.is_done(),
        "and all are served until the port closes",
        answer,
    );
    let answer = read(&mut idle);
    let told = answer.errors() == ["57P01"] && answer.last() == "closed";
    verdict.claim(told, "who is idle is told", answer);
    let answer = say(&mut open, &row_of(keys[0]));
    verdict.claim(
        answer.last() == "ReadyForQuery T",
        "who is in a transaction goes on",
        answer,
    );
    let answer = say(&mut open, "COMMIT");
    verdict.claim(
        answer.is_done() && world.marked("drained") == 2,
        "and commits",
        answer,
    );
    let answer = read(&mut open);
    verdict.claim(answer.errors() == ["57P01"], "and is told then", answer);
    let answer = read(&mut stays);
    let ended = answer.errors() == ["57P01"];
    verdict.claim(ended, "who does not end its transaction is ended", answer);
    let status = world.router.wait(SOON);
    let figure = format!("{status} after {:.1?}", begun.elapsed());
    verdict.claim(status.success(), "the router ends in time", figure);
    let figures = world.bank.figures();
    let unknown = figures.unknown;
    verdict.claim(unknown == 0, "no outcome is unknown", figures);
    let left = world.marked("drained");
    verdict.claim(left == 2, "and nothing of it is left", left);
    world.router.start_again();
}

/// The status of `/ready`, if anybody answers.
fn readiness(router: &Router) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, router.metrics_port())).ok()?;
    stream.set_read_timeout(Some(SOON)).ok()?;
    stream.write_all(b"GET /ready HTTP/1.1\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1).map(str::to_owned)
}

/// 58: the router gets no CPU for five seconds.
pub fn router_stopped(world: &mut World<'_>, verdict: &mut Verdict) {
    let before = world.router.log().len();
    world.router.sigstop();
    // The fault is that time passes.
    std::thread::sleep(Duration::from_secs(5));
    world.router.sigcont();
    world.claim_served(verdict);
    let shown = proof::console(&world.router, "SHOW ENDPOINTS");
    let health: Vec<&String> = shown.iter().map(|server| &server["health"]).collect();
    let up = health.iter().all(|health| *health == "up");
    verdict.claim(up, "no server is taken for dead", format!("{health:?}"));
    let log = world.router.log();
    let down = log[before..].lines().find(|line| line.contains("down"));
    verdict.claim(
        down.is_none(),
        "nor was one for a moment",
        format!("{down:?}"),
    );
    let figures = world.bank.figures();
    verdict.claim(figures.errors.is_empty(), "no transfer fails", figures);
}
