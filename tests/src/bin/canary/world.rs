//! What all clients share: the router's address, whose keys are whose, counts, faults.

use crate::mark::Mark;
use crate::session::{Fault, KEYS};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustls::pki_types::ServerName;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;

/// Faults of each kind that are printed; the others are counted.
const SHOWN: u64 = 4;
/// Sessions that hold a server connection for long at a time, fewer than a pool has.
const HOLDERS: usize = 6;

/// One for all clients.
pub struct World {
    /// The router's port.
    pub port: u16,
    /// How long an answer may take.
    pub limit: Duration,
    /// How clients do TLS.
    pub tls: TlsConnector,
    /// Set when clients are to leave.
    pub end: AtomicBool,
    /// Who pins a server connection, or sleeps on one, holds a permit.
    pub holders: Semaphore,
    state: Mutex<State>,
}

struct State {
    rng: StdRng,
    // In the order of their first keys.
    marks: Vec<Mark>,
    counts: BTreeMap<&'static str, u64>,
    faults: BTreeMap<&'static str, u64>,
}

impl World {
    /// With nobody in it.
    pub fn new(port: u16, limit: Duration, tls: TlsConnector, seed: u64) -> World {
        World {
            port,
            limit,
            tls,
            end: AtomicBool::new(false),
            holders: Semaphore::new(HOLDERS),
            state: Mutex::new(State {
                rng: StdRng::seed_from_u64(seed),
                marks: Vec::new(),
                counts: BTreeMap::new(),
                faults: BTreeMap::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A new mark, and the first of the keys that belong to it alone.
    pub fn next_session(&self) -> (Mark, i64) {
        let mut state = self.state();
        let mark = Mark(state.rng.random());
        state.marks.push(mark);
        (mark, (state.marks.len() as i64 - 1) * KEYS + 1)
    }

    /// Whose key it is.
    pub fn owner(&self, key: i64) -> Option<Mark> {
        let place = usize::try_from((key - 1) / KEYS).ok()?;
        self.state().marks.get(place).copied()
    }

    /// How many sessions there have been.
    pub fn sessions(&self) -> usize {
        self.state().marks.len()
    }

    /// A cancel key of nobody.
    pub fn stray_key(&self) -> (u32, Vec<u8>) {
        let mut state = self.state();
        let key: [u8; 4] = state.rng.random();
        (state.rng.random(), key.to_vec())
    }

    /// Whether clients are to leave.
    pub fn ended(&self) -> bool {
        self.end.load(Ordering::Relaxed)
    }

    /// One more of these.
    pub fn count(&self, what: &'static str) {
        *self.state().counts.entry(what).or_default() += 1;
    }

    /// What was counted.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.state().counts.clone()
    }

    /// Faults by their kinds.
    pub fn faults(&self) -> BTreeMap<&'static str, u64> {
        self.state().faults.clone()
    }

    /// Notes a fault; the first ones are printed.
    pub fn fault(&self, client: usize, doing: &str, fault: &Fault) {
        let kind = match fault {
            Fault::Foreign(_) => "foreign",
            Fault::Hang(_) => "hang",
            Fault::Order(_) => "order",
            Fault::Closed(_) => "closed",
            Fault::TurnedAway(_) => "turned away",
        };
        let mut state = self.state();
        let count = state.faults.entry(kind).or_default();
        *count += 1;
        if *count <= SHOWN {
            println!("FAULT client {client}, {doing}: {fault:?}");
        }
    }

    /// The name in the router's certificate.
    pub fn host(&self) -> ServerName<'static> {
        ServerName::try_from("localhost").expect("a name")
    }
}
