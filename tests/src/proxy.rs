//! A relay for TCP that breaks what a network can break: it delays, slows down, slices, holds back, cuts, refuses, and
//! changes bytes, as it is told while connections are open.
//!
//! It knows PostgreSQL's messages, so that a connection can be cut before the very message that matters. Bytes that are
//! held back arrive when the fault is healed, as after a partition that TCP has survived; the kernels at both ends do
//! not notice such a partition. What a lost packet does is not shown by it.

mod cutter;

mod maker;

mod relay;

mod trap;

pub use trap::{Effect, End, Trap};

use crate::poll_until;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// How long the proxy's own thread may take to do what it was told.
const SOON: Duration = Duration::from_secs(10);

/// Who has sent something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who has connected to the proxy.
    Client,
    /// Whom the proxy has connected to.
    Server,
}

/// How the bytes of one side travel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Travel {
    /// How long each takes.
    pub latency: Duration,
    /// Up to so much longer; the order stays.
    pub jitter: Duration,
    /// The most bytes in a second.
    pub rate: Option<u64>,
    /// Not more than so many bytes in one piece.
    pub slice: Option<usize>,
    /// They do not travel at all.
    pub hold: bool,
}

/// What is in force now.
#[derive(Debug)]
struct State {
    target: u16,
    travel: [Travel; 2],
    /// The processes whose connections carry nothing.
    held: BTreeSet<u32>,
    is_refusing: bool,
    /// New connections are accepted and get no further.
    keeps_new: bool,
    /// The trap that is set, with a number of its own.
    trap: Option<(u64, Trap)>,
    traps: u64,
    sprung: u64,
    /// How often all were cut, and how the last time.
    cuts: u64,
    end: End,
    /// How often frozen connections were ended.
    thaws: u64,
    is_listening: bool,
    /// Their numbers, in the order of their accepts.
    open: BTreeSet<u64>,
    accepted: u64,
    is_over: bool,
}

/// A port that leads to another one. Dropped, it closes all connections.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: watch::Sender<State>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A way to this port on 127.0.0.1.
    pub fn to(target: u16) -> Proxy {
        Proxy::at(Ipv4Addr::LOCALHOST, 0, target)
    }

    /// The same that listens at this address of the machine, on this port; 0 is a free one.
    pub fn at(address: Ipv4Addr, port: u16, target: u16) -> Proxy {
        let claim = relay::Claim::on(address, port).unwrap();
        let port = claim.address().port();
        let state = watch::Sender::new(State {
            target,
            travel: [Travel::default(); 2],
            held: BTreeSet::new(),
            is_refusing: false,
            keeps_new: false,
            trap: None,
            traps: 0,
            sprung: 0,
            cuts: 0,
            end: End::Reset,
            thaws: 0,
            is_listening: true,
            open: BTreeSet::new(),
            accepted: 0,
            is_over: false,
        });
        let shared = state.clone();
        let run = move || relay::run(claim, shared);
        let thread = std::thread::Builder::new().name("proxy".into()).spawn(run);
        Proxy {
            port,
            state,
            thread: Some(thread.unwrap()),
        }
    }

    /// Where new connections lead.
    pub fn target(&self) -> u16 {
        self.state.borrow().target
    }

    /// Whether connections that are made from now on lead nowhere, until they may go on. What was sent on them arrives then.
    pub fn keep_new(&self, keeps: bool) {
        self.state.send_modify(|state| state.keeps_new = keeps);
    }

    /// Where it listens, on 127.0.0.1 if nothing else was said.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on the bytes of this side travel so, also those on their way.
    pub fn travel(&self, from: Side, travel: Travel) {
        self.state
            .send_modify(|state| state.travel[from as usize] = travel);
    }

    /// The same for both sides.
    pub fn travel_both(&self, travel: Travel) {
        self.travel(Side::Client, travel);
        self.travel(Side::Server, travel);
    }

    /// Nothing arrives any longer, in either direction; connections stay open, new ones are accepted.
    pub fn blackhole(&self) {
        self.hold(Side::Client);
        self.hold(Side::Server);
    }

    /// Nothing that this side sends arrives any longer.
    pub fn hold(&self, from: Side) {
        self.state
            .send_modify(|state| state.travel[from as usize].hold = true);
    }

    /// Nothing travels any longer on connections that this process has made or will make, in either direction.
    pub fn hold_those_of(&self, process: u32) {
        self.state.send_modify(|state| {
            state.held.insert(process);
        });
    }

    /// New connections are refused; the open ones stay.
    pub fn refuse(&self) {
        self.state.send_modify(|state| state.is_refusing = true);
        let closed = poll_until(SOON, || !self.state.borrow().is_listening);
        assert!(closed, "the proxy still listens");
    }

    /// New connections go to this port.
    pub fn retarget(&self, target: u16) {
        self.state.send_modify(|state| state.target = target);
    }

    /// Ends all connections that are open.
    pub fn cut(&self, end: End) {
        let mut last = 0;
        self.state.send_modify(|state| {
            state.cuts += 1;
            state.end = end;
            last = state.accepted;
        });
        // Whoever has connected meanwhile is not meant.
        let of_them = || self.state.borrow().open.first().is_some_and(|n| *n <= last);
        assert!(poll_until(SOON, || !of_them()), "connections stay open");
    }

    /// Sets a trap, in place of one that has not sprung.
    pub fn set(&self, trap: Trap) {
        self.state.send_modify(|state| {
            state.traps += 1;
            state.trap = Some((state.traps, trap));
        });
    }

    /// Whether the trap that was set last has sprung, waited for up to `limit`.
    pub fn springs_within(&self, limit: Duration) -> bool {
        poll_until(limit, || self.state.borrow().trap.is_none())
    }

    /// How many traps have sprung.
    pub fn sprung(&self) -> u64 {
        self.state.borrow().sprung
    }

    /// All travels as it should again, and new connections are accepted; what is frozen is reset, the trap is gone.
    pub fn heal(&self) {
        self.state.send_modify(|state| {
            state.travel = [Travel::default(); 2];
            state.held.clear();
            state.is_refusing = false;
            state.trap = None;
            state.thaws += 1;
        });
        let listens = poll_until(SOON, || self.state.borrow().is_listening);
        assert!(listens, "the proxy does not listen");
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.state.borrow().open.len()
    }

    /// How many there have been.
    pub fn accepted(&self) -> u64 {
        self.state.borrow().accepted
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.send_modify(|state| state.is_over = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
