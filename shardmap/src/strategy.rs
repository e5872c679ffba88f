//! How the key of a table leads to a shard: the five strategies behind one type.
//!
//! `owner` answers for a whole key; the other questions (a prefix of the key, an interval) are answered with every
//! shard that may hold such a row: too many is slow, too few would be a wrong answer.

mod directory;
mod list;
mod range;

use std::num::NonZeroU32;
use std::ops::Bound;
use std::sync::Arc;

pub use directory::Directory;
pub use list::ListMap;
pub use range::{Cut, RangeEntry, RangeError, RangeMap};

use crate::{KeyBytes, KeyType, ShardId, ShardSet, SlotMap, partition, slot};

/// How keys are divided among shards.
#[derive(Clone, Debug)]
pub enum Strategy {
    /// By slot: crc32 of the key, then ranges of slots. All tables of a map share its slots.
    Hash(Arc<SlotMap>),
    /// By ranges of the key, each from an inclusive to an exclusive bound.
    Range(RangeMap),
    /// By listed keys.
    List(ListMap),
    /// By a lookup table.
    Directory(Arc<Directory>),
    /// By PostgreSQL's own hash partitioning: the shard at position `hash % len`, for databases that were split that way.
    Postgres(Vec<ShardId>),
}

/// Why no shard owns a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoOwner {
    /// The map has no place for this key: no row has it, and none can be stored.
    #[error("no shard is declared for this key")]
    Unmapped,
    /// The directory did not have this key when it was read: any shard may own it.
    #[error("the directory does not have this key")]
    NotInDirectory,
    /// The key has another number of columns than the table declares: a mistake of the caller.
    #[error("the key has {got} columns where the table declares {expected}")]
    Columns {
        /// Columns of the table's key.
        expected: usize,
        /// Columns that were given.
        got: usize,
    },
    /// A key's bytes are not canonical for its column's type: a mistake of the caller, or a damaged directory.
    #[error("the key is not a value of its column's type")]
    NotCanonical,
}

impl Strategy {
    /// The strategy's name in configuration and `SHOW MAP`.
    pub fn name(&self) -> &'static str {
        match self {
            Strategy::Hash(_) => "hash",
            Strategy::Range(_) => "range",
            Strategy::List(_) => "list",
            Strategy::Directory(_) => "directory",
            Strategy::Postgres(_) => "postgres",
        }
    }

    /// Every shard that may hold a row.
    pub fn shards(&self) -> ShardSet {
        match self {
            Strategy::Hash(slots) => slots.shards().clone(),
            Strategy::Range(ranges) => ranges.shards(),
            Strategy::List(list) => list.shards(),
            Strategy::Directory(directory) => directory.shards(),
            Strategy::Postgres(remainders) => remainders.iter().copied().collect(),
        }
    }

    /// The owner of a whole key, whose columns have these types.
    pub(crate) fn owner(
        &self,
        types: &[(String, KeyType)],
        keys: &[KeyBytes],
    ) -> Result<ShardId, NoOwner> {
        if keys.len() != types.len() {
            return Err(NoOwner::Columns {
                expected: types.len(),
                got: keys.len(),
            });
        }
        match self {
            Strategy::Hash(slots) => Ok(slots.owner(slot(keys))),
            Strategy::Range(ranges) => ranges.owner(keys).ok_or(NoOwner::Unmapped),
            Strategy::List(list) => list.owner(keys).ok_or(NoOwner::Unmapped),
            Strategy::Directory(directory) => directory.owner(keys).ok_or(NoOwner::NotInDirectory),
            Strategy::Postgres(remainders) => postgres_owner(remainders, types, keys),
        }
    }

    /// The shards that may hold rows whose first key columns have these values.
    pub(crate) fn owners_with_prefix(&self, prefix: &[KeyBytes]) -> ShardSet {
        match self {
            Strategy::Range(ranges) => {
                ranges.owners_between(Bound::Included(prefix), Bound::Included(prefix))
            }
            Strategy::List(list) => list.owners_with_prefix(prefix),
            Strategy::Hash(_) | Strategy::Directory(_) | Strategy::Postgres(_) => self.shards(),
        }
    }

    /// The shards that may hold rows whose first key column lies in an interval, by the order of canonical bytes.
    pub(crate) fn owners_between(
        &self,
        lower: Bound<&KeyBytes>,
        upper: Bound<&KeyBytes>,
    ) -> ShardSet {
        match self {
            Strategy::Range(ranges) => ranges.owners_between(
                lower.map(std::slice::from_ref),
                upper.map(std::slice::from_ref),
            ),
            Strategy::List(list) => list.owners_between(lower, upper),
            Strategy::Hash(_) | Strategy::Directory(_) | Strategy::Postgres(_) => self.shards(),
        }
    }

    /// Whether two tables with the same key types and these strategies have equal keys on equal shards.
    pub(crate) fn same_as(&self, other: &Strategy) -> bool {
        match (self, other) {
            (Strategy::Hash(a), Strategy::Hash(b)) => a == b,
            (Strategy::Range(a), Strategy::Range(b)) => a == b,
            (Strategy::List(a), Strategy::List(b)) => a == b,
            (Strategy::Directory(a), Strategy::Directory(b)) => Arc::ptr_eq(a, b),
            (Strategy::Postgres(a), Strategy::Postgres(b)) => a == b,
            _ => false,
        }
    }
}

fn postgres_owner(
    remainders: &[ShardId],
    types: &[(String, KeyType)],
    keys: &[KeyBytes],
) -> Result<ShardId, NoOwner> {
    let modulus = u32::try_from(remainders.len())
        .ok()
        .and_then(NonZeroU32::new)
        .ok_or(NoOwner::Unmapped)?;
    let values = types
        .iter()
        .zip(keys)
        .map(|((_, key_type), key)| Some((*key_type, key)));
    let remainder = partition::remainder_of(values, modulus).ok_or(NoOwner::NotCanonical)?;
    remainders
        .get(remainder as usize)
        .copied()
        .ok_or(NoOwner::Unmapped)
}
