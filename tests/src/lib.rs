//! What the end-to-end tests stand on: real PostgreSQL clusters, the real
//! router binary, a raw client for hand-made messages.
//!
//! All tests that need a server live in one binary, `tests/e2e.rs`, so that one
//! PostgreSQL serves them all: each test makes databases of its own on it to act
//! as shards ([`Shards`]). Tests of replicas and faults start clusters of their
//! own ([`cluster`]). Nothing outlives the test process, however it ends.
//!
//! Waiting is [`poll_until`] with a deadline; a sleep is never a synchronisation.

#![allow(clippy::unwrap_used)] // A harness that cannot go on has nothing better than to say where.

pub mod folder;

pub mod shared;

pub mod fleet;

pub mod endpoint;

pub mod router;

pub mod message;

pub mod frame;

pub mod wire;

pub mod proxy;

pub mod level;

pub mod bank;

pub mod patroni;

pub mod mongo;

pub mod proof;

pub mod bench;

pub mod load;

pub mod teller;

pub use endpoint::{Endpoint, connect, endpoint};
pub use fleet::Fleet;
pub use folder::Folder;
pub use frame::Frame;
pub use mothership_cluster::{self as cluster, poll_until};
pub use proxy::Proxy;
pub use router::Router;
pub use shared::Shards;
pub use wire::Wire;

use mothership_cluster::{Binaries, Spec};

/// PostgreSQL's programs, or a panic that says what to install.
pub fn binaries() -> Binaries {
    Binaries::find().unwrap_or_else(|error| panic!("{error}"))
}

/// A server for tests: nothing is forced to disk, 2PC is possible.
///
/// Without fsync a commit still survives `kill9`, because the kernel has it;
/// with `synchronous_commit` off it would not, so that is left on.
pub fn spec(folder: &Folder, name: &str) -> Spec {
    Spec::new(folder.path().join(name))
        .set("fsync", "off")
        .set("full_page_writes", "off")
        // To load the compiler takes longer than the statements of tests.
        .set("jit", "off")
        // It may lie in memory.
        .set("max_wal_size", "256MB")
        .set("min_wal_size", "32MB")
        .set("max_prepared_transactions", "200")
        .set("max_connections", "400")
        .set("shared_buffers", "32MB")
        .set("wal_level", "logical")
        .set("log_min_messages", "warning")
}
