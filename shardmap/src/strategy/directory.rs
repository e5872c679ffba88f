//! A lookup table from keys to shards, as it was when it was read.
//!
//! What it does not have is not known, and not absent: somebody may have added it since.
//! So a key that is not there may be on any shard.

use std::collections::HashMap;
use std::fmt;

use crate::{KeyBytes, ShardId, ShardSet};

/// The owners of keys, by whole keys.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Directory {
    owners: HashMap<Box<[KeyBytes]>, ShardId>,
    shards: ShardSet,
}

impl Directory {
    /// From keys and their owners; of a key that comes twice the last owner stays. Keys
    /// that are not among them may be on any of `shards`.
    pub fn new(
        entries: impl IntoIterator<Item = (Vec<KeyBytes>, ShardId)>,
        shards: ShardSet,
    ) -> Directory {
        let owners: HashMap<_, _> = entries
            .into_iter()
            .map(|(keys, shard)| (keys.into_boxed_slice(), shard))
            .collect();
        let shards = shards.iter().chain(owners.values().copied()).collect();
        Directory { owners, shards }
    }

    /// The owner of a key; `None` if it is not known.
    pub fn owner(&self, keys: &[KeyBytes]) -> Option<ShardId> {
        self.owners.get(keys).copied()
    }

    /// Every shard that may own a key.
    pub fn shards(&self) -> ShardSet {
        self.shards.clone()
    }

    /// How many keys it has.
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// True without any key.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Directory({} keys)", self.owners.len())
    }
}
