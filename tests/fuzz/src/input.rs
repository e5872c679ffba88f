//! Takes decisions off the front of an input; the rest is the data.
//!
//! An input that is too short decides for zero: every input is a valid one.

/// What is left of an input.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// All of it.
    pub fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// A byte; zero at the end.
    pub fn byte(&mut self) -> u8 {
        match self.rest.split_first() {
            Some((first, rest)) => {
                self.rest = rest;
                *first
            }
            None => 0,
        }
    }

    /// A number below `count`.
    pub fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count
    }

    /// One of several.
    pub fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    /// Up to `longest` bytes, as many as the next byte says.
    pub fn bytes(&mut self, longest: usize) -> &'a [u8] {
        let wanted = usize::from(self.byte()).min(longest);
        let (bytes, rest) = self.rest.split_at(wanted.min(self.rest.len()));
        self.rest = rest;
        bytes
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Cuts `bytes` into pieces whose lengths follow from `seed`: single bytes, short ones, long ones.
pub fn pieces(bytes: &[u8], seed: u8) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    let mut state = u32::from(seed) | 0x100;
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = match seed % 4 {
            0 => 1,
            1 => 1 + (state >> 24) as usize % 7,
            2 => 1 + (state >> 20) as usize % 64,
            _ => 1 + (state >> 16) as usize % 1024,
        };
        let (piece, after) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}
