//! What a request needs of a group, and what it gets: a server, or the reason why
//! there is none. Plain data.

use super::clock::WriteNumber;
use super::group::NoPrimary;
use crate::endpoint::EndpointId;
use std::fmt;
use std::time::{Duration, Instant};

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Need {
    /// The primary.
    Write,
    /// A server that may serve this read.
    Read(Read),
}

/// What a read needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Read {
    /// What a replica must have seen.
    pub freshness: Freshness,
    /// Which roles it may use.
    pub reads: Reads,
    /// Which servers it may use.
    pub among: Among,
}

/// What a replica must have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Every write up to this one: for `router` what [`CommitClock::needed`](super::CommitClock::needed) said when the read arrived (or later), for `session` the
    /// session's own last write on this group.
    Seen(WriteNumber),
    /// Everything that was committed so long ago.
    Within(Duration),
    /// Anything.
    Any,
}

/// Which roles serve a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reads {
    /// The less loaded of primary and replicas.
    #[default]
    Any,
    /// Replicas, and the primary when none is fit.
    PreferReplicas,
    /// The primary, and replicas while there is none.
    PreferPrimary,
    /// Only the primary.
    Primary,
    /// Only replicas.
    Replicas,
}

impl Reads {
    /// Whether only the primary may serve the read. `is_there`: whether a primary is known.
    pub(super) fn is_of_primary(self, is_there: bool) -> bool {
        match self {
            Reads::Primary => true,
            Reads::PreferPrimary => is_there,
            Reads::Any | Reads::PreferReplicas | Reads::Replicas => false,
        }
    }
}

/// A set of servers of one group, by index: those that a rule allows, or all but those that were tried already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Among(pub u64);

impl Among {
    /// Every server.
    pub const ALL: Among = Among(u64::MAX);

    /// The same without one.
    pub fn without(self, server: usize) -> Among {
        Among(self.0 & !bit(server))
    }

    pub(super) fn has(self, server: usize) -> bool {
        self.0 & bit(server) != 0
    }
}

pub(super) fn bit(server: usize) -> u64 {
    u32::try_from(server)
        .ok()
        .and_then(|n| 1_u64.checked_shl(n))
        .unwrap_or(0)
}

/// The server for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its index in the group.
    pub server: usize,
    /// Its number.
    pub endpoint: EndpointId,
    /// Whether it takes writes.
    pub is_primary: bool,
    pub(super) opened_before: Option<Instant>,
}

impl Choice {
    /// Whether a connection that was opened at `opened` (or before: take the time when it was ready) shows what was promised. One
    /// that is younger than the last probe of a replica may lead to a server that has crashed in between and shows an older
    /// state until it has caught up: choose again with [`Among::without`], or wait for [`Health::confirm`](super::Health::confirm).
    pub fn covers(&self, opened: Instant) -> bool {
        self.opened_before.is_none_or(|asked| opened <= asked)
    }
}

/// Why no server can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("group {group} has no server for it: {why}")]
pub struct NoServer {
    /// The group.
    pub group: usize,
    /// The reason.
    pub why: WhyNot,
}

/// The reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// There is no such group.
    NoGroup,
    /// A write, or a read that only the primary may serve, and there is none.
    NoPrimary(NoPrimary),
    /// The operator has taken the primary out of use.
    Disabled,
    /// No server that is allowed to is fit to serve the read.
    NoneFit,
}

impl WhyNot {
    /// Whether no server answers: the primary is down, or no server has ever answered.
    pub fn is_lost(self) -> bool {
        matches!(
            self,
            WhyNot::NoPrimary(NoPrimary::Down(_) | NoPrimary::Silent)
        )
    }

    /// In words; `name` says what a server is called.
    pub fn in_words(self, name: impl Fn(u8) -> String) -> String {
        match self {
            WhyNot::NoGroup => "no such group".to_owned(),
            WhyNot::NoPrimary(why) => format!("no primary: {}", why.in_words(name)),
            WhyNot::Disabled => "the primary was disabled by hand".to_owned(),
            WhyNot::NoneFit => "no server is fit".to_owned(),
        }
    }
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.in_words(|server| format!("server {server}")))
    }
}
