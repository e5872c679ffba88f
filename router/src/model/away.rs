//! Shards that could not be asked: a model without them, and what may be done by it.
//!
//! What a shard says about itself matters for the statements that it takes part in, and the home shard's word for all
//! others as well. So without another shard than that one the rest is planned by what the rest says, and what would
//! lead to the one that is away is refused, whether its servers can be reached or not: nobody knows what has changed
//! there. Without the home shard what it said last holds for as long as no other shard has changed.

use super::{DatabaseModel, ModelError, NEXT, Part, ShardReport};
use crate::config::Config;
use crate::topology::shard_id;
use mothership_shardmap::ShardId;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

impl Part {
    /// The cluster that holds it, if that is known.
    pub(super) fn cluster(&self) -> Option<i64> {
        match self {
            Part::Known { cluster, .. } => Some(*cluster),
            Part::Away { .. } => None,
        }
    }

    /// The same shard, that cannot be asked any longer.
    fn gone(&self, why: &Arc<ModelError>) -> Part {
        let (Part::Known { oids, .. } | Part::Away { oids, .. }) = self;
        Part::Away {
            why: Arc::clone(why),
            oids: oids.clone(),
        }
    }

    /// Whether it says what it said before.
    fn is_still(&self, seen: &ShardReport) -> bool {
        matches!(self, Part::Known { cluster, fingerprint, .. }
            if (*cluster, *fingerprint) == (seen.cluster, seen.fingerprint))
    }
}

impl DatabaseModel {
    /// The PostgreSQL cluster that holds a shard, if that is known.
    pub fn cluster(&self, shard: ShardId) -> Option<i64> {
        self.parts.get(shard.index())?.cluster()
    }

    /// Why nothing is known of a shard; `None` if something is.
    pub fn why_away(&self, shard: ShardId) -> Option<&Arc<ModelError>> {
        match self.parts.get(shard.index())? {
            Part::Away { why, .. } => Some(why),
            Part::Known { .. } => None,
        }
    }

    /// The shards of which nothing is known, and why.
    pub fn away(&self) -> impl Iterator<Item = (ShardId, &Arc<ModelError>)> {
        let shards = (0..self.parts.len()).map(shard_id);
        shards.filter_map(|shard| Some((shard, self.why_away(shard)?)))
    }

    /// Whether nothing is known of some shard.
    pub fn is_partial(&self) -> bool {
        self.away().next().is_some()
    }

    /// A shard of which something is known.
    pub fn some_known(&self) -> Option<ShardId> {
        let mut shards = (0..self.parts.len()).map(shard_id);
        shards.find(|shard| self.why_away(*shard).is_none())
    }

    /// Whether a shard is away that was not before.
    pub fn lacks_more_than(&self, before: &DatabaseModel) -> bool {
        self.away()
            .any(|(shard, _)| before.why_away(shard).is_none())
    }

    /// What was known before of the object ids of shards that are away.
    pub(super) fn remember(&mut self, before: &DatabaseModel) {
        for (part, before) in self.parts.iter_mut().zip(&before.parts) {
            if let Part::Away { why, .. } = part {
                *part = before.gone(why);
            }
        }
    }

    /// The same again, after the other shards were asked and the home shard could not be.
    ///
    /// # Errors
    /// Why it may not hold any longer.
    pub(super) fn without_home(
        &self,
        config: &Arc<Config>,
        home: ShardId,
        seen: &[Result<ShardReport, Arc<ModelError>>],
        epoch: u64,
    ) -> Result<DatabaseModel, &'static str> {
        if !Arc::ptr_eq(&self.config, config) || self.parts.len() != seen.len() {
            return Err("the configuration has changed since it was asked");
        }
        if !self.directories.is_empty() {
            return Err("it has the lookup tables that say where rows are");
        }
        let mut parts = Vec::with_capacity(seen.len());
        for (shard, (seen, before)) in seen.iter().zip(&self.parts).enumerate() {
            parts.push(match (seen, before) {
                (Err(why), before) => before.gone(why),
                // It came back after the home shard had left: nobody can compare the two.
                (Ok(_), Part::Away { .. }) => before.clone(),
                (Ok(seen), before) if before.is_still(seen) => before.clone(),
                (Ok(_), Part::Known { .. }) => {
                    return Err("definitions have changed on other shards since it was asked");
                }
            });
            debug_assert!(shard != home.index() || matches!(parts[shard], Part::Away { .. }));
        }
        Ok(DatabaseModel {
            version: NEXT.fetch_add(1, Ordering::Relaxed),
            epoch,
            schema_seen: None,
            read: Instant::now(),
            drift: self.drift.clone(),
            compared_with: self.compared_with,
            parts,
            config: Arc::clone(config),
            directories: self.directories.clone(),
            snapshot: Arc::clone(&self.snapshot),
            narrower: Default::default(),
            doubts: None,
            superseded: AtomicBool::new(false),
            times: OnceLock::new(),
            outside: Default::default(),
            shows_prepared: Default::default(),
            names: Default::default(),
            tells_server: Default::default(),
            lasting: OnceLock::new(),
            custom_settings: OnceLock::new(),
            sets_locally: OnceLock::new(),
        })
    }
}
