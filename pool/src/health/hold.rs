//! A group whose writes the operator holds back, while its primary changes in good order.

use super::Health;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Nothing is held back.
const OPEN: u8 = 0;
/// What begins waits; what has a connection goes on.
const NEW: u8 = 1;
/// The router's own questions wait as well.
const ALL: u8 = 2;

/// How much of a group is held back. It outlives the [`Health`] of a configuration.
#[derive(Debug, Default)]
pub struct Gate(AtomicU8);

impl Gate {
    /// Whether transactions that begin wait.
    pub(super) fn holds_new(&self) -> bool {
        self.0.load(Ordering::Acquire) != OPEN
    }

    /// Whether the router's own questions wait, too.
    pub(super) fn holds_all(&self) -> bool {
        self.0.load(Ordering::Acquire) == ALL
    }

    /// False if it is held back already.
    pub(super) fn close(&self) -> bool {
        let closed = self
            .0
            .compare_exchange(OPEN, NEW, Ordering::AcqRel, Ordering::Acquire);
        closed.is_ok()
    }
}

/// Holds back the writes of a group, until it is dropped.
#[derive(Debug)]
pub struct Hold {
    health: Arc<Health>,
    gate: Arc<Gate>,
}

impl Hold {
    pub(super) fn new(health: Arc<Health>, gate: Arc<Gate>) -> Hold {
        Hold { health, gate }
    }

    /// Holds back the router's own questions, too: from here on nothing is written through this router.
    pub fn seal(&self) {
        self.set(ALL);
    }

    fn set(&self, state: u8) {
        self.gate.0.store(state, Ordering::Release);
        self.health.tell();
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.set(OPEN);
    }
}
