//! Keys to slots, and slots to shards.
//!
//! A slot is `crc32 (IEEE) of the key % 16384`. The key of one column is its canonical bytes; a key of several columns
//! is, for each column in order, the length of its canonical bytes as four bytes big-endian, then those bytes. This is
//! a storage format: changing it would move data. crc32 is named in this file only.

use std::ops::RangeInclusive;

use crate::{KeyBytes, ShardId, ShardSet};

/// How many slots there are; a shard owns ranges of them.
pub const SLOT_COUNT: u16 = 16_384;

/// A slot, below [`SLOT_COUNT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

/// The slot of a whole key, its columns in the order of their declaration. Allocates nothing.
#[inline]
pub fn slot(keys: &[KeyBytes]) -> Slot {
    let crc = match keys {
        [key] => crc32fast::hash(key.as_bytes()),
        _ => composite(keys),
    };
    Slot((crc % u32::from(SLOT_COUNT)) as u16)
}

fn composite(keys: &[KeyBytes]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for key in keys {
        // PostgreSQL's values are below 1 GB, so the length fits.
        hasher.update(&(key.as_bytes().len() as u32).to_be_bytes());
        hasher.update(key.as_bytes());
    }
    hasher.finalize()
}

/// Which shard owns each slot: every slot has exactly one owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotMap {
    owners: Box<[ShardId]>,
    shards: ShardSet,
}

impl SlotMap {
    /// One owner per slot, in the order of slots; None unless there are [`SLOT_COUNT`] of them.
    pub fn new(owners: Vec<ShardId>) -> Option<SlotMap> {
        let shards = owners.iter().copied().collect();
        (owners.len() == usize::from(SLOT_COUNT)).then(|| SlotMap {
            owners: owners.into(),
            shards,
        })
    }

    /// Slots in `shards` consecutive ranges whose lengths differ by at most one; all to shard 0 if `shards` is 0.
    pub fn even(shards: u16) -> SlotMap {
        let shards: Vec<ShardId> = (0..shards.max(1)).map(ShardId).collect();
        SlotMap::divided(&shards).expect("there is one")
    }

    /// Slots in one range for each of `shards`, in their order, of lengths that differ by at most one; None if there is
    /// no shard.
    pub fn divided(shards: &[ShardId]) -> Option<SlotMap> {
        let slots = usize::from(SLOT_COUNT);
        let owners = (0..slots).map(|slot| shards.get(slot * shards.len() / slots).copied());
        SlotMap::new(owners.collect::<Option<_>>()?)
    }

    /// The shard that owns a slot.
    #[inline]
    pub fn owner(&self, slot: Slot) -> ShardId {
        self.owners[usize::from(slot.0 % SLOT_COUNT)]
    }

    /// The shards that own at least one slot.
    pub fn shards(&self) -> &ShardSet {
        &self.shards
    }

    /// The ranges in ascending order, neighbours with one owner joined.
    pub fn ranges(&self) -> impl Iterator<Item = (RangeInclusive<u16>, ShardId)> + '_ {
        let mut start = 0;
        self.owners.chunk_by(|a, b| a == b).map(move |run| {
            let first = start;
            start += run.len() as u16;
            (first..=start - 1, run[0])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyType;

    #[test]
    fn slots_are_a_storage_format_that_does_not_change() {
        let key = |value| KeyType::Int8.from_integer(value).unwrap();
        let text = |value: &str| KeyBytes::from_canonical(value.as_bytes());
        assert_eq!(
            slot(&[text("123456789")]),
            Slot((0xCBF4_3926_u32 % 16_384) as u16),
            "crc32's check value"
        );
        assert_eq!(slot(&[key(0)]), Slot(6835));
        assert_eq!(slot(&[key(5)]), Slot(11_836));
        assert_eq!(slot(&[key(5), text("a")]), Slot(15_264));
        assert_ne!(
            slot(&[text("ab"), text("c")]),
            slot(&[text("a"), text("bc")])
        );
    }

    #[test]
    fn even_ranges_cover_every_slot_once() {
        let ranges: Vec<_> = SlotMap::even(3).ranges().collect();
        assert_eq!(
            ranges,
            [
                (0..=5461, ShardId(0)),
                (5462..=10_922, ShardId(1)),
                (10_923..=16_383, ShardId(2))
            ]
        );
        assert_eq!(SlotMap::even(0), SlotMap::even(1));
        assert!(SlotMap::new(vec![ShardId(0); 5]).is_none());
    }
}
