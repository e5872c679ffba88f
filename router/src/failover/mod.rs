//! Planned switchover: an administrator makes another server the primary of a shard. The module `health` detects unplanned
//! failovers.

mod fence;

pub mod switchover;
