//! A value that nearly no session has: as long as it is its default, it takes one word.

/// Nothing, or a value in a box. docs/adr/0016 says why sessions are kept small.
#[derive(Clone, Debug)]
pub(crate) struct Rare<T>(Option<Box<T>>);

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Rare<T> {
    /// The value, if there is one.
    pub fn get(&self) -> Option<&T> {
        self.0.as_deref()
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    /// The value, which is gone then.
    pub fn take(&mut self) -> Option<Box<T>> {
        self.0.take()
    }

    /// Nothing again.
    pub fn clear(&mut self) {
        self.0 = None;
    }
}

impl<T: Default> Rare<T> {
    /// The value, which is made if there was none.
    pub fn made(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}
