//! A lookup table from keys to shards.
//!
//! The store is behind a trait and answers at once from what it has loaded; whoever owns the store loads it.

use std::collections::HashMap;
use std::fmt;

use crate::{KeyBytes, ShardId, ShardSet};

/// A directory's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// This shard owns the key.
    Shard(ShardId),
    /// The key is known to have no owner.
    Unmapped,
    /// The key is not loaded: nothing is known about it.
    NotLoaded,
}

/// A store of owners, by whole keys.
pub trait Directory: fmt::Debug + Send + Sync {
    /// The owner of a key, from memory.
    fn lookup(&self, keys: &[KeyBytes]) -> Lookup;

    /// Every shard that may own a key, loaded or not.
    fn shards(&self) -> ShardSet;
}

/// A directory that holds all its keys in memory, with an owner or none for all others.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct MemoryDirectory {
    owners: HashMap<Box<[KeyBytes]>, ShardId>,
    default: Option<ShardId>,
}

impl MemoryDirectory {
    /// From keys and their owners; of a key that comes twice the last owner stays.
    pub fn new(
        entries: impl IntoIterator<Item = (Vec<KeyBytes>, ShardId)>,
        default: Option<ShardId>,
    ) -> MemoryDirectory {
        let owners = entries
            .into_iter()
            .map(|(keys, shard)| (keys.into_boxed_slice(), shard))
            .collect();
        MemoryDirectory { owners, default }
    }
}

impl Directory for MemoryDirectory {
    fn lookup(&self, keys: &[KeyBytes]) -> Lookup {
        self.owners
            .get(keys)
            .copied()
            .or(self.default)
            .map_or(Lookup::Unmapped, Lookup::Shard)
    }

    fn shards(&self) -> ShardSet {
        self.owners.values().copied().chain(self.default).collect()
    }
}

impl fmt::Debug for MemoryDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "MemoryDirectory({} keys, default {:?})",
            self.owners.len(),
            self.default
        )
    }
}
