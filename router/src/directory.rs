//! Reads the lookup tables of directory strategies from the home shard.
//!
//! A directory is read with the catalog and is as old as it: new at the next refresh,
//! and after each write to it that goes through this router. Until then a key that it
//! does not have may be on any shard. That a key has moved to another shard is not
//! noticed before: docs/guide.md says how rows are moved.

use crate::catalog::{Catalog, Name};
use crate::config::{Config, Label, Strategy, StrategyKind, TablePattern};
use crate::group::shard_id;
use mothership_shardmap::{
    Directory, Encoding, KeyBytes, KeyType, ShardId, ShardSet, TextContext, TimeZone,
};
use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Client, Row};

/// The directories of one database, by the names of their strategies.
#[derive(Clone, Debug, Default)]
pub struct Directories {
    loaded: HashMap<Label, Arc<Directory>>,
    tables: Vec<TablePattern>,
}

impl Directories {
    /// As they are before anything was read: every key may be on any shard.
    pub fn unread(config: &Config) -> Self {
        let mut directories = Self::default();
        for strategy in &config.strategies {
            if let StrategyKind::Directory { table, .. } = &strategy.kind {
                directories.put(strategy, config, Vec::new());
                directories.tables.push(table.clone());
            }
        }
        directories
    }

    fn put(
        &mut self,
        strategy: &Strategy,
        config: &Config,
        entries: Vec<(Vec<KeyBytes>, ShardId)>,
    ) {
        let all: ShardSet = (0..config.postgres_shards()).map(shard_id).collect();
        let directory = Arc::new(Directory::new(entries, all));
        self.loaded.insert(strategy.name.clone(), directory);
    }

    /// The directory of a strategy.
    pub fn of(&self, strategy: &Strategy) -> Option<Arc<Directory>> {
        self.loaded.get(&strategy.name).map(Arc::clone)
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// True if a statement with this text may write to a lookup table: its name occurs.
    pub fn may_be_named_in(&self, sql: &str) -> bool {
        let sql = sql.as_bytes();
        let named = |table: &TablePattern| {
            let name = table.table.as_bytes();
            sql.windows(name.len().max(1))
                .any(|part| part.eq_ignore_ascii_case(name))
        };
        self.tables.iter().any(named)
    }
}

/// Why a directory cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The table does not have the column, or a column of another kind.
    #[error("column {column} of lookup table {table} {wrong}")]
    Column {
        /// The lookup table.
        table: Name,
        /// Its column.
        column: String,
        /// What is wrong with it.
        wrong: &'static str,
    },
    /// A row names no shard.
    #[error("lookup table {table} names shard \"{shard}\", which is not declared")]
    Shard {
        /// The lookup table.
        table: Name,
        /// What stands in the row.
        shard: String,
    },
    /// A key of a form that has no certain meaning.
    #[error("lookup table {table} has a key that cannot be a key of a table")]
    Key {
        /// The lookup table.
        table: Name,
    },
    /// More keys than the setting allows.
    #[error("lookup table {table} has more than {most} keys (limits.directory_keys)")]
    TooMany {
        /// The lookup table.
        table: Name,
        /// The limit.
        most: u32,
    },
    /// The server refused.
    #[error("read lookup table {table}")]
    Server {
        /// The lookup table.
        table: Name,
        /// Why.
        #[source]
        cause: tokio_postgres::Error,
    },
}

/// Reads every directory of a configuration by a connection to the home shard, whose
/// catalog is `home`. A lookup table that does not exist yet has no keys.
///
/// # Errors
/// When one cannot be read whole: half of a directory would be a wrong map.
pub async fn load(
    config: &Config,
    home: &Catalog,
    client: &Client,
) -> Result<Directories, DirectoryError> {
    let mut directories = Directories::unread(config);
    for strategy in &config.strategies {
        let StrategyKind::Directory {
            table,
            key_column,
            shard_column,
        } = &strategy.kind
        else {
            continue;
        };
        let name = Name::new(table.schema.as_str(), table.table.as_str());
        let (key, shard) = (key_column.as_str(), shard_column.as_str());
        let Some(key_type) = key_type(home, &name, key)? else {
            continue;
        };
        let mut entries = Vec::new();
        for row in read(config, client, &name, key, shard).await? {
            entries.extend(entry(config, &name, key_type, &row)?);
        }
        directories.put(strategy, config, entries);
    }
    Ok(directories)
}

/// The type of the keys; `None` while the table does not exist.
fn key_type(home: &Catalog, table: &Name, column: &str) -> Result<Option<KeyType>, DirectoryError> {
    let Some(relation) = home.relation(table) else {
        return Ok(None);
    };
    let wrong = |wrong| DirectoryError::Column {
        table: table.clone(),
        column: column.to_owned(),
        wrong,
    };
    let (_, column) = relation
        .column(column)
        .ok_or_else(|| wrong("does not exist"))?;
    let key_type = KeyType::from_oid(home.base_type(column.type_oid));
    key_type
        .map(Some)
        .ok_or_else(|| wrong("is of a type that cannot be a key"))
}

async fn read(
    config: &Config,
    client: &Client,
    table: &Name,
    key: &str,
    shard: &str,
) -> Result<Vec<Row>, DirectoryError> {
    let most = config.limits.directory_keys.get();
    let sql = format!(
        "SELECT {}, {}::pg_catalog.text FROM {}.{} LIMIT {}",
        quoted(key),
        quoted(shard),
        quoted(&table.schema),
        quoted(&table.name),
        u64::from(most) + 1
    );
    let rows = client.query(&sql, &[]).await;
    let rows = rows.map_err(|cause| DirectoryError::Server {
        table: table.clone(),
        cause,
    })?;
    match rows.len() > most as usize {
        true => Err(DirectoryError::TooMany {
            table: table.clone(),
            most,
        }),
        false => Ok(rows),
    }
}

/// A row's key and shard; a row without one of them says nothing.
fn entry(
    config: &Config,
    table: &Name,
    key_type: KeyType,
    row: &Row,
) -> Result<Option<(Vec<KeyBytes>, ShardId)>, DirectoryError> {
    /// As catalog and settings are read: what the server sends is UTF8.
    const CONTEXT: TextContext = TextContext {
        time_zone: TimeZone::Other,
        encoding: Encoding::Utf8,
    };
    let server = |cause| DirectoryError::Server {
        table: table.clone(),
        cause,
    };
    let key: Option<Binary<'_>> = row.try_get(0).map_err(server)?;
    let shard: Option<&str> = row.try_get(1).map_err(server)?;
    let (Some(Binary(key)), Some(shard)) = (key, shard) else {
        return Ok(None);
    };
    let key = key_type.from_binary(key_type.oid(), key, &CONTEXT);
    let key = key.map_err(|_| DirectoryError::Key {
        table: table.clone(),
    })?;
    let place = config
        .shards
        .iter()
        .position(|known| known.name.as_str() == shard);
    let place = place.ok_or_else(|| DirectoryError::Shard {
        table: table.clone(),
        shard: shard.to_owned(),
    })?;
    Ok(Some((vec![key], shard_id(place))))
}

/// A value as the server sends it, of whatever type.
struct Binary<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Binary<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_names_the_lookup_table_may_write_to_it() {
        let directories = Directories {
            loaded: HashMap::new(),
            tables: vec![TablePattern::parse("ms.places").expect("it is a name")],
        };
        for (sql, named) in [
            ("INSERT INTO ms.Places VALUES (1)", true),
            ("update \"places\" set shard = 'b'", true),
            ("INSERT INTO people VALUES (1)", false),
            ("", false),
        ] {
            assert_eq!(directories.may_be_named_in(sql), named, "{sql}");
        }
    }
}
