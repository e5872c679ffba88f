//! Listed keys with their shards, and a shard or none for all other keys.

use std::collections::HashMap;
use std::fmt;
use std::ops::{Bound, RangeBounds};

use crate::{KeyBytes, ShardId, ShardSet};

/// Which shard owns which of the listed keys.
#[derive(Clone, PartialEq, Eq)]
pub struct ListMap {
    owners: HashMap<Box<[KeyBytes]>, ShardId>,
    default: Option<ShardId>,
}

impl ListMap {
    /// From whole keys; `Err` names the positions of two equal ones.
    pub fn new(
        entries: Vec<(Vec<KeyBytes>, ShardId)>,
        default: Option<ShardId>,
    ) -> Result<ListMap, (usize, usize)> {
        let mut positions: HashMap<&[KeyBytes], usize> = HashMap::new();
        for (position, (keys, _)) in entries.iter().enumerate() {
            if let Some(first) = positions.insert(keys, position) {
                return Err((first, position));
            }
        }
        let owners = entries
            .into_iter()
            .map(|(keys, shard)| (keys.into_boxed_slice(), shard))
            .collect();
        Ok(ListMap { owners, default })
    }

    /// The owner of a whole key.
    pub fn owner(&self, keys: &[KeyBytes]) -> Option<ShardId> {
        self.owners.get(keys).copied().or(self.default)
    }

    /// Every shard that may own a key.
    pub fn shards(&self) -> ShardSet {
        self.owners.values().copied().chain(self.default).collect()
    }

    /// The owners of keys that begin with these values.
    pub fn owners_with_prefix(&self, prefix: &[KeyBytes]) -> ShardSet {
        self.owners_where(|keys| keys.starts_with(prefix))
    }

    /// The owners of keys whose first column lies in an interval.
    pub fn owners_between(&self, lower: Bound<&KeyBytes>, upper: Bound<&KeyBytes>) -> ShardSet {
        self.owners_where(|keys| {
            keys.first()
                .is_some_and(|first| (lower, upper).contains(first))
        })
    }

    /// Keys that are not listed can always be among those that are asked for.
    fn owners_where(&self, wanted: impl Fn(&[KeyBytes]) -> bool) -> ShardSet {
        let listed = self
            .owners
            .iter()
            .filter(|(keys, _)| wanted(keys))
            .map(|(_, shard)| *shard);
        listed.chain(self.default).collect()
    }
}

impl fmt::Debug for ListMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ListMap({} keys, default {:?})",
            self.owners.len(),
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

    fn list(default: Option<ShardId>) -> ListMap {
        let entry = |value, shard| (vec![key(value)], ShardId(shard));
        ListMap::new(vec![entry(1, 0), entry(5, 1), entry(9, 2)], default).unwrap()
    }

    #[test]
    fn unlisted_keys_belong_to_the_default_or_to_nobody() {
        assert_eq!(list(None).owner(&[key(5)]), Some(ShardId(1)));
        assert_eq!(list(None).owner(&[key(6)]), None);
        assert_eq!(list(Some(ShardId(7))).owner(&[key(6)]), Some(ShardId(7)));
    }

    #[test]
    fn an_interval_reaches_the_listed_keys_inside_it_and_the_default() {
        let between = |default| {
            list(default).owners_between(Bound::Excluded(&key(1)), Bound::Included(&key(5)))
        };
        assert_eq!(between(None), ShardSet::one(ShardId(1)));
        assert_eq!(
            between(Some(ShardId(2))),
            [ShardId(1), ShardId(2)].into_iter().collect()
        );
    }

    #[test]
    fn a_key_listed_twice_is_named_by_both_positions() {
        let entry = |value| (vec![key(value)], ShardId(0));
        assert_eq!(
            ListMap::new(vec![entry(1), entry(2), entry(1)], None),
            Err((0, 2))
        );
    }
}
