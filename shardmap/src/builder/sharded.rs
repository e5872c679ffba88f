//! Checks the declaration of a sharded table, and its colocation group.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::{MapError, type_list};
use crate::map::auto_group;
use crate::strategy::{Directory, ListMap, RangeEntry, RangeError, RangeMap};
use crate::{Cut, GroupId, KeyBytes, KeyType, ShardId, Sharded, SlotMap, Strategy};

/// A table that is divided by a key.
#[derive(Clone, Debug)]
pub struct ShardedDecl {
    /// The key's columns in order, as the catalog spells them.
    pub columns: Vec<(String, KeyType)>,
    /// How keys lead to shards.
    pub strategy: StrategyDecl,
    /// The name of the colocation group. Without one, hash-sharded tables with the same key types are colocated, since
    /// they share the slots; a table of another strategy is alone.
    pub group: Option<String>,
    /// UNIQUE and similar constraints without the whole key are allowed, though no shard can enforce them.
    pub allow_unenforced_unique: bool,
}

/// A strategy whose shards are given by name.
#[derive(Clone, Debug)]
pub enum StrategyDecl {
    /// By the map's slots.
    Hash,
    /// By the same slots, divided evenly among these shards in their order.
    Even(Vec<String>),
    /// By ranges, from inclusive to exclusive bounds.
    Range {
        /// From, to, shard. A bound has a cut for each key column, or for the first ones.
        ranges: Vec<(Vec<Cut>, Vec<Cut>, String)>,
        /// The owner of keys outside all ranges.
        default: Option<String>,
    },
    /// By listed keys.
    List {
        /// Whole keys and their shards.
        keys: Vec<(Vec<KeyBytes>, String)>,
        /// The owner of all other keys.
        default: Option<String>,
    },
    /// By a lookup table, which knows shards by their ids: their positions in the order of declaration.
    Directory(Arc<Directory>),
    /// By PostgreSQL's own hash partitioning: the shard of each remainder, the modulus being their number.
    Postgres {
        /// The shards of remainders 0, 1, ...
        remainders: Vec<String>,
    },
}

impl ShardedDecl {
    pub(super) fn resolve(
        &self,
        table: &str,
        shards: &HashMap<&str, ShardId>,
        slots: &Arc<SlotMap>,
        groups: &mut Groups,
    ) -> Result<Sharded, MapError> {
        self.check_columns(table)?;
        let strategy = Names {
            table,
            shards,
            columns: self.columns.len(),
        }
        .strategy(&self.strategy, slots)?;
        let places = strategy.shards();
        if places.is_empty() {
            return Err(MapError::NoPlace {
                table: table.to_owned(),
            });
        }
        // A directory gives ids; they must be of this map.
        if let (Strategy::Directory(_), Some(unknown)) = (
            &strategy,
            places.iter().find(|shard| shard.index() >= shards.len()),
        ) {
            return Err(MapError::UnknownShard {
                shard: unknown.to_string(),
                used_by: table.to_owned(),
            });
        }
        let group = groups.join(table, self, &strategy)?;
        Ok(Sharded {
            columns: self.columns.clone(),
            strategy,
            group,
            allow_unenforced_unique: self.allow_unenforced_unique,
            shards: places,
        })
    }

    fn check_columns(&self, table: &str) -> Result<(), MapError> {
        if self.columns.is_empty() {
            return Err(MapError::NoKey {
                table: table.to_owned(),
            });
        }
        for (index, (column, _)) in self.columns.iter().enumerate() {
            if self.columns[..index]
                .iter()
                .any(|(other, _)| other == column)
            {
                return Err(MapError::ColumnTwice {
                    table: table.to_owned(),
                    column: column.clone(),
                });
            }
        }
        Ok(())
    }
}

/// What is needed to resolve the names in a strategy.
struct Names<'a> {
    table: &'a str,
    shards: &'a HashMap<&'a str, ShardId>,
    columns: usize,
}

impl Names<'_> {
    fn strategy(&self, decl: &StrategyDecl, slots: &Arc<SlotMap>) -> Result<Strategy, MapError> {
        match decl {
            StrategyDecl::Hash => Ok(Strategy::Hash(Arc::clone(slots))),
            StrategyDecl::Even(names) => {
                let shards: Result<Vec<ShardId>, _> =
                    names.iter().map(|shard| self.shard(shard)).collect();
                let slots = SlotMap::divided(&shards?).ok_or_else(|| MapError::NoPlace {
                    table: self.table.to_owned(),
                })?;
                Ok(Strategy::Hash(Arc::new(slots)))
            }
            StrategyDecl::Directory(directory) => Ok(Strategy::Directory(Arc::clone(directory))),
            StrategyDecl::Range { ranges, default } => {
                self.range(ranges, default).map(Strategy::Range)
            }
            StrategyDecl::List { keys, default } => self.list(keys, default).map(Strategy::List),
            StrategyDecl::Postgres { remainders } => {
                let shards: Result<_, _> =
                    remainders.iter().map(|shard| self.shard(shard)).collect();
                Ok(Strategy::Postgres(shards?))
            }
        }
    }

    fn range(
        &self,
        ranges: &[(Vec<Cut>, Vec<Cut>, String)],
        default: &Option<String>,
    ) -> Result<RangeMap, MapError> {
        let mut entries = Vec::with_capacity(ranges.len());
        for (entry, (from, to, shard)) in ranges.iter().enumerate() {
            for bound in [from, to] {
                self.check_width(entry, bound.len(), 1..=self.columns)?;
            }
            entries.push(RangeEntry {
                from: from.clone(),
                to: to.clone(),
                shard: self.shard(shard)?,
            });
        }
        RangeMap::new(entries, self.default(default)?).map_err(|error| {
            let table = self.table.to_owned();
            match error {
                RangeError::Empty(entry) => MapError::RangeEmpty { table, entry },
                RangeError::Overlap(first, second) => MapError::RangeOverlap {
                    table,
                    first,
                    second,
                },
            }
        })
    }

    fn list(
        &self,
        keys: &[(Vec<KeyBytes>, String)],
        default: &Option<String>,
    ) -> Result<ListMap, MapError> {
        let mut entries = Vec::with_capacity(keys.len());
        for (entry, (key, shard)) in keys.iter().enumerate() {
            self.check_width(entry, key.len(), self.columns..=self.columns)?;
            entries.push((key.clone(), self.shard(shard)?));
        }
        ListMap::new(entries, self.default(default)?).map_err(|(first, second)| {
            MapError::ListTwice {
                table: self.table.to_owned(),
                first,
                second,
            }
        })
    }

    fn check_width(
        &self,
        entry: usize,
        got: usize,
        right: RangeInclusive<usize>,
    ) -> Result<(), MapError> {
        let (table, columns) = (self.table.to_owned(), self.columns);
        if right.contains(&got) {
            Ok(())
        } else {
            Err(MapError::EntryWidth {
                table,
                entry,
                got,
                columns,
            })
        }
    }

    fn default(&self, default: &Option<String>) -> Result<Option<ShardId>, MapError> {
        default
            .as_deref()
            .map(|shard| self.shard(shard))
            .transpose()
    }

    fn shard(&self, name: &str) -> Result<ShardId, MapError> {
        let unknown = || MapError::UnknownShard {
            shard: name.to_owned(),
            used_by: self.table.to_owned(),
        };
        self.shards.get(name).copied().ok_or_else(unknown)
    }
}

/// The groups so far; the first ones are those of auto.
pub(super) struct Groups {
    names: Vec<String>,
    first_members: HashMap<String, Member>,
}

/// The first table of a group, which the others must resemble.
struct Member {
    id: GroupId,
    table: String,
    columns: Vec<(String, KeyType)>,
    strategy: Strategy,
}

impl Groups {
    pub(super) fn new() -> Groups {
        let names = KeyType::ALL.iter().enumerate().map(|(index, key_type)| {
            debug_assert_eq!(
                auto_group(*key_type).0 as usize,
                index,
                "key types are listed in order"
            );
            format!("hash({})", key_type.name())
        });
        Groups {
            names: names.collect(),
            first_members: HashMap::new(),
        }
    }

    pub(super) fn into_names(self) -> Vec<String> {
        self.names
    }

    fn join(
        &mut self,
        table: &str,
        decl: &ShardedDecl,
        strategy: &Strategy,
    ) -> Result<GroupId, MapError> {
        let name = match (&decl.group, strategy, decl.columns.as_slice()) {
            (Some(group), ..) => group.clone(),
            (None, Strategy::Hash(_), [(_, key_type)]) => return Ok(auto_group(*key_type)),
            (None, Strategy::Hash(_), columns) => format!("hash{}", type_list(columns)),
            (None, ..) => table.to_owned(),
        };
        let Some(member) = self.first_members.get(&name) else {
            return Ok(self.open(name, table, &decl.columns, strategy));
        };
        let types = |columns: &[(String, KeyType)]| {
            columns
                .iter()
                .map(|(_, key_type)| *key_type)
                .collect::<Vec<_>>()
        };
        if types(&decl.columns) != types(&member.columns) {
            return Err(MapError::GroupTypes {
                table: table.to_owned(),
                types: type_list(&decl.columns),
                group: name,
                other: member.table.clone(),
                other_types: type_list(&member.columns),
            });
        }
        if !strategy.same_as(&member.strategy) {
            let (table, other) = (table.to_owned(), member.table.clone());
            return Err(MapError::GroupStrategy {
                table,
                group: name,
                other,
            });
        }
        Ok(member.id)
    }

    fn open(
        &mut self,
        name: String,
        table: &str,
        columns: &[(String, KeyType)],
        strategy: &Strategy,
    ) -> GroupId {
        let id = GroupId(self.names.len() as u32);
        self.names.push(name.clone());
        let member = Member {
            id,
            table: table.to_owned(),
            columns: columns.to_vec(),
            strategy: strategy.clone(),
        };
        self.first_members.insert(name, member);
        id
    }
}
