//! Lists of what servers still owe, which a core keeps for the next request.

use crate::statements::names::Prepared;
use std::collections::VecDeque;
use std::rc::Rc;

/// What is to be done when a statement has ended well.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Nothing.
    None,
    /// What its [`Step`](crate::statements::step::Step) says.
    Of(Rc<Prepared>, usize),
    /// The same for an EXECUTE, and what its body says, which comes last.
    Runs(Rc<Prepared>, usize, Rc<Prepared>),
    /// A statement was made by PREPARE under this name.
    Defined(Box<[u8]>, Rc<Prepared>),
}

/// Lists without anything in them, so that not every request allocates its own.
#[derive(Debug, Default)]
pub struct Lists {
    /// What statements under way end in.
    pub outcomes: VecDeque<Outcome>,
    /// Statements that Parse has confirmed.
    pub parsed: Vec<u64>,
    /// Describes under way.
    pub describing: VecDeque<Option<Rc<Prepared>>>,
}

impl Lists {
    /// Whether it is small enough to be kept.
    pub fn is_small(&self) -> bool {
        const MAX_CAPACITY: usize = 64;
        let largest = self.outcomes.capacity().max(self.parsed.capacity());
        largest.max(self.describing.capacity()) <= MAX_CAPACITY
    }
}
