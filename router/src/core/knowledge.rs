//! Reads what is known of databases: when somebody needs it, and ahead of need.
//!
//! Knowledge that a change has overtaken is read again before the next statement. What is only old, because somebody may
//! have changed definitions past this router, is read again without anybody waiting: so a server that cannot be asked
//! for a while, as in a failover, holds up nobody whose statement does not need it.

use super::Core;
use crate::world::{World, WorldError, load, look};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Between two attempts to read ahead.
const PAUSE: Duration = Duration::from_secs(1);

/// How good what is known still is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// As good as new.
    Fresh,
    /// To be read again, and good meanwhile.
    Due,
    /// Not to be used.
    Over,
}

impl Age {
    /// Of knowledge that nothing has overtaken, read so long ago; `most` is how old it may be.
    pub fn of(elapsed: Duration, most: Duration) -> Age {
        if elapsed < most / 2 {
            Age::Fresh
        } else if elapsed < most {
            Age::Due
        } else {
            Age::Over
        }
    }
}

impl World {
    /// How good it is `now` for a session that saw changes of definitions up to `epoch`, if it may be so old.
    pub fn age(&self, epoch: u64, most: Duration, now: Instant) -> Age {
        if self.epoch < epoch || self.is_superseded() {
            return Age::Over;
        }
        Age::of(now.saturating_duration_since(self.read), most)
    }
}

impl Core {
    /// Reads a database's catalogs and puts what they say in force.
    ///
    /// # Errors
    /// When a shard cannot be asked, or the declarations do not fit what it says.
    pub async fn read_world(&self, database: &str) -> Result<Arc<World>, WorldError> {
        // What changes from here on may be missing in it.
        let begun = Instant::now();
        let epoch = self.shared.schema_epoch.load(Ordering::SeqCst);
        let doubts = self.shared.doubts.none_since();
        // Behind the epoch, which goes up after a new configuration is in force: what was read by an older one is old.
        let topology = self.shared.topology();
        let read = match topology.declared {
            true => load(&self.control, &topology, database, epoch).await,
            // Nothing will be committed on several shards.
            false => look(&self.control, &topology, database, epoch).await,
        };
        let mut world = read?;
        world.read = begun;
        world.doubts = doubts;
        let world = Arc::new(world);
        self.shared.set_world(database, Arc::clone(&world));
        Ok(world)
    }

    /// Does so soon in place of a world that is due, if nobody of this core has begun to just now.
    pub fn read_world_soon(self: &Rc<Self>, database: &str, due: &World) {
        let mut ahead = self.ahead.borrow_mut();
        if ahead.get(database).is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        ahead.insert(database.to_owned(), Instant::now());
        drop(ahead);
        let (core, database) = (Rc::clone(self), database.to_owned());
        let (version, read) = (due.version, due.read);
        tokio::task::spawn_local(async move {
            let loading = core.loading(&database);
            // Somebody reads it already, or another core has read it.
            let Ok(_one) = loading.try_lock() else {
                return;
            };
            let known = core.shared.world(&database);
            if known.is_some_and(|known| known.version > version) {
                return;
            }
            if let Err(error) = core.read_world(&database).await {
                let error = crate::log::Chain(&error).to_string();
                tracing::warn!(
                    database,
                    error,
                    age = ?read.elapsed(),
                    "the catalog could not be read again; what is known serves for a while"
                );
            }
            core.ahead.borrow_mut().insert(database, Instant::now());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_read_again_before_it_is_too_old() {
        let age = |seconds| Age::of(Duration::from_secs(seconds), Duration::from_secs(60));
        assert_eq!(
            [0, 29, 30, 59, 60].map(age),
            [Age::Fresh, Age::Fresh, Age::Due, Age::Due, Age::Over]
        );
    }
}
