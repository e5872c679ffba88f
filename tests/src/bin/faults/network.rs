//! Networks that are slow, narrow, or bring bytes one by one; and one that brings nothing.

use crate::ask::{Answer, ask, both, say};
use crate::world::{CLIENTS, PATIENCE, SOON, World};
use mothership_tests::level;
use mothership_tests::proof::{self, Verdict};
use mothership_tests::proxy::{Side, Travel};
use mothership_tests::{bank, message, poll_until};
use std::time::{Duration, Instant};

/// Statements of many kinds, whose answers do not change.
fn requests(world: &World<'_>) -> Vec<Vec<u8>> {
    let [a, b] = [0, 1].map(|shard| world.key(shard));
    let mut requests: Vec<Vec<u8>> = [
        &*format!("SELECT id FROM accounts WHERE id = {a}"),
        &format!("SELECT id, repeat('y', 3000) FROM accounts WHERE id IN ({a}, {b}) ORDER BY id"),
        "SELECT count(*), sum(id) FROM accounts",
        "SELECT id FROM accounts ORDER BY id",
        "SELECT no_such_column FROM accounts",
        "BEGIN",
        &format!("UPDATE accounts SET balance = balance WHERE id IN ({a}, {b})"),
        &format!("SELECT a.id FROM accounts a JOIN accounts b ON a.id = b.id + 1 WHERE a.id < {b} ORDER BY 1"),
        "ROLLBACK",
    ]
    .into_iter()
    .flat_map(both)
    .collect();
    requests.push([message::query("COPY (SELECT 1) TO STDOUT")].concat());
    requests
}

fn answers(world: &World<'_>, requests: &[Vec<u8>]) -> Vec<Answer> {
    let mut client = world.client();
    requests
        .iter()
        .map(|request| ask(&mut client, request))
        .collect()
}

fn claim_same(expected: &[Answer], found: &[Answer], verdict: &mut Verdict) {
    let mut pairs = expected.iter().zip(found);
    let other = pairs.find(|(expected, found)| expected != found);
    let figure = match other {
        None => format!("{} answers", found.len()),
        Some((expected, found)) => format!("{found}, and not {expected}"),
    };
    let same = other.is_none() && expected.len() == found.len();
    verdict.claim(same, "answers are what they were", figure);
}

fn one_byte() -> Travel {
    Travel {
        slice: Some(1),
        ..Travel::default()
    }
}

/// 14: a client that sends byte by byte.
pub fn client_byte_by_byte(world: &mut World<'_>, verdict: &mut Verdict) {
    let requests = requests(world);
    let expected = answers(world, &requests);
    world.front.travel(Side::Client, one_byte());
    claim_same(&expected, &answers(world, &requests), verdict);
}

/// 15: servers whose answers come byte by byte.
pub fn server_byte_by_byte(world: &mut World<'_>, verdict: &mut Verdict) {
    let requests = requests(world);
    let expected = answers(world, &requests);
    let slow = |way: &mothership_tests::Proxy| way.travel(Side::Server, one_byte());
    world.back.iter().for_each(slow);
    claim_same(&expected, &answers(world, &requests), verdict);
    world.claim_served(verdict);
}

/// 16: 100 ms more or less for each answer.
pub fn latency(world: &mut World<'_>, verdict: &mut Verdict) {
    let requests = requests(world);
    let expected = answers(world, &requests);
    let slow = Travel {
        latency: Duration::from_millis(80),
        jitter: Duration::from_millis(40),
        ..Travel::default()
    };
    world
        .back
        .iter()
        .for_each(|way| way.travel(Side::Server, slow));
    claim_same(&expected, &answers(world, &requests), verdict);
    world.claim_served(verdict);
    let most = level::most_on_one_shard(&world.ground.fleet, bank::ROLE);
    let bound = CLIENTS as i64 + 1;
    let claim = "there are no more server connections than clients";
    verdict.claim(most <= bound, claim, most);
    let figures = world.bank.figures();
    verdict.claim(figures.errors.is_empty(), "no transfer fails", figures);
}

/// 17: a megabit in a second.
pub fn narrow(world: &mut World<'_>, verdict: &mut Verdict) {
    let mut client = world.client();
    let key = world.key(0);
    let sql = format!("SELECT repeat('z', 300000) FROM accounts WHERE id = {key}");
    let narrow = Travel {
        rate: Some(125_000),
        slice: Some(1400),
        ..Travel::default()
    };
    world.back[0].travel(Side::Server, narrow);
    let begun = Instant::now();
    let answer = say(&mut client, &sql);
    let took = begun.elapsed();
    let right = answer.rows() == ["z".repeat(300_000)];
    verdict.claim(right, "a long row comes whole", format!("{took:.1?}"));
    let bound = Duration::from_secs(2)..Duration::from_secs(15);
    verdict.claim(
        bound.contains(&took),
        "and in the time that it takes",
        format!("{took:.1?}"),
    );
    world.claim_shards_served(&[1, 2], verdict);
    world.claim_served(verdict);
}

/// 7: a server from which and to which nothing comes.
pub fn silent(world: &mut World<'_>, verdict: &mut Verdict) {
    partition(world, verdict, &[Side::Client, Side::Server]);
}

/// 8: a server from which nothing comes.
pub fn one_way(world: &mut World<'_>, verdict: &mut Verdict) {
    partition(world, verdict, &[Side::Server]);
}

fn partition(world: &mut World<'_>, verdict: &mut Verdict, held: &[Side]) {
    let key = world.key(0);
    let (mut reader, mut writer) = (world.client(), world.client());
    say(&mut writer, "BEGIN");
    say(
        &mut writer,
        &format!("INSERT INTO victims VALUES ({key}, 'silent')"),
    );
    say(
        &mut reader,
        &format!("SELECT id FROM accounts WHERE id = {key}"),
    );
    held.iter().for_each(|side| world.back[0].hold(*side));
    let begun = Instant::now();
    let read = format!("SELECT id FROM accounts WHERE id = {key}");
    reader.send(&message::query(&read));
    writer.send(&message::query("COMMIT"));
    world.claim_shards_served(&[1, 2], verdict);
    let health = || {
        let shown = proof::console(&world.router, "SHOW ENDPOINTS");
        let of = shown.iter().find(|server| server["shard"] == "s1");
        of.map(|server| server["health"].clone())
            .unwrap_or_default()
    };
    let noticed = poll_until(SOON, || health() != "up");
    verdict.claim(noticed, "the server is marked down", health());
    let [read, write] = [&mut reader, &mut writer].map(|client| {
        client.set_limit(PATIENCE.saturating_sub(begun.elapsed()));
        let answer = crate::ask::read(client);
        (answer, begun.elapsed())
    });
    let (answer, took) = read;
    let told = answer.errors().len() == 1 && answer.errors()[0].starts_with("08");
    let figure = format!("{answer} after {took:.1?}");
    verdict.claim(told, "a read on it fails in time", figure);
    let (answer, took) = write;
    let figure = format!("{answer} after {took:.1?}");
    let told = answer.is_error(&["08007"], 'I');
    verdict.claim(
        told,
        "the outcome of a COMMIT on it is unknown, in time",
        figure,
    );
}
