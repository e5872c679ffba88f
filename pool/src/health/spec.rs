//! Groups and servers as configured, and what the console shows of them. Plain
//! data.

use super::clock::{CommitClock, Moment};
use super::group::{Declared, Fence, MemberSpec, NoPrimary, Rules, ServerView};
use super::hold::Gate;
use super::report::Report;
use super::state::{State, Watch};
use crate::balance::ServerLoad;
use crate::endpoint::Endpoint;
use std::sync::Arc;
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
    pub kept: Option<Kept>,
}

/// What of a server outlives a reload, because the configuration does not say it.
#[derive(Clone, Debug)]
pub struct Kept {
    /// What is under way there, and how fast it answers.
    pub(super) load: Arc<ServerLoad>,
    /// Its part of the reads, if that was set by hand.
    pub(super) weight: Option<u32>,
    /// Taken out of use by hand.
    pub(super) disabled: bool,
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
    pub acknowledged: Moment,
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
    /// Its part of the reads.
    pub weight: u32,
    /// Taken out of use by hand.
    pub disabled: bool,
    /// Requests under way.
    pub in_flight: u32,
    /// Requests since the start.
    pub served: u64,
    /// Smoothed latency.
    pub latency: Option<Duration>,
}
