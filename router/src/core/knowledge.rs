//! Reads the models of databases: when a session needs one, and ahead of need.
//!
//! If a change of definitions has superseded a model, the model is read again before the next statement. A model that
//! is only old is read again too, because somebody may have changed definitions past this router; no session waits for
//! that. So a server that cannot be asked for a while, as in a failover, delays only the statements that need it.
//!
//! If a shard cannot be asked for so long that the model becomes too old, the other shards go on without it
//! (`model/away.rs`). The router then asks it again and again, and no session waits for that.

use super::Core;
use super::primaries::Primaries;
use crate::commit::doubt::Site;
use crate::commit::recover::{Recovery, Settings};
use crate::log::Chain;
use crate::model::{Ask, DatabaseModel, How, ModelError, OwnSchema, catalog_of, read};
use crate::topology::Topology;
use futures_util::future::join_all;
use mothership_shardmap::ShardId;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The pause between two attempts to read ahead of need.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether a model may still be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// It may be used.
    Fresh,
    /// It may be used, but is to be read again.
    Due,
    /// It may not be used any more.
    Over,
}

impl Age {
    /// The age of a model that no change has superseded. It was read `elapsed` ago; `most` is how old it may be.
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

impl DatabaseModel {
    /// The age of this model at `now`, for a session that saw changes of definitions up to `epoch`. `most` is how old
    /// the model may be.
    pub fn age(&self, epoch: u64, most: Duration, now: Instant) -> Age {
        if self.epoch < epoch || self.is_superseded() {
            return Age::Over;
        }
        match self.age_by_time(most, now) {
            // Perhaps the shards that were away are back.
            Age::Fresh if self.is_partial() => Age::Due,
            age => age,
        }
    }

    fn age_by_time(&self, most: Duration, now: Instant) -> Age {
        Age::of(now.saturating_duration_since(self.read), most)
    }
}

impl Core {
    /// Reads the catalogs of a database's shards and puts the new model in force. Exception: if a shard is away in the
    /// new model but not in the model in force, and the model in force may still be used, the new model only stands by.
    ///
    /// # Errors
    /// When nothing can be planned with what the shards say.
    pub async fn read_model(
        &self,
        database: &str,
        ask: Ask,
    ) -> Result<Arc<DatabaseModel>, Arc<ModelError>> {
        // The model may lack changes that are made from here on.
        let begun = Instant::now();
        let epoch = self.shared.schema_epoch.load(Ordering::SeqCst);
        let doubts = self.shared.doubts.none_since();
        // Taken after the epoch was read. The epoch goes up once a new configuration is in force, so a model of the old
        // configuration never has the new epoch.
        let topology = self.shared.topology();
        let before = self.shared.model(database);
        let site = |shard: ShardId| Site {
            shard: topology.shards[shard].name.clone(),
            database: topology.database_on(database, shard),
        };
        let several = topology.postgres > 1;
        // Without declared tables no transaction is committed on several shards.
        let commits = topology.declared && several && topology.config.transactions.two_phase;
        let own_schema = match commits {
            true => OwnSchema::next(before.as_deref(), &topology),
            false => OwnSchema::Unused,
        };
        let mut unusable = BTreeMap::new();
        let (mut model, seen) = loop {
            let how = How {
                epoch,
                own_schema,
                declares: true,
                ask,
                before: before.as_deref(),
                was_seen: &|shard| self.shared.has_seen(&site(shard)),
                unusable: &unusable,
            };
            let model = read(&self.control, &topology, database, &how).await?;
            let shards = topology
                .postgres_shards()
                .filter(|shard| model.why_away(*shard).is_none());
            let shards: Vec<ShardId> = shards.collect();
            let seen: Vec<Site> = shards.iter().map(|shard| site(*shard)).collect();
            let first: Vec<Site> = seen
                .iter()
                .filter(|site| !self.shared.has_seen(site))
                .cloned()
                .collect();
            if !commits || first.is_empty() {
                break (model, seen);
            }
            let all: Vec<Site> = topology.shards.ids().map(site).collect();
            match self.note_left_behind(&topology, &all, &first).await {
                Ok(()) => break (model, seen),
                // The others are read again: what they hold may have been decided there.
                Err((of, why)) => {
                    let at = shards.iter().zip(&seen).find(|(_, site)| **site == of);
                    let (at, _) = at.expect("it is one of those that were asked");
                    let shard = of.shard;
                    unusable.insert(*at, Arc::new(ModelError::LeftBehind { shard, why }));
                }
            }
        };
        model.read = begun;
        model.doubts = doubts;
        let model = Arc::new(model);
        self.shared.see(seen.into_iter());
        let most = topology.config.catalog.refresh_interval;
        let lacks = |before: &Arc<DatabaseModel>| {
            model.lacks_more_than(before) && before.age(epoch, most, Instant::now()) != Age::Over
        };
        // Meanwhile another core may have asked a shard that this core did not ask, because the shard was away.
        let known = self.shared.model(database);
        let is_newer = |known: &Arc<DatabaseModel>| {
            before
                .as_ref()
                .is_none_or(|before| before.version < known.version)
        };
        if let Some(known) = known.filter(|known| is_newer(known) && lacks(known)) {
            model.supersede();
            return Ok(known);
        }
        match before.as_ref().filter(|before| lacks(before)) {
            Some(before) => {
                for (shard, error) in model.away() {
                    let shard = &topology.shards[shard].name;
                    let (age, error) = (before.read.elapsed(), Chain(error).to_string());
                    tracing::warn!(
                        database,
                        shard,
                        error,
                        ?age,
                        "the catalog could not be read again; what is known serves for a while"
                    );
                }
                self.shared.stand_by(database, Arc::clone(&model));
            }
            None => self.shared.set_model(database, Arc::clone(&model)),
        }
        Ok(model)
    }

    /// Makes statements on these shards wait for what an earlier router has committed there and not finished.
    ///
    /// # Errors
    /// One of them cannot be asked, and why.
    async fn note_left_behind(
        &self,
        topology: &Topology,
        all: &[Site],
        first: &[Site],
    ) -> Result<(), (Site, String)> {
        let config = &topology.config;
        let settings = Settings::new(&config.transactions, &config.control);
        let doubts = Arc::clone(&self.shared.doubts);
        let servers = Primaries::new(&self.control, &self.shared);
        let mut recovery = Recovery::new(servers, settings, doubts);
        recovery.note_left_behind(all, first).await
    }

    /// Starts to read a new model in place of the model `due`, and does not wait for it. Does nothing if this core is
    /// reading one ahead of need, or has done so less than `PAUSE` ago.
    pub fn read_model_soon(self: &Rc<Self>, database: &str, due: &Arc<DatabaseModel>) {
        let mut ahead = self.ahead.borrow_mut();
        let too_soon = |at: &Option<Instant>| at.is_none_or(|at| at.elapsed() < PAUSE);
        if ahead.get(database).is_some_and(too_soon) {
            return;
        }
        ahead.insert(database.to_owned(), None);
        drop(ahead);
        let (core, database, due) = (Rc::clone(self), database.to_owned(), Arc::clone(due));
        tokio::task::spawn_local(async move {
            core.read_model_now(&database, &due).await;
            core.ahead
                .borrow_mut()
                .insert(database, Some(Instant::now()));
        });
    }

    async fn read_model_now(&self, database: &str, due: &DatabaseModel) {
        let most = self.shared.topology().config.catalog.refresh_interval;
        // The shards that are away are asked first, before this task takes the lock that sessions may wait for.
        let ask = match self.is_back(database, due).await {
            true => Ask::All,
            false if due.age_by_time(most, Instant::now()) == Age::Fresh => return,
            false => Ask::Known,
        };
        let loading = self.loading(database);
        let _one = match (ask, loading.try_lock()) {
            (_, Ok(one)) => one,
            // The current reader does not ask the shards that were away, one of which is back.
            (Ask::All, Err(_)) => loading.lock().await,
            // Another task of this core already reads the model.
            (Ask::Known, Err(_)) => return,
        };
        // Another core may have read a newer model meanwhile. If all shards are to be asked, it must be complete.
        let known = self.shared.model(database);
        let will_do = |known: Arc<DatabaseModel>| {
            known.version > due.version && (ask == Ask::Known || !known.is_partial())
        };
        if known.is_some_and(will_do) {
            return;
        }
        if let Err(error) = self.read_model(database, ask).await {
            let error = Chain(&error).to_string();
            tracing::warn!(
                database,
                error,
                age = ?due.read.elapsed(),
                "the catalog could not be read again; what is known serves for a while"
            );
        }
    }

    /// Whether a shard that is away can be asked again, and a new model would then know more.
    async fn is_back(&self, database: &str, model: &DatabaseModel) -> bool {
        let topology = self.shared.topology();
        let home = topology.home;
        let without_home = model.why_away(home).is_some();
        let asked = |(shard, why): &(ShardId, &Arc<ModelError>)| {
            // Not asked: an undecided shard, which can be asked but waits for another shard; and other shards while the
            // home shard is away, because nothing can be done with their answers.
            let waits = matches!(***why, ModelError::Undecided { .. });
            topology.is_postgres(*shard) && !waits && (*shard == home || !without_home)
        };
        let ask = async |(shard, _)| {
            let asked = catalog_of(&self.control, &topology, shard, database).await;
            asked.is_ok()
        };
        let asked = model.away().filter(asked).map(ask);
        join_all(asked).await.contains(&true)
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
