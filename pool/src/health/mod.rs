//! Which servers are alive.

pub mod clock;
pub mod group;
pub mod position;
pub mod report;
pub mod state;
