//! One PostgreSQL endpoint in front of many databases.
//!
//! A request goes down this list once and its answer comes back up: a session
//! reads it, the text is understood, a server connection is leased, and what the
//! server says is passed on.

pub mod run;

pub mod takeover;

pub mod config;

pub mod core;

pub mod topology;

pub mod other_process;

pub mod throttle;

mod tick;

pub mod retry;

pub mod pressure;

pub mod defaults;

pub mod rests;

pub mod session;

pub mod login;

pub mod statements;

pub mod rules;

pub mod model;

pub mod directory;

pub mod sequences;

mod rare;

pub mod failover;

#[cfg(feature = "mongo")]
pub mod mongo;

pub mod commit;

pub mod control;

pub mod proofs;

pub mod deadlock;

pub mod contention;

pub mod metrics;

pub mod exporter;

pub mod console;

pub mod offline;

pub mod verifiers;

pub mod tls;

pub mod log;
