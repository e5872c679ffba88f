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

/// How much of a group is held back.
#[derive(Debug, Default)]
pub(super) struct Gate(AtomicU8);

impl Gate {
    /// Whether transactions that begin wait.
    pub fn holds_new(&self) -> bool {
        self.0.load(Ordering::Acquire) != OPEN
    }

    /// Whether the router's own questions wait, too.
    pub fn holds_all(&self) -> bool {
        self.0.load(Ordering::Acquire) == ALL
    }

    /// False if it is held back already.
    pub fn close(&self) -> bool {
        let closed = (OPEN, NEW, Ordering::AcqRel, Ordering::Acquire);
        self.0
            .compare_exchange(closed.0, closed.1, closed.2, closed.3)
            .is_ok()
    }
}

/// Holds back the writes of a group, until it is dropped.
#[derive(Debug)]
pub struct Hold {
    health: Arc<Health>,
    group: usize,
}

impl Hold {
    pub(super) fn new(health: Arc<Health>, group: usize) -> Hold {
        Hold { health, group }
    }

    /// Holds back the router's own questions, too: from here on nothing is written through this router.
    pub fn seal(&self) {
        self.set(ALL);
    }

    fn set(&self, state: u8) {
        if let Some(gate) = self.health.gate(self.group) {
            gate.0.store(state, Ordering::Release);
        }
        self.health.tell();
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.set(OPEN);
    }
}
