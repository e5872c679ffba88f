//! Keys and partition leaves against a real PostgreSQL.
//!
//! A cluster of its own is started for the time of the run, so PostgreSQL's server binaries must be installed. Values
//! come from a seed, which is printed; `MOTHERSHIP_SEED` repeats a run.

#![allow(
    clippy::unwrap_used,
    reason = "a helper's panic fails the test that called it"
)]

mod cluster;
mod values;

mod conversions;
mod keys;
mod leaves;
mod stored;
