//! Where a table lives.

use std::ops::Bound;
use std::sync::Arc;

use crate::{KeyBytes, KeyType, NoOwner, ShardId, ShardSet, Strategy};

/// A colocation group: tables of one group keep equal keys on the same shard.
///
/// The number is valid within one [`crate::ShardMap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

/// Where a table's rows are.
#[derive(Clone, Debug)]
pub enum Placement {
    /// Each row on the shard that owns its key.
    Sharded(Arc<Sharded>),
    /// Every row on every shard.
    Reference,
    /// Every row on the home shard.
    Home,
}

/// A table, or a pattern of tables, divided by a key.
#[derive(Clone, Debug)]
pub struct Sharded {
    /// The key's columns in order, as the catalog spells them.
    pub columns: Vec<(String, KeyType)>,
    /// How keys lead to shards.
    pub strategy: Strategy,
    /// Tables of one group are colocated: same key types in the same order, same strategy.
    pub group: GroupId,
    /// UNIQUE and similar constraints without the whole key are allowed, though no shard can enforce them.
    pub allow_unenforced_unique: bool,
    /// Every shard that may hold a row: where a statement without a key condition goes.
    pub shards: ShardSet,
}

/// How wide an interval of integers or dates is answered value by value rather than by all shards.
const ENUMERATED: u64 = 64;

impl Sharded {
    /// The shard that owns a key, given whole and without NULL: a NULL key has no owner, and a row with one is refused.
    /// For a read, [`NoOwner::Unmapped`] means that no row can match.
    pub fn owner(&self, keys: &[KeyBytes]) -> Result<ShardId, NoOwner> {
        self.strategy.owner(&self.columns, keys)
    }

    /// The shards that may hold rows whose first key columns have these values; all columns is a key, none is all
    /// shards.
    pub fn owners_with_prefix(&self, prefix: &[KeyBytes]) -> ShardSet {
        if prefix.len() < self.columns.len() {
            return self.strategy.owners_with_prefix(prefix);
        }
        match self.owner(prefix) {
            Ok(shard) => ShardSet::one(shard),
            Err(NoOwner::Unmapped) => ShardSet::empty(),
            Err(_) => self.shards.clone(),
        }
    }

    /// The shards that may hold rows whose first key column lies in an interval of that column's type.
    ///
    /// Text is ordered by its collation, which bytes do not follow: all shards. Bounds must be values of the column's
    /// type; a condition such as `id < 5.5`, whose value is [`crate::KeyError::NoMatch`], has no bound here.
    pub fn owners_between(&self, lower: Bound<&KeyBytes>, upper: Bound<&KeyBytes>) -> ShardSet {
        match self.columns.first() {
            Some((_, key_type)) if key_type.bytes_order() => {
                self.owners_between_bytewise(lower, upper)
            }
            _ => self.shards.clone(),
        }
    }

    /// As [`Sharded::owners_between`], for text columns whose collation is known to compare bytes (C, POSIX).
    pub fn owners_between_bytewise(
        &self,
        lower: Bound<&KeyBytes>,
        upper: Bound<&KeyBytes>,
    ) -> ShardSet {
        match self.columns.as_slice() {
            [(_, key_type)] => match self.enumerate(*key_type, lower, upper) {
                Some(owners) => owners,
                None => self.strategy.owners_between(lower, upper),
            },
            _ => self.strategy.owners_between(lower, upper),
        }
    }

    /// The owners of each value of a short interval; None if it is not short or cannot be counted.
    fn enumerate(
        &self,
        key_type: KeyType,
        lower: Bound<&KeyBytes>,
        upper: Bound<&KeyBytes>,
    ) -> Option<ShardSet> {
        let number = |key: &KeyBytes| match key_type {
            KeyType::Int2 | KeyType::Int4 | KeyType::Int8 => key.as_i64(),
            KeyType::Date => key.as_i32().map(i64::from),
            _ => None,
        };
        let first = match lower {
            Bound::Included(key) => number(key)?,
            Bound::Excluded(key) => number(key)?.checked_add(1)?,
            Bound::Unbounded => return None,
        };
        let last = match upper {
            Bound::Included(key) => number(key)?,
            Bound::Excluded(key) => number(key)?.checked_sub(1)?,
            Bound::Unbounded => return None,
        };
        if first > last {
            return Some(ShardSet::empty());
        }
        if last.abs_diff(first) >= ENUMERATED {
            return None;
        }
        let key = |value: i64| match key_type {
            KeyType::Date => i32::try_from(value).ok().map(KeyBytes::from_i32),
            _ => Some(KeyBytes::from_i64(value)),
        };
        let mut owners = ShardSet::empty();
        for value in first..=last {
            match self.owner(&[key(value)?]) {
                Ok(shard) => owners.insert(shard),
                Err(NoOwner::Unmapped) => {}
                Err(_) => return None,
            }
        }
        Some(owners)
    }
}
