//! What is known of each database, for all cores: which world is in force, which stands by, and what ends one.

use super::{Age, Shared};
use crate::commit::doubt::Site;
use crate::session::code::Behind;
use crate::world::World;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

impl Shared {
    /// What is known of a database now.
    pub fn world(&self, database: &str) -> Option<Arc<World>> {
        let worlds = self.worlds.lock().expect("nobody panics while holding it");
        worlds.get(database).map(Arc::clone)
    }

    /// Puts newer knowledge in force, and tells the log what is new in it for administrators.
    pub fn set_world(&self, database: &str, world: Arc<World>) {
        let mut worlds = self.worlds.lock().expect("nobody panics while holding it");
        let newer = worlds
            .get(database)
            .is_none_or(|known| known.version < world.version);
        if !newer {
            world.supersede();
            return;
        }
        if let Some(known) = worlds.get(database) {
            self.supersede(known);
        }
        worlds.insert(database.to_owned(), Arc::clone(&world));
        drop(worlds);
        self.stand_down(database, world.version);
        let found = world.findings();
        let mut told = self.told.lock().expect("nobody panics while holding it");
        let before = told.insert(database.to_owned(), found.clone());
        drop(told);
        let before = before.unwrap_or_default();
        for finding in found.iter().filter(|finding| !before.contains(finding)) {
            tracing::warn!(database, finding, "the shards are not as declared");
        }
        for finding in before.iter().filter(|finding| !found.contains(finding)) {
            tracing::info!(database, finding, "the shards are as declared again");
        }
    }

    /// Keeps what a shard is away in for when the world in force is too old.
    pub fn stand_by(&self, database: &str, world: Arc<World>) {
        let mut standing_by = self.lock_standing_by();
        let before = standing_by.insert(database.to_owned(), world);
        drop(standing_by);
        if let Some(before) = before {
            self.supersede(&before);
        }
    }

    /// Puts what stands by in force for a world that is too old, if it is better for who has seen changes up to
    /// `epoch`.
    pub fn fall_back(&self, database: &str, epoch: u64, most: Duration) -> Option<Arc<World>> {
        let world = self.lock_standing_by().remove(database)?;
        if world.age(epoch, most, Instant::now()) == Age::Over {
            self.supersede(&world);
            return None;
        }
        self.set_world(database, Arc::clone(&world));
        // Not if somebody has read a newer one meanwhile.
        (!world.is_superseded()).then_some(world)
    }

    /// What stands by is not needed any more.
    fn stand_down(&self, database: &str, newer: u64) {
        let mut standing_by = self.lock_standing_by();
        if let Some(world) = standing_by.get(database)
            && world.version < newer
        {
            self.supersede(world);
            standing_by.remove(database);
        }
    }

    fn lock_standing_by(&self) -> MutexGuard<'_, HashMap<String, Arc<World>>> {
        let standing_by = self.standing_by.lock();
        standing_by.expect("nobody panics while holding it")
    }

    /// Whether something was known there at any time.
    pub fn has_seen(&self, site: &Site) -> bool {
        let seen = self.seen.lock().expect("nobody panics while holding it");
        seen.contains(site)
    }

    /// Something is known there.
    pub fn see(&self, sites: impl Iterator<Item = Site>) {
        let mut seen = self.seen.lock().expect("nobody panics while holding it");
        seen.extend(sites);
    }

    /// What is known of all databases, by the clients' names.
    pub fn worlds(&self) -> Vec<(String, Arc<World>)> {
        let worlds = self.worlds.lock().expect("nobody panics while holding it");
        let mut all: Vec<_> = worlds
            .iter()
            .map(|(n, w)| (n.clone(), Arc::clone(w)))
            .collect();
        drop(worlds);
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// The databases whose catalog was read.
    pub fn known_databases(&self) -> Vec<String> {
        let worlds = self.worlds.lock().expect("nobody panics while holding it");
        worlds.keys().cloned().collect()
    }

    /// Forgets what is known of all databases: definitions or declarations changed.
    pub fn forget_worlds(&self) {
        // Sessions that hold on to one find it too old.
        self.definitions_changed(Behind::Changed);
        let mut worlds = self.worlds.lock().expect("nobody panics while holding it");
        worlds.values().for_each(|world| self.supersede(world));
        worlds.clear();
        drop(worlds);
        let mut standing_by = self.lock_standing_by();
        standing_by.values().for_each(|world| self.supersede(world));
        standing_by.clear();
    }

    /// What was counted by parts of the old definitions counts as everything before anybody asks by new ones.
    fn supersede(&self, world: &World) {
        world.supersede();
        for clock in self.topology().clocks().into_values() {
            clock.widen();
        }
    }

    /// Whether definitions are what `world` says, as far as this router knows.
    pub fn is_in_force(&self, world: &World) -> bool {
        // In this order: the end of a change is counted before it stops being under way.
        !world.is_superseded()
            && self.changing.load(Ordering::SeqCst) == 0
            && self.schema_epoch.load(Ordering::SeqCst) == world.epoch
            && world.doubts.is_some()
            && self.doubts.none_since() == world.doubts
    }
}
