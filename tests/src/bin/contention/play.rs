//! Plays a schedule on one side and counts what came of it.

use crate::schedule::{
    Adds, COUNTER, LOCKS, READ, ROWS, Schedule, Statement, TABLES, Transaction, name,
};
use mothership_proto::frontend;
use mothership_tests::message::{bind_text, execute, parse, sync};
use mothership_tests::{Endpoint, Frame, Wire};
use std::collections::BTreeMap;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Nothing takes so long.
const SOON: Duration = Duration::from_secs(60);

/// One PostgreSQL, or the router.
pub struct Side {
    /// Those that play.
    pub clients: Vec<Wire>,
    asks: Wire,
    /// Past the router.
    servers: Vec<Wire>,
}

/// What came of a schedule.
#[derive(Debug, Default)]
pub struct Outcome {
    pub took: Duration,
    pub codes: BTreeMap<String, usize>,
    /// For each SQLSTATE the message and the detail of an error, and what was asked.
    pub examples: BTreeMap<String, String>,
    /// The sums of the tables as they must be, and as they are.
    pub expected: [i64; 3],
    pub found: [i64; 3],
    pub copies_agree: bool,
    pub steps: Vec<Taken>,
}

/// When a client sent something, and when it had its answer.
#[derive(Debug)]
pub struct Taken {
    pub client: usize,
    pub from: Duration,
    pub to: Duration,
    pub sql: String,
}

/// What came of a script.
#[derive(Default)]
struct Done {
    added: [i64; 3],
    errors: Vec<(String, String)>,
    /// What was sent, from when to when.
    steps: Vec<(Instant, Instant, String)>,
}

impl Done {
    fn timed<T>(&mut self, sql: &str, work: impl FnOnce() -> T) -> T {
        let from = Instant::now();
        let done = work();
        self.steps.push((from, Instant::now(), sql.to_owned()));
        done
    }
}

impl Side {
    pub fn new(endpoint: &Endpoint, clients: usize, servers: Vec<Wire>) -> Side {
        let login = || {
            let mut wire = Wire::login(endpoint);
            wire.set_limit(SOON);
            // Index scans lock rows in the order of their keys, so that it is known which schedules have an order.
            for setting in ["enable_seqscan", "enable_bitmapscan"] {
                wire.query(&format!("SET {setting} = off"));
            }
            wire
        };
        Side {
            clients: (0..clients).map(|_| login()).collect(),
            asks: login(),
            servers,
        }
    }

    /// Makes the tables.
    pub fn fill(&mut self) {
        for table in TABLES {
            let t = name(table);
            let keys = (0..=ROWS)
                .chain(LOCKS)
                .chain(LOCKS.map(|lock| lock + COUNTER));
            let rows: Vec<String> = keys.map(|key| format!("({key}, 0)")).collect();
            for sql in [
                format!("CREATE TABLE {t} (id int8 PRIMARY KEY, n int8 NOT NULL)"),
                format!("INSERT INTO {t} VALUES {}", rows.join(", ")),
            ] {
                let frames = self.asks.query(&sql);
                assert!(frames.iter().all(|frame| frame.kind != b'E'), "{frames:?}");
            }
        }
    }

    /// From now on its servers wait for their disks.
    pub fn wait_for_disks(&mut self) {
        for wire in &mut self.servers {
            wire.query("ALTER SYSTEM SET fsync = on");
            wire.query("SELECT pg_reload_conf()");
        }
    }

    fn sums(&mut self) -> [i64; 3] {
        TABLES.map(|table| {
            let sql = format!("SELECT coalesce(sum(n), 0)::int8 FROM {}", name(table));
            self.asks.rows(&sql)[0][0].parse().unwrap()
        })
    }

    /// Plays it.
    pub fn play(&mut self, schedule: &Schedule) -> Outcome {
        let mut outcome = Outcome {
            expected: self.sums(),
            ..Outcome::default()
        };
        for wire in &mut self.clients {
            wire.query(schedule.isolation.setting());
        }
        let begin = schedule.isolation.begin();
        let barrier = Barrier::new(schedule.clients.len() + 1);
        let (barrier, wires) = (&barrier, &mut self.clients);
        let (done, began) = std::thread::scope(|scope| {
            let scripts = schedule.clients.iter().zip(wires);
            let playing: Vec<_> = scripts
                .map(|(script, wire)| {
                    scope.spawn(move || {
                        barrier.wait();
                        let mut done = Done::default();
                        for transaction in script {
                            play(wire, (begin, transaction), &mut done);
                        }
                        done
                    })
                })
                .collect();
            barrier.wait();
            let began = Instant::now();
            let done: Vec<Done> = playing.into_iter().map(|p| p.join().unwrap()).collect();
            outcome.took = began.elapsed();
            (done, began)
        });
        for (client, done) in done.into_iter().enumerate() {
            let steps = done.steps.into_iter();
            outcome.steps.extend(steps.map(|(from, to, sql)| Taken {
                client,
                from: from.saturating_duration_since(began),
                to: to.saturating_duration_since(began),
                sql,
            }));
            for table in TABLES {
                outcome.expected[table] += done.added[table];
            }
            for (code, example) in done.errors {
                *outcome.codes.entry(code.clone()).or_default() += 1;
                outcome.examples.entry(code).or_insert(example);
            }
        }
        outcome.steps.sort_by_key(|step| step.from);
        outcome.found = self.sums();
        let all = "SELECT coalesce(string_agg(id || ':' || n, ',' ORDER BY id), '') FROM cfg";
        let copies = self.servers.iter_mut().map(|wire| wire.rows(all));
        let copies: Vec<_> = copies.collect();
        outcome.copies_agree = copies.windows(2).all(|two| two[0] == two[1]);
        outcome
    }
}

fn play(wire: &mut Wire, (begin, transaction): (&str, &Transaction), done: &mut Done) {
    let mut added = [0; 3];
    let mut failed = None;
    if transaction.block {
        done.timed(begin, || wire.query(begin));
    }
    for statement in &transaction.statements {
        let frames = done.timed(&statement.sql, || run(wire, statement));
        failed = error(&frames, &statement.sql);
        if failed.is_some() {
            break;
        }
        added[statement.table] += adds(statement, &frames);
    }
    if transaction.block {
        let end = if failed.is_some() {
            "ROLLBACK"
        } else {
            "COMMIT"
        };
        let frames = done.timed(end, || wire.query(end));
        failed = failed.or(error(&frames, end));
    }
    match failed {
        Some(error) => done.errors.push(error),
        None => TABLES.iter().for_each(|t| done.added[*t] += added[*t]),
    }
}

fn run(wire: &mut Wire, statement: &Statement) -> Vec<Frame> {
    if let Some(reads) = &statement.reads {
        let frames = wire.query(reads);
        return match frames.iter().find(|frame| frame.kind == b'D') {
            Some(row) => wire.query(&statement.sql.replace(READ, &row.row_text()[0])),
            None => frames,
        };
    }
    if !statement.extended {
        return wire.query(&statement.sql);
    }
    let describe = frontend::Target::Portal;
    let mut described = Vec::new();
    frontend::put_describe(&mut described, describe, b"");
    wire.send_all(&[
        parse("", &statement.sql, &[]),
        bind_text(&[]),
        described,
        execute("", 0),
        sync(),
    ]);
    wire.until_ready()
}

/// The SQLSTATE, and what was told for what was asked.
fn error(frames: &[Frame], asked: &str) -> Option<(String, String)> {
    let error = frames.iter().find(|frame| frame.kind == b'E')?;
    let field = |code| error.field(code).unwrap_or_default();
    let example = format!("{asked}: {}: {}", field('M'), field('D'));
    Some((error.sqlstate(), example))
}

fn adds(statement: &Statement, frames: &[Frame]) -> i64 {
    match statement.adds {
        Adds::Nothing => 0,
        Adds::Each(each) => {
            let tag = frames.iter().find(|frame| frame.kind == b'C').unwrap();
            let tag = tag.text();
            let count: i64 = tag.rsplit(' ').next().unwrap().parse().unwrap();
            each * count
        }
        Adds::Returned => {
            let rows = frames.iter().filter(|frame| frame.kind == b'D');
            -rows
                .map(|row| row.row_text()[0].parse::<i64>().unwrap())
                .sum::<i64>()
        }
    }
}
