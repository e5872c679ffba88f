//! Which parts of the data a transaction has written on one server (for the `CommitClock`), and which parts a read needs.
//!
//! A plan says which parts a statement touches. The plan is valid only for the definitions (`DatabaseModel`) that it was made
//! from. So the validity is checked again when the parts are used: if definitions may have changed since, everything
//! counts as touched. The order matters. A write counts its parts first and checks the validity afterwards. A change of
//! definitions announces itself first and counts everything afterwards. So at least one of them notices the other.

use crate::core::Shared;
use crate::model::DatabaseModel;
use mothership_pool::health::{CommitClock, Scope, WriteNumber};
use std::fmt;
use std::sync::Arc;

/// More parts than this count as everything.
const MAX_PARTS: usize = mothership_plan::touches::MAX_PARTS;

/// What was touched.
#[derive(Clone, Debug, Default)]
pub enum WrittenParts {
    /// It is not known. An acknowledged write counts as everything.
    #[default]
    Unknown,
    /// These parts and no others.
    Parts(Parts),
    /// Anything.
    Everything,
}

/// Parts (table and slot) as hashes, and the model whose plan they come from.
#[derive(Clone)]
pub struct Parts {
    hashes: Vec<u64>,
    model: Arc<DatabaseModel>,
    shared: Arc<Shared>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hashes.fmt(f)
    }
}

impl Parts {
    /// The parts that a plan made by `model` touches.
    pub fn new(hashes: Vec<u64>, model: &Arc<DatabaseModel>, shared: &Arc<Shared>) -> Self {
        Self {
            hashes,
            model: Arc::clone(model),
            shared: Arc::clone(shared),
        }
    }

    /// What a read of them that has arrived now must see.
    pub fn required_write(&self, clock: &CommitClock) -> WriteNumber {
        let parts = self.hashes.iter();
        let needed = parts.map(|hash| clock.needed(Scope::Part(*hash))).max();
        match needed {
            Some(needed) if self.shared.is_in_force(&self.model) => needed,
            _ => clock.needed(Scope::All),
        }
    }
}

impl WrittenParts {
    /// Records a statement that may write. `None` means that it may write anything.
    pub fn add(&mut self, parts: Option<&Parts>) {
        let Some(more) = parts else {
            *self = WrittenParts::Everything;
            return;
        };
        match self {
            WrittenParts::Unknown => *self = WrittenParts::Parts(more.clone()),
            WrittenParts::Everything => {}
            WrittenParts::Parts(known) => {
                for hash in &more.hashes {
                    if !known.hashes.contains(hash) {
                        known.hashes.push(*hash);
                    }
                }
                if known.hashes.len() > MAX_PARTS || known.model.version != more.model.version {
                    *self = WrittenParts::Everything;
                }
            }
        }
    }

    /// Counts what was touched as acknowledged.
    pub fn acknowledge(&self, clock: &CommitClock) -> WriteNumber {
        if let WrittenParts::Parts(parts) = self {
            let hashes = parts.hashes.iter();
            let last = hashes
                .map(|hash| clock.acknowledge(Scope::Part(*hash)))
                .max();
            if let Some(last) = last
                && parts.shared.is_in_force(&parts.model)
            {
                return last;
            }
        }
        clock.acknowledge(Scope::All)
    }
}
