//! Groups and servers as configured, and what the console shows of them. Plain
//! data.

use super::clock::{CommitClock, WriteNumber};
use super::group::{Declared, Fence, MemberSpec, NoPrimary, Rules, ServerView};
use super::hold::Gate;
use super::report::Report;
use super::state::{State, Watch};
use crate::balance::ServerLoad;
use crate::endpoint::Endpoint;
use crate::patroni::PatroniClient;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How servers are watched and chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Health.
    pub watch: Watch,
    /// Lag and trust.
    pub rules: Rules,
    /// A latency counts half after so long.
    pub latency_half_life: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            watch: Watch::default(),
            rules: Rules::default(),
            latency_half_life: Duration::from_secs(5),
        }
    }
}

/// One server of a group, as configured.
#[derive(Clone, Debug)]
pub struct ServerSpec {
    /// Number and address.
    pub endpoint: Endpoint,
    /// Its declared role.
    pub declared: Declared,
    /// Its part of the reads; 0 takes none while another can.
    pub weight: u32,
    /// How it is asked; none if it is not: then what is declared is believed, and a replica serves reads of any freshness only.
    pub control: Option<tokio_postgres::Config>,
    /// What an earlier [`Health`](super::Health) knew of it; see [`Health::kept`](super::Health::kept).
    pub kept: Option<SurvivesReload>,
}

/// What of a server outlives a reload, because the configuration does not say it.
#[derive(Clone, Debug)]
pub struct SurvivesReload {
    /// What is under way there, and how fast it answers.
    pub(super) load: Arc<ServerLoad>,
    /// What was set by hand. The same one: a hand may move while the configuration does.
    pub(super) hand: Arc<HandState>,
}

/// What was set by hand, as the cores see it.
#[derive(Debug)]
pub(super) struct HandState {
    hand: Mutex<Hand>,
    /// What of it a choice looks at: whether it is out of use, and the weight, or [`AS_CONFIGURED`].
    out: AtomicBool,
    weight: AtomicU32,
}

/// No weight was set by hand.
const AS_CONFIGURED: u32 = u32::MAX;

impl Default for HandState {
    fn default() -> Self {
        HandState {
            hand: Mutex::default(),
            out: AtomicBool::new(false),
            weight: AtomicU32::new(AS_CONFIGURED),
        }
    }
}

impl HandState {
    pub(super) fn get(&self) -> Hand {
        self.lock().clone()
    }

    /// Returns what was set before.
    pub(super) fn change(&self, change: impl FnOnce(&mut Hand)) -> Hand {
        let mut hand = self.lock();
        let before = hand.clone();
        change(&mut hand);
        let weight = hand.weight.unwrap_or(AS_CONFIGURED);
        self.weight.store(weight, Ordering::Relaxed);
        self.out.store(hand.out.is_some(), Ordering::SeqCst);
        before
    }

    pub(super) fn is_out(&self) -> bool {
        self.out.load(Ordering::Relaxed)
    }

    pub(super) fn weight(&self) -> Option<u32> {
        let weight = self.weight.load(Ordering::Relaxed);
        (weight != AS_CONFIGURED).then_some(weight)
    }

    fn lock(&self) -> MutexGuard<'_, Hand> {
        // Whoever panicked while holding it left plain values.
        self.hand.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// What an operator has set of a server. Nothing, as it is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hand {
    /// Its part of the reads.
    pub weight: Option<u32>,
    /// It gets nothing new.
    pub out: Option<Out>,
    /// Who has set the last of it, and when.
    pub by: Option<(Arc<str>, Instant)>,
}

/// How a server was taken out of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Out {
    /// What is under way there may end whenever it does.
    Disabled,
    /// Somebody waits for that.
    Draining,
    /// Nothing was under way any more.
    Drained,
}

impl Hand {
    /// Nothing is left of it.
    pub fn is_empty(&self) -> bool {
        self.weight.is_none() && self.out.is_none()
    }
}

impl fmt::Display for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Out::Disabled => "disabled",
            Out::Draining => "draining",
            Out::Drained => "drained",
        })
    }
}

/// A primary with its replicas, as configured.
#[derive(Clone, Debug)]
pub struct GroupSpec {
    /// For logs.
    pub name: String,
    /// At most [`MAX_SERVERS`](super::MAX_SERVERS).
    pub servers: Vec<ServerSpec>,
    /// The writes acknowledged so far. After a reload the same one must be handed over.
    pub clock: Arc<CommitClock>,
    /// What holds back the group's writes. After a reload the same one must be handed over.
    pub gate: Arc<Gate>,
    /// What an earlier [`Health`](super::Health) knew of the group; see [`Health::fence`](super::Health::fence).
    pub fence: Option<Fence>,
    /// See [`Rules::trust_single`].
    pub trust_single: bool,
    /// Those that know who the leader is; each is asked.
    pub patroni: Vec<PatroniClient>,
}

impl ServerSpec {
    pub(super) fn member(&self) -> MemberSpec {
        MemberSpec {
            declared: self.declared,
            watched: self.control.is_some(),
        }
    }
}

/// A group for the console.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// Its primary, or why it has none.
    pub primary: Result<usize, NoPrimary>,
    /// The newest history seen.
    pub fence: Option<Fence>,
    /// Writes acknowledged so far.
    pub acknowledged: WriteNumber,
    /// Its servers.
    pub servers: Vec<ServerSnapshot>,
}

/// A server for the console.
#[derive(Clone, Debug)]
pub struct ServerSnapshot {
    /// Number and address.
    pub endpoint: Endpoint,
    /// Role, lag and what it has seen.
    pub view: ServerView,
    /// Its state, with the reason when it is down.
    pub state: State,
    /// Since when.
    pub since: Instant,
    /// Its last answer.
    pub report: Option<Report>,
    /// Its part of the reads, as it is now.
    pub weight: u32,
    /// What was set by hand.
    pub hand: Hand,
    /// Requests under way.
    pub in_flight: u32,
    /// Requests since the start.
    pub served: u64,
    /// Smoothed latency.
    pub latency: Option<Duration>,
}
