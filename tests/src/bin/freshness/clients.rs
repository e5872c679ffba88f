//! Who writes and who reads while servers come and go.

use crate::SOON;
use crate::promise::{Level, ROWS, Told};
use mothership_tests::frame::Frame;
use mothership_tests::message::{self, Format};
use mothership_tests::wire::Silence;
use mothership_tests::{Endpoint, Wire, poll_until};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Requests of one pipeline, each with a Sync of its own, so that each has its own choice of a server.
pub const PIPELINE: usize = 25;
/// The column of each router.
const COLUMNS: [&str; 2] = ["a", "b"];
/// Rows that belong to one reader.
pub const OWN: i64 = 16;
/// Of so many pipelines of a session that writes itself, one has a write before it.
const ONE_IN: u32 = 40;

/// The first row of a reader, less one.
pub fn first(reader: u64) -> i64 {
    1_000 * (i64::try_from(reader).unwrap() + 1)
}

/// Writes in three ways, in bursts, with pauses in which replicas catch up and get their turn.
pub fn write(endpoint: &Endpoint, router: usize, told: &Told, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut wire = log_in(endpoint);
    while !told.done.load(Ordering::SeqCst) {
        for _ in 0..rng.random_range(1..20) {
            let id = rng.random_range(1..=ROWS);
            let number = told.number();
            match write_one(&mut wire, router, id, number) {
                Ok(()) => told.acknowledged(router, id, number),
                Err(error) => {
                    told.failed(&error);
                    wire = log_in(endpoint);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(rng.random_range(50..600)));
    }
}

/// Gives the row this number; what was said if that is not acknowledged.
fn write_one(wire: &mut Wire, router: usize, id: i64, number: i64) -> Result<(), String> {
    let column = COLUMNS[router];
    let update = format!("UPDATE t SET {column} = {number} WHERE id = {id}");
    let in_one = format!("BEGIN; {update}; COMMIT");
    let texts: &[&str] = match number % 3 {
        0 => &[&update],
        1 => &[&in_one],
        _ => &["BEGIN", &update, "COMMIT"],
    };
    for text in texts {
        wire.try_send(&message::query(text)).map_err(|_| lost())?;
        let frames = wire.try_until_ready().map_err(|(frames, silence)| {
            assert!(silence == Silence::Closed, "{text}: {silence:?}");
            code(&frames).unwrap_or_else(lost)
        })?;
        if let Some(code) = code(&frames) {
            return Err(code);
        }
    }
    Ok(())
}

/// Pipelines of prepared reads until all are done, through a router. With the level of sessions the reader writes rows
/// of its own now and then, and reads those.
pub fn read(endpoint: &Endpoint, (router, reader): (usize, u64), told: &Told, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let begin = || {
        let mut wire = log_in(endpoint);
        prepare(&mut wire);
        // A new session was told nothing.
        (wire, HashMap::<i64, i64>::new())
    };
    let (mut wire, mut own) = begin();
    let rows = match told.level {
        Level::Session => first(reader) + 1..=first(reader) + OWN,
        Level::Router | Level::Bounded => 1..=ROWS,
    };
    let batch = i64::try_from(PIPELINE).unwrap();
    while !told.done.load(Ordering::SeqCst)
        && (told.left.fetch_sub(batch, Ordering::SeqCst) > 0 || !told.struck.load(Ordering::SeqCst))
    {
        if told.level == Level::Session && rng.random_ratio(1, ONE_IN) {
            let (id, number) = (rng.random_range(rows.clone()), told.number());
            match write_one(&mut wire, router, id, number) {
                Ok(()) => {
                    own.insert(id, number);
                }
                Err(error) => {
                    told.failed(&error);
                    (wire, own) = begin();
                }
            }
        }
        let ids: Vec<i64> = (0..PIPELINE)
            .map(|_| rng.random_range(rows.clone()))
            .collect();
        let least = |id: &i64| match told.level {
            Level::Session => {
                let mut least = [0; 2];
                least[router] = own.get(id).copied().unwrap_or(0);
                least
            }
            Level::Router | Level::Bounded => told.promised(router, *id),
        };
        let least: Vec<[i64; 2]> = ids.iter().map(least).collect();
        let found = pipeline(&mut wire, &ids);
        let whole = found.len() == ids.len();
        for (found, least) in found.into_iter().zip(least) {
            match found {
                Ok(found) => told.judge(found, least),
                Err(code) => told.failed(&code),
            }
        }
        if !whole {
            (wire, own) = begin();
        }
    }
}

/// Logs in as soon as somebody is let in.
pub fn log_in(endpoint: &Endpoint) -> Wire {
    let mut wire = None;
    let is_in = poll_until(SOON, || {
        let Ok(mut new) = Wire::try_connect(endpoint.port) else {
            return false;
        };
        new.set_limit(SOON);
        let is_in = new.ask_in(endpoint, message::V3_0, &[]).is_ok();
        wire = Some(new).filter(|_| is_in);
        is_in
    });
    assert!(is_in, "nobody is let in");
    wire.unwrap()
}

pub fn prepare(wire: &mut Wire) {
    wire.send_all(&[
        message::parse("r", "SELECT a, b FROM t WHERE id = $1", &[20]),
        message::sync(),
    ]);
    let frames = wire.until_ready();
    assert_eq!(frames[0].kind, b'1', "{frames:?}");
}

/// Reads these rows, each by a request of its own, all sent at once. For each one what was found, or the code of the
/// error; fewer if the connection ended.
pub fn pipeline(wire: &mut Wire, ids: &[i64]) -> Vec<Result<[i64; 2], String>> {
    let read = |id: &i64| {
        let value = id.to_be_bytes();
        let values = [Some(value.as_slice())];
        [
            message::bind("", "r", Format::Binary, &values, Format::Binary),
            message::execute("", 0),
            message::sync(),
        ]
        .concat()
    };
    if wire
        .try_send(&ids.iter().map(read).collect::<Vec<_>>().concat())
        .is_err()
    {
        return Vec::new();
    }
    let mut found = Vec::with_capacity(ids.len());
    for _ in ids {
        match wire.try_until_ready() {
            Ok(frames) => found.push(match code(&frames) {
                Some(code) => Err(code),
                None => Ok(numbers(&frames)),
            }),
            Err((frames, Silence::Closed)) => {
                found.extend(code(&frames).map(Err));
                // One less at least than was asked for, so that the connection is made anew.
                found.truncate(ids.len() - 1);
                return found;
            }
            Err((frames, silence)) => panic!("{silence:?} after {frames:?}"),
        }
    }
    found
}

fn numbers(frames: &[Frame]) -> [i64; 2] {
    // Four, because the client is not told when another server answers.
    assert_eq!(frames.len(), 4, "{frames:?}");
    let values = frames[1].row().into_iter();
    let number = |value: Option<Vec<u8>>| i64::from_be_bytes(value.unwrap().try_into().unwrap());
    let numbers: Vec<i64> = values.map(number).collect();
    [numbers[0], numbers[1]]
}

fn code(frames: &[Frame]) -> Option<String> {
    let error = frames.iter().find(|frame| frame.kind == b'E');
    error.map(Frame::sqlstate)
}

fn lost() -> String {
    "the connection ended".to_owned()
}
