//! What each shard was when rows were first stored there by slots.
//!
//! Rows stay where they are when the configuration changes. If the order of shards or their slots change, statements
//! look for rows where they are not, and a key can be stored twice. So each shard keeps a record of itself beside the
//! rows (table `shard` of the router's schema), and a database is not planned for by a configuration that differs.

use crate::commit::schema::{guard, rows};
use crate::commit::text::transaction;
use crate::config::{self, Name};
use mothership_sql::quote;
use std::fmt;
use std::time::Duration;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// What a shard is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardRecord {
    /// Its name.
    pub name: String,
    /// Whether undeclared tables are there.
    pub home: bool,
    /// The slots that it owns, such as `0-5460,9000`.
    pub slots: String,
}

impl ShardRecord {
    /// What the configuration says of a shard.
    pub fn configured(shard: &config::Shard) -> Self {
        let range = |range: &std::ops::RangeInclusive<u16>| match (range.start(), range.end()) {
            (start, end) if start == end => start.to_string(),
            (start, end) => format!("{start}-{end}"),
        };
        let mut slots = shard.slots.clone();
        slots.sort_by_key(|range| *range.start());
        let slots: Vec<String> = slots.iter().map(range).collect();
        ShardRecord {
            name: shard.name.to_string(),
            home: shard.home,
            slots: slots.join(","),
        }
    }
}

impl fmt::Display for ShardRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let home = if self.home { ", home" } else { "" };
        let slots = match self.slots.as_str() {
            "" => "no slots",
            slots => slots,
        };
        write!(f, "{} ({slots}{home})", self.name)
    }
}

/// Why a shard may not be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum OwnedError {
    /// The configuration has changed, or leads to another server.
    #[error(
        "its rows were stored when it was {recorded}, and the configuration says {configured}: \
         correct [[shard]], or move the rows and then DELETE FROM {schema}.shard on each shard"
    )]
    Differs {
        /// What the shard says.
        recorded: Box<ShardRecord>,
        /// What the configuration says.
        configured: Box<ShardRecord>,
        /// The router's schema.
        schema: Name,
    },
    /// The server said no, or cannot be reached.
    #[error(transparent)]
    Server(#[from] tokio_postgres::Error),
}

/// Compares what a shard has recorded of itself with what the configuration says, by a connection of the control role.
/// A shard without a record gets one if `records`; that waits for others who do the same at most `wait`. Cancel safe:
/// one message is one transaction.
///
/// # Errors
/// [`OwnedError`].
pub async fn check(
    client: &Client,
    schema: &Name,
    configured: &ShardRecord,
    records: bool,
    wait: Duration,
) -> Result<(), OwnedError> {
    if !records && !can_be_recorded(client, schema).await? {
        return Ok(());
    }
    match recorded(client, schema).await {
        Ok(found) if found.is_empty() && records => {
            client
                .batch_execute(&record(schema, configured, wait))
                .await?;
            // Somebody else may have been first.
            compare(&recorded(client, schema).await?, configured, schema)
        }
        Ok(found) => compare(&found, configured, schema),
        // Whoever installed the schema for the control role has not brought it up to date.
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn compare(
    records: &[ShardRecord],
    configured: &ShardRecord,
    schema: &Name,
) -> Result<(), OwnedError> {
    match records.iter().find(|record| *record != configured) {
        Some(recorded) => Err(OwnedError::Differs {
            recorded: Box::new(recorded.clone()),
            configured: Box::new(configured.clone()),
            schema: schema.clone(),
        }),
        None => Ok(()),
    }
}

/// Whether there is a place for the record.
async fn can_be_recorded(client: &Client, schema: &Name) -> Result<bool, tokio_postgres::Error> {
    let name = quote::identifier(schema.as_str());
    let sql = format!("SELECT pg_catalog.to_regclass('{name}.shard') IS NOT NULL");
    let rows = rows(client.simple_query(&sql).await?);
    Ok(rows.first().is_some_and(|row| row.get(0) == Some("t")))
}

async fn recorded(
    client: &Client,
    schema: &Name,
) -> Result<Vec<ShardRecord>, tokio_postgres::Error> {
    let sql = format!(
        "{}; SELECT name, home, slots FROM {}.shard",
        guard(schema),
        quote::identifier(schema.as_str())
    );
    let rows = rows(client.simple_query(&sql).await?);
    let record = |row: &tokio_postgres::SimpleQueryRow| {
        Some(ShardRecord {
            name: row.get(0)?.to_owned(),
            home: row.get(1)? == "t",
            slots: row.get(2)?.to_owned(),
        })
    };
    Ok(rows.iter().filter_map(record).collect())
}

/// Names of shards are labels, and need no quotes inside a literal.
fn record(schema: &Name, shard: &ShardRecord, wait: Duration) -> String {
    let name = quote::identifier(schema.as_str());
    format!(
        "{}; {}; LOCK TABLE {name}.shard IN SHARE ROW EXCLUSIVE MODE; \
         INSERT INTO {name}.shard SELECT '{}', {}, '{}' WHERE NOT EXISTS (SELECT FROM {name}.shard)",
        transaction(wait.as_millis()),
        guard(schema),
        shard.name,
        shard.home,
        shard.slots,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_what_the_configuration_says() {
        let mut shard = config::Shard::router();
        shard.slots = vec![7..=7, 0..=5];
        let record = ShardRecord::configured(&shard);
        assert_eq!(record.slots, "0-5,7");
        assert_eq!(record.to_string(), "router (0-5,7, home)");
    }
}
