//! The leaf that PostgreSQL's own hash partitioning chooses for a row.
//!
//! PostgreSQL hashes each column of the partition key with its type's extended hash function and a fixed seed, combines
//! the hashes, and takes the remainder. This is independent of crc32, on purpose: with one hash for shards and
//! partitions, all rows of a shard would fall into one partition. As on every platform that PostgreSQL commonly runs
//! on, servers are little-endian; the hash of bytes differs on others.
//! <https://www.postgresql.org/docs/15/sql-createtable.html>, `partitioning/partbounds.c`, `common/hashfn.c`.

mod jenkins;

use std::num::NonZeroU32;

use crate::key::numeric_form::{self, Parts};
use crate::{KeyBytes, KeyType};

/// HASH_PARTITION_SEED.
const SEED: u64 = 0x7A5B_2236_7996_DCFD;

/// The remainder, which is the leaf `FOR VALUES WITH (MODULUS modulus, REMAINDER remainder)`, of a row whose partition
/// key has these values, a NULL being None. None if some bytes are not canonical for their type.
///
/// Leaves of one table may have different moduli: a leaf takes a row if the row's remainder by the leaf's modulus is
/// the leaf's. Text must have a deterministic collation. Integer types hash alike, so a key that came from another
/// integer type than the column's is right too.
pub fn leaf_remainder(values: &[Option<(KeyType, &KeyBytes)>], modulus: NonZeroU32) -> Option<u32> {
    remainder_of(values.iter().copied(), modulus)
}

/// As [`leaf_remainder`], from an iterator.
pub(crate) fn remainder_of<'a>(
    values: impl Iterator<Item = Option<(KeyType, &'a KeyBytes)>>,
    modulus: NonZeroU32,
) -> Option<u32> {
    let mut row = 0u64;
    // A NULL takes no part, not even as a zero.
    for (key_type, key) in values.flatten() {
        row = combine(row, hash(key_type, key)?);
    }
    Some((row % u64::from(modulus.get())) as u32)
}

/// `hash_combine64`.
fn combine(row: u64, hash: u64) -> u64 {
    row ^ hash
        .wrapping_add(0x49a0_f4dd_15e5_a8e3)
        .wrapping_add(row << 54)
        .wrapping_add(row >> 7)
}

/// The extended hash function of the type's default hash operator class.
fn hash(key_type: KeyType, key: &KeyBytes) -> Option<u64> {
    match key_type {
        KeyType::Bool => Some(jenkins::hash_u32(u32::from(*key.as_bytes().first()?), SEED)),
        KeyType::Int2
        | KeyType::Int4
        | KeyType::Int8
        | KeyType::Timestamp
        | KeyType::TimestampTz => Some(int8(key.as_i64()?)),
        KeyType::Date => Some(jenkins::hash_u32(key.as_i32()? as u32, SEED)),
        KeyType::Text | KeyType::Varchar | KeyType::Uuid | KeyType::Bytea => {
            Some(jenkins::hash_bytes(key.as_bytes(), SEED))
        }
        KeyType::Numeric => Some(numeric(&numeric_form::decode(key)?)),
    }
}

/// `hashint8extended`: folds the halves so that a value that fits int4 hashes like the int4.
fn int8(value: i64) -> u64 {
    let (low, high) = (value as u32, (value >> 32) as u32);
    jenkins::hash_u32(low ^ if value >= 0 { high } else { !high }, SEED)
}

/// `hash_numeric_extended`: the digits as they lie in memory, and the weight; neither sign nor scale.
fn numeric(parts: &Parts) -> u64 {
    match parts {
        Parts::Special => SEED,
        Parts::Zero => SEED - 1,
        Parts::Finite { weight, digits, .. } => {
            let bytes: Vec<u8> = digits
                .iter()
                .flat_map(|digit| digit.to_le_bytes())
                .collect();
            // The weight is an int in C, so its sign extends.
            jenkins::hash_bytes(&bytes, SEED) ^ i64::from(*weight) as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SlotMap, TextContext, slot};

    #[test]
    fn a_null_takes_no_part() {
        let key = KeyType::Int8.from_integer(5).unwrap();
        let three = NonZeroU32::new(3).unwrap();
        let five = Some((KeyType::Int8, &key));
        assert_eq!(
            leaf_remainder(&[five], three),
            leaf_remainder(&[None, five, None], three)
        );
        assert_eq!(leaf_remainder(&[None], three), Some(0));
        assert_eq!(leaf_remainder(&[Some((KeyType::Date, &key))], three), None);
    }

    #[test]
    fn integers_of_all_widths_hash_alike() {
        let seven = NonZeroU32::new(7).unwrap();
        for value in ["-1", "0", "32767", "-32768"] {
            let leaf = |key_type: KeyType| {
                let key = key_type
                    .from_text(value.as_bytes(), &TextContext::UTC)
                    .unwrap();
                leaf_remainder(&[Some((key_type, &key))], seven)
            };
            assert_eq!(leaf(KeyType::Int2), leaf(KeyType::Int8));
            assert_eq!(leaf(KeyType::Int4), leaf(KeyType::Int8));
        }
    }

    #[test]
    fn rows_of_each_shard_spread_over_all_partitions() {
        let (slots, three) = (SlotMap::even(3), NonZeroU32::new(3).unwrap());
        let mut rows = [[0u32; 3]; 3];
        for value in 1..=90_000 {
            let key = KeyType::Int8.from_integer(value).unwrap();
            let leaf = leaf_remainder(&[Some((KeyType::Int8, &key))], three).unwrap();
            rows[slots.owner(slot(&[key])).index()][leaf as usize] += 1;
        }
        // A ninth each, give or take five in a hundred.
        assert!(
            rows.as_flattened()
                .iter()
                .all(|count| (9_500..=10_500).contains(count)),
            "{rows:?}"
        );
    }
}
