//! Which databases are paused or disabled, for the whole process.
//!
//! Written by the console and read where a pool is made and where a client logs
//! in, so never once per query. Pools that exist are told by the console itself.

use crate::topology::{PoolKey, Topology};
use std::collections::BTreeSet;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What the console has closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// PAUSE of everything.
    pub paused_all: bool,
    /// SUSPEND: no request is taken from clients.
    pub suspended: bool,
    /// PAUSE and KILL of single databases, by the clients' names.
    pub paused: BTreeSet<String>,
    /// DISABLE.
    pub disabled: BTreeSet<String>,
}

impl State {
    /// True if the pool must lend nothing.
    pub fn pauses(&self, topology: &Topology, key: &PoolKey) -> bool {
        self.paused_all
            || self
                .paused
                .iter()
                .any(|name| topology.pool_serves(key, name))
    }

    /// True if the database lends nothing.
    pub fn is_paused(&self, database: &str) -> bool {
        self.paused_all || self.paused.contains(database)
    }
}

/// The state, shared between cores.
#[derive(Debug, Default)]
pub struct Gates(RwLock<State>);

impl Gates {
    /// The state as it is.
    pub fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().expect("nobody panics while holding it")
    }

    /// The state, to be changed.
    pub fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().expect("nobody panics while holding it")
    }
}
