//! Rules in force: refusals that no way of writing a statement passes by, servers, shards
//! and pools that they choose, on real servers and through both protocols.

#[path = "rules/stage.rs"]
mod stage;

#[path = "rules/limits.rs"]
mod limits;
#[path = "rules/priority.rs"]
mod priority;
#[path = "rules/refusals.rs"]
mod refusals;
#[path = "rules/ways.rs"]
mod ways;
