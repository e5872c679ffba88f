//! How many transactions go through in a second where clients meet, on one PostgreSQL and through the router in turns.
//!
//! The loads are those of ADR 33's table. Each is run for a while on one side and then on the other, several times; told is
//! the median of each side and of the ratios of both, with the lowest and the highest ratio.
//!
//! One of them is also committed by hand: clients send it to the three servers themselves, with the fewest messages that
//! commit on all or on none, and write no decision. No router can be faster than that on this machine.

use crate::play::Side;
use mothership_tests::{Endpoint, Frame, Wire, message};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A load: its name, how many clients, and the statements of a transaction.
type Load = (&'static str, usize, &'static [&'static str]);

const UPSERT: &[&str] = &[
    "INSERT INTO acc (id, n) VALUES (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1) \
    ON CONFLICT (id) DO UPDATE SET n = acc.n + 1",
];
const LIST: &[&str] = &["UPDATE acc SET n = n + 1 WHERE id IN (1, 2, 3, 4)"];
const SORTED: &[&str] = &["SELECT id, n FROM acc WHERE id <= 6 ORDER BY id FOR UPDATE"];
const COPIES: &[&str] = &["UPDATE cfg SET n = n + 1 WHERE id = 1"];
const BLOCK: &[&str] = &[
    "BEGIN",
    "UPDATE acc SET n = n + 1 WHERE id IN (1, 2, 3)",
    "UPDATE acc SET n = n + 1 WHERE id IN (4, 5, 6)",
    "COMMIT",
];

const NIGHTLY: &[&str] = &[
    "BEGIN",
    "INSERT INTO acc (id, n) SELECT g, 1 FROM generate_series(1, 40) g ON CONFLICT (id) DO UPDATE SET n = acc.n + excluded.n",
    "COMMIT",
];
const WITHIN: &[&str] = &[
    "BEGIN",
    "WITH u AS (UPDATE acc SET n = n + 1 WHERE id IN (1, 2, 3, 4) RETURNING id, n) SELECT * FROM u",
    "COMMIT",
];

const LOADS: [Load; 10] = [
    ("upsert of the same 6 keys, 1 client", 1, UPSERT),
    ("upsert of the same 6 keys, 3 clients", 3, UPSERT),
    ("upsert of the same 6 keys, 6 clients", 6, UPSERT),
    (
        "UPDATE of one row of a reference table, 3 clients",
        3,
        COPIES,
    ),
    ("UPDATE ... WHERE id IN (1, 2, 3, 4), 3 clients", 3, LIST),
    ("SELECT ... ORDER BY id FOR UPDATE, 3 clients", 3, SORTED),
    ("two UPDATEs in a block, 3 clients", 3, BLOCK),
    ("upsert of a query in a block, 6 clients", 6, NIGHTLY),
    ("WITH ... UPDATE in a block, 3 clients", 3, WITHIN),
    (
        "UPDATE of one row of a reference table, 1 client",
        1,
        COPIES,
    ),
];

/// How many errors are in the answer to a text.
fn errors(frames: &[Frame]) -> usize {
    frames.iter().filter(|frame| frame.kind == b'E').count()
}

/// Transactions in a second of some clients, and how many of them were told an error.
fn rate(clients: &mut [Wire], statements: &[&str], time: Duration) -> (f64, usize) {
    rate_of(clients, time, |wire, _| {
        let answers = statements.iter().map(|sql| errors(&wire.query(sql)));
        answers.sum()
    })
}

/// The same of clients that do something else. `once` runs the transaction of this number and gives the errors.
fn rate_of<C: Send>(
    clients: &mut [C],
    time: Duration,
    once: impl Fn(&mut C, u32) -> usize + Sync,
) -> (f64, usize) {
    let once = &once;
    let stop = AtomicBool::new(false);
    let barrier = Barrier::new(clients.len() + 1);
    let (stop, barrier) = (&stop, &barrier);
    std::thread::scope(|scope| {
        let running: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                scope.spawn(move || {
                    barrier.wait();
                    let (mut done, mut failed) = (0, 0);
                    while !stop.load(Ordering::Relaxed) {
                        failed += once(client, done);
                        done += 1;
                    }
                    (done, failed)
                })
            })
            .collect();
        barrier.wait();
        let began = Instant::now();
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        let ended: Vec<(u32, usize)> = running.into_iter().map(|r| r.join().unwrap()).collect();
        let done: u32 = ended.iter().map(|(done, _)| done).sum();
        let failed = ended.iter().map(|(_, failed)| failed).sum();
        (f64::from(done) / began.elapsed().as_secs_f64(), failed)
    })
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Runs every load so many times on each side. True if no error was told.
pub fn run(sides: &mut [Side; 2], rounds: u64, time: Duration) -> bool {
    let mut told = 0;
    for (name, clients, statements) in LOADS {
        let (mut rates, mut ratios) = ([Vec::new(), Vec::new()], Vec::new());
        let mut failed = 0;
        for _ in 0..rounds {
            for (side, rates) in sides.iter_mut().zip(&mut rates) {
                let (rate, errors) = rate(&mut side.clients[..clients], statements, time);
                rates.push(rate);
                failed += errors;
            }
            let last = rates.each_ref().map(|rates| rates[rates.len() - 1]);
            ratios.push(last[1] / last[0]);
        }
        let ratio = median(&mut ratios);
        let [one, through] = rates.each_mut().map(|rates| median(rates));
        println!(
            "load: {name}: one PostgreSQL {one:.0}/s, the router {through:.0}/s, ratio {ratio:.2} ({:.2} to {:.2}), errors {failed}",
            ratios[0],
            ratios[ratios.len() - 1],
        );
        told += failed;
    }
    told == 0
}

/// A client of all servers, which commits by hand.
struct ByHand {
    name: usize,
    servers: Vec<Wire>,
}

impl ByHand {
    /// The first server goes ahead, so that who wants the same rows waits there, and its COMMIT decides. The others are
    /// prepared in the packet of the statement.
    fn once(&mut self, number: u32, sql: &str) -> usize {
        let gid = format!("'by hand {} {number}'", self.name);
        let [first, others @ ..] = self.servers.as_mut_slice() else {
            return 0;
        };
        let mut failed = errors(&first.query(&format!("BEGIN; {sql}")));
        let mut on_others = |sql: String| {
            others
                .iter_mut()
                .for_each(|o| o.send(&message::query(&sql)));
            let answers = others.iter_mut().map(|o| errors(&o.until_ready()));
            answers.sum::<usize>()
        };
        failed += on_others(format!("BEGIN; {sql}; PREPARE TRANSACTION {gid}"));
        failed += errors(&first.query("COMMIT"));
        failed + on_others(format!("COMMIT PREPARED {gid}"))
    }
}

/// What committing over all servers by hand reaches, beside one PostgreSQL and the router. True if no error was told.
pub fn by_hand(sides: &mut [Side; 2], servers: &[Endpoint], rounds: u64, time: Duration) -> bool {
    let mut told = 0;
    for clients in [1, 3] {
        let mut hands: Vec<ByHand> = (0..clients)
            .map(|name| ByHand {
                name,
                servers: servers.iter().map(Wire::login).collect(),
            })
            .collect();
        let mut ratios = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            let [one, through] = sides
                .each_mut()
                .map(|side| rate(&mut side.clients[..clients], LIST, time));
            let bound = rate_of(&mut hands, time, |hand, number| hand.once(number, LIST[0]));
            ratios[0].push(bound.0 / one.0);
            ratios[1].push(through.0 / bound.0);
            told += one.1 + through.1 + bound.1;
        }
        let [of_one, reached] = ratios.each_mut().map(|ratios| median(ratios));
        println!(
            "by hand: UPDATE ... WHERE id IN (1, 2, 3, 4), {clients} clients: over three servers {of_one:.2} of one PostgreSQL; \
             the router reaches {reached:.2} of that"
        );
    }
    told == 0
}
