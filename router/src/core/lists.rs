//! Empty lists that a core keeps for reuse. While a request uses them, they hold what a server still has to answer.

use crate::statements::names::Prepared;
use std::collections::VecDeque;
use std::rc::Rc;

/// What is to be done when a statement has ended well.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Nothing.
    None,
    /// What the [`Step`](crate::statements::step::Step) of this number says.
    Of(Rc<Prepared>, usize),
    /// An EXECUTE: what the step of the statement that it runs says, which is the last field, and then its own.
    Runs(Rc<Prepared>, usize, Rc<Prepared>),
    /// A statement was made by PREPARE under this name.
    Defined(Box<[u8]>, Rc<Prepared>),
}

/// Lists of one connection, so that not every request allocates its own.
#[derive(Debug, Default)]
pub struct Lists {
    /// For each statement under way what to do when it has succeeded.
    pub outcomes: VecDeque<Outcome>,
    /// Statements that Parse has confirmed.
    pub parsed: Vec<u64>,
    /// Describes under way.
    pub describing: VecDeque<Describing>,
}

/// What a Describe asks for.
#[derive(Debug)]
pub enum Describing {
    /// The columns of a portal.
    Portal,
    /// Parameters and columns of a statement, as its client is told them.
    Statement(Rc<Prepared>),
    /// The types of the parameters of a statement, for the router.
    Types(Rc<Prepared>),
}

impl Describing {
    /// The statement whose parameters are to come.
    pub fn statement(&self) -> Option<&Prepared> {
        match self {
            Describing::Portal => None,
            Describing::Statement(statement) | Describing::Types(statement) => Some(statement),
        }
    }
}

impl Lists {
    /// Whether it is small enough to be kept.
    pub fn is_small(&self) -> bool {
        const MAX_CAPACITY: usize = 64;
        let largest = self.outcomes.capacity().max(self.parsed.capacity());
        largest.max(self.describing.capacity()) <= MAX_CAPACITY
    }
}
