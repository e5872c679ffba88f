//! What clients see while the servers of a shard change their roles: a pause, or one right error.

#[path = "failover/stage.rs"]
mod stage;

#[path = "failover/repeats.rs"]
mod repeats;
#[path = "failover/replaced.rs"]
mod replaced;
#[path = "failover/standbys.rs"]
mod standbys;
#[path = "failover/switchover.rs"]
mod switchover;
#[path = "failover/waits.rs"]
mod waits;
