//! Server connections: open, lend, take back, probe, balance. Knows no SQL and no shards.

pub mod wire;
