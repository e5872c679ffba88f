//! Tables whose rows are documents of a real MongoDB, beside tables of three shards.

#[path = "mongo/alike.rs"]
mod alike;
#[path = "mongo/alone.rs"]
mod alone;
#[path = "mongo/apart.rs"]
mod apart;
#[path = "mongo/computed.rs"]
mod computed;
#[path = "mongo/copies.rs"]
mod copies;
#[path = "mongo/declared.rs"]
mod declared;
#[path = "mongo/defaults.rs"]
mod defaults;
#[path = "mongo/direct.rs"]
mod direct;
#[path = "mongo/engines.rs"]
mod engines;
#[path = "mongo/faults.rs"]
mod faults;
#[path = "mongo/inserted.rs"]
mod inserted;
#[path = "mongo/keys.rs"]
mod keys;
#[path = "mongo/locks.rs"]
mod locks;
#[path = "mongo/meant.rs"]
mod meant;
#[path = "mongo/merged.rs"]
mod merged;
#[path = "mongo/narrowed.rs"]
mod narrowed;
#[path = "mongo/page.rs"]
mod page;
#[path = "mongo/partitions.rs"]
mod partitions;
#[path = "mongo/pools.rs"]
mod pools;
#[path = "mongo/preference.rs"]
mod preference;
#[path = "mongo/rest.rs"]
mod rest;
#[path = "mongo/rights.rs"]
mod rights;
#[path = "mongo/rounded.rs"]
mod rounded;
#[path = "mongo/snapshots.rs"]
mod snapshots;
#[path = "mongo/stage.rs"]
mod stage;
#[path = "mongo/transactions.rs"]
mod transactions;
#[path = "mongo/upserted.rs"]
mod upserted;
#[path = "mongo/waiting.rs"]
mod waiting;
