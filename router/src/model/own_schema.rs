//! How often the router looks at its own schema on the shards.
//!
//! The schema is looked at with each reading of the catalogs at most as often as catalogs are read when nothing changes:
//! definitions that go through this router do not touch it, and to look at it costs about as much as the rest.

use super::DatabaseModel;
use crate::topology::Topology;
use std::sync::Arc;
use std::time::Instant;

/// What a reading does about the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnSchema {
    /// Nothing: no transaction over several shards needs it.
    Unused,
    /// Installs it where it is missing, and records the shards.
    Look,
    /// Nothing: it was seen a short time ago.
    Seen,
}

/// When the schema was seen to be right, and on which servers.
#[derive(Clone, Debug)]
pub struct SchemaSeen {
    at: Instant,
    primaries: Vec<Option<usize>>,
}

impl SchemaSeen {
    /// A look begins now.
    pub fn begin(topology: &Topology) -> Self {
        Self {
            at: Instant::now(),
            primaries: primaries(topology),
        }
    }
}

impl OwnSchema {
    /// What the next reading does, where transactions over several shards need the schema. `before` is what is known.
    pub fn next(before: Option<&DatabaseModel>, topology: &Topology) -> Self {
        let most = topology.config.catalog.refresh_interval / 2;
        let is_seen = before.is_some_and(|before| {
            let seen = before.schema_seen.as_ref();
            Arc::ptr_eq(&before.config, &topology.config)
                && !before.is_partial()
                && seen.is_some_and(|seen| {
                    seen.at.elapsed() < most && seen.primaries == primaries(topology)
                })
        });
        match is_seen {
            true => Self::Seen,
            false => Self::Look,
        }
    }
}

fn primaries(topology: &Topology) -> Vec<Option<usize>> {
    let shards = topology.postgres_shards();
    shards.map(|shard| topology.primary(shard).ok()).collect()
}
