//! What clients send that is wrong, too much, or about themselves only: the router answers as PostgreSQL does, and the
//! others notice nothing.

use crate::ask::{Answer, ask, extended, read, say};
use crate::world::{NARROW, PLAIN, SOON, Setup, World};
use mothership_tests::message::{self, Format, GSSENC_REQUEST, SSL_REQUEST, V3_0};
use mothership_tests::proof::Verdict;
use mothership_tests::wire::Silence;
use mothership_tests::{Wire, bank, poll_until};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

/// Logins have little time, and nobody keeps a place without one.
pub const SHORT_LOGIN: Setup = Setup {
    listen: "login_timeout = \"2s\"",
    ..PLAIN
};
/// One connection that all clients of this role share.
pub const SHARED: Setup = Setup {
    listen: "workers = 1",
    narrow: "pool_max = 1",
    ..PLAIN
};

/// 34: cancels before, during and after the query, with wrong keys, and while the server works for somebody else.
pub fn cancels(world: &mut World<'_>, verdict: &mut Verdict) {
    let key = world.key(0);
    let sleep =
        |time: &str| format!("SELECT id, pg_sleep({time}) AS slept FROM accounts WHERE id = {key}");
    let (mut victim, mut neighbour) = (world.narrow(), world.narrow());
    let runs = "query LIKE '%slept%' AND state = 'active'";
    for _ in 0..5 {
        victim.send(&message::query(&sleep("600")));
        assert!(poll_until(SOON, || world.backends(runs) == 1));
        let (pid, mut secret) = victim.key.clone().expect("it is logged in");
        secret[0] ^= 1;
        let mut liar = Wire::connect(world.router.port());
        liar.send(&message::cancel(pid, &secret));
        assert!(liar.is_closed_within(SOON));
        // The one that waits behind it for the same connection.
        neighbour.send(&message::query(&sleep("0.02")));
        verdict.claim(world.backends(runs) == 1, "a wrong key cancels nothing", "");
        victim.cancel();
        let answer = read(&mut victim);
        verdict.claim(
            answer.is_error(&["57014"], 'I'),
            "a query is cancelled",
            answer,
        );
        let answer = read(&mut neighbour);
        verdict.claim(
            answer.errors().is_empty(),
            "the next on its connection is not",
            answer,
        );
        // It has ended: whoever has the server now must not notice.
        neighbour.send(&message::query(&sleep("2")));
        assert!(poll_until(SOON, || world.backends(runs) == 1));
        victim.cancel();
        let answer = read(&mut neighbour);
        verdict.claim(
            answer.errors().is_empty(),
            "nor is a neighbour by a late cancel",
            answer,
        );
        let answer = say(&mut victim, &sleep("0"));
        verdict.claim(
            answer.errors().is_empty(),
            "nor what is asked afterwards",
            answer,
        );
    }
    world.claim_served(verdict);
}

/// 37: connections that send half a startup packet.
pub fn half_a_startup(world: &mut World<'_>, verdict: &mut Verdict) {
    const COUNT: usize = 300;
    let startup = message::startup(V3_0, &[("user", bank::ROLE), ("database", &world.database)]);
    let before = world.router.memory();
    let begun = Instant::now();
    let mut slow: Vec<Wire> = (0..COUNT)
        .map(|_| {
            let mut wire = Wire::connect(world.router.port());
            wire.send(&startup[..startup.len() / 2]);
            wire
        })
        .collect();
    let each = world.router.memory().saturating_sub(before) / COUNT as u64;
    world.claim_served(verdict);
    let closed = slow
        .iter_mut()
        .filter_map(|wire| wire.try_frame(SOON).err());
    let closed = closed.filter(|silence| *silence == Silence::Closed).count();
    let took = begun.elapsed();
    let figure = format!("{closed} of {COUNT} after {took:.1?}");
    let in_time = took < Duration::from_secs(10);
    verdict.claim(
        closed == COUNT && in_time,
        "they are closed in time",
        figure,
    );
    verdict.claim(
        each < 16 << 10,
        "each costs little",
        format!("{each} bytes"),
    );
}

/// What is said to these bytes before the end: a SQLSTATE, or nothing; to protocol 2 an error is plain text.
fn end_of(port: u16, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut said = Vec::new();
    if let Err(error) = stream.read_to_end(&mut said)
        && error.kind() != ErrorKind::ConnectionReset
    {
        return format!("{error}");
    }
    if said.starts_with(b"EFATAL") {
        return "plain text".to_owned();
    }
    let field = said.windows(2).position(|pair| pair == b"\0C");
    field.map_or_else(String::new, |at| {
        String::from_utf8_lossy(&said[at + 2..at + 7]).into_owned()
    })
}

/// 38: first packets that are none, beside PostgreSQL itself.
pub fn wrong_startups(world: &mut World<'_>, verdict: &mut Verdict) {
    let own = [("user", bank::ROLE), ("database", "postgres")];
    let server = world.ground.fleet.shards[0].primary.port();
    for (what, bytes) in [
        ("length 0", vec![0; 4]),
        ("length 7", message::untyped(&[0; 3])),
        ("length 2^31", vec![0x80, 0, 0, 0, 0, 3, 0, 0]),
        ("length 2^31-1", vec![0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0]),
        ("garbage", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("version 4.0", message::startup(0x0004_0000, &own)),
        ("version 2.0", message::startup(0x0002_0000, &own)),
        (
            "no user",
            message::startup(V3_0, &[("database", "postgres")]),
        ),
        ("no terminator", message::untyped(&[0, 3, 0, 0, b'u', b's'])),
    ] {
        let [ours, theirs] = [world.router.port(), server].map(|port| end_of(port, &bytes));
        let figure = format!("{ours:?}, PostgreSQL {theirs:?}");
        // PostgreSQL says nothing at all to some; one more word does no harm.
        let alike = ours == theirs || (theirs.is_empty() && ours == "08P01");
        verdict.claim(
            alike,
            &format!("{what} is answered as by PostgreSQL"),
            figure,
        );
    }
    for codes in [[SSL_REQUEST, GSSENC_REQUEST], [GSSENC_REQUEST, SSL_REQUEST]] {
        let mut wire = Wire::connect(world.router.port());
        for code in codes {
            wire.send(&message::request(code));
            verdict.claim(wire.byte() == Ok(b'N'), "encryption is not offered", "N");
        }
        wire.send(&message::request(codes[0]));
        let answer = read(&mut wire);
        verdict.claim(
            answer.last() == "closed",
            "and is not asked for twice",
            answer,
        );
    }
    let mut wire = Wire::connect(world.router.port());
    wire.send(&message::startup(
        0x0003_0009,
        &[("user", bank::ROLE), ("database", &world.database)],
    ));
    let answer = read(&mut wire);
    let negotiated =
        answer.0[0] == "NegotiateProtocolVersion" && answer.last() == "ReadyForQuery I";
    verdict.claim(negotiated, "a newer minor version is negotiated", answer);
    world.claim_served(verdict);
}

/// 40: a message that claims to be a gigabyte.
pub fn long_claims(world: &mut World<'_>, verdict: &mut Verdict) {
    let before = world.router.memory();
    let mut clients: Vec<Wire> = (0..20).map(|_| world.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let kind = b"QPBdE"[number % 5];
        client.send(&[kind, 0x3f, 0xff, 0xff, 0xff, b'x']);
    }
    let answers: Vec<Answer> = clients.iter_mut().map(read).collect();
    let refused = answers.iter().filter(|answer| answer.last() == "closed");
    let refused = refused.filter(|answer| answer.errors().len() == 1).count();
    verdict.claim(
        refused == 20,
        "each is refused",
        format!("{refused}: {}", answers[0]),
    );
    let used = world.router.memory().saturating_sub(before);
    verdict.claim(
        used < 16 << 20,
        "and nothing is allocated",
        format!("{used} bytes"),
    );
    world.claim_served(verdict);
}

fn prepared(client: &mut Wire, name: &str, sql: Option<&str>) -> Answer {
    let parse = sql.map_or_else(Vec::new, |sql| message::parse(name, sql, &[]));
    let bind = message::bind("", name, Format::Text, &[], Format::Text);
    let rest = [bind, message::execute("", 0), message::sync()].concat();
    ask(client, &[parse, rest].concat())
}

/// 41: as many parameters, names and portals as the protocol has room for.
pub fn very_many(world: &mut World<'_>, verdict: &mut Verdict) {
    let mut client = world.client();
    let all: Vec<String> = (1..=65_535).map(|n| format!("${n}")).collect();
    let sql = format!("SELECT 1 WHERE '7' IN ({})", all.join(", "));
    let bind = message::bind_text(&vec!["7"; 65_535]);
    let request = [
        message::parse("", &sql, &[]),
        bind,
        message::execute("", 0),
        message::sync(),
    ];
    let answer = ask(&mut client, &request.concat());
    claim_clear(&answer, "65,535 parameters", verdict);
    for (what, is_same) in [("of as many texts", false), ("of one text", true)] {
        let name = |n| {
            let sql = format!("SELECT {}", if is_same { 0 } else { n });
            message::parse(&format!("{what} {n}"), &sql, &[])
        };
        let request = (1..=2000).map(name).chain([message::sync()]);
        let answer = ask(&mut client, &request.collect::<Vec<_>>().concat());
        let kept = answer.0.iter().filter(|line| *line == "ParseComplete");
        let kept = kept.count() == 2000;
        verdict.claim(kept, &format!("2,000 names {what} are kept"), answer);
    }
    prepared(&mut client, "one", Some("SELECT 1"));
    let portal = |n| {
        let portal = format!("portal {n}");
        message::bind(&portal, "one", Format::Text, &[], Format::Text)
    };
    let request = (0..10_000).map(portal).chain([message::sync()]);
    let answer = ask(&mut client, &request.collect::<Vec<_>>().concat());
    claim_clear(&answer, "10,000 portals", verdict);
    let answer = say(&mut client, "SELECT 7");
    verdict.claim(answer.rows() == ["7"], "the session goes on", answer);
    world.claim_served(verdict);
}

/// Done, or refused because of a limit.
fn claim_clear(answer: &Answer, what: &str, verdict: &mut Verdict) {
    let errors = answer.errors();
    let is_limit =
        |state: &str| state.starts_with("54") || state.starts_with("53") || state == "0A000";
    let clear = errors.is_empty() || (errors.len() == 1 && is_limit(errors[0]));
    let clear = clear && answer.last() == "ReadyForQuery I";
    verdict.claim(
        clear,
        &format!("{what} are taken, or refused clearly"),
        answer,
    );
}

/// 42: one name, two texts, two clients on one connection.
pub fn same_name(world: &mut World<'_>, verdict: &mut Verdict) {
    let keys = [world.bank.accounts()[0][0], world.bank.accounts()[0][1]];
    let mut clients = [world.narrow(), world.narrow()];
    let text = |at: usize| format!("SELECT id FROM accounts WHERE id = {}", keys[at]);
    for round in 0..20 {
        for (at, client) in clients.iter_mut().enumerate() {
            let sql = (round == 0).then(|| text(at));
            let answer = prepared(client, "same", sql.as_deref());
            if answer.rows() != [keys[at].to_string()] || round == 0 {
                let right = answer.rows() == [keys[at].to_string()];
                verdict.claim(right, "each has its own statement", answer);
            }
        }
    }
}

/// 43: definitions change under a prepared statement.
pub fn definitions_change(world: &mut World<'_>, verdict: &mut Verdict) {
    let key = world.key(0);
    let mut client = world.narrow();
    let mut owner = Wire::login(&world.router.endpoint(
        mothership_tests::shared::USER,
        mothership_tests::shared::PASSWORD,
        &world.database,
    ));
    say(
        &mut client,
        &format!("INSERT INTO victims VALUES ({key}, 'kept')"),
    );
    let sql = format!("SELECT * FROM victims WHERE id = {key}");
    prepared(&mut client, "all", Some(&sql));
    say(&mut owner, "ALTER TABLE victims ADD COLUMN more int");
    let answer = prepared(&mut client, "all", None);
    let as_postgres = answer.is_error(&["0A000"], 'I') || answer.rows().len() == 1;
    verdict.claim(
        as_postgres,
        "it is prepared anew, or fails as in PostgreSQL",
        answer,
    );
    let answer = ask(&mut client, &extended(&sql));
    verdict.claim(answer.rows().len() == 1, "a new one is right", answer);
}

/// 44: what one client deallocates.
pub fn deallocates(world: &mut World<'_>, verdict: &mut Verdict) {
    let key = world.key(0);
    let sql = format!("SELECT id FROM accounts WHERE id = {key}");
    for what in ["DEALLOCATE ALL", "DISCARD ALL", "DEALLOCATE mine"] {
        let (mut one, mut other) = (world.narrow(), world.narrow());
        for client in [&mut one, &mut other] {
            prepared(client, "mine", Some(&sql));
        }
        let done = say(&mut one, what);
        verdict.claim(done.is_done(), what, done);
        let answer = prepared(&mut one, "mine", None);
        verdict.claim(
            answer.is_error(&["26000"], 'I'),
            "its own statement is gone",
            answer,
        );
        let answer = prepared(&mut other, "mine", None);
        verdict.claim(
            answer.rows() == [key.to_string()],
            "that of another is there",
            answer,
        );
    }
}

/// 45: what one client leaves in its session.
pub fn session_state(world: &mut World<'_>, verdict: &mut Verdict) {
    for (what, set, look, clean) in [
        ("a setting", "SET work_mem = '77kB'", "SHOW work_mem", "4MB"),
        (
            "search_path",
            "SET search_path = pg_catalog",
            "SHOW search_path",
            "\"$user\", public",
        ),
        ("a role", "SET ROLE bank", "SELECT current_user", NARROW),
        (
            "an advisory lock",
            "SELECT pg_advisory_lock(77)",
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 77",
            "0",
        ),
        (
            "a temporary table",
            "CREATE TEMP TABLE left_behind (a int)",
            "SELECT count(*) FROM pg_class WHERE oid = to_regclass('left_behind')",
            "0",
        ),
        (
            "LISTEN",
            "LISTEN something",
            "SELECT count(*) FROM pg_listening_channels()",
            "0",
        ),
    ] {
        let mut one = world.narrow();
        say(&mut one, "SELECT 1");
        let done = say(&mut one, set);
        drop(one);
        let mut next = world.narrow();
        let answer = say(&mut next, look);
        let right = answer.rows() == [clean] && done.errors().is_empty();
        verdict.claim(
            right,
            &format!("{what} reaches nobody else"),
            format!("{done}; then {answer}"),
        );
    }
}
