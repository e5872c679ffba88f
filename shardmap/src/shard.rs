//! Names of shards inside a map, and small sets of them.
//!
//! Ids are positions in the map's list of shards; they mean nothing without the map's version.

use std::fmt;

/// A shard's position in its [`crate::ShardMap`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The position as an index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of shards. It allocates only if it holds a shard beyond the 128th.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct ShardSet {
    low: [u64; 2],
    /// Shards from 128 on; without trailing zero words, so that equal sets are equal values.
    high: Vec<u64>,
}

impl ShardSet {
    /// No shard.
    pub const fn empty() -> ShardSet {
        ShardSet {
            low: [0; 2],
            high: Vec::new(),
        }
    }

    /// The first `count` shards.
    pub fn all(count: u16) -> ShardSet {
        (0..count).map(ShardId).collect()
    }

    /// One shard.
    pub fn one(shard: ShardId) -> ShardSet {
        let mut set = ShardSet::empty();
        set.insert(shard);
        set
    }

    /// Adds a shard; does nothing if it is there already.
    pub fn insert(&mut self, shard: ShardId) {
        let (word, bit) = (shard.index() / 64, 1 << (shard.index() % 64));
        match word.checked_sub(self.low.len()) {
            None => self.low[word] |= bit,
            Some(word) => {
                if self.high.len() <= word {
                    self.high.resize(word + 1, 0);
                }
                self.high[word] |= bit;
            }
        }
    }

    /// Whether the shard is in the set.
    pub fn contains(&self, shard: ShardId) -> bool {
        let word = self.words().nth(shard.index() / 64).unwrap_or(0);
        word & (1 << (shard.index() % 64)) != 0
    }

    /// The shards of either set.
    #[must_use]
    pub fn union(&self, other: &ShardSet) -> ShardSet {
        let (longer, shorter) = if self.high.len() >= other.high.len() {
            (self, other)
        } else {
            (other, self)
        };
        let mut set = longer.clone();
        set.low[0] |= shorter.low[0];
        set.low[1] |= shorter.low[1];
        for (word, more) in set.high.iter_mut().zip(&shorter.high) {
            *word |= more;
        }
        set
    }

    /// The shards of both sets.
    #[must_use]
    pub fn intersect(&self, other: &ShardSet) -> ShardSet {
        let low = [self.low[0] & other.low[0], self.low[1] & other.low[1]];
        let mut high: Vec<u64> = self
            .high
            .iter()
            .zip(&other.high)
            .map(|(a, b)| a & b)
            .collect();
        while high.last() == Some(&0) {
            high.pop();
        }
        ShardSet { low, high }
    }

    /// Whether every shard of this set is in the other.
    pub fn is_subset(&self, other: &ShardSet) -> bool {
        self.intersect(other) == *self
    }

    /// How many shards.
    pub fn len(&self) -> usize {
        self.words().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there is no shard.
    pub fn is_empty(&self) -> bool {
        self.low == [0; 2] && self.high.is_empty()
    }

    /// The only shard, if there is exactly one.
    pub fn single(&self) -> Option<ShardId> {
        let mut shards = self.iter();
        let first = shards.next()?;
        shards.next().is_none().then_some(first)
    }

    /// The shards in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.words().enumerate().flat_map(|(index, mut word)| {
            std::iter::from_fn(move || {
                if word == 0 {
                    return None;
                }
                let bit = word.trailing_zeros() as usize;
                word &= word - 1;
                // Insertion took a u16, so the position is one.
                Some(ShardId((index * 64 + bit) as u16))
            })
        })
    }

    fn words(&self) -> impl Iterator<Item = u64> + '_ {
        self.low.iter().chain(&self.high).copied()
    }
}

impl FromIterator<ShardId> for ShardSet {
    fn from_iter<I: IntoIterator<Item = ShardId>>(shards: I) -> ShardSet {
        let mut set = ShardSet::empty();
        shards.into_iter().for_each(|shard| set.insert(shard));
        set
    }
}

impl fmt::Debug for ShardSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.iter().map(|shard| shard.0))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(shards: &[u16]) -> ShardSet {
        shards.iter().copied().map(ShardId).collect()
    }

    #[test]
    fn sets_behave_as_sets_on_both_sides_of_the_inline_words() {
        let (a, b) = (
            set(&[0, 63, 64, 127, 128, 700]),
            set(&[63, 128, 9000, 65535]),
        );
        assert_eq!(a.union(&b), set(&[0, 63, 64, 127, 128, 700, 9000, 65535]));
        assert_eq!(a.union(&b), b.union(&a));
        assert_eq!(a.intersect(&b), set(&[63, 128]));
        assert_eq!(a.intersect(&set(&[1])), ShardSet::empty());
        assert_eq!(
            a.iter().map(|s| s.0).collect::<Vec<_>>(),
            [0, 63, 64, 127, 128, 700]
        );
        assert_eq!((a.len(), ShardSet::all(130).len()), (6, 130));
        assert!(
            a.contains(ShardId(700)) && !a.contains(ShardId(701)) && !a.contains(ShardId(65535))
        );
        assert_eq!(
            (set(&[700]).single(), a.single(), ShardSet::empty().single()),
            (Some(ShardId(700)), None, None)
        );
        assert!(set(&[63]).is_subset(&a) && !b.is_subset(&a));
    }
}
