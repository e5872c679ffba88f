//! Reads the lookup tables of directory strategies from the home shard.
//!
//! A directory is read with the catalog and is as old as it: new at the next refresh,
//! and after each write to it that goes through this router. Until then a key that it
//! does not have may be on any shard. That a key has moved to another shard is not
//! noticed before: docs/guide.md says how rows are moved.
//!
//! The owner of a lookup table may put anything in its place, at any moment: a view, a policy, a table that others
//! inherit from. `COPY table TO STDOUT` reads the rows of one plain table and runs nothing that a user has written:
//! what is behind the name is looked at and read by the same command. A SELECT would run a view's functions with the
//! control role's rights, and `SET ROLE` would not help, because those functions could set it back.

use crate::config::{Config, Label, Strategy, StrategyKind, TablePattern};
use crate::topology::shard_id;
use futures_util::{StreamExt, TryStreamExt};
use mothership_catalog::{Catalog, Name, Relation, RelationKind, TypeKind};
use mothership_shardmap::{
    Directory, Encoding, KeyBytes, KeyType, ShardId, ShardSet, TextContext, TimeZone,
};
use mothership_sql::quote;
use std::collections::HashMap;
use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use tokio_postgres::Client;
use tokio_postgres::binary_copy::{BinaryCopyOutRow, BinaryCopyOutStream};
use tokio_postgres::types::{FromSql, Type};

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
    /// What has the name of the table is something else.
    #[error("lookup table {table} {wrong}")]
    Kind {
        /// The lookup table.
        table: Name,
        /// What it is.
        wrong: &'static str,
    },
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
    // Partitions are read one by one, and rows move between them.
    const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
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
        let Some(relation) = home.relation(&name) else {
            continue;
        };
        let lookup = Lookup {
            config,
            table: &name,
            key_type: key_type(home, relation, key)?,
            shard_type: shard_type(home, relation, shard)?,
        };
        let mut entries = Vec::new();
        let server = |cause| lookup.server(cause);
        client.batch_execute(BEGIN).await.map_err(server)?;
        for table in plain_tables(home, relation)? {
            lookup
                .read(client, table, (key, shard), &mut entries)
                .await?;
        }
        client.batch_execute("COMMIT").await.map_err(server)?;
        directories.put(strategy, config, entries);
    }
    Ok(directories)
}

/// The plain tables that hold its rows: itself, or its partitions.
fn plain_tables<'h>(
    home: &'h Catalog,
    relation: &'h Relation,
) -> Result<Vec<&'h Name>, DirectoryError> {
    let wrong = |wrong| DirectoryError::Kind {
        table: relation.name.clone(),
        wrong,
    };
    if relation.kind != RelationKind::Table {
        return Err(wrong("is no table"));
    }
    let Some(partitioning) = &relation.partitioning else {
        return match relation.has_children {
            true => Err(wrong("has tables that inherit from it")),
            false => Ok(vec![&relation.name]),
        };
    };
    let mut tables = Vec::new();
    for leaf in &partitioning.leaves {
        let leaf = home.relation(&leaf.name);
        let leaf = leaf.ok_or_else(|| wrong("has a partition that is not known"))?;
        tables.extend(plain_tables(home, leaf)?);
    }
    Ok(tables)
}

fn column_type(home: &Catalog, relation: &Relation, column: &str) -> Result<u32, DirectoryError> {
    match relation.column(column) {
        Some((_, column)) => Ok(home.base_type(column.type_oid)),
        None => Err(wrong_column(relation, column, "does not exist")),
    }
}

fn wrong_column(relation: &Relation, column: &str, wrong: &'static str) -> DirectoryError {
    DirectoryError::Column {
        table: relation.name.clone(),
        column: column.to_owned(),
        wrong,
    }
}

fn key_type(home: &Catalog, relation: &Relation, column: &str) -> Result<KeyType, DirectoryError> {
    let oid = column_type(home, relation, column)?;
    KeyType::from_oid(oid)
        .ok_or_else(|| wrong_column(relation, column, "is of a type that cannot be a key"))
}

/// What the names of shards are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShardType {
    /// Bytes as they stand: text, varchar, name, an enum.
    Text,
    /// `char(n)`: spaces at its end say nothing.
    Padded,
    /// A number in so many bytes.
    Number,
}

fn shard_type(
    home: &Catalog,
    relation: &Relation,
    column: &str,
) -> Result<ShardType, DirectoryError> {
    let oid = column_type(home, relation, column)?;
    let is_enum = || {
        let mut types = home.types.values();
        types.any(|info| info.oid == oid && matches!(info.kind, TypeKind::Enum(_)))
    };
    match Type::from_oid(oid) {
        Some(Type::TEXT | Type::VARCHAR | Type::NAME) => Ok(ShardType::Text),
        Some(Type::BPCHAR) => Ok(ShardType::Padded),
        Some(Type::INT2 | Type::INT4 | Type::INT8) => Ok(ShardType::Number),
        _ if is_enum() => Ok(ShardType::Text),
        _ => Err(wrong_column(
            relation,
            column,
            "is of a type that cannot name a shard",
        )),
    }
}

/// A lookup table that is being read.
struct Lookup<'a> {
    config: &'a Config,
    table: &'a Name,
    key_type: KeyType,
    shard_type: ShardType,
}

impl Lookup<'_> {
    /// Adds what one plain table holds.
    async fn read(
        &self,
        client: &Client,
        table: &Name,
        (key, shard): (&str, &str),
        entries: &mut Vec<(Vec<KeyBytes>, ShardId)>,
    ) -> Result<(), DirectoryError> {
        let most = self.config.limits.directory_keys.get();
        let sql = format!(
            "COPY {}.{} ({}, {}) TO STDOUT (FORMAT binary)",
            quote::identifier(&table.schema),
            quote::identifier(&table.name),
            quote::identifier(key),
            quote::identifier(shard)
        );
        let server = |cause| self.server(cause);
        let rows = client.copy_out(&sql).await.map_err(server)?;
        // The types are looked at by `entry`.
        let rows = BinaryCopyOutStream::new(rows, &[Type::BYTEA, Type::BYTEA]);
        let mut rows = pin!(rows.fuse());
        while let Some(row) = rows.try_next().await.map_err(server)? {
            entries.extend(self.entry(&row)?);
            if entries.len() > most as usize {
                let table = self.table.clone();
                return Err(DirectoryError::TooMany { table, most });
            }
        }
        Ok(())
    }

    fn server(&self, cause: tokio_postgres::Error) -> DirectoryError {
        DirectoryError::Server {
            table: self.table.clone(),
            cause,
        }
    }

    /// A row's key and shard; a row without one of them says nothing.
    fn entry(
        &self,
        row: &BinaryCopyOutRow,
    ) -> Result<Option<(Vec<KeyBytes>, ShardId)>, DirectoryError> {
        /// As catalog and settings are read: what the server sends is UTF8.
        const CONTEXT: TextContext = TextContext {
            time_zone: TimeZone::Other,
            encoding: Encoding::Utf8,
        };
        let value = |at| row.try_get::<Option<Binary<'_>>>(at);
        let key = value(0).map_err(|cause| self.server(cause))?;
        let shard = value(1).map_err(|cause| self.server(cause))?;
        let (Some(Binary(key)), Some(Binary(shard))) = (key, shard) else {
            return Ok(None);
        };
        let key = self
            .key_type
            .from_binary(self.key_type.oid(), key, &CONTEXT);
        let key = key.map_err(|_| DirectoryError::Key {
            table: self.table.clone(),
        })?;
        let shard = self.shard_type.read(shard);
        let mut shards = self.config.shards.iter();
        let place = shards.position(|known| known.name.as_str() == shard);
        let place = place.ok_or_else(|| DirectoryError::Shard {
            table: self.table.clone(),
            shard,
        })?;
        Ok(Some((vec![key], shard_id(place))))
    }
}

impl ShardType {
    /// The name of a shard, of what the server sends.
    fn read(self, bytes: &[u8]) -> String {
        let text = || String::from_utf8_lossy(bytes).into_owned();
        match (self, bytes) {
            (Self::Text, _) => text(),
            (Self::Padded, _) => text().trim_end_matches(' ').to_owned(),
            (Self::Number, [a, b]) => i16::from_be_bytes([*a, *b]).to_string(),
            (Self::Number, [a, b, c, d]) => i32::from_be_bytes([*a, *b, *c, *d]).to_string(),
            (Self::Number, _) => match <[u8; 8]>::try_from(bytes) {
                Ok(bytes) => i64::from_be_bytes(bytes).to_string(),
                Err(_) => text(),
            },
        }
    }
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
