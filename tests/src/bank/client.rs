//! One client of the bank: transfers, and writes down what it is told.

use super::{Outcome, ROLE, Shared};
use crate::frame::Frame;
use crate::message::{self, V3_0};
use crate::wire::{Silence, Wire};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Numbers of transfers that belong to one client.
const NUMBERS: i64 = 10_000_000;
/// Between two transfers, or two tries to connect: the bank is there to be disturbed, not to fill the machine.
const PAUSE: Duration = Duration::from_millis(3);

pub(super) struct Client {
    number: i64,
    done: i64,
    rng: StdRng,
    shared: Arc<Shared>,
    wire: Option<Wire>,
}

/// From one account to another.
struct Transfer {
    id: i64,
    from: i64,
    to: i64,
    amount: i64,
    /// The shard on which both are.
    inside: Option<usize>,
}

/// Why a request was not answered as it should be.
enum Trouble {
    /// An error; whether the connection can be used further.
    Error { sqlstate: String, is_open: bool },
    /// The connection ended.
    Lost,
    /// Nothing came.
    Late,
    /// An answer to another question.
    Strange(String),
}

impl Client {
    pub(super) fn new(number: u64, seed: u64, shared: Arc<Shared>) -> Client {
        Client {
            number: number as i64,
            done: 0,
            rng: StdRng::seed_from_u64(seed ^ (number << 32)),
            shared,
            wire: None,
        }
    }

    pub(super) fn run(&mut self) {
        while self.shared.may_begin() {
            if self.wire.is_none() {
                self.wire = self.connect();
            }
            if self.wire.is_some() {
                self.transfer();
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn connect(&mut self) -> Option<Wire> {
        let Shared {
            ports,
            database,
            patience,
            ..
        } = &*self.shared;
        let port = ports[self.number as usize % ports.len()];
        let log_in = || {
            let mut wire = Wire::try_connect(port).ok()?;
            wire.set_limit(*patience);
            let startup = message::startup(V3_0, &[("user", ROLE), ("database", database)]);
            wire.try_send(&startup).ok()?;
            let frames = wire.try_until_ready();
            match frames {
                Ok(_) => Some(wire),
                Err((_, Silence::Late)) => {
                    self.shared.book().figures.hangs += 1;
                    None
                }
                Err(_) => None,
            }
        };
        let wire = log_in();
        if wire.is_none() {
            self.shared.book().figures.refused += 1;
        }
        wire
    }

    fn transfer(&mut self) {
        let transfer = self.choose();
        let begun = Instant::now();
        let outcome = self.carry_out(&transfer);
        let mut book = self.shared.book();
        book.outcomes.insert(transfer.id, outcome);
        let figures = &mut book.figures;
        figures.slowest = figures.slowest.max(begun.elapsed());
        match outcome {
            Outcome::Acknowledged => {
                figures.acknowledged += 1;
                if let Some(shard) = transfer.inside {
                    figures.inside[shard] += 1;
                }
            }
            Outcome::Unknown => figures.unknown += 1,
            Outcome::Failed => figures.failed += 1,
        }
    }

    fn choose(&mut self) -> Transfer {
        let Client { rng, shared, .. } = self;
        let shards = shared.accounts.len();
        let from = rng.random_range(0..shards);
        let to = match rng.random_bool(0.5) {
            true => from,
            false => (from + rng.random_range(1..shards.max(2))) % shards,
        };
        let mut one_of = |shard: usize| {
            let ids = &shared.accounts[shard];
            ids[rng.random_range(0..ids.len())]
        };
        let (payer, mut payee) = (one_of(from), one_of(to));
        while payee == payer {
            payee = one_of(to);
        }
        self.done += 1;
        Transfer {
            id: self.number * NUMBERS + self.done,
            from: payer,
            to: payee,
            amount: self.rng.random_range(1..10),
            inside: (from == to).then_some(from),
        }
    }

    fn carry_out(&mut self, transfer: &Transfer) -> Outcome {
        let statements = transfer.statements();
        let is_extended = self.rng.random();
        let requests = match self.rng.random_range(0..3) {
            0 => vec![
                request(&["BEGIN"], false),
                request(&statements, is_extended),
            ],
            1 => {
                let all: Vec<&str> = std::iter::once("BEGIN")
                    .chain(statements.iter().map(String::as_str))
                    .collect();
                vec![request(&all, is_extended)]
            }
            _ => std::iter::once("BEGIN")
                .chain(statements.iter().map(String::as_str))
                .map(|sql| request(&[sql], is_extended))
                .collect(),
        };
        let mut updated = Vec::new();
        for request in requests {
            match self.ask(&request) {
                Ok(frames) => {
                    let rows = frames.iter().filter(|frame| frame.kind == b'D');
                    updated.extend(rows.map(|row| row.row_text().concat()));
                }
                Err(trouble) => {
                    self.note(trouble);
                    self.roll_back();
                    return Outcome::Failed;
                }
            }
        }
        if updated != transfer.in_order().map(|id| id.to_string()) {
            self.note(Trouble::Strange(format!("{updated:?} of {statements:?}")));
        }
        self.commit(is_extended)
    }

    fn commit(&mut self, is_extended: bool) -> Outcome {
        let answer = self.ask(&request(&["COMMIT"], is_extended));
        let trouble = match answer {
            Ok(frames) => {
                let done = frames.iter().find(|frame| frame.kind == b'C');
                return match done.map(Frame::text).as_deref() {
                    Some("COMMIT") => Outcome::Acknowledged,
                    _ => {
                        self.note(Trouble::Error {
                            sqlstate: "rolled back".into(),
                            is_open: true,
                        });
                        Outcome::Failed
                    }
                };
            }
            Err(trouble) => trouble,
        };
        let outcome = match &trouble {
            Trouble::Error { sqlstate, .. } if sqlstate != "08007" => Outcome::Failed,
            _ => Outcome::Unknown,
        };
        self.note(trouble);
        outcome
    }

    fn roll_back(&mut self) {
        if self.wire.is_some()
            && let Err(trouble) = self.ask(&message::query("ROLLBACK"))
        {
            self.note(trouble);
            self.wire = None;
        }
    }

    fn ask(&mut self, request: &[u8]) -> Result<Vec<Frame>, Trouble> {
        let wire = self.wire.as_mut().expect("it is connected");
        // If it cannot be sent, what was said before the end is read all the same.
        let _ = wire.try_send(request);
        let (frames, end) = match wire.try_until_ready() {
            Ok(frames) => (frames, None),
            Err((frames, silence)) => (frames, Some(silence)),
        };
        let error = frames.iter().find(|frame| frame.kind == b'E');
        let mut tags = frames.iter().filter(|frame| frame.kind == b'C');
        if tags.any(|frame| frame.text() == "COMMIT") {
            // What comes behind it changes nothing.
            if error.is_some() || end.is_some() {
                self.wire = None;
            }
            return Ok(frames);
        }
        if let Some(error) = error {
            let sqlstate = error.sqlstate();
            let is_open = end.is_none();
            return Err(Trouble::Error { sqlstate, is_open });
        }
        match end {
            None => Ok(frames),
            Some(Silence::Closed) => Err(Trouble::Lost),
            Some(Silence::Late) => Err(Trouble::Late),
        }
    }

    fn note(&mut self, trouble: Trouble) {
        let mut book = self.shared.book();
        let figures = &mut book.figures;
        let mut count = |what: &str| *figures.errors.entry(what.to_owned()).or_default() += 1;
        match trouble {
            Trouble::Error { sqlstate, is_open } => {
                count(&sqlstate);
                if !is_open {
                    self.wire = None;
                }
            }
            Trouble::Lost => {
                count("lost");
                self.wire = None;
            }
            Trouble::Late => {
                figures.hangs += 1;
                self.wire = None;
            }
            Trouble::Strange(what) => figures.strange.push(what),
        }
    }
}

impl Transfer {
    /// The lower account first: nobody waits for somebody who waits.
    fn in_order(&self) -> [i64; 2] {
        [self.from.min(self.to), self.from.max(self.to)]
    }

    fn statements(&self) -> [String; 4] {
        let Transfer {
            id,
            from,
            to,
            amount,
            ..
        } = *self;
        let change = |account| if account == from { -amount } else { amount };
        let [low, high] = self.in_order().map(|account| {
            format!(
                "UPDATE accounts SET balance = balance + {} WHERE id = {account} RETURNING id",
                change(account)
            )
        });
        let [paid, got] = [(from, -amount), (to, amount)].map(|(account, amount)| {
            format!("INSERT INTO ledger VALUES ({account}, {id}, {amount})")
        });
        [low, high, paid, got]
    }
}

/// One request: all statements in one simple query, or one behind the other up to one Sync.
fn request(statements: &[impl AsRef<str>], is_extended: bool) -> Vec<u8> {
    let texts = statements.iter().map(AsRef::as_ref);
    if !is_extended {
        return message::query(&texts.collect::<Vec<_>>().join("; "));
    }
    let mut bytes = Vec::new();
    for sql in texts {
        bytes.extend(message::parse("", sql, &[]));
        bytes.extend(message::bind_text(&[]));
        bytes.extend(message::execute("", 0));
    }
    bytes.extend(message::sync());
    bytes
}
