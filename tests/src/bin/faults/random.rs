//! What a client sends after its login, changed at random: it is answered rightly or told that it breaks the protocol,
//! and nobody else notices.

use crate::ask::say;
use crate::world::{SOON, World};
use mothership_tests::message::Format;
use mothership_tests::proof::Verdict;
use mothership_tests::wire::Silence;
use mothership_tests::{Wire, message};
use rand::RngExt;
use rand::rngs::StdRng;

/// Streams that are sent, each by a client of its own.
const STREAMS: usize = 400;
/// Streams between two looks at somebody else.
const BETWEEN: usize = 40;

/// 39: hundreds of streams.
pub fn streams(world: &mut World<'_>, verdict: &mut Verdict) {
    let key = world.key(0);
    let good = good(key, world.key(1));
    let mut other = world.client();
    say(&mut other, "BEGIN");
    say(&mut other, "SET LOCAL work_mem = '1234kB'");
    let (mut violations, mut closed, mut answered, mut wrong) = (0, 0, 0, Vec::new());
    for number in 0..STREAMS {
        let stream = changed(&good, &mut world.rng);
        let mut client = world.client();
        let _ = client.try_send(&stream);
        // Whatever is not whole is never going to be.
        client.try_finish_sending();
        match end(&mut client) {
            End::Violation => violations += 1,
            End::Closed { answers: 0 } => closed += 1,
            End::Closed { .. } => answered += 1,
            End::Wrong(what) => wrong.push(format!("{what} to {}", shown(&stream))),
        }
        if number % BETWEEN == 0 {
            let answer = say(&mut other, "SHOW work_mem");
            let right = answer.rows() == ["1234kB"] && answer.last() == "ReadyForQuery T";
            if !right {
                wrong.push(format!("another client is told {answer}"));
            }
        }
    }
    let figure = format!(
        "{violations} violations, {answered} answered, {closed} closed; {} wrong: {:?}",
        wrong.len(),
        wrong.first()
    );
    let claim = "each is answered or told that it breaks the protocol, and closed";
    verdict.claim(wrong.is_empty(), claim, figure);
    let some = violations > STREAMS / 20 && answered > STREAMS / 20;
    verdict.claim(some, "both happens", violations);
    let answer = say(&mut other, "ROLLBACK");
    verdict.claim(
        answer.is_done(),
        "another client's transaction ends",
        answer,
    );
    world.claim_served(verdict);
    let log = world.router.log();
    let panic = log.lines().find(|line| line.contains("panicked"));
    verdict.claim(
        panic.is_none(),
        "the router has not panicked",
        format!("{panic:?}"),
    );
}

/// How a conversation ended.
enum End {
    /// By a violation of the protocol that was told.
    Violation,
    /// The connection was closed after so many answers.
    Closed { answers: usize },
    /// By something that may not be.
    Wrong(String),
}

/// Reads whatever is said until the connection is closed.
fn end(client: &mut Wire) -> End {
    let mut answers = 0;
    loop {
        let frame = match client.try_frame(SOON) {
            Ok(frame) => frame,
            Err(Silence::Closed) => return End::Closed { answers },
            Err(Silence::Late) => return End::Wrong(format!("silence after {answers} answers")),
        };
        answers += 1;
        let fatal = frame.kind == b'E' && frame.field('S').is_some_and(|s| s == "FATAL");
        if fatal {
            let state = frame.sqlstate();
            return match (client.is_closed_within(SOON), &*state) {
                (false, _) => End::Wrong(format!("{frame}, and it is not closed")),
                (true, "08P01" | "54000") => End::Violation,
                (true, _) => End::Wrong(frame.to_string()),
            };
        }
    }
}

/// Streams that a driver could send; they change nothing for long.
fn good(key: i64, other: i64) -> Vec<Vec<u8>> {
    let sql = format!("SELECT id, balance FROM accounts WHERE id IN ({key}, {other})");
    let by_value = "SELECT id FROM accounts WHERE id = $1";
    let key = key.to_string();
    let one = |sql: &str| crate::ask::extended(sql);
    let named = [
        message::parse("s", by_value, &[20]),
        message::describe_statement("s"),
        message::bind(
            "p",
            "s",
            Format::Text,
            &[Some(key.as_bytes())],
            Format::Text,
        ),
        message::describe_portal("p"),
        message::execute("p", 1),
        message::flush(),
        message::execute("p", 0),
        message::close_portal("p"),
        message::close_statement("s"),
        message::sync(),
    ];
    let copy = [
        message::query("BEGIN"),
        message::query("COPY victims FROM STDIN"),
        message::copy_data(format!("{key}\tx\n").as_bytes()),
        message::copy_fail("no more"),
        message::query("ROLLBACK"),
    ];
    let block = [
        message::query("BEGIN"),
        message::query(&format!("INSERT INTO victims VALUES ({key}, 'random')")),
        one(&sql),
        message::query("ROLLBACK"),
    ];
    vec![
        message::query(&sql),
        one(&sql),
        named.concat(),
        copy.concat(),
        block.concat(),
        message::query("SELECT 1; SELECT 2; SELECT nothing"),
        [one("SELECT 1"), message::terminate()].concat(),
    ]
}

/// One of them, changed in some places; of types and lengths more often than elsewhere.
fn changed(good: &[Vec<u8>], rng: &mut StdRng) -> Vec<u8> {
    let mut data = good[rng.random_range(0..good.len())].clone();
    for _ in 0..rng.random_range(1..4) {
        let starts = starts(&data);
        let start = starts[rng.random_range(0..starts.len())];
        let at = match rng.random_range(0..2) {
            0 => (start + rng.random_range(0..5)).min(data.len()),
            _ => rng.random_range(0..=data.len()),
        };
        let to = (at + rng.random_range(0..16)).min(data.len());
        match rng.random_range(0..7) {
            0 | 1 if at < data.len() => data[at] ^= 1 << rng.random_range(0..8),
            2 if at < data.len() => data[at] = rng.random(),
            3 => data.insert(at, rng.random()),
            4 => drop(data.drain(at..to)),
            5 => {
                let run = data[at..to].to_vec();
                data.splice(at..at, run);
            }
            _ => {
                // Whole messages of another, where one may begin.
                let other = &good[rng.random_range(0..good.len())];
                data.splice(start..start, other.iter().copied());
            }
        }
        if data.is_empty() {
            return data;
        }
    }
    data
}

/// Where messages begin.
fn starts(data: &[u8]) -> Vec<usize> {
    let mut starts = vec![0];
    let mut at = 0;
    while let Some(length) = data.get(at + 1..at + 5) {
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        at += 1 + length;
        if at >= data.len() {
            break;
        }
        starts.push(at);
    }
    starts
}

fn shown(stream: &[u8]) -> String {
    String::from_utf8_lossy(stream).escape_debug().to_string()
}
