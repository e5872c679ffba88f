//! What a transaction has touched on one server, for the count of acknowledged writes, and what a read looks at.
//!
//! Parts are counted by a plan, and plans are made by what was known of the definitions. So the proof is looked at
//! again when it is used: if definitions may have changed meanwhile, everything counts as touched. The order matters:
//! parts are counted first and the proof is looked at then, while whoever changes definitions announces it first and
//! counts everything then. One of the two sees the other.

use crate::core::Shared;
use crate::world::World;
use mothership_pool::health::{CommitClock, Moment, Scope};
use std::fmt;
use std::sync::Arc;

/// More parts than this count as everything.
const MOST: usize = mothership_plan::touches::MAX_PARTS;

/// What was touched.
#[derive(Clone, Debug, Default)]
pub enum Touched {
    /// Nothing is known of any write, so that one that is acknowledged may have been anywhere.
    #[default]
    Nothing,
    /// These parts and no others.
    Parts(Parts),
    /// Anything.
    Everything,
}

/// Parts, by their hashes, and what they were proven by.
#[derive(Clone)]
pub struct Parts {
    hashes: Vec<u64>,
    world: Arc<World>,
    shared: Arc<Shared>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hashes.fmt(f)
    }
}

impl Parts {
    /// The parts that a plan made by `world` touches.
    pub fn new(hashes: Vec<u64>, world: &Arc<World>, shared: &Arc<Shared>) -> Self {
        Self {
            hashes,
            world: Arc::clone(world),
            shared: Arc::clone(shared),
        }
    }

    /// What a read of them that has arrived now must see.
    pub fn needed(&self, clock: &CommitClock) -> Moment {
        let parts = self.hashes.iter();
        let needed = parts.map(|hash| clock.needed(Scope::Part(*hash))).max();
        match needed {
            Some(needed) if self.shared.is_in_force(&self.world) => needed,
            _ => clock.needed(Scope::All),
        }
    }
}

impl Touched {
    /// A statement that may write was sent; without parts it may touch anything.
    pub fn add(&mut self, parts: Option<&Parts>) {
        let Some(more) = parts else {
            *self = Touched::Everything;
            return;
        };
        match self {
            Touched::Nothing => *self = Touched::Parts(more.clone()),
            Touched::Everything => {}
            Touched::Parts(known) => {
                for hash in &more.hashes {
                    if !known.hashes.contains(hash) {
                        known.hashes.push(*hash);
                    }
                }
                if known.hashes.len() > MOST || known.world.version != more.world.version {
                    *self = Touched::Everything;
                }
            }
        }
    }

    /// Counts what was touched as acknowledged.
    pub fn acknowledge(&self, clock: &CommitClock) -> Moment {
        if let Touched::Parts(parts) = self {
            let hashes = parts.hashes.iter();
            let last = hashes
                .map(|hash| clock.acknowledge(Scope::Part(*hash)))
                .max();
            if let Some(last) = last
                && parts.shared.is_in_force(&parts.world)
            {
                return last;
            }
        }
        clock.acknowledge(Scope::All)
    }
}
