//! Bytes that are changed on their way from a server: what can be seen of it ends the connection, and nothing wrong
//! reaches a client.
//!
//! Without TLS only types and lengths can be seen to be wrong; a bit inside of a value cannot.

use crate::ask::{Answer, ask, both};
use crate::world::{PLAIN, SOON, Setup, World};
use mothership_tests::poll_until;
use mothership_tests::proof::Verdict;
use mothership_tests::proxy::{Effect, Side, Trap};
use rand::RngExt;

/// A length that has become larger lets the router wait for what never comes: only a limit of time ends that.
pub const SETUP: Setup = Setup {
    pool: "query_timeout = \"2s\"\nreset_timeout = \"500ms\"\ncancel_timeout = \"500ms\"",
    ..PLAIN
};

/// Types of messages in the answer to a SELECT.
const KINDS: [u8; 4] = [b'T', b'D', b'C', b'Z'];

/// 19: types and lengths.
pub fn types_and_lengths(world: &mut World<'_>, verdict: &mut Verdict) {
    let key = world.key(1);
    let mut client = world.client();
    for kind in KINDS {
        // Every bit of a type, and some bit of each byte of a length.
        let types = (0..8).map(|bit| (0, 1 << bit));
        let high = 1 << world.rng.random_range(4..8);
        let mut lengths = vec![(1, high)];
        lengths.extend((2..5).map(|at| (at, 1 << world.rng.random_range(0..8))));
        for (at, mask) in types.chain(lengths) {
            let mark = format!("changed_{}_{at}_{mask}", char::from(kind).to_lowercase());
            let sql = format!("SELECT id AS {mark} FROM accounts WHERE id = {key}");
            let request = both(&sql)[0].clone();
            let flip = Effect::Flip { at, mask };
            let trap = Trap::before(Side::Server, kind, flip);
            world.back[1].set(trap.once_seen(Side::Client, &mark));
            let answer = ask(&mut client, &request);
            let sprung = world.back[1].springs_within(SOON);
            let what = format!("{} byte {at} mask {mask:#x}: {answer}", char::from(kind));
            let safe = sprung && is_safe(&answer, key);
            verdict.claim(safe, "a changed type or length is an error", what);
            let gone = poll_until(SOON, || {
                world.backends(&format!("query LIKE '%{mark}%'")) == 0
            });
            verdict.claim(gone, "its connection is used no more", gone);
            let next = ask(
                &mut client,
                &both(&format!("SELECT id FROM accounts WHERE id = {key}"))[1],
            );
            // A statement that could not even be cancelled ends its session.
            if answer.last() == "closed" {
                client = world.client();
            } else if next.rows() != [key.to_string()] {
                verdict.claim(false, "the session goes on", next);
            }
        }
    }
    world.claim_served(verdict);
}

/// One error that blames the connection, the length, or says that the time is over; and no row of other values. A row
/// that has become shorter than its values passes before that is seen, and no driver takes it for one; a row that has
/// become an error says nothing of its own. What nothing was seen of is asked once more, of another connection.
fn is_safe(answer: &Answer, key: i64) -> bool {
    let whole = key.to_string();
    let right = |row: &&str| **row == whole || *row == "(damaged)";
    let told = ["08P01", "08006", "54000", "57014"];
    let errors = answer.errors();
    let known: Vec<_> = errors.iter().filter(|code| told.contains(code)).collect();
    let damaged = |code: &&str| !code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let others = errors.iter().filter(|code| !told.contains(code));
    let fails = known.len() == 1 && others.clone().all(damaged) && others.count() <= 1;
    answer.rows().iter().all(right) && (fails || is_whole(answer, &whole))
}

/// The answer as it would be without any fault.
fn is_whole(answer: &Answer, row: &str) -> bool {
    let Answer(lines) = answer;
    let [columns, values, command, ready] = &lines[..] else {
        return false;
    };
    columns.starts_with("RowDescription changed_")
        && *values == format!("DataRow {row}")
        && command == "CommandComplete SELECT 1"
        && ready == "ReadyForQuery I"
}
