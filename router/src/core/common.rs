//! Equal values that many clients have.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// Keeps each value once, as long as somebody has it.
#[derive(Debug)]
pub struct Common<T>(RefCell<HashSet<Arc<T>>>);

impl<T> Default for Common<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<T: Eq + Hash> Common<T> {
    /// The value that all share who have an equal one.
    pub fn share(&self, value: T) -> Arc<T> {
        let mut known = self.0.borrow_mut();
        if let Some(known) = known.get(&value) {
            return Arc::clone(known);
        }
        if known.len() == known.capacity() {
            known.retain(|value| Arc::strong_count(value) > 1);
        }
        let value = Arc::new(value);
        known.insert(Arc::clone(&value));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_what_nobody_has_is_forgotten() {
        let common = Common::default();
        let one = common.share("a".to_owned());
        assert!(Arc::ptr_eq(&one, &common.share("a".to_owned())));
        for number in 0..1000 {
            common.share(number.to_string());
        }
        assert!(common.0.borrow().len() < 10);
        assert!(Arc::ptr_eq(&one, &common.share("a".to_owned())));
    }
}
