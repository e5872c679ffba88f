//! What can be wrong with a map, and what would be right.

use crate::SLOT_COUNT;
use crate::builder::MAX_SHARDS;

/// A mistake in the declarations. `Display` says what is wrong, [`MapError::hint`] what would be right.
///
/// `table` is `schema.name` as declared; `entry` is the position of a range or a listed key, from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum MapError {
    #[error("there are no shards")]
    NoShards,
    #[error("{count} shards are more than {MAX_SHARDS}")]
    TooManyShards { count: usize },
    #[error("shard \"{shard}\" is declared twice")]
    ShardTwice { shard: String },
    #[error("shard \"{shard}\", used by {used_by}, is not declared")]
    UnknownShard { shard: String, used_by: String },
    #[error("slots {first} to {last} of shard \"{shard}\" are not a range of slots")]
    SlotRange {
        shard: String,
        first: u16,
        last: u16,
    },
    #[error("slot {slot} belongs to shard \"{other}\" and to shard \"{shard}\"")]
    SlotTwice {
        slot: u16,
        shard: String,
        other: String,
    },
    #[error("slots {first} to {last} belong to no shard")]
    SlotsUnowned { first: u16, last: u16 },
    #[error("table \"{table}\" is declared twice")]
    TableTwice { table: String },
    #[error("table \"{table}\" is sharded but has no key column")]
    NoKey { table: String },
    #[error("column \"{column}\" is twice in the key of table \"{table}\"")]
    ColumnTwice { table: String, column: String },
    #[error(
        "table \"{table}\" has key types {types}, but table \"{other}\" of its group \"{group}\" has {other_types}"
    )]
    GroupTypes {
        table: String,
        types: String,
        group: String,
        other: String,
        other_types: String,
    },
    #[error("table \"{table}\" is not divided like table \"{other}\" of its group \"{group}\"")]
    GroupStrategy {
        table: String,
        group: String,
        other: String,
    },
    #[error("range {entry} of table \"{table}\" is empty")]
    RangeEmpty { table: String, entry: usize },
    #[error("ranges {first} and {second} of table \"{table}\" overlap")]
    RangeOverlap {
        table: String,
        first: usize,
        second: usize,
    },
    #[error("entry {entry} of table \"{table}\" has {got} values for a key of {columns} columns")]
    EntryWidth {
        table: String,
        entry: usize,
        got: usize,
        columns: usize,
    },
    #[error("entries {first} and {second} of table \"{table}\" are the same key")]
    ListTwice {
        table: String,
        first: usize,
        second: usize,
    },
    #[error("table \"{table}\" names no shard to live on")]
    NoPlace { table: String },
}

impl MapError {
    /// What would be right.
    pub fn hint(&self) -> String {
        match self {
            MapError::NoShards => "Declare at least one shard.".to_owned(),
            MapError::TooManyShards { .. } => format!("Use at most {MAX_SHARDS} shards."),
            MapError::ShardTwice { .. } => "Give each shard a name of its own.".to_owned(),
            MapError::UnknownShard { shard, .. } => {
                format!("Declare shard \"{shard}\", or correct its name.")
            }
            MapError::SlotRange { .. } => {
                format!(
                    "A range goes from a lower to a higher slot, within 0 to {}.",
                    SLOT_COUNT - 1
                )
            }
            MapError::SlotTwice { slot, .. } => format!("Give slot {slot} to one shard only."),
            MapError::SlotsUnowned { first, last } => format!(
                "Give slots {first} to {last} to a shard, or leave out all slot ranges to divide the slots evenly."
            ),
            MapError::TableTwice { table } => format!("Keep one declaration of \"{table}\"."),
            MapError::NoKey { .. } => "Name the key's columns with their types.".to_owned(),
            MapError::ColumnTwice { column, .. } => format!("Name \"{column}\" once."),
            MapError::GroupTypes {
                other_types, group, ..
            } => {
                format!(
                    "Give it a key of types {other_types}, or leave it out of group \"{group}\"."
                )
            }
            MapError::GroupStrategy { other, group, .. } => {
                format!(
                    "Use the strategy of \"{other}\" with the same bounds, or leave it out of group \"{group}\"."
                )
            }
            MapError::RangeEmpty { .. } => {
                "A range starts at an inclusive bound, and ends before a higher one.".to_owned()
            }
            MapError::RangeOverlap { .. } => {
                "The end of a range is exclusive; the next one may start with the same bound."
                    .to_owned()
            }
            MapError::EntryWidth { columns, .. } => match columns {
                1 => "Give one value.".to_owned(),
                _ => format!(
                    "Give up to {columns} values for a bound of a range, all {columns} for a listed key."
                ),
            },
            MapError::ListTwice { .. } => "List each key once.".to_owned(),
            MapError::NoPlace { .. } => "Name at least one shard.".to_owned(),
        }
    }
}
