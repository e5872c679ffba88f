//! One answer about a text, kept for as long as what it was found by is the same.

use std::cell::Cell;

/// By what an answer was found: the number of the knowledge, and whether strings are read by the standard.
type Ground = (u64, bool);

/// The answer that was found last.
#[derive(Debug, Default)]
pub struct Memo(Cell<Option<(Ground, bool)>>);

impl Memo {
    /// Whether the answer on this ground is known.
    pub fn knows(&self, ground: Ground) -> bool {
        self.0.get().is_some_and(|(known, _)| known == ground)
    }

    /// The answer on this ground; `find` finds it, if the last one was found on another.
    pub fn get(&self, ground: Ground, find: impl FnOnce() -> bool) -> bool {
        match self.0.get() {
            Some((known, answer)) if known == ground => answer,
            _ => {
                let answer = find();
                self.0.set(Some((ground, answer)));
                answer
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_on_its_ground() {
        let memo = Memo::default();
        assert!(!memo.knows((1, true)), "nobody has asked");
        assert!(memo.get((1, true), || true) && memo.get((1, true), || false));
        assert!(memo.knows((1, true)) && !memo.knows((1, false)));
        assert!(!memo.get((2, true), || false) && !memo.get((2, true), || true));
        assert!(memo.get((2, false), || true), "strings are read otherwise");
        assert!(memo.get((1, true), || true), "only the last one is kept");
    }
}
