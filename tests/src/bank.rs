//! A bank: clients who transfer money between accounts through the router, inside of one shard and across shards, while
//! something else breaks what is behind them.
//!
//! Each transfer has a number of its own and leaves two rows in the ledger, one for each account. A client writes down
//! what it was told of each: done, not done, or not known. [`Bank::judge`] looks at the servers themselves and
//! says what does not agree. It is done while transfers are held and nothing is prepared: sums over several shards have
//! no meaning at any other moment.

mod client;

mod judge;

pub use judge::Judgement;

use crate::proof::{self, on_all_in};
use crate::{Fleet, Router, poll_until};
use client::Client;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// Who transfers; clients of the router are asked for no password of theirs.
pub const ROLE: &str = "bank";

/// What every account has in the beginning.
const BALANCE: i64 = 1000;
/// How long the making of tables may take.
const SOON: Duration = Duration::from_secs(30);

/// What a client was told of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// COMMIT was answered by COMMIT.
    Acknowledged,
    /// An error with 08007, or a connection that was lost at COMMIT.
    Unknown,
    /// Any other error, or a connection that was lost before COMMIT.
    Failed,
}

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Clients, each with a connection.
    pub clients: usize,
    /// Accounts in all.
    pub accounts: usize,
    /// For the choice of transfers.
    pub seed: u64,
    /// An answer that takes longer is called a hang.
    pub patience: Duration,
}

/// What clients have seen so far.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Transfers of each outcome.
    pub acknowledged: u64,
    /// See [`Outcome::Unknown`].
    pub unknown: u64,
    /// See [`Outcome::Failed`].
    pub failed: u64,
    /// Acknowledged ones inside of each shard.
    pub inside: Vec<u64>,
    /// Answers that did not come in time.
    pub hangs: u64,
    /// Connections that could not be made or were refused.
    pub refused: u64,
    /// The longest transfer.
    pub slowest: Duration,
    /// Errors by their SQLSTATE; `lost` is a connection that ended without one.
    pub errors: BTreeMap<String, u64>,
    /// Answers that belong to another question.
    pub strange: Vec<String>,
}

/// What all clients share.
struct Shared {
    /// Of the routers; a client has one of them.
    ports: Vec<u16>,
    database: String,
    patience: Duration,
    /// Of each shard, in ascending order.
    accounts: Vec<Vec<i64>>,
    gate: Mutex<Gate>,
    opens: Condvar,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Gate {
    is_held: bool,
    is_over: bool,
    waiting: usize,
}

#[derive(Default)]
struct Book {
    outcomes: HashMap<i64, Outcome>,
    figures: Figures,
}

/// A bank that is open. Dropped, it closes, and its clients leave.
pub struct Bank {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

/// The tables, as the router has to know them.
pub const TABLES: &str = "[[table]]\nname = \"accounts\"\nkey = \"id\"\nkey_type = \"int8\"\n\
    [[table]]\nname = \"ledger\"\nkey = \"account\"\nkey_type = \"int8\"\n";

/// The user and how it logs in, as the router has to know them.
pub fn user() -> String {
    let password = crate::shared::PASSWORD;
    format!(
        "[[auth.rule]]\nusers = \"{ROLE}\"\nmethod = \"trust\"\n\
         [[auth.rule]]\nmethod = \"scram-sha-256\"\n\
         [[user]]\nname = \"{ROLE}\"\npassword = \"{password}\"\n"
    )
}

/// Makes the role on every server that has none yet.
pub fn make_role(fleet: &Fleet) {
    let password = crate::shared::PASSWORD.replace('\'', "''");
    let make = format!(
        "DO $$ BEGIN IF to_regrole('{ROLE}') IS NULL THEN \
         CREATE ROLE {ROLE} LOGIN PASSWORD '{password}'; END IF; END $$"
    );
    proof::on_all(fleet, &make);
}

impl Bank {
    /// Makes the tables in a database that has none of these names, and begins.
    pub fn open(router: &Router, fleet: &Fleet, database: &str, terms: Terms) -> Bank {
        Bank::open_at(&[router], fleet, database, terms)
    }

    /// The same through several routers, each of which has its part of the clients.
    pub fn open_at(routers: &[&Router], fleet: &Fleet, database: &str, terms: Terms) -> Bank {
        let Terms {
            clients, patience, ..
        } = terms;
        make_tables(routers[0], database, terms.accounts);
        let accounts = on_all_in(fleet, database, "SELECT id FROM accounts ORDER BY id");
        let ids = |text: &String| text.lines().map(|id| id.parse().unwrap()).collect();
        let accounts: Vec<Vec<i64>> = accounts.iter().map(ids).collect();
        assert!(accounts.iter().all(|ids| ids.len() > 4), "{accounts:?}");
        let figures = Figures {
            inside: vec![0; accounts.len()],
            ..Figures::default()
        };
        let shared = Arc::new(Shared {
            ports: routers.iter().map(|router| router.port()).collect(),
            database: database.to_owned(),
            patience,
            accounts,
            gate: Mutex::default(),
            opens: Condvar::new(),
            book: Mutex::new(Book {
                outcomes: HashMap::new(),
                figures,
            }),
        });
        let start = |number| {
            let mut client = Client::new(number, terms.seed, shared.clone());
            std::thread::spawn(move || client.run())
        };
        Bank {
            clients: (1..=clients as u64).map(start).collect(),
            shared,
        }
    }

    /// What clients have seen so far.
    pub fn figures(&self) -> Figures {
        self.shared.book().figures.clone()
    }

    /// Whether so many more transfers are acknowledged within `limit`.
    pub fn goes_on(&self, count: u64, limit: Duration) -> bool {
        let before = self.figures().acknowledged;
        poll_until(limit, || self.figures().acknowledged >= before + count)
    }

    /// Whether so many more transfers inside of this shard are acknowledged within `limit`.
    pub fn serves(&self, shard: usize, count: u64, limit: Duration) -> bool {
        let before = self.figures().inside[shard];
        poll_until(limit, || self.figures().inside[shard] >= before + count)
    }

    /// No transfer begins any longer; whether all that had begun have ended within `limit`.
    pub fn hold(&self, limit: Duration) -> bool {
        self.shared.gate().is_held = true;
        let all = self.clients.len();
        poll_until(limit, || self.shared.gate().waiting == all)
    }

    /// Transfers begin again.
    pub fn release(&self) {
        self.shared.gate().is_held = false;
        self.shared.opens.notify_all();
    }

    /// Compares what clients were told with what the servers have. Transfers are held, and nothing is prepared.
    pub fn judge(&self, fleet: &Fleet) -> Judgement {
        let book = self.shared.book();
        judge::judge(&book, &self.shared.accounts, fleet, &self.shared.database)
    }

    /// What all accounts have together, at any time.
    pub fn total(&self) -> i64 {
        let accounts: usize = self.shared.accounts.iter().map(Vec::len).sum();
        BALANCE * accounts as i64
    }

    /// The accounts of each shard.
    pub fn accounts(&self) -> &[Vec<i64>] {
        &self.shared.accounts
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        self.shared.gate().is_over = true;
        self.shared.opens.notify_all();
        for client in self.clients.drain(..) {
            // One that has panicked has said so itself.
            let _ = client.join();
        }
    }
}

impl Shared {
    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    /// Waits while transfers are held; false if the bank has closed.
    fn may_begin(&self) -> bool {
        let mut gate = self.gate();
        gate.waiting += 1;
        let held = |gate: &mut Gate| gate.is_held && !gate.is_over;
        gate = self.opens.wait_while(gate, held).unwrap();
        gate.waiting -= 1;
        !gate.is_over
    }
}

fn make_tables(router: &Router, database: &str, accounts: usize) {
    let owner = router.endpoint(crate::shared::USER, crate::shared::PASSWORD, database);
    let mut wire = crate::Wire::login(&owner);
    wire.set_limit(SOON);
    let rows: Vec<String> = (1..=accounts)
        .map(|id| format!("({id}, {BALANCE})"))
        .collect();
    for sql in [
        "CREATE TABLE accounts (id int8 PRIMARY KEY, balance int8 NOT NULL)",
        // Without a unique index: a transfer that is done twice is to be seen.
        "CREATE TABLE ledger (account int8 NOT NULL, id int8 NOT NULL, amount int8 NOT NULL)",
        &format!("GRANT ALL ON accounts, ledger TO {ROLE}"),
        &format!("INSERT INTO accounts VALUES {}", rows.join(", ")),
    ] {
        let frames = wire.query(sql);
        assert!(frames.iter().all(|f| f.kind != b'E'), "{sql}: {frames:?}");
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "acknowledged={} unknown={} failed={} slowest={:.0?} errors={:?}",
            self.acknowledged, self.unknown, self.failed, self.slowest, self.errors
        )
    }
}
