//! Which servers are alive, which one is the primary, which replica may serve a read.
//!
//! What decides is pure: [`state`] (is a server alive), [`breaker`] (does it answer clients), [`group`] (who is the
//! primary, what have replicas seen), [`clock`] and [`position`] (freshness),
//! [`report`] (what a probe learned). [`probe`] asks the servers, one task for each
//! on a thread of its own, `discover` asks who the leader is, and [`Health`] is what the cores read: atomics, without
//! locks.
//!
//! The promise of `freshness = "router"` rests on one order of events, which
//! [`clock`] explains: acknowledged by the server, counted, told to the client. A
//! caller therefore
//!
//! - calls [`CommitClock::acknowledge`] when a server has confirmed a write and before the client hears of it; for a commit
//!   whose participant confirms later (two-phase, unreachable) it keeps reads of that group waiting and calls it again
//!   when the participant has confirmed;
//! - takes [`CommitClock::needed`] when a read has arrived, and chooses with it;
//! - checks [`Choice::covers`] with the time at which the leased connection became ready.

pub mod state;

pub mod breaker;

pub mod report;

pub mod clock;

pub mod position;

pub mod group;

mod hold;

mod source;

mod need;

mod spec;

mod view;

mod tls;

pub mod probe;

mod discover;

pub use breaker::BreakerState;
pub use clock::{CommitClock, Scope, WriteNumber};
pub use discover::place;
pub use group::{Declared, Fence, MAX_SERVERS, NoPrimary, Role, Rules, ServerView};
pub use hold::{Gate, Hold};
pub use need::{Among, Choice, Freshness, Need, NoServer, Read, Reads, WhyNot};
pub use probe::Prober;
pub use source::Source;
pub use spec::{
    GroupSpec, Hand, Out, ServerSnapshot, ServerSpec, Settings, Snapshot, SurvivesReload,
};
pub use state::{Failure, State, Watch};
pub use tls::ControlTls;
pub use view::Health;

#[cfg(test)]
mod model;
