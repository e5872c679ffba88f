//! The map of one cluster: its shards, and where each table lives.
//!
//! Immutable; a change is a new map with a higher version. Built by [`crate::ShardMapBuilder`], which checks it.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::{
    GroupId, KeyBytes, KeyType, NoOwner, Placement, ShardId, ShardSet, Sharded, SlotMap, Strategy,
    TablePattern,
};

/// Where tables live that no declaration names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultTables {
    /// On the home shard.
    #[default]
    Home,
    /// Hash-sharded by the first column of their primary key if it can be a key, else on the home shard.
    Auto,
}

/// What the map says about a table.
#[derive(Clone, Copy, Debug)]
pub enum Declared<'a> {
    /// Declared by its name, or by a pattern that matches it.
    Placement(&'a Placement),
    /// Not declared: ask [`ShardMap::auto_placement`] with its primary key.
    Auto,
    /// Not declared: on the home shard.
    Home,
}

/// Which shards there are, and where each table lives.
#[derive(Clone, Debug)]
pub struct ShardMap {
    pub(crate) version: u64,
    pub(crate) shards: Vec<String>,
    /// How many of them, at the end, are of another engine.
    pub(crate) documents: usize,
    pub(crate) home: ShardId,
    pub(crate) slots: Arc<SlotMap>,
    pub(crate) default_tables: DefaultTables,
    pub(crate) exact: ByName,
    /// In the order of declaration: the first that matches counts.
    pub(crate) patterns: Vec<(TablePattern, Placement)>,
    /// Names of the groups, by number; the first ones are those of auto, one per key type.
    pub(crate) groups: Vec<String>,
}

/// By schema, then by table.
pub(crate) type ByName = HashMap<String, HashMap<String, Placement>>;

impl ShardMap {
    /// Rises with every change of the map; part of every plan's cache key.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The shards' names; a [`ShardId`] is a position here.
    pub fn shards(&self) -> &[String] {
        &self.shards
    }

    /// All shards but those of documents.
    pub fn all(&self) -> ShardSet {
        let count = self.shards.len() - self.documents;
        (0..).map(ShardId).take(count).collect()
    }

    /// Whether rows are documents that are on these shards: MongoDB's, of which there are no copies and no definitions.
    pub fn has_documents(&self, shards: &ShardSet) -> bool {
        let first = self.shards.len() - self.documents;
        shards.iter().any(|shard| shard.index() >= first)
    }

    /// The name of a shard; empty if the id is not of this map.
    pub fn shard_name(&self, shard: ShardId) -> &str {
        self.shards.get(shard.index()).map_or("", String::as_str)
    }

    /// The shard of this name.
    pub fn shard_named(&self, name: &str) -> Option<ShardId> {
        (0..)
            .map(ShardId)
            .zip(&self.shards)
            .find(|(_, shard)| *shard == name)
            .map(|(id, _)| id)
    }

    /// Where undeclared tables live, and statements without tables run.
    pub fn home(&self) -> ShardId {
        self.home
    }

    /// The slots of all hash-sharded tables.
    pub fn slots(&self) -> &SlotMap {
        &self.slots
    }

    /// The name of a colocation group; empty if the id is not of this map.
    pub fn group_name(&self, group: GroupId) -> &str {
        self.groups.get(group.0 as usize).map_or("", String::as_str)
    }

    /// What is declared for a table, by its schema and name as the catalog spells them. An exact declaration goes
    /// before a pattern, the first matching pattern before later ones, a pattern before the default. Patterns and
    /// `auto` do not reach PostgreSQL's own schemas.
    pub fn declared(&self, schema: &str, name: &str) -> Declared<'_> {
        if let Some(placement) = self.exact.get(schema).and_then(|tables| tables.get(name)) {
            return Declared::Placement(placement);
        }
        if schema.starts_with("pg_") || schema == "information_schema" {
            return Declared::Home;
        }
        if let Some((_, placement)) = self
            .patterns
            .iter()
            .find(|(pattern, _)| pattern.matches(schema, name))
        {
            return Declared::Placement(placement);
        }
        match self.default_tables {
            DefaultTables::Auto => Declared::Auto,
            DefaultTables::Home => Declared::Home,
        }
    }

    /// Where a table lives under `auto`: hash-sharded by the first column of its primary key, colocated with all
    /// others whose key has that type; without a key on the home shard. A key that begins with a column of a type that
    /// cannot be a shard key must be given as no key.
    pub fn auto_placement<S: AsRef<str>>(&self, primary_key: &[(S, KeyType)]) -> Placement {
        let Some((column, key_type)) = primary_key.first() else {
            return Placement::Home;
        };
        let strategy = Strategy::Hash(Arc::clone(&self.slots));
        Placement::Sharded(Arc::new(Sharded {
            columns: vec![(column.as_ref().to_owned(), *key_type)],
            shards: strategy.shards(),
            strategy,
            group: auto_group(*key_type),
            allow_unenforced_unique: false,
        }))
    }

    /// The placement of a table once its primary key is known.
    pub fn placement<S: AsRef<str>>(
        &self,
        schema: &str,
        name: &str,
        primary_key: &[(S, KeyType)],
    ) -> Placement {
        match self.declared(schema, name) {
            Declared::Placement(placement) => placement.clone(),
            Declared::Auto => self.auto_placement(primary_key),
            Declared::Home => Placement::Home,
        }
    }

    /// The shard that owns a whole key: [`Sharded::owner`].
    #[inline]
    pub fn owner(&self, table: &Sharded, keys: &[KeyBytes]) -> Result<ShardId, NoOwner> {
        table.owner(keys)
    }

    /// The shards that may hold keys that begin with these values: [`Sharded::owners_with_prefix`].
    pub fn owners_with_prefix(&self, table: &Sharded, prefix: &[KeyBytes]) -> ShardSet {
        table.owners_with_prefix(prefix)
    }

    /// The shards that may hold keys whose first column lies in an interval: [`Sharded::owners_between`].
    pub fn owners_between(
        &self,
        table: &Sharded,
        lower: Bound<&KeyBytes>,
        upper: Bound<&KeyBytes>,
    ) -> ShardSet {
        table.owners_between(lower, upper)
    }

    /// The declarations that name one table, in no particular order.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &str, &Placement)> {
        self.exact.iter().flat_map(|(schema, tables)| {
            tables
                .iter()
                .map(move |(name, placement)| (schema.as_str(), name.as_str(), placement))
        })
    }

    /// The declarations by pattern, in order.
    pub fn patterns(&self) -> impl Iterator<Item = (&TablePattern, &Placement)> {
        self.patterns
            .iter()
            .map(|(pattern, placement)| (pattern, placement))
    }
}

/// The group of all hash-sharded tables whose key is one column of this type and that name no group.
pub(crate) fn auto_group(key_type: KeyType) -> GroupId {
    GroupId(key_type as u32)
}
