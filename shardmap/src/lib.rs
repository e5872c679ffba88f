//! Which shard and which partition own a key.
//!
//! A value of a table's shard key comes in as the client wrote it (literal, text parameter, binary parameter) and
//! becomes [`KeyBytes`], one canonical form per SQL value. A [`ShardMap`], an immutable value, says which table is
//! placed where, and which shard owns a key. [`partition`] computes the leaf of PostgreSQL's own hash partitioning.
//!
//! ```
//! use mothership_shardmap::{KeyType, Placement, ShardMapBuilder, TextContext};
//!
//! let mut builder = ShardMapBuilder::new(1);
//! builder.shard("east").shard("west");
//! let map = builder.build().expect("two shards are a map");
//! let Placement::Sharded(orders) = map.auto_placement(&[("id", KeyType::Int8)]) else { unreachable!() };
//! let literal = KeyType::Int8.from_text(b" +5 ", &TextContext::UTC)?;
//! let parameter = KeyType::Int8.from_binary(KeyType::Int2.oid(), &[0, 5], &TextContext::UTC)?;
//! assert_eq!(map.owner(&orders, &[literal]), map.owner(&orders, &[parameter]));
//! # Ok::<(), mothership_shardmap::KeyError>(())
//! ```
//!
//! Deliberately absent: sockets, async, clocks, SQL. What is not certain is an error ([`KeyError::Unsure`]), never a
//! guess, because a wrong key is a wrong answer.

// In reading order.
pub mod builder;
pub mod key;
mod key_bytes;
pub mod map;
pub mod names;
pub mod partition;
pub mod placement;
pub mod shard;
pub mod slot;
pub mod strategy;

pub use builder::{MapError, ShardMapBuilder, ShardedDecl, StrategyDecl, TableDecl};
pub use key::{Encoding, KeyError, KeyType, TextContext, TimeZone};
pub use key_bytes::KeyBytes;
pub use map::{Declared, DefaultTables, ShardMap};
pub use names::{KnownTable, Label, TablePattern};
pub use placement::{GroupId, Placement, Sharded};
pub use shard::{ShardId, ShardSet};
pub use slot::{SLOT_COUNT, Slot, SlotMap, slot};
pub use strategy::{Cut, Directory, NoOwner, Strategy};
