//! Statements that lock documents: the locks end with the statement, which therefore must be all of its transaction.

use super::GatherWork;
use crate::session::Halt;
use crate::session::dispatch::refused;
use crate::session::state::{Block, Phase, State};
use crate::session::transact::Transaction;
use mothership_plan::Refusal;
use mothership_plan::refuse::Reason;

/// What the open segment has bound. Parse and Describe do nothing that a transaction would be needed for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::session) enum Bound {
    /// Nothing yet.
    #[default]
    Nothing,
    /// Something.
    Something,
    /// What locks documents. Nothing may follow it.
    Locks,
}

impl Bound {
    /// Something is to be bound in the open segment, or run behind it.
    pub fn check_unlocked(self) -> Result<(), Halt> {
        match self {
            Bound::Locks => Err(no_locks()),
            Bound::Nothing | Bound::Something => Ok(()),
        }
    }

    /// Something was bound.
    pub fn add(&mut self) {
        if *self == Bound::Nothing {
            *self = Bound::Something;
        }
    }
}

impl Transaction {
    /// Whether a statement may lock documents here, if it does.
    pub(super) fn check_alone(&mut self, state: &State, work: &GatherWork) -> Result<(), Halt> {
        if !work.plan.alone {
            return Ok(());
        }
        let segment = state.phase == Phase::Segment;
        if state.block != Block::None || (segment && self.bound != Bound::Nothing) {
            return Err(no_locks());
        }
        if segment {
            self.bound = Bound::Locks;
        }
        Ok(())
    }
}

fn no_locks() -> Halt {
    refused(&Refusal::new(Reason::DocumentsLocks)).into()
}
