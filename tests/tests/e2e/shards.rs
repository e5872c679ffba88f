//! The router in front of three shards: what a client sees, and what then lies on
//! each shard, looked at past the router.
//!
//! The shards are three databases of the shared server. Every answer has a deadline,
//! so that a hang is a failure of its own test.

#[path = "shards/stage.rs"]
pub mod stage;

#[path = "shards/alike.rs"]
mod alike;
#[path = "shards/away.rs"]
mod away;
#[path = "shards/blocks.rs"]
mod blocks;
#[path = "shards/cancels.rs"]
mod cancels;
#[path = "shards/commands.rs"]
mod commands;
#[path = "shards/copying.rs"]
mod copying;
#[path = "shards/cursors.rs"]
mod cursors;
#[path = "shards/deadlocks.rs"]
mod deadlocks;
#[path = "shards/definitions.rs"]
mod definitions;
#[path = "shards/directory.rs"]
mod directory;
#[path = "shards/explaining.rs"]
mod explaining;
#[path = "shards/fast.rs"]
mod fast;
#[path = "shards/fast_over.rs"]
mod fast_over;
#[path = "shards/faults.rs"]
mod faults;
#[path = "shards/finishing.rs"]
mod finishing;
#[path = "shards/followed.rs"]
mod followed;
#[path = "shards/gathered.rs"]
mod gathered;
#[path = "shards/in_line.rs"]
mod in_line;
#[path = "shards/isolation.rs"]
mod isolation;
#[path = "shards/locks.rs"]
mod locks;
#[path = "shards/made.rs"]
mod made;
#[path = "shards/moves.rs"]
mod moves;
#[path = "shards/narrowed.rs"]
mod narrowed;
#[path = "shards/numbers.rs"]
mod numbers;
#[path = "shards/ordinary.rs"]
mod ordinary;
#[path = "shards/own.rs"]
mod own;
#[path = "shards/owned.rs"]
mod owned;
#[path = "shards/pipelines.rs"]
mod pipelines;
#[path = "shards/places.rs"]
mod places;
#[path = "shards/portals.rs"]
mod portals;
#[path = "shards/processes.rs"]
mod processes;
#[path = "shards/reaching.rs"]
mod reaching;
#[path = "shards/reads.rs"]
mod reads;
#[path = "shards/reload.rs"]
mod reload;
#[path = "shards/returning.rs"]
mod returning;
#[path = "shards/scripts.rs"]
mod scripts;
#[path = "shards/secured.rs"]
mod secured;
#[path = "shards/segments.rs"]
mod segments;
#[path = "shards/sequences.rs"]
mod sequences;
#[path = "shards/settings.rs"]
mod settings;
#[path = "shards/shapes.rs"]
mod shapes;
#[path = "shards/sorted.rs"]
mod sorted;
#[path = "shards/spelled.rs"]
mod spelled;
#[path = "shards/temporary.rs"]
mod temporary;
#[path = "shards/time.rs"]
mod time;
#[path = "shards/transactions.rs"]
mod transactions;
#[path = "shards/turns.rs"]
mod turns;
#[path = "shards/undone.rs"]
mod undone;
#[path = "shards/unlike.rs"]
mod unlike;
#[path = "shards/unseen.rs"]
mod unseen;
#[path = "shards/views.rs"]
mod views;
#[path = "shards/within.rs"]
mod within;
#[path = "shards/writes.rs"]
mod writes;
