//! Starts, stops, breaks and promotes real PostgreSQL servers on this machine.
//!
//! `mothership demo` shows its shards with it, and the tests run on it. A
//! [`Cluster`] is a cluster in PostgreSQL's sense: one data folder and the one
//! server that serves it, primary or streaming replica. Sync; nothing here
//! knows shards or pools, and only `ask.rs` the wire protocol.
//!
//! Every server ends with the process that started it, also when that process
//! is killed by SIGKILL (`process.rs` says how). Linux only, as is that.

mod server;

mod replica;

mod binaries;

mod account;

mod port;

mod conf;

mod process;

mod ask;

mod wait;

mod error;

pub use account::Account;
pub use ask::Asking;
pub use binaries::Binaries;
pub use error::ClusterError;
pub use port::free_port;
pub use process::spawn_tied;
pub use replica::Slot;
pub use server::{Auth, Cluster, Mode, Spec};
pub use wait::poll_until;
