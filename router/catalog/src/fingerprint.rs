//! Whether a catalog is the same as one that was read before, without keeping that one.
//!
//! It is made of the rows as the server gave them, in whatever order, object ids included.

use super::decode::Row;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Two catalogs with equal fingerprints are equal: that they are not has a chance of 1 to 2^128.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint([u64; 2]);

impl Fingerprint {
    /// Of the answers to [`QUERIES`](super::queries::QUERIES).
    pub fn of(answers: &[Vec<Row>]) -> Fingerprint {
        let mut print = Fingerprint::default();
        for (query, rows) in answers.iter().enumerate() {
            for row in rows {
                for (half, sum) in print.0.iter_mut().enumerate() {
                    // A sum, because servers give rows in no order; a row that comes twice counts twice.
                    *sum = sum.wrapping_add(hash(&(half, query, row)));
                }
            }
        }
        print
    }
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Row {
        cells.iter().map(|cell| Some((*cell).to_owned())).collect()
    }

    #[test]
    fn the_order_of_rows_does_not_matter_and_all_else_does() {
        let (a, b) = (row(&["a", "1"]), row(&["b", "2"]));
        let print = |answers: &[Vec<Row>]| Fingerprint::of(answers);
        let both = print(&[vec![a.clone(), b.clone()], vec![]]);
        assert_eq!(both, print(&[vec![b.clone(), a.clone()], vec![]]));
        for other in [
            vec![vec![a.clone()], vec![b.clone()]],
            vec![vec![], vec![a.clone(), b.clone()]],
            vec![vec![a.clone(), b.clone(), b.clone()], vec![]],
            vec![vec![a.clone(), row(&["b", "3"])], vec![]],
            vec![vec![a, vec![Some("b".into()), None]], vec![]],
        ] {
            assert_ne!(both, print(&other), "{other:?}");
        }
    }
}
