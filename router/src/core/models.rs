//! What is known of each database, for all cores: which model is in force, which stands by, and what ends one.

use super::code::Behind;
use super::{Age, Shared};
use crate::commit::doubt::Site;
use crate::model::DatabaseModel;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

impl Shared {
    /// What is known of a database now.
    pub fn model(&self, database: &str) -> Option<Arc<DatabaseModel>> {
        let models = self.models.lock().expect("nobody panics while holding it");
        models.get(database).map(Arc::clone)
    }

    /// Puts newer knowledge in force, and tells the log what is new in it for administrators.
    pub fn set_model(&self, database: &str, model: Arc<DatabaseModel>) {
        let mut models = self.models.lock().expect("nobody panics while holding it");
        let newer = models
            .get(database)
            .is_none_or(|known| known.version < model.version);
        if !newer {
            model.supersede();
            return;
        }
        if let Some(known) = models.get(database) {
            self.supersede(known);
        }
        models.insert(database.to_owned(), Arc::clone(&model));
        drop(models);
        self.stand_down(database, model.version);
        let found = model.findings();
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

    /// Keeps what a shard is away in for when the model in force is too old.
    pub fn stand_by(&self, database: &str, model: Arc<DatabaseModel>) {
        let mut standing_by = self.lock_standing_by();
        let before = standing_by.insert(database.to_owned(), model);
        drop(standing_by);
        if let Some(before) = before {
            self.supersede(&before);
        }
    }

    /// Puts what stands by in force for a model that is too old, if it is better for who has seen changes up to
    /// `epoch`.
    pub fn fall_back(
        &self,
        database: &str,
        epoch: u64,
        most: Duration,
    ) -> Option<Arc<DatabaseModel>> {
        let model = self.lock_standing_by().remove(database)?;
        if model.age(epoch, most, Instant::now()) == Age::Over {
            self.supersede(&model);
            return None;
        }
        self.set_model(database, Arc::clone(&model));
        // Not if somebody has read a newer one meanwhile.
        (!model.is_superseded()).then_some(model)
    }

    /// What stands by is not needed any more.
    fn stand_down(&self, database: &str, newer: u64) {
        let mut standing_by = self.lock_standing_by();
        if let Some(model) = standing_by.get(database)
            && model.version < newer
        {
            self.supersede(model);
            standing_by.remove(database);
        }
    }

    fn lock_standing_by(&self) -> MutexGuard<'_, HashMap<String, Arc<DatabaseModel>>> {
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
    pub fn models(&self) -> Vec<(String, Arc<DatabaseModel>)> {
        let models = self.models.lock().expect("nobody panics while holding it");
        let mut all: Vec<_> = models
            .iter()
            .map(|(n, w)| (n.clone(), Arc::clone(w)))
            .collect();
        drop(models);
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// The databases whose catalog was read.
    pub fn known_databases(&self) -> Vec<String> {
        let models = self.models.lock().expect("nobody panics while holding it");
        models.keys().cloned().collect()
    }

    /// Forgets what is known of all databases: definitions or declarations changed.
    pub fn forget_models(&self) {
        // Sessions that hold on to one find it too old.
        self.definitions_changed(Behind::Changed);
        let mut models = self.models.lock().expect("nobody panics while holding it");
        models.values().for_each(|model| self.supersede(model));
        models.clear();
        drop(models);
        let mut standing_by = self.lock_standing_by();
        standing_by.values().for_each(|model| self.supersede(model));
        standing_by.clear();
    }

    /// What was counted by parts of the old definitions counts as everything before anybody asks by new ones.
    fn supersede(&self, model: &DatabaseModel) {
        model.supersede();
        for clock in self.topology().clocks().into_values() {
            clock.widen();
        }
    }

    /// Whether definitions are what `model` says, as far as this router knows.
    pub fn is_in_force(&self, model: &DatabaseModel) -> bool {
        // In this order: the end of a change is counted before it stops being under way.
        !model.is_superseded()
            && !self.is_changing()
            && self.schema_epoch.load(Ordering::SeqCst) == model.epoch
            && model.doubts.is_some()
            && self.doubts.none_since() == model.doubts
    }
}
