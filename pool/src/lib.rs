//! Server connections: open, lend, take back, probe, balance.
//!
//! This crate knows no SQL and no shards. It deals in endpoints (servers) and in
//! pools, one per server, user and database on each core. A pool lends a
//! connection to one borrower at a time and takes it back only when nothing is
//! owed on it and nothing about it is in doubt.
//!
//! Modules in reading order: sockets, servers, one connection and what others see
//! of it, how it is opened, the limit that cores share, how many may wait, whose turn
//! it is to wait no longer, the pool that lends; then how a server is chosen, who can
//! be asked for the leader of a group, and which servers are alive.

pub mod wire;

pub mod endpoint;

pub mod standing;

pub mod connection;

pub mod refusal;

pub mod resolve;

pub mod open;

pub mod limit;

pub mod line;

pub mod rank;

pub mod pool;

pub mod balance;

pub mod http;

pub mod patroni;

pub mod health;
