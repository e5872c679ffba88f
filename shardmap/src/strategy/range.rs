//! Ranges of keys, as in PostgreSQL's `FOR VALUES FROM (...) TO (...)`.
//!
//! A bound is a point between keys: a list of [`Cut`]s, one per key column, compared column by column. A bound that is
//! shorter than the key stands before all keys that begin with it, as if MINVALUE followed.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Bound;

use crate::{KeyBytes, ShardId, ShardSet};

/// One column of a bound. The order of the variants is the order of the values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cut {
    /// MINVALUE: before every value.
    Min,
    /// This value: the next column decides. In the last column, the point just before it.
    Value(KeyBytes),
    /// MAXVALUE: after every value.
    Max,
}

/// A range and its owner: from a bound, inclusive, to a bound, exclusive.
#[derive(Clone, PartialEq, Eq)]
pub struct RangeEntry {
    /// The lower bound, inclusive.
    pub from: Vec<Cut>,
    /// The upper bound, exclusive.
    pub to: Vec<Cut>,
    /// The owner.
    pub shard: ShardId,
}

/// Why ranges do not make a map; positions are those in the list that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeError {
    /// The range ends at or before its start.
    Empty(usize),
    /// Two ranges share keys.
    Overlap(usize, usize),
}

/// Which shard owns which range.
#[derive(Clone, PartialEq, Eq)]
pub struct RangeMap {
    /// Sorted by start, and disjoint.
    entries: Box<[RangeEntry]>,
    default: Option<ShardId>,
}

impl RangeMap {
    /// From ranges in any order. Keys between them belong to the default, or to nobody.
    pub fn new(entries: Vec<RangeEntry>, default: Option<ShardId>) -> Result<RangeMap, RangeError> {
        let mut sorted: Vec<(usize, RangeEntry)> = entries.into_iter().enumerate().collect();
        if let Some((position, _)) = sorted
            .iter()
            .find(|(_, entry)| compare(&entry.from, &entry.to).is_ge())
        {
            return Err(RangeError::Empty(*position));
        }
        sorted.sort_by(|(_, a), (_, b)| compare(&a.from, &b.from));
        for pair in sorted.windows(2) {
            if compare(&pair[0].1.to, &pair[1].1.from).is_gt() {
                return Err(RangeError::Overlap(
                    pair[0].0.min(pair[1].0),
                    pair[0].0.max(pair[1].0),
                ));
            }
        }
        Ok(RangeMap {
            entries: sorted.into_iter().map(|(_, entry)| entry).collect(),
            default,
        })
    }

    /// The owner of a whole key.
    pub fn owner(&self, keys: &[KeyBytes]) -> Option<ShardId> {
        let after = self
            .entries
            .partition_point(|entry| !is_before(keys, &entry.from));
        let entry = after.checked_sub(1).map(|last| &self.entries[last]);
        entry
            .filter(|entry| is_before(keys, &entry.to))
            .map(|entry| entry.shard)
            .or(self.default)
    }

    /// Every shard that may own a key.
    pub fn shards(&self) -> ShardSet {
        self.entries
            .iter()
            .map(|entry| entry.shard)
            .chain(self.default)
            .collect()
    }

    /// The owners of the keys between two bounds, which are keys or prefixes of keys; a prefix stands for all keys
    /// that begin with it.
    pub fn owners_between(&self, lower: Bound<&[KeyBytes]>, upper: Bound<&[KeyBytes]>) -> ShardSet {
        let from = match lower {
            Bound::Unbounded => vec![Cut::Min],
            Bound::Included(keys) => cuts(keys, None),
            Bound::Excluded(keys) => cuts(keys, Some(Cut::Max)),
        };
        let to = match upper {
            Bound::Unbounded => vec![Cut::Max],
            Bound::Included(keys) => cuts(keys, Some(Cut::Max)),
            Bound::Excluded(keys) => cuts(keys, None),
        };
        let mut owners = ShardSet::empty();
        // What is covered so far. A gap before the next range belongs to the default.
        let mut covered = from.clone();
        let mut gap = false;
        let first = self
            .entries
            .partition_point(|entry| compare(&entry.to, &from).is_le());
        for entry in self.entries[first..]
            .iter()
            .take_while(|entry| compare(&entry.from, &to).is_lt())
        {
            owners.insert(entry.shard);
            gap |= compare(&covered, &entry.from).is_lt();
            covered.clone_from(&entry.to);
        }
        gap |= compare(&covered, &to).is_lt();
        if gap && compare(&from, &to).is_lt() {
            self.default
                .into_iter()
                .for_each(|shard| owners.insert(shard));
        }
        owners
    }
}

/// The point before all keys that begin with these values. If `end` is `Max`, the point after them.
fn cuts(keys: &[KeyBytes], end: Option<Cut>) -> Vec<Cut> {
    keys.iter().cloned().map(Cut::Value).chain(end).collect()
}

/// The order of two points; what is missing at the end is MINVALUE, and what follows an infinite cut does not matter.
fn compare(a: &[Cut], b: &[Cut]) -> Ordering {
    for column in 0..a.len().max(b.len()) {
        let (a, b) = (
            a.get(column).unwrap_or(&Cut::Min),
            b.get(column).unwrap_or(&Cut::Min),
        );
        match a.cmp(b) {
            Ordering::Equal if matches!(a, Cut::Value(_)) => {}
            order => return order,
        }
    }
    Ordering::Equal
}

/// Whether a whole key stands before a point.
fn is_before(keys: &[KeyBytes], point: &[Cut]) -> bool {
    for (key, cut) in keys.iter().zip(point) {
        match cut {
            Cut::Min => return false,
            Cut::Max => return true,
            Cut::Value(value) if key != value => return key < value,
            Cut::Value(_) => {}
        }
    }
    false
}

impl fmt::Debug for RangeEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RangeEntry(shard {})", self.shard)
    }
}

impl fmt::Debug for RangeMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "RangeMap({} ranges, default {:?})",
            self.entries.len(),
            self.default
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(value: i64) -> KeyBytes {
        KeyBytes::from_i64(value)
    }

    fn at(value: i64) -> Vec<Cut> {
        vec![Cut::Value(key(value))]
    }

    fn entry(from: Vec<Cut>, to: Vec<Cut>, shard: u16) -> RangeEntry {
        RangeEntry {
            from,
            to,
            shard: ShardId(shard),
        }
    }

    /// Shard 0 below 10, shard 1 from 10 to 20, shard 2 from 30.
    fn map(default: Option<ShardId>) -> RangeMap {
        let entries = vec![
            entry(at(30), vec![Cut::Max], 2),
            entry(vec![Cut::Min], at(10), 0),
            entry(at(10), at(20), 1),
        ];
        RangeMap::new(entries, default).unwrap()
    }

    fn shards(ids: &[u16]) -> ShardSet {
        ids.iter().copied().map(ShardId).collect()
    }

    #[test]
    fn starts_are_inclusive_and_ends_are_exclusive() {
        let owner = |value| map(None).owner(&[key(value)]).map(|shard| shard.0);
        let owners = [i64::MIN, 9, 10, 19, 20, 29, 30, i64::MAX].map(owner);
        assert_eq!(
            owners,
            [
                Some(0),
                Some(0),
                Some(1),
                Some(1),
                None,
                None,
                Some(2),
                Some(2)
            ]
        );
        assert_eq!(map(Some(ShardId(9))).owner(&[key(25)]), Some(ShardId(9)));
    }

    #[test]
    fn an_interval_reaches_all_ranges_between_its_ends() {
        use Bound::{Excluded, Included, Unbounded};
        let (k5, k10, k20, k25, k30) = ([key(5)], [key(10)], [key(20)], [key(25)], [key(30)]);
        for (lower, upper, expected) in [
            (Included(&k5[..]), Included(&k30[..]), &[0, 1, 2, 9][..]),
            (Included(&k5), Excluded(&k10), &[0]),
            (Included(&k5), Included(&k10), &[0, 1]),
            (Excluded(&k10), Excluded(&k20), &[1]),
            (Included(&k20), Excluded(&k30), &[9]),
            (Included(&k20), Included(&k30), &[2, 9]),
            (Included(&k25), Included(&k25), &[9]),
            (Unbounded, Excluded(&k5), &[0]),
            (Excluded(&k30), Unbounded, &[2]),
            (Unbounded, Unbounded, &[0, 1, 2, 9]),
            (Included(&k30), Included(&k5), &[]),
            (Excluded(&k10), Excluded(&k10), &[]),
        ] {
            assert_eq!(
                map(Some(ShardId(9))).owners_between(lower, upper),
                shards(expected),
                "{lower:?} {upper:?}"
            );
        }
    }

    #[test]
    fn composite_bounds_compare_column_by_column() {
        let two = |a, b| vec![Cut::Value(key(a)), Cut::Value(key(b))];
        let entries = vec![
            entry(vec![Cut::Min], two(5, 100), 0),
            entry(two(5, 100), vec![Cut::Value(key(7)), Cut::Max], 1),
        ];
        let map = RangeMap::new(entries, None).unwrap();
        let owner = |a, b| map.owner(&[key(a), key(b)]).map(|shard| shard.0);
        assert_eq!(
            [owner(5, 99), owner(5, 100), owner(7, i64::MAX), owner(8, 0)],
            [Some(0), Some(1), Some(1), None]
        );
        let prefix = |a| map.owners_between(Bound::Included(&[key(a)]), Bound::Included(&[key(a)]));
        assert_eq!(
            [prefix(4), prefix(5), prefix(6), prefix(8)],
            [shards(&[0]), shards(&[0, 1]), shards(&[1]), shards(&[])]
        );
    }

    #[test]
    fn empty_and_overlapping_ranges_are_named_by_position() {
        let error = |entries| RangeMap::new(entries, None).unwrap_err();
        assert_eq!(
            error(vec![entry(at(1), at(2), 0), entry(at(5), at(5), 0)]),
            RangeError::Empty(1)
        );
        assert_eq!(
            error(vec![entry(at(5), at(9), 0), entry(at(1), at(6), 1)]),
            RangeError::Overlap(0, 1)
        );
    }
}
