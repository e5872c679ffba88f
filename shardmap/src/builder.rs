//! From declarations to a checked [`ShardMap`].
//!
//! Whoever reads the configuration resolves text to values (`KeyType::from_text`) and calls this; all mistakes are
//! reported at once, each with the names that it concerns, so that they can be shown with file and line.

mod error;
mod sharded;

pub use error::MapError;
pub use sharded::{ShardedDecl, StrategyDecl};

use sharded::Groups;

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::map::ByName;
use crate::{
    DefaultTables, KeyType, Placement, SLOT_COUNT, ShardId, ShardMap, SlotMap, TablePattern,
};

/// How many shards a map may have.
pub const MAX_SHARDS: usize = 1024;

/// A table as it is declared.
#[derive(Clone, Debug)]
pub enum TableDecl {
    /// Divided by a key.
    Sharded(ShardedDecl),
    /// A copy on every shard.
    Reference,
    /// On the home shard.
    Home,
}

/// Collects declarations; [`ShardMapBuilder::build`] checks them.
#[derive(Clone, Debug, Default)]
pub struct ShardMapBuilder {
    version: u64,
    shards: Vec<String>,
    documents: usize,
    home: Option<String>,
    slots: Vec<(String, RangeInclusive<u16>)>,
    default_tables: DefaultTables,
    tables: Vec<(String, String, TableDecl)>,
}

impl ShardMapBuilder {
    /// An empty map of this version.
    pub fn new(version: u64) -> ShardMapBuilder {
        ShardMapBuilder {
            version,
            ..ShardMapBuilder::default()
        }
    }

    /// Adds a shard; ids are given in the order of these calls.
    pub fn shard(&mut self, name: &str) -> &mut Self {
        self.shards.push(name.to_owned());
        self
    }

    /// Adds a shard of another engine, which has only tables that name it. All such come behind the others.
    pub fn document_shard(&mut self, name: &str) -> &mut Self {
        self.documents += 1;
        self.shard(name)
    }

    /// Names the home shard; without this call it is the first one.
    pub fn home(&mut self, name: &str) -> &mut Self {
        self.home = Some(name.to_owned());
        self
    }

    /// Gives a range of slots to a shard; without any such call slots are divided evenly, in the order of shards.
    pub fn slots(&mut self, shard: &str, range: RangeInclusive<u16>) -> &mut Self {
        self.slots.push((shard.to_owned(), range));
        self
    }

    /// Says where undeclared tables live.
    pub fn default_tables(&mut self, default: DefaultTables) -> &mut Self {
        self.default_tables = default;
        self
    }

    /// Declares a table, or with `*` in schema or name, all tables that match. Names are as the catalog spells them.
    pub fn table(&mut self, schema: &str, name: &str, table: TableDecl) -> &mut Self {
        self.tables
            .push((schema.to_owned(), name.to_owned(), table));
        self
    }

    /// The map, or everything that is wrong with it, in the order of declaration.
    pub fn build(&self) -> Result<ShardMap, Vec<MapError>> {
        let mut errors = Vec::new();
        let shards = self.shard_ids(&mut errors);
        let home = self.home_id(&shards, &mut errors);
        let slots = Arc::new(self.slot_map(&shards, &mut errors));
        let mut groups = Groups::new();
        let (exact, patterns) = self.placements(&shards, &slots, &mut groups, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(ShardMap {
            version: self.version,
            shards: self.shards.clone(),
            documents: self.documents,
            home,
            slots,
            default_tables: self.default_tables,
            exact,
            patterns,
            groups: groups.into_names(),
        })
    }

    fn shard_ids(&self, errors: &mut Vec<MapError>) -> HashMap<&str, ShardId> {
        let mut ids = HashMap::new();
        if self.shards.is_empty() {
            errors.push(MapError::NoShards);
        }
        if self.shards.len() > MAX_SHARDS {
            errors.push(MapError::TooManyShards {
                count: self.shards.len(),
            });
        }
        for (id, name) in (0..).map(ShardId).zip(&self.shards) {
            if ids.insert(name.as_str(), id).is_some() {
                errors.push(MapError::ShardTwice {
                    shard: name.clone(),
                });
            }
        }
        ids
    }

    fn home_id(&self, shards: &HashMap<&str, ShardId>, errors: &mut Vec<MapError>) -> ShardId {
        let Some(home) = &self.home else {
            return ShardId(0);
        };
        shards.get(home.as_str()).copied().unwrap_or_else(|| {
            errors.push(MapError::UnknownShard {
                shard: home.clone(),
                used_by: "home".to_owned(),
            });
            ShardId(0)
        })
    }

    /// On errors the map is even, so that tables can still be checked.
    fn slot_map(&self, shards: &HashMap<&str, ShardId>, errors: &mut Vec<MapError>) -> SlotMap {
        let shared = self.shards.len() - self.documents;
        let even = SlotMap::even(shared.min(MAX_SHARDS) as u16);
        if self.slots.is_empty() {
            return even;
        }
        let before = errors.len();
        let mut owners: Vec<Option<ShardId>> = vec![None; usize::from(SLOT_COUNT)];
        for (shard, range) in &self.slots {
            let (first, last) = (*range.start(), *range.end());
            let Some(id) = shards.get(shard.as_str()) else {
                errors.push(MapError::UnknownShard {
                    shard: shard.clone(),
                    used_by: "slots".to_owned(),
                });
                continue;
            };
            if first > last || last >= SLOT_COUNT {
                errors.push(MapError::SlotRange {
                    shard: shard.clone(),
                    first,
                    last,
                });
                continue;
            }
            let range = &mut owners[usize::from(first)..=usize::from(last)];
            if let Some((offset, other)) = (0..)
                .zip(range.iter())
                .find_map(|(at, owner)| owner.map(|id| (at, id)))
            {
                let other = self.shards[other.index()].clone();
                errors.push(MapError::SlotTwice {
                    slot: first + offset,
                    shard: shard.clone(),
                    other,
                });
            }
            range.fill(Some(*id));
        }
        for run in unowned(&owners) {
            errors.push(MapError::SlotsUnowned {
                first: *run.start(),
                last: *run.end(),
            });
        }
        match owners
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .and_then(SlotMap::new)
        {
            Some(slots) if errors.len() == before => slots,
            _ => even,
        }
    }

    /// The declarations by name, and those by pattern.
    fn placements(
        &self,
        shards: &HashMap<&str, ShardId>,
        slots: &Arc<SlotMap>,
        groups: &mut Groups,
        errors: &mut Vec<MapError>,
    ) -> (ByName, Vec<(TablePattern, Placement)>) {
        let (mut exact, mut patterns) = (ByName::new(), Vec::new());
        let mut seen = HashSet::new();
        for (schema, table, decl) in &self.tables {
            let full_name = format!("{schema}.{table}");
            if !seen.insert((schema, table)) {
                errors.push(MapError::TableTwice { table: full_name });
                continue;
            }
            let placement = match decl {
                TableDecl::Reference => Ok(Placement::Reference),
                TableDecl::Home => Ok(Placement::Home),
                TableDecl::Sharded(decl) => decl
                    .resolve(&full_name, shards, slots, groups)
                    .map(|sharded| Placement::Sharded(Arc::new(sharded))),
            };
            let (schema, table) = (schema.clone(), table.clone());
            match placement {
                Err(error) => errors.push(error),
                Ok(placement) if full_name.contains('*') => {
                    patterns.push((TablePattern { schema, table }, placement));
                }
                Ok(placement) => {
                    exact.entry(schema).or_default().insert(table, placement);
                }
            }
        }
        (exact, patterns)
    }
}

/// The runs of slots without an owner.
fn unowned(owners: &[Option<ShardId>]) -> Vec<RangeInclusive<u16>> {
    let mut start = 0;
    let mut runs = Vec::new();
    for run in owners.chunk_by(|a, b| a.is_none() == b.is_none()) {
        let end = start + run.len() as u16;
        if run[0].is_none() {
            runs.push(start..=end - 1);
        }
        start = end;
    }
    runs
}

/// `(int8, text)`, for messages and group names.
fn type_list(columns: &[(String, KeyType)]) -> String {
    let names: Vec<&str> = columns
        .iter()
        .map(|(_, key_type)| key_type.name())
        .collect();
    format!("({})", names.join(", "))
}

#[cfg(test)]
mod tests;
