//! All tests that need a server, in one binary: one PostgreSQL serves them all.

#![allow(clippy::unwrap_used)] // A test's unwrap is its verdict.

#[path = "e2e/bad_binds.rs"]
mod bad_binds;
#[path = "e2e/bad_input.rs"]
mod bad_input;
#[path = "e2e/balance.rs"]
mod balance;
#[path = "e2e/bank.rs"]
mod bank;
#[path = "e2e/cluster.rs"]
mod cluster;
#[path = "e2e/commit.rs"]
mod commit;
#[path = "e2e/console.rs"]
mod console;
#[path = "e2e/copy.rs"]
mod copy;
#[path = "e2e/demo.rs"]
mod demo;
#[path = "e2e/deploy.rs"]
mod deploy;
#[path = "e2e/documents.rs"]
mod documents;
#[path = "e2e/drivers.rs"]
mod drivers;
#[path = "e2e/encrypted.rs"]
mod encrypted;
#[path = "e2e/execute.rs"]
mod execute;
#[path = "e2e/explain.rs"]
mod explain;
#[path = "e2e/failover.rs"]
mod failover;
#[path = "e2e/harness.rs"]
mod harness;
#[path = "e2e/health.rs"]
mod health;
#[path = "e2e/identity.rs"]
mod identity;
#[path = "e2e/limits.rs"]
mod limits;
#[path = "e2e/merge.rs"]
mod merge;
#[path = "e2e/mongo.rs"]
mod mongo;
#[path = "e2e/parameters.rs"]
mod parameters;
#[path = "e2e/pool.rs"]
mod pool;
#[path = "e2e/proxy.rs"]
mod proxy;
#[path = "e2e/reload.rs"]
mod reload;
#[path = "e2e/roles.rs"]
mod roles;
#[path = "e2e/rules.rs"]
mod rules;
#[path = "e2e/semantics.rs"]
mod semantics;
#[path = "e2e/shards.rs"]
mod shards;
#[path = "e2e/takeover.rs"]
mod takeover;
#[path = "e2e/wire.rs"]
mod wire;
