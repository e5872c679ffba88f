//! From declarations to the shard map.
//!
//! The file may leave the types of keys to the catalog, so the map is made when the
//! catalog is known, and again when it has changed. What cannot be placed yet is
//! named in [`BuiltMap::pending`]: such a table must be refused, not guessed at.

use std::sync::Arc;

use mothership_shardmap::{
    Cut, DefaultTables, Directory, KeyBytes, KeyType, KnownTable, Label, MapError, ShardMap,
    ShardMapBuilder, TablePattern,
};
use mothership_shardmap::{ShardedDecl, StrategyDecl, TableDecl};

use super::Config;
use super::names::Name;
use super::shards::Engine;
use super::tables::{DefaultTable, Place, Strategy, StrategyKind, Table};

/// A map, and what is missing in it.
#[derive(Debug, Clone)]
pub struct BuiltMap {
    /// The map.
    pub map: ShardMap,
    /// Sharded tables and patterns whose key types neither the file nor the catalog knows.
    /// A table that one of them covers and that the map does not name exactly has no known
    /// place: it does not exist yet, and CREATE TABLE has to build the map again.
    pub pending: Vec<TablePattern>,
    /// Tables of the catalog that do not fit their declaration: nothing says where their rows are.
    pub misfits: Vec<Misfit>,
}

/// A table that does not fit its declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// The table's schema.
    pub schema: String,
    /// The table.
    pub table: String,
    /// Why it does not fit.
    pub mistake: MapMistake,
}

/// Why the declarations and the catalog do not make a map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MapMistake {
    /// The declarations contradict each other.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The key names a column that the table does not have.
    #[error("table `{table}` is sharded by `{column}` and has no such column")]
    NoColumn {
        /// The table in the catalog.
        table: String,
        /// The column of the declaration.
        column: String,
    },
    /// The key names a column whose type has no provable equality.
    #[error("table `{table}` is sharded by `{column}`, whose type cannot be a key")]
    NotAKey {
        /// The table in the catalog.
        table: String,
        /// The column of the declaration.
        column: String,
    },
    /// The file and the catalog disagree.
    #[error("column `{column}` of table `{table}` is {catalog} and is declared as {declared}")]
    OtherType {
        /// The table in the catalog.
        table: String,
        /// The column.
        column: String,
        /// The type in the catalog.
        catalog: &'static str,
        /// The type in the file.
        declared: &'static str,
    },
    /// The key of a table and the keys of its strategy differ in type.
    #[error("table `{table}` has the key {key} and its strategy `{strategy}` has {keys}")]
    StrategyTypes {
        /// The table or pattern.
        table: String,
        /// The types of its key.
        key: String,
        /// Its strategy.
        strategy: Label,
        /// The types of the strategy's keys.
        keys: String,
    },
    /// Colocated tables have keys of different types.
    #[error(
        "table `{table}` has the key {key} and is colocated with `{other}`, whose key is {keys}"
    )]
    ColocatedTypes {
        /// The table or pattern.
        table: String,
        /// The types of its key.
        key: String,
        /// The table it is colocated with.
        other: TablePattern,
        /// The types of that one's key.
        keys: String,
    },
    /// The lookup table of a strategy is not loaded.
    #[error("the directory of strategy `{strategy}` is not there")]
    NoDirectory {
        /// The strategy.
        strategy: Label,
    },
}

impl Config {
    /// The map of the declared shards and tables. `known` is what the catalog has, possibly
    /// nothing; `directory` gives the loaded lookup table of a directory strategy.
    ///
    /// # Errors
    /// With everything in which the declarations contradict each other.
    pub fn shard_map(
        &self,
        version: u64,
        known: &[KnownTable],
        directory: &dyn Fn(&Strategy) -> Option<Arc<Directory>>,
    ) -> Result<BuiltMap, Vec<MapMistake>> {
        let mut building = Building {
            config: self,
            known,
            directory,
            mistakes: Vec::new(),
            pending: Vec::new(),
            misfits: Vec::new(),
        };
        let mut builder = ShardMapBuilder::new(version);
        self.add_shards(&mut builder);
        for table in &self.tables.declared {
            building.add(table, &mut builder);
        }
        match builder.build() {
            Ok(map) if building.mistakes.is_empty() => Ok(BuiltMap {
                map,
                pending: building.pending,
                misfits: building.misfits,
            }),
            built => {
                building.mistakes.extend(
                    built
                        .err()
                        .unwrap_or_default()
                        .into_iter()
                        .map(MapMistake::Map),
                );
                Err(building.mistakes)
            }
        }
    }

    fn add_shards(&self, builder: &mut ShardMapBuilder) {
        for shard in &self.shards {
            match shard.engine {
                Engine::Postgresql => builder.shard(shard.name.as_str()),
                Engine::Mongodb => builder.document_shard(shard.name.as_str()),
            };
            for range in &shard.slots {
                builder.slots(shard.name.as_str(), range.clone());
            }
        }
        builder
            .home(self.home().name.as_str())
            .default_tables(match self.tables.default {
                DefaultTable::Home => DefaultTables::Home,
                DefaultTable::Auto => DefaultTables::Auto,
            });
    }

    /// The key, strategy and declared types of a sharded table; a colocated one has its group's strategy.
    fn sharded<'a>(
        &'a self,
        table: &'a Table,
    ) -> Option<(&'a [Name], &'a [KeyType], Option<&'a Strategy>)> {
        let Place::Sharded {
            key,
            key_types,
            strategy,
            colocate,
        } = &table.place
        else {
            return None;
        };
        let group = colocate
            .as_ref()
            .and_then(|other| self.tables.declared.iter().find(|one| one.name == *other));
        let inherited = match group.map(|group| &group.place) {
            Some(Place::Sharded { strategy, .. }) => strategy.as_ref(),
            _ => None,
        };
        let name = strategy.as_ref().or(inherited);
        Some((
            key,
            key_types,
            name.and_then(|name| {
                self.strategies
                    .iter()
                    .find(|strategy| strategy.name == *name)
            }),
        ))
    }
}

/// One map while it is made.
struct Building<'a> {
    config: &'a Config,
    known: &'a [KnownTable],
    directory: &'a dyn Fn(&Strategy) -> Option<Arc<Directory>>,
    mistakes: Vec<MapMistake>,
    pending: Vec<TablePattern>,
    misfits: Vec<Misfit>,
}

impl Building<'_> {
    fn add(&mut self, table: &Table, builder: &mut ShardMapBuilder) {
        let TablePattern {
            schema,
            table: name,
        } = &table.name;
        if let Place::Documents {
            key,
            key_types,
            shards,
            ..
        } = &table.place
        {
            let names: Vec<String> = shards.iter().map(Label::to_string).collect();
            let sharded = ShardedDecl {
                columns: key
                    .iter()
                    .map(Name::to_string)
                    .zip(key_types.iter().copied())
                    .collect(),
                group: Some(format!(
                    "documents on {}{}",
                    names.join(", "),
                    spell(key_types)
                )),
                strategy: StrategyDecl::Even(names),
                allow_unenforced_unique: false,
            };
            builder.table(schema, name, TableDecl::Sharded(sharded));
            return;
        }
        let Some((key, declared, strategy)) = self.config.sharded(table) else {
            let reference = table.place == Place::Reference;
            builder.table(
                schema,
                name,
                if reference {
                    TableDecl::Reference
                } else {
                    TableDecl::Home
                },
            );
            return;
        };
        let declared = if declared.is_empty() {
            strategy.and_then(key_types).unwrap_or_default()
        } else {
            declared
        };
        let types = self.types_of_existing(table, key, declared);
        if !declared.is_empty() {
            // The catalog agrees, or has no such table yet.
            return self.declare(table, schema, name, declared.to_vec(), builder);
        }
        if types.is_empty() || !table.name.is_exact() {
            self.pending.push(table.name.clone());
        }
        for (schema, name, types) in types {
            self.declare(table, &schema, &name, types, builder);
        }
    }

    /// The key types of every existing table for which this declaration counts.
    fn types_of_existing(
        &mut self,
        table: &Table,
        key: &[Name],
        declared: &[KeyType],
    ) -> Vec<(String, String, Vec<KeyType>)> {
        let mut found = Vec::new();
        for known in self.known {
            let counts = self
                .config
                .tables
                .find(&known.schema, &known.name)
                .is_some_and(|one| one.name == table.name);
            let types = if counts {
                self.types(known, key, declared)
            } else {
                None
            };
            found.extend(types.map(|types| (known.schema.clone(), known.name.clone(), types)));
        }
        found
    }

    /// A table that exists is the only one concerned; without one the declarations contradict each other.
    fn misfit(&mut self, schema: &str, table: &str, mistake: MapMistake) {
        let mut known = self.known.iter();
        if !known.any(|known| known.schema == schema && known.name == table) {
            return self.mistakes.push(mistake);
        }
        self.misfits.push(Misfit {
            schema: schema.to_owned(),
            table: table.to_owned(),
            mistake,
        });
    }

    fn types(
        &mut self,
        known: &KnownTable,
        key: &[Name],
        declared: &[KeyType],
    ) -> Option<Vec<KeyType>> {
        let mut types = Vec::with_capacity(key.len());
        for (index, column) in key.iter().enumerate() {
            let (table, column) = (
                format!("{}.{}", known.schema, known.name),
                column.to_string(),
            );
            let mistake = match known.columns.iter().find(|(name, _)| *name == column) {
                None => MapMistake::NoColumn { table, column },
                Some((_, None)) => MapMistake::NotAKey { table, column },
                Some((_, Some(catalog))) => match declared.get(index) {
                    Some(declared) if declared != catalog => MapMistake::OtherType {
                        table,
                        column,
                        catalog: catalog.name(),
                        declared: declared.name(),
                    },
                    _ => {
                        types.push(*catalog);
                        continue;
                    }
                },
            };
            self.misfit(&known.schema, &known.name, mistake);
        }
        (types.len() == key.len()).then_some(types)
    }

    fn declare(
        &mut self,
        table: &Table,
        schema: &str,
        name: &str,
        types: Vec<KeyType>,
        builder: &mut ShardMapBuilder,
    ) {
        let Some((key, _, strategy)) = self.config.sharded(table) else {
            return;
        };
        let mistake = self
            .strategy_mistake(table, &types, strategy)
            .or_else(|| self.colocation_mistake(table, &types));
        if let Some(mistake) = mistake {
            return self.misfit(schema, name, mistake);
        }
        let directory = strategy.filter(|it| matches!(it.kind, StrategyKind::Directory { .. }));
        let directory = directory.and_then(self.directory);
        let decl = strategy.map_or(Some(StrategyDecl::Hash), |strategy| {
            strategy_decl(&strategy.kind, directory)
        });
        let (Some(decl), group) = (
            decl,
            strategy.map(|strategy| format!("{}{}", strategy.name, spell(&types))),
        ) else {
            let strategy = strategy.map(|strategy| strategy.name.clone());
            return self
                .mistakes
                .extend(strategy.map(|strategy| MapMistake::NoDirectory { strategy }));
        };
        let sharded = ShardedDecl {
            columns: key.iter().map(Name::to_string).zip(types).collect(),
            strategy: decl,
            // Tables that share a strategy are colocated as those are that share the slots.
            group,
            allow_unenforced_unique: table.allow_unenforced_unique,
        };
        builder.table(schema, name, TableDecl::Sharded(sharded));
    }

    fn strategy_mistake(
        &self,
        table: &Table,
        types: &[KeyType],
        strategy: Option<&Strategy>,
    ) -> Option<MapMistake> {
        let strategy = strategy?;
        let keys = key_types(strategy).filter(|keys| *keys != types)?;
        Some(MapMistake::StrategyTypes {
            table: table.name.to_string(),
            key: spell(types),
            strategy: strategy.name.clone(),
            keys: spell(keys),
        })
    }

    /// Compared with what is known of the other table; an unknown one is compared when it is known.
    fn colocation_mistake(&self, table: &Table, types: &[KeyType]) -> Option<MapMistake> {
        let Place::Sharded {
            colocate: Some(other),
            ..
        } = &table.place
        else {
            return None;
        };
        let group = self
            .config
            .tables
            .declared
            .iter()
            .find(|one| one.name == *other)?;
        let (key, declared, _) = self.config.sharded(group)?;
        let in_catalog = || {
            let known = self
                .known
                .iter()
                .find(|known| known.schema == other.schema && known.name == other.table)?;
            let column = |name: &Name| {
                known
                    .columns
                    .iter()
                    .find(|(column, _)| column == name.as_str())?
                    .1
            };
            key.iter().map(column).collect::<Option<Vec<_>>>()
        };
        let keys = if declared.is_empty() {
            in_catalog()?
        } else {
            declared.to_vec()
        };
        (keys != types).then(|| MapMistake::ColocatedTypes {
            table: table.name.to_string(),
            key: spell(types),
            other: other.clone(),
            keys: spell(&keys),
        })
    }
}

/// The key types that a strategy prescribes.
fn key_types(strategy: &Strategy) -> Option<&[KeyType]> {
    match &strategy.kind {
        StrategyKind::Range { key_types, .. } | StrategyKind::List { key_types, .. } => {
            Some(key_types)
        }
        StrategyKind::Directory { .. } | StrategyKind::Postgres { .. } => None,
    }
}

fn spell(types: &[KeyType]) -> String {
    format!(
        "({})",
        types
            .iter()
            .map(|one| one.name())
            .collect::<Vec<_>>()
            .join(", ")
    )
}

/// A strategy in the map's own terms; `None` for a directory that is not given.
pub(crate) fn strategy_decl(
    kind: &StrategyKind,
    directory: Option<Arc<Directory>>,
) -> Option<StrategyDecl> {
    let name = |shard: &Label| shard.as_str().to_owned();
    Some(match kind {
        StrategyKind::Range { ranges, other, .. } => StrategyDecl::Range {
            ranges: ranges
                .iter()
                .map(|range| {
                    (
                        bound(&range.from, Cut::Min),
                        bound(&range.below, Cut::Max),
                        name(&range.shard),
                    )
                })
                .collect(),
            default: other.as_ref().map(name),
        },
        StrategyKind::List { lists, other, .. } => StrategyDecl::List {
            keys: lists
                .iter()
                .flat_map(|list| list.keys.iter().map(|key| (key.clone(), name(&list.shard))))
                .collect(),
            default: other.as_ref().map(name),
        },
        StrategyKind::Postgres { remainders } => StrategyDecl::Postgres {
            remainders: remainders.iter().map(name).collect(),
        },
        StrategyKind::Directory { .. } => StrategyDecl::Directory(directory?),
    })
}

fn bound(key: &[KeyBytes], open: Cut) -> Vec<Cut> {
    if key.is_empty() {
        vec![open]
    } else {
        key.iter().cloned().map(Cut::Value).collect()
    }
}
