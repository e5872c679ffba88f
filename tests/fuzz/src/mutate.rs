//! Random changes of seeds, for runs without libFuzzer.

use rand::RngExt;
use rand::rngs::StdRng;

/// Inputs are not made longer than this.
const LONGEST: usize = 4096;

/// One of the seeds, changed in some places: bytes, runs, words that the part knows, pieces of other seeds.
pub fn mutated(seeds: &[Vec<u8>], words: &[&str], rng: &mut StdRng) -> Vec<u8> {
    let mut data = seeds[rng.random_range(0..seeds.len())].clone();
    for _ in 0..rng.random_range(0..6) {
        let at = rng.random_range(0..=data.len());
        let end = (at + rng.random_range(0..16)).min(data.len());
        match rng.random_range(0..8) {
            0 if at < data.len() => data[at] ^= 1 << rng.random_range(0..8),
            1 if at < data.len() => data[at] = rng.random(),
            2 => data.insert(at, rng.random()),
            3 => drop(data.drain(at..end)),
            4 => {
                let run = data[at..end].to_vec();
                data.splice(at..at, run);
            }
            5 | 6 if !words.is_empty() => {
                let word = words[rng.random_range(0..words.len())].bytes();
                drop(data.splice(at..at, word));
            }
            _ => {
                let other = &seeds[rng.random_range(0..seeds.len())];
                let from = rng.random_range(0..=other.len());
                let to = (from + rng.random_range(0..64)).min(other.len());
                data.splice(at..at, other[from..to].iter().copied());
            }
        }
    }
    data.truncate(LONGEST);
    data
}
