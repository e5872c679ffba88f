//! Numbers that look random and are the same for the same seed on every machine
//! and in every version: SplitMix64 (Steele, Lea, Flood 2014).
//!
//! The `rand` crate promises such stability for no generator under a fixed name.

/// A stream of numbers.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    /// The stream of one thing, such as a customer, independent of those of other things.
    pub(super) fn of(seed: u64, kind: u64, id: u64) -> Random {
        let kind = Random(seed).next() ^ kind;
        let id = Random(kind).next() ^ id;
        Random(Random(id).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `first` to `last`, both included.
    pub(super) fn between(&mut self, first: u32, last: u32) -> u32 {
        debug_assert!(first <= last, "a range has something in it");
        let count = u64::from(last - first) + 1;
        // The high half times the count, shifted: the bias is below 2^-32 and harms no shop.
        let step = ((self.next() >> 32) * count) >> 32;
        first + u32::try_from(step).expect("a product shifted so is below the count")
    }

    /// One of them.
    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let last = u32::try_from(from.len() - 1).expect("lists of words are short");
        &from[self.between(0, last) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_numbers_come_out() {
        let mut random = Random(1_234_567);
        let first: Vec<_> = (0..3).map(|_| random.next()).collect();
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(first, published);
    }

    #[test]
    fn a_range_is_used_to_both_ends() {
        let mut random = Random::of(1, 2, 3);
        let mut seen = [0; 4];
        (0..400).for_each(|_| seen[random.between(0, 3) as usize] += 1);
        assert!(
            seen.iter().all(|count| (60..140).contains(count)),
            "{seen:?}"
        );
        assert_eq!(random.between(u32::MAX, u32::MAX), u32::MAX);
    }
}
