//! `mothership demo`: three real shards, the router and a small shop, on this machine; beside it a replica set of
//! MongoDB with the shop's events, where a mongod is to be had.
//!
//! ```text
//! options -> folder (locked) -> fleet, replica set (made or started) -> router -> shop (filled once) -> report -> until stopped
//! ```
//!
//! One process supervises everything and holds it by guards: whatever ends it,
//! servers and router end with it, and what a first start had not finished is
//! removed, at once or by the next start. The shop is made and filled through the
//! router, as any client would; only roles, databases and counting go past it.

mod supervise;

mod options;

mod folder;

mod lock;

mod leftovers;

mod stop;

mod fleet;

mod mongod;

mod replica_set;

#[cfg(feature = "mongo")]
mod unite;

mod settings;

mod child;

mod shop;

mod rows;

mod events;

mod words;

mod random;

mod fill;

mod progress;

mod report;

mod detach;

mod error;

pub use error::DemoError;
pub use options::{Act, Options};
pub use settings::{Ports, configuration};

/// Does what the command line asks for; returns when it is done: for a demo in the
/// foreground when it has been stopped.
pub fn run(options: Options) -> Result<(), DemoError> {
    match options.act {
        Act::Foreground => supervise::foreground(&options),
        Act::Detach => detach::start(&options),
        Act::Supervise => supervise::detached(&options),
        Act::Stop => detach::stop(&options),
        Act::Clean => detach::clean(&options),
    }
}
